//! Rules as flat tables, and the pricing of a purchase and a top-up by them.
//!
//! The tables come as JSON (`docs/rules.md`) and are checked once, at the door; behind it pricing cannot overflow.
//! Pricing reads and computes; it changes nothing.

use serde::{Deserialize, Serialize};

use crate::units::{AMOUNT_MAX, PURSE_MAX, RATE_ONE, rate_of};

/// One published version of a programme's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub waterfall: Vec<Step>,
    /// Daily, over 10^12; 0: points do not grow.
    pub compounding_rate: u64,
    /// How far local time may lie outside the business date.
    pub time_tolerance_s: i32,
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
}

/// A band of top-ups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Smallest amount that reaches it.
    pub from: i64,
    /// Fixed bonus.
    pub bonus: i64,
    /// Share of the amount, over 10^12.
    pub rate: u64,
}

/// A purse that pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Payer {
    Points,
    Bonus,
    Principal,
}

/// One step of the waterfall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Which purse.
    pub pay: Payer,
    /// At most this part of the amount due, over 10^12.
    pub share: u64,
    /// Minor units of money per points unit, over 10^12 (points only).
    pub price: u64,
    /// Fewest points to pay with points.
    pub min_points: i64,
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
        let tables: Tables = serde_json::from_str(json).map_err(|error| format!("tables: {error}"))?;
        tables.check()?;
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
            let limits_ok = (0..=AMOUNT_MAX).contains(&product.purchase_max)
                && (0..=AMOUNT_MAX).contains(&product.top_up_max)
                && (0..=PURSE_MAX).contains(&product.balance_max);
            if product.id == 0 || product.discount >= one || product.accrual > 1_000_000 * one || !limits_ok {
                return bad(format!("product {}: id, discount, accrual or a limit is out of range", product.id));
            }
        }
        let bands = &self.top_up_bonus;
        if bands.len() > 64 || !bands.is_sorted_by(|a, b| a.from < b.from) {
            return bad("top_up_bonus: at most 64 bands, by ascending `from`".into());
        }
        for band in bands {
            if band.from < 1 || !(0..=AMOUNT_MAX).contains(&band.bonus) || band.rate > 10 * one {
                return bad(format!("top_up_bonus from {}: from, bonus or rate is out of range", band.from));
            }
        }
        self.check_waterfall()?;
        if self.compounding_rate > one / 10 {
            return bad("compounding_rate: at most 10% a day".into());
        }
        if !(0..=604_800).contains(&self.time_tolerance_s) {
            return bad("time_tolerance_s: 0 to 604800".into());
        }
        Ok(())
    }

    fn check_waterfall(&self) -> Result<(), String> {
        for (at, step) in self.waterfall.iter().enumerate() {
            let points_only = if step.pay == Payer::Points {
                (1..=RATE_ONE).contains(&step.price) && (0..=PURSE_MAX).contains(&step.min_points)
            } else {
                step.price == 0 && step.min_points == 0
            };
            let again = self.waterfall[..at].iter().any(|other| other.pay == step.pay);
            if step.share > RATE_ONE || !points_only || again {
                return Err(format!(
                    "tables: waterfall step {}: share, price or min_points is out of range, or it stands twice",
                    at + 1
                ));
            }
        }
        if !self.waterfall.iter().any(|step| step.pay == Payer::Principal) {
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

    /// Bonus of a top-up.
    #[inline]
    pub fn top_up_bonus(&self, amount: i64) -> i64 {
        match self.top_up_bonus.iter().rev().find(|band| band.from <= amount) {
            Some(band) => band.bonus + rate_of(amount, band.rate) as i64,
            None => 0,
        }
    }

    /// Prices a purchase of `amount` (1 to 10^14) on a card with these purses.
    #[inline]
    pub fn price(&self, product: &Product, amount: i64, use_points: bool, purses: Purses) -> Sale {
        let due = amount - rate_of(amount, product.discount) as i64;
        let mut sale = Sale { due, unpaid: due, ..Sale::default() };
        for step in &self.waterfall {
            let most = if step.share == RATE_ONE { due } else { rate_of(due, step.share) as i64 }.min(sale.unpaid);
            let paid = match step.pay {
                Payer::Principal => {
                    sale.principal = most.min(purses.principal);
                    sale.principal
                }
                Payer::Bonus => {
                    sale.bonus = most.min(purses.bonus);
                    sale.bonus
                }
                Payer::Points if use_points && purses.points >= step.min_points => {
                    let worth = rate_of(purses.points, step.price);
                    sale.offset = i128::from(most).min(worth) as i64;
                    sale.spent = points_for(sale.offset, step.price);
                    sale.offset
                }
                Payer::Points => 0,
            };
            sale.unpaid -= paid;
        }
        sale.earned = i64::try_from(rate_of(sale.bonus + sale.principal, product.accrual)).unwrap_or(i64::MAX);
        sale
    }
}

/// `ceil(money x 10^12 / price)`: never more than the purse whose worth `money` is.
fn points_for(money: i64, price: u64) -> i64 {
    (i128::from(money) * i128::from(RATE_ONE) + i128::from(price) - 1).div_euclid(i128::from(price)) as i64
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
        let sale = tables.price(&tables.products[0], 10_000, true, purses);
        let expected =
            Sale { due: 9_500, offset: 2_000, spent: 20_000_000, bonus: 1_000, principal: 6_500, earned: 750_000, unpaid: 0 };
        assert_eq!(sale, expected);
        let without = tables.price(&tables.products[0], 10_000, false, purses);
        assert_eq!((without.offset, without.spent, without.principal), (0, 0, 8_500));
        assert_eq!((tables.top_up_bonus(49_999), tables.top_up_bonus(50_000)), (0, 5_000));
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
