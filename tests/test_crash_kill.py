"""kill -9 at random moments, again and again, on one data directory.

Over the Python API the killed process is a workload that tells what it was answered; over gRPC it is
`onecard serve`, and the client lives here. After each kill the engine is reopened: what was answered is
answered the same again, what was not is sent again and posts once. At the end an independent tally of the
answers equals the books, and the auditor finds the journal whole.

ONECARD_CRASHES: how many kills there are is a fortieth of it (400 if it is not set).
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import grpc

from onecard import verify
from tests import auditor
from tests.recorder.clients import Clients
from tests.recorder.served import Served
from tests.recorder.shop import Till, open_engine, set_up
from tests.recorder.told import Told, tally

KILLS = max(3, int(os.environ.get("ONECARD_CRASHES", "400")) // 40)
REPOSITORY = Path(__file__).parents[1]
LIVES_S = (0.02, 0.6)
STARTS_S = (0.2, 1.0)


def audit(directory: Path, told: Told) -> None:
    """Books, tally, and both auditors agree; needs the directory closed."""
    with open_engine(directory) as engine:
        told.settle(engine)
        books = engine.trial_balance()
        assert (books.money_sum, books.points_sum) == (0, 0)
        for account, total in tally(told.answered).items():
            assert books.totals.get(account, 0) == total, account
    report = auditor.audit(directory)
    assert report.problems == []
    assert report.entries == books.entries
    sequences = {int(sequence) for _, answers in told.answered for sequence in answers["sequence"]} - {0}
    assert report.transactions == len(sequences)
    assert verify(directory).problems == ()


def work_until_killed(directory: Path, marks: Path, seed: int, life_s: float, *, opened: bool) -> int:
    """Run the workload and kill it so long after its start, or after it opened; returns its exit status."""
    arguments = [str(directory), str(marks), str(seed), "0"]
    process = subprocess.Popen([sys.executable, "-m", "tests.recorder.workload", *arguments], cwd=REPOSITORY)
    while opened and marks.stat().st_size == 0 and process.poll() is None:
        time.sleep(0.002)
    time.sleep(life_s)
    process.kill()
    return process.wait()


def test_kill_over_the_python_api(tmp_path: Path) -> None:
    directory, marks = tmp_path / "data", tmp_path / "marks"
    told, chance = Told(), random.Random(11)
    for round_ in range(KILLS):
        marks.write_bytes(b"")
        opened = round_ % 4 != 3
        life_s = chance.uniform(*LIVES_S) if opened else chance.uniform(*STARTS_S)
        assert work_until_killed(directory, marks, round_ + 1, life_s, opened=opened) == -9
        told.read(marks.read_bytes())
        with open_engine(directory) as engine:
            told.settle(engine)
    assert len(told.answered) > 10 * KILLS, "too few answers for a test"
    audit(directory, told)


def test_kill_of_the_server(tmp_path: Path) -> None:
    directory, told, chance = tmp_path / "data", Told(), random.Random(12)
    with open_engine(directory) as engine:
        set_up(engine)
        opening = Till(1).opening()
        told.take(opening, engine.execute(opening))
    calls = 0
    for round_ in range(KILLS):
        with Served(directory) as served:
            clients = Clients(served, told, round_ + 1)
            clients.start()
            time.sleep(chance.uniform(*LIVES_S))
            assert served.kill() == -9
            clients.join()
        assert set(clients.errors) <= {grpc.StatusCode.UNAVAILABLE}
        calls += clients.calls
        with open_engine(directory) as engine:
            told.settle(engine)
    assert calls > 10 * KILLS, "too few calls were answered for a test"
    audit(directory, told)


def test_close_completes_what_was_submitted(tmp_path: Path) -> None:
    """Every future's callbacks have run when `close` returns: nothing is left for the interpreter's end."""
    till, told = Till(4), []
    for round_ in range(1, 21):
        with open_engine(tmp_path) as engine:
            set_up(engine)
            for _ in range(8):
                engine.submit(till.batch(3)).add_done_callback(lambda done: told.append(len(done.result())))
        assert told == [3] * 8 * round_
