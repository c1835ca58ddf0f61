"""W7: a real year of a grocery chain over gRPC, every business day closed, compounded and settled.

Runs what `onecard demo` runs; `seconds` is the replay of the year, loading of the data and the audit
afterwards apart.
"""

from bench.chain import expect
from onecard.demo.drive import run_year


def run() -> dict[str, object]:
    """Figures of the workload."""
    outcome = run_year()
    expect(not outcome.problems, "; ".join(outcome.problems))
    seconds = outcome.replay.seconds
    return {
        "id": "W7",
        "transactions": outcome.replay.transactions,
        "seconds": round(seconds, 2),
        "transactions_per_s": round(outcome.replay.transactions / seconds),
        "ratios": {},
    }
