//! Refunds: linked, partial, cumulative, never more than was paid; the exact inverse of what they undo.
//!
//! What has been returned after so much was refunded is a function of that alone, in which every part only grows and the money sums
//! exactly ([`shares`]). What comes back, comes back to the lots that it was taken from. Points that were earned go back with the growth that they
//! alone would have had since.

use crate::accounts::{Account, Post};
use crate::codes::Code;
use crate::commands::Kind;
use crate::growth::grow;
use crate::journal::entry::{Change, Transaction};
use crate::machine::fees::fees_of;
use crate::machine::lots::{Dates, Purse, card_at, move_lot, move_plain};
use crate::machine::sale::{Refused, plain};
use crate::machine::{Admitted, Found, Machine, is_amount};
use crate::units::part_of;

/// What each of these amounts returns of their sum once `refunded` of it is: in all exactly that.
///
/// One after the other takes its part of what is left to be shared among it and those after it, rounded up for it: so every part only grows
/// with `refunded`, and all of them are whole when everything is refunded.
fn shares(amounts: &[i64], refunded: i64) -> Vec<i64> {
    let mut whole: i64 = amounts.iter().sum();
    let mut rest = refunded;
    amounts
        .iter()
        .map(|amount| {
            let after = if whole == 0 { 0 } else { part_of(rest, whole - amount, whole) };
            let share = rest - after;
            (rest, whole) = (after, whole - amount);
            share
        })
        .collect()
}

/// The moves of a transaction; those of a plain one are of undated lots.
pub(super) fn posts_of(transaction: &Transaction) -> Vec<Post> {
    if transaction.detailed {
        return transaction.detail.posts.clone();
    }
    let undated = |one: &crate::accounts::Move| Post {
        from: one.from,
        to: one.to,
        card: 0,
        unit: 0,
        begins: 0,
        expires: 0,
        reserved: 0,
        amount: one.amount,
    };
    transaction.moves.iter().map(undated).collect()
}

/// In which order those who paid money get their shares of a refund.
fn rank(post: &Post) -> u8 {
    match (post.from, post.card) {
        (Account::CardPrincipal, 0) => 0,
        (Account::CardPrincipal, _) => 1,
        (Account::IssuerPoints, _) => 3,
        (Account::IssuerUnits, _) => 4,
        (Account::CardBonus, 0) => 5,
        _ => 6,
    }
}

/// Cash stands between principal and what the issuer paid.
const RANK_CASH: u8 = 2;

/// What was paid by a sale, and what it gave.
struct Sale {
    /// Who paid money, in the order of their shares; None: cash.
    money: Vec<(Option<Post>, i64)>,
    /// Points and units that were spent.
    spent: Vec<Post>,
    /// Points, bonus and growth value that were earned, and what came as a gift.
    earned: Vec<Post>,
    /// What merchants paid each other for it.
    fees: Vec<Post>,
}

impl Sale {
    fn of(sale: &Transaction) -> Sale {
        let posts = posts_of(sale);
        let mut money: Vec<(u8, Option<Post>, i64)> = posts
            .iter()
            .filter(|post| post.to == Account::StoreClearing)
            .map(|post| (rank(post), Some(*post), post.amount))
            .collect();
        if sale.detail.cash > 0 {
            money.push((RANK_CASH, None, sale.detail.cash));
        }
        money.sort_by_key(|payer| payer.0);
        let money = money.into_iter().map(|(_, post, amount)| (post, amount)).collect();
        let spent = |post: &Post| matches!(post.to, Account::PointsPool | Account::UnitPool);
        let earned = |post: &Post| matches!(post.from, Account::PointsPool | Account::IssuerBonus | Account::UnitPool);
        let pick = |of: &dyn Fn(&Post) -> bool| posts.iter().filter(|post| of(post)).copied().collect();
        let fees = fees_of(&posts).copied().collect();
        Sale { money, spent: pick(&spent), earned: pick(&earned), fees }
    }

    fn total(&self) -> i64 {
        self.money.iter().map(|payer| payer.1).sum()
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
    ) -> Result<Code, Refused> {
        let Found::Entry(number, original) = found else { return Err(plain(Code::OriginalNotFound)) };
        self.take_cards_of(admitted, original, sequence, transaction);
        let mark = self.mark(number);
        if card_at(transaction, 0).is_none() || !original.code.is_approved() || mark.reversed {
            return Err(plain(Code::InvalidTransaction));
        }
        transaction.detailed = true;
        match original.kind {
            Kind::Purchase | Kind::Capture => self.refund_sale(admitted, original, mark.refunded, transaction)?,
            Kind::TopUp | Kind::Grant => self.refund_taken_in(admitted, original, mark.refunded, transaction)?,
            _ => return Err(plain(Code::InvalidTransaction)),
        }
        let refunded = mark.refunded + admitted.request.amount;
        transaction.changes.push(Change::Refunded { sequence: number, refunded });
        Ok(Code::Approved)
    }

    /// Takes the cards of an original, all that there are.
    pub(super) fn take_cards_of(
        &mut self,
        admitted: &Admitted<'_>,
        original: &Transaction,
        sequence: u64,
        transaction: &mut Transaction,
    ) {
        if let Some(index) = card_at(original, 0) {
            self.take_card(admitted.programme, index, sequence, transaction);
        }
        if !original.detail.cards.is_empty() {
            transaction.detailed = true;
        }
        for &(index, _) in &original.detail.cards {
            self.touch(admitted.programme, index, sequence);
            transaction.detail.cards.push((index, self.cards.card(index).last));
        }
    }

    fn refund_sale(
        &self,
        admitted: &Admitted<'_>,
        original: &Transaction,
        before: i64,
        transaction: &mut Transaction,
    ) -> Result<(), Refused> {
        let sale = Sale::of(original);
        let (total, amount) = (sale.total(), admitted.request.amount);
        if !is_amount(amount) || amount > total - before {
            return Err(plain(Code::InvalidAmount));
        }
        let after = before + amount;
        let amounts: Vec<i64> = sale.money.iter().map(|payer| payer.1).collect();
        let shares = shares(&amounts, after).into_iter().zip(shares(&amounts, before)).map(|(after, before)| after - before);
        for ((payer, _), share) in sale.money.iter().zip(shares) {
            match payer {
                Some(post) => self.bring_back(admitted, transaction, post, share),
                None => transaction.detail.cash = share,
            }
        }
        let part = |whole| part_of(whole, after, total) - part_of(whole, before, total);
        for post in &sale.spent {
            let units = part(post.amount);
            self.bring_back(admitted, transaction, post, units);
            if post.from == Account::Codes && units > 0 {
                self.free_codes(original, post.unit, transaction);
            }
        }
        for post in &sale.earned {
            let mut wanted = part(post.amount);
            if post.from == Account::UnitPool {
                // What of a gift was used before stays used: that is no reason to keep the money.
                let purse = Purse { card: post.card, number: post.purse() };
                wanted = wanted.min(self.in_lot(transaction, purse, (post.begins, post.expires)));
            }
            self.claw_back(admitted, original, transaction, post, wanted)?;
        }
        for fee in &sale.fees {
            move_plain(transaction, fee.to, fee.from, fee.unit, part(fee.amount));
        }
        if let Some(Change::Sold { staff, .. }) = original.changes.iter().find(|change| matches!(change, Change::Sold { .. })) {
            transaction.changes.push(Change::Sold { staff: *staff, amount: -amount });
        }
        Ok(())
    }

    /// The codes of a unit that an original used may be used again: all of a unit's are given back with its last.
    fn free_codes(&self, original: &Transaction, of: u16, transaction: &mut Transaction) {
        for change in &original.changes {
            if let Change::Code { unit, serial, used: true } = *change
                && unit == of
                && !transaction.changes.contains(&Change::Code { unit, serial, used: false })
            {
                transaction.changes.push(Change::Code { unit, serial, used: false });
                return;
            }
        }
    }

    /// Gives back what a move took, to the lot that it came from. What comes back past its last date lapses, or has the days of grace.
    pub(super) fn bring_back(&self, admitted: &Admitted<'_>, transaction: &mut Transaction, post: &Post, amount: i64) {
        let programme = &self.organisation.programmes[admitted.programme];
        let today = programme.calendar.open;
        let purse = Purse { card: post.card, number: post.purse() };
        let over = purse.number != 0 && post.expires != 0 && post.expires < today;
        let grace = programme.rules.as_ref().map_or(0, |rules| rules.tables.grace_days);
        let dates: Dates = match over && grace > 0 {
            true => (post.begins, today + grace as i32 - 1),
            false => (post.begins, post.expires),
        };
        let shortfall = match post.from {
            Account::CardShortfallMoney => Some(Purse::PRINCIPAL),
            Account::CardShortfallPoints => Some(Purse::POINTS),
            _ => None,
        };
        if let Some(number) = shortfall {
            // It may have been made good since: then the purse has it.
            return self.give(transaction, Purse { card: post.card, number }, (0, 0), post.to, amount);
        }
        if purse.number == 0 {
            return move_lot(transaction, post.to, post.from, post.card, post.unit, (0, 0), amount);
        }
        let owed = self.owed(transaction, purse).min(amount);
        self.give(transaction, purse, dates, post.to, amount);
        if over && grace == 0 {
            move_lot(transaction, purse.account(), purse.pool(), post.card, purse.unit(), dates, amount - owed);
        }
    }

    /// Takes back what a move gave to the card: from the lot that it went to what that holds, of the rest the card falls short. Points go
    /// with the growth that they alone would have had since.
    pub(super) fn claw_back(
        &self,
        admitted: &Admitted<'_>,
        original: &Transaction,
        transaction: &mut Transaction,
        post: &Post,
        amount: i64,
    ) -> Result<(), Refused> {
        let purse = Purse { card: post.card, number: post.purse() };
        let mut wanted = amount;
        if purse.number == Purse::POINTS {
            wanted = self.grown_since(admitted.programme, original.posted, amount);
        }
        let there = if purse.number == 0 { 0 } else { self.in_lot(transaction, purse, (post.begins, post.expires)) };
        if self.is_growth(admitted.programme, purse) {
            wanted = wanted.min(there);
        } else if purse.number > Purse::POINTS && there < wanted {
            // Also of what was growth value under the rules of then and is not under those of now: no shortfall counts it.
            return Err(plain(Code::InsufficientFunds));
        }
        take_back(transaction, post, wanted.min(there), wanted);
        Ok(())
    }

    /// True if a purse counts growth value: of what has lapsed nothing is owed.
    pub(super) fn is_growth(&self, programme: usize, purse: Purse) -> bool {
        let rules = self.organisation.programmes[programme].rules.as_ref();
        purse.number > Purse::POINTS && rules.is_some_and(|rules| rules.tables.is_growth(purse.number))
    }

    /// What a lot would hold that may be taken, the moves so far included.
    pub(super) fn in_lot(&self, transaction: &Transaction, purse: Purse, dates: Dates) -> i64 {
        let Some(index) = card_at(transaction, purse.card) else { return 0 };
        let (amount, held) = self.lot(index, purse.number, dates);
        (amount - held + Self::planned(transaction, purse, dates)).max(0)
    }

    /// What points that came on a date are by now, alone, at the rates that were granted since.
    fn grown_since(&self, programme: usize, date: i32, amount: i64) -> i64 {
        let rates = &self.organisation.programmes[programme].growth_rates;
        let (mut balance, mut carry) = (amount, 0);
        for &(_, rate) in &rates[rates.partition_point(|&(day, _)| day < date)..] {
            grow(&mut balance, &mut carry, rate);
        }
        balance
    }

    /// A refund of a top-up or of a bundle that was sold: the money goes back to who paid it, what was granted for it is taken off the card.
    fn refund_taken_in(
        &self,
        admitted: &Admitted<'_>,
        original: &Transaction,
        before: i64,
        transaction: &mut Transaction,
    ) -> Result<(), Refused> {
        let posts = posts_of(original);
        let pays = |post: &&Post| match original.kind {
            Kind::TopUp => matches!(post.from, Account::StoreCollection | Account::IssuerCollection),
            _ => post.to == Account::IssuerUnits,
        };
        let paid: Vec<Post> = posts.iter().filter(pays).copied().collect();
        let amounts: Vec<i64> = paid.iter().map(|post| post.amount).collect();
        let (total, amount) = (amounts.iter().sum::<i64>(), admitted.request.amount);
        if total == 0 {
            return Err(plain(Code::InvalidTransaction));
        }
        if !is_amount(amount) || amount > total - before {
            return Err(plain(Code::InvalidAmount));
        }
        let after = before + amount;
        let shares = shares(&amounts, after).into_iter().zip(shares(&amounts, before)).map(|(after, before)| after - before);
        for (post, share) in paid.iter().zip(shares) {
            match post.purse() {
                // Paid by the card: it comes back to it.
                _ if post.from.is_card() => self.bring_back(admitted, transaction, post, share),
                // What is to be paid out must be there.
                Purse::PRINCIPAL if self.in_lot(transaction, Purse { card: 0, number: Purse::PRINCIPAL }, (0, 0)) < share => {
                    return Err(plain(Code::InsufficientFunds));
                }
                _ => move_lot(transaction, post.to, post.from, post.card, post.unit, (0, 0), share),
            }
        }
        let part = |whole| part_up(whole, after, total) - part_up(whole, before, total);
        for post in posts.iter().filter(|post| !pays(post)) {
            if post.from.is_card() {
                // Points that it cost.
                let points = part_of(post.amount, after, total) - part_of(post.amount, before, total);
                self.bring_back(admitted, transaction, post, points);
                continue;
            }
            if !post.to.is_card() {
                // Goods come back to the store where the refund is made.
                move_lot(transaction, post.to, post.from, 0, 0, (0, 0), part(post.amount));
                continue;
            }
            self.claw_back(admitted, original, transaction, post, part(post.amount))?;
        }
        Ok(())
    }
}

/// `ceil(amount x part / whole)`.
fn part_up(amount: i64, part: i64, whole: i64) -> i64 {
    amount - part_of(amount, whole - part, whole)
}

/// Takes back what a move gave: so much of what is wanted from its lot, of the rest the card falls short.
pub(super) fn take_back(transaction: &mut Transaction, post: &Post, taken: i64, wanted: i64) {
    move_lot(transaction, post.to, post.from, post.card, post.unit, (post.begins, post.expires), taken);
    let shortfall = if post.is_money() { Account::CardShortfallMoney } else { Account::CardShortfallPoints };
    move_lot(transaction, shortfall, post.from, post.card, 0, (0, 0), wanted - taken);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_only_grow_and_close_to_the_unit(amounts in prop::collection::vec(0i64..300, 1..6)) {
            let total: i64 = amounts.iter().sum();
            let mut last = vec![0; amounts.len()];
            for refunded in 1..=total {
                let now = shares(&amounts, refunded);
                prop_assert_eq!(now.iter().sum::<i64>(), refunded);
                prop_assert!(now.iter().zip(&last).all(|(now, last)| now >= last));
                last = now;
            }
            prop_assert!(total == 0 || last == amounts);
        }
    }
}
