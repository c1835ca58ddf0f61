//! Tiers: reached at once by growth value, set by hand, reviewed when their time is over.
//!
//! A tier lies in the wallet; the card's record has a copy, so that pricing needs not look at the wallet. Nothing lowers a tier but its review, at
//! the close of its last date, and who sets it; a trigger that sets it does not.

use crate::accounts::Account;
use crate::codes::Code;
use crate::details::Reason;
use crate::journal::entry::{Change, Transaction};
use crate::machine::lots::{Purse, card_at};
use crate::machine::sale::{Refused, plain};
use crate::machine::{Admitted, Machine};
use crate::rules::Tables;
use crate::wallets::Wallet;

impl Machine {
    /// Raises the card of a transaction to the tier that its growth value reaches with it.
    #[inline]
    pub(super) fn raise_tier(&self, programme: usize, transaction: &mut Transaction) {
        let programme = &self.organisation.programmes[programme];
        let Some(tables) = programme.rules.as_ref().map(|rules| &rules.tables) else { return };
        if let Some(growth) = tables.growth_value.as_ref()
            && transaction.detail.units.iter().any(|of| (of.0, of.1) == (0, growth.unit))
            && let Some(index) = card_at(transaction, 0).filter(|&index| index < self.cards.len())
        {
            let reached = tables.reached(self.purse_after(transaction, Purse { card: 0, number: growth.unit }));
            if reached > self.cards.card(index).tier {
                let until = growth.lasts_until(programme.calendar.open);
                transaction.changes.push(Change::Tier { tier: reached, until });
            }
        }
    }

    /// Growth value that a sale earns, to the lot of its window.
    #[inline]
    pub(super) fn give_growth(&self, tables: &Tables, transaction: &mut Transaction, today: i32, growth: i64) {
        if let Some(rule) = tables.growth_value.as_ref() {
            let purse = Purse { card: 0, number: rule.unit };
            self.give(transaction, purse, (0, rule.counts_until(today)), Account::UnitPool, growth);
        }
    }

    /// Sets the card's tier; 0: it has none. What a trigger sets is what the card has at least, and for as long as it had it at least.
    #[cold]
    pub(super) fn decide_set_tier(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let index = card_at(transaction, 0).ok_or(plain(Code::InvalidCard))?;
        // Whatever is wrong otherwise, as with a grant.
        let by_trigger = self.move_cursor(admitted, transaction)?;
        let card = self.cards.card(index);
        if by_trigger {
            self.must_be_usable(admitted, card)?;
        } else {
            self.card_of(transaction)?;
        }
        let programme = &self.organisation.programmes[admitted.programme];
        let tables = programme.rules.as_ref().map(|rules| &rules.tables).ok_or(plain(Code::InvalidTransaction))?;
        let tier = u8::try_from(admitted.request.product).ok().filter(|&tier| tier == 0 || tables.has_tier(tier));
        let tier = tier.ok_or(plain(Code::InvalidTransaction))?;
        if by_trigger && tier < card.tier {
            return Err((Code::NotPermitted, Reason::HigherTier));
        }
        let growth = tables.growth_value.as_ref().filter(|_| tier != 0);
        let mut until = growth.map_or(0, |growth| growth.lasts_until(programme.calendar.open));
        if by_trigger && tier == card.tier {
            until = later(until, self.wallet(index).map_or(0, |wallet| wallet.rest().tier_until));
        }
        transaction.changes.push(Change::Tier { tier, until });
        Ok(Code::Approved)
    }
}

/// The later of two last dates; 0: it never ends.
fn later(one: i32, other: i32) -> i32 {
    if one == 0 || other == 0 { 0 } else { one.max(other) }
}

/// Reviews a wallet's tier if this is its last date: it is what the growth value that is left reaches, and lasts from the next day on.
pub(crate) fn review(wallet: &mut Wallet, tables: Option<&Tables>, date: i32) {
    let until = wallet.rest().tier_until;
    if until == 0 || until > date {
        return;
    }
    let growth = tables.and_then(|tables| tables.growth_value.as_ref().map(|growth| (tables, growth)));
    let (tier, until) = match growth {
        None => (wallet.rest().tier, 0),
        Some((tables, growth)) => match tables.reached(wallet.balance(growth.unit)) {
            0 => (0, 0),
            tier => (tier, growth.lasts_until(date + 1)),
        },
    };
    let rest = wallet.rest_mut();
    (rest.tier, rest.tier_until) = (tier, until);
}
