"""The Python border, timed: `python -m pytest bench --benchmark-only`.

What a call costs over what the engine itself does: one row and 8,192 rows through `execute` and `submit`,
the builders of rows, and a Future alone. Balance queries are timed beside purchases, because they commit
nothing: what they take is the border's.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from bench.chain import DAY, CardNumbers, build
from bench.swipes import Drawn, Swipes
from onecard import Engine, rows

CARDS = 100_000


class Benchmark(Protocol):
    """The fixture of pytest-benchmark, as far as it is used here."""

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Times a function."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with a chain."""
    path: Path = tmp_path_factory.mktemp("border") / "data"
    with Engine(path) as opened:
        build(opened, CARDS)
        yield opened


@pytest.fixture(scope="module")
def swipes() -> dict[int, Swipes]:
    """Swipes by the size of their batches; terminals count on from one benchmark to the next."""
    return {1: Swipes(CARDS, 1, size=1, batches=64, keys="ids"), rows.GROUP_MAX: Swipes(CARDS, 2, keys="ids")}


def balances(size: int) -> rows.Batch:
    """Queries of the first cards."""
    numbers = CardNumbers(CARDS).of(np.arange(size))
    return rows.balance((numbers, np.full(size, 16)), terminal=1)


@pytest.mark.parametrize("size", [1, rows.GROUP_MAX])
def test_execute_balances(benchmark: Benchmark, engine: Engine, size: int) -> None:
    answers = benchmark(engine.execute, balances(size))
    assert len(answers) == size
    assert not answers["code"].any()


@pytest.mark.parametrize("size", [1, rows.GROUP_MAX])
def test_execute_swipes(benchmark: Benchmark, engine: Engine, swipes: dict[int, Swipes], size: int) -> None:
    answers = benchmark(lambda: engine.execute(swipes[size].next().rows))
    assert not answers["code"].any()
    assert not answers["replayed"].any()


@pytest.mark.parametrize("size", [1, rows.GROUP_MAX])
def test_submit_balances(benchmark: Benchmark, engine: Engine, size: int) -> None:
    batch = balances(size)
    answers = benchmark(lambda: engine.submit(batch).result())
    assert len(answers) == size
    assert not answers["code"].any()


def test_draw_a_batch(benchmark: Benchmark, swipes: dict[int, Swipes]) -> None:
    drawn: Drawn = benchmark(swipes[rows.GROUP_MAX].next)
    assert len(drawn.rows) == rows.GROUP_MAX


@pytest.mark.parametrize("size", [1, rows.GROUP_MAX])
def test_build_purchases(benchmark: Benchmark, size: int) -> None:
    cards = (CardNumbers(CARDS).of(np.arange(size)), np.full(size, 16))
    traces = np.arange(1, size + 1)
    batch = benchmark(lambda: rows.purchase(cards, 10_00, terminal=1, trace=traces, business_date=DAY))
    assert len(batch) == size


def test_build_purchases_of_text(benchmark: Benchmark) -> None:
    numbers = CardNumbers(CARDS).of(np.arange(rows.GROUP_MAX))
    cards = [rows.card_text(int(number), 16) for number in numbers]
    traces = np.arange(1, len(cards) + 1)
    batch = benchmark(lambda: rows.purchase(cards, 10_00, terminal=1, trace=traces, business_date=DAY))
    assert bool((batch["card"] == numbers).all())


def test_random_ids(benchmark: Benchmark) -> None:
    high, low = benchmark(rows.random_ids, rows.GROUP_MAX)
    assert len(high) == len(low) == rows.GROUP_MAX


def test_a_future(benchmark: Benchmark) -> None:
    def one() -> int:
        future: Future[int] = Future()
        future.set_running_or_notify_cancel()
        future.set_result(1)
        return future.result()

    assert benchmark(one) == 1
