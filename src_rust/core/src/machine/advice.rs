//! What rules that are kept outside see of a sale before it is decided, and how what they said reaches its price.

use crate::advice::{Columns, SeenCard};
use crate::cards::CardNumber;
use crate::codes::Code;
use crate::commands::Request;
use crate::details::{Item, Reason};
use crate::machine::Machine;
use crate::machine::sale::Refused;
use crate::rules::{Heard, Said};

impl Machine {
    /// Adds a sale to what they see, its card as it is now.
    pub(crate) fn show(
        &mut self,
        columns: &mut Columns,
        request: &Request,
        card: Option<u32>,
        terminal: Option<u32>,
        sequence: u64,
    ) {
        let programme = self.organisation.programme(request.programme());
        let seen = card.zip(programme).map_or(SeenCard::NONE, |(card, programme)| self.see(programme, card, sequence));
        let store = terminal.map(|terminal| &self.organisation.stores[self.organisation.store_of(terminal) as usize]);
        let merchant = store.map_or(0, |store| self.organisation.merchants[store.merchant as usize].number);
        columns.push(request, &seen, store.map_or(0, |store| store.number), merchant);
    }

    fn see(&mut self, programme: usize, index: u32, sequence: u64) -> SeenCard {
        self.touch(programme, index, sequence);
        let (card, calendar) = (self.cards.card(index), &self.organisation.programmes[programme].calendar);
        let number: CardNumber = card.number();
        SeenCard {
            card: index.into(),
            number: number.value(),
            digits: number.digits(),
            member: self.wallet(index).map_or(0, |wallet| wallet.rest().member),
            balances: self.balances(index),
            last_date: calendar.open_at(card.last),
            product: card.product,
            tier: card.tier,
            status: card.status,
        }
    }
}

/// None of them refuses the sale.
pub(super) fn must_not_be_refused(items: &[Item]) -> Result<(), Refused> {
    let refuses = |(_, heard)| matches!(heard, Heard::Said(Said { refuses: true, .. }));
    if items.iter().filter_map(Item::heard).any(refuses) { Err((Code::NotPermitted, Reason::Advised)) } else { Ok(()) }
}
