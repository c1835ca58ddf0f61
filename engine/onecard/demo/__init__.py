"""The demo: a real year of a real grocery chain, every basket a swipe, every business day closed.

`run` is `onecard demo`; `run_year` is the same without the words, for benchmarks. What it shows, what was
decided about the data and by which rules the chain plays: docs/demo.md.
"""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from onecard.demo.data import DemoError
from onecard.demo.drive import Outcome, run_year
from onecard.demo.report import show
from onecard.rules import RulesError

__all__ = ["DemoError", "Outcome", "run", "run_year"]


def run(data_dir: Path | None, rules: Path | None, picture: Path, limit_days: int | None) -> int:
    """Replay the year, show what a head office wants to see, draw `picture` (PNG).

    `data_dir` (empty or not there yet) keeps the server's data, None throws them away; `rules` is a rule file
    to use instead of the demo's; `limit_days` stops after so many business days. Returns the exit code: 0 if
    every total agrees and nothing was lost, 1 otherwise.
    """
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        draw = _draw()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("business days", total=None)
            outcome = run_year(
                data_dir,
                rules,
                limit_days,
                on_start=lambda days: progress.update(task, total=days),
                on_day=lambda date: progress.advance(task),
            )
        show(console, outcome)
        draw(outcome, picture)
    except (DemoError, RulesError) as error:
        console.print(f"the demo cannot go on: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    console.print(f"The year in one picture: {picture}")
    return 1 if outcome.problems else 0


def _draw() -> Callable[[Outcome, Path], None]:
    """What draws the picture; asked for before the year, not after it. A benchmark needs no matplotlib."""
    try:
        from onecard.demo.picture import draw
    except ImportError as error:
        raise DemoError(f"the picture needs matplotlib: pip install 'onecard[demo]' ({error})") from error
    return draw
