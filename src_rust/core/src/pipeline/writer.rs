//! The writer: the one thread that owns the state.
//!
//! It takes jobs in order, executes them into the group that is being made, and hands the group on when the sync
//! thread is free. Between jobs it does bounded pieces of what can wait (`behind`): the sweep of a day's growth, a checkpoint pass.

mod advise;
mod behind;
mod execute;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};

use crate::advice::Adviser;
use crate::checkpoint::state_digest;
use crate::clearing::report;
use crate::codes::Code;
use crate::commands::{CloseReport, Registration, Stats};
use crate::error::Error;
use crate::journal::entry::{Entry, TRANSACTION_BYTES_MAX};
use crate::journal::{BlockBuilder, Journal, UnsealedBlock};
use crate::keys::Keys;
use crate::machine::Machine;
use crate::members::Members;
use crate::pipeline::explain::Surroundings;
use crate::pipeline::{Delivery, Group, Handover, Job, Options, ROWS_MAX, Reply, Shared};
use crate::recovery::{Recovered, forget_old_keys};
use crate::rules::Foreseen;
use crate::secrets::Secrets;
use crate::storage::Storage;

use advise::Advice;
use behind::Pass;
pub(crate) use behind::{Behind, Written};

/// Cards that a close lets grow at once.
const CLOSE_CARDS: usize = 65_536;
/// Most bytes that an entry takes, and a store's or a merchant's part of a close.
const ENTRY_BYTES_MAX: u64 = TRANSACTION_BYTES_MAX as u64;
/// Room kept beside the groups for LMDB's own pages.
const ROOM_SLACK: u64 = 256 << 10;
/// A group of so many rows or bytes is handed on before anything else is executed. Nearly all are handed on sooner: when the one before
/// is durable. A disk that stops for some milliseconds does not stop the writer.
const GROUP_ROWS: usize = 4 * ROWS_MAX;
const GROUP_BYTES: usize = 4 << 20;

/// A group of so few bytes is committed by the writer itself, if nothing else waits for it: a lone request then wakes one thread
/// less, and what comes meanwhile takes no longer to execute than waking one.
const COMMIT_HERE_BYTES: usize = 2048;
/// What makes work behind possible again does not always tell.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) struct Writer {
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
    journal: Arc<dyn Journal>,
    machine: Machine,
    keys: Keys,
    checkpoint: Storage,
    block: BlockBuilder,
    deliveries: Vec<Delivery>,
    rows: usize,
    /// Rows executed since a pass was last worked on.
    rows_since: usize,
    /// No piece of a sweep is done before this.
    sweeps_from: Option<Instant>,
    /// No job is taken before this: passes must catch up.
    waits_until: Option<Instant>,
    /// Groups handed on and perhaps not yet durable: their entries are read here.
    unsynced: VecDeque<UnsealedBlock>,
    /// Room of a block that is durable, for the next one: fresh memory would have to be zeroed.
    spare_room: Vec<u8>,
    /// Bytes that the journal had room for when the group began.
    room: u64,
    sync: Handover,
    behind: Behind,
    pass: Pass,
    /// Begin of the newest complete pass, and how many there were.
    checkpointed: u64,
    passes: u64,
    /// Callers that wait for a pass to end; the flag says that it was begun for them.
    pass_waiters: Vec<Reply<()>>,
    next_pass_waiters: Vec<Reply<()>>,
    secrets: Secrets,
    /// Their birthdays.
    members: Members,
    options: Options,
    /// Who asks the rules that are kept outside.
    adviser: Option<Box<dyn Adviser>>,
    /// What they said of the rows that are taken next.
    advice: Advice,
    /// Room for the rules of some sales, looked up ahead: of those that are executed, and of the next.
    foreseen: [Foreseen; 2],
    /// Parts of the answers to the last batch, a row.
    parts_per_row: usize,
}

impl Writer {
    #[allow(clippy::too_many_arguments)] // the ends of every channel come together here, once
    pub(crate) fn new(
        jobs: Receiver<Job>,
        shared: Arc<Shared>,
        journal: Arc<dyn Journal>,
        checkpoint: Storage,
        recovered: Recovered,
        next: u64,
        members: Members,
        options: Options,
        sync: Handover,
        behind: Behind,
    ) -> Writer {
        let Recovered { machine, keys, checkpointed } = recovered;
        Writer {
            jobs,
            shared,
            journal,
            machine,
            keys,
            checkpoint,
            block: BlockBuilder::new(next),
            deliveries: Vec::new(),
            rows: 0,
            rows_since: 0,
            sweeps_from: None,
            waits_until: None,
            unsynced: VecDeque::new(),
            spare_room: Vec::new(),
            room: 0,
            sync,
            behind,
            pass: Pass::Idle,
            checkpointed,
            passes: 0,
            pass_waiters: Vec::new(),
            next_pass_waiters: Vec::new(),
            secrets: options.secrets.clone(),
            members,
            options,
            adviser: None,
            advice: Advice::default(),
            foreseen: Default::default(),
            parts_per_row: 0,
        }
    }

    /// Runs until it is stopped, or breaks: then the engine is poisoned and every job refused.
    pub(crate) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let why = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                format!("the writer broke: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given"))
            }
        };
        self.shared.poison(why.clone());
        for deliver in self.deliveries.drain(..) {
            deliver(Err(Error::Poisoned(why.clone())));
        }
        let jobs = self.jobs.clone();
        drop(self);
        for job in jobs {
            if matches!(job, Job::Stop) {
                break;
            }
            job.refuse(Error::Poisoned(why.clone()));
        }
    }

    /// The loop: take, execute, hand on.
    fn serve(&mut self) -> Result<(), Error> {
        self.begin_group()?;
        loop {
            let Some(job) = self.next_job()? else { continue };
            if self.block.is_empty() && self.deliveries.is_empty() {
                // Others may have filled the disk, or freed it, since the last group was handed on.
                self.begin_group()?;
            }
            // What waits now joins the group, as far as it fits; what comes later may find the sync thread free.
            let mut waiting = self.jobs.len();
            let mut job = Some(job);
            while let Some(taken) = job.take() {
                if matches!(taken, Job::Stop) {
                    return self.stop();
                }
                if taken.rows_checked().is_some() && self.asks_outside() {
                    job = self.take_advised(taken, &mut waiting)?;
                    continue;
                }
                self.take(taken)?;
                if waiting > 0 && !self.is_full() && self.waits_until.is_none() {
                    waiting -= 1;
                    job = self.jobs.try_recv().ok();
                }
            }
            self.hand_on_if_ready()?;
        }
    }

    /// The next job, or none if something else was done.
    fn next_job(&mut self) -> Result<Option<Job>, Error> {
        if self.is_full() {
            let _ = self.sync.ready.recv();
            self.hand_on()?;
            return Ok(None);
        }
        let working = self.work_behind()?;
        if let Some(until) = self.waits_until {
            self.wait(until, working)?;
            return Ok(None);
        }
        if working {
            if let Ok(job) = self.jobs.try_recv() {
                return Ok(Some(job));
            }
            self.hand_on_if_ready()?;
            return Ok(None);
        }
        let making = !self.deliveries.is_empty() || !self.block.is_empty();
        if making {
            select! {
                recv(self.sync.ready) -> _ => self.hand_on()?,
                recv(self.jobs) -> job => return Ok(Some(job.unwrap_or(Job::Stop))),
            }
        } else if self.is_passing() || self.machine.growing().is_some() {
            let no_pass = never();
            select! {
                recv(if self.is_passing() { &self.behind.written } else { &no_pass }) -> written => self.end_pass(written.ok()),
                recv(self.jobs) -> job => return Ok(Some(job.unwrap_or(Job::Stop))),
                // A full queue of steps empties, and a sweep's rest ends, without telling: look again soon.
                default(LOOK_AGAIN) => {}
            }
        } else {
            return Ok(Some(self.jobs.recv().unwrap_or(Job::Stop)));
        }
        Ok(None)
    }

    /// Waits for a moment, so that passes catch up, and hands on meanwhile what is made.
    fn wait(&mut self, until: Instant, working: bool) -> Result<(), Error> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.waits_until = None;
        } else if working {
            self.hand_on_if_ready()?;
        } else {
            let making = !self.deliveries.is_empty() || !self.block.is_empty();
            let (no_token, no_pass) = (never(), never());
            select! {
                recv(if making { &self.sync.ready } else { &no_token }) -> _ => self.hand_on()?,
                recv(if self.is_passing() { &self.behind.written } else { &no_pass }) -> written => self.end_pass(written.ok()),
                default(left.min(LOOK_AGAIN)) => {}
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows >= GROUP_ROWS || self.block.size() >= GROUP_BYTES
    }

    fn stop(&mut self) -> Result<(), Error> {
        if !self.deliveries.is_empty() || !self.block.is_empty() {
            let _ = self.sync.ready.recv();
            self.hand_on()?;
        }
        // Wait until the last group is answered.
        let _ = self.sync.ready.recv();
        Ok(())
    }

    fn hand_on_if_ready(&mut self) -> Result<(), Error> {
        let making = !self.deliveries.is_empty() || !self.block.is_empty();
        if making && self.sync.ready.try_recv().is_ok() {
            self.hand_on()?;
        }
        Ok(())
    }

    /// Gives the group to the sync thread, which said that it is ready, and begins the next.
    fn hand_on(&mut self) -> Result<(), Error> {
        let size = self.block.size();
        let made = !self.block.is_empty();
        let block = made.then(|| self.block.finish((self.options.clock)(), std::mem::take(&mut self.spare_room)));
        self.unsynced.extend(block.clone());
        let group = Group { block, deliveries: std::mem::take(&mut self.deliveries) };
        let here = size <= COMMIT_HERE_BYTES && self.jobs.is_empty();
        self.rows = 0;
        if !self.sync.pass_on(group, here) {
            return Err(self.shared.poisoned().unwrap_or(Error::Closed("the sync thread ended".into())));
        }
        self.begin_group()
    }

    fn begin_group(&mut self) -> Result<(), Error> {
        let durable = self.shared.durable();
        while self.unsynced.front().is_some_and(|block| block.end() <= durable) {
            self.spare_room = self.unsynced.pop_front().map(UnsealedBlock::into_room).unwrap_or_default();
        }
        let in_flight: usize = self.unsynced.iter().map(UnsealedBlock::size).sum();
        self.room = self.journal.room()?.saturating_sub(in_flight as u64);
        Ok(())
    }

    /// True if there is room for the group so far with this many bytes more, and for as much again.
    fn has_room(&self, bytes: u64) -> bool {
        (self.block.size() as u64 + bytes) * 2 + ROOM_SLACK <= self.room
    }

    fn take(&mut self, job: Job) -> Result<(), Error> {
        match job {
            Job::Rows(batch, checked, reply) => {
                self.rows += batch.rows.len();
                self.rows_since += batch.rows.len();
                let answers = self.execute(&batch, &checked)?;
                self.deliver(answers, reply);
                self.wait_for_passes(batch.rows.len());
            }
            Job::Register(registrations, reply) => {
                let codes = registrations.iter().map(|registration| self.register(registration)).collect();
                self.deliver(codes, reply);
            }
            Job::Publish { programme, version, text, tables, reply } => match self.publish(programme, version, &text, &tables) {
                Ok(code) => self.deliver(code, reply),
                Err(what) => reply.give(Err(Error::Rules(what))),
            },
            Job::CloseDay(programme, date, reply) => {
                let report = self.close_day(programme, date)?;
                self.deliver(report, reply);
            }
            Job::Newest(programme, number, reply) => {
                let known = self.machine.organisation.programme(programme).is_some();
                let newest = match self.machine.ever_of(programme, number) {
                    Some(index) => (Code::Approved, index, self.machine.cards.card(index).last),
                    None => (if known { Code::InvalidCard } else { Code::UnknownTerminal }, 0, 0),
                };
                self.deliver(newest, reply);
            }
            Job::TryOut(batch, checked, reply) => {
                self.machine.forget_decided();
                let answers = self.execute(&batch, &checked)?;
                let sale = self.machine.decided().cloned();
                self.deliver((answers, sale), reply);
            }
            Job::Surroundings(programme, card, store, reply) => {
                let around = self.machine.surroundings(programme, card, store);
                let around = around.map(|(product, merchant, issuer)| Surroundings { product, merchant, issuer });
                self.deliver(around, reply);
            }
            Job::Authorisation(programme, original, reply) => match self.authorisation(programme, original) {
                Ok(sequence) => self.deliver(sequence, reply),
                Err(error) => reply.give(Err(error)),
            },
            Job::TrialBalance(programme, reply) => {
                let balance = self.machine.trial_balance(programme, self.block.next() - 1);
                self.deliver(balance, reply);
            }
            Job::Positions(programme, reply) => {
                let positions = self.machine.positions(programme);
                self.deliver(positions, reply);
            }
            Job::Staff(programme, reply) => {
                let staff = self.machine.staff(programme);
                self.deliver(staff, reply);
            }
            Job::CardsOf(programme, member, reply) => {
                let cards = self.machine.cards_of(programme, member);
                self.deliver(cards, reply);
            }
            Job::Liabilities(programme, reply) => {
                let liabilities = self.machine.liabilities(programme);
                self.deliver(liabilities, reply);
            }
            Job::RulesVersions(programme, reply) => {
                let versions = match self.machine.organisation.programme(programme) {
                    Some(at) => (Code::Approved, self.machine.organisation.programmes[at].versions.clone()),
                    None => (Code::UnknownTerminal, Vec::new()),
                };
                self.deliver(versions, reply);
            }
            Job::Feed(programme, mut rows, reply) => {
                let known = self.machine.organisation.programme(programme).is_some();
                self.machine.look_up_cards(&mut rows);
                self.deliver((if known { Code::Approved } else { Code::UnknownTerminal }, rows), reply);
            }
            Job::Cursors(programme, reply) => {
                let cursors = self.machine.cursors(programme);
                self.deliver(cursors, reply);
            }
            Job::Stats(reply) => {
                let stats = self.stats();
                self.deliver(stats, reply);
            }
            Job::Digest(reply) => {
                let digest = state_digest(&self.machine);
                self.deliver(digest, reply);
            }
            Job::Adviser(adviser, reply) => {
                self.adviser = adviser;
                self.deliver((), reply);
            }
            Job::Checkpoint(reply) => self.next_pass_waiters.push(reply),
            Job::Stop => {}
        }
        Ok(())
    }

    fn stats(&self) -> Stats {
        let (keys, keys_in_memory, key_bytes) = self.keys.sizes();
        Stats {
            entries: self.block.next() - 1,
            checkpointed: self.checkpointed - 1,
            passes: self.passes,
            cards: self.machine.cards.len().into(),
            card_bytes: self.machine.cards.size() + self.machine.wallets.size(),
            keys,
            keys_in_memory,
            key_bytes,
        }
    }

    /// Answers when the group is durable.
    fn deliver<T: Send + 'static>(&mut self, value: T, reply: Reply<T>) {
        self.deliveries.push(Box::new(move |outcome| reply.give(outcome.map(|()| value))));
    }

    fn register(&mut self, registration: &Registration) -> Code {
        if !self.has_room(ENTRY_BYTES_MAX) {
            return Code::NotAvailable;
        }
        let (code, entry) = self.machine.register(registration);
        entry.iter().for_each(|entry| self.block.push(entry));
        code
    }

    fn publish(&mut self, programme: u16, version: u32, text: &str, tables: &str) -> Result<Code, String> {
        if !self.has_room((text.len() + tables.len()) as u64 + ENTRY_BYTES_MAX) {
            return Ok(Code::NotAvailable);
        }
        let (code, entry) = self.machine.publish(programme, version, text, tables, self.block.next())?;
        entry.iter().for_each(|entry| self.block.push(entry));
        Ok(code)
    }

    fn close_day(&mut self, number: u16, date: i32) -> Result<CloseReport, Error> {
        let Some(programme) = self.machine.organisation.programme(number) else {
            return Ok(CloseReport::refused(Code::UnknownTerminal, date));
        };
        let found = &self.machine.organisation.programmes[programme];
        if let Some(sequence) = found.calendar.closed_by(date) {
            return self.report_again(sequence, date);
        }
        if date != found.calendar.open {
            return Ok(CloseReport::refused(Code::InvalidTransaction, date));
        }
        // Two growths may be completed, that of the day before and, if the cards are few, its own.
        let units = found.books.units.len();
        if !self.has_room(ENTRY_BYTES_MAX * (found.stores.len() + 2 * found.merchants.len() + units + 5) as u64) {
            return Ok(CloseReport::refused(Code::NotAvailable, date));
        }
        while self.machine.organisation.programmes[programme].growth.is_some() {
            self.sweep(programme, usize::MAX);
        }
        let closing = self.machine.close_day(programme, self.block.next());
        closing.entries.iter().for_each(|entry| self.block.push(entry));
        let forgotten = forget_old_keys(&mut self.keys, &self.machine);
        self.discard(forgotten);
        let sequence = self.block.next() - 1;
        self.sweep(programme, CLOSE_CARDS);
        let (opens, closed) = match closing.entries.as_slice() {
            [.., Entry::GrowthOpens(opens), Entry::DayClosed(closed)] => (Some(opens), closed),
            [.., Entry::DayClosed(closed)] => (None, closed),
            _ => unreachable!("a close is a day's entry, after those of lapse and growth if there are any"),
        };
        Ok(report(sequence, closed, opens, false))
    }

    fn report_again(&self, sequence: u64, date: i32) -> Result<CloseReport, Error> {
        let Some(Entry::DayClosed(closed)) = self.entry(sequence)? else {
            return Err(Error::Contradiction { sequence, what: "it does not close a day".into() });
        };
        let before = self.entry(sequence - 1)?;
        let opens = match &before {
            Some(Entry::GrowthOpens(opens)) if opens.programme == closed.programme && opens.date == date => Some(opens),
            _ => None,
        };
        Ok(report(sequence, &closed, opens, true))
    }
}
