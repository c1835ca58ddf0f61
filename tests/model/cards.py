"""Finding and using cards, their PINs, and what is changed about a card without money: docs/card.md."""

from __future__ import annotations

from tests.model.books import (
    POINTS,
    PRINCIPAL,
    SHORT_MONEY,
    Books,
    Card,
    Draft,
    Place,
    Refused,
    pool_of,
    set_tier,
)
from tests.model.gifts import give_to_new_member
from tests.model.rows import (
    ACTIVE,
    ALIAS,
    AMOUNT_MAX,
    BIND,
    BY_OPERATOR,
    CARD,
    CLOSED,
    CURSOR,
    FROZEN,
    LOST,
    MEMBER,
    NEW_PIN,
    NOT_YET,
    NUMBER,
    PIN,
    STOLEN,
    TAKE_OFF,
    UNIT_MIN,
    Item,
    Row,
)

TRIES_MAX = 3
REFUSED_AS = {FROZEN: 62, LOST: 41, STOLEN: 43, NOT_YET: 78, CLOSED: 46}
FORMER_AS = {0: 4, LOST: 41, STOLEN: 43}
BOUND_ELSEWHERE, NOT_BOUND, BEHIND, HIGHER_TIER = 9, 10, 13, 16


def card_of(books: Books, digits: int, number: int) -> Card:
    """The card with a number; 14 if there is none, or what the replace said of a former number."""
    card = books.cards.get((digits, number))
    if card is None:
        raise Refused(books.former.get((digits, number), 14))
    return card


def named_card(books: Books, row: Row) -> Card:
    """The card that a request names, by its number, by an alias, or by a cursor."""
    if row.card_digits:
        return card_of(books, row.card_digits, row.card)
    for item in row.items:
        if item.kind == CURSOR:
            return issued_as(books, item.low)
    alias = next(item for item in row.items if item.kind == ALIAS)
    card = books.aliases.get((alias.digits, alias.high, alias.low))
    if card is None:
        raise Refused(14)
    return card


def issued_as(books: Books, index: int) -> Card:
    """The card of this programme that was issued as this one of all."""
    for card in books.numbers.values():
        if index < len(books.issued) and card is books.issued[index]:
            return card
    raise Refused(14)


def find_card(draft: Draft) -> Card:
    """Find the request's card, and remember whom the request is about."""
    draft.transaction.card = named_card(draft, draft.row)
    return draft.card


def find_further(draft: Draft) -> None:
    """Find the further cards in their order: each is there, is another than all before, and is usable."""
    transaction = draft.transaction
    for item in transaction.items(CARD):
        card = card_of(draft, item.digits, item.low)
        if card is transaction.card or card in transaction.further:
            raise Refused(12)
        transaction.further.append(card)
        check_usable(draft, card)


def move_cursor(draft: Draft) -> bool:
    """A trigger goes on, whatever becomes of what it grants; what it did once it does not do again."""
    for item in draft.transaction.items(CURSOR):
        at = (item.amount, item.low)
        if at <= draft.cursors.get(item.unit, (0, 0)):
            raise Refused(57, BEHIND)
        draft.cursors[item.unit] = at
        return True
    return False


def check_usable(books: Books, card: Card) -> None:
    if card.status != ACTIVE:
        raise Refused(REFUSED_AS[card.status])
    if card.expires and books.open_date > card.expires:
        raise Refused(54)


def check_not_closed(card: Card) -> None:
    if card.status == CLOSED:
        raise Refused(46)


def check_amount(amount: int, most: int = AMOUNT_MAX) -> None:
    if not 1 <= amount <= most:
        raise Refused(13)


# PINs


def pins_of(draft: Draft) -> list[list[Item]]:
    """The PINs that are given: of the request's card, then of each further card."""
    pins: list[list[Item]] = [[]]
    for item in draft.row.items:
        if item.kind == CARD:
            pins.append([])
        if item.kind == PIN:
            pins[-1].append(item)
    return pins


def check_pins(draft: Draft, needed: list[bool]) -> None:
    """Check what PINs are given, card by card; 70 if one is needed and not given."""
    cards = [draft.card, *draft.transaction.further]
    for card, given, need in zip(cards, pins_of(draft), needed, strict=True):
        check_card_pins(card, given, needed=need)


def check_card_pins(card: Card, given: list[Item], *, needed: bool) -> None:
    for pin in given:
        check_pin(card, pin)
    if needed and not given:
        raise Refused(70)


def check_pin(card: Card, given: Item) -> None:
    """Check a PIN; its tries are kept, whatever becomes of the request."""
    if card.pin is None:
        raise Refused(55)
    if card.tries >= TRIES_MAX:
        raise Refused(75)
    if card.pin != (given.digits, given.low):
        card.tries += 1
        raise Refused(75 if card.tries == TRIES_MAX else 55)
    card.tries = 0


def of_same_holder(card: Card, other: Card) -> bool:
    return card.member == other.member != 0


def set_pin(draft: Draft) -> None:
    card = find_card(draft)
    new = draft.transaction.items(NEW_PIN)
    if not draft.row.flags & BY_OPERATOR:
        check_usable(draft, card)
        check_pins(draft, [card.pin is not None])

    def then() -> None:
        card.tries = 0
        if new:
            card.pin = (new[0].digits, new[0].low)

    draft.then.append(then)


# State, number, holder, alias


def issue(draft: Draft) -> None:
    row = draft.row
    number = (row.card_digits, row.card)
    if number in draft.cards or number in draft.former:
        raise Refused(14)
    if row.product not in [product["id"] for product in draft.products()]:
        raise Refused(12)
    if row.expires and row.expires < draft.open_date:
        raise Refused(12)
    merchant, _ = draft.stores[draft.transaction.store]
    card = Card(number, row.product, row.expires, merchant, row.status or ACTIVE)
    draft.transaction.card = draft.cards[number] = draft.numbers[number] = card
    draft.issued.append(card)


def set_status(draft: Draft) -> None:
    card = find_card(draft)
    check_not_closed(card)
    card.status = draft.row.status


def replace(draft: Draft) -> None:
    card = find_card(draft)
    check_not_closed(card)
    (item,) = draft.transaction.items(NUMBER)
    number = (item.digits, item.low)
    if number in draft.cards or number in draft.former:
        raise Refused(14)
    del draft.cards[card.number]
    draft.former[card.number] = FORMER_AS[draft.row.status]
    draft.cards[number] = draft.numbers[number] = card
    card.number = number
    card.status = ACTIVE


def change_tier(draft: Draft) -> None:
    """A trigger does it to cards that may be used alone, and never lowers a tier or ends it earlier."""
    card = find_card(draft)
    by_trigger = move_cursor(draft)
    if by_trigger:
        check_usable(draft, card)
    check_not_closed(card)
    tier = draft.row.product
    if tier and tier not in [row["id"] for row in draft.rules().get("tiers", [])]:
        raise Refused(12)
    if by_trigger and tier < card.tier:
        raise Refused(57, HIGHER_TIER)
    until = draft.tier_until(draft.open_date) if tier else 0
    if by_trigger and tier == card.tier:
        until = 0 if until == 0 or card.tier_until == 0 else max(until, card.tier_until)
    draft.tier = tier
    draft.then.append(lambda: set_tier(card, tier, until))


def set_holder(draft: Draft) -> None:
    card = find_card(draft)
    check_not_closed(card)
    (item,) = draft.transaction.items(MEMBER)
    if card.member == 0 != item.low:
        give_to_new_member(draft, card, item.low)

    def then() -> None:
        card.member, card.real_name = item.low, item.amount

    draft.then.append(then)


def bind(draft: Draft) -> None:
    assert draft.row.kind == BIND
    card = find_card(draft)
    check_not_closed(card)
    find_further(draft)
    (item,) = draft.transaction.items(ALIAS)
    alias = (item.digits, item.high, item.low)
    bound = draft.aliases.get(alias)
    named = draft.transaction.further[0] if draft.transaction.further else None
    if (named is not None and bound is not named) or (draft.row.flags & TAKE_OFF and bound is not card):
        raise Refused(57, NOT_BOUND)
    takes_off = draft.row.flags & TAKE_OFF
    if not takes_off and bound is not None and bound is not card and bound is not named:
        raise Refused(57, BOUND_ELSEWHERE)
    own, *of_further = pins_of(draft)
    for given in of_further:
        assert named is not None
        check_card_pins(named, given, needed=named.pin is not None)
    check_card_pins(card, own, needed=False)
    if takes_off:
        del draft.aliases[alias]
    else:
        draft.aliases[alias] = card


def close(draft: Draft) -> None:
    """Pay out the principal, and take back all else."""
    card = find_card(draft)
    check_not_closed(card)
    if any(not hold.ended for hold in card.holds):
        raise Refused(12)
    collection = draft.collection(draft.row, draft.transaction.store)
    for purse in (PRINCIPAL, 2, POINTS, *draft.units_of(card)):
        for lot in draft.lots(card, purse):
            amount = draft.balance(lot)
            if purse == PRINCIPAL:
                owed = min(amount, -draft.balance(Place(SHORT_MONEY, card)))
                draft.move(lot, Place(SHORT_MONEY, card), owed)
                draft.move(lot, collection, amount - owed)
                draft.amount += amount - owed
            else:
                draft.move(lot, pool_of(lot), amount)

    def then() -> None:
        card.status = CLOSED

    draft.then.append(then)


# From card to card


def transfer(draft: Draft) -> None:
    """The lots that are spent first go over with their dates."""
    row = draft.row
    card = find_card(draft)
    check_usable(draft, card)
    find_further(draft)
    check_amount(row.amount)
    purse = row.product
    unit_ok = purse >= UNIT_MIN and draft.unit_rule(purse) is not None and not draft.is_growth(purse)
    if purse not in (PRINCIPAL, POINTS) and not unit_ok:
        raise Refused(12)
    (giver,) = draft.transaction.further
    check_pins(draft, [False, not of_same_holder(card, giver)])
    if draft.spendable(giver, purse) < row.amount:
        raise Refused(51)
    transit = Place(TRANSIT[min(purse, UNIT_MIN)], None, purse if purse >= UNIT_MIN else 0)
    draft.spend(giver, purse, row.amount, transit)
    for lot, _, amount in list(draft.moves):
        draft.give(transit, card.lot(purse, lot.begins, lot.expires), amount)
    assert draft.balance(transit) == 0
    draft.amount = row.amount
    if purse == PRINCIPAL:
        check_balance_max(draft, card)


TRANSIT = {PRINCIPAL: 46, POINTS: 47, UNIT_MIN: 48}


def check_balance_max(draft: Draft, card: Card) -> None:
    """61 if principal and bonus have come to more than the card's limit."""
    most = draft.limits_of(card)["balance_max"]
    if most and draft.purse(PRINCIPAL, card) + draft.purse(2, card) > most:
        raise Refused(61)
