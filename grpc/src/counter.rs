//! The counter: where single transactions queue up and are handed to the engine together.
//!
//! Waking another thread costs more than executing a swipe. So all that came in since the last look is one submit, and one
//! call back from the core wakes one task, which hands out the answers on the runtime's own thread. A lone transaction
//! waits for nobody: the queue is looked at as soon as those that have already arrived are in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onecard_core::{Answer, Answers, Batch, Engine, Error, Item, Part, Request as Row};
use tokio::sync::{Notify, oneshot};
use tonic::Status;

/// Most rows that the core takes at once.
const ROWS_MAX: usize = onecard_core::pipeline::ROWS_MAX;

/// What a call that failed in the engine is told.
pub fn failed(error: &Error) -> Status {
    match error {
        Error::Poisoned(_) | Error::Closed(_) => unknown(),
        _ => {
            // The cause may name paths: it is for the operator.
            eprintln!("onecard: a call failed: {error}");
            internal()
        }
    }
}

/// What a caller is told when something is broken.
pub fn internal() -> Status {
    Status::internal("the engine failed; what the server wrote to its standard error says why")
}

/// What a caller is told whose answer will never come.
pub fn unknown() -> Status {
    Status::unavailable("the engine has stopped and the outcome is unknown; send the same request again")
}

/// An answer with its parts, or why there is none.
pub type Outcome = Result<(Answer, Vec<Part>), Error>;

/// Submits rows; the receiver gets their answers when all that they saw is durable. Dropping it takes nothing back.
pub fn submit(engine: &Engine, batch: Batch) -> oneshot::Receiver<Result<Answers, Error>> {
    let (sender, receiver) = oneshot::channel();
    engine.submit(batch, move |outcome| drop(sender.send(outcome)));
    receiver
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    callers: Vec<oneshot::Sender<Outcome>>,
}

impl Queue {
    /// With room for as many as came last time: a load is steady.
    fn of_size(rows: usize) -> Queue {
        Queue { batch: Batch { rows: Vec::with_capacity(rows), items: Vec::new() }, callers: Vec::with_capacity(rows) }
    }
}

/// A row that is queued.
pub struct Asked(oneshot::Receiver<Outcome>);

impl Asked {
    /// Its answer, when it is durable.
    pub async fn answer(self) -> Result<(Answer, Vec<Part>), Status> {
        match self.0.await {
            Ok(outcome) => outcome.map_err(|error| failed(&error)),
            Err(_) => Err(unknown()),
        }
    }
}

/// Clones are handles of the same one.
#[derive(Clone, Default)]
pub struct Counter {
    queue: Arc<Mutex<Queue>>,
    arrived: Arc<Notify>,
}

impl Counter {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in between can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a row; [`Asked::answer`] waits. Whoever stops waiting does not take it back.
    pub fn ask(&self, row: Row, items: &[Item]) -> Asked {
        let (caller, answer) = oneshot::channel();
        let first = {
            let mut queue = self.queue();
            queue.batch.push(row, items);
            queue.callers.push(caller);
            queue.callers.len() == 1
        };
        if first {
            self.arrived.notify_one();
        }
        Asked(answer)
    }

    /// Hands what is queued to the engine, for ever.
    pub async fn serve(self, engine: Engine) {
        loop {
            self.arrived.notified().await;
            let Queue { batch, mut callers } = {
                let mut queue = self.queue();
                let next = Queue::of_size(queue.callers.len());
                std::mem::replace(&mut *queue, next)
            };
            for batch in batch.split(ROWS_MAX) {
                let rest = callers.split_off(batch.rows.len());
                tokio::spawn(hand_out(submit(&engine, batch), std::mem::replace(&mut callers, rest)));
            }
        }
    }
}

async fn hand_out(answers: oneshot::Receiver<Result<Answers, Error>>, callers: Vec<oneshot::Sender<Outcome>>) {
    match answers.await {
        Ok(Ok(answers)) => {
            for (caller, answer) in callers.into_iter().zip(&answers.rows) {
                let _ = caller.send(Ok((*answer, answers.parts_of(answer).to_vec())));
            }
        }
        Ok(Err(error)) => callers.into_iter().for_each(|caller| drop(caller.send(Err(error.clone())))),
        // Dropping the callers tells them.
        Err(_) => {}
    }
}
