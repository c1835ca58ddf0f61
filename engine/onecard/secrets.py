"""The keys for PINs, aliases and coupon codes, in a file outside the data directory.

A file has one key a line, `number hexkey`: a number from 1 and 64 hexadecimal digits; blank lines and
what follows a # do not count. New PINs and codes are made with the key of the greatest number, older ones
are checked with the key that they were made with, and aliases are hashed with that of the least. So a key is
never removed while something lives that was made with it, and the first never at all.

Invariants: a file is written whole or not at all, and its owner alone may read it - one that others may read
is refused; no text, error or repr shows a key.
"""

import os
import secrets as system
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

KEY_BYTES = 32
NUMBER_MAX = 2**32 - 1

_HEADER = """\
# Keys of onecard. Keep them apart from the data, and a copy in a safe place: without them no PIN, alias or
# code is known any more, and whoever has them can make codes.
"""


class SecretsError(Exception):
    """A file of keys cannot be used: the message says why, and how to mend it."""


class Secrets:
    """Keys by their numbers; see the module's docstring."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        for number, key in keys.items():
            if not 1 <= number <= NUMBER_MAX:
                raise ValueError(f"key {number}: the number must lie within 1 to {NUMBER_MAX}")
            if len(key) != KEY_BYTES:
                raise ValueError(f"key {number}: it must have {KEY_BYTES} bytes, not {len(key)}")
        if not keys:
            raise ValueError("at least one key is needed")
        self._keys = dict(sorted(keys.items()))

    def __repr__(self) -> str:
        return f"<Secrets: keys {', '.join(map(str, self._keys))}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("keys are not pickled: load them where they are needed")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the keys, ascending."""
        return tuple(self._keys)

    def keys(self) -> list[tuple[int, bytes]]:
        """Number and key of each, for the core."""
        return list(self._keys.items())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The keys of a file; SecretsError if others may read it, or a line is no key."""
        with open(path, encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SecretsError(f"{os.fspath(path)}: others may read it: run `chmod 600` on it")
            lines = file.readlines()
        keys: dict[int, bytes] = {}
        for at, line in enumerate(lines, 1):
            if words := line.partition("#")[0].split():
                number, key = _key(words, f"{os.fspath(path)}:{at}")
                if number in keys:
                    raise SecretsError(f"{os.fspath(path)}:{at}: key {number} is there twice")
                keys[number] = key
        if not keys:
            raise SecretsError(f"{os.fspath(path)}: there is no key in it")
        return cls(keys)

    @classmethod
    def new(cls, path: str | os.PathLike[str]) -> Self:
        """Make a file with one new key, readable by its owner alone; FileExistsError if there is one."""
        made = cls({1: system.token_bytes(KEY_BYTES)})
        made._write(Path(path), replace=False)
        return made

    @classmethod
    def rotate(cls, path: str | os.PathLike[str]) -> Self:
        """Add a key to a file, with the next number: what is new is made with it."""
        found = cls.load(path)
        newest = found.numbers[-1]
        if newest == NUMBER_MAX:
            raise SecretsError(f"{os.fspath(path)}: no number is left for another key")
        made = cls({**found._keys, newest + 1: system.token_bytes(KEY_BYTES)})
        made._write(Path(path), replace=True)
        return made

    def _write(self, path: Path, *, replace: bool) -> None:
        # Written aside and moved there: nobody, and no crash, meets half a file. The mode of mkstemp is 0600.
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(_HEADER)
                file.writelines(f"{number} {key.hex()}\n" for number, key in self._keys.items())
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(aside, path)
            else:
                os.link(aside, path)  # unlike replace, it fails if there is one
        finally:
            Path(aside).unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _key(words: list[str], where: str) -> tuple[int, bytes]:
    mend = f"{where}: write a number from 1 and {2 * KEY_BYTES} hexadecimal digits"
    if len(words) != 2 or not (words[0].isascii() and words[0].isdigit()):
        raise SecretsError(mend)
    try:
        key = bytes.fromhex(words[1])
    except ValueError:
        raise SecretsError(mend) from None
    number = int(words[0])
    if len(key) != KEY_BYTES or not 1 <= number <= NUMBER_MAX:
        raise SecretsError(mend)
    return number, key
