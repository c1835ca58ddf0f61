"""Discounts and accruals: one rule after the other, as docs/rules.md says it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from tests.model.books import Draft
from tests.model.rows import DAY_S, ONE

EPOCH = datetime.date(1970, 1, 1)


def discount(draft: Draft) -> int:
    """What products and discounts take off the list amount."""
    amount = draft.row.amount
    own = amount * draft.product_of(draft.card)["discount"] // ONE

    def off(rule: dict[str, Any]) -> int:
        if "value" in rule:
            return min(int(rule["value"]), amount)
        share: int = amount * rule["rate"] // ONE
        return min(share, rule["max"]) if rule.get("max") else share

    product = [{"id": 0, "value": own}] if own else []
    rules = [*product, *applying(draft, "discounts")]
    return min(stacked(rules, off), amount)


def earned(draft: Draft, paid: int) -> int:
    """Points for what is paid in principal, bonus and cash."""
    base: int = paid * draft.product_of(draft.card)["accrual"] // ONE

    def more(rule: dict[str, Any]) -> int:
        if paid == 0:
            return 0
        if "factor" in rule:
            points: int = base * (rule["factor"] - ONE) // ONE
        elif "rate" in rule:
            points = paid * rule["rate"] // ONE
        else:
            points = rule["points"]
        return min(points, rule["max"]) if rule.get("max") else points

    return base + stacked(applying(draft, "accruals"), more)


def stacked(rules: list[dict[str, Any]], gives: Callable[[dict[str, Any]], int]) -> int:
    """What the rules that apply give together."""

    def best(rules: list[dict[str, Any]]) -> int:
        order = [(rule.get("priority", 0), gives(rule)) for rule in rules]
        return max(order)[1] if order else 0

    kinds = {
        stacking: [rule for rule in rules if rule.get("stacking", "best") == stacking]
        for stacking in ("best", "add", "exclusive")
    }
    if kinds["exclusive"]:
        return best(kinds["exclusive"])
    return best(kinds["best"]) + sum(map(gives, kinds["add"]))


def applying(draft: Draft, table: str) -> list[dict[str, Any]]:
    """The rules of a table that apply to a sale."""
    return [rule for rule in draft.rules().get(table, []) if applies(draft, rule.get("when", {}))]


def applies(draft: Draft, when: dict[str, Any]) -> bool:
    """Whether all that a rule asks for is so, at the terminal's local time."""
    row, store = draft.row, draft.transaction.store
    merchant, _ = draft.stores[store]
    days, second = divmod(row.business_date * DAY_S + row.local_time, DAY_S)
    date = EPOCH + datetime.timedelta(days=days)
    named = {
        "products": draft.card.product,
        "stores": store,
        "merchants": merchant,
        "channels": row.channel,
    }
    return (
        all(value in when[name] for name, value in named.items() if when.get(name))
        and (not when.get("from") or days >= when["from"])
        and (not when.get("until") or days <= when["until"])
        and (not when.get("weekdays") or bool(when["weekdays"] >> date.weekday() & 1))
        and (not when.get("month_days") or bool(when["month_days"] >> date.day & 1))
        and (not when.get("times") or any(start <= second < end for start, end in when["times"]))
        and row.amount >= when.get("min_spend", 0)
    )
