"""Rules in Python: a function that sees a group of sales as numpy columns, and says columns.

    @rule(id=1, name="win back", version="1")
    def win_back(sales: Sales) -> Advice:
        away_days = sales.open_date - sales.last_date
        return Advice(discount=np.where(away_days > 60, 0.10, 0.0))

The rule file names it, `[[python_rules]]` with the same id, name and version, and an engine is opened with
it: `Engine("data", python_rules=[win_back])`, or with the module that it stands in. It runs in a worker, a
process of its own, once for every group, before the group is priced. What it says becomes an input of each
sale that it says something of, and lies in its entry; a retry, a replay and a refund ask nobody.
docs/python-rules.md says more.

Invariants: a function never sees half a group, changes nothing by what it does to its columns, and what it
says is checked - type, shape, range - before a sale is priced with it.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

RATE_ONE = 10**12
FACTOR_MAX = 100
"""Most that points are multiplied by."""
TIMEOUT_MS, TIMEOUT_MS_MAX = 50, 1_000
ID_MAX = 2**16 - 1
NAME_MAX = 64

Column: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sales:
    """The sales of a group: the requests, and their cards as they were when the group began; read-only.

    One place of each column is one sale: a purchase or an authorisation, tried out or not. A card that is
    not there has the index -1, and zeros. A sale may be refused for another reason, and a retry may be among
    them.
    """

    programme: int
    open_date: int
    """The open business date, in days since 1970-01-01, as all dates are."""
    amount: Column
    """List amount in minor units; what is no amount is refused later."""
    card: Column
    """Index of the card, from 0 in the order of issue."""
    number: Column
    """Number of the card, without leading zeros; `digits` says how many digits it has."""
    member: Column
    """Id of who holds the card; 0: nobody."""
    principal: Column
    bonus: Column
    points: Column
    """Balances; points in 1/10,000."""
    terminal: Column
    store: Column
    merchant: Column
    """Numbers; 0 if the terminal is unknown."""
    date: Column
    time: Column
    """Date and second of the day at the terminal."""
    last_date: Column
    """The business date that was open when the newest entry of the card was made."""
    product: Column
    kind: Column
    """`onecard.codes.Kind`: 3 purchase, 10 authorise."""
    flags: Column
    """As in `onecard.rows`: 1 pays with points, 2 takes a part, 64 is tried out."""
    channel: Column
    digits: Column
    tier: Column
    status: Column

    def __len__(self) -> int:
        return len(self.amount)


@dataclass(frozen=True, slots=True)
class Advice:
    """What a rule says of each sale of a group, in their order; None: nothing of any."""

    discount: Column | None = None
    """Share of the list amount that is taken off beyond what the other rules do: float64, 0 to 1."""
    points: Column | None = None
    """The points that the sale earns come to so many times: float64, 0 to 100."""
    refuse: Column | None = None
    """True: it is not to be sold."""


Function: TypeAlias = Callable[[Sales], Advice | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A function that is a rule, and what the rule file calls it. Called, it is the function."""

    function: Function
    id: int
    name: str
    version: str
    timeout_ms: int

    def __call__(self, sales: Sales) -> Advice | None:
        return self.function(sales)


def rule(*, id: int, name: str, version: str, timeout_ms: int = TIMEOUT_MS) -> Callable[[Function], Rule]:
    """Make a rule of a function; a group that takes it longer than `timeout_ms` is priced without it.

    Id, name and version are those of `[[python_rules]]` in the rule file, which says whether it is required,
    too. Whoever changes what the function says gives it another version.
    """
    for text, what in ((name, "name"), (version, "version")):
        if not isinstance(text, str) or not 1 <= len(text.encode()) <= NAME_MAX:
            raise ValueError(f"{what}: a rule has one of 1 to {NAME_MAX} bytes, not {text!r}")
    if not 1 <= id <= ID_MAX:
        raise ValueError(f"id: a rule has a number from 1 to {ID_MAX}, not {id}")
    if not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise ValueError(f"timeout_ms: a rule has 1 to {TIMEOUT_MS_MAX} milliseconds, not {timeout_ms}")
    return lambda function: Rule(function, id, name, version, timeout_ms)


@dataclass(frozen=True, slots=True)
class PythonRules:
    """What became of asking the rules in Python since the engine was opened."""

    groups: int
    """Groups that they were asked about."""
    sales: int
    """The sales in them."""
    failed: int
    """Groups of which a rule said nothing good: it was not there, raised, or said what cannot be."""
    timed_out: int
    """Groups of which a rule was late."""
    restarts: int
    """Workers that were started because the one before was late or gone."""
    error: str
    """The newest failure in words; empty if there was none."""
    pid: int
    """The worker's process id; 0: none is there at the moment."""


Rules: TypeAlias = Iterable[Rule | ModuleType | str]


def setup(rules: Rules) -> bytes:
    """What a worker is told: where to find modules, and which rules of which it is to have."""
    told: list[dict[str, str]] = []
    for one in rules:
        if isinstance(one, Rule):
            told.append(_module(one.function.__module__) | {"function": one.function.__qualname__})
        elif isinstance(one, ModuleType):
            told.append(_module(one.__name__))
        elif isinstance(one, str):
            told.append({"module": one})
        else:
            raise TypeError(f"python_rules: rules, or modules that have some, not {one!r}")
    path = [entry or os.getcwd() for entry in sys.path]
    return json.dumps({"path": path, "rules": told}).encode()


def _module(name: str) -> dict[str, str]:
    """How a module is found in another process: the one that was started is a file."""
    if name != "__main__":
        return {"module": name}
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return {"module": spec.name}
    file = inspect.getfile(main)
    return {"file": str(Path(file).resolve())}


def command() -> list[str]:
    """How a worker is started."""
    return [sys.executable, "-m", "onecard.python_rules.worker"]


# What a rule says, as numbers over 10^12


def rates(column: Column | None, sales: int, most: int, what: str) -> npt.NDArray[np.uint64] | None:
    """A column of shares or factors as integers over 10^12; ValueError if it is none."""
    if column is None:
        return None
    _check(column, sales, np.dtype(np.float64), what)
    if not np.all((column >= 0) & (column <= most)):
        at = int(np.argmin((column >= 0) & (column <= most)))
        raise ValueError(f"{what}: {column[at]} for sale {at}: it must be from 0 to {most}")
    over_one: npt.NDArray[np.uint64] = np.rint(column * RATE_ONE).astype(np.uint64)
    return over_one


def flags(column: Column | None, sales: int, what: str) -> npt.NDArray[np.bool_] | None:
    """A column of truths; ValueError if it is none."""
    if column is not None:
        _check(column, sales, np.dtype(np.bool_), what)
    return column


def _check(column: Column, sales: int, kind: np.dtype[Any], what: str) -> None:
    if not isinstance(column, np.ndarray) or column.dtype != kind:
        found = column.dtype if isinstance(column, np.ndarray) else type(column).__name__
        raise ValueError(f"{what}: a column of {kind} is needed, not of {found}")
    if column.shape != (sales,):
        raise ValueError(f"{what}: {sales} sales need a column of shape ({sales},), not {column.shape}")
