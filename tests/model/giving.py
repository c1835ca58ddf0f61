"""What gives to cards: top-ups, bulk top-ups and grants; and codes, which are on no card, and funding."""

from __future__ import annotations

from typing import Any

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
    Card,
    Draft,
    Place,
    Refused,
    pool_of,
)
from tests.model.cards import (
    check_amount,
    check_balance_max,
    check_pins,
    check_usable,
    find_card,
    find_further,
)
from tests.model.rows import AMOUNT_MAX, BY_CARD, CARD, CURSOR, ONE, Part
from tests.model.sale import TOO_MANY, bonus_until

COUNT_MAX = 1_000
CODES_MAX = 10**7
EXPIRED = 4
BEHIND = 13


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


def pay_in(draft: Draft, card: Card, amount: int) -> None:
    bonus = 0
    for band in draft.rules()["top_up_bonus"]:
        if band["from"] <= amount:
            bonus = band["bonus"] + amount * band["rate"] // ONE
    most = draft.limits_of(card)["top_up_max"]
    if most and amount > most:
        raise Refused(61)
    draft.give(draft.collection(draft.row, draft.transaction.store), card.lot(PRINCIPAL), amount)
    until = bonus_until(draft.product_of(card), draft.open_date)
    draft.give(Place(ISSUER_BONUS), card.lot(BONUS, 0, until), bonus)
    check_balance_max(draft, card)


def grant(draft: Draft) -> None:
    row = draft.row
    card = find_card(draft)
    move_cursor(draft)
    check_usable(draft, card)
    bundles = draft.rules().get("bundles", [])
    bundle = next((bundle for bundle in bundles if bundle["id"] == row.product), None)
    if bundle is None:
        raise Refused(12)
    check_amount(row.amount, COUNT_MAX)
    price = bundle.get("price", 0) * row.amount
    check_price(price)
    most = bundle.get("per_card", 0)
    if most and card.bundles[row.product] + row.amount > most:
        raise Refused(65, TOO_MANY)
    of_holder = [other for other in draft.cards.values() if other is card or other.member == card.member != 0]
    most = bundle.get("per_member", 0)
    if most and sum(other.bundles[row.product] for other in of_holder) + row.amount > most:
        raise Refused(65, TOO_MANY)
    check_pins(draft, [False])
    pay_for_grant(draft, price)
    for line in bundle["grants"]:
        begins, expires = dates_of(line, draft.open_date)
        lot = card.lot(line["unit"], begins, expires)
        draft.give(pool_of(lot), lot, line["amount"] * row.amount)
        draft.earned += line["amount"] * row.amount if line["unit"] == POINTS else 0
    draft.amount = price

    def then() -> None:
        card.bundles[row.product] += row.amount

    draft.then.append(then)


def move_cursor(draft: Draft) -> None:
    """A trigger goes on, whatever becomes of its grant; what it did once it does not do again."""
    for item in draft.transaction.items(CURSOR):
        at = (item.amount, item.low)
        if at <= draft.cursors.get(item.unit, (0, 0)):
            raise Refused(57, BEHIND)
        draft.cursors[item.unit] = at


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
