//! The door: what can be said of a row before its turn comes, without the state. The caller's thread does it, so that the writer need not.

use crate::cards::{CardNumber, Cards};
use crate::commands::{Batch, Kind, Request};
use crate::details::{Item, ItemKind, item_of, items_fit};
use crate::organisation::terminal_hash;
use crate::secrets::Secrets;

/// What a row asks for, and the hashes by which its terminal, its card and its key are found.
#[derive(Clone, Copy)]
pub(crate) struct Checked {
    pub(crate) terminal_hash: u64,
    /// 0 if it names no card.
    pub(crate) card_hash: u64,
    pub(crate) key_hash: u64,
    /// None if it names no card.
    pub(crate) number: Option<CardNumber>,
    /// None: it is malformed, and answered with code 30.
    pub(crate) kind: Option<Kind>,
    /// It has items.
    pub(crate) has_items: bool,
    /// One of its items is a coupon's code whose MAC is wrong.
    pub(crate) forged: bool,
}

impl Checked {
    /// What can be said of each row of a batch.
    pub(crate) fn of_batch(batch: &Batch, secrets: &Secrets) -> Vec<Checked> {
        let of = |request: &Request| match batch.items_of(request) {
            Some([]) => Checked::of(request, &[], secrets),
            Some(items) => Checked::of(request, items, secrets),
            None => Checked { kind: None, ..Checked::of(request, &[], secrets) },
        };
        batch.rows.iter().map(of).collect()
    }

    #[inline]
    fn of(request: &Request, items: &[Item], secrets: &Secrets) -> Checked {
        let number = CardNumber::new(request.card, request.card_digits);
        let kind = request.check_format();
        let no_items = items.is_empty() & (request.items == 0);
        Checked {
            terminal_hash: terminal_hash(request.programme(), request.terminal),
            card_hash: number.map_or(0, |number| Cards::hash(request.programme(), number)),
            key_hash: request.key().hash(),
            number,
            kind: kind.filter(|&kind| match no_items {
                true => kind.needs_no_items(request),
                false => items_fit(kind, items, request) && (kind.needs_no_items(request) || has_needed(kind, items)),
            }),
            has_items: !no_items,
            forged: !no_items && has_forged(request.programme(), items, secrets),
        }
    }
}

/// True if a kind that needs items has the one that says what is asked: of a PIN that is set, the new one. The others are looked at with them.
fn has_needed(kind: Kind, items: &[Item]) -> bool {
    kind != Kind::SetPin || item_of(items, ItemKind::NewPin).is_some()
}

/// True if an item is a code that was made with none of the keys.
#[cold]
fn has_forged(programme: u16, items: &[Item], secrets: &Secrets) -> bool {
    let codes = items.iter().filter(|item| item.kind == ItemKind::Code as u8);
    codes.into_iter().any(|item| !secrets.is_code(programme, item.unit, item.low, item.high))
}
