"""dry-run: purchases that are tried out, beside the same purchases posted, in turn in one run.

The purchases, the rules and the cards are W1's, in batches of 8,192, several in flight. One that is tried out
is answered like one that is posted, but leaves nothing behind: before each run a batch is tried out and then
posted, and both must be answered alike; while purchases are tried out the journal must not grow, and the
books must not change. It still waits for what it saw to be durable, which here has been so all along.
"""

import statistics
import time
from collections import deque
from concurrent.futures import Future

import numpy as np

from bench.chain import DAY, build, expect, totals
from bench.options import Options, cards_of, scratch
from bench.w1 import IN_FLIGHT
from bench.w1_card import OPENING_AMOUNT, Purchases
from onecard import Engine, rows

CARDS = 1_000_000
# What a purchase is answered, whether it is posted or not.
PRICED = (
    "code",
    "amount",
    "discount",
    "principal",
    "bonus",
    "offset",
    "points_spent",
    "points_earned",
    "principal_balance",
    "bonus_balance",
    "points_balance",
)


def _try_out(batch: rows.Batch) -> None:
    """Makes dry runs of purchases: they have no keys."""
    batch["flags"] |= rows.FLAG_DRY_RUN
    batch["trace"] = 0


class Sales(Purchases):
    """Batches of purchases that have nothing beside their rows."""

    def next(self) -> rows.Requests:
        """The next batch, to be posted."""
        drawn = super().next()
        drawn.rows["flags"] = rows.FLAG_USE_POINTS
        return drawn

    def _draw(self) -> rows.Requests:
        batch = super()._draw().rows
        batch["items"] = batch["first_item"] = 0
        return rows.Requests(batch, np.zeros(0, rows.ITEM))


def run(options: Options) -> dict[str, object]:
    """Figures of both, in turn."""
    cards = cards_of(options, CARDS)
    rates: dict[str, list[float]] = {"dry_run": [], "posted": []}
    with (
        scratch("dry-run") as directory,
        Engine(
            directory / "data", checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT
        ) as engine,
    ):
        build(engine, cards, options.tell, opening=OPENING_AMOUNT)
        trace = 1
        for number in range(1, options.runs + 1):
            sales = Sales(cards, number, DAY, trace)
            _check(engine, sales)
            for way, found in rates.items():
                options.tell(f"dry-run, {way}: run {number} of {options.runs}")
                found.append(_sell(engine, sales, options.seconds / len(rates), dry=way == "dry_run"))
                # What is still to be written is not to be written beside the other's run.
                engine.checkpoint()
            trace = sales.next_trace
    median = {way: statistics.median(found) for way, found in rates.items()}
    return {
        "id": "dry-run",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": options.seconds / len(rates),
        "dry_runs_per_s": round(median["dry_run"]),
        "dry_runs_per_s_min": round(min(rates["dry_run"])),
        "dry_runs_per_s_max": round(max(rates["dry_run"])),
        "purchases_per_s": round(median["posted"]),
        "purchases_per_s_min": round(min(rates["posted"])),
        "purchases_per_s_max": round(max(rates["posted"])),
        "ratios": {"posted": round(median["dry_run"] / median["posted"], 3)},
    }


def _check(engine: Engine, sales: Sales) -> None:
    """A batch is answered alike when it is tried out and when it is posted."""
    # Once a card: the second purchase on it would find less.
    drawn = sales.next().rows
    _, first = np.unique(drawn["card"], return_index=True)
    posting = drawn[first]
    trying = posting.copy()
    _try_out(trying)
    tried, posted = engine.execute(trying), engine.execute(posting)
    expect(not posted["code"].any(), "a purchase was not approved")
    for field in PRICED:
        expect(np.array_equal(tried[field], posted[field]), f"{field} is another when it is posted")


def _sell(engine: Engine, sales: Sales, seconds: float, *, dry: bool) -> float:
    """Purchases a second, tried out or posted; the journal and the books are held to it."""
    entries, before = totals(engine)
    flying: deque[Future[rows.Answers]] = deque()
    count = 0

    def land() -> None:
        nonlocal count
        answers = flying.popleft().result()
        expect(not answers["code"].any(), "a purchase was not approved")
        has_entry = answers["sequence"] > 0
        expect(not dry or not has_entry.any(), "a purchase that is tried out has an entry")
        expect(dry or has_entry.all(), "a purchase that is posted has no entry")
        count += len(answers)

    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        asked = sales.next()
        if dry:
            _try_out(asked.rows)
        flying.append(engine.submit(asked))
        if len(flying) > IN_FLIGHT:
            land()
    while flying:
        land()
    took = time.perf_counter() - start
    entries_after, after = totals(engine)
    expect(entries_after - entries == (0 if dry else count), "the journal has other entries than were posted")
    expect((after == before) == dry, "the books are not what was posted")
    return count / took
