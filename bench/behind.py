"""W2-behind: what passes of the checkpoint, and a day's compounding, do to the tail of W2 at half load.

One server over a chain whose cards all have points. In turn: the driver alone; the driver while checkpoint
passes follow one another, one being under way all the time, each as long as the engine's own pacing makes
it; the driver while days are closed, as many in a run as the window of keys allows. Half load is half of
the closed-loop rate that was measured just before.
"""

import datetime
import statistics
import threading
import time

from bench.chain import DAY, build, expect
from bench.options import Options, cards_of, scratch
from bench.points import Points
from bench.served import Attended, Driver, attended
from bench.w2 import OPEN_IN_FLIGHT
from onecard import Client, Engine

CARDS = 1_000_000
# A pass that is not complete after so many runs never will be.
DRIVES_PER_PASS = 20
# A key's date may be six days behind the open day.
CLOSES = 6
# Growth opens, the day closes, growth is complete.
ENTRIES_PER_CLOSE = 3


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    cards = cards_of(options, CARDS)
    with scratch("behind") as directory:
        with Engine(directory / "data") as engine:
            build(engine, 0)
            Points().issue(engine, cards, DAY, options.tell)
        with attended(directory / "data") as server:
            return _measure(server, cards, options)


def _measure(server: Attended, cards: int, options: Options) -> dict[str, object]:
    seconds = options.seconds / 3
    driver = Driver(server.target, cards, DAY)
    with Client(server.target) as client:
        before = client.trial_balance().entries
    options.tell("W2-behind: closed loop")
    rate = driver.drive("unary", seconds, options.in_flight)["calls_per_s"] / 2
    quiet: list[float] = []
    passing: list[float] = []
    growing: list[float] = []
    passes, closes = 0, []
    for number in range(1, options.runs + 1):
        options.tell(f"W2-behind, nothing else: run {number} of {options.runs}")
        quiet.append(driver.drive("unary", seconds, OPEN_IN_FLIGHT, rate=rate)["p999_ms"])
        options.tell(f"W2-behind, checkpoint passes: run {number} of {options.runs}")
        found, ended = _passing(server, driver, rate, seconds)
        passing += found
        passes += ended
        options.tell(f"W2-behind, compounding: run {number} of {options.runs}")
        slowest, took = _growing(server, driver, rate, seconds)
        growing.append(slowest)
        closes += took
    driver.check(before, others=ENTRIES_PER_CLOSE * len(closes))
    without = statistics.median(quiet)
    while_passing, while_growing = statistics.median(passing), statistics.median(growing)
    return {
        "id": "W2-behind",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": seconds,
        "calls_per_s": round(rate),
        "p999_ms": round(without, 3),
        "p999_ms_min": min(quiet),
        "p999_ms_max": max(quiet),
        "p999_ms_checkpoint": round(while_passing, 3),
        "p999_ms_checkpoint_min": min(passing),
        "p999_ms_checkpoint_max": max(passing),
        "p999_ms_compounding": round(while_growing, 3),
        "p999_ms_compounding_min": min(growing),
        "p999_ms_compounding_max": max(growing),
        "passes": passes,
        "closes": len(closes),
        "seconds_per_close": round(statistics.median(closes), 4),
        "ratios": {
            "checkpoint": round(while_passing / without, 2),
            "compounding": round(while_growing / without, 2),
        },
    }


def _passing(server: Attended, driver: Driver, rate: float, seconds: float) -> tuple[list[float], int]:
    """p99.9 of a drive while passes run, of further ones until one has ended; and how many have."""
    found: list[float] = []
    before = server.ask("passes on")["passes"]
    ended = 0
    while ended == 0 and len(found) < DRIVES_PER_PASS:
        found.append(driver.drive("unary", seconds, OPEN_IN_FLIGHT, rate=rate)["p999_ms"])
        ended = server.ask("stats")["passes"] - before
    server.ask("passes off")
    expect(ended > 0, f"no checkpoint pass ended in {DRIVES_PER_PASS} drives: take more --seconds")
    return found, ended


def _growing(server: Attended, driver: Driver, rate: float, seconds: float) -> tuple[float, list[float]]:
    """p99.9 while days are closed, evenly over the run, and the seconds that each close took."""
    took: list[float] = []

    def close() -> None:
        for number in range(CLOSES):
            time.sleep(seconds / (CLOSES + 1))
            found = server.ask(f"close {driver.day + datetime.timedelta(days=number)}")
            expect(found["code"] == 0 and found["funded"], f"a day was not compounded: {found}")
            took.append(found["seconds"])

    closing = threading.Thread(target=close)
    closing.start()
    try:
        p999: float = driver.drive("unary", seconds, OPEN_IN_FLIGHT, rate=rate)["p999_ms"]
    finally:
        closing.join()
    expect(len(took) == CLOSES, f"only {len(took)} of {CLOSES} days were closed: see above")
    driver.day += datetime.timedelta(days=CLOSES)
    return p999, took
