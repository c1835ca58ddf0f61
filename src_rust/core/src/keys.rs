//! Keys: by what a retry is recognised, and where their entries are.
//!
//! The index gives candidates by a 64-bit hash; the pipeline compares each with the journal entry, so that a
//! collision of hashes is never taken for a retry. Keys are kept apart by date: a day that leaves the window is dropped
//! whole. Keys that came since the last checkpoint pass are in memory; a pass seals them and writes them out as sorted, immutable
//! segments, which are searched where they lie and never rebuilt. A segment's filter, in memory, spares the search for nearly all keys
//! that are not in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::storage::{Reading, StorageError};
use crate::table::{Table, mix};

/// Bytes of a segment's pair: hash and sequence.
const PAIR: usize = 16;
/// Filter bits for each key of a segment: about 1% of false positives with five probes.
const FILTER_BITS: usize = 10;
const FILTER_PROBES: u32 = 5;

/// A request's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Programme of the request.
    pub programme: u16,
    /// Business date that the sender named.
    pub date: i32,
    /// The rest.
    pub name: KeyName,
}

/// What the sender numbered it with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum KeyName {
    Trace { terminal: u32, trace: u32 },
    Id(u128),
}

impl Key {
    /// Its hash; the date is not in it, because every date has its own table.
    #[inline]
    pub fn hash(&self) -> u64 {
        let programme = u64::from(self.programme);
        match self.name {
            KeyName::Trace { terminal, trace } => mix(u64::from(terminal) << 32 | u64::from(trace), programme),
            KeyName::Id(id) => mix(id as u64, (id >> 64) as u64 ^ programme.rotate_left(40) ^ 1 << 63),
        }
    }
}

/// Keys of all dates in the window.
#[derive(Default)]
pub struct Keys {
    days: BTreeMap<i32, Day>,
}

#[derive(Default)]
struct Day {
    recent: Table,
    /// Those of the pass under way.
    sealed: Option<Arc<Sealed>>,
    segments: Vec<Segment>,
}

/// Keys of one date from one pass.
pub struct Sealed {
    table: Table,
    /// Sequences below this are in it or before it.
    end: u64,
}

/// A segment in the checkpoint: its key there, and its filter.
#[derive(Clone)]
pub struct Segment {
    date: i32,
    /// Its keys' entries lie below this sequence.
    end: u64,
    /// End of the segment that was merged into it, or 0.
    replaces: u64,
    filter: Arc<[u64]>,
}

/// What a pass has to write: the sealed keys of one date.
pub struct Batch {
    /// Their date.
    pub date: i32,
    sealed: Arc<Sealed>,
}

impl Keys {
    /// Remembers where a key's entry is.
    #[inline]
    pub fn insert(&mut self, key: &Key, sequence: u64) {
        self.days.entry(key.date).or_default().recent.insert(key.hash(), sequence);
    }

    /// Brings near the memory in which the search for a key begins.
    #[inline]
    pub fn warm(&self, key: &Key) {
        let Some(day) = self.days.get(&key.date) else { return };
        let hash = key.hash();
        let sealed = day.sealed.as_ref().map(|sealed| sealed.table.peek(hash));
        let filters = day.segments.iter().fold(0, |seen, segment| seen ^ segment.first_word(hash));
        std::hint::black_box((day.recent.peek(hash), sealed, filters));
    }

    /// First candidate that `is` accepts. Segments are searched in the reading that `reading` opens.
    pub fn find<E: From<StorageError>>(
        &self,
        key: &Key,
        mut is: impl FnMut(u64) -> Result<bool, E>,
        reading: impl FnOnce() -> Result<Reading, StorageError>,
    ) -> Result<Option<u64>, E> {
        let Some(day) = self.days.get(&key.date) else { return Ok(None) };
        let hash = key.hash();
        let in_memory = day.sealed.iter().map(|sealed| &sealed.table).chain([&day.recent]);
        for sequence in in_memory.flat_map(|table| table.get(hash)) {
            if is(sequence)? {
                return Ok(Some(sequence));
            }
        }
        if !day.segments.iter().any(|segment| segment.may_hold(hash)) {
            return Ok(None);
        }
        let reading = reading()?;
        for segment in day.segments.iter().filter(|segment| segment.may_hold(hash)) {
            let Some(value) = reading.get("keys", &segment.storage_key())? else {
                return find_in_all(key, hash, &reading, is);
            };
            for sequence in search(value, hash) {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        Ok(None)
    }

    /// Drops the dates before this one.
    pub fn forget_before(&mut self, date: i32) {
        self.days = self.days.split_off(&date);
    }

    /// First date that is kept.
    pub fn first_date(&self) -> Option<i32> {
        self.days.keys().next().copied()
    }

    /// Seals what came since the last pass; `end` is the next sequence.
    pub fn seal(&mut self, end: u64) -> Vec<Batch> {
        let mut batches = Vec::new();
        for (&date, day) in self.days.iter_mut().filter(|(_, day)| !day.recent.is_empty()) {
            let sealed = Arc::new(Sealed { table: std::mem::take(&mut day.recent), end });
            day.sealed = Some(sealed.clone());
            batches.push(Batch { date, sealed });
        }
        batches
    }

    /// Takes over the segments that a pass has written.
    pub fn adopt(&mut self, segments: Vec<Segment>) {
        for segment in segments {
            if let Some(day) = self.days.get_mut(&segment.date) {
                day.segments.retain(|older| older.end != segment.replaces);
                day.segments.push(segment);
                day.sealed = None;
            }
        }
    }

    /// Adds a segment found in the checkpoint at open.
    pub fn add_segment(&mut self, segment: Segment) {
        self.days.entry(segment.date).or_default().segments.push(segment);
    }
}

impl Batch {
    /// The batch's pairs as a segment's value, with this older segment (key and value) of the same date merged in, if given.
    pub fn segment(&self, older: Option<(&[u8], &[u8])>) -> (Segment, Vec<u8>) {
        let mut pairs: Vec<(u64, u64)> = self.sealed.table.pairs().collect();
        let mut replaces = 0;
        if let Some((key, value)) = older {
            pairs.extend((0..segment_len(value)).map(|at| pair(pairs_of(value), at)));
            replaces = key[4..].try_into().map_or(0, u64::from_be_bytes);
        }
        pairs.sort_unstable();
        let filter = build_filter(&pairs);
        let mut value = Vec::with_capacity(8 + filter.len() * 8 + pairs.len() * PAIR);
        value.extend_from_slice(&(filter.len() as u64).to_le_bytes());
        filter.iter().for_each(|word| value.extend_from_slice(&word.to_le_bytes()));
        for (hash, sequence) in pairs {
            value.extend_from_slice(&hash.to_le_bytes());
            value.extend_from_slice(&sequence.to_le_bytes());
        }
        (Segment { date: self.date, end: self.sealed.end, replaces, filter: filter.into() }, value)
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.sealed.table.len()
    }
}

/// Number of keys in a segment's value.
pub fn segment_len(value: &[u8]) -> usize {
    pairs_of(value).len() / PAIR
}

impl Segment {
    /// Where it lies in the checkpoint.
    pub fn storage_key(&self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&self.date.to_be_bytes());
        key[4..].copy_from_slice(&self.end.to_be_bytes());
        key
    }

    /// The segment of this key and value; None if they are damaged.
    pub fn open(key: &[u8], value: &[u8]) -> Option<Segment> {
        let date = i32::from_be_bytes(key.get(..4)?.try_into().ok()?);
        let end = u64::from_be_bytes(key.get(4..)?.try_into().ok()?);
        let words = word(value, 0)?;
        let filter = value.get(8..8usize.checked_add(usize::try_from(words).ok()?.checked_mul(8)?)?)?;
        let filter = filter.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
        Some(Segment { date, end, replaces: 0, filter: filter.collect() })
    }

    /// The word of the filter that is looked at first.
    fn first_word(&self, hash: u64) -> u64 {
        probes(hash, self.filter.len()).next().map_or(0, |(word, _)| self.filter[word])
    }

    fn may_hold(&self, hash: u64) -> bool {
        probes(hash, self.filter.len()).all(|(word, bit)| self.filter[word] & bit != 0)
    }
}

/// A pass has just merged segments that are not adopted yet: looks in whatever the date has in this reading.
#[cold]
fn find_in_all<E: From<StorageError>>(
    key: &Key,
    hash: u64,
    reading: &Reading,
    mut is: impl FnMut(u64) -> Result<bool, E>,
) -> Result<Option<u64>, E> {
    let date = key.date.to_be_bytes();
    for pair in reading.from("keys", &date)? {
        let (name, value) = pair?;
        if !name.starts_with(&date) {
            break;
        }
        for sequence in search(value, hash) {
            if is(sequence)? {
                return Ok(Some(sequence));
            }
        }
    }
    Ok(None)
}

/// Sequences under this hash in a segment's value.
fn search(value: &[u8], hash: u64) -> Vec<u64> {
    let pairs = pairs_of(value);
    // Hashes are uniform: the first guess lands within a page of the place, then the run is walked.
    let count = pairs.len() / PAIR;
    let mut at = ((u128::from(hash) * count as u128) >> 64) as usize;
    while at > 0 && pair(pairs, at - 1).0 >= hash {
        at -= 1;
    }
    while at < count && pair(pairs, at).0 < hash {
        at += 1;
    }
    (at..count).map(|at| pair(pairs, at)).take_while(|(found, _)| *found == hash).map(|(_, value)| value).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn pairs_of(value: &[u8]) -> &[u8] {
    let words = word(value, 0).unwrap_or(0) as usize;
    value.get(8 + words * 8..).unwrap_or(&[])
}

fn pair(pairs: &[u8], at: usize) -> (u64, u64) {
    let part = |offset: usize| word(pairs, at * PAIR + offset).expect("inside the segment");
    (part(0), part(8))
}

fn build_filter(pairs: &[(u64, u64)]) -> Vec<u64> {
    let mut filter = vec![0u64; (pairs.len() * FILTER_BITS).div_ceil(512).max(1) * 8];
    let words = filter.len();
    for (hash, _) in pairs {
        probes(*hash, words).for_each(|(word, bit)| filter[word] |= bit);
    }
    filter
}

/// Bits of a key in a filter of so many words: all in one cache line of eight words.
fn probes(hash: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let spread = mix(hash, words as u64);
    let line = ((u128::from(spread) * (words / 8) as u128) >> 64) as usize * 8;
    (0..FILTER_PROBES).map(move |probe| {
        let bits = spread >> (probe * 9);
        (line + (bits >> 6 & 7) as usize, 1 << (bits & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(trace: u32) -> Key {
        Key { programme: 1, date: 5, name: KeyName::Trace { terminal: 9, trace } }
    }

    #[test]
    fn a_segment_holds_what_was_sealed() {
        let mut keys = Keys::default();
        (1..=5000).for_each(|trace| keys.insert(&key(trace), trace.into()));
        let batches = keys.seal(5001);
        let (first, value) = batches[0].segment(None);
        (5001..=6000).for_each(|trace| keys.insert(&key(trace), trace.into()));
        let (merged, value) = keys.seal(6001)[0].segment(Some((&first.storage_key(), &value)));
        assert_eq!((segment_len(&value), first.end, merged.end, merged.replaces), (6000, 5001, 6001, 5001));
        let opened = Segment::open(&merged.storage_key(), &value).unwrap();
        assert!((1..=6000).all(|trace| opened.may_hold(key(trace).hash())));
        let false_positives = (6001..106_001).filter(|&trace| opened.may_hold(key(trace).hash())).count();
        assert!(false_positives < 4000, "{false_positives}");
        assert!(Segment::open(&merged.storage_key()[..3], &value).is_none());
        assert!(Segment::open(&merged.storage_key(), &value[..100]).is_none());
    }
}
