//! Segments: sorted keys in the checkpoint, searched where they lie.
//!
//! A segment is written and merged in parts, so that nothing of it is ever one large commit. It is there when the checkpoint's list names
//! it: parts that no list names are leftovers, and what a merge replaces stays until a later pass. Its filter, in memory, spares the search
//! for nearly all keys that are not in it; its fences, in memory too, name the one page on which a key can be.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::filter::{Bits, Filter};
use super::recent::{Pair, Sealed};
use crate::storage::{Reading, StorageError, VALUE_OFFSET};

const PAGE: usize = 4096;
const PAIR: usize = size_of::<Pair>();
/// Pairs on a page of a segment.
const PAGE_PAIRS: usize = PAGE / PAIR;
/// Pages of a part of a segment.
const PART_PAGES: usize = 64;
/// A part fills its pages, behind what LMDB puts before a value: no pair lies on two pages.
const PART_BYTES: usize = PART_PAGES * PAGE - VALUE_OFFSET;
const PART_PAIRS: usize = PART_BYTES / PAIR;
const _: () = assert!(VALUE_OFFSET == PAIR);
/// Bytes of a segment's name, and the key of one of its parts.
const NAME: usize = 13;
type PartKey = [u8; NAME + 4];
/// So many segments of about the same size become one. Of traces and of ids at another count: a pass seldom merges both then.
const MERGED_AT: [usize; 2] = [8, 7];
/// A segment is not merged into one of more keys: a pass must come to its end before the next is due.
const MERGED_MAX: u64 = 8_000_000;

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
    filter: Filter,
    /// First hash of each page.
    fences: Vec<u64>,
    /// Whether the summary of its form holds its keys: those that were there when the engine was opened it does not.
    pub(super) summed: bool,
}

/// What a pass has to write: the sealed keys of one date and form.
pub struct Batch {
    pub(super) date: i32,
    pub(super) form: u8,
    pub(super) sealed: Arc<Sealed>,
}

impl Batch {
    /// Begins the batch's segment. Segments of its date and form that are about as large are merged in, the newest first, when they are
    /// enough; what comes of it counts as one for the next larger ones. So a date has few segments, and a key is seldom written again.
    pub fn merge(&self, there: &[Extent]) -> Merging {
        let new = self.sealed.recent.sorted();
        let mut count = new.len() as u64;
        let is_alike = |extent: &&Extent| (extent.date, extent.form) == (self.date, self.form);
        let mut older: Vec<&Extent> = there.iter().filter(is_alike).collect();
        older.sort_unstable_by_key(|extent| std::cmp::Reverse(extent.end));
        let merged = to_merge(count, &older, MERGED_AT[usize::from(self.form)]);
        older.truncate(merged);
        count += older.iter().map(|extent| extent.count).sum::<u64>();
        let replaces = older.iter().map(|extent| extent.end).collect();
        let older = older.iter().map(|&&extent| Source { pairs: Vec::new(), at: 0, rest: Some((extent, 0)) });
        let sources = [Source { pairs: new, at: 0, rest: None }].into_iter().chain(older).collect();
        let extent = Extent { date: self.date, form: self.form, end: self.sealed.end, count };
        let (filter, fences) = (Filter::with_room(extent.keys()), Vec::with_capacity(extent.pages()));
        Merging { segment: Segment { extent, replaces, filter, fences, summed: true }, sources, part: 0 }
    }
}

/// How many of these segments, the newest first, are merged with so many new keys.
fn to_merge(new: u64, older: &[&Extent], enough: usize) -> usize {
    let (mut merged, mut count) = (0, new);
    loop {
        let (mut alike, mut sum) = (0, count);
        for extent in &older[merged..] {
            if extent.count > 2 * count || sum + extent.count > MERGED_MAX {
                break;
            }
            (alike, sum) = (alike + 1, sum + extent.count);
        }
        // Of large passes fewer fill a segment.
        let fill_it = merged == 0 && alike > 0 && sum + count > MERGED_MAX;
        if alike + 1 < enough && !fill_it {
            return merged;
        }
        (merged, count) = (merged + alike, sum);
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
    /// Hash of the next pair.
    fn head(&self) -> u64 {
        self.pairs[self.at].0
    }

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
                let words = self.segment.fences.iter().chain(self.segment.filter.words());
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
        // The hashes that come next, by themselves: which is the least is asked for every pair.
        let mut heads: Vec<u64> = self.sources.iter().map(Source::head).collect();
        for at in 0..extent.part_len(self.part) / PAIR {
            let Some(least) = (0..heads.len()).min_by_key(|&source| heads[source]) else { break };
            let source = &mut self.sources[least];
            let pair = source.pairs[source.at];
            source.at += 1;
            if source.at < source.pairs.len() || source.fill(reading)? {
                heads[least] = source.head();
            } else {
                self.sources.swap_remove(least);
                heads.swap_remove(least);
            }
            if at == 0 || (at + 1) % PAGE_PAIRS == 0 {
                fences.push(pair.0);
            }
            filter.add(pair.0, &Bits::of(pair.0));
            value.extend_from_slice(&pair_bytes(pair));
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
        (self.keys()).div_ceil(PART_PAIRS)
    }

    fn parts(&self) -> usize {
        self.pair_parts() + self.index_len().div_ceil(PART_BYTES)
    }

    fn part_len(&self, part: usize) -> usize {
        let len = |all: usize, part: usize| all.saturating_sub(part * PART_BYTES).min(PART_BYTES);
        match part.checked_sub(self.pair_parts()) {
            None => len(self.keys() * PAIR, part),
            Some(part) => len(self.index_len(), part),
        }
    }

    /// Bytes of fences and filter.
    fn index_len(&self) -> usize {
        (self.pages() + Filter::words_for(self.keys())) * size_of::<u64>()
    }

    /// Pages on which pairs are.
    fn pages(&self) -> usize {
        let (full, rest) = (self.keys() / PART_PAIRS, self.keys() % PART_PAIRS);
        full * PART_PAGES + if rest > 0 { (rest * PAIR + VALUE_OFFSET).div_ceil(PAGE) } else { 0 }
    }

    fn keys(&self) -> usize {
        self.count as usize
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
        let mut at = 0;
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
            let words = filter.get_or_insert_with(|| Filter::with_room(extent.keys())).words_mut();
            for word in value.chunks_exact(8).map(word) {
                if fences.len() < extent.pages() {
                    fences.push(word);
                } else {
                    words[at] = word;
                    at += 1;
                }
            }
        }
        Ok(filter.map(|filter| Segment { extent, replaces: Vec::new(), filter, fences, summed: false }))
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.filter.size() + self.fences.len() * size_of::<u64>()
    }

    /// Asks for the memory in which the search for a hash begins.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.filter.prefetch(hash);
    }

    /// False if it does not hold this hash.
    #[inline]
    pub fn may_hold(&self, hash: u64, bits: &Bits) -> bool {
        self.filter.may_hold(hash, bits)
    }

    /// Sequences under this hash: the fences name the page, and a page is nearly always all that is read.
    pub fn search(&self, reading: &Reading, hash: u64) -> Result<Vec<u64>, StorageError> {
        // Equal hashes may begin at the end of the page before those that begin with them.
        let first = self.fences.partition_point(|&fence| fence < hash).saturating_sub(1);
        let end = self.fences.partition_point(|&fence| fence <= hash).max(first + 1);
        let mut found = Vec::new();
        for page in first..end {
            let part = self.extent.read(reading, page / PART_PAGES)?;
            let begin = (page % PART_PAGES * PAGE).saturating_sub(VALUE_OFFSET);
            let pairs = &part[begin..part.len().min(page % PART_PAGES * PAGE + PAGE - VALUE_OFFSET)];
            let pairs = pairs.chunks_exact(PAIR).map(pair);
            found.extend(pairs.filter(|pair| pair.0 == hash).map(|pair| pair.1));
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
    (word(&bytes[..8]), word(&bytes[8..]))
}

fn pair_bytes((hash, sequence): Pair) -> [u8; PAIR] {
    (u128::from(sequence) << 64 | u128::from(hash)).to_le_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::keys::recent::Recent;
    use crate::storage::Storage;
    use crate::table::mix;

    fn hash(number: u64) -> u64 {
        mix(number, 0) & !1
    }

    pub(in crate::keys) fn storage(directory: &tempfile::TempDir) -> Storage {
        Storage::open(&directory.path().join("segments"), 1 << 28, ["keys"], "test").unwrap()
    }

    /// Keys with these numbers, which are their sequences, too.
    fn batch(numbers: std::ops::Range<u64>) -> Batch {
        let (end, mut recent) = (numbers.end, Recent::default());
        numbers.for_each(|number| recent.insert(hash(number), number));
        Batch { date: 5, form: 0, sealed: Arc::new(Sealed { recent, end }) }
    }

    /// Writes a segment, part by part.
    pub(in crate::keys) fn write(mut merging: Merging, storage: &Storage) -> Segment {
        let mut value = Vec::new();
        while let Some(key) = merging.next_part(&storage.reading().unwrap(), &mut value).unwrap() {
            let mut writing = storage.writing().unwrap();
            writing.put("keys", &key, &value).unwrap();
            writing.commit().unwrap();
        }
        merging.finish()
    }

    #[test]
    fn a_segment_holds_what_was_sealed_and_merged() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(&directory);
        let mut there: Vec<Extent> = Vec::new();
        let mut newest = None;
        // The last is merged with all before it, and has one pair more than its parts but one hold.
        let ends = (1..=8).map(|pass| 1 + (pass * 2 * PART_PAIRS + pass / 8) as u64);
        let mut next = 1;
        for end in ends {
            let segment = write(batch(next..end).merge(&there), &storage);
            next = end;
            there.retain(|older| !segment.replaces(older));
            there.push(segment.extent);
            newest = Some(segment);
        }
        let [extent] = there[..] else { panic!("one is left: {there:?}") };
        assert_eq!(extent.count, (8 * 2 * PART_PAIRS) as u64 + 1);
        let reading = storage.reading().unwrap();
        for segment in [newest.unwrap(), Segment::open(extent, &reading).unwrap().unwrap()] {
            assert!((1..next).all(|number| segment.may_hold(hash(number), &Bits::of(hash(number)))));
            assert!((1..next).step_by(7).all(|number| segment.search(&reading, hash(number)).unwrap() == [number]));
            let held = (next..next + 100_000).filter(|&number| segment.may_hold(hash(number), &Bits::of(hash(number))));
            assert!(held.count() < 400);
        }
        for damaged in
            [Extent { end: 9, ..extent }, Extent { count: extent.count - 1, ..extent }, Extent { count: 1 << 60, ..extent }]
        {
            assert!(Segment::open(damaged, &reading).unwrap().is_none());
        }
    }

    #[test]
    fn small_segments_are_merged_and_large_ones_are_left() {
        let extent = |(date, form, end, count)| Extent { date, form, end, count };
        let others = [(4, 0, 90, 9), (5, 1, 91, 9), (6, 0, 92, 9)].map(extent);
        let (large, middle, small) =
            ((1..=1).map(|end| (5, 0, end, 2000)), (11..=17).map(|end| (5, 0, end, 100)), (21..=27).map(|end| (5, 0, end, 9)));
        let there: Vec<Extent> = others.into_iter().chain(large.chain(middle).chain(small).map(extent)).collect();
        let segment = batch(1..9).merge(&there).finish();
        assert_eq!(segment.extent.count, 8 + 7 * 9 + 7 * 100, "2000 is more than twice as many");
        assert!(there.iter().all(|older| segment.replaces(older) == (11..=27).contains(&older.end)));
        assert_eq!(batch(1..9).merge(&there[..there.len() - 1]).finish().extent.count, 8, "six are too few");
    }

    /// However large passes are, a date's segments stay few.
    #[test]
    fn passes_of_any_size_leave_few_segments() {
        let mut sizes = vec![vec![1; 200], vec![4_000_000; 20], vec![13_000_000; 4], vec![30_000_000; 3]];
        sizes.push([[2_000_000; 6].as_slice(), &[9_000_000]].concat().repeat(5));
        let left = sizes.into_iter().map(|sizes| {
            let mut extents: Vec<Extent> = Vec::new();
            for (end, count) in (1..).zip(sizes) {
                let older: Vec<&Extent> = extents.iter().rev().collect();
                let merged = to_merge(count, &older, MERGED_AT[0]);
                let count = extents.split_off(extents.len() - merged).iter().map(|older| older.count).sum::<u64>() + count;
                assert!(merged == 0 || count <= MERGED_MAX);
                extents.push(Extent { date: 5, form: 0, end, count });
            }
            extents.len()
        });
        assert_eq!(left.collect::<Vec<_>>(), [4, 10, 4, 3, 20]);
    }

    #[test]
    fn a_page_of_pairs_is_a_page_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(&directory);
        let Segment { extent, fences, .. } = write(batch(1..50_001).merge(&[]), &storage);
        assert_eq!(fences.len(), extent.pages());
        let reading = storage.reading().unwrap();
        for (page, &fence) in fences.iter().enumerate() {
            let part = extent.read(&reading, page / PART_PAGES).unwrap();
            let first = &part[(page % PART_PAGES * PAGE).saturating_sub(VALUE_OFFSET)..];
            assert_eq!(pair(&first[..PAIR]).0, fence);
            assert_eq!(first.as_ptr().align_offset(PAGE), if page % PART_PAGES == 0 { PAGE - VALUE_OFFSET } else { 0 });
        }
    }
}
