//! What is done behind: the sweep of a day's growth and the checkpoint passes, in bounded pieces between jobs, and the wait for passes that
//! cannot follow the rows.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::{ENTRY_BYTES_MAX, Writer};
use crate::cards::CardRecord;
use crate::checkpoint::{Copying, Step};
use crate::error::Error;
use crate::keys::{Discarded, Recent, Segment};
use crate::pipeline::pace::rows_wait;
use crate::storage::StorageError;

/// Cards that the sweep lets grow at once, between two jobs.
const SWEEP_CARDS: usize = 16_384;
/// While rows come, the sweep rests for so many times as long as each such piece took: whoever brings and carries them away needs the
/// processors, too.
const SWEEP_REST: u32 = 3;
/// Rows for each of which a step of a pass is copied.
const STEP_ROWS: usize = 256;

/// What the checkpoint thread says of a pass.
pub(crate) type Written = Result<Vec<Segment>, StorageError>;

/// The writer's ends of the ways to and from the checkpoint thread.
pub(crate) struct Behind {
    pub(crate) steps: Sender<Step>,
    /// Room of chunks that are written.
    pub(crate) spare: Receiver<Vec<CardRecord>>,
    /// Room of keys that are written.
    pub(crate) spare_keys: Receiver<Recent>,
    pub(crate) written: Receiver<Written>,
}

/// Where the checkpoint passes are.
pub(super) enum Pass {
    Idle,
    Copying {
        copying: Copying,
        held: Option<Step>,
        begin: u64,
    },
    Writing {
        begin: u64,
    },
    /// A pass failed. Later ones would stand on it: there are none until the engine is opened again.
    Failed(Error),
}

impl Writer {
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.pass, Pass::Copying { .. } | Pass::Writing { .. })
    }

    /// Rows that passes cannot follow are slowed down. Where passes have ended for good there is nothing to wait for.
    pub(super) fn wait_for_passes(&mut self, rows: usize) {
        let wait = rows_wait(rows, self.block.next() - self.checkpointed, self.options.checkpoint_entries);
        if !wait.is_zero() && !matches!(self.pass, Pass::Failed(_)) {
            self.waits_until = Some(Instant::now() + wait);
        }
    }

    pub(super) fn sweep(&mut self, programme: usize, cards: usize) {
        if let Some(entry) = self.machine.sweep(programme, cards, self.block.next()) {
            self.block.push(&entry);
        }
    }

    /// Does a bounded piece of what can wait; true if there was something to do.
    pub(super) fn work_behind(&mut self) -> Result<bool, Error> {
        if let Ok(written) = self.behind.written.try_recv() {
            self.end_pass(Some(written));
        }
        if let Some(programme) = self.machine.growing() {
            let merchants = self.machine.organisation.programmes[programme].merchants.len();
            if !self.has_room(ENTRY_BYTES_MAX * (merchants as u64 + 1)) {
                return Ok(false);
            }
            let start = Instant::now();
            if self.sweeps_from.is_some_and(|from| start < from) {
                return Ok(false);
            }
            self.sweep(programme, SWEEP_CARDS);
            let rows_came = std::mem::take(&mut self.rows_since) > 0;
            self.sweeps_from = rows_came.then(|| start + start.elapsed() * (1 + SWEEP_REST));
            return Ok(true);
        }
        // In proportion to what was executed since, so that under load a pass keeps up and a lone request waits for one step.
        let mut steps = 1 + std::mem::take(&mut self.rows_since) / STEP_ROWS;
        let mut worked = false;
        while steps > 0 && self.copy_behind() {
            worked = true;
            steps -= 1;
        }
        Ok(worked)
    }

    fn copy_behind(&mut self) -> bool {
        let next = self.block.next();
        let due = !self.next_pass_waiters.is_empty() || next - self.checkpointed >= self.options.checkpoint_entries;
        match &mut self.pass {
            Pass::Idle if due && self.block.is_empty() => {
                let rooms = self.behind.spare_keys.try_iter().collect();
                let (copying, discarded) = Copying::begin(&mut self.machine, &mut self.keys, rooms, next, self.checkpointed);
                self.discard(discarded);
                self.pass = Pass::Copying { copying, held: None, begin: next };
                self.pass_waiters.append(&mut self.next_pass_waiters);
                true
            }
            Pass::Copying { copying, held, begin } => {
                let room = || self.behind.spare.try_recv().unwrap_or_default();
                let Some(step) = held.take().or_else(|| copying.next(&self.machine, next, room)) else {
                    self.pass = Pass::Writing { begin: *begin };
                    return true;
                };
                match self.behind.steps.try_send(step) {
                    Ok(()) => true,
                    Err(TrySendError::Full(step)) => {
                        *held = Some(step);
                        false
                    }
                    Err(TrySendError::Disconnected(_)) => false,
                }
            }
            Pass::Failed(error) if !self.next_pass_waiters.is_empty() => {
                let error = error.clone();
                self.next_pass_waiters.drain(..).for_each(|reply| reply.give(Err(error.clone())));
                true
            }
            _ => false,
        }
    }

    /// Lets the checkpoint thread give memory back.
    pub(super) fn discard(&self, discarded: Discarded) {
        if !discarded.is_empty() {
            // Where there is no way to it, it is dropped here.
            let _ = self.behind.steps.try_send(Step::Discard(Box::new(discarded)));
        }
    }

    pub(super) fn end_pass(&mut self, written: Option<Written>) {
        let (Pass::Copying { begin, .. } | Pass::Writing { begin }) = self.pass else { return };
        let stopped = || self.shared.poisoned().unwrap_or(Error::Closed("the checkpoint thread ended".into()));
        let result = match written.map(|written| written.map_err(Error::from)).unwrap_or_else(|| Err(stopped())) {
            Ok(segments) => {
                let discarded = self.keys.adopt(segments);
                self.discard(discarded);
                self.checkpointed = begin;
                self.passes += 1;
                self.pass = Pass::Idle;
                self.waits_until = None;
                Ok(())
            }
            Err(error) => {
                self.pass = Pass::Failed(error.clone());
                self.waits_until = None;
                Err(error)
            }
        };
        self.pass_waiters.drain(..).for_each(|reply| reply.give(result.clone()));
    }
}
