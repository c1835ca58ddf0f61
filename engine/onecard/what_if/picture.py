"""A what-if in one picture: what is on the cards, what rules cost, whose position moves."""

from pathlib import Path

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from onecard.drawing import INK, PAPER, QUIET, heading, quiet
from onecard.what_if.outcome import Day, RuleCost, WhatIf
from onecard.what_if.show import Units

ACTUAL, TRIED, LESS = "#7c8a97", "#2a6f97", "#bc4749"
RULES_MAX = 12
"""Rules of a kind whose cost is drawn: those that gave most."""
WEEK = 7
_PARTS = "mm;pp;gg;da;ss"


def draw(outcome: WhatIf, units: Units, path: Path) -> None:
    """Write the picture as PNG."""
    layout = ConstrainedLayoutEngine(h_pad=0.14, w_pad=0.12)
    figure = Drawing(figsize=(12, 16), facecolor=PAPER, layout=layout)
    parts = figure.subplot_mosaic(_PARTS, height_ratios=(3, 3, 2.4, 2.6, 2.4))
    _title(figure, outcome)
    _by_day(parts["m"], outcome.days, "principal", "bonus", "Money on cards", units)
    _by_day(parts["p"], outcome.days, "points", None, "Points on cards", units)
    _given(parts["g"], outcome.days, units)
    _costs(parts["d"], [cost for cost in outcome.costs if cost.unit == "money"], "money", units)
    _costs(parts["a"], [cost for cost in outcome.costs if cost.unit == "points"], "points", units)
    _stores(parts["s"], outcome, units)
    for axes in parts.values():
        quiet(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _title(figure: Drawing, outcome: WhatIf) -> None:
    title = figure.suptitle("What if\n", x=0.055, ha="left", fontsize=20, color=INK)
    title.set_fontweight("bold")
    first, last = outcome.first, outcome.last
    changed = sum(change.count for change in outcome.changes)
    figure.text(
        0.055,
        0.969,
        f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y} under other rules: {outcome.transactions:,} "
        f"transactions, {changed:,} answered with another code, {outcome.differing:,} otherwise in anything",
        fontsize=11,
        color=QUIET,
        va="top",
    )


def _scale(units: Units, unit: str) -> int:
    return int(10 ** (units.scale if unit == "money" else 4))


def _by_day(
    axes: Axes, days: tuple[Day, ...], name: str, other: str | None, title: str, units: Units
) -> None:
    """Two lines: as it was, and as it would have been."""
    unit = "points" if name == "points" else "money"
    dates = [float(mdates.date2num(day.date)) for day in days]
    for side, colour, label in (("actual", ACTUAL, "as it was"), ("tried", TRIED, "tried")):
        values = [
            getattr(day, f"{side}_{name}") + (getattr(day, f"{side}_{other}") if other else 0) for day in days
        ]
        axes.plot(
            dates, np.array(values, float) / _scale(units, unit), color=colour, linewidth=2, label=label
        )
    both = f"{units.name(unit)} as each day closed" + (f", {name} and {other}" if other else "")
    heading(axes, title, both)
    axes.set_ylim(bottom=0)
    axes.xaxis_date()
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.2), frameon=False, labelcolor=INK, ncols=2)


def _given(axes: Axes, days: tuple[Day, ...], units: Units) -> None:
    """What discounts take off, week by week."""
    weeks = [days[at : at + WEEK] for at in range(0, len(days), WEEK)]
    middle = [float(mdates.date2num(week[0].date)) + len(week) / 2 for week in weeks]
    for side, colour, shift in (("actual", ACTUAL, -1.5), ("tried", TRIED, 1.5)):
        sums = [sum(getattr(day, f"{side}_discounts") for day in week) for week in weeks]
        at = [one + shift for one in middle]
        axes.bar(at, np.array(sums, float) / _scale(units, "money"), width=2.8, color=colour)
    heading(axes, "Discounts a week", f"{units.money}: as it was, and tried")
    axes.xaxis_date()
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _costs(axes: Axes, costs: list[RuleCost], unit: str, units: Units) -> None:
    """What each discount, or each accrual, gave."""
    told = sorted(costs, key=lambda cost: max(cost.actual, cost.tried))[-RULES_MAX:]
    for place, cost in enumerate(told):
        for value, colour, shift in ((cost.actual, ACTUAL, 0.2), (cost.tried, TRIED, -0.2)):
            axes.barh(place + shift, value / _scale(units, unit), height=0.36, color=colour)
    axes.set_yticks(range(len(told)), [cost.name for cost in told])
    few = "" if len(told) == len(costs) else f", the {RULES_MAX} that gave most"
    heading(axes, "What discounts gave" if unit == "money" else "What accruals gave", units.name(unit) + few)
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


def _stores(axes: Axes, outcome: WhatIf, units: Units) -> None:
    """By how much the position of every store moves, in their order."""
    moved = sorted(store.tried - store.actual for store in outcome.stores if store.tried != store.actual)
    moves = np.array(moved, float) / _scale(units, "money")
    axes.bar(range(len(moves)), moves, width=1, color=[LESS if move < 0 else TRIED for move in moves])
    axes.axhline(0, color=INK, linewidth=0.6)
    heading(
        axes,
        "What stores are owed more, or less",
        f"{units.money}; {len(moved):,} of {len(outcome.stores):,} stores move, by {moves.sum():,.2f} in all",
    )
    axes.set_xticks([])
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _: int | None = None) -> str:
    size = abs(value)
    if size >= 10_000_000:
        return f"{value / 1_000_000:,.0f}M"
    if size >= 10_000:
        return f"{value / 1_000:,.0f}k"
    return f"{value:,.0f}" if size >= 10 or value == 0 else f"{value:.2g}"
