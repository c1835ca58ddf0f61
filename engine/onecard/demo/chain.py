"""What the chain's tills ask: cards, top-ups and purchases of a business day, in the order of time.

Known here is what a real gateway would know: the baskets up to now, and what the last receipts said. The
rules are not known here, but for what a new card is given; the engine prices. The demo's own rules of
behaviour (docs/demo.md):

- A household gets its card at the till of its first basket, and bundle 1, if the rules have one that costs
  nothing.
- A card runs low when its principal may not cover a basket: bonus may lapse, and is not counted on. It is
  topped up at that till, before the basket, by the next multiple of 50.00 above what is missing, and by
  100.00 at least.
- A basket is told line by line, a line for each department. One of fuel alone is paid at the pump.
- Households ask to pay with points on Saturdays and Sundays, and give a coupon with the first baskets that
  are large enough for it.
- Head office funds growth on the first business day and then on the first of every month.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from onecard.demo.data import DAY_S, FUEL, DemoError, Year
from onecard.v1 import admin_pb2
from onecard.v1.terminal_pb2 import Transaction
from onecard.v1.transaction_pb2 import Answer, Header

PROGRAMME = 1
MERCHANT = 1
HEAD_OFFICE = 99_999
TILLS_MAX = 100
# Baskets that one till takes on its store's busiest day.
TILL_BASKETS = 8
CARD_BASE = 6017_0000_0000_0000
TOP_UP_STEP = 50_00
TOP_UP_MIN = 100_00
FUND_POINTS = 10_000 * 10_000
WELCOME = 1
COUNTER, PUMP = 0, 1
EPOCH = date(1970, 1, 1)
SATURDAY = 5


def yyyymmdd(days: int) -> int:
    """A business date as the protocol writes it."""
    day = EPOCH + timedelta(days=days)
    return day.year * 10_000 + day.month * 100 + day.day


def hhmmss(seconds: int) -> int:
    """A time of day, 0 to 86,399 seconds after midnight, as the protocol writes it."""
    return seconds // 3600 * 10_000 + seconds // 60 % 60 * 100 + seconds % 60


def card_number(household: int) -> str:
    """The 16 digits on a household's card."""
    return str(CARD_BASE + household)


def top_up(balance: int, basket: int) -> int:
    """Cents to top up before a basket, 0 if the balance covers it."""
    missing = basket - balance
    if missing <= 0:
        return 0
    return max(TOP_UP_MIN, -(-missing // TOP_UP_STEP) * TOP_UP_STEP)


@dataclass
class Coupons:
    """Coupons of a unit that a household has: how many are left, their last date, and the least basket."""

    unit: int
    left: int
    until: int | None
    min_spend: int


class Chain:
    """The stores' tills and the cards' last receipts. Not thread-safe.

    `tables` are the rules that stand on the shelf: what a new card is given, and what its coupons ask for.
    """

    def __init__(self, year: Year, tables: dict[str, Any]) -> None:
        self.year = year
        self._welcome = next((of for of in tables.get("bundles", []) if of["id"] == WELCOME), None)
        if self._welcome is not None and self._welcome.get("price", 0):
            self._welcome = None
        self._units = {unit["id"]: unit for unit in tables.get("units", [])}
        self._coupons: dict[int, list[Coupons]] = {}
        self.baskets_of_nothing = 0
        self._tills = _tills(year)
        self._turn: Counter[int] = Counter()
        self._trace: Counter[int] = Counter()
        # Principal by household, as its last receipt showed it.
        self._receipt: dict[int, int] = {}
        # Whose answers are awaited, in order; None for head office.
        self._asked: list[int | None] = []

    def registrations(self) -> list[admin_pb2.Registration]:
        """Programme, merchant, stores and terminals, in the order in which they depend on each other."""
        stores = [*self._tills, HEAD_OFFICE]
        names = {HEAD_OFFICE: "Head office"}
        first = admin_pb2.Programme(
            programme=PROGRAMME, name="Complete Journey", business_date=yyyymmdd(int(self.year.date[0]))
        )
        merchant = admin_pb2.Merchant(programme=PROGRAMME, merchant=MERCHANT, name="The chain")
        rows = [admin_pb2.Registration(programme=first), admin_pb2.Registration(merchant=merchant)]
        for store in stores:
            row = admin_pb2.Store(
                programme=PROGRAMME, store=store, merchant=MERCHANT, name=names.get(store, f"Store {store}")
            )
            rows.append(admin_pb2.Registration(store=row))
        for store in stores:
            for till in range(1, self._tills.get(store, 1) + 1):
                terminal = admin_pb2.Terminal(
                    programme=PROGRAMME, terminal=_terminal(store, till), store=store
                )
                rows.append(admin_pb2.Registration(terminal=terminal))
        return rows

    def ask(self, day: int, first: int, end: int) -> Iterator[Transaction]:
        """The transactions of a business day whose baskets are the rows first to end.

        Before the next day is asked, `read` must have seen every answer of this one.
        """
        self._asked = []
        on = EPOCH + timedelta(days=day)
        midnight = yyyymmdd(day) * 1_000_000
        if on.day == 1 or day == self.year.date[0]:
            yield self._fund(midnight)
        # What each card holds at least: the list amount is the most that a basket takes.
        floor = dict(self._receipt)
        year = self.year
        columns = (year.household, year.store, year.paid, year.time, year.first_line, year.end_line)
        for household, store, paid, time, *lines in zip(
            *(column[first:end].tolist() for column in columns), strict=True
        ):
            self._turn[store] += 1
            terminal = _terminal(store, self._turn[store] % self._tills[store] + 1)
            moment = midnight + hhmmss(time)
            if household not in floor:
                floor[household] = 0
                yield self._issue(household, terminal, moment)
                if self._welcome is not None:
                    yield self._greet(self._welcome, household, terminal, moment, day)
            if paid <= 0:
                self.baskets_of_nothing += 1
                continue
            if amount := top_up(floor[household], paid):
                floor[household] += amount
                yield self._top_up(household, terminal, moment, amount)
            floor[household] -= paid
            asked = self._purchase(household, terminal, moment, paid, slice(*lines))
            asked.purchase.use_points = on.weekday() >= SATURDAY
            self._give_coupon(asked, household, day)
            yield asked

    def read(self, answers: Sequence[Answer]) -> None:
        """Take the receipts of the day: all answers, in the order of `ask`."""
        if len(answers) != len(self._asked):
            raise DemoError(f"{len(self._asked)} transactions were asked, {len(answers)} were answered")
        for household, answer in zip(self._asked, answers, strict=True):
            if household is not None:
                self._receipt[household] = answer.principal_balance

    def _fund(self, moment: int) -> Transaction:
        asked = Transaction()
        asked.fund.amount = FUND_POINTS
        self._head(asked.fund.header, None, _terminal(HEAD_OFFICE, 1), moment)
        return asked

    def _issue(self, household: int, terminal: int, moment: int) -> Transaction:
        asked = Transaction()
        asked.issue.card = card_number(household)
        asked.issue.product = self.year.products[household]
        self._head(asked.issue.header, household, terminal, moment)
        return asked

    def _top_up(self, household: int, terminal: int, moment: int, amount: int) -> Transaction:
        asked = Transaction()
        asked.top_up.card = card_number(household)
        asked.top_up.amount = amount
        self._head(asked.top_up.header, household, terminal, moment)
        return asked

    def _greet(
        self, bundle: dict[str, Any], household: int, terminal: int, moment: int, day: int
    ) -> Transaction:
        """The bundle for a new card; the household remembers the coupons in it."""
        asked = Transaction()
        asked.grant.card = card_number(household)
        asked.grant.bundle, asked.grant.count = bundle["id"], 1
        self._head(asked.grant.header, household, terminal, moment)
        for grant in bundle["grants"]:
            unit = self._units.get(grant["unit"], {})
            if unit.get("kind") == "coupon":
                days = grant.get("days", 0)
                until = day + days - 1 if days else None
                coupons = Coupons(unit["id"], grant["amount"], until, unit.get("min_spend", 0))
                self._coupons.setdefault(household, []).append(coupons)
        return asked

    def _purchase(self, household: int, terminal: int, moment: int, amount: int, lines: slice) -> Transaction:
        asked = Transaction()
        asked.purchase.card = card_number(household)
        asked.purchase.amount = amount
        self._head(asked.purchase.header, household, terminal, moment)
        departments = self.year.department[lines].tolist()
        for department, cents in zip(departments, self.year.cents[lines].tolist(), strict=True):
            asked.purchase.lines.add(category=department, amount=cents)
        asked.purchase.header.channel = PUMP if departments == [FUEL] else COUNTER
        return asked

    def _give_coupon(self, asked: Transaction, household: int, day: int) -> None:
        """A coupon with the purchase, if the household has one that is good for it."""
        for coupons in self._coupons.get(household, ()):
            in_time = coupons.until is None or day <= coupons.until
            if coupons.left and in_time and asked.purchase.amount >= coupons.min_spend:
                coupons.left -= 1
                asked.purchase.coupons.add(unit=coupons.unit, count=1)
                return

    def _head(self, header: Header, household: int | None, terminal: int, moment: int) -> None:
        """Fill a header in place, which is twice as fast as copying one in, and await its answer."""
        self._asked.append(household)
        self._trace[terminal] += 1
        header.programme = PROGRAMME
        header.terminal = terminal
        header.business_date = moment // 1_000_000
        header.trace = self._trace[terminal]
        header.local_time = moment


def _terminal(store: int, till: int) -> int:
    return store * TILLS_MAX + till


def _tills(year: Year) -> dict[int, int]:
    """Number of tills of every store: enough for its busiest day, and one at least."""
    busiest = dict.fromkeys(year.stores.tolist(), 1)
    store_days, baskets = np.unique(year.store * DAY_S + (year.date - year.date[0]), return_counts=True)
    for store_day, count in zip(store_days.tolist(), baskets.tolist(), strict=True):
        busiest[store_day // DAY_S] = max(busiest[store_day // DAY_S], count)
    if HEAD_OFFICE in busiest or max(busiest.values()) > TILLS_MAX * TILL_BASKETS:
        raise DemoError("the stores of the data do not fit the numbers that the demo gives out")
    return {store: -(-count // TILL_BASKETS) for store, count in busiest.items()}
