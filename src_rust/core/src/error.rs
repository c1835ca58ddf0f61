//! What can go wrong with an engine; a refusal of a transaction is an answer, not an error.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::journal::JournalError;
use crate::storage::StorageError;

/// An engine that cannot do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A commit failed or the writer broke. What was not answered is unknown.
    #[error("the engine stopped: {0}; reopen it and send again, with the same key, what was not answered")]
    Poisoned(String),
    /// It was closed, or belongs to another process.
    #[error("{0}")]
    Closed(String),
    /// The rules' tables are wrong.
    #[error("{0}")]
    Rules(String),
    /// The call itself is wrong.
    #[error("{0}")]
    Misuse(String),
    /// Another engine has the data directory.
    #[error("{path} is open in process {pid}; one engine owns a data directory at a time")]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// As the holder wrote it down.
        pid: String,
    },
    /// The data directory cannot be used.
    #[error("{path}: {what}")]
    Directory {
        /// The data directory.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// LMDB.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The journal contradicts itself.
    #[error("entry {sequence} of the journal contradicts the state before it: {what}")]
    Contradiction {
        /// The entry.
        sequence: u64,
        /// What does not fit.
        what: String,
    },
}
