"""Two ways to the same engine: numpy batches in this process, and gRPC over loopback.

A driver opens a data directory of its own, takes the model's rows and answers in the model's words, so
that whatever plays a history needs not know which way it goes. Dates are days since 1970-01-01
everywhere. Each of them owns its engine, and the served one talks to it over the wire only.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import queue
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import Any, Protocol, cast

import grpc
import numpy as np

from onecard import Engine, Rules, rows
from onecard.reports import DayReport
from onecard.secrets import Secrets
from onecard.v1 import admin_pb2, admin_pb2_grpc, terminal_pb2, terminal_pb2_grpc, transaction_pb2
from tests.model import (
    ALIAS,
    BALANCE,
    CODE,
    DAY_S,
    FUND,
    GENUINE,
    ISSUE,
    PURCHASE,
    REFUND,
    REVERSAL,
    STATUS,
    TOP_UP,
    WITH_POINTS,
    Answer,
    Item,
    Part,
    Row,
)

Registration = tuple[str, int, int, int, str]

PACK = struct.Struct("<BBBBHHiiQqIIQQQIIQQiiBxHI").pack
PACK_ITEM = struct.Struct("<BBHIqQQ").pack
assert (*Row._fields[:-1], "reserved", "items", "first_item") == rows.REQUEST.names
ANSWERED = (*Answer._fields[:4], "kind", *Answer._fields[4:-3], "first_part", "parts", "reason", "tier")
assert rows.ANSWER.names == ANSWERED
assert Item._fields == rows.ITEM.names
assert tuple(name for name in rows.PART.names or () if "reserved" not in name) == Part._fields

SECRETS = Secrets({1: bytes(range(32))})
"""The keys of every engine that is opened here."""

RULES = Rules.parse("""
units.money = {name = "CNY", scale = 2}
products = [{id = 1, name = "any"}]
waterfall = [{pay = "principal"}]
""")
"""Any rules at all: a driver publishes other texts and tables in their place."""

ROOM = {"journal_bytes_max": 1 << 34, "checkpoint_bytes_max": 1 << 33}


class Driver(Protocol):
    """What a history needs of an engine."""

    tells_parts: bool
    """Whether items go this way, and parts and reasons come back."""

    def execute(self, batch: Sequence[Row]) -> list[Answer]: ...
    def register(self, registrations: list[Registration]) -> list[int]: ...
    def publish(self, programme: int, version: int, text: str, tables: str) -> int: ...
    def close_day(self, programme: int, date: int) -> dict[str, Any]: ...
    def statement(
        self, programme: int, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]: ...
    def trial_balance(self, programme: int) -> dict[str, Any]: ...
    def staff(self, programme: int) -> dict[tuple[int, int], tuple[int, int]] | None: ...
    def positions(self, programme: int) -> tuple[int, list[dict[str, int]]]: ...
    def liabilities(self, programme: int) -> tuple[int, int | None, list[dict[str, int]]]: ...
    def checkpoint(self) -> None: ...
    def reopen(self, **room: int) -> None: ...
    def close(self) -> None: ...


def open_engine(path: str, room: dict[str, int]) -> Engine:
    """An engine with keys for PINs, aliases and codes."""
    sizes: dict[str, Any] = ROOM | room
    return Engine(path, secrets=SECRETS, **sizes)


def told_of(answer: tuple[int, ...], parts: list[tuple[int, ...]]) -> Answer:
    """An answer of the engine with its parts, in the model's words."""
    first, count, reason, tier = answer[-4:]
    own = tuple(
        Part(account, card, purse, begins, expires, amount, balance)
        for account, _, card, purse, _, begins, expires, amount, balance in parts[first : first + count]
    )
    fields = dict(zip(Answer._fields, (*answer[:4], *answer[5:-4]), strict=False))
    return Answer(**fields, reason=reason, tier=tier, parts=own)


class EngineDriver:
    """`onecard.Engine` with numpy rows."""

    tells_parts = True

    def __init__(self, path: str, **room: int) -> None:
        self.path = path
        self.engine = open_engine(path, room)

    def execute(self, batch: Sequence[Row]) -> list[Answer]:
        """Answers of rows, in order."""
        data, items = self.packed(batch)
        found = self.engine._core.execute(data, items)
        answers = np.frombuffer(memoryview(found), rows.ANSWER).tolist()
        parts = np.frombuffer(memoryview(found.parts), rows.PART).tolist()
        assert [answer[4] for answer in answers] == [row.kind for row in batch], (
            "answers name the kind that was asked"
        )
        return [told_of(answer, parts) for answer in answers]

    def packed(self, batch: Sequence[Row]) -> tuple[bytes, bytes]:
        """Rows and items as bytes."""
        packed: list[bytes] = []
        items: list[bytes] = []
        for row in batch:
            first = len(items) if row.items else 0
            packed.append(PACK(*row[:-1], len(row.items), first))
            items += [PACK_ITEM(*self.item_of(row, item)) for item in row.items]
        return b"".join(packed), b"".join(items)

    def item_of(self, row: Row, item: Item) -> Item:
        """An item with the keyed hash of its alias, or the MAC of its code, in it."""
        core, programme = self.engine._core, row.programme or 1
        if item.kind == ALIAS and item.digits:
            high, low = core.alias(programme, item.digits, f"{item.high}0{item.low}")
            return item._replace(high=high, low=low)
        if item.kind == CODE:
            mac = core.code(programme, item.unit, item.low)
            return item._replace(high=mac if item.high == GENUINE else mac ^ (item.high or 1 << 40))
        return item

    def staff(self, programme: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Sales of each staff card: how many, and their sum."""
        code, found = self.engine._core.staff(programme)
        assert code == 0
        return {
            (len(one["card"]), int(one["card"])): (one["sales"], one["amount"])
            for one in found
            if one["sales"] or one["amount"]
        }

    def register(self, registrations: list[Registration]) -> list[int]:
        return self.engine.register(registrations)

    def publish(self, programme: int, version: int, text: str, tables: str) -> int:
        rules = dataclasses.replace(RULES, text=text, tables=json.loads(tables))
        return self.engine.publish(rules, programme=programme, version=version)

    def close_day(self, programme: int, date: int) -> dict[str, Any]:
        report = self.engine.close_day(date, programme=programme)
        return {"code": report.code} if report.code else plain_report(report)

    def statement(
        self, programme: int, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]:
        card = rows.card_text(number, digits)
        found = self.engine.statement(card, programme=programme, limit=limit or 100, before=before)
        return found.code, [plain(line) for line in found.lines]

    def trial_balance(self, programme: int) -> dict[str, Any]:
        return plain(self.engine.trial_balance(programme))

    def positions(self, programme: int) -> tuple[int, list[dict[str, int]]]:
        found = self.engine.positions(programme)
        return found.code, [store._asdict() for store in found.stores]

    def liabilities(self, programme: int) -> tuple[int, int | None, list[dict[str, int]]]:
        found = self.engine.liabilities(programme)
        date = rows.days(found.growth_date) if found.growth_date else None
        return found.code, date, [plain(merchant) for merchant in found.merchants]

    def checkpoint(self) -> None:
        self.engine.checkpoint()

    def reopen(self, **room: int) -> None:
        """Close the engine and open it again."""
        self.engine.close()
        self.engine = open_engine(self.path, room)

    def close(self) -> None:
        self.engine.close()


def plain(record: Any) -> dict[str, Any]:
    """A report as a dict, its dates as days."""
    return {
        field.name: rows.days(value) if isinstance(value, datetime.date) else value
        for field in dataclasses.fields(record)
        for value in (getattr(record, field.name),)
    }


def plain_report(report: DayReport) -> dict[str, Any]:
    stores = [store._asdict() for store in report.stores]
    return plain(report) | {"stores": stores, "growth": plain(report.growth) if report.growth else None}


# gRPC


@lru_cache(maxsize=100_000)
def wire_date(days: int) -> int:
    """YYYYMMDD of a day; OverflowError or ValueError if no calendar has it."""
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days)
    return date.year * 10_000 + date.month * 100 + date.day


@lru_cache(maxsize=100_000)
def days_of(date: int) -> int:
    """Days since 1970-01-01 of YYYYMMDD; 0 stands for none."""
    return rows.days(datetime.date(date // 10_000, date // 100 % 100, date % 100)) if date else 0


def wire_time(row: Row) -> int:
    """Local date and time as YYYYMMDDhhmmss."""
    days, second = divmod(row.local_time, DAY_S)
    clock = second // 3_600 * 10_000 + second // 60 % 60 * 100 + second % 60
    return wire_date(row.business_date + days) * 1_000_000 + clock


def wire_id(hi: int, lo: int) -> bytes:
    return (hi << 64 | lo).to_bytes(16, "big")


def wire_card(row: Row) -> str:
    """The card number; one that does not fit its digits is text that is no number."""
    text = f"{row.card:0{row.card_digits}d}" if row.card_digits else "" if row.card == 0 else "none"
    return text if len(text) <= max(row.card_digits, 4) else text + "x"


def header_of(row: Row) -> transaction_pb2.Header:
    """The header of a row; what is malformed and cannot be said in a message becomes an id of three bytes."""
    header = transaction_pb2.Header(programme=row.programme, terminal=row.terminal, channel=row.channel)
    if unsayable(row):
        header.id = b"bad"
        return header
    if row.kind != BALANCE:
        header.business_date = wire_date(row.business_date)
        header.local_time = wire_time(row)
    if row.trace:
        header.trace = row.trace
    if row.id_hi or row.id_lo:
        header.id = wire_id(row.id_hi, row.id_lo)
    return header


def unsayable(row: Row) -> bool:
    """True if a row has fields set that a message of its kind has no place for."""
    kind = row.kind
    return (
        (row.trace != 0 and (row.id_hi, row.id_lo) != (0, 0))
        or (row.flags & ~(WITH_POINTS if kind == PURCHASE else 0)) != 0
        or (kind != ISSUE and (row.product, row.expires) != (0, 0))
        or (kind != STATUS and row.status != 0)
        or (kind not in (TOP_UP, PURCHASE, REFUND, FUND) and row.amount != 0)
        or (kind in (REFUND, REVERSAL, FUND) and (row.card_digits, row.card) != (0, 0))
        or (kind not in (REFUND, REVERSAL) and any(row[14:20]))
        or (row.original != 0 and any(row[15:20]))
        or (row.original_trace != 0 and (row.original_id_hi, row.original_id_lo) != (0, 0))
    )


def original_of(row: Row) -> transaction_pb2.Original | None:
    if row.original:
        return transaction_pb2.Original(sequence=row.original)
    if not any(row[14:20]):
        return None
    key = transaction_pb2.OriginalKey(
        terminal=row.original_terminal, business_date=wire_date(row.original_date)
    )
    if row.original_trace:
        key.trace = row.original_trace
    if row.original_id_hi or row.original_id_lo:
        key.id = wire_id(row.original_id_hi, row.original_id_lo)
    return transaction_pb2.Original(key=key)


def message_of(row: Row) -> Any:
    """The request message of a row; None for a kind that there is none of."""
    pb = transaction_pb2
    if not ISSUE <= row.kind <= FUND:
        return None
    header = header_of(row)
    if row.kind == ISSUE:
        expires = wire_date(row.expires) if row.expires else 0
        return pb.IssueRequest(header=header, card=wire_card(row), product=row.product, expires=expires)
    if row.kind == TOP_UP:
        return pb.TopUpRequest(header=header, card=wire_card(row), amount=row.amount)
    if row.kind == PURCHASE:
        use_points = bool(row.flags & WITH_POINTS)
        return pb.PurchaseRequest(
            header=header, card=wire_card(row), amount=row.amount, use_points=use_points
        )
    if row.kind == REFUND:
        return pb.RefundRequest(header=header, original=original_of(row), amount=row.amount)
    if row.kind == REVERSAL:
        return pb.ReverseRequest(header=header, original=original_of(row))
    if row.kind == BALANCE:
        return pb.GetBalanceRequest(header=header, card=wire_card(row))
    if row.kind == STATUS:
        return pb.SetStatusRequest(header=header, card=wire_card(row), status=cast(Any, row.status))
    return pb.FundRequest(header=header, amount=row.amount)


FIELDS = {
    ISSUE: "issue",
    TOP_UP: "top_up",
    PURCHASE: "purchase",
    REFUND: "refund",
    REVERSAL: "reverse",
    BALANCE: "get_balance",
    STATUS: "set_status",
    FUND: "fund",
}
"""The place of each kind in `Transaction`."""


def transaction_of(row: Row) -> terminal_pb2.Transaction:
    transaction = terminal_pb2.Transaction()
    message = message_of(row)
    if message is not None:
        getattr(transaction, FIELDS[row.kind]).CopyFrom(message)
    return transaction


def answer_of(answer: transaction_pb2.Answer) -> Answer:
    return Answer(
        answer.sequence,
        days_of(answer.business_date),
        answer.code,
        int(answer.replayed),
        answer.amount,
        answer.discount,
        answer.principal,
        answer.bonus,
        answer.offset,
        answer.points_earned,
        answer.points_spent,
        answer.shortfall_money,
        answer.shortfall_points,
        answer.principal_balance,
        answer.bonus_balance,
        answer.points_balance,
    )


def whole(number: admin_pb2.Int128) -> int:
    """A number of 128 bits."""
    return (number.high << 64) + number.low


def position_of(store: admin_pb2.StorePosition) -> dict[str, int]:
    return {
        "store": store.store,
        "sold": whole(store.sold),
        "collected": whole(store.collected),
        "net": whole(store.net),
        "due": whole(store.due),
    }


def liability_of(merchant: admin_pb2.MerchantLiability) -> dict[str, int]:
    points, growth = whole(merchant.points), whole(merchant.growth)
    return {"merchant": merchant.merchant, "points": points, "growth": growth}


def told(call: Any) -> Answer:
    """The answer of a unary call; that its message is malformed is told by its status."""
    try:
        return answer_of(call.result().answer)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
            return Answer(code=30)
        raise


class Stream:
    """One bidirectional stream that stays open; several messages may be under way."""

    def __init__(self, stub: terminal_pb2_grpc.TerminalServiceStub) -> None:
        self.requests: queue.SimpleQueue[terminal_pb2.TransactRequest | None] = queue.SimpleQueue()
        self.responses: Iterator[terminal_pb2.TransactResponse] = stub.Transact(iter(self.requests.get, None))

    def execute(self, batch: Sequence[Row], rng: Random) -> Iterator[list[Answer]]:
        """Send rows in messages of random length; the answers of each message, when it is asked for."""
        sizes = []
        at = 0
        while at < len(batch):
            part = batch[at : at + 1 + int(rng.random() ** 3 * 1_000)]
            self.requests.put(terminal_pb2.TransactRequest(transactions=map(transaction_of, part)))
            sizes.append(len(part))
            at += len(part)
        return self._read(sizes)

    def _read(self, sizes: list[int]) -> Iterator[list[Answer]]:
        for size in sizes:
            answers = next(self.responses).answers
            assert len(answers) == size, f"{len(answers)} answers to a message of {size} transactions"
            yield [answer_of(answer) for answer in answers]

    def close(self) -> None:
        self.requests.put(None)
        assert next(self.responses, None) is None, "the stream answered more than it was asked"


class GrpcDriver:
    """The protocol of terminals and head office against an engine that is served.

    The rows of one programme keep their order; those of some programmes go as unary calls, those of others
    over two streams, by chance. A row of a kind that there is no call for goes over a stream.
    """

    tells_parts = False

    def __init__(self, path: str, seed: int = 0, **room: int) -> None:
        self.path = path
        self.rng = Random(seed)
        self._open(room)

    def _open(self, room: dict[str, int]) -> None:
        self.engine = open_engine(self.path, room)
        self.server = self.engine.serve("127.0.0.1:0")
        self.channel = grpc.insecure_channel(self.server.address)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
        self.terminal = terminal_pb2_grpc.TerminalServiceStub(self.channel)
        self.calls: dict[int, Any] = {
            ISSUE: self.terminal.Issue,
            TOP_UP: self.terminal.TopUp,
            PURCHASE: self.terminal.Purchase,
            REFUND: self.terminal.Refund,
            REVERSAL: self.terminal.Reverse,
            BALANCE: self.terminal.GetBalance,
            STATUS: self.terminal.SetStatus,
            FUND: self.terminal.Fund,
        }
        self.streams = [Stream(self.terminal), Stream(self.terminal)]

    def execute(self, batch: Sequence[Row]) -> list[Answer]:
        """Answers of rows, in order."""
        ways: dict[int, int] = {}
        indices: list[list[int]] = [[], [], []]
        for index, row in enumerate(batch):
            way = ways.setdefault(row.programme or 1, int(self.rng.random() * 3))
            indices[way if row.kind in self.calls else 1].append(index)
        answers = [Answer()] * len(batch)
        reads = [
            (of_stream, stream.execute([batch[index] for index in of_stream], self.rng))
            for of_stream, stream in zip(indices[1:], self.streams, strict=True)
        ]
        for index, answer in self._unary(batch, indices[0]):
            answers[index] = answer
        for of_stream, read in reads:
            for index, answer in zip(of_stream, (answer for part in read for answer in part), strict=True):
                answers[index] = answer
        return answers

    def _unary(self, batch: Sequence[Row], indices: list[int]) -> Iterator[tuple[int, Answer]]:
        """One call a row: programme by programme in order, all programmes at once."""
        lines: dict[int, list[int]] = {}
        for index in indices:
            lines.setdefault(batch[index].programme or 1, []).append(index)
        for at in range(max(map(len, lines.values()), default=0)):
            asked = [line[at] for line in lines.values() if at < len(line)]
            futures = [self.calls[batch[index].kind].future(message_of(batch[index])) for index in asked]
            yield from zip(asked, map(told, futures), strict=True)

    def register(self, registrations: list[Registration]) -> list[int]:
        request = admin_pb2.RegisterRequest(registrations=[registration_of(one) for one in registrations])
        return list(self.admin.Register(request).codes)

    def publish(self, programme: int, version: int, text: str, tables: str) -> int:
        request = admin_pb2.PublishRulesRequest(
            programme=programme, version=version, text=text, tables=tables
        )
        return self.admin.PublishRules(request).code

    def close_day(self, programme: int, date: int) -> dict[str, Any]:
        report = self.admin.CloseDay(
            admin_pb2.CloseDayRequest(programme=programme, business_date=wire_date(date))
        )
        if report.code:
            return {"code": report.code}
        growth = None
        if report.HasField("growth"):
            growth = {
                "rate": report.growth.rate,
                "outstanding": whole(report.growth.outstanding),
                "purses": report.growth.purses,
                "reserve": whole(report.growth.reserve),
                "funded": report.growth.funded,
            }
        return {
            "code": 0,
            "replayed": report.replayed,
            "sequence": report.sequence,
            "business_date": days_of(report.business_date),
            "next_business_date": days_of(report.next_business_date),
            "stores": [position_of(store) for store in report.stores],
            "members": whole(report.members),
            "bonus": whole(report.bonus),
            "points": whole(report.points),
            "units": whole(report.units),
            "issuer_net": whole(report.issuer_net),
            "growth": growth,
        }

    def statement(
        self, programme: int, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]:
        card = f"{number:0{digits}d}"
        request = admin_pb2.GetStatementRequest(programme=programme, card=card, limit=limit, before=before)
        found = self.admin.GetStatement(request)
        lines = []
        for line in found.lines:
            fields = {field.name: getattr(line, field.name) for field in line.DESCRIPTOR.fields}
            dates = {name: days_of(fields[name]) for name in ("business_date", "value_date")}
            lines.append(fields | dates)
        return found.code, lines

    def trial_balance(self, programme: int) -> dict[str, Any]:
        found = self.admin.GetTrialBalance(admin_pb2.GetTrialBalanceRequest(programme=programme))
        return {
            "code": found.code,
            "open_date": days_of(found.open_date),
            "cards": found.cards,
            "entries": found.entries,
            "totals": {row.account: whole(row.total) for row in found.totals},
            "money_sum": whole(found.money_sum),
            "points_sum": whole(found.points_sum),
            "growing": found.growing,
        }

    def staff(self, programme: int) -> None:
        """There is no call for it yet."""

    def positions(self, programme: int) -> tuple[int, list[dict[str, int]]]:
        found = self.admin.ListPositions(admin_pb2.ListPositionsRequest(programme=programme))
        return found.code, [position_of(store) for store in found.stores]

    def liabilities(self, programme: int) -> tuple[int, int | None, list[dict[str, int]]]:
        found = self.admin.ListLiabilities(admin_pb2.ListLiabilitiesRequest(programme=programme))
        date = days_of(found.growth_date) if found.growth_date else None
        return found.code, date, [liability_of(merchant) for merchant in found.merchants]

    def checkpoint(self) -> None:
        self.engine.checkpoint()

    def reopen(self, **room: int) -> None:
        """Stop the server, close the engine, open and serve it again."""
        self.close()
        self._open(room)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.channel.close()
        self.server.stop(5.0)
        self.engine.close()


def registration_of(registration: Registration) -> admin_pb2.Registration:
    what, programme, number, parent, name = registration
    pb = admin_pb2
    if what == "programme":
        date = wire_date(parent)
        return pb.Registration(programme=pb.Programme(programme=programme, name=name, business_date=date))
    if what == "merchant":
        return pb.Registration(merchant=pb.Merchant(programme=programme, merchant=number, name=name))
    if what == "store":
        store = pb.Store(programme=programme, store=number, merchant=parent, name=name)
        return pb.Registration(store=store)
    return pb.Registration(terminal=pb.Terminal(programme=programme, terminal=number, store=parent))
