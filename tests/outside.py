"""Rules in Python for tests: what two say follows from each sale, one writes down what it sees, one errs."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from onecard.python_rules import Advice, Sales, rule

MOOD = "ONECARD_TEST_MOOD"
"""Names the file that says how the moody rule is."""
SEEN = "ONECARD_TEST_SEEN"
"""Names the directory in which each group is put that was seen."""

_NUMBERED = "amount", "number", "store", "channel"


@rule(id=3, name="by number", version="1", timeout_ms=1_000)
def by_number(sales: Sales) -> Advice:
    """What it says of a sale follows from its request alone: `tests.test_python_rules.said` says the same."""
    amount, number, store, channel = (getattr(sales, name).astype(np.int64) for name in _NUMBERED)
    return Advice(
        discount=(amount % 7) / 100 * (store % 2),
        points=((number + channel) % 5) / 2,
        refuse=amount % 11 == 0,
    )


@rule(id=7, name="third off", version="1", timeout_ms=1_000)
def third_off(sales: Sales) -> Advice | None:
    """A third off for channel 1, and nothing at all said of groups without it."""
    here = sales.channel == 1
    return Advice(discount=np.where(here, 1 / 3, 0.0)) if here.any() else None


@rule(id=1, name="witness", version="1", timeout_ms=1_000)
def witness(sales: Sales) -> None:
    """Says nothing, and writes down what it sees."""
    if SEEN in os.environ:
        folder = Path(os.environ[SEEN])
        columns = {name: getattr(sales, name) for name in Sales.__slots__}
        np.savez(folder / f"{len(list(folder.iterdir())):05}.npz", **columns)


@rule(id=2, name="moody", version="1", timeout_ms=200)
def moody(sales: Sales) -> Advice | None:
    """Does what a file says: errs in some way, is late, dies, or takes off so many percent."""
    mood = Path(os.environ[MOOD]).read_text()
    size = len(sales)
    match mood:
        case "raise":
            raise RuntimeError("no idea")
        case "late":
            time.sleep(30)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "write":
            sales.amount[:] = 1
        case "print":
            print("said aloud", flush=True)
    wrong = {
        "shape": Advice(discount=np.zeros(size + 1)),
        "deep": Advice(discount=np.zeros((size, 1))),
        "dtype": Advice(discount=np.zeros(size, np.float32)),
        "whole": Advice(points=np.ones(size, np.int64)),
        "nan": Advice(discount=np.full(size, np.nan)),
        "infinite": Advice(points=np.full(size, np.inf)),
        "negative": Advice(discount=np.full(size, -0.01)),
        "above": Advice(discount=np.full(size, 1.01)),
        "many": Advice(points=np.full(size, 100.5)),
        "truth": Advice(refuse=np.ones(size)),
        "list": Advice(discount=[0.1] * size),  # type: ignore[arg-type]
        "other": {"discount": np.zeros(size)},
    }
    if mood in wrong:
        return wrong[mood]  # type: ignore[return-value]
    return Advice(discount=np.full(size, int(mood) / 100)) if mood.isdigit() else None
