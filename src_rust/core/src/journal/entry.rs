//! Entries of the journal: what they say, and how they are written (`docs/journal-format.md`).
//!
//! Invariant: decoding what was encoded gives the same entry. Decoding trusts nothing: a damaged
//! entry is an error, never a panic.

use crate::accounts::{Account, MOVES_MAX, Move, Moves, TotalLeg};
use crate::cards::CardNumber;
use crate::codes::Code;
use crate::commands::{Cursor, Kind, Original, Registration, USE_POINTS};
use crate::keys::{Key, KeyName};
use crate::units::PURSE_MAX;

pub use crate::journal::detail::{Detail, POSTS_MAX, PinHash, PostSums};

/// A transaction with its effects: kinds 1 to 21.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // docs/journal-format.md describes each
pub struct Transaction {
    pub kind: Kind,
    pub code: Code,
    pub terminal: u32,
    pub store: u32,
    pub key: Key,
    pub posted: i32,
    pub rule: u32,
    pub channel: u8,
    pub time: i32,
    pub flags: u8,
    pub card: CardRef,
    pub amount: i64,
    pub product: u16,
    pub expires: i32,
    pub status: u8,
    pub original: Option<Original>,
    pub moves: Moves,
    pub changes: Vec<Change>,
    pub balances: [i64; 3],
    /// It is written with its details; then it has no moves but its posts.
    pub detailed: bool,
    pub detail: Detail,
}

/// The card of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CardRef {
    /// It has none.
    None,
    /// Its index and the sequence of its previous entry (0: none); the number is in the entry only when it is issued.
    Known { index: u32, previous: u64, issued: Option<CardNumber> },
    /// The number that was named and is no card.
    Unknown(CardNumber),
}

/// A change of state that is not money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Change {
    /// So much of the purchase is refunded now.
    Refunded { sequence: u64, refunded: i64 },
    /// The transaction is reversed.
    Reversed { sequence: u64, amount: i64 },
    /// The key named as original is void.
    Marked,
    /// The card's status.
    Status(u8),
    /// So many of a bundle were granted to the card at a place so far.
    Taken { card: u16, bundle: u16, count: u32 },
    /// So many purchases of the card in the open day, what they came to, and what they earned if that is limited.
    Spent { count: u32, sum: i64, points: i64 },
    /// So many wrong PINs were given for a card since the last right one.
    Tries { card: u16, tries: u8 },
    /// The card's PIN; no tries are counted.
    Pin(PinHash),
    /// The card's holder.
    Holder { member: u64, named: bool },
    /// The card's number; the one before is answered with this code from now on.
    Number { number: CardNumber, former: CardNumber, code: Code },
    /// An alias is the card's, or is not any more.
    Alias { kind: u8, hash: u128, bound: bool },
    /// The posts are held until the end of this date; what they pay in all, and points, bonus and growth value that all of it gives when it is captured.
    Held { expires: i32, total: i64, earned: i64, rebate: i64, growth: i64 },
    /// So much of the hold with this sequence is captured; it has ended.
    Captured { sequence: u64, captured: i64, ended: bool },
    /// Codes of a unit came out: this many from this serial on, valid until this date (0: for ever).
    Codes { unit: u16, first: u64, count: u32, expires: i32 },
    /// A code was used, or is good again.
    Code { unit: u16, serial: u64, used: bool },
    /// A sale of this amount by the member of staff whose card this is; minus: it was undone.
    Sold { staff: u32, amount: i64 },
    /// Where a trigger is: all that it does for entries up to here is done.
    Cursor { trigger: u16, to: Cursor },
    /// The card's tier (0: none), and the last date before its review (0: there is none).
    Tier { tier: u8, until: i32 },
    /// So many of a bundle that has a stock are out, on all cards of the programme.
    Out { bundle: u16, count: u32 },
    /// The card has bought something, which brought a gift; or that is undone.
    Bought(bool),
}

/// Any entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)] // transactions are nearly all there are
pub enum Entry {
    Transaction(Transaction),
    Registration(Registration),
    Rules { programme: u16, version: u32, text: String, tables: String },
    GrowthOpens(GrowthOpens),
    DayClosed(DayClosed),
    GrowthComplete(GrowthComplete),
    LotsLapsed(LotsLapsed),
}

/// Kind 40.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GrowthOpens {
    pub programme: u16,
    pub date: i32,
    pub rule: u32,
    pub rate: u64,
    pub outstanding: i128,
    pub purses: u64,
    pub reserve: i128,
    pub funded: bool,
    pub legs: Vec<TotalLeg>,
}

/// Kind 41.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DayClosed {
    pub programme: u16,
    pub date: i32,
    pub members: i128,
    pub bonus: i128,
    pub points: i128,
    pub units: i128,
    pub legs: Vec<TotalLeg>,
}

/// Kind 43.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LotsLapsed {
    pub programme: u16,
    pub date: i32,
    pub legs: Vec<TotalLeg>,
}

/// Kind 42.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GrowthComplete {
    pub programme: u16,
    pub date: i32,
    pub growth: i128,
    pub legs: Vec<TotalLeg>,
    pub liabilities: Vec<(u32, i128)>,
}

/// The only algorithm of growth so far: `growth::grow`.
const ALGORITHM: u8 = 1;

const FLAG_ID: u8 = 1;
const FLAG_CARD: u8 = 2;
const FLAG_NUMBER: u8 = 4;
const FLAG_POSTED: u8 = 8;
const FLAG_POINTS: u8 = 16;
const FLAG_ORIGINAL_KEY: u8 = 32;
const FLAG_PROGRAMME: u8 = 64;
const FLAG_DATE: u8 = 128;

/// Count of moves that says: it has details.
const DETAILED: u8 = 15;

/// Bytes of a transaction's head: kind, code, flags, channel, counts of moves and of changes, time.
const HEAD: usize = 8;
/// Bits of the time; it is written from its least value on.
const TIME_BITS: u32 = 24;
const TIME_LEAST: i32 = -(1 << (TIME_BITS - 1));
/// The programme that is not written.
const PROGRAMME_DEFAULT: u16 = 1;

const KIND_PROGRAMME: u8 = 32;
const KIND_MERCHANT: u8 = 33;
const KIND_STORE: u8 = 34;
const KIND_TERMINAL: u8 = 35;
const KIND_RULES: u8 = 36;
const KIND_GROWTH_OPENS: u8 = 40;
const KIND_DAY_CLOSED: u8 = 41;
const KIND_GROWTH_COMPLETE: u8 = 42;
const KIND_LOTS_LAPSED: u8 = 43;

const EXPLICIT_NUMBER: u8 = 0x80;

/// Most bytes of a transaction's entry, rounded up: at most 64 of its head and key, 61 of its card and inputs, twelve moves of 18, two changes
/// of 35 and three balances of 17. A power of two.
pub const TRANSACTION_BYTES_MAX: usize = 512;
/// Room for one: a word may be written over its end.
pub const TRANSACTION_ROOM: usize = TRANSACTION_BYTES_MAX + size_of::<u64>();

/// Where entries are written.
///
/// What writes a transaction is inlined whole, so that the place in the room stays in a register.
pub trait Out {
    /// Appends a byte.
    fn push(&mut self, byte: u8);
    /// Appends some.
    fn extend_from_slice(&mut self, bytes: &[u8]);
    /// Appends the first `len` bytes of a little-endian word.
    #[inline]
    fn put_word(&mut self, word: u64, len: usize) {
        self.extend_from_slice(&word.to_le_bytes()[..len]);
    }
    /// Appends a number of up to 16 bytes, in full.
    fn put_full(&mut self, value: u128) {
        self.push(0);
        self.extend_from_slice(&value.to_le_bytes());
    }
}

impl Out for Vec<u8> {
    #[inline]
    fn push(&mut self, byte: u8) {
        Vec::push(self, byte);
    }
    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        Vec::extend_from_slice(self, bytes);
    }
    #[inline]
    fn put_word(&mut self, word: u64, len: usize) {
        // All of it, then what is too much is cut off: a copy of a length that is known costs no call.
        let end = self.len() + len;
        Vec::extend_from_slice(self, &word.to_le_bytes());
        self.truncate(end);
    }
}

/// A place for a plain transaction, or for a piece of one with details.
pub struct Room<'a> {
    /// All of it.
    pub bytes: &'a mut [u8; TRANSACTION_ROOM],
    /// How much of it is written.
    pub len: usize,
}

impl Out for Room<'_> {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        self.put_word(byte.into(), 1);
    }
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.push(byte));
    }
    #[inline(always)]
    fn put_word(&mut self, word: u64, len: usize) {
        // Looked at first: then nothing below needs to be.
        let at = self.len;
        assert!(at <= TRANSACTION_BYTES_MAX, "a piece of a transaction fits a room");
        // All of it: what is too much is overwritten by what follows.
        self.bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        self.len = at + len;
    }
    #[inline(always)]
    fn put_full(&mut self, value: u128) {
        self.len = put_full_at(self.bytes, self.len, value);
    }
}

/// By value and back: that is how the place in the room stays in a register of who writes everything else.
#[cold]
#[inline(never)]
fn put_full_at(bytes: &mut [u8; TRANSACTION_ROOM], len: usize, value: u128) -> usize {
    let mut room = Room { bytes, len };
    room.push(0);
    room.put_word(value as u64, 8);
    room.put_word((value >> 64) as u64, 8);
    room.len
}

/// A place for any transaction: as many bytes as [`Transaction::bytes_max`] says.
pub struct Place<'a> {
    /// All of it.
    pub bytes: &'a mut [u8],
    /// How much of it is written.
    pub len: usize,
}

impl Place<'_> {
    /// Room for a piece: whether there is any is looked at once for all of it. Then [`keep`](Self::keep).
    #[inline(always)]
    pub(super) fn room(&mut self) -> Room<'_> {
        Room { bytes: self.bytes[self.len..].first_chunk_mut().expect("room was made"), len: 0 }
    }

    /// Keeps so much of what was written in the room.
    #[inline(always)]
    pub(super) fn keep(&mut self, len: usize) {
        assert!(len <= TRANSACTION_BYTES_MAX, "a piece of a transaction fits a room");
        self.len += len;
    }
}

/// An entry that cannot be read; the text says where it broke.
pub type Malformed = &'static str;

impl Transaction {
    /// The key that it voids: a reversal that came before its original.
    pub fn marked_key(&self) -> Option<&Key> {
        match (self.changes.first(), &self.original) {
            (Some(Change::Marked), Some(Original::Key(key))) => Some(key),
            _ => None,
        }
    }

    /// Most bytes that its entry takes, and room behind it.
    #[inline(always)]
    pub fn bytes_max(&self) -> usize {
        TRANSACTION_ROOM + if self.detailed { self.details_bytes_max() } else { 0 }
    }

    /// The entry with this sequence.
    pub fn encoded(&self, sequence: u64, base: i32) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes_max()];
        let mut place = Place { bytes: &mut bytes, len: 0 };
        self.encode(sequence, base, &mut place);
        let len = place.len;
        bytes.truncate(len);
        bytes
    }

    /// Writes the entry with this sequence; dates are written from `base`.
    #[inline(always)]
    pub fn encode(&self, sequence: u64, base: i32, place: &mut Place<'_>) {
        let mut room = place.room();
        self.encode_head(sequence, base, &mut room);
        if !self.detailed {
            self.encode_plain(base, &mut room);
        }
        let len = room.len;
        place.keep(len);
        if self.detailed {
            self.encode_details(sequence, base, place);
        }
    }

    #[inline(always)]
    fn encode_head(&self, sequence: u64, base: i32, out: &mut impl Out) {
        let flags = self.flags(base);
        out.put_word(self.head(flags), HEAD);
        if flags & FLAG_PROGRAMME != 0 {
            put_uint(out, self.key.programme.into());
        }
        put_uint(out, self.terminal.into());
        put_uint(out, self.store.into());
        if flags & FLAG_DATE != 0 {
            put_date(out, self.key.date, base);
        }
        match self.key.name {
            KeyName::Trace { trace, .. } => put_uint(out, trace.into()),
            KeyName::Id(id) => put_id(out, id),
        }
        if flags & FLAG_POSTED != 0 {
            put_date(out, self.posted, base);
        }
        put_uint(out, self.rule.into());
        match self.card {
            CardRef::None => {}
            CardRef::Known { index, previous, .. } => {
                put_uint(out, index.into());
                put_uint(out, if previous == 0 { 0 } else { sequence - previous });
            }
            CardRef::Unknown(number) => put_number(out, number),
        }
    }

    #[inline(always)]
    fn encode_plain(&self, base: i32, out: &mut impl Out) {
        self.encode_inputs(base, out);
        put_moves(out, &self.moves);
        for change in &self.changes {
            change.encode(out);
        }
        if matches!(self.card, CardRef::Known { .. }) {
            for balance in self.balances {
                put_uint(out, balance.unsigned_abs());
            }
        }
    }

    #[inline(always)]
    fn flags(&self, base: i32) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        flag(matches!(self.key.name, KeyName::Id(_)), FLAG_ID)
            | flag(matches!(self.card, CardRef::Known { .. }), FLAG_CARD)
            | flag(matches!(self.card, CardRef::Unknown(_)), FLAG_NUMBER)
            | flag(self.posted != self.key.date, FLAG_POSTED)
            | flag(self.flags & USE_POINTS != 0, FLAG_POINTS)
            | flag(matches!(self.original, Some(Original::Key(_))), FLAG_ORIGINAL_KEY)
            | flag(self.key.programme != PROGRAMME_DEFAULT, FLAG_PROGRAMME)
            | flag(self.key.date != base, FLAG_DATE)
    }

    /// The head as a little-endian word.
    #[inline(always)]
    fn head(&self, flags: u8) -> u64 {
        let counts = if self.detailed { usize::from(DETAILED) } else { self.moves.len() | self.changes.len() << 4 };
        // In the machine a time is within days of its date: it fits.
        let time = self.time.wrapping_sub(TIME_LEAST) as u32;
        u64::from(self.kind as u8)
            | u64::from(self.code.number()) << 8
            | u64::from(flags) << 16
            | u64::from(self.channel) << 24
            | (counts as u64) << 32
            | u64::from(time) << 40
    }

    #[inline(always)]
    fn encode_inputs(&self, base: i32, out: &mut impl Out) {
        match self.kind {
            Kind::Issue => {
                put_uint(out, self.product.into());
                put_uint(out, u64::from(self.expires.unsigned_abs()));
                if let CardRef::Known { issued: Some(number), .. } = self.card {
                    put_number(out, number);
                }
            }
            Kind::TopUp | Kind::Purchase | Kind::Fund => put_int(out, self.amount),
            Kind::Refund => {
                put_int(out, self.amount);
                self.encode_original(base, out);
            }
            Kind::Reversal => self.encode_original(base, out),
            Kind::Status => out.push(self.status),
            _ => unreachable!("a balance query is not written, and what the others say is in their details"),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn encode_original(&self, base: i32, out: &mut impl Out) {
        match self.original.expect("refunds and reversals have one") {
            Original::Sequence(sequence) => put_uint(out, sequence),
            Original::Key(key) => {
                put_date(out, key.date, base);
                match key.name {
                    KeyName::Trace { terminal, trace } => {
                        out.push(0);
                        put_uint(out, terminal.into());
                        put_uint(out, trace.into());
                    }
                    KeyName::Id(id) => {
                        out.push(1);
                        put_id(out, id);
                    }
                }
            }
        }
    }

    /// One whose fields are to be filled in.
    pub fn blank() -> Transaction {
        Transaction {
            kind: Kind::Balance,
            code: Code::Approved,
            terminal: 0,
            store: 0,
            key: Key { programme: 0, date: 0, name: KeyName::Id(0) },
            posted: 0,
            rule: 0,
            channel: 0,
            time: 0,
            flags: 0,
            card: CardRef::None,
            amount: 0,
            product: 0,
            expires: 0,
            status: 0,
            original: None,
            moves: Moves::default(),
            changes: Vec::new(),
            balances: [0; 3],
            detailed: false,
            detail: Detail::default(),
        }
    }

    /// Reads an entry of this kind, in place of what was here.
    fn read(&mut self, kind: Kind, sequence: u64, base: i32, from: &mut Reader) -> Result<(), Malformed> {
        let &[_, code, flags, channel, counts, ref time @ ..] = from.chunk::<HEAD>()?;
        (self.kind, self.code, self.channel) = (kind, Code::from_number(code).ok_or("code")?, channel);
        self.time = TIME_LEAST + i32::from_le_bytes([time[0], time[1], time[2], 0]);
        self.key.programme = if flags & FLAG_PROGRAMME != 0 { from.number()? } else { PROGRAMME_DEFAULT };
        self.terminal = from.number()?;
        self.store = from.number()?;
        self.key.date = if flags & FLAG_DATE != 0 { from.date(base)? } else { base };
        self.key.name = match flags & FLAG_ID {
            0 => KeyName::Trace { terminal: self.terminal, trace: from.number()? },
            _ => KeyName::Id(from.id()?),
        };
        self.posted = if flags & FLAG_POSTED != 0 { from.date(base)? } else { self.key.date };
        self.rule = from.number()?;
        self.flags = if flags & FLAG_POINTS != 0 { USE_POINTS } else { 0 };
        self.card = match flags & (FLAG_CARD | FLAG_NUMBER) {
            0 => CardRef::None,
            FLAG_CARD => {
                let index = from.number()?;
                let distance: u64 = from.number()?;
                let previous = if distance == 0 { 0 } else { sequence.checked_sub(distance).ok_or("previous entry")? };
                CardRef::Known { index, previous, issued: None }
            }
            FLAG_NUMBER => CardRef::Unknown(from.card_number()?),
            _ => return Err("flags"),
        };
        self.detailed = counts == DETAILED;
        self.detail.clear();
        if self.detailed {
            return self.read_detail(flags & FLAG_ORIGINAL_KEY != 0, sequence, base, from);
        }
        self.read_inputs(flags & FLAG_ORIGINAL_KEY != 0, base, from)?;
        from.moves(usize::from(counts & 15), &mut self.moves)?;
        self.changes.clear();
        for _ in 0..counts >> 4 {
            self.changes.push(Change::decode(from)?);
        }
        self.balances = match self.card {
            CardRef::Known { .. } => [from.number()?, from.number()?, from.number()?],
            _ => [0; 3],
        };
        Ok(())
    }

    fn read_inputs(&mut self, original_by_key: bool, base: i32, from: &mut Reader) -> Result<(), Malformed> {
        (self.amount, self.product, self.expires, self.status, self.original) = (0, 0, 0, 0, None);
        match self.kind {
            Kind::Issue => {
                self.product = from.number()?;
                self.expires = from.number()?;
                if let CardRef::Known { issued, .. } = &mut self.card {
                    *issued = Some(from.card_number()?);
                }
            }
            Kind::TopUp | Kind::Purchase | Kind::Refund | Kind::Fund => self.amount = from.signed()?,
            Kind::Status => self.status = from.byte()?,
            Kind::Reversal => {}
            _ => return Err("kind"),
        }
        if matches!(self.kind, Kind::Refund | Kind::Reversal) {
            self.original = Some(from.original(self.key.programme, original_by_key, base)?);
        }
        Ok(())
    }
}

impl Change {
    #[cold]
    #[inline(never)]
    pub(super) fn encode(&self, out: &mut impl Out) {
        match *self {
            Change::Refunded { sequence, refunded } => put_numbers(out, 1, [sequence, refunded.unsigned_abs()]),
            Change::Reversed { sequence, amount } => put_numbers(out, 2, [sequence, amount.unsigned_abs()]),
            Change::Marked => out.push(3),
            Change::Status(status) => out.extend_from_slice(&[4, status]),
            Change::Taken { card: 0, bundle, count } => put_numbers(out, 5, [bundle.into(), count.into()]),
            Change::Taken { card, bundle, count } => put_numbers(out, 20, [card.into(), bundle.into(), count.into()]),
            Change::Spent { count, sum, points: 0 } => put_numbers(out, 6, [count.into(), sum.unsigned_abs()]),
            Change::Spent { count, sum, points } => {
                put_numbers(out, 23, [count.into(), sum.unsigned_abs(), points.unsigned_abs()]);
            }
            Change::Tries { card, tries } => put_numbers(out, 7, [card.into(), tries.into()]),
            Change::Pin(PinHash { key, salt, hash }) => {
                put_numbers(out, 8, [key.into()]);
                out.put_word(salt, 8);
                put_id(out, hash);
            }
            Change::Holder { member, named } => put_numbers(out, 9, [member, named.into()]),
            Change::Number { number, former, code } => {
                out.extend_from_slice(&[10, code.number()]);
                put_number(out, number);
                put_number(out, former);
            }
            Change::Alias { kind, hash, bound } => {
                out.extend_from_slice(&[11, kind, bound.into()]);
                put_id(out, hash);
            }
            Change::Held { expires, total, earned, rebate, growth } => {
                let amounts = [total, earned, rebate, growth].map(|amount| amount as u64);
                put_numbers(out, 12, [u64::from(expires.unsigned_abs())]);
                amounts.into_iter().for_each(|amount| put_uint(out, amount));
            }
            Change::Captured { sequence, captured, ended } => {
                put_numbers(out, 13, [sequence, captured.unsigned_abs(), ended.into()]);
            }
            Change::Codes { unit, first, count, expires } => {
                put_numbers(out, 14, [unit.into(), first, count.into(), u64::from(expires.unsigned_abs())]);
            }
            Change::Code { unit, serial, used } => put_numbers(out, 15, [unit.into(), serial, used.into()]),
            Change::Sold { staff, amount } => {
                put_numbers(out, 16, [staff.into()]);
                put_int(out, amount);
            }
            Change::Cursor { trigger, to } => put_numbers(out, 18, [trigger.into(), to.sequence, to.card.into()]),
            Change::Tier { tier, until } => put_numbers(out, 17, [tier.into(), u64::from(until.unsigned_abs())]),
            Change::Out { bundle, count } => put_numbers(out, 21, [bundle.into(), count.into()]),
            Change::Bought(bought) => put_numbers(out, 22, [bought.into()]),
        }
    }

    pub(super) fn decode(from: &mut Reader) -> Result<Change, Malformed> {
        Ok(match from.byte()? {
            1 => Change::Refunded { sequence: from.number()?, refunded: from.number()? },
            2 => Change::Reversed { sequence: from.number()?, amount: from.number()? },
            3 => Change::Marked,
            4 => Change::Status(from.byte()?),
            5 => Change::Taken { card: 0, bundle: from.number()?, count: from.number()? },
            6 => Change::Spent { count: from.number()?, sum: from.number()?, points: 0 },
            7 => Change::Tries { card: from.number()?, tries: from.number()? },
            8 => Change::Pin(PinHash { key: from.number()?, salt: from.word()?, hash: from.id()? }),
            9 => Change::Holder { member: from.number()?, named: from.number::<u8>()? != 0 },
            10 => {
                let code = Code::from_number(from.byte()?).ok_or("code")?;
                Change::Number { number: from.card_number()?, former: from.card_number()?, code }
            }
            11 => Change::Alias { kind: from.byte()?, bound: from.byte()? != 0, hash: from.id()? },
            12 => {
                let expires = from.number()?;
                let [total, earned, rebate, growth] = [from.number()?, from.number()?, from.number()?, from.number()?];
                Change::Held { expires, total, earned, rebate, growth }
            }
            13 => Change::Captured { sequence: from.number()?, captured: from.number()?, ended: from.number::<u8>()? != 0 },
            14 => Change::Codes { unit: from.number()?, first: from.number()?, count: from.number()?, expires: from.number()? },
            15 => Change::Code { unit: from.number()?, serial: from.number()?, used: from.number::<u8>()? != 0 },
            16 => Change::Sold { staff: from.number()?, amount: from.signed()? },
            18 => Change::Cursor { trigger: from.number()?, to: Cursor { sequence: from.number()?, card: from.number()? } },
            17 => Change::Tier { tier: from.number()?, until: from.number()? },
            20 => Change::Taken { card: from.number()?, bundle: from.number()?, count: from.number()? },
            21 => Change::Out { bundle: from.number()?, count: from.number()? },
            22 => Change::Bought(from.number::<u8>()? != 0),
            23 => Change::Spent { count: from.number()?, sum: from.number()?, points: from.number()? },
            _ => return Err("change"),
        })
    }
}

fn put_numbers<const N: usize>(out: &mut impl Out, change: u8, numbers: [u64; N]) {
    out.push(change);
    numbers.into_iter().for_each(|number| put_uint(out, number));
}

impl Entry {
    /// Appends the entry with this sequence to `out`; dates of keys are written from `base`.
    pub fn encode(&self, sequence: u64, base: i32, out: &mut Vec<u8>) {
        match self {
            Entry::Transaction(transaction) => out.extend(transaction.encoded(sequence, base)),
            Entry::Registration(registration) => encode_registration(registration, out),
            Entry::Rules { programme, version, text, tables } => {
                put_head(out, KIND_RULES, *programme);
                put_uint(out, u64::from(*version));
                put_text(out, text);
                put_text(out, tables);
            }
            Entry::GrowthOpens(opens) => {
                put_head(out, KIND_GROWTH_OPENS, opens.programme);
                put_uint(out, u64::from(opens.date.unsigned_abs()));
                put_uint(out, u64::from(opens.rule));
                out.push(ALGORITHM);
                put_uint(out, opens.rate);
                put_wide(out, opens.outstanding.unsigned_abs());
                put_uint(out, opens.purses);
                put_wide(out, opens.reserve.unsigned_abs());
                out.push(u8::from(opens.funded));
                put_total_legs(out, &opens.legs);
            }
            Entry::DayClosed(closed) => {
                put_head(out, KIND_DAY_CLOSED, closed.programme);
                put_uint(out, u64::from(closed.date.unsigned_abs()));
                for change in [closed.members, closed.bonus, closed.points, closed.units] {
                    put_wide_int(out, change);
                }
                put_total_legs(out, &closed.legs);
            }
            Entry::LotsLapsed(lapsed) => {
                put_head(out, KIND_LOTS_LAPSED, lapsed.programme);
                put_uint(out, u64::from(lapsed.date.unsigned_abs()));
                put_total_legs(out, &lapsed.legs);
            }
            Entry::GrowthComplete(complete) => {
                put_head(out, KIND_GROWTH_COMPLETE, complete.programme);
                put_uint(out, u64::from(complete.date.unsigned_abs()));
                out.push(ALGORITHM);
                put_wide(out, complete.growth.unsigned_abs());
                put_total_legs(out, &complete.legs);
                put_uint(out, complete.liabilities.len() as u64);
                for (merchant, points) in &complete.liabilities {
                    put_uint(out, u64::from(*merchant));
                    put_wide(out, points.unsigned_abs());
                }
            }
        }
    }

    /// Reads the entry with this sequence, which must take up all of `bytes`.
    pub fn decode(bytes: &[u8], sequence: u64, base: i32) -> Result<Entry, Malformed> {
        let mut entry = Entry::Transaction(Transaction::blank());
        entry.read(bytes, 0, sequence, base)?;
        Ok(entry)
    }

    /// The same in place of this entry, whose room is used again. After it come `beyond` bytes that are not its own, so that its last
    /// numbers can be read a word at a time. After an error it is none.
    #[inline]
    pub fn read(&mut self, bytes: &[u8], beyond: usize, sequence: u64, base: i32) -> Result<(), Malformed> {
        let mut from = Reader { bytes };
        let &number = bytes.first().ok_or("end")?;
        match Kind::from_number(number) {
            Some(kind) => {
                if !matches!(self, Entry::Transaction(_)) {
                    *self = Entry::Transaction(Transaction::blank());
                }
                let Entry::Transaction(transaction) = self else { unreachable!("it was just made one") };
                transaction.read(kind, sequence, base, &mut from)?;
            }
            None => *self = decode_other(&mut from)?,
        }
        if from.bytes.len() == beyond { Ok(()) } else { Err("length") }
    }
}

/// An entry that is no transaction.
fn decode_other(from: &mut Reader) -> Result<Entry, Malformed> {
    let number = from.byte()?;
    if from.byte()? != Code::Approved.number() {
        return Err("code");
    }
    let programme = from.number()?;
    Ok(match number {
        KIND_PROGRAMME..=KIND_TERMINAL => Entry::Registration(decode_registration(number, programme, from)?),
        KIND_RULES => Entry::Rules { programme, version: from.number()?, text: from.text()?, tables: from.text()? },
        KIND_GROWTH_OPENS => Entry::GrowthOpens(GrowthOpens {
            programme,
            date: from.number()?,
            rule: from.number()?,
            rate: from.algorithm().and_then(|()| from.number())?,
            outstanding: from.number()?,
            purses: from.number()?,
            reserve: from.number()?,
            funded: from.byte()? != 0,
            legs: from.total_legs()?,
        }),
        KIND_DAY_CLOSED => Entry::DayClosed(DayClosed {
            programme,
            date: from.number()?,
            members: from.signed()?,
            bonus: from.signed()?,
            points: from.signed()?,
            units: from.signed()?,
            legs: from.total_legs()?,
        }),
        KIND_GROWTH_COMPLETE => Entry::GrowthComplete(GrowthComplete {
            programme,
            date: from.number()?,
            growth: from.algorithm().and_then(|()| from.number())?,
            legs: from.total_legs()?,
            liabilities: from.liabilities()?,
        }),
        KIND_LOTS_LAPSED => Entry::LotsLapsed(LotsLapsed { programme, date: from.number()?, legs: from.total_legs()? }),
        _ => return Err("kind"),
    })
}

fn encode_registration(registration: &Registration, out: &mut Vec<u8>) {
    match registration {
        Registration::Programme { programme, name, date } => {
            put_head(out, KIND_PROGRAMME, *programme);
            put_text(out, name);
            put_uint(out, u64::from(date.unsigned_abs()));
        }
        Registration::Merchant { programme, merchant, name } => {
            put_head(out, KIND_MERCHANT, *programme);
            put_uint(out, u64::from(*merchant));
            put_text(out, name);
        }
        Registration::Store { programme, store, merchant, name } => {
            put_head(out, KIND_STORE, *programme);
            put_uint(out, u64::from(*store));
            put_uint(out, u64::from(*merchant));
            put_text(out, name);
        }
        Registration::Terminal { programme, terminal, store } => {
            put_head(out, KIND_TERMINAL, *programme);
            put_uint(out, u64::from(*terminal));
            put_uint(out, u64::from(*store));
        }
    }
}

fn decode_registration(number: u8, programme: u16, from: &mut Reader) -> Result<Registration, Malformed> {
    Ok(match number {
        KIND_PROGRAMME => Registration::Programme { programme, name: from.text()?, date: from.number()? },
        KIND_MERCHANT => Registration::Merchant { programme, merchant: from.number()?, name: from.text()? },
        KIND_STORE => Registration::Store { programme, store: from.number()?, merchant: from.number()?, name: from.text()? },
        _ => Registration::Terminal { programme, terminal: from.number()?, store: from.number()? },
    })
}

fn put_head(out: &mut Vec<u8>, kind: u8, programme: u16) {
    out.extend([kind, Code::Approved.number()]);
    put_uint(out, programme.into());
}

/// Numbers from here on are written in full.
const SHORT_END: u64 = 1 << 56;

/// The bytes of a number below [`SHORT_END`], lowest first, and how many they are: as many zero bits as bytes follow the first, a one,
/// then the number.
///
/// Without a loop or a branch: how long an amount is cannot be foreseen, and a wrong guess costs more than all of this.
#[inline(always)]
fn short(value: u64) -> (u64, usize) {
    let more = MORE[value.leading_zeros() as usize];
    ((value << 1 | 1) << more, usize::from(more) + 1)
}

/// How many bytes follow the first, by the number's leading zeros.
const MORE: [u8; 65] = {
    let mut more = [0; 65];
    let mut zeros = 0;
    while zeros < 64 {
        more[zeros] = (63 - zeros as u8) / 7;
        zeros += 1;
    }
    more
};

#[inline(always)]
pub(super) fn put_uint(out: &mut impl Out, value: u64) {
    if value < SHORT_END {
        let (word, len) = short(value);
        out.put_word(word, len);
    } else {
        out.put_full(value.into());
    }
}

fn put_wide(out: &mut impl Out, value: u128) {
    match u64::try_from(value) {
        Ok(value) => put_uint(out, value),
        Err(_) => out.put_full(value),
    }
}

#[inline(always)]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline(always)]
pub(super) fn put_int(out: &mut impl Out, value: i64) {
    put_uint(out, zigzag(value));
}

fn put_wide_int(out: &mut impl Out, value: i128) {
    put_wide(out, ((value << 1) ^ (value >> 127)) as u128);
}

#[inline(always)]
pub(super) fn put_date(out: &mut impl Out, date: i32, base: i32) {
    put_int(out, i64::from(date) - i64::from(base));
}

#[inline(always)]
pub(super) fn put_id(out: &mut impl Out, id: u128) {
    out.put_word(((id >> 64) as u64).swap_bytes(), 8);
    out.put_word((id as u64).swap_bytes(), 8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_number(out: &mut impl Out, number: CardNumber) {
    out.push(number.digits());
    out.extend_from_slice(&number.value().to_le_bytes());
}

#[inline(always)]
fn put_moves(out: &mut impl Out, moves: &[Move]) {
    for one in moves {
        let pair = u64::from(one.from.place()) << 4 | u64::from(one.to.place());
        let value = one.amount.unsigned_abs();
        if value < SHORT_END >> 7 {
            // Nearly always both fit one word.
            let (word, len) = short(value);
            out.put_word(word << 8 | pair, len + 1);
        } else {
            out.put_word(pair, 1);
            put_uint(out, value);
        }
    }
}

fn put_total_legs(out: &mut impl Out, legs: &[TotalLeg]) {
    put_uint(out, legs.len() as u64);
    for leg in legs {
        if leg.number == 0 {
            out.push(leg.account.code());
        } else {
            out.push(leg.account.code() | EXPLICIT_NUMBER);
            put_uint(out, leg.number.into());
        }
        put_wide_int(out, leg.amount);
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or("end")?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (chunk, rest) = self.bytes.split_first_chunk().ok_or("end")?;
        self.bytes = rest;
        Ok(chunk)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.bytes.split_first().ok_or("end")?;
        self.bytes = rest;
        Ok(first)
    }

    /// A number of up to eight bytes, if so many are left to look at: nearly all are.
    #[inline(always)]
    fn short(&mut self) -> Option<u64> {
        let word = u64::from_le_bytes(*self.bytes.first_chunk()?);
        let len = (word as u8).trailing_zeros() + 1;
        if len > 8 {
            return None;
        }
        self.bytes = &self.bytes[len as usize..];
        Some(word << (64 - 8 * len) >> (64 - 7 * len))
    }

    /// A number that is written in full, or stands so near the end that there is no word to read.
    #[cold]
    #[inline(never)]
    fn long(&mut self) -> Result<u128, Malformed> {
        let &first = self.bytes.first().ok_or("end")?;
        let len = first.trailing_zeros() as usize + 1;
        if len > 8 {
            let bytes = self.take(17)?;
            return Ok(u128::from_le_bytes(bytes[1..].try_into().map_err(|_| "number")?));
        }
        let mut word = [0; 8];
        word[..len].copy_from_slice(self.take(len)?);
        Ok(u128::from(u64::from_le_bytes(word) >> len))
    }

    #[inline]
    pub(super) fn number<T: TryFrom<u64> + TryFrom<u128>>(&mut self) -> Result<T, Malformed> {
        match self.short() {
            Some(value) => T::try_from(value).map_err(|_| "number"),
            None => T::try_from(self.long()?).map_err(|_| "number"),
        }
    }

    #[inline]
    pub(super) fn signed<T: TryFrom<i64> + TryFrom<i128>>(&mut self) -> Result<T, Malformed> {
        match self.short() {
            Some(value) => T::try_from((value >> 1) as i64 ^ -((value & 1) as i64)).map_err(|_| "number"),
            None => {
                let value = self.long()?;
                T::try_from((value >> 1) as i128 ^ -((value & 1) as i128)).map_err(|_| "number")
            }
        }
    }

    pub(super) fn date(&mut self, base: i32) -> Result<i32, Malformed> {
        let distance: i64 = self.signed()?;
        i32::try_from(distance.checked_add(base.into()).ok_or("date")?).map_err(|_| "date")
    }

    pub(super) fn id(&mut self) -> Result<u128, Malformed> {
        self.chunk().map(|&bytes| u128::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.number()?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "text")
    }

    pub(super) fn card_number(&mut self) -> Result<CardNumber, Malformed> {
        let digits = self.byte()?;
        let value = u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| "card number")?);
        CardNumber::new(value, digits).ok_or("card number")
    }

    pub(super) fn word(&mut self) -> Result<u64, Malformed> {
        self.chunk().map(|&bytes| u64::from_le_bytes(bytes))
    }

    fn algorithm(&mut self) -> Result<(), Malformed> {
        if self.byte()? == ALGORITHM { Ok(()) } else { Err("algorithm") }
    }

    pub(super) fn original(&mut self, programme: u16, by_key: bool, base: i32) -> Result<Original, Malformed> {
        if !by_key {
            return Ok(Original::Sequence(self.number()?));
        }
        let date = self.date(base)?;
        let name = match self.byte()? {
            0 => KeyName::Trace { terminal: self.number()?, trace: self.number()? },
            1 => KeyName::Id(self.id()?),
            _ => return Err("original"),
        };
        Ok(Original::Key(Key { programme, date, name }))
    }

    fn moves(&mut self, count: usize, moves: &mut Moves) -> Result<(), Malformed> {
        moves.clear();
        if count > MOVES_MAX {
            return Err("moves");
        }
        for _ in 0..count {
            let pair = self.byte()?;
            let (from, to) = (Account::at(pair >> 4).ok_or("account")?, Account::at(pair & 15).ok_or("account")?);
            let amount: i64 = self.number()?;
            if from.unit() != to.unit() || from == to {
                return Err("accounts");
            }
            if !(1..=PURSE_MAX).contains(&amount) {
                return Err("amount");
            }
            moves.add(from, to, amount);
        }
        Ok(())
    }

    fn total_legs(&mut self) -> Result<Vec<TotalLeg>, Malformed> {
        let count: usize = self.number()?;
        // A leg takes two bytes at least: what cannot be there is not given room.
        let mut legs = Vec::with_capacity(count.min(self.bytes.len() / 2));
        for _ in 0..count {
            let byte = self.byte()?;
            let account = Account::from_code(byte & !EXPLICIT_NUMBER).ok_or("account")?;
            let number = if byte & EXPLICIT_NUMBER != 0 { self.number()? } else { 0 };
            legs.push(TotalLeg { account, number, amount: self.signed()? });
        }
        Ok(legs)
    }

    fn liabilities(&mut self) -> Result<Vec<(u32, i128)>, Malformed> {
        let count: usize = self.number()?;
        let mut liabilities = Vec::with_capacity(count.min(self.bytes.len() / 2));
        for _ in 0..count {
            liabilities.push((self.number()?, self.number()?));
        }
        Ok(liabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Unit;
    use proptest::prelude::*;

    const BASE: i32 = 20_000;
    const SEQUENCE: u64 = 1 << 40;

    fn name() -> impl Strategy<Value = KeyName> {
        prop_oneof![
            (1u32.., 1u32..).prop_map(|(terminal, trace)| KeyName::Trace { terminal, trace }),
            (1u128..).prop_map(KeyName::Id),
        ]
    }

    fn moves() -> impl Strategy<Value = Moves> {
        let account = || {
            prop::sample::select(
                (0..16).filter_map(Account::at).filter(|account| account.unit() != Unit::Counted).collect::<Vec<_>>(),
            )
        };
        let one = (account(), account(), 1..=PURSE_MAX).prop_map(|(from, to, amount)| Move { from, to, amount });
        let of_one_unit = one.prop_filter("of one unit", |one| one.from.unit() == one.to.unit() && one.from != one.to);
        prop::collection::vec(of_one_unit, 0..=MOVES_MAX).prop_map(Moves::from_iter)
    }

    fn card() -> impl Strategy<Value = CardRef> {
        let number = (0u64..10_000_000_000, 10u8..=19).prop_map(|(value, digits)| CardNumber::new(value, digits).unwrap());
        prop_oneof![
            Just(CardRef::None),
            (any::<u32>(), 0u64..SEQUENCE).prop_map(|(index, previous)| CardRef::Known { index, previous, issued: None }),
            number.prop_map(CardRef::Unknown),
        ]
    }

    prop_compose! {
        fn transaction()(
            kind in prop::sample::select(vec![Kind::TopUp, Kind::Purchase, Kind::Refund, Kind::Reversal, Kind::Fund]),
            code in prop::sample::select(Code::ALL.to_vec()),
            name in name(),
            other in name(),
            numbers in (1u16..4, any::<u32>(), any::<u32>(), any::<u8>(), -(1 << 23)..1 << 23, any::<i64>()),
            dates in (prop_oneof![Just(BASE), 0i32..2_000_000], 0i32..2_000_000),
            by_key in any::<bool>(),
            card in card(),
            moves in moves(),
            balances in [0..i64::MAX, 0..i64::MAX, 0..i64::MAX],
            refunded in 0..i64::MAX,
        ) -> Transaction {
            let (programme, terminal, rule, channel, time, amount) = numbers;
            let refers = matches!(kind, Kind::Refund | Kind::Reversal);
            let original = if by_key {
                Original::Key(Key { programme, date: dates.1, name: other })
            } else {
                Original::Sequence(7)
            };
            let own = match name {
                KeyName::Trace { trace, .. } => KeyName::Trace { terminal, trace },
                id => id,
            };
            Transaction {
                kind,
                code,
                terminal,
                store: 5,
                key: Key { programme, date: dates.0, name: own },
                posted: dates.1,
                rule,
                channel,
                time,
                flags: if kind == Kind::Purchase { USE_POINTS } else { 0 },
                card,
                amount: if kind == Kind::Reversal { 0 } else { amount },
                product: 0,
                expires: 0,
                status: 0,
                original: refers.then_some(original),
                moves,
                changes: if refers { vec![Change::Refunded { sequence: 9, refunded }, Change::Marked] } else { vec![] },
                balances: if matches!(card, CardRef::Known { .. }) { balances } else { [0; 3] },
                detailed: false,
                detail: Detail::default(),
            }
        }
    }

    #[test]
    fn numbers_of_every_length_come_back() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1 << bits) - 1, (1 << bits) | 0x5a5a_5a5a_5a5a_5a5a >> (63 - bits)] {
                let (mut plain, mut room) = (Vec::new(), [0; TRANSACTION_ROOM]);
                put_uint(&mut plain, value);
                let mut out = Room { bytes: &mut room, len: 0 };
                put_uint(&mut out, value);
                let len = out.len;
                assert_eq!(plain, room[..len]);
                let shortest = (70 - (value | 1).leading_zeros() as usize) / 7;
                assert_eq!(len, if shortest > 8 { 17 } else { shortest });
                for rest in [0, 8] {
                    let mut bytes = plain.clone();
                    bytes.resize(len + rest, 0xff);
                    let mut from = Reader { bytes: &bytes };
                    assert_eq!((from.number::<u64>(), from.bytes.len()), (Ok(value), rest));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn decoding_gives_what_was_encoded(transaction in transaction(), other in transaction()) {
            let mut bytes = transaction.encoded(SEQUENCE, BASE);
            let entry = Entry::Transaction(transaction);
            prop_assert_eq!(Entry::decode(&bytes, SEQUENCE, BASE), Ok(entry.clone()));
            let mut place = Entry::Transaction(other);
            bytes.extend([0x80; 7]);
            place.read(&bytes, 7, SEQUENCE, BASE).unwrap();
            prop_assert_eq!(place, entry);
            prop_assert!(Entry::decode(&bytes, SEQUENCE, BASE).is_err());
        }

        #[test]
        fn a_damaged_entry_is_an_error_or_another_entry_but_never_a_panic(
            transaction in transaction(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = transaction.encoded(SEQUENCE, BASE);
            let cut = cut.index(bytes.len());
            prop_assert!(Entry::decode(&bytes[..cut], SEQUENCE, BASE).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Entry::decode(&bytes, SEQUENCE, BASE);
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::decode(&bytes, SEQUENCE, BASE);
        }
    }

    #[test]
    fn other_entries_survive_the_way() {
        let legs = vec![
            TotalLeg { account: Account::StoreDue, number: 3, amount: -5 },
            TotalLeg { account: Account::StoreDue, number: 4, amount: i128::MAX >> 2 },
        ];
        let entries = [
            Entry::Registration(Registration::Programme { programme: 9, name: "九".into(), date: 1 }),
            Entry::Registration(Registration::Store { programme: 9, store: 1, merchant: 2, name: String::new() }),
            Entry::Rules { programme: 9, version: 300, text: "t".repeat(200), tables: "{}".into() },
            Entry::DayClosed(DayClosed {
                programme: 9,
                date: BASE,
                members: -1,
                bonus: i128::MAX >> 1,
                points: 0,
                units: -7,
                legs: legs.clone(),
            }),
            Entry::GrowthComplete(GrowthComplete {
                programme: 9,
                date: BASE,
                growth: 1 << 100,
                legs,
                liabilities: vec![(1, 0), (u32::MAX, i128::MAX)],
            }),
        ];
        for entry in entries {
            let mut bytes = Vec::new();
            entry.encode(SEQUENCE, BASE, &mut bytes);
            assert_eq!(Entry::decode(&bytes, SEQUENCE, BASE), Ok(entry));
        }
    }
}
