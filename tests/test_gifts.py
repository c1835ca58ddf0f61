"""What is given: the model against numbers worked out by hand, the last of a stock, mutants of the model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onecard import Engine, Rules, rows
from tests.card_history import card_history_of
from tests.conftest import DAY as ENGINE_DAY
from tests.conftest import found_chain
from tests.drivers import EngineDriver
from tests.histories import Coverage, Disagreement, play
from tests.model import (
    AUTHORISE,
    BY_CARD,
    CAPTURE,
    COUPON,
    GRANT,
    HOLDER,
    ISSUE,
    MEMBER,
    ONE,
    PURCHASE,
    REFUND,
    REVERSAL,
    TOP_UP,
    Item,
    Part,
    gifts,
    sale,
    undo,
)
from tests.test_card_model import balance, units
from tests.test_model import DAY, Till, changed, rules
from tests.test_rules import after

OFF = {"id": 16, "name": "five off", "kind": "coupon", "value": 500}
THERMOS = {"id": 1, "name": "thermos", "price": 300, "points": 200_000, "stock": 2, "worth": 2_500}
TEA = {"id": 2, "name": "tea", "per_card": 1, "grants": [{"unit": 16, "amount": 2, "days": 3}]}
WELCOME = {"id": 3, "name": "welcome"} | {
    "grants": [{"unit": 3, "amount": 50_000}, {"unit": 2, "amount": 70}, {"unit": 16, "amount": 3}]
}
OTHER = {"card": 87_654_321, "card_digits": 8}


def till(**changes: Any) -> Till:
    """A till with a catalogue; the card has 1,000.00 and earns a point a minor unit."""
    waterfall = [{"pay": pay, "share": ONE, "price": 0, "min_points": 0} for pay in ("bonus", "principal")]
    tables = rules(waterfall=waterfall, top_up_bonus=[], accrual=ONE, compounding_rate=0)
    made = Till(tables | {"units": [OFF], "bundles": [THERMOS, TEA, WELCOME]} | changes)
    assert made.ask(TOP_UP, amount=100_000).code == 0
    return made


def test_goods_for_points_and_money_until_they_are_sold_out() -> None:
    at = till()
    assert at.ask(GRANT, product=1, amount=1, flags=BY_CARD).code == 51
    assert at.ask(PURCHASE, amount=50_000, channel=0).code == 0
    at.programme.versions[-1][2]["products"][0]["accrual"] = 10 * ONE
    assert at.ask(PURCHASE, amount=40_000).points_earned == 400_000
    # 450,000 points and 100.00; one costs 200,000 and 3.00, the store gets 25.00.
    sold = at.ask(GRANT, product=1, amount=1, flags=BY_CARD, terminal=2)
    assert changed(sold) == {"amount": 300, "principal": -300, "points_spent": 200_000}
    assert sold.parts == (
        Part(1, 0, 1, 0, 0, -300, 9_700),
        Part(34, 0, 0, 0, 0, -300, 0),
        Part(3, 0, 3, 0, 0, -200_000, 250_000),
        Part(34, 0, 0, 0, 0, 2_500, 0),
    )
    assert [row["sold"] for row in at.programme.positions()] == [90_000, 2_500]
    assert at.programme.trial_balance()["totals"][34] == 300 - 2_500
    both = at.ask(GRANT, product=1, amount=2)
    assert (both.code, both.reason) == (65, 12)
    assert at.ask(GRANT, product=1, amount=1).code == 0
    assert at.ask(GRANT, product=1, amount=1).reason == 12
    # A third of the price back: floor of the points, ceil(2,500 / 3) of the goods; it stays counted.
    part = at.ask(REFUND, amount=100, original=sold.sequence)
    assert changed(part) == {"amount": 100, "principal": 100, "points_spent": -66_666}
    assert at.programme.trial_balance()["totals"][34] == 2 * (300 - 2_500) - 100 + 834
    assert at.ask(GRANT, product=1, amount=1).reason == 12
    assert at.ask(REFUND, amount=200, original=sold.sequence).points_spent == -133_334
    assert [row["sold"] for row in at.programme.positions()] == [90_000 + 2_500 - 2_500, 2_500]


def test_a_reversal_puts_back_what_was_given_out() -> None:
    at = till(bundles=[THERMOS | {"points": 0}])
    first, second = (at.ask(GRANT, product=1, amount=1) for _ in range(2))
    assert (first.code, second.code, at.ask(GRANT, product=1, amount=1).reason) == (0, 0, 12)
    assert at.ask(REVERSAL, original=first.sequence).code == 0
    assert at.ask(GRANT, product=1, amount=1).code == 0
    assert at.ask(GRANT, product=1, amount=1).reason == 12


def test_a_band_gives_points_a_bundle_and_a_lower_price_and_takes_them_back() -> None:
    band = {"from": 1_000, "bonus": 10, "rate": 0, "points": 77, "bundle": 3, "price": 9 * ONE // 10}
    at = till(top_up_bonus=[band])
    top_up = at.ask(TOP_UP, amount=1_005)
    # floor(1,005 / 10) = 100 of it are borne by the issuer, as 10 and 70 of bonus are.
    assert changed(top_up) == {
        "amount": 1_005,
        "discount": 100,
        "principal": 1_005,
        "bonus": 80,
        "points_earned": 50_077,
    }
    assert at.programme.trial_balance()["totals"][32] == -10_080 - 180
    assert units(balance(at))[16, 0] == 6
    back = at.ask(REFUND, amount=905, original=top_up.sequence)
    assert changed(back) == {"amount": 905, "principal": -1_005, "bonus": -80, "points_earned": -50_077}
    assert at.ask(REFUND, amount=1, original=top_up.sequence).code == 13


def test_who_becomes_a_member_is_given_something_once() -> None:
    at = till(gifts={"enrolment": 3})
    assert at.ask(ISSUE, product=1, **OTHER).code == 0
    assert at.ask(HOLDER, items=(Item(MEMBER),)).parts == ()
    given = at.ask(HOLDER, items=(Item(MEMBER, low=7),))
    assert (given.amount, given.points_earned, given.bonus) == (0, 50_000, 70)
    assert [part.purse for part in given.parts] == [3, 2, 16]
    assert at.ask(HOLDER, items=(Item(MEMBER, low=8),)).parts == ()
    assert at.ask(HOLDER, items=(Item(MEMBER, low=8),), **OTHER).parts == ()
    assert at.ask(HOLDER, items=(Item(MEMBER),), **OTHER).code == 0
    assert at.ask(HOLDER, items=(Item(MEMBER, low=9),), **OTHER).points_earned == 50_000
    assert at.ask(REVERSAL, original=given.sequence).code == 12


def test_the_first_purchase_brings_something_until_it_is_reversed() -> None:
    at = till(gifts={"first_purchase": 3, "first_purchase_min": 900})
    held = at.ask(AUTHORISE, amount=2_000)
    assert held.points_earned == 0
    first = at.ask(PURCHASE, amount=1_000)
    assert (first.points_earned, first.bonus) == (51_000, 70)
    assert at.ask(CAPTURE, amount=2_000, original=held.sequence, card=0, card_digits=0).points_earned == 2_000
    assert at.ask(REVERSAL, original=first.sequence).points_earned == -51_000
    second = at.ask(PURCHASE, amount=2_000)
    assert second.points_earned == 52_000
    assert at.ask(PURCHASE, amount=10_000, items=(Item(COUPON, unit=16, amount=2),)).code == 0
    # Half of it back: half of points and bonus, and the one coupon that is left of floor(3 / 2).
    half = at.ask(REFUND, amount=1_000, original=second.sequence)
    assert (half.points_earned, half.shortfall_money) == (-26_000, 35)
    assert units(balance(at)) == {}
    assert at.ask(REFUND, amount=1_000, original=second.sequence).code == 0


def test_a_small_first_purchase_brings_nothing_ever() -> None:
    at = till(gifts={"first_purchase": 3, "first_purchase_min": 900})
    assert at.ask(PURCHASE, amount=899).points_earned == 899
    assert at.ask(PURCHASE, amount=900).points_earned == 900


def test_a_day_earns_no_more_than_its_cap() -> None:
    at = till()
    product = at.programme.versions[-1][2]["products"][0]
    product["points_per_day"] = 1_500
    held = at.ask(AUTHORISE, amount=900)
    earned = [at.ask(PURCHASE, amount=amount).points_earned for amount in (500, 400, 300)]
    assert earned == [500, 100, 0]
    assert at.ask(CAPTURE, amount=900, original=held.sequence, card=0, card_digits=0).points_earned == 900
    at.programme.close_day(DAY)
    sold = at.ask(PURCHASE, amount=5_000)
    assert sold.points_earned == 1_500
    assert at.ask(REFUND, amount=5_000, original=sold.sequence).points_earned == -1_500
    assert at.ask(PURCHASE, amount=5_000).points_earned == 0


# The engine


def test_the_last_of_a_stock_is_given_once(engine: Engine) -> None:
    """Many ask at once, in threads and batches: as many are given as there are."""
    text = after('[[bundles]]\nid = 1\nname = "thermos"\nworth = "25.00"\nstock = 100\n')
    found_chain(engine, Rules.parse(text))
    cards = [f"62000000{number:08d}" for number in range(400)]
    traces = np.arange(1, len(cards) + 1)
    issued = rows.issue(cards, 1, terminal=11, business_date=ENGINE_DAY, trace=traces)
    assert not engine.execute(issued)["code"].any()

    def ask(first: int) -> list[tuple[int, int]]:
        some = slice(first, first + 25)
        grants = rows.grant(cards[some], 1, terminal=11, business_date=ENGINE_DAY, trace=1_000 + traces[some])
        answers = engine.execute(grants)
        return [(int(answer["code"]), int(answer["reason"])) for answer in answers]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for some in pool.map(ask, range(0, len(cards), 25)) for answer in some]
    assert sorted(answers) == [(0, 0)] * 100 + [(65, 12)] * 300
    assert engine.positions().stores[0].sold == 100 * 2_500


MUTANTS: list[tuple[Any, str, Callable[..., Any]]] = [
    (gifts, "SOLD_OUT", 8),  # type: ignore[list-item]
    (gifts, "cards_of", lambda _draft, card, _member: [card]),
    (gifts, "check_dates", lambda *_: None),
    (undo, "take_back_given", lambda *_: None),
    (sale, "give_with_first", lambda _: None),
    (sale, "day_of", lambda _: (0, 0, 0)),
]
"""What the model could do wrong: the engine does not agree for long."""


@pytest.mark.parametrize(("module", "name", "wrong"), MUTANTS, ids=[name for _, name, _ in MUTANTS])
def test_a_mutant_of_the_model_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(module, name, wrong)
    driver = EngineDriver(str(tmp_path))
    try:
        with pytest.raises((Disagreement, AssertionError, KeyError)):
            play([card_history_of(1 + seed, seed) for seed in range(150)], driver, Coverage())
    finally:
        driver.close()
