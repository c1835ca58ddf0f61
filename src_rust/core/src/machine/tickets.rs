//! Coupons, codes and passes of a sale: looked at once, in the order of the items, and taken when their turn comes.

use crate::accounts::Account;
use crate::codes::Code;
use crate::details::{Item, ItemKind, Reason};
use crate::journal::entry::{Change, Transaction};
use crate::machine::lots::{card_at, move_plain};
use crate::machine::sale::{Refused, plain};
use crate::machine::stock::Stock;
use crate::machine::{Admitted, Machine};
use crate::rules::{Funder, Tables, UnitKind, UnitRule};
use crate::series::Serial;

/// All that a request has, by what they do. Their room is used again.
#[derive(Default)]
pub(super) struct Tickets {
    /// Coupons that the store bears: they lower the price.
    pub lowering: Vec<Ticket>,
    /// The other coupons: they pay.
    pub coupons: Vec<Ticket>,
    /// Visits and rights to a time.
    pub passes: Vec<Ticket>,
}

/// An item that is taken: coupons, the code of one, or a pass. It was found good.
pub(super) struct Ticket {
    unit: u16,
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

/// Takes the coupons that lower the price; by how much they do.
#[inline(never)]
pub(super) fn lower_price(tickets: &[Ticket], stock: &mut Stock, transaction: &mut Transaction) -> i64 {
    let mut lowered = 0;
    for ticket in tickets {
        ticket.take(stock, transaction);
        lowered += ticket.worth;
    }
    lowered
}

/// Coupons or passes pay: they are taken, and the issuer pays the store.
#[inline(never)]
pub(super) fn pay_with(tickets: &[Ticket], stock: &mut Stock, transaction: &mut Transaction, most: i64) -> i64 {
    let mut left = most;
    for ticket in tickets {
        ticket.take(stock, transaction);
        let money = left.min(ticket.worth);
        move_plain(transaction, Account::IssuerUnits, Account::StoreClearing, ticket.unit, money);
        left -= money;
    }
    most - left
}

impl Machine {
    /// Looks at coupons, codes and passes: the first that may not be taken refuses all.
    #[inline(never)]
    pub(super) fn look_at_tickets(
        &self,
        admitted: &Admitted<'_>,
        tables: &Tables,
        stock: &Stock,
        tickets: &mut Tickets,
        transaction: &Transaction,
    ) -> Result<(), Refused> {
        tickets.lowering.clear();
        tickets.coupons.clear();
        tickets.passes.clear();
        if admitted.beside.is_some_and(|beside| beside.forged) {
            return Err((Code::SuspectedFraud, Reason::Forged));
        }
        for (at, item) in admitted.items().iter().enumerate() {
            if !item.is_ticket() {
                continue;
            }
            let unit = must_fit(admitted, tables, transaction, item)?;
            let from = if item.kind == ItemKind::Code as u8 {
                self.must_be_good(admitted, transaction, at)?;
                Source::Code(item.low)
            } else {
                Source::Stock(self.must_have(admitted, stock, transaction, unit)?)
            };
            let count = count_of(item);
            let taken = if unit.kind == UnitKind::Time { 0 } else { count };
            let (these, each) = match (unit.kind, unit.funded) {
                (UnitKind::Coupon, Funder::Store) => (&mut tickets.lowering, unit.takes_off(admitted.request.amount)),
                (UnitKind::Coupon, Funder::Issuer) => (&mut tickets.coupons, unit.takes_off(admitted.request.amount)),
                _ => (&mut tickets.passes, unit.worth),
            };
            these.push(Ticket { unit: unit.id, from, count: taken, worth: each * count });
        }
        Ok(())
    }

    /// The code at a place of the items is one of its series, in its time, and not used.
    fn must_be_good(&self, admitted: &Admitted<'_>, transaction: &Transaction, at: usize) -> Result<(), Refused> {
        let (before, item) = (&admitted.items()[..at], &admitted.items()[at]);
        let series = self.organisation.programmes[admitted.programme].series.get(&item.unit);
        let reason = match series.map_or(Serial::Unknown, |series| series.look_up(item.low, transaction.posted)) {
            Serial::Unknown => Reason::Foreign,
            Serial::Expired => Reason::Expired,
            Serial::Used => Reason::Used,
            Serial::Good if before.contains(item) => Reason::Used,
            Serial::Good => return Ok(()),
        };
        Err((Code::NotPermitted, reason))
    }

    /// The card has as many of a unit as all items ask; where its lots begin in the stock. A right to a time is not used up.
    #[inline(always)]
    fn must_have(
        &self,
        admitted: &Admitted<'_>,
        stock: &Stock,
        transaction: &Transaction,
        unit: &UnitRule,
    ) -> Result<usize, Refused> {
        // A code has no amount.
        let of_unit = |item: &&Item| (item.unit == unit.id) & item.is_ticket();
        let asked = || admitted.items().iter().filter(of_unit).map(|item| item.amount).sum();
        let wanted = if unit.kind == UnitKind::Time { 1 } else { asked() };
        let first = stock.first(unit.id);
        if stock.of_unit(first, unit.id) < wanted {
            return Err((Code::NotPermitted, self.why_missing(transaction, unit.id)));
        }
        Ok(first)
    }

    /// Why a card has not so many of a unit: it has some that are not valid yet, or has them no more.
    #[cold]
    fn why_missing(&self, transaction: &Transaction, unit: u16) -> Reason {
        let wallet = card_at(transaction, 0).and_then(|index| self.wallet(index));
        let not_yet = wallet.is_some_and(|wallet| wallet.lots_of(unit).any(|lot| lot.begins > transaction.posted));
        if not_yet { Reason::NotYetValid } else { Reason::Used }
    }
}

/// The unit of an item: it is of the right kind, and taken by this store for this purchase.
#[inline(always)]
fn must_fit<'a>(
    admitted: &Admitted<'_>,
    tables: &'a Tables,
    transaction: &Transaction,
    item: &Item,
) -> Result<&'a UnitRule, Refused> {
    let no = |reason| Err((Code::NotPermitted, reason));
    let is_pass = item.kind == ItemKind::Pass as u8;
    let fits = |unit: &&UnitRule| match unit.kind {
        UnitKind::Coupon => !is_pass,
        UnitKind::Visits | UnitKind::Time => is_pass,
        UnitKind::Value | UnitKind::Growth => false,
    };
    let Some(unit) = tables.unit(item.unit).filter(fits) else { return no(Reason::Foreign) };
    if unit.kind == UnitKind::Time && item.amount != 1 {
        return Err(plain(Code::InvalidAmount));
    }
    if !unit.is_taken_by(transaction.store) {
        return no(Reason::OutOfScope);
    }
    if admitted.request.amount < unit.min_spend {
        return no(Reason::BelowMinimum);
    }
    let of_unit = admitted.items().iter().filter(|other| (other.unit == item.unit) & other.is_ticket());
    if unit.per_purchase != 0 && of_unit.map(count_of).sum::<i64>() > unit.per_purchase.into() {
        return Err((Code::ExceedsCount, Reason::TooMany));
    }
    Ok(unit)
}

/// How many coupons or visits an item of a unit asks for.
#[inline]
fn count_of(item: &Item) -> i64 {
    // A code is of one, and has no amount.
    item.amount.max(1)
}
