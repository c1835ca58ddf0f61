//! What a card may spend today: its lots in the order of spending, gathered once, and less with every move that takes from them.

use crate::accounts::Account;
use crate::journal::entry::Transaction;
use crate::machine::Machine;
use crate::machine::lots::{Dates, Purse, card_at, is_valid, move_lot};

/// What the card at a place of a transaction may spend.
#[derive(Default)]
pub(super) struct Stock {
    card: u16,
    shares: Vec<Share>,
}

/// A lot, as far as it may be spent.
struct Share {
    purse: u16,
    dates: Dates,
    /// Above zero until all of it is taken.
    there: i64,
}

impl Stock {
    /// What there is of a purse.
    #[inline]
    pub(super) fn of(&self, purse: u16) -> i64 {
        self.shares.iter().filter(|share| share.purse == purse).map(|share| share.there).sum()
    }

    /// Moves up to so much of a purse to an account, lot after lot; what it was.
    #[inline]
    pub(super) fn take(&mut self, transaction: &mut Transaction, number: u16, to: Account, amount: i64) -> i64 {
        let purse = Purse { card: self.card, number };
        let mut left = amount;
        for share in self.shares.iter_mut().filter(|share| share.purse == number) {
            let taken = left.min(share.there);
            move_lot(transaction, purse.account(), to, purse.card, purse.unit(), share.dates, taken);
            share.there -= taken;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        amount - left
    }
}

impl Machine {
    /// What the card at a place may spend on a date, before any move.
    pub(super) fn stock(&self, transaction: &Transaction, card: u16, today: i32) -> Stock {
        let mut stock = Stock::default();
        self.fill(&mut stock, transaction, card, today);
        stock
    }

    /// The same in place of what was there.
    pub(super) fn fill(&self, stock: &mut Stock, transaction: &Transaction, card: u16, today: i32) {
        stock.card = card;
        stock.shares.clear();
        let Some(index) = card_at(transaction, card) else { return };
        self.each_lot(index, |purse, dates, amount, held| {
            let there = amount - held;
            if there > 0 && is_valid(dates, today) {
                stock.shares.push(Share { purse, dates, there });
            }
        });
    }
}
