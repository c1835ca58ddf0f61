//! What the writer does for a purchase - plain, with two coupons, a pass and three purses, and by the rules of the demo, line by line and
//! not: decide, apply, write, answer; and what it does for a checkpoint of their wallets. Without pipeline, keys and disk, on cards that
//! the cache holds.
//!
//! `cargo bench -p onecard-core --bench swipe`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onecard_core::cards::Cards;
use onecard_core::commands::USE_POINTS;
use onecard_core::journal::BlockBuilder;
use onecard_core::machine::{Admitted, Beside, Found, Machine, answer, parts};
use onecard_core::organisation::terminal_hash;
use onecard_core::wallets;
use onecard_core::{Answer, CardNumber, Code, Item, ItemKind, Kind, Part, Registration, Request};

const DAY: i32 = 20_500;
const CARDS: u64 = 2_000;
const TABLES: &str = r#"{"money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 50000000000, "accrual": 100000000000000,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [{"from": 5000, "bonus": 0, "rate": 20000000000}],
    "waterfall": [{"pay": "points", "share": 300000000000, "price": 100000000, "min_points": 1000000},
                  {"pay": "bonus", "share": 200000000000, "price": 0, "min_points": 0},
                  {"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "units": [{"id": 16, "name": "visit", "kind": "visits", "worth": 500},
              {"id": 17, "name": "one off", "kind": "coupon", "value": 100},
              {"id": 18, "name": "two off", "kind": "coupon", "value": 200, "min_spend": 2000}],
    "bundles": [{"id": 1, "name": "everything", "grants": [
        {"unit": 16, "amount": 90000000000, "days": 90}, {"unit": 17, "amount": 90000000000, "days": 50},
        {"unit": 18, "amount": 90000000000, "days": 60}, {"unit": 2, "amount": 900000000000},
        {"unit": 3, "amount": 90000000000000}]}],
    "compounding_rate": 100000000, "time_tolerance_s": 86400}"#;

/// The tables that the demo's rule file compiles to; `tests/test_demo.py` holds them to it.
const DEMO: &str = include_str!("demo.json");
/// Departments of the demo.
const DRUG: u16 = 7;
const GROCERY: u16 = 14;
const PRODUCE: u16 = 23;

/// A machine with its journal, and what a row of a purchase is answered with.
struct Shop {
    machine: Machine,
    block: BlockBuilder,
    room: Vec<u8>,
    trace: u32,
    answers: Vec<Answer>,
    parts: Vec<Part>,
}

impl Shop {
    fn new(tables: &str) -> Shop {
        let mut machine = Machine::default();
        let name = String::from("name");
        let programme = Registration::Programme { programme: 1, name: name.clone(), date: DAY };
        let merchant = Registration::Merchant { programme: 1, merchant: 1, name: name.clone() };
        let terminal = Registration::Terminal { programme: 1, terminal: 1, store: 1 };
        let stores = [1].into_iter().chain(stores_named(tables));
        let stores = stores.map(|store| Registration::Store { programme: 1, store, merchant: 1, name: name.clone() });
        let registrations = [programme, merchant].into_iter().chain(stores).chain([terminal]);
        registrations.for_each(|registration| assert_eq!(machine.register(&registration).0, Code::Approved));
        machine.publish(1, 1, "rules", tables, 1).expect("the tables are good");
        let (answers, parts) = (Vec::new(), Vec::new());
        let mut shop = Shop { machine, block: BlockBuilder::new(1), room: Vec::new(), trace: 0, answers, parts };
        for card in 0..CARDS {
            shop.execute(Kind::Issue, card, 0, 1, &[]);
            shop.execute(Kind::TopUp, card, 90_000_000_000_000, 0, &[]);
            shop.execute(Kind::Grant, card, 1, 1, &[]);
        }
        shop
    }

    fn execute(&mut self, kind: Kind, card: u64, amount: i64, product: u16, items: &[Item]) {
        self.trace += 1;
        let flags = if kind == Kind::Purchase { USE_POINTS } else { 0 };
        let number = CardNumber::new(card, 16).expect("it has 16 digits");
        let request = Request {
            kind: kind as u8,
            card_digits: 16,
            flags,
            product,
            business_date: DAY,
            local_time: 43_200,
            card,
            amount,
            terminal: 1,
            trace: self.trace,
            ..Request::default()
        };
        let beside = Beside { items, forged: false, salt: None };
        let terminal = self.machine.organisation.terminal(terminal_hash(1, 1), 1, 1).expect("it is registered");
        let admitted = Admitted {
            request: &request,
            kind,
            programme: 0,
            terminal,
            number: Some(number),
            card_hash: Cards::hash(1, number),
            likely_card: u32::try_from(card).ok().filter(|&card| card < self.machine.cards.len()),
            beside: (!items.is_empty()).then_some(&beside),
            foreseen: None,
        };
        let sequence = self.block.next();
        let transaction = self.machine.execute(&admitted, Found::Nothing, sequence);
        assert_eq!(transaction.code, Code::Approved);
        self.block.push_transaction(transaction);
        let mut place = Answer::default();
        answer(transaction, sequence, false, &mut place);
        self.answers.push(place);
        parts(transaction, &mut self.parts);
    }

    /// The demo's shop: its rules, without limits of a card, and a tier for three of four cards.
    fn of_demo() -> Shop {
        let tables = DEMO.replace("\"balance_max\":500000", "\"balance_max\":0");
        let mut shop = Shop::new(&tables.replace("\"top_up_max\":200000", "\"top_up_max\":0"));
        (0..CARDS).for_each(|card| shop.execute(Kind::SetTier, card, 0, (card % 4) as u16, &[]));
        shop
    }

    /// A top-up of every card, as a group, of an amount that the demo gives bonus and points for.
    #[inline(never)]
    fn top_up(&mut self) {
        self.as_group(|shop, card| shop.execute(Kind::TopUp, card, 30_000, 0, &[]));
    }

    /// A purchase on every card, as a group.
    #[inline(never)]
    fn buy(&mut self, items: &[Item]) {
        self.buy_each(|_| items.to_vec());
    }

    /// The same, with three lines each.
    #[inline(never)]
    fn buy_lines(&mut self) {
        let line = |unit, amount| Item { kind: ItemKind::Line as u8, unit, amount, ..Item::default() };
        self.buy_each(|amount| {
            let (drug, produce) = (amount / 5, amount / 3);
            vec![line(DRUG, drug), line(GROCERY, amount - drug - produce), line(PRODUCE, produce)]
        });
    }

    fn buy_each(&mut self, items_of: impl Fn(i64) -> Vec<Item>) {
        self.as_group(|shop, card| {
            let amount = 2_000 + (card * 7 % 18_000) as i64;
            shop.execute(Kind::Purchase, card, amount, 0, &items_of(amount));
        });
    }

    fn as_group(&mut self, each: impl Fn(&mut Shop, u64)) {
        self.answers.clear();
        self.parts.clear();
        (0..CARDS).for_each(|card| each(self, card));
        black_box((&self.answers, &self.parts));
        self.room = self.block.finish(1, std::mem::take(&mut self.room)).into_room();
    }
}

/// The stores that rules name: a version names only what is registered.
fn stores_named(tables: &str) -> impl Iterator<Item = u32> {
    let lists = tables.split("\"stores\":[").skip(1).filter_map(|rest| rest.split(']').next());
    lists.flat_map(|list| list.split(',')).map(|store| store.parse().expect("a store is a number"))
}

fn swipes(criterion: &mut Criterion) {
    let item = |kind: ItemKind, unit| Item { kind: kind as u8, unit, amount: 1, ..Item::default() };
    let items = [item(ItemKind::Coupon, 17), item(ItemKind::Coupon, 18), item(ItemKind::Pass, 16)];
    let mut group = criterion.benchmark_group("purchase");
    group.throughput(Throughput::Elements(CARDS));
    let mut shop = Shop::new(TABLES);
    group.bench_function("plain", |bench| bench.iter(|| shop.buy(&[])));
    group.bench_function("with two coupons, a pass and three purses", |bench| bench.iter(|| shop.buy(&items)));
    let mut shop = Shop::of_demo();
    group.bench_function("by the rules of the demo", |bench| bench.iter(|| shop.buy(&[])));
    group.bench_function("by the rules of the demo, line by line", |bench| bench.iter(|| shop.buy_lines()));
    group.finish();
    let mut group = criterion.benchmark_group("top-up");
    group.throughput(Throughput::Elements(CARDS));
    group.bench_function("by the rules of the demo", |bench| bench.iter(|| shop.top_up()));
    group.finish();
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Elements(wallets::CHUNK as u64));
    let mut room = Vec::new();
    group.bench_function("a chunk of wallets", |bench| {
        bench.iter(|| {
            shop.machine.encode_wallets(0, &mut room);
            black_box(room.len())
        });
    });
    group.finish();
}

criterion_group!(swipe, swipes);
criterion_main!(swipe);
