"""One programme: the ladder of docs/codes.md, and what can be asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.model import fees, stacking
from tests.model.books import (
    BONUS,
    CARD_FEES,
    CLEARING,
    CODES,
    COLLECTION,
    DUE,
    ISSUER_POINTS,
    MONEY_ACCOUNTS,
    POINTS,
    POINTS_ACCOUNTS,
    POOL,
    PRINCIPAL,
    SHORTFALLS,
    STORE_FEES,
    UNIT,
    UNIT_POOL,
    Books,
    Card,
    Draft,
    Move,
    Place,
    Refused,
    Side,
    Transaction,
    is_dated,
)
from tests.model.cards import (
    bind,
    change_tier,
    close,
    issue,
    named_card,
    replace,
    set_holder,
    set_pin,
    set_status,
    transfer,
)
from tests.model.day import close_day
from tests.model.giving import band_of, bulk_top_up, fund, grant, issue_codes, top_up
from tests.model.rows import (
    ACCEPT_PARTIAL,
    AUTHORISE,
    BALANCE,
    BIND,
    BULK_TOP_UP,
    CAPTURE,
    CLOSE,
    DAY_S,
    DRY_RUN,
    FUND,
    GRANT,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    ONE,
    PURCHASE,
    REFUND,
    REPLACE,
    REVERSAL,
    SET_PIN,
    SET_TIER,
    STATUS,
    TOLERANCE_S,
    TOP_UP,
    TRANSFER,
    VOID,
    Advice,
    Answer,
    Part,
    Row,
    content_of,
    key_of,
    malformed,
)
from tests.model.sale import authorise, capture, purchase, void
from tests.model.undo import refund, reversal

HANDLERS: dict[int, Callable[[Draft], None]] = {
    ISSUE: issue,
    TOP_UP: top_up,
    PURCHASE: purchase,
    REFUND: refund,
    REVERSAL: reversal,
    STATUS: set_status,
    FUND: fund,
    GRANT: grant,
    AUTHORISE: authorise,
    CAPTURE: capture,
    VOID: void,
    REPLACE: replace,
    TRANSFER: transfer,
    HOLDER: set_holder,
    BIND: bind,
    SET_PIN: set_pin,
    CLOSE: close,
    ISSUE_CODES: issue_codes,
    BULK_TOP_UP: bulk_top_up,
    SET_TIER: change_tier,
}

NO_ADVICE = 15

LISTED = (1, 2, 3, 4, 5, 16, 17, 18, 19, 32, 33, 34, 35, 40, 41, 42)
"""Accounts of the trial balance."""


class Programme(Books):
    """What is asked of one programme."""

    # The ladder of docs/codes.md

    def in_time(self, local_time: int) -> bool:
        """Whether local time, in seconds from midnight of the key's date, is near enough to that date."""
        tolerance = self.rules()["time_tolerance_s"] if self.versions else TOLERANCE_S
        return -tolerance <= local_time < DAY_S + tolerance

    def execute(self, row: Row, advice: tuple[Advice, ...] = ()) -> Answer:
        """Answer a well-formed request of this programme, of which Python rules said this."""
        advice = tuple(one for one in advice if one != Advice(one.rule))
        if row.kind == BALANCE:
            return self.answer_balance(row)
        if row.flags & DRY_RUN:
            return self.try_out(row, advice)
        if not self.in_window(row.business_date) or not self.in_time(row.local_time):
            return Answer(code=12)
        key = key_of(row)
        content = content_of(row)
        first = self.keys.get(key)
        if first is not None:
            return first.answer._replace(replayed=1) if first.content == content else Answer(code=94)
        mark = self.marks.get(key)
        if mark is not None:
            return Answer(mark.answer.sequence, mark.answer.business_date, code=12)
        if row.terminal not in self.terminals:
            return Answer(code=58)
        if self.lacks(advice):
            return Answer(code=91, reason=NO_ADVICE)
        transaction = Transaction(row, content, key, self.terminals[row.terminal], self.open_date)
        transaction.advice = advice
        return self.answer(transaction)

    def lacks(self, advice: tuple[Advice, ...]) -> bool:
        """Whether a Python rule that is required was not heard."""
        rules = self.rules().get("python_rules", []) if self.versions else []
        required = {rule["id"] for rule in rules if rule.get("required")}
        return any(one.outcome > 1 and one.rule in required for one in advice)

    def try_out(self, row: Row, advice: tuple[Advice, ...] = ()) -> Answer:
        """What a sale would be answered now; nothing of it is kept."""
        if not self.in_window(row.business_date) or not self.in_time(row.local_time):
            return Answer(code=12)
        if row.terminal not in self.terminals:
            return Answer(code=58)
        if self.lacks(advice):
            return Answer(code=91, reason=NO_ADVICE)
        transaction = Transaction(row, row, (), self.terminals[row.terminal], self.open_date)
        transaction.advice = advice
        draft = Draft(self, transaction)
        try:
            HANDLERS[row.kind](draft)
            draft.check_purses()
            draft.raise_tier()
        except Refused as refused:
            had, reason = balances_of(self, transaction.card), refused.reason
            parts = transaction.advice_parts()
            return Answer(0, self.open_date, refused.code, **had, reason=reason, parts=parts)
        detailed = bool(advice) or self.has_details(row)
        parts = draft.parts() + transaction.advice_parts() if detailed else ()
        left = balances_of(draft, transaction.card)
        return Answer(0, self.open_date, draft.code, **draft.told(), **left, parts=parts)

    def answer(self, transaction: Transaction) -> Answer:
        """Work a transaction out, post it, and keep its answer."""
        detailed = bool(transaction.advice) or self.has_details(transaction.row)
        draft = Draft(self, transaction)
        code, reason, told = 0, 0, {}
        parts: tuple[Part, ...] = ()
        try:
            HANDLERS[transaction.row.kind](draft)
            if not detailed:
                draft.moves.sort(key=plain_order)
            draft.settle()
            code, told = draft.code, draft.told()
            parts = draft.parts() + transaction.advice_parts() if detailed else ()
        except Refused as refused:
            code, reason, parts = refused.code, refused.reason, transaction.advice_parts()
            draft = Draft(self, transaction)
        self.keys[transaction.key] = transaction
        self.transactions.append(transaction)
        transaction.sides = self.sides_of(draft)
        sequence = len(self.transactions)
        balances = balances_of(self, transaction.card)
        transaction.answer = Answer(
            sequence, self.open_date, code, **told, **balances, reason=reason, parts=parts
        )
        return transaction.answer

    def has_details(self, row: Row) -> bool:
        """Whether a request is answered with parts."""
        if row.items or row.kind not in (TOP_UP, PURCHASE):
            return True
        if row.kind == PURCHASE and row.flags & ACCEPT_PARTIAL:
            return True
        card = self.cards.get((row.card_digits, row.card))
        if card is None:
            return False
        near = stacking.near_birthday(self, card, row) & stacking.asked_birthdays(self)
        return self.is_special(card) or self.has_special_rules(card, row) or bool(near)

    def is_special(self, card: Card) -> bool:
        """Whether a card has more than a plain swipe looks at."""
        dated = any(is_dated(lot) for purse in (BONUS, POINTS) for lot in self.lots(card, purse))
        held = any(not hold.ended for hold in card.holds)
        owes = any(self.balance(Place(account, card)) for account in SHORTFALLS)
        return dated or held or owes or card.pin is not None or card.member != 0

    def has_special_rules(self, card: Card, row: Row) -> bool:
        """Whether a card's product, or a step of the waterfall, does more than a plain swipe."""
        product = self.product_of(card)
        names = ("rebate", "day_sum", "day_count", "points_days", "bonus_days", "points_per_day")
        limits = self.limits_of(card)
        if any(product.get(name) or limits.get(name) for name in names) or product.get("pin_above", -1) != -1:
            return True
        if row.kind == TOP_UP:
            band = band_of(self, row.amount)
            return bool(band.get("points") or band.get("bundle") or band.get("price", ONE) != ONE)
        if self.rules().get("gifts", {}).get("first_purchase") and not card.bought:
            return True
        growth = self.rules().get("growth_value") or {}
        if growth.get("rate") or (card.tier and self.asks_for_tiers()):
            return True
        charges = row.kind == PURCHASE and self.rules().get("fees")
        if charges and fees.is_foreign(self, card, self.terminals[row.terminal]):
            return True
        by_unit = any(step["pay"] == "unit" for step in self.rules()["waterfall"])
        return by_unit and bool(self.units_of(card))

    def asks_for_tiers(self) -> bool:
        """Whether some rule asks for the card's tier."""
        rules = [*self.rules().get("discounts", []), *self.rules().get("accruals", [])]
        return any(rule.get("when", {}).get("tiers") for rule in rules)

    def sides_of(self, draft: Draft) -> list[Side]:
        """What a transaction did to each of its cards."""
        transaction = draft.transaction
        own = [self.side_of(draft, transaction.card, draft.amount)] if transaction.card else []
        return own + [
            self.side_of(draft, card, abs(draft.net(PRINCIPAL, card) + draft.net(BONUS, card)))
            for card in transaction.further
        ]

    def side_of(self, draft: Draft, card: Card, amount: int) -> Side:
        principal, bonus, points = (draft.net(account, card) for account in (PRINCIPAL, BONUS, POINTS))
        purses = (self.purse(PRINCIPAL, card), self.purse(BONUS, card), self.purse(POINTS, card))
        return Side(card, amount, principal, bonus, points, purses)

    def answer_balance(self, row: Row) -> Answer:
        """Balance query: 58, what the number is answered, or the balances; nothing is kept."""
        if row.terminal not in self.terminals:
            return Answer(code=58)
        try:
            card = named_card(self, row)
        except Refused as refused:
            return Answer(code=refused.code)
        parts = tuple(
            Part(0, 0, unit, lot.begins, lot.expires, self.balance(lot), self.purse(unit, card))
            for unit in self.units_of(card)
            for lot in self.lots(card, unit)
        )
        return Answer(**balances_of(self, card), tier=card.tier, parts=parts)

    # Rules and the day

    def publish(self, version: int, text: str, tables: str) -> int:
        """Publish a version of the rules; the tables are JSON."""
        newest = len(self.versions)
        if version == newest and newest:
            return 0 if self.versions[-1][:2] == (text, tables) else 94
        rules = json.loads(tables)
        if not self.knows_places(rules):
            return 30
        if version == newest + 1:
            self.versions.append((text, tables, rules))
            return 0
        return 12

    def knows_places(self, tables: dict[str, Any]) -> bool:
        """Whether all stores and merchants that tables name are registered."""
        rules = [*tables.get("discounts", []), *tables.get("accruals", []), *tables.get("fees", [])]
        named = [rule.get("when", {}) for rule in rules]
        named += [*tables.get("units", []), *tables.get("regions", [])]
        stores = {store for of in named for store in of.get("stores", [])}
        merchants = {merchant for of in named for merchant in of.get("merchants", [])}
        merchants |= {
            merchant for fee in tables.get("fees", []) for merchant in fee.get("card_merchants", [])
        }
        return stores <= self.stores.keys() and merchants <= self.merchants.keys()

    def close_day(self, date: int) -> dict[str, Any]:
        """Close the open day; the report, or the code of a refusal."""
        return close_day(self, date)

    # Queries

    def statement(
        self, digits: int, number: int, limit: int, before: int
    ) -> tuple[int, list[dict[str, int]]]:
        """Lines of a card, newest first; `before` 0: from the newest."""
        card = self.numbers.get((digits, number))
        if card is None:
            return 14, []
        lines: list[dict[str, int]] = []
        points_before = 0
        for transaction in self.transactions:
            for side in transaction.sides:
                if side.card is card:
                    lines.append(line_of(transaction, side, points_before))
                    points_before = side.balances[2]
        lines = [line for line in reversed(lines) if before == 0 or line["sequence"] < before]
        return 0, lines[:limit]

    def positions(self) -> list[dict[str, int]]:
        """Live position of every store, in order of its number."""
        rows = []
        for store in sorted(self.stores):
            sold, collected = self.balance(Place(CLEARING, store)), -self.balance(Place(COLLECTION, store))
            own = {"store": store, "sold": sold, "collected": collected, "fees": fees.net_fees(self, store)}
            own["net"] = sold - collected + own["fees"]
            rows.append(own | {"due": self.balance(Place(DUE, store))})
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
        """Balance of every account, summed by kind, and the units of the rules."""
        totals = {account: self.total(account) for account in LISTED}
        # Both ends of a fee are in the positions of stores.
        totals[STORE_FEES] += self.total(CARD_FEES)
        assert sum(totals[account] for account in LISTED if account in MONEY_ACCOUNTS) == 0
        assert sum(totals[account] for account in LISTED if account in POINTS_ACCOUNTS) == 0
        units: dict[int, list[int]] = {}
        for place, amount in self.balances.items():
            if place.account in (UNIT, UNIT_POOL, CODES):
                of_unit = units.setdefault(place.unit, [0, 0, 0])
                of_unit[(UNIT, UNIT_POOL, CODES).index(place.account)] += amount
        assert all(sum(of_unit) == 0 for of_unit in units.values())
        return {
            "open_date": self.open_date,
            "cards": len(self.cards),
            "totals": totals,
            "units": {unit: tuple(units[unit]) for unit in sorted(units) if any(units[unit])},
        }

    def staff(self) -> dict[tuple[int, int], tuple[int, int]]:
        """How many sales of each staff card, and their sum."""
        return {card.number: sales for card, sales in self.staff_sales.items() if any(sales)}


def balances_of(books: Books, card: Card | None) -> dict[str, int]:
    """The three balances as fields of an answer."""
    if card is None:
        return {}
    return {
        "principal_balance": books.purse(PRINCIPAL, card),
        "bonus_balance": books.purse(BONUS, card),
        "points_balance": books.purse(POINTS, card),
    }


def plain_order(move: Move) -> int:
    """The moves of a plain swipe are those of the legs of docs/transactions.md, money first."""
    order = (PRINCIPAL, BONUS, ISSUER_POINTS, POINTS, POOL)
    return order.index(move.giver.account) if move.giver.account in order else -1


def line_of(transaction: Transaction, side: Side, points_before: int) -> dict[str, int]:
    """A line of a card's statement."""
    answer = transaction.answer
    principal, bonus, points = side.balances
    return {
        "sequence": answer.sequence,
        "kind": transaction.row.kind,
        "code": answer.code,
        "business_date": answer.business_date,
        "value_date": transaction.row.business_date,
        "terminal": transaction.row.terminal,
        "store": transaction.store,
        "amount": side.amount,
        "principal": side.principal,
        "bonus": side.bonus,
        "points": side.points,
        "growth": points - points_before - side.points,
        "principal_balance": principal,
        "bonus_balance": bonus,
        "points_balance": points,
    }


class Model:
    """All programmes of one engine."""

    def __init__(self) -> None:
        self.programmes: dict[int, Programme] = {}
        self.issued: list[Card] = []

    def execute(self, row: Row, advice: tuple[Advice, ...] = ()) -> Answer:
        """Answer one request, of which Python rules said this."""
        if malformed(row):
            return Answer(code=30)
        programme = self.programmes.get(row.programme or 1)
        return Answer(code=58) if programme is None else programme.execute(row, advice)

    def register(self, what: str, programme: int, number: int, parent: int, name: str) -> int:
        """Register a programme (parent: first date), merchant (0), store (merchant) or terminal (store)."""
        if programme == 0 or (number == 0 and what != "programme") or len(name.encode()) > 64:
            return 30
        found = self.programmes.get(programme)
        if what == "programme":
            if found is None:
                self.programmes[programme] = Programme(name, parent, self.issued)
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
