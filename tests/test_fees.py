"""Fees between merchants: what they compile to, what is wrong with them, what a sale costs whom."""

import re
from pathlib import Path

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
