//! What a swipe spends its time on, each by itself: tables, pricing, journal.
//!
//! `cargo bench -p onecard-core --bench hot`

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use onecard_core::accounts::{Account, Moves};
use onecard_core::commands::{Kind, USE_POINTS};
use onecard_core::journal::BlockBuilder;
use onecard_core::journal::entry::{CardRef, Detail, Entry, Transaction};
use onecard_core::keys::{Key, KeyName};
use onecard_core::rules::{Applying, Purses, Tables};
use onecard_core::table::{Table, mix};
use onecard_core::{Code, units};

const TABLES: &str = r#"{"money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 50000000000, "accrual": 100000000000000,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [{"from": 5000, "bonus": 0, "rate": 20000000000}],
    "waterfall": [{"pay": "points", "share": 300000000000, "price": 100000000, "min_points": 1000000},
                  {"pay": "bonus", "share": 500000000000, "price": 0, "min_points": 0},
                  {"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "compounding_rate": 100000000, "time_tolerance_s": 86400}"#;
/// Looked up one after the other, so that misses of the cache are in the figure.
const LOOKUPS: u64 = 1 << 16;
const GROUP: u64 = 8192;

/// Hashes in an order that no cache foresees.
fn hashes(of: u64) -> Vec<u64> {
    (0..LOOKUPS).map(|at| mix(mix(at, 1) % of, 0)).collect()
}

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(LOOKUPS));
    for len in [100_000u64, 1_000_000, 10_000_000] {
        let mut table = Table::default();
        (0..len).for_each(|at| table.insert(mix(at, 0), at as u32));
        let hashes = hashes(len);
        group.bench_function(format!("find one of {len}"), |bench| {
            bench.iter(|| hashes.iter().map(|&hash| table.get(hash).next().unwrap_or(0)).fold(0, u32::wrapping_add));
        });
        group.bench_function(format!("find one of {len}, asked for ahead"), |bench| {
            bench.iter(|| {
                let found = hashes.chunks(32).map(|hashes| {
                    hashes.iter().for_each(|&hash| table.prefetch(hash));
                    hashes.iter().map(|&hash| table.get(hash).next().unwrap_or(0)).fold(0, u32::wrapping_add)
                });
                found.fold(0, u32::wrapping_add)
            });
        });
    }
    group.bench_function("insert", |bench| {
        bench.iter_batched(
            Table::default,
            |mut table| {
                (0..LOOKUPS).for_each(|at| table.insert(mix(at, 0), at as u32));
                table
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn pricing(criterion: &mut Criterion) {
    let tables = Tables::parse(TABLES).expect("the tables are good");
    let applying = Applying::default();
    let purses = Purses { principal: 1_000_000, bonus: 20_000, points: 30_000_000 };
    criterion.bench_function("price a purchase", |bench| {
        bench.iter(|| tables.price(&tables.products[0], black_box(12_345), &applying, true, black_box(purses)));
    });
}

/// A purchase as W1 has it: paid from three purses.
fn purchase(at: u64) -> Transaction {
    let sequence = 1_000_000 + at;
    let amount = 100 + (mix(at, 0) % 19_900) as i64;
    let mut moves = Moves::default();
    moves.set([
        (Account::CardPrincipal, Account::StoreClearing, amount / 2),
        (Account::CardBonus, Account::StoreClearing, amount - amount / 2),
        (Account::IssuerPoints, Account::StoreClearing, 300),
        (Account::CardPoints, Account::PointsPool, 30_000),
        (Account::PointsPool, Account::CardPoints, amount * 95),
    ]);
    Transaction {
        kind: Kind::Purchase,
        code: Code::Approved,
        terminal: 1 + (at % 10_000) as u32,
        store: 1 + (at % 10_000) as u32,
        key: Key { programme: 1, date: 20_500, name: KeyName::Trace { terminal: 1, trace: at as u32 + 1 } },
        posted: 20_500,
        rule: 1,
        channel: 0,
        time: 43_200,
        flags: USE_POINTS,
        card: CardRef::Known { index: (mix(at, 1) % 1_000_000) as u32, previous: sequence - 900_000, issued: None },
        amount: units::part_of(20_000, 1, 2),
        product: 0,
        expires: 0,
        status: 0,
        original: None,
        moves,
        changes: Vec::new(),
        balances: [1_000_000, 20_000, 3_000_000],
        detailed: false,
        detail: Detail::default(),
    }
}

fn block_of(transactions: &[Transaction]) -> BlockBuilder {
    let mut block = BlockBuilder::new(1_000_000);
    transactions.iter().for_each(|transaction| block.push_transaction(transaction));
    block
}

fn journal(criterion: &mut Criterion) {
    let transactions: Vec<Transaction> = (0..GROUP).map(purchase).collect();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(GROUP));
    let (mut block, mut room) = (BlockBuilder::new(1_000_000), Vec::new());
    group.bench_function("write entries", |bench| {
        bench.iter(|| {
            transactions.iter().for_each(|transaction| block.push_transaction(transaction));
            room = block.finish(1, std::mem::take(&mut room)).into_room();
        });
    });
    let block = block_of(&transactions);
    group.bench_function("read entries", |bench| {
        bench.iter(|| {
            (0..GROUP).for_each(|at| {
                black_box(block.entry(1_000_000 + at).is_ok_and(|entry| matches!(entry, Entry::Transaction(_))));
            });
        });
    });
    let unsealed = block_of(&transactions).finish(1, Vec::new());
    group.bench_function("hash a block", |bench| bench.iter(|| unsealed.seal(&[7; 32]).hash()));
    group.finish();
}

criterion_group!(hot, tables, pricing, journal);
criterion_main!(hot);
