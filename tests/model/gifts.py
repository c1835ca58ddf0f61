"""Bundles that are handed over: who may still have some, what they give, and what is counted of them."""

from __future__ import annotations

from typing import Any

from tests.model.books import CLEARING, ISSUER_UNITS, POINTS, Card, Draft, Place, Refused, pool_of

EXPIRED, TOO_MANY, SOLD_OUT = 4, 8, 12

Bundle = dict[str, Any]


def bundle_of(draft: Draft, number: int) -> Bundle | None:
    """The rules' row of a bundle."""
    bundles = draft.rules().get("bundles", [])
    return next((bundle for bundle in bundles if bundle["id"] == number), None)


def cards_of(draft: Draft, card: Card, member: int) -> list[Card]:
    """A card, and all others that a member holds."""
    return [other for other in draft.cards.values() if other is card or other.member == member != 0]


def check_may_take(draft: Draft, card: Card, bundle: Bundle, count: int, member: int) -> None:
    """65 if it would be too many for the card, for all cards of a member, or of those that there are."""
    number = bundle["id"]
    most = bundle.get("per_card", 0)
    if most and draft.taken(card, number) + count > most:
        raise Refused(65, TOO_MANY)
    of_member = cards_of(draft, card, member)
    most = bundle.get("per_member", 0)
    if most and sum(draft.taken(other, number) for other in of_member) + count > most:
        raise Refused(65, TOO_MANY)
    stock = bundle.get("stock", 0)
    if stock and draft.out[number] + draft.handed_out[number] + count > stock:
        raise Refused(65, SOLD_OUT)


def check_dates(draft: Draft, bundle: Bundle) -> None:
    """12 if something in it would have ended before it begins."""
    for line in bundle.get("grants", []):
        dates_of(line, draft.open_date)


def hand_over(draft: Draft, card: Card, bundle: Bundle, count: int) -> None:
    """Give what is in a bundle, pay the store for goods, count it for the card and in the stock."""
    for line in bundle.get("grants", []):
        lot = card.lot(line["unit"], *dates_of(line, draft.open_date))
        draft.give(pool_of(lot), lot, line["amount"] * count)
        draft.earned += line["amount"] * count if line["unit"] == POINTS else 0
    goods = bundle.get("worth", 0) * count
    draft.move(Place(ISSUER_UNITS), Place(CLEARING, draft.transaction.store), goods)
    draft.given.append((card, bundle["id"], count))
    if bundle.get("stock", 0):
        draft.handed_out[bundle["id"]] += count


def dates_of(line: dict[str, Any], today: int) -> tuple[int, int]:
    """First and last valid date of what a line grants today."""
    begins = today + line.get("from", 0)
    days, until = line.get("days", 0), line.get("until", 0)
    ends = [begins + days - 1] if days else []
    ends += [until] if until else []
    expires = min(ends, default=0)
    if expires and (expires < today or expires < begins):
        raise Refused(12, EXPIRED)
    return (begins if line.get("from", 0) else 0), expires


# What is given for nothing


def give_bundle(draft: Draft, card: Card, number: int, member: int) -> bool:
    """Give one of a bundle, if its limits, its stock and its dates allow; whether it was given."""
    bundle = bundle_of(draft, number)
    if bundle is None:
        return False
    try:
        check_dates(draft, bundle)
        check_may_take(draft, card, bundle, 1, member)
    except Refused:
        return False
    hand_over(draft, card, bundle, 1)
    return True


def give_to_new_member(draft: Draft, card: Card, member: int) -> None:
    """The gift for who becomes a member, if none of the member's cards had it before."""
    number = draft.rules().get("gifts", {}).get("enrolment", 0)
    if not any(draft.taken(other, number) for other in cards_of(draft, card, member)):
        give_bundle(draft, card, number, member)


def give_with_first(draft: Draft) -> None:
    """The gift for a card's first purchase, if that comes to as much as it must; then it has bought."""
    card, gifts = draft.card, draft.rules().get("gifts", {})
    if not card.bought and draft.amount >= max(1, gifts.get("first_purchase_min", 0)):
        draft.transaction.brought = give_bundle(draft, card, gifts.get("first_purchase", 0), card.member)

    def then() -> None:
        card.bought = card.bought or draft.amount > 0

    draft.then.append(then)
