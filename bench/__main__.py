"""`python -m bench [ID] [--json]`: the workloads of the project, measured.

Run it on a quiet machine, with a release build. Without --json it prints a table.
"""

import json
import os
import platform
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import w1, w2, w7
from bench.chain import BenchError
from onecard import _core

app = typer.Typer(add_completion=False)


@app.command()
def main(
    workload: Annotated[str, typer.Argument(metavar="[W1|W2|W7]", help="Which; without it, all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a workload.")] = False,
    cards: Annotated[int, typer.Option(help="Cards of W1 and W2.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="Length of each run of W1; W2 takes a third.")] = 30.0,
    runs: Annotated[int, typer.Option(help="Runs of W1 and W2.")] = 3,
    in_flight: Annotated[int, typer.Option(help="Calls in flight of W2.")] = 128,
) -> None:
    """Measure workloads."""
    if _core.DEBUG_BUILD:
        raise typer.BadParameter("the core is a debug build: build it with `make bench`")
    known: dict[str, Callable[[], dict[str, object]]] = {
        "W1": lambda: w1.run(cards, seconds, runs),
        "W2": lambda: w2.run(cards, seconds / 3, runs, in_flight),
        "W7": w7.run,
    }
    if workload and workload.upper() not in known:
        raise typer.BadParameter(f"{workload}: there are {', '.join(known)}")
    console = Console()
    if not as_json:
        console.print(
            f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
        )
    for name in [workload.upper()] if workload else list(known):
        try:
            found = known[name]()
        except BenchError as error:
            Console(stderr=True).print(f"{name}: {error}", style="red")
            raise typer.Exit(1) from None
        if as_json:
            print(json.dumps(found), flush=True)
        else:
            _show(console, found)


def _show(console: Console, found: dict[str, object]) -> None:
    table = Table("figure", "value", title=str(found["id"]))
    for name, value in found.items():
        if name not in ("id", "ratios"):
            table.add_row(name, f"{value:,}" if isinstance(value, (int, float)) else str(value))
    ratios = found["ratios"]
    for name, value in ratios.items() if isinstance(ratios, dict) else ():
        table.add_row(f"ratio to {name}", str(value))
    console.print(table)


if __name__ == "__main__":
    app(prog_name="python -m bench")
