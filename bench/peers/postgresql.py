"""PostgreSQL: one plpgsql call a swipe, and batches of 1,000 in one call.

Setting: Debian's server in a private cluster on a Unix socket; fsync, synchronous_commit and full_page_writes
on; 2 GB of shared buffers; no checkpoint, vacuum or statistics in the runs; commit_delay as it was fastest.
A call a swipe comes from pgbench with prepared statements; batches come from one psql session, as two would
lock each other out at the stores. The functions, and what they check, are in postgresql.sql.

What differs from the engine: keys are kept for ever, no hash chain, no statement, no feed; the issuer's
accounts and the points pool are split over the stores' rows. A latency is that of the call, closed loop.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.chain import BenchError, expect
from bench.peers.peer import Measured, Peer, Plan, call, directory, missing, repeat, server, unprivileged
from bench.peers.swipe import Draw, Drawn, Numbers, check_books, file, fill, numbers
from bench.swipes import PURCHASES, TOP_UPS
from onecard.codes import Kind

CLIENTS = 64
BATCH = 1_000
CALL = Peer(
    "PostgreSQL, a call a swipe",
    f"pgbench -M prepared, {CLIENTS} clients, synchronous_commit=on, commit_delay",
)
BATCHES = Peer("PostgreSQL, batches", f"{BATCH:,} swipes a call and commit, synchronous_commit=on")
INSTALL = "not installed: apt-get install postgresql"
START_S = 60.0
WARM_UP_S = 3.0

# The card's number is its index x 6180339887498949 mod 10^16, in halves that fit 64 bits.
SWIPE = """\\set card random(0, @cards - 1)
\\set card (:card * 61803398 % 100000000 * 100000000 + :card * 87498949) % 10000000000000000
\\set terminal random(1, @stores)
\\set amount random(@amount_min, @amount_max)
\\set time random(28800, 79199)
\\set drawn :drawn + 1
\\set hi -:terminal
\\set lo :first_trace + :drawn * @clients + :client_id
\\if :drawn % 2 = 0
\\set hi random(1, 9223372036854775806)
\\set lo random(1, 9223372036854775806)
\\endif
SELECT * FROM swipe(@kind::smallint, :terminal, :card, :amount, :hi, :lo, @day, :time);
"""
BALANCE = """\\set card random(0, @cards - 1)
\\set card (:card * 61803398 % 100000000 * 100000000 + :card * 87498949) % 10000000000000000
\\set terminal random(1, @stores)
SELECT * FROM swipe(6::smallint, :terminal, :card, 0, 0, 0, 0, 0);
"""

SETTINGS = {
    "listen_addresses": "",
    "max_connections": CLIENTS + 10,
    "shared_buffers": "2GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "commit_delay": 500,
    "commit_siblings": 5,
    "wal_buffers": "64MB",
    "min_wal_size": "2GB",
    "max_wal_size": "64GB",
    "checkpoint_timeout": "1d",
    "autovacuum": "off",
    "track_activities": "off",
    "track_counts": "off",
    "update_process_title": "off",
    "jit": "off",
    "maintenance_work_mem": "512MB",
    "work_mem": "512MB",
}


def a_call(plan: Plan) -> Peer:
    """One plpgsql call a swipe."""
    if not _programs():
        return replace(CALL, absent=INSTALL)
    with _database(CALL, plan) as database:
        posted, started = 0, 0

        def one(seconds: float) -> Measured:
            nonlocal posted, started
            started += 1
            measured, kept = database.pgbench(seconds, started)
            posted += kept
            return measured

        found = repeat(CALL, plan, one, WARM_UP_S)
        check_books(CALL.name, database.books(), posted)
        return found


def batches(plan: Plan) -> Peer:
    """Batches of 1,000 in one call, a loop over its rows."""
    if not _programs():
        return replace(BATCHES, absent=INSTALL)
    with _database(BATCHES, plan) as database, database.session() as ask:
        draw, posted = Draw(plan.cards, seed=1), 0

        def one(seconds: float) -> Measured:
            nonlocal posted
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                batch = draw.next(BATCH)
                answers = ask(_statement(batch, database.numbers.day))
                expect(len(answers) == BATCH, f"{BATCHES.name}: the answer was {','.join(answers)}")
                done += BATCH
                posted += batch.kept
            return Measured(done / (time.perf_counter() - start))

        found = repeat(BATCHES, plan, one, WARM_UP_S)
        check_books(BATCHES.name, database.books(), posted)
        return found


def _statement(batch: Drawn, day: int) -> str:
    """What posts these swipes."""
    columns = (batch.kind, batch.terminal, batch.card, batch.amount, batch.hi, batch.lo, batch.time)
    lists = [f"'{{{','.join(map(str, column.tolist()))}}}'" for column in columns]
    return f"SELECT array_to_string(swipes({','.join(lists)},{day}),',');"


def _programs() -> Path | None:
    """Where the newest server's programs are; None if any is missing."""
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True
    )
    for place in [*places, Path()]:
        if not missing([place / name for name in ("initdb", "postgres", "psql", "pgbench")]):
            return place
    return None


@contextmanager
def _database(peer: Peer, plan: Plan) -> Iterator["_Database"]:
    """A cluster with the chain in it."""
    place = _programs()
    expect(place is not None, f"{peer.name}: {INSTALL}")
    programs = place or Path()
    user = unprivileged("postgres")
    with directory("postgresql", user) as home:
        plan.progress(f"{peer.name}: sets up {plan.cards:,} cards")
        data = home / "data"
        options = ["--username=bench", "--auth=trust", "--encoding=UTF8", "--locale=C", "--wal-segsize=64"]
        call([programs / "initdb", f"--pgdata={data}", *options, "--no-sync"], user=user)
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command: list[Path | str] = [
            programs / "postgres",
            "-D",
            data,
            f"--unix_socket_directories={home}",
            *settings,
        ]
        # Nothing in it is kept: no checkpoint at the end.
        with server(command, home / "log", user=user, stop=signal.SIGQUIT) as process:
            database = _Database(peer.name, programs, home, numbers(plan.cards))
            database.wait(process)
            database.load()
            yield database


@dataclass(frozen=True)
class _Database:
    """A running cluster."""

    peer: str
    programs: Path
    home: Path
    numbers: Numbers

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                self.psql("SELECT 1")
            except BenchError:
                time.sleep(0.1)
            else:
                return
        raise BenchError(f"{self.peer}: the server did not start: {(self.home / 'log').read_text()[-500:]}")

    def psql(self, statements: str) -> str:
        """What psql prints for them."""
        return call(self._psql(), feed=statements)

    def _psql(self) -> list[Path | str]:
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        return [self.programs / "psql", *options, f"--host={self.home}", "--username=bench", "postgres"]

    def load(self) -> None:
        """Tables, chain, functions."""
        self.psql(file("postgresql.sql", self.numbers))
        self.psql("VACUUM ANALYZE terminals; VACUUM ANALYZE stores; VACUUM ANALYZE cards;")

    def books(self) -> list[int]:
        """What books.sql counts."""
        return [int(value) for value in self.psql(file("books.sql", self.numbers)).strip().split("|")]

    def pgbench(self, seconds: float, started: int) -> tuple[Measured, int]:
        """A run, and how many of its swipes must have left a journal row."""
        log = self.home / f"run{started}"
        log.mkdir()
        command: list[Path | str] = [self.programs / "pgbench", "--no-vacuum", "--protocol=prepared"]
        command += [f"--client={CLIENTS}", f"--time={max(1, round(seconds))}", f"--random-seed={started}"]
        command += ["--log", f"--log-prefix={log / 'latency'}", "--define=drawn=0"]
        command += [f"--define=first_trace={started * 10**12}"]
        for kind, weight in ((Kind.PURCHASE, 6), (Kind.TOP_UP, 3), (Kind.BALANCE, 1)):
            script = log / f"{kind.name}.sql"
            drawn = PURCHASES if kind == Kind.PURCHASE else TOP_UPS
            found = {"kind": kind, "clients": CLIENTS, "amount_min": drawn[0], "amount_max": drawn[1]}
            script.write_text(fill(BALANCE if kind == Kind.BALANCE else SWIPE, self.numbers, **found))
            command.append(f"--file={script}@{weight}")
        printed = call([*command, f"--host={self.home}", "--username=bench", "postgres"])
        latencies = [np.loadtxt(part, np.int64, usecols=2) for part in log.glob("latency*")]
        p50, p99 = np.percentile(np.concatenate(latencies), [50, 99]) / 1e3
        rate = re.search(r"tps = ([0-9.]+) ", printed)
        counts = [int(count) for count in re.findall(r"^ - ([0-9]+) transactions", printed, re.MULTILINE)]
        whole = rate is not None and len(counts) == 3 and "number of failed transactions: 0 " in printed
        expect(whole, f"{self.peer}: pgbench did not answer every call: {printed}")
        return Measured(float(rate[1]) if rate else 0.0, float(p50), float(p99)), counts[0] + counts[1]

    @contextmanager
    def session(self) -> Iterator[Callable[[str], list[str]]]:
        """A psql to ask one statement after the other; each answers one line, a list."""
        command = [str(part) for part in self._psql()]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            asked, told = process.stdin, process.stdout

            def ask(statement: str) -> list[str]:
                if asked is None or told is None:
                    raise BenchError(f"{self.peer}: psql has no pipes")
                asked.write(statement + "\n")
                asked.flush()
                return told.readline().strip().split(",")

            yield ask
