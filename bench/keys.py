"""Exactly-once keys: what 50M random 128-bit ids in the window cost W1, and what an old duplicate costs.

W1 with ids is measured before and after the ids were posted. Then the engine is closed, every file is
synced and dropped from the page cache, and swipes of the older half, one of each batch, are sent again, each
alone: all must get their first answers. A page read is a major fault of this process (segments and journal
are mapped); the bytes that were read from the disk, read-ahead included, stand beside it.
"""

import statistics
import time
from pathlib import Path

import numpy as np

from bench.chain import build, expect
from bench.options import Options, cards_of, scratch
from bench.swipes import Drawn, Ledger, Swipes
from bench.w1 import BURST_S, IN_FLIGHT, swim
from bench.w5 import drop_cache
from onecard import Engine, rows

CARDS = 1_000_000
# The first duplicates read what all lookups share: inner pages, the engine's own code.
WARM_UP = 64

Kept = tuple[rows.Batch, np.void]
"""A swipe as a batch of one row, and its first answer."""


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    cards = cards_of(options, CARDS)
    with scratch("keys") as directory:
        data = directory / "data"
        with _open(data, options) as engine:
            build(engine, cards, options.tell)
            ledger = Ledger(engine)
            swipes = Swipes(cards, seed=1, keys="ids")
            before = _rates(engine, swipes, ledger, options, "before")
            old = _post(engine, swipes, ledger, options)
            after = _rates(engine, swipes, ledger, options, "after")
            ledger.check(engine)
            stats = engine.stats()
        drop_cache(data)
        start = time.perf_counter()
        with _open(data, options) as engine:
            opened_s = time.perf_counter() - start
            duplicates = _duplicates(engine, old, options)
            ledger.check(engine)
    rate, rate_after = statistics.median(before), statistics.median(after)
    return {
        "id": "keys",
        "cards": cards,
        "ids": options.ids,
        "runs": options.runs,
        "seconds_per_run": options.seconds,
        "swipes_per_s_before": round(rate),
        "swipes_per_s": round(rate_after),
        "swipes_per_s_min": round(min(after)),
        "swipes_per_s_max": round(max(after)),
        "keys": stats.keys,
        "keys_in_memory": stats.keys_in_memory,
        "bytes_of_memory_per_key": round(stats.key_bytes / stats.keys, 1),
        "opened_s": round(opened_s, 3),
        **duplicates,
        "ratios": {"keys_50m" if options.ids == 50_000_000 else "keys": round(rate_after / rate, 3)},
    }


def _open(data: Path, options: Options) -> Engine:
    return Engine(data, checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT)


def _rates(engine: Engine, swipes: Swipes, ledger: Ledger, options: Options, when: str) -> list[float]:
    ledger.add(swim(engine, swipes, BURST_S).tally)
    rates = []
    for number in range(1, options.runs + 1):
        options.tell(f"keys, {when}: run {number} of {options.runs}")
        swum = swim(engine, swipes, options.seconds)
        ledger.add(swum.tally)
        rates.append(swum.swipes_per_s)
    return rates


def _post(engine: Engine, swipes: Swipes, ledger: Ledger, options: Options) -> list[Kept]:
    """Swipes until so many ids more are in the window; one swipe of each of the older batches is kept."""
    kept: list[Kept] = []

    def look(drawn: Drawn, answers: rows.Batch) -> None:
        row = int(np.argmax(drawn.rows["id_lo"] > 0))
        kept.append((drawn.rows[row : row + 1].copy(), answers[row]))

    end = ledger.entries + options.ids
    while ledger.entries < end:
        options.tell(f"keys: {end - ledger.entries:,} ids to post")
        ledger.add(swim(engine, swipes, 1.0, look).tally)
    # The newer keys may be in memory yet.
    return kept[: len(kept) // 2]


def _duplicates(engine: Engine, old: list[Kept], options: Options) -> dict[str, object]:
    """What a duplicate costs, sent alone, its pages being on the disk only."""
    count = len(old) - WARM_UP
    expect(count > 0, f"{len(old)} batches are too few for this: take more --ids")
    options.tell(f"keys: {count:,} duplicates")
    faults = read = 0
    took = []
    for number, (row, first) in enumerate(old):
        if number == WARM_UP:
            faults, read = _major_faults(), _bytes_read()
        start = time.perf_counter_ns()
        [answer] = engine.execute(row)
        took.append(time.perf_counter_ns() - start)
        expected = first.copy()
        expected["replayed"] = 1
        expect(bool(answer == expected), f"a duplicate was answered {answer}, at first {first}")
    return {
        "duplicates": count,
        "duplicate_p50_ms": round(float(np.percentile(took[WARM_UP:], 50)) / 1e6, 4),
        "duplicate_p99_ms": round(float(np.percentile(took[WARM_UP:], 99)) / 1e6, 4),
        "duplicate_major_faults": round((_major_faults() - faults) / count, 3),
        "duplicate_bytes_read": round((_bytes_read() - read) / count),
    }


def _major_faults() -> int:
    """Faults of this process that had to read from the disk: field 12; the second may have spaces."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[9])


def _bytes_read() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return 0
