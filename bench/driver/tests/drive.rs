//! The driver against a real server: what it counts is what is in the journal.

use std::time::{Duration, SystemTime};

use onecard_core::calendar::from_yyyymmdd;
use onecard_core::{CardNumber, Engine, Options, Registration, Request, Secrets};
use onecard_driver::load::{Mode, Plan, Report, run};
use onecard_driver::swipes::{Range, card_number};
use onecard_grpc::{Server, serve};
use tempfile::TempDir;

const DATE: u32 = 20240229;
const CARDS: u64 = 100;
const TERMINALS: u32 = 7;
const TABLES: &str = r#"{
    "money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 0, "accrual": 0,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [],
    "waterfall": [{"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "compounding_rate": 0, "time_tolerance_s": 86400}"#;

struct Bench {
    server: Server,
    engine: Engine,
    _directory: TempDir,
}

impl Bench {
    fn open() -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options {
            journal_bytes_max: 1 << 30,
            checkpoint_bytes_max: 1 << 30,
            checkpoint_entries: 1_000_000,
            clock: || SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_micros() as u64,
            new_id: || [7; 16],
            secrets: Secrets::default(),
        };
        let engine = Engine::open(directory.path(), options).expect("it opens");
        engine.register(organisation()).expect("registered");
        engine.publish(1, 1, "a".into(), TABLES.into()).expect("published");
        let (sender, receiver) = std::sync::mpsc::channel();
        engine.submit((0..CARDS).map(issue).collect::<Vec<_>>(), move |answers| sender.send(answers).expect("it waits"));
        let answers = receiver.recv().expect("answered").expect("issued");
        assert!(answers.rows.iter().all(|answer| answer.code == 0));
        let server = serve(engine.clone(), "127.0.0.1:0").expect("it serves");
        Bench { server, engine, _directory: directory }
    }

    fn entries(&self) -> u64 {
        self.engine.trial_balance(1).expect("answered").entries
    }

    fn plan(&self, mode: Mode, first_trace: u32) -> Plan {
        Plan {
            target: self.server.address(),
            mode,
            in_flight: 12,
            connections: 3,
            warm_up: Duration::from_millis(50),
            duration: Duration::from_millis(300),
            rate: None,
            batch: 50,
            swipes: Range {
                programme: 1,
                date: DATE,
                first_terminal: 1,
                terminals: TERMINALS,
                first_trace,
                first_card: 0,
                cards: CARDS,
                zipf: first_trace > 1,
                seed: 3,
            },
        }
    }

    /// Runs a plan of swipes and holds what it counted against the journal.
    fn swipe(&self, plan: &Plan) -> Report {
        let before = self.entries();
        let report = run(plan).expect("it runs");
        assert_eq!((report.errors, report.error.as_deref(), report.replayed), (0, None, 0));
        assert_eq!((report.calls, report.codes.values().sum::<u64>()), (report.sent, report.sent));
        assert_eq!(report.posted, self.entries() - before);
        assert!(report.measured <= report.calls);
        assert_eq!(report.posted + report.balances, report.calls);
        assert!(report.codes.keys().all(|code| [0, 51].contains(code)), "{:?}", report.codes);
        report
    }
}

fn organisation() -> Vec<Registration> {
    let name = || "x".to_owned();
    let date = from_yyyymmdd(DATE).expect("a date");
    let mut all = vec![
        Registration::Programme { programme: 1, name: name(), date },
        Registration::Merchant { programme: 1, merchant: 1, name: name() },
        Registration::Store { programme: 1, store: 1, merchant: 1, name: name() },
    ];
    all.extend((1..=TERMINALS).map(|terminal| Registration::Terminal { programme: 1, terminal, store: 1 }));
    all
}

fn issue(index: u64) -> Request {
    let digits = card_number(index);
    let number = CardNumber::parse(std::str::from_utf8(&digits).expect("digits")).expect("a card number");
    Request {
        kind: 1,
        product: 1,
        card: number.value(),
        card_digits: number.digits(),
        business_date: from_yyyymmdd(DATE).expect("a date"),
        terminal: 1,
        id_lo: index + 1,
        ..Request::default()
    }
}

#[test]
fn every_swipe_is_counted_and_posted_once() {
    let bench = Bench::open();
    let mut first_trace = 1;
    for mode in [Mode::Unary, Mode::Stream, Mode::Unary] {
        let report = bench.swipe(&bench.plan(mode, first_trace));
        first_trace = report.next_trace as u32;
    }
    let wide = Plan { batch: 1_000, in_flight: 64, ..bench.plan(Mode::Stream, first_trace) };
    assert_eq!(bench.swipe(&wide).calls % 1_000, 0);
}

#[test]
fn what_is_measured_holds_an_answer() {
    let bench = Bench::open();
    let report = bench.swipe(&Plan { duration: Duration::ZERO, ..bench.plan(Mode::Unary, 1) });
    assert!(report.measured > 0 && !report.latencies_us.is_empty());
    assert!(report.measured_for > Duration::ZERO);
}

#[test]
fn what_is_measured_of_a_slow_open_loop_holds_an_answer() {
    let bench = Bench::open();
    // The first call is answered before anything is measured, and the next is due after its end.
    let report = bench.swipe(&Plan { duration: Duration::ZERO, rate: Some(1.5), ..bench.plan(Mode::Unary, 1) });
    assert_eq!((report.sent, report.measured), (2, 1));
    assert!(report.measured_for > Duration::ZERO && !report.latencies_us.is_empty());
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let bench = Bench::open();
    let plan = Plan { rate: Some(1_000.0), ..bench.plan(Mode::Unary, 1) };
    // 350 ms at 1,000 a second, however slow the machine: what is late is sent all the same.
    assert_eq!(bench.swipe(&plan).sent, 350);
}

#[test]
fn empty_calls_post_nothing() {
    let bench = Bench::open();
    let before = bench.entries();
    let report = run(&bench.plan(Mode::Empty, 1)).expect("it runs");
    assert_eq!((report.errors, report.posted, report.calls), (0, 0, report.sent));
    assert!(report.measured > 0);
    assert_eq!(bench.entries(), before);
}

#[test]
fn calls_that_fail_are_errors() {
    let bench = Bench::open();
    bench.engine.close().expect("it closes");
    let report = run(&bench.plan(Mode::Unary, 1)).expect("it runs");
    assert_eq!((report.calls, report.errors), (0, report.sent));
    assert!(report.error.expect("there is one").contains("status 14"));
    bench.server.stop(Duration::ZERO);
    assert!(run(&bench.plan(Mode::Unary, 1)).is_err());
}
