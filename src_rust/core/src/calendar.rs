//! Business dates: days since 1970-01-01, apart from any clock.

use serde::{Deserialize, Serialize};

/// A key's date lies within this many business days, the open one included.
pub const WINDOW_DAYS: i32 = 7;

/// First and last date that can be written as YYYYMMDD with four digits of year.
const DATE_RANGE: std::ops::RangeInclusive<i32> = 0..=2_932_896;

/// The days of a programme: which is open, which were closed and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// The open business date.
    pub open: i32,
    /// First business date.
    first: i32,
    /// Sequence of each closed day's entry, from the first date on.
    closes: Vec<u64>,
}

impl Calendar {
    /// A calendar whose first business date is open.
    pub fn new(first: i32) -> Calendar {
        Calendar { open: first, first, closes: Vec::new() }
    }

    /// True if a key may carry this date.
    #[inline]
    pub fn in_window(&self, date: i32) -> bool {
        date <= self.open && date > self.open.saturating_sub(WINDOW_DAYS)
    }

    /// Sequence of the entry that closed this day.
    pub fn closed_by(&self, date: i32) -> Option<u64> {
        self.closes.get(usize::try_from(date.checked_sub(self.first)?).ok()?).copied()
    }

    /// The date that was open when the entry with this sequence was made.
    pub fn open_at(&self, sequence: u64) -> i32 {
        self.first + self.closes.partition_point(|&close| close < sequence) as i32
    }

    /// Ends the open day.
    pub fn close(&mut self, sequence: u64) {
        self.closes.push(sequence);
        self.open += 1;
    }
}

/// True for dates that can be written.
pub fn is_date(date: i32) -> bool {
    DATE_RANGE.contains(&date)
}

/// Days since 1970-01-01 of a date written as YYYYMMDD; None if there is no such day.
///
/// The civil calendar's rule, counted in eras of 400 years from 1 March, so that the leap day comes last.
pub fn from_yyyymmdd(text: u32) -> Option<i32> {
    let (year, month, day) = ((text / 10_000) as i32, (text / 100 % 100) as i32, (text % 100) as i32);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (march_year / 400, march_year % 400);
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let date = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    (to_yyyymmdd(date) == text).then_some(date)
}

/// A date as YYYYMMDD; 0 for what is no date.
pub fn to_yyyymmdd(date: i32) -> u32 {
    if !is_date(date) {
        return 0;
    }
    let Civil { march_year, march_month, day } = Civil::of(date);
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = march_year + i32::from(month <= 2);
    (year * 10_000 + month * 100 + day + 1) as u32
}

/// A date in the years and months that begin with March, both from 0; so is the day of the month.
struct Civil {
    march_year: i32,
    march_month: i32,
    day: i32,
}

impl Civil {
    /// By Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms" (2023), figure 12: every
    /// division but two is a multiplication. The date is one that can be written.
    #[inline]
    fn of(date: i32) -> Civil {
        let days = 4 * (date.unsigned_abs() + 719_468) + 3;
        let (century, of_century) = (days / 146_097, (days % 146_097) | 3);
        let scaled = 2_939_745 * u64::from(of_century);
        let (year_of_century, day_of_year) = ((scaled >> 32) as u32, scaled as u32 / 2_939_745 / 4);
        let month = 2_141 * day_of_year + 197_913;
        Civil {
            march_year: (100 * century + year_of_century) as i32,
            march_month: (month >> 16) as i32 - 3,
            day: (month % 65_536 / 2_141) as i32,
        }
    }

    /// Days of its month.
    #[inline]
    fn days(&self) -> i32 {
        // February is the last, and has a leap day if the year in which it ends has one.
        let year = self.march_year + 1;
        let leaps = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0));
        let february = 28 + i32::from(leaps);
        let others = (153 * (self.march_month + 1) + 2) / 5 - (153 * self.march_month + 2) / 5;
        if self.march_month == 11 { february } else { others }
    }
}

/// The first day of the month after a date's; the next day for dates that cannot be written.
#[inline]
pub fn first_of_next_month(date: i32) -> i32 {
    if !is_date(date) {
        return date + 1;
    }
    let civil = Civil::of(date);
    let next = date + civil.days() - civil.day;
    if is_date(next) { next } else { date + 1 }
}

/// The first day of the year after a date's; the next day for dates that cannot be written.
pub fn first_of_next_year(date: i32) -> i32 {
    from_yyyymmdd((to_yyyymmdd(date) / 10_000 + 1) * 10_000 + 101).unwrap_or(date + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        assert_eq!(from_yyyymmdd(19700101), Some(0));
        assert_eq!(from_yyyymmdd(20000301), Some(11_017));
        assert_eq!(from_yyyymmdd(20230229), None);
        assert_eq!(from_yyyymmdd(20240230), None);
        let mut last = 0;
        for date in DATE_RANGE {
            let text = to_yyyymmdd(date);
            assert!(text > last);
            assert_eq!(from_yyyymmdd(text), Some(date));
            last = text;
        }
        assert_eq!(last, 99991231);
    }

    #[test]
    fn a_month_ends_before_the_first_of_the_next() {
        let mut next = *DATE_RANGE.end() + 1;
        for date in DATE_RANGE.rev() {
            let last_month = next > *DATE_RANGE.end();
            assert_eq!(first_of_next_month(date), if last_month { date + 1 } else { next });
            if to_yyyymmdd(date) % 100 == 1 {
                next = date;
            }
        }
    }

    #[test]
    fn the_window_is_the_open_day_and_six_before() {
        let mut calendar = Calendar::new(100);
        assert!(calendar.in_window(100) && calendar.in_window(94));
        assert!(!calendar.in_window(93) && !calendar.in_window(101));
        calendar.close(7);
        assert_eq!((calendar.open, calendar.closed_by(100), calendar.closed_by(101)), (101, Some(7), None));
        calendar.close(9);
        assert_eq!([6, 8, 10].map(|sequence| calendar.open_at(sequence)), [100, 101, 102]);
    }
}
