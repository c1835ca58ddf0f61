//! The checkpoint: state on disk, written behind, so that opening replays only the journal's tail.
//!
//! A pass begins between two groups at a sequence *B*. What is shared (organisation, keys) is copied there and then; marks and cards
//! are copied piece by piece afterwards; so are wallets and names. A card or a wallet carries the sequence of its newest entry, a mark says how far its transaction is undone in all.
//! Recovery replays from *B* of the newest complete pass; a card skips what it already holds, a mark ends where the journal ends. Nothing is committed here before the journal is durable up to what it holds. Nothing is copied while a
//! day's growth is being granted.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::cards::chunk::{ChunkMut, encode};
use crate::cards::{CHUNK, CardRecord, Cards};
use crate::keys::{Batch, Discarded, Extent, Keys, Recent, Segment};
use crate::machine::Machine;
use crate::names::Name;
use crate::organisation::Organisation;
use crate::storage::{Reading, Storage, StorageError, Writing};
use crate::wallets::{self, Wallet};

/// Version of its format. What earlier ones wrote is given up: the journal gives the state.
const VERSION: u32 = 11;

/// What a version is called.
fn format(version: u32) -> String {
    format!("onecard checkpoint {version}")
}

/// Its tables.
const TABLES: [&str; 6] = ["cards", "shared", "marks", "keys", "wallets", "names"];
/// Bytes written before they are committed, while a pass is under way: few, because groups of the journal wait behind them for the disk.
const COMMIT_BYTES: usize = 1 << 20;
/// The same when the pass is in a hurry: most of the time of a small commit is the disk's answer that it is done.
const COMMIT_BYTES_HURRY: usize = 4 << 20;
/// What a record adds to them besides its own bytes: its page is most likely its own.
const RECORD_BYTES: usize = 4096;
/// Where the list of key segments is, under `shared`.
const SEGMENTS: &[u8] = b"segments";
/// Records - names, marks - that are copied at once.
const RECORDS: usize = 512;
/// Parts of segments that are removed in one commit.
const STALE_PARTS: usize = 64;
/// Threads that decode cards at opening. On two processors they and the one that indexes have enough to do; where the first touch of memory
/// is dear, two touch twice as much.
const DECODERS: usize = 2;
/// Chunks that a decoder takes at once: to wake the thread that indexes costs as much as indexing some hundred cards.
const GROUP: usize = 16;
/// Groups that wait to be indexed.
const GROUPS_MAX: usize = 4;
/// The index of a group's first card, and the hashes of them all.
type Decoded = (u32, Vec<u64>);

/// What the newest complete pass says of itself.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Pass {
    /// Replay starts here.
    pub begin: u64,
    /// Cards that there were.
    cards: u32,
    /// Names that there were.
    names: u32,
}

/// The shared part of a pass, copied when it begins.
pub struct Shared {
    pass: Pass,
    organisation: Vec<u8>,
    keys: Vec<Batch>,
    forget_before: i32,
}

/// A pass as the writer sees it: what is copied, what is still to copy.
pub struct Copying {
    shared: Option<Shared>,
    records: Vec<Record>,
    /// Chunks of wallets.
    wallets: Vec<u32>,
    since: u64,
    chunk: usize,
    chunks: usize,
}

/// A record that changed and is to be written: which one, in which table.
#[derive(Clone, Copy)]
enum Record {
    Mark(u64),
    Name(u32),
}

impl Record {
    /// Its table, its key and its value.
    fn copy(self, machine: &Machine) -> Written {
        let value = |result: Result<Vec<u8>, postcard::Error>| result.expect("it serialises to memory");
        match self {
            Record::Mark(sequence) => {
                ("marks", sequence.to_be_bytes().to_vec(), value(postcard::to_stdvec(&machine.mark(sequence))))
            }
            Record::Name(place) => ("names", place.to_be_bytes().to_vec(), value(postcard::to_stdvec(machine.names.get(place)))),
        }
    }
}

/// A record on its way: table, key, value.
type Written = (&'static str, Vec<u8>, Vec<u8>);

/// A step of a pass on its way to the thread that writes it.
pub enum Step {
    /// A chunk of cards, as it was before the entry with sequence `before`.
    #[allow(missing_docs)]
    Chunk { number: usize, records: Vec<CardRecord>, before: u64 },
    /// Records, likewise.
    #[allow(missing_docs)]
    Records { records: Vec<Written>, before: u64 },
    /// What is to be dropped, of no pass.
    Discard(Box<Discarded>),
    /// The end of the pass.
    Finish(Box<Shared>),
}

/// The ways between the thread that writes passes and the rest of the engine.
pub trait Ways {
    /// The next step; None when no more will come.
    fn next(&self) -> Option<Step>;
    /// Waits until the journal is durable below `end`; false if it never will be.
    fn durable(&self, end: u64) -> bool;
    /// Takes back the room of a chunk.
    fn spare(&self, room: Vec<CardRecord>);
    /// Takes back the room of keys.
    fn spare_keys(&self, room: Recent);
    /// True if a pass that began at this sequence is needed soon.
    fn hurries(&self, begin: u64) -> bool;
    /// Rests after a commit that was the work of so long, in a pass that began at this sequence.
    fn rest(&self, begin: u64, took: Duration);
    /// Hears of each complete pass, or of why it failed.
    fn written(&self, result: Result<Vec<Segment>, StorageError>);
}

impl Copying {
    /// Begins a pass at the next sequence, with rooms for the keys that come next; those that are of no use come back. `since` is the begin of the pass
    /// before.
    pub fn begin(machine: &mut Machine, keys: &mut Keys, rooms: Vec<Recent>, begin: u64, since: u64) -> (Copying, Discarded) {
        let pass = Pass { begin, cards: machine.cards.len(), names: machine.names.len() };
        let organisation = postcard::to_stdvec(&machine.organisation).expect("it serialises to memory");
        let forget_before = keys.first_date().unwrap_or(i32::MIN);
        let (keys, discarded) = keys.seal(begin, rooms);
        let shared = Shared { pass, organisation, keys, forget_before };
        let mut records: Vec<Record> = machine.take_changed_marks().into_iter().map(Record::Mark).collect();
        records.extend(machine.names.take_changed().into_iter().map(Record::Name));
        let wallets = machine.wallets.take_changed();
        (Copying { shared: Some(shared), records, wallets, since, chunk: 0, chunks: machine.cards.chunks() }, discarded)
    }

    /// The next step; None when the pass is copied whole. A chunk goes into what `room` gives.
    pub fn next(&mut self, machine: &Machine, before: u64, room: impl FnOnce() -> Vec<CardRecord>) -> Option<Step> {
        while self.chunk < self.chunks {
            let number = self.chunk;
            self.chunk += 1;
            if machine.cards.chunk_touched(number) >= self.since {
                let mut records = room();
                records.clear();
                machine.cards.copy_chunk(number, &mut records);
                return Some(Step::Chunk { number, records, before });
            }
        }
        if let Some(number) = self.wallets.pop() {
            let mut value = Vec::new();
            machine.encode_wallets(number as usize, &mut value);
            let records = vec![("wallets", number.to_be_bytes().to_vec(), value)];
            return Some(Step::Records { records, before });
        }
        if !self.records.is_empty() {
            let records = self.records.drain(..self.records.len().min(RECORDS));
            return Some(Step::Records { records: records.map(|record| record.copy(machine)).collect(), before });
        }
        self.shared.take().map(|shared| Step::Finish(Box::new(shared)))
    }
}

/// The environment.
pub struct Checkpoint {
    storage: Storage,
}

impl Checkpoint {
    /// Opens the checkpoint of the journal with this id, or makes one: also in the place of an earlier version's.
    pub fn open(path: &Path, bytes_max: usize, journal_id: [u8; 16]) -> Result<Checkpoint, CheckpointError> {
        let open = || Storage::open(path, bytes_max, TABLES, &format(VERSION));
        let storage = match open() {
            Err(error) if (1..VERSION).any(|version| error.holds(&format(version))) => {
                Storage::remove(path)?;
                open()?
            }
            opened => opened?,
        };
        let id = storage.reading()?.get("meta", b"journal")?.map(<[u8]>::to_vec);
        match id {
            Some(id) if id == journal_id => {}
            Some(_) => return Err(CheckpointError::OtherJournal),
            None => {
                let mut writing = storage.writing()?;
                writing.put("meta", b"journal", &journal_id)?;
                writing.commit()?;
            }
        }
        Ok(Checkpoint { storage })
    }

    /// To look up keys in segments.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The state of the newest complete pass, and where replay starts.
    pub fn load(&self) -> Result<(Machine, Keys, u64), CheckpointError> {
        let mut machine = Machine::default();
        let reading = self.storage.reading()?;
        let Some(pass) = reading.get("shared", b"pass")? else { return Ok((machine, Keys::default(), 1)) };
        let pass: Pass = postcard::from_bytes(pass).map_err(|_| CheckpointError::Damaged("pass"))?;
        let organisation = reading.get("shared", b"organisation")?.ok_or(CheckpointError::Damaged("organisation"))?;
        let organisation: Organisation =
            postcard::from_bytes(organisation).map_err(|_| CheckpointError::Damaged("organisation"))?;
        machine.organisation = organisation;
        machine.organisation.index();
        let (cards, keys) = thread::scope(|scope| {
            let keys = scope.spawn(|| self.load_keys());
            (self.load_cards(pass.cards, &machine.organisation), keys.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        machine.cards = cards?;
        for pair in reading.from("marks", &[0; 8])? {
            let (key, value) = pair?;
            let sequence = key.try_into().map(u64::from_be_bytes).map_err(|_| CheckpointError::Damaged("marks"))?;
            machine.set_mark(sequence, postcard::from_bytes(value).map_err(|_| CheckpointError::Damaged("marks"))?);
        }
        load_names(&reading, &mut machine, pass.names)?;
        load_wallets(&reading, &mut machine)?;
        Ok((machine, keys?, pass.begin))
    }

    fn load_keys(&self) -> Result<Keys, CheckpointError> {
        let reading = self.storage.reading()?;
        let mut keys = Keys::default();
        for extent in segments_of(&reading)?.ok_or(CheckpointError::Damaged("keys"))? {
            keys.add_segment(Segment::open(extent, &reading)?.ok_or(CheckpointError::Damaged("keys"))?);
        }
        Ok(keys)
    }

    /// Reads so many cards: other threads decode, this one indexes.
    fn load_cards(&self, count: u32, organisation: &Organisation) -> Result<Cards, CheckpointError> {
        // A later pass that did not end may have written cards that replay will issue; fewer there cannot be.
        if self.storage.reading()?.count("cards")? < (count as usize).div_ceil(CHUNK) {
            return Err(CheckpointError::Damaged("cards"));
        }
        let mut cards = Cards::blank(count);
        let (chunks, mut index) = cards.parts();
        let chunks = Mutex::new(chunks);
        let (full_in, full) = bounded::<Decoded>(GROUPS_MAX);
        let (spare_in, spare) = bounded(GROUPS_MAX + DECODERS);
        thread::scope(|scope| {
            let decoders: Vec<_> = (0..DECODERS)
                .map(|_| {
                    let (full, spare, chunks) = (full_in.clone(), spare.clone(), &chunks);
                    scope.spawn(move || self.decode_cards(chunks, organisation, &full, &spare))
                })
                .collect();
            drop(full_in);
            for (first, hashes) in full {
                index.add(first, &hashes);
                let _ = spare_in.try_send(hashes);
            }
            decoders.into_iter().try_for_each(|decoder| decoder.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })?;
        // It borrows the cards.
        drop(chunks);
        Ok(cards)
    }

    /// Decodes chunks, a group at a time, until none are left.
    fn decode_cards<'a>(
        &self,
        chunks: &Mutex<impl Iterator<Item = (usize, ChunkMut<'a>)>>,
        organisation: &Organisation,
        full: &Sender<Decoded>,
        spare: &Receiver<Vec<u64>>,
    ) -> Result<(), CheckpointError> {
        let reading = self.storage.reading()?;
        // Cards that follow each other are nearly always alike.
        let mut known = None;
        let mut accept = |record: &CardRecord| {
            let what = (record.card.programme, record.card.product, record.card.merchant);
            if known != Some(what) && organisation.may_have_card(what.0, what.1, what.2) {
                known = Some(what);
            }
            known == Some(what)
        };
        loop {
            let group: Vec<_> = chunks.lock().unwrap_or_else(PoisonError::into_inner).by_ref().take(GROUP).collect();
            let Some((first, _)) = group.first() else { return Ok(()) };
            let first = (first * CHUNK) as u32;
            let mut hashes = spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(GROUP * CHUNK));
            hashes.clear();
            for (number, chunk) in group {
                let value = reading.get("cards", &chunk_key(number))?;
                let decoded = value.and_then(|value| chunk.decode(value, &mut hashes, &mut accept));
                decoded.ok_or(CheckpointError::Damaged("cards"))?;
            }
            // The other end lives as long as this one.
            let _ = full.send((first, hashes));
        }
    }

    /// Writes passes as their steps come, until no more do.
    pub fn write(&self, ways: &impl Ways) {
        let mut chunk = Vec::new();
        let whole = Cell::new(false);
        let next = || {
            loop {
                match ways.next() {
                    Some(Step::Discard(discarded)) => discarded.empty().for_each(|room| ways.spare_keys(room)),
                    step => {
                        whole.set(matches!(step, None | Some(Step::Finish(_))));
                        return step;
                    }
                }
            }
        };
        loop {
            match self.write_pass(&next, ways, &mut chunk) {
                Ok(Some(segments)) => ways.written(Ok(segments)),
                Ok(None) => return,
                Err(error) => {
                    // The rest of this pass is worth nothing.
                    while !whole.get() {
                        next();
                    }
                    ways.written(Err(error));
                }
            }
        }
    }

    fn write_pass(
        &self,
        next: &impl Fn() -> Option<Step>,
        ways: &impl Ways,
        chunk: &mut Vec<u8>,
    ) -> Result<Option<Vec<Segment>>, StorageError> {
        let mut steps = std::iter::from_fn(next).peekable();
        let begin = match steps.peek() {
            Some(Step::Chunk { before, .. } | Step::Records { before, .. }) => *before,
            Some(Step::Finish(shared)) => shared.pass.begin,
            Some(Step::Discard(_)) | None => return Ok(None),
        };
        let pace = Pace { ways, begin };
        loop {
            let mut writing = self.storage.writing()?;
            let (mut bytes, mut until, mut took) = (0, 0, Duration::ZERO);
            let mut last = None;
            while bytes < pace.commit_bytes() && last.is_none() {
                let Some(step) = steps.next() else { return Ok(None) };
                let start = Instant::now();
                match step {
                    Step::Chunk { number, records, before } => {
                        chunk.clear();
                        encode(&records, chunk);
                        ways.spare(records);
                        writing.put("cards", &chunk_key(number), chunk)?;
                        bytes += chunk.len();
                        until = until.max(before);
                    }
                    Step::Records { records, before } => {
                        for (table, key, value) in records {
                            writing.put(table, &key, &value)?;
                            bytes += value.len() + RECORD_BYTES;
                        }
                        until = until.max(before);
                    }
                    Step::Finish(shared) => last = Some(shared),
                    Step::Discard(_) => {}
                }
                took += start.elapsed();
            }
            if !pace.commit(writing, until, took)? {
                return Ok(None);
            }
            if let Some(shared) = last {
                return self.finish(&pace, &shared);
            }
        }
    }

    /// Writes the keys, part by part, and at last what makes the pass valid.
    fn finish(&self, pace: &Pace<'_, impl Ways>, shared: &Shared) -> Result<Option<Vec<Segment>>, StorageError> {
        let reading = self.storage.reading()?;
        let mut there = segments_of(&reading)?.ok_or_else(|| reading.damaged("shared"))?;
        drop(reading);
        if !self.remove_leftovers(pace, &there)? {
            return Ok(None);
        }
        there.retain(|extent| extent.date >= shared.forget_before);
        let mut segments = Vec::new();
        for batch in &shared.keys {
            let Some(segment) = self.write_segment(pace, batch, &there, shared.pass.begin)? else { return Ok(None) };
            there.retain(|older| !segment.replaces(older));
            there.push(*segment.extent());
            segments.push(segment);
        }
        let start = Instant::now();
        let mut writing = self.storage.writing()?;
        writing.put("shared", SEGMENTS, &postcard::to_stdvec(&there).expect("it serialises to memory"))?;
        writing.put("shared", b"organisation", &shared.organisation)?;
        writing.put("shared", b"pass", &postcard::to_stdvec(&shared.pass).expect("it serialises to memory"))?;
        Ok(pace.commit(writing, shared.pass.begin, start.elapsed())?.then_some(segments))
    }

    /// Removes the parts of segments that are not `there`: merged into others, of dates that are forgotten, or of a pass that did not end.
    fn remove_leftovers(&self, pace: &Pace<'_, impl Ways>, there: &[Extent]) -> Result<bool, StorageError> {
        let names: Vec<_> = there.iter().map(Extent::name).collect();
        let mut from = vec![0];
        loop {
            let start = Instant::now();
            let mut stale = Vec::new();
            let reading = self.storage.reading()?;
            for pair in reading.from("keys", &from)? {
                let (key, _) = pair?;
                if !names.iter().any(|name| key.starts_with(name)) {
                    stale.push(key.to_vec());
                }
                if stale.len() == STALE_PARTS {
                    break;
                }
            }
            drop(reading);
            let Some(last) = stale.last() else { return Ok(true) };
            from.clone_from(last);
            let mut writing = self.storage.writing()?;
            for key in &stale {
                writing.delete("keys", key)?;
            }
            if !pace.commit(writing, 0, start.elapsed())? {
                return Ok(false);
            }
        }
    }

    fn write_segment(
        &self,
        pace: &Pace<'_, impl Ways>,
        batch: &Batch,
        there: &[Extent],
        until: u64,
    ) -> Result<Option<Segment>, StorageError> {
        let mut start = Instant::now();
        let mut merging = batch.merge(there);
        let mut value = Vec::new();
        loop {
            let reading = self.storage.reading()?;
            let mut writing = self.storage.writing()?;
            let mut bytes = 0;
            while bytes < pace.commit_bytes() {
                let Some(key) = merging.next_part(&reading, &mut value)? else { break };
                writing.put("keys", &key, &value)?;
                bytes += value.len();
            }
            // No reading outlives a commit.
            drop(reading);
            if bytes == 0 {
                return Ok(Some(merging.finish()));
            }
            if !pace.commit(writing, until, start.elapsed())? {
                return Ok(None);
            }
            start = Instant::now();
        }
    }
}

/// Reads so many names; those that came after the pass began, replay gives.
fn load_names(reading: &Reading, machine: &mut Machine, count: u32) -> Result<(), CheckpointError> {
    let damaged = || CheckpointError::Damaged("names");
    for pair in reading.from("names", &[0; 4])?.take(count as usize) {
        let (key, value) = pair?;
        let name: Name = postcard::from_bytes(value).map_err(|_| damaged())?;
        if *key != machine.names.push(name).to_be_bytes() {
            return Err(damaged());
        }
    }
    if machine.names.len() == count { Ok(()) } else { Err(damaged()) }
}

/// Reads the wallets of the cards that there were when the pass began.
fn load_wallets(reading: &Reading, machine: &mut Machine) -> Result<(), CheckpointError> {
    for pair in reading.from("wallets", &[0; 4])? {
        let (_, value) = pair?;
        for wallet in wallets::decode(value).ok_or(CheckpointError::Damaged("wallets"))? {
            if wallet.card < machine.cards.len() {
                machine.add_wallet(wallet);
            }
        }
    }
    // They are as they are written.
    machine.wallets.take_changed();
    machine.wallets.loaded = true;
    Ok(())
}

/// What a pass keeps to at each commit.
struct Pace<'a, W> {
    ways: &'a W,
    begin: u64,
}

impl<W: Ways> Pace<'_, W> {
    fn commit_bytes(&self) -> usize {
        if self.ways.hurries(self.begin) { COMMIT_BYTES_HURRY } else { COMMIT_BYTES }
    }

    /// Commits, when the journal is durable below `until`, what was the work of so long, and rests; false if it never will be.
    fn commit(&self, writing: Writing<'_>, until: u64, took: Duration) -> Result<bool, StorageError> {
        if !self.ways.durable(until) {
            return Ok(false);
        }
        let start = Instant::now();
        writing.commit()?;
        self.ways.rest(self.begin, took + start.elapsed());
        Ok(true)
    }
}

/// Segments of the newest complete pass; None if their list is damaged.
fn segments_of(reading: &Reading) -> Result<Option<Vec<Extent>>, StorageError> {
    let list = reading.get("shared", SEGMENTS)?;
    Ok(list.map_or(Some(Vec::new()), |list| postcard::from_bytes(list).ok()))
}

fn chunk_key(number: usize) -> [u8; 4] {
    (number as u32).to_be_bytes()
}

/// A checkpoint that cannot be used. Without one the journal alone gives the state.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// LMDB or the disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It is not what was written.
    #[error("the checkpoint is damaged ({0}); move its directory away: it is rebuilt from the journal")]
    Damaged(&'static str),
    /// It is another journal's.
    #[error("the checkpoint belongs to another journal; move its directory away: it is rebuilt from the journal")]
    OtherJournal,
    /// The journal ends before it.
    #[error(
        "the checkpoint begins at entry {begin}, but the journal ends before it: journal entries were lost; restore the data directory"
    )]
    Ahead {
        /// Where replay would start.
        begin: u64,
    },
}

/// SHA-256 of the whole state in a canonical order: organisation and books, cards by index, wallets by card, names by place, marks by sequence.
pub fn state_digest(machine: &Machine) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(postcard::to_stdvec(&machine.organisation).expect("it serialises to memory"));
    let mut records = Vec::new();
    for chunk in 0..machine.cards.chunks() {
        records.clear();
        machine.cards.copy_chunk(chunk, &mut records);
        hash.update(records.as_bytes());
    }
    let mut wallets: Vec<&Wallet> = machine.wallets.iter().collect();
    wallets.sort_unstable_by_key(|wallet| wallet.card);
    for wallet in wallets {
        hash.update(postcard::to_stdvec(wallet).expect("it serialises to memory"));
    }
    for place in 0..machine.names.len() {
        hash.update(postcard::to_stdvec(machine.names.get(place)).expect("it serialises to memory"));
    }
    for (sequence, mark) in machine.marks() {
        hash.update(sequence.to_le_bytes());
        hash.update(postcard::to_stdvec(mark).expect("it serialises to memory"));
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_version_s_gives_way_and_a_foreign_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        let names = TABLES;
        for version in 1..VERSION {
            drop(Storage::open(&path, 1 << 20, names, &format(version)).unwrap());
            let (_, _, begin) = Checkpoint::open(&path, 1 << 20, [7; 16]).unwrap().load().unwrap();
            assert_eq!(begin, 1, "all of the journal is replayed");
            Storage::remove(&path).unwrap();
        }
        Checkpoint::open(&path, 1 << 20, [7; 16]).unwrap();
        assert!(matches!(Checkpoint::open(&path, 1 << 20, [8; 16]), Err(CheckpointError::OtherJournal)));
        let foreign = directory.path().join("foreign");
        drop(Storage::open(&foreign, 1 << 20, names, "onecard checkpoint 99").unwrap());
        assert!(Checkpoint::open(&foreign, 1 << 20, [7; 16]).is_err() && foreign.exists());
    }
}
