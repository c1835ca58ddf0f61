"""Bundles that are handed over: who may still have some, what they give, and what is counted of them."""

from __future__ import annotations

from typing import Any

from tests.model.books import CLEARING, ISSUER_UNITS, POINTS, Card, Draft, Place, Refused, pool_of
from tests.model.sale import EXPIRED, TOO_MANY

SOLD_OUT = 12

Bundle = dict[str, Any]


def bundle_of(draft: Draft, number: int) -> Bundle | None:
    """The rules' row of a bundle."""
    bundles = draft.rules().get("bundles", [])
    return next((bundle for bundle in bundles if bundle["id"] == number), None)


def check_may_take(draft: Draft, card: Card, bundle: Bundle, count: int) -> None:
    """65 if it would be too many for the card, for its holder's cards, or of those that there are."""
    number = bundle["id"]
    most = bundle.get("per_card", 0)
    if most and draft.taken(card, number) + count > most:
        raise Refused(65, TOO_MANY)
    of_holder = [other for other in draft.cards.values() if other is card or other.member == card.member != 0]
    most = bundle.get("per_member", 0)
    if most and sum(draft.taken(other, number) for other in of_holder) + count > most:
        raise Refused(65, TOO_MANY)
    stock = bundle.get("stock", 0)
    if stock and draft.out[number] + draft.handed_out[number] + count > stock:
        raise Refused(65, SOLD_OUT)


def check_dates(draft: Draft, bundle: Bundle) -> None:
    """12 if something in it would have ended before it begins."""
    for line in bundle.get("grants", []):
        dates_of(line, draft.open_date)


def hand_over(draft: Draft, card: Card, bundle: Bundle, count: int) -> None:
    """Give what is in a bundle, pay the store for goods, count it for the card, and in the stock if it has one."""
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
