"""What a card has - lots, shortfalls, holds - and how moves are planned on it as docs/card.md says."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.auditor.form import (
    BONUS,
    ISSUER_BONUS,
    MONEY_ACCOUNTS,
    POINTS,
    POINTS_ACCOUNTS,
    POOL,
    PRINCIPAL,
    SHORT_MONEY,
    SHORT_POINTS,
    UNDATED,
    UNIT,
    UNIT_POOL,
    Dates,
    Post,
)

ONE = 10**12
CAP = 10**16
FOR_EVER = 1 << 40

LotKey = tuple[int, int, int]
"""Purse, first and last valid date."""


@dataclass(slots=True)
class Lot:
    amount: int = 0
    held: int = 0
    carry: int = 0


@dataclass(slots=True)
class Hold:
    """What an authorise holds: moves, what they pay in all and earn, and how much of it is captured."""

    expires: int
    posts: list[Post]
    total: int
    earned: int
    rebate: int
    growth: int
    captured: int = 0

    def taken(self, captured: int) -> list[int]:
        """What is taken of each move once so much is captured."""
        if captured == self.total:
            return [post.amount for post in self.posts]
        taken, left, waiting = [0] * len(self.posts), captured, 0
        for at, post in enumerate(self.posts):
            if is_of_units(post):
                continue
            taken[at] = min(left, post.amount)
            left -= taken[at]
            for before in range(waiting, at):
                taken[before] = -(-self.posts[before].amount * taken[at] // post.amount)
            waiting = at + 1
        return taken


def is_of_units(post: Post) -> bool:
    """True if it moves no money, but points or things of a unit."""
    return post.source not in MONEY_ACCOUNTS


def undated_lots() -> dict[LotKey, Lot]:
    return {(purse, 0, 0): Lot() for purse in (PRINCIPAL, BONUS, POINTS)}


@dataclass(slots=True)
class Card:
    programme: int
    number: str
    last: int
    merchant: int
    product: int
    expires: int
    status: int = 1
    lots: dict[LotKey, Lot] = field(default_factory=undated_lots)
    shortfalls: dict[int, int] = field(default_factory=lambda: {SHORT_MONEY: 0, SHORT_POINTS: 0})
    holds: dict[int, Hold] = field(default_factory=dict)
    pin: tuple[int, ...] | None = None
    tries: int = 0
    member: int = 0
    named: bool = False
    day: tuple[int, int, int, int] = (0, 0, 0, 0)
    bought: bool = False
    bundles: dict[int, int] = field(default_factory=dict)
    tier: int = 0
    tier_until: int = 0

    def purse(self, number: int) -> int:
        return sum(lot.amount for key, lot in self.lots.items() if key[0] == number)

    @property
    def balances(self) -> tuple[int, int, int]:
        return self.purse(PRINCIPAL), self.purse(BONUS), self.purse(POINTS)

    @property
    def dated_points(self) -> int:
        return sum(key[0] == POINTS for key in self.lots) - 1

    def lot(self, key: LotKey) -> Lot:
        return self.lots.get(key, Lot())

    def add(self, key: LotKey, amount: int) -> bool:
        """Change a lot, which is gone when it is empty; False if it has not so much that is free."""
        lot = self.lots.setdefault(key, Lot())
        lot.amount += amount
        whole = 0 <= lot.held <= lot.amount
        self.drop(key)
        return whole

    def drop(self, key: LotKey) -> None:
        lot = self.lots[key]
        always = key[0] <= POINTS and key[1:] == UNDATED
        if not always and not lot.amount and not lot.held:
            del self.lots[key]

    def hold(self, post: Post, amount: int) -> bool:
        """Hold so much more of a move's lot, or less; False if it has not so much."""
        if not post.purse:
            return True
        lot = self.lots.setdefault((post.purse, *post.dates), Lot())
        lot.held += amount
        whole = 0 <= lot.held <= lot.amount
        self.drop((post.purse, *post.dates))
        return whole

    def capture(self, sequence: int, captured: int, *, ended: bool) -> bool:
        """Let off what is captured of a hold, or all if it has ended; False if no such hold is there."""
        found = self.holds.get(sequence)
        if found is None:
            return False
        before, after = found.taken(found.captured), found.taken(found.total if ended else captured)
        whole = True
        for post, was, now in zip(found.posts, before, after, strict=True):
            whole = self.hold(post, was - now) and whole
        found.captured = captured
        if ended:
            del self.holds[sequence]
        return whole

    def lapse(self, date: int) -> dict[int, int]:
        """End holds and take out lots whose last date this is or was; what lapsed of each purse."""
        for sequence in [sequence for sequence, hold in self.holds.items() if hold.expires <= date]:
            self.capture(sequence, self.holds[sequence].captured, ended=True)
        lapsed: dict[int, int] = {}
        for key, lot in list(self.lots.items()):
            if 0 < key[2] <= date and lot.amount > lot.held:
                lapsed[key[0]] = lapsed.get(key[0], 0) + lot.amount - lot.held
                lot.amount = lot.held
                self.drop(key)
        return lapsed

    def lapses(self, date: int) -> bool:
        """True if something of it would lapse, or a hold end, with this date."""
        due = any(0 < key[2] <= date and lot.amount > lot.held for key, lot in self.lots.items())
        held = any(hold.expires <= date for hold in self.holds.values())
        return due or held or 0 < self.tier_until <= date

    def grow(self, rate: int) -> int:
        """Growth of every lot of points for a day, each with its own carry."""
        grown = 0
        for key, lot in self.lots.items():
            if key[0] == POINTS:
                growth, lot.carry = divmod(lot.amount * rate + lot.carry, ONE)
                growth = min(growth, CAP - lot.amount)
                lot.amount += growth
                grown += growth
        return grown

    def before(self, purse: int, dates: Dates, today: int) -> list[Lot]:
        """The lots of a purse that are spent before the one with these dates."""
        mine = order(dates)
        lots = self.lots.items()
        return [
            lot for key, lot in lots if key[0] == purse and is_valid(key[1:], today) and order(key[1:]) < mine
        ]


def order(dates: Sequence[int]) -> tuple[int, int]:
    """In which order lots are spent: what expires first, then what begins first."""
    return dates[1] or FOR_EVER, dates[0]


def is_valid(dates: Sequence[int], today: int) -> bool:
    return dates[0] <= today and (dates[1] == 0 or dates[1] >= today)


def account_of(purse: int) -> int:
    return purse if purse <= POINTS else UNIT


def pool_of(purse: int) -> int:
    """Where what lapses of a purse goes, and what is granted comes from."""
    return {PRINCIPAL: ISSUER_BONUS, BONUS: ISSUER_BONUS, POINTS: POOL}.get(purse, UNIT_POOL)


def shortfall_of(purse: int) -> int:
    return {PRINCIPAL: SHORT_MONEY, BONUS: SHORT_MONEY, POINTS: SHORT_POINTS}.get(purse, 0)


class Plan:
    """Moves that follow from the lots as they are, one after the other; nothing is changed."""

    def __init__(
        self,
        cards: Sequence[Card | None],
        today: int,
        grace_days: int,
        rates: Iterable[tuple[int, int]],
        growth: frozenset[int],
    ) -> None:
        """`growth`: the units that count growth value."""
        self.cards = cards
        self.today = today
        self.grace_days = grace_days
        self.rates = list(rates)
        self.growth = growth
        self.posts: list[Post] = []

    def card(self, place: int) -> Card | None:
        return self.cards[place] if place < len(self.cards) else None

    def move(self, post: Post) -> None:
        if post.amount:
            self.posts.append(post)

    def owed(self, card: int, purse: int) -> int:
        """What the card owes of the purse's unit, these moves included."""
        account, found = shortfall_of(purse), self.card(card)
        if not account or found is None:
            return 0
        ends = [post.end for post in self.posts if post.card == card]
        return -found.shortfalls[account] - sum(
            end[1] for end in ends if end is not None and end[0] == account
        )

    def there(self, card: int, purse: int, dates: Dates) -> int:
        """What a lot holds that is not held, these moves included."""
        found = self.card(card)
        if found is None:
            return 0
        lot = found.lot((purse, *dates))
        moved = sum(
            post.amount if post.target == account_of(purse) else -post.amount
            for post in self.posts
            if (post.card, post.purse, post.dates) == (card, purse, dates)
        )
        return max(0, lot.amount - lot.held + moved)

    def give(self, source: int, amount: int, card: int, purse: int, dates: Dates) -> int:
        """Give to a lot; what the card owes is made good first. How much reached the lot."""
        owed = min(self.owed(card, purse), amount)
        if owed > 0:
            self.move(Post(source, shortfall_of(purse), owed, card))
        unit = purse if purse > POINTS else 0
        self.move(Post(source, account_of(purse), amount - owed, card, unit, dates))
        return amount - owed

    def bring_back(self, post: Post, amount: int) -> None:
        """Give back what a move took; what comes back past its last date lapses, or has the days of grace."""
        if post.source in (SHORT_MONEY, SHORT_POINTS):
            # It may have been made good since: then the purse gets it.
            purse = PRINCIPAL if post.source == SHORT_MONEY else POINTS
            self.give(post.target, amount, post.card, purse, UNDATED)
            return
        if not post.purse:
            self.move(Post(post.target, post.source, amount, post.card, post.unit))
            return
        dates, over = post.dates, 0 < post.dates[1] < self.today
        if over and self.grace_days:
            dates = dates[0], self.today + self.grace_days - 1
        given = self.give(post.target, amount, post.card, post.purse, dates)
        if over and not self.grace_days:
            account, pool = account_of(post.purse), pool_of(post.purse)
            self.move(Post(account, pool, given, post.card, post.unit, dates))

    def take_back(self, post: Post, wanted: int) -> None:
        """Take back what a move gave: from its lot what that has, the rest is a shortfall."""
        taken = min(wanted, self.there(post.card, post.purse, post.dates)) if post.purse else 0
        if post.purse in self.growth:
            wanted = taken  # what has lapsed is not owed
        self.move(Post(post.target, post.source, taken, post.card, post.unit, post.dates))
        short = SHORT_POINTS if is_of_points(post) else SHORT_MONEY
        self.move(Post(short, post.source, wanted - taken, post.card))

    def claw_back(self, post: Post, amount: int, since: int) -> None:
        """The same; points with the growth that they alone would have had since a date."""
        if post.purse == POINTS:
            amount = grown(amount, [rate for date, rate in self.rates if date >= since])
        self.take_back(post, amount)


def last_day(today: int, days: int, until: str) -> int:
    """The last day of the day, month or year in which so many days end; 0: never."""
    if not days:
        return 0
    epoch = datetime.date(1970, 1, 1)
    last = epoch + datetime.timedelta(today + days - 1)
    if until == "month":
        last = (last.replace(day=28) + datetime.timedelta(4)).replace(day=1) - datetime.timedelta(1)
    elif until == "year":
        last = last.replace(month=12, day=31)
    return (last - epoch).days


def is_of_points(post: Post) -> bool:
    return post.source in POINTS_ACCOUNTS


def grown(amount: int, rates: Iterable[int]) -> int:
    """What points are by now, alone, after growths of these rates."""
    carry = 0
    for rate in rates:
        growth, carry = divmod(amount * rate + carry, ONE)
        amount += min(growth, CAP - amount)
    return amount


def shares(amounts: Sequence[int], refunded: int) -> list[int]:
    """What each of those who paid gets back once so much is refunded."""
    whole, left, shared = sum(amounts), refunded, []
    for amount in amounts:
        after = left * (whole - amount) // whole if whole else 0
        shared.append(left - after)
        left, whole = after, whole - amount
    return shared
