//! The engine as its callers see it: open, ask, close, reopen.

use std::path::Path;
use std::sync::mpsc;

use onecard_core::checkpoint::CheckpointError;
use onecard_core::commands::USE_POINTS;
use onecard_core::journal::entry::Entry;
use onecard_core::machine::Machine;
use onecard_core::storage::Storage;
use onecard_core::{Answer, Code, Engine, Error, Kind, Options, PublishedRules, Registration, Request, Secrets, verify};

const DAY: i32 = 20_000;
const TABLES: &str = r#"{"money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 0, "accrual": 100000000000000,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [{"from": 100, "bonus": 0, "rate": 100000000000}],
    "waterfall": [{"pay": "points", "share": 1000000000000, "price": 100000000, "min_points": 0},
                  {"pay": "bonus", "share": 1000000000000, "price": 0, "min_points": 0},
                  {"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "compounding_rate": 1000000000, "time_tolerance_s": 86400}"#;

fn options(checkpoint_entries: u64) -> Options {
    let (journal_bytes_max, checkpoint_bytes_max) = (1 << 30, 1 << 30);
    Options {
        journal_bytes_max,
        checkpoint_bytes_max,
        checkpoint_entries,
        clock: || 1,
        new_id: || [7; 16],
        secrets: Secrets::default(),
    }
}

fn open(path: &Path) -> Engine {
    Engine::open(path, options(50)).unwrap()
}

fn chain(engine: &Engine) {
    let (programme, name) = (1, String::from("name"));
    let registrations = vec![
        Registration::Programme { programme, name: name.clone(), date: DAY },
        Registration::Merchant { programme, merchant: 1, name: name.clone() },
        Registration::Store { programme, store: 1, merchant: 1, name: name.clone() },
        Registration::Store { programme, store: 2, merchant: 1, name },
        Registration::Terminal { programme, terminal: 1, store: 1 },
        Registration::Terminal { programme, terminal: 2, store: 2 },
    ];
    assert_eq!(engine.register(registrations).unwrap(), [Code::Approved; 6]);
    assert_eq!(engine.publish(1, 1, "text".into(), TABLES.into()).unwrap(), Code::Approved);
}

fn request(kind: Kind, trace: u32, date: i32) -> Request {
    Request { kind: kind as u8, terminal: 1, trace, business_date: date, ..Request::default() }
}

fn on_card(kind: Kind, trace: u32, amount: i64) -> Request {
    Request { card: 12_345_678, card_digits: 8, amount, ..request(kind, trace, DAY) }
}

fn ask(engine: &Engine, rows: Vec<Request>) -> Result<Vec<Answer>, Error> {
    let (give, take) = mpsc::channel();
    engine.submit(rows, move |result| give.send(result).unwrap());
    take.recv().unwrap().map(|answers| answers.rows)
}

fn issue() -> Request {
    Request { product: 1, ..on_card(Kind::Issue, 1, 0) }
}

#[test]
fn a_day_of_a_card_and_its_retries_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    let purchase = Request { flags: USE_POINTS, terminal: 2, ..on_card(Kind::Purchase, 3, 500) };
    let refund =
        Request { original_terminal: 2, original_trace: 3, original_date: DAY, amount: 200, ..request(Kind::Refund, 4, DAY) };
    let rows = vec![issue(), on_card(Kind::TopUp, 2, 1_000), purchase, refund];
    let answers = ask(&engine, rows.clone()).unwrap();
    assert!(answers.iter().all(|answer| answer.code == 0), "{answers:?}");
    // 500 from the bonus of 100 and 400 of principal; 200 come back as 40 and 160.
    assert_eq!((answers[2].bonus, answers[2].principal, answers[2].points_earned), (-100, -400, 50_000));
    assert_eq!((answers[3].bonus, answers[3].principal, answers[3].points_earned), (40, 160, -20_000));
    let report = engine.close_day(1, DAY).unwrap();
    let nets: Vec<(u32, i128)> = report.stores.iter().map(|store| (store.store, store.net())).collect();
    assert_eq!(nets, [(1, -1_200), (2, 500)]);
    assert_eq!(report.issuer_net(), 700);
    let digest = engine.state_digest().unwrap();
    engine.close().unwrap();

    let engine = open(directory.path());
    assert_eq!(engine.state_digest().unwrap(), digest);
    let again = ask(&engine, rows).unwrap();
    for (first, second) in answers.iter().zip(again) {
        assert_eq!(Answer { replayed: 1, ..*first }, second);
    }
    let changed = ask(&engine, vec![on_card(Kind::TopUp, 2, 1_001)]).unwrap();
    assert_eq!((changed[0].code, changed[0].sequence), (94, 0));
    assert_eq!(engine.close_day(1, DAY).unwrap(), onecard_core::CloseReport { replayed: true, ..report });
    engine.close().unwrap();
    assert!(verify(directory.path(), 1 << 30, |_, _| true).unwrap().problems.is_empty());
}

/// What a terminal's newest trace tells must never hide a key that is known: retries, traces that come late, and marks that a reversal
/// set before the terminal was even registered; all of it after reopening, too.
#[test]
fn a_key_below_the_newest_trace_is_searched_for() {
    let directory = tempfile::tempdir().unwrap();
    let mark = |trace, original_terminal, original_trace| Request {
        original_terminal,
        original_trace,
        original_date: DAY,
        ..request(Kind::Reversal, trace, DAY)
    };
    let engine = open(directory.path());
    chain(&engine);
    let rows = vec![
        issue(),
        on_card(Kind::TopUp, 10, 500),
        // Below the newest, and new.
        on_card(Kind::TopUp, 5, 500),
        // Marks: of this terminal, of another, and of one that is not registered.
        mark(11, 1, 20),
        mark(12, 2, 7),
        mark(13, 8, 9),
    ];
    let first = ask(&engine, rows.clone()).unwrap();
    assert!(first.iter().all(|answer| (answer.code, answer.replayed) == (0, 0)), "{first:?}");
    let terminal = Registration::Terminal { programme: 1, terminal: 8, store: 2 };
    assert_eq!(engine.register(vec![terminal]).unwrap(), [Code::Approved]);
    let late = [(1, 20), (2, 7), (8, 9)].map(|(terminal, trace)| Request { terminal, ..on_card(Kind::TopUp, trace, 500) });
    let check = |engine: &Engine| {
        let again = ask(engine, rows.clone()).unwrap();
        assert!(again.iter().zip(&first).all(|(again, first)| *again == Answer { replayed: 1, ..*first }), "{again:?}");
        assert!(ask(engine, late.to_vec()).unwrap().iter().all(|answer| answer.code == 12));
    };
    check(&engine);
    engine.close().unwrap();
    let engine = open(directory.path());
    check(&engine);
    // From a checkpoint without a tail, too.
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let engine = open(directory.path());
    check(&engine);
    // Newer than all of them: new.
    let new =
        [(1, 21), (2, 8), (8, 10), (8, 8)].map(|(terminal, trace)| Request { terminal, ..on_card(Kind::TopUp, trace, 500) });
    let answers = ask(&engine, new.to_vec()).unwrap();
    assert!(answers.iter().all(|answer| (answer.code, answer.replayed) == (0, 0)), "{answers:?}");
    engine.close().unwrap();
}

#[test]
fn every_merchant_owes_the_points_of_the_cards_that_it_issued() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    let (programme, name) = (1, String::from("other"));
    let others = vec![
        Registration::Merchant { programme, merchant: 9, name: name.clone() },
        Registration::Merchant { programme, merchant: 5, name: name.clone() },
        Registration::Store { programme, store: 3, merchant: 9, name },
        Registration::Terminal { programme, terminal: 3, store: 3 },
    ];
    assert_eq!(engine.register(others).unwrap(), [Code::Approved; 4]);
    let of = |request: Request, card: u64, terminal: u32| Request { card, card_digits: 8, terminal, ..request };
    let rows = vec![
        Request { product: 1, ..of(request(Kind::Issue, 1, DAY), 1, 1) },
        Request { product: 1, ..of(request(Kind::Issue, 2, DAY), 2, 3) },
        of(on_card(Kind::TopUp, 3, 50_000), 1, 3),
        of(on_card(Kind::TopUp, 4, 50_000), 2, 1),
        // Points are owed by who issued the card, wherever they are earned.
        of(on_card(Kind::Purchase, 5, 10_000), 1, 3),
        of(on_card(Kind::Purchase, 6, 20_000), 2, 2),
        Request { amount: 1_000_000, ..request(Kind::Fund, 7, DAY) },
    ];
    assert!(ask(&engine, rows).unwrap().iter().all(|answer| answer.code == 0));
    let merchants = |engine: &Engine| {
        let found = engine.liabilities(1).unwrap();
        let merchants = found.merchants.iter().map(|found| (found.merchant, found.points, found.growth));
        (found.growth_date, merchants.collect::<Vec<_>>())
    };
    assert_eq!(merchants(&engine), (None, vec![(1, 1_000_000, 0), (5, 0, 0), (9, 2_000_000, 0)]));
    // 0.1% a day; the second day's is 1,001.0 and 2,002.0.
    assert!(engine.close_day(1, DAY).unwrap().growth.unwrap().funded);
    assert_eq!(merchants(&engine), (Some(DAY), vec![(1, 1_001_000, 1_000), (5, 0, 0), (9, 2_002_000, 2_000)]));
    engine.checkpoint().unwrap();
    assert!(engine.close_day(1, DAY + 1).unwrap().growth.unwrap().funded);
    let after = (Some(DAY + 1), vec![(1, 1_002_001, 1_001), (5, 0, 0), (9, 2_004_002, 2_002)]);
    assert_eq!(merchants(&engine), after);
    assert_eq!(engine.liabilities(2).unwrap().code, Code::UnknownTerminal);
    engine.close().unwrap();
    let engine = open(directory.path());
    assert_eq!(merchants(&engine), after);
    engine.close().unwrap();
    assert!(verify(directory.path(), 1 << 30, |_, _| true).unwrap().problems.is_empty());
}

/// Days are closed while a pass copies the cards: some are copied after a growth that the rest of the pass has not.
#[test]
fn growth_under_a_pass_is_met_when_it_is_replayed() {
    const CARDS: u32 = 50_000;
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    let (programme, name) = (1, String::from("other"));
    let others = vec![
        Registration::Merchant { programme, merchant: 2, name: name.clone() },
        Registration::Store { programme, store: 3, merchant: 2, name },
        Registration::Terminal { programme, terminal: 3, store: 3 },
    ];
    assert_eq!(engine.register(others).unwrap(), [Code::Approved; 3]);
    // Two thousand cards of one merchant, then two thousand of both by turns.
    let terminal = |card: u32| if card % 4_000 < 2_000 || card.is_multiple_of(2) { 1 } else { 3 };
    let of = |kind, card: u32, step: u32, amount| {
        let row = request(kind, 10 + card * 3 + step, DAY);
        Request { card: card.into(), card_digits: 8, amount, terminal: terminal(card), ..row }
    };
    let rows: Vec<Request> = (0..CARDS)
        .flat_map(|card| {
            let amount = i64::from(card) + 1;
            let issue = Request { product: 1, ..of(Kind::Issue, card, 0, 0) };
            [issue, of(Kind::TopUp, card, 1, amount), of(Kind::Purchase, card, 2, amount)]
        })
        .chain([Request { amount: 1 << 45, ..request(Kind::Fund, 1, DAY) }])
        .collect();
    for rows in rows.chunks(8_192) {
        assert!(ask(&engine, rows.to_vec()).unwrap().iter().all(|answer| answer.code == 0));
    }
    for day in (DAY..DAY + 30).step_by(5) {
        let behind = std::thread::spawn({
            let engine = engine.clone();
            move || engine.checkpoint().unwrap()
        });
        for date in day..day + 5 {
            assert!(engine.close_day(1, date).unwrap().growth.unwrap().funded);
            let one = Request { business_date: date + 1, ..on_card(Kind::TopUp, 1_000 + date as u32, 1) };
            ask(&engine, vec![Request { card: 49_999, trace: 3_000_000 + date as u32, ..one }]).unwrap();
        }
        behind.join().unwrap();
    }
    // A query that comes before the last growth is complete sees what is granted so far.
    while engine.trial_balance(1).unwrap().growing {}
    let (owed, digest) = (engine.liabilities(1).unwrap(), engine.state_digest().unwrap());
    engine.close().unwrap();
    let engine = open(directory.path());
    assert_eq!(engine.liabilities(1).unwrap(), owed);
    assert_eq!(engine.state_digest().unwrap(), digest);
    engine.close().unwrap();
    assert!(verify(directory.path(), 1 << 30, |_, _| true).unwrap().problems.is_empty());
}

#[test]
fn keys_are_found_in_segments_over_many_passes_and_openings() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    ask(&engine, vec![issue()]).unwrap();
    engine.close().unwrap();
    let mut first_answers = Vec::new();
    for round in 0..6 {
        let engine = open(directory.path());
        for part in 0..5 {
            let traces = (0..40).map(|row| 10 + round * 1_000 + part * 100 + row);
            let rows: Vec<Request> = traces.map(|trace| on_card(Kind::TopUp, trace, 100)).collect();
            first_answers.extend(rows.iter().copied().zip(ask(&engine, rows.clone()).unwrap()));
            engine.checkpoint().unwrap();
        }
        for (row, first) in &first_answers {
            assert_eq!(ask(&engine, vec![*row]).unwrap(), [Answer { replayed: 1, ..*first }]);
        }
        let digest = engine.state_digest().unwrap();
        engine.close().unwrap();
        let verdict = verify(directory.path(), 1 << 30, |_, _| true).unwrap();
        assert_eq!((verdict.problems, verdict.state), (vec![], digest));
    }
    // Dates leave the window, and their keys with them.
    let engine = open(directory.path());
    for day in 0..7 {
        assert_eq!(engine.close_day(1, DAY + day).unwrap().code, Code::Approved);
    }
    engine.checkpoint().unwrap();
    let late = ask(&engine, vec![first_answers[0].0]).unwrap();
    assert_eq!((late[0].code, late[0].sequence), (12, 0));
    engine.close().unwrap();
}

/// The issue of a card with this index, and a top-up of it.
fn issue_of(index: u32) -> Request {
    Request { card: (10_000_000 + index).into(), trace: 1_000_000 + index, ..issue() }
}

fn top_up_of(index: u32, trace: u32) -> Request {
    Request { card: (10_000_000 + index).into(), ..on_card(Kind::TopUp, trace, 100 + i64::from(index)) }
}

#[test]
fn cards_of_many_chunks_come_back_from_checkpoint_and_tail() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Engine::open(directory.path(), options(1 << 40)).unwrap();
    let engine = open();
    chain(&engine);
    for first in (0..10_000).step_by(5_000) {
        let answers = ask(&engine, (first..first + 5_000).map(issue_of).collect()).unwrap();
        assert!(answers.iter().all(|answer| answer.code == 0));
    }
    ask(&engine, (0..8_000).map(|at| top_up_of(at, 1 + at)).collect()).unwrap();
    engine.checkpoint().unwrap();
    // The tail: cards of the second chunk alone, a growth, and cards that no pass has.
    ask(&engine, (4_096..4_100).map(|at| top_up_of(at, 20_000 + at)).collect()).unwrap();
    assert_eq!(engine.close_day(1, DAY).unwrap().code, Code::Approved);
    ask(&engine, (10_000..15_000).map(issue_of).collect()).unwrap();
    let digest = engine.state_digest().unwrap();
    engine.close().unwrap();
    for _ in 0..2 {
        let engine = open();
        assert_eq!(engine.state_digest().unwrap(), digest);
        assert_eq!(
            ask(&engine, vec![issue_of(14_999), issue_of(0)]).unwrap().iter().map(|again| again.replayed).collect::<Vec<_>>(),
            [1, 1]
        );
        engine.checkpoint().unwrap();
        engine.close().unwrap();
        let verdict = verify(directory.path(), 1 << 30, |_, _| true).unwrap();
        assert_eq!((verdict.problems, verdict.state), (vec![], digest));
    }
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    ask(&engine, (0..5_000).map(issue_of).collect()).unwrap();
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let names = ["cards", "shared", "marks", "keys", "wallets", "names"];
    let path = directory.path().join("checkpoint");
    let storage = || Storage::open(&path, 1 << 30, names, "onecard checkpoint 11").unwrap();
    let second = storage().reading().unwrap().get("cards", &1u32.to_be_bytes()).unwrap().unwrap().to_vec();
    let put = |value: Option<&[u8]>| {
        let storage = storage();
        let mut writing = storage.writing().unwrap();
        match value {
            Some(value) => writing.put("cards", &1u32.to_be_bytes(), value).unwrap(),
            None => writing.delete("cards", &1u32.to_be_bytes()).unwrap(),
        }
        writing.commit().unwrap();
    };
    let mut damaged = second.clone();
    damaged[second.len() / 2] ^= 1;
    for value in [Some(&damaged[..]), Some(&second[..second.len() - 1]), Some(&[]), None] {
        put(value);
        let told = Engine::open(directory.path(), options(50)).err().unwrap();
        assert!(matches!(told, Error::Checkpoint(CheckpointError::Damaged("cards"))), "{told}");
    }
    put(Some(&second));
    open(directory.path()).close().unwrap();
}

#[test]
fn a_pass_that_finds_no_room_for_its_keys_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let small = Options { checkpoint_bytes_max: 1 << 20, ..options(1 << 20) };
    let engine = Engine::open(directory.path(), small).unwrap();
    chain(&engine);
    ask(&engine, vec![issue()]).unwrap();
    engine.checkpoint().unwrap();
    // One card, but more keys than there is room for: the pass fails when all its steps are taken already.
    let mut trace = 2;
    let mut top_up = |rows: u32| {
        let answers = ask(&engine, (trace..trace + rows).map(|trace| on_card(Kind::TopUp, trace, 1)).collect()).unwrap();
        assert!(answers.iter().all(|answer| answer.code == 0));
        trace += rows;
    };
    (0..16).for_each(|_| top_up(8_000));
    let told = engine.checkpoint().unwrap_err().to_string();
    assert!(told.contains("checkpoint"), "{told}");
    top_up(8_000);
    assert_eq!(engine.checkpoint().unwrap_err().to_string(), told);
    engine.close().unwrap();
    let again = open(directory.path());
    assert_eq!(again.stats().unwrap().entries, 17 * 8_000 + 8);
    again.checkpoint().unwrap();
    again.close().unwrap();
}

#[test]
fn a_reversal_that_comes_first_wins() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    let reversal = Request { original_terminal: 1, original_trace: 9, original_date: DAY, ..request(Kind::Reversal, 8, DAY) };
    let answers = ask(&engine, vec![issue(), reversal, on_card(Kind::TopUp, 9, 100), reversal]).unwrap();
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    assert_eq!(codes, [0, 0, 12, 0]);
    assert_eq!((answers[2].sequence, answers[3].replayed), (answers[1].sequence, 1));
    engine.close().unwrap();
    let engine = open(directory.path());
    assert_eq!(ask(&engine, vec![on_card(Kind::TopUp, 9, 100)]).unwrap()[0].code, 12);
}

/// Whatever a version's way to the state was - the call, the tail, the checkpoint - it is told as it was published.
#[test]
fn every_version_of_the_rules_is_told_as_it_was_published() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let none = (Code::UnknownTerminal, Vec::new());
    assert_eq!(engine.rules_versions(1).unwrap(), none);
    assert_eq!(engine.rules(1, 0).unwrap(), PublishedRules::refused(Code::UnknownTerminal));
    chain(&engine);
    let text = |version: u32| format!("# version {version}\r\n\u{5361}\n");
    let tables = |version: u32| TABLES.replace("86400", &version.to_string());
    let publish = |engine: &Engine, version: u32| engine.publish(1, version, text(version), tables(version));
    assert_eq!(publish(&engine, 2).unwrap(), Code::Approved);
    assert_eq!(engine.close_day(1, DAY).unwrap().code, Code::Approved);
    assert_eq!(publish(&engine, 3).unwrap(), Code::Approved);
    // A retry, another content, and a gap leave nothing behind.
    assert_eq!(publish(&engine, 3).unwrap(), Code::Approved);
    assert_eq!(engine.publish(1, 3, "other".into(), tables(3)).unwrap(), Code::Duplicate);
    assert_eq!(publish(&engine, 5).unwrap(), Code::InvalidTransaction);

    let check = |engine: &Engine, newest: u32| {
        let (code, versions) = engine.rules_versions(1).unwrap();
        let told: Vec<(u32, i32)> = versions.iter().map(|version| (version.version, version.date)).collect();
        let dates = [DAY, DAY, DAY + 1, DAY + 1];
        assert_eq!((code, told), (Code::Approved, (1..=newest).zip(dates).collect()));
        assert!(versions.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
        for &version in &versions[1..] {
            let (code, number) = (Code::Approved, version.version);
            let whole = PublishedRules { code, version, text: text(number), tables: tables(number) };
            assert_eq!(engine.rules(1, number).unwrap(), whole);
        }
        assert_eq!(engine.rules(1, 1).unwrap().text, "text");
        assert_eq!(engine.rules(1, 0).unwrap(), engine.rules(1, newest).unwrap());
        assert_eq!(engine.rules(1, newest + 1).unwrap(), PublishedRules::refused(Code::OriginalNotFound));
        assert_eq!(engine.rules(2, 1).unwrap().code, Code::UnknownTerminal);
    };
    check(&engine, 3);
    engine.close().unwrap();
    // From the journal alone, then from a checkpoint without a tail, then with one.
    let engine = open(directory.path());
    check(&engine, 3);
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let engine = open(directory.path());
    check(&engine, 3);
    assert_eq!(publish(&engine, 4).unwrap(), Code::Approved);
    engine.close().unwrap();
    let engine = open(directory.path());
    check(&engine, 4);
    engine.close().unwrap();
    assert!(verify(directory.path(), 1 << 30, |_, _| true).unwrap().problems.is_empty());
}

#[test]
fn a_journal_with_a_gap_in_the_versions_contradicts_itself() {
    let mut machine = Machine::default();
    let programme = Registration::Programme { programme: 1, name: "name".into(), date: DAY };
    machine.replay(&Entry::Registration(programme), None, 1).unwrap();
    let rules = |version| Entry::Rules { programme: 1, version, text: "text".into(), tables: TABLES.into() };
    machine.replay(&rules(1), None, 2).unwrap();
    for version in [0, 1, 3] {
        let error = machine.replay(&rules(version), None, 3).unwrap_err();
        assert_eq!(error, format!("version {version} of the rules after 1"));
    }
    machine.replay(&rules(2), None, 3).unwrap();
}

#[test]
fn one_owner_and_nothing_after_close() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let second = Engine::open(directory.path(), options(50)).err().unwrap().to_string();
    assert!(second.contains(&std::process::id().to_string()), "{second}");
    engine.close().unwrap();
    engine.close().unwrap();
    assert!(matches!(ask(&engine, vec![issue()]), Err(Error::Closed(_))));
    assert!(matches!(engine.trial_balance(1), Err(Error::Closed(_))));
    open(directory.path()).close().unwrap();
}

#[test]
fn parts_of_keys_are_missed_and_leftovers_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let never = || Engine::open(directory.path(), options(u64::MAX));
    let engine = never().unwrap();
    chain(&engine);
    ask(&engine, vec![issue(), on_card(Kind::TopUp, 2, 100)]).unwrap();
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let names = ["cards", "shared", "marks", "keys", "wallets", "names"];
    let storage = || Storage::open(&directory.path().join("checkpoint"), 1 << 30, names, "onecard checkpoint 11").unwrap();
    let put = |bucket, key: &[u8], value: Option<&[u8]>| {
        let storage = storage();
        let mut writing = storage.writing().unwrap();
        match value {
            Some(value) => writing.put(bucket, key, value).unwrap(),
            None => writing.delete(bucket, key).unwrap(),
        }
        writing.commit().unwrap();
    };
    let (last, value) = {
        let reading = storage().reading().unwrap();
        let (key, value) = reading.last("keys").unwrap().unwrap();
        (key.to_vec(), value.to_vec())
    };
    let list = storage().reading().unwrap().get("shared", b"segments").unwrap().unwrap().to_vec();
    let damaged = || {
        let told = never().err().unwrap();
        assert!(matches!(told, Error::Checkpoint(CheckpointError::Damaged("keys"))), "{told}");
    };
    for bad in [None, Some(&value[..value.len() - 8])] {
        put("keys", &last, bad);
        damaged();
    }
    put("keys", &last, Some(&value));
    for bad in [&list[..list.len() - 1], &[0xff; 12]] {
        put("shared", b"segments", Some(bad));
        damaged();
    }
    put("shared", b"segments", Some(&list));
    // As if a pass had not come to its end.
    let mut leftover = last.clone();
    leftover[11] ^= 0x80;
    put("keys", &leftover, Some(b"of no segment"));
    let engine = never().unwrap();
    assert_eq!(ask(&engine, vec![on_card(Kind::TopUp, 2, 100)]).unwrap()[0].replayed, 1);
    for trace in 3..6 {
        ask(&engine, vec![on_card(Kind::TopUp, trace, 100)]).unwrap();
        engine.checkpoint().unwrap();
        let again: Vec<Request> = (2..=trace).map(|trace| on_card(Kind::TopUp, trace, 100)).collect();
        assert!(ask(&engine, again).unwrap().iter().all(|answer| answer.replayed == 1));
    }
    engine.close().unwrap();
    let reading = storage().reading().unwrap();
    assert!(reading.get("keys", &leftover).unwrap().is_none());
    assert!(reading.count("keys").unwrap() <= 2 * 4, "a pass removes what the one before has merged");
}
