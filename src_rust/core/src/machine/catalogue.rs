//! Bundles as a catalogue: who may still have some of one, and how it is handed over. How many are out is counted for the card, and for all
//! cards where there is a stock; both stand in the entry, so that the last one is given once.

use crate::accounts::Account;
use crate::codes::Code;
use crate::commands::Kind;
use crate::details::Reason;
use crate::journal::entry::{Change, Transaction};
use crate::machine::lots::{Purse, card_at, move_plain};
use crate::machine::sale::{Refused, plain};
use crate::machine::{Admitted, Machine};
use crate::rules::Bundle;

/// So many of a bundle for the card at a place of a transaction.
pub(super) struct Taking<'a> {
    pub place: u16,
    /// Its holder; 0: a card of nobody stands alone.
    pub member: u64,
    pub bundle: &'a Bundle,
    pub count: i64,
}

impl Machine {
    /// Refuses what would be too many of a bundle for the card or for its holder, or more than there are.
    pub(super) fn may_take(
        &self,
        admitted: &Admitted<'_>,
        transaction: &Transaction,
        taking: &Taking<'_>,
    ) -> Result<(), Refused> {
        let Taking { place, member, bundle, count } = *taking;
        let index = card_at(transaction, place).ok_or(plain(Code::InvalidCard))?;
        let within = |taken: i64, most: u32| most == 0 || taken + count <= i64::from(most);
        let of_card = self.taken_after(transaction, index, bundle.id);
        if of_card + count > u32::MAX.into() || !within(of_card, bundle.per_card) {
            return Err((Code::ExceedsCount, Reason::TooMany));
        }
        if bundle.per_member != 0 && !within(self.taken_by(transaction, index, member, bundle.id), bundle.per_member) {
            return Err((Code::ExceedsCount, Reason::TooMany));
        }
        if !within(self.out_after(admitted.programme, transaction, bundle.id), bundle.stock) {
            return Err((Code::ExceedsCount, Reason::SoldOut));
        }
        Ok(())
    }

    /// Gives what is in a bundle, pays the store for goods, and counts it.
    pub(super) fn hand_over(&self, admitted: &Admitted<'_>, transaction: &mut Transaction, taking: &Taking<'_>) {
        let Taking { place, bundle, count, .. } = *taking;
        let Some(index) = card_at(transaction, place) else { return };
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        for line in &bundle.grants {
            let purse = Purse { card: place, number: line.unit };
            // At most 10^14 a thousand times.
            self.give(transaction, purse, line.dates(today), purse.pool(), line.amount * count);
        }
        move_plain(transaction, Account::IssuerUnits, Account::StoreClearing, 0, bundle.worth * count);
        let taken = self.taken_after(transaction, index, bundle.id) + count;
        transaction.changes.push(Change::Taken { card: place, bundle: bundle.id, count: taken as u32 });
        if bundle.stock != 0 {
            let out = self.out_after(admitted.programme, transaction, bundle.id) + count;
            transaction.changes.push(Change::Out { bundle: bundle.id, count: out as u32 });
        }
    }

    /// How many of a bundle a card was granted, in this transaction, too.
    fn taken_after(&self, transaction: &Transaction, index: u32, bundle: u16) -> i64 {
        let planned = transaction.changes.iter().rev().find_map(|change| match *change {
            Change::Taken { card, bundle: of, count } if of == bundle && card_at(transaction, card) == Some(index) => Some(count),
            _ => None,
        });
        planned.unwrap_or_else(|| self.wallet(index).map_or(0, |wallet| wallet.taken_of(bundle))).into()
    }

    /// How many of a bundle a member was granted, on all cards that it holds now and on this one.
    pub(super) fn taken_by(&self, transaction: &Transaction, index: u32, member: u64, bundle: u16) -> i64 {
        let own = self.taken_after(transaction, index, bundle);
        if member == 0 {
            return own;
        }
        let others = self.held_by(self.cards.card(index).programme, member).filter(|&other| other != index);
        own + others.map(|other| self.taken_after(transaction, other, bundle)).sum::<i64>()
    }

    /// How many of a bundle are out, those of this transaction, too.
    fn out_after(&self, programme: usize, transaction: &Transaction, bundle: u16) -> i64 {
        let planned = transaction.changes.iter().rev().find_map(|change| match *change {
            Change::Out { bundle: of, count } if of == bundle => Some(count),
            _ => None,
        });
        planned.or_else(|| self.organisation.programmes[programme].out.get(&bundle).copied()).unwrap_or(0).into()
    }

    /// Undoes what a transaction counted of a bundle, for a card or of the stock.
    pub(super) fn return_to_stock(
        &self,
        admitted: &Admitted<'_>,
        original: &Transaction,
        counted: &Change,
        transaction: &mut Transaction,
    ) {
        // Everything but a grant gives one at a time.
        let given = if original.kind == Kind::Grant { original.amount } else { 1 };
        let less = |count: i64| (count - given).max(0) as u32;
        match *counted {
            Change::Taken { card, bundle, .. } => {
                let taken = card_at(transaction, card).map_or(0, |index| self.taken_after(transaction, index, bundle));
                transaction.changes.push(Change::Taken { card, bundle, count: less(taken) });
            }
            Change::Out { bundle, .. } => {
                let out = self.out_after(admitted.programme, transaction, bundle);
                transaction.changes.push(Change::Out { bundle, count: less(out) });
            }
            _ => {}
        }
    }
}
