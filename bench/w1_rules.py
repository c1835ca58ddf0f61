"""W1-rules: the swipe of W1 under 10, 1,000 and 100,000 rules, in turn in one run.

Half of the rules are discounts, half accruals; they are spread over stores, merchants, products, categories
of goods, tiers, weekdays and times of day in eight families. The rules of a family are apart and leave
nothing out, so that of each family exactly one applies to a purchase, and of all rules exactly eight,
however many there are. All of them add up: a purchase has four discounts of a minor unit beside its
product's, and points of four accruals, and answers before each run are held to that. Every purchase is told
with a line, of goods of one category, and every card has a tier; also the ten rules name these, so that
what is priced is alike at every size. The figure is what a swipe costs with so many rules, over what it
costs with ten. Reading and compiling the largest file is timed in a process of its own.
"""

import gc
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.chain import DAY, MERCHANTS, RULES, STEP, STORES, CardNumbers, build, expect, office_rows
from bench.options import Options, cards_of, scratch
from bench.swipes import Ledger, Swipes, Tally
from bench.w1 import IN_FLIGHT, swim
from onecard import Engine, Rules, rows
from onecard.codes import Code, Kind

CARDS = 1_000_000
SIZES = (10, 1_000, 100_000)
PRODUCTS, TIERS, CATEGORIES = 5, 5, 10
# Points of an accrual, in points units.
POINTS = 10_000

# How many parts each kind of thing can be divided into.
PARTS = {
    "stores": STORES,
    "merchants": MERCHANTS,
    "products": PRODUCTS,
    "categories": CATEGORIES,
    "tiers": TIERS,
    "times": 5,
    "weekdays": 5,
}
FAMILIES = (
    ("times", "stores"),
    ("categories", "stores"),
    ("products", "tiers", "stores"),
    ("products", "times", "weekdays", "merchants"),
)
# Named also by rules that are for all of them.
ALWAYS_NAMED = ("categories", "tiers")
WEEKDAYS = (("mon",), ("tue",), ("wed",), ("thu",), ("fri", "sat", "sun"))
MATCHING = 2 * len(FAMILIES)
_DAY_MINUTES = 24 * 60


def rule_file(size: int) -> str:
    """Rules of the bench's products, and so many discounts and accruals."""
    products = RULES.read_text()
    (one,) = (part for part in products.split("\n\n") if part.startswith("[[products]]"))
    others = (
        one.replace("id = 1", f"id = {product}").replace('"standard"', f'"standard {product}"')
        for product in range(2, PRODUCTS + 1)
    )
    cells, spare = divmod(size, MATCHING)
    rules = itertools.chain.from_iterable(_family(at, family, cells) for at, family in enumerate(FAMILIES))
    named = (
        f'[[{kind}]]\nid = {number}\nname = "{kind} {number}"' + f'\nfrom = "{number}"' * (kind == "tiers")
        for kind in ALWAYS_NAMED
        for number in range(1, PARTS[kind] + 1)
    )
    never = (_discount(f"never {number}", "until = 2020-01-01", 10**9 + number) for number in range(spare))
    return "\n\n".join([products, *others, *named, *rules, *never])


def _family(at: int, family: Sequence[str], cells: int) -> Iterator[str]:
    """A discount and an accrual for each cell of what the family divides."""
    counts = _divided(cells, family)
    for number, cell in enumerate(itertools.product(*map(range, counts))):
        when = ", ".join(
            _part(kind, part, count)
            for kind, part, count in zip(family, cell, counts, strict=True)
            if count > 1 or kind in ALWAYS_NAMED
        )
        name, rule = f"{'-'.join(family)} {number}", 1 + at * cells + number
        yield _discount(name, when, rule)
        yield (
            f'[[accruals]]\nid = {rule}\nname = "{name}"\npoints = "1"\nstacking = "add"\nwhen = {{ {when} }}'
        )


def _discount(name: str, when: str, rule: int) -> str:
    return (
        f'[[discounts]]\nid = {rule}\nname = "{name}"\nvalue = "0.01"\nstacking = "add"\nwhen = {{ {when} }}'
    )


def _divided(cells: int, family: Sequence[str]) -> list[int]:
    """Into how many parts each kind is divided, so that there are so many cells."""
    counts = []
    for kind in family:
        most = PARTS[kind] if kind == family[-1] else min(PARTS[kind], cells)
        counts.append(max(count for count in range(1, most + 1) if cells % count == 0))
        cells //= counts[-1]
    expect(cells == 1, f"{family} cannot be divided so finely: {cells} too many")
    return counts


def _part(kind: str, part: int, count: int) -> str:
    """One of so many parts of a kind, as a condition."""
    match kind:
        case "times":
            minutes = [_DAY_MINUTES * bound // count for bound in (part, part + 1)]
            start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)
            return f'times = ["{start}-{end}"]'
        case "weekdays":
            return f"weekdays = {json.dumps(list(WEEKDAYS[part]))}"
        case "products":
            names = ["standard", *(f"standard {product}" for product in range(2, PRODUCTS + 1))]
            return f"products = {json.dumps(names[part::count])}"
        case "categories" | "tiers":
            names = [f"{kind} {number}" for number in range(1, PARTS[kind] + 1)]
            return f"{kind} = {json.dumps(names[part::count])}"
        case _:
            return f"{kind} = {list(range(part + 1, PARTS[kind] + 1, count))}"


class Baskets(Swipes):
    """Swipes of which every purchase has a line: goods of one category."""

    def __init__(self, cards: int, seed: int, first_trace: int) -> None:
        super().__init__(cards, seed, keys="traces", day=DAY, first_trace=first_trace)
        random = np.random.Generator(np.random.SFC64(seed))
        for drawn in self.drawn:
            bought = np.flatnonzero(drawn.rows["kind"] == Kind.PURCHASE)
            items = np.zeros(len(bought), rows.ITEM)
            items["kind"], items["amount"] = rows.ITEM_LINE, drawn.rows["amount"][bought]
            items["unit"] = random.integers(1, CATEGORIES + 1, len(bought))
            drawn.rows["items"][bought], drawn.rows["first_item"][bought] = 1, np.arange(len(bought))
            drawn.asked = rows.Requests(drawn.rows, items)


def _give_tiers(engine: Engine, cards: int) -> None:
    """A tier for every card, whatever its product."""
    numbers = CardNumbers(cards)
    for start in range(0, cards, STEP):
        indexes = np.arange(start, min(start + STEP, cards))
        batch = office_rows(numbers, indexes, DAY, times=1)
        # `build` took the terminals' first traces: three for every card.
        batch["trace"] += 3 * (cards // STORES + 1)
        batch["kind"], batch["product"] = Kind.SET_TIER, 1 + indexes // PRODUCTS % TIERS
        expect(not engine.execute(batch)["code"].any(), "a tier was not set")


def run(options: Options) -> dict[str, object]:
    """What a swipe costs under each number of rules."""
    cards = cards_of(options, CARDS)
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    with scratch("w1-rules") as directory:
        seconds, mebibytes = _compile(directory / "rules.toml", max(SIZES))
        rules = {}
        for size in SIZES:
            options.tell(f"W1-rules: compiling {size:,} rules")
            rules[size] = Rules.parse(rule_file(size))
        # What only says how the rules came about is not to be looked through while swipes are measured.
        gc.freeze()
        with Engine(
            directory / "data", checkpoint_entries=options.checkpoint_entries, in_flight_max=IN_FLIGHT
        ) as engine:
            build(engine, cards, options.tell, rules=rules[SIZES[0]], products=PRODUCTS)
            _give_tiers(engine, cards)
            trace = 1
            # A seed of its own for each: where the same cards meet the same swipes again, some run dry.
            for seed, (number, size) in enumerate(itertools.product(range(1, options.runs + 1), SIZES), 1):
                options.tell(f"W1-rules, {size:,} rules: run {number} of {options.runs}")
                if engine.rules().text != rules[size].text:
                    expect(engine.publish(rules[size]) == Code.APPROVED, "the rules were not published")
                swipes = Baskets(cards, seed, trace)
                ledger = Ledger(engine)
                ledger.add(_check(engine, swipes))
                swum = swim(engine, swipes, options.seconds / len(SIZES))
                ledger.add(swum.tally)
                ledger.check(engine)
                rates[size].append(swum.swipes_per_s)
                trace = swipes.next_trace
                engine.checkpoint()
        gc.unfreeze()
    median = {size: statistics.median(rates[size]) for size in SIZES}
    few, *more = SIZES
    return {
        "id": "W1-rules",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": options.seconds / len(SIZES),
        "swipes_per_s": {_short(size): round(median[size]) for size in SIZES},
        "swipes_per_s_min": {_short(size): round(min(rates[size])) for size in SIZES},
        "swipes_per_s_max": {_short(size): round(max(rates[size])) for size in SIZES},
        "compile_s": round(seconds, 2),
        "compile_mib": round(mebibytes),
        "ratios": {f"rules_{_short(size)}": round(median[few] / median[size], 3) for size in more},
    }


def _short(size: int) -> str:
    return f"{size // 1_000}k" if size >= 1_000 else str(size)


def _check(engine: Engine, swipes: Swipes) -> Tally:
    """Every purchase of a batch has its product's discount, and a minor unit and points of every family."""
    drawn, tally = swipes.next(), Tally()
    answers = engine.execute(drawn.asked)
    tally.count(drawn, answers)
    bought = drawn.rows["kind"] == Kind.PURCHASE
    listed, paid = drawn.rows["amount"][bought], -(answers["principal"] + answers["bonus"])[bought]
    off = np.minimum(listed, listed // 20 + len(FAMILIES))
    expect(np.array_equal(answers["discount"][bought], off), "not just four discounts applied")
    points = 100 * paid + len(FAMILIES) * POINTS * (paid > 0)
    expect(np.array_equal(answers["points_earned"][bought], points), "not just four accruals applied")
    return tally


def _compile(file: Path, size: int) -> tuple[float, float]:
    """Seconds and mebibytes to read, compile and publish so many rules, in a process of its own.

    They name stores and merchants, so that the chain is registered first: some milliseconds.
    """
    file.write_text(rule_file(size))
    code = (
        "import resource, sys, time\nfrom bench.chain import build\nfrom onecard import Engine, Rules\n"
        "began = time.perf_counter()\nrules = Rules.load(sys.argv[1])\n"
        "with Engine(sys.argv[2]) as engine:\n    build(engine, 0, rules=rules)\n"
        "print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, str(file), str(file.with_name("compiled"))]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), float(told[1])
