"""Crashes at any instant, as a disk would have them: the recorder keeps every write and every sync.

A workload runs under the recording shim. Then the data directory is rebuilt as of random instants, with
any subset of the unsynced writes lost or torn, the engine is reopened, and must keep to all that it had
answered. With syncs turned off the same check must find losses, or it checks nothing.

ONECARD_CRASHES: how many instants (400 if it is not set).
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onecard.codes import Code, Kind
from tests.recorder import disk
from tests.recorder.shim import Shim, build
from tests.recorder.told import Told

CRASHES = int(os.environ.get("ONECARD_CRASHES", "400"))
WITHOUT_SYNCS = 60
PROCESSES = 2
REPOSITORY = Path(__file__).parents[1]
WHOLE_KINDS = {
    Kind.GRANT,
    Kind.PURCHASE,
    Kind.AUTHORISE,
    Kind.CAPTURE,
    Kind.VOID,
    Kind.REFUND,
    Kind.REVERSAL,
    Kind.TRANSFER,
    Kind.HOLDER,
    Kind.SET_PIN,
    Kind.BULK_TOP_UP,
}
"""What a recorded workload must have done beside plain rows."""


def record(work: Path, *, seed: int, batches: int, no_sync: bool = False) -> Shim:
    """Run the workload to its end under the shim."""
    root = work / "data"
    root.mkdir(parents=True, exist_ok=True)
    shim = Shim(build(work), root, work / "shim", no_sync=no_sync)
    arguments = [str(root), str(shim.marks), str(seed), str(batches), "whole"]
    run("workload", arguments, env=shim.environment())
    return shim


def run(module: str, arguments: list[str], **options: Any) -> None:
    command = [sys.executable, "-m", f"tests.recorder.{module}", *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=600, **options)


def check(shim: Shim, fast: Path, *, seed: int, instants: int) -> tuple[int, list[tuple[int, str]]]:
    """Crash at so many instants, in a few processes; how many there were, and what did not hold."""
    program = [sys.executable, "-m", "tests.recorder.check", str(shim.log)]
    workers = [
        subprocess.Popen(
            [*program, str(fast / f"crashed{share}"), str(seed), str(instants), str(share), str(PROCESSES)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
        )
        for share in range(PROCESSES)
    ]
    results = [json.loads(worker.communicate()[0]) for worker in workers]
    problems = [tuple(problem) for result in results for problem in result["problems"]]
    return sum(result["checked"] for result in results), sorted(problems)


@pytest.fixture
def fast(tmp_path: Path) -> Any:
    """A directory in memory if there is one: what is checked there needs no disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
        return
    directory = memory / f"onecard-crash-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def test_nothing_escapes_the_recorder(tmp_path: Path) -> None:
    """Replayed to the end, the record is the directory, byte for byte."""
    shim = record(tmp_path, seed=1, batches=60)
    replayed = disk.Disk()
    kinds: dict[str, int] = {}
    for event in disk.read_events(shim.log):
        replayed.replay(event)
        kinds[event.kind] = kinds.get(event.kind, 0) + 1
    after = tmp_path / "after"
    replayed.leave(after, None)
    files = {path.relative_to(after) for path in after.rglob("*") if path.is_file()}
    really = {path.relative_to(shim.root) for path in shim.root.rglob("*") if path.is_file()}
    assert files == {path for path in really if path.name != "lock.mdb"}
    for file in files:
        assert after.joinpath(file).read_bytes() == shim.root.joinpath(file).read_bytes(), file
    assert min(kinds.get(kind, 0) for kind in "MWS") >= 30, kinds
    told = Told().read(shim.marks.read_bytes())
    assert len(told.answered) == 61
    assert len(told.closed) == 2
    approved = {
        Kind(int(kind))
        for asked, answers in told.answered
        for kind in asked.rows["kind"][answers["code"] == Code.APPROVED]
    }
    assert approved >= WHOLE_KINDS
    assert any(len(answers.parts) for _, answers in told.answered)


def test_what_was_answered_outlives_any_crash(tmp_path: Path, fast: Path) -> None:
    shim = record(tmp_path, seed=2, batches=80)
    checked, problems = check(shim, fast, seed=3, instants=CRASHES)
    assert checked == CRASHES
    assert problems == []


def test_a_crash_after_a_crash(tmp_path: Path, fast: Path) -> None:
    """Recovery itself is recorded, and crashed: what either run had answered is there."""
    shim = record(tmp_path / "first", seed=4, batches=50)
    events = list(disk.read_events(shim.log))
    moment = len(events) * 2 // 3
    crashed, told = disk.Disk(), b""
    for event in events[:moment]:
        crashed.replay(event)
        told += event.payload if event.kind == "M" else b""
    second = tmp_path / "second"
    second.joinpath("shim").mkdir(parents=True)
    crashed.leave(second / "data", random.Random(6))
    shutil.copytree(second / "data", second / "shim" / "before")
    second.joinpath("shim", "told").write_bytes(told)
    checked, problems = check(record(second, seed=5, batches=30), fast, seed=7, instants=CRASHES // 2)
    assert checked == CRASHES // 2
    assert problems == []


def test_without_syncs_answers_are_lost(tmp_path: Path, fast: Path) -> None:
    """The same run and the same check, with syncs turned off."""
    shim = record(tmp_path, seed=2, batches=80, no_sync=True)
    checked, problems = check(shim, fast, seed=3, instants=WITHOUT_SYNCS)
    assert checked == WITHOUT_SYNCS
    assert len(problems) > WITHOUT_SYNCS // 4, problems
