//! Quantities: integers, bounded, with one rounding.

/// Rates, shares and prices are integers over this.
pub const RATE_ONE: u64 = 1_000_000_000_000;
/// Largest amount of a request.
pub const AMOUNT_MAX: i64 = 100_000_000_000_000;
/// Most that a purse holds, and the most that a card may fall short.
pub const PURSE_MAX: i64 = 10_000_000_000_000_000;

/// What an account counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Minor units of the programme's currency.
    Money,
    /// 1/10,000 of a point.
    Points,
    /// Things of a unit of the rules; which one is said beside it.
    Counted,
}

/// First unit that the rules may give: purses below it are principal, bonus and points.
pub const UNIT_MIN: u16 = 16;

/// `floor(amount x rate / 10^12)`, for `amount` and `rate` below 2^63 that are not negative.
///
/// Inlined with a 64-bit path, because a purchase needs several and a 128-bit division costs ten times as much.
#[inline]
pub fn rate_of(amount: i64, rate: u64) -> i128 {
    let amount = amount.unsigned_abs();
    match amount.checked_mul(rate) {
        Some(product) => i128::from(product / RATE_ONE),
        None => (u128::from(amount) * u128::from(rate) / u128::from(RATE_ONE)) as i128,
    }
}

/// `floor(amount x part / whole)` with `part` at most `whole`: no larger than `amount`.
#[inline]
pub fn part_of(amount: i64, part: i64, whole: i64) -> i64 {
    debug_assert!(amount >= 0 && 0 <= part && part <= whole);
    if part == 0 {
        return 0;
    }
    (i128::from(amount) * i128::from(part) / i128::from(whole)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_paths_round_down_alike() {
        for (amount, rate) in [(1, 1), (199, RATE_ONE / 100), (AMOUNT_MAX, RATE_ONE - 1), (PURSE_MAX, 100_000_000_000)] {
            let expected = i128::from(amount) * i128::from(rate) / i128::from(RATE_ONE);
            assert_eq!(rate_of(amount, rate), expected);
        }
    }
}
