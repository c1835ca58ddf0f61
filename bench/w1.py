"""W1: swipes in numpy batches of 8,192 through `Engine.submit`, several in flight, in process.

A run lasts at least `seconds`, with checkpoint passes cycling, after two seconds that warm up; the first
such two seconds are the burst. The figure is the median of the runs, over answers that are durable, and
everything that Python does for it - drawing cards and keys, submitting, looking at every answer - is inside
the measured time. Each run is a business day of its own, so that runs are alike: the day before is closed,
and its keys stay in the window. After each run the engine is closed, the books were checked, and the limit
is measured: the blocks that this run wrote, appended to LMDB by a bare loop. Balance queries are swipes but
journal nothing: bytes are per journaled swipe.
"""

import datetime
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import journal, peers
from bench.chain import DAY, BenchError, build, expect
from bench.options import Options, cards_of, scratch
from bench.swipes import Drawn, Keys, Ledger, Swipes, Tally
from onecard import Engine, rows
from onecard.codes import Code

CARDS = 1_000_000
BURST_S = 2.0
# A run of a peer, at most: they are slower and settle sooner.
PEER_S = 10.0
SIZED_S = 1.0
IN_FLIGHT = 6
TAIL_MAX = 10_000_000
# Between two looks at the tail.
LOOK_S = 0.05
Look = Callable[[Drawn, rows.Batch], None]
_KEYS: tuple[Keys, ...] = ("traces", "ids")


@dataclass
class Measured:
    """What the runs gave."""

    rates: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    burst: float = 0.0
    tail_max: int = 0
    passes: int = 0
    memory_bytes_per_card: float = 0.0
    bytes_per_swipe: dict[str, float] = field(default_factory=dict)


def run(options: Options) -> dict[str, object]:
    """Figures of the workload, and of its peers in the same run."""
    cards = cards_of(options, CARDS)
    found = measure(cards, options)
    rate, limit = statistics.median(found.rates), statistics.median(found.limits)
    ratios = {"limit": round(rate / limit, 3), "burst": round(rate / found.burst, 3)}
    beside, problems = _peers(cards, options)
    for peer in beside:
        if isinstance(theirs := peer["swipes_per_s"], (int, float)) and theirs:
            ratios[str(peer["id"])] = round(rate / theirs, 1)
    return {
        "id": "W1",
        "cards": cards,
        "draw": options.draw,
        "keys": options.keys,
        "runs": options.runs,
        "seconds_per_run": options.seconds,
        "swipes_per_s": round(rate),
        "swipes_per_s_min": round(min(found.rates)),
        "swipes_per_s_max": round(max(found.rates)),
        "burst_swipes_per_s": round(found.burst),
        "limit_swipes_per_s": round(limit),
        "limit_swipes_per_s_min": round(min(found.limits)),
        "limit_swipes_per_s_max": round(max(found.limits)),
        "journal_bytes_per_swipe": found.bytes_per_swipe["runs"],
        "journal_bytes_per_swipe_traces": found.bytes_per_swipe["traces"],
        "journal_bytes_per_swipe_ids": found.bytes_per_swipe["ids"],
        "memory_bytes_per_card": found.memory_bytes_per_card,
        "tail_max": found.tail_max,
        "passes": found.passes,
        "ratios": ratios,
        "peers": beside,
        "problems": problems,
    }


def measure(cards: int, options: Options) -> Measured:
    """Builds a chain and runs the workload on it, in turn with its limit."""
    found = Measured()
    with scratch("w1") as directory:
        data = directory / "data"
        _build(data, cards, options, found)
        for number in range(1, options.runs + 1):
            options.tell(f"W1, {cards:,} cards: run {number} of {options.runs}")
            first, end, answered = _run(data, options, cards, number, found)
            found.bytes_per_swipe["runs"] = journal.bytes_per_entry(data, first, end)
            options.tell(f"W1, {cards:,} cards: limit {number} of {options.runs}")
            entries_per_s = journal.limit(data, first, end, options.seconds / 2)
            found.limits.append(entries_per_s * answered / (end - first))
    return found


def _build(data: Path, cards: int, options: Options, found: Measured) -> None:
    """The chain, and the bytes of either kind of key."""
    bounds, trace = {}, 1
    with _open(data, options) as engine:
        build(engine, cards, options.tell)
        ledger = Ledger(engine)
        for keys in _KEYS:
            options.tell(f"W1, {cards:,} cards: bytes of a swipe, keys {keys}")
            first = ledger.entries + 1
            swipes = Swipes(cards, seed=2, keys=keys, first_trace=trace)
            ledger.add(swim(engine, swipes, SIZED_S).tally)
            trace, bounds[keys] = swipes.next_trace, (first, ledger.entries + 1)
        ledger.check(engine)
    for keys, (first, end) in bounds.items():
        found.bytes_per_swipe[keys] = journal.bytes_per_entry(data, first, end)


def _run(data: Path, options: Options, cards: int, number: int, found: Measured) -> tuple[int, int, int]:
    """One run, on a day of its own: the sequences of its first entry and after its last, and its swipes."""
    with _open(data, options) as engine:
        day = DAY + datetime.timedelta(days=number)
        closed = engine.close_day(day - datetime.timedelta(days=1))
        expect(closed.code == Code.APPROVED, "the day before was not closed")
        swipes = Swipes(cards, seed=number, draw=options.draw, keys=options.keys, day=day)
        ledger = Ledger(engine)
        warm = swim(engine, swipes, BURST_S)
        ledger.add(warm.tally)
        first = ledger.entries + 1
        swum = swim(engine, swipes, options.seconds)
        ledger.add(swum.tally)
        ledger.check(engine)
        stats = engine.stats()
    found.burst = found.burst or warm.swipes_per_s
    found.rates.append(swum.swipes_per_s)
    found.tail_max = max(found.tail_max, warm.tail_max, swum.tail_max)
    expect(found.tail_max <= TAIL_MAX, f"the tail grew to {found.tail_max:,} entries, above {TAIL_MAX:,}")
    found.passes += stats.passes
    found.memory_bytes_per_card = round(stats.card_bytes / stats.cards, 1)
    return first, ledger.entries + 1, swum.tally.answered


def _open(data: Path, options: Options) -> Engine:
    return Engine(data, checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT)


@dataclass(frozen=True)
class Swum:
    """A row of batches, all of them durable."""

    seconds: float
    tally: Tally
    tail_max: int

    @property
    def swipes_per_s(self) -> float:
        """Durable swipes a second."""
        return self.tally.answered / self.seconds


def swim(engine: Engine, swipes: Swipes, seconds: float, look: Look | None = None) -> Swum:
    """Submits batches for so long and waits for all answers; the clock runs until the last.

    `look(drawn, answers)` is called with each batch and its answers, while both are still whole.
    """
    flying: deque[tuple[Drawn, Future[rows.Answers]]] = deque()
    tally = Tally()

    def land() -> None:
        drawn, future = flying.popleft()
        answers = future.result()
        tally.count(drawn, answers)
        if look is not None:
            look(drawn, answers)

    with _Tail(engine) as tail:
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            drawn = swipes.next()
            flying.append((drawn, engine.submit(drawn.asked)))
            if len(flying) > IN_FLIGHT:
                land()
        while flying:
            land()
        took = time.perf_counter() - start
    return Swum(took, tally, tail.longest)


class _Tail:
    """Looks at the tail from a thread of its own: the answer waits behind the batches that are in flight."""

    def __init__(self, engine: Engine) -> None:
        self.longest = 0
        self._engine = engine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            stats = self._engine.stats()
            self.longest = max(self.longest, stats.entries - stats.checkpointed)

    def __enter__(self) -> "_Tail":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _peers(cards: int, options: Options) -> tuple[list[dict[str, object]], list[str]]:
    """Every peer's figures, and what went wrong with them; a peer that fails does not hide the others."""
    found: list[dict[str, object]] = []
    problems: list[str] = []
    for name in peers.NAMES if options.peers else ():
        try:
            ran = peers.run(cards, min(options.seconds, PEER_S), options.runs, options.tell, [name])
        except BenchError as error:
            problems.append(f"peer {name}: {error}")
            continue
        found += [{"id": name.replace("-", "_")} | asdict(peer) for peer in ran]
    return found, problems
