//! When a rule applies: conditions on what a sale is, where, how and when it is made.
//!
//! A condition that is left out is always met. Lists are ascending; a sale meets one by being on it.

use serde::{Deserialize, Serialize};

use crate::calendar::{is_date, to_yyyymmdd};
use crate::units::AMOUNT_MAX;

/// Seconds of a day.
const DAY: i32 = 86_400;
/// 1970-01-01 was a Thursday: the number of its weekday, from 0 for Monday.
const FIRST_WEEKDAY: i32 = 3;
/// Most times of day that a rule names.
const TIMES_MAX: usize = 24;
const WEEKDAYS: u8 = 0x7f;
/// Bits of the days of a month: bit n of day n.
const MONTH_DAYS: u32 = 0xffff_fffe;

/// What conditions look at.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The card's product.
    pub product: u16,
    /// Number of the store.
    pub store: u32,
    /// Number of the merchant that it is of.
    pub merchant: u32,
    /// Channel of the request.
    pub channel: u8,
    /// List amount.
    pub amount: i64,
    /// The terminal's date.
    date: i32,
    /// The terminal's time of that day, in seconds.
    second: i32,
}

impl Moment {
    /// A sale of so much on a card of this product; place and time are set by [`at`](Self::at) and [`on`](Self::on).
    pub fn new(product: u16, amount: i64) -> Moment {
        Moment { product, store: 0, merchant: 0, channel: 0, amount, date: 0, second: 0 }
    }

    /// In this store of this merchant, by this channel.
    pub fn at(self, store: u32, merchant: u32, channel: u8) -> Moment {
        Moment { store, merchant, channel, ..self }
    }

    /// At this local time, in seconds after the begin of a business date: it may lie on a day before or after.
    pub fn on(self, date: i32, local_time: i32) -> Moment {
        Moment { date: date + local_time.div_euclid(DAY), second: local_time.rem_euclid(DAY), ..self }
    }
}

/// Conditions of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Ids of products; empty: all.
    pub products: Vec<u16>,
    /// Numbers of stores; empty: all.
    pub stores: Vec<u32>,
    /// Numbers of merchants; empty: all.
    pub merchants: Vec<u32>,
    /// Channels; empty: all.
    pub channels: Vec<u8>,
    /// First date; 0: none.
    pub from: i32,
    /// Last date; 0: none.
    pub until: i32,
    /// Bit 0 for Monday to bit 6 for Sunday; 0: all.
    pub weekdays: u8,
    /// Bit n for day n of a month; 0: all.
    pub month_days: u32,
    /// Times of day in seconds, from the first to before the second, one after the other; empty: all.
    pub times: Vec<(i32, i32)>,
    /// Least list amount.
    pub min_spend: i64,
}

impl When {
    /// False if a list is not ascending or a number is out of range.
    pub(super) fn is_ok(&self) -> bool {
        fn ascends<T: Ord>(list: &[T]) -> bool {
            list.is_sorted_by(|a, b| a < b)
        }
        let date_ok = |date: i32| date == 0 || is_date(date);
        let in_day = |&(start, end): &(i32, i32)| 0 <= start && start < end && end <= DAY;
        ascends(&self.products)
            && ascends(&self.stores)
            && ascends(&self.merchants)
            && ascends(&self.channels)
            && date_ok(self.from)
            && date_ok(self.until)
            && self.weekdays & !WEEKDAYS == 0
            && self.month_days & !MONTH_DAYS == 0
            && self.times.len() <= TIMES_MAX
            && self.times.iter().all(in_day)
            && self.times.is_sorted_by(|a, b| a.1 <= b.0)
            && (0..=AMOUNT_MAX).contains(&self.min_spend)
    }

    /// The windows in which it applies: one, or one for each of its times of day. No two share an instant.
    pub(super) fn windows(&self) -> impl Iterator<Item = Window> {
        let whole = [(0, DAY)];
        let times = if self.times.is_empty() { whole.to_vec() } else { self.times.clone() };
        let window = Window {
            from: self.from,
            until: if self.until == 0 { i32::MAX } else { self.until },
            start: 0,
            end: DAY,
            month_days: if self.month_days == 0 { MONTH_DAYS } else { self.month_days },
            weekdays: if self.weekdays == 0 { WEEKDAYS } else { self.weekdays },
            min_spend: self.min_spend,
        };
        times.into_iter().map(move |(start, end)| Window { start, end, ..window })
    }
}

/// Dates, days, a time of day and a least amount: what a rule asks for beside the places and products that it is found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    min_spend: i64,
    from: i32,
    until: i32,
    start: i32,
    end: i32,
    month_days: u32,
    weekdays: u8,
}

impl Window {
    /// True if a sale lies in it.
    #[inline]
    pub(super) fn holds(&self, moment: &Moment, day: Day) -> bool {
        (self.from <= moment.date)
            & (moment.date <= self.until)
            & (self.start <= moment.second)
            & (moment.second < self.end)
            & (self.min_spend <= moment.amount)
            & (self.weekdays & day.weekday != 0)
            & (self.month_days & day.of_month != 0)
    }
}

/// A date's weekday and its day of the month, as bits.
#[derive(Clone, Copy)]
pub(super) struct Day {
    weekday: u8,
    of_month: u32,
}

impl Day {
    /// Those of a sale.
    #[inline]
    pub(super) fn of(moment: &Moment) -> Day {
        let weekday = 1 << (moment.date + FIRST_WEEKDAY).rem_euclid(7);
        Day { weekday, of_month: 1 << (to_yyyymmdd(moment.date) % 100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::from_yyyymmdd;

    fn applies(when: &When, moment: &Moment) -> usize {
        assert!(when.is_ok());
        when.windows().filter(|window| window.holds(moment, Day::of(moment))).count()
    }

    #[test]
    fn a_window_holds_dates_weekdays_days_and_times() {
        // 2026-11-28 is a Saturday.
        let date = from_yyyymmdd(20261128).unwrap();
        let at = |seconds| Moment::new(1, 5_000).on(date, seconds);
        let noon = at(43_200);
        assert_eq!(applies(&When::default(), &noon), 1);
        for (weekdays, expected) in [(0b010_0000, 1), (0b101_1111, 0)] {
            assert_eq!(applies(&When { weekdays, ..When::default() }, &noon), expected);
        }
        for (month_days, expected) in [(1 << 28, 1), (1 << 27 | 1 << 29, 0)] {
            assert_eq!(applies(&When { month_days, ..When::default() }, &noon), expected);
        }
        for (from, until, expected) in [(date, date, 1), (date + 1, 0, 0), (0, date - 1, 0), (date - 1, date + 1, 1)] {
            assert_eq!(applies(&When { from, until, ..When::default() }, &noon), expected);
        }
        let times = When { times: vec![(0, 43_200), (43_200, 43_201), (80_000, 86_400)], ..When::default() };
        assert_eq!([0, 43_199, 43_200, 43_201, 86_399].map(|second| applies(&times, &at(second))), [1, 1, 1, 0, 1]);
        for (min_spend, expected) in [(5_000, 1), (5_001, 0)] {
            assert_eq!(applies(&When { min_spend, ..When::default() }, &noon), expected);
        }
    }

    #[test]
    fn a_local_time_beyond_midnight_is_the_day_before_or_after() {
        let date = from_yyyymmdd(20261128).unwrap();
        let sunday = When { weekdays: 0b100_0000, times: vec![(0, 3_600)], ..When::default() };
        let friday = When { weekdays: 0b001_0000, times: vec![(82_800, 86_400)], ..When::default() };
        let at = |seconds| Moment::new(1, 1).on(date, seconds);
        assert_eq!([86_400, 89_999, 90_000].map(|second| applies(&sunday, &at(second))), [1, 1, 0]);
        assert_eq!([-1, -3_600, -3_601].map(|second| applies(&friday, &at(second))), [1, 1, 0]);
    }

    #[test]
    fn what_is_out_of_order_or_range_is_not_ok() {
        let bad = [
            When { stores: vec![2, 1], ..When::default() },
            When { products: vec![1, 1], ..When::default() },
            When { weekdays: 0x80, ..When::default() },
            When { month_days: 1, ..When::default() },
            When { times: vec![(10, 20), (19, 30)], ..When::default() },
            When { times: vec![(10, 10)], ..When::default() },
            When { times: vec![(0, 86_401)], ..When::default() },
            When { from: -1, ..When::default() },
            When { min_spend: -1, ..When::default() },
        ];
        assert!(bad.iter().all(|when| !when.is_ok()));
    }
}
