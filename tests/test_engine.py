"""The engine in Python: batches of any length, futures, owners, forks, and what it says when it cannot."""

import datetime
import multiprocessing
import os
import pickle
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onecard import Engine, EngineClosed, EngineError, Rules, codes, rows
from onecard.reports import Liabilities, MerchantLiability, StorePosition, StorePositions
from tests.conftest import DAY, RULES, found_chain

CARD = "6200000000000001"


def top_ups(count: int, first: int = 1000) -> rows.Batch:
    """As many top-ups of 1 to the card, each with a key of its own."""
    traces = np.arange(first, first + count)
    return rows.top_up(card=CARD, amount=1, terminal=11, business_date=DAY, trace=traces)


@pytest.fixture
def issued(chain: Engine) -> Engine:
    """The small chain with one card."""
    (answer,) = chain.execute(rows.issue(card=CARD, product=1, terminal=11, business_date=DAY, trace=1))
    assert answer["code"] == 0
    return chain


def held(engine: Engine) -> int:
    (answer,) = engine.execute(rows.balance(card=CARD, terminal=11))
    return int(answer["principal_balance"])


@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 8193, 20_000])
def test_a_batch_of_any_length_is_executed_in_order(issued: Engine, count: int) -> None:
    answers = issued.execute(top_ups(count))
    assert answers.dtype == rows.ANSWER
    assert not answers["code"].any()
    assert answers["principal_balance"].tolist() == list(range(1, count + 1))
    assert held(issued) == count


def test_a_batch_may_be_a_view(issued: Engine) -> None:
    answers = issued.execute(top_ups(100)[::-3])
    assert len(answers) == 34
    assert held(issued) == 34


def test_a_batch_is_copied_before_submit_returns(issued: Engine) -> None:
    batch = top_ups(8192)
    future = issued.submit(batch)
    batch["amount"] = -1
    assert not future.result()["code"].any()
    assert held(issued) == 8192


def test_batches_are_executed_in_the_order_of_submit(issued: Engine) -> None:
    futures = [issued.submit(top_ups(100, 1000 * at)) for at in range(1, 31)]
    balances = np.concatenate([future.result() for future in futures])["principal_balance"]
    assert balances.tolist() == list(range(1, 3001))


def test_the_same_batch_again_gets_the_same_answers(issued: Engine) -> None:
    batch = top_ups(1000)
    first, again = issued.execute(batch), issued.execute(batch)
    assert not first["replayed"].any()
    assert again["replayed"].all()
    names = [name for name in rows.ANSWER.names or () if name != "replayed"]
    assert (first[names] == again[names]).all()
    assert held(issued) == 1000


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros(3, rows.ANSWER),
        np.zeros((2, 2), rows.REQUEST),
        np.zeros((), rows.REQUEST),
        np.zeros(3, np.int64),
        [1, 2],
        b"x" * 104,
        None,
    ],
)
def test_what_is_no_batch_is_refused(engine: Engine, batch: Any) -> None:
    with pytest.raises(TypeError, match=r"one-dimensional array of onecard\.rows\.REQUEST"):
        engine.execute(batch)
    with pytest.raises(TypeError, match=r"one-dimensional array of onecard\.rows\.REQUEST"):
        engine.submit(batch)


def test_submit_takes_one_group(engine: Engine) -> None:
    with pytest.raises(ValueError, match="at most 8192 rows, not 8193: use execute"):
        engine.submit(np.zeros(8193, rows.REQUEST))


def test_no_more_than_in_flight_max_are_under_way(tmp_path: Path) -> None:
    """A core that answers when it is told: the third of two waits."""

    class Nothing(bytes):
        parts = b""

    class Slow:
        def __init__(self) -> None:
            self.waiting: list[Callable[[Any, Exception | None], None]] = []

        def submit(self, _rows: bytes, _items: bytes, done: Callable[[Any, Exception | None], None]) -> None:
            self.waiting.append(done)

    with Engine(tmp_path / "data", in_flight_max=2) as engine:
        core, slow = engine._core, Slow()
        engine._core = slow  # type: ignore[assignment]
        futures: list[Future[rows.Answers]] = []
        thread = threading.Thread(target=lambda: futures.extend(engine.submit(top_ups(0)) for _ in range(3)))
        thread.start()
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            assert len(slow.waiting) <= 2
            time.sleep(0.01)
        slow.waiting[0](Nothing(), None)
        thread.join(10)
        assert len(slow.waiting) == 3
        slow.waiting[1](None, EngineError("on purpose"))
        slow.waiting[2](Nothing(), None)
        assert len(futures[0].result(1)) == 0
        with pytest.raises(EngineError, match="on purpose"):
            futures[1].result(1)
        engine._core = core


def test_in_flight_max_is_at_least_1(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Engine(tmp_path / "data", in_flight_max=0)


def test_many_threads_share_an_engine(issued: Engine) -> None:
    def load(number: int) -> None:
        for at in range(20):
            assert not issued.execute(top_ups(50, 10_000 * number + 100 * at))["code"].any()

    threads = [threading.Thread(target=load, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert held(issued) == 8 * 20 * 50


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data")
    engine.close()
    engine.close()
    calls: list[Callable[[], object]] = [
        lambda: engine.execute(top_ups(1)),
        lambda: engine.submit(top_ups(1)),
        lambda: engine.statement(CARD),
        engine.trial_balance,
        engine.positions,
        engine.liabilities,
        engine.state_digest,
        engine.checkpoint,
        lambda: engine.close_day(DAY),
        lambda: engine.register_merchant(1, "x"),
        lambda: engine.publish(Rules.parse(RULES)),
        lambda: engine.serve("127.0.0.1:0"),
    ]
    for call in calls:
        with pytest.raises(EngineClosed):
            call()


def test_what_was_submitted_before_close_is_durable(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        found_chain(engine, Rules.parse(RULES))
        engine.execute(rows.issue(card=CARD, product=1, terminal=11, business_date=DAY, trace=1))
        futures = [engine.submit(top_ups(1000, 10_000 * at)) for at in range(1, 6)]
    assert all(not future.result(10)["code"].any() for future in futures)
    with Engine(tmp_path / "data") as engine:
        assert held(engine) == 5000


def test_the_state_is_the_same_after_reopening(tmp_path: Path) -> None:
    digests = []
    for at in range(3):
        with Engine(tmp_path / "data", checkpoint_entries=100) as engine:
            if at == 0:
                found_chain(engine, Rules.parse(RULES))
                engine.execute(rows.issue(card=CARD, product=1, terminal=11, business_date=DAY, trace=1))
                engine.execute(top_ups(10_000))
                engine.checkpoint()
                engine.execute(top_ups(500, 50_000))
            digests.append(engine.state_digest())
    assert len(set(digests)) == 1
    assert len(digests[0]) == 32


def test_a_second_owner_is_refused_with_the_pid_of_the_first(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=str(os.getpid())):
        Engine(tmp_path / "data")
    assert engine.poisoned() is None


def _in_child(call: Callable[[], object], pipe: Any) -> None:
    try:
        call()
        pipe.send("it worked")
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("what", ["execute", "submit", "close"])
def test_a_forked_process_has_no_engine(issued: Engine, what: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "execute": lambda: issued.execute(top_ups(1)),
        "submit": lambda: issued.submit(top_ups(1)),
        "close": issued.trial_balance,
    }
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(calls[what], theirs))
    child.start()
    assert ours.poll(30), "the child hangs"
    assert ours.recv().startswith("EngineClosed: ")
    child.join(30)
    assert held(issued) == 0, "the parent's engine goes on"


def test_rules_are_published_from_a_file(chain: Engine, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES.replace('"5%"', '"6%"'))
    assert chain.publish(file) == 0
    assert chain.publish(str(file)) == 0
    assert (chain.rules().version, chain.rules().text) == (
        chain.rules_versions().versions[1],
        file.read_text(),
    )
    assert chain.publish(Rules.parse(RULES)) == 0
    assert (chain.rules(), chain.rules().text) == (chain.rules(3), RULES)
    assert chain.publish(Rules.parse(RULES), version=7) == codes.Code.INVALID_TRANSACTION
    assert chain.publish(Rules.parse(RULES), programme=9) == codes.Code.TERMINAL_NOT_REGISTERED


def test_positions_are_made_when_they_are_looked_at(issued: Engine) -> None:
    issued.execute(rows.top_up(card=CARD, amount=100_000, terminal=11, business_date=DAY, trace=2))
    issued.execute(rows.purchase(card=CARD, amount=10_000, terminal=21, business_date=DAY, trace=3))
    live = issued.positions().stores
    first = StorePosition(store=1, sold=0, collected=100_000, net=-100_000, due=0)
    assert (len(live), live[0], live[-2], first in live, live.index(first)) == (2, first, first, True, 0)
    assert isinstance(live[-1], StorePosition)
    assert list(live[::-1]) == [live[1], first]
    assert live[:2] == live == StorePositions(tuple(live))
    assert live != StorePositions() != tuple(live)
    assert hash(live) == hash(live[:]) != hash(live[:1])
    assert pickle.loads(pickle.dumps(live)) == live
    assert repr(live[:1]) == f"StorePositions(({first!r},))"
    for beyond in (2, -3):
        with pytest.raises(IndexError):
            live[beyond]


def test_the_day_and_the_books(issued: Engine) -> None:
    issued.execute(rows.top_up(card=CARD, amount=100_000, terminal=11, business_date=DAY, trace=2))
    (sale,) = issued.execute(rows.purchase(card=CARD, amount=10_000, terminal=21, business_date=DAY, trace=3))
    assert sale["amount"] == 9_500
    first, second = issued.positions().stores
    assert (first.store, first.collected, first.net) == (1, 100_000, -100_000)
    assert (second.store, second.sold, second.net) == (2, 9_500, 9_500)
    report = issued.close_day(np.datetime64(DAY))
    assert (report.code, report.business_date, report.replayed) == (0, DAY, False)
    assert {store.store: store.net for store in report.stores} == {1: -100_000, 2: 9_500}
    assert report.issuer_net == report.members + report.bonus + report.points == 90_500
    assert report.growth is not None
    assert not report.growth.funded
    again = issued.close_day(DAY)
    assert again.replayed
    assert (again.sequence, again.stores, again.issuer_net) == (
        report.sequence,
        report.stores,
        report.issuer_net,
    )
    assert issued.close_day(rows.days(DAY) + 5).code == codes.Code.INVALID_TRANSACTION
    assert issued.liabilities() == Liabilities(0, None, (MerchantLiability(1, sale["points_earned"], 0),))
    issued.execute(rows.fund(10_000, terminal=11, business_date=DAY, trace=4))
    assert issued.close_day(rows.days(DAY) + 1).code == 0
    grown = sale["points_earned"] // 10_000
    owed = MerchantLiability(1, sale["points_earned"] + grown, grown)
    assert issued.liabilities() == Liabilities(0, DAY + datetime.timedelta(days=1), (owed,))
    books = issued.trial_balance()
    assert (books.money_sum, books.points_sum, books.cards) == (0, 0, 1)
    money = sum(total for account, total in books.totals.items() if not codes.Account(account).in_points)
    points = sum(total for account, total in books.totals.items() if codes.Account(account).in_points)
    assert (money, points) == (0, 0)
    newest, *_ = issued.statement(CARD, limit=1).lines
    assert (newest.kind, newest.terminal, newest.business_date) == (codes.Kind.PURCHASE, 21, DAY)


def test_unknown_programmes_and_cards_are_codes(engine: Engine) -> None:
    assert engine.statement(CARD, programme=3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.trial_balance(3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.positions(3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.liabilities(3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.rules_versions(3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.rules(programme=3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.close_day(DAY, programme=3).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert engine.register_merchant(1, "x") == codes.Code.INVALID_TRANSACTION
    assert engine.register_programme(1, "x" * 65, DAY) == codes.Code.FORMAT_ERROR


def test_the_example_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text(RULES)
    exec(compile(example, "README.md", "exec"), {})
    # 12.50 less 5% is 11.88 (the discount is rounded down); 100.00 in, of which the issuer keeps 88.12.
    assert capsys.readouterr().out.splitlines() == ["0 8812 118800", "8812"]
