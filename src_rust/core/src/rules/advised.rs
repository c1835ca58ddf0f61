//! Rules that are functions kept outside: how a version of the rules names them, and what they say does to a price.
//!
//! What one says of a sale is an input of pricing. Its discount comes on top of what the other rules come to together, its factor multiplies the
//! points that a sale earns. Those of several rules follow each other in the order of their ids; each is rounded down.

use serde::{Deserialize, Serialize};

use crate::rules::basket::{LINES_MAX, Shares, share_out};
use crate::rules::stacking::clamped;
use crate::rules::{Fate, Gift, Tables, Verdict};
use crate::units::{RATE_ONE, rate_of};

/// Most of them in a version of the rules.
const RULES_MAX: usize = 16;
/// Most that a sale's points are multiplied by, over 10^12.
pub const FACTOR_MAX: u64 = 100 * RATE_ONE;

/// A function that is asked about every sale: its name and its version say which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonRule {
    /// From 1.
    pub id: u16,
    /// For people, and to find it.
    pub name: String,
    /// Which one of those of this name.
    pub version: String,
    /// Without what it says nothing is sold.
    #[serde(default)]
    pub required: bool,
}

/// What such a rule says of one sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Off the list amount, over 10^12.
    pub off: u64,
    /// The points come to so many times, over 10^12.
    pub factor: u64,
    /// It is not to be sold.
    pub refuses: bool,
}

impl Said {
    /// Nothing is changed.
    pub const NOTHING: Said = Said { off: 0, factor: RATE_ONE, refuses: false };

    /// What it makes of the points that a sale earns.
    #[inline]
    pub(super) fn points(&self, earned: i64) -> i64 {
        clamped(rate_of(earned, self.factor))
    }

    /// True if it is within what can be said.
    pub fn is_ok(&self) -> bool {
        self.off <= RATE_ONE && self.factor <= FACTOR_MAX
    }
}

/// What became of asking a rule about a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It said this.
    Said(Said),
    /// It is not there, broke, or said what cannot be.
    Failed,
    /// It did not answer in its time.
    TimedOut,
}

impl Heard {
    /// How parts of an answer tell it: 0 said, 1 refuses, 2 failed, 3 timed out.
    pub fn number(self) -> i64 {
        match self {
            Heard::Said(said) => said.refuses.into(),
            Heard::Failed => 2,
            Heard::TimedOut => 3,
        }
    }

    /// What it changes.
    #[inline]
    pub fn said(self) -> Said {
        if let Heard::Said(said) = self { said } else { Said::NOTHING }
    }
}

/// What all of them said of a sale, each with its id, in the order of these.
#[derive(Debug, Default)]
pub struct Advised(Vec<(u16, Said)>);

impl Advised {
    #[inline]
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[inline]
    pub(super) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what was heard of some, each by its id.
    #[inline]
    pub fn hear(&mut self, heard: impl Iterator<Item = (u16, Heard)>) {
        self.0.extend(heard.map(|(rule, heard)| (rule, heard.said())));
    }

    /// What each said.
    pub(super) fn each(&self) -> impl Iterator<Item = (u16, Said)> {
        self.0.iter().copied()
    }

    /// What they take off a list amount together; it may be more than that.
    pub(super) fn off(&self, amount: i64) -> i128 {
        self.each().map(|(_, said)| rate_of(amount, said.off)).sum()
    }

    /// What they take off each line together, likewise; each shares out what it takes.
    pub(super) fn off_lines(&self, lines: &[i64]) -> Shares {
        let (amount, mut off) = (lines.iter().sum(), [0; LINES_MAX]);
        for (_, said) in self.each() {
            let shares = share_out(rate_of(amount, said.off) as i64, lines, u64::MAX);
            off.iter_mut().zip(shares).for_each(|(off, share)| *off += share);
        }
        off
    }

    /// What they make of the points that a sale earns.
    #[inline]
    pub(super) fn points(&self, earned: i64) -> i64 {
        self.each().fold(earned, |points, (_, said)| said.points(points))
    }
}

impl Tables {
    /// What became of them in a sale which earned so many points without them. Those that are not heard of said nothing.
    pub fn explain_advice(&self, amount: i64, earned: i64, heard: impl Fn(u16) -> Option<Heard>) -> Vec<Verdict> {
        let (mut verdicts, mut points) = (Vec::new(), earned);
        for rule in &self.python_rules {
            let heard = heard(rule.id).unwrap_or(Heard::Said(Said::NOTHING));
            let said = heard.said();
            let fate = match heard {
                Heard::Said(Said { refuses: true, .. }) => Fate::Refuses,
                Heard::Said(_) => Fate::Counts,
                Heard::Failed => Fate::Failed,
                Heard::TimedOut => Fate::TimedOut,
            };
            let verdict = |gift, gives| Verdict { gift, id: rule.id.into(), gives, fate };
            if said.off != 0 || said.factor == RATE_ONE {
                verdicts.push(verdict(Gift::AdvisedDiscount, rate_of(amount, said.off) as i64));
            }
            if said.factor != RATE_ONE {
                let after = said.points(points);
                verdicts.push(verdict(Gift::AdvisedPoints, after - points));
                points = after;
            }
        }
        verdicts
    }

    /// A rule of these by its id.
    pub fn python_rule(&self, id: u16) -> Option<&PythonRule> {
        self.python_rules.binary_search_by_key(&id, |rule| rule.id).ok().map(|at| &self.python_rules[at])
    }

    pub(super) fn check_python_rules(&self) -> Result<(), String> {
        let rules = &self.python_rules;
        let named = |text: &str| (1..=64).contains(&text.len());
        let rising = rules.is_sorted_by(|a, b| a.id < b.id) && rules.first().is_none_or(|rule| rule.id > 0);
        if !rising || rules.len() > RULES_MAX || !rules.iter().all(|rule| named(&rule.name) && named(&rule.version)) {
            return Err(format!(
                "tables: python_rules: at most {RULES_MAX}, by ascending id from 1 on, each with a name and a version"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::TABLES;
    use crate::rules::{Applying, Moment, Told};
    use proptest::prelude::*;

    fn with(rules: &str) -> Tables {
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!("{rules}, \"compounding_rate\""), 1)).unwrap()
    }

    fn applying(tables: &Tables, lines: &[i64], said: &[Said]) -> Applying {
        let mut applying = Applying::default();
        let moment = Moment::new(1, 10_000).on(20_500, 0);
        tables.add_applying(&moment, lines.iter().map(|&amount| (0, amount)), &mut applying);
        applying.advised.hear((1..).zip(said.iter().map(|&said| Heard::Said(said))));
        applying
    }

    #[test]
    fn a_price_by_hand() {
        // The product takes 5% off, an exclusive rule 3.00 in its place; a tenth more is 10.00. 100 points a unit of money, half as much again.
        let tables = with(r#""discounts": [{"id": 1, "name": "three", "value": 300, "stacking": "exclusive"}]"#);
        let said = Said { off: RATE_ONE / 10, factor: RATE_ONE * 3 / 2, refuses: false };
        let (product, mut lines) = (&tables.products[0], Vec::new());
        let of_sale = applying(&tables, &[], &[said]);
        assert_eq!(tables.off(product, 10_000, &of_sale, &mut lines), 1_300);
        assert_eq!(tables.earned(product, 10_000, 8_700, &of_sale, &[]), 870_000 * 3 / 2);
        let of_lines = applying(&tables, &[9_999, 1], &[said, said]);
        assert_eq!(tables.off(product, 10_000, &of_lines, &mut lines), 2_300);
        assert_eq!(lines, [2_300, 0]);
        let all = applying(&tables, &[], &[Said { off: RATE_ONE, factor: 0, refuses: false }]);
        assert_eq!((tables.off(product, 10_000, &all, &mut lines), tables.earned(product, 10_000, 100, &all, &[])), (10_000, 0));
    }

    #[test]
    fn wrong_tables_are_named() {
        for wrong in [
            r#"[{"id": 0, "name": "a", "version": "1"}]"#,
            r#"[{"id": 1, "name": "", "version": "1"}]"#,
            r#"[{"id": 1, "name": "a", "version": ""}]"#,
            r#"[{"id": 2, "name": "a", "version": "1"}, {"id": 2, "name": "b", "version": "1"}]"#,
        ] {
            let json = TABLES.replacen("\"compounding_rate\"", &format!("\"python_rules\": {wrong}, \"compounding_rate\""), 1);
            assert!(Tables::parse(&json).unwrap_err().contains("python_rules"));
        }
    }

    fn said() -> impl Strategy<Value = Said> {
        (0..=RATE_ONE / 4, 0..=3 * RATE_ONE).prop_map(|(off, factor)| Said { off, factor, refuses: false })
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_was_priced(said in prop::collection::vec(said(), 0..4), lines in prop::collection::vec(0..5_000i64, 0..6)) {
            let rules: Vec<String> = (1..=4).map(|id| format!(r#"{{"id": {id}, "name": "a", "version": "1"}}"#)).collect();
            let tables = with(&format!(r#""python_rules": [{}]"#, rules.join(", ")));
            let amount = if lines.is_empty() { 10_000 } else { lines.iter().sum() };
            let applying = applying(&tables, &lines, &said);
            let (product, mut of_lines) = (&tables.products[0], Vec::new());
            let off = tables.off(product, amount, &applying, &mut of_lines);
            prop_assert!(lines.iter().zip(&of_lines).all(|(amount, off)| off <= amount));
            let points = tables.earned(product, amount, amount - off, &applying, &of_lines);
            let heard = |id: u16| said.get(usize::from(id) - 1).map(|&said| Heard::Said(said));
            let told = Told { moment: Moment::new(1, amount).on(20_500, 0), lines: &[], paid: amount - off, rebated: 0, foreign: None, advised: &applying.advised };
            let mut verdicts = tables.explain(product, &told);
            verdicts.extend(tables.explain_advice(amount, tables.earned(product, amount, amount - off, &Applying::default(), &[]), heard));
            let sum = |gifts: [Gift; 2]| -> i64 { verdicts.iter().filter(|of| gifts.contains(&of.gift)).map(|of| of.gives).sum() };
            prop_assert!(sum([Gift::Discount, Gift::AdvisedDiscount]) >= off);
            prop_assert!(!lines.is_empty() || sum([Gift::Discount, Gift::AdvisedDiscount]).min(amount) == off);
            prop_assert_eq!(sum([Gift::Points, Gift::AdvisedPoints]), points);
        }
    }
}
