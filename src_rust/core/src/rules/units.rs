//! Units that the business defines - visits, times, coupons, values - and the bundles in which they are granted or sold.

use serde::{Deserialize, Serialize};

use crate::calendar::{first_of_next_month, first_of_next_year, is_date};
use crate::units::{AMOUNT_MAX, RATE_ONE, UNIT_MIN, rate_of};

/// Most stores that a unit names.
const STORES_MAX: usize = 10_000;
/// Most days that something is valid for: 100 years.
const DAYS_MAX: u32 = 36_525;

/// What a unit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // docs/card.md has the table
pub enum UnitKind {
    Visits,
    Time,
    Coupon,
    Value,
    Growth,
}

/// Who bears what a coupon takes off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Funder {
    /// The issuer pays the store for it.
    #[default]
    Issuer,
    /// The store sells for less.
    Store,
}

/// A unit of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRule {
    /// From [`UNIT_MIN`] on.
    pub id: u16,
    /// For people.
    pub name: String,
    /// What it counts.
    pub kind: UnitKind,
    /// Most that a visit or a use pays.
    #[serde(default)]
    pub worth: i64,
    /// What a coupon takes off; 0: `rate` says it.
    #[serde(default)]
    pub value: i64,
    /// Share of the list amount that a coupon takes off, over 10^12.
    #[serde(default)]
    pub rate: u64,
    /// Most that it takes off; 0: no limit.
    #[serde(default)]
    pub max: i64,
    /// Least list amount of a purchase with it.
    #[serde(default)]
    pub min_spend: i64,
    /// Who bears it.
    #[serde(default)]
    pub funded: Funder,
    /// Numbers of the stores that take it, ascending; empty: all.
    #[serde(default)]
    pub stores: Vec<u32>,
    /// Most of it in one purchase; 0: no limit.
    #[serde(default)]
    pub per_purchase: u32,
}

impl UnitRule {
    pub(super) fn check(&self) -> Result<(), String> {
        let named = !self.name.is_empty() && self.name.len() <= 64;
        let amounts = [self.worth, self.value, self.max, self.min_spend].iter().all(|amount| (0..=AMOUNT_MAX).contains(amount));
        let stores = self.stores.len() <= STORES_MAX && self.stores.is_sorted_by(|a, b| a < b);
        let of_kind = match self.kind {
            UnitKind::Coupon => self.worth == 0 && (self.value > 0) != (self.rate > 0) && self.rate <= RATE_ONE,
            UnitKind::Visits | UnitKind::Time => (self.value, self.rate, self.max) == (0, 0, 0) && self.funded == Funder::Issuer,
            UnitKind::Value | UnitKind::Growth => {
                (self.worth, self.value, self.rate, self.max, self.min_spend) == (0, 0, 0, 0, 0) && self.funded == Funder::Issuer
            }
        };
        if self.id < UNIT_MIN || !named || !amounts || !stores || !of_kind {
            return Err(format!("unit {}: its id, its name or what its kind of unit says is out of range", self.id));
        }
        Ok(())
    }

    /// True if this store takes it.
    pub fn is_taken_by(&self, store: u32) -> bool {
        self.stores.is_empty() || self.stores.binary_search(&store).is_ok()
    }

    /// What one coupon takes off a purchase of this list amount.
    pub fn takes_off(&self, amount: i64) -> i64 {
        let off = if self.value > 0 { self.value } else { rate_of(amount, self.rate) as i64 };
        if self.max > 0 { off.min(self.max) } else { off }
    }
}

/// Part of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantLine {
    /// 2, 3, or a unit of the rules.
    pub unit: u16,
    /// Smallest units.
    pub amount: i64,
    /// Valid from so many days after it is granted.
    #[serde(default)]
    pub from: u32,
    /// For so many days; 0: for ever.
    #[serde(default)]
    pub days: u32,
    /// Until this date at the latest; 0: none.
    #[serde(default)]
    pub until: i32,
}

impl GrantLine {
    /// First and last valid date of what is granted on this date; 0: at once, and never.
    pub fn dates(&self, today: i32) -> (i32, i32) {
        let begins = if self.from == 0 { 0 } else { today + self.from as i32 };
        let by_days = if self.days == 0 { 0 } else { begins.max(today) + self.days as i32 - 1 };
        let expires = match (by_days, self.until) {
            (0, until) => until,
            (days, 0) => days,
            (days, until) => days.min(until),
        };
        (begins, expires)
    }

    /// True if what is granted on this date would be valid on no day.
    fn is_over(&self, today: i32) -> bool {
        let (begins, expires) = self.dates(today);
        expires != 0 && expires < today.max(begins)
    }
}

/// What is granted, or sold, together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// From 1.
    pub id: u16,
    /// For people.
    pub name: String,
    /// What it costs.
    #[serde(default)]
    pub price: i64,
    /// What it costs in points besides, points units.
    #[serde(default)]
    pub points: i64,
    /// How many there are in all, ever, for all cards; 0: no limit.
    #[serde(default)]
    pub stock: u32,
    /// What the issuer pays the store that hands it over: it is a gift of goods.
    #[serde(default)]
    pub worth: i64,
    /// Most of it that a card gets, ever; 0: no limit.
    #[serde(default)]
    pub per_card: u32,
    /// Most of it that all cards of a member get; 0: no limit.
    #[serde(default)]
    pub per_member: u32,
    /// What is in it; of goods there may be nothing.
    #[serde(default)]
    pub grants: Vec<GrantLine>,
}

impl Bundle {
    /// True if something of it would be valid on no day.
    pub fn is_over(&self, today: i32) -> bool {
        self.grants.iter().any(|line| line.is_over(today))
    }

    pub(super) fn check(&self, units: &[UnitRule]) -> Result<(), String> {
        let named = !self.name.is_empty() && self.name.len() <= 64;
        let prices = [self.price, self.points, self.worth].iter().all(|amount| (0..=AMOUNT_MAX).contains(amount));
        let least = usize::from(self.worth == 0);
        if self.id == 0 || !named || !prices || !(least..=16).contains(&self.grants.len()) {
            return Err(format!(
                "bundle {}: its id, name, price, points or worth is out of range, or it has not 1 to 16 grants (with a worth: 0 to 16)",
                self.id
            ));
        }
        for line in &self.grants {
            let known = matches!(line.unit, 2 | 3) || units.binary_search_by_key(&line.unit, |unit| unit.id).is_ok();
            let (amount, days) = ((1..=AMOUNT_MAX).contains(&line.amount), line.from <= DAYS_MAX && line.days <= DAYS_MAX);
            if !known || !amount || !days || line.until != 0 && !is_date(line.until) {
                return Err(format!(
                    "bundle {}: unit {}: it is unknown, or its amount or days are out of range",
                    self.id, line.unit
                ));
            }
        }
        Ok(())
    }
}

/// Who takes in the money of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collector {
    /// The store, which owes it to the issuer.
    #[default]
    Store,
    /// The issuer itself: online, by bank transfer.
    Issuer,
}

/// A way that requests come by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// As requests name it.
    pub id: u8,
    /// For people.
    pub name: String,
    /// Who takes in the money of top-ups and sales.
    #[serde(default)]
    pub collects: Collector,
}

/// Until when points are valid that are earned: the end of the day, month or year in which their days are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Rounding {
    #[default]
    Day,
    Month,
    Year,
}

impl Rounding {
    /// The last valid date of what is earned today and good for so many days; 0 days: 0, never.
    pub fn expires(self, today: i32, days: u32) -> i32 {
        if days == 0 {
            return 0;
        }
        let date = today + days as i32 - 1;
        match self {
            Rounding::Day => date,
            Rounding::Month => first_of_next_month(date) - 1,
            Rounding::Year => first_of_next_year(date) - 1,
        }
    }
}

/// Days that points or bonus are good for.
pub(super) fn days_ok(days: u32) -> bool {
    days <= DAYS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::from_yyyymmdd;

    #[test]
    fn what_is_earned_lasts_to_the_end_of_its_day_month_or_year() {
        let date = |date| from_yyyymmdd(date).unwrap();
        let today = date(20271128);
        let expires = |rounding: Rounding, days| rounding.expires(today, days);
        assert_eq!([0, 1, 4].map(|days| expires(Rounding::Day, days)), [0, today, date(20271201)]);
        assert_eq!([1, 4, 93].map(|days| expires(Rounding::Month, days)), [20271130, 20271231, 20280229].map(date));
        assert_eq!([1, 365].map(|days| expires(Rounding::Year, days)), [20271231, 20281231].map(date));
    }

    #[test]
    fn a_grant_is_valid_for_its_days_and_until_its_date() {
        let line = |from, days, until| GrantLine { unit: 16, amount: 1, from, days, until }.dates(100);
        assert_eq!([line(0, 0, 0), line(0, 1, 0), line(3, 2, 0)], [(0, 0), (0, 100), (103, 104)]);
        assert_eq!([line(0, 0, 200), line(0, 30, 120), line(0, 10, 120)], [(0, 200), (0, 120), (0, 109)]);
    }
}
