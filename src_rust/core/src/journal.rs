//! The journal: packed blocks of entries, chained by SHA-256, appended and never changed.
//!
//! [`Journal`] is the seam: [`LmdbJournal`] keeps the blocks in an LMDB environment, and no other part knows it.
//! `docs/journal-format.md` describes every byte.

pub mod detail;
pub mod entry;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::journal::entry::{Entry, Malformed, Place, Transaction};
use crate::page_cache::PageCache;
use crate::storage::{Storage, StorageError};

const MAGIC: &[u8; 4] = b"OCJ2";
const FORMAT: &str = "onecard journal 3";
/// Bytes before the entries.
const HEADER: usize = 64;
/// So much of its end stays in the system's memory: some millions of entries, what retries and reversals are mostly about.
const CACHED_BYTES: u64 = 256 << 20;
/// Bytes of a hash.
pub const HASH: usize = 32;

/// A journal that cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// LMDB or the disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A block is not what was written.
    #[error("the journal is damaged in the block of entry {sequence}: {what}; restore the data directory from a backup")]
    Damaged {
        /// First entry of the block.
        sequence: u64,
        /// What is wrong.
        what: String,
    },
}

/// Where blocks go and come from.
pub trait Journal: Send + Sync {
    /// Identity of the journal, from its creation.
    fn id(&self) -> [u8; 16];
    /// Makes a block durable. Its first sequence follows the last entry's.
    fn append(&self, block: &SealedBlock<'_>) -> Result<(), JournalError>;
    /// Does after an append what can wait until those who asked are answered.
    fn tidy(&self);
    /// An entry; None beyond the end.
    fn entry(&self, sequence: u64) -> Result<Option<Entry>, JournalError>;
    /// The next sequence, and the hash that the next block follows.
    fn head(&self) -> Result<(u64, [u8; HASH]), JournalError>;
    /// Calls `visit` with every block from that of this entry on, in order, until it says false or fails.
    fn walk(&self, from: u64, visit: &mut Visit<'_>) -> Result<(), JournalError>;
    /// Bytes that may still be appended.
    fn room(&self) -> Result<u64, JournalError>;
}

/// What a walk does with each block.
pub type Visit<'a> = dyn FnMut(Block<'_>) -> Result<bool, JournalError> + 'a;

/// The blocks in an LMDB environment.
pub struct LmdbJournal {
    storage: Storage,
    cache: PageCache,
    id: [u8; 16],
}

impl LmdbJournal {
    /// Opens the journal, or makes it with this id.
    pub fn open(path: &Path, bytes_max: usize, new_id: [u8; 16]) -> Result<LmdbJournal, JournalError> {
        let storage = Storage::open(path, bytes_max, ["blocks"], FORMAT)?;
        let found = storage.reading()?.get("meta", b"id")?.map(<[u8; 16]>::try_from);
        let id = match found {
            Some(Ok(id)) => id,
            Some(Err(_)) => return Err(JournalError::Damaged { sequence: 0, what: "its id".into() }),
            None => {
                let mut writing = storage.writing()?;
                writing.put("meta", b"id", &new_id)?;
                writing.commit()?;
                new_id
            }
        };
        let cache = PageCache::of(&storage.file(), CACHED_BYTES);
        Ok(LmdbJournal { storage, cache, id })
    }
}

impl Journal for LmdbJournal {
    fn id(&self) -> [u8; 16] {
        self.id
    }

    fn append(&self, block: &SealedBlock<'_>) -> Result<(), JournalError> {
        let mut writing = self.storage.writing()?;
        writing.add("blocks", &block.first.to_be_bytes(), &[&block.header, block.body, &block.hash])?;
        Ok(writing.commit()?)
    }

    fn tidy(&self) {
        self.cache.appended(self.storage.size());
    }

    fn entry(&self, sequence: u64) -> Result<Option<Entry>, JournalError> {
        let reading = self.storage.reading()?;
        let Some((key, value)) = reading.at_or_before("blocks", &sequence.to_be_bytes())? else { return Ok(None) };
        let block = Block::open(key, value)?;
        if sequence < block.end() { block.entry(sequence).map(Some) } else { Ok(None) }
    }

    fn head(&self) -> Result<(u64, [u8; HASH]), JournalError> {
        let reading = self.storage.reading()?;
        let Some((key, value)) = reading.last("blocks")? else { return Ok((1, genesis(self.id))) };
        let block = Block::open(key, value)?;
        Ok((block.end(), block.hash()))
    }

    fn walk(&self, from: u64, visit: &mut Visit<'_>) -> Result<(), JournalError> {
        let reading = self.storage.reading()?;
        let before = reading.at_or_before("blocks", &from.to_be_bytes())?;
        let first = before.map_or([0; 8], |(key, _)| key.try_into().unwrap_or([0; 8]));
        for pair in reading.from("blocks", &first)? {
            let (key, value) = pair?;
            if !visit(Block::open(key, value)?)? {
                break;
            }
        }
        Ok(())
    }

    fn room(&self) -> Result<u64, JournalError> {
        Ok(self.storage.room()?)
    }
}

/// A block: header, entries, offsets, hash.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks a stored block's shape (not its hash) and that it lies under the right key.
    fn open(key: &[u8], value: &'a [u8]) -> Result<Block<'a>, JournalError> {
        let sequence = key.try_into().map(u64::from_be_bytes).unwrap_or(0);
        let block = Block { bytes: value };
        if value.len() < HEADER + HASH || &value[..4] != MAGIC {
            return Err(damaged(sequence, "no block of version 2"));
        }
        let shape = HEADER as u64 + u64::from(block.word(28)) + 4 * u64::from(block.word(4)) + HASH as u64;
        if shape != value.len() as u64 || block.word(4) == 0 || block.first() != sequence || sequence == 0 {
            return Err(damaged(sequence, "its length, count or sequence"));
        }
        Ok(block)
    }

    /// An error that names this block.
    pub fn damaged(&self, what: &str) -> JournalError {
        damaged(self.first(), what)
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    /// Sequence of its first entry.
    pub fn first(&self) -> u64 {
        u64::from_le_bytes(self.bytes[8..16].try_into().expect("eight bytes"))
    }

    /// Sequence after its last entry.
    pub fn end(&self) -> u64 {
        self.first().saturating_add(u64::from(self.word(4)))
    }

    /// All of it, as it lies in the journal.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn base(&self) -> i32 {
        self.word(24) as i32
    }

    /// Its own hash, as stored.
    pub fn hash(&self) -> [u8; HASH] {
        self.bytes[self.bytes.len() - HASH..].try_into().expect("a hash's bytes")
    }

    /// Checks the hash, and that the block follows one with this hash.
    pub fn check_chain(&self, previous: &[u8; HASH]) -> Result<(), JournalError> {
        self.check_hash()?;
        if self.bytes[32..32 + HASH] != *previous {
            return Err(self.damaged("it does not follow the block before it"));
        }
        Ok(())
    }

    /// Checks the hash alone.
    pub fn check_hash(&self) -> Result<(), JournalError> {
        let body = &self.bytes[..self.bytes.len() - HASH];
        if Sha256::digest(body)[..] == self.hash() {
            return Ok(());
        }
        Err(self.damaged("its hash does not match its content"))
    }

    /// The entry with this sequence, which must lie in the block.
    pub fn entry(&self, sequence: u64) -> Result<Entry, JournalError> {
        let mut entry = Entry::Transaction(Transaction::blank());
        self.read_entry(sequence, &mut entry)?;
        Ok(entry)
    }

    /// The same in place of an entry, whose room is used again.
    #[inline]
    pub fn read_entry(&self, sequence: u64, place: &mut Entry) -> Result<(), JournalError> {
        entry_bytes(self.bytes, self.bytes.len() - HASH, sequence, self.first())
            .and_then(|(bytes, beyond)| place.read(bytes, beyond, sequence, self.base()))
            .map_err(|what| self.damaged(&format!("entry {sequence}: {what}")))
    }
}

fn damaged(sequence: u64, what: &str) -> JournalError {
    JournalError::Damaged { sequence, what: what.into() }
}

/// The bytes of an entry in a block whose offset table ends at `table_end`, with some that follow it; and how many those are.
#[inline]
fn entry_bytes(bytes: &[u8], table_end: usize, sequence: u64, first: u64) -> Result<(&[u8], usize), Malformed> {
    let length = bytes.get(28..32).ok_or("header")?;
    let entries_end = HEADER + u32::from_le_bytes(length.try_into().map_err(|_| "header")?) as usize;
    let at = usize::try_from(sequence.checked_sub(first).ok_or("sequence")?).map_err(|_| "sequence")?;
    let table = bytes.get(entries_end..table_end).ok_or("offsets")?;
    let offset =
        |at: usize| -> Option<usize> { Some(u32::from_le_bytes(table.get(at * 4..at * 4 + 4)?.try_into().ok()?) as usize) };
    let start = offset(at).ok_or("offsets")?;
    let end = offset(at + 1).unwrap_or(entries_end);
    let beyond = bytes.len().saturating_sub(end).min(size_of::<u64>());
    let found = bytes.get(start..end + beyond).filter(|found| start >= HEADER && beyond <= found.len());
    found.map(|found| (found, beyond)).ok_or("offsets")
}

/// Hash that the first block follows.
pub fn genesis(id: [u8; 16]) -> [u8; HASH] {
    let mut hash = [0; HASH];
    hash[..16].copy_from_slice(&id);
    hash
}

/// A block being written: entries are appended, and can be read again before it is sealed.
pub struct BlockBuilder {
    /// Header and entries; what lies beyond `end` is room for more.
    bytes: Vec<u8>,
    end: usize,
    offsets: Vec<u32>,
    first: u64,
    base: i32,
}

impl BlockBuilder {
    /// An empty block whose first entry will have this sequence.
    pub fn new(first: u64) -> BlockBuilder {
        BlockBuilder { bytes: vec![0; HEADER], end: HEADER, offsets: Vec::new(), first, base: 0 }
    }

    /// True if it has no entries.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes so far, about.
    pub fn size(&self) -> usize {
        self.end + self.offsets.len() * 4 + HASH
    }

    /// Sequence of the next entry.
    #[inline]
    pub fn next(&self) -> u64 {
        self.first + self.offsets.len() as u64
    }

    /// Sequence of the first entry.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Appends an entry; the first transaction's date becomes the base date.
    pub fn push(&mut self, entry: &Entry) {
        match entry {
            Entry::Transaction(transaction) => self.push_transaction(transaction),
            _ => {
                let sequence = self.begin_entry();
                self.bytes.truncate(self.end);
                entry.encode(sequence, self.base, &mut self.bytes);
                self.end = self.bytes.len();
            }
        }
    }

    /// Appends a transaction.
    #[inline]
    pub fn push_transaction(&mut self, transaction: &Transaction) {
        if self.base == 0 {
            self.base = transaction.key.date;
        }
        let sequence = self.begin_entry();
        let end = self.end + transaction.bytes_max();
        if self.bytes.len() < end {
            self.bytes.resize(end * 2, 0);
        }
        let mut place = Place { bytes: &mut self.bytes[self.end..], len: 0 };
        transaction.encode(sequence, self.base, &mut place);
        self.end += place.len;
    }

    fn begin_entry(&mut self) -> u64 {
        let sequence = self.next();
        self.offsets.push(u32::try_from(self.end).expect("a group is far below 4 GiB"));
        sequence
    }

    /// Reads an entry that was appended before.
    pub fn entry(&self, sequence: u64) -> Result<Entry, JournalError> {
        let at = (sequence - self.first) as usize;
        let start = self.offsets[at] as usize;
        let end = self.offsets.get(at + 1).map_or(self.end, |&end| end as usize);
        Entry::decode(&self.bytes[start..end], sequence, self.base)
            .map_err(|what| JournalError::Damaged { sequence, what: format!("entry {sequence}, just written: {what}") })
    }

    /// Fills in the header but for the previous hash, and the offsets: all that the writer knows. The next block begins, in the room of an
    /// older one if there is any.
    pub fn finish(&mut self, stamp: u64, mut room: Vec<u8>) -> UnsealedBlock {
        room.resize(room.len().max(HEADER), 0);
        let (first, base, next) = (self.first, self.base, self.next());
        let mut bytes = std::mem::replace(&mut self.bytes, room);
        bytes.truncate(self.end);
        let entries = (bytes.len() - HEADER) as u32;
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&first.to_le_bytes());
        bytes[16..24].copy_from_slice(&stamp.to_le_bytes());
        bytes[24..28].copy_from_slice(&base.to_le_bytes());
        bytes[28..32].copy_from_slice(&entries.to_le_bytes());
        for offset in &self.offsets {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        self.offsets.clear();
        (self.end, self.first, self.base) = (HEADER, next, 0);
        UnsealedBlock { bytes: Arc::new(bytes), first, count: next - first, base }
    }
}

/// A block whose place in the chain is not yet known; its entries can be read.
#[derive(Clone)]
pub struct UnsealedBlock {
    bytes: Arc<Vec<u8>>,
    first: u64,
    count: u64,
    base: i32,
}

impl UnsealedBlock {
    /// Sequence after its last entry.
    pub fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Sequence of its first entry.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Bytes that it will take.
    pub fn size(&self) -> usize {
        self.bytes.len() + HASH
    }

    /// Its room, if nobody reads it any more.
    pub fn into_room(self) -> Vec<u8> {
        Arc::try_unwrap(self.bytes).unwrap_or_default()
    }

    /// Reads one of its entries.
    pub fn entry(&self, sequence: u64) -> Result<Entry, JournalError> {
        entry_bytes(&self.bytes, self.bytes.len(), sequence, self.first)
            .and_then(|(bytes, beyond)| Entry::decode(&bytes[..bytes.len() - beyond], sequence, self.base))
            .map_err(|what| JournalError::Damaged { sequence, what: format!("entry {sequence}, not yet synced: {what}") })
    }

    /// Puts it into the chain.
    pub fn seal(&self, previous: &[u8; HASH]) -> SealedBlock<'_> {
        let (header, body) = self.bytes.split_at(HEADER);
        let mut header: [u8; HEADER] = header.try_into().expect("a header's bytes");
        header[HEADER - HASH..].copy_from_slice(previous);
        let mut hash = Sha256::new();
        hash.update(header);
        hash.update(body);
        SealedBlock { header, body, hash: hash.finalize().into(), first: self.first }
    }
}

/// A block that is in the chain, ready to be appended. Its bytes are in parts, because a group's are too many to copy.
pub struct SealedBlock<'a> {
    header: [u8; HEADER],
    body: &'a [u8],
    hash: [u8; HASH],
    first: u64,
}

impl SealedBlock<'_> {
    /// The hash that the next block follows.
    pub fn hash(&self) -> [u8; HASH] {
        self.hash
    }
}
