"""Batches: numpy rows as the engine reads and writes them.

A batch is a one-dimensional structured array of dtype `REQUEST`; the answers come as `ANSWER`, row
for row. `issue`, `top_up`, `purchase` and so on build batches from columns, one function a kind: each
argument is one value for all rows or a column of them.

What a row has besides its fields are items, rows of dtype `ITEM`: `coupon`, `code`, `pass_`, `card`,
`pin`, `cash`, `staff`, `line`, `alias`, `number`, `member`, `new_pin` and `cursor` make them, `with_items`
puts them to their rows, and `Requests` is what comes of it. Answers are `Answers`: rows with the parts, of
dtype `PART`, that tell what happened to each lot.

Money counts minor units, points count 1/10,000, business dates are days since 1970-01-01 and local
times are seconds since midnight of the business date. A date may also be given as `datetime.date` or
`numpy.datetime64`. A key is a `trace` (with the terminal), or an `id`; the kinds that need a key refuse
to be built without one. What the engine itself checks is left to the engine (docs/transactions.md,
docs/card.md). No error here shows a PIN.
"""

import datetime
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from onecard import _core
from onecard.codes import Kind, Status

REQUEST = np.dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("channel", "u1"),
        ("card_digits", "u1"),
        ("programme", "<u2"),
        ("product", "<u2"),
        ("business_date", "<i4"),
        ("local_time", "<i4"),
        ("card", "<u8"),
        ("amount", "<i8"),
        ("terminal", "<u4"),
        ("trace", "<u4"),
        ("id_hi", "<u8"),
        ("id_lo", "<u8"),
        ("original", "<u8"),
        ("original_terminal", "<u4"),
        ("original_trace", "<u4"),
        ("original_id_hi", "<u8"),
        ("original_id_lo", "<u8"),
        ("original_date", "<i4"),
        ("expires", "<i4"),
        ("status", "u1"),
        ("reserved", "u1"),
        ("items", "<u2"),
        ("first_item", "<u4"),
    ]
)

ANSWER = np.dtype(
    [
        ("sequence", "<u8"),
        ("business_date", "<i4"),
        ("code", "<u2"),
        ("replayed", "u1"),
        ("kind", "u1"),
        *(
            (name, "<i8")
            for name in (
                "amount",
                "discount",
                "principal",
                "bonus",
                "offset",
                "points_earned",
                "points_spent",
                "shortfall_money",
                "shortfall_points",
                "principal_balance",
                "bonus_balance",
                "points_balance",
            )
        ),
        ("first_part", "<u4"),
        ("parts", "<u2"),
        ("reason", "u1"),
        ("tier", "u1"),
    ]
)

ITEM = np.dtype(
    [
        ("kind", "u1"),
        ("digits", "u1"),
        ("unit", "<u2"),
        ("number", "<u4"),
        ("amount", "<i8"),
        ("high", "<u8"),
        ("low", "<u8"),
    ]
)
"""What a row carries beyond its fields: docs/card.md."""

PART = np.dtype(
    [
        ("account", "u1"),
        ("reserved", "u1"),
        ("card", "<u2"),
        ("purse", "<u2"),
        ("reserved_too", "<u2"),
        ("begins", "<i4"),
        ("expires", "<i4"),
        ("amount", "<i8"),
        ("balance", "<i8"),
    ]
)
"""What an answer carries beyond its fields: docs/card.md."""

GROUP_MAX = 8192
"""Most rows of one group: what the engine executes and makes durable together."""

FLAG_USE_POINTS = 1
"""Flag of a purchase or an authorise: pay with points, too, as far as the rules allow."""
FLAG_ACCEPT_PARTIAL = 2
"""Flag of a purchase or an authorise: approve what there is, if there is not enough."""
FLAG_FINAL = 4
"""Flag of a capture: the hold ends, what is left of it is free."""
FLAG_FROM_CARD = 8
"""Flag of a grant: the card pays its price."""
FLAG_UNBIND = 16
"""Flag of a bind: the alias is taken off."""
FLAG_BY_OPERATOR = 32
"""Flag of a set PIN: an operator does it, and the old PIN is not asked for."""
FLAG_DRY_RUN = 64
"""Flag of a purchase or an authorise: it is answered as it would be, and nothing of it is kept."""

ITEM_COUPON, ITEM_CODE, ITEM_PASS, ITEM_CARD, ITEM_PIN, ITEM_CASH = range(1, 7)
ITEM_STAFF, ITEM_ALIAS, ITEM_NUMBER, ITEM_MEMBER, ITEM_NEW_PIN, ITEM_LINE = range(7, 13)
ITEM_CURSOR = 13

NOON = 43_200
"""Local time that is read when none is given, in seconds since midnight."""

Batch: TypeAlias = npt.NDArray[np.void]
Items: TypeAlias = npt.NDArray[np.void]
Parts: TypeAlias = npt.NDArray[np.void]
Day: TypeAlias = datetime.date | np.datetime64 | int
Days: TypeAlias = Day | Sequence[datetime.date] | npt.ArrayLike
Ids: TypeAlias = "int | bytes | uuid.UUID | tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]"
Cards: TypeAlias = "str | Sequence[str] | npt.NDArray[Any] | tuple[npt.ArrayLike, npt.ArrayLike]"

_EPOCH = datetime.date(1970, 1, 1)
_DIGITS_MIN, _DIGITS_MAX = 8, 19
_NO_ITEMS = np.zeros(0, ITEM)
_NO_PARTS = np.zeros(0, PART)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Rows with items: what the engine takes besides plain batches. `with_items` makes them."""

    rows: Batch
    """Rows of `REQUEST`; each says how many items it has, and where they begin."""
    items: Items
    """Rows of `ITEM`: those of all rows."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> "Requests":
        return Requests(self.rows[part], self.items)


class Answers(np.ndarray[Any, np.dtype[np.void]]):
    """Rows of `ANSWER` with their parts, read-only. A field of them, or a mask, is a plain array."""

    parts: Parts
    """Rows of `PART`: those of all answers."""

    def __new__(cls, rows: Batch, parts: Parts = _NO_PARTS) -> "Answers":
        answers = rows.view(cls)
        answers.parts = parts
        return answers

    def __array_finalize__(self, source: object) -> None:
        self.parts = source.parts if isinstance(source, Answers) else _NO_PARTS

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return found.view(np.ndarray) if isinstance(found, Answers) and found.dtype != ANSWER else found

    def parts_of(self, answer: int | np.void) -> Parts:
        """The parts of one answer, a row of these or its index."""
        row = self[answer] if isinstance(answer, (int, np.integer)) else answer
        first, count = int(row["first_part"]), int(row["parts"])
        if count and first + count > len(self.parts):
            raise ValueError("these answers have lost their parts: join answers with rows.joined")
        return self.parts[first : first + count]


def joined(answers: Sequence[Answers]) -> Answers:
    """Answers one after the other, with their parts."""
    if len(answers) == 1:
        return answers[0]
    rows = np.concatenate([one.view(np.ndarray) for one in answers] or [np.zeros(0, ANSWER)])
    at, base = 0, 0
    for one in answers:
        own = rows[at : at + len(one)]
        own["first_part"][own["parts"] != 0] += np.uint32(base)
        at, base = at + len(one), base + len(one.parts)
    return Answers(rows, np.concatenate([one.parts for one in answers] or [_NO_PARTS]))


def with_items(batch: Batch, items_per_row: Sequence[Sequence[Items]]) -> Requests:
    """The rows, each with its items: as many lists of items as there are rows.

    A PIN belongs to the further card that stands nearest before it, else to the request's card.
    """
    if len(items_per_row) != len(batch):
        raise ValueError(f"{len(batch)} rows need as many lists of items, not {len(items_per_row)}")
    own = [np.concatenate(items) if len(items) else _NO_ITEMS for items in items_per_row]
    counts = np.array([len(items) for items in own], np.int64)
    if counts.size and int(counts.max()) > 0xFFFF:
        raise ValueError("a row has at most 65,535 items, and the engine takes fewer (docs/card.md)")
    rows = batch.copy()
    rows["items"] = counts
    rows["first_item"] = np.where(counts, np.cumsum(counts) - counts, 0)
    return Requests(rows, np.concatenate([_NO_ITEMS, *own]))


def together(*parts: "Batch | Requests") -> Requests:
    """Rows of many kinds in one batch, in this order, each with the items that it has."""
    rows, items, base = [], [], 0
    for part in parts:
        own, its = (part.rows, part.items) if isinstance(part, Requests) else (part, _NO_ITEMS)
        own = own.copy()
        own["first_item"][own["items"] != 0] += np.uint32(base)
        base += len(its)
        rows.append(own)
        items.append(its)
    return Requests(np.concatenate([np.zeros(0, REQUEST), *rows]), np.concatenate([_NO_ITEMS, *items]))


def days(date: Day) -> int:
    """Days since 1970-01-01 of one date."""
    if isinstance(date, datetime.datetime):
        raise TypeError(f"a business date is a date, not a moment: pass {date.date()!r}")
    if isinstance(date, datetime.date):
        return (date - _EPOCH).days
    if isinstance(date, np.datetime64):
        return int(date.astype("datetime64[D]").astype(np.int64))
    return int(date)


def day(number: int) -> datetime.date:
    """Date of a number of days since 1970-01-01."""
    return _EPOCH + datetime.timedelta(days=int(number))


def days_column(dates: Days) -> npt.NDArray[np.int32]:
    """Days since 1970-01-01 of one date or a column of them."""
    if isinstance(dates, (datetime.date, np.datetime64, int)):
        return np.asarray(days(dates), np.int32)
    column = np.asarray(dates)
    if column.dtype == object or column.dtype.kind == "M":
        column = column.astype("datetime64[D]").astype(np.int64)
    return column.astype(np.int32, casting="same_kind")


def card_number(text: str) -> tuple[int, int]:
    """Value and number of digits of a card number; ValueError unless it has 8 to 19 digits."""
    if not (text.isascii() and text.isdigit() and _DIGITS_MIN <= len(text) <= _DIGITS_MAX):
        raise ValueError(
            f"card number {text!r}: write {_DIGITS_MIN} to {_DIGITS_MAX} digits and nothing else"
        )
    return int(text), len(text)


def card_text(value: int, digits: int) -> str:
    """Card number as it is printed: leading zeros count."""
    return f"{int(value):0{int(digits)}d}"


def card_columns(cards: Cards) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Values and digits of one card number or a column of them: text, or a pair (values, digits)."""
    if isinstance(cards, tuple) and len(cards) == 2 and not isinstance(cards[0], str):
        return np.asarray(cards[0], np.uint64), np.asarray(cards[1], np.uint8)
    texts = np.asarray(cards)
    if texts.dtype.kind not in "US":
        raise TypeError("card numbers are text, because leading zeros count; or pass a pair (values, digits)")
    try:
        texts = texts.astype(np.bytes_)  # other scripts' digits end here
    except UnicodeEncodeError as error:
        raise ValueError(f"card number {error.object!r}: write digits 0 to 9 and nothing else") from None
    digits = np.strings.str_len(texts)
    good = np.strings.isdigit(texts) & (digits >= _DIGITS_MIN) & (digits <= _DIGITS_MAX)
    if not good.all():
        card_number(texts[~good].flat[0].decode())  # says what is wrong with the first
    return texts.astype(np.uint64), digits.astype(np.uint8)


def id_parts(key: int | bytes | uuid.UUID) -> tuple[int, int]:
    """High and low half of a 128-bit id; ValueError unless it is 1 to 2^128-1 (16 bytes, big endian)."""
    if isinstance(key, uuid.UUID):
        key = key.int
    if isinstance(key, bytes):
        if len(key) != 16:
            raise ValueError(f"an id has 16 bytes, this one has {len(key)}")
        key = int.from_bytes(key, "big")
    if not 0 < key < 1 << 128:
        raise ValueError("an id is a number from 1 to 2^128-1")
    return key >> 64, key & 0xFFFF_FFFF_FFFF_FFFF


def random_ids(count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """High and low halves of `count` random 128-bit ids, from the system's generator."""
    halves = np.frombuffer(os.urandom(16 * count), "<u8").reshape(2, count).copy()
    halves[1] |= 1  # never 0, which is no id
    return halves[0], halves[1]


class Header(TypedDict, total=False):
    """What every request carries; see the module's docstring."""

    programme: npt.ArrayLike
    terminal: npt.ArrayLike
    business_date: Days
    trace: npt.ArrayLike
    id: Ids
    local_time: npt.ArrayLike
    channel: npt.ArrayLike


class Original(TypedDict, total=False):
    """Names a transaction: by `sequence`, or by its key (then with its date)."""

    sequence: npt.ArrayLike
    original_date: Days
    original_terminal: npt.ArrayLike
    original_trace: npt.ArrayLike
    original_id: Ids


class _Reversal(Header, Original):
    pass


# Kinds of requests. Where a card is None, an alias item names it.


def issue(
    card: Cards,
    product: npt.ArrayLike,
    *,
    expires: Days = 0,
    inactive: npt.ArrayLike = False,
    **header: Unpack[Header],
) -> Batch:
    """Issue cards of a product; `expires` is the last valid date, 0: never; `inactive`: not usable yet."""
    status = np.asarray(inactive, bool) * np.uint8(Status.NOT_ACTIVE_YET)
    columns = {"product": product, "expires": days_column(expires), "status": status}
    return _batch(Kind.ISSUE, _header(header) | _card(card) | columns)


def top_up(card: "Cards | None", amount: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Pay money in."""
    return _batch(Kind.TOP_UP, _header(header) | _card(card) | {"amount": amount})


def purchase(
    card: "Cards | None",
    amount: npt.ArrayLike,
    *,
    use_points: npt.ArrayLike = False,
    accept_partial: npt.ArrayLike = False,
    dry_run: bool = False,
    **header: Unpack[Header],
) -> Batch:
    """Buy for a list amount.

    `use_points`: pay with points, too, as far as the rules allow. `accept_partial`: approve what there is,
    if there is not enough (code 10). `dry_run`: the rows have no key, and are answered as they would be now,
    with the balances that each would leave by itself; nothing of them is kept.
    """
    flags = _sale_flags(use_points, accept_partial, dry_run)
    columns = {"amount": amount, "flags": flags}
    return _batch(Kind.PURCHASE, _header(header, keyed=not dry_run) | _card(card) | columns)


def refund(amount: npt.ArrayLike, **names: Unpack[_Reversal]) -> Batch:
    """Give back a part of what a purchase, a capture, a top-up or a grant paid."""
    return _batch(Kind.REFUND, _header(names) | _original(names) | {"amount": amount})


def reverse(**names: Unpack[_Reversal]) -> Batch:
    """Undo a transaction whose outcome is unknown."""
    return _batch(Kind.REVERSAL, _header(names) | _original(names))


def balance(card: "Cards | None", *, terminal: npt.ArrayLike, programme: npt.ArrayLike = 1) -> Batch:
    """Ask for the balances of cards; needs no key."""
    return _batch(Kind.BALANCE, _card(card) | {"terminal": terminal, "programme": programme})


def set_status(card: "Cards | None", status: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Activate, freeze or report lost or stolen (`onecard.codes.Status`, 1 to 4)."""
    return _batch(Kind.STATUS, _header(header) | _card(card) | {"status": status})


def fund(amount: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Move points (1/10,000) from the pool to the growth funding."""
    return _batch(Kind.FUND, _header(header) | {"amount": amount})


def grant(
    card: "Cards | None",
    bundle: npt.ArrayLike,
    count: npt.ArrayLike = 1,
    *,
    paid_by_card: npt.ArrayLike = False,
    **header: Unpack[Header],
) -> Batch:
    """Give, or sell, `count` times a bundle of the rules (1 to 1,000 times)."""
    columns = {"product": bundle, "amount": count, "flags": _flags((paid_by_card, FLAG_FROM_CARD))}
    return _batch(Kind.GRANT, _header(header) | _card(card) | columns)


def authorise(
    card: "Cards | None",
    amount: npt.ArrayLike,
    *,
    use_points: npt.ArrayLike = False,
    accept_partial: npt.ArrayLike = False,
    expires: Days = 0,
    dry_run: bool = False,
    **header: Unpack[Header],
) -> Batch:
    """Hold what a purchase would take, up to the last date `expires` (0: by the rules)."""
    flags = _sale_flags(use_points, accept_partial, dry_run)
    columns = {"amount": amount, "flags": flags, "expires": days_column(expires)}
    return _batch(Kind.AUTHORISE, _header(header, keyed=not dry_run) | _card(card) | columns)


def capture(amount: npt.ArrayLike, *, final: npt.ArrayLike = False, **names: Unpack[_Reversal]) -> Batch:
    """Take what an authorise holds, or a part of it; `final`: the rest is free."""
    columns = {"amount": amount, "flags": _flags((final, FLAG_FINAL))}
    return _batch(Kind.CAPTURE, _header(names) | _original(names) | columns)


def void(**names: Unpack[_Reversal]) -> Batch:
    """End a hold."""
    return _batch(Kind.VOID, _header(names) | _original(names))


def replace(card: "Cards | None", status: npt.ArrayLike = 0, **header: Unpack[Header]) -> Batch:
    """Give cards new numbers, each with one `number` item.

    `status` is what the old number is from now on: 0 exchanged, `Status.LOST` or `Status.STOLEN`.
    """
    return _batch(Kind.REPLACE, _header(header) | _card(card) | {"status": status})


def transfer(
    card: "Cards | None", purse: npt.ArrayLike, amount: npt.ArrayLike, **header: Unpack[Header]
) -> Batch:
    """Move an amount of a purse (1, 3 or a unit) to the card, from the card of its one `card` item."""
    return _batch(Kind.TRANSFER, _header(header) | _card(card) | {"product": purse, "amount": amount})


def set_holder(card: "Cards | None", **header: Unpack[Header]) -> Batch:
    """Say who holds cards, each with one `member` item."""
    return _batch(Kind.HOLDER, _header(header) | _card(card))


def bind(card: Cards, *, remove: npt.ArrayLike = False, **header: Unpack[Header]) -> Batch:
    """Let an alias lead to a card, or take it off, with one `alias` item; a `card` item names who has it."""
    return _batch(Kind.BIND, _header(header) | _card(card) | {"flags": _flags((remove, FLAG_UNBIND))})


def set_pin(card: "Cards | None", *, by_operator: npt.ArrayLike = False, **header: Unpack[Header]) -> Batch:
    """Set PINs, each with one `new_pin` item; an operator may leave it out, and unlocks the card."""
    flags = _flags((by_operator, FLAG_BY_OPERATOR))
    return _batch(Kind.SET_PIN, _header(header) | _card(card) | {"flags": flags})


def close_card(card: "Cards | None", **header: Unpack[Header]) -> Batch:
    """Pay the principal out and close cards for good."""
    return _batch(Kind.CLOSE, _header(header) | _card(card))


def issue_codes(
    unit: npt.ArrayLike, count: npt.ArrayLike, *, expires: Days = 0, **header: Unpack[Header]
) -> Batch:
    """Let coupons of a unit out as codes (1 to 10^7), good up to the last date `expires` (0: for ever)."""
    columns = {"product": unit, "amount": count, "expires": days_column(expires)}
    return _batch(Kind.ISSUE_CODES, _header(header) | columns)


def set_tier(card: "Cards | None", tier: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Set the tier of cards; 0: none."""
    return _batch(Kind.SET_TIER, _header(header) | _card(card) | {"product": tier})


def bulk_top_up(amount: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Top up the cards of the `card` items, all or none; `amount` is the sum of theirs."""
    return _batch(Kind.BULK_TOP_UP, _header(header) | {"amount": amount})


# Items


def coupon(unit: int, count: int = 1) -> Items:
    """So many coupons of a unit that are on the card (1 to 100)."""
    return _item(ITEM_COUPON, unit=unit, amount=count)


def code(text: str) -> Items:
    """A coupon code as it was printed; ValueError unless it is one."""
    unit, serial, mac = _core.parse_code(text)
    return _item(ITEM_CODE, unit=unit, low=serial, high=mac)


def pass_(unit: int, visits: int = 1) -> Items:
    """So many visits of a unit (1 to 100); of a unit of the kind `time`: 1."""
    return _item(ITEM_PASS, unit=unit, amount=visits)


def card(numbers: Cards, amount: npt.ArrayLike = 0) -> Items:
    """Further cards, each with its amount in a bulk top-up."""
    values, digits = card_columns(numbers)
    shape = np.broadcast_shapes((1,), values.shape, np.shape(amount))
    items = np.zeros(shape, ITEM)
    items["kind"] = ITEM_CARD
    items["low"], items["digits"], items["amount"] = values, digits, amount
    return items


def pin(digits: str) -> Items:
    """The PIN of the card before it, 4 to 12 digits; leading zeros count."""
    return _pin(ITEM_PIN, digits)


def new_pin(digits: str) -> Items:
    """The PIN to be set, 4 to 12 digits; leading zeros count."""
    return _pin(ITEM_NEW_PIN, digits)


def cash(amount: int) -> Items:
    """At most so much is paid in cash."""
    return _item(ITEM_CASH, amount=amount)


def staff(number: str) -> Items:
    """The staff card of who sells."""
    value, digits = card_number(number)
    return _item(ITEM_STAFF, low=value, digits=digits)


def line(amount: int, category: int = 0, goods: int = 0) -> Items:
    """A line of a basket: goods of a category of the rules (0: none), and their number (0: not said)."""
    return _item(ITEM_LINE, unit=category, amount=amount, low=goods)


def alias(kind: int, digest: int) -> Items:
    """An alias of a kind (1 to 255), by its keyed hash of 128 bits: `Engine.alias` makes it of the value."""
    return _item(ITEM_ALIAS, digits=kind, high=digest >> 64, low=digest & 0xFFFF_FFFF_FFFF_FFFF)


def number(new: str) -> Items:
    """The new number of a card that is replaced."""
    value, digits = card_number(new)
    return _item(ITEM_NUMBER, low=value, digits=digits)


def member(id: int, real_name_known: bool = False) -> Items:
    """Who holds the card: a member's id (0: nobody), and whether the real name is known."""
    return _item(ITEM_MEMBER, low=id, amount=int(real_name_known))


def cursor(trigger: npt.ArrayLike, sequence: npt.ArrayLike, card_index: npt.ArrayLike) -> Items:
    """Where triggers go with what they grant, one an item; each names the card that gets it."""
    columns = np.broadcast_arrays(np.atleast_1d(trigger), sequence, card_index)
    items = np.zeros(columns[0].shape, ITEM)
    items["kind"] = ITEM_CURSOR
    items["unit"], items["amount"], items["low"] = columns
    return items


def _item(kind: int, **fields: int) -> Items:
    items = np.zeros(1, ITEM)
    items["kind"] = kind
    for name, value in fields.items():
        items[name] = value  # OverflowError if it does not fit
    return items


def _pin(kind: int, digits: str) -> Items:
    if not (digits.isascii() and digits.isdigit() and 4 <= len(digits) <= 12):
        raise ValueError("a PIN has 4 to 12 digits and nothing else")
    return _item(kind, digits=len(digits), low=int(digits))


def _flags(*flags: tuple[npt.ArrayLike, int]) -> npt.NDArray[np.uint8]:
    """Sum of the flags that are set, row for row."""
    total = np.zeros((), np.uint8)
    for wanted, flag in flags:
        total = total | np.asarray(wanted, bool) * np.uint8(flag)
    return total


def _sale_flags(
    use_points: npt.ArrayLike, accept_partial: npt.ArrayLike, dry_run: bool
) -> npt.NDArray[np.uint8]:
    return _flags(
        (use_points, FLAG_USE_POINTS), (accept_partial, FLAG_ACCEPT_PARTIAL), (dry_run, FLAG_DRY_RUN)
    )


def _header(given: Header | _Reversal, *, keyed: bool = True) -> dict[str, npt.ArrayLike]:
    if "business_date" not in given or "terminal" not in given:
        raise TypeError("a request needs a terminal and a business_date")
    if not keyed and ("trace" in given or "id" in given):
        raise TypeError("a dry run has no key: leave trace and id out")
    if keyed and ("trace" in given) == ("id" in given):
        raise TypeError("a request has one key: pass either trace or id")
    return {
        "programme": given.get("programme", 1),
        "terminal": given["terminal"],
        "business_date": days_column(given["business_date"]),
        "local_time": given.get("local_time", NOON),
        "channel": given.get("channel", 0),
    } | (_id("id", given["id"]) if "id" in given else {"trace": given.get("trace", 0)})


def _original(given: _Reversal) -> dict[str, npt.ArrayLike]:
    if ("sequence" in given) == ("original_date" in given):
        raise TypeError(
            "name the original either by sequence or by its key: original_date with a trace or an id"
        )
    if "sequence" in given:
        return {"original": given["sequence"]}
    named: dict[str, npt.ArrayLike] = {"original_date": days_column(given["original_date"])}
    if ("original_trace" in given) == ("original_id" in given):
        raise TypeError("the original's key is either original_trace (with original_terminal) or original_id")
    if "original_id" in given:
        return named | _id("original_id", given["original_id"])
    if "original_terminal" not in given:
        raise TypeError("a trace names an original together with original_terminal")
    return named | {
        "original_terminal": given["original_terminal"],
        "original_trace": given["original_trace"],
    }


def _id(name: str, key: Ids) -> dict[str, npt.ArrayLike]:
    high, low = key if isinstance(key, tuple) else id_parts(key)
    # An explicit dtype: numpy would read a mix of small and large Python integers as floats.
    return {f"{name}_hi": np.asarray(high, np.uint64), f"{name}_lo": np.asarray(low, np.uint64)}


def _card(card: "Cards | None") -> dict[str, npt.ArrayLike]:
    if card is None:
        return {}
    values, digits = card_columns(card)
    return {"card": values, "card_digits": digits}


def _batch(kind: Kind, columns: dict[str, npt.ArrayLike]) -> Batch:
    """Rows as many as the longest column; columns of other lengths than that and 1 are a ValueError."""
    exact = {name: _exact(name, column) for name, column in columns.items()}
    shape = np.broadcast_shapes((1,), *(column.shape for column in exact.values()))
    if len(shape) != 1:
        raise ValueError("columns have one dimension")
    rows = np.zeros(shape, REQUEST)
    rows["kind"] = kind
    for name, column in exact.items():
        rows[name] = column
    return rows


def _exact(name: str, column: npt.ArrayLike) -> npt.NDArray[Any]:
    """The column in its field's type; OverflowError or TypeError if a value would change on the way."""
    values = np.asarray(column)
    field = REQUEST[name]
    if values.dtype == field:
        return values
    if not values.size:
        return np.zeros(values.shape, field)  # an empty list says nothing of its type
    if values.dtype.kind not in "iub":
        raise TypeError(f"{name}: integers are needed, not {values.dtype}")
    limits = np.iinfo(field)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        raise OverflowError(f"{name}: values must lie within {limits.min} to {limits.max}")
    return values.astype(field)
