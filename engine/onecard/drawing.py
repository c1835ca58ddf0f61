"""How pictures look here: colours, headings, quiet axes. Needs matplotlib."""

from matplotlib.axes import Axes

INK, QUIET, PAPER = "#22303c", "#7c8a97", "#fbfaf7"


def heading(axes: Axes, title: str, note: str) -> None:
    """A title above the axes, and below it what is to be seen."""
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=24)
    axes.annotate(
        note,
        (0, 1),
        (0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=10,
        color=QUIET,
        parse_math=False,
    )


def quiet(axes: Axes) -> None:
    """Axes that do not shout."""
    axes.set_facecolor(PAPER)
    axes.grid(axis="y", color="#dcdcd6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, length=0, labelsize=9)
    for side in axes.spines.values():
        side.set_visible(False)
