//! The feed: entries as rows of a fixed size, for who follows the journal from outside.
//!
//! Of the journal there are transactions, versions of the rules and closes of days, in order; each says what it was about and what
//! came of it, and nothing of its legs. All of a row is the entry's own, but for the number, the product and the holder of its card, which are
//! those of now: who does something about an entry does it to the card as it is.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::codes::Code;
use crate::commands::Kind;
use crate::journal::entry::{CardRef, Change, Entry, Transaction};
use crate::machine::{Machine, answer_of};

/// Most rows of a call.
pub const ROWS_MAX: usize = 65_536;
/// Most entries that a call looks at: few of them may be of the programme.
pub const ENTRIES_MAX: u64 = 4 * ROWS_MAX as u64;
/// Card index of an entry that has no card.
pub const NO_CARD: u32 = u32::MAX;
/// Rows whose cards are looked up together: who waits behind them waits for less than a millisecond.
pub(crate) const LOOKED_UP: usize = 4_096;
/// Cards whose memory is asked for ahead.
const AHEAD: usize = 16;

/// Kind of a row that says that rules were published: that of their entry.
pub const KIND_RULES: u8 = 36;
/// Kind of a row that says that a day was closed: that of its entry.
pub const KIND_DAY_CLOSED: u8 = 41;

/// One entry. What it does not have is zero.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FeedRow {
    /// Of the entry.
    pub sequence: u64,
    /// Sequence of the transaction of which a refund, a reversal, a capture or a void has changed something.
    pub original: u64,
    /// Value of the card's number.
    pub card: u64,
    /// Who holds the card; of a holder transaction whom it named.
    pub member: u64,
    /// As it was asked.
    pub amount: i64,
    /// As it was answered: what was paid, topped up, refunded, undone.
    pub paid: i64,
    /// The open day in which it was posted; of a close the day that was closed.
    pub business_date: i32,
    /// Date of its key.
    pub value_date: i32,
    /// Seconds since midnight of the value date, at the terminal.
    pub local_time: i32,
    /// Index of its card, from 0 in the order of issue; [`NO_CARD`]: it has none.
    pub card_index: u32,
    /// The store whose account it touched.
    pub store: u32,
    /// Terminal that asked.
    pub terminal: u32,
    /// Version of the rules that priced it, or that it published.
    pub rules: u32,
    /// Programme.
    pub programme: u16,
    /// The card's product.
    pub product: u16,
    /// Number of a [`Kind`], [`KIND_RULES`] or [`KIND_DAY_CLOSED`].
    pub kind: u8,
    /// How it was answered.
    pub code: u8,
    /// Digits of the card's number.
    pub card_digits: u8,
    /// How it came.
    pub channel: u8,
    /// As it was asked: of an issue 5 if it is activated later, of a status what the card is now, of a replacement what its old number is.
    pub status: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<FeedRow>() == 88);

/// What a call gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// 00 or 58.
    pub code: Code,
    /// In the order of their sequences.
    pub rows: Vec<FeedRow>,
    /// The sequence to go on from: all entries before it were looked at.
    pub next: u64,
}

impl FeedRow {
    /// The row of an entry of a programme; None if it is another's, or none that is told of.
    pub fn of(entry: &Entry, sequence: u64, programme: u16) -> Option<FeedRow> {
        let row = match entry {
            Entry::Transaction(transaction) if transaction.key.programme == programme => of_transaction(transaction, sequence),
            Entry::Rules { programme: of, version, .. } if *of == programme => {
                FeedRow { kind: KIND_RULES, rules: *version, card_index: NO_CARD, ..FeedRow::default() }
            }
            Entry::DayClosed(closed) if closed.programme == programme => {
                FeedRow { kind: KIND_DAY_CLOSED, business_date: closed.date, card_index: NO_CARD, ..FeedRow::default() }
            }
            _ => return None,
        };
        Some(FeedRow { sequence, programme, ..row })
    }
}

fn of_transaction(transaction: &Transaction, sequence: u64) -> FeedRow {
    let (card_index, card) = match transaction.card {
        CardRef::Known { index, .. } => (index, None),
        CardRef::Unknown(number) => (NO_CARD, Some(number)),
        CardRef::None => (NO_CARD, None),
    };
    FeedRow {
        original: original_of(transaction),
        card: card.map_or(0, |number| number.value()),
        card_digits: card.map_or(0, |number| number.digits()),
        member: named_holder(transaction).unwrap_or(0),
        amount: transaction.amount,
        paid: answer_of(transaction, sequence).amount,
        business_date: transaction.posted,
        value_date: transaction.key.date,
        local_time: transaction.time,
        card_index,
        store: transaction.store,
        terminal: transaction.terminal,
        rules: transaction.rule,
        kind: transaction.kind as u8,
        code: transaction.code.number(),
        channel: transaction.channel,
        status: transaction.status,
        ..FeedRow::default()
    }
}

/// What the entry changed something of: told by its changes, because a request may name it by its key.
fn original_of(transaction: &Transaction) -> u64 {
    let of = |change: &Change| match (transaction.kind, change) {
        (Kind::Refund, Change::Refunded { sequence, .. })
        | (Kind::Reversal, Change::Reversed { sequence, .. })
        | (Kind::Capture | Kind::Void, Change::Captured { sequence, .. }) => Some(*sequence),
        _ => None,
    };
    transaction.changes.iter().find_map(of).unwrap_or(0)
}

/// Whom a holder transaction gave the card.
fn named_holder(transaction: &Transaction) -> Option<u64> {
    let of = |change: &Change| if let Change::Holder { member, .. } = change { Some(*member) } else { None };
    transaction.changes.iter().find_map(of)
}

impl Machine {
    /// Fills in what the rows do not say of their cards: number, product and holder, as they are now.
    pub(crate) fn look_up_cards(&self, rows: &mut [FeedRow]) {
        for at in 0..rows.len() {
            if let Some(later) = rows.get(at + AHEAD).filter(|row| row.card_index < self.cards.len()) {
                self.cards.prefetch(later.card_index);
            }
            let row = &mut rows[at];
            if row.card_index >= self.cards.len() {
                continue;
            }
            let card = self.cards.card(row.card_index);
            let number = card.number();
            (row.card, row.card_digits, row.product) = (number.value(), number.digits(), card.product);
            if row.kind != Kind::Holder as u8 || row.code != 0 {
                row.member = self.holder(row.card_index);
            }
        }
    }
}
