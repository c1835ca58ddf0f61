//! Coupons that are out as codes, on no card: which serials came out, how long they are good, and which were used.
//!
//! A serial is used once. Series are few and their state is a bit a serial: the checkpoint writes them whole.

use serde::{Deserialize, Serialize};

/// Codes that came out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Batch {
    first: u64,
    count: u32,
    /// Last date on which they are good; 0: for ever.
    expires: i32,
}

/// The codes of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// By first serial, without gaps, from 1 on.
    batches: Vec<Batch>,
    /// Bit of each serial that was used.
    used: Vec<u64>,
}

/// What is known of a serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// It never came out.
    Unknown,
    /// It was good until a day before this one.
    Expired,
    /// It was used.
    Used,
    /// It may be used.
    Good,
}

impl Series {
    /// The serial that comes out next.
    pub fn next(&self) -> u64 {
        self.batches.last().map_or(1, |batch| batch.first + u64::from(batch.count))
    }

    /// Notes that so many more came out.
    pub fn add(&mut self, first: u64, count: u32, expires: i32) {
        self.batches.push(Batch { first, count, expires });
        let words = (self.next() / 64) as usize + 1;
        self.used.resize(words.max(self.used.len()), 0);
    }

    /// What a serial is on this date.
    pub fn look_up(&self, serial: u64, date: i32) -> Serial {
        let after = self.batches.partition_point(|batch| batch.first <= serial);
        let Some(batch) = after.checked_sub(1).map(|at| self.batches[at]) else { return Serial::Unknown };
        if serial >= batch.first + u64::from(batch.count) {
            return Serial::Unknown;
        }
        if self.used[(serial / 64) as usize] >> (serial % 64) & 1 != 0 {
            return Serial::Used;
        }
        if batch.expires != 0 && batch.expires < date { Serial::Expired } else { Serial::Good }
    }

    /// Notes that a serial was used, or that it was not after all.
    pub fn set_used(&mut self, serial: u64, used: bool) {
        if let Some(word) = self.used.get_mut((serial / 64) as usize) {
            *word = *word & !(1 << (serial % 64)) | u64::from(used) << (serial % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_used_once() {
        let mut series = Series::default();
        series.add(series.next(), 100, 50);
        series.add(series.next(), 1, 0);
        assert_eq!(series.next(), 102);
        assert_eq!([0, 102].map(|serial| series.look_up(serial, 1)), [Serial::Unknown; 2]);
        assert_eq!([50, 51].map(|date| series.look_up(100, date)), [Serial::Good, Serial::Expired]);
        series.set_used(64, true);
        assert_eq!(
            [63, 64, 65, 101].map(|serial| series.look_up(serial, 50)),
            [Serial::Good, Serial::Used, Serial::Good, Serial::Good]
        );
        series.set_used(64, false);
        assert_eq!(series.look_up(64, 50), Serial::Good);
    }
}
