//! Fees: what one merchant pays another for a sale at its store on a card that the other issued.
//!
//! Invariant: a fee is at most what it is a share of, and of nothing there is none.

use serde::{Deserialize, Serialize};

use crate::rules::Tables;
use crate::rules::when::{Condition, Moment, When};
use crate::units::{AMOUNT_MAX, RATE_ONE, rate_of};

/// Most fees of a programme: every sale on a card of another merchant looks at all of them.
const FEES_MAX: usize = 64;

/// What a fee is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeeOf {
    /// Of what was paid, cash included.
    #[default]
    Spend,
    /// Of what points paid.
    Points,
}

/// Who pays a fee; the other is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeePayer {
    /// The merchant of the store where the card is used.
    #[default]
    Acceptor,
    /// The merchant that issued the card.
    CardMerchant,
}

/// A fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// From 1; the entry names it.
    pub id: u16,
    /// For people.
    pub name: String,
    /// What it is a share of.
    #[serde(default)]
    pub of: FeeOf,
    /// How large a share, over 10^12.
    pub rate: u64,
    /// Least of a sale.
    #[serde(default)]
    pub min: i64,
    /// Most of a sale; 0: no limit.
    #[serde(default)]
    pub max: i64,
    /// Who pays it.
    #[serde(default)]
    pub paid_by: FeePayer,
    /// Numbers of the merchants whose cards it is paid for; empty: all.
    #[serde(default)]
    pub card_merchants: Vec<u32>,
    /// When it is paid.
    #[serde(default)]
    pub when: When,
}

/// A sale on a card of another merchant, as fees look at it.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Number of the merchant that issued the card.
    pub issuer: u32,
    /// What was paid, cash included.
    pub spend: i64,
    /// Of it what points paid.
    pub points: i64,
}

impl Fee {
    /// What it comes to: rounded down, then at least its least, at most its most, and at most what it is of.
    pub fn amount(&self, foreign: &Foreign) -> i64 {
        let base = if self.of == FeeOf::Points { foreign.points } else { foreign.spend };
        let most = if self.max == 0 { base } else { base.min(self.max) };
        (rate_of(base, self.rate) as i64).max(self.min).min(most)
    }

    /// What of its conditions a sale does not meet.
    pub(super) fn missed(&self, moment: &Moment, foreign: &Foreign) -> Vec<Condition> {
        let mut missed = self.when.missed(moment);
        if !self.card_merchants.is_empty() && self.card_merchants.binary_search(&foreign.issuer).is_err() {
            missed.push(Condition::CardMerchants);
        }
        missed
    }

    fn is_ok(&self) -> bool {
        let limits = (0..=AMOUNT_MAX).contains(&self.min) && (0..=AMOUNT_MAX).contains(&self.max);
        // It does not look at lines, tiers and birthdays: a capture knows nothing of them.
        let when = &self.when;
        let looks_on = when.categories.is_empty() && when.tiers.is_empty() && when.birthday.is_none();
        self.id != 0
            && (1..=64).contains(&self.name.len())
            && (1..=RATE_ONE).contains(&self.rate)
            && limits
            && (self.max == 0 || self.min <= self.max)
            && self.card_merchants.is_sorted_by(|a, b| a < b)
            && looks_on
    }
}

impl Tables {
    /// The fees that are paid for a sale, and what each comes to; what comes to nothing is none.
    pub fn fees_for<'a>(&'a self, moment: &Moment, foreign: Foreign) -> impl Iterator<Item = (&'a Fee, i64)> {
        let paid = self.fees.iter().filter(move |fee| fee.missed(moment, &foreign).is_empty());
        paid.map(move |fee| (fee, fee.amount(&foreign))).filter(|fee| fee.1 > 0)
    }

    pub(super) fn check_fees(&self) -> Result<(), String> {
        if self.fees.len() > FEES_MAX || !self.fees.is_sorted_by(|a, b| a.id < b.id) {
            return Err(format!("tables: fees: at most {FEES_MAX} of them, by ascending id"));
        }
        match self.fees.iter().find(|fee| !fee.is_ok() || !self.is_known(&fee.when)) {
            Some(fee) => {
                Err(format!("tables: fee {}: its id, name, rate, min, max, card_merchants or `when` is out of range", fee.id))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::TABLES;

    fn with(fees: &str) -> Result<Tables, String> {
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!(r#""fees": [{fees}], "compounding_rate""#), 1))
    }

    #[test]
    fn a_fee_is_rounded_down_and_kept_within_its_limits_and_its_base() {
        let tables = with(
            r#"{"id": 1, "name": "a", "rate": 15000000000, "min": 10, "max": 500},
               {"id": 2, "name": "b", "rate": 1000000000000, "of": "points", "paid_by": "card-merchant"},
               {"id": 3, "name": "c", "rate": 1, "min": 7, "card_merchants": [8], "when": {"merchants": [2], "min_spend": 100}}"#,
        )
        .unwrap();
        let fees = |spend, points, issuer| {
            let moment = Moment::new(1, spend).at(4, 2, 0).on(20_500, 43_200);
            let fees = tables.fees_for(&moment, Foreign { issuer, spend, points });
            fees.map(|(fee, amount)| (fee.id, amount)).collect::<Vec<_>>()
        };
        assert_eq!(fees(9_999, 0, 9), [(1, 149)]);
        assert_eq!(fees(9_999, 4_000, 8), [(1, 149), (2, 4_000), (3, 7)]);
        assert_eq!(fees(99, 0, 8), [(1, 10)]);
        assert_eq!(fees(4, 4, 9), [(1, 4), (2, 4)]);
        assert_eq!(fees(1_000_000, 0, 9), [(1, 500)]);
        assert_eq!(fees(0, 0, 9), []);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for fee in [
            r#"{"id": 0, "name": "a", "rate": 1}"#,
            r#"{"id": 7, "name": "a", "rate": 0}"#,
            r#"{"id": 7, "name": "a", "rate": 1000000000001}"#,
            r#"{"id": 7, "name": "a", "rate": 1, "min": 3, "max": 2}"#,
            r#"{"id": 7, "name": "a", "rate": 1, "card_merchants": [2, 1]}"#,
            r#"{"id": 7, "name": "a", "rate": 1, "when": {"birthday": "day"}}"#,
            r#"{"id": 7, "name": "a", "rate": 1, "when": {"products": [9]}}"#,
            r#"{"id": 7, "name": "a", "rate": 1}, {"id": 7, "name": "b", "rate": 1}"#,
        ] {
            let error = with(fee).unwrap_err();
            assert!(error.contains("fee"), "{error}");
        }
    }
}
