//! Filters: what says of nearly every key that never came that it did not, and never says so of one that did.

use crate::memory::{Slab, prefetch};

/// A line of a filter: one cache line, a bit in each word for each key.
type Line = [u64; 8];

/// Filter bits for each key: about one false positive in a thousand.
const FILTER_BITS: usize = 16;
/// Keys that the first filter of a summary has room for: four huge pages.
const FIRST_KEYS: usize = 4 << 20;
/// By how much each filter of a summary is larger than the one before, up to the last constant: memory that is there but not yet used.
const GROWTH: usize = 4;
const LAST_KEYS: usize = 64 << 20;

/// The bits of a key, one in each word of its line.
pub struct Bits(Line);

impl Bits {
    /// Those of a hash: by its lower end, but for the bit that is the same in all of a form.
    #[inline]
    pub fn of(hash: u64) -> Bits {
        Bits(std::array::from_fn(|word| 1 << (hash >> (6 * word + 1) & 63)))
    }
}

/// A blocked Bloom filter: all bits of a key lie in one line.
pub struct Filter(Slab<Line>);

impl Filter {
    /// An empty filter for so many keys.
    pub fn with_room(keys: usize) -> Filter {
        Filter(Slab::zeroed(Filter::lines(keys)))
    }

    /// Words of a filter for so many keys.
    pub fn words_for(keys: usize) -> usize {
        Filter::lines(keys) * size_of::<Line>() / size_of::<u64>()
    }

    fn lines(keys: usize) -> usize {
        (keys * FILTER_BITS).div_ceil(8 * size_of::<Line>()).max(1)
    }

    /// Its memory, to be written down and read again.
    pub fn words(&self) -> &[u64] {
        self.0.as_flattened()
    }

    /// The same, to be filled.
    pub fn words_mut(&mut self) -> &mut [u64] {
        self.0.as_flattened_mut()
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Line of a hash: by its upper end, so that building one in order walks through memory.
    #[inline]
    fn line_of(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.0.len() as u128) >> 64) as usize
    }

    /// Adds a key.
    #[inline]
    pub fn add(&mut self, hash: u64, bits: &Bits) {
        let line = self.line_of(hash);
        self.0[line].iter_mut().zip(&bits.0).for_each(|(word, bit)| *word |= bit);
    }

    /// False if the key was never added.
    #[inline]
    pub fn may_hold(&self, hash: u64, bits: &Bits) -> bool {
        let line = &self.0[self.line_of(hash)];
        line.iter().zip(&bits.0).fold(0, |missing, (word, bit)| missing | !word & bit) == 0
    }

    /// Asks for the memory of a key.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(&self.0[self.line_of(hash)]);
    }
}

/// One filter for keys of which nobody knows how many will come: filters of growing size, the last of which is being filled.
pub struct Summary {
    filters: Vec<Filter>,
    /// Keys that the next filter has room for.
    next: usize,
    /// Keys that the last one has room for yet.
    left: usize,
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { filters: Vec::new(), next: FIRST_KEYS, left: 0 }
    }
}

impl Summary {
    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.filters.iter().map(Filter::size).sum()
    }

    /// Adds a key.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        if self.left == 0 {
            self.grow();
        }
        self.left -= 1;
        let last = self.filters.last_mut().expect("it has just grown");
        last.add(hash, &Bits::of(hash));
    }

    #[cold]
    fn grow(&mut self) {
        self.filters.push(Filter::with_room(self.next));
        self.left = self.next;
        self.next = (self.next * GROWTH).min(LAST_KEYS);
    }

    /// False if the key was never added.
    #[inline]
    pub fn may_hold(&self, hash: u64, bits: &Bits) -> bool {
        self.filters.iter().any(|filter| filter.may_hold(hash, bits))
    }

    /// Asks for the memory of a key.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.filters.iter().for_each(|filter| filter.prefetch(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::mix;

    #[test]
    fn a_summary_holds_what_was_added_and_little_else() {
        let mut summary = Summary { filters: Vec::new(), next: 1000, left: 0 };
        let may_hold = |summary: &Summary, key: u64| summary.may_hold(mix(key, 0), &Bits::of(mix(key, 0)));
        assert!(!may_hold(&summary, 0));
        for key in 0..100_000 {
            summary.add(mix(key, 0));
            summary.prefetch(mix(key, 0));
        }
        let sizes: Vec<usize> = summary.filters.iter().map(|filter| filter.size() / 64).collect();
        assert_eq!(sizes, [32, 125, 500, 2000, 8000]);
        assert!((0..100_000).all(|key| may_hold(&summary, key)));
        let false_positives = (100_000..200_000).filter(|&key| may_hold(&summary, key)).count();
        assert!(false_positives < 500, "{false_positives}");
    }
}
