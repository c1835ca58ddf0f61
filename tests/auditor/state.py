"""All state that follows from the entries so far, and what is wrong with them."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.auditor.cards import Card, last_day
from tests.auditor.form import COLLECTION, ISSUER_COLLECTION, Entry, Item


@dataclass(slots=True)
class Growing:
    """A day's growth between its opening and its completion."""

    opened: Entry
    closed: bool = False
    merchants: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.merchants.values())


@dataclass(slots=True)
class Series:
    """The codes of a unit: how many came out, and which were used."""

    count: int = 0
    used: set[int] = field(default_factory=set)


@dataclass
class Programme:
    open_date: int
    merchants: set[int] = field(default_factory=set)
    stores: dict[int, int] = field(default_factory=dict)
    seats: dict[int, int] = field(default_factory=dict)
    terminals: dict[int, int] = field(default_factory=dict)
    rules: int = 0
    tables: dict[str, Any] = field(default_factory=dict)
    cards: list[int] = field(default_factory=list)
    totals: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    units: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    day: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    by_store: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    out: dict[int, int] = field(default_factory=dict)
    series: dict[int, Series] = field(default_factory=lambda: defaultdict(Series))
    growing: Growing | None = None
    grown: int = 0
    rates: list[tuple[int, int]] = field(default_factory=list)
    cursors: dict[int, tuple[int, int]] = field(default_factory=dict)
    closing: bool = False
    lapsed: int | None = None

    def row(self, table: str, number: int) -> dict[str, Any]:
        """The row of a table of the rules in force with this id; empty if there is none."""
        rows: list[dict[str, Any]] = self.tables.get(table, [])
        return next((row for row in rows if row.get("id") == number), {})

    def reached(self, card: Card) -> int:
        """The highest tier that a card's growth value reaches; 0: none."""
        growth = card.purse(self.tables["growth_value"]["unit"])
        return max((tier["id"] for tier in self.tables.get("tiers", []) if tier["from"] <= growth), default=0)

    def tier_until(self, day: int) -> int:
        """Last date of a tier that is reached, set or kept on a day; 0: it is not reviewed."""
        rule = self.tables.get("growth_value")
        return last_day(day, rule["tier_days"], rule.get("tier_round", "day")) if rule else 0

    def collection(self, channel: int) -> int:
        """The account that takes money in by a channel."""
        by_issuer = self.row("channels", channel).get("collects") == "issuer"
        return ISSUER_COLLECTION if by_issuer else COLLECTION


class State:
    """Registered, issued, named, used: everything that an entry may refer to."""

    def __init__(self) -> None:
        self.programmes: dict[int, Programme] = {}
        self.cards: list[Card] = []
        self.numbers: dict[tuple[int, str], int] = {}
        self.former: dict[tuple[int, str], tuple[int, int]] = {}
        self.aliases: dict[tuple[int, int, int], int] = {}
        self.keys: dict[tuple[object, ...], int] = {}
        self.void: set[tuple[object, ...]] = set()
        self.transactions: dict[int, Entry] = {}
        self.refunds: dict[int, list[Entry]] = defaultdict(list)
        self.reversed: set[int] = set()
        self.captured: set[int] = set()
        self.problems: list[str] = []
        self.place = ""

    def check(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(f"{self.place}: {problem}")

    def of(self, index: int | None) -> Card | None:
        return self.cards[index] if index is not None and index < len(self.cards) else None

    def cards_of(self, entry: Entry) -> list[Card | None]:
        """The entry's own card and its further ones, by their places."""
        return [self.of(entry.card), *(self.of(index) for index, _ in entry.further)]

    def ever(self, programme: int, number: str) -> int | None:
        """The card that a number is or was of."""
        former = self.former.get((programme, number))
        return self.numbers.get((programme, number), former[0] if former is not None else None)

    def alias(self, programme: int, item: Item) -> tuple[int, int, int]:
        return programme, item.digits, item.high << 64 | item.low

    def programme_of(self, entry: Entry) -> Programme:
        return self.programmes[entry.programme]
