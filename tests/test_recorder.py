"""The crash recorder, proven on plain LMDB through py-lmdb.

What a commit returned is there after a crash at any later moment; with syncs turned off it is not, and
the same check says so. The replay of everything equals the files that are really there: nothing escaped
the shim.
"""

import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from tests.recorder import disk
from tests.recorder.shim import Shim, build

SIZE = 64 << 20

WORKLOAD = """
import lmdb, os, sys
root, marks = sys.argv[1:]
environment = lmdb.open(root, map_size=1 << 26)
told = os.open(marks, os.O_WRONLY)
for number in range(60):
    with environment.begin(write=True) as transaction:
        for part in range(3):
            transaction.put(b"%d/%d" % (number, part), bytes([number]) * 3000)
    os.write(told, b"%d" % number)
"""


def run(tmp_path: Path, *, no_sync: bool) -> tuple[Shim, Path]:
    """Record the workload on an environment that was there before; returns shim and copy of before."""
    root, before = tmp_path / "data", tmp_path / "before"
    for directory in (root, before):
        lmdb.open(str(directory), map_size=SIZE).close()
    before.joinpath("data.mdb").write_bytes(root.joinpath("data.mdb").read_bytes())
    shim = Shim(build(tmp_path), root, tmp_path / "work", no_sync=no_sync)
    command = [sys.executable, "-c", WORKLOAD, str(root), str(shim.marks)]
    subprocess.run(command, env=shim.environment(), check=True)
    return shim, before


def replay(shim: Shim, before: Path | None = None) -> disk.Disk:
    replayed = disk.Disk(before)
    for event in disk.read_events(shim.log):
        replayed.replay(event)
    return replayed


def losses(shim: Shim, before: Path, target: Path, instants: int) -> int:
    """Crash at random moments; counts those after which something that was committed is not there."""
    events = list(disk.read_events(shim.log))
    chance = random.Random(7)
    moments = sorted(chance.choices(range(len(events)), k=instants))
    replayed, lost, told, at = disk.Disk(before), 0, -1, 0
    for moment in moments:
        while at < moment:
            replayed.replay(events[at])
            told = int(events[at].payload) if events[at].kind == "M" else told
            at += 1
        replayed.leave(target, chance)
        lost += not holds(target, told)
    return lost


def holds(path: Path, told: int) -> bool:
    try:
        environment = lmdb.open(str(path), map_size=SIZE, readonly=True, lock=False)
        with environment.begin() as transaction:
            keys = [b"%d/%d" % (number, part) for number in range(told + 1) for part in range(3)]
            found = all(transaction.get(key) == bytes([int(key.split(b"/")[0])]) * 3000 for key in keys)
        environment.close()
        return found
    except lmdb.Error:
        return False


def test_replay_of_everything_equals_the_files(tmp_path: Path) -> None:
    shim, before = run(tmp_path, no_sync=False)
    replay(shim, before).leave(tmp_path / "after", None)
    assert tmp_path.joinpath("after/data.mdb").read_bytes() == shim.root.joinpath("data.mdb").read_bytes()


def test_commits_outlive_crashes(tmp_path: Path) -> None:
    shim, before = run(tmp_path, no_sync=False)
    assert losses(shim, before, tmp_path / "crashed", 300) == 0


def test_without_syncs_commits_are_lost(tmp_path: Path) -> None:
    shim, before = run(tmp_path, no_sync=True)
    assert losses(shim, before, tmp_path / "crashed", 300) > 100


def test_what_cannot_be_followed_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    shim = Shim(build(tmp_path), root, tmp_path / "work")
    script = (
        "import mmap, sys; file = open(sys.argv[1], 'w+b'); file.truncate(9); mmap.mmap(file.fileno(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(root / "mapped")], env=shim.environment(), check=True)
    with pytest.raises(disk.RecordError, match="mapped"):
        replay(shim)


def test_names_and_sizes_wait_for_their_syncs(tmp_path: Path) -> None:
    """A rename is there once the directory was synced, an unsynced file may be anything up to empty."""
    root = tmp_path / "data"
    root.mkdir()
    script = """
import os, sys
os.chdir(sys.argv[1])
draft = os.open("draft", os.O_WRONLY | os.O_CREAT)
os.write(draft, b"x" * 10000)
os.fsync(draft)
os.rename("draft", "final")
os.ftruncate(draft, 20000)
if sys.argv[2] == "sync":
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
"""
    seen: dict[str, set[tuple[str, int]]] = {}
    for mode in ("sync", "none"):
        shim = Shim(build(tmp_path), root, tmp_path / mode)
        subprocess.run([sys.executable, "-c", script, str(root), mode], env=shim.environment(), check=True)
        replayed = replay(shim)
        seen[mode] = set()
        for seed in range(60):
            target = tmp_path / f"{mode}{seed}"
            replayed.leave(target, random.Random(seed))
            seen[mode] |= {(file.name, file.stat().st_size) for file in target.iterdir()} or {("", 0)}
        root.joinpath("final").unlink()
    assert seen["sync"] == {("final", 10000), ("final", 20000)}
    assert {name for name, _ in seen["none"]} == {"", "draft", "final"}
