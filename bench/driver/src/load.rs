//! Drives a server: closed loop (so many in flight) or open loop (so many a second), unary, streamed or empty calls.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::http2::{Connection, Event, MESSAGE_HEADER};
use crate::swipes::{Range, Swipes, outcomes};

/// A server that answers nothing for so long is given up. One that is only slow is not: in an open loop that it cannot keep up
/// with, what was due is sent and answered after the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest sleep, so that a stuck server is noticed.
const SLEEP_MAX: Duration = Duration::from_millis(100);
const TRANSACT: &str = "/onecard.v1.TerminalService/Transact";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// A swipe a call.
    Unary,
    /// Messages of many swipes over one Transact stream a connection.
    Stream,
    /// The health check: a handler that does nothing, on the same server.
    Empty,
}

/// How to drive.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub target: SocketAddr,
    /// What is called.
    pub mode: Mode,
    /// Calls in flight (stream: messages), all connections together.
    pub in_flight: u32,
    /// Connections, at most as many as calls in flight.
    pub connections: u32,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured; longer if nothing is answered within it, until the first answer.
    pub duration: Duration,
    /// Calls (stream: messages) a second, evenly spaced; None: the next as soon as one is answered.
    pub rate: Option<f64>,
    /// Swipes in a message of a stream.
    pub batch: u32,
    /// The swipes.
    pub swipes: Range,
}

/// What came of it. Counts are of the whole run, latencies and rates of the measured part.
pub struct Report {
    /// Swipes (empty: calls) that were sent.
    pub sent: u64,
    /// Swipes (empty: calls) that were answered.
    pub calls: u64,
    /// Of these, in the measured part.
    pub measured: u64,
    /// How long that was.
    pub measured_for: Duration,
    /// Answers by response code.
    pub codes: BTreeMap<u32, u64>,
    /// Answers with a sequence: there is an entry in the journal.
    pub posted: u64,
    /// Balance queries that were sent: they leave no entry.
    pub balances: u64,
    /// Answers that were an earlier request's; there should be none.
    pub replayed: u64,
    /// Calls (stream: messages) that failed or were not answered.
    pub errors: u64,
    /// The first of them.
    pub error: Option<String>,
    /// Latencies of calls (stream: messages) in microseconds.
    pub latencies_us: Histogram<u64>,
    /// A trace that no terminal has used yet.
    pub next_trace: u64,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> io::Result<Report> {
    let mut lanes = Vec::new();
    for number in 0..plan.connections {
        let extra = u32::from(number < plan.in_flight % plan.connections);
        lanes.push(Lane::open(plan, plan.in_flight / plan.connections + extra)?);
    }
    let mut load = Load {
        pace: Pace::new(plan),
        swipes: Swipes::new(plan.swipes.clone()),
        plan: plan.clone(),
        message: Vec::new(),
        report: Report {
            sent: 0,
            calls: 0,
            measured: 0,
            measured_for: plan.duration,
            codes: BTreeMap::new(),
            posted: 0,
            balances: 0,
            replayed: 0,
            errors: 0,
            error: None,
            latencies_us: Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order"),
            next_trace: 0,
        },
    };
    load.drive(&mut lanes)?;
    load.report.balances = load.swipes.balances();
    load.report.next_trace = load.swipes.next_trace();
    Ok(load.report)
}

/// A connection with its share of the calls in flight.
struct Lane {
    connection: Connection,
    quota: u32,
    in_flight: u32,
    /// Mode stream: the stream, and when each message on it was meant to be sent.
    stream: Option<u32>,
    since: VecDeque<Instant>,
}

impl Lane {
    fn open(plan: &Plan, quota: u32) -> io::Result<Lane> {
        let mut connection = Connection::open(plan.target)?;
        let stream = (plan.mode == Mode::Stream).then(|| connection.call(TRANSACT, Instant::now()));
        Ok(Lane { connection, quota, in_flight: 0, stream, since: VecDeque::new() })
    }
}

/// When calls begin.
struct Pace {
    interval: Option<Duration>,
    next: Instant,
    measure_from: Instant,
    end: Instant,
}

impl Pace {
    fn new(plan: &Plan) -> Pace {
        let start = Instant::now();
        let measure_from = start + plan.warm_up;
        let interval = plan.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Pace { interval, next: start, measure_from, end: measure_from + plan.duration }
    }

    /// The intended time of a call that is due.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let Some(interval) = self.interval else { return (now < self.end).then_some(now) };
        let since = self.next;
        if since > now || since >= self.end {
            return None;
        }
        self.next += interval;
        Some(since)
    }

    /// How long nothing needs to be sent if nothing is answered.
    fn idle(&self, now: Instant) -> Duration {
        match self.interval {
            Some(_) if self.next < self.end => self.next.saturating_duration_since(now).min(SLEEP_MAX),
            _ => SLEEP_MAX,
        }
    }

    /// Lets one more call of an open loop be due.
    fn go_on(&mut self) {
        if let Some(interval) = self.interval {
            self.end = self.next + interval;
        }
    }

    /// True if no call will be due any more.
    fn is_over(&self, now: Instant) -> bool {
        if self.interval.is_some() { self.next >= self.end } else { now >= self.end }
    }
}

struct Load {
    plan: Plan,
    pace: Pace,
    swipes: Swipes,
    /// Where messages are written; kept for its memory.
    message: Vec<u8>,
    report: Report,
}

impl Load {
    fn drive(&mut self, lanes: &mut [Lane]) -> io::Result<()> {
        let (mut answered, mut last_answer) = (0, Instant::now());
        loop {
            let now = Instant::now();
            self.begin_calls(lanes, now);
            for lane in lanes.iter_mut() {
                lane.connection.flush()?;
            }
            let open: u32 = lanes.iter().map(|lane| lane.in_flight).sum();
            let told = self.report.calls + self.report.errors;
            if open == 0 || told > answered {
                (answered, last_answer) = (told, now);
            }
            if open == 0 && self.pace.is_over(now) && self.report.measured + self.report.errors == 0 {
                self.pace.go_on();
            }
            if now >= last_answer + PATIENCE || (open == 0 && self.pace.is_over(now)) {
                self.count_lost(lanes);
                return Ok(());
            }
            // With no room for a call, only an answer makes a difference.
            let full = lanes.iter().all(|lane| lane.in_flight >= lane.quota);
            let ready = wait(lanes, if full { SLEEP_MAX } else { self.pace.idle(now) })?;
            for (lane, ready) in lanes.iter_mut().zip(ready) {
                if ready {
                    self.receive(lane)?;
                }
            }
        }
    }

    /// Begins what is due, in turn over the connections that have room.
    fn begin_calls(&mut self, lanes: &mut [Lane], now: Instant) {
        let count = lanes.len();
        let (mut at, mut full) = ((self.report.sent % count as u64) as usize, 0);
        while full < count {
            let lane = &mut lanes[at];
            at = (at + 1) % count;
            if lane.in_flight >= lane.quota {
                full += 1;
                continue;
            }
            full = 0;
            let Some(since) = self.pace.due(now) else { return };
            self.begin_call(lane, since);
        }
    }

    fn begin_call(&mut self, lane: &mut Lane, since: Instant) {
        lane.in_flight += 1;
        match (self.plan.mode, lane.stream) {
            (Mode::Stream, Some(stream)) => {
                self.swipes.message(self.plan.batch, &mut self.message);
                lane.connection.send(stream, &self.message, false);
                lane.since.push_back(since);
                self.report.sent += u64::from(self.plan.batch);
            }
            (Mode::Empty, _) => {
                let stream = lane.connection.call(HEALTH_CHECK, since);
                lane.connection.send(stream, &[0; MESSAGE_HEADER], true);
                self.report.sent += 1;
            }
            _ => {
                let path = self.swipes.unary(&mut self.message);
                let stream = lane.connection.call(path, since);
                lane.connection.send(stream, &self.message, true);
                self.report.sent += 1;
            }
        }
    }

    fn receive(&mut self, lane: &mut Lane) -> io::Result<()> {
        let Lane { connection, in_flight, stream, since: streamed, .. } = lane;
        let (report, mode, pace) = (&mut self.report, self.plan.mode, &self.pace);
        let now = Instant::now();
        let mut closed = false;
        connection.read(|event| match event {
            Event::Message { since, bytes } => {
                let since = if mode == Mode::Stream { streamed.pop_front().unwrap_or(now) } else { since };
                let measured = now >= pace.measure_from && (now < pace.end || report.measured == 0);
                let count = count_answers(report, mode, bytes);
                if measured {
                    report.measured += count;
                    report.measured_for = report.measured_for.max(now - pace.measure_from);
                    report.latencies_us.saturating_record((now - since).as_micros() as u64);
                }
                if mode == Mode::Stream {
                    *in_flight = in_flight.saturating_sub(1);
                }
            }
            Event::Ended { status, messages } if mode != Mode::Stream => {
                *in_flight -= 1;
                if status != 0 || messages != 1 {
                    note_error(report, 1, format!("a call ended with gRPC status {status} and {messages} messages"));
                }
            }
            Event::Ended { status, .. } => {
                closed = true;
                note_error(report, 0, format!("the stream ended with gRPC status {status}"));
            }
        })?;
        if closed {
            *stream = None;
            return Err(io::Error::other(report.error.clone().unwrap_or_default()));
        }
        Ok(())
    }

    fn count_lost(&mut self, lanes: &mut [Lane]) {
        let lost: u32 = lanes.iter().map(|lane| lane.in_flight).sum();
        if lost > 0 {
            note_error(&mut self.report, lost.into(), format!("{lost} calls were not answered within {PATIENCE:?}"));
        }
    }
}

/// Counts a response and returns how many calls it answers.
fn count_answers(report: &mut Report, mode: Mode, bytes: &[u8]) -> u64 {
    let mut count = u64::from(mode == Mode::Empty);
    if mode != Mode::Empty {
        let read = outcomes(bytes, |outcome| {
            count += 1;
            *report.codes.entry(outcome.code).or_default() += 1;
            report.posted += u64::from(outcome.sequence != 0);
            report.replayed += u64::from(outcome.replayed);
        });
        if !read {
            note_error(report, 1, "a response is malformed".to_owned());
        }
    }
    report.calls += count;
    count
}

fn note_error(report: &mut Report, count: u64, error: String) {
    report.errors += count;
    report.error.get_or_insert(error);
}

/// Waits until a socket is ready; tells which have something to read.
fn wait(lanes: &[Lane], timeout: Duration) -> io::Result<Vec<bool>> {
    let interest = |lane: &Lane| {
        if lane.connection.wants_to_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    };
    let mut sockets: Vec<_> = lanes.iter().map(|lane| PollFd::new(lane.connection.socket(), interest(lane))).collect();
    let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut sockets, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(sockets.iter().map(|socket| socket.revents().intersects(!PollFlags::OUT)).collect())
}
