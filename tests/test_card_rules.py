"""Rules of kinds of cards: units, bundles, channels, what goes with them, and that every mistake is named."""

import datetime
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecard import Engine, Rules, RulesError, rows
from onecard.rules import Problem
from onecard.rules.wording import TABLES
from tests.conftest import DAY, found_chain
from tests.test_rules import GOOD, after, problems, product

CARDS = Path(__file__).with_name("cards.toml")
CARD = "6200000000000001"
GRANT = 9
"""Kind of a grant (docs/card.md)."""

TOO_MANY = 65

HAIRCUT = '[[card_units]]\nid = 16\nname = "haircut"\nkind = "visits"\nworth = "60.00"\n'
"""Lines 10 to 14 of rules that have it."""

STAMP = '[[card_units]]\nid = 17\nname = "stamp"\nkind = "value"\n'


def unit(kind: str, *lines: str) -> str:
    """The good rules with a unit of a kind: its further lines begin with number 14."""
    return after("\n".join([f'[[card_units]]\nid = 16\nname = "x"\nkind = "{kind}"', *lines, ""]))


def step(*lines: str) -> str:
    """The good rules with two units and a step of the waterfall, whose lines begin with number 20."""
    return after(HAIRCUT + STAMP + "\n".join(["[[waterfall]]", *lines, ""]))


def grant(line: str) -> str:
    """The good rules with a unit and a bundle, of which a grant is on line 19."""
    return after(HAIRCUT + f'[[bundles]]\nid = 1\nname = "b"\nprice = "5"\ngrants = [{{ {line} }}]\n')


# What they compile to


def test_what_a_file_does_not_say_is_not_in_its_tables() -> None:
    text = product('rebate = "0%"\nstaff = false') + (
        '[[channels]]\nid = 0\nname = "till"\ncollects = "store"\n'
        "[holds]\ndays = 7\n[refunds]\ngrace_days = 0\n"
    )
    tables = Rules.parse(text).tables
    assert tables.pop("channels") == [{"id": 0, "name": "till"}]
    assert tables == Rules.parse(GOOD).tables


def test_a_product_with_everything() -> None:
    lines = (
        'rebate = "1.5%"\npin_above = "0"\nday_sum = "10.50"\nday_count = 3\nstaff = true\n'
        'bonus_valid_days = 90\n[products.points_valid]\ndays = 365\nuntil_end_of = "month"\n'
        '[products.named]\nbalance_max = "20"\nday_count = 4'
    )
    (line,) = Rules.parse(product(lines)).tables["products"]
    assert line == {
        "id": 1,
        "name": "standard",
        "discount": 0,
        "accrual": 0,
        "purchase_max": 0,
        "top_up_max": 0,
        "balance_max": 0,
        "day_sum": 1050,
        "day_count": 3,
        "rebate": 15 * 10**9,
        "pin_above": 0,
        "staff": True,
        "points_days": 365,
        "points_round": "month",
        "bonus_days": 90,
        "named": {"purchase_max": 0, "top_up_max": 0, "balance_max": 2000, "day_sum": 0, "day_count": 4},
    }


def test_rows_are_sorted_by_id_and_names_become_ids() -> None:
    text = after(
        STAMP + HAIRCUT + '[[bundles]]\nid = 2\nname = "b"\ngrants = [{ unit = "stamp", amount = "3" }]\n'
        '[[bundles]]\nid = 1\nname = "a"\ngrants = [{ unit = "haircut", amount = "1" }]\n'
        '[[channels]]\nid = 9\nname = "b"\n[[channels]]\nid = 3\nname = "a"\n'
    )
    tables = Rules.parse(text).tables
    assert [line["id"] for line in tables["units"]] == [16, 17]
    assert [line["id"] for line in tables["channels"]] == [3, 9]
    assert tables["bundles"] == [
        {"id": 1, "name": "a", "grants": [{"unit": 16, "amount": 1}]},
        {"id": 2, "name": "b", "grants": [{"unit": 17, "amount": 3}]},
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('unit = "bonus", amount = "12.50"', {"unit": 2, "amount": 1250}),
        ('unit = "points", amount = "12.5"', {"unit": 3, "amount": 125_000}),
        ('unit = "haircut", amount = "12.0"', {"unit": 16, "amount": 12}),
        (
            'unit = "haircut", amount = "1", from_days = 0, days = 36525',
            {"unit": 16, "amount": 1, "days": 36_525},
        ),
        (
            'unit = "haircut", amount = "1", from_days = 2, until = 1970-01-02',
            {"unit": 16, "amount": 1, "from": 2, "until": 1},
        ),
    ],
)
def test_grants_are_scaled_to_their_unit(line: str, expected: dict[str, int]) -> None:
    assert Rules.parse(grant(line)).tables["bundles"][0]["grants"] == [expected]


@given(st.dates(datetime.date(1970, 1, 2)))
def test_dates_are_days_since_1970(date: datetime.date) -> None:
    text = grant(f'unit = "bonus", amount = "1", until = {date}')
    assert Rules.parse(text).tables["bundles"][0]["grants"][0]["until"] == rows.days(date)


@pytest.mark.parametrize(("scale", "price"), [(0, "1000000"), (2, "10000.00"), (4, "100")])
def test_the_price_of_a_unit_is_scaled_to_the_currency(scale: int, price: str) -> None:
    text = step('pay = "unit"', 'unit = "stamp"', f'price = "{price}"', 'min = "3"').replace(
        "scale = 2", f"scale = {scale}"
    )
    if scale == 0:
        text = text.replace('"60.00"', '"60"')
    line = Rules.parse(text).tables["waterfall"][1]
    assert line == {"pay": "unit", "share": 10**12, "price": 10**18, "min_points": 3, "unit": 17}


def test_the_docs_show_the_file_its_tables_and_what_is_said_of_it() -> None:
    page = (CARDS.parent.parent / "docs" / "rules.md").read_text()
    assert f"```toml\n{CARDS.read_text()}```\n" in page
    rules = Rules.load(CARDS)
    _, shown = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    tables = json.loads(shown)
    assert tables == {name: rules.tables[name] for name in tables}
    (said,) = re.findall(r"among other things:\n\n```\n(.*?)```", page, re.DOTALL)
    assert set(said.splitlines()) <= set(rules.explain())


def test_every_key_is_in_the_docs() -> None:
    page = (CARDS.parent.parent / "docs" / "rules.md").read_text()
    keys = {field.alias or name for model in TABLES.values() for name, field in model.model_fields.items()}
    assert not {key for key in keys if not re.search(rf"[`.]{key}`|\b{key} =", page)}


# What is wrong is named


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('rebate = "101%"', "7: a rebate of 101% is more than what was paid: at most 100%"),
        ('rebate = "5"', '7: `rebate`: write a percentage as a string in quotes, like "5%"'),
        ('pin_above = "0.001"', "7: 0.001 has too many decimal places: CNY can have at most 2"),
        ('pin_above = "1000000000001"', "7: 1000000000001 is too much: at most 1000000000000.00"),
        ('day_sum = "0"', "7: `day_sum` of 0 would forbid everything: leave it out for no limit"),
        ('day_sum = "100000000000001"', "7: 100000000000001 is too much: at most 100000000000000.00"),
        ("day_count = 0", "7: `day_count` is 0: use 1 to 4294967295"),
        ("day_count = 4294967296", "7: `day_count` is 4294967296: use 1 to 4294967295"),
        ('staff = "yes"', "7: `staff` must be true or false, without quotes, not text"),
        ("points_valid = 365", "7: `points_valid` must be a table, not a number"),
        ("points_valid = {}", "7: `days` is missing: add days = 365, how long it is valid"),
        ("points_valid = { days = 0 }", "7: `days` is 0: use 1 to 36525"),
        (
            'points_valid = { days = 1, until_end_of = "week" }',
            "7: `until_end_of`: 'week' is unknown: write 'day', 'month' or 'year'",
        ),
        ("bonus_valid_days = 36526", "7: `bonus_valid_days` is 36526: use 1 to 36525"),
        (
            '[products.named]\nrebate = "5%"',
            "8: unknown key `rebate`: remove it, or use one of purchase_max, top_up_max, balance_max, "
            "day_sum, day_count",
        ),
        (
            '[products.named]\n\nbalance_max = "0"',
            "9: `balance_max` of 0 would forbid everything: leave it out for no limit",
        ),
        ("named = { day_count = -1 }", "7: `day_count` is -1: use 1 to 4294967295"),
    ],
)
def test_mistakes_in_a_product(line: str, says: str) -> None:
    assert problems(product(line)) == [says]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # What every unit has
        (
            after('[[card_units]]\nname = "x"\nkind = "value"'),
            ["10: `id` is missing: add id = 16, a number from 16 on that is never used again"],
        ),
        (
            after('[[card_units]]\nid = 15\nname = "x"\nkind = "value"'),
            ["11: `id` is 15: use 16 to 65535"],
        ),
        (
            after('[[card_units]]\nid = 65536\nname = "x"\nkind = "value"'),
            ["11: `id` is 65536: use 16 to 65535"],
        ),
        (
            after('[[card_units]]\nid = 16\nname = "x"'),
            ['10: `kind` is missing: add kind = "visits", "time", "coupon", "value" or "growth"'],
        ),
        (
            after('[[card_units]]\nid = 16\nname = "x"\nkind = "passes"'),
            ["13: `kind`: 'passes' is unknown: write 'visits', 'time', 'coupon', 'value' or 'growth'"],
        ),
        (
            after(STAMP + STAMP),
            [
                "15: unit 17 is there already: give this one another id",
                "16: unit stamp is there already: give this one another name",
            ],
        ),
        (
            after(STAMP.replace("stamp", "points")),
            ["12: every card has points already: give this unit another name"],
        ),
        (
            after(STAMP.replace("stamp", "会" * 22)),
            ["12: `name` is too long: use at most 64 bytes of UTF-8"],
        ),
        (
            after('[card_units]\nid = 16\nname = "x"'),
            ["10: `card_units` is a list of tables: write [[card_units]], not [card_units]"],
        ),
        (
            after("[[card_units]]\nid = 16\n" * 4097),
            ["10: there are 4097 of `card_units`: at most 4096 are possible"],
        ),
        (
            after("[units.haircut]\nid = 16"),
            ["10: unknown key `haircut`: remove it, or use one of money, points"],
        ),
        # What only some kinds have
        (
            unit("visits"),
            ['10: `worth` is missing: add worth = "50.00", the most that a visit pays'],
        ),
        (unit("time"), ['10: `worth` is missing: add worth = "50.00", the most that a use pays']),
        (
            unit("time", 'worth = "0"'),
            ["14: a worth of 0 pays nothing: write the most that a use pays"],
        ),
        (
            unit("visits", 'worth = "1000000000001"'),
            ["14: 1000000000001 is too much: at most 1000000000000.00"],
        ),
        (
            unit("visits", 'worth = "1"', 'value = "1"', 'rate = "1%"', 'max = "1"', 'funded = "store"'),
            [
                "15: `value` belongs to a coupon only: remove it from kind = 'visits'",
                "16: `rate` belongs to a coupon only: remove it from kind = 'visits'",
                "17: `max` belongs to a coupon only: remove it from kind = 'visits'",
                "18: `funded` belongs to a coupon only: remove it from kind = 'visits'",
            ],
        ),
        (
            unit("value", 'worth = "1"', 'min_spend = "1"', "per_purchase = 1"),
            [
                "14: `worth` belongs to visits and time: remove it from kind = 'value'",
                "15: `min_spend` belongs to visits, time and coupon: remove it from kind = 'value'",
                "16: `per_purchase` belongs to visits, time and coupon: remove it from kind = 'value'",
            ],
        ),
        (
            unit("coupon", 'worth = "1"', 'value = "1"'),
            ["14: `worth` belongs to visits and time: remove it from kind = 'coupon'"],
        ),
        # Coupons
        (
            unit("coupon"),
            ['10: a coupon takes off a `value` or a `rate`: add value = "10.00", or rate = "10%"'],
        ),
        (
            unit("coupon", 'value = "1"', 'rate = "1%"'),
            ["15: a coupon takes off a `value` or a `rate`, not both: remove one"],
        ),
        (unit("coupon", 'value = "0"'), ["14: a coupon of 0 takes nothing off: write what it takes off"]),
        (
            unit("coupon", 'rate = "0%"'),
            ["14: a coupon of 0% is impossible: it is above 0% and at most 100%"],
        ),
        (
            unit("coupon", 'rate = "100.1%"'),
            ["14: a coupon of 100.1% is impossible: it is above 0% and at most 100%"],
        ),
        (
            unit("coupon", 'value = "1"', 'max = "1"'),
            ["15: `max` limits a `rate`: remove it, `value` is the limit itself"],
        ),
        (
            unit("coupon", 'rate = "1%"', 'max = "0"'),
            ["15: `max` of 0 would forbid everything: leave it out for no limit"],
        ),
        (
            unit("coupon", 'value = "0.001"', 'min_spend = "0.001"'),
            [
                "14: 0.001 has too many decimal places: CNY can have at most 2",
                "15: 0.001 has too many decimal places: CNY can have at most 2",
            ],
        ),
        (
            unit("coupon", 'value = "1"', 'funded = "bank"'),
            ["15: `funded`: 'bank' is unknown: write 'issuer' or 'store'"],
        ),
        # Where and how often
        (unit("value", "stores = [2, 1, 2]"), ["14: store 2 stands twice: remove one"]),
        (
            unit("value", "stores = []"),
            ["14: `stores` is empty: add the numbers of the stores that take it, or leave it out: all do"],
        ),
        (
            unit("value", "stores = 7"),
            ["14: `stores` is a list of numbers: write stores = [1, 2], not a number"],
        ),
        (
            unit("value", "stores = [", '  1, "2",', "]"),
            ["14: `stores` must be a whole number without quotes, not text"],
        ),
        (unit("value", "stores = [0]"), ["14: `stores` is 0: use 1 to 4294967295"]),
        (unit("value", "stores = [4294967296]"), ["14: `stores` is 4294967296: use 1 to 4294967295"]),
        (
            unit("value", f"stores = {list(range(1, 10_002))}"),
            ["14: there are 10001 of `stores`: at most 10000 are possible"],
        ),
        (unit("visits", 'worth = "1"', "per_purchase = 0"), ["15: `per_purchase` is 0: use 1 to 4294967295"]),
    ],
)
def test_mistakes_in_a_unit(text: str, says: list[str]) -> None:
    assert problems(text) == says


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('unit = "haircut"', ['19: `amount` is missing: add amount = "1", how much of the unit']),
        (
            'amount = "1"',
            ['19: `unit` is missing: add unit = "bonus", "points" or the name of one of [[card_units]]'],
        ),
        ('unit = "harcut", amount = "1"', ["19: unknown unit `harcut`: did you mean `haircut`?"]),
        (
            'unit = "principal", amount = "1"',
            ["19: unknown unit `principal`: add it to [[card_units]], or use one of bonus, points, haircut"],
        ),
        ('unit = 16, amount = "1"', ["19: `unit` must be text in quotes, not a number"]),
        (
            'unit = "haircut", amount = 1',
            ["19: `amount`: write it as a string in quotes, so that it stays exact"],
        ),
        ('unit = "haircut", amount = "0"', ["19: an amount of 0 grants nothing: raise it, or remove it"]),
        (
            'unit = "haircut", amount = "0.5"',
            ["19: 0.5 has too many decimal places: haircut can have at most 0"],
        ),
        (
            'unit = "haircut", amount = "100000000000001"',
            ["19: 100000000000001 is too much: at most 100000000000000"],
        ),
        (
            'unit = "bonus", amount = "1000000000000.01"',
            ["19: 1000000000000.01 is too much: at most 1000000000000.00"],
        ),
        (
            'unit = "points", amount = "10000000000.0001"',
            ["19: 10000000000.0001 is too much: at most 10000000000.0000"],
        ),
        (
            'unit = "points", amount = "0.00001"',
            ["19: 0.00001 has too many decimal places: points can have at most 4"],
        ),
        (
            'unit = "haircut", amount = "1", from_days = 36526',
            ["19: `from_days` is 36526: use 0 to 36525"],
        ),
        ('unit = "haircut", amount = "1", days = 0', ["19: `days` is 0: use 1 to 36525"]),
        (
            'unit = "haircut", amount = "1", until = "2026-12-31"',
            ["19: `until`: write a date without quotes and without a time, like 2026-12-31"],
        ),
        (
            'unit = "haircut", amount = "1", until = 2026-12-31T10:00:00',
            ["19: `until`: write a date without quotes and without a time, like 2026-12-31"],
        ),
        (
            'unit = "haircut", amount = "1", until = 10:00:00',
            ["19: `until`: write a date without quotes and without a time, like 2026-12-31"],
        ),
        (
            'unit = "haircut", amount = "1", until = 20261231',
            ["19: `until`: write a date without quotes and without a time, like 2026-12-31"],
        ),
        (
            'unit = "haircut", amount = "1", until = 1970-01-01',
            ["19: `until`: 1970-01-01 is too early: use a date from 1970-01-02 on"],
        ),
        (
            'unit = "haircut", amount = "1", until = 2026-02-30',
            ["19: this is not TOML: Invalid date or datetime"],
        ),
    ],
)
def test_mistakes_in_a_grant(lines: str, says: list[str]) -> None:
    assert problems(grant(lines)) == says


def test_a_time_is_granted_once() -> None:
    text = unit("time", 'worth = "1"', '[[bundles]]\nid = 1\nname = "b"', "[[bundles.grants]]")
    assert problems(text + 'unit = "x"\namount = "2"') == [
        '20: a time is granted once: write amount = "1"; what is counted is of kind = "visits"'
    ]


def test_a_unit_is_missed_where_there_is_none() -> None:
    text = after('[[waterfall]]\npay = "unit"\nunit = "x"\nprice = "1"\n')
    assert problems(text) == ["12: unknown unit `x`: add it to [[card_units]]"]


ONE = 'grants = [{ unit = "bonus", amount = "1" }]\n'


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (f'[[bundles]]\nid = 0\nname = "b"\n{ONE}', ["11: `id` is 0: use 1 to 65535"]),
        (
            f'[[bundles]]\nname = "b"\n{ONE}',
            ["10: `id` is missing: add id = 1, a number that is never used again"],
        ),
        (
            f'[[bundles]]\nid = 1\nname = "b"\n{ONE}[[bundles]]\nid = 1\nname = "b"\n{ONE}',
            [
                "15: bundle 1 is there already: give this one another id",
                "16: bundle b is there already: give this one another name",
            ],
        ),
        (
            f'[[bundles]]\nid = 1\nname = "b"\nprice = "1.001"\n{ONE}',
            ["13: 1.001 has too many decimal places: CNY can have at most 2"],
        ),
        (
            f'[[bundles]]\nid = 1\nname = "b"\nper_card = 0\n{ONE}',
            ["13: `per_card` is 0: use 1 to 4294967295"],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\n',
            [
                "10: a bundle grants something or is goods: add [[bundles.grants]], or "
                'worth = "20.00", the money that the store gets for the goods that it hands over'
            ],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\ngrants = []',
            ['13: `grants` is empty: add [[bundles.grants]] with unit = "..." and amount = "1"'],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\n[bundles.grants]\nunit = "bonus"',
            ["13: `grants` is a list of tables: write [[bundles.grants]], not [bundles.grants]"],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\ngrants = "bonus"',
            ["13: `grants` is a list of tables: write [[bundles.grants]], not text"],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\n' + '[[bundles.grants]]\nunit = "bonus"\namount = "1"\n' * 17,
            ["13: there are 17 of `grants`: at most 16 are possible"],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\n[[bundles.grants]]\nunit = "bonus"\namount = "1"\n'
            '[[bundles.grants]]\nunit = "bonos"\namount = "1"\n',
            ["17: unknown unit `bonos`: did you mean `bonus`?"],
        ),
        (
            '[[bundles]]\nid = 1\nname = "b"\ngrants = [\n  { unit = "bonus", amount = "1", dys = 1 },\n]',
            ["13: unknown key `dys`: did you mean `days`?"],
        ),
        # Channels, holds, refunds
        ('[[channels]]\nid = 256\nname = "x"', ["11: `id` is 256: use 0 to 255"]),
        ('[[channels]]\nname = "x"', ["10: `id` is missing: add id = 1, the channel's number in requests"]),
        (
            '[[channels]]\nid = 1\nname = "x"\n[[channels]]\nid = 1\nname = "x"',
            [
                "14: channel 1 is there already: give this one another id",
                "15: channel x is there already: give this one another name",
            ],
        ),
        (
            f'[[channels]]\nid = 1\nname = "{"会" * 22}"',
            ["12: `name` is too long: use at most 64 bytes of UTF-8"],
        ),
        (
            '[[channels]]\nid = 1\nname = "x"\ncollects = "bank"',
            ["13: `collects`: 'bank' is unknown: write 'store' or 'issuer'"],
        ),
        ("[holds]\ndays = 0", ["11: `days` is 0: use 1 to 365"]),
        ("[holds]\ndays = 366", ["11: `days` is 366: use 1 to 365"]),
        ("[refunds]\ngrace_days = 366", ["11: `grace_days` is 366: use 0 to 365"]),
        ("[refunds]\ngrace_days = -1", ["11: `grace_days` is -1: use 0 to 365"]),
    ],
)
def test_mistakes_elsewhere(lines: str, says: list[str]) -> None:
    assert problems(after(lines)) == says


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ['pay = "unit"'],
            [
                "19: `unit` is missing: add unit = with the name of one of [[card_units]]",
                '19: `price` is missing: add price = "1.00", the money that one unit pays',
            ],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'share = "20%"'],
            ['19: `price` is missing: add price = "1.00", the money that one stamp pays'],
        ),
        (
            ['pay = "unit"', 'unit = "stmp"', 'price = "1"'],
            ["21: unknown unit `stmp`: did you mean `stamp`?"],
        ),
        (
            ['pay = "unit"', 'unit = "haircut"', 'price = "1"'],
            [
                "21: `haircut` is of kind = 'visits': only kind = 'value' has a step of its own; "
                'visits pay by pay = "passes"'
            ],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'price = "0"'],
            ["22: a price of 0 pays nothing: leave the step of stamp out instead"],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'price = "10000.01"'],
            ["22: one stamp pays at most 10000"],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'price = "0.000000000000001"'],
            ["22: 0.000000000000001 has too many decimal places: the price of one stamp can have at most 14"],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'price = "1"', 'min = "0.5"'],
            ["23: 0.5 has too many decimal places: stamp can have at most 0"],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'price = "1"', 'min = "10000000000000001"'],
            ["23: 10000000000000001 is too much: at most 10000000000000000"],
        ),
        (
            ['pay = "unit"', 'unit = "stamp"', 'price = "1"', 'min_points = "1"'],
            ["23: `min_points` belongs to points only: remove it from unit"],
        ),
        (
            ['pay = "points"', 'price = "1"', 'unit = "stamp"', 'min = "1"'],
            [
                '22: `unit` belongs to pay = "unit" only: remove it from points',
                '23: `min` belongs to pay = "unit" only: remove it from points',
            ],
        ),
        (
            [
                'pay = "unit"',
                'unit = "stamp"',
                'price = "1"',
                *("[[waterfall]]", 'pay = "unit"', 'unit = "stamp"', 'price = "1"'),
            ],
            ["25: stamp pays already: each purse stands in the waterfall once"],
        ),
        (
            ['pay = "cash"', "[[waterfall]]", 'pay = "cash"'],
            ["22: cash pays already: each purse stands in the waterfall once"],
        ),
        (['pay = "cards"', 'price = "1"'], ["21: `price` belongs to points and units: remove it from cards"]),
        (
            ['pay = "coupons"', 'share = "0%"'],
            ["21: a share of 0% is impossible: it is above 0% and at most 100%"],
        ),
    ],
)
def test_mistakes_in_a_step(lines: list[str], says: list[str]) -> None:
    assert problems(step(*lines)) == says


def test_what_a_request_brings_is_no_share_of_the_card() -> None:
    text = GOOD + 'share = "60%"\n[[waterfall]]\npay = "cash"\n'
    assert problems(text) == [
        "8: the shares of what a card has add up to less than 100%: "
        "no card could pay a purchase by itself; raise one of them"
    ]


def test_all_mistakes_come_together() -> None:
    text = grant('unit = "nail", amount = "0"') + '[[waterfall]]\npay = "unit"\nunit = "nail"\n'
    found = [one.split(":")[0] for one in problems(product("rebate = '101%'") + text.removeprefix(GOOD))]
    assert found == ["7", "20", "20", "21", "23"]


@given(st.data())
def test_any_damage_to_the_kinds_of_cards_is_good_or_named_with_a_line(data: st.DataObject) -> None:
    text = CARDS.read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    cut = data.draw(st.integers(0, 30))
    text = text[:at] + data.draw(st.text("[]{}\"'=.#\n 019-azé%", max_size=8)) + text[at + cut :]
    found: list[Problem] = []
    try:
        explained = Rules.parse(text).explain()
        assert all(line.endswith(".") for line in explained)
    except RulesError as error:
        found = error.problems
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in found)


# What they say, and do


MOST = '{ unit = "v", amount = "100000000000000", from_days = 36525, days = 36525 },'
EDGE = f"""
[units]
money = {{ name = "CNY", scale = 4 }}
[[products]]
id = 65535
name = "{"x" * 64}"
rebate = "100%"
pin_above = "10000000000.0000"
day_sum = "1000000000000.0000"
day_count = 4294967295
points_valid = {{ days = 36525, until_end_of = "month" }}
bonus_valid_days = 36525
named = {{ purchase_max = "10000000000", balance_max = "1000000000000", day_sum = "1000000000000" }}
[[card_units]]
id = 65535
name = "{"会" * 21}"
kind = "value"
stores = {list(range(10_000, 0, -1))}
[[card_units]]
id = 16
name = "v"
kind = "visits"
worth = "10000000000"
min_spend = "10000000000"
per_purchase = 4294967295
[[card_units]]
id = 17
name = "c"
kind = "coupon"
rate = "100%"
max = "10000000000"
[[card_units]]
id = 18
name = "d"
kind = "coupon"
value = "0.0001"
funded = "store"
[[card_units]]
id = 19
name = "t"
kind = "time"
worth = "0.0001"
[[bundles]]
id = 65535
name = "b"
price = "10000000000"
per_card = 4294967295
per_member = 4294967295
grants = [{MOST * 15} {{ unit = "points", amount = "10000000000", until = 9999-12-31 }}]
[[waterfall]]
pay = "unit"
unit = "{"会" * 21}"
price = "100"
min = "10000000000000000"
share = "0.0000000001%"
[[waterfall]]
pay = "principal"
[[channels]]
id = 255
name = "x"
[holds]
days = 365
[refunds]
grace_days = 365
"""


def test_an_engine_takes_what_is_at_the_edge(engine: Engine) -> None:
    stores = [("store", 1, store, 1, "") for store in range(1, 10_001)]
    made = engine.register([("programme", 1, 1, 20_000, ""), ("merchant", 1, 1, 0, ""), *stores])
    assert set(made) == {0}
    assert engine.publish(Rules.parse(EDGE)) == 0


def test_an_explanation_says_what_every_part_does() -> None:
    assert Rules.parse(CARDS.read_text()).explain() == EXPLAINED


def test_an_explanation_says_what_is_not_there() -> None:
    text = product('pin_above = "0"\nnamed = {}\npoints_valid = { days = 1 }') + (
        '[[waterfall]]\npay = "cards"\n[[waterfall]]\npay = "passes"\n'
        + STAMP
        + '[[card_units]]\nid = 18\nname = "off"\nkind = "coupon"\nrate = "5%"\nstores = [3]\n'
        '[[bundles]]\nid = 1\nname = "b"\nper_card = 3\nper_member = 1\n'
        'grants = [{ unit = "bonus", amount = "1", from_days = 2, until = 2030-01-31 }]\n'
        '[[channels]]\nid = 0\nname = "till"\n'
    )
    said = Rules.parse(text).explain()
    assert said[1:7] == [
        "Product 1, standard: 0% off every purchase, 0 points per CNY paid; points earned are valid for "
        "1 day; a PIN is asked for if more than 0 CNY is due.",
        "Limits of product 1 instead of these if the holder's real name is known: none.",
        "Unit 17, stamp: pays nothing: it has no step.",
        "Unit 18, off: coupons, each pays 5% of the list amount, borne by the issuer; in store 3 only.",
        "Bundle 1, b, is granted without a price, to a card at most 3 times, "
        "to all cards of a member at most once: 1 CNY of bonus, "
        "valid from 2 days later on until 2030-01-31.",
        "A purchase is paid by principal, then further cards, then passes.",
    ]
    assert said[7:9] == [
        "What a request brings pays, too: coupons before all these, cash after them.",
        "What comes in by channel 0, till, is collected by the store.",
    ]


EXPLAINED = [
    "Money is CNY, counted to 2 decimal places; points are called POINTS.",
    "Product 1, stored value: 0% off every purchase, 1 points per CNY paid; points earned are valid "
    "for 365 days, to the end of the year in which those end; a PIN is asked for if more than 500.00 "
    "CNY is due; a purchase at most 1000.00 CNY; the balance at most 1000.00 CNY; the purchases of "
    "a day at most 3000.00 CNY; at most 20 purchases a day.",
    "Limits of product 1 instead of these if the holder's real name is known: a purchase at most "
    "5000.00 CNY; the balance at most 5000.00 CNY.",
    "Product 2, gold: 12% off every purchase, 1.5 points per CNY paid.",
    "Product 3, rebate: 0% off every purchase, 0 points per CNY paid; 3% of what principal and cash "
    "pay comes back as bonus; bonus of top-ups and rebates is valid for 90 days.",
    "Product 4, staff: 30% off every purchase, 0 points per CNY paid; its cards are those of members "
    "of staff.",
    "Unit 16, haircut: visits, each pays up to 60.00 CNY.",
    "Unit 17, colouring: visits, each pays up to 280.00 CNY.",
    "Unit 18, facial: visits, each pays up to 150.00 CNY; at most 1 in one purchase.",
    "Unit 19, gym: the right to a service for a time, each use pays up to 80.00 CNY; in stores 1, 2 only.",
    "Unit 20, ten off: coupons, each pays 10.00 CNY, borne by the issuer; of a purchase from 100.00 "
    "CNY on; at most 1 in one purchase.",
    "Unit 21, a fifth off: coupons, each lowers the price by 20% of the list amount, at most 50.00 "
    "CNY, borne by the store; in store 2 only.",
    "Unit 22, offset: pays by its step of the waterfall.",
    "Bundle 1, ten haircuts, is sold for 480.00 CNY: 10 haircut, valid for 365 days.",
    "Bundle 2, beauty package, is sold for 1280.00 CNY: 6 haircut, valid for 365 days; 2 colouring, "
    "valid for 365 days; 3 facial, valid for 365 days; 500 points, valid for ever.",
    "Bundle 3, course of eight facials, is sold for 980.00 CNY: 8 facial, valid from 1 day later on "
    "for 180 days.",
    "Bundle 4, trial, is sold for 9.90 CNY, to a card at most once, "
    "to all cards of a member at most once: 1 facial, valid for 14 days; 1 "
    "gym, valid for 7 days.",
    "Bundle 5, month pass, is sold for 299.00 CNY: 1 gym, valid for 30 days.",
    "Bundle 6, year pass, is sold for 2599.00 CNY: 1 gym, valid for 365 days; 100.00 CNY of bonus, "
    "valid for 365 days.",
    "Bundle 7, autumn offers, is granted without a price, to a card at most once: 5 ten off, valid "
    "until 2099-11-30; 1 a fifth off, valid for 30 days until 2099-11-30 at the latest.",
    "Bundle 8, 500 offset, is sold for 400.00 CNY: 500 offset, valid for ever.",
    "A purchase is paid by coupons, then passes, then offset (at most 20% of the amount due) at 1.00 "
    "CNY each, from 10 on, then points (at most 30% of the amount due) at 0.01 CNY a point, if the "
    "request asks for it, then bonus (at most 50% of the amount due), then principal, then further "
    "cards, then cash.",
    "What comes in by channel 2, online, is collected by the issuer.",
    "Points do not grow.",
    "An authorisation holds for 3 days, unless it says otherwise.",
    "What comes back past its last date is valid for 7 days.",
    "Local time may lie up to 24 hours outside the business date.",
]


@pytest.fixture
def founded(engine: Engine) -> Engine:
    """A small chain whose rules are all the kinds of cards, with a card of each product."""
    found_chain(engine, Rules.load(CARDS))
    cards = [CARD[:-1] + str(number) for number in range(1, 5)]
    answers = engine.execute(
        rows.issue(cards, np.arange(1, 5), terminal=11, business_date=DAY, trace=np.arange(1, 5))
    )
    assert not answers["code"].any()
    return engine


def grants(bundles: list[int], first: int) -> rows.Batch:
    """Grants of bundles to the card, each with a key of its own."""
    batch = rows.top_up(
        CARD, 1, terminal=11, business_date=DAY, trace=np.arange(first, first + len(bundles)), channel=2
    )
    batch["kind"], batch["product"] = GRANT, bundles
    return batch


def test_an_engine_takes_all_kinds_of_cards(founded: Engine) -> None:
    source = Rules.load(CARDS).source
    answers = founded.execute(grants([bundle.id for bundle in source.bundles], 10))
    assert not answers["code"].any()
    assert answers["amount"].tolist() == [int(bundle.price * 100) for bundle in source.bundles]
    again = founded.execute(grants([4, 7, 5], 30))
    assert again["code"].tolist() == [TOO_MANY, TOO_MANY, 0]


def test_a_card_has_what_it_was_granted(founded: Engine) -> None:
    founded.execute(grants([2, 6, 8], 10))
    (held,) = founded.execute(rows.balance(CARD, terminal=11))
    assert (held["bonus_balance"], held["points_balance"]) == (100_00, 500_0000)
    # The offset pays its 20%, bonus half, principal the rest.
    founded.execute(rows.top_up(CARD, 100_00, terminal=11, business_date=DAY, trace=20))
    (paid,) = founded.execute(rows.purchase(CARD, 100_00, terminal=11, business_date=DAY, trace=21))
    assert (paid["code"], paid["bonus"], paid["principal"]) == (0, -50_00, -30_00)
