"""Triggers: the runner against the obvious reference, killed and started anew at any point, both ways."""

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from onecard import Client, Engine, Rules, codes, feed, rows, triggers
from onecard.feed import FeedBatch
from onecard.members import Member
from onecard.reports import Cursors, PublishedRules
from onecard.triggers import Firing, InProcess, Outcome, Runner, RunnerError, Told
from onecard.triggers.cards import Cards
from onecard.triggers.deciding import is_birthday
from onecard.triggers.targets import id_of
from tests import auditor
from tests.conftest import DAY, START_S, STOP_S, Serve
from tests.test_cli import onecard, quick
from tests.test_rules import GOOD, after, problems
from tests.triggers_reference import expected, granted, journal_of

SHOP = """
[units]
money = { name = "CNY", scale = 2 }

[[products]]
id = 1
name = "plain"
[[products]]
id = 2
name = "gold"

[[card_units]]
id = 16
name = "coffee"
kind = "coupon"
value = "3.00"

[[bundles]]
id = 1
name = "a coffee"
grants = [{ unit = "coffee", amount = "1" }]

[[bundles]]
id = 2
name = "once"
per_card = 1
grants = [{ unit = "points", amount = "5" }]

[[waterfall]]
pay = "principal"
"""

TIERS = """
[[card_units]]
id = 40
name = "growth"
kind = "growth"
[growth_value]
unit = "growth"
per_money = "1"
valid = { days = 3 }
tier_valid = { days = 2 }
[[tiers]]
id = 1
name = "silver"
from = "3"
[[tiers]]
id = 5
name = "gold"
from = "6"
"""

TIER_OF_THE_SECOND = """
[[triggers]]
id = 1
name = "welcome"
on = "first-purchase"
bundle = "a coffee"
[[triggers]]
id = 2
name = "second"
on = "purchase"
nth = 2
tier = "silver"
"""

ALL_KINDS = """
[[triggers]]
id = 1
name = "welcome"
on = "first-purchase"
bundle = "a coffee"
[[triggers]]
id = 2
name = "third"
on = "purchase"
nth = 3
bundle = "once"
[[triggers]]
id = 3
name = "come back"
on = "no-purchase"
days = 2
bundle = "a coffee"
[[triggers]]
id = 4
name = "due"
on = "cadence"
times = "1.5"
purchase_days = 2
bundle = "a coffee"
[[triggers]]
id = 5
name = "birthday"
on = "birthday"
bundle = "a coffee"
"""

TERMINALS = (11, 21)
"""Of the stores 1 and 2."""


def found(engine: Engine, text: str = SHOP + ALL_KINDS) -> None:
    answers = [
        engine.register_programme(1, "alliance", DAY),
        engine.register_merchant(1, "grocer"),
        engine.register_store(1, 1, "north"),
        engine.register_store(2, 1, "south"),
        engine.register_terminal(11, 1),
        engine.register_terminal(21, 2),
        engine.publish(Rules.parse(text)),
    ]
    assert answers == [0] * len(answers)


# Random histories


class Killed(Exception):
    """The runner ends here, as if it were killed."""


class Frail:
    """A target that may end the runner before and after everything, and cuts the feed as it likes."""

    def __init__(self, target: triggers.Target, rng: Random, chance: float) -> None:
        self._target = target
        self._rng = rng
        self._chance = chance

    def _risk(self) -> None:
        if self._rng.random() < self._chance:
            raise Killed

    def follow(self, *, to_end: bool) -> Generator[FeedBatch]:
        for batch in self._target.follow(to_end=to_end):
            start = 0
            while start < len(batch.entries):
                self._risk()
                end = start + 1 + int(self._rng.random() * 9)
                part = batch.entries[start:end]
                yield FeedBatch(0, part, int(part["sequence"][-1]) + 1)
                start = end
        yield FeedBatch(0, np.zeros(0, feed.ENTRY), batch.next)

    def cursors(self) -> Cursors:
        self._risk()
        return self._target.cursors()

    def rules(self, version: int) -> PublishedRules:
        self._risk()
        return self._target.rules(version)

    def birthdays(self) -> Any:
        self._risk()
        return self._target.birthdays()

    def grant(self, firings: Sequence[Firing], terminal: int, date: datetime.date) -> list[Told]:
        self._risk()
        some = firings if self._rng.random() < 0.7 else firings[: 1 + len(firings) // 2]
        told = self._target.grant(some, terminal, date)
        self._risk()
        if len(some) < len(firings):
            raise Killed
        return told


class Story:
    """A random history of a shop whose runner is started now and then, and mostly killed."""

    def __init__(self, seed: int, engine: Engine) -> None:
        self.rng = Random(seed)
        self.engine = engine
        self.day = DAY
        self.trace = 0
        self.cards: list[str] = []
        self.bought: list[int] = []
        self.held: list[int] = []
        self.birthdays: dict[int, datetime.date] = {}
        found(engine, self.rules())
        engine.register_programme(2, "another", DAY)
        for id in range(1, 7):
            self.enrol(id)

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.random() * len(values))]

    def rules(self) -> str:
        """The shop's rules with some triggers."""
        text, rng = SHOP + TIERS, self.rng
        for id in range(1, 9):
            if rng.random() < 0.3:
                continue
            on = self.pick(("first-purchase", "purchase", "no-purchase", "cadence", "birthday"))
            lines = {
                "first-purchase": "",
                "purchase": f"nth = {2 + int(rng.random() * 4)}",
                "no-purchase": f"days = {1 + int(rng.random() * 4)}",
                "cadence": f'times = "{self.pick(("0.5", "1", "1.5", "2.25"))}"\n'
                f"purchase_days = {2 + int(rng.random() * 2)}",
                "birthday": f"days = {int(rng.random() * 3)}",
            }[on]
            text += f'\n[[triggers]]\nid = {id}\nname = "trigger {id}"\non = "{on}"\n{lines}\n'
            gifts = ('bundle = "a coffee"', 'bundle = "once"', 'tier = "silver"', 'tier = "gold"')
            text += f"{self.pick(gifts)}\n"
            if rng.random() < 0.3:
                text += f'products = ["{self.pick(("plain", "gold"))}"]\n'
            if rng.random() < 0.3 and "purchase" in on and on != "no-purchase":
                text += f"stores = [{self.pick((1, 2))}]\n"
        return text

    def enrol(self, id: int) -> None:
        """A member, whose birthday is in one of the next days."""
        day = DAY + datetime.timedelta(int(self.rng.random() * 14))
        born = datetime.date(1980 + id, day.month, day.day)
        assert self.engine.enrol(Member(id, DAY, birthday=born)) == 0
        self.birthdays[id] = born

    def ask(self, build: Any, *arguments: Any, items: Any = None, **fields: Any) -> tuple[int, int]:
        """Code and sequence of a request."""
        self.trace += 1
        terminal = self.pick(TERMINALS)
        batch = build(*arguments, terminal=terminal, trace=self.trace, business_date=self.day, **fields)
        answers = self.engine.execute(rows.with_items(batch, [[items]]) if items is not None else batch)
        return int(answers[0]["code"]), int(answers[0]["sequence"])

    def step(self) -> None:
        rng = self.rng
        chance = rng.random()
        if not self.cards or chance < 0.08:
            self.issue()
        elif chance < 0.45:
            self.buy()
        elif chance < 0.55 and self.bought:
            self.ask(rows.reverse, sequence=self.pick(self.bought[-8:]))
        elif chance < 0.6 and self.bought:
            self.ask(rows.refund, 100, sequence=self.pick(self.bought))
        elif chance < 0.65:
            self.hold()
        elif chance < 0.7:
            member = int(rng.random() * 7)
            self.ask(rows.set_holder, self.pick(self.cards), items=rows.member(member))
        elif chance < 0.74:
            self.ask(rows.set_status, self.pick(self.cards), self.pick((1, 1, 1, 2, 3)))
        elif chance < 0.76:
            self.replace()
        elif chance < 0.77:
            self.ask(rows.close_card, self.pick(self.cards))
        elif chance < 0.79:
            assert self.engine.publish(Rules.parse(self.rules())) == 0
        else:
            self.close()

    def issue(self) -> None:
        card = f"{10**9 + len(self.cards)}"
        inactive = self.rng.random() < 0.1
        code, _ = self.ask(rows.issue, card, self.pick((1, 2)), inactive=inactive)
        assert code == 0
        self.ask(rows.top_up, card, 10**7)
        self.cards.append(card)

    def buy(self) -> None:
        code, sequence = self.ask(rows.purchase, self.pick(self.cards), self.pick((100, 100, 100, 10**9)))
        if code == 0 or self.rng.random() < 0.1:
            self.bought.append(sequence)

    def hold(self) -> None:
        code, hold = self.ask(rows.authorise, self.pick(self.cards), 300)
        if code == 0:
            for _ in range(self.pick((0, 1, 2))):
                code, sequence = self.ask(rows.capture, 100, sequence=hold)
                if code == 0:
                    self.bought.append(sequence)

    def replace(self) -> None:
        at = int(self.rng.random() * len(self.cards))
        new = f"{2 * 10**9 + self.trace}"
        code, _ = self.ask(rows.replace, self.cards[at], self.pick((0, 3)), items=rows.number(new))
        if code == 0:
            self.cards[at] = new

    def close(self) -> None:
        assert self.engine.close_day(self.day).code == 0
        assert self.engine.close_day(DAY, programme=2).code in (0, 12)
        self.day += datetime.timedelta(1)

    def play(self, target: triggers.Target, steps: int) -> None:
        """Some steps at a time, then a runner that may be killed; in the end one that is not."""
        for _ in range(steps):
            self.step()
            if self.rng.random() < 0.15:
                with contextlib.suppress(Killed):
                    Runner(Frail(target, self.rng, self.pick((0.01, 0.1, 0.3))), 11).run(to_end=True)
        Runner(target, 11).run(to_end=True)


def check(directory: Path, birthdays: dict[int, datetime.date]) -> int:
    """What was granted is what must have been, each once, in order; how much it is."""
    assert auditor.audit(directory).problems == []
    entries = journal_of(directory)
    wanted = expected(entries, birthdays)
    assert granted(entries) == wanted
    return len(wanted)


@pytest.mark.parametrize("seed", range(12))
def test_the_runner_does_what_the_reference_says_however_often_it_is_killed(
    tmp_path: Path, seed: int
) -> None:
    with Engine(tmp_path / "data") as engine:
        story = Story(seed, engine)
        story.play(InProcess(engine), 130)
    fired = check(tmp_path / "data", story.birthdays)
    assert fired > 0


@pytest.mark.parametrize("seed", range(40, 42))
def test_over_grpc_it_does_the_same(tmp_path: Path, seed: int) -> None:
    with Engine(tmp_path / "data") as engine:
        server = engine.serve("127.0.0.1:0")
        try:
            with Client(server.address) as client:
                story = Story(seed, engine)
                story.play(triggers.Served(client), 100)
        finally:
            server.stop(5)
    check(tmp_path / "data", story.birthdays)


def test_it_does_not_matter_how_often_it_runs_and_how_the_feed_is_cut(tmp_path: Path) -> None:
    """The same history with a runner that comes once at its end, and with one that is always there."""
    made = []
    for often in (False, True):
        directory = tmp_path / str(often)
        with Engine(directory) as engine:
            story = Story(7, engine)
            for _ in range(120):
                story.step()
                if often:
                    rng = Random(story.trace)
                    Runner(Frail(InProcess(engine), rng, 0.0), 11).run(to_end=True)
            Runner(InProcess(engine), 11).run(to_end=True)
        check(directory, story.birthdays)
        made.append([(one.trigger, one.card, one.bundle, one.tier) for one in granted(journal_of(directory))])
    assert sorted(made[0]) == sorted(made[1])
    assert made[0]


# One thing at a time


@pytest.fixture
def shop(engine: Engine) -> Engine:
    found(engine)
    at: dict[str, Any] = {"terminal": 11, "business_date": DAY}
    cards = ["10000001", "10000002", "10000003"]
    answers = engine.execute(
        rows.together(
            rows.issue(cards, 1, trace=[1, 2, 3], **at), rows.top_up(cards, 10**6, trace=[4, 5, 6], **at)
        )
    )
    assert not answers["code"].any()
    return engine


def buy(engine: Engine, card: int, trace: int, day: datetime.date = DAY) -> int:
    batch = rows.purchase(f"1000000{card}", 100, terminal=11, trace=trace, business_date=day)
    (answer,) = engine.execute(batch)
    assert answer["code"] == 0
    return int(answer["sequence"])


def run(engine: Engine, terminal: int = 11) -> tuple[triggers.Tally, list[Outcome]]:
    outcomes: list[Outcome] = []
    runner = Runner(InProcess(engine), terminal, told=outcomes.append)
    return runner.run(to_end=True), outcomes


def test_what_is_done_is_told(shop: Engine) -> None:
    first = buy(shop, 2, 10)
    tally, (outcome,) = run(shop)
    assert outcome.firing == Firing(first, 1, 1, 1)
    assert (outcome.card, outcome.told.code, outcome.told.replayed) == ("10000002", 0, False)
    assert (tally.granted, tally.refused, tally.repeated, tally.at_end) == (1, {}, 0, True)
    assert tally.next == shop.stats().entries + 1
    assert shop.cursors().at == {1: (first, 1)}
    assert run(shop)[1] == []
    parts = shop.execute(rows.balance("10000002", terminal=11)).parts
    assert parts["purse"].tolist() == [16]


def test_a_refused_grant_is_not_asked_for_again(shop: Engine) -> None:
    first = buy(shop, 1, 10)
    shop.execute(rows.set_status("10000001", 3, terminal=11, trace=11, business_date=DAY))
    tally, (outcome,) = run(shop)
    assert (outcome.told.code, tally.refused) == (codes.Code.LOST_CARD, {41: 1})
    assert shop.cursors().at == {1: (first, 0)}
    assert run(shop)[1] == []


@contextlib.contextmanager
def target_of(engine: Engine, served: bool) -> Iterator[triggers.Target]:
    if not served:
        yield InProcess(engine)
        return
    server = engine.serve("127.0.0.1:0")
    try:
        with Client(server.address) as client:
            yield triggers.Served(client)
    finally:
        server.stop(5)


@pytest.mark.parametrize("served", [False, True])
def test_a_tier_is_what_a_card_has_at_least(shop: Engine, served: bool) -> None:
    """Set in one group with bundles, once, and never lowered."""
    assert shop.publish(Rules.parse(SHOP + TIERS + TIER_OF_THE_SECOND)) == 0
    at: dict[str, Any] = {"terminal": 11, "business_date": DAY}
    by_hand = rows.set_tier(["10000002", "10000003"], [1, 5], trace=[10, 11], **at)
    assert not shop.execute(by_hand)["code"].any()
    bought = [(card, buy(shop, card + 1, 20 + 2 * card + time)) for time in (0, 1) for card in range(3)]
    outcomes: list[Outcome] = []
    with target_of(shop, served) as target:
        tally = Runner(target, 11, told=outcomes.append).run(to_end=True)
    gifts = [(1, 0)] * 3 + [(0, 1)] * 3
    expected_firings = [
        Firing(sequence, 1 if bundle else 2, card, bundle, tier)
        for (card, sequence), (bundle, tier) in zip(bought, gifts, strict=True)
    ]
    assert [outcome.firing for outcome in outcomes] == expected_firings
    higher = (codes.Code.NOT_PERMITTED, codes.Reason.HIGHER_TIER)
    told = [(outcome.told.code, outcome.told.reason) for outcome in outcomes]
    assert told == [(0, 0)] * 5 + [higher]
    assert (tally.granted, tally.refused, tally.repeated) == (5, {57: 1}, 0)
    assert shop.execute(rows.balance(["10000001", "10000002", "10000003"], terminal=11))["tier"].tolist() == [
        1,
        1,
        5,
    ]
    assert shop.cursors().at == {1: (bought[2][1], 2), 2: (bought[5][1], 2)}
    with target_of(shop, served) as target:
        assert Runner(target, 11).run(to_end=True).granted == 0


def test_a_lost_card_gets_no_tier_and_is_done_with(shop: Engine) -> None:
    assert shop.publish(Rules.parse(SHOP + TIERS + TIER_OF_THE_SECOND)) == 0
    buy(shop, 1, 10)
    second = buy(shop, 1, 11)
    shop.execute(rows.set_status("10000001", 3, terminal=11, trace=12, business_date=DAY))
    assert [outcome.told.code for outcome in run(shop)[1]] == [codes.Code.LOST_CARD] * 2
    assert shop.cursors().at[2] == (second, 0)
    assert run(shop)[1] == []


def test_only_the_version_in_force_counts(shop: Engine) -> None:
    """What came before a trigger, or after it was taken out, does not make it fire."""
    assert shop.publish(Rules.parse(SHOP)) == 0
    buy(shop, 1, 10)
    assert shop.publish(Rules.parse(SHOP + ALL_KINDS)) == 0
    buy(shop, 1, 11)
    second = buy(shop, 2, 12)
    assert [outcome.firing[:3] for outcome in run(shop)[1]] == [(second, 1, 1)]


def test_a_text_that_is_no_rule_file_has_no_triggers(shop: Engine, caplog: pytest.LogCaptureFixture) -> None:
    tables = Rules.parse(SHOP)
    other = Rules("no rule file", tables.source, tables.tables)
    assert shop.publish(other, version=2) == 0
    buy(shop, 1, 10)
    assert run(shop)[1] == []
    assert "version 2 of the rules is no rule file" in caplog.text


def test_what_it_cannot_mend_is_said(shop: Engine) -> None:
    buy(shop, 1, 10)
    with pytest.raises(RunnerError, match="terminal 99 is not registered: name another with --terminal"):
        run(shop, terminal=99)
    with pytest.raises(RunnerError, match="there is no such programme"):
        Runner(InProcess(shop, 9), 11).run(to_end=True)
    assert len(run(shop)[1]) == 1


class Scripted(InProcess):
    """An engine whose grants are answered by a script first; None: as they are."""

    def __init__(self, engine: Engine, script: list[list[Told] | None]) -> None:
        super().__init__(engine)
        self.script = script
        self.asked = 0

    def grant(self, firings: Sequence[Firing], terminal: int, date: datetime.date) -> list[Told]:
        self.asked += 1
        told = self.script.pop(0) if self.script else None
        return super().grant(firings, terminal, date) if told is None else told


def test_without_room_it_waits_and_asks_again(shop: Engine) -> None:
    buy(shop, 1, 10)
    pauses: list[float] = []
    target = Scripted(shop, [[Told(91, 0, 0, False)]] * 7)
    assert Runner(target, 11, sleep=pauses.append).run(to_end=True).granted == 1
    assert (len(pauses), target.asked) == (7, 8)


def test_a_day_that_was_closed_meanwhile_is_asked_for_again_but_not_for_ever(shop: Engine) -> None:
    buy(shop, 1, 10)
    target = Scripted(shop, [[Told(12, 0, 0, False)]] * 3)
    assert Runner(target, 11).run(to_end=True).granted == 1
    buy(shop, 2, 11)
    with pytest.raises(RunnerError, match="a grant was answered 12"):
        Runner(Scripted(shop, [[Told(12, 0, 0, False)]] * 9), 11).run(to_end=True)


def test_two_runners_do_it_once(shop: Engine) -> None:
    """Also if the other is at another terminal: its request has the same id, and another content."""
    first = buy(shop, 1, 10)

    class Overtaken(InProcess):
        def grant(self, firings: Sequence[Firing], terminal: int, date: datetime.date) -> list[Told]:
            super().grant(firings, other, date)
            return super().grant(firings, terminal, date)

    for other, card in ((21, 1), (11, 2)):
        tally = Runner(Overtaken(shop), 11).run(to_end=True)
        done = (tally.granted, tally.repeated)
        assert done == ((0, 1) if other == 21 else (1, 0))
        assert shop.cursors().at[1][1] == card - 1
        buy(shop, card + 1, 20 + card)
    assert first


def test_days_that_went_by_are_made_up(shop: Engine) -> None:
    """A runner that was away for long uses the open date, because keys of older days are refused."""
    buy(shop, 1, 10)
    for number in range(12):
        assert shop.close_day(DAY + datetime.timedelta(number)).code == 0
    tally, outcomes = run(shop)
    assert [outcome.firing.trigger for outcome in outcomes] == [1, 3]
    assert (tally.granted, tally.refused) == (2, {})


@pytest.mark.parametrize(
    ("born", "days"),
    [
        (datetime.date(1990, 3, 3), [datetime.date(2026, 3, 3), datetime.date(2027, 3, 3)]),
        (
            datetime.date(2000, 2, 29),
            [datetime.date(2026, 2, 28), datetime.date(2027, 2, 28), datetime.date(2028, 2, 29)],
        ),
        (datetime.date(1999, 2, 28), [datetime.date(year, 2, 28) for year in (2026, 2027, 2028)]),
        (datetime.date(2027, 5, 5), [datetime.date(2028, 5, 5)]),
    ],
)
def test_birthdays(born: datetime.date, days: list[datetime.date]) -> None:
    whole = [datetime.date(2026, 2, 1) + datetime.timedelta(number) for number in range(870)]
    assert [day for day in whole if is_birthday(born, day) and day <= days[-1]] == days


def test_ids_are_of_what_they_are_for() -> None:
    firings = [Firing(s, t, c, 1) for s in (1, 2**63 - 1) for t in (1, 65_535) for c in (0, 2**32 - 1)]
    ids = {id_of(firing) for firing in firings}
    assert len(ids) == len(firings)
    assert all(0 < high < 2**63 and 0 < low < 2**64 for high, low in ids)


def test_cards_know_the_same_however_the_feed_is_cut(tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        story = Story(3, engine)
        for _ in range(400):
            story.step()
        entries = engine.feed().entries
    known = []
    for size in (1, 7, 10_000):
        cards = Cards()
        start = 0
        while start < len(entries):
            part = entries[start : start + size]
            undoes = np.flatnonzero((part["kind"] == codes.Kind.REVERSAL) & (part["original"] != 0))
            end = int(undoes[0]) if len(undoes) else len(part)
            cards.take(part[:end])
            if end < len(part):
                cards.reverse(int(part[end]["card_index"]), int(part[end]["original"]))
            start += end + (end < len(part))
        names = ("product", "holder", "usable", "count", "most", "days", "first", "last")
        known.append([cards._cards[name].tolist() for name in names])
    assert known[0] == known[1] == known[2]


# In the rule file


def trigger(*lines: str) -> str:
    header = ["[[triggers]]", "id = 1", 'name = "one"', *lines]
    gift = ["[[bundles]]", "id = 1", 'name = "gift"', 'grants = [{ unit = "points", amount = "1" }]']
    sold = [
        "[[bundles]]",
        "id = 2",
        'name = "sold"',
        'price = "1.00"',
        'grants = [{ unit = "points", amount = "1" }]',
    ]
    tier = ["[[tiers]]", "id = 1", 'name = "silver"', 'from = "1"']
    return after("\n".join([*header, *gift, *sold, *tier, ""]))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ['on = "purchase"', 'bundle = "gift"'],
            "10: `nth` is missing: add nth = 10, which purchase of a card",
        ),
        (['on = "purchase"', "nth = 1", 'bundle = "gift"'], "14: `nth` is 1: use 2 to 1000000"),
        (['on = "no-purchase"', 'bundle = "gift"'], "10: `days` is missing: add days = 60, how long"),
        (['on = "no-purchase"', "days = 0", 'bundle = "gift"'], "14: after 0 days nothing is missed yet"),
        (
            ['on = "birthday"', "days = 366", 'bundle = "gift"'],
            "14: a birthday comes every year: at most 365 days",
        ),
        (['on = "cadence"', 'bundle = "gift"'], '10: `times` is missing: add times = "1.5"'),
        (['on = "cadence"', 'times = "0"', 'bundle = "gift"'], "14: `times` is 0: more than 0, at most 100"),
        (['on = "cadence"', 'times = "0.001"', 'bundle = "gift"'], "14: 0.001 has too many decimal places"),
        (
            ['on = "birthday"', "nth = 2", 'bundle = "gift"'],
            "14: `nth` belongs to on = 'purchase': remove it",
        ),
        (
            ['on = "birthday"', "stores = [1]", 'bundle = "gift"'],
            "14: `stores` belongs to on = 'first-purchase' and 'purchase': remove it from on = 'birthday'",
        ),
        (
            ['on = "birthday"'],
            '10: `bundle` or `tier` is missing: add bundle = "...", the name of a bundle without a price, '
            'or tier = "...", the name of one of [[tiers]]',
        ),
        (
            ['on = "birthday"', 'bundle = "gift"', 'tier = "silver"'],
            "15: a trigger grants a `bundle` or a `tier`, not both: remove one",
        ),
        (['on = "birthday"', 'tier = "sliver"'], "14: unknown tier `sliver`: did you mean `silver`?"),
        (
            ['on = "birthday"', 'tier = "bronze"'],
            "14: unknown tier `bronze`: add it to [[tiers]], or use one",
        ),
        (['on = "birthday"', "tier = 1"], "14: `tier` must be text in quotes, not a number"),
        (['bundle = "gift"'], '10: `on` is missing: add on = "first-purchase", "purchase"'),
        (['on = "death"', 'bundle = "gift"'], "13: `on`: 'death' is unknown: write 'first-purchase'"),
        (['on = "birthday"', 'bundle = "gfit"'], "14: unknown bundle `gfit`: did you mean `gift`?"),
        (['on = "birthday"', 'bundle = "sold"'], "14: `sold` is sold for 1.00, and a trigger sells nothing"),
        (
            ['on = "birthday"', 'bundle = "gift"', 'products = ["stadnard"]'],
            "15: unknown product `stadnard`: did you mean `standard`?",
        ),
        (
            ['on = "first-purchase"', 'bundle = "gift"', "stores = [1, 1]"],
            "15: store 1 stands twice: remove one",
        ),
    ],
)
def test_mistakes_are_named(lines: list[str], says: str) -> None:
    (found_line,) = problems(trigger(*lines))
    assert found_line.startswith(says)


def test_a_trigger_of_a_tier_is_said_in_words() -> None:
    text = trigger('on = "birthday"', 'tier = "silver"')
    rules = Rules.parse(text)
    (found_trigger,) = rules.triggers
    assert (found_trigger.bundle, found_trigger.tier) == (0, 1)
    said = "Trigger 1, one: at least tier silver is granted to a member for the birthday."
    assert said in rules.explain()


def test_they_change_no_tables_and_are_a_change_all_the_same() -> None:
    with_one, without = Rules.parse(SHOP + ALL_KINDS), Rules.parse(SHOP)
    assert with_one.tables == without.tables
    assert Rules.parse(GOOD).triggers == ()
    changes = without.changes(with_one)
    assert changes
    assert len(changes.came) == 5
    assert without.changes(Rules.parse(SHOP)) is None


# The command line


def test_the_command_line_in_a_data_directory(shop: Engine, tmp_path: Path) -> None:
    first = buy(shop, 1, 10)
    shop.close()
    data = tmp_path / "data"
    done = onecard("triggers", "run", data, "--terminal", "11", "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line | {"sequence": 0} == {
        "trigger": 1,
        "for": first,
        "card": "10000001",
        "bundle": 1,
        "code": 0,
        "reason": 0,
        "sequence": 0,
        "replayed": False,
    }
    done = onecard("triggers", "run", data, "--terminal", "11", "--once")
    assert (done.returncode, done.stdout) == (0, f"{line['sequence']} entries, 0 granted, none refused\n")
    done = onecard("triggers", "run", data, "--terminal", "11", "--once", "--programme", "7")
    assert done.returncode == 1
    assert done.stderr == "error: there is no such programme: name another with --programme\n"


def test_the_command_line_tells_of_tiers(shop: Engine, tmp_path: Path) -> None:
    assert shop.publish(Rules.parse(SHOP + TIERS + TIER_OF_THE_SECOND)) == 0
    buy(shop, 1, 10)
    buy(shop, 1, 11)
    shop.close()
    done = onecard("triggers", "run", tmp_path / "data", "--terminal", "11", "--once", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    gifts = [(line["trigger"], line.get("bundle"), line.get("tier"), line["code"]) for line in lines]
    assert gifts == [(1, 1, None, 0), (2, None, 1, 0)]


def test_wrong_uses_of_the_command_line(tmp_path: Path) -> None:
    for arguments in ((), (str(tmp_path), "--terminal", "1"), (str(tmp_path), "--terminal", "0")):
        assert quick("triggers", "run", *arguments).exit_code == 2
    both = quick("triggers", "run", str(tmp_path), "--target", "127.0.0.1:1", "--terminal", "1")
    assert both.exit_code == 2
    assert "name one" in both.stderr


def start(target: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "onecard", "triggers", "run", "--target", target, "--terminal", "11"]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def test_it_stops_in_good_order(serve: Serve, tmp_path: Path) -> None:
    with Engine(tmp_path / "data") as engine:
        found(engine)
    served = serve(tmp_path / "data")
    with Client(served.target, terminal=11, business_date=DAY) as client:
        for stop in (signal.SIGTERM, signal.SIGINT):
            process = start(served.target, "--json")
            card = f"{10**9 + stop}"
            client.issue(card, 1)
            client.top_up(card, 10**6)
            assert client.purchase(card, 100).code == 0
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["card"] == card
            process.send_signal(stop)
            out, err = process.communicate(timeout=STOP_S)
            assert (process.returncode, out, err) == (0, "", "")
    assert served.stop() == 0


def test_killed_again_and_again_it_repeats_nothing_and_leaves_nothing_out(
    serve: Serve, tmp_path: Path
) -> None:
    rng = Random(1)
    with Engine(tmp_path / "data") as engine:
        found(engine)
    served = serve(tmp_path / "data")
    day, began = DAY, time.monotonic()
    with Client(served.target, terminal=11) as client:
        cards = [f"{10**9 + number}" for number in range(60)]
        for card in cards:
            client.issue(card, 1, business_date=day)
            client.top_up(card, 10**6, business_date=day)
        process, kills = start(served.target), 0
        while kills < 12 and time.monotonic() - began < START_S:
            for _ in range(40):
                client.purchase(cards[int(rng.random() * 60)], 100, business_date=day)
            if rng.random() < 0.5:
                assert client.close_day(day).code == 0
                day += datetime.timedelta(1)
            time.sleep(rng.random() * 0.7)
            process.kill()
            process.communicate(timeout=STOP_S)
            process, kills = start(served.target), kills + 1
        process.kill()
        process.communicate(timeout=STOP_S)
    last = onecard("triggers", "run", "--target", served.target, "--terminal", "11", "--once")
    assert (last.returncode, last.stderr) == (0, "")
    assert served.stop() == 0
    assert check(tmp_path / "data", {}) > 60
