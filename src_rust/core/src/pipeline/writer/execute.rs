//! Executing rows: the checks that need the pipeline, in the order of `docs/codes.md`, and the search for earlier entries.
//!
//! Rows are executed one after the other, but the memory that they need is asked for some rows ahead: a swipe reads key table,
//! card index, card, points, terminal and store, each a miss of the cache, and the misses of several rows overlap.

use crate::accounts::Sums;
use crate::codes::Code;
use crate::commands::{Answer, Kind, Original, Request};
use crate::error::Error;
use crate::journal::JournalError;
use crate::journal::entry::{CardRef, Change, Entry, TRANSACTION_BYTES_MAX, Transaction};
use crate::keys::Key;
use crate::machine::{Admitted, Found, answer};
use crate::memory::prefetch;

use super::Writer;
use crate::pipeline::door::Checked;

/// Rows whose memory is asked for together.
const AHEAD_ROWS: usize = 32;

/// An entry and its sequence: in a box, because nearly always there is none, and that is to cost nothing.
type Earlier = Box<(u64, Transaction)>;

/// What is found of a row ahead of its execution. All of it holds for a group: registrations are jobs of their own.
#[derive(Clone, Copy, Default)]
struct Ahead {
    likely_card: Option<u32>,
    store: Option<u32>,
}

impl Writer {
    pub(super) fn execute(&mut self, rows: &[Request], checked: &[Checked]) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(rows.len());
        for (rows, checked) in rows.chunks(AHEAD_ROWS).zip(checked.chunks(AHEAD_ROWS)) {
            let ahead = self.look_ahead(rows, checked);
            for ((request, checked), ahead) in rows.iter().zip(checked).zip(&ahead) {
                // In place: an answer is too large to be handed from function to function.
                answers.push(Answer { kind: request.kind, ..Answer::default() });
                let place = answers.last_mut().expect("one was just added");
                if let Err(code) = self.execute_one(request, checked, ahead, place)? {
                    place.code = code.number().into();
                }
            }
        }
        Ok(answers)
    }

    /// Asks for all memory that the rows will need, in the order in which one place leads to the next.
    #[inline]
    fn look_ahead(&self, rows: &[Request], checked: &[Checked]) -> [Ahead; AHEAD_ROWS] {
        let (cards, organisation) = (&self.machine.cards, &self.machine.organisation);
        let mut ahead = [Ahead::default(); AHEAD_ROWS];
        for (request, checked) in rows.iter().zip(checked) {
            organisation.prefetch_terminal(checked.terminal_hash);
            cards.prefetch_index(checked.card_hash);
            self.keys.prefetch(request.business_date, checked.key_hash);
        }
        for (checked, ahead) in checked.iter().zip(&mut ahead) {
            ahead.likely_card = cards.prefetch_likely(checked.card_hash);
            ahead.store = organisation.store_of(checked.terminal_hash);
            ahead.store.iter().for_each(|&store| prefetch(&organisation.stores[store as usize]));
        }
        ahead
    }

    /// One transaction, by the order of checks in `docs/codes.md`: fills in its answer, or says with which code alone it is refused.
    #[inline]
    fn execute_one(
        &mut self,
        request: &Request,
        checked: &Checked,
        ahead: &Ahead,
        place: &mut Answer,
    ) -> Result<Result<(), Code>, Error> {
        if !checked.well_formed {
            return Ok(Err(Code::FormatError));
        }
        let programme = match self.machine.admit(request) {
            Ok(programme) => programme,
            Err(code) => return Ok(Err(code)),
        };
        let kind = request.kind();
        let sequence = self.block.next();
        if kind != Kind::Balance
            && let Some(earlier) = self.find_by_key(request.business_date, checked.key_hash, || request.key())?
        {
            return Ok(self.answer_again(request, &earlier, place));
        }
        let Some(store) = ahead.store else { return Ok(Err(Code::UnknownTerminal)) };
        let (card_hash, likely_card) = (checked.card_hash, ahead.likely_card);
        let admitted = Admitted { request, kind, programme, store, card_hash, likely_card };
        if kind == Kind::Balance {
            return Ok(self.machine.balance(&admitted, sequence, place));
        }
        if !self.has_room(TRANSACTION_BYTES_MAX as u64) {
            return Ok(Err(Code::NotAvailable));
        }
        let original = match request.named_original() {
            Some(named) => self.find_original(programme, named)?,
            None => Named::Nothing,
        };
        let (transaction, sums) = self.machine.execute(&admitted, original.found(), sequence);
        self.block.push_transaction(transaction);
        self.keys.insert(request.business_date, checked.key_hash, sequence);
        if let Some(marked) = transaction.marked_key() {
            self.keys.insert(marked.date, marked.hash(), sequence);
        }
        answer(transaction, sums, sequence, false, place);
        Ok(Ok(()))
    }

    /// The entry that a key with this date and hash belongs to, or the reversal that marked it. The key is only made if it is
    /// compared with another: nearly always there is none.
    #[inline]
    fn find_by_key(&self, date: i32, hash: u64, key: impl Fn() -> Key) -> Result<Option<Earlier>, Error> {
        let mut earlier = None;
        let is = |sequence: u64| -> Result<bool, Error> {
            let Some(Entry::Transaction(found)) = self.entry(sequence)? else { return Ok(false) };
            let key = key();
            let same = found.key == key || marks(&found, &key);
            earlier = same.then(|| Box::new((sequence, found)));
            Ok(same)
        };
        self.keys.find(date, hash, is, || self.checkpoint.reading())?;
        Ok(earlier)
    }

    /// Any entry, durable or not; None beyond the end.
    pub(super) fn entry(&self, sequence: u64) -> Result<Option<Entry>, JournalError> {
        if sequence >= self.block.next() || sequence == 0 {
            return Ok(None);
        }
        if sequence >= self.block.first() {
            return self.block.entry(sequence).map(Some);
        }
        if let Some(block) = self.unsynced.iter().find(|block| block.first() <= sequence && sequence < block.end()) {
            return block.entry(sequence).map(Some);
        }
        self.journal.entry(sequence)
    }

    /// What a known key is answered: the first answer, 94, or 12 if a reversal was there first.
    #[cold]
    fn answer_again(&self, request: &Request, earlier: &(u64, Transaction), place: &mut Answer) -> Result<(), Code> {
        let (sequence, entry) = (earlier.0, &earlier.1);
        if entry.key != request.key() {
            (place.sequence, place.business_date) = (sequence, entry.posted);
            return Err(Code::InvalidTransaction);
        }
        if !self.same_content(request, entry) {
            return Err(Code::Duplicate);
        }
        answer(entry, &Sums::of(&entry.legs), sequence, true, place);
        Ok(())
    }

    fn same_content(&self, request: &Request, entry: &Transaction) -> bool {
        let same_card = match entry.card {
            _ if request.card_digits == 0 => true,
            CardRef::None => false,
            CardRef::Unknown(number) | CardRef::Known { issued: Some(number), .. } => number == request.number(),
            CardRef::Known { index, .. } => self.machine.cards.card(index).number() == request.number(),
        };
        entry.kind == request.kind()
            && same_card
            && entry.terminal == request.terminal
            && entry.channel == request.channel
            && entry.amount == request.amount
            && entry.use_points == (request.flags != 0)
            && entry.product == request.product
            && entry.expires == request.expires
            && entry.status == request.status
            && entry.original == request.named_original()
    }

    fn find_original(&self, programme: usize, named: Original) -> Result<Named, Error> {
        let programme = &self.machine.organisation.programmes[programme];
        match named {
            Original::Sequence(sequence) => Ok(match self.entry(sequence)? {
                Some(Entry::Transaction(entry)) if entry.key.programme == programme.number => {
                    Named::Entry(Box::new((sequence, entry)))
                }
                _ => Named::Nothing,
            }),
            Original::Key(key) if !programme.calendar.in_window(key.date) => Ok(Named::Nothing),
            Original::Key(key) => Ok(match self.find_by_key(key.date, key.hash(), || key)? {
                Some(earlier) if earlier.1.key == key => Named::Entry(earlier),
                Some(_) => Named::Marked,
                None => Named::UnknownKey,
            }),
        }
    }
}

/// An original as it was looked up.
enum Named {
    Nothing,
    UnknownKey,
    Marked,
    Entry(Earlier),
}

impl Named {
    fn found(&self) -> Found<'_> {
        match self {
            Named::Nothing => Found::Nothing,
            Named::UnknownKey => Found::UnknownKey,
            Named::Marked => Found::Marked,
            Named::Entry(earlier) => Found::Entry(earlier.0, &earlier.1),
        }
    }
}

/// True if the entry is a reversal that came before the transaction with this key.
fn marks(entry: &Transaction, key: &Key) -> bool {
    entry.changes.first() == Some(&Change::Marked) && entry.original == Some(Original::Key(*key))
}
