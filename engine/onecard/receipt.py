"""Receipts: what happened, what paid, what is left, from one answer alone.

`render` takes what a client is answered (`onecard.client.Answer`), the message it came in, or a row of an
engine with its parts (`Answers.parts_of`), and gives lines of text for a printer of 32 to 48 columns. A wide
character, as of the East Asian scripts, fills two of them. Nothing is asked of the engine or the rules: names
for money and units, and words of another language, come with a `Style`.

Invariants: no line is wider than the style says; money is printed with the scale of its programme, points
with up to four decimals; every number comes from the answer.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from onecard import codes, rows
from onecard.codes import Account, Code, Kind, Purse
from onecard.messages import Answer, Part, answer_of, answer_of_row
from onecard.v1 import transaction_pb2

WIDTH_MIN, WIDTH_MAX = 32, 48
_POINTS_SCALE = 4

WORDS: Mapping[str, str] = {
    "no": "No.",
    "date": "Date",
    "copy": "copy",
    "declined": "DECLINED",
    "partly": "APPROVED IN PART",
    "issue": "Issue",
    "top_up": "Top-up",
    "purchase": "Purchase",
    "refund": "Refund",
    "reversal": "Reversal",
    "balance": "Balance",
    "status": "Card status",
    "fund": "Funding",
    "grant": "Grant",
    "authorise": "Authorisation",
    "capture": "Capture",
    "void": "Void",
    "replace": "Card replacement",
    "transfer": "Transfer",
    "holder": "Card holder",
    "bind": "Alias",
    "set_pin": "PIN",
    "close": "Card closing",
    "issue_codes": "Coupon codes",
    "bulk_top_up": "Bulk top-up",
    "set_tier": "Tier",
    "goods": "Goods",
    "category": "Category",
    "list": "Price",
    "discount": "Discount",
    "due": "To pay",
    "amount": "Amount",
    "count": "Count",
    "principal": "Principal",
    "bonus": "Bonus",
    "points": "Points",
    "unit": "Unit",
    "card": "Card",
    "cash": "Cash",
    "unpaid": "LEFT TO PAY",
    "owed": "Owed by the card",
    "until": "until",
    "balances": "Balances",
}
"""The words of a receipt; a `Style` may have others for any of them, and for `code_51` and `reason_3`."""


@dataclass(frozen=True, slots=True)
class Style:
    """How receipts of a programme look."""

    width: int = 40
    """Columns, 32 to 48."""
    title: str = ""
    """First lines, such as the name of the store."""
    footer: str = ""
    money: str = ""
    """Name of the currency; behind the amount to pay."""
    scale: int = 2
    """Decimal places of money."""
    units: Mapping[int, str] = field(default_factory=dict)
    """Names of the units of the rules; one without a name is called by its number."""
    categories: Mapping[int, str] = field(default_factory=dict)
    """Names of the categories of goods; one without a name is called by its number."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Words of another language in place of `WORDS`."""

    def __post_init__(self) -> None:
        if not WIDTH_MIN <= self.width <= WIDTH_MAX:
            raise ValueError(f"width: a receipt has {WIDTH_MIN} to {WIDTH_MAX} columns, not {self.width}")


def render(
    answer: Answer | transaction_pb2.Answer | np.void,
    parts: rows.Parts | None = None,
    *,
    style: Style | None = None,
) -> str:
    """The receipt of an answer; `parts` go with a row of an engine. Ends with a line feed."""
    if isinstance(answer, np.void):
        answer = answer_of_row(answer, np.zeros(0, rows.PART) if parts is None else parts)
    elif isinstance(answer, transaction_pb2.Answer):
        answer = answer_of(answer)
    return "".join(f"{line}\n" for line in _Receipt(answer, style or Style()).lines())


@dataclass(slots=True)
class _Change:
    """What a purse lost and gained, in all lots together."""

    taken: int = 0
    given: int = 0

    @property
    def net(self) -> int:
        return self.given - self.taken


class _Receipt:
    def __init__(self, answer: Answer, style: Style) -> None:
        self.answer, self.style = answer, style
        self.sells = answer.kind in (Kind.PURCHASE, Kind.AUTHORISE, Kind.CAPTURE)
        self.changes = _changes(answer)

    def lines(self) -> Iterator[str]:
        """All lines, none wider than the style says."""
        posted = self.answer.code in (Code.APPROVED, Code.PARTLY_APPROVED)
        body = list(self._posted() if posted else self._declined())
        balances = list(self._balances(posted))
        yield from self._head()
        for block in (body, balances):
            if block:
                yield "-" * self.style.width
                yield from block
        if self.style.footer:
            yield ""
            yield from self._centred(self.style.footer)

    def _posted(self) -> Iterator[str]:
        yield from self._bill()
        yield from self._tenders()
        yield from self._rewards()
        yield from self._units()

    # What it is

    def _head(self) -> Iterator[str]:
        answer = self.answer
        if self.style.title:
            yield from self._centred(self.style.title)
            yield ""
        kind = Kind(answer.kind).name.lower() if answer.kind in list(Kind) else "amount"
        name = self._word(kind)
        yield from self._pair(name, f"({self._word('copy')})" if answer.replayed else "")
        if answer.sequence:
            yield from self._pair(self._word("no"), str(answer.sequence))
        if answer.business_date:
            yield from self._pair(self._word("date"), answer.business_date.isoformat())

    def _declined(self) -> Iterator[str]:
        answer = self.answer
        yield from self._pair(self._word("declined"), f"{answer.code:02d}")
        message = self.style.words.get(f"code_{answer.code:02d}", answer.message or codes.text(answer.code))
        yield from _wrapped(message, self.style.width)
        if answer.reason:
            reason = self.style.words.get(f"reason_{answer.reason}", codes.reason_text(answer.reason))
            yield from _wrapped(reason, self.style.width)

    # What it cost, and who paid

    def _bill(self) -> Iterator[str]:
        answer, word = self.answer, self._word
        if answer.kind == Kind.ISSUE_CODES:
            yield from self._pair(word("count"), str(answer.amount))
            return
        if answer.kind == Kind.FUND:
            yield from self._pair(word("points"), _decimal(answer.amount, _POINTS_SCALE, trimmed=True))
            return
        if answer.kind == Kind.TRANSFER and not (answer.principal or answer.bonus):
            return  # of points or a unit: their own lines say it
        due = answer.amount + answer.unpaid
        yield from self._lines()
        if answer.discount:
            yield from self._pair(word("list"), self._money(due + answer.discount))
            yield from self._pair(word("discount"), self._money(-answer.discount))
        if answer.amount or answer.unpaid or self.sells:
            name = "due" if self.sells else "amount"
            yield from self._pair(word(name), f"{self.style.money} {self._money(due)}".strip())
            yield "-" * self.style.width
        if answer.code == Code.PARTLY_APPROVED:
            yield word("partly")

    def _lines(self) -> Iterator[str]:
        """What was sold, category by category, and below each what is off it."""
        lines = [part for part in self.answer.parts if part.account == codes.LINE_PART]
        for part in lines:
            name = self.style.categories.get(part.purse)
            name = name or (f"{self._word('category')} {part.purse}" if part.purse else self._word("goods"))
            yield from self._pair(name, self._money(part.balance))
            if part.amount:
                yield from self._pair(f"  {self._word('discount')}", self._money(-part.amount))
        if lines:
            yield "-" * self.style.width

    def _tenders(self) -> Iterator[str]:
        """What each purse paid in a sale; else what each got or gave."""
        answer, word = self.answer, self._word
        for part in answer.parts:
            if part.account == Account.ISSUER_POINTS or (part.account == Account.ISSUER_UNITS and part.purse):
                name = word("points") if part.account == Account.ISSUER_POINTS else self._unit(part.purse)
                yield from self._pair(name, self._money(part.amount if self.sells else abs(part.amount)))
        if answer.offset and not answer.parts:
            yield from self._pair(word("points"), self._money(abs(answer.offset)))
        for account, name in ((Account.CARD_BONUS, "bonus"), (Account.CARD_PRINCIPAL, "principal")):
            change = self.changes.get((account, 0, account), _Change())
            amount = change.taken if self.sells else change.net
            if amount:
                yield from self._pair(word(name), self._money(amount, signed=not self.sells))
        for card, change in sorted(self._further().items()):
            amount = change.taken if self.sells else change.net
            yield from self._pair(f"{word('card')} {card + 1}", self._money(amount, signed=not self.sells))
        if answer.cash:
            yield from self._pair(word("cash"), self._money(answer.cash))
        if answer.unpaid:
            yield from self._pair(word("unpaid"), self._money(answer.unpaid))

    def _further(self) -> dict[int, _Change]:
        """Of each further card what its money purses lost and gained."""
        found: dict[int, _Change] = {}
        for (account, card, _), change in self.changes.items():
            if card and account in (Account.CARD_PRINCIPAL, Account.CARD_BONUS):
                of = found.setdefault(card, _Change())
                of.taken, of.given = of.taken + change.taken, of.given + change.given
        return found

    def _rewards(self) -> Iterator[str]:
        answer, word = self.answer, self._word
        bonus = self.changes.get((Account.CARD_BONUS, 0, Purse.BONUS), _Change())
        if self.sells and bonus.given:
            yield from self._pair(word("bonus"), self._money(bonus.given, signed=True))
        points = self.changes.get((Account.CARD_POINTS, 0, Purse.POINTS), _Change())
        for amount in (-points.taken, points.given):
            if amount:
                yield from self._pair(word("points"), self._points(amount, signed=True))
        if answer.shortfall_money > 0:
            yield from self._pair(word("owed"), self._money(answer.shortfall_money))
        if answer.shortfall_points > 0:
            text = f"{self._points(answer.shortfall_points)} {word('points')}"
            yield from self._pair(word("owed"), text)

    def _units(self) -> Iterator[str]:
        """What each lot of a unit lost or gained."""
        for part in self.answer.parts:
            if part.account == Account.CARD_UNIT and part.card == 0:
                until = f" {self._word('until')} {part.expires.isoformat()}" if part.expires else ""
                yield from self._pair(self._unit(part.purse) + until, f"{part.amount:+d}")

    def _balances(self, posted: bool) -> Iterator[str]:
        answer, word = self.answer, self._word
        if answer.kind in (Kind.FUND, Kind.ISSUE_CODES, Kind.BULK_TOP_UP):
            return  # of no card
        units = {part.purse: part.balance for part in answer.parts if _is_unit(part)}
        purses = (answer.principal_balance, answer.bonus_balance, answer.points_balance)
        if not posted and not any(purses):
            return  # perhaps there is no such card
        yield word("balances")
        yield from self._pair(f"  {word('principal')}", self._money(answer.principal_balance))
        if answer.bonus_balance:
            yield from self._pair(f"  {word('bonus')}", self._money(answer.bonus_balance))
        yield from self._pair(f"  {word('points')}", self._points(answer.points_balance))
        for unit, balance in sorted(units.items()):
            yield from self._pair(f"  {self._unit(unit)}", str(balance))

    # Words, numbers and columns

    def _word(self, name: str) -> str:
        return self.style.words.get(name, WORDS[name])

    def _unit(self, unit: int) -> str:
        return self.style.units.get(unit, f"{self._word('unit')} {unit}")

    def _money(self, amount: int, *, signed: bool = False) -> str:
        return _decimal(amount, self.style.scale, signed=signed)

    def _points(self, amount: int, *, signed: bool = False) -> str:
        return _decimal(amount, _POINTS_SCALE, signed=signed, trimmed=True)

    def _centred(self, text: str) -> Iterator[str]:
        for line in text.splitlines():
            for piece in _wrapped(line, self.style.width):
                yield " " * ((self.style.width - columns(piece)) // 2) + piece

    def _pair(self, name: str, value: str) -> Iterator[str]:
        """A name at the left and its value at the right; on two lines if they do not fit on one."""
        gap = self.style.width - columns(name) - columns(value)
        if gap >= 1 or not value:
            yield from [(name + " " * gap + value).rstrip()] if gap >= 0 else _wrapped(name, self.style.width)
            return
        yield from _wrapped(name, self.style.width)
        yield " " * (self.style.width - columns(value)) + value


def _changes(answer: Answer) -> dict[tuple[int, int, int], _Change]:
    """By account, card and purse; of a plain transaction, which has no parts, from the answer itself."""
    found: dict[tuple[int, int, int], _Change] = {}

    def add(account: int, card: int, purse: int, amount: int) -> None:
        change = found.setdefault((account, card, purse), _Change())
        if amount < 0:
            change.taken -= amount
        else:
            change.given += amount

    for part in answer.parts:
        if part.account in (Account.CARD_PRINCIPAL, Account.CARD_BONUS, Account.CARD_POINTS):
            add(part.account, part.card, part.purse, part.amount)
    if not answer.parts:
        add(Account.CARD_PRINCIPAL, 0, Purse.PRINCIPAL, answer.principal)
        add(Account.CARD_BONUS, 0, Purse.BONUS, answer.bonus)
        add(Account.CARD_POINTS, 0, Purse.POINTS, -answer.points_spent)
        add(Account.CARD_POINTS, 0, Purse.POINTS, answer.points_earned + answer.shortfall_points)
    return found


def _is_unit(part: Part) -> bool:
    """True if the part tells the request's card's balance of a unit."""
    return part.card == 0 and part.account in (0, Account.CARD_UNIT) and part.purse >= codes.UNIT_MIN


def _decimal(amount: int, scale: int, *, signed: bool = False, trimmed: bool = False) -> str:
    whole, rest = divmod(abs(amount), 10**scale)
    places = f"{rest:0{scale}d}" if scale else ""
    places = places.rstrip("0") if trimmed else places
    sign = "-" if amount < 0 else "+" if signed and amount > 0 else ""
    return f"{sign}{whole}.{places}" if places else f"{sign}{whole}"


def columns(text: str) -> int:
    """Columns that a text fills on a printer: two of a wide character, none of a combining mark."""
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _wrapped(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most so many columns, between words where there are any."""
    line = ""
    for word in text.split(" "):
        if line and columns(line) + 1 + columns(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            yield line
        line = ""
        for character in word:
            if columns(line) + _columns_of(character) > width:
                yield line
                line = ""
            line += character
    yield line
