"""The feed, in process and over gRPC: what is told, from where on, and how one waits for more."""

import datetime
import itertools
import signal
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from onecard import Client, Engine, Rules, codes, feed, rows
from onecard.client import CallFailed, Cursor
from onecard.members import Member
from onecard.v1 import feed_pb2, feed_pb2_grpc
from tests.conftest import DAY, RULES, Serve, found_chain

GIFT = """
[[card_units]]
id = 16
name = "coffee"
kind = "coupon"
value = "3.00"

[[bundles]]
id = 1
name = "a coffee"
grants = [{ unit = "coffee", amount = "1" }]
"""

CARDS = ("10000001", "20000002")


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """The small chain with two cards, some purchases, one of them reversed, and a day that was closed."""
    found_chain(engine, Rules.parse(RULES + GIFT))
    at: dict[str, Any] = {"terminal": 11, "business_date": DAY}
    batch = rows.together(
        rows.issue(CARDS, 1, trace=[1, 2], **at),
        rows.top_up(CARDS, 100_00, trace=[3, 4], **at),
        rows.purchase(CARDS, [10_00, 20_00], trace=[5, 6], channel=7, **at),
        rows.reverse(original_date=DAY, original_terminal=11, original_trace=6, trace=7, **at),
        rows.purchase("99999999", 1, trace=8, **at),
        rows.with_items(rows.set_holder(CARDS[0], trace=9, **at), [[rows.member(5)]]),
    )
    assert engine.execute(batch)["code"].tolist() == [0] * 7 + [14, 0]
    assert engine.enrol(Member(5, DAY)) == 0
    assert engine.close_day(DAY).code == 0
    return engine


def test_the_layout_is_the_core_s() -> None:
    from onecard import _core

    assert feed.ENTRY.itemsize == _core.FEED_SIZE == 88


def test_entries_are_told_in_order(shop: Engine) -> None:
    batch = shop.feed()
    told = batch.entries
    assert batch.code == 0
    assert told["kind"].tolist() == [feed.RULES, 1, 1, 2, 2, 3, 3, 5, 3, 15, feed.DAY_CLOSED]
    assert (np.diff(told["sequence"].astype(np.int64)) > 0).all()
    assert told["card_index"].tolist() == [feed.NO_CARD, 0, 1, 0, 1, 0, 1, 1, feed.NO_CARD, 0, feed.NO_CARD]
    assert rows.card_text(told[5]["card"], told[5]["card_digits"]) == CARDS[0]
    assert rows.card_text(told[8]["card"], told[8]["card_digits"]) == "99999999"
    assert told["member"].tolist() == [0, 5, 0, 5, 0, 5, 0, 0, 0, 5, 0]
    assert told["paid"].tolist()[3:8] == [100_00, 100_00, 9_50, 19_00, 19_00]
    assert told["original"].tolist()[7] == told["sequence"].tolist()[6]
    assert set(told["business_date"][1:].tolist()) == {rows.days(DAY)}
    assert set(told["store"][1:8].tolist()) == {1}
    assert told["channel"][5] == 7
    assert not told.flags.writeable


def test_it_goes_on_where_it_was_left(shop: Engine) -> None:
    whole = shop.feed().entries
    parts, since = [], 1
    while len((batch := shop.feed(since, limit=3)).entries):
        parts.append(batch.entries)
        since = batch.next
    assert np.array_equal(np.concatenate(parts), whole)
    assert batch.next == since == shop.stats().entries + 1
    assert np.array_equal(shop.feed(int(whole["sequence"][4]), limit=1).entries, whole[4:5])
    assert [len(batch.entries) for batch in shop.follow(since - 1, to_end=True)] == [1, 0]


def test_an_unknown_programme_is_58(shop: Engine) -> None:
    assert shop.feed(programme=9).code == codes.Code.TERMINAL_NOT_REGISTERED
    assert [batch.code for batch in shop.follow(programme=9)] == [58]
    assert shop.cursors(9).code == codes.Code.TERMINAL_NOT_REGISTERED


def test_a_wait_ends_with_the_next_entry(shop: Engine) -> None:
    since = shop.stats().entries + 1
    began = time.monotonic()
    assert not len(shop.feed(since, wait_s=0.1).entries)
    assert time.monotonic() - began >= 0.1
    later = threading.Timer(0.1, lambda: shop.close_day(DAY + datetime.timedelta(1)))
    later.start()
    assert shop.feed(since, wait_s=30).entries["kind"].tolist() == [feed.DAY_CLOSED]
    assert time.monotonic() - began < 20
    later.join()


def test_a_signal_ends_a_wait(shop: Engine) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Stop):
            shop.feed(10**9, wait_s=60)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_over_grpc_it_is_the_same(shop: Engine) -> None:
    server = shop.serve("127.0.0.1:0")
    try:
        with Client(server.address, terminal=11, business_date=DAY + datetime.timedelta(1)) as client:
            whole = shop.feed()
            assert np.array_equal(client.feed().entries, whole.entries)
            assert client.feed().next == whole.next
            some = client.feed(int(whole.entries["sequence"][2]), limit=4)
            assert np.array_equal(some.entries, whole.entries[2:6])
            assert [len(batch.entries) for batch in client.follow(to_end=True)] == [11, 0]
            with Client(server.address, programme=9) as other:
                assert other.feed().code == 58
                assert other.cursors().code == 58
            followed = client.follow(whole.next)
            assert not len(next(followed).entries)
            assert client.grant(Cursor(7, 10, 1), 1).code == 0
            told = next(batch for batch in followed if len(batch.entries))
            assert told.entries["kind"].tolist() == [9]
            assert client.grant(Cursor(7, 10, 1), 1).reason == codes.Reason.BEHIND
            assert client.cursors() == shop.cursors()
            assert client.cursors().at == {7: (10, 1)}
            assert client.cursors().open_date == DAY + datetime.timedelta(1)
            followed.close()
    finally:
        server.stop(5)


def test_many_entries_are_told_alike_both_ways(chain: Engine) -> None:
    count = 10_000
    cards = [f"{10**9 + number}" for number in range(100)]
    at: dict[str, Any] = {"terminal": 11, "business_date": DAY}
    chain.execute(rows.issue(cards, 1, trace=np.arange(1, 101), **at))
    trace = np.arange(101, 101 + count)
    chain.execute(rows.top_up(np.resize(cards, count), 1_00, trace=trace, **at))
    server = chain.serve("127.0.0.1:0")
    try:
        with Client(server.address) as client:
            batches = list(client.follow(to_end=True))
            assert len(batches) > 3
            found = np.concatenate([batch.entries for batch in batches])
    finally:
        server.stop(5)
    assert np.array_equal(found, chain.feed().entries)
    assert len(found) == count + 101


def test_a_follower_outlives_its_server(serve: Serve, tmp_path: Path) -> None:
    served = serve(tmp_path / "data")
    port = served.target.rpartition(":")[2]
    with Client(served.target, terminal=11, business_date=DAY, attempts=60) as client:
        found_chain(client, Rules.parse(RULES))
        followed = client.follow()
        assert next(followed).entries["kind"].tolist() == [feed.RULES]
        assert served.stop() == 0
        again = serve(tmp_path / "data", "--listen", f"127.0.0.1:{port}")
        assert client.issue(CARDS[0], 1).code == 0
        told = next(batch for batch in followed if len(batch.entries))
        assert told.entries["kind"].tolist() == [1]
        followed.close()
        assert again.stop() == 0


def test_a_follower_that_does_not_read_holds_nobody_up(served_chain: Client) -> None:
    idle = feed_pb2_grpc.FeedServiceStub(served_chain._channel)
    streams = [idle.Feed(feed_pb2.FeedRequest(follow=True)) for _ in range(50)]
    for number in range(20):
        assert served_chain.issue(f"{10**9 + number}", 1).code == 0
    for stream in streams:
        assert [entry.kind for entry in next(iter(stream)).entries][:1] == [feed.RULES]
        stream.cancel()
    assert len(served_chain.feed().entries) == 21


def test_a_slow_follower_is_told_that_the_server_stops(chain: Engine) -> None:
    """Pages wait for it when the server drains: behind them it must hear that there may be more."""
    # More than the sockets and windows between them hold.
    for first in range(1, 400_000, 50_000):
        trace = np.arange(first, first + 50_000)
        batch = rows.purchase(CARDS[0], 1, terminal=11, business_date=DAY, trace=trace)
        assert (chain.execute(batch)["code"] == codes.Code.INVALID_CARD).all()
    server = chain.serve("127.0.0.1:0")
    with Client(server.address) as client:
        stream = feed_pb2_grpc.FeedServiceStub(client._channel).Feed(feed_pb2.FeedRequest(follow=True))
        next(stream)
        time.sleep(0.5)  # until no more pages find room
        stopping = threading.Thread(target=server.stop, args=(30,))
        stopping.start()
        with pytest.raises(grpc.RpcError) as told:
            list(stream)
        assert told.value.code() == grpc.StatusCode.UNAVAILABLE, told.value
        stopping.join()


def test_what_is_no_programme_is_malformed(served_chain: Client) -> None:
    stub = feed_pb2_grpc.FeedServiceStub(served_chain._channel)
    served_chain.programme = 70_000
    with pytest.raises(CallFailed, match="INVALID_ARGUMENT: programme"):
        served_chain.feed()
    with pytest.raises(CallFailed, match="INVALID_ARGUMENT: programme"):
        served_chain.cursors()
    last = feed_pb2.FeedRequest(since=2**64 - 1, follow=True)
    beyond = list(itertools.islice(stub.Feed(last), 1))
    assert [(len(page.entries), page.next) for page in beyond] == [(0, 2**64 - 1)]
