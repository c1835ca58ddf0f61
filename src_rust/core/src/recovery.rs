//! The way from the files to the state: the newest checkpoint, and the journal's tail applied to it.
//!
//! The tail is read by one thread - hashes, chain, decoding - and applied by another, a thousand entries at a time; the memory that
//! applying needs is asked for ahead. Whatever is damaged is an error that says where, and nothing that follows it is applied.

use std::panic::resume_unwind;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::error::Error;
use crate::journal::entry::{CardRef, Entry, Transaction};
use crate::journal::{Block, Journal, genesis};
use crate::keys::{KeyName, Keys};
use crate::machine::Machine;
use crate::memory::prefetch;
use crate::organisation::terminal_hash;

/// Entries that are handed over at once: few enough to stay in the cache, so many that waking the other thread is little beside them.
const BATCH: usize = 1024;
/// Batches on their way.
const BATCHES_MAX: usize = 4;
/// Keys that room is made for at once.
const KEYS_MAX: usize = 16 << 20;
/// Stores that are remembered.
const STORES: usize = 16_384;
/// Entries whose memory is asked for together.
const AHEAD: usize = 32;

/// State as of the journal's end.
pub struct Recovered {
    /// All accounts.
    pub machine: Machine,
    /// Keys in the window.
    pub keys: Keys,
    /// Where replay began.
    pub checkpointed: u64,
}

/// Checkpoint and journal tail: the state.
pub fn recover(journal: &dyn Journal, checkpoint: &Checkpoint) -> Result<Recovered, Error> {
    let (mut machine, mut keys, begin) = checkpoint.load()?;
    let Some(tail) = journal.head()?.0.checked_sub(begin) else {
        return Err(CheckpointError::Ahead { begin }.into());
    };
    // Nearly all of the tail's keys are of the open day.
    if let Some(open) = machine.organisation.programmes.iter().map(|programme| programme.calendar.open).max() {
        keys.make_room(open, usize::try_from(tail).unwrap_or(KEYS_MAX).min(KEYS_MAX));
    }
    replay(journal, begin, &mut machine, &mut keys, &mut |_| true)?;
    Ok(Recovered { machine, keys, checkpointed: begin })
}

/// Applies all entries from `begin` on. The chain is checked from the block before; `progress` hears now and then which sequence is
/// next, at the end too, and stops the walk by saying false.
pub fn replay(
    journal: &dyn Journal,
    begin: u64,
    machine: &mut Machine,
    keys: &mut Keys,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Error> {
    let (full_in, full) = bounded(BATCHES_MAX);
    let (spare_in, spare) = bounded(BATCHES_MAX + 2);
    thread::scope(|scope| {
        let reading = scope.spawn(move || read_tail(journal, begin, &full_in, &spare));
        let mut stores = Stores::new();
        for batch in full {
            let batch: Batch = batch;
            batch.apply(machine, keys, &mut stores)?;
            if !progress(batch.end()) {
                return Ok(());
            }
            let _ = spare_in.try_send(batch);
        }
        reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Entries that follow each other.
#[derive(Default)]
struct Batch {
    first: u64,
    len: usize,
    /// With the hashes of their keys; those after `len` are there to be used again.
    entries: Vec<(Entry, u64)>,
}

impl Batch {
    fn end(&self) -> u64 {
        self.first + self.len as u64
    }

    /// Adds the next entry of a block.
    fn read(&mut self, block: &Block<'_>, sequence: u64) -> Result<(), Error> {
        if self.len == self.entries.len() {
            self.entries.push((Entry::Transaction(Transaction::blank()), 0));
        }
        let (entry, hash) = &mut self.entries[self.len];
        block.read_entry(sequence, entry)?;
        if let Entry::Transaction(transaction) = entry {
            *hash = transaction.key.hash();
        }
        self.len += 1;
        Ok(())
    }

    fn apply(&self, machine: &mut Machine, keys: &mut Keys, stores: &mut Stores) -> Result<(), Error> {
        let mut sequence = self.first;
        for entries in self.entries[..self.len].chunks(AHEAD) {
            look_ahead(entries, machine, keys, stores);
            for (entry, hash) in entries {
                let store = match entry {
                    // Looked for again: what was not there before may have been registered in between.
                    Entry::Transaction(transaction) => stores.find(machine, transaction),
                    _ => None,
                };
                machine.replay(entry, store, sequence).map_err(|what| Error::Contradiction { sequence, what })?;
                match entry {
                    Entry::Transaction(transaction) => {
                        keys.insert(transaction.key.date, *hash, sequence);
                        transaction.marked_key().iter().for_each(|key| keys.insert(key.date, key.hash(), sequence));
                    }
                    Entry::DayClosed(_) => drop(forget_old_keys(keys, machine)),
                    _ => {}
                }
                sequence += 1;
            }
        }
        Ok(())
    }
}

/// Asks for all memory that the entries will need, in the order in which one place leads to the next.
#[inline]
fn look_ahead(entries: &[(Entry, u64)], machine: &Machine, keys: &Keys, stores: &mut Stores) {
    for (transaction, _) in transactions(entries) {
        if let KeyName::Trace { terminal, .. } = transaction.key.name {
            machine.organisation.prefetch_terminal(terminal_hash(transaction.key.programme, terminal));
        }
    }
    for (transaction, hash) in transactions(entries) {
        keys.prefetch_place(transaction.key.date, hash);
        if let CardRef::Known { index, .. } = transaction.card {
            machine.cards.prefetch(index);
        }
        if let Some(store) = stores.find(machine, transaction) {
            prefetch(&machine.organisation.stores[store as usize]);
        }
    }
    for (transaction, _) in transactions(entries) {
        if let KeyName::Trace { terminal, .. } = transaction.key.name {
            machine.organisation.prefetch_likely_terminal(terminal_hash(transaction.key.programme, terminal));
        }
    }
}

/// The transactions among entries, with the hashes of their keys.
fn transactions(entries: &[(Entry, u64)]) -> impl Iterator<Item = (&Transaction, u64)> {
    entries.iter().filter_map(|(entry, hash)| match entry {
        Entry::Transaction(transaction) => Some((transaction, *hash)),
        _ => None,
    })
}

/// Where stores are found that were found before: their programme, number and index, by some bits of the number.
struct Stores(Vec<(u16, u32, Option<u32>)>);

impl Stores {
    fn new() -> Stores {
        Stores(vec![(0, 0, None); STORES])
    }

    /// Index of the store of a transaction. A store that is there stays where it is.
    #[inline]
    fn find(&mut self, machine: &Machine, transaction: &Transaction) -> Option<u32> {
        let (programme, number) = (transaction.key.programme, transaction.store);
        let known = &mut self.0[number as usize % STORES];
        if known.2.is_none() || (known.0, known.1) != (programme, number) {
            let organisation = &machine.organisation;
            *known = (programme, number, organisation.programme(programme).and_then(|at| organisation.store(at, number)));
        }
        known.2
    }
}

/// Sends all entries from `begin` on, until nobody takes them.
fn read_tail(journal: &dyn Journal, begin: u64, full: &Sender<Batch>, spare: &Receiver<Batch>) -> Result<(), Error> {
    let mut batch = Batch { first: begin, ..Batch::default() };
    let read = read_blocks(journal, begin, |block, sequence| {
        batch.read(block, sequence)?;
        if batch.len < BATCH {
            return Ok(true);
        }
        let next = Batch { first: batch.end(), len: 0, ..spare.try_recv().unwrap_or_default() };
        Ok(full.send(std::mem::replace(&mut batch, next)).is_ok())
    });
    // What is before the damage may contradict itself: that comes first.
    let _ = full.send(batch);
    read
}

/// Visits all entries from `begin` on, until `visit` says false. No entry is read before its block's hash and place in the chain are checked.
pub(crate) fn read_blocks(
    journal: &dyn Journal,
    begin: u64,
    mut visit: impl FnMut(&Block<'_>, u64) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut previous = (begin == 1).then(|| genesis(journal.id()));
    let mut next = begin;
    let mut failed = None;
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
            match visit(&block, sequence) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => {
                    failed = Some(error);
                    return Ok(false);
                }
            }
        }
        next = block.end();
        Ok(true)
    })?;
    failed.map_or(Ok(()), Err)
}

/// Takes out the keys of days that no programme's window has any more.
pub fn forget_old_keys(keys: &mut Keys, machine: &Machine) -> crate::keys::Discarded {
    let opens = machine.organisation.programmes.iter().map(|programme| programme.calendar.open);
    let oldest = opens.min().map_or(i32::MIN, |oldest| oldest - crate::calendar::WINDOW_DAYS + 1);
    keys.forget_before(oldest)
}
