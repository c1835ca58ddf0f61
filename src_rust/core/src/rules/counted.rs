//! What each rule gives in a sale, those in Python included: the parts of its discount, and of the points that it earns.
//!
//! Invariant: the parts come to what the sale was priced with.

use crate::rules::basket::{is_of, share_out, sum_of};
use crate::rules::stacking::{Rank, Stack};
use crate::rules::{Applying, Gift, Product, Tables};
use crate::units::rate_of;

/// What one rule gives in a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of which kind it is: a discount or points, of the rule file or of a rule in Python.
    pub gift: Gift,
    /// Its id; 0: the product's own.
    pub id: u32,
    /// Money off the list amount, or points; not 0. A rule in Python may take points away.
    pub gives: i64,
}

/// A rule that applies: how it combines, what it gives, and a bit for each line that it looks at.
type Candidate = (Rank, i64, u64);

impl Tables {
    /// The parts of the discount of a list amount, and of the points that so much money paid earns: those of the product first, then by
    /// ascending id, then those of rules in Python. Of discounts that would come to more than a line the last take off what is left of it.
    pub fn counted(&self, product: &Product, amount: i64, paid: i64, applying: &Applying, parts: &mut Vec<Part>) {
        parts.clear();
        let (own, base) = (product.off(amount), product.earned(paid));
        let whole = [amount];
        let lines = if applying.lines.is_empty() { &whole[..] } else { &applying.lines[..] };
        let mut found: Vec<Candidate> = (own > 0).then_some((Rank::PRODUCT, own, u64::MAX)).into_iter().collect();
        for (rule, of) in self.stacks.of_basket(applying, true) {
            let amount = sum_of(lines, of);
            found.extend(rule.is_reached(amount).then(|| (rule.rank(), rule.off(amount), of)));
        }
        let mut costs = lines.to_vec();
        add_counted(Gift::Discount, found, lines, Some(&mut costs), parts);
        for (rule, said) in applying.advised.each() {
            let gives = take(&mut costs, &share_out(rate_of(amount, said.off) as i64, lines, u64::MAX));
            parts.push(Part { gift: Gift::AdvisedDiscount, id: rule.into(), gives });
        }
        let of_points = parts.len();
        parts.push(Part { gift: Gift::Points, id: 0, gives: base });
        let paid_of = &share_out(paid, &costs, u64::MAX)[..costs.len()];
        let mut found = Vec::new();
        for (rule, of) in self.stacks.of_basket(applying, false) {
            let paid = sum_of(paid_of, of);
            found.extend(rule.is_reached(sum_of(lines, of)).then(|| (rule.rank(), rule.points(paid, product.earned(paid)), of)));
        }
        add_counted(Gift::Points, found, paid_of, None, parts);
        let mut points = parts[of_points..].iter().map(|part| part.gives).sum();
        for (rule, said) in applying.advised.each() {
            let gives = said.points(points) - points;
            points += gives;
            parts.push(Part { gift: Gift::AdvisedPoints, id: rule.into(), gives });
        }
        parts.retain(|part| part.gives != 0);
    }
}

/// Takes shares from what is left of each line, as far as there is something; what was taken.
fn take(left: &mut [i64], shares: &[i64]) -> i64 {
    let taken = left.iter_mut().zip(shares).map(|(left, &share)| {
        let taken = share.min(*left);
        *left -= taken;
        taken
    });
    taken.sum()
}

/// Adds what counts of these, line by line; no more than what is left of a line, which becomes less by it.
fn add_counted(gift: Gift, mut found: Vec<Candidate>, weights: &[i64], mut left: Option<&mut Vec<i64>>, parts: &mut Vec<Part>) {
    if found.is_empty() {
        return;
    }
    found.sort_unstable_by_key(|of| of.0.id);
    let shares: Vec<_> = found.iter().map(|&(_, gives, of)| share_out(gives, weights, of)).collect();
    let mut sums = vec![0; found.len()];
    for line in 0..weights.len() {
        let mut stack = Stack::default();
        let here = || found.iter().zip(&shares).enumerate().filter(|(_, (of, _))| is_of(line, of.2));
        here().for_each(|(_, (of, shares))| stack.add(of.0, shares[line]));
        for (at, (_, shares)) in here().filter(|(_, (of, _))| stack.counts(of.0)) {
            let mut share = shares[line];
            if let Some(left) = &mut left {
                share = share.min(left[line]);
                left[line] -= share;
            }
            sums[at] += share;
        }
    }
    let parts_of = found.iter().zip(sums).map(|(of, gives)| Part { gift, id: of.0.id, gives });
    parts.extend(parts_of);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::TABLES;
    use crate::rules::{Heard, Moment, Said};
    use crate::units::RATE_ONE;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = String> {
        let stacking = prop::sample::select(vec!["best", "add", "exclusive"]);
        (1..9_000i64, stacking, -1..2i16, 0..3i64, 0..4u8).prop_map(|(value, stacking, priority, least, categories)| {
            let categories: Vec<u8> = (1..=2).filter(|category| categories & category != 0).collect();
            let when = format!(r#"{{"min_spend": {}, "categories": {categories:?}}}"#, least * 4_000);
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
        fn the_parts_come_to_what_the_sale_is_priced_with(
            discounts in prop::collection::vec(rule(), 0..8), accruals in prop::collection::vec(rule(), 0..8),
            lines in prop::collection::vec((0..3u16, 0..9_000i64), 0..5), whole in 1..30_000i64, part in 0..=100i64,
            said in prop::collection::vec((0..=RATE_ONE / 2, 0..=3 * RATE_ONE), 0..3),
        ) {
            let rules = format!(
                r#""categories": [{{"id": 1, "name": "fruit"}}, {{"id": 2, "name": "fish"}}], "discounts": {}, "accruals": {}, "compounding_rate""#,
                listed(&discounts, "value"), listed(&accruals, "points")
            );
            let tables = Tables::parse(&TABLES.replacen("\"compounding_rate\"", &rules, 1)).unwrap();
            let sum: i64 = lines.iter().map(|line| line.1).sum();
            let (lines, amount) = if sum == 0 { (vec![], whole) } else { (lines, sum) };
            let moment = Moment::new(1, amount);
            let (mut applying, mut parts, mut off) = (Applying::default(), Vec::new(), Vec::new());
            tables.add_applying(&moment, lines.iter().copied(), &mut applying);
            let heard = said.into_iter().map(|(off, factor)| Heard::Said(Said { off, factor, refuses: false }));
            applying.advised.hear((1..).zip(heard));
            let product = &tables.products[0];
            let discount = tables.off(product, amount, &applying, &mut off);
            let paid = (amount - discount) * part / 100;
            tables.counted(product, amount, paid, &applying, &mut parts);
            let sum = |gifts: [Gift; 2]| parts.iter().filter(|part| gifts.contains(&part.gift)).map(|part| part.gives).sum::<i64>();
            prop_assert_eq!(sum([Gift::Discount, Gift::AdvisedDiscount]), discount);
            prop_assert_eq!(sum([Gift::Points, Gift::AdvisedPoints]), tables.earned(product, amount, paid, &applying, &off));
            prop_assert!(parts.iter().all(|part| part.gives > 0 || part.gift == Gift::AdvisedPoints && part.gives < 0));
        }
    }
}
