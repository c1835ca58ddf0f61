"""W5: crash, reopen with the page cache of its files dropped, and swipe on: 10M cards.

A process of its own runs W1 over seven business days, so that the window is full of keys, and swipes on until
it is killed in the middle. Then every file is synced and dropped from the page cache, and the clock runs from
the call that opens the engine to the first purchase answered rightly - of a card that only this purchase
touches, so that its balances are known - and on to the full rate: the first of ten windows of 100 ms in a
row that reach 90% of the later rate, which is the median of the second half. No answered entry may be lost,
and the key of an answered top-up gives its first answer again.

At the end it is closed and at once opened again: what opening costs where memory and files are at hand.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.chain import DAY, OPENING_AMOUNT, CardNumbers, build, check_books, expect, office_rows
from bench.options import Options, cards_of, scratch
from bench.swipes import Drawn, Ledger, Swipes, Tally
from bench.w1 import IN_FLIGHT, swim
from onecard import Engine, rows
from onecard.codes import Kind

CARDS = 10_000_000
DAYS = 7
ROOT = Path(__file__).parent.parent
# After the first report the child swipes on for so long before it is killed.
KILL_AFTER_S = 1.5
AMOUNT = 10_000
# Far from any that the child's terminals have counted to.
FIRST_TRACE = 1_000_000_000
WINDOW_S = 0.1
WINDOWS = 10
SHARE = 0.9
# Small batches, so that a window holds enough of them.
SIZE = 2_048


@dataclass(frozen=True)
class _Crash:
    """What was seen after one crash: seconds, but for the last four."""

    opened_s: float
    first_answer_s: float
    full_rate_s: float | None
    opened_again_s: float
    later_swipes_per_s: float
    entries: int
    keys: int
    tail: int


def run(options: Options) -> dict[str, object]:
    """Figures of the workload: each run builds, crashes and reopens a directory of its own."""
    cards = cards_of(options, CARDS)
    found = [_run(cards, number, options) for number in range(1, options.runs + 1)]
    full = [one.full_rate_s for one in found]
    reached = [seconds for seconds in full if seconds is not None]
    return {
        "id": "W5",
        "cards": cards,
        "runs": options.runs,
        "entries": max(one.entries for one in found),
        "keys": max(one.keys for one in found),
        "tail": max(one.tail for one in found),
        **_figures("opened_s", [one.opened_s for one in found]),
        **_figures("first_answer_s", [one.first_answer_s for one in found]),
        # A run that did not reach it took longer than any that did.
        **(_figures("full_rate_s", reached) if len(reached) == len(full) else {"full_rate_s": None}),
        **_figures("opened_again_s", [one.opened_again_s for one in found]),
        "later_swipes_per_s": round(statistics.median(one.later_swipes_per_s for one in found)),
        "ratios": {},
    }


def _figures(name: str, values: list[float]) -> dict[str, float]:
    figures = {"": statistics.median(values), "_min": min(values), "_max": max(values)}
    return {name + end: round(value, 3) for end, value in figures.items()}


def _run(cards: int, number: int, options: Options) -> _Crash:
    run = f"W5, run {number} of {options.runs}"
    with scratch("w5") as directory:
        data = directory / "data"
        options.tell(f"{run}: swipes over {DAYS} days, {cards:,} cards, until it is killed")
        answered = _crash(data, cards, options)
        drop_cache(data)
        options.tell(f"{run}: reopen")
        start = time.perf_counter()
        with Engine(
            data, checkpoint_entries=options.checkpoint_entries, in_flight_max=4 * IN_FLIGHT
        ) as engine:
            opened_s = time.perf_counter() - start
            _first_purchase(engine, cards)
            first_answer_s = time.perf_counter() - start
            stats = engine.stats()
            expect(stats.entries > answered, f"{stats.entries} entries are left of {answered} and more")
            options.tell(f"{run}: until the full rate")
            rate, full = _full_rate(engine, cards, start, options.seconds)
            _retry(engine, cards)
        options.tell(f"{run}: open it again")
        start = time.perf_counter()
        with Engine(data, checkpoint_entries=options.checkpoint_entries):
            again_s = time.perf_counter() - start
    tail = stats.entries - stats.checkpointed
    return _Crash(opened_s, first_answer_s, full, again_s, rate, stats.entries, stats.keys, tail)


def drop_cache(data: Path) -> None:
    """Syncs every file below a directory and drops it from the page cache; nobody may have it mapped."""
    for path in data.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def _crash(data: Path, cards: int, options: Options) -> int:
    """Runs a child until it is killed; the entries that it was told of."""
    command = [sys.executable, "-m", "bench.w5", str(data), str(cards), str(options.seconds)]
    command.append(str(options.checkpoint_entries))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        expect(bool(line), "the process that was to be killed ended by itself")
        time.sleep(KILL_AFTER_S)
    finally:
        child.kill()
        rest = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
    expect(child.returncode == -9, f"the process was not killed but ended with {child.returncode}")
    # The last line may have been cut.
    told: int = json.loads([line, *rest][-2 if rest else -1])
    return told


def _swipe_until_killed(data: str, cards: int, seconds: float, checkpoint_entries: int) -> None:
    with Engine(data, checkpoint_entries=checkpoint_entries, in_flight_max=IN_FLIGHT) as engine:
        build(engine, cards + 1)
        for number in range(DAYS):
            day = DAY + datetime.timedelta(days=number)
            ledger = Ledger(engine)
            swipes = Swipes(cards, seed=number, day=day)
            ledger.add(swim(engine, swipes, seconds / DAYS).tally)
            ledger.check(engine)
            if number < DAYS - 1:
                engine.close_day(day)
        while True:
            ledger.add(swim(engine, swipes, 0.5).tally)
            print(ledger.entries, flush=True)


def _last_card(cards: int) -> rows.Batch:
    return office_rows(CardNumbers(cards + 1), np.array([cards]), DAY, times=3)


def _first_purchase(engine: Engine, cards: int) -> None:
    """A purchase of the card that nothing else touches; BenchError unless its answer is right."""
    batch = _last_card(cards)
    batch["kind"], batch["amount"] = Kind.PURCHASE, AMOUNT
    batch["trace"] += 2
    [answer] = engine.execute(batch)
    # rules.toml: 5% off; bonus pays half, there is enough; a point for CNY 1.00; 2% bonus of a top-up.
    due = AMOUNT - AMOUNT * 5 // 100
    bonus = due // 2
    right = {
        "code": 0,
        "replayed": 0,
        "amount": due,
        "bonus_balance": OPENING_AMOUNT * 2 // 100 - bonus,
        "principal_balance": OPENING_AMOUNT - (due - bonus),
        "points_balance": due * 100,
    }
    for name, value in right.items():
        expect(int(answer[name]) == value, f"the first answer's {name} is {answer[name]}, not {value}")


def _retry(engine: Engine, cards: int) -> None:
    """The top-up of before the crash gets its first answer, and posts nothing."""
    batch = _last_card(cards)
    batch["kind"], batch["amount"] = Kind.TOP_UP, OPENING_AMOUNT
    batch["trace"] += 1
    entries = engine.trial_balance().entries
    [answer] = engine.execute(batch)
    expect((answer["code"], answer["replayed"]) == (0, 1), f"a retry was answered {answer}")
    expect(int(answer["principal_balance"]) == OPENING_AMOUNT, "a retry's balance is not the first answer's")
    check_books(engine, entries)


def _full_rate(engine: Engine, cards: int, start: float, seconds: float) -> tuple[float, float | None]:
    """The later rate, and seconds from `start` to the full one; None if it was not reached."""
    day = DAY + datetime.timedelta(days=DAYS - 1)
    swipes = Swipes(cards, seed=DAYS, day=day, first_trace=FIRST_TRACE, size=SIZE, batches=32)
    flying: deque[tuple[Drawn, Future[rows.Answers]]] = deque()
    ledger, tally, landed = Ledger(engine), Tally(), []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or flying:
        if time.perf_counter() - begun < seconds:
            drawn = swipes.next()
            flying.append((drawn, engine.submit(drawn.rows)))
        if len(flying) >= 4 * IN_FLIGHT or time.perf_counter() - begun >= seconds:
            drawn, future = flying.popleft()
            tally.count(drawn, future.result())
            landed.append(time.perf_counter() - begun)
    ledger.add(tally)
    ledger.check(engine)
    windows = np.bincount((np.array(landed) / WINDOW_S).astype(np.int64)) * (SIZE / WINDOW_S)
    # Without those in which nothing was submitted any more.
    return full_rate(windows[: int(seconds / WINDOW_S)], begun - start)


def full_rate(windows: npt.NDArray[np.floating[Any]], begun: float) -> tuple[float, float | None]:
    """Median of the second half of the windows' rates, and when the first ten in a row were near it."""
    later = statistics.median(windows[len(windows) // 2 :].tolist())
    good = windows >= SHARE * later
    for at in range(len(windows) - WINDOWS + 1):
        if good[at : at + WINDOWS].all():
            return later, round(begun + at * WINDOW_S, 3)
    return later, None


if __name__ == "__main__":
    _swipe_until_killed(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
