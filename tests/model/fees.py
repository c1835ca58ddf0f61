"""Fees between merchants, as docs/transactions.md has them: one after the other, at each sale."""

from __future__ import annotations

from tests.model import stacking
from tests.model.books import (
    CARD_FEES,
    CLEARING,
    ISSUER_POINTS,
    STORE_FEES,
    Books,
    Card,
    Draft,
    Place,
    Transaction,
)
from tests.model.rows import ONE

FEES = (STORE_FEES, CARD_FEES)


def is_foreign(books: Books, card: Card, store: int) -> bool:
    """Whether the card was issued by another merchant than the store's."""
    merchant, _ = books.stores[store]
    return merchant != card.merchant


def seat(books: Books, merchant: int) -> int:
    """The first store that a merchant registered: there its fees for cards are."""
    return next(store for store, (owner, _) in books.stores.items() if owner == merchant)


def charge(draft: Draft) -> None:
    """The fees of a purchase or a capture, when all else of it is posted."""
    store = draft.transaction.store
    if not is_foreign(draft, draft.card, store):
        return
    to_store = [move for move in draft.moves if move.taker.account == CLEARING]
    by_points = sum(move.amount for move in to_store if move.giver.account == ISSUER_POINTS)
    spend = sum(move.amount for move in to_store) + draft.cash
    acceptor = Place(STORE_FEES, store)
    issuer = Place(CARD_FEES, seat(draft, draft.card.merchant))
    for rule in draft.rules().get("fees", []):
        when = rule.get("when", {})
        cards = rule.get("card_merchants")
        enough = draft.row.amount >= when.get("min_spend", 0)
        if (cards and draft.card.merchant not in cards) or not enough or not stacking.applies(draft, when):
            continue
        base = by_points if rule.get("of") == "points" else spend
        fee = max(base * rule["rate"] // ONE, rule.get("min", 0))
        fee = min(fee, base, rule.get("max") or base)
        giver, taker = (acceptor, issuer) if rule.get("paid_by") != "card-merchant" else (issuer, acceptor)
        draft.move(giver, taker, fee)


def give_back(draft: Draft, original: Transaction, before: int, after: int, total: int) -> None:
    """A refund's part of each fee; the store is that of the refund."""
    for move in original.moves:
        if move.giver.account in FEES:
            part = move.amount * after // total - move.amount * before // total
            draft.move(here(draft, move.taker), here(draft, move.giver), part)


def here(draft: Draft, place: Place) -> Place:
    """Where a fee of the original lies in what undoes a part of it: at this store, or at the same seat."""
    return Place(STORE_FEES, draft.transaction.store) if place.account == STORE_FEES else place


def net_fees(books: Books, store: int) -> int:
    """What other merchants paid a store, less what it paid them, in the open day."""
    return books.balance(Place(STORE_FEES, store)) + books.balance(Place(CARD_FEES, store))
