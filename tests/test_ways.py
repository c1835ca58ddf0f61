"""Two ways, one answer: random requests of every kind go over gRPC to one engine, as rows to another.

What `onecard.client` says in messages and the front makes of them must be what `onecard.rows` makes at once:
every answer is compared whole, parts, dates and reasons included, and the books at the end.
"""

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from onecard import Client, Engine, Rules, Secrets, codes, rows
from onecard.client import (
    Alias,
    Answer,
    Authorise,
    BindAlias,
    BulkTopUp,
    Capture,
    Card,
    CloseCard,
    Coupon,
    Fund,
    FurtherCard,
    GetBalance,
    Grant,
    Issue,
    IssueCodes,
    Key,
    Line,
    Pass,
    Purchase,
    Refund,
    Replace,
    Request,
    Reverse,
    SetHolder,
    SetPin,
    SetStatus,
    TopUp,
    Transfer,
    Void,
)
from onecard.messages import answer_of_row
from tests.conftest import DAY, found_chain
from tests.test_scenarios import steps

SECRETS = Secrets({1: bytes(range(32)), 2: bytes(32)})
CARDS = [f"620000{at:02d}" for at in range(1, 16)]
COUPONS, PASSES = [16, 16, 16, 17, 21, 18], [18, 18, 19, 16]
PINS = ["0042", "123456"]
BATCH = 60


def page_rules() -> Rules:
    """The rules of the page of scenarios: they have everything."""
    publish = next(json.loads(step.request) for step in steps() if "PublishRules" in step.request)
    any_rules = Rules.parse(
        'units.money = {name = "CNY", scale = 2}\n'
        'products = [{id = 1, name = "any"}]\nwaterfall = [{pay = "principal"}]\n'
    )
    return dataclasses.replace(any_rules, tables=publish["request"]["tables"])


class Asker:
    """Draws requests: mostly good ones, over few cards, so that they meet."""

    def __init__(self, seed: int, texts: list[str]) -> None:
        self.rng, self.texts, self.trace = Random(seed), texts, 0
        self.sent: list[Request] = []

    def first(self) -> list[Request]:
        """Cards with money, so that there is something to ask for."""
        staff = Issue(card="90000001", product=2, **self.header())
        issued = [Issue(card=card, product=1, **self.header()) for card in CARDS[:-2]]
        paid = [TopUp(card=card, amount=300_000, **self.header()) for card in CARDS[:-2]]
        return [staff, *issued, *paid]

    def draw(self) -> Request:
        sales = [self.purchase, self.purchase, self.top_up, self.grant, self.authorise]
        makers = self.rng.choice([sales, sales, self.after(), self.of_life(), self.of_office()])
        request = self.rng.choice(makers)()
        if self.sent and self.rng.random() < 0.05:
            request = self.rng.choice(self.sent)  # a retry
        self.sent.append(request)
        return request

    def after(self) -> list[Callable[[], Request]]:
        """Requests about others."""
        amount, of = self.number, self.original
        return [
            lambda: Refund(original=of(), amount=amount(), **self.header()),
            lambda: Reverse(original=of(), **self.header()),
            lambda: Capture(original=of(Authorise), amount=amount(), final=self.often(), **self.header()),
            lambda: Void(original=of(Authorise), **self.header()),
        ]

    def of_office(self) -> list[Callable[[], Request]]:
        """Requests that are about no card, or about many."""
        pick = self.rng.choice

        def bulk() -> Request:
            cards = self.rng.sample(CARDS, pick([1, 3]))
            return BulkTopUp(cards=tuple((card, pick([100, 5_000])) for card in cards), **self.header())

        def issue_codes() -> Request:
            unit, count = pick([16, 16, 18]), pick([1, 5, 0])
            return IssueCodes(unit=unit, count=count, expires=self.date(), **self.header())

        return [bulk, issue_codes, lambda: Fund(amount=self.number(), **self.header())]

    def of_life(self) -> list[Callable[[], Request]]:
        """Requests about the card itself."""
        pick = self.rng.choice
        states = list(codes.Status)[:4]

        def issue() -> Request:
            product, inactive = pick([1, 3, 4, 5, 6, 9]), self.often(0.2)
            return Issue(
                card=pick(CARDS), product=product, inactive=inactive, expires=self.date(), **self.header()
            )

        def set_status() -> Request:
            status = pick(states) if self.often(0.2) else codes.Status.ACTIVE
            return SetStatus(card=self.card(), status=status, **self.header())

        def replace() -> Request:
            old = pick([None, codes.Status.LOST, codes.Status.STOLEN])
            return Replace(card=self.card(), new_card=pick(CARDS), old=old, **self.header())

        def transfer() -> Request:
            purse, amount = pick([1, 1, 2, 3, 16, 18, 99]), pick([1, 2, 500])
            source, pin = self.further(), self.pin()
            return Transfer(
                card=self.card(), source=source, purse=purse, amount=amount, pin=pin, **self.header()
            )

        def bind() -> Request:
            bound_to = self.further() if self.often(0.4) else None
            card, remove, pin = pick(CARDS), self.often(0.2), self.pin()
            return BindAlias(
                card=card, alias=self.alias(), remove=remove, bound_to=bound_to, pin=pin, **self.header()
            )

        def set_pin() -> Request:
            pin, by_operator = self.pin(), self.often()
            new_pin = "" if by_operator and self.often() else pick(PINS)
            return SetPin(
                card=self.card(), new_pin=new_pin, pin=pin, by_operator=by_operator, **self.header()
            )

        def set_holder() -> Request:
            member, known = pick([1, 1, 2]), self.often()
            return SetHolder(card=self.card(), member=member, real_name_known=known, **self.header())

        def close() -> Request:
            card = pick(CARDS) if self.often(0.3) else CARDS[-1]
            return CloseCard(card=card, **self.header())

        balance = GetBalance(card=self.card(), terminal=11)
        return [issue, set_status, replace, transfer, bind, set_pin, set_holder, close, lambda: balance]

    def purchase(self) -> Request:
        pick = self.rng.choice
        amount = self.number()
        return Purchase(
            card=self.card(),
            amount=amount,
            use_points=self.often(),
            accept_partial=self.often(),
            coupons=tuple(Coupon(pick(COUPONS), pick([1, 1, 2])) for _ in range(pick([0, 0, 0, 1, 2]))),
            codes=tuple(pick(self.texts) for _ in range(pick([0, 0, 0, 0, 1]))),
            passes=tuple(Pass(pick(PASSES), 1) for _ in range(pick([0, 0, 0, 1]))),
            cards=tuple(self.further() for _ in range(pick([0, 0, 0, 1, 2]))),
            pin=self.pin(),
            cash=pick([0, 0, 700, 10**6]),
            staff=pick(["", "", "90000001", "90000001", CARDS[0]]),
            lines=self.lines(amount),
            **self.header(),
        )

    def authorise(self) -> Request:
        pick = self.rng.choice
        amount = self.number()
        return Authorise(
            card=self.card(),
            amount=amount,
            use_points=self.often(),
            accept_partial=self.often(),
            expires=self.date(),
            coupons=tuple(Coupon(pick(COUPONS), 1) for _ in range(pick([0, 0, 1]))),
            passes=tuple(Pass(pick(PASSES), 1) for _ in range(pick([0, 0, 0, 1]))),
            pin=self.pin(),
            staff=pick(["", "", "90000001"]),
            lines=self.lines(amount),
            **self.header(),
        )

    def lines(self, amount: int) -> tuple[Line, ...]:
        first = self.rng.randrange(amount + 1)
        two = (Line(first, self.rng.choice([0, 1, 9])), Line(amount - first, 2, goods=690_123))
        return self.rng.choice([(), (), (Line(amount),), two])

    def top_up(self) -> Request:
        return TopUp(card=self.card(), amount=self.number() * 3, pin=self.pin(), **self.header())

    def grant(self) -> Request:
        pick = self.rng.choice
        return Grant(
            card=self.card(),
            bundle=pick([1, 2, 3, 4, 5, 6, 7, 8, 9]),
            count=pick([1, 1, 2, 0]),
            paid_by_card=self.often(0.3),
            pin=self.pin(),
            **self.header(),
        )

    def header(self) -> dict[str, Any]:
        self.trace += 1
        return {
            "terminal": self.rng.choice([11, 11, 21]),
            "business_date": DAY,
            "trace": self.trace,
            "channel": self.rng.choice([0, 1, 2]),
        }

    def original(self, kind: type[Request] = Request) -> int | Key:
        of_kind = [request for request in self.sent if isinstance(request, kind)]
        named = [request for request in of_kind if not isinstance(request, GetBalance)]
        if not named or self.rng.random() < 0.2:
            return self.rng.randrange(1, 400)
        return self.rng.choice(named[-20:]).key

    def card(self) -> Card:
        return self.alias() if self.often(0.15) else self.rng.choice(CARDS)

    def alias(self) -> Alias:
        return Alias(*self.rng.choice([(1, "138 0000 0000"), (1, "+86 (138) 1"), (2, " wx-7 ")]))

    def further(self) -> FurtherCard:
        return FurtherCard(self.rng.choice(CARDS), self.pin())

    def pin(self) -> str:
        return "" if self.often(0.8) else self.rng.choice(PINS)

    def date(self) -> datetime.date | None:
        return self.rng.choice([None, None, DAY + datetime.timedelta(3), DAY - datetime.timedelta(1)])

    def number(self) -> int:
        return self.rng.choice([0, 1, 999, 5_000, 12_345, 60_000])

    def often(self, share: float = 0.5) -> bool:
        return self.rng.random() < share


def named(original: int | Key) -> dict[str, Any]:
    if isinstance(original, int):
        return {"sequence": original}
    return {
        "original_date": original.business_date,
        "original_terminal": original.terminal,
        "original_trace": original.trace,
    }


def as_rows(request: Request, engine: Engine) -> rows.Requests:
    """The same request as a row with its items, in the order that docs/grpc.md gives."""
    header: Any = {
        "terminal": request.terminal,
        "business_date": DAY,
        "trace": request.trace,
        "channel": request.channel,
    }
    items: list[rows.Items] = []
    card: Any = getattr(request, "card", None)
    if isinstance(card, Alias):
        items.append(engine.alias(card.kind, card.value))
        card = None
    items += [rows.pin(pin) for pin in [getattr(request, "pin", "")] if pin]
    if isinstance(request, (Purchase, Authorise)):
        return sale_as_rows(request, card, items, header)
    if isinstance(request, (Refund, Reverse, Capture, Void)):
        return rows.with_items(after_as_rows(request, header), [[]])
    match request:
        case Issue(expires=expires):
            batch = rows.issue(
                card, request.product, expires=expires or 0, inactive=request.inactive, **header
            )
        case TopUp():
            batch = rows.top_up(card, request.amount, **header)
        case GetBalance():
            batch = rows.balance(card, terminal=11)
        case SetStatus():
            batch = rows.set_status(card, request.status, **header)
        case Fund():
            batch = rows.fund(request.amount, **header)
        case Grant():
            count = request.count
            batch = rows.grant(card, request.bundle, count, paid_by_card=request.paid_by_card, **header)
        case _:
            return life_as_rows(request, card, items, header, engine)
    return rows.with_items(batch, [items])


def sale_as_rows(
    request: Purchase | Authorise, card: Any, items: list[rows.Items], header: Any
) -> rows.Requests:
    how: Any = {"use_points": request.use_points, "accept_partial": request.accept_partial} | header
    items += [rows.coupon(coupon.unit, coupon.count) for coupon in request.coupons]
    if isinstance(request, Authorise):
        batch = rows.authorise(card, request.amount, expires=request.expires or 0, **how)
    else:
        items += [rows.code(text) for text in request.codes]
        batch = rows.purchase(card, request.amount, **how)
    items += [rows.pass_(one.unit, one.visits) for one in request.passes]
    if isinstance(request, Purchase):
        for other in request.cards:
            items += further_items(other)
        items += [rows.cash(request.cash)] if request.cash else []
    items += [rows.staff(request.staff)] if request.staff else []
    items += [rows.line(line.amount, line.category, line.goods) for line in request.lines]
    return rows.with_items(batch, [items])


def after_as_rows(request: Refund | Reverse | Capture | Void, header: Any) -> rows.Batch:
    original = named(request.original) | header
    match request:
        case Refund():
            return rows.refund(request.amount, **original)
        case Reverse():
            return rows.reverse(**original)
        case Capture():
            return rows.capture(request.amount, final=request.final, **original)
        case _:
            return rows.void(**original)


def further_items(further: FurtherCard) -> list[rows.Items]:
    return [rows.card(further.card), *([rows.pin(further.pin)] if further.pin else [])]


def life_as_rows(
    request: Request, card: Any, items: list[rows.Items], header: Any, engine: Engine
) -> rows.Requests:
    """The kinds that are about the card itself, and those of head office."""
    match request:
        case Replace():
            items.append(rows.number(request.new_card))
            batch = rows.replace(card, request.old or 0, **header)
        case Transfer():
            items += further_items(request.source)
            batch = rows.transfer(card, request.purse, request.amount, **header)
        case SetHolder():
            items.append(rows.member(request.member, request.real_name_known))
            batch = rows.set_holder(card, **header)
        case BindAlias():
            items.append(engine.alias(request.alias.kind, request.alias.value))
            items += further_items(request.bound_to) if request.bound_to else []
            batch = rows.bind(card, remove=request.remove, **header)
        case SetPin():
            items += [rows.new_pin(request.new_pin)] if request.new_pin else []
            batch = rows.set_pin(card, by_operator=request.by_operator, **header)
        case CloseCard():
            batch = rows.close_card(card, **header)
        case IssueCodes():
            batch = rows.issue_codes(request.unit, request.count, expires=request.expires or 0, **header)
        case BulkTopUp():
            items += [rows.card(number, amount) for number, amount in request.cards]
            batch = rows.bulk_top_up(sum(amount for _, amount in request.cards), **header)
        case _:
            raise AssertionError(f"{type(request).__name__} has no row")
    return rows.with_items(batch, [items])


@pytest.mark.parametrize("seed", range(6))
def test_both_ways_give_the_same_answers(tmp_path: Path, seed: int) -> None:
    rules = page_rules()
    with (
        Engine(tmp_path / "rows", secrets=SECRETS) as here,
        Engine(tmp_path / "wire", secrets=SECRETS) as there,
    ):
        for engine in (here, there):
            found_chain(engine, rules)
        asker = Asker(seed, [*here.codes(16, 1, 8), here.codes(21, 1, 1)[0][:-1] + "0"])
        server = there.serve("127.0.0.1:0")
        seen: list[Answer] = []
        with Client(server.address, terminal=11, business_date=DAY) as client:
            for at in range(10):
                asked = [asker.draw() for _ in range(BATCH)] if at else asker.first()
                told = list(client.transact(asked)) if at % 2 else [client.send(one) for one in asked]
                answers = here.execute(rows.together(*(as_rows(one, here) for one in asked)))
                for index, (request, answer) in enumerate(zip(asked, told, strict=True)):
                    own = answer_of_row(answers[index], answers.parts_of(index))
                    assert answer == own, request
                seen += told
        server.stop(5.0)
        assert here.trial_balance() == there.trial_balance()
        assert here.staff() == there.staff()
        assert here.close_day(DAY) == there.close_day(DAY)
    kinds = {codes.Kind(answer.kind) for answer in seen if codes.Code(answer.code).posted}
    assert len(kinds) >= 16, "the world is too hostile: hardly anything is approved"
    assert codes.Code.FORMAT_ERROR not in {answer.code for answer in seen}
