"""Words for numbers: response codes, kinds of transaction, states of a card, accounts.

The numbers are fixed for ever: they are in journals and on the wire. What each means is in
docs/codes.md and docs/transactions.md.
"""

from enum import IntEnum


class Code(IntEnum):
    """Response code of ISO 8583: the outcome of a transaction."""

    APPROVED = 0
    INVALID_TRANSACTION = 12
    INVALID_AMOUNT = 13
    INVALID_CARD = 14
    ORIGINAL_NOT_FOUND = 25
    FORMAT_ERROR = 30
    INSUFFICIENT_FUNDS = 51
    EXPIRED_CARD = 54
    TERMINAL_NOT_REGISTERED = 58
    EXCEEDS_LIMIT = 61
    RESTRICTED_CARD = 62
    NOT_AVAILABLE = 91
    DUPLICATE = 94


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


class Status(IntEnum):
    """State of a card."""

    ACTIVE = 1
    FROZEN = 2


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

    @property
    def in_points(self) -> bool:
        """True if the account counts points, False if it counts money."""
        return self in _POINTS


_POINTS = frozenset(
    {
        Account.CARD_POINTS,
        Account.CARD_SHORTFALL_POINTS,
        Account.POINTS_POOL,
        Account.GROWTH_FUNDING,
        Account.GROWTH_RESERVE,
        Account.MEMBERS_GROWTH,
    }
)

_TEXT = {
    Code.APPROVED: "approved",
    Code.INVALID_TRANSACTION: "invalid transaction",
    Code.INVALID_AMOUNT: "invalid amount",
    Code.INVALID_CARD: "invalid card number",
    Code.ORIGINAL_NOT_FOUND: "original not found",
    Code.FORMAT_ERROR: "format error",
    Code.INSUFFICIENT_FUNDS: "insufficient funds",
    Code.EXPIRED_CARD: "expired card",
    Code.TERMINAL_NOT_REGISTERED: "terminal not registered",
    Code.EXCEEDS_LIMIT: "exceeds a limit",
    Code.RESTRICTED_CARD: "restricted card",
    Code.NOT_AVAILABLE: "engine not available",
    Code.DUPLICATE: "duplicate",
}


def text(code: int) -> str:
    """What a response code says; for a number that is none, `code N`."""
    try:
        return _TEXT[Code(code)]
    except ValueError:
        return f"code {code}"
