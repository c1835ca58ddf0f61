"""W1: swipes in numpy batches of 8,192 through `Engine.submit`, several in flight, in process.

Each run lasts at least `seconds` with checkpoint passes cycling; the figure is the median of the runs, counted over
answers that are durable. Balance queries are swipes but journal nothing: bytes are per journaled swipe.
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
            burst, _, posted = _run(engine, swipes, BURST_S)
            rates = []
            for _ in range(runs):
                rate, codes_seen, more = _run(engine, swipes, seconds)
                rates.append(rate)
                posted += more
                expect(codes_seen[0] > 0.99 * codes_seen.sum(), f"refusals: {np.flatnonzero(codes_seen)}")
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


def _run(engine: Engine, swipes: Swipes, seconds: float) -> tuple[float, np.ndarray, int]:
    """Swipes a second, how often each code was answered, and entries journaled."""
    flying: deque[Future[rows.Batch]] = deque()
    seen = np.zeros(100, np.int64)
    answered = posted = 0

    def land() -> None:
        nonlocal answered, posted
        answers = flying.popleft().result()
        answered += len(answers)
        posted += int(np.count_nonzero(answers["sequence"]))
        seen.__iadd__(np.bincount(answers["code"], minlength=100))

    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        flying.append(engine.submit(swipes.next()))
        if len(flying) > IN_FLIGHT:
            land()
    while flying:
        land()
    expect(int(seen[codes.Code.APPROVED]) > 0, "nothing was approved")
    return answered / (time.perf_counter() - start), seen, posted
