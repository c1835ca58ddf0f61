//! Refunds: linked, partial, cumulative, never more than was paid.
//!
//! What has been returned after so much was refunded is a function of that alone, in which every part only
//! grows and the money sums exactly: first what came from bonus and points together, then bonus within it, and the rest from principal.

use crate::accounts::Account;
use crate::codes::Code;
use crate::commands::Kind;
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::{Admitted, Found, Machine, answer_of, is_amount};
use crate::units::part_of;

/// What a refund returns, in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Returned {
    principal: i64,
    bonus: i64,
    offset: i64,
    points: i64,
    claw: i64,
}

/// What was paid, in parts; `principal` is not needed.
struct Paid {
    total: i64,
    bonus: i64,
    offset: i64,
    spent: i64,
    earned: i64,
}

impl Paid {
    fn of(purchase: &Transaction) -> Paid {
        let answer = answer_of(purchase, 0);
        Paid {
            total: answer.amount,
            bonus: -answer.bonus,
            offset: answer.offset,
            spent: answer.points_spent,
            earned: answer.points_earned,
        }
    }

    /// All that has been returned once `refunded` of the total is.
    fn returned(&self, refunded: i64) -> Returned {
        let granted = self.bonus + self.offset;
        let rest = part_of(granted, refunded, self.total);
        let bonus = if granted == 0 { 0 } else { part_of(self.bonus, rest, granted) };
        Returned {
            principal: refunded - rest,
            bonus,
            offset: rest - bonus,
            points: part_of(self.spent, refunded, self.total),
            claw: part_of(self.earned, refunded, self.total),
        }
    }
}

impl Machine {
    #[cold]
    pub(super) fn decide_refund(
        &mut self,
        admitted: &Admitted<'_>,
        found: Found<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Code {
        let amount = admitted.request.amount;
        let Found::Entry(original, purchase) = found else { return Code::OriginalNotFound };
        let mark = self.mark(original);
        if let CardRef::Known { index, .. } = purchase.card {
            self.take_card(admitted.programme, index, sequence, transaction);
        }
        let CardRef::Known { index, .. } = transaction.card else { return Code::InvalidTransaction };
        if purchase.kind != Kind::Purchase || purchase.code != Code::Approved || mark.reversed {
            return Code::InvalidTransaction;
        }
        let paid = Paid::of(purchase);
        if !is_amount(amount) || amount > paid.total - mark.refunded {
            return Code::InvalidAmount;
        }
        let refunded = mark.refunded + amount;
        let (before, after) = (paid.returned(mark.refunded), paid.returned(refunded));
        let points = after.points - before.points;
        let claw = after.claw - before.claw;
        let clawed = claw.min(self.cards.points(index) + points);
        transaction.moves.set([
            (Account::StoreClearing, Account::CardPrincipal, after.principal - before.principal),
            (Account::StoreClearing, Account::CardBonus, after.bonus - before.bonus),
            (Account::StoreClearing, Account::IssuerPoints, after.offset - before.offset),
            (Account::PointsPool, Account::CardPoints, points),
            (Account::CardPoints, Account::PointsPool, clawed),
            (Account::CardShortfallPoints, Account::PointsPool, claw - clawed),
        ]);
        transaction.changes.push(Change::Refunded { sequence: original, refunded });
        Code::Approved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_only_grow_and_close_to_the_unit(
            principal in 0i64..500, bonus in 0i64..500, offset in 0i64..500, spent in 0i64..5_000, earned in 0i64..5_000,
        ) {
            let total = principal + bonus + offset;
            prop_assume!(total > 0);
            let paid = Paid { total, bonus, offset, spent, earned };
            let mut last = Returned::default();
            for refunded in 1..=total {
                let now = paid.returned(refunded);
                prop_assert_eq!(now.principal + now.bonus + now.offset, refunded);
                prop_assert!(now.principal >= last.principal && now.bonus >= last.bonus && now.offset >= last.offset);
                prop_assert!(now.points >= last.points && now.claw >= last.claw);
                last = now;
            }
            prop_assert_eq!(last, Returned { principal, bonus, offset, points: spent, claw: earned });
        }
    }
}
