"""No room, a failing disk, damage, and files that are not ours: a clear error each time, and no harm.

What fails is made to fail: the shim of tests/recorder gives errors in place of writes and syncs, a small
file system is mounted where the machine permits it, bytes are flipped in copies.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from onecard import Engine, EngineError, rows, verify
from tests import auditor
from tests.recorder.served import Served, unary
from tests.recorder.shim import Shim, build
from tests.recorder.shop import CARDS, Till, open_engine, set_up

REPOSITORY = Path(__file__).parents[1]
TINY = 2 << 20


def script(
    code: str, *arguments: object, env: dict[str, str] | None = None, before: list[str] | None = None
) -> str:
    """Run Python code in a process of its own; its output."""
    command = [*(before or []), sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(directory: Path) -> dict[str, bytes]:
    """Content of all files that hold data."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("lock.mdb", "lock")
    }


def worked(directory: Path, batches: int = 30, *, checkpoint: bool = True) -> bytes:
    """A data directory with some work in it; the digest of its state."""
    till = Till(3)
    with open_engine(directory, checkpoint_entries=10**9) as engine:
        set_up(engine)
        engine.execute(till.opening())
        for _ in range(batches):
            engine.execute(till.batch(20))
        if checkpoint:
            engine.checkpoint()
        engine.close_day(till.day)
        engine.execute(till.batch(20))
        return engine.state_digest()


# No room


def batch_of(number: int) -> rows.Batch:
    """Eight thousand small top-ups with keys of their own."""
    batch = np.repeat(np.array([Till(5).row(2, card=CARDS[0], amount=1)], rows.REQUEST), 8_000)
    batch["trace"], batch["id_hi"] = 0, 77
    batch["id_lo"] = np.arange(8_000) + 8_000 * number + 1
    return batch


def fill(engine: Engine) -> tuple[rows.Batch, rows.Batch]:
    """Post until there is no room; the batch that was refused in part, and its answers."""
    for number in range(400):
        answers = engine.execute(batch_of(number))
        if (answers["code"] == 91).any():
            return batch_of(number), answers
    raise AssertionError("there was room for 3 million entries")


def check_full(engine: Engine, answers: rows.Batch) -> None:
    """Refused with 91, nothing kept; what does not write goes on."""
    refused = answers["code"] == 91
    assert set(np.unique(answers["code"])) <= {0, 91}
    assert not answers["sequence"][refused].any()
    books = engine.trial_balance()
    assert books.money_sum == books.points_sum == 0
    posted = answers["sequence"][~refused]
    assert not len(posted) or books.entries == posted.max()
    for _ in range(3):
        balance = engine.execute(rows.balance(card=CARDS[0], terminal=101))
        assert balance["code"][0] == 0
        assert balance["principal_balance"][0] == books.totals[1]
    assert engine.statement(CARDS[0], limit=3).code == 0
    assert engine.trial_balance() == books
    assert (engine.execute(batch_of(1_000))["code"] == 91).any()
    assert engine.poisoned() is None


def test_a_full_map_refuses_and_goes_on(tmp_path: Path) -> None:
    with Engine(tmp_path, journal_bytes_max=TINY, checkpoint_bytes_max=TINY) as engine:
        set_up(engine)
        engine.execute(rows.issue(card=CARDS[0], product=1, terminal=101, business_date=20_000, trace=1))
        batch, answers = fill(engine)
        check_full(engine, answers)
    with open_engine(tmp_path) as engine:
        again = engine.execute(batch)
        assert (again["code"] == 0).all()
        assert (again["replayed"] == (answers["code"] == 0)).all()
        assert (engine.execute(batch)["sequence"] == again["sequence"]).all()
    assert auditor.audit(tmp_path).problems == []


FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
import numpy as np
from onecard import rows
from tests.recorder.shop import CARDS, open_engine, set_up
from tests.test_room import batch_of, check_full
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(root)], check=True)
with open_engine(root / "data", checkpoint_entries=10**9) as engine:
    set_up(engine)
    engine.execute(rows.issue(card=CARDS[0], product=1, terminal=101, business_date=20_000, trace=1))
    assert (engine.execute(batch_of(0))["code"] == 0).all()
    left = os.statvfs(root)
    with open(root / "ballast", "wb") as ballast:
        ballast.write(bytes(left.f_bavail * left.f_frsize - 100_000))
    answers = engine.execute(batch_of(1))
    assert (answers["code"] == 91).all(), np.unique(answers["code"])
    check_full(engine, answers)
    assert (engine.execute(batch_of(0))["replayed"] == 1).all()
    (root / "ballast").unlink()
    answers = engine.execute(batch_of(1))
    assert (answers["code"] == 0).all(), np.unique(answers["code"])
    assert not answers["replayed"].any()
print("refused, and posted once there was room")
"""


def namespace() -> list[str] | None:
    """How to start a process that may mount, if this machine permits it at all."""
    for command in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        mount = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if (
            shutil.which("unshare")
            and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        ):
            return command
    return None


def test_a_full_disk_refuses_and_goes_on(tmp_path: Path) -> None:
    """Where mounting is not permitted, the disk is full at the commit, which poisons and harms nothing."""
    command = namespace()
    if command is None:
        check_failure(tmp_path, "write", errno.ENOSPC)
    else:
        output = script(FULL_DISK, tmp_path, before=command)
        assert output == "refused, and posted once there was room\n"


# A disk that fails


FAILING_DISK = """
import sys, threading
from pathlib import Path
from onecard import EnginePoisoned
from tests.recorder.shim import FAULTS
from tests.recorder.shop import Till, open_engine, set_up
directory, faults, what, error = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
till = Till(9)
engine = open_engine(directory, checkpoint_entries=10**9)
set_up(engine)
before = engine.execute(till.opening())
place = ["write", "dsync", "sync"].index(what)
with faults.open("r+b") as file:
    pairs = [(error, 1) if at == place else (0, 0) for at in range(3)]
    file.write(FAULTS.pack(*[number for pair in pairs for number in pair]))
batches = [till.batch(20) for _ in range(6)]
futures = []
for batch in batches:
    try:
        futures.append(engine.submit(batch))
    except EnginePoisoned:
        pass
assert futures
errors = [future.exception(timeout=60) for future in futures]
assert all(isinstance(error, EnginePoisoned) for error in errors), errors
calls = [lambda: engine.execute(till.batch(1)), lambda: engine.close_day(till.day)]
for call in [*calls, lambda: engine.submit(till.batch(1)).result()]:
    try:
        call()
    except EnginePoisoned as error:
        print(error)
    else:
        raise AssertionError("a poisoned engine answered")
assert engine.poisoned()
engine.close()
with open_engine(directory) as engine:
    assert engine.poisoned() is None
    till = Till(9)
    again = engine.execute(till.opening())
    assert (again["replayed"] == 1).all()
    assert (again["sequence"] == before["sequence"]).all()
    for _ in range(6):
        batch = till.batch(20)
        settled = engine.execute(batch)
        assert (engine.execute(batch)["sequence"] == settled["sequence"]).all()
    assert engine.trial_balance().money_sum == 0
"""


def check_failure(tmp_path: Path, what: str, error: int) -> None:
    """All callers are told, the process lives, and reopening settles what was unknown."""
    root = tmp_path / "data"
    root.mkdir()
    shim = Shim(build(tmp_path), root, tmp_path / "shim", record=False)
    output = script(FAILING_DISK, root, shim.faults, what, error, env=shim.environment())
    assert len(output.splitlines()) >= 3
    assert "reopen" in output
    assert auditor.audit(root).problems == []
    assert verify(root).problems == ()


@pytest.mark.parametrize("what", ["sync", "dsync", "write"])
def test_a_failing_commit_poisons(tmp_path: Path, what: str) -> None:
    check_failure(tmp_path, what, errno.EIO)


def test_a_failing_commit_ends_the_server(tmp_path: Path) -> None:
    """The call is UNAVAILABLE, `serve` exits non-zero, and the next one goes on."""
    root = tmp_path / "data"
    root.mkdir()
    with open_engine(root) as engine:
        set_up(engine)
        engine.execute(Till(1).opening())
    shim = Shim(build(tmp_path), root, tmp_path / "shim", record=False)
    row = Till(2).row(2, card=CARDS[0], amount=500)
    with Served(root, env=shim.environment(), stderr=subprocess.PIPE) as served, served.channel() as channel:
        shim.give(sync=(errno.EIO, 1))
        with pytest.raises(Exception, match="UNAVAILABLE"):
            unary(channel, row)
        assert served.process.stderr is not None
        assert "stopped" in served.process.stderr.read()
        served.process.stderr.close()
        assert served.wait() not in (0, -9)
    with Served(root) as served, served.channel() as channel:
        first = unary(channel, row)
        assert first["code"][0] == 0
        assert unary(channel, row)["sequence"][0] == first["sequence"][0]
        assert served.serving()


# Damage


def journal_blocks(directory: Path) -> dict[int, bytes]:
    return {key: bytes(block) for _, key, block in auditor.blocks(directory / "journal")}


def damage(directory: Path, block: bytes) -> None:
    """Flip one bit inside this block, wherever the file has it."""
    data = directory / "journal" / "data.mdb"
    content, at, found = bytearray(data.read_bytes()), 0, 0
    while (at := content.find(block[:96], at)) >= 0:
        content[at + 80] ^= 4
        at, found = at + 1, found + 1
    assert found
    data.write_bytes(content)


def test_a_damaged_tail_is_named_at_open(tmp_path: Path) -> None:
    worked(tmp_path / "data")
    blocks = journal_blocks(tmp_path / "data")
    for sequence in sorted(blocks)[-3:]:
        copy = tmp_path / f"copy{sequence}"
        shutil.copytree(tmp_path / "data", copy)
        damage(copy, blocks[sequence])
        before = files(copy)
        with pytest.raises(EngineError, match=rf"\b{sequence}\b") as told:
            open_engine(copy)
        assert "journal" in str(told.value)
        assert files(copy) == before


def test_an_old_damaged_block_is_named_by_verify(tmp_path: Path) -> None:
    """The checkpoint is later, so the engine opens; verify walks everything."""
    worked(tmp_path)
    blocks = journal_blocks(tmp_path)
    sequence = sorted(blocks)[len(blocks) // 2]
    damage(tmp_path, blocks[sequence])
    before = files(tmp_path)
    assert any(str(sequence) in problem for problem in problems_of(tmp_path)), problems_of(tmp_path)
    assert files(tmp_path) == before
    assert any(f"block {sequence}:" in problem for problem in auditor.audit(tmp_path).problems)
    open_engine(tmp_path).close()


def problems_of(directory: Path) -> tuple[str, ...]:
    """What verify finds; damage that stops its walk is an error that says where."""
    try:
        return verify(directory).problems
    except EngineError as error:
        return (str(error),)


def test_a_deleted_checkpoint_is_rebuilt(tmp_path: Path) -> None:
    """From the journal alone: the same state, to the last byte."""
    digest = worked(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint")
    with open_engine(tmp_path) as engine:
        assert engine.state_digest() == digest
        engine.checkpoint()
    with open_engine(tmp_path) as engine:
        assert engine.state_digest() == digest
    assert verify(tmp_path).problems == ()


# Files that are not ours


def foreign_file(path: Path, what: str) -> None:
    path.mkdir(parents=True)
    data = path / "data.mdb"
    if what == "lmdb":
        with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as writing:
            writing.put(b"somebody", b"else's")
    elif what == "named lmdb":
        with lmdb.open(str(path), map_size=1 << 20, max_dbs=2) as environment:
            names = environment.open_db(b"meta"), environment.open_db(b"blocks")
            with environment.begin(write=True) as writing:
                writing.put(b"format", b"another journal 7", db=names[0])
    elif what == "newer":
        with lmdb.open(str(path), map_size=1 << 20, max_dbs=2) as environment:
            meta = environment.open_db(b"meta")
            with environment.begin(write=True) as writing:
                writing.put(b"format", f"onecard {path.name} 99".encode(), db=meta)
    else:
        data.write_bytes({"text": b"shopping list\n" * 1_000, "empty": b"", "zeros": bytes(65_536)}[what])


FOREIGN = ["lmdb", "named lmdb", "newer", "text", "empty", "zeros"]


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("where", ["journal", "checkpoint"])
def test_a_foreign_file_is_left_alone(tmp_path: Path, where: str, what: str) -> None:
    worked(tmp_path, 2)
    shutil.rmtree(tmp_path / where)
    foreign_file(tmp_path / where, what)
    before = files(tmp_path)
    with pytest.raises(EngineError) as told:
        open_engine(tmp_path)
    assert where in str(told.value)
    assert files(tmp_path) == before


def test_a_checkpoint_of_another_journal_is_refused(tmp_path: Path) -> None:
    worked(tmp_path / "one", 2)
    worked(tmp_path / "two", 3)
    shutil.rmtree(tmp_path / "one" / "checkpoint")
    shutil.copytree(tmp_path / "two" / "checkpoint", tmp_path / "one" / "checkpoint")
    before = files(tmp_path / "one")
    with pytest.raises(EngineError, match="checkpoint"):
        open_engine(tmp_path / "one")
    assert files(tmp_path / "one") == before


def test_a_journal_older_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    """A journal put back from a backup has lost what the checkpoint holds."""
    worked(tmp_path / "data", 2)
    shutil.copytree(tmp_path / "data" / "journal", tmp_path / "backup")
    with open_engine(tmp_path / "data") as engine:
        engine.execute(Till(77).batch(50))
        engine.checkpoint()
    shutil.rmtree(tmp_path / "data" / "journal")
    shutil.copytree(tmp_path / "backup", tmp_path / "data" / "journal")
    before = files(tmp_path / "data")
    with pytest.raises(EngineError, match="journal"):
        open_engine(tmp_path / "data")
    assert files(tmp_path / "data") == before


# One owner


OPENER = """
import sys
from onecard import EngineError
from tests.recorder.shop import open_engine
try:
    open_engine(sys.argv[1])
except EngineError as error:
    print(error)
"""


def test_a_second_opener_is_told_who_has_it(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        set_up(engine)
        with pytest.raises(EngineError, match=str(os.getpid())):
            open_engine(tmp_path)
        assert str(os.getpid()) in script(OPENER, tmp_path)
        assert engine.trial_balance().code == 0
    assert script(OPENER, tmp_path) == ""


FORKER = """
import os, sys, warnings
from onecard import EngineClosed
from tests.recorder.shop import CARDS, Till, open_engine, set_up
warnings.simplefilter("ignore")
engine = open_engine(sys.argv[1])
set_up(engine)
batch = Till(1).opening()
calls = {
    "execute": lambda: engine.execute(batch),
    "submit": lambda: engine.submit(batch),
    "books": engine.trial_balance,
    "statement": lambda: engine.statement(CARDS[0]),
    "close_day": lambda: engine.close_day(20_000),
    "digest": engine.state_digest,
    "checkpoint": engine.checkpoint,
    "serve": lambda: engine.serve("127.0.0.1:0"),
}
child = os.fork()
if child == 0:
    for name, call in calls.items():
        try:
            call()
        except EngineClosed as error:
            print(name, error, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert engine.trial_balance().cards == 0
assert (engine.execute(batch)["code"] == 0).all()
engine.close()
"""


def test_use_after_a_fork_is_refused(tmp_path: Path) -> None:
    """Each call says so, and the parent's engine is as it was."""
    lines = script(FORKER, tmp_path).splitlines()
    assert len(lines) == 8, lines
    assert all("fork" in line for line in lines), lines
    assert auditor.audit(tmp_path).problems == []
