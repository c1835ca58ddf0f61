//! Following the journal: what is durable, read on the caller's thread a block at a time; the writer is asked for nothing but cards.

use std::time::{Duration, Instant};

use crate::codes::Code;
use crate::commands::Cursors;
use crate::error::Error;
use crate::feed::{ENTRIES_MAX, Feed, FeedRow, LOOKED_UP, ROWS_MAX};
use crate::journal::entry::{Entry, Transaction};
use crate::journal::{Block, JournalError};
use crate::pipeline::{Engine, Job, Shared};

/// A wait looks this often whether the engine was closed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Entries of a programme from the sequence `since` on, as many as `limit` and [`ROWS_MAX`]; none that is not durable. There may
    /// be none although there are more: `next` says how far it looked.
    pub fn feed(&self, programme: u16, since: u64, limit: usize) -> Result<Feed, Error> {
        self.check_open()?;
        let since = since.max(1);
        let end = self.shared.durable().min(since.saturating_add(ENTRIES_MAX));
        let mut page = Page { programme: programme.max(1), limit: limit.min(ROWS_MAX), rows: Vec::new(), next: since, end };
        if since < end && page.limit > 0 {
            let mut entry = Entry::Transaction(Transaction::blank());
            self.journal()?.walk(since, &mut |block| page.read(&block, &mut entry))?;
        }
        let Page { programme, rows, next, .. } = page;
        let mut feed = Feed { code: Code::Approved, rows: Vec::with_capacity(rows.len()), next };
        let mut parts = rows.chunks(LOOKED_UP).map(<[FeedRow]>::to_vec);
        // Without rows it is asked for the programme's sake.
        let mut part = Some(parts.next().unwrap_or_default());
        while let Some(rows) = part {
            let (code, rows) = self.call(|reply| Job::Feed(programme, rows, reply))?;
            feed.code = code;
            feed.rows.extend(rows);
            part = parts.next();
        }
        Ok(feed)
    }

    /// Where the triggers of a programme are, and its open date.
    pub fn cursors(&self, programme: u16) -> Result<Cursors, Error> {
        self.call(|reply| Job::Cursors(programme.max(1), reply))
    }

    /// The sequence of the entry that is made durable next.
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// Waits until the entry with this sequence is durable; false if the time was over before.
    pub fn wait_for(&self, sequence: u64, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            self.check_open()?;
            let left = deadline.map_or(LOOK_AGAIN, |deadline| deadline.saturating_duration_since(Instant::now()));
            if self.shared.wait_moved(sequence, left.min(LOOK_AGAIN)) {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }
}

impl Shared {
    /// Waits a while until the entry with this sequence is durable; true if it is.
    fn wait_moved(&self, sequence: u64, timeout: Duration) -> bool {
        let guard = self.moved.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let waits = |_: &mut ()| self.durable() <= sequence && self.poison.get().is_none();
        drop(self.moved.1.wait_timeout_while(guard, timeout, waits));
        self.durable() > sequence
    }
}

/// Rows on their way out of the journal.
struct Page {
    programme: u16,
    limit: usize,
    rows: Vec<FeedRow>,
    next: u64,
    end: u64,
}

impl Page {
    /// Takes the entries of a block; false when it has enough.
    fn read(&mut self, block: &Block<'_>, entry: &mut Entry) -> Result<bool, JournalError> {
        let end = block.end().min(self.end);
        while self.next < end {
            block.read_entry(self.next, entry)?;
            self.rows.extend(FeedRow::of(entry, self.next, self.programme));
            self.next += 1;
            if self.rows.len() == self.limit {
                return Ok(false);
            }
        }
        Ok(self.next < self.end)
    }
}
