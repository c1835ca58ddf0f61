"""The process that is crashed: opens an engine, works, and tells what it was answered.

`python -m tests.recorder.workload DIR MARKS SEED BATCHES [whole]`: batches of 1 to 24 requests, up to four in
flight, the day closed now and then, checkpoints all the while. Without an end if BATCHES is 0. The requests
are those of a plain till, or with `whole` of one that asks for all that a card can do.
"""

import itertools
import random
import sys
from concurrent.futures import Future
from pathlib import Path

from onecard import Engine, rows
from tests.recorder.shop import FIRST_DAY, Till, open_engine, set_up
from tests.recorder.told import Teller, day_report
from tests.recorder.whole import WholeTill

DAYS_MAX = 5
BATCHES_A_DAY = 25


def main(directory: Path, marks: Path, seed: int, batches: int, kind: type[Till]) -> None:
    chance = random.Random(seed)
    teller = Teller(marks, seed)
    with open_engine(directory) as engine:
        till = prepare(engine, teller, seed, kind)
        flying: list[Future[rows.Answers]] = []
        for number in itertools.count(1) if batches == 0 else range(1, batches + 1):
            flying.append(send(engine, teller, till.asks(chance.randint(1, 24))))
            if len(flying) > chance.randint(0, 4):
                flying.pop(0).result()
            if number % BATCHES_A_DAY == 0 and till.day < FIRST_DAY + DAYS_MAX:
                while flying:
                    flying.pop(0).result()
                close_day(engine, teller, till)
        for future in flying:
            future.result()


def prepare(engine: Engine, teller: Teller, seed: int, kind: type[Till]) -> Till:
    """The chain is registered, its cards are issued: by an earlier round, or now."""
    set_up(engine)
    books = engine.trial_balance()
    assert books.open_date is not None
    day = rows.days(books.open_date)
    teller.tell(entries=books.entries, day=day)
    till = kind(seed, day)
    if books.cards == 0:
        send(engine, teller, till.opens()).result()
    return till


def send(engine: Engine, teller: Teller, batch: rows.Requests) -> Future[rows.Answers]:
    number = teller.sending(batch)
    future = engine.submit(batch)
    future.add_done_callback(lambda done: teller.answered(number, done.result()))
    return future


def close_day(engine: Engine, teller: Teller, till: Till) -> None:
    teller.tell(closing=till.day)
    teller.tell(closed=till.day, report=day_report(engine, till.day))
    till.day += 1


if __name__ == "__main__":
    tills = WholeTill if sys.argv[5:] == ["whole"] else Till
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), tills)
