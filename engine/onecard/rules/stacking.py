"""Discounts and accruals: what they give, when they apply, and which of them could never count.

A product and a channel are written by their names, and stand in the tables by their ids. Fields of the tables
that are at their default are left out.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, get_args

from onecard.rules.located import KeyPath
from onecard.rules.places import Places, by_name
from onecard.rules.scaling import Scaler, changed, days
from onecard.rules.source import Accrual, Discount, RuleFile, Stacked, Weekday, When

FACTOR_MAX = 100
COMBINATIONS_MAX = 4_194_304
"""Of all that all rules name, and of their times of day."""

_WEEKDAYS = get_args(Weekday)

_WHEN_DEFAULTS: dict[str, Any] = {
    "products": [],
    "stores": [],
    "merchants": [],
    "regions": [],
    "channels": [],
    "tiers": [],
    "categories": [],
    "birthday": None,
    "from": 0,
    "until": 0,
    "weekdays": 0,
    "month_days": 0,
    "times": [],
    "min_spend": 0,
}
_STACKING_DEFAULTS = {"stacking": "best", "priority": 0, "when": {}}
_DISCOUNT_DEFAULTS = {"rate": 0, "value": 0, "max": 0} | _STACKING_DEFAULTS
_ACCRUAL_DEFAULTS = {"factor": 0, "rate": 0, "points": 0, "max": 0} | _STACKING_DEFAULTS


class Stacking:
    """Compiles discounts and accruals."""

    def __init__(self, scaler: Scaler, source: RuleFile, places: Places) -> None:
        self._scaler = scaler
        self._source = source
        self._places = places
        self._products = by_name((product.name, product.id) for product in source.products)
        self._channels = by_name((channel.name, channel.id) for channel in source.channels)

    def discount_lines(self) -> list[dict[str, Any]]:
        """Table of the discounts, by ascending id."""
        return self._lines("discounts", "discount", self._source.discounts, self._discount)

    def accrual_lines(self) -> list[dict[str, Any]]:
        """Table of the accruals, by ascending id."""
        return self._lines("accruals", "accrual", self._source.accruals, self._accrual)

    def check_size(self) -> None:
        """All rules together do not name too much: the engine has an entry for every combination."""
        whens = [(path, rule.when) for path, rule in self._rules()]
        count = sum(_combinations(when) for _, when in whens)
        if count > COMBINATIONS_MAX:
            path, widest = max(whens, key=lambda found: _combinations(found[1]))
            self._scaler.problem(
                path,
                f"discounts and accruals name {count:,} combinations of stores, products and so on, this one "
                f"{_combinations(widest):,}: at most {COMBINATIONS_MAX:,}; name merchants instead of stores, "
                "or leave out what all have",
            )

    def _rules(self) -> Iterator[tuple[KeyPath, Stacked]]:
        for table, rules in (("discounts", self._source.discounts), ("accruals", self._source.accruals)):
            yield from (((table, at), rule) for at, rule in enumerate(rules))

    def _lines(self, table: str, what: str, rules: Sequence[Any], gives: Any) -> list[dict[str, Any]]:
        self._scaler.unique(table, what, (rule.id for rule in rules))
        self._scaler.unique(table, what, (rule.name for rule in rules), "name")
        lines = [gives((table, at), rule) for at, rule in enumerate(rules)]
        self._reachable(table, rules)
        return sorted(lines, key=lambda line: line["id"])

    # What they give

    def _discount(self, path: KeyPath, rule: Discount) -> dict[str, Any]:
        scaler = self._scaler
        if (rule.rate is None) == (rule.value is None):
            scaler.problem(
                path, 'a discount takes off a `rate` or a `value`: write one, rate = "10%" or value = "5.00"'
            )
        if rule.rate is not None:
            scaler.share((*path, "rate"), rule.rate, "a discount")
        elif rule.max is not None:
            scaler.problem((*path, "max"), "`max` limits a `rate`: remove it, `value` is the limit itself")
        if rule.value == 0:
            scaler.problem((*path, "value"), "a discount of 0 takes nothing off: write what it takes off")
        gives = {
            "rate": scaler.rate((*path, "rate"), rule.rate or Decimal(0)),
            "value": scaler.money((*path, "value"), rule.value or Decimal(0)),
            "max": scaler.limit((*path, "max"), rule.max),
        }
        return self._line(path, rule, gives, _DISCOUNT_DEFAULTS)

    def _accrual(self, path: KeyPath, rule: Accrual) -> dict[str, Any]:
        scaler = self._scaler
        ways = {name: getattr(rule, name) for name in ("factor", "points_per_money", "points")}
        written = [name for name, value in ways.items() if value is not None]
        if len(written) != 1:
            scaler.problem(
                path,
                "an accrual gives one of `factor`, `points_per_money` and `points`: "
                'write one, like factor = "2", points_per_money = "0.5" or points = "100"',
            )
        for name in written:
            if ways[name] == 0:
                scaler.problem((*path, name), f"`{name}` of 0 gives nothing: raise it, or remove the rule")
        factor = rule.factor or Decimal(0)
        if factor and not 1 < factor <= FACTOR_MAX:
            scaler.problem(
                (*path, "factor"), f"`factor` is {factor}: use more than 1, and at most {FACTOR_MAX}"
            )
        if rule.max_points == 0:
            scaler.problem(
                (*path, "max_points"), "`max_points` of 0 would give nothing: leave it out for no limit"
            )
        gives = {
            "factor": scaler.whole((*path, "factor"), factor, 12, "a factor"),
            "rate": scaler.accrual((*path, "points_per_money"), rule.points_per_money or Decimal(0)),
            "points": scaler.points((*path, "points"), rule.points or Decimal(0)),
            "max": scaler.points((*path, "max_points"), rule.max_points or Decimal(0)),
        }
        return self._line(path, rule, gives, _ACCRUAL_DEFAULTS)

    def _line(
        self, path: KeyPath, rule: Stacked, gives: dict[str, Any], defaults: dict[str, Any]
    ) -> dict[str, Any]:
        fields = gives | {
            "stacking": rule.stacking,
            "priority": rule.priority,
            "when": self.when((*path, "when"), rule.when),
        }
        return {"id": rule.id, "name": self._scaler.name((*path, "name"), rule.name)} | changed(
            fields, defaults
        )

    # When they apply

    def when(self, path: KeyPath, when: When) -> dict[str, Any]:
        """The conditions of a rule; those that are left out are not there."""
        return changed(self._when(path, when), _WHEN_DEFAULTS)

    def _when(self, path: KeyPath, when: When) -> dict[str, Any]:
        scaler = self._scaler
        if when.from_ and when.until and when.from_ > when.until:
            scaler.problem(
                (*path, "until"), f"no day is from {when.from_} until {when.until}: mend one of them"
            )
        times = sorted(when.times)
        for before, after in itertools.pairwise(times):
            if after[0] < before[1]:
                scaler.problem((*path, "times"), "two of the times overlap: write each part of the day once")
        return {
            "products": self._named((*path, "products"), when.products, self._products, "products"),
            "stores": scaler.numbers((*path, "stores"), when.stores, "store"),
            "merchants": scaler.numbers((*path, "merchants"), when.merchants, "merchant"),
            "regions": self._named((*path, "regions"), when.regions, self._places.regions, "regions"),
            "channels": self._named((*path, "channels"), when.channels, self._channels, "channels"),
            "tiers": self._named((*path, "tiers"), when.tiers, self._places.tiers, "tiers"),
            "categories": self._named(
                (*path, "categories"), when.categories, self._places.categories, "categories"
            ),
            "birthday": when.birthday,
            "from": days(when.from_),
            "until": days(when.until),
            "weekdays": sum(1 << _WEEKDAYS.index(day) for day in set(when.weekdays)),
            "month_days": sum(1 << day for day in set(when.month_days)),
            "times": [[start * 60, end * 60] for start, end in times],
            "min_spend": scaler.money((*path, "min_spend"), when.min_spend or Decimal(0)),
        }

    def _named(self, path: KeyPath, names: list[str], known: dict[str, list[int]], table: str) -> list[int]:
        """Ids of what is named; a problem names one that is near, or all."""
        found = set[int]()
        for at, name in enumerate(names):
            if name in known:
                if len(known[name]) > 1 and table != "regions":
                    mend = "give each a name of its own"
                    self._scaler.problem((*path, at), f"several {table} are called `{name}`: {mend}")
                found.update(known[name])
                continue
            self._scaler.unknown((*path, at), _ONE_OF.get(table, table[:-1]), name, known, table)
        return sorted(found)

    # Which never count

    def _reachable(self, table: str, rules: Sequence[Stacked]) -> None:
        """A rule that always gives way to another one is a mistake."""
        masters: dict[tuple[str, object], list[Stacked]] = {}
        least = min((rule.priority for rule in rules), default=0)
        for rule in rules:
            if rule.stacking == "exclusive" or rule.priority > least:
                for anchor in _anchors(rule.when):
                    masters.setdefault(anchor, []).append(rule)
        for at, rule in enumerate(rules):
            # What applies wherever a rule does names all that it names: the first of each finds it.
            first = [(name, named[0]) for name in _NAMED if (named := getattr(rule.when, name))]
            nearby = itertools.chain.from_iterable(masters.get(anchor, ()) for anchor in (_NOTHING, *first))
            if master := next((other for other in nearby if _gives_way(rule, other)), None):
                self._scaler.problem(
                    (table, at),
                    f"`{rule.name}` never counts: `{master.name}` applies wherever it does, and before it; "
                    "narrow the one, or raise the priority of the other",
                )


_NAMED = ("stores", "merchants", "products", "regions", "channels", "tiers", "categories")
_ONE_OF = {"categories": "category"}
_NOTHING = ("", None)


def _anchors(when: When) -> list[tuple[str, object]]:
    """What a rule is found by: all that it names of one kind."""
    kind = next((name for name in _NAMED if getattr(when, name)), None)
    return [(kind, one) for one in getattr(when, kind)] if kind else [_NOTHING]


def _combinations(when: When) -> int:
    named = [len(getattr(when, name)) for name in (*_NAMED, "weekdays", "times")]
    # A day is in a week or not, and in a month or not.
    named.append(4 if when.birthday else 0)
    return math.prod(max(1, count) for count in named)


def _gives_way(rule: Stacked, master: Stacked) -> bool:
    """Whether a rule never counts, because the other always applies with it and is put before it."""
    if master.stacking == "exclusive":
        before = rule.stacking != "exclusive" or master.priority > rule.priority
    else:
        before = master.stacking == rule.stacking == "best" and master.priority > rule.priority
    return before and _covers(master.when, rule.when)


def _covers(wide: When, narrow: When) -> bool:
    """Whether one applies wherever the other does."""

    def all_of(wide: Iterable[Any], narrow: Iterable[Any]) -> bool:
        return not wide or (bool(narrow) and set(narrow) <= set(wide))

    first = wide.from_ is None or (narrow.from_ is not None and narrow.from_ >= wide.from_)
    last = wide.until is None or (narrow.until is not None and narrow.until <= wide.until)
    within = not wide.times or (
        bool(narrow.times)
        and all(any(w[0] <= n[0] and n[1] <= w[1] for w in wide.times) for n in narrow.times)
    )
    return (
        first
        and last
        and within
        and wide.birthday in (None, narrow.birthday)
        and (wide.min_spend or 0) <= (narrow.min_spend or 0)
        and all(
            all_of(getattr(wide, name), getattr(narrow, name)) for name in (*_NAMED, "weekdays", "month_days")
        )
    )
