"""W4: one business day's compounding over 1M, 10M and 100M points purses.

Measured from the call that closes the day until its growth is complete and durable; the figure is the median
of several days. Every day's outstanding points, number of purses and total growth are held to an account of
their own (`bench.points`), to the last unit.
"""

import datetime
import statistics
import time

from bench import plots
from bench.chain import DAY, build, check_books, expect, totals
from bench.machine import lacks
from bench.options import Options, scratch
from bench.points import RATE, Points
from onecard import Engine
from onecard.codes import Account

SIZES = {"1m": 1_000_000, "10m": 10_000_000, "100m": 100_000_000}
# The first day after the cards were issued is not counted: memory and files are touched for the first time.
WARM_UP = 1
POLL_S = 0.0005


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    sizes = SIZES if options.cards is None else {str(options.cards): options.cards}
    found: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    with scratch("w4") as directory, Engine(directory / "data") as engine:
        build(engine, 0)
        points, day = Points(), DAY
        for name, cards in sizes.items():
            why = lacks(cards, directory)
            if cards > options.largest and options.cards is None:
                why = f"more than --largest {options.largest}"
            if why:
                missing[f"seconds_{name}"] = why
                continue
            points.issue(engine, cards, day, options.tell)
            found[name], day = _days(engine, points, day, options)
    figures = {name: round(statistics.median(seconds), 4) for name, seconds in found.items()}
    curve = [{"purses": sizes[name], "seconds": seconds} for name, seconds in figures.items()]
    plots.save_figures(options.results / "w4-growth.csv", curve)
    plots.growth(options.results / "w4-growth.png", curve)
    return {
        "id": "W4",
        "runs": options.runs,
        **{f"seconds_{name}": seconds for name, seconds in figures.items()},
        **{f"seconds_{name}_min": round(min(seconds), 4) for name, seconds in found.items()},
        **{f"seconds_{name}_max": round(max(seconds), 4) for name, seconds in found.items()},
        "missing": missing,
        "ratios": {},
    }


def _days(
    engine: Engine, points: Points, day: datetime.date, options: Options
) -> tuple[list[float], datetime.date]:
    """Seconds of each day, and the day that is open then."""
    seconds = []
    for number in range(WARM_UP + options.runs):
        options.tell(f"W4, {points.cards:,} purses: day {number + 1} of {WARM_UP + options.runs}")
        took = _close(engine, points, day)
        day += datetime.timedelta(days=1)
        if number >= WARM_UP:
            seconds.append(took)
    return seconds, day


def _close(engine: Engine, points: Points, day: datetime.date) -> float:
    """Seconds of one day; its report and the books must say what the points' own account says."""
    entries, sums = totals(engine)
    outstanding = points.outstanding()
    expect(sums[Account.CARD_POINTS] == outstanding, "the cards' points are not those of the account beside")
    start = time.perf_counter()
    report = engine.close_day(day)
    while engine.trial_balance().growing:
        time.sleep(POLL_S)
    seconds = time.perf_counter() - start
    growth = report.growth
    expect(growth is not None and growth.funded, "the day's growth was not granted")
    assert growth is not None
    expect(
        (growth.rate, growth.outstanding, growth.purses) == (RATE, outstanding, points.cards), "wrong report"
    )
    grown = points.grow()
    # Growth opens, the day closes, growth is complete.
    check_books(engine, entries + 3, {Account.CARD_POINTS: outstanding + grown, Account.GROWTH_RESERVE: 0})
    owed = engine.liabilities()
    expect(owed.growth_date == day, f"the newest growth is of {owed.growth_date}, not of {day}")
    points_of = sum(merchant.points for merchant in owed.merchants)
    growth_of = sum(merchant.growth for merchant in owed.merchants)
    expect((points_of, growth_of) == (outstanding + grown, grown), "the merchants' liabilities are wrong")
    return seconds
