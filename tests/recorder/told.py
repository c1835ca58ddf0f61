"""What a process was told, mark by mark, and whether an engine that was reopened keeps to it.

A workload writes a mark before it sends and one when it was answered (`Teller`); whoever crashes it reads
them back (`Told`) and calls `Told.settle` on the reopened engine:

- every answered request, sent again, gets the same answer, as a replay;
- every request that was sent without an answer is sent again: it is posted once, then or now;
- a closed day is reported as it was.

Only keys inside the window of business days can be asked for again.
"""

import dataclasses
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from onecard import Engine, rows
from tests.recorder.shop import FIRST_DAY

WINDOW_DAYS = 7
NOT_KEPT = (30, 58, 91, 94)


class Lost(Exception):
    """An answer that was given does not hold any more."""


class Teller:
    """Appends marks to a file, from any thread, one write each."""

    def __init__(self, marks: Path, seed: int) -> None:
        self.fd = os.open(marks, os.O_WRONLY | os.O_APPEND)
        self.lock = threading.Lock()
        self.batches = seed * 1_000_000

    def tell(self, **mark: Any) -> None:
        os.write(self.fd, json.dumps(mark).encode() + b"\n")

    def sending(self, asked: rows.Requests) -> int:
        """To be called before a batch is sent; the number is for `answered`."""
        with self.lock:
            self.batches += 1
            number = self.batches
        self.tell(batch=number, rows=asked.rows.tobytes().hex(), items=asked.items.tobytes().hex())
        return number

    def answered(self, number: int, answers: rows.Answers) -> None:
        self.tell(batch=number, answers=answers.tobytes().hex(), parts=answers.parts.tobytes().hex())


class Told:
    """What the marks so far say."""

    def __init__(self) -> None:
        self.day = FIRST_DAY
        self.entries = 0
        self.sent: dict[int, rows.Requests] = {}
        self.answered: list[tuple[rows.Requests, rows.Answers]] = []
        self.closing: int | None = None
        self.closed: dict[int, dict[str, Any]] = {}

    def read(self, marks: bytes) -> "Told":
        """Take on what a file of marks tells; a last mark that was cut short does not count."""
        for line in marks.splitlines(keepends=True):
            if line.endswith(b"\n"):
                self.add(json.loads(line))
        return self

    def add(self, mark: dict[str, Any]) -> None:
        match mark:
            case {"batch": number, "rows": sent, "items": items}:
                self.sent[number] = rows.Requests(unhexed(sent, rows.REQUEST), unhexed(items, rows.ITEM))
            case {"batch": number, "answers": answers, "parts": parts}:
                told = rows.Answers(unhexed(answers, rows.ANSWER), unhexed(parts, rows.PART))
                self.take(self.sent.pop(number), told)
            case {"entries": entries, "day": day}:
                self.entries, self.day = entries, day
            case {"closing": day}:
                self.closing = day
            case {"closed": day, "report": report}:
                self.close(day, report)
            case _:
                raise ValueError(f"unknown mark {mark}")

    def take(self, batch: rows.Batch | rows.Requests, answers: rows.Answers) -> None:
        self.answered.append((rows.together(batch), answers))
        self.entries = max(self.entries, int(answers["sequence"].max()))

    def close(self, day: int, report: dict[str, Any]) -> None:
        self.closed[day], self.closing, self.day = report, None, day + 1
        self.entries = max(self.entries, report["sequence"])

    def settle(self, engine: Engine) -> None:
        """Hold the engine to all of this; what was unknown is known afterwards."""
        there = engine.trial_balance()
        if self.entries and (there.code != 0 or there.entries < self.entries):
            raise Lost(f"entry {self.entries} was answered, the journal ends at {there.entries}")
        if there.money_sum or there.points_sum:
            raise Lost(f"the books sum to {there.money_sum} and {there.points_sum}")
        for day, report in self.closed.items():
            if day_report(engine, day) != report:
                raise Lost(f"the close of day {day} is reported differently")
        self.ask_again(engine)
        if self.closing is not None:
            self.close(self.closing, day_report(engine, self.closing))
        for number in sorted(self.sent):
            batch = self.sent.pop(number)
            self.take(batch, engine.execute(batch))
        self.ask_again(engine)

    def ask_again(self, engine: Engine) -> None:
        """Every answered request, sent once more in one batch, gets its first answer."""
        if not self.answered:
            return
        asked = rows.together(*(batch for batch, _ in self.answered))
        first = rows.joined([answers for _, answers in self.answered])
        kept = ~np.isin(first["code"], NOT_KEPT) & (first["sequence"] > 0)
        kept &= asked.rows["business_date"] > self.day - WINDOW_DAYS
        batch, first = asked.rows[kept], first[kept]
        again = engine.execute(rows.Requests(batch, asked.items))
        for name in rows.ANSWER.names or ():
            if name in (
                "replayed",
                "first_part",
                "parts",
            ):  # parts stand elsewhere, or were told over the wire
                continue
            different = np.flatnonzero(again[name] != first[name])
            if len(different):
                at = different[0]
                raise Lost(f"{name} of {batch[at]} was {first[at]}, and now is {again[at]}")
        for at in np.flatnonzero(first["parts"]):
            then, now = first.parts_of(int(at)), again.parts_of(int(at))
            if not np.array_equal(then, now):
                raise Lost(f"the parts of {batch[at]} were {then}, and now are {now}")
        anew = np.flatnonzero((again["replayed"] == 0) & (again["code"] == 0))
        if len(anew):
            raise Lost(f"{batch[anew[0]]} was answered {first[anew[0]]}, and is posted again")


def unhexed(text: str, dtype: "np.dtype[np.void]") -> rows.Batch:
    return np.frombuffer(bytes.fromhex(text), dtype)


def day_report(engine: Engine, day: int) -> dict[str, Any]:
    """Close a day (again); the report without what tells a replay."""
    report = engine.close_day(day)
    if report.code:
        raise Lost(f"closing day {day} is answered {report.code}")
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(report), default=str))
    del plain["replayed"]
    return plain


def tally(answered: Iterable[tuple[rows.Requests, rows.Answers]]) -> dict[int, int]:
    """Totals by account that the answers to plain tills add up to, each sequence once."""
    first: dict[int, np.void] = {}
    for _, answers in answered:
        for answer in answers:
            first.setdefault(int(answer["sequence"]), answer)
    first.pop(0, None)
    sums = {name: sum(int(answer[name]) for answer in first.values()) for name in rows.ANSWER.names or ()}
    return {
        1: sums["principal"],
        2: sums["bonus"],
        4: -sums["shortfall_money"],
        5: -sums["shortfall_points"],
        33: -sums["offset"],
    }
