//! Discounts and accruals of the rules, and how those that apply to one sale combine.
//!
//! An exclusive rule that applies stands alone: of several that with the highest priority, then that which gives most, then that with the
//! least id. Otherwise the best is chosen the same way among those of which only one counts, and all that add up are added to it.

use serde::{Deserialize, Serialize};

use crate::memory::prefetch;
use crate::rules::advised::Advised;
use crate::rules::decisions::{Decisions, Foreseen};
use crate::rules::when::{Hour, Moment, When};
use crate::rules::{Product, Tables};
use crate::units::{AMOUNT_MAX, RATE_ONE, rate_of};

/// Most rules of a kind.
const RULES_MAX: usize = 200_000;
/// Most that an accrual multiplies by.
const FACTOR_MAX: u64 = 100 * RATE_ONE;
/// Most points units per minor unit of money, over 10^12.
const ACCRUAL_MAX: u64 = 1_000_000 * RATE_ONE;

/// How a rule combines with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stacking {
    /// Only the best of these counts.
    #[default]
    Best,
    /// It is added to what else there is.
    Add,
    /// Where it applies nothing else does.
    Exclusive,
}

/// What a rule is called and how it combines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    pub(super) id: u32,
    priority: i16,
    stacking: Stacking,
}

impl Rank {
    /// That of the product's own discount.
    pub(super) const PRODUCT: Rank = Rank { id: 0, priority: 0, stacking: Stacking::Best };
}

/// A discount of the rules: a share of the list amount, or a fixed amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discount {
    /// From 1.
    pub id: u32,
    /// For people.
    pub name: String,
    /// Off the list amount, over 10^12; 0: `value` says it.
    #[serde(default)]
    pub rate: u64,
    /// Off every sale.
    #[serde(default)]
    pub value: i64,
    /// Most that the rate takes off; 0: no limit.
    #[serde(default)]
    pub max: i64,
    /// How it combines.
    #[serde(default)]
    pub stacking: Stacking,
    /// The highest comes first.
    #[serde(default)]
    pub priority: i16,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}

/// Points beyond those of the product: so many times as many, so many for each unit of money, or so many a sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accrual {
    /// From 1.
    pub id: u32,
    /// For people.
    pub name: String,
    /// The product's points come to so many times, over 10^12; above one, or 0.
    #[serde(default)]
    pub factor: u64,
    /// Points units per minor unit of money paid, over 10^12.
    #[serde(default)]
    pub rate: u64,
    /// Points units of a sale that is paid for.
    #[serde(default)]
    pub points: i64,
    /// Most points units that it gives; 0: no limit.
    #[serde(default)]
    pub max: i64,
    /// How it combines.
    #[serde(default)]
    pub stacking: Stacking,
    /// The highest comes first.
    #[serde(default)]
    pub priority: i16,
    /// When it applies.
    #[serde(default)]
    pub when: When,
}

/// How a rule gives by its one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Off the list amount, over 10^12.
    Share,
    /// Money off.
    Value,
    /// Times the product's points, over 10^12.
    Factor,
    /// Points units per minor unit of money paid, over 10^12.
    PerMoney,
    /// Points units.
    Points,
}

/// A rule as it is when it applies. Half a line of the cache, and never in two: those of a sale lie far apart.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Rule {
    id: u32,
    priority: i16,
    stacking: Stacking,
    way: Way,
    by: u64,
    /// Most that it gives; 0: no limit.
    max: i64,
    min_spend: i64,
}

const _: () = assert!(size_of::<Rule>() == 32);

impl Rule {
    /// What it is called and how it combines.
    #[inline]
    pub(super) fn rank(&self) -> Rank {
        Rank { id: self.id, priority: self.priority, stacking: self.stacking }
    }

    /// What a discount takes off a list amount.
    #[inline]
    pub(super) fn off(&self, amount: i64) -> i64 {
        let off = if self.way == Way::Share { rate_of(amount, self.by) } else { self.by.into() };
        up_to(self.max, off).min(amount.into()) as i64
    }

    /// The points that an accrual gives for so much paid, which earns so many by itself.
    #[inline]
    pub(super) fn points(&self, paid: i64, base: i64) -> i64 {
        let more = match self.way {
            _ if paid == 0 => 0,
            Way::Factor => rate_of(base, self.by - RATE_ONE),
            Way::PerMoney => rate_of(paid, self.by),
            _ => self.by.into(),
        };
        clamped(up_to(self.max, more))
    }

    /// True if the list amount of what it applies to is enough for it.
    #[inline]
    pub(super) fn is_reached(&self, amount: i64) -> bool {
        self.min_spend <= amount
    }
}

impl From<&Discount> for Rule {
    fn from(of: &Discount) -> Rule {
        let (way, by) = if of.rate > 0 { (Way::Share, of.rate) } else { (Way::Value, of.value.unsigned_abs()) };
        let (id, priority, stacking) = (of.id, of.priority, of.stacking);
        Rule { id, priority, stacking, way, by, max: of.max, min_spend: of.when.min_spend }
    }
}

impl From<&Accrual> for Rule {
    fn from(of: &Accrual) -> Rule {
        let (way, by) = match (of.factor, of.rate) {
            (0, 0) => (Way::Points, of.points.unsigned_abs()),
            (0, rate) => (Way::PerMoney, rate),
            (factor, _) => (Way::Factor, factor),
        };
        let (id, priority, stacking) = (of.id, of.priority, of.stacking);
        Rule { id, priority, stacking, way, by, max: of.max, min_spend: of.when.min_spend }
    }
}

/// At most so much; 0: no limit.
fn up_to(max: i64, amount: i128) -> i128 {
    if max == 0 { amount } else { amount.min(max.into()) }
}

pub(super) fn clamped(points: i128) -> i64 {
    i64::try_from(points).unwrap_or(i64::MAX)
}

/// Rules that apply, as far as they were seen.
#[derive(Clone, Copy, Default)]
pub(super) struct Stack {
    alone: Option<Candidate>,
    best: Option<Candidate>,
    added: i128,
}

/// What a rule would give, so that the greatest is the one that counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: i16,
    gives: i64,
    /// The least id comes first.
    id: std::cmp::Reverse<u32>,
}

impl Stack {
    pub(super) fn add(&mut self, rank: Rank, gives: i64) {
        let candidate = Some(Candidate { priority: rank.priority, gives, id: std::cmp::Reverse(rank.id) });
        match rank.stacking {
            Stacking::Best => self.best = self.best.max(candidate),
            Stacking::Exclusive => self.alone = self.alone.max(candidate),
            Stacking::Add => self.added += i128::from(gives),
        }
    }

    /// True if this one of them is among those that count.
    pub(super) fn counts(&self, rank: Rank) -> bool {
        let is = |candidate: Candidate| candidate.id.0 == rank.id;
        match rank.stacking {
            Stacking::Exclusive => self.alone.is_some_and(is),
            Stacking::Best => self.alone.is_none() && self.best.is_some_and(is),
            Stacking::Add => self.alone.is_none(),
        }
    }

    pub(super) fn total(&self) -> i128 {
        let gives = |candidate: Option<Candidate>| candidate.map(|candidate| i128::from(candidate.gives));
        gives(self.alone).unwrap_or_else(|| gives(self.best).unwrap_or(0) + self.added)
    }
}

/// The decision tables of a version of the rules. They follow from its discounts and accruals.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    decisions: Decisions,
    /// The discounts, then the accruals.
    rules: Vec<Rule>,
    discounts: u32,
    /// The times around a birthday that some rule asks for: a sum of [`Birthday`](crate::rules::Birthday).
    birthdays: u8,
    /// Some rule asks for the card's tier.
    by_tier: bool,
}

impl Stacks {
    /// Those of these rules; the error says what is wrong with them.
    pub(super) fn of(discounts: &[Discount], accruals: &[Accrual]) -> Result<Stacks, String> {
        let whens = discounts.iter().map(|rule| &rule.when).chain(accruals.iter().map(|rule| &rule.when));
        let decisions = Decisions::of(whens).ok_or("discounts and accruals: too many combinations of what they name")?;
        let rules = discounts.iter().map(Rule::from).chain(accruals.iter().map(Rule::from)).collect();
        let whens = discounts.iter().map(|rule| &rule.when).chain(accruals.iter().map(|rule| &rule.when));
        let by_tier = whens.clone().any(|when| !when.tiers.is_empty());
        let birthdays = whens.filter_map(|when| when.birthday).fold(0, |sum, of| sum | of as u8);
        Ok(Stacks { decisions, rules, discounts: discounts.len() as u32, birthdays, by_tier })
    }

    /// Those of some rules that apply which are of one kind.
    #[inline]
    fn of_kind<'a>(&'a self, applying: &'a [u32], discounts: bool) -> impl Iterator<Item = &'a Rule> {
        let of_kind = applying.iter().filter(move |&&number| (number < self.discounts) == discounts);
        of_kind.map(|&number| &self.rules[number as usize])
    }

    /// The same, if the list amount of the sale is enough.
    #[inline]
    fn reached<'a>(&'a self, applying: &'a [u32], discounts: bool, amount: i64) -> impl Iterator<Item = &'a Rule> {
        self.of_kind(applying, discounts).filter(move |rule| rule.is_reached(amount))
    }

    /// Those of one kind that apply to a basket, each with the lines that it applies to: a bit for each.
    #[inline]
    pub(super) fn of_basket<'a>(&'a self, applying: &'a Applying, discounts: bool) -> impl Iterator<Item = (&'a Rule, u64)> {
        let of_sale = self.of_kind(&applying.of_sale, discounts).map(|rule| (rule, u64::MAX));
        let is_of_kind = move |number: u32| (number < self.discounts) == discounts;
        let of_lines = applying.of_lines.iter().filter(move |of| is_of_kind(of.0));
        of_sale.chain(of_lines.map(|&(number, lines)| (&self.rules[number as usize], lines)))
    }
}

/// What applies to a sale: numbers of rules, in no order that means anything. Whether their least amounts are reached is not looked at yet.
#[derive(Default)]
pub struct Applying {
    /// Those that apply to all of it.
    pub(super) of_sale: Vec<u32>,
    /// Those that apply to goods of some categories, with a bit for each line that has one of them.
    pub(super) of_lines: Vec<(u32, u64)>,
    /// List amounts of its lines; none: it is not told line by line.
    pub(super) lines: Vec<i64>,
    /// What rules that are kept outside said.
    pub advised: Advised,
}

impl Applying {
    /// Nothing applies.
    #[inline]
    pub fn clear(&mut self) {
        self.of_sale.clear();
        self.of_lines.clear();
        self.lines.clear();
        self.advised.clear();
    }

    /// True if nothing was found, and there is nothing to be shared out.
    #[inline]
    fn is_of_product_alone(&self) -> bool {
        self.of_sale.is_empty() & self.lines.is_empty() & self.advised.is_nothing()
    }

    /// Adds the rules that apply to a sale that was foreseen under this number, and its lines; those that have a category follow it.
    pub fn add_foreseen(&mut self, foreseen: &Foreseen, number: usize, lines: impl Iterator<Item = (u16, i64)>) {
        self.of_sale.extend_from_slice(foreseen.rules(number));
        let mut next = number;
        for (at, (category, amount)) in lines.enumerate() {
            self.lines.push(amount);
            if category != 0 {
                next += 1;
                foreseen.rules(next).iter().for_each(|&number| self.add_to_line(number, at));
            }
        }
    }

    fn add_to_line(&mut self, number: u32, line: usize) {
        match self.of_lines.iter_mut().find(|of| of.0 == number) {
            Some((_, lines)) => *lines |= 1 << line,
            None => self.of_lines.push((number, 1 << line)),
        }
    }
}

impl Tables {
    /// True if there are rules that look at more of a sale than its product and its amount.
    #[inline]
    pub fn look_at_sales(&self) -> bool {
        !self.stacks.decisions.is_empty()
    }

    /// True if some rule asks for the card's tier.
    #[inline]
    pub fn look_at_tiers(&self) -> bool {
        self.stacks.by_tier
    }

    /// The times around a holder's birthday that rules ask for: a sum of [`Birthday`](crate::rules::Birthday).
    #[inline]
    pub fn birthdays(&self) -> u8 {
        self.stacks.birthdays
    }

    /// Looks up ahead which rules apply to what was asked for, and asks for their memory.
    pub fn foresee(&self, foreseen: &mut Foreseen) {
        self.stacks.decisions.foresee(foreseen, |number| prefetch(&self.stacks.rules[number as usize]));
    }

    /// Adds the rules that apply to a sale as a whole, and its lines - category, 0: none, and list amount - with those that apply to goods of
    /// their categories.
    pub fn add_applying(&self, moment: &Moment, lines: impl Iterator<Item = (u16, i64)>, applying: &mut Applying) {
        let (decisions, hour) = (&self.stacks.decisions, Hour::of(moment));
        decisions.each(moment, &hour, |number| applying.of_sale.push(number));
        for (at, (category, amount)) in lines.enumerate() {
            applying.lines.push(amount);
            if category != 0 && decisions.look_at_lines() {
                decisions.each(&moment.with(category), &hour, |number| applying.add_to_line(number, at));
            }
        }
    }

    /// What is taken off a list amount: by the product itself, and by the discounts that apply. Of a sale that is told line by line it is told
    /// for each line, too.
    #[inline]
    pub fn off(&self, product: &Product, amount: i64, applying: &Applying, of_lines: &mut Vec<i64>) -> i64 {
        let own = product.off(amount);
        if applying.is_of_product_alone() {
            return own;
        }
        if applying.lines.is_empty() { self.off_by_rules(own, amount, applying) } else { self.off_lines(own, applying, of_lines) }
    }

    #[inline(never)]
    fn off_by_rules(&self, own: i64, amount: i64, applying: &Applying) -> i64 {
        let mut stack = Stack::default();
        if own > 0 {
            stack.add(Rank::PRODUCT, own);
        }
        self.stacks.reached(&applying.of_sale, true, amount).for_each(|rule| stack.add(rule.rank(), rule.off(amount)));
        (stack.total() + applying.advised.off(amount)).min(amount.into()) as i64
    }

    /// Points that so much money paid earns of a list amount: the product's, and what accruals that apply give beyond them; 2^63 - 1: that, or
    /// more. `off` is what was taken off each line.
    #[inline]
    pub fn earned(&self, product: &Product, amount: i64, paid: i64, applying: &Applying, off: &[i64]) -> i64 {
        let base = product.earned(paid);
        if applying.is_of_product_alone() {
            return base;
        }
        applying.advised.points(match applying.lines.is_empty() {
            true => self.earned_by_rules(base, amount, paid, &applying.of_sale),
            false => self.earned_by_lines(product, paid, applying, off),
        })
    }

    #[inline(never)]
    fn earned_by_rules(&self, base: i64, amount: i64, paid: i64, applying: &[u32]) -> i64 {
        let mut stack = Stack::default();
        self.stacks.reached(applying, false, amount).for_each(|rule| stack.add(rule.rank(), rule.points(paid, base)));
        clamped(i128::from(base) + stack.total())
    }
}

impl Product {
    /// What it takes off a list amount by itself.
    #[inline]
    pub(super) fn off(&self, amount: i64) -> i64 {
        rate_of(amount, self.discount) as i64
    }

    /// Points that so much money paid earns by itself; 2^63 - 1: that, or more.
    #[inline]
    pub(super) fn earned(&self, paid: i64) -> i64 {
        clamped(rate_of(paid, self.accrual))
    }
}

impl Tables {
    pub(super) fn check_stacks(&self) -> Result<(), String> {
        let sizes_ok = self.discounts.len() <= RULES_MAX && self.accruals.len() <= RULES_MAX;
        let ascend = self.discounts.is_sorted_by(|a, b| a.id < b.id) && self.accruals.is_sorted_by(|a, b| a.id < b.id);
        if !sizes_ok || !ascend {
            return Err(format!("tables: discounts and accruals: at most {RULES_MAX} of each, by ascending id"));
        }
        for rule in &self.discounts {
            let amounts_ok = (0..=AMOUNT_MAX).contains(&rule.value) && (0..=AMOUNT_MAX).contains(&rule.max);
            let gives =
                (rule.value > 0) != (rule.rate > 0) && rule.rate <= RATE_ONE && (rule.rate > 0 || rule.max == 0) && amounts_ok;
            if rule.id == 0 || !is_named(&rule.name) || !gives || !self.is_known(&rule.when) {
                return Err(format!("tables: discount {}: its id, name, rate, value, max or `when` is out of range", rule.id));
            }
        }
        for rule in &self.accruals {
            let kinds = [rule.factor > 0, rule.rate > 0, rule.points > 0].iter().filter(|&&is| is).count();
            let factor_ok = rule.factor == 0 || (RATE_ONE + 1..=FACTOR_MAX).contains(&rule.factor);
            let amounts_ok = (0..=AMOUNT_MAX).contains(&rule.points) && (0..=AMOUNT_MAX).contains(&rule.max);
            let gives = kinds == 1 && factor_ok && rule.rate <= ACCRUAL_MAX && amounts_ok;
            if rule.id == 0 || !is_named(&rule.name) || !gives || !self.is_known(&rule.when) {
                return Err(format!(
                    "tables: accrual {}: its id, name, factor, rate, points, max or `when` is out of range",
                    rule.id
                ));
            }
        }
        Ok(())
    }

    /// Conditions are in range, and name products, categories, regions and tiers that there are.
    pub(super) fn is_known(&self, when: &When) -> bool {
        when.is_ok()
            && when.products.iter().all(|&product| self.product(product).is_some())
            && when.categories.iter().all(|of| self.categories.binary_search_by_key(of, |category| category.id).is_ok())
            && when.regions.iter().all(|&region| usize::from(region) <= self.regions.len() && region != 0)
            && when.tiers.iter().all(|&tier| self.has_tier(tier))
    }
}

fn is_named(name: &str) -> bool {
    (1..=64).contains(&name.len())
}

#[cfg(test)]
mod tests {
    use super::Applying;
    use crate::rules::tests::TABLES;
    use crate::rules::{Moment, Tables};

    fn with(rules: &str) -> Result<Tables, String> {
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!("{rules}, \"compounding_rate\""), 1))
    }

    fn applying(tables: &Tables, store: u32) -> Applying {
        let mut applying = Applying::default();
        tables.add_applying(&Moment::new(1, 10_000).at(store, 1, 0).on(20_500, 0), std::iter::empty(), &mut applying);
        applying
    }

    /// What is off 100.00 at a store.
    fn off(tables: &Tables, store: u32) -> i64 {
        tables.off(&tables.products[0], 10_000, &applying(tables, store), &mut Vec::new())
    }

    #[test]
    fn the_best_counts_and_what_adds_up_is_added() {
        // The product itself takes 5% off.
        let rules = r#""discounts": [
            {"id": 1, "name": "three", "value": 300, "when": {"stores": [1, 2]}},
            {"id": 2, "name": "eight", "rate": 80000000000, "when": {"stores": [2]}},
            {"id": 3, "name": "one more", "value": 100, "stacking": "add", "when": {"stores": [2, 3]}},
            {"id": 4, "name": "two more", "rate": 500000000000, "max": 200, "stacking": "add", "when": {"stores": [2]}},
            {"id": 5, "name": "alone", "value": 1, "stacking": "exclusive", "when": {"stores": [4]}},
            {"id": 6, "name": "before", "value": 7, "priority": 1, "when": {"stores": [5]}},
            {"id": 7, "name": "all", "value": 99999, "when": {"stores": [6]}}]"#;
        let tables = with(rules).unwrap();
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(|store| off(&tables, store)), [500, 1_100, 600, 1, 7, 10_000, 500]);
    }

    #[test]
    fn a_least_amount_is_reached_or_not() {
        for (least, expected) in [(10_000, 700), (10_001, 500)] {
            let rules = format!(r#""discounts": [{{"id": 1, "name": "a", "value": 700, "when": {{"min_spend": {least}}}}}]"#);
            assert_eq!(off(&with(&rules).unwrap(), 1), expected);
        }
    }

    #[test]
    fn of_exclusive_ones_the_highest_priority_then_the_greatest_counts() {
        let rules = r#""discounts": [
            {"id": 1, "name": "a", "value": 900, "stacking": "exclusive", "when": {"stores": [1, 2]}},
            {"id": 2, "name": "b", "value": 100, "stacking": "exclusive", "priority": 1, "when": {"stores": [2]}},
            {"id": 3, "name": "c", "value": 950, "stacking": "exclusive", "when": {"stores": [1]}},
            {"id": 4, "name": "d", "value": 5000, "stacking": "add"}]"#;
        let tables = with(rules).unwrap();
        assert_eq!([1, 2, 3].map(|store| off(&tables, store)), [950, 100, 5_500]);
    }

    #[test]
    fn accruals_give_beyond_the_product() {
        // The product itself gives a point, 10,000 units, for every 1.00.
        let rules = r#""accruals": [
            {"id": 1, "name": "double", "factor": 2000000000000, "when": {"stores": [1, 2, 5]}},
            {"id": 2, "name": "half", "rate": 50000000000000, "when": {"stores": [2]}},
            {"id": 3, "name": "ten", "points": 100000, "stacking": "add", "when": {"stores": [2, 3]}},
            {"id": 4, "name": "capped", "factor": 100000000000000, "max": 30000, "when": {"stores": [4]}},
            {"id": 5, "name": "alone", "points": 1, "stacking": "exclusive", "when": {"stores": [5]}}]"#;
        let tables = with(rules).unwrap();
        let earned = |store, paid| tables.earned(&tables.products[0], 10_000, paid, &applying(&tables, store), &[]);
        assert_eq!([1, 2, 3, 4, 5, 6].map(|store| earned(store, 2_000)), [400_000, 500_000, 300_000, 230_000, 200_001, 200_000]);
        assert_eq!(earned(3, 0), 0, "nothing was paid for");
    }

    #[test]
    fn rules_out_of_range_are_named() {
        for (rules, word) in [
            (r#""discounts": [{"id": 0, "name": "a", "value": 1}]"#, "discount 0"),
            (r#""discounts": [{"id": 9, "name": "a"}]"#, "discount 9"),
            (r#""discounts": [{"id": 9, "name": "a", "value": 1, "rate": 1}]"#, "discount 9"),
            (r#""discounts": [{"id": 9, "name": "a", "rate": 1000000000001}]"#, "discount 9"),
            (r#""discounts": [{"id": 9, "name": "a", "value": 5, "max": 2}]"#, "discount 9"),
            (r#""discounts": [{"id": 9, "name": "a", "value": 1, "when": {"products": [2]}}]"#, "discount 9"),
            (r#""discounts": [{"id": 2, "name": "a", "value": 1}, {"id": 1, "name": "b", "value": 1}]"#, "ascending"),
            (r#""accruals": [{"id": 9, "name": "a", "factor": 1000000000000}]"#, "accrual 9"),
            (r#""accruals": [{"id": 9, "name": "a", "points": 1, "when": {"weekdays": 128}}]"#, "accrual 9"),
        ] {
            let error = with(rules).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
