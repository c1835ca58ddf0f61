//! What a card may spend today: its lots in the order of spending, gathered once, and less with every move that takes from them.

use crate::accounts::Account;
use crate::journal::entry::Transaction;
use crate::machine::Machine;
use crate::machine::lots::{Dates, Purse, UNDATED, card_at, is_valid, move_lot};

/// What the card at a place of a transaction may spend.
#[derive(Default)]
pub(super) struct Stock {
    card: u16,
    /// What is left of undated principal, bonus and points.
    undated: [i64; 3],
    /// The lots of the wallet, by purse.
    lots: Vec<Share>,
}

/// A lot of the wallet, as far as it may be spent.
struct Share {
    purse: u16,
    dates: Dates,
    /// What is left of it; not below zero.
    there: i64,
}

impl Stock {
    /// Where the lots of a purse begin.
    #[inline(always)]
    pub(super) fn first(&self, purse: u16) -> usize {
        let mut first = 0;
        while self.lots.get(first).is_some_and(|share| share.purse < purse) {
            first += 1;
        }
        first
    }

    /// What there is of a unit whose lots begin here.
    #[inline(always)]
    pub(super) fn of_unit(&self, first: usize, unit: u16) -> i64 {
        let mut sum = 0;
        for share in &self.lots[first..] {
            if share.purse != unit {
                break;
            }
            sum += share.there;
        }
        sum
    }

    /// Moves up to so much of a unit, whose lots begin here, to an account, lot after lot; what it was.
    #[inline(always)]
    pub(super) fn take_unit(&mut self, transaction: &mut Transaction, first: usize, unit: u16, to: Account, amount: i64) -> i64 {
        let mut left = amount;
        for share in &mut self.lots[first..] {
            if (left == 0) | (share.purse != unit) {
                break;
            }
            let taken = left.min(share.there);
            move_lot(transaction, Account::CardUnit, to, self.card, unit, share.dates, taken);
            share.there -= taken;
            left -= taken;
        }
        amount - left
    }

    /// True if it has dated lots of bonus or points: those come first.
    #[inline(always)]
    fn has_dated(&self) -> bool {
        self.lots.first().is_some_and(|share| share.purse <= Purse::POINTS)
    }

    /// What there is of principal, bonus or points.
    #[inline(always)]
    pub(super) fn of(&self, purse: u16) -> i64 {
        let dated = if self.has_dated() { self.of_unit(self.first(purse), purse) } else { 0 };
        self.undated[usize::from(purse) - 1] + dated
    }

    /// Moves up to so much of principal, bonus or points to an account, lot after lot; what it was.
    #[inline(always)]
    pub(super) fn take(&mut self, transaction: &mut Transaction, number: u16, to: Account, amount: i64) -> i64 {
        if self.has_dated() {
            return self.take_dated(transaction, number, to, amount);
        }
        let purse = Purse { card: self.card, number };
        let there = &mut self.undated[usize::from(number) - 1];
        let taken = amount.min(*there);
        move_lot(transaction, purse.account(), to, purse.card, 0, UNDATED, taken);
        *there -= taken;
        taken
    }

    /// The same where there are dated lots.
    #[inline(never)]
    fn take_dated(&mut self, transaction: &mut Transaction, number: u16, to: Account, amount: i64) -> i64 {
        let purse = Purse { card: self.card, number };
        let mut left = amount;
        let mut take = |there: &mut i64, dates: Dates| {
            let taken = left.min(*there);
            move_lot(transaction, purse.account(), to, purse.card, 0, dates, taken);
            *there -= taken;
            left -= taken;
        };
        // The undated lot is spent after those that expire, and before those that only begin.
        let mut undated = Some(&mut self.undated[usize::from(number) - 1]);
        for share in self.lots.iter_mut().filter(|share| share.purse == number) {
            if share.dates.1 == 0
                && let Some(there) = undated.take()
            {
                take(there, UNDATED);
            }
            take(&mut share.there, share.dates);
        }
        if let Some(there) = undated {
            take(there, UNDATED);
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
        stock.lots.clear();
        let Some(index) = card_at(transaction, card) else { return stock.undated = [0; 3] };
        let (mut undated, wallet) = (self.undated(index), self.wallet(index));
        if let Some(wallet) = wallet {
            undated.iter_mut().zip(wallet.rest().held).for_each(|(there, held)| *there -= held);
            stock.lots.extend(wallet.lots.iter().map(|lot| {
                let there = if is_valid(lot.dates(), today) { lot.amount - lot.held } else { 0 };
                Share { purse: lot.purse, dates: lot.dates(), there: there.max(0) }
            }));
        }
        stock.undated = undated.map(|there| there.max(0));
    }
}
