//! Sales with details: purchases and authorisations of a card whose wallet, product or request has more than a plain one.
//!
//! One call pours the bill over coupons, passes, units, points, bonus, principal, further cards and cash in the order of the rules. A purchase
//! posts the moves; an authorisation holds them.

use crate::accounts::Account;
use crate::cards::{Card, Status};
use crate::codes::Code;
use crate::commands::{ACCEPT_PARTIAL, Kind, USE_POINTS};
use crate::details::{Item, ItemKind, Kinds, Reason, Seen, item_of};
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::advice::must_not_be_refused;
use crate::machine::hold::hold;
use crate::machine::lots::{Purse, card_at, move_plain};
use crate::machine::stock::Stock;
use crate::machine::tickets::{Tickets, lower_price, pay_with};
use crate::machine::{Admitted, Machine, above, is_amount};
use crate::rules::{Limits, Payer, Product, Rounding, Step, Tables};
use crate::units::{PURSE_MAX, rate_of};

/// Most holds of a card at a time.
const HOLDS_MAX: usize = 256;

/// Why a request is refused: the code, and what the code alone does not say.
pub(super) type Refused = (Code, Reason);

/// A refusal of which the code says all.
pub(super) fn plain(code: Code) -> Refused {
    (code, Reason::None)
}

/// What a sale is, as it is being poured. Its room is used again.
#[derive(Default)]
pub(super) struct Till {
    /// What the request's card may spend.
    stock: Stock,
    tickets: Tickets,
    /// At most so much is paid in cash.
    offered: i64,
    /// Money paid from principal and bonus of all cards.
    stored: i64,
    /// Of it from principal of the request's card.
    principal: i64,
    cash: i64,
}

impl Machine {
    /// Decides a purchase or an authorisation with details. The card is found already, and the rules that apply are looked up.
    #[inline(never)]
    pub(super) fn decide_sale(&mut self, admitted: &Admitted<'_>, sequence: u64, transaction: &mut Transaction) -> Code {
        transaction.detailed = true;
        let kinds = Kinds::of(admitted.items());
        let found = if kinds.has(ItemKind::Card) { self.find_further_cards(admitted, sequence, transaction) } else { Ok(()) };
        let mut till = self.till.take().expect("one sale is poured at a time");
        let sold = found.and_then(|()| self.sell(admitted, kinds, &mut till, transaction));
        self.till = Some(till);
        match sold {
            Ok(code) => code,
            Err((code, reason)) => {
                transaction.detail.reason = reason;
                code
            }
        }
    }

    #[inline]
    fn sell(
        &self,
        admitted: &Admitted<'_>,
        kinds: Kinds,
        till: &mut Till,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        let CardRef::Known { index, .. } = transaction.card else { return Err(plain(Code::InvalidCard)) };
        let amount = admitted.request.amount;
        let card = self.cards.card(index);
        self.must_be_usable(admitted, card)?;
        if !is_amount(amount) {
            return Err(plain(Code::InvalidAmount));
        }
        if kinds.has(ItemKind::Advice) {
            must_not_be_refused(admitted.items())?;
        }
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let (tables, product) = self.rules_of(admitted.programme, card);
        if (card.tier != 0) & tables.look_at_tiers() {
            transaction.detail.items.push(Item::seen(Seen::Tier, card.tier.into()));
        }
        if kinds.has(ItemKind::Staff) {
            self.must_serve(admitted, transaction)?;
        }
        let cash = if kinds.has(ItemKind::Cash) { item_of(admitted.items(), ItemKind::Cash) } else { None };
        till.offered = cash.map_or(0, |item| item.amount);
        (till.stored, till.principal, till.cash) = (0, 0, 0);
        self.fill(&mut till.stock, transaction, 0, today);
        self.look_at_tickets(admitted, tables, &till.stock, &mut till.tickets, transaction)?;
        let off = tables.off(product, amount, &self.applying, &mut transaction.detail.lines);
        let lowered = lower_price(&till.tickets.lowering, &mut till.stock, transaction).min(amount - off);
        let due = amount - off - lowered;
        let demanded = product.pin_above != -1 && due > product.pin_above;
        if !admitted.request.is_dry_run() & (demanded | kinds.has(ItemKind::Pin) | kinds.has(ItemKind::Card)) {
            self.check_pins(admitted, transaction, demanded)?;
        }
        let limits = self.limits(product, index);
        if above(due, limits.purchase_max) {
            return Err(plain(Code::ExceedsLimit));
        }
        let unpaid = tables.waterfall.pour_whole(due, |step, most| self.pay(tables, till, transaction, step, most));
        let paid = due - unpaid;
        if unpaid > 0 && (transaction.flags & ACCEPT_PARTIAL == 0 || paid == 0) {
            return Err(plain(Code::InsufficientFunds));
        }
        if limits.are_of_the_day() | (product.points_per_day != 0) {
            self.count_day(index, today, paid, limits, transaction)?;
        }
        let rebate = rate_of(till.principal + till.cash, product.rebate) as i64;
        let earned = tables.earned(product, amount, till.stored + till.cash, &self.applying, &transaction.detail.lines);
        let earned = if product.points_per_day == 0 { earned } else { cap_day(product, earned, transaction) };
        if earned > PURSE_MAX {
            return Err(plain(Code::ExceedsLimit));
        }
        let growth = tables.growth_value.as_ref().map_or(0, |growth| growth.earned(till.stored + till.cash));
        let detail = &mut transaction.detail;
        (detail.cash, detail.unpaid, detail.discount) = (till.cash, unpaid, off + lowered);
        if transaction.kind == Kind::Authorise {
            if self.wallet(index).is_some_and(|wallet| wallet.rest().holds.len() >= HOLDS_MAX) {
                return Err((Code::ExceedsCount, Reason::TooMany));
            }
            hold(admitted, tables, transaction, today, [paid, earned, rebate, growth])?;
        } else {
            self.reward(product, transaction, today, earned, rebate);
            self.give_growth(tables, transaction, today, growth);
            self.charge(admitted, tables, index, transaction);
            note_staff(transaction, paid);
            if self.is_first_purchase(tables, index) {
                self.give_first(admitted, tables, index, transaction, paid);
            }
        }
        Ok(if unpaid > 0 { Code::PartlyApproved } else { Code::Approved })
    }

    /// What is earned by a sale: points, and a rebate as bonus.
    #[inline]
    pub(super) fn reward(&self, product: &Product, transaction: &mut Transaction, today: i32, earned: i64, rebate: i64) {
        let points = Purse { card: 0, number: Purse::POINTS };
        let expires = product.points_round.expires(today, product.points_days);
        self.give(transaction, points, (0, expires), Account::PointsPool, earned);
        let bonus = Purse { card: 0, number: Purse::BONUS };
        let expires = Rounding::Day.expires(today, product.bonus_days);
        self.give(transaction, bonus, (0, expires), Account::IssuerBonus, rebate);
    }

    /// The card is active and has not expired.
    pub(super) fn must_be_usable(&self, admitted: &Admitted<'_>, card: &Card) -> Result<(), Refused> {
        self.check_card(admitted.programme, card).map_err(plain)
    }

    /// Finds the further cards of a request, and brings them up to date.
    pub(super) fn find_further_cards(
        &mut self,
        admitted: &Admitted<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<(), Refused> {
        let named = admitted.items().iter().filter(|item| item.kind == ItemKind::Card as u8);
        for number in named.filter_map(Item::card_number) {
            let index = self.locate(admitted.request.programme(), number).map_err(plain)?;
            let known = card_at(transaction, 0) == Some(index) || transaction.detail.cards.iter().any(|card| card.0 == index);
            if known {
                return Err(plain(Code::InvalidTransaction));
            }
            self.touch(admitted.programme, index, sequence);
            transaction.detail.cards.push((index, self.cards.card(index).last));
            self.must_be_usable(admitted, self.cards.card(index))?;
        }
        Ok(())
    }

    /// The staff card, if one is named, is one.
    fn must_serve(&self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<(), Refused> {
        let Some(item) = item_of(admitted.items(), ItemKind::Staff) else { return Ok(()) };
        let number = item.card_number().expect("it was let in");
        let index = self.locate(admitted.request.programme(), number).map_err(plain)?;
        let card = self.cards.card(index);
        let (_, product) = self.rules_of(admitted.programme, card);
        if !product.staff || card.status != Status::Active as u8 {
            return Err((Code::NotPermitted, Reason::NotStaff));
        }
        transaction.changes.push(Change::Sold { staff: index, amount: 0 });
        Ok(())
    }

    #[inline]
    fn pay(&self, tables: &Tables, till: &mut Till, transaction: &mut Transaction, step: &Step, most: i64) -> i64 {
        match step.pay {
            Payer::Points if transaction.flags & USE_POINTS == 0 => 0,
            Payer::Points => till.offset_points(transaction, step, most),
            Payer::Unit => {
                let scope = tables.unit(step.unit).is_some_and(|unit| unit.is_taken_by(transaction.store));
                if scope { till.offset_unit(transaction, step, most) } else { 0 }
            }
            Payer::Bonus => {
                let paid = till.stock.take(transaction, Purse::BONUS, Account::StoreClearing, most);
                till.stored += paid;
                paid
            }
            Payer::Principal => {
                let paid = till.stock.take(transaction, Purse::PRINCIPAL, Account::StoreClearing, most);
                till.stored += paid;
                till.principal += paid;
                paid
            }
            Payer::Coupons => pay_with(&till.tickets.coupons, &mut till.stock, transaction, most),
            Payer::Passes => pay_with(&till.tickets.passes, &mut till.stock, transaction, most),
            Payer::Cards => self.pay_by_cards(tables, till, transaction, most),
            Payer::Cash => till.take_cash(most),
        }
    }

    /// The further cards pay, one after the other.
    fn pay_by_cards(&self, tables: &Tables, till: &mut Till, transaction: &mut Transaction, most: i64) -> i64 {
        let mut left = most;
        for card in 1..=transaction.detail.cards.len() as u16 {
            let mut stock = self.stock(transaction, card, transaction.posted);
            left -= pay_stored(tables, &mut stock, transaction, Account::StoreClearing, left);
        }
        till.stored += most - left;
        most - left
    }

    /// Counts a purchase among those of the day, which are limited.
    fn count_day(&self, index: u32, today: i32, paid: i64, limits: Limits, transaction: &mut Transaction) -> Result<(), Refused> {
        let day = self.wallet(index).map(|wallet| wallet.rest().day).filter(|day| day.date == today).unwrap_or_default();
        let (count, sum) = (day.count.saturating_add(1), day.sum.saturating_add(paid));
        if above(sum, limits.day_sum) {
            return Err(plain(Code::ExceedsLimit));
        }
        if limits.day_count != 0 && count > limits.day_count {
            return Err(plain(Code::ExceedsCount));
        }
        transaction.changes.push(Change::Spent { count, sum, points: day.points });
        Ok(())
    }
}

/// What of the earned points the product's limit of the day leaves; the purchase is among those of the day already.
fn cap_day(product: &Product, earned: i64, transaction: &mut Transaction) -> i64 {
    let spent = transaction.changes.iter_mut().find_map(|change| match change {
        Change::Spent { points, .. } => Some(points),
        _ => None,
    });
    let Some(points) = spent else { return earned };
    let earned = earned.min((product.points_per_day - *points).max(0));
    *points += earned;
    earned
}

impl Till {
    /// Points pay: they are taken, and the issuer pays the store.
    #[inline]
    fn offset_points(&mut self, transaction: &mut Transaction, step: &Step, most: i64) -> i64 {
        let (money, points) = step.offset(self.stock.of(Purse::POINTS), most);
        let taken = self.stock.take(transaction, Purse::POINTS, Account::PointsPool, points);
        assert_eq!(taken, points, "what is available can be taken");
        move_plain(transaction, Account::IssuerPoints, Account::StoreClearing, 0, money);
        money
    }

    /// Things of a unit pay, likewise.
    fn offset_unit(&mut self, transaction: &mut Transaction, step: &Step, most: i64) -> i64 {
        let first = self.stock.first(step.unit);
        let (money, things) = step.offset(self.stock.of_unit(first, step.unit), most);
        let taken = self.stock.take_unit(transaction, first, step.unit, Account::UnitPool, things);
        assert_eq!(taken, things, "what is available can be taken");
        move_plain(transaction, Account::IssuerUnits, Account::StoreClearing, step.unit, money);
        money
    }

    #[inline]
    fn take_cash(&mut self, most: i64) -> i64 {
        self.cash = most.min(self.offered);
        self.cash
    }
}

/// A card pays an account with bonus and principal, in the order and up to the shares of the rules; how much it does.
pub(super) fn pay_stored(tables: &Tables, stock: &mut Stock, transaction: &mut Transaction, to: Account, due: i64) -> i64 {
    let unpaid = tables.waterfall.pour(due, |step, most| match step.pay {
        Payer::Bonus => stock.take(transaction, Purse::BONUS, to, most),
        Payer::Principal => stock.take(transaction, Purse::PRINCIPAL, to, most),
        _ => 0,
    });
    due - unpaid
}

/// Fills in what the member of staff sold.
pub(super) fn note_staff(transaction: &mut Transaction, paid: i64) {
    for change in &mut transaction.changes {
        if let Change::Sold { amount, .. } = change {
            *amount = paid;
        }
    }
}
