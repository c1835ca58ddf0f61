"""Close of day: lots that lapse, growth, and the positions of the stores."""

from collections import defaultdict

from tests.auditor.cards import ONE, Card, account_of, pool_of
from tests.auditor.form import (
    BONUS,
    CLEARING,
    COLLECTION,
    DAY_CLOSED,
    DUE,
    FUNDING,
    GROWTH,
    GROWTH_COMPLETE,
    GROWTH_OPENS,
    ISSUER_BONUS,
    ISSUER_COLLECTION,
    ISSUER_POINTS,
    ISSUER_UNITS,
    LOTS_LAPSED,
    POINTS,
    POINTS_ACCOUNTS,
    PRINCIPAL,
    RESERVE,
    SHORT_MONEY,
    STORE_ACCOUNTS,
    STORE_FEES,
    UNIT_ACCOUNTS,
    Entry,
    Leg,
)
from tests.auditor.state import Growing, Programme, State

ALGORITHM = 1


def close(state: State, entry: Entry, programme: Programme) -> None:
    """One entry of a close: its legs are what the entries before it say."""
    state.check(entry.code == 0, "a close with a code")
    date = entry.fields["date"]
    if entry.kind == GROWTH_COMPLETE:
        growth_complete(state, entry, programme)
    else:
        state.check(date == programme.open_date, f"date {date}, open is {programme.open_date}")
    if entry.kind == LOTS_LAPSED:
        lots_lapse(state, entry, programme)
    if entry.kind == GROWTH_OPENS:
        growth_opens(state, entry, programme)
    if entry.kind == DAY_CLOSED:
        day_closes(state, entry, programme)
    programme.closing = entry.kind in (LOTS_LAPSED, GROWTH_OPENS)
    post(state, entry, programme)
    if entry.kind == DAY_CLOSED:
        programme.day.clear()


def post(state: State, entry: Entry, programme: Programme) -> None:
    """Post the legs on the accounts; those of cards were taken off the lots."""
    sums: dict[str, int] = defaultdict(int)
    for leg in entry.legs:
        state.check(leg.amount != 0, "a leg of zero")
        if leg.account in UNIT_ACCOUNTS:
            sums[f"unit {leg.number}"] += leg.amount
            programme.units[leg.number or 0][leg.account] += leg.amount
            continue
        sums["points" if leg.account in POINTS_ACCOUNTS else "money"] += leg.amount
        programme.totals[leg.account] += leg.amount
        programme.day[leg.account] += leg.amount
        if leg.account in STORE_ACCOUNTS:
            state.check(leg.number in programme.stores, f"unknown store {leg.number}")
            programme.by_store[leg.account, leg.number or 0] += leg.amount
    for unit, total in sums.items():
        state.check(total == 0, f"{unit} legs sum to {total}")
    funds = programme.totals[FUNDING], programme.totals[RESERVE]
    state.check(min(funds) >= 0, "growth funding below zero")


def legs_are(state: State, entry: Entry, expected: list[Leg]) -> None:
    found, wanted = (
        [(leg.account, leg.number, leg.amount) for leg in legs] for legs in (entry.legs, expected)
    )
    state.check(found == wanted, f"legs {found} are not {wanted}")


def lots_lapse(state: State, entry: Entry, programme: Programme) -> None:
    """Holds end and lots go whose last date it is; the legs are what went."""
    state.check(programme.growing is None, "the growth of the day before is not complete")
    state.check(not programme.closing, "lots lapse within a close")
    date = entry.fields["date"]
    any_lapse = False
    lapsed: dict[tuple[int, int], int] = defaultdict(int)
    for card in (state.cards[index] for index in programme.cards):
        any_lapse = card.lapses(date) or any_lapse
        for purse, amount in card.lapse(date).items():
            lapsed[purse, card.merchant if purse == POINTS else 0] += amount
        if 0 < card.tier_until <= date:
            review(programme, card, date)
    state.check(any_lapse, "nothing was to lapse")
    expected = []
    for (purse, merchant), amount in sorted(lapsed.items()):
        unit = purse if purse > POINTS else None
        expected.append(Leg(account_of(purse), merchant or unit, -amount))
        expected.append(Leg(pool_of(purse), unit, amount))
    legs_are(state, entry, expected)


def review(programme: Programme, card: Card, date: int) -> None:
    """A tier whose last date is over is what the growth value that is left reaches."""
    if not programme.tables.get("growth_value"):
        card.tier_until = 0
        return
    card.tier = programme.reached(card)
    card.tier_until = programme.tier_until(date + 1) if card.tier else 0


def growth_opens(state: State, entry: Entry, programme: Programme) -> None:
    state.check(programme.growing is None, "the growth of the day before is not complete")
    value = entry.fields
    state.check(value["algorithm"] == ALGORITHM, f"unknown algorithm {value['algorithm']}")
    state.check(0 < value["rate"] <= ONE // 10, f"rate {value['rate']}")
    rate = programme.tables.get("compounding_rate")
    state.check(value["rate"] == rate, f"rate {value['rate']}, the rules say {rate}")
    state.check(value["rule"] == programme.rules, "not the rules in force")
    cards = [state.cards[index] for index in programme.cards]
    outstanding = sum(card.purse(POINTS) for card in cards)
    purses = len(cards) + sum(card.dated_points for card in cards)
    reserve = outstanding * value["rate"] // ONE + purses
    state.check(value["outstanding"] == outstanding, f"outstanding points are {outstanding}")
    state.check(value["purses"] == purses, f"there are {purses} purses of points")
    state.check(value["reserve"] == reserve, f"the reserve is {reserve}")
    funded = programme.totals[FUNDING] >= reserve
    state.check(
        value["funded"] == funded, f"funding is {programme.totals[FUNDING]} for a reserve of {reserve}"
    )
    moved = [Leg(FUNDING, None, -reserve), Leg(RESERVE, None, reserve)] if funded and reserve else []
    legs_are(state, entry, moved)
    if value["funded"]:
        programme.rates.append((value["date"], value["rate"]))
    programme.growing = Growing(entry)


def day_closes(state: State, entry: Entry, programme: Programme) -> None:
    day, value = programme.day, entry.fields
    date = value["date"]
    left = [index for index in programme.cards if state.cards[index].lapses(date)]
    state.check(not left, f"something of cards {left[:5]} was to lapse")
    grows = bool(programme.tables.get("compounding_rate"))
    opened = programme.growing is not None and programme.growing.opened.fields["date"] == date
    state.check(opened or not grows, "the rules have growth, and none opened")
    members = day[PRINCIPAL] + day[BONUS] + day[SHORT_MONEY]
    units = day[ISSUER_UNITS] + day[ISSUER_COLLECTION]
    state.check(value["members"] == members, f"what members hold changed by {members}")
    state.check(value["bonus"] == day[ISSUER_BONUS], f"account 32 changed by {day[ISSUER_BONUS]}")
    state.check(value["points"] == day[ISSUER_POINTS], f"account 33 changed by {day[ISSUER_POINTS]}")
    state.check(value["units"] == units, f"accounts 34 and 35 changed by {units}")
    issuer = value["members"] + value["bonus"] + value["points"] + value["units"]
    state.check(issuer == -entry.sum(DUE), f"issuer {issuer}, stores {entry.sum(DUE)}")
    expected = []
    for store in sorted(programme.stores):
        sold, taken = programme.by_store[CLEARING, store], programme.by_store[COLLECTION, store]
        fees = programme.by_store[STORE_FEES, store]
        legs = [Leg(CLEARING, store, -sold), Leg(COLLECTION, store, -taken), Leg(STORE_FEES, store, -fees)]
        legs.append(Leg(DUE, store, sold + taken + fees))
        expected += [leg for leg in legs if leg.amount]
    legs_are(state, entry, expected)
    programme.open_date += 1
    growing = programme.growing
    if growing is not None and opened:
        growing.closed = True
        if growing.opened.fields["funded"]:
            for card in (state.cards[index] for index in programme.cards):
                growth = card.grow(growing.opened.fields["rate"])
                growing.merchants[card.merchant] = growing.merchants.get(card.merchant, 0) + growth
        else:
            programme.growing = None


def growth_complete(state: State, entry: Entry, programme: Programme) -> None:
    growing, programme.growing = programme.growing, None
    if growing is None or not growing.closed:
        state.check(False, "completes a growth that was not opened")
        return
    opened, value = growing.opened.fields, entry.fields
    state.check(
        value["date"] == opened["date"] and value["algorithm"] == opened["algorithm"], "another growth"
    )
    state.check(value["growth"] == growing.total, f"growth recomputed from the lots is {growing.total}")
    reserve = opened["reserve"]
    moved = [Leg(RESERVE, None, -reserve)]
    moved += [Leg(GROWTH, merchant, growth) for merchant, growth in sorted(growing.merchants.items())]
    moved += [Leg(FUNDING, None, reserve - growing.total)]
    legs_are(state, entry, [leg for leg in moved if leg.amount])
    owed: dict[int, int] = defaultdict(int)
    for card in (state.cards[index] for index in programme.cards):
        owed[card.merchant] += card.purse(POINTS)
    liabilities = [(merchant, points) for merchant, points in sorted(owed.items()) if points]
    state.check(entry.liabilities == liabilities, f"liabilities are not {liabilities}")
    programme.grown += growing.total
