"""The model against numbers worked out by hand from docs/card.md, so that it is not its own judge."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model import (
    ACCEPT_PARTIAL,
    AUTHORISE,
    BALANCE,
    BY_CARD,
    CAPTURE,
    CARD,
    CASH,
    CODE,
    COUPON,
    CURSOR,
    GENUINE,
    GRANT,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    MEMBER,
    NEW_PIN,
    ONE,
    PASS,
    PIN,
    PURCHASE,
    REFUND,
    REVERSAL,
    SET_PIN,
    SET_TIER,
    TOP_UP,
    VOID,
    Answer,
    Item,
    Part,
)
from tests.test_model import DAY, Till, balances, changed, rules

UNITS = [
    {"id": 16, "name": "five off", "kind": "coupon", "value": 500},
    {"id": 17, "name": "a tenth off", "kind": "coupon", "rate": ONE // 10, "funded": "store"},
    {"id": 20, "name": "haircut", "kind": "visits", "worth": 3_000},
]
BUNDLES = [
    {"id": 1, "name": "welcome", "grants": [{"unit": 16, "amount": 2, "days": 2}, {"unit": 17, "amount": 1}]},
    {"id": 2, "name": "haircuts", "price": 10_000, "per_card": 2, "grants": [{"unit": 20, "amount": 10}]},
    {"id": 3, "name": "points", "price": 100, "grants": [{"unit": 3, "amount": 12_345, "days": 9}]},
]


def till(**changes: Any) -> Till:
    """A till with units and bundles; the card has 1,000.00."""
    waterfall = [{"pay": pay, "share": ONE, "price": 0, "min_points": 0} for pay in ("bonus", "principal")]
    made = Till(rules(waterfall=waterfall, top_up_bonus=[], **changes) | {"units": UNITS, "bundles": BUNDLES})
    assert made.ask(TOP_UP, amount=100_000).code == 0
    return made


def units(answer: Answer) -> dict[tuple[int, int], int]:
    """Of a balance query: what each lot has."""
    return {(part.purse, part.expires): part.amount for part in answer.parts}


def balance(at: Till) -> Answer:
    return at.ask(BALANCE, business_date=0, trace=0)


def test_coupons_of_store_and_issuer_and_a_lapse() -> None:
    at = till()
    assert at.ask(GRANT, product=1, amount=1).code == 0
    assert units(balance(at)) == {(16, DAY + 1): 2, (17, 0): 1}
    items = (Item(COUPON, unit=16, amount=1), Item(COUPON, unit=17, amount=1))
    # 100.00 less a tenth is 90.00; the issuer pays 5.00 of them, the card 85.00, which earn 85 points.
    sold = at.ask(PURCHASE, amount=10_000, items=items)
    assert changed(sold) == {
        "amount": 9_000,
        "discount": 1_000,
        "principal": -8_500,
        "points_earned": 850_000,
    }
    assert sold.parts == (
        Part(6, 0, 17, 0, 0, -1, 0),
        Part(6, 0, 16, 0, DAY + 1, -1, 1),
        Part(34, 0, 16, 0, 0, 500, 0),
        Part(1, 0, 1, 0, 0, -8_500, 91_500),
        Part(3, 0, 3, 0, 0, 850_000, 850_000),
    )
    refused = at.ask(PURCHASE, amount=10_000, items=(Item(COUPON, unit=16, amount=2),))
    assert (refused.code, refused.reason) == (57, 3)
    at.programme.close_day(DAY)
    assert units(balance(at)) == {(16, DAY + 1): 1}
    at.programme.close_day(DAY + 1)
    assert units(balance(at)) == {}
    # All of it goes back: the issuer's coupon is past its date and lapses again, the store's is there.
    assert at.ask(REFUND, amount=9_000, original=sold.sequence).principal == 8_500
    assert units(balance(at)) == {(17, 0): 1}
    assert at.programme.trial_balance()["units"] == {17: (1, -1, 0)}


def test_a_code_is_used_once_and_good_again_when_it_returns() -> None:
    at = till()
    issued = at.ask(ISSUE_CODES, product=16, amount=3, card=0, card_digits=0)
    assert issued.parts == (Part(45, 0, 16, 0, 0, 3, 3),)
    code = Item(CODE, unit=16, high=GENUINE, low=2)
    forged = at.ask(PURCHASE, amount=900, items=(code._replace(high=0),))
    assert (forged.code, forged.reason) == (59, 1)
    assert at.ask(PURCHASE, amount=900, items=(code._replace(low=4),)).reason == 2
    sold = at.ask(PURCHASE, amount=900, items=(code,))
    assert (sold.amount, sold.principal) == (900, -400)
    assert at.ask(PURCHASE, amount=900, items=(code,)).reason == 3
    assert at.ask(REVERSAL, original=sold.sequence).principal == 400
    assert at.ask(PURCHASE, amount=900, items=(code,)).code == 0
    assert at.programme.trial_balance()["units"] == {16: (0, -2, 2)}


def test_visits_are_sold_used_and_refunded_in_part() -> None:
    at = till()
    sold = at.ask(GRANT, product=2, amount=1, flags=BY_CARD)
    assert changed(sold) == {"amount": 10_000, "principal": -10_000}
    used = at.ask(PURCHASE, amount=5_000, items=(Item(PASS, unit=20, amount=1),))
    assert (used.amount, used.principal) == (5_000, -2_000)
    # A quarter back: 25.00 to the card, ceil(10 x 0.25) = 3 visits taken.
    part = at.ask(REFUND, amount=2_500, original=sold.sequence)
    assert (part.principal, units(balance(at))) == (2_500, {(20, 0): 6})
    # All of it: 7 more visits, of which there are 6.
    assert at.ask(REFUND, amount=7_500, original=sold.sequence).code == 51
    assert at.ask(GRANT, product=2, amount=2).reason == 8
    assert at.programme.trial_balance()["totals"][34] == 10_000 - 3_000 - 2_500


def test_cash_and_another_card_of_the_same_holder_pay_too() -> None:
    at = till(accrual=10**12)
    other = {"card": 87_654_321}
    assert at.ask(ISSUE, product=1, **other).code == 0
    assert at.ask(TOP_UP, amount=30, **other).code == 0
    items = (Item(CARD, digits=8, low=87_654_321), Item(CASH, amount=5))
    assert at.ask(PURCHASE, amount=100_040, items=items).code == 70
    for card in (12_345_678, 87_654_321):
        assert at.ask(HOLDER, card=card, items=(Item(MEMBER, low=7),)).code == 0
    assert at.ask(PURCHASE, amount=100_040, items=items).code == 51
    part = at.ask(PURCHASE, amount=100_040, flags=ACCEPT_PARTIAL, items=items)
    assert (part.code, part.amount, part.points_earned) == (10, 100_035, 100_035)
    assert part.parts == (
        Part(1, 0, 1, 0, 0, -100_000, 0),
        Part(1, 1, 1, 0, 0, -30, 0),
        Part(3, 0, 3, 0, 0, 100_035, 100_035),
        Part(17, 0, 0, 0, 0, 5, 0),
        Part(16, 0, 0, 0, 0, 5, 0),
    )
    # Principal of the own card first, then of the further one, then cash.
    back = at.ask(REFUND, amount=100_035, original=part.sequence)
    assert [(part.account, part.card, part.amount) for part in back.parts] == [
        (1, 0, 100_000),
        (1, 1, 30),
        (3, 0, -100_035),
        (17, 0, 5),
    ]


def test_a_hold_is_captured_in_parts_and_what_is_left_is_free() -> None:
    at = till()
    assert at.ask(GRANT, product=1, amount=1).code == 0
    held = at.ask(AUTHORISE, amount=1_500, items=(Item(COUPON, unit=16, amount=2),))
    assert (held.amount, held.principal) == (1_500, 0)
    # 990.00 are left besides the 5.00 that are held.
    assert at.ask(PURCHASE, amount=99_501).code == 51
    first = at.ask(CAPTURE, amount=400, original=held.sequence, card=0, card_digits=0)
    # 4.00 of the coupons' 10.00: ceil(2 x 0.4) = 1 coupon; floor(50,000 x 400 / 1,500) of the points.
    assert [(part.account, part.amount) for part in first.parts] == [(6, -1), (34, 400), (3, 13_333)]
    second = at.ask(CAPTURE, amount=800, original=held.sequence, card=0, card_digits=0)
    assert (second.principal, second.points_earned) == (-200, 40_000 - 13_333)
    assert at.ask(VOID, original=held.sequence, card=0, card_digits=0).code == 0
    assert at.ask(VOID, original=held.sequence, card=0, card_digits=0).code == 12
    assert at.ask(PURCHASE, amount=99_800).code == 0


def test_what_a_card_owes_is_made_good_first_and_owed_again() -> None:
    at = till()
    top_up = at.ask(TOP_UP, amount=1_000)
    assert at.ask(PURCHASE, amount=100_600).code == 0
    assert at.ask(REVERSAL, original=top_up.sequence).shortfall_money == 600
    again = at.ask(TOP_UP, amount=1_000)
    assert changed(again) == {"amount": 1_000, "principal": 400, "shortfall_money": -600}
    undone = at.ask(REVERSAL, original=again.sequence)
    assert changed(undone) == {"amount": 1_000, "principal": -400, "shortfall_money": 600}


def test_three_wrong_pins_lock_a_card() -> None:
    at = till(pin_above=100)
    assert at.ask(SET_PIN, items=(Item(NEW_PIN, digits=4, low=1_234),)).code == 0
    wrong, right = (Item(PIN, digits=4, low=4_321),), (Item(PIN, digits=4, low=1_234),)
    assert at.ask(PURCHASE, amount=100).code == 0
    assert at.ask(PURCHASE, amount=101).code == 70
    codes = [
        at.ask(PURCHASE, amount=101, items=pin).code for pin in (wrong, right, wrong, wrong, wrong, right)
    ]
    assert codes == [55, 0, 55, 55, 75, 75]


def test_granted_points_go_back_with_what_they_grew_to() -> None:
    at = till(compounding_rate=10**10)
    sold = at.ask(GRANT, product=3, amount=1)
    assert (sold.amount, balances(sold)[2]) == (100, 12_345)
    assert at.ask(8, amount=1_000, card=0, card_digits=0).code == 0
    report = at.programme.close_day(DAY)
    # 123.45 of the dated lot; the reserve counts the card and the lot.
    assert (report["growth"]["purses"], report["growth"]["reserve"]) == (2, 125)
    assert balances(balance(at))[2] == 12_468
    assert at.ask(REFUND, amount=100, original=sold.sequence).points_earned == -12_468
    assert balances(balance(at))[2] == 0


@pytest.mark.parametrize(("first", "then", "kept"), [(4, 2, 4), (2, 4, 4), (0, 2, 0), (2, 0, 0)])
def test_a_trigger_never_brings_the_last_date_of_a_tier_forward(first: int, then: int, kept: int) -> None:
    """Days that a tier lasts, before and after the rules change; 0: it is not reviewed."""
    at = till(tiers=[{"id": 1, "name": "silver", "from": 5}, {"id": 2, "name": "gold", "from": 9}])
    tables = at.programme.versions[-1][2]
    (card,) = at.programme.cards.values()

    def lasting(days: int) -> int:
        """The last date of a tier of so many days, by the rules from now on."""
        tables.pop("growth_value", None)
        if days:
            tables["growth_value"] = {"unit": 40, "rate": 0, "days": 1, "tier_days": days}
        return DAY + days - 1 if days else 0

    def by_trigger(tier: int, sequence: int) -> int:
        item = Item(CURSOR, unit=1, amount=sequence)
        return at.ask(SET_TIER, product=tier, items=(item,), card=0, card_digits=0).code

    before = lasting(first)
    assert at.ask(SET_TIER, product=1).code == 0
    assert (card.tier, card.tier_until) == (1, before)
    now = lasting(then)
    assert by_trigger(1, 1) == 0
    assert (card.tier, card.tier_until) == (1, DAY + kept - 1 if kept else 0)
    # Another tier, and one that is set by hand, last as the rules say.
    assert by_trigger(2, 2) == 0
    assert (card.tier, card.tier_until) == (2, now)
    lasting(9)
    assert at.ask(SET_TIER, product=2).code == 0
    assert card.tier_until == DAY + 8
