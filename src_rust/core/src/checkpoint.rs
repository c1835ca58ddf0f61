//! The checkpoint: state on disk, written behind, so that opening replays only the journal's tail.
//!
//! A pass begins between two groups at a sequence *B*. What is shared (organisation, keys) is copied there and then; marks and cards
//! are copied piece by piece afterwards. A card carries the sequence of its newest entry, a mark says how far its transaction is undone in all.
//! Recovery replays from *B* of the newest complete pass; a card skips what it already holds, a mark ends where the journal ends. Nothing is committed here before the journal is durable up to what it holds. Nothing is copied while a
//! day's growth is being granted.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::cards::chunk::{ChunkMut, encode};
use crate::cards::{CHUNK, CardRecord, Cards};
use crate::keys::{Batch, Discarded, Keys, Segment, segment_len};
use crate::machine::{Machine, Mark};
use crate::organisation::Organisation;
use crate::storage::{Reading, Storage, StorageError, Writing};

const FORMAT: &str = "onecard checkpoint 2";
/// What earlier versions wrote. It is given up: the journal gives the state.
const FORMAT_BEFORE: &str = "onecard checkpoint 1";
/// Bytes written before they are committed, while a pass is under way: few, because groups of the journal wait behind them for the disk.
const COMMIT_BYTES: usize = 1 << 20;
/// What a mark adds to them: a record in a page that is most likely its own.
const MARK_BYTES: usize = 4096;
/// Marks that are copied at once.
const MARKS: usize = 1024;
/// Chunks between the thread that reads cards and the one that indexes them.
const CHUNKS_MAX: usize = 4;

/// What the newest complete pass says of itself.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Pass {
    /// Replay starts here.
    pub begin: u64,
    /// Cards that there were.
    cards: u32,
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
    marks: BTreeSet<u64>,
    since: u64,
    chunk: usize,
    chunks: usize,
}

/// A step of a pass on its way to the thread that writes it.
pub enum Step {
    /// A chunk of cards, as it was before the entry with sequence `before`.
    #[allow(missing_docs)]
    Chunk { number: usize, records: Vec<CardRecord>, before: u64 },
    /// Marks, likewise.
    #[allow(missing_docs)]
    Marks { marks: Vec<(u64, Mark)>, before: u64 },
    /// What is to be dropped, of no pass.
    Discard(Box<Discarded>),
    /// The end of the pass.
    Finish(Box<Shared>),
}

impl Copying {
    /// Begins a pass at the next sequence. `since` is the begin of the one before.
    pub fn begin(machine: &mut Machine, keys: &mut Keys, begin: u64, since: u64) -> Copying {
        let pass = Pass { begin, cards: machine.cards.len() };
        let organisation = postcard::to_stdvec(&machine.organisation).expect("it serialises to memory");
        let forget_before = keys.first_date().unwrap_or(i32::MIN);
        let shared = Shared { pass, organisation, keys: keys.seal(begin), forget_before };
        let (marks, chunks) = (machine.take_changed_marks(), machine.cards.chunks());
        Copying { shared: Some(shared), marks, since, chunk: 0, chunks }
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
        if !self.marks.is_empty() {
            let marks = std::iter::from_fn(|| self.marks.pop_first()).take(MARKS);
            return Some(Step::Marks { marks: marks.map(|sequence| (sequence, machine.mark(sequence))).collect(), before });
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
        let open = || Storage::open(path, bytes_max, ["cards", "shared", "marks", "keys"], FORMAT);
        let storage = match open() {
            Err(error) if error.holds(FORMAT_BEFORE) => {
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
        let mut keys = Keys::default();
        let reading = self.storage.reading()?;
        let Some(pass) = reading.get("shared", b"pass")? else { return Ok((machine, keys, 1)) };
        let pass: Pass = postcard::from_bytes(pass).map_err(|_| CheckpointError::Damaged("pass"))?;
        let organisation = reading.get("shared", b"organisation")?.ok_or(CheckpointError::Damaged("organisation"))?;
        let organisation: Organisation =
            postcard::from_bytes(organisation).map_err(|_| CheckpointError::Damaged("organisation"))?;
        machine.organisation = organisation;
        machine.organisation.index();
        machine.cards = self.load_cards(&reading, pass.cards, &machine.organisation)?;
        for pair in reading.from("marks", &[0; 8])? {
            let (key, value) = pair?;
            let sequence = key.try_into().map(u64::from_be_bytes).map_err(|_| CheckpointError::Damaged("marks"))?;
            machine.set_mark(sequence, postcard::from_bytes(value).map_err(|_| CheckpointError::Damaged("marks"))?);
        }
        for pair in reading.from("keys", &[0; 1])? {
            let (key, value) = pair?;
            keys.add_segment(Segment::open(key, value).ok_or(CheckpointError::Damaged("keys"))?);
        }
        Ok((machine, keys, pass.begin))
    }

    /// Reads so many cards: one thread decodes, this one indexes.
    fn load_cards(&self, reading: &Reading, count: u32, organisation: &Organisation) -> Result<Cards, CheckpointError> {
        // A later pass that did not end may have written cards that replay will issue; fewer there cannot be.
        if reading.count("cards")? < (count as usize).div_ceil(CHUNK) {
            return Err(CheckpointError::Damaged("cards"));
        }
        let mut cards = Cards::blank(count);
        let (chunks, mut index) = cards.parts();
        let (full_in, full) = bounded::<Vec<u64>>(CHUNKS_MAX);
        let (spare_in, spare) = bounded(CHUNKS_MAX + 2);
        thread::scope(|scope| {
            let decoding = scope.spawn(move || self.decode_cards(chunks, organisation, &full_in, &spare));
            for hashes in full {
                index.add(&hashes);
                let _ = spare_in.try_send(hashes);
            }
            decoding.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        Ok(cards)
    }

    fn decode_cards<'a>(
        &self,
        chunks: impl Iterator<Item = ChunkMut<'a>>,
        organisation: &Organisation,
        full: &Sender<Vec<u64>>,
        spare: &Receiver<Vec<u64>>,
    ) -> Result<(), CheckpointError> {
        let reading = self.storage.reading()?;
        let mut values = reading.from("cards", &[0; 4])?;
        // Cards that follow each other are nearly always alike.
        let mut known = None;
        let mut accept = |record: &CardRecord| {
            let what = (record.card.programme, record.card.product, record.card.merchant);
            if known != Some(what) && organisation.may_have_card(what.0, what.1, what.2) {
                known = Some(what);
            }
            known == Some(what)
        };
        for (number, chunk) in chunks.enumerate() {
            let (key, value) = values.next().ok_or(CheckpointError::Damaged("cards"))??;
            let mut hashes = spare.try_recv().unwrap_or_default();
            hashes.clear();
            let decoded = chunk.decode(value, &mut hashes, &mut accept).filter(|()| key == chunk_key(number));
            decoded.ok_or(CheckpointError::Damaged("cards"))?;
            // The other end lives as long as this one.
            let _ = full.send(hashes);
        }
        Ok(())
    }

    /// Writes passes as their steps come, until `next` gives none. Waits with `durable` before each commit; tells
    /// `written` of each complete pass, or of why it failed. Gives the room of a chunk back to `spare`.
    pub fn write(
        &self,
        next: impl Fn() -> Option<Step>,
        durable: impl Fn(u64) -> bool,
        spare: impl Fn(Vec<CardRecord>),
        mut written: impl FnMut(Result<Vec<Segment>, StorageError>),
    ) {
        let mut chunk = Vec::new();
        loop {
            match self.write_pass(&next, &durable, &spare, &mut chunk) {
                Ok(Some(segments)) => written(Ok(segments)),
                Ok(None) => return,
                Err(error) => {
                    // The rest of this pass is worth nothing.
                    while !matches!(next(), None | Some(Step::Finish(_))) {}
                    written(Err(error));
                }
            }
        }
    }

    fn write_pass(
        &self,
        next: &impl Fn() -> Option<Step>,
        durable: &impl Fn(u64) -> bool,
        spare: &impl Fn(Vec<CardRecord>),
        chunk: &mut Vec<u8>,
    ) -> Result<Option<Vec<Segment>>, StorageError> {
        let mut steps = std::iter::from_fn(next).filter(|step| !matches!(step, Step::Discard(_))).peekable();
        while steps.peek().is_some() {
            let mut writing = self.storage.writing()?;
            let (mut bytes, mut until) = (0, 0);
            let mut finished = None;
            while bytes < COMMIT_BYTES && finished.is_none() {
                match steps.next() {
                    None | Some(Step::Discard(_)) => return Ok(None),
                    Some(Step::Chunk { number, records, before }) => {
                        chunk.clear();
                        encode(&records, chunk);
                        spare(records);
                        writing.put("cards", &chunk_key(number), chunk)?;
                        bytes += chunk.len();
                        until = until.max(before);
                    }
                    Some(Step::Marks { marks, before }) => {
                        for (sequence, mark) in marks {
                            let mark = postcard::to_stdvec(&mark).expect("it serialises to memory");
                            writing.put("marks", &sequence.to_be_bytes(), &mark)?;
                            bytes += MARK_BYTES;
                        }
                        until = until.max(before);
                    }
                    Some(Step::Finish(shared)) => {
                        until = until.max(shared.pass.begin);
                        finished = Some(self.write_shared(&mut writing, &shared)?);
                    }
                }
            }
            if !durable(until) {
                return Ok(None);
            }
            writing.commit()?;
            if finished.is_some() {
                return Ok(finished);
            }
        }
        Ok(None)
    }

    fn write_shared(&self, writing: &mut Writing<'_>, shared: &Shared) -> Result<Vec<Segment>, StorageError> {
        let reading = self.storage.reading()?;
        let mut segments = Vec::new();
        for pair in reading.from("keys", &[0; 1])? {
            let (key, _) = pair?;
            if key < &shared.forget_before.to_be_bytes()[..] && shared.forget_before > 0 {
                writing.delete("keys", key)?;
            }
        }
        for batch in &shared.keys {
            // Small segments are merged into the next one, so that a date has few of them.
            let newest = reading.at_or_before("keys", &segment_end(batch.date))?;
            let older = newest
                .filter(|(key, value)| key.starts_with(&batch.date.to_be_bytes()) && segment_len(value) <= 2 * batch.count());
            let (segment, value) = batch.segment(older);
            if let Some((key, _)) = older {
                writing.delete("keys", key)?;
            }
            writing.put("keys", &segment.storage_key(), &value)?;
            segments.push(segment);
        }
        writing.put("shared", b"organisation", &shared.organisation)?;
        writing.put("shared", b"pass", &postcard::to_stdvec(&shared.pass).expect("it serialises to memory"))?;
        Ok(segments)
    }
}

fn chunk_key(number: usize) -> [u8; 4] {
    (number as u32).to_be_bytes()
}

fn segment_end(date: i32) -> [u8; 12] {
    let mut key = [0xff; 12];
    key[..4].copy_from_slice(&date.to_be_bytes());
    key
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

/// SHA-256 of the whole state in a canonical order: organisation and books, cards by index, marks by sequence.
pub fn state_digest(machine: &Machine) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(postcard::to_stdvec(&machine.organisation).expect("it serialises to memory"));
    let mut records = Vec::new();
    for chunk in 0..machine.cards.chunks() {
        records.clear();
        machine.cards.copy_chunk(chunk, &mut records);
        hash.update(records.as_bytes());
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
        let names = ["cards", "shared", "marks", "keys"];
        drop(Storage::open(&path, 1 << 20, names, FORMAT_BEFORE).unwrap());
        let (_, _, begin) = Checkpoint::open(&path, 1 << 20, [7; 16]).unwrap().load().unwrap();
        assert_eq!(begin, 1, "all of the journal is replayed");
        Checkpoint::open(&path, 1 << 20, [7; 16]).unwrap();
        assert!(matches!(Checkpoint::open(&path, 1 << 20, [8; 16]), Err(CheckpointError::OtherJournal)));
        let foreign = directory.path().join("foreign");
        drop(Storage::open(&foreign, 1 << 20, names, "onecard checkpoint 9").unwrap());
        assert!(Checkpoint::open(&foreign, 1 << 20, [7; 16]).is_err() && foreign.exists());
    }
}
