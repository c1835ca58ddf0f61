//! The life of a card: its state, its number, its names, its holder, and its end. The wallet outlives the number.

use crate::accounts::Account;
use crate::cards::{CardNumber, Status};
use crate::codes::Code;
use crate::commands::UNBIND;
use crate::details::{ItemKind, Reason, item_of};
use crate::journal::entry::{Change, Transaction};
use crate::machine::lots::{Purse, UNDATED, card_at, collection, move_lot};
use crate::machine::sale::{Refused, plain};
use crate::machine::{Admitted, Machine, above, is_amount};

impl Machine {
    pub(super) fn card_of(&self, transaction: &Transaction) -> Result<u32, Refused> {
        let index = card_at(transaction, 0).ok_or(plain(Code::InvalidCard))?;
        match self.cards.card(index).status {
            status if status == Status::Closed as u8 => Err(plain(Code::ClosedCard)),
            _ => Ok(index),
        }
    }

    /// Sets the card's status; a closed one stays closed.
    #[cold]
    pub(super) fn decide_status(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        self.card_of(transaction)?;
        transaction.changes.push(Change::Status(admitted.request.status));
        Ok(Code::Approved)
    }

    /// Gives the wallet another number: exchange and reissue. The old one is refused from then on, as lost, stolen or replaced.
    #[cold]
    pub(super) fn decide_replace(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let index = self.card_of(transaction)?;
        let item = item_of(admitted.items(), ItemKind::Number).expect("it was let in");
        let number = item.card_number().expect("it was let in");
        if self.locate(admitted.request.programme(), number) != Err(Code::InvalidCard) {
            return Err(plain(Code::InvalidCard));
        }
        let code = Status::refusal(admitted.request.status.max(1)).unwrap_or(Code::PickUp);
        transaction.changes.push(Change::Number { number, former: self.cards.card(index).number(), code });
        transaction.changes.push(Change::Status(Status::Active as u8));
        Ok(Code::Approved)
    }

    /// Gives the wallet to another holder, or notes that the holder's real name is known.
    #[cold]
    pub(super) fn decide_holder(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let index = self.card_of(transaction)?;
        let item = item_of(admitted.items(), ItemKind::Member).expect("it was let in");
        transaction.changes.push(Change::Holder { member: item.low, named: item.amount == 1 });
        if self.holder(index) == 0 && item.low != 0 {
            self.welcome(admitted, index, item.low, transaction);
        }
        Ok(Code::Approved)
    }

    /// Lets an alias lead to the card, or takes it off. One that leads to another card is moved only by who names that card, with its PIN if it
    /// has one.
    #[cold]
    pub(super) fn decide_bind(
        &mut self,
        admitted: &Admitted<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        let index = self.card_of(transaction)?;
        self.find_further_cards(admitted, sequence, transaction)?;
        let alias = item_of(admitted.items(), ItemKind::Alias).expect("it was let in");
        let (kind, hash) = (alias.digits, alias.hash());
        let bound = self.names.find(admitted.request.programme(), kind, hash).map(|(card, _)| card);
        let unbind = transaction.flags & UNBIND != 0;
        match (bound, card_at(transaction, 1)) {
            (Some(card), None) if card == index => {}
            (None, None) if !unbind => {}
            (Some(_), None) if !unbind => return Err((Code::NotPermitted, Reason::BoundElsewhere)),
            (Some(card), Some(from)) if card == from && !unbind => {
                let has_pin = self.wallet(from).is_some_and(|wallet| wallet.rest().pin.is_some());
                self.check_pin(admitted.items(), transaction, 1, has_pin)?;
            }
            _ => return Err((Code::NotPermitted, Reason::NotBound)),
        }
        self.check_pin(admitted.items(), transaction, 0, false)?;
        if unbind || bound != Some(index) {
            transaction.changes.push(Change::Alias { kind, hash, bound: !unbind });
        }
        Ok(Code::Approved)
    }

    /// Moves value of one purse from a further card to this one, lot by lot.
    #[cold]
    pub(super) fn decide_transfer(
        &mut self,
        admitted: &Admitted<'_>,
        sequence: u64,
        transaction: &mut Transaction,
    ) -> Result<Code, Refused> {
        let index = self.card_of(transaction)?;
        self.must_be_usable(admitted, self.cards.card(index))?;
        self.find_further_cards(admitted, sequence, transaction)?;
        let (purse, amount) = (admitted.request.product, admitted.request.amount);
        if !is_amount(amount) {
            return Err(plain(Code::InvalidAmount));
        }
        let (tables, product) = self.rules_of(admitted.programme, self.cards.card(index));
        let transit = match purse {
            Purse::PRINCIPAL => Account::TransitMoney,
            Purse::POINTS => Account::TransitPoints,
            unit if tables.unit(unit).is_some() && !tables.is_growth(unit) => Account::TransitUnits,
            _ => return Err(plain(Code::InvalidTransaction)),
        };
        self.check_pins(admitted, transaction, false)?;
        let today = self.organisation.programmes[admitted.programme].calendar.open;
        let mut stock = self.stock(transaction, 1, today);
        let taken = match transit {
            Account::TransitUnits => stock.take_unit(transaction, stock.first(purse), purse, transit, amount),
            _ => stock.take(transaction, purse, transit, amount),
        };
        if taken < amount {
            return Err(plain(Code::InsufficientFunds));
        }
        for post in transaction.detail.posts.clone() {
            self.give(transaction, Purse { card: 0, number: purse }, (post.begins, post.expires), transit, post.amount);
        }
        let after = |number| self.purse_after(transaction, Purse { card: 0, number });
        let limits = self.limits(product, index);
        if purse == Purse::PRINCIPAL && above(after(Purse::PRINCIPAL) + after(Purse::BONUS), limits.balance_max) {
            return Err(plain(Code::ExceedsLimit));
        }
        Ok(Code::Approved)
    }

    /// Closes the card: its principal is paid out, all else lapses.
    #[cold]
    pub(super) fn decide_close(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let index = self.card_of(transaction)?;
        if self.wallet(index).is_some_and(|wallet| !wallet.rest().holds.is_empty()) {
            return Err(plain(Code::InvalidTransaction));
        }
        let (tables, _) = self.rules_of(admitted.programme, self.cards.card(index));
        let out = collection(tables, admitted.request.channel);
        let card = *self.cards.card(index);
        // What the card owes is kept back.
        let kept = card.principal.min(-card.shortfall_money);
        move_lot(transaction, Account::CardPrincipal, Account::StoreCollection, 0, 0, UNDATED, kept);
        move_lot(transaction, Account::StoreCollection, Account::CardShortfallMoney, 0, 0, UNDATED, kept);
        move_lot(transaction, Account::CardPrincipal, out, 0, 0, UNDATED, card.principal - kept);
        self.each_lot(index, |number, dates, amount, _| {
            let purse = Purse { card: 0, number };
            if number != Purse::PRINCIPAL {
                move_lot(transaction, purse.account(), purse.pool(), 0, purse.unit(), dates, amount);
            }
        });
        transaction.changes.push(Change::Status(Status::Closed as u8));
        Ok(Code::Approved)
    }

    /// What a number that is no card's now leads to: the code of a former number, or 14.
    pub(super) fn refusal_of(&self, programme: u16, number: CardNumber) -> Code {
        self.names.former(programme, number).and_then(|(_, code)| Code::from_number(code)).unwrap_or(Code::InvalidCard)
    }
}
