"""What is asked and what is answered: rows, items and parts, and which rows are malformed."""

from __future__ import annotations

from typing import NamedTuple

ONE = 10**12
CAP = 10**16
AMOUNT_MAX = 10**14
WINDOW_DAYS = 7
DAY_S = 86_400
TOLERANCE_S = 86_400

ISSUE, TOP_UP, PURCHASE, REFUND, REVERSAL, BALANCE, STATUS, FUND = range(1, 9)
GRANT, AUTHORISE, CAPTURE, VOID, REPLACE, TRANSFER, HOLDER, BIND = range(9, 17)
SET_PIN, CLOSE, ISSUE_CODES, BULK_TOP_UP, SET_TIER = range(17, 22)

ACTIVE, FROZEN, LOST, STOLEN, NOT_YET, CLOSED = range(1, 7)

WITH_POINTS, ACCEPT_PARTIAL, FINAL, BY_CARD, TAKE_OFF, BY_OPERATOR, DRY_RUN = 1, 2, 4, 8, 16, 32, 64

COUPON, CODE, PASS, CARD, PIN, CASH, STAFF, ALIAS, NUMBER, MEMBER, NEW_PIN, LINE = range(1, 13)

LINE_PART = 18
"""Account of a part that is a line of the basket."""
COUPON, CODE, PASS, CARD, PIN, CASH, STAFF, ALIAS, NUMBER, MEMBER, NEW_PIN = range(1, 12)
CURSOR = 13

ADVICE_PART = 19
"""Account of a part that says what became of asking a Python rule."""

UNIT_MIN = 16
ITEMS_MAX = 64
BULK_MAX = 1_000
TAKEN_MAX = 100
GENUINE = 1
"""In the model's code items `high` is this if the MAC is the right one; drivers put the MAC in."""

Key = tuple[int, ...]


class Item(NamedTuple):
    """One item of a request: the fields of docs/card.md."""

    kind: int = 0
    digits: int = 0
    unit: int = 0
    number: int = 0
    amount: int = 0
    high: int = 0
    low: int = 0


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
    items: tuple[Item, ...] = ()


class Part(NamedTuple):
    """One part of an answer: the fields of docs/card.md, without those that are always zero."""

    account: int = 0
    card: int = 0
    purse: int = 0
    begins: int = 0
    expires: int = 0
    amount: int = 0
    balance: int = 0


class Advice(NamedTuple):
    """What became of asking a Python rule about a sale: 0 it was heard, 1 it refuses, 2 it failed, 3 late."""

    rule: int
    outcome: int = 0
    off: int = 0
    factor: int = ONE


class Answer(NamedTuple):
    """One answer: the fields of docs/transactions.md and docs/card.md."""

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
    reason: int = 0
    tier: int = 0
    parts: tuple[Part, ...] = ()


USES: dict[int, set[str]] = {
    ISSUE: {"card", "product", "expires", "status"},
    TOP_UP: {"card", "amount"},
    PURCHASE: {"card", "amount", "flags"},
    REFUND: {"amount", "original"},
    REVERSAL: {"original"},
    BALANCE: {"card"},
    STATUS: {"card", "status"},
    FUND: {"amount"},
    GRANT: {"card", "product", "amount", "flags"},
    AUTHORISE: {"card", "amount", "flags", "expires"},
    CAPTURE: {"amount", "original", "flags"},
    VOID: {"original"},
    REPLACE: {"card", "status"},
    TRANSFER: {"card", "product", "amount"},
    HOLDER: {"card"},
    BIND: {"card", "flags"},
    SET_PIN: {"card", "flags"},
    CLOSE: {"card"},
    ISSUE_CODES: {"product", "amount", "expires"},
    BULK_TOP_UP: {"amount"},
    SET_TIER: {"card", "product"},
}
"""What a kind uses, besides programme, key, terminal, local time and channel."""

FLAGS = {
    PURCHASE: WITH_POINTS | ACCEPT_PARTIAL | DRY_RUN,
    AUTHORISE: WITH_POINTS | ACCEPT_PARTIAL | DRY_RUN,
    CAPTURE: FINAL,
    GRANT: BY_CARD,
    BIND: TAKE_OFF,
    SET_PIN: BY_OPERATOR,
}

STATES = {
    ISSUE: (0, NOT_YET),
    STATUS: (ACTIVE, FROZEN, LOST, STOLEN),
    REPLACE: (0, LOST, STOLEN),
}

WITH_CARD = tuple(kind for kind in USES if "card" in USES[kind])
WITH_ORIGINAL = tuple(kind for kind in USES if "original" in USES[kind])

ITEM_USES = {
    COUPON: {"unit", "amount"},
    CODE: {"unit", "low", "high"},
    PASS: {"unit", "amount"},
    CARD: {"digits", "low"},
    PIN: {"digits", "low"},
    CASH: {"amount"},
    STAFF: {"digits", "low"},
    ALIAS: {"digits", "high", "low"},
    NUMBER: {"digits", "low"},
    MEMBER: {"low", "amount"},
    NEW_PIN: {"digits", "low"},
    LINE: {"unit", "amount", "low"},
    CURSOR: {"unit", "amount", "low"},
}

_NAMED = tuple(kind for kind in WITH_CARD if kind != ISSUE)
ALLOWED_IN = {
    COUPON: (PURCHASE, AUTHORISE),
    CODE: (PURCHASE,),
    PASS: (PURCHASE, AUTHORISE),
    CARD: (PURCHASE, TRANSFER, BIND, BULK_TOP_UP),
    PIN: _NAMED,
    CASH: (PURCHASE,),
    STAFF: (PURCHASE, AUTHORISE),
    ALIAS: _NAMED,
    NUMBER: (REPLACE,),
    MEMBER: (HOLDER,),
    NEW_PIN: (SET_PIN,),
    LINE: (PURCHASE, AUTHORISE),
    CURSOR: (GRANT, SET_TIER),
}


def key_of(row: Row) -> Key:
    """The key that a request carries: by trace, or by id."""
    if row.trace:
        return (row.business_date, row.terminal, row.trace)
    return (row.business_date, 0, row.id_hi, row.id_lo)


def original_key_of(row: Row) -> Key:
    """The key by which a request names its original."""
    if row.original_trace:
        return (row.original_date, row.original_terminal, row.original_trace)
    return (row.original_date, 0, row.original_id_hi, row.original_id_lo)


def content_of(row: Row) -> Row:
    """What a retry must have the same: not its stamps, and not its PINs."""
    items = tuple(item for item in row.items if item.kind not in (PIN, NEW_PIN))
    return row._replace(programme=0, local_time=0, items=items)


def is_number(digits: int, number: int) -> bool:
    return 8 <= digits <= 19 and 0 <= number < 10**digits


def malformed(row: Row) -> bool:
    """True if the answer is 30: whatever is not used must be zero, whatever is used must make sense."""
    kind = row.kind
    uses = USES.get(kind)
    if uses is None or row.terminal == 0:
        return True
    for name in ("amount", "product", "flags", "expires", "status"):
        if name not in uses and getattr(row, name):
            return True
    if row.flags & ~FLAGS.get(kind, 0) or row.status not in STATES.get(kind, (0,)) or row.expires < 0:
        return True
    has_trace, has_id = row.trace != 0, (row.id_hi, row.id_lo) != (0, 0)
    keyless = kind == BALANCE or row.flags & DRY_RUN
    if (has_trace or has_id) if keyless else (has_trace == has_id):
        return True
    if row.flags & DRY_RUN and any(item.kind in (PIN, NEW_PIN) for item in row.items):
        return True
    return malformed_card(row) or malformed_original(row) or malformed_items(row)


def malformed_card(row: Row) -> bool:
    """True unless the card is named once, by the row's number or by an item, if the kind has one."""
    in_row = row.card_digits != 0 or row.card != 0
    if row.kind not in WITH_CARD:
        return in_row
    if in_row and not is_number(row.card_digits, row.card):
        return True
    by_alias = row.kind != BIND and any(item.kind == ALIAS for item in row.items)
    by_cursor = any(item.kind == CURSOR for item in row.items)
    return in_row + by_alias + by_cursor != 1


def malformed_original(row: Row) -> bool:
    """True if the original is named where none belongs, in no way, in two ways, or is the request itself."""
    has_trace, has_id = row.original_trace != 0, (row.original_id_hi, row.original_id_lo) != (0, 0)
    any_key = has_trace or has_id or row.original_terminal != 0 or row.original_date != 0
    if row.kind not in WITH_ORIGINAL:
        return row.original != 0 or any_key
    if row.original:
        return any_key
    if has_trace == has_id or (row.original_terminal != 0) != has_trace:
        return True
    return original_key_of(row) == key_of(row)


def malformed_items(row: Row) -> bool:
    """True if there are too many items, or one is malformed or stands where it may not."""
    if len(row.items) > (BULK_MAX if row.kind == BULK_TOP_UP else ITEMS_MAX):
        return True
    if any(malformed_item(row.kind, item) for item in row.items):
        return True

    def count(kind: int) -> int:
        return sum(item.kind == kind for item in row.items)

    lines = [item.amount for item in row.items if item.kind == LINE]
    if lines and sum(lines) != row.amount:
        return True
    if any(count(kind) > 1 for kind in (CASH, STAFF, ALIAS, NEW_PIN, CURSOR)):
        return True
    wrong = {
        REPLACE: count(NUMBER) != 1,
        TRANSFER: count(CARD) != 1,
        HOLDER: count(MEMBER) != 1,
        BIND: count(ALIAS) != 1 or count(CARD) > 1,
        SET_PIN: count(PIN) > 1 or (count(NEW_PIN) != 1 and not row.flags & BY_OPERATOR),
        BULK_TOP_UP: count(CARD) == 0,
    }
    return wrong.get(row.kind, False)


def malformed_item(kind: int, item: Item) -> bool:
    """True if an item is no item, or none of this kind of request."""
    uses = ITEM_USES.get(item.kind)
    if uses is None or kind not in ALLOWED_IN[item.kind]:
        return True
    if item.kind == CARD and kind == BULK_TOP_UP:
        uses = uses | {"amount"}
    if any(value and name not in uses for name, value in item._asdict().items() if name != "kind"):
        return True
    good = {
        COUPON: item.unit >= UNIT_MIN and 1 <= item.amount <= TAKEN_MAX,
        CODE: item.unit >= UNIT_MIN,
        PASS: item.unit >= UNIT_MIN and 1 <= item.amount <= TAKEN_MAX,
        CASH: 1 <= item.amount <= AMOUNT_MAX,
        ALIAS: item.digits >= 1,
        CURSOR: item.unit >= 1 and item.amount >= 1 and item.low < 2**32,
        MEMBER: item.amount in (0, 1) and (item.low != 0 or item.amount == 0),
        LINE: 0 <= item.amount <= AMOUNT_MAX and item.low < 2**63,
    }
    if item.kind in (CARD, STAFF, NUMBER):
        return not is_number(item.digits, item.low)
    if item.kind in (PIN, NEW_PIN):
        return not (4 <= item.digits <= 12 and item.low < 10**item.digits)
    return not good[item.kind]
