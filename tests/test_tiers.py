"""Tiers: reached at once, kept until their review, set by hand; rules that ask for them; birthdays."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from onecard import Engine, Rules, rows
from onecard.codes import Code
from onecard.members import Member
from tests.conftest import DAY
from tests.test_rules import GOOD, problems

CARD = "6200000000000001"
TIERS = """
[[card_units]]
id = 40
name = "growth"
kind = "growth"
[growth_value]
unit = "growth"
per_money = "1"
valid = { days = 3 }
tier_valid = { days = 2 }
[[tiers]]
id = 1
name = "silver"
from = "100"
[[tiers]]
id = 5
name = "gold"
from = "1000"
[[discounts]]
id = 1
name = "gold"
rate = "10%"
when = { tiers = ["gold"] }
"""
BIRTHDAY = """
[[discounts]]
id = 1
name = "birthday"
value = "5.00"
when = { birthday = "day" }
[[accruals]]
id = 1
name = "birthday week"
points = "7"
when = { birthday = "week" }
"""


class Shop:
    """One card at one terminal, over several days."""

    def __init__(self, path: Path, rules: str) -> None:
        self.path = path
        self.day = DAY
        self.trace = 0
        self.engine = Engine(path)
        self.engine.register_programme(1, "one", DAY)
        self.engine.register_merchant(1, "first")
        self.engine.register_store(1, 1, "here")
        self.engine.register_terminal(11, 1)
        assert self.engine.publish(Rules.parse(GOOD + rules)) == Code.APPROVED
        made = rows.together(
            rows.issue(card=CARD, product=1, **self.header()),
            rows.top_up(card=CARD, amount=100_000_000, **self.header()),
        )
        assert not self.engine.execute(made)["code"].any()

    def header(self) -> rows.Header:
        self.trace += 1
        return {"terminal": 11, "business_date": self.day, "trace": self.trace}

    def buy(self, amount: int) -> tuple[int, int, int]:
        """Paid, discount, and the tier that the card came to."""
        [answer] = self.engine.execute(rows.purchase(card=CARD, amount=amount, **self.header()))
        assert answer["code"] == Code.APPROVED
        return int(answer["amount"]), int(answer["discount"]), int(answer["tier"])

    def tier(self) -> int:
        return int(self.engine.execute(rows.balance(CARD, terminal=11))["tier"][0])

    def close_day(self) -> None:
        assert self.engine.close_day(self.day).code == Code.APPROVED
        self.day += datetime.timedelta(1)

    def reopen(self) -> None:
        self.engine.close()
        self.engine = Engine(self.path)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(tmp_path / "data", TIERS)
    yield opened
    opened.engine.close()


def test_a_tier_is_reached_at_once_and_prices_the_next_sale(shop: Shop) -> None:
    assert shop.buy(9_999) == (9_999, 0, 0)
    assert shop.buy(100) == (100, 0, 1)
    assert shop.buy(90_000) == (90_000, 0, 5)
    assert shop.tier() == 5
    assert shop.buy(10_000) == (9_000, 1_000, 0)
    shop.reopen()
    assert shop.buy(10_000) == (9_000, 1_000, 0)
    shop.engine.checkpoint()
    shop.reopen()
    assert (shop.tier(), shop.buy(10_000)) == (5, (9_000, 1_000, 0))


def test_a_tier_prices_the_next_sale_of_the_same_batch(shop: Shop) -> None:
    """Rules are looked up some rows ahead: what a row changes counts for the next all the same."""

    def buy(amount: int) -> rows.Batch:
        return rows.purchase(card=CARD, amount=amount, **shop.header())

    reached = [buy(100), buy(100_000), *(buy(1_000) for _ in range(40))]
    lost = [rows.set_tier(CARD, 0, **shop.header()), *(buy(1_000) for _ in range(40))]
    answers = shop.engine.execute(rows.together(*reached, *lost))
    assert not answers["code"].any()
    # A sale on a card without a tier reaches it again, and the next has it.
    assert answers["discount"].tolist() == [0, 0, *[100] * 40, 0, 0, *[100] * 39]


def test_a_tier_is_reviewed_at_the_close_of_its_last_date(shop: Shop) -> None:
    shop.buy(100_000)
    shop.close_day()
    assert shop.tier() == 5
    shop.buy(20_000)
    shop.close_day()
    # The growth value of the first day counts for the third, too, and keeps the tier for two days more.
    assert shop.tier() == 5
    shop.close_day()
    assert shop.tier() == 5
    shop.close_day()
    # 180 of the second day has lapsed with the first: nothing is left.
    assert shop.tier() == 0
    assert shop.buy(10_000)[1:] == (0, 1)


def test_a_review_outlives_a_crash_and_a_checkpoint(shop: Shop) -> None:
    shop.buy(100_000)
    shop.engine.checkpoint()
    for _ in range(2):
        shop.close_day()
        shop.reopen()
    assert shop.tier() == 5
    shop.engine.checkpoint()
    for _ in range(2):
        shop.close_day()
    before = shop.engine.state_digest()
    shop.reopen()
    assert (shop.tier(), shop.engine.state_digest()) == (0, before)


def test_what_is_refunded_earns_nothing_but_lowers_no_tier_at_once(shop: Shop) -> None:
    [sold] = shop.engine.execute(rows.purchase(card=CARD, amount=100_000, **shop.header()))
    shop.engine.execute(rows.refund(100_000, sequence=int(sold["sequence"]), **shop.header()))
    answers = shop.engine.execute(rows.balance(CARD, terminal=11))
    assert (answers["tier"][0], len(answers.parts_of(0))) == (5, 0)
    shop.close_day()
    shop.close_day()
    assert shop.tier() == 0


def test_a_tier_is_set_by_hand(shop: Shop) -> None:
    def set_tier(tier: int) -> int:
        return int(shop.engine.execute(rows.set_tier(CARD, tier, **shop.header()))["code"][0])

    assert [set_tier(tier) for tier in (5, 3, 32, 300)] == [0, 12, 12, 12]
    assert shop.buy(10_000) == (9_000, 1_000, 0)
    assert (set_tier(0), shop.tier()) == (0, 0)


def test_growth_value_is_never_spent_or_transferred(shop: Shop) -> None:
    shop.buy(10_000)
    other = "6200000000000002"
    shop.engine.execute(rows.issue(card=other, product=1, **shop.header()))
    moved = rows.with_items(rows.transfer(other, 40, 1, **shop.header()), [[rows.card(CARD)]])
    assert shop.engine.execute(moved)["code"].tolist() == [Code.INVALID_TRANSACTION]


def test_mistakes_are_named() -> None:
    text = GOOD + TIERS.replace('kind = "growth"', 'kind = "value"').replace('"1"', '"10001"')
    assert [line.partition(": ")[2] for line in problems(text)] == [
        "`growth` is of kind = 'value': growth value is counted by a unit of kind = \"growth\"",
        "more growth value than the engine can count: at most 10000",
    ]


# Birthdays


def test_a_birthday_counts_on_its_day_and_in_its_week(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "data", BIRTHDAY)
    born = DAY + datetime.timedelta(2)
    member = Member(id=7, birthday=born.replace(year=1984), enrolled=DAY)
    assert shop.engine.enrol(member) == Code.APPROVED
    holder = rows.with_items(rows.set_holder(CARD, **shop.header()), [[rows.member(7)]])
    assert shop.engine.execute(holder)["code"].tolist() == [Code.APPROVED]

    def buy() -> tuple[int, int]:
        [answer] = shop.engine.execute(rows.purchase(card=CARD, amount=10_000, **shop.header()))
        return int(answer["discount"]), int(answer["points_earned"])

    assert buy() == (0, 70_000)
    shop.close_day()
    shop.close_day()
    retried = rows.purchase(card=CARD, amount=10_000, **shop.header())
    [first] = shop.engine.execute(retried)
    assert (first["discount"], first["points_earned"]) == (500, 70_000)
    # What is told of a member counts from then on; a retry is answered as it was.
    assert shop.engine.erase_member(7) == Code.APPROVED
    assert buy() == (0, 0)
    [again] = shop.engine.execute(retried)
    assert (again["replayed"], again["discount"]) == (1, 500)
    shop.reopen()
    assert buy() == (0, 0)
    shop.engine.close()


@pytest.mark.parametrize("by_trigger", [False, True])
@pytest.mark.parametrize(
    ("first", "then", "days"),
    [(4, 2, 4), (2, 4, 4), (0, 2, 0), (2, 0, 0)],
    ids=["shorter", "longer", "never-before", "never-now"],
)
def test_a_trigger_never_brings_a_last_date_forward(
    tmp_path: Path, first: int, then: int, days: int, by_trigger: bool
) -> None:
    """Days of 0: it is not reviewed. By hand a tier lasts as the rules in force say, whatever was before."""

    def lasting(days: int) -> str:
        growth, _, tiers = TIERS.partition("tier_valid = { days = 2 }\n")
        if days:
            return f"{growth}tier_valid = {{ days = {days} }}\n{tiers}"
        return growth.partition("[growth_value]")[0] + tiers

    shop = Shop(tmp_path / "data", lasting(first))
    by_hand = rows.set_tier(CARD, 5, **shop.header())
    assert shop.engine.execute(by_hand)["code"][0] == Code.APPROVED
    assert shop.engine.publish(Rules.parse(GOOD + lasting(then))) == Code.APPROVED
    again: rows.Requests | rows.Batch = rows.set_tier(CARD, 5, **shop.header())
    if by_trigger:
        again = rows.with_items(rows.set_tier(None, 5, **shop.header()), [[rows.cursor(1, 1, 0)]])
    assert shop.engine.execute(again)["code"][0] == Code.APPROVED
    kept = 0
    while shop.tier() and kept < 9:
        shop.close_day()
        kept += 1
    assert kept == ((days if by_trigger else then) or 9)
    shop.engine.close()
