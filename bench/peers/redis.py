"""Redis: one Lua script a swipe, 50 clients, one swipe at a time each, and 16 in a pipeline.

Setting: Debian's server on a Unix socket, the append-only file synced before every answer (appendfsync
always), never rewritten in the runs; no snapshots. redis-benchmark calls the script and gives the
latencies, of a call; in a pipeline that is the time of its 16 calls. What the script does is in
redis_swipe.lua.

redis-benchmark seeds its numbers with the time and its process id, so two runs may draw the very same ones.
Their swipes would be retries, answered from the journal; so the number of the run is part of every key.

What differs from the engine: redis-benchmark draws only numbers below 2^31, so the script makes kind,
amount and card number of them itself; of a trace 55 bits are drawn, of an id 117; keys are kept for ever; a
number is a double, exact below 2^53; no hash chain, no statement, no feed; the issuer's accounts and the
points pool are split over the stores.
"""

import csv
import io
import itertools
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.chain import BenchError, expect
from bench.peers.peer import Measured, Peer, Plan, call, directory, missing, repeat, server
from bench.peers.swipe import Numbers, check_books, file, numbers

CLIENTS = 50
ONE = Peer("Redis", f"Lua, appendfsync always, {CLIENTS} clients, one swipe at a time")
PIPELINE = Peer("Redis, pipelined", f"Lua, appendfsync always, {CLIENTS} clients, pipelines of 16")
PROGRAMS = ("redis-server", "redis-cli", "redis-benchmark")
INSTALL = "not installed: apt-get install redis-server redis-tools"
START_S = 60.0
REWRITE_S = 600.0
WARM_UP_S = 3.0
# Swipes a second that the length of the first run is reckoned with.
RATE_GUESS = 10_000.0
LOAD_STEP = 100_000
# Random numbers that a swipe is made of.
DRAWN = 8
# The number of a run is a byte of every key.
RUN_MAX = 255
SETTINGS = {
    "port": "0",
    "save": "",
    "appendonly": "no",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": "0",
    "maxmemory": "0",
    "daemonize": "no",
}


def one_at_a_time(plan: Plan) -> Peer:
    """Every client waits for each answer."""
    return _run(ONE, plan, 1)


def pipelined(plan: Plan) -> Peer:
    """Every client has 16 swipes under way."""
    return _run(PIPELINE, plan, 16)


def _run(peer: Peer, plan: Plan, pipeline: int) -> Peer:
    if missing(PROGRAMS):
        return replace(peer, absent=INSTALL)
    with database(peer, plan) as served:
        rate, asked, runs = RATE_GUESS, 0, itertools.count()

        def one(seconds: float) -> Measured:
            nonlocal rate, asked
            requests = max(CLIENTS * pipeline, round(rate * seconds))
            measured = served.benchmark(next(runs), requests, pipeline)
            rate, asked = measured.swipes_per_s, asked + requests
            return measured

        found = repeat(peer, plan, one, WARM_UP_S)
        served.check(asked)
        return found


@contextmanager
def database(peer: Peer, plan: Plan) -> Iterator["Database"]:
    """A server with the chain in it, which is in the append-only file, too."""
    with directory("redis") as home:
        plan.progress(f"{peer.name}: sets up {plan.cards:,} cards")
        settings = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
        command: list[Path | str] = [
            "redis-server",
            "--dir",
            home,
            "--unixsocket",
            home / "socket",
            *settings,
        ]
        # Nothing in it is kept: no tidy end.
        with server(command, home / "log", stop=signal.SIGKILL) as process:
            served = Database(peer.name, home, numbers(plan.cards))
            served.wait(process)
            served.load()
            yield served


@dataclass(frozen=True)
class Database:
    """A running server."""

    peer: str
    home: Path
    numbers: Numbers

    def cli(self, *words: str, feed: str | None = None) -> str:
        """What redis-cli prints; BenchError if the answer is an error."""
        return call(["redis-cli", "-e", "-s", self.home / "socket", *words], feed=feed)

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                self.cli("PING")
            except BenchError:
                time.sleep(0.1)
            else:
                return
        raise BenchError(f"{self.peer}: the server did not start: {(self.home / 'log').read_text()[-500:]}")

    def load(self) -> None:
        """The chain, then the append-only file with all of it."""
        script = file("redis_load.lua", self.numbers)
        for first in range(0, self.numbers.cards, LOAD_STEP):
            self.cli("EVAL", script, "0", str(first), str(min(first + LOAD_STEP, self.numbers.cards) - 1))
        self.cli("CONFIG", "SET", "appendonly", "yes")
        deadline = time.monotonic() + REWRITE_S
        while time.monotonic() < deadline:
            state = self.cli("INFO", "persistence")
            if "aof_rewrite_in_progress:0" in state and "aof_rewrite_scheduled:0" in state:
                expect("aof_last_bgrewrite_status:ok" in state, f"{self.peer}: no append-only file: {state}")
                break
            time.sleep(0.1)
        expect("aof_enabled:1" in state, f"{self.peer}: the append-only file is not on: {state}")
        self.cli("CONFIG", "RESETSTAT")

    def swipe_script(self) -> str:
        """The digest by which the script of a swipe is called: with so many drawn numbers, then the run's."""
        return self.cli("SCRIPT", "LOAD", file("redis_swipe.lua", self.numbers)).strip()

    def benchmark(self, run: int, requests: int, pipeline: int) -> Measured:
        """A run of so many swipes; no two runs may have the same number."""
        expect(run <= RUN_MAX, f"{self.peer}: more than {RUN_MAX} runs have no keys of their own")
        digest = self.swipe_script()
        command: list[Path | str] = [
            "redis-benchmark",
            "-s",
            self.home / "socket",
            "-c",
            str(CLIENTS),
            "-P",
            str(pipeline),
        ]
        command += ["-n", str(requests), "-r", str(2**31 - 1), "--csv", "-e"]
        printed = call([*command, "EVALSHA", digest, "0", *["__rand_int__"] * DRAWN, str(run)])
        rows = list(csv.DictReader(io.StringIO(printed)))
        expect(len(rows) == 1 and "rps" in rows[0], f"{self.peer}: redis-benchmark printed {printed}")
        [row] = rows
        return Measured(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))

    def check(self, asked: int) -> None:
        """The server's own count of calls and refusals, and the books."""
        calls = {}
        for name, count, failed in re.findall(
            r"cmdstat_(\w+):calls=(\d+),.*failed_calls=(\d+)", self.cli("INFO", "commandstats")
        ):
            calls[name] = int(count)
            expect(failed == "0", f"{self.peer}: {failed} calls of {name} failed")
        # redis-benchmark fills its last pipelines up. Only a swipe that has a key calls MGET, once.
        swipes, kept = calls["evalsha"], calls["mget"]
        expect(swipes >= asked, f"{self.peer}: {swipes:,} swipes were posted, not {asked:,}")
        expect(0.88 < kept / swipes < 0.92, f"{self.peer}: {kept:,} of {swipes:,} swipes were no queries")
        counted = [int(line) for line in self.cli("EVAL", file("redis_books.lua", self.numbers), "0").split()]
        check_books(self.peer, counted, kept)
