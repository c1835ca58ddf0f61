"""What the rules make of a basket, found by trying one rule after the other.

The demo's books price with this; nothing of the engine is used, only docs/rules.md and the compiled tables.
A basket that is told line by line is priced line by line: a rule looks at the lines that it applies to as
one, what it gives is shared out among them, and which rules count is decided on each line.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any, NamedTuple

ONE = 10**12
EPOCH = date(1970, 1, 1)
OWN = 0
"""Stands for the product's own discount, where others have the id of a rule."""


class Sale(NamedTuple):
    """What rules can ask of a purchase; its terminal's day since 1970-01-01, and second of that day."""

    product: dict[str, Any]
    store: int
    merchant: int
    channel: int
    tier: int
    day: int
    second: int
    # Category and list amount of every line.
    lines: Sequence[tuple[int, int]]


class Gives(NamedTuple):
    """What rules give: to each line, and of it by each rule that counts."""

    of_lines: list[int]
    by_rule: Counter[int]


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Whole units by weight; those left over go to the largest remainders, of equal ones to the first."""
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))
    for at in by_remainder[: total - sum(shares)]:
        shares[at] += 1
    return shares


class Pricing:
    """The discounts and accruals of a version of the rules."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables
        # Both keep what they were asked once: a day has many sales, and a store has one region.
        self._on = cache(self._rules_of_day)
        self.region = cache(self._region)

    def off(self, sale: Sale) -> Gives:
        """What is taken off each line: never more than its list amount."""
        amounts = [amount for _, amount in sale.lines]
        every = range(len(amounts))
        gives: list[tuple[dict[str, Any], Sequence[int], list[int]]] = []
        if own := sum(amounts) * sale.product["discount"] // ONE:
            gives.append(({"id": OWN}, every, share_out(own, amounts)))
        for rule, at in self._applying("discounts", sale):
            listed = [amounts[line] for line in at]
            most = sum(listed)
            if rule.get("rate"):
                off = most * rule["rate"] // ONE
                off = min(off, rule.get("max") or off)
            else:
                off = rule["value"]
            gives.append((rule, at, share_out(min(off, most), listed)))
        return _stacked(gives, amounts)

    def earned(self, sale: Sale, paid: int, off: Sequence[int]) -> Gives:
        """Points beyond the product's, for money from bonus and principal: lines share it by their costs."""
        costs = [amount - less for (_, amount), less in zip(sale.lines, off, strict=True)]
        paid_of = share_out(paid, costs)
        gives: list[tuple[dict[str, Any], Sequence[int], list[int]]] = []
        for rule, at in self._applying("accruals", sale):
            shares = [paid_of[line] for line in at]
            gives.append((rule, at, share_out(_points(rule, sum(shares), sale.product), shares)))
        return _stacked(gives, None)

    def _applying(self, kind: str, sale: Sale) -> list[tuple[dict[str, Any], Sequence[int]]]:
        """The rules of a kind that apply, each with the lines that it looks at."""
        found: list[tuple[dict[str, Any], Sequence[int]]] = []
        for rule in self._on(kind, sale.day):
            when = rule.get("when", {})
            if not self._met(when, sale):
                continue
            categories = when.get("categories")
            at = [
                line
                for line, (category, _) in enumerate(sale.lines)
                if categories is None or category in categories
            ]
            if at and sum(sale.lines[line][1] for line in at) >= when.get("min_spend", 0):
                found.append((rule, at))
        return found

    def _met(self, when: dict[str, Any], sale: Sale) -> bool:
        """What a rule asks of the sale as a whole, its day apart."""
        return (
            sale.product["id"] in when.get("products", (sale.product["id"],))
            and sale.store in when.get("stores", (sale.store,))
            and sale.merchant in when.get("merchants", (sale.merchant,))
            and sale.channel in when.get("channels", (sale.channel,))
            and sale.tier in when.get("tiers", (sale.tier,))
            and ("regions" not in when or self.region(sale.store, sale.merchant) in when["regions"])
            and ("times" not in when or any(start <= sale.second < end for start, end in when["times"]))
        )

    def _rules_of_day(self, kind: str, day: int) -> list[dict[str, Any]]:
        """The rules of a kind that some sale of a day may meet."""
        on = EPOCH + timedelta(days=day)
        found = []
        for rule in self._tables.get(kind, []):
            when = rule.get("when", {})
            first, last = when.get("from", 0), when.get("until", 0)
            weekdays, month_days = when.get("weekdays", 0), when.get("month_days", 0)
            if (
                first <= day
                and (last == 0 or day <= last)
                and (weekdays == 0 or weekdays >> on.weekday() & 1)
                and (month_days == 0 or month_days >> on.day & 1)
            ):
                found.append(rule)
        return found

    def _region(self, store: int, merchant: int) -> int:
        """The region that names a store, else that which names its merchant; 0: none."""
        regions = list(enumerate(self._tables.get("regions", []), 1))
        of_store = [number for number, region in regions if store in region.get("stores", ())]
        of_merchant = [number for number, region in regions if merchant in region.get("merchants", ())]
        return next(iter(of_store + of_merchant), 0)


def _points(rule: dict[str, Any], paid: int, product: dict[str, Any]) -> int:
    """Points units that an accrual gives for so much paid."""
    points: int
    if paid == 0:
        return 0
    if rule.get("factor"):
        points = paid * product["accrual"] // ONE * (rule["factor"] - ONE) // ONE
    elif rule.get("rate"):
        points = paid * rule["rate"] // ONE
    else:
        points = rule["points"]
    return min(points, rule.get("max") or points)


def _stacked(gives: list[tuple[dict[str, Any], Sequence[int], list[int]]], most: list[int] | None) -> Gives:
    """What counts on each line of what rules give to some lines; at most so much a line."""
    lines = 1 + max((max(at) for _, at, _ in gives), default=-1) if most is None else len(most)
    on_line: list[list[tuple[str, int, int, int]]] = [[] for _ in range(lines)]
    for rule, at, shares in gives:
        for line, share in zip(at, shares, strict=True):
            entry = (rule.get("stacking", "best"), rule.get("priority", 0), share, -rule["id"])
            on_line[line].append(entry)
    result = Gives([0] * lines, Counter())
    for line, of_line in enumerate(on_line):
        for _, _, share, minus_id in _counting(of_line):
            counted = share if most is None else min(share, most[line] - result.of_lines[line])
            result.of_lines[line] += counted
            result.by_rule[-minus_id] += counted
    return result


def _counting(of_line: list[tuple[str, int, int, int]]) -> list[tuple[str, int, int, int]]:
    """Those of a line that count: the exclusive one alone, or the best one and all that add up."""
    if alone := [entry for entry in of_line if entry[0] == "exclusive"]:
        return [max(alone)]
    best = [entry for entry in of_line if entry[0] == "best"]
    return [*([max(best)] if best else []), *(entry for entry in of_line if entry[0] == "add")]
