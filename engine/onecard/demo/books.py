"""The demo's own books: every transaction priced again, from the request and the rules alone.

The engine's arithmetic is not used, only docs/transactions.md, in plain integers, a day at a time. A request
that the engine refused posts nothing here either. `audit` holds every answer, every close and, at the end,
every account and every store against these books; a difference is a sentence.
"""

from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from onecard.codes import Account
from onecard.demo.chain import TILLS_MAX
from onecard.demo.year import Day, Replay
from onecard.rules import Rules
from onecard.v1 import admin_pb2, terminal_pb2, transaction_pb2

ONE = 10**12
CAP = 10**16
DIFFERENCES_MAX = 20


class Expected(NamedTuple):
    """What an answer must say."""

    code: int = 0
    replayed: bool = False
    amount: int = 0
    discount: int = 0
    principal: int = 0
    bonus: int = 0
    offset: int = 0
    points_earned: int = 0
    points_spent: int = 0
    shortfall_money: int = 0
    shortfall_points: int = 0
    principal_balance: int = 0
    bonus_balance: int = 0
    points_balance: int = 0


TOLD = attrgetter(*Expected._fields)


@dataclass(slots=True)
class Card:
    """A household's card: its product's rules and its purses."""

    product: dict[str, Any]
    principal: int = 0
    bonus: int = 0
    points: int = 0
    # What growth left over, over 10^12.
    carry: int = 0


@dataclass
class Figures:
    """What a business day brought. Money in cents, points in 1/10,000."""

    date: int
    purchases: int = 0
    # List amounts, discounts, and what was due.
    listed: int = 0
    discount: int = 0
    sales: int = 0
    top_ups: int = 0
    topped_up: int = 0
    bonus: int = 0
    earned: int = 0
    spent: int = 0
    # Money that points paid.
    offset: int = 0
    grown: int = 0
    growth_refused: bool = False
    # After the close.
    outstanding: int = 0
    cards: int = 0
    stored: int = 0


@dataclass
class Books:
    """All cards, accounts and stores, under one version of the rules."""

    tables: dict[str, Any]
    cards: dict[str, Card] = field(default_factory=dict)
    accounts: Counter[int] = field(default_factory=Counter)
    sold: Counter[int] = field(default_factory=Counter)
    collected: Counter[int] = field(default_factory=Counter)
    due: Counter[int] = field(default_factory=Counter)
    # Members' money, the issuer's bonus and points accounts, after the close before.
    issuer_before: tuple[int, int, int] = (0, 0, 0)
    days: list[Figures] = field(default_factory=list)
    # The stores' dues after each day.
    due_by_day: list[dict[int, int]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def day(self, day: Day) -> None:
        """Post a day and its close, noting what the engine said otherwise."""
        figures = Figures(day.date)
        for asked, answer in zip(day.asked, day.answers, strict=True):
            if answer.code != 0:
                self.refused[f"{asked.WhichOneof('request')}: {answer.code:02} {answer.message}"] += 1
                continue
            expected = self.post(asked, figures)
            if (told := TOLD(answer)) != expected:
                self._differs(f"entry {answer.sequence} says {Expected(*told)}, the books {expected}")
        self._close(day.close, figures)

    def post(self, asked: terminal_pb2.Transaction, figures: Figures) -> Expected:
        """Post one approved transaction; what its answer must say."""
        match asked.WhichOneof("request"):
            case "issue":
                product = next(p for p in self.tables["products"] if p["id"] == asked.issue.product)
                self.cards[asked.issue.card] = Card(product)
                return Expected()
            case "top_up":
                return self._top_up(asked.top_up, figures)
            case "purchase":
                return self._purchase(asked.purchase, figures)
            case "fund":
                self.accounts[Account.POINTS_POOL] -= asked.fund.amount
                self.accounts[Account.GROWTH_FUNDING] += asked.fund.amount
                return Expected(amount=asked.fund.amount)
            case other:
                raise ValueError(f"the demo sends no {other}")

    def _top_up(self, asked: transaction_pb2.TopUpRequest, figures: Figures) -> Expected:
        card, amount = self.cards[asked.card], asked.amount
        bonus = 0
        for band in self.tables["top_up_bonus"]:
            if band["from"] <= amount:
                bonus = band["bonus"] + amount * band["rate"] // ONE
        card.principal += amount
        card.bonus += bonus
        self.collected[asked.header.terminal // TILLS_MAX] += amount
        self.accounts[Account.CARD_PRINCIPAL] += amount
        self.accounts[Account.CARD_BONUS] += bonus
        self.accounts[Account.STORE_COLLECTION] -= amount
        self.accounts[Account.ISSUER_BONUS] -= bonus
        figures.top_ups += 1
        figures.topped_up += amount
        figures.bonus += bonus
        return Expected(
            amount=amount,
            principal=amount,
            bonus=bonus,
            principal_balance=card.principal,
            bonus_balance=card.bonus,
            points_balance=card.points,
        )

    def _purchase(self, asked: transaction_pb2.PurchaseRequest, figures: Figures) -> Expected:
        card, product = self.cards[asked.card], self.cards[asked.card].product
        discount = asked.amount * product["discount"] // ONE
        due = left = asked.amount - discount
        paid = {"points": 0, "bonus": 0, "principal": 0}
        spent = 0
        for step in self.tables["waterfall"]:
            most = min(left, due * step["share"] // ONE)
            if step["pay"] == "points":
                if not asked.use_points or card.points < step["min_points"]:
                    continue
                money = min(most, card.points * step["price"] // ONE)
                spent = -(-money * ONE // step["price"])
            else:
                money = min(most, card.bonus if step["pay"] == "bonus" else card.principal)
            paid[step["pay"]] = money
            left -= money
        if left:
            self._differs(
                f"a purchase of {due} on card {asked.card} was approved; {left} of it is not covered"
            )
        earned = (paid["bonus"] + paid["principal"]) * product["accrual"] // ONE
        card.principal -= paid["principal"]
        card.bonus -= paid["bonus"]
        card.points += earned - spent
        self.sold[asked.header.terminal // TILLS_MAX] += due
        self.accounts[Account.CARD_PRINCIPAL] -= paid["principal"]
        self.accounts[Account.CARD_BONUS] -= paid["bonus"]
        self.accounts[Account.CARD_POINTS] += earned - spent
        self.accounts[Account.STORE_CLEARING] += due
        self.accounts[Account.ISSUER_POINTS] -= paid["points"]
        self.accounts[Account.POINTS_POOL] += spent - earned
        figures.purchases += 1
        figures.listed += asked.amount
        figures.discount += discount
        figures.sales += due
        figures.earned += earned
        figures.spent += spent
        figures.offset += paid["points"]
        return Expected(
            amount=due,
            discount=discount,
            principal=-paid["principal"],
            bonus=-paid["bonus"],
            offset=paid["points"],
            points_earned=earned,
            points_spent=spent,
            principal_balance=card.principal,
            bonus_balance=card.bonus,
            points_balance=card.points,
        )

    def _close(self, told: admin_pb2.CloseDayResponse, figures: Figures) -> None:
        """Grow, settle the stores into their dues, and hold the report against the books."""
        self._grow(told, figures)
        nets = {}
        for store in sorted(self.sold.keys() | self.collected.keys()):
            sold, collected = self.sold[store], self.collected[store]
            nets[store] = (sold, collected, sold - collected)
            self.due[store] += sold - collected
            self.accounts[Account.STORE_DUE] += sold - collected
            self.accounts[Account.STORE_CLEARING] -= sold
            self.accounts[Account.STORE_COLLECTION] += collected
        self.sold.clear()
        self.collected.clear()
        said = {row.store: (int128(row.sold), int128(row.collected), int128(row.net)) for row in told.stores}
        if said != nets:
            self._differs(f"close of {told.business_date}: the stores' positions differ from the books'")
        issuer = self._issuer()
        change = tuple(now - before for now, before in zip(issuer, self.issuer_before, strict=True))
        self.issuer_before = issuer
        net = int128(told.issuer_net)
        if (int128(told.members), int128(told.bonus), int128(told.points)) != change or net != sum(change):
            self._differs(f"close of {told.business_date}: the issuer's position differs from the books'")
        if net != -sum(net for _, _, net in nets.values()):
            self._differs(f"close of {told.business_date}: stores and issuer do not sum to zero")
        figures.outstanding = sum(card.points for card in self.cards.values())
        figures.stored = issuer[0]
        figures.cards = len(self.cards)
        self.days.append(figures)
        self.due_by_day.append(dict(self.due))

    def _issuer(self) -> tuple[int, int, int]:
        """What members hold in money, and the issuer's accounts for bonus and for points."""
        members = self.accounts[Account.CARD_PRINCIPAL] + self.accounts[Account.CARD_BONUS]
        return members, self.accounts[Account.ISSUER_BONUS], self.accounts[Account.ISSUER_POINTS]

    def _grow(self, told: admin_pb2.CloseDayResponse, figures: Figures) -> None:
        """A day's growth of every card: the remainder is carried, the funding must cover the reserve."""
        rate = self.tables["compounding_rate"]
        if rate == 0:
            return
        outstanding = sum(card.points for card in self.cards.values())
        reserve = outstanding * rate // ONE + len(self.cards)
        funded = self.accounts[Account.GROWTH_FUNDING] >= reserve
        said = told.growth
        growth = (said.rate, int128(said.outstanding), said.purses, int128(said.reserve), said.funded)
        if growth != (rate, outstanding, len(self.cards), reserve, funded):
            self._differs(f"close of {told.business_date}: growth is {growth}, the books say otherwise")
        figures.growth_refused = not funded
        if not funded:
            return
        for card in self.cards.values():
            grown, card.carry = divmod(card.points * rate + card.carry, ONE)
            grown = min(grown, CAP - card.points)
            card.points += grown
            figures.grown += grown
        self.accounts[Account.GROWTH_FUNDING] -= figures.grown
        # The trial balance lists cards' points with their growth.
        self.accounts[Account.CARD_POINTS] += figures.grown

    def _differs(self, sentence: str) -> None:
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(sentence)


def audit(replay: Replay, rules: Rules) -> Books:
    """The books of a replayed year, with every difference from what the server said."""
    books = Books(rules.tables)
    for day in replay.days:
        books.day(day)
    totals = {Account(row.account): int128(row.total) for row in replay.trial.totals}
    for account in Account:
        told, own = totals.get(account, 0), books.accounts[account]
        if told != own:
            books.differences.append(f"{account.name}: the engine has {told}, the books have {own}")
    for unit, in_points, told in (
        ("money", False, int128(replay.trial.money_sum)),
        ("points", True, int128(replay.trial.points_sum)),
    ):
        own = sum(total for account, total in totals.items() if account.in_points == in_points)
        if told != 0 or own != 0:
            books.differences.append(
                f"{unit} is not conserved: the engine's sum is {told}, that of its totals {own}"
            )
    due = {row.store: int128(row.due) for row in replay.positions.stores}
    if any(due.get(store, 0) != books.due[store] for store in due.keys() | books.due.keys()):
        books.differences.append("the stores' dues differ from the books'")
    if replay.trial.cards != len(books.cards):
        books.differences.append(
            f"the engine has {replay.trial.cards} cards, the books have {len(books.cards)}"
        )
    return books


def int128(value: admin_pb2.Int128) -> int:
    """The number that a message of two halves means."""
    return (value.high << 64) + value.low
