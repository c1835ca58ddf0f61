//! Why a sale is priced as it is: which discounts and accruals count, which give way to others, and which nearly apply.
//!
//! Every rule is looked at by itself, in the order of the tables: nobody waits for it at a till.
//!
//! Invariant: what counts comes to what the decision tables say.

use std::cmp::Reverse;

use crate::rules::stacking::{Rank, Rule, Stack};
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
}

/// A rule and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A discount, or else an accrual.
    pub is_discount: bool,
    /// Its id; 0: what the product itself gives.
    pub id: u32,
    /// What it gives, or would: money off the list amount, or points.
    pub gives: i64,
    /// What became of it.
    pub fate: Fate,
}

/// A rule that was held against a sale.
struct Held {
    rank: Rank,
    gives: i64,
    missed: Vec<Condition>,
}

impl Tables {
    /// What becomes of the rules in a sale that is paid with so much money, discounts first. Of each kind first come those that apply, in the
    /// order of their ids, then those that nearly do: at most 20, those that miss the least amount or the hour first, then those that would
    /// give most.
    pub fn explain(&self, product: &Product, moment: &Moment, paid: i64) -> Vec<Verdict> {
        let held = |rule: Rule, when: &When, gives| Held { rank: rule.rank, gives, missed: when.missed(moment) };
        let amount = moment.amount;
        let own = product.off(amount);
        let own = (own > 0).then(|| Held { rank: Rank::PRODUCT, gives: own, missed: Vec::new() });
        let discounts = self.discounts.iter().map(|of| (Rule::from(of), &of.when));
        let discounts = discounts.map(|(rule, when)| held(rule, when, rule.off(amount)));
        let mut verdicts = judge(true, own.into_iter().chain(discounts).collect());
        let base = product.earned(paid);
        verdicts.push(Verdict { is_discount: false, id: 0, gives: base, fate: Fate::Counts });
        let accruals = self.accruals.iter().map(|of| (Rule::from(of), &of.when));
        let accruals = accruals.map(|(rule, when)| held(rule, when, rule.points(paid, base)));
        verdicts.extend(judge(false, accruals.collect()));
        verdicts
    }
}

fn judge(is_discount: bool, held: Vec<Held>) -> Vec<Verdict> {
    let mut stack = Stack::default();
    held.iter().filter(|held| held.missed.is_empty()).for_each(|held| stack.add(held.rank, held.gives));
    let verdict = |held: &Held, fate| Verdict { is_discount, id: held.rank.id, gives: held.gives, fate };
    let mut near = Vec::new();
    let mut verdicts = Vec::new();
    for held in &held {
        match held.missed[..] {
            [] => verdicts.push(verdict(held, if stack.counts(held.rank) { Fate::Counts } else { Fate::GivesWay })),
            [condition] => near.push((condition, verdict(held, Fate::Misses(condition)))),
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
        let told = tables.explain(&tables.products[0], &at(1), 9_400);
        let verdict = |is_discount, id, gives, fate| Verdict { is_discount, id, gives, fate };
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
        let told = tables.explain(&tables.products[0], &at(0), 1);
        let near: Vec<i64> = told.iter().filter(|verdict| matches!(verdict.fate, Fate::Misses(_))).map(|of| of.gives).collect();
        assert_eq!(near, (31..=50).rev().collect::<Vec<i64>>());
    }

    fn rule() -> impl Strategy<Value = String> {
        let stacking = prop::sample::select(vec!["best", "add", "exclusive"]);
        (1..2_000i64, stacking, -1..2i16, 0..4u32, 0..3i64).prop_map(|(value, stacking, priority, stores, least)| {
            let stores: Vec<u32> = (0..2).filter(|store| stores >> store & 1 != 0).collect();
            let when = format!(r#"{{"stores": {stores:?}, "min_spend": {}}}"#, least * 10_000);
            format!(r#""name": "a", "stacking": "{stacking}", "priority": {priority}, "when": {when}, "VALUE": {value}"#)
        })
    }

    fn listed(rules: &[String], value: &str) -> String {
        let rules: Vec<String> =
            rules.iter().zip(1..).map(|(rule, id)| format!(r#"{{"id": {id}, {}}}"#, rule.replace("VALUE", value))).collect();
        format!("[{}]", rules.join(", "))
    }

    proptest! {
        #[test]
        fn what_counts_comes_to_what_the_decision_tables_say(
            discounts in prop::collection::vec(rule(), 0..12), accruals in prop::collection::vec(rule(), 0..12), store in 0..2u32,
        ) {
            let rules = format!(r#""discounts": {}, "accruals": {}"#, listed(&discounts, "value"), listed(&accruals, "points"));
            let (tables, moment) = (with(&rules), at(store));
            let mut applying = Applying::default();
            tables.add_applying(&moment, &mut applying);
            let product = &tables.products[0];
            let told = tables.explain(product, &moment, 3_000);
            let sum = |is_discount| -> i64 {
                let counted = told.iter().filter(|of| of.is_discount == is_discount && of.fate == Fate::Counts);
                counted.map(|of| of.gives).sum()
            };
            prop_assert_eq!(sum(true).min(10_000), tables.off(product, 10_000, &applying, &mut Vec::new()));
            prop_assert_eq!(sum(false), tables.earned(product, 10_000, 3_000, &applying, &[]));
        }
    }
}
