"""Rules in Python: what they see and say, and what becomes of a sale when they say it wrongly, or late."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from onecard import Client, Engine, EngineError, Rules, python_rules, rows, verify
from onecard.cli import app
from onecard.codes import ADVICE_PART, Code, Kind, Reason
from onecard.explain import Fate, Gift
from onecard.python_rules import Advice, Sales, rates, rule
from tests import auditor, outside
from tests.conftest import DAY, Serve
from tests.drivers import EngineDriver, GrpcDriver
from tests.model import (
    ACCEPT_PARTIAL,
    AUTHORISE,
    CASH,
    DRY_RUN,
    ISSUE,
    LINE,
    ONE,
    PURCHASE,
    REFUND,
    REVERSAL,
    TOP_UP,
    WITH_POINTS,
    Answer,
    Item,
    Model,
    Row,
)
from tests.model import Advice as Told
from tests.test_model import STANDARD
from tests.test_rules import GOOD, problems, product

CARD = "6200000000000001"
EARNING = product('points_per_money = "1"')
"""The good rules, with a point for every unit of money."""
MARGIN_S = 30


def asking(*asked: python_rules.Rule, required: bool = False) -> str:
    """The rows of a rule file that ask these rules."""
    return "".join(
        f'[[python_rules]]\nid = {one.id}\nname = "{one.name}"\nversion = "{one.version}"\n'
        f"required = {str(required).lower()}\n"
        for one in asked
    )


class Shop:
    """One card at one terminal of an engine that asks rules in Python."""

    def __init__(self, path: Path, asked: str, given: Any = (outside,), rules: str = GOOD) -> None:
        self.path, self.given = path, given
        self.trace = 0
        self.engine = Engine(path, python_rules=given)
        self.engine.register_programme(1, "one", DAY)
        self.engine.register_merchant(7, "first")
        self.engine.register_store(5, 7, "here")
        self.engine.register_terminal(11, 5)
        assert self.engine.publish(Rules.parse(rules + asked)) == Code.APPROVED
        made = rows.together(
            rows.issue(card=CARD, product=1, **self.header()),
            rows.top_up(card=CARD, amount=100_000_000, **self.header()),
        )
        assert not self.engine.execute(made)["code"].any()

    def header(self) -> rows.Header:
        self.trace += 1
        return {"terminal": 11, "business_date": DAY, "trace": self.trace}

    def sale(self, amount: int = 10_000, **options: Any) -> Any:
        return rows.purchase(card=CARD, amount=amount, **self.header(), **options)

    def buy(self, amount: int = 10_000) -> tuple[Any, list[tuple[int, int, int]]]:
        """The answer, and rule, money off and outcome of what was said."""
        return self.ask(self.sale(amount))

    def ask(self, sale: Any) -> tuple[Any, list[tuple[int, int, int]]]:
        answers = self.engine.execute(sale)
        return answers[0], advice_of(answers.parts_of(0))

    def until(self, pid: int) -> None:
        """Wait for another worker than this one."""
        end = time.monotonic() + MARGIN_S
        while (told := self.told()).pid in (0, pid):
            assert time.monotonic() < end, told
            time.sleep(0.02)

    def told(self) -> python_rules.PythonRules:
        told = self.engine.python_rules()
        assert told is not None
        return told

    def reopen(self, given: Any = ()) -> None:
        self.engine.close()
        self.engine = Engine(self.path, python_rules=given)


def advice_of(parts: Any) -> list[tuple[int, int, int]]:
    return [
        (int(part["purse"]), int(part["amount"]), int(part["balance"]))
        for part in parts
        if part["account"] == ADVICE_PART
    ]


class Mood:
    """How the moody rule is."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self("0")

    def __call__(self, mood: str) -> None:
        self.file.write_text(mood)


@pytest.fixture
def mood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mood:
    monkeypatch.setenv(outside.MOOD, str(tmp_path / "mood"))
    return Mood(tmp_path / "mood")


@contextlib.contextmanager
def shop_at(path: Path, asked: str, **options: Any) -> Iterator[Shop]:
    opened = Shop(path, asked, **options)
    try:
        yield opened
    finally:
        opened.engine.close()


@pytest.fixture
def shop(tmp_path: Path, mood: Mood) -> Iterator[Shop]:
    with shop_at(tmp_path / "data", asking(outside.moody)) as opened:
        yield opened


# What is said prices the sale


def test_a_sale_by_hand(shop: Shop, mood: Mood) -> None:
    mood("10")
    answer, said = shop.buy(12_345)
    # A tenth of 123.45 is 12.34.
    assert (answer["code"], answer["amount"], answer["discount"], said) == (0, 11_111, 1_234, [(2, 1_234, 0)])
    mood("100")
    answer, _ = shop.buy(12_345)
    assert (answer["code"], answer["amount"], answer["discount"]) == (0, 0, 12_345)
    mood("nothing")
    assert shop.buy(12_345)[1] == []


def test_a_retry_gets_the_first_answer(shop: Shop, mood: Mood) -> None:
    mood("10")
    sale = shop.sale()
    first, _ = shop.ask(sale)
    for other in ("20", "raise"):
        mood(other)
        again, said = shop.ask(sale)
        assert (again["replayed"], again["discount"], said) == (1, 1_000, [(2, 1_000, 0)])
    changed = sale.copy()
    changed["amount"] += 1
    assert shop.ask(changed)[0]["code"] == Code.DUPLICATE
    shop.reopen()
    assert shop.ask(sale)[0]["discount"] == first["discount"] == 1_000


def test_replay_asks_nobody(shop: Shop, mood: Mood) -> None:
    for one in ("10", "3", "raise", "nothing"):
        mood(one)
        shop.buy()
    digest, told = shop.engine.state_digest(), shop.engine.statement(CARD)
    shop.reopen()
    assert (shop.engine.state_digest(), shop.engine.statement(CARD)) == (digest, told)
    # Without anybody to ask, what is asked for fails.
    assert (shop.engine.python_rules(), shop.buy()[1]) == (None, [(2, 0, 2)])
    shop.engine.close()
    assert not verify(str(shop.path)).problems
    assert not auditor.audit(shop.path).problems


def test_rules_without_any_ask_nobody(tmp_path: Path, mood: Mood) -> None:
    mood("10")
    with shop_at(tmp_path / "data", "") as shop:
        answer, said = shop.buy()
        assert (answer["discount"], said, shop.told().groups) == (0, [], 0)


def test_a_dry_run_and_an_explanation_tell_it(shop: Shop, mood: Mood) -> None:
    mood("10")
    tried = rows.purchase(card=CARD, amount=10_000, terminal=11, business_date=DAY, dry_run=True)
    assert shop.ask(tried)[0]["discount"] == 1_000
    for explained in (shop.engine.explain(tried), shop.engine.explain(int(shop.buy()[0]["sequence"]))):
        [verdict] = [one for one in explained.verdicts if one.gift == Gift.ADVISED_DISCOUNT]
        assert (verdict.id, verdict.name, verdict.gives, verdict.fate) == (2, "moody", 1_000, Fate.COUNTS)
        assert "Python rule 2, moody: 10.00, counts" in list(explained.sentences())
    mood("raise")
    explained = shop.engine.explain(int(shop.buy()[0]["sequence"]))
    assert explained.verdicts[-1].fate == Fate.FAILED
    mood("nothing")
    assert shop.engine.explain(int(shop.buy()[0]["sequence"])).verdicts[-1].gives == 0


def test_points_and_refusals_are_explained(tmp_path: Path) -> None:
    asked = asking(outside.by_number)
    with shop_at(tmp_path / "data", asked, given=[outside.by_number], rules=EARNING) as shop:
        refused, said = shop.buy(1_100)
        assert (refused["code"], refused["reason"], said) == (Code.NOT_PERMITTED, Reason.ADVISED, [(3, 0, 1)])
        assert shop.engine.explain(int(refused["sequence"])).verdicts[-1].fate == Fate.REFUSES
        sold, _ = shop.buy(1_002)
        gifts = {one.gift: one.gives for one in shop.engine.explain(int(sold["sequence"])).verdicts}
        assert gifts[Gift.POINTS] > -gifts[Gift.ADVISED_POINTS] > 0, "half as many"
        assert int(sold["points_earned"]) == gifts[Gift.POINTS] + gifts[Gift.ADVISED_POINTS]


def test_what_they_gave_is_told_apart_from_what_happened_otherwise(tmp_path: Path) -> None:
    """What-if names what each of them gave; nothing of it is taken for a coupon's."""
    asked = asking(outside.by_number, outside.third_off)
    with shop_at(tmp_path / "data", asked, given=[outside], rules=EARNING) as shop:
        shop.ask(shop.sale(channel=1))
        shop.buy(1_100)  # refused
        shop.buy()
        outcome = shop.engine.period().run(None)
    told = {(one.kind, one.id): (one.actual_sales, one.actual) for one in outcome.costs}
    assert told["python discount", 3] == (2, 400 + 400)
    assert told["python discount", 7] == (1, 3_333)
    assert told["python points", 3][0] == 1, "the factor of one of them is 1"
    for kinds, figure in (
        (("discount", "python discount"), "discounts"),
        (("accrual", "python points"), "points earned"),
    ):
        given = sum(gave for (kind, _), (_, gave) in told.items() if kind in kinds)
        assert given == outcome.figure(figure).actual > 0
    assert outcome.figure("of them by stores' coupons").actual == 0


def test_the_command_line_tells_of_one_that_was_not_heard(tmp_path: Path) -> None:
    with shop_at(tmp_path / "data", asking(outside.third_off), given=[]) as shop:
        sequence = str(shop.buy()[0]["sequence"])
    done = CliRunner().invoke(app, ["explain", sequence, str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert "Python rule 7, third off" in done.output
    assert "no: it could not be asked, or broke" in done.output


# What goes wrong


WRONG = (
    *("raise", "shape", "deep", "dtype", "whole", "nan", "infinite", "negative", "above", "many"),
    *("truth", "list", "other", "write"),
)


def test_what_is_wrong_is_not_priced_with(shop: Shop, mood: Mood) -> None:
    for number, wrong in enumerate(WRONG, 1):
        mood(wrong)
        answer, said = shop.buy()
        assert (answer["code"], answer["discount"], said) == (0, 0, [(2, 0, 2)]), wrong
        assert shop.told().failed == number
        assert shop.told().error.startswith("moody 1: "), shop.told()
    told = shop.told()
    assert (told.restarts, told.timed_out) == (0, 0)
    mood("print")
    assert shop.buy()[1] == []


@pytest.mark.parametrize(("how", "outcome"), [("late", 3), ("die", 2)])
def test_a_worker_that_is_late_or_gone_is_replaced(shop: Shop, mood: Mood, how: str, outcome: int) -> None:
    mood(how)
    pid = shop.told().pid
    began = time.monotonic()
    answer, said = shop.buy()
    assert time.monotonic() - began < MARGIN_S / 3
    assert (answer["code"], answer["discount"], said) == (0, 0, [(2, 0, outcome)])
    mood("10")
    # Until another is there sales go on without it; then with it.
    assert shop.buy()[0]["code"] == 0
    shop.until(pid)
    assert shop.buy()[1] == [(2, 1_000, 0)]
    assert shop.told().restarts == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_that_is_killed_is_replaced(shop: Shop, mood: Mood) -> None:
    mood("10")
    pid = shop.told().pid
    os.kill(pid, signal.SIGKILL)
    assert shop.buy()[1] in ([(2, 0, 2)], [(2, 1_000, 0)])
    shop.until(pid)
    assert shop.buy()[1] == [(2, 1_000, 0)]


def test_a_required_rule_must_be_heard(tmp_path: Path, mood: Mood) -> None:
    with shop_at(tmp_path / "data", asking(outside.moody, required=True)) as shop:
        entries = shop.engine.stats().entries
        mood("raise")
        sale = shop.sale()
        refused, said = shop.ask(sale)
        told = refused["code"], refused["reason"], refused["sequence"], said
        assert told == (Code.NOT_AVAILABLE, Reason.NO_ADVICE, 0, [])
        tried = rows.purchase(card=CARD, amount=1, terminal=11, business_date=DAY, dry_run=True)
        assert shop.ask(tried)[0]["reason"] == Reason.NO_ADVICE
        assert shop.engine.stats().entries == entries
        # Nothing is kept: the same key is good once the rule is heard.
        mood("10")
        assert shop.ask(sale)[0]["discount"] == 1_000
        # What is no sale waits for no rule.
        mood("raise")
        topped = rows.top_up(card=CARD, amount=100, **shop.header())
        assert shop.ask(topped)[0]["code"] == 0


def test_another_version_is_another_rule(tmp_path: Path, mood: Mood) -> None:
    mood("10")
    other = asking(outside.moody).replace('version = "1"', 'version = "2"')
    with shop_at(tmp_path / "data", other) as shop:
        assert shop.buy()[1] == [(2, 0, 2)]
        assert shop.told().error == "moody 2 is not among the rules of the worker"
        assert shop.engine.publish(Rules.parse(GOOD + asking(outside.moody))) == 0
        assert shop.buy()[1] == [(2, 1_000, 0)]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["tests.there_is_none"], "No module named"),
        (["tests.conftest"], "has no rule"),
        ([outside, outside.moody, "bench.win_back"], "two rules have the id"),
    ],
)
def test_rules_that_cannot_be_loaded(tmp_path: Path, given: Any, error: str) -> None:
    with pytest.raises(EngineError, match=error):
        Engine(tmp_path / "data", python_rules=given)
    # The directory is free again.
    Engine(tmp_path / "data").close()


def test_a_rule_has_bounds() -> None:
    for wrong in ({"id": 0}, {"id": 65_536}, {"name": ""}, {"version": "x" * 65}, {"timeout_ms": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: a rule has"):
            rule(**({"id": 1, "name": "a", "version": "1"} | wrong))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="python_rules"):
        python_rules.setup([3])  # type: ignore[list-item]


@given(st.lists(st.integers(0, ONE), min_size=1, max_size=20))
def test_shares_keep_their_places(numbers: list[int]) -> None:
    column = np.array(numbers) / ONE
    found = rates(column, len(numbers), 1, "discount")
    assert found is not None
    assert found.tolist() == numbers


# The worker


def test_the_worker_has_nothing_of_the_engine(shop: Shop) -> None:
    pid = shop.told().pid
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [link for link in links if str(shop.path) in link]
    shop.engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_worker_ends_with_the_engine(tmp_path: Path, mood: Mood) -> None:
    code = (
        "import os, sys\nfrom onecard import Engine\n"
        "engine = Engine(sys.argv[1], python_rules=['tests.outside'])\n"
        "print(engine.python_rules().pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    end = time.monotonic() + MARGIN_S
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_rule_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom onecard import Engine\nfrom onecard.python_rules import rule\n"
        "@rule(id=9, name='own', version='1')\ndef own(sales):\n    return None\n"
        "if __name__ == '__main__':\n"
        "    with Engine(sys.argv[1], python_rules=[own]) as engine:\n"
        "        print(engine.python_rules().pid)\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "data")]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) > 0


# What they see


def test_what_a_rule_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv(outside.SEEN, str(seen))
    with shop_at(tmp_path / "data", asking(outside.witness), given=[outside.witness]) as shop:
        for _ in range(3):
            shop.engine.close_day(DAY + datetime.timedelta(_))
        shop.buy(500)
        today = DAY + datetime.timedelta(3)
        late: dict[str, Any] = {
            "terminal": 11,
            "business_date": DAY + datetime.timedelta(2),
            "local_time": 90_000,
        }
        batch = rows.together(
            rows.purchase(card=CARD, amount=700, channel=4, trace=101, **late),
            rows.top_up(card=CARD, amount=5, trace=102, **late),
            rows.purchase(card="99999999", amount=-3, trace=103, terminal=99, business_date=today),
            rows.authorise(card=CARD, amount=900, trace=104, use_points=True, **late),
        )
        shop.engine.execute(batch)
    first, second = (np.load(file) for file in sorted(seen.iterdir()))
    days = rows.days(DAY)
    assert (first["amount"].tolist(), first["last_date"].tolist()) == ([500], [days])
    # All of the second group see the card as it was when that began: bought for 5.00 today.
    left = 100_000_000 - 500
    expected = {
        "programme": 1,
        "open_date": days + 3,
        "amount": [700, -3, 900],
        "card": [0, -1, 0],
        "number": [int(CARD), 0, int(CARD)],
        "digits": [16, 0, 16],
        "member": [0, 0, 0],
        "principal": [left, 0, left],
        "bonus": [0, 0, 0],
        "points": [0, 0, 0],
        "terminal": [11, 99, 11],
        "store": [5, 0, 5],
        "merchant": [7, 0, 7],
        "date": [days + 3, days + 3, days + 3],
        "time": [3_600, rows.NOON, 3_600],
        "last_date": [days + 3, 0, days + 3],
        "product": [1, 0, 1],
        "kind": [Kind.PURCHASE, Kind.PURCHASE, Kind.AUTHORISE],
        "flags": [0, 0, 1],
        "channel": [4, 0, 0],
        "tier": [0, 0, 0],
        "status": [1, 0, 1],
    }
    assert {name: second[name].tolist() for name in Sales.__slots__} == expected


# Against the model, in process and over gRPC


TABLES = STANDARD | {
    "money": {"name": "CNY", "scale": 2},
    "points": {"name": "POINTS", "scale": 4},
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "discounts": [
        {"id": 1, "name": "b", "rate": ONE // 5, "when": {"categories": [2]}},
        {"id": 2, "name": "alone", "value": 77, "stacking": "exclusive", "when": {"stores": [2]}},
    ],
    "accruals": [{"id": 1, "name": "more", "points": 1_234, "stacking": "add"}],
    "python_rules": [
        {"id": 3, "name": "by number", "version": "1"},
        {"id": 7, "name": "third off", "version": "1"},
    ],
}


PLAIN = {name: table for name, table in TABLES.items() if name not in ("discounts", "accruals")}
"""What the auditor prices, too."""


def said(row: Row) -> tuple[Told, ...]:
    """What the rules of `tests.outside` say of a row, in other words."""
    if row.kind not in (PURCHASE, AUTHORISE):
        return ()
    store = {1: 1, 2: 2}.get(row.terminal, 0)
    known = row.card in range(10_000_000, 10_000_004)
    number = row.card if known else 0
    factor = (number + row.channel) % 5 * ONE // 2
    first = Told(3, 0, row.amount % 7 * (store % 2) * ONE // 100, factor)
    if row.amount % 11 == 0:
        first = Told(3, 1)
    return first, Told(7, 0, 333_333_333_333 if row.channel == 1 else 0)


def history(rng: Random, day: int, trace: int) -> list[Row]:
    """A batch of sales of every form, some of them sent twice, and what gives back."""
    made: list[Row] = []
    for at in range(rng.randrange(1, 40)):
        row = Row(
            kind=rng.choice([PURCHASE, PURCHASE, AUTHORISE]),
            flags=rng.choice([0, 0, WITH_POINTS, ACCEPT_PARTIAL]),
            channel=rng.choice([0, 0, 1, 4]),
            card_digits=8,
            card=10_000_000 + rng.randrange(5),
            programme=1,
            business_date=day,
            amount=rng.choice([0, 1, 7, 100, 3_003, 5_000, 9_999, 40_004, 10**7]) + rng.randrange(50),
            terminal=rng.randrange(1, 3),
            trace=trace + at,
        )
        if rng.random() < 0.4 and row.amount:
            cuts = sorted(rng.randrange(row.amount + 1) for _ in range(rng.randrange(3)))
            bounds = [0, *cuts, row.amount]
            lines = [
                Item(LINE, unit=rng.randrange(3), amount=end - start)
                for start, end in itertools.pairwise(bounds)
            ]
            row = row._replace(items=tuple(lines))
        if rng.random() < 0.2 and row.kind == PURCHASE:
            row = row._replace(items=(*row.items, Item(CASH, amount=1 + rng.randrange(5_000))))
        if rng.random() < 0.15:
            row = row._replace(flags=row.flags | DRY_RUN, trace=0)
        if rng.random() < 0.1:
            row = row._replace(kind=TOP_UP, flags=0, items=(), trace=trace + at)
        made.append(row)
        if rng.random() < 0.1:
            made.append(made[rng.randrange(len(made))])
    return made


@pytest.mark.parametrize(
    ("way", "tables"),
    [(EngineDriver, TABLES), (GrpcDriver, TABLES), (EngineDriver, PLAIN)],
    ids=["in process", "over gRPC", "audited"],
)
def test_the_model_prices_the_same(tmp_path: Path, way: Any, tables: dict[str, Any]) -> None:
    rng = Random(751)
    driver = way(str(tmp_path / "data"), python_rules=[outside.by_number, outside.third_off])
    model, day, trace = Model(), rows.days(DAY), 10
    places = [
        ("programme", 1, 1, day, "p"),
        ("merchant", 1, 1, 0, "m"),
        ("store", 1, 1, 1, "one"),
        ("store", 1, 2, 1, "two"),
        ("terminal", 1, 1, 1, ""),
        ("terminal", 1, 2, 2, ""),
    ]
    assert driver.register(places) == [model.register(*one) for one in places]
    text = json.dumps(tables)
    assert driver.publish(1, 1, "x", text) == model.programmes[1].publish(1, "x", text) == 0
    header: dict[str, Any] = {"programme": 1, "business_date": day, "terminal": 1, "card_digits": 8}
    cards = [
        Row(kind, product=product, amount=amount, card=10_000_000 + card, trace=1 + 2 * card + add, **header)
        for card in range(4)
        for add, (kind, product, amount) in enumerate([(ISSUE, 1, 0), (TOP_UP, 0, 900_000)])
    ]
    compare(driver, model, cards)
    posted: list[Answer] = []
    for _ in range(60):
        batch = [driver.sayable(row) for row in history(rng, day, trace)]
        trace += 100
        posted += [
            answer for answer in compare(driver, model, batch) if answer.sequence and answer.code in (0, 10)
        ]
        for kind in (REFUND, REVERSAL):
            original = rng.choice(posted)
            amount = max(1, original.amount // 2) if kind == REFUND else 0
            row = Row(
                kind, programme=1, business_date=day, terminal=1, amount=amount, trace=(trace := trace + 1)
            )
            compare(driver, model, [row._replace(original=original.sequence)])
    # What was said is among what a period is executed again with: nobody is asked.
    assert driver.engine.period().run(None).differing == 0
    driver.close()
    if tables is PLAIN:
        assert not auditor.audit(tmp_path / "data").problems
    # The journal says all of it: nobody is asked to open it again.
    assert not verify(str(tmp_path / "data")).problems


def compare(driver: Any, model: Model, batch: list[Row]) -> list[Answer]:
    """Both answer the same, but for where their sequences begin."""
    before = 7  # entries of places and rules
    asked = [row._replace(original=row.original + before) if row.original else row for row in batch]
    found = driver.execute(asked)
    expected = [model.execute(row, said(row)) for row in batch]
    shifted = [one._replace(sequence=one.sequence + before) if one.sequence else one for one in expected]
    for row, one, other in zip(batch, found, shifted, strict=True):
        assert one == other, row
    return expected


# Over gRPC


def test_it_is_served(serve: Serve, tmp_path: Path, mood: Mood) -> None:
    mood("10")
    rules = tmp_path / "rules.toml"
    rules.write_text(GOOD + asking(outside.moody))
    options = ("--opens", str(DAY), "--rules", str(rules), "--python-rules", "tests.outside")
    served = serve(tmp_path / "data", *options)
    with Client(served.target, terminal=11, business_date=DAY) as client:
        client.register_merchant(1, "m")
        client.register_store(1, 1, "s")
        client.register_terminal(11, 1)
        client.issue(CARD, 1)
        client.top_up(CARD, 100_000)
        sold = client.purchase(CARD, 10_000)
        [part] = [part for part in sold.parts if part.account == ADVICE_PART]
        assert (sold.code, sold.discount, part.purse, part.amount, part.balance) == (0, 1_000, 2, 1_000, 0)
        assert client.explain(sold.sequence).verdicts[-1].name == "moody"
        mood("raise")
        sold = client.purchase(CARD, 10_000)
        [part] = [part for part in sold.parts if part.account == ADVICE_PART]
        assert (sold.code, sold.discount, part.balance) == (0, 0, 2)
        assert client.explain(sold.sequence).verdicts[-1].fate == Fate.FAILED
        client.publish(Rules.parse(GOOD + asking(outside.moody, required=True)))
        refused = client.purchase(CARD, 10_000)
        assert (refused.code, refused.reason) == (Code.NOT_AVAILABLE, Reason.NO_ADVICE)
    assert served.stop() == 0


# The rule file


def test_the_file_names_them() -> None:
    rules = Rules.parse(GOOD + asking(outside.moody, required=True) + asking(outside.witness))
    assert rules.tables["python_rules"] == [
        {"id": 1, "name": "witness", "version": "1"},
        {"id": 2, "name": "moody", "version": "1", "required": True},
    ]
    assert (
        "Python rule 2, moody, version 1, is asked about every sale; "
        "one that it does not answer in time is refused." in rules.explain()
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("id = 2", "id = 1"), "Python rule 1 is there already"),
        (('"moody"', '"witness"'), "give this one another name"),
        (('version = "1"', ""), 'add version = "1"'),
        (("id = 2", "id = 0"), "use 1 to 65535"),
        (('"1"', f'"{"ü" * 40}"'), "`version` is too long"),
    ],
)
def test_what_is_wrong_in_the_file(change: tuple[str, str], problem: str) -> None:
    found = problems(GOOD + asking(outside.witness) + asking(outside.moody).replace(*change))
    assert any(problem in one for one in found), found


def test_the_example_of_the_docs_is_the_one_that_is_measured() -> None:
    root = Path(__file__).resolve().parent.parent
    code = (root / "bench" / "win_back.py").read_text()
    shown = code[code.index("AWAY_DAYS = ") : code.index("@rule(id=2")].strip()
    assert shown in (root / "docs" / "python-rules.md").read_text()


def test_advice_is_nothing_by_default() -> None:
    assert Advice() == Advice(discount=None, points=None, refuse=None)
