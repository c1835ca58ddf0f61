"""What a client asks and is answered, as plain, frozen records: one class a request, and `Answer`.

Each request knows how it is said in a message of `onecard.v1`. Money counts minor units, points count
1/10,000, units of the rules whole things. A card is named by its number or by an `Alias`. PINs are text,
because leading zeros count; no repr shows one.
"""

import datetime
import uuid
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from onecard import codes, rows
from onecard.v1 import admin_pb2, transaction_pb2


@dataclass(frozen=True, slots=True)
class Key:
    """What names a transaction besides its sequence: a date with a terminal's trace, or with an id."""

    business_date: datetime.date
    terminal: int = 0
    trace: int = 0
    id: bytes = b""


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a card: of kind 1 a phone number, of 2 to 255 what the business says."""

    kind: int
    value: str

    def message(self) -> transaction_pb2.Alias:
        """The alias as a message."""
        return transaction_pb2.Alias(kind=self.kind, value=self.value)


Card: TypeAlias = str | Alias
"""What names a card: its number, 8 to 19 digits, or an alias."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a trigger is: an entry of the feed, and the card to which it did something for it."""

    trigger: int
    sequence: int
    card_index: int

    def message(self) -> transaction_pb2.Cursor:
        """The cursor as a message."""
        return transaction_pb2.Cursor(
            trigger=self.trigger, sequence=self.sequence, card_index=self.card_index
        )


@dataclass(frozen=True, slots=True)
class Coupon:
    """Coupons of a unit that are on the card, 1 to 100 of them."""

    unit: int
    count: int = 1

    def message(self) -> transaction_pb2.Coupon:
        """The coupons as a message."""
        return transaction_pb2.Coupon(unit=self.unit, count=self.count)


@dataclass(frozen=True, slots=True)
class Pass:
    """Visits of a unit that are on the card, 1 to 100 of them; of a unit of the kind `time`: 1."""

    unit: int
    visits: int = 1

    def message(self) -> transaction_pb2.Pass:
        """The visits as a message."""
        return transaction_pb2.Pass(unit=self.unit, visits=self.visits)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a basket: goods, or all goods of a category together. All lines come to the list amount."""

    amount: int
    category: int = 0
    """A category of the rules; 0: none of them."""
    goods: int = 0
    """Number of the goods, for those who read the journal; 0: not said."""

    def message(self) -> transaction_pb2.Line:
        """The line as a message."""
        return transaction_pb2.Line(category=self.category, amount=self.amount, goods=self.goods)


@dataclass(frozen=True, slots=True)
class FurtherCard:
    """A card besides that of the request, by its number, and its PIN if one is given."""

    card: str
    pin: str = field(default="", repr=False)

    def message(self) -> transaction_pb2.FurtherCard:
        """The card as a message."""
        return transaction_pb2.FurtherCard(card=self.card, pin=self.pin)


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
            business_date=number_of(self.business_date),
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
    """Issue a card of a product; `expires` is its last valid date, `inactive`: it is activated later."""

    FIELD: ClassVar[str] = "issue"
    card: str
    product: int
    expires: datetime.date | None = None
    inactive: bool = False

    def message(self) -> transaction_pb2.IssueRequest:
        """The request as a message."""
        return transaction_pb2.IssueRequest(
            header=self._header(),
            card=self.card,
            product=self.product,
            expires=number_of(self.expires),
            inactive=self.inactive,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp(Request):
    """Pay money in."""

    FIELD: ClassVar[str] = "top_up"
    card: Card
    amount: int
    pin: str = field(default="", repr=False)

    def message(self) -> transaction_pb2.TopUpRequest:
        """The request as a message."""
        return transaction_pb2.TopUpRequest(
            header=self._header(),
            amount=self.amount,
            pin=self.pin,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase(Request):
    """Buy for a list amount, paid by all that is named (docs/card.md).

    `use_points`: pay with points, too, as far as the rules allow. `accept_partial`: approve what there is.
    `cash`: at most so much is paid in cash. `staff`: number of the staff card of who sells. `lines`: what is
    sold; their amounts come to the list amount. `dry_run`: it is answered as it would be now, and nothing of
    it is kept; it has no key.
    """

    FIELD: ClassVar[str] = "purchase"
    card: Card
    amount: int
    use_points: bool = False
    accept_partial: bool = False
    coupons: tuple[Coupon, ...] = ()
    codes: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()
    cards: tuple[FurtherCard, ...] = ()
    pin: str = field(default="", repr=False)
    cash: int = 0
    staff: str = ""
    lines: tuple[Line, ...] = ()
    dry_run: bool = False

    def message(self) -> transaction_pb2.PurchaseRequest:
        """The request as a message."""
        return transaction_pb2.PurchaseRequest(
            header=self._header(),
            amount=self.amount,
            use_points=self.use_points,
            accept_partial=self.accept_partial,
            coupons=[coupon.message() for coupon in self.coupons],
            codes=self.codes,
            passes=[one.message() for one in self.passes],
            cards=[card.message() for card in self.cards],
            pin=self.pin,
            cash=self.cash,
            staff=self.staff,
            lines=[line.message() for line in self.lines],
            dry_run=self.dry_run,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund(Request):
    """Give back a part of what a purchase, a capture, a top-up or a grant paid."""

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
    card: Card

    def message(self) -> transaction_pb2.GetBalanceRequest:
        """The request as a message."""
        return transaction_pb2.GetBalanceRequest(header=self._header(), **_named(self.card))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStatus(Request):
    """Activate or freeze a card, or report it lost or stolen."""

    FIELD: ClassVar[str] = "set_status"
    card: Card
    status: codes.Status

    def message(self) -> transaction_pb2.SetStatusRequest:
        """The request as a message."""
        status = transaction_pb2.CardStatus.ValueType(self.status)
        return transaction_pb2.SetStatusRequest(header=self._header(), status=status, **_named(self.card))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fund(Request):
    """Move points (1/10,000) from the pool to the growth funding."""

    FIELD: ClassVar[str] = "fund"
    amount: int

    def message(self) -> transaction_pb2.FundRequest:
        """The request as a message."""
        return transaction_pb2.FundRequest(header=self._header(), amount=self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Request):
    """Give, or sell, `count` times a bundle of the rules; a trigger names the card by its cursor."""

    FIELD: ClassVar[str] = "grant"
    card: Card | Cursor
    bundle: int
    count: int = 1
    paid_by_card: bool = False
    pin: str = field(default="", repr=False)

    def message(self) -> transaction_pb2.GrantRequest:
        """The request as a message."""
        return transaction_pb2.GrantRequest(
            header=self._header(),
            bundle=self.bundle,
            count=self.count,
            paid_by_card=self.paid_by_card,
            pin=self.pin,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorise(Request):
    """Hold what a purchase would take, up to the last date `expires` (None: by the rules)."""

    FIELD: ClassVar[str] = "authorise"
    card: Card
    amount: int
    use_points: bool = False
    accept_partial: bool = False
    expires: datetime.date | None = None
    coupons: tuple[Coupon, ...] = ()
    passes: tuple[Pass, ...] = ()
    pin: str = field(default="", repr=False)
    staff: str = ""
    lines: tuple[Line, ...] = ()
    dry_run: bool = False

    def message(self) -> transaction_pb2.AuthoriseRequest:
        """The request as a message."""
        return transaction_pb2.AuthoriseRequest(
            header=self._header(),
            amount=self.amount,
            use_points=self.use_points,
            accept_partial=self.accept_partial,
            expires=number_of(self.expires),
            coupons=[coupon.message() for coupon in self.coupons],
            passes=[one.message() for one in self.passes],
            pin=self.pin,
            staff=self.staff,
            lines=[line.message() for line in self.lines],
            dry_run=self.dry_run,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture(Request):
    """Take what an authorise holds, or a part of it; `final`: the rest is free."""

    FIELD: ClassVar[str] = "capture"
    original: int | Key
    amount: int
    final: bool = False

    def message(self) -> transaction_pb2.CaptureRequest:
        """The request as a message."""
        return transaction_pb2.CaptureRequest(
            header=self._header(),
            original=_original(self.original),
            amount=self.amount,
            final=self.final,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Void(Request):
    """End a hold."""

    FIELD: ClassVar[str] = "void"
    original: int | Key

    def message(self) -> transaction_pb2.VoidRequest:
        """The request as a message."""
        return transaction_pb2.VoidRequest(header=self._header(), original=_original(self.original))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace(Request):
    """Give a card a new number; `old`: the old one is LOST, STOLEN or (None) exchanged."""

    FIELD: ClassVar[str] = "replace"
    card: Card
    new_card: str
    old: codes.Status | None = None

    def message(self) -> transaction_pb2.ReplaceRequest:
        """The request as a message."""
        old = transaction_pb2.CardStatus.ValueType(self.old or 0)
        return transaction_pb2.ReplaceRequest(
            header=self._header(), new_card=self.new_card, old=old, **_named(self.card)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Request):
    """Move an amount of a purse (1, 3 or a unit) from the card `source` to this one."""

    FIELD: ClassVar[str] = "transfer"
    card: Card
    source: FurtherCard
    purse: int
    amount: int
    pin: str = field(default="", repr=False)

    def message(self) -> transaction_pb2.TransferRequest:
        """The request as a message."""
        return transaction_pb2.TransferRequest(
            header=self._header(),
            source=self.source.message(),
            purse=self.purse,
            amount=self.amount,
            pin=self.pin,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHolder(Request):
    """Say who holds a card: a member's id, 0 for nobody."""

    FIELD: ClassVar[str] = "set_holder"
    card: Card
    member: int
    real_name_known: bool = False

    def message(self) -> transaction_pb2.SetHolderRequest:
        """The request as a message."""
        return transaction_pb2.SetHolderRequest(
            header=self._header(),
            member=self.member,
            real_name_known=self.real_name_known,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BindAlias(Request):
    """Let an alias lead to a card, or take it off; `bound_to` is the card that has it now."""

    FIELD: ClassVar[str] = "bind_alias"
    card: str
    alias: Alias
    remove: bool = False
    bound_to: FurtherCard | None = None
    pin: str = field(default="", repr=False)

    def message(self) -> transaction_pb2.BindAliasRequest:
        """The request as a message."""
        return transaction_pb2.BindAliasRequest(
            header=self._header(),
            card=self.card,
            alias=self.alias.message(),
            remove=self.remove,
            bound_to=self.bound_to.message() if self.bound_to else None,
            pin=self.pin,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPin(Request):
    """Set a card's PIN; an operator needs no old one, and without a new one lets it be tried again."""

    FIELD: ClassVar[str] = "set_pin"
    card: Card
    new_pin: str = field(default="", repr=False)
    pin: str = field(default="", repr=False)
    by_operator: bool = False

    def message(self) -> transaction_pb2.SetPinRequest:
        """The request as a message."""
        return transaction_pb2.SetPinRequest(
            header=self._header(),
            new_pin=self.new_pin,
            pin=self.pin,
            by_operator=self.by_operator,
            **_named(self.card),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCard(Request):
    """Pay the principal out and close the card for good."""

    FIELD: ClassVar[str] = "close_card"
    card: Card

    def message(self) -> transaction_pb2.CloseCardRequest:
        """The request as a message."""
        return transaction_pb2.CloseCardRequest(header=self._header(), **_named(self.card))


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueCodes(Request):
    """Let coupons of a unit out as codes; `expires` is their last valid date."""

    FIELD: ClassVar[str] = "issue_codes"
    unit: int
    count: int
    expires: datetime.date | None = None

    def message(self) -> transaction_pb2.IssueCodesRequest:
        """The request as a message."""
        return transaction_pb2.IssueCodesRequest(
            header=self._header(),
            unit=self.unit,
            count=self.count,
            expires=number_of(self.expires),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkTopUp(Request):
    """Top up many cards, all or none: number and amount of each."""

    FIELD: ClassVar[str] = "bulk_top_up"
    cards: tuple[tuple[str, int], ...]

    def message(self) -> transaction_pb2.BulkTopUpRequest:
        """The request as a message."""
        cards = [transaction_pb2.BulkTopUpCard(card=card, amount=amount) for card, amount in self.cards]
        total = sum(amount for _, amount in self.cards)
        return transaction_pb2.BulkTopUpRequest(header=self._header(), amount=total, cards=cards)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTier(Request):
    """Set the tier of a card; 0: none. A trigger names the card by its cursor, and never lowers it."""

    FIELD: ClassVar[str] = "set_tier"
    card: Card | Cursor
    tier: int

    def message(self) -> transaction_pb2.SetTierRequest:
        """The request as a message."""
        return transaction_pb2.SetTierRequest(header=self._header(), tier=self.tier, **_named(self.card))


@dataclass(frozen=True, slots=True)
class Part:
    """What happened to one lot, or who paid money (docs/card.md)."""

    account: int
    """Account code: 1, 2, 3, 6 a card's purse; 33, 34 money that points or a unit paid; 17 cash; 16 what is
    left to pay; 18 a line of the basket: its category as purse, what is off it, its list amount as balance;
    0 a balance."""
    card: int = 0
    """0: the request's card; 1 and more: the further cards in their order."""
    purse: int = 0
    valid_from: datetime.date | None = None
    """First valid date of the lot; None: at once."""
    expires: datetime.date | None = None
    """Last valid date of the lot; None: never expires."""
    amount: int = 0
    balance: int = 0
    """The whole purse afterwards."""


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
    reason: int = 0
    """What the code alone does not say (`onecard.codes.Reason`)."""
    unpaid: int = 0
    """What is left to pay, of what was approved in part."""
    cash: int = 0
    """What was paid in cash; part of the amount."""
    parts: tuple[Part, ...] = ()
    kind: int = 0
    """What was asked (`onecard.codes.Kind`)."""
    tier: int = 0
    """Of a balance query the card's tier; else the tier that the card came to with it, 0: it came to none."""

    @property
    def approved(self) -> bool:
        """True if the code is 00: all of it; 10 says that something is left to pay."""
        return self.code == codes.Code.APPROVED

    @property
    def serials(self) -> range:
        """Serials of the coupon codes that came out (issue codes); `Client.codes` gives their texts."""
        for part in self.parts:
            if part.account == codes.Account.CODES:
                return range(part.balance - part.amount + 1, part.balance + 1)
        return range(0)


def keyed(request: Request) -> Request:
    """The request with a key: its own, or a random id; ValueError if it can have none, or has two."""
    if isinstance(request, GetBalance):
        return request
    if request.business_date is None:
        raise ValueError("business_date: pass the date that this business day has, the same in every retry")
    if isinstance(request, (Purchase, Authorise)) and request.dry_run:
        if request.trace or request.id:
            raise ValueError("a dry run has no key: leave trace and id out")
        return request
    if request.trace and request.id:
        raise ValueError("a request has one key: pass either trace or id")
    return request if request.trace or request.id else replace(request, id=uuid.uuid4().bytes)


def _named(card: Card | Cursor) -> dict[str, Any]:
    """The fields of a message that name a card."""
    if isinstance(card, Cursor):
        return {"cursor": card.message()}
    return {"alias": card.message()} if isinstance(card, Alias) else {"card": card}


def _original(original: int | Key) -> transaction_pb2.Original:
    if isinstance(original, int):
        return transaction_pb2.Original(sequence=original)
    key = transaction_pb2.OriginalKey(
        business_date=number_of(original.business_date), terminal=original.terminal
    )
    if original.trace:
        key.trace = original.trace
    else:
        key.id = original.id
    return transaction_pb2.Original(key=key)


def number_of(date: datetime.date | None) -> int:
    """A date as YYYYMMDD; 0 for none."""
    return date.year * 10_000 + date.month * 100 + date.day if date else 0


def date_of(number: int) -> datetime.date | None:
    """The date of YYYYMMDD; None of 0."""
    return datetime.date(number // 10_000, number // 100 % 100, number % 100) if number else None


def int_of(number: admin_pb2.Int128) -> int:
    """A number of 128 bits."""
    return (number.high << 64) + number.low


def values_of(record: Any, message: Any) -> dict[str, Any]:
    """The message's fields that the record has, too, with dates and wide integers as Python has them."""
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(record) if one.name in message.DESCRIPTOR.fields_by_name):
        value = getattr(message, name)
        if isinstance(value, admin_pb2.Int128):
            value = int_of(value)
        found[name] = date_of(value) if name.endswith("_date") else value
    return found


def answer_of_row(row: np.void, parts: rows.Parts) -> Answer:
    """The answer of an engine's row (`rows.ANSWER`) and its parts, as a client would be told."""
    told = {name: row[name].item() for name in row.dtype.names or ()}
    found = {one.name: told[one.name] for one in fields(Answer) if one.name in told and one.name != "parts"}
    own = tuple(_part_of_row(part) for part in parts)
    return Answer(
        **found
        | {
            "message": codes.text(told["code"]),
            "replayed": bool(told["replayed"]),
            "business_date": rows.day(told["business_date"]) if told["business_date"] else None,
            "unpaid": sum(part.amount for part in own if part.account == codes.Account.STORE_CLEARING),
            "cash": sum(part.amount for part in own if part.account == codes.Account.STORE_COLLECTION),
            "parts": own,
        }
    )


def _part_of_row(part: np.void) -> Part:
    begins, expires = int(part["begins"]), int(part["expires"])
    return Part(
        account=int(part["account"]),
        card=int(part["card"]),
        purse=int(part["purse"]),
        valid_from=rows.day(begins) if begins else None,
        expires=rows.day(expires) if expires else None,
        amount=int(part["amount"]),
        balance=int(part["balance"]),
    )


def answer_of(message: transaction_pb2.Answer) -> Answer:
    """The answer of a message."""
    found = values_of(Answer, message)
    return Answer(**(found | {"parts": tuple(map(_part, message.parts)) if message.parts else ()}))


def _part(message: transaction_pb2.Part) -> Part:
    balance = message.kind == transaction_pb2.PART_KIND_BALANCE
    return Part(
        account=0 if balance else int(message.kind),
        card=message.card,
        purse=message.purse,
        valid_from=date_of(message.valid_from),
        expires=date_of(message.expires),
        amount=message.amount,
        balance=message.balance,
    )
