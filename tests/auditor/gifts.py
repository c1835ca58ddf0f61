"""What is given for nothing: with a top-up, to a new member, with a first purchase."""

from collections.abc import Sequence

from tests.auditor.cards import Card, Plan
from tests.auditor.catalogue import Changes, Gift, counted, dates_of, hand_over, taken_by_holder, within
from tests.auditor.form import BOUGHT, Entry, Post
from tests.auditor.state import Programme, State


def given(
    state: State,
    programme: Programme,
    entry: Entry,
    plan: Plan,
    number: int,
    *,
    place: int = 0,
    member: int | None = None,
    before: Sequence[Gift] = (),
) -> Changes:
    """Plan one of a bundle, unless its limits, its stock or its dates say no; the changes that count it."""
    bundle, card = programme.row("bundles", number), plan.card(place)
    if not bundle or card is None:
        return []
    dates = [dates_of(line, entry.posted) for line in bundle.get("grants", [])]
    over = any(until and until < max(begins, entry.posted) for begins, until in dates)
    if over or within(state, programme, card, bundle, 1, member=member, before=before):
        return []
    hand_over(plan, entry, bundle, 1, place)
    return counted(programme, card, bundle, 1, place, before=before)


def to_new_member(
    state: State, programme: Programme, entry: Entry, card: Card, member: int, plan: Plan
) -> Changes:
    """The gift for who becomes a member, if none of the member's cards had it before."""
    number = programme.tables.get("gifts", {}).get("enrolment", 0)
    if card.member or not member or taken_by_holder(state, card, member, number):
        return []
    return given(state, programme, entry, plan, number, member=member)


def with_first(
    state: State, programme: Programme, entry: Entry, card: Card, paid: int, plan: Plan
) -> tuple[Changes, list[Post]]:
    """The gift for a card's first purchase: the changes, and the moves of the entry that are not it."""
    gifts = programme.tables.get("gifts", {})
    number = gifts.get("first_purchase", 0)
    if card.bought or paid < max(1, gifts.get("first_purchase_min", 0)):
        return [], entry.posts
    for count in range(len(entry.posts) + 1):
        rest = entry.posts[: len(entry.posts) - count]
        plan.posts = list(rest)
        changes = given(state, programme, entry, plan, number)
        if plan.posts == entry.posts:
            return changes + ([(BOUGHT, 1)] if changes else []), rest
    state.check(False, "not the gift of a first purchase")
    return [], entry.posts
