"""TOML that knows on which line each key stands, and the problems that are named with it.

A path is the names and indices that lead to a key. Whatever is wrong at a path is told with the line of the
key, or of the nearest table around it: there is always one. No float is ever made of what the text says.
"""

import dataclasses
import re
from typing import Any, TypeAlias

import tomli

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a rule file, and what to do about it."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class RulesError(ValueError):
    """A rule file that cannot be used. `problems` are in the order of their lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(map(str, self.problems)))


class Located:
    """Parsed TOML that knows on which line each key stands."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        try:
            self.data = tomli.loads(text, parse_float=Float)
        except (ValueError, RecursionError) as error:
            raise RulesError([_syntax(error, text, file)]) from None
        self._text = text
        self._lines: dict[KeyPath, int] = {}

    def error(self, problems: list[tuple[KeyPath, str]]) -> RulesError:
        """The problems with their lines: that of the key, or of the nearest table around it."""
        # Only now: to know the lines takes several times as long as to read the text.
        self._locate(self._text.replace("\r\n", "\n").split("\n"))
        return RulesError([Problem(self._file, self._line(path), message) for path, message in problems])

    def _line(self, path: KeyPath) -> int:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _locate(self, lines: list[str]) -> None:
        """Statement by statement: the fewest lines that are TOML by themselves are one statement."""
        table: KeyPath = ()
        counts: dict[KeyPath, int] = {}
        at = 0
        while at < len(lines):
            end, statement = _statement(lines, at)
            if lines[at].lstrip().startswith("["):
                table = _table(_names(statement), lines[at].lstrip().startswith("[["), counts)
                for length in range(1, len(table) + 1):
                    self._lines.setdefault(table[:length], at + 1)
            else:
                self._note(table, statement, at + 1)
            at = end

    def _note(self, path: KeyPath, value: Any, line: int) -> None:
        children = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for name, child in children:
            self._lines.setdefault((*path, name), line)
            self._note((*path, name), child, line)


@dataclasses.dataclass(frozen=True, slots=True)
class Float:
    """A TOML float, as it was written: refused where it stands, never rounded."""

    text: str


def _syntax(error: Exception, text: str, file: str) -> Problem:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
    line = int(found[2]) if found and found[2] else max(1, len(text.splitlines()))
    return Problem(file, line, f"this is not TOML: {found[1] if found else error}")


def _statement(lines: list[str], at: int) -> tuple[int, dict[str, Any]]:
    """End of the statement that begins at a line, and what it says; the whole text is known to be TOML."""
    for end in range(at + 1, len(lines)):
        try:
            return end, tomli.loads("\n".join(lines[at:end]), parse_float=Float)
        except tomli.TOMLDecodeError:
            continue
    return len(lines), tomli.loads("\n".join(lines[at:]), parse_float=Float)


def _names(header: dict[str, Any]) -> KeyPath:
    """Names of a table header, read by itself: `[a.b]` is {a: {b: {}}}, `[[a]]` is {a: [{}]}."""
    names: KeyPath = ()
    value: Any = header
    while value:
        if isinstance(value, list):
            value = value[0]
        else:
            ((name, value),) = value.items()
            names += (name,)
    return names


def _table(names: KeyPath, repeated: bool, counts: dict[KeyPath, int]) -> KeyPath:
    """Path of the table that a header opens; `counts` holds the newest index of each list of tables."""
    path: KeyPath = ()
    for number, name in enumerate(names, 1):
        path += (name,)
        if repeated and number == len(names):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path
