//! Whether this processor can do what the build takes for granted.
//!
//! The build is for x86-64-v3 (`.cargo/config.toml`). On an older processor an instruction would end the process without a word; so the
//! module asks before anything else runs.

/// What the build needs and this processor lacks; empty if it can go on.
///
/// Asked of the processor itself: the standard library's own macro says yes to whatever the build takes for granted.
/// Bits: AMD64 Architecture Programmer's Manual, volume 3, appendix E.
#[cfg(target_arch = "x86_64")]
pub fn missing() -> Vec<&'static str> {
    use std::arch::x86_64::__cpuid_count;
    let leaf = |number: u32| {
        let most = __cpuid_count(number & 0x8000_0000, 0).eax;
        (most >= number).then(|| __cpuid_count(number, 0))
    };
    let [basic, more, extended] = [1, 7, 0x8000_0001].map(leaf);
    let bit = |word: Option<u32>, bit: u32| word.is_some_and(|word| word >> bit & 1 == 1);
    let (basic, more, extended) = (basic.map(|leaf| leaf.ecx), more.map(|leaf| leaf.ebx), extended.map(|leaf| leaf.ecx));
    let needed = [
        (cfg!(target_feature = "avx2"), "avx2", bit(more, 5)),
        (cfg!(target_feature = "bmi1"), "bmi1", bit(more, 3)),
        (cfg!(target_feature = "bmi2"), "bmi2", bit(more, 8)),
        (cfg!(target_feature = "fma"), "fma", bit(basic, 12)),
        (cfg!(target_feature = "movbe"), "movbe", bit(basic, 22)),
        (cfg!(target_feature = "f16c"), "f16c", bit(basic, 29)),
        (cfg!(target_feature = "lzcnt"), "lzcnt", bit(extended, 5)),
    ];
    needed.into_iter().filter(|&(built, _, there)| built && !there).map(|(_, name, _)| name).collect()
}

/// Other processors have what their build takes for granted.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing() -> Vec<&'static str> {
    Vec::new()
}
