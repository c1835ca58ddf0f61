"""What gives back: refunds in parts, and reversals."""

from __future__ import annotations

from tests.model import fees
from tests.model.books import (
    BONUS,
    CLEARING,
    CODES,
    COLLECTION,
    ISSUER_BONUS,
    ISSUER_COLLECTION,
    ISSUER_POINTS,
    ISSUER_UNITS,
    POINTS,
    POOL,
    PRINCIPAL,
    PURSES,
    SHORT_POINTS,
    SHORTFALLS,
    UNIT_POOL,
    Card,
    Draft,
    Move,
    Place,
    Refused,
    Transaction,
    is_lot,
)
from tests.model.rows import (
    AMOUNT_MAX,
    AUTHORISE,
    BULK_TOP_UP,
    CAP,
    CAPTURE,
    GRANT,
    ONE,
    PURCHASE,
    REFUND,
    TOP_UP,
    TRANSFER,
    original_key_of,
)
from tests.model.sale import clearing, count_staff

REFUNDABLE = (PURCHASE, CAPTURE, TOP_UP, GRANT)
REVERSIBLE = (TOP_UP, PURCHASE, REFUND, GRANT, AUTHORISE, CAPTURE, TRANSFER, BULK_TOP_UP)
NOT_THERE = 3


def refund(draft: Draft) -> None:
    row, transaction = draft.row, draft.transaction
    original = draft.find_original(row)
    if original is None:
        raise Refused(25)
    transaction.card, transaction.further = original.card, list(original.further)
    refundable = original.row.kind in REFUNDABLE and original.approved() and not original.reversed
    if not refundable or (original.row.kind == GRANT and original.answer.amount == 0):
        raise Refused(12)
    before, after = original.refunded, original.refunded + row.amount
    if not 1 <= row.amount <= AMOUNT_MAX or after > paid_for(original):
        raise Refused(13)
    draft.amount = row.amount
    giving = {PURCHASE: refund_sale, CAPTURE: refund_sale, TOP_UP: refund_top_up, GRANT: refund_grant}
    giving[original.row.kind](draft, original, before, after)

    def then() -> None:
        transaction.original = original
        transaction.refunded_before = before
        original.refunded = after
        original.refunds.append(transaction)
        transaction.staff = original.staff
        count_staff(draft, original.staff, -row.amount, 0)

    draft.then.append(then)


def paid_for(original: Transaction) -> int:
    """What was paid, and can be refunded: less than came onto the card if a band has a lower price."""
    less = original.answer.discount if original.row.kind == TOP_UP else 0
    return original.answer.amount - less


# Of a sale


def refund_sale(draft: Draft, original: Transaction, before: int, after: int) -> None:
    """Money in its order, then what was spent, then what was earned goes back."""
    total = original.answer.amount
    payers = payers_of(original)
    clearing = Place(CLEARING, draft.transaction.store)
    shares = zip(payers, shared(payers, after), shared(payers, before), strict=True)
    for move, now, then in shares:
        if move.giver.account == 0:
            draft.cash = now - then
        elif is_lot(move.giver):
            draft.give_back(clearing, move.giver, now - then)
        else:
            draft.move(clearing, move.giver, now - then)
    for move in original.moves:
        if move.taker.account in (POOL, UNIT_POOL):
            amount = move.amount * after // total - move.amount * before // total
            give_units_back(draft, move, amount)
            draft.spent -= amount if move.giver.account == POINTS else 0
    for move in original.moves:
        if move.giver.account in (POOL, ISSUER_BONUS, UNIT_POOL):
            amount = move.amount * after // total - move.amount * before // total
            if move.giver.account == UNIT_POOL:
                # What was used of a gift is not asked for.
                amount = min(amount, draft.available(move.taker))
            claw_back(draft, move, amount, original.date)
    fees.give_back(draft, original, before, after, total)


def payers_of(original: Transaction) -> list[Move]:
    """The moves that paid, in the order in which a refund is shared; cash is a move from nowhere."""
    paid = [move for move in original.moves if move.taker.account == CLEARING]
    if original.cash:
        paid.append(Move(Place(0), Place(CLEARING), original.cash))

    def rank(move: Move) -> int:
        own = move.giver.owner is original.card
        ranks = {PRINCIPAL: 1 - own, 0: 2, ISSUER_POINTS: 3, ISSUER_UNITS: 4, BONUS: 6 - own}
        return ranks[move.giver.account]

    return sorted(paid, key=rank)


def shared(payers: list[Move], refunded: int) -> list[int]:
    """What each payer has back once so much was refunded."""
    left = sum(move.amount for move in payers)
    shares = []
    for move in payers:
        share = refunded - refunded * (left - move.amount) // left
        shares.append(share)
        refunded -= share
        left -= move.amount
    return shares


def give_units_back(draft: Draft, move: Move, amount: int) -> None:
    """Points, units and codes that were spent come back."""
    if is_lot(move.giver):
        draft.give_back(move.taker, move.giver, amount)
    else:
        draft.move(move.taker, move.giver, amount)


def claw_back(draft: Draft, move: Move, amount: int, date: int) -> None:
    """Take back what was given: points with what they grew to; what made good a shortfall is owed again."""
    if move.taker.account in SHORTFALLS:
        draft.move(move.taker, move.giver, amount)
    else:
        if move.taker.account == POINTS:
            amount = grown(draft, amount, date)
        draft.take_back(move.taker, move.giver, amount)
    if move.taker.account in (POINTS, SHORT_POINTS):
        draft.earned -= amount


def grown(draft: Draft, amount: int, date: int) -> int:
    """What so many points of that day would be by now."""
    carry = 0
    for day, rate in draft.growths:
        if day >= date:
            growth, carry = divmod(amount * rate + carry, ONE)
            amount += min(growth, CAP - amount)
    return amount


# Of a top-up, of a grant


def refund_top_up(draft: Draft, original: Transaction, before: int, after: int) -> None:
    paid_in = [move for move in original.moves if move.giver.account in (COLLECTION, ISSUER_COLLECTION)]
    for move, now, then in zip(paid_in, shared(paid_in, after), shared(paid_in, before), strict=True):
        if is_lot(move.taker) and draft.available(move.taker) < now - then:
            raise Refused(51)
        draft.move(move.taker, at_this_store(draft, move.giver), now - then)
    take_back_given(draft, original, before, after)


def take_back_given(draft: Draft, original: Transaction, before: int, after: int) -> None:
    """What came for the money goes back, rounded up; what it cost in points comes back."""
    total = paid_for(original)
    for move in original.moves:
        part = -(-move.amount * after // total) + -move.amount * before // total
        if move.giver.account == POINTS:
            points = move.amount * after // total - move.amount * before // total
            draft.give_back(move.taker, move.giver, points)
            draft.spent -= points
        if move.giver.account in (POOL, ISSUER_BONUS, UNIT_POOL):
            claw_back(draft, move, part, original.date)
        if move.taker.account == CLEARING:
            draft.move(clearing(draft), move.giver, part)


def at_this_store(draft: Draft, till: Place) -> Place:
    """What took money in gives it out: the issuer, or the store where the refund is made."""
    return Place(COLLECTION, draft.transaction.store) if till.account == COLLECTION else till


def refund_grant(draft: Draft, original: Transaction, before: int, after: int) -> None:
    paid = [move for move in original.moves if move.taker.account == ISSUER_UNITS]
    for move, now, then in zip(paid, shared(paid, after), shared(paid, before), strict=True):
        if is_lot(move.giver):
            draft.give_back(move.taker, move.giver, now - then)
        else:
            draft.move(move.taker, at_this_store(draft, move.giver), now - then)
    take_back_given(draft, original, before, after)


# Reversal


def reversal(draft: Draft) -> None:
    row, transaction = draft.row, draft.transaction
    original = draft.find_original(row)
    if original is None:
        if row.original or not draft.in_window(row.original_date):
            raise Refused(25)
        draft.marks.setdefault(original_key_of(row), transaction)
        return
    transaction.card, transaction.further = original.card, list(original.further)
    if original.row.kind not in REVERSIBLE:
        raise Refused(12)
    if original.reversed:
        return
    if not original.approved():
        original.reversed = True
        return
    check_undoable(original)
    undo(draft, original)


def check_undoable(original: Transaction) -> None:
    """12 if something later stands on it."""
    if original.refunded and original.row.kind != REFUND:
        raise Refused(12)
    refunded = original.original
    if original.row.kind == REFUND:
        assert refunded is not None
        if refunded.reversed or refunded.refunds[-1] is not original:
            raise Refused(12)
    if original.hold is not None and original.hold.captured:
        raise Refused(12)


def undo(draft: Draft, original: Transaction) -> None:
    """Undo the moves in two passes: those that did not give to a purse, then those that did."""
    moves = without_lapses(original)
    for move in moves:
        if move.taker.account not in PURSES:
            undo_taking(draft, move)
    for move in moves:
        if move.taker.account in PURSES:
            draft.take_back(move.taker, move.giver, move.amount, reason=NOT_THERE)
    told = original.answer
    draft.amount, draft.cash = told.amount, original.cash
    draft.spent = -told.points_spent - lapsed_points(original)
    draft.earned = -told.points_earned
    draft.then.append(lambda: forget(draft, original))


def lapsed_points(original: Transaction) -> int:
    """Points that came back and lapsed at once: nothing of them moves when that is undone."""
    whole = sum(move.amount for move in original.moves if move.giver.account == POOL)
    return whole - sum(move.amount for move in without_lapses(original) if move.giver.account == POOL)


def without_lapses(original: Transaction) -> list[Move]:
    """The moves; what was given to a lot past its date and lapsed at once went from giver to pool."""
    moves: list[Move] = []
    for move in original.moves:
        lot = move.giver
        past = lot.account in PURSES and 0 < lot.expires < original.answer.business_date
        if past and moves and moves[-1].taker == lot and moves[-1].amount == move.amount:
            given = moves.pop()
            if given.giver != move.taker:
                moves.append(Move(given.giver, move.taker, move.amount))
        else:
            moves.append(move)
    return moves


def undo_taking(draft: Draft, move: Move) -> None:
    """Give back what was taken from a purse or paid by somebody; what was made good is owed again."""
    giver, taker = move.giver, move.taker
    if taker.account == CODES and draft.balance(taker):
        raise Refused(51, NOT_THERE)
    if is_lot(giver):
        draft.give_back(taker, giver, move.amount)
    elif giver.account in SHORTFALLS:
        # What was made good since is the card's again.
        assert isinstance(giver.owner, Card)
        purse = POINTS if giver.account == SHORT_POINTS else PRINCIPAL
        draft.give(taker, giver.owner.lot(purse), move.amount)
    else:
        draft.move(taker, giver, move.amount)


def forget(draft: Draft, original: Transaction) -> None:
    """Codes went back by their moves; staff sums, bundles, holds and what was refunded go back here."""
    original.reversed = True
    draft.transaction.store = original.store
    if original.row.kind in (PURCHASE, CAPTURE, REFUND):
        sign = 1 if original.row.kind == REFUND else -1
        count_staff(draft, original.staff, sign * original.answer.amount, 0)
    if original.hold is not None:
        original.hold.ended = True
    for card, bundle, count in original.given:
        card.bundles[bundle] -= count
    draft.out.subtract(original.handed_out)
    if original.brought:
        assert original.card is not None
        original.card.bought = False
    if original.row.kind == REFUND:
        assert original.original is not None
        original.original.refunds.pop()
        original.original.refunded = original.refunded_before
