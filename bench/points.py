"""Cards with points, and what the points must grow to: an account of its own, kept by numpy.

A card gets its points by one purchase. Cards of the same cohort - issued on the same day - and the same
amount have the same points for ever, so the account of all cards is one row for each such pair, and exact:
growth of a day is floor((points x rate + carry) / 10^12), the remainder is the new carry.
"""

import datetime

import numpy as np
import numpy.typing as npt

from bench.chain import OPENING_AMOUNT, STEP, CardNumbers, Tell, expect, issue, office_rows
from bench.swipes import PURCHASES
from onecard import Engine, codes, rows

# rules.toml: 0.01% a day over 10^12; 5% discount; 1 point (10,000 units) for CNY 1.00 (100 minor units).
RATE = 100_000_000
ONE = 10**12
FUNDING = 10**14
# Strews the amounts over the cards.
_STRIDE = 7_919

Amounts = npt.NDArray[np.int64]


class Points:
    """Points of all cards that were issued through it."""

    def __init__(self) -> None:
        self.cards = 0
        self._points: Amounts = np.zeros(0, np.int64)
        self._carry: Amounts = np.zeros(0, np.int64)
        self._count: Amounts = np.zeros(0, np.int64)

    def issue(self, engine: Engine, cards: int, day: datetime.date, tell: Tell) -> None:
        """Issues cards until there are so many, each with points; funds their growth."""
        issue(engine, self.cards, cards, day, tell)
        low, high = PURCHASES
        span = high - low + 1
        count = np.zeros(span, np.int64)
        numbers = CardNumbers(cards)
        for start in range(self.cards, cards, STEP):
            tell(f"points for {start:,} of {cards:,} cards")
            indexes = np.arange(start, min(start + STEP, cards))
            rest = indexes * _STRIDE % span
            batch = office_rows(numbers, indexes, day, times=3)
            batch["kind"], batch["amount"] = codes.Kind.PURCHASE, low + rest
            batch["trace"] += 2
            answers = engine.execute(batch)
            expect(not answers["code"].any(), "a card could not buy")
            expect(bool(np.array_equal(answers["points_balance"], earned(low + rest))), "points were misread")
            count += np.bincount(rest, minlength=span)
        self._points = np.concatenate([self._points, earned(low + np.arange(span))])
        self._carry = np.concatenate([self._carry, np.zeros(span, np.int64)])
        self._count = np.concatenate([self._count, count])
        self.cards = cards
        [answer] = engine.execute(rows.fund(FUNDING, terminal=1, id=cards, business_date=day))
        expect(answer["code"] == 0, "the growth was not funded")

    def outstanding(self) -> int:
        """Points of all cards."""
        return int((self._points * self._count).sum())

    def grow(self) -> int:
        """Grows all points by a day, and tells by how much."""
        total = self._points * RATE + self._carry
        growth = total // ONE
        self._carry = total % ONE
        self._points = self._points + growth
        return int((growth * self._count).sum())


def earned(amounts: Amounts) -> Amounts:
    """Points that a first purchase of these amounts earns, by the rules of the bench."""
    expect(int(amounts.max(initial=0)) < OPENING_AMOUNT, "a card cannot pay so much")
    return (amounts - amounts * 5 // 100) * 100
