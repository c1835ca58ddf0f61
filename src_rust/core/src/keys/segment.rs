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
/// A segment is not merged into one of more keys: a pass must come to its end.
const MERGED_MAX: u64 = 24_000_000;

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
    /// Begins the batch's segment. Of the segments that there are, those of its date and form are merged in that are at most twice as large as what
    /// is merged already: so a date has few of them, and a key is seldom written again.
    pub fn merge(&self, there: &[Extent]) -> Merging {
        let new = self.sealed.recent.sorted();
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
        let (filter, fences) = (Filter::with_room(extent.keys()), Vec::with_capacity(extent.pages()));
        Merging { segment: Segment { extent, replaces, filter, fences, summed: true }, sources, part: 0 }
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
        for at in 0..extent.part_len(self.part) / PAIR {
            let heads = self.sources.iter_mut().map(|source| (source.pairs[source.at], source));
            let Some((pair, source)) = heads.min_by_key(|(pair, _)| pair.0) else { break };
            source.at += 1;
            if source.at == source.pairs.len() && !source.fill(reading)? {
                self.sources.retain(|source| source.at < source.pairs.len());
            }
            if at == 0 || (at + 1) % PAGE_PAIRS == 0 {
                fences.push(pair.0);
            }
            filter.add(pair.0, &Bits::of(pair.0));
            [pair.0, pair.1].iter().for_each(|word| value.extend_from_slice(&word.to_le_bytes()));
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
        (self.pages() + Filter::words_for(self.keys())) * size_of::<u64>()
    }

    /// Pages on which pairs are.
    fn pages(&self) -> usize {
        let (full, rest) = (self.count as usize / PART_PAIRS, self.count as usize % PART_PAIRS);
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

