"""Fees between merchants: how large, paid by whom, for which sales on cards of another merchant."""

from decimal import Decimal
from typing import Any

from onecard.rules.located import KeyPath
from onecard.rules.scaling import Scaler, changed
from onecard.rules.source import Fee, RuleFile
from onecard.rules.stacking import Stacking

_DEFAULTS: dict[str, Any] = {
    "of": "spend",
    "min": 0,
    "max": 0,
    "paid_by": "acceptor",
    "card_merchants": [],
    "when": {},
}
_UNSEEN = ("tiers", "categories", "birthday")
"""Conditions that a capture knows nothing of."""


class Fees:
    """Compiles fees."""

    def __init__(self, scaler: Scaler, source: RuleFile, stacking: Stacking) -> None:
        self._scaler = scaler
        self._fees = source.fees
        self._stacking = stacking

    def lines(self) -> list[dict[str, Any]]:
        """Table of the fees, by ascending id."""
        self._scaler.unique("fees", "fee", (fee.id for fee in self._fees))
        self._scaler.unique("fees", "fee", (fee.name for fee in self._fees), "name")
        lines = [self._line(("fees", at), fee) for at, fee in enumerate(self._fees)]
        return sorted(lines, key=lambda line: line["id"])

    def _line(self, path: KeyPath, fee: Fee) -> dict[str, Any]:
        scaler = self._scaler
        if fee.min is not None and fee.max is not None and fee.min > fee.max:
            scaler.problem((*path, "min"), f"`min` is {fee.min}, above `max`, {fee.max}: mend one of them")
        for name in _UNSEEN:
            if getattr(fee.when, name):
                scaler.problem((*path, "when", name), f"a fee does not look at `{name}`: remove it")
        fields = {
            "of": fee.of,
            "min": scaler.money((*path, "min"), fee.min or Decimal(0)),
            "max": scaler.limit((*path, "max"), fee.max),
            "paid_by": fee.paid_by,
            "card_merchants": scaler.numbers((*path, "card_merchants"), fee.card_merchants, "merchant"),
            "when": self._stacking.when((*path, "when"), fee.when),
        }
        return {
            "id": fee.id,
            "name": scaler.name((*path, "name"), fee.name),
            "rate": scaler.share((*path, "rate"), fee.rate, "a fee"),
        } | changed(fields, _DEFAULTS)
