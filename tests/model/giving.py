"""What gives to cards: top-ups, bulk top-ups and grants; and codes, which are on no card, and funding."""

from __future__ import annotations

from tests.model.books import (
    BONUS,
    CODES,
    FUNDING,
    ISSUER_BONUS,
    ISSUER_UNITS,
    POINTS,
    POOL,
    PRINCIPAL,
    UNIT_POOL,
    Books,
    Card,
    Draft,
    Place,
    Refused,
)
from tests.model.cards import (
    check_amount,
    check_balance_max,
    check_pins,
    check_usable,
    find_card,
    find_further,
    move_cursor,
)
from tests.model.gifts import bundle_of, check_may_take, give_bundle, hand_over
from tests.model.rows import AMOUNT_MAX, BY_CARD, CARD, ONE, Part
from tests.model.sale import bonus_until, points_until

COUNT_MAX = 1_000
CODES_MAX = 10**7


def top_up(draft: Draft) -> None:
    card = find_card(draft)
    check_usable(draft, card)
    check_amount(draft.row.amount)
    check_pins(draft, [False])
    pay_in(draft, card, draft.row.amount)
    draft.amount = draft.row.amount


def bulk_top_up(draft: Draft) -> None:
    """All or none."""
    find_further(draft)
    check_amount(draft.row.amount)
    amounts = [item.amount for item in draft.transaction.items(CARD)]
    if any(not 1 <= amount <= AMOUNT_MAX for amount in amounts) or sum(amounts) != draft.row.amount:
        raise Refused(13)
    for card, amount in zip(draft.transaction.further, amounts, strict=True):
        pay_in(draft, card, amount)
    draft.amount = draft.row.amount


def band_of(books: Books, amount: int) -> dict[str, int]:
    """The last band that an amount reaches; nothing, if it reaches none."""
    reached: list[dict[str, int]] = [band for band in books.rules()["top_up_bonus"] if band["from"] <= amount]
    return reached[-1] if reached else {}


def pay_in(draft: Draft, card: Card, amount: int) -> None:
    band, product = band_of(draft, amount), draft.product_of(card)
    bonus = band.get("bonus", 0) + amount * band.get("rate", 0) // ONE
    borne = amount * (ONE - band.get("price", ONE)) // ONE
    most = draft.limits_of(card)["top_up_max"]
    if most and amount > most:
        raise Refused(61)
    draft.give(draft.collection(draft.row, draft.transaction.store), card.lot(PRINCIPAL), amount - borne)
    draft.give(Place(ISSUER_BONUS), card.lot(PRINCIPAL), borne)
    until = bonus_until(product, draft.open_date)
    draft.give(Place(ISSUER_BONUS), card.lot(BONUS, 0, until), bonus)
    check_balance_max(draft, card)
    draft.discount += borne
    until = points_until(product, draft.open_date)
    draft.give(Place(POOL), card.lot(POINTS, 0, until), band.get("points", 0))
    draft.earned += band.get("points", 0)
    give_bundle(draft, card, band.get("bundle", 0), card.member)


def grant(draft: Draft) -> None:
    row = draft.row
    card = find_card(draft)
    move_cursor(draft)
    check_usable(draft, card)
    bundle = bundle_of(draft, row.product)
    if bundle is None:
        raise Refused(12)
    check_amount(row.amount, COUNT_MAX)
    price, points = bundle.get("price", 0) * row.amount, bundle.get("points", 0) * row.amount
    for whole in (price, points, bundle.get("worth", 0) * row.amount):
        check_price(whole)
    check_may_take(draft, card, bundle, row.amount, card.member)
    check_pins(draft, [False])
    pay_for_grant(draft, price)
    if draft.spendable(card, POINTS) < points:
        raise Refused(51)
    draft.spend(card, POINTS, points, Place(POOL))
    draft.spent = points
    hand_over(draft, card, bundle, row.amount)
    draft.amount = price


def check_price(price: int) -> None:
    if price > AMOUNT_MAX:
        raise Refused(13)


def pay_for_grant(draft: Draft, price: int) -> None:
    """The price goes to the issuer's units, from the till or from the card."""
    units = Place(ISSUER_UNITS)
    if not draft.row.flags & BY_CARD:
        draft.move(draft.collection(draft.row, draft.transaction.store), units, price)
        return
    left = price
    for step in draft.rules()["waterfall"]:
        if step["pay"] in ("bonus", "principal"):
            purse = PRINCIPAL if step["pay"] == "principal" else BONUS
            most = min(left, price * step["share"] // ONE)
            money = min(most, draft.spendable(draft.card, purse))
            draft.spend(draft.card, purse, money, units)
            left -= money
    if left:
        raise Refused(51)


def issue_codes(draft: Draft) -> None:
    row = draft.row
    rule = draft.unit_rule(row.product)
    if rule is None or rule["kind"] != "coupon" or (row.expires and row.expires < draft.open_date):
        raise Refused(12)
    check_amount(row.amount, CODES_MAX)
    draft.move(Place(UNIT_POOL, None, row.product), Place(CODES, None, row.product), row.amount)
    draft.amount = row.amount
    series = draft.series.get(row.product, [])
    last = (series[-1][0] if series else 0) + row.amount
    draft.codes = Part(CODES, purse=row.product, expires=row.expires, amount=row.amount, balance=last)

    def then() -> None:
        draft.series.setdefault(row.product, []).append((last, row.expires))

    draft.then.append(then)


def fund(draft: Draft) -> None:
    check_amount(draft.row.amount)
    draft.move(Place(POOL), Place(FUNDING), draft.row.amount)
    draft.amount = draft.row.amount
