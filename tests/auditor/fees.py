"""Fees between merchants: those of a sale follow from the rules, time and place left aside."""

from collections import Counter

from tests.auditor.cards import ONE, Card
from tests.auditor.form import CARD_FEES, CLEARING, ISSUER_POINTS, STORE_FEES, Entry
from tests.auditor.state import Programme, State

FEES = frozenset({STORE_FEES, CARD_FEES})
PAIRS = frozenset({(STORE_FEES, CARD_FEES), (CARD_FEES, STORE_FEES)})


def charged(state: State, programme: Programme, entry: Entry, card: Card) -> None:
    """Each fee of the rules is charged once, and only on a card of another merchant."""
    posts = [post for post in entry.posts if post.source in FEES]
    foreign = programme.stores.get(entry.store) != card.merchant
    state.check(foreign or not posts, "a fee for a card of the store's own merchant")
    found = Counter({(post.source, post.unit): post.amount for post in posts})
    state.check(len(found) == len(posts), "a fee is charged twice")
    for rule in programme.tables.get("fees", []) if foreign else []:
        payer = CARD_FEES if rule.get("paid_by") == "card-merchant" else STORE_FEES
        said, wanted = found.pop((payer, rule["id"]), 0), amount(rule, entry, card)
        # What it asks of time and place is not looked at here: then it may not be due.
        allowed = {wanted, 0} if rule.get("when") else {wanted}
        state.check(said in allowed, f"fee {rule['id']} of {said}, and not {wanted}")
    state.check(not found, f"fees {list(found)} that the rules have not")


def amount(rule: dict[str, object], entry: Entry, card: Card) -> int:
    """What a fee comes to: a share, within its limits, and no more than it is a share of."""
    of = {name: int(str(rule.get(name, 0))) for name in ("rate", "min", "max")}
    cards = rule.get("card_merchants")
    if isinstance(cards, list) and cards and card.merchant not in cards:
        return 0
    base = entry.given(ISSUER_POINTS, CLEARING)
    if rule.get("of", "spend") == "spend":
        base = sum(post.amount for post in entry.posts if post.target == CLEARING) + entry.cash
    return min(max(base * of["rate"] // ONE, of["min"]), base, of["max"] or base)
