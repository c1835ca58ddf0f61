//! The waterfall: in which order what pays for a purchase does, and up to which part of it.

use serde::{Deserialize, Serialize};

use crate::units::{RATE_ONE, rate_of};

/// What pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Payer {
    Points,
    Bonus,
    Principal,
    Coupons,
    Passes,
    Unit,
    Cards,
    Cash,
}

/// One step of the waterfall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What pays.
    pub pay: Payer,
    /// At most this part of the amount due, over 10^12.
    pub share: u64,
    /// Minor units of money per smallest unit, over 10^12 (points and units only).
    pub price: u64,
    /// Fewest points, or things of the unit, to pay with them.
    pub min_points: i64,
    /// Which unit (of the kind `value`) pays; else 0.
    #[serde(default)]
    pub unit: u16,
}

impl Step {
    /// Up to all that is due.
    fn whole(pay: Payer) -> Step {
        Step { pay, share: RATE_ONE, price: 0, min_points: 0, unit: 0 }
    }

    /// Most that it may pay of what is due and not paid yet.
    #[inline(always)]
    fn most(&self, due: i64, unpaid: i64) -> i64 {
        if self.share == RATE_ONE { unpaid } else { unpaid.min(rate_of(due, self.share) as i64) }
    }

    /// Money that so many points or things of the unit pay, at most so much, and how many of them it takes.
    #[inline]
    pub fn offset(&self, there: i64, most: i64) -> (i64, i64) {
        if there < self.min_points {
            return (0, 0);
        }
        // Nearly always they are worth more than they may pay: then nothing is divided to know it.
        let money = if is_worth(there, self.price, most) { most } else { rate_of(there, self.price) as i64 };
        (money, points_for(money, self.price))
    }
}

/// True if `floor(points x price / 10^12)` is at least `money`.
#[inline]
fn is_worth(points: i64, price: u64, money: i64) -> bool {
    u128::from(points.unsigned_abs()) * u128::from(price) >= u128::from(money.unsigned_abs()) * u128::from(RATE_ONE)
}

/// `ceil(money x 10^12 / price)`: never more than the purse whose worth `money` is.
#[inline]
fn points_for(money: i64, price: u64) -> i64 {
    let money = money.unsigned_abs();
    match money.checked_mul(RATE_ONE) {
        Some(product) => product.div_ceil(price) as i64,
        None => (u128::from(money) * u128::from(RATE_ONE)).div_ceil(price.into()) as i64,
    }
}

/// The steps in their order.
///
/// What follows from those that the rules list is made together with them, however they come: published, from the journal, from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Step>", into = "Vec<Step>")]
pub struct Waterfall {
    listed: Vec<Step>,
    whole: Vec<Step>,
    has_units: bool,
}

impl From<Vec<Step>> for Waterfall {
    fn from(listed: Vec<Step>) -> Waterfall {
        let is_listed = |pay: Payer| listed.iter().any(|step| step.pay == pay);
        let others = |pay: [Payer; 2]| pay.into_iter().filter(|&pay| !is_listed(pay)).map(Step::whole);
        let before = others([Payer::Coupons, Payer::Passes]);
        let after = others([Payer::Cards, Payer::Cash]);
        let whole = before.chain(listed.iter().cloned()).chain(after).collect();
        Waterfall { has_units: is_listed(Payer::Unit), whole, listed }
    }
}

impl From<Waterfall> for Vec<Step> {
    fn from(waterfall: Waterfall) -> Vec<Step> {
        waterfall.listed
    }
}

impl Waterfall {
    /// The steps that the rules list.
    #[inline]
    pub fn listed(&self) -> &[Step] {
        &self.listed
    }

    /// True if things of a unit pay, too, when a card has them.
    #[inline]
    pub fn has_units(&self) -> bool {
        self.has_units
    }

    /// Lets the steps that the rules list pay what is due, in their order: `pay` is told each and the most that it may pay of what is left, and
    /// says what it pays. What is left in the end is the result.
    #[inline(always)]
    pub fn pour(&self, due: i64, pay: impl FnMut(&Step, i64) -> i64) -> i64 {
        pour(&self.listed, due, pay)
    }

    /// The same with all steps: coupons and passes pay before all others, cards and cash after them, unless the rules list them.
    #[inline(always)]
    pub fn pour_whole(&self, due: i64, pay: impl FnMut(&Step, i64) -> i64) -> i64 {
        pour(&self.whole, due, pay)
    }
}

#[inline(always)]
fn pour(steps: &[Step], due: i64, mut pay: impl FnMut(&Step, i64) -> i64) -> i64 {
    let mut unpaid = due;
    for step in steps {
        unpaid -= pay(step, step.most(due, unpaid));
    }
    unpaid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{AMOUNT_MAX, PURSE_MAX};

    #[test]
    fn points_pay_what_they_are_worth_at_most() {
        let one = i128::from(RATE_ONE);
        for price in [1, 3, 100_000_000, 333_333_333_333, RATE_ONE, 7 * RATE_ONE] {
            let step = Step { price, ..Step::whole(Payer::Points) };
            for most in [0, 1, 7, 9_999, 18_446_744, 18_446_745, AMOUNT_MAX] {
                for more in [-1, 0, 1] {
                    // About as many as pay all of it, if a purse holds them.
                    let there = (i128::from(most) * one / i128::from(price) + more).clamp(0, PURSE_MAX.into());
                    let money = (there * i128::from(price) / one).min(most.into());
                    let units = (money * one + i128::from(price) - 1) / i128::from(price);
                    let expected = (money as i64, units as i64);
                    assert_eq!(step.offset(there as i64, most), expected, "{there} at {price} for {most}");
                    assert!(units <= there);
                }
            }
        }
    }

    #[test]
    fn what_the_rules_do_not_list_pays_before_all_others_and_after_them() {
        use Payer::*;
        let whole = |listed: &[Payer]| -> Vec<Payer> {
            let waterfall = Waterfall::from(listed.iter().map(|&pay| Step::whole(pay)).collect::<Vec<_>>());
            waterfall.whole.iter().map(|step| step.pay).collect()
        };
        assert_eq!(whole(&[Bonus, Principal]), [Coupons, Passes, Bonus, Principal, Cards, Cash]);
        assert_eq!(whole(&[Cash, Principal, Passes]), [Coupons, Cash, Principal, Passes, Cards]);
        let json = r#"[{"pay":"unit","share":1,"price":2,"min_points":3,"unit":16}]"#;
        let read: Waterfall = serde_json::from_str(json).unwrap();
        assert!(read.has_units() && serde_json::to_string(&read).unwrap() == json);
        let kept: Waterfall = postcard::from_bytes(&postcard::to_allocvec(&read).unwrap()).unwrap();
        assert_eq!(kept, read);
    }
}
