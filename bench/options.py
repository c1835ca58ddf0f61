"""What can be said of a measurement: sizes, lengths, places. Every workload takes what it needs of it."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.chain import BenchError, Tell
from bench.machine import filesystem
from bench.swipes import Draw, Keys
from onecard.engine import CHECKPOINT_ENTRIES

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Options:
    """Options of a measurement; None of a size: the size of the workload's definition."""

    cards: int | None = None
    seconds: float = 30.0
    runs: int = 3
    in_flight: int = 256
    draw: Draw = "uniform"
    keys: Keys = "half"
    entries: int = 10_000_000
    ids: int = 50_000_000
    largest: int = 100_000_000
    peers: bool = True
    results: Path = RESULTS
    checkpoint_entries: int = CHECKPOINT_ENTRIES
    tell: Tell = lambda _: None


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory for data that is gone afterwards; BenchError where nothing is durable."""
    with tempfile.TemporaryDirectory(prefix=f"onecard-{name}-") as directory:
        if filesystem(directory) in ("tmpfs", "ramfs"):
            raise BenchError(f"{directory} is in memory, where nothing is durable: set TMPDIR to a disk")
        yield Path(directory)


def cards_of(options: Options, default: int) -> int:
    """Cards of a workload."""
    return default if options.cards is None else options.cards
