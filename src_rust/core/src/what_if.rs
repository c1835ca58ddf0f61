//! What-if: the commands and closes of a period executed again under other rules, on the same machine, beside what happened.
//!
//! Loading ([`load`]) replays the journal up to the begin of the period, keeps a copy of that state, and goes on replaying: what was asked
//! becomes commands ([`commands`]), what happened is counted ([`tally`]). Running ([`run`]) executes the commands on a copy of that state
//! under the rules that are tried, counts in the same way, and sets both side by side ([`outcome`]). One loaded period serves any number
//! of rules. `docs/what-if.md` says what is replayed, and what is assumed where an entry does not tell.
//!
//! Invariants: nothing is written anywhere. Every entry keeps its sequence. Under the rules that were in force everything comes out as it
//! was.

mod commands;
mod load;
mod outcome;
mod run;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::details::Item;
use crate::directory::Directory;
use crate::error::Error;
use crate::journal::entry::{PinHash, Transaction};
use crate::machine::Machine;
use crate::rules::Tables;

use commands::Step;
pub use outcome::{Change, Changed, CostRow, DayRow, Figure, FigureUnit, MerchantRow, Outcome, StoreRow, TierRow};
use tally::Tally;

/// Which period is looked at: the business dates of a programme, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The programme.
    pub programme: u16,
    /// First business date; None: from the first entry.
    pub since: Option<i32>,
    /// Last business date; None: up to the newest entry.
    pub until: Option<i32>,
}

/// A loaded period.
pub struct Period {
    programme: u16,
    /// First and last business date that it has entries of.
    first: i32,
    last: i32,
    /// The state as it begins.
    start: Machine,
    steps: Vec<Step>,
    /// Those of all commands.
    items: Vec<crate::details::Item>,
    /// What the PINs that were set are known by.
    new_pins: BTreeMap<u64, PinHash>,
    /// What rules that are kept outside said of its sales.
    advice: BTreeMap<u64, Vec<Item>>,
    /// Entries before it that its commands refer to.
    originals: BTreeMap<u64, Transaction>,
    /// Entries in it that they refer to.
    referred: BTreeSet<u64>,
    /// Products of the cards that there are at its end.
    products: BTreeSet<u16>,
    /// What happened.
    actual: Tally,
    transactions: u64,
}

/// What a run tells beside the sums.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Most transactions that are told one by one because their code is another now.
    pub changed_max: usize,
    /// The answers to all transactions, in order.
    pub answers: bool,
}

/// Loads a period from the journal of a closed data directory. `progress` hears of entries read and entries in all, and stops it by saying
/// false.
pub fn load(path: &Path, bytes_max: usize, bounds: Bounds, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Period, Error> {
    let directory = Directory::own(path)?;
    if !directory.has_journal() {
        return Err(Error::Directory { path: path.to_owned(), what: "there is no journal in it".into() });
    }
    let journal = directory.journal(bytes_max, [0; 16])?;
    let members = directory.members()?;
    Period::load(&journal, &members, bounds, &mut |done, all| if progress(done, all) { Ok(()) } else { Err(stopped()) })
}

/// Somebody did not want to wait for it.
pub(crate) fn stopped() -> Error {
    Error::Misuse("loading the period was stopped".into())
}

impl Period {
    /// The programme's number.
    pub fn programme(&self) -> u16 {
        self.programme
    }

    /// First and last business date.
    pub fn dates(&self) -> (i32, i32) {
        (self.first, self.last)
    }

    /// Transactions in it.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Reads rules that are to be tried: an error says what is wrong with them, or which products of cards they have not.
    pub fn tables(&self, json: &str) -> Result<Tables, Error> {
        let tables = Tables::parse(json).map_err(Error::Rules)?;
        let missing: Vec<String> =
            self.products.iter().filter(|&&id| tables.product(id).is_none()).map(|id| id.to_string()).collect();
        match missing.as_slice() {
            [] => Ok(tables),
            [one] => Err(Error::Rules(format!("the rules have no product {one}, and there are cards of it: add it"))),
            _ => Err(Error::Rules(format!(
                "the rules have no products {}, and there are cards of them: add them",
                missing.join(", ")
            ))),
        }
    }
}
