"""A desk for histories with details: a small chain over the compiled core, and a clerk who asks at random.

What the clerk asks follows from its seed alone, but for the answers that it names as originals.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onecard import _core, rows

FIRST_DAY = 20_000
WASH, POOL_PASS, OFF, GIFT, CHEAP = 16, 17, 18, 19, 20
WEB = 9
STAFF_CARD = "30000001"
PIN = "0427"
ONE = 10**12

Item = npt.NDArray[np.void]

TABLES: dict[str, Any] = {
    "money": {"name": "CNY", "scale": 2},
    "points": {"name": "POINTS", "scale": 4},
    "products": [
        {"id": 1, "name": "plain", "discount": 0, "accrual": 100 * ONE},
        {"id": 2, "name": "whole", "discount": ONE // 20, "accrual": 100 * ONE}
        | {"rebate": ONE // 50, "points_days": 3, "points_round": "month", "bonus_days": 4}
        | {"pin_above": 9_000, "day_count": 9, "day_sum": 400_000, "named": {"purchase_max": 90_000}},
        {"id": 3, "name": "short", "discount": 0, "accrual": 100 * ONE, "points_days": 2},
        {"id": 4, "name": "staff", "discount": 0, "accrual": 0, "staff": True},
    ],
    "top_up_bonus": [{"from": 10_000, "bonus": 500, "rate": ONE // 100}],
    "waterfall": [
        {"pay": "unit", "unit": GIFT, "share": ONE // 2, "price": ONE, "min_points": 5},
        {"pay": "points", "share": 3 * ONE // 10, "price": ONE // 10_000, "min_points": 0},
        {"pay": "bonus", "share": ONE, "price": 0, "min_points": 0},
        {"pay": "principal", "share": ONE, "price": 0, "min_points": 0},
    ],
    "compounding_rate": ONE // 1000,
    "time_tolerance_s": 86_400,
    "units": [
        {"id": WASH, "name": "wash", "kind": "visits", "worth": 3_000},
        {"id": POOL_PASS, "name": "pool", "kind": "time", "worth": 2_000},
        {"id": OFF, "name": "off", "kind": "coupon", "value": 700},
        {"id": GIFT, "name": "gift", "kind": "value"},
        {"id": CHEAP, "name": "cheap", "kind": "coupon", "rate": ONE // 10, "max": 900, "funded": "store"},
    ],
    "bundles": [
        {"id": 1, "name": "ten washes", "price": 20_000, "per_card": 60}
        | {
            "grants": [
                {"unit": WASH, "amount": 10, "days": 5},
                {"unit": OFF, "amount": 2},
                {"unit": 3, "amount": 50_000, "days": 2},
                {"unit": 2, "amount": 300, "days": 2},
            ]
        },
        {"id": 2, "name": "welcome"}
        | {
            "grants": [
                {"unit": POOL_PASS, "amount": 1, "days": 3},
                {"unit": GIFT, "amount": 1_500, "days": 6},
                {"unit": CHEAP, "amount": 3, "from": 1, "days": 4},
                {"unit": 3, "amount": 70_000},
            ]
        },
    ],
    "channels": [{"id": WEB, "name": "web", "collects": "issuer"}],
    "hold_days": 2,
}
GIVING: dict[str, Any] = {
    "products": [
        product | ({"points_per_day": 700_000} if product["id"] != 4 else {})
        for product in TABLES["products"]
    ],
    "top_up_bonus": [
        {"from": 2_000, "bonus": 0, "rate": 0, "points": 1_500, "price": 9 * ONE // 10},
        {"from": 8_000, "bonus": 500, "rate": ONE // 100, "points": 70, "bundle": 3},
    ],
    "bundles": [
        *TABLES["bundles"],
        {"id": 3, "name": "kettle", "price": 200, "points": 9_000, "stock": 60, "worth": 900}
        | {"per_card": 9, "per_member": 30, "grants": [{"unit": CHEAP, "amount": 1, "days": 9}]},
        {"id": 4, "name": "first", "per_card": 3}
        | {
            "grants": [
                {"unit": OFF, "amount": 4, "days": 9},
                {"unit": 3, "amount": 5_000, "days": 2},
                {"unit": 2, "amount": 90},
            ]
        },
    ],
    "gifts": {"enrolment": 3, "first_purchase": 4, "first_purchase_min": 1_000},
}
"""What other tables have besides, so that everything is given that can be."""

for product in [*TABLES["products"], *GIVING["products"]]:
    product |= {name: product.get(name, 0) for name in ("purchase_max", "top_up_max", "balance_max")}


def item(kind: int, **fields: int) -> Item:
    """One item of a request."""
    one = np.zeros(1, rows.ITEM)
    one["kind"] = kind
    for name, value in fields.items():
        one[name] = value
    return one


def card_item(card: str, kind: int = 4, **fields: int) -> Item:
    """An item that names a card number: a further card, a staff card, a new number."""
    return item(kind, digits=len(card), low=int(card), **fields)


def pin(text: str, kind: int = 5) -> Item:
    return item(kind, digits=len(text), low=int(text))


class Desk:
    """A chain of two merchants with a store and a terminal each, opened in a directory."""

    def __init__(self, path: Path, tables: dict[str, Any] | None = None) -> None:
        core: Any = _core.Core
        self.core = core(
            str(path),
            journal_bytes_max=1 << 28,
            checkpoint_bytes_max=1 << 28,
            checkpoint_entries=200,
            secrets=[(1, bytes(32))],
        )
        self.day, self.trace = FIRST_DAY, 0
        registrations = [("programme", 1, 1, FIRST_DAY, "chain")]
        registrations += [("merchant", 1, merchant, 0, f"merchant {merchant}") for merchant in (1, 2)]
        registrations += [("store", 1, store, store, f"store {store}") for store in (1, 2)]
        registrations += [("terminal", 1, terminal, terminal, "") for terminal in (1, 2)]
        codes = [*self.core.register(registrations), self.publish(1, tables or TABLES)]
        if any(codes):
            raise AssertionError(f"the chain could not be registered: codes {codes}")

    def publish(self, version: int, tables: dict[str, Any]) -> int:
        code: int = self.core.publish(1, version, f"# version {version}", json.dumps(tables))
        return code

    def ask(self, kind: int, *items: Item, card: str | None = None, **fields: int) -> np.void:
        """One request with the next key; its answer."""
        self.trace += 1
        row = np.zeros(1, rows.REQUEST)
        row["kind"], row["programme"], row["business_date"] = kind, 1, self.day
        row["terminal"], row["local_time"], row["trace"] = 1, rows.NOON, self.trace
        if card is not None:
            row["card"], row["card_digits"] = rows.card_number(card)
        for name, value in fields.items():
            row[name] = value
        row["items"] = len(items)
        data = np.concatenate(items).tobytes() if items else b""
        answers = np.frombuffer(memoryview(self.core.execute(row.tobytes(), data)), rows.ANSWER)
        answer: np.void = answers[0]
        return answer

    def must(self, kind: int, *items: Item, card: str | None = None, **fields: int) -> np.void:
        """The same; it must be approved."""
        answer = self.ask(kind, *items, card=card, **fields)
        if answer["code"] not in (0, 10):
            raise AssertionError(f"kind {kind}: code {answer['code']}, reason {answer['reason']}")
        return answer

    def alias(self, kind: int, text: str) -> Item:
        high, low = self.core.alias(1, kind, text)
        return item(8, digits=kind, high=high, low=low)

    def code(self, unit: int, serial: int) -> Item:
        return item(2, unit=unit, low=serial, high=self.core.code(1, unit, serial))

    def close_day(self) -> None:
        report = self.core.close_day(1, self.day)
        if report["code"] != 0:
            raise AssertionError(f"the day did not close: {report}")
        self.day += 1

    def close(self) -> None:
        self.core.close()


class Clerk:
    """Asks for everything that a card can do, often for what it cannot."""

    def __init__(self, desk: Desk, seed: int, cards: int = 6) -> None:
        self.desk = desk
        self.chance = random.Random(seed)
        self.cards = [f"1000{number:04d}" for number in range(cards)]
        self.made = cards
        self.codes = 0
        self.sequences: list[tuple[int, int]] = []
        self.holds: list[int] = []

    def opening(self) -> None:
        self.desk.must(1, card=STAFF_CARD, product=4)
        self.desk.must(8, amount=10**11)
        for number, card in enumerate(self.cards):
            self.desk.must(1, card=card, product=number % 3 + 1, terminal=number % 2 + 1)
            self.desk.must(2, card=card, amount=60_000)
            self.desk.must(15, item(10, low=1 + number // 4), card=card)
        self.desk.must(17, pin(PIN, 11), card=self.cards[1], flags=32)
        self.codes += int(self.desk.must(19, product=OFF, amount=30)["amount"])

    def step(self) -> np.void:
        """One request; what was approved may be named as an original later."""
        asks = [
            (self.purchase, 30),
            (self.plain, 10),
            (self.top_up, 8),
            (self.grant, 10),
            (self.authorise, 9),
            (self.capture, 9),
            (self.void, 2),
            (self.refund, 16),
            (self.reverse, 14),
            (self.transfer, 6),
            (self.bulk, 2),
            (self.life, 8),
        ]
        ask = self.chance.choices([ask for ask, _ in asks], [weight for _, weight in asks])[0]
        answer = ask()
        if answer["code"] in (4, 41, 43, 46):
            self.retire()
        if answer["sequence"] and answer["code"] in (0, 10):
            self.sequences.append((int(answer["kind"]), int(answer["sequence"])))
        return answer

    def card(self) -> str:
        """A card: now and then one that is not usable any more."""
        self.cards = self.cards[-12:]
        return self.chance.choice(self.cards)

    def common(self) -> dict[str, Any]:
        return {"terminal": self.chance.randint(1, 2), "channel": self.chance.choice([0, 0, WEB])}

    def sale_items(self) -> list[Item]:
        chance = self.chance
        items = [
            item(1, unit=unit, amount=chance.randint(1, 2)) for unit in (OFF, CHEAP) if chance.random() < 0.15
        ]
        items += [item(3, unit=WASH, amount=chance.randint(1, 3))] if chance.random() < 0.25 else []
        items += [item(3, unit=POOL_PASS, amount=1)] if chance.random() < 0.1 else []
        items += [card_item(STAFF_CARD, 7)] if chance.random() < 0.2 else []
        items += [pin(chance.choice([PIN, PIN, "9999"]))] if chance.random() < 0.2 else []
        chance.shuffle(items)
        return items

    def purchase(self) -> np.void:
        chance, items = self.chance, self.sale_items()
        for _ in range(chance.choice([0, 0, 0, 1, 2])):
            items.append(self.desk.code(OFF, chance.randint(1, self.codes + 1)))
        items += [card_item(self.card()) for _ in range(chance.choice([0, 0, 1, 2]))]
        items += [item(6, amount=chance.randint(1, 4_000))] if chance.random() < 0.2 else []
        amount, flags = chance.randint(1, 15_000), chance.randint(0, 3)
        return self.desk.ask(3, *items, card=self.card(), amount=amount, flags=flags, **self.common())

    def plain(self) -> np.void:
        amount = self.chance.randint(1, 9_000)
        return self.desk.ask(3, card=self.card(), amount=amount, flags=self.chance.randint(0, 1))

    def top_up(self) -> np.void:
        return self.desk.ask(2, card=self.card(), amount=self.chance.randint(1, 20_000), **self.common())

    def grant(self) -> np.void:
        bundle, count = self.chance.randint(1, 3), self.chance.randint(0, 2)
        flags = self.chance.choice([0, 8])
        return self.desk.ask(9, card=self.card(), product=bundle, amount=count, flags=flags, **self.common())

    def authorise(self) -> np.void:
        last = self.chance.choice([0, 0, self.desk.day, self.desk.day + 3])
        amount, flags = self.chance.randint(1, 12_000), self.chance.randint(0, 3)
        answer = self.desk.ask(
            10, *self.sale_items(), card=self.card(), amount=amount, flags=flags, expires=last
        )
        if answer["code"] in (0, 10):
            self.holds.append(int(answer["sequence"]))
        return answer

    def hold(self) -> int:
        return self.chance.choice(self.holds[-3:] or [1])

    def capture(self) -> np.void:
        hold, flags = self.hold(), self.chance.choice([0, 0, 4])
        return self.desk.ask(11, amount=self.chance.randint(1, 7_000), original=hold, flags=flags)

    def void(self) -> np.void:
        return self.desk.ask(12, original=self.hold())

    def original(self, kinds: set[int]) -> int:
        found = [sequence for kind, sequence in self.sequences[-60:] if kind in kinds]
        return self.chance.choice(found or [1])

    def refund(self) -> np.void:
        original = self.original({2, 3, 9, 11} if self.chance.random() < 0.9 else set(range(21)))
        amount = self.chance.choice([1, self.chance.randint(1, 2_000), self.chance.randint(1, 20_000)])
        return self.desk.ask(4, amount=amount, original=original, terminal=self.chance.randint(1, 2))

    def reverse(self) -> np.void:
        if self.chance.random() < 0.1:
            trace = self.desk.trace + self.chance.randint(50, 400)
            day = self.desk.day
            return self.desk.ask(5, original_terminal=1, original_trace=trace, original_date=day)
        original = self.original(
            {2, 3, 4, 9, 10, 11, 14, 20} if self.chance.random() < 0.9 else set(range(21))
        )
        return self.desk.ask(5, original=original)

    def transfer(self) -> np.void:
        purse = self.chance.choice([1, 1, 3, 3, WASH, GIFT, OFF, 2])
        amount = self.chance.randint(1, {1: 9_000, 3: 90_000}.get(purse, 4))
        return self.desk.ask(14, card_item(self.card()), card=self.card(), product=purse, amount=amount)

    def bulk(self) -> np.void:
        amounts = {card: self.chance.randint(1, 15_000) for card in self.chance.sample(self.cards, 3)}
        items = [card_item(card, amount=amount) for card, amount in amounts.items()]
        return self.desk.ask(20, *items, amount=sum(amounts.values()), **self.common())

    def retire(self) -> None:
        """Hand out a fresh card for one that is refused for good; which one it is nobody notes."""
        self.made += 1
        card = f"1000{self.made:04d}"
        self.desk.must(1, card=card, product=self.made % 3 + 1)
        self.desk.must(15, item(10, low=1), card=card)
        self.cards = [*self.cards[1:], card]

    def life(self) -> np.void:
        """Everything that is no money."""
        chance, card = self.chance, self.card()
        what = chance.choices(range(9), [2, 2, 3, 3, 3, 1, 1, 1, 3])[0]
        if what == 0:
            return self.desk.ask(7, card=card, status=chance.choice([1, 1, 1, 2]))
        if what == 1:
            member = chance.randint(0, 3)
            return self.desk.ask(15, item(10, low=member, amount=int(member == 2)), card=card)
        if what == 2:
            return self.desk.ask(
                16, self.desk.alias(1, chance.choice("123")), card=card, flags=chance.choice([0, 16])
            )
        if what == 3:
            return self.desk.ask(2, self.desk.alias(1, chance.choice("1234")), amount=chance.randint(1, 500))
        if what == 4:
            return self.desk.ask(
                19, product=OFF, amount=chance.randint(1, 5), expires=chance.choice([0, self.desk.day])
            )
        if what == 5:
            return self.desk.ask(15, item(10, low=1), card="99999999")
        if what == 8:
            return self.set_pin(card)
        return self.renew(card) if what == 6 else self.end(card)

    def set_pin(self, card: str) -> np.void:
        """A PIN is set by who knows the old one, or by an operator, who may also let it be tried again."""
        if self.chance.random() < 0.5:
            return self.desk.ask(17, pin(PIN), pin(PIN, 11), card=card)
        items = [pin(PIN, 11)] if self.chance.random() < 0.5 else []
        return self.desk.ask(17, *items, card=card, flags=32)

    def renew(self, card: str) -> np.void:
        """A card gets another number."""
        self.made += 1
        number = f"2000{self.made:04d}"
        answer = self.desk.ask(13, card_item(number, 9), card=card, status=self.chance.choice([0, 3, 4]))
        if answer["code"] == 0 and self.chance.random() < 0.8:
            self.cards[self.cards.index(card)] = number
        return answer

    def end(self, card: str) -> np.void:
        """A card is closed, or a new one is issued."""
        if self.chance.random() < 0.7:
            self.made += 1
            number = f"2000{self.made:04d}"
            status = self.chance.choice([0, 0, 5])
            self.cards.append(number)
            return self.desk.ask(1, card=number, product=self.made % 3 + 1, status=status)
        return self.desk.ask(18, card=card, **self.common())
