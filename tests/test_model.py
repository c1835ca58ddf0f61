"""The model against numbers worked out by hand from docs/transactions.md, so that it is not its own judge."""

from __future__ import annotations

import json
from typing import Any

from tests.model import (
    BALANCE,
    CAP,
    FROZEN,
    FUND,
    ISSUE,
    ONE,
    PURCHASE,
    REFUND,
    REVERSAL,
    STATUS,
    TOP_UP,
    WITH_POINTS,
    Answer,
    Model,
    Row,
)

DAY = 20_000

STANDARD: dict[str, Any] = {
    "products": [
        {
            "id": 1,
            "name": "standard",
            "discount": 50_000_000_000,
            "accrual": 10**14,
            "purchase_max": 500_000,
            "top_up_max": 1_000_000,
            "balance_max": 5_000_000,
        }
    ],
    "top_up_bonus": [{"from": 50_000, "bonus": 5_000, "rate": 0}],
    "waterfall": [
        {"pay": "points", "share": 300_000_000_000, "price": 10**8, "min_points": 1_000_000},
        {"pay": "bonus", "share": ONE, "price": 0, "min_points": 0},
        {"pay": "principal", "share": ONE, "price": 0, "min_points": 0},
    ],
    "compounding_rate": 0,
    "time_tolerance_s": 86_400,
}
"""The example of docs/rules.md."""


class Till:
    """A programme with card 12345678, store 1 with terminal 1 and store 2 with terminal 2."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self.model = Model()
        self.trace = 0
        for one in (
            ("programme", 1, 1, DAY, "p"),
            ("merchant", 1, 1, 0, "m"),
            ("store", 1, 1, 1, "one"),
            ("store", 1, 2, 1, "two"),
            ("terminal", 1, 1, 1, ""),
            ("terminal", 1, 2, 2, ""),
        ):
            assert self.model.register(*one) == 0
        self.programme = self.model.programmes[1]
        assert self.programme.publish(1, "", json.dumps(tables)) == 0
        assert self.ask(ISSUE, product=1).code == 0

    def ask(self, kind: int, **fields: Any) -> Answer:
        return self.model.execute(self.row(kind, **fields))

    def row(self, kind: int, **fields: Any) -> Row:
        """A request of the card at terminal 1 with the next trace, unless the fields say otherwise."""
        self.trace += 1
        row = Row(
            kind=kind, programme=1, terminal=1, business_date=self.programme.open_date, trace=self.trace
        )
        if kind not in (REFUND, REVERSAL, FUND):
            row = row._replace(card_digits=8, card=12_345_678)
        return row._replace(**fields)


def changed(answer: Answer) -> dict[str, int]:
    """What an answer says, without sequence, date and balances, and without what is zero."""
    fields = Answer._fields[2:13]
    return {name: getattr(answer, name) for name in fields if getattr(answer, name)}


def balances(answer: Answer) -> tuple[int, ...]:
    return answer[13:16]


def rules(**changes: Any) -> dict[str, Any]:
    """The standard rules without discount and limits, and with changes."""
    product = STANDARD["products"][0] | {"discount": 0, "purchase_max": 0, "top_up_max": 0, "balance_max": 0}
    product |= {name: changes.pop(name) for name in list(changes) if name in (*product, "pin_above")}
    return STANDARD | {"products": [product]} | changes


def test_a_purchase_is_paid_by_points_bonus_and_principal() -> None:
    till = Till(STANDARD)
    assert changed(till.ask(TOP_UP, amount=50_000)) == {"amount": 50_000, "principal": 50_000, "bonus": 5_000}
    # 200.00 less 5% is 190.00: 50.00 of bonus, 140.00 of principal; 190 points.
    first = till.ask(PURCHASE, amount=20_000, terminal=2)
    assert changed(first) == {
        "amount": 19_000,
        "discount": 1_000,
        "principal": -14_000,
        "bonus": -5_000,
        "points_earned": 1_900_000,
    }
    assert balances(first) == (36_000, 0, 1_900_000)
    # 3.33 less floor(16.65) is 3.17; 30% of that are floor(95.1) = 95 by points, 95 points; 222 by principal.
    second = till.ask(PURCHASE, amount=333, flags=WITH_POINTS)
    assert changed(second) == {
        "amount": 317,
        "discount": 16,
        "principal": -222,
        "offset": 95,
        "points_spent": 950_000,
        "points_earned": 22_200,
    }
    assert balances(second) == (35_778, 0, 972_200)
    # Fewer than 100 points are left: they do not pay.
    assert till.ask(PURCHASE, amount=333, flags=WITH_POINTS).offset == 0


def test_points_taken_are_rounded_up() -> None:
    waterfall = [
        STANDARD["waterfall"][0] | {"price": 333_333_333, "min_points": 0},
        *STANDARD["waterfall"][1:],
    ]
    till = Till(rules(waterfall=waterfall))
    till.ask(TOP_UP, amount=50_000)
    till.ask(PURCHASE, amount=20_000)
    # 30% of 317 are 95; 95 x 10^12 / 333,333,333 = 285,000.000285
    assert till.ask(PURCHASE, amount=317, flags=WITH_POINTS).points_spent == 285_001


def test_a_bill_that_is_not_covered_changes_nothing() -> None:
    till = Till(rules())
    till.ask(TOP_UP, amount=100)
    refused = till.ask(PURCHASE, amount=101)
    assert changed(refused) == {"code": 51}
    assert balances(refused) == (100, 0, 0)
    assert till.ask(PURCHASE, amount=100).code == 0


def till_with_mixed_purchase() -> tuple[Till, Answer]:
    """1,000 due: 100 by 1,000,000 of points, 233 by bonus, 667 by principal; 90,000 of points earned."""
    waterfall = [STANDARD["waterfall"][0] | {"share": ONE // 10}, *STANDARD["waterfall"][1:]]
    till = Till(rules(waterfall=waterfall, top_up_bonus=[{"from": 1, "bonus": 233, "rate": 0}]))
    till.ask(TOP_UP, amount=10_000)
    assert till.ask(PURCHASE, amount=10_233).points_earned == 1_023_300
    till.ask(TOP_UP, amount=667)
    purchase = till.ask(PURCHASE, amount=1_000, flags=WITH_POINTS)
    assert changed(purchase) == {
        "amount": 1_000,
        "principal": -667,
        "bonus": -233,
        "offset": 100,
        "points_spent": 1_000_000,
        "points_earned": 90_000,
    }
    assert balances(purchase) == (0, 0, 113_300)
    return till, purchase


def test_three_refunds_close_to_the_unit() -> None:
    till, purchase = till_with_mixed_purchase()
    parts = [till.ask(REFUND, amount=amount, original=purchase.sequence) for amount in (333, 333, 334)]
    # rest(333) = 110, rest(666) = 221, rest(1000) = 333; bonus 76, 154, 233; principal 223, 445, 667.
    told = [
        (part.principal, part.bonus, part.offset, part.points_spent, part.points_earned) for part in parts
    ]
    assert told == [
        (223, 76, -34, -333_000, -29_970),
        (222, 78, -33, -333_000, -29_970),
        (222, 79, -33, -334_000, -30_060),
    ]
    assert balances(parts[2]) == (667, 233, 1_023_300)
    assert till.ask(REFUND, amount=1, original=purchase.sequence).code == 13
    # The latest can be reversed, then the one before it, then the purchase.
    assert till.ask(REVERSAL, original=parts[1].sequence).code == 12
    assert changed(till.ask(REVERSAL, original=parts[2].sequence)) == {
        "amount": 334,
        "principal": -222,
        "bonus": -79,
        "offset": 33,
        "points_spent": 334_000,
        "points_earned": 30_060,
    }
    assert till.ask(REVERSAL, original=purchase.sequence).code == 12
    assert till.ask(REVERSAL, original=parts[1].sequence).amount == 333
    assert till.ask(REVERSAL, original=parts[0].sequence).amount == 333
    undone = till.ask(REVERSAL, original=purchase.sequence)
    assert balances(undone) == (667, 233, 1_023_300)
    again = till.ask(REVERSAL, original=purchase.sequence)
    assert (again.code, again.amount) == (0, 0)
    assert till.ask(REFUND, amount=1, original=purchase.sequence).code == 12


def test_what_a_card_cannot_give_back_is_its_shortfall() -> None:
    till = Till(rules(waterfall=[STANDARD["waterfall"][1], STANDARD["waterfall"][2]]))
    top_up = till.ask(TOP_UP, amount=50_000)
    purchase = till.ask(PURCHASE, amount=54_900)
    assert balances(purchase) == (100, 0, 5_490_000)
    undone = till.ask(REVERSAL, original=top_up.sequence)
    assert changed(undone) == {"amount": 50_000, "principal": -100, "shortfall_money": 54_900}
    assert balances(undone) == (0, 0, 5_490_000)
    assert till.programme.trial_balance()["totals"][4] == -54_900


def test_points_that_were_spent_cannot_be_clawed_back() -> None:
    waterfall = [STANDARD["waterfall"][0] | {"share": ONE, "min_points": 0}, *STANDARD["waterfall"][1:]]
    till = Till(rules(waterfall=waterfall, accrual=10**14))
    till.ask(TOP_UP, amount=10_000)
    first = till.ask(PURCHASE, amount=10_000)
    spent = till.ask(PURCHASE, amount=60, flags=WITH_POINTS)
    assert balances(spent) == (0, 0, 400_000)
    # Half of 10,000 goes back, and half of its 1,000,000: the card has 400,000 of these 500,000.
    refund = till.ask(REFUND, amount=5_000, original=first.sequence)
    assert changed(refund) == {
        "amount": 5_000,
        "principal": 5_000,
        "points_earned": -500_000,
        "shortfall_points": 100_000,
    }
    assert balances(refund) == (5_000, 0, 0)
    undone = till.ask(REVERSAL, original=refund.sequence)
    assert changed(undone) == {
        "amount": 5_000,
        "principal": -5_000,
        "points_earned": 500_000,
        "shortfall_points": -100_000,
    }
    assert balances(undone) == (0, 0, 400_000)
    assert till.programme.trial_balance()["totals"][5] == 0


def till_with_points(points: int, funding: int) -> Till:
    """One card with so many units of points, which grow by 0.01% a day."""
    till = Till(rules(accrual=ONE, compounding_rate=10**8))
    till.ask(TOP_UP, amount=points)
    assert till.ask(PURCHASE, amount=points).points_balance == points
    assert till.ask(FUND, amount=funding).code == 0
    return till


def test_growth_carries_what_is_less_than_a_unit() -> None:
    till = till_with_points(12_345, funding=100)
    seen = []
    for _ in range(5):
        report = till.programme.close_day(till.programme.open_date)
        assert report["growth"]["funded"]
        assert report["growth"]["reserve"] == 1 + 1
        seen.append(till.ask(BALANCE, business_date=0, trace=0).points_balance)
    # 1.2345, then 1.2346 + 0.2345, 1.2347 + 0.4691, 1.2348 + 0.7038, 1.2349 + 0.9386 = 2.1735
    assert seen == [12_346, 12_347, 12_348, 12_349, 12_351]
    totals = till.programme.trial_balance()["totals"]
    assert (totals[3], totals[40], totals[41], totals[42]) == (12_345 + 6, -12_445, 94, 0)


def test_growth_that_is_not_funded_is_not_granted() -> None:
    till = till_with_points(12_345, funding=1)
    report = till.programme.close_day(DAY)
    assert report["growth"] == {
        "rate": 10**8,
        "outstanding": 12_345,
        "purses": 1,
        "reserve": 2,
        "funded": False,
    }
    assert till.ask(BALANCE, business_date=0, trace=0).points_balance == 12_345
    till.ask(FUND, amount=1)
    assert till.programme.close_day(DAY + 1)["growth"]["funded"]
    assert till.ask(BALANCE, business_date=0, trace=0).points_balance == 12_346
    assert till.programme.trial_balance()["totals"][41] == 1


def test_every_merchant_owes_the_points_of_its_cards() -> None:
    till = till_with_points(12_345, funding=100)
    for one in (
        ("merchant", 1, 2, 0, "n"),
        ("merchant", 1, 3, 0, "o"),
        ("store", 1, 3, 3, "three"),
        ("terminal", 1, 3, 3, ""),
    ):
        assert till.model.register(*one) == 0
    assert till.programme.liabilities()[0] == {"merchant": 1, "points": 12_345, "growth": 0}
    # Merchant 3 issues a card; its points are earned at merchant 1's terminal.
    assert till.ask(ISSUE, product=1, card=2, terminal=3).code == 0
    till.ask(TOP_UP, amount=30_000, card=2)
    assert till.ask(PURCHASE, amount=30_000, card=2).points_balance == 30_000
    till.programme.close_day(DAY)
    # 1.2345 and 3.0 a day.
    assert (till.programme.growth_date, till.programme.liabilities()) == (
        DAY,
        [
            {"merchant": 1, "points": 12_346, "growth": 1},
            {"merchant": 2, "points": 0, "growth": 0},
            {"merchant": 3, "points": 30_003, "growth": 3},
        ],
    )


def test_net_positions_of_stores_and_issuer_sum_to_zero() -> None:
    till = Till(STANDARD)
    till.ask(TOP_UP, amount=50_000)
    till.ask(PURCHASE, amount=20_000, terminal=2)
    till.ask(PURCHASE, amount=333, flags=WITH_POINTS)
    report = till.programme.close_day(DAY)
    assert report["stores"] == [
        {"store": 1, "sold": 317, "collected": 50_000, "net": -49_683, "fees": 0},
        {"store": 2, "sold": 19_000, "collected": 0, "net": 19_000, "fees": 0},
    ]
    assert (report["members"], report["bonus"], report["points"]) == (35_778, -5_000, -95)
    assert report["issuer_net"] == 30_683
    assert -49_683 + 19_000 + 30_683 == 0
    # A refund in another store, the day after: that store gives back what the first one sold.
    till.ask(REFUND, amount=19_000, original=3)
    later = till.programme.close_day(DAY + 1)
    assert later["stores"] == [{"store": 1, "sold": -19_000, "collected": 0, "net": -19_000, "fees": 0}]
    assert till.programme.positions() == [
        {"store": 1, "sold": 0, "collected": 0, "fees": 0, "net": 0, "due": -68_683},
        {"store": 2, "sold": 0, "collected": 0, "fees": 0, "net": 0, "due": 19_000},
    ]
    assert till.programme.close_day(DAY) == report | {"replayed": True}
    assert till.programme.close_day(DAY + 3) == {"code": 12}


def test_a_key_is_answered_once() -> None:
    till = Till(rules())
    row = till.row(TOP_UP, amount=10)
    first = till.model.execute(row)
    till.ask(TOP_UP, amount=5)
    assert till.model.execute(row._replace(local_time=7)) == first._replace(replayed=1)
    assert till.model.execute(row._replace(amount=11)) == Answer(code=94)
    assert till.model.execute(row._replace(business_date=DAY - 6)).code == 0
    assert till.model.execute(row._replace(business_date=DAY - 7)) == Answer(code=12)
    assert till.model.execute(row._replace(business_date=DAY + 1)) == Answer(code=12)
    assert till.model.execute(row._replace(local_time=2 * 86_400)) == Answer(code=12)


def test_what_was_reversed_before_it_arrived_is_void() -> None:
    till = Till(rules())
    late = till.row(TOP_UP, amount=10)
    names = {"original_date": DAY, "original_terminal": 1, "original_trace": late.trace}
    reversal = till.ask(REVERSAL, **names)
    assert (reversal.code, reversal.amount) == (0, 0)
    assert till.model.execute(late) == Answer(reversal.sequence, DAY, 12)
    assert till.ask(REVERSAL, **names).code == 0
    assert till.ask(BALANCE, business_date=0, trace=0).principal_balance == 0


def test_the_first_check_that_fails_gives_the_code() -> None:
    till = Till(rules(top_up_max=100))
    assert till.ask(ISSUE, product=1).code == 14
    assert till.ask(ISSUE, product=2, card=87_654_321).code == 12
    assert till.ask(ISSUE, product=1, card=87_654_321, expires=DAY - 1).code == 12
    assert till.ask(ISSUE, product=1, card=87_654_321, expires=DAY).code == 0
    assert till.ask(TOP_UP, amount=101).code == 61
    assert till.ask(TOP_UP, amount=100).code == 0
    till.programme.close_day(DAY)
    assert till.ask(TOP_UP, amount=0, card=87_654_321).code == 54
    assert till.ask(STATUS, status=FROZEN, card=87_654_321).code == 0
    assert till.ask(TOP_UP, amount=0, card=87_654_321).code == 62
    assert till.ask(TOP_UP, amount=0).code == 13
    assert till.ask(TOP_UP, amount=0, terminal=3).code == 58
    assert till.ask(TOP_UP, amount=0, terminal=3, business_date=1).code == 12
    assert till.ask(TOP_UP, amount=0, terminal=3, business_date=1, programme=2).code == 58
    assert till.ask(TOP_UP, amount=0, terminal=3, programme=2, status=1).code == 30
    assert till.ask(REFUND, amount=0, original=CAP).code == 25
    assert till.ask(REFUND, amount=0, original=1).code == 12
    assert till.ask(PURCHASE, amount=1, card_digits=9).code == 14
