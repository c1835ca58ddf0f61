"""Two ways to the same engine: numpy batches in this process, and gRPC over loopback.

A driver opens a data directory of its own, takes the model's rows and answers in the model's words, so
that whatever plays a history needs not know which way it goes. Dates are days since 1970-01-01
everywhere. Each of them owns its engine; the served one is asked over the wire only, in the words of
`tests.wire`, but for the MACs of codes.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import queue
import struct
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, Protocol

import grpc
import numpy as np

from onecard import Engine, Rules, rows
from onecard.codes import Code
from onecard.members import Member
from onecard.reports import DayReport
from onecard.secrets import Secrets
from onecard.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    member_pb2,
    member_pb2_grpc,
    terminal_pb2,
    terminal_pb2_grpc,
    transaction_pb2,
)
from tests import wire
from tests.model import ALIAS, CODE, CODES, GENUINE, ISSUE_CODES, Answer, Item, Part, Row
from tests.wire import Registration

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

    engine: Engine
    """The engine itself, which tells what the way to it does not."""

    def sayable(self, row: Row) -> Row:
        """The row as near as this way can say it: it is what the model must be asked."""

    def execute(self, batch: Sequence[Row]) -> list[Answer]: ...
    def register(self, registrations: list[Registration]) -> list[int]: ...
    def publish(self, programme: int, version: int, text: str, tables: str) -> int: ...
    def close_day(self, programme: int, date: int) -> dict[str, Any]: ...
    def statement(
        self, programme: int, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]: ...
    def trial_balance(self, programme: int) -> dict[str, Any]: ...
    def staff(self, programme: int) -> dict[tuple[int, int], tuple[int, int]]: ...
    def positions(self, programme: int) -> tuple[int, list[dict[str, int]]]: ...
    def liabilities(self, programme: int) -> tuple[int, int | None, list[dict[str, int]]]: ...
    def know(self, programme: int, member: int, birthday: datetime.date) -> int: ...
    def checkpoint(self) -> None: ...
    def reopen(self, **room: int) -> None: ...
    def close(self) -> None: ...


def open_engine(path: str, room: dict[str, int]) -> Engine:
    """An engine with keys for PINs, aliases and codes."""
    sizes: dict[str, Any] = ROOM | room
    return Engine(path, secrets=SECRETS, **sizes)


def mac_of(engine: Engine, row: Row, item: Item) -> int:
    """The MAC of a code's item; one that is not genuine has it changed."""
    mac = engine._core.code(row.programme or 1, item.unit, item.low)
    return mac if item.high == GENUINE else mac ^ (item.high or 1 << 40)


def told_of(answer: tuple[int, ...], parts: list[tuple[int, ...]]) -> Answer:
    """An answer of the engine with its parts, in the model's words."""
    first, count, reason, tier = answer[-4:]
    own = tuple(
        Part(account, card, purse, begins, expires, amount, balance)
        for account, _, card, purse, _, begins, expires, amount, balance in parts[first : first + count]
    )
    fields = dict(zip(Answer._fields, (*answer[:4], *answer[5:-4]), strict=False))
    return Answer(**fields, reason=reason, tier=tier, parts=own)


def sales_of(staff: Iterable[tuple[str, int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Sales and their sum by the number of the staff card, of those that have any."""
    return {(len(card), int(card)): (sales, amount) for card, sales, amount in staff if sales or amount}


class EngineDriver:
    """`onecard.Engine` with numpy rows."""

    def __init__(self, path: str, **room: int) -> None:
        self.path = path
        self.engine = open_engine(path, room)

    def sayable(self, row: Row) -> Row:
        """Rows say everything."""
        return row

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
        if item.kind == ALIAS and item.digits:
            value = wire.alias_value(item)
            high, low = self.engine._core.alias(row.programme or 1, item.digits, value)
            return item._replace(high=high, low=low)
        return item._replace(high=mac_of(self.engine, row, item)) if item.kind == CODE else item

    def staff(self, programme: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Sales of each staff card: how many, and their sum."""
        code, found = self.engine._core.staff(programme)
        assert code == 0
        return sales_of((one["card"], one["sales"], one["amount"]) for one in found)

    def register(self, registrations: list[Registration]) -> list[int]:
        return self.engine.register(registrations)

    def publish(self, programme: int, version: int, text: str, tables: str) -> int:
        rules = dataclasses.replace(RULES, text=text, tables=json.loads(tables))
        try:
            return self.engine.publish(rules, programme=programme, version=version)
        except ValueError:
            return Code.FORMAT_ERROR

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

    def know(self, programme: int, member: int, birthday: datetime.date) -> int:
        """Enrol a member, or change the birthday of one; the code."""
        person = Member(id=member, birthday=birthday, enrolled=wire.EPOCH)
        code = self.engine.enrol(person, programme=programme)
        return self.engine.update_member(person, programme=programme) if code == Code.DUPLICATE else code

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


class Stream:
    """One bidirectional stream that stays open; several messages may be under way."""

    def __init__(self, stub: terminal_pb2_grpc.TerminalServiceStub) -> None:
        self.requests: queue.SimpleQueue[terminal_pb2.TransactRequest | None] = queue.SimpleQueue()
        self.responses: Iterator[terminal_pb2.TransactResponse] = stub.Transact(iter(self.requests.get, None))

    def execute(self, batch: Sequence[Row], rng: Random) -> Iterator[list[Answer]]:
        """Send rows in messages of random length; the answers of each message, when it is asked for."""
        sent = []
        at = 0
        while at < len(batch):
            part = batch[at : at + 1 + int(rng.random() ** 3 * 1_000)]
            self.requests.put(terminal_pb2.TransactRequest(transactions=map(wire.transaction_of, part)))
            sent.append(part)
            at += len(part)
        return self._read(sent)

    def _read(self, sent: list[Sequence[Row]]) -> Iterator[list[Answer]]:
        for part in sent:
            answers = next(self.responses).answers
            assert len(answers) == len(part), (
                f"{len(answers)} answers to a message of {len(part)} transactions"
            )
            yield list(map(wire.answer_of, part, answers))

    def close(self) -> None:
        self.requests.put(None)
        assert next(self.responses, None) is None, "the stream answered more than it was asked"


TEXTS_MAX = 100
"""Most codes whose texts are asked for as they come out."""


class GrpcDriver:
    """The protocol of terminals and head office against an engine that is served.

    The rows of one programme keep their order; those of some programmes go as unary calls, those of others
    over two streams, by chance. A row of a kind that there is no call for goes over a stream.
    """

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
        self.calls = {kind: getattr(self.terminal, name) for kind, name in wire.METHODS.items()}
        self.streams = [Stream(self.terminal), Stream(self.terminal)]

    def sayable(self, row: Row) -> Row:
        return wire.sayable(row)

    def execute(self, batch: Sequence[Row]) -> list[Answer]:
        """Answers of rows, in order."""
        batch = [self._with_macs(row) for row in batch]
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

    def _with_macs(self, row: Row) -> Row:
        """A row whose codes have their MACs, as they are printed."""
        items = (
            item._replace(high=mac_of(self.engine, row, item)) if item.kind == CODE else item
            for item in row.items
        )
        return row._replace(items=tuple(items)) if row.items else row

    def _unary(self, batch: Sequence[Row], indices: list[int]) -> Iterator[tuple[int, Answer]]:
        """One call a row: programme by programme in order, all programmes at once."""
        lines: dict[int, list[int]] = {}
        for index in indices:
            lines.setdefault(batch[index].programme or 1, []).append(index)
        for at in range(max(map(len, lines.values()), default=0)):
            asked = [line[at] for line in lines.values() if at < len(line)]
            futures = [self._call(batch[index]) for index in asked]
            for index, future in zip(asked, futures, strict=True):
                yield index, self._told(batch[index], future)

    def _call(self, row: Row) -> Any:
        message = wire.message_of(row)
        if row.kind == ISSUE_CODES:
            message.with_texts = 1 <= row.amount <= TEXTS_MAX
        return self.calls[row.kind].future(message)

    def _told(self, row: Row, call: Any) -> Answer:
        """The answer of a unary call; that its message is malformed is told by its status."""
        try:
            response = call.result()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                return Answer(code=30)
            raise
        answer = wire.answer_of(row, response.answer)
        if row.kind == ISSUE_CODES:
            self._check_codes(row, answer, response)
        return answer

    def _check_codes(self, row: Row, answer: Answer, response: transaction_pb2.IssueCodesResponse) -> None:
        """A call tells the codes that came out by their first serial, and by their texts if there are few."""
        last, count = next(
            ((part.balance, part.amount) for part in answer.parts if part.account == CODES), (-1, 0)
        )
        serials = range(last - count + 1, last + 1)
        items = [Item(CODE, unit=row.product, high=GENUINE, low=serial) for serial in serials[:TEXTS_MAX]]
        texts = [wire.code_text(item._replace(high=mac_of(self.engine, row, item))) for item in items]
        told = (response.first, list(response.texts))
        assert told == (serials.start, texts if len(serials) <= TEXTS_MAX else []), (
            f"{told} was told of {row}"
        )

    def register(self, registrations: list[Registration]) -> list[int]:
        request = admin_pb2.RegisterRequest(registrations=map(wire.registration_of, registrations))
        return list(self.admin.Register(request).codes)

    def publish(self, programme: int, version: int, text: str, tables: str) -> int:
        request = admin_pb2.PublishRulesRequest(
            programme=programme, version=version, text=text, tables=tables
        )
        return self.admin.PublishRules(request).code

    def close_day(self, programme: int, date: int) -> dict[str, Any]:
        request = admin_pb2.CloseDayRequest(programme=programme, business_date=wire.wire_date(date))
        return wire.close_of(self.admin.CloseDay(request))

    def statement(
        self, programme: int, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]:
        card = wire.digits_text(digits, number)
        request = admin_pb2.GetStatementRequest(programme=programme, card=card, limit=limit, before=before)
        found = self.admin.GetStatement(request)
        return found.code, list(map(wire.line_of, found.lines))

    def trial_balance(self, programme: int) -> dict[str, Any]:
        found = self.admin.GetTrialBalance(admin_pb2.GetTrialBalanceRequest(programme=programme))
        return wire.trial_balance_of(found)

    def staff(self, programme: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Sales of each staff card: how many, and their sum."""
        found = self.admin.ListStaff(admin_pb2.ListStaffRequest(programme=programme))
        assert found.code == 0
        return sales_of((one.card, one.sales, wire.whole(one.amount)) for one in found.staff)

    def positions(self, programme: int) -> tuple[int, list[dict[str, int]]]:
        found = self.admin.ListPositions(admin_pb2.ListPositionsRequest(programme=programme))
        return found.code, [wire.position_of(store) for store in found.stores]

    def liabilities(self, programme: int) -> tuple[int, int | None, list[dict[str, int]]]:
        found = self.admin.ListLiabilities(admin_pb2.ListLiabilitiesRequest(programme=programme))
        date = wire.days_of(found.growth_date) if found.growth_date else None
        return found.code, date, [wire.liability_of(merchant) for merchant in found.merchants]

    def know(self, programme: int, member: int, birthday: datetime.date) -> int:
        """Enrol a member, or change the birthday of one; the code."""
        pb, stub = member_pb2, member_pb2_grpc.MemberServiceStub(self.channel)
        person = pb.Member(id=member, birthday=int(birthday.strftime("%Y%m%d")), enrolled=wire.wire_date(0))
        code = stub.EnrolMember(pb.EnrolMemberRequest(programme=programme, member=person)).code
        if code != Code.DUPLICATE:
            return code
        return stub.UpdateMember(pb.UpdateMemberRequest(programme=programme, member=person)).code

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
