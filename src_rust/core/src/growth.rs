//! Growth of points purses, algorithm 1: one purse when its card is touched, columns of them when the sweep comes by.
//!
//! A purse holds 0 to `PURSE_MAX` and carries less than 10^12; it grows by `floor((balance x rate + carry) / 10^12)`, up to
//! `PURSE_MAX`, and carries the remainder on. Both ways give the same to the last unit: they are one function.

use crate::units::{PURSE_MAX, RATE_ONE};

/// Purses of a call of [`Columns::grow`] at most: what so many can grow by fits 64 bits.
pub const PURSES_MAX: usize = 1024;

const _: () = assert!(PURSE_MAX as u128 * PURSES_MAX as u128 <= u64::MAX as u128);

/// Points purses as columns of one length, and who issued their cards.
pub struct Columns<'a> {
    /// 1/10,000 points.
    pub balances: &'a mut [i64],
    /// Remainders of the last growths, over 10^12.
    pub carries: &'a mut [u64],
    /// How many of the programme's growths are applied.
    pub grown: &'a mut [u32],
    /// Issuing merchants.
    pub merchants: &'a [u32],
}

impl Columns<'_> {
    /// Applies growth number `number` with this rate, over 10^12, to each of at most [`PURSES_MAX`] purses that lacks it; how
    /// many did. `granted` is told who issued them and what they grew by: a run of purses of one merchant costs one call.
    #[inline]
    pub fn grow(&mut self, number: u32, rate: u64, mut granted: impl FnMut(u32, u64)) -> usize {
        assert!(self.merchants.len() <= PURSES_MAX);
        let Some(&first) = self.merchants.first() else { return 0 };
        // All of them are compared: without a way out, many at a time.
        if self.merchants.iter().fold(0, |differ, merchant| differ | (merchant ^ first)) != 0 {
            return self.each(number, rate, granted);
        }
        let mut sum = 0;
        let count = self.each(number, rate, |_, growth| sum += growth);
        if sum != 0 {
            granted(first, sum);
        }
        count
    }

    #[inline(always)]
    fn each(&mut self, number: u32, rate: u64, mut granted: impl FnMut(u32, u64)) -> usize {
        let mut count = 0;
        let purses = self.balances.iter_mut().zip(self.carries.iter_mut());
        for (((balance, carry), grown), &merchant) in purses.zip(self.grown.iter_mut()).zip(self.merchants) {
            if *grown < number {
                *grown = number;
                count += 1;
                granted(merchant, grow(balance, carry, rate));
            }
        }
        count
    }
}

/// Lets one purse grow by a day, at this rate over 10^12; what it grew by.
#[inline(always)]
pub fn grow(balance: &mut i64, carry: &mut u64, rate: u64) -> u64 {
    let points = balance.unsigned_abs();
    let (growth, rest) = match points.checked_mul(rate).and_then(|product| product.checked_add(*carry)) {
        Some(sum) => (sum / RATE_ONE, sum % RATE_ONE),
        None => divide_wide(u128::from(points) * u128::from(rate) + u128::from(*carry)),
    };
    let growth = growth.min((PURSE_MAX - *balance) as u64);
    *balance += growth as i64;
    *carry = rest;
    growth
}

/// Quotient and remainder by 10^12, of what does not fit 64 bits; a quotient above any purse is told as the largest number.
#[cold]
fn divide_wide(sum: u128) -> (u64, u64) {
    let quotient = sum / u128::from(RATE_ONE);
    (u64::try_from(quotient).unwrap_or(u64::MAX), (sum - quotient * u128::from(RATE_ONE)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn growth_carries_what_it_does_not_grant() {
        let (mut balance, mut carry) = (999, 0);
        let mut total = 0;
        for _ in 0..1000 {
            total += grow(&mut balance, &mut carry, 1_000_000_000);
        }
        // 999 x (1 + 0.001)^1000 with whole units only: between simple and compound growth.
        assert!(total > 999 && balance == 999 + total as i64);
        let mut full = PURSE_MAX;
        assert_eq!(grow(&mut full, &mut carry, RATE_ONE / 10), 0);
    }

    #[test]
    fn the_largest_growths_of_a_call_have_a_sum() {
        let mut columns = (vec![0; PURSES_MAX], vec![RATE_ONE - 1; PURSES_MAX], vec![0; PURSES_MAX], vec![7; PURSES_MAX]);
        columns.0.fill(PURSE_MAX / 2);
        let mut told = Vec::new();
        let (balances, carries, grown, merchants) = (&mut columns.0, &mut columns.1, &mut columns.2, &columns.3);
        let mut purses = Columns { balances, carries, grown, merchants };
        assert_eq!(purses.grow(1, u64::MAX, |merchant, sum| told.push((merchant, sum))), PURSES_MAX);
        assert_eq!(told, [(7, PURSE_MAX as u64 / 2 * PURSES_MAX as u64)]);
        assert_eq!(purses.grow(1, u64::MAX, |_, _| panic!("they have grown")), 0);
    }

    proptest! {
        /// Against the formula, in numbers of any length; with one merchant and with several.
        #[test]
        fn columns_grow_as_the_formula_says(
            purses in prop::collection::vec((0..=PURSE_MAX, 0..RATE_ONE, 3u32..6, 0u32..4, 0u32..50), 0..40),
            rate in 1..=RATE_ONE / 10,
            merchants in 1u32..4,
        ) {
            let mut balances: Vec<i64> = purses.iter().map(|purse| purse.0 >> purse.4).collect();
            let mut carries: Vec<u64> = purses.iter().map(|purse| purse.1).collect();
            let mut grown: Vec<u32> = purses.iter().map(|purse| purse.2).collect();
            let merchants: Vec<u32> = purses.iter().map(|purse| purse.3 % merchants).collect();
            let (old, mut expected, mut granted) = (balances.clone(), [0u128; 4], [0u128; 4]);
            let (balances, carries, grown) = (&mut balances, &mut carries, &mut grown);
            let count = Columns { balances, carries, grown, merchants: &merchants }
                .grow(5, rate, |merchant, sum| granted[merchant as usize] += u128::from(sum));
            for (at, &(_, carry, before, ..)) in purses.iter().enumerate() {
                let sum = old[at] as u128 * u128::from(rate) + u128::from(carry);
                let growth = (sum / u128::from(RATE_ONE)).min((PURSE_MAX - old[at]) as u128);
                let (growth, rest) = if before < 5 { (growth, sum % u128::from(RATE_ONE)) } else { (0, u128::from(carry)) };
                expected[merchants[at] as usize] += growth;
                prop_assert_eq!((balances[at] as u128, u128::from(carries[at])), (old[at] as u128 + growth, rest));
            }
            prop_assert!(grown.iter().all(|&grown| grown == 5));
            prop_assert_eq!(granted, expected);
            prop_assert_eq!(count, purses.iter().filter(|purse| purse.2 < 5).count());
        }
    }
}
