"""One swipe alone in flight, in process, against a bare LMDB commit of the same bytes, in turn.

The bare environment is a copy of the engine's own journal file, taken after the chain was built, so that it
has the same size, the same tree and the same free pages, and grows as the journal does. Each turn is one
swipe, then one put at the end and one durable commit of as many bytes as a block with one swipe has.
"""

import os
import shutil
import time
from pathlib import Path

import lmdb
import numpy as np

from bench import journal
from bench.chain import build, expect
from bench.options import Options, cards_of, scratch
from bench.swipes import Drawn, Ledger, Swipes, Tally
from onecard import Engine
from onecard.codes import Kind

CARDS = 1_000_000
WARM_UP = 200
NS_PER_MS = 1_000_000


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    cards = cards_of(options, CARDS)
    with scratch("lone") as directory:
        data, bare = directory / "data", directory / "bare"
        with Engine(data) as engine:
            build(engine, cards, options.tell)
            # A swipe's block for the bare loop to write.
            swipes = Swipes(cards, seed=1, size=1, batches=512)
            ledger = Ledger(engine)
            first = ledger.entries + 1
            tally = Tally()
            for _ in range(WARM_UP):
                _swipe(engine, _moving(swipes), tally)
            ledger.add(tally)
            ledger.check(engine)
        size = round(journal.bytes_per_entry(data, first, ledger.entries + 1))
        bare.mkdir()
        shutil.copy(data / "journal" / "data.mdb", bare / "data.mdb")
        options.tell("one swipe alone, in turn with a bare commit")
        with Engine(data) as engine:
            # Nothing else may be written meanwhile.
            engine.checkpoint()
            os.sync()
            alone, commits = _in_turn(engine, swipes, ledger, bare, size, options.seconds)
            ledger.check(engine)
    p50, bare_p50 = _percentile(alone, 50), _percentile(commits, 50)
    return {
        "id": "lone",
        "cards": cards,
        "swipes": len(alone),
        "bytes": size,
        "p50_ms": p50,
        "p99_ms": _percentile(alone, 99),
        "bare_p50_ms": bare_p50,
        "bare_p99_ms": _percentile(commits, 99),
        "runs": 1,
        "ratios": {"bare_commit": round(p50 / bare_p50, 3)},
    }


def _in_turn(
    engine: Engine, swipes: Swipes, ledger: Ledger, bare: Path, size: int, seconds: float
) -> tuple[list[int], list[int]]:
    """Nanoseconds of each swipe and of each bare commit."""
    alone: list[int] = []
    commits: list[int] = []
    tally = Tally()
    block = np.random.default_rng(1).bytes(size)
    with lmdb.open(str(bare), map_size=journal.MAP_BYTES, max_dbs=8, lock=False) as opened:
        stored = opened.open_db(b"blocks", create=False)
        next_key = ledger.entries + 1
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            alone.append(_swipe(engine, _moving(swipes), tally))
            start = time.perf_counter_ns()
            with opened.begin(write=True, db=stored) as writing:
                written = writing.put(next_key.to_bytes(8, "big"), block, append=True)
            commits.append(time.perf_counter_ns() - start)
            expect(written, "the bare commit wrote nothing")
            next_key += 1
    ledger.add(tally)
    expect(len(alone) > WARM_UP, f"only {len(alone)} swipes in {seconds} seconds: take more --seconds")
    return alone[WARM_UP:], commits[WARM_UP:]


def _moving(swipes: Swipes) -> Drawn:
    """The next swipe that posts something."""
    while True:
        drawn = swipes.next()
        if drawn.rows["kind"][0] != Kind.BALANCE:
            return drawn


def _swipe(engine: Engine, drawn: Drawn, tally: Tally) -> int:
    start = time.perf_counter_ns()
    answers = engine.execute(drawn.rows)
    took = time.perf_counter_ns() - start
    tally.count(drawn, answers)
    return took


def _percentile(nanoseconds: list[int], percent: float) -> float:
    return round(float(np.percentile(nanoseconds, percent)) / NS_PER_MS, 4)
