"""Rule files: TOML that the business writes, checked here, compiled to the tables the engine evaluates.

docs/rules.md is the reference. Three steps, each on the one before: `located` parses the text and knows the
line of every key; the models of `source` check shape and types, and `wording` says in our words what pydantic
finds; `compiler` scales decimals to integers and checks what spans several keys, with `cards` for what makes
kinds of cards: units, bundles, channels; `named` holds stores and merchants against those of a programme.
All problems of a step are reported together, each with file, line
and mend. `sentences` says what a file does, `schema` tells editors what one may say. Decimals are exact from
the first character on: no float is ever made.
"""

import contextlib
import dataclasses
import gc
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from onecard.rules.compiler import Compiler
from onecard.rules.located import Located, Problem, RulesError
from onecard.rules.named import unregistered
from onecard.rules.schema import json_schema
from onecard.rules.sentences import sentences
from onecard.rules.source import RuleFile
from onecard.rules.triggers import Trigger, triggers_of
from onecard.rules.wording import explained

__all__ = ["Changes", "Problem", "RuleFile", "Rules", "RulesError", "Trigger", "json_schema"]


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """Sentences that are said of one rule file and not of another, each in its file's order."""

    went: tuple[str, ...] = ()
    came: tuple[str, ...] = ()


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Where millions of objects stay, to look among them for garbage took two fifths of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """A rule file that is valid: as it was written, as it was read, and what it compiles to."""

    text: str
    source: RuleFile
    tables: dict[str, Any]
    """Flat tables of integers (docs/rules.md)."""
    file: str = dataclasses.field(default="rules", compare=False)
    """The name that problems carry."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a rule file; RulesError names file, line and mend of everything that is wrong."""
        file = os.fspath(path)
        data = Path(file).read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RulesError([Problem(file, line, "this is not UTF-8: save the file as UTF-8")]) from None
        return cls.parse(text, file)

    @classmethod
    def parse(cls, text: str, file: str = "rules") -> Self:
        """Read rules from text; `file` is the name that problems carry."""
        with _without_collector():
            located = Located(text, file)
            try:
                source = RuleFile.model_validate(located.data)
            except ValidationError as error:
                raise located.error(explained(error)) from None
            compiler = Compiler(source)
            tables = compiler.tables()
            if compiler.problems:
                raise located.error(compiler.problems)
            return cls(text, source, tables, file)

    @property
    def tables_json(self) -> str:
        """The tables as JSON, in one canonical form: equal rules give equal text."""
        return json.dumps(self.tables, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """What is done after the commit, by `onecard.triggers`; no part of the tables."""
        return triggers_of(self.source)

    def check_registered(self, stores: Collection[int], merchants: Collection[int]) -> None:
        """RulesError names every store and merchant of the file that is not among these."""
        if problems := unregistered(self.source, stores, merchants):
            raise Located(self.text, self.file).error(problems)

    def explain(self) -> list[str]:
        """What the rules do, in sentences."""
        return list(sentences(self.source))

    def changes(self, new: "Rules") -> Changes | None:
        """What these rules say no more, and what they say newly, as `new` has them; None: both do the same.

        What only stands elsewhere, or is only written in another way, is no change.
        """
        if self.tables == new.tables and self.triggers == new.triggers:
            return None
        before, after = self.explain(), new.explain()
        went = tuple(sentence for sentence in before if sentence not in after)
        return Changes(went, tuple(sentence for sentence in after if sentence not in before))
