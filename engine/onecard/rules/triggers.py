"""Triggers: what of a rule file they say, and what is wrong with it.

They are no part of the tables: no transaction is priced by them. `onecard.triggers` reads them from the text
of the version in force and does what they say, after the commit.
"""

import dataclasses
from decimal import Decimal
from typing import Literal, TypeAlias

from onecard.rules.located import KeyPath
from onecard.rules.scaling import Scaler
from onecard.rules.source import RuleFile
from onecard.rules.source import Trigger as Written
from onecard.rules.wording import EXAMPLES

TIMES_MAX = 100
BIRTHDAY_DAYS_MAX = 365
TIMES_SCALE = 100
"""What `times` is over: two places."""

On: TypeAlias = Literal["first-purchase", "purchase", "no-purchase", "cadence", "birthday"]

_KEYS_OF = {
    "nth": ("purchase",),
    "days": ("no-purchase", "birthday"),
    "times": ("cadence",),
    "purchase_days": ("cadence",),
    "stores": ("first-purchase", "purchase"),
}
"""Which triggers have a key; all have those that are not here."""

_NEEDED = {
    "purchase": ("nth", "nth = 10, which purchase of a card it is for"),
    "no-purchase": ("days", "days = 60, how long a card bought nothing"),
    "cadence": ("times", 'times = "1.5", of the mean number of days between purchases'),
}
"""What a trigger must say, and what that looks like."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, with names resolved and numbers whole."""

    id: int
    name: str
    on: On
    bundle: int = 0
    """What is granted; 0: a tier."""
    tier: int = 0
    """What the card has at least afterwards; 0: a bundle is granted."""
    nth: int = 0
    """Of purchases: which of a card, 1 for the first."""
    days: int = 0
    """Without a purchase; before a birthday."""
    times: int = 0
    """Of the mean interval, over 100."""
    purchase_days: int = 0
    """Fewest days with a purchase."""
    products: frozenset[int] = frozenset()
    """Empty: all."""
    stores: frozenset[int] = frozenset()
    """Empty: all."""


def triggers_of(source: RuleFile) -> tuple[Trigger, ...]:
    """The triggers of a rule file that is good, by their numbers."""
    bundles = {bundle.name: bundle.id for bundle in source.bundles}
    tiers = {tier.name: tier.id for tier in source.tiers}
    return tuple(
        Trigger(
            id=one.id,
            name=one.name,
            on=one.on,
            bundle=0 if one.bundle is None else bundles[one.bundle],
            tier=0 if one.tier is None else tiers[one.tier],
            nth=1 if one.on == "first-purchase" else one.nth,
            days=one.days,
            times=int((one.times or Decimal(0)) * TIMES_SCALE),
            purchase_days=one.purchase_days if one.on == "cadence" else 0,
            products=frozenset(product.id for product in source.products if product.name in one.products),
            stores=frozenset(one.stores),
        )
        for one in sorted(source.triggers, key=lambda one: one.id)
    )


class Triggers:
    """Checks the triggers of a rule file."""

    def __init__(self, scaler: Scaler, source: RuleFile) -> None:
        self._scaler = scaler
        self._source = source
        self._products = {product.name for product in source.products}
        self._bundles = {bundle.name: bundle for bundle in source.bundles}
        self._tiers = {tier.name for tier in source.tiers}

    def check(self) -> None:
        """Names what is wrong."""
        triggers = self._source.triggers
        self._scaler.unique("triggers", "trigger", (one.id for one in triggers))
        self._scaler.unique("triggers", "trigger", (one.name for one in triggers), "name")
        for at, one in enumerate(triggers):
            self._trigger(("triggers", at), one)

    def _trigger(self, path: KeyPath, one: Written) -> None:
        scaler = self._scaler
        scaler.name((*path, "name"), one.name)
        for key, kinds in _KEYS_OF.items():
            if key in one.model_fields_set and one.on not in kinds:
                scaler.problem(
                    (*path, key),
                    f"`{key}` belongs to {_listed(kinds)}: remove it from on = {one.on!r}",
                )
        key, example = _NEEDED.get(one.on, ("on", ""))
        if key not in one.model_fields_set:
            scaler.problem(path, f"`{key}` is missing: add {example}")
        if one.on == "no-purchase" and "days" in one.model_fields_set and one.days == 0:
            scaler.problem((*path, "days"), "after 0 days nothing is missed yet: use 1 or more")
        if one.on == "birthday" and one.days > BIRTHDAY_DAYS_MAX:
            scaler.problem(
                (*path, "days"), f"a birthday comes every year: at most {BIRTHDAY_DAYS_MAX} days before"
            )
        if one.times is not None:
            if not 0 < one.times <= TIMES_MAX:
                scaler.problem((*path, "times"), f"`times` is {one.times}: more than 0, at most {TIMES_MAX}")
            scaler.whole((*path, "times"), one.times, 2, "`times`")
        for number, name in enumerate(one.products):
            if name not in self._products:
                scaler.unknown((*path, "products", number), "product", name, self._products, "products")
        scaler.numbers((*path, "stores"), one.stores, "store")
        self._granted(path, one)

    def _granted(self, path: KeyPath, one: Written) -> None:
        """A bundle or a tier."""
        if one.bundle is None and one.tier is None:
            self._scaler.problem(
                path, f"`bundle` or `tier` is missing: add {EXAMPLES['bundle']}, or {EXAMPLES['tier']}"
            )
        elif one.bundle is not None and one.tier is not None:
            self._scaler.problem(
                (*path, "tier"), "a trigger grants a `bundle` or a `tier`, not both: remove one"
            )
        if one.bundle is not None:
            self._bundle((*path, "bundle"), one.bundle)
        if one.tier is not None and one.tier not in self._tiers:
            self._scaler.unknown((*path, "tier"), "tier", one.tier, sorted(self._tiers), "tiers")

    def _bundle(self, path: KeyPath, name: str) -> None:
        bundle = self._bundles.get(name)
        if bundle is None:
            self._scaler.unknown(path, "bundle", name, self._bundles, "bundles")
        elif bundle.price:
            self._scaler.problem(
                path,
                f"`{name}` is sold for {bundle.price}, and a trigger sells nothing: name one without a price",
            )


def _listed(kinds: tuple[str, ...]) -> str:
    return "on = " + " and ".join(repr(kind) for kind in kinds)
