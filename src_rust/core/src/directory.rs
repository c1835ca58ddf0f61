//! The data directory: who owns it, and the way from its files to the state.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::iter;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::error::Error;
use crate::journal::entry::Entry;
use crate::journal::{Journal, LmdbJournal, genesis};
use crate::keys::Keys;
use crate::machine::Machine;

/// An owned data directory; the lock is given back when it is dropped.
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// State as of the journal's end.
pub struct Recovered {
    /// All accounts.
    pub machine: Machine,
    /// Keys in the window.
    pub keys: Keys,
    /// Where replay began.
    pub checkpointed: u64,
}

impl Directory {
    /// Takes the directory, made if it is not there.
    pub fn own(path: &Path) -> Result<Directory, Error> {
        let fail = |what: std::io::Error| Error::Directory { path: path.to_owned(), what: what.to_string() };
        if !path.exists() {
            fs::create_dir_all(path).map_err(fail)?;
            // The name of a new directory is durable when its parent is synced.
            let parent = path.canonicalize().map_err(fail)?.parent().map(File::open);
            parent.transpose().map_err(fail)?.map_or(Ok(()), |parent| parent.sync_all()).map_err(fail)?;
        }
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = lock.read_to_string(&mut pid);
                let pid = if read.is_ok() && !pid.is_empty() { pid.trim().to_owned() } else { "unknown".into() };
                return Err(Error::InUse { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        lock.set_len(0).map_err(fail)?;
        lock.rewind().map_err(fail)?;
        writeln!(lock, "{}", std::process::id()).map_err(fail)?;
        Ok(Directory { path: path.to_owned(), _lock: lock })
    }

    /// Opens the journal, made with this id if there is none.
    pub fn journal(&self, bytes_max: usize, new_id: [u8; 16]) -> Result<LmdbJournal, Error> {
        Ok(LmdbJournal::open(&self.path.join("journal"), bytes_max, new_id)?)
    }

    /// Opens the checkpoint of this journal.
    pub fn checkpoint(&self, bytes_max: usize, journal: &dyn Journal) -> Result<Checkpoint, Error> {
        Ok(Checkpoint::open(&self.path.join("checkpoint"), bytes_max, journal.id())?)
    }

    /// True if there is a journal; a directory without one is new.
    pub fn has_journal(&self) -> bool {
        self.path.join("journal").join("data.mdb").exists()
    }
}

/// Checkpoint and journal tail: the state.
pub fn recover(journal: &dyn Journal, checkpoint: &Checkpoint) -> Result<Recovered, Error> {
    let (mut machine, mut keys, begin) = checkpoint.load()?;
    if journal.head()?.0 < begin {
        return Err(CheckpointError::Ahead { begin }.into());
    }
    replay(journal, begin, &mut machine, &mut keys, &mut |_| true)?;
    Ok(Recovered { machine, keys, checkpointed: begin })
}

/// Applies all entries from `begin` on. The chain is checked from the block before; `progress` hears of each block's end, and
/// stops the walk by saying false.
pub fn replay(
    journal: &dyn Journal,
    begin: u64,
    machine: &mut Machine,
    keys: &mut Keys,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Error> {
    let mut previous = (begin == 1).then(|| genesis(journal.id()));
    let mut failed = None;
    let mut next = begin;
    journal.walk(begin.saturating_sub(1).max(1), &mut |block| {
        match &previous {
            Some(hash) => block.check_chain(hash)?,
            None => block.check_hash()?,
        }
        previous = Some(block.hash());
        if block.end() <= begin {
            return Ok(true);
        }
        if block.first() > next {
            return Err(block.damaged(&format!("entries {next} to {} are missing before it", block.first() - 1)));
        }
        for sequence in block.first().max(begin)..block.end() {
            let entry = block.entry(sequence)?;
            if let Err(what) = machine.replay(&entry, sequence) {
                failed = Some(Error::Contradiction { sequence, what });
                return Ok(false);
            }
            match &entry {
                Entry::Transaction(transaction) => {
                    for key in iter::once(&transaction.key).chain(transaction.marked_key()) {
                        keys.insert(key.date, key.hash(), sequence);
                    }
                }
                Entry::DayClosed(_) => forget_old_keys(keys, machine),
                _ => {}
            }
        }
        next = block.end();
        Ok(progress(next))
    })?;
    failed.map_or(Ok(()), Err)
}

/// Drops the keys of days that no programme's window has any more.
pub fn forget_old_keys(keys: &mut Keys, machine: &Machine) {
    let opens = machine.organisation.programmes.iter().map(|programme| programme.calendar.open);
    if let Some(oldest) = opens.min() {
        keys.forget_before(oldest - crate::calendar::WINDOW_DAYS + 1);
    }
}
