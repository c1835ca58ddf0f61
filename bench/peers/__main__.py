"""`python -m bench.peers [--cards N] [--seconds S]`: the peers alone, in one table."""

import signal
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.chain import BenchError
from bench.peers import NAMES, run

app = typer.Typer(add_completion=False)


@app.command()
def main(
    cards: Annotated[int, typer.Option(help="Cards.")] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="Length of each run.")] = 10.0,
    runs: Annotated[int, typer.Option(help="Runs of each peer.")] = 3,
    only: Annotated[str, typer.Option(help=f"Some of them, by comma: {', '.join(NAMES)}.")] = "",
) -> None:
    """Measure the peers."""
    # Being told to end is no reason to leave servers and directories behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    told = Console(stderr=True)
    chosen = only.split(",") if only else None
    if chosen and (unknown := [name for name in chosen if name not in NAMES]):
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(NAMES)}")
    try:
        found = run(cards, seconds, runs, lambda words: told.print(words, style="dim"), chosen)
    except BenchError as error:
        told.print(str(error), style="red")
        raise typer.Exit(1) from None
    table = Table("peer", "swipes/s", "min", "max", "p50 ms", "p99 ms", title=f"{cards:,} cards")
    for peer in found:
        figures = [peer.swipes_per_s, peer.swipes_per_s_min, peer.swipes_per_s_max]
        rates = [f"{figure:,.0f}" for figure in figures] if not peer.absent else ["-"] * 3
        waits = ["-" if wait is None else f"{wait:.2f}" for wait in (peer.p50_ms, peer.p99_ms)]
        table.add_row(peer.name, *rates, *waits)
    console = Console()
    console.print(table)
    for peer in found:
        console.print(f"{peer.name}: {peer.absent or peer.setting}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app(prog_name="python -m bench.peers")
