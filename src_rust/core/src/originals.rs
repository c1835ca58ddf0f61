//! Earlier entries that a request names: by their sequence, or by the key that they were sent with.

use crate::commands::Original;
use crate::error::Error;
use crate::journal::JournalError;
use crate::journal::entry::{Change, Entry, Transaction};
use crate::keys::{Key, Keys};
use crate::machine::Found;
use crate::organisation::Programme;
use crate::storage::{Reading, StorageError};

/// What came before a request.
pub trait Past {
    /// Keys in the window.
    fn keys(&self) -> &Keys;
    /// Any entry; None beyond the end.
    fn entry(&self, sequence: u64) -> Result<Option<Entry>, JournalError>;
    /// Where keys lie that are not in memory.
    fn reading(&self) -> Result<Reading, StorageError>;
}

/// An entry and its sequence: in a box, because nearly always there is none, and that is to cost nothing.
pub type Earlier = Box<(u64, Transaction)>;

/// An original as it was looked up.
#[allow(missing_docs)] // as in `Found`
pub enum Named {
    Nothing,
    UnknownKey,
    Marked,
    Entry(Earlier),
}

impl Named {
    /// The same as the machine takes it.
    pub fn found(&self) -> Found<'_> {
        match self {
            Named::Nothing => Found::Nothing,
            Named::UnknownKey => Found::UnknownKey,
            Named::Marked => Found::Marked,
            Named::Entry(earlier) => Found::Entry(earlier.0, &earlier.1),
        }
    }
}

/// The entry that a key with this date and hash belongs to, or the reversal that marked it. The key is only made if it is
/// compared with another: nearly always there is none.
#[inline]
pub fn find_by_key(past: &impl Past, date: i32, hash: u64, key: impl Fn() -> Key) -> Result<Option<Earlier>, Error> {
    let mut earlier = None;
    let is = |sequence: u64| -> Result<bool, Error> {
        let Some(Entry::Transaction(found)) = past.entry(sequence)? else { return Ok(false) };
        let key = key();
        let same = found.key == key || marks(&found, &key);
        earlier = same.then(|| Box::new((sequence, found)));
        Ok(same)
    };
    past.keys().find(date, hash, is, || past.reading())?;
    Ok(earlier)
}

/// The original that a request of a programme names.
#[cold]
pub fn find_original(past: &impl Past, programme: &Programme, named: Original) -> Result<Named, Error> {
    match named {
        Original::Sequence(sequence) => Ok(match past.entry(sequence)? {
            Some(Entry::Transaction(entry)) if entry.key.programme == programme.number => {
                Named::Entry(Box::new((sequence, entry)))
            }
            _ => Named::Nothing,
        }),
        Original::Key(key) if !programme.calendar.in_window(key.date) => Ok(Named::Nothing),
        Original::Key(key) => Ok(match find_by_key(past, key.date, key.hash(), || key)? {
            Some(earlier) if earlier.1.key == key => Named::Entry(earlier),
            Some(_) => Named::Marked,
            None => Named::UnknownKey,
        }),
    }
}

/// True if the entry is a reversal that came before the transaction with this key.
fn marks(entry: &Transaction, key: &Key) -> bool {
    entry.changes.first() == Some(&Change::Marked) && entry.original == Some(Original::Key(*key))
}
