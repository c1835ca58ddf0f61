//! The index of everything that is found by a hash: open addressing in shards.
//!
//! A shard is an array of slots. It doubles until it is a huge page, then it splits in two by the next bit of the
//! hash: no growth moves more than a page of slots at once, however large the table is. Slots lie nearly in the order of
//! their hashes, so that [`sorted`](Table::sorted) costs one pass. What is never iterated in hash order leaves no trace
//! of the order in the state.

use std::iter;

use wide::u64x4;
use zerocopy::{FromBytes, IntoBytes};

use crate::memory::{HUGE_PAGE, Slab, prefetch};

/// Slots of a new shard.
const FIRST_SLOTS: usize = 64;
const LINE_BYTES: usize = 64;
/// Values of a run whose memory is asked for together.
const AHEAD: usize = 16;
/// A shard is split by bits of the hash that every slot holds.
const DEPTH_MAX: u32 = 24;

/// What a table keeps: some of the hash, from its upper end, and a value. Zero is a free slot.
pub trait Slot: Copy + FromBytes + IntoBytes {
    /// As many slots as fill a line of the cache.
    type Line: AsRef<[Self]> + AsMut<[Self]> + FromBytes + IntoBytes;
    /// A slot with this hash and a value above zero.
    fn new(hash: u64, value: u64) -> Self;
    /// True if it is free.
    fn is_free(self) -> bool;
    /// A bit for each slot of a line: set if its hash is this one, as far as it holds it.
    fn held(line: &Self::Line, hash: u64) -> u32;
    /// Its hash; what it does not hold of it is zero.
    fn hash(self) -> u64;
    /// Its value.
    fn value(self) -> u64;
}

/// Half of the hash and a value of 32 bits: for those who look at the value's record anyway.
impl Slot for u64 {
    type Line = [u64; 8];
    #[inline]
    fn new(hash: u64, value: u64) -> u64 {
        debug_assert!(value != 0 && value <= u64::from(u32::MAX));
        hash >> 32 << 32 | value
    }
    #[inline]
    fn is_free(self) -> bool {
        self == 0
    }
    #[inline(always)]
    fn held(line: &[u64; 8], hash: u64) -> u32 {
        let [a, b, c, d, e, f, g, h] = *line;
        let of = |slots| ((u64x4::new(slots) ^ u64x4::splat(hash)) >> 32u32).simd_eq(u64x4::ZERO).to_bitmask();
        of([a, b, c, d]) | of([e, f, g, h]) << 4
    }
    #[inline]
    fn hash(self) -> u64 {
        self >> 32 << 32
    }
    #[inline]
    fn value(self) -> u64 {
        self & u64::from(u32::MAX)
    }
}

/// The whole hash and a value of 64 bits.
impl Slot for [u64; 2] {
    type Line = [[u64; 2]; 4];
    #[inline]
    fn new(hash: u64, value: u64) -> Self {
        debug_assert!(value != 0);
        [hash, value]
    }
    #[inline]
    fn is_free(self) -> bool {
        self[1] == 0
    }
    #[inline(always)]
    fn held(line: &[[u64; 2]; 4], hash: u64) -> u32 {
        u64x4::new(line.map(|slot| slot[0])).simd_eq(u64x4::splat(hash)).to_bitmask()
    }
    #[inline]
    fn hash(self) -> u64 {
        self[0]
    }
    #[inline]
    fn value(self) -> u64 {
        self[1]
    }
}

/// Multiset of (hash, value); values are above zero.
pub struct Table<S: Slot> {
    /// Shards by the first `bits` bits of the hash; neighbours may share one.
    directory: Vec<u32>,
    bits: u32,
    shards: Vec<Shard<S>>,
    len: usize,
}

struct Shard<S: Slot> {
    /// Power of two. Filled to five eighths at most: few lines are full then.
    lines: Slab<S::Line>,
    len: usize,
    /// Bits of the hash that all of it share.
    depth: u32,
    /// What is shifted out of the rest of the hash to leave a line.
    shift: u32,
}

impl<S: Slot> Default for Table<S> {
    fn default() -> Self {
        Table { directory: vec![0], bits: 0, shards: vec![Shard::new(FIRST_SLOTS, 0)], len: 0 }
    }
}

impl<S: Slot> Table<S> {
    /// An empty table that so many values fit into before it grows, unless their hashes are odd.
    pub fn with_room(values: usize) -> Self {
        // Shards are not filled alike: a fortieth is far more than they differ by.
        let slots = (values + values / 40) * 8 / 5;
        let most = HUGE_PAGE / size_of::<S>();
        let bits = slots.div_ceil(most).next_power_of_two().trailing_zeros().min(DEPTH_MAX);
        let slots = slots.next_power_of_two().clamp(FIRST_SLOTS, most);
        let shards = (0..1 << bits).map(|_| Shard::new(slots, bits)).collect();
        Table { directory: (0..1 << bits).collect(), bits, shards, len: 0 }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.directory.len() * 4 + self.shards.iter().map(|shard| shard.lines.size()).sum::<usize>()
    }

    #[inline]
    fn shard(&self, hash: u64) -> usize {
        self.directory[first_bits(hash, self.bits)] as usize
    }

    /// Values under this hash, in no order that means anything. The caller compares what they stand for.
    pub fn get(&self, hash: u64) -> impl Iterator<Item = u64> {
        let shard = &self.shards[self.shard(hash)];
        let mut at = shard.home(hash);
        let mut held = S::held(&shard.lines[at], hash);
        iter::from_fn(move || {
            loop {
                let line = &shard.lines[at];
                if held != 0 {
                    let slot = line.as_ref()[held.trailing_zeros() as usize];
                    held &= held - 1;
                    return (!slot.is_free()).then(|| slot.value());
                }
                if has_room::<S>(line) {
                    return None;
                }
                at = shard.line_after(at);
                held = S::held(&shard.lines[at], hash);
            }
        })
    }

    /// The first of them.
    #[inline]
    pub fn first(&self, hash: u64) -> Option<u64> {
        let shard = &self.shards[self.shard(hash)];
        let mut at = shard.home(hash);
        loop {
            let line = &shard.lines[at];
            let held = S::held(line, hash);
            if held != 0 {
                let slot = line.as_ref()[held.trailing_zeros() as usize];
                return (!slot.is_free()).then(|| slot.value());
            }
            if has_room::<S>(line) {
                return None;
            }
            at = shard.line_after(at);
        }
    }

    /// True if there is a value under this hash.
    #[inline]
    pub fn holds(&self, hash: u64) -> bool {
        self.first(hash).is_some()
    }

    /// Asks for the memory in which the search for this hash begins.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let shard = &self.shards[self.shard(hash)];
        prefetch(&shard.lines[shard.home(hash)]);
    }

    /// Adds a value; it does not replace one.
    #[inline]
    pub fn insert(&mut self, hash: u64, value: u64) {
        let mut at = self.shard(hash);
        while self.shards[at].is_full() {
            self.grow(at, hash);
            at = self.shard(hash);
        }
        self.shards[at].place(S::new(hash, value));
        self.len += 1;
    }

    /// Adds values that follow each other, from `first` on, one for each hash.
    pub fn insert_run(&mut self, hashes: &[u64], first: u64) {
        let mut value = first;
        for hashes in hashes.chunks(AHEAD) {
            hashes.iter().for_each(|&hash| self.prefetch(hash));
            for &hash in hashes {
                self.insert(hash, value);
                value += 1;
            }
        }
    }

    #[cold]
    fn grow(&mut self, at: usize, hash: u64) {
        let Shard { depth, .. } = self.shards[at];
        let slots = self.shards[at].slots();
        if slots * size_of::<S>() < HUGE_PAGE || depth == DEPTH_MAX {
            let full = std::mem::replace(&mut self.shards[at], Shard::new(slots * 2, depth));
            full.filled().for_each(|slot| self.shards[at].place(slot));
            return;
        }
        if depth == self.bits {
            self.directory = self.directory.iter().flat_map(|&shard| [shard, shard]).collect();
            self.bits += 1;
        }
        let new = self.shards.len();
        let full = std::mem::replace(&mut self.shards[at], Shard::new(slots, depth + 1));
        self.shards.push(Shard::new(slots, depth + 1));
        let upper = |hash: u64| hash >> (63 - depth) & 1 == 1;
        full.filled().for_each(|slot| self.shards[if upper(slot.hash()) { new } else { at }].place(slot));
        // The directory's entries of the upper half, of all that began like this hash.
        let entries = 1 << (self.bits - depth);
        let first = first_bits(hash, depth) * entries;
        self.directory[first + entries / 2..first + entries].fill(new as u32);
    }

    /// All slots in ascending order of their hashes.
    pub fn sorted(&self) -> Vec<S> {
        let mut sorted = Vec::with_capacity(self.len);
        let mut last = None;
        for &at in &self.directory {
            if last.replace(at) != Some(at) {
                self.shards[at as usize].sort_into(&mut sorted);
            }
        }
        sorted
    }
}

impl<S: Slot> Shard<S> {
    fn new(slots: usize, depth: u32) -> Shard<S> {
        let lines = Slab::<S::Line>::zeroed(slots * size_of::<S>() / LINE_BYTES);
        let shift = 64 - lines.len().trailing_zeros();
        Shard { lines, len: 0, depth, shift }
    }

    fn slots(&self) -> usize {
        self.lines.size() / size_of::<S>()
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.len * 8 >= self.slots() * 5
    }

    /// Line at which the search for a hash begins, by the bits after those that all of the shard share: nearly always it is all that is read.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash.wrapping_shl(self.depth).wrapping_shr(self.shift) as usize
    }

    #[inline]
    fn line_after(&self, at: usize) -> usize {
        (at + 1) & (self.lines.len() - 1)
    }

    #[inline]
    fn place(&mut self, slot: S) {
        let mut at = self.home(slot.hash());
        while !has_room::<S>(&self.lines[at]) {
            at = self.line_after(at);
        }
        let line = self.lines[at].as_mut();
        let filled: usize = line.iter().map(|slot| usize::from(!slot.is_free())).sum();
        line[filled] = slot;
        self.len += 1;
    }

    fn filled(&self) -> impl Iterator<Item = S> {
        self.lines.iter().flat_map(|line| line.as_ref()).copied().filter(|slot| !slot.is_free())
    }

    /// Appends its slots in order of their hashes. Slots are few places away from where they belong, but for those that
    /// went around the end.
    fn sort_into(&self, sorted: &mut Vec<S>) {
        let first = sorted.len();
        let end = self.lines.iter().position(has_room::<S>).expect("some are free") + 1;
        let slots = |lines: std::ops::Range<usize>| {
            self.lines[lines].iter().flat_map(|line| line.as_ref()).copied().filter(|slot| !slot.is_free())
        };
        let went_around = |slot: &S| self.home(slot.hash()) > self.lines.len() / 2;
        sorted.extend(slots(0..end).filter(|slot| !went_around(slot)));
        sorted.extend(slots(end..self.lines.len()));
        sorted.extend(slots(0..end).filter(went_around));
        for at in first + 1..sorted.len() {
            let slot = sorted[at];
            let mut to = at;
            while to > first && sorted[to - 1].hash() > slot.hash() {
                sorted[to] = sorted[to - 1];
                to -= 1;
            }
            sorted[to] = slot;
        }
    }
}

/// True if a line has a free slot: then what has its home before it or here lies no further on. A line is filled from its begin.
#[inline(always)]
fn has_room<S: Slot>(line: &S::Line) -> bool {
    line.as_ref().last().is_none_or(|slot| slot.is_free())
}

#[inline]
fn first_bits(hash: u64, bits: u32) -> usize {
    // In two steps: a shift by all 64 bits would be none.
    (hash >> 1).wrapping_shr(63 - bits) as usize
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

    fn keeps_all_values<S: Slot>() {
        let mut table = Table::<S>::default();
        for value in 1..=500_000u64 {
            table.insert(mix(value / 2, 0), value);
        }
        assert_eq!(table.len(), 500_000);
        assert!(table.shards.len() > 2, "some were split");
        for pair in 1..250_000u64 {
            let mut found: Vec<u64> = table.get(mix(pair, 0)).filter(|value| value / 2 == pair).collect();
            found.sort_unstable();
            assert_eq!(found, [pair * 2, pair * 2 + 1]);
        }
        assert_eq!(table.get(mix(1 << 60, 0)).count(), 0);
        let sorted = table.sorted();
        assert!(sorted.len() == 500_000 && sorted.is_sorted_by_key(|slot| slot.hash()));
    }

    #[test]
    fn keeps_all_values_of_a_hash() {
        keeps_all_values::<u64>();
        keeps_all_values::<[u64; 2]>();
    }

    #[test]
    fn a_table_with_room_does_not_grow() {
        for count in [0, 1, 40, 41, 1000, 500_000] {
            let mut table = Table::<u64>::with_room(count);
            let shards = table.shards.len();
            let hashes: Vec<u64> = (0..count as u64).map(|value| mix(value, 0)).collect();
            table.insert_run(&hashes, 1);
            assert_eq!((table.len(), table.shards.len()), (count, shards));
            assert!(hashes.iter().enumerate().all(|(at, &hash)| table.get(hash).any(|value| value == at as u64 + 1)));
            table.insert_run(&hashes, count as u64 + 1);
            table.insert_run(&hashes, 2 * count as u64 + 1);
            assert!(hashes.iter().all(|&hash| table.get(hash).count() >= 3));
        }
    }

    #[test]
    fn many_values_of_one_hash_end_somewhere() {
        let mut table = Table::<[u64; 2]>::default();
        (1..=1000).for_each(|value| table.insert(u64::MAX, value));
        (1..=1000).for_each(|value| table.insert(0, value));
        assert_eq!((table.get(u64::MAX).count(), table.get(0).count()), (1000, 1000));
        assert!(table.sorted().is_sorted_by_key(|slot| slot[0]));
    }
}
