"""The compiled core. Use it through `onecard.Engine`, which speaks numpy and dataclasses."""

from collections.abc import Callable
from typing import Any, final

__all__ = [
    "ANSWER_SIZE",
    "DEBUG_BUILD",
    "FEED_SIZE",
    "ITEM_SIZE",
    "PART_SIZE",
    "REQUEST_SIZE",
    "Answers",
    "Core",
    "EngineClosed",
    "EngineError",
    "EnginePoisoned",
    "Parts",
    "Period",
    "Server",
    "Stores",
    "__version__",
    "code_text",
    "load_period",
    "parse_code",
    "verify",
]

__version__: str
DEBUG_BUILD: bool
REQUEST_SIZE: int
ANSWER_SIZE: int
ITEM_SIZE: int
PART_SIZE: int
FEED_SIZE: int

class EngineError(Exception):
    """Something is broken: the message says what, and what to do."""

class EnginePoisoned(EngineError):
    """A commit failed. What was not answered is unknown; reopen, and send it again with the same key."""

class EngineClosed(EngineError):
    """The engine was closed, or belongs to the process that this one was forked from."""

@final
class Answers:
    """Rows of ANSWER_SIZE bytes, read-only: a buffer."""

    @property
    def parts(self) -> Parts:
        """Parts of all answers; an answer says which are its own."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Parts:
    """Parts of PART_SIZE bytes, read-only: a buffer."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Stores:
    """Positions of stores: of each its number, what it sold, collected, its net and what is due."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[int, int, int, int, int, int]:
        """Made when it is asked for; IndexError beyond the last. No index counts from the end."""

@final
class Core:
    """One open data directory. Thread-safe; the GIL is released while it works."""

    def __new__(
        cls,
        path: str,
        *,
        journal_bytes_max: int,
        checkpoint_bytes_max: int,
        checkpoint_entries: int,
        secrets: list[tuple[int, bytes]],
    ) -> Core:
        """Open or create. Sizes are address space; a checkpoint pass begins every `checkpoint_entries`.

        `secrets` are keys of 32 bytes, each with its number.
        """
    def execute(
        self, rows: bytes | bytearray | memoryview | Any, items: bytes | bytearray | memoryview | Any
    ) -> Answers:
        """Rows of REQUEST_SIZE bytes; returns as many rows of ANSWER_SIZE when all are durable.

        Items have ITEM_SIZE bytes; a row says which of them are its own.
        """
    def submit(
        self,
        rows: bytes | bytearray | memoryview | Any,
        items: bytes | bytearray | memoryview | Any,
        done: Callable[[Answers | None, Exception | None], None],
    ) -> None:
        """Queue at most 8,192 rows and return; `done(answers, error)` is called from another thread."""
    def alias(self, programme: int, kind: int, value: str) -> tuple[int, int]:
        """Upper and lower half of what an alias is known by; ValueError without keys."""
    def code(self, programme: int, unit: int, serial: int) -> int:
        """The MAC of a coupon code; ValueError without keys."""
    def codes(self, programme: int, unit: int, first: int, count: int) -> list[str]:
        """Texts of coupon codes, from a serial on; ValueError without keys."""
    def enrol(self, programme: int, member: str) -> int:
        """Code of enrolling a member, given as JSON; see `onecard.members`."""
    def update_member(self, programme: int, member: str) -> int: ...
    def erase_member(self, programme: int, id: int) -> int: ...
    def member(self, programme: int, id: int) -> tuple[str | None, list[str]]:
        """A member as JSON, and the numbers of the cards that it holds."""
    def list_members(self, programme: int, after: int, limit: int, tag: str) -> list[str]: ...
    def staff(self, programme: int) -> tuple[int, list[dict[str, Any]]]:
        """Code and sales of each member of staff."""
    def register(self, registrations: list[tuple[str, int, int, int, str]]) -> list[int]:
        """Codes of (what, programme, number, parent or first date, name); see `onecard.Engine.register`."""
    def publish(self, programme: int, version: int, text: str, tables: str) -> int: ...
    def close_day(self, programme: int, date: int) -> dict[str, Any]: ...
    def statement(
        self, programme: int, card: str, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]: ...
    def trial_balance(self, programme: int) -> dict[str, Any]: ...
    def positions(self, programme: int) -> tuple[int, Stores]:
        """Code and positions."""
    def liabilities(self, programme: int) -> dict[str, Any]: ...
    def rules_versions(self, programme: int) -> tuple[int, list[dict[str, int]]]:
        """Code and versions."""
    def explain(self, programme: int, sequence: int) -> dict[str, Any]:
        """Why the sale or the capture with this sequence came to what it did."""
    def explain_dry_run(
        self, rows: bytes | bytearray | memoryview | Any, items: bytes | bytearray | memoryview | Any
    ) -> dict[str, Any]:
        """The same of one row that is tried out."""
    def rules(self, programme: int, version: int) -> dict[str, Any]:
        """A version with its text and tables; 0: the newest."""
    def feed(self, programme: int, since: int, limit: int) -> tuple[int, bytes, int]:
        """Code, rows of FEED_SIZE bytes, and the sequence to go on from."""
    def cursors(self, programme: int) -> tuple[int, int, dict[int, tuple[int, int]]]:
        """Code, open date in days, and sequence and card index of each trigger."""
    def wait_for(self, sequence: int, timeout_s: float) -> bool:
        """True once the entry with this sequence is durable; signals are heeded meanwhile."""
    def period(
        self,
        programme: int,
        since: int | None = None,
        until: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Period:
        """Business dates of the journal, to try rules on."""
    def stats(self) -> dict[str, int]: ...
    def state_digest(self) -> bytes:
        """SHA-256 of the whole state, in a canonical order."""
    def ask_python(self, command: list[str], setup: bytes) -> None:
        """Start a worker and let it evaluate rules in Python; ValueError says why it does not start."""
    def python_rules(self) -> dict[str, Any] | None:
        """What became of asking it; None if nobody is asked."""
    def poisoned(self) -> str | None:
        """Why the engine stopped, or None while it runs."""
    def checkpoint(self) -> None:
        """Run one checkpoint pass now and wait for it."""
    def close(self) -> None: ...
    def serve(self, address: str) -> Server:
        """Serve gRPC on HOST:PORT (loopback only; port 0: any free one)."""

@final
class Period:
    """A loaded period. Never changed; the GIL is released while it is run."""

    programme: int
    dates: tuple[int, int]
    transactions: int
    def run(self, tables: str | None, changed_max: int, answers: bool) -> dict[str, Any]:
        """The outcome under tables as JSON; None: under the rules that were in force."""

@final
class Server:
    address: str
    def stop(self, grace_s: float) -> None:
        """Take no more calls, answer those under way, return when all are answered or `grace_s` is over."""
    def wait(self, timeout_s: float) -> bool:
        """True once the server has stopped, by itself or by `stop`."""

def load_period(
    path: str,
    programme: int,
    since: int | None = None,
    until: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Period:
    """Business dates of the journal of a closed data directory, to try rules on."""

def parse_code(text: str) -> tuple[int, int, int]:
    """Unit, serial and MAC of a coupon code's text; ValueError unless it is one."""

def code_text(unit: int, serial: int, mac: int) -> str:
    """The text of a coupon code: 26 letters and digits."""

def verify(path: str, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Walk the journal of a closed data directory; see `onecard.verify`."""
