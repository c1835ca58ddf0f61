//! Keys: by what a retry is recognised, and where their entries are.
//!
//! The index gives candidates by a 64-bit hash; the pipeline compares each with the journal entry, so that a
//! collision of hashes is never taken for a retry. Keys are kept apart by date: a day that leaves the window is dropped
//! whole. Traces and ids are kept apart, too: a trace is nearly always known to be new without a search, so that it need not make
//! the search for an id longer. Keys that came since the last checkpoint pass are in memory (`recent`); a pass seals them and writes them out as sorted, immutable
//! segments (`segment`), which are searched where they lie and never rebuilt. Of ids a summary (`filter`) tells those that never came.

mod filter;
mod recent;
mod segment;

use std::sync::Arc;

use crate::storage::{Reading, StorageError};
use crate::table::mix;

use filter::{Bits, Summary};
pub use recent::Recent;
use recent::Sealed;
pub use segment::{Batch, Extent, Merging, Segment};

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
struct Form {
    recent: Recent,
    /// Those of the pass under way.
    sealed: Option<Arc<Sealed>>,
    segments: Vec<Segment>,
    /// Of all keys that came since the engine was opened. An id is looked for there instead of in every table and filter. Traces have none: they are
    /// seldom looked for.
    summary: Option<Summary>,
}

/// Keys that are no longer needed. To give their memory back takes a while: not on the writer.
#[derive(Default)]
pub struct Discarded {
    days: Vec<Day>,
    segments: Vec<Segment>,
    sealed: Vec<Arc<Sealed>>,
    rooms: Vec<Recent>,
}

impl Discarded {
    /// True if there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty() && self.segments.is_empty() && self.sealed.is_empty() && self.rooms.is_empty()
    }

    /// Gives all of it back but the room of what was sealed: memory that is there already need not be zeroed by the system when keys come.
    pub fn empty(self) -> impl Iterator<Item = Recent> {
        self.sealed.into_iter().filter_map(Arc::into_inner).map(|Sealed { mut recent, .. }| {
            recent.clear();
            recent
        })
    }
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
            self.days.insert(at, Day::new(date));
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
        day.forms[form(hash)].insert(hash, sequence);
    }

    /// Asks for the memory in which the search for a key begins.
    #[inline]
    pub fn prefetch(&self, date: i32, hash: u64) {
        if let Some(form) = self.form(date, hash) {
            form.prefetch(hash);
        }
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
                form.recent = Recent::with_room(count / 2);
            }
        }
    }

    /// First date that is kept.
    pub fn first_date(&self) -> Option<i32> {
        self.days.first().map(|day| day.date)
    }

    /// Seals what came since the last pass; `end` is the next sequence. What comes next goes into one of these rooms, if it suits; the others come
    /// back.
    pub fn seal(&mut self, end: u64, mut rooms: Vec<Recent>) -> (Vec<Batch>, Discarded) {
        let mut batches = Vec::new();
        let newest = self.days.last().map(|day| day.date);
        for day in &mut self.days {
            for (number, form) in day.forms.iter_mut().enumerate().filter(|(_, form)| !form.recent.is_empty()) {
                // As many will come until the next pass.
                let keys = form.recent.len();
                let room = match rooms.iter().position(|room| room.suits(keys)) {
                    _ if Some(day.date) != newest => Recent::default(),
                    Some(at) => rooms.swap_remove(at),
                    None => Recent::with_room(keys),
                };
                let sealed = Arc::new(Sealed { recent: std::mem::replace(&mut form.recent, room), end });
                form.sealed = Some(sealed.clone());
                batches.push(Batch { date: day.date, form: number as u8, sealed });
            }
        }
        (batches, Discarded { rooms, ..Discarded::default() })
    }

    /// Takes over the segments that a pass has written; what they replace comes back.
    pub fn adopt(&mut self, segments: Vec<Segment>) -> Discarded {
        let mut discarded = Discarded::default();
        for segment in segments {
            let Extent { date, form, .. } = *segment.extent();
            match self.days.iter_mut().find(|day| day.date == date) {
                Some(day) => day.forms[usize::from(form)].adopt(segment, &mut discarded),
                None => discarded.segments.push(segment),
            }
        }
        discarded
    }

    /// Adds a segment found in the checkpoint at open.
    pub fn add_segment(&mut self, segment: Segment) {
        let Extent { date, form, .. } = *segment.extent();
        self.day_mut(date).forms[usize::from(form)].segments.push(segment);
    }

    /// Number of keys, those of them that are in memory, and bytes of memory.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (mut keys, mut keys_in_memory, mut bytes) = (0, 0, 0);
        for form in self.days.iter().flat_map(|day| &day.forms) {
            let (in_memory, in_segments) = form.counts();
            keys += in_memory + in_segments;
            keys_in_memory += in_memory;
            bytes += form.size();
        }
        (keys, keys_in_memory, bytes)
    }
}

impl Day {
    fn new(date: i32) -> Day {
        let form = |summary| Form { recent: Recent::default(), sealed: None, segments: Vec::new(), summary };
        Day { date, forms: [form(None), form(Some(Summary::default()))] }
    }
}

impl Form {
    fn tables(&self) -> impl Iterator<Item = &Recent> {
        self.sealed.iter().map(|sealed| &sealed.recent).chain([&self.recent])
    }

    /// Number of keys in memory, and in segments.
    fn counts(&self) -> (usize, usize) {
        let in_segments: u64 = self.segments.iter().map(|segment| segment.extent().count).sum();
        (self.tables().map(Recent::len).sum(), in_segments as usize)
    }

    fn size(&self) -> usize {
        let tables: usize = self.tables().map(Recent::size).sum();
        let segments: usize = self.segments.iter().map(Segment::size).sum();
        tables + segments + self.summary.as_ref().map_or(0, Summary::size)
    }

    #[inline]
    fn prefetch(&self, hash: u64) {
        match &self.summary {
            Some(summary) => {
                summary.prefetch(hash);
                self.segments.iter().filter(|segment| !segment.summed).for_each(|segment| segment.prefetch(hash));
            }
            None => {
                self.tables().for_each(|recent| recent.prefetch(hash));
                self.segments.iter().for_each(|segment| segment.prefetch(hash));
            }
        }
    }

    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        let bits = Bits::of(hash);
        match &self.summary {
            Some(summary) => {
                let mut others = self.segments.iter().filter(|segment| !segment.summed);
                summary.may_hold(hash, &bits) || others.any(|segment| segment.may_hold(hash, &bits))
            }
            None => self.tables().any(|recent| recent.holds(hash)) || self.in_a_filter(hash, &bits),
        }
    }

    fn in_a_filter(&self, hash: u64, bits: &Bits) -> bool {
        self.segments.iter().any(|segment| segment.may_hold(hash, bits))
    }

    #[inline]
    fn insert(&mut self, hash: u64, sequence: u64) {
        self.recent.insert(hash, sequence);
        if let Some(summary) = &mut self.summary {
            summary.add(hash);
        }
    }

    #[cold]
    fn find<E: From<StorageError>>(
        &self,
        hash: u64,
        mut is: impl FnMut(u64) -> Result<bool, E>,
        reading: impl FnOnce() -> Result<Reading, StorageError>,
    ) -> Result<Option<u64>, E> {
        for recent in self.tables() {
            for sequence in recent.get(hash) {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        let bits = Bits::of(hash);
        if !self.in_a_filter(hash, &bits) {
            return Ok(None);
        }
        let reading = &reading()?;
        for segment in self.segments.iter().filter(|segment| segment.may_hold(hash, &bits)) {
            for sequence in segment.search(reading, hash)? {
                if is(sequence)? {
                    return Ok(Some(sequence));
                }
            }
        }
        Ok(None)
    }

    /// Takes over a segment that a pass has written. Its keys are in the summary if those of what it replaces are: keys of a date that was forgotten and came
    /// back may be in it all the same, but they are outside their programme's window and nobody asks for them.
    fn adopt(&mut self, mut segment: Segment, discarded: &mut Discarded) {
        let replaced: Vec<Segment> = self.segments.extract_if(.., |older| segment.replaces(older.extent())).collect();
        segment.summed = replaced.iter().all(|older| older.summed);
        discarded.segments.extend(replaced);
        discarded.sealed.extend(self.sealed.take());
        self.segments.push(segment);
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::segment::tests::{storage, write};
    use super::*;
    use crate::storage::Storage;

    fn hash(form: u64, number: u64) -> u64 {
        mix(number, 0) & !1 | form
    }

    /// Seals and writes what came, and adopts it: the segments that are left of those that were there.
    fn pass(keys: &mut Keys, storage: &Storage, end: u64, there: &mut Vec<Extent>) {
        let (batches, _) = keys.seal(end, Vec::new());
        let segments: Vec<Segment> = batches.iter().map(|batch| write(batch.merge(there), storage)).collect();
        drop(batches);
        for segment in &segments {
            there.retain(|older| !segment.replaces(older));
            there.push(*segment.extent());
        }
        let rooms: Vec<Recent> = keys.adopt(segments).empty().collect();
        assert!(rooms.len() == 1 && rooms[0].is_empty(), "the room of what was sealed comes back");
        assert!(keys.days[0].forms.iter().flat_map(|form| &form.segments).all(|segment| segment.summed));
    }

    fn find(keys: &Keys, storage: &Storage, form: u64, number: u64) -> Option<u64> {
        let is = |sequence| Ok::<_, StorageError>(sequence == number);
        keys.find(5, hash(form, number), is, || storage.reading()).unwrap()
    }

    fn opened(there: &[Extent], storage: &Storage) -> Keys {
        let (mut keys, reading) = (Keys::default(), storage.reading().unwrap());
        there.iter().for_each(|&extent| keys.add_segment(Segment::open(extent, &reading).unwrap().unwrap()));
        keys
    }

    /// Keys that were sealed, that are in segments from before it was opened, merged with newer ones or not: they are found, of either form, and others are not.
    #[test]
    fn what_came_is_found_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(&directory);
        for form in [0, 1] {
            let (mut keys, mut there) = (Keys::default(), Vec::new());
            let mut next = 1;
            let mut insert = |keys: &mut Keys, count| {
                (next..next + count).for_each(|number| keys.insert(5, hash(form, number), number));
                next += count;
                next
            };
            let check = |keys: &Keys, next: u64| {
                assert!((1..next).all(|number| find(keys, &storage, form, number) == Some(number)));
                let known = (next..next + 20_000)
                    .filter(|&number| keys.form(5, hash(form, number)).unwrap().may_hold(hash(form, number)));
                assert!(known.count() < 400);
                assert_eq!(keys.sizes().0 as u64, next - 1);
            };
            let small = 7 - form;
            for count in iter::once(30_000).chain(iter::repeat_n(500, small as usize)) {
                let end = insert(&mut keys, count);
                pass(&mut keys, &storage, end, &mut there);
                check(&keys, end);
            }
            assert_eq!(there.len() as u64, 1 + small, "they were too few to be merged");
            let mut keys = opened(&there, &storage);
            let end = insert(&mut keys, 3000);
            check(&keys, end);
            let (sealed, _) = keys.seal(end, vec![Recent::with_room(3000)]);
            let end = insert(&mut keys, 10);
            check(&keys, end);
            // The small ones from before are merged with what came since, the large one is left.
            let segment = write(sealed[0].merge(&there), &storage);
            assert_eq!(segment.extent().count, 3000 + small * 500);
            keys.adopt(vec![segment]);
            check(&keys, end);
            let form = &keys.days[0].forms[form as usize];
            assert!(
                form.segments.len() == 2 && form.segments.iter().all(|segment| !segment.summed),
                "they hold keys from before"
            );
        }
    }

    #[test]
    fn rooms_that_suit_are_used_again() {
        let mut keys = Keys::default();
        (1..=5000).for_each(|number| keys.insert(5, hash(1, number), number));
        let room = || {
            let mut room = Recent::with_room(6000);
            (1..=6000).for_each(|number| room.insert(number, number));
            room.clear();
            room
        };
        let (batches, unused) = keys.seal(5001, vec![Recent::with_room(100_000), room(), room()]);
        assert_eq!((batches.len(), unused.rooms.len()), (1, 2));
        assert!((1..=5000).all(|number| {
            keys.form(5, 1).unwrap().find(hash(1, number), |_| Ok::<_, StorageError>(true), || unreachable!()).unwrap()
                == Some(number)
        }));
        (5001..=5100).for_each(|number| keys.insert(5, hash(1, number), number));
        assert!((5001..=5100).all(|number| keys.form(5, 1).unwrap().recent.get(hash(1, number)).eq([number])));
    }
}
