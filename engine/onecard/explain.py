"""Why a sale came to what it did: which rule of which version gave which amount, and which nearly applied.

`Engine.explain` and `Client.explain` answer with an `Explanation`, of a sale or a capture that was posted or
refused, by the sequence of its entry, or of a sale that is tried out. `sentences` say the verdicts in words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from onecard.messages import Answer
from onecard.reports import RulesVersion
from onecard.rules.source import POINTS_SCALE


class Gift(IntEnum):
    """What a rule gives."""

    DISCOUNT = 1
    """Money off the list amount, in minor units."""
    POINTS = 2
    """In 1/10,000."""
    REBATE = 3
    """Bonus, in minor units."""
    GROWTH_VALUE = 4
    ADVISED_DISCOUNT = 5
    """Money off the list amount that a Python rule says, in minor units."""
    ADVISED_POINTS = 6
    """Points, more or fewer, that a Python rule says, in 1/10,000."""
    FEE = 7
    """Money between the merchant of the store and that which issued the card, in minor units."""


class Fate(IntEnum):
    """What became of a rule."""

    COUNTS = 1
    GIVES_WAY = 2
    """It applies, and another one counts in its place."""
    MISSES = 3
    """All is as it asks, but for one condition."""
    REFUSES = 4
    """It refuses the sale."""
    FAILED = 5
    """It could not be asked, or broke."""
    TIMED_OUT = 6
    """It did not answer in its time."""


class Condition(IntEnum):
    """What a rule asks for: the keys of `when` in a rule file."""

    NONE = 0
    MIN_SPEND = 1
    TIMES = 2
    WEEKDAYS = 3
    MONTH_DAYS = 4
    FROM = 5
    UNTIL = 6
    BIRTHDAY = 7
    CATEGORIES = 8
    CHANNELS = 9
    TIERS = 10
    PRODUCTS = 11
    REGIONS = 12
    MERCHANTS = 13
    STORES = 14
    CARD_MERCHANTS = 15


_WHY = {
    Condition.MIN_SPEND: "too little was bought",
    Condition.TIMES: "it was another time of day",
    Condition.WEEKDAYS: "it was another day of the week",
    Condition.MONTH_DAYS: "it was another day of the month",
    Condition.FROM: "it had not begun",
    Condition.UNTIL: "it was over",
    Condition.BIRTHDAY: "it was not around the holder's birthday, or nobody knows that",
    Condition.CATEGORIES: "nothing of its categories was bought",
    Condition.CHANNELS: "it came by another channel",
    Condition.TIERS: "the card has another tier",
    Condition.PRODUCTS: "the card is of another product",
    Condition.REGIONS: "the store lies in another region",
    Condition.MERCHANTS: "the store is another merchant's",
    Condition.STORES: "it was another store",
    Condition.CARD_MERCHANTS: "the card was issued by another merchant",
}


_FATES = {
    Fate.COUNTS: "counts",
    Fate.GIVES_WAY: "gives way to another",
    Fate.REFUSES: "refuses the sale",
    Fate.FAILED: "no: it could not be asked, or broke",
    Fate.TIMED_OUT: "no: it did not answer in its time",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule and what became of it."""

    gift: Gift
    id: int
    """Of a discount, an accrual, a Python rule or a fee; 0: what the product gives, or growth value."""
    name: str
    gives: int
    """What it gives, or would."""
    fate: Fate
    missed: Condition = Condition.NONE

    @property
    def rule(self) -> str:
        """What the rule is called, for people."""
        if self.gift == Gift.DISCOUNT:
            return f"discount {self.id}, {self.name}" if self.id else "the product's discount"
        if self.gift == Gift.POINTS:
            return f"accrual {self.id}, {self.name}" if self.id else "the product's points"
        if self.gift in (Gift.ADVISED_DISCOUNT, Gift.ADVISED_POINTS):
            return f"Python rule {self.id}, {self.name}"
        if self.gift == Gift.FEE:
            return f"fee {self.id}, {self.name}"
        return "the product's rebate" if self.gift == Gift.REBATE else "growth value"

    @property
    def why(self) -> str:
        """What became of it, for people."""
        return _FATES.get(self.fate) or f"no: {_WHY[self.missed]}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a sale came to, and why."""

    code: int
    """00; 25: there is no such entry, 12: it is neither a sale on a card nor a capture, 58; of a sale that is
    tried out what it is answered if it does not come so far."""
    version: RulesVersion | None = None
    """The version of the rules that priced it; of a capture its fees."""
    answer: Answer | None = None
    """What it was answered, or would be."""
    verdicts: tuple[Verdict, ...] = ()
    """Discounts, then points; of each those that apply, then at most 20 that nearly do. Then rebate and
    growth value; then, of a purchase on a card of another merchant, its fees. Of a capture fees alone."""
    priced_by: int = 0
    """Of a capture the sequence of its authorisation, whose explanation tells the discounts and points. 0: it
    priced itself, or it is a refused capture of no authorisation that is known."""

    def counted(self, gift: Gift) -> int:
        """What rules give of one kind, together."""
        return sum(one.gives for one in self.verdicts if one.gift == gift and one.fate == Fate.COUNTS)

    def sentences(self, scale: int = 2) -> Iterator[str]:
        """One line a rule; `scale` is that of money."""
        for one in self.verdicts:
            yield f"{one.rule}: {amount_of(one, scale)}, {one.why}"


def amount_of(verdict: Verdict, scale: int = 2) -> str:
    """What a rule gives, as people write it."""
    if verdict.gift in (Gift.POINTS, Gift.ADVISED_POINTS):
        return f"{amount_of_points(verdict.gives)} points"
    return _decimal(verdict.gives, 0 if verdict.gift == Gift.GROWTH_VALUE else scale)


def amount_of_points(amount: int) -> str:
    """Points without the zeros at their end."""
    return _decimal(amount, POINTS_SCALE).rstrip("0").rstrip(".")


def _decimal(amount: int, places: int) -> str:
    whole, rest = divmod(abs(amount), 10**places)
    sign = "-" * (amount < 0)
    return f"{sign}{whole}.{rest:0{places}d}" if places else f"{sign}{whole}"
