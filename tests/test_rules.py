"""Rule files: what they compile to, and that every mistake is named with file, line and mend."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from onecard.rules import Changes, Problem, RuleFile, Rules, RulesError
from onecard.rules.compiler import Compiler
from onecard.rules.located import KeyPath
from onecard.rules.wording import EXAMPLES, TABLES
from tests.every_key import EVERY_KEY, PATHS, VALUES, replaced, without

ROOT = Path(__file__).resolve().parent.parent

GOOD = """\
[units]
money = { name = "CNY", scale = 2 }

[[products]]
id = 1
name = "standard"

[[waterfall]]
pay = "principal"
"""


def problems(text: str) -> list[str]:
    """What is wrong with rules, as lines without the file's name."""
    with pytest.raises(RulesError) as caught:
        Rules.parse(text, "r.toml")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    lines = str(caught.value).splitlines()
    assert all(line.startswith("r.toml:") for line in lines)
    return [line.removeprefix("r.toml:") for line in lines]


def product(line: str) -> str:
    """The good rules with one more line, number 7, in the product."""
    return GOOD.replace('name = "standard"\n', f'name = "standard"\n{line}\n')


def after(lines: str) -> str:
    """The good rules with more lines from number 10 on."""
    return GOOD + lines


def test_the_example_of_the_docs_compiles_to_the_tables_of_the_docs() -> None:
    page = (ROOT / "docs" / "rules.md").read_text()
    written, tables = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("toml", "json"))
    assert written
    assert tables
    rules = Rules.parse(written[1])
    assert rules.tables == json.loads(tables[1])
    assert json.loads(rules.tables_json) == rules.tables
    assert rules.text == written[1]


def test_defaults() -> None:
    assert Rules.parse(GOOD).tables == {
        "money": {"name": "CNY", "scale": 2},
        "points": {"name": "POINTS", "scale": 4},
        "products": [
            {
                "id": 1,
                "name": "standard",
                "discount": 0,
                "accrual": 0,
                "purchase_max": 0,
                "top_up_max": 0,
                "balance_max": 0,
            }
        ],
        "top_up_bonus": [],
        "waterfall": [{"pay": "principal", "share": 10**12, "price": 0, "min_points": 0}],
        "compounding_rate": 0,
        "time_tolerance_s": 86_400,
    }


def test_products_are_sorted_by_id() -> None:
    rules = Rules.parse(after('[[products]]\nid = 9\nname = "b"\n[[products]]\nid = 3\nname = "c"\n'))
    assert [line["id"] for line in rules.tables["products"]] == [1, 3, 9]


def test_equal_rules_have_equal_tables_as_text() -> None:
    one = Rules.parse(product('discount = "5%"'))
    other = Rules.parse(product('  discount="5.00 %" # the same'))
    assert one.tables_json == other.tables_json
    assert one.text != other.text


@pytest.mark.parametrize(
    ("scale", "accrual", "price"), [(0, 10**16, 10**6), (2, 10**14, 10**8), (4, 10**12, 10**10)]
)
def test_points_are_scaled_to_the_currency(scale: int, accrual: int, price: int) -> None:
    text = product('points_per_money = "1"').replace("scale = 2", f"scale = {scale}")
    tables = Rules.parse(text + '[[waterfall]]\npay = "points"\nprice = "0.01"\n').tables
    assert tables["products"][0]["accrual"] == accrual
    assert tables["waterfall"][1]["price"] == price


@given(st.integers(0, 10**12 - 1))
def test_a_discount_is_exact_to_the_last_place(rate: int) -> None:
    percent = f"{rate // 10**10}.{rate % 10**10:010d}%"
    assert Rules.parse(product(f'discount = "{percent}"')).tables["products"][0]["discount"] == rate


@given(st.integers(1, 10**14))
def test_a_limit_is_exact_to_the_last_unit(limit: int) -> None:
    text = product(f'purchase_max = "{limit // 100}.{limit % 100:02d}"')
    assert Rules.parse(text).tables["products"][0]["purchase_max"] == limit


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('discont = "5%"', "7: unknown key `discont`: did you mean `discount`?"),
        (
            "zzz = 1",
            "7: unknown key `zzz`: remove it, or use one of id, name, purchase_max, top_up_max, balance_max, "
            "day_sum, day_count, discount, points_per_money, rebate, pin_above, staff, points_valid, "
            "points_per_day, bonus_valid_days, named",
        ),
        ('discount = "100%"', "7: a discount of 100% leaves nothing to pay: it must be below 100%"),
        ('discount = "250.5%"', "7: a discount of 250.5% leaves nothing to pay: it must be below 100%"),
        ('discount = "0.05"', '7: `discount`: write a percentage as a string in quotes, like "5%"'),
        ("discount = 5", '7: `discount`: write a percentage as a string in quotes, like "5%"'),
        ("discount = 0.05", '7: `discount`: write a percentage as a string in quotes, like "5%"'),
        (
            'discount = "-5%"',
            "7: `discount`: '-5' is not a decimal number: digits, and a point if need be, like \"12.50\"",
        ),
        (
            'discount = "0.00000000001%"',
            "7: 0.00000000001 has too many decimal places: a percentage can have at most 10",
        ),
        (
            "points_per_money = 1.5",
            "7: `points_per_money`: write it as a string in quotes, so that it stays exact",
        ),
        (
            "points_per_money = true",
            "7: `points_per_money`: write it as a string in quotes, so that it stays exact",
        ),
        (
            'points_per_money = "1,5"',
            "7: `points_per_money`: '1,5' is not a decimal number: digits, and a point if "
            'need be, like "12.50"',
        ),
        (
            'points_per_money = "10001"',
            "7: more points than the engine can count: at most 10000 per unit of money",
        ),
        (
            'points_per_money = "0.000000000000001"',
            "7: 0.000000000000001 has too many decimal places: points per money can have at most 14",
        ),
        ('purchase_max = "50.001"', "7: 50.001 has too many decimal places: CNY can have at most 2"),
        ('purchase_max = "0"', "7: `purchase_max` of 0 would forbid everything: leave it out for no limit"),
        ('top_up_max = "1000000000000.01"', "7: 1000000000000.01 is too much: at most 1000000000000.00"),
        (
            'balance_max = "100000000000000.01"',
            "7: 100000000000000.01 is too much: at most 100000000000000.00",
        ),
        (
            'balance_max = "NaN"',
            "7: `balance_max`: 'NaN' is not a decimal number: digits, and a point if need be, like \"12.50\"",
        ),
        (
            'balance_max = "٣"',
            "7: `balance_max`: '٣' is not a decimal number: digits, and a point if need be, like \"12.50\"",
        ),
        (
            f'balance_max = "{"1" * 40}"',
            f"7: `balance_max`: '{'1' * 40}' is not a decimal number: digits, and a point "
            f'if need be, like "12.50"',
        ),
    ],
)
def test_mistakes_in_a_product(line: str, says: str) -> None:
    assert problems(product(line)) == [says]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('[[products]]\nid = 1\nname = "b"', ["11: product 1 is there already: give this one another id"]),
        (
            '[[products]]\nname = "b"',
            ["10: `id` is missing: add id = 1, a number that is never used again"],
        ),
        ('[[products]]\nid = 0\nname = "b"', ["11: `id` is 0: use 1 to 65535"]),
        ('[[products]]\nid = 65536\nname = "b"', ["11: `id` is 65536: use 1 to 65535"]),
        ('[[products]]\nid = "2"\nname = "b"', ["11: `id` must be a whole number without quotes, not text"]),
        (
            '[[products]]\nid = 2.0\nname = "b"',
            ["11: `id` must be a whole number without quotes, not a number with a point"],
        ),
        (
            '[[products]]\nid = true\nname = "b"',
            ["11: `id` must be a whole number without quotes, not true or false"],
        ),
        ("[[products]]\nid = 2\nname = 7", ["12: `name` must be text in quotes, not a number"]),
        (
            "[[products]]\nid = 2\nname = 7.5",
            ["12: `name` must be text in quotes, not a number with a point"],
        ),
        (
            "[[products]]\nid = 2\nname = 2026-01-01",
            ["12: `name` must be text in quotes, not a date or time"],
        ),
        ('[[products]]\nid = 2\nname = ""', ["12: `name` is empty: give it a name"]),
        (f'[[products]]\nid = 2\nname = "{"x" * 65}"', ["12: `name` is too long: use at most 64 characters"]),
        (
            f'[[products]]\nid = 2\nname = "{"会" * 22}"',
            ["12: `name` is too long: use at most 64 bytes of UTF-8"],
        ),
        (
            "[rebates]\na = 1",
            [
                "10: unknown key `rebates`: remove it, or use one of units, products, waterfall, "
                "top_up_bonus, card_units, bundles, discounts, accruals, channels, categories, regions, "
                "tiers, triggers, growth_value, gifts, python_rules, fees, compounding, holds, refunds, "
                "terminals"
            ],
        ),
        ("[compundng]\na = 1", ["10: unknown key `compundng`: did you mean `compounding`?"]),
        # Bands
        (
            '[[top_up_bonus]]\nbonus = "1"',
            ['10: `from` is missing: add from = "500.00", the least amount of the band'],
        ),
        (
            '[[top_up_bonus]]\nfrom = "0"',
            ["11: a band begins at one minor unit or more: no top-up is below that"],
        ),
        (
            '[[top_up_bonus]]\nfrom = "1.234"',
            ["11: 1.234 has too many decimal places: CNY can have at most 2"],
        ),
        (
            '[[top_up_bonus]]\nfrom = "500"\n[[top_up_bonus]]\nfrom = "500.00"',
            [
                "13: the band from 500.00 does not begin above the one before (500): write each "
                "`from` once, in ascending order"
            ],
        ),
        (
            '[[top_up_bonus]]\nfrom = "500"\n\n[[top_up_bonus]]\n# lower\nfrom = "100"',
            [
                "15: the band from 100 does not begin above the one before (500): write each "
                "`from` once, in ascending order"
            ],
        ),
        ('[[top_up_bonus]]\nfrom = "1"\nrate = "1001%"', ["12: a bonus of 1001% is too much: at most 1000%"]),
        (
            '[[top_up_bonus]]\nfrom = "1"\nbonus = "9999999999999"',
            ["12: 9999999999999 is too much: at most 1000000000000.00"],
        ),
        (
            '[top_up_bonus]\nfrom = "1"',
            ["10: `top_up_bonus` is a list of tables: write [[top_up_bonus]], not [top_up_bonus]"],
        ),
        (
            "[[top_up_bonus]]\nfrom = '1'\n" * 65,
            ["10: there are 65 of `top_up_bonus`: at most 64 are possible"],
        ),
        # Waterfall
        (
            '[[waterfall]]\npay = "gift"',
            [
                "11: `pay`: 'gift' is unknown: write 'points', 'bonus', 'principal', 'coupons', 'passes', "
                "'unit', 'cards' or 'cash'"
            ],
        ),
        (
            '[[waterfall]]\npay = "principal"',
            ["11: principal pays already: each purse stands in the waterfall once"],
        ),
        ('[[waterfall]]\nshare = "5%"', ['10: `pay` is missing: add pay = "principal", "bonus" or "points"']),
        (
            '[[waterfall]]\npay = "points"',
            ['10: `price` is missing: add price = "0.01", the money that one point pays'],
        ),
        (
            '[[waterfall]]\npay = "points"\nprice = "0"',
            ["12: a price of 0 pays nothing: leave the points step out instead"],
        ),
        ('[[waterfall]]\npay = "points"\nprice = "100.01"', ["12: a point pays at most 100"]),
        (
            '[[waterfall]]\npay = "points"\nprice = "0.00000000001"',
            ["12: 0.00000000001 has too many decimal places: the price of a point can have at most 10"],
        ),
        (
            '[[waterfall]]\npay = "points"\nprice = "0.01"\nmin_points = "0.00001"',
            ["13: 0.00001 has too many decimal places: points can have at most 4"],
        ),
        (
            '[[waterfall]]\npay = "points"\nprice = "0.01"\nmin_points = "1000000000000.1"',
            ["13: more points than a purse can hold: lower it"],
        ),
        (
            '[[waterfall]]\npay = "bonus"\nprice = "1"',
            ["12: `price` belongs to points and units: remove it from bonus"],
        ),
        (
            '[[waterfall]]\npay = "bonus"\nmin_points = "1"',
            ["12: `min_points` belongs to points only: remove it from bonus"],
        ),
        (
            '[[waterfall]]\npay = "bonus"\nshare = "0%"',
            ["12: a share of 0% is impossible: it is above 0% and at most 100%"],
        ),
        (
            '[[waterfall]]\npay = "bonus"\nshare = "101%"',
            ["12: a share of 101% is impossible: it is above 0% and at most 100%"],
        ),
        # Compounding and terminals
        (
            '[compounding]\ndaily_rate = "1%"',
            ['10: `funding` is missing: add funding = "growth", the account that pays for the growth'],
        ),
        ('[compounding]\nfunding = "growth"', ['10: `daily_rate` is missing: add daily_rate = "0.01%"']),
        (
            '[compounding]\ndaily_rate = "1%"\nfunding = "thin air"',
            ["12: `funding`: 'thin air' is unknown: write 'growth'"],
        ),
        (
            '[compounding]\ndaily_rate = "10.1%"\nfunding = "growth"',
            ["11: 10.1% a day is too much: at most 10%"],
        ),
        (
            "compounding = 1",
            [
                "10: unknown key `compounding`: remove it, or use one of pay, unit, share, price, "
                "min_points, min"
            ],
        ),
        ("[terminals]\ntime_tolerance_hours = 169", ["11: `time_tolerance_hours` is 169: use 0 to 168"]),
        ("[terminals]\ntime_tolerance_hours = -1", ["11: `time_tolerance_hours` is -1: use 0 to 168"]),
    ],
)
def test_mistakes_elsewhere(lines: str, says: list[str]) -> None:
    assert problems(after(lines)) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ['1: `units` is missing: add [units] with money = { name = "CNY", scale = 2 }']),
        (GOOD.replace("scale = 2", "scale = 5"), ["2: `scale` is 5: use 0 to 4"]),
        (
            GOOD.replace(", scale = 2", ""),
            ["2: `scale` is missing: add scale = 2, the number of decimal places"],
        ),
        (GOOD.replace("CNY", "X" * 17), ["2: `name` is too long: use at most 16 characters"]),
        (GOOD.replace("CNY", "元" * 6), ["2: `name` is too long: use at most 16 bytes of UTF-8"]),
        (
            GOOD.replace("[[products]]", 'points = { name = "P", scale = 2 }\n[[products]]'),
            ["4: points are counted in 1/10,000: write scale = 4"],
        ),
        (
            GOOD.replace('pay = "principal"', 'pay = "bonus"'),
            ['8: principal is missing: add [[waterfall]] with pay = "principal"'],
        ),
        (
            GOOD + 'share = "60%"\n[[waterfall]]\npay = "bonus"\nshare = "39.9%"',
            [
                "8: the shares of what a card has add up to less than 100%: "
                "no card could pay a purchase by itself; raise one of them"
            ],
        ),
        (
            '[units]\nmoney = { name = "CNY", scale = 2 }\n[[waterfall]]\npay = "principal"\n',
            ["1: `products` is missing: add [[products]], at least one"],
        ),
        (
            GOOD.replace('[[products]]\nid = 1\nname = "standard"\n', "").replace(
                "[units]", "products = []\n[units]"
            ),
            ["1: `products` is empty: add [[products]], at least one"],
        ),
        (GOOD.replace("id = 1", "id = "), ["5: this is not TOML: "]),
        (GOOD.replace("id = 1", "id = 1\nid = 2"), ["6: this is not TOML: "]),
        (
            GOOD.replace("[units]", "[units"),
            ["1: this is not TOML: "],
        ),
    ],
)
def test_mistakes_of_the_whole(text: str, says: list[str]) -> None:
    found = problems(text)
    assert all(one.startswith(said) for one, said in zip(found, says, strict=False)), found
    assert len(found) >= len(says)


def test_a_text_that_never_ends_is_named_at_its_end() -> None:
    (only,) = problems(GOOD + 'x = """\n\n')
    assert only.startswith("11: this is not TOML: ")


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000])
def test_absurd_files_are_problems_too(text: str) -> None:
    (only,) = problems(text)
    assert only.startswith("1: this is not TOML: ")


def test_all_mistakes_come_together_in_the_order_of_their_lines() -> None:
    text = GOOD.replace("id = 1", "id = 0") + '[[waterfall]]\npay = "gift"\n[terminals]\nx = 1\n'
    assert [one.split(":")[0] for one in problems(text)] == ["5", "11", "13"]


def test_lines_are_right_whatever_stands_between() -> None:
    text = (
        "# 会员\r\n[units]\r\nmoney.name = 'CNY' # dotted\r\nmoney.scale = 2\r\n\r\n"
        "[[products]]\r\nid = 1\r\nname = '''\r\n[[waterfall]]\r\n\"\"\" '''\r\nfoo = "
        "[\r\n 1, # ]\r\n 2,\r\n]\r\n"
        "[units.points]\r\nname = 'P'\r\nscale = 4\r\nbar = 1\r\n[[waterfall]]\r\npay = 'principal'\r\nbaz=1"
    )
    assert [one.split(":")[0] for one in problems(text)] == ["11", "18", "21"]


def test_a_file_is_named_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(product("x = 1"))
    with pytest.raises(RulesError, match=re.escape(f"{file}:7: unknown key `x`")):
        Rules.load(file)


def test_a_file_of_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_bytes(GOOD.replace("standard", "会员").encode("gbk"))
    with pytest.raises(RulesError, match=":6: this is not UTF-8"):
        Rules.load(file)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert Rules.load(file).text == GOOD


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Rules.load(tmp_path / "none.toml")


def test_every_required_key_has_an_example() -> None:
    required = {
        field.alias or name
        for model in TABLES.values()
        for name, field in model.model_fields.items()
        if field.is_required()
    }
    assert required <= set(EXAMPLES)


@given(st.text(max_size=200))
def test_any_text_is_rules_or_a_problem(text: str) -> None:
    with pytest.raises(RulesError):
        Rules.parse(text)


@given(st.data())
def test_any_damage_to_good_rules_is_good_or_named_with_a_line(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    cut = data.draw(st.integers(0, 12))
    text = GOOD[:at] + data.draw(st.text("[]{}\"'=.#\n 019azé%", max_size=8)) + GOOD[at + cut :]
    found: list[Problem] = []
    try:
        Rules.parse(text)
    except RulesError as error:
        found = error.problems
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in found)


def test_an_explanation_says_what_every_part_does() -> None:
    text = product('discount = "5%"\npurchase_max = "10.00"') + (
        '[[waterfall]]\npay = "points"\nshare = "30%"\nprice = "0.01"\nmin_points = "5"\n'
        '[[top_up_bonus]]\nfrom = "500"\nbonus = "50"\nrate = '
        '"1%"\n[compounding]\ndaily_rate = "0.01%"\nfunding = "growth"\n'
    )
    assert Rules.parse(text).explain() == [
        "Money is CNY, counted to 2 decimal places; points are called POINTS.",
        "Product 1, standard: 5% off every purchase, 0 points per CNY paid; a purchase at most 10.00 CNY.",
        "A top-up from 500 CNY on gives a bonus of 50 CNY and 1% of the top-up.",
        "A purchase is paid by principal, then points (at most 30% of the amount due) at 0.01 CNY a point, "
        "from 5 points on, if the request asks for it.",
        "What a request brings pays, too: coupons and passes before all these, "
        "further cards and cash after them.",
        "Points grow by 0.01% a day, paid by the growth funding.",
        "An authorisation holds for 7 days, unless it says otherwise.",
        "What comes back past its last date lapses.",
        "Local time may lie up to 24 hours outside the business date.",
    ]
    assert "Points do not grow." in Rules.parse(GOOD).explain()


# What changes


def test_the_same_written_in_another_way_is_no_change() -> None:
    one = Rules.parse(product('discount = "5%"') + '[[channels]]\nid = 2\nname = "b"\n')
    other = Rules.parse(
        product('discount = "5.0%" # five').replace("[units]", '[[channels]]\nid = 2\nname = "b"\n[units]')
    )
    assert one.text != other.text
    assert one.changes(other) is None


def test_a_change_is_what_is_said_of_one_only() -> None:
    more = '[[channels]]\nid = 2\nname = "web"\n[[channels]]\nid = 1\nname = "till"\n'
    old, new = Rules.parse(product('discount = "5%"')), Rules.parse(product('discount = "6%"') + more)
    changes = Changes(
        ("Product 1, standard: 5% off every purchase, 0 points per CNY paid.",),
        (
            "Product 1, standard: 6% off every purchase, 0 points per CNY paid.",
            "What comes in by channel 1, till, is collected by the store.",
            "What comes in by channel 2, web, is collected by the store.",
        ),
    )
    assert old.changes(new) == changes
    assert new.changes(old) == Changes(changes.came, changes.went)


def compiled(data: dict[str, Any]) -> Rules | None:
    """Rules of what a file says; None if it is wrong."""
    try:
        source = RuleFile.model_validate(data)
    except ValidationError:
        return None
    compiler = Compiler(source)
    tables = compiler.tables()
    return None if compiler.problems else Rules("", source, tables)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_every_change_is_said(path: KeyPath) -> None:
    """Whatever other value a key has, the sentences are others as soon as the tables are."""
    rules = compiled(EVERY_KEY)
    assert rules
    for data in [without(path), *(replaced(path, value) for value in VALUES)]:
        other = compiled(data)
        if other and (changes := rules.changes(other)):
            assert changes.went or changes.came, data
