//! Memory of the large tables: zeroed, on huge pages where the system gives them; and fetching it ahead.
//!
//! A swipe touches half a dozen places in tables of gigabytes. With pages of 4 KiB each of them misses the TLB as well as the
//! cache; on pages of 2 MiB the TLB covers the tables (measured: `bench/README.md`).

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use memmap2::MmapMut;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Size of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

/// A fixed number of records that are zero at first. Memory is taken as it is touched.
pub struct Slab<T> {
    /// The first of them, in the map.
    records: NonNull<T>,
    len: usize,
    /// Owns the memory.
    _map: MmapMut,
}

impl<T: FromBytes + IntoBytes> Slab<T> {
    /// So many zero records.
    ///
    /// # Panics
    /// When the system gives no more address space.
    pub fn zeroed(len: usize) -> Slab<T> {
        const { assert!(align_of::<T>() <= 4096 && size_of::<T>() > 0) };
        let bytes = len.checked_mul(size_of::<T>()).expect("fits the address space").max(1);
        let huge = bytes >= HUGE_PAGE;
        // Only a huge page's whole range can be one.
        let slack = if huge { HUGE_PAGE } else { 0 };
        let mut map = MmapMut::map_anon(bytes + slack).expect("the system gives memory");
        let start = if huge { map.as_ptr().align_offset(HUGE_PAGE) } else { 0 };
        #[cfg(target_os = "linux")]
        if huge {
            // Where the system has none to give, pages of 4 KiB do, only slower.
            let _ = map.advise_range(memmap2::Advice::HugePage, start, bytes);
        }
        let records = NonNull::from(&mut map[start..start + bytes]).cast();
        Slab { records, len, _map: map }
    }
}

impl<T: FromBytes + IntoBytes + Copy + PartialEq> Slab<T> {
    /// The same records, of which all but the first `used` are zero. Where they are zero no memory is taken.
    pub fn copied(&self, used: usize) -> Slab<T> {
        let mut copy = Slab::zeroed(self.len);
        let run = 4096 / size_of::<T>();
        for (to, from) in copy[..used].chunks_mut(run).zip(self[..used].chunks(run)) {
            if from != to {
                to.copy_from_slice(from);
            }
        }
        copy
    }
}

impl<T: FromBytes + IntoBytes> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab::zeroed(0)
    }
}

impl<T: FromBytes + IntoBytes + Copy + PartialEq> Clone for Slab<T> {
    fn clone(&self) -> Slab<T> {
        self.copied(self.len)
    }
}

impl<T> Slab<T> {
    /// Bytes that it takes when all of it is touched.
    pub fn size(&self) -> usize {
        self.len * size_of::<T>()
    }
}

// The map is owned, never resized nor moved in memory, zeroed by the system, and `len * size_of::<T>()` bytes from `records` on lie within
// it; any bytes are a `T` (FromBytes), and `T` is aligned to less than a page. Casting at every access through zerocopy checks that again,
// which the hot path pays for.
#[allow(unsafe_code)]
impl<T> Deref for Slab<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        unsafe { std::slice::from_raw_parts(self.records.as_ptr(), self.len) }
    }
}

#[allow(unsafe_code)]
impl<T> DerefMut for Slab<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        unsafe { std::slice::from_raw_parts_mut(self.records.as_ptr(), self.len) }
    }
}

// It owns its records, as a vector does.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Slab<T> {}
#[allow(unsafe_code)]
unsafe impl<T: Sync> Sync for Slab<T> {}

/// Asks for the cache line of `place`, without waiting for it.
///
/// Misses of a batch then overlap: the processor looks a few swipes ahead at most on its own.
#[inline]
pub fn prefetch<T>(place: &T) {
    prefetch_at(std::ptr::from_ref(place));
}

/// Fetching changes nothing and cannot fault, so that any address will do.
#[inline]
#[allow(unsafe_code)]
fn prefetch_at<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// The same of every line that some records lie in.
#[inline]
pub fn prefetch_all<T>(records: &[T]) {
    let first = records.as_ptr().cast::<u8>();
    let lines = (first.addr() % LINE + size_of_val(records)).div_ceil(LINE);
    (0..lines).for_each(|line| prefetch_at(first.wrapping_add(line * LINE)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_zero_and_kept() {
        for len in [1, 511, HUGE_PAGE / 8, HUGE_PAGE / 8 * 3 + 1] {
            let mut slab = Slab::<u64>::zeroed(len);
            assert!(slab.len() == len && slab.iter().all(|&record| record == 0));
            slab[len - 1] = 7;
            prefetch(&slab[len - 1]);
            assert_eq!((slab[len - 1], slab.size()), (7, len * 8));
            let copy = slab.copied(len);
            assert!(copy.len() == len && copy[..] == slab[..]);
            assert!(slab.copied(len - 1).iter().all(|&record| record == 0));
        }
    }
}
