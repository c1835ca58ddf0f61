"""Random histories: what a chain of stores might do to an engine, sane and absurd, from one seed.

A history is plain data: one programme, its registrations and a list of commands. It is written without
knowing any answer, so that commands can be dropped from it and the rest still means the same; an
original that is named by sequence is named by the number of the command that asked for it, and whoever
plays the history (`tests.histories`) puts the sequence in.

Every history has at least two stores, two terminals, three cards, one close of day, one retry, and one
refund or reversal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from tests.model import (
    ACTIVE,
    AMOUNT_MAX,
    AUTHORISE,
    BALANCE,
    BIND,
    BULK_TOP_UP,
    CAP,
    CAPTURE,
    CLOSE,
    DAY_S,
    DRY_RUN,
    FROZEN,
    FUND,
    GRANT,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    NEW_PIN,
    ONE,
    PIN,
    PURCHASE,
    REFUND,
    REPLACE,
    REVERSAL,
    SET_PIN,
    SET_TIER,
    STATUS,
    TOLERANCE_S,
    TOP_UP,
    TRANSFER,
    VOID,
    WINDOW_DAYS,
    WITH_POINTS,
    Row,
)

CATEGORIES = (1, 2, 65_535)
"""Categories of goods in all rules."""
TIERS = (1, 2, 31)
"""Tiers of cards in all rules."""

UNKNOWN_PLACE = 4_294_967_294
"""Number of no store and no merchant."""

PROGRAMMES_MAX = 65_500
"""Histories use programmes 1 to this one; those above are never registered."""

AS_IS, NOWHERE, FOREIGN = -1, -2, -3
"""What `Command.names` says of `row.original`: from 0 on, it is the sequence of that command's transaction;
AS_IS: it is not a name; NOWHERE: it is no transaction's; FOREIGN: it is another programme's."""

KIND_NAMES = {
    ISSUE: "issue",
    TOP_UP: "top-up",
    PURCHASE: "purchase",
    REFUND: "refund",
    REVERSAL: "reversal",
    BALANCE: "balance",
    STATUS: "status",
    FUND: "fund",
    GRANT: "grant",
    AUTHORISE: "authorise",
    CAPTURE: "capture",
    VOID: "void",
    REPLACE: "replace",
    TRANSFER: "transfer",
    HOLDER: "holder",
    BIND: "bind",
    SET_PIN: "set PIN",
    CLOSE: "close a card",
    ISSUE_CODES: "issue codes",
    BULK_TOP_UP: "bulk top-up",
    SET_TIER: "set tier",
}

COMMANDS = (
    *(KIND_NAMES[kind] for kind in range(ISSUE, FUND + 1)),
    "register",
    "register: again, other content, unknown parent, malformed",
    "publish",
    "publish: again, other content, wrong number",
    "publish: an unknown store or merchant",
    "close",
    "close: again",
    "close: wrong date",
    "statement",
    "positions",
    "liabilities",
    "trial balance",
    "purchase: with points",
    "dry run",
    "refund: by sequence",
    "refund: by key",
    "reversal: by sequence",
    "reversal: by key",
    "reversal: before its original",
    "original: after its reversal",
    "original: unknown",
    "original: another programme's",
    "key: trace",
    "key: id",
    "key: same trace on another date",
    "retry",
    "retry: other content",
    "amount: absurd",
    "card: unknown",
    "terminal: unknown",
    "programme: unknown",
    "malformed",
    "date: outside the window",
    "date: closed, in the window",
    "time: out of tolerance",
)
"""What histories count; a long run must have met every one of them, over gRPC, too."""


class Command(NamedTuple):
    """One step of a history. Rows of the same batch are executed together."""

    number: int
    labels: tuple[str, ...]
    batch: int
    row: Row | None = None
    names: int = AS_IS
    call: str = ""
    args: tuple[Any, ...] = ()


@dataclass
class History:
    """One programme's life; `seeds` made it."""

    programme: int
    opening: list[tuple[str, int, int, int, str]]
    commands: list[Command]
    cards: list[tuple[int, int]]
    seeds: list[int] = field(default_factory=list)


def pick(rng: Random, choices: Any) -> Any:
    """One of a sequence; `Random.choice` at a third of its price."""
    return choices[int(rng.random() * len(choices))]


def up_to(rng: Random, most: int) -> int:
    """1 to `most`."""
    return 1 + int(rng.random() * most)


def random_tables(
    rng: Random, scale: int, products: tuple[int, ...], stores: list[int], today: int
) -> dict[str, Any]:
    """Tables of docs/rules.md: usual ones, odd ones, and ones at the edge of what is allowed."""

    def limit(*limits: int) -> int:
        return int(pick(rng, (0, 0, 0, 0, 0, 0, *limits)))

    accrual = pick(rng, (0, 10**14, 10**14, up_to(rng, 10**15), 10**16 // 3, 1, 10**18))
    starts = sorted({up_to(rng, min(scale, AMOUNT_MAX)) for _ in range(pick(rng, (0, 1, 2, 4)))})
    waterfall = [
        {
            "pay": pay,
            "share": pick(rng, SHARES[pay])(rng),
            "price": pick(rng, (10**8, 10**10, 333_333_333, up_to(rng, 10**11), up_to(rng, ONE), ONE, 1))
            if pay == "points"
            else 0,
            "min_points": pick(rng, (0, 0, 0, 0, up_to(rng, scale), CAP)) if pay == "points" else 0,
        }
        for pay in pick(rng, WATERFALLS)
    ]
    return {
        "money": {"name": "CNY", "scale": 2},
        "points": {"name": "POINTS", "scale": 4},
        "products": [
            {
                "id": product,
                "name": f"product {product}",
                "discount": pick(rng, (0, 0, 0, 5 * 10**10, up_to(rng, ONE) - 1, 333_333_333_333, ONE - 1)),
                "accrual": accrual,
                "purchase_max": limit(scale // 2 + 1, up_to(rng, scale)),
                "top_up_max": limit(min(scale * 2, AMOUNT_MAX), up_to(rng, scale)),
                "balance_max": limit(scale * 6, up_to(rng, scale * 3)),
            }
            for product in products
        ],
        "top_up_bonus": [
            {
                "from": start,
                "bonus": pick(rng, (0, start // 10, up_to(rng, AMOUNT_MAX) if scale == AMOUNT_MAX else 7)),
                "rate": pick(rng, (0, up_to(rng, ONE), 10**13)),
            }
            for start in starts
        ],
        "waterfall": waterfall,
        "compounding_rate": pick(rng, (0, 10**8, up_to(rng, 10**11), 10**11, 123_456_789)),
        "time_tolerance_s": pick(rng, (TOLERANCE_S, TOLERANCE_S, 3_600, 0, 604_800)),
        "categories": [{"id": number, "name": f"category {number}"} for number in CATEGORIES],
        "regions": region_tables(rng, stores),
        "tiers": tier_tables(rng, scale),
        "discounts": [
            stacked_table(rng, rule, discount_table(rng, scale), scale, products, stores, today)
            for rule in range(1, pick(rng, (1, 1, 1, 3, 9)))
        ],
        "accruals": [
            stacked_table(rng, rule, accrual_table(rng, scale), scale, products, stores, today)
            for rule in range(1, pick(rng, (1, 1, 1, 3, 9)))
        ],
        "fees": [
            fee_table(rng, fee, scale, products, stores, today) for fee in range(1, pick(rng, (1, 1, 2, 4)))
        ],
    }


def region_tables(rng: Random, stores: list[int]) -> list[dict[str, Any]]:
    """Two regions: of stores, of a merchant, of nothing."""
    north = sorted(store for store in stores if rng.random() < 0.5)
    south = sorted(store for store in stores if store not in north and rng.random() < 0.4)
    merchants = [[1], []] if rng.random() < 0.5 else [[], [1]]
    return [
        {"name": name, "stores": own, "merchants": of}
        for name, own, of in zip(("north", "south"), (north, south), merchants, strict=True)
    ]


def tier_tables(rng: Random, scale: int) -> list[dict[str, Any]]:
    """Tiers that a few purchases reach, and one that few do."""
    low = pick(rng, (0, 1, up_to(rng, scale // 100 + 1)))
    starts = (low, low + up_to(rng, scale // 50 + 1), low + scale)
    return [
        {"id": tier, "name": f"tier {tier}", "from": start} for tier, start in zip(TIERS, starts, strict=True)
    ]


def discount_table(rng: Random, scale: int) -> dict[str, Any]:
    """What a discount takes off."""
    if rng.random() < 0.4:
        return {"value": pick(rng, (1, up_to(rng, scale // 10 + 1), up_to(rng, scale)))}
    rate = pick(rng, (10**11, 333_333_333_333, up_to(rng, ONE), ONE))
    return {"rate": rate, "max": pick(rng, (0, 0, 1, up_to(rng, scale // 4 + 1)))}


def accrual_table(rng: Random, scale: int) -> dict[str, Any]:
    """What an accrual gives."""
    gives: dict[str, int] = pick(
        rng,
        (
            {"factor": pick(rng, (2 * ONE, ONE + 1, 100 * ONE, ONE + up_to(rng, ONE)))},
            {"rate": pick(rng, (1, 10**14, up_to(rng, 10**15), 10**18))},
            {"points": pick(rng, (1, 10_000, up_to(rng, AMOUNT_MAX)))},
        ),
    )
    return gives | {"max": pick(rng, (0, 0, 1, up_to(rng, scale)))}


def fee_table(
    rng: Random, number: int, scale: int, products: tuple[int, ...], stores: list[int], today: int
) -> dict[str, Any]:
    """A fee between the two merchants: of all or of points, to the one or to the other."""
    when = stacked_table(rng, number, {}, scale, products, stores, today)["when"]
    unseen: dict[str, Any] = {"tiers": [], "categories": [], "birthday": None}
    least = pick(rng, (0, 0, 1, up_to(rng, scale // 10 + 1)))
    return {
        "id": number,
        "name": f"fee {number}",
        "of": pick(rng, ("spend", "spend", "points")),
        "rate": pick(rng, (ONE, 15 * 10**9, 1, up_to(rng, ONE), 333_333_333_333)),
        "min": least,
        "max": pick(rng, (0, 0, least + up_to(rng, scale // 10 + 1))),
        "paid_by": pick(rng, ("acceptor", "acceptor", "card-merchant")),
        "card_merchants": pick(rng, ([], [], [1], [1, 4_294_967_295])),
        "when": {**when, **unseen} if rng.random() < 0.5 else {},
    }


def stacked_table(
    rng: Random,
    number: int,
    gives: dict[str, Any],
    scale: int,
    products: tuple[int, ...],
    stores: list[int],
    today: int,
) -> dict[str, Any]:
    """A rule that may apply together with others, with conditions that are often met."""

    def some(chance: float, of: Sequence[int], most: int) -> list[int]:
        return sorted({pick(rng, of) for _ in range(up_to(rng, most))}) if rng.random() < chance else []

    half = DAY_S // 2
    when = {
        "products": some(0.3, products, 2),
        "stores": some(0.3, stores, 3),
        "merchants": some(0.2, (1, 4_294_967_295), 2),
        "regions": some(0.2, (1, 2), 2),
        "tiers": some(0.15, TIERS, 2),
        "categories": some(0.25, CATEGORIES, 2),
        "birthday": pick(rng, (None, None, None, None, None, None, "day", "week", "month")),
        "channels": some(0.2, (0, 1, 2, 255), 3),
        "from": pick(rng, (0, 0, 0, 0, today - 2, today, today + 1)),
        "until": pick(rng, (0, 0, 0, 0, today - 1, today, today + 3)),
        "weekdays": pick(rng, (0, 0, 0, up_to(rng, 127))),
        "month_days": pick(rng, (0, 0, 0, up_to(rng, 2**31 - 1) * 2)),
        "times": pick(
            rng, ((), (), (), ((0, half),), ((half, DAY_S),), ((0, 20_000), (20_000, half), (60_000, 80_000)))
        ),
        "min_spend": pick(rng, (0, 0, 0, scale // 20)),
    }
    return {
        "id": number,
        "name": f"rule {number}",
        "stacking": pick(rng, ("best", "best", "best", "add", "add", "exclusive")),
        "priority": pick(rng, (0, 0, 0, 1, -1, 1_000)),
        "when": when,
        **gives,
    }


WATERFALLS = (
    ("points", "bonus", "principal"),
    ("points", "bonus", "principal"),
    ("bonus", "points", "principal"),
    ("principal", "bonus", "points"),
    ("bonus", "principal"),
    ("points", "principal"),
    ("principal",),
)

SHARES: dict[str, tuple[Callable[[Random], int], ...]] = {
    "points": (lambda _: ONE, lambda _: 300_000_000_000, lambda rng: up_to(rng, ONE)),
    "bonus": (lambda _: ONE, lambda _: ONE, lambda rng: up_to(rng, ONE)),
    "principal": (*(lambda _: ONE,) * 9, lambda rng: up_to(rng, ONE)),
}
"""A principal that may not pay all leaves many bills unpaid, so it is rare."""

BRIM_TABLES = {
    "money": {"name": "CNY", "scale": 2},
    "points": {"name": "POINTS", "scale": 4},
    "products": [],
    "top_up_bonus": [{"from": 1, "bonus": AMOUNT_MAX, "rate": 10**13}],
    "waterfall": [
        {"pay": "points", "share": ONE, "price": 1, "min_points": 0},
        {"pay": "principal", "share": ONE, "price": 0, "min_points": 0},
        {"pay": "bonus", "share": ONE, "price": 0, "min_points": 0},
    ],
    "compounding_rate": 10**11,
    "time_tolerance_s": TOLERANCE_S,
}
"""Rules under which purses and shortfalls reach CAP in a few transactions."""


class Author:
    """Writes one history, command by command; keeps only what is needed to name things.

    `write_history` begins with issues, top-ups and a purchase, so that there is something to name.
    """

    def __init__(self, rng: Random, programme: int) -> None:
        self.rng = rng
        self.programme = programme
        self.commands: list[Command] = []
        self.batch = 0
        self.open_date = 19_000 + up_to(rng, 2_000)
        self.scale = pick(rng, (100, 10**4, 10**4, 10**6, 10**10, AMOUNT_MAX))
        self.brim = rng.random() < 0.06
        self.products: tuple[int, ...] = tuple(sorted({up_to(rng, 65_535) for _ in range(up_to(rng, 3))}))
        self.version = 0
        self.published = ("", "")
        self.stores = [1, up_to(rng, 10_000) + 1, 4_294_967_295][: 2 + (rng.random() < 0.2)]
        self.terminals = [1, 2, up_to(rng, 1_000_000) + 2, 4_294_967_295][: 2 + int(rng.random() * 3)]
        self.cards: list[tuple[int, int]] = self.random_cards()
        self.trace = pick(rng, (0, 0, 0, 2**32 - 5_000))
        self.asked: dict[int, list[int]] = {kind: [] for kind in KIND_NAMES}
        self.everything: list[int] = []
        self.late: list[tuple[int, Row]] = []
        self.opening = self.registrations()

    def random_cards(self) -> list[tuple[int, int]]:
        """Three to five cards, some of which differ in their leading zeros only."""
        rng = self.rng
        cards = [
            (8, 12_345),
            (9, 12_345),
            (16, up_to(rng, 10**16) - 1),
            (19, 10**19 - 1),
            (8, up_to(rng, 10**8) - 1),
        ]
        return list(dict.fromkeys(cards[: 3 + int(rng.random() * 3)]))

    def registrations(self) -> list[tuple[str, int, int, int, str]]:
        """The programme with its merchants, stores and terminals; every store has a terminal at least.

        The stores are the two merchants' by turns, so that both issue cards.
        """
        number = self.programme
        rows = [
            ("programme", number, number, self.open_date, "一卡通"),
            ("merchant", number, 1, 0, "merchant"),
            ("merchant", number, 4_294_967_295, 0, "another"),
        ]
        for index, store in enumerate(self.stores):
            rows.append(("store", number, store, rows[1 + index % 2][2], f"store {store}"))
        for index, terminal in enumerate(self.terminals):
            rows.append(("terminal", number, terminal, self.stores[index % len(self.stores)], ""))
        return rows

    # Writing down

    def write(self, row: Row, *labels: str, names: int = AS_IS) -> int:
        """Append a request; its number."""
        number = len(self.commands)
        name = KIND_NAMES.get(row.kind)
        if name is not None and "malformed" not in labels:
            labels = (name, *labels)
            if row.flags & DRY_RUN and row.kind in (PURCHASE, AUTHORISE):
                labels += ("dry run",)
            elif row.kind != BALANCE:
                labels += ("key: trace" if row.trace else "key: id",)
                self.asked[row.kind].append(number)
                self.everything.append(number)
        self.commands.append(Command(number, labels, self.batch, row, names))
        if self.rng.random() < 0.3:
            self.batch += 1
        return number

    def call(self, call: str, *args: Any, label: str = "") -> None:
        """Append anything that is not a request of a terminal."""
        self.batch += 1
        self.commands.append(
            Command(len(self.commands), (label or call,), self.batch, None, AS_IS, call, args)
        )
        self.batch += 1

    def row(self, kind: int, **fields: Any) -> Row:
        """A request with a fresh key, on the open day, at a registered terminal."""
        rng = self.rng
        self.trace += 1
        chance = rng.random()
        header = {
            "kind": kind,
            "programme": 0 if self.programme == 1 and chance < 0.5 else self.programme,
            "terminal": pick(rng, self.terminals),
            "channel": int(chance * 256),
        }
        if kind == BALANCE:
            return Row(**(header | fields))
        header |= {"business_date": self.open_date, "local_time": int(rng.random() * DAY_S)}
        if chance < 0.65:
            header["trace"] = self.trace
        else:
            header["id_hi"] = pick(rng, (0, 1, 2**64 - 1, int(rng.random() * 2**63)))
            header["id_lo"] = self.trace
        return Row(**(header | fields))

    def amount(self, most: int) -> int:
        """An amount, mostly plain, sometimes at the edge."""
        most = min(most, AMOUNT_MAX)
        return pick(self.rng, (1, most)) if self.rng.random() < 0.06 else up_to(self.rng, most)

    def card_fields(self) -> dict[str, Any]:
        digits, card = pick(self.rng, self.cards)
        return {"card_digits": digits, "card": card}

    def request(self, kind: int) -> Row:
        """A sane request of a kind that names no original."""
        rng = self.rng
        if kind == ISSUE:
            expires = pick(rng, (0, 0, self.open_date, self.open_date + up_to(rng, 3), self.open_date + 400))
            return self.row(kind, product=pick(rng, self.products), expires=expires, **self.card_fields())
        if kind == TOP_UP:
            return self.row(kind, amount=self.amount(self.scale * 3), **self.card_fields())
        if kind == PURCHASE:
            flags = WITH_POINTS if rng.random() < 0.6 else 0
            most = pick(rng, (self.scale, self.scale // 5 + 1, self.scale // 20 + 1))
            return self.row(kind, amount=self.amount(most), flags=flags, **self.card_fields())
        if kind == STATUS:
            status = FROZEN if rng.random() < 0.35 else ACTIVE
            return self.row(kind, status=status, **self.card_fields())
        if kind == FUND:
            return self.row(kind, amount=self.amount(self.scale * 100))
        return self.row(kind, **self.card_fields())

    # Commands

    def issue(self) -> None:
        row = self.request(ISSUE)
        if self.rng.random() < 0.3:
            row = row._replace(
                product=pick(self.rng, (row.product, 0, 65_535)),
                expires=pick(self.rng, (0, self.open_date - 1)),
            )
        if self.rng.random() < 0.2:
            fresh = (pick(self.rng, (8, 12, 18)), up_to(self.rng, 10**8) - 1)
            if fresh not in self.cards and len(self.cards) < 8:
                self.cards.append(fresh)
                row = row._replace(card_digits=fresh[0], card=fresh[1])
        self.write(row)

    def top_up(self) -> None:
        self.write(self.request(TOP_UP))

    def dry(self, row: Row) -> Row:
        """A sale, now and then one that is only tried out."""
        if self.rng.random() > 0.08:
            return row
        items = tuple(item for item in row.items if item.kind not in (PIN, NEW_PIN))
        return row._replace(flags=row.flags | DRY_RUN, trace=0, id_hi=0, id_lo=0, items=items)

    def purchase(self) -> None:
        row = self.dry(self.request(PURCHASE))
        self.write(row, *(("purchase: with points",) if row.flags & WITH_POINTS else ()))

    def status(self) -> None:
        """Freeze or unfreeze; what is frozen is mostly unfrozen soon."""
        row = self.request(STATUS)
        self.write(row)
        if row.status == FROZEN and self.rng.random() < 0.6:
            self.purchase()
            thaw = self.row(STATUS, status=ACTIVE, card_digits=row.card_digits, card=row.card)
            self.write(thaw)

    def fund(self) -> None:
        self.write(self.request(FUND))

    def balance(self) -> None:
        row = self.request(BALANCE)
        if self.rng.random() < 0.1:
            row = row._replace(business_date=pick(self.rng, (1, 99_999)), local_time=pick(self.rng, (0, 5)))
        self.write(row)

    def refund(self) -> None:
        """Refund an earlier purchase, now and then something else."""
        pool = self.asked[PURCHASE] if self.rng.random() < 0.93 else self.everything
        self.refund_of(self.recent(pool))

    def refund_of(self, target: int) -> None:
        row = self.commands[target].row
        assert row is not None
        part = pick(self.rng, (max(row.amount, 1), max(row.amount, 1), max(row.amount // 3, 1)))
        amount = self.amount(part) if 1 <= part <= AMOUNT_MAX else 1
        self.write_naming(self.row(REFUND, amount=amount), target)

    def refund_in_parts(self) -> None:
        """Refund a purchase in three parts that, without a discount, come to all of it."""
        target = self.recent(self.asked[PURCHASE])
        row = self.commands[target].row
        assert row is not None
        whole = min(max(row.amount, 3), AMOUNT_MAX)
        first, second = sorted((up_to(self.rng, whole - 1), up_to(self.rng, whole - 1)))
        for part in (first, second - first, whole - second):
            if part:
                self.write_naming(self.row(REFUND, amount=part), target)
        if self.rng.random() < 0.3:
            self.write_naming(self.row(REVERSAL), len(self.commands) - 1)

    def reversal(self) -> None:
        """Reverse an earlier transaction of any kind, mostly one that moved money."""
        kind = pick(self.rng, (TOP_UP, TOP_UP, PURCHASE, PURCHASE, PURCHASE, REFUND, REFUND, 0))
        pool = self.asked[kind] if kind else self.everything
        if pool:
            self.write_naming(self.row(REVERSAL), self.recent(pool))
        else:
            self.top_up()

    def recent(self, pool: list[int]) -> int:
        """One of the numbers, the newer the likelier."""
        return pool[-1 - int(self.rng.random() ** 2 * len(pool))]

    def write_naming(self, row: Row, target: int, *labels: str) -> int:
        """Append a request that names an earlier command's transaction."""
        kind = KIND_NAMES[row.kind]
        if self.rng.random() < 0.5:
            return self.write(row._replace(original=1), f"{kind}: by sequence", *labels, names=target)
        original = self.commands[target].row
        assert original is not None
        return self.write(naming(row, original), f"{kind}: by key", *labels)

    def reversal_first(self) -> None:
        """Reverse what never arrived; it arrives later, once or twice, as it was or otherwise."""
        rng = self.rng
        original = self.request(pick(rng, (TOP_UP, PURCHASE, FUND, ISSUE, STATUS)))
        self.write(naming(self.row(REVERSAL), original), "reversal: before its original", "reversal: by key")
        for _ in range(pick(rng, (1, 1, 2))):
            self.late.append((len(self.commands) + int(rng.random() * 6), original))
        if rng.random() < 0.2:
            self.write(naming(self.row(REVERSAL), original), "reversal: by key")

    def unknown_original(self) -> None:
        """Name what is not there, out of the window, or another programme's."""
        rng = self.rng
        row = self.row(REFUND, amount=self.amount(self.scale)) if rng.random() < 0.5 else self.row(REVERSAL)
        chance = rng.random()
        if chance < 0.3:
            self.write(row._replace(original=1), "original: another programme's", names=FOREIGN)
        elif chance < 0.6:
            row = row._replace(original=pick(rng, (2**63, 2**64 - 1, 2**40)))
            self.write(row, "original: unknown", names=NOWHERE)
        else:
            ghost = self.request(TOP_UP)._replace(business_date=self.any_date())
            self.write(naming(row, ghost), "original: unknown")

    def any_date(self) -> int:
        """The open day, one of the window, or one outside."""
        back = pick(self.rng, (0, 0, 1, WINDOW_DAYS - 1, WINDOW_DAYS, 30, -1, -400))
        return self.open_date - int(back)

    def retry(self) -> None:
        """Send an earlier request again; local time is a stamp and may differ."""
        command = self.commands[self.recent(self.everything)]
        row = command.row
        assert row is not None
        if self.rng.random() < 0.5:
            row = row._replace(local_time=int(self.rng.random() * DAY_S))
        self.again(command, row, "retry")

    def retry_other(self) -> None:
        """Send an earlier request's key with another content."""
        command = self.commands[self.recent(self.everything)]
        row = command.row
        assert row is not None
        self.again(command, self.other_content(row), "retry: other content")

    def other_content(self, row: Row) -> Row:
        """The same key with one field changed."""
        if row.amount and row.amount < AMOUNT_MAX and self.rng.random() < 0.5:
            return row._replace(amount=row.amount + 1)
        if row.kind == PURCHASE and self.rng.random() < 0.5:
            return row._replace(flags=row.flags ^ WITH_POINTS)
        if row.trace == 0 and self.rng.random() < 0.3:
            return row._replace(terminal=self.terminals[row.terminal == self.terminals[0]])
        if row.kind == ISSUE and self.rng.random() < 0.5:
            return row._replace(expires=row.expires + 1)
        if row.kind == STATUS and self.rng.random() < 0.5:
            return row._replace(status=FROZEN if row.status == ACTIVE else ACTIVE)
        if row.card_digits and self.rng.random() < 0.5:
            return row._replace(**self.card_fields())
        return row._replace(channel=row.channel ^ 1)

    def again(self, command: Command, row: Row, label: str) -> None:
        """Append a request under an old key, without taking it for a new transaction."""
        name = KIND_NAMES[row.kind]
        key = "key: trace" if row.trace else "key: id"
        self.commands.append(Command(len(self.commands), (name, label, key), self.batch, row, command.names))
        if self.rng.random() < 0.3:
            self.batch += 1

    def same_trace(self) -> None:
        """A trace or id that was used, on another date or at another terminal: another key."""
        old = self.commands[self.recent(self.everything)].row
        assert old is not None
        row = self.request(pick(self.rng, (TOP_UP, PURCHASE)))
        row = row._replace(trace=old.trace, id_hi=old.id_hi, id_lo=old.id_lo)
        date = self.open_date - int(self.rng.random() * WINDOW_DAYS)
        self.write(row._replace(business_date=date), "key: same trace on another date")

    def absurd_amount(self) -> None:
        rng = self.rng
        amount = pick(rng, (0, -1, -(2**63), 2**63 - 1, AMOUNT_MAX + 1, AMOUNT_MAX, CAP))
        kind = pick(rng, (TOP_UP, PURCHASE, FUND, REFUND))
        if kind == REFUND:
            row = self.row(REFUND, amount=amount)
            self.write_naming(row, self.recent(self.asked[PURCHASE]), "amount: absurd")
        else:
            self.write(self.request(kind)._replace(amount=amount), "amount: absurd")

    def unknown_card(self) -> None:
        row = self.request(pick(self.rng, (TOP_UP, PURCHASE, STATUS, BALANCE)))
        self.write(row._replace(card_digits=19, card=up_to(self.rng, 10**17)), "card: unknown")

    def unknown_terminal(self) -> None:
        row = self.request(pick(self.rng, (TOP_UP, PURCHASE, ISSUE, BALANCE, FUND)))
        if self.rng.random() < 0.3:
            programme = pick(self.rng, (PROGRAMMES_MAX + 1, 65_535))
            self.write(row._replace(programme=programme), "programme: unknown")
        else:
            terminal = pick(self.rng, (77_777_777, 4_294_967_294))
            self.write(row._replace(terminal=terminal), "terminal: unknown")

    def out_of_date(self) -> None:
        row = self.request(pick(self.rng, (TOP_UP, PURCHASE, ISSUE, FUND, STATUS)))
        dates = [self.open_date + days for days in (-WINDOW_DAYS, 1, -WINDOW_DAYS - 1, 2, 365)]
        dates += [1, 0, -1, -(2**31), 2**31 - 1]
        self.write(row._replace(business_date=pick(self.rng, dates)), "date: outside the window")

    def late_date(self) -> None:
        """A request of a closed day that is still in the window."""
        row = self.request(pick(self.rng, (TOP_UP, PURCHASE, PURCHASE, FUND, STATUS)))
        date = self.open_date - up_to(self.rng, WINDOW_DAYS - 1)
        self.write(row._replace(business_date=date), "date: closed, in the window")

    def out_of_time(self) -> None:
        """Local times at the edges of the tolerances, and far outside."""
        row = self.request(pick(self.rng, (TOP_UP, PURCHASE, FUND)))
        times = [-1, DAY_S, -604_801, DAY_S + 604_801, -604_800, DAY_S + 604_799]
        times += [-TOLERANCE_S, -TOLERANCE_S - 1, DAY_S + TOLERANCE_S - 1, DAY_S + TOLERANCE_S + 1]
        times += [-(2**31), 2**31 - 1]
        self.write(row._replace(local_time=pick(self.rng, times)), "time: out of tolerance")

    def malformed(self) -> None:
        row = self.request(pick(self.rng, (ISSUE, TOP_UP, PURCHASE, STATUS, FUND, BALANCE)))
        if self.rng.random() < 0.4:
            target = self.request(PURCHASE)
            row = naming(self.row(pick(self.rng, (REFUND, REVERSAL)), amount=0), target)
            row = row._replace(amount=5 if row.kind == REFUND else 0)
        self.write(pick(self.rng, MISTAKES)(row), "malformed")

    def publish(self) -> None:
        """The next version of the rules; products are added, never taken away."""
        if len(self.products) < 6 and self.version:
            self.products = tuple(sorted({*self.products, up_to(self.rng, 65_535)}))
        tables = self.tables()
        if self.brim:
            products = [
                {
                    **product,
                    "discount": 0,
                    "accrual": 10**18,
                    "purchase_max": 0,
                    "top_up_max": 0,
                    "balance_max": 0,
                }
                for product in tables["products"]
            ]
            tables = {**BRIM_TABLES, "products": products}
        self.version += 1
        self.published = (f"# version {self.version}\n# 积分\n", json.dumps(tables))
        self.call("publish", self.version, *self.published)

    def publish_odd(self) -> None:
        """The newest version again, or with another text, or a number that is not next."""
        text, tables = self.published
        version, text = pick(
            self.rng,
            (
                (self.version, text),
                (self.version, text + "#"),
                (self.version + 2, text),
                (self.version - 1, text),
            ),
        )
        self.call("publish", version, text, tables, label="publish: again, other content, wrong number")

    def publish_unknown(self) -> None:
        """A next version that names a store or a merchant which is not registered: it is refused."""
        text, tables = self.published
        label = "publish: an unknown store or merchant"
        self.call("publish", self.version + 1, text, self.with_unknown(json.loads(tables)), label=label)

    def with_unknown(self, tables: dict[str, Any]) -> str:
        """Tables with one more place in a rule, a unit or a region; what is named last is nowhere."""
        what = pick(self.rng, ("stores", "merchants"))
        units = [unit for unit in tables.get("units", []) if what == "stores"]
        rules = [*tables.get("discounts", []), *tables.get("accruals", []), *tables.get("fees", [])]
        places = [rule["when"] for rule in rules] + units + tables.get("regions", [])
        place = pick(self.rng, places) if places else {"name": "nowhere"}
        if not places:
            tables["regions"] = [place]
        # The largest number is a store's and a merchant's: it stays the last.
        place[what] = sorted({*place.get(what, ()), UNKNOWN_PLACE})
        return json.dumps(tables)

    def register_odd(self) -> None:
        """New stores and terminals, and registrations that are known, contradict, or make no sense."""
        number, store, terminal = self.programme, self.stores[0], self.terminals[0]
        odd = "register: again, other content, unknown parent, malformed"
        fresh = len(self.commands) + 5_000_000
        rows, label = pick(
            self.rng,
            (
                ([("store", number, fresh, 1, "new"), ("terminal", number, fresh, fresh, "")], "register"),
                ([("terminal", number, fresh, store, "")], "register"),
                (
                    [
                        ("merchant", number, fresh, 0, "名" * 21),
                        ("store", number, fresh, fresh, "n"),
                        ("terminal", number, fresh, fresh, ""),
                    ],
                    "register",
                ),
                (list(self.opening), odd),
                ([("programme", number, number, self.opening[0][3] + 1, "一卡通")], odd),
                ([("programme", number, number, self.opening[0][3], "other")], odd),
                ([("merchant", number, 1, 0, "other"), ("store", number, store, 1, "other")], odd),
                ([("terminal", number, terminal, self.stores[1], "")], odd),
                ([("store", number, fresh, 99, "n"), ("terminal", number, fresh, 4_000_000_000, "")], odd),
                ([("merchant", PROGRAMMES_MAX + 2, 1, 0, "n")], odd),
                ([("merchant", number, 0, 0, "n"), ("merchant", number, fresh, 0, "名" * 22)], odd),
                ([("store", number, 0, 1, "n"), ("terminal", number, 0, store, "")], odd),
            ),
        )
        self.call("register", rows, label=label)
        for what, _, new, _, _ in rows:
            if what == "terminal" and label == "register":
                self.terminals.append(new)

    def close(self) -> None:
        """Close the open day, now and then so many that keys leave the window."""
        for _ in range(pick(self.rng, (1, 1, 1, 1, 1, 2, 2, 8))):
            self.call("close", self.open_date)
            self.open_date += 1

    def close_odd(self) -> None:
        first = self.opening[0][3]
        if self.open_date > first and self.rng.random() < 0.6:
            date = self.open_date - up_to(self.rng, self.open_date - first)
            self.call("close", date, label="close: again")
        else:
            date = pick(self.rng, (first - 1, self.open_date + 1, self.open_date + 1_000))
            self.call("close", date, label="close: wrong date")

    def query(self) -> None:
        """Statement, positions, liabilities or trial balance in the middle of things."""
        call = pick(self.rng, ("statement", "positions", "liabilities", "trial balance"))
        if call == "statement":
            digits, number = pick(self.rng, (*self.cards, (10, 5)))
            before = self.recent(self.everything) if self.rng.random() < 0.5 else AS_IS
            self.call(call, digits, number, pick(self.rng, (0, 1, 3, 1_000)), before)
        else:
            self.call(call)

    def to_the_brim(self) -> None:
        """Fill a card's points to CAP; let them grow, or spend them, undo what earned them, or undo that."""
        digits, card = pick(self.rng, self.cards)
        fields = {"card_digits": digits, "card": card}
        self.write(self.row(TOP_UP, amount=AMOUNT_MAX, **fields))
        for _ in range(pick(self.rng, (1, 2))):
            earning = self.write(self.row(PURCHASE, amount=10**10, **fields))
            if self.rng.random() < 0.15:
                for _ in range(31):
                    self.write(self.row(FUND, amount=AMOUNT_MAX))
                self.close()
            spending = self.write(
                self.row(PURCHASE, amount=10**4, flags=WITH_POINTS, **fields), "purchase: with points"
            )
            if self.rng.random() < 0.3:
                self.write(self.row(PURCHASE, amount=10**10, **fields))
                self.refund_of(spending)
                self.write_naming(self.row(REVERSAL), spending)
            elif self.rng.random() < 0.5:
                refund = self.write_naming(self.row(REFUND, amount=10**10), earning)
                if self.rng.random() < 0.7:
                    self.write_naming(self.row(REVERSAL), refund)
            else:
                self.write_naming(self.row(REVERSAL), earning)

    def begin(self) -> None:
        """Rules, issues, top-ups and a purchase."""
        self.publish()
        for digits, card in self.cards[: pick(self.rng, (3, 9, 9))]:
            expires = pick(self.rng, (0, 0, 0, self.open_date + up_to(self.rng, 4)))
            product = pick(self.rng, self.products)
            self.write(self.row(ISSUE, product=product, expires=expires, card_digits=digits, card=card))
            self.write(self.row(TOP_UP, amount=self.amount(self.scale * 5), card_digits=digits, card=card))
        self.write(self.request(PURCHASE))

    def deck(self) -> tuple[Callable[[Any], None], ...]:
        """Commands to choose from."""
        return DECK

    def tables(self) -> dict[str, Any]:
        """Tables of the next version of the rules."""
        return random_tables(self.rng, self.scale, self.products, self.stores, self.open_date)

    def step(self) -> None:
        """One command by chance."""
        if self.late and self.late[0][0] <= len(self.commands):
            _, row = self.late.pop(0)
            if self.rng.random() < 0.2:
                row = self.other_content(row)
            self.write(row, "original: after its reversal")
        elif self.brim and self.rng.random() < 0.1:
            self.to_the_brim()
        else:
            pick(self.rng, self.deck())(self)


def naming(row: Row, original: Row) -> Row:
    """A refund or reversal that names its original by key."""
    return row._replace(
        original_date=original.business_date,
        original_terminal=original.terminal if original.trace else 0,
        original_trace=original.trace,
        original_id_hi=original.id_hi,
        original_id_lo=original.id_lo,
    )


def naming_itself(row: Row) -> Row:
    """A refund or reversal of itself; any other kind becomes one that there is none of."""
    return naming(row, row) if row.kind in (REFUND, REVERSAL) else row._replace(kind=21)


MISTAKES: tuple[Callable[[Row], Row], ...] = (
    lambda row: row._replace(kind=0),
    lambda row: row._replace(kind=21),
    lambda row: row._replace(kind=255),
    lambda row: row._replace(terminal=0),
    lambda row: row._replace(flags=64),
    lambda row: row._replace(flags=255),
    lambda row: row._replace(card_digits=7, card=1_234_567),
    lambda row: row._replace(card_digits=20, card=5),
    lambda row: row._replace(card_digits=8, card=10**8),
    lambda row: row._replace(card_digits=19, card=10**19),
    lambda row: row._replace(card_digits=0, card=0) if row.card_digits else row._replace(card=1),
    lambda row: row._replace(product=1) if row.kind != ISSUE else row._replace(amount=1),
    lambda row: row._replace(expires=20_000) if row.kind != ISSUE else row._replace(status=ACTIVE),
    lambda row: row._replace(status=7),
    lambda row: row._replace(status=0) if row.kind == STATUS else row._replace(status=FROZEN),
    lambda row: row._replace(trace=1, id_lo=1),
    lambda row: row._replace(trace=0, id_hi=0, id_lo=0) if row.kind != BALANCE else row._replace(trace=1),
    lambda row: row._replace(id_hi=1, trace=1),
    lambda row: row._replace(amount=7) if row.kind in (BALANCE, STATUS, REVERSAL) else row._replace(status=9),
    naming_itself,
    lambda row: row._replace(original=3, original_date=row.business_date, original_id_lo=9),
    lambda row: (
        row._replace(original=3) if row.original_date == 0 else row._replace(original=3, original_date=0)
    ),
    lambda row: row._replace(original_trace=0, original_id_hi=0, original_id_lo=0, original_terminal=1),
    lambda row: row._replace(original_trace=7, original_id_lo=7),
    lambda row: row._replace(original_trace=7, original_terminal=0, original_id_hi=0, original_id_lo=0),
    lambda row: row._replace(original_trace=0, original_terminal=7, original_id_lo=7),
)
"""Each makes a request malformed, whatever it was."""

DECK: tuple[Callable[[Author], None], ...] = tuple(
    command
    for weight, command in (
        (4, Author.issue),
        (13, Author.top_up),
        (26, Author.purchase),
        (10, Author.refund),
        (3, Author.refund_in_parts),
        (12, Author.reversal),
        (3, Author.reversal_first),
        (3, Author.unknown_original),
        (2, Author.status),
        (4, Author.fund),
        (4, Author.balance),
        (8, Author.retry),
        (4, Author.retry_other),
        (2, Author.same_trace),
        (3, Author.absurd_amount),
        (2, Author.unknown_card),
        (2, Author.unknown_terminal),
        (2, Author.out_of_date),
        (5, Author.late_date),
        (2, Author.out_of_time),
        (5, Author.malformed),
        (2, Author.publish),
        (1, Author.publish_odd),
        (1, Author.publish_unknown),
        (1, Author.register_odd),
        (6, Author.close),
        (2, Author.close_odd),
        (2, Author.query),
    )
    for _ in range(weight)
)


def write_history(programme: int, seeds: list[int]) -> History:
    """The history that these seeds make: the first opens it, every other adds a command or a few.

    Dropping seeds gives a shorter history, which is how hypothesis shrinks one.
    """
    return finish_history(Author(Random(seeds[0]), programme), seeds)


def finish_history(author: Author, seeds: list[int]) -> History:
    """Let an author write what these seeds say."""
    author.begin()
    for seed in seeds[1:]:
        author.rng = Random(seed)
        author.step()
    author.refund()
    author.retry()
    author.close()
    author.purchase()
    for _, row in author.late:
        author.write(row, "original: after its reversal")
    for digits, card in author.cards:
        author.write(author.row(BALANCE, card_digits=digits, card=card))
    return History(author.programme, author.opening, author.commands, author.cards, seeds)


def seeds_of(seed: int) -> list[int]:
    """The seeds that one seed makes: on average 35 of them."""
    rng = Random(seed)
    return [int(rng.random() * 2**32) for _ in range(18 + int(rng.random() * 35))]


def history_of(programme: int, seed: int) -> History:
    """The history of one seed: on average 50 commands, never fewer than 30."""
    return write_history(programme, seeds_of(seed))
