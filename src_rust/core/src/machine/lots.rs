//! Taking from lots and giving to them: how a transaction with details makes its moves.
//!
//! Moves are planned one after the other on the state as it is; what was planned before counts. Nothing is changed here.

use crate::accounts::{Account, Post};
use crate::journal::entry::{CardRef, Detail, Transaction};
use crate::machine::Machine;
use crate::rules::Tables;
use crate::wallets::Wallet;

/// First and last valid date of a lot; 0: at once, and never.
pub(super) type Dates = (i32, i32);
/// The lot that has none.
pub(super) const UNDATED: Dates = (0, 0);

/// A purse that a card has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purse {
    /// 0: the transaction's card; 1 and more: its further cards.
    pub card: u16,
    /// 1 to 3, or a unit.
    pub number: u16,
}

impl Purse {
    pub(crate) const PRINCIPAL: u16 = 1;
    pub(crate) const BONUS: u16 = 2;
    pub(crate) const POINTS: u16 = 3;

    /// The account of a card that it is.
    pub(crate) fn account(self) -> Account {
        match self.number {
            Purse::PRINCIPAL => Account::CardPrincipal,
            Purse::BONUS => Account::CardBonus,
            Purse::POINTS => Account::CardPoints,
            _ => Account::CardUnit,
        }
    }

    /// Its unit, if it is one of the rules'.
    pub(crate) fn unit(self) -> u16 {
        if self.number > Purse::POINTS { self.number } else { 0 }
    }

    /// Where what is taken out of circulation goes, and what is granted comes from.
    pub(crate) fn pool(self) -> Account {
        match self.number {
            Purse::PRINCIPAL | Purse::BONUS => Account::IssuerBonus,
            Purse::POINTS => Account::PointsPool,
            _ => Account::UnitPool,
        }
    }
}

/// Index of the card that stands at a place of a transaction.
#[inline]
pub(super) fn card_at(transaction: &Transaction, card: u16) -> Option<u32> {
    match (card, transaction.card) {
        (0, CardRef::Known { index, .. }) => Some(index),
        (0, _) => None,
        (further, _) => transaction.detail.cards.get(usize::from(further) - 1).map(|&(index, _)| index),
    }
}

/// The account that takes in money by a channel.
pub(super) fn collection(tables: &Tables, channel: u8) -> Account {
    match tables.is_collected_by_issuer(channel) {
        true => Account::IssuerCollection,
        false => Account::StoreCollection,
    }
}

/// Adds a move without a lot, unless it is of nothing.
#[inline(always)]
pub(super) fn move_plain(transaction: &mut Transaction, from: Account, to: Account, unit: u16, amount: i64) {
    move_lot(transaction, from, to, 0, unit, UNDATED, amount);
}

/// Adds a move, unless it is of nothing.
///
/// Inlined: where the accounts are known, what is summed is known, too.
#[inline(always)]
pub(super) fn move_lot(
    transaction: &mut Transaction,
    from: Account,
    to: Account,
    card: u16,
    unit: u16,
    (begins, expires): Dates,
    amount: i64,
) {
    assert!(amount >= 0, "a move takes from where it says");
    if amount > 0 {
        add_post(transaction, Post { from, to, unit, expires, begins, card, reserved: 0, amount });
    }
}

/// Adds a move as it is.
#[inline]
pub(super) fn add_post(transaction: &mut Transaction, post: Post) {
    transaction.detail.add(post, transaction.lapses_before());
}

/// True if a lot may be spent today. What was held past its last date, and is not any more, lapses with the day.
pub(super) fn is_valid((begins, expires): Dates, today: i32) -> bool {
    begins <= today && (expires == 0 || expires >= today)
}

impl Machine {
    /// The wallet of a card.
    #[inline]
    pub fn wallet(&self, index: u32) -> Option<&Wallet> {
        self.cards.wallet(index).map(|handle| self.wallets.get(handle))
    }

    /// Visits all lots of a card, purse by purse in the order of spending: purse, dates, amount, held.
    #[inline]
    pub(super) fn each_lot(&self, index: u32, mut visit: impl FnMut(u16, Dates, i64, i64)) {
        let wallet = self.wallet(index);
        let (mut lots, held) = wallet.map_or((&[][..], [0; 3]), |wallet| (&wallet.lots[..], wallet.rest().held));
        let undated = self.undated(index);
        for (at, purse) in [Purse::PRINCIPAL, Purse::BONUS, Purse::POINTS].into_iter().enumerate() {
            // The undated one stands after those that expire, and before those that only begin.
            while let [lot, after @ ..] = lots
                && lot.purse == purse
                && lot.expires != 0
            {
                visit(purse, lot.dates(), lot.amount, lot.held);
                lots = after;
            }
            visit(purse, UNDATED, undated[at], held[at]);
            while let [lot, after @ ..] = lots
                && lot.purse == purse
            {
                visit(purse, lot.dates(), lot.amount, lot.held);
                lots = after;
            }
        }
        lots.iter().for_each(|lot| visit(lot.purse, lot.dates(), lot.amount, lot.held));
    }

    /// What a lot of a card has, and what of it is held.
    pub(super) fn lot(&self, index: u32, purse: u16, dates: Dates) -> (i64, i64) {
        let wallet = self.wallet(index);
        if purse <= Purse::POINTS && dates == UNDATED {
            let at = usize::from(purse) - 1;
            return (self.undated(index)[at], wallet.map_or(0, |wallet| wallet.rest().held[at]));
        }
        wallet.map_or((0, 0), |wallet| wallet.lot(purse, dates.0, dates.1))
    }

    /// The undated principal, bonus and points of a card.
    #[inline]
    pub(super) fn undated(&self, index: u32) -> [i64; 3] {
        let card = self.cards.card(index);
        [card.principal, card.bonus, self.cards.points(index)]
    }

    /// The whole purse of a card, whatever its dates.
    pub fn purse(&self, index: u32, purse: u16) -> i64 {
        let undated = if purse <= Purse::POINTS { self.undated(index)[usize::from(purse) - 1] } else { 0 };
        undated + self.wallet(index).map_or(0, |wallet| wallet.balance(purse))
    }

    /// What the moves so far change a lot by.
    pub(super) fn planned(transaction: &Transaction, purse: Purse, (begins, expires): Dates) -> i64 {
        let of_lot = |post: &&Post| {
            (post.card, post.begins, post.expires) == (purse.card, begins, expires) && post.purse() == purse.number
        };
        let change = |post: &Post| post.card_end().map_or(0, |(_, change)| change);
        transaction.detail.posts.iter().filter(of_lot).map(change).sum()
    }

    /// What the moves so far make of a purse.
    pub(super) fn purse_after(&self, transaction: &Transaction, purse: Purse) -> i64 {
        let Some(index) = card_at(transaction, purse.card) else { return 0 };
        let of_purse = |post: &&Post| post.card == purse.card && post.purse() == purse.number;
        let change = |post: &Post| post.card_end().map_or(0, |(_, change)| change);
        self.purse(index, purse.number) + transaction.detail.posts.iter().filter(of_purse).map(change).sum::<i64>()
    }

    /// Gives to a lot from an account; first what the card owes of the unit is made good.
    #[inline(always)]
    pub(super) fn give(&self, transaction: &mut Transaction, purse: Purse, dates: Dates, from: Account, amount: i64) {
        if amount == 0 {
            return;
        }
        let owed = self.owed(transaction, purse).min(amount);
        if owed > 0 {
            let shortfall =
                if purse.number == Purse::POINTS { Account::CardShortfallPoints } else { Account::CardShortfallMoney };
            move_lot(transaction, from, shortfall, purse.card, 0, UNDATED, owed);
        }
        move_lot(transaction, from, purse.account(), purse.card, purse.unit(), dates, amount - owed);
    }

    /// What the card still owes of a purse's unit, the moves so far included; 0 or more.
    #[inline(always)]
    pub(super) fn owed(&self, transaction: &Transaction, purse: Purse) -> i64 {
        let Some(index) = card_at(transaction, purse.card) else { return 0 };
        let card = self.cards.card(index);
        let (shortfall, account) = match purse.number {
            Purse::PRINCIPAL | Purse::BONUS => (card.shortfall_money, Account::CardShortfallMoney),
            Purse::POINTS => (card.shortfall_points, Account::CardShortfallPoints),
            _ => return 0,
        };
        let detail = &transaction.detail;
        let change = if detail.cards.is_empty() { detail.sums.own(account) } else { change_of(detail, purse.card, account) };
        -(shortfall + change)
    }
}

/// What the moves so far change an account of the card at a place by, among several cards.
#[cold]
fn change_of(detail: &Detail, card: u16, account: Account) -> i64 {
    let of_it = detail.posts.iter().filter(|post| post.card == card);
    of_it.filter_map(Post::card_end).filter(|&(end, _)| end == account).map(|(_, change)| change).sum()
}
