"""The bench is held to what it says: every workload runs on a tiny chain, and fails on wrong books.

Nothing is timed here. Books are made wrong where they are read - entries that nobody posted, points that
nobody earned, sums that are not zero - and answers where they are counted.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import (
    behind,
    curve,
    dry_run,
    journal,
    keys,
    lone,
    machine,
    points,
    python_rules,
    served,
    table,
    w1,
    w1_card,
    w1_demo,
    w1_rules,
    w2,
    w3,
    w4,
    w5,
    w6,
    w7,
    w8,
)
from bench.chain import BenchError, CardNumbers, build, check_books, totals
from bench.options import Options, cards_of
from bench.peers import redis
from bench.peers.peer import Plan, missing
from bench.swipes import Ledger, Swipes, Tally
from onecard import Client, Engine, Period, Rules
from onecard.codes import Account, Kind
from onecard.demo.drive import run_year
from onecard.reports import TrialBalance

CARDS = 500
# No two batches of ids on the same engine may be alike.
SEEDS = itertools.count(100)

Run = Callable[[Options], dict[str, object]]

IN_PROCESS: dict[str, Run] = {
    "W1": w1.run,
    "W1-card": w1_card.run,
    "W1-demo": w1_demo.run,
    "W1-rules": w1_rules.run,
    "python-rules": python_rules.run,
    "dry-run": dry_run.run,
    "W4": w4.run,
    "W5": w5.run,
    "W6": w6.run,
    "lone": lone.run,
    "keys": keys.run,
}
# It reads no books but those that it compares.
REPLAYED: dict[str, Run] = {"W8": w8.run}
SERVED: dict[str, Run] = {"W2": w2.run, "W3": w3.run, "W2-behind": behind.run}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """The smallest measurement."""
    for module, name, value in (
        (w1, "BURST_S", 0.05),
        (w1, "SIZED_S", 0.05),
        (w5, "KILL_AFTER_S", 0.6),
        (keys, "BURST_S", 0.05),
        (keys, "WARM_UP", 1),
        (lone, "WARM_UP", 5),
        (served, "WARM_UP_S", 0.05),
        (python_rules, "LONE", 20),
        (w1_rules, "SIZES", (10, 1_000)),
        (w8, "DAYS", 9),
    ):
        monkeypatch.setattr(module, name, value)
    return Options(
        cards=CARDS,
        seconds=0.3,
        runs=1,
        in_flight=8,
        entries=1_000,
        ids=60_000,
        peers=False,
        results=tmp_path / "results",
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An engine with the bench's chain."""
    with Engine(tmp_path_factory.mktemp("bench") / "data") as engine:
        build(engine, CARDS)
        yield engine


# The workloads


@pytest.mark.parametrize("name", [*IN_PROCESS, *SERVED, *REPLAYED])
def test_a_workload_runs(options: Options, name: str) -> None:
    found = (IN_PROCESS | SERVED | REPLAYED)[name](options)
    assert found["id"] == name
    assert table.lines(found)
    figures = [value for key, value in found.items() if "_s" in key and isinstance(value, (int, float))]
    assert all(value > 0 for value in figures)


def test_w1_gives_the_promised_figures(options: Options) -> None:
    found = w1.run(dataclasses.replace(options, draw="zipf"))
    promised = (
        "swipes_per_s",
        "burst_swipes_per_s",
        "journal_bytes_per_swipe",
        "memory_bytes_per_card",
        "tail_max",
    )
    assert all(isinstance(found[name], (int, float)) for name in promised)
    ratios = found["ratios"]
    assert isinstance(ratios, dict)
    assert ratios["limit"] > 0
    assert found["journal_bytes_per_swipe_traces"] < found["journal_bytes_per_swipe_ids"]  # type: ignore[operator]


@pytest.mark.parametrize("cells", [1, 125, 12_500])
def test_the_rules_of_w1_rules_divide_all_there_is(cells: int) -> None:
    for family in w1_rules.FAMILIES:
        counts = w1_rules._divided(cells, family)
        assert np.prod(counts) == cells
        assert all(count <= w1_rules.PARTS[kind] for kind, count in zip(family, counts, strict=True))


def test_w1_rules_tells_if_other_rules_apply(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w1_rules, "PARTS", w1_rules.PARTS | {"stores": 5_000})
    with pytest.raises(BenchError, match="not just four"):
        w1_rules.run(options)


def test_dry_run_tells_if_something_is_posted(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "_try_out", lambda _: None)
    with pytest.raises(BenchError, match="tried out has an entry"):
        dry_run.run(options)


def test_the_curve_runs(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "SIZES", (100, 200, 10**8))
    found = curve.run(dataclasses.replace(options, largest=200))
    assert [one["cards"] for one in found["curve"]] == [100, 200]  # type: ignore[attr-defined]
    assert found["missing"] == {"100000000": "more than --largest 200"}
    assert sorted(path.name for path in options.results.iterdir()) == ["w1-cards.csv", "w1-cards.png"]


def test_w4_grows_the_chain_from_size_to_size(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w4, "SIZES", {"1m": 300, "10m": 900, "100m": 2_000})
    found = w4.run(dataclasses.replace(options, cards=None, largest=900, runs=2))
    assert {"seconds_1m", "seconds_10m"} < set(found)
    assert found["missing"] == {"seconds_100m": "more than --largest 900"}
    assert (options.results / "w4-growth.csv").read_text().count("\n") == 3


def test_w7_runs_the_year(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w7, "run_year", lambda: run_year(limit_days=2))
    assert table.lines(w7.run(options))


def test_sizes_are_those_of_the_workload_unless_given() -> None:
    assert cards_of(Options(), 7) == 7
    assert cards_of(Options(cards=3), 7) == 3


def test_what_the_machine_cannot_hold_is_named(tmp_path: Path) -> None:
    assert machine.lacks(1, tmp_path) == ""
    assert "memory" in machine.lacks(10**12, tmp_path)
    assert all(machine.describe().values())


def test_time_that_others_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(1000, 40), (1400, 140)])
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    assert machine.Stolen().share() == 0.25


# Wrong books


def tampered(
    read: Callable[..., TrialBalance], **wrong: Callable[[int, Any], Any]
) -> Callable[..., TrialBalance]:
    """A trial balance that is read wrong; each reading by more, so that differences are wrong as well."""
    readings = 0

    def tampering(*args: Any) -> TrialBalance:
        nonlocal readings
        readings += 1
        found = read(*args)
        return dataclasses.replace(
            found, **{name: change(readings, getattr(found, name)) for name, change in wrong.items()}
        )

    return tampering


WRONG: dict[str, dict[str, Callable[[int, Any], Any]]] = {
    "entries": {"entries": lambda readings, entries: entries + readings},
    "sum of money": {"money_sum": lambda readings, _: readings},
    "points": {
        "totals": lambda readings, held: held | {Account.CARD_POINTS: held[Account.CARD_POINTS] + readings}
    },
}


@pytest.mark.parametrize(
    ("name", "what"), [*((name, "entries") for name in IN_PROCESS), ("W1", "points"), ("W4", "points")]
)
def test_a_workload_fails_on_wrong_books(
    options: Options, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    monkeypatch.setattr(Engine, "trial_balance", tampered(Engine.trial_balance, **WRONG[what]))
    with pytest.raises(BenchError, match=r"entries|points|account"):
        IN_PROCESS[name](options)


@pytest.mark.parametrize(
    ("name", "what"), [("W2", "entries"), ("W3", "sum of money"), ("W2-behind", "entries")]
)
def test_a_served_workload_fails_on_wrong_books(
    options: Options, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    monkeypatch.setattr(Client, "trial_balance", tampered(Client.trial_balance, **WRONG[what]))
    with pytest.raises(BenchError, match=r"new entries|sum to zero"):
        SERVED[name](options)


def test_a_tail_that_grows_too_long_fails(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w1, "TAIL_MAX", 1)
    monkeypatch.setattr(w1, "LOOK_S", 0.001)
    with pytest.raises(BenchError, match="tail"):
        w1.run(options)
    monkeypatch.setattr(curve, "SIZES", (CARDS,))
    with pytest.raises(BenchError, match="tail"):
        curve.run(options)


# Answers


@pytest.mark.parametrize(
    ("field", "value"), [("code", 51), ("replayed", 1), ("kind", Kind.REFUND), ("business_date", 1)]
)
def test_a_wrong_answer_is_seen(chain: Engine, field: str, value: int) -> None:
    ledger, tally = Ledger(chain), Tally()
    drawn = Swipes(CARDS, seed=next(SEEDS), keys="ids", size=128).next()
    answers = chain.execute(drawn.rows).copy()
    tally.count(drawn, answers)
    ledger.add(tally)
    ledger.check(chain)
    answers[field][77] = value
    with pytest.raises(BenchError, match="row 77"):
        Tally().count(drawn, answers)


@pytest.mark.parametrize("field", ["amount", "principal", "bonus", "offset", "points_earned", "points_spent"])
@pytest.mark.parametrize("size", [100, 128])
def test_a_wrong_amount_is_seen(chain: Engine, field: str, size: int) -> None:
    ledger, tally = Ledger(chain), Tally()
    drawn = Swipes(CARDS, seed=next(SEEDS), keys="ids", size=size).next()
    answers = chain.execute(drawn.rows).copy()
    answers[field][size - 1] += 1
    tally.count(drawn, answers)
    ledger.add(tally)
    with pytest.raises(BenchError, match="account"):
        ledger.check(chain)


def test_books_are_compared_account_by_account(chain: Engine) -> None:
    entries, sums = totals(chain)
    check_books(chain, entries, sums)
    for account in (Account.CARD_PRINCIPAL, Account.STORE_COLLECTION, Account.ISSUER_BONUS):
        with pytest.raises(BenchError, match=str(int(account))):
            check_books(chain, entries, sums | {account: sums[account] + 1})


# Swipes


def test_card_numbers_are_those_of_the_driver() -> None:
    cards = 10**8
    indexes = np.array([0, 1, 2_047, 2_048, 1_234_567, cards - 1])
    expected = [int(index) * 6_180_339_887_498_949 % 10**16 for index in indexes]
    assert CardNumbers(cards).of(indexes).tolist() == expected


@pytest.mark.parametrize("kind", ["traces", "ids", "half"])
def test_every_key_is_used_once(kind: Any) -> None:
    swipes = Swipes(CARDS, seed=5, keys=kind, batches=3, size=4_096)
    seen = set[tuple[int, ...]]()
    count = traced = 0
    last = np.zeros(10_001, np.int64)
    for _ in range(12):
        for row in swipes.next().rows:
            if row["kind"] == Kind.BALANCE:
                assert row["trace"] == row["id_hi"] == row["id_lo"] == row["local_time"] == 0
                continue
            assert (row["trace"] > 0) != (row["id_hi"] > 0 or row["id_lo"] > 0)
            seen.add((row["terminal"], row["trace"]) if row["trace"] else (row["id_hi"], row["id_lo"]))
            count += 1
            if row["trace"]:
                traced += 1
                # A terminal counts on, one by one.
                assert row["trace"] == last[row["terminal"]] + 1
                last[row["terminal"]] += 1
    assert len(seen) == count
    assert int(last.max()) < swipes.next_trace
    assert abs(traced / count - {"traces": 1, "ids": 0, "half": 0.5}[kind]) < 0.02


def test_the_mix_is_that_of_the_workload() -> None:
    drawn = np.concatenate([one.rows for one in Swipes(CARDS, seed=6).drawn])
    share = {
        kind: float((drawn["kind"] == kind).mean()) for kind in (Kind.PURCHASE, Kind.TOP_UP, Kind.BALANCE)
    }
    assert share == pytest.approx({Kind.PURCHASE: 0.6, Kind.TOP_UP: 0.3, Kind.BALANCE: 0.1}, abs=0.01)


def test_zipf_draws_some_cards_far_more_often() -> None:
    def most(draw: Any) -> float:
        swipes = Swipes(10_000, seed=7, draw=draw)
        cards = np.concatenate([swipes.next().rows["card"].copy() for _ in range(4)])
        return float(np.unique(cards, return_counts=True)[1].max() / len(cards))

    # The first of 10,000 by zipf 0.99 has one draw in 9.6 or so, uniformly one in 10,000.
    assert 0.08 < most("zipf") < 0.13
    assert most("uniform") < 0.001


# The peers


def test_runs_of_redis_that_draw_alike_share_no_key() -> None:
    plan = Plan(CARDS, seconds=1.0, runs=1, progress=lambda _: None)
    if missing(redis.PROGRAMS):
        # Then there are no runs.
        assert redis.one_at_a_time(plan).absent == redis.INSTALL
        return
    with redis.database(redis.ONE, plan) as served:
        digest = served.swipe_script()

        def post(run: int) -> None:
            # Of twenty such draws two are balance queries, nine have a trace and nine an id.
            for drawn in range(20):
                words = [drawn + number for number in range(redis.DRAWN)] + [run]
                served.cli("EVALSHA", digest, "0", *map(str, words))

        post(0)
        post(redis.RUN_MAX)
        served.check(40)
        post(0)
        with pytest.raises(BenchError, match="36 journal rows for 54 swipes"):
            served.check(60)
        with pytest.raises(BenchError, match="keys of their own"):
            served.benchmark(redis.RUN_MAX + 1, 1, 1)


def test_w8_fails_when_the_same_rules_give_something_else(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Period.run
    other = Rules.load(w8.RULES)
    monkeypatch.setattr(Period, "run", lambda self, rules, **more: run(self, rules or other, **more))
    with pytest.raises(BenchError, match="came out otherwise under the same rules"):
        w8.run(options)


# The accounts beside


def test_points_grow_as_single_cards_do() -> None:
    amounts = np.array([100, 9_999, 20_000])
    beside = points.Points()
    beside._points, beside._carry = points.earned(amounts), np.zeros(3, np.int64)
    beside._count = np.array([2, 1, 3])
    held = [(amount - amount * 5 // 100) * 100 for amount in (100, 9_999, 20_000)]
    carry = [0, 0, 0]
    for _ in range(400):
        grown = 0
        for card, count in enumerate((2, 1, 3)):
            growth, carry[card] = divmod(held[card] * points.RATE + carry[card], points.ONE)
            held[card] += growth
            grown += growth * count
        assert beside.grow() == grown
    assert beside.outstanding() == 2 * held[0] + held[1] + 3 * held[2]


def test_the_full_rate_is_the_first_of_ten_windows_in_a_row() -> None:
    windows = np.array([10.0, 100, 50, *[95] * 9, 10, *[100] * 30])
    later, reached = w5.full_rate(windows, begun=2.0)
    assert later == 100
    assert reached == 2.0 + 13 * 0.1
    assert w5.full_rate(np.array([100.0, 10] * 20), begun=0.0)[1] is None


def test_the_journal_is_read_by_ranges(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        build(engine, CARDS)
        first = totals(engine)[0] + 1
        swipes = Swipes(CARDS, seed=8)
        for _ in range(3):
            engine.execute(swipes.next().rows)
        end = totals(engine)[0] + 1
    assert (
        sum(journal.entries_of(block) for _, block in journal.blocks(tmp_path / "data", first, end))
        == end - first
    )
    assert 40 < journal.bytes_per_entry(tmp_path / "data", first, end) < 200
    assert journal.limit(tmp_path / "data", first, end, 1.0) > 0
    with pytest.raises(BenchError, match="entries"):
        journal.bytes_per_entry(tmp_path / "data", first, end + 1)
