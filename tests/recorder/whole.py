"""Tills that ask for all that a card can do, for the crash tests; requests follow from the seed alone.

A third of the requests are those of a plain till. The rest are of cards with dated lots, coupons, visits,
holds, holders and PINs: bundles, purchases over several cards and cash, authorises with their captures and
voids, transfers, bulk top-ups; and refunds, reversals and retries of all of them.
"""

from collections.abc import Sequence

import numpy as np

from onecard import rows
from onecard.codes import Kind
from tests.recorder.shop import CARDS, COUPON, OFFERS, PLACES, VISIT, WHOLE, Till

Made = tuple[np.void, Sequence[rows.Items]]
PLAIN_SHARE = 1 / 3
REMEMBERED = 40


class WholeTill(Till):
    """Makes batches of requests of every kind, with their items."""

    def __init__(self, seed: int, day: int) -> None:
        super().__init__(seed, day)
        self.holds: list[np.void] = []
        self.made_whole: list[Made] = []

    def opens(self) -> rows.Requests:
        """Issue all cards, every second of the product that has everything; fill, grant, hold them."""
        opened = self.opening()
        opened["product"][: len(CARDS) : 2] = WHOLE
        granted = [self.row(Kind.GRANT, card=card, product=OFFERS, amount=3) for card in CARDS]
        held = [self.row(Kind.HOLDER, card=card) for card in CARDS]
        members = [[rows.member(1 + place % 2)] for place in range(len(CARDS))]
        holders = rows.with_items(np.array(held, rows.REQUEST), members)
        return rows.together(opened, np.array(granted, rows.REQUEST), holders)

    def asks(self, size: int) -> rows.Requests:
        """So many requests."""
        return rows.together(*(self.asked() for _ in range(size)))

    def asked(self) -> rows.Requests:
        if self.chance.random() < PLAIN_SHARE:
            return rows.together(np.array([self.request()], rows.REQUEST))
        made = self.whole_request()
        if made[0]["kind"] != Kind.REVERSAL:
            self.made_whole.append(made)
        return rows.with_items(np.array([made[0]], rows.REQUEST), [made[1]])

    def whole_request(self) -> Made:
        choice, card = self.chance.random(), self.chance.choice(CARDS)
        if choice < 0.30:
            return self.purchase(card)
        if choice < 0.40:
            row = self.row(
                Kind.AUTHORISE, card=card, amount=self.amount(4_000), flags=self.chance.randint(0, 3)
            )
            self.holds.append(row)
            return row, self.items()
        if choice < 0.55 and self.holds:
            return self.about_a_hold()
        if choice < 0.65:
            flags = self.chance.choice([0, rows.FLAG_FROM_CARD])
            return self.row(
                Kind.GRANT, card=card, product=OFFERS, amount=self.chance.randint(1, 2), flags=flags
            ), ()
        if choice < 0.70:
            purse = self.chance.choice([1, 3, COUPON, VISIT])
            row = self.row(Kind.TRANSFER, card=card, product=purse, amount=self.amount(3))
            return row, [rows.card(self.chance.choice(CARDS))]
        if choice < 0.75:
            return self.bulk_top_up()
        if choice < 0.80:
            return self.row(Kind.HOLDER, card=card), [
                rows.member(self.chance.randint(1, 4), real_name_known=True)
            ]
        if choice < 0.83:
            return self.pin(card)
        if choice < 0.90 and self.made_whole:
            return self.chance.choice(self.made_whole[-REMEMBERED:])
        return self.undoing()

    def purchase(self, card: str) -> Made:
        row = self.row(Kind.PURCHASE, card=card, amount=self.amount(9_000), flags=self.chance.randint(0, 3))
        items = self.items()
        if self.chance.random() < 0.3:
            items.append(rows.card(self.chance.choice(CARDS)))
        if self.chance.random() < 0.3:
            items.append(rows.cash(self.amount(5_000)))
        return row, items

    def items(self) -> list[rows.Items]:
        coupons = [rows.coupon(COUPON, self.chance.randint(1, 2))] if self.chance.random() < 0.6 else []
        return coupons + ([rows.pass_(VISIT)] if self.chance.random() < 0.4 else [])

    def about_a_hold(self) -> Made:
        if self.chance.random() < 0.25:
            return self.naming(self.row(Kind.VOID), self.holds), ()
        flags = self.chance.choice([0, rows.FLAG_FINAL])
        return self.naming(self.row(Kind.CAPTURE, amount=self.amount(2_000), flags=flags), self.holds), ()

    def bulk_top_up(self) -> Made:
        amounts = {card: self.amount(2_000) for card in self.chance.sample(CARDS, PLACES)}
        row = self.row(Kind.BULK_TOP_UP, amount=sum(amounts.values()))
        return row, [rows.card(card, amount) for card, amount in amounts.items()]

    def pin(self, card: str) -> Made:
        """An operator sets one, or a customer gives a wrong one."""
        digits = f"{self.chance.randint(0, 9999):04d}"
        if self.chance.random() < 0.5:
            return self.row(Kind.SET_PIN, card=card, flags=rows.FLAG_BY_OPERATOR), [rows.new_pin(digits)]
        return self.row(Kind.PURCHASE, card=card, amount=self.amount(100)), [rows.pin(digits)]

    def undoing(self) -> Made:
        known = [row for row, _ in self.made_whole] or [self.row(Kind.TOP_UP, card=CARDS[0], amount=1)]
        if self.chance.random() < 0.5:
            return self.naming(self.row(Kind.REFUND, amount=self.amount(2_000)), known), ()
        return self.naming(self.row(Kind.REVERSAL), known), ()

    def amount(self, most: int) -> int:
        return self.chance.randint(1, most)
