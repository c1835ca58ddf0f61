//! Fees between merchants: charged with a sale on a card of another merchant, given back with what of it is undone.
//!
//! Both ends are stores': the one where the card was used, and the *seat* of the merchant that issued it, the first store that this
//! registered. So fees are in the position of a store at once, settle with it, and sum to zero over the stores.

use crate::accounts::{Account, Post};
use crate::journal::entry::Transaction;
use crate::machine::lots::{card_at, move_plain};
use crate::machine::{Admitted, Contradiction, Machine};
use crate::rules::{FeePayer, Foreign, Tables};

impl Machine {
    /// True if a sale on this card at this terminal may cost fees: there are some, and the card is another merchant's.
    #[inline]
    pub(super) fn may_charge(&self, tables: &Tables, card: u32, terminal: u32) -> bool {
        tables.has_fees() && self.is_foreign(card, terminal)
    }

    #[cold]
    fn is_foreign(&self, card: u32, terminal: u32) -> bool {
        let store = self.organisation.store_of(terminal) as usize;
        self.cards.card(card).merchant != self.organisation.stores[store].merchant
    }

    /// Adds the fees of a sale to its moves; all else of it is there already.
    #[inline]
    pub(super) fn charge(&self, admitted: &Admitted<'_>, tables: &Tables, card: u32, transaction: &mut Transaction) {
        if self.may_charge(tables, card, admitted.terminal) {
            self.charge_foreign(admitted, tables, card, transaction);
        }
    }

    #[cold]
    fn charge_foreign(&self, admitted: &Admitted<'_>, tables: &Tables, card: u32, transaction: &mut Transaction) {
        let issuer = self.cards.card(card).merchant;
        if self.organisation.seat(issuer).is_none() {
            return;
        }
        let sums = &transaction.detail.sums;
        let foreign = Foreign {
            issuer: self.organisation.merchants[issuer as usize].number,
            spend: sums.all(Account::StoreClearing) + transaction.detail.cash,
            points: -sums.all(Account::IssuerPoints),
        };
        let moment = self.moment(tables, admitted.request, admitted.terminal, card);
        for (fee, amount) in tables.fees_for(&moment, foreign) {
            let (from, to) = match fee.paid_by {
                FeePayer::Acceptor => (Account::StoreFees, Account::CardFees),
                FeePayer::CardMerchant => (Account::CardFees, Account::StoreFees),
            };
            move_plain(transaction, from, to, fee.id, amount);
        }
    }

    /// Posts a transaction's fees on the stores; `store` is the index of its store. What is damaged was turned away by
    /// [`check_fees`](Self::check_fees).
    #[inline]
    pub(super) fn post_fees(&mut self, store: u32, transaction: &Transaction) {
        let fees = transaction.detail.sums.all(Account::StoreFees);
        if fees != 0 {
            self.post_some_fees(store, transaction, fees);
        }
    }

    #[cold]
    fn post_some_fees(&mut self, store: u32, transaction: &Transaction, fees: i64) {
        let seat = card_at(transaction, 0).and_then(|card| self.organisation.seat(self.cards.card(card).merchant));
        self.organisation.fees[store as usize] += i128::from(fees);
        self.organisation.fees[seat.expect("it was looked at") as usize] -= i128::from(fees);
    }

    /// The fees of an entry that was read are those of a card whose merchant has a store.
    pub(super) fn check_fees(&self, transaction: &Transaction) -> Result<(), Contradiction> {
        if transaction.detail.sums.all(Account::StoreFees) == 0 {
            return Ok(());
        }
        let card = card_at(transaction, 0).filter(|&index| index < self.cards.len());
        match card.and_then(|card| self.organisation.seat(self.cards.card(card).merchant)) {
            Some(_) => Ok(()),
            None => Err("fees for a card that nobody issued".into()),
        }
    }
}

/// The moves of a sale that are fees.
pub(super) fn fees_of(posts: &[Post]) -> impl Iterator<Item = &Post> {
    posts.iter().filter(|post| post.from.is_fees())
}
