"""The rule file as the business writes it: shape and types, one class a table.

What one key can say by itself is checked here; scales, and what spans several keys, are the compiler's.
Decimals are exact from the first character on, dates are TOML's own. A key that is left out has its default
here, also where it could not be written: then it stands for none.
"""

import datetime
import re
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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

_PLACES_MAX = 30  # more digits than any unit or rate can hold, few enough to stay cheap
_FIRST_DATE = datetime.date(1970, 1, 2)  # the day before it is the tables' 0, which is no date


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str):
        raise ValueError("write it as a string in quotes, so that it stays exact")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or len(value) > _PLACES_MAX:
        raise ValueError(f'{value!r} is not a decimal number: digits, and a point if need be, like "12.50"')
    return Decimal(value)


def _percent(value: object) -> Decimal:
    if not isinstance(value, str) or not value.endswith("%"):
        raise ValueError('write a percentage as a string in quotes, like "5%"')
    return _decimal(value[:-1].rstrip())


def _time(value: object) -> tuple[int, int]:
    found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", value) if isinstance(value, str) else None
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


Number: TypeAlias = Annotated[Decimal, BeforeValidator(_decimal)]
Percent: TypeAlias = Annotated[Decimal, BeforeValidator(_percent)]
Times: TypeAlias = Annotated[tuple[int, int], BeforeValidator(_time)]
"""From and until, in minutes of the day."""
Date: TypeAlias = Annotated[datetime.date, BeforeValidator(_date)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=NAME_MAX)]
UnitName: TypeAlias = Annotated[str, Field(min_length=1, max_length=UNIT_NAME_MAX)]
Store: TypeAlias = Annotated[int, Ge(1), Le(COUNT_MAX)]
MonthDay: TypeAlias = Annotated[int, Ge(1), Le(31)]
Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Table(BaseModel):
    """A table of the file: nothing in it that is not known, nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Unit(Table):
    """What a purse counts, in steps of 10^-scale."""

    name: UnitName
    scale: Annotated[int, Field(ge=0, le=4)]


class Units(Table):
    """The units of a programme that every card has."""

    money: Unit
    points: Unit = Unit(name="POINTS", scale=POINTS_SCALE)


class Limits(Table):
    """The most that a card may; what is left out has no limit."""

    purchase_max: Number | None = None
    top_up_max: Number | None = None
    balance_max: Number | None = None
    day_sum: Number | None = None
    day_count: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0


class PointsValid(Table):
    """How long earned points are valid: to the end of the day, month or year in which the days end."""

    days: Annotated[int, Field(ge=1, le=DAYS_MAX)]
    until_end_of: Literal["day", "month", "year"] = "day"


class Product(Limits):
    """A card product, with the limits of its cards."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    name: Name
    discount: Percent = Decimal(0)
    points_per_money: Number = Decimal(0)
    rebate: Percent = Decimal(0)
    pin_above: Number | None = None
    staff: bool = False
    points_valid: PointsValid | None = None
    bonus_valid_days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = 0
    named: Limits | None = None


class Band(Table):
    """A band of top-up amounts, and the bonus that it gives."""

    from_: Annotated[Number, Field(alias="from")]
    bonus: Number = Decimal(0)
    rate: Percent = Decimal(0)


class Step(Table):
    """One step of the waterfall."""

    pay: Literal["points", "bonus", "principal", "coupons", "passes", "unit", "cards", "cash"]
    unit: Name | None = None
    share: Percent = Decimal(100)
    price: Number | None = None
    min_points: Number | None = None
    min: Number | None = None


class CardUnit(Table):
    """A unit that the business defines: what its kind does not use is left out."""

    id: Annotated[int, Field(ge=CARD_UNIT_MIN, le=NUMBER_MAX)]
    name: Name
    kind: Literal["visits", "time", "coupon", "value"]
    worth: Number | None = None
    value: Number | None = None
    rate: Percent | None = None
    max: Number | None = None
    min_spend: Number | None = None
    funded: Literal["issuer", "store"] = "issuer"
    stores: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    per_purchase: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0


class Grant(Table):
    """A part of a bundle."""

    unit: Name
    amount: Number
    from_days: Annotated[int, Field(ge=0, le=DAYS_MAX)] = 0
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = 0
    until: Date | None = None


class Bundle(Table):
    """What is granted, or sold, together."""

    id: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    name: Name
    price: Number = Decimal(0)
    per_card: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    per_member: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 0
    grants: Annotated[list[Grant], Field(min_length=1, max_length=16)]


class Channel(Table):
    """A way that requests come by, and who takes in the money that comes with them."""

    id: Annotated[int, Field(ge=0, le=255)]
    name: Name
    collects: Literal["store", "issuer"] = "store"


class When(Table):
    """When a rule applies: all that is written must be met; what is left out is always met."""

    products: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    stores: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    merchants: list[Store] = Field(default_factory=list, min_length=1, max_length=10_000)
    channels: list[Name] = Field(default_factory=list, min_length=1, max_length=256)
    from_: Annotated[Date | None, Field(alias="from")] = None
    until: Date | None = None
    weekdays: list[Weekday] = Field(default_factory=list, min_length=1, max_length=7)
    month_days: list[MonthDay] = Field(default_factory=list, min_length=1, max_length=31)
    times: list[Times] = Field(default_factory=list, min_length=1, max_length=24)
    min_spend: Number | None = None


class Stacked(Table):
    """A rule that may apply together with others."""

    id: Annotated[int, Field(ge=1, le=COUNT_MAX)]
    name: Name
    stacking: Literal["best", "add", "exclusive"] = "best"
    priority: Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    when: When = When()


class Discount(Stacked):
    """A discount: a share of the list amount, or a fixed amount."""

    rate: Percent | None = None
    value: Number | None = None
    max: Number | None = None


class Accrual(Stacked):
    """Points beyond those of the product: a multiple, so many per unit of money paid, or so many a sale."""

    factor: Number | None = None
    points_per_money: Number | None = None
    points: Number | None = None
    max_points: Number | None = None


class Compounding(Table):
    """Daily growth of points, and the account that pays for it."""

    daily_rate: Percent
    funding: Literal["growth"]


class Holds(Table):
    """How long an authorisation holds that does not say it."""

    days: Annotated[int, Field(ge=1, le=365)] = 7


class Refunds(Table):
    """How long what comes back past its last date is valid."""

    grace_days: Annotated[int, Field(ge=0, le=365)] = 0


class Terminals(Table):
    """What is expected of terminals."""

    time_tolerance_hours: Annotated[int, Field(ge=0, le=168)] = 24


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
    compounding: Compounding | None = None
    holds: Holds = Holds()
    refunds: Refunds = Refunds()
    terminals: Terminals = Terminals()
