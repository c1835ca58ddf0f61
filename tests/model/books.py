"""The books of one programme: cards, lots, balances, and the moves that change them.

Everything of a purse is lots; the undated lot is a lot like any other, and growth is in the balances of the
lots that grew. A move takes an amount from one place and gives it to another that counts the same, so all
sums are zero whatever is posted.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.model.rows import (
    ADVICE_PART,
    CAP,
    LINE,
    LINE_PART,
    ONE,
    WINDOW_DAYS,
    Advice,
    Answer,
    Item,
    Key,
    Part,
    Row,
    original_key_of,
)

PRINCIPAL, BONUS, POINTS, SHORT_MONEY, SHORT_POINTS, UNIT = 1, 2, 3, 4, 5, 6
CLEARING, COLLECTION, DUE = 16, 17, 18
STORE_FEES, CARD_FEES = 19, 20
ISSUER_BONUS, ISSUER_POINTS, ISSUER_UNITS, ISSUER_COLLECTION = 32, 33, 34, 35
POOL, FUNDING, RESERVE, UNIT_POOL, CODES = 40, 41, 42, 44, 45
TRANSIT_MONEY, TRANSIT_POINTS, TRANSIT_UNITS = 46, 47, 48

MONEY_ACCOUNTS = (1, 2, 4, 16, 17, 18, 19, 20, 32, 33, 34, 35, 46)
POINTS_ACCOUNTS = (3, 5, 40, 41, 42, 47)
UNIT_ACCOUNTS = (6, 44, 45, 48)
PURSES = (PRINCIPAL, BONUS, POINTS, UNIT)
SHORTFALLS = (SHORT_MONEY, SHORT_POINTS)
NEVER = 2**40
EPOCH = datetime.date(1970, 1, 1)

POOL_OF = {BONUS: ISSUER_BONUS, POINTS: POOL, UNIT: UNIT_POOL}
"""Where what lapses goes."""


class Refused(Exception):
    """A request is answered with this code and reason, and nothing is posted."""

    def __init__(self, code: int, reason: int = 0) -> None:
        super().__init__(f"{code}, reason {reason}")
        self.code = code
        self.reason = reason


class Place(NamedTuple):
    """Where something lies: an account, whose it is, and of a purse its unit and the lot."""

    account: int
    owner: object = None
    unit: int = 0
    begins: int = 0
    expires: int = 0


class Move(NamedTuple):
    """An amount on its way."""

    giver: Place
    taker: Place
    amount: int


@dataclass(eq=False)
class Card:
    """A card; what it has is in the balances."""

    number: tuple[int, int]
    product: int
    expires: int
    merchant: int
    status: int
    carries: dict[Place, int] = field(default_factory=dict)
    pin: tuple[int, int] | None = None
    tries: int = 0
    tier: int = 0
    tier_until: int = 0
    member: int = 0
    real_name: int = 0
    bundles: Counter[int] = field(default_factory=Counter)
    holds: list[Hold] = field(default_factory=list)
    day: tuple[int, int, int, int] = (0, 0, 0, 0)
    bought: bool = False

    def lot(self, purse: int, begins: int = 0, expires: int = 0) -> Place:
        """The lot of a purse with these dates."""
        return Place(min(purse, UNIT), self, purse, begins, expires)

    def debt(self, purse: int) -> Place | None:
        """Where this card's shortfall of a purse lies; what a unit lacks is no shortfall."""
        if purse in (PRINCIPAL, BONUS):
            return Place(SHORT_MONEY, self)
        return Place(SHORT_POINTS, self) if purse == POINTS else None


@dataclass
class Hold:
    """Moves that an authorisation holds, what they earn, and how much of it was captured."""

    moves: list[Move]
    total: int
    earned: int
    rebate: int
    growth: int
    until: int
    staff: Card | None
    captured: int = 0
    ended: bool = False

    def taken(self, captured: int) -> list[int]:
        """Of each move what is taken once so much is captured."""
        if captured == self.total > 0:
            return [move.amount for move in self.moves]
        taken = [0] * len(self.moves)
        left, waiting = captured, []
        for index, move in enumerate(self.moves):
            if move.taker.account != CLEARING:
                waiting.append(index)
                continue
            taken[index] = min(move.amount, left)
            left -= taken[index]
            for unit in waiting:
                taken[unit] = -(-self.moves[unit].amount * taken[index] // move.amount)
            waiting = []
        return taken

    def held(self, lot: Place) -> int:
        """What of a lot is held."""
        if self.ended:
            return 0
        taken = self.taken(self.captured)
        return sum(
            move.amount - gone for move, gone in zip(self.moves, taken, strict=True) if move.giver == lot
        )


class Side(NamedTuple):
    """What a transaction did to one card, and what the card had afterwards."""

    card: Card
    amount: int
    principal: int
    bonus: int
    points: int
    balances: tuple[int, int, int]


@dataclass
class Transaction:
    """A kept request, its outcome, and what later transactions change about it."""

    row: Row
    content: Row
    key: Key
    store: int
    date: int
    card: Card | None = None
    further: list[Card] = field(default_factory=list)
    staff: Card | None = None
    original: Transaction | None = None
    moves: list[Move] = field(default_factory=list)
    cash: int = 0
    hold: Hold | None = None
    answer: Answer = field(default_factory=Answer)
    sides: list[Side] = field(default_factory=list)
    given: list[tuple[Card, int, int]] = field(default_factory=list)
    handed_out: Counter[int] = field(default_factory=Counter)
    brought: bool = False
    capped: bool = False
    reversed: bool = False
    refunded: int = 0
    refunded_before: int = 0
    refunds: list[Transaction] = field(default_factory=list)
    advice: tuple[Advice, ...] = ()

    def approved(self) -> bool:
        return self.answer.code in (0, 10)

    def advice_parts(self) -> tuple[Part, ...]:
        """What became of asking Python rules, in approvals and refusals; what they take off at most."""
        return tuple(
            Part(ADVICE_PART, purse=one.rule, amount=self.row.amount * one.off // ONE, balance=one.outcome)
            for one in self.advice
        )

    def items(self, *kinds: int) -> list[Item]:
        """The items of these kinds, in their order."""
        return [item for item in self.row.items if item.kind in kinds]


class Books:
    """One programme: its organisation, rules, cards, balances and transactions."""

    def __init__(self, name: str, first_date: int, issued: list[Card]) -> None:
        self.name = name
        self.issued = issued
        """All cards of all programmes, in the order of their issue."""
        self.cursors: dict[int, tuple[int, int]] = {}
        self.first_date = first_date
        self.open_date = first_date
        self.merchants: dict[int, str] = {}
        self.stores: dict[int, tuple[int, str]] = {}
        self.terminals: dict[int, int] = {}
        self.versions: list[tuple[str, str, dict[str, Any]]] = []
        self.cards: dict[tuple[int, int], Card] = {}
        self.former: dict[tuple[int, int], int] = {}
        self.numbers: dict[tuple[int, int], Card] = {}
        self.aliases: dict[tuple[int, int, int], Card] = {}
        self.balances: dict[Place, int] = {}
        self.series: dict[int, list[tuple[int, int]]] = {}
        self.birthdays: dict[int, datetime.date] = {}
        self.out: Counter[int] = Counter()
        self.staff_sales: dict[Card, tuple[int, int]] = {}
        self.transactions: list[Transaction] = []
        self.keys: dict[Key, Transaction] = {}
        self.marks: dict[Key, Transaction] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.totals_at_open = (0, 0, 0, 0)
        self.growths: list[tuple[int, int]] = []
        self.growth_date: int | None = None
        self.newest_growth: dict[int, int] = {}

    # Balances

    def balance(self, place: Place) -> int:
        return self.balances.get(place, 0)

    def lots(self, card: Card, purse: int) -> list[Place]:
        """The lots of a purse that hold anything, in the order in which they are spent."""
        lots = [place for place in self.balances if is_lot(place) and place.owner is card]
        lots = [lot for lot in lots if lot.unit == purse and self.balances[lot]]
        return sorted(lots, key=lambda lot: (lot.expires or NEVER, lot.begins))

    def units_of(self, card: Card) -> list[int]:
        """The units of the rules that a card has anything of."""
        places = [place for place, amount in self.balances.items() if amount]
        return sorted({place.unit for place in places if place.account == UNIT and place.owner is card})

    def purse(self, purse: int, card: Card) -> int:
        """What a card has of a unit: all its lots."""
        return sum(self.balances[lot] for lot in self.lots(card, purse))

    def available(self, lot: Place) -> int:
        """What a lot has that is not held."""
        assert isinstance(lot.owner, Card)
        return self.balance(lot) - sum(hold.held(lot) for hold in lot.owner.holds)

    def valid(self, card: Card, purse: int) -> list[Place]:
        """The lots that may be spent today, in their order."""
        today = self.open_date
        return [lot for lot in self.lots(card, purse) if is_valid(lot, today) and self.available(lot) > 0]

    def spendable(self, card: Card, purse: int) -> int:
        return sum(self.available(lot) for lot in self.valid(card, purse))

    def total(self, *accounts: int) -> int:
        """Sum of all that lies on accounts of these codes."""
        return sum(amount for place, amount in self.balances.items() if place.account in accounts)

    # What is looked up

    def rules(self) -> dict[str, Any]:
        """Tables of the newest version."""
        return self.versions[-1][2]

    def products(self) -> list[dict[str, Any]]:
        return self.rules()["products"] if self.versions else []

    def product_of(self, card: Card) -> dict[str, Any]:
        """The rules' row of a card's product."""
        return next(product for product in self.products() if product["id"] == card.product)

    def limits_of(self, card: Card) -> dict[str, int]:
        """The limits of a card: those for a known name, if there are such and it is known."""
        product = self.product_of(card)
        named = product.get("named")
        limits = named if named is not None and card.real_name else product
        return {name: limits.get(name, 0) for name in LIMITS}

    def is_growth(self, unit: int) -> bool:
        """Whether a unit counts growth value, of which nothing is ever owed."""
        rule = self.unit_rule(unit)
        return rule is not None and rule["kind"] == "growth"

    def reached(self, growth: int) -> int:
        """The highest tier that a growth value reaches; 0: none."""
        return max(
            (tier["id"] for tier in self.rules().get("tiers", []) if tier["from"] <= growth), default=0
        )

    def tier_until(self, day: int) -> int:
        """Last date of a tier that is reached, or kept, on a day; 0: it has no review."""
        growth = self.rules().get("growth_value")
        return last_day(day, growth["tier_days"], growth.get("tier_round", "day")) if growth else 0

    def unit_rule(self, unit: int) -> dict[str, Any] | None:
        """The rules' row of a unit."""
        units = self.rules().get("units", []) if self.versions else []
        return next((row for row in units if row["id"] == unit), None)

    def find_original(self, row: Row) -> Transaction | None:
        """The transaction that a request names; by its key only within the window."""
        if row.original == 0:
            return self.keys.get(original_key_of(row)) if self.in_window(row.original_date) else None
        return self.transactions[row.original - 1] if row.original <= len(self.transactions) else None

    def in_window(self, date: int) -> bool:
        """Whether a date is the open day or one of the six before it."""
        return self.open_date - WINDOW_DAYS < date <= self.open_date

    def collection(self, row: Row, store: int) -> Place:
        """Where money comes in for cards: at the store, or at the issuer if the row's channel says so."""
        channels = self.rules().get("channels", []) if self.versions else []
        collects = {channel["id"]: channel.get("collects", "store") for channel in channels}
        if collects.get(row.channel) == "issuer":
            return Place(ISSUER_COLLECTION)
        return Place(COLLECTION, store)


LIMITS = ("purchase_max", "top_up_max", "balance_max", "day_sum", "day_count")


def is_lot(place: Place) -> bool:
    return place.account in PURSES


def is_dated(lot: Place) -> bool:
    return (lot.begins, lot.expires) != (0, 0)


def is_valid(lot: Place, today: int) -> bool:
    """Whether a lot may be spent: it has begun, and it has not expired."""
    return lot.begins <= today and (lot.expires == 0 or lot.expires >= today)


def set_tier(card: Card, tier: int, until: int) -> None:
    card.tier, card.tier_until = tier, until


def last_day(today: int, days: int, rounding: str) -> int:
    """The last day of the day, month or year in which so many days are over; of 0 days: never."""
    if days == 0:
        return 0
    date = EPOCH + datetime.timedelta(today + days - 1)
    if rounding == "year":
        date = datetime.date(date.year, 12, 31)
    elif rounding == "month":
        later = date.replace(day=28) + datetime.timedelta(4)
        date = later.replace(day=1) - datetime.timedelta(1)
    return (date - EPOCH).days


def measure(place: Place) -> object:
    """What an account counts."""
    if place.account in MONEY_ACCOUNTS:
        return "money"
    return "points" if place.account in POINTS_ACCOUNTS else place.unit


class Draft(Books):
    """A transaction that is being worked out: books of its own that become the programme's if it is approved.

    It says what the answer tells besides balances, and what is to be done once nothing can go wrong any more.
    """

    def __init__(self, books: Books, transaction: Transaction) -> None:
        self.__dict__.update(books.__dict__)
        self.books = books
        self.transaction = transaction
        self.balances = dict(books.balances)
        self.moves: list[Move] = []
        self.code = 0
        self.amount = 0
        self.discount = 0
        self.off: list[int] = []
        self.tier = 0
        self.spent = 0
        self.earned = 0
        self.cash = 0
        self.left = 0
        self.shown: list[Move] = []
        self.codes: Part | None = None
        self.given: list[tuple[Card, int, int]] = []
        self.handed_out: Counter[int] = Counter()
        self.then: list[Callable[[], object]] = []

    @property
    def row(self) -> Row:
        return self.transaction.row

    @property
    def card(self) -> Card:
        assert self.transaction.card is not None
        return self.transaction.card

    def taken(self, card: Card, bundle: int) -> int:
        """How many of a bundle a card was granted, in this transaction, too."""
        now = sum(count for other, number, count in self.given if (other, number) == (card, bundle))
        return card.bundles[bundle] + now

    # Moves

    def move(self, giver: Place, taker: Place, amount: int) -> None:
        """Post a move; of nothing, none."""
        if amount == 0:
            return
        assert amount > 0, (giver, taker, amount)
        assert measure(giver) == measure(taker), (giver, taker)
        self.balances[giver] = self.balance(giver) - amount
        self.balances[taker] = self.balance(taker) + amount
        self.moves.append(Move(giver, taker, amount))

    def give(self, source: Place, lot: Place, amount: int) -> int:
        """Give to a purse: first what the card owes is made good, then the lot is filled; what fills it."""
        assert isinstance(lot.owner, Card)
        debt = lot.owner.debt(lot.unit)
        if debt is not None:
            good = min(amount, -self.balance(debt))
            self.move(source, debt, good)
            amount -= good
        self.move(source, lot, amount)
        return amount

    def give_back(self, source: Place, lot: Place, amount: int) -> None:
        """Give what was spent back to its lot; past its date it lapses at once, or has its grace."""
        grace = self.rules().get("grace_days", 0)
        if lot.expires == 0 or lot.expires >= self.open_date:
            self.give(source, lot, amount)
        elif grace:
            self.give(source, lot._replace(expires=self.open_date + grace - 1), amount)
        else:
            filled = self.give(source, lot, amount)
            self.move(lot, pool_of(lot), filled)

    def spend(self, card: Card, purse: int, amount: int, taker: Place) -> None:
        """Take from the lots that may be spent, in their order; there must be enough."""
        for lot in self.valid(card, purse):
            part = min(amount, self.available(lot))
            self.move(lot, taker, part)
            amount -= part
        assert amount == 0

    def take_back(self, lot: Place, taker: Place, amount: int, *, reason: int = 0) -> None:
        """Take from a lot what it holds and is not held; the rest is a shortfall, or 51 of a unit."""
        assert isinstance(lot.owner, Card)
        there = min(amount, self.available(lot))
        debt = lot.owner.debt(lot.unit)
        if self.is_growth(lot.unit):
            amount = there
        if debt is None and there < amount:
            raise Refused(51, reason)
        self.move(lot, taker, there)
        if debt is not None:
            self.move(debt, taker, amount - there)

    # The end

    def check_purses(self) -> None:
        """61 if a purse would exceed CAP, or a shortfall fall below -CAP."""
        for place in {place for move in self.moves for place in move[:2]}:
            if is_lot(place):
                assert isinstance(place.owner, Card)
                assert self.balance(place) >= 0, place
                if self.purse(place.unit, place.owner) > CAP:
                    raise Refused(61)
            if place.account in SHORTFALLS:
                assert self.balance(place) <= 0, place
                if self.balance(place) < -CAP:
                    raise Refused(61)

    def settle(self) -> None:
        """Post it all."""
        self.check_purses()
        self.raise_tier()
        self.transaction.moves = self.moves
        self.transaction.cash = self.cash
        self.transaction.given, self.transaction.handed_out = self.given, self.handed_out
        for card, bundle, count in self.given:
            card.bundles[bundle] += count
        self.books.out.update(self.handed_out)
        self.forget_emptied()
        self.books.balances = {place: amount for place, amount in self.balances.items() if amount}
        for then in self.then:
            then()

    def forget_emptied(self) -> None:
        """A dated lot that a move leaves empty loses what growth left over, also if a later one fills it."""
        held: dict[Place, int] = {}
        for giver, taker, amount in self.moves:
            for place, change in ((giver, -amount), (taker, amount)):
                held[place] = held.get(place, self.books.balances.get(place, 0)) + change
                if isinstance(place.owner, Card) and is_dated(place) and held[place] == 0:
                    place.owner.carries.pop(place, None)

    def raise_tier(self) -> None:
        """The card's growth value changed: it has the tier that it reaches, if that is higher."""
        growth = self.rules().get("growth_value") if self.versions else None
        card = self.transaction.card
        if growth is None or card is None:
            return
        unit = growth["unit"]
        if any(place.owner is card and place.unit == unit for move in self.moves for place in move[:2]):
            reached = self.reached(self.purse(unit, card))
            if reached > card.tier:
                self.tier = reached
                self.then.append(lambda: set_tier(card, reached, self.tier_until(self.open_date)))

    def net(self, account: int, card: Card | None = None) -> int:
        """Change of an account, or of that account of one card."""
        places = [(move.giver, -move.amount) for move in self.moves]
        places += [(move.taker, move.amount) for move in self.moves]
        return sum(
            amount
            for place, amount in places
            if place.account == account and (card is None or place.owner is card)
        )

    def told(self) -> dict[str, int]:
        """What the answer tells of it, besides code and balances."""
        card = self.transaction.card
        own = {account: self.net(account, card) if card else 0 for account in (1, 2, 4, 5)}
        return {
            "amount": self.amount,
            "discount": self.discount,
            "principal": own[PRINCIPAL],
            "bonus": own[BONUS],
            "offset": -self.net(ISSUER_POINTS),
            "points_earned": self.earned,
            "points_spent": self.spent,
            "shortfall_money": -own[SHORT_MONEY],
            "shortfall_points": -own[SHORT_POINTS],
            "tier": self.tier,
        }

    def parts(self) -> tuple[Part, ...]:
        """The moves as a receipt needs them, then codes, cash and what is left to pay."""
        parts = []
        for move in self.shown or self.moves:
            for place, amount in ((move.giver, -move.amount), (move.taker, move.amount)):
                if is_lot(place):
                    parts.append(self.lot_part(place, amount))
            for place, amount in ((move.giver, move.amount), (move.taker, -move.amount)):
                if place.account in (ISSUER_POINTS, ISSUER_UNITS):
                    parts.append(Part(place.account, purse=place.unit, amount=amount))
        lines = self.transaction.items(LINE)
        for line, off in zip(lines, self.off if lines else (), strict=True):
            parts.append(Part(LINE_PART, purse=line.unit, amount=off, balance=line.amount))
        if self.codes is not None:
            parts.append(self.codes)
        if self.cash:
            parts.append(Part(COLLECTION, amount=self.cash))
        if self.left:
            parts.append(Part(CLEARING, amount=self.left))
        return tuple(parts)

    def lot_part(self, lot: Place, amount: int) -> Part:
        assert isinstance(lot.owner, Card)
        cards = [self.transaction.card, *self.transaction.further]
        balance = self.purse(lot.unit, lot.owner)
        place = cards.index(lot.owner)
        return Part(lot.account, place, lot.unit, lot.begins, lot.expires, amount, balance)


def pool_of(lot: Place) -> Place:
    """Where a lot's units come from and lapse to."""
    return Place(POOL_OF[lot.account], None, lot.unit if lot.account == UNIT else 0)
