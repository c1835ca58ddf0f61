//! Authorisations: what they hold, and how captures and voids end them.
//!
//! A hold is priced once and names its lots. A capture takes them in the order in which the hold was priced, without pricing again; what has
//! been earned after so much was captured is a function of that alone.

use crate::codes::Code;
use crate::commands::{FINAL, Kind};
use crate::details::{Item, ItemKind, item_of};
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::lots::add_post;
use crate::machine::sale::{Refused, note_staff, plain};
use crate::machine::{Admitted, Found, Machine, is_amount};
use crate::rules::Tables;
use crate::units::part_of;
use crate::wallets::{Hold, taken};

/// Turns the moves of an authorisation into a hold: what it pays, earns and gives back.
pub(super) fn hold(
    admitted: &Admitted<'_>,
    tables: &Tables,
    transaction: &mut Transaction,
    today: i32,
    [total, earned, rebate, growth]: [i64; 4],
) -> Result<(), Refused> {
    let expires = match admitted.request.expires {
        0 => today + tables.hold_days as i32 - 1,
        date => date,
    };
    if expires < today {
        return Err(plain(Code::InvalidTransaction));
    }
    transaction.changes.retain(|change| !matches!(change, Change::Sold { .. }));
    transaction.changes.push(Change::Held { expires, total, earned, rebate, growth });
    Ok(())
}

impl Machine {
    /// The authorisation that a capture or a void names, and its hold.
    fn held<'a>(&'a self, found: Found<'a>, transaction: &Transaction) -> Result<(u64, &'a Transaction, &'a Hold), Code> {
        let Found::Entry(sequence, original) = found else { return Err(Code::OriginalNotFound) };
        if original.kind != Kind::Authorise || !original.code.is_approved() {
            return Err(Code::InvalidTransaction);
        }
        let CardRef::Known { index, .. } = transaction.card else { return Err(Code::InvalidTransaction) };
        let hold = self.wallet(index).and_then(|wallet| wallet.hold_of(sequence));
        hold.map(|hold| (sequence, original, hold)).ok_or(Code::InvalidTransaction)
    }

    /// Takes the card of an original.
    pub(super) fn take_card_of(
        &mut self,
        admitted: &Admitted<'_>,
        found: Found<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) {
        if let Found::Entry(_, original) = found
            && let CardRef::Known { index, .. } = original.card
        {
            self.take_card(admitted.programme, index, sequence, transaction);
        }
    }

    #[cold]
    pub(super) fn decide_capture(
        &mut self,
        admitted: &Admitted<'_>,
        found: Found<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        self.take_card_of(admitted, found, sequence, transaction);
        let (authorisation, original, hold) = self.held(found, transaction).map_err(plain)?;
        let amount = admitted.request.amount;
        if !is_amount(amount) || amount > hold.total - hold.captured {
            return Err(plain(Code::InvalidAmount));
        }
        let captured = hold.captured + amount;
        let ended = transaction.flags & FINAL != 0 || captured == hold.total;
        let (before, after) = (taken(hold, hold.captured), taken(hold, captured));
        for ((post, before), after) in hold.posts.iter().zip(before).zip(after) {
            if after > before {
                add_post(transaction, crate::accounts::Post { amount: after - before, ..*post });
            }
        }
        let part = |whole| part_of(whole, captured, hold.total) - part_of(whole, hold.captured, hold.total);
        let (earned, rebate, growth) = (part(hold.earned), part(hold.rebate), part(hold.growth));
        let CardRef::Known { index, .. } = transaction.card else { return Err(plain(Code::InvalidTransaction)) };
        let (tables, product) = self.rules_of(admitted.programme, self.cards.card(index));
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        self.reward(product, transaction, today, earned, rebate);
        self.give_growth(tables, transaction, today, growth);
        self.charge(admitted, tables, index, transaction);
        transaction.changes.push(Change::Captured { sequence: authorisation, captured, ended });
        let staff = item_of(&original.detail.items, ItemKind::Staff).and_then(Item::card_number);
        if let Some(staff) = staff.and_then(|number| self.ever_of(admitted.request.programme(), number)) {
            transaction.changes.push(Change::Sold { staff, amount: 0 });
            note_staff(transaction, amount);
        }
        if self.is_first_purchase(tables, index) {
            self.give_first(admitted, tables, index, transaction, amount);
        }
        Ok(Code::Approved)
    }

    #[cold]
    pub(super) fn decide_void(
        &mut self,
        admitted: &Admitted<'_>,
        found: Found<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        self.take_card_of(admitted, found, sequence, transaction);
        let (authorisation, _, hold) = self.held(found, transaction).map_err(plain)?;
        let captured = hold.captured;
        transaction.changes.push(Change::Captured { sequence: authorisation, captured, ended: true });
        Ok(Code::Approved)
    }
}
