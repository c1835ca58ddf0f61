//! Rules that are kept outside the engine: what they are shown of a group of sales, and how what they say is an item of each.
//!
//! An [`Adviser`] asks them, once for a group, with the sales in columns. What they say is an input: it lies in the entry of the sale as items that
//! nobody can send ([`ItemKind::Advice`]), and pricing reads it from there, so that replay and retries ask nobody. A rule that says nothing of a sale
//! leaves no item.

use zerocopy::IntoBytes;

use crate::commands::Request;
use crate::details::{Item, ItemKind};
use crate::rules::{FACTOR_MAX, Heard, PythonRule, Said, local_date};
use crate::units::RATE_ONE;

/// Who asks the rules that are kept outside. It is asked by the writer, for whom everything waits: it must answer within a bound of its own.
pub trait Adviser: Send {
    /// What each of these rules says of a group of sales; of one that did not say it, why.
    fn advise(&mut self, group: &Columns, rules: &[PythonRule]) -> Vec<Outcome>;
}

/// What a rule said of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of each sale in order.
    Said(Vec<Said>),
    /// It is not there, broke, or said what cannot be.
    Failed,
    /// It did not answer in its time.
    TimedOut,
}

impl Outcome {
    /// What it said of so many sales, if it said as much.
    pub(crate) fn checked(self, sales: usize) -> Outcome {
        match self {
            Outcome::Said(said) if said.len() != sales || !said.iter().all(Said::is_ok) => Outcome::Failed,
            other => other,
        }
    }

    /// What was heard of the sale at a place.
    pub(crate) fn of(&self, at: usize) -> Heard {
        match self {
            Outcome::Said(said) => Heard::Said(said[at]),
            Outcome::Failed => Heard::Failed,
            Outcome::TimedOut => Heard::TimedOut,
        }
    }
}

/// The sales of a group, of one programme: the requests, and their cards as they are when the group begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // docs/python-rules.md has the table
pub struct Columns {
    pub programme: u16,
    /// The open business date.
    pub open_date: i32,
    pub amount: Vec<i64>,
    pub card: Vec<i64>,
    pub number: Vec<u64>,
    pub member: Vec<u64>,
    pub principal: Vec<i64>,
    pub bonus: Vec<i64>,
    pub points: Vec<i64>,
    pub terminal: Vec<u32>,
    pub store: Vec<u32>,
    pub merchant: Vec<u32>,
    pub date: Vec<i32>,
    pub time: Vec<i32>,
    pub last_date: Vec<i32>,
    pub product: Vec<u16>,
    pub kind: Vec<u8>,
    pub flags: Vec<u8>,
    pub channel: Vec<u8>,
    pub digits: Vec<u8>,
    pub tier: Vec<u8>,
    pub status: Vec<u8>,
}

/// What a rule sees of a card; of one that is not there when the group begins, nothing.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct SeenCard {
    pub card: i64,
    pub number: u64,
    pub digits: u8,
    pub member: u64,
    pub balances: [i64; 3],
    pub last_date: i32,
    pub product: u16,
    pub tier: u8,
    pub status: u8,
}

impl SeenCard {
    /// No card.
    pub const NONE: SeenCard =
        SeenCard { card: -1, number: 0, digits: 0, member: 0, balances: [0; 3], last_date: 0, product: 0, tier: 0, status: 0 };
}

impl Columns {
    /// How many sales there are.
    pub fn len(&self) -> usize {
        self.amount.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.amount.is_empty()
    }

    /// Adds a sale on a card in a store of a merchant.
    pub fn push(&mut self, request: &Request, card: &SeenCard, store: u32, merchant: u32) {
        self.amount.push(request.amount);
        self.card.push(card.card);
        self.number.push(card.number);
        self.member.push(card.member);
        self.principal.push(card.balances[0]);
        self.bonus.push(card.balances[1]);
        self.points.push(card.balances[2]);
        self.terminal.push(request.terminal);
        self.store.push(store);
        self.merchant.push(merchant);
        self.date.push(local_date(request.business_date, request.local_time));
        self.time.push(request.local_time.rem_euclid(86_400));
        self.last_date.push(card.last_date);
        self.product.push(card.product);
        self.kind.push(request.kind);
        self.flags.push(request.flags);
        self.channel.push(request.channel);
        self.digits.push(card.digits);
        self.tier.push(card.tier);
        self.status.push(card.status);
    }

    /// Name, bytes of one and bytes of all of each column: the widest first, so that each begins where its width asks for it. Those of eight bytes and of
    /// four are signed, but for the numbers of cards, members and places; so is nothing else.
    pub fn each(&self) -> [(&'static str, &'static str, &[u8]); 20] {
        [
            ("amount", "<i8", self.amount.as_bytes()),
            ("card", "<i8", self.card.as_bytes()),
            ("number", "<u8", self.number.as_bytes()),
            ("member", "<u8", self.member.as_bytes()),
            ("principal", "<i8", self.principal.as_bytes()),
            ("bonus", "<i8", self.bonus.as_bytes()),
            ("points", "<i8", self.points.as_bytes()),
            ("terminal", "<u4", self.terminal.as_bytes()),
            ("store", "<u4", self.store.as_bytes()),
            ("merchant", "<u4", self.merchant.as_bytes()),
            ("date", "<i4", self.date.as_bytes()),
            ("time", "<i4", self.time.as_bytes()),
            ("last_date", "<i4", self.last_date.as_bytes()),
            ("product", "<u2", self.product.as_bytes()),
            ("kind", "|u1", self.kind.as_bytes()),
            ("flags", "|u1", self.flags.as_bytes()),
            ("channel", "|u1", self.channel.as_bytes()),
            ("digits", "|u1", self.digits.as_bytes()),
            ("tier", "|u1", self.tier.as_bytes()),
            ("status", "|u1", self.status.as_bytes()),
        ]
    }
}

/// What became of asking a rule, in the `digits` of an item.
mod digits {
    pub const SAID: u8 = 0;
    pub const REFUSES: u8 = 1;
    pub const FAILED: u8 = 2;
    pub const TIMED_OUT: u8 = 3;
}

impl Item {
    /// What was heard of a rule; None if it said nothing.
    #[inline]
    pub fn advice(rule: u16, heard: Heard) -> Option<Item> {
        let of =
            |digits, amount, low| Some(Item { kind: ItemKind::Advice as u8, digits, unit: rule, amount, low, ..Item::default() });
        match heard {
            Heard::Said(Said::NOTHING) => None,
            Heard::Said(Said { refuses: true, .. }) => of(digits::REFUSES, 0, 0),
            // One more, because a factor of 0 is one, too.
            Heard::Said(Said { off, factor, .. }) if factor != Said::NOTHING.factor => of(digits::SAID, off as i64, factor + 1),
            Heard::Said(Said { off, .. }) => of(digits::SAID, off as i64, 0),
            Heard::Failed => of(digits::FAILED, 0, 0),
            Heard::TimedOut => of(digits::TIMED_OUT, 0, 0),
        }
    }

    /// The rule, and what was heard of it, of an item that says so.
    #[inline]
    pub fn heard(&self) -> Option<(u16, Heard)> {
        if self.kind != ItemKind::Advice as u8 {
            return None;
        }
        let factor = self.low.checked_sub(1).map_or(Said::NOTHING.factor, |factor| factor.min(FACTOR_MAX));
        let heard = match self.digits {
            digits::SAID => Heard::Said(Said { off: self.amount.unsigned_abs().min(RATE_ONE), factor, refuses: false }),
            digits::REFUSES => Heard::Said(Said { refuses: true, ..Said::NOTHING }),
            digits::TIMED_OUT => Heard::TimedOut,
            _ => Heard::Failed,
        };
        Some((self.unit, heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_item_says_what_was_heard(rule: u16, off in 0..=1_000_000_000_000u64, factor in 0..=100_000_000_000_000u64) {
            let said = Said { off, factor, refuses: false };
            let refuses = Said { refuses: true, ..Said::NOTHING };
            for heard in [Heard::Said(said), Heard::Said(refuses), Heard::Failed, Heard::TimedOut] {
                prop_assert_eq!(Item::advice(rule, heard).unwrap().heard(), Some((rule, heard)));
            }
            prop_assert_eq!(Item::advice(rule, Heard::Said(Said::NOTHING)), None);
        }
    }

    #[test]
    fn what_cannot_be_said_was_not() {
        let said = |off, factor| Outcome::Said(vec![Said { off, factor, refuses: false }]);
        assert_eq!(said(1, 1).checked(1), said(1, 1));
        assert_eq!(said(1, 1).checked(2), Outcome::Failed);
        assert_eq!(said(1_000_000_000_001, 1).checked(1), Outcome::Failed);
        assert_eq!(said(0, 100_000_000_000_001).checked(1), Outcome::Failed);
    }
}
