"""The swipe of the peers: the rules of rules.toml as fractions, the chain's opening books, and drawn swipes.

Every peer computes floor(amount x rate) with these numbers, in its own language and in exact integers.
A rate is a fraction in lowest terms, so that 64 bits (Redis: the 53 of a double) hold every product.
The peers know one waterfall: points, then bonus, then principal; another rule file is refused.
A key is (hi, lo, business date): hi below 0 is minus the terminal and lo its trace, else an id.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt

from bench.chain import DAY, OPENING_AMOUNT, RULES, STORES, card_numbers, expect
from bench.swipes import PURCHASES, TOP_UPS
from onecard import Rules, rows
from onecard.codes import Kind

RATE = 10**12
ID_MAX = 2**63 - 2

Column = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Numbers:
    """Rates as numerator (_n) and denominator (_d), limits, and what the chain starts with."""

    discount_n: int
    discount_d: int
    offset_n: int
    offset_d: int
    price_n: int
    price_d: int
    bonus_n: int
    bonus_d: int
    accrual_n: int
    accrual_d: int
    gift_n: int
    gift_d: int
    points_min: int
    gift_from: int
    balance_max: int
    opening: int
    opening_bonus: int
    stores: int
    day: int
    purchase_min: int
    purchase_max: int
    purchase_span: int
    top_up_min: int
    top_up_max: int
    top_up_span: int
    cards: int


def numbers(cards: int) -> Numbers:
    """The numbers of rules.toml, for so many cards."""
    tables = Rules.load(RULES).tables
    [product], [band] = tables["products"], tables["top_up_bonus"]
    steps = [step["pay"] for step in tables["waterfall"]]
    known = steps == ["points", "bonus", "principal"]
    expect(known, f"rules.toml: the peers cannot pay by {', '.join(steps)}")
    points, bonus, principal = tables["waterfall"]
    plain = principal["share"] == RATE and not product["purchase_max"] and not product["top_up_max"]
    expect(plain and not band["bonus"], "rules.toml: the peers know no such limit, share or fixed bonus")
    found: dict[str, int] = {}
    for name, rate in {
        "discount": product["discount"],
        "offset": points["share"],
        "price": points["price"],
        "bonus": bonus["share"],
        "accrual": product["accrual"],
        "gift": band["rate"],
    }.items():
        found[f"{name}_n"], found[f"{name}_d"] = Fraction(rate, RATE).as_integer_ratio()
    return Numbers(
        **found,
        points_min=points["min_points"],
        gift_from=band["from"],
        balance_max=product["balance_max"],
        opening=OPENING_AMOUNT,
        opening_bonus=OPENING_AMOUNT * band["rate"] // RATE if band["from"] <= OPENING_AMOUNT else 0,
        stores=STORES,
        day=rows.days(DAY),
        purchase_min=PURCHASES[0],
        purchase_max=PURCHASES[1],
        purchase_span=PURCHASES[1] - PURCHASES[0] + 1,
        top_up_min=TOP_UPS[0],
        top_up_max=TOP_UPS[1],
        top_up_span=TOP_UPS[1] - TOP_UPS[0] + 1,
        cards=cards,
    )


@dataclass(frozen=True)
class Drawn:
    """Some swipes, in columns; a balance query has no key and no amount."""

    kind: Column
    terminal: Column
    card: Column
    amount: Column
    hi: Column
    lo: Column
    time: Column

    @property
    def kept(self) -> int:
        """How many of them must leave a journal row."""
        return int(np.count_nonzero(self.kind != Kind.BALANCE))


class Draw:
    """Swipes, none twice: 60% purchases, 30% top-ups, 10% balances; half of the keys traces, half ids."""

    def __init__(self, cards: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._numbers = card_numbers(np.arange(cards)).astype(np.int64)
        self._trace = 0

    def next(self, size: int) -> Drawn:
        """The next of them."""
        draw = self._random.integers
        kind = self._random.choice([Kind.PURCHASE, Kind.TOP_UP, Kind.BALANCE], size, p=[0.6, 0.3, 0.1])
        purchase, balance = kind == Kind.PURCHASE, kind == Kind.BALANCE
        terminal = draw(1, STORES, size, endpoint=True)
        traced = draw(0, 2, size) == 0
        self._trace += size
        amount = np.where(
            purchase, draw(*PURCHASES, size, endpoint=True), draw(*TOP_UPS, size, endpoint=True)
        )
        return Drawn(
            kind,
            terminal,
            self._numbers[draw(0, len(self._numbers), size)],
            np.where(balance, 0, amount),
            np.where(balance, 0, np.where(traced, -terminal, draw(1, ID_MAX, size))),
            np.where(balance, 0, np.where(traced, self._trace + np.arange(size), draw(1, ID_MAX, size))),
            np.where(balance, 0, draw(8 * 3600, 22 * 3600, size)),
        )


class _Marked(Template):
    """A text with names after at signs: neither SQL nor Lua has a use for them."""

    delimiter = "@"


def fill(text: str, found: Numbers, **more: object) -> str:
    """The text with what stands after each at sign filled in."""
    return _Marked(text).substitute(asdict(found), **more)


def file(name: str, found: Numbers) -> str:
    """The file of this directory, filled in."""
    return fill(Path(__file__).with_name(name).read_text(), found)


def check_books(peer: str, counted: Sequence[int], posted: int) -> None:
    """What books.sql counts, or its like: rows as posted, sums of zero, and no account that is wrong."""
    entries, money, points, negative, cards, stores = counted
    expect(entries == posted, f"{peer}: {entries:,} journal rows for {posted:,} swipes that are kept")
    expect(money == 0 and points == 0, f"{peer}: the books do not sum to zero: {money}, {points}")
    expect(negative == 0, f"{peer}: {negative:,} cards have a purse below zero")
    wrong = f"{peer}: {cards:,} cards and {stores:,} stores are not what they opened with plus their legs"
    expect(cards == 0 and stores == 0, wrong)
