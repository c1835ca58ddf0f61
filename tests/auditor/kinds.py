"""What an approved transaction of each kind moves and changes, as far as entries say it."""

from collections import Counter
from collections.abc import Callable

from tests.auditor import fees
from tests.auditor.cards import ONE, Card, Plan, account_of, last_day, pool_of
from tests.auditor.catalogue import Gift, counted, hand_over, paid_for, within
from tests.auditor.form import (
    ADVICE,
    ALIAS,
    AUTHORISE,
    BIND,
    BONUS,
    BULK_TOP_UP,
    CAPTURE,
    CAPTURED,
    CARD,
    CARD_ACCOUNTS,
    CASH,
    CLEARING,
    CLOSE,
    CODE,
    CODE_USED,
    CODES_OUT,
    COLLECTION,
    COUPON,
    FUND,
    FUNDING,
    GRANT,
    HELD,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    ISSUER_BONUS,
    ISSUER_POINTS,
    ISSUER_UNITS,
    MEMBER,
    NEW_ALIAS,
    NEW_CURSOR,
    NEW_HOLDER,
    NEW_NUMBER,
    NEW_PIN,
    NEW_STATUS,
    NEW_TIER,
    NUMBER,
    OUT_AS_CODES,
    PASS,
    POINTS,
    POOL,
    PRINCIPAL,
    PURCHASE,
    PURSES,
    REPLACE,
    SET_PIN,
    SET_TIER,
    SHORT_MONEY,
    SHORT_POINTS,
    SOLD,
    SPENT,
    SPENT_AND_EARNED,
    STAFF,
    STATUS,
    TOP_UP,
    TRANSFER,
    TRIES,
    UNDATED,
    UNIT,
    UNIT_ACCOUNTS,
    UNIT_POOL,
    VOID,
    Entry,
    Post,
)
from tests.auditor.gifts import given, to_new_member, with_first
from tests.auditor.state import Programme, State

HOLD_DAYS = 7
FINAL, UNBIND, BY_OPERATOR = 4, 16, 32
CLOSED = 6

Changes = list[tuple[int, ...]]
Legs = dict[tuple[int, int, int, tuple[int, int]], int]
Pairs = frozenset[tuple[int, int]]

EARNED: Pairs = frozenset(
    {(POOL, POINTS), (POOL, SHORT_POINTS), (ISSUER_BONUS, BONUS), (ISSUER_BONUS, SHORT_MONEY)}
    | {(UNIT_POOL, UNIT)}
)
PAID: Pairs = frozenset(
    {(PRINCIPAL, CLEARING), (BONUS, CLEARING), (ISSUER_POINTS, CLEARING), (ISSUER_UNITS, CLEARING)}
    | {(POINTS, POOL), (UNIT, UNIT_POOL)}
)


def net(posts: list[Post]) -> Legs:
    """Moves as legs: what each account, lot or shortfall changes by."""
    legs: Counter[tuple[int, int, int, tuple[int, int]]] = Counter()
    for post in posts:
        for account, amount in ((post.source, -post.amount), (post.target, post.amount)):
            card = post.card if account in CARD_ACCOUNTS else 0
            unit = post.unit if account in UNIT_ACCOUNTS | fees.FEES | {ISSUER_UNITS} else 0
            legs[account, card, unit, post.dates if account in PURSES else UNDATED] += amount
    return {leg: amount for leg, amount in legs.items() if amount}


def compare(state: State, posts: list[Post], expected: list[Post]) -> None:
    """The moves are, leg by leg, what they must be."""
    found, wanted = net(posts), net(expected)
    for account, card, unit, dates in sorted(found.keys() | wanted.keys()):
        leg = account, card, unit, dates
        where = (
            f"account {account}"
            + f" of card {card}" * (account in CARD_ACCOUNTS)
            + f" of unit {unit}" * (unit > 0)
        )
        where += f" valid {dates[0]} to {dates[1]}" * (dates != UNDATED)
        is_so = found.get(leg, 0) == wanted.get(leg, 0)
        state.check(is_so, f"{where} changes by {found.get(leg, 0)}, and not by {wanted.get(leg, 0)}")


def only(state: State, entry: Entry, pairs: Pairs, posts: list[Post] | None = None) -> None:
    """The moves, all or these, go from these accounts to those alone."""
    for post in entry.posts if posts is None else posts:
        known = (post.source, post.target) in pairs
        state.check(known, f"a move from {post.source} to {post.target} in a kind {entry.kind}")


def changes_are(state: State, entry: Entry, expected: Changes) -> None:
    """The changes are these, in any order; those of tries, tiers and cursors are looked at apart."""
    found = [change for change in entry.changes if change[0] not in (TRIES, NEW_TIER, NEW_CURSOR)]
    state.check(sorted(found) == sorted(expected), f"changes {found} are not {expected}")


def bonus_until(programme: Programme, card: Card, today: int) -> int:
    """Last date of bonus that is granted today; 0: never."""
    days = int(programme.row("products", card.product).get("bonus_days", 0))
    return today + days - 1 if days else 0


def points_until(programme: Programme, card: Card, today: int) -> int:
    """Last date of points that are earned today, to the end of its day, month or year."""
    product = programme.row("products", card.product)
    return last_day(today, int(product.get("points_days", 0)), product.get("points_round", "day"))


def growth_until(programme: Programme, card: Card, today: int) -> int:
    """Last date of growth value that is earned today."""
    rule = programme.tables["growth_value"]
    return last_day(today, rule["days"], rule.get("round", "day"))


UNTIL = {(POOL, POINTS): points_until, (ISSUER_BONUS, BONUS): bonus_until, (UNIT_POOL, UNIT): growth_until}


def earned_lots(state: State, programme: Programme, entry: Entry, posts: list[Post]) -> None:
    """What is earned goes to the lots that the product says."""
    cards = state.cards_of(entry)
    for post in posts:
        card = cards[post.card]
        if card is None or (post.source, post.target) not in UNTIL:
            continue
        dates = (0, UNTIL[post.source, post.target](programme, card, entry.posted))
        unit = programme.tables.get("growth_value", {}).get("unit", 0) if post.target == UNIT else 0
        state.check(post.unit == unit, f"earned of unit {post.unit}, and not {unit}")
        state.check(post.dates == dates, f"earned for {post.dates}, and not for {dates}")


# Sales and holds


def paid(entry: Entry) -> int:
    """What a sale came to."""
    return sum(post.amount for post in entry.posts if post.target == CLEARING) + entry.cash


def part(amount: int, rate: int) -> int:
    """That part of an amount; rates are over 10^12."""
    return amount * rate // ONE


def off(programme: Programme, entry: Entry, card: Card) -> int:
    """Price less what is asked for it: the product's discount, and coupons that the store bears."""
    discount = part(entry.amount, programme.row("products", card.product).get("discount", 0))
    discount += sum(part(entry.amount, item.amount) for item in entry.items_of(ADVICE))
    # What is off a line is at most the line: lines tell for themselves.
    discount = sum(entry.lines) if entry.lines else min(discount, entry.amount)
    lowered = 0
    for item in [*entry.items_of(COUPON), *entry.items_of(CODE)]:
        unit = programme.row("units", item.unit)
        if unit.get("funded") == "store":
            one = unit.get("value") or part(entry.amount, unit.get("rate", 0))
            lowered += min(one, unit.get("max") or one) * (item.amount if item.kind == COUPON else 1)
    return discount + min(lowered, entry.amount - discount)


def earned(programme: Programme, entry: Entry, card: Card) -> tuple[int, int, int]:
    """Points that a sale earns, the bonus that it is given back, and its growth value."""
    product = programme.row("products", card.product)
    own = sum(post.amount for post in entry.posts if post.source == PRINCIPAL and not post.card)
    stored = entry.given(PRINCIPAL, CLEARING) + entry.given(BONUS, CLEARING)
    points = part(stored + entry.cash, product.get("accrual", 0))
    for item in entry.items_of(ADVICE):
        points = part(points, item.low - 1) if item.low else points
    growth = part(stored + entry.cash, programme.tables.get("growth_value", {}).get("rate", 0))
    if most := product.get("points_per_day", 0):
        before = card.day[3] if card.day[0] == entry.posted else 0
        points = min(points, max(0, most - before))
    return points, part(own + entry.cash, product.get("rebate", 0)), growth


def staff_of(state: State, entry: Entry, sale: Entry, amount: int) -> Changes:
    """What the staff card of a sale's items sold."""
    cards = (state.ever(entry.programme, item.number) for item in sale.items_of(STAFF))
    return [(SOLD, card if card is not None else -1, amount) for card in cards]


def day_of(programme: Programme, entry: Entry, card: Card) -> Changes:
    """The sale counts among those of the day if the product limits them."""
    product = programme.row("products", card.product)
    limits = (product.get("named") if card.named else None) or product
    most = product.get("points_per_day", 0)
    if not limits.get("day_sum") and not limits.get("day_count") and not most:
        return []
    date, count, total, points = card.day
    if date != entry.posted:
        count = total = points = 0
    points += earned(programme, entry, card)[0] if most else 0
    counts = (count + 1, total + paid(entry))
    return [(SPENT_AND_EARNED, *counts, points) if points else (SPENT, *counts)]


def sale(state: State, programme: Programme, entry: Entry, card: Card) -> None:
    """The bill is paid, in full or as far as the entry says; coupons and passes are those of the items."""
    come_to = paid(entry)
    if not entry.detailed:
        entry.discount = entry.amount - come_to
    state.check(
        come_to >= 0 and entry.discount >= 0 and come_to + entry.unpaid + entry.discount == entry.amount,
        f"paid {come_to} of a bill of {entry.amount}",
    )
    price = entry.amount - off(programme, entry, card)
    state.check(come_to + entry.unpaid == price, f"a price of {come_to + entry.unpaid}, and not {price}")
    offered = sum(item.amount for item in entry.items_of(CASH))
    state.check(entry.cash <= offered, f"{entry.cash} of {offered} in cash")
    state.check(entry.unpaid == 0 or (entry.asked & 2 != 0 and come_to > 0), "approved in part unasked")
    state.check((entry.code == 10) == (entry.unpaid > 0), f"code {entry.code}, {entry.unpaid} left to pay")
    by_points, by_units = entry.given(ISSUER_POINTS, CLEARING), entry.given(ISSUER_UNITS, CLEARING)
    state.check((by_points > 0) == (entry.given(POINTS, POOL) > 0), "paid with points that were not spent")
    state.check(by_points == 0 or entry.asked & 1 != 0, "paid with points unasked")
    state.check(by_units == 0 or entry.detailed, "paid with units")
    taken_for(state, programme, entry)
    paid_by_units(state, programme, entry)


def step_price(programme: Programme, pay: str, unit: int = 0) -> int:
    """What a point, or a thing of a unit, pays by the waterfall."""
    steps = programme.tables.get("waterfall", [])
    found = (step["price"] for step in steps if step["pay"] == pay and step.get("unit", 0) == unit)
    return int(next(found, 0))


def taken_for(state: State, programme: Programme, entry: Entry) -> None:
    """Coupons, codes and passes are taken as the items say; points and values for what they pay."""
    taken, codes, asked = Counter[int](), Counter[int](), Counter[int]()
    for post in entry.posts:
        taken[post.unit] += post.amount if (post.source, post.target) == (UNIT, UNIT_POOL) else 0
        codes[post.unit] += post.amount if post.source == OUT_AS_CODES else 0
    for item in [*entry.items_of(COUPON), *entry.items_of(PASS)]:
        time = programme.row("units", item.unit).get("kind") == "time"
        asked[item.unit] += 0 if time else item.amount
    for step in programme.tables.get("waterfall", []):
        if step["pay"] == "unit":
            asked[step["unit"]] += units_for(entry, ISSUER_UNITS, step["price"], step["unit"])
    for unit in taken.keys() | asked.keys():
        state.check(taken[unit] == asked[unit], f"{taken[unit]} of unit {unit}, and not {asked[unit]}")
    wanted = Counter(item.unit for item in entry.items_of(CODE))
    state.check(+codes == wanted, "other codes than its items'")
    points = units_for(entry, ISSUER_POINTS, step_price(programme, "points"))
    spent = entry.given(POINTS, POOL)
    state.check(spent == points, f"{spent} points spent, and not {points}")


def units_for(entry: Entry, account: int, price: int, unit: int = 0) -> int:
    """How many points, or things of a unit, pay what this account pays, rounded up."""
    money = sum(post.amount for post in entry.posts if (post.source, post.unit) == (account, unit))
    return -(-money * ONE // price) if price else money


def paid_by_units(state: State, programme: Programme, entry: Entry) -> None:
    """Coupons and passes pay no more than they are worth."""
    worth = Counter[int]()
    for item in entry.items:
        unit = programme.row("units", item.unit)
        if item.kind in (COUPON, CODE) and unit.get("funded") != "store":
            one = unit.get("value") or part(entry.amount, unit.get("rate", 0))
            worth[item.unit] += min(one, unit.get("max") or one) * (item.amount if item.kind == COUPON else 1)
        if item.kind == PASS:
            worth[item.unit] += unit.get("worth", 0) * item.amount
    for post in entry.posts:
        if post.source == ISSUER_UNITS and not step_price(programme, "unit", post.unit):
            worth[post.unit] -= post.amount
            state.check(worth[post.unit] >= 0, f"unit {post.unit} pays more than it is worth")


def purchase(state: State, programme: Programme, entry: Entry, card: Card, plan: Plan) -> Changes:
    gift, posts = with_first(state, programme, entry, card, paid(entry), plan)
    only(state, entry, PAID | EARNED | {(OUT_AS_CODES, UNIT_POOL)} | fees.PAIRS, posts)
    sale(state, programme, entry, card)
    fees.charged(state, programme, entry, card)
    points, rebate, growth = earned(programme, entry, card)
    for source, amount in ((POOL, points), (ISSUER_BONUS, rebate), (UNIT_POOL, growth)):
        found = sum(post.amount for post in posts if post.source == source)
        state.check(found == amount, f"earned {found} from account {source}, and not {amount}")
    earned_lots(state, programme, entry, posts)
    used: Changes = [(CODE_USED, item.unit, item.low, 1) for item in entry.items_of(CODE)]
    return gift + used + day_of(programme, entry, card) + staff_of(state, entry, entry, paid(entry))


def authorise(state: State, programme: Programme, entry: Entry, card: Card) -> Changes:
    only(state, entry, PAID)
    sale(state, programme, entry, card)
    last = entry.expires or entry.posted + int(programme.tables.get("hold_days", HOLD_DAYS)) - 1
    state.check(last >= entry.posted, "a hold that ended before it began")
    return [(HELD, last, paid(entry), *earned(programme, entry, card)), *day_of(programme, entry, card)]


def held_by(state: State, entry: Entry, original: Entry | None, card: Card | None) -> bool:
    """The original is an approved authorise whose hold is there."""
    is_one = original is not None and original.kind == AUTHORISE and original.approved
    there = is_one and original is not None and card is not None and original.sequence in card.holds
    state.check(there, f"a kind {entry.kind} of what holds nothing")
    return there


def capture(
    state: State, programme: Programme, entry: Entry, original: Entry | None, card: Card | None, plan: Plan
) -> Changes:
    if not held_by(state, entry, original, card) or original is None or card is None:
        return []
    hold = card.holds[original.sequence]
    captured = hold.captured + entry.amount
    if captured > hold.total:
        state.check(False, f"captured {captured} of {hold.total}")
        return []
    differences = zip(hold.posts, hold.taken(hold.captured), hold.taken(captured), strict=True)
    expected = [
        Post(post.source, post.target, after - before, post.card, post.unit, post.dates)
        for post, before, after in differences
        if after > before
    ]
    gift, posts = with_first(state, programme, entry, card, entry.amount, plan)
    state.check(posts[: len(expected)] == expected, f"captures not what is held: {expected}")
    rest = posts[len(expected) :]
    more = EARNED | fees.PAIRS
    state.check(all((post.source, post.target) in more for post in rest), "captures more than is held")
    fees.charged(state, programme, entry, card)
    for source, whole in ((POOL, hold.earned), (ISSUER_BONUS, hold.rebate), (UNIT_POOL, hold.growth)):
        amount = whole * captured // hold.total - whole * hold.captured // hold.total
        found = sum(post.amount for post in rest if post.source == source)
        state.check(found == amount, f"earned {found} from account {source}, and not {amount}")
    earned_lots(state, programme, entry, posts)
    ended = entry.asked & FINAL != 0 or captured == hold.total
    return [
        *gift,
        (CAPTURED, original.sequence, captured, int(ended)),
        *staff_of(state, entry, original, entry.amount),
    ]


def void(state: State, entry: Entry, original: Entry | None, card: Card | None) -> Changes:
    only(state, entry, frozenset())
    if not held_by(state, entry, original, card) or original is None or card is None:
        return []
    return [(CAPTURED, original.sequence, card.holds[original.sequence].captured, 1)]


# What comes onto cards


def top_up(state: State, programme: Programme, entry: Entry, plan: Plan) -> Changes:
    """Of one card, or of many: each gets what was asked for, and what its band gives."""
    into = programme.collection(entry.channel)
    amounts = [item.amount for item in entry.items_of(CARD)] if entry.kind == BULK_TOP_UP else [entry.amount]
    state.check(sum(amounts) == entry.amount, f"topped up {sum(amounts)} of {entry.amount}")
    changes: Changes = []
    gifts: list[Gift] = []
    less = 0
    for place, amount in enumerate(amounts, entry.kind == BULK_TOP_UP):
        card = plan.card(place)
        if card is None:
            continue
        bands = [band for band in programme.tables.get("top_up_bonus", []) if band["from"] <= amount]
        band = bands[-1] if bands else {}
        borne = part(amount, ONE - band.get("price", ONE))
        bonus = band.get("bonus", 0) + part(amount, band.get("rate", 0))
        plan.give(into, amount - borne, place, PRINCIPAL, UNDATED)
        plan.give(ISSUER_BONUS, borne, place, PRINCIPAL, UNDATED)
        plan.give(ISSUER_BONUS, bonus, place, BONUS, (0, bonus_until(programme, card, entry.posted)))
        until = points_until(programme, card, entry.posted)
        plan.give(POOL, band.get("points", 0), place, POINTS, (0, until))
        gift = given(state, programme, entry, plan, band.get("bundle", 0), place=place, before=gifts)
        gifts += [(card, band["bundle"])] if gift else []
        changes += gift
        less += borne
    compare(state, entry.posts, plan.posts)
    state.check(entry.discount == less, f"{entry.discount} less was paid, and not {less}")
    return changes


def grant(state: State, programme: Programme, entry: Entry, card: Card, plan: Plan) -> Changes:
    """The lines of the bundle, each so many times, and its price."""
    bundle = programme.row("bundles", entry.product)
    if not bundle:
        state.check(False, f"no bundle {entry.product}")
        return []
    plan.posts += paid_for(state, programme, entry, bundle)
    hand_over(plan, entry, bundle, entry.amount)
    compare(state, entry.posts, plan.posts)
    for problem in within(state, programme, card, bundle, entry.amount):
        state.check(False, problem)
    return counted(programme, card, bundle, entry.amount)


def issue_codes(state: State, programme: Programme, entry: Entry) -> Changes:
    expected = [Post(UNIT_POOL, OUT_AS_CODES, entry.amount, unit=entry.product)]
    state.check(entry.posts == expected, f"not {entry.amount} codes of unit {entry.product}")
    is_coupon = programme.row("units", entry.product).get("kind") == "coupon"
    state.check(is_coupon, f"codes of unit {entry.product}, which is no coupon")
    first = programme.series[entry.product].count + 1
    return [(CODES_OUT, entry.product, first, entry.amount, entry.expires)]


def transfer(state: State, entry: Entry) -> Changes:
    """What is taken from the further card's lots comes to the same lots of the own one."""
    account = account_of(entry.product)
    transit = {PRINCIPAL: 46, POINTS: 47}.get(account, 48)
    short = {PRINCIPAL: SHORT_MONEY, POINTS: SHORT_POINTS}.get(account, account)
    only(state, entry, frozenset({(account, transit), (transit, account), (transit, short)}))
    left = Counter[tuple[int, int]]()
    came, went, made_good = 0, 0, 0
    for post in entry.posts:
        out = post.source == account
        state.check(post.purse in (0, entry.product), f"a transfer of purse {post.purse}")
        state.check(post.card == int(out), f"card {post.card} where card {int(out)} stands")
        left[post.dates] += post.amount if out else -post.amount if post.target == account else 0
        went += post.amount if out else 0
        came += post.amount if not out else 0
        made_good += post.amount if post.target == short != account else 0
    state.check(went == came == entry.amount, f"{went} went, {came} came of {entry.amount}")
    kept = all(amount >= 0 for amount in left.values()) and sum(left.values()) == made_good
    state.check(kept, "the lots that came are not those that went")
    return []


# The life of a card


def close(state: State, programme: Programme, entry: Entry, card: Card) -> Changes:
    """Principal is paid out, less what is owed; all else lapses."""
    state.check(not card.holds, "closed with a hold")
    kept = min(card.lot((PRINCIPAL, 0, 0)).amount, -card.shortfalls[SHORT_MONEY])
    out = programme.collection(entry.channel)
    expected = [
        Post(PRINCIPAL, COLLECTION, kept),
        Post(COLLECTION, SHORT_MONEY, kept),
        Post(PRINCIPAL, out, card.lot((PRINCIPAL, 0, 0)).amount - kept),
    ]
    for (purse, *dates), lot in card.lots.items():
        if purse != PRINCIPAL:
            unit = purse if purse > POINTS else 0
            expected.append(
                Post(account_of(purse), pool_of(purse), lot.amount, 0, unit, (dates[0], dates[1]))
            )
    compare(state, entry.posts, expected)
    return [(NEW_STATUS, CLOSED)]


def replace(state: State, entry: Entry, card: Card) -> Changes:
    only(state, entry, frozenset())
    items = entry.items_of(NUMBER)
    if len(items) != 1:
        state.check(False, "a replace without a number")
        return []
    item = items[0]
    state.check(
        state.ever(entry.programme, item.number) is None, f"card number {item.number} is or was a card's"
    )
    code = {0: 4, 3: 41, 4: 43}.get(entry.status, 0)
    number = (NEW_NUMBER, code, item.digits, item.low, len(card.number), int(card.number))
    return [number, (NEW_STATUS, 1)]


def bind(state: State, entry: Entry) -> Changes:
    """The alias is bound if nobody has it, or moved from who was named; or it is taken off."""
    only(state, entry, frozenset())
    items = entry.items_of(ALIAS)
    if len(items) != 1:
        state.check(False, "a bind without an alias")
        return []
    key = state.alias(entry.programme, items[0])
    bound, unbind = state.aliases.get(key), entry.asked & UNBIND != 0
    named = entry.further[0][0] if entry.further else None
    if unbind:
        state.check(bound == entry.card and named is None, "took an alias off a card that has it not")
    elif bound == entry.card and named is None:
        return []
    else:
        state.check(bound == named, f"an alias of card {bound}, taken from card {named}")
    return [(NEW_ALIAS, key[1], int(not unbind), key[2])]


def set_pin(state: State, entry: Entry) -> Changes:
    only(state, entry, frozenset())
    pins = entry.changes_of(NEW_PIN)
    state.check(len(pins) == 1 or entry.asked & BY_OPERATOR != 0, "set no PIN")
    return pins[:1]


def holder(state: State, programme: Programme, entry: Entry, card: Card, plan: Plan) -> Changes:
    """The holder, and the gift for who becomes a member."""
    changes: Changes = []
    for item in entry.items_of(MEMBER):
        changes.append((NEW_HOLDER, item.low, item.amount))
        changes += to_new_member(state, programme, entry, card, item.low, plan)
    compare(state, entry.posts, plan.posts)
    return changes


def status(state: State, entry: Entry) -> Changes:
    only(state, entry, frozenset())
    state.check(entry.status in (1, 2, 3, 4), f"unknown status {entry.status}")
    return [(NEW_STATUS, entry.status)]


def nothing(state: State, entry: Entry) -> Changes:
    only(state, entry, frozenset())
    return []


def fund(state: State, entry: Entry) -> Changes:
    state.check(entry.posts == [Post(POOL, FUNDING, entry.amount)], "not the amount funded")
    return []


ALONE: dict[int, Callable[[State, Entry], Changes]] = {
    ISSUE: nothing,
    STATUS: status,
    FUND: fund,
    TRANSFER: transfer,
    BIND: bind,
    SET_PIN: set_pin,
    SET_TIER: nothing,
}
WITH_CARD: dict[int, Callable[[State, Programme, Entry, Card], Changes]] = {
    AUTHORISE: authorise,
    CLOSE: close,
}


def approved(state: State, entry: Entry, original: Entry | None, plan: Plan) -> None:
    """Hold an approved transaction, other than a refund or a reversal, to what its kind does."""
    programme, card = state.programme_of(entry), state.of(entry.card)
    kind = entry.kind
    expected: Changes = []
    if kind in ALONE:
        expected = ALONE[kind](state, entry)
    elif kind in (TOP_UP, BULK_TOP_UP):
        expected = top_up(state, programme, entry, plan)
    elif kind == ISSUE_CODES:
        expected = issue_codes(state, programme, entry)
    elif kind == CAPTURE:
        expected = capture(state, programme, entry, original, card, plan)
    elif kind == VOID:
        expected = void(state, entry, original, card)
    elif card is None:
        return
    elif kind == GRANT:
        expected = grant(state, programme, entry, card, plan)
    elif kind == PURCHASE:
        expected = purchase(state, programme, entry, card, plan)
    elif kind == HOLDER:
        expected = holder(state, programme, entry, card, plan)
    elif kind == REPLACE:
        expected = replace(state, entry, card)
    else:
        expected = WITH_CARD[kind](state, programme, entry, card)
    changes_are(state, entry, expected)
