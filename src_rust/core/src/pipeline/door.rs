//! The door: what can be said of a row before its turn comes, without the state. The caller's thread does it, so that the writer need not.

use crate::cards::{CardNumber, Cards};
use crate::commands::{Kind, Request};
use crate::organisation::terminal_hash;

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
}

impl Checked {
    pub(crate) fn of(request: &Request) -> Checked {
        let number = CardNumber::new(request.card, request.card_digits);
        Checked {
            terminal_hash: terminal_hash(request.programme(), request.terminal),
            card_hash: number.map_or(0, |number| Cards::hash(request.programme(), number)),
            key_hash: request.key().hash(),
            number,
            kind: request.check_format(),
        }
    }
}
