"""One picture of the year: money, points, tiers, who owes whom, and what the rules gave."""

from pathlib import Path

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from onecard.demo.books import Figures
from onecard.demo.drive import Outcome
from onecard.demo.report import costs_by_rule, day, dollars, tier_names, total
from onecard.drawing import INK, PAPER, QUIET, heading, quiet

SALES, TOP_UPS, POINTS, GROWN, OWED, OWES = "#2a6f97", "#e09f3e", "#8fb996", "#386641", "#2a6f97", "#bc4749"
TIERS = ("#2a6f97", "#e09f3e", "#b9c3cc")
NAMED = 4
WEEK = 7


def draw(outcome: Outcome, path: Path) -> None:
    """Write the picture as PNG."""
    days = outcome.books.days
    layout = ConstrainedLayoutEngine(h_pad=0.14, w_pad=0.12)
    figure = Drawing(figsize=(12, 21), facecolor=PAPER, layout=layout)
    grid = figure.add_gridspec(6, 1, height_ratios=(3, 3, 1.4, 1.8, 4.2, 4.4))
    top = figure.add_subplot(grid[0])
    middle, thin, tiers, bottom = (figure.add_subplot(grid[row], sharex=top) for row in range(1, 5))
    rules = figure.add_subplot(grid[5])
    _title(figure, outcome)
    _money(top, days)
    _circulation(middle, days)
    _flow(thin, days)
    _tiers(tiers, outcome)
    _stores(bottom, outcome)
    _rules(rules, outcome)
    for axes in (top, middle, thin, tiers, bottom, rules):
        quiet(axes)
    for axes in (top, middle, thin, tiers):
        axes.tick_params(labelbottom=False)
    rules.grid(visible=False, axis="y")
    first, last = day(days[0].date), day(days[-1].date)
    bottom.set_xlim(mdates.date2num(first), mdates.date2num(last) + 1 + 0.12 * len(days))
    ticks = [figures.date for figures in days if len(days) <= 10 or day(figures.date).day == 1]
    bottom.set_xticks(
        [mdates.date2num(day(tick)) for tick in ticks], [f"{day(tick).day} {day(tick):%b}" for tick in ticks]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _title(figure: Drawing, outcome: Outcome) -> None:
    days = outcome.books.days
    first, last = day(days[0].date), day(days[-1].date)
    proof = "conserved to the last unit" if not outcome.problems else "NOT CONSERVED"
    title = figure.suptitle("A grocery chain on one card\n", x=0.055, ha="left", fontsize=20, color=INK)
    title.set_fontweight("bold")
    figure.text(
        0.055,
        0.976,
        f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y}: {total(days, 'purchases'):,} purchases, "
        f"{days[-1].cards:,} cards, {outcome.replay.stores - 1:,} stores, {len(days):,} closes, {proof}",
        fontsize=11,
        color=QUIET if not outcome.problems else OWES,
        va="top",
    )


def _money(axes: Axes, days: list[Figures]) -> None:
    """Sales as bars, top-ups as a line, by whole weeks from the first day."""
    weeks = [days[first : first + WEEK] for first in range(0, len(days) - WEEK + 1, WEEK)] or [days]
    middle = [mdates.date2num(day(week[0].date)) + len(week) / 2 for week in weeks]
    sales = np.array([total(week, "sales") for week in weeks]) / 100
    top_ups = np.array([total(week, "topped_up") for week in weeks]) / 100
    axes.bar(middle, sales, width=0.82 * len(weeks[0]), color=SALES, alpha=0.85, label="sales")
    axes.plot(middle, top_ups, color=TOP_UPS, linewidth=2.4, marker="o", markersize=3.5, label="top-ups")
    heading(
        axes,
        "Money a week",
        f"sales {_short(total(days, 'sales'))}, top-ups {_short(total(days, 'topped_up'))}",
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value / 1000:,.0f}k" if value else "0"))
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.2), frameon=False, labelcolor=INK, ncols=2)


def _circulation(axes: Axes, days: list[Figures]) -> None:
    """Points on all cards after each close, and below them what growth has added so far."""
    x = _x(days)
    outstanding = np.array([figures.outstanding for figures in days]) / 10_000
    grown = np.cumsum([figures.grown for figures in days]) / 10_000
    axes.fill_between(x, outstanding, color=POINTS, alpha=0.55, linewidth=0)
    axes.plot(x, outstanding, color=GROWN, linewidth=1.2)
    axes.fill_between(x, grown, color=GROWN, alpha=0.9, linewidth=0)
    axes.annotate(
        f" {grown[-1]:,.0f}\n granted by growth", (x[-1], grown[-1]), color=GROWN, va="center", fontsize=9
    )
    axes.annotate(
        f" {outstanding[-1]:,.0f}\n in circulation",
        (x[-1], outstanding[-1]),
        color=GROWN,
        va="center",
        fontsize=9,
    )
    heading(
        axes,
        "Points in circulation",
        "after each day's close; they fall when households spend them, at weekends",
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k" if value else "0"))
    axes.set_ylim(bottom=0)


def _flow(axes: Axes, days: list[Figures]) -> None:
    """Points earned upwards, spent downwards, by day."""
    x = _x(days)
    earned = np.array([figures.earned for figures in days]) / 10_000
    spent = -np.array([figures.spent for figures in days]) / 10_000
    axes.bar(x, earned, width=1, color=POINTS, linewidth=0)
    axes.bar(x, spent, width=1, color=OWES, alpha=0.75, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    heading(axes, "Points a day", "earned above, spent below")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k" if value else "0"))


def _tiers(axes: Axes, outcome: Outcome) -> None:
    """Cards with a tier after each close, the highest at the bottom."""
    days = outcome.books.days
    names = [(tier, name) for tier, name in reversed(tier_names(outcome).items()) if tier]
    x = _x(days)
    counts = [[figures.tiers[tier] for figures in days] for tier, _ in names]
    if counts:
        colours = [TIERS[at % len(TIERS)] for at in range(len(names))]
        axes.stackplot(x, counts, colors=colours, labels=[name for _, name in names], linewidth=0)
        axes.legend(
            loc="upper right", bbox_to_anchor=(1, 1.4), frameon=False, labelcolor=INK, ncols=len(names)
        )
    heading(axes, "Cards with a tier", "reached at once, reviewed at the end of the month after 90 days")
    axes.set_ylim(bottom=0)


def _rules(axes: Axes, outcome: Outcome) -> None:
    """What every rule gave, in money; a point is worth what it pays."""
    listed = costs_by_rule(outcome)
    price = next((step["price"] for step in outcome.rules.tables["waterfall"] if step["pay"] == "points"), 0)
    at = list(range(len(listed)))
    worth = [
        costs.given / 100 if table == "discounts" else costs.given * price / 10**12 / 100
        for table, _, costs in listed
    ]
    colours = [OWES if table == "discounts" else POINTS for table, _, _ in listed]
    axes.barh(at, worth, color=colours, height=0.7)
    axes.set_yticks(at, [name for _, name, _ in listed])
    axes.invert_yaxis()
    for row, (value, (_, _, costs)) in enumerate(zip(worth, listed, strict=True)):
        note = f" ${value:,.0f} in {costs.purchases:,} purchases"
        axes.text(value, row, note, va="center", fontsize=9, color=QUIET, parse_math=False)
    axes.set_xlim(0, 1.3 * max(worth, default=1))
    heading(
        axes,
        "What the rules gave",
        "discounts red; points beyond those of the product green, at what a point pays",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value:,.0f}"))


def _stores(axes: Axes, outcome: Outcome) -> None:
    """What every store is owed after each close, the farthest ones by name."""
    x = _x(outcome.books.days)
    due = outcome.books.due
    order = sorted(due, key=lambda store: (due[store], store))
    colours = dict.fromkeys(order[:NAMED], OWES) | dict.fromkeys(order[-NAMED:], OWED)
    for store in order:
        line = np.array([dues.get(store, 0) for dues in outcome.books.due_by_day]) / 100
        named = store in colours
        axes.plot(
            x,
            line,
            color=colours.get(store, QUIET),
            linewidth=1.8 if named else 0.5,
            alpha=1 if named else 0.35,
            zorder=3 if named else 2,
        )
    low, high = axes.get_ylim()
    for stores, upwards in ((order[:NAMED], True), (list(reversed(order[-NAMED:])), False)):
        _labels(axes, x[-1], [(store, due[store]) for store in stores], (high - low) * 0.042, upwards)
    axes.axhline(0, color=INK, linewidth=0.6)
    heading(
        axes,
        "Position of every store",
        "sold against cards minus taken in for cards, all closed days; above zero it is owed, below it owes",
    )
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{'-' if value < 0 else ''}${abs(value):,.0f}")
    )


def _labels(axes: Axes, x: float, stores: list[tuple[int, int]], step: float, upwards: bool) -> None:
    """Names at the ends of lines, from the outermost inwards, pushed apart by at least `step`."""
    at: float | None = None
    for store, cents in stores:
        want = cents / 100
        if at is not None:
            want = max(want, at + step) if upwards else min(want, at - step)
        at = want
        axes.text(
            x + 2,
            at,
            f"{store}  {dollars(cents)}",
            color=OWES if cents < 0 else OWED,
            va="center",
            fontsize=9,
        )


def _x(days: list[Figures]) -> list[float]:
    return [float(mdates.date2num(day(figures.date))) + 1 for figures in days]


def _short(cents: int) -> str:
    return f"${cents / 100_000_000:,.2f}M" if cents >= 100_000_000 else dollars(cents)
