"""`onecard serve` in a process of its own, and rows to and from the wire.

Dates go over the wire as YYYYMMDD, a local time of 0 is read as noon. A row that was answered comes back
as it would from `Engine.execute`, but for `kind`, which the wire does not carry.
"""

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from onecard import rows
from onecard.v1 import admin_pb2, admin_pb2_grpc, terminal_pb2, terminal_pb2_grpc, transaction_pb2

CALL_S = 30.0
METHODS = {1: "Issue", 2: "TopUp", 3: "Purchase", 4: "Refund", 5: "Reverse", 7: "SetStatus", 8: "Fund"}
FIELDS = {1: "issue", 2: "top_up", 3: "purchase", 4: "refund", 5: "reverse", 7: "set_status", 8: "fund"}


class Served:
    """A served data directory; leaving the block ends the process if it still runs."""

    def __init__(self, directory: Path, **options: Any) -> None:
        program = "from onecard.cli import app; app()"
        command = [sys.executable, "-c", program, "serve", str(directory), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"onecard serve ended with {self.process.wait()} before it listened")
        self.address = line.split()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> int:
        """kill -9; the exit status."""
        self.process.kill()
        return self.wait()

    def stop(self) -> int:
        """SIGTERM, and wait until it has drained; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def serving(self) -> bool:
        """What the health service says."""
        with self.channel() as channel:
            request = health_pb2.HealthCheckRequest()
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=CALL_S).status
        return bool(status == health_pb2.HealthCheckResponse.SERVING)

    def books(self) -> tuple[int, dict[int, int]]:
        """Number of entries, and the total of every account."""
        with self.channel() as channel:
            stub = admin_pb2_grpc.AdminServiceStub(channel)
            found = stub.GetTrialBalance(admin_pb2.GetTrialBalanceRequest(programme=1), timeout=CALL_S)
        assert found.code == 0
        assert (found.money_sum, found.points_sum) == (admin_pb2.Int128(), admin_pb2.Int128())
        return found.entries, {total.account: whole(total.total) for total in found.totals}


def whole(number: admin_pb2.Int128) -> int:
    return int(number.high) * 2**64 + int(number.low)


def wire_date(days: int) -> int:
    return int(rows.day(days).strftime("%Y%m%d"))


def request(row: np.void) -> Any:
    """The message of one row."""
    kind = int(row["kind"])
    message = getattr(transaction_pb2, f"{METHODS[kind]}Request")(header=header(row))
    if row["card_digits"]:
        message.card = rows.card_text(row["card"], row["card_digits"])
    for name in ("product", "amount", "status"):
        if row[name]:
            setattr(message, name, int(row[name]))
    if row["flags"]:
        message.use_points = True
    if kind in (4, 5):
        message.original.CopyFrom(original(row))
    return message


def header(row: np.void) -> transaction_pb2.Header:
    made = transaction_pb2.Header(
        programme=int(row["programme"]),
        terminal=int(row["terminal"]),
        business_date=wire_date(row["business_date"]),
        channel=int(row["channel"]),
    )
    if row["trace"]:
        made.trace = int(row["trace"])
    else:
        made.id = identity(row["id_hi"], row["id_lo"])
    return made


def original(row: np.void) -> transaction_pb2.Original:
    if row["original"]:
        return transaction_pb2.Original(sequence=int(row["original"]))
    key = transaction_pb2.OriginalKey(
        business_date=wire_date(row["original_date"]), terminal=int(row["original_terminal"])
    )
    if row["original_trace"]:
        key.trace = int(row["original_trace"])
    else:
        key.id = identity(row["original_id_hi"], row["original_id_lo"])
    return transaction_pb2.Original(key=key)


def identity(high: int, low: int) -> bytes:
    return int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big")


def message(batch: rows.Batch) -> terminal_pb2.TransactRequest:
    """One message of a stream."""
    transactions = [terminal_pb2.Transaction(**{FIELDS[int(row["kind"])]: request(row)}) for row in batch]
    return terminal_pb2.TransactRequest(transactions=transactions)


_OTHERWISE_TOLD = ("kind", "first_part", "parts", "reserved")


def answer_rows(batch: rows.Batch, answers: Iterable[transaction_pb2.Answer]) -> rows.Batch:
    """The answers to a batch as the engine would give them in process, but for their parts."""
    found = np.zeros(len(batch), rows.ANSWER)
    found["kind"] = batch["kind"]
    for row, answer in zip(found, answers, strict=True):
        for name in rows.ANSWER.names or ():
            if name == "business_date":
                row[name] = days(answer.business_date)
            elif name not in _OTHERWISE_TOLD:
                row[name] = getattr(answer, name)
    return found


def days(date: int) -> int:
    """Days since 1970-01-01 of YYYYMMDD; 0 is 0."""
    text = f"{date:08d}"
    return rows.days(np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}")) if date else 0


def unary(channel: grpc.Channel, row: np.void) -> rows.Batch:
    """Send one row as a call of its own; the answer as a row."""
    stub = terminal_pb2_grpc.TerminalServiceStub(channel)
    response = getattr(stub, METHODS[int(row["kind"])])(request(row), timeout=CALL_S)
    batch = np.array([row], rows.REQUEST)
    return answer_rows(batch, [response.answer])


def stream(channel: grpc.Channel, batches: Iterable[rows.Batch]) -> Iterator[rows.Batch]:
    """Send batches as messages of one stream; their answers, batch by batch."""
    sent: list[rows.Batch] = []

    def messages() -> Iterator[terminal_pb2.TransactRequest]:
        for batch in batches:
            sent.append(batch)
            yield message(batch)

    stub = terminal_pb2_grpc.TerminalServiceStub(channel)
    for number, response in enumerate(stub.Transact(messages(), timeout=CALL_S)):
        yield answer_rows(sent[number], response.answers)
