"""The journal's bytes: databases, blocks and entries as docs/journal-format.md has them, to the last byte."""

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import lmdb

FORMAT, MAGIC = b"onecard journal 3", b"OCJ2"
HEAD = struct.Struct("<4sIQQII32s")
HASH_BYTES = 32

PRINCIPAL, BONUS, POINTS, SHORT_MONEY, SHORT_POINTS, UNIT = 1, 2, 3, 4, 5, 6
CLEARING, COLLECTION, DUE, STORE_FEES, CARD_FEES = 16, 17, 18, 19, 20
ISSUER_BONUS, ISSUER_POINTS, ISSUER_UNITS, ISSUER_COLLECTION = 32, 33, 34, 35
POOL, FUNDING, RESERVE, GROWTH = 40, 41, 42, 43
UNIT_POOL, OUT_AS_CODES, TRANSIT_MONEY, TRANSIT_POINTS, TRANSIT_UNITS = 44, 45, 46, 47, 48
PURSES = frozenset({PRINCIPAL, BONUS, POINTS, UNIT})
CARD_ACCOUNTS = PURSES | {SHORT_MONEY, SHORT_POINTS}
STORE_ACCOUNTS = frozenset({CLEARING, COLLECTION, DUE, STORE_FEES, CARD_FEES})
TRANSIT_ACCOUNTS = frozenset({TRANSIT_MONEY, TRANSIT_POINTS, TRANSIT_UNITS})
ISSUER_MONEY = frozenset({ISSUER_BONUS, ISSUER_POINTS, ISSUER_UNITS, ISSUER_COLLECTION})
MONEY_ACCOUNTS = frozenset({PRINCIPAL, BONUS, SHORT_MONEY, TRANSIT_MONEY}) | STORE_ACCOUNTS | ISSUER_MONEY
POINTS_ACCOUNTS = frozenset({POINTS, SHORT_POINTS, POOL, FUNDING, RESERVE, GROWTH, TRANSIT_POINTS})
UNIT_ACCOUNTS = frozenset({UNIT, UNIT_POOL, OUT_AS_CODES, TRANSIT_UNITS})
# How a move names them: by their place.
PLACES = [1, 2, 3, 4, 5, 6, 16, 17, 18, 32, 33, 40, 41, 42, 43, 35, 34, 44, 45, 46, 47, 48, 19, 20]
NO_PLAIN_PLACE = 5
MOVES_MAX, POSTS_MAX, DETAILED = 12, 8_192, 15
UNIT_MIN = 16

ISSUE, TOP_UP, PURCHASE, REFUND, REVERSAL, STATUS, FUND = 1, 2, 3, 4, 5, 7, 8
GRANT, AUTHORISE, CAPTURE, VOID, REPLACE, TRANSFER, HOLDER = 9, 10, 11, 12, 13, 14, 15
BIND, SET_PIN, CLOSE, ISSUE_CODES, BULK_TOP_UP, SET_TIER = 16, 17, 18, 19, 20, 21
PLAIN_KINDS = frozenset({ISSUE, TOP_UP, PURCHASE, REFUND, REVERSAL, STATUS, FUND})
KINDS = frozenset(range(1, 22)) - {6}
APPROVALS = frozenset({0, 10})

BY_ID, HAS_CARD, NO_CARD, POSTED_LATER, WITH_POINTS, ORIGINAL_BY_KEY = 1, 2, 4, 8, 16, 32
OTHER_PROGRAMME, OTHER_DATE = 64, 128
TIME_LEAST = -(1 << 23)

COUPON, CODE, PASS, CARD, CASH, STAFF, ALIAS, NUMBER, MEMBER, LINE, SEEN = 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 14
CURSOR, ADVICE = 13, 15
ITEM_KINDS = frozenset(
    {COUPON, CODE, PASS, CARD, CASH, STAFF, ALIAS, NUMBER, MEMBER, LINE, CURSOR, SEEN, ADVICE}
)

REFUNDED, REVERSED, MARKED, NEW_STATUS, TAKEN, SPENT, TRIES, NEW_PIN = 1, 2, 3, 4, 5, 6, 7, 8
NEW_HOLDER, NEW_NUMBER, NEW_ALIAS, HELD, CAPTURED, CODES_OUT, CODE_USED, SOLD = 9, 10, 11, 12, 13, 14, 15, 16
NEW_TIER = 17
NEW_CURSOR = 18
TAKEN_BY, OUT, BOUGHT, SPENT_AND_EARNED = 20, 21, 22, 23

PROGRAMME, MERCHANT, STORE, TERMINAL, RULES = 32, 33, 34, 35, 36
GROWTH_OPENS, DAY_CLOSED, GROWTH_COMPLETE, LOTS_LAPSED = 40, 41, 42, 43

Dates = tuple[int, int]
UNDATED: Dates = (0, 0)


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

    def flag(self) -> bool:
        value = self.byte()
        if value > 1:
            raise Damage(f"{value} where 0 or 1 stands")
        return value == 1

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

    def signed(self) -> int:
        value = self.uint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def wrapped(self) -> int:
        """An amount that is written as 2^64 more if it is negative."""
        value = self.uint()
        if value >= 1 << 64:
            raise Damage(f"an amount of {value}")
        return value - (1 << 64) if value >> 63 else value

    def some(self) -> int:
        """A number that is there because it is not zero."""
        return self.not_zero(self.uint())

    @staticmethod
    def not_zero(value: int) -> int:
        if value == 0:
            raise Damage("a zero that need not be there")
        return value

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
    """A leg of a close: an account, the store, merchant or unit that it is of, and an amount."""

    account: int
    number: int | None
    amount: int


@dataclass(slots=True, frozen=True)
class Post:
    """A move; a plain one is of the entry's card and its undated lots."""

    source: int
    target: int
    amount: int
    card: int = 0
    unit: int = 0
    dates: Dates = UNDATED

    @property
    def end(self) -> tuple[int, int] | None:
        """The account that is a card's, and what changes on it."""
        if self.source in CARD_ACCOUNTS:
            return self.source, -self.amount
        return (self.target, self.amount) if self.target in CARD_ACCOUNTS else None

    @property
    def purse(self) -> int:
        """The purse at the card's end; 0 if there is none, or a shortfall."""
        account = self.end[0] if self.end is not None else 0
        return self.unit if account == UNIT else account if account in PURSES else 0


@dataclass(slots=True, frozen=True)
class Item:
    kind: int
    digits: int = 0
    unit: int = 0
    amount: int = 0
    high: int = 0
    low: int = 0

    @property
    def number(self) -> str:
        """The card number that it names."""
        return str(self.low).zfill(self.digits)


@dataclass(slots=True)
class Entry:
    """One decoded entry; which fields are set depends on its kind."""

    sequence: int
    kind: int
    code: int
    programme: int
    base: int
    flags: int = 0
    detailed: bool = False
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
    asked: int = 0
    reason: int = 0
    cash: int = 0
    unpaid: int = 0
    discount: int = 0
    original: int = 0
    original_key: tuple[object, ...] | None = None
    items: list[Item] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    further: list[tuple[int, int]] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    changes: list[tuple[int, ...]] = field(default_factory=list)
    balances: tuple[int, int, int] | None = None
    purses: list[tuple[int, int, int]] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    fields: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    liabilities: list[tuple[int, int]] = field(default_factory=list)

    @property
    def approved(self) -> bool:
        return self.code in APPROVALS

    def sum(self, *accounts: int) -> int:
        """What its legs and moves post on these accounts."""
        moved = sum(post.amount for post in self.posts if post.target in accounts)
        moved -= sum(post.amount for post in self.posts if post.source in accounts)
        return moved + sum(leg.amount for leg in self.legs if leg.account in accounts)

    def given(self, source: int, target: int) -> int:
        """What it moves from one account to another."""
        return sum(post.amount for post in self.posts if (post.source, post.target) == (source, target))

    def items_of(self, kind: int) -> list[Item]:
        return [item for item in self.items if item.kind == kind]

    def changes_of(self, kind: int) -> list[tuple[int, ...]]:
        return [change for change in self.changes if change[0] == kind]


# Entries

FIELDS_BEFORE_TEXT = {
    MERCHANT: ["merchant"],
    STORE: ["store", "merchant"],
    TERMINAL: ["terminal", "store"],
    RULES: ["version"],
}
TEXTS = {MERCHANT: 1, STORE: 1, TERMINAL: 0, RULES: 2}
CLOSE_FIELDS = {
    GROWTH_OPENS: "date:u rule:u algorithm:b rate:u outstanding:u purses:u reserve:u funded:b",
    DAY_CLOSED: "date:u members:i bonus:i points:i units:i",
    GROWTH_COMPLETE: "date:u algorithm:b growth:u",
    LOTS_LAPSED: "date:u",
}


def fields_of(kind: int) -> list[tuple[str, str]]:
    """Names and forms (uint, int, byte) of the fields of a kind 40 to 43."""
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
    if entry.kind == PROGRAMME:
        entry.texts = [read.text()]
        entry.fields["date"] = read.uint()
    elif entry.kind in FIELDS_BEFORE_TEXT:
        entry.fields = {name: read.uint() for name in FIELDS_BEFORE_TEXT[entry.kind]}
        entry.texts = [read.text() for _ in range(TEXTS[entry.kind])]
    elif entry.kind in CLOSE_FIELDS:
        take = {"u": read.uint, "i": read.signed, "b": read.byte}
        entry.fields = {name: take[form]() for name, form in fields_of(entry.kind)}
        entry.legs = decode_legs(read)
        if entry.kind == GROWTH_COMPLETE:
            entry.liabilities = [(read.uint(), read.uint()) for _ in range(read.uint())]
    else:
        raise Damage(f"unknown kind {entry.kind}")


def decode_legs(read: Reader) -> list[Leg]:
    legs = []
    for _ in range(read.uint()):
        account = read.byte()
        number = read.uint() if account & 128 else None
        legs.append(Leg(account & 127, number, read.signed()))
    return legs


def decode_transaction(read: Reader, entry: Entry) -> None:
    entry.flags, entry.channel, counts = read.byte(), read.byte(), read.byte()
    entry.time = TIME_LEAST + int.from_bytes(read.take(3), "little")
    if entry.flags & OTHER_PROGRAMME:
        entry.programme = read.uint()
    entry.terminal, entry.store = read.uint(), read.uint()
    entry.date = entry.posted = entry.base + (read.signed() if entry.flags & OTHER_DATE else 0)
    if entry.flags & BY_ID:
        entry.key = (entry.programme, entry.date, read.take(16))
    else:
        entry.key = (entry.programme, entry.date, entry.terminal, read.uint())
    if entry.flags & POSTED_LATER:
        entry.posted = entry.base + read.signed()
    entry.rule = read.uint()
    if entry.flags & HAS_CARD and entry.flags & NO_CARD:
        raise Damage("a card, and a number that is none")
    if entry.flags & HAS_CARD:
        entry.card, entry.previous = read.uint(), read.uint()
    if entry.flags & NO_CARD:
        entry.missing = read.card_number()
    entry.detailed = counts == DETAILED
    if entry.detailed:
        decode_details(read, entry)
    else:
        decode_plain(read, entry, counts & 15, counts >> 4)


def decode_plain(read: Reader, entry: Entry, moves: int, changes: int) -> None:
    if entry.kind not in PLAIN_KINDS:
        raise Damage(f"kind {entry.kind} without details")
    if entry.kind == ISSUE:
        entry.product, entry.expires = read.uint(), read.uint()
        entry.number = read.card_number() if entry.flags & HAS_CARD else None
    if entry.kind in (TOP_UP, PURCHASE, REFUND, FUND):
        entry.amount = read.signed()
    if entry.kind in (REFUND, REVERSAL):
        decode_original(read, entry)
    if entry.kind == STATUS:
        entry.status = read.byte()
    entry.asked = 1 if entry.flags & WITH_POINTS else 0
    if moves > MOVES_MAX:
        raise Damage(f"{moves} moves")
    entry.posts = [decode_move(read) for _ in range(moves)]
    entry.changes = [decode_change(read) for _ in range(changes)]
    if any(change[0] > NEW_STATUS for change in entry.changes):
        raise Damage("a change that needs details")
    if entry.flags & HAS_CARD:
        entry.balances = (read.uint(), read.uint(), read.uint())


def decode_original(read: Reader, entry: Entry) -> None:
    if not entry.flags & ORIGINAL_BY_KEY:
        entry.original = read.uint()
        return
    date, form = entry.base + read.signed(), read.byte()
    if form == 0:
        entry.original_key = (entry.programme, date, read.uint(), read.uint())
    elif form == 1:
        entry.original_key = (entry.programme, date, read.take(16))
    else:
        raise Damage(f"original of unknown form {form}")


def decode_move(read: Reader) -> Post:
    pair, amount = read.byte(), read.uint()
    source, target = pair >> 4, pair & 15
    if NO_PLAIN_PLACE in (source, target):
        raise Damage(f"a plain move between accounts at {source} and {target}")
    if source == target:
        raise Damage("a move from an account to itself")
    return Post(PLACES[source], PLACES[target], amount)


def decode_details(read: Reader, entry: Entry) -> None:
    entry.asked, entry.status, entry.reason, bits = read.byte(), read.byte(), read.byte(), read.byte()
    items, further, posts, changes = decode_counts(read, many=bits & 128 != 0)
    if bits & 64:
        entry.product, entry.expires = read.uint(), read.uint()
        read.not_zero(entry.product | entry.expires)
    entry.amount = read.not_zero(read.wrapped()) if bits & 1 else 0
    entry.cash, entry.unpaid, entry.discount = (read.some() if bits & bit else 0 for bit in (2, 4, 8))
    if bits & 16:
        decode_original(read, entry)
    elif entry.flags & ORIGINAL_BY_KEY:
        raise Damage("an original by key that is not there")
    if bits & 32 and not entry.flags & HAS_CARD:
        raise Damage("the number of a card that is not there")
    if entry.flags & HAS_CARD:
        entry.number = read.card_number() if bits & 32 else None
        entry.balances = (read.uint(), read.uint(), read.uint())
    entry.items = [decode_item(read) for _ in range(items)]
    entry.further = [(read.uint(), read.uint()) for _ in range(further)]
    entry.posts = [decode_post(read) for _ in range(posts)]
    if (entry.flags & WITH_POINTS != 0) != (entry.asked & 1 != 0):
        raise Damage("the flags of the head and of the request differ")
    if posts > POSTS_MAX:
        raise Damage(f"{posts} moves")
    place = max((post.card for post in entry.posts), default=0)
    if place > further:
        raise Damage(f"a move of card {place} of {further}")
    entry.purses = [(*purse, read.uint()) for purse in told(entry)]
    entry.changes = [decode_change(read) for _ in range(changes)]
    entry.lines = [read.uint() for _ in entry.items_of(LINE)] if entry.approved else []


def decode_counts(read: Reader, *, many: bool) -> tuple[int, ...]:
    """How many items, further cards, moves and changes follow."""
    form = struct.Struct("<4H" if many else "<4B")
    counts: tuple[int, ...] = form.unpack(read.take(form.size))
    if many and max(counts) < 256:
        raise Damage("counts are longer than they need be")
    return counts


def told(entry: Entry) -> list[tuple[int, int]]:
    """Cards, by place, and purses whose balances stand behind the moves."""
    purses = [
        (place, purse) for place in range(1, len(entry.further) + 1) for purse in (PRINCIPAL, BONUS, POINTS)
    ]
    return purses + list(
        dict.fromkeys((post.card, post.purse) for post in entry.posts if post.purse > POINTS)
    )


def decode_item(read: Reader) -> Item:
    first, digits, unit = struct.unpack("<BBH", read.take(4))
    kind = first & 15
    if kind not in ITEM_KINDS or first >> 7:
        raise Damage(f"an item of kind {kind} with fields {first >> 4:#x}")
    amount = read.not_zero(read.wrapped()) if first & 16 else 0
    high = low = 0
    if first & 32:
        high, low = read.not_zero(int.from_bytes(read.take(8), "big")), int.from_bytes(read.take(8), "big")
        if (low != 0) != (first & 64 != 0):
            raise Damage("a bit of an item that differs from its field")
    elif first & 64:
        low = read.some()
    return Item(kind, digits, unit, amount, high, low)


def decode_post(read: Reader) -> Post:
    first, second = read.byte(), read.byte()
    if first & 31 >= len(PLACES) or second >= len(PLACES):
        raise Damage(f"a move between unknown accounts {first & 31} and {second}")
    source, target, form = PLACES[first & 31], PLACES[second], first >> 5 & 3
    if form == 3:
        raise Damage("a move of unknown form")
    unit = int.from_bytes(read.take(2), "little") if form else 0
    expires = int.from_bytes(read.take(4), "little") if form == 2 else 0
    card, begins = (read.uint(), read.uint()) if first & 128 else (0, 0)
    if (form == 1 and not unit) or (form == 2 and not expires) or (first & 128 and not card | begins):
        raise Damage("a zero that need not be there")
    if source == target or (source in CARD_ACCOUNTS and target in CARD_ACCOUNTS):
        raise Damage(f"a move from account {source} to {target}")
    if source in UNIT_ACCOUNTS and unit < UNIT_MIN:
        raise Damage(f"a move of unit {unit}")
    return Post(source, target, read.uint(), card, unit, (begins, expires))


def uints(count: int) -> Callable[[Reader], tuple[int, ...]]:
    return lambda read: tuple(read.uint() for _ in range(count))


CHANGES: dict[int, Callable[[Reader], tuple[int, ...]]] = {
    REFUNDED: uints(2),
    REVERSED: uints(2),
    MARKED: uints(0),
    NEW_STATUS: lambda read: (read.byte(),),
    TAKEN: uints(2),
    SPENT: uints(2),
    TRIES: uints(2),
    NEW_PIN: lambda read: (read.uint(), *(int.from_bytes(read.take(size), "big") for size in (8, 16))),
    NEW_HOLDER: uints(2),
    NEW_ALIAS: lambda read: (read.byte(), read.flag(), int.from_bytes(read.take(16), "big")),
    HELD: uints(5),
    CAPTURED: uints(3),
    CODES_OUT: uints(4),
    CODE_USED: uints(3),
    SOLD: lambda read: (read.uint(), read.signed()),
    NEW_CURSOR: uints(3),
    NEW_TIER: uints(2),
    TAKEN_BY: uints(3),
    OUT: uints(2),
    BOUGHT: uints(1),
    SPENT_AND_EARNED: uints(3),
}


def decode_change(read: Reader) -> tuple[int, ...]:
    kind = read.byte()
    if kind == NEW_NUMBER:
        # Numbers with their digits, so that leading zeros count.
        code, number, former = read.byte(), read.card_number(), read.card_number()
        return kind, code, len(number), int(number), len(former), int(former)
    if kind not in CHANGES:
        raise Damage(f"unknown change {kind}")
    return kind, *CHANGES[kind](read)


# Blocks


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
        if form != FORMAT or identity is None or len(identity) != 16:
            raise Damage(f"not a journal of version 3: format {form!r}, id {identity!r}")
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
    if magic != MAGIC or count < 1 or len(block) != HEAD.size + size + 4 * count + HASH_BYTES:
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
