"""Bundles that are handed over: what is in them, what they cost, and how many of them are out."""

from collections.abc import Sequence
from typing import Any

from tests.auditor.cards import Card, Plan, pool_of
from tests.auditor.form import (
    BONUS,
    CLEARING,
    ISSUER_UNITS,
    OUT,
    POINTS,
    POOL,
    PRINCIPAL,
    TAKEN,
    TAKEN_BY,
    Entry,
    Post,
)
from tests.auditor.state import Programme, State

FROM_CARD = 8

Changes = list[tuple[int, ...]]
Bundle = dict[str, Any]
Gift = tuple[Card, int]
"""A card that got one of a bundle."""


def paid_for(state: State, programme: Programme, entry: Entry, bundle: Bundle) -> list[Post]:
    """The moves that pay for a grant, money and points, each as much as it costs."""
    price, points = (int(bundle.get(name, 0)) * entry.amount for name in ("price", "points"))
    paying = [post for post in entry.posts if post.target == ISSUER_UNITS]
    payers = {PRINCIPAL, BONUS} if entry.asked & FROM_CARD else {programme.collection(entry.channel)}
    paid_by = all(post.source in payers for post in paying)
    found = sum(post.amount for post in paying)
    state.check(paid_by and found == price, f"paid {found} of a price of {price}")
    spent = [post for post in entry.posts if (post.source, post.target) == (POINTS, POOL)]
    found = sum(post.amount for post in spent)
    state.check(found == points, f"paid {found} points of a price of {points}")
    return paying + spent


def dates_of(line: dict[str, int], today: int) -> tuple[int, int]:
    """First and last valid date of what a line grants today."""
    begins = today + line["from"] if line.get("from") else 0
    by_days = max(begins, today) + line["days"] - 1 if line.get("days") else 0
    until = min((date for date in (by_days, line.get("until", 0)) if date), default=0)
    return begins, until


def hand_over(plan: Plan, entry: Entry, bundle: Bundle, count: int, place: int = 0) -> None:
    """Plan what is in a bundle, and what the store gets for goods."""
    for line in bundle.get("grants", []):
        dates = dates_of(line, entry.posted)
        plan.give(pool_of(line["unit"]), line["amount"] * count, place, line["unit"], dates)
    plan.move(Post(ISSUER_UNITS, CLEARING, int(bundle.get("worth", 0)) * count))


def taken_by_holder(state: State, card: Card, member: int, bundle: int) -> int:
    """How many of a bundle all cards had that a member holds, and this one."""
    held = (
        other for other in state.cards if other.programme == card.programme and other.member == member != 0
    )
    of_others = sum(other.bundles.get(bundle, 0) for other in held if other is not card)
    return of_others + card.bundles.get(bundle, 0)


def within(
    state: State,
    programme: Programme,
    card: Card,
    bundle: Bundle,
    count: int,
    *,
    member: int | None = None,
    before: Sequence[Gift] = (),
) -> list[str]:
    """What is too many of a bundle, if so many more are taken, after gifts of the same entry."""
    number, member = bundle["id"], card.member if member is None else member
    same = [other for other, of in before if of == number]
    of_member = sum(other is card or other.member == member != 0 for other in same)
    limits = (
        ("per_card", card.bundles.get(number, 0), ""),
        ("per_member", taken_by_holder(state, card, member, number) + of_member, " to a member"),
        ("stock", programme.out.get(number, 0) + len(same), " in stock"),
    )
    return [
        f"granted {taken + count} of {bundle[name]}{whom}"
        for name, taken, whom in limits
        if bundle.get(name) and taken + count > bundle[name]
    ]


def counted(
    programme: Programme, card: Card, bundle: Bundle, count: int, place: int = 0, before: Sequence[Gift] = ()
) -> Changes:
    """The changes that count it, after gifts of the same entry."""
    number = bundle["id"]
    of_card = card.bundles.get(number, 0) + count
    changes: Changes = [(TAKEN_BY, place, number, of_card) if place else (TAKEN, number, of_card)]
    if bundle.get("stock"):
        same = sum(of == number for _, of in before)
        changes.append((OUT, number, programme.out.get(number, 0) + same + count))
    return changes
