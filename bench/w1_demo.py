"""W1-demo: the swipe of W1 under the rule file of the demo, beside the plain one, in turn in one run.

The rules are those of docs/demo.md: tiers by growth value, dated points and bonus, discounts and accruals
by department, tier, product, region, day and hour. The cards are as many as W1's, of the demo's three
products; they have the welcome bundle, and the tiers that the demo's households end the year with. The mix,
its amounts and its keys are W1's. A purchase is told line by line: its departments are those of a basket of
the real year that is drawn for it, its amount is shared out among them as that basket's was. A third figure
leaves the lines out. The plain swipes go to an engine of their own, which rests meanwhile. After each run
the books are held to the answers.
"""

import re
import statistics
from importlib.resources import files
from typing import Literal

import numpy as np

from bench.chain import DAY, MERCHANTS, STEP, STORES, CardNumbers, build, expect, office_rows
from bench.options import Options, cards_of, scratch
from bench.swipes import Drawn, Ledger, Swipes
from bench.w1 import IN_FLIGHT, swim
from onecard import Engine, Rules, rows
from onecard.codes import Kind
from onecard.demo import data
from onecard.demo.chain import PUMP, WELCOME

CARDS = 1_000_000
PRODUCTS = 3
# One store in so many is a new one, as in the data.
NEW_STORES = 18
# Of a hundred cards so many have no tier, and the tiers 1, 2, ... (docs/demo.md, what comes out).
TIERS = (30, 34, 27, 9)

Way = Literal["plain", "rules", "lines"]
WAYS: tuple[Way, ...] = ("plain", "rules", "lines")


def rule_file() -> str:
    """The demo's rule file for the bench's chain: its merchants, some of its stores, cards without limits."""
    text = files("onecard.demo").joinpath("rules.toml").read_text("utf-8")
    limits = re.compile(r'^(balance_max|top_up_max) = ".*"\n', re.MULTILINE)
    expect(len(limits.findall(text)) == 2 * PRODUCTS, "the demo's products have other limits")
    text = limits.sub("", text)
    for found, put in (
        (r"merchants = \[1\]", f"merchants = {list(range(1, MERCHANTS + 1))}"),
        # What is paid for these is less than what the card gets, which the bench's tally does not know of.
        (r'\[\[top_up_bonus\]\]\nfrom = "500.00"\nprice.*\n', ""),
        (r"stores = \[\n[^\]]*\]", f"stores = {list(range(NEW_STORES, STORES + 1, NEW_STORES))}"),
    ):
        text, count = re.subn(found, put, text)
        expect(count == 1, f"the demo's rules have no {found}, or several")
    return text


class Baskets(Swipes):
    """Swipes of which the purchases are told line by line, as baskets of the year."""

    def __init__(self, cards: int, seed: int, first_trace: int, year: data.Year) -> None:
        super().__init__(cards, seed, keys="traces", day=DAY, first_trace=first_trace)
        random = np.random.Generator(np.random.SFC64(seed))
        for drawn in self.drawn:
            self.lines = _add_lines(drawn, year, random)


def _add_lines(drawn: Drawn, year: data.Year, random: np.random.Generator) -> float:
    """Gives every purchase of a batch the lines of a basket; how many a purchase has on average."""
    bought = np.flatnonzero(drawn.rows["kind"] == Kind.PURCHASE)
    paid = np.flatnonzero((year.paid > 0) & (year.end_line > year.first_line))
    basket = paid[random.integers(0, len(paid), len(bought))]
    count = year.end_line[basket] - year.first_line[basket]
    first = np.cumsum(count) - count
    row = np.repeat(np.arange(len(bought)), count)
    line = year.first_line[basket][row] + np.arange(len(row)) - first[row]
    amount = drawn.rows["amount"][bought]
    items = np.zeros(len(row), rows.ITEM)
    items["kind"], items["unit"] = rows.ITEM_LINE, year.department[line]
    # Shares rounded down; the rest of a basket goes to its first line.
    items["amount"] = amount[row] * year.cents[line] // year.paid[basket][row]
    items["amount"][first] += amount - np.add.reduceat(items["amount"], first)
    drawn.rows["items"][bought], drawn.rows["first_item"][bought] = count, first
    fuel = (count == 1) & (year.department[year.first_line[basket]] == data.FUEL)
    drawn.rows["channel"][bought[fuel]] = PUMP
    drawn.asked = rows.Requests(drawn.rows, items)
    return float(count.mean())


def run(options: Options) -> dict[str, object]:
    """Figures of the workload, and of the plain swipe in the same run."""
    cards = cards_of(options, CARDS)
    options.tell("W1-demo: loading the year")
    year = data.load()
    rates: dict[Way, list[float]] = {way: [] for way in WAYS}
    trace = {"plain": 1, "rules": 1}
    lines = 0.0
    with (
        scratch("w1-demo") as directory,
        Engine(
            directory / "rules", checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT
        ) as engine,
        Engine(
            directory / "plain", checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT
        ) as plain,
    ):
        build(plain, cards, options.tell)
        build(engine, cards, options.tell, rules=Rules.parse(rule_file()), products=PRODUCTS)
        _enrol(engine, cards, options)
        for number in range(1, options.runs + 1):
            for seed, way in enumerate(WAYS, number * len(WAYS)):
                options.tell(f"W1-demo, {way}: run {number} of {options.runs}")
                of, used = (plain, "plain") if way == "plain" else (engine, "rules")
                if way == "lines":
                    swipes: Swipes = (baskets := Baskets(cards, seed, trace[used], year))
                    lines = baskets.lines
                else:
                    swipes = Swipes(cards, seed, keys="traces", day=DAY, first_trace=trace[used])
                rates[way].append(_measure(of, swipes, options.seconds / len(WAYS)))
                trace[used] = swipes.next_trace
                # What one engine has still to write is not to be written beside the other's run.
                of.checkpoint()
        entries = engine.stats().entries
    return _figures(rates, lines, entries, cards, options)


def _measure(engine: Engine, swipes: Swipes, seconds: float) -> float:
    """Swipes a second, all durable; the books are held to their answers, and the journal to their number."""
    ledger = Ledger(engine)
    swum = swim(engine, swipes, seconds)
    ledger.add(swum.tally)
    ledger.check(engine)
    units = engine.trial_balance().units
    expect(not any(sum(unit) for unit in units.values()), "a unit does not sum to zero")
    return swum.swipes_per_s


def _figures(
    rates: dict[Way, list[float]], lines: float, entries: int, cards: int, options: Options
) -> dict[str, object]:
    median = {way: statistics.median(rates[way]) for way in WAYS}
    names: dict[Way, str] = {
        "lines": "swipes_per_s",
        "rules": "without_lines_swipes_per_s",
        "plain": "plain_swipes_per_s",
    }
    spread = {
        f"{name}{end}": round(of(rates[way]))
        for way, name in names.items()
        for end, of in (("", statistics.median), ("_min", min), ("_max", max))
    }
    return {
        "id": "W1-demo",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": options.seconds / len(WAYS),
        "lines_per_purchase": round(lines, 2),
        **spread,
        "entries": entries,
        "ratios": {
            "plain": round(median["lines"] / median["plain"], 3),
            "without_lines": round(median["rules"] / median["plain"], 3),
        },
    }


def _enrol(engine: Engine, cards: int, options: Options) -> None:
    """The welcome bundle for every card, and its tier."""
    numbers = CardNumbers(cards)
    tier_of = np.repeat(np.arange(len(TIERS)), TIERS)
    for start in range(0, cards, STEP):
        options.tell(f"W1-demo: welcoming {start:,} of {cards:,} cards")
        indexes = np.arange(start, min(start + STEP, cards))
        batch = office_rows(numbers, indexes, DAY, times=4)
        batch["kind"], batch["product"], batch["amount"] = Kind.GRANT, WELCOME, 1
        # `build` took the terminals' first traces: three for every card.
        batch["trace"] += 3 * (cards // STORES + 1)
        expect(not engine.execute(batch)["code"].any(), "a bundle was not granted")
        # Neighbours have tiers of their own, whatever their products.
        batch["kind"], batch["product"] = Kind.SET_TIER, tier_of[indexes // PRODUCTS % len(tier_of)]
        batch["amount"] = 0
        batch["trace"] += 1
        expect(not engine.execute(batch)["code"].any(), "a tier was not set")
