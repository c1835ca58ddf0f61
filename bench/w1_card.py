"""W1-card: purchases with two coupons, a pass and three purses, beside the plain swipe, in turn in one run.

The cards are as many as W1's, and each has coupons of two series, visits, points, bonus and principal
enough for any run. A purchase of this workload takes a coupon of either series and a visit; what they leave
is paid by points, bonus and principal, all of which pay. As in W1 the figure is the median of the runs, over
answers that are durable, several batches in flight; every answer is looked at, and after each run the books
must hold what the answers told, coupon by coupon. The plain swipe is that of W1: its mix and its rules, on
cards that have nothing else, in a data directory of its own. While one engine is measured the other rests.
"""

import datetime
import statistics
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from bench.chain import DAY, STORES, CardNumbers, build, expect, office_rows
from bench.options import Options, cards_of, scratch
from bench.swipes import Swipes
from bench.w1 import IN_FLIGHT, swim
from onecard import Engine, rows
from onecard.codes import Account, Kind

CARDS = 1_000_000
RULES = Path(__file__).with_name("card.toml")
VISIT, ONE_OFF, TWO_OFF = 16, 17, 18
BUNDLE = 1
AMOUNTS = (2_000, 20_000)
# Nothing is paid in while it runs: enough for thousands of purchases a card.
OPENING_AMOUNT = 100_000_000
# Of a purchase: two coupons and a visit are taken, and these accounts told of.
ITEMS = 3
PURSES = (Account.CARD_POINTS, Account.CARD_BONUS, Account.CARD_PRINCIPAL)
# Cards are granted in steps, as they are issued.
STEP = 1 << 18
# Batches that are drawn once and used in turn.
BATCHES = 8


class Purchases:
    """Batches of purchases with items, each with its own card and key."""

    def __init__(self, cards: int, seed: int, day: datetime.date, first_trace: int) -> None:
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._numbers, self._cards = CardNumbers(cards), cards
        self._traces = np.full(STORES + 1, first_trace, np.uint32)
        self._day, self._used = rows.days(day), 0
        self._drawn = [self._draw() for _ in range(BATCHES)]

    def _draw(self) -> rows.Requests:
        size = rows.GROUP_MAX
        batch = np.zeros(size, rows.REQUEST)
        batch["kind"], batch["card_digits"] = Kind.PURCHASE, 16
        batch["flags"], batch["business_date"] = rows.FLAG_USE_POINTS, self._day
        batch["local_time"] = self._random.integers(8 * 3600, 22 * 3600, size)
        # Each terminal comes once at most in a batch, so that a batch's traces are one vector operation.
        batch["terminal"] = 1 + self._random.permutation(STORES)[:size]
        batch["amount"] = self._random.integers(*AMOUNTS, size, endpoint=True)
        batch["items"], batch["first_item"] = ITEMS, np.arange(size) * ITEMS
        items = np.concatenate([rows.coupon(ONE_OFF), rows.coupon(TWO_OFF), rows.pass_(VISIT)])
        return rows.Requests(batch, np.tile(items, size))

    def next(self) -> rows.Requests:
        """The next batch, ready to submit; the engine copies it, then it may be used again."""
        drawn = self._drawn[self._used % BATCHES]
        self._used += 1
        batch = drawn.rows
        batch["card"] = self._numbers.of(self._random.integers(0, self._cards, len(batch)))
        batch["trace"] = self._traces[batch["terminal"]]
        self._traces[batch["terminal"]] += 1
        return drawn

    @property
    def next_trace(self) -> int:
        """A trace that no terminal has used yet, nor any after it."""
        return int(self._traces.max())


def run(options: Options) -> dict[str, object]:
    """Figures of the workload, and of the plain swipe in the same run."""
    cards = cards_of(options, CARDS)
    whole: list[float] = []
    plain: list[float] = []
    with (
        scratch("w1-card") as directory,
        _open(directory / "card", options) as engine,
        _open(directory / "plain", options) as plain_engine,
    ):
        build(plain_engine, cards, options.tell)
        build(engine, cards, options.tell, rules=RULES, opening=OPENING_AMOUNT)
        granted = _grant(engine, cards, options)
        plain_trace = trace = 1
        for number in range(1, options.runs + 1):
            options.tell(f"W1-card, plain swipes: run {number} of {options.runs}")
            swipes = Swipes(cards, seed=number, keys="traces", day=DAY, first_trace=plain_trace)
            plain.append(swim(plain_engine, swipes, options.seconds / 2).swipes_per_s)
            plain_trace = swipes.next_trace
            # What one engine has still to write is not to be written beside the other's run.
            plain_engine.checkpoint()
            options.tell(f"W1-card, purchases with items: run {number} of {options.runs}")
            purchases = Purchases(cards, number, DAY, trace)
            whole.append(_shop(engine, purchases, options.seconds / 2))
            trace = purchases.next_trace
            engine.checkpoint()
        stats = engine.stats()
    rate, beside = statistics.median(whole), statistics.median(plain)
    return {
        "id": "W1-card",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": options.seconds / 2,
        "swipes_per_s": round(rate),
        "swipes_per_s_min": round(min(whole)),
        "swipes_per_s_max": round(max(whole)),
        "plain_swipes_per_s": round(beside),
        "plain_swipes_per_s_min": round(min(plain)),
        "plain_swipes_per_s_max": round(max(plain)),
        "grants_per_s": round(granted),
        "entries": stats.entries,
        "ratios": {"plain": round(rate / beside, 3)},
    }


def _open(data: Path, options: Options) -> Engine:
    return Engine(data, checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT)


def _grant(engine: Engine, cards: int, options: Options) -> float:
    """The bundle, for every card: a row each. Cards a second, all durable, making the rows included."""
    numbers, began = CardNumbers(cards), time.perf_counter()
    for start in range(0, cards, STEP):
        options.tell(f"granting to {start:,} of {cards:,} cards")
        batch = office_rows(numbers, np.arange(start, min(start + STEP, cards)), DAY, times=3)
        batch["kind"], batch["product"], batch["amount"] = Kind.GRANT, BUNDLE, 1
        batch["trace"] += 2
        expect(not engine.execute(batch)["code"].any(), "a bundle was not granted")
    return cards / (time.perf_counter() - began)


def _shop(engine: Engine, purchases: Purchases, seconds: float) -> float:
    """Purchases a second, all durable; the books are held to their answers."""
    entries, before, units = _totals(engine)
    flying: deque[Future[rows.Answers]] = deque()
    count, paid, told = 0, 0, np.zeros(len(PURSES), np.int64)

    def land() -> None:
        nonlocal count, paid
        answers = flying.popleft().result()
        expect(not answers["code"].any() and not answers["replayed"].any(), "a purchase was not approved")
        count += len(answers)
        paid += int(answers["amount"].sum())
        earned = answers["points_earned"].sum() - answers["points_spent"].sum()
        told[:] += [earned, answers["bonus"].sum(), answers["principal"].sum()]
        # Every one of them told of two coupons, a visit and three purses.
        pays = (answers["points_spent"] > 0) & (answers["bonus"] < 0) & (answers["principal"] < 0)
        expect(bool(pays.all()), "a purse did not pay")
        taken = answers.parts["account"] == Account.CARD_UNIT
        expect(int(answers.parts["amount"][taken].sum()) == -ITEMS * len(answers), "coupons were not taken")

    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        flying.append(engine.submit(purchases.next()))
        if len(flying) > IN_FLIGHT:
            land()
    while flying:
        land()
    took = time.perf_counter() - start
    entries_after, after, units_after = _totals(engine)
    expect(entries_after - entries == count, f"there are {entries_after - entries} new entries, not {count}")
    for account, change in zip(PURSES, told.tolist(), strict=True):
        expect(after[account] - before[account] == change, f"account {account} is not what the answers say")
    sold = after[Account.STORE_CLEARING] - before[Account.STORE_CLEARING]
    expect(sold == paid, "the stores did not get what was paid")
    for unit in (VISIT, ONE_OFF, TWO_OFF):
        expect(units[unit] - units_after[unit] == count, f"unit {unit} was not taken once a purchase")
    return count / took


def _totals(engine: Engine) -> tuple[int, dict[int, int], dict[int, int]]:
    """Entries of the journal, total of every account, and what the cards have of every unit."""
    balance = engine.trial_balance()
    expect(balance.money_sum == 0 and balance.points_sum == 0, "the books do not sum to zero")
    expect(not any(sum(unit) for unit in balance.units.values()), "a unit does not sum to zero")
    return balance.entries, balance.totals, {unit: cards for unit, (cards, _, _) in balance.units.items()}
