//! The data directory: who owns it, and what is in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::journal::{Journal, LmdbJournal};
use crate::members::Members;

/// An owned data directory; the lock is given back when it is dropped.
pub struct Directory {
    path: PathBuf,
    _lock: File,
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

    /// Opens the members.
    pub fn members(&self) -> Result<Members, Error> {
        Ok(Members::open(&self.path.join("members"))?)
    }

    /// True if there is a journal; a directory without one is new.
    pub fn has_journal(&self) -> bool {
        self.path.join("journal").join("data.mdb").exists()
    }
}
