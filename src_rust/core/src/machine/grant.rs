//! What comes onto cards: top-ups with details, bundles that are granted or sold, top-ups of many cards at once, and coupons as codes.

use crate::accounts::Account;
use crate::codes::Code;
use crate::commands::FROM_CARD;
use crate::details::{ItemKind, Reason};
use crate::journal::entry::{Change, Transaction};
use crate::machine::catalogue::Taking;
use crate::machine::lots::{Purse, UNDATED, card_at, collection, move_plain};
use crate::machine::sale::{Refused, pay_stored, plain};
use crate::machine::{Admitted, Machine, above, is_amount};
use crate::rules::{Rounding, UnitKind};

/// Most bundles of a grant.
const BUNDLES_MAX: i64 = 1_000;
/// Most codes that come out at once.
const CODES_MAX: i64 = 10_000_000;
/// Most codes of a programme, ever: a bit of memory each.
const CODES_OUT_MAX: u64 = 1_000_000_000;

impl Machine {
    /// Tops up the card at a place of the transaction.
    fn top_up_one(&self, admitted: &Admitted<'_>, transaction: &mut Transaction, card: u16, amount: i64) -> Result<(), Refused> {
        let index = card_at(transaction, card).ok_or(plain(Code::InvalidCard))?;
        let (tables, product) = self.rules_of(admitted.programme, self.cards.card(index));
        let limits = self.limits(product, index);
        let band = tables.band(amount);
        let (bonus, borne) = band.map_or((0, 0), |band| (band.bonus_of(amount), band.borne_of(amount)));
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let from = collection(tables, admitted.request.channel);
        self.give(transaction, Purse { card, number: Purse::PRINCIPAL }, UNDATED, from, amount - borne);
        self.give(transaction, Purse { card, number: Purse::PRINCIPAL }, UNDATED, Account::IssuerBonus, borne);
        transaction.detail.discount += borne;
        let expires = Rounding::Day.expires(today, product.bonus_days);
        self.give(transaction, Purse { card, number: Purse::BONUS }, (0, expires), Account::IssuerBonus, bonus);
        let after = |number| self.purse_after(transaction, Purse { card, number });
        if above(amount, limits.top_up_max) || above(after(Purse::PRINCIPAL) + after(Purse::BONUS), limits.balance_max) {
            return Err(plain(Code::ExceedsLimit));
        }
        if let Some(band) = band.filter(|band| band.gives_more()) {
            self.give_with_top_up(admitted, transaction, card, band);
        }
        Ok(())
    }

    /// A top-up of a card that is not plain, or that gives more than bonus. The card is found already.
    #[cold]
    pub(super) fn decide_detailed_top_up(
        &mut self,
        admitted: &Admitted<'_>,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        transaction.detailed = true;
        let index = card_at(transaction, 0).ok_or(plain(Code::InvalidCard))?;
        self.must_be_usable(admitted, self.cards.card(index))?;
        let amount = admitted.request.amount;
        if !is_amount(amount) {
            return Err(plain(Code::InvalidAmount));
        }
        self.check_pin(admitted.items(), transaction, 0, false)?;
        self.top_up_one(admitted, transaction, 0, amount)?;
        Ok(Code::Approved)
    }

    /// Tops up many cards, all or none; the row's amount is what they come to.
    #[cold]
    pub(super) fn decide_bulk_top_up(
        &mut self,
        admitted: &Admitted<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        self.find_further_cards(admitted, sequence, transaction)?;
        let cards = admitted.items().iter().filter(|item| item.kind == ItemKind::Card as u8);
        let amounts: Vec<i64> = cards.map(|item| item.amount).collect();
        let sum = amounts.iter().try_fold(0i64, |sum, &amount| sum.checked_add(amount).filter(|_| is_amount(amount)));
        if sum != Some(admitted.request.amount) || !is_amount(admitted.request.amount) {
            return Err(plain(Code::InvalidAmount));
        }
        for (at, amount) in amounts.into_iter().enumerate() {
            self.top_up_one(admitted, transaction, at as u16 + 1, amount)?;
        }
        Ok(Code::Approved)
    }

    /// Grants bundles: what they cost is taken in, or paid by the card.
    #[cold]
    pub(super) fn decide_grant(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let index = card_at(transaction, 0).ok_or(plain(Code::InvalidCard))?;
        // Whatever is wrong with the grant otherwise: a trigger would stick at a card that was lost.
        self.move_cursor(admitted, transaction)?;
        let card = self.cards.card(index);
        self.must_be_usable(admitted, card)?;
        let (tables, _) = self.rules_of(admitted.programme, card);
        let bundle = tables.bundle(admitted.request.product).ok_or(plain(Code::InvalidTransaction))?;
        let count = admitted.request.amount;
        if !(1..=BUNDLES_MAX).contains(&count) {
            return Err(plain(Code::InvalidAmount));
        }
        let whole = |each: i64| each.checked_mul(count).filter(|&sum| sum == 0 || is_amount(sum));
        let prices = (whole(bundle.price), whole(bundle.points), whole(bundle.worth));
        let (Some(price), Some(points), Some(_)) = prices else { return Err(plain(Code::InvalidAmount)) };
        let taking = Taking { place: 0, member: self.holder(index), bundle, count };
        self.may_take(admitted, transaction, &taking)?;
        self.check_pin(admitted.items(), transaction, 0, false)?;
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let by_card = transaction.flags & FROM_CARD != 0;
        if !by_card {
            move_plain(transaction, collection(tables, admitted.request.channel), Account::IssuerUnits, 0, price);
        }
        let money = if by_card { price } else { 0 };
        if money | points != 0 {
            let mut stock = self.stock(transaction, 0, today);
            if pay_stored(tables, &mut stock, transaction, Account::IssuerUnits, money) < money
                || stock.take(transaction, Purse::POINTS, Account::PointsPool, points) < points
            {
                return Err(plain(Code::InsufficientFunds));
            }
        }
        if bundle.is_over(today) {
            return Err((Code::InvalidTransaction, Reason::Expired));
        }
        self.hand_over(admitted, transaction, &taking);
        Ok(Code::Approved)
    }

    /// Lets coupons out as codes.
    #[cold]
    pub(super) fn decide_issue_codes(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let request = admitted.request;
        let programme = &self.organisation.programmes[admitted.programme];
        let tables = programme.rules.as_ref().map(|rules| &rules.tables);
        let unit = tables.and_then(|tables| tables.unit(request.product)).filter(|unit| unit.kind == UnitKind::Coupon);
        let unit = unit.ok_or(plain(Code::InvalidTransaction))?.id;
        if request.expires != 0 && request.expires < programme.calendar.open {
            return Err(plain(Code::InvalidTransaction));
        }
        if !(1..=CODES_MAX).contains(&request.amount) {
            return Err(plain(Code::InvalidAmount));
        }
        let out: u64 = programme.series.values().map(|series| series.next() - 1).sum();
        if out + request.amount as u64 > CODES_OUT_MAX {
            return Err(plain(Code::ExceedsLimit));
        }
        let first = programme.series.get(&unit).map_or(1, |series| series.next());
        move_plain(transaction, Account::UnitPool, Account::Codes, unit, request.amount);
        transaction.changes.push(Change::Codes { unit, first, count: request.amount as u32, expires: request.expires });
        Ok(Code::Approved)
    }
}
