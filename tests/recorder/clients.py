"""Clients that keep a served engine busy until it goes away, and remember what they were told."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import grpc

from onecard import rows
from tests.recorder.served import Served, stream, unary
from tests.recorder.shop import Till
from tests.recorder.told import Told

UNARY_CLIENTS = 3


class Clients:
    """Some clients of unary calls and one of a stream; each has a till of its own."""

    def __init__(self, served: Served, told: Told, seed: int) -> None:
        self.served, self.told = served, told
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.calls = 0
        self.errors: list[grpc.StatusCode] = []
        work = [self.call] * UNARY_CLIENTS + [self.stream]
        self.threads = [
            threading.Thread(target=self.run, args=(one, Till(seed * 10 + place, told.day)))
            for place, one in enumerate(work)
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a client hangs, although the server is gone"

    def run(self, work: object, till: Till) -> None:
        assert callable(work)
        with self.served.channel() as channel:
            try:
                work(channel, till)
            except grpc.RpcError as error:
                status: Any = error
                with self.lock:
                    self.errors.append(status.code())

    def sending(self, batch: rows.Batch) -> int:
        with self.lock:
            number = next(self.numbers)
            self.told.sent[number] = rows.together(batch)
        return number

    def answered(self, number: int, answers: rows.Batch) -> None:
        with self.lock:
            self.calls += 1
            self.told.take(self.told.sent.pop(number), rows.Answers(answers))

    def call(self, channel: grpc.Channel, till: Till) -> None:
        while True:
            batch = till.batch(1)
            number = self.sending(batch)
            self.answered(number, unary(channel, batch[0]))

    def stream(self, channel: grpc.Channel, till: Till) -> None:
        numbers: list[int] = []

        def batches() -> Iterator[rows.Batch]:
            while True:
                batch = till.batch(till.chance.randint(1, 60))
                numbers.append(self.sending(batch))
                yield batch

        for answers in stream(channel, batches()):
            self.answered(numbers.pop(0), answers)
