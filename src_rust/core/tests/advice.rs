//! Rules that are kept outside: they are asked once a group, what they say prices its sales, and replay asks nobody.

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use onecard_core::advice::{Adviser, Columns, Outcome};
use onecard_core::commands::{Batch, DRY_RUN};
use onecard_core::details::{Item, ItemKind, PART_ADVICE};
use onecard_core::rules::{Heard, PythonRule, Said};
use onecard_core::{Answers, Code, Engine, Kind, Options, Reason, Registration, Request, Secrets, verify};

const DAY: i32 = 20_000;
const RATE: u64 = 1_000_000_000_000;
const TABLES: &str = r#"{"money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 0, "accrual": 100000000000000,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [], "waterfall": [{"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "python_rules": [{"id": 4, "name": "one", "version": "1"}, {"id": 9, "name": "two", "version": "7", "required": true}],
    "compounding_rate": 0, "time_tolerance_s": 86400}"#;

/// Groups that were seen: how many sales, and the principal of each one's card.
type Groups = Arc<Mutex<Vec<(usize, Vec<i64>)>>>;

/// Says what it was told to say of every sale, and remembers how many it saw.
struct Told {
    says: Vec<Option<Said>>,
    groups: Groups,
}

impl Adviser for Told {
    fn advise(&mut self, group: &Columns, rules: &[PythonRule]) -> Vec<Outcome> {
        assert_eq!(rules.iter().map(|rule| rule.id).collect::<Vec<_>>(), [4, 9]);
        self.groups.lock().unwrap().push((group.len(), group.principal.clone()));
        self.says.iter().map(|said| said.map_or(Outcome::TimedOut, |said| Outcome::Said(vec![said; group.len()]))).collect()
    }
}

fn open(path: &Path) -> Engine {
    let options = Options {
        journal_bytes_max: 1 << 30,
        checkpoint_bytes_max: 1 << 30,
        checkpoint_entries: 50,
        clock: || 1,
        new_id: || [7; 16],
        secrets: Secrets::default(),
    };
    Engine::open(path, options).unwrap()
}

fn chain(engine: &Engine) {
    let (programme, name) = (1, String::from("name"));
    let registrations = vec![
        Registration::Programme { programme, name: name.clone(), date: DAY },
        Registration::Merchant { programme, merchant: 1, name: name.clone() },
        Registration::Store { programme, store: 1, merchant: 1, name },
        Registration::Terminal { programme, terminal: 1, store: 1 },
    ];
    assert_eq!(engine.register(registrations).unwrap(), [Code::Approved; 4]);
    assert_eq!(engine.publish(1, 1, "text".into(), TABLES.into()).unwrap(), Code::Approved);
    let made = ask(engine, vec![Request { product: 1, ..row(Kind::Issue, 1, 0) }, row(Kind::TopUp, 2, 100_000)]);
    assert!(made.rows.iter().all(|answer| answer.code == 0));
}

fn row(kind: Kind, trace: u32, amount: i64) -> Request {
    let business_date = DAY;
    Request {
        kind: kind as u8,
        terminal: 1,
        trace,
        business_date,
        card: 12_345_678,
        card_digits: 8,
        amount,
        ..Request::default()
    }
}

fn ask(engine: &Engine, batch: impl Into<Batch>) -> Answers {
    let (give, take) = mpsc::channel();
    engine.submit(batch, move |result| give.send(result).unwrap());
    take.recv().unwrap().unwrap()
}

#[test]
fn what_is_said_prices_a_sale_and_is_not_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let groups = Groups::default();
    let say = |engine: &Engine, one, two| {
        let told = Told { says: vec![one, two], groups: groups.clone() };
        engine.set_adviser(Some(Box::new(told))).unwrap();
    };
    let tenth = Some(Said { off: RATE / 10, factor: RATE * 2, refuses: false });
    say(&engine, tenth, Some(Said::NOTHING));
    chain(&engine);
    // No sale, no question; one question for all of a batch, with the card as it is before the first of them.
    assert!(groups.lock().unwrap().is_empty());
    let rows = vec![row(Kind::Purchase, 3, 1_000), row(Kind::TopUp, 4, 1), row(Kind::Authorise, 5, 500)];
    let first = ask(&engine, rows.clone());
    assert_eq!(*groups.lock().unwrap(), [(2, vec![100_000, 100_000])]);
    assert_eq!((first.rows[0].amount, first.rows[0].discount, first.rows[0].points_earned), (900, 100, 180_000));
    let part = first.parts_of(&first.rows[0]).last().unwrap();
    assert_eq!((part.account, part.purse, part.amount, part.balance), (PART_ADVICE, 4, 100, 0));
    assert_eq!(first.rows[2].discount, 50);

    say(&engine, Some(Said { refuses: true, ..Said::NOTHING }), Some(Said::NOTHING));
    let again = ask(&engine, rows);
    assert!(again.rows.iter().zip(&first.rows).all(|(again, first)| (again.sequence, again.replayed) == (first.sequence, 1)));
    let refused = ask(&engine, vec![row(Kind::Purchase, 6, 10)]).rows[0];
    assert_eq!((refused.code, refused.reason), (57, Reason::Advised as u8));

    // The first may be late, the second must be heard; what is out of range was not said.
    say(&engine, None, Some(Said::NOTHING));
    let late = ask(&engine, vec![row(Kind::Purchase, 7, 10)]);
    assert_eq!((late.rows[0].code, late.parts_of(&late.rows[0]).last().unwrap().balance), (0, 3));
    for two in [None, Some(Said { off: RATE + 1, ..Said::NOTHING })] {
        say(&engine, tenth, two);
        for (flags, trace) in [(0, 8), (DRY_RUN, 0)] {
            let answer = ask(&engine, vec![Request { flags, ..row(Kind::Purchase, trace, 10) }]).rows[0];
            assert_eq!((answer.code, answer.reason, answer.sequence), (91, Reason::NoAdvice as u8, 0));
        }
    }
    engine.set_adviser(None).unwrap();
    assert_eq!(ask(&engine, vec![row(Kind::Purchase, 8, 10)]).rows[0].code, 91);
    let digest = engine.state_digest().unwrap();
    engine.close().unwrap();
    let engine = open(directory.path());
    assert_eq!(engine.state_digest().unwrap(), digest);
    engine.close().unwrap();
    assert!(verify(directory.path(), 1 << 30, |_, _| true).unwrap().problems.is_empty());
}

#[test]
fn nobody_can_send_what_a_rule_says() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    chain(&engine);
    let said = Item::advice(4, Heard::Said(Said { off: RATE, factor: RATE, refuses: false })).unwrap();
    assert_eq!(said.kind, ItemKind::Advice as u8);
    let mut batch = Batch::default();
    batch.push(row(Kind::Purchase, 3, 10), &[said]);
    assert_eq!(ask(&engine, batch).rows[0].code, 30);
    engine.close().unwrap();
}
