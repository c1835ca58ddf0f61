"""The replay: every basket of the year through a server, every business day closed.

One Transact stream carries the year in messages of up to MESSAGE transactions. A day's messages are sent as
they are made, so that the server works on one while the next is made; the day is closed when all its answers
are there. Nothing is judged here: what was asked and answered is kept for the books.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from time import perf_counter

import grpc

from onecard.demo.chain import PROGRAMME, Chain, yyyymmdd
from onecard.demo.data import DemoError, Year
from onecard.rules import Rules
from onecard.v1 import admin_pb2, admin_pb2_grpc, terminal_pb2, terminal_pb2_grpc, transaction_pb2

# Transactions in a message: at most 1,000; fewer, and the server has work while the rest of a day is made.
MESSAGE = 200
REGISTRATIONS_MAX = 10_000
CALL_S = 60.0


@dataclass(frozen=True)
class Day:
    """What was asked on a business day, what was answered, in the same order, and its close."""

    date: int
    asked: list[terminal_pb2.Transaction]
    answers: list[transaction_pb2.Answer]
    close: admin_pb2.CloseDayResponse


@dataclass
class Replay:
    """A replayed year as the server told it."""

    baskets: int
    baskets_of_nothing: int = 0
    stores: int = 0
    terminals: int = 0
    days: list[Day] = field(default_factory=list)
    trial: admin_pb2.GetTrialBalanceResponse = field(default_factory=admin_pb2.GetTrialBalanceResponse)
    positions: admin_pb2.ListPositionsResponse = field(default_factory=admin_pb2.ListPositionsResponse)
    # Registration and rules; then the days, transactions and closes.
    register_s: float = 0.0
    transact_s: float = 0.0
    close_s: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first registration to the last close."""
        return self.register_s + self.transact_s + self.close_s

    @property
    def transactions(self) -> int:
        """Transactions that were answered."""
        return sum(len(day.answers) for day in self.days)


class Stream:
    """A Transact stream: messages go out as they are put in, answers come back in order."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._out: SimpleQueue[terminal_pb2.TransactRequest | None] = SimpleQueue()
        self._back = terminal_pb2_grpc.TerminalServiceStub(channel).Transact(iter(self._out.get, None))

    def run(
        self, transactions: Iterable[terminal_pb2.Transaction]
    ) -> tuple[list[terminal_pb2.Transaction], list[transaction_pb2.Answer]]:
        """Send transactions in messages, wait for all answers, return both."""
        asked: list[terminal_pb2.Transaction] = []
        messages = 0
        rest = iter(transactions)
        while message := list(islice(rest, MESSAGE)):
            self._out.put(terminal_pb2.TransactRequest(transactions=message))
            asked += message
            messages += 1
        answers = [answer for response in islice(self._back, messages) for answer in response.answers]
        if len(answers) != len(asked):
            raise DemoError(f"{len(asked)} transactions were sent, {len(answers)} were answered")
        return asked, answers

    def close(self) -> None:
        """End the stream from this side and wait for the server's end."""
        self._out.put(None)
        if next(self._back, None) is not None:
            raise DemoError("the server answered more messages than it was sent")


@contextmanager
def open_stream(channel: grpc.Channel) -> Iterator[Stream]:
    """A stream that is closed when all went well; the channel's end cancels it otherwise."""
    stream = Stream(channel)
    yield stream
    stream.close()


def replay(target: str, year: Year, rules: Rules, on_day: Callable[[int], None]) -> Replay:
    """Run a year through the server at HOST:PORT under the rules.

    The server must be fresh: it knows no programme yet. `on_day` is called with each business date closed.
    DemoError if a registration or a close is refused; grpc.RpcError if the server fails.
    """
    chain = Chain(year, rules.tables)
    result = Replay(baskets=len(year.paid))
    with grpc.insecure_channel(target) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        start = perf_counter()
        result.stores, result.terminals = _register(admin, chain.registrations())
        _publish(admin, rules)
        result.register_s = perf_counter() - start
        with open_stream(channel) as stream:
            for date, first, end in year.days():
                start = perf_counter()
                asked, answers = stream.run(chain.ask(date, first, end))
                chain.read(answers)
                middle = perf_counter()
                close = _close(admin, date)
                result.transact_s += middle - start
                result.close_s += perf_counter() - middle
                result.days.append(Day(date, asked, answers, close))
                on_day(date)
        result.baskets_of_nothing = chain.baskets_of_nothing
        result.trial = _trial_balance(admin)
        result.positions = admin.ListPositions(
            admin_pb2.ListPositionsRequest(programme=PROGRAMME), timeout=CALL_S
        )
    return result


def _register(
    admin: admin_pb2_grpc.AdminServiceStub, registrations: list[admin_pb2.Registration]
) -> tuple[int, int]:
    for first in range(0, len(registrations), REGISTRATIONS_MAX):
        rows = registrations[first : first + REGISTRATIONS_MAX]
        codes = admin.Register(admin_pb2.RegisterRequest(registrations=rows), timeout=CALL_S).codes
        for row, code in zip(rows, codes, strict=True):
            if code != 0:
                raise DemoError(f"registration was refused with {code:02}: {row}")
    what = [row.WhichOneof("what") for row in registrations]
    return what.count("store"), what.count("terminal")


def _publish(admin: admin_pb2_grpc.AdminServiceStub, rules: Rules) -> None:
    request = admin_pb2.PublishRulesRequest(
        programme=PROGRAMME, version=1, text=rules.text, tables=rules.tables_json
    )
    response = admin.PublishRules(request, timeout=CALL_S)
    if response.code != 0:
        raise DemoError(f"the rules were refused with {response.code:02}: {response.message}")


def _close(admin: admin_pb2_grpc.AdminServiceStub, date: int) -> admin_pb2.CloseDayResponse:
    request = admin_pb2.CloseDayRequest(programme=PROGRAMME, business_date=yyyymmdd(date))
    response = admin.CloseDay(request, timeout=CALL_S)
    if response.code != 0 or response.replayed:
        raise DemoError(f"closing {yyyymmdd(date)} was refused with {response.code:02}: {response.message}")
    return response


def _trial_balance(admin: admin_pb2_grpc.AdminServiceStub) -> admin_pb2.GetTrialBalanceResponse:
    """The trial balance, once the last day's growth has been granted to every card."""
    request = admin_pb2.GetTrialBalanceRequest(programme=PROGRAMME)
    deadline = perf_counter() + CALL_S
    while True:
        response = admin.GetTrialBalance(request, timeout=CALL_S)
        if not response.growing:
            return response
        if perf_counter() > deadline:
            raise DemoError("the last day's growth was not granted within a minute")
