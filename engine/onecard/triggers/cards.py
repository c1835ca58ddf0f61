"""What the feed told of cards so far, as far as triggers look at it: columns by card index, and purchases.

It is a function of the entries up to here and of nothing else, however they came in batches: so a runner that
is started again knows what the one before it knew. Purchases are purchases and captures that were approved
and not reversed; a day with several is one day. A card has 44 bytes here, a purchase 17, and both have room
to grow.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from onecard import feed
from onecard.codes import Kind, Status
from onecard.rules.triggers import TIMES_SCALE

NEVER = np.iinfo(np.int32).min
"""The date of what was never."""
_NONE = -1
"""The purchase that is none."""
_APPROVED = (0, 10)
_BOUGHT = (Kind.PURCHASE, Kind.CAPTURE)

Indexes = npt.NDArray[np.int64]


class Columns:
    """Columns of one length, with room to grow at their end."""

    def __init__(self, **columns: tuple[npt.DTypeLike, int]) -> None:
        self._filling = columns
        self.size = 0
        self._room = 0
        self._columns = {name: np.full(0, fill, kind) for name, (kind, fill) in columns.items()}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][: self.size]

    def grow(self, size: int) -> None:
        """Make them at least so long; what is new has its filling."""
        if size > self._room:
            self._room = max(size, 2 * self._room, 1024)
            for name, (kind, fill) in self._filling.items():
                grown = np.full(self._room, fill, kind)
                grown[: self.size] = self[name]
                self._columns[name] = grown
        self.size = max(self.size, size)


class Bought:
    """Purchases of a batch: which entries, whose, and which of the card's they are."""

    def __init__(self, entries: feed.Entries, number: npt.NDArray[Any], first_time: npt.NDArray[Any]) -> None:
        self.entries = entries
        self.number = number
        """From 1; counted without those that were reversed before."""
        self.first_time = first_time
        """False if the card had so many purchases before, of which one was reversed."""


class Cards:
    """All cards of the feed; `take` goes on with it."""

    def __init__(self) -> None:
        self._cards = Columns(
            number=(np.uint64, 0),
            digits=(np.uint8, 0),
            product=(np.uint16, 0),
            holder=(np.uint64, 0),
            usable=(np.bool_, 0),
            count=(np.int32, 0),  # purchases
            most=(np.int32, 0),  # that there ever were at once
            days=(np.int32, 0),  # with a purchase
            first=(np.int32, NEVER),
            last=(np.int32, NEVER),
            newest=(np.int32, _NONE),  # purchase
        )
        self._purchases = Columns(
            sequence=(np.int64, 0),
            date=(np.int32, 0),
            before=(np.int32, _NONE),  # the card's purchase before it
            alive=(np.bool_, 1),
        )

    def number_of(self, card: int) -> tuple[int, int]:
        """Value and digits of a card's number, as the feed told it last."""
        return int(self._cards["number"][card]), int(self._cards["digits"][card])

    def products_of(self, cards: Indexes) -> npt.NDArray[np.uint16]:
        """The products of cards."""
        products: npt.NDArray[np.uint16] = self._cards["product"][cards]
        return products

    # What comes

    def take(self, entries: feed.Entries) -> Bought:
        """Entries in their order, none of them a reversal that undoes something."""
        of_card = entries[entries["card_index"] != feed.NO_CARD]
        approved = of_card[np.isin(of_card["code"], _APPROVED)]
        index = of_card["card_index"]
        if len(index):
            self._cards.grow(int(index.max()) + 1)
            # Of several entries of a card the last counts: numpy assigns in order.
            self._cards["number"][index] = of_card["card"]
            self._cards["digits"][index] = of_card["card_digits"]
            self._cards["product"][index] = of_card["product"]
        self._change(approved)
        return self._buy(approved[np.isin(approved["kind"], _BOUGHT)])

    def _change(self, approved: feed.Entries) -> None:
        """Holders, and whether cards may be used."""
        held = approved[approved["kind"] == Kind.HOLDER]
        self._cards["holder"][held["card_index"]] = held["member"]
        told = approved[np.isin(approved["kind"], (Kind.ISSUE, Kind.STATUS, Kind.REPLACE, Kind.CLOSE))]
        kind, status = told["kind"], told["status"]
        usable = np.where(kind == Kind.STATUS, status == Status.ACTIVE, kind == Kind.REPLACE)
        usable |= (kind == Kind.ISSUE) & (status == 0)
        self._cards["usable"][told["card_index"]] = usable

    def _buy(self, bought: feed.Entries) -> Bought:
        """Purchases in their order; those of one card follow each other as its own."""
        cards, purchases, count = self._cards, self._purchases, len(bought)
        if not count:
            return Bought(bought, np.zeros(0, np.int32), np.zeros(0, np.bool_))
        start = purchases.size
        purchases.grow(start + count)
        purchases["sequence"][start:] = bought["sequence"]
        purchases["date"][start:] = bought["business_date"]
        order = np.argsort(bought["card_index"], kind="stable")
        card, date = bought["card_index"][order], bought["business_date"][order]
        begins = np.flatnonzero(np.r_[True, card[1:] != card[:-1]])
        ends = np.r_[begins[1:], count] - 1
        whose, sizes = card[begins], ends - begins + 1

        before = np.empty(count, np.int32)
        before[1:] = start + order[:-1]
        before[begins] = cards["newest"][whose]
        purchases["before"][start + order] = before
        other_day = (before == _NONE) | (purchases["date"][before] != date)
        number = cards["count"][card] + np.arange(count) - np.repeat(begins, sizes) + 1
        first_time = number > cards["most"][card]

        was_none = cards["newest"][whose] == _NONE
        cards["first"][whose[was_none]] = date[begins][was_none]
        cards["last"][whose] = date[ends]
        cards["newest"][whose] = start + order[ends]
        cards["count"][whose] += sizes.astype(np.int32)
        cards["days"][whose] += np.add.reduceat(other_day, begins, dtype=np.int32)
        cards["most"][whose] = np.maximum(cards["most"][whose], number[ends])
        back = np.argsort(order)
        return Bought(bought, number[back], first_time[back])

    def reverse(self, card: int, original: int) -> None:
        """Take back a purchase, if this is one that counts: as if it had never been, but for `most`."""
        purchases, cards = self._purchases, self._cards
        at = int(np.searchsorted(purchases["sequence"], original))
        if at == purchases.size or purchases["sequence"][at] != original or not purchases["alive"][at]:
            return
        purchases["alive"][at] = False
        later = _NONE
        for purchase in self._back(int(cards["newest"][card])):
            if purchase == at:
                break
            later = purchase if purchases["alive"][purchase] else later
        earlier = next(self._alive(int(purchases["before"][at])), _NONE)
        beside = [purchase for purchase in (earlier, later) if purchase != _NONE]
        dates = [int(purchases["date"][purchase]) for purchase in beside]
        cards["count"][card] -= 1
        cards["days"][card] -= int(purchases["date"][at]) not in dates
        if later == _NONE:
            cards["newest"][card] = earlier
            cards["last"][card] = dates[0] if dates else NEVER
        if earlier == _NONE:
            cards["first"][card] = dates[0] if dates else NEVER

    def _back(self, purchase: int) -> Iterator[int]:
        """A purchase and those of its card before it."""
        while purchase != _NONE:
            yield purchase
            purchase = int(self._purchases["before"][purchase])

    def _alive(self, purchase: int) -> Iterator[int]:
        return (one for one in self._back(purchase) if self._purchases["alive"][one])

    # What is due at the end of a day; cards in ascending order

    def without_purchase(self, date: int, days: int) -> Indexes:
        """Usable cards whose last purchase was so many days before."""
        return np.flatnonzero((self._cards["last"] == date - days) & self._cards["usable"])

    def overdue(self, date: int, times: int, purchase_days: int) -> Indexes:
        """Usable cards without a purchase for so many times (over 100) their mean interval, rounded up."""
        cards = self._cards
        found = np.flatnonzero((cards["days"] >= purchase_days) & cards["usable"] & (cards["last"] < date))
        first, last = (cards[name][found].astype(np.int64) for name in ("first", "last"))
        intervals = TIMES_SCALE * (cards["days"][found].astype(np.int64) - 1)
        wait = -(-times * (last - first) // intervals)
        due: Indexes = found[last + wait == date]
        return due

    def of_members(self, members: npt.ArrayLike, products: frozenset[int]) -> Indexes:
        """Of each of these members the usable card, of one of the products, that was issued first."""
        cards = self._cards
        mine = np.isin(cards["holder"], np.asarray(members, np.uint64)) & cards["usable"]
        if products:
            mine &= np.isin(cards["product"], list(products))
        found = np.flatnonzero(mine)
        _, firsts = np.unique(cards["holder"][found], return_index=True)
        return found[np.sort(firsts)]
