"""What triggers fire for: from the entries of the feed to what is to be granted.

A firing is of a trigger, for an entry, to a card. What fires is a function of the entries up to it, of the
rules in force at it and, for birthdays, of the members as they are when it is decided. Firings of one trigger
come in ascending order of entry and card: the order of its cursor.
"""

import datetime
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onecard import feed, rows
from onecard.codes import Kind
from onecard.rules import Rules, RulesError, Trigger
from onecard.triggers.cards import Bought, Cards, Indexes

Cursor = tuple[int, int]
"""Entry and card."""
Birthdays = Callable[[], Iterable[tuple[int, datetime.date | None]]]
"""Members and their birthdays, as they are now."""
Texts = Callable[[int], str]
"""The text of a version of the rules."""

_log = logging.getLogger(__name__)


class Firing(NamedTuple):
    """Something to be granted."""

    sequence: int
    trigger: int
    card: int
    bundle: int
    """0: a tier."""
    tier: int = 0
    """What the card has at least afterwards; 0: a bundle."""


class Decider:
    """Follows the feed and says what fires beyond the cursors that there were; `take` goes on."""

    def __init__(self, texts: Texts, birthdays: Birthdays, cursors: dict[int, Cursor]) -> None:
        self.cards = Cards()
        self._texts = texts
        self._birthdays = birthdays
        self._cursors = cursors
        self._triggers: dict[int, tuple[Trigger, ...]] = {0: ()}
        self._version = 0

    def take(self, entries: feed.Entries) -> Iterator[Firing]:
        """Entries in their order; what fires for them, by entry, trigger and card."""
        undoes = (entries["kind"] == Kind.REVERSAL) & (entries["original"] != 0)
        alone = np.flatnonzero(undoes | np.isin(entries["kind"], (feed.RULES, feed.DAY_CLOSED)))
        start = 0
        for at in (*alone.tolist(), len(entries)):
            if at > start:
                yield from self._purchases(self.cards.take(entries[start:at]))
            if at < len(entries):
                yield from self._alone(entries[at])
            start = at + 1

    def _alone(self, entry: np.void) -> Iterator[Firing]:
        """A reversal, a version of the rules, or the close of a day."""
        if entry["kind"] == feed.DAY_CLOSED:
            yield from self._day(int(entry["sequence"]), int(entry["business_date"]))
        elif entry["kind"] == feed.RULES:
            self._version = int(entry["rules"])
        else:
            self.cards.reverse(int(entry["card_index"]), int(entry["original"]))

    def _in_force(self, version: int) -> tuple[Trigger, ...]:
        if version not in self._triggers:
            try:
                self._triggers[version] = Rules.parse(self._texts(version), f"version {version}").triggers
            except RulesError as error:
                # The engine takes any text beside its tables.
                _log.warning(
                    "version %d of the rules is no rule file, it has no triggers: %s", version, error
                )
                self._triggers[version] = ()
        return self._triggers[version]

    def _beyond(self, trigger: Trigger, sequence: int, card: int) -> bool:
        return (sequence, card) > self._cursors.get(trigger.id, (0, 0))

    # Purchases

    def _purchases(self, bought: Bought) -> Iterator[Firing]:
        found: list[Firing] = []
        for version in np.unique(bought.entries["rules"]).tolist():
            of_version = bought.first_time & (bought.entries["rules"] == version)
            for trigger in self._in_force(version):
                if trigger.nth:
                    found += self._nth(trigger, bought, of_version & (bought.number == trigger.nth))
        yield from sorted(found)

    def _nth(self, trigger: Trigger, bought: Bought, fires: npt.NDArray[np.bool_]) -> Iterator[Firing]:
        entries = bought.entries
        done, _ = self._cursors.get(trigger.id, (0, 0))
        fires = fires & (entries["sequence"] >= done)
        for name, wanted in (("product", trigger.products), ("store", trigger.stores)):
            if wanted:
                fires = fires & np.isin(entries[name], list(wanted))
        for sequence, card in entries[fires][["sequence", "card_index"]].tolist():
            if self._beyond(trigger, sequence, card):
                yield Firing(sequence, trigger.id, card, trigger.bundle, trigger.tier)

    # Days

    def _day(self, sequence: int, date: int) -> Iterator[Firing]:
        for trigger in self._in_force(self._version):
            # A day that was done with is not looked at again: that would take longer than all the rest.
            if self._beyond(trigger, sequence, feed.NO_CARD):
                for card in self._due(trigger, date).tolist():
                    if self._beyond(trigger, sequence, card):
                        yield Firing(sequence, trigger.id, card, trigger.bundle, trigger.tier)

    def _due(self, trigger: Trigger, date: int) -> Indexes:
        match trigger.on:
            case "no-purchase":
                due = self.cards.without_purchase(date, trigger.days)
            case "cadence":
                due = self.cards.overdue(date, trigger.times, trigger.purchase_days)
            case "birthday":
                return self._celebrating(trigger, rows.day(date + 1 + trigger.days))
            case _:
                return np.zeros(0, np.int64)
        return due[np.isin(self.cards.products_of(due), list(trigger.products))] if trigger.products else due

    def _celebrating(self, trigger: Trigger, day: datetime.date) -> Indexes:
        members = [id for id, born in self._birthdays() if born and is_birthday(born, day)]
        return self.cards.of_members(members, trigger.products)


def is_birthday(born: datetime.date, day: datetime.date) -> bool:
    """Whether somebody celebrates on a day; who was born on 29 February does in other years on the 28th."""
    if born >= day:
        return False
    leaps = day.month == 2 and day.day == 28 and (day + datetime.timedelta(1)).month == 3
    return (born.month, born.day) in ({(2, 28), (2, 29)} if leaps else {(day.month, day.day)})
