"""W3: swipes over bidirectional gRPC streams, in messages of 1 to 1,000 swipes, sent by the native driver.

Four connections with a stream each. The figure is that of the largest messages.
"""

import statistics

from bench.chain import DAY, build
from bench.options import Options, cards_of, scratch
from bench.served import Driver, serve
from onecard import Client, Engine

CARDS = 1_000_000
MESSAGES = (1, 10, 100, 1_000)
# Swipes in flight, all streams together: two groups of the engine, so that one is executed while one commits.
SWIPES_IN_FLIGHT = 16_384
MESSAGES_IN_FLIGHT_MAX = 256
# Of the length of a run: every size has its own.
PART = 6


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    cards = cards_of(options, CARDS)
    rates: dict[int, list[float]] = {size: [] for size in MESSAGES}
    with scratch("w3") as directory:
        with Engine(directory / "data") as engine:
            build(engine, cards, options.tell)
        with serve(directory / "data") as server:
            driver = Driver(server.target, cards, DAY)
            with Client(server.target) as client:
                before = client.trial_balance().entries
            for number in range(1, options.runs + 1):
                for size in MESSAGES:
                    options.tell(f"W3, messages of {size}: run {number} of {options.runs}")
                    in_flight = min(SWIPES_IN_FLIGHT // size, MESSAGES_IN_FLIGHT_MAX)
                    found = driver.drive("stream", options.seconds / PART, in_flight, batch=size)
                    rates[size].append(found["calls_per_s"])
            driver.check(before)
    by_size = {str(size): round(statistics.median(found)) for size, found in rates.items()}
    largest = rates[MESSAGES[-1]]
    return {
        "id": "W3",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": options.seconds / PART,
        "swipes_per_s": by_size[str(MESSAGES[-1])],
        "swipes_per_s_min": round(min(largest)),
        "swipes_per_s_max": round(max(largest)),
        "swipes_per_s_by_message": by_size,
        "ratios": {"messages_of_1": round(by_size[str(MESSAGES[-1])] / by_size["1"], 1)},
    }
