"""The feed: entries of the journal, in order, for who does something about them.

A batch is a one-dimensional structured array of dtype `ENTRY`: transactions, versions of the rules
(`RULES`) and closes of days (`DAY_CLOSED`). None is there before it is durable, and none changes. What an
entry does not have is zero. All of it is the entry's own, but for the number, the product and the holder of
its card, which are those of now.

To go on, ask from `next` on: a follower that remembers it misses nothing and sees nothing twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onecard.v1 import feed_pb2

RULES = 36
"""Kind of an entry that says that a version of the rules, `rules`, was published."""
DAY_CLOSED = 41
"""Kind of an entry that says that the day `business_date` was closed."""
NO_CARD = 2**32 - 1
"""`card_index` of an entry without a card."""
LIMIT = 65_536
"""Most entries of a batch."""
QUIET_S = 1.0
"""So often a follower is told that there is nothing more for now."""

ENTRY = np.dtype(
    [
        ("sequence", "<u8"),
        ("original", "<u8"),
        ("card", "<u8"),
        ("member", "<u8"),
        ("amount", "<i8"),
        ("paid", "<i8"),
        ("business_date", "<i4"),
        ("value_date", "<i4"),
        ("local_time", "<i4"),
        ("card_index", "<u4"),
        ("store", "<u4"),
        ("terminal", "<u4"),
        ("rules", "<u4"),
        ("programme", "<u2"),
        ("product", "<u2"),
        ("kind", "u1"),
        ("code", "u1"),
        ("card_digits", "u1"),
        ("channel", "u1"),
        ("status", "u1"),
        ("reserved", "u1"),
        ("reserved_too", "<u2"),
    ]
)
"""An entry. `amount` is as it was asked, `paid` as it was answered; `original` is the transaction of which a
refund, a reversal, a capture or a void has changed something; `status` is as it was asked; `member` is of a
holder transaction whom it named; `card_index` stays with the card for ever. Dates are days since 1970-01-01,
`local_time` is seconds since midnight of the value date; `rows.card_text` gives the card's number."""

Entries: TypeAlias = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class FeedBatch:
    """Entries, and where to go on."""

    code: int
    """0, or 58 if there is no such programme."""
    entries: Entries
    """Rows of `ENTRY`; there may be none although there are more: go on from `next`."""
    next: int
    """The sequence to go on from: all before it were looked at."""


_SAME = (
    *("sequence", "kind", "code", "product", "member", "amount", "paid", "store", "terminal"),
    *("local_time", "original", "rules", "channel", "status"),
)


def entries_of(messages: Iterable[feed_pb2.Entry], programme: int) -> Entries:
    """Rows of what came over gRPC."""
    found = tuple(messages)
    rows = np.zeros(len(found), ENTRY)
    rows["programme"] = programme
    for name in _SAME:
        rows[name] = [getattr(one, name) for one in found]
    for name in ("business_date", "value_date"):
        rows[name] = _days(np.array([getattr(one, name) for one in found], np.int64))
    cards = [one.card for one in found]
    rows["card"] = [int(card or 0) for card in cards]
    rows["card_digits"] = [len(card) for card in cards]
    rows["card_index"] = [one.card_index if one.HasField("card_index") else NO_CARD for one in found]
    return rows


def _days(dates: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Days since 1970-01-01 of YYYYMMDD; 0 of 0."""
    months = (dates // 10_000 - 1970) * 12 + dates // 100 % 100 - 1
    firsts = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return np.where(dates == 0, 0, firsts + dates % 100 - 1)
