//! Counting what happens in a period: the same for what happened and for what is tried.

use std::collections::BTreeMap;

use crate::accounts::{Account, Books};
use crate::codes::Code;
use crate::commands::{Kind, MerchantLiability, TrialBalance};
use crate::journal::entry::{CardRef, Change, DayClosed, Entry, Transaction};
use crate::machine::{Machine, answer_of, paid_of, points_of};
use crate::organisation::Programme;
use crate::rules::{Applying, Gift, Part, Tables};

/// What one rule cost: in how many sales it counted, and what it gave in all - money, or points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub sales: u64,
    pub gives: i128,
}

/// A rule by what it gives, its id and its name: another version may call another rule by the same id.
pub(super) type RuleName = (Gift, u32, String);

/// What transactions and closes come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub sales_approved: u64,
    pub sales_refused: u64,
    pub sold: i128,
    pub topped_up: i128,
    pub discounts: i128,
    pub coupons: i128,
    pub earned: i128,
    pub spent: i128,
    pub lapsed: i128,
    pub grown: i128,
    pub issuer_net: i128,
    /// Cards that came to a higher tier, as often as they did.
    pub raised: u64,
}

/// A programme as a day closed, before the growth of that day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Day {
    pub date: i32,
    pub principal: i128,
    pub bonus: i128,
    pub points: i128,
    pub issuer_net: i128,
    /// Of this day.
    pub sold: i128,
    pub discounts: i128,
    pub earned: i128,
}

/// All that is counted.
pub(super) struct Tally {
    programme: u16,
    pub sums: Sums,
    /// Sums as the newest close left them.
    morning: Sums,
    /// Of the rules in force, by kind and id, with their names.
    costs: BTreeMap<(Gift, u32), (String, Cost)>,
    version: u32,
    pub costs_by_name: BTreeMap<RuleName, Cost>,
    pub days: Vec<Day>,
    pub books_before: Books,
    /// What every store is owed, before and at the end.
    pub stores_before: BTreeMap<u32, i128>,
    pub stores: BTreeMap<u32, i128>,
    pub books: Books,
    pub merchants: Vec<MerchantLiability>,
    pub trial: Option<TrialBalance>,
    /// Cards by their tier; 0: none.
    pub tiers: BTreeMap<u8, u64>,
    /// Room for the parts of a sale.
    parts: Vec<Part>,
}

impl Tally {
    /// Begins with the state of a machine.
    pub fn begin(machine: &Machine, programme: u16) -> Tally {
        let found = find(machine, programme);
        Tally {
            programme,
            sums: Sums::default(),
            morning: Sums::default(),
            costs: BTreeMap::new(),
            version: 0,
            costs_by_name: BTreeMap::new(),
            days: Vec::new(),
            books_before: found.map(|found| found.books.clone()).unwrap_or_default(),
            stores_before: nets(machine, programme),
            stores: BTreeMap::new(),
            books: Books::default(),
            merchants: Vec::new(),
            trial: None,
            tiers: BTreeMap::new(),
            parts: Vec::new(),
        }
    }

    /// Counts an entry that was applied to the machine; if it is a sale, these rules applied to it.
    pub fn count(&mut self, machine: &Machine, entry: &Entry, applying: &Applying) {
        match entry {
            Entry::Transaction(transaction) => self.count_transaction(machine, transaction, applying),
            Entry::DayClosed(closed) => self.count_day(machine, closed),
            Entry::GrowthComplete(complete) => self.sums.grown += complete.growth,
            Entry::LotsLapsed(lapsed) => {
                let points = lapsed.legs.iter().filter(|leg| leg.account == Account::PointsPool);
                self.sums.lapsed += points.map(|leg| leg.amount).sum::<i128>();
            }
            Entry::Registration(_) | Entry::Rules { .. } | Entry::GrowthOpens(_) => {}
        }
    }

    /// The same of a transaction.
    pub fn count_transaction(&mut self, machine: &Machine, transaction: &Transaction, applying: &Applying) {
        let is_sale = matches!(transaction.kind, Kind::Purchase | Kind::Authorise);
        if is_sale {
            let sales = if transaction.code.is_approved() { &mut self.sums.sales_approved } else { &mut self.sums.sales_refused };
            *sales += 1;
        }
        if !transaction.code.is_approved() {
            return;
        }
        let tier = |change: &Change| matches!(change, Change::Tier { .. });
        let is_raised = transaction.kind != Kind::SetTier && transaction.changes.iter().any(tier);
        self.sums.raised += u64::from(is_raised);
        let answer = answer_of(transaction, 0);
        match transaction.kind {
            Kind::Purchase | Kind::Capture => self.sums.sold += i128::from(answer.amount),
            Kind::TopUp | Kind::BulkTopUp => self.sums.topped_up += i128::from(answer.amount),
            // What a closed card leaves is nobody's.
            Kind::Close => self.sums.lapsed -= i128::from(points_of(transaction, 0)),
            _ => {}
        }
        self.sums.earned += i128::from(answer.points_earned);
        self.sums.spent += i128::from(answer.points_spent);
        if is_sale {
            self.sums.discounts += i128::from(answer.discount);
            self.count_rules(machine, transaction, answer.discount, applying);
        }
    }

    /// Counts what each rule gave in a sale.
    fn count_rules(&mut self, machine: &Machine, transaction: &Transaction, discount: i64, applying: &Applying) {
        let CardRef::Known { index, .. } = transaction.card else { return };
        let Some(rules) = find(machine, self.programme).and_then(|found| found.rules.as_ref()) else { return };
        let tables = &rules.tables;
        let Some(product) = tables.product(machine.cards.card(index).product) else { return };
        if self.version != rules.version {
            self.name_costs();
            self.version = rules.version;
        }
        tables.counted(product, transaction.amount, paid_of(transaction), applying, &mut self.parts);
        self.cap_points(transaction);
        let mut by_rules = 0;
        for part in &self.parts {
            by_rules += if is_points(part.gift) { 0 } else { part.gives };
            let named = || (name_of(tables, part), Cost::default());
            let (_, cost) = self.costs.entry((part.gift, part.id)).or_insert_with(named);
            cost.sales += 1;
            cost.gives += i128::from(part.gives);
        }
        self.sums.coupons += i128::from(discount - by_rules);
    }

    /// Where a limit of the day cut the points of a sale, the last rules give less.
    fn cap_points(&mut self, transaction: &Transaction) {
        let of_points = || self.parts.iter().filter(|part| is_points(part.gift));
        let mut over = of_points().map(|part| part.gives).sum::<i64>() - earned(transaction);
        for part in self.parts.iter_mut().rev().filter(|part| is_points(part.gift) && part.gives > 0) {
            let cut = part.gives.min(over);
            part.gives -= cut;
            over -= cut;
        }
        self.parts.retain(|part| part.gives != 0);
    }

    /// Other rules come into force: what was counted is kept by name.
    fn name_costs(&mut self) {
        for ((gift, id), (name, cost)) in std::mem::take(&mut self.costs) {
            let all = self.costs_by_name.entry((gift, id, name)).or_default();
            all.sales += cost.sales;
            all.gives += cost.gives;
        }
    }

    fn count_day(&mut self, machine: &Machine, closed: &DayClosed) {
        let Some(found) = find(machine, self.programme) else { return };
        let issuer_net = closed.members + closed.bonus + closed.points + closed.units;
        self.sums.issuer_net += issuer_net;
        let (sums, morning) = (&self.sums, &self.morning);
        self.days.push(Day {
            date: closed.date,
            principal: found.books.principal,
            bonus: found.books.bonus,
            points: found.books.points,
            issuer_net,
            sold: sums.sold - morning.sold,
            discounts: sums.discounts - morning.discounts,
            earned: sums.earned - morning.earned,
        });
        self.morning = self.sums.clone();
    }

    /// Notes the state at the end.
    pub fn finish(&mut self, machine: &Machine) {
        self.name_costs();
        self.books = find(machine, self.programme).map(|found| found.books.clone()).unwrap_or_default();
        self.stores = nets(machine, self.programme);
        self.merchants = machine.liabilities(self.programme).merchants;
        let runs = find(machine, self.programme).map_or(&[][..], |found| &found.card_runs);
        for index in runs.iter().flat_map(|&(first, count)| first..first + count) {
            *self.tiers.entry(machine.cards.card(index).tier).or_default() += 1;
        }
        let trial = machine.trial_balance(self.programme, 0);
        self.trial = (trial.code == Code::Approved).then_some(trial);
    }
}

fn find(machine: &Machine, programme: u16) -> Option<&Programme> {
    machine.organisation.programme(programme).map(|at| &machine.organisation.programmes[at])
}

/// What every store of a programme is owed: of the open day, and of those before.
fn nets(machine: &Machine, programme: u16) -> BTreeMap<u32, i128> {
    let stores = machine.positions(programme).1;
    stores.into_iter().map(|store| (store.store, store.net() + store.due)).collect()
}

/// True if points are given, and not money.
pub(super) fn is_points(gift: Gift) -> bool {
    matches!(gift, Gift::Points | Gift::AdvisedPoints)
}

/// Points that a sale gives, or will when it is captured.
fn earned(transaction: &Transaction) -> i64 {
    let held = |change: &Change| if let Change::Held { earned, .. } = change { Some(*earned) } else { None };
    match transaction.changes.iter().find_map(held) {
        Some(earned) => earned,
        None => answer_of(transaction, 0).points_earned,
    }
}

/// What a rule is called; what products give by themselves is called after them all.
fn name_of(tables: &Tables, part: &Part) -> String {
    if part.id == 0 { "the products' own".into() } else { tables.name_of(part.gift, part.id).into() }
}
