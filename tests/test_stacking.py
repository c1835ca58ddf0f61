"""Discounts and accruals: what they compile to, what is wrong with them, what a purchase makes of them."""

import datetime
import random
import re
from pathlib import Path

import numpy as np
import pytest

from onecard import Engine, Rules, rows
from onecard.codes import LINE_PART, Code
from tests.conftest import DAY
from tests.test_rules import GOOD, after, problems

ROOT = Path(__file__).parent.parent
CARD = "6200000000000001"
NOON = 43_200


def rule(table: str, *lines: str, number: int = 1) -> str:
    """A rule: its own lines begin two lines after its header."""
    return "\n".join([f"[[{table}]]", f"id = {number}", f'name = "rule {number}"', *lines, ""])


def discount(*lines: str, number: int = 1) -> str:
    return rule("discounts", *lines, number=number)


def accrual(*lines: str, number: int = 1) -> str:
    return rule("accruals", *lines, number=number)


# What they compile to


def test_the_example_of_the_docs_compiles() -> None:
    page = (ROOT / "docs" / "rules.md").read_text()
    section = page.partition("## Discounts and accruals")[2].partition("\n## ")[0]
    text, *others = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    baskets, regions, tiers = (Rules.parse(after(other)).tables for other in others[:3])
    assert tiers["growth_value"] == {
        "unit": 40,
        "days": 365,
        "rate": 10**10,
        "round": "month",
        "tier_days": 365,
        "tier_round": "year",
    }
    assert [(tier["id"], tier["from"]) for tier in tiers["tiers"]] == [(1, 1_000), (2, 5_000)]
    assert [one["when"] for one in baskets["discounts"]] == [{"categories": [2]}]
    assert [one["name"] for one in regions["regions"]] == ["country", "north"]
    tables = Rules.parse(after(text)).tables
    assert tables["discounts"] == [
        {"id": 1, "name": "member day", "rate": 10**11, "max": 5_000}
        | {"when": {"month_days": 1 << 8 | 1 << 18 | 1 << 28, "stores": [1, 2]}},
        {"id": 2, "name": "a quiet afternoon", "value": 300, "stacking": "add"}
        | {"when": {"weekdays": 0b111, "times": [[50_400, 59_400]], "min_spend": 3_000}},
    ]
    day = datetime.date(2026, 11, 1).toordinal() - 719_163
    assert tables["accruals"] == [
        {"id": 1, "name": "double points online", "factor": 2 * 10**12, "max": 5_000_000, "priority": 1}
        | {"when": {"channels": [2], "products": [1], "merchants": [7], "from": day, "until": day + 29}},
    ]


def test_rules_are_sorted_by_id_and_without_what_is_at_its_default() -> None:
    text = discount('value = "1"', number=2) + discount(
        'value = "1"', 'stacking = "best"', "priority = 0", "when = {}", number=1
    )
    assert [list(line) for line in Rules.parse(after(text)).tables["discounts"]] == [
        ["id", "name", "value"]
    ] * 2


def test_what_they_do_is_said() -> None:
    text = discount(
        'rate = "10%"',
        'max = "5"',
        'when = { stores = [2, 1], times = ["10:00-14:00"], min_spend = "20.00" }',
    ) + accrual('points = "5"', 'stacking = "exclusive"', "priority = 2", 'when = { weekdays = ["sun"] }')
    said = Rules.parse(after(text)).explain()
    assert (
        "Discount 1, rule 1: 10% off, at most 5 CNY in stores 1, 2, at 10:00-14:00, from 20.00 CNY on; "
        "only the best of these counts." in said
    )
    assert (
        "Accrual 1, rule 1: 5 points more on Sundays; where it applies no other does, at priority 2." in said
    )


# What is wrong with them


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            discount(),
            ['10: a discount takes off a `rate` or a `value`: write one, rate = "10%" or value = "5.00"'],
        ),
        (
            discount('rate = "1%"', 'value = "1"'),
            ['10: a discount takes off a `rate` or a `value`: write one, rate = "10%" or value = "5.00"'],
        ),
        (
            discount('rate = "101%"'),
            ["13: a discount of 101% is impossible: it is above 0% and at most 100%"],
        ),
        (discount('value = "0"'), ["13: a discount of 0 takes nothing off: write what it takes off"]),
        (
            discount('value = "1"', 'max = "1"'),
            ["14: `max` limits a `rate`: remove it, `value` is the limit itself"],
        ),
        (discount('value = "0.001"'), ["13: 0.001 has too many decimal places: CNY can have at most 2"]),
        (
            accrual(),
            [
                "10: an accrual gives one of `factor`, `points_per_money` and `points`: "
                'write one, like factor = "2", points_per_money = "0.5" or points = "100"'
            ],
        ),
        (accrual('factor = "1"'), ["13: `factor` is 1: use more than 1, and at most 100"]),
        (accrual('factor = "101"'), ["13: `factor` is 101: use more than 1, and at most 100"]),
        (accrual('points = "0"'), ["13: `points` of 0 gives nothing: raise it, or remove the rule"]),
        (
            accrual('points = "1"', 'max_points = "0"'),
            ["14: `max_points` of 0 would give nothing: leave it out for no limit"],
        ),
        (
            accrual('points_per_money = "10001"'),
            ["13: more points than the engine can count: at most 10000 per unit of money"],
        ),
        (
            discount('value = "1"', 'stacking = "sum"'),
            ["14: `stacking`: 'sum' is unknown: write 'best', 'add' or 'exclusive'"],
        ),
        (discount('value = "1"', "priority = 1001"), ["14: `priority` is 1001: use -1000 to 1000"]),
        (
            discount('value = "1"') + discount('value = "1"'),
            [
                "15: discount 1 is there already: give this one another id",
                "16: discount rule 1 is there already: give this one another name",
            ],
        ),
        # When they apply
        (
            discount('value = "1"', 'when = { products = ["standrad"] }'),
            ["14: unknown product `standrad`: did you mean `standard`?"],
        ),
        (
            discount('value = "1"', 'when = { channels = ["web"] }'),
            ["14: unknown channel `web`: add it to [[channels]]"],
        ),
        (discount('value = "1"', "when = { stores = [3, 3] }"), ["14: store 3 stands twice: remove one"]),
        (
            discount('value = "1"', "when = { stores = [] }"),
            ["14: `stores` is empty: add the numbers of stores, or leave it out: all"],
        ),
        (discount('value = "1"', "when = { month_days = [32] }"), ["14: `month_days` is 32: use 1 to 31"]),
        (
            discount('value = "1"', "when = { from = 2026-02-01, until = 2026-01-31 }"),
            ["14: no day is from 2026-02-01 until 2026-01-31: mend one of them"],
        ),
        (
            discount('value = "1"', 'when = { times = ["22:00-02:00"] }'),
            [
                "14: `times`: 22:00-02:00 ends before it begins: write two, "
                'like "22:00-24:00" and "00:00-02:00"'
            ],
        ),
        (
            discount('value = "1"', 'when = { times = ["10:00-24:01"] }'),
            ["14: `times`: 10:00-24:01 is no time of day: they run from 00:00 to 24:00"],
        ),
        (
            discount('value = "1"', 'when = { times = ["10-12"] }'),
            ['14: `times`: write times of day as a string in quotes, like "10:00-14:00"'],
        ),
        (
            discount('value = "1"', 'when = { times = ["10:00-12:00", "09:00-10:01"] }'),
            ["14: two of the times overlap: write each part of the day once"],
        ),
        (
            discount('value = "1"', "when = { store = [1] }"),
            ["14: unknown key `store`: did you mean `stores`?"],
        ),
    ],
)
def test_mistakes_are_named(text: str, says: list[str]) -> None:
    assert problems(after(text)) == says


@pytest.mark.parametrize(
    ("wide", "narrow", "never"),
    [
        (['stacking = "exclusive"'], ["when = { stores = [1] }"], True),
        (['stacking = "exclusive"', "when = { stores = [1, 2] }"], ["when = { stores = [1] }"], True),
        (['stacking = "exclusive"', "when = { stores = [1] }"], ["when = { stores = [1, 2] }"], False),
        (['stacking = "exclusive"', "when = { stores = [1] }"], ["when = { merchants = [1] }"], False),
        (["priority = 1"], [], True),
        (["priority = 1"], ['stacking = "add"'], False),
        (
            ['stacking = "exclusive"'],
            ['stacking = "exclusive"', "priority = 1", "when = { stores = [1] }"],
            False,
        ),
        (['stacking = "exclusive"', "priority = 2"], ['stacking = "exclusive"', "priority = 1"], True),
        ([], ["priority = -1"], True),
        (
            ["priority = 1", 'when = { times = ["10:00-20:00"] }'],
            ['when = { times = ["12:00-13:00"] }'],
            True,
        ),
        (
            ["priority = 1", 'when = { times = ["10:00-20:00"] }'],
            ['when = { times = ["12:00-21:00"] }'],
            False,
        ),
        (["priority = 1", "when = { from = 2026-01-01 }"], ["when = { from = 2026-01-02 }"], True),
        (["priority = 1", "when = { until = 2026-01-01 }"], ["when = { until = 2026-01-02 }"], False),
        (["priority = 1", 'when = { min_spend = "5" }'], ['when = { min_spend = "6" }'], True),
        (["priority = 1", 'when = { min_spend = "5" }'], [], False),
    ],
)
def test_a_rule_that_never_counts_is_named(wide: list[str], narrow: list[str], never: bool) -> None:
    text = discount('value = "1"', *wide, number=1) + discount('value = "1"', *narrow, number=2)
    line = 10 + 4 + len(wide)
    never_counts = (
        f"{line}: `rule 2` never counts: `rule 1` applies wherever it does, and before it; "
        "narrow the one, or raise the priority of the other"
    )
    if never:
        assert problems(after(text)) == [never_counts]
    else:
        assert len(Rules.parse(after(text)).tables["discounts"]) == 2


def test_rules_that_name_too_much_together_are_named() -> None:
    stores, merchants = list(range(1, 10_001)), list(range(1, 501))
    wide = f"when = {{ stores = {stores}, merchants = {merchants} }}"
    text = discount('value = "1"', number=1) + accrual('points = "1"', wide)
    assert problems(after(text)) == [
        "14: discounts and accruals name 5,000,001 combinations of stores, products and so on, this one "
        "5,000,000: at most 4,194,304; name merchants instead of stores, or leave out what all have"
    ]


def test_without_a_discount_of_the_product_one_of_low_priority_counts(shop: Engine) -> None:
    low = discount('rate = "10%"', "priority = -1")
    open_card(shop, GOOD + low)
    assert sell(shop, 11, 10) == (9_000, 1_000, 0)
    own = GOOD.replace('name = "standard"\n', 'name = "standard"\ndiscount = "2%"\n')
    assert shop.publish(Rules.parse(own + low)) == Code.APPROVED
    assert sell(shop, 11, 11) == (9_800, 200, 0)


@pytest.mark.parametrize("date", [2**31 - 1, -(2**31), -1])
@pytest.mark.parametrize("second", [-1, 0, 2**31 - 1, -(2**31)])
def test_a_date_that_is_none_is_refused_where_there_are_rules(shop: Engine, date: int, second: int) -> None:
    open_card(shop, GOOD + discount('rate = "10%"'))
    row = rows.purchase(card=CARD, amount=100, terminal=11, trace=10, business_date=DAY)
    row["business_date"], row["local_time"] = date, second
    assert shop.execute(row)["code"].tolist() == [Code.INVALID_TRANSACTION]
    assert sell(shop, 11, 10) == (9_000, 1_000, 0)


# What a purchase makes of them


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """Two stores of two merchants with a terminal each, and no rules yet."""
    codes = [
        engine.register_programme(1, "one", DAY),
        engine.register_merchant(1, "first"),
        engine.register_merchant(2, "second"),
        engine.register_store(1, 1, "here"),
        engine.register_store(2, 2, "there"),
        engine.register_terminal(11, 1),
        engine.register_terminal(12, 2),
    ]
    assert set(codes) == {Code.APPROVED}
    return engine


def sell(
    engine: Engine, terminal: int, trace: int, amount: int = 10_000, at: int = NOON
) -> tuple[int, int, int]:
    """Amount, discount and points of a purchase."""
    header: rows.Header = {"terminal": terminal, "business_date": DAY, "trace": trace}
    header["local_time"] = at
    answer = engine.execute(rows.purchase(card=CARD, amount=amount, **header))
    assert answer["code"][0] == Code.APPROVED
    amount, discount, points = (int(answer[name][0]) for name in ("amount", "discount", "points_earned"))
    return amount, discount, points


def open_card(engine: Engine, rules: str) -> None:
    assert engine.publish(Rules.parse(rules)) == Code.APPROVED
    header: rows.Header = {"terminal": 11, "business_date": DAY, "trace": 1}
    made = rows.together(
        rows.issue(card=CARD, product=1, **header),
        rows.top_up(card=CARD, amount=10_000_000, **header | {"trace": 2}),
    )
    assert not engine.execute(made)["code"].any()


def test_a_purchase_by_hand(shop: Engine) -> None:
    weekday = DAY.strftime("%a").lower()
    text = (
        GOOD.replace('name = "standard"\n', 'name = "standard"\ndiscount = "2%"\npoints_per_money = "1"\n')
        + discount('rate = "5%"', "when = { merchants = [2] }", number=1)
        + discount(
            'value = "1.50"',
            'stacking = "add"',
            f'when = {{ weekdays = ["{weekday}"], times = ["12:00-13:00"] }}',
            number=2,
        )
        + accrual('factor = "3"', "when = { stores = [2] }", number=1)
        + accrual('points = "10"', 'stacking = "add"', 'when = { min_spend = "200" }', number=2)
    )
    open_card(shop, text)
    assert sell(shop, 11, 10, at=NOON - 1) == (9_800, 200, 98 * 10_000)
    assert sell(shop, 11, 11) == (9_650, 350, 965_000)
    assert sell(shop, 12, 12) == (9_350, 650, 3 * 935_000)
    assert sell(shop, 12, 13, amount=20_000, at=NOON + 3_600) == (19_000, 1_000, 3 * 1_900_000 + 100_000)
    # A retry is answered as it was, whatever the rules say now.
    assert shop.publish(Rules.parse(GOOD)) == Code.APPROVED
    assert sell(shop, 12, 12) == (9_350, 650, 3 * 935_000)
    assert sell(shop, 12, 14) == (10_000, 0, 0)


def test_rules_outlive_a_checkpoint(shop: Engine, tmp_path: Path) -> None:
    open_card(shop, GOOD + discount('rate = "5%"', "when = { stores = [2] }"))
    shop.checkpoint()
    shop.close()
    with Engine(tmp_path / "data") as opened:
        assert [sell(opened, terminal, 10)[1] for terminal in (11, 12)] == [0, 500]


def test_a_hundred_per_cent_off_is_a_purchase_of_nothing(shop: Engine) -> None:
    open_card(shop, GOOD + discount('rate = "100%"'))
    assert sell(shop, 11, 10) == (0, 10_000, 0)
    assert shop.trial_balance().money_sum == 0


def test_many_rules_are_found(shop: Engine) -> None:
    """Thousands of rules over two stores and many times of day, each sale against all of them one by one."""
    rng = random.Random(7)
    text, found = GOOD, []
    for number in range(1, 2_001):
        store, start = rng.choice([1, 2]), rng.randrange(96)
        end, value = rng.randrange(start, 96) + 1, rng.randrange(1, 5_000)
        hours = f"{start // 4:02}:{start % 4 * 15:02}-{end // 4:02}:{end % 4 * 15:02}"
        text += discount(
            f'value = "{value / 100:.2f}"',
            f'when = {{ stores = [{store}], times = ["{hours}"] }}',
            number=number,
        )
        found.append((store, start * 900, end * 900, value))
    open_card(shop, text)
    for trace, second in enumerate(np.linspace(0, 86_399, 40, dtype=int).tolist(), 10):
        store = 1 + trace % 2
        best = max(value for of, start, end, value in found if of == store and start <= second < end)
        assert sell(shop, 10 + store, trace, at=second)[1] == best


# Baskets, regions

BASKET = """
categories = [{ id = 1, name = "fruit" }, { id = 2, name = "fish" }]
"""


def basket(engine: Engine, trace: int, *lines: tuple[int, int], terminal: int = 11) -> list[int]:
    """What is off each line of a purchase."""
    header: rows.Header = {"terminal": terminal, "business_date": DAY, "trace": trace}
    amount = sum(amount for _, amount in lines)
    items = [rows.line(amount, category) for category, amount in lines]
    answers = engine.execute(rows.with_items(rows.purchase(card=CARD, amount=amount, **header), [items]))
    assert answers["code"].tolist() == [Code.APPROVED]
    parts = [part for part in answers.parts_of(0) if part["account"] == LINE_PART]
    assert [(int(part["purse"]), int(part["balance"])) for part in parts] == list(lines)
    off = [int(part["amount"]) for part in parts]
    assert sum(off) == answers["discount"][0]
    return off


def test_a_basket_by_hand(shop: Engine) -> None:
    own = GOOD.replace('name = "standard"\n', 'name = "standard"\ndiscount = "5%"\n')
    fish = discount('rate = "20%"', 'when = { categories = ["fish"], min_spend = "10" }', number=1)
    cent = discount('value = "0.10"', 'stacking = "add"', number=2)
    open_card(shop, BASKET + own + fish + cent)
    assert basket(shop, 10, (2, 2_000), (1, 1_000), (0, 1_000)) == [405, 53, 52]
    # Two lines of fish are enough together; of equal remainders the first gets the cent.
    assert basket(shop, 11, (2, 500), (2, 500), (1, 500)) == [104, 103, 28]
    assert basket(shop, 12, (2, 999)) == [49 + 10]
    assert basket(shop, 13, (0, 0), (9, 100)) == [0, 15]


def test_lines_that_do_not_come_to_the_amount_are_malformed(shop: Engine) -> None:
    open_card(shop, BASKET + GOOD)
    row = rows.purchase(card=CARD, amount=100, terminal=11, trace=10, business_date=DAY)
    for lines in ([rows.line(99)], [rows.line(100), rows.line(1)], [rows.line(-1), rows.line(101)]):
        assert shop.execute(rows.with_items(row, [lines]))["code"].tolist() == [Code.FORMAT_ERROR]
    assert shop.execute(rows.with_items(row, [[rows.line(100), rows.line(0)]]))["code"].tolist() == [0]


def test_a_region_has_its_stores_and_those_of_its_merchants_and_of_regions_within(shop: Engine) -> None:
    regions = """
[[regions]]
name = "country"
merchants = [1]
[[regions]]
name = "north"
within = "country"
stores = [2]
"""
    off = discount('value = "1"', 'when = { regions = ["country"] }', number=1)
    more = discount('value = "2"', 'stacking = "add"', 'when = { regions = ["north"] }', number=2)
    open_card(shop, GOOD + regions + off + more)
    assert [sell(shop, terminal, 10)[1] for terminal in (11, 12)] == [100, 300]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[[regions]]\nname = "a"\nwithin = "b"\n[[regions]]\nname = "b"\nwithin = "a"\n',
            [
                "12: `a` lies in itself: take `within` out of one of a, b",
                "15: `b` lies in itself: take `within` out of one of b, a",
            ],
        ),
        (
            '[[regions]]\nname = "a"\nwithin = "c"\n',
            ["12: unknown region `c`: add it to [[regions]], or use one of a"],
        ),
        (
            '[[regions]]\nname = "a"\nstores = [1]\n[[regions]]\nname = "b"\nstores = [2, 1]\n',
            [
                "15: store 1 is in `a` already: a store lies in one region; "
                "larger regions have it by `within`",
            ],
        ),
        (
            '[[tiers]]\nid = 1\nname = "a"\nfrom = "10"\n[[tiers]]\nid = 2\nname = "b"\nfrom = "10"\n',
            ["17: `b` has a higher id than `a`, and must ask for more growth value than 10"],
        ),
        (
            discount('value = "1"', 'when = { categories = ["fruit"], tiers = ["gold"], regions = ["up"] }'),
            [
                "14: unknown region `up`: add it to [[regions]]",
                "14: unknown tier `gold`: add it to [[tiers]]",
                "14: unknown category `fruit`: add it to [[categories]]",
            ],
        ),
    ],
)
def test_mistakes_of_places_are_named(text: str, says: list[str]) -> None:
    assert problems(after(text)) == says
