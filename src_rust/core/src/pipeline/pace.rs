//! How fast the pass behind and the rows in front may be, so that neither leaves the other behind.
//!
//! A checkpoint pass that is in no hurry leaves disk and processor to the rows. Rows that come faster than passes can follow wait,
//! the longer the longer the tail: what recovery has to replay has a bound, and nothing ever stops at once.

use std::time::Duration;

/// For each moment of work a pass rests so many, at first.
const PASS_REST: u32 = 9;
/// At most at once: an engine that is closed waits for it.
const PASS_REST_MAX: Duration = Duration::from_millis(250);
/// A pass rests no more when so much of the entries came that make the next one due.
const HURRY: u64 = 8;
/// A row waits so long where the tail is half-way between where rows begin to wait and where it ends.
const ROW_WAIT: Duration = Duration::from_micros(1);
/// At most at once: whoever asks for something else stands in the same row.
const ROWS_WAIT_MAX: Duration = Duration::from_millis(250);
/// A tail of so few entries is replayed in no time, however often passes are asked for.
const TAIL_FREE: u64 = 65_536;

/// A pass since whose begin so many entries came is in a hurry.
pub(super) fn hurry_entries(checkpoint_entries: u64) -> u64 {
    checkpoint_entries / HURRY
}

/// How long a pass rests after work of so long, when so many entries came since it began: while nothing comes, nobody is in its way;
/// and the more have come, the more urgent is its end.
pub(super) fn pass_rest(took: Duration, entries: u64, checkpoint_entries: u64) -> Duration {
    let hurry_entries = hurry_entries(checkpoint_entries);
    if entries == 0 || entries >= hurry_entries {
        return Duration::ZERO;
    }
    let left = u128::from(hurry_entries - entries) * 1024 / u128::from(hurry_entries);
    let rest = took.as_micros() * u128::from(PASS_REST) * left / 1024;
    Duration::from_micros(u64::try_from(rest).unwrap_or(u64::MAX)).min(PASS_REST_MAX)
}

/// How long the next rows wait after so many were executed, when the tail is so long. Up to twice the entries that make a pass due
/// they do not, so that one pass may take as long as they take; from there each waits for longer, so that the tail hardly grows beyond three
/// times.
pub(super) fn rows_wait(rows: usize, tail: u64, checkpoint_entries: u64) -> Duration {
    let free = checkpoint_entries.saturating_mul(2).max(TAIL_FREE);
    let over = tail.saturating_sub(free);
    if over == 0 {
        return Duration::ZERO;
    }
    let left = checkpoint_entries.saturating_sub(over).max(1);
    let wait = (u128::from(over) * ROW_WAIT.as_nanos()).saturating_mul(rows as u128) / u128::from(left);
    Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)).min(ROWS_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_rests_the_less_the_more_has_come() {
        let work = Duration::from_millis(2);
        let rests = [1, 250, 500, 750, 999, 1000, u64::MAX].map(|entries| pass_rest(work, entries, 8000));
        assert!(rests.is_sorted_by(|less, more| less >= more) && rests[0] > 8 * work && rests[6].is_zero(), "{rests:?}");
        assert_eq!((pass_rest(work, 0, 8000), pass_rest(work, 5, 0)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(pass_rest(Duration::from_secs(60), 1, 8000), PASS_REST_MAX);
        assert_eq!(pass_rest(Duration::MAX, 1, u64::MAX), PASS_REST_MAX);
    }

    #[test]
    fn rows_wait_the_longer_the_longer_the_tail() {
        let wait = |tail| rows_wait(100, tail, 1_000_000);
        assert_eq!([0, 1_000_000, 2_000_000].map(wait), [Duration::ZERO; 3]);
        let waits = [2_000_001, 2_100_000, 2_500_000, 2_900_000, 2_999_000, 3_000_000, u64::MAX].map(wait);
        assert!(waits.is_sorted() && waits[0] < ROW_WAIT && waits[2] == 100 * ROW_WAIT, "{waits:?}");
        assert!(waits[5..].iter().all(|&wait| wait == ROWS_WAIT_MAX));
        // Where passes are hardly ever due nothing waits, nor where the tail is short.
        assert_eq!(rows_wait(8192, 1 << 50, 1 << 60), Duration::ZERO);
        assert_eq!((rows_wait(8192, 60_000, 0), rows_wait(8192, 60_000, 1)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(rows_wait(usize::MAX, u64::MAX, u64::MAX), Duration::ZERO);
        assert_eq!(rows_wait(usize::MAX, u64::MAX, u64::MAX / 4), ROWS_WAIT_MAX);
    }
}
