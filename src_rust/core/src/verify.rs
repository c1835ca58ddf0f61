//! The auditor of a closed data directory: the whole journal, from nothing.
//!
//! Checks the chain, every entry's legs and balances, that growth meets its records, that the purses sum to the books, and that
//! the state rebuilt from nothing is the one of checkpoint and tail.

use std::path::Path;

use crate::accounts::Account;
use crate::checkpoint::state_digest;
use crate::directory::Directory;
use crate::error::Error;
use crate::journal::Journal;
use crate::keys::Keys;
use crate::machine::Machine;
use crate::recovery::{recover, replay};
use crate::units::Unit;

/// What was found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Entries in the journal.
    pub entries: u64,
    /// Blocks.
    pub blocks: u64,
    /// Bytes of blocks.
    pub bytes: u64,
    /// Cards.
    pub cards: u64,
    /// Hash of the last block.
    pub head: [u8; 32],
    /// For each programme the sums of all accounts in money and points: zero.
    pub sums: Vec<(u16, i128, i128)>,
    /// Digest of the state rebuilt from nothing.
    pub state: [u8; 32],
    /// Digest of the state of checkpoint and tail.
    pub checkpoint_state: [u8; 32],
    /// What is wrong, in words; empty if all is whole.
    pub problems: Vec<String>,
}

/// Verifies a closed data directory. `progress` hears of entries done and entries in all, and stops it by saying false. An error means
/// that the journal could not be walked to its end.
pub fn verify(path: &Path, bytes_max: usize, mut progress: impl FnMut(u64, u64) -> bool) -> Result<Verdict, Error> {
    let directory = Directory::own(path)?;
    if !directory.has_journal() {
        return Err(Error::Directory { path: path.to_owned(), what: "there is no journal in it".into() });
    }
    let journal = directory.journal(bytes_max, [0; 16])?;
    let (next, head) = journal.head()?;
    let mut machine = Machine::default();
    let mut keys = Keys::default();
    let (mut blocks, mut bytes) = (0, 0);
    journal.walk(1, &mut |block| {
        blocks += 1;
        bytes += block.bytes().len() as u64;
        Ok(true)
    })?;
    let mut reached = 1;
    replay(&journal, 1, &mut machine, &mut keys, &mut |done| {
        reached = done;
        progress(done - 1, next - 1)
    })?;
    if reached != next {
        return Err(Error::Misuse(format!("stopped after entry {} of {}", reached - 1, next - 1)));
    }
    drop(keys);
    let mut problems = machine.check_purses();
    let sums = sums(&machine);
    for (programme, money, points) in &sums {
        if (*money, *points) != (0, 0) {
            problems.push(format!("programme {programme}: money sums to {money}, points to {points}, not to zero"));
        }
    }
    let state = state_digest(&machine);
    let cards = machine.cards.len().into();
    drop(machine);
    let checkpoint = directory.checkpoint(bytes_max, &journal)?;
    let recovered = recover(&journal, &checkpoint)?;
    let checkpoint_state = state_digest(&recovered.machine);
    if state != checkpoint_state {
        problems.push("the state of checkpoint and tail is not the one that the journal gives from nothing".into());
    }
    Ok(Verdict { entries: next - 1, blocks, bytes, cards, head, sums, state, checkpoint_state, problems })
}

fn sums(machine: &Machine) -> Vec<(u16, i128, i128)> {
    let sum = |number: u16| {
        let balance = machine.trial_balance(number, 0);
        let of = |unit: Unit| {
            let totals = balance.totals.iter();
            totals
                .filter(|(code, _)| Account::from_code(*code).is_some_and(|account| account.unit() == unit))
                .map(|(_, total)| total)
                .sum()
        };
        (number, of(Unit::Money), of(Unit::Points))
    };
    machine.organisation.programmes.iter().map(|programme| sum(programme.number)).collect()
}
