"""Stores and merchants that a rule file names, held against those that a programme has.

The engine refuses a version that names one which is not registered, and says which rule; here the file says
where it stands. Triggers are in no tables: they are held against them here alone.
"""

from collections.abc import Collection, Iterator
from typing import Any

from onecard.rules.located import KeyPath
from onecard.rules.source import RuleFile

_Named = Iterator[tuple[KeyPath, str, list[int]]]


def unregistered(
    source: RuleFile, stores: Collection[int], merchants: Collection[int]
) -> list[tuple[KeyPath, str]]:
    """A problem for every number that is neither of these stores nor of these merchants, each at its path."""
    known = {"store": stores, "merchant": merchants}
    return [
        ((*path, at), f"{what} {number} is not registered: register it first, or remove it")
        for path, what, numbers in _named(source)
        for at, number in enumerate(numbers)
        if number not in known[what]
    ]


def _named(source: RuleFile) -> _Named:
    """All lists of numbers that there are."""
    for at, unit in enumerate(source.card_units):
        yield ("card_units", at, "stores"), "store", unit.stores
    for at, region in enumerate(source.regions):
        yield from _places(("regions", at), region)
    for table, rules in (("discounts", source.discounts), ("accruals", source.accruals)):
        for at, rule in enumerate(rules):
            yield from _places((table, at, "when"), rule.when)
    for at, trigger in enumerate(source.triggers):
        yield ("triggers", at, "stores"), "store", trigger.stores
    for at, fee in enumerate(source.fees):
        yield ("fees", at, "card_merchants"), "merchant", fee.card_merchants
        yield from _places(("fees", at, "when"), fee.when)


def _places(path: KeyPath, of: Any) -> _Named:
    """The stores and merchants of a table that has both."""
    yield (*path, "stores"), "store", of.stores
    yield (*path, "merchants"), "merchant", of.merchants
