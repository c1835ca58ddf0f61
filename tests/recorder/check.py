"""Crashes a recorded run at random instants, and holds every reopened engine to what was told.

`python -m tests.recorder.check LOG TARGET SEED INSTANTS SHARE SHARES`: takes every SHARES-th of the
instants, and prints one line of JSON: how many were checked, and what did not hold, by instant. After
each instant the auditor, a process of its own, walks the journal. A directory `before` and a file `told`
beside LOG are what was there, and what had been told, when the record began.
"""

import json
import multiprocessing
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onecard import verify
from tests.recorder.disk import Disk, Event, read_events
from tests.recorder.shop import Till, open_engine, set_up
from tests.recorder.told import Told

VERIFY_EVERY = 25


class Auditor:
    """tests/auditor in a process of its own, one line a directory."""

    def __init__(self) -> None:
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tests.auditor", "-"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def restart(self) -> None:
        """A new one: whoever asked the old one is gone, and its report may still come."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def audit(self, directory: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{directory}\n")
        self.process.stdin.flush()
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report


def instants(events: list[Event], seed: int, count: int) -> list[int]:
    """Numbers of events before which the crash comes, ascending; a third of them close to an answer."""
    chance = random.Random(seed)
    marks = [number for number, event in enumerate(events) if event.kind == "M"]
    near = [min(len(events), max(0, chance.choice(marks) + chance.randint(-2, 3))) for _ in range(count // 3)]
    return sorted(near + [chance.randint(0, len(events)) for _ in range(count - len(near))])


def crashes(log: Path, moments: list[int], seed: int, target: Path) -> Iterator[tuple[int, Told]]:
    """For each moment, the directory as a crash left it, and what had been told until then."""
    before, told = log.with_name("before"), log.with_name("told")
    events = list(read_events(log))
    disk, marks, at = (
        Disk(before if before.exists() else None),
        told.read_bytes() if told.exists() else b"",
        0,
    )
    for place, moment in enumerate(moments):
        for event in events[at:moment]:
            disk.replay(event)
            marks += event.payload if event.kind == "M" else b""
        at = moment
        shutil.rmtree(target, ignore_errors=True)
        disk.leave(target, random.Random(seed * 1_000_003 + place))
        yield moment, Told().read(marks)


def hold(directory: Path, told: Told, auditor: Auditor, seed: int, *, whole: bool) -> str | None:
    """What does not hold after a crash; None if all does."""
    try:
        with open_engine(directory) as engine:
            told.settle(engine)
            set_up(engine)
            told.settle(engine)
            till = Till(seed + 500, told.day)
            engine.execute(till.opening())
            engine.execute(till.batch(12))
            entries = engine.trial_balance().entries
        report = auditor.audit(directory)
        if report["problems"] or report["entries"] != entries:
            return f"audit of {report['entries']} entries of {entries}: {report['problems'][:3]}"
        if whole and verify(directory).problems:
            return f"verify: {verify(directory).problems[:3]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def hold_apart(directory: Path, told: Told, auditor: Auditor, seed: int, *, whole: bool) -> str | None:
    """The same in a process of its own: files that lost what was synced may take LMDB down with them."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)

    def report() -> None:
        sender.send(hold(directory, told, auditor, seed, whole=whole))

    process = fork.Process(target=report)
    process.start()
    sender.close()
    try:
        problem: str | None = receiver.recv()
    except EOFError:
        problem = "the process died"
        auditor.restart()
    process.join()
    return problem


def main(log: Path, target: Path, seed: int, count: int, share: int, shares: int) -> None:
    events = list(read_events(log))
    auditor = Auditor()
    moments = instants(events, seed, count)[share::shares]
    problems, checked = [], 0
    for moment, told in crashes(log, moments, seed + share, target):
        problem = hold_apart(target, told, auditor, seed, whole=checked % VERIFY_EVERY == 0)
        checked += 1
        if problem is not None:
            problems.append((moment, problem))
    print(json.dumps({"checked": checked, "events": len(events), "problems": problems}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *(int(argument) for argument in sys.argv[3:]))
