//! Sales with details: purchases and authorisations of a card whose wallet, product or request has more than a plain one.
//!
//! One call pours the bill over coupons, passes, units, points, bonus, principal, further cards and cash in the order of the rules. A purchase
//! posts the moves; an authorisation holds them.

use crate::accounts::Account;
use crate::cards::{Card, Status};
use crate::codes::Code;
use crate::commands::{ACCEPT_PARTIAL, Kind, USE_POINTS};
use crate::details::{Item, ItemKind, Reason, item_of};
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::hold::hold;
use crate::machine::lots::{Purse, card_at, move_plain};
use crate::machine::stock::Stock;
use crate::machine::{Admitted, Machine, above, is_amount};
use crate::rules::{Funder, Payer, Product, Rounding, Step, Tables, UnitKind, UnitRule, earned, off};
use crate::series::Serial;
use crate::units::{PURSE_MAX, rate_of};

/// Most holds of a card at a time.
const HOLDS_MAX: usize = 256;

/// Why a request is refused: the code, and what the code alone does not say.
pub(super) type Refused = (Code, Reason);

/// A refusal of which the code says all.
pub(super) fn plain(code: Code) -> Refused {
    (code, Reason::None)
}

/// What a sale is, as it is being poured.
struct Till<'a> {
    tables: &'a Tables,
    items: &'a [Item],
    /// What the request's card may spend.
    stock: &'a mut Stock,
    /// The store's number: coupons and passes may be bound to some.
    store: u32,
    today: i32,
    /// List amount.
    amount: i64,
    use_points: bool,
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
        let refused = self.find_further_cards(admitted, sequence, transaction);
        let mut stock = std::mem::take(&mut self.stock);
        let sold = refused.map_or_else(Err, |()| self.sell(admitted, &mut stock, transaction));
        self.stock = stock;
        match sold {
            Ok(code) => code,
            Err((code, reason)) => {
                transaction.detail.reason = reason;
                code
            }
        }
    }

    fn sell(&self, admitted: &Admitted<'_>, stock: &mut Stock, transaction: &mut Transaction) -> Result<Code, Refused> {
        let CardRef::Known { index, .. } = transaction.card else { return Err(plain(Code::InvalidCard)) };
        let amount = admitted.request.amount;
        let card = self.cards.card(index);
        self.must_be_usable(admitted, card)?;
        if !is_amount(amount) {
            return Err(plain(Code::InvalidAmount));
        }
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let (tables, product) = self.rules_of(admitted.programme, card);
        self.must_serve(admitted, transaction)?;
        self.fill(stock, transaction, 0, today);
        self.must_be_takable(admitted, tables, stock, transaction, today)?;
        let lowered = lower_price(admitted, tables, stock, transaction);
        let off = off(product, amount, &self.applying);
        let lowered = lowered.min(amount - off);
        let due = amount - off - lowered;
        self.check_pins(admitted, transaction, product.pin_above != -1 && due > product.pin_above)?;
        let limits = product.limits(self.wallet(index).is_some_and(|wallet| wallet.rest().named));
        if above(due, limits.purchase_max) {
            return Err(plain(Code::ExceedsLimit));
        }
        let mut till = Till {
            tables,
            items: admitted.items(),
            stock,
            store: transaction.store,
            today,
            amount,
            use_points: transaction.flags & USE_POINTS != 0,
            stored: 0,
            principal: 0,
            cash: 0,
        };
        let unpaid = self.pour(&mut till, transaction, due);
        let paid = due - unpaid;
        if unpaid > 0 && (transaction.flags & ACCEPT_PARTIAL == 0 || paid == 0) {
            return Err(plain(Code::InsufficientFunds));
        }
        self.count_day(index, today, paid, limits.day_sum, limits.day_count, transaction)?;
        let rebate = rate_of(till.principal + till.cash, product.rebate) as i64;
        let earned = earned(product, till.stored + till.cash, &self.applying);
        if earned > PURSE_MAX {
            return Err(plain(Code::ExceedsLimit));
        }
        let detail = &mut transaction.detail;
        (detail.cash, detail.unpaid, detail.discount) = (till.cash, unpaid, off + lowered);
        if transaction.kind == Kind::Authorise {
            if self.wallet(index).is_some_and(|wallet| wallet.rest().holds.len() >= HOLDS_MAX) {
                return Err((Code::ExceedsCount, Reason::TooMany));
            }
            hold(admitted, tables, transaction, today, [paid, earned, rebate])?;
        } else {
            self.reward(product, transaction, today, earned, rebate);
            note_staff(transaction, paid);
        }
        Ok(if unpaid > 0 { Code::PartlyApproved } else { Code::Approved })
    }

    /// What is earned by a sale: points, and a rebate as bonus.
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

    /// Coupons, codes and passes are there, valid, and taken by this store for this purchase.
    fn must_be_takable(
        &self,
        admitted: &Admitted<'_>,
        tables: &Tables,
        stock: &Stock,
        transaction: &Transaction,
        today: i32,
    ) -> Result<(), Refused> {
        let no = |reason| Err((Code::NotPermitted, reason));
        if admitted.beside.is_some_and(|beside| beside.forged) {
            return Err((Code::SuspectedFraud, Reason::Forged));
        }
        let items = admitted.items();
        for (at, item) in items.iter().enumerate() {
            let wanted = match item.what() {
                ItemKind::Coupon | ItemKind::Code => [UnitKind::Coupon; 2],
                ItemKind::Pass => [UnitKind::Visits, UnitKind::Time],
                _ => continue,
            };
            let Some(unit) = tables.unit(item.unit).filter(|unit| wanted.contains(&unit.kind)) else {
                return no(Reason::Foreign);
            };
            if unit.kind == UnitKind::Time && item.amount != 1 {
                return Err(plain(Code::InvalidAmount));
            }
            if !unit.is_taken_by(transaction.store) {
                return no(Reason::OutOfScope);
            }
            if admitted.request.amount < unit.min_spend {
                return no(Reason::BelowMinimum);
            }
            let of_unit = || items.iter().filter(|other| other.unit == item.unit);
            if unit.per_purchase != 0 && of_unit().map(count_of).sum::<i64>() > unit.per_purchase.into() {
                return Err((Code::ExceedsCount, Reason::TooMany));
            }
            if item.what() == ItemKind::Code {
                let repeated = items[..at].iter().any(|other| other == item);
                self.must_be_good(admitted.programme, item, repeated, today)?;
            } else {
                // A code has no amount.
                let wanted = of_unit().map(|other| other.amount).sum();
                self.must_have(stock, transaction, unit, wanted, today)?;
            }
        }
        Ok(())
    }

    /// A code is one of its series, in its time, and not used.
    fn must_be_good(&self, programme: usize, item: &Item, repeated: bool, today: i32) -> Result<(), Refused> {
        let series = self.organisation.programmes[programme].series.get(&item.unit);
        let reason = match series.map_or(Serial::Unknown, |series| series.look_up(item.low, today)) {
            Serial::Unknown => Reason::Foreign,
            Serial::Expired => Reason::Expired,
            Serial::Used => Reason::Used,
            Serial::Good if repeated => Reason::Used,
            Serial::Good => return Ok(()),
        };
        Err((Code::NotPermitted, reason))
    }

    /// The card has so many of a unit; a right to a time is not used up.
    fn must_have(
        &self,
        stock: &Stock,
        transaction: &Transaction,
        unit: &UnitRule,
        wanted: i64,
        today: i32,
    ) -> Result<(), Refused> {
        let there = stock.of(unit.id);
        let enough = if unit.kind == UnitKind::Time { there > 0 } else { there >= wanted };
        if enough {
            return Ok(());
        }
        let Some(index) = card_at(transaction, 0) else { return Err(plain(Code::InvalidCard)) };
        let not_yet = self.wallet(index).is_some_and(|wallet| wallet.lots_of(unit.id).any(|lot| lot.begins > today));
        Err((Code::NotPermitted, if not_yet { Reason::NotYetValid } else { Reason::Used }))
    }

    /// Lets everything pay, in the order of the rules; what is left to pay.
    fn pour(&self, till: &mut Till<'_>, transaction: &mut Transaction, due: i64) -> i64 {
        let tables = till.tables;
        let listed = |payer: Payer| tables.waterfall.iter().any(|step| step.pay == payer);
        let mut unpaid = due;
        for payer in [Payer::Coupons, Payer::Passes] {
            if !listed(payer) {
                unpaid -= self.pay_other(till, transaction, payer, unpaid);
            }
        }
        unpaid = tables.pour(due, unpaid, |step, most| self.pay(till, transaction, step, most));
        for payer in [Payer::Cards, Payer::Cash] {
            if !listed(payer) {
                unpaid -= self.pay_other(till, transaction, payer, unpaid);
            }
        }
        unpaid
    }

    fn pay(&self, till: &mut Till<'_>, transaction: &mut Transaction, step: &Step, most: i64) -> i64 {
        match step.pay {
            Payer::Points if !till.use_points => 0,
            Payer::Points => offset(till, transaction, step, Purse::POINTS, Account::IssuerPoints, most),
            Payer::Unit => {
                let scope = till.tables.unit(step.unit).is_some_and(|unit| unit.is_taken_by(till.store));
                if scope { offset(till, transaction, step, step.unit, Account::IssuerUnits, most) } else { 0 }
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
            payer => self.pay_other(till, transaction, payer, most),
        }
    }

    fn pay_other(&self, till: &mut Till<'_>, transaction: &mut Transaction, payer: Payer, most: i64) -> i64 {
        let mut left = most;
        match payer {
            Payer::Coupons => {
                for item in till.items {
                    if let Some((unit, count)) = coupon(till.tables, item, Funder::Issuer) {
                        take_coupons(till.stock, transaction, item, unit, count);
                        let money = left.min(unit.takes_off(till.amount).saturating_mul(count));
                        move_plain(transaction, Account::IssuerUnits, Account::StoreClearing, unit.id, money);
                        left -= money;
                    }
                }
            }
            Payer::Passes => {
                for item in till.items.iter().filter(|item| item.what() == ItemKind::Pass) {
                    let Some(unit) = till.tables.unit(item.unit) else { continue };
                    if unit.kind == UnitKind::Visits {
                        till.stock.take(transaction, unit.id, Account::UnitPool, item.amount);
                    }
                    let money = left.min(unit.worth.saturating_mul(item.amount));
                    move_plain(transaction, Account::IssuerUnits, Account::StoreClearing, unit.id, money);
                    left -= money;
                }
            }
            Payer::Cards => {
                for card in 1..=transaction.detail.cards.len() as u16 {
                    let mut stock = self.stock(transaction, card, till.today);
                    let paid = pay_stored(till.tables, &mut stock, transaction, Account::StoreClearing, left);
                    till.stored += paid;
                    left -= paid;
                }
            }
            Payer::Cash => {
                let offered = item_of(till.items, ItemKind::Cash).map_or(0, |item| item.amount);
                till.cash = left.min(offered);
                left -= till.cash;
            }
            _ => {}
        }
        most - left
    }

    /// Counts a purchase among those of the day, if the product limits them.
    fn count_day(
        &self,
        index: u32,
        today: i32,
        paid: i64,
        sum_max: i64,
        count_max: u32,
        transaction: &mut Transaction,
    ) -> Result<(), Refused> {
        if sum_max == 0 && count_max == 0 {
            return Ok(());
        }
        let day = self.wallet(index).map(|wallet| wallet.rest().day).filter(|day| day.date == today).unwrap_or_default();
        let (count, sum) = (day.count.saturating_add(1), day.sum.saturating_add(paid));
        if sum_max != 0 && sum > sum_max {
            return Err(plain(Code::ExceedsLimit));
        }
        if count_max != 0 && count > count_max {
            return Err(plain(Code::ExceedsCount));
        }
        transaction.changes.push(Change::Spent { count, sum });
        Ok(())
    }
}

/// Takes the coupons that lower the price; by how much they do.
fn lower_price(admitted: &Admitted<'_>, tables: &Tables, stock: &mut Stock, transaction: &mut Transaction) -> i64 {
    let mut lowered = 0;
    for item in admitted.items() {
        if let Some((unit, count)) = coupon(tables, item, Funder::Store) {
            take_coupons(stock, transaction, item, unit, count);
            lowered += unit.takes_off(admitted.request.amount) * count;
        }
    }
    lowered
}

fn take_coupons(stock: &mut Stock, transaction: &mut Transaction, item: &Item, unit: &UnitRule, count: i64) {
    if item.what() == ItemKind::Code {
        move_plain(transaction, Account::Codes, Account::UnitPool, unit.id, 1);
        transaction.changes.push(Change::Code { unit: unit.id, serial: item.low, used: true });
    } else {
        let taken = stock.take(transaction, unit.id, Account::UnitPool, count);
        assert_eq!(taken, count, "it was looked at before");
    }
}

/// Points or things of a unit pay: they are taken, and the issuer pays the store.
fn offset(till: &mut Till<'_>, transaction: &mut Transaction, step: &Step, purse: u16, payer: Account, most: i64) -> i64 {
    let (money, units) = step.offset(till.stock.of(purse), most);
    let taken = till.stock.take(transaction, purse, Purse { card: 0, number: purse }.pool(), units);
    assert_eq!(taken, units, "what is available can be taken");
    move_plain(transaction, payer, Account::StoreClearing, step.unit, money);
    money
}

/// A card pays an account with bonus and principal, in the order and up to the shares of the rules; how much it does.
pub(super) fn pay_stored(tables: &Tables, stock: &mut Stock, transaction: &mut Transaction, to: Account, due: i64) -> i64 {
    let unpaid = tables.pour(due, due, |step, most| match step.pay {
        Payer::Bonus => stock.take(transaction, Purse::BONUS, to, most),
        Payer::Principal => stock.take(transaction, Purse::PRINCIPAL, to, most),
        _ => 0,
    });
    due - unpaid
}

/// How many coupons or visits an item asks for; other items none.
fn count_of(item: &Item) -> i64 {
    match item.what() {
        ItemKind::Coupon | ItemKind::Pass => item.amount,
        ItemKind::Code => 1,
        _ => 0,
    }
}

/// Fills in what the member of staff sold.
pub(super) fn note_staff(transaction: &mut Transaction, paid: i64) {
    for change in &mut transaction.changes {
        if let Change::Sold { amount, .. } = change {
            *amount = paid;
        }
    }
}

/// The unit and the count of an item that is a coupon, or the code of one, which this one bears.
fn coupon<'a>(tables: &'a Tables, item: &Item, funder: Funder) -> Option<(&'a UnitRule, i64)> {
    let count = match item.what() {
        ItemKind::Coupon => item.amount,
        ItemKind::Code => 1,
        _ => return None,
    };
    tables.unit(item.unit).filter(|unit| unit.funded == funder).map(|unit| (unit, count))
}
