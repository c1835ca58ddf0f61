"""A what-if as tables in the terminal: what happened, what was tried, and the difference."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from onecard import codes
from onecard.rules import Rules
from onecard.what_if.outcome import Figure, StoreNet, WhatIf

TOP = 5
"""Stores that are told, of those that gain and of those that lose most."""
CHANGED = 10
"""Transactions that are told one by one."""
WIDTH = 100
"""Columns that the tables need."""
_POINTS_SCALE = 4


@dataclass(frozen=True, slots=True)
class Units:
    """What money and points are called, and how many places money has."""

    money: str
    scale: int
    points: str

    @classmethod
    def of(cls, rules: Rules) -> "Units":
        """Those of a rule file."""
        money = rules.tables["money"]
        return cls(money["name"], money["scale"], rules.tables["points"]["name"])

    def text(self, value: int, unit: str) -> str:
        """A number of smallest units, exactly; points without zeros at their end."""
        if unit == "count":
            return f"{value:,}"
        if unit == "money":
            return decimal(value, self.scale)
        return decimal(value, _POINTS_SCALE).rstrip("0").rstrip(".")

    def name(self, unit: str) -> str:
        """What is counted."""
        return {"money": self.money, "points": self.points}.get(unit, "")


def decimal(value: int, scale: int) -> str:
    """Smallest units with so many places, exactly."""
    whole, rest = divmod(abs(value), 10**scale)
    return f"{'-' if value < 0 else ''}{whole:,}" + (f".{rest:0{scale}}" if scale else "")


def signed(text: str) -> str:
    """A difference with its sign; nothing if there is none."""
    return "" if text.strip("0.,") == "" else text if text.startswith("-") else f"+{text}"


def show(console: Console, outcome: WhatIf, units: Units) -> None:
    """Print all of it."""
    console.width = max(console.width, WIDTH)
    console.print(_figures(outcome, units))
    if outcome.costs:
        console.print(_costs(outcome, units))
    if any(row.tier for row in outcome.tiers):
        console.print(_tiers(outcome))
    if moved := [store for store in outcome.stores if store.tried != store.actual]:
        console.print(_stores(moved, units))
    if outcome.changes:
        console.print(_changes(outcome, units))
        console.print(_changed(outcome, units))
    console.print(
        f"{outcome.transactions:,} transactions and {len(outcome.days):,} closes executed in "
        f"{outcome.seconds:.2f} s; {outcome.differing:,} came to something else"
    )


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table


def _figures(outcome: WhatIf, units: Units) -> Table:
    table = _table(f"{outcome.first} to {outcome.last}", "", "", "as it was", "tried", "difference", left=2)
    for figure in outcome.figures:
        table.add_row(figure.name, units.name(figure.unit), *_three(figure, units))
    return table


def _three(figure: Figure, units: Units) -> tuple[str, str, str]:
    values = (figure.actual, figure.tried, figure.tried - figure.actual)
    actual, tried, difference = (units.text(value, figure.unit) for value in values)
    return actual, tried, signed(difference)


def _costs(outcome: WhatIf, units: Units) -> Table:
    columns = ("rule", "", "sales as it was", "tried", "gave as it was", "tried")
    table = _table("Cost by rule", *columns, left=2)
    for cost in outcome.costs:
        unit = cost.unit
        name = f"{cost.kind} {cost.id}, {cost.name}" if cost.id else f"{cost.kind}s, {cost.name}"
        gave = (units.text(cost.actual, unit), units.text(cost.tried, unit))
        table.add_row(name, units.name(unit), f"{cost.actual_sales:,}", f"{cost.tried_sales:,}", *gave)
    return table


def _tiers(outcome: WhatIf) -> Table:
    table = _table("Cards by tier at the end", "tier", "as it was", "tried", "difference")
    for row in outcome.tiers:
        difference = signed(f"{row.tried - row.actual:,}")
        table.add_row(str(row.tier or "none"), f"{row.actual:,}", f"{row.tried:,}", difference)
    return table


def _stores(moved: list[StoreNet], units: Units) -> Table:
    order = sorted(moved, key=lambda store: (store.actual - store.tried, store.store))
    told = order if len(order) <= 2 * TOP else [*order[:TOP], *order[-TOP:]]
    title = f"What stores are owed: {len(moved):,} of them otherwise"
    title += "" if len(told) == len(order) else f", the {TOP} that fare best and the {TOP} that fare worst"
    table = _table(title, "store", "as it was", "tried", "difference")
    for store in told:
        three = _three(Figure("", "money", store.actual, store.tried), units)
        table.add_row(str(store.store), *three)
    return table


def _kind(number: int) -> str:
    return codes.Kind(number).name.lower().replace("_", " ")


def _code(number: int) -> str:
    return f"{number:02} {codes.text(number)}"


def _changes(outcome: WhatIf, units: Units) -> Table:
    table = _table("Answered with another code", "", "as it was", "tried", "how many", "amount asked", left=3)
    for change in outcome.changes:
        row = (_kind(change.kind), _code(change.actual), _code(change.tried), f"{change.count:,}")
        table.add_row(*row, units.text(change.amount, "points" if _kind(change.kind) == "fund" else "money"))
    return table


def _changed(outcome: WhatIf, units: Units) -> Table:
    told = outcome.changed[:CHANGED]
    columns = ("sequence", "date", "", "card", "store", "codes", "amount asked")
    table = _table(f"The first {len(told)} of them", *columns, left=6)
    for one in told:
        where = (str(one.sequence), str(one.date), _kind(one.kind), one.card, str(one.store))
        table.add_row(*where, f"{one.actual:02} to {one.tried:02}", units.text(one.amount, "money"))
    return table
