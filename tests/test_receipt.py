"""Receipts: what stands on them, how wide they are, and that all of it comes from the answer."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecard import Engine, Secrets, rows
from onecard.client import Answer, Part
from onecard.receipt import Style, columns, render
from onecard.v1 import transaction_pb2
from tests.conftest import DAY, found_chain
from tests.test_whole_card import CARD, OFF, OTHER, RULES, STAFF, VISIT, key

UNITS = {OFF: "5 off", VISIT: "wash"}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Engine]:
    """The chain of the whole card; two cards of one holder, the first with 200.00, coupons and visits."""
    with Engine(tmp_path / "data", secrets=Secrets({1: bytes(range(32))})) as engine:
        found_chain(engine, RULES)
        traces = [1, 2, 3]
        issue = rows.issue(
            card=[CARD, OTHER, STAFF], product=[1, 1, 2], terminal=11, business_date=DAY, trace=traces
        )
        money = rows.top_up(
            card=[CARD, OTHER], amount=[20_000, 5_000], terminal=11, business_date=DAY, trace=[4, 5]
        )
        member = [rows.member(7)]
        holder = rows.set_holder(card=[CARD, OTHER], terminal=11, business_date=DAY, trace=[6, 7])
        pin = rows.with_items(rows.set_pin(card=CARD, **key(8)), [[rows.new_pin("0042")]])
        grant = rows.grant(card=CARD, bundle=1, **key(9))
        asked = rows.together(issue, money, rows.with_items(holder, [member, member]), pin, grant)
        assert not engine.execute(asked)["code"].any()
        yield engine


def receipt(engine: Engine, asked: rows.Batch | rows.Requests, style: Style) -> str:
    answers = engine.execute(asked)
    return render(answers[0], answers.parts_of(0), style=style)


EVERYTHING = """\
            Spring Street 7

Purchase
No.                                   18
Date                          2026-03-02
----------------------------------------
To pay                        CNY 400.00
----------------------------------------
APPROVED IN PART
5 off                              10.00
wash                               30.00
Principal                         200.00
Card 2                             50.00
Cash                               40.00
LEFT TO PAY                        70.00
5 off until 2026-03-31                -2
wash                                  -1
----------------------------------------
Balances
  Principal                         0.00
  Points                               0
  5 off                                1
  wash                                 1

               Thank you
"""


def test_a_purchase_with_everything_fits_on_one_slip(chain: Engine) -> None:
    asked = rows.with_items(
        rows.purchase(card=CARD, amount=40_000, accept_partial=True, **key(20)),
        [
            [
                rows.pin("0042"),
                rows.coupon(OFF, 2),
                rows.pass_(VISIT),
                rows.card(OTHER),
                rows.cash(4_000),
                rows.staff(STAFF),
            ]
        ],
    )
    style = Style(title="Spring Street 7", footer="Thank you", money="CNY", units=UNITS)
    assert receipt(chain, asked, style) == EVERYTHING
    copy = receipt(chain, asked, style)
    assert copy.splitlines()[2] == f"Purchase{'(copy)':>32}"
    assert copy.splitlines()[3:] == EVERYTHING.splitlines()[3:]


def test_a_refund_says_what_comes_back(chain: Engine) -> None:
    buy = rows.with_items(
        rows.purchase(card=CARD, amount=9_000, **key(20)), [[rows.coupon(OFF), rows.cash(500)]]
    )
    (bought,) = chain.execute(buy)
    text = receipt(chain, rows.refund(9_000, sequence=bought["sequence"], **key(21)), Style(units=UNITS))
    assert "Principal                         +85.00" in text
    assert "5 off until 2026-03-31                +1" in text
    assert "Amount                             90.00" in text


def test_the_ways_to_an_answer_give_one_receipt(chain: Engine) -> None:
    asked = rows.with_items(rows.purchase(card=CARD, amount=900, **key(20)), [[rows.coupon(OFF)]])
    answers = chain.execute(asked)
    (row,) = answers
    kinds, part = transaction_pb2, transaction_pb2.Part
    message = transaction_pb2.Answer(
        sequence=int(row["sequence"]),
        kind=3,
        business_date=int(f"{DAY:%Y%m%d}"),
        amount=900,
        principal=-400,
        principal_balance=19_600,
        parts=[
            transaction_pb2.Part(
                kind=transaction_pb2.PART_KIND_UNIT, purse=OFF, amount=-1, balance=2, expires=20260331
            ),
            part(kind=kinds.PART_KIND_PAID_BY_UNIT, purse=OFF, amount=500),
            transaction_pb2.Part(
                kind=transaction_pb2.PART_KIND_PRINCIPAL, purse=1, amount=-400, balance=19_600
            ),
        ],
    )
    assert render(row, answers.parts_of(0)) == render(message)


PLAIN = Answer(
    kind=3,
    sequence=9,
    business_date=DAY,
    amount=9_500,
    discount=500,
    principal=-4_500,
    bonus=-3_000,
    offset=2_000,
    points_spent=20_000_000,
    points_earned=755_000,
    principal_balance=5_500,
    points_balance=1_234_567,
)


def test_a_plain_purchase_needs_no_parts() -> None:
    assert (
        render(PLAIN, style=Style(width=32))
        == """\
Purchase
No.                            9
Date                  2026-03-02
--------------------------------
Price                     100.00
Discount                   -5.00
To pay                     95.00
--------------------------------
Points                     20.00
Bonus                      30.00
Principal                  45.00
Points                     -2000
Points                     +75.5
--------------------------------
Balances
  Principal                55.00
  Points                123.4567
"""
    )


CHINESE = {
    "purchase": "消费",
    "no": "流水号",
    "date": "日期",
    "list": "原价",
    "discount": "折扣",
    "due": "应付",
    "principal": "本金",
    "bonus": "赠送金",
    "points": "积分",
    "balances": "余额",
    "code_51": "余额不足",
}


def test_wide_characters_fill_two_columns() -> None:
    style = Style(width=32, title="长宁路便利店（上海市长宁区长宁路一百二十号）", money="元", words=CHINESE)
    text = render(PLAIN, style=style)
    assert "应付                    元 95.00" in text
    assert {columns(line) for line in text.splitlines() if line.startswith(("本金", "积分", "流水号"))} == {
        32
    }
    declined = Answer(code=51, kind=3, message="insufficient funds", principal_balance=1)
    assert "余额不足" in render(declined, style=style)


def test_a_refusal_says_why() -> None:
    text = render(Answer(code=57, kind=3, message="not permitted", reason=3, sequence=4, business_date=DAY))
    assert text.splitlines()[3:] == ["-" * 40, f"DECLINED{57:>32}", "not permitted", "used, or not there"]
    assert "no such code" not in render(Answer(code=14, kind=3, message="invalid card number"))


@pytest.mark.parametrize(
    ("scale", "text"), [(0, "-12345"), (2, "-123.45"), (3, "-12.345"), (8, "-0.00012345")]
)
def test_money_has_the_scale_of_its_programme(scale: int, text: str) -> None:
    assert text in render(Answer(kind=3, amount=1, discount=12_345), style=Style(scale=scale))


@pytest.mark.parametrize("width", [31, 49])
def test_a_slip_has_32_to_48_columns(width: int) -> None:
    with pytest.raises(ValueError, match="32 to 48"):
        Style(width=width)


amounts = st.integers(-(10**16), 10**16)
dates = st.none() | st.dates(datetime.date(1970, 1, 2), datetime.date(2200, 1, 1))
parts = st.builds(
    Part,
    account=st.sampled_from([0, 1, 2, 3, 6, 16, 17, 33, 34, 45, 99]),
    card=st.integers(0, 3),
    purse=st.sampled_from([0, 1, 2, 3, 16, 17, 65_535]),
    expires=dates,
    amount=amounts,
    balance=amounts,
)
answers = st.builds(
    Answer,
    kind=st.integers(0, 22),
    code=st.sampled_from([0, 10, 12, 51, 57, 77]),
    message=st.text(max_size=60),
    sequence=st.integers(0, 2**64 - 1),
    business_date=dates,
    amount=amounts,
    discount=amounts,
    unpaid=amounts,
    cash=amounts,
    principal=amounts,
    points_earned=amounts,
    shortfall_points=amounts,
    principal_balance=amounts,
    points_balance=amounts,
    reason=st.integers(0, 12),
    parts=st.lists(parts, max_size=6).map(tuple),
)


@given(answers, st.integers(32, 48), st.text("长a é\u0301", max_size=60), st.integers(0, 8))
def test_no_line_is_too_wide(answer: Answer, width: int, name: str, scale: int) -> None:
    style = Style(
        width, title=name, footer=name, money=name[:16], scale=scale, units={16: name, 17: "x" * 64}
    )
    lines = render(answer, style=style).splitlines()
    assert all(columns(line) <= width for line in lines)
