"""What the engine and the client report: plain, frozen records.

Money counts minor units of the programme's currency, points count 1/10,000 of a point. A report
carries a response code (`onecard.codes`): unless it is 0, the rest is empty.
"""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, overload


class StorePosition(NamedTuple):
    """What a store is owed, or owes, for the open or a closed day."""

    store: int
    sold: int
    """Sold against cards in the day."""
    collected: int
    """Taken in for cards in the day."""
    net: int
    """Sold minus collected, and fees: positive is owed to the store."""
    due: int
    """Net of the days closed before, not yet paid."""
    fees: int = 0
    """Fees of other merchants in the day, less those paid to them."""


class _Rows(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[int, int, int, int, int, int]: ...


class StorePositions(Sequence[StorePosition]):
    """Positions of stores, in the order of their numbers; read-only.

    A close reports thousands, in the middle of business: each is made of its row when it is looked at.
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: _Rows = ()) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int, /) -> StorePosition: ...
    @overload
    def __getitem__(self, index: slice, /) -> "StorePositions": ...
    def __getitem__(self, index: int | slice, /) -> "StorePosition | StorePositions":
        if isinstance(index, slice):
            return StorePositions(tuple(self[at] for at in range(*index.indices(len(self)))))
        return StorePosition._make(self._rows[range(len(self))[index]])

    def __iter__(self) -> Iterator[StorePosition]:
        rows = self._rows
        return (StorePosition._make(rows[at]) for at in range(len(rows)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePositions) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"StorePositions({tuple(self)!r})"

    def __reduce__(self) -> tuple[type["StorePositions"], tuple[tuple[StorePosition, ...]]]:
        return StorePositions, (tuple(self),)


@dataclass(frozen=True, slots=True)
class Growth:
    """How a day's compounding was opened."""

    rate: int
    """Daily rate over 10^12."""
    outstanding: int
    """Points of all cards."""
    purses: int
    reserve: int
    """Set aside from the growth funding."""
    funded: bool
    """False: the funding was too small, and nothing is granted for this day."""


@dataclass(frozen=True, slots=True)
class DayReport:
    """Close of a business day. The stores' nets and the issuer's sum to zero."""

    code: int
    replayed: bool = False
    sequence: int = 0
    business_date: datetime.date | None = None
    next_business_date: datetime.date | None = None
    stores: StorePositions = field(default_factory=StorePositions)
    members: int = 0
    """Day's change of what members hold."""
    bonus: int = 0
    """Day's change of the issuer's bonus account."""
    points: int = 0
    """Day's change of the issuer's points account."""
    units: int = 0
    """Day's change of the issuer's units account and of what it took in itself."""
    issuer_net: int = 0
    """Sum of the four: positive is received by the issuer."""
    growth: Growth | None = None
    """None if the rules have no compounding."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry of a card."""

    sequence: int
    kind: int
    code: int
    business_date: datetime.date
    """Date it was posted in."""
    value_date: datetime.date
    """Date of its key."""
    terminal: int
    store: int
    amount: int
    principal: int
    bonus: int
    points: int
    """Change of the points purse by this entry."""
    growth: int
    """Growth of the points purse since the entry before."""
    principal_balance: int
    bonus_balance: int
    points_balance: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A card's entries, newest first."""

    code: int
    lines: tuple[StatementLine, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """Every account of a programme, summed by kind, and the proof that they sum to zero."""

    code: int
    open_date: datetime.date | None = None
    cards: int = 0
    entries: int = 0
    totals: dict[int, int] = field(default_factory=dict)
    """Total of every account, by its code (`onecard.codes.Account`)."""
    units: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Of every unit that was ever granted: on cards, in the pool, out as codes; their sum is zero."""
    money_sum: int = 0
    points_sum: int = 0
    growing: bool = False
    """True while a day's growth is being granted."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Live positions of the stores that have any."""

    code: int
    stores: StorePositions = field(default_factory=StorePositions)


@dataclass(frozen=True, slots=True)
class MerchantLiability:
    """What a merchant owes the holders of the cards that its stores' terminals issued, in 1/10,000 points."""

    merchant: int
    points: int
    """Points on its cards, wherever they were earned; growth granted so far included."""
    growth: int
    """What its cards were granted for the day of the newest growth that is complete."""


@dataclass(frozen=True, slots=True)
class Liabilities:
    """Points of a programme's cards, by the merchant that issued them."""

    code: int
    growth_date: datetime.date | None = None
    """The day of the newest growth that is complete; None: there was none yet."""
    merchants: tuple[MerchantLiability, ...] = ()
    """All merchants, by number."""


@dataclass(frozen=True, slots=True)
class StaffSales:
    """What a member of staff sold: purchases and captures, less what was refunded or undone."""

    card: str
    """Number of the staff card."""
    sales: int
    """How many."""
    amount: int


@dataclass(frozen=True, slots=True)
class Staff:
    """Sales of a programme's staff."""

    code: int
    sales: tuple[StaffSales, ...] = ()


@dataclass(frozen=True, slots=True)
class RulesVersion:
    """A version of the rules that was published. It never changes."""

    version: int
    """From 1, without gaps."""
    sequence: int
    """Its entry in the journal."""
    business_date: datetime.date
    """Date that was open when it came."""


@dataclass(frozen=True, slots=True)
class RulesVersions:
    """Versions of a programme's rules, oldest first."""

    code: int
    versions: tuple[RulesVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedRules:
    """A version of the rules as the journal has it. The code is 25 if there is no such version."""

    code: int
    version: RulesVersion | None = None
    text: str = ""
    """The rule file as it was written."""
    tables: str = ""
    """What it compiled to, as JSON (docs/rules.md)."""

    def number_for(self, text: str) -> int:
        """Version that a text is published as, if this is the newest: the same again is no other version."""
        if self.version is None:
            return 1
        return self.version.version + (text != self.text)


@dataclass(frozen=True, slots=True)
class Stats:
    """How large an engine is."""

    entries: int
    """Entries of the journal."""
    checkpointed: int
    """Of these, what the newest complete checkpoint holds: opening replays the rest, the tail."""
    passes: int
    """Checkpoint passes completed since it was opened."""
    cards: int
    """Of all programmes."""
    card_bytes: int
    """Memory of cards, purses, wallets and their index."""
    keys: int
    """Keys in the window; those on disk are counted by pages of 256."""
    keys_in_memory: int
    """Keys that are not in segments on disk."""
    key_bytes: int
    """Memory of keys and of the segments' filters."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What walking a whole journal found. It is whole if `problems` is empty."""

    entries: int
    blocks: int
    bytes: int
    cards: int
    head: str
    """SHA-256 of the last block, in hexadecimal."""
    sums: dict[int, dict[str, int]]
    """By programme: the sum of all legs in `money` and in `points`; zero."""
    state: str
    """SHA-256 of the state rebuilt from nothing."""
    checkpoint_state: str
    """SHA-256 of the state of checkpoint and tail; equal to `state`."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cursors:
    """Where the triggers of a programme are (docs/triggers.md)."""

    code: int
    open_date: datetime.date | None = None
    at: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Sequence and card index of each that did anything yet, by its number."""
