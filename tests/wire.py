"""The protocol from outside: the model's rows as messages, and messages as the model's answers and reports.

Written from the protos and docs/grpc.md alone, so that a mistake of `onecard.messages` or of the front is
not made here a second time.

What a message has no place for is ruled on here, and nowhere else. A row is changed to the nearest that can
be said (`sayable`), and that is what the model is asked, too. What only a malformed one has beyond that
(`unsayable`) is sent as another mistake, which has the same answer; a kind that there is none of is a
transaction of a stream with nothing in it.
"""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import Any

from onecard.v1 import admin_pb2, terminal_pb2, transaction_pb2
from tests.model import (
    ALIAS,
    AUTHORISE,
    BALANCE,
    BIND,
    BULK_TOP_UP,
    CARD,
    CASH,
    CLOSE,
    CODE,
    COUPON,
    CURSOR,
    DAY_S,
    FLAGS,
    GRANT,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    ITEM_USES,
    LINE,
    MEMBER,
    NEW_PIN,
    NOT_YET,
    NUMBER,
    PASS,
    PIN,
    PURCHASE,
    REPLACE,
    SET_PIN,
    SET_TIER,
    STAFF,
    STATUS,
    TOP_UP,
    TRANSFER,
    USES,
    WITH_ORIGINAL,
    Answer,
    Item,
    Part,
    Row,
    malformed,
)

Registration = tuple[str, int, int, int, str]
Placed = dict[int, list[list[Item]]]

EPOCH = datetime.date(1970, 1, 1)
LAST_DAY = (datetime.date.max - EPOCH).days
UINT32_MAX = 2**32 - 1

CODE_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SERIAL_MAX = 2**45 - 1
"""The last serial that the text of a code can say."""

PLACES: dict[int, tuple[int, ...]] = {
    TOP_UP: (ALIAS, PIN),
    PURCHASE: (ALIAS, PIN, COUPON, CODE, PASS, CARD, CASH, STAFF, LINE),
    BALANCE: (ALIAS,),
    STATUS: (ALIAS,),
    GRANT: (ALIAS, CURSOR, PIN),
    AUTHORISE: (ALIAS, PIN, COUPON, PASS, STAFF, LINE),
    REPLACE: (ALIAS, NUMBER),
    TRANSFER: (ALIAS, PIN, CARD),
    HOLDER: (ALIAS, MEMBER),
    BIND: (PIN, ALIAS, CARD),
    SET_PIN: (ALIAS, PIN, NEW_PIN),
    CLOSE: (ALIAS,),
    SET_TIER: (ALIAS, CURSOR),
    BULK_TOP_UP: (CARD,),
}
"""The items that a message has fields for, in the order in which they are taken. What docs/card.md allows
besides are PINs that are not looked at."""

REPEATED: dict[int, tuple[int, ...]] = {
    PURCHASE: (COUPON, CODE, PASS, CARD, LINE),
    AUTHORISE: (COUPON, PASS, LINE),
    BULK_TOP_UP: (CARD,),
}
"""The items that a message takes more than one of."""

NAMES = {
    (ISSUE, "status"): "inactive",
    (GRANT, "product"): "bundle",
    (GRANT, "amount"): "count",
    (REPLACE, "status"): "old",
    (TRANSFER, "product"): "purse",
    (ISSUE_CODES, "product"): "unit",
    (ISSUE_CODES, "amount"): "count",
    (SET_TIER, "product"): "tier",
}
"""Fields of rows that have another name in the message of a kind."""

FLAG_NAMES = (
    "use_points",
    "accept_partial",
    "final",
    "paid_by_card",
    "remove",
    "by_operator",
    "dry_run",
)
"""The fields of the flags, bit by bit."""

FIELDS = {kind: field.name for kind, field in terminal_pb2.Transaction.DESCRIPTOR.fields_by_number.items()}
"""The place of each kind in `Transaction`: the number of each is that of its kind."""

METHODS = {kind: field.title().replace("_", "") for kind, field in FIELDS.items()}
"""The unary call of each kind."""


# What can be said


def sayable(row: Row) -> Row:
    """The row as near as a message can say it.

    Items stand in the order of their places; serials, dates and times that cannot be written are the nearest
    that can. Of PINs there is one a card, where one is looked at; a malformed row keeps all of them, as they
    may be what is malformed.
    """
    date = calendar_day(row.business_date)
    midnight = date * DAY_S
    time = min(max(row.local_time, -midnight), (LAST_DAY + 1) * DAY_S - 1 - midnight)
    return row._replace(
        business_date=date,
        local_time=time,
        original_date=calendar_day(row.original_date),
        items=tuple(sayable_items(row)),
    )


def calendar_day(days: int) -> int:
    return min(max(days, 0), LAST_DAY)


def sayable_items(row: Row) -> list[Item]:
    places = PLACES.get(row.kind, ())
    found = placed(row.items)
    if not malformed(row):
        own = found.get(PIN, [])[:1] if PIN in places else []
        found = {kind: [group[:2] for group in groups] for kind, groups in found.items()} | {PIN: own}
    order = sorted(found, key=lambda kind: places.index(kind) if kind in places else len(places))
    items = [item for kind in order for group in found[kind] for item in group]
    return [item._replace(low=min(item.low, SERIAL_MAX)) if item.kind == CODE else item for item in items]


def placed(items: tuple[Item, ...]) -> Placed:
    """Items by their kinds; a PIN that belongs to a further card stands behind it, wherever it stood."""
    found: Placed = {}
    own: list[Item] | None = None
    for item in items:
        if item.kind == PIN and own is not None:
            own.append(item)
            continue
        group = [item]
        found.setdefault(item.kind, []).append(group)
        if item.kind == CARD:
            own = group
    return found


def unsayable(row: Row) -> bool:
    """True if a row has something that its message has no place for: it is malformed for that alone."""
    kind, uses = row.kind, USES[row.kind]
    return (
        (row.trace != 0 and (row.id_hi, row.id_lo) != (0, 0))
        or (row.flags & ~FLAGS.get(kind, 0)) != 0
        or any(getattr(row, name) for name in ("amount", "product", "expires", "status") if name not in uses)
        or (kind == ISSUE and row.status not in (0, NOT_YET))
        or ("card" not in uses and (row.card_digits, row.card) != (0, 0))
        or (kind not in WITH_ORIGINAL and any(row[14:20]))
        or (row.original != 0 and any(row[15:20]))
        or (row.original_trace != 0 and (row.original_id_hi, row.original_id_lo) != (0, 0))
        or unsayable_items(row)
    )


def unsayable_items(row: Row) -> bool:
    """True if an item has no place of its own, or something that is not said there, or cannot be left out."""
    found = placed(row.items)
    if row.kind == HOLDER and MEMBER not in found:
        # A message without a member says that nobody holds the card.
        return True
    for kind, groups in found.items():
        if kind not in PLACES.get(row.kind, ()):
            return True
        if len(groups) > 1 and kind not in REPEATED.get(row.kind, ()):
            return True
        with_pin = kind == CARD and row.kind != BULK_TOP_UP
        if any(len(group) > 1 + with_pin for group in groups):
            return True
    return any(unsayable_fields(row.kind, item) for item in row.items)


def unsayable_fields(kind: int, item: Item) -> bool:
    said = {"kind", *ITEM_USES[item.kind], *(("amount",) if kind == BULK_TOP_UP else ())}
    if item.kind == MEMBER and item.amount not in (0, 1):
        return True
    if item.kind == CURSOR and (item.amount < 0 or item.low > UINT32_MAX):
        return True
    return any(value and name not in said for name, value in item._asdict().items())


# From rows to messages


@lru_cache(maxsize=100_000)
def wire_date(days: int) -> int:
    """YYYYMMDD of a day."""
    date = EPOCH + datetime.timedelta(days)
    return date.year * 10_000 + date.month * 100 + date.day


@lru_cache(maxsize=100_000)
def days_of(date: int) -> int:
    """Days since 1970-01-01 of YYYYMMDD; 0 stands for none."""
    return (datetime.date(date // 10_000, date // 100 % 100, date % 100) - EPOCH).days if date else 0


def wire_time(row: Row) -> int:
    """Local date and time as YYYYMMDDhhmmss."""
    days, second = divmod(row.local_time, DAY_S)
    clock = second // 3_600 * 10_000 + second // 60 % 60 * 100 + second % 60
    return wire_date(row.business_date + days) * 1_000_000 + clock


def wire_id(hi: int, lo: int) -> bytes:
    return (hi << 64 | lo).to_bytes(16, "big")


def digits_text(digits: int, number: int) -> str:
    """A card number or a PIN; one that does not fit its digits is text that is no number."""
    if digits == 0:
        return "none"
    text = f"{number:0{digits}d}"
    return text if len(text) == digits else text + "x"


def code_text(item: Item) -> str:
    """A coupon's code as it is printed: the version, then 125 bits of unit, serial and MAC."""
    bits = item.unit << 109 | item.low << 64 | item.high
    return "1" + "".join(CODE_DIGITS[bits >> 5 * at & 31] for at in reversed(range(25)))


def message_of(row: Row) -> Any:
    """The request message of a row, its codes with their MACs; None for a kind that there is none of."""
    if row.kind not in FIELDS:
        return None
    request = getattr(transaction_pb2, f"{METHODS[row.kind]}Request")
    return request(header=header_of(row), **fields_of(row), **item_fields(row))


def transaction_of(row: Row) -> terminal_pb2.Transaction:
    message = message_of(row)
    if message is None:
        return terminal_pb2.Transaction()
    return terminal_pb2.Transaction(**{FIELDS[row.kind]: message})


def header_of(row: Row) -> transaction_pb2.Header:
    """The header of a row; what is malformed and cannot be said in a message becomes an id of three bytes."""
    header = transaction_pb2.Header(programme=row.programme, terminal=row.terminal, channel=row.channel)
    if unsayable(row):
        header.id = b"bad"
        return header
    if row.kind != BALANCE:
        header.business_date = wire_date(row.business_date)
        header.local_time = wire_time(row)
    if row.trace:
        header.trace = row.trace
    if row.id_hi or row.id_lo:
        header.id = wire_id(row.id_hi, row.id_lo)
    return header


def fields_of(row: Row) -> dict[str, Any]:
    """The fields that a row's kind uses, as its message has them."""
    found: dict[str, Any] = {}
    for name in USES[row.kind]:
        field = NAMES.get((row.kind, name), name)
        if name == "card":
            named = row.card_digits or row.card
            found[field] = digits_text(row.card_digits, row.card) if named else ""
        elif name == "original":
            found[field] = original_of(row)
        elif name == "flags":
            allowed = row.flags & FLAGS[row.kind]
            found |= {flag: True for bit, flag in enumerate(FLAG_NAMES) if allowed >> bit & 1}
        elif name == "expires":
            found[field] = wire_date(row.expires) if row.expires else 0
        elif field == "inactive":
            found[field] = row.status == NOT_YET
        else:
            found[field] = getattr(row, name)
    return found


def original_of(row: Row) -> transaction_pb2.Original | None:
    if row.original:
        return transaction_pb2.Original(sequence=row.original)
    if not any(row[14:20]):
        return None
    key = transaction_pb2.OriginalKey(
        terminal=row.original_terminal, business_date=wire_date(row.original_date)
    )
    if row.original_trace:
        key.trace = row.original_trace
    if row.original_id_hi or row.original_id_lo:
        key.id = wire_id(row.original_id_hi, row.original_id_lo)
    return transaction_pb2.Original(key=key)


def item_fields(row: Row) -> dict[str, Any]:
    """The fields that a row's items are said in, of those that have a place."""
    found: dict[str, Any] = {}
    for kind, groups in placed(row.items).items():
        if kind not in PLACES.get(row.kind, ()):
            continue
        items = [group[0] for group in groups]
        if kind == CARD:
            found |= card_fields(row.kind, groups)
        elif kind == COUPON:
            found["coupons"] = [{"unit": item.unit, "count": wire_count(item)} for item in items]
        elif kind == PASS:
            found["passes"] = [{"unit": item.unit, "visits": wire_count(item)} for item in items]
        elif kind == CODE:
            found["codes"] = [code_text(item) for item in items]
        elif kind == LINE:
            found["lines"] = [
                {"category": item.unit, "amount": item.amount, "goods": item.low} for item in items
            ]
        else:
            found |= single_fields(items[0])
    return found


def single_fields(item: Item) -> dict[str, Any]:
    """The fields of an item that a message has one of."""
    if item.kind == ALIAS:
        return {"alias": transaction_pb2.Alias(kind=item.digits, value=alias_value(item))}
    if item.kind == CURSOR:
        # What is beyond its field makes the header malformed; it is sent as near as the field can say it.
        at = {"sequence": max(item.amount, 0), "card_index": min(item.low, UINT32_MAX)}
        return {"cursor": transaction_pb2.Cursor(trigger=item.unit, **at)}
    if item.kind == CASH:
        # A cash of 0 would say that there is none, and so would be no mistake.
        return {"cash": item.amount or -1}
    if item.kind == MEMBER:
        return {"member": item.low, "real_name_known": item.amount == 1}
    field = {PIN: "pin", NEW_PIN: "new_pin", NUMBER: "new_card", STAFF: "staff"}[item.kind]
    return {field: digits_text(item.digits, item.low)}


def card_fields(kind: int, groups: list[list[Item]]) -> dict[str, Any]:
    """The fields of further cards, each with its PIN; of a bulk top-up with what it gets."""
    pb = transaction_pb2
    if kind == BULK_TOP_UP:
        cards = [group[0] for group in groups]
        return {
            "cards": [
                pb.BulkTopUpCard(card=digits_text(card.digits, card.low), amount=card.amount)
                for card in cards
            ]
        }
    further = [
        pb.FurtherCard(
            card=digits_text(card.digits, card.low),
            pin=digits_text(pins[0].digits, pins[0].low) if pins else "",
        )
        for card, *pins in groups
    ]
    return {TRANSFER: {"source": further[0]}, BIND: {"bound_to": further[0]}}.get(kind, {"cards": further})


def wire_count(item: Item) -> int:
    """How many of a unit; what no count can be is 0, which is as malformed."""
    return item.amount if 0 <= item.amount <= UINT32_MAX else 0


def alias_value(item: Item) -> str:
    """A value that stands for the numbers of an alias in the model: of digits, as a phone number is."""
    return f"{item.high}0{item.low}"


def registration_of(registration: Registration) -> admin_pb2.Registration:
    what, programme, number, parent, name = registration
    pb = admin_pb2
    if what == "programme":
        date = wire_date(parent)
        return pb.Registration(programme=pb.Programme(programme=programme, name=name, business_date=date))
    if what == "merchant":
        return pb.Registration(merchant=pb.Merchant(programme=programme, merchant=number, name=name))
    if what == "store":
        store = pb.Store(programme=programme, store=number, merchant=parent, name=name)
        return pb.Registration(store=store)
    return pb.Registration(terminal=pb.Terminal(programme=programme, terminal=number, store=parent))


# From messages to answers


def answer_of(row: Row, answer: transaction_pb2.Answer) -> Answer:
    """An answer in the model's words; what it tells twice must agree."""
    parts = tuple(map(part_of, answer.parts))
    kinds = (row.kind,) if answer.code != 30 else (row.kind, 0)
    assert answer.kind in kinds, f"kind {answer.kind} was answered to {row}"
    for account, amount in ((16, answer.unpaid), (17, answer.cash)):
        of_parts = sum(part.amount for part in parts if part.account == account)
        assert amount == of_parts, f"the parts of account {account} come to {of_parts}: {answer}"
    return Answer(
        sequence=answer.sequence,
        business_date=days_of(answer.business_date),
        code=answer.code,
        replayed=int(answer.replayed),
        amount=answer.amount,
        discount=answer.discount,
        principal=answer.principal,
        bonus=answer.bonus,
        offset=answer.offset,
        points_earned=answer.points_earned,
        points_spent=answer.points_spent,
        shortfall_money=answer.shortfall_money,
        shortfall_points=answer.shortfall_points,
        principal_balance=answer.principal_balance,
        bonus_balance=answer.bonus_balance,
        points_balance=answer.points_balance,
        reason=int(answer.reason),
        tier=answer.tier,
        parts=parts,
    )


def part_of(part: transaction_pb2.Part) -> Part:
    balance = part.kind == transaction_pb2.PART_KIND_BALANCE
    return Part(
        account=0 if balance else int(part.kind),
        card=part.card,
        purse=part.purse,
        begins=days_of(part.valid_from),
        expires=days_of(part.expires),
        amount=part.amount,
        balance=part.balance,
    )


def whole(number: admin_pb2.Int128) -> int:
    """A number of 128 bits."""
    return (number.high << 64) + number.low


def position_of(store: admin_pb2.StorePosition) -> dict[str, int]:
    return {
        "store": store.store,
        "sold": whole(store.sold),
        "collected": whole(store.collected),
        "net": whole(store.net),
        "due": whole(store.due),
        "fees": whole(store.fees),
    }


def liability_of(merchant: admin_pb2.MerchantLiability) -> dict[str, int]:
    points, growth = whole(merchant.points), whole(merchant.growth)
    return {"merchant": merchant.merchant, "points": points, "growth": growth}


def close_of(report: admin_pb2.CloseDayResponse) -> dict[str, Any]:
    """The report of a close; of one that was refused its code."""
    if report.code:
        return {"code": report.code}
    growth = None
    if report.HasField("growth"):
        growth = {
            "rate": report.growth.rate,
            "outstanding": whole(report.growth.outstanding),
            "purses": report.growth.purses,
            "reserve": whole(report.growth.reserve),
            "funded": report.growth.funded,
        }
    return {
        "code": 0,
        "replayed": report.replayed,
        "sequence": report.sequence,
        "business_date": days_of(report.business_date),
        "next_business_date": days_of(report.next_business_date),
        "stores": [position_of(store) for store in report.stores],
        "members": whole(report.members),
        "bonus": whole(report.bonus),
        "points": whole(report.points),
        "units": whole(report.units),
        "issuer_net": whole(report.issuer_net),
        "growth": growth,
    }


def line_of(line: admin_pb2.StatementLine) -> dict[str, int]:
    fields = {field.name: getattr(line, field.name) for field in line.DESCRIPTOR.fields}
    return fields | {name: days_of(fields[name]) for name in ("business_date", "value_date")}


def trial_balance_of(found: admin_pb2.GetTrialBalanceResponse) -> dict[str, Any]:
    return {
        "code": found.code,
        "open_date": days_of(found.open_date),
        "cards": found.cards,
        "entries": found.entries,
        "totals": {row.account: whole(row.total) for row in found.totals},
        "money_sum": whole(found.money_sum),
        "points_sum": whole(found.points_sum),
        "growing": found.growing,
        "units": {one.unit: (whole(one.cards), whole(one.pool), whole(one.codes)) for one in found.units},
    }
