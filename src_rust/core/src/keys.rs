//! Keys: by what a retry is recognised, and where their entries are.
//!
//! The index gives candidates by a 64-bit hash; the pipeline compares each with the journal entry, so that a
//! collision of hashes is never taken for a retry. Keys are kept apart by date: a day that leaves the window is dropped
//! whole. Keys that came since the last checkpoint pass are in memory; a pass seals them and writes them out as sorted, immutable
//! segments, which are searched where they lie and never rebuilt. A segment's filter, in memory, spares the search for nearly all keys
//! that are not in it; its fences, in memory too, name the one page on which a key can be.

use std::sync::Arc;

use crate::memory::{Slab, prefetch};
use crate::storage::{Reading, StorageError, VALUE_OFFSET};
use crate::table::{Slot, Table, mix};

/// Hash and sequence.
type Pair = [u64; 2];
/// A line of a filter: one cache line, a bit in each word for each key.
type Line = [u64; 8];

const PAGE: usize = 4096;
const PAIR: usize = size_of::<Pair>();
/// Pairs on a page of a segment.
const PAGE_PAIRS: usize = PAGE / PAIR;
/// Filter bits for each key of a segment: about one false positive in a thousand.
const FILTER_BITS: usize = 16;

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
    /// By ascending date: eight at most, nearly all asked for are of the last.
    days: Vec<Day>,
}

struct Day {
    date: i32,
    recent: Table<Pair>,
    /// Those of the pass under way.
    sealed: Option<Arc<Sealed>>,
    segments: Vec<Segment>,
}

/// Keys of one date from one pass.
pub struct Sealed {
    table: Table<Pair>,
    /// Sequences below this are in it or before it.
    end: u64,
}

/// A segment in the checkpoint: its key there, and what of it is in memory.
#[derive(Clone)]
pub struct Segment {
    date: i32,
    /// Its keys' entries lie below this sequence.
    end: u64,
    /// End of the segment that was merged into it, or 0.
    replaces: u64,
    filter: Arc<Slab<Line>>,
    /// First hash of each page.
    fences: Arc<Vec<u64>>,
}

/// Keys that are no longer needed. To give their memory back takes a while: not on the writer.
#[derive(Default)]
pub struct Discarded {
    days: Vec<Day>,
    segments: Vec<Segment>,
    sealed: Vec<Arc<Sealed>>,
}

impl Discarded {
    /// True if there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty() && self.segments.is_empty() && self.sealed.is_empty()
    }
}

/// What a pass has to write: the sealed keys of one date.
pub struct Batch {
    /// Their date.
    pub date: i32,
    sealed: Arc<Sealed>,
}

impl Keys {
    #[inline]
    fn day(&self, date: i32) -> Option<&Day> {
        self.days.iter().rev().find(|day| day.date == date)
    }

    fn day_mut(&mut self, date: i32) -> &mut Day {
        let at = self.days.partition_point(|day| day.date < date);
        if self.days.get(at).is_none_or(|day| day.date != date) {
            self.days.insert(at, Day { date, recent: Table::default(), sealed: None, segments: Vec::new() });
        }
        &mut self.days[at]
    }

    /// Remembers where the entry of a key with this date and hash is.
    #[inline]
    pub fn insert(&mut self, date: i32, hash: u64, sequence: u64) {
        match self.days.last_mut() {
            Some(day) if day.date == date => day.recent.insert(hash, sequence),
            _ => self.day_mut(date).recent.insert(hash, sequence),
        }
    }

    /// Asks for the memory in which the search for a key begins.
    #[inline]
    pub fn prefetch(&self, date: i32, hash: u64) {
        let Some(day) = self.day(date) else { return };
        day.recent.prefetch(hash);
        if let Some(sealed) = &day.sealed {
            sealed.table.prefetch(hash);
        }
        day.segments.iter().for_each(|segment| prefetch(segment.line(hash)));
    }

    /// Asks for the memory that [`insert`](Self::insert) will write to.
    #[inline]
    pub fn prefetch_place(&self, date: i32, hash: u64) {
        if let Some(day) = self.day(date) {
            day.recent.prefetch(hash);
        }
    }

    /// First candidate under this hash, of this date, that `is` accepts. Segments are searched in the reading that `reading` opens.
    #[inline]
    pub fn find<E: From<StorageError>>(
        &self,
        date: i32,
        hash: u64,
        is: impl FnMut(u64) -> Result<bool, E>,
        reading: impl FnOnce() -> Result<Reading, StorageError>,
    ) -> Result<Option<u64>, E> {
        match self.day(date) {
            Some(day) if day.may_hold(hash) => day.find(hash, is, reading),
            _ => Ok(None),
        }
    }

    /// Takes out the dates before this one.
    pub fn forget_before(&mut self, date: i32) -> Discarded {
        let kept = self.days.partition_point(|day| day.date < date);
        Discarded { days: self.days.drain(..kept).collect(), ..Discarded::default() }
    }

    /// Makes room for so many keys of a date that has none yet.
    pub fn make_room(&mut self, date: i32, count: usize) {
        let recent = &mut self.day_mut(date).recent;
        if recent.is_empty() {
            *recent = Table::with_room(count);
        }
    }

    /// First date that is kept.
    pub fn first_date(&self) -> Option<i32> {
        self.days.first().map(|day| day.date)
    }

    /// Seals what came since the last pass; `end` is the next sequence.
    pub fn seal(&mut self, end: u64) -> Vec<Batch> {
        let mut batches = Vec::new();
        for day in self.days.iter_mut().filter(|day| !day.recent.is_empty()) {
            let sealed = Arc::new(Sealed { table: std::mem::take(&mut day.recent), end });
            day.sealed = Some(sealed.clone());
            batches.push(Batch { date: day.date, sealed });
        }
        batches
    }

    /// Takes over the segments that a pass has written; what they replace comes back.
    pub fn adopt(&mut self, segments: Vec<Segment>) -> Discarded {
        let mut discarded = Discarded::default();
        for segment in segments {
            if let Some(day) = self.days.iter_mut().find(|day| day.date == segment.date) {
                discarded.segments.extend(day.segments.extract_if(.., |older| older.end == segment.replaces));
                discarded.sealed.extend(day.sealed.take());
                day.segments.push(segment);
            } else {
                discarded.segments.push(segment);
            }
        }
        discarded
    }

    /// Adds a segment found in the checkpoint at open.
    pub fn add_segment(&mut self, segment: Segment) {
        self.day_mut(segment.date).segments.push(segment);
    }

    /// Number of keys, those of them that are in memory, and bytes of memory.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (mut in_memory, mut in_segments, mut bytes) = (0, 0, 0);
        for day in &self.days {
            for table in day.sealed.iter().map(|sealed| &sealed.table).chain([&day.recent]) {
                in_memory += table.len();
                bytes += table.size();
            }
            for segment in &day.segments {
                in_segments += segment.fences.len() * PAGE_PAIRS;
                bytes += segment.filter.size() + segment.fences.len() * 8;
            }
        }
        (in_memory + in_segments, in_memory, bytes)
    }
}

impl Day {
    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        self.recent.holds(hash)
            || self.sealed.as_ref().is_some_and(|sealed| sealed.table.holds(hash))
            || self.segments.iter().any(|segment| segment.may_hold(hash))
    }

    #[cold]
    fn find<E: From<StorageError>>(
        &self,
        hash: u64,
        mut is: impl FnMut(u64) -> Result<bool, E>,
        reading: impl FnOnce() -> Result<Reading, StorageError>,
    ) -> Result<Option<u64>, E> {
        for table in self.sealed.iter().map(|sealed| &sealed.table).chain([&self.recent]) {
            for sequence in table.get(hash) {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        if !self.segments.iter().any(|segment| segment.may_hold(hash)) {
            return Ok(None);
        }
        let reading = &reading()?;
        for segment in self.segments.iter().filter(|segment| segment.may_hold(hash)) {
            let Some(value) = reading.get("keys", &segment.storage_key())? else {
                return self.find_in_all(hash, reading, is);
            };
            for sequence in search(pairs_of(value), segment.fences.len(), |page| segment.fences[page], hash) {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        Ok(None)
    }

    /// A pass has just merged segments that are not adopted yet: looks in whatever the date has in this reading.
    #[cold]
    fn find_in_all<E: From<StorageError>>(
        &self,
        hash: u64,
        reading: &Reading,
        mut is: impl FnMut(u64) -> Result<bool, E>,
    ) -> Result<Option<u64>, E> {
        let date = self.date.to_be_bytes();
        for pair in reading.from("keys", &date)? {
            let (name, value) = pair?;
            if !name.starts_with(&date) {
                break;
            }
            // Without a copy of its filter: that would take longer than looking.
            let pairs = pairs_of(value);
            let fence = |page: usize| word(&pairs[page * PAGE..][..8]);
            for sequence in search(pairs, pairs.len().div_ceil(PAGE), fence, hash) {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        Ok(None)
    }
}

impl Batch {
    /// The batch's pairs as a segment's value, with this older segment (key and value) of the same date merged in, if given.
    pub fn segment(&self, older: Option<(&[u8], &[u8])>) -> (Segment, Vec<u8>) {
        let new = self.sealed.table.sorted();
        let (older_end, older) = match older {
            Some((key, value)) => (key[4..].try_into().map_or(0, u64::from_be_bytes), pairs_of(value)),
            None => (0, [].as_slice()),
        };
        let pairs = merge(new, older);
        let filter = build_filter(&pairs);
        let fences: Vec<u64> = pairs.iter().step_by(PAGE_PAIRS).map(|pair| pair.hash()).collect();
        let mut value = Vec::with_capacity(header_len(filter.len(), pairs.len()) + pairs.len() * PAIR);
        let mut put = |word: u64| value.extend_from_slice(&word.to_le_bytes());
        put(filter.len() as u64);
        put(pairs.len() as u64);
        fences.iter().copied().for_each(&mut put);
        filter.iter().flatten().copied().for_each(&mut put);
        value.resize(header_len(filter.len(), pairs.len()), 0);
        pairs.iter().flatten().for_each(|word| value.extend_from_slice(&word.to_le_bytes()));
        let (filter, fences) = (Arc::new(filter), Arc::new(fences));
        (Segment { date: self.date, end: self.sealed.end, replaces: older_end, filter, fences }, value)
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
        let (lines, count) = shape(value)?;
        let (fences, rest) = value[16..].split_at_checked(count.div_ceil(PAGE_PAIRS) * 8)?;
        let fences = fences.chunks_exact(8).map(word).collect();
        let mut filter = Slab::<Line>::zeroed(lines);
        for (word_of, bytes) in filter.as_flattened_mut().iter_mut().zip(rest.chunks_exact(8)) {
            *word_of = word(bytes);
        }
        Some(Segment { date, end, replaces: 0, filter: Arc::new(filter), fences: Arc::new(fences) })
    }

    #[inline]
    fn line(&self, hash: u64) -> &Line {
        &self.filter[line_of(hash, self.filter.len())]
    }

    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        let missing = self.line(hash).iter().zip(bits(hash)).fold(0, |missing, (word, bit)| missing | !word & bit);
        missing == 0
    }
}

/// Sequences under this hash among a segment's pairs: the fences, one for each page, name the page, and a page is nearly always
/// all that is read.
fn search(pairs: &[u8], pages: usize, fence: impl Fn(usize) -> u64, hash: u64) -> Vec<u64> {
    // Equal hashes may begin at the end of the page before those that begin with them.
    let first = first_page(pages, |page| fence(page) >= hash).saturating_sub(1);
    let end = first_page(pages, |page| fence(page) > hash).max(first + 1);
    let pages = pairs.get(first * PAGE..pairs.len().min(end * PAGE)).unwrap_or(&[]);
    pages.chunks_exact(PAIR).map(pair).filter(|pair| pair[0] == hash).map(|pair| pair[1]).collect()
}

/// First of the pages from which on all are beyond; their number if none is.
fn first_page(pages: usize, is_beyond: impl Fn(usize) -> bool) -> usize {
    let (mut first, mut end) = (0, pages);
    while first < end {
        let middle = first + (end - first) / 2;
        if is_beyond(middle) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    first
}

/// Lines of the filter and number of pairs of a segment's value, if it is as long as they say.
fn shape(value: &[u8]) -> Option<(usize, usize)> {
    let lines = usize::try_from(word(value.get(..8)?)).ok()?;
    let count = usize::try_from(word(value.get(8..16)?)).ok()?;
    let fits = lines > 0 && lines < value.len() && count < value.len();
    (fits && header_len(lines, count) + count * PAIR == value.len()).then_some((lines, count))
}

/// Bytes before a segment's pairs: they begin where a page of the file does.
fn header_len(lines: usize, count: usize) -> usize {
    let header = 16 + count.div_ceil(PAGE_PAIRS) * 8 + lines * size_of::<Line>();
    (header + VALUE_OFFSET).next_multiple_of(PAGE) - VALUE_OFFSET
}

fn pairs_of(value: &[u8]) -> &[u8] {
    shape(value).map_or(&[], |(lines, count)| &value[header_len(lines, count)..])
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[inline]
fn pair(bytes: &[u8]) -> Pair {
    [word(&bytes[..8]), word(&bytes[8..])]
}

/// Both in one order.
fn merge(new: Vec<Pair>, older: &[u8]) -> Vec<Pair> {
    if older.is_empty() {
        return new;
    }
    let mut merged = Vec::with_capacity(new.len() + older.len() / PAIR);
    let (mut new, mut older) = (new.into_iter().peekable(), older.chunks_exact(PAIR).map(pair).peekable());
    while let (Some(a), Some(b)) = (new.peek(), older.peek()) {
        merged.extend(if a[0] < b[0] { new.next() } else { older.next() });
    }
    merged.extend(new.chain(older));
    merged
}

fn build_filter(pairs: &[Pair]) -> Slab<Line> {
    let mut filter = Slab::<Line>::zeroed((pairs.len() * FILTER_BITS).div_ceil(8 * size_of::<Line>()).max(1));
    let lines = filter.len();
    for [hash, _] in pairs {
        let line = &mut filter[line_of(*hash, lines)];
        line.iter_mut().zip(bits(*hash)).for_each(|(word, bit)| *word |= bit);
    }
    filter
}

/// Line of a hash in a filter of so many: by the hash's upper end, so that building one walks through memory.
#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    ((u128::from(hash) * lines as u128) >> 64) as usize
}

/// A bit for each word of the line, by the hash's lower end.
#[inline]
fn bits(hash: u64) -> Line {
    std::array::from_fn(|word| 1 << (hash >> (6 * word) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    fn key(trace: u32) -> Key {
        Key { programme: 1, date: 5, name: KeyName::Trace { terminal: 9, trace } }
    }

    #[test]
    fn a_segment_holds_what_was_sealed() {
        let mut keys = Keys::default();
        (1..=5000).for_each(|trace| keys.insert(5, key(trace).hash(), trace.into()));
        let batches = keys.seal(5001);
        let (first, value) = batches[0].segment(None);
        (5001..=6000).for_each(|trace| keys.insert(5, key(trace).hash(), trace.into()));
        let (merged, value) = keys.seal(6001)[0].segment(Some((&first.storage_key(), &value)));
        assert_eq!((segment_len(&value), first.end, merged.end, merged.replaces), (6000, 5001, 6001, 5001));
        let opened = Segment::open(&merged.storage_key(), &value).unwrap();
        assert!((1..=6000).all(|trace| opened.may_hold(key(trace).hash())));
        let false_positives = (6001..106_001).filter(|&trace| opened.may_hold(key(trace).hash())).count();
        assert!(false_positives < 4000, "{false_positives}");
        assert!(Segment::open(&merged.storage_key()[..3], &value).is_none());
        assert!(Segment::open(&merged.storage_key(), &value[..100]).is_none());
    }

    #[test]
    fn a_page_of_pairs_is_a_page_of_the_file() {
        let mut keys = Keys::default();
        (1..=50_000).for_each(|trace| keys.insert(5, key(trace).hash(), trace.into()));
        let (segment, value) = keys.seal(50_001)[0].segment(None);
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage::open(&directory.path().join("segments"), 1 << 24, ["keys"], "test").unwrap();
        let mut writing = storage.writing().unwrap();
        writing.put("keys", &segment.storage_key(), &value).unwrap();
        writing.commit().unwrap();
        let reading = storage.reading().unwrap();
        let pairs = pairs_of(reading.get("keys", &segment.storage_key()).unwrap().unwrap());
        assert_eq!(pairs.as_ptr().align_offset(PAGE), 0);
        for trace in 1..=50_000 {
            let hash = key(trace).hash();
            let first = segment.fences.partition_point(|&fence| fence < hash).saturating_sub(1);
            let end = segment.fences.partition_point(|&fence| fence <= hash).max(first + 1);
            assert!(search(pairs, segment.fences.len(), |page| segment.fences[page], hash).contains(&trace.into()));
            // The hash of a page's first pair may end the page before, too.
            assert!(end - first == 1 || segment.fences.contains(&hash));
        }
    }
}
