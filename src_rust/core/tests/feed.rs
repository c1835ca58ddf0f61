//! The feed and the cursors of those who follow it: what is durable is told once and for all, and what was done is not done again.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use onecard_core::codes::Code;
use onecard_core::feed::{KIND_DAY_CLOSED, KIND_RULES, NO_CARD};
use onecard_core::{
    Answer, Answers, Batch, Cursor, Engine, Error, FeedRow, Item, ItemKind, Kind, Options, Reason, Registration, Request,
    Secrets, verify,
};

const DAY: i32 = 20_000;
const TABLES: &str = r#"{"money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 7, "name": "standard", "discount": 0, "accrual": 0,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [], "waterfall": [{"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "units": [{"id": 16, "name": "coffee", "kind": "coupon", "value": 100}],
    "bundles": [{"id": 1, "name": "welcome", "per_card": 2, "grants": [{"unit": 16, "amount": 1}]}],
    "tiers": [{"id": 1, "name": "silver", "from": 10}, {"id": 5, "name": "gold", "from": 20}],
    "compounding_rate": 0, "time_tolerance_s": 86400}"#;

fn open(path: &Path) -> Engine {
    let options = Options {
        journal_bytes_max: 1 << 30,
        checkpoint_bytes_max: 1 << 30,
        checkpoint_entries: 1 << 40,
        clock: || 1,
        new_id: || [7; 16],
        secrets: Secrets::default(),
    };
    Engine::open(path, options).unwrap()
}

fn chain(engine: &Engine, programme: u16) {
    let name = || String::from("name");
    let registrations = vec![
        Registration::Programme { programme, name: name(), date: DAY },
        Registration::Merchant { programme, merchant: 1, name: name() },
        Registration::Store { programme, store: 3, merchant: 1, name: name() },
        Registration::Terminal { programme, terminal: 9, store: 3 },
    ];
    assert_eq!(engine.register(registrations).unwrap(), [Code::Approved; 4]);
    assert_eq!(engine.publish(programme, 1, "text".into(), TABLES.into()).unwrap(), Code::Approved);
}

fn ask(engine: &Engine, batch: impl Into<Batch>) -> Answers {
    let (give, take) = mpsc::channel();
    engine.submit(batch, move |result| give.send(result).unwrap());
    take.recv().unwrap().unwrap()
}

fn request(kind: Kind, trace: u32) -> Request {
    Request { kind: kind as u8, terminal: 9, trace, business_date: DAY, local_time: 60, channel: 4, ..Request::default() }
}

fn on_card(kind: Kind, trace: u32, card: u64, amount: i64) -> Request {
    Request { card, card_digits: 8, amount, ..request(kind, trace) }
}

fn issue(trace: u32, card: u64) -> Request {
    Request { product: 7, ..on_card(Kind::Issue, trace, card, 0) }
}

/// A grant of a trigger: code and reason.
fn grant(engine: &Engine, trace: u32, trigger: u16, sequence: i64, card: u64) -> (u16, u8) {
    let answer = by_trigger(engine, Request { product: 1, amount: 1, ..request(Kind::Grant, trace) }, trigger, sequence, card);
    (answer.code, answer.reason)
}

/// A tier that a trigger sets: code, reason, and the tier that the card came to.
fn set_tier(engine: &Engine, trace: u32, tier: u16, sequence: i64, card: u64) -> (u16, u8, u8) {
    let answer = by_trigger(engine, Request { product: tier, ..request(Kind::SetTier, trace) }, 5, sequence, card);
    (answer.code, answer.reason, answer.tier)
}

fn by_trigger(engine: &Engine, row: Request, trigger: u16, sequence: i64, card: u64) -> Answer {
    let cursor = Item { kind: ItemKind::Cursor as u8, unit: trigger, amount: sequence, low: card, ..Item::default() };
    let mut batch = Batch::default();
    batch.push(row, &[cursor]);
    ask(engine, batch).rows[0]
}

const DONE_BEFORE: (u16, u8) = (Code::NotPermitted as u16, Reason::Behind as u8);

#[test]
fn entries_are_told_with_what_their_cards_are_now() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine, 1);
    chain(&engine, 2);
    let holder = Item { kind: ItemKind::Member as u8, low: 77, ..Item::default() };
    let number = Item { kind: ItemKind::Number as u8, digits: 9, low: 5, ..Item::default() };
    let mut batch = Batch::from(vec![
        issue(1, 11_111_111),
        on_card(Kind::TopUp, 2, 11_111_111, 500),
        on_card(Kind::Purchase, 3, 11_111_111, 200),
        on_card(Kind::Purchase, 4, 11_111_111, 900),
        on_card(Kind::Purchase, 5, 22_222_222, 900),
        Request { original_terminal: 9, original_trace: 3, original_date: DAY, ..request(Kind::Reversal, 6) },
        Request { original_terminal: 9, original_trace: 3, original_date: DAY, ..request(Kind::Reversal, 7) },
    ]);
    batch.push(on_card(Kind::Holder, 8, 11_111_111, 0), &[holder]);
    batch.push(on_card(Kind::Replace, 9, 11_111_111, 0), &[number]);
    ask(&engine, batch);
    ask(&engine, vec![Request { programme: 2, ..issue(1, 11_111_111) }]);
    assert_eq!(engine.close_day(1, DAY).unwrap().code, Code::Approved);

    let feed = engine.feed(1, 1, 1_000).unwrap();
    assert_eq!((feed.code, feed.next), (Code::Approved, engine.durable()));
    let told: Vec<_> = feed.rows.iter().map(|row| (row.kind, row.code, row.amount, row.paid, row.original)).collect();
    let bought = feed.rows[3].sequence;
    assert_eq!(
        told,
        [
            (KIND_RULES, 0, 0, 0, 0),
            (1, 0, 0, 0, 0),
            (2, 0, 500, 500, 0),
            (3, 0, 200, 200, 0),
            (3, 51, 900, 0, 0),
            (3, 14, 900, 0, 0),
            (5, 0, 0, 200, bought),
            // What was reversed before is not reversed again.
            (5, 0, 0, 0, 0),
            (15, 0, 0, 0, 0),
            (13, 0, 0, 0, 0),
            (KIND_DAY_CLOSED, 0, 0, 0, 0),
        ]
    );
    let card = |row: &FeedRow| (row.card_index, row.card, row.card_digits, row.product, row.member);
    assert_eq!(card(&feed.rows[1]), (0, 5, 9, 7, 77));
    assert_eq!(card(&feed.rows[5]), (NO_CARD, 22_222_222, 8, 0, 0));
    let purchase = feed.rows[3];
    assert_eq!((purchase.store, purchase.terminal, purchase.channel, purchase.rules), (3, 9, 4, 1));
    assert_eq!((purchase.business_date, purchase.value_date, purchase.local_time, purchase.programme), (DAY, DAY, 60, 1));
    assert_eq!((feed.rows[10].business_date, feed.rows[10].card_index), (DAY, NO_CARD));
    // In pages, and from any sequence on, it is the same.
    let mut paged = Vec::new();
    let mut next = 1;
    while next < engine.durable() {
        let page = engine.feed(1, next, 2).unwrap();
        assert!(page.rows.len() <= 2 && page.next > next);
        (next, paged) = (page.next, [paged, page.rows].concat());
    }
    assert_eq!(paged, feed.rows);
    assert_eq!(engine.feed(1, bought, 1).unwrap().rows, [purchase]);
    // Nothing beyond the end; of the other programme its own; of none nothing.
    let beyond = engine.feed(1, u64::MAX, 10).unwrap();
    assert_eq!((beyond.rows.len(), beyond.next), (0, u64::MAX));
    assert_eq!(engine.feed(2, 0, 10).unwrap().rows.iter().map(|row| row.card_index).collect::<Vec<_>>(), [NO_CARD, 1]);
    assert_eq!(engine.feed(3, 1, 10).unwrap().code, Code::UnknownTerminal);
    assert!(engine.feed(1, 1, 0).unwrap().rows.is_empty());
    engine.close().unwrap();
    assert!(matches!(engine.feed(1, 1, 10), Err(Error::Closed(_))));
}

#[test]
fn a_wait_ends_with_the_entry_the_time_or_the_engine() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine, 1);
    let next = engine.durable();
    assert!(engine.wait_for(next - 1, Duration::ZERO).unwrap());
    assert!(!engine.wait_for(next, Duration::from_millis(20)).unwrap());
    let waiting = std::thread::spawn({
        let engine = engine.clone();
        move || engine.wait_for(next, Duration::MAX)
    });
    ask(&engine, vec![issue(1, 11_111_111)]);
    assert!(waiting.join().unwrap().unwrap());
    let waiting = std::thread::spawn({
        let engine = engine.clone();
        move || engine.wait_for(next + 1, Duration::MAX)
    });
    engine.close().unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed(_))));
}

#[test]
fn a_cursor_moves_on_whatever_becomes_of_its_grant_and_never_back() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine, 1);
    chain(&engine, 2);
    ask(&engine, vec![issue(1, 11_111_111), issue(2, 22_222_222)]);
    assert!(engine.cursors(1).unwrap().cursors.is_empty());
    assert_eq!(engine.cursors(3).unwrap().code, Code::UnknownTerminal);

    assert_eq!(grant(&engine, 10, 5, 100, 1), (0, 0));
    // The same with another key, what is before it, and what is in the same entry before it.
    assert_eq!(grant(&engine, 11, 5, 100, 1), DONE_BEFORE);
    assert_eq!(grant(&engine, 12, 5, 99, 1), DONE_BEFORE);
    assert_eq!(grant(&engine, 13, 5, 100, 0), DONE_BEFORE);
    // Another trigger goes its own way.
    assert_eq!(grant(&engine, 14, 6, 100, 0), (0, 0));
    // Refused for another reason, and done with: a lost card, more of a bundle than a card may have.
    ask(&engine, vec![Request { status: 3, ..on_card(Kind::Status, 15, 22_222_222, 0) }]);
    assert_eq!(grant(&engine, 16, 5, 101, 1), (41, 0));
    assert_eq!(grant(&engine, 17, 5, 101, 1), DONE_BEFORE);
    assert_eq!(grant(&engine, 18, 5, 102, 0), (0, 0));
    assert_eq!(grant(&engine, 19, 5, 103, 0), (65, Reason::TooMany as u8));
    assert_eq!(grant(&engine, 20, 5, 103, 0), DONE_BEFORE);
    // A card that is not there, or is another programme's, is nobody's: nothing moves.
    assert_eq!(grant(&engine, 21, 5, 104, 2), (14, 0));
    ask(&engine, vec![Request { programme: 2, ..issue(1, 11_111_111) }]);
    assert_eq!(grant(&engine, 22, 5, 104, 2), (14, 0));
    let at = |sequence, card| Cursor { sequence, card };
    let cursors = engine.cursors(1).unwrap();
    assert_eq!((cursors.open_date, cursors.cursors), (DAY, vec![(5, at(103, 0)), (6, at(100, 0))]));
    // The reversal of a grant takes back what was given; the trigger does not give it again.
    let granted = engine.feed(1, 1, 100).unwrap().rows.into_iter().find(|row| row.kind == 9 && row.card_index == 1).unwrap();
    let reversal = ask(&engine, vec![Request { original: granted.sequence, ..request(Kind::Reversal, 30) }]).rows[0];
    assert_eq!(reversal.code, 0);
    assert_eq!(grant(&engine, 31, 5, 100, 1), DONE_BEFORE);

    // After a restart from the journal, and from a checkpoint, all is as it was.
    let (before, digest) = (engine.cursors(1).unwrap(), engine.state_digest().unwrap());
    for checkpoint in [true, false] {
        if checkpoint {
            engine.checkpoint().unwrap();
        }
        engine.close().unwrap();
        let again = open(directory.path());
        assert_eq!((again.cursors(1).unwrap(), again.state_digest().unwrap()), (before.clone(), digest));
        again.close().unwrap();
        std::fs::remove_dir_all(directory.path().join("checkpoint")).unwrap();
        let again = open(directory.path());
        assert_eq!((again.cursors(1).unwrap(), again.state_digest().unwrap()), (before.clone(), digest));
        again.close().unwrap();
        engine.close().unwrap();
    }
    let verdict = verify(directory.path(), 1 << 30, |_, _| true).unwrap();
    assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
}

#[test]
fn a_tier_of_a_trigger_is_what_the_card_has_at_least() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine, 1);
    ask(&engine, vec![issue(1, 11_111_111), issue(2, 22_222_222)]);
    let higher = (Code::NotPermitted as u16, Reason::HigherTier as u8, 0);

    assert_eq!(set_tier(&engine, 10, 5, 100, 0), (0, 0, 5));
    assert_eq!(set_tier(&engine, 11, 5, 100, 0), (DONE_BEFORE.0, DONE_BEFORE.1, 0));
    // The same tier again, a lower one, none, and one that there is not; each is done with.
    assert_eq!(set_tier(&engine, 12, 5, 101, 0), (0, 0, 5));
    assert_eq!(set_tier(&engine, 13, 1, 102, 0), higher);
    assert_eq!(set_tier(&engine, 14, 0, 103, 0), higher);
    assert_eq!(set_tier(&engine, 15, 4, 104, 0), (12, 0, 0));
    assert_eq!(set_tier(&engine, 16, 5, 104, 0).1, Reason::Behind as u8);
    // A lost card gets none of a trigger, and one of who sets it himself, who may lower it.
    ask(&engine, vec![Request { status: 3, ..on_card(Kind::Status, 17, 22_222_222, 0) }]);
    assert_eq!(set_tier(&engine, 18, 1, 105, 1), (41, 0, 0));
    let by_hand = |trace, card, tier| {
        let answer = ask(&engine, vec![Request { product: tier, ..on_card(Kind::SetTier, trace, card, 0) }]).rows[0];
        (answer.code, answer.tier)
    };
    assert_eq!(by_hand(19, 22_222_222, 1), (0, 1));
    assert_eq!(by_hand(20, 11_111_111, 1), (0, 1));
    // Bundles and tiers move one cursor.
    assert_eq!(grant(&engine, 21, 5, 105, 1), DONE_BEFORE);
    assert_eq!(grant(&engine, 22, 5, 106, 0), (0, 0));
    assert_eq!(engine.cursors(1).unwrap().cursors, [(5, Cursor { sequence: 106, card: 0 })]);

    let digest = engine.state_digest().unwrap();
    engine.close().unwrap();
    let again = open(directory.path());
    assert_eq!(again.state_digest().unwrap(), digest);
    assert_eq!(set_tier(&again, 30, 5, 106, 0).1, Reason::Behind as u8);
    assert_eq!(set_tier(&again, 31, 5, 106, 1), (41, 0, 0));
}

#[test]
fn a_cursor_names_the_card_alone_and_stands_in_grants_and_set_tiers_only() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine, 1);
    ask(&engine, vec![issue(1, 11_111_111)]);
    let cursor = Item { kind: ItemKind::Cursor as u8, unit: 1, amount: 1, low: 0, ..Item::default() };
    let alias = Item { kind: ItemKind::Alias as u8, digits: 1, low: 1, ..Item::default() };
    let grant = |trace| Request { product: 1, amount: 1, ..request(Kind::Grant, trace) };
    let ill = [
        (Request { product: 1, ..on_card(Kind::Grant, 2, 11_111_111, 1) }, vec![cursor]),
        (grant(2), vec![cursor, alias]),
        (grant(2), vec![cursor, cursor]),
        (grant(2), vec![Item { unit: 0, ..cursor }]),
        (grant(2), vec![Item { amount: 0, ..cursor }]),
        (grant(2), vec![Item { amount: -1, ..cursor }]),
        (grant(2), vec![Item { low: 1 << 32, ..cursor }]),
        (grant(2), vec![Item { high: 1, ..cursor }]),
        (grant(2), vec![Item { digits: 1, ..cursor }]),
        (grant(2), vec![Item { number: 1, ..cursor }]),
        (on_card(Kind::SetTier, 2, 11_111_111, 0), vec![cursor]),
        (request(Kind::SetTier, 2), vec![cursor, alias]),
        (request(Kind::SetTier, 2), vec![Item { unit: 0, ..cursor }]),
        (Request { amount: 1, ..request(Kind::SetTier, 2) }, vec![cursor]),
        (request(Kind::Purchase, 2), vec![cursor]),
        (on_card(Kind::Purchase, 2, 11_111_111, 1), vec![cursor]),
        (request(Kind::Balance, 0), vec![cursor]),
    ];
    for (row, items) in ill {
        let mut batch = Batch::default();
        batch.push(row, &items);
        assert_eq!(ask(&engine, batch).rows[0].code, 30, "{row:?} {items:?}");
    }
    assert!(engine.cursors(1).unwrap().cursors.is_empty());
}

#[test]
fn a_retry_of_a_grant_is_answered_as_it_was_and_another_s_content_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine, 1);
    ask(&engine, vec![issue(1, 11_111_111), issue(2, 22_222_222)]);
    assert_eq!(grant(&engine, 10, 5, 100, 1), (0, 0));
    assert_eq!(grant(&engine, 10, 5, 100, 1), (0, 0));
    assert_eq!(grant(&engine, 10, 5, 100, 0).0, 94);
    assert_eq!(grant(&engine, 10, 5, 101, 1).0, 94);
    assert_eq!(engine.cursors(1).unwrap().cursors, [(5, Cursor { sequence: 100, card: 1 })]);
}
