"""Which grants triggers must have made: worked out of the whole journal, the obvious and slow way.

It reads the journal by the auditor's decoder and the rule files by tomllib, and knows nothing of the feed,
the rules' models or the runner: docs/triggers.md alone. For every entry it looks at all entries up to it.
"""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from tests.auditor import blocks
from tests.auditor.form import (
    CAPTURE,
    CLOSE,
    CURSOR,
    DAY_CLOSED,
    GRANT,
    HOLDER,
    ISSUE,
    PURCHASE,
    REPLACE,
    REVERSED,
    RULES,
    SET_TIER,
    STATUS,
    Entry,
    decode,
    open_block,
)

ACTIVE = 1
BEHIND = (57, 13)
EPOCH = datetime.date(1970, 1, 1)


class Fired(NamedTuple):
    """What is to be granted: for which entry, by which trigger, to which card, and which bundle or tier."""

    sequence: int
    trigger: int
    card: int
    bundle: int
    tier: int = 0


def journal_of(directory: Path) -> list[Entry]:
    """All entries of a closed data directory."""
    entries: list[Entry] = []
    before = b""
    for identity, key, block in blocks(directory / "journal"):
        base, found = open_block(block, key, len(entries) + 1, before or identity + bytes(16))
        before = block[-32:]
        entries += [decode(data, len(entries) + number, base) for number, data in enumerate(found, 1)]
    return entries


def granted(entries: list[Entry], programme: int = 1) -> list[Fired]:
    """What triggers were granted, or tried to, in the order of the journal; what was done before is not."""
    return [
        Fired(item.amount, item.unit, item.low, *given_by(entry))
        for entry in entries
        if entry.kind in (GRANT, SET_TIER) and entry.programme == programme
        if (entry.code, entry.reason) != BEHIND
        for item in entry.items
        if item.kind == CURSOR
    ]


def given_by(entry: Entry) -> tuple[int, int]:
    """The bundle or the tier that an entry gives; 0: not such a one."""
    return (entry.product, 0) if entry.kind == GRANT else (0, entry.product)


def expected(entries: list[Entry], birthdays: dict[int, datetime.date], programme: int = 1) -> list[Fired]:
    """What triggers must grant, in the order in which they come to it."""
    own = [entry for entry in entries if entry.programme == programme]
    return [fired for at in range(len(own)) for fired in sorted(fired_by(own[: at + 1], birthdays))]


def fired_by(past: list[Entry], birthdays: dict[int, datetime.date]) -> Iterator[Fired]:
    """What the last of these entries makes fire."""
    entry, rules = past[-1], rules_at(past)
    bundles = {bundle["name"]: bundle["id"] for bundle in rules.get("bundles", [])}
    tiers = {tier["name"]: tier["id"] for tier in rules.get("tiers", [])}
    for trigger in rules.get("triggers", []):
        for card in cards_of(trigger, past, birthdays):
            if product_of(card, past) in wanted_products(trigger, rules):
                gift = bundles.get(trigger.get("bundle"), 0), tiers.get(trigger.get("tier"), 0)
                yield Fired(entry.sequence, trigger["id"], card, *gift)


def rules_at(past: list[Entry]) -> dict[str, Any]:
    """The rule file that is in force at the last of these entries."""
    texts = [entry.texts[0] for entry in past if entry.kind == RULES]
    try:
        return tomllib.loads(texts[-1]) if texts else {}
    except tomllib.TOMLDecodeError:
        return {}


def wanted_products(trigger: dict[str, Any], rules: dict[str, Any]) -> set[int]:
    names = trigger.get("products", [product["name"] for product in rules["products"]])
    return {product["id"] for product in rules["products"] if product["name"] in names}


def cards_of(trigger: dict[str, Any], past: list[Entry], birthdays: dict[int, datetime.date]) -> list[int]:
    """The cards for which a trigger fires at the last of these entries, as far as products do not matter."""
    entry = past[-1]
    if trigger["on"] in ("first-purchase", "purchase"):
        return of_purchase(trigger, past)
    if entry.kind != DAY_CLOSED:
        return []
    date = entry.fields["date"]
    usable = [card for card in issued(past) if is_usable(card, past)]
    if trigger["on"] == "no-purchase":
        return [card for card in usable if last_date(card, past) == date - trigger["days"]]
    if trigger["on"] == "cadence":
        return [card for card in usable if is_due(card, past, date, trigger)]
    day = EPOCH + datetime.timedelta(date + 1 + trigger.get("days", 0))
    members = [member for member, born in birthdays.items() if celebrates(born, day)]
    rules = rules_at(past)
    mine = [card for card in usable if product_of(card, past) in wanted_products(trigger, rules)]
    firsts = [[card for card in mine if holder_of(card, past) == member][:1] for member in members]
    return [card for cards in firsts for card in cards]


def of_purchase(trigger: dict[str, Any], past: list[Entry]) -> list[int]:
    """The card of a purchase that is its nth, and was not so before."""
    entry = past[-1]
    if entry not in all_purchases(past) or entry.store not in trigger.get("stores", [entry.store]):
        return []
    card = entry.card
    assert card is not None
    nth = trigger.get("nth", 1)
    before = [len(purchases(card, past[:end])) for end in range(len(past))]
    return [card] if len(purchases(card, past)) == nth and max(before) < nth else []


def all_purchases(past: list[Entry]) -> list[Entry]:
    """Approved purchases and captures."""
    return [entry for entry in past if entry.kind in (PURCHASE, CAPTURE) and entry.code in (0, 10)]


def purchases(card: int, past: list[Entry]) -> list[Entry]:
    """A card's purchases that were not reversed."""
    undone = {change[1] for entry in past for change in entry.changes_of(REVERSED)}
    return [entry for entry in all_purchases(past) if entry.card == card and entry.sequence not in undone]


def last_date(card: int, past: list[Entry]) -> int | None:
    return max((entry.posted for entry in purchases(card, past)), default=None)


def is_due(card: int, past: list[Entry], date: int, trigger: dict[str, Any]) -> bool:
    """Whether a card bought nothing for so many times the mean of days between its days with a purchase."""
    days = sorted({entry.posted for entry in purchases(card, past)})
    if len(days) < trigger.get("purchase_days", 3):
        return False
    mean = Fraction(days[-1] - days[0], len(days) - 1)
    return date == days[-1] + math.ceil(Fraction(trigger["times"]) * mean)


def celebrates(born: datetime.date, day: datetime.date) -> bool:
    """Birthdays come in later years only; that of 29 February is on the 28th where there is none."""
    if day.year <= born.year:
        return False
    try:
        return born.replace(year=day.year) == day
    except ValueError:
        return (day.month, day.day) == (2, 28)


# Cards


def issued(past: list[Entry]) -> list[int]:
    return [
        entry.card for entry in past if entry.kind == ISSUE and entry.code == 0 and entry.card is not None
    ]


def product_of(card: int, past: list[Entry]) -> int:
    (product,) = (
        entry.product for entry in past if entry.kind == ISSUE and entry.card == card and not entry.code
    )
    return product


def is_usable(card: int, past: list[Entry]) -> bool:
    """Whether its newest change of status made it active."""
    usable = False
    for entry in past:
        if entry.card == card and entry.code == 0:
            if entry.kind == ISSUE:
                usable = entry.status == 0
            elif entry.kind == STATUS:
                usable = entry.status == ACTIVE
            elif entry.kind in (REPLACE, CLOSE):
                usable = entry.kind == REPLACE
    return usable


def holder_of(card: int, past: list[Entry]) -> int:
    named = [entry for entry in past if entry.kind == HOLDER and entry.card == card and entry.code == 0]
    return named[-1].items[0].low if named else 0
