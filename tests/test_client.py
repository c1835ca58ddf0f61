"""The client: keys, retries, streams - against a server that fails on purpose, and against the real one."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from onecard import Client, Rules, codes
from onecard.client import CallFailed, GetBalance, Key, OutcomeUnknown, Purchase, Request, TopUp
from onecard.reports import Liabilities, MerchantLiability
from onecard.v1 import admin_pb2, admin_pb2_grpc, terminal_pb2, terminal_pb2_grpc, transaction_pb2
from tests.conftest import DAY, RULES, Serve, Served, found_chain

CARD = "6200000000000001"


class Flaky(terminal_pb2_grpc.TerminalServiceServicer, admin_pb2_grpc.AdminServiceServicer):
    """Answers 00 to a top-up, after as many failures as it is told; keeps what it was sent."""

    def __init__(self) -> None:
        self.failures: list[grpc.StatusCode] = []
        self.seen: list[transaction_pb2.TopUpRequest] = []
        self.streams: list[list[int]] = []
        self.break_after = 10**9

    def TopUp(self, request: transaction_pb2.TopUpRequest, context: Any) -> transaction_pb2.TopUpResponse:
        self.seen.append(request)
        if self.failures:
            context.abort(self.failures.pop(0), "on purpose")
        return transaction_pb2.TopUpResponse(answer=transaction_pb2.Answer(sequence=len(self.seen)))

    def Transact(
        self, request_iterator: Iterator[terminal_pb2.TransactRequest], context: Any
    ) -> Iterator[terminal_pb2.TransactResponse]:
        amounts: list[int] = []
        self.streams.append(amounts)
        for number, request in enumerate(request_iterator):
            if number == self.break_after:
                self.break_after = 10**9
                context.abort(grpc.StatusCode.UNAVAILABLE, "on purpose")
            self.seen += [one.top_up for one in request.transactions]
            answers = [transaction_pb2.Answer(amount=one.top_up.amount) for one in request.transactions]
            amounts += [answer.amount for answer in answers]
            yield terminal_pb2.TransactResponse(answers=answers)

    def Register(self, request: admin_pb2.RegisterRequest, context: Any) -> admin_pb2.RegisterResponse:
        return admin_pb2.RegisterResponse(codes=[len(request.registrations)] * len(request.registrations))

    def GetTrialBalance(
        self, request: admin_pb2.GetTrialBalanceRequest, context: Any
    ) -> admin_pb2.GetTrialBalanceResponse:
        totals = [
            admin_pb2.AccountTotal(account=1, total=admin_pb2.Int128(high=5, low=7)),
            admin_pb2.AccountTotal(account=40, total=admin_pb2.Int128(high=-1, low=2**64 - 3)),
        ]
        return admin_pb2.GetTrialBalanceResponse(open_date=20260302, cards=4, totals=totals)


@pytest.fixture
def flaky() -> Iterator[tuple[Flaky, Client]]:
    """A server that fails on purpose, and a client that does not wait long."""
    service = Flaky()  # type: ignore[abstract]  # what it lacks is not called
    server = grpc.server(ThreadPoolExecutor(4))
    terminal_pb2_grpc.add_TerminalServiceServicer_to_server(service, server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}", terminal=11, business_date=DAY, attempts=4, pause_s=0.001) as client:
        yield service, client
    server.stop(None).wait()


def test_a_retry_carries_the_same_key(flaky: tuple[Flaky, Client]) -> None:
    service, client = flaky
    service.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    assert client.top_up(CARD, 100).sequence == 3
    first, *others = service.seen
    assert len(first.header.id) == 16
    assert others == [first, first]
    assert client.top_up(CARD, 100).approved
    assert service.seen[-1].header.id != first.header.id


def test_a_callers_key_is_left_alone(flaky: tuple[Flaky, Client]) -> None:
    service, client = flaky
    client.top_up(CARD, 1, trace=77)
    client.top_up(
        CARD, 1, id=b"0123456789abcdef", terminal=12, business_date=datetime.date(2026, 3, 3), programme=4
    )
    client.top_up(CARD, 1, trace=78, local_time=datetime.datetime(2026, 3, 2, 9, 8, 7), channel=6)
    headers = [request.header for request in service.seen]
    assert [(h.terminal, h.business_date, h.trace, h.id, h.programme) for h in headers] == [
        (11, 20260302, 77, b"", 1),
        (12, 20260303, 0, b"0123456789abcdef", 4),
        (11, 20260302, 78, b"", 1),
    ]
    assert (headers[2].local_time, headers[2].channel) == (20260302090807, 6)


def test_when_no_attempt_is_answered_the_request_comes_back(flaky: tuple[Flaky, Client]) -> None:
    service, client = flaky
    service.failures = [grpc.StatusCode.UNAVAILABLE] * 4
    with pytest.raises(OutcomeUnknown, match="no answer after 4 attempts, the outcome is unknown") as caught:
        client.top_up(CARD, 100)
    request = caught.value.request
    assert isinstance(request, TopUp)
    assert request.key == Key(DAY, id=service.seen[0].header.id)
    assert client.send(request).approved
    assert {seen.header.id for seen in service.seen} == {request.id}


def test_what_cannot_get_better_is_not_tried_again(flaky: tuple[Flaky, Client]) -> None:
    service, client = flaky
    service.failures = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(CallFailed, match="PERMISSION_DENIED: on purpose"):
        client.top_up(CARD, 100)
    assert len(service.seen) == 1


def test_a_malformed_request_is_answered_30(flaky: tuple[Flaky, Client]) -> None:
    service, client = flaky
    service.failures = [grpc.StatusCode.INVALID_ARGUMENT]
    answer = client.top_up(CARD, 100)
    assert (answer.code, answer.message, answer.approved) == (30, "on purpose", False)
    assert len(service.seen) == 1


def test_a_server_that_is_not_there_leaves_the_outcome_unknown() -> None:
    with (
        Client("127.0.0.1:1", terminal=1, business_date=DAY, attempts=2, pause_s=0.001) as client,
        pytest.raises(OutcomeUnknown),
    ):
        client.top_up(CARD, 1)


def test_a_request_needs_a_date_and_one_key(flaky: tuple[Flaky, Client]) -> None:
    service, client = flaky
    client.business_date = None
    with pytest.raises(ValueError, match="business_date"):
        client.top_up(CARD, 1)
    with pytest.raises(ValueError, match="one key"):
        client.top_up(CARD, 1, business_date=DAY, trace=1, id=b"1" * 16)
    with pytest.raises(ValueError, match="has no key"):
        _ = GetBalance(terminal=1, card=CARD).key
    assert not service.seen


def top_ups(count: int) -> list[Request]:
    return [TopUp(terminal=11, business_date=DAY, card=CARD, amount=at) for at in range(1, count + 1)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_answers_in_order(flaky: tuple[Flaky, Client], size: int) -> None:
    service, client = flaky
    answers = list(client.transact(top_ups(2_500), message_size=size))
    assert [answer.amount for answer in answers] == list(range(1, 2_501))
    assert len(service.streams) == 1


@pytest.mark.parametrize("broken", [0, 1, 5, 24])
def test_a_broken_stream_goes_on_with_the_same_keys(flaky: tuple[Flaky, Client], broken: int) -> None:
    service, client = flaky
    service.break_after = broken
    answers = list(client.transact(iter(top_ups(250)), message_size=10))
    assert [answer.amount for answer in answers] == list(range(1, 251))
    assert len(service.streams) == 2
    keys = {(request.amount, request.header.id) for request in service.seen}
    assert len(keys) == 250, "an amount was sent with two keys"


def test_a_stream_of_nothing_is_nothing(flaky: tuple[Flaky, Client]) -> None:
    assert list(flaky[1].transact([])) == []


def test_a_stream_reads_ahead_no_further_than_its_window(flaky: tuple[Flaky, Client]) -> None:
    read = 0

    def endless() -> Iterator[Request]:
        nonlocal read
        while True:
            read += 1
            yield TopUp(terminal=11, business_date=DAY, card=CARD, amount=read)

    stream = flaky[1].transact(endless(), message_size=10)
    assert [next(stream).amount for _ in range(5)] == [1, 2, 3, 4, 5]
    assert read <= 160
    stream.close()  # type: ignore[attr-defined]


def test_the_callers_own_error_comes_out_of_a_stream(flaky: tuple[Flaky, Client]) -> None:
    def broken() -> Iterator[Request]:
        yield from top_ups(3)
        raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="own"):
        list(flaky[1].transact(broken(), message_size=1))


@pytest.mark.parametrize("size", [0, 1001])
def test_a_message_has_1_to_1000_requests(flaky: tuple[Flaky, Client], size: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        flaky[1].transact([], message_size=size)


def test_many_registrations_are_cut_into_calls(flaky: tuple[Flaky, Client]) -> None:
    terminals = [admin_pb2.Terminal(programme=1, terminal=at, store=1) for at in range(1, 10_006)]
    assert flaky[1].register(terminals) == [10_000] * 10_000 + [5] * 5


def test_wide_totals_are_read_whole(flaky: tuple[Flaky, Client]) -> None:
    found = flaky[1].trial_balance()
    assert found.totals == {1: 5 * 2**64 + 7, 40: -3}
    assert (found.open_date, found.cards) == (DAY, 4)


# Against the real server


def test_a_day_in_the_life(served_chain: Client) -> None:
    client = served_chain
    assert client.issue(CARD, 1).approved
    top_up = client.top_up(CARD, 100_000)
    assert (top_up.principal, top_up.bonus, top_up.business_date) == (100_000, 5_000, DAY)
    purchase = client.purchase(CARD, 10_000)
    assert (purchase.amount, purchase.discount, purchase.bonus, purchase.principal) == (
        9_500,
        500,
        -5_000,
        -4_500,
    )
    refund = client.refund(purchase.sequence, 9_500, terminal=21)
    assert (refund.principal, refund.bonus, refund.points_earned) == (4_500, 5_000, -purchase.points_earned)
    assert client.reverse(top_up.sequence).code == 0
    assert client.purchase(CARD, 100).code == codes.Code.INSUFFICIENT_FUNDS
    assert client.set_status(CARD, codes.Status.FROZEN).approved
    assert client.top_up(CARD, 100).code == codes.Code.RESTRICTED_CARD
    assert client.set_status(CARD, codes.Status.ACTIVE).approved
    balance = client.balance(CARD)
    assert (balance.principal_balance, balance.bonus_balance, balance.points_balance) == (0, 0, 0)
    lines = client.statement(CARD).lines
    assert [line.sequence for line in lines] == sorted((line.sequence for line in lines), reverse=True)
    assert client.statement(CARD, limit=2).lines == lines[:2]
    assert client.statement(CARD, before=lines[1].sequence).lines == lines[2:]
    assert client.positions().stores[0].store == 1
    assert client.liabilities() == Liabilities(0, None, (MerchantLiability(1, 0, 0),))
    report = client.close_day(DAY)
    assert report.issuer_net + sum(store.net for store in report.stores) == 0
    assert (report.business_date, report.next_business_date) == (DAY, DAY + datetime.timedelta(days=1))
    assert client.close_day(DAY).replayed
    balance_sheet = client.trial_balance()
    assert (balance_sheet.money_sum, balance_sheet.points_sum, balance_sheet.cards) == (0, 0, 1)


def test_a_key_names_an_original(served_chain: Client) -> None:
    client = served_chain
    assert client.issue(CARD, 1).approved
    sent = TopUp(terminal=11, business_date=DAY, trace=5, card=CARD, amount=700)
    first, again = client.send(sent), client.send(sent)
    assert (first.replayed, again.replayed) == (False, True)
    assert first.sequence == again.sequence
    assert client.reverse(sent.key).principal == -700
    late = Purchase(terminal=11, business_date=DAY, id=b"a key of its own", card=CARD, amount=700)
    assert client.reverse(late.key).approved
    assert client.send(late).code == codes.Code.INVALID_TRANSACTION


def test_a_stream_sees_what_went_before(served_chain: Client) -> None:
    client = served_chain
    assert client.issue(CARD, 1).approved
    requests: list[Request] = []
    for _ in range(700):
        requests += [
            TopUp(card=CARD, amount=950, terminal=11, business_date=DAY),
            Purchase(card=CARD, amount=1_000, terminal=11, business_date=DAY),
            GetBalance(terminal=11, card=CARD),
            Purchase(card=CARD, amount=10**15, terminal=11, business_date=DAY),
        ]
    answers = list(client.transact(requests, message_size=300))
    assert [answer.code for answer in answers] == [0, 0, 0, 13] * 700
    assert {answer.principal_balance for answer in answers[2::4]} == {0}
    sequences = [answer.sequence for at, answer in enumerate(answers) if at % 4 != 2]
    assert sequences == sorted(set(sequences))


def test_many_threads_share_a_client(served_chain: Client) -> None:
    client = served_chain
    assert client.issue(CARD, 1).approved
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.top_up(CARD, 10), range(400)))
    assert all(answer.approved for answer in answers)
    assert client.balance(CARD).principal_balance == 4_000


def test_what_is_published_twice_changes_nothing(served_chain: Client) -> None:
    rules = Rules.parse(RULES)
    assert served_chain.publish(rules, version=1) == 0
    assert served_chain.publish(rules) == 0
    assert served_chain.publish(Rules.parse(RULES + "# other\n"), version=1) == codes.Code.DUPLICATE
    assert [version.version for version in served_chain.rules_versions().versions] == [1]
    assert served_chain.publish(Rules.parse(RULES + "# other\n")) == 0
    assert served_chain.rules().text == RULES + "# other\n"


def test_rules_that_the_engine_does_not_take_are_an_error(served_chain: Client) -> None:
    with pytest.raises(ValueError, match="product 1 is in version 1 and missing now"):
        served_chain.publish(Rules.parse(RULES.replace("id = 1", "id = 2")))


def test_restarts_under_load_lose_and_double_nothing(serve: Serve, served: Served) -> None:
    """One client goes on through kills of the server: every top-up that it counts is there once."""
    with Client(served.target, terminal=11, business_date=DAY) as client:
        found_chain(client, Rules.parse(RULES))
        assert client.issue(CARD, 1).approved
    port = served.target.rpartition(":")[2]
    done = threading.Event()
    answered = 0

    def load() -> None:
        nonlocal answered
        with Client(served.target, terminal=11, business_date=DAY, attempts=40) as client:
            while not done.is_set():
                assert client.top_up(CARD, 1).approved
                answered += 1

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load)
        running = served
        stops: list[Callable[[Served], object]] = [Served.kill, Served.stop, Served.kill]
        for stop in stops:
            seen = answered
            while answered < seen + 50 and not loading.done():
                time.sleep(0.01)
            stop(running)
            running = serve(served.directory, "--listen", f"127.0.0.1:{port}")
        done.set()
        loading.result(60)
    with Client(running.target, terminal=11) as client:
        assert client.balance(CARD).principal_balance == answered
    assert running.stop() == 0
