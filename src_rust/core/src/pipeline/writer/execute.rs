//! Executing rows: the checks that need the pipeline, in the order of `docs/codes.md`, and the search for earlier entries.
//!
//! Rows are executed one after the other, but the memory that they need is asked for some rows ahead: a swipe reads key table,
//! card index, card, points, terminal and store, wallet and lots, each a miss of the cache, and the misses of several rows overlap. One
//! place leads to the next.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::iter::Zip;
use std::slice::Chunks;

use crate::calendar::is_date;
use crate::cards::CardNumber;
use crate::codes::Code;
use crate::commands::{Answer, Answers, Batch, Kind, Original, Request};
use crate::details::{Item, ItemKind, Part, Reason, Seen, lines_of};
use crate::error::Error;
use crate::journal::JournalError;
use crate::journal::entry::{CardRef, Entry, TRANSACTION_BYTES_MAX, Transaction};
use crate::keys::Keys;
use crate::machine::{Admitted, Beside, answer, parts as parts_of};
use crate::memory::prefetch;
use crate::originals::{Named, Past, find_by_key, find_original};
use crate::rules::{Birthday, Foreseen, Tables, local_date};
use crate::storage::{Reading, StorageError};

use zeroize::Zeroizing;

use super::Writer;
use crate::pipeline::door::Checked;

/// Most bytes that a transaction with details takes, rounded up: some ten thousand moves, items and balances of a few bytes each.
const DETAILED_BYTES_MAX: u64 = 512 << 10;
/// Room for at most so many parts a row is made beforehand.
const PARTS_PER_ROW: usize = 16;
/// Rows whose memory is asked for together.
pub(super) const AHEAD_ROWS: usize = 16;

/// What is found of a row ahead of its execution. All of it holds for a group: registrations are jobs of their own.
#[derive(Clone, Copy, Default)]
struct Ahead {
    likely_card: Option<u32>,
    likely_terminal: Option<u32>,
    /// Under which number its rules were looked up.
    foreseen: Option<usize>,
}

/// A row, with what stands beside it.
struct Row<'a> {
    request: &'a Request,
    items: &'a [Item],
    /// What the rules in Python said of it.
    advice: &'a [Item],
    /// Whether a required one of them was not heard.
    lacks_advice: bool,
    /// The rules that apply to it, if they were looked up.
    foreseen: Option<(&'a Foreseen, usize)>,
}

/// Rows that are executed one after the other, with what is found of them ahead.
struct Run<'a> {
    rows: &'a [Request],
    checked: &'a [Checked],
    ahead: [Ahead; AHEAD_ROWS],
}

/// The runs of a batch. While one is executed, the memory that the next need is on its way, step by step: what a step asked for is there when the
/// next step is taken, because a run was executed in between.
struct Coming<'a> {
    /// Those of which the indexes are asked for next.
    indexes: Chunks<'a, Checked>,
    /// Those of which the records are.
    records: Zip<Chunks<'a, Request>, Chunks<'a, Checked>>,
    /// Those whose records are asked for; of the first the lots and the rules, of the one after it the wallets.
    runs: VecDeque<Run<'a>>,
    /// There are wallets, or rules that look at sales: more steps, and each needs a run in between.
    deep: bool,
}

impl<'a> Coming<'a> {
    fn new(writer: &Writer, rows: &'a [Request], checked: &'a [Checked]) -> Coming<'a> {
        let records = rows.chunks(AHEAD_ROWS).zip(checked.chunks(AHEAD_ROWS));
        let deep = !writer.machine.wallets.is_empty() || writer.rules_of(rows).is_some();
        let mut coming = Coming { indexes: checked.chunks(AHEAD_ROWS), records, runs: VecDeque::with_capacity(4), deep };
        coming.ask_for_indexes(writer);
        for _ in 0..coming.depth() {
            coming.ask_for_indexes(writer);
            coming.ask_for_records(writer);
        }
        if deep {
            coming.runs.iter().take(2).for_each(|run| writer.ask_for_wallets(&run.ahead));
            coming.runs.iter().take(1).for_each(|run| writer.ask_for_lots(&run.ahead));
        }
        coming
    }

    /// Runs whose records are asked for before the first of them is executed.
    fn depth(&self) -> usize {
        if self.deep { 3 } else { 1 }
    }

    /// The run that is executed next; before it the others are taken a step further.
    #[inline]
    fn next(&mut self, writer: &Writer) -> Option<Run<'a>> {
        let run = self.runs.pop_front()?;
        self.ask_for_indexes(writer);
        self.ask_for_records(writer);
        if self.deep {
            self.runs.get(1).into_iter().for_each(|run| writer.ask_for_wallets(&run.ahead));
            self.runs.front().into_iter().for_each(|run| writer.ask_for_lots(&run.ahead));
        }
        Some(run)
    }

    /// Looks up the rules that apply to the sales of the run that is the next.
    fn foresee(&mut self, writer: &Writer, batch: &Batch, foreseen: &mut Foreseen) {
        if let Some(run) = self.runs.front_mut()
            && let Some((programme, tables)) = writer.rules_of(run.rows)
        {
            writer.foresee(programme, tables, batch, run, foreseen);
        }
    }

    #[inline]
    fn ask_for_indexes(&mut self, writer: &Writer) {
        self.indexes.next().into_iter().for_each(|checked| writer.ask_for_indexes(checked));
    }

    #[inline]
    fn ask_for_records(&mut self, writer: &Writer) {
        if let Some((rows, checked)) = self.records.next() {
            self.runs.push_back(Run { rows, checked, ahead: writer.ask_for_records(rows, checked) });
        }
    }
}

impl Writer {
    pub(super) fn execute(&mut self, batch: &Batch, checked: &[Checked]) -> Result<Answers, Error> {
        let (rows, advice) = (&batch.rows, std::mem::take(&mut self.advice));
        // As many parts a row as the batch before had: a batch that needs more finds room as it goes.
        let parts = Vec::with_capacity(rows.len() * self.parts_per_row);
        let mut answers = Answers { rows: Vec::with_capacity(rows.len()), parts };
        let mut coming = Coming::new(self, rows, checked);
        let [mut foreseen, mut next] = std::mem::take(&mut self.foreseen);
        coming.foresee(self, batch, &mut foreseen);
        while let Some(Run { rows, checked, ahead }) = coming.next(self) {
            coming.foresee(self, batch, &mut next);
            for ((request, checked), ahead) in rows.iter().zip(checked).zip(&ahead) {
                let at = answers.rows.len();
                // In place: an answer is too large to be handed from function to function.
                answers.rows.push(Answer { kind: request.kind, ..Answer::default() });
                let place = answers.rows.last_mut().expect("one was just added");
                let items = if checked.has_items { batch.items_of(request).unwrap_or(&[]) } else { &[] };
                let first = answers.parts.len();
                let (advice, lacks_advice) = advice.of(at);
                let foreseen = ahead.foreseen.map(|number| (&foreseen, number));
                let row = Row { request, items, advice, lacks_advice, foreseen };
                if let Err(code) = self.execute_one(row, checked, ahead, place, &mut answers.parts)? {
                    place.code = code.number().into();
                }
                if answers.parts.len() > first {
                    (place.first_part, place.parts) = (first as u32, (answers.parts.len() - first) as u16);
                }
            }
            std::mem::swap(&mut foreseen, &mut next);
        }
        self.foreseen = [foreseen, next];
        self.parts_per_row = answers.parts.len().div_ceil(rows.len().max(1)).min(PARTS_PER_ROW);
        Ok(answers)
    }

    /// Asks for where the indexes of terminals and cards have what the rows name: the first step.
    #[inline]
    fn ask_for_indexes(&self, checked: &[Checked]) {
        for checked in checked {
            self.machine.organisation.prefetch_terminal(checked.terminal_hash);
            self.machine.cards.prefetch_index(checked.card_hash);
        }
    }

    /// Asks for the records that these lead to: the second step.
    #[inline]
    fn ask_for_records(&self, rows: &[Request], checked: &[Checked]) -> [Ahead; AHEAD_ROWS] {
        let (cards, organisation) = (&self.machine.cards, &self.machine.organisation);
        let mut ahead = [Ahead::default(); AHEAD_ROWS];
        for (checked, ahead) in checked.iter().zip(&mut ahead) {
            ahead.likely_terminal = organisation.prefetch_likely_terminal(checked.terminal_hash);
            ahead.likely_card = cards.prefetch_likely(checked.card_hash);
        }
        if !self.machine.wallets.is_empty() {
            ahead.iter().filter_map(|ahead| ahead.likely_card).for_each(|index| cards.prefetch_wallet(index));
        }
        // Rows whose key may be known, gathered without a branch: which they are, no processor foresees.
        let (mut sought, mut count) = ([0; AHEAD_ROWS], 0);
        for (row, ((request, checked), ahead)) in rows.iter().zip(checked).zip(&ahead).enumerate() {
            if let Some(terminal) = ahead.likely_terminal {
                prefetch(&organisation.stores[organisation.store_of(terminal) as usize]);
            }
            self.keys.prefetch_place(request.business_date, checked.key_hash);
            sought[count % AHEAD_ROWS] = row;
            let has_key = (checked.kind != Some(Kind::Balance)) & !request.is_dry_run();
            count += usize::from(has_key & !self.is_new(request, ahead.likely_terminal));
        }
        for &row in &sought[..count] {
            self.keys.prefetch(rows[row].business_date, checked[row].key_hash);
        }
        ahead
    }

    /// Asks for the wallets of the cards: the third step, if cards have any.
    #[inline(never)]
    fn ask_for_wallets(&self, ahead: &[Ahead; AHEAD_ROWS]) {
        let handles = ahead.iter().filter_map(|ahead| self.machine.cards.wallet(ahead.likely_card?));
        handles.for_each(|handle| self.machine.wallets.prefetch(handle));
    }

    /// Asks for the lots of the wallets: the last step.
    #[inline(never)]
    fn ask_for_lots(&self, ahead: &[Ahead; AHEAD_ROWS]) {
        let handles = ahead.iter().filter_map(|ahead| self.machine.cards.wallet(ahead.likely_card?));
        handles.for_each(|handle| self.machine.wallets.prefetch_lots(handle));
    }

    /// The rules of the programme of the first row, and its number, if they look at sales; nearly always it is that of all rows.
    #[inline]
    fn rules_of(&self, rows: &[Request]) -> Option<(u16, &Tables)> {
        let organisation = &self.machine.organisation;
        let number = rows.first().map_or(0, Request::programme);
        let rules = organisation.programmes[organisation.programme(number)?].rules.as_ref()?;
        rules.tables.look_at_sales().then_some((number, &rules.tables))
    }

    /// Looks up the rules that apply to the sales of a run, those of this programme.
    fn foresee(&self, programme: u16, tables: &Tables, batch: &Batch, run: &mut Run<'_>, foreseen: &mut Foreseen) {
        foreseen.clear();
        let rows = run.rows.iter().zip(run.checked).zip(&mut run.ahead);
        // What the door has turned away may have any number of lines.
        let sales = rows.filter(|((row, checked), _)| is_sale(row) && checked.kind.is_some() && row.programme() == programme);
        for ((row, _), ahead) in sales {
            let (Some(terminal), Some(card)) = (ahead.likely_terminal, ahead.likely_card) else { continue };
            let moment = self.machine.moment(tables, row, terminal, card);
            ahead.foreseen = Some(foreseen.ask(moment));
            for (category, _) in lines_of(batch.items_of(row).unwrap_or(&[])).filter(|line| line.0 != 0) {
                foreseen.ask(moment.with(category));
            }
        }
        tables.foresee(foreseen);
    }

    /// One transaction, by the order of checks in `docs/codes.md`: fills in its answer, or says with which code alone it is refused.
    #[inline]
    fn execute_one(
        &mut self,
        Row { request, items, advice, lacks_advice, foreseen }: Row<'_>,
        checked: &Checked,
        ahead: &Ahead,
        place: &mut Answer,
        parts: &mut Vec<Part>,
    ) -> Result<Result<(), Code>, Error> {
        let Some(kind) = checked.kind else { return Ok(Err(Code::FormatError)) };
        let programme = match self.machine.admit(request, kind) {
            Ok(programme) => programme,
            Err(code) => return Ok(Err(code)),
        };
        let sequence = self.block.next();
        let terminal = self.find_terminal(request, checked, ahead);
        let has_key = (kind != Kind::Balance) & !request.is_dry_run();
        if has_key
            && !self.is_new(request, terminal)
            && let Some(earlier) = find_by_key(self, request.business_date, checked.key_hash, || request.key())?
        {
            return Ok(self.answer_again(request, items, checked, &earlier, place, parts));
        }
        let Some(terminal) = terminal else { return Ok(Err(Code::UnknownTerminal)) };
        // It was looked up for the store of the terminal that was likely.
        let foreseen = foreseen.filter(|_| ahead.likely_terminal == Some(terminal));
        if lacks_advice {
            place.reason = Reason::NoAdvice as u8;
            return Ok(Err(Code::NotAvailable));
        }
        let (number, card_hash, likely_card) = (checked.number, checked.card_hash, ahead.likely_card);
        let (mut noted, mut salt) = (Cow::Borrowed(items), None);
        if items.iter().any(Item::is_secret) {
            let Some((hashed, of_pin)) = self.hash_pins(request, checked, items) else { return Ok(Err(Code::NotAvailable)) };
            (noted, salt) = (Cow::Owned(hashed), of_pin);
        }
        if let Some(seen) = self.see_birthday(request, kind, programme, checked.number, items) {
            noted.to_mut().push(seen);
        }
        if !advice.is_empty() {
            noted.to_mut().extend_from_slice(advice);
        }
        let beside = Beside { items: &noted, forged: checked.forged, salt };
        let beside = (!noted.is_empty()).then_some(&beside);
        let admitted = Admitted { request, kind, programme, terminal, number, card_hash, likely_card, beside, foreseen };
        if kind == Kind::Balance {
            return Ok(self.machine.balance(&admitted, sequence, place, parts));
        }
        if request.is_dry_run() {
            let transaction = self.machine.price(&admitted, sequence);
            answer(transaction, 0, false, place);
            parts_of(transaction, parts);
            return Ok(Ok(()));
        }
        // What has details without saying so has few of them: the slack of the room holds them.
        let plain = items.is_empty() & matches!(kind, Kind::Issue | Kind::TopUp | Kind::Purchase | Kind::Status | Kind::Fund);
        if !self.has_room(if plain { TRANSACTION_BYTES_MAX as u64 } else { DETAILED_BYTES_MAX }) {
            return Ok(Err(Code::NotAvailable));
        }
        let original = match request.named_original(kind) {
            Some(named) => find_original(self, &self.machine.organisation.programmes[programme], named)?,
            None => Named::Nothing,
        };
        let transaction = self.machine.execute(&admitted, original.found(), sequence);
        self.block.push_transaction(transaction);
        self.keys.insert(request.business_date, checked.key_hash, sequence);
        if let Some(marked) = transaction.marked_key() {
            self.keys.insert(marked.date, marked.hash(), sequence);
        }
        answer(transaction, sequence, false, place);
        if transaction.detailed {
            parts_of(transaction, parts);
        }
        Ok(Ok(()))
    }

    /// What the terminal's date is to the birthday of who holds the card, if rules ask for it.
    #[inline]
    fn see_birthday(
        &self,
        request: &Request,
        kind: Kind,
        programme: usize,
        number: Option<CardNumber>,
        items: &[Item],
    ) -> Option<Item> {
        let rules = self.machine.organisation.programmes[programme].rules.as_ref()?;
        let asked = rules.tables.birthdays();
        if asked == 0 || !matches!(kind, Kind::Purchase | Kind::Authorise) {
            return None;
        }
        let card = self.machine.named_card(request.programme(), number, items)?;
        let member = self.machine.wallet(card).map_or(0, |wallet| wallet.rest().member);
        let birthday = self.members.birthday(request.programme(), member)?;
        let seen = Birthday::around(birthday, local_date(request.business_date, request.local_time)) & asked;
        (seen != 0).then(|| Item::seen(Seen::Birthday, seen.into()))
    }

    /// The items with the hashes of PINs in place of the PINs, and the salt of a new one; None if there is no key.
    #[cold]
    fn hash_pins(&self, request: &Request, checked: &Checked, items: &[Item]) -> Option<(Vec<Item>, Option<u64>)> {
        let mut hashed = Zeroizing::new(items.to_vec());
        let mut salt = None;
        let mut card = self.machine.named_card(request.programme(), checked.number, items);
        for item in hashed.iter_mut() {
            match item.what() {
                ItemKind::Card => {
                    card = item.card_number().and_then(|number| self.machine.locate(request.programme(), number).ok())
                }
                ItemKind::Pin => {
                    let pin = card.and_then(|index| self.machine.wallet(index)?.rest().pin.map(|pin| (index, pin)));
                    let hash = match pin {
                        Some((index, pin)) => Some((pin.key, self.secrets.pin(pin.key, index, pin.salt, item.digits, item.low)?)),
                        None => None,
                    };
                    let (key, hash) = hash.unwrap_or_default();
                    (item.number, item.high, item.low) = (key, (hash >> 64) as u64, hash as u64);
                }
                ItemKind::NewPin => {
                    let new = u64::from_le_bytes(*(self.options.new_id)().first_chunk()?);
                    let pin = self.secrets.new_pin(card.unwrap_or(u32::MAX), new, item.digits, item.low)?;
                    salt = Some(new);
                    (item.number, item.high, item.low) = (pin.key, (pin.hash >> 64) as u64, pin.hash as u64);
                }
                _ => {}
            }
        }
        Some((std::mem::take(&mut *hashed), salt))
    }

    #[inline]
    fn find_terminal(&self, request: &Request, checked: &Checked, ahead: &Ahead) -> Option<u32> {
        let (organisation, programme) = (&self.machine.organisation, request.programme());
        match ahead.likely_terminal {
            Some(index) if organisation.is_terminal(index, programme, request.terminal) => Some(index),
            _ => organisation.terminal(checked.terminal_hash, programme, request.terminal),
        }
    }

    /// True if the request's key cannot be known: it is newer than all of its terminal.
    #[inline]
    fn is_new(&self, request: &Request, terminal: Option<u32>) -> bool {
        let organisation = &self.machine.organisation;
        request.trace != 0 && terminal.is_some_and(|index| organisation.is_new(index, request.business_date, request.trace))
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

    /// The sequence of the authorisation that a request of a programme names; 0: it names none that was approved, or that is still known.
    pub(super) fn authorisation(&self, programme: u16, original: Original) -> Result<u64, Error> {
        let organisation = &self.machine.organisation;
        let Some(index) = organisation.programme(programme) else { return Ok(0) };
        Ok(match find_original(self, &organisation.programmes[index], original)? {
            Named::Entry(earlier) if earlier.1.kind == Kind::Authorise && earlier.1.code.is_approved() => earlier.0,
            _ => 0,
        })
    }

    /// What a known key is answered: the first answer, 94, or 12 if a reversal was there first.
    #[cold]
    fn answer_again(
        &self,
        request: &Request,
        items: &[Item],
        checked: &Checked,
        earlier: &(u64, Transaction),
        place: &mut Answer,
        parts: &mut Vec<Part>,
    ) -> Result<(), Code> {
        let (sequence, entry) = (earlier.0, &earlier.1);
        if entry.key != request.key() {
            (place.sequence, place.business_date) = (sequence, entry.posted);
            return Err(Code::InvalidTransaction);
        }
        if !self.same_content(request, items, checked, earlier) {
            return Err(Code::Duplicate);
        }
        answer(entry, sequence, true, place);
        parts_of(entry, parts);
        Ok(())
    }

    fn same_content(&self, request: &Request, items: &[Item], checked: &Checked, earlier: &(u64, Transaction)) -> bool {
        let (sequence, entry) = (earlier.0, &earlier.1);
        let of_content = |item: &&Item| !item.is_secret();
        let same_card = match (checked.number, entry.card) {
            (None, _) => true,
            (Some(_), CardRef::None) => false,
            (Some(named), CardRef::Unknown(number) | CardRef::Known { issued: Some(number), .. }) => named == number,
            (Some(named), CardRef::Known { index, .. }) => self.machine.was_named(request.programme(), named, index, sequence),
        };
        checked.kind == Some(entry.kind)
            && same_card
            && entry.terminal == request.terminal
            && entry.channel == request.channel
            && entry.amount == request.amount
            && entry.flags == request.flags
            && items.iter().filter(of_content).eq(entry.detail.items.iter().filter(|item| item.is_sent()))
            && entry.product == request.product
            && entry.expires == request.expires
            && entry.status == request.status
            && entry.original == request.named_original(entry.kind)
    }
}

impl Past for Writer {
    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn entry(&self, sequence: u64) -> Result<Option<Entry>, JournalError> {
        Writer::entry(self, sequence)
    }

    fn reading(&self) -> Result<Reading, StorageError> {
        self.checkpoint.reading()
    }
}

/// True for what rules are looked up for. Nothing of the row was looked at yet: what is no date is nowhere.
fn is_sale(row: &Request) -> bool {
    ((row.kind == Kind::Purchase as u8) | (row.kind == Kind::Authorise as u8)) & is_date(row.business_date)
}
