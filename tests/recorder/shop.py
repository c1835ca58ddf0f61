"""A small chain for the crash tests: its registration, its rules, and tills that make requests.

A till's requests follow from its seed alone, keys included: originals are named by key, never by what
was answered. So what a process was about to send can be told without asking it.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np

from onecard import Engine, Rules, Secrets, rows

FIRST_DAY = 20_000
CARDS = [f"{number:08d}" for number in range(24)]
STORES = 3
TERMINALS = [101, 102, 103, 104]
SIZES: dict[str, Any] = {"journal_bytes_max": 1 << 28, "checkpoint_bytes_max": 1 << 28}
SECRETS = Secrets({1: bytes(range(32))})

WHOLE, OFFERS, VISIT, COUPON = 2, 1, 16, 17
"""A product with dated points and bonus; a bundle; what is in it."""

PLACES = 3
"""Cards of a bulk top-up."""

RULES = Rules.parse("""
[units]
money = { name = "CNY", scale = 2 }
[[products]]
id = 1
name = "standard"
discount = "5%"
points_per_money = "1"
purchase_max = "5000.00"
balance_max = "50000.00"
[[products]]
id = 2
name = "whole"
points_per_money = "2"
points_valid = { days = 2 }
bonus_valid_days = 3
rebate = "1%"
day_count = 40
[[card_units]]
id = 16
name = "visit"
kind = "visits"
worth = "15.00"
[[card_units]]
id = 17
name = "five off"
kind = "coupon"
value = "5.00"
min_spend = "10.00"
[[bundles]]
id = 1
name = "offers"
price = "20.00"
per_card = 60
per_member = 200
grants = [
    { unit = "visit", amount = "2", days = 3 },
    { unit = "five off", amount = "3", days = 2 },
    { unit = "points", amount = "50", days = 2 },
    { unit = "bonus", amount = "3.00" },
]
[[top_up_bonus]]
from = "100.00"
bonus = "5.00"
rate = "1%"
[[waterfall]]
pay = "points"
share = "30%"
price = "0.01"
min_points = "10"
[[waterfall]]
pay = "bonus"
share = "50%"
[[waterfall]]
pay = "principal"
[compounding]
daily_rate = "0.5%"
funding = "growth"
""")


def open_engine(path: Path, checkpoint_entries: int = 100) -> Engine:
    """An engine that checkpoints often, over maps that open in no time."""
    return Engine(path, checkpoint_entries=checkpoint_entries, secrets=SECRETS, **SIZES)


def set_up(engine: Engine) -> None:
    """Register the chain and publish its rules. What is there already changes nothing."""
    registrations = [("programme", 1, 1, FIRST_DAY, "crash")]
    registrations += [("merchant", 1, merchant, 0, f"merchant {merchant}") for merchant in (1, 2)]
    # The stores are the merchants' by turns, and both issue cards.
    registrations += [("store", 1, store, store % 2 + 1, f"store {store}") for store in range(1, STORES + 1)]
    registrations += [("terminal", 1, terminal, terminal % STORES + 1, "") for terminal in TERMINALS]
    codes = [*engine.register(registrations), engine.publish(RULES)]
    if any(codes):
        raise AssertionError(f"the chain could not be registered: codes {codes}")


class Till:
    """Makes batches of requests, each with a key of its own unless it is a retry on purpose."""

    def __init__(self, seed: int, day: int = FIRST_DAY) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.day = day
        self.made = 0
        self.purchases: list[np.void] = []
        self.others: list[np.void] = []

    def batch(self, size: int) -> rows.Batch:
        """So many requests, of every kind."""
        return np.array([self.request() for _ in range(size)], rows.REQUEST)

    def opening(self) -> rows.Batch:
        """Issue all cards, fill them, and fund the growth."""
        issued = [self.row(1, card=card, product=1) for card in CARDS]
        filled = [self.row(2, card=card, amount=20_000) for card in CARDS]
        return np.array([*issued, *filled, self.row(8, amount=10**12)], rows.REQUEST)

    def opens(self) -> rows.Requests:
        """The opening, with the items that it has."""
        return rows.together(self.opening())

    def asks(self, size: int) -> rows.Requests:
        """So many requests, with the items that they have."""
        return rows.together(self.batch(size))

    def request(self) -> np.void:
        choice = self.chance.random()
        card = self.chance.choice(CARDS)
        if choice < 0.45:
            row = self.row(
                3, card=card, amount=self.chance.randint(1, 9_000), flags=self.chance.randint(0, 1)
            )
            self.purchases.append(row)
            return row
        if choice < 0.65:
            row = self.row(2, card=card, amount=self.chance.randint(1, 30_000))
            self.others.append(row)
            return row
        if choice < 0.75 and self.purchases:
            return self.naming(self.row(4, amount=self.chance.randint(1, 3_000)), self.purchases)
        if choice < 0.87 and self.purchases:
            return self.naming(self.row(5), self.purchases + self.others)
        if choice < 0.90:
            return self.row(7, card=card, status=self.chance.choice([1, 1, 2]))
        if choice < 0.94 and self.purchases:
            return self.chance.choice(self.purchases)
        if choice < 0.97:
            return self.row(2, card="9999999999", amount=100)
        return self.row(8, amount=self.chance.randint(0, 10**6))

    def row(self, kind: int, *, card: str | None = None, **fields: int) -> np.void:
        """One request with the next key: a trace of a terminal, or an id."""
        self.made += 1
        row = np.zeros(1, rows.REQUEST)
        row["kind"], row["programme"], row["business_date"] = kind, 1, self.day
        row["terminal"], row["local_time"] = self.chance.choice(TERMINALS), rows.NOON
        if self.chance.random() < 0.5:
            row["trace"] = self.seed % 4_000 * 1_000_000 + self.made
        else:
            row["id_hi"], row["id_lo"] = self.seed + 1, self.made
        if card is not None:
            row["card"], row["card_digits"] = rows.card_number(card)
        for name, value in fields.items():
            row[name] = value
        made: np.void = row[0]
        return made

    def naming(self, row: np.void, originals: list[np.void]) -> np.void:
        """The row with one of these requests as its original, by key."""
        original = self.chance.choice(originals[-40:])
        row["original_date"] = original["business_date"]
        row["original_id_hi"], row["original_id_lo"] = original["id_hi"], original["id_lo"]
        row["original_trace"] = original["trace"]
        row["original_terminal"] = original["terminal"] if original["trace"] else 0
        return row
