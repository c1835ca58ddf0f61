//! Reversals: the undoing of a transaction whose outcome the terminal does not know.
//!
//! Idempotent. A reversal that comes before its original marks the key, and the original is void when it comes.

use crate::accounts::{Account, Move, Moves};
use crate::codes::Code;
use crate::commands::Kind;
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::{Admitted, Found, Machine, answer_of};

impl Machine {
    #[cold]
    pub(super) fn decide_reversal(
        &mut self,
        admitted: &Admitted<'_>,
        found: Found<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Code {
        let (number, original) = match found {
            Found::Nothing => return Code::OriginalNotFound,
            Found::Marked => return Code::Approved,
            Found::UnknownKey => {
                transaction.changes.push(Change::Marked);
                return Code::Approved;
            }
            Found::Entry(number, original) => (number, original),
        };
        if let CardRef::Known { index, .. } = original.card {
            self.take_card(admitted.programme, index, sequence, transaction);
        }
        if !matches!(original.kind, Kind::TopUp | Kind::Purchase | Kind::Refund) {
            return Code::InvalidTransaction;
        }
        let mark = self.mark(number);
        if mark.reversed {
            return Code::Approved;
        }
        if original.code != Code::Approved {
            transaction.changes.push(Change::Reversed { sequence: number, amount: 0 });
            return Code::Approved;
        }
        if original.kind == Kind::Purchase && mark.refunded > 0 {
            return Code::InvalidTransaction;
        }
        if let Some(Change::Refunded { sequence: purchase, refunded }) = original.changes.first() {
            let now = self.mark(*purchase);
            if now.reversed || now.refunded != *refunded {
                return Code::InvalidTransaction;
            }
            let before = Change::Refunded { sequence: *purchase, refunded: refunded - original.amount };
            transaction.changes.push(before);
        }
        let amount = answer_of(original, number).amount;
        transaction.changes.push(Change::Reversed { sequence: number, amount });
        let CardRef::Known { index, .. } = transaction.card else { return Code::InvalidTransaction };
        self.invert(index, &original.moves, &mut transaction.moves);
        transaction.store = original.store;
        Code::Approved
    }

    /// The moves in the opposite direction, those that give to the card first; what a purse cannot give back the shortfall of its unit does.
    fn invert(&self, index: u32, original: &[Move], moves: &mut Moves) {
        let mut purses = self.balances(index);
        let from_purse = |one: &&Move| purse(one.to).is_some();
        for undone in original.iter().filter(|one| !from_purse(one)) {
            if let Some((purse, _)) = purse(undone.from) {
                purses[purse] += undone.amount;
            }
            moves.add(undone.to, undone.from, undone.amount);
        }
        for undone in original.iter().filter(from_purse) {
            let Some((purse, shortfall)) = purse(undone.to) else { continue };
            let given = undone.amount.min(purses[purse]);
            purses[purse] -= given;
            moves.add(undone.to, undone.from, given);
            moves.add(shortfall, undone.from, undone.amount - given);
        }
    }
}

/// The purse that an account of a card is, by its place among the balances, and the shortfall of its unit.
fn purse(account: Account) -> Option<(usize, Account)> {
    match account {
        Account::CardPrincipal => Some((0, Account::CardShortfallMoney)),
        Account::CardBonus => Some((1, Account::CardShortfallMoney)),
        Account::CardPoints => Some((2, Account::CardShortfallPoints)),
        _ => None,
    }
}
