//! When a rule applies: conditions on what a sale is, where, how and when it is made.
//!
//! A condition that is left out is always met. Lists are ascending; a sale meets one by being on it.

use serde::{Deserialize, Serialize};
use wide::i32x8;
use zerocopy::{FromBytes, IntoBytes};

use crate::calendar::{from_yyyymmdd, is_date, to_yyyymmdd};
use crate::memory::prefetch;
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

/// The terminal's date at a local time, in seconds after the begin of a business date.
pub fn local_date(date: i32, local_time: i32) -> i32 {
    date + local_time.div_euclid(DAY)
}

/// What conditions look at.
#[derive(Clone, Copy, Debug, Default)]
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
    /// Category of the goods; 0: all that is sold, whatever it is.
    pub category: u16,
    /// Region of the store; 0: none.
    pub region: u16,
    /// Tier of the card; 0: none.
    pub tier: u8,
    /// What it is to the holder's birthday: a sum of [`Birthday`].
    pub birthday: u8,
    /// The terminal's date.
    date: i32,
    /// The terminal's time of that day, in seconds.
    second: i32,
}

impl Moment {
    /// A sale of so much on a card of this product; place and time are set by [`at`](Self::at) and [`on`](Self::on).
    pub fn new(product: u16, amount: i64) -> Moment {
        Moment { product, amount, ..Moment::default() }
    }

    /// In this store of this merchant, by this channel.
    pub fn at(self, store: u32, merchant: u32, channel: u8) -> Moment {
        Moment { store, merchant, channel, ..self }
    }

    /// In a store of this region, by a card of this tier.
    pub fn of(self, region: u16, tier: u8) -> Moment {
        Moment { region, tier, ..self }
    }

    /// At a time that is this to the holder's birthday: a sum of [`Birthday`].
    pub fn near(self, birthday: u8) -> Moment {
        Moment { birthday, ..self }
    }

    /// Of goods of this category alone.
    pub fn with(self, category: u16) -> Moment {
        Moment { category, ..self }
    }

    /// At this local time, in seconds after the begin of a business date: it may lie on a day before or after.
    pub fn on(self, date: i32, local_time: i32) -> Moment {
        Moment { date: local_date(date, local_time), second: local_time.rem_euclid(DAY), ..self }
    }

    /// From 0 for Monday.
    #[inline]
    pub(super) fn weekday(&self) -> u32 {
        (self.date + FIRST_WEEKDAY).rem_euclid(7).unsigned_abs()
    }

    /// From 1.
    #[inline]
    fn month_day(&self) -> u32 {
        to_yyyymmdd(self.date) % 100
    }
}

/// A time around a holder's birthday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Birthday {
    /// The day itself.
    Day = 1,
    /// From three days before it to three days after it.
    Week = 2,
    /// The month that it lies in.
    Month = 4,
}

/// Days before and after a birthday that its week has.
const WEEK_REACH: i32 = 3;

impl Birthday {
    /// What a date is to a birthday, as MMDD: a sum of those that it lies in. One on a leap day is on 28 February in other years.
    pub fn around(birthday: u16, date: i32) -> u8 {
        let (today, birthday) = (to_yyyymmdd(date), u32::from(birthday));
        let in_year = |year: u32| from_yyyymmdd(year * 10_000 + birthday).or_else(|| from_yyyymmdd(year * 10_000 + 228));
        let year = today / 10_000;
        let days = [year.saturating_sub(1), year, year + 1].into_iter().filter_map(in_year).map(|of| (of - date).abs());
        let near = days.min().unwrap_or(i32::MAX);
        let bit = |is: bool, bit: Birthday| if is { bit as u8 } else { 0 };
        bit(near == 0, Birthday::Day)
            | bit(near <= WEEK_REACH, Birthday::Week)
            | bit(today / 100 % 100 == birthday / 100, Birthday::Month)
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
    /// Numbers of regions; empty: all.
    pub regions: Vec<u16>,
    /// Channels; empty: all.
    pub channels: Vec<u8>,
    /// Tiers of cards; empty: all, and cards without one.
    pub tiers: Vec<u8>,
    /// Categories of goods: it applies to the lines of these alone; empty: to all that is sold.
    pub categories: Vec<u16>,
    /// Time around the holder's birthday.
    pub birthday: Option<Birthday>,
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
            && ascends(&self.regions)
            && ascends(&self.channels)
            && ascends(&self.tiers)
            && ascends(&self.categories)
            && self.categories.first() != Some(&0)
            && date_ok(self.from)
            && date_ok(self.until)
            && self.weekdays & !WEEKDAYS == 0
            && self.month_days & !MONTH_DAYS == 0
            && self.times.len() <= TIMES_MAX
            && self.times.iter().all(in_day)
            && self.times.is_sorted_by(|a, b| a.1 <= b.0)
            && (0..=AMOUNT_MAX).contains(&self.min_spend)
    }

    /// The weekdays on which it applies, from 0 for Monday; none: all.
    pub(super) fn named_weekdays(&self) -> Vec<u32> {
        (0..7).filter(|day| self.weekdays >> day & 1 != 0).collect()
    }

    /// What a sale may be to the birthday, if it asks for one: sums of [`Birthday`]. A day lies in its week and its month.
    pub(super) fn named_birthdays(&self) -> Vec<u32> {
        self.birthday.map_or_else(Vec::new, |asked| (1..8).filter(|sum| sum & asked as u32 != 0).collect())
    }

    /// The windows in which it applies on these: one, or one for each of its times of day. No two share an instant.
    pub(super) fn windows(&self) -> impl Iterator<Item = Window> {
        let times = if self.times.is_empty() { vec![(0, DAY)] } else { self.times.clone() };
        let window = Window {
            from: if self.from == 0 { i32::MIN } else { self.from },
            until: if self.until == 0 { i32::MAX } else { self.until },
            start: 0,
            end: DAY,
            month_days: if self.month_days == 0 { -1 } else { self.month_days as i32 },
        };
        times.into_iter().map(move |(start, end)| Window { start, end, ..window })
    }
}

/// What a rule may ask for, those that a sale could meet most easily first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // as the fields of `When`
pub enum Condition {
    MinSpend = 1,
    Times,
    Weekdays,
    MonthDays,
    From,
    Until,
    Birthday,
    Categories,
    Channels,
    Tiers,
    Products,
    Regions,
    Merchants,
    Stores,
    /// The merchant that issued the card: only fees ask for it.
    CardMerchants,
}

impl When {
    /// What a sale does not meet; of categories that of the moment counts.
    pub(super) fn missed(&self, moment: &Moment) -> Vec<Condition> {
        use Condition::*;
        fn lists<T: Ord>(list: &[T], one: T) -> bool {
            list.is_empty() || list.binary_search(&one).is_ok()
        }
        let has = |set: u32, bit: u32| set == 0 || set >> bit & 1 != 0;
        let within = |&(start, end): &(i32, i32)| (start..end).contains(&moment.second);
        let met = [
            (MinSpend, self.min_spend <= moment.amount),
            (Times, self.times.is_empty() || self.times.iter().any(within)),
            (Weekdays, has(self.weekdays.into(), moment.weekday())),
            (MonthDays, has(self.month_days, moment.month_day())),
            (From, self.from == 0 || self.from <= moment.date),
            (Until, self.until == 0 || moment.date <= self.until),
            (Birthday, self.birthday.is_none_or(|asked| asked as u8 & moment.birthday != 0)),
            (Categories, lists(&self.categories, moment.category)),
            (Channels, lists(&self.channels, moment.channel)),
            (Tiers, lists(&self.tiers, moment.tier)),
            (Products, lists(&self.products, moment.product)),
            (Regions, lists(&self.regions, moment.region)),
            (Merchants, lists(&self.merchants, moment.merchant)),
            (Stores, lists(&self.stores, moment.store)),
        ];
        met.into_iter().filter(|(_, met)| !met).map(|(condition, _)| condition).collect()
    }
}

/// Dates, days of the month and a time of day: what a rule asks for beside its amount and what it is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes)]
#[repr(C)]
pub(super) struct Window {
    from: i32,
    until: i32,
    start: i32,
    end: i32,
    month_days: i32,
}

impl Window {
    /// True if a sale lies in it.
    #[inline]
    pub(super) fn holds(&self, hour: &Hour) -> bool {
        let Hour { date, second, of_month } = *hour;
        (self.from <= date)
            & (date <= self.until)
            & (self.start <= second)
            & (second < self.end)
            & (self.month_days & of_month != 0)
    }
}

/// Windows that are looked at together.
pub(super) const TOGETHER: usize = 8;

/// Some windows, field by field: all of them are held against a sale at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    from: i32x8,
    until: i32x8,
    start: i32x8,
    end: i32x8,
    month_days: i32x8,
}

impl Windows {
    /// These, at most [`TOGETHER`]; the rest hold nothing.
    pub(super) fn of(windows: &[Window]) -> Windows {
        let field = |of: fn(&Window) -> i32| i32x8::new(std::array::from_fn(|at| windows.get(at).map_or(0, of)));
        Windows {
            from: field(|window| window.from),
            until: field(|window| window.until),
            start: field(|window| window.start),
            end: field(|window| window.end),
            month_days: field(|window| window.month_days),
        }
    }

    /// Asks for their memory: two fields lie in each line.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.from);
        prefetch(&self.start);
        prefetch(&self.month_days);
    }

    /// A bit for each: set if a sale lies in it.
    #[inline]
    pub(super) fn hold(&self, hour: &Hour) -> u32 {
        let [date, second, of_month] = [hour.date, hour.second, hour.of_month].map(i32x8::splat);
        let outside = self.from.simd_gt(date)
            | date.simd_gt(self.until)
            | self.start.simd_gt(second)
            | (self.month_days & of_month).simd_eq(i32x8::ZERO);
        (self.end.simd_gt(second) & !outside).to_bitmask()
    }
}

/// When a sale is made, as windows ask: its day of the month as a bit.
#[derive(Clone, Copy)]
pub(super) struct Hour {
    date: i32,
    second: i32,
    of_month: i32,
}

impl Hour {
    /// That of a sale.
    #[inline]
    pub(super) fn of(moment: &Moment) -> Hour {
        Hour { date: moment.date, second: moment.second, of_month: 1 << moment.month_day() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applies(when: &When, moment: &Moment) -> usize {
        assert!(when.is_ok());
        let windows: Vec<Window> = when.windows().collect();
        let hour = Hour::of(moment);
        let held = Windows::of(&windows).hold(&hour).count_ones();
        assert_eq!(held as usize, windows.iter().filter(|window| window.holds(&hour)).count());
        let missed = when.missed(moment);
        let others = missed.iter().filter(|&&condition| condition != Condition::Weekdays).count();
        assert_eq!(held == 1, others == 0);
        usize::from(missed.is_empty())
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
    }

    #[test]
    fn a_birthday_is_a_day_a_week_and_a_month() {
        let around = |birthday, date| Birthday::around(birthday, from_yyyymmdd(date).unwrap());
        assert_eq!([20260310, 20260309, 20260313, 20260314].map(|date| around(310, date)), [7, 6, 6, 4]);
        // Over the turn of a year, and of a month.
        assert_eq!([20251231, 20260102, 20260104].map(|date| around(101, date)), [2, 6, 6]);
        assert_eq!([20270228, 20280228, 20280229, 20270301].map(|date| around(229, date)), [7, 6, 7, 2]);
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
