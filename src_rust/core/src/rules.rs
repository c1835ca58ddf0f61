//! Rules as flat tables, and the pricing of a purchase and a top-up by them.
//!
//! The tables come as JSON (`docs/rules.md`) and are checked once, at the door; behind it pricing cannot overflow.
//! Pricing reads and computes; it changes nothing.

mod advised;
mod basket;
mod counted;
mod decisions;
mod explain;
mod fees;
mod gifts;
mod named;
mod places;
mod stacking;
mod tiers;
mod units;
mod waterfall;
mod when;

use serde::{Deserialize, Serialize};

pub use self::advised::{Advised, FACTOR_MAX, Heard, PythonRule, Said};
pub use self::counted::Part;
pub use self::decisions::Foreseen;
pub use self::explain::{Fate, Gift, Told, Verdict};
pub use self::fees::{Fee, FeeOf, FeePayer, Foreign};
pub use self::gifts::{Band, Gifts};
pub use self::named::Registered;
pub use self::places::{Category, Region};
pub use self::stacking::{Accrual, Applying, Discount, Stacking, Stacks};
pub use self::tiers::{GrowthValue, Tier};
pub use self::units::{Bundle, Channel, Collector, Funder, GrantLine, Rounding, UnitKind, UnitRule};
pub use self::waterfall::{Payer, Step, Waterfall};
pub use self::when::{Birthday, Condition, Moment, When, local_date};
use crate::rules::places::Places;
use crate::units::{AMOUNT_MAX, PURSE_MAX, RATE_ONE, UNIT_MIN};

/// Days that an authorisation holds unless it says otherwise.
const HOLD_DAYS: u32 = 7;
/// No PIN is asked for.
const NO_PIN: i64 = -1;

/// One published version of a programme's rules. Read by [`parse`](Self::parse) alone, which makes what follows from them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// What money counts.
    pub money: UnitName,
    /// What points count.
    pub points: UnitName,
    /// By ascending id.
    pub products: Vec<Product>,
    /// By ascending `from`.
    pub top_up_bonus: Vec<Band>,
    /// The order in which purses pay.
    pub waterfall: Waterfall,
    /// Daily, over 10^12; 0: points do not grow.
    pub compounding_rate: u64,
    /// How far local time may lie outside the business date.
    pub time_tolerance_s: i32,
    /// By ascending id.
    #[serde(default)]
    pub units: Vec<UnitRule>,
    /// By ascending id.
    #[serde(default)]
    pub bundles: Vec<Bundle>,
    /// By ascending id.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// Days that an authorisation holds unless it says otherwise; the day it is made on is the first.
    #[serde(default = "hold_days")]
    pub hold_days: u32,
    /// What comes back past its last date is valid for so many days more; 0: it lapses at once.
    #[serde(default)]
    pub grace_days: u32,
    /// By ascending id.
    #[serde(default)]
    pub discounts: Vec<Discount>,
    /// By ascending id.
    #[serde(default)]
    pub accruals: Vec<Accrual>,
    /// What is given for nothing.
    #[serde(default)]
    pub gifts: Gifts,
    /// Both, so that those that apply are found.
    #[serde(skip)]
    stacks: Stacks,
    /// By ascending id.
    #[serde(default)]
    pub categories: Vec<Category>,
    /// By number.
    #[serde(default)]
    pub regions: Vec<Region>,
    /// By their stores and merchants.
    #[serde(skip)]
    places: Places,
    /// By ascending id and growth value.
    #[serde(default)]
    pub tiers: Vec<Tier>,
    /// None: there is none.
    #[serde(default)]
    pub growth_value: Option<GrowthValue>,
    /// By ascending id.
    #[serde(default)]
    pub python_rules: Vec<PythonRule>,
    /// By ascending id.
    #[serde(default)]
    pub fees: Vec<Fee>,
}

fn hold_days() -> u32 {
    HOLD_DAYS
}

fn no_pin() -> i64 {
    NO_PIN
}

/// Name and decimal places of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct UnitName {
    pub name: String,
    pub scale: u8,
}

/// A card product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// From 1.
    pub id: u16,
    /// For people.
    pub name: String,
    /// Off every purchase, over 10^12.
    pub discount: u64,
    /// Points units per minor unit of money paid, over 10^12.
    pub accrual: u64,
    /// Largest amount due; 0: no limit.
    pub purchase_max: i64,
    /// Largest single top-up; 0: no limit.
    pub top_up_max: i64,
    /// Largest principal and bonus together; 0: no limit.
    pub balance_max: i64,
    /// Most that a day's purchases come to; 0: no limit.
    #[serde(default)]
    pub day_sum: i64,
    /// Most purchases of a day; 0: no limit.
    #[serde(default)]
    pub day_count: u32,
    /// Its limits when the holder's real name is known; None: the same.
    #[serde(default)]
    pub named: Option<Limits>,
    /// Bonus for money paid from principal and in cash, over 10^12.
    #[serde(default)]
    pub rebate: u64,
    /// A PIN is asked for when more than this is due; -1: never.
    #[serde(default = "no_pin")]
    pub pin_above: i64,
    /// Its cards are those of members of staff.
    #[serde(default)]
    pub staff: bool,
    /// Days that earned points are good for; 0: for ever.
    #[serde(default)]
    pub points_days: u32,
    /// And to the end of which day, month or year.
    #[serde(default)]
    pub points_round: Rounding,
    /// Days that granted bonus is good for; 0: for ever.
    #[serde(default)]
    pub bonus_days: u32,
    /// Most points that the purchases of a day earn; 0: no limit.
    #[serde(default)]
    pub points_per_day: i64,
    /// It has nothing beyond discount, accrual and the limits of one transaction.
    #[serde(skip)]
    plain: bool,
}

/// Limits of a card; 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // as those of a product
pub struct Limits {
    pub purchase_max: i64,
    pub top_up_max: i64,
    pub balance_max: i64,
    pub day_sum: i64,
    pub day_count: u32,
}

impl Limits {
    /// True if they limit what the purchases of a day come to, or how many there are.
    #[inline]
    pub fn are_of_the_day(&self) -> bool {
        (self.day_sum != 0) | (self.day_count != 0)
    }

    fn are_ok(&self) -> bool {
        (0..=AMOUNT_MAX).contains(&self.purchase_max)
            && (0..=AMOUNT_MAX).contains(&self.top_up_max)
            && (0..=PURSE_MAX).contains(&self.balance_max)
            && (0..=PURSE_MAX).contains(&self.day_sum)
    }
}

impl Product {
    /// True if its plain cards are priced by discount, waterfall, accrual and the limits of one transaction alone.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    fn has_no_more(&self) -> bool {
        let days = self.points_days | self.bonus_days;
        let of_the_day = (self.day_sum, self.day_count, self.points_per_day);
        self.rebate == 0 && self.pin_above == NO_PIN && days == 0 && of_the_day == (0, 0, 0)
    }

    /// The limits of its cards.
    pub fn limits(&self, named: bool) -> Limits {
        let Product { purchase_max, top_up_max, balance_max, day_sum, day_count, .. } = *self;
        let own = Limits { purchase_max, top_up_max, balance_max, day_sum, day_count };
        self.named.filter(|_| named).unwrap_or(own)
    }
}

/// What a card has, as far as pricing looks.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Purses {
    pub principal: i64,
    pub bonus: i64,
    pub points: i64,
}

/// A priced purchase: parts are of the amount due, all above or equal to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sale {
    /// List amount less discount.
    pub due: i64,
    /// Paid from principal.
    pub principal: i64,
    /// Paid from bonus.
    pub bonus: i64,
    /// Money paid by points.
    pub offset: i64,
    /// Points that it took.
    pub spent: i64,
    /// Points earned; may exceed what a purse can hold (2^63 - 1: that, or more).
    pub earned: i64,
    /// Due less what the purses could pay.
    pub unpaid: i64,
}

impl Tables {
    /// Reads and checks tables; the error says which field is wrong.
    pub fn parse(json: &str) -> Result<Tables, String> {
        let mut tables: Tables = serde_json::from_str(json).map_err(|error| format!("tables: {error}"))?;
        tables.check()?;
        tables.products.iter_mut().for_each(|product| product.plain = product.has_no_more());
        tables.stacks = Stacks::of(&tables.discounts, &tables.accruals)?;
        tables.places = Places::of(&tables.regions).ok_or("tables: regions: a store or a merchant is in two regions")?;
        Ok(tables)
    }

    fn check(&self) -> Result<(), String> {
        let one = RATE_ONE;
        let bad = |what: String| Err(format!("tables: {what}"));
        if self.money.name.is_empty() || self.money.name.len() > 16 || self.money.scale > 8 {
            return bad("money: a name of 1 to 16 bytes and a scale of 0 to 8 are needed".into());
        }
        if self.points.name.is_empty() || self.points.name.len() > 16 || self.points.scale != 4 {
            return bad("points: a name of 1 to 16 bytes and the scale 4 are needed".into());
        }
        if !(1..=256).contains(&self.products.len()) || !self.products.is_sorted_by(|a, b| a.id < b.id) {
            return bad("products: 1 to 256 of them, by ascending id".into());
        }
        for product in &self.products {
            let limits_ok = product.limits(false).are_ok() && product.named.is_none_or(|named| named.are_ok());
            let days_ok = units::days_ok(product.points_days) && units::days_ok(product.bonus_days);
            let day_ok = (0..=AMOUNT_MAX).contains(&product.points_per_day);
            let whole_ok = product.rebate <= one && (NO_PIN..=AMOUNT_MAX).contains(&product.pin_above) && days_ok && day_ok;
            let rates_ok = product.discount < one && product.accrual <= 1_000_000 * one;
            if product.id == 0 || !rates_ok || !limits_ok || !whole_ok {
                return bad(format!("product {}: id, discount, accrual, a limit or its days are out of range", product.id));
            }
        }
        self.check_units()?;
        gifts::check_bands(&self.top_up_bonus, &self.bundles).or_else(bad)?;
        self.gifts.check(&self.bundles).or_else(bad)?;
        self.check_waterfall()?;
        self.check_places()?;
        self.check_tiers()?;
        self.check_stacks()?;
        self.check_python_rules()?;
        self.check_fees()?;
        if self.compounding_rate > one / 10 {
            return bad("compounding_rate: at most 10% a day".into());
        }
        if !(0..=604_800).contains(&self.time_tolerance_s) {
            return bad("time_tolerance_s: 0 to 604800".into());
        }
        Ok(())
    }

    fn check_units(&self) -> Result<(), String> {
        let bad = |what: String| Err(format!("tables: {what}"));
        if self.units.len() > 4096 || !self.units.is_sorted_by(|a, b| a.id < b.id) {
            return bad("units: at most 4,096 of them, by ascending id".into());
        }
        if self.bundles.len() > 4096 || !self.bundles.is_sorted_by(|a, b| a.id < b.id) {
            return bad("bundles: at most 4,096 of them, by ascending id".into());
        }
        if !self.channels.is_sorted_by(|a, b| a.id < b.id) {
            return bad("channels: by ascending id".into());
        }
        self.units.iter().try_for_each(UnitRule::check).or_else(bad)?;
        self.bundles.iter().try_for_each(|bundle| bundle.check(&self.units)).or_else(bad)?;
        if !(1..=365).contains(&self.hold_days) || self.grace_days > 365 {
            return bad("hold_days: 1 to 365, and grace_days: 0 to 365".into());
        }
        Ok(())
    }

    fn check_waterfall(&self) -> Result<(), String> {
        let steps = self.waterfall.listed();
        for (at, step) in steps.iter().enumerate() {
            let unit_ok = match step.pay {
                Payer::Unit => self.unit(step.unit).is_some_and(|unit| unit.kind == UnitKind::Value),
                _ => step.unit == 0,
            };
            let price_ok = match step.pay {
                Payer::Points | Payer::Unit => {
                    (1..=1_000_000 * RATE_ONE).contains(&step.price) && (0..=PURSE_MAX).contains(&step.min_points)
                }
                _ => step.price == 0 && step.min_points == 0,
            };
            let price_ok = price_ok && (step.pay != Payer::Points || step.price <= RATE_ONE);
            let again = steps[..at].iter().any(|other| (other.pay, other.unit) == (step.pay, step.unit));
            if step.share > RATE_ONE || !price_ok || !unit_ok || again {
                return Err(format!(
                    "tables: waterfall step {}: share, price, min_points or unit is out of range, or it stands twice",
                    at + 1
                ));
            }
        }
        if !steps.iter().any(|step| step.pay == Payer::Principal) {
            return Err("tables: waterfall: principal must pay, too".into());
        }
        Ok(())
    }

    /// The product with this id.
    #[inline]
    pub fn product(&self, id: u16) -> Option<&Product> {
        let at = self.products.binary_search_by_key(&id, |product| product.id).ok()?;
        Some(&self.products[at])
    }

    /// The band of a top-up: the last that its amount reaches.
    #[inline]
    pub fn band(&self, amount: i64) -> Option<&Band> {
        self.top_up_bonus.iter().rev().find(|band| band.from <= amount)
    }

    /// The unit with this id.
    #[inline]
    pub fn unit(&self, id: u16) -> Option<&UnitRule> {
        // Nearly always they are numbered one after the other.
        match self.units.get(usize::from(id.wrapping_sub(UNIT_MIN))) {
            Some(unit) if unit.id == id => Some(unit),
            _ => self.units.binary_search_by_key(&id, |unit| unit.id).ok().map(|at| &self.units[at]),
        }
    }

    /// The bundle with this id.
    pub fn bundle(&self, id: u16) -> Option<&Bundle> {
        let at = self.bundles.binary_search_by_key(&id, |bundle| bundle.id).ok()?;
        Some(&self.bundles[at])
    }

    /// True if merchants pay each other fees.
    #[inline]
    pub fn has_fees(&self) -> bool {
        !self.fees.is_empty()
    }

    /// True if the issuer itself takes in the money that comes by this channel.
    #[inline]
    pub fn is_collected_by_issuer(&self, channel: u8) -> bool {
        !self.channels.is_empty() && self.channels.iter().any(|of| of.id == channel && of.collects == Collector::Issuer)
    }

    /// Prices a purchase of `amount` (1 to 10^14), to which these rules apply, on a card with these purses and nothing else.
    #[inline]
    pub fn price(&self, product: &Product, amount: i64, applying: &Applying, use_points: bool, purses: Purses) -> Sale {
        let due = amount - self.off(product, amount, applying, &mut Vec::new());
        let mut sale = Sale { due, ..Sale::default() };
        sale.unpaid = self.waterfall.pour(due, |step, most| match step.pay {
            Payer::Principal => {
                sale.principal = most.min(purses.principal);
                sale.principal
            }
            Payer::Bonus => {
                sale.bonus = most.min(purses.bonus);
                sale.bonus
            }
            Payer::Points if use_points => {
                (sale.offset, sale.spent) = step.offset(purses.points, most);
                sale.offset
            }
            _ => 0,
        });
        sale.earned = self.earned(product, amount, sale.bonus + sale.principal, applying, &[]);
        sale
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const TABLES: &str = r#"{"money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
        "products": [{"id": 1, "name": "standard", "discount": 50000000000, "accrual": 100000000000000,
                      "purchase_max": 500000, "top_up_max": 1000000, "balance_max": 5000000}],
        "top_up_bonus": [{"from": 50000, "bonus": 5000, "rate": 0}],
        "waterfall": [{"pay": "points", "share": 300000000000, "price": 100000000, "min_points": 1000000},
                      {"pay": "bonus", "share": 1000000000000, "price": 0, "min_points": 0},
                      {"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
        "compounding_rate": 100000000, "time_tolerance_s": 86400}"#;

    #[test]
    fn a_purchase_by_hand() {
        let tables = Tables::parse(TABLES).unwrap();
        let purses = Purses { principal: 10_000, bonus: 1_000, points: 20_000_000 };
        // 100.00 less 5% is 95.00; points pay 2,000 x 0.01 = 20.00 of at most 28.50; bonus 10.00; principal 65.00.
        let sale = tables.price(&tables.products[0], 10_000, &Applying::default(), true, purses);
        let expected =
            Sale { due: 9_500, offset: 2_000, spent: 20_000_000, bonus: 1_000, principal: 6_500, earned: 750_000, unpaid: 0 };
        assert_eq!(sale, expected);
        let without = tables.price(&tables.products[0], 10_000, &Applying::default(), false, purses);
        assert_eq!((without.offset, without.spent, without.principal), (0, 0, 8_500));
        let bonus = |amount| tables.band(amount).map(|band| band.bonus_of(amount));
        assert_eq!((bonus(49_999), bonus(50_000)), (None, Some(5_000)));
    }

    #[test]
    fn tables_out_of_range_are_named() {
        for (from, to, word) in [
            ("50000000000,", "1000000000000,", "product 1"),
            ("\"principal\"", "\"bonus\"", "waterfall"),
            ("\"scale\": 4", "\"scale\": 3", "points"),
            ("86400", "-1", "time_tolerance_s"),
            ("\"from\"", "\"form\"", "form"),
        ] {
            let error = Tables::parse(&TABLES.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
