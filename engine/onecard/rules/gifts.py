"""What is given beyond what was asked for: by bands of top-ups, to new members, with first purchases.

A bundle is written by its name, and stands in the tables by its id. What is given costs nothing, whatever
the bundle is sold for otherwise. Fields of the tables that are at their default are left out.
"""

from decimal import Decimal
from typing import Any

from onecard.rules import source
from onecard.rules.located import KeyPath
from onecard.rules.scaling import ONE, Scaler, changed
from onecard.rules.source import Band, RuleFile

_BAND_DEFAULTS = {"points": 0, "bundle": 0, "price": ONE}
_GIFT_DEFAULTS = {"enrolment": 0, "first_purchase": 0, "first_purchase_min": 0}


class Gifts:
    """Compiles the bands of top-ups and the gifts."""

    def __init__(self, scaler: Scaler, rules: RuleFile) -> None:
        self._scaler = scaler
        self._source = rules
        self._bundles = {bundle.name: bundle for bundle in reversed(rules.bundles)}

    def band_lines(self) -> list[dict[str, int]]:
        """Table of the bands, as they stand: by ascending `from`."""
        bands: list[dict[str, int]] = []
        for at, band in enumerate(self._source.top_up_bonus):
            path = ("top_up_bonus", at)
            line = self._band(path, band)
            if bands and line["from"] <= bands[-1]["from"]:
                before = self._source.top_up_bonus[at - 1].from_
                self._scaler.problem(
                    (*path, "from"),
                    f"the band from {band.from_} does not begin above the one before ({before}): "
                    "write each `from` once, in ascending order",
                )
            bands.append(line)
        return bands

    def _band(self, path: KeyPath, band: Band) -> dict[str, int]:
        scaler = self._scaler
        if band.from_ == 0:
            scaler.problem(
                (*path, "from"), "a band begins at one minor unit or more: no top-up is below that"
            )
        if band.rate > 1000:
            scaler.problem((*path, "rate"), f"a bonus of {band.rate}% is too much: at most 1000%")
        more = {
            "points": scaler.points((*path, "points"), band.points),
            "bundle": self._bundle((*path, "bundle"), band.bundle),
            "price": scaler.share((*path, "price"), band.price, "a price"),
        }
        return {
            "from": scaler.money((*path, "from"), band.from_),
            "bonus": scaler.money((*path, "bonus"), band.bonus),
            "rate": scaler.rate((*path, "rate"), band.rate),
        } | changed(more, _BAND_DEFAULTS)

    def gift_line(self) -> dict[str, int]:
        """The gifts; empty: there are none."""
        gifts, scaler = self._source.gifts or source.Gifts(), self._scaler
        first = self._bundles.get(gifts.first_purchase or "")
        if first is not None and first.worth:
            scaler.problem(
                ("gifts", "first_purchase"),
                f"`{first.name}` is goods, which a first purchase cannot bring: "
                "name a bundle without a `worth`, such as one with a coupon for them",
            )
        if gifts.first_purchase is None and gifts.first_purchase_min is not None:
            scaler.problem(
                ("gifts", "first_purchase_min"),
                "`first_purchase` is missing: add the name of the bundle that is given, or remove this",
            )
        line: dict[str, Any] = {
            "enrolment": self._bundle(("gifts", "enrolment"), gifts.enrolment),
            "first_purchase": self._bundle(("gifts", "first_purchase"), gifts.first_purchase),
            "first_purchase_min": scaler.money(
                ("gifts", "first_purchase_min"), gifts.first_purchase_min or Decimal(0)
            ),
        }
        return changed(line, _GIFT_DEFAULTS)

    def _bundle(self, path: KeyPath, name: str | None) -> int:
        """Id of the bundle with a name; 0 for none."""
        if name is None:
            return 0
        if name in self._bundles:
            return self._bundles[name].id
        self._scaler.unknown(path, "bundle", name, self._bundles, "bundles")
        return 0
