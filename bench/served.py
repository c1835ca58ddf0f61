"""An engine that is served in a process of its own, and the native driver that calls it.

`serve` is `onecard serve`, as anyone runs it. `attended` serves the same front from this module run as a
program, which besides does what it is told on its standard input, so that passes of the checkpoint and
closes of the day can be run while the driver drives, and counted. `Driver` keeps the account of what was
answered: the journal must have grown by just that.
"""

import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench.chain import STORES, BenchError, expect
from onecard import Client, Engine

ROOT = Path(__file__).parent.parent
STOP_S = 120.0
# Of every drive, before it is measured.
WARM_UP_S = 1.0
# Between two looks at whether a growth is complete: each is a job of the writer, beside the measured load.
LOOK_S = 0.005
# Never by itself: passes are run when they are asked for.
NO_CHECKPOINTS = 1 << 60

Mode = Literal["unary", "stream", "empty"]


def driver_program() -> Path:
    """The driver, built if it is not."""
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--package", "onecard-driver"]
    subprocess.run([*command, "--bin", "onecard-driver"], check=True, cwd=ROOT, stdout=sys.stderr)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "onecard-driver"


class Driver:
    """Drives a server with swipes of a chain, each with its own key, and keeps account of the answers."""

    def __init__(self, target: str, cards: int, day: datetime.date) -> None:
        self.program = driver_program()
        self.target = target
        self.cards = cards
        self.day = day
        self.trace = 1
        self.posted = 0

    def drive(
        self, mode: Mode, seconds: float, in_flight: int, *, rate: float | None = None, batch: int = 1
    ) -> dict[str, Any]:
        """What the driver found; BenchError if a call failed, was refused, or was lost from sight."""
        command = [str(self.program), "--target", self.target, "--mode", mode, "--in-flight", str(in_flight)]
        command += ["--seconds", str(seconds), "--cards", str(self.cards), "--terminals", str(STORES)]
        command += ["--date", self.day.strftime("%Y%m%d"), "--first-trace", str(self.trace)]
        command += ["--warm-up", str(WARM_UP_S), "--seed", str(self.trace), "--batch", str(batch)]
        command += ["--rate", str(rate)] if rate else []
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        expect(found["errors"] == 0, f"calls failed: {found['error']}")
        if mode != "empty":
            told = found["posted"] + found["balances"]
            expect(
                told == found["calls"], f"{found['calls']} answers, but {told} entries and balance queries"
            )
            expect(found["refused"] == found["replayed"] == 0, f"refused, or posted before: {found['codes']}")
            self.trace = found["next_trace"]
            self.posted += found["posted"]
        return found

    def check(self, before: int, *, others: int = 0) -> None:
        """The journal had `before` entries; now it must have those that were answered, and these others."""
        with Client(self.target) as client:
            balance = client.trial_balance()
        grown = balance.entries - before
        expect(grown == self.posted + others, f"{grown} new entries for {self.posted} answers and {others}")
        expect(balance.money_sum == 0 and balance.points_sum == 0, "the books do not sum to zero")


@dataclass(frozen=True)
class Served:
    """A running `onecard serve`."""

    target: str
    pid: int

    def cpu_us(self) -> Counter[str]:
        """Microseconds of processor time that its threads have taken, by their names."""
        taken = Counter[str]()
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            # A thread may end while it is looked at; those that count live as long as the server.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                nanoseconds = int((thread / "schedstat").read_text().split()[0])
                taken[(thread / "comm").read_text().strip()] += nanoseconds // 1_000
        return taken


@contextlib.contextmanager
def serve(data: Path) -> Iterator[Served]:
    """`onecard serve` on a free port; it must stop in good order."""
    with _running([sys.executable, "-m", "onecard", "serve", str(data), "--listen", "127.0.0.1:0"]) as server:
        yield Served(_listening(server), server.pid)
        server.send_signal(signal.SIGTERM)


class Attended:
    """A server that does what it is told."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server
        self.target = _listening(server)

    def ask(self, order: str) -> dict[str, Any]:
        """Gives an order (see `_attend`) and waits for what came of it."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(order, file=self._server.stdin, flush=True)
        line = self._server.stdout.readline()
        expect(bool(line), f"the server ended at `{order}`")
        found: dict[str, Any] = json.loads(line)
        return found


@contextlib.contextmanager
def attended(data: Path) -> Iterator[Attended]:
    """A server on a free port that runs passes and closes days when it is asked to."""
    with _running([sys.executable, "-m", "bench.served", str(data)]) as server:
        yield Attended(server)
        assert server.stdin is not None
        server.stdin.close()


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield server
        expect(server.wait(STOP_S) == 0, "the server did not end well")
    finally:
        server.kill()
        server.wait()
        for end in (server.stdin, server.stdout):
            if end is not None:
                end.close()


def _listening(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.match(r"listening on (\S+)", line):
            return found[1]
    raise BenchError("the server did not start: see what it said above")


def _attend(engine: Engine) -> None:
    """Orders, one a line: `stats`, `passes on`, `passes off`, `close DATE`; each is answered with JSON."""
    wanted, over = threading.Event(), threading.Event()

    def passes() -> None:
        while not over.is_set():
            if wanted.wait(0.01):
                engine.checkpoint()

    thread = threading.Thread(target=passes)
    thread.start()
    for line in sys.stdin:
        match line.split():
            case ["stats"]:
                print(json.dumps(asdict(engine.stats())), flush=True)
            case ["passes", switch]:
                wanted.set() if switch == "on" else wanted.clear()
                print(json.dumps(asdict(engine.stats())), flush=True)
            case ["close", date]:
                start = time.perf_counter()
                report = engine.close_day(datetime.date.fromisoformat(date))
                funded = report.growth is not None and report.growth.funded
                while engine.trial_balance().growing:
                    time.sleep(LOOK_S)
                seconds = time.perf_counter() - start
                print(json.dumps({"code": report.code, "funded": funded, "seconds": seconds}), flush=True)
    over.set()
    thread.join()


def main(data: str) -> None:
    """Serves until standard input ends."""
    with Engine(data, checkpoint_entries=NO_CHECKPOINTS) as engine:
        server = engine.serve("127.0.0.1:0")
        print(f"listening on {server.address}", flush=True)
        _attend(engine)
        server.stop(STOP_S)


if __name__ == "__main__":
    main(sys.argv[1])
