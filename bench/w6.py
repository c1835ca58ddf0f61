"""W6: close and settle a business day of 10M journal entries over 10,000 stores.

Measured from the call that closes the day to the live positions that show what is due to every store. What
every store sold and collected is held to sums that numpy took of the answers.
"""

import datetime
import statistics
import time

import numpy as np
import numpy.typing as npt

from bench.chain import DAY, STORES, build, expect
from bench.options import Options, cards_of, scratch
from bench.swipes import Drawn, Ledger, Swipes, Tally
from bench.w1 import swim
from onecard import Engine, rows
from onecard.codes import Kind
from onecard.reports import StorePositions

CARDS = 1_000_000
# The day is filled in slices until it has its entries.
SLICE_S = 0.1

Stores = npt.NDArray[np.int64]


def run(options: Options) -> dict[str, object]:
    """Figures of the workload."""
    cards = cards_of(options, CARDS)
    seconds, entries = [], []
    with scratch("w6") as directory, Engine(directory / "data") as engine:
        build(engine, cards, options.tell)
        engine.close_day(DAY)
        due = _column(engine.positions().stores, "due")
        for number in range(1, options.runs + 1):
            day = DAY + datetime.timedelta(days=number)
            options.tell(f"W6, day {number} of {options.runs}: {options.entries:,} entries")
            posted, net = _fill(engine, Swipes(cards, seed=number, day=day), options.entries)
            due += net
            options.tell(f"W6, day {number} of {options.runs}: close")
            seconds.append(_close(engine, day, net, due))
            entries.append(posted)
    return {
        "id": "W6",
        "cards": cards,
        "stores": STORES,
        "entries": min(entries),
        "runs": options.runs,
        "seconds": round(statistics.median(seconds), 4),
        "seconds_min": round(min(seconds), 4),
        "seconds_max": round(max(seconds), 4),
        "ratios": {},
    }


def _fill(engine: Engine, swipes: Swipes, entries: int) -> tuple[int, Stores]:
    """A day of so many entries: their number, and by store what the answers say that it is owed."""
    ledger, tally = Ledger(engine), Tally()
    net = np.zeros(STORES + 1, np.int64)

    def look(drawn: Drawn, answers: rows.Batch) -> None:
        sign = np.where(answers["kind"] == Kind.PURCHASE, 1, np.where(answers["kind"] == Kind.TOP_UP, -1, 0))
        # Sums of doubles, but exact: far below 2^53. Terminal s stands in store s.
        net[:] += np.bincount(drawn.rows["terminal"], answers["amount"] * sign, STORES + 1).astype(np.int64)

    while tally.posted < entries:
        tally.add(swim(engine, swipes, SLICE_S, look).tally)
    ledger.add(tally)
    ledger.check(engine)
    return tally.posted, net


def _close(engine: Engine, day: datetime.date, net: Stores, due: Stores) -> float:
    """Seconds until the day is closed and every store's net and due are read; all of it must be right."""
    start = time.perf_counter()
    report = engine.close_day(day)
    # A position is made when it is looked at: looking is part of settling.
    nets, dues = _column(report.stores, "net"), _column(engine.positions().stores, "due")
    seconds = time.perf_counter() - start
    expect(report.code == 0, f"the close was answered {report.code:02d}")
    expect(bool(np.array_equal(nets, net)), "the report's nets are not the answers'")
    expect(report.issuer_net == -int(net.sum()), "stores and issuer do not sum to zero")
    expect(bool(np.array_equal(dues, due)), "what is due is not the sum of nets")
    return seconds


def _column(stores: StorePositions, name: str) -> Stores:
    found = np.zeros(STORES + 1, np.int64)
    for store in stores:
        found[store.store] = getattr(store, name)
    return found
