"""Many random histories through an engine and through the model: every answer must agree to the last unit.

`python -m tests.histories --count 100000 --grpc 5000 --seed 1` plays that many, a few dozen side by side
so that one commit serves them all, and reopens the engine and takes checkpoints in between; before that it
fills a small journal until it refuses. It prints how often each command and each code occurred, and
fails if anything disagrees or anything never occurred. On a disagreement it drops commands from the
history as long as it still disagrees, and prints what is left.

Sequences are the engine's own; the model's are mapped to them one to one by the answers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, zip_longest
from random import Random

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from onecard import EngineError
from tests.card_history import CARD_COMMANDS, card_history_of
from tests.drivers import Driver, EngineDriver, GrpcDriver
from tests.history import (
    AS_IS,
    COMMANDS,
    FOREIGN,
    KIND_NAMES,
    NOWHERE,
    PROGRAMMES_MAX,
    Command,
    History,
    history_of,
)
from tests.model import (
    ALIAS,
    AMOUNT_MAX,
    AUTHORISE,
    BALANCE,
    BIND,
    BONUS,
    BULK_TOP_UP,
    CAP,
    CAPTURE,
    CARD,
    CASH,
    CLEARING,
    CODE,
    COLLECTION,
    COUPON,
    CURSOR,
    FUND,
    GRANT,
    HOLDER,
    ISSUE,
    ISSUER_POINTS,
    ISSUER_UNITS,
    MEMBER,
    NEW_PIN,
    NUMBER,
    PASS,
    PIN,
    POINTS,
    PRINCIPAL,
    PURCHASE,
    PURSES,
    REFUND,
    REVERSAL,
    SHORTFALLS,
    STAFF,
    STORE_FEES,
    TOP_UP,
    UNIT,
    Answer,
    Card,
    Item,
    Model,
    Programme,
    Row,
    Transaction,
    fees,
    stacking,
)

CODES = (0, 4, 10, 12, 13, 14, 25, 30, 41, 43, 46, 51, 54, 55, 57, 58, 59, 61, 62, 65, 70, 75, 78, 91, 94)
"""Every code of docs/codes.md and docs/card.md."""

REASONS = (*range(1, 14), 16)
"""Every reason of docs/card.md."""

OUTCOMES = (
    "top-up: with bonus",
    "purchase: paid with points",
    "purchase: discounted",
    "refund: the last of several",
    "refund: shortfall of points",
    "reversal: of a top-up",
    "reversal: of a purchase",
    "reversal: of a refund",
    *(f"reversal: of a {kind}" for kind in ("grant", "authorise", "capture", "transfer", "bulk top-up")),
    *(f"refund: of a {kind}" for kind in ("purchase", "capture", "top-up", "grant")),
    *(f"purchase: {payer}" for payer in ("principal", "bonus", "units", "units that are taken", "cash")),
    *(f"purchase: {payer}, a further card's" for payer in ("principal", "bonus")),
    *(f"authorise: {payer}" for payer in ("principal", "bonus", "points", "units", "units that are taken")),
    "grant: paid with points",
    "grant: goods",
    "top-up: with points",
    "top-up: with a bundle",
    "top-up: at a lower price",
    "bulk top-up: with a bundle",
    "holder: with a gift",
    "purchase: with a gift",
    "capture: with a gift",
    "purchase: no more points that day",
    "reversal: of a gift",
    "shortfall: made good",
    "alias: moved",
    "close: a hold ended",
    "close: a lot lapsed",
    "close: a tier is lowered",
    "growth: of a dated lot",
    "purchase: a tier is reached",
    "purchase: around a birthday",
    *(f"{kind}: with fees" for kind in ("purchase", "capture", "refund", "reversal")),
    "fees: from the card's merchant",
    "reversal: shortfall of money",
    "reversal: shortfall of points",
    "reversal: shortfall undone",
    "replayed",
    "growth: granted",
    "growth: not funded",
    "growth: held at the cap",
    "growth: of several merchants",
    "reopened",
    "checkpoint",
    "no room",
)
"""What must have happened, beside commands and codes."""

NewDriver = type[EngineDriver] | type[GrpcDriver]

NO_CARD = 2**32 - 1
NOWHERE_SEQUENCE = 2**62
SIDE_BY_SIDE = 64
THREADS = 16
PER_ENGINE = 1_024


@dataclass
class Coverage:
    """What occurred, counted."""

    histories: int = 0
    steps: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    reasons: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Coverage) -> None:
        self.histories += other.histories
        self.steps += other.steps
        self.commands += other.commands
        self.codes += other.codes
        self.reasons += other.reasons
        self.outcomes += other.outcomes

    def missing(self) -> list[str]:
        """What never occurred."""
        gone = [name for name in (*COMMANDS, *CARD_COMMANDS) if not self.commands[name]]
        gone += [f"reason {reason}" for reason in REASONS if not self.reasons[reason]]
        gone += [f"code {code:02}" for code in CODES if not self.codes[code]]
        return gone + [name for name in OUTCOMES if not self.outcomes[name]]


class Disagreement(AssertionError):
    """The engine and the model do not say the same."""

    def __init__(
        self, player: Player, command: Command | None, what: str, engine: object, model: object
    ) -> None:
        self.history = player.history
        where = describe(command) if command else "at the end"
        super().__init__(
            f"programme {player.history.programme}, {where}\n  {what}\n  engine: {engine}\n  model:  {model}"
        )


def describe(command: Command) -> str:
    """A command on one line, without what is zero."""
    labels = ", ".join(command.labels)
    if command.row is None:
        said = ", ".join(map(repr, command.args))
    else:
        said = without_zeros(command.row._replace(items=()))
        said += "".join(
            f", {ITEM_NAMES.get(item.kind, '?')}({without_zeros(item)})" for item in command.row.items
        )
        if command.names != AS_IS:
            said += f", names={command.names}"
    return f"#{command.number} batch {command.batch} [{labels}] {said}"


def without_zeros(fields: Row | Item) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields._asdict().items() if value)


ITEM_NAMES = {
    COUPON: "coupon",
    CODE: "code",
    PASS: "pass",
    CARD: "card",
    PIN: "PIN",
    CASH: "cash",
    STAFF: "staff",
    ALIAS: "alias",
    NUMBER: "number",
    MEMBER: "member",
    NEW_PIN: "new PIN",
    CURSOR: "cursor",
}


class Player:
    """One history on its way: the model, the sequences so far, and what comes next."""

    def __init__(self, history: History, sayable: Callable[[Row], Row]) -> None:
        """`sayable`: a row as the way to the engine can say it (`Driver.sayable`)."""
        self.history = history
        self.coverage = Coverage(histories=1)
        self.model = Model()
        self.left = [
            command._replace(row=sayable(command.row)) if command.row else command
            for command in reversed(history.commands)
        ]
        self.batch: list[Command] = []
        self.answers: list[Answer] = []
        self.model_sequence: dict[int, int] = {}
        self.engine_sequence: dict[int, int] = {0: 0}
        self.newest = 0
        self.closed: dict[int, int] = {}
        self.foreign = 0
        self.card_indexes: list[int] = []
        self.fed = 1

    def programme(self) -> Programme:
        return self.model.programmes[self.history.programme]

    # Rows

    def next_rows(self, foreign: int) -> list[Row]:
        """The rows of the next batch for the engine; the model answers them here.

        `foreign` is a sequence of another programme. The first one is kept, so that a retry names it again.
        """
        self.foreign = self.foreign or foreign
        number = self.left[-1].batch
        self.batch = []
        while self.left and self.left[-1].batch == number:
            self.batch.append(self.left.pop())
        self.answers = [self.model.execute(self.row_for_model(command)) for command in self.batch]
        return [self.row_for_engine(command) for command in self.batch]

    def row_for_model(self, command: Command) -> Row:
        """The row with the model's sequence of its original; what is not known yet is nowhere."""
        row = command.row
        assert row is not None
        row = self.with_cards(row, range(len(self.card_indexes)))
        if command.names == AS_IS:
            return row
        return row._replace(original=self.model_sequence.get(command.names, NOWHERE_SEQUENCE))

    def row_for_engine(self, command: Command) -> Row:
        """The row with the engine's sequence of its original; what is not known yet is nowhere."""
        row = command.row
        assert row is not None
        row = self.with_cards(row, self.card_indexes)
        if command.names in (AS_IS, NOWHERE):
            return row
        if command.names == FOREIGN:
            return row._replace(original=self.foreign)
        known = self.model_sequence.get(command.names)
        return row._replace(original=NOWHERE_SEQUENCE if known is None else self.engine_sequence[known])

    def with_cards(self, row: Row, indexes: Sequence[int]) -> Row:
        """The row with the indexes of the cards that its cursors name; what is not known yet is nowhere."""
        if not any(item.kind == CURSOR for item in row.items):
            return row
        known = dict(enumerate(indexes))
        items = [
            item._replace(low=known.get(item.low, NO_CARD) if item.low < NO_CARD else item.low)
            if item.kind == CURSOR
            else item
            for item in row.items
        ]
        return row._replace(items=tuple(items))

    def number_cards(self, driver: Driver) -> None:
        """Learn as which of all cards its own were issued: only the feed tells."""
        issues = any(command.row is not None and command.row.kind == ISSUE for command in self.batch)
        while issues:
            fed = driver.engine.feed(self.fed, programme=self.history.programme)
            issued = fed.entries[(fed.entries["kind"] == ISSUE) & (fed.entries["code"] == 0)]
            self.card_indexes += issued["card_index"].tolist()
            if fed.next == self.fed:
                break
            self.fed = fed.next

    def check_rows(self, answers: Sequence[Answer]) -> None:
        """Compare the engine's answers with the model's, and learn the sequences."""
        for command, model, engine in zip(self.batch, self.answers, answers, strict=True):
            if engine[1:] != model[1:] or not self.same_sequence(model.sequence, engine.sequence):
                wanted = model._replace(sequence=self.engine_sequence.get(model.sequence, -1))
                raise Disagreement(self, command, "answer (model's sequence -1: a new one)", engine, wanted)
            if model.sequence and not model.replayed and command.number not in self.model_sequence:
                self.model_sequence[command.number] = model.sequence
            self.count(command, model)

    def same_sequence(self, model: int, engine: int) -> bool:
        """Whether an engine's sequence is this transaction's; a new one's is greater than all before."""
        known = self.engine_sequence.get(model)
        if known is not None:
            return known == engine
        if engine <= self.newest:
            return False
        self.engine_sequence[model] = self.newest = engine
        return True

    def count(self, command: Command, answer: Answer) -> None:
        """Count a command, its code and what came of it."""
        coverage = self.coverage
        coverage.steps += 1
        coverage.commands.update(command.labels)
        coverage.codes[answer.code] += 1
        coverage.reasons[answer.reason] += 1
        row = command.row
        assert row is not None
        if answer.replayed:
            coverage.outcomes["replayed"] += 1
        elif answer.code == 0 and answer.sequence:
            coverage.outcomes.update(outcomes_of(row.kind, answer, self.programme()))

    # Everything else

    def play_calls(self, driver: Driver) -> None:
        """Do what comes next as long as it is not a row."""
        while self.left and self.left[-1].row is None:
            command = self.left.pop()
            self.coverage.steps += 1
            self.coverage.commands.update(command.labels)
            CALLS[command.call](self, driver, command)

    def agree(self, command: Command | None, what: str, engine: object, model: object) -> None:
        if engine != model:
            raise Disagreement(self, command, what, engine, model)

    def publish(self, driver: Driver, command: Command) -> None:
        code = driver.publish(self.history.programme, *command.args)
        self.agree(command, "publish", code, self.programme().publish(*command.args))
        self.coverage.codes[code] += 1

    def register(self, driver: Driver, command: Command) -> None:
        codes = driver.register(command.args[0])
        self.agree(command, "register", codes, [self.model.register(*one) for one in command.args[0]])
        self.coverage.codes.update(codes)

    def close(self, driver: Driver, command: Command) -> None:
        date = command.args[0]
        self.count_end_of_day(date)
        engine = driver.close_day(self.history.programme, date)
        model = self.programme().close_day(date)
        self.coverage.codes[model["code"]] += 1
        if engine["code"] == 0:
            sequence = engine.pop("sequence")
            engine["stores"] = [{name: store[name] for name in STORE_FIELDS} for store in engine["stores"]]
            if date not in self.closed and sequence > self.newest:
                self.closed[date] = self.newest = sequence
            self.agree(command, "sequence of the close", sequence, self.closed.get(date))
        self.agree(command, "report", engine, model)
        growth = model.get("growth")
        if growth and not model["replayed"]:
            self.coverage.outcomes["growth: granted" if growth["funded"] else "growth: not funded"] += 1
            full = any(
                self.programme().purse(POINTS, card) == CAP for card in self.programme().cards.values()
            )
            self.coverage.outcomes["growth: held at the cap"] += growth["funded"] and full
            growing = [granted for granted in self.programme().newest_growth.values() if granted]
            self.coverage.outcomes["growth: of several merchants"] += growth["funded"] and len(growing) > 1
        self.liabilities(driver, command)

    def count_end_of_day(self, date: int) -> None:
        """Count what this close ends."""
        books, outcomes = self.programme(), self.coverage.outcomes
        if date != books.open_date:
            return
        holds = [hold for card in books.cards.values() for hold in card.holds if not hold.ended]
        outcomes["close: a hold ended"] += any(hold.until <= date for hold in holds)
        lots = [place for place, amount in books.balances.items() if is_purse(place.account) and amount]
        outcomes["close: a lot lapsed"] += any(0 < lot.expires <= date for lot in lots)
        outcomes["close: a tier is lowered"] += any(self.falls(card) for card in books.cards.values())
        rate = books.rules()["compounding_rate"] if books.versions else 0
        growing = [lot for lot in lots if lot.account == POINTS and lot.expires > date]
        outcomes["growth: of a dated lot"] += rate > 0 and len(growing) > 0

    def falls(self, card: Card) -> bool:
        """Whether the close of the open day would lower a card's tier."""
        books = self.programme()
        growth = books.rules().get("growth_value") if books.versions else None
        if growth is None or not 0 < card.tier_until <= books.open_date:
            return False
        left = [lot for lot in books.lots(card, growth["unit"]) if lot.expires > books.open_date]
        return books.reached(sum(map(books.balance, left))) < card.tier

    def statement(self, driver: Driver, command: Command) -> None:
        digits, number, limit, before = command.args
        sequence = self.model_sequence.get(before, 0)
        self.check_statement(driver, command, digits, number, limit, sequence)

    def check_statement(
        self, driver: Driver, command: Command | None, digits: int, number: int, limit: int, before: int
    ) -> list[dict[str, int]]:
        """Compare a page of a statement; the model's page. `before` is the model's sequence."""
        code, lines = self.programme().statement(digits, number, limit or 100, before)
        mapped = [line | {"sequence": self.engine_sequence[line["sequence"]]} for line in lines]
        engine = driver.statement(self.history.programme, digits, number, limit, self.engine_sequence[before])
        if engine != (code, mapped):
            different = [pair for pair in zip_longest(engine[1], mapped) if pair[0] != pair[1]]
            self.agree(command, "statement", (engine[0], *different[0][:1]), (code, *different[0][1:]))
        return lines

    def know(self, driver: Driver, command: Command) -> None:
        member, birthday = command.args
        code = driver.know(self.history.programme, member, birthday)
        self.agree(command, "member", code, 0)
        self.programme().birthdays[member] = birthday

    def positions(self, driver: Driver, command: Command | None) -> None:
        code, stores = driver.positions(self.history.programme)
        model = [store for store in self.programme().positions() if any(store[name] for name in STORE_MONEY)]
        stores = [store for store in stores if any(store[name] for name in STORE_MONEY)]
        self.agree(command, "positions", (code, stores), (0, model))

    def liabilities(self, driver: Driver, command: Command | None) -> None:
        engine = driver.liabilities(self.history.programme)
        programme = self.programme()
        self.agree(command, "liabilities", engine, (0, programme.growth_date, programme.liabilities()))

    def trial_balance(self, driver: Driver, command: Command | None) -> None:
        engine = driver.trial_balance(self.history.programme)
        model = self.programme().trial_balance()
        self.agree(
            command,
            "trial balance",
            {
                name: engine[name]
                for name in ("code", "open_date", "cards", "money_sum", "points_sum", "growing")
            },
            {"code": 0, "open_date": model["open_date"], "cards": model["cards"]}
            | {"money_sum": 0, "points_sum": 0, "growing": False},
        )
        self.agree(command, "totals", engine["totals"], dict(sorted(model["totals"].items())))
        units = {unit: of_unit for unit, of_unit in engine["units"].items() if any(of_unit)}
        self.agree(command, "units", units, model["units"])

    def staff(self, driver: Driver, command: Command | None) -> None:
        self.agree(command, "staff", driver.staff(self.history.programme), self.programme().staff())

    def finish(self, driver: Driver) -> None:
        """Everything that can be asked, when all is done; balances were the last rows."""
        self.positions(driver, None)
        self.liabilities(driver, None)
        self.trial_balance(driver, None)
        self.staff(driver, None)
        for digits, number in self.history.cards:
            if (digits, number) in self.programme().numbers:
                first = self.check_statement(driver, None, digits, number, 7, 0)
                if len(first) == 7:
                    self.check_statement(driver, None, digits, number, 1_000, first[-1]["sequence"])


STORE_FIELDS = ("store", "sold", "collected", "net", "fees")
STORE_MONEY = ("sold", "collected", "net", "due", "fees")

CALLS: dict[str, Callable[[Player, Driver, Command], None]] = {
    "publish": Player.publish,
    "register": Player.register,
    "close": Player.close,
    "statement": Player.statement,
    "positions": Player.positions,
    "liabilities": Player.liabilities,
    "trial balance": Player.trial_balance,
    "know": Player.know,
}


def of_rules(transaction: Transaction, answer: Answer, programme: Programme) -> Iterator[str]:
    """What a purchase had to do with tiers and birthdays."""
    if answer.tier:
        yield "purchase: a tier is reached"
    card = transaction.card
    if card is not None and card.member:
        near = stacking.near_birthday(programme, card, transaction.row)
        if near & stacking.asked_birthdays(programme):
            yield "purchase: around a birthday"


def with_fees(kind: int, transaction: Transaction) -> Iterator[str]:
    """Which fees came with it."""
    paid_to = {move.taker.account for move in transaction.moves}
    if paid_to & set(fees.FEES):
        yield f"{KIND_NAMES[kind]}: with fees"
    if kind == PURCHASE and STORE_FEES in paid_to:
        yield "fees: from the card's merchant"


def outcomes_of(kind: int, answer: Answer, programme: Programme) -> Iterator[str]:
    """What an approved transaction did, in the words of OUTCOMES."""
    transaction = programme.transactions[answer.sequence - 1]
    if kind == TOP_UP and answer.bonus:
        yield "top-up: with bonus"
    if kind == PURCHASE:
        yield from of_rules(transaction, answer, programme)
    if kind == PURCHASE and answer.discount:
        yield "purchase: discounted"
    if kind in (PURCHASE, AUTHORISE):
        yield from payers_of(KIND_NAMES[kind], answer)
    if kind == REFUND:
        assert transaction.original is not None
        yield f"refund: of a {KIND_NAMES[transaction.original.row.kind]}"
        if answer.shortfall_points:
            yield "refund: shortfall of points"
        if 0 < transaction.refunded_before == transaction.original.answer.amount - answer.amount:
            yield "refund: the last of several"
    if kind == BIND and any(item.kind == CARD for item in transaction.row.items):
        yield "alias: moved"
    yield from given_with(kind, answer, transaction)
    yield from with_fees(kind, transaction)
    if any(move.taker.account in SHORTFALLS for move in transaction.moves):
        yield "shortfall: made good"
    if kind == REVERSAL and answer.amount:
        original = programme.find_original(transaction.row)
        assert original is not None
        yield f"reversal: of a {KIND_NAMES[original.row.kind]}"
        yield from shortfalls_of(answer)
        if original.given and original.row.kind != GRANT:
            yield "reversal: of a gift"


def given_with(kind: int, answer: Answer, transaction: Transaction) -> Iterator[str]:
    """What came with it beyond what was asked for."""
    if kind == GRANT and answer.points_spent:
        yield "grant: paid with points"
    if kind == GRANT and any(move.taker.account == CLEARING for move in transaction.moves):
        yield "grant: goods"
    if kind == TOP_UP and answer.points_earned:
        yield "top-up: with points"
    if kind == TOP_UP and answer.discount:
        yield "top-up: at a lower price"
    if transaction.given and kind in (TOP_UP, BULK_TOP_UP):
        yield f"{KIND_NAMES[kind]}: with a bundle"
    if transaction.given and kind in (HOLDER, PURCHASE, CAPTURE):
        yield f"{KIND_NAMES[kind]}: with a gift"
    if kind == PURCHASE and transaction.capped:
        yield "purchase: no more points that day"


PAYERS = {
    BONUS: "bonus",
    COLLECTION: "cash",
    ISSUER_POINTS: "points",
    ISSUER_UNITS: "units",
    PRINCIPAL: "principal",
    UNIT: "units that are taken",
}


def payers_of(kind: str, answer: Answer) -> Iterator[str]:
    """Who paid a sale; what a plain one tells is in its fields."""
    if answer.offset:
        yield "purchase: paid with points"
    for part in answer.parts:
        if part.account in PAYERS and (part.amount < 0 or not is_purse(part.account)):
            yield f"{kind}: {PAYERS[part.account]}" + (", a further card's" if part.card else "")


def shortfalls_of(answer: Answer) -> Iterator[str]:
    if answer.shortfall_money > 0:
        yield "reversal: shortfall of money"
    if answer.shortfall_points > 0:
        yield "reversal: shortfall of points"
    if answer.shortfall_points < 0:
        yield "reversal: shortfall undone"


def is_purse(account: int) -> bool:
    return account in PURSES


# Playing many


def play(
    histories: Sequence[History],
    driver: Driver,
    coverage: Coverage,
    between: Callable[[], None] = lambda: None,
) -> list[Player]:
    """Play histories side by side: in each round every one of them has its next batch in one execution."""
    players = [Player(history, driver.sayable) for history in histories]
    opening = [one for history in histories for one in history.opening]
    assert driver.register(opening) == [0] * len(opening), "registration of new programmes"
    for player in players:
        player.fed = driver.engine.stats().entries + 1
        assert all(player.model.register(*one) == 0 for one in player.history.opening)
        player.coverage.commands["register"] += 1
    with ThreadPoolExecutor(THREADS) as threads:
        active = players
        while active:
            # Calls of several programmes at a time share commits; those of one keep their order.
            list(threads.map(partial(Player.play_calls, driver=driver), active))
            active = [player for player in active if player.left]
            play_rows(active, driver)
            between()
        list(threads.map(partial(Player.finish, driver=driver), players))
    for player in players:
        coverage.add(player.coverage)
    return players


def play_rows(players: list[Player], driver: Driver) -> None:
    """The next batch of every player, in one execution."""
    # Another programme's newest sequence, or that of a registration; neither is one of its own transactions'.
    foreign = [other.newest or 1 for other in (*players[-1:], *players[:-1])] if len(players) > 1 else [1]
    batches = [player.next_rows(other) for player, other in zip(players, foreign, strict=False)]
    found = execute_riffled(driver, batches)
    for player, answers in zip(players, found, strict=True):
        player.check_rows(answers)
        player.number_cards(driver)


def execute_riffled(driver: Driver, batches: list[list[Row]]) -> list[list[Answer]]:
    """Execute batches as one, a row of each in turn; the answers of each."""
    turns = [
        (index, row) for turn in zip_longest(*batches) for index, row in enumerate(turn) if row is not None
    ]
    answers: list[list[Answer]] = [[] for _ in batches]
    if turns:
        for (index, _), answer in zip(turns, driver.execute([row for _, row in turns]), strict=True):
            answers[index].append(answer)
    return answers


def shaken(driver: Driver, coverage: Coverage, rng: Random) -> Callable[[], None]:
    """What happens to an engine between rounds: now and then a checkpoint, or it is closed and reopened."""

    def between() -> None:
        chance = rng.random()
        if chance < 0.02:
            driver.checkpoint()
            coverage.outcomes["checkpoint"] += 1
        elif chance < 0.04:
            driver.reopen()
            coverage.outcomes["reopened"] += 1

    return between


@dataclass(frozen=True)
class Share:
    """A part of a run: histories of seeds from `first`, `count` of them, over gRPC or not."""

    seed: int
    first: int
    count: int
    grpc: bool

    def histories(self) -> Iterator[History]:
        for index in range(self.count):
            seed = self.seed * 1_000_000_007 + self.first + index
            programme = index * 63 % PROGRAMMES_MAX + 1
            yield history_of(programme, seed) if seed % 2 else card_history_of(programme, seed)


def play_share(share: Share) -> Coverage:
    """Play a share in an engine of its own; a disagreement comes with a reproduction that is small."""
    coverage = Coverage()
    path = tempfile.mkdtemp(prefix="onecard-histories-")
    new: NewDriver = GrpcDriver if share.grpc else EngineDriver
    driver = new(path)
    try:
        between = shaken(driver, coverage, Random(share.seed * 7_919 + share.first))
        histories = share.histories()
        while group := list(islice(histories, SIDE_BY_SIDE)):
            play(group, driver, coverage, between)
    except Disagreement as found:
        raise AssertionError(f"{found}\n{reproduction(found.history, new)}") from None
    except EngineError as broken:
        culprits = [history for history in group if fails_alone(history, new)]
        told = reproduction(culprits[0], new) if culprits else "none of these breaks it alone"
        raise AssertionError(f"{broken}\n{told}") from broken
    finally:
        driver.close()
        shutil.rmtree(path, ignore_errors=True)
    return coverage


# A small reproduction


def fails_alone(history: History, new: NewDriver, *, shaking: bool = False) -> str:
    """How a history disagrees when played alone in a new engine; empty if it does not."""
    with tempfile.TemporaryDirectory(prefix="onecard-shrink-") as path:
        driver = new(path)
        try:
            play([history], driver, Coverage(), driver.reopen if shaking else lambda: None)
        except (Disagreement, EngineError) as found:
            return str(found)
        finally:
            driver.close()
    return ""


def smaller(history: History, fails: Callable[[History], object], patience_s: float = 60.0) -> History:
    """Drop commands, many at a time, then one by one, as long as the history still fails."""
    until = time.monotonic() + patience_s
    commands = history.commands
    size = len(commands) // 2
    while size:
        at = 0
        while at < len(commands) and time.monotonic() < until:
            shorter = commands[:at] + commands[at + size :]
            if fails(History(history.programme, history.opening, shorter, history.cards, history.seeds)):
                commands = shorter
            else:
                at += size
        size //= 2
    return History(history.programme, history.opening, commands, history.cards, history.seeds)


def reproduction(history: History, new: NewDriver) -> str:
    """The fewest commands that still disagree, in words; the seeds alone if it takes others beside it."""
    for shaking in (False, True):
        fails = partial(fails_alone, new=new, shaking=shaking)
        if fails(history):
            small = smaller(history, fails)
            lines = [f"smallest reproduction, {new.__name__}, seeds {history.seeds}"]
            lines += ["(the engine is reopened after every batch)"] if shaking else []
            lines += [f"  opening {one}" for one in history.opening]
            lines += [f"  {describe(command)}" for command in small.commands]
            return "\n".join([*lines, fails(small)])
    return f"alone it agrees: it takes the histories beside it; seeds {history.seeds}"


# No room


def play_without_room(coverage: Coverage, journal_bytes_max: int = 4 << 20) -> None:
    """Fill a small journal until 91, see that nothing changed and queries go on; go on in a larger one.

    Counts 91 and no more: what fills the journal is no history.
    """
    path = tempfile.mkdtemp(prefix="onecard-no-room-")
    driver = EngineDriver(path, journal_bytes_max=journal_bytes_max)
    try:
        (player,) = play([history_of(1, 91)], driver, Coverage())
        header = Row(FUND, programme=1, business_date=player.programme().open_date, terminal=1)
        refused = fill(player, driver, header._replace(amount=AMOUNT_MAX, id_hi=2**63))
        check_refusing(player, driver, refused)
        driver.reopen(journal_bytes_max=journal_bytes_max * 16)
        assert execute_one(player, driver, refused).code == 0, "there is room again"
        player.finish(driver)
        coverage.codes[91] += player.coverage.codes[91]
        coverage.outcomes["no room"] += 1
    finally:
        driver.close()
        shutil.rmtree(path, ignore_errors=True)


def fill(player: Player, driver: Driver, header: Row) -> Row:
    """Fund, in ever smaller batches, until not one row more has room; the row that was refused with 91."""
    number, size = 1, 512
    while size:
        batch = [header._replace(id_lo=n) for n in range(number, number + size)]
        engine = driver.execute(batch)
        kept = next((at for at, answer in enumerate(engine) if answer.code == 91), size)
        player.batch = [Command(-1, ("fund",), 0, row) for row in batch[:kept]]
        player.answers = [player.model.execute(row) for row in batch[:kept]]
        player.check_rows(engine[:kept])
        assert all(answer == Answer(code=91) for answer in engine[kept:]), "91 tells nothing but itself"
        player.coverage.codes[91] += size - kept
        number += kept
        if kept < size:
            size //= 8
    return header._replace(id_lo=number)


def execute_one(player: Player, driver: Driver, row: Row) -> Answer:
    """One row through both; 91 is the engine's alone."""
    engine = driver.execute([row])[0]
    if engine.code != 91:
        player.batch = [Command(-1, (KIND_NAMES[row.kind],), 0, row)]
        player.answers = [player.model.execute(row)]
        player.check_rows([engine])
    return engine


def check_refusing(player: Player, driver: Driver, refused: Row) -> None:
    """A full engine answers what it knows and what changes nothing, in the order of docs/codes.md."""
    assert execute_one(player, driver, refused).code == 91
    known = refused._replace(id_lo=1)
    assert execute_one(player, driver, known).replayed == 1
    assert execute_one(player, driver, known._replace(amount=2)).code == 94
    assert execute_one(player, driver, refused._replace(terminal=77_777_777)).code == 58
    assert execute_one(player, driver, refused._replace(business_date=1)).code == 12
    assert execute_one(player, driver, refused._replace(status=1)).code == 30
    for digits, number in player.history.cards:
        query = Row(BALANCE, programme=1, terminal=1, card_digits=digits, card=number)
        assert execute_one(player, driver, query).code in (0, 14)
    assert driver.close_day(1, refused.business_date) == {"code": 91}
    assert driver.register([("terminal", 1, 88_888_888, 1, "")]) == [91]
    player.finish(driver)


# The command line


def shares_of(count: int, grpc: int, seed: int) -> list[Share]:
    """A run in shares of one engine each."""
    shares = []
    for total, over_grpc in ((count - grpc, False), (grpc, True)):
        size = PER_ENGINE if not over_grpc else PER_ENGINE // 8
        shares += [
            Share(seed + over_grpc, first, min(size, total - first), over_grpc)
            for first in range(0, total, size)
        ]
    return shares


def run(count: int, grpc: int, seed: int, jobs: int, console: Console) -> Coverage:
    """Play `count` histories, `grpc` of them over gRPC, in `jobs` processes."""
    coverage = Coverage()
    play_without_room(coverage)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("histories", total=count)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            parts = [pool.submit(play_share, share) for share in shares_of(count, grpc, seed)]
            try:
                for part in as_completed(parts):
                    played = part.result()
                    coverage.add(played)
                    progress.advance(task, played.histories)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return coverage


def show(coverage: Coverage, console: Console) -> None:
    """How often everything occurred."""
    for title, counts in (
        ("command", {name: coverage.commands[name] for name in (*COMMANDS, *CARD_COMMANDS)}),
        ("code", {f"{code:02}": coverage.codes[code] for code in CODES}),
        ("reason", {f"{reason}": coverage.reasons[reason] for reason in REASONS}),
        ("outcome", {name: coverage.outcomes[name] for name in OUTCOMES}),
    ):
        table = Table(title, "times")
        table.columns[1].justify = "right"
        for name, times in counts.items():
            table.add_row(name, f"{times:,}")
        console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="histories in all")
    parser.add_argument("--grpc", type=int, default=100, help="how many of them over gRPC")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes, each with an engine of its own")
    given = parser.parse_args(arguments)
    console = Console()
    start = time.monotonic()
    try:
        coverage = run(given.count, given.grpc, given.seed, given.jobs, console)
    except AssertionError as found:
        console.print(str(found), markup=False, highlight=False, soft_wrap=True)
        console.print(f"disagreement; seed {given.seed}")
        return 1
    show(coverage, console)
    average = coverage.steps / max(coverage.histories, 1)
    console.print(
        f"{coverage.histories:,} histories ({given.grpc:,} over gRPC) of on average {average:.1f} commands"
        f" agree; {time.monotonic() - start:,.0f} s; seed {given.seed}"
    )
    missing = coverage.missing()
    if missing:
        console.print(f"never occurred: {', '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
