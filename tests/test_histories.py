"""Engine and model agree on random histories: seeded ones in bulk, and ones that hypothesis can shrink.

`python -m tests.histories` plays as many as one likes; this is its small brother.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.card_history import CARD_COMMANDS, card_history_of, write_card_history
from tests.drivers import Driver, EngineDriver, GrpcDriver
from tests.histories import (
    REASONS,
    Coverage,
    Disagreement,
    Share,
    fails_alone,
    play,
    play_share,
    play_without_room,
    reproduction,
    smaller,
)
from tests.history import COMMANDS, PROGRAMMES_MAX, history_of, write_history
from tests.model import REFUND, Answer, Books, Draft, Row, Transaction, fees

HISTORIES = 300
HISTORIES_OVER_GRPC = 120

seeds = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50)


@pytest.fixture(scope="module")
def in_process() -> Coverage:
    return play_share(Share(1, 0, HISTORIES, grpc=False))


@pytest.fixture(scope="module")
def over_grpc() -> Coverage:
    return play_share(Share(2, 0, HISTORIES_OVER_GRPC, grpc=True))


@pytest.fixture(scope="module")
def without_room() -> Coverage:
    coverage = Coverage()
    play_without_room(coverage)
    return coverage


def test_histories_agree_in_process(in_process: Coverage) -> None:
    assert in_process.histories == HISTORIES
    assert in_process.steps >= 40 * HISTORIES


def test_histories_agree_over_grpc(over_grpc: Coverage) -> None:
    assert over_grpc.histories == HISTORIES_OVER_GRPC
    assert over_grpc.steps >= 40 * HISTORIES_OVER_GRPC


def test_a_full_journal_refuses_and_changes_nothing(without_room: Coverage) -> None:
    assert without_room.codes[91] > 0


def test_everything_occurred(in_process: Coverage, over_grpc: Coverage, without_room: Coverage) -> None:
    everything = Coverage()
    for coverage in (in_process, over_grpc, without_room):
        everything.add(coverage)
    assert everything.missing() == []
    assert [name for name in (*COMMANDS, *CARD_COMMANDS) if not over_grpc.commands[name]] == []
    assert [reason for reason in REASONS if not over_grpc.reasons[reason]] == []


def test_every_history_has_a_close_a_retry_and_something_undone() -> None:
    for seed in range(200):
        history = history_of(1, seed)
        labels = [label for command in history.commands for label in command.labels]
        assert labels.count("close") >= 1
        assert labels.count("retry") >= 1
        assert labels.count("refund") + labels.count("reversal") >= 1
        assert sum(one[0] == "store" for one in history.opening) >= 2
        assert sum(one[0] == "terminal" for one in history.opening) >= 2
        assert len(history.cards) >= 3
        assert history_of(1, seed) == history


def test_histories_of_the_whole_card_have_every_command() -> None:
    labels = {
        label
        for seed in range(100)
        for command in card_history_of(1, seed).commands
        for label in command.labels
    }
    assert [name for name in CARD_COMMANDS if name not in labels] == []
    assert card_history_of(1, 5) == card_history_of(1, 5)


class OnDemand:
    """A driver for many small histories, each in a programme that no other had."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.programmes: Iterator[int] = count(1)

    def play(self, given_seeds: list[int]) -> None:
        play([write_history(self.programme(), given_seeds)], self.driver, Coverage())

    def play_card(self, given_seeds: list[int]) -> None:
        play([write_card_history(self.programme(), given_seeds)], self.driver, Coverage())

    def programme(self) -> int:
        programme = next(self.programmes)
        assert programme <= PROGRAMMES_MAX
        return programme


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDemand]:
    driver = EngineDriver(str(tmp_path_factory.mktemp("hypothesis")))
    yield OnDemand(driver)
    driver.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDemand]:
    driver = GrpcDriver(str(tmp_path_factory.mktemp("hypothesis-grpc")))
    yield OnDemand(driver)
    driver.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seeds)
def test_any_history_agrees_in_process(engine: OnDemand, given_seeds: list[int]) -> None:
    engine.play(given_seeds)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seeds)
def test_any_history_of_the_whole_card_agrees(engine: OnDemand, given_seeds: list[int]) -> None:
    engine.play_card(given_seeds)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seeds)
def test_any_history_agrees_over_grpc(served: OnDemand, given_seeds: list[int]) -> None:
    served.play(given_seeds)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seeds)
def test_any_history_of_the_whole_card_agrees_over_grpc(served: OnDemand, given_seeds: list[int]) -> None:
    served.play_card(given_seeds)


class Lying(EngineDriver):
    """An engine that returns one unit too many of a refund, and says so."""

    def execute(self, batch: Sequence[Row]) -> list[Answer]:
        return [
            answer._replace(principal=answer.principal + 1)
            if row.kind == REFUND and answer.code == 0
            else answer
            for row, answer in zip(batch, super().execute(batch), strict=True)
        ]


def kept(draft: Draft, original: Transaction, before: int, after: int, total: int) -> None:
    """No fee is given back with a refund."""


def latest_seat(books: Books, merchant: int) -> int:
    """The last store of a merchant instead of its first."""
    return [store for store, (owner, _) in books.stores.items() if owner == merchant][-1]


@pytest.mark.parametrize(("name", "wrong"), [("give_back", kept), ("seat", latest_seat)])
def test_a_fee_that_is_wrong_in_the_model_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrong: object
) -> None:
    monkeypatch.setattr(fees, name, wrong)
    driver = EngineDriver(str(tmp_path))
    histories = [card_history_of(1 + seed, seed) for seed in range(200)]
    with pytest.raises(Disagreement):
        play(histories, driver, Coverage())
    driver.close()


def test_a_wrong_answer_is_found_and_made_small(tmp_path: Path) -> None:
    driver = Lying(str(tmp_path))
    histories = [history_of(1 + seed, seed) for seed in range(30)]
    with pytest.raises(Disagreement) as found:
        play(histories, driver, Coverage())
    driver.close()
    history = found.value.history
    small = smaller(history, partial(fails_alone, new=Lying))
    kinds = [command.row.kind if command.row else command.call for command in small.commands]
    assert kinds[0] == "publish"
    assert kinds[-1] == REFUND
    assert len(kinds) <= 6
    assert "smallest reproduction" in reproduction(small, Lying)
