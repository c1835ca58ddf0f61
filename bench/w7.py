"""W7: a real year of a grocery chain over gRPC, every business day closed, compounded and settled.

Runs what `onecard demo` runs; `seconds` is the replay of the year, loading of the data and the audit
afterwards apart.
"""

import statistics

from bench.chain import expect
from bench.options import Options
from onecard.demo.drive import run_year


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    seconds, transactions = [], set()
    for number in range(1, options.runs + 1):
        options.tell(f"W7: year {number} of {options.runs}")
        outcome = run_year()
        expect(not outcome.problems, "; ".join(outcome.problems))
        seconds.append(outcome.replay.seconds)
        transactions.add(outcome.replay.transactions)
    expect(len(transactions) == 1, f"the same year had {sorted(transactions)} transactions")
    [count] = transactions
    return {
        "id": "W7",
        "transactions": count,
        "runs": options.runs,
        "seconds": round(statistics.median(seconds), 2),
        "seconds_min": round(min(seconds), 2),
        "seconds_max": round(max(seconds), 2),
        "transactions_per_s": round(count / statistics.median(seconds)),
        "ratios": {},
    }
