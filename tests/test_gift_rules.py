"""Rules of what is given: catalogue, bands, gifts, the cap of a day, and that every mistake is named."""

import pytest

from onecard import Rules
from onecard.rules.sentences import sentences
from tests.test_rules import GOOD, after, problems, product

TEA = '[[bundles]]\nid = 7\nname = "tea"\ngrants = [{ unit = "points", amount = "5" }]\n'
"""Lines 10 to 13."""

THERMOS = '[[bundles]]\nid = 8\nname = "thermos"\npoints = "300"\nstock = 2\nworth = "25.00"\n'
BAND = '[[top_up_bonus]]\nfrom = "100.00"\n'


def said(text: str, beginning: str) -> list[str]:
    """What is said of rules in sentences that begin so."""
    return [line for line in sentences(Rules.parse(text).source) if line.startswith(beginning)]


def test_a_catalogue_is_compiled_and_told() -> None:
    (line,) = Rules.parse(after(THERMOS)).tables["bundles"]
    assert line == {"id": 8, "name": "thermos", "points": 3_000_000, "stock": 2, "worth": 2_500}
    assert said(after(THERMOS + 'price = "9.90"\nper_card = 1\n'), "Bundle") == [
        "Bundle 8, thermos, is sold for 9.90 CNY and 300 points, to a card at most once, "
        "while there are some of 2: goods, for which the store gets 25.00 CNY."
    ]


def test_a_band_gives_points_a_bundle_and_a_lower_price() -> None:
    text = after(TEA + BAND + 'points = "1.5"\nbundle = "tea"\nprice = "96%"\n' + BAND.replace("1", "2"))
    assert Rules.parse(text).tables["top_up_bonus"] == [
        {"from": 10_000, "bonus": 0, "rate": 0, "points": 15_000, "bundle": 7, "price": 96 * 10**10},
        {"from": 20_000, "bonus": 0, "rate": 0},
    ]
    assert said(text, "A top-up") == [
        "A top-up from 100.00 CNY on gives a bonus of nothing, and 1.5 points and one of tea; "
        "96% of it is paid, the issuer bears the rest.",
        "A top-up from 200.00 CNY on gives a bonus of nothing.",
    ]


def test_gifts_are_compiled_and_told() -> None:
    text = after(TEA + '[gifts]\nenrolment = "tea"\nfirst_purchase = "tea"\nfirst_purchase_min = "20.00"\n')
    gifts = {"enrolment": 7, "first_purchase": 7, "first_purchase_min": 2_000}
    assert Rules.parse(text).tables["gifts"] == gifts
    assert said(text, "Who") == ["Who becomes a member with a card is given one of tea, once."]
    first = "The first purchase of a card brings one of tea if it comes to 20.00 CNY."
    assert said(text, "The first") == [first]
    assert "gifts" not in Rules.parse(after("[gifts]\n")).tables
    assert Rules.parse(after("[gifts]\n")).tables == Rules.parse(GOOD).tables


def test_the_points_of_a_day_are_capped() -> None:
    (line,) = Rules.parse(product('points_per_day = "500"')).tables["products"]
    assert line["points_per_day"] == 5_000_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            after('[[bundles]]\nid = 1\nname = "b"\n'),
            [
                "10: a bundle grants something or is goods: add [[bundles.grants]], or "
                'worth = "20.00", the money that the store gets for the goods that it hands over'
            ],
        ),
        (after(THERMOS.replace("2\n", "0\n", 1)), ["14: `stock` is 0: use 1 to 4294967295"]),
        (
            after(THERMOS.replace("300", "0.00001")),
            ["13: 0.00001 has too many decimal places: points can have at most 4"],
        ),
        (
            after(THERMOS.replace("25.00", "0.001")),
            ["15: 0.001 has too many decimal places: CNY can have at most 2"],
        ),
        (after(TEA + BAND + 'bundle = "tee"\n'), ["16: unknown bundle `tee`: did you mean `tea`?"]),
        (
            after(BAND + 'bundle = "tea"\n'),
            ["12: unknown bundle `tea`: add it to [[bundles]]"],
        ),
        (
            after(BAND + 'price = "0%"\n'),
            ["12: a price of 0% is impossible: it is above 0% and at most 100%"],
        ),
        (
            after(BAND + 'price = "101%"\npoints = "0.00001"\n'),
            [
                "12: a price of 101% is impossible: it is above 0% and at most 100%",
                "13: 0.00001 has too many decimal places: points can have at most 4",
            ],
        ),
        (after('[gifts]\nenrollment = "tea"\n'), ["11: unknown key `enrollment`: did you mean `enrolment`?"]),
        (
            after(TEA + '[gifts]\nenrolment = "te"\nfirst_purchase = "x"\n'),
            [
                "15: unknown bundle `te`: did you mean `tea`?",
                "16: unknown bundle `x`: add it to [[bundles]], or use one of tea",
            ],
        ),
        (
            after('[gifts]\nfirst_purchase_min = "1"\n'),
            ["11: `first_purchase` is missing: add the name of the bundle that is given, or remove this"],
        ),
        (
            after(THERMOS + '[gifts]\nfirst_purchase = "thermos"\n'),
            [
                "17: `thermos` is goods, which a first purchase cannot bring: "
                "name a bundle without a `worth`, such as one with a coupon for them"
            ],
        ),
        (
            product('points_per_day = "0"'),
            ["7: `points_per_day` of 0 would earn nothing: leave it out for no limit"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_mend(text: str, says: list[str]) -> None:
    assert problems(text) == says
