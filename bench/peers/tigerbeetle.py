"""TigerBeetle: purchases a second, reckoned from the transfers a second of its own benchmark.

Setting: one replica and one client on this machine, started by its `benchmark` command; uniform accounts
without history, batches as large as it takes, every batch durable before its answer; afterwards the command
looks up all accounts and transfers again (--validate), which fails it if one differs.

What it measures is less than a swipe: transfers between two accounts, the id checked. A purchase is six of
them (principal, bonus, points spent, offset, points earned, and the store's clearing), so the figure is
transfers a second divided by six: no more than what it can post, since linking costs too, and without
terminals, card statuses, rules and limits, which its client would have to look after.
"""

import re
import statistics
from dataclasses import replace

from bench.chain import expect
from bench.peers.peer import Peer, Plan, call, directory, missing

TRANSFERS_PER_PURCHASE = 6
PEER = Peer("TigerBeetle", f"its own benchmark: transfers a second / {TRANSFERS_PER_PURCHASE}, one replica")
INSTALL = (
    "not installed: put the `tigerbeetle` program of its latest release on the PATH; Debian has no package"
)
# Transfers a second that the length of the first run is reckoned with.
RATE_GUESS = 100_000
WARM_UP_S = 3.0


def run(plan: Plan) -> Peer:
    """Its benchmark, each run on a new file."""
    if missing(["tigerbeetle"]):
        return replace(PEER, absent=INSTALL)
    plan.progress(f"{PEER.name}: warms up")
    rate = _benchmark(plan.cards, round(RATE_GUESS * WARM_UP_S))
    rates = []
    for number in range(1, plan.runs + 1):
        plan.progress(f"{PEER.name}: run {number} of {plan.runs}")
        rate = _benchmark(plan.cards, round(rate * plan.seconds))
        rates.append(rate / TRANSFERS_PER_PURCHASE)
    return replace(
        PEER,
        swipes_per_s=statistics.median(rates),
        swipes_per_s_min=min(rates),
        swipes_per_s_max=max(rates),
    )


def _benchmark(accounts: int, transfers: int) -> float:
    """Transfers a second of so many, between so many accounts."""
    counts = [f"--account-count={accounts}", f"--transfer-count={transfers}", "--query-count=0"]
    # It keeps its file in the directory that it runs in.
    with directory("tigerbeetle") as home:
        printed = call(["tigerbeetle", "benchmark", *counts, "--validate"], within=home)
    rate = re.search(r"^load accepted = ([0-9]+) tx/s$", printed, re.MULTILINE)
    checked = f"validated {transfers} transfers" in printed and f"validated {accounts} accounts" in printed
    expect(
        rate is not None and checked,
        f"{PEER.name}: its benchmark printed no rate, or did not check: {printed}",
    )
    return float(rate[1]) if rate else 0.0
