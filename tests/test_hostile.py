"""What a network may throw at the server: a clear answer or status each time, and nothing posted by it.

The server is a process of its own. After every attack it still serves, and the journal has grown by
exactly the answers that were kept.
"""

import random
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from onecard.v1 import admin_pb2, feed_pb2, terminal_pb2, terminal_pb2_grpc
from tests import auditor
from tests.recorder.clients import Clients
from tests.recorder.served import CALL_S, METHODS, Served, answer_rows, message, request, unary
from tests.recorder.shop import CARDS, Till, open_engine, set_up
from tests.recorder.told import Told

CONNECTIONS = 10_000
SPARE_FILES = 300
REPOSITORY = Path(__file__).parents[1]
REFUSED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.OUT_OF_RANGE}
METHOD_PATHS = [
    f"/{service.full_name}/{method.name}"
    for module, name in (
        (terminal_pb2, "TerminalService"),
        (admin_pb2, "AdminService"),
        (feed_pb2, "FeedService"),
    )
    for service in [module.DESCRIPTOR.services_by_name[name]]
    for method in service.methods
]
MALFORMED = {
    "endless varint": b"\xff" * 12,
    "length beyond the end": b"\x0a\xff\xff\xff\x7fabc",
    "field number zero": b"\x00\x01",
    "cut in the middle": b"\x0a\x06\x08\x01\x10",
    "group that is not closed": b"\x0b\x08\x01",
    "text that is not UTF-8": b"\x0a\x04\x0a\x02\xff\xfe"
    + b"\x12\x02\xff\xfe"
    + b"\x1a\x02\xff\xfe\x22\x02\xff\xfe",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("hostile") / "data"
    with open_engine(directory) as engine:
        set_up(engine)
        engine.execute(Till(1).opening())
    with Served(directory) as server:
        yield server
        assert server.stop() == 0
    assert auditor.audit(directory).problems == []


@pytest.fixture
def unmoved(served: Served) -> Iterator[Served]:
    """The server; after the test it serves, and nothing at all was posted."""
    before = served.books()
    yield served
    assert served.serving()
    assert served.books() == before


def raw_call(channel: grpc.Channel, path: str, body: bytes) -> bytes:
    """Send bytes as the only message of a call; the response's bytes, or RpcError."""
    raw: Any = channel
    if path.endswith("/Transact"):
        return b"".join(raw.stream_stream(path)(iter([body]), timeout=30))
    response: bytes = raw.unary_unary(path)(body, timeout=30)
    return response


def status_of(channel: grpc.Channel, path: str, body: bytes) -> Any:
    """The status of a call that must fail, which says something."""
    with pytest.raises(grpc.RpcError) as failed:
        raw_call(channel, path, body)
    call: Any = failed.value
    assert call.details()
    return call.code()


@pytest.mark.parametrize("path", METHOD_PATHS)
def test_malformed_protobuf(unmoved: Served, path: str) -> None:
    with unmoved.channel() as channel:
        for what, body in MALFORMED.items():
            assert status_of(channel, path, body) in REFUSED, what


def test_feeds_that_are_asked_for_at_random_and_left_alone(unmoved: Served) -> None:
    """Any request is answered with pages or a status; streams that nobody reads or ends cost nothing."""
    chance = random.Random(7)
    left: list[Any] = []
    codes, refused = set[int](), set[Any]()
    with unmoved.channel() as channel:
        feed: Any = channel.unary_stream("/onecard.v1.FeedService/Feed")
        for _ in range(400):
            asked = feed_pb2.FeedRequest(
                programme=chance.choice((0, 1, 1, 2, 65_535, 65_536)),
                since=chance.choice((0, 1, 5, 10**6, 2**63, 2**64 - 1)),
                limit=chance.choice((0, 1, 3, 2**64 - 1)),
                follow=chance.random() < 0.3,
            )
            body = bytearray(asked.SerializeToString())
            if body and chance.random() < 0.5:
                body[chance.randrange(len(body))] = chance.randrange(256)
            stream = feed(bytes(body), timeout=CALL_S)
            if chance.random() < 0.5:
                left.append(stream)
                continue
            try:
                first = feed_pb2.FeedResponse.FromString(next(stream))
                codes.add(first.code)
            except grpc.RpcError:
                refused.add(stream.code())
            stream.cancel()
    assert refused <= REFUSED
    assert codes == {0, 58}


def test_random_bytes_are_answered_or_refused(served: Served) -> None:
    """Mutated messages: whatever still is a message is answered, and only kept answers are posted."""
    chance, till, kept = random.Random(5), Till(50), set()
    entries, _ = served.books()
    with served.channel() as channel:
        for _ in range(600):
            row = till.request()
            kind = int(row["kind"])
            body = bytearray(request(row).SerializeToString())
            for _ in range(chance.randint(1, 4)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            try:
                path = f"/onecard.v1.TerminalService/{METHODS[kind]}"
                response = terminal_pb2.TransactResponse.FromString(raw_call(channel, path, bytes(body)))
            except grpc.RpcError as error:
                status: Any = error
                assert status.code() in REFUSED, status
                continue
            (answer,) = response.answers
            if answer.sequence and not answer.replayed:
                kept.add(answer.sequence)
    kept -= set(range(entries + 1))
    assert served.books()[0] == entries + len(kept)
    assert served.serving()


def empty(channel: grpc.Channel, body: terminal_pb2.TransactRequest) -> Any:
    return status_of(channel, "/onecard.v1.TerminalService/Transact", body.SerializeToString())


def test_messages_that_are_too_long_or_empty(unmoved: Served) -> None:
    batch = Till(60).batch(1001)
    with unmoved.channel() as channel:
        assert empty(channel, message(batch)) == grpc.StatusCode.INVALID_ARGUMENT
        assert empty(channel, message(batch[:0])) == grpc.StatusCode.INVALID_ARGUMENT
        long = transaction_of_card("1" * (8 << 20))
        assert empty(channel, long) in REFUSED | {grpc.StatusCode.RESOURCE_EXHAUSTED}
        registrations = [admin_pb2.Registration()] * 10_001
        many = admin_pb2.RegisterRequest(registrations=registrations).SerializeToString()
        path = "/onecard.v1.AdminService/Register"
        assert status_of(channel, path, many) == grpc.StatusCode.INVALID_ARGUMENT


def transaction_of_card(card: str) -> terminal_pb2.TransactRequest:
    asked = request(Till(61).row(2, card=CARDS[0], amount=100))
    asked.card = card
    return terminal_pb2.TransactRequest(transactions=[terminal_pb2.Transaction(top_up=asked)])


def test_a_message_of_a_thousand_is_taken(served: Served) -> None:
    """The limit is a limit, and not one less."""
    batch = Till(62).batch(1000)
    with served.channel() as channel:
        stub = terminal_pb2_grpc.TerminalServiceStub(channel)
        (response,) = stub.Transact(iter([message(batch)]), timeout=30)
    assert len(response.answers) == 1000


@pytest.mark.parametrize("amount", [0, -1, -(2**63), 2**63 - 1, 10**14 + 1])
@pytest.mark.parametrize("kind", [2, 3, 4, 8])
def test_absurd_amounts_are_refused_and_change_nothing(served: Served, kind: int, amount: int) -> None:
    till = Till(abs(hash((kind, amount))) % 3_000)
    card = CARDS[0] if kind in (2, 3) else None
    with served.channel() as channel:
        bought = unary(channel, till.row(2, card=CARDS[1], amount=10_000))
        assert bought["code"][0] == 0
        row = till.row(3, card=CARDS[1], amount=100)
        bought = unary(channel, row)
        assert bought["code"][0] == 0
        entries, totals = served.books()
        absurd = till.row(kind, card=card, amount=amount)
        if kind == 4:
            absurd["original"] = bought["sequence"][0]
        answer = unary(channel, absurd)
    assert answer["code"][0] == 13
    assert served.books() == (entries + 1, totals)


def test_unknown_cards_and_terminals(served: Served) -> None:
    till = Till(70)
    entries, totals = served.books()
    with served.channel() as channel:
        for kind in (2, 3, 7):
            fields = {"status": 2} if kind == 7 else {"amount": 100}
            assert unary(channel, till.row(kind, card="88888888", **fields))["code"][0] == 14
        refund = till.row(4, amount=1, original=2**63)
        assert unary(channel, refund)["code"][0] == 25
        assert unary(channel, till.row(5, original=2**64 - 1))["code"][0] == 25
        assert served.books() == (entries + 5, totals)
        for terminal in (1, 2**32 - 1):
            row = till.row(2, card=CARDS[0], amount=100)
            row["terminal"] = terminal
            assert unary(channel, row)["code"][0] == 58
    assert served.books() == (entries + 5, totals)


def malformed_requests() -> list[tuple[str, Any]]:
    """Messages that are protobuf, and no requests; each with what is wrong."""
    made: list[tuple[str, Any]] = []

    def add(what: str, change: Any) -> None:
        asked = request(Till(len(made) + 100).row(2, card=CARDS[0], amount=100))
        change(asked)
        made.append((what, asked))

    add("no header", lambda asked: asked.ClearField("header"))
    add("no key", lambda asked: asked.header.ClearField("key"))
    add("trace of zero", lambda asked: setattr(asked.header, "trace", 0))
    add("short id", lambda asked: setattr(asked.header, "id", bytes(15)))
    add("long id", lambda asked: setattr(asked.header, "id", b"\x01" * 1_000))
    add("id of zeros", lambda asked: setattr(asked.header, "id", bytes(16)))
    add("no date", lambda asked: setattr(asked.header, "business_date", 0))
    add("date that is none", lambda asked: setattr(asked.header, "business_date", 20241301))
    add("date of all ones", lambda asked: setattr(asked.header, "business_date", 2**32 - 1))
    add("time that is none", lambda asked: setattr(asked.header, "local_time", 2**64 - 1))
    add("channel beyond a byte", lambda asked: setattr(asked.header, "channel", 256))
    for card in ("", "1234567", "1" * 20, "1234567a", "-1234567", "１２３４５６７８", "1234 5678"):
        add(f"card {card!r}", lambda asked, card=card: setattr(asked, "card", card))
    return made


@pytest.mark.parametrize(("what", "asked"), malformed_requests())
def test_requests_that_are_malformed(unmoved: Served, what: str, asked: Any) -> None:
    """INVALID_ARGUMENT as a call, 30 in its place in a stream, where its neighbours are answered."""
    body = terminal_pb2.TransactRequest(transactions=[terminal_pb2.Transaction(top_up=asked)])
    with unmoved.channel() as channel:
        path = "/onecard.v1.TerminalService/TopUp"
        assert status_of(channel, path, asked.SerializeToString()) == grpc.StatusCode.INVALID_ARGUMENT, what
        stub = terminal_pb2_grpc.TerminalServiceStub(channel)
        (response,) = stub.Transact(iter([body]), timeout=30)
    assert [answer.code for answer in response.answers] == [30], what


def test_transaction_that_asks_nothing(unmoved: Served) -> None:
    body = terminal_pb2.TransactRequest(transactions=[terminal_pb2.Transaction()] * 3)
    with unmoved.channel() as channel:
        (response,) = terminal_pb2_grpc.TerminalServiceStub(channel).Transact(iter([body]), timeout=30)
    assert [answer.code for answer in response.answers] == [30, 30, 30]


def test_rules_that_are_none(unmoved: Served) -> None:
    tables = ["", "{", "[]", "null", "[" * 50_000, '{"products": 1e999}', '{"money": {"name": "\\ud800"}}']
    with unmoved.channel() as channel:
        for text in tables:
            body = admin_pb2.PublishRulesRequest(programme=1, version=2, text="x", tables=text)
            path = "/onecard.v1.AdminService/PublishRules"
            try:
                answer = raw_call(channel, path, body.SerializeToString())
                assert admin_pb2.PublishRulesResponse.FromString(answer).code in (12, 30), text[:20]
            except grpc.RpcError as error:
                status: Any = error
                assert status.code() in REFUSED, text[:20]


def test_days_that_cannot_be_closed(unmoved: Served) -> None:
    with unmoved.channel() as channel:
        for date in (0, 1, 20240101, 99991231, 2**32 - 1):
            body = admin_pb2.CloseDayRequest(programme=1, business_date=date).SerializeToString()
            try:
                answer = raw_call(channel, "/onecard.v1.AdminService/CloseDay", body)
                assert admin_pb2.CloseDayResponse.FromString(answer).code in (12, 30), date
            except grpc.RpcError as error:
                status: Any = error
                assert status.code() == grpc.StatusCode.INVALID_ARGUMENT, date


# Clients that are not there, or go away


def host_and_port(served: Served) -> tuple[str, int]:
    host, port = served.address.rsplit(":", 1)
    return host, int(port)


def test_ten_thousand_idle_connections(unmoved: Served) -> None:
    """Half of them say nothing at all, half are HTTP/2 and say nothing more; calls are answered meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard - SPARE_FILES)
    idle: list[socket.socket] = []
    try:
        for number in range(wanted):
            idle.append(socket.create_connection(host_and_port(unmoved), timeout=30))
            if number % 2:
                idle[-1].sendall(PREFACE)
        assert unmoved.serving()
        unmoved.books()
        assert len(idle) == wanted, f"{len(idle)} of {wanted} connections; the machine allows {hard} files"
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def literal(name: str, value: str) -> bytes:
    """A header field that is not indexed (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def opened_stream(served: Served) -> bytes:
    """Preface and headers of a call of Transact, by hand, so that it can end anywhere."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/onecard.v1.TerminalService/Transact",
        ":authority": served.address,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(literal(name, value) for name, value in fields.items())
    return PREFACE + frame(1, 4, 1, block)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("reset", [True, False])
def test_client_that_goes_away_inside_a_message(unmoved: Served, part: float, reset: bool) -> None:
    """A message that has not arrived whole posts nothing."""
    body = message(Till(80).batch(200)).SerializeToString()
    whole = b"\x00" + len(body).to_bytes(4, "big") + body
    sent = whole[: int(len(whole) * part)]
    with socket.create_connection(host_and_port(unmoved), timeout=30) as connection:
        frames = b"".join(frame(0, 0, 1, sent[at : at + 16_000]) for at in range(0, len(sent), 16_000))
        connection.sendall(opened_stream(unmoved) + frames)
        time.sleep(0.05)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.05)


STREAMER = """
import sys
from tests.recorder.served import message
from tests.recorder.shop import Till
from onecard.v1 import terminal_pb2_grpc
import grpc
till = Till(int(sys.argv[2]))
def messages():
    while True:
        yield message(till.batch(100))
stub = terminal_pb2_grpc.TerminalServiceStub(grpc.insecure_channel(sys.argv[1]))
for response in stub.Transact(messages()):
    print("answered", len(response.answers), flush=True)
"""


@pytest.mark.parametrize("seed", [901, 902, 903])
def test_client_that_is_killed_in_a_stream(served: Served, seed: int) -> None:
    """What it sent is posted whole messages at a time, in order, and once: asking again shows it."""
    command = [sys.executable, "-c", STREAMER, served.address, str(seed)]
    client = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    for _ in range(3):
        assert client.stdout.readline() == "answered 100\n"
    client.kill()
    answered = 3 + len(
        [line for line in client.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    )
    client.wait()
    client.stdout.close()
    time.sleep(0.2)
    assert served.serving()
    before, _ = served.books()
    till = Till(seed)
    batches = [till.batch(100) for _ in range(answered + 20)]
    with served.channel() as channel:
        stub = terminal_pb2_grpc.TerminalServiceStub(channel)
        responses = list(stub.Transact(iter([message(batch) for batch in batches]), timeout=60))
    answers = [
        answer_rows(batch, response.answers) for batch, response in zip(batches, responses, strict=True)
    ]
    known = [bool((found["replayed"] == 1).sum() > 50) for found in answers]
    assert known[:answered] == [True] * answered, "an answered message was lost"
    assert known == sorted(known, reverse=True), "a message was posted without the one before"
    all_answers = np.concatenate(answers)
    anew = set(all_answers["sequence"][all_answers["sequence"] > before].tolist())
    assert served.books()[0] == before + len(anew)


def test_half_open_calls_do_not_hold_up_others(unmoved: Served) -> None:
    """A hundred streams that never send: calls are answered all the same."""
    idle = [socket.create_connection(host_and_port(unmoved), timeout=30) for _ in range(100)]
    for connection in idle:
        connection.sendall(opened_stream(unmoved))
    started = time.monotonic()
    for _ in range(20):
        unmoved.books()
    assert time.monotonic() - started < 10
    for connection in idle:
        connection.close()


# The end


def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    """Every answer that was given is in the journal, the exit is clean, and the next start goes on."""
    directory, told = tmp_path / "data", Told()
    with open_engine(directory) as engine:
        set_up(engine)
        opening = Till(1).opening()
        told.take(opening, engine.execute(opening))
    for round_ in range(3):
        with Served(directory) as served:
            clients = Clients(served, told, 40 + round_)
            clients.start()
            time.sleep(0.5)
            assert served.stop() == 0
            clients.join()
        assert set(clients.errors) <= {grpc.StatusCode.UNAVAILABLE}
        assert clients.calls > 20
        with open_engine(directory) as engine:
            told.settle(engine)
    assert auditor.audit(directory).problems == []
