//! What is given beyond what was asked for: with a top-up, to a new member, with the first purchase of a card. It stands in the entry that it
//! comes with. A bundle of which there may be no more is not given, and what it would have come with is done without it.

use crate::accounts::Account;
use crate::journal::entry::{Change, Transaction};
use crate::machine::catalogue::Taking;
use crate::machine::lots::{Purse, card_at};
use crate::machine::{Admitted, Machine};
use crate::rules::{Band, Tables};

impl Machine {
    /// Points and the bundle of a band, to the card at a place.
    pub(super) fn give_with_top_up(&self, admitted: &Admitted<'_>, transaction: &mut Transaction, card: u16, band: &Band) {
        let Some(index) = card_at(transaction, card) else { return };
        let (tables, product) = self.rules_of(admitted.programme, self.cards.card(index));
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let expires = product.points_round.expires(today, product.points_days);
        self.give(transaction, Purse { card, number: Purse::POINTS }, (0, expires), Account::PointsPool, band.points);
        self.give_bundle(admitted, tables, transaction, card, self.holder(index), band.bundle);
    }

    /// The gift for who becomes a member with this card; once, on whatever cards.
    pub(super) fn welcome(&self, admitted: &Admitted<'_>, index: u32, member: u64, transaction: &mut Transaction) {
        let (tables, _) = self.rules_of(admitted.programme, self.cards.card(index));
        let bundle = tables.gifts.enrolment;
        if bundle != 0 && self.taken_by(transaction, index, member, bundle) == 0 {
            self.give_bundle(admitted, tables, transaction, 0, member, bundle);
        }
    }

    /// True if a purchase of this card is its first, and may bring a gift.
    #[inline]
    pub(super) fn is_first_purchase(&self, tables: &Tables, index: u32) -> bool {
        (tables.gifts.first_purchase != 0) & (self.cards.card(index).bought == 0)
    }

    /// The gift for the first purchase of a card, if that comes to as much as it must.
    #[cold]
    pub(super) fn give_first(
        &self,
        admitted: &Admitted<'_>,
        tables: &Tables,
        index: u32,
        transaction: &mut Transaction,
        paid: i64,
    ) {
        let gifts = tables.gifts;
        if paid >= gifts.first_purchase_min.max(1)
            && self.give_bundle(admitted, tables, transaction, 0, self.holder(index), gifts.first_purchase)
        {
            transaction.changes.push(Change::Bought(true));
        }
    }

    /// Gives one of a bundle, unless its limits, its stock or its dates say no; whether it was.
    fn give_bundle(
        &self,
        admitted: &Admitted<'_>,
        tables: &Tables,
        transaction: &mut Transaction,
        place: u16,
        member: u64,
        bundle: u16,
    ) -> bool {
        let Some(bundle) = tables.bundle(bundle) else { return false };
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let taking = Taking { place, member, bundle, count: 1 };
        let is_given = !bundle.is_over(today) && self.may_take(admitted, transaction, &taking).is_ok();
        if is_given {
            self.hand_over(admitted, transaction, &taking);
        }
        is_given
    }
}
