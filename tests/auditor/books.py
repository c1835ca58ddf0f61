"""The books: every entry in its turn, held to what came before it, and posted on accounts, cards and lots."""

import json
from collections import defaultdict
from typing import Any

from tests.auditor import days, kinds, undone
from tests.auditor.cards import CAP, Card, Hold, Plan, is_valid
from tests.auditor.fees import FEES
from tests.auditor.form import (
    ADVICE,
    ALIAS,
    AUTHORISE,
    BIND,
    BONUS,
    BOUGHT,
    BULK_TOP_UP,
    CAPTURE,
    CAPTURED,
    CARD,
    CARD_FEES,
    CASH,
    CLOSE,
    CODE,
    CODE_USED,
    CODES_OUT,
    COUPON,
    CURSOR,
    DUE,
    FUND,
    FUNDING,
    GRANT,
    GROWTH,
    HELD,
    HOLDER,
    ISSUE,
    ISSUE_CODES,
    ISSUER_UNITS,
    KINDS,
    LINE,
    MARKED,
    MEMBER,
    MERCHANT,
    MONEY_ACCOUNTS,
    NEW_ALIAS,
    NEW_CURSOR,
    NEW_HOLDER,
    NEW_NUMBER,
    NEW_PIN,
    NEW_STATUS,
    NEW_TIER,
    NUMBER,
    OUT,
    OUT_AS_CODES,
    PASS,
    POINTS,
    POINTS_ACCOUNTS,
    POSTED_LATER,
    PRINCIPAL,
    PROGRAMME,
    PURCHASE,
    REFUND,
    REPLACE,
    RESERVE,
    REVERSAL,
    REVERSED,
    SEEN,
    SET_PIN,
    SET_TIER,
    SHORT_MONEY,
    SHORT_POINTS,
    SOLD,
    SPENT,
    SPENT_AND_EARNED,
    STAFF,
    STATUS,
    STORE,
    STORE_ACCOUNTS,
    STORE_FEES,
    TAKEN,
    TAKEN_BY,
    TERMINAL,
    TOP_UP,
    TRANSFER,
    TRANSIT_ACCOUNTS,
    TRIES,
    UNDATED,
    UNIT,
    UNIT_ACCOUNTS,
    UNIT_MIN,
    UNIT_POOL,
    VOID,
    WITH_POINTS,
    Entry,
    Post,
)
from tests.auditor.state import Programme, State

WINDOW_DAYS = 7
AMOUNT_MAX = 10**14
MOST = {GRANT: 1_000, ISSUE_CODES: 10**7}
TRIES_MAX = 3
REASONS = frozenset({*range(15), 16})
BEHIND = 57, 13
HIGHER_TIER = 57, 16
ADVISED = 57, 14
FACTOR_MAX = 100 * 10**12

PLAIN_CODES = frozenset({0, 4, 12, 13, 14, 25, 41, 43, 46, 51, 54, 61, 62, 78})
CODES = PLAIN_CODES | {10, 55, 57, 59, 65, 70, 75}
WITH_AMOUNT = frozenset(
    {TOP_UP, PURCHASE, REFUND, FUND, GRANT, AUTHORISE, CAPTURE, TRANSFER, ISSUE_CODES, BULK_TOP_UP}
)
OF_AN_ORIGINAL = frozenset({REFUND, REVERSAL, CAPTURE, VOID})
WITHOUT_CARD = frozenset({FUND, ISSUE_CODES, BULK_TOP_UP})
BY_CARD = KINDS - OF_AN_ORIGINAL - WITHOUT_CARD
USABLE = frozenset({TOP_UP, PURCHASE, GRANT, AUTHORISE, TRANSFER, SET_PIN})
NOT_CLOSED = frozenset({STATUS, REPLACE, HOLDER, BIND, CLOSE, SET_TIER})
WITH_FURTHER = frozenset({PURCHASE, TRANSFER, BIND, BULK_TOP_UP})
ASKED = {PURCHASE: 3, AUTHORISE: 3, CAPTURE: 4, GRANT: 8, BIND: 16, SET_PIN: 32}
# Fields of the request that only some kinds use, and items that only some kinds have.
USES = {
    "product": {ISSUE, GRANT, TRANSFER, ISSUE_CODES, SET_TIER},
    "expires": {ISSUE, AUTHORISE, ISSUE_CODES},
    "status": {ISSUE, STATUS, REPLACE},
    "amount": WITH_AMOUNT,
}
ITEMS = {
    COUPON: {PURCHASE, AUTHORISE},
    CODE: {PURCHASE},
    PASS: {PURCHASE, AUTHORISE},
    CARD: WITH_FURTHER,
    CASH: {PURCHASE},
    STAFF: {PURCHASE, AUTHORISE},
    ALIAS: BY_CARD - {ISSUE},
    NUMBER: {REPLACE},
    MEMBER: {HOLDER},
    LINE: {PURCHASE, AUTHORISE},
    CURSOR: {GRANT, SET_TIER},
    SEEN: {PURCHASE, AUTHORISE},
    ADVICE: {PURCHASE, AUTHORISE},
}
ITEM_FIELDS = {
    COUPON: {"unit", "amount"},
    CODE: {"unit", "high", "low"},
    PASS: {"unit", "amount"},
    CARD: {"digits", "low", "amount"},
    CASH: {"amount"},
    STAFF: {"digits", "low"},
    ALIAS: {"digits", "high", "low"},
    NUMBER: {"digits", "low"},
    MEMBER: {"low", "amount"},
    LINE: {"unit", "low", "amount"},
    CURSOR: {"unit", "amount", "low"},
    SEEN: {"unit", "amount"},
    ADVICE: {"digits", "unit", "amount", "low"},
}
SPENDING = frozenset({PURCHASE, AUTHORISE, TRANSFER, GRANT})
OF_A_CLOSE = frozenset({DUE, RESERVE, GROWTH})
ACTIVE, CLOSED, INACTIVE = 1, 6, 5


class Books(State):
    """`post` takes the next entry."""

    def post(self, entry: Entry) -> None:
        self.place = f"entry {entry.sequence} (kind {entry.kind}, code {entry.code})"
        programme = self.programmes.get(entry.programme)
        if entry.kind == PROGRAMME:
            self.check(programme is None and entry.code == 0, "the programme is there already")
            self.programmes[entry.programme] = Programme(entry.fields["date"])
        elif programme is None:
            self.check(False, f"unknown programme {entry.programme}")
        elif entry.kind >= 40:
            days.close(self, entry, programme)
        else:
            self.check(not programme.closing, "stands within a close")
            if entry.kind in KINDS:
                self.transaction(entry, programme)
            else:
                self.register(entry, programme)

    # Registration and rules

    def register(self, entry: Entry, programme: Programme) -> None:
        self.check(entry.code == 0, "a registration that was refused")
        number = entry.fields
        if entry.kind == MERCHANT:
            self.check(number["merchant"] not in programme.merchants, "the merchant is there already")
            programme.merchants.add(number["merchant"])
        elif entry.kind == STORE:
            self.check(number["merchant"] in programme.merchants, "unknown merchant")
            self.check(number["store"] not in programme.stores, "the store is there already")
            programme.stores[number["store"]] = number["merchant"]
            programme.seats.setdefault(number["merchant"], number["store"])
        elif entry.kind == TERMINAL:
            self.check(number["store"] in programme.stores, "unknown store")
            self.check(number["terminal"] not in programme.terminals, "the terminal is there already")
            programme.terminals[number["terminal"]] = number["store"]
        else:
            self.check(number["version"] == programme.rules + 1, "a version of the rules is missing")
            tables = json.loads(entry.texts[1])
            self.check(bool(entry.texts[0]) and isinstance(tables, dict), "rules without content")
            self.places(programme, tables)
            programme.rules, programme.tables = number["version"], tables

    def places(self, programme: Programme, tables: Any) -> None:
        """Stores and merchants that rules name are registered."""
        rules = [rule for table in ("discounts", "accruals", "fees") for rule in tables.get(table, [])]
        named = [rule.get("when", {}) for rule in rules]
        named += [*tables.get("units", []), *tables.get("regions", [])]
        stores = {store for of in named for store in of.get("stores", [])}
        merchants = {merchant for of in named for merchant in of.get("merchants", [])}
        merchants |= {merchant for rule in rules for merchant in rule.get("card_merchants", [])}
        unknown = sorted(stores - programme.stores.keys()), sorted(merchants - programme.merchants)
        self.check(not any(unknown), f"rules of stores and merchants that are not there: {unknown}")

    # Transactions

    def transaction(self, entry: Entry, programme: Programme) -> None:
        self.check(entry.code in (CODES if entry.detailed else PLAIN_CODES), "a code that is not kept")
        self.check(
            entry.rule == programme.rules, f"version {entry.rule} of the rules, {programme.rules} is in force"
        )
        self.key(entry, programme)
        self.own_card(entry, programme)
        original = self.original(entry)
        self.further_cards(entry, original)
        self.named(entry)
        self.parties(entry, programme, original)
        self.inputs(entry)
        for change in entry.changes_of(TRIES):
            self.tries(entry, change)
        self.cursor(entry, programme)
        self.higher_tier(entry)
        if entry.approved:
            self.effects(entry, programme, original)
        else:
            self.refusal(entry)
        self.balances(entry)
        self.transactions[entry.sequence] = entry

    def key(self, entry: Entry, programme: Programme) -> None:
        self.check(
            entry.key not in self.keys, f"the key of entry {self.keys.get(entry.key)} again: posted twice"
        )
        self.check(entry.key not in self.void, "its key was voided by a reversal before")
        self.check(entry.key[-1] not in (0, bytes(16)), "a key of zero")
        self.keys[entry.key] = entry.sequence
        age = programme.open_date - entry.date
        self.check(0 <= age < WINDOW_DAYS, f"key dated {entry.date}, {age} days before the open day")
        self.check(
            entry.posted == programme.open_date, f"posted on {entry.posted}, open is {programme.open_date}"
        )
        self.check((entry.flags & POSTED_LATER != 0) == (age != 0), "flag 3 differs from its dates")

    # Cards

    def own_card(self, entry: Entry, programme: Programme) -> None:
        """The entry's card, linked to its entry before; an approved issue makes one."""
        if entry.number is not None:
            self.check(entry.kind == ISSUE and entry.approved, "issues a card, and is no approved issue")
            self.issue(entry, programme, entry.number)
        elif entry.card is not None:
            self.check(entry.kind != ISSUE, "an issue without a number")
            self.link(entry, entry.card, entry.previous)

    def issue(self, entry: Entry, programme: Programme, number: str) -> None:
        self.check(self.ever(entry.programme, number) is None, "the card number is taken")
        self.check(entry.card == len(self.cards), f"card index {entry.card} is not the next one")
        self.check(entry.previous == 0, "a new card with an entry before")
        self.check(not entry.expires or entry.expires >= programme.open_date, "a card that has expired")
        self.check(not programme.tables or bool(programme.row("products", entry.product)), "unknown product")
        self.numbers[entry.programme, number] = len(self.cards)
        programme.cards.append(len(self.cards))
        merchant = programme.stores.get(entry.store, 0)
        card = Card(entry.programme, number, entry.sequence, merchant, entry.product, entry.expires)
        self.check(entry.status in (0, INACTIVE), f"issued with status {entry.status}")
        card.status = entry.status or ACTIVE
        self.cards.append(card)

    def link(self, entry: Entry, index: int, previous: int) -> None:
        card = self.of(index)
        if card is None:
            self.check(False, f"unknown card index {index}")
            return
        self.check(card.programme == entry.programme, "a card of another programme")
        self.check(entry.sequence - previous == card.last, f"its card's entry before is {card.last}")
        card.last = entry.sequence

    def original(self, entry: Entry) -> Entry | None:
        """The transaction that the entry names, if it is there."""
        if entry.original_key is not None:
            sequence = self.keys.get(entry.original_key, 0)
            self.check(entry.original_key != entry.key, "names itself as original")
        else:
            sequence = entry.original
        found = self.transactions.get(sequence)
        return found if found is not None and found.programme == entry.programme else None

    def further_cards(self, entry: Entry, original: Entry | None) -> None:
        """Those of the card items, or of the original, each chained to its entry before."""
        indexes = [index for index, _ in entry.further]
        self.check(len({*indexes, entry.card}) == len(indexes) + 1, "a card stands at two places")
        for index, previous in entry.further:
            self.link(entry, index, previous)
        if entry.kind in WITH_FURTHER:
            wanted = [self.numbers.get((entry.programme, item.number)) for item in entry.items_of(CARD)]
            whole = indexes == wanted if entry.approved else indexes == wanted[: len(indexes)]
            self.check(whole, f"further cards {indexes}, the items name {wanted}")
        elif entry.kind in (REFUND, REVERSAL) and original is not None:
            wanted = [index for index, _ in original.further]
            optional = entry.card is None and not entry.approved and not indexes
            self.check(optional or indexes == wanted, f"further cards {indexes}, the original has {wanted}")
        else:
            self.check(not indexes, "further cards of a kind without")
        for index in indexes if entry.approved and entry.kind in WITH_FURTHER else []:
            self.usable(entry, self.of(index))

    def named(self, entry: Entry) -> None:
        """How the request named its card: by a number, an alias, or a cursor."""
        if entry.missing is not None:
            known = (entry.programme, entry.missing) in self.numbers
            former = self.former.get((entry.programme, entry.missing))
            taken = entry.kind == ISSUE and entry.code == 14
            ever = known or former is not None
            is_so = ever if taken else not known
            self.check(is_so, f"card number {entry.missing} is {'' if ever else 'not '}known")
            if entry.kind != ISSUE and not known:
                code = former[1] if former is not None else 14
                self.check(entry.code == code, f"card number {entry.missing} is answered with {code}")
        aliases = entry.items_of(ALIAS) if entry.kind != BIND else []
        for item in aliases:
            index = self.aliases.get(self.alias(entry.programme, item))
            self.check(index == entry.card, f"the alias leads to card {index}")
        cursors = entry.items_of(CURSOR)
        for item in cursors:
            card = self.of(item.low)
            index = item.low if card is not None and card.programme == entry.programme else None
            self.check(index == entry.card, f"the cursor names card {index}")
        found = (entry.card is not None) + (entry.missing is not None)
        if entry.kind in BY_CARD:
            lost = bool(aliases or cursors) and entry.code == 14
            self.check(found == 1 or (lost and not found), "names no card, or two")
            self.check(not entry.approved or entry.card is not None, "approved without a card")
        else:
            self.check(entry.missing is None, "names a card")
        if entry.kind in WITHOUT_CARD:
            self.check(not found, f"a kind {entry.kind} with a card")

    def usable(self, entry: Entry, card: Card | None) -> None:
        if card is not None:
            self.check(card.status == ACTIVE, f"a card that is not usable: status {card.status}")
            self.check(not card.expires or card.expires >= entry.posted, "an expired card")

    def parties(self, entry: Entry, programme: Programme, original: Entry | None) -> None:
        """Terminal, store and card are those that the request, or its original, stands for."""
        self.check(entry.terminal in programme.terminals, f"unknown terminal {entry.terminal}")
        store = programme.terminals.get(entry.terminal)
        if (
            entry.kind == REVERSAL
            and original is not None
            and entry.changes_of(REVERSED)
            and original.approved
        ):
            store = original.store
        self.check(entry.store == store, f"store {entry.store}, and not {store}")
        if entry.kind in OF_AN_ORIGINAL and entry.card is not None:
            self.check(original is not None and original.card == entry.card, "the card is not the original's")
        if entry.kind in OF_AN_ORIGINAL and entry.approved and original is not None:
            self.check(original.card == entry.card, "the card is not the original's")

    def inputs(self, entry: Entry) -> None:
        if entry.kind in WITH_AMOUNT and entry.approved:
            most = MOST.get(entry.kind, AMOUNT_MAX)
            self.check(1 <= entry.amount <= most, f"amount {entry.amount} approved")
        for name, uses in USES.items():
            value = getattr(entry, name)
            self.check(not value or entry.kind in uses, f"{name} {value} of a kind {entry.kind}")
        named = entry.original or entry.original_key
        self.check(bool(named) == (entry.kind in OF_AN_ORIGINAL), "an original of a kind without, or none")
        for item in entry.items:
            fields = {name for name in ("digits", "unit", "amount", "high", "low") if getattr(item, name)}
            fits = entry.kind in ITEMS[item.kind] and fields <= ITEM_FIELDS[item.kind]
            fits = fits and (not item.amount or item.kind != CARD or entry.kind == BULK_TOP_UP)
            self.check(fits, f"{item} in a kind {entry.kind}")
        lines = [item.amount for item in entry.items_of(LINE)]
        self.check(not lines or sum(lines) == entry.amount, f"lines of {sum(lines)}, and not {entry.amount}")
        off = all(0 <= less <= amount for less, amount in zip(entry.lines, lines, strict=entry.approved))
        self.check(off and sum(entry.lines) <= entry.discount, f"{entry.lines} off {lines}")
        self.advice(entry)
        self.states(entry)

    def advice(self, entry: Entry) -> None:
        """Python rules that the version in force names said what they may, each once; a refusal refuses."""
        tables = self.programmes[entry.programme].tables if entry.items_of(ADVICE) else {}
        required = {rule["id"]: rule.get("required", False) for rule in tables.get("python_rules", [])}
        asked = [item.unit for item in entry.items_of(ADVICE)]
        self.check(asked == sorted(set(asked)), f"Python rules {asked}")
        for item in entry.items_of(ADVICE):
            said = bool(item.amount or item.low)
            fits = said if item.digits == 0 else not said and item.digits <= 3
            fits = fits and 0 <= item.amount <= 10**12 and item.low <= FACTOR_MAX + 1
            fits = fits and item.unit in required and (item.digits < 2 or not required[item.unit])
            self.check(fits, f"{item} of a Python rule")
            self.check(item.digits != 1 or not entry.approved, "approved, though a Python rule refuses it")
        refused = any(item.digits == 1 for item in entry.items_of(ADVICE))
        self.check(
            entry.reason != ADVISED[1] or (refused and entry.code == ADVISED[0]), "refused by no Python rule"
        )

    def states(self, entry: Entry) -> None:
        """The card may be used, and flags, reason and what is told of a sale are those of its kind."""
        card = self.of(entry.card)
        in_use = entry.kind in USABLE or bool(entry.items_of(CURSOR))
        if entry.approved and in_use and not entry.asked & kinds.BY_OPERATOR:
            self.usable(entry, card)
        if entry.approved and entry.kind in NOT_CLOSED and card is not None:
            self.check(card.status != CLOSED, "a closed card")
        self.check(not entry.asked & ~ASKED.get(entry.kind, 0), f"flags {entry.asked} of a kind {entry.kind}")
        points = entry.flags & WITH_POINTS == 0 or entry.kind in (PURCHASE, AUTHORISE)
        self.check(points, "flag 4 without a sale")
        self.check(
            entry.reason in REASONS and not (entry.approved and entry.reason), f"reason {entry.reason}"
        )
        sale = entry.kind in (PURCHASE, AUTHORISE)
        self.check(entry.code != 10 or sale, "approved in part")
        self.check(sale or not entry.unpaid, "left to pay without a sale")
        priced = sale or entry.kind in (TOP_UP, BULK_TOP_UP)
        self.check(priced or not entry.discount, "a price without a sale or a top-up")
        self.check(not entry.cash or entry.kind in (PURCHASE, REFUND, REVERSAL), "cash without a sale")

    def refusal(self, entry: Entry) -> None:
        self.check(not entry.posts, "a refusal with moves")
        kept = len(entry.changes_of(TRIES)) + len(entry.changes_of(NEW_CURSOR))
        self.check(kept == len(entry.changes), "a refusal with changes")
        told = entry.cash, entry.unpaid, entry.discount
        self.check(not any(told), "a refusal that was paid")

    def tries(self, entry: Entry, change: tuple[int, ...]) -> None:
        """A right PIN takes the tries to 0, a wrong one is one more; the third ends it."""
        cards = self.cards_of(entry)
        card = cards[change[1]] if change[1] < len(cards) else None
        if card is None:
            self.check(False, f"tries of no card {change[1]}")
            return
        by_operator = entry.kind == SET_PIN and entry.asked & kinds.BY_OPERATOR != 0
        if change[2] == 0:
            self.check(by_operator or 0 < card.tries < TRIES_MAX, "a right PIN that nobody waited for")
        else:
            code = 75 if change[2] == TRIES_MAX else 55
            is_next = change[2] == card.tries + 1 <= TRIES_MAX
            self.check(is_next and card.pin is not None, f"{change[2]} tries after {card.tries}")
            self.check(entry.code == code, f"code {entry.code} to a wrong PIN")
        card.tries = change[2]

    def cursor(self, entry: Entry, programme: Programme) -> None:
        """A request whose card was found moves its cursor; one that is not beyond refuses the request."""
        moved = [change[1:] for change in entry.changes_of(NEW_CURSOR)]
        wanted = [(item.unit, item.amount, item.low) for item in entry.items_of(CURSOR)]
        beyond = [one for one in wanted if one[1:] > programme.cursors.get(one[0], (0, 0))]
        expected = beyond if entry.card is not None else []
        self.check(moved == expected, f"cursors moved to {moved}, and not to {expected}")
        if wanted and entry.card is not None:
            is_behind = (entry.code, entry.reason) == BEHIND
            self.check(is_behind != bool(beyond), f"code {entry.code}, reason {entry.reason} of a cursor")
        programme.cursors.update({trigger: (sequence, card) for trigger, sequence, card in moved})

    def higher_tier(self, entry: Entry) -> None:
        """A trigger never lowers a tier, and nothing else is refused for a higher one."""
        card = self.of(entry.card)
        by_trigger = entry.kind == SET_TIER and bool(entry.items_of(CURSOR))
        lowers = by_trigger and card is not None and entry.product < card.tier
        self.check(not (lowers and entry.approved), "a trigger lowers a tier")
        told = entry.reason == HIGHER_TIER[1]
        self.check(not told or (lowers and entry.code == HIGHER_TIER[0]), "refused for no higher tier")

    # What an approved one does

    def effects(self, entry: Entry, programme: Programme, original: Entry | None) -> None:
        grace = int(programme.tables.get("grace_days", 0))
        units = programme.tables.get("units", [])
        growth = frozenset(unit["id"] for unit in units if unit["kind"] == "growth")
        plan = Plan(self.cards_of(entry), programme.open_date, grace, programme.rates, growth)
        if entry.kind == REFUND:
            self.check(entry.detailed, "a refund without details")
            undone.refund(self, entry, original, plan)
        elif entry.kind == REVERSAL:
            undone.reversal(self, entry, original, plan)
        else:
            kinds.approved(self, entry, original, plan)
        for change in entry.changes:
            if change[0] in (CAPTURED, NEW_NUMBER):
                self.apply(entry, programme, change)
        self.moves(entry, programme)
        self.tier(entry, programme)
        own = self.of(entry.card)
        if own is not None and entry.kind in (PURCHASE, CAPTURE) and kinds.paid(entry) > 0:
            own.bought = True
        for change in entry.changes:
            if change[0] not in (CAPTURED, NEW_NUMBER, TRIES, NEW_CURSOR):
                self.apply(entry, programme, change)

    def tier(self, entry: Entry, programme: Programme) -> None:
        """A card has the tier that its growth value reaches with the entry, or that it is set to."""
        card = self.of(entry.card)
        expected: list[tuple[int, ...]] = []
        if card is not None and entry.kind == SET_TIER:
            known = entry.product in (0, *(tier["id"] for tier in programme.tables.get("tiers", [])))
            self.check(known, f"no tier {entry.product}")
            until = programme.tier_until(entry.posted) if entry.product else 0
            if entry.items_of(CURSOR) and entry.product == card.tier:
                until = 0 if 0 in (until, card.tier_until) else max(until, card.tier_until)
            expected = [(NEW_TIER, entry.product, until)]
        elif card is not None and entry.kind != AUTHORISE:
            unit = programme.tables.get("growth_value", {}).get("unit")
            if any((post.card, post.unit) == (0, unit) and post.purse for post in entry.posts):
                reached = programme.reached(card)
                if reached > card.tier:
                    expected = [(NEW_TIER, reached, programme.tier_until(entry.posted))]
        found = entry.changes_of(NEW_TIER)
        self.check(found == expected, f"tiers {found} are not {expected}")

    def apply(self, entry: Entry, programme: Programme, change: tuple[int, ...]) -> None:
        """A change of what cards, names, codes and holds are."""
        kind, card = change[0], self.of(entry.card)
        if kind == REVERSED:
            self.check(change[1] not in self.reversed, "reversed twice")
            self.reversed.add(change[1])
        elif kind == MARKED:
            self.void.add(entry.original_key or ())
        elif kind == NEW_ALIAS:
            self.name(entry, change)
        elif kind == CODES_OUT:
            programme.series[change[1]].count += change[3]
        elif kind == CODE_USED:
            self.use_code(programme, change)
        elif kind == OUT:
            programme.out[change[1]] = change[2]
        elif kind == TAKEN_BY:
            taker = self.cards_of(entry)[change[1]]
            if taker is not None:
                taker.bundles[change[2]] = change[3]
        elif kind == SOLD:
            self.check(self.of(change[1]) is not None, f"no staff card {change[1]}")
        elif card is not None and kind == BOUGHT:
            card.bought = change[1] == 1
        elif card is not None:
            self.apply_to_card(entry, card, change)

    def name(self, entry: Entry, change: tuple[int, ...]) -> None:
        key = (entry.programme, change[1], change[3])
        if change[2] and entry.card is not None:
            self.aliases[key] = entry.card
        else:
            self.aliases.pop(key, None)

    def use_code(self, programme: Programme, change: tuple[int, ...]) -> None:
        _, unit, serial, used = change
        series = programme.series[unit]
        self.check(1 <= serial <= series.count, f"code {serial} of unit {unit} never came out")
        self.check(
            (serial in series.used) == (used == 0),
            f"code {serial} of unit {unit} was {'not ' * (used == 0)}used",
        )
        (series.used.add if used else series.used.discard)(serial)

    def apply_to_card(self, entry: Entry, card: Card, change: tuple[int, ...]) -> None:
        kind = change[0]
        if kind == NEW_STATUS:
            card.status = change[1]
        elif kind == TAKEN:
            card.bundles[change[1]] = change[2]
        elif kind in (SPENT, SPENT_AND_EARNED):
            count, total, points = (*change[1:], 0)[:3]
            card.day = (entry.posted, count, total, points)
        elif kind == NEW_PIN:
            card.pin, card.tries = change[1:], 0
        elif kind == NEW_TIER:
            card.tier, card.tier_until = change[1], change[2]
        elif kind == NEW_HOLDER:
            card.member, card.named = change[1], change[2] == 1
        elif kind == NEW_NUMBER:
            number, former = str(change[3]).zfill(change[2]), str(change[5]).zfill(change[4])
            index = self.numbers.pop((card.programme, former), -1)
            self.check(index == entry.card, f"card number {former} was not its number")
            self.former[card.programme, former] = (index, change[1])
            self.numbers[card.programme, number] = index
            card.number = number
        elif kind == HELD:
            card.holds[entry.sequence] = Hold(change[1], entry.posts, *change[2:])
        elif kind == CAPTURED:
            if change[2]:
                self.captured.add(change[1])
            let_off = card.capture(change[1], change[2], ended=change[3] == 1)
            self.check(let_off, "lets off what is not held")

    # Moves

    def moves(self, entry: Entry, programme: Programme) -> None:
        """Post the moves one after the other, or hold them; no lot is below zero after any."""
        cards = self.cards_of(entry)
        for post in entry.posts:
            self.well_formed(entry, post)
            card = cards[post.card] if post.card < len(cards) else None
            if post.end is not None:
                self.check(card is not None, "a card's move without a card")
            if card is not None and post.end is not None:
                self.move(entry, card, post)
            if entry.kind != AUTHORISE:
                self.total(entry, programme, post, post.source, -post.amount)
                self.total(entry, programme, post, post.target, post.amount)
        money = entry.sum(*MONEY_ACCOUNTS)
        points = entry.sum(*POINTS_ACCOUNTS)
        self.check(money == 0, f"money legs sum to {money}")
        self.check(points == 0, f"points legs sum to {points}")
        units = [unit for unit, totals in programme.units.items() if sum(totals.values())]
        self.check(not units, f"units {units} do not sum to zero")
        self.check(programme.totals[FUNDING] >= 0, "growth funding below zero")
        transit = sum(abs(programme.totals[account]) for account in TRANSIT_ACCOUNTS)
        transit += sum(
            abs(totals[account]) for totals in programme.units.values() for account in TRANSIT_ACCOUNTS
        )
        self.check(transit == 0, "something is still in transit")

    def well_formed(self, entry: Entry, post: Post) -> None:
        """Its units, dates and place are those that its accounts have."""
        accounts = {post.source, post.target}
        self.check(1 <= post.amount <= CAP, "a leg of zero, or above the cap")
        counted = len(accounts & UNIT_ACCOUNTS)
        self.check(counted in (0, 2), f"a move from account {post.source} to {post.target}: other units")
        if counted:
            self.check(post.unit >= UNIT_MIN, f"a move of unit {post.unit}")
        else:
            tagged = accounts & (FEES | {ISSUER_UNITS})
            self.check(not post.unit or bool(tagged), f"unit {post.unit} where none is")
        self.check(not accounts & FEES or (accounts == FEES and post.unit > 0), "a fee that is none")
        self.check(post.dates == UNDATED or post.purse > PRINCIPAL, "dates where no lot is")
        self.check(not post.card or post.end is not None, "a place where no card is")
        self.check(not accounts & OF_A_CLOSE, "a move on an account of the close")

    def move(self, entry: Entry, card: Card, post: Post) -> None:
        """One move on its card: from a lot or to one, or a shortfall."""
        account, amount = post.end or (0, 0)
        if not post.purse:
            if account not in card.shortfalls:
                return
            card.shortfalls[account] += amount
            short = card.shortfalls[account]
            self.check(-CAP <= short <= 0, f"shortfall {account} of {short}")
            return
        key = (post.purse, *post.dates)
        if amount > 0:
            owed = card.shortfalls.get(
                {PRINCIPAL: SHORT_MONEY, BONUS: SHORT_MONEY, POINTS: SHORT_POINTS}.get(account, 0), 0
            )
            self.check(owed == 0, f"gives to purse {post.purse} while the card owes {-owed}")
        elif entry.kind in SPENDING:
            self.spend(entry, card, post)
        if entry.kind == AUTHORISE:
            self.check(
                card.hold(post, post.amount), f"holds {post.amount} of lot {key}, which has not so much"
            )
            return
        self.check(card.add(key, amount), f"lot {key} has not so much as {-amount}, or it is held")
        self.check(card.purse(post.purse) <= CAP, f"purse {post.purse} holds {card.purse(post.purse)}")

    def spend(self, entry: Entry, card: Card, post: Post) -> None:
        """A lot is spent when it is valid, and when what comes before it is spent."""
        self.check(is_valid(post.dates, entry.posted), f"spends a lot valid {post.dates} on {entry.posted}")
        before = card.before(post.purse, post.dates, entry.posted)
        left = sum(lot.amount - lot.held for lot in before)
        self.check(left == 0, f"spends a lot valid {post.dates} while {left} of others are there")

    def total(self, entry: Entry, programme: Programme, post: Post, account: int, amount: int) -> None:
        if account in UNIT_ACCOUNTS:
            programme.units[post.unit][account] += amount
            return
        store: int | None = entry.store
        if account == CARD_FEES:
            # It names another store's account 19.
            card = self.of(entry.card)
            store = programme.seats.get(card.merchant) if card is not None else None
            account = STORE_FEES
        programme.totals[account] += amount
        programme.day[account] += amount
        if account in STORE_ACCOUNTS:
            self.check(store in programme.stores, f"unknown store {store}")
            programme.by_store[account, store or 0] += amount

    def balances(self, entry: Entry) -> None:
        """The balances told are those of the lots: of every card three purses, and units that moved."""
        cards = self.cards_of(entry)
        if cards[0] is not None:
            rebuilt = cards[0].balances
            self.check(entry.balances == rebuilt, f"balances {entry.balances}, rebuilt {rebuilt}")
        for place, purse, balance in entry.purses:
            card = cards[place] if place < len(cards) else None
            if card is not None:
                rebuilt_purse = card.purse(purse)
                self.check(
                    balance == rebuilt_purse,
                    f"purse {purse} of card {place} has {balance}, rebuilt {rebuilt_purse}",
                )

    # At the end

    def sums(self) -> dict[str, dict[str, int]]:
        """What each unit of each programme sums to, over the cards as they stand and all other accounts."""
        self.place = "at the end"
        sums = {}
        for number, programme in self.programmes.items():
            cards = [self.cards[index] for index in programme.cards]
            held = {
                PRINCIPAL: sum(card.purse(PRINCIPAL) for card in cards),
                BONUS: sum(card.purse(BONUS) for card in cards),
                SHORT_MONEY: sum(card.shortfalls[SHORT_MONEY] for card in cards),
                SHORT_POINTS: sum(card.shortfalls[SHORT_POINTS] for card in cards),
            }
            for account, total in held.items():
                self.check(programme.totals[account] == total, f"account {account} is {total} on the cards")
            pending = programme.growing.total if programme.growing is not None else 0
            points = sum(card.purse(POINTS) for card in cards) - pending
            others = POINTS_ACCOUNTS - {POINTS, GROWTH}
            self.check(programme.totals[GROWTH] == programme.grown, "members' growth differs from the days'")
            sums[str(number)] = {
                "money": sum(programme.totals[account] for account in MONEY_ACCOUNTS),
                "points": points + sum(programme.totals[account] for account in others),
            } | self.unit_sums(programme, cards)
            for unit, total in sums[str(number)].items():
                self.check(total == 0, f"{unit} of programme {number} sums to {total}")
        return sums

    def unit_sums(self, programme: Programme, cards: list[Card]) -> dict[str, int]:
        """The units of the rules: on the cards, in the pool, and out as codes, which are those not used."""
        on_cards: dict[int, int] = defaultdict(int)
        for card in cards:
            for (purse, _, _), lot in card.lots.items():
                on_cards[purse] += lot.amount if purse > POINTS else 0
        sums = {}
        for unit, totals in sorted(programme.units.items()):
            self.check(totals[UNIT] == on_cards[unit], f"unit {unit} is {on_cards[unit]} on the cards")
            series = programme.series[unit]
            out = series.count - len(series.used)
            self.check(totals[OUT_AS_CODES] == out, f"{out} codes of unit {unit} are out")
            sums[f"unit {unit}"] = on_cards[unit] + out + totals[UNIT_POOL]
        return sums
