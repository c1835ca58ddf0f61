"""Triggers: what is granted after the commit, for what cards did or did not do (docs/triggers.md).

A `Runner` follows the feed from its beginning, decides what fires (`deciding`, from what `cards` knows), and
asks for the grants, each with its trigger's cursor, through a `Target` (`targets`). It keeps nothing of its
own: it may be stopped or killed between any two steps and started anew, and neither repeats nor leaves out a
grant. Two of them at a time do the same twice, and the engine refuses the second.
"""

import datetime
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onecard import codes
from onecard.rows import card_text
from onecard.triggers.deciding import Cursor, Decider, Firing
from onecard.triggers.targets import GROUP, InProcess, Served, Target, Told

__all__ = [
    "Cursor",
    "Firing",
    "InProcess",
    "Outcome",
    "Runner",
    "RunnerError",
    "Served",
    "Tally",
    "Target",
    "Told",
]

_PAUSE_S = 0.5
"""So long it waits if the engine has no room, before it asks again."""
_ATTEMPTS = 5
"""So often it asks again at once whose day was closed meanwhile."""


class RunnerError(Exception):
    """What a runner cannot mend: the message says what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a firing."""

    firing: Firing
    card: str
    """The card's number."""
    told: Told


@dataclass(slots=True)
class Tally:
    """How far a runner is, and what it did since it was started."""

    next: int = 1
    """The entry that it looks at next."""
    at_end: bool = False
    granted: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    """How many, by code."""
    repeated: int = 0
    """Done before, by another or by a request whose answer was lost."""


class Runner:
    """Does what the triggers of a programme say, at a terminal of it."""

    def __init__(
        self,
        target: Target,
        terminal: int,
        *,
        told: Callable[[Outcome], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.tally = Tally()
        self._target = target
        self._terminal = terminal
        self._told = told
        self._sleep = sleep

    def run(self, *, to_end: bool = False, stopping: Callable[[], bool] = lambda: False) -> Tally:
        """Follow the feed, to its end or until `stopping`: asked after every batch, and once a second."""
        found = self._target.cursors()
        if found.code:
            raise RunnerError("there is no such programme: name another with --programme")
        decider = Decider(self._text, self._target.birthdays, dict(found.at))
        feed = self._target.follow(to_end=to_end)
        try:
            for batch in feed:
                firings = decider.take(batch.entries)
                while group := list(itertools.islice(firings, GROUP)):
                    self._grant(group, decider)
                self.tally.next, self.tally.at_end = batch.next, not len(batch.entries)
                if stopping():
                    break
        finally:
            feed.close()
        return self.tally

    def _text(self, version: int) -> str:
        return self._target.rules(version).text

    def _grant(self, firings: Sequence[Firing], decider: Decider) -> None:
        """Ask for grants until all are kept: in order, because a cursor never goes back."""
        left = list(firings)
        for attempt in itertools.count(1):
            told = self._target.grant(left, self._terminal, self._open_date())
            kept = list(itertools.takewhile(_is_kept, told))
            for firing, one in zip(left, kept, strict=False):
                self._count(one)
                number = card_text(*decider.cards.number_of(firing.card))
                self._told(Outcome(firing, number, one))
            left = left[len(kept) :]
            if left and self._was_done(left[0]):
                self.tally.repeated += 1
                left = left[1:]
            elif left:
                self._mend(told[len(kept)], attempt)
            if not left:
                return

    def _open_date(self) -> datetime.date:
        date = self._target.cursors().open_date
        assert date is not None, "the programme was there"
        return date

    def _was_done(self, firing: Firing) -> bool:
        """Whether somebody else did it, under the same id with another content."""
        return self._target.cursors().at.get(firing.trigger, (0, 0)) >= (firing.sequence, firing.card)

    def _mend(self, told: Told, attempt: int) -> None:
        """Wait for what mends itself; RunnerError says what to do about anything else."""
        match told.code:
            case codes.Code.NOT_AVAILABLE:
                self._sleep(_PAUSE_S)
            case codes.Code.INVALID_TRANSACTION if attempt < _ATTEMPTS:
                pass  # the day was closed between the question and the grant
            case codes.Code.TERMINAL_NOT_REGISTERED:
                raise RunnerError(
                    f"terminal {self._terminal} is not registered: name another with --terminal"
                )
            case code:
                raise RunnerError(f"a grant was answered {code:02d} ({codes.text(code)}): see docs/codes.md")

    def _count(self, told: Told) -> None:
        if told.reason == codes.Reason.BEHIND:
            self.tally.repeated += 1
        elif told.code == codes.Code.APPROVED:
            self.tally.granted += 1
        else:
            self.tally.refused[told.code] = self.tally.refused.get(told.code, 0) + 1


def _is_kept(told: Told) -> bool:
    """Whether the trigger is beyond it: a card that is not there moves nothing, and cannot be."""
    return told.sequence != 0 and told.code != codes.Code.INVALID_CARD
