"""Words for numbers: response codes, kinds of transaction, states of a card, reasons, accounts.

The numbers are fixed for ever: they are in journals and on the wire. What each means is in
docs/codes.md, docs/transactions.md and docs/card.md.
"""

from enum import IntEnum


class Code(IntEnum):
    """Response code of ISO 8583: the outcome of a transaction."""

    APPROVED = 0
    PICK_UP = 4
    PARTLY_APPROVED = 10
    INVALID_TRANSACTION = 12
    INVALID_AMOUNT = 13
    INVALID_CARD = 14
    ORIGINAL_NOT_FOUND = 25
    FORMAT_ERROR = 30
    LOST_CARD = 41
    STOLEN_CARD = 43
    CLOSED_CARD = 46
    INSUFFICIENT_FUNDS = 51
    EXPIRED_CARD = 54
    INCORRECT_PIN = 55
    NOT_PERMITTED = 57
    TERMINAL_NOT_REGISTERED = 58
    SUSPECTED_FRAUD = 59
    EXCEEDS_LIMIT = 61
    RESTRICTED_CARD = 62
    EXCEEDS_COUNT = 65
    PIN_REQUIRED = 70
    PIN_TRIES_EXCEEDED = 75
    NOT_ACTIVATED = 78
    NOT_AVAILABLE = 91
    DUPLICATE = 94

    @property
    def posted(self) -> bool:
        """True if something was posted: approved, or approved in part."""
        return self in (Code.APPROVED, Code.PARTLY_APPROVED)


class Kind(IntEnum):
    """What a request asks for."""

    ISSUE = 1
    TOP_UP = 2
    PURCHASE = 3
    REFUND = 4
    REVERSAL = 5
    BALANCE = 6
    STATUS = 7
    FUND = 8
    GRANT = 9
    AUTHORISE = 10
    CAPTURE = 11
    VOID = 12
    REPLACE = 13
    TRANSFER = 14
    HOLDER = 15
    BIND = 16
    SET_PIN = 17
    CLOSE = 18
    ISSUE_CODES = 19
    BULK_TOP_UP = 20
    SET_TIER = 21


class Status(IntEnum):
    """State of a card. It is set to 1 to 4; 5 it has from its issue, 6 from its close."""

    ACTIVE = 1
    FROZEN = 2
    LOST = 3
    STOLEN = 4
    NOT_ACTIVE_YET = 5
    CLOSED = 6


class Reason(IntEnum):
    """What the code alone does not say: why coupons, passes, aliases, tiers or sales were refused."""

    NONE = 0
    FORGED = 1
    FOREIGN = 2
    USED = 3
    EXPIRED = 4
    NOT_YET_VALID = 5
    BELOW_MINIMUM = 6
    OUT_OF_SCOPE = 7
    TOO_MANY = 8
    BOUND_ELSEWHERE = 9
    NOT_BOUND = 10
    NOT_STAFF = 11
    SOLD_OUT = 12
    BEHIND = 13
    ADVISED = 14
    NO_ADVICE = 15
    HIGHER_TIER = 16


class Purse(IntEnum):
    """Purses that every card has; 16 to 65,535 are the units of the rules."""

    PRINCIPAL = 1
    BONUS = 2
    POINTS = 3


UNIT_MIN = 16
"""First unit that the rules may give."""


LINE_PART = 18
"""Account of a part that is a line of the basket: no part is of the store's account with this code."""

ADVICE_PART = 19
"""Account of a part that says what became of asking a Python rule: its id is the purse."""


class Account(IntEnum):
    """Account codes (docs/transactions.md)."""

    CARD_PRINCIPAL = 1
    CARD_BONUS = 2
    CARD_POINTS = 3
    CARD_SHORTFALL_MONEY = 4
    CARD_SHORTFALL_POINTS = 5
    STORE_CLEARING = 16
    STORE_COLLECTION = 17
    STORE_DUE = 18
    STORE_FEES = 19
    CARD_FEES = 20
    ISSUER_BONUS = 32
    ISSUER_POINTS = 33
    POINTS_POOL = 40
    GROWTH_FUNDING = 41
    GROWTH_RESERVE = 42
    MEMBERS_GROWTH = 43
    CARD_UNIT = 6
    ISSUER_UNITS = 34
    ISSUER_COLLECTION = 35
    UNIT_POOL = 44
    CODES = 45
    TRANSIT_MONEY = 46
    TRANSIT_POINTS = 47
    TRANSIT_UNITS = 48

    @property
    def in_points(self) -> bool:
        """True if the account counts points, False if it counts money or a unit of the rules."""
        return self in _POINTS

    @property
    def in_units(self) -> bool:
        """True if the account counts things of a unit of the rules."""
        return self in _UNITS


_POINTS = frozenset(
    {
        Account.CARD_POINTS,
        Account.CARD_SHORTFALL_POINTS,
        Account.POINTS_POOL,
        Account.GROWTH_FUNDING,
        Account.GROWTH_RESERVE,
        Account.MEMBERS_GROWTH,
        Account.TRANSIT_POINTS,
    }
)

_UNITS = frozenset({Account.CARD_UNIT, Account.UNIT_POOL, Account.CODES, Account.TRANSIT_UNITS})

_TEXT = {
    Code.APPROVED: "approved",
    Code.PICK_UP: "pick up card: it was replaced",
    Code.PARTLY_APPROVED: "approved in part",
    Code.INVALID_TRANSACTION: "invalid transaction",
    Code.INVALID_AMOUNT: "invalid amount",
    Code.INVALID_CARD: "invalid card number",
    Code.ORIGINAL_NOT_FOUND: "original not found",
    Code.FORMAT_ERROR: "format error",
    Code.LOST_CARD: "lost card",
    Code.STOLEN_CARD: "stolen card",
    Code.CLOSED_CARD: "closed card",
    Code.INSUFFICIENT_FUNDS: "insufficient funds",
    Code.EXPIRED_CARD: "expired card",
    Code.INCORRECT_PIN: "incorrect PIN",
    Code.NOT_PERMITTED: "not permitted",
    Code.TERMINAL_NOT_REGISTERED: "terminal not registered",
    Code.SUSPECTED_FRAUD: "suspected fraud",
    Code.EXCEEDS_LIMIT: "exceeds a limit",
    Code.RESTRICTED_CARD: "restricted card",
    Code.EXCEEDS_COUNT: "exceeds a count",
    Code.PIN_REQUIRED: "PIN required",
    Code.PIN_TRIES_EXCEEDED: "too many wrong PINs",
    Code.NOT_ACTIVATED: "card not activated",
    Code.NOT_AVAILABLE: "engine not available, try again later",
    Code.DUPLICATE: "duplicate key with another content",
}

_REASON = {
    Reason.NONE: "",
    Reason.FORGED: "forged",
    Reason.FOREIGN: "no such unit or serial here",
    Reason.USED: "used, or not there",
    Reason.EXPIRED: "expired",
    Reason.NOT_YET_VALID: "not valid yet",
    Reason.BELOW_MINIMUM: "below the minimum spend",
    Reason.OUT_OF_SCOPE: "not taken in this store",
    Reason.TOO_MANY: "too many",
    Reason.BOUND_ELSEWHERE: "bound to another card",
    Reason.NOT_BOUND: "not bound to that card",
    Reason.NOT_STAFF: "not a staff card",
    Reason.SOLD_OUT: "sold out",
    Reason.BEHIND: "done before",
    Reason.ADVISED: "refused by a rule in Python",
    Reason.NO_ADVICE: "a rule in Python was not heard",
    Reason.HIGHER_TIER: "has a higher tier",
}


def reason_text(reason: int) -> str:
    """What a reason says, empty for none; for a number that is none, `reason N`."""
    try:
        return _REASON[Reason(reason)]
    except ValueError:
        return f"reason {reason}"


def text(code: int) -> str:
    """What a response code says; for a number that is none, `code N`."""
    try:
        return _TEXT[Code(code)]
    except ValueError:
        return f"code {code}"
