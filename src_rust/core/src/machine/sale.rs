//! Sales with details: purchases and authorisations of a card whose wallet, product or request has more than a plain one.
//!
//! One call pours the bill over coupons, passes, units, points, bonus, principal, further cards and cash in the order of the rules. A purchase
//! posts the moves; an authorisation holds them.

use crate::accounts::Account;
use crate::cards::{Card, Status};
use crate::codes::Code;
use crate::commands::{ACCEPT_PARTIAL, Kind, USE_POINTS};
use crate::details::{Item, ItemKind, Kinds, Reason, item_of};
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::hold::hold;
use crate::machine::lots::{Purse, card_at, move_plain};
use crate::machine::stock::Stock;
use crate::machine::{Admitted, Machine, above, is_amount};
use crate::rules::{Funder, Limits, Payer, Product, Rounding, Step, Tables, UnitKind, UnitRule, earned};
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

/// What a sale is, as it is being poured. Its room is used again.
#[derive(Default)]
pub(super) struct Till {
    /// What the request's card may spend.
    stock: Stock,
    /// Coupons, codes and passes of the request, in the order of its items.
    tickets: Vec<Ticket>,
    /// Index of the request's card.
    card: u32,
    /// The store's number: units may be bound to some.
    store: u32,
    today: i32,
    use_points: bool,
    /// At most so much is paid in cash.
    offered: i64,
    /// Money paid from principal and bonus of all cards.
    stored: i64,
    /// Of it from principal of the request's card.
    principal: i64,
    cash: i64,
}

/// An item that is taken: coupons, the code of one, or a pass. It was looked at once, and found good.
struct Ticket {
    unit: u16,
    /// As what it pays; None: it lowers the price.
    pays: Option<Payer>,
    from: Source,
    /// How many are taken; of a right to a time none.
    count: i64,
    /// Most that all of it pays, or takes off.
    worth: i64,
}

/// Where a ticket comes from.
enum Source {
    /// From the card: here the lots of its unit begin in the stock.
    Stock(usize),
    /// It is a code, with this serial.
    Code(u64),
}

impl Ticket {
    #[inline(always)]
    fn take(&self, stock: &mut Stock, transaction: &mut Transaction) {
        match self.from {
            Source::Stock(first) => {
                let taken = stock.take_unit(transaction, first, self.unit, Account::UnitPool, self.count);
                assert_eq!(taken, self.count, "it was looked at before");
            }
            Source::Code(serial) => {
                move_plain(transaction, Account::Codes, Account::UnitPool, self.unit, self.count);
                transaction.changes.push(Change::Code { unit: self.unit, serial, used: true });
            }
        }
    }
}

impl Machine {
    /// Decides a purchase or an authorisation with details. The card is found already.
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
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let (tables, product) = self.rules_of(admitted.programme, card);
        if kinds.has(ItemKind::Staff) {
            self.must_serve(admitted, transaction)?;
        }
        till.open(admitted, transaction, index, today);
        self.fill(&mut till.stock, transaction, 0, today);
        self.look_at_tickets(admitted, tables, till)?;
        let off = rate_of(amount, product.discount) as i64;
        let lowered = till.lower_price(transaction).min(amount - off);
        let due = amount - off - lowered;
        let demanded = product.pin_above != -1 && due > product.pin_above;
        if demanded | kinds.has(ItemKind::Pin) | kinds.has(ItemKind::Card) {
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
        if limits.are_of_the_day() {
            self.count_day(index, today, paid, limits, transaction)?;
        }
        let rebate = rate_of(till.principal + till.cash, product.rebate) as i64;
        let earned = earned(till.stored + till.cash, product);
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

    /// Looks at coupons, codes and passes in the order of the items: the first that may not be taken refuses all.
    #[inline(never)]
    fn look_at_tickets(&self, admitted: &Admitted<'_>, tables: &Tables, till: &mut Till) -> Result<(), Refused> {
        if admitted.beside.is_some_and(|beside| beside.forged) {
            return Err((Code::SuspectedFraud, Reason::Forged));
        }
        for (at, item) in admitted.items().iter().enumerate() {
            if item.is_ticket() {
                let ticket = self.ticket(admitted, tables, till, at)?;
                till.tickets.push(ticket);
            }
        }
        Ok(())
    }

    /// The coupons, code or pass of the item at a place: there, valid, and taken by this store for this purchase.
    #[inline]
    fn ticket(&self, admitted: &Admitted<'_>, tables: &Tables, till: &Till, at: usize) -> Result<Ticket, Refused> {
        let no = |reason| Err((Code::NotPermitted, reason));
        let (items, item) = (admitted.items(), &admitted.items()[at]);
        let (is_pass, is_code) = (item.kind == ItemKind::Pass as u8, item.kind == ItemKind::Code as u8);
        let fits = |unit: &&UnitRule| match unit.kind {
            UnitKind::Coupon => !is_pass,
            UnitKind::Visits | UnitKind::Time => is_pass,
            UnitKind::Value => false,
        };
        let Some(unit) = tables.unit(item.unit).filter(fits) else { return no(Reason::Foreign) };
        let is_time = unit.kind == UnitKind::Time;
        if is_time && item.amount != 1 {
            return Err(plain(Code::InvalidAmount));
        }
        if !unit.is_taken_by(till.store) {
            return no(Reason::OutOfScope);
        }
        if admitted.request.amount < unit.min_spend {
            return no(Reason::BelowMinimum);
        }
        let of_unit = || items.iter().filter(|other| other.unit == item.unit);
        if unit.per_purchase != 0 && of_unit().map(count_of).sum::<i64>() > unit.per_purchase.into() {
            return Err((Code::ExceedsCount, Reason::TooMany));
        }
        let from = if is_code {
            let repeated = items[..at].iter().any(|other| other == item);
            self.must_be_good(admitted.programme, item, repeated, till.today)?;
            Source::Code(item.low)
        } else {
            // A code has no amount; a right to a time is not used up.
            let wanted = if is_time { 1 } else { of_unit().map(|other| other.amount).sum() };
            let first = till.stock.first(unit.id);
            if till.stock.of_unit(first, unit.id) < wanted {
                return no(self.why_missing(till.card, unit.id, till.today));
            }
            Source::Stock(first)
        };
        let count = count_of(item);
        let (pays, each) = match (is_pass, unit.funded) {
            (true, _) => (Some(Payer::Passes), unit.worth),
            (false, Funder::Issuer) => (Some(Payer::Coupons), unit.takes_off(admitted.request.amount)),
            (false, Funder::Store) => (None, unit.takes_off(admitted.request.amount)),
        };
        Ok(Ticket { unit: unit.id, pays, from, count: if is_time { 0 } else { count }, worth: each * count })
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

    /// Why a card has not so many of a unit: it has some that are not valid yet, or has them no more.
    #[cold]
    fn why_missing(&self, index: u32, unit: u16, today: i32) -> Reason {
        let not_yet = self.wallet(index).is_some_and(|wallet| wallet.lots_of(unit).any(|lot| lot.begins > today));
        if not_yet { Reason::NotYetValid } else { Reason::Used }
    }

    #[inline]
    fn pay(&self, tables: &Tables, till: &mut Till, transaction: &mut Transaction, step: &Step, most: i64) -> i64 {
        match step.pay {
            Payer::Points if !till.use_points => 0,
            Payer::Points => till.offset_points(transaction, step, most),
            Payer::Unit => {
                let scope = tables.unit(step.unit).is_some_and(|unit| unit.is_taken_by(till.store));
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
            Payer::Coupons | Payer::Passes => till.take_tickets(transaction, step.pay, most),
            Payer::Cards => self.pay_by_cards(tables, till, transaction, most),
            Payer::Cash => till.take_cash(most),
        }
    }

    /// The further cards pay, one after the other.
    fn pay_by_cards(&self, tables: &Tables, till: &mut Till, transaction: &mut Transaction, most: i64) -> i64 {
        let mut left = most;
        for card in 1..=transaction.detail.cards.len() as u16 {
            let mut stock = self.stock(transaction, card, till.today);
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
        transaction.changes.push(Change::Spent { count, sum });
        Ok(())
    }
}

impl Till {
    /// Begins a sale.
    #[inline]
    fn open(&mut self, admitted: &Admitted<'_>, transaction: &Transaction, card: u32, today: i32) {
        self.tickets.clear();
        (self.card, self.store, self.today) = (card, transaction.store, today);
        self.use_points = transaction.flags & USE_POINTS != 0;
        self.offered = item_of(admitted.items(), ItemKind::Cash).map_or(0, |item| item.amount);
        (self.stored, self.principal, self.cash) = (0, 0, 0);
    }

    /// Takes the coupons that lower the price; by how much they do.
    #[inline]
    fn lower_price(&mut self, transaction: &mut Transaction) -> i64 {
        let mut lowered = 0;
        for ticket in self.tickets.iter().filter(|ticket| ticket.pays.is_none()) {
            ticket.take(&mut self.stock, transaction);
            lowered += ticket.worth;
        }
        lowered
    }

    /// Coupons or passes pay: they are taken, and the issuer pays the store.
    #[inline(never)]
    fn take_tickets(&mut self, transaction: &mut Transaction, payer: Payer, most: i64) -> i64 {
        let mut left = most;
        for ticket in self.tickets.iter().filter(|ticket| ticket.pays == Some(payer)) {
            ticket.take(&mut self.stock, transaction);
            let money = left.min(ticket.worth);
            move_plain(transaction, Account::IssuerUnits, Account::StoreClearing, ticket.unit, money);
            left -= money;
        }
        most - left
    }

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

/// How many coupons or visits an item asks for that is a ticket.
#[inline]
fn count_of(item: &Item) -> i64 {
    // A code is of one, and has no amount.
    item.amount.max(1)
}

/// Fills in what the member of staff sold.
pub(super) fn note_staff(transaction: &mut Transaction, paid: i64) {
    for change in &mut transaction.changes {
        if let Change::Sold { amount, .. } = change {
            *amount = paid;
        }
    }
}
