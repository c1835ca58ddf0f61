"""SQLite: 1,000 swipes a transaction, through Python's sqlite3.

Setting: WAL, synchronous=FULL (a commit is one fsync of the log), the log carried over when it is long, a
large cache. A transaction reads its cards in one statement, prices swipe by swipe in Python, and writes
what changed with executemany. A key that is there already fails the insert; then the transaction is undone
and repeated with a look-up for each key. One connection, one thread.

What differs from the engine: keys are kept for ever, no hash chain, no statement, no feed; the issuer's
accounts and the points pool are split over the stores' rows; terminals, which do not change, are held in
memory.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from bench.chain import card_numbers, expect
from bench.peers.peer import Measured, Peer, Plan, directory, repeat
from bench.peers.swipe import Draw, Drawn, Numbers, check_books, file, numbers
from onecard.codes import Kind

BATCH = 1_000
PEER = Peer("SQLite", f"WAL, synchronous=FULL, {BATCH:,} swipes a transaction, from Python")
WARM_UP_S = 3.0

# page_size comes first: it holds only for a file that is still empty.
SETTINGS = """
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA cache_size = -2000000;
PRAGMA wal_autocheckpoint = 100000;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA temp_store = MEMORY;
"""
TABLES = """
CREATE TABLE terminals (number INTEGER PRIMARY KEY, store INTEGER NOT NULL);
CREATE TABLE stores (number INTEGER PRIMARY KEY, clearing INTEGER NOT NULL, collection INTEGER NOT NULL,
    issuer_bonus INTEGER NOT NULL, issuer_points INTEGER NOT NULL, points_pool INTEGER NOT NULL);
CREATE TABLE cards (number INTEGER PRIMARY KEY, principal INTEGER NOT NULL, bonus INTEGER NOT NULL,
    points INTEGER NOT NULL, expires INTEGER NOT NULL, status INTEGER NOT NULL, product INTEGER NOT NULL);
CREATE TABLE keys (hi INTEGER NOT NULL, lo INTEGER NOT NULL, business_date INTEGER NOT NULL,
    sequence INTEGER NOT NULL, PRIMARY KEY (hi, lo, business_date)) WITHOUT ROWID;
CREATE TABLE journal (sequence INTEGER PRIMARY KEY, hi INTEGER NOT NULL, lo INTEGER NOT NULL,
    business_date INTEGER NOT NULL, local_time INTEGER NOT NULL, terminal INTEGER NOT NULL,
    card INTEGER NOT NULL, amount INTEGER NOT NULL, kind INTEGER NOT NULL, code INTEGER NOT NULL,
    principal INTEGER, bonus INTEGER, points_spent INTEGER, points_earned INTEGER, clearing INTEGER,
    collection INTEGER, issuer_bonus INTEGER, issuer_points INTEGER, points_pool INTEGER);
"""
ROW = "INSERT INTO journal VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
CARD = "UPDATE cards SET principal = ?, bonus = ?, points = ? WHERE number = ?"
STORE = """UPDATE stores SET clearing = clearing + ?, collection = collection + ?,
    issuer_bonus = issuer_bonus + ?, issuer_points = issuer_points + ?, points_pool = points_pool + ?
    WHERE number = ?"""

KEY = "INSERT INTO keys VALUES (?, ?, ?, ?)"
FIRST = """SELECT journal.* FROM keys JOIN journal USING (sequence)
    WHERE keys.hi = ? AND keys.lo = ? AND keys.business_date = ?"""
CARDS = """SELECT number, principal, bonus, points, expires, status FROM cards
    WHERE number IN (SELECT value FROM json_each(?))"""

AMOUNT_MAX = 10**14

# Card principal, bonus, points spent, points earned; the store's clearing, collection, issuer bonus, issuer
# points, points pool. A refusal has none.
Legs = tuple[int, int, int, int, int, int, int, int, int]
First = Callable[[tuple[int, int, int]], tuple[int, ...] | None]
NO_LEGS: Legs = (0,) * 9


def run(plan: Plan) -> Peer:
    """Swipes in transactions, row by row."""
    with directory("sqlite") as home:
        plan.progress(f"{PEER.name}: sets up {plan.cards:,} cards")
        books = _Books(home / "books", numbers(plan.cards))
        with closing(books.connection):
            draw, posted = Draw(plan.cards, seed=1), 0

            def one(seconds: float) -> Measured:
                nonlocal posted
                done, start = 0, time.perf_counter()
                while time.perf_counter() - start < seconds:
                    batch = draw.next(BATCH)
                    codes = books.post(batch)
                    strange = set(codes) - {0, 51}
                    expect(not strange, f"{PEER.name}: swipes were answered {sorted(strange)}")
                    done += len(codes)
                    posted += batch.kept
                return Measured(done / (time.perf_counter() - start))

            found = repeat(PEER, plan, one, WARM_UP_S)
            counted = books.connection.execute(file("books.sql", books.numbers)).fetchone()
            check_books(PEER.name, counted, posted)
            return found


class _Books:
    """The chain in a database."""

    def __init__(self, path: Path, found: Numbers) -> None:
        self.numbers = found
        # No transaction but those that are begun here; room for all statements that are prepared.
        self.connection = sqlite3.connect(path, isolation_level=None, cached_statements=64)
        self.connection.executescript(SETTINGS + TABLES)
        self._fill()
        self._sequence = 0
        self._terminals = dict(self.connection.execute("SELECT number, store FROM terminals"))
        # Of the transaction: cards that it read, which of them changed, what stores gained, keys and rows.
        self._cards: dict[int, list[int]] = {}
        self._changed: set[int] = set()
        self._stores: dict[int, list[int]] = {}
        self._keys: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self._rows: list[tuple[int, ...]] = []

    def _fill(self) -> None:
        found, write = self.numbers, self.connection
        stores = range(1, found.stores + 1)
        held = [(found.cards - store + found.stores) // found.stores for store in stores]
        write.execute("BEGIN")
        write.executemany("INSERT INTO terminals VALUES (?, ?)", ((store, store) for store in stores))
        write.executemany(
            "INSERT INTO stores VALUES (?, 0, ?, ?, 0, 0)",
            (
                (store, -cards * found.opening, -cards * found.opening_bonus)
                for store, cards in zip(stores, held, strict=True)
            ),
        )
        # In order, so that the pages are full.
        ordered = np.sort(card_numbers(np.arange(found.cards)).astype(np.int64)).tolist()
        write.executemany(
            "INSERT INTO cards VALUES (?, ?, ?, 0, 0, 1, 1)",
            ((card, found.opening, found.opening_bonus) for card in ordered),
        )
        write.execute("COMMIT")
        write.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def post(self, batch: Drawn) -> list[int]:
        """The codes of these swipes, durable."""
        # A key that is there already is met when keys are written: then all is undone, and each looked up.
        sequence = self._sequence
        try:
            return self._post(batch, self._keys.get)
        except sqlite3.IntegrityError:
            self.connection.execute("ROLLBACK")
            self._sequence = sequence
            return self._post(batch, self._first)

    def _post(self, batch: Drawn, first: First) -> list[int]:
        self.connection.execute("BEGIN IMMEDIATE")
        found = self.connection.execute(CARDS, (json.dumps(batch.card.tolist()),))
        self._cards = {number: purses for number, *purses in found}
        for of_transaction in (self._changed, self._stores, self._keys, self._rows):
            of_transaction.clear()
        columns = (batch.kind, batch.terminal, batch.card, batch.amount, batch.hi, batch.lo, batch.time)
        swipes = zip(*(column.tolist() for column in columns), strict=True)
        codes = [self._swipe(first, *swipe) for swipe in swipes]
        write = self.connection.executemany
        write(KEY, sorted((*key, row[0]) for key, row in self._keys.items()))
        write(CARD, [(*self._cards[number][:3], number) for number in sorted(self._changed)])
        write(STORE, [(*self._stores[number], number) for number in sorted(self._stores)])
        write(ROW, self._rows)
        self.connection.execute("COMMIT")
        return codes

    def _first(self, key: tuple[int, int, int]) -> tuple[int, ...] | None:
        """The row of an earlier swipe with this key."""
        found: tuple[int, ...] | None = self.connection.execute(FIRST, key).fetchone()
        return self._keys.get(key) or found

    def _swipe(
        self, first: First, kind: int, terminal: int, number: int, amount: int, hi: int, lo: int, local: int
    ) -> int:
        """Checks and posts one, within the transaction; its code."""
        day = self.numbers.day
        key = (hi, lo, day)
        if kind != Kind.BALANCE and (known := first(key)):
            return known[9] if known[5:9] == (terminal, number, amount, kind) else 94
        store = self._terminals.get(terminal)
        if store is None:
            return 58
        card = self._cards.get(number)
        if kind == Kind.BALANCE:
            return 14 if card is None else 0
        code, legs = self._price(kind, amount, card)
        if card is not None and legs is not NO_LEGS:
            principal, bonus, spent, earned, *positions = legs
            card[0] += principal
            card[1] += bonus
            card[2] += spent + earned
            self._changed.add(number)
            sums = self._stores.setdefault(store, [0, 0, 0, 0, 0])
            for at, leg in enumerate(positions):
                sums[at] += leg
        self._sequence += 1
        row = (self._sequence, hi, lo, day, local, terminal, number, amount, kind, code, *legs)
        self._rows.append(row)
        self._keys[key] = row
        return code

    def _price(self, kind: int, amount: int, card: list[int] | None) -> tuple[int, Legs]:
        """The code, and the legs if it is 0."""
        found = self.numbers
        if card is None:
            return 14, NO_LEGS
        principal, bonus, points, expires, status = card
        if status != 1:
            return 62, NO_LEGS
        if expires and expires < found.day:
            return 54, NO_LEGS
        if not 1 <= amount <= AMOUNT_MAX:
            return 13, NO_LEGS
        if kind == Kind.TOP_UP:
            gift = amount * found.gift_n // found.gift_d if amount >= found.gift_from else 0
            if principal + bonus + amount + gift > found.balance_max:
                return 61, NO_LEGS
            return 0, (amount, gift, 0, 0, 0, -amount, -gift, 0, 0)
        due = amount - amount * found.discount_n // found.discount_d
        offset = spent = 0
        if points >= found.points_min:
            offset = min(due * found.offset_n // found.offset_d, points * found.price_n // found.price_d)
            spent = -(-offset * found.price_d // found.price_n)
        rest = due - offset
        from_bonus = min(rest, due * found.bonus_n // found.bonus_d, bonus)
        if rest - from_bonus > principal:
            return 51, NO_LEGS
        earned = rest * found.accrual_n // found.accrual_d
        return 0, (from_bonus - rest, -from_bonus, -spent, earned, due, 0, 0, -offset, spent - earned)
