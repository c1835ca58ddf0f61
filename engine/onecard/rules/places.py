"""What rules name besides stores: categories of goods, regions of stores, tiers of cards.

All are written by their names. A category and a tier stand in the tables by their ids; a region by its place
in the file, from 1, and a rule that names a region names all that lie within it.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from onecard.rules.located import KeyPath
from onecard.rules.scaling import PURSE_MAX, Scaler, changed
from onecard.rules.source import Region, RuleFile

_REGION_DEFAULTS: dict[str, Any] = {"stores": [], "merchants": []}


class Places:
    """Compiles categories, regions and tiers; the ids by name are what rules are compiled with."""

    def __init__(self, scaler: Scaler, source: RuleFile) -> None:
        self._scaler = scaler
        self._source = source
        self.categories = by_name((one.name, one.id) for one in source.categories)
        self.tiers = by_name((one.name, one.id) for one in source.tiers)
        self.regions = self._named_regions(source.regions)

    def category_lines(self) -> list[dict[str, Any]]:
        """Table of the categories, by ascending id."""
        rows = self._source.categories
        self._scaler.unique("categories", "category", (row.id for row in rows))
        self._scaler.unique("categories", "category", (row.name for row in rows), "name")
        lines = [
            {"id": row.id, "name": self._scaler.name(("categories", at, "name"), row.name)}
            for at, row in enumerate(rows)
        ]
        return sorted(lines, key=lambda line: line["id"])

    def tier_lines(self) -> list[dict[str, Any]]:
        """Table of the tiers, by ascending id and growth value."""
        rows = self._source.tiers
        self._scaler.unique("tiers", "tier", (row.id for row in rows))
        self._scaler.unique("tiers", "tier", (row.name for row in rows), "name")
        lines: list[dict[str, Any]] = [
            {
                "id": row.id,
                "name": self._scaler.name(("tiers", at, "name"), row.name),
                "from": self._scaler.things(("tiers", at, "from"), row.from_, PURSE_MAX, "growth value"),
            }
            for at, row in enumerate(rows)
        ]
        order = sorted(range(len(rows)), key=lambda at: rows[at].id)
        for before, after in itertools.pairwise(order):
            if lines[after]["from"] <= lines[before]["from"]:
                self._scaler.problem(
                    ("tiers", after, "from"),
                    f"`{rows[after].name}` has a higher id than `{rows[before].name}`, and must ask for more "
                    f"growth value than {rows[before].from_}",
                )
        return [lines[at] for at in order]

    # Regions

    def region_lines(self) -> list[dict[str, Any]]:
        """Table of the regions, in the order of the file."""
        rows = self._source.regions
        self._scaler.unique("regions", "region", (row.name for row in rows), "name")
        self._check_apart(rows)
        return [self._region(("regions", at), row) for at, row in enumerate(rows)]

    def _region(self, path: KeyPath, row: Region) -> dict[str, Any]:
        fields = {
            "stores": self._scaler.numbers((*path, "stores"), row.stores, "store"),
            "merchants": self._scaler.numbers((*path, "merchants"), row.merchants, "merchant"),
        }
        return {"name": self._scaler.name((*path, "name"), row.name)} | changed(fields, _REGION_DEFAULTS)

    def _check_apart(self, rows: Sequence[Region]) -> None:
        """Every store and merchant is in one region at most."""
        owners: dict[tuple[str, int], str] = {}
        for at, row in enumerate(rows):
            for what, numbers in (("store", row.stores), ("merchant", row.merchants)):
                for place, number in enumerate(numbers):
                    owner = owners.setdefault((what, number), row.name)
                    if owner != row.name:
                        self._scaler.problem(
                            ("regions", at, f"{what}s", place),
                            f"{what} {number} is in `{owner}` already: a {what} lies in one region; "
                            "larger regions have it by `within`",
                        )

    def _named_regions(self, rows: Sequence[Region]) -> dict[str, list[int]]:
        """The numbers of all regions that lie in the one with a name, itself included."""
        parents = {row.name: row.within for row in rows}
        found: dict[str, list[int]] = {row.name: [] for row in rows}
        for number, row in enumerate(rows, 1):
            path: KeyPath = ("regions", number - 1, "within")
            if row.within is not None and row.within not in parents:
                self._scaler.unknown(path, "region", row.within, parents, "regions")
            name: str | None = row.name
            seen: list[str] = []
            while name in parents and name not in seen:
                seen.append(name)
                found[name].append(number)
                name = parents[name]
            if name == row.name:
                self._scaler.problem(
                    path, f"`{name}` lies in itself: take `within` out of one of {', '.join(seen)}"
                )
        return found


def by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Ids by name: several, if there are several of a name."""
    ids: dict[str, list[int]] = {}
    for name, number in pairs:
        ids.setdefault(name, []).append(number)
    return ids
