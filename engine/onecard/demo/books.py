"""The demo's own books: every transaction priced again, from the request and the rules alone.

The engine's arithmetic is not used, only docs/transactions.md, card.md and rules.md, in plain integers, a
day at a time; what the rules make of a basket is `pricing`. A request that the engine refused posts nothing
here either. `audit` holds every answer, every close and, at the end, every account and every store against
these books; a difference is a sentence.
"""

from calendar import monthrange
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from onecard.codes import Account
from onecard.demo.chain import MERCHANT, TILLS_MAX
from onecard.demo.pricing import EPOCH, Pricing, Sale
from onecard.demo.year import Day, Replay
from onecard.rules import Rules
from onecard.v1 import admin_pb2, terminal_pb2, transaction_pb2

ONE = 10**12
CAP = 10**16
DIFFERENCES_MAX = 20
NEVER = 0
BONUS, POINTS = 2, 3


class Expected(NamedTuple):
    """What an answer must say."""

    code: int = 0
    replayed: bool = False
    amount: int = 0
    discount: int = 0
    principal: int = 0
    bonus: int = 0
    offset: int = 0
    points_earned: int = 0
    points_spent: int = 0
    shortfall_money: int = 0
    shortfall_points: int = 0
    principal_balance: int = 0
    bonus_balance: int = 0
    points_balance: int = 0
    unpaid: int = 0
    tier: int = 0


TOLD = attrgetter(*Expected._fields)


@dataclass(slots=True)
class Card:
    """A household's card: its product's rules and its purses."""

    product: dict[str, Any]
    principal: int = 0
    # Of every purse but principal what lies in its lots, by their last date; NEVER: it stays.
    purses: dict[int, dict[int, int]] = field(default_factory=dict)
    # What growth left over of each lot of points, over 10^12.
    carries: Counter[int] = field(default_factory=Counter)
    tier: int = 0
    # The day at whose close the tier is reviewed.
    tier_until: int = 0
    # It has bought something.
    bought: bool = False
    # The day of its last purchase, and the points that purchases of that day earned.
    earned_today: tuple[int, int] = (0, 0)

    def balance(self, purse: int) -> int:
        """What a purse holds."""
        return sum(self.purses.get(purse, {}).values())

    def give(self, purse: int, until: int, amount: int) -> None:
        """Something to a lot."""
        if amount:
            lots = self.purses.setdefault(purse, {})
            lots[until] = lots.get(until, 0) + amount

    def take(self, purse: int, amount: int) -> None:
        """Something from the lots that end first."""
        lots = self.purses.get(purse, {})
        for until in sorted(lots, key=lambda until: (until == NEVER, until)):
            taken = min(lots[until], amount)
            lots[until] -= taken
            amount -= taken
            if not lots[until]:
                self.forget(purse, until)

    def forget(self, purse: int, until: int) -> None:
        """A lot with a date that is empty is none, and what growth left over of it is lost."""
        if until != NEVER:
            del self.purses[purse][until]
            if purse == POINTS:
                self.carries.pop(until, None)


@dataclass
class Figures:
    """What a business day brought. Money in cents, points in 1/10,000."""

    date: int
    purchases: int = 0
    # List amounts, discounts, and what was due.
    listed: int = 0
    discount: int = 0
    sales: int = 0
    top_ups: int = 0
    topped_up: int = 0
    bonus: int = 0
    earned: int = 0
    spent: int = 0
    # Money that points paid, and coupons.
    offset: int = 0
    coupons: int = 0
    rebates: int = 0
    grown: int = 0
    # Points and bonus that nobody spent in time.
    lapsed_points: int = 0
    lapsed_bonus: int = 0
    growth_refused: bool = False
    # After the close.
    outstanding: int = 0
    cards: int = 0
    stored: int = 0
    # Cards of each tier.
    tiers: Counter[int] = field(default_factory=Counter)


@dataclass
class Costs:
    """What a rule gave, in cents or in points units, and to how many purchases."""

    purchases: int = 0
    given: int = 0


@dataclass
class Books:
    """All cards, accounts and stores, under one version of the rules."""

    tables: dict[str, Any]
    cards: dict[str, Card] = field(default_factory=dict)
    accounts: Counter[int] = field(default_factory=Counter)
    sold: Counter[int] = field(default_factory=Counter)
    collected: Counter[int] = field(default_factory=Counter)
    due: Counter[int] = field(default_factory=Counter)
    # What the cards have of each unit of the rules.
    units: Counter[int] = field(default_factory=Counter)
    # Members' money, the issuer's bonus, points and units accounts, after the close before.
    issuer_before: tuple[int, int, int, int] = (0, 0, 0, 0)
    # Of every discount and accrual that ever counted, by its table and its id.
    costs: dict[tuple[str, int], Costs] = field(default_factory=dict)
    # Days with which some lot or some tier ends.
    ends: set[int] = field(default_factory=set)
    days: list[Figures] = field(default_factory=list)
    # The stores' dues after each day.
    due_by_day: list[dict[int, int]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pricing = Pricing(self.tables)
        self.kinds = {unit["id"]: unit for unit in self.tables.get("units", [])}
        self.growth_value: dict[str, Any] | None = self.tables.get("growth_value")

    def day(self, day: Day) -> None:
        """Post a day and its close, noting what the engine said otherwise."""
        figures = Figures(day.date)
        for asked, answer in zip(day.asked, day.answers, strict=True):
            if answer.code != 0:
                self.refused[f"{asked.WhichOneof('request')}: {answer.code:02} {answer.message}"] += 1
                continue
            expected = self.post(asked, figures, day.date)
            if (told := TOLD(answer)) != expected:
                self._differs(f"entry {answer.sequence} says {Expected(*told)}, the books {expected}")
        self._close(day.close, figures)

    def post(self, asked: terminal_pb2.Transaction, figures: Figures, today: int) -> Expected:
        """Post one approved transaction; what its answer must say."""
        match asked.WhichOneof("request"):
            case "issue":
                product = next(p for p in self.tables["products"] if p["id"] == asked.issue.product)
                self.cards[asked.issue.card] = Card(product)
                return Expected()
            case "top_up":
                return self._top_up(asked.top_up, figures, today)
            case "purchase":
                return self._purchase(asked.purchase, figures, today)
            case "grant":
                return self._grant(asked.grant, figures, today)
            case "fund":
                self.accounts[Account.POINTS_POOL] -= asked.fund.amount
                self.accounts[Account.GROWTH_FUNDING] += asked.fund.amount
                return Expected(amount=asked.fund.amount)
            case other:
                raise ValueError(f"the demo sends no {other}")

    def _top_up(self, asked: transaction_pb2.TopUpRequest, figures: Figures, today: int) -> Expected:
        card, amount = self.cards[asked.card], asked.amount
        reached = [band for band in self.tables["top_up_bonus"] if band["from"] <= amount]
        band = reached[-1] if reached else {"bonus": 0, "rate": 0}
        bonus = band["bonus"] + amount * band["rate"] // ONE
        # What the issuer bears of the price is principal all the same.
        borne = amount * (ONE - band.get("price", ONE)) // ONE
        points = band.get("points", 0)
        card.principal += amount
        self._give_points(card, points, today)
        self._give_bonus(card, bonus, today)
        self.collected[asked.header.terminal // TILLS_MAX] += amount - borne
        self.accounts[Account.CARD_PRINCIPAL] += amount
        self.accounts[Account.ISSUER_BONUS] -= borne
        self.accounts[Account.STORE_COLLECTION] -= amount - borne
        figures.top_ups += 1
        figures.topped_up += amount
        figures.bonus += bonus + borne
        figures.earned += points
        return _told(card, amount=amount, discount=borne, principal=amount, bonus=bonus, points_earned=points)

    def _grant(self, asked: transaction_pb2.GrantRequest, figures: Figures, today: int) -> Expected:
        """A bundle that costs nothing."""
        card = self.cards[asked.card]
        given = self._give_bundle(card, asked.bundle, asked.count, figures, today)
        return _told(card, bonus=given[BONUS], points_earned=given[POINTS])

    def _give_bundle(self, card: Card, number: int, count: int, figures: Figures, today: int) -> Counter[int]:
        """All that is in a bundle; by purse, how much of it."""
        bundle = next(of for of in self.tables["bundles"] if of["id"] == number)
        given: Counter[int] = Counter()
        for grant in bundle["grants"]:
            amount, days = grant["amount"] * count, grant.get("days", 0)
            until = today + days - 1 if days else NEVER
            if last := grant.get("until", 0):
                until = min(until or last, last)
            self._give(card, grant["unit"], until, amount)
            given[grant["unit"]] += amount
        for unit, amount in given.items():
            if unit == BONUS:
                self.accounts[Account.CARD_BONUS] += amount
                self.accounts[Account.ISSUER_BONUS] -= amount
            elif unit == POINTS:
                self.accounts[Account.CARD_POINTS] += amount
                self.accounts[Account.POINTS_POOL] -= amount
            else:
                self.units[unit] += amount
        figures.bonus += given[BONUS]
        figures.earned += given[POINTS]
        return given

    def _first_gift(self, card: Card, paid: int, figures: Figures, today: int) -> Counter[int]:
        """What comes with a card's first purchase, if that is large enough."""
        first, card.bought = not card.bought, True
        gifts = self.tables.get("gifts", {})
        if not first or not gifts.get("first_purchase") or paid < gifts.get("first_purchase_min", 0):
            return Counter()
        return self._give_bundle(card, gifts["first_purchase"], 1, figures, today)

    def _purchase(self, asked: transaction_pb2.PurchaseRequest, figures: Figures, today: int) -> Expected:
        card, product = self.cards[asked.card], self.cards[asked.card].product
        sale = self._sale(asked, card)
        discounts = self.pricing.off(sale)
        off = sum(discounts.of_lines)
        due = asked.amount - off
        paid, spent = self._pour(asked, card, due)
        stored = paid["bonus"] + paid["principal"]
        accruals = self.pricing.earned(sale, stored, discounts.of_lines)
        earned = stored * product["accrual"] // ONE + sum(accruals.of_lines)
        earned = self._within_the_day(card, earned, today)
        rebate = paid["principal"] * product.get("rebate", 0) // ONE
        self._give_points(card, earned, today)
        self._give_bonus(card, rebate, today)
        tier = self._give_growth(card, stored, today)
        gift = self._first_gift(card, due, figures, today)
        self._note("discounts", discounts.by_rule)
        self._note("accruals", accruals.by_rule)
        self.sold[asked.header.terminal // TILLS_MAX] += due
        self.accounts[Account.STORE_CLEARING] += due
        figures.purchases += 1
        figures.listed += asked.amount
        figures.discount += off
        figures.sales += due
        figures.earned += earned
        figures.spent += spent
        figures.offset += paid["points"]
        figures.coupons += paid["coupons"]
        figures.rebates += rebate
        return _told(
            card,
            amount=due,
            discount=off,
            principal=-paid["principal"],
            bonus=rebate - paid["bonus"] + gift[BONUS],
            offset=paid["points"],
            points_earned=earned + gift[POINTS],
            points_spent=spent,
            tier=tier,
        )

    def _sale(self, asked: transaction_pb2.PurchaseRequest, card: Card) -> Sale:
        """What the rules can ask of a purchase; one without lines is one line of no category."""
        clock = asked.header.local_time % 1_000_000
        written = asked.header.local_time // 1_000_000
        day = date(written // 10_000, written // 100 % 100, written % 100)
        return Sale(
            product=card.product,
            store=asked.header.terminal // TILLS_MAX,
            merchant=MERCHANT,
            channel=asked.header.channel,
            tier=card.tier,
            day=(day - EPOCH).days,
            second=clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100,
            lines=[(line.category, line.amount) for line in asked.lines] or [(0, asked.amount)],
        )

    def _pour(
        self, asked: transaction_pb2.PurchaseRequest, card: Card, due: int
    ) -> tuple[dict[str, int], int]:
        """Take what is due from the card: the money that each step paid, and the points that were spent."""
        paid = {"coupons": 0, "points": 0, "bonus": 0, "principal": 0}
        left, spent = due, 0
        steps = self.tables["waterfall"]
        if not any(step["pay"] == "coupons" for step in steps):
            steps = [{"pay": "coupons"}, *steps]
        for step in steps:
            most = min(left, due * step.get("share", ONE) // ONE)
            money = 0
            match step["pay"]:
                case "coupons":
                    for coupon in asked.coupons:
                        money += min(left - money, self._redeem(card, coupon, asked.amount))
                case "points" if asked.use_points and card.balance(POINTS) >= step["min_points"]:
                    money = min(most, card.balance(POINTS) * step["price"] // ONE)
                    spent = -(-money * ONE // step["price"])
                    card.take(POINTS, spent)
                case "bonus":
                    money = min(most, card.balance(BONUS))
                    card.take(BONUS, money)
                case "principal":
                    money = min(most, card.principal)
                    card.principal -= money
            paid[step["pay"]] = money
            left -= money
        if left:
            self._differs(
                f"a purchase of {due} on card {asked.card} was approved; {left} of it is not covered"
            )
        self.accounts[Account.CARD_PRINCIPAL] -= paid["principal"]
        self.accounts[Account.CARD_BONUS] -= paid["bonus"]
        self.accounts[Account.CARD_POINTS] -= spent
        self.accounts[Account.POINTS_POOL] += spent
        self.accounts[Account.ISSUER_POINTS] -= paid["points"]
        self.accounts[Account.ISSUER_UNITS] -= paid["coupons"]
        return paid, spent

    def _redeem(self, card: Card, coupon: transaction_pb2.Coupon, listed: int) -> int:
        """Take coupons from the card: what they are worth of a purchase with this list amount."""
        unit = self.kinds[coupon.unit]
        if card.balance(coupon.unit) < coupon.count or listed < unit.get("min_spend", 0):
            self._differs(f"a coupon of unit {coupon.unit} was taken that is not there, or not good enough")
        card.take(coupon.unit, coupon.count)
        self.units[coupon.unit] -= coupon.count
        worth: int = unit.get("value") or listed * unit["rate"] // ONE
        return coupon.count * min(worth, unit.get("max") or worth)

    def _within_the_day(self, card: Card, earned: int, today: int) -> int:
        """Of points that a purchase earns what the product lets a card earn in a day."""
        most = card.product.get("points_per_day", 0)
        so_far = card.earned_today[1] if card.earned_today[0] == today else 0
        if most:
            earned = min(earned, max(most - so_far, 0))
        card.earned_today = (today, so_far + earned)
        return earned

    def _give(self, card: Card, purse: int, until: int, amount: int) -> None:
        card.give(purse, until, amount)
        self.ends.add(until)

    def _give_points(self, card: Card, points: int, today: int) -> None:
        product = card.product
        until = _last_day(today, product.get("points_days", 0), product.get("points_round", "day"))
        self._give(card, POINTS, until, points)
        self.accounts[Account.CARD_POINTS] += points
        self.accounts[Account.POINTS_POOL] -= points

    def _give_bonus(self, card: Card, bonus: int, today: int) -> None:
        self._give(card, BONUS, _last_day(today, card.product.get("bonus_days", 0), "day"), bonus)
        self.accounts[Account.CARD_BONUS] += bonus
        self.accounts[Account.ISSUER_BONUS] -= bonus

    def _give_growth(self, card: Card, stored: int, today: int) -> int:
        """Growth value for money from bonus and principal; the tier that the card came to by it, 0: none."""
        rule = self.growth_value
        if rule is None:
            return 0
        gained = stored * rule.get("rate", 0) // ONE
        self._give(card, rule["unit"], _last_day(today, rule["days"], rule.get("round", "day")), gained)
        self.units[rule["unit"]] += gained
        reached = self._reached(card) if gained else 0
        if reached <= card.tier:
            return 0
        card.tier, card.tier_until = reached, self._tier_until(today)
        return reached

    def _reached(self, card: Card) -> int:
        """The tier that a card's growth value reaches; 0: none."""
        growth = card.balance(self.growth_value["unit"]) if self.growth_value else 0
        return max((tier["id"] for tier in self.tables.get("tiers", []) if tier["from"] <= growth), default=0)

    def _tier_until(self, today: int) -> int:
        rule = self.growth_value
        until = _last_day(today, rule["tier_days"], rule.get("tier_round", "day")) if rule else NEVER
        self.ends.add(until)
        return until

    def _note(self, table: str, by_rule: Counter[int]) -> None:
        """What each rule gave to a purchase."""
        for rule, given in by_rule.items():
            if given:
                costs = self.costs.setdefault((table, rule), Costs())
                costs.purchases += 1
                costs.given += given

    def _lapse(self, today: int, figures: Figures) -> None:
        """What ends with this day goes back to where it came from, and tiers are reviewed."""
        if today not in self.ends:
            return
        for card in self.cards.values():
            for purse, lots in card.purses.items():
                for until in [until for until in lots if until != NEVER and until <= today]:
                    amount = lots[until]
                    card.forget(purse, until)
                    if purse == BONUS:
                        self.accounts[Account.CARD_BONUS] -= amount
                        self.accounts[Account.ISSUER_BONUS] += amount
                        figures.lapsed_bonus += amount
                    elif purse == POINTS:
                        self.accounts[Account.CARD_POINTS] -= amount
                        self.accounts[Account.POINTS_POOL] += amount
                        figures.lapsed_points += amount
                    else:
                        self.units[purse] -= amount
            if 0 < card.tier_until <= today:
                card.tier = self._reached(card)
                card.tier_until = self._tier_until(today + 1) if card.tier else NEVER

    def _close(self, told: admin_pb2.CloseDayResponse, figures: Figures) -> None:
        """Let lapse, grow, settle the stores into their dues, and hold the report against the books."""
        self._lapse(figures.date, figures)
        self._grow(told, figures)
        nets = {}
        for store in sorted(self.sold.keys() | self.collected.keys()):
            sold, collected = self.sold[store], self.collected[store]
            nets[store] = (sold, collected, sold - collected)
            self.due[store] += sold - collected
            self.accounts[Account.STORE_DUE] += sold - collected
            self.accounts[Account.STORE_CLEARING] -= sold
            self.accounts[Account.STORE_COLLECTION] += collected
        self.sold.clear()
        self.collected.clear()
        said = {row.store: (int128(row.sold), int128(row.collected), int128(row.net)) for row in told.stores}
        if said != nets:
            self._differs(f"close of {told.business_date}: the stores' positions differ from the books'")
        issuer = self._issuer()
        change = tuple(now - before for now, before in zip(issuer, self.issuer_before, strict=True))
        self.issuer_before = issuer
        net = int128(told.issuer_net)
        said_of_issuer = tuple(map(int128, (told.members, told.bonus, told.points, told.units)))
        if said_of_issuer != change or net != sum(change):
            self._differs(f"close of {told.business_date}: the issuer's position differs from the books'")
        if net != -sum(net for _, _, net in nets.values()):
            self._differs(f"close of {told.business_date}: stores and issuer do not sum to zero")
        figures.outstanding = sum(card.balance(POINTS) for card in self.cards.values())
        figures.tiers = Counter(card.tier for card in self.cards.values())
        figures.stored = issuer[0]
        figures.cards = len(self.cards)
        self.days.append(figures)
        self.due_by_day.append(dict(self.due))

    def _issuer(self) -> tuple[int, int, int, int]:
        """What members hold in money, and the issuer's accounts for bonus, for points and for coupons."""
        of = self.accounts
        members = of[Account.CARD_PRINCIPAL] + of[Account.CARD_BONUS]
        return members, of[Account.ISSUER_BONUS], of[Account.ISSUER_POINTS], of[Account.ISSUER_UNITS]

    def _grow(self, told: admin_pb2.CloseDayResponse, figures: Figures) -> None:
        """A day's growth of every card: the remainder is carried, the funding must cover the reserve."""
        rate = self.tables["compounding_rate"]
        if rate == 0:
            return
        # The undated lot of every card grows, also where it is empty, and every lot with a date.
        for card in self.cards.values():
            card.purses.setdefault(POINTS, {}).setdefault(NEVER, 0)
        purses = [(card, card.purses[POINTS]) for card in self.cards.values()]
        number = sum(len(lots) for _, lots in purses)
        outstanding = sum(sum(lots.values()) for _, lots in purses)
        reserve = outstanding * rate // ONE + number
        funded = self.accounts[Account.GROWTH_FUNDING] >= reserve
        said = told.growth
        growth = (said.rate, int128(said.outstanding), said.purses, int128(said.reserve), said.funded)
        if growth != (own := (rate, outstanding, number, reserve, funded)):
            self._differs(f"close of {told.business_date}: growth is {growth}, the books say {own}")
        figures.growth_refused = not funded
        if not funded:
            return
        for card, lots in purses:
            for until, points in lots.items():
                grown, card.carries[until] = divmod(points * rate + card.carries[until], ONE)
                grown = min(grown, CAP - points)
                lots[until] += grown
                figures.grown += grown
        self.accounts[Account.GROWTH_FUNDING] -= figures.grown
        # The trial balance lists cards' points with their growth.
        self.accounts[Account.CARD_POINTS] += figures.grown

    def _differs(self, sentence: str) -> None:
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(sentence)


@cache
def _last_day(today: int, days: int, rounding: str) -> int:
    """Last date of what lasts so many days, today included, to the end of that day, month or year."""
    if days == 0:
        return NEVER
    last = EPOCH + timedelta(days=today + days - 1)
    if rounding == "month":
        last = last.replace(day=monthrange(last.year, last.month)[1])
    if rounding == "year":
        last = last.replace(month=12, day=31)
    return (last - EPOCH).days


def _told(card: Card, **fields: Any) -> Expected:
    """What an answer says, with the card's balances as they are now."""
    return Expected(
        principal_balance=card.principal,
        bonus_balance=card.balance(BONUS),
        points_balance=card.balance(POINTS),
        **fields,
    )


def audit(replay: Replay, rules: Rules) -> Books:
    """The books of a replayed year, with every difference from what the server said."""
    books = Books(rules.tables)
    for day in replay.days:
        books.day(day)
    totals = {Account(row.account): int128(row.total) for row in replay.trial.totals}
    for account in Account:
        told, own = totals.get(account, 0), books.accounts[account]
        if told != own:
            books.differences.append(f"{account.name}: the engine has {told}, the books have {own}")
    for unit, in_points, told in (
        ("money", False, int128(replay.trial.money_sum)),
        ("points", True, int128(replay.trial.points_sum)),
    ):
        own = sum(total for account, total in totals.items() if account.in_points == in_points)
        if told != 0 or own != 0:
            books.differences.append(
                f"{unit} is not conserved: the engine's sum is {told}, that of its totals {own}"
            )
    told_units = {row.unit: (int128(row.cards), int128(row.pool)) for row in replay.trial.units}
    for number in told_units.keys() | books.units.keys():
        told_unit, own = told_units.get(number, (0, 0)), books.units[number]
        if told_unit != (own, -own):
            books.differences.append(
                f"unit {number}: the engine has {told_unit}, the books have {own} on cards"
            )
    due = {row.store: int128(row.due) for row in replay.positions.stores}
    if any(due.get(store, 0) != books.due[store] for store in due.keys() | books.due.keys()):
        books.differences.append("the stores' dues differ from the books'")
    if replay.trial.cards != len(books.cards):
        books.differences.append(
            f"the engine has {replay.trial.cards} cards, the books have {len(books.cards)}"
        )
    return books


def int128(value: admin_pb2.Int128) -> int:
    """The number that a message of two halves means."""
    return (value.high << 64) + value.low
