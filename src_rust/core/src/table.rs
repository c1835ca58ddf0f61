//! The index of everything that is found by a hash: open addressing in shards.
//!
//! It gives the numbers of the records that may be meant, by the upper half of the hash; who asks compares the records themselves.
//! A shard is an array of slots. It doubles until it is a huge page, then it splits in two by the next bit of the
//! hash: no growth moves more than a page of slots at once, however large the table is. Slots lie nearly in the order of
//! their hashes, so that [`sorted`](Table::sorted) costs one pass. What is never iterated in hash order leaves no trace
//! of the order in the state.

use std::iter;

use wide::u64x4;

use crate::memory::{HUGE_PAGE, Slab, prefetch};

/// Slots of a new shard.
const FIRST_SLOTS: usize = 64;
/// Numbers of a run whose memory is asked for together.
const AHEAD: usize = 16;
/// A shard is split by bits of the hash that every slot holds.
const DEPTH_MAX: u32 = 24;

/// The upper half of a hash, and a number plus one. Zero is a free slot.
type Slot = u64;
/// One line of the cache.
type Line = [Slot; 8];

#[inline]
fn slot(hash: u64, number: u32) -> Slot {
    stored(hash) | u64::from(number + 1)
}

/// What a slot holds of a hash, or of the hash that it was made with.
#[inline]
fn stored(hash: u64) -> u64 {
    hash >> 32 << 32
}

#[inline]
fn number(slot: Slot) -> u32 {
    (slot as u32).wrapping_sub(1)
}

/// A bit for each slot of a line: set if it holds as much of this hash as slots do.
#[inline(always)]
fn held(line: &Line, hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = *line;
    let of = |slots| ((u64x4::new(slots) ^ u64x4::splat(hash)) >> 32u32).simd_eq(u64x4::ZERO).to_bitmask();
    of([a, b, c, d]) | of([e, f, g, h]) << 4
}

/// Multiset of (hash, number).
#[derive(Clone)]
pub struct Table {
    /// Shards by the first `bits` bits of the hash; neighbours may share one.
    directory: Vec<u32>,
    bits: u32,
    shards: Vec<Shard>,
    len: usize,
}

#[derive(Clone)]
struct Shard {
    /// Power of two. Filled to five eighths at most: few lines are full then.
    lines: Slab<Line>,
    len: usize,
    /// Bits of the hash that all of it share.
    depth: u32,
    /// What is shifted out of the rest of the hash to leave a line.
    shift: u32,
}

impl Default for Table {
    fn default() -> Self {
        Table { directory: vec![0], bits: 0, shards: vec![Shard::new(FIRST_SLOTS, 0)], len: 0 }
    }
}

impl Table {
    /// An empty table that so many numbers fit into before it grows, unless their hashes are odd.
    pub fn with_room(numbers: usize) -> Self {
        let slots = slots_for(numbers);
        let most = HUGE_PAGE / size_of::<Slot>();
        let bits = slots.div_ceil(most).next_power_of_two().trailing_zeros().min(DEPTH_MAX);
        let slots = slots.next_power_of_two().clamp(FIRST_SLOTS, most);
        let shards = (0..1 << bits).map(|_| Shard::new(slots, bits)).collect();
        Table { directory: (0..1 << bits).collect(), bits, shards, len: 0 }
    }

    /// How many there are.
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

    /// Numbers under this hash, in no order that means anything. The caller compares what they stand for.
    pub fn get(&self, hash: u64) -> impl Iterator<Item = u32> {
        let shard = &self.shards[self.shard(hash)];
        let mut at = shard.home(hash);
        let mut found = held(&shard.lines[at], hash);
        iter::from_fn(move || {
            loop {
                let line = &shard.lines[at];
                if found != 0 {
                    let slot = line[found.trailing_zeros() as usize];
                    found &= found - 1;
                    return (slot != 0).then(|| number(slot));
                }
                if has_room(line) {
                    return None;
                }
                at = shard.line_after(at);
                found = held(&shard.lines[at], hash);
            }
        })
    }

    /// The first of them.
    #[inline]
    pub fn first(&self, hash: u64) -> Option<u32> {
        let shard = &self.shards[self.shard(hash)];
        let mut at = shard.home(hash);
        loop {
            let line = &shard.lines[at];
            let found = held(line, hash);
            if found != 0 {
                let slot = line[found.trailing_zeros() as usize];
                return (slot != 0).then(|| number(slot));
            }
            if has_room(line) {
                return None;
            }
            at = shard.line_after(at);
        }
    }

    /// Asks for the memory in which the search for this hash begins.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let shard = &self.shards[self.shard(hash)];
        prefetch(&shard.lines[shard.home(hash)]);
    }

    /// Adds a number below 2^32 - 1; it does not replace one.
    #[inline]
    pub fn insert(&mut self, hash: u64, number: u32) {
        let mut at = self.shard(hash);
        while self.shards[at].is_full() {
            self.grow(at, hash);
            at = self.shard(hash);
        }
        self.shards[at].place(slot(hash, number));
        self.len += 1;
    }

    /// Adds numbers that follow each other, from `first` on, one for each hash.
    pub fn insert_run(&mut self, hashes: &[u64], first: u32) {
        let mut number = first;
        for hashes in hashes.chunks(AHEAD) {
            hashes.iter().for_each(|&hash| self.prefetch(hash));
            for &hash in hashes {
                self.insert(hash, number);
                number += 1;
            }
        }
    }

    #[cold]
    fn grow(&mut self, at: usize, hash: u64) {
        let Shard { depth, .. } = self.shards[at];
        let slots = self.shards[at].slots();
        if slots * size_of::<Slot>() < HUGE_PAGE || depth == DEPTH_MAX {
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
        full.filled().for_each(|slot| self.shards[if upper(slot) { new } else { at }].place(slot));
        // The directory's entries of the upper half, of all that began like this hash.
        let entries = 1 << (self.bits - depth);
        let first = first_bits(hash, depth) * entries;
        self.directory[first + entries / 2..first + entries].fill(new as u32);
    }

    /// All numbers, by as much of their hashes as slots hold.
    pub fn sorted(&self) -> Vec<u32> {
        let mut sorted = Vec::with_capacity(self.len);
        let (mut last, mut slots) = (None, Vec::new());
        for &at in &self.directory {
            if last.replace(at) != Some(at) {
                self.shards[at as usize].sort_into(&mut slots);
                sorted.extend(slots.iter().map(|&slot| number(slot)));
            }
        }
        sorted
    }

    /// True if about so many numbers fit into it before it grows, and it is not many times as large.
    pub fn suits(&self, numbers: usize) -> bool {
        let slots: usize = self.shards.iter().map(Shard::slots).sum();
        (slots_for(numbers)..=slots_for(numbers) * 4).contains(&slots)
    }

    /// Takes all out; the room stays.
    pub fn clear(&mut self) {
        for shard in &mut self.shards {
            shard.lines.fill([0; 8]);
            shard.len = 0;
        }
        self.len = 0;
    }
}

impl Shard {
    fn new(slots: usize, depth: u32) -> Shard {
        let lines = Slab::<Line>::zeroed(slots * size_of::<Slot>() / size_of::<Line>());
        let shift = 64 - lines.len().trailing_zeros();
        Shard { lines, len: 0, depth, shift }
    }

    fn slots(&self) -> usize {
        self.lines.size() / size_of::<Slot>()
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.len * 8 >= self.slots() * 5
    }

    /// Line at which the search for a hash begins, by the bits after those that all of the shard share: nearly always it is all that is read.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        stored(hash).wrapping_shl(self.depth).wrapping_shr(self.shift) as usize
    }

    #[inline]
    fn line_after(&self, at: usize) -> usize {
        (at + 1) & (self.lines.len() - 1)
    }

    #[inline]
    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot);
        while !has_room(&self.lines[at]) {
            at = self.line_after(at);
        }
        let line = &mut self.lines[at];
        let filled: usize = line.iter().map(|&slot| usize::from(slot != 0)).sum();
        line[filled] = slot;
        self.len += 1;
    }

    fn filled(&self) -> impl Iterator<Item = Slot> {
        slots(&self.lines)
    }

    /// Puts its slots in order. They are few places away from where they belong, but for those that went around the end.
    fn sort_into(&self, sorted: &mut Vec<Slot>) {
        let end = self.lines.iter().position(has_room).expect("some are free") + 1;
        let went_around = |&slot: &Slot| self.home(slot) > self.lines.len() / 2;
        sorted.clear();
        sorted.extend(slots(&self.lines[..end]).filter(|slot| !went_around(slot)));
        sorted.extend(slots(&self.lines[end..]));
        sorted.extend(slots(&self.lines[..end]).filter(went_around));
        for at in 1..sorted.len() {
            let slot = sorted[at];
            let mut to = at;
            while to > 0 && sorted[to - 1] > slot {
                sorted[to] = sorted[to - 1];
                to -= 1;
            }
            sorted[to] = slot;
        }
    }
}

/// Slots that so many numbers need.
fn slots_for(numbers: usize) -> usize {
    // Shards are not filled alike: a fortieth is far more than they differ by.
    (numbers + numbers / 40) * 8 / 5
}

fn slots(lines: &[Line]) -> impl Iterator<Item = Slot> {
    lines.as_flattened().iter().copied().filter(|&slot| slot != 0)
}

/// True if a line has a free slot: then what has its home before it or here lies no further on. A line is filled from its begin.
#[inline(always)]
fn has_room(line: &Line) -> bool {
    line[line.len() - 1] == 0
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

    #[test]
    fn keeps_all_numbers_of_a_hash() {
        let mut table = Table::default();
        for number in 0..500_000u32 {
            table.insert(mix(u64::from(number / 2), 0), number);
        }
        assert_eq!(table.len(), 500_000);
        assert!(table.shards.len() > 1, "some were split");
        for pair in 0..250_000 {
            let mut found: Vec<u32> = table.get(mix(pair, 0)).filter(|&number| u64::from(number / 2) == pair).collect();
            found.sort_unstable();
            assert_eq!(found, [pair as u32 * 2, pair as u32 * 2 + 1]);
        }
        assert_eq!(table.get(mix(1 << 60, 0)).count(), 0);
        let mut sorted = table.sorted();
        assert!(sorted.is_sorted_by_key(|&number| mix(u64::from(number / 2), 0) >> 32));
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..500_000));
        assert!(table.suits(400_000) && !table.suits(4_000_000) && !table.suits(4000));
        table.clear();
        assert!(table.is_empty() && table.get(mix(1, 0)).next().is_none() && table.sorted().is_empty());
    }

    #[test]
    fn a_table_with_room_does_not_grow() {
        for count in [0, 1, 40, 41, 1000, 500_000] {
            let mut table = Table::with_room(count as usize);
            let shards = table.shards.len();
            let hashes: Vec<u64> = (0..u64::from(count)).map(|value| mix(value, 0)).collect();
            table.insert_run(&hashes, 0);
            assert_eq!((table.len(), table.shards.len()), (count as usize, shards));
            assert!((0..count).zip(&hashes).all(|(number, &hash)| table.get(hash).any(|found| found == number)));
            table.insert_run(&hashes, count);
            table.insert_run(&hashes, 2 * count);
            assert!(hashes.iter().all(|&hash| table.get(hash).count() >= 3));
        }
    }

    #[test]
    fn many_hashes_that_begin_alike_end_somewhere() {
        for (alike, shift) in [(u64::MAX, 0), (0, 0), (0x1234_5678 << 32, 0), (0x1234_5600 << 32, 24)] {
            let hash = |number: u32| alike | u64::from(number % 500) << shift;
            let mut table = Table::default();
            (0..1000).for_each(|number| table.insert(hash(number), number));
            assert!((0..1000).all(|number| table.get(hash(number)).any(|found| found == number)));
            assert!(table.sorted().is_sorted_by_key(|&number| hash(number) >> 32));
        }
    }

    /// A line is found by what slots hold of a hash, and by no more: or what was moved when a shard grew would not be found again.
    #[test]
    fn a_shard_that_can_be_split_no_more_grows() {
        let mut table = Table { shards: vec![Shard::new(FIRST_SLOTS, DEPTH_MAX)], ..Table::default() };
        let hash = |number: u32| u64::from(number) << 22;
        (0..200_000).for_each(|number| table.insert(hash(number), number));
        assert!(table.shards.len() == 1 && table.shards[0].slots() * size_of::<Slot>() > HUGE_PAGE);
        assert!((0..200_000).step_by(101).all(|number| table.get(hash(number)).any(|found| found == number)));
    }
}
