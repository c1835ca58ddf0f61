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
    /// Where in them principal, bonus, points and the units begin.
    first: [usize; 4],
}

/// A lot, as far as it may be spent.
struct Share {
    purse: u16,
    dates: Dates,
    /// What is left of it; not below zero.
    there: i64,
}

impl Stock {
    /// Where the lots of a purse begin: they lie in the order of purses.
    #[inline(always)]
    pub(super) fn place(&self, purse: u16) -> usize {
        if purse <= Purse::POINTS {
            return self.first[usize::from(purse) - 1];
        }
        let mut place = self.first[3];
        while self.shares.get(place).is_some_and(|share| share.purse < purse) {
            place += 1;
        }
        place
    }

    /// What there is of a purse whose lots begin here.
    #[inline(always)]
    pub(super) fn of(&self, place: usize, purse: u16) -> i64 {
        let mut sum = 0;
        for share in &self.shares[place..] {
            if share.purse != purse {
                break;
            }
            sum += share.there;
        }
        sum
    }

    /// Moves up to so much of a purse to an account, lot after lot; what it was.
    #[inline(always)]
    pub(super) fn take(&mut self, transaction: &mut Transaction, number: u16, to: Account, amount: i64) -> i64 {
        self.take_from(self.place(number), transaction, number, to, amount)
    }

    /// The same of a purse whose lots begin here.
    #[inline(always)]
    pub(super) fn take_from(
        &mut self,
        place: usize,
        transaction: &mut Transaction,
        number: u16,
        to: Account,
        amount: i64,
    ) -> i64 {
        let purse = Purse { card: self.card, number };
        let mut left = amount;
        for share in &mut self.shares[place..] {
            if (left == 0) | (share.purse != number) {
                break;
            }
            let taken = left.min(share.there);
            move_lot(transaction, purse.account(), to, purse.card, purse.unit(), share.dates, taken);
            share.there -= taken;
            left -= taken;
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
        stock.first = [0; 4];
        let Some(index) = card_at(transaction, card) else { return };
        self.each_lot(index, |purse, dates, amount, held| {
            let there = if is_valid(dates, today) { (amount - held).max(0) } else { 0 };
            stock.shares.push(Share { purse, dates, there });
            if purse <= Purse::POINTS {
                // Behind it the next purse begins, or another lot of this one.
                stock.first[usize::from(purse)] = stock.shares.len();
            }
        });
    }
}
