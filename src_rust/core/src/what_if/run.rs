//! Executing the commands of a period under rules, on the machine that the engine has.
//!
//! Rules that are tried are in force from the begin of the period on, or, where the programme had none yet, from its first publication on;
//! what was published in the period is left out. Without rules to try, what was published comes into force as it was.

use std::collections::BTreeMap;

use crate::cards::{CardNumber, Cards};
use crate::codes::Code;
use crate::commands::{BY_OPERATOR, Kind};
use crate::details::{Item, ItemKind, Seen};
use crate::error::Error;
use crate::journal::entry::{CardRef, Transaction};
use crate::machine::{Admitted, Beside, Found, Machine, answer_of};
use crate::organisation::{Rules, terminal_hash};
use crate::rules::Tables;
use crate::what_if::commands::{Command, Origin, Step, close_effects, effects};
use crate::what_if::outcome::{Change, Changed, Outcome};
use crate::what_if::tally::Tally;
use crate::what_if::{Period, Wanted};

/// Most sequences of what came out otherwise that are told.
const DIFFERING_MAX: usize = 100;

impl Period {
    /// Executes the period under rules that [`tables`](Self::tables) has read; None: under those that were in force, which must give
    /// what happened.
    pub fn run(&self, tried: Option<Tables>, wanted: Wanted) -> Result<Outcome, Error> {
        let mut run = Run::new(self, tried, wanted);
        for step in &self.steps {
            run.take(step)?;
        }
        Ok(run.finish())
    }
}

struct Run<'a> {
    period: &'a Period,
    wanted: Wanted,
    machine: Machine,
    /// Rules that are tried, until they are in force.
    waiting: Option<Tables>,
    is_trial: bool,
    tally: Tally,
    /// Entries of the run that later commands refer to.
    kept: BTreeMap<u64, Transaction>,
    changes: BTreeMap<(u8, Code, Code), Change>,
    outcome: Outcome,
    /// Room for the items of a command.
    items: Vec<Item>,
}

impl<'a> Run<'a> {
    fn new(period: &'a Period, tried: Option<Tables>, wanted: Wanted) -> Run<'a> {
        let machine = period.start.fork();
        let mut run = Run {
            period,
            wanted,
            tally: Tally::begin(&machine, period.programme),
            machine,
            is_trial: tried.is_some(),
            waiting: tried,
            kept: BTreeMap::new(),
            changes: BTreeMap::new(),
            outcome: Outcome::default(),
            items: Vec::new(),
        };
        if let Some(at) = run.machine.organisation.programme(period.programme) {
            let version = run.machine.organisation.programmes[at].rule_version();
            if version > 0 {
                run.try_rules(at, version);
            }
            run.complete_growth(at, 0);
        }
        run
    }

    /// Puts the rules that are tried in force, in place of the version that is.
    fn try_rules(&mut self, at: usize, version: u32) {
        if let Some(tables) = self.waiting.take() {
            let rules = Rules { version, text: String::new(), json: String::new(), tables };
            self.machine.organisation.programmes[at].rules = Some(rules);
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), Error> {
        if let Step::Registration(registration) = step {
            if !self.machine.organisation.add(registration) {
                return Err(Error::Misuse(format!("it cannot be registered again: {registration:?}")));
            }
            return Ok(());
        }
        let Some(at) = self.machine.organisation.programme(self.period.programme) else {
            return Err(Error::Misuse("the period begins before its programme is registered".into()));
        };
        match step {
            Step::Registration(_) => {}
            Step::Rules { version, json } => self.publish(at, *version, json)?,
            Step::Transaction(command) => self.execute(at, command)?,
            Step::Close { sequence, effects } => self.close(at, *sequence, *effects),
        }
        Ok(())
    }

    /// A version of the rules came into force then: it does now if none are tried.
    fn publish(&mut self, at: usize, version: u32, json: &str) -> Result<(), Error> {
        if !self.is_trial {
            let tables = Tables::parse(json).map_err(Error::Rules)?;
            let rules = Rules { version, text: String::new(), json: String::new(), tables };
            self.machine.organisation.programmes[at].rules = Some(rules);
            return Ok(());
        }
        self.try_rules(at, version);
        // Entries name the version that was in force then: what came to the same is the same.
        if let Some(rules) = &mut self.machine.organisation.programmes[at].rules {
            rules.version = version;
        }
        Ok(())
    }

    /// Closes the open day, as the engine does; its growth is complete at once.
    fn close(&mut self, at: usize, sequence: u64, actual: u64) {
        let closing = self.machine.close_day(at, sequence);
        for entry in &closing.entries {
            self.tally.count(&self.machine, entry, self.machine.applied());
        }
        self.note(sequence, close_effects(&closing.entries) != actual);
        self.complete_growth(at, sequence);
    }

    fn complete_growth(&mut self, at: usize, sequence: u64) {
        while self.machine.organisation.programmes[at].growth.is_some() {
            if let Some(entry) = self.machine.sweep(at, usize::MAX, sequence) {
                self.tally.count(&self.machine, &entry, self.machine.applied());
            }
        }
    }

    fn execute(&mut self, at: usize, command: &Command) -> Result<(), Error> {
        let (sequence, programme) = (command.sequence, command.request.programme());
        let number = command.request.terminal;
        let Some(terminal) = self.machine.organisation.terminal(terminal_hash(programme, number), programme, number) else {
            return Err(Error::Contradiction { sequence, what: format!("no terminal {number}") });
        };
        let card = CardNumber::new(command.request.card, command.request.card_digits);
        let card_hash = card.map_or(0, |card| Cards::hash(programme, card));
        self.fill_items(at, command);
        let salt = self.period.new_pins.get(&sequence).map_or(0, |pin| pin.salt);
        let beside = Beside { items: &self.items, forged: command.forged, salt: Some(salt) };
        let admitted = Admitted {
            request: &command.request,
            kind: command.kind,
            programme: at,
            terminal,
            number: card,
            card_hash,
            likely_card: card.and_then(|_| self.machine.cards.prefetch_likely(card_hash)),
            beside: (command.detailed || !self.items.is_empty()).then_some(&beside),
            foreseen: None,
        };
        let found = match command.original {
            Origin::Nothing => Found::Nothing,
            Origin::UnknownKey => Found::UnknownKey,
            Origin::Marked => Found::Marked,
            Origin::Entry(original) => {
                let found = self.kept.get(&original).or_else(|| self.period.originals.get(&original));
                found.map_or(Found::Nothing, |entry| Found::Entry(original, entry))
            }
        };
        self.machine.execute(&admitted, found, sequence);
        self.look_at(command);
        Ok(())
    }

    /// The items of a command, with PINs in their places, and how near the holder's birthday is if rules ask for it.
    fn fill_items(&mut self, at: usize, command: &Command) {
        self.items.clear();
        if command.detailed {
            let first = command.request.first_item as usize;
            let items = &self.period.items[first..first + usize::from(command.request.items)];
            command.pins.add(command, items, &self.machine, &mut self.items);
            if command.kind == Kind::SetPin {
                self.items.extend(self.new_pin(command));
            }
        }
        let rules = self.machine.organisation.programmes[at].rules.as_ref();
        if command.birthday != 0 {
            let seen = command.birthday & rules.map_or(0, |rules| rules.tables.birthdays());
            self.items.extend((seen != 0).then(|| Item::seen(Seen::Birthday, seen.into())));
        }
        // What was said then is said again, of rules that these rules name, too.
        if let (Some(advice), Some(rules)) = (self.period.advice.get(&command.sequence), rules) {
            let named = |item: &&Item| rules.tables.python_rule(item.unit).is_some();
            self.items.extend(advice.iter().filter(named).copied());
        }
    }

    /// The PIN that a request sets: one that nobody knows takes the place of one that was refused then; whoever is asked for it gives it.
    fn new_pin(&self, command: &Command) -> Option<Item> {
        let pin = self.period.new_pins.get(&command.sequence);
        if pin.is_none() && command.request.flags & BY_OPERATOR != 0 {
            return None;
        }
        let (number, hash) = pin.map_or((0, 0), |pin| (pin.key, pin.hash));
        let (high, low) = ((hash >> 64) as u64, hash as u64);
        Some(Item { kind: ItemKind::NewPin as u8, number, high, low, ..Item::default() })
    }

    /// Counts the transaction that was just executed, and holds it against its entry.
    fn look_at(&mut self, command: &Command) {
        let transaction = self.machine.decided().expect("it was just executed");
        self.tally.count_transaction(&self.machine, transaction, self.machine.applied());
        if self.period.referred.contains(&command.sequence) {
            self.kept.insert(command.sequence, transaction.clone());
        }
        if self.wanted.answers {
            self.outcome.answers.push(answer_of(transaction, command.sequence));
        }
        self.outcome.transactions += 1;
        let (code, differs) = (transaction.code, effects(transaction) != command.effects);
        if code != command.code {
            self.note_change(command);
        }
        self.note(command.sequence, differs);
    }

    fn note_change(&mut self, command: &Command) {
        let transaction = self.machine.decided().expect("it was just executed");
        let (kind, actual, tried) = (command.kind, command.code, transaction.code);
        let change = Change { kind, actual, tried, count: 0, amount: 0 };
        let all = self.changes.entry((kind as u8, actual, tried)).or_insert(change);
        all.count += 1;
        all.amount += i128::from(transaction.amount);
        if self.outcome.changed.len() < self.wanted.changed_max {
            let card = match transaction.card {
                CardRef::Known { index, .. } => Some(self.machine.cards.card(index).number()),
                CardRef::Unknown(number) => Some(number),
                CardRef::None => None,
            };
            self.outcome.changed.push(Changed {
                sequence: command.sequence,
                date: transaction.posted,
                kind,
                actual,
                tried,
                card,
                store: transaction.store,
                amount: transaction.amount,
            });
        }
    }

    fn note(&mut self, sequence: u64, differs: bool) {
        if differs {
            self.outcome.differing += 1;
            if self.outcome.differing_first.len() < DIFFERING_MAX {
                self.outcome.differing_first.push(sequence);
            }
        }
    }

    fn finish(mut self) -> Outcome {
        self.tally.finish(&self.machine);
        self.outcome.changes = self.changes.into_values().collect();
        self.outcome.compare(&self.period.actual, &self.tally);
        self.outcome
    }
}
