"""Tables of integers from a rule file, and the checks of what spans several keys.

What the file wrote as decimals is scaled exactly (`scaling`); units, bundles and channels are compiled by
`cards`, categories, regions and tiers by `places`, discounts and accruals by `stacking`, fees by `fees`,
bands of top-ups and gifts by `gifts`, rules in Python by `outside`; `triggers` are checked and not compiled.
All problems are collected; the tables are of use only if there are none.
"""

from decimal import Decimal
from typing import Any

from onecard.rules.cards import Cards
from onecard.rules.fees import Fees
from onecard.rules.gifts import Gifts
from onecard.rules.located import KeyPath
from onecard.rules.outside import python_rule_lines
from onecard.rules.places import Places
from onecard.rules.scaling import ONE, PURSE_MAX, Scaler, changed
from onecard.rules.source import POINTS_SCALE, UNIT_NAME_MAX, Product, RuleFile, Step, Unit
from onecard.rules.stacking import Stacking
from onecard.rules.triggers import Triggers

POINT_PRICE_MAX = ONE
UNIT_PRICE_MAX = ONE * 10**6
"""Prices are over 10^12, in minor units of money."""

NO_PIN = -1
GROWTH_MAX = 10_000
"""Growth value per unit of money."""

_PRODUCT_DEFAULTS = {
    "day_sum": 0,
    "day_count": 0,
    "named": None,
    "rebate": 0,
    "pin_above": NO_PIN,
    "staff": False,
    "points_days": 0,
    "points_round": "day",
    "bonus_days": 0,
    "points_per_day": 0,
}
_TABLE_DEFAULTS = {
    "units": [],
    "bundles": [],
    "channels": [],
    "hold_days": 7,
    "grace_days": 0,
    "discounts": [],
    "accruals": [],
    "categories": [],
    "regions": [],
    "tiers": [],
    "growth_value": None,
    "gifts": {},
    "python_rules": [],
    "fees": [],
}

_OWN = ("points", "bonus", "principal", "unit")
"""Steps in which the card itself pays, whatever else a request brings."""

_PAID_BY = {
    "unit": (("unit",), 'pay = "unit"'),
    "price": (("points", "unit"), "points and units"),
    "min_points": (("points",), "points"),
    "min": (("unit",), 'pay = "unit"'),
}
"""Which steps have a field, and their name in a sentence."""

_OTHER_STEPS = {
    "visits": 'visits pay by pay = "passes"',
    "time": 'times pay by pay = "passes"',
    "growth": "growth value is never spent",
    "coupon": 'coupons pay by pay = "coupons"',
}
"""How units of another kind pay."""


class Compiler:
    """Compiles a rule file; `problems` are what is wrong, each at the path of its key."""

    def __init__(self, source: RuleFile) -> None:
        self._source = source
        self._scaler = Scaler(source)
        self._cards = Cards(self._scaler, source.card_units)
        self._places = Places(self._scaler, source)
        self._stacking = Stacking(self._scaler, source, self._places)
        self._gifts = Gifts(self._scaler, source)
        self._triggers = Triggers(self._scaler, source)
        self._fees = Fees(self._scaler, source, self._stacking)

    @property
    def problems(self) -> list[tuple[KeyPath, str]]:
        """What is wrong, in no order."""
        return self._scaler.problems

    def tables(self) -> dict[str, Any]:
        """The tables; to be used only if there are no problems."""
        source = self._source
        if source.units.points.scale != POINTS_SCALE:
            self._problem(
                ("units", "points", "scale"), f"points are counted in 1/10,000: write scale = {POINTS_SCALE}"
            )
        left_out = {
            "units": self._cards.unit_lines(),
            "bundles": self._cards.bundle_lines(source.bundles),
            "channels": self._cards.channel_lines(source.channels),
            "hold_days": source.holds.days,
            "grace_days": source.refunds.grace_days,
            "discounts": self._stacking.discount_lines(),
            "accruals": self._stacking.accrual_lines(),
            "categories": self._places.category_lines(),
            "regions": self._places.region_lines(),
            "tiers": self._places.tier_lines(),
            "growth_value": self._growth_value(),
            "gifts": self._gifts.gift_line(),
            "python_rules": python_rule_lines(self._scaler, source),
            "fees": self._fees.lines(),
        }
        self._stacking.check_size()
        self._triggers.check()
        return {
            "money": self._unit("money", source.units.money),
            "points": self._unit("points", source.units.points),
            "products": self._products(),
            "top_up_bonus": self._gifts.band_lines(),
            "waterfall": self._waterfall(),
            "compounding_rate": self._compounding(),
            "time_tolerance_s": source.terminals.time_tolerance_hours * 3600,
        } | changed(left_out, _TABLE_DEFAULTS)

    def _unit(self, name: str, unit: Unit) -> dict[str, Any]:
        path = ("units", name, "name")
        return {"name": self._scaler.name(path, unit.name, UNIT_NAME_MAX), "scale": unit.scale}

    # Products

    def _products(self) -> list[dict[str, Any]]:
        products = self._source.products
        self._scaler.unique("products", "product", (product.id for product in products))
        lines = [self._product(("products", at), product) for at, product in enumerate(products)]
        return sorted(lines, key=lambda line: line["id"])

    def _product(self, path: KeyPath, product: Product) -> dict[str, Any]:
        own = self._scaler.limits(path, product)
        named, valid = product.named, product.points_valid
        fields = {
            "day_sum": own.pop("day_sum"),
            "day_count": own.pop("day_count"),
            "named": named and self._scaler.limits((*path, "named"), named),
            "rebate": self._rebate((*path, "rebate"), product.rebate),
            "pin_above": self._pin((*path, "pin_above"), product.pin_above),
            "staff": product.staff,
            "points_days": valid.days if valid else 0,
            "points_round": valid.until_end_of if valid else "day",
            "bonus_days": product.bonus_valid_days,
            "points_per_day": self._points_per_day((*path, "points_per_day"), product.points_per_day),
        }
        first = {
            "id": product.id,
            "name": self._scaler.name((*path, "name"), product.name),
            "discount": self._discount((*path, "discount"), product.discount),
            "accrual": self._scaler.accrual((*path, "points_per_money"), product.points_per_money),
        }
        return first | own | changed(fields, _PRODUCT_DEFAULTS)

    def _discount(self, path: KeyPath, percent: Decimal) -> int:
        if percent >= 100:
            self._problem(path, f"a discount of {percent}% leaves nothing to pay: it must be below 100%")
        return self._scaler.rate(path, percent)

    def _rebate(self, path: KeyPath, percent: Decimal) -> int:
        if percent > 100:
            self._problem(path, f"a rebate of {percent}% is more than what was paid: at most 100%")
        return self._scaler.rate(path, percent)

    def _pin(self, path: KeyPath, above: Decimal | None) -> int:
        return NO_PIN if above is None else self._scaler.money(path, above)

    def _points_per_day(self, path: KeyPath, points: Decimal | None) -> int:
        if points == 0:
            self._problem(path, "`points_per_day` of 0 would earn nothing: leave it out for no limit")
        return self._scaler.points(path, points or Decimal(0))

    # Growth

    def _growth_value(self) -> dict[str, Any] | None:
        growth = self._source.growth_value
        if growth is None:
            return None
        path: KeyPath = ("growth_value",)
        unit = self._cards.units.get(growth.unit)
        if unit and unit.kind != "growth":
            self._problem(
                (*path, "unit"),
                f"`{growth.unit}` is of kind = {unit.kind!r}: growth value is counted by a unit of "
                'kind = "growth"',
            )
        if growth.per_money > GROWTH_MAX:
            self._problem(
                (*path, "per_money"), f"more growth value than the engine can count: at most {GROWTH_MAX}"
            )
        rate = self._scaler.whole(
            (*path, "per_money"), growth.per_money, 12 - self._scaler.money_scale, "growth value per money"
        )
        return {
            "unit": self._cards.unit_id((*path, "unit"), growth.unit),
            "days": growth.valid.days,
        } | changed(
            {
                "rate": rate,
                "round": growth.valid.until_end_of,
                "tier_days": growth.tier_valid.days,
                "tier_round": growth.tier_valid.until_end_of,
            },
            {"rate": 0, "round": "day", "tier_days": None, "tier_round": "day"},
        )

    def _compounding(self) -> int:
        if self._source.compounding is None:
            return 0
        percent = self._source.compounding.daily_rate
        if percent > 10:
            self._problem(("compounding", "daily_rate"), f"{percent}% a day is too much: at most 10%")
        return self._scaler.rate(("compounding", "daily_rate"), percent)

    # The waterfall

    def _waterfall(self) -> list[dict[str, Any]]:
        steps = self._source.waterfall
        seen: set[tuple[str, str | None]] = set()
        for at, step in enumerate(steps):
            purse = (step.pay, step.unit if step.pay == "unit" else None)
            if purse in seen:
                key = "unit" if step.pay == "unit" and step.unit else "pay"
                self._problem(
                    ("waterfall", at, key),
                    f"{purse[1] or step.pay} pays already: each purse stands in the waterfall once",
                )
            seen.add(purse)
        if ("principal", None) not in seen:
            self._problem(("waterfall",), 'principal is missing: add [[waterfall]] with pay = "principal"')
        elif sum(step.share for step in steps if step.pay in _OWN) < 100:
            self._problem(
                ("waterfall",),
                "the shares of what a card has add up to less than 100%: "
                "no card could pay a purchase by itself; raise one of them",
            )
        return [self._step(("waterfall", at), step) for at, step in enumerate(steps)]

    def _step(self, path: KeyPath, step: Step) -> dict[str, Any]:
        for name, (steps, words) in _PAID_BY.items():
            if getattr(step, name) is not None and step.pay not in steps:
                only = " only" if len(steps) == 1 else ""
                self._problem((*path, name), f"`{name}` belongs to {words}{only}: remove it from {step.pay}")
        line: dict[str, Any] = {"pay": step.pay, "share": self._scaler.share((*path, "share"), step.share)}
        match step.pay:
            case "points":
                return line | self._points(path, step)
            case "unit":
                return line | self._by_unit(path, step)
            case _:
                return line | {"price": 0, "min_points": 0}

    def _points(self, path: KeyPath, step: Step) -> dict[str, int]:
        """Price and least points."""
        if step.price is None:
            self._problem(path, '`price` is missing: add price = "0.01", the money that one point pays')
        elif step.price == 0:
            self._problem((*path, "price"), "a price of 0 pays nothing: leave the points step out instead")
        least = step.min_points or Decimal(0)
        if least * 10**POINTS_SCALE > PURSE_MAX:
            self._problem((*path, "min_points"), "more points than a purse can hold: lower it")
        return {
            "price": self._price((*path, "price"), step, POINT_PRICE_MAX, POINTS_SCALE, "a point"),
            "min_points": self._scaler.whole((*path, "min_points"), least, POINTS_SCALE, "points"),
        }

    def _by_unit(self, path: KeyPath, step: Step) -> dict[str, int]:
        """Price and least things of the unit that pays, and the unit."""
        name = step.unit or "unit"
        if step.unit is None:
            self._problem(path, "`unit` is missing: add unit = with the name of one of [[card_units]]")
        elif (unit := self._cards.units.get(step.unit)) and unit.kind != "value":
            self._problem(
                (*path, "unit"),
                f"`{step.unit}` is of kind = {unit.kind!r}: only kind = 'value' has a step of its own; "
                + _OTHER_STEPS[unit.kind],
            )
        if step.price is None:
            self._problem(path, f'`price` is missing: add price = "1.00", the money that one {name} pays')
        elif step.price == 0:
            self._problem(
                (*path, "price"), f"a price of 0 pays nothing: leave the step of {name} out instead"
            )
        return {
            "price": self._price((*path, "price"), step, UNIT_PRICE_MAX, 0, f"one {name}"),
            "min_points": self._scaler.things((*path, "min"), step.min or Decimal(0), PURSE_MAX, name),
            "unit": self._cards.unit_id((*path, "unit"), step.unit) if step.unit else 0,
        }

    def _price(self, path: KeyPath, step: Step, most: int, scale: int, what: str) -> int:
        """Money that one pays, over 10^12 per smallest unit of its scale."""
        price, money = step.price or Decimal(0), self._scaler.money_scale
        limit = Decimal(most) / ONE * 10**scale / 10**money
        if price > limit:
            self._problem(path, f"{what} pays at most {limit:f}")
        return self._scaler.whole(path, price, 12 + money - scale, f"the price of {what}")

    def _problem(self, path: KeyPath, message: str) -> None:
        self._scaler.problem(path, message)
