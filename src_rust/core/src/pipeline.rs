//! The pipeline: from a request to its durable answer.
//!
//! ```text
//! callers ──jobs──▶ writer: executes a group ──group──▶ sync: appends its block, answers
//!                     └──steps──▶ checkpoint: written behind
//! ```
//!
//! One writer owns the state. While one group is being synced the next is being executed; a group ends when the sync thread is free, so
//! a lone request waits for nobody. Every answer, a balance or a refusal too, is given when the group that it was made in, and
//! with it all that it saw, is durable. A failure at a commit or a panic in the writer poisons the engine.

mod door;
mod explain;
mod follow;
mod pace;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::advice::Adviser;
use crate::cards::CardNumber;
use crate::cards::CardRecord;
use crate::checkpoint::{Step, Ways};
use crate::codes::Code;
use crate::commands::{
    Answers, Batch, CloseReport, Cursors, Liabilities, Original, PublishedRules, Registration, RulesVersion, StaffSales,
    StatementLine, Stats, StorePosition, TrialBalance,
};
use crate::directory::Directory;
use crate::error::Error;
use crate::feed::FeedRow;
use crate::journal::entry::{Entry, Transaction};
use crate::journal::{HASH, Journal, UnsealedBlock};
use crate::keys::Recent;
use crate::machine::{answer_to, points_of};
use crate::members::{Member, Members};
use crate::pipeline::door::Checked;
pub use crate::pipeline::explain::Explanation;
use crate::pipeline::explain::{LastTables, Surroundings};
use crate::pipeline::pace::{hurry_entries, pass_rest};
use crate::recovery::recover;
use crate::secrets::Secrets;
use crate::what_if::{self, Bounds, Period};
use writer::{Behind, Writer};

/// Rows of one submission.
pub const ROWS_MAX: usize = 8192;
/// Submissions that wait for the writer; a caller beyond that waits itself.
const JOBS_MAX: usize = 4096;
/// Steps of a checkpoint pass that wait for the thread that writes them.
const STEPS_MAX: usize = 64;
/// Rooms for keys that wait to be used again: as many as there are forms of keys.
const KEY_ROOMS_MAX: usize = 2;
/// Passes give way to those who execute and commit: on a small machine a pass would otherwise take a fifth of the writer's processor. Rows
/// that wait for a pass leave it all that it wants.
#[cfg(target_os = "linux")]
const PASS_NICE: i32 = 10;

/// How to open an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address space for the journal: the most that it can grow to.
    pub journal_bytes_max: usize,
    /// The same for the checkpoint.
    pub checkpoint_bytes_max: usize,
    /// A checkpoint pass begins when this many entries came since the last. Where passes cannot follow, rows are slowed down: the tail
    /// that recovery replays stays below three times as many, or some ten thousands.
    pub checkpoint_entries: u64,
    /// Microseconds since 1970-01-01 UTC, for the blocks' stamps.
    pub clock: fn() -> u64,
    /// Sixteen random bytes: the id of a new journal, the salt of a new PIN.
    pub new_id: fn() -> [u8; 16],
    /// Keys for PINs, aliases and coupon codes; without any, none of these can be used.
    pub secrets: Secrets,
}

/// A place for one answer. Dropped unused, it tells its caller that the engine stopped.
pub(crate) struct Reply<T> {
    send: Option<Callback<T>>,
}

type Callback<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

impl<T> Reply<T> {
    fn new(send: impl FnOnce(Result<T, Error>) + Send + 'static) -> Reply<T> {
        Reply { send: Some(Box::new(send)) }
    }

    pub(crate) fn give(mut self, result: Result<T, Error>) {
        if let Some(send) = self.send.take() {
            send(result);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            send(Err(Error::Poisoned("it did not come to answer this".into())));
        }
    }
}

/// What callers ask of the writer.
pub(crate) enum Job {
    Rows(Batch, Vec<Checked>, Reply<Answers>),
    Register(Vec<Registration>, Reply<Vec<Code>>),
    Publish {
        programme: u16,
        version: u32,
        text: String,
        tables: String,
        reply: Reply<Code>,
    },
    CloseDay(u16, i32, Reply<CloseReport>),
    /// Code, index and newest entry of a card.
    Newest(u16, CardNumber, Reply<(Code, u32, u64)>),
    TrialBalance(u16, Reply<TrialBalance>),
    Positions(u16, Reply<(Code, Vec<StorePosition>)>),
    Liabilities(u16, Reply<Liabilities>),
    Staff(u16, Reply<(Code, Vec<StaffSales>)>),
    /// Cards that a member holds; 58 if the programme is unknown.
    CardsOf(u16, u64, Reply<(Code, Vec<CardNumber>)>),
    RulesVersions(u16, Reply<(Code, Vec<RulesVersion>)>),
    /// Rows of the feed whose cards are to be looked up.
    Feed(u16, Vec<FeedRow>, Reply<(Code, Vec<FeedRow>)>),
    Cursors(u16, Reply<Cursors>),
    /// One row with the flag of a dry run, and what it would be, if it came so far.
    TryOut(Batch, Vec<Checked>, Reply<(Answers, Option<Transaction>)>),
    /// Of a card by its index and a store by its number; None if one of them is not there.
    Surroundings(u16, u32, u32, Reply<Option<Surroundings>>),
    /// The sequence of the authorisation that a request of a programme names; 0: it names none that was approved, or that is still known.
    Authorisation(u16, Original, Reply<u64>),
    Stats(Reply<Stats>),
    Digest(Reply<[u8; 32]>),
    /// Who asks the rules that are kept outside from now on.
    Adviser(Option<Box<dyn Adviser>>, Reply<()>),
    Checkpoint(Reply<()>),
    Stop,
}

/// Called when the group is durable, or with the reason why it is not.
pub(crate) type Delivery = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The writer's end of the way to the journal.
pub(crate) struct Handover {
    commits: Arc<Commits>,
    groups: Sender<Group>,
    /// Holds the token while no group is being made durable.
    ready: Receiver<()>,
    ready_again: Sender<()>,
}

impl Handover {
    /// Makes a group durable, here or on the sync thread. The token must have been taken; false: the sync thread has ended.
    fn pass_on(&self, group: Group, here: bool) -> bool {
        if !here {
            return self.groups.send(group).is_ok();
        }
        self.commits.commit(group);
        self.ready_again.send(()).is_ok()
    }
}

/// A group on its way to the journal.
pub(crate) struct Group {
    block: Option<UnsealedBlock>,
    deliveries: Vec<Delivery>,
}

/// What the threads and the callers share.
pub(crate) struct Shared {
    /// Entries below this are durable.
    durable: AtomicU64,
    /// Tells waiters that `durable` moved, or that the engine stopped.
    moved: (Mutex<()>, Condvar),
    poison: OnceLock<String>,
}

impl Shared {
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn set_durable(&self, end: u64) {
        self.durable.store(end, Ordering::Release);
        self.notify();
    }

    fn notify(&self) {
        let _guard = self.moved.0.lock().unwrap_or_else(|broken| broken.into_inner());
        self.moved.1.notify_all();
    }

    pub(crate) fn poison(&self, why: String) {
        let _ = self.poison.set(why);
        self.notify();
    }

    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.poison.get().map(|why| Error::Poisoned(why.clone()))
    }

    /// Waits until entries below `end` are durable; false if they never will be.
    fn wait_durable(&self, end: u64) -> bool {
        let mut guard = self.moved.0.lock().unwrap_or_else(|broken| broken.into_inner());
        while self.durable() < end {
            if self.poison.get().is_some() {
                return false;
            }
            guard = self.moved.1.wait(guard).unwrap_or_else(|broken| broken.into_inner());
        }
        true
    }
}

/// An open engine. Clones are handles of the same one.
#[derive(Clone)]
pub struct Engine {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    /// None when it is closed.
    live: Arc<Mutex<Option<Live>>>,
    secrets: Secrets,
    explained: LastTables,
    pid: u32,
}

/// What an open engine holds, and gives back when it is closed.
struct Live {
    threads: Vec<JoinHandle<()>>,
    journal: Arc<dyn Journal>,
    members: Members,
    _directory: Directory,
}

impl Engine {
    /// Opens the data directory, or makes it; brings the state up to the journal's end.
    pub fn open(path: &Path, options: Options) -> Result<Engine, Error> {
        let directory = Directory::own(path)?;
        let journal = directory.journal(options.journal_bytes_max, (options.new_id)())?;
        let checkpoint = directory.checkpoint(options.checkpoint_bytes_max, &journal)?;
        let members = directory.members()?;
        let recovered = recover(&journal, &checkpoint)?;
        let (next, head) = journal.head()?;
        let journal: Arc<dyn Journal> = Arc::new(journal);
        let shared = Arc::new(Shared { durable: AtomicU64::new(next), moved: Default::default(), poison: OnceLock::new() });
        let (jobs, jobs_out) = bounded(JOBS_MAX);
        let (groups_in, groups) = bounded(1);
        let (ready_in, ready) = bounded(1);
        let (steps_in, steps) = bounded(STEPS_MAX);
        let (spare_in, spare) = bounded(STEPS_MAX);
        let (spare_keys_in, spare_keys) = bounded(KEY_ROOMS_MAX);
        let (written_in, written) = bounded(1);
        let behind_ends = Behind { steps: steps_in, spare, spare_keys, written };
        let storage = checkpoint.storage().clone();
        let commits = Arc::new(Commits { shared: shared.clone(), journal: journal.clone(), head: Mutex::new(head) });
        let _ = ready_in.send(());
        let sync = Handover { commits: commits.clone(), groups: groups_in, ready, ready_again: ready_in.clone() };
        let secrets = options.secrets.clone();
        let checkpoint_entries = options.checkpoint_entries;
        let writer = Writer::new(
            jobs_out,
            shared.clone(),
            journal.clone(),
            storage,
            recovered,
            next,
            members.clone(),
            options,
            sync,
            behind_ends,
        );
        let passes = Passes {
            shared: shared.clone(),
            steps,
            spare: spare_in,
            spare_keys: spare_keys_in,
            written: written_in,
            checkpoint_entries,
        };
        let threads = vec![
            spawn("onecard-writer", move || writer.run()),
            spawn("onecard-sync", move || sync_groups(&commits, &groups, &ready_in)),
            spawn("onecard-checkpoint", move || {
                give_way();
                checkpoint.write(&passes)
            }),
        ];
        let live = Arc::new(Mutex::new(Some(Live { threads, journal, members, _directory: directory })));
        Ok(Engine { jobs, shared, live, secrets, explained: LastTables::default(), pid: std::process::id() })
    }

    /// Asks for these transactions, at most [`ROWS_MAX`], in order; each sees those before it. `done` is called when all that
    /// they saw is durable, on the sync thread or the writer's: it must be quick and must not wait for the engine.
    pub fn submit(&self, batch: impl Into<Batch>, done: impl FnOnce(Result<Answers, Error>) + Send + 'static) {
        let (batch, reply) = (batch.into(), Reply::new(done));
        if batch.rows.len() > ROWS_MAX {
            let what = format!("{} rows in one submission; {ROWS_MAX} is the most", batch.rows.len());
            return reply.give(Err(Error::Misuse(what)));
        }
        let checked = Checked::of_batch(&batch, &self.secrets);
        self.send(Job::Rows(batch, checked, reply));
    }

    /// The keys that it was opened with.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Registers programmes, merchants, stores and terminals, in order: a code each.
    pub fn register(&self, registrations: Vec<Registration>) -> Result<Vec<Code>, Error> {
        self.call(|reply| Job::Register(registrations, reply))
    }

    /// Publishes a version of a programme's rules. [`Error::Rules`] if the tables are wrong.
    pub fn publish(&self, programme: u16, version: u32, text: String, tables: String) -> Result<Code, Error> {
        self.call(|reply| Job::Publish { programme: programme.max(1), version, text, tables, reply })
    }

    /// Closes the open business day; a day closed before gives its report again.
    pub fn close_day(&self, programme: u16, date: i32) -> Result<CloseReport, Error> {
        self.call(|reply| Job::CloseDay(programme.max(1), date, reply))
    }

    /// Lines of a card's account, newest first, from before the sequence `before` (0: from the newest).
    pub fn statement(
        &self,
        programme: u16,
        number: CardNumber,
        limit: usize,
        before: u64,
    ) -> Result<(Code, Vec<StatementLine>), Error> {
        let (code, card, newest) = self.call(|reply| Job::Newest(programme.max(1), number, reply))?;
        let journal = self.journal()?;
        let mut lines: Vec<StatementLine> = Vec::new();
        let mut sequence = newest;
        while sequence != 0 {
            let contradiction = || Error::Contradiction { sequence, what: "it is not an entry of the card".into() };
            let Some(Entry::Transaction(entry)) = journal.entry(sequence)? else { return Err(contradiction()) };
            let (answer, previous, place) = answer_to(&entry, sequence, card).ok_or_else(contradiction)?;
            if let Some(later) = lines.last_mut() {
                later.growth -= answer.points_balance;
            }
            if lines.len() == limit {
                break;
            }
            if before == 0 || sequence < before {
                let points = points_of(&entry, place);
                lines.push(StatementLine {
                    value_date: entry.key.date,
                    terminal: entry.terminal,
                    store: entry.store,
                    points,
                    growth: answer.points_balance - points,
                    answer,
                });
            }
            sequence = previous;
        }
        Ok((code, lines))
    }

    /// All accounts of a programme, summed by kind.
    pub fn trial_balance(&self, programme: u16) -> Result<TrialBalance, Error> {
        self.call(|reply| Job::TrialBalance(programme.max(1), reply))
    }

    /// What the members of staff of a programme sold, by the numbers of their cards.
    pub fn staff(&self, programme: u16) -> Result<(Code, Vec<StaffSales>), Error> {
        self.call(|reply| Job::Staff(programme.max(1), reply))
    }

    /// Enrols a member: 00 also if the same is there, 94 if another has the id or had it, 30 if it is malformed, 58.
    pub fn enrol(&self, programme: u16, member: &Member) -> Result<Code, Error> {
        let (code, _) = self.cards_of(programme, member.id)?;
        if code == Code::Approved { Ok(self.members()?.enrol(programme.max(1), member)?) } else { Ok(code) }
    }

    /// Replaces what is known of a member: 25 if there is none, 30 if it is malformed.
    pub fn update_member(&self, programme: u16, member: &Member) -> Result<Code, Error> {
        Ok(self.members()?.update(programme.max(1), member)?)
    }

    /// Erases all that is known of a member; the cards stay with the id: 25 if there never was one.
    pub fn erase_member(&self, programme: u16, id: u64) -> Result<Code, Error> {
        Ok(self.members()?.erase(programme.max(1), id)?)
    }

    /// What is known of a member, and the numbers of the cards that it holds.
    pub fn member(&self, programme: u16, id: u64) -> Result<(Option<Member>, Vec<CardNumber>), Error> {
        let (_, cards) = self.cards_of(programme, id)?;
        Ok((self.members()?.get(programme.max(1), id)?, cards))
    }

    /// Members by id, those above `after`, at most `limit` and a thousand; with a tag those that have it.
    pub fn list_members(&self, programme: u16, after: u64, limit: usize, tag: &str) -> Result<Vec<Member>, Error> {
        Ok(self.members()?.list(programme.max(1), after, limit, tag)?)
    }

    fn cards_of(&self, programme: u16, member: u64) -> Result<(Code, Vec<CardNumber>), Error> {
        self.call(|reply| Job::CardsOf(programme.max(1), member, reply))
    }

    fn members(&self) -> Result<Members, Error> {
        self.check_open()?;
        self.lock().as_ref().map(|live| live.members.clone()).ok_or_else(closed)
    }

    /// Live positions of a programme's stores.
    pub fn positions(&self, programme: u16) -> Result<(Code, Vec<StorePosition>), Error> {
        self.call(|reply| Job::Positions(programme.max(1), reply))
    }

    /// The points of a programme's cards, by the merchant that issued them.
    pub fn liabilities(&self, programme: u16) -> Result<Liabilities, Error> {
        self.call(|reply| Job::Liabilities(programme.max(1), reply))
    }

    /// Every version of a programme's rules that was published, in order.
    pub fn rules_versions(&self, programme: u16) -> Result<(Code, Vec<RulesVersion>), Error> {
        self.call(|reply| Job::RulesVersions(programme.max(1), reply))
    }

    /// A version of a programme's rules as the journal has it; 0: the newest. Without such a version it is answered 25.
    pub fn rules(&self, programme: u16, version: u32) -> Result<PublishedRules, Error> {
        let (code, versions) = self.rules_versions(programme)?;
        if code != Code::Approved {
            return Ok(PublishedRules::refused(code));
        }
        let at = if version == 0 { versions.len() } else { version as usize };
        let Some(&version) = at.checked_sub(1).and_then(|at| versions.get(at)) else {
            return Ok(PublishedRules::refused(Code::OriginalNotFound));
        };
        match self.journal()?.entry(version.sequence)? {
            Some(Entry::Rules { text, tables, .. }) => Ok(PublishedRules { code, version, text, tables }),
            _ => Err(Error::Contradiction { sequence: version.sequence, what: "it does not publish rules".into() }),
        }
    }

    /// Loads a period of the journal, as far as it is durable, so that other rules can be tried on it; on the calling thread. `progress` hears
    /// of entries read and entries in all, and stops it by saying false.
    pub fn period(&self, bounds: Bounds, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<Period, Error> {
        let bounds = Bounds { programme: bounds.programme.max(1), ..bounds };
        self.check_open()?;
        Period::load(&*self.journal()?, &self.members()?, bounds, &mut |done, all| {
            // Nobody reads the journal of an engine that was closed meanwhile.
            self.check_open()?;
            if progress(done, all) { Ok(()) } else { Err(what_if::stopped()) }
        })
    }

    /// How large everything is.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.call(Job::Stats)
    }

    /// SHA-256 of the whole state in a canonical order. Everything waits for it.
    pub fn state_digest(&self) -> Result<[u8; 32], Error> {
        self.call(Job::Digest)
    }

    /// Runs a checkpoint pass now and waits for it.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.call(Job::Checkpoint)
    }

    /// Sets who asks the rules that are kept outside, for what is asked from now on. Without anybody they count as failed.
    pub fn set_adviser(&self, adviser: Option<Box<dyn Adviser>>) -> Result<(), Error> {
        self.call(|reply| Job::Adviser(adviser, reply))
    }

    /// Why the engine stopped by itself; None while it runs.
    pub fn poisoned(&self) -> Option<String> {
        self.shared.poison.get().cloned()
    }

    /// Answers what was asked before, then stops. Idempotent.
    pub fn close(&self) -> Result<(), Error> {
        self.check_process()?;
        let Some(live) = self.lock().take() else { return Ok(()) };
        let _ = self.jobs.send(Job::Stop);
        for thread in live.threads {
            let _ = thread.join();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    fn journal(&self) -> Result<Arc<dyn Journal>, Error> {
        self.lock().as_ref().map(|live| live.journal.clone()).ok_or_else(closed)
    }

    fn check_process(&self) -> Result<(), Error> {
        if std::process::id() == self.pid {
            return Ok(());
        }
        let what = "this engine was opened before the process forked and belongs to its parent; open one after the fork";
        Err(Error::Closed(what.into()))
    }

    /// An error unless it runs, in the process that opened it.
    pub fn check_open(&self) -> Result<(), Error> {
        self.check_process()?;
        if self.lock().is_none() {
            return Err(closed());
        }
        self.shared.poisoned().map_or(Ok(()), Err)
    }

    fn send(&self, job: Job) {
        if let Err(error) = self.check_open() {
            return job.refuse(error);
        }
        if let Err(unsent) = self.jobs.send(job) {
            let error = self.shared.poisoned().unwrap_or_else(closed);
            unsent.into_inner().refuse(error);
        }
    }

    fn call<T: Send + 'static>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (give, take) = bounded(1);
        self.send(job(Reply::new(move |result| drop(give.send(result)))));
        take.recv().unwrap_or_else(|_| Err(closed()))
    }
}

impl Job {
    /// The rows that it asks for, of which some may be sales, with what was said of them at the door.
    pub(crate) fn rows_checked(&self) -> Option<(&Batch, &[Checked])> {
        match self {
            Job::Rows(batch, checked, _) | Job::TryOut(batch, checked, _) => Some((batch, checked)),
            _ => None,
        }
    }

    /// Answers with this error, unexecuted.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Job::Rows(_, _, reply) => reply.give(Err(error)),
            Job::Register(_, reply) => reply.give(Err(error)),
            Job::Publish { reply, .. } => reply.give(Err(error)),
            Job::CloseDay(_, _, reply) => reply.give(Err(error)),
            Job::Newest(_, _, reply) => reply.give(Err(error)),
            Job::TrialBalance(_, reply) => reply.give(Err(error)),
            Job::Positions(_, reply) => reply.give(Err(error)),
            Job::Liabilities(_, reply) => reply.give(Err(error)),
            Job::Staff(_, reply) => reply.give(Err(error)),
            Job::CardsOf(_, _, reply) => reply.give(Err(error)),
            Job::RulesVersions(_, reply) => reply.give(Err(error)),
            Job::Feed(_, _, reply) => reply.give(Err(error)),
            Job::Cursors(_, reply) => reply.give(Err(error)),
            Job::TryOut(_, _, reply) => reply.give(Err(error)),
            Job::Surroundings(_, _, _, reply) => reply.give(Err(error)),
            Job::Authorisation(_, _, reply) => reply.give(Err(error)),
            Job::Stats(reply) => reply.give(Err(error)),
            Job::Digest(reply) => reply.give(Err(error)),
            Job::Adviser(_, reply) => reply.give(Err(error)),
            Job::Checkpoint(reply) => reply.give(Err(error)),
            Job::Stop => {}
        }
    }
}

fn closed() -> Error {
    Error::Closed("the engine is closed".into())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).expect("the system gives a thread")
}

/// Lets the other threads go first. Where it is refused a pass is merely not modest; where a thread has no priority of its own it is not asked for.
fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, PASS_NICE);
}

/// Makes groups durable, one after the other, and answers them.
///
/// Whoever holds the token of the `ready` channel may do it: the sync thread, or the writer for a group so small that
/// waking another thread would cost more than what the writer could execute meanwhile.
pub(crate) struct Commits {
    shared: Arc<Shared>,
    journal: Arc<dyn Journal>,
    /// Hash of the newest block.
    head: Mutex<[u8; HASH]>,
}

impl Commits {
    pub(crate) fn commit(&self, group: Group) {
        let mut outcome = self.shared.poisoned().map_or(Ok(()), Err);
        if let (Ok(()), Some(block)) = (&outcome, &group.block) {
            let mut head = self.head.lock().unwrap_or_else(|broken| broken.into_inner());
            let sealed = block.seal(&head);
            match self.journal.append(&sealed) {
                Ok(()) => {
                    *head = sealed.hash();
                    self.shared.set_durable(block.end());
                }
                Err(error) => {
                    self.shared.poison(format!("a commit to the journal failed: {error}"));
                    outcome = self.shared.poisoned().map_or(Ok(()), Err);
                }
            }
        }
        for deliver in group.deliveries {
            deliver(outcome.clone());
        }
        self.journal.tidy();
    }
}

/// The sync thread. The first token is given by whoever starts it.
fn sync_groups(commits: &Commits, groups: &Receiver<Group>, ready: &Sender<()>) {
    for group in groups {
        commits.commit(group);
        let _ = ready.send(());
    }
}

/// The checkpoint thread's ends of the ways to the others.
struct Passes {
    shared: Arc<Shared>,
    steps: Receiver<Step>,
    spare: Sender<Vec<CardRecord>>,
    spare_keys: Sender<Recent>,
    written: Sender<writer::Written>,
    /// As in [`Options`].
    checkpoint_entries: u64,
}

impl Passes {
    fn entries_since(&self, begin: u64) -> u64 {
        self.shared.durable().saturating_sub(begin)
    }
}

impl Ways for Passes {
    fn next(&self) -> Option<Step> {
        self.steps.recv().ok()
    }

    fn durable(&self, end: u64) -> bool {
        self.shared.wait_durable(end)
    }

    fn spare(&self, room: Vec<CardRecord>) {
        let _ = self.spare.try_send(room);
    }

    fn spare_keys(&self, room: Recent) {
        let _ = self.spare_keys.try_send(room);
    }

    fn hurries(&self, begin: u64) -> bool {
        self.entries_since(begin) >= hurry_entries(self.checkpoint_entries)
    }

    fn rest(&self, begin: u64, took: Duration) {
        let rest = pass_rest(took, self.entries_since(begin), self.checkpoint_entries);
        if !rest.is_zero() {
            thread::sleep(rest);
        }
    }

    fn written(&self, result: writer::Written) {
        let _ = self.written.send(result);
    }
}
