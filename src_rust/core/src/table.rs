//! The index of everything that is found by a hash: open addressing in shards.
//!
//! A slot holds the full 64-bit hash and a value above zero, so that growing a shard needs nothing else. A shard
//! doubles on its own: with 4,096 of them no growth moves more than a small part of the table at once. What is never
//! iterated in hash order leaves no trace of the order in the state.

const SHARDS: usize = 4096;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// Multiset of (hash, value); values are above zero.
pub struct Table {
    shards: Vec<Shard>,
    len: usize,
}

#[derive(Default)]
struct Shard {
    /// Power of two, or empty. (hash, value); value 0: free.
    slots: Vec<(u64, u64)>,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table { shards: (0..SHARDS).map(|_| Shard::default()).collect(), len: 0 }
    }
}

impl Table {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Values under this hash, in no order that means anything. The caller compares what they stand for.
    #[inline]
    pub fn get(&self, hash: u64) -> impl Iterator<Item = u64> {
        let slots = &self.shards[(hash >> (64 - SHARD_BITS)) as usize].slots;
        let mask = slots.len().wrapping_sub(1);
        let home = hash as usize;
        (0..slots.len())
            .map(move |step| slots[home.wrapping_add(step) & mask])
            .take_while(|(_, value)| *value != 0)
            .filter_map(move |(found, value)| (found == hash).then_some(value))
    }

    /// What lies where the search for this hash begins: the value, if it is this hash's, else 0.
    ///
    /// Callers ask this for many hashes one after the other, before they search, so that the memory is on
    /// its way for all of them at once. No branch depends on what is read: a wrong guess of the processor would wait for it.
    #[inline]
    pub fn peek(&self, hash: u64) -> u64 {
        let slots = &self.shards[(hash >> (64 - SHARD_BITS)) as usize].slots;
        let (found, value) = slots.get(hash as usize & slots.len().wrapping_sub(1)).copied().unwrap_or_default();
        value * u64::from(found == hash)
    }

    /// Adds a value; it does not replace one.
    #[inline]
    pub fn insert(&mut self, hash: u64, value: u64) {
        debug_assert!(value != 0);
        let shard = &mut self.shards[(hash >> (64 - SHARD_BITS)) as usize];
        if shard.len * 4 >= shard.slots.len() * 3 {
            shard.grow();
        }
        shard.place(hash, value);
        shard.len += 1;
        self.len += 1;
    }

    /// All (hash, value), for sorting them.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.shards.iter().flat_map(|shard| shard.slots.iter().copied()).filter(|(_, value)| *value != 0)
    }
}

impl Shard {
    fn place(&mut self, hash: u64, value: u64) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash, value);
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![(0, 0); (self.slots.len() * 2).max(8)];
        for (hash, value) in std::mem::replace(&mut self.slots, larger) {
            if value != 0 {
                self.place(hash, value);
            }
        }
    }
}

/// Mixes two words into a hash whose every bit depends on every bit of them: two rounds of
/// multiply and fold, each by an odd constant (from the digits of pi and e).
#[inline]
pub fn mix(a: u64, b: u64) -> u64 {
    let first = fold(a ^ 0x243f_6a88_85a3_08d3, 0xb7e1_5162_8aed_2a6b);
    fold(first ^ b, 0x1319_8a2e_0370_7345) ^ first.rotate_left(32)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b | 1);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_values_of_a_hash() {
        let mut table = Table::default();
        for value in 1..=100_000u64 {
            table.insert(mix(value / 2, 0), value);
        }
        assert_eq!(table.len(), 100_000);
        for pair in 1..50_000u64 {
            let mut found: Vec<u64> = table.get(mix(pair, 0)).collect();
            found.sort_unstable();
            assert_eq!(found, [pair * 2, pair * 2 + 1]);
        }
        assert_eq!(table.get(mix(1 << 60, 0)).count(), 0);
        assert_eq!(table.pairs().count(), 100_000);
    }
}
