"""The independent witness: audits a closed data directory by docs/journal-format.md alone.

It knows py-lmdb and the two pages docs/journal-format.md and docs/transactions.md, nothing of the engine.
It walks every block and decodes every byte, and holds the journal to these invariants:

- blocks: key, magic, sequences without gaps, offset table, chain of hashes from the journal's id;
- registration: numbers are new, parents are known, rules are numbered without gaps;
- transactions: keys are unique and inside the window, terminals and stores are registered, the legs of an
  entry sum to zero in money and in points, refusals have none, the entries of a card are linked;
- cards: purses rebuilt from legs and recomputed growth equal the balances in every entry, and stay
  within their limits; what is refunded is at most what was paid, and returned in the documented parts;
- days: reserve, positions, and growth and liability of every issuing merchant equal what the entries before
  them say.

`python auditor.py DIR... [--json]` audits data directories; DIR `-` reads them from standard input, one a
line, and answers each with one line of JSON. Exit status 1 if there is a problem.
"""

import argparse
import hashlib
import json
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import lmdb

ONE = 10**12
CAP = 10**16
WINDOW_DAYS = 7
AMOUNT_MAX = 10**14
MOVES_MAX = 12
HEAD = struct.Struct("<4sIQQII32s")
HASH_BYTES = 32

PRINCIPAL, BONUS, POINTS, SHORT_MONEY, SHORT_POINTS = 1, 2, 3, 4, 5
CLEARING, COLLECTION, DUE = 16, 17, 18
ISSUER_BONUS, ISSUER_POINTS = 32, 33
POOL, FUNDING, RESERVE, GROWTH = 40, 41, 42, 43
CARD_ACCOUNTS = frozenset({PRINCIPAL, BONUS, POINTS, SHORT_MONEY, SHORT_POINTS})
STORE_ACCOUNTS = frozenset({CLEARING, COLLECTION, DUE})
MONEY_ACCOUNTS = frozenset({PRINCIPAL, BONUS, SHORT_MONEY, ISSUER_BONUS, ISSUER_POINTS}) | STORE_ACCOUNTS
POINTS_ACCOUNTS = frozenset({POINTS, SHORT_POINTS, POOL, FUNDING, RESERVE, GROWTH})
ACCOUNTS = MONEY_ACCOUNTS | POINTS_ACCOUNTS
# How a move names them: by their place in the order of their codes.
PLACES = sorted(ACCOUNTS)

ISSUE, TOP_UP, PURCHASE, REFUND, REVERSAL, STATUS, FUND = 1, 2, 3, 4, 5, 7, 8
KINDS = frozenset({ISSUE, TOP_UP, PURCHASE, REFUND, REVERSAL, STATUS, FUND})
CODES = frozenset({0, 12, 13, 14, 25, 51, 54, 61, 62})
BY_ID, HAS_CARD, NO_CARD, POSTED_LATER, WITH_POINTS, ORIGINAL_BY_KEY = 1, 2, 4, 8, 16, 32
OTHER_PROGRAMME, OTHER_DATE = 64, 128
TIME_LEAST = -(1 << 23)


class Damage(Exception):
    """What stands there is not a journal; the message names the place."""


class Reader:
    """Numbers and texts of one entry, from front to end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Damage("the entry ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise Damage("the entry ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def uint(self) -> int:
        first = self.byte()
        if first == 0:
            value = int.from_bytes(self.take(16), "little")
            if value < 1 << 56:
                raise Damage("a number is written in full and need not be")
            return value
        following = (first & -first).bit_length() - 1
        value = int.from_bytes(bytes([first]) + self.take(following), "little") >> (following + 1)
        if following and value < 1 << (7 * following):
            raise Damage("a number is longer than it need be")
        return value

    def int(self) -> int:
        value = self.uint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def text(self) -> str:
        return self.take(self.uint()).decode()

    def card_number(self) -> str:
        digits = self.byte()
        number = str(int.from_bytes(self.take(8), "little"))
        if not 8 <= digits <= 19 or len(number) > digits:
            raise Damage(f"card number {number} of {digits} digits")
        return number.zfill(digits)


@dataclass(slots=True)
class Leg:
    account: int
    store: int | None
    amount: int


@dataclass(slots=True)
class Entry:
    """One decoded entry; which fields are set depends on its kind."""

    sequence: int
    kind: int
    code: int
    programme: int
    base: int
    flags: int = 0
    terminal: int = 0
    store: int = 0
    date: int = 0
    posted: int = 0
    key: tuple[object, ...] = ()
    rule: int = 0
    channel: int = 0
    time: int = 0
    card: int | None = None
    previous: int = 0
    missing: str | None = None
    number: str | None = None
    product: int = 0
    expires: int = 0
    amount: int = 0
    status: int = 0
    original: int = 0
    original_key: tuple[object, ...] | None = None
    legs: list[Leg] = field(default_factory=list)
    changes: list[tuple[int, ...]] = field(default_factory=list)
    balances: tuple[int, int, int] | None = None
    fields: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    liabilities: list[tuple[int, int]] = field(default_factory=list)

    def sum(self, account: int) -> int:
        """What its legs post on an account code."""
        return sum(leg.amount for leg in self.legs if leg.account == account)


FIELDS_BEFORE_TEXT = {33: ["merchant"], 34: ["store", "merchant"], 35: ["terminal", "store"], 36: ["version"]}
CLOSE_FIELDS = {
    40: "date:u rule:u algorithm:b rate:u outstanding:u purses:u reserve:u funded:b",
    41: "date:u members:i bonus:i points:i",
    42: "date:u algorithm:b growth:u",
}


def fields_of(kind: int) -> list[tuple[str, str]]:
    """Names and forms (uint, int, byte) of the fields of a kind 40 to 42."""
    return [(name, form) for name, _, form in (field.partition(":") for field in CLOSE_FIELDS[kind].split())]


def decode(data: bytes, sequence: int, base: int) -> Entry:
    """One entry from exactly these bytes."""
    read = Reader(data)
    entry = Entry(sequence, read.byte(), read.byte(), 1, base)
    if entry.kind in KINDS:
        decode_transaction(read, entry)
    else:
        entry.programme = read.uint()
        decode_other(read, entry)
    if read.at != len(data):
        raise Damage(f"{len(data) - read.at} bytes after the end of the entry")
    return entry


def decode_other(read: Reader, entry: Entry) -> None:
    if entry.kind == 32:
        entry.texts = [read.text()]
        entry.fields["date"] = read.uint()
    elif entry.kind in FIELDS_BEFORE_TEXT:
        entry.fields = {name: read.uint() for name in FIELDS_BEFORE_TEXT[entry.kind]}
        entry.texts = [read.text() for _ in range({33: 1, 34: 1, 35: 0, 36: 2}[entry.kind])]
    elif entry.kind in CLOSE_FIELDS:
        take = {"u": read.uint, "i": read.int, "b": read.byte}
        entry.fields = {name: take[form]() for name, form in fields_of(entry.kind)}
        entry.legs = decode_legs(read)
        if entry.kind == 42:
            entry.liabilities = [(read.uint(), read.uint()) for _ in range(read.uint())]
    else:
        raise Damage(f"unknown kind {entry.kind}")


def decode_transaction(read: Reader, entry: Entry) -> None:
    entry.flags, entry.channel, counts = read.byte(), read.byte(), read.byte()
    entry.time = TIME_LEAST + int.from_bytes(read.take(3), "little")
    if entry.flags & OTHER_PROGRAMME:
        entry.programme = read.uint()
    entry.terminal, entry.store = read.uint(), read.uint()
    entry.date = entry.posted = entry.base + (read.int() if entry.flags & OTHER_DATE else 0)
    if entry.flags & BY_ID:
        entry.key = (entry.programme, entry.date, read.take(16))
    else:
        entry.key = (entry.programme, entry.date, entry.terminal, read.uint())
    if entry.flags & POSTED_LATER:
        entry.posted = entry.base + read.int()
    entry.rule = read.uint()
    if entry.flags & HAS_CARD:
        entry.card, entry.previous = read.uint(), read.uint()
    if entry.flags & NO_CARD:
        entry.missing = read.card_number()
    decode_inputs(read, entry)
    if counts & 15 > MOVES_MAX:
        raise Damage(f"{counts & 15} moves")
    entry.legs = [leg for _ in range(counts & 15) for leg in decode_move(read)]
    entry.changes = [decode_change(read) for _ in range(counts >> 4)]
    if entry.flags & HAS_CARD:
        entry.balances = (read.uint(), read.uint(), read.uint())


def decode_inputs(read: Reader, entry: Entry) -> None:
    if entry.kind == ISSUE:
        entry.product, entry.expires = read.uint(), read.uint()
        entry.number = read.card_number() if entry.flags & HAS_CARD else None
    if entry.kind in (TOP_UP, PURCHASE, REFUND, FUND):
        entry.amount = read.int()
    if entry.kind in (REFUND, REVERSAL):
        decode_original(read, entry)
    if entry.kind == STATUS:
        entry.status = read.byte()


def decode_original(read: Reader, entry: Entry) -> None:
    if not entry.flags & ORIGINAL_BY_KEY:
        entry.original = read.uint()
        return
    date, form = entry.base + read.int(), read.byte()
    if form == 0:
        entry.original_key = (entry.programme, date, read.uint(), read.uint())
    elif form == 1:
        entry.original_key = (entry.programme, date, read.take(16))
    else:
        raise Damage(f"original of unknown form {form}")


def decode_move(read: Reader) -> list[Leg]:
    """The two legs of a move."""
    pair, amount = read.byte(), read.uint()
    source, target = pair >> 4, pair & 15
    if max(source, target) >= len(PLACES):
        raise Damage(f"a move between unknown accounts {source} and {target}")
    if source == target:
        raise Damage("a move from an account to itself")
    return [Leg(PLACES[source], None, -amount), Leg(PLACES[target], None, amount)]


def decode_legs(read: Reader) -> list[Leg]:
    legs = []
    for _ in range(read.uint()):
        account = read.byte()
        store = read.uint() if account & 128 else None
        legs.append(Leg(account & 127, store, read.int()))
    return legs


def decode_change(read: Reader) -> tuple[int, ...]:
    kind = read.byte()
    if kind in (1, 2):
        return kind, read.uint(), read.uint()
    if kind == 3:
        return (kind,)
    if kind == 4:
        return kind, read.byte()
    raise Damage(f"unknown change {kind}")


@dataclass(slots=True)
class Card:
    programme: int
    number: str
    last: int
    merchant: int
    purses: list[int] = field(default_factory=lambda: [0, 0, 0])
    shortfall_money: int = 0
    shortfall_points: int = 0
    carry: int = 0
    status: int = 1


@dataclass(slots=True)
class Growing:
    """A day's growth between its opening and its completion."""

    opened: Entry
    closed: bool = False
    merchants: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.merchants.values())


@dataclass
class Programme:
    open_date: int
    merchants: set[int] = field(default_factory=set)
    stores: dict[int, int] = field(default_factory=dict)
    terminals: dict[int, int] = field(default_factory=dict)
    rules: int = 0
    cards: list[int] = field(default_factory=list)
    totals: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    day: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    by_store: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    growing: Growing | None = None
    grown: int = 0


@dataclass
class Report:
    """What an audit found; amounts in smallest units, `sums` are zero and `problems` empty if all is well."""

    entries: int = 0
    blocks: int = 0
    bytes: int = 0
    cards: int = 0
    transactions: int = 0
    head: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    open_dates: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Books:
    """All state that follows from the entries so far. `post` takes the next one."""

    def __init__(self) -> None:
        self.programmes: dict[int, Programme] = {}
        self.cards: list[Card] = []
        self.numbers: dict[tuple[int, str], int] = {}
        self.keys: dict[tuple[object, ...], int] = {}
        self.void: set[tuple[object, ...]] = set()
        self.transactions: dict[int, Entry] = {}
        self.refunds: dict[int, list[Entry]] = defaultdict(list)
        self.reversed: set[int] = set()
        self.problems: list[str] = []
        self.place = ""

    def check(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(f"{self.place}: {problem}")

    def post(self, entry: Entry) -> None:
        self.place = f"entry {entry.sequence} (kind {entry.kind}, code {entry.code})"
        programme = self.programmes.get(entry.programme)
        if entry.kind == 32:
            self.check(programme is None, "the programme is there already")
            self.programmes[entry.programme] = Programme(entry.fields["date"])
        elif programme is None:
            self.check(False, f"unknown programme {entry.programme}")
        elif entry.kind in KINDS:
            self.transaction(entry, programme)
        elif entry.kind >= 40:
            self.close(entry, programme)
        else:
            self.register(entry, programme)

    # Registration and rules

    def register(self, entry: Entry, programme: Programme) -> None:
        self.check(entry.code == 0, "a registration that was refused")
        number = entry.fields
        if entry.kind == 33:
            self.check(number["merchant"] not in programme.merchants, "the merchant is there already")
            programme.merchants.add(number["merchant"])
        elif entry.kind == 34:
            self.check(number["merchant"] in programme.merchants, "unknown merchant")
            self.check(number["store"] not in programme.stores, "the store is there already")
            programme.stores[number["store"]] = number["merchant"]
        elif entry.kind == 35:
            self.check(number["store"] in programme.stores, "unknown store")
            self.check(number["terminal"] not in programme.terminals, "the terminal is there already")
            programme.terminals[number["terminal"]] = number["store"]
        else:
            self.check(number["version"] == programme.rules + 1, "a version of the rules is missing")
            self.check(
                bool(entry.texts[0]) and isinstance(json.loads(entry.texts[1]), dict), "rules without content"
            )
            programme.rules = number["version"]

    # Transactions

    def transaction(self, entry: Entry, programme: Programme) -> None:
        self.check(entry.code in CODES, "a code that is not kept")
        self.check(entry.code == 0 or not entry.legs, "a refusal with legs")
        self.check(entry.rule <= programme.rules, f"unknown version {entry.rule} of the rules")
        self.key(entry, programme)
        card = self.card(entry, programme)
        original = self.original(entry)
        self.parties(entry, programme, original)
        self.inputs(entry, card)
        self.legs(entry, programme, card)
        if entry.code == 0:
            self.effects(entry, card, original)
        else:
            self.check(not entry.changes, "a refusal with changes")
        self.transactions[entry.sequence] = entry

    def key(self, entry: Entry, programme: Programme) -> None:
        self.check(
            entry.key not in self.keys, f"the key of entry {self.keys.get(entry.key)} again: posted twice"
        )
        self.check(entry.key not in self.void, "its key was voided by a reversal before")
        self.check(entry.key[-1] not in (0, bytes(16)), "a key of zero")
        self.keys[entry.key] = entry.sequence
        age = programme.open_date - entry.date
        self.check(0 <= age < WINDOW_DAYS, f"key dated {entry.date}, {age} days before the open day")
        self.check(
            entry.posted == programme.open_date, f"posted on {entry.posted}, open is {programme.open_date}"
        )
        self.check((entry.flags & POSTED_LATER != 0) == (age != 0), "flag 3 differs from its dates")

    def card(self, entry: Entry, programme: Programme) -> Card | None:
        """The entry's card, linked to its entry before; an approved issue makes one."""
        if entry.missing is not None:
            known = (entry.programme, entry.missing) in self.numbers
            taken = entry.kind == ISSUE and entry.code == 14
            self.check(known == taken, f"card number {entry.missing} is {'' if known else 'not '}known")
        if entry.kind == ISSUE and entry.code == 0 and entry.number is not None:
            self.check((entry.programme, entry.number) not in self.numbers, "the card number is taken")
            self.numbers[entry.programme, entry.number] = len(self.cards)
            programme.cards.append(len(self.cards))
            merchant = programme.stores.get(entry.store, 0)
            self.cards.append(Card(entry.programme, entry.number, entry.sequence, merchant))
            self.check(entry.card == len(self.cards) - 1, f"card index {entry.card} is not the next one")
            self.check(entry.previous == 0, "a new card with an entry before")
            return self.cards[-1]
        if entry.card is None:
            return None
        if entry.card >= len(self.cards):
            self.check(False, f"unknown card index {entry.card}")
            return None
        card = self.cards[entry.card]
        self.check(card.programme == entry.programme, "a card of another programme")
        self.check(entry.sequence - entry.previous == card.last, f"its card's entry before is {card.last}")
        card.last = entry.sequence
        return card

    def original(self, entry: Entry) -> Entry | None:
        """The transaction that a refund or reversal names, if it is there."""
        if entry.original_key is not None:
            sequence = self.keys.get(entry.original_key, 0)
            self.check(entry.original_key != entry.key, "names itself as original")
        else:
            sequence = entry.original
        found = self.transactions.get(sequence)
        return found if found is not None and found.programme == entry.programme else None

    def parties(self, entry: Entry, programme: Programme, original: Entry | None) -> None:
        """Terminal, store and card are those that the request, or its original, stands for."""
        self.check(entry.terminal in programme.terminals, f"unknown terminal {entry.terminal}")
        store = programme.terminals.get(entry.terminal)
        undone = entry.kind == REVERSAL and entry.code == 0 and original is not None and bool(entry.legs)
        if undone and original is not None:
            store = original.store
        if entry.kind != REVERSAL or undone:
            self.check(entry.store == store, f"store {entry.store}, and not {store}")
        if entry.kind in (REFUND, REVERSAL) and entry.card is not None:
            self.check(original is not None and original.card == entry.card, "the card is not the original's")
        if entry.kind == FUND:
            self.check(entry.card is None and entry.missing is None, "funding with a card")

    def inputs(self, entry: Entry, card: Card | None) -> None:
        approved = entry.code == 0
        if entry.kind in (TOP_UP, PURCHASE, REFUND, FUND) and approved:
            self.check(1 <= entry.amount <= AMOUNT_MAX, f"amount {entry.amount} approved")
        if entry.kind in (ISSUE, TOP_UP, PURCHASE, STATUS):
            named = (card is not None) + (entry.missing is not None)
            self.check(named == 1, "names no card, or two")
            self.check(not approved or card is not None, "approved without a card")
        if approved and entry.kind in (TOP_UP, PURCHASE) and card is not None:
            self.check(card.status == 1, "a frozen card")
        self.check(not entry.flags & WITH_POINTS or entry.kind == PURCHASE, "flag 4 without a purchase")

    def legs(self, entry: Entry, programme: Programme, card: Card | None) -> None:
        """Post the legs; the purses must be those of the entry's balances then."""
        self.check(all(leg.amount for leg in entry.legs), "a leg of zero")
        money = sum(leg.amount for leg in entry.legs if leg.account in MONEY_ACCOUNTS)
        points = sum(leg.amount for leg in entry.legs if leg.account in POINTS_ACCOUNTS)
        self.check(money == 0, f"money legs sum to {money}")
        self.check(points == 0, f"points legs sum to {points}")
        for leg in entry.legs:
            self.check(leg.account in ACCOUNTS, f"unknown account {leg.account}")
            named = STORE_ACCOUNTS | ({GROWTH} if entry.kind == 42 else set())
            self.check(leg.store is None or leg.account in named, "a store on an account without")
            programme.totals[leg.account] += leg.amount
            programme.day[leg.account] += leg.amount
            if leg.account in STORE_ACCOUNTS:
                store = entry.store if leg.store is None else leg.store
                self.check(store in programme.stores, f"unknown store {store}")
                programme.by_store[leg.account, store] += leg.amount
            if leg.account in CARD_ACCOUNTS:
                self.check(card is not None, "a card's leg without a card")
        self.check(
            programme.totals[FUNDING] >= 0 and programme.totals[RESERVE] >= 0, "growth funding below zero"
        )
        if card is None:
            return
        for purse in (PRINCIPAL, BONUS, POINTS):
            card.purses[purse - 1] += entry.sum(purse)
            self.check(0 <= card.purses[purse - 1] <= CAP, f"purse {purse} holds {card.purses[purse - 1]}")
        card.shortfall_money += entry.sum(SHORT_MONEY)
        card.shortfall_points += entry.sum(SHORT_POINTS)
        short = (card.shortfall_money, card.shortfall_points)
        self.check(all(-CAP <= amount <= 0 for amount in short), f"shortfalls of {short}")
        balances = tuple(card.purses)
        self.check(entry.balances == balances, f"balances {entry.balances}, rebuilt {balances}")

    def effects(self, entry: Entry, card: Card | None, original: Entry | None) -> None:
        """The typed changes of an approved transaction, and nothing but them."""
        kinds = [change[0] for change in entry.changes]
        if entry.kind == STATUS and card is not None:
            self.check(all(change == (4, entry.status) for change in entry.changes), "another status")
            self.check(entry.status in (1, 2), f"unknown status {entry.status}")
            self.check(bool(kinds) or card.status == entry.status, "the status did not change")
            card.status = entry.status
        elif entry.kind == REFUND:
            self.check(kinds == [1], f"a refund with changes {kinds}")
            self.refund(entry, original)
        elif entry.kind == REVERSAL:
            self.reversal(entry, original)
        else:
            self.check(not kinds, f"changes {kinds}")
            self.shape(entry)

    def shape(self, entry: Entry) -> None:
        """Legs of kinds that post on fixed accounts."""
        total: dict[int, int] = defaultdict(int)
        for leg in entry.legs:
            total[leg.account] += leg.amount
        if entry.kind == ISSUE:
            self.check(not entry.legs, "an issue with legs")
        elif entry.kind == TOP_UP:
            self.check(total[PRINCIPAL] == entry.amount == -total[COLLECTION], "not the amount topped up")
            self.check(total[BONUS] == -total[ISSUER_BONUS] >= 0, "bonus from nowhere")
        elif entry.kind == FUND:
            self.check(total[FUNDING] == entry.amount == -total[POOL], "not the amount funded")
        elif entry.kind == PURCHASE:
            paid = -total[PRINCIPAL] - total[BONUS] - total[ISSUER_POINTS]
            self.check(
                0 <= paid == total[CLEARING] <= entry.amount, f"paid {paid} of a bill of {entry.amount}"
            )
            self.check(total[POINTS] == -total[POOL], "points from nowhere")

    def refund(self, entry: Entry, purchase: Entry | None) -> None:
        """Refunded so far grows by the amount, and the legs are the difference of the documented parts."""
        if purchase is None or purchase.kind != PURCHASE or purchase.code != 0:
            self.check(False, "refund of what is not an approved purchase")
            return
        self.check(purchase.sequence not in self.reversed, "refund of a reversed purchase")
        done = self.refunds[purchase.sequence]
        before = sum(refund.amount for refund in done)
        after = before + entry.amount
        self.check(entry.changes == [(1, purchase.sequence, after)], f"refunded so far is {after}")
        self.check(after <= purchase.sum(CLEARING), f"refunded {after} of {purchase.sum(CLEARING)}")
        old, new = returned(purchase, before), returned(purchase, after)
        principal, bonus, offset, points, claw = (new[part] - old[part] for part in range(5))
        self.check(entry.sum(PRINCIPAL) == principal, f"principal returned is not {principal}")
        self.check(entry.sum(BONUS) == bonus, f"bonus returned is not {bonus}")
        self.check(entry.sum(ISSUER_POINTS) == offset, f"offset returned is not {offset}")
        self.check(
            entry.sum(POINTS) + entry.sum(SHORT_POINTS) == points - claw, "points returned or clawed back"
        )
        done.append(entry)

    def reversal(self, entry: Entry, original: Entry | None) -> None:
        """What is undone is marked once; its legs come back with the opposite sign."""
        for change in entry.changes:
            if change[0] == 3:
                self.check(entry.original_key is not None and original is None, "voids a key that is there")
                self.void.add(entry.original_key or ())
            elif change[0] == 2:
                self.check(
                    original is not None and change[1] == original.sequence, "marks another transaction"
                )
                self.check(change[1] not in self.reversed, "reversed twice")
                self.reversed.add(change[1])
            elif change[0] == 1:
                self.undo_refund(change, original)
            else:
                self.check(False, f"a reversal with change {change[0]}")
        marks = [change for change in entry.changes if change[0] == 2]
        self.check(not entry.legs or len(marks) == 1, "undone without a mark")
        if original is None or not marks or original.code != 0:
            self.check(not entry.legs, "legs of nothing that can be undone")
            self.check(all(change[2] == 0 for change in marks), "undid an amount of a refusal")
            return
        self.check(original.kind in (TOP_UP, PURCHASE, REFUND), f"undoes kind {original.kind}")
        self.check(not self.refunds[original.sequence], "undoes a purchase of which something was refunded")
        whole = original.sum(CLEARING) if original.kind == PURCHASE else original.amount
        self.check(marks[0][2] == whole, f"undid {marks[0][2]} of {whole}")
        for accounts in opposite_sets(original):
            then = sum(original.sum(account) for account in accounts)
            now = sum(entry.sum(account) for account in accounts)
            self.check(then == -now, f"accounts {sorted(accounts)}: {now} undoes {then}")

    def undo_refund(self, change: tuple[int, ...], original: Entry | None) -> None:
        done = self.refunds[change[1]]
        latest = bool(done) and original is not None and done[-1].sequence == original.sequence
        self.check(latest, "undoes a refund that is not the latest of its purchase")
        if done:
            done.pop()
        so_far = sum(refund.amount for refund in done)
        self.check(change[2] == so_far, f"refunded so far goes back to {so_far}")

    # Close of day

    def close(self, entry: Entry, programme: Programme) -> None:
        self.check(entry.code == 0, "a close with a code")
        date = entry.fields["date"]
        if entry.kind == 42:
            self.growth_complete(entry, programme)
        else:
            self.check(date == programme.open_date, f"date {date}, open is {programme.open_date}")
        if entry.kind == 40:
            self.growth_opens(entry, programme)
        if entry.kind == 41:
            self.day_closes(entry, programme)
        self.legs(entry, programme, None)
        if entry.kind == 41:
            programme.day.clear()

    def growth_opens(self, entry: Entry, programme: Programme) -> None:
        self.check(programme.growing is None, "the growth of the day before is not complete")
        value = entry.fields
        self.check(value["algorithm"] == 1, f"unknown algorithm {value['algorithm']}")
        self.check(0 < value["rate"] <= ONE // 10, f"rate {value['rate']}")
        self.check(value["rule"] == programme.rules, "not the rules in force")
        outstanding = sum(self.cards[index].purses[2] for index in programme.cards)
        reserve = outstanding * value["rate"] // ONE + len(programme.cards)
        self.check(value["outstanding"] == outstanding, f"outstanding points are {outstanding}")
        self.check(value["purses"] == len(programme.cards), f"there are {len(programme.cards)} cards")
        self.check(value["reserve"] == reserve, f"the reserve is {reserve}")
        funded = programme.totals[FUNDING] >= reserve
        self.check(
            value["funded"] == funded, f"funding is {programme.totals[FUNDING]} for a reserve of {reserve}"
        )
        moved = [(FUNDING, -reserve), (RESERVE, reserve)] if funded and reserve else []
        self.check(
            [(leg.account, leg.amount) for leg in entry.legs] == moved, "legs do not set the reserve aside"
        )
        programme.growing = Growing(entry)

    def day_closes(self, entry: Entry, programme: Programme) -> None:
        day, value = programme.day, entry.fields
        members = day[PRINCIPAL] + day[BONUS] + day[SHORT_MONEY]
        self.check(value["members"] == members, f"what members hold changed by {members}")
        self.check(value["bonus"] == day[ISSUER_BONUS], f"account 32 changed by {day[ISSUER_BONUS]}")
        self.check(value["points"] == day[ISSUER_POINTS], f"account 33 changed by {day[ISSUER_POINTS]}")
        issuer = value["members"] + value["bonus"] + value["points"]
        self.check(issuer == -entry.sum(DUE), f"issuer {issuer}, stores {entry.sum(DUE)}")
        expected = []
        for store in sorted(programme.stores):
            sold, taken = programme.by_store[CLEARING, store], programme.by_store[COLLECTION, store]
            legs = [(CLEARING, store, -sold), (COLLECTION, store, -taken), (DUE, store, sold + taken)]
            expected += [leg for leg in legs if leg[2]]
        posted = [(leg.account, leg.store or 0, leg.amount) for leg in entry.legs]
        self.check(posted == expected, f"legs {posted}, the stores' positions say {expected}")
        programme.open_date += 1
        growing = programme.growing
        if growing is not None and growing.opened.fields["date"] == value["date"]:
            growing.closed = True
            if growing.opened.fields["funded"]:
                for card in (self.cards[index] for index in programme.cards):
                    growth = self.grow(card, growing)
                    growing.merchants[card.merchant] = growing.merchants.get(card.merchant, 0) + growth
            else:
                programme.growing = None

    @staticmethod
    def grow(card: Card, growing: Growing) -> int:
        """Growth of one card for the day, on what it held at the close; the remainder is its carry."""
        growth, card.carry = divmod(card.purses[2] * growing.opened.fields["rate"] + card.carry, ONE)
        growth = min(growth, CAP - card.purses[2])
        card.purses[2] += growth
        return growth

    def growth_complete(self, entry: Entry, programme: Programme) -> None:
        growing, programme.growing = programme.growing, None
        if growing is None or not growing.closed:
            self.check(False, "completes a growth that was not opened")
            return
        opened, value = growing.opened.fields, entry.fields
        self.check(
            value["date"] == opened["date"] and value["algorithm"] == opened["algorithm"], "another growth"
        )
        self.check(value["growth"] == growing.total, f"growth recomputed from the cards is {growing.total}")
        reserve = opened["reserve"]
        moved: list[tuple[int, int | None, int]] = [(RESERVE, None, -reserve)]
        moved += [(GROWTH, merchant, growth) for merchant, growth in sorted(growing.merchants.items())]
        moved += [(FUNDING, None, reserve - growing.total)]
        moved = [leg for leg in moved if leg[2]]
        legs = [(leg.account, leg.store, leg.amount) for leg in entry.legs]
        self.check(legs == moved, f"legs are not {moved}")
        owed: dict[int, int] = defaultdict(int)
        for card in (self.cards[index] for index in programme.cards):
            owed[card.merchant] += card.purses[2]
        liabilities = [(merchant, points) for merchant, points in sorted(owed.items()) if points]
        self.check(entry.liabilities == liabilities, f"liabilities are not {liabilities}")
        programme.grown += growing.total

    # At the end

    def sums(self) -> dict[str, dict[str, int]]:
        """Money and points of each programme, over the cards as they stand and all other accounts."""
        self.place = "at the end"
        sums = {}
        for number, programme in self.programmes.items():
            cards = [self.cards[index] for index in programme.cards]
            held = {
                PRINCIPAL: sum(card.purses[0] for card in cards),
                BONUS: sum(card.purses[1] for card in cards),
                SHORT_MONEY: sum(card.shortfall_money for card in cards),
                SHORT_POINTS: sum(card.shortfall_points for card in cards),
            }
            for account, total in held.items():
                self.check(programme.totals[account] == total, f"account {account} is {total} on the cards")
            pending = programme.growing.total if programme.growing is not None else 0
            points = sum(card.purses[2] for card in cards) - pending
            others = POINTS_ACCOUNTS - {POINTS, GROWTH}
            self.check(programme.totals[GROWTH] == programme.grown, "members' growth differs from the days'")
            sums[str(number)] = {
                "money": sum(programme.totals[account] for account in MONEY_ACCOUNTS),
                "points": points + sum(programme.totals[account] for account in others),
            }
            for unit, total in sums[str(number)].items():
                self.check(total == 0, f"{unit} of programme {number} sums to {total}")
        return sums


def returned(purchase: Entry, refunded: int) -> tuple[int, int, int, int, int]:
    """Principal, bonus, offset, points returned and points clawed back once so much is refunded."""
    paid, bonus, offset = purchase.sum(CLEARING), -purchase.sum(BONUS), -purchase.sum(ISSUER_POINTS)
    spent = sum(-leg.amount for leg in purchase.legs if leg.account == POINTS and leg.amount < 0)
    earned = sum(leg.amount for leg in purchase.legs if leg.account == POINTS and leg.amount > 0)
    rest = (bonus + offset) * refunded // paid
    from_bonus = bonus * rest // (bonus + offset) if bonus + offset else 0
    return refunded - rest, from_bonus, rest - from_bonus, spent * refunded // paid, earned * refunded // paid


def opposite_sets(original: Entry) -> list[set[int]]:
    """Accounts whose sum a reversal turns round: a purse and its shortfall stand for each other."""
    stores = [{account} for account in (CLEARING, COLLECTION, ISSUER_BONUS, ISSUER_POINTS, POOL)]
    return [{PRINCIPAL, BONUS, SHORT_MONEY}, {POINTS, SHORT_POINTS}, *stores]


def blocks(path: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """The journal's id, then of every block its key and its bytes."""
    with (
        lmdb.open(str(path), readonly=True, lock=False, max_dbs=8) as environment,
        environment.begin() as reading,
    ):
        try:
            meta = environment.open_db(b"meta", reading, create=False)
            stored = environment.open_db(b"blocks", reading, create=False)
        except lmdb.NotFoundError as missing:
            raise Damage(f"not a journal: database {missing} is not there") from missing
        form, identity = reading.get(b"format", db=meta), reading.get(b"id", db=meta)
        if form != b"onecard journal 2" or identity is None or len(identity) != 16:
            raise Damage(f"not a journal of version 2: format {form!r}, id {identity!r}")
        for key, block in reading.cursor(db=stored):
            if len(key) != 8:
                raise Damage(f"a block with a key of {len(key)} bytes")
            yield identity, int.from_bytes(key, "big"), block


def open_block(block: bytes, key: int, sequence: int, before: bytes) -> tuple[int, list[bytes]]:
    """Base date and entries of a block that must begin with this sequence and follow this hash."""
    if len(block) < HEAD.size + HASH_BYTES:
        raise Damage(f"{len(block)} bytes are no block")
    if hashlib.sha256(block[:-HASH_BYTES]).digest() != block[-HASH_BYTES:]:
        raise Damage("its hash is not that of its content")
    magic, count, first, _stamp, base, size, previous = HEAD.unpack_from(block)
    if magic != b"OCJ2" or count < 1 or len(block) != HEAD.size + size + 4 * count + HASH_BYTES:
        raise Damage(f"magic {magic!r}, {count} entries in {size} of {len(block)} bytes")
    if previous != before:
        raise Damage("does not follow the block before")
    if not first == key == sequence:
        raise Damage(f"first sequence {first} under key {key}, expected {sequence}")
    end = HEAD.size + size
    starts = [*struct.unpack_from(f"<{count}I", block, end), end]
    if starts[0] != HEAD.size or any(a >= b for a, b in pairwise(starts)):
        raise Damage("its offset table does not cover its entries")
    return base, [block[a:b] for a, b in pairwise(starts)]


def audit(directory: Path) -> Report:
    """Audit the journal of a closed data directory. What stops the walk is the last of the problems."""
    report, books = Report(), Books()
    kinds: dict[str, int] = defaultdict(int)
    codes: dict[str, int] = defaultdict(int)
    place, before = "journal", b""
    try:
        for identity, key, block in blocks(directory / "journal"):
            place = f"block {key}"
            base, entries = open_block(block, key, report.entries + 1, before or identity + bytes(16))
            before = block[-HASH_BYTES:]
            for data in entries:
                place = f"block {key}, entry {report.entries + 1}"
                entry = decode(data, report.entries + 1, base)
                books.post(entry)
                report.entries += 1
                kinds[str(entry.kind)] += 1
                codes[str(entry.code)] += entry.kind in KINDS
            report.blocks += 1
            report.bytes += len(block)
    except (Damage, lmdb.Error, UnicodeDecodeError, json.JSONDecodeError) as damage:
        books.problems.append(f"{place}: {damage}")
    else:
        report.sums = books.sums()
    report.cards, report.transactions, report.head = len(books.cards), len(books.transactions), before.hex()
    report.kinds, report.codes = dict(kinds), dict(codes)
    for number, programme in books.programmes.items():
        report.totals[str(number)] = {
            str(account): total for account, total in sorted(programme.totals.items())
        }
        report.grown[str(number)] = programme.grown
        report.open_dates[str(number)] = programme.open_date
    report.problems = books.problems
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Audit the journal of a closed data directory.")
    parser.add_argument(
        "directories", nargs="+", metavar="DIR", help="data directory, or - for standard input"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON a directory")
    options = parser.parse_args(arguments)
    if options.directories == ["-"]:
        for line in sys.stdin:
            print(json.dumps(asdict(audit(Path(line.rstrip("\n"))))), flush=True)
        return 0
    failed = False
    for directory in options.directories:
        report = audit(Path(directory))
        failed = failed or bool(report.problems)
        if options.json:
            print(json.dumps(asdict(report)))
        else:
            print(f"{directory}: {report.entries} entries in {report.blocks} blocks, {report.cards} cards")
            print("\n".join(report.problems) or "whole: the chain, every key, every balance, every sum")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
