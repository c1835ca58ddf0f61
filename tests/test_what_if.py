"""What-if: the same rules give what happened, other rules give what the model says of the same commands.

Histories are those of `tests.histories`. Of an entry PINs are not known, nor whether codes that were not
looked at were forged, nor what the engine knew of birthdays: where other rules are tried, histories have
neither PINs nor forged codes, birthdays that are known at once, and one tolerance of time.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas
import pyarrow  # type: ignore[import-untyped]  # it comes without types
import pytest

from onecard import Engine, EngineClosed, EngineError, Rules, RulesError, WhatIf, load_period, rows, verify
from onecard.codes import Code, Kind
from onecard.members import Member
from onecard.what_if import Figure, RuleCost, StoreNet, TierCards
from tests.card_history import card_history_of
from tests.conftest import DAY, RULES, found_chain
from tests.drivers import SECRETS, EngineDriver
from tests.histories import NOWHERE_SEQUENCE, Coverage, Player, play, shaken
from tests.history import AS_IS, History, history_of, pick, up_to
from tests.model import (
    AMOUNT_MAX,
    CODE,
    GENUINE,
    NEW_PIN,
    ONE,
    PIN,
    SET_PIN,
    Answer,
    Model,
    Row,
)
from tests.test_cli import quick
from tests.test_versions import table

HISTORIES = 48
"""Half of them of the whole card, for each test."""
TOLERANCE_S = 86_400

CARD = "6200000000000001"


def histories_of(count: int, seed: int) -> list[History]:
    """Histories of programmes of their own: of swipes, and of the whole card."""
    numbers = range(seed * 1_000_003, seed * 1_000_003 + count)
    made = (history_of, card_history_of)
    return [made[at % 2](at * 63 + 1, number) for at, number in enumerate(numbers)]


def played(directory: Path, histories: Sequence[History], seed: int) -> tuple[EngineDriver, list[Player]]:
    driver = EngineDriver(str(directory))
    return driver, play(histories, driver, Coverage(), shaken(driver, Coverage(), Random(seed)))


def compare_with_engine(outcome: WhatIf, driver: EngineDriver, programme: int) -> None:
    """Accounts, positions and liabilities of what happened are those of the engine."""
    totals = driver.trial_balance(programme)["totals"]
    assert {total.account: total.actual for total in outcome.accounts} == totals
    _, stores = driver.positions(programme)
    owed = {store["store"]: store["net"] + store["due"] for store in stores}
    assert {store.store: store.actual for store in outcome.stores} == owed
    _, _, merchants = driver.liabilities(programme)
    points = {merchant["merchant"]: merchant["points"] for merchant in merchants}
    assert {merchant.merchant: merchant.actual for merchant in outcome.merchants} == points


def compare_sides(outcome: WhatIf) -> None:
    """Both sides are the same."""
    assert (outcome.differing, outcome.changes, outcome.changed) == (0, (), ()), outcome.differing_first
    pairs: list[Any] = [*outcome.figures, *outcome.stores, *outcome.merchants, *outcome.accounts]
    assert all(row.actual == row.tried for row in pairs)
    assert all((cost.actual_sales, cost.actual) == (cost.tried_sales, cost.tried) for cost in outcome.costs)
    for day in outcome.days:
        values = [getattr(day, name) for name in day.__slots__[1:]]
        assert values[::2] == values[1::2]


# The same rules


def check_the_same(player: Player, driver: EngineDriver) -> None:
    programme = player.history.programme
    outcome = driver.engine.period(programme=programme).run(None, answers=True)
    compare_sides(outcome)
    compare_with_engine(outcome, driver, programme)
    assert outcome.answers is not None
    answers = {int(answer["sequence"]): answer for answer in outcome.answers}
    transactions = player.programme().transactions
    assert len(answers) == len(transactions)
    for number, transaction in enumerate(transactions, 1):
        compare_answer(answers[player.engine_sequence[number]], transaction.answer)
    check_a_part(player, driver)


def check_a_part(player: Player, driver: EngineDriver) -> None:
    """The same of some days in the middle, whose originals lie before them."""
    books = player.programme()
    first = min((transaction.date for transaction in books.transactions), default=books.open_date)
    middle = (first + books.open_date) // 2
    part = driver.engine.period(programme=player.history.programme, since=middle, until=middle + 1)
    compare_sides(part.run(None))
    assert rows.days(part.first) == middle


def compare_answer(answer: np.void, model: Answer) -> None:
    """All fields but the sequence, which is the engine's own, and parts, which are not told."""
    names = [name for name in Answer._fields if name not in ("sequence", "replayed", "parts")]
    assert [int(answer[name]) for name in names] == [getattr(model, name) for name in names]


def test_the_same_rules_give_what_happened(tmp_path: Path) -> None:
    driver, players = played(tmp_path / "data", histories_of(HISTORIES, 1), 1)
    try:
        for player in players:
            check_the_same(player, driver)
    finally:
        driver.close()


# Other rules


def other_tables(rng: Random, tables: dict[str, Any]) -> dict[str, Any]:
    """Other tables for the same cards: what prices, limits and grows is another."""

    def some(*values: int) -> int:
        return int(pick(rng, values))

    products = []
    for product in tables["products"]:
        limit = min(max(product["purchase_max"], product["balance_max"], 1_000), AMOUNT_MAX // 9)
        changes = {
            "discount": some(0, up_to(rng, ONE) - 1, ONE // 20),
            "accrual": some(0, 10**14, up_to(rng, 10**15)),
            "purchase_max": some(0, 0, product["purchase_max"], up_to(rng, limit)),
            "top_up_max": some(0, 0, product["top_up_max"], up_to(rng, limit)),
            "balance_max": some(0, product["balance_max"], up_to(rng, limit * 9)),
            "points_days": some(0, 0, 2, 40),
            "bonus_days": some(0, 0, 1, 30),
            "rebate": some(0, 0, ONE // 30),
            "day_count": some(0, 0, 0, 2),
        }
        products.append(product | changes)
    bonus = [
        {"from": band["from"], "bonus": some(0, band["bonus"], band["from"] // 20), "rate": some(0, ONE // 8)}
        for band in tables["top_up_bonus"]
    ]
    changed = {
        "products": products,
        "top_up_bonus": bonus,
        "waterfall": rng.sample(tables["waterfall"], len(tables["waterfall"])),
        "compounding_rate": some(0, 10**8, 10**10),
        "discounts": tables.get("discounts", [])[: some(0, 2, 9)],
        "grace_days": some(0, 0, 3),
    }
    return tables | changed


def without_what_is_not_known(history: History) -> History:
    """The same history without PINs and forged codes, birthdays known at once, one tolerance of time."""
    known = {command.args[0]: command for command in reversed(history.commands) if command.call == "know"}
    commands = list(known.values())
    for command in history.commands:
        if command.row is not None:
            if command.row.kind == SET_PIN:
                continue
            items = tuple(
                item._replace(high=GENUINE) if item.kind == CODE else item
                for item in command.row.items
                if item.kind not in (PIN, NEW_PIN)
            )
            commands.append(command._replace(row=command.row._replace(items=items)))
        elif command.call == "publish":
            version, text, published = command.args
            tables = json.loads(published) | {"time_tolerance_s": TOLERANCE_S}
            for product in tables["products"]:
                product.pop("pin_above", None)
            commands.append(command._replace(args=(version, text, json.dumps(tables))))
        elif command.call != "know":
            commands.append(command)
    return History(history.programme, history.opening, commands, history.cards, history.seeds)


class Retold:
    """A history as the model tells it, under other tables from the first publication on."""

    def __init__(self, history: History, tables: dict[str, Any]) -> None:
        self.history, self.tables = history, tables
        self.model = Model()
        self.sequences: dict[int, int] = {}
        # Those of the batch that is being asked: nothing in it can be named by sequence yet.
        self.fresh: dict[int, int] = {}
        self.batch = -1
        self.answers: dict[int, Answer] = {}
        assert all(self.model.register(*one) == 0 for one in history.opening)
        self.programme = self.model.programmes[history.programme]
        for command in history.commands:
            if command.batch != self.batch:
                self.batch = command.batch
                self.sequences |= self.fresh
                self.fresh = {}
            if command.row is not None:
                row = command.row
                if command.names != AS_IS:
                    row = row._replace(original=self.sequences.get(command.names, NOWHERE_SEQUENCE))
                self.ask(command.number, row)
            elif command.call == "publish":
                self.publish(*command.args)
            elif command.call == "know":
                self.programme.birthdays[command.args[0]] = command.args[1]
            elif command.call == "close":
                self.programme.close_day(command.args[0])
            elif command.call == "register":
                for one in command.args[0]:
                    self.model.register(*one)

    def publish(self, version: int, text: str, published: str) -> None:
        # What names places that are not registered is refused, not in the journal: the period begins later.
        if (
            not self.programme.versions
            and version == 1
            and self.programme.knows_places(json.loads(published))
        ):
            self.programme.versions.append(("tried", json.dumps(self.tables), self.tables))

    def ask(self, number: int, row: Row) -> None:
        answer = self.model.execute(row)
        if answer.sequence and not answer.replayed and number not in self.answers:
            self.fresh[number] = answer.sequence
            self.answers[number] = answer


def check_others(player: Player, driver: EngineDriver, seed: int) -> WhatIf:
    history = player.history
    published = [command.args[2] for command in history.commands if command.call == "publish"]
    tables = other_tables(Random(seed), json.loads(published[-1]))
    rules = Rules("tried", Rules.parse(RULES).source, tables)
    period = driver.engine.period(programme=history.programme)
    outcome = period.run(rules, answers=True, changed_max=1 << 40)
    compare_with_engine(outcome, driver, history.programme)
    retold = Retold(history, tables)
    assert outcome.answers is not None
    answers = {int(answer["sequence"]): answer for answer in outcome.answers}
    changed = {one.sequence: (one.actual, one.tried) for one in outcome.changed}
    kept = player.programme().transactions
    # What comes after its reversal is told the reversal's sequence, and has no entry.
    first = {model: number for number, model in reversed(player.model_sequence.items())}
    for model, number in first.items():
        sequence = player.engine_sequence[model]
        before, after = kept[model - 1].answer, retold.answers[number]
        compare_answer(answers[sequence], after)
        pair = (before.code, after.code) if before.code != after.code else None
        assert changed.get(sequence) == pair
    totals = retold.programme.trial_balance()["totals"]
    assert {total.account: total.tried for total in outcome.accounts} == totals
    owed = {store["store"]: store["net"] + store["due"] for store in retold.programme.positions()}
    assert {store.store: store.tried for store in outcome.stores} == owed
    points = {merchant["merchant"]: merchant["points"] for merchant in retold.programme.liabilities()}
    assert {merchant.merchant: merchant.tried for merchant in outcome.merchants} == points
    return outcome


def play_others(directory: Path, count: int, seed: int) -> Iterator[WhatIf]:
    histories = [without_what_is_not_known(history) for history in histories_of(count, seed)]
    driver, players = played(directory, histories, seed)
    try:
        for number, player in enumerate(players):
            yield check_others(player, driver, seed * 7_919 + number)
    finally:
        driver.close()


def test_other_rules_give_what_the_model_says(tmp_path: Path) -> None:
    outcomes = list(play_others(tmp_path / "data", HISTORIES, 2))
    changes = [change for outcome in outcomes for change in outcome.changes]
    assert {Code.APPROVED, Code.INSUFFICIENT_FUNDS} <= {Code(change.actual) for change in changes}
    assert {Code.APPROVED, Code.INSUFFICIENT_FUNDS} <= {Code(change.tried) for change in changes}
    assert any(outcome.differing for outcome in outcomes)


# What is assumed where an entry does not tell, and what is told


class Shop:
    """The small chain with keys, asked one request at a time."""

    def __init__(self, path: Path, text: str = RULES) -> None:
        self.engine = Engine(path, secrets=SECRETS)
        found_chain(self.engine, Rules.parse(text))
        self.day, self.trace = DAY, 0

    def key(self, terminal: int = 11) -> dict[str, Any]:
        self.trace += 1
        return {"terminal": terminal, "trace": self.trace, "business_date": self.day}

    def ask(self, batch: rows.Batch, *items: rows.Items) -> Any:
        [answer] = self.engine.execute(rows.with_items(batch, [items]) if items else batch)
        return answer

    def card(self, number: str = CARD, product: int = 1, **fields: Any) -> int:
        return int(self.ask(rows.issue(number, product, **fields, **self.key()))["code"])

    def top_up(self, amount: int, number: str = CARD) -> Any:
        return self.ask(rows.top_up(number, amount, **self.key()))

    def buy(self, amount: int, *items: rows.Items, number: str = CARD, terminal: int = 21) -> Any:
        return self.ask(rows.purchase(number, amount, **self.key(terminal)), *items)

    def close(self) -> None:
        assert self.engine.close_day(self.day).code == 0
        self.day += datetime.timedelta(1)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "data")
    assert made.card() == 0
    assert made.top_up(100_00)["code"] == 0
    yield made
    made.engine.close()


def edited(*changes: tuple[str, str]) -> Rules:
    """The chain's rules with other words."""
    text = RULES
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return Rules.parse(text)


def codes_of(outcome: WhatIf) -> list[tuple[int, int, int]]:
    return [(change.kind, change.actual, change.tried) for change in outcome.changes]


def test_prices_approvals_and_positions_stand_side_by_side(shop: Shop) -> None:
    assert shop.buy(60_00)["amount"] == 57_00
    refused = shop.buy(50_00)
    assert refused["code"] == Code.INSUFFICIENT_FUNDS
    shop.close()
    entries, digest = shop.engine.stats().entries, shop.engine.state_digest()
    # Without a discount the first takes 60.00; with a quarter off both are covered: 45.00 and 37.50.
    for discount, paid, changes in (("0%", 60_00, []), ("25%", 82_50, [(Kind.PURCHASE, 51, 0)])):
        outcome = shop.engine.what_if(edited(('"5%"', f'"{discount}"')))
        assert codes_of(outcome) == changes
        assert outcome.figure("sold") == Figure("sold", "money", 57_00, paid)
        assert outcome.figure("sales approved").tried == 1 + len(changes)
        assert outcome.figure("principal on cards") == Figure(
            "principal on cards", "money", 43_00, 100_00 - paid
        )
        assert outcome.figure("points earned").tried == paid * 100
        assert outcome.stores == (
            StoreNet(1, 0, -100_00, -100_00),
            StoreNet(2, 0, 57_00, paid),
        )
        [day] = outcome.days
        assert (day.actual_issuer_net, day.tried_issuer_net) == (43_00, 100_00 - paid)
        assert (day.actual_sold, day.tried_sold) == (57_00, paid)
        told = [(one.sequence, one.card, one.store, one.amount) for one in outcome.changed]
        assert told == [(int(refused["sequence"]), CARD, 2, 50_00)] * len(changes)
    assert (shop.engine.stats().entries, shop.engine.state_digest()) == (entries, digest)


CAMPAIGNS = """
[[discounts]]
id = 7
name = "four off"
value = "4.00"
when = { min_spend = "50.00" }
[[discounts]]
id = 8
name = "one more"
value = "1.00"
stacking = "add"
[[accruals]]
id = 7
name = "double"
factor = "2"
when = { stores = [2] }
"""


def test_cost_is_told_by_rule(shop: Shop) -> None:
    assert shop.buy(60_00)["discount"] == 3_00
    assert shop.buy(20_00, terminal=11)["discount"] == 1_00
    outcome = shop.engine.what_if(Rules.parse(RULES + CAMPAIGNS))
    # 4.00 instead of 5% of the first, and 1.00 of both; 55.00 earn twice as much, 18.00 once.
    assert outcome.costs == (
        RuleCost("discount", 0, "the products' own", 2, 1, 4_00, 1_00),
        RuleCost("discount", 7, "four off", 0, 1, 0, 4_00),
        RuleCost("discount", 8, "one more", 0, 2, 0, 2_00),
        RuleCost("accrual", 0, "the products' own", 2, 2, 760_000, 730_000),
        RuleCost("accrual", 7, "double", 0, 1, 0, 550_000),
    )
    assert outcome.figure("discounts").tried == 7_00
    assert outcome.figure("points earned").tried == 1_280_000


def test_a_period_in_the_middle_begins_with_what_was_there(shop: Shop) -> None:
    sold = shop.buy(60_00)
    shop.close()
    shop.close()
    back = rows.refund(20_00, sequence=int(sold["sequence"]), **shop.key())
    assert shop.ask(back)["code"] == 0
    assert shop.buy(10_00)["amount"] == 9_50
    shop.close()
    assert shop.buy(10_00)["code"] == 0
    tried = edited(('"5%"', '"0%"'))
    day = DAY + datetime.timedelta(2)
    outcome = shop.engine.what_if(tried, since=day, until=day)
    assert (outcome.first, outcome.last, outcome.transactions, len(outcome.days)) == (day, day, 2, 1)
    # What was bought before is refunded as it was bought.
    assert outcome.figure("sold") == Figure("sold", "money", 9_50, 10_00)
    assert outcome.figure("principal on cards").tried == 43_00 + 20_00 - 10_00
    assert outcome.stores[1].before == 57_00
    assert shop.engine.what_if(tried, since=day).transactions == 3
    assert shop.engine.period(until=DAY).run(tried).transactions == 3


def test_a_period_that_has_no_entries_is_an_error(shop: Shop, tmp_path: Path) -> None:
    outside: tuple[dict[str, Any], ...] = (
        {"since": DAY + datetime.timedelta(1)},
        {"until": DAY - datetime.timedelta(1)},
        {"since": DAY, "until": DAY - datetime.timedelta(3)},
    )
    for bounds in outside:
        with pytest.raises(ValueError, match="no entries"):
            shop.engine.period(**bounds)
    with pytest.raises(ValueError, match="no programme 2"):
        shop.engine.period(programme=2)
    with pytest.raises(EngineError, match="is open in process"):
        load_period(tmp_path / "data")
    with pytest.raises(EngineError, match="no journal"):
        load_period(tmp_path / "none")


def test_versions_in_the_period_give_way_to_what_is_tried(shop: Shop) -> None:
    assert shop.buy(10_00)["amount"] == 9_50
    assert shop.engine.publish(edited(('"5%"', '"50%"'))) == 0
    assert shop.buy(10_00)["amount"] == 5_00
    period = shop.engine.period()
    assert period.run(edited()).figure("sold").tried == 19_00
    assert period.run(edited(('"5%"', '"0%"'))).figure("sold").tried == 20_00
    same = period.run(None)
    assert (same.differing, same.figure("sold").tried) == (0, 14_50)


SECOND = """
[[products]]
id = 2
name = "second"
[[top_up_bonus]]"""


def test_cards_of_a_product_that_is_missing_are_named(shop: Shop) -> None:
    assert shop.engine.publish(edited(("\n[[top_up_bonus]]", SECOND))) == 0
    assert shop.engine.period().run(edited()).differing == 0, "nobody has one"
    assert shop.card("6200000000000002", product=2) == 0
    with pytest.raises(ValueError, match="no product 2, and there are cards of it"):
        shop.engine.what_if(edited())
    with pytest.raises(RulesError):
        shop.engine.what_if(Path(__file__))


def test_what_was_refused_may_be_approved_with_all_that_follows(shop: Shop) -> None:
    other = "6200000000000002"
    assert shop.card(other, product=2) == Code.INVALID_TRANSACTION
    assert shop.top_up(50_00, other)["code"] == Code.INVALID_CARD
    assert shop.buy(10_00, number=other)["code"] == Code.INVALID_CARD
    outcome = shop.engine.what_if(edited(("\n[[top_up_bonus]]", SECOND)))
    changes = [(Kind.ISSUE, 12, 0), (Kind.TOP_UP, 14, 0), (Kind.PURCHASE, 14, 0)]
    assert codes_of(outcome) == changes
    assert outcome.figure("principal on cards").tried == 140_00
    # And what was approved may be refused: then there is nothing to refund.
    sold = shop.buy(100_00)
    assert shop.ask(rows.refund(5_00, sequence=int(sold["sequence"]), **shop.key()))["code"] == 0
    outcome = shop.engine.what_if(edited(('"5000.00"', '"50.00"')))
    assert codes_of(outcome) == [(Kind.PURCHASE, 0, 61), (Kind.REFUND, 0, 12)]


PINNED = ('balance_max = "50000.00"', 'balance_max = "50000.00"\npin_above = "20.00"')


def test_pins_are_as_they_were(shop: Shop) -> None:
    other = "6200000000000002"
    assert shop.card(other) == 0
    assert shop.top_up(100_00, other)["code"] == 0
    assert shop.ask(rows.set_pin(CARD, **shop.key()), rows.new_pin("1234"))["code"] == 0
    wrong, right = rows.pin("4321"), rows.pin("1234")
    assert shop.buy(5_00, wrong)["code"] == Code.INCORRECT_PIN
    assert shop.buy(5_00)["code"] == 0
    assert shop.buy(5_00, right)["code"] == 0
    assert shop.buy(30_00)["code"] == 0
    assert shop.buy(30_00, number=other)["code"] == 0
    assert shop.buy(5_00, right, number=other)["code"] == Code.INCORRECT_PIN, "it has none"
    assert shop.engine.period().run(None).differing == 0
    # Who has a PIN and is asked for it gives it; who has none cannot.
    outcome = shop.engine.what_if(edited(PINNED))
    assert codes_of(outcome) == [(Kind.PURCHASE, 0, Code.PIN_REQUIRED)]
    assert [one.card for one in outcome.changed] == [other]
    # What was wrong is wrong again, and three times is too often.
    assert [int(shop.buy(5_00, wrong)["code"]) for _ in range(4)] == [55, 55, 75, 75]
    assert shop.ask(rows.set_pin(CARD, by_operator=True, **shop.key()))["code"] == 0
    assert shop.buy(5_00, right)["code"] == 0
    period = shop.engine.period()
    assert period.run(None).differing == 0
    assert codes_of(period.run(edited(PINNED))) == [(Kind.PURCHASE, 0, 70)]


def test_a_pin_that_was_missing_is_needed_only_where_it_is_asked_for(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "data", edited(PINNED).text)
    with shop.engine:
        assert (shop.card(), shop.top_up(100_00)["code"]) == (0, 0)
        assert shop.buy(30_00)["code"] == Code.PIN_REQUIRED
        period = shop.engine.period()
        assert period.run(None).differing == 0
        assert codes_of(period.run(edited())) == [(Kind.PURCHASE, 70, 0)]


COUPON = """
[[card_units]]
id = 16
name = "ten off"
kind = "coupon"
value = "10.00"
"""


def test_a_forged_code_stays_forged(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "data", RULES + COUPON)
    with shop.engine:
        assert (shop.card(), shop.top_up(100_00)["code"]) == (0, 0)
        assert shop.ask(rows.issue_codes(16, 2, **shop.key()))["code"] == 0
        good, other = (rows.code(text) for text in shop.engine.codes(16, 1, 2))
        forged = other.copy()
        forged["high"] ^= 1
        assert [int(shop.buy(20_00, code)["code"]) for code in (good, forged, good, other)] == [0, 59, 57, 0]
        period = shop.engine.period()
        assert period.run(None).differing == 0
        worth_more = Rules.parse(RULES + COUPON.replace("10.00", "15.00"))
        outcome = period.run(worth_more)
        assert (outcome.changes, outcome.figure("principal on cards").tried) == ((), 100_00 - 2 * 4_00)


def test_a_data_frame_takes_a_table(shop: Shop) -> None:
    assert shop.buy(10_00)["code"] == 0
    shop.close()
    outcome = shop.engine.what_if(edited(('"5%"', '"0%"')))
    frame = pandas.DataFrame(outcome.days)
    assert list(frame["tried_sold"]) == [10_00]
    table = pyarrow.Table.from_pylist([dataclasses.asdict(store) for store in outcome.stores])
    assert table.column("tried").to_pylist() == [-100_00, 10_00]
    assert json.loads(json.dumps(outcome.plain()))["days"][0]["date"] == DAY.isoformat()


def test_loading_can_be_followed_and_stopped(shop: Shop) -> None:
    told: list[tuple[int, int]] = []
    period = shop.engine.period(progress=lambda done, total: told.append((done, total)))
    entries = shop.engine.stats().entries
    assert (told[0], told[-1], period.transactions) == ((0, entries), (entries, entries), 2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.engine.period(progress=stop)
    shop.engine.close()
    with pytest.raises(EngineClosed):
        shop.engine.period()


# The command


@pytest.fixture
def data(shop: Shop, tmp_path: Path) -> Path:
    """A data directory, closed, with a sale and one that was refused."""
    assert (shop.buy(60_00)["code"], shop.buy(50_00)["code"]) == (0, 51)
    shop.close()
    shop.engine.close()
    return tmp_path / "data"


def test_the_command_shows_tables(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(edited(('"5%"', '"25%"')).text)
    done = quick("what-if", data, file, "--since", DAY.isoformat(), "--until", DAY.isoformat())
    assert (done.exit_code, done.stderr) == (0, "")
    cells = table(done.stdout)
    assert ["sold", "CNY", "57.00", "82.50", "+25.50"] in cells
    assert ["sales refused", "", "1", "0", "-1"] in cells
    assert ["2", "57.00", "82.50", "+25.50"] in cells
    assert any("51" in row[1] and row[3:] == ["1", "50.00"] for row in cells if row[0] == "purchase")
    assert verify(data).problems == ()


def test_the_command_gives_json_and_a_picture(data: Path, tmp_path: Path) -> None:
    file, picture = tmp_path / "tried.toml", tmp_path / "pictures" / "tried.png"
    file.write_text(edited(('"5%"', '"25%"')).text)
    done = quick("what-if", data, file, "--json", "--picture", picture)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["stores"][1] == {"store": 2, "before": 0, "actual": 57_00, "tried": 82_50}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_says_what_is_wrong(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(edited(("id = 1", "id = 3")).text)
    done = quick("what-if", data, file)
    assert done.exit_code == 1
    assert "the rules have no product 1, and there are cards of it" in done.stderr
    file.write_text("products = 1")
    assert quick("what-if", data, file).exit_code == 1
    file.write_text(RULES)
    assert "no entries" in quick("what-if", data, file, "--since", "2030-01-01").stderr
    assert "no programme 9" in quick("what-if", data, file, "--programme", "9").stderr
    assert quick("what-if", tmp_path, file).exit_code == 2


# Tiers and birthdays

TIERED = """
[[card_units]]
id = 30
name = "growth value"
kind = "growth"
[growth_value]
unit = "growth value"
per_money = "1"
valid = { days = 365 }
tier_valid = { days = 365 }
[[tiers]]
id = 1
name = "silver"
from = "50"
"""
SILVER = """
[[discounts]]
id = 1
name = "silver"
rate = "50%"
when = { tiers = ["silver"] }
"""


def test_cards_come_to_tiers_that_the_rules_have(shop: Shop) -> None:
    assert [int(shop.buy(30_00)["code"]) for _ in range(3)] == [0, 0, 0]
    period = shop.engine.period()
    assert codes_of(period.run(None)) == []
    # 28.50 and 28.50 reach silver: the third is half off.
    outcome = period.run(Rules.parse(RULES + TIERED + SILVER))
    assert outcome.tiers == (TierCards(0, 1, 0), TierCards(1, 0, 1))
    assert outcome.figure("cards raised to a higher tier").tried == 1
    assert outcome.figure("sold").tried == 2 * 28_50 + 15_00


BIRTHDAY = """
[[discounts]]
id = 1
name = "birthday"
rate = "50%"
when = { birthday = "day" }
"""


def test_birthdays_that_nobody_asked_for_are_those_that_are_known(shop: Shop) -> None:
    born = DAY.replace(year=1990)
    assert shop.engine.enrol(Member(7, enrolled=DAY, birthday=born)) == 0
    assert shop.buy(10_00)["amount"] == 9_50
    assert shop.ask(rows.set_holder(CARD, **shop.key()), rows.member(7))["code"] == 0
    assert shop.buy(10_00)["amount"] == 9_50
    tried = Rules.parse(RULES + BIRTHDAY)
    assert shop.engine.what_if(tried).figure("sold").tried == 9_50 + 5_00
    # Asked for, it is in the entry, and stays when the member is gone.
    assert shop.engine.publish(tried) == 0
    assert shop.buy(10_00)["amount"] == 5_00
    assert shop.engine.erase_member(7) == 0
    period = shop.engine.period()
    assert period.run(None).differing == 0
    assert period.run(tried).figure("sold").tried == 9_50 + 9_50 + 5_00


BASKET = """
[[categories]]
id = 1
name = "fruit"
[[discounts]]
id = 1
name = "fruit"
rate = "50%"
when = { categories = ["fruit"] }
"""


def test_cost_of_a_basket_is_told_by_rule(shop: Shop) -> None:
    lines = (rows.line(6_00, category=1), rows.line(4_00))
    assert shop.buy(10_00, *lines)["amount"] == 9_50
    outcome = shop.engine.what_if(Rules.parse(RULES + BASKET))
    costs = {(cost.kind, cost.id): cost.tried for cost in outcome.costs}
    assert costs == {("discount", 0): 20, ("discount", 1): 3_00, ("accrual", 0): 680 * 100}
