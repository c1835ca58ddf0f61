//! Sales that are told line by line: what is taken off each line, and what its part of the payment earns.
//!
//! A rule looks at the lines that it applies to as one: their list amounts together reach its least amount or do not, and what it gives is
//! rounded once. That is shared out over these lines by weight, down to whole units, and what is left over goes to those with the
//! largest remainders, of equal ones to the first (largest remainder: Hamilton's method). Which rules count is decided line by line.
//!
//! Invariant: what a rule gives and what its lines are given is the same to the last unit; a sale of one line is priced as one that is not
//! told line by line.

use smallvec::SmallVec;

use crate::details::ITEMS_MAX;
use crate::rules::stacking::{Applying, Rank, Stack, clamped};
use crate::rules::{Product, Tables};

/// Most lines of a sale: a bit for each.
pub(super) const LINES_MAX: usize = ITEMS_MAX;
const _: () = assert!(LINES_MAX <= u64::BITS as usize);

/// What each line is given, of as many as there are.
pub(super) type Shares = [i64; LINES_MAX];

impl Tables {
    /// What is taken off all lines, of which `own` by the product; that of each is added to `of_lines`.
    #[inline(never)]
    pub(super) fn off_lines(&self, own: i64, applying: &Applying, of_lines: &mut Vec<i64>) -> i64 {
        let lines = &applying.lines[..];
        let mut stacks = Stacked::new(lines.len());
        if own > 0 {
            stacks.add(Rank::PRODUCT, own, lines, u64::MAX);
        }
        for (rule, of) in self.stacks.of_basket(applying, true) {
            let amount = sum_of(lines, of);
            if rule.is_reached(amount) {
                stacks.add(rule.rank(), rule.off(amount), lines, of);
            }
        }
        let first = of_lines.len();
        of_lines.extend(stacks.totals().zip(lines).map(|(off, &line)| off.min(line.into()) as i64));
        if !applying.advised.is_nothing() {
            let off = of_lines[first..].iter_mut().zip(applying.advised.off_lines(lines)).zip(lines);
            off.for_each(|((off, more), &line)| *off = (*off + more).min(line));
        }
        of_lines[first..].iter().sum()
    }

    /// Points that so much money paid earns, which is shared out over what the lines cost.
    #[inline(never)]
    pub(super) fn earned_by_lines(&self, product: &Product, paid: i64, applying: &Applying, off: &[i64]) -> i64 {
        let mut costs = [0; LINES_MAX];
        for (cost, (line, off)) in costs.iter_mut().zip(applying.lines.iter().zip(off)) {
            *cost = line - off;
        }
        let costs = &costs[..applying.lines.len()];
        let paid_of = share_out(paid, costs, u64::MAX);
        let paid_of = &paid_of[..costs.len()];
        let mut stacks = Stacked::new(costs.len());
        for (rule, of) in self.stacks.of_basket(applying, false) {
            if rule.is_reached(sum_of(&applying.lines, of)) {
                let paid = sum_of(paid_of, of);
                stacks.add(rule.rank(), rule.points(paid, product.earned(paid)), paid_of, of);
            }
        }
        clamped(i128::from(product.earned(paid)) + stacks.totals().sum::<i128>())
    }
}

/// The rules that apply to each line; most baskets have no more lines than lie in place.
pub(super) struct Stacked(SmallVec<[Stack; 16]>);

impl Stacked {
    /// Inlined: it is too large to be moved.
    #[inline(always)]
    pub(super) fn new(lines: usize) -> Stacked {
        let mut stacks = SmallVec::new();
        stacks.resize(lines, Stack::default());
        Stacked(stacks)
    }

    /// Adds a rule that gives so much to some lines, by their weights.
    pub(super) fn add(&mut self, rank: Rank, gives: i64, weights: &[i64], of: u64) {
        let shares = share_out(gives, weights, of);
        for (at, stack) in self.0.iter_mut().enumerate().filter(|(at, _)| is_of(*at, of)) {
            stack.add(rank, shares[at]);
        }
    }

    /// What of that of a rule counts; None: none of its lines has it.
    pub(super) fn counted(&self, rank: Rank, gives: i64, weights: &[i64], of: u64) -> Option<i64> {
        let shares = share_out(gives, weights, of);
        let counts = self.0.iter().enumerate().filter(|(at, stack)| is_of(*at, of) && stack.counts(rank));
        counts.map(|(at, _)| shares[at]).reduce(|sum, share| sum + share)
    }

    /// What each line is given.
    pub(super) fn totals(&self) -> impl Iterator<Item = i128> {
        self.0.iter().map(Stack::total)
    }
}

#[inline]
pub(super) fn is_of(line: usize, of: u64) -> bool {
    of >> line & 1 != 0
}

pub(super) fn sum_of(amounts: &[i64], of: u64) -> i64 {
    amounts.iter().enumerate().filter(|(at, _)| is_of(*at, of)).map(|(_, amount)| amount).sum()
}

/// Shares a total out over some lines by their weights; where all of these are 0, so is the total.
pub(super) fn share_out(total: i64, weights: &[i64], of: u64) -> Shares {
    let mut shares = [0; LINES_MAX];
    let all = sum_of(weights, of);
    if total == 0 || all == 0 {
        return shares;
    }
    let mut remainders = [-1; LINES_MAX];
    let mut left = total;
    for (at, &weight) in weights.iter().enumerate().filter(|(at, _)| is_of(*at, of)) {
        (shares[at], remainders[at]) = divide(total, weight, all);
        left -= shares[at];
    }
    for _ in 0..left {
        let largest = (0..weights.len()).rev().max_by_key(|&at| remainders[at]).expect("there is a line with a remainder");
        shares[largest] += 1;
        remainders[largest] = -1;
    }
    shares
}

/// A total times a weight, over all weights: quotient and remainder. Nearly always the product fits a word.
#[inline]
fn divide(total: i64, weight: i64, all: i64) -> (i64, i64) {
    if let Some(product) = total.checked_mul(weight) {
        return (product / all, product % all);
    }
    let (product, all) = (i128::from(total) * i128::from(weight), i128::from(all));
    ((product / all) as i64, (product % all) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Moment;
    use crate::rules::tests::TABLES;
    use proptest::prelude::*;

    fn with(rules: &str) -> Tables {
        let categories = r#""categories": [{"id": 1, "name": "fruit"}, {"id": 2, "name": "fish"}]"#;
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!("{categories}, {rules}, \"compounding_rate\""), 1))
            .unwrap()
    }

    /// What applies to lines of these categories and amounts.
    fn applying(tables: &Tables, lines: &[(u16, i64)]) -> Applying {
        let moment = Moment::new(1, lines.iter().map(|line| line.1).sum()).on(20_500, 0);
        let mut applying = Applying::default();
        tables.add_applying(&moment, lines.iter().copied(), &mut applying);
        applying
    }

    /// What is off each line, and the points that all of it earns when it is paid.
    fn priced(tables: &Tables, lines: &[(u16, i64)]) -> (Vec<i64>, i64) {
        let (applying, mut of_lines) = (applying(tables, lines), Vec::new());
        let amount = lines.iter().map(|line| line.1).sum();
        let off = tables.off(&tables.products[0], amount, &applying, &mut of_lines);
        assert_eq!(off, of_lines.iter().sum::<i64>());
        let earned = tables.earned(&tables.products[0], amount, amount - off, &applying, &of_lines);
        (of_lines, earned)
    }

    #[test]
    fn the_largest_remainders_get_what_is_left_over() {
        let shared = |total, weights: &[i64]| share_out(total, weights, u64::MAX)[..weights.len()].to_vec();
        assert_eq!(shared(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(shared(29, &[99, 99, 99]), [10, 10, 9]);
        assert_eq!(shared(10, &[2, 5, 0, 9]), [1, 3, 0, 6]);
        assert_eq!(shared(i64::MAX, &[1, 0, 1]), [i64::MAX / 2 + 1, 0, i64::MAX / 2]);
        assert_eq!(shared(0, &[0, 0]), [0, 0]);
        assert_eq!(share_out(7, &[1, 100, 1], 0b101)[..3], [4, 0, 3]);
    }

    #[test]
    fn a_rule_for_a_category_takes_from_its_lines_alone() {
        // The product itself takes 5% off, and gives a point, 10,000 units, for every 1.00.
        let tables = with(
            r#""discounts": [
            {"id": 1, "name": "fish", "rate": 200000000000, "when": {"categories": [2]}},
            {"id": 2, "name": "much fruit", "value": 300, "stacking": "add", "when": {"categories": [1], "min_spend": 3000}}],
            "accruals": [{"id": 1, "name": "double fish", "factor": 2000000000000, "when": {"categories": [2]}}]"#,
        );
        // Fish 20%; of the rest 5%; fruit is not enough for the 3.00.
        assert_eq!(priced(&tables, &[(1, 1_000), (2, 2_000), (0, 1_000)]), (vec![50, 400, 50], 350_000 + 160_000));
        // Both lines of fruit share the 3.00 by what they cost: 100 and 200.
        assert_eq!(priced(&tables, &[(1, 1_000), (2, 2_000), (1, 2_000)]).0, [150, 400, 300]);
        // Nothing but its own line can be taken off.
        assert_eq!(priced(&tables, &[(1, 3_000)]).0, [450]);
    }

    #[test]
    fn an_exclusive_rule_stands_alone_on_its_lines() {
        let tables = with(
            r#""discounts": [
            {"id": 1, "name": "fish", "value": 1, "stacking": "exclusive", "when": {"categories": [2]}},
            {"id": 2, "name": "all", "rate": 100000000000, "stacking": "add"}]"#,
        );
        assert_eq!(priced(&tables, &[(1, 1_000), (2, 1_000)]).0, [150, 1]);
    }

    proptest! {
        #[test]
        fn what_is_shared_out_is_the_total(
            total in 0..i64::MAX, weights in prop::collection::vec(0..100_000_000_000_000i64, 1..LINES_MAX), of: u64,
        ) {
            let shares = share_out(total, &weights, of);
            let all: i64 = sum_of(&weights, of);
            prop_assert_eq!(shares.iter().map(|&share| i128::from(share)).sum::<i128>(), if all == 0 { 0 } else { total.into() });
            for (at, &weight) in weights.iter().enumerate().filter(|(at, _)| is_of(*at, of) && all != 0) {
                let floor = i128::from(total) * i128::from(weight) / i128::from(all);
                prop_assert!((floor..=floor + 1).contains(&shares[at].into()));
            }
        }

        #[test]
        fn one_line_is_priced_as_the_whole(amount in 1..1_000_000i64, value in 1..2_000i64, rate in 1..1_000_000_000_000u64) {
            let tables = with(&format!(
                r#""discounts": [{{"id": 1, "name": "a", "value": {value}, "stacking": "add"}}, {{"id": 2, "name": "b", "rate": {rate}}}],
                "accruals": [{{"id": 1, "name": "c", "points": {value}}}]"#
            ));
            let (off, earned) = priced(&tables, &[(1, amount)]);
            let (product, applying) = (&tables.products[0], applying(&tables, &[]));
            let whole = tables.off(product, amount, &applying, &mut Vec::new());
            prop_assert_eq!((off, earned), (vec![whole], tables.earned(product, amount, amount - whole, &applying, &[])));
        }
    }
}
