"""Sales: purchase, authorise, capture and void, as docs/card.md prices them step by step."""

from __future__ import annotations

from typing import Any

from tests.model import fees, stacking
from tests.model.books import (
    BONUS,
    CLEARING,
    CODES,
    ISSUER_BONUS,
    ISSUER_POINTS,
    ISSUER_UNITS,
    POINTS,
    POOL,
    PRINCIPAL,
    UNIT_POOL,
    Card,
    Draft,
    Hold,
    Place,
    Refused,
    Transaction,
    last_day,
)
from tests.model.cards import (
    card_of,
    check_amount,
    check_pins,
    check_usable,
    find_card,
    find_further,
    of_same_holder,
)
from tests.model.gifts import EXPIRED, TOO_MANY, give_with_first
from tests.model.rows import (
    ACCEPT_PARTIAL,
    ACTIVE,
    AUTHORISE,
    CAP,
    CASH,
    CODE,
    COUPON,
    DRY_RUN,
    FINAL,
    GENUINE,
    ONE,
    PASS,
    STAFF,
    WITH_POINTS,
    Item,
)

FORGED, FOREIGN, USED = 1, 2, 3
NOT_YET_VALID, BELOW_MINIMUM, NOT_HERE = 5, 6, 7
NOT_STAFF = 11
ADVISED = 14


def purchase(draft: Draft) -> None:
    sell(draft)
    row, transaction = draft.row, draft.transaction
    limits = draft.limits_of(draft.card)
    check_day(draft, draft.amount, limits)
    bonus_and_principal = sum(
        move.amount
        for move in draft.moves
        if move.giver.account in (PRINCIPAL, BONUS) and move.taker.account == CLEARING
    )
    own = sum(
        move.amount
        for move in draft.moves
        if move.giver.account == PRINCIPAL and move.giver.owner is draft.card
    )
    product = draft.product_of(draft.card)
    earned = stacking.earned(draft, bonus_and_principal + draft.cash, draft.off)
    earned = count_day(draft, draft.amount, earned, limits)
    rebate = (own + draft.cash) * product.get("rebate", 0) // ONE
    if earned > CAP:
        raise Refused(61)
    rule = draft.rules().get("growth_value") or {}
    growth = (bonus_and_principal + draft.cash) * rule.get("rate", 0) // ONE
    if row.kind == AUTHORISE:
        hold_it(draft, earned, rebate, growth)
        return
    earn(draft, earned, rebate, growth)
    give_with_first(draft)
    fees.charge(draft)
    draft.then.append(lambda: count_staff(draft, transaction.staff, draft.amount, 1))


authorise = purchase


def hold_it(draft: Draft, earned: int, rebate: int, growth: int) -> None:
    """Keep the moves of an authorisation instead of posting them."""
    row, card = draft.row, draft.card
    until = row.expires or draft.open_date + draft.rules().get("hold_days", 7) - 1
    if until < draft.open_date:
        raise Refused(12)
    hold = Hold(draft.moves, draft.amount, earned, rebate, growth, until, draft.transaction.staff)
    draft.balances = dict(draft.books.balances)
    draft.shown, draft.moves = draft.moves, []
    draft.spent = 0

    def then() -> None:
        draft.transaction.hold = hold
        card.holds.append(hold)

    draft.then.append(then)


def sell(draft: Draft) -> None:
    """Steps 1 to 7: what pays is moved to the store."""
    row, transaction = draft.row, draft.transaction
    find_cards(draft)
    card = draft.card
    if any(advice.outcome == 1 for advice in transaction.advice):
        raise Refused(57, ADVISED)
    check_staff(draft)
    check_vouchers(draft)
    draft.off = stacking.discounts(draft)
    off = sum(draft.off)
    lowered = min(take_off(draft), row.amount - off)
    due = row.amount - off - lowered
    draft.discount = off + lowered
    pin_above = draft.product_of(card).get("pin_above", -1)
    own_needed = pin_above != -1 and due > pin_above
    if not row.flags & DRY_RUN:
        check_pins(draft, [own_needed, *(not of_same_holder(card, other) for other in transaction.further)])
    most = draft.limits_of(card)["purchase_max"]
    if most and due > most:
        raise Refused(61)
    draft.left = due
    for step in steps(draft.rules()["waterfall"]):
        pay(draft, step, due)
    paid = due - draft.left
    if draft.left:
        if not row.flags & ACCEPT_PARTIAL or paid == 0:
            raise Refused(51)
        draft.code = 10
    draft.amount = paid


def find_cards(draft: Draft) -> None:
    """The further cards are looked for before the own card's state."""
    card = find_card(draft)
    find_further(draft)
    check_usable(draft, card)
    check_amount(draft.row.amount)


def check_staff(draft: Draft) -> None:
    """Step 1."""
    for item in draft.transaction.items(STAFF):
        staff = card_of(draft, item.digits, item.low)
        if not draft.product_of(staff).get("staff") or staff.status != ACTIVE:
            raise Refused(57, NOT_STAFF)
        draft.transaction.staff = staff


# Coupons, codes, passes


def check_vouchers(draft: Draft) -> None:
    """Step 2."""
    items = draft.transaction.items(COUPON, CODE, PASS)
    if any(item.kind == CODE and item.high != GENUINE for item in items):
        raise Refused(59, FORGED)
    for index, item in enumerate(items):
        rule = draft.unit_rule(item.unit)
        if rule is None or rule["kind"] not in (("visits", "time") if item.kind == PASS else ("coupon",)):
            raise Refused(57, FOREIGN)
        if rule["kind"] == "time" and item.amount != 1:
            raise Refused(13)
        if rule.get("stores") and draft.transaction.store not in rule["stores"]:
            raise Refused(57, NOT_HERE)
        if draft.row.amount < rule.get("min_spend", 0):
            raise Refused(57, BELOW_MINIMUM)
        asked = [other for other in items if other.unit == item.unit]
        most = rule.get("per_purchase", 0)
        if most and sum(count_of(other) for other in asked) > most:
            raise Refused(65, TOO_MANY)
        if item.kind == CODE:
            check_code(draft, item, items[:index])
        else:
            check_there(draft, rule, sum(count_of(other) for other in asked if other.kind != CODE))


def count_of(item: Item) -> int:
    return 1 if item.kind == CODE else item.amount


def check_code(draft: Draft, item: Item, before: list[Item]) -> None:
    series = draft.series.get(item.unit, [])
    expires = next((until for last, until in series if 1 <= item.low <= last), None)
    if expires is None:
        raise Refused(57, FOREIGN)
    if draft.balance(Place(CODES, item.low, item.unit)) or item in before:
        raise Refused(57, USED)
    if expires and expires < draft.open_date:
        raise Refused(57, EXPIRED)


def check_there(draft: Draft, rule: dict[str, Any], asked: int) -> None:
    """57 if the card has not so many that are valid today; of `time` one."""
    wanted = 1 if rule["kind"] == "time" else asked
    if draft.spendable(draft.card, rule["id"]) < wanted:
        lots = draft.lots(draft.card, rule["id"])
        raise Refused(57, NOT_YET_VALID if any(lot.begins > draft.open_date for lot in lots) else USED)


def worth(draft: Draft, item: Item) -> int:
    """Money that the coupons of an item stand for."""
    rule = draft.unit_rule(item.unit)
    assert rule is not None
    one: int = rule.get("value", 0) or draft.row.amount * rule["rate"] // ONE
    if rule.get("max"):
        one = min(one, rule["max"])
    return one * count_of(item)


def take(draft: Draft, item: Item) -> None:
    """Take the coupons or visits of an item."""
    pool = Place(UNIT_POOL, None, item.unit)
    if item.kind == CODE:
        draft.move(Place(CODES, item.low, item.unit), pool, 1)
    else:
        draft.spend(draft.card, item.unit, item.amount, pool)


def take_off(draft: Draft) -> int:
    """Step 3: the coupons that the store bears are taken; what they come to."""
    lowered = 0
    for item in draft.transaction.items(COUPON, CODE):
        rule = draft.unit_rule(item.unit)
        if rule is not None and rule.get("funded", "issuer") == "store":
            lowered += worth(draft, item)
            take(draft, item)
    return lowered


# The waterfall


def steps(named: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps of the rules; what is not named pays before all others, or after them."""
    names = [step["pay"] for step in named]
    first = [{"pay": pay, "share": ONE} for pay in ("coupons", "passes") if pay not in names]
    last = [{"pay": pay, "share": ONE} for pay in ("cards", "cash") if pay not in names]
    return [*first, *named, *last]


def pay(draft: Draft, step: dict[str, Any], due: int) -> None:
    """One step: what it pays is taken from what is left."""
    most = min(draft.left, due * step["share"] // ONE)
    if step["pay"] == "coupons":
        pay_by_coupons(draft)
    elif step["pay"] == "passes":
        pay_by_passes(draft)
    elif step["pay"] == "unit":
        rule = draft.unit_rule(step["unit"])
        assert rule is not None
        if not rule.get("stores") or draft.transaction.store in rule["stores"]:
            pay_by_price(draft, step, step["unit"], most)
    elif step["pay"] == "points":
        if draft.row.flags & WITH_POINTS:
            draft.spent = pay_by_price(draft, step, POINTS, most)
    elif step["pay"] == "cards":
        for card in draft.transaction.further:
            pay_by_card(draft, card)
    elif step["pay"] == "cash":
        cash = sum(item.amount for item in draft.transaction.items(CASH))
        draft.cash = min(draft.left, cash)
        draft.left -= draft.cash
    else:
        pay_by_money(draft, draft.card, PRINCIPAL if step["pay"] == "principal" else BONUS, most)


def clearing(draft: Draft) -> Place:
    return Place(CLEARING, draft.transaction.store)


def pay_by_coupons(draft: Draft) -> None:
    for item in draft.transaction.items(COUPON, CODE):
        rule = draft.unit_rule(item.unit)
        if rule is not None and rule.get("funded", "issuer") == "issuer":
            take(draft, item)
            pay_from(draft, Place(ISSUER_UNITS, None, item.unit), worth(draft, item))


def pay_by_passes(draft: Draft) -> None:
    for item in draft.transaction.items(PASS):
        rule = draft.unit_rule(item.unit)
        assert rule is not None
        if rule["kind"] == "visits":
            take(draft, item)
        pay_from(draft, Place(ISSUER_UNITS, None, item.unit), item.amount * rule["worth"])


def pay_from(draft: Draft, payer: Place, most: int) -> None:
    money = min(draft.left, most)
    draft.move(payer, clearing(draft), money)
    draft.left -= money


def pay_by_price(draft: Draft, step: dict[str, Any], purse: int, most: int) -> int:
    """Points, or a unit: the issuer pays the store for them; how many are taken."""
    there = draft.spendable(draft.card, purse)
    money = min(most, there * step["price"] // ONE)
    if there < step["min_points"] or money < 1:
        return 0
    spent: int = -(-money * ONE // step["price"])
    is_points = purse == POINTS
    draft.spend(draft.card, purse, spent, Place(POOL) if is_points else Place(UNIT_POOL, None, purse))
    pay_from(draft, Place(ISSUER_POINTS) if is_points else Place(ISSUER_UNITS, None, purse), money)
    return spent


def pay_by_money(draft: Draft, card: Card, purse: int, most: int) -> None:
    money = min(draft.left, most, draft.spendable(card, purse))
    draft.spend(card, purse, money, clearing(draft))
    draft.left -= money


def pay_by_card(draft: Draft, card: Card) -> None:
    """A further card: its bonus and principal, with shares of what is left as it begins."""
    begin = draft.left
    for step in draft.rules()["waterfall"]:
        if step["pay"] in ("bonus", "principal"):
            purse = PRINCIPAL if step["pay"] == "principal" else BONUS
            pay_by_money(draft, card, purse, begin * step["share"] // ONE)


# What a sale gives and counts


def day_of(draft: Draft) -> tuple[int, int, int]:
    """Money, number and points of the card's purchases of today that were counted."""
    date, *counted = draft.card.day
    money, count, points = counted if date == draft.open_date else (0, 0, 0)
    return money, count, points


def check_day(draft: Draft, paid: int, limits: dict[str, int]) -> None:
    """Step 8."""
    money, count, _ = day_of(draft)
    if limits["day_sum"] and money + paid > limits["day_sum"]:
        raise Refused(61)
    if limits["day_count"] and count + 1 > limits["day_count"]:
        raise Refused(65)


def count_day(draft: Draft, paid: int, earned: int, limits: dict[str, int]) -> int:
    """Count a sale, if anything of the day is limited; what it earns of what the day leaves."""
    card, most = draft.card, draft.product_of(draft.card).get("points_per_day", 0)
    if not limits["day_sum"] and not limits["day_count"] and not most:
        return earned
    money, count, points = day_of(draft)
    counted = 0
    if most:
        counted = min(earned, max(0, most - points))
        draft.transaction.capped = counted < earned
        earned = counted

    def then() -> None:
        card.day = (draft.open_date, money + paid, count + 1, points + counted)

    draft.then.append(then)
    return earned


def count_staff(draft: Draft, staff: Card | None, amount: int, sales: int) -> None:
    if staff is not None:
        before, money = draft.staff_sales.get(staff, (0, 0))
        draft.staff_sales[staff] = (before + (sales if amount > 0 else 0), money + amount)


def earn(draft: Draft, earned: int, rebate: int, growth: int) -> None:
    """Give the earned points, the rebate and the growth value, to lots by today's date."""
    card = draft.card
    product = draft.product_of(card)
    draft.give(Place(POOL), card.lot(POINTS, 0, points_until(product, draft.open_date)), earned)
    draft.give(Place(ISSUER_BONUS), card.lot(BONUS, 0, bonus_until(product, draft.open_date)), rebate)
    draft.earned = earned
    if rule := draft.rules().get("growth_value"):
        until = last_day(draft.open_date, rule["days"], rule.get("round", "day"))
        draft.give(Place(UNIT_POOL, None, rule["unit"]), card.lot(rule["unit"], 0, until), growth)


def points_until(product: dict[str, Any], today: int) -> int:
    return last_day(today, product.get("points_days", 0), product.get("points_round", "day"))


def bonus_until(product: dict[str, Any], today: int) -> int:
    days: int = product.get("bonus_days", 0)
    return today + days - 1 if days else 0


# Holds


def find_hold(draft: Draft) -> tuple[Transaction, Hold]:
    original = draft.find_original(draft.row)
    if original is None:
        raise Refused(25)
    draft.transaction.card = original.card
    if original.hold is None or original.hold.ended or not original.approved():
        raise Refused(12)
    return original, original.hold


def capture(draft: Draft) -> None:
    """Post what of the held moves this much takes."""
    original, hold = find_hold(draft)
    before, after = hold.captured, hold.captured + draft.row.amount
    check_amount(draft.row.amount, min(10**14, hold.total - before))
    draft.transaction.original = original
    draft.transaction.staff = hold.staff
    for move, then, now in zip(hold.moves, hold.taken(after), hold.taken(before), strict=True):
        taker = clearing(draft) if move.taker.account == CLEARING else move.taker
        draft.move(move.giver, taker, then - now)
        draft.spent += then - now if move.giver.account == POINTS else 0
    earned = hold.earned * after // hold.total - hold.earned * before // hold.total
    rebate = hold.rebate * after // hold.total - hold.rebate * before // hold.total
    growth = hold.growth * after // hold.total - hold.growth * before // hold.total
    earn(draft, earned, rebate, growth)
    fees.charge(draft)
    draft.amount = draft.row.amount
    give_with_first(draft)

    def then_end() -> None:
        hold.captured = after
        hold.ended = bool(draft.row.flags & FINAL) or after == hold.total
        count_staff(draft, hold.staff, draft.amount, 1)

    draft.then.append(then_end)


def void(draft: Draft) -> None:
    _, hold = find_hold(draft)

    def then() -> None:
        hold.ended = True

    draft.then.append(then)
