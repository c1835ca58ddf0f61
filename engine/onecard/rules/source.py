"""The rule file as the business writes it: shape and types, one class a table.

What one key can say by itself is checked here; scales, and what spans several keys, are the compiler's.
Decimals are exact from the first character on, dates are TOML's own. A key that is left out has its default
here, also where it could not be written: then it stands for none. The docstrings of tables and keys are what
`schema` tells an editor of them.
"""

import datetime
import re
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NAME_MAX = 64
UNIT_NAME_MAX = 16
"""Bytes of UTF-8, both."""

POINTS_SCALE = 4
CARD_UNIT_MIN = 16
NUMBER_MAX = 2**16 - 1
COUNT_MAX = 2**32 - 1
DAYS_MAX = 36_525
"""100 years."""
DAY_MINUTES = 24 * 60
RULES_MAX = 200_000
PRIORITY_MAX = 1_000
TIERS_MAX = 31
TRIGGERS_MAX = 1_000
TRIGGER_NTH_MAX = 1_000_000
PYTHON_RULES_MAX = 16
FEES_MAX = 64

_DECIMAL = r"[0-9]+(\.[0-9]+)?"
_TIME = "([01][0-9]|2[0-4]):[0-5][0-9]"
_PLACES_MAX = 30  # more digits than any unit or rate can hold, few enough to stay cheap
_FIRST_DATE = datetime.date(1970, 1, 2)  # the day before it is the tables' 0, which is no date


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str):
        raise ValueError("write it as a string in quotes, so that it stays exact")
    if not re.fullmatch(_DECIMAL, value) or len(value) > _PLACES_MAX:
        raise ValueError(f'{value!r} is not a decimal number: digits, and a point if need be, like "12.50"')
    return Decimal(value)


def _percent(value: object) -> Decimal:
    if not isinstance(value, str) or not value.endswith("%"):
        raise ValueError('write a percentage as a string in quotes, like "5%"')
    return _decimal(value[:-1].rstrip(" "))


def _time(value: object) -> tuple[int, int]:
    found = (
        re.fullmatch(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", value)
        if isinstance(value, str)
        else None
    )
    if found is None:
        raise ValueError('write times of day as a string in quotes, like "10:00-14:00"')
    first, first_minute, last, last_minute = map(int, found.groups())
    start, end = first * 60 + first_minute, last * 60 + last_minute
    if max(first_minute, last_minute) > 59 or end > DAY_MINUTES:
        raise ValueError(f"{value} is no time of day: they run from 00:00 to 24:00")
    if start >= end:
        raise ValueError(f'{value} ends before it begins: write two, like "22:00-24:00" and "00:00-02:00"')
    return start, end


def _date(value: object) -> datetime.date:
    if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
        raise ValueError("write a date without quotes and without a time, like 2026-12-31")
    if value < _FIRST_DATE:
        raise ValueError(f"{value} is too early: use a date from {_FIRST_DATE} on")
    return value


PERCENT_PATTERN = f"^{_DECIMAL} *%$"

Number: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    WithJsonSchema({"type": "string", "pattern": f"^{_DECIMAL}$", "maxLength": _PLACES_MAX}),
]
Percent: TypeAlias = Annotated[
    Decimal, BeforeValidator(_percent), WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN})
]
Times: TypeAlias = Annotated[
    tuple[int, int],
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "pattern": f"^{_TIME}-{_TIME}$"}),
]
"""From and until, in minutes of the day."""
Date: TypeAlias = Annotated[datetime.date, BeforeValidator(_date)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=NAME_MAX)]
UnitName: TypeAlias = Annotated[str, Field(min_length=1, max_length=UNIT_NAME_MAX)]
Store: TypeAlias = Annotated[int, Ge(1), Le(COUNT_MAX)]
MonthDay: TypeAlias = Annotated[int, Ge(1), Le(31)]
Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Table(BaseModel):
    """A table of the file: nothing in it that is not known, nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Unit(Table):
    """What a purse counts, in steps of 10^-scale."""

    name: UnitName
    """What the unit is called, in at most 16 bytes."""
    scale: Annotated[int, Field(ge=0, le=4)]
    """Decimal places; of points always 4."""


class Units(Table):
    """The units of a programme that every card has."""

    money: Unit
    """The currency: money = { name = "CNY", scale = 2 }."""
    points: Unit = Unit(name="POINTS", scale=POINTS_SCALE)
    """What points are called: points = { name = "POINTS", scale = 4 }."""


class Limits(Table):
    """The most that a card may; what is left out has no limit."""

    purchase_max: Number | None = None
    """Largest amount due of one purchase."""
    top_up_max: Number | None = None
    """Largest single top-up."""
    balance_max: Number | None = None
    """Most principal and bonus together."""
    day_sum: Number | None = None
    """Most that the purchases of a day come to."""
    day_count: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    """Most purchases a day."""


class Valid(Table):
    """How long something is valid: to the end of the day, month or year in which the days end."""

    days: Annotated[int, Field(ge=1, le=DAYS_MAX)]
    """Days; the first is the one on which it is earned, or reached."""
    until_end_of: Literal["day", "month", "year"] = "day"
    """What it lasts to the end of: the day, month or year in which the days end."""


class Product(Limits):
    """A card product, with the limits of its cards."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    """Its number, in any order; never used again for another product."""
    name: Name
    """What it is called, in at most 64 bytes."""
    discount: Percent = Decimal(0)
    """Off every purchase; below 100%."""
    points_per_money: Number = Decimal(0)
    """Points earned per unit of money paid from principal and bonus, and in cash."""
    rebate: Percent = Decimal(0)
    """Share of what principal and cash pay that comes back as bonus."""
    pin_above: Number | None = None
    """A PIN is asked for if more than this is due; leave it out: never."""
    staff: bool = False
    """Whether its cards are those of members of staff, and name the seller of a sale."""
    points_valid: Valid | None = None
    """How long points that are earned are valid; leave it out: for ever."""
    points_per_day: Number | None = None
    """Most points that a card's purchases of a day earn; leave it out: no limit."""
    bonus_valid_days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = 0
    """Days that the bonus of top-ups and rebates is valid; leave it out: for ever."""
    named: Limits | None = None
    """Limits instead of the product's for cards whose holder's real name is known; left out: the same."""


class Band(Table):
    """A band of top-up amounts, and what it gives: bonus, points, a bundle, or a lower price."""

    from_: Annotated[Number, Field(alias="from")]
    """Least top-up of the band, above that of the band before."""
    bonus: Number = Decimal(0)
    """Bonus of a top-up in this band."""
    rate: Percent = Decimal(0)
    """Share of the top-up that is bonus, too; at most 1000%."""
    points: Number = Decimal(0)
    """Points of a top-up in this band."""
    bundle: Name | None = None
    """Name of a bundle of which a top-up in this band brings one, for nothing."""
    price: Percent = Decimal(100)
    """Share of the top-up that is paid for it; the issuer bears the rest; above 0%."""


class Step(Table):
    """One step of the waterfall."""

    pay: Literal["points", "bonus", "principal", "coupons", "passes", "unit", "cards", "cash"]
    """What pays in this step; principal is required, and each stands once (unit: once for every unit)."""
    unit: Name | None = None
    """Name of the card unit of kind "value" that pays; of pay = "unit" only, and required there."""
    share: Percent = Decimal(100)
    """Most of the amount due that this step pays; above 0%."""
    price: Number | None = None
    """Money that one pays; of points and units only, and required there."""
    min_points: Number | None = None
    """Fewest points on a card that pay; of points only."""
    min: Number | None = None
    """Fewest of the unit on a card that pay; of pay = "unit" only."""


class CardUnit(Table):
    """A unit that the business defines: what its kind does not use is left out."""

    id: Annotated[int, Field(ge=CARD_UNIT_MIN, le=NUMBER_MAX)]
    """Its number in requests; never used again for another unit."""
    name: Name
    """What it is called everywhere else in the file, in at most 64 bytes."""
    kind: Literal["visits", "time", "coupon", "value", "growth"]
    """Visits of a service, a service for a time, a coupon, money that pays a part, or growth value."""
    worth: Number | None = None
    """Most that one visit or one use pays; of visits and time, and required there."""
    value: Number | None = None
    """What a coupon takes off; this or `rate`."""
    rate: Percent | None = None
    """Share of the list amount that a coupon takes off; this or `value`."""
    max: Number | None = None
    """Most that a coupon with a `rate` takes off; leave it out: no limit."""
    min_spend: Number | None = None
    """Least list amount of a purchase with it; not of value."""
    funded: Literal["issuer", "store"] = "issuer"
    """Who bears a coupon."""
    stores: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    """Numbers of the stores that take it; leave it out: all do."""
    per_purchase: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    """Most of it in one purchase; not of value; leave it out: no limit."""


class Grant(Table):
    """A part of a bundle."""

    unit: Name
    """What is granted: "bonus", "points", or the name of a card unit."""
    amount: Number
    """How much of it; of a card unit a whole number, of one of kind "time" 1."""
    from_days: Annotated[int, Field(ge=0, le=DAYS_MAX)] = 0
    """Days later from which on it is valid; 0: at once."""
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = 0
    """Days that it is valid, the first is the one on which it begins; leave it out: for ever."""
    until: Date | None = None
    """Last date on which it is valid, like 2026-12-31; with `days`: the earlier of both."""


class Bundle(Table):
    """What is granted, or sold, together."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    """Its number in requests; never used again for another bundle."""
    name: Name
    """What it is called, in at most 64 bytes."""
    price: Number = Decimal(0)
    """What it is sold for; 0: it is granted without a price."""
    points: Number = Decimal(0)
    """Points that it costs, which the card pays; with a `price` both are paid."""
    stock: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    """How many there are in all, ever, for all cards; raise it to restock; leave it out: no limit."""
    worth: Number = Decimal(0)
    """Money that the issuer pays the store that hands over goods; with it `grants` may be left out."""
    per_card: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    """Most of it that a card ever gets; leave it out: no limit."""
    per_member: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    """Most of it that all cards of a member ever get, together; leave it out: no limit."""
    grants: list[Grant] = Field(default_factory=list, min_length=1, max_length=16)


class Channel(Table):
    """A way that requests come by, and who takes in the money that comes with them."""

    id: Annotated[int, Field(ge=0, le=255)]
    """Its number in requests; those that name none have 0."""
    name: Name
    """What it is called, in at most 64 bytes."""
    collects: Literal["store", "issuer"] = "store"
    """Who takes in the money."""


class Category(Table):
    """A category of goods, by which tills tell what is sold."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    """Its number in requests; never used again for another category."""
    name: Name
    """What it is called everywhere else in the file, in at most 64 bytes."""


class Region(Table):
    """A region: stores, all other stores of merchants, and the regions that lie within it."""

    name: Name
    """What it is called everywhere else in the file, in at most 64 bytes."""
    within: Name | None = None
    """The name of the larger region that it lies in; leave it out: none."""
    stores: list[Store] = Field(default_factory=list, min_length=1, max_length=100_000)
    """The numbers of its stores; each is in one region."""
    merchants: list[Store] = Field(default_factory=list, min_length=1, max_length=100_000)
    """The numbers of merchants whose stores are in it, but for those that another region names."""


class Tier(Table):
    """A level of membership, by growth value."""

    id: Annotated[int, Field(ge=1, le=TIERS_MAX)]
    """Its number, the higher the better; never used again for another tier."""
    name: Name
    """What it is called everywhere else in the file, in at most 64 bytes."""
    from_: Annotated[Number, Field(alias="from")]
    """Growth value that reaches it: a whole number, more than the tier below asks."""
    benefits: list[Name] = Field(default_factory=list, min_length=1, max_length=32)
    """What its members have besides what the rules give, in words for people."""


class GrowthValue(Table):
    """What earns tiers: it is counted, and never spent."""

    unit: Name
    """The name of the card unit of kind "growth" that counts it."""
    per_money: Number = Decimal(0)
    """Growth value per unit of money paid from principal and bonus, and in cash."""
    valid: Valid
    """How long it counts."""
    tier_valid: Valid
    """How long a tier holds before it is reviewed, by the growth value that counts then."""


class When(Table):
    """When a rule applies: all that is written must be met; what is left out is always met."""

    products: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    """The names of card products."""
    stores: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    """The numbers of stores."""
    merchants: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    """The numbers of merchants: all of their stores."""
    regions: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    """The names of regions: their stores, and those of all regions within."""
    channels: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    """The names of channels."""
    tiers: list[Name] = Field(default_factory=list, min_length=1, max_length=TIERS_MAX)
    """The names of tiers that the card has one of."""
    categories: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    """The names of categories: the rule looks at the lines of these alone."""
    birthday: Literal["day", "week", "month"] | None = None
    """Around the birthday of the card's holder: the day, three days before to three after, or its month."""
    from_: Annotated[Date | None, Field(alias="from")] = None
    """The first date, at the terminal."""
    until: Date | None = None
    """The last date, at the terminal."""
    weekdays: list[Weekday] = Field(default_factory=list, min_length=1, max_length=7)
    """Days of the week, at the terminal."""
    month_days: list[MonthDay] = Field(default_factory=list, min_length=1, max_length=31)
    """Days of the month, at the terminal."""
    times: list[Times] = Field(default_factory=list, min_length=1, max_length=24)
    """Times of the day, at the terminal; each ends before its last minute."""
    min_spend: Number | None = None
    """Least list amount of what the rule looks at."""


class Stacked(Table):
    """A rule that may apply together with others."""

    id: Annotated[int, Field(ge=1, le=COUNT_MAX)]
    """Its number; never used again for another rule."""
    name: Name
    """What it is called, in at most 64 bytes."""
    stacking: Literal["best", "add", "exclusive"] = "best"
    """Only the best of these counts, it is added to the others, or it alone counts."""
    priority: Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    """Where only one counts, the highest comes first."""
    when: When = Field(default_factory=When)
    """When it applies; leave it out: always."""


class Discount(Stacked):
    """A discount: a share of the list amount, or a fixed amount."""

    rate: Percent | None = None
    """Share of the list amount; this or `value`."""
    value: Number | None = None
    """Money off; this or `rate`."""
    max: Number | None = None
    """Most that a `rate` takes off; leave it out: no limit."""


class Accrual(Stacked):
    """Points beyond those of the product: a multiple, so many per unit of money paid, or so many a sale."""

    factor: Number | None = None
    """So many times the points of the product; this, `points_per_money` or `points`."""
    points_per_money: Number | None = None
    """So many more per unit of money paid; this, `factor` or `points`."""
    points: Number | None = None
    """So many more a purchase; this, `factor` or `points_per_money`."""
    max_points: Number | None = None
    """Most that it gives beyond the product's; leave it out: no limit."""


class Gifts(Table):
    """Bundles that are given for nothing."""

    enrolment: Name | None = None
    """Name of the bundle that a card brings whose holder becomes a member; once for each member."""
    first_purchase: Name | None = None
    """Name of the bundle that the first purchase of a card brings; one without a `worth`."""
    first_purchase_min: Number | None = None
    """What the first purchase must come to for it; leave it out: anything."""


class Trigger(Table):
    """What is granted, after the commit, when something happens to a card or does not."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    """Its number; never used again for another trigger."""
    name: Name
    """What it is called, in at most 64 bytes."""
    on: Literal["first-purchase", "purchase", "no-purchase", "cadence", "birthday"]
    """A card's first purchase, or its nth; none for days, or for longer than it is used to; a birthday."""
    bundle: Name | None = None
    """The name of the bundle that is granted; one without a price. This or `tier`."""
    tier: Name | None = None
    """The name of the tier that the card has at least afterwards. This or `bundle`."""
    nth: Annotated[int, Field(ge=2, le=TRIGGER_NTH_MAX)] = 0
    """Which purchase of a card; of purchase only, and required there."""
    days: Annotated[int, Field(ge=0, le=DAYS_MAX)] = 0
    """Days without a purchase, required of no-purchase; days before a birthday, 0: on it."""
    times: Number | None = None
    """How many times the mean days between a card's purchases without one; of cadence, and required there."""
    purchase_days: Annotated[int, Field(ge=2, le=TRIGGER_NTH_MAX)] = 3
    """Fewest days with a purchase from which on a card has a cadence; of cadence only."""
    products: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    """The names of card products; leave it out: all."""
    stores: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    """The numbers of the stores where the purchase was; leave it out: all."""


class PythonRule(Table):
    """A rule that is a function in Python: it is asked about every sale, before that is priced."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    """Its number, as in the function's decorator; never used again for another rule."""
    name: Name
    """What it is called, as in the function's decorator, in at most 64 bytes."""
    version: Name
    """Which version of the function is meant, as in its decorator: one of another version is not asked."""
    required: bool = False
    """Whether a sale is refused when it fails or is late; false: that is priced without it."""


class Fee(Table):
    """What a merchant pays another for a sale at its store on a card that the other issued, or is paid."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    """Its number in the books; never used again for another fee."""
    name: Name
    """What it is called, in at most 64 bytes."""
    of: Literal["spend", "points"] = "spend"
    """What it is a share of: all that was paid, or what points paid."""
    rate: Percent
    """How large a share; above 0%, at most 100%."""
    min: Number | None = None
    """Least of a sale, but not more than the fee is a share of."""
    max: Number | None = None
    """Most of a sale; leave it out: no limit."""
    paid_by: Literal["acceptor", "card-merchant"] = "acceptor"
    """Who pays the other: the merchant of the store, or the merchant that issued the card."""
    card_merchants: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    """The numbers of the merchants whose cards it is paid for; leave it out: all others."""
    when: When = Field(default_factory=When)
    """When it is paid; leave it out: always."""


class Compounding(Table):
    """Daily growth of points, and the account that pays for it."""

    daily_rate: Percent
    """Growth of a day; at most 10%."""
    funding: Literal["growth"]
    """The account that pays for it."""


class Holds(Table):
    """How long an authorisation holds that does not say it."""

    days: Annotated[int, Field(ge=1, le=365)] = 7
    """Days, the first is that of the authorisation."""


class Refunds(Table):
    """How long what comes back past its last date is valid."""

    grace_days: Annotated[int, Field(ge=0, le=365)] = 0
    """Days; 0: it lapses."""


class Terminals(Table):
    """What is expected of terminals."""

    time_tolerance_hours: Annotated[int, Field(ge=0, le=168)] = 24
    """How far a terminal's local time may lie outside the business date."""


class RuleFile(Table):
    """The whole file."""

    units: Units
    products: Annotated[list[Product], Field(min_length=1, max_length=256)]
    top_up_bonus: list[Band] = Field(default_factory=list, max_length=64)
    card_units: list[CardUnit] = Field(default_factory=list, max_length=4096)
    bundles: list[Bundle] = Field(default_factory=list, max_length=4096)
    waterfall: Annotated[list[Step], Field(min_length=1)]
    discounts: list[Discount] = Field(default_factory=list, max_length=RULES_MAX)
    accruals: list[Accrual] = Field(default_factory=list, max_length=RULES_MAX)
    channels: list[Channel] = Field(default_factory=list, max_length=256)
    categories: list[Category] = Field(default_factory=list, max_length=NUMBER_MAX)
    regions: list[Region] = Field(default_factory=list, max_length=4_095)
    tiers: list[Tier] = Field(default_factory=list, max_length=TIERS_MAX)
    triggers: list[Trigger] = Field(default_factory=list, max_length=TRIGGERS_MAX)
    growth_value: GrowthValue | None = None
    gifts: Gifts | None = None
    python_rules: list[PythonRule] = Field(default_factory=list, max_length=PYTHON_RULES_MAX)
    fees: list[Fee] = Field(default_factory=list, max_length=FEES_MAX)
    compounding: Compounding | None = None
    holds: Holds = Holds()
    refunds: Refunds = Refunds()
    terminals: Terminals = Terminals()
