"""Random histories of the whole card: units, holds, names, PINs and codes among all that `history` does."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from random import Random
from typing import Any

from tests.history import (
    AS_IS,
    CATEGORIES,
    DECK,
    TIERS,
    Author,
    History,
    finish_history,
    naming,
    pick,
    random_tables,
    seeds_of,
    up_to,
)
from tests.model import (
    ACCEPT_PARTIAL,
    ACTIVE,
    ALIAS,
    AMOUNT_MAX,
    AUTHORISE,
    BALANCE,
    BIND,
    BULK_TOP_UP,
    BY_CARD,
    BY_OPERATOR,
    CAP,
    CAPTURE,
    CARD,
    CASH,
    CLOSE,
    CODE,
    COUPON,
    CURSOR,
    FINAL,
    FROZEN,
    FUND,
    GENUINE,
    GRANT,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    LINE,
    LOST,
    MEMBER,
    NEW_PIN,
    NOT_YET,
    NUMBER,
    ONE,
    PASS,
    PIN,
    PURCHASE,
    REFUND,
    REPLACE,
    REVERSAL,
    SET_PIN,
    SET_TIER,
    STAFF,
    STATUS,
    STOLEN,
    TAKE_OFF,
    TOP_UP,
    TRANSFER,
    VOID,
    WITH_POINTS,
    Item,
    Row,
)

CARD_COMMANDS = (
    "grant",
    "grant: paid by the card",
    "grant: by a trigger",
    "set tier: by a trigger",
    "authorise",
    "capture",
    "capture: final",
    "void",
    "replace",
    "transfer",
    "transfer: of a unit",
    "holder",
    "bind",
    "bind: take off",
    "bind: from another card",
    "set PIN",
    "set PIN: by an operator",
    "close a card",
    "issue codes",
    "bulk top-up",
    "set tier",
    "member",
    "sale: line by line",
    "card: by alias",
    "card: a former number",
    "item: malformed",
    "retry: other PIN",
    "retry: other items",
    "row: malformed, of a new kind",
)
"""What the histories of the whole card count, besides what every history does."""

COUPON_BY_ISSUER, COUPON_BY_STORE, VISITS, TIME, GROWTH, VALUE, MORE = 16, 17, 20, 30, 40, 300, 65_535
UNITS = (COUPON_BY_ISSUER, COUPON_BY_STORE, VISITS, TIME, GROWTH, VALUE, MORE)
KINDS_OF_UNITS = {
    COUPON_BY_ISSUER: "coupon",
    COUPON_BY_STORE: "coupon",
    VISITS: "visits",
    TIME: "time",
    GROWTH: "growth",
    VALUE: "value",
    MORE: "value",
}
BUNDLES = (1, 2, 3, 4, 65_535)
EPOCH = datetime.date(1970, 1, 1)
CHANNELS = (0, 1, 2, 255)
PINS = ((4, 1234), (4, 0), (12, 999_999_999_999))
ALIASES = ((1, 1, 1), (1, 1, 2), (255, 0, 7))


# Rules


def unit_tables(rng: Random, scale: int, stores: list[int]) -> list[dict[str, Any]]:
    """Units of every kind; now and then one is left out, or is another kind than it was."""
    rules = []
    for unit in UNITS:
        if rng.random() < 0.05:
            continue
        kind = KINDS_OF_UNITS[unit] if rng.random() < 0.95 else pick(rng, ("coupon", "visits", "value"))
        rule: dict[str, Any] = {"id": unit, "name": f"unit {unit}", "kind": kind}
        if kind in ("visits", "time"):
            rule["worth"] = pick(rng, (0, up_to(rng, scale // 5 + 1), scale))
        if kind == "coupon":
            priced = rng.random() < 0.5
            rule["value" if priced else "rate"] = up_to(rng, scale // 8 + 1) if priced else up_to(rng, ONE)
            rule["max"] = pick(rng, (0, 0, up_to(rng, scale // 4 + 1)))
            rule["funded"] = "store" if unit == COUPON_BY_STORE else "issuer"
        if kind not in ("value", "growth"):
            rule["min_spend"] = pick(rng, (0, 0, 0, 0, scale // 20))
        if rng.random() < 0.12:
            rule["stores"] = sorted(stores[: up_to(rng, len(stores))])
        if rng.random() < 0.15:
            rule["per_purchase"] = up_to(rng, 4)
        rules.append(rule)
    return rules


def bundle_tables(rng: Random, scale: int, units: list[int], today: int) -> list[dict[str, Any]]:
    """Bundles of bonus, points and units, some of them sold, some limited."""
    bundles = []
    for bundle in BUNDLES:
        if rng.random() < 0.05:
            continue
        worth = pick(rng, (0, 0, 0, up_to(rng, scale // 4 + 1)))
        least = 0 if worth else 1
        bundles.append(
            {
                "id": bundle,
                "name": f"bundle {bundle}",
                "price": pick(rng, (0, 0, up_to(rng, scale), scale // 10)),
                "points": pick(rng, (0, 0, 0, up_to(rng, min(scale * 10, AMOUNT_MAX)), up_to(rng, scale))),
                "stock": pick(rng, (0, 0, 0, 1, 4, 9)),
                "worth": worth,
                "per_card": pick(rng, (0, 0, 0, 0, 5, 1)),
                "per_member": pick(rng, (0, 0, 0, 6, 2)),
                "grants": [
                    grant_table(rng, scale, units, today) for _ in range(pick(rng, (least, 1, 2, 3, 5)))
                ],
            }
        )
    return bundles


def grant_table(rng: Random, scale: int, units: list[int], today: int) -> dict[str, Any]:
    unit = pick(rng, (2, 3, *units, *units))
    amount = up_to(rng, scale) if unit in (2, 3, GROWTH, VALUE, MORE) else up_to(rng, 6)
    line = {"unit": unit, "amount": amount}
    if rng.random() < 0.25:
        line["from"] = up_to(rng, 3)
    if rng.random() < 0.6:
        line["days"] = pick(rng, (1, 2, 3, 5, 40))
    if rng.random() < 0.2:
        line["until"] = today + pick(rng, (-1, 0, 1, 2, 4, 30))
    return line


def growth_table(rng: Random, units: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How growth value is earned, if a unit counts it."""
    if rng.random() < 0.25 or (GROWTH, "growth") not in [(unit["id"], unit["kind"]) for unit in units]:
        return None
    return {
        "unit": GROWTH,
        "rate": pick(rng, (0, 10**10, 10**10, up_to(rng, ONE))),
        "days": pick(rng, (1, 2, 3, 30)),
        "round": pick(rng, ("day", "day", "month", "year")),
        "tier_days": pick(rng, (1, 2, 3, 30)),
        "tier_round": pick(rng, ("day", "day", "day", "month")),
    }


def product_tables(rng: Random, scale: int, product: dict[str, Any], *, staff: bool) -> dict[str, Any]:
    """A product with all that may be left out."""

    def seldom(*values: Any) -> Any:
        return pick(rng, values) if rng.random() < 0.22 else None

    more = {
        "rebate": seldom(10**10, ONE, up_to(rng, ONE)),
        "pin_above": seldom(0, scale // 2, up_to(rng, scale)),
        "day_sum": seldom(scale * 2, up_to(rng, scale * 3)),
        "day_count": seldom(1, 2, 4),
        "points_days": seldom(1, 2, 3, 30),
        "points_round": seldom("day", "month", "year"),
        "bonus_days": seldom(1, 2, 3, 30),
        "points_per_day": seldom(1, min(scale * 50, AMOUNT_MAX), up_to(rng, scale * 100) % AMOUNT_MAX + 1),
        "staff": staff or None,
        "named": seldom(
            {"purchase_max": min(scale * 2, AMOUNT_MAX), "balance_max": min(scale * 20, CAP)},
            {"day_sum": scale, "day_count": 3, "top_up_max": scale},
            {},
        ),
    }
    return product | {name: value for name, value in more.items() if value is not None}


def band_tables(rng: Random, scale: int, bands: list[dict[str, Any]], bundles: list[int]) -> None:
    """Let some bands of top-ups give points, a bundle, or a lower price."""
    for band in bands:
        if rng.random() < 0.4:
            band["points"] = up_to(rng, scale * 10) % AMOUNT_MAX + 1
        if rng.random() < 0.4 and bundles:
            band["bundle"] = pick(rng, bundles)
        if rng.random() < 0.4:
            band["price"] = pick(rng, (1, ONE // 2, 9 * 10**11, up_to(rng, ONE)))


def gift_tables(rng: Random, scale: int, bundles: list[dict[str, Any]]) -> dict[str, int]:
    """Gifts, most of the time: those of a first purchase are no goods."""
    gifts: dict[str, int] = {}
    plain = [bundle["id"] for bundle in bundles if not bundle["worth"]]
    if bundles and rng.random() < 0.6:
        gifts["enrolment"] = pick(rng, [bundle["id"] for bundle in bundles])
    if plain and rng.random() < 0.6:
        gifts["first_purchase"] = pick(rng, plain)
        gifts["first_purchase_min"] = pick(rng, (0, 0, 1, up_to(rng, scale // 4 + 1)))
    return gifts


def waterfall_tables(rng: Random, waterfall: list[dict[str, Any]], units: list[dict[str, Any]]) -> None:
    """Put steps of units, coupons, passes, cards and cash into a waterfall."""
    for rule in units:
        if rule["kind"] == "value" and rng.random() < 0.6:
            step = {"pay": "unit", "unit": rule["id"], "share": pick(rng, (ONE, up_to(rng, ONE)))}
            step |= {
                "price": pick(rng, (ONE, 10**10, up_to(rng, 10**14))),
                "min_points": pick(rng, (0, 0, 50)),
            }
            waterfall.insert(int(rng.random() * (len(waterfall) + 1)), step)
    for pay in ("coupons", "passes", "cards", "cash"):
        if rng.random() < 0.25:
            step = {"pay": pay, "share": ONE, "price": 0, "min_points": 0}
            waterfall.insert(int(rng.random() * (len(waterfall) + 1)), step)


# Commands


class CardAuthor(Author):
    """Writes a history of the whole card. It guesses what cards have, so that most requests make sense."""

    def __init__(self, rng: Random, programme: int) -> None:
        super().__init__(rng, programme)
        self.scale = pick(rng, (1_000, 10**4, 10**4, 10**6, 10**6, AMOUNT_MAX))
        self.brim = False
        self.pins: dict[tuple[int, int], tuple[int, int]] = {}
        self.former: list[tuple[int, int]] = []
        self.bound: dict[tuple[int, int, int], tuple[int, int]] = {}
        self.serials = dict.fromkeys((COUPON_BY_ISSUER, COUPON_BY_STORE), 0)
        self.staff_card = (10, 77)
        self.newest = 0

    def tables(self) -> dict[str, Any]:
        rng = self.rng
        tables = random_tables(rng, self.scale, self.products, self.stores, self.open_date)
        units = unit_tables(rng, self.scale, self.stores)
        tables["units"] = units
        if growth := growth_table(rng, units):
            tables["growth_value"] = growth
        ids = [unit["id"] for unit in units]
        tables["bundles"] = bundle_tables(rng, self.scale, ids, self.open_date)
        band_tables(rng, self.scale, tables["top_up_bonus"], [bundle["id"] for bundle in tables["bundles"]])
        tables["gifts"] = gift_tables(rng, self.scale, tables["bundles"])
        staffed = pick(rng, self.products)
        tables["products"] = [
            product_tables(rng, self.scale, product, staff=product["id"] == staffed or rng.random() < 0.3)
            for product in tables["products"]
        ]
        waterfall_tables(rng, tables["waterfall"], units)
        tables["channels"] = [
            {"id": 1, "name": "app", "collects": "issuer"},
            {"id": 2, "name": "till", "collects": "store"},
            {"id": 255, "name": "web", "collects": pick(rng, ("store", "issuer"))},
        ]
        if rng.random() < 0.7:
            tables["hold_days"] = pick(rng, (1, 2, 3, 7))
        if rng.random() < 0.3:
            tables["grace_days"] = pick(rng, (1, 2, 30))
        return tables

    def row(self, kind: int, **fields: Any) -> Row:
        return super().row(kind, **fields)._replace(channel=pick(self.rng, CHANNELS))

    def begin(self) -> None:
        super().begin()
        for digits, card in self.cards:
            for _ in range(up_to(self.rng, 3)):
                self.write(self.request(GRANT)._replace(card_digits=digits, card=card))
            buys = self.row(PURCHASE, amount=self.amount(self.scale // 5 + 1))
            self.write(buys._replace(card_digits=digits, card=card))
        digits, card = self.staff_card
        product = pick(self.rng, self.products)
        self.write(self.row(ISSUE, product=product, card_digits=digits, card=card))
        for member in (1, 2):
            self.know(member)
            self.write(self.named(HOLDER, items=(Item(MEMBER, low=member),)))
        for unit in self.serials:
            self.codes(unit, self.open_date + up_to(self.rng, 9))

    def know(self, member: int | None = None) -> None:
        """A member tells a birthday, mostly one that is near."""
        rng = self.rng
        day = EPOCH + datetime.timedelta(self.open_date + pick(rng, (0, 0, 1, 2, 4, -1, -3, 9, 200)))
        born = pick(rng, (day.replace(year=1984, day=min(day.day, 28)), datetime.date(1988, 2, 29)))
        self.call("know", member or pick(rng, (1, 2)), born, label="member")

    def deck(self) -> tuple[Callable[[Any], None], ...]:
        return CARD_DECK if self.rng.random() < 0.7 else DECK

    def named(self, kind: int, **fields: Any) -> Row:
        """A request that names its card, now and then by an alias."""
        row = self.row(kind, **fields)
        if self.rng.random() < 0.06:
            alias = alias_item(pick(self.rng, tuple(self.bound) or ALIASES))
            at = int(self.rng.random() * (len(row.items) + 1))
            return row._replace(items=(*row.items[:at], alias, *row.items[at:]))
        digits, card = self.any_number(0.04)
        return row._replace(card_digits=digits, card=card)

    def any_card(self) -> tuple[int, int]:
        return self.cards[int(self.rng.random() * len(self.cards))]

    def any_number(self, chance: float) -> tuple[int, int]:
        """A card's number; with this chance a former one."""
        former = self.former and self.rng.random() < chance
        return self.former[int(self.rng.random() * len(self.former))] if former else self.any_card()

    def any_hold(self, chance: float) -> int:
        """An authorisation, with this chance; else anything."""
        holds = self.asked[AUTHORISE]
        return self.recent(holds if holds and self.rng.random() < chance else self.everything)

    def write(self, row: Row, *labels: str, names: int = AS_IS) -> int:
        if row.kind != BIND and any(item.kind == ALIAS for item in row.items):
            labels += ("card: by alias",)
        if any(item.kind == LINE for item in row.items):
            labels += ("sale: line by line",)
        if (row.card_digits, row.card) in self.former:
            labels += ("card: a former number",)
        return super().write(row, *labels, names=names)

    def request(self, kind: int) -> Row:
        """A sane request of any kind that names no original."""
        rng = self.rng
        if kind == PURCHASE:
            return self.sale(kind)
        if kind == AUTHORISE:
            expires = pick(rng, (0, 0, 0, self.open_date + up_to(rng, 4) - 2))
            return self.sale(kind)._replace(expires=expires)
        if kind == STATUS:
            status = pick(rng, (FROZEN, LOST, STOLEN)) if rng.random() < 0.35 else ACTIVE
            return self.named(kind, status=status)
        if kind == GRANT:
            flags = BY_CARD if rng.random() < 0.4 else 0
            count = pick(rng, (1, 1, 1, 2, 3, up_to(rng, 50)))
            return self.with_pin(self.named(kind, product=pick(rng, BUNDLES), amount=count, flags=flags))
        if kind == TOP_UP:
            return self.with_pin(self.named(kind, amount=self.amount(self.scale * 3)))
        if kind == BALANCE:
            return self.named(kind)
        return super().request(kind)

    # Items

    def pin_of(self, card: tuple[int, int]) -> Item:
        """A card's PIN as far as it is known, now and then a wrong one."""
        right = self.pins.get(card, PINS[0])
        digits, low = right if self.rng.random() < 0.75 else pick(self.rng, PINS)
        return Item(PIN, digits=digits, low=low)

    def with_pin(self, row: Row, chance: float = 0.1) -> Row:
        """A request with its card's PIN, mostly if the card has one."""
        own = (row.card_digits, row.card)
        if self.rng.random() < (0.75 if own in self.pins else chance):
            return row._replace(items=(self.pin_of(own), *row.items))
        return row

    def sale(self, kind: int) -> Row:
        rng = self.rng
        most = pick(rng, (self.scale, self.scale // 5 + 1, self.scale // 20 + 1))
        flags = (WITH_POINTS if rng.random() < 0.6 else 0) | (ACCEPT_PARTIAL if rng.random() < 0.2 else 0)
        items: list[Item] = []
        if rng.random() < 0.6:
            items += [self.voucher(kind) for _ in range(pick(rng, (1, 1, 1, 2, 3)))]
        if rng.random() < 0.15:
            items.append(Item(STAFF, digits=self.staff_card[0], low=self.staff_card[1]))
            if rng.random() < 0.1:
                digits, low = self.any_card()
                items[-1] = Item(STAFF, digits=digits, low=low)
        if kind == PURCHASE and rng.random() < 0.2:
            items.append(Item(CASH, amount=self.amount(self.scale)))
        amount = self.amount(most)
        if rng.random() < 0.35:
            items += self.basket(amount)
        rng.shuffle(items)
        if kind == PURCHASE and rng.random() < 0.25:
            for _ in range(pick(rng, (1, 1, 2))):
                items += self.further(0.5)
        return self.with_pin(self.named(kind, amount=amount, flags=flags, items=tuple(items)))

    def basket(self, amount: int) -> list[Item]:
        """Lines that come to an amount, now and then not quite."""
        rng = self.rng
        if not 0 <= amount <= AMOUNT_MAX:
            return [Item(LINE, unit=1, amount=1)]
        cuts = sorted(int(rng.random() * (amount + 1)) for _ in range(pick(rng, (0, 1, 2, 2, 3, 7, 30))))
        amounts = [end - start for start, end in zip([0, *cuts], [*cuts, amount], strict=True)]
        if rng.random() < 0.02:
            amounts[0] += 1
        return [
            Item(LINE, unit=pick(rng, (0, 9, *CATEGORIES)), amount=part, low=pick(rng, (0, 7, 2**63 - 1)))
            for part in amounts
        ]

    def voucher(self, kind: int) -> Item:
        rng = self.rng
        count = pick(rng, (1, 1, 1, 1, 2, 3, 100))
        what = pick(rng, (COUPON, PASS, PASS, CODE)) if kind == PURCHASE else pick(rng, (COUPON, PASS))
        if what == PASS:
            unit = pick(rng, (VISITS, VISITS, TIME))
            count = 1 if unit == TIME and rng.random() < 0.95 else count
        else:
            unit = pick(rng, (COUPON_BY_ISSUER, COUPON_BY_STORE))
        if rng.random() < 0.04:
            unit = pick(rng, (*UNITS, 99))
        if what == CODE:
            serial = pick(rng, (up_to(rng, 6), up_to(rng, self.serials.get(unit, 0) + 2), 0, 2**64 - 1))
            genuine = GENUINE if rng.random() < 0.9 else pick(rng, (0, 2))
            return Item(CODE, unit=unit, high=genuine, low=serial)
        return Item(what, unit=unit, amount=count)

    def further(self, chance: float, card: tuple[int, int] | None = None) -> list[Item]:
        """A further card, this one or any, mostly with its PIN."""
        digits, low = card = card or self.any_number(0.05)
        if self.rng.random() < 0.03:
            digits, low = 19, 5
        pin = [self.pin_of(card)] if self.rng.random() < (0.85 if card in self.pins else chance * 0.3) else []
        return [Item(CARD, digits=digits, low=low), *pin]

    # One command each

    def grant(self) -> None:
        row = self.request(GRANT)
        if self.rng.random() < 0.05:
            row = row._replace(amount=pick(self.rng, (0, -1, 1_000, 1_001)))
        if self.rng.random() < 0.03:
            row = row._replace(product=pick(self.rng, (0, 9)))
        labels = ("grant: paid by the card",) if row.flags else ()
        self.write(row, *labels)

    def triggered(self) -> None:
        """Some bundles and tiers of triggers, which most go on."""
        for _ in range(pick(self.rng, (1, 2, 4))):
            if self.rng.random() < 0.3:
                tier = pick(self.rng, (0, *TIERS, *TIERS, 3))
                row, label = self.row(SET_TIER, product=tier), "set tier: by a trigger"
            else:
                row, label = self.request(GRANT), "grant: by a trigger"
            items = (self.cursor(), *(item for item in row.items if item.kind == PIN))
            self.write(row._replace(card_digits=0, card=0, items=items), label)

    def cursor(self) -> Item:
        """A trigger's cursor, mostly beyond where it was; the card is one of those issued first."""
        self.newest += pick(self.rng, (0, 0, 1, 1, 5, 2**40 if self.rng.random() < 0.02 else 2))
        sequence = max(self.newest - pick(self.rng, (0, 0, 0, 0, 1, 3)), 1)
        trigger = pick(self.rng, (1, 1, 2, 65_535))
        return Item(CURSOR, unit=trigger, amount=sequence, low=int(self.rng.random() * 4))

    def set_tier(self) -> None:
        self.write(self.named(SET_TIER, product=pick(self.rng, (0, *TIERS, *TIERS, 3))))

    def purchase(self) -> None:
        row = self.dry(self.request(PURCHASE))
        self.write(row, *(("purchase: with points",) if row.flags & WITH_POINTS else ()))

    def authorise(self) -> None:
        """Authorise, and mostly capture or void what was."""
        rng = self.rng
        row = self.request(AUTHORISE)
        if rng.random() < 0.4:
            # A plain one, which has better prospects.
            row = row._replace(amount=self.amount(self.scale // 20 + 1), flags=WITH_POINTS)
            row = row._replace(items=tuple(item for item in row.items if item.kind in (PIN, ALIAS)))
        if (tried := self.dry(row)) != row:
            self.write(tried)
        target = self.write(row)
        chance = rng.random()
        if chance < 0.45:
            for _ in range(pick(rng, (1, 1, 2, 3))):
                self.capture_of(target)
        elif chance < 0.6:
            self.write_naming(self.row(pick(rng, (VOID, VOID, REVERSAL))), target)

    def capture(self) -> None:
        self.capture_of(self.any_hold(0.95))

    def capture_of(self, target: int) -> None:
        rng = self.rng
        row = self.commands[target].row
        assert row is not None
        part = max(pick(rng, (row.amount, row.amount, row.amount // 3, row.amount // 10)), 1)
        amount = pick(rng, (part, self.amount(min(part, AMOUNT_MAX)), 0 if rng.random() < 0.05 else part))
        flags = FINAL if rng.random() < 0.3 else 0
        labels = ("capture: final",) if flags else ()
        number = self.write_naming(self.row(CAPTURE, amount=amount, flags=flags), target, *labels)
        if rng.random() < 0.35:
            self.refund_of(number)
        if rng.random() < 0.15:
            self.write_naming(self.row(REVERSAL), number)

    def void(self) -> None:
        self.write_naming(self.row(VOID), self.any_hold(0.9))

    def replace(self) -> None:
        rng = self.rng
        old = self.any_card()
        new = (12, up_to(rng, 10**9))
        if rng.random() < 0.15:
            new = pick(rng, (*self.cards, *self.former))
        item = Item(NUMBER, digits=new[0], low=new[1])
        row = self.row(REPLACE, status=pick(rng, (0, LOST, STOLEN)), items=(item,))
        self.write(row._replace(card_digits=old[0], card=old[1]))
        if new not in self.cards and new not in self.former:
            self.cards.append(new)
            self.former.append(old)
            if len(self.cards) > 4:
                self.cards.remove(old)
            if old in self.pins:
                self.pins[new] = self.pins[old]

    def transfer(self) -> None:
        rng = self.rng
        purse = pick(rng, (1, 1, 1, 3, 3, 2, 5, *UNITS))
        most = 5 if purse in (COUPON_BY_ISSUER, COUPON_BY_STORE, VISITS, TIME) else self.scale
        amount = pick(rng, (self.amount(most), up_to(rng, 5)))
        row = self.named(TRANSFER, product=purse, amount=amount, items=tuple(self.further(0.5)))
        if rng.random() < 0.1:
            row = row._replace(items=(self.pin_of((row.card_digits, row.card)), *row.items))
        number = self.write(row, *(("transfer: of a unit",) if purse in UNITS else ()))
        if rng.random() < 0.25:
            self.write_naming(self.row(REVERSAL), number)

    def holder(self) -> None:
        member = pick(self.rng, (0, 1, 1, 1, 2))
        item = Item(MEMBER, low=member, amount=int(member > 0 and self.rng.random() < 0.5))
        self.write(self.named(HOLDER, items=(item,)))

    def bind(self) -> None:
        rng = self.rng
        digits, card = own = self.any_card()
        alias = pick(rng, ALIASES)
        flags = TAKE_OFF if rng.random() < 0.25 else 0
        items = [alias_item(alias)]
        labels: tuple[str, ...] = ("bind: take off",) if flags else ()
        if rng.random() < 0.3:
            items += self.further(0.1)
            labels += ("bind: from another card",)
        row = self.row(BIND, flags=flags, items=tuple(items))
        self.write(self.with_pin(row._replace(card_digits=digits, card=card), 0.02), *labels)
        self.bound.setdefault(alias, own)

    def move_alias(self) -> None:
        """Bind an alias to a card, and to another that says who has it."""
        alias = pick(self.rng, ALIASES)
        for card in (self.any_card(), self.any_card()):
            owner = self.bound.get(alias, card)
            items = [alias_item(alias), *(self.further(0.1, owner) if owner != card else [])]
            row = self.row(BIND, card_digits=card[0], card=card[1], items=tuple(items))
            self.write(self.with_pin(row, 0.02), *(("bind: from another card",) if items[1:] else ()))
            self.bound[alias] = card

    def set_pin(self) -> None:
        rng = self.rng
        row = self.named(SET_PIN)
        own = (row.card_digits, row.card)
        flags = BY_OPERATOR if rng.random() < 0.4 else 0
        digits, low = pin = pick(rng, PINS)
        items = [Item(NEW_PIN, digits=digits, low=low)]
        if flags and rng.random() < 0.4:
            items = []
        if rng.random() < (0.9 if own in self.pins else 0.05):
            items.append(self.pin_of(own))
        rng.shuffle(items)
        self.write(
            row._replace(flags=flags, items=(*row.items, *items)),
            *(("set PIN: by an operator",) if flags else ()),
        )
        if any(item.kind == NEW_PIN for item in items) and row.card_digits:
            self.pins[own] = pin

    def wrong_pins(self) -> None:
        """A new PIN, wrong ones until it is locked, and mostly an operator who unlocks it."""
        rng = self.rng
        digits, card = self.any_card()
        fields = {"card_digits": digits, "card": card}
        new = Item(NEW_PIN, digits=4, low=4711)
        self.write(self.row(SET_PIN, flags=BY_OPERATOR, items=(new,), **fields), "set PIN: by an operator")
        for low in (4712, 4713, pick(rng, (4714, 4711)), 4711):
            pin = Item(PIN, digits=4, low=low)
            row = self.row(pick(rng, (PURCHASE, TOP_UP, GRANT)), amount=1, items=(pin,), **fields)
            self.write(row._replace(product=pick(rng, BUNDLES) if row.kind == GRANT else 0))
        self.pins[digits, card] = (4, 4711)
        if rng.random() < 0.8:
            self.write(self.row(SET_PIN, flags=BY_OPERATOR, **fields), "set PIN: by an operator")

    def family(self) -> None:
        """Two cards of one holder pay together; now and then a part of it goes back."""
        rng = self.rng
        own, other = self.any_card(), self.any_card()
        member = Item(MEMBER, low=3)
        for digits, card in (own, other):
            self.write(self.row(HOLDER, items=(member,), card_digits=digits, card=card))
        self.write(self.row(TOP_UP, amount=self.scale, card_digits=other[0], card=other[1]))
        pins = [self.pin_of(own)] if own in self.pins else []
        items = [*pins, Item(CARD, digits=other[0], low=other[1])]
        if other in self.pins:
            items.append(self.pin_of(other))
        moved = self.row(TRANSFER, product=pick(rng, (1, 1, 3, VALUE)), amount=self.scale // 10)
        moved = moved._replace(card_digits=own[0], card=own[1], items=tuple(items))
        number = self.write(moved, *(("transfer: of a unit",) if moved.product == VALUE else ()))
        if rng.random() < 0.4:
            self.write_naming(self.row(REVERSAL), number)
        flags = pick(rng, (0, ACCEPT_PARTIAL, WITH_POINTS))
        for _ in range(3):
            amount = self.amount(pick(rng, (self.scale, self.scale // 2 + 1)))
            row = self.row(PURCHASE, amount=amount, flags=flags, items=tuple(items))
            number = self.write(row._replace(card_digits=own[0], card=own[1]))
            chance = rng.random()
            if chance < 0.3:
                self.refund_of(number)
            elif chance < 0.5:
                self.write_naming(self.row(REVERSAL), number)

    def close_card(self) -> None:
        row = self.named(CLOSE)
        self.write(row)
        if self.rng.random() < 0.7:
            # What is closed is of little use: here is another.
            fresh = (11, up_to(self.rng, 10**8))
            self.cards.append(fresh)
            product = pick(self.rng, self.products)
            self.write(self.row(ISSUE, product=product, card_digits=fresh[0], card=fresh[1]))
            self.write(self.row(TOP_UP, amount=self.amount(self.scale), card_digits=fresh[0], card=fresh[1]))

    def codes(self, unit: int = 0, expires: int = 0) -> None:
        rng = self.rng
        unit = unit or pick(rng, (COUPON_BY_ISSUER, COUPON_BY_STORE, COUPON_BY_ISSUER, VISITS, 0))
        amount = pick(rng, (1, 2, 5, 10**7, 0, 10**7 + 1)) if rng.random() < 0.3 else up_to(rng, 6)
        expires = expires or pick(rng, (0, 0, self.open_date + up_to(rng, 4) - 2))
        self.write(self.row(ISSUE_CODES, product=unit, amount=amount, expires=expires))
        if unit in self.serials and 1 <= amount <= 10**7:
            self.serials[unit] += amount

    def bulk(self) -> None:
        rng = self.rng
        cards = list(self.cards)
        rng.shuffle(cards)
        cards = cards[: up_to(rng, 4)]
        if rng.random() < 0.08:
            cards.append(pick(rng, (*self.cards, (19, 5), *self.former)))
        amounts = [self.amount(self.scale) for _ in cards]
        if rng.random() < 0.05:
            amounts[0] = pick(rng, (0, -5, AMOUNT_MAX + 1))
        total = sum(amounts) + (rng.random() < 0.05)
        items = [
            Item(CARD, digits=digits, low=low, amount=amount)
            for (digits, low), amount in zip(cards, amounts, strict=True)
        ]
        number = self.write(self.row(BULK_TOP_UP, amount=total, items=tuple(items)))
        if rng.random() < 0.25:
            self.write_naming(self.row(REVERSAL), number)

    def issue_inactive(self) -> None:
        """A card that is not active yet; mostly it is activated."""
        fresh = (13, up_to(self.rng, 10**8))
        fields = {"card_digits": fresh[0], "card": fresh[1]}
        self.write(self.row(ISSUE, product=pick(self.rng, self.products), status=NOT_YET, **fields))
        self.write(self.row(TOP_UP, amount=self.amount(self.scale), **fields))
        if self.rng.random() < 0.7:
            self.write(self.row(STATUS, status=ACTIVE, **fields))
            self.cards.append(fresh)

    def newcomer(self) -> None:
        """A new card: topped up, given a holder, and used for the first time, which may be undone."""
        rng = self.rng
        fresh = (14, up_to(rng, 10**8))
        fields = {"card_digits": fresh[0], "card": fresh[1]}
        self.write(self.row(ISSUE, product=pick(rng, self.products), **fields))
        self.write(self.row(TOP_UP, amount=self.amount(self.scale), **fields))
        member = Item(MEMBER, low=pick(rng, (1, 4, up_to(rng, 10**6))))
        if rng.random() < 0.6:
            self.write(self.row(HOLDER, items=(member,), **fields))
        first = pick(rng, (PURCHASE, PURCHASE, AUTHORISE))
        amount = self.amount(self.scale // pick(rng, (2, 8)) + 1)
        target = self.write(self.row(first, amount=amount, **fields))
        if first == AUTHORISE:
            target = self.write_naming(self.row(CAPTURE, amount=max(amount // pick(rng, (1, 2)), 1)), target)
        if rng.random() < 0.4:
            self.write_naming(self.row(REVERSAL), target)
            self.write(self.row(PURCHASE, amount=amount, **fields))
        elif rng.random() < 0.5:
            self.refund_of(target)
        self.cards.append(fresh)

    def give_back(self) -> None:
        """Refund or reverse whatever of the whole card can be."""
        rng = self.rng
        kind = pick(
            rng, (PURCHASE, PURCHASE, GRANT, GRANT, CAPTURE, TOP_UP, AUTHORISE, TRANSFER, BULK_TOP_UP)
        )
        pool = self.asked[kind] or self.everything
        target = self.recent(pool)
        if rng.random() < 0.6 and kind in (PURCHASE, GRANT, CAPTURE, TOP_UP):
            for _ in range(pick(rng, (1, 1, 2, 3))):
                self.refund_of(target)
            if rng.random() < 0.3:
                self.write_naming(self.row(REVERSAL), len(self.commands) - 1)
        else:
            self.write_naming(self.row(REVERSAL), target)

    def refund_of(self, target: int) -> None:
        """Refund a part of something; the price of a grant is not in its row, so any part will do."""
        row = self.commands[target].row
        assert row is not None
        if row.kind != GRANT:
            super().refund_of(target)
            return
        amount = pick(self.rng, (1, self.scale // 10, self.scale // 10, self.amount(self.scale // 10 + 1)))
        self.write_naming(self.row(REFUND, amount=max(amount, 1)), target)

    def bad_item(self) -> None:
        """Items that are none, are of another kind, or are too many."""
        rng = self.rng
        row = self.request(pick(rng, (PURCHASE, TOP_UP, AUTHORISE, GRANT, BALANCE, STATUS)))
        bad = pick(rng, BAD_ITEMS)
        items = [*row.items, *bad]
        rng.shuffle(items)
        self.write(row._replace(items=tuple(items)), "malformed", "item: malformed")

    def bad_row(self) -> None:
        """A row of a new kind with something that it does not use, or without what it needs."""
        rng = self.rng
        kind = pick(rng, tuple(range(GRANT, SET_TIER + 1)))
        row = self.row(kind, amount=pick(rng, (0, 1)), product=pick(rng, (0, 1)))
        if rng.random() < 0.7:
            digits, card = self.any_card()
            row = row._replace(card_digits=digits, card=card)
        if rng.random() < 0.4:
            row = naming(row, self.request(PURCHASE))
        row = row._replace(
            flags=pick(rng, (0, 0, 1, 2, 4, 8, 16, 32, 64)),
            status=pick(rng, (0, 0, 0, 1, 3, 5, 6)),
            expires=pick(rng, (0, 0, 0, self.open_date, -1)),
        )
        self.write(row, "malformed", "row: malformed, of a new kind")

    def retry_items(self) -> None:
        """The same key with another PIN, which is the same content, or with other items, which is not."""
        rng = self.rng
        with_items = [number for number in self.everything if self.row_of(number).items]
        if not with_items:
            self.purchase()
            return
        command = self.commands[self.recent(with_items)]
        row = self.row_of(command.number)
        at = int(rng.random() * len(row.items))
        item = row.items[at]
        if item.kind in (PIN, NEW_PIN):
            other, label = Item(item.kind, 5, low=item.low % 10**4 + 1), "retry: other PIN"
        else:
            other, label = item._replace(low=item.low ^ 1), "retry: other items"
            if item.kind in (COUPON, PASS, CASH):
                other = item._replace(amount=item.amount % 100 + 1)
        self.again(command, row._replace(items=(*row.items[:at], other, *row.items[at + 1 :])), label)

    def row_of(self, number: int) -> Row:
        row = self.commands[number].row
        assert row is not None
        return row


def alias_item(alias: tuple[int, int, int]) -> Item:
    kind, high, low = alias
    return Item(ALIAS, digits=kind, high=high, low=low)


BAD_ITEMS: tuple[tuple[Item, ...], ...] = (
    (Item(),),
    (Item(15),),
    (Item(LINE, unit=1, amount=-1),),
    (Item(LINE, digits=1),),
    (Item(255, amount=1),),
    (Item(CURSOR, amount=1),),
    (Item(CURSOR, unit=1),),
    (Item(CURSOR, unit=1, amount=1, low=2**32),),
    (Item(CURSOR, unit=1, amount=1, digits=8),),
    (Item(CURSOR, unit=1, amount=1),),
    (Item(COUPON, unit=16),),
    (Item(COUPON, unit=16, amount=101),),
    (Item(COUPON, unit=16, amount=-1),),
    (Item(COUPON, unit=16, amount=1, low=1),),
    (Item(PASS, unit=20, amount=1, digits=8),),
    (Item(PASS, unit=20, amount=1, number=1),),
    (Item(CODE, unit=16, low=1, amount=1),),
    (Item(CARD, digits=7, low=1),),
    (Item(CARD, digits=8, low=10**8),),
    (Item(CARD, digits=8, low=1, amount=5),),
    (Item(PIN, digits=3, low=1),),
    (Item(PIN, digits=13, low=1),),
    (Item(PIN, digits=4, low=10_000),),
    (Item(CASH, amount=5), Item(CASH, amount=5)),
    (Item(STAFF, digits=10, low=77), Item(STAFF, digits=10, low=77)),
    (Item(ALIAS, digits=0, high=1, low=1),),
    (Item(ALIAS, digits=1, high=1, low=1), Item(ALIAS, digits=1, high=1, low=2)),
    (Item(ALIAS, digits=1, high=1, low=1),),
    (Item(NUMBER, digits=8, low=1),),
    (Item(MEMBER, low=1),),
    (Item(NEW_PIN, digits=4, low=1),),
    (Item(COUPON, unit=16, amount=1),) * 65,
)
"""Each makes most requests malformed."""

CARD_DECK: tuple[Callable[[CardAuthor], None], ...] = tuple(
    command
    for weight, command in (
        (12, CardAuthor.grant),
        (3, CardAuthor.triggered),
        (26, CardAuthor.purchase),
        (8, CardAuthor.top_up),
        (9, CardAuthor.authorise),
        (3, CardAuthor.capture),
        (2, CardAuthor.void),
        (2, CardAuthor.replace),
        (6, CardAuthor.transfer),
        (4, CardAuthor.holder),
        (4, CardAuthor.bind),
        (4, CardAuthor.move_alias),
        (6, CardAuthor.set_pin),
        (2, CardAuthor.wrong_pins),
        (3, CardAuthor.family),
        (1, CardAuthor.close_card),
        (3, CardAuthor.codes),
        (4, CardAuthor.bulk),
        (1, CardAuthor.issue_inactive),
        (3, CardAuthor.newcomer),
        (14, CardAuthor.give_back),
        (3, CardAuthor.status),
        (2, CardAuthor.balance),
        (2, CardAuthor.bad_item),
        (2, CardAuthor.bad_row),
        (2, CardAuthor.set_tier),
        (1, CardAuthor.know),
        (3, CardAuthor.retry_items),
        (9, CardAuthor.close),
        (2, CardAuthor.publish),
    )
    for _ in range(weight)
)


def write_card_history(programme: int, seeds: list[int]) -> History:
    """The history of the whole card that these seeds make, as `write_history` does."""
    return finish_history(CardAuthor(Random(seeds[0]), programme), seeds)


def card_history_of(programme: int, seed: int) -> History:
    return write_card_history(programme, seeds_of(seed))


__all__ = ["CARD_COMMANDS", "FUND", "card_history_of", "write_card_history"]
