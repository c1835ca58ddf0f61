"""The swipes of the workloads: batches of their mix, and the tally of their answers.

Every swipe has its own card and key, and drawing them is inside the measured time, so it must cost little:
batches are drawn once and used in turn, and a use changes cards and keys only, by a few vector operations
into memory that is there already. The rows of a batch keep kind, terminal and amount. No answer goes
unlooked at: kind, code, date and the mark of a retry are compared row by row, and all amounts are summed,
so that the accounts can be held to what the answers told.
"""

import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.chain import DAY, STORES, CardNumbers, Column, Sums, check_books, expect, totals
from onecard import Engine, rows
from onecard.codes import Account, Kind

Draw = Literal["uniform", "zipf"]
Keys = Literal["traces", "ids", "half"]

ZIPF = 0.99
# So many draws of a zipf are made beforehand and used in turn: more than there are swipes in some seconds.
ZIPF_POOL = 1 << 24
PURCHASES = (100, 20_000)
# A top-up is 2.5 times a purchase and comes half as often: no card runs dry.
TOP_UPS = (500, 50_000)
_U32_MAX = 2**32 - 1

# An answer is words of 8 bytes: the sequence; date, code, mark of a retry and kind; then one amount each, and
# one of where its parts are.
_WORDS = rows.ANSWER.itemsize // 8
_AMOUNTS = tuple(name for name in rows.ANSWER.names or () if rows.ANSWER[name] == np.int64)


class Drawn:
    """One batch: its rows, and what a use adds to their keys. Rows without that kind of key add 0."""

    def __init__(self, batch: rows.Batch) -> None:
        self.rows = batch
        # What is submitted: the rows, with items where a workload gives them some.
        self.asked: rows.Batch | rows.Requests = batch
        self.card, self.trace = batch["card"], batch["trace"]
        self.id_hi, self.id_lo = batch["id_hi"], batch["id_lo"]
        self.trace_step = np.zeros(len(batch), np.uint32)
        self.id_hi_step = np.zeros(len(batch), np.uint64)
        self.id_lo_step = np.zeros(len(batch), np.uint64)
        self.traced = self.named = False
        moves = batch["kind"] != Kind.BALANCE
        self.moves = int(np.count_nonzero(moves))
        self.topped_up = int(batch["amount"][batch["kind"] == Kind.TOP_UP].sum())
        answer = np.zeros(len(batch), rows.ANSWER)
        answer["kind"] = batch["kind"]
        answer["business_date"] = np.where(moves, batch["business_date"], 0)
        self.expected = _words(answer)[:, 1].copy()

    def renew_keys(self) -> None:
        """Gives every row a key that it has not had."""
        if self.traced:
            np.add(self.trace, self.trace_step, out=self.trace)
        if self.named:
            np.add(self.id_hi, self.id_hi_step, out=self.id_hi)
            np.add(self.id_lo, self.id_lo_step, out=self.id_lo)


class Swipes:
    """Batches of the mix, each swipe distinct: 60% purchases, 30% top-ups, 10% balances.

    Traces count on at each terminal, from `first_trace`. An id is random at first; each use adds random odd
    steps to both halves, so that no id of a row comes back and those of all rows stay strewn over the whole
    range. Cards are drawn anew for each use: uniformly, or by zipf 0.99 over a shuffled order of the cards.
    """

    def __init__(
        self,
        cards: int,
        seed: int,
        *,
        draw: Draw = "uniform",
        keys: Keys = "half",
        day: datetime.date = DAY,
        first_trace: int = 1,
        batches: int = 8,
        size: int = rows.GROUP_MAX,
    ) -> None:
        self._cards = cards
        # SFC64 is the quickest of numpy's generators.
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._numbers = CardNumbers(cards)
        self._size = size
        self._day = rows.days(day)
        self.drawn = [Drawn(self._mix()) for _ in range(batches)]
        self._give_keys(keys, first_trace)
        self._used = 0
        self._zipf = self._draw_zipf() if draw == "zipf" else None

    def _mix(self) -> rows.Batch:
        size, random = self._size, self._random
        batch = np.zeros(size, rows.REQUEST)
        kind = random.choice([Kind.PURCHASE, Kind.TOP_UP, Kind.BALANCE], size, p=[0.6, 0.3, 0.1])
        purchase, top_up = kind == Kind.PURCHASE, kind == Kind.TOP_UP
        batch["kind"], batch["card_digits"] = kind, 16
        batch["terminal"] = random.integers(1, STORES + 1, size)
        batch["business_date"] = self._day
        batch["local_time"] = np.where(purchase | top_up, random.integers(8 * 3600, 22 * 3600, size), 0)
        batch["flags"] = np.where(purchase, rows.FLAG_USE_POINTS, 0)
        batch["amount"][purchase] = random.integers(*PURCHASES, np.count_nonzero(purchase), endpoint=True)
        batch["amount"][top_up] = random.integers(*TOP_UPS, np.count_nonzero(top_up), endpoint=True)
        return batch

    def _give_keys(self, keys: Keys, first_trace: int) -> None:
        taken = np.zeros(STORES + 1, np.int64)  # traces of each terminal in one round of all batches
        share = {"traces": 1.0, "half": 0.5, "ids": 0.0}[keys]
        for drawn in self.drawn:
            moves = drawn.rows["kind"] != Kind.BALANCE
            traced = moves & (self._random.random(self._size) < share)
            named = moves & ~traced
            drawn.traced, drawn.named = bool(traced.any()), bool(named.any())
            count = int(np.count_nonzero(named))
            for column, step in ((drawn.id_hi, drawn.id_hi_step), (drawn.id_lo, drawn.id_lo_step)):
                column[named] = self._random.integers(1, 1 << 64, count, np.uint64)
                step[named] = self._random.integers(0, 1 << 64, count, np.uint64) | np.uint64(1)
            terminals = drawn.rows["terminal"][traced]
            drawn.trace[traced] = first_trace + taken[terminals] + _ordinals(terminals)
            taken += np.bincount(terminals, minlength=STORES + 1)
        for drawn in self.drawn:
            traced = drawn.trace > 0
            drawn.trace_step[traced] = taken[drawn.rows["terminal"][traced]]
            # A key is renewed before it is used, the first time too.
            np.subtract(drawn.trace, drawn.trace_step, out=drawn.trace)
        self._first_trace, self._traces_per_round = first_trace, int(taken.max())

    def _draw_zipf(self) -> Column:
        weights = np.arange(1, self._cards + 1, dtype=np.float64) ** -ZIPF
        reach = np.cumsum(weights)
        ranks = np.searchsorted(reach, self._random.random(ZIPF_POOL) * reach[-1])
        # Which cards are the busy ones is chance: neighbours in rank are not neighbours in memory.
        order = self._random.permutation(self._cards)
        return self._numbers.of(order[np.minimum(ranks, self._cards - 1)])

    def next(self) -> Drawn:
        """The next batch, ready to submit; the engine copies it, then it may be used again."""
        drawn = self.drawn[self._used % len(self.drawn)]
        if self._zipf is None:
            drawn.card[:] = self._numbers.of(self._random.integers(0, self._cards, self._size))
        else:
            at = self._used * self._size % (ZIPF_POOL - self._size)
            drawn.card[:] = self._zipf[at : at + self._size]
        drawn.renew_keys()
        self._used += 1
        expect(self.next_trace <= _U32_MAX, "the terminals have no traces left: take shorter runs")
        return drawn

    @property
    def next_trace(self) -> int:
        """A trace that no terminal has used yet, nor any after it."""
        return self._first_trace + self._traces_per_round * (self._used // len(self.drawn) + 1)


class Tally:
    """What was answered, and what the accounts must have gained by it."""

    def __init__(self) -> None:
        self.answered = self.posted = self.topped_up = 0
        self._sums = np.zeros(_WORDS, np.int64)

    def count(self, drawn: Drawn, answers: rows.Batch) -> None:
        """Counts the answers of a batch; BenchError if one of them is not the approval that was asked for."""
        words = _words(answers)
        if not np.array_equal(words[:, 1], drawn.expected):
            _complain(drawn.rows, answers)
        self.answered += len(answers)
        self.posted += drawn.moves
        self.topped_up += drawn.topped_up
        # 64 rows at a time, so that numpy adds long rows: a third of the time.
        if len(answers) % 64 == 0:
            words = words.reshape(64, -1).sum(axis=0).reshape(-1, _WORDS)
        self._sums += words.sum(axis=0)

    def gained(self) -> Sums:
        """By account: what the answers say that it gained."""
        sums = dict(zip(_AMOUNTS, self._sums[2 : 2 + len(_AMOUNTS)].tolist(), strict=True))
        return {
            Account.CARD_PRINCIPAL: sums["principal"],
            Account.CARD_BONUS: sums["bonus"],
            Account.CARD_POINTS: sums["points_earned"] - sums["points_spent"],
            Account.STORE_CLEARING: sums["amount"] - self.topped_up,
            Account.STORE_COLLECTION: -self.topped_up,
            Account.ISSUER_POINTS: -sums["offset"],
            Account.POINTS_POOL: sums["points_spent"] - sums["points_earned"],
        }

    def add(self, other: "Tally") -> None:
        """Counts all that another has counted."""
        self.answered += other.answered
        self.posted += other.posted
        self.topped_up += other.topped_up
        self._sums += other._sums


class Ledger:
    """What the books must say: what they said at first, and all that was answered since."""

    def __init__(self, engine: Engine) -> None:
        self._entries, self._sums = totals(engine)
        self._gained = Tally()

    @property
    def entries(self) -> int:
        """Entries of the journal."""
        return self._entries + self._gained.posted

    def add(self, tally: Tally) -> None:
        """Takes in what was answered."""
        self._gained.add(tally)

    def check(self, engine: Engine) -> None:
        """BenchError unless the books say the same."""
        gained = self._gained.gained()
        check_books(
            engine, self.entries, {account: self._sums[account] + gain for account, gain in gained.items()}
        )


def _words(answers: rows.Batch) -> npt.NDArray[np.int64]:
    return answers.view(np.int64).reshape(len(answers), _WORDS)


def _ordinals(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """How many of the values before each one are equal to it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ordinals = np.empty(len(values), np.int64)
    ordinals[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return ordinals


def _complain(asked: rows.Batch, answers: rows.Batch) -> None:
    """BenchError that names the first answer that is wrong."""
    moves = asked["kind"] != Kind.BALANCE
    date = np.where(moves, asked["business_date"], 0)
    wrong = (answers["code"] != 0) | (answers["replayed"] != 0)
    wrong |= (answers["kind"] != asked["kind"]) | (answers["business_date"] != date)
    row = int(np.argmax(wrong))
    expect(
        False,
        f"{np.count_nonzero(wrong)} wrong answers in a batch; row {row}: {asked[row]} -> {answers[row]}",
    )
