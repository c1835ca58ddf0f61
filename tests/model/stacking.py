"""Discounts and accruals: one rule after the other, line by line, as docs/rules.md says it."""

from __future__ import annotations

import calendar
import datetime
from typing import Any, NamedTuple

from tests.model.books import Books, Card, Draft
from tests.model.rows import DAY_S, LINE, ONE, Row

EPOCH = datetime.date(1970, 1, 1)


class Line(NamedTuple):
    """Goods of a category, 0: none, and their list amount."""

    category: int
    amount: int


def lines_of(draft: Draft) -> list[Line]:
    """The lines of a sale; one that is not told line by line is one line."""
    told = [Line(item.unit, item.amount) for item in draft.transaction.items(LINE)]
    return told or [Line(0, draft.row.amount)]


def discounts(draft: Draft) -> list[int]:
    """What products and discounts take off each line."""
    lines = lines_of(draft)
    amounts = [line.amount for line in lines]
    own = draft.row.amount * draft.product_of(draft.card)["discount"] // ONE

    def off(rule: dict[str, Any], amount: int) -> int:
        if "value" in rule:
            return min(int(rule["value"]), amount)
        share: int = amount * rule["rate"] // ONE
        return min(share, rule["max"]) if rule.get("max") else share

    given: list[tuple[dict[str, Any], list[int | None]]] = []
    if own:
        given.append(({"id": 0}, list(largest_remainder(own, amounts))))
    for rule, here in applying(draft, "discounts", lines):
        base = sum(amounts[at] for at in here)
        given.append((rule, shares(off(rule, base), amounts, here)))
    off_lines = totals(given, len(lines))
    for advice in draft.transaction.advice:
        advised = largest_remainder(draft.row.amount * advice.off // ONE, amounts)
        off_lines = [total + more for total, more in zip(off_lines, advised, strict=True)]
    return [min(total, amount) for total, amount in zip(off_lines, amounts, strict=True)]


def earned(draft: Draft, paid: int, off: list[int]) -> int:
    """Points for what is paid in principal, bonus and cash, of lines off which so much was taken."""
    lines = lines_of(draft)
    accrual = draft.product_of(draft.card)["accrual"]
    paid_for = largest_remainder(paid, [line.amount - less for line, less in zip(lines, off, strict=True)])

    def more(rule: dict[str, Any], paid: int) -> int:
        if paid == 0:
            return 0
        if "factor" in rule:
            points: int = paid * accrual // ONE * (rule["factor"] - ONE) // ONE
        elif "rate" in rule:
            points = paid * rule["rate"] // ONE
        else:
            points = rule["points"]
        return min(points, rule["max"]) if rule.get("max") else points

    given = [
        (rule, shares(more(rule, sum(paid_for[at] for at in here)), paid_for, here))
        for rule, here in applying(draft, "accruals", lines)
    ]
    base: int = paid * accrual // ONE
    points = base + sum(totals(given, len(lines)))
    for advice in draft.transaction.advice:
        points = points * advice.factor // ONE
    return points


# Lines


def largest_remainder(total: int, weights: list[int]) -> list[int]:
    """A total in parts by weight: whole ones, and what is left over to the largest remainders."""
    whole = sum(weights)
    if whole == 0:
        assert total == 0
        return [0] * len(weights)
    parts = [total * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))
    for at in order[: total - sum(parts)]:
        parts[at] += 1
    return parts


def shares(total: int, weights: list[int], here: list[int]) -> list[int | None]:
    """What each line is given of a rule; None where it does not apply."""
    parts = largest_remainder(total, [weights[at] for at in here])
    found: list[int | None] = [None] * len(weights)
    for at, part in zip(here, parts, strict=True):
        found[at] = part
    return found


def totals(given: list[tuple[dict[str, Any], list[int | None]]], lines: int) -> list[int]:
    """What the rules give each line together."""
    return [
        stacked([(rule, part) for rule, parts in given if (part := parts[at]) is not None])
        for at in range(lines)
    ]


def stacked(rules: list[tuple[dict[str, Any], int]]) -> int:
    """What rules that apply, each with what it gives, give together."""
    kinds: dict[str, list[tuple[int, int]]] = {"best": [], "add": [], "exclusive": []}
    for rule, gives in rules:
        kinds[rule.get("stacking", "best")].append((rule.get("priority", 0), gives))

    def best(of: list[tuple[int, int]]) -> int:
        return max(of)[1] if of else 0

    if kinds["exclusive"]:
        return best(kinds["exclusive"])
    return best(kinds["best"]) + sum(gives for _, gives in kinds["add"])


# Which apply


def applying(draft: Draft, table: str, lines: list[Line]) -> list[tuple[dict[str, Any], list[int]]]:
    """The rules of a table that apply to a sale, each with the places of the lines that it looks at."""
    found = []
    for rule in draft.rules().get(table, []):
        when = rule.get("when", {})
        named = when.get("categories")
        here = [at for at, line in enumerate(lines) if not named or line.category in named]
        enough = sum(lines[at].amount for at in here) >= when.get("min_spend", 0)
        if here and enough and applies(draft, when):
            found.append((rule, here))
    return found


def local(row: Row) -> tuple[datetime.date, int]:
    """Date and second of the day at the terminal."""
    days, second = divmod(row.business_date * DAY_S + row.local_time, DAY_S)
    return EPOCH + datetime.timedelta(days=days), second


def near_birthday(books: Books, card: Card, row: Row) -> set[str]:
    """What a sale's date is to the birthday of who holds the card: day, week, month."""
    born = books.birthdays.get(card.member)
    if born is None:
        return set()
    date, _ = local(row)
    near = set()
    for year in (date.year - 1, date.year, date.year + 1):
        leap = (born.month, born.day) == (2, 29) and not calendar.isleap(year)
        away = abs((born.replace(year=year, day=28 if leap else born.day) - date).days)
        near |= {"day"} if away == 0 else set()
        near |= {"week"} if away <= 3 else set()
    return near | ({"month"} if date.month == born.month else set())


def asked_birthdays(books: Books) -> set[str]:
    """The times around a birthday that some rule asks for."""
    rules = [*books.rules().get("discounts", []), *books.rules().get("accruals", [])]
    return {rule["when"]["birthday"] for rule in rules if rule.get("when", {}).get("birthday")}


def applies(draft: Draft, when: dict[str, Any]) -> bool:
    """Whether all that a rule asks of a sale as a whole is so, at the terminal's local time."""
    row, store = draft.row, draft.transaction.store
    merchant, _ = draft.stores[store]
    date, second = local(row)
    days = (date - EPOCH).days
    named = {
        "products": draft.card.product,
        "stores": store,
        "merchants": merchant,
        "regions": region_of(draft, store, merchant),
        "channels": row.channel,
        "tiers": draft.card.tier,
    }
    return (
        all(value in when[name] for name, value in named.items() if when.get(name))
        and (not when.get("birthday") or when["birthday"] in near_birthday(draft, draft.card, row))
        and (not when.get("from") or days >= when["from"])
        and (not when.get("until") or days <= when["until"])
        and (not when.get("weekdays") or bool(when["weekdays"] >> date.weekday() & 1))
        and (not when.get("month_days") or bool(when["month_days"] >> date.day & 1))
        and (not when.get("times") or any(start <= second < end for start, end in when["times"]))
    )


def region_of(draft: Draft, store: int, merchant: int) -> int:
    """The number of a store's region: its own, else that of its merchant; 0 if there is none."""
    regions = list(enumerate(draft.rules().get("regions", []), 1))
    own = [number for number, region in regions if store in region.get("stores", ())]
    others = [number for number, region in regions if merchant in region.get("merchants", ())]
    return [*own, *others, 0][0]
