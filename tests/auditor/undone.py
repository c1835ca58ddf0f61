"""Refunds and reversals: what they return follows from the original's moves and the lots as they are."""

from dataclasses import replace

from tests.auditor.cards import Card, Plan, shares
from tests.auditor.fees import FEES
from tests.auditor.form import (
    APPROVALS,
    AUTHORISE,
    BOUGHT,
    BULK_TOP_UP,
    CAPTURE,
    CAPTURED,
    CLEARING,
    CODE_USED,
    COLLECTION,
    GRANT,
    HELD,
    ISSUER_BONUS,
    ISSUER_COLLECTION,
    ISSUER_POINTS,
    ISSUER_UNITS,
    MARKED,
    OUT,
    OUT_AS_CODES,
    POINTS,
    POOL,
    PRINCIPAL,
    PURCHASE,
    REFUND,
    REFUNDED,
    REVERSED,
    SOLD,
    TAKEN,
    TAKEN_BY,
    TOP_UP,
    TRANSFER,
    UNDATED,
    UNIT_POOL,
    Entry,
    Post,
)
from tests.auditor.kinds import Changes, changes_are, compare
from tests.auditor.state import State

REFUNDABLE = frozenset({PURCHASE, CAPTURE, TOP_UP, GRANT})
REVERSIBLE = frozenset({TOP_UP, PURCHASE, REFUND, GRANT, AUTHORISE, CAPTURE, TRANSFER, BULK_TOP_UP})


def refund(state: State, entry: Entry, original: Entry | None, plan: Plan) -> None:
    """Refunded so far grows by the amount, and the moves are the difference of the documented parts."""
    if original is None or original.kind not in REFUNDABLE or original.code not in APPROVALS:
        state.check(False, "refund of what is not an approved sale, top-up or grant")
        return
    state.check(original.sequence not in state.reversed, "refund of what was reversed")
    before = sum(one.amount for one in state.refunds[original.sequence])
    after = before + entry.amount
    total = total_of(original)
    state.check(after <= total, f"refunded {after} of {total}")
    changes: Changes = [(REFUNDED, original.sequence, after)]
    if after <= total:
        if original.kind in (PURCHASE, CAPTURE):
            changes += refund_sale(state, entry, original, plan, (before, after, total))
        else:
            refund_taken_in(original, plan, (before, after, total))
        compare(state, entry.posts, plan.posts)
    changes_are(state, entry, changes)
    state.refunds[original.sequence].append(entry)


def total_of(original: Entry) -> int:
    """What can be refunded of it."""
    if original.kind == TOP_UP:
        return sum(post.amount for post in taken_in(original))
    if original.kind == GRANT:
        return sum(post.amount for post in original.posts if post.target == ISSUER_UNITS)
    return sum(post.amount for post in original.posts if post.target == CLEARING) + original.cash


def taken_in(original: Entry) -> list[Post]:
    """The moves by which a top-up took money in."""
    return [post for post in original.posts if post.source in (COLLECTION, ISSUER_COLLECTION)]


def rank(post: Post | None) -> int:
    """In which order those who paid share a refund; cash is None."""
    if post is None:
        return 2
    if post.source == PRINCIPAL:
        return int(post.card > 0)
    return {ISSUER_POINTS: 3, ISSUER_UNITS: 4}.get(post.source, 5 + (post.card > 0))


def refund_sale(
    state: State, entry: Entry, original: Entry, plan: Plan, progress: tuple[int, int, int]
) -> Changes:
    before, after, total = progress
    payers: list[tuple[Post | None, int]] = [
        (post, post.amount) for post in original.posts if post.target == CLEARING
    ]
    payers += [(None, original.cash)] if original.cash else []
    payers.sort(key=lambda payer: rank(payer[0]))
    amounts = [amount for _, amount in payers]
    cash = 0
    for (post, _), new, old in zip(payers, shares(amounts, after), shares(amounts, before), strict=True):
        if post is None:
            cash = new - old
        else:
            plan.bring_back(post, new - old)
    state.check(entry.cash == cash, f"{entry.cash} in cash, and not {cash}")
    changes: Changes = []
    for post in original.posts:
        returned = post.amount * after // total - post.amount * before // total
        if post.target in (POOL, UNIT_POOL):
            plan.bring_back(post, returned)
            if post.source == OUT_AS_CODES and returned:
                changes.append(free_code(original, post.unit, changes))
    for post in original.posts:
        if post.source in (POOL, ISSUER_BONUS, UNIT_POOL):
            clawed = post.amount * after // total - post.amount * before // total
            if post.source == UNIT_POOL:
                # What was used of a gift is not asked for.
                clawed = min(clawed, plan.there(post.card, post.purse, post.dates))
            plan.claw_back(post, clawed, original.posted)
    for post in original.posts:
        if post.source in FEES:
            part = post.amount * after // total - post.amount * before // total
            plan.move(Post(post.target, post.source, part, unit=post.unit))
    return changes + [(SOLD, change[1], -entry.amount) for change in original.changes_of(SOLD)]


def free_code(original: Entry, unit: int, freed: Changes) -> tuple[int, ...]:
    """The next code of a unit that is good again."""
    for change in original.changes_of(CODE_USED):
        free = (CODE_USED, unit, change[2], 0)
        if change[1] == unit and free not in freed:
            return free
    return (CODE_USED, unit, 0, 0)


def refund_taken_in(original: Entry, plan: Plan, progress: tuple[int, int, int]) -> None:
    """A top-up or a grant: the money goes back to who paid it, what was given for it is taken back."""
    before, after, total = progress
    if original.kind == TOP_UP:
        paid = taken_in(original)
    else:
        paid = [post for post in original.posts if post.target == ISSUER_UNITS]
    amounts = [post.amount for post in paid]
    for post, new, old in zip(paid, shares(amounts, after), shares(amounts, before), strict=True):
        if original.kind == GRANT and post.purse:
            plan.bring_back(post, new - old)
        else:
            plan.move(Post(post.target, post.source, new - old, post.card, post.unit, post.dates))
    for post in original.posts:
        new, old = -(-post.amount * after // total), -(-post.amount * before // total)
        if post in paid:
            continue
        if post.source == POINTS:
            plan.bring_back(post, post.amount * after // total - post.amount * before // total)
        elif post.target == CLEARING:
            plan.move(Post(post.target, post.source, new - old))
        else:
            plan.claw_back(post, new - old, original.posted)


def reversal(state: State, entry: Entry, original: Entry | None, plan: Plan) -> None:
    """What is undone is marked once; its moves come back in the opposite direction."""
    if original is None:
        void = entry.original_key in state.void
        state.check(entry.original_key is not None, "approved, and undoes nothing")
        changes_are(state, entry, [] if void else [(MARKED,)])
        state.check(not entry.posts, "moves of nothing that can be undone")
        return
    state.check((MARKED,) not in entry.changes, "voids a key that is there")
    if original.sequence in state.reversed:
        changes_are(state, entry, [])
        state.check(not entry.posts, "undone twice")
        return
    if not original.approved:
        changes_are(state, entry, [(REVERSED, original.sequence, 0)])
        state.check(not entry.posts, "undid the moves of a refusal")
        return
    state.check(original.kind in REVERSIBLE, f"undoes kind {original.kind}")
    done = state.refunds[original.sequence]
    state.check(not done, "undoes a transaction of which something was refunded")
    state.check(entry.cash == original.cash, f"{entry.cash} in cash, and not {original.cash}")
    changes: Changes = [(REVERSED, original.sequence, undone_amount(original))]
    card = state.of(entry.card)
    if original.kind == REFUND:
        changes += undo_refund(state, original)
    if original.kind == AUTHORISE:
        changes += release(state, original, card)
    else:
        changes += undo_changes(state, entry, original)
        undo_moves(state, original, plan)
    compare(state, entry.posts, plan.posts)
    changes_are(state, entry, changes)


def undone_amount(original: Entry) -> int:
    """The amount of a transaction as its answer told it."""
    if original.kind in (PURCHASE, GRANT):
        return total_of(original)
    if original.kind == AUTHORISE:
        return sum(change[2] for change in original.changes_of(HELD))
    return original.amount


def undo_refund(state: State, original: Entry) -> Changes:
    """What is refunded so far of a refund's original goes back."""
    (change,) = original.changes_of(REFUNDED) or [(REFUNDED, 0, 0)]
    done = state.refunds[change[1]]
    latest = bool(done) and done[-1].sequence == original.sequence
    state.check(latest, "undoes a refund that is not the latest of its original")
    state.check(change[1] not in state.reversed, "undoes a refund of what was reversed")
    if latest:
        done.pop()
    return [(REFUNDED, change[1], change[2] - original.amount)]


def release(state: State, original: Entry, card: Card | None) -> Changes:
    """The hold of an authorise ends, if it is there; nothing of it may have been captured."""
    state.check(
        original.sequence not in state.captured, "undoes an authorise of which something was captured"
    )
    if card is None or original.sequence not in card.holds:
        return []
    return [(CAPTURED, original.sequence, 0, 1)]


def undo_changes(state: State, entry: Entry, original: Entry) -> Changes:
    """Codes, staff sums and counts of bundles go back."""
    changes: Changes = []
    out: dict[int, int] = dict(state.programme_of(entry).out)
    given = original.amount if original.kind == GRANT else 1
    for change in original.changes:
        if change[0] == CODE_USED:
            changes.append((CODE_USED, change[1], change[2], 1 - change[3]))
        if change[0] == SOLD:
            changes.append((SOLD, change[1], -change[2]))
        if change[0] in (TAKEN, TAKEN_BY):
            place, bundle = (0, change[1]) if change[0] == TAKEN else change[1:3]
            card = state.cards_of(entry)[place]
            left = max(0, card.bundles.get(bundle, 0) - given) if card is not None else 0
            changes.append((*change[:-1], left))
        if change[0] == BOUGHT:
            changes.append((BOUGHT, 0))
        if change[0] == OUT:
            out[change[1]] = max(0, out.get(change[1], 0) - given)
            changes.append((OUT, change[1], out[change[1]]))
    return changes


def without_lapses(original: Entry) -> list[Post]:
    """The moves; what was given to a lot past its date and taken out at once went from giver to pool."""
    posts: list[Post] = []
    for post in original.posts:
        past = post.purse and 0 < post.dates[1] < original.posted and post.end is not None and post.end[1] < 0
        before = posts[-1] if posts else None
        pair = past and before is not None and before.target == post.source and before.amount == post.amount
        if pair and before is not None and (before.card, before.dates) == (post.card, post.dates):
            posts.pop()
            if before.source != post.target:
                posts.append(replace(post, source=before.source, dates=UNDATED))
        else:
            posts.append(post)
    return posts


def undo_moves(state: State, original: Entry, plan: Plan) -> None:
    """First what did not give to a purse, then what gave to one."""
    posts = without_lapses(original)
    gave = [post for post in posts if post.purse and post.end is not None and post.end[1] > 0]
    for post in posts:
        if post not in gave:
            plan.bring_back(post, post.amount)
    for post in gave:
        # Growth value that has lapsed meanwhile is not owed.
        if post.purse > 3 and post.purse not in plan.growth:
            there = plan.there(post.card, post.purse, post.dates)
            state.check(there >= post.amount, f"unit {post.purse} is not there any more")
        plan.take_back(post, post.amount)
