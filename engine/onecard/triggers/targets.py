"""What a runner needs of an engine: the same of one in this process and of one that is served."""

import datetime
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from onecard import rows
from onecard.client import Client, Grant, SetTier
from onecard.client import Cursor as At
from onecard.codes import Kind
from onecard.engine import Engine
from onecard.feed import FeedBatch
from onecard.members import Member
from onecard.reports import Cursors, PublishedRules
from onecard.triggers.deciding import Firing

GROUP = 1_000
"""Most grants that are asked for together: what a message carries, so that they stand or fall together."""

_TAG = 0x7472
"""First half-word of the ids of grants by triggers."""
_PAGE = 1_000


class Told(NamedTuple):
    """How a grant was answered."""

    code: int
    reason: int
    sequence: int
    """Its entry; 0: it left nothing behind, and may be asked for again."""
    replayed: bool


class Target(Protocol):
    """An engine, and in it a programme."""

    def follow(self, *, to_end: bool) -> Generator[FeedBatch]: ...
    def cursors(self) -> Cursors: ...
    def rules(self, version: int) -> PublishedRules: ...
    def birthdays(self) -> Iterator[tuple[int, datetime.date | None]]: ...
    def grant(self, firings: Sequence[Firing], terminal: int, date: datetime.date) -> list[Told]: ...


def id_of(firing: Firing) -> tuple[int, int]:
    """Both halves of the id of a grant: what it is for, so that a retry has the same."""
    return _TAG << 48 | firing.trigger << 32 | firing.card, firing.sequence


class InProcess:
    """An engine in this process."""

    def __init__(self, engine: Engine, programme: int = 1) -> None:
        self._engine = engine
        self._programme = programme

    def follow(self, *, to_end: bool) -> Generator[FeedBatch]:
        """The feed from its beginning."""
        return self._engine.follow(to_end=to_end, programme=self._programme)

    def cursors(self) -> Cursors:
        """Where the triggers are, and the open date."""
        return self._engine.cursors(self._programme)

    def rules(self, version: int) -> PublishedRules:
        """A version of the rules."""
        return self._engine.rules(version, programme=self._programme)

    def birthdays(self) -> Iterator[tuple[int, datetime.date | None]]:
        """Members and their birthdays."""
        after = 0
        while page := self._engine.list_members(after=after, limit=_PAGE, programme=self._programme):
            yield from _born(page)
            after = page[-1].id

    def grant(self, firings: Sequence[Firing], terminal: int, date: datetime.date) -> list[Told]:
        """Ask for grants, in order, all or none of them in one group."""
        sequences, triggers, cards, bundles, tiers = (
            np.array(column) for column in zip(*firings, strict=True)
        )
        ids = np.array([id_of(firing) for firing in firings], np.uint64).reshape(-1, 2)
        batch = rows.grant(
            None,
            bundles + tiers,
            programme=self._programme,
            terminal=terminal,
            business_date=date,
            id=(ids[:, 0], ids[:, 1]),
        )
        of_tier = tiers != 0
        batch["kind"][of_tier], batch["amount"][of_tier] = Kind.SET_TIER, 0
        batch["items"], batch["first_item"] = 1, np.arange(len(batch))
        answers = self._engine.execute(rows.Requests(batch, rows.cursor(triggers, sequences, cards)))
        told = answers[["code", "reason", "sequence", "replayed"]].tolist()
        return [Told(code, reason, sequence, bool(replayed)) for code, reason, sequence, replayed in told]


class Served:
    """An engine that is served, as a client sees it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def follow(self, *, to_end: bool) -> Generator[FeedBatch]:
        """The feed from its beginning."""
        return self._client.follow(to_end=to_end)

    def cursors(self) -> Cursors:
        """Where the triggers are, and the open date."""
        return self._client.cursors()

    def rules(self, version: int) -> PublishedRules:
        """A version of the rules."""
        return self._client.rules(version)

    def birthdays(self) -> Iterator[tuple[int, datetime.date | None]]:
        """Members and their birthdays."""
        after = 0
        while page := self._client.list_members(after=after, limit=_PAGE):
            yield from _born(page)
            after = page[-1].id

    def grant(self, firings: Sequence[Firing], terminal: int, date: datetime.date) -> list[Told]:
        """Ask for grants, in order, all of them in one message."""
        requests = (_request(firing, self._client.programme, terminal, date) for firing in firings)
        answers = self._client.transact(requests, message_size=GROUP)
        return [Told(answer.code, answer.reason, answer.sequence, answer.replayed) for answer in answers]


def _request(firing: Firing, programme: int, terminal: int, date: datetime.date) -> Grant | SetTier:
    high, low = id_of(firing)
    card = At(firing.trigger, firing.sequence, firing.card)
    id = (high << 64 | low).to_bytes(16, "big")
    if firing.tier:
        return SetTier(
            card=card, tier=firing.tier, programme=programme, terminal=terminal, business_date=date, id=id
        )
    return Grant(
        card=card, bundle=firing.bundle, programme=programme, terminal=terminal, business_date=date, id=id
    )


def _born(members: Iterable[Member]) -> Iterator[tuple[int, datetime.date | None]]:
    return ((member.id, member.birthday) for member in members)
