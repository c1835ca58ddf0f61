"""A terminal's and head office's view of a served engine, over gRPC.

Every request has one key; when the caller gives none, the client makes a random 128-bit id before the
first attempt, so that each further attempt carries the same key and posts once. A call is tried again,
with growing pauses, while its outcome is unknown (UNAVAILABLE, DEADLINE_EXCEEDED). A refusal is an
`Answer` with a code; a malformed request is answered 30. `OutcomeUnknown` is raised when all attempts
are used up: it carries the request, to be sent again or reversed.

Money counts minor units, points count 1/10,000, units of the rules whole things. A card is named by its
number or by an `Alias`. PINs are text, because leading zeros count; no error and no repr shows one. A
`Client` may be used from many threads.
"""

import collections
import datetime
import itertools
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeAlias, TypedDict, TypeVar, Unpack

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from onecard import codes, feed
from onecard.explain import Condition, Explanation, Fate, Gift, Verdict
from onecard.feed import FeedBatch
from onecard.members import Holder, Member, from_message, to_message
from onecard.messages import (
    Alias,
    Answer,
    Authorise,
    BindAlias,
    BulkTopUp,
    Capture,
    Card,
    CloseCard,
    Coupon,
    Cursor,
    Fund,
    FurtherCard,
    GetBalance,
    Grant,
    Issue,
    IssueCodes,
    Key,
    Line,
    Part,
    Pass,
    Purchase,
    Refund,
    Replace,
    Request,
    Reverse,
    SetHolder,
    SetPin,
    SetStatus,
    SetTier,
    TopUp,
    Transfer,
    Void,
    answer_of,
    date_of,
    int_of,
    keyed,
    number_of,
    values_of,
)
from onecard.reports import (
    Cursors,
    DayReport,
    Growth,
    Liabilities,
    MerchantLiability,
    Positions,
    PublishedRules,
    RulesVersion,
    RulesVersions,
    Staff,
    StaffSales,
    Statement,
    StatementLine,
    StorePositions,
    TrialBalance,
)
from onecard.rules import Rules
from onecard.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    member_pb2,
    member_pb2_grpc,
    terminal_pb2,
    terminal_pb2_grpc,
    transaction_pb2,
)

__all__ = [
    "MESSAGE_MAX",
    "REGISTER_MAX",
    "Alias",
    "Answer",
    "Authorise",
    "BindAlias",
    "BulkTopUp",
    "CallFailed",
    "Capture",
    "Card",
    "Client",
    "CloseCard",
    "Coupon",
    "Cursor",
    "Fund",
    "FurtherCard",
    "GetBalance",
    "Grant",
    "Header",
    "Issue",
    "IssueCodes",
    "Key",
    "Line",
    "OutcomeUnknown",
    "Part",
    "Pass",
    "Purchase",
    "Refund",
    "Replace",
    "Request",
    "Reverse",
    "Sale",
    "SetHolder",
    "SetPin",
    "SetStatus",
    "SetTier",
    "TopUp",
    "Transfer",
    "Void",
]

MESSAGE_MAX = 1000
"""Most transactions of one message of a stream."""

REGISTER_MAX = 10_000
"""Most registrations of one call."""

_MESSAGES_IN_FLIGHT = 16
_PAUSE_MAX_S = 2.0
_UNKNOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

R = TypeVar("R")

Sale: TypeAlias = Purchase | Authorise | transaction_pb2.PurchaseRequest | transaction_pb2.AuthoriseRequest
"""What can be tried out."""


class CallFailed(Exception):
    """The server did not answer, and nothing is unknown: the message says why."""


class OutcomeUnknown(CallFailed):
    """All attempts failed without an answer: it may be posted or not.

    `request` carries the key: send it again, or reverse it.
    """

    def __init__(self, message: str, request: "Request | None" = None) -> None:
        super().__init__(message)
        self.request = request


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
        self._members = member_pb2_grpc.MemberServiceStub(self._channel)
        self._feeds = feed_pb2_grpc.FeedServiceStub(self._channel)
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
            Grant: self._terminals.Grant,
            Authorise: self._terminals.Authorise,
            Capture: self._terminals.Capture,
            Void: self._terminals.Void,
            Replace: self._terminals.Replace,
            Transfer: self._terminals.Transfer,
            SetHolder: self._terminals.SetHolder,
            BindAlias: self._terminals.BindAlias,
            SetPin: self._terminals.SetPin,
            CloseCard: self._terminals.CloseCard,
            IssueCodes: self._terminals.IssueCodes,
            BulkTopUp: self._terminals.BulkTopUp,
            SetTier: self._terminals.SetTier,
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
        self,
        card: str,
        product: int,
        *,
        expires: datetime.date | None = None,
        inactive: bool = False,
        **header: Unpack[Header],
    ) -> Answer:
        """Issue a card of a product; `expires` is its last valid date, `inactive`: it is activated later."""
        filled = self._filled(header)
        return self.send(Issue(card=card, product=product, expires=expires, inactive=inactive, **filled))

    def top_up(self, card: Card, amount: int, *, pin: str = "", **header: Unpack[Header]) -> Answer:
        """Pay money in."""
        return self.send(TopUp(card=card, amount=amount, pin=pin, **self._filled(header)))

    def purchase(
        self,
        card: Card,
        amount: int,
        *,
        use_points: bool = False,
        accept_partial: bool = False,
        coupons: Iterable[Coupon] = (),
        codes: Iterable[str] = (),
        passes: Iterable[Pass] = (),
        cards: Iterable[FurtherCard] = (),
        pin: str = "",
        cash: int = 0,
        staff: str = "",
        lines: Iterable[Line] = (),
        dry_run: bool = False,
        **header: Unpack[Header],
    ) -> Answer:
        """Buy for a list amount, paid by all that is named; see `Purchase`."""
        return self.send(
            Purchase(
                card=card,
                amount=amount,
                use_points=use_points,
                accept_partial=accept_partial,
                coupons=tuple(coupons),
                codes=tuple(codes),
                passes=tuple(passes),
                cards=tuple(cards),
                pin=pin,
                cash=cash,
                staff=staff,
                lines=tuple(lines),
                dry_run=dry_run,
                **self._filled(header),
            )
        )

    def refund(self, original: int | Key, amount: int, **header: Unpack[Header]) -> Answer:
        """Give back a part of what was paid; the original is named by its sequence or its key."""
        return self.send(Refund(original=original, amount=amount, **self._filled(header)))

    def reverse(self, original: int | Key, **header: Unpack[Header]) -> Answer:
        """Undo a transaction whose outcome is unknown; it is named by its sequence or its key."""
        return self.send(Reverse(original=original, **self._filled(header)))

    def balance(self, card: Card, *, programme: int | None = None, terminal: int | None = None) -> Answer:
        """A card's balances, in every state of the card."""
        return self.send(
            GetBalance(
                card=card,
                programme=self.programme if programme is None else programme,
                terminal=self.terminal if terminal is None else terminal,
            )
        )

    def set_status(self, card: Card, status: codes.Status, **header: Unpack[Header]) -> Answer:
        """Activate or freeze a card, or report it lost or stolen."""
        return self.send(SetStatus(card=card, status=status, **self._filled(header)))

    def fund(self, amount: int, **header: Unpack[Header]) -> Answer:
        """Move points (1/10,000) from the pool to the growth funding."""
        return self.send(Fund(amount=amount, **self._filled(header)))

    def grant(
        self,
        card: Card | Cursor,
        bundle: int,
        count: int = 1,
        *,
        paid_by_card: bool = False,
        pin: str = "",
        **header: Unpack[Header],
    ) -> Answer:
        """Give, or sell, `count` times a bundle of the rules."""
        filled = self._filled(header)
        return self.send(
            Grant(card=card, bundle=bundle, count=count, paid_by_card=paid_by_card, pin=pin, **filled)
        )

    def authorise(
        self,
        card: Card,
        amount: int,
        *,
        use_points: bool = False,
        accept_partial: bool = False,
        expires: datetime.date | None = None,
        coupons: Iterable[Coupon] = (),
        passes: Iterable[Pass] = (),
        pin: str = "",
        staff: str = "",
        lines: Iterable[Line] = (),
        dry_run: bool = False,
        **header: Unpack[Header],
    ) -> Answer:
        """Hold what a purchase would take, up to the last date `expires` (None: by the rules)."""
        return self.send(
            Authorise(
                card=card,
                amount=amount,
                use_points=use_points,
                accept_partial=accept_partial,
                expires=expires,
                coupons=tuple(coupons),
                passes=tuple(passes),
                pin=pin,
                staff=staff,
                lines=tuple(lines),
                dry_run=dry_run,
                **self._filled(header),
            )
        )

    def capture(
        self, original: int | Key, amount: int, *, final: bool = False, **header: Unpack[Header]
    ) -> Answer:
        """Take what an authorise holds, or a part of it; `final`: the rest is free."""
        return self.send(Capture(original=original, amount=amount, final=final, **self._filled(header)))

    def void(self, original: int | Key, **header: Unpack[Header]) -> Answer:
        """End a hold."""
        return self.send(Void(original=original, **self._filled(header)))

    def replace(
        self, card: Card, new_card: str, *, old: codes.Status | None = None, **header: Unpack[Header]
    ) -> Answer:
        """Give a card a new number; `old`: the old one is LOST, STOLEN or (None) exchanged."""
        return self.send(Replace(card=card, new_card=new_card, old=old, **self._filled(header)))

    def transfer(
        self,
        card: Card,
        source: FurtherCard | str,
        purse: int,
        amount: int,
        *,
        pin: str = "",
        **header: Unpack[Header],
    ) -> Answer:
        """Move an amount of a purse (1, 3 or a unit) from the card `source` to this one."""
        source = FurtherCard(source) if isinstance(source, str) else source
        filled = self._filled(header)
        return self.send(Transfer(card=card, source=source, purse=purse, amount=amount, pin=pin, **filled))

    def set_holder(
        self, card: Card, member: int, *, real_name_known: bool = False, **header: Unpack[Header]
    ) -> Answer:
        """Say who holds a card: a member's id, 0 for nobody."""
        filled = self._filled(header)
        return self.send(SetHolder(card=card, member=member, real_name_known=real_name_known, **filled))

    def bind_alias(
        self,
        card: str,
        alias: Alias,
        *,
        remove: bool = False,
        bound_to: FurtherCard | None = None,
        pin: str = "",
        **header: Unpack[Header],
    ) -> Answer:
        """Let an alias lead to a card, or take it off; `bound_to` is the card that has it now."""
        filled = self._filled(header)
        return self.send(
            BindAlias(card=card, alias=alias, remove=remove, bound_to=bound_to, pin=pin, **filled)
        )

    def set_pin(
        self,
        card: Card,
        new_pin: str = "",
        *,
        pin: str = "",
        by_operator: bool = False,
        **header: Unpack[Header],
    ) -> Answer:
        """Set a card's PIN; an operator needs no old one, and without a new one lets it be tried again."""
        filled = self._filled(header)
        return self.send(SetPin(card=card, new_pin=new_pin, pin=pin, by_operator=by_operator, **filled))

    def close_card(self, card: Card, **header: Unpack[Header]) -> Answer:
        """Pay the principal out and close the card for good."""
        return self.send(CloseCard(card=card, **self._filled(header)))

    def issue_codes(
        self, unit: int, count: int, *, expires: datetime.date | None = None, **header: Unpack[Header]
    ) -> Answer:
        """Let coupons of a unit out as codes; `codes` gives their texts."""
        return self.send(IssueCodes(unit=unit, count=count, expires=expires, **self._filled(header)))

    def bulk_top_up(self, cards: Iterable[tuple[str, int]], **header: Unpack[Header]) -> Answer:
        """Top up many cards, all or none: number and amount of each."""
        return self.send(BulkTopUp(cards=tuple(cards), **self._filled(header)))

    def set_tier(self, card: Card | Cursor, tier: int, **header: Unpack[Header]) -> Answer:
        """Set the tier of a card; 0: none."""
        return self.send(SetTier(card=card, tier=tier, **self._filled(header)))

    def send(self, request: Request) -> Answer:
        """Send one request until it is answered; OutcomeUnknown if it never is."""
        request = keyed(request)
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
        return answer_of(response.answer)

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
        date = number_of(business_date)
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

    def publish(self, rules: Rules, version: int | None = None) -> int:
        """Publish a version of the rules; the code.

        Without a version it is the next one, or the newest if that is the same text: publishing twice
        changes nothing. ValueError says what of the tables the engine does not take; of stores and merchants
        that are not registered a RulesError does.
        """
        if version is None:
            version = self.rules().number_for(rules.text)
        if rules.source.triggers:
            self.check_registered(rules)
        request = admin_pb2.PublishRulesRequest(
            programme=self.programme, version=version, text=rules.text, tables=rules.tables_json
        )
        found = self._retried(self._admin.PublishRules, request)
        if found.code == codes.Code.FORMAT_ERROR:
            self.check_registered(rules)
            raise ValueError(found.message)
        return int(found.code)

    def check_registered(self, rules: Rules) -> int:
        """RulesError names each store and merchant of the rules that is not registered; else the code."""
        found = self.positions()
        if found.code == 0:
            merchants = self.liabilities().merchants
            rules.check_registered(
                {store.store for store in found.stores}, {one.merchant for one in merchants}
            )
        return found.code

    def rules_versions(self) -> RulesVersions:
        """Versions of the rules that were published, oldest first."""
        found = self._retried(self._admin.ListRules, admin_pb2.ListRulesRequest(programme=self.programme))
        return RulesVersions(found.code, tuple(map(_rules_version, found.versions)))

    def rules(self, version: int = 0) -> PublishedRules:
        """A version of the rules with its text and tables; 0: the newest. The code is 25 if there is none."""
        request = admin_pb2.GetRulesRequest(programme=self.programme, version=version)
        found = self._retried(self._admin.GetRules, request)
        version_of = _rules_version(found.version) if found.HasField("version") else None
        return PublishedRules(found.code, version_of, found.text, found.tables)

    def explain(self, sale: int | Sale) -> Explanation:
        """Why a sale or a capture came to what it did: an entry, by its sequence, or one that is tried out.

        What is tried out needs no key, and nothing of it is kept, whether it says so or not.
        """
        request = admin_pb2.ExplainSaleRequest(programme=self.programme)
        if isinstance(sale, int):
            request.sequence = sale
        elif isinstance(sale, (Authorise, transaction_pb2.AuthoriseRequest)):
            request.authorise.CopyFrom(sale.message() if isinstance(sale, Authorise) else sale)
        else:
            request.purchase.CopyFrom(sale.message() if isinstance(sale, Purchase) else sale)
        return _explanation(self._retried(self._admin.ExplainSale, request))

    def close_day(self, business_date: datetime.date) -> DayReport:
        """Close the open business date; a date that was closed before is reported as it was then."""
        request = admin_pb2.CloseDayRequest(programme=self.programme, business_date=number_of(business_date))
        return _day_report(self._retried(self._admin.CloseDay, request))

    def statement(self, card: str, *, limit: int = 100, before: int = 0) -> Statement:
        """A card's newest entries, at most `limit`, before the sequence `before` (0: from the newest)."""
        request = admin_pb2.GetStatementRequest(
            programme=self.programme, card=card, limit=limit, before=before
        )
        found = self._retried(self._admin.GetStatement, request)
        return Statement(
            found.code, tuple(StatementLine(**values_of(StatementLine, line)) for line in found.lines)
        )

    def trial_balance(self) -> TrialBalance:
        """Totals of all accounts, and their sums, which are zero."""
        request = admin_pb2.GetTrialBalanceRequest(programme=self.programme)
        found = self._retried(self._admin.GetTrialBalance, request)
        totals = {total.account: int_of(total.total) for total in found.totals}
        units = {
            unit.unit: (int_of(unit.cards), int_of(unit.pool), int_of(unit.codes)) for unit in found.units
        }
        return TrialBalance(**(values_of(TrialBalance, found) | {"totals": totals, "units": units}))

    def positions(self) -> Positions:
        """Live positions of the stores."""
        request = admin_pb2.ListPositionsRequest(programme=self.programme)
        found = self._retried(self._admin.ListPositions, request)
        return Positions(found.code, _positions(found.stores))

    def liabilities(self) -> Liabilities:
        """Points (1/10,000) of the cards, by the merchant that issued them, and its newest growth."""
        request = admin_pb2.ListLiabilitiesRequest(programme=self.programme)
        found = self._retried(self._admin.ListLiabilities, request)
        merchants = tuple(MerchantLiability(**values_of(MerchantLiability, row)) for row in found.merchants)
        return Liabilities(found.code, date_of(found.growth_date), merchants)

    def staff(self) -> Staff:
        """What each member of staff sold."""
        found = self._retried(self._admin.ListStaff, admin_pb2.ListStaffRequest(programme=self.programme))
        return Staff(found.code, tuple(StaffSales(**values_of(StaffSales, row)) for row in found.staff))

    def codes(self, unit: int, first: int, count: int) -> list[str]:
        """Texts of so many coupon codes of a unit (1 to 100,000), from the serial `first` on."""
        request = admin_pb2.ListCodesRequest(programme=self.programme, unit=unit, first=first, count=count)
        return list(self._retried(self._admin.ListCodes, request).codes)

    # The feed

    def feed(self, since: int = 1, *, limit: int = feed.LIMIT) -> FeedBatch:
        """Entries from the sequence `since` on, at most `limit`."""
        batches = [FeedBatch(0, np.zeros(0, feed.ENTRY), since), *self._fed(since, follow=False, limit=limit)]
        entries = np.concatenate([batch.entries for batch in batches])
        return FeedBatch(batches[-1].code, entries, batches[-1].next)

    def follow(self, since: int = 1, *, to_end: bool = False) -> Generator[FeedBatch]:
        """Batches from a sequence on, without an end; one without entries says that there is none for now.

        Such a one comes at the end of what is there, and then every second; `to_end`: it is the last.
        """
        return self._fed(since, follow=not to_end)

    def cursors(self) -> Cursors:
        """Where the triggers are, and the open date."""
        request = feed_pb2.ListCursorsRequest(programme=self.programme)
        found = self._retried(self._feeds.ListCursors, request)
        at = {one.trigger: (one.sequence, one.card_index) for one in found.cursors}
        return Cursors(found.code, date_of(found.open_date), at)

    # Members

    def enrol(self, member: Member) -> int:
        """Add a member: 0, also if the same is there; 94 if the id was taken; 30; 58."""
        message = member_pb2.EnrolMemberRequest(programme=self.programme, member=to_message(member))
        return int(self._retried(self._members.EnrolMember, message).code)

    def update_member(self, member: Member) -> int:
        """Replace what is known of a member: 0; 25 if there is none; 30."""
        message = member_pb2.UpdateMemberRequest(programme=self.programme, member=to_message(member))
        return int(self._retried(self._members.UpdateMember, message).code)

    def member(self, id: int) -> Holder:
        """What is known of a member, and the numbers of the cards that it holds."""
        message = member_pb2.GetMemberRequest(programme=self.programme, id=id)
        found = self._retried(self._members.GetMember, message)
        return Holder(from_message(found.member) if found.HasField("member") else None, tuple(found.cards))

    def list_members(self, *, after: int = 0, limit: int = 100, tag: str = "") -> list[Member]:
        """Members by id, above `after`, at most `limit` and 1,000; with a tag those that have it."""
        message = member_pb2.ListMembersRequest(programme=self.programme, after=after, limit=limit, tag=tag)
        return [from_message(found) for found in self._retried(self._members.ListMembers, message).members]

    def erase_member(self, id: int) -> int:
        """Erase all that is known of a member; cards and entries stay with the id: 0; 25."""
        message = member_pb2.EraseMemberRequest(programme=self.programme, id=id)
        return int(self._retried(self._members.EraseMember, message).code)

    # Anything else

    def call(self, method: str, message: Any) -> Any:
        """The response to a message of `onecard.v1` by the name of its method, tried again like all others.

        `Transact` sends its message on a stream of its own, of `Feed` the first response is given.
        """
        if method == "Transact":
            return self._retried(self._transacted, message)
        if method == "Feed":
            return self._retried(self._first_fed, message)
        services = (self._terminals, self._admin, self._members, self._feeds)
        service = next(service for service in services if hasattr(service, method))
        return self._retried(getattr(service, method), message)

    def _transacted(self, message: terminal_pb2.TransactRequest, timeout: float) -> Any:
        return next(self._terminals.Transact(iter((message,)), timeout=timeout))

    def _first_fed(self, message: feed_pb2.FeedRequest, timeout: float) -> Any:
        return next(self._feeds.Feed(message, timeout=timeout))

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
                    yield from map(answer_of, response.answers)
            finally:
                queue.put(None)
                stream.cancel()

    def _fed(self, since: int, *, follow: bool, limit: int = 0) -> Generator[FeedBatch]:
        """Batches of a stream; one that breaks is begun anew where it broke."""
        attempt, left = 0, limit
        while left or not limit:
            request = feed_pb2.FeedRequest(programme=self.programme, since=since, follow=follow, limit=left)
            stream = self._feeds.Feed(request)
            try:
                for page in stream:
                    attempt = 0
                    entries = feed.entries_of(page.entries, self.programme)
                    since, left = page.next, max(left - len(entries), 0)
                    yield FeedBatch(page.code, entries, page.next)
                return
            except grpc.RpcError as error:
                attempt += 1
                self._failed(error, attempt)
            finally:
                stream.cancel()


def _messages(requests: Iterable[Request], size: int) -> Iterator[terminal_pb2.TransactRequest]:
    items = iter(requests)
    while part := list(itertools.islice(items, size)):
        yield terminal_pb2.TransactRequest(transactions=[_transaction(keyed(request)) for request in part])


def _transaction(request: Request) -> terminal_pb2.Transaction:
    transaction = terminal_pb2.Transaction()
    getattr(transaction, request.FIELD).CopyFrom(request.message())
    return transaction


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


def _explanation(found: admin_pb2.ExplainSaleResponse) -> Explanation:
    version = _rules_version(found.version) if found.HasField("version") else None
    answer = answer_of(found.answer) if found.HasField("answer") else None
    return Explanation(found.code, version, answer, tuple(map(_verdict, found.verdicts)), found.priced_by)


def _verdict(found: admin_pb2.Verdict) -> Verdict:
    return Verdict(
        Gift(found.gift),
        found.id,
        found.name,
        found.gives,
        Fate(found.fate),
        Condition(found.missed),
    )


def _rules_version(version: admin_pb2.RulesVersion) -> RulesVersion:
    return RulesVersion(**values_of(RulesVersion, version))


def _positions(stores: Iterable[admin_pb2.StorePosition]) -> StorePositions:
    return StorePositions(
        tuple(
            (
                store.store,
                int_of(store.sold),
                int_of(store.collected),
                int_of(store.net),
                int_of(store.due),
                int_of(store.fees),
            )
            for store in stores
        )
    )


def _day_report(found: admin_pb2.CloseDayResponse) -> DayReport:
    growth = Growth(**values_of(Growth, found.growth)) if found.HasField("growth") else None
    return DayReport(**(values_of(DayReport, found) | {"stores": _positions(found.stores), "growth": growth}))
