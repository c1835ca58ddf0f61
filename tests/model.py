"""Reference model of the engine: small, obvious, slow, in plain integers.

It is written from docs/transactions.md, docs/codes.md and docs/rules.md alone and imports nothing of
onecard, so that a mistake in the engine is not made here a second time. Everything happens the obvious
way: balances in one dict, every transaction in one list, growth applied to every card at every close.

Invariants: the legs of every transaction sum to zero in money and in points (asserted when they are
posted), and so do all balances (asserted by `trial_balance`). A purse holds 0 to CAP.

Sequences are the model's own: 1, 2, 3 ... over transactions only. Who compares it with an engine maps
them from answer to answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ONE = 10**12
CAP = 10**16
AMOUNT_MAX = 10**14
WINDOW_DAYS = 7
DAY_S = 86_400
TOLERANCE_S = 86_400

ISSUE, TOP_UP, PURCHASE, REFUND, REVERSAL, BALANCE, STATUS, FUND = range(1, 9)
ACTIVE, FROZEN = 1, 2
WITH_POINTS = 1

PRINCIPAL, BONUS, POINTS, SHORT_MONEY, SHORT_POINTS = 1, 2, 3, 4, 5
CLEARING, COLLECTION, DUE = 16, 17, 18
ISSUER_BONUS, ISSUER_POINTS = 32, 33
POOL, FUNDING, RESERVE, GROWTH = 40, 41, 42, 43
MONEY_ACCOUNTS = (1, 2, 4, 16, 17, 18, 32, 33)
POINTS_ACCOUNTS = (3, 5, 40, 41, 42, 43)

Key = tuple[int, ...]
Leg = tuple[int, object, int]


class Row(NamedTuple):
    """One request: the fields of docs/transactions.md, flat; dates are days since 1970-01-01."""

    kind: int = 0
    flags: int = 0
    channel: int = 0
    card_digits: int = 0
    programme: int = 0
    product: int = 0
    business_date: int = 0
    local_time: int = 0
    card: int = 0
    amount: int = 0
    terminal: int = 0
    trace: int = 0
    id_hi: int = 0
    id_lo: int = 0
    original: int = 0
    original_terminal: int = 0
    original_trace: int = 0
    original_id_hi: int = 0
    original_id_lo: int = 0
    original_date: int = 0
    expires: int = 0
    status: int = 0


class Answer(NamedTuple):
    """One answer: the fields of docs/transactions.md."""

    sequence: int = 0
    business_date: int = 0
    code: int = 0
    replayed: int = 0
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


@dataclass
class Card:
    """A card; its purses are in the programme's balances, all but its growth."""

    name: tuple[int, int]
    product: int
    expires: int
    merchant: int
    status: int = ACTIVE
    growth: int = 0
    carry: int = 0


@dataclass
class Transaction:
    """A kept request, its outcome, and what later transactions change about it."""

    row: Row
    key: Key
    store: int
    card: Card | None = None
    original: Transaction | None = None
    legs: list[Leg] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    answer: Answer = field(default_factory=Answer)
    reversed: bool = False
    refunded: int = 0
    refunded_before: int = 0
    refunds: list[Transaction] = field(default_factory=list)


def key_of(row: Row) -> Key:
    """The key that a request carries: by trace, or by id."""
    if row.trace:
        return (row.business_date, row.terminal, row.trace)
    return (row.business_date, 0, row.id_hi, row.id_lo)


def original_key_of(row: Row) -> Key:
    """The key by which a refund or a reversal names its original."""
    if row.original_trace:
        return (row.original_date, row.original_terminal, row.original_trace)
    return (row.original_date, 0, row.original_id_hi, row.original_id_lo)


def malformed(row: Row) -> bool:
    """True if the answer is 30: whatever is not used must be zero, whatever is used must make sense."""
    kind = row.kind
    if not ISSUE <= kind <= FUND or row.terminal == 0:
        return True
    if kind in (ISSUE, TOP_UP, PURCHASE, BALANCE, STATUS):
        if not 8 <= row.card_digits <= 19 or row.card >= 10**row.card_digits:
            return True
    elif row.card_digits or row.card:
        return True
    if kind != ISSUE and (row.product or row.expires):
        return True
    if kind not in (TOP_UP, PURCHASE, REFUND, FUND) and row.amount:
        return True
    if row.flags & ~(WITH_POINTS if kind == PURCHASE else 0):
        return True
    if row.status not in ((ACTIVE, FROZEN) if kind == STATUS else (0,)):
        return True
    has_trace, has_id = row.trace != 0, (row.id_hi, row.id_lo) != (0, 0)
    if (has_trace or has_id) if kind == BALANCE else (has_trace == has_id):
        return True
    return malformed_original(row)


def malformed_original(row: Row) -> bool:
    """True if the original is named where none belongs, in no way, in two ways, or is the request itself."""
    has_trace, has_id = row.original_trace != 0, (row.original_id_hi, row.original_id_lo) != (0, 0)
    any_key = has_trace or has_id or row.original_terminal != 0 or row.original_date != 0
    if row.kind not in (REFUND, REVERSAL):
        return row.original != 0 or any_key
    if row.original:
        return any_key
    if has_trace == has_id or (row.original_terminal != 0) != has_trace:
        return True
    return original_key_of(row) == key_of(row)


class Programme:
    """One programme: its organisation, rules, cards, balances and transactions."""

    def __init__(self, name: str, first_date: int) -> None:
        self.name = name
        self.first_date = first_date
        self.open_date = first_date
        self.merchants: dict[int, str] = {}
        self.stores: dict[int, tuple[int, str]] = {}
        self.terminals: dict[int, int] = {}
        self.versions: list[tuple[str, str, dict[str, Any]]] = []
        self.cards: dict[tuple[int, int], Card] = {}
        self.balances: dict[tuple[int, object], int] = {}
        self.transactions: list[Transaction] = []
        self.keys: dict[Key, Transaction] = {}
        self.marks: dict[Key, Transaction] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.totals_at_open = (0, 0, 0)
        self.growth_date: int | None = None
        self.newest_growth: dict[int, int] = {}

    # Balances

    def balance(self, account: int, owner: object = None) -> int:
        """Sum of the legs on one account."""
        return self.balances.get((account, owner), 0)

    def purse(self, account: int, card: Card) -> int:
        """What a card's purse holds: for points its legs and its growth."""
        return self.balance(account, card.name) + (card.growth if account == POINTS else 0)

    def total(self, *accounts: int) -> int:
        """Sum of the legs on all accounts of these codes."""
        return sum(amount for (account, _), amount in self.balances.items() if account in accounts)

    def post_legs(self, legs: list[Leg]) -> None:
        """Post legs that sum to zero in every unit."""
        assert sum(amount for account, _, amount in legs if account in MONEY_ACCOUNTS) == 0, legs
        assert sum(amount for account, _, amount in legs if account in POINTS_ACCOUNTS) == 0, legs
        for account, owner, amount in legs:
            self.balances[account, owner] = self.balances.get((account, owner), 0) + amount

    def post(self, transaction: Transaction, legs: list[Leg], **told: int) -> int:
        """Post a priced transaction and remember what is told about it; 61, and nothing, past a limit."""
        legs = [leg for leg in legs if leg[2]]
        after: dict[int, int] = {}
        for account, _, amount in legs:
            if account <= SHORT_POINTS and transaction.card is not None:
                after[account] = after.get(account, self.purse(account, transaction.card)) + amount
        for account, amount in after.items():
            if amount > CAP or amount < -CAP:
                return 61
            assert amount <= 0 if account in (SHORT_MONEY, SHORT_POINTS) else amount >= 0, (account, amount)
        self.post_legs(legs)
        transaction.legs = legs
        transaction.told = told
        return 0

    # The ladder of docs/codes.md

    def rules(self) -> dict[str, Any]:
        """Tables of the newest version."""
        return self.versions[-1][2]

    def in_window(self, date: int) -> bool:
        """Whether a date is the open day or one of the six before it."""
        return self.open_date - WINDOW_DAYS < date <= self.open_date

    def in_time(self, local_time: int) -> bool:
        """Whether local time, in seconds from midnight of the key's date, is near enough to that date."""
        tolerance = self.rules()["time_tolerance_s"] if self.versions else TOLERANCE_S
        return -tolerance <= local_time < DAY_S + tolerance

    def execute(self, row: Row) -> Answer:
        """Answer a well-formed request of this programme."""
        if row.kind == BALANCE:
            return self.answer_balance(row)
        if not self.in_window(row.business_date) or not self.in_time(row.local_time):
            return Answer(code=12)
        key = key_of(row)
        content = row._replace(programme=0, local_time=0)
        first = self.keys.get(key)
        if first is not None:
            return first.answer._replace(replayed=1) if first.row == content else Answer(code=94)
        mark = self.marks.get(key)
        if mark is not None:
            return Answer(mark.answer.sequence, mark.answer.business_date, code=12)
        if row.terminal not in self.terminals:
            return Answer(code=58)
        transaction = Transaction(content, key, self.terminals[row.terminal])
        code = HANDLERS[row.kind](self, transaction)
        self.keys[key] = transaction
        self.transactions.append(transaction)
        transaction.answer = Answer(
            len(self.transactions),
            self.open_date,
            code,
            **transaction.told,
            **self.balances_of(transaction.card),
        )
        return transaction.answer

    def balances_of(self, card: Card | None) -> dict[str, int]:
        """The three balances as fields of an answer."""
        if card is None:
            return {}
        return {
            "principal_balance": self.purse(PRINCIPAL, card),
            "bonus_balance": self.purse(BONUS, card),
            "points_balance": self.purse(POINTS, card),
        }

    def answer_balance(self, row: Row) -> Answer:
        """Balance query: 58, 14, or the balances; nothing is kept."""
        if row.terminal not in self.terminals:
            return Answer(code=58)
        card = self.cards.get((row.card_digits, row.card))
        return Answer(code=14) if card is None else Answer(**self.balances_of(card))

    def card_code(self, transaction: Transaction) -> int:
        """Find the card that a request names: 14 if there is none; then 62 frozen, 54 expired."""
        row = transaction.row
        card = self.cards.get((row.card_digits, row.card))
        transaction.card = card
        if card is None:
            return 14
        if row.kind == STATUS:
            return 0
        if card.status == FROZEN:
            return 62
        return 54 if card.expires and self.open_date > card.expires else 0

    def product_of(self, card: Card) -> dict[str, Any]:
        """The rules' row of a card's product."""
        return next(product for product in self.rules()["products"] if product["id"] == card.product)

    # The kinds of transactions; each returns its code

    def issue(self, transaction: Transaction) -> int:
        row = transaction.row
        name = (row.card_digits, row.card)
        if name in self.cards:
            return 14
        products = self.rules()["products"] if self.versions else []
        if row.product not in [product["id"] for product in products]:
            return 12
        if row.expires and row.expires < self.open_date:
            return 12
        merchant, _ = self.stores[transaction.store]
        transaction.card = self.cards[name] = Card(name, row.product, row.expires, merchant)
        return 0

    def top_up(self, transaction: Transaction) -> int:
        code = self.card_code(transaction)
        if code:
            return code
        card, amount = transaction.card, transaction.row.amount
        assert card is not None
        if not 1 <= amount <= AMOUNT_MAX:
            return 13
        product = self.product_of(card)
        bonus = 0
        for band in self.rules()["top_up_bonus"]:
            if band["from"] <= amount:
                bonus = band["bonus"] + amount * band["rate"] // ONE
        if product["top_up_max"] and amount > product["top_up_max"]:
            return 61
        held = self.purse(PRINCIPAL, card) + self.purse(BONUS, card)
        if product["balance_max"] and held + amount + bonus > product["balance_max"]:
            return 61
        legs: list[Leg] = [
            (PRINCIPAL, card.name, amount),
            (BONUS, card.name, bonus),
            (COLLECTION, transaction.store, -amount),
            (ISSUER_BONUS, None, -bonus),
        ]
        return self.post(transaction, legs, amount=amount, principal=amount, bonus=bonus)

    def purchase(self, transaction: Transaction) -> int:
        code = self.card_code(transaction)
        if code:
            return code
        card, amount = transaction.card, transaction.row.amount
        assert card is not None
        if not 1 <= amount <= AMOUNT_MAX:
            return 13
        product = self.product_of(card)
        discount = amount * product["discount"] // ONE
        due = amount - discount
        if product["purchase_max"] and due > product["purchase_max"]:
            return 61
        paid, spent = self.waterfall(card, due, bool(transaction.row.flags & WITH_POINTS))
        if sum(paid.values()) < due:
            return 51
        earned = (paid["bonus"] + paid["principal"]) * product["accrual"] // ONE
        legs: list[Leg] = [
            (PRINCIPAL, card.name, -paid["principal"]),
            (BONUS, card.name, -paid["bonus"]),
            (POINTS, card.name, -spent),
            (POINTS, card.name, earned),
            (CLEARING, transaction.store, due),
            (ISSUER_POINTS, None, -paid["points"]),
            (POOL, None, spent),
            (POOL, None, -earned),
        ]
        return self.post(
            transaction,
            legs,
            amount=due,
            discount=discount,
            principal=-paid["principal"],
            bonus=-paid["bonus"],
            offset=paid["points"],
            points_spent=spent,
            points_earned=earned,
        )

    def waterfall(self, card: Card, due: int, with_points: bool) -> tuple[dict[str, int], int]:
        """Money that each purse pays of what is due, and the points taken for it."""
        paid = {"points": 0, "bonus": 0, "principal": 0}
        spent = 0
        for step in self.rules()["waterfall"]:
            most = min(due - sum(paid.values()), due * step["share"] // ONE)
            if step["pay"] == "points":
                points = self.purse(POINTS, card)
                if with_points and points >= step["min_points"]:
                    money = min(most, points * step["price"] // ONE)
                    if money >= 1:
                        paid["points"] = money
                        spent = -(-money * ONE // step["price"])
            elif step["pay"] == "bonus":
                paid["bonus"] = min(most, self.purse(BONUS, card))
            else:
                paid["principal"] = min(most, self.purse(PRINCIPAL, card))
        return paid, spent

    def find_original(self, row: Row) -> Transaction | None:
        """The transaction that a refund or a reversal names; by its key only within the window."""
        if row.original == 0:
            return self.keys.get(original_key_of(row)) if self.in_window(row.original_date) else None
        return self.transactions[row.original - 1] if row.original <= len(self.transactions) else None

    def refund(self, transaction: Transaction) -> int:
        row = transaction.row
        purchase = self.find_original(row)
        if purchase is None:
            return 25
        transaction.card = card = purchase.card
        if purchase.row.kind != PURCHASE or purchase.answer.code != 0 or purchase.reversed:
            return 12
        assert card is not None
        before, after = purchase.refunded, purchase.refunded + row.amount
        if not 1 <= row.amount <= AMOUNT_MAX or after > purchase.answer.amount:
            return 13
        principal, bonus, offset, points, claw = (
            then - now
            for then, now in zip(
                returned(purchase.answer, after), returned(purchase.answer, before), strict=True
            )
        )
        clawed = min(claw, self.purse(POINTS, card) + points)
        legs: list[Leg] = [
            (PRINCIPAL, card.name, principal),
            (BONUS, card.name, bonus),
            (POINTS, card.name, points),
            (POINTS, card.name, -clawed),
            (SHORT_POINTS, card.name, -(claw - clawed)),
            (CLEARING, transaction.store, -row.amount),
            (ISSUER_POINTS, None, offset),
            (POOL, None, -points),
            (POOL, None, claw),
        ]
        code = self.post(
            transaction,
            legs,
            amount=row.amount,
            principal=principal,
            bonus=bonus,
            offset=-offset,
            points_spent=-points,
            points_earned=-claw,
            shortfall_points=claw - clawed,
        )
        if code == 0:
            transaction.original = purchase
            transaction.refunded_before = before
            purchase.refunded = after
            purchase.refunds.append(transaction)
        return code

    def reversal(self, transaction: Transaction) -> int:
        row = transaction.row
        original = self.find_original(row)
        if original is None:
            if row.original or not self.in_window(row.original_date):
                return 25
            self.marks.setdefault(original_key_of(row), transaction)
            return 0
        transaction.card = original.card
        if original.row.kind in (ISSUE, STATUS, FUND, REVERSAL):
            return 12
        if original.reversed:
            return 0
        if original.answer.code != 0:
            original.reversed = True
            return 0
        if original.row.kind == PURCHASE and original.refunded:
            return 12
        purchase = original.original
        if purchase is not None and (purchase.reversed or purchase.refunds[-1] is not original):
            return 12
        code = self.undo(transaction, original)
        if code == 0:
            transaction.store = original.store
            original.reversed = True
            if purchase is not None:
                purchase.refunds.pop()
                purchase.refunded = original.refunded_before
        return code

    def undo(self, transaction: Transaction, original: Transaction) -> int:
        """Post an original's legs with the opposite sign; what a purse cannot give goes to the shortfall."""
        card = original.card
        assert card is not None
        legs: list[Leg] = []
        change = {PRINCIPAL: 0, BONUS: 0, POINTS: 0}
        for account, owner, amount in original.legs:
            if account in change:
                change[account] -= amount
            else:
                legs.append((account, owner, -amount))
        short = {SHORT_MONEY: 0, SHORT_POINTS: 0}
        for account, amount in change.items():
            lacking = max(0, -amount - self.purse(account, card))
            change[account] += lacking
            short[SHORT_POINTS if account == POINTS else SHORT_MONEY] += lacking
        legs += [(account, card.name, amount) for account, amount in change.items()]
        legs += [(account, card.name, -amount) for account, amount in short.items()]
        told = original.answer
        return self.post(
            transaction,
            legs,
            amount=told.amount,
            principal=change[PRINCIPAL],
            bonus=change[BONUS],
            offset=-told.offset,
            points_spent=-told.points_spent,
            points_earned=-told.points_earned,
            shortfall_money=short[SHORT_MONEY] - told.shortfall_money,
            shortfall_points=short[SHORT_POINTS] - told.shortfall_points,
        )

    def set_status(self, transaction: Transaction) -> int:
        code = self.card_code(transaction)
        if code == 0:
            assert transaction.card is not None
            transaction.card.status = transaction.row.status
        return code

    def fund(self, transaction: Transaction) -> int:
        amount = transaction.row.amount
        if not 1 <= amount <= AMOUNT_MAX:
            return 13
        return self.post(transaction, [(POOL, None, -amount), (FUNDING, None, amount)], amount=amount)

    # Rules and close of day

    def publish(self, version: int, text: str, tables: str) -> int:
        """Publish a version of the rules; the tables are JSON."""
        newest = len(self.versions)
        if version == newest + 1:
            self.versions.append((text, tables, json.loads(tables)))
            return 0
        if version == newest and newest:
            return 0 if self.versions[-1][:2] == (text, tables) else 94
        return 12

    def close_day(self, date: int) -> dict[str, Any]:
        """Close the open day; the report, or the code of a refusal."""
        if date in self.reports:
            return {**self.reports[date], "replayed": True}
        if date != self.open_date:
            return {"code": 12}
        growth = self.open_growth()
        stores = [self.close_store(store) for store in sorted(self.stores)]
        members, bonus, points = totals = self.issuer_totals()
        members, bonus, points = (now - then for now, then in zip(totals, self.totals_at_open, strict=True))
        self.totals_at_open = totals
        if growth is not None and growth["funded"]:
            self.grant_growth(growth["rate"], growth["reserve"])
        self.open_date += 1
        self.reports[date] = {
            "code": 0,
            "replayed": False,
            "business_date": date,
            "next_business_date": date + 1,
            "stores": [store for store in stores if store["sold"] or store["collected"]],
            "members": members,
            "bonus": bonus,
            "points": points,
            "issuer_net": members + bonus + points,
            "growth": growth,
        }
        assert sum(store["net"] for store in stores) + members + bonus + points == 0
        return self.reports[date]

    def issuer_totals(self) -> tuple[int, int, int]:
        """What members hold, the issuer's bonus account and its points account."""
        return self.total(PRINCIPAL, BONUS, SHORT_MONEY), self.total(ISSUER_BONUS), self.total(ISSUER_POINTS)

    def open_growth(self) -> dict[str, Any] | None:
        """Set the reserve of the day's growth aside; None without compounding."""
        rate = self.rules()["compounding_rate"] if self.versions else 0
        if rate == 0:
            return None
        outstanding = sum(self.purse(POINTS, card) for card in self.cards.values())
        reserve = outstanding * rate // ONE + len(self.cards)
        funded = self.balance(FUNDING) >= reserve
        if funded:
            self.post_legs([(FUNDING, None, -reserve), (RESERVE, None, reserve)])
        return {
            "rate": rate,
            "outstanding": outstanding,
            "purses": len(self.cards),
            "reserve": reserve,
            "funded": funded,
        }

    def close_store(self, store: int) -> dict[str, int]:
        """Empty a store's day into what is due."""
        sold, collected = self.balance(CLEARING, store), -self.balance(COLLECTION, store)
        net = sold - collected
        self.post_legs([(CLEARING, store, -sold), (COLLECTION, store, collected), (DUE, store, net)])
        return {"store": store, "sold": sold, "collected": collected, "net": net}

    def grant_growth(self, rate: int, reserve: int) -> None:
        """Let every card's points grow, and free what is left of the reserve."""
        self.growth_date = self.open_date
        self.newest_growth = dict.fromkeys(self.merchants, 0)
        for card in self.cards.values():
            points = self.purse(POINTS, card)
            growth, card.carry = divmod(points * rate + card.carry, ONE)
            growth = min(growth, CAP - points)
            card.growth += growth
            self.newest_growth[card.merchant] += growth
        granted = sum(self.newest_growth.values())
        assert granted <= reserve
        self.post_legs(
            [(RESERVE, None, -reserve), (GROWTH, None, granted), (FUNDING, None, reserve - granted)]
        )

    # Queries

    def statement(
        self, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]:
        """Lines of a card, newest first; `before` 0: from the newest."""
        card = self.cards.get((digits, number))
        if card is None:
            return 14, []
        lines: list[dict[str, int]] = []
        points_before = 0
        for transaction in self.transactions:
            if transaction.card is not card:
                continue
            answer = transaction.answer
            points = sum(amount for account, _, amount in transaction.legs if account == POINTS)
            lines.append(
                {
                    "sequence": answer.sequence,
                    "kind": transaction.row.kind,
                    "code": answer.code,
                    "business_date": answer.business_date,
                    "value_date": transaction.row.business_date,
                    "terminal": transaction.row.terminal,
                    "store": transaction.store,
                    "amount": answer.amount,
                    "principal": answer.principal,
                    "bonus": answer.bonus,
                    "points": points,
                    "growth": answer.points_balance - points_before - points,
                    "principal_balance": answer.principal_balance,
                    "bonus_balance": answer.bonus_balance,
                    "points_balance": answer.points_balance,
                }
            )
            points_before = answer.points_balance
        lines = [line for line in reversed(lines) if before == 0 or line["sequence"] < before]
        return 0, lines[:limit]

    def positions(self) -> list[dict[str, int]]:
        """Live position of every store, in order of its number."""
        rows = []
        for store in sorted(self.stores):
            sold, collected = self.balance(CLEARING, store), -self.balance(COLLECTION, store)
            due = self.balance(DUE, store)
            rows.append(
                {"store": store, "sold": sold, "collected": collected, "net": sold - collected, "due": due}
            )
        return rows

    def liabilities(self) -> list[dict[str, int]]:
        """Of every merchant, in order of its number: points on the cards that it issued, newest growth."""
        rows = []
        for merchant in sorted(self.merchants):
            cards = [card for card in self.cards.values() if card.merchant == merchant]
            points = sum(self.purse(POINTS, card) for card in cards)
            growth = self.newest_growth.get(merchant, 0)
            rows.append({"merchant": merchant, "points": points, "growth": growth})
        return rows

    def trial_balance(self) -> dict[str, Any]:
        """Balance of every account, summed by kind; growth that was granted is in the cards' points."""
        totals = {account: self.total(account) for account in (*MONEY_ACCOUNTS, *POINTS_ACCOUNTS)}
        assert sum(totals[account] for account in MONEY_ACCOUNTS) == 0
        assert sum(totals[account] for account in POINTS_ACCOUNTS) == 0
        growth = totals.pop(GROWTH)
        assert growth == sum(card.growth for card in self.cards.values())
        totals[POINTS] += growth
        return {"open_date": self.open_date, "cards": len(self.cards), "totals": totals}


def returned(paid: Answer, refunded: int) -> tuple[int, int, int, int, int]:
    """What has gone back once `refunded` of it was: principal, bonus, offset, points, clawed-back points."""
    bonus_paid, due = -paid.bonus, paid.amount
    first = bonus_paid + paid.offset
    rest = first * refunded // due
    bonus = bonus_paid * rest // first if first else 0
    points, claw = paid.points_spent * refunded // due, paid.points_earned * refunded // due
    return refunded - rest, bonus, rest - bonus, points, claw


HANDLERS: dict[int, Callable[[Programme, Transaction], int]] = {
    ISSUE: Programme.issue,
    TOP_UP: Programme.top_up,
    PURCHASE: Programme.purchase,
    REFUND: Programme.refund,
    REVERSAL: Programme.reversal,
    STATUS: Programme.set_status,
    FUND: Programme.fund,
}


class Model:
    """All programmes of one engine."""

    def __init__(self) -> None:
        self.programmes: dict[int, Programme] = {}

    def execute(self, row: Row) -> Answer:
        """Answer one request."""
        if malformed(row):
            return Answer(code=30)
        programme = self.programmes.get(row.programme or 1)
        return Answer(code=58) if programme is None else programme.execute(row)

    def register(self, what: str, programme: int, number: int, parent: int, name: str) -> int:
        """Register a programme (parent: first date), merchant (0), store (merchant) or terminal (store)."""
        if programme == 0 or (number == 0 and what != "programme") or len(name.encode()) > 64:
            return 30
        found = self.programmes.get(programme)
        if what == "programme":
            if found is None:
                self.programmes[programme] = Programme(name, parent)
                return 0
            return 0 if (found.name, found.first_date) == (name, parent) else 94
        if found is None:
            return 12
        if what == "merchant":
            return 0 if found.merchants.setdefault(number, name) == name else 94
        if what == "store":
            if number in found.stores or parent in found.merchants:
                return 0 if found.stores.setdefault(number, (parent, name)) == (parent, name) else 94
            return 12
        if number in found.terminals or parent in found.stores:
            return 0 if found.terminals.setdefault(number, parent) == parent else 94
        return 12
