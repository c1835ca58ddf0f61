//! The feed: entries of the journal as a stream, from any sequence on.
//!
//! The core reads on a thread of the blocking pool, a page at a time, and no further while the caller does not take what was read. A stream
//! that has nothing to tell says so once a second: so a caller that is gone is noticed, and one that must stop need not wait.

use std::time::Duration;

use onecard_core::feed::NO_CARD;
use onecard_core::{CardNumber, Code, Cursor, Engine, FeedRow};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::counter::{failed, internal};
use crate::rows::{posted_date, programme};
use crate::v1;
use crate::v1::feed_service_server::FeedService;

/// Most entries of a message.
const PAGE: usize = 4_096;
/// Messages that were read and not yet taken.
const PAGES_AHEAD: usize = 2;
/// How often a stream at its end looks for more: what wakes nobody costs the engine nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often it says that there is none.
const QUIET: Duration = Duration::from_secs(1);

/// The service of `feed.proto`.
pub struct Feeds {
    engine: Engine,
    /// Cancelled when the server drains.
    drain: CancellationToken,
}

impl Feeds {
    /// The service over an engine.
    pub fn new(engine: Engine, drain: CancellationToken) -> Feeds {
        Feeds { engine, drain }
    }
}

type Message = Result<v1::FeedResponse, Status>;

#[tonic::async_trait]
impl FeedService for Feeds {
    type FeedStream = ReceiverStream<Message>;

    async fn feed(&self, request: Request<v1::FeedRequest>) -> Result<Response<Self::FeedStream>, Status> {
        let v1::FeedRequest { programme: number, since, follow, limit } = *request.get_ref();
        let programme = programme(number, "programme")?.max(1);
        let (send, receive) = channel(PAGES_AHEAD);
        let left = if limit == 0 { u64::MAX } else { limit };
        let feeding = Feeding { engine: self.engine.clone(), programme, next: since.max(1), left, follow, send };
        let drain = self.drain.clone();
        tokio::spawn(async move {
            let send = feeding.send.clone();
            tokio::select! {
                () = feeding.run() => {}
                // Behind what was read already: a stream that ended without it would look as if there were no more.
                () = drain.cancelled() => drop(send.send(Err(Status::unavailable("server is draining, ask again"))).await),
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn list_cursors(&self, request: Request<v1::ListCursorsRequest>) -> Result<Response<v1::ListCursorsResponse>, Status> {
        let programme = programme(request.get_ref().programme, "programme")?.max(1);
        let engine = self.engine.clone();
        let asked = tokio::task::spawn_blocking(move || engine.cursors(programme)).await;
        let found = asked.map_err(|_| internal())?.map_err(|error| failed(&error))?;
        Ok(Response::new(v1::ListCursorsResponse {
            code: found.code.number().into(),
            open_date: posted_date(found.open_date),
            cursors: found.cursors.iter().map(cursor).collect(),
        }))
    }
}

fn cursor(&(trigger, at): &(u16, Cursor)) -> v1::Cursor {
    v1::Cursor { trigger: trigger.into(), sequence: at.sequence, card_index: at.card }
}

/// One stream.
struct Feeding {
    engine: Engine,
    programme: u16,
    next: u64,
    left: u64,
    follow: bool,
    send: Sender<Message>,
}

impl Feeding {
    async fn run(mut self) {
        loop {
            let message = self.page().await;
            let (more, ends) = match &message {
                Ok(page) => (!page.entries.is_empty() || self.next < self.engine.durable(), page.code != 0),
                Err(_) => (false, true),
            };
            let quiet = matches!(&message, Ok(page) if page.entries.is_empty());
            // Entries of others are passed over without a word.
            if (ends || !(quiet && more)) && self.send.send(message).await.is_err() {
                return;
            }
            if ends || self.left == 0 || !more && !self.follow {
                return;
            }
            if !more && !self.wait().await {
                return;
            }
        }
    }

    async fn page(&mut self) -> Message {
        let (engine, programme, since) = (self.engine.clone(), self.programme, self.next);
        let limit = usize::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        let read = tokio::task::spawn_blocking(move || {
            let feed = engine.feed(programme, since, limit)?;
            Ok((feed.code, feed.rows.iter().map(entry).collect::<Vec<_>>(), feed.next))
        });
        let (code, entries, next) = read.await.map_err(|_| internal())?.map_err(|error| failed(&error))?;
        self.next = next;
        self.left -= entries.len() as u64;
        Ok(v1::FeedResponse { code: Code::number(code).into(), entries, next })
    }

    /// Waits until there is more, or it is time to say that there is none; false if nobody listens any more.
    async fn wait(&self) -> bool {
        let quiet = Instant::now() + QUIET;
        while self.engine.durable() <= self.next && Instant::now() < quiet {
            if self.send.is_closed() || self.engine.check_open().is_err() {
                // Of an engine that stopped the next page tells.
                return !self.send.is_closed();
            }
            sleep(LOOK_AGAIN).await;
        }
        true
    }
}

fn entry(row: &FeedRow) -> v1::Entry {
    let number = CardNumber::new(row.card, row.card_digits);
    v1::Entry {
        sequence: row.sequence,
        kind: row.kind.into(),
        code: row.code.into(),
        card: number.map_or_else(String::new, |number| number.to_string()),
        card_index: (row.card_index != NO_CARD).then_some(row.card_index),
        product: row.product.into(),
        member: row.member,
        amount: row.amount,
        paid: row.paid,
        store: row.store,
        terminal: row.terminal,
        business_date: posted_date(row.business_date),
        value_date: posted_date(row.value_date),
        local_time: row.local_time,
        original: row.original,
        rules: row.rules,
        channel: row.channel.into(),
        status: row.status.into(),
    }
}
