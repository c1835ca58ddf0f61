//! Keys: by what a retry is recognised, and where their entries are.
//!
//! The index gives candidates by a 64-bit hash; the pipeline compares each with the journal entry, so that a
//! collision of hashes is never taken for a retry. Keys are kept apart by date: a day that leaves the window is dropped
//! whole. Traces and ids are kept apart, too: a trace is nearly always known to be new without a search, so that it need not make
//! the search for an id longer. Keys that came since the last checkpoint pass are in memory; a pass seals them and writes them out as sorted, immutable
//! segments, which are searched where they lie and never rebuilt. A segment's filter, in memory, spares the search for nearly all keys
//! that are not in it; its fences, in memory too, name the one page on which a key can be.
//!
//! A segment is written and merged in parts, so that nothing of it is ever one large commit. It is there when the checkpoint's list names
//! it: parts that no list names are leftovers, and what a merge replaces stays until a later pass.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::memory::{Slab, prefetch};
use crate::storage::{Reading, StorageError, VALUE_OFFSET};
use crate::table::{Table, mix};

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
/// Pages of a part of a segment.
const PART_PAGES: usize = 64;
/// A part fills its pages, behind what LMDB puts before a value: no pair lies on two pages.
const PART_BYTES: usize = PART_PAGES * PAGE - VALUE_OFFSET;
const PART_PAIRS: usize = PART_BYTES / PAIR;
const _: () = assert!(VALUE_OFFSET == PAIR);
/// Bytes of a segment's name, and the key of one of its parts.
const NAME: usize = 13;
type PartKey = [u8; NAME + 4];
/// A segment is not merged into one of more keys: a pass must come to its end.
const MERGED_MAX: u64 = 24_000_000;

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
    /// Its hash; the date is not in it, because every date has its own tables. The lowest bit tells a trace (0) from an id (1).
    #[inline]
    pub fn hash(&self) -> u64 {
        let programme = u64::from(self.programme);
        match self.name {
            KeyName::Trace { terminal, trace } => mix(u64::from(terminal) << 32 | u64::from(trace), programme) & !1,
            KeyName::Id(id) => mix(id as u64, (id >> 64) as u64 ^ programme.rotate_left(40)) | 1,
        }
    }
}

/// Which of a day's two forms a key with this hash has.
#[inline]
fn form(hash: u64) -> usize {
    (hash & 1) as usize
}

/// Keys of all dates in the window.
#[derive(Default)]
pub struct Keys {
    /// By ascending date: eight at most, nearly all asked for are of the last.
    days: Vec<Day>,
}

struct Day {
    date: i32,
    /// Traces, ids.
    forms: [Form; 2],
}

/// Keys of one date and form.
#[derive(Default)]
struct Form {
    recent: Table<Pair>,
    /// Those of the pass under way.
    sealed: Option<Arc<Sealed>>,
    segments: Vec<Segment>,
}

/// Keys of one date and form from one pass.
pub struct Sealed {
    table: Table<Pair>,
    /// Sequences below this are in it or before it.
    end: u64,
}

/// What the checkpoint's list says of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extent {
    /// Date of its keys.
    pub date: i32,
    /// 0 for traces, 1 for ids.
    pub form: u8,
    /// Its keys' entries lie below this sequence.
    pub end: u64,
    /// Number of its keys.
    pub count: u64,
}

/// A segment in the checkpoint, and what of it is in memory.
pub struct Segment {
    extent: Extent,
    /// Ends of the segments that were merged into it.
    replaces: Vec<u64>,
    filter: Slab<Line>,
    /// First hash of each page.
    fences: Vec<u64>,
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

/// What a pass has to write: the sealed keys of one date and form.
pub struct Batch {
    date: i32,
    form: u8,
    sealed: Arc<Sealed>,
}

impl Keys {
    /// The keys among which one with this date and hash would be.
    #[inline]
    fn form(&self, date: i32, hash: u64) -> Option<&Form> {
        self.days.iter().rev().find(|day| day.date == date).map(|day| &day.forms[form(hash)])
    }

    fn day_mut(&mut self, date: i32) -> &mut Day {
        let at = self.days.partition_point(|day| day.date < date);
        if self.days.get(at).is_none_or(|day| day.date != date) {
            self.days.insert(at, Day { date, forms: Default::default() });
        }
        &mut self.days[at]
    }

    /// Remembers where the entry of a key with this date and hash is.
    #[inline]
    pub fn insert(&mut self, date: i32, hash: u64, sequence: u64) {
        let day = match self.days.last_mut() {
            Some(day) if day.date == date => day,
            _ => self.day_mut(date),
        };
        day.forms[form(hash)].recent.insert(hash, sequence);
    }

    /// Asks for the memory in which the search for a key begins.
    #[inline]
    pub fn prefetch(&self, date: i32, hash: u64) {
        let Some(form) = self.form(date, hash) else { return };
        if let Some(sealed) = &form.sealed {
            sealed.table.prefetch(hash);
        }
        form.segments.iter().for_each(|segment| prefetch(segment.line(hash)));
    }

    /// Asks for the memory that [`insert`](Self::insert) will write to, where a search looks first.
    #[inline]
    pub fn prefetch_place(&self, date: i32, hash: u64) {
        if let Some(form) = self.form(date, hash) {
            form.recent.prefetch(hash);
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
        match self.form(date, hash) {
            Some(form) if form.may_hold(hash) => form.find(hash, is, reading),
            _ => Ok(None),
        }
    }

    /// Takes out the dates before this one.
    pub fn forget_before(&mut self, date: i32) -> Discarded {
        let kept = self.days.partition_point(|day| day.date < date);
        Discarded { days: self.days.drain(..kept).collect(), ..Discarded::default() }
    }

    /// Makes room for so many keys of a date that has none yet, as if half of them were traces.
    pub fn make_room(&mut self, date: i32, count: usize) {
        for form in &mut self.day_mut(date).forms {
            if form.recent.is_empty() {
                form.recent = Table::with_room(count / 2);
            }
        }
    }

    /// First date that is kept.
    pub fn first_date(&self) -> Option<i32> {
        self.days.first().map(|day| day.date)
    }

    /// Seals what came since the last pass; `end` is the next sequence.
    pub fn seal(&mut self, end: u64) -> Vec<Batch> {
        let mut batches = Vec::new();
        let newest = self.days.last().map(|day| day.date);
        for day in &mut self.days {
            for (number, form) in day.forms.iter_mut().enumerate().filter(|(_, form)| !form.recent.is_empty()) {
                // As many will come until the next pass.
                let room = if Some(day.date) == newest { Table::with_room(form.recent.len()) } else { Table::default() };
                let sealed = Arc::new(Sealed { table: std::mem::replace(&mut form.recent, room), end });
                form.sealed = Some(sealed.clone());
                batches.push(Batch { date: day.date, form: number as u8, sealed });
            }
        }
        batches
    }

    /// Takes over the segments that a pass has written; what they replace comes back.
    pub fn adopt(&mut self, segments: Vec<Segment>) -> Discarded {
        let mut discarded = Discarded::default();
        for segment in segments {
            let Extent { date, form, .. } = segment.extent;
            if let Some(day) = self.days.iter_mut().find(|day| day.date == date) {
                let form = &mut day.forms[usize::from(form)];
                let is_replaced = |older: &mut Segment| segment.replaces.contains(&older.extent.end);
                discarded.segments.extend(form.segments.extract_if(.., is_replaced));
                discarded.sealed.extend(form.sealed.take());
                form.segments.push(segment);
            } else {
                discarded.segments.push(segment);
            }
        }
        discarded
    }

    /// Adds a segment found in the checkpoint at open.
    pub fn add_segment(&mut self, segment: Segment) {
        let Extent { date, form, .. } = segment.extent;
        self.day_mut(date).forms[usize::from(form)].segments.push(segment);
    }

    /// Number of keys, those of them that are in memory, and bytes of memory.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (mut in_memory, mut in_segments, mut bytes) = (0, 0, 0);
        for form in self.days.iter().flat_map(|day| &day.forms) {
            for table in form.sealed.iter().map(|sealed| &sealed.table).chain([&form.recent]) {
                in_memory += table.len();
                bytes += table.size();
            }
            for segment in &form.segments {
                in_segments += segment.extent.count as usize;
                bytes += segment.filter.size() + segment.fences.len() * 8;
            }
        }
        (in_memory + in_segments, in_memory, bytes)
    }
}

impl Form {
    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        self.recent.holds(hash) || self.sealed.as_ref().is_some_and(|sealed| sealed.table.holds(hash)) || self.in_a_filter(hash)
    }

    #[inline]
    fn in_a_filter(&self, hash: u64) -> bool {
        let bits = bits(hash);
        self.segments.iter().any(|segment| segment.may_hold(hash, &bits))
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
        if !self.in_a_filter(hash) {
            return Ok(None);
        }
        let (reading, bits) = (&reading()?, bits(hash));
        for segment in self.segments.iter().filter(|segment| segment.may_hold(hash, &bits)) {
            for sequence in segment.search(reading, hash)? {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        Ok(None)
    }
}

impl Batch {
    /// Begins the batch's segment. Of the segments that there are, those of its date and form are merged in that are at most twice as large as what
    /// is merged already: so a date has few of them, and a key is seldom written again.
    pub fn merge(&self, there: &[Extent]) -> Merging {
        let new = self.sealed.table.sorted();
        let mut count = new.len() as u64;
        let is_alike = |extent: &&Extent| (extent.date, extent.form) == (self.date, self.form);
        let mut older: Vec<&Extent> = there.iter().filter(is_alike).collect();
        older.sort_unstable_by_key(|extent| std::cmp::Reverse(extent.end));
        let mut sources = vec![Source { pairs: new, at: 0, rest: None }];
        let mut replaces = Vec::new();
        for extent in older {
            if extent.count > 2 * count || count + extent.count > MERGED_MAX {
                break;
            }
            count += extent.count;
            replaces.push(extent.end);
            sources.push(Source { pairs: Vec::new(), at: 0, rest: Some((*extent, 0)) });
        }
        let extent = Extent { date: self.date, form: self.form, end: self.sealed.end, count };
        let (filter, fences) = (Slab::zeroed(extent.lines()), Vec::with_capacity(extent.pages()));
        Merging { segment: Segment { extent, replaces, filter, fences }, sources, part: 0 }
    }
}

/// A segment that is being written.
pub struct Merging {
    segment: Segment,
    sources: Vec<Source>,
    part: usize,
}

/// Pairs in order of their hashes.
struct Source {
    pairs: Vec<Pair>,
    at: usize,
    /// The segment that they come from, part by part, and its next part.
    rest: Option<(Extent, usize)>,
}

impl Source {
    /// Reads the next part when the pairs are used up; false if there is none.
    fn fill(&mut self, reading: &Reading) -> Result<bool, StorageError> {
        if self.at < self.pairs.len() {
            return Ok(true);
        }
        let Some((extent, part)) = &mut self.rest else { return Ok(false) };
        if *part == extent.pair_parts() {
            return Ok(false);
        }
        self.pairs.clear();
        self.pairs.extend(extent.read(reading, *part)?.chunks_exact(PAIR).map(pair));
        *part += 1;
        self.at = 0;
        Ok(true)
    }
}

impl Merging {
    /// Puts the next part into `value` and says under which key it belongs; None when all have been given.
    pub fn next_part(&mut self, reading: &Reading, value: &mut Vec<u8>) -> Result<Option<PartKey>, StorageError> {
        let extent = self.segment.extent;
        if self.part == extent.parts() {
            return Ok(None);
        }
        value.clear();
        match self.part.checked_sub(extent.pair_parts()) {
            None => self.put_pairs(reading, value)?,
            Some(part) => {
                let words = self.segment.fences.iter().chain(self.segment.filter.as_flattened());
                let words = words.skip(part * (PART_BYTES / 8)).take(PART_BYTES / 8);
                words.for_each(|word| value.extend_from_slice(&word.to_le_bytes()));
            }
        }
        self.part += 1;
        Ok(Some(extent.part_key(self.part - 1)))
    }

    fn put_pairs(&mut self, reading: &Reading, value: &mut Vec<u8>) -> Result<(), StorageError> {
        let Segment { extent, filter, fences, .. } = &mut self.segment;
        for source in &mut self.sources {
            source.fill(reading)?;
        }
        self.sources.retain(|source| source.at < source.pairs.len());
        for at in 0..extent.part_len(self.part) / PAIR {
            let heads = self.sources.iter_mut().map(|source| (source.pairs[source.at], source));
            let Some((pair, source)) = heads.min_by_key(|(pair, _)| pair[0]) else { break };
            source.at += 1;
            if source.at == source.pairs.len() && !source.fill(reading)? {
                self.sources.retain(|source| source.at < source.pairs.len());
            }
            if at == 0 || (at + 1) % PAGE_PAIRS == 0 {
                fences.push(pair[0]);
            }
            add(filter, pair[0]);
            pair.iter().for_each(|word| value.extend_from_slice(&word.to_le_bytes()));
        }
        Ok(())
    }

    /// The segment, all of whose parts are written.
    pub fn finish(self) -> Segment {
        self.segment
    }
}

impl Extent {
    /// What the keys of its parts begin with.
    pub fn name(&self) -> [u8; NAME] {
        let mut name = [self.form; NAME];
        name[..4].copy_from_slice(&self.date.to_be_bytes());
        name[5..].copy_from_slice(&self.end.to_be_bytes());
        name
    }

    fn part_key(&self, part: usize) -> PartKey {
        let mut key = [0; NAME + 4];
        key[..NAME].copy_from_slice(&self.name());
        key[NAME..].copy_from_slice(&(part as u32).to_be_bytes());
        key
    }

    /// A part, which must be there.
    fn read<'a>(&self, reading: &'a Reading, part: usize) -> Result<&'a [u8], StorageError> {
        reading.whole("keys", &self.part_key(part), self.part_len(part))
    }

    /// Parts that hold pairs; those with fences and filter follow.
    fn pair_parts(&self) -> usize {
        (self.count as usize).div_ceil(PART_PAIRS)
    }

    fn parts(&self) -> usize {
        self.pair_parts() + self.index_len().div_ceil(PART_BYTES)
    }

    fn part_len(&self, part: usize) -> usize {
        let len = |all: usize, part: usize| all.saturating_sub(part * PART_BYTES).min(PART_BYTES);
        match part.checked_sub(self.pair_parts()) {
            None => len(self.count as usize * PAIR, part),
            Some(part) => len(self.index_len(), part),
        }
    }

    /// Bytes of fences and filter.
    fn index_len(&self) -> usize {
        self.pages() * 8 + self.lines() * size_of::<Line>()
    }

    /// Pages on which pairs are.
    fn pages(&self) -> usize {
        let (full, rest) = (self.count as usize / PART_PAIRS, self.count as usize % PART_PAIRS);
        full * PART_PAGES + if rest > 0 { (rest * PAIR + VALUE_OFFSET).div_ceil(PAGE) } else { 0 }
    }

    fn lines(&self) -> usize {
        (self.count as usize * FILTER_BITS).div_ceil(8 * size_of::<Line>()).max(1)
    }
}

impl Segment {
    /// What the checkpoint's list says of it.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// True if it was merged from this one.
    pub fn replaces(&self, older: &Extent) -> bool {
        (older.date, older.form) == (self.extent.date, self.extent.form) && self.replaces.contains(&older.end)
    }

    /// The segment of the checkpoint's list; None if it is damaged.
    pub fn open(extent: Extent, reading: &Reading) -> Result<Option<Segment>, StorageError> {
        // No file holds so many.
        if extent.count >= 1 << 48 || extent.form > 1 {
            return Ok(None);
        }
        let (mut filter, mut fences) = (None, Vec::new());
        let mut line = 0;
        let name = extent.name();
        let mut parts = reading.from("keys", &name)?;
        for part in 0..extent.parts() {
            let Some((key, value)) = parts.next().transpose()? else { return Ok(None) };
            if key != extent.part_key(part) || value.len() != extent.part_len(part) {
                return Ok(None);
            }
            if part < extent.pair_parts() {
                continue;
            }
            // As many pairs are there, so that this is no more than memory has.
            let filter = filter.get_or_insert_with(|| Slab::<Line>::zeroed(extent.lines()));
            let words = filter.as_flattened_mut();
            for word in value.chunks_exact(8).map(word) {
                if fences.len() < extent.pages() {
                    fences.push(word);
                } else {
                    words[line] = word;
                    line += 1;
                }
            }
        }
        Ok(filter.map(|filter| Segment { extent, replaces: Vec::new(), filter, fences }))
    }

    #[inline]
    fn line(&self, hash: u64) -> &Line {
        &self.filter[line_of(hash, self.filter.len())]
    }

    #[inline]
    fn may_hold(&self, hash: u64, bits: &Line) -> bool {
        let missing = self.line(hash).iter().zip(bits).fold(0, |missing, (word, bit)| missing | !word & bit);
        missing == 0
    }

    /// Sequences under this hash: the fences name the page, and a page is nearly always all that is read.
    fn search(&self, reading: &Reading, hash: u64) -> Result<Vec<u64>, StorageError> {
        // Equal hashes may begin at the end of the page before those that begin with them.
        let first = self.fences.partition_point(|&fence| fence < hash).saturating_sub(1);
        let end = self.fences.partition_point(|&fence| fence <= hash).max(first + 1);
        let mut found = Vec::new();
        for page in first..end {
            let part = self.extent.read(reading, page / PART_PAGES)?;
            let begin = (page % PART_PAGES * PAGE).saturating_sub(VALUE_OFFSET);
            let pairs = &part[begin..part.len().min(page % PART_PAGES * PAGE + PAGE - VALUE_OFFSET)];
            let pairs = pairs.chunks_exact(PAIR).map(pair);
            found.extend(pairs.filter(|pair| pair[0] == hash).map(|pair| pair[1]));
        }
        Ok(found)
    }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[inline]
fn pair(bytes: &[u8]) -> Pair {
    [word(&bytes[..8]), word(&bytes[8..])]
}

#[inline]
fn add(filter: &mut Slab<Line>, hash: u64) {
    let line = line_of(hash, filter.len());
    filter[line].iter_mut().zip(bits(hash)).for_each(|(word, bit)| *word |= bit);
}

/// Line of a hash in a filter of so many: by the hash's upper end, so that building one walks through memory.
#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    ((u128::from(hash) * lines as u128) >> 64) as usize
}

/// A bit for each word of the line, by the hash's lower end, but for the bit that is the same in all of a form.
#[inline]
fn bits(hash: u64) -> Line {
    std::array::from_fn(|word| 1 << (hash >> (6 * word + 1) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    fn key(trace: u32) -> Key {
        Key { programme: 1, date: 5, name: KeyName::Trace { terminal: 9, trace } }
    }

    fn storage(directory: &tempfile::TempDir) -> Storage {
        Storage::open(&directory.path().join("segments"), 1 << 28, ["keys"], "test").unwrap()
    }

    /// Seals and writes what came, and adopts it.
    fn pass(keys: &mut Keys, storage: &Storage, end: u64, there: &[Extent]) -> Extent {
        let mut merging = keys.seal(end)[0].merge(there);
        let mut value = Vec::new();
        while let Some(key) = merging.next_part(&storage.reading().unwrap(), &mut value).unwrap() {
            let mut writing = storage.writing().unwrap();
            writing.put("keys", &key, &value).unwrap();
            writing.commit().unwrap();
        }
        let segment = merging.finish();
        let extent = *segment.extent();
        keys.adopt(vec![segment]);
        extent
    }

    fn find(keys: &Keys, storage: &Storage, trace: u32) -> Option<u64> {
        let is = |sequence| Ok::<_, StorageError>(sequence == u64::from(trace));
        keys.find(5, key(trace).hash(), is, || storage.reading()).unwrap()
    }

    #[test]
    fn a_segment_holds_what_was_sealed_and_merged() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(&directory);
        let mut keys = Keys::default();
        let mut there: Vec<Extent> = Vec::new();
        // Of several parts each, the last of one pair more than they hold.
        let ends = [40_000, 70_000, 70_001, 70_002, 5 * PART_PAIRS as u32 + 1, 9 * PART_PAIRS as u32 + 2];
        let mut next = 1;
        for end in ends {
            (next..end).for_each(|trace| keys.insert(5, key(trace).hash(), trace.into()));
            next = end;
            let extent = pass(&mut keys, &storage, end.into(), &there);
            let newest = keys.days[0].forms[0].segments.last().unwrap();
            there.retain(|older| !newest.replaces(older));
            there.push(extent);
        }
        assert!(there.iter().map(|extent| extent.count).eq([9 * PART_PAIRS as u64 + 1]), "{there:?}");
        let mut opened = Keys::default();
        let reading = storage.reading().unwrap();
        there.iter().for_each(|extent| opened.add_segment(Segment::open(*extent, &reading).unwrap().unwrap()));
        for keys in [&keys, &opened] {
            assert!((1..next).all(|trace| find(keys, &storage, trace) == Some(trace.into())));
            let form = &keys.days[0].forms[0];
            let false_positives = (next..next + 100_000).filter(|&trace| form.may_hold(key(trace).hash())).count();
            assert!(false_positives < 400, "{false_positives}");
            assert_eq!(keys.sizes().0, next as usize - 1);
        }
        let [extent] = there[..] else { panic!("one is left") };
        for damaged in
            [Extent { end: 9, ..extent }, Extent { count: extent.count - 1, ..extent }, Extent { count: 1 << 60, ..extent }]
        {
            assert!(Segment::open(damaged, &reading).unwrap().is_none());
        }
    }

    #[test]
    fn small_segments_are_merged_and_large_ones_are_left() {
        let there = [(4, 40_000_000), (5, 70), (5, 40), (5, 9), (6, 4), (5, 5)].map(|(date, count)| Extent {
            date,
            form: u8::from(count == 5),
            end: 100 - count % 90,
            count,
        });
        let mut keys = Keys::default();
        (1..=8).for_each(|trace| keys.insert(5, key(trace).hash(), trace.into()));
        let merging = keys.seal(200)[0].merge(&there);
        let segment = merging.finish();
        assert_eq!(segment.extent.count, 17, "40 is more than twice as many");
        assert_eq!(there.map(|older| segment.replaces(&older)), [false, false, false, true, false, false]);
    }

    #[test]
    fn a_page_of_pairs_is_a_page_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(&directory);
        let mut keys = Keys::default();
        (1..=50_000).for_each(|trace| keys.insert(5, key(trace).hash(), trace.into()));
        let extent = pass(&mut keys, &storage, 50_001, &[]);
        let fences = &keys.days[0].forms[0].segments[0].fences;
        assert_eq!(fences.len(), extent.pages());
        let reading = storage.reading().unwrap();
        for (page, &fence) in fences.iter().enumerate() {
            let part = extent.read(&reading, page / PART_PAGES).unwrap();
            let first = &part[(page % PART_PAGES * PAGE).saturating_sub(VALUE_OFFSET)..];
            assert_eq!(pair(&first[..PAIR])[0], fence);
            assert_eq!(first.as_ptr().align_offset(PAGE), if page % PART_PAGES == 0 { PAGE - VALUE_OFFSET } else { 0 });
        }
    }
}
