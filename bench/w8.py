"""W8: the year of W7 executed again under other rules, beside what happened, without touching the books.

The year is posted once, as `onecard demo` does. `seconds` is a run under `w8.toml` on the loaded period:
every request decided and every day closed on the production kernel, both sides compared. Loading - reading
the journal, checking its hashes, rebuilding the state, counting what happened - is `load_s`. Under the rules
in force then the year must come out as it was, to the last entry: `same_rules_s`.
"""

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from bench.chain import expect
from bench.options import Options
from onecard import Period, Rules, load_period
from onecard.demo.drive import run_year

RULES = Path(__file__).with_name("w8.toml")
# Days of the year; a test takes fewer.
DAYS: int | None = None
RUNS = 5


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    rules = Rules.load(RULES)
    with TemporaryDirectory(prefix="onecard-w8-") as made:
        data = Path(made) / "data"
        options.tell("W8: posting the year")
        outcome = run_year(data, limit_days=DAYS)
        expect(not outcome.problems, "; ".join(outcome.problems))
        options.tell("W8: loading it")
        start = perf_counter()
        period = load_period(data)
        load_s = perf_counter() - start
    expect(
        period.transactions == outcome.replay.transactions,
        f"{outcome.replay.transactions} transactions were posted, {period.transactions} are in the journal",
    )
    options.tell("W8: running it under the same rules, and under others")
    same_s = _same(period)
    seconds = []
    for _ in range(max(options.runs, RUNS)):
        tried = period.run(rules)
        seconds.append(tried.seconds)
    expect(tried.transactions == period.transactions, "transactions were left out")
    expect(tried.differing > 0, "other rules gave the same")
    return {
        "id": "W8",
        "transactions": period.transactions,
        "closes": len(tried.days),
        "runs": len(seconds),
        "seconds": round(statistics.median(seconds), 4),
        "seconds_min": round(min(seconds), 4),
        "seconds_max": round(max(seconds), 4),
        "transactions_per_s": round(period.transactions / statistics.median(seconds)),
        "load_s": round(load_s, 3),
        "same_rules_s": round(same_s, 4),
        "otherwise": tried.differing,
        "other_codes": sum(change.count for change in tried.changes),
        "ratios": {},
    }


def _same(period: Period) -> float:
    """Under the rules that were in force nothing may differ: seconds that it took."""
    same = period.run(None)
    expect(same.differing == 0, f"entries {same.differing_first} came out otherwise under the same rules")
    expect(all(figure.actual == figure.tried for figure in same.figures), "a figure is another")
    return same.seconds
