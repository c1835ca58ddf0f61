"""What all peers share: a measured figure, the runs that make it, and what was started being stopped.

Invariants: a peer has figures or says why it is absent, never both; whatever was started is stopped by its
own process, and whatever was written lies in one temporary directory that is removed, also after an error.
"""

import os
import pwd
import shutil
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.chain import BenchError

STOP_S = 120.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Peer:
    """What a peer does; swipes_per_s is the median of the runs. An absent one says how to install it."""

    name: str
    setting: str
    swipes_per_s: float = 0.0
    swipes_per_s_min: float = 0.0
    swipes_per_s_max: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    absent: str = ""


@dataclass(frozen=True)
class Plan:
    """What is asked of every peer."""

    cards: int
    seconds: float
    runs: int
    progress: Progress


@dataclass(frozen=True)
class Measured:
    """What one run did; latencies only where somebody waits for each answer."""

    swipes_per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None


def repeat(peer: Peer, plan: Plan, one: Callable[[float], Measured], warm_up_s: float) -> Peer:
    """The peer with the figures of `runs` runs, after one that warms up."""
    plan.progress(f"{peer.name}: warms up")
    one(warm_up_s)
    found = []
    for number in range(1, plan.runs + 1):
        plan.progress(f"{peer.name}: run {number} of {plan.runs}")
        found.append(one(plan.seconds))
    rates = [run.swipes_per_s for run in found]
    return replace(
        peer,
        swipes_per_s=statistics.median(rates),
        swipes_per_s_min=min(rates),
        swipes_per_s_max=max(rates),
        p50_ms=_median([run.p50_ms for run in found if run.p50_ms is not None]),
        p99_ms=_median([run.p99_ms for run in found if run.p99_ms is not None]),
    )


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def missing(programs: Sequence[Path | str]) -> list[str]:
    """The programs that are not on this machine."""
    return [str(program) for program in programs if shutil.which(program) is None]


@contextmanager
def directory(name: str, user: str | None = None) -> Iterator[Path]:
    """A temporary directory that belongs to `user`."""
    with tempfile.TemporaryDirectory(prefix=f"onecard-{name}-") as path:
        if user is not None:
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        yield Path(path)


def unprivileged(*candidates: str) -> str | None:
    """The user for a server that refuses to run as root; None if we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in (*candidates, "nobody"):
        if name in known:
            return name
    raise BenchError("there is no unprivileged user to run a server as: add one, such as nobody")


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def call(
    command: Sequence[Path | str],
    *,
    user: str | None = None,
    feed: str | None = None,
    within: Path = Path("/"),
) -> str:
    """What the program prints; BenchError with its complaint if it fails. It runs `within` a directory."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        input=feed,
        capture_output=True,
        text=True,
        cwd=within,
        user=user,
        group=_group(user),
        extra_groups=None if user is None else [],
    )
    if done.returncode != 0:
        raise BenchError(f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def server(
    command: Sequence[Path | str],
    log: Path,
    *,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, running; ended at the end, by force if it does not obey. What it says goes to `log`."""
    with log.open("wb") as told:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            cwd="/",
            user=user,
            group=_group(user),
            extra_groups=None if user is None else [],
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
