"""python-rules: the swipe of W1 without and with a rule in Python, and what a lone purchase waits for it.

The rule says nothing, something of one sale in twenty, or something of every sale, in turn in one run. They
are those of `win_back`: the example of docs/python-rules.md is asked about every sale, and says nothing while
nobody was away. The figure is what a swipe costs with the rule, over what it costs without. Every answer of a
batch before each run is held to what the rule should have said, and no rule may have failed or been late.
"""

import itertools
import statistics
import time

import numpy as np

from bench import win_back
from bench.chain import DAY, RULES, build, expect
from bench.options import Options, cards_of, scratch
from bench.swipes import Ledger, Swipes, Tally
from bench.w1 import IN_FLIGHT, swim
from onecard import Engine, Rules
from onecard.codes import Code, Kind
from onecard.python_rules import Rule

CARDS = 1_000_000
ASKED: dict[str, Rule | None] = {
    "without": None,
    "nothing": win_back.win_back,
    "one_in_twenty": win_back.one_in_twenty,
    "every": win_back.everybody,
}
LONE = 300
NS_PER_US = 1_000


def rules_with(asked: Rule | None) -> Rules:
    """The rules of the chain, which ask one rule in Python, or none."""
    text = RULES.read_text()
    if asked is not None:
        text += f'\n[[python_rules]]\nid = {asked.id}\nname = "{asked.name}"\nversion = "{asked.version}"\n'
    return Rules.parse(text)


def run(options: Options) -> dict[str, object]:
    """What a swipe costs with each rule."""
    cards = cards_of(options, CARDS)
    rates: dict[str, list[float]] = {name: [] for name in ASKED}
    lone: dict[str, list[float]] = {name: [] for name in ASKED}
    with (
        scratch("python-rules") as directory,
        Engine(
            directory / "data",
            checkpoint_entries=options.checkpoint_entries,
            in_flight_max=IN_FLIGHT,
            python_rules=[win_back],
        ) as engine,
    ):
        build(engine, cards, options.tell)
        trace = 1
        for seed, (number, name) in enumerate(itertools.product(range(1, options.runs + 1), ASKED), 1):
            options.tell(f"python-rules, {name}: run {number} of {options.runs}")
            rules = rules_with(ASKED[name])
            if engine.rules().text != rules.text:
                expect(engine.publish(rules) == Code.APPROVED, "the rules were not published")
            swipes = Swipes(cards, seed=seed, keys="traces", day=DAY, first_trace=trace)
            ledger = Ledger(engine)
            ledger.add(_check(engine, swipes, name))
            swum = swim(engine, swipes, options.seconds / len(ASKED))
            ledger.add(swum.tally)
            rates[name].append(swum.swipes_per_s)
            trace = swipes.next_trace
            single = Swipes(cards, seed=seed, keys="traces", day=DAY, first_trace=trace, size=1, batches=LONE)
            tally, waited = _alone(engine, single)
            ledger.add(tally)
            ledger.check(engine)
            lone[name].append(waited)
            trace = single.next_trace
            engine.checkpoint()
        asked = engine.python_rules()
        assert asked is not None
        expect(asked.failed == asked.timed_out == 0, f"a rule was not heard: {asked.error}")
    median = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "id": "python-rules",
        "cards": cards,
        "runs": options.runs,
        "seconds_per_run": options.seconds / len(ASKED),
        "swipes_per_s": {name: round(found) for name, found in median.items()},
        "swipes_per_s_min": {name: round(min(found)) for name, found in rates.items()},
        "swipes_per_s_max": {name: round(max(found)) for name, found in rates.items()},
        "sales_per_group": round(asked.sales / asked.groups),
        "lone_p50_us": {name: round(statistics.median(found), 1) for name, found in lone.items()},
        "ratios": {name: round(median["without"] / median[name], 3) for name in ASKED if name != "without"},
    }


def _check(engine: Engine, swipes: Swipes, name: str) -> Tally:
    """Every purchase of a batch has its product's discount, and what the rule says of it."""
    drawn, tally = swipes.next(), Tally()
    answers = engine.execute(drawn.rows)
    tally.count(drawn, answers)
    bought = drawn.rows["kind"] == Kind.PURCHASE
    listed, number = drawn.rows["amount"][bought], drawn.rows["card"][bought]
    said = {"one_in_twenty": number % 20 == 0, "every": np.ones(len(number), bool)}
    more = np.where(said.get(name, np.zeros(len(number), bool)), listed // 100, 0)
    expect(
        np.array_equal(answers["discount"][bought], listed // 20 + more), f"{name}: not what the rule says"
    )
    return tally


def _alone(engine: Engine, swipes: Swipes) -> tuple[Tally, float]:
    """Microseconds that a purchase takes when nothing else is asked, the median."""
    waited, tally = [], Tally()
    for _ in range(LONE):
        drawn = swipes.next()
        began = time.perf_counter_ns()
        answers = engine.execute(drawn.rows)
        if drawn.rows["kind"][0] == Kind.PURCHASE:
            waited.append((time.perf_counter_ns() - began) / NS_PER_US)
        tally.count(drawn, answers)
    return tally, statistics.median(waited)
