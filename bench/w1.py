"""W1: swipes in numpy batches of 8,192 through `Engine.submit`, several in flight, in process.

Each run lasts at least `seconds` with checkpoint passes cycling; the figure is the median of the runs,
counted over answers that are durable. Balance queries are swipes but journal nothing: bytes are per
journaled swipe.
"""

import statistics
import tempfile
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from bench.chain import Swipes, build, check_books, expect
from onecard import Engine, codes, rows

BURST_S = 2.0
IN_FLIGHT = 4
CHECKPOINT_ENTRIES = 4_000_000


def run(cards: int, seconds: float, runs: int) -> dict[str, object]:
    """Figures of the workload."""
    with tempfile.TemporaryDirectory(prefix="onecard-w1-") as directory:
        path = Path(directory) / "data"
        with Engine(path, checkpoint_entries=CHECKPOINT_ENTRIES, in_flight_max=IN_FLIGHT) as engine:
            build(engine, cards)
            swipes = Swipes(cards, seed=1)
            journal = path / "journal" / "data.mdb"
            before, entries = journal.stat().st_size, engine.trial_balance().entries
            burst, tally = _run(engine, swipes, BURST_S)
            rates, posted = [], tally.posted
            for _ in range(runs):
                rate, tally = _run(engine, swipes, seconds)
                rates.append(rate)
                posted += tally.posted
            check_books(engine, entries + posted)
            grown = journal.stat().st_size - before
    return {
        "id": "W1",
        "cards": cards,
        "runs": runs,
        "seconds_per_run": seconds,
        "swipes_per_s": round(statistics.median(rates)),
        "swipes_per_s_min": round(min(rates)),
        "swipes_per_s_max": round(max(rates)),
        "burst_swipes_per_s": round(burst),
        "journal_bytes_per_swipe": round(grown / posted, 1),
        "ratios": {"burst": round(statistics.median(rates) / burst, 3)},
    }


class _Tally:
    """What was answered."""

    def __init__(self) -> None:
        self.answered = 0
        self.posted = 0
        self.codes = np.zeros(100, np.int64)

    def count(self, answers: rows.Batch) -> None:
        self.answered += len(answers)
        self.posted += int(np.count_nonzero(answers["sequence"]))
        self.codes += np.bincount(answers["code"], minlength=100)


def _run(engine: Engine, swipes: Swipes, seconds: float) -> tuple[float, _Tally]:
    """Swipes a second, and what was answered."""
    flying: deque[Future[rows.Batch]] = deque()
    tally = _Tally()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        flying.append(engine.submit(swipes.next()))
        if len(flying) > IN_FLIGHT:
            tally.count(flying.popleft().result())
    while flying:
        tally.count(flying.popleft().result())
    approved = int(tally.codes[codes.Code.APPROVED])
    expect(approved > 0.99 * tally.answered, f"refusals: codes {np.flatnonzero(tally.codes)}")
    return tally.answered / (time.perf_counter() - start), tally
