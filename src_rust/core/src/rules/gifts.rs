//! What the rules give beyond what is asked for: by the band of a top-up, to a new member, with a card's first purchase.

use serde::{Deserialize, Serialize};

use super::Bundle;
use crate::units::{AMOUNT_MAX, RATE_ONE, rate_of};

/// Most bands of top-ups.
const BANDS_MAX: usize = 64;

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
    /// Points, in points units.
    #[serde(default)]
    pub points: i64,
    /// One of this bundle; 0: none.
    #[serde(default)]
    pub bundle: u16,
    /// Share of the amount that is paid for it, over 10^12; the issuer bears the rest.
    #[serde(default = "whole")]
    pub price: u64,
}

fn whole() -> u64 {
    RATE_ONE
}

impl Band {
    /// Bonus of a top-up.
    #[inline]
    pub fn bonus_of(&self, amount: i64) -> i64 {
        self.bonus + rate_of(amount, self.rate) as i64
    }

    /// What the issuer bears of a top-up: so much less is paid for it.
    pub fn borne_of(&self, amount: i64) -> i64 {
        rate_of(amount, RATE_ONE - self.price) as i64
    }

    /// True if it gives more than bonus.
    #[inline]
    pub fn gives_more(&self) -> bool {
        (self.points != 0) | (self.bundle != 0) | (self.price != RATE_ONE)
    }
}

/// Bundles that are given for nothing; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gifts {
    /// To who becomes a member with a card.
    pub enrolment: u16,
    /// With a card's first purchase.
    pub first_purchase: u16,
    /// If that comes to as much.
    pub first_purchase_min: i64,
}

impl Gifts {
    pub(super) fn check(&self, bundles: &[Bundle]) -> Result<(), String> {
        let no_goods = find(bundles, self.first_purchase).is_none_or(|bundle| bundle.worth == 0);
        let least_ok = (0..=AMOUNT_MAX).contains(&self.first_purchase_min);
        if !is_there(bundles, self.enrolment) || !is_there(bundles, self.first_purchase) || !no_goods || !least_ok {
            return Err(
                "gifts: a bundle is unknown, that of the first purchase has goods, or its least amount is out of range".into()
            );
        }
        Ok(())
    }
}

/// Checks the bands of top-ups.
pub(super) fn check_bands(bands: &[Band], bundles: &[Bundle]) -> Result<(), String> {
    if bands.len() > BANDS_MAX || !bands.is_sorted_by(|a, b| a.from < b.from) {
        return Err("top_up_bonus: at most 64 bands, by ascending `from`".into());
    }
    for band in bands {
        let amounts_ok = band.from >= 1 && [band.bonus, band.points].iter().all(|amount| (0..=AMOUNT_MAX).contains(amount));
        let rates_ok = band.rate <= 10 * RATE_ONE && (1..=RATE_ONE).contains(&band.price);
        if !amounts_ok || !rates_ok || !is_there(bundles, band.bundle) {
            return Err(format!("top_up_bonus from {}: from, bonus, rate, points, bundle or price is out of range", band.from));
        }
    }
    Ok(())
}

fn find(bundles: &[Bundle], id: u16) -> Option<&Bundle> {
    bundles.binary_search_by_key(&id, |bundle| bundle.id).ok().map(|at| &bundles[at])
}

fn is_there(bundles: &[Bundle], id: u16) -> bool {
    id == 0 || find(bundles, id).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paid_is_never_nothing() {
        let band = |price| Band { from: 1, bonus: 0, rate: 0, points: 0, bundle: 0, price };
        assert_eq!([1, RATE_ONE / 2, RATE_ONE].map(|price| band(price).borne_of(1)), [0; 3]);
        assert_eq!([1, RATE_ONE / 2, RATE_ONE].map(|price| band(price).borne_of(101)), [100, 50, 0]);
        assert!(!band(RATE_ONE).gives_more() && band(1).gives_more());
    }
}
