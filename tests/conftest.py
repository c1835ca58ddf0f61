"""Fixtures: an engine in this process, one that is served in another, a small chain in either.

`engine` and `served` are empty; `chain` and `served_chain` have programme 1 with its first business
date `DAY`, merchant 1 with stores 1 and 2, terminals 11 and 12 in store 1 and 21 in store 2, and `RULES`.
"""

import datetime
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from onecard import Client, Engine, Rules

DAY = datetime.date(2026, 3, 2)

RULES = """\
[units]
money = { name = "CNY", scale = 2 }
points = { name = "POINTS", scale = 4 }

[[products]]
id = 1
name = "standard"
discount = "5%"
points_per_money = "1"
purchase_max = "5000.00"
top_up_max = "10000.00"
balance_max = "50000.00"

[[top_up_bonus]]
from = "500.00"
bonus = "50.00"

[[waterfall]]
pay = "points"
share = "30%"
price = "0.01"
min_points = "100"
[[waterfall]]
pay = "bonus"
[[waterfall]]
pay = "principal"

[compounding]
daily_rate = "0.01%"
funding = "growth"
"""

# A busy machine is slow; that is no failure.
settings.register_profile("onecard", deadline=None)
settings.load_profile("onecard")

START_S = 60
STOP_S = 60


@dataclass(frozen=True)
class Served:
    """`onecard serve` in a process of its own."""

    target: str
    process: subprocess.Popen[str]
    directory: Path

    def stop(self) -> int:
        """Ask it to stop, as a supervisor does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait(STOP_S)


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers: `serve(directory, *options)`; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(directory: Path, *options: str) -> Served:
        command = [
            sys.executable,
            "-m",
            "onecard",
            "serve",
            str(directory),
            "--listen",
            "127.0.0.1:0",
            *options,
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), (
            f"the server did not start (exit code {process.wait(STOP_S)})"
        )
        served = Served(line.removeprefix("listening on ").strip(), process, directory)
        with Client(served.target) as client:
            assert client.ready(START_S)
        return served

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait(STOP_S)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    """An empty engine, served on a free port; at the end it must stop in good order."""
    return serve(tmp_path / "data")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty engine in this process."""
    with Engine(tmp_path / "data") as opened:
        yield opened


def found_chain(of: Engine | Client, rules: Rules) -> None:
    """Register the small chain and publish its rules; all of it must be approved."""
    answers = [
        of.register_programme(1, "alliance", DAY),
        of.register_merchant(1, "grocer"),
        of.register_store(1, 1, "north"),
        of.register_store(2, 1, "south"),
        of.register_terminal(11, 1),
        of.register_terminal(12, 1),
        of.register_terminal(21, 2),
        of.publish(rules, version=1),
    ]
    assert answers == [0] * len(answers)


@pytest.fixture
def chain(engine: Engine) -> Engine:
    """The small chain in this process."""
    found_chain(engine, Rules.parse(RULES))
    return engine


@pytest.fixture
def served_chain(served: Served) -> Iterator[Client]:
    """A client of the small chain, served; terminal 11 and the first business date are its own."""
    with Client(served.target, terminal=11, business_date=DAY) as client:
        found_chain(client, Rules.parse(RULES))
        yield client
