//! Reversals: the undoing of a transaction whose outcome the terminal does not know.
//!
//! Idempotent. A reversal that comes before its original marks the key, and the original is void when it comes.

use crate::accounts::Post;
use crate::codes::Code;
use crate::commands::Kind;
use crate::details::Reason;
use crate::journal::entry::{Change, Transaction};
use crate::machine::lots::{Purse, card_at, move_lot};
use crate::machine::refund::{posts_of, take_back};
use crate::machine::sale::{Refused, plain};
use crate::machine::{Admitted, Found, Machine, answer_of};
use crate::series::Serial;

impl Machine {
    #[cold]
    pub(super) fn decide_reversal(
        &mut self,
        admitted: &Admitted<'_>,
        found: Found<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        let (number, original) = match found {
            Found::Nothing => return Err(plain(Code::OriginalNotFound)),
            Found::Marked => return Ok(Code::Approved),
            Found::UnknownKey => {
                transaction.changes.push(Change::Marked);
                return Ok(Code::Approved);
            }
            Found::Entry(number, original) => (number, original),
        };
        self.take_cards_of(admitted, original, sequence, transaction);
        if !is_reversible(original.kind) {
            return Err(plain(Code::InvalidTransaction));
        }
        let mark = self.mark(number);
        if mark.reversed {
            return Ok(Code::Approved);
        }
        if !original.code.is_approved() {
            transaction.changes.push(Change::Reversed { sequence: number, amount: 0 });
            return Ok(Code::Approved);
        }
        if original.kind != Kind::Refund && mark.refunded > 0 {
            return Err(plain(Code::InvalidTransaction));
        }
        let refund = original.changes.iter().find_map(|change| match *change {
            Change::Refunded { sequence, refunded } => Some((sequence, refunded)),
            _ => None,
        });
        if let Some((sequence, refunded)) = refund {
            let now = self.mark(sequence);
            if now.reversed || now.refunded != refunded {
                return Err(plain(Code::InvalidTransaction));
            }
            transaction.changes.push(Change::Refunded { sequence, refunded: refunded - original.amount });
        }
        transaction.detailed = true;
        if original.kind == Kind::Authorise {
            self.release(transaction, number)?;
        } else {
            self.invert(admitted, original, transaction)?;
        }
        let amount = answer_of(original, number).amount;
        transaction.changes.push(Change::Reversed { sequence: number, amount });
        transaction.detail.cash = original.detail.cash;
        transaction.store = original.store;
        Ok(Code::Approved)
    }

    /// True if a code was used.
    fn is_used(&self, programme: usize, unit: u16, serial: u64) -> bool {
        let programme = &self.organisation.programmes[programme];
        programme.series.get(&unit).is_some_and(|series| series.look_up(serial, programme.calendar.open) == Serial::Used)
    }

    /// Ends the hold of an authorisation of which nothing was captured.
    fn release(&self, transaction: &mut Transaction, sequence: u64) -> Result<(), Refused> {
        let index = card_at(transaction, 0);
        let hold = index.and_then(|index| self.wallet(index)).and_then(|wallet| wallet.hold_of(sequence));
        match hold {
            Some(hold) if hold.captured == 0 => {
                transaction.changes.push(Change::Captured { sequence, captured: 0, ended: true });
                Ok(())
            }
            Some(_) => Err(plain(Code::InvalidTransaction)),
            None => Ok(()),
        }
    }

    /// The moves in the opposite direction, those that give to a card first; what a lot cannot give back the shortfall of its unit does. Things
    /// of a unit that are not there any more cannot be undone.
    fn invert(&self, admitted: &Admitted<'_>, original: &Transaction, transaction: &mut Transaction) -> Result<(), Refused> {
        let posts = posts_of(original);
        let gave = |post: &Post| post.to.is_card() && post.purse() != 0;
        let lapsed = lapsed_at_once(&posts, original.posted);
        for (at, post) in posts.iter().enumerate().filter(|(_, post)| !gave(post)) {
            if lapsed.contains(&at) {
                // It went through the card's lot and out again: both are undone in one.
                let given = &posts[at - 1];
                if post.to != given.from {
                    move_lot(transaction, post.to, given.from, post.card, post.unit, (0, 0), post.amount);
                }
            } else {
                self.bring_back(admitted, transaction, post, post.amount);
            }
        }
        for (_, post) in posts.iter().enumerate().filter(|(at, post)| gave(post) && !lapsed.contains(&(at + 1))) {
            let purse = Purse { card: post.card, number: post.purse() };
            let there = self.in_lot(transaction, purse, (post.begins, post.expires));
            let mut wanted = post.amount;
            if there < wanted && purse.number > Purse::POINTS {
                if !self.is_growth(admitted.programme, purse) {
                    return Err((Code::InsufficientFunds, Reason::Used));
                }
                wanted = there;
            }
            take_back(transaction, post, wanted.min(there), wanted);
        }
        for change in &original.changes {
            match *change {
                Change::Code { unit, serial, used: false } if self.is_used(admitted.programme, unit, serial) => {
                    return Err((Code::InsufficientFunds, Reason::Used));
                }
                Change::Code { unit, serial, used } => transaction.changes.push(Change::Code { unit, serial, used: !used }),
                Change::Sold { staff, amount } => transaction.changes.push(Change::Sold { staff, amount: -amount }),
                Change::Bought(_) => transaction.changes.push(Change::Bought(false)),
                Change::Taken { .. } | Change::Out { .. } => self.return_to_stock(admitted, original, change, transaction),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Places of the moves that took out again what the move before them had given to a lot past its last date.
fn lapsed_at_once(posts: &[Post], posted: i32) -> Vec<usize> {
    let is_pair = |pair: &[Post]| {
        let [given, taken] = pair else { return false };
        let lot = |post: &Post| (post.card, post.purse(), post.begins, post.expires, post.amount);
        given.to.is_card() && taken.from == given.to && lot(given) == lot(taken) && taken.expires != 0 && taken.expires < posted
    };
    posts.windows(2).enumerate().filter(|(_, pair)| is_pair(pair)).map(|(at, _)| at + 1).collect()
}

/// True if a transaction of this kind can be undone.
fn is_reversible(kind: Kind) -> bool {
    use Kind::*;
    matches!(kind, TopUp | Purchase | Refund | Grant | Authorise | Capture | Transfer | BulkTopUp)
}
