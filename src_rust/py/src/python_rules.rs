//! Rules in Python: a process of their own evaluates them, and is asked over a socket, with a deadline.
//!
//! The worker is started by `exec`, never by a fork alone: it inherits the one end of a pair of sockets, as its standard input, and nothing of the engine.
//! It is shown a group of sales as one frame, column after column, and answers rule by rule. One that is late or gone is killed, and another is
//! started by a thread beside; until that is there, rules count as failed. No interpreter of this process is ever waited for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use onecard_core::advice::{Adviser, Columns, Outcome};
use onecard_core::rules::{PythonRule, Said};
use serde_json::{Value, json};

/// A worker that is not there after this is not waited for any longer: it has numpy to import, and what the rules import.
const START: Duration = Duration::from_secs(60);
/// Between a worker that did not start and the next one, at first; each time twice as long.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Most bytes of what a worker says of itself or of an error.
const TEXT_MAX: usize = 1 << 20;

/// What there is to be known of the worker and of what it was asked.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Groups that rules were asked about, and the sales in them.
    pub groups: u64,
    pub sales: u64,
    /// Answers of rules that failed, and that were late.
    pub failed: u64,
    pub timed_out: u64,
    /// Workers started after the first.
    pub restarts: u64,
    /// The newest failure; empty: there was none.
    pub error: String,
    /// Process id of the worker; 0: none is there.
    pub pid: u32,
}

/// Who asks the worker: it lives with the writer.
pub struct Outside {
    shared: Arc<Shared>,
    /// Room for a frame, used again.
    frame: Vec<u8>,
}

/// What the writer, the thread that starts workers, and Python share.
pub struct Shared {
    command: Vec<String>,
    setup: Vec<u8>,
    slot: Mutex<Slot>,
    counts: Mutex<Counts>,
}

enum Slot {
    Ready(Worker),
    Starting,
    Closed,
}

/// A rule that a worker has.
struct Known {
    id: u16,
    name: String,
    version: String,
    timeout: Duration,
}

struct Worker {
    child: Child,
    socket: UnixStream,
    rules: Vec<Known>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl Shared {
    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let pid = if let Slot::Ready(worker) = &*lock(&self.slot) { worker.child.id() } else { 0 };
        Counts { pid, ..lock(&self.counts).clone() }
    }

    /// Replaces a worker that is of no use any more.
    fn restart(self: &Arc<Shared>, lost: Worker) {
        let shared = self.clone();
        let started = thread::Builder::new().name("onecard-worker".into()).spawn(move || {
            drop(lost);
            let mut rest = RETRY;
            loop {
                match Worker::start(&shared.command, &shared.setup) {
                    Ok(worker) => return shared.put(worker),
                    Err(error) => lock(&shared.counts).error = error,
                }
                thread::sleep(rest);
                rest = (rest * 2).min(RETRY_MAX);
                if matches!(*lock(&shared.slot), Slot::Closed) {
                    return;
                }
            }
        });
        if let Err(error) = started {
            lock(&self.counts).error = format!("no thread to start a worker: {error}");
        }
    }

    fn put(&self, worker: Worker) {
        let mut slot = lock(&self.slot);
        if !matches!(*slot, Slot::Closed) {
            *slot = Slot::Ready(worker);
            lock(&self.counts).restarts += 1;
        }
    }
}

impl Outside {
    /// Starts a worker by this command, and tells it what to evaluate; the error says why it does not.
    pub fn start(command: Vec<String>, setup: Vec<u8>) -> Result<(Outside, Arc<Shared>), String> {
        let worker = Worker::start(&command, &setup)?;
        let slot = Mutex::new(Slot::Ready(worker));
        let shared = Arc::new(Shared { command, setup, slot, counts: Mutex::default() });
        Ok((Outside { shared: shared.clone(), frame: Vec::new() }, shared))
    }

    fn ask(&mut self, group: &Columns, rules: &[PythonRule]) -> Vec<Outcome> {
        let mut slot = lock(&self.shared.slot);
        let Slot::Ready(worker) = &mut *slot else { return vec![Outcome::Failed; rules.len()] };
        let known: Vec<Option<usize>> = rules.iter().map(|rule| worker.rules.iter().position(|of| of.is(rule))).collect();
        let asked: Vec<usize> = known.iter().flatten().copied().collect();
        fill(&mut self.frame, group, &asked);
        let (mut outcomes, mut lost) = (Vec::with_capacity(rules.len()), None);
        let mut deadline = Instant::now();
        let mut unsent = &self.frame[..];
        for (rule, at) in rules.iter().zip(known) {
            let Some(at) = at else {
                lock(&self.shared.counts).error = format!("{} {} is not among the rules of the worker", rule.name, rule.version);
                outcomes.push(Outcome::Failed);
                continue;
            };
            deadline = deadline.max(Instant::now()) + worker.rules[at].timeout;
            let heard = match lost {
                None => exchange(&mut worker.socket, std::mem::take(&mut unsent), group.len(), deadline),
                Some(_) => Ok(Err("the worker is gone".into())),
            };
            outcomes.push(match heard {
                Ok(Ok(said)) => Outcome::Said(said),
                Ok(Err(error)) => {
                    lock(&self.shared.counts).error = format!("{} {}: {error}", rule.name, rule.version);
                    Outcome::Failed
                }
                Err(error) => {
                    let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    lost = Some(format!(
                        "{} {}: {}",
                        rule.name,
                        rule.version,
                        if late { "it took too long".into() } else { error.to_string() }
                    ));
                    if late { Outcome::TimedOut } else { Outcome::Failed }
                }
            });
        }
        if let Some(error) = lost {
            lock(&self.shared.counts).error = error;
            if let Slot::Ready(worker) = std::mem::replace(&mut *slot, Slot::Starting) {
                self.shared.restart(worker);
            }
        }
        outcomes
    }
}

impl Adviser for Outside {
    fn advise(&mut self, group: &Columns, rules: &[PythonRule]) -> Vec<Outcome> {
        let outcomes = self.ask(group, rules);
        let mut counts = lock(&self.shared.counts);
        counts.groups += 1;
        counts.sales += group.len() as u64;
        counts.failed += outcomes.iter().filter(|outcome| **outcome == Outcome::Failed).count() as u64;
        counts.timed_out += outcomes.iter().filter(|outcome| **outcome == Outcome::TimedOut).count() as u64;
        outcomes
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        *lock(&self.shared.slot) = Slot::Closed;
    }
}

impl Known {
    fn is(&self, rule: &PythonRule) -> bool {
        self.id == rule.id && self.name == rule.name && self.version == rule.version
    }
}

impl Worker {
    fn start(command: &[String], setup: &[u8]) -> Result<Worker, String> {
        let (program, arguments) = command.split_first().ok_or("no command")?;
        let (socket, theirs) = UnixStream::pair().map_err(|error| format!("a pair of sockets: {error}"))?;
        let input = Stdio::from(OwnedFd::from(theirs));
        let child = Command::new(program).args(arguments).stdin(input).spawn().map_err(|error| format!("{program}: {error}"))?;
        let mut worker = Worker { child, socket, rules: Vec::new() };
        let broken = |error: io::Error| format!("the worker of the Python rules did not start: {error}");
        worker.greet(setup).map_err(broken)??;
        Ok(worker)
    }

    /// Tells it what to evaluate and how columns lie; it says which rules it has.
    fn greet(&mut self, setup: &[u8]) -> io::Result<Result<(), String>> {
        let deadline = Instant::now() + START;
        let columns: Vec<_> = Columns::default().each().iter().map(|&(name, kind, _)| json!([name, kind])).collect();
        for text in [setup, json!(columns).to_string().as_bytes()] {
            write_until(&mut self.socket, &(text.len() as u32).to_le_bytes(), deadline)?;
            write_until(&mut self.socket, text, deadline)?;
        }
        let mut length = [0; 4];
        read_until(&mut self.socket, &mut length, deadline)?;
        let text = read_text(&mut self.socket, u32::from_le_bytes(length), deadline)?;
        let found: Value = serde_json::from_str(&text)?;
        if let Some(error) = found["error"].as_str() {
            return Ok(Err(error.to_owned()));
        }
        let rule = |of: &Value| {
            let text = |name: &str| of[name].as_str().map(str::to_owned);
            let timeout = Duration::from_millis(of["timeout_ms"].as_u64()?);
            Some(Known { id: of["id"].as_u64()?.try_into().ok()?, name: text("name")?, version: text("version")?, timeout })
        };
        let rules: Option<Vec<Known>> = found["rules"].as_array().and_then(|rules| rules.iter().map(rule).collect());
        self.rules = rules.ok_or(ErrorKind::InvalidData)?;
        Ok(Ok(()))
    }
}

/// A group as a frame: bytes that follow, sales, programme, rules and open date; then the columns, then the places of the rules.
fn fill(frame: &mut Vec<u8>, group: &Columns, asked: &[usize]) {
    frame.clear();
    let columns = group.each();
    let bytes = columns.iter().map(|column| column.2.len()).sum::<usize>() + 2 * asked.len();
    frame.extend_from_slice(&(bytes as u32).to_le_bytes());
    frame.extend_from_slice(&(group.len() as u32).to_le_bytes());
    frame.extend_from_slice(&group.programme.to_le_bytes());
    frame.extend_from_slice(&(asked.len() as u16).to_le_bytes());
    frame.extend_from_slice(&group.open_date.to_le_bytes());
    columns.iter().for_each(|column| frame.extend_from_slice(column.2));
    asked.iter().for_each(|&at| frame.extend_from_slice(&(at as u16).to_le_bytes()));
}

/// Which columns an answer has.
const HAS_OFF: u8 = 1;
const HAS_FACTOR: u8 = 2;
const HAS_REFUSES: u8 = 4;

/// Sends what is unsent, and reads what a rule says of each sale, or the error that it raised.
fn exchange(socket: &mut UnixStream, unsent: &[u8], sales: usize, deadline: Instant) -> io::Result<Result<Vec<Said>, String>> {
    write_until(socket, unsent, deadline)?;
    let mut head = [0; 8];
    read_until(socket, &mut head, deadline)?;
    let [status, fields, _, _, count @ ..] = head;
    let count = u32::from_le_bytes(count);
    if status != 0 {
        return Ok(Err(read_text(socket, count, deadline)?));
    }
    if count as usize != sales {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut said = vec![Said::NOTHING; sales];
    let mut bytes = vec![0; sales * 8];
    let numbers = |bytes: &[u8]| -> Vec<u64> {
        bytes.chunks_exact(8).map(|of| u64::from_le_bytes(of.try_into().expect("eight"))).collect()
    };
    if fields & HAS_OFF != 0 {
        read_until(socket, &mut bytes, deadline)?;
        said.iter_mut().zip(numbers(&bytes)).for_each(|(said, off)| said.off = off);
    }
    if fields & HAS_FACTOR != 0 {
        read_until(socket, &mut bytes, deadline)?;
        said.iter_mut().zip(numbers(&bytes)).for_each(|(said, factor)| said.factor = factor);
    }
    if fields & HAS_REFUSES != 0 {
        read_until(socket, &mut bytes[..sales], deadline)?;
        said.iter_mut().zip(&bytes).for_each(|(said, &refuses)| said.refuses = refuses != 0);
    }
    Ok(Ok(said))
}

fn read_text(socket: &mut UnixStream, length: u32, deadline: Instant) -> io::Result<String> {
    if length as usize > TEXT_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length as usize];
    read_until(socket, &mut text, deadline)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What is left until then; an error if nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn write_until(socket: &mut UnixStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.set_write_timeout(Some(left(deadline)?))?;
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_until(socket: &mut UnixStream, mut room: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !room.is_empty() {
        socket.set_read_timeout(Some(left(deadline)?))?;
        match socket.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => room = &mut room[read..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
