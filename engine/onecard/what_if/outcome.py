"""What happened in a period, and what other rules would have made of it: plain, frozen records.

Money counts minor units, points count 1/10,000 of a point. Every table is a tuple of flat records: a data
frame takes it as it is, `polars.DataFrame(list(outcome.days))` or `pandas.DataFrame(outcome.days)`.
"""

import dataclasses
import datetime
from dataclasses import dataclass
from typing import Any, Literal

from onecard import rows


@dataclass(frozen=True, slots=True)
class Figure:
    """A sum over the period, or as of its end."""

    name: str
    unit: Literal["money", "points", "count"]
    actual: int
    tried: int


@dataclass(frozen=True, slots=True)
class RuleCost:
    """What a rule gave, as priced when its sales were approved: money off, or points.

    Id 0 is what products give by themselves. Two rules are the same if kind, id and name are. A rule in
    Python may give both, and take points away.
    """

    kind: Literal["discount", "python discount", "accrual", "python points"]
    id: int
    name: str
    actual_sales: int
    """Sales it counted in."""
    tried_sales: int
    actual: int
    tried: int

    @property
    def unit(self) -> Literal["money", "points"]:
        """What it gave."""
        return "money" if self.kind in ("discount", "python discount") else "points"


@dataclass(frozen=True, slots=True)
class StoreNet:
    """What a store is owed in all, of closed days and the open one: positive is owed to the store."""

    store: int
    before: int
    """As the period began."""
    actual: int
    """As it ended."""
    tried: int


@dataclass(frozen=True, slots=True)
class MerchantPoints:
    """Points on the cards that a merchant issued, at the end: its liability."""

    merchant: int
    actual: int
    tried: int


@dataclass(frozen=True, slots=True)
class TierCards:
    """Cards of a tier at the end."""

    tier: int
    """0: of none."""
    actual: int
    tried: int


@dataclass(frozen=True, slots=True)
class Day:
    """A day as it closed, before its growth: what is on all cards, and what came of the day."""

    date: datetime.date
    actual_principal: int
    tried_principal: int
    actual_bonus: int
    tried_bonus: int
    actual_points: int
    tried_points: int
    actual_issuer_net: int
    tried_issuer_net: int
    actual_sold: int
    tried_sold: int
    actual_discounts: int
    tried_discounts: int
    actual_points_earned: int
    tried_points_earned: int


@dataclass(frozen=True, slots=True)
class AccountTotal:
    """Total of an account (`onecard.codes.Account`) at the end."""

    account: int
    actual: int
    tried: int


@dataclass(frozen=True, slots=True)
class CodeChange:
    """How many transactions of a kind were answered with one code, and would have been with another."""

    kind: int
    actual: int
    tried: int
    count: int
    amount: int
    """What they asked for in all."""


@dataclass(frozen=True, slots=True)
class ChangedTransaction:
    """One of them."""

    sequence: int
    date: datetime.date
    """Business date that it was posted in."""
    kind: int
    actual: int
    tried: int
    card: str
    """Number of its card; empty if it has none."""
    store: int
    amount: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The outcome of a run."""

    programme: int
    first: datetime.date
    last: datetime.date
    transactions: int
    seconds: float
    """That the run took, loading apart."""
    figures: tuple[Figure, ...]
    costs: tuple[RuleCost, ...]
    stores: tuple[StoreNet, ...]
    merchants: tuple[MerchantPoints, ...]
    tiers: tuple[TierCards, ...]
    days: tuple[Day, ...]
    """Those that were closed."""
    accounts: tuple[AccountTotal, ...]
    changes: tuple[CodeChange, ...]
    changed: tuple[ChangedTransaction, ...]
    """The first of those that `changes` counts."""
    differing: int
    """Transactions and closes that came to something else, if only in one balance."""
    differing_first: tuple[int, ...]
    """Sequences of the first of them; of a close that of its first entry."""
    answers: rows.Answers | None = None
    """Those that all transactions would have had, in order, if they were asked for."""

    def figure(self, name: str) -> Figure:
        """The figure with this name; KeyError if there is none."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def plain(self) -> dict[str, Any]:
        """All but the answers as dicts and lists, dates as text: what JSON can say."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del found["answers"]
        return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(one) for name, one in dataclasses.asdict(value).items()}
    return value
