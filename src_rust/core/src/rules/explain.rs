//! Why a sale is priced as it is: which discounts and accruals count, which give way to others, and which nearly apply.
//!
//! Every rule is looked at by itself, in the order of the tables: nobody waits for it at a till.
//!
//! Invariant: what counts comes to what the decision tables say.

use std::cmp::Reverse;

use crate::rules::advised::Advised;
use crate::rules::basket::{Stacked, share_out, sum_of};
use crate::rules::fees::Foreign;
use crate::rules::stacking::{Rank, Rule};
use crate::rules::when::{Condition, Moment, When};
use crate::rules::{Product, Tables};

/// Most rules of either kind that are told of because they nearly apply.
const NEAR_MAX: usize = 20;

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It gives what is said.
    Counts,
    /// It applies, and another one counts in its place.
    GivesWay,
    /// All is as it asks, but for this.
    Misses(Condition),
    /// It refuses the sale.
    Refuses,
    /// It could not be asked, or broke.
    Failed,
    /// It did not answer in its time.
    TimedOut,
}

/// What a rule gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Gift {
    /// Money off the list amount.
    Discount = 1,
    /// Points.
    Points = 2,
    /// Bonus.
    Rebate = 3,
    /// Growth value.
    GrowthValue = 4,
    /// Money off the list amount that a Python rule says.
    AdvisedDiscount = 5,
    /// Points, more or fewer, that a Python rule says.
    AdvisedPoints = 6,
    /// Money that one merchant pays another.
    Fee = 7,
}

/// A rule and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of which kind it is.
    pub gift: Gift,
    /// Its id; 0: it is the product's, or that of growth value.
    pub id: u32,
    /// What it gives, or would.
    pub gives: i64,
    /// What became of it.
    pub fate: Fate,
}

/// What was sold, and how much money paid for it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// When, where, how and on which card.
    pub moment: Moment,
    /// Category, 0: none, and list amount of each line; none: it was not told line by line.
    pub lines: &'a [(u16, i64)],
    /// Paid from principal and bonus of all cards, and in cash.
    pub paid: i64,
    /// Of it from principal of the own card, and in cash.
    pub rebated: i64,
    /// What rules that are kept outside said.
    pub advised: &'a Advised,
    /// How fees look at it, if it costs any: a purchase on a card of another merchant.
    pub foreign: Option<Foreign>,
}

/// A rule that was held against a sale.
struct Held {
    rank: Rank,
    gives: i64,
    missed: Vec<Condition>,
    /// The lines that it looks at: a bit for each.
    of: u64,
}

impl Tables {
    /// What becomes of the rules in a sale, discounts first. Of each kind first come those that apply, in the order of their ids, then those that
    /// nearly do: at most 20, those that miss the least amount or the hour first, then those that would give most.
    pub fn explain(&self, product: &Product, told: &Told<'_>) -> Vec<Verdict> {
        let whole = [(0, told.moment.amount)];
        let lines = if told.lines.is_empty() { &whole[..] } else { told.lines };
        let amounts: Vec<i64> = lines.iter().map(|line| line.1).collect();
        let own = product.off(told.moment.amount);
        let own = (own > 0).then(|| Held { rank: Rank::PRODUCT, gives: own, missed: Vec::new(), of: u64::MAX });
        let discounts = self
            .discounts
            .iter()
            .map(|of| hold(&of.when, Rule::from(of), &told.moment, lines, |rule, amount, _| rule.off(amount)));
        let discounts: Vec<Held> = own.into_iter().chain(discounts).collect();
        let stacked = stack(&discounts, &amounts);
        let totals = stacked.totals().zip(told.advised.off_lines(&amounts)).map(|(off, more)| off + i128::from(more));
        let off = totals.zip(&amounts).map(|(off, &amount)| off.min(amount.into()) as i64);
        let costs: Vec<i64> = amounts.iter().zip(off).map(|(amount, off)| amount - off).collect();
        let mut verdicts = judge(Gift::Discount, &discounts, &stacked, &amounts);
        let paid_of = &share_out(told.paid, &costs, u64::MAX)[..costs.len()];
        let base = Verdict { gift: Gift::Points, id: 0, gives: product.earned(told.paid), fate: Fate::Counts };
        let accruals = self.accruals.iter().map(|of| {
            hold(&of.when, Rule::from(of), &told.moment, lines, |rule, _, of| {
                let paid = sum_of(paid_of, of);
                rule.points(paid, product.earned(paid))
            })
        });
        let accruals: Vec<Held> = accruals.collect();
        verdicts.push(base);
        verdicts.extend(judge(Gift::Points, &accruals, &stack(&accruals, paid_of), paid_of));
        let rebate = crate::units::rate_of(told.rebated, product.rebate) as i64;
        let growth = self.growth_value.as_ref().map_or(0, |growth| growth.earned(told.paid));
        let more = [(Gift::Rebate, rebate), (Gift::GrowthValue, growth)].into_iter().filter(|more| more.1 > 0);
        verdicts.extend(more.map(|(gift, gives)| Verdict { gift, id: 0, gives, fate: Fate::Counts }));
        verdicts.extend(told.foreign.iter().flat_map(|foreign| self.explain_fees(&told.moment, foreign)));
        verdicts
    }

    /// The fees that are paid for a sale, and those that miss one condition only.
    pub fn explain_fees(&self, moment: &Moment, foreign: &Foreign) -> Vec<Verdict> {
        let judged = self.fees.iter().filter_map(|fee| {
            let gives = fee.amount(foreign);
            let fate = match fee.missed(moment, foreign)[..] {
                [] if gives > 0 => Fate::Counts,
                [condition] if gives > 0 => Fate::Misses(condition),
                _ => return None,
            };
            Some(Verdict { gift: Gift::Fee, id: fee.id.into(), gives, fate })
        });
        judged.collect()
    }

    /// What a rule is called; that of the product, and of what is no rule of its own, has no name.
    pub fn name_of(&self, gift: Gift, id: u32) -> &str {
        let found = match gift {
            Gift::Discount => self.discounts.binary_search_by_key(&id, |rule| rule.id).ok().map(|at| &self.discounts[at].name),
            Gift::Points => self.accruals.binary_search_by_key(&id, |rule| rule.id).ok().map(|at| &self.accruals[at].name),
            Gift::AdvisedDiscount | Gift::AdvisedPoints => {
                u16::try_from(id).ok().and_then(|id| self.python_rule(id)).map(|rule| &rule.name)
            }
            Gift::Fee => self.fees.iter().find(|fee| u32::from(fee.id) == id).map(|fee| &fee.name),
            Gift::Rebate | Gift::GrowthValue => None,
        };
        found.map_or("", String::as_str)
    }
}

/// Holds a rule against a sale: against the lines of its categories, or, if there are none, against all of them.
fn hold(when: &When, rule: Rule, moment: &Moment, lines: &[(u16, i64)], gives: impl Fn(&Rule, i64, u64) -> i64) -> Held {
    let is_of = |category: u16| when.categories.is_empty() || when.categories.binary_search(&category).is_ok();
    let here = (0..).zip(lines).filter(|(_, line)| is_of(line.0)).fold(0, |of: u64, (at, _)| of | 1 << at);
    let of = if here == 0 { u64::MAX } else { here };
    let amount = (0..).zip(lines).filter(|(at, _)| of >> at & 1 != 0).map(|(_, line)| line.1).sum();
    let category = if here == 0 { 0 } else { lines[here.trailing_zeros() as usize].0 };
    let mut looked_at = moment.with(category);
    looked_at.amount = amount;
    let missed = when.missed(&looked_at);
    Held { rank: rule.rank(), gives: gives(&rule, amount, of), missed, of }
}

/// Those that apply, on each line.
fn stack(held: &[Held], weights: &[i64]) -> Stacked {
    let mut stacked = Stacked::new(weights.len());
    held.iter().filter(|held| held.missed.is_empty()).for_each(|held| stacked.add(held.rank, held.gives, weights, held.of));
    stacked
}

fn judge(gift: Gift, held: &[Held], stacked: &Stacked, weights: &[i64]) -> Vec<Verdict> {
    let verdict = |held: &Held, gives, fate| Verdict { gift, id: held.rank.id, gives, fate };
    let mut near = Vec::new();
    let mut verdicts = Vec::new();
    for held in held {
        match held.missed[..] {
            [] => verdicts.push(match stacked.counted(held.rank, held.gives, weights, held.of) {
                Some(gives) => verdict(held, gives, Fate::Counts),
                None => verdict(held, held.gives, Fate::GivesWay),
            }),
            [condition] => near.push((condition, verdict(held, held.gives, Fate::Misses(condition)))),
            _ => {}
        }
    }
    near.sort_by_key(|&(condition, Verdict { gives, id, .. })| (condition, Reverse(gives), id));
    verdicts.extend(near.into_iter().take(NEAR_MAX).map(|(_, verdict)| verdict));
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Applying;
    use crate::rules::tests::TABLES;
    use proptest::prelude::*;

    fn with(rules: &str) -> Tables {
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!("{rules}, \"compounding_rate\""), 1)).unwrap()
    }

    fn explained(tables: &Tables, moment: Moment, paid: i64) -> Vec<Verdict> {
        tables.explain(
            &tables.products[0],
            &Told { moment, lines: &[], paid, rebated: 0, advised: &Advised::default(), foreign: None },
        )
    }

    fn at(store: u32) -> Moment {
        Moment::new(1, 10_000).at(store, 1, 0).on(20_500, 43_200)
    }

    #[test]
    fn what_counts_what_gives_way_and_what_nearly_applies_is_told() {
        let tables = with(
            r#""discounts": [
            {"id": 1, "name": "three", "value": 300},
            {"id": 2, "name": "more", "value": 100, "stacking": "add"},
            {"id": 3, "name": "elsewhere", "value": 5000, "when": {"stores": [2]}},
            {"id": 4, "name": "large", "value": 700, "when": {"min_spend": 10001}},
            {"id": 5, "name": "large elsewhere", "value": 700, "when": {"min_spend": 10001, "stores": [2]}}],
            "accruals": [{"id": 1, "name": "ten", "points": 100000, "stacking": "exclusive"},
                         {"id": 2, "name": "double", "factor": 2000000000000}]"#,
        );
        let told = explained(&tables, at(1), 9_400);
        let verdict = |is_discount, id, gives, fate| {
            let gift = if is_discount { Gift::Discount } else { Gift::Points };
            Verdict { gift, id, gives, fate }
        };
        let expected = [
            verdict(true, 0, 500, Fate::Counts),
            verdict(true, 1, 300, Fate::GivesWay),
            verdict(true, 2, 100, Fate::Counts),
            verdict(true, 4, 700, Fate::Misses(Condition::MinSpend)),
            verdict(true, 3, 5_000, Fate::Misses(Condition::Stores)),
            verdict(false, 0, 940_000, Fate::Counts),
            verdict(false, 1, 100_000, Fate::Counts),
            verdict(false, 2, 940_000, Fate::GivesWay),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn of_many_that_nearly_apply_the_first_are_told() {
        let rules: Vec<String> = (1..=50)
            .map(|id| format!(r#"{{"id": {id}, "name": "a", "value": {}, "when": {{"stores": [{id}]}}}}"#, id * 7 % 50 + 1))
            .collect();
        let tables = with(&format!(r#""discounts": [{}]"#, rules.join(", ")));
        let told = explained(&tables, at(0), 1);
        let near: Vec<i64> = told.iter().filter(|verdict| matches!(verdict.fate, Fate::Misses(_))).map(|of| of.gives).collect();
        assert_eq!(near, (31..=50).rev().collect::<Vec<i64>>());
    }

    fn rule() -> impl Strategy<Value = String> {
        let stacking = prop::sample::select(vec!["best", "add", "exclusive"]);
        (1..2_000i64, stacking, -1..2i16, 0..4u32, 0..3i64, 0..4u16).prop_map(|(value, stacking, priority, stores, least, of)| {
            let stores: Vec<u32> = (0..2).filter(|store| stores >> store & 1 != 0).collect();
            let categories: Vec<u16> = (1..3).filter(|category| of >> (category - 1) & 1 != 0).collect();
            let when = format!(r#"{{"stores": {stores:?}, "categories": {categories:?}, "min_spend": {}}}"#, least * 2_500);
            format!(r#""name": "a", "stacking": "{stacking}", "priority": {priority}, "when": {when}, "VALUE": {value}"#)
        })
    }

    fn listed(rules: &[String], value: &str) -> String {
        let rules: Vec<String> =
            rules.iter().zip(1..).map(|(rule, id)| format!(r#"{{"id": {id}, {}}}"#, rule.replace("VALUE", value))).collect();
        format!("[{}]", rules.join(", "))
    }

    /// A basket: categories 0 to 2, small amounts.
    fn lines() -> impl Strategy<Value = Vec<(u16, i64)>> {
        prop::collection::vec((0..3u16, 0..5_000i64), 0..5)
    }

    proptest! {
        #[test]
        fn what_counts_comes_to_what_the_decision_tables_say(
            discounts in prop::collection::vec(rule(), 0..12), accruals in prop::collection::vec(rule(), 0..12), store in 0..2u32,
            lines in lines(), paid in 0..=100i64,
        ) {
            let categories = r#""categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]"#;
            let rules = format!(r#"{categories}, "discounts": {}, "accruals": {}"#, listed(&discounts, "value"), listed(&accruals, "points"));
            let tables = with(&rules);
            let amount = if lines.is_empty() { 10_000 } else { lines.iter().map(|line| line.1).sum() };
            let moment = Moment::new(1, amount).at(store, 1, 0).on(20_500, 43_200);
            let mut applying = Applying::default();
            tables.add_applying(&moment, lines.iter().copied(), &mut applying);
            let (product, mut off) = (&tables.products[0], Vec::new());
            let taken = tables.off(product, amount, &applying, &mut off);
            let paid = (amount - taken) * paid / 100;
            let told = tables.explain(product, &Told { moment, lines: &lines, paid, rebated: 0, advised: &applying.advised, foreign: None });
            let sum = |gift| -> i64 {
                let counted = told.iter().filter(|of| of.gift == gift && of.fate == Fate::Counts);
                counted.map(|of| of.gives).sum()
            };
            // Of a line no more is taken off than it costs: then rules give less than they say.
            prop_assert!(sum(Gift::Discount) == taken || taken < sum(Gift::Discount) && (0..).zip(&off).any(|(at, off)| *off == lines.get(at).map_or(amount, |line| line.1)) || lines.is_empty() && taken == amount);
            prop_assert_eq!(sum(Gift::Points), tables.earned(product, amount, paid, &applying, &off));
        }
    }
}
