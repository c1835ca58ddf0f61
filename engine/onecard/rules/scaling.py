"""Decimals to the engine's integers, exactly: a number with more places than its unit holds is a problem.

A `Scaler` collects problems, each at the path of its key, and always returns something, so that all problems
come together; what it returns is of use only if there are none.
"""

import datetime
import difflib
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Any

from onecard.rules.located import KeyPath
from onecard.rules.source import NAME_MAX, POINTS_SCALE, Limits, RuleFile

ONE = 10**12
"""What a rate of 100% is."""

AMOUNT_MAX = 10**14
PURSE_MAX = 10**16
ACCRUAL_MAX = 10**18
"""Points units per minor unit of money, over 10^12."""


_DATE_0 = datetime.date(1970, 1, 1).toordinal()
_EXACT = Context(prec=100)
"""More digits than a number of the file has, scaled."""


def days(date: datetime.date | None) -> int:
    """Days since 1970-01-01; 0 for none."""
    return date.toordinal() - _DATE_0 if date else 0


class Scaler:
    """Scales the numbers of a rule file. What cannot be scaled is a problem at its path."""

    def __init__(self, source: RuleFile) -> None:
        self.problems: list[tuple[KeyPath, str]] = []
        self.money_name = source.units.money.name
        self.money_scale = source.units.money.scale

    def problem(self, path: KeyPath, message: str) -> None:
        """Notes what is wrong at a path."""
        self.problems.append((path, message))

    def name(self, path: KeyPath, name: str, most: int = NAME_MAX) -> str:
        """A name of at most so many bytes."""
        if len(name.encode()) > most:
            self.problem(path, f"`{path[-1]}` is too long: use at most {most} bytes of UTF-8")
        return name

    def rate(self, path: KeyPath, percent: Decimal) -> int:
        """A percentage, over 10^12."""
        return self.whole(path, percent, 10, "a percentage")

    def share(self, path: KeyPath, percent: Decimal, what: str = "a share") -> int:
        """A percentage above 0 and at most 100."""
        if not 0 < percent <= 100:
            self.problem(path, f"{what} of {percent}% is impossible: it is above 0% and at most 100%")
        return self.rate(path, percent)

    def money(self, path: KeyPath, amount: Decimal, most: int = AMOUNT_MAX) -> int:
        """Money in minor units, at most so many."""
        units = self.whole(path, amount, self.money_scale, self.money_name)
        if units > most:
            self.problem(path, f"{amount} is too much: at most {Decimal(most).scaleb(-self.money_scale):f}")
        return units

    def accrual(self, path: KeyPath, points: Decimal) -> int:
        """Points per unit of money, in points units per minor unit, over 10^12."""
        most = Decimal(ACCRUAL_MAX) / ONE * 10**self.money_scale / 10**POINTS_SCALE
        if points > most:
            self.problem(path, f"more points than the engine can count: at most {most:f} per unit of money")
        return self.whole(path, points, 12 + POINTS_SCALE - self.money_scale, "points per money")

    def points(self, path: KeyPath, points: Decimal) -> int:
        """Points in points units, at most as many as an amount may be."""
        most = Decimal(AMOUNT_MAX).scaleb(-POINTS_SCALE)
        if points > most:
            self.problem(path, f"{points} is too much: at most {most:f}")
        return self.whole(path, points, POINTS_SCALE, "points")

    def things(self, path: KeyPath, things: Decimal, most: int, of: str) -> int:
        """Things of a card unit: whole ones, at most so many."""
        if things > most:
            self.problem(path, f"{things} is too much: at most {most}")
        return self.whole(path, things, 0, of)

    def limit(self, path: KeyPath, amount: Decimal | None, most: int = AMOUNT_MAX) -> int:
        """A limit of money; 0 in the tables: none."""
        if amount is None:
            return 0
        if amount == 0:
            self.problem(path, f"`{path[-1]}` of 0 would forbid everything: leave it out for no limit")
        return self.money(path, amount, most)

    def limits(self, path: KeyPath, limits: Limits) -> dict[str, int]:
        """The limits of a card."""
        return {
            "purchase_max": self.limit((*path, "purchase_max"), limits.purchase_max),
            "top_up_max": self.limit((*path, "top_up_max"), limits.top_up_max),
            "balance_max": self.limit((*path, "balance_max"), limits.balance_max, PURSE_MAX),
            "day_sum": self.limit((*path, "day_sum"), limits.day_sum, PURSE_MAX),
            "day_count": limits.day_count,
        }

    def whole(self, path: KeyPath, number: Decimal, places: int, what: str) -> int:
        """The number times 10^places, which must be whole."""
        scaled = number.scaleb(places, _EXACT)
        if scaled != scaled.to_integral_value():
            self.problem(path, f"{number:f} has too many decimal places: {what} can have at most {places}")
        return int(scaled)

    def numbers(self, path: KeyPath, numbers: list[int], what: str) -> list[int]:
        """Numbers in ascending order, each once."""
        seen = set[int]()
        for at, number in enumerate(numbers):
            if number in seen:
                self.problem((*path, at), f"{what} {number} stands twice: remove one")
            seen.add(number)
        return sorted(seen)

    def unknown(self, path: KeyPath, what: str, name: str, known: Iterable[str], table: str) -> None:
        """A name that nothing has: the problem names one that is near, or all."""
        known = list(known)
        near = difflib.get_close_matches(name, known, 1)
        others = f"add it to [[{table}]]" + (f", or use one of {', '.join(known)}" if known else "")
        self.problem(path, f"unknown {what} `{name}`: " + (f"did you mean `{near[0]}`?" if near else others))

    def unique(self, table: str, what: str, keys: Iterable[str | int], key: str = "id") -> None:
        """No two rows of a table have the same id, or the same name."""
        seen = set[str | int]()
        for at, value in enumerate(keys):
            if value in seen:
                self.problem(
                    (table, at, key), f"{what} {value} is there already: give this one another {key}"
                )
            seen.add(value)


def changed(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not at their default: the tables leave out the others.

    So a file that says nothing new compiles to what it always did, and publishing it again changes nothing.
    """
    return {name: value for name, value in fields.items() if value != defaults[name]}
