"""The chain that the workloads run on: stores, terminals, cards with money, and random swipes.

Card i has the 16 digits of i x 6180339887498949 mod 10^16: the whole range, no two alike; the driver of W2
counts the same way. All amounts are in minor units. The business date is the chain's first and stays open.
"""

import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onecard import Engine, codes, rows

DAY = datetime.date(2026, 3, 2)
STORES = 10_000
# Enough for any run: the mix spends more than it tops up.
OPENING_AMOUNT = 1_000_000
RULES = Path(__file__).with_name("rules.toml")

_SPREAD = 6_180_339_887_498_949
_CARD_RANGE = 10**16


class BenchError(Exception):
    """A workload that cannot run, or that posted something else than it should have."""


def card_numbers(indexes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The numbers of the cards with these indexes."""
    # In runs of 2,048: within one, index x spread stays below 2^64.
    runs = range(int(indexes.max()) // 2048 + 1)
    base = np.array([run * 2048 * _SPREAD % _CARD_RANGE for run in runs], np.uint64)
    within = (indexes % 2048).astype(np.uint64) * np.uint64(_SPREAD) % np.uint64(_CARD_RANGE)
    return (base[indexes // 2048] + within) % np.uint64(_CARD_RANGE)


def build(engine: Engine, cards: int) -> None:
    """Registers the chain, issues the cards and tops each of them up."""
    engine.register_programme(1, "bench", DAY)
    engine.register_merchant(1, "bench")
    engine.register([("store", 1, store, 1, f"store {store}") for store in range(1, STORES + 1)])
    engine.register([("terminal", 1, store, store, "") for store in range(1, STORES + 1)])
    expect(engine.publish(RULES) == codes.Code.APPROVED, "the rules were not published")
    step = 1 << 18
    for first in range(0, cards, step):
        count = min(step, cards - first)
        batch = np.zeros(count, rows.REQUEST)
        batch["card"] = card_numbers(np.arange(first, first + count))
        batch["card_digits"] = 16
        batch["business_date"] = rows.days(DAY)
        batch["local_time"] = rows.NOON
        batch["terminal"] = 1 + np.arange(count) % STORES
        batch["kind"], batch["product"] = codes.Kind.ISSUE, 1
        batch["id_hi"], batch["id_lo"] = 1, 1 + first + np.arange(count)
        expect(not engine.execute(batch)["code"].any(), "a card was not issued")
        batch["kind"], batch["product"] = codes.Kind.TOP_UP, 0
        batch["amount"], batch["id_hi"] = OPENING_AMOUNT, 2
        expect(not engine.execute(batch)["code"].any(), "a card was not topped up")


class Swipes:
    """Batches of the workload's mix, each swipe distinct: 60% purchases, 30% top-ups, 10% balances.

    Half of the keys are traces of their terminal, half random 128-bit ids. Kinds, amounts and terminals are
    drawn once for some batches that are used in turn; cards and keys are drawn anew each time.
    """

    def __init__(self, cards: int, seed: int, *, drawn: int = 64) -> None:
        self._random = np.random.default_rng(seed)
        self._cards = card_numbers(np.arange(cards))
        self._drawn = [self._draw() for _ in range(drawn)]
        self._used = 0

    def _draw(self) -> rows.Batch:
        size = rows.GROUP_MAX
        random = self._random
        batch = np.zeros(size, rows.REQUEST)
        share = random.random(size)
        kinds = [codes.Kind.PURCHASE, codes.Kind.TOP_UP, codes.Kind.BALANCE]
        batch["kind"] = np.select([share < 0.6, share < 0.9], kinds[:2], kinds[2])
        batch["card_digits"] = 16
        batch["business_date"] = rows.days(DAY)
        batch["local_time"] = random.integers(8 * 3600, 22 * 3600, size)
        batch["terminal"] = random.integers(1, STORES + 1, size)
        moves = batch["kind"] != codes.Kind.BALANCE
        batch["amount"] = np.where(moves, random.integers(100, 20_000, size), 0)
        batch["flags"] = np.where(batch["kind"] == codes.Kind.PURCHASE, rows.FLAG_USE_POINTS, 0)
        batch["local_time"][~moves] = 0
        return batch

    def next(self) -> rows.Batch:
        """The next batch; it may be used until as many others were taken as are drawn."""
        batch = self._drawn[self._used % len(self._drawn)]
        self._used += 1
        size = len(batch)
        batch["card"] = self._cards[self._random.integers(0, len(self._cards), size)]
        moves = batch["kind"] != codes.Kind.BALANCE
        traced = moves & (np.arange(size) % 2 == 0)
        named = moves & ~traced
        # Traces count on over all terminals: none is used twice. Ids are random.
        batch["trace"] = np.where(traced, self._used * size + np.arange(size), 0)
        batch["id_hi"] = np.where(named, self._random.integers(1, 1 << 63, size), 0)
        batch["id_lo"] = np.where(named, self._random.integers(0, 1 << 63, size), 0)
        return batch


def expect(true: bool, otherwise: str) -> None:
    """BenchError unless it is true: a benchmark that posts the wrong numbers fails."""
    if not true:
        raise BenchError(otherwise)


def check_books(engine: Engine, entries: int) -> None:
    """The journal has so many entries, and every unit sums to zero."""
    balance = engine.trial_balance()
    expect(balance.entries == entries, f"the journal has {balance.entries} entries, not {entries}")
    expect(balance.money_sum == 0 and balance.points_sum == 0, "the books do not sum to zero")
