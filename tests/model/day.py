"""The close of a day: lots lapse, growth is granted, and every store is emptied into what is due."""

from __future__ import annotations

from typing import Any

from tests.model.books import (
    BONUS,
    CARD_FEES,
    CLEARING,
    COLLECTION,
    DUE,
    FUNDING,
    ISSUER_BONUS,
    ISSUER_COLLECTION,
    ISSUER_POINTS,
    ISSUER_UNITS,
    POINTS,
    PRINCIPAL,
    RESERVE,
    SHORT_MONEY,
    STORE_FEES,
    Books,
    Card,
    Place,
    is_dated,
    is_lot,
    pool_of,
    set_tier,
)
from tests.model.fees import net_fees
from tests.model.rows import CAP, ONE


def close_day(books: Books, date: int) -> dict[str, Any]:
    """Close the open day; the report, or the code of a refusal."""
    if date in books.reports:
        return {**books.reports[date], "replayed": True}
    if date != books.open_date:
        return {"code": 12}
    lapse(books)
    growth = open_growth(books)
    stores = [close_store(books, store) for store in sorted(books.stores)]
    totals = issuer_totals(books)
    members, bonus, points, units = (
        now - then for now, then in zip(totals, books.totals_at_open, strict=True)
    )
    books.totals_at_open = totals
    if growth is not None and growth["funded"]:
        grant_growth(books, growth["rate"], growth["reserve"])
    books.open_date += 1
    books.reports[date] = {
        "code": 0,
        "replayed": False,
        "business_date": date,
        "next_business_date": date + 1,
        "stores": [store for store in stores if store["sold"] or store["collected"] or store["fees"]],
        "members": members,
        "bonus": bonus,
        "points": points,
        "units": units,
        "issuer_net": members + bonus + points + units,
        "growth": growth,
    }
    assert sum(store["net"] for store in stores) + books.reports[date]["issuer_net"] == 0
    return books.reports[date]


def post(books: Books, giver: Place, taker: Place, amount: int) -> None:
    books.balances[giver] = books.balance(giver) - amount
    books.balances[taker] = books.balance(taker) + amount


def lapse(books: Books) -> None:
    """Holds end, and what has expired and is not held goes back to where it came from."""
    today = books.open_date
    for card in books.cards.values():
        for hold in card.holds:
            hold.ended = hold.ended or hold.until <= today
    for lot in [place for place in books.balances if is_lot(place)]:
        if lot.expires and lot.expires <= today:
            post(books, lot, pool_of(lot), books.available(lot))
    forget_empty(books)
    for card in books.cards.values():
        if 0 < card.tier_until <= today:
            review(books, card)


def review(books: Books, card: Card) -> None:
    """A tier's last date is over: it is what the growth value that is left reaches."""
    growth = books.rules().get("growth_value")
    if growth is None:
        card.tier_until = 0
        return
    tier = books.reached(books.purse(growth["unit"], card))
    set_tier(card, tier, books.tier_until(books.open_date + 1) if tier else 0)


def forget_empty(books: Books) -> None:
    """A dated lot that is empty is none."""
    books.balances = {place: amount for place, amount in books.balances.items() if amount}
    for card in books.cards.values():
        card.carries = {
            lot: carry for lot, carry in card.carries.items() if not is_dated(lot) or books.balance(lot)
        }


def issuer_totals(books: Books) -> tuple[int, int, int, int]:
    """What members hold, and the issuer's accounts of bonus, points and units."""
    return (
        books.total(PRINCIPAL, BONUS, SHORT_MONEY),
        books.total(ISSUER_BONUS),
        books.total(ISSUER_POINTS),
        books.total(ISSUER_UNITS, ISSUER_COLLECTION),
    )


# Growth


def growing(books: Books) -> list[Place]:
    """What grows: the undated lot of every card, and all dated lots of points."""
    lots = []
    for card in books.cards.values():
        lots += [card.lot(POINTS), *(lot for lot in books.lots(card, POINTS) if is_dated(lot))]
    return lots


def open_growth(books: Books) -> dict[str, Any] | None:
    """Set the reserve of the day's growth aside; None without compounding."""
    rate = books.rules()["compounding_rate"] if books.versions else 0
    if rate == 0:
        return None
    outstanding = books.total(POINTS)
    purses = len(growing(books))
    reserve = outstanding * rate // ONE + purses
    funded = books.balance(Place(FUNDING)) >= reserve
    if funded:
        post(books, Place(FUNDING), Place(RESERVE), reserve)
    return {"rate": rate, "outstanding": outstanding, "purses": purses, "reserve": reserve, "funded": funded}


def grant_growth(books: Books, rate: int, reserve: int) -> None:
    """Let every lot of points grow, and free what is left of the reserve."""
    books.growths.append((books.open_date, rate))
    books.growth_date = books.open_date
    books.newest_growth = dict.fromkeys(books.merchants, 0)
    for lot in growing(books):
        card = lot.owner
        assert isinstance(card, Card)
        points = books.balance(lot)
        growth, card.carries[lot] = divmod(points * rate + card.carries.get(lot, 0), ONE)
        growth = min(growth, CAP - points)
        post(books, Place(RESERVE), lot, growth)
        books.newest_growth[card.merchant] += growth
    left = books.balance(Place(RESERVE))
    assert reserve >= left >= 0
    post(books, Place(RESERVE), Place(FUNDING), left)


def close_store(books: Books, store: int) -> dict[str, int]:
    """Empty a store's day into what is due."""
    sold, collected = books.balance(Place(CLEARING, store)), -books.balance(Place(COLLECTION, store))
    post(books, Place(CLEARING, store), Place(DUE, store), sold)
    post(books, Place(DUE, store), Place(COLLECTION, store), collected)
    fees = net_fees(books, store)
    for account in (STORE_FEES, CARD_FEES):
        post(books, Place(account, store), Place(DUE, store), books.balance(Place(account, store)))
    net = sold - collected + fees
    return {"store": store, "sold": sold, "collected": collected, "net": net, "fees": fees}
