"""The whole card through Python: items and parts in this process, every method of the client over gRPC."""

import dataclasses
import datetime
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onecard import Client, Engine, Rules, Secrets, codes, rows
from onecard.client import Alias, CallFailed, Coupon, FurtherCard, Part, Pass, Purchase, SetPin
from tests.conftest import DAY, found_chain

CARD, OTHER, STAFF, NEW = "6200000000000001", "6200000000000002", "90000001", "6200000000000003"
PHONE = Alias(1, "138 0000 0000")
OFF, VISIT = 16, 17

ONE = 10**12
TABLES = {
    "money": {"name": "CNY", "scale": 2},
    "points": {"name": "POINTS", "scale": 4},
    "products": [
        {
            "id": number,
            "name": name,
            "discount": 0,
            "accrual": 0,
            "purchase_max": 0,
            "top_up_max": 0,
            "balance_max": 0,
            "pin_above": 10_000,
            "staff": name == "staff",
        }
        for number, name in ((1, "standard"), (2, "staff"))
    ],
    "top_up_bonus": [],
    "waterfall": [{"pay": "principal", "share": ONE, "price": 0, "min_points": 0}],
    "compounding_rate": 0,
    "time_tolerance_s": 86_400,
    "units": [
        {"id": OFF, "name": "5 off", "kind": "coupon", "value": 500},
        {"id": VISIT, "name": "wash", "kind": "visits", "worth": 3_000},
    ],
    "bundles": [
        {
            "id": 1,
            "name": "welcome",
            "grants": [{"unit": OFF, "amount": 3, "days": 30}, {"unit": VISIT, "amount": 2}],
        }
    ],
}
RULES = dataclasses.replace(
    Rules.parse(
        'units.money = {name = "CNY", scale = 2}\n'
        'products = [{id = 1, name = "any"}]\nwaterfall = [{pay = "principal"}]\n'
    ),
    tables=json.loads(json.dumps(TABLES)),
)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Engine]:
    """The small chain with units, keys, two cards and a staff card."""
    with Engine(tmp_path / "data", secrets=Secrets({1: bytes(range(32))})) as engine:
        found_chain(engine, RULES)
        issued = engine.execute(
            rows.issue(
                card=[CARD, OTHER, STAFF],
                product=[1, 1, 2],
                terminal=11,
                business_date=DAY,
                trace=[1, 2, 3],
            )
        )
        assert not issued["code"].any()
        yield engine


@pytest.fixture
def client(chain: Engine) -> Iterator[Client]:
    """A client of the same chain, served from this process."""
    server = chain.serve("127.0.0.1:0")
    with Client(server.address, terminal=11, business_date=DAY) as opened:
        yield opened
    server.stop(5.0)


def key(trace: int) -> rows.Header:
    return {"terminal": 11, "business_date": DAY, "trace": trace}


def test_rows_with_items_are_answered_with_parts(chain: Engine) -> None:
    bind = rows.with_items(rows.bind(card=CARD, **key(10)), [[chain.alias(1, "13800000000")]])
    pins = rows.with_items(
        rows.set_pin(card=[CARD, OTHER], **key(11) | {"trace": [11, 12]}), [[rows.new_pin("0042")]] * 2
    )
    money = rows.top_up(card=[CARD, OTHER], amount=[20_000, 5_000], **key(13) | {"trace": [13, 14]})
    out = rows.issue_codes(unit=OFF, count=3, **key(15))
    grant = rows.grant(card=CARD, bundle=1, **key(16))
    assert not chain.execute(rows.together(bind, pins, money, out, grant))["code"].any()
    asked = rows.with_items(
        rows.purchase(card=None, amount=40_000, accept_partial=True, **key(20)),
        [
            [
                chain.alias(1, "+86 138 0000 0000"[3:]),
                rows.pin("0042"),
                rows.coupon(OFF, 2),
                rows.code(chain.codes(OFF, 2, 1)[0]),
                rows.pass_(VISIT),
                rows.card(OTHER),
                rows.pin("0042"),
                rows.cash(4_000),
                rows.staff(STAFF),
            ]
        ],
    )
    answers = chain.execute(asked)
    (answer,) = answers
    assert (answer["code"], answer["reason"]) == (codes.Code.PARTLY_APPROVED, 0)
    told = [
        (
            int(part["account"]),
            int(part["card"]),
            int(part["purse"]),
            int(part["amount"]),
            int(part["balance"]),
        )
        for part in answers.parts_of(0)
    ]
    assert (6, 0, OFF, -2, 1) in told
    assert (6, 0, VISIT, -1, 1) in told
    assert (1, 0, 1, -20_000, 0) in told
    assert (1, 1, 1, -5_000, 0) in told
    assert told[-2:] == [(17, 0, 0, 4_000, 0), (16, 0, 0, 40_000 - 1_500 - 3_000 - 20_000 - 5_000 - 4_000, 0)]
    again = chain.execute(asked)
    assert again["replayed"].all()
    assert again.parts_of(0).tolist() == answers.parts_of(0).tolist()
    assert [(one.card, one.sales, one.amount) for one in chain.staff().sales] == [
        (STAFF, 1, int(answer["amount"]))
    ]
    assert chain.trial_balance().units == {OFF: (1, -3, 2), VISIT: (1, -1, 0)}


def test_items_of_many_groups_stay_with_their_rows(chain: Engine) -> None:
    count = 8_192 + 100
    batch = rows.purchase(
        card=CARD, amount=1, terminal=11, business_date=DAY, trace=np.arange(100, 100 + count)
    )
    cash = rows.cash(1)
    answers = chain.execute(rows.with_items(batch, [[cash] if at % 2 else [] for at in range(count)]))
    assert answers["code"].tolist() == [0 if at % 2 else 51 for at in range(count)]
    assert [int(answers.parts_of(at)["account"][0]) for at in (1, 8_191, count - 1)] == [17] * 3


def test_items_are_checked_on_their_way_in(chain: Engine) -> None:
    batch = rows.purchase(card=CARD, amount=1, **key(30))
    with pytest.raises(TypeError, match=r"onecard\.rows\.ITEM"):
        chain.execute(rows.Requests(batch, np.zeros(1, rows.PART)))
    with pytest.raises(TypeError, match=r"onecard\.rows\.REQUEST"):
        chain.submit(rows.Requests(np.zeros(1, rows.ANSWER), rows.cash(1)))
    lost = rows.with_items(batch, [[rows.cash(1)]]).rows
    assert chain.execute(lost)["code"].tolist() == [codes.Code.FORMAT_ERROR]


def test_every_method_of_the_client_is_answered(client: Client) -> None:
    assert client.bind_alias(CARD, PHONE).approved
    assert client.set_pin(CARD, "0042").approved
    assert client.top_up(PHONE, 20_000).principal_balance == 20_000
    granted = client.grant(PHONE, 1)
    assert granted.parts[0] == Part(6, 0, OFF, None, DAY + datetime.timedelta(29), 3, 3)
    assert granted.kind == codes.Kind.GRANT
    out = client.issue_codes(OFF, 2)
    assert (out.amount, out.serials, client.issue_codes(OFF, 3).serials) == (2, range(1, 3), range(3, 6))
    code, _ = client.codes(OFF, out.serials[0], len(out.serials))
    short = client.purchase(CARD, 30_000, pin="0042", cash=100)
    assert (short.code, short.approved) == (codes.Code.INSUFFICIENT_FUNDS, False)
    bought = client.purchase(
        PHONE,
        30_000,
        accept_partial=True,
        coupons=[Coupon(OFF)],
        codes=[code],
        passes=[Pass(VISIT)],
        cards=[FurtherCard(OTHER, "")],
        pin="0042",
        cash=1_000,
        staff=STAFF,
    )
    assert bought.code == codes.Code.PIN_REQUIRED, "that of the further card"
    bought = client.purchase(
        PHONE,
        30_000,
        accept_partial=True,
        coupons=[Coupon(OFF)],
        codes=[code],
        pin="0042",
        cash=1_000,
        staff=STAFF,
    )
    assert (bought.code, bought.unpaid, bought.cash, bought.amount) == (10, 8_000, 1_000, 22_000)
    used = client.purchase(CARD, 1_000, codes=[code])
    assert (used.code, used.reason) == (codes.Code.NOT_PERMITTED, codes.Reason.USED)
    assert client.staff().sales[0].amount == 22_000
    assert client.refund(bought.sequence, 22_000).parts
    held = client.authorise(CARD, 9_000)
    assert (held.amount, held.principal_balance) == (9_000, 20_000)
    assert client.capture(held.sequence, 4_000).principal_balance == 16_000
    assert client.void(held.sequence).approved
    balance = client.balance(PHONE)
    assert {part.purse: part.balance for part in balance.parts} == {OFF: 3, VISIT: 2}
    assert {part.account for part in balance.parts} == {0}


def test_the_life_of_a_card(client: Client) -> None:
    assert client.issue(NEW, 1, inactive=True).approved
    assert client.top_up(NEW, 1).code == codes.Code.NOT_ACTIVATED
    assert client.set_status(NEW, codes.Status.ACTIVE).approved
    assert client.bulk_top_up([(CARD, 300), (OTHER, 700)]).amount == 1_000
    assert client.set_status(CARD, codes.Status.LOST).approved
    assert client.purchase(CARD, 1).code == codes.Code.LOST_CARD
    assert client.replace(CARD, "6200000000000009", old=codes.Status.LOST).principal_balance == 300
    assert client.balance(CARD).code == codes.Code.LOST_CARD
    assert client.set_holder(OTHER, 7, real_name_known=True).approved
    assert client.set_holder("6200000000000009", 7).approved
    moved = client.transfer(OTHER, "6200000000000009", codes.Purse.PRINCIPAL, 300)
    assert (moved.code, moved.principal_balance) == (0, 1_000)
    assert client.set_pin(OTHER, "1234").approved
    assert client.set_pin(OTHER, "4321", pin="1111").code == codes.Code.INCORRECT_PIN
    assert client.set_pin(OTHER, by_operator=True).approved
    assert client.bind_alias(OTHER, PHONE).approved
    assert client.bind_alias(NEW, PHONE).reason == codes.Reason.BOUND_ELSEWHERE
    assert client.bind_alias(NEW, PHONE, bound_to=FurtherCard(OTHER, "1234")).approved
    assert client.bind_alias(NEW, PHONE, remove=True).approved
    assert client.balance(PHONE).code == codes.Code.INVALID_CARD
    closed = client.close_card(OTHER)
    assert (closed.amount, closed.principal_balance) == (1_000, 0)
    assert client.top_up(OTHER, 1).code == codes.Code.CLOSED_CARD


def test_a_malformed_field_is_named_and_no_pin_is_told(client: Client) -> None:
    refused = client.purchase(CARD, 1, pin="47113x")
    assert (refused.code, refused.message) == (30, "pin: send 4 to 12 digits")
    for request in (
        Purchase(terminal=11, card=CARD, amount=1, pin="47113", cards=(FurtherCard(OTHER, "47113"),)),
        SetPin(terminal=11, card=CARD, new_pin="47113", pin="47113"),
    ):
        assert "47113" not in repr(request)


def test_without_keys_the_caller_is_told(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        server = engine.serve("127.0.0.1:0")
        with Client(server.address, terminal=11, business_date=DAY) as client:
            with pytest.raises(CallFailed, match="onecard secrets new FILE"):
                client.purchase(CARD, 1, pin="1234")
            with pytest.raises(CallFailed, match="--secrets FILE"):
                client.codes(16, 1, 1)
        server.stop(5.0)


def test_a_coupon_is_redeemed_once_whoever_comes_first(client: Client) -> None:
    client.issue_codes(OFF, 20)
    texts = client.codes(OFF, 1, 20)
    assert client.grant(CARD, 1).code == 0
    tellers = 8
    approved: list[list[bool]] = [[] for _ in range(tellers)]

    def teller(own: list[bool]) -> None:
        own.extend(client.purchase(OTHER, 1_000, codes=[text], cash=500).code == 0 for text in texts)
        own.extend(client.purchase(CARD, 1_000, coupons=[Coupon(OFF)], cash=500).code == 0 for _ in range(3))

    threads = [threading.Thread(target=teller, args=(own,)) for own in approved]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes_used = [sum(own[at] for own in approved) for at in range(len(texts))]
    assert codes_used == [1] * len(texts)
    assert sum(sum(own[len(texts) :]) for own in approved) == 3


def test_many_cards_are_issued_and_granted_coupons_in_one_batch(chain: Engine) -> None:
    count = 50_000
    cards = [f"7{number:09d}" for number in range(count)]
    traces = np.arange(100, 100 + count)
    issued = chain.execute(rows.issue(card=cards, product=1, terminal=11, business_date=DAY, trace=traces))
    granted = chain.execute(
        rows.grant(card=cards, bundle=1, terminal=11, business_date=DAY, trace=traces + count)
    )
    assert not issued["code"].any()
    assert not granted["code"].any()
    assert chain.trial_balance().units[OFF] == (3 * count, -3 * count, 0)
