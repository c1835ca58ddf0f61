"""The engine in this process: numpy batches in, numpy answers out, everything durable first.

`Engine` is a thin face of the compiled core. It may be used from many threads; rows of one batch see
those before them, batches see those submitted before them. A batch is copied before a call returns.
The GIL is released while the core works. A refusal is a code in its row; exceptions are for what is
broken: `EnginePoisoned` when a commit failed, `EngineClosed` after `close` and in a forked process.
"""

import os
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from onecard import _core, feed, members, python_rules, rows
from onecard.explain import Condition, Explanation, Fate, Gift, Verdict
from onecard.feed import FeedBatch
from onecard.members import Holder, Member
from onecard.messages import answer_of_row
from onecard.python_rules import PythonRules
from onecard.reports import (
    Cursors,
    DayReport,
    Growth,
    Liabilities,
    MerchantLiability,
    Positions,
    PublishedRules,
    RulesVersion,
    RulesVersions,
    Staff,
    StaffSales,
    Statement,
    StatementLine,
    Stats,
    StorePositions,
    TrialBalance,
    Verification,
)
from onecard.rules import Rules
from onecard.secrets import Secrets
from onecard.what_if import Period, WhatIf

JOURNAL_BYTES_MAX = 1 << 40
CHECKPOINT_BYTES_MAX = 1 << 38
CHECKPOINT_ENTRIES = 2_000_000


class Engine:
    """One open data directory. Opening creates it; only one engine, in any process, may have it open.

    Sizes are address space, not disk: the journal and the checkpoint may grow up to them. A checkpoint
    pass begins every `checkpoint_entries` entries; rows that passes cannot follow are slowed down, so that
    reopening replays some three times as many at most. At most `in_flight_max` batches are submitted and not
    yet durable at a time. `secrets` are the keys for PINs, aliases and coupon codes, which are kept outside
    the directory: without them what needs keys is refused. `python_rules` are rules in Python, or modules
    that have some (`onecard.python_rules`): EngineError if they cannot be loaded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        journal_bytes_max: int = JOURNAL_BYTES_MAX,
        checkpoint_bytes_max: int = CHECKPOINT_BYTES_MAX,
        checkpoint_entries: int = CHECKPOINT_ENTRIES,
        in_flight_max: int = 8,
        secrets: Secrets | None = None,
        python_rules: python_rules.Rules = (),
    ) -> None:
        if in_flight_max < 1:
            raise ValueError("in_flight_max: at least one batch must be in flight")
        self._slots = threading.BoundedSemaphore(in_flight_max)
        self._pid = os.getpid()
        self._core = _core.Core(
            os.fspath(path),
            journal_bytes_max=journal_bytes_max,
            checkpoint_bytes_max=checkpoint_bytes_max,
            checkpoint_entries=checkpoint_entries,
            secrets=[] if secrets is None else secrets.keys(),
        )
        # If nobody closes it, it is closed when it is collected, or at the interpreter's end, before that
        # takes away what the completion of futures needs.
        weakref.finalize(self, _close, self._core, self._pid)
        if asked := list(python_rules):
            self._ask_python(asked)

    def _ask_python(self, asked: Sequence[Any]) -> None:
        try:
            self._core.ask_python(python_rules.command(), python_rules.setup(asked))
        except BaseException as error:
            self._core.close()
            if isinstance(error, ValueError):
                raise _core.EngineError(str(error)) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Transactions

    def execute(self, batch: rows.Batch | rows.Requests) -> rows.Answers:
        """Answers of a batch of any length (`rows.REQUEST`), row for row, when all are durable.

        Groups of 8,192 rows are executed in order. If one fails, those before it are posted: the
        exception is that of the first that failed, and a retry with the same keys tells them apart.
        """
        asked, items = _checked(batch)
        if len(batch) <= rows.GROUP_MAX:
            return _answers(self._core.execute(asked, items))
        futures = [
            self.submit(batch[at : at + rows.GROUP_MAX]) for at in range(0, len(batch), rows.GROUP_MAX)
        ]
        return rows.joined([future.result() for future in futures])

    def submit(self, batch: rows.Batch | rows.Requests) -> Future[rows.Answers]:
        """Queue at most 8,192 rows; the future's result are their answers, when all are durable.

        Blocks while `in_flight_max` batches are under way. The answers are read-only.
        """
        asked, items = _checked(batch)
        if len(batch) > rows.GROUP_MAX:
            raise ValueError(f"submit takes at most {rows.GROUP_MAX} rows, not {len(batch)}: use execute")
        future: Future[rows.Answers] = Future()
        future.set_running_or_notify_cancel()

        def done(answers: _core.Answers | None, error: Exception | None) -> None:
            self._slots.release()
            if answers is None:
                future.set_exception(
                    error or _core.EngineError("the engine gave neither answers nor an error")
                )
            else:
                future.set_result(_answers(answers))

        if os.getpid() != self._pid:  # before waiting for slots that only the parent can free
            raise _core.EngineClosed(
                "this engine belongs to the process that this one was forked from: open another"
            )
        self._slots.acquire()
        try:
            self._core.submit(asked, items, done)
        except BaseException:
            self._slots.release()
            raise
        return future

    # Registration and rules: each is answered with a code

    def register_programme(self, programme: int, name: str, business_date: rows.Day) -> int:
        """Register a programme with its first business date."""
        return self.register([("programme", programme, programme, rows.days(business_date), name)])[0]

    def register_merchant(self, merchant: int, name: str, *, programme: int = 1) -> int:
        """Register a merchant."""
        return self.register([("merchant", programme, merchant, 0, name)])[0]

    def register_store(self, store: int, merchant: int, name: str, *, programme: int = 1) -> int:
        """Register a store of a merchant."""
        return self.register([("store", programme, store, merchant, name)])[0]

    def register_terminal(self, terminal: int, store: int, *, programme: int = 1) -> int:
        """Register a terminal of a store."""
        return self.register([("terminal", programme, terminal, store, "")])[0]

    def register(self, registrations: Sequence[tuple[str, int, int, int, str]]) -> list[int]:
        """Register many, in order: (what, programme, number, parent, name).

        What is `programme` (parent: first business date in days), `merchant` (parent: 0), `store` (parent:
        merchant) or `terminal` (parent: store; name: empty).
        """
        return self._core.register(list(registrations))

    def publish(
        self, rules: Rules | str | os.PathLike[str], *, programme: int = 1, version: int | None = None
    ) -> int:
        """Publish rules, or a rule file; a RulesError names file, line and mend; the code.

        Without a version it is the next one, or the newest if that is the same text: publishing twice
        changes nothing. ValueError says what of the tables the engine does not take; of stores and merchants
        that are not registered a RulesError does, too.
        """
        if not isinstance(rules, Rules):
            rules = Rules.load(rules)
        if version is None:
            version = self.rules(programme=programme).number_for(rules.text)
        if rules.source.triggers:
            self.check_registered(rules, programme=programme)
        try:
            return self._core.publish(programme, version, rules.text, rules.tables_json)
        except ValueError:
            self.check_registered(rules, programme=programme)
            raise

    def check_registered(self, rules: Rules, *, programme: int = 1) -> int:
        """RulesError names each store and merchant of the rules that is not registered; else the code."""
        found = self.positions(programme)
        if found.code == 0:
            merchants = self.liabilities(programme).merchants
            rules.check_registered(
                {store.store for store in found.stores}, {one.merchant for one in merchants}
            )
        return found.code

    def rules_versions(self, programme: int = 1) -> RulesVersions:
        """Versions of the rules that were published, oldest first."""
        code, versions = self._core.rules_versions(programme)
        return RulesVersions(code, tuple(RulesVersion(**_dated(version)) for version in versions))

    def rules(self, version: int = 0, *, programme: int = 1) -> PublishedRules:
        """A version of the rules with its text and tables; 0: the newest. The code is 25 if there is none."""
        found = _dated(self._core.rules(programme, version))
        code, text, tables = (found.pop(name) for name in ("code", "text", "tables"))
        return PublishedRules(code) if code else PublishedRules(code, RulesVersion(**found), text, tables)

    def explain(self, sale: int | rows.Requests | rows.Batch, *, programme: int = 1) -> Explanation:
        """Why a sale or a capture came to what it did: an entry, by its sequence, or one that is tried out.

        What is tried out is one row of `rows.purchase` or `rows.authorise` with `dry_run`, and its items.
        """
        if isinstance(sale, int):
            return _explanation(self._core.explain(programme, sale))
        return _explanation(self._core.explain_dry_run(*_checked(sale)))

    # What-if

    def period(
        self,
        *,
        since: rows.Day | None = None,
        until: rows.Day | None = None,
        programme: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Period:
        """Load business dates from the journal, as far as it is durable, to try rules on them.

        Without dates, all there are. The engine goes on meanwhile; see `onecard.what_if`.
        """
        first, last = (None if date is None else rows.days(date) for date in (since, until))
        return Period(self._core.period(programme, first, last, progress))

    def what_if(
        self,
        rules: Rules | str | os.PathLike[str],
        *,
        since: rows.Day | None = None,
        until: rows.Day | None = None,
        programme: int = 1,
    ) -> WhatIf:
        """What business dates would have come to under other rules, beside what they came to.

        To try several rules, load a `period` once and `run` each on it.
        """
        if not isinstance(rules, Rules):
            rules = Rules.load(rules)
        return self.period(since=since, until=until, programme=programme).run(rules)

    # The day and the books

    def close_day(self, business_date: rows.Day, *, programme: int = 1) -> DayReport:
        """Close the open business date; a date that was closed before is reported as it was then."""
        return day_report(self._core.close_day(programme, rows.days(business_date)))

    def statement(self, card: str, *, programme: int = 1, limit: int = 100, before: int = 0) -> Statement:
        """A card's newest entries, at most `limit`, before the sequence `before` (0: from the newest)."""
        code, lines = self._core.statement(programme, card, limit, before)
        return Statement(code, tuple(StatementLine(**_dated(line)) for line in lines))

    def trial_balance(self, programme: int = 1) -> TrialBalance:
        """Totals of all accounts, and their sums, which are zero."""
        found = self._core.trial_balance(programme)
        return TrialBalance(code=found["code"]) if found["code"] else TrialBalance(**_dated(found))

    def positions(self, programme: int = 1) -> Positions:
        """Live positions of the stores."""
        code, stores = self._core.positions(programme)
        return Positions(code, StorePositions(stores))

    def liabilities(self, programme: int = 1) -> Liabilities:
        """Points (1/10,000) of the cards, by the merchant that issued them, and its newest growth."""
        found = self._core.liabilities(programme)
        date = found["growth_date"]
        return Liabilities(
            found["code"],
            None if date is None else rows.day(date),
            tuple(MerchantLiability(**merchant) for merchant in found["merchants"]),
        )

    def staff(self, programme: int = 1) -> Staff:
        """What each member of staff sold."""
        code, sales = self._core.staff(programme)
        return Staff(code, tuple(StaffSales(**one) for one in sales))

    # The feed

    def feed(
        self, since: int = 1, *, limit: int = feed.LIMIT, wait_s: float = 0.0, programme: int = 1
    ) -> FeedBatch:
        """Entries of a programme from the sequence `since` on, at most `limit` and 65,536.

        If there is no entry yet of that sequence, it waits for it at most so long; a signal ends the wait.
        """
        if wait_s > 0:
            self._core.wait_for(since, wait_s)
        code, entries, after = self._core.feed(programme, since, limit)
        return FeedBatch(code, np.frombuffer(entries, feed.ENTRY), after)

    def follow(self, since: int = 1, *, to_end: bool = False, programme: int = 1) -> Generator[FeedBatch]:
        """Batches from a sequence on, without an end; one without entries says that there is none for now.

        Such a one comes at the end of what is there, and then every second; `to_end`: it is the last.
        """
        wait_s = 0.0
        while True:
            batch = self.feed(since, wait_s=wait_s, programme=programme)
            at_end = batch.code != 0 or batch.next == since
            since = batch.next
            if at_end or len(batch.entries):
                yield batch
            if batch.code or (at_end and to_end):
                return
            wait_s = feed.QUIET_S if at_end else 0.0

    def cursors(self, programme: int = 1) -> Cursors:
        """Where the triggers are, and the open date."""
        code, date, at = self._core.cursors(programme)
        return Cursors(code, None if code else rows.day(date), at)

    # What needs keys: ValueError without

    # Members

    def enrol(self, member: Member, *, programme: int = 1) -> int:
        """Add a member: 0, also if the same is there; 94 if the id was taken; 30; 58."""
        return self._core.enrol(programme, members.to_json(member))

    def update_member(self, member: Member, *, programme: int = 1) -> int:
        """Replace what is known of a member: 0; 25 if there is none; 30."""
        return self._core.update_member(programme, members.to_json(member))

    def member(self, id: int, *, programme: int = 1) -> Holder:
        """What is known of a member, and the numbers of the cards that it holds."""
        found, cards = self._core.member(programme, id)
        return Holder(None if found is None else members.from_json(found), tuple(cards))

    def list_members(
        self, *, after: int = 0, limit: int = 100, tag: str = "", programme: int = 1
    ) -> list[Member]:
        """Members by id, above `after`, at most `limit` and 1,000; with a tag those that have it."""
        return [members.from_json(found) for found in self._core.list_members(programme, after, limit, tag)]

    def erase_member(self, id: int, *, programme: int = 1) -> int:
        """Erase all that is known of a member; cards and entries stay with the id: 0; 25."""
        return self._core.erase_member(programme, id)

    def alias(self, kind: int, value: str, *, programme: int = 1) -> rows.Items:
        """The item for an alias: of kind 1 a phone number, of 2 to 255 what the business says."""
        high, low = self._core.alias(programme, kind, value)
        return rows.alias(kind, high << 64 | low)

    def codes(self, unit: int, first: int, count: int, *, programme: int = 1) -> list[str]:
        """Texts of so many coupon codes of a unit, from the serial `first` on, to be printed."""
        return self._core.codes(programme, unit, first, count)

    # The engine itself

    def stats(self) -> Stats:
        """How large everything is: journal, tail, cards, keys."""
        return Stats(**self._core.stats())

    def state_digest(self) -> bytes:
        """SHA-256 of the whole state: equal for equal journals, anywhere."""
        return self._core.state_digest()

    def python_rules(self) -> PythonRules | None:
        """What became of asking the rules in Python; None if the engine was opened without any."""
        found = self._core.python_rules()
        return None if found is None else PythonRules(**found)

    def poisoned(self) -> str | None:
        """Why the engine stopped, or None while it runs."""
        return self._core.poisoned()

    def checkpoint(self) -> None:
        """Run one checkpoint pass now and wait for it."""
        self._core.checkpoint()

    def serve(self, address: str) -> _core.Server:
        """Serve gRPC on HOST:PORT, loopback only (port 0: any free one); stop it before `close`."""
        return self._core.serve(address)

    def close(self) -> None:
        """Let what was submitted become durable, and release the directory. Closing twice is harmless."""
        self._core.close()


def _close(core: _core.Core, pid: int) -> None:
    if os.getpid() == pid:
        core.close()


def verify(path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> Verification:
    """Walk the whole journal of a closed data directory: chain, conservation, and state against checkpoint.

    `progress(done, total)` is called now and then.
    """
    found = _core.verify(os.fspath(path), progress)
    return Verification(**(found | {"problems": tuple(found["problems"])}))


def day_report(found: dict[str, Any]) -> DayReport:
    """The core's report of a close as a record."""
    if found["code"]:
        return DayReport(code=found["code"])
    growth = found["growth"]
    stores = StorePositions(found["stores"])
    return DayReport(**(_dated(found) | {"stores": stores, "growth": Growth(**growth) if growth else None}))


def _explanation(found: dict[str, Any]) -> Explanation:
    """The core's explanation as a record."""
    answers = _answers(found["answers"])
    answer = answer_of_row(answers[0], answers.parts_of(0))
    if found["code"]:
        return Explanation(found["code"], answer=answer if answer.code else None)
    version = RulesVersion(**_dated(found["version"]))
    return Explanation(0, version, answer, tuple(map(_verdict, found["verdicts"])), found["priced_by"])


def _verdict(found: dict[str, Any]) -> Verdict:
    return Verdict(
        Gift(found["gift"]),
        found["id"],
        found["name"],
        found["gives"],
        Fate(found["fate"]),
        Condition(found["missed"]),
    )


def _dated(found: dict[str, Any]) -> dict[str, Any]:
    return {name: rows.day(value) if name.endswith("_date") else value for name, value in found.items()}


def _checked(
    batch: rows.Batch | rows.Requests,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | bytes]:
    """The bytes of the rows and of their items; the core copies them before it releases the GIL."""
    asked = batch.rows if isinstance(batch, rows.Requests) else batch
    if not isinstance(asked, np.ndarray) or asked.dtype != rows.REQUEST or asked.ndim != 1:
        what = (
            f"{asked.ndim}-dimensional {asked.dtype}"
            if isinstance(asked, np.ndarray)
            else type(asked).__name__
        )
        raise TypeError(f"a batch is a one-dimensional array of onecard.rows.REQUEST, not {what}")
    if not isinstance(batch, rows.Requests):
        return _bytes(asked), b""
    items = batch.items
    if not isinstance(items, np.ndarray) or items.dtype != rows.ITEM or items.ndim != 1:
        raise TypeError(
            "items are a one-dimensional array of onecard.rows.ITEM: make them with rows.with_items"
        )
    return _bytes(asked), _bytes(items)


def _bytes(array: rows.Batch) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8)


def _answers(found: _core.Answers) -> rows.Answers:
    answers = np.frombuffer(memoryview(found), rows.ANSWER)
    return rows.Answers(answers, np.frombuffer(memoryview(found.parts), rows.PART))
