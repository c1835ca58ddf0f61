"""A terminal's and head office's view of a served engine, over gRPC.

Every request has one key; when the caller gives none, the client makes a random 128-bit id before the
first attempt, so that each further attempt carries the same key and posts once. A call is tried again,
with growing pauses, while its outcome is unknown (UNAVAILABLE, DEADLINE_EXCEEDED). A refusal is an
`Answer` with a code; a malformed request is answered 30. `OutcomeUnknown` is raised when all attempts
are used up: it carries the request, to be sent again or reversed.

Money counts minor units, points count 1/10,000. A `Client` may be used from many threads.
"""

import collections
import datetime
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias, TypedDict, TypeVar, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from onecard import codes
from onecard.reports import (
    DayReport,
    Growth,
    Liabilities,
    MerchantLiability,
    Positions,
    Statement,
    StatementLine,
    StorePositions,
    TrialBalance,
)
from onecard.rules import Rules
from onecard.v1 import admin_pb2, admin_pb2_grpc, terminal_pb2, terminal_pb2_grpc, transaction_pb2

MESSAGE_MAX = 1000
"""Most transactions of one message of a stream."""

REGISTER_MAX = 10_000
"""Most registrations of one call."""

_MESSAGES_IN_FLIGHT = 16
_PAUSE_MAX_S = 2.0
_UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

R = TypeVar("R")


class CallFailed(Exception):
    """The server did not answer, and nothing is unknown: the message says why."""


class OutcomeUnknown(CallFailed):
    """All attempts failed without an answer: it may be posted or not.

    `request` carries the key: send it again, or reverse it.
    """

    def __init__(self, message: str, request: "Request | None" = None) -> None:
        super().__init__(message)
        self.request = request


@dataclass(frozen=True, slots=True)
class Key:
    """What names a transaction besides its sequence: a date with a terminal's trace, or with an id."""

    business_date: datetime.date
    terminal: int = 0
    trace: int = 0
    id: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every request carries. One of trace and id; if there is neither, the client makes an id."""

    FIELD: ClassVar[str]
    """Name of the request in a stream's `Transaction`."""

    programme: int = 1
    terminal: int
    business_date: datetime.date | None = None
    trace: int = 0
    id: bytes = b""
    local_time: datetime.datetime | None = None
    channel: int = 0

    @property
    def key(self) -> Key:
        """The key by which this transaction can be named later; ValueError without a business date."""
        if self.business_date is None:
            raise ValueError("a request without a business date has no key")
        if self.trace:
            return Key(self.business_date, self.terminal, self.trace)
        return Key(self.business_date, id=self.id)

    def message(self) -> Any:
        """The request as a message of `onecard.v1`."""
        raise NotImplementedError

    def _header(self) -> transaction_pb2.Header:
        header = transaction_pb2.Header(
            programme=self.programme,
            terminal=self.terminal,
            business_date=_number(self.business_date),
            local_time=int(f"{self.local_time:%Y%m%d%H%M%S}") if self.local_time else 0,
            channel=self.channel,
        )
        if self.trace:
            header.trace = self.trace
        elif self.id:
            header.id = self.id
        return header


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue(Request):
    """Issue a card of a product; `expires` is its last valid date."""

    FIELD: ClassVar[str] = "issue"
    card: str
    product: int
    expires: datetime.date | None = None

    def message(self) -> transaction_pb2.IssueRequest:
        """The request as a message."""
        return transaction_pb2.IssueRequest(
            header=self._header(), card=self.card, product=self.product, expires=_number(self.expires)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp(Request):
    """Pay money in."""

    FIELD: ClassVar[str] = "top_up"
    card: str
    amount: int

    def message(self) -> transaction_pb2.TopUpRequest:
        """The request as a message."""
        return transaction_pb2.TopUpRequest(header=self._header(), card=self.card, amount=self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase(Request):
    """Buy for a list amount; `use_points`: pay with points, too, as far as the rules allow."""

    FIELD: ClassVar[str] = "purchase"
    card: str
    amount: int
    use_points: bool = False

    def message(self) -> transaction_pb2.PurchaseRequest:
        """The request as a message."""
        return transaction_pb2.PurchaseRequest(
            header=self._header(), card=self.card, amount=self.amount, use_points=self.use_points
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund(Request):
    """Give back a part of what a purchase paid."""

    FIELD: ClassVar[str] = "refund"
    original: int | Key
    amount: int

    def message(self) -> transaction_pb2.RefundRequest:
        """The request as a message."""
        return transaction_pb2.RefundRequest(
            header=self._header(), original=_original(self.original), amount=self.amount
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverse(Request):
    """Undo a transaction whose outcome is unknown."""

    FIELD: ClassVar[str] = "reverse"
    original: int | Key

    def message(self) -> transaction_pb2.ReverseRequest:
        """The request as a message."""
        return transaction_pb2.ReverseRequest(header=self._header(), original=_original(self.original))


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBalance(Request):
    """Ask for a card's balances; it has no key."""

    FIELD: ClassVar[str] = "get_balance"
    card: str

    def message(self) -> transaction_pb2.GetBalanceRequest:
        """The request as a message."""
        return transaction_pb2.GetBalanceRequest(header=self._header(), card=self.card)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStatus(Request):
    """Freeze or unfreeze a card."""

    FIELD: ClassVar[str] = "set_status"
    card: str
    status: codes.Status

    def message(self) -> transaction_pb2.SetStatusRequest:
        """The request as a message."""
        status = transaction_pb2.CardStatus.ValueType(self.status)
        return transaction_pb2.SetStatusRequest(header=self._header(), card=self.card, status=status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fund(Request):
    """Move points (1/10,000) from the pool to the growth funding."""

    FIELD: ClassVar[str] = "fund"
    amount: int

    def message(self) -> transaction_pb2.FundRequest:
        """The request as a message."""
        return transaction_pb2.FundRequest(header=self._header(), amount=self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Outcome, breakdown and balances of a transaction (docs/transactions.md)."""

    sequence: int = 0
    code: int = 0
    message: str = ""
    replayed: bool = False
    business_date: datetime.date | None = None
    amount: int = 0
    discount: int = 0
    principal: int = 0
    bonus: int = 0
    offset: int = 0
    points_earned: int = 0
    points_spent: int = 0
    shortfall_money: int = 0
    shortfall_points: int = 0
    principal_balance: int = 0
    bonus_balance: int = 0
    points_balance: int = 0

    @property
    def approved(self) -> bool:
        """True if the code is 00."""
        return self.code == codes.Code.APPROVED


class Header(TypedDict, total=False):
    """What may be said with every call; what is left out is the client's own, or made."""

    programme: int
    terminal: int
    business_date: datetime.date
    trace: int
    id: bytes
    local_time: datetime.datetime
    channel: int


Registration: TypeAlias = admin_pb2.Programme | admin_pb2.Merchant | admin_pb2.Store | admin_pb2.Terminal


class Client:
    """One channel to a served engine.

    `terminal` and `business_date` are for the calls that do not name their own; the date never changes by
    itself. A call may take `timeout_s` an attempt, and is attempted `attempts` times; the pause before
    the second attempt is about `pause_s`, and doubles up to two seconds.
    """

    def __init__(
        self,
        target: str,
        *,
        programme: int = 1,
        terminal: int = 0,
        business_date: datetime.date | None = None,
        timeout_s: float = 10.0,
        attempts: int = 8,
        pause_s: float = 0.05,
    ) -> None:
        if attempts < 1:
            raise ValueError("attempts: at least one is needed")
        self.programme = programme
        self.terminal = terminal
        self.business_date = business_date
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._pause_s = pause_s
        options = [
            ("grpc.max_receive_message_length", 256 << 20),  # reports of many stores are large messages
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        self._channel = grpc.insecure_channel(target, options=options)
        self._terminals = terminal_pb2_grpc.TerminalServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._calls: dict[type[Request], Callable[..., Any]] = {
            Issue: self._terminals.Issue,
            TopUp: self._terminals.TopUp,
            Purchase: self._terminals.Purchase,
            Refund: self._terminals.Refund,
            Reverse: self._terminals.Reverse,
            GetBalance: self._terminals.GetBalance,
            SetStatus: self._terminals.SetStatus,
            Fund: self._terminals.Fund,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()

    def ready(self, timeout_s: float = 1.0) -> bool:
        """True if the server says within the time that it is serving."""
        request = health_pb2.HealthCheckRequest()
        try:
            answer = self._health.Check(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    # Transactions

    def issue(
        self, card: str, product: int, *, expires: datetime.date | None = None, **header: Unpack[Header]
    ) -> Answer:
        """Issue a card of a product; `expires` is its last valid date."""
        return self.send(Issue(card=card, product=product, expires=expires, **self._filled(header)))

    def top_up(self, card: str, amount: int, **header: Unpack[Header]) -> Answer:
        """Pay money in."""
        return self.send(TopUp(card=card, amount=amount, **self._filled(header)))

    def purchase(
        self, card: str, amount: int, *, use_points: bool = False, **header: Unpack[Header]
    ) -> Answer:
        """Buy for a list amount; `use_points`: pay with points, too, as far as the rules allow."""
        return self.send(Purchase(card=card, amount=amount, use_points=use_points, **self._filled(header)))

    def refund(self, original: int | Key, amount: int, **header: Unpack[Header]) -> Answer:
        """Give back a part of what a purchase paid; it is named by its sequence or its key."""
        return self.send(Refund(original=original, amount=amount, **self._filled(header)))

    def reverse(self, original: int | Key, **header: Unpack[Header]) -> Answer:
        """Undo a transaction whose outcome is unknown; it is named by its sequence or its key."""
        return self.send(Reverse(original=original, **self._filled(header)))

    def balance(self, card: str, *, programme: int | None = None, terminal: int | None = None) -> Answer:
        """A card's balances, in every state of the card."""
        return self.send(
            GetBalance(
                card=card,
                programme=self.programme if programme is None else programme,
                terminal=self.terminal if terminal is None else terminal,
            )
        )

    def set_status(self, card: str, status: codes.Status, **header: Unpack[Header]) -> Answer:
        """Freeze or unfreeze a card."""
        return self.send(SetStatus(card=card, status=status, **self._filled(header)))

    def fund(self, amount: int, **header: Unpack[Header]) -> Answer:
        """Move points (1/10,000) from the pool to the growth funding."""
        return self.send(Fund(amount=amount, **self._filled(header)))

    def send(self, request: Request) -> Answer:
        """Send one request until it is answered; OutcomeUnknown if it never is."""
        request = _keyed(request)
        call = self._calls[type(request)]
        try:
            response = self._retried(call, request.message())
        except OutcomeUnknown as error:
            raise OutcomeUnknown(str(error), request) from error.__cause__
        except CallFailed as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.INVALID_ARGUMENT:
                return Answer(code=codes.Code.FORMAT_ERROR, message=cause.details() or "")
            raise
        return _answer(response.answer)

    def transact(self, requests: Iterable[Request], *, message_size: int = MESSAGE_MAX) -> Iterator[Answer]:
        """Answers of many requests over one stream, in their order; each request sees those before it.

        A message carries up to `message_size` requests (1 to 1,000); some messages are under way at a
        time. If the stream breaks, what was not answered is sent again with the same keys.
        """
        if not 1 <= message_size <= MESSAGE_MAX:
            raise ValueError(f"message_size: a message carries 1 to {MESSAGE_MAX} requests")
        return self._streamed(_messages(requests, message_size))

    # Head office

    def register(self, registrations: Iterable[Registration]) -> list[int]:
        """Register many, in order; one code each."""
        items = iter(registrations)
        found: list[int] = []
        while part := list(itertools.islice(items, REGISTER_MAX)):
            request = admin_pb2.RegisterRequest(registrations=[_registration(item) for item in part])
            found += self._retried(self._admin.Register, request).codes
        return found

    def register_programme(self, programme: int, name: str, business_date: datetime.date) -> int:
        """Register a programme with its first business date."""
        date = _number(business_date)
        return self.register([admin_pb2.Programme(programme=programme, name=name, business_date=date)])[0]

    def register_merchant(self, merchant: int, name: str) -> int:
        """Register a merchant."""
        return self.register([admin_pb2.Merchant(programme=self.programme, merchant=merchant, name=name)])[0]

    def register_store(self, store: int, merchant: int, name: str) -> int:
        """Register a store of a merchant."""
        named = admin_pb2.Store(programme=self.programme, store=store, merchant=merchant, name=name)
        return self.register([named])[0]

    def register_terminal(self, terminal: int, store: int) -> int:
        """Register a terminal of a store."""
        return self.register([admin_pb2.Terminal(programme=self.programme, terminal=terminal, store=store)])[
            0
        ]

    def publish(self, rules: Rules, version: int) -> int:
        """Publish a version of the rules; the code."""
        request = admin_pb2.PublishRulesRequest(
            programme=self.programme, version=version, text=rules.text, tables=rules.tables_json
        )
        return self._retried(self._admin.PublishRules, request).code

    def close_day(self, business_date: datetime.date) -> DayReport:
        """Close the open business date; a date that was closed before is reported as it was then."""
        request = admin_pb2.CloseDayRequest(programme=self.programme, business_date=_number(business_date))
        return _day_report(self._retried(self._admin.CloseDay, request))

    def statement(self, card: str, *, limit: int = 100, before: int = 0) -> Statement:
        """A card's newest entries, at most `limit`, before the sequence `before` (0: from the newest)."""
        request = admin_pb2.GetStatementRequest(
            programme=self.programme, card=card, limit=limit, before=before
        )
        found = self._retried(self._admin.GetStatement, request)
        return Statement(
            found.code, tuple(StatementLine(**_values(StatementLine, line)) for line in found.lines)
        )

    def trial_balance(self) -> TrialBalance:
        """Totals of all accounts, and their sums, which are zero."""
        request = admin_pb2.GetTrialBalanceRequest(programme=self.programme)
        found = self._retried(self._admin.GetTrialBalance, request)
        totals = {total.account: _int(total.total) for total in found.totals}
        return TrialBalance(**(_values(TrialBalance, found) | {"totals": totals}))

    def positions(self) -> Positions:
        """Live positions of the stores."""
        request = admin_pb2.ListPositionsRequest(programme=self.programme)
        found = self._retried(self._admin.ListPositions, request)
        return Positions(found.code, _positions(found.stores))

    def liabilities(self) -> Liabilities:
        """Points (1/10,000) of the cards, by the merchant that issued them, and its newest growth."""
        request = admin_pb2.ListLiabilitiesRequest(programme=self.programme)
        found = self._retried(self._admin.ListLiabilities, request)
        merchants = tuple(MerchantLiability(**_values(MerchantLiability, row)) for row in found.merchants)
        return Liabilities(found.code, _date(found.growth_date), merchants)

    # Attempts

    def _filled(self, header: Header) -> dict[str, Any]:
        own = {"programme": self.programme, "terminal": self.terminal, "business_date": self.business_date}
        return own | header

    def _retried(self, call: Callable[..., R], message: Any) -> R:
        for attempt in itertools.count(1):
            try:
                return call(message, timeout=self._timeout_s)
            except grpc.RpcError as error:
                self._failed(error, attempt)
        raise AssertionError("unreachable")

    def _failed(self, error: grpc.RpcError, attempt: int) -> None:
        """Pause before the next attempt, or raise: there is none, or it would be of no use."""
        what = f"{error.code().name}: {error.details()}"
        if error.code() not in _UNKNOWN:
            raise CallFailed(what) from error
        if attempt >= self._attempts:
            raise OutcomeUnknown(
                f"no answer after {attempt} attempts, the outcome is unknown ({what})"
            ) from error
        pause_s = min(self._pause_s * 2 ** (attempt - 1), _PAUSE_MAX_S)
        time.sleep(pause_s * random.uniform(0.5, 1.0))  # unevenly, so that clients do not come all at once

    def _streamed(self, messages: Iterator[terminal_pb2.TransactRequest]) -> Iterator[Answer]:
        waiting: collections.deque[terminal_pb2.TransactRequest] = collections.deque()
        attempt = 0
        while True:
            # The caller's requests are read in the caller's thread; gRPC's own thread reads the queue.
            queue: SimpleQueue[terminal_pb2.TransactRequest | None] = SimpleQueue()
            for message in waiting:
                queue.put(message)
            stream = self._terminals.Transact(iter(queue.get, None))
            try:
                while True:
                    for message in itertools.islice(messages, _MESSAGES_IN_FLIGHT - len(waiting)):
                        waiting.append(message)
                        queue.put(message)
                    if not waiting:
                        return
                    try:
                        response = next(stream)
                    except StopIteration:
                        raise CallFailed("the server ended the stream before all was answered") from None
                    except grpc.RpcError as error:
                        attempt += 1
                        self._failed(error, attempt)
                        break
                    waiting.popleft()
                    attempt = 0
                    yield from map(_answer, response.answers)
            finally:
                queue.put(None)
                stream.cancel()


def _messages(requests: Iterable[Request], size: int) -> Iterator[terminal_pb2.TransactRequest]:
    items = iter(requests)
    while part := list(itertools.islice(items, size)):
        yield terminal_pb2.TransactRequest(transactions=[_transaction(_keyed(request)) for request in part])


def _transaction(request: Request) -> terminal_pb2.Transaction:
    transaction = terminal_pb2.Transaction()
    getattr(transaction, request.FIELD).CopyFrom(request.message())
    return transaction


def _keyed(request: Request) -> Request:
    """The request with a key: its own, or a random id; ValueError if it can have none, or has two."""
    if isinstance(request, GetBalance):
        return request
    if request.business_date is None:
        raise ValueError("business_date: pass the date that this business day has, the same in every retry")
    if request.trace and request.id:
        raise ValueError("a request has one key: pass either trace or id")
    return request if request.trace or request.id else replace(request, id=uuid.uuid4().bytes)


def _original(original: int | Key) -> transaction_pb2.Original:
    if isinstance(original, int):
        return transaction_pb2.Original(sequence=original)
    key = transaction_pb2.OriginalKey(
        business_date=_number(original.business_date), terminal=original.terminal
    )
    if original.trace:
        key.trace = original.trace
    else:
        key.id = original.id
    return transaction_pb2.Original(key=key)


def _registration(item: Registration) -> admin_pb2.Registration:
    match item:
        case admin_pb2.Programme():
            return admin_pb2.Registration(programme=item)
        case admin_pb2.Merchant():
            return admin_pb2.Registration(merchant=item)
        case admin_pb2.Store():
            return admin_pb2.Registration(store=item)
        case _:
            return admin_pb2.Registration(terminal=item)


def _number(date: datetime.date | None) -> int:
    """YYYYMMDD; 0 for no date."""
    return date.year * 10_000 + date.month * 100 + date.day if date else 0


def _date(number: int) -> datetime.date | None:
    return datetime.date(number // 10_000, number // 100 % 100, number % 100) if number else None


def _int(number: admin_pb2.Int128) -> int:
    return (number.high << 64) + number.low


def _values(record: Any, message: Any) -> dict[str, Any]:
    """The message's fields that the record has, too, with dates and wide integers as Python has them."""
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(record) if field.name in message.DESCRIPTOR.fields_by_name):
        value = getattr(message, name)
        if isinstance(value, admin_pb2.Int128):
            value = _int(value)
        found[name] = _date(value) if name.endswith("_date") else value
    return found


def _answer(message: transaction_pb2.Answer) -> Answer:
    return Answer(**_values(Answer, message))


def _positions(stores: Iterable[admin_pb2.StorePosition]) -> StorePositions:
    return StorePositions(
        tuple(
            (store.store, _int(store.sold), _int(store.collected), _int(store.net), _int(store.due))
            for store in stores
        )
    )


def _day_report(found: admin_pb2.CloseDayResponse) -> DayReport:
    growth = Growth(**_values(Growth, found.growth)) if found.HasField("growth") else None
    return DayReport(**(_values(DayReport, found) | {"stores": _positions(found.stores), "growth": growth}))
