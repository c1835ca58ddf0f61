"""The chain that the workloads run on - merchants, stores, terminals, cards with money - and its books.

Card i has the 16 digits of i x 6180339887498949 mod 10^16: the whole range, no two alike; the driver of W2
counts the same way. All amounts are in minor units. Store s belongs to merchant 1 + s mod 100 and has two
terminals: s takes the swipes that are measured, 10,000 + s issued the cards and took their first money, so
that no trace of a swipe meets one of the build. The chain's first business date is `DAY`.
"""

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onecard import Engine, Rules, codes, rows

DAY = datetime.date(2026, 3, 2)
MERCHANTS = 100
STORES = 10_000
# Enough for any run: the mix tops up more than it spends, and a card's luck never runs so low.
OPENING_AMOUNT = 1_000_000
RULES = Path(__file__).with_name("rules.toml")

# Cards are issued in steps: enough to keep the engine busy, little enough to tell progress.
STEP = 1 << 18
_SPREAD = 6_180_339_887_498_949
_CARD_RANGE = 10**16
_WITHIN = 2048

Tell = Callable[[str], None]
Column = npt.NDArray[np.uint64]
Sums = dict[codes.Account, int]


class BenchError(Exception):
    """A workload that cannot run, or that posted something else than it should have."""


def expect(true: bool, otherwise: str) -> None:
    """BenchError unless it is true: a benchmark that posts the wrong numbers fails."""
    if not true:
        raise BenchError(otherwise)


class CardNumbers:
    """Numbers of the cards 0 to `cards` - 1, from two tables that stay in cache however many cards there are.

    Index = run x 2,048 + rest, so number = (base of the run + number of the rest) mod 10^16.
    """

    def __init__(self, cards: int) -> None:
        runs = range((cards - 1) // _WITHIN + 1)
        self._base = np.array([run * _WITHIN * _SPREAD % _CARD_RANGE for run in runs], np.uint64)
        # Below 2,048 index x spread stays below 2^64.
        self._rest = np.arange(_WITHIN, dtype=np.uint64) * np.uint64(_SPREAD) % np.uint64(_CARD_RANGE)

    def of(self, indexes: npt.NDArray[np.int64]) -> Column:
        """The numbers of the cards with these indexes."""
        numbers = self._base[indexes >> 11] + self._rest[indexes & (_WITHIN - 1)]
        # The sum is below 2 x 10^16; if it is below 10^16, the difference wraps and the sum is less.
        least: Column = np.minimum(numbers, numbers - np.uint64(_CARD_RANGE))
        return least


def card_numbers(indexes: npt.NDArray[np.int64]) -> Column:
    """The numbers of the cards with these indexes."""
    return CardNumbers(int(indexes.max()) + 1).of(indexes)


def build(
    engine: Engine,
    cards: int,
    tell: Tell = lambda _: None,
    *,
    rules: Path | Rules = RULES,
    products: int = 1,
    opening: int = OPENING_AMOUNT,
) -> None:
    """Registers the chain, publishes the rules, issues cards of the products by turns, and tops them up."""
    engine.register_programme(1, "bench", DAY)
    engine.register([("merchant", 1, merchant, 0, f"merchant {merchant}") for merchant in _to(MERCHANTS)])
    engine.register([("store", 1, store, 1 + store % MERCHANTS, f"store {store}") for store in _to(STORES)])
    for first in (0, STORES):
        engine.register([("terminal", 1, first + store, store, "") for store in _to(STORES)])
    expect(engine.publish(rules) == codes.Code.APPROVED, "the rules were not published")
    issue(engine, 0, cards, DAY, tell, products=products, opening=opening)


def issue(
    engine: Engine,
    first: int,
    cards: int,
    day: datetime.date,
    tell: Tell = lambda _: None,
    *,
    products: int = 1,
    opening: int = OPENING_AMOUNT,
) -> None:
    """Issues the cards from index `first` up to `cards` and tops each of them up."""
    numbers = CardNumbers(cards)
    for start in range(first, cards, STEP):
        tell(f"issuing {start:,} of {cards:,} cards")
        indexes = np.arange(start, min(start + STEP, cards))
        batch = office_rows(numbers, indexes, day, times=3)
        batch["kind"], batch["product"] = codes.Kind.ISSUE, 1 + indexes % products
        expect(not engine.execute(batch)["code"].any(), "a card was not issued")
        batch["kind"], batch["product"] = codes.Kind.TOP_UP, 0
        batch["amount"] = opening
        batch["trace"] += 1
        expect(not engine.execute(batch)["code"].any(), "a card was not topped up")


def office_rows(
    numbers: CardNumbers, indexes: npt.NDArray[np.int64], day: datetime.date, *, times: int
) -> rows.Batch:
    """A row for each card, from the terminals of the build, with room for `times` traces a card."""
    batch = np.zeros(len(indexes), rows.REQUEST)
    batch["card"], batch["card_digits"] = numbers.of(indexes), 16
    batch["business_date"], batch["local_time"] = rows.days(day), rows.NOON
    batch["terminal"] = STORES + 1 + indexes % STORES
    batch["trace"] = 1 + times * (indexes // STORES)
    return batch


def totals(engine: Engine) -> tuple[int, Sums]:
    """Entries of the journal, and the total of every account."""
    balance = engine.trial_balance()
    return balance.entries, {code: balance.totals.get(code, 0) for code in codes.Account}


def check_books(engine: Engine, entries: int, expected: Sums | None = None) -> None:
    """The journal has so many entries, every unit sums to zero, and these accounts have these totals."""
    balance = engine.trial_balance()
    expect(balance.entries == entries, f"the journal has {balance.entries} entries, not {entries}")
    expect(balance.money_sum == 0 and balance.points_sum == 0, "the books do not sum to zero")
    for account, total in (expected or {}).items():
        found = balance.totals.get(account, 0)
        expect(found == total, f"account {account} holds {found}, the answers say {total}")


def _to(last: int) -> range:
    return range(1, last + 1)
