//! Reversals: the undoing of a transaction whose outcome the terminal does not know.
//!
//! Idempotent. A reversal that comes before its original marks the key, and the original is void when it comes.

use crate::accounts::{Account, Leg, Legs};
use crate::codes::Code;
use crate::commands::Kind;
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::{Admitted, Found, Machine, answer_of};

impl Machine {
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
        self.invert(index, &original.legs, &mut transaction.legs);
        transaction.store = original.store;
        Code::Approved
    }

    /// The legs with the opposite sign; what a purse cannot give goes to the shortfall of its unit. Credits come first.
    fn invert(&self, index: u32, original: &[Leg], legs: &mut Legs) {
        let (mut short_money, mut short_points) = (0, 0);
        let mut purses = self.balances(index);
        let credits = original.iter().filter(|leg| leg.amount < 0);
        let debits = original.iter().filter(|leg| leg.amount > 0);
        for undone in credits.chain(debits) {
            let (purse, short) = match undone.account {
                Account::CardPrincipal => (0, &mut short_money),
                Account::CardBonus => (1, &mut short_money),
                Account::CardPoints => (2, &mut short_points),
                _ => {
                    legs.add(undone.account, -undone.amount);
                    continue;
                }
            };
            let change = (-undone.amount).max(-purses[purse]);
            purses[purse] += change;
            *short += undone.amount + change;
            legs.add(undone.account, change);
        }
        legs.add(Account::CardShortfallMoney, -short_money);
        legs.add(Account::CardShortfallPoints, -short_points);
    }
}
