//! What terminals call: unary transactions, and the stream that carries many.
//!
//! A unary call is one row at the counter, a message of the stream is one submit of all its rows. Nothing here waits for the disk:
//! the core calls back when what was asked is durable.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use onecard_core::{Answers, Batch, Engine, Error, Request as Row, Secrets};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, Streaming};

use crate::admin::{CODES_MAX, code_texts};
use crate::answers;
use crate::counter::{Asked, Counter, failed, submit, unknown};
use crate::rows::{Ask, Refusal, no_keys};
use crate::v1::terminal_service_server::TerminalService;
use crate::v1::{self, TransactRequest, TransactResponse};

/// Most transactions in a message of the stream.
const MESSAGE_TRANSACTIONS_MAX: usize = 1_000;
/// Most messages of a stream that wait for their answers; the next one is not read before the first is answered.
const MESSAGES_IN_FLIGHT_MAX: usize = 8;

/// The service of `terminal.proto`.
pub struct Terminals {
    engine: Engine,
    counter: Counter,
    /// Cancelled when the server drains.
    drain: CancellationToken,
}

impl Terminals {
    /// The service over an engine.
    pub fn new(engine: Engine, counter: Counter, drain: CancellationToken) -> Terminals {
        Terminals { engine, counter, drain }
    }

    /// Queues what a call asks for. The request is gone before the answer is waited for: what it holds is free for the next
    /// call while it is still in the cache.
    fn ask(&self, request: Request<impl Ask>) -> Result<Asked, Status> {
        let mut items = Vec::new();
        let row = request.get_ref().row(self.engine.secrets(), &mut items)?;
        Ok(self.counter.ask(row, &items))
    }
}

#[tonic::async_trait]
impl TerminalService for Terminals {
    async fn issue(&self, request: Request<v1::IssueRequest>) -> Result<Response<v1::IssueResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::IssueResponse { answer }))
    }

    async fn top_up(&self, request: Request<v1::TopUpRequest>) -> Result<Response<v1::TopUpResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::TopUpResponse { answer }))
    }

    async fn purchase(&self, request: Request<v1::PurchaseRequest>) -> Result<Response<v1::PurchaseResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::PurchaseResponse { answer }))
    }

    async fn refund(&self, request: Request<v1::RefundRequest>) -> Result<Response<v1::RefundResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::RefundResponse { answer }))
    }

    async fn reverse(&self, request: Request<v1::ReverseRequest>) -> Result<Response<v1::ReverseResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::ReverseResponse { answer }))
    }

    async fn get_balance(&self, request: Request<v1::GetBalanceRequest>) -> Result<Response<v1::GetBalanceResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::GetBalanceResponse { answer }))
    }

    async fn set_status(&self, request: Request<v1::SetStatusRequest>) -> Result<Response<v1::SetStatusResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::SetStatusResponse { answer }))
    }

    async fn fund(&self, request: Request<v1::FundRequest>) -> Result<Response<v1::FundResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::FundResponse { answer }))
    }

    async fn grant(&self, request: Request<v1::GrantRequest>) -> Result<Response<v1::GrantResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::GrantResponse { answer }))
    }

    async fn authorise(&self, request: Request<v1::AuthoriseRequest>) -> Result<Response<v1::AuthoriseResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::AuthoriseResponse { answer }))
    }

    async fn capture(&self, request: Request<v1::CaptureRequest>) -> Result<Response<v1::CaptureResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::CaptureResponse { answer }))
    }

    async fn void(&self, request: Request<v1::VoidRequest>) -> Result<Response<v1::VoidResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::VoidResponse { answer }))
    }

    async fn replace(&self, request: Request<v1::ReplaceRequest>) -> Result<Response<v1::ReplaceResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::ReplaceResponse { answer }))
    }

    async fn transfer(&self, request: Request<v1::TransferRequest>) -> Result<Response<v1::TransferResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::TransferResponse { answer }))
    }

    async fn set_holder(&self, request: Request<v1::SetHolderRequest>) -> Result<Response<v1::SetHolderResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::SetHolderResponse { answer }))
    }

    async fn bind_alias(&self, request: Request<v1::BindAliasRequest>) -> Result<Response<v1::BindAliasResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::BindAliasResponse { answer }))
    }

    async fn set_pin(&self, request: Request<v1::SetPinRequest>) -> Result<Response<v1::SetPinResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::SetPinResponse { answer }))
    }

    async fn close_card(&self, request: Request<v1::CloseCardRequest>) -> Result<Response<v1::CloseCardResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::CloseCardResponse { answer }))
    }

    async fn issue_codes(&self, request: Request<v1::IssueCodesRequest>) -> Result<Response<v1::IssueCodesResponse>, Status> {
        let v1::IssueCodesRequest { with_texts, count, unit, .. } = *request.get_ref();
        let programme = request.get_ref().header.as_ref().map_or(0, |header| header.programme);
        if with_texts {
            // Looked at first: what was let out cannot be taken back.
            if count > CODES_MAX.into() {
                return Err(Status::invalid_argument(
                    "with_texts: leave it out, or let out at most 100,000; ListCodes gives their texts",
                ));
            }
            self.engine.secrets().code(1, 0, 0).ok_or_else(no_keys)?;
        }
        let asked = self.ask(request)?;
        let answer = answer(asked).await?;
        let out = answer.as_ref().and_then(codes_out);
        let Some((first, count)) = out else { return Ok(Response::new(v1::IssueCodesResponse { answer, ..Default::default() })) };
        let texts = if with_texts { code_texts(&self.engine, programme, unit, first, count).await? } else { Vec::new() };
        Ok(Response::new(v1::IssueCodesResponse { answer, first, texts }))
    }

    async fn bulk_top_up(&self, request: Request<v1::BulkTopUpRequest>) -> Result<Response<v1::BulkTopUpResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::BulkTopUpResponse { answer }))
    }

    async fn set_tier(&self, request: Request<v1::SetTierRequest>) -> Result<Response<v1::SetTierResponse>, Status> {
        let answer = answer(self.ask(request)?).await?;
        Ok(Response::new(v1::SetTierResponse { answer }))
    }

    type TransactStream = Transactions;

    async fn transact(&self, request: Request<Streaming<TransactRequest>>) -> Result<Response<Transactions>, Status> {
        Ok(Response::new(Transactions {
            engine: self.engine.clone(),
            inbound: request.into_inner(),
            drained: Box::pin(self.drain.clone().cancelled_owned()),
            pending: VecDeque::with_capacity(MESSAGES_IN_FLIGHT_MAX),
            end: None,
        }))
    }
}

async fn answer(asked: Asked) -> Result<Option<v1::Answer>, Status> {
    let (row, parts) = asked.answer().await?;
    Ok(Some(answers::answer(&row, &parts)))
}

/// First serial, and how many came out.
fn codes_out(answer: &v1::Answer) -> Option<(u64, u32)> {
    let part = answer.parts.iter().find(|part| part.kind() == v1::PartKind::Codes)?;
    Some(((part.balance - part.amount + 1) as u64, u32::try_from(part.amount).ok()?))
}

/// The answers of one Transact stream.
///
/// Polled by whoever writes to the caller: while the caller does not read, nothing more is taken from it.
pub struct Transactions {
    engine: Engine,
    inbound: Streaming<TransactRequest>,
    drained: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Oldest first.
    pending: VecDeque<oneshot::Receiver<Result<Answers, Error>>>,
    /// Set once no more messages are taken: how the stream ends when all are answered.
    end: Option<Result<(), Status>>,
}

impl Transactions {
    /// Submits what has come in, up to the limit; notes the end of the stream, whoever ends it.
    fn take_messages(&mut self, context: &mut Context<'_>) {
        while self.end.is_none() && self.pending.len() < MESSAGES_IN_FLIGHT_MAX {
            if self.drained.as_mut().poll(context).is_ready() {
                self.end = Some(Err(Status::unavailable("server is draining, send again")));
                return;
            }
            match Pin::new(&mut self.inbound).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(status))) => self.end = Some(Err(status)),
                Poll::Ready(Some(Ok(message))) => match rows_of(&message, self.engine.secrets()) {
                    Ok(rows) => self.pending.push_back(submit(&self.engine, rows)),
                    Err(status) => self.end = Some(Err(status)),
                },
            }
        }
    }
}

impl Stream for Transactions {
    type Item = Result<TransactResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.take_messages(context);
        let Some(oldest) = this.pending.front_mut() else {
            return match &mut this.end {
                None => Poll::Pending,
                Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
            };
        };
        let Poll::Ready(received) = Pin::new(oldest).poll(context) else { return Poll::Pending };
        this.pending.pop_front();
        let outcome = received.map_or_else(|_| Err(unknown()), |outcome| outcome.map_err(|error| failed(&error)));
        let response = outcome.map(|answers| TransactResponse { answers: answers::answers(&answers) });
        if response.is_err() {
            this.pending.clear();
            this.end = Some(Ok(()));
        }
        Poll::Ready(Some(response))
    }
}

/// The rows of a message; a malformed transaction becomes a row that the core answers with 30.
fn rows_of(message: &TransactRequest, secrets: &Secrets) -> Result<Batch, Status> {
    if !(1..=MESSAGE_TRANSACTIONS_MAX).contains(&message.transactions.len()) {
        return Err(Status::invalid_argument("transactions: send 1 to 1,000 in a message"));
    }
    let mut batch = Batch { rows: Vec::with_capacity(message.transactions.len()), items: Vec::new() };
    let mut items = Vec::new();
    for transaction in &message.transactions {
        match transaction.row(secrets, &mut items) {
            Ok(row) => batch.push(row, &items),
            Err(Refusal::Malformed(_)) => batch.push(Row::default(), &[]),
            // Nobody's mistake but the server's: a 30 would send the caller looking for one of its own.
            Err(Refusal::NoKeys) => return Err(Refusal::NoKeys.into()),
        }
    }
    Ok(batch)
}
