//! What happened and what would have, side by side.

use std::collections::{BTreeMap, BTreeSet};

use crate::cards::CardNumber;
use crate::codes::Code;
use crate::commands::{Answer, Kind};
use crate::rules::Gift;
use crate::what_if::tally::{Cost, Day, Tally, is_points};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureUnit {
    /// Minor units of money.
    Money,
    /// 1/10,000 points.
    Points,
    /// How many.
    Count,
}

/// A sum over the period, or as of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Figure {
    pub name: &'static str,
    pub unit: FigureUnit,
    pub actual: i128,
    pub tried: i128,
}

/// What a rule cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostRow {
    /// What it gives: money off, or points; of the rule file, or of a rule in Python.
    pub gift: Gift,
    /// Its id; 0: what products give by themselves.
    pub id: u32,
    /// For people.
    pub name: String,
    /// How many sales it counted in.
    pub sales: [u64; 2],
    /// What it gave in them: what happened, then what was tried.
    pub gives: [i128; 2],
}

/// What a store is owed in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct StoreRow {
    pub store: u32,
    pub before: i128,
    pub actual: i128,
    pub tried: i128,
}

/// Cards of a tier at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TierRow {
    /// 0: of none.
    pub tier: u8,
    pub actual: u64,
    pub tried: u64,
}

/// Points on the cards that a merchant issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MerchantRow {
    pub merchant: u32,
    pub actual: i128,
    pub tried: i128,
}

/// A closed day, before its growth: each figure as it happened, then as it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DayRow {
    pub date: i32,
    pub principal: [i128; 2],
    pub bonus: [i128; 2],
    pub points: [i128; 2],
    pub issuer_net: [i128; 2],
    pub sold: [i128; 2],
    pub discounts: [i128; 2],
    pub earned: [i128; 2],
}

/// Transactions of a kind whose code is another now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Change {
    pub kind: Kind,
    pub actual: Code,
    pub tried: Code,
    pub count: u64,
    /// What was asked for in all of them.
    pub amount: i128,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Changed {
    pub sequence: u64,
    pub date: i32,
    pub kind: Kind,
    pub actual: Code,
    pub tried: Code,
    pub card: Option<CardNumber>,
    pub store: u32,
    pub amount: i64,
}

/// All that a run tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sums.
    pub figures: Vec<Figure>,
    /// Cost by rule: what gives money first, each kind by id.
    pub costs: Vec<CostRow>,
    /// By number.
    pub stores: Vec<StoreRow>,
    /// By number.
    pub merchants: Vec<MerchantRow>,
    /// By tier.
    pub tiers: Vec<TierRow>,
    /// By date.
    pub days: Vec<DayRow>,
    /// Totals of every account: code, as it happened, as it was tried.
    pub accounts: Vec<(u8, i128, i128)>,
    /// How many transactions of which kind were answered otherwise, by kind and codes.
    pub changes: Vec<Change>,
    /// The first of them, in order.
    pub changed: Vec<Changed>,
    /// How many transactions and closes came to something else, if only in a balance; and the first of them.
    pub differing: u64,
    /// Their sequences; of a close that of its first entry.
    pub differing_first: Vec<u64>,
    /// Transactions that were executed.
    pub transactions: u64,
    /// Answers under the rules that were tried, if they were asked for.
    pub answers: Vec<Answer>,
}

impl Outcome {
    /// Fills in what both tallies say.
    pub(super) fn compare(&mut self, actual: &Tally, tried: &Tally) {
        let pairs = figures(actual).into_iter().zip(figures(tried));
        self.figures = pairs.map(|((name, unit, actual), (_, _, tried))| Figure { name, unit, actual, tried }).collect();
        self.costs = costs(actual, tried);
        self.stores = stores(actual, tried);
        self.merchants = merchants(actual, tried);
        self.tiers = tiers(actual, tried);
        self.days = actual.days.iter().zip(&tried.days).map(|(actual, tried)| day(actual, tried)).collect();
        if let (Some(actual), Some(tried)) = (&actual.trial, &tried.trial) {
            let pairs = actual.totals.iter().zip(&tried.totals);
            self.accounts = pairs.map(|(actual, tried)| (actual.0, actual.1, tried.1)).collect();
        }
    }
}

/// The figures that are told, one a line: another is another line here.
fn figures(tally: &Tally) -> Vec<(&'static str, FigureUnit, i128)> {
    use FigureUnit::{Count, Money, Points};
    let (sums, books, before) = (&tally.sums, &tally.books, &tally.books_before);
    let owed: i128 = tally.stores.values().sum::<i128>() - tally.stores_before.values().sum::<i128>();
    vec![
        ("sales approved", Count, sums.sales_approved.into()),
        ("sales refused", Count, sums.sales_refused.into()),
        ("cards raised to a higher tier", Count, sums.raised.into()),
        ("sold", Money, sums.sold),
        ("topped up", Money, sums.topped_up),
        ("discounts", Money, sums.discounts),
        ("of them by stores' coupons", Money, sums.coupons),
        ("bonus given, less what came back", Money, before.issuer_bonus - books.issuer_bonus),
        ("paid with points, less what came back", Money, before.issuer_points - books.issuer_points),
        ("points earned", Points, sums.earned),
        ("points spent", Points, sums.spent),
        ("points lapsed", Points, sums.lapsed),
        ("points grown", Points, sums.grown),
        ("principal on cards", Money, books.principal),
        ("bonus on cards", Money, books.bonus),
        ("points on cards", Points, books.points),
        ("money that cards owe", Money, -books.shortfall_money),
        ("points that cards owe", Points, -books.shortfall_points),
        ("owed to stores more than before", Money, owed),
        ("issuer's net of the closed days", Money, sums.issuer_net),
    ]
}

fn costs(actual: &Tally, tried: &Tally) -> Vec<CostRow> {
    let mut rows: BTreeMap<_, [Cost; 2]> = BTreeMap::new();
    for (side, tally) in [actual, tried].into_iter().enumerate() {
        for (name, cost) in &tally.costs_by_name {
            rows.entry(name.clone()).or_default()[side] = *cost;
        }
    }
    let row = |((gift, id, name), [actual, tried]): (_, [Cost; 2])| CostRow {
        gift,
        id,
        name,
        sales: [actual.sales, tried.sales],
        gives: [actual.gives, tried.gives],
    };
    let mut rows: Vec<CostRow> = rows.into_iter().map(row).collect();
    rows.sort_by_key(|row| (is_points(row.gift), row.gift, row.id));
    rows
}

fn stores(actual: &Tally, tried: &Tally) -> Vec<StoreRow> {
    let net = |nets: &BTreeMap<u32, i128>, store| nets.get(&store).copied().unwrap_or(0);
    let row = |(&store, &owed): (&u32, &i128)| StoreRow {
        store,
        before: net(&actual.stores_before, store),
        actual: owed,
        tried: net(&tried.stores, store),
    };
    actual.stores.iter().map(row).collect()
}

fn merchants(actual: &Tally, tried: &Tally) -> Vec<MerchantRow> {
    // Both have the same merchants, in the same order.
    let pairs = actual.merchants.iter().zip(&tried.merchants);
    pairs.map(|(actual, tried)| MerchantRow { merchant: actual.merchant, actual: actual.points, tried: tried.points }).collect()
}

fn tiers(actual: &Tally, tried: &Tally) -> Vec<TierRow> {
    let all: BTreeSet<u8> = actual.tiers.keys().chain(tried.tiers.keys()).copied().collect();
    let of = |tally: &Tally, tier| tally.tiers.get(&tier).copied().unwrap_or(0);
    all.into_iter().map(|tier| TierRow { tier, actual: of(actual, tier), tried: of(tried, tier) }).collect()
}

fn day(actual: &Day, tried: &Day) -> DayRow {
    DayRow {
        date: actual.date,
        principal: [actual.principal, tried.principal],
        bonus: [actual.bonus, tried.bonus],
        points: [actual.points, tried.points],
        issuer_net: [actual.issuer_net, tried.issuer_net],
        sold: [actual.sold, tried.sold],
        discounts: [actual.discounts, tried.discounts],
        earned: [actual.earned, tried.earned],
    }
}
