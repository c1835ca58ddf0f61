"""Batches: numpy rows as the engine reads and writes them.

A batch is a one-dimensional structured array of dtype `REQUEST`; the answers come as `ANSWER`, row
for row. `issue`, `top_up`, `purchase`, `refund`, `reverse`, `balance`, `set_status` and `fund` build
batches from columns: each argument is one value for all rows or a column of them.

Money counts minor units, points count 1/10,000, business dates are days since 1970-01-01 and local
times are seconds since midnight of the business date. A date may also be given as `datetime.date` or
`numpy.datetime64`. A key is a `trace` (with the terminal), or an `id`; the kinds that need a key refuse
to be built without one. What the engine itself checks is left to the engine (docs/transactions.md).
"""

import datetime
import os
import uuid
from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from onecard.codes import Kind

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
        ("reserved", "u1"),
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
"""Flag of a purchase: pay with points, too, as far as the rules allow."""

NOON = 43_200
"""Local time that is read when none is given, in seconds since midnight."""

Batch: TypeAlias = npt.NDArray[np.void]
Day: TypeAlias = datetime.date | np.datetime64 | int
Days: TypeAlias = Day | Sequence[datetime.date] | npt.ArrayLike
Ids: TypeAlias = "int | bytes | uuid.UUID | tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]"
Cards: TypeAlias = "str | Sequence[str] | npt.NDArray[Any] | tuple[npt.ArrayLike, npt.ArrayLike]"

_EPOCH = datetime.date(1970, 1, 1)
_DIGITS_MIN, _DIGITS_MAX = 8, 19


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


def issue(card: Cards, product: npt.ArrayLike, *, expires: Days = 0, **header: Unpack[Header]) -> Batch:
    """Issue cards of a product; `expires` is the last valid date, 0: never."""
    return _batch(
        Kind.ISSUE, _header(header) | _card(card) | {"product": product, "expires": days_column(expires)}
    )


def top_up(card: Cards, amount: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Pay money in."""
    return _batch(Kind.TOP_UP, _header(header) | _card(card) | {"amount": amount})


def purchase(
    card: Cards, amount: npt.ArrayLike, *, use_points: npt.ArrayLike = False, **header: Unpack[Header]
) -> Batch:
    """Buy for a list amount; `use_points`: pay with points, too, as far as the rules allow."""
    flags = np.asarray(use_points, bool) * np.uint8(FLAG_USE_POINTS)
    return _batch(Kind.PURCHASE, _header(header) | _card(card) | {"amount": amount, "flags": flags})


def refund(amount: npt.ArrayLike, **names: Unpack[_Reversal]) -> Batch:
    """Give back a part of what a purchase paid."""
    return _batch(Kind.REFUND, _header(names) | _original(names) | {"amount": amount})


def reverse(**names: Unpack[_Reversal]) -> Batch:
    """Undo a transaction whose outcome is unknown."""
    return _batch(Kind.REVERSAL, _header(names) | _original(names))


def balance(card: Cards, *, terminal: npt.ArrayLike, programme: npt.ArrayLike = 1) -> Batch:
    """Ask for the balances of cards; needs no key."""
    return _batch(Kind.BALANCE, _card(card) | {"terminal": terminal, "programme": programme})


def set_status(card: Cards, status: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Freeze or unfreeze cards (`onecard.codes.Status`)."""
    return _batch(Kind.STATUS, _header(header) | _card(card) | {"status": status})


def fund(amount: npt.ArrayLike, **header: Unpack[Header]) -> Batch:
    """Move points (1/10,000) from the pool to the growth funding."""
    return _batch(Kind.FUND, _header(header) | {"amount": amount})


def _header(given: Header | _Reversal) -> dict[str, npt.ArrayLike]:
    if "business_date" not in given or "terminal" not in given:
        raise TypeError("a request needs a terminal and a business_date")
    if ("trace" in given) == ("id" in given):
        raise TypeError("a request has one key: pass either trace or id")
    return {
        "programme": given.get("programme", 1),
        "terminal": given["terminal"],
        "business_date": days_column(given["business_date"]),
        "local_time": given.get("local_time", NOON),
        "channel": given.get("channel", 0),
    } | (_id("id", given["id"]) if "id" in given else {"trace": given["trace"]})


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


def _card(card: Cards) -> dict[str, npt.ArrayLike]:
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
