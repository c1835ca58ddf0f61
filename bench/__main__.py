"""`python -m bench [ID] [--json]`: the workloads of the project, measured, beside their peers and limits.

Without an ID, W1 to W8 one after the other, and one table at the end. Run it on a quiet machine, with a
release build. Exit code 1 if a workload could not run or posted something else than it should have.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from bench import (
    behind,
    curve,
    dry_run,
    keys,
    lone,
    machine,
    python_rules,
    table,
    w1,
    w1_card,
    w1_demo,
    w1_rules,
    w2,
    w3,
    w4,
    w5,
    w6,
    w7,
    w8,
)
from bench.chain import BenchError
from bench.options import Options
from bench.swipes import Draw, Keys
from onecard import _core

WORKLOADS: dict[str, Callable[[Options], dict[str, object]]] = {
    "W1": w1.run,
    "W1-card": w1_card.run,
    "W1-demo": w1_demo.run,
    "W1-rules": w1_rules.run,
    "python-rules": python_rules.run,
    "dry-run": dry_run.run,
    "W2": w2.run,
    "W3": w3.run,
    "W4": w4.run,
    "W5": w5.run,
    "W6": w6.run,
    "W7": w7.run,
    "W8": w8.run,
    "W2-behind": behind.run,
    "curve": curve.run,
    "lone": lone.run,
    "keys": keys.run,
}
# What runs without an ID.
ALL = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8")
DEFAULTS = Options()

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _workload(name: str) -> str:
    known = {known.lower(): known for known in WORKLOADS}
    if name and name.lower() not in known:
        raise typer.BadParameter(f"{name}: there are {', '.join(WORKLOADS)}")
    return known.get(name.lower(), "")


def _one_of(*values: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in values:
            raise typer.BadParameter(f"{value}: take one of {', '.join(values)}")
        return value

    return check


@app.command()
def main(
    workload: Annotated[
        str, typer.Argument(metavar="[ID]", callback=_workload, help=f"{', '.join(WORKLOADS)}.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a workload.")] = False,
    cards: Annotated[int | None, typer.Option(min=1, help="Cards; else as the workload says.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of a run; of W2-behind a third, of W2, W3 a sixth.")
    ] = DEFAULTS.seconds,
    runs: Annotated[int, typer.Option(min=1, help="Runs; of W4 and W6: days.")] = DEFAULTS.runs,
    in_flight: Annotated[int, typer.Option(min=1, help="Calls in flight of W2.")] = DEFAULTS.in_flight,
    draw: Annotated[
        str, typer.Option(callback=_one_of("uniform", "zipf"), help="How W1 draws cards: uniform or zipf.")
    ] = DEFAULTS.draw,
    key_kind: Annotated[
        str, typer.Option("--keys", callback=_one_of("traces", "ids", "half"), help="Keys of W1's swipes.")
    ] = DEFAULTS.keys,
    entries: Annotated[int, typer.Option(min=1, help="Journal entries of W6's day.")] = DEFAULTS.entries,
    ids: Annotated[int, typer.Option(min=1, help="Ids that `keys` posts.")] = DEFAULTS.ids,
    largest: Annotated[
        int, typer.Option(min=1, help="Most cards of W4 and curve, where memory and disk allow them.")
    ] = DEFAULTS.largest,
    peers: Annotated[bool, typer.Option(help="Run W1's peers in the same run.")] = DEFAULTS.peers,
    checkpoint_entries: Annotated[
        int, typer.Option(min=1, help="A checkpoint pass begins every so many entries.")
    ] = DEFAULTS.checkpoint_entries,
    results: Annotated[
        Path, typer.Option(file_okay=False, help="Where pictures and their figures are put.")
    ] = DEFAULTS.results,
) -> None:
    """Measure workloads."""
    if _core.DEBUG_BUILD:
        raise typer.BadParameter("the core is a debug build: build it with `make bench`")
    errors = Console(stderr=True, highlight=False)
    found: list[dict[str, object]] = []
    failed = False
    with errors.status("") as status:
        options = Options(
            cards=cards,
            seconds=seconds,
            runs=runs,
            in_flight=in_flight,
            draw=cast(Draw, draw),
            keys=cast(Keys, key_kind),
            entries=entries,
            ids=ids,
            largest=largest,
            peers=peers,
            results=results,
            checkpoint_entries=checkpoint_entries,
            tell=status.update,
        )
        for name in [workload] if workload else ALL:
            stolen = machine.Stolen()
            try:
                one = WORKLOADS[name](options)
            except BenchError as error:
                errors.print(f"{name}: {error}", style="red", markup=False)
                failed = True
                continue
            found.append(one | {"machine": machine.describe(), "stolen_time": stolen.share()})
            for problem in cast(list[str], one.get("problems", [])):
                errors.print(f"{name}: {problem}", style="red", markup=False)
                failed = True
            if as_json:
                print(json.dumps(found[-1]), flush=True)
    if found and not as_json:
        out = Console()
        out.width = max(out.width, table.WIDTH)
        out.print(table.table(found, machine.describe()))
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m bench")
