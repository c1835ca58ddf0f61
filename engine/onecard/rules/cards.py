"""What makes kinds of cards: the units that the business defines, the bundles that grant them, the channels.

A unit is written by its name wherever the file refers to it, and by its id in the tables. What a kind of unit
does not use is a problem, not ignored. Fields of the tables that are at their default are left out.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from onecard.rules.located import KeyPath
from onecard.rules.scaling import AMOUNT_MAX, Scaler, changed, days
from onecard.rules.source import Bundle, CardUnit, Channel, Grant

PURSES = {"bonus": 2, "points": 3}
"""Purses that every card has, and that bundles may grant."""

_KINDS_OF = {
    "worth": ("visits", "time"),
    "value": ("coupon",),
    "rate": ("coupon",),
    "max": ("coupon",),
    "min_spend": ("visits", "time", "coupon"),
    "funded": ("coupon",),
    "per_purchase": ("visits", "time", "coupon"),
}
"""Which kinds of units use a field; all use those that are not here."""

_UNIT_DEFAULTS = {
    "worth": 0,
    "value": 0,
    "rate": 0,
    "max": 0,
    "min_spend": 0,
    "funded": "issuer",
    "stores": [],
    "per_purchase": 0,
}
_BUNDLE_DEFAULTS = {
    "price": 0,
    "points": 0,
    "stock": 0,
    "worth": 0,
    "per_card": 0,
    "per_member": 0,
    "grants": [],
}
_GRANT_DEFAULTS = {"from": 0, "days": 0, "until": 0}
_CHANNEL_DEFAULTS = {"collects": "store"}


class Cards:
    """Compiles units, bundles and channels; `units` are those of the file by name."""

    def __init__(self, scaler: Scaler, rows: Iterable[CardUnit]) -> None:
        self._scaler = scaler
        self._rows = tuple(rows)
        self.units: Mapping[str, CardUnit] = {row.name: row for row in reversed(self._rows)}

    def unit_lines(self) -> list[dict[str, Any]]:
        """Table of the units, by ascending id."""
        self._scaler.unique("card_units", "unit", (row.id for row in self._rows))
        self._scaler.unique("card_units", "unit", (row.name for row in self._rows), "name")
        lines = [self._unit(("card_units", at), row) for at, row in enumerate(self._rows)]
        return sorted(lines, key=lambda line: line["id"])

    def _unit(self, path: KeyPath, row: CardUnit) -> dict[str, Any]:
        scaler = self._scaler
        if row.name in (*PURSES, "principal"):
            scaler.problem((*path, "name"), f"every card has {row.name} already: give this unit another name")
        for name, kinds in _KINDS_OF.items():
            if name in row.model_fields_set and row.kind not in kinds:
                scaler.problem(
                    (*path, name), f"`{name}` belongs to {_listed(kinds)}: remove it from kind = {row.kind!r}"
                )
        if row.kind == "coupon":
            self._takes_off(path, row)
        elif row.kind not in ("value", "growth"):
            self._pays(path, row)
        fields = {
            "worth": scaler.money((*path, "worth"), row.worth or Decimal(0)),
            "value": scaler.money((*path, "value"), row.value or Decimal(0)),
            "rate": scaler.rate((*path, "rate"), row.rate or Decimal(0)),
            "max": scaler.limit((*path, "max"), row.max),
            "min_spend": scaler.money((*path, "min_spend"), row.min_spend or Decimal(0)),
            "funded": row.funded,
            "stores": scaler.numbers((*path, "stores"), row.stores, "store"),
            "per_purchase": row.per_purchase,
        }
        first = {"id": row.id, "name": scaler.name((*path, "name"), row.name), "kind": row.kind}
        return first | changed(fields, _UNIT_DEFAULTS)

    def _pays(self, path: KeyPath, row: CardUnit) -> None:
        """A visit or a use that pays nothing would be no reason to have it."""
        what = "a visit" if row.kind == "visits" else "a use"
        if row.worth is None:
            self._scaler.problem(path, f'`worth` is missing: add worth = "50.00", the most that {what} pays')
        elif row.worth == 0:
            self._scaler.problem(
                (*path, "worth"), f"a worth of 0 pays nothing: write the most that {what} pays"
            )

    def _takes_off(self, path: KeyPath, row: CardUnit) -> None:
        """A coupon has a value or a rate; only the rate needs a limit."""
        scaler = self._scaler
        if row.value is None and row.rate is None:
            scaler.problem(
                path, 'a coupon takes off a `value` or a `rate`: add value = "10.00", or rate = "10%"'
            )
        elif row.value is not None and row.rate is not None:
            scaler.problem((*path, "rate"), "a coupon takes off a `value` or a `rate`, not both: remove one")
        elif row.value == 0:
            scaler.problem((*path, "value"), "a coupon of 0 takes nothing off: write what it takes off")
        elif row.rate is not None:
            scaler.share((*path, "rate"), row.rate, "a coupon")
        elif row.max is not None:
            scaler.problem((*path, "max"), "`max` limits a `rate`: remove it, `value` is the limit itself")

    def bundle_lines(self, rows: list[Bundle]) -> list[dict[str, Any]]:
        """Table of the bundles, by ascending id."""
        self._scaler.unique("bundles", "bundle", (row.id for row in rows))
        self._scaler.unique("bundles", "bundle", (row.name for row in rows), "name")
        lines = [self._bundle(("bundles", at), row) for at, row in enumerate(rows)]
        return sorted(lines, key=lambda line: line["id"])

    def _bundle(self, path: KeyPath, row: Bundle) -> dict[str, Any]:
        scaler = self._scaler
        if not row.grants and not row.worth:
            scaler.problem(
                path,
                "a bundle grants something or is goods: add [[bundles.grants]], or "
                'worth = "20.00", the money that the store gets for the goods that it hands over',
            )
        fields = {
            "price": scaler.money((*path, "price"), row.price),
            "points": scaler.points((*path, "points"), row.points),
            "stock": row.stock,
            "worth": scaler.money((*path, "worth"), row.worth),
            "per_card": row.per_card,
            "per_member": row.per_member,
            "grants": [self._grant((*path, "grants", at), grant) for at, grant in enumerate(row.grants)],
        }
        first = {"id": row.id, "name": scaler.name((*path, "name"), row.name)}
        return first | changed(fields, _BUNDLE_DEFAULTS)

    def _grant(self, path: KeyPath, grant: Grant) -> dict[str, Any]:
        if grant.amount == 0:
            self._scaler.problem((*path, "amount"), "an amount of 0 grants nothing: raise it, or remove it")
        fields = {
            "from": grant.from_days,
            "days": grant.days,
            "until": days(grant.until),
        }
        unit = PURSES.get(grant.unit) or self.unit_id((*path, "unit"), grant.unit, tuple(PURSES))
        amount = self._amount((*path, "amount"), grant)
        return {"unit": unit, "amount": amount} | changed(fields, _GRANT_DEFAULTS)

    def _amount(self, path: KeyPath, grant: Grant) -> int:
        scaler, amount = self._scaler, grant.amount
        if grant.unit == "bonus":
            return scaler.money(path, amount)
        if grant.unit == "points":
            return scaler.points(path, amount)
        unit = self.units.get(grant.unit)
        if unit and unit.kind == "time" and amount not in (0, 1):
            scaler.problem(
                path, 'a time is granted once: write amount = "1"; what is counted is of kind = "visits"'
            )
        return scaler.things(path, amount, AMOUNT_MAX, grant.unit)

    def unit_id(self, path: KeyPath, name: str, others: tuple[str, ...] = ()) -> int:
        """Id of the unit with a name; a problem names one that is near, or all."""
        if name in self.units:
            return self.units[name].id
        self._scaler.unknown(path, "unit", name, [*others, *self.units], "card_units")
        return 0

    def channel_lines(self, rows: list[Channel]) -> list[dict[str, Any]]:
        """Table of the channels, by ascending id."""
        self._scaler.unique("channels", "channel", (row.id for row in rows))
        self._scaler.unique("channels", "channel", (row.name for row in rows), "name")
        lines = [
            {"id": row.id, "name": self._scaler.name(("channels", at, "name"), row.name)}
            | changed({"collects": row.collects}, _CHANNEL_DEFAULTS)
            for at, row in enumerate(rows)
        ]
        return sorted(lines, key=lambda line: line["id"])


def _listed(kinds: tuple[str, ...]) -> str:
    *most, last = kinds
    return f"{', '.join(most)} and {last}" if most else f"a {last} only"
