"""Fees between merchants: what they compile to, what is wrong with them, what a sale costs whom."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from onecard import Client, Engine, Rules, codes, rows
from onecard.codes import Code
from onecard.explain import Condition, Explanation, Fate, Gift
from tests.conftest import DAY
from tests.test_rules import GOOD, after, problems
from tests.test_stacking import rule

CARD = "6200000000000001"
ROOT = Path(__file__).parent.parent

RULES = GOOD.replace('name = "standard"\n', 'name = "standard"\ndiscount = "5%"\n').replace(
    "[[waterfall]]", '[[waterfall]]\npay = "points"\nprice = "0.01"\n[[waterfall]]'
) + "".join(
    rule("fees", *lines, number=number)
    for number, lines in enumerate(
        (
            ('rate = "1.5%"', 'min = "0.10"', 'max = "2.00"'),
            ('of = "points"', 'rate = "10%"', 'paid_by = "card-merchant"'),
            ('rate = "50%"', "card_merchants = [2]"),
            ('rate = "50%"', 'when = { min_spend = "100.01" }'),
        ),
        1,
    )
)


# What they compile to


def test_the_example_of_the_docs_compiles() -> None:
    page = (ROOT / "docs" / "rules.md").read_text()
    section = page.partition("### Fees between merchants")[2].partition("\n### ")[0]
    (text,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    places = '[[regions]]\nname = "country"\n[[channels]]\nid = 2\nname = "online"\n'
    assert Rules.parse(after(places + text)).tables["fees"] == [
        {"id": 1, "name": "commission", "rate": 15 * 10**9, "min": 10, "max": 2_000},
        {"id": 2, "name": "guests of the bank", "of": "points", "rate": 10**11, "paid_by": "card-merchant"}
        | {"card_merchants": [9], "when": {"regions": [1], "channels": [2]}},
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['of = "spend"'], ['10: `rate` is missing: add rate = "1.5%", the share']),
        (['rate = "0%"'], ["13: a fee of 0% is impossible: it is above 0% and at most 100%"]),
        (
            ['rate = "1%"', 'min = "2"', 'max = "1"'],
            ["14: `min` is 2, above `max`, 1: mend one of them"],
        ),
        (['rate = "1%"', 'max = "0"'], ["14: `max` of 0 would forbid everything: leave it out for no limit"]),
        (
            ['rate = "1%"', 'when = { birthday = "day" }'],
            ["14: a fee does not look at `birthday`: remove it"],
        ),
        (
            ['rate = "1%"', 'when = { channels = ["web"] }'],
            ["14: unknown channel `web`: add it to [[channels]]"],
        ),
        (
            ['rate = "1%"', 'paid_by = "issuer"'],
            ["14: `paid_by`: 'issuer' is unknown: write 'acceptor' or 'card-merchant'"],
        ),
        (
            ['rate = "1%"', "card_merchants = []"],
            [
                "14: `card_merchants` is empty: add the numbers of merchants that issued the card, "
                "or leave it out: all others"
            ],
        ),
    ],
)
def test_what_is_wrong_is_named(lines: list[str], says: list[str]) -> None:
    assert problems(after(rule("fees", *lines))) == says


def test_fees_are_said_in_sentences() -> None:
    said = [one for one in Rules.parse(RULES).explain() if one.startswith("Fee ")]
    assert said == [
        "Fee 1, rule 1: 1.5% of what is paid, at least 0.10 CNY, at most 2.00 CNY, from the merchant of the "
        "store to that which issued the card, on cards of other merchants.",
        "Fee 2, rule 2: 10% of what points pay, from the merchant that issued the card to that of the store, "
        "on cards of other merchants.",
        "Fee 3, rule 3: 50% of what is paid, from the merchant of the store to that which issued the card, "
        "on cards of merchant 2.",
        "Fee 4, rule 4: 50% of what is paid, from the merchant of the store to that which issued the card, "
        "on cards of other merchants from 100.01 CNY on.",
    ]


# What a sale costs


@pytest.fixture
def alliance(engine: Engine) -> Engine:
    """Merchant 1 with a card and two stores, of which the first is its seat, and merchant 2 with one."""
    answers = [
        engine.register_programme(1, "alliance", DAY),
        *(engine.register_merchant(merchant, f"merchant {merchant}") for merchant in (1, 2)),
        *(engine.register_store(store, merchant, "") for store, merchant in ((9, 1), (2, 2), (1, 1))),
        *(engine.register_terminal(store, store) for store in (1, 2, 9)),
        engine.publish(Rules.parse(RULES)),
    ]
    assert set(answers) == {Code.APPROVED}
    execute(engine, rows.issue(card=CARD, product=1, **header(1)))
    execute(engine, rows.top_up(card=CARD, amount=100_000, **header(1)))
    return engine


_traces = iter(range(1, 10**9))


def header(terminal: int) -> rows.Header:
    return {"terminal": terminal, "business_date": DAY, "trace": next(_traces)}


def execute(engine: Engine, row: rows.Batch) -> int:
    """The sequence of an approved request."""
    [answer] = engine.execute(row)
    assert answer["code"] == Code.APPROVED
    return int(answer["sequence"])


def fees(engine: Engine) -> dict[int, int]:
    """Fees of the stores; positions and issuer are settled exactly, with them and without."""
    stores = engine.positions().stores
    assert sum(store.fees for store in stores) == 0
    assert all(store.net == store.sold - store.collected + store.fees for store in stores)
    assert engine.trial_balance().money_sum == 0
    assert engine.trial_balance().totals[codes.Account.STORE_FEES] == 0
    return {store.store: store.fees for store in stores if store.fees}


def test_the_acceptor_pays_the_seat_of_the_merchant_that_issued_the_card(alliance: Engine) -> None:
    execute(alliance, rows.purchase(card=CARD, amount=10_000, **header(9)))
    assert fees(alliance) == {}, "at home a card costs nothing"
    sale = execute(alliance, rows.purchase(card=CARD, amount=10_000, **header(2)))
    assert fees(alliance) == {2: -142, 9: 142}
    # A third, and two thirds: floor(142 / 3), and the rest. The first at another store, which gives it back.
    execute(alliance, rows.refund(amount=3_167, sequence=sale, **header(1)))
    assert fees(alliance) == {1: 47, 2: -142, 9: 142 - 47}
    last = execute(alliance, rows.refund(amount=6_333, sequence=sale, **header(2)))
    assert fees(alliance) == {1: 47, 2: -47}
    execute(alliance, rows.reverse(sequence=last, **header(2)))
    assert fees(alliance) == {1: 47, 2: -142, 9: 95}


def test_limits_of_a_sale_and_conditions(alliance: Engine) -> None:
    execute(alliance, rows.purchase(card=CARD, amount=5, **header(2)))
    assert fees(alliance) == {2: -5, 9: 5}
    # 2.00 at most, and half of what was paid above 100.00.
    sale = execute(alliance, rows.purchase(card=CARD, amount=20_000, **header(2)))
    assert fees(alliance) == {2: -5 - 200 - 9_500, 9: 9_705}
    execute(alliance, rows.reverse(sequence=sale, **header(2)))
    assert fees(alliance) == {2: -5, 9: 5}


def test_a_capture_is_a_sale_of_its_own(alliance: Engine) -> None:
    hold = execute(alliance, rows.authorise(card=CARD, amount=8_000, **header(9)))
    execute(alliance, rows.capture(amount=4_000, sequence=hold, **header(9)))
    assert fees(alliance) == {}
    sale = execute(alliance, rows.capture(amount=3_600, sequence=hold, **header(2)))
    assert fees(alliance) == {2: -54, 9: 54}
    execute(alliance, rows.reverse(sequence=sale, **header(2)))
    assert fees(alliance) == {}


def test_the_close_says_what_the_positions_said(alliance: Engine, tmp_path: Path) -> None:
    execute(alliance, rows.purchase(card=CARD, amount=10_000, **header(2)))
    alliance.checkpoint()
    execute(alliance, rows.purchase(card=CARD, amount=4_000, **header(2)))
    live = {store.store: (store.net, store.fees) for store in alliance.positions().stores}
    alliance.close()
    with Engine(tmp_path / "data") as opened:
        assert {store.store: (store.net, store.fees) for store in opened.positions().stores} == live
        report = opened.close_day(DAY)
        assert {store.store: (store.net, store.fees) for store in report.stores} == live | {}
        assert sum(store.net for store in report.stores) + report.issuer_net == 0
        assert {store.store: store.due for store in opened.positions().stores} == {
            store: net for store, (net, _) in live.items()
        }
        assert fees(opened) == {}
        assert opened.close_day(DAY).stores[1].fees == -199


def told(found: Explanation) -> list[tuple[int, int, Fate, Condition]]:
    return [(one.id, one.gives, one.fate, one.missed) for one in found.verdicts if one.gift == Gift.FEE]


def test_fees_are_explained_and_told_over_grpc(alliance: Engine) -> None:
    sale = execute(alliance, rows.purchase(card=CARD, amount=10_000, **header(2)))
    expected = [
        (1, 142, Fate.COUNTS, Condition.NONE),
        (3, 4_750, Fate.MISSES, Condition.CARD_MERCHANTS),
        (4, 4_750, Fate.MISSES, Condition.MIN_SPEND),
    ]
    found = alliance.explain(sale)
    assert told(found) == expected
    assert "fee 1, rule 1: 1.42, counts" in found.sentences()
    dry = rows.purchase(card=CARD, amount=10_000, dry_run=True, terminal=2, business_date=DAY)
    assert told(alliance.explain(dry)) == expected
    home = execute(alliance, rows.purchase(card=CARD, amount=10_000, **header(9)))
    assert told(alliance.explain(home)) == []
    server = alliance.serve("127.0.0.1:0")
    with Client(server.address) as client:
        assert told(client.explain(sale)) == expected
        assert [store.fees for store in client.positions().stores] == [0, -142, 142]
        assert [store.fees for store in client.close_day(DAY).stores] == [0, -142, 142]
    server.stop(5.0)


# What a capture costs


def give_points(engine: Engine) -> None:
    """The card has 3,000 points, which pay 30.00."""
    earning = RULES.replace('discount = "5%"\n', 'discount = "5%"\npoints_per_money = "1"\n')
    assert engine.publish(Rules.parse(earning)) == Code.APPROVED
    execute(engine, rows.top_up(card=CARD, amount=900_000, **header(1)))
    execute(engine, rows.purchase(card=CARD, amount=315_790, **header(9)))
    assert engine.publish(Rules.parse(RULES)) == Code.APPROVED


def costs(found: Explanation) -> int:
    """What the store pays by the verdicts: it pays all fees but the second, which it is paid."""
    counted = [(one.id, one.gives) for one in found.verdicts if one.fate == Fate.COUNTS]
    return sum(-gives if fee == 2 else gives for fee, gives in counted)


def test_captures_are_explained_by_the_fees_that_they_post(alliance: Engine) -> None:
    """Two of one authorisation: points pay the first of it, which is more than one capture takes."""
    give_points(alliance)
    hold = execute(alliance, rows.authorise(card=CARD, amount=30_000, use_points=True, **header(9)))
    paid_before = 0
    for amount, expected in (
        (
            1_000,
            [
                (1, 15, Fate.COUNTS, Condition.NONE),
                (2, 100, Fate.COUNTS, Condition.NONE),
                (3, 500, Fate.MISSES, Condition.CARD_MERCHANTS),
                (4, 500, Fate.MISSES, Condition.MIN_SPEND),
            ],
        ),
        (
            27_500,
            [
                (1, 200, Fate.COUNTS, Condition.NONE),
                (2, 200, Fate.COUNTS, Condition.NONE),
                (3, 13_750, Fate.MISSES, Condition.CARD_MERCHANTS),
                (4, 13_750, Fate.COUNTS, Condition.NONE),
            ],
        ),
    ):
        capture = execute(alliance, rows.capture(amount=amount, sequence=hold, **header(2)))
        found = alliance.explain(capture)
        assert told(found) == expected
        assert {one.gift for one in found.verdicts} == {Gift.FEE}
        assert (found.code, found.priced_by) == (Code.APPROVED, hold)
        assert found.answer is not None
        assert (found.answer.sequence, found.answer.amount) == (capture, amount)
        paid = -fees(alliance)[2]
        assert costs(found) == paid - paid_before
        paid_before = paid
    authorised = alliance.explain(hold)
    assert (authorised.priced_by, authorised.counted(Gift.DISCOUNT), told(authorised)) == (0, 1_500, [])


def test_a_capture_is_told_of_as_a_purchase_of_the_same_spend(alliance: Engine) -> None:
    assert alliance.publish(Rules.parse(RULES.replace('discount = "5%"\n', ""))) == Code.APPROVED
    hold = execute(alliance, rows.authorise(card=CARD, amount=20_100, **header(2)))
    for amount in (10_000, 5, 10_095):
        capture = execute(alliance, rows.capture(amount=amount, sequence=hold, **header(2)))
        sale = execute(alliance, rows.purchase(card=CARD, amount=amount, **header(2)))
        assert told(alliance.explain(capture)) == told(alliance.explain(sale)) != []


def test_a_capture_pays_the_fees_of_the_version_in_force_at_it(alliance: Engine) -> None:
    hold = execute(alliance, rows.authorise(card=CARD, amount=10_000, **header(2)))
    cheaper = RULES.replace('rate = "1.5%"', 'rate = "0.5%"').replace('name = "rule 1"', 'name = "cheaper"')
    assert alliance.publish(Rules.parse(cheaper)) == Code.APPROVED
    capture = execute(alliance, rows.capture(amount=9_000, sequence=hold, **header(2)))
    assert alliance.publish(Rules.parse(RULES)) == Code.APPROVED
    found = alliance.explain(capture)
    assert next(found.sentences()) == "fee 1, cheaper: 0.45, counts"
    assert costs(found) == -fees(alliance)[2] == 45
    versions = [one.version and one.version.version for one in (found, alliance.explain(found.priced_by))]
    assert versions == [2, 1]


def test_what_a_capture_is_of_is_told_if_it_is_known(alliance: Engine) -> None:
    held = header(2)
    hold = execute(alliance, rows.authorise(card=CARD, amount=8_000, **held))
    home = alliance.explain(execute(alliance, rows.capture(amount=1_000, sequence=hold, **header(9))))
    assert (home.code, home.priced_by, home.verdicts) == (Code.APPROVED, hold, ())
    key: Any = {"original_date": DAY, "original_terminal": 2}
    by_key = execute(alliance, rows.capture(amount=1_000, original_trace=held["trace"], **key, **header(2)))
    assert alliance.explain(by_key).priced_by == hold
    sale = execute(alliance, rows.purchase(card=CARD, amount=100, **header(2)))
    refused = rows.together(
        rows.capture(amount=8_000, sequence=hold, **header(2)),
        rows.capture(amount=8_000, original_trace=held["trace"], **key, **header(2)),
        rows.capture(amount=1, sequence=10**9, **header(2)),
        rows.capture(amount=1, original_trace=10**9, **key, **header(2)),
        rows.capture(amount=1, sequence=sale, **header(2)),
    )
    expected = [(13, hold), (13, hold), (25, 0), (25, 0), (12, 0)]
    server = alliance.serve("127.0.0.1:0")
    with Client(server.address) as client:
        for answer, (code, priced_by) in zip(alliance.execute(refused), expected, strict=True):
            found = alliance.explain(int(answer["sequence"]))
            assert found.answer is not None
            assert (found.code, found.answer.code, found.priced_by) == (Code.APPROVED, code, priced_by)
            assert found.verdicts == ()
            assert client.explain(found.answer.sequence) == found
        assert client.explain(by_key) == alliance.explain(by_key)
    server.stop(5.0)


def test_a_key_that_is_forgotten_is_not_known_any_more(alliance: Engine) -> None:
    held = header(2)
    hold = execute(alliance, rows.authorise(card=CARD, amount=8_000, **held))
    key: Any = {"original_date": DAY, "original_terminal": 2, "original_trace": held["trace"]}
    kept, [refused] = (
        execute(alliance, rows.capture(amount=1_000, **key, **header(2))),
        alliance.execute(rows.capture(amount=8_000, **key, **header(2))),
    )
    for day in range(8):
        assert alliance.close_day(DAY + datetime.timedelta(day)).code == Code.APPROVED
    assert alliance.explain(kept).priced_by == hold
    assert alliance.explain(int(refused["sequence"])).priced_by == 0


def test_captures_are_refused_and_explained_before_there_are_rules(engine: Engine) -> None:
    engine.register_programme(1, "alliance", DAY)
    engine.register_merchant(1, "first")
    engine.register_store(1, 1, "")
    engine.register_terminal(1, 1)
    [answer] = engine.execute(rows.capture(amount=1, sequence=1, **header(1)))
    found = engine.explain(int(answer["sequence"]))
    assert found.version is not None
    assert (found.code, found.version.version, found.priced_by, found.verdicts) == (Code.APPROVED, 0, 0, ())
