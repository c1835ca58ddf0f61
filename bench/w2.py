"""W2: swipes as unary gRPC calls over loopback, each distinct, sent by the native driver.

The server runs in a process of its own, the driver in another, on the same machine. The closed loop gives
the calls a second, open loops at shares of that rate the latencies, from the intended send time; the figures
are those of half the rate, the median of the runs. `empty_handler` is the same driver calling the health
check of the same server, in turn with the swipes. One call alone in flight is measured beside them, and what
a call costs each thread of the server: that says where the time of the ratio goes.
"""

import statistics
from typing import Any

from bench import plots, served
from bench.chain import DAY, build
from bench.options import Options, cards_of, scratch
from bench.served import Driver, Mode, Served, serve
from onecard import Client, Engine

CARDS = 1_000_000
# Of the length of a run: there are some twenty of them.
PART = 6
# A thread that takes less of a call is not named.
LEAST_US = 0.05
# Shares of the closed-loop rate at which the load curve is measured.
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
# In flight at most while the load is given: a queue, not the loop, must hold what is late.
OPEN_IN_FLIGHT = 256

Found = dict[str, Any]


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    cards = cards_of(options, CARDS)
    with scratch("w2") as directory:
        with Engine(directory / "data") as engine:
            build(engine, cards, options.tell)
        with serve(directory / "data") as server:
            return _measure(server, Driver(server.target, cards, DAY), options)


def _measure(server: Served, driver: Driver, options: Options) -> dict[str, object]:
    seconds = options.seconds / PART
    with Client(driver.target) as client:
        before = client.trial_balance().entries
    empty: list[Found] = []
    closed: list[Found] = []
    for number in range(1, options.runs + 1):
        options.tell(f"W2, closed loop: run {number} of {options.runs}")
        empty.append(_closed(server, driver, "empty", seconds, options.in_flight))
        closed.append(_closed(server, driver, "unary", seconds, options.in_flight))
    rate, floor = _median(closed, "calls_per_s"), _median(empty, "calls_per_s")
    options.tell("W2, one call in flight")
    alone = driver.drive("unary", seconds, 1)
    curve = _curve(driver, rate, options)
    driver.check(before)
    half = curve[SHARES.index(0.5)]
    return {
        "id": "W2",
        "cards": driver.cards,
        "in_flight": options.in_flight,
        "runs": options.runs,
        "seconds_per_run": seconds,
        "calls_per_s": round(rate),
        "calls_per_s_min": round(min(found["calls_per_s"] for found in closed)),
        "calls_per_s_max": round(max(found["calls_per_s"] for found in closed)),
        "closed_loop_p99_ms": _median(closed, "p99_ms"),
        "open_loop_calls_per_s": half["calls_per_s"],
        "p50_ms": half["p50_ms"],
        "p99_ms": half["p99_ms"],
        "p99_ms_min": half["p99_ms_min"],
        "p99_ms_max": half["p99_ms_max"],
        "p999_ms": half["p999_ms"],
        "one_in_flight_p50_ms": alone["p50_ms"],
        "one_in_flight_calls_per_s": round(alone["calls_per_s"]),
        "driver_cpu_s_per_s": round(_median(closed, "driver_cpu_s") / (seconds + served.WARM_UP_S), 2),
        "cpu_us_per_call": _cost(closed),
        "empty_handler_cpu_us_per_call": _cost(empty),
        "entries_checked": driver.posted,
        "empty_handler_calls_per_s": round(floor),
        "curve": curve,
        "ratios": {"empty_handler": round(rate / floor, 3)},
    }


def _closed(server: Served, driver: Driver, mode: Mode, seconds: float, in_flight: int) -> Found:
    """A closed loop, with what a call of it cost every thread of the server."""
    before = server.cpu_us()
    found = driver.drive(mode, seconds, in_flight)
    cost = server.cpu_us() - before
    return found | {"cpu_us_per_call": {thread: us / found["calls"] for thread, us in cost.items()}}


def _cost(found: list[Found]) -> dict[str, float]:
    """Processor time of a call in microseconds, by thread; medians, and only what is worth a word."""
    names = {name for one in found for name in one["cpu_us_per_call"]}
    costs = {
        name: statistics.median(one["cpu_us_per_call"].get(name, 0.0) for one in found) for name in names
    }
    return {name: round(us, 2) for name, us in sorted(costs.items()) if us >= LEAST_US}


def _curve(driver: Driver, rate: float, options: Options) -> list[dict[str, float]]:
    """Latencies at shares of the rate, each the median of the runs, the shares in turn."""
    found: dict[float, list[Found]] = {share: [] for share in SHARES}
    for number in range(1, options.runs + 1):
        for share in SHARES:
            options.tell(f"W2, open loop at {share:.0%}: run {number} of {options.runs}")
            found[share].append(
                driver.drive("unary", options.seconds / PART, OPEN_IN_FLIGHT, rate=rate * share)
            )
    curve = [{"share": share} | _latencies(found[share]) for share in SHARES]
    plots.save_figures(options.results / "w2-latency.csv", curve)
    plots.latency(options.results / "w2-latency.png", curve)
    return curve


def _latencies(found: list[Found]) -> dict[str, float]:
    return {
        "calls_per_s": round(_median(found, "calls_per_s")),
        "p50_ms": _median(found, "p50_ms"),
        "p99_ms": _median(found, "p99_ms"),
        "p99_ms_min": min(one["p99_ms"] for one in found),
        "p99_ms_max": max(one["p99_ms"] for one in found),
        "p999_ms": _median(found, "p999_ms"),
    }


def _median(found: list[Found], name: str) -> float:
    return round(float(statistics.median(one[name] for one in found)), 3)
