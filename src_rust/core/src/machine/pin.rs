//! PINs: who must give one, whether it is the right one, and how wrong ones are counted.
//!
//! The pipeline hashes a PIN with the salt and the key of the card that it is meant for before the machine sees it. Hashes are compared in
//! constant time. A wrong PIN is a kept refusal: a retry of it is not counted again.

use subtle::ConstantTimeEq;

use crate::codes::Code;
use crate::commands::BY_OPERATOR;
use crate::details::{Item, ItemKind, item_of};
use crate::journal::entry::{Change, PinHash, Transaction};
use crate::machine::lots::card_at;
use crate::machine::sale::{Refused, plain};
use crate::machine::{Admitted, Machine};
use crate::wallets::TRIES_MAX;

/// The PIN that is given for the card at a place: it follows the item that names the card; that of the request's card stands before all of these.
fn pin_for(items: &[Item], card: u16) -> Option<&Item> {
    let mut at = 0;
    let mut found = None;
    for item in items {
        match item.what() {
            ItemKind::Card => at += 1,
            ItemKind::Pin if at == card => found = Some(item),
            _ => {}
        }
    }
    found
}

impl Machine {
    /// Checks the PINs of a request's cards: the own one if it is given or `demanded`; that of a further card unless it has the same holder.
    pub(super) fn check_pins(
        &self,
        admitted: &Admitted<'_>,
        transaction: &mut Transaction,
        demanded: bool,
    ) -> Result<(), Refused> {
        self.check_pin(admitted.items(), transaction, 0, demanded)?;
        for card in 1..=transaction.detail.cards.len() as u16 {
            let [own, other] = [0, card].map(|card| card_at(transaction, card).map_or(0, |index| self.holder(index)));
            self.check_pin(admitted.items(), transaction, card, own == 0 || own != other)?;
        }
        Ok(())
    }

    /// Who holds the card with this index; 0: nobody knows.
    pub(crate) fn holder(&self, index: u32) -> u64 {
        self.wallet(index).map_or(0, |wallet| wallet.rest().member)
    }

    /// Checks the PIN of the card at a place, if one is given or needed.
    pub(super) fn check_pin(
        &self,
        items: &[Item],
        transaction: &mut Transaction,
        card: u16,
        needed: bool,
    ) -> Result<(), Refused> {
        let refuse = |code| Err(plain(code));
        let Some(index) = card_at(transaction, card) else { return refuse(Code::InvalidCard) };
        let Some(item) = pin_for(items, card) else {
            return if needed { refuse(Code::PinRequired) } else { Ok(()) };
        };
        let (pin, tries) = self.wallet(index).map_or((None, 0), |wallet| (wallet.rest().pin, wallet.rest().tries));
        let Some(pin) = pin else { return refuse(Code::IncorrectPin) };
        if tries >= TRIES_MAX {
            return refuse(Code::PinTriesExceeded);
        }
        if is_right(item, &pin) {
            if tries > 0 {
                transaction.changes.push(Change::Tries { card, tries: 0 });
            }
            return Ok(());
        }
        transaction.changes.push(Change::Tries { card, tries: tries + 1 });
        refuse(if tries + 1 == TRIES_MAX { Code::PinTriesExceeded } else { Code::IncorrectPin })
    }

    /// Sets the card's PIN, or lets it be tried again. Who is no operator must know the one before.
    #[cold]
    pub(super) fn decide_set_pin(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<Code, Refused> {
        let by_operator = transaction.flags & BY_OPERATOR != 0;
        let Some(index) = card_at(transaction, 0) else { return Err(plain(Code::InvalidCard)) };
        let has_pin = self.wallet(index).is_some_and(|wallet| wallet.rest().pin.is_some());
        if !by_operator {
            self.must_be_usable(admitted, self.cards.card(index))?;
            self.check_pin(admitted.items(), transaction, 0, has_pin)?;
        }
        match item_of(admitted.items(), ItemKind::NewPin) {
            Some(item) => {
                let hash = item.hash();
                let Some(salt) = admitted.beside.and_then(|beside| beside.salt) else {
                    return Err(plain(Code::NotAvailable));
                };
                transaction.changes.push(Change::Pin(PinHash { key: item.number, salt, hash }));
            }
            None => transaction.changes.push(Change::Tries { card: 0, tries: 0 }),
        }
        Ok(Code::Approved)
    }
}

/// Compares without telling by its time where they differ.
fn is_right(item: &Item, pin: &PinHash) -> bool {
    let given = item.hash();
    bool::from(given.ct_eq(&pin.hash) & item.number.ct_eq(&pin.key))
}
