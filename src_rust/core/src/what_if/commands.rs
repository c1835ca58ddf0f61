//! What an entry tells of the request that it answered.
//!
//! Everything that pricing reads is in an entry, but PINs and whether codes were genuine: these are taken as found then ([`Pins`]).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::codes::Code;
use crate::commands::{Kind, Original, Registration, Request};
use crate::details::{Item, ItemKind, Reason};
use crate::journal::entry::{CardRef, Change, Entry, Transaction};
use crate::keys::KeyName;
use crate::machine::Machine;
use crate::originals::Named;
use crate::wallets::TRIES_MAX;

/// One step of a period, in the order in which they were taken.
pub(super) enum Step {
    Transaction(Command),
    Registration(Registration),
    /// A version of the rules came into force, with these tables.
    Rules {
        version: u32,
        json: String,
    },
    /// A day was closed: the sequence of the first of its entries, and what they came to.
    Close {
        sequence: u64,
        effects: u64,
    },
}

/// A request as its entry tells it, and how it was answered.
pub(super) struct Command {
    pub sequence: u64,
    /// Its items are those of the period from `first_item` on.
    pub request: Request,
    pub kind: Kind,
    pub original: Origin,
    pub pins: Pins,
    /// What is known of how near the holder's birthday is: a sum of [`Birthday`](crate::rules::Birthday).
    pub birthday: u8,
    /// A code among the items was found to be forged.
    pub forged: bool,
    /// Its entry has details.
    pub detailed: bool,
    pub code: Code,
    pub effects: u64,
}

/// The original that a request names: as it was found, and would be found whatever the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Nothing,
    UnknownKey,
    Marked,
    Entry(u64),
}

impl From<&Named> for Origin {
    fn from(named: &Named) -> Origin {
        match named {
            Named::Nothing => Origin::Nothing,
            Named::UnknownKey => Origin::UnknownKey,
            Named::Marked => Origin::Marked,
            Named::Entry(earlier) => Origin::Entry(earlier.0),
        }
    }
}

/// What is known of the PINs that came with a request.
///
/// Where nothing speaks against it the right one was given: whoever is asked for it now would have given it then. A wrong one is wrong again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pins {
    /// The card at this place had a wrong one, or one though it has none.
    pub wrong: Option<u16>,
    /// A bit for each place: none was given, because wrong ones were counted and a right one would have ended that; or it was missing.
    pub none: u64,
}

impl Command {
    /// The command of an entry, which is yet to be applied to the machine; and its items, which the caller keeps.
    pub fn of(entry: &Transaction, original: Origin, birthday: u8, machine: &Machine, sequence: u64) -> Command {
        Command {
            sequence,
            request: request_of(entry, machine),
            kind: entry.kind,
            original,
            birthday,
            pins: if entry.detailed { Pins::of(entry, machine) } else { Pins { wrong: None, none: u64::MAX } },
            forged: entry.code == Code::SuspectedFraud && entry.detail.reason == Reason::Forged,
            detailed: entry.detailed,
            code: entry.code,
            effects: effects(entry),
        }
    }
}

fn request_of(entry: &Transaction, machine: &Machine) -> Request {
    let mut request = Request {
        kind: entry.kind as u8,
        flags: entry.flags,
        channel: entry.channel,
        programme: entry.key.programme,
        product: entry.product,
        business_date: entry.key.date,
        local_time: entry.time,
        amount: entry.amount,
        terminal: entry.terminal,
        expires: entry.expires,
        status: entry.status,
        items: sent(entry).count() as u16,
        ..Request::default()
    };
    match entry.key.name {
        KeyName::Trace { trace, .. } => request.trace = trace,
        KeyName::Id(id) => (request.id_hi, request.id_lo) = halves(id),
    }
    if entry.kind.has_card() {
        name_card(entry, machine, &mut request);
    }
    match entry.original {
        None => {}
        Some(Original::Sequence(sequence)) => request.original = sequence,
        Some(Original::Key(key)) => {
            request.original_date = key.date;
            match key.name {
                KeyName::Trace { terminal, trace } => (request.original_terminal, request.original_trace) = (terminal, trace),
                KeyName::Id(id) => (request.original_id_hi, request.original_id_lo) = halves(id),
            }
        }
    }
    request
}

/// The card of the row: that of the entry, by the number that it had, unless an alias among the items named it.
fn name_card(entry: &Transaction, machine: &Machine, request: &mut Request) {
    let by_alias = entry.kind != Kind::Bind && entry.detail.items.iter().any(|item| item.kind == ItemKind::Alias as u8);
    let number = match entry.card {
        _ if by_alias => None,
        CardRef::None => None,
        CardRef::Unknown(number) => Some(number),
        CardRef::Known { issued: Some(number), .. } => Some(number),
        CardRef::Known { index, .. } => Some(machine.cards.card(index).number()),
    };
    if let Some(number) = number {
        (request.card, request.card_digits) = (number.value(), number.digits());
    }
}

/// The items that were sent, but for PINs. A card that a trigger named is found by its number, as it was then: its index may be another now. If
/// there was none, there is none.
pub(super) fn sent(entry: &Transaction) -> impl Iterator<Item = Item> {
    let nowhere = entry.card == CardRef::None;
    let of = move |item: &Item| match item.kind == ItemKind::Cursor as u8 && nowhere {
        true => Item { low: u32::MAX.into(), ..*item },
        false => *item,
    };
    entry.detail.items.iter().filter(|item| item.is_sent()).map(of)
}

fn halves(id: u128) -> (u64, u64) {
    ((id >> 64) as u64, id as u64)
}

impl Pins {
    /// What an entry with details tells, and the cards as they were before it.
    fn of(entry: &Transaction, machine: &Machine) -> Pins {
        let own = match entry.card {
            CardRef::Known { index, issued: None, .. } => Some(index),
            _ => None,
        };
        let cards = || std::iter::once(own).chain(entry.detail.cards.iter().map(|card| Some(card.0)));
        let pin = |card: Option<u32>| match card.and_then(|index| machine.wallet(index)).map(|wallet| wallet.rest()) {
            Some(rest) => (rest.pin.is_some(), rest.tries),
            None => (false, 0),
        };
        let tries = |at: usize| {
            entry.changes.iter().find_map(|change| match *change {
                Change::Tries { card, tries } if usize::from(card) == at => Some(tries),
                _ => None,
            })
        };
        let bits = |is: &dyn Fn(usize, Option<u32>) -> bool| -> u64 {
            cards().enumerate().take(64).filter(|&(at, card)| is(at, card)).map(|(at, _)| 1 << at).sum()
        };
        let right = bits(&|at, _| tries(at) == Some(0));
        let counted = bits(&|_, card| pin(card).1 > 0);
        let first = |is: &dyn Fn((bool, u8)) -> bool| cards().position(|card| is(pin(card)));
        let wrong = match entry.code {
            Code::PinRequired => return Pins { wrong: None, none: !right },
            Code::IncorrectPin | Code::PinTriesExceeded => {
                let counts = (0..=entry.detail.cards.len()).find(|&at| tries(at).is_some_and(|tries| tries > 0));
                counts.or_else(|| match entry.code {
                    Code::IncorrectPin => first(&|(has_pin, _)| !has_pin),
                    _ => first(&|(has_pin, tries)| has_pin && tries >= TRIES_MAX),
                })
            }
            _ => None,
        };
        Pins { wrong: wrong.map(|at| at as u16), none: counted & !right }
    }

    /// True if the card at a place gets no PIN.
    fn is_none(self, place: u16) -> bool {
        place >= 64 || self.none >> place & 1 != 0
    }

    /// Adds items and the PINs that came with them, hashed as the machine takes them: each after the item of its card, that of the own card
    /// first.
    pub fn add(self, command: &Command, items: &[Item], machine: &Machine, out: &mut Vec<Item>) {
        let programme = command.request.programme();
        let own = crate::cards::CardNumber::new(command.request.card, command.request.card_digits);
        out.extend(self.item(0, || machine.named_card(programme, own, items), machine));
        let mut place = 0;
        for item in items {
            out.push(*item);
            if item.kind == ItemKind::Card as u8 {
                place += 1;
                let card = || item.card_number().and_then(|number| machine.locate(programme, number).ok());
                out.extend(self.item(place, card, machine));
            }
        }
    }

    /// The PIN of the card at a place.
    fn item(self, place: u16, card: impl Fn() -> Option<u32>, machine: &Machine) -> Option<Item> {
        let wrong = self.wrong == Some(place);
        if self.is_none(place) && !wrong {
            return None;
        }
        let pin = card().and_then(|index| machine.wallet(index)).and_then(|wallet| wallet.rest().pin);
        let hash = match pin {
            Some(pin) => pin.hash ^ u128::from(wrong),
            None if wrong => 0,
            None => return None,
        };
        let (high, low) = halves(hash);
        let number = pin.map_or(0, |pin| pin.key);
        Some(Item { kind: ItemKind::Pin as u8, number, high, low, ..Item::default() })
    }
}

/// What a transaction came to, as a number: equal for equal effects, whatever the index of its cards.
pub(super) fn effects(transaction: &Transaction) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Transaction { kind, code, store, posted, rule, moves, changes, balances, detailed, detail, .. } = transaction;
    let known = matches!(transaction.card, CardRef::Known { .. });
    (*kind as u8, code, store, posted, rule, known, balances, detailed).hash(&mut hasher);
    moves.hash(&mut hasher);
    for change in changes {
        match change {
            Change::Sold { amount, .. } => amount.hash(&mut hasher),
            change => change.hash(&mut hasher),
        }
    }
    if *detailed {
        (&detail.posts, &detail.balances, &detail.units, &detail.lines, detail.cards.len()).hash(&mut hasher);
        (detail.cash, detail.unpaid, detail.discount, detail.reason as u8).hash(&mut hasher);
    }
    hasher.finish()
}

/// The same of the entries of a close.
pub(super) fn close_effects(entries: &[Entry]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in entries {
        match entry {
            Entry::LotsLapsed(lapsed) => (lapsed.date, &lapsed.legs).hash(&mut hasher),
            Entry::GrowthOpens(opens) => {
                (opens.rate, opens.outstanding, opens.purses, opens.reserve, opens.funded, &opens.legs).hash(&mut hasher);
            }
            Entry::DayClosed(closed) => {
                (closed.date, closed.members, closed.bonus, closed.points, closed.units, &closed.legs).hash(&mut hasher);
            }
            _ => {}
        }
    }
    hasher.finish()
}
