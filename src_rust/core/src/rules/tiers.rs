//! Tiers of cards and the growth value that earns them.
//!
//! Growth value is a unit of the rules that counts what was spent and is never spent itself. It lies in dated lots, so that a card's growth value is
//! that of its qualification window. A tier that is reached is there at once, and stays until its review.

use serde::{Deserialize, Serialize};

use crate::rules::units::days_ok;
use crate::rules::{Rounding, Tables, UnitKind};
use crate::units::{PURSE_MAX, RATE_ONE, rate_of};

/// Most tiers: a number of five bits.
const TIERS_MAX: u8 = 31;
/// Most growth value per minor unit of money, over 10^12.
const RATE_MAX: u64 = 10_000 * RATE_ONE;

/// A tier that a card may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// From 1 to 31.
    pub id: u8,
    /// For people.
    pub name: String,
    /// Growth value that reaches it.
    pub from: i64,
}

/// How growth value is earned, and how long it and the tiers last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrowthValue {
    /// The unit that counts it.
    pub unit: u16,
    /// Per minor unit of money paid from principal and bonus and in cash, over 10^12.
    #[serde(default)]
    pub rate: u64,
    /// Days that it counts; the first is that on which it is earned.
    pub days: u32,
    /// And to the end of which day, month or year.
    #[serde(default)]
    pub round: Rounding,
    /// Days after which a tier is reviewed; the first is that on which it is reached.
    pub tier_days: u32,
    /// And to the end of which day, month or year.
    #[serde(default)]
    pub tier_round: Rounding,
}

impl GrowthValue {
    /// What so much money paid earns.
    #[inline]
    pub fn earned(&self, paid: i64) -> i64 {
        // At most 10^14 x 10^4.
        rate_of(paid, self.rate) as i64
    }

    /// Last date on which what is earned today counts.
    #[inline]
    pub fn counts_until(&self, today: i32) -> i32 {
        self.round.expires(today, self.days)
    }

    /// Last date of a tier that is reached, or kept, today: it is reviewed at the close of it.
    #[inline]
    pub fn lasts_until(&self, today: i32) -> i32 {
        self.tier_round.expires(today, self.tier_days)
    }
}

impl Tables {
    /// The highest tier that a growth value reaches; 0: none.
    pub fn reached(&self, growth: i64) -> u8 {
        self.tiers.iter().rev().find(|tier| tier.from <= growth).map_or(0, |tier| tier.id)
    }

    /// True if there is a tier with this id.
    pub fn has_tier(&self, id: u8) -> bool {
        self.tiers.binary_search_by_key(&id, |tier| tier.id).is_ok()
    }

    /// True if purchases earn growth value.
    #[inline]
    pub fn gives_growth(&self) -> bool {
        self.growth_value.as_ref().is_some_and(|growth| growth.rate > 0)
    }

    /// True if a unit counts growth value: nothing is owed of it, and it is never spent.
    #[inline]
    pub fn is_growth(&self, unit: u16) -> bool {
        self.unit(unit).is_some_and(|unit| unit.kind == UnitKind::Growth)
    }

    pub(super) fn check_tiers(&self) -> Result<(), String> {
        let rising = self.tiers.is_sorted_by(|a, b| a.id < b.id && a.from < b.from);
        let named = |name: &str| (1..=64).contains(&name.len());
        let tier_ok =
            |tier: &Tier| (1..=TIERS_MAX).contains(&tier.id) && named(&tier.name) && (0..=PURSE_MAX).contains(&tier.from);
        if !rising || !self.tiers.iter().all(tier_ok) {
            return Err("tables: tiers: ids of 1 to 31 and growth values, both ascending, each with a name".into());
        }
        let Some(growth) = &self.growth_value else { return Ok(()) };
        let days = growth.days != 0 && growth.tier_days != 0 && days_ok(growth.days) && days_ok(growth.tier_days);
        if growth.rate > RATE_MAX || !days || !self.is_growth(growth.unit) {
            return Err("tables: growth_value: its unit is not of the kind growth, or its rate or days are out of range".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::Tables;
    use crate::rules::tests::TABLES;

    pub(super) const GROWTH: &str = r#""units": [{"id": 16, "name": "growth", "kind": "growth"}],
        "growth_value": {"unit": 16, "rate": 10000000000, "days": 365, "tier_days": 365}"#;

    fn with(rules: &str) -> Result<Tables, String> {
        Tables::parse(&TABLES.replacen("\"compounding_rate\"", &format!("{rules}, \"compounding_rate\""), 1))
    }

    #[test]
    fn the_highest_tier_that_is_reached_counts() {
        let tiers = r#""tiers": [{"id": 2, "name": "a", "from": 10}, {"id": 5, "name": "b", "from": 20}]"#;
        let tables = with(&format!("{tiers}, {GROWTH}")).unwrap();
        assert_eq!([0, 9, 10, 19, 20, 1_000].map(|growth| tables.reached(growth)), [0, 0, 2, 2, 5, 5]);
        // 1 for every 1.00.
        assert_eq!([99, 100, 12_345].map(|paid| tables.growth_value.as_ref().unwrap().earned(paid)), [0, 1, 123]);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (rules, word) in [
            (r#""tiers": [{"id": 32, "name": "a", "from": 0}]"#.into(), "tiers"),
            (r#""tiers": [{"id": 1, "name": "a", "from": 5}, {"id": 2, "name": "b", "from": 5}]"#.into(), "tiers"),
            (GROWTH.replace("\"unit\": 16", "\"unit\": 17"), "growth_value"),
            (GROWTH.replace("\"kind\": \"growth\"", "\"kind\": \"value\""), "growth_value"),
            (GROWTH.replace("\"tier_days\": 365", "\"tier_days\": 0"), "growth_value"),
        ] {
            let error = with(&rules).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
