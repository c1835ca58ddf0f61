"""The pictures of the bench, each with its figures in a CSV file beside it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = Sequence[Mapping[str, float]]

SIZE_INCHES = (7.2, 4.4)
DOTS_PER_INCH = 110
BLUE, ORANGE, GREY = "#1f5fa8", "#d9782d", "#8a8a8a"


def save_figures(path: Path, curve: Curve) -> None:
    """The figures of a picture, a line for each of its points."""
    if not curve:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(curve[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)


def cards(path: Path, curve: Curve) -> None:
    """Throughput of W1 against the number of cards, and memory a card."""
    figure, axes = _axes("W1: durable swipes against cards", "cards", "million swipes/s")
    count = [one["cards"] for one in curve]
    rate, least, most = (
        [one[name] / 1e6 for one in curve]
        for name in ("swipes_per_s", "swipes_per_s_min", "swipes_per_s_max")
    )
    axes.set_xscale("log")
    axes.plot(count, rate, "o-", color=BLUE, label="swipes/s, median")
    axes.fill_between(count, least, most, color=BLUE, alpha=0.15, label="least to most")
    axes.set_ylim(bottom=0)
    beside = axes.twinx()
    memory = [one["memory_bytes_per_card"] for one in curve]
    beside.plot(count, memory, "s--", color=ORANGE, label="memory a card")
    beside.set_ylabel("bytes of memory a card")
    beside.set_ylim(0, 1.5 * max(memory))
    handles = [*axes.get_legend_handles_labels()[0], *beside.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, frameon=False, loc="lower left")
    _save(figure, path)


def latency(path: Path, curve: Curve) -> None:
    """Latency percentiles of W2 against the load."""
    figure, axes = _axes(
        "W2: latency against load", "thousand calls/s, open loop", "ms from the intended time"
    )
    load = [one["calls_per_s"] / 1e3 for one in curve]
    for name, label, colour in (
        ("p50_ms", "p50", GREY),
        ("p99_ms", "p99", BLUE),
        ("p999_ms", "p99.9", ORANGE),
    ):
        axes.plot(load, [one[name] for one in curve], "o-", color=colour, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="upper left")
    _save(figure, path)


def growth(path: Path, curve: Curve) -> None:
    """Seconds of a day's compounding against the number of purses."""
    if not curve:
        return
    figure, axes = _axes("W4: a day's compounding", "points purses", "seconds until it is durable")
    axes.plot([one["purses"] for one in curve], [one["seconds"] for one in curve], "o-", color=BLUE)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    _save(figure, path)


def _axes(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(True, which="both", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the date and the program's version, so that the same figures give the same file.
    figure.savefig(path, metadata={"Software": None})
