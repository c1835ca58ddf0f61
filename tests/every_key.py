"""A rule file with every key (every_key.toml), and what it is like with one of them changed."""

import copy
import datetime
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onecard.rules.located import Float, KeyPath

EVERY_KEY = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())

VALUES: list[Any] = [
    *(-1, 0, 1, 5, 300, 366, 70_000, 2**32, Float("1.5"), True, False),
    *("", "5", "5%", "0.50 %", "5,0", "-5", "5%%", "x", "x" * 65, "1" * 31),
    *("growth", "day", "store", "offset", "gym", "bonus", "cards"),
    *([], [1], [0], {}, datetime.date(2030, 1, 31), datetime.datetime(2030, 1, 31, 12), datetime.time(12)),
]
"""Values of every type, most of them wrong in most places."""


def _paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in entries:
        yield (*path, name)
        yield from _paths(child, (*path, name))


PATHS = list(_paths(EVERY_KEY))
"""Where something is in the file, however deep."""


def replaced(path: KeyPath, value: Any) -> dict[str, Any]:
    """The file with another value there."""
    data, parent = _copied(path)
    parent[path[-1]] = value
    return data


def without(path: KeyPath) -> dict[str, Any]:
    """The file without what is there."""
    data, parent = _copied(path)
    del parent[path[-1]]
    return data


def _copied(path: KeyPath) -> tuple[dict[str, Any], Any]:
    data = copy.deepcopy(EVERY_KEY)
    parent: Any = data
    for name in path[:-1]:
        parent = parent[name]
    return data, parent
