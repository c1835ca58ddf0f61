//! Reading a period: the state as it begins, its commands, and what happened.
//!
//! The journal is read piece by piece, so that no reading of it lasts; each block's hash and place in the chain are checked. The entries of
//! all programmes are replayed; the commands and what is counted are those of one.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::WINDOW_DAYS;
use crate::commands::{Kind, Request};
use crate::details::{Item, Seen, lines_of, seen_of};
use crate::error::Error;
use crate::journal::entry::{CardRef, Change, Entry, Transaction};
use crate::journal::{Journal, JournalError};
use crate::keys::Keys;
use crate::machine::Machine;
use crate::members::Members;
use crate::organisation::{Programme, Rules, terminal_hash};
use crate::originals::{Named, Past, find_original};
use crate::recovery::read_blocks;
use crate::rules::{Applying, Birthday, local_date};
use crate::storage::{Reading, StorageError};
use crate::what_if::commands::{Command, Origin, Step, close_effects, sent};
use crate::what_if::tally::Tally;
use crate::what_if::{Bounds, Period};

/// Entries that are read at once.
const PIECE: u64 = 65_536;

impl Period {
    /// Loads a period from a journal. `progress` hears now and then of entries read and entries in all; its error ends it.
    ///
    /// `members` know birthdays; rules may ask for them now and did not then.
    pub fn load(
        journal: &dyn Journal,
        members: &Members,
        bounds: Bounds,
        progress: &mut dyn FnMut(u64, u64) -> Result<(), Error>,
    ) -> Result<Period, Error> {
        let end = journal.head()?.0;
        let mut loader = Loader::new(journal, members, bounds);
        let mut next = 1;
        while next < end && !loader.is_over {
            progress(next - 1, end - 1)?;
            let until = (next + PIECE).min(end);
            read_blocks(journal, next, |block, sequence| {
                block.read_entry(sequence, &mut loader.entry)?;
                loader.take(sequence)?;
                Ok(sequence + 1 < until && !loader.is_over)
            })?;
            next = until;
        }
        progress(end - 1, end - 1)?;
        loader.finish()
    }
}

struct Loader<'a> {
    journal: &'a dyn Journal,
    members: &'a Members,
    bounds: Bounds,
    machine: Machine,
    keys: Keys,
    /// The sequence that is next.
    next: u64,
    /// The entry that was read last; its room is used again.
    entry: Entry,
    /// The period, once it has begun; and its first sequence.
    period: Option<Period>,
    begun: u64,
    /// The rules that apply to the sale that is being taken.
    applying: Applying,
    /// Entries of a close that are not the last.
    closing: Vec<Entry>,
    is_over: bool,
}

impl Past for Loader<'_> {
    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn entry(&self, sequence: u64) -> Result<Option<Entry>, JournalError> {
        if sequence == 0 || sequence >= self.next { Ok(None) } else { self.journal.entry(sequence) }
    }

    fn reading(&self) -> Result<Reading, StorageError> {
        Err(StorageError::nothing_there("all keys are in memory"))
    }
}

impl<'a> Loader<'a> {
    fn new(journal: &'a dyn Journal, members: &'a Members, bounds: Bounds) -> Loader<'a> {
        Loader {
            journal,
            members,
            bounds,
            machine: Machine::default(),
            keys: Keys::default(),
            next: 1,
            entry: Entry::Transaction(Transaction::blank()),
            period: None,
            begun: 0,
            applying: Applying::default(),
            closing: Vec::new(),
            is_over: false,
        }
    }

    fn programme(&self) -> Option<&Programme> {
        let organisation = &self.machine.organisation;
        organisation.programme(self.bounds.programme).map(|at| &organisation.programmes[at])
    }

    /// Takes the entry that was just read.
    fn take(&mut self, sequence: u64) -> Result<(), Error> {
        self.next = sequence;
        let entry = std::mem::replace(&mut self.entry, Entry::Transaction(Transaction::blank()));
        let own = programme_of(&entry) == self.bounds.programme;
        if own && self.period.is_none() && self.begins() {
            self.begin(sequence);
        }
        if own && self.period.is_some() {
            self.note(&entry, sequence)?;
        }
        self.apply(&entry, sequence)?;
        if own && let Some(period) = &mut self.period {
            period.actual.count(&self.machine, &entry, &self.applying);
        }
        if own && let Entry::DayClosed(closed) = &entry {
            self.is_over = self.bounds.until.is_some_and(|until| closed.date >= until);
        }
        self.entry = entry;
        Ok(())
    }

    /// True if the period begins with the open date.
    fn begins(&self) -> bool {
        match (self.bounds.since, self.programme()) {
            (None, _) => true,
            (Some(since), Some(programme)) => programme.calendar.open >= since,
            (Some(_), None) => false,
        }
    }

    fn begin(&mut self, sequence: u64) {
        self.begun = sequence;
        self.period = Some(Period {
            programme: self.bounds.programme,
            first: 0,
            last: 0,
            start: self.machine.fork(),
            steps: Vec::new(),
            items: Vec::new(),
            new_pins: BTreeMap::new(),
            advice: BTreeMap::new(),
            originals: BTreeMap::new(),
            referred: BTreeSet::new(),
            products: BTreeSet::new(),
            actual: Tally::begin(&self.machine, self.bounds.programme),
            transactions: 0,
        });
    }

    /// Notes what an entry of the period asks for, before it is applied.
    fn note(&mut self, entry: &Entry, sequence: u64) -> Result<(), Error> {
        let step = match entry {
            Entry::Transaction(transaction) => Some(Step::Transaction(self.command(transaction, sequence)?)),
            Entry::Registration(registration) => Some(Step::Registration(registration.clone())),
            Entry::Rules { version, tables, .. } => Some(Step::Rules { version: *version, json: tables.clone() }),
            Entry::LotsLapsed(_) | Entry::GrowthOpens(_) => {
                self.closing.push(entry.clone());
                None
            }
            Entry::DayClosed(_) => {
                self.closing.push(entry.clone());
                let closing = std::mem::take(&mut self.closing);
                let first = sequence + 1 - closing.len() as u64;
                Some(Step::Close { sequence: first, effects: close_effects(&closing) })
            }
            // When a growth is complete makes no difference.
            Entry::GrowthComplete(_) => None,
        };
        let period = self.period.as_mut().expect("it has begun");
        period.steps.extend(step);
        Ok(())
    }

    fn command(&mut self, transaction: &Transaction, sequence: u64) -> Result<Command, Error> {
        let origin = self.origin(transaction)?;
        let birthday = self.birthday(transaction);
        let mut command = Command::of(transaction, origin, birthday, &self.machine, sequence);
        self.look_up(transaction, &command.request);
        let period = self.period.as_mut().expect("it has begun");
        if command.request.items > 0 {
            command.request.first_item = u32::try_from(period.items.len()).map_err(|_| too_long())?;
            period.items.extend(sent(transaction));
        }
        let advice: Vec<Item> = transaction.detail.items.iter().filter(|item| item.heard().is_some()).copied().collect();
        if !advice.is_empty() {
            period.advice.insert(sequence, advice);
        }
        if let (Kind::SetPin, Some(pin)) = (transaction.kind, new_pin(transaction)) {
            period.new_pins.insert(sequence, pin);
        }
        period.transactions += 1;
        Ok(command)
    }

    /// Looks up the rules that applied to a sale that was approved.
    fn look_up(&mut self, transaction: &Transaction, request: &Request) {
        let mut applying = std::mem::take(&mut self.applying);
        applying.clear();
        applying.advised.hear(transaction.detail.items.iter().filter_map(Item::heard));
        self.add_applying(transaction, request, &mut applying);
        self.applying = applying;
    }

    fn add_applying(&self, transaction: &Transaction, request: &Request, applying: &mut Applying) {
        let (CardRef::Known { index, .. }, Some(programme)) = (transaction.card, self.programme()) else { return };
        let items = &transaction.detail.items;
        let has_lines = lines_of(items).next().is_some();
        let asks = |rules: &&Rules| has_lines || rules.tables.look_at_sales();
        let rules = programme.rules.as_ref().filter(|_| is_sale(transaction) && transaction.code.is_approved()).filter(asks);
        let (number, terminal) = (programme.number, transaction.terminal);
        let terminal = self.machine.organisation.terminal(terminal_hash(number, terminal), number, terminal);
        if let Some((Rules { tables, .. }, terminal)) = rules.zip(terminal) {
            let birthday = seen_of(items, Seen::Birthday) as u8;
            let moment = self.machine.moment(tables, request, terminal, index).near(birthday);
            tables.add_applying(&moment, lines_of(items), applying);
        }
    }

    /// What a sale's date is to the birthday of who held the card: as its entry says, if the rules asked for it then; else by what is known of
    /// the holder now.
    fn birthday(&self, transaction: &Transaction) -> u8 {
        let (CardRef::Known { index, .. }, Some(programme)) = (transaction.card, self.programme()) else { return 0 };
        if !is_sale(transaction) {
            return 0;
        }
        let asked = programme.rules.as_ref().map_or(0, |rules| rules.tables.birthdays());
        let member = self.machine.wallet(index).map_or(0, |wallet| wallet.rest().member);
        let birthday = if member == 0 { None } else { self.members.birthday(programme.number, member) };
        let around = |birthday| Birthday::around(birthday, local_date(transaction.key.date, transaction.time));
        seen_of(&transaction.detail.items, Seen::Birthday) as u8 | birthday.map_or(0, around) & !asked
    }

    /// The original of a transaction; one before the period is kept, one in it will be.
    fn origin(&mut self, transaction: &Transaction) -> Result<Origin, Error> {
        let (Some(named), Some(programme)) = (transaction.original, self.programme()) else { return Ok(Origin::Nothing) };
        let named = find_original(self, programme, named)?;
        let origin = Origin::from(&named);
        let period = self.period.as_mut().expect("it has begun");
        if let Named::Entry(earlier) = named {
            if earlier.0 >= self.begun {
                period.referred.insert(earlier.0);
            } else {
                period.originals.insert(earlier.0, earlier.1);
            }
        }
        Ok(origin)
    }

    /// Applies an entry, as recovery does.
    fn apply(&mut self, entry: &Entry, sequence: u64) -> Result<(), Error> {
        let contradiction = |what: String| Error::Contradiction { sequence, what };
        let store = match entry {
            Entry::Transaction(transaction) => {
                let organisation = &self.machine.organisation;
                let programme = organisation.programme(transaction.key.programme);
                programme.and_then(|at| organisation.store(at, transaction.store))
            }
            _ => None,
        };
        self.machine.replay(entry, store, sequence).map_err(contradiction)?;
        if programme_of(entry) == self.bounds.programme {
            self.note_keys(entry, sequence);
        }
        Ok(())
    }

    /// Notes the keys of the programme as long as they may be named: nobody names another's.
    fn note_keys(&mut self, entry: &Entry, sequence: u64) {
        match entry {
            Entry::Transaction(transaction) => {
                self.keys.insert(transaction.key.date, transaction.key.hash(), sequence);
                let marked = transaction.marked_key();
                marked.into_iter().for_each(|key| self.keys.insert(key.date, key.hash(), sequence));
            }
            Entry::DayClosed(closed) => drop(self.keys.forget_before(closed.date - WINDOW_DAYS + 2)),
            _ => {}
        }
    }

    fn finish(mut self) -> Result<Period, Error> {
        let number = self.bounds.programme;
        let Some(at) = self.machine.organisation.programme(number) else {
            return Err(Error::Misuse(format!("there is no programme {number} in the journal")));
        };
        let programme = &self.machine.organisation.programmes[at];
        let (opened, open) = (programme.first_date, programme.calendar.open);
        let Some(mut period) = self.period.take().filter(|_| self.bounds.until.is_none_or(|until| until >= opened)) else {
            return Err(Error::Misuse(
                "the period has no entries: it lies before the first business date, or after the newest".into(),
            ));
        };
        // What is granted of a growth is in no books until all of it is.
        while self.machine.organisation.programmes[at].growth.is_some() {
            if let Some(entry) = self.machine.sweep(at, usize::MAX, self.next + 1) {
                period.actual.count(&self.machine, &entry, &self.applying);
            }
        }
        period.first = self.bounds.since.map_or(opened, |since| since.max(opened));
        let ends_closed = matches!(period.steps.last(), Some(Step::Close { .. }));
        period.last = if ends_closed { open - 1 } else { open };
        let runs = &self.machine.organisation.programmes[at].card_runs;
        let cards = runs.iter().flat_map(|&(first, count)| first..first + count);
        period.products = cards.map(|index| self.machine.cards.card(index).product).collect();
        period.actual.finish(&self.machine);
        Ok(period)
    }
}

fn is_sale(transaction: &Transaction) -> bool {
    matches!(transaction.kind, Kind::Purchase | Kind::Authorise)
}

fn too_long() -> Error {
    Error::Misuse("the period has more items than can be counted: take a shorter one".into())
}

/// The PIN that a transaction set.
fn new_pin(transaction: &Transaction) -> Option<crate::journal::entry::PinHash> {
    transaction.changes.iter().find_map(|change| if let Change::Pin(pin) = change { Some(*pin) } else { None })
}

/// The programme that an entry is of.
fn programme_of(entry: &Entry) -> u16 {
    use crate::commands::Registration::{Merchant, Programme, Store, Terminal};
    match entry {
        Entry::Transaction(transaction) => transaction.key.programme,
        Entry::Registration(
            Programme { programme, .. } | Merchant { programme, .. } | Store { programme, .. } | Terminal { programme, .. },
        )
        | Entry::Rules { programme, .. } => *programme,
        Entry::GrowthOpens(opens) => opens.programme,
        Entry::DayClosed(closed) => closed.programme,
        Entry::GrowthComplete(complete) => complete.programme,
        Entry::LotsLapsed(lapsed) => lapsed.programme,
    }
}
