//! What can be asked of the engine, and what it answers.
//!
//! [`Request`] and [`Answer`] are fixed-size rows with the same layout everywhere: in numpy
//! arrays, in the pipeline, in the machine. [`Request::check_format`] is the door: behind it a row is well formed.

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use zeroize::Zeroize;

use crate::cards::CardNumber;
use crate::codes::Code;
use crate::details::{Item, Part};
use crate::keys::{Key, KeyName};

/// Request flag: pay with points, too, as far as the rules allow.
pub const USE_POINTS: u8 = 1;
/// Request flag: approve what there is, if there is not enough.
pub const ACCEPT_PARTIAL: u8 = 2;
/// Request flag of a capture: what is left of the hold is released.
pub const FINAL: u8 = 4;
/// Request flag of a grant: its price is paid by the card.
pub const FROM_CARD: u8 = 8;
/// Request flag of a bind: the alias is taken off the card.
pub const UNBIND: u8 = 16;
/// Request flag of a set PIN: an operator sets or unlocks it; the old one is not asked for.
pub const BY_OPERATOR: u8 = 32;
/// Request flag of a sale: it is priced and answered, and nothing of it is kept. It has no key.
pub const DRY_RUN: u8 = 64;

/// Kinds of transactions, as in `docs/transactions.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // the names say it
pub enum Kind {
    Issue = 1,
    TopUp = 2,
    Purchase = 3,
    Refund = 4,
    Reversal = 5,
    Balance = 6,
    Status = 7,
    Fund = 8,
    Grant = 9,
    Authorise = 10,
    Capture = 11,
    Void = 12,
    Replace = 13,
    Transfer = 14,
    Holder = 15,
    Bind = 16,
    SetPin = 17,
    Close = 18,
    IssueCodes = 19,
    BulkTopUp = 20,
    SetTier = 21,
}

impl Kind {
    /// The kind with this number, if there is one.
    #[inline]
    pub fn from_number(number: u8) -> Option<Kind> {
        use Kind::*;
        const ALL: [Kind; 21] = [
            Issue, TopUp, Purchase, Refund, Reversal, Balance, Status, Fund, Grant, Authorise, Capture, Void, Replace, Transfer,
            Holder, Bind, SetPin, Close, IssueCodes, BulkTopUp, SetTier,
        ];
        ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }

    /// True if a request of this kind names a card.
    #[inline]
    pub fn has_card(self) -> bool {
        self.fields() & fields::CARD != 0
    }

    /// The fields that it may use besides kind, channel, programme, date, time, terminal and key: bits of [`fields`].
    #[inline]
    fn fields(self) -> u8 {
        use Kind::*;
        use fields::*;
        match self {
            Issue => CARD | PRODUCT | EXPIRES | STATUS,
            TopUp => CARD | AMOUNT,
            Purchase => CARD | AMOUNT | FLAGS,
            Refund => AMOUNT | ORIGINAL,
            Reversal | Void => ORIGINAL,
            Balance | Holder | Close => CARD,
            Status | Replace => CARD | STATUS,
            SetTier => CARD | PRODUCT,
            Fund | BulkTopUp => AMOUNT,
            Grant => CARD | PRODUCT | AMOUNT | FLAGS,
            Authorise => CARD | AMOUNT | FLAGS | EXPIRES,
            Capture => AMOUNT | FLAGS | ORIGINAL,
            Transfer => CARD | PRODUCT | AMOUNT,
            Bind | SetPin => CARD | FLAGS,
            IssueCodes => PRODUCT | AMOUNT | EXPIRES,
        }
    }

    /// True if it may come without items, as far as its flags go.
    #[inline]
    pub fn needs_no_items(self, request: &Request) -> bool {
        match self {
            Kind::Replace | Kind::Transfer | Kind::Holder | Kind::Bind | Kind::BulkTopUp => false,
            Kind::SetPin => request.flags & BY_OPERATOR != 0,
            _ => true,
        }
    }

    /// The flags that it may have.
    #[inline]
    fn flags(self) -> u8 {
        match self {
            Kind::Purchase | Kind::Authorise => USE_POINTS | ACCEPT_PARTIAL | DRY_RUN,
            Kind::Capture => FINAL,
            Kind::Grant => FROM_CARD,
            Kind::Bind => UNBIND,
            Kind::SetPin => BY_OPERATOR,
            _ => 0,
        }
    }

    /// True if it may have this status.
    #[inline]
    fn takes_status(self, status: u8) -> bool {
        match self {
            Kind::Issue => matches!(status, 0 | 5),
            Kind::Status => matches!(status, 1..=4),
            Kind::Replace => matches!(status, 0 | 3 | 4),
            _ => status == 0,
        }
    }
}

/// Fields of a row that some kinds use and others leave zero.
mod fields {
    pub const CARD: u8 = 1;
    pub const AMOUNT: u8 = 2;
    pub const FLAGS: u8 = 4;
    pub const PRODUCT: u8 = 8;
    pub const STATUS: u8 = 16;
    pub const ORIGINAL: u8 = 32;
    pub const EXPIRES: u8 = 64;
    /// No kind uses it.
    pub const RESERVED: u8 = 128;
}

/// One transaction asked for. Fields that a kind does not use are zero.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// Number of a [`Kind`].
    pub kind: u8,
    /// Sum of the flags that the kind may have.
    pub flags: u8,
    /// How it came; the business gives the numbers.
    pub channel: u8,
    /// Number of digits of the card number, 8 to 19.
    pub card_digits: u8,
    /// 0 is read as 1.
    pub programme: u16,
    /// Card product (issue), bundle (grant), purse (transfer), unit (codes) or tier.
    pub product: u16,
    /// Days since 1970-01-01; part of the key.
    pub business_date: i32,
    /// Seconds since midnight of the business date, at the terminal.
    pub local_time: i32,
    /// The card number's value; 0 with `card_digits` 0: an item names the card by an alias.
    pub card: u64,
    /// Minor units of money, or 1/10,000 points (fund).
    pub amount: i64,
    /// Terminal that asks.
    pub terminal: u32,
    /// Trace number, or 0 if the key is an id.
    pub trace: u32,
    /// Upper half of the 128-bit id, or 0.
    pub id_hi: u64,
    /// Lower half.
    pub id_lo: u64,
    /// Sequence of the original, or 0 if it is named by key.
    pub original: u64,
    /// Terminal of the original's key.
    pub original_terminal: u32,
    /// Trace of the original's key.
    pub original_trace: u32,
    /// Id of the original's key, upper half.
    pub original_id_hi: u64,
    /// Id of the original's key, lower half.
    pub original_id_lo: u64,
    /// Business date of the original's key.
    pub original_date: i32,
    /// Last valid date (issue, codes) or last date of a hold; 0: never, or by the rules.
    pub expires: i32,
    /// Number of a [`Status`](crate::cards::Status).
    pub status: u8,
    /// Zero.
    pub reserved: u8,
    /// How many items it has.
    pub items: u16,
    /// Where they begin among the items of its batch.
    pub first_item: u32,
}

/// Rows that are asked for together, and the items that they have.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order: each sees those before it.
    pub rows: Vec<Request>,
    /// Those of all rows; a row says which are its own.
    pub items: Vec<Item>,
}

impl From<Vec<Request>> for Batch {
    fn from(rows: Vec<Request>) -> Batch {
        Batch { rows, items: Vec::new() }
    }
}

impl Drop for Batch {
    /// PINs are among the items.
    fn drop(&mut self) {
        self.items.zeroize();
    }
}

impl Batch {
    /// Adds a row with these items.
    #[inline]
    pub fn push(&mut self, mut row: Request, items: &[Item]) {
        if !items.is_empty() {
            (row.first_item, row.items) = (self.items.len() as u32, items.len() as u16);
            self.items.extend_from_slice(items);
        }
        self.rows.push(row);
    }

    /// Parts of so many rows at most, each with the items of its rows.
    pub fn split(mut self, rows_max: usize) -> impl Iterator<Item = Batch> {
        // Nearly always it is one part, and no row is copied.
        let whole = (!self.rows.is_empty() && self.rows.len() <= rows_max).then(|| std::mem::take(&mut self));
        let mut rows = std::mem::take(&mut self.rows).into_iter().peekable();
        let parts = std::iter::from_fn(move || {
            rows.peek()?;
            let mut part = Batch { rows: rows.by_ref().take(rows_max).collect(), items: Vec::new() };
            for row in part.rows.iter_mut().filter(|row| row.items != 0) {
                if let Some(items) = items_at(&self.items, row) {
                    row.first_item = part.items.len() as u32;
                    part.items.extend_from_slice(items);
                } else {
                    // It has not what it says, and must not find others'.
                    row.first_item = u32::MAX;
                }
            }
            Some(part)
        });
        whole.into_iter().chain(parts)
    }

    /// The items of a row, if it has those that it says.
    #[inline]
    pub fn items_of(&self, row: &Request) -> Option<&[Item]> {
        if row.items == 0 {
            return (row.first_item == 0).then_some(&[]);
        }
        items_at(&self.items, row)
    }
}

#[inline]
fn items_at<'a>(items: &'a [Item], row: &Request) -> Option<&'a [Item]> {
    let first = row.first_item as usize;
    items.get(first..first + usize::from(row.items))
}

/// What a batch is answered: row for row, and the parts that they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// In the order of the rows.
    pub rows: Vec<Answer>,
    /// Those of all answers; an answer says which are its own.
    pub parts: Vec<Part>,
}

impl Answers {
    /// Adds those of the batch that follows.
    pub fn append(&mut self, mut next: Answers) {
        let before = self.parts.len() as u32;
        next.rows.iter_mut().filter(|row| row.parts != 0).for_each(|row| row.first_part += before);
        self.rows.append(&mut next.rows);
        self.parts.append(&mut next.parts);
    }

    /// The parts of an answer of these.
    pub fn parts_of(&self, answer: &Answer) -> &[Part] {
        let first = answer.first_part as usize;
        &self.parts[first..first + usize::from(answer.parts)]
    }
}

/// Outcome of one transaction; fields as in `docs/transactions.md`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // one table describes them: docs/transactions.md
pub struct Answer {
    pub sequence: u64,
    pub business_date: i32,
    pub code: u16,
    pub replayed: u8,
    pub kind: u8,
    pub amount: i64,
    pub discount: i64,
    pub principal: i64,
    pub bonus: i64,
    pub offset: i64,
    pub points_earned: i64,
    pub points_spent: i64,
    pub shortfall_money: i64,
    pub shortfall_points: i64,
    pub principal_balance: i64,
    pub bonus_balance: i64,
    pub points_balance: i64,
    pub first_part: u32,
    pub parts: u16,
    pub reason: u8,
    pub tier: u8,
}

const _: () = assert!(size_of::<Request>() == 104 && size_of::<Answer>() == 120);

impl Answer {
    /// A refusal that leaves nothing behind.
    pub fn refusal(kind: u8, code: Code) -> Answer {
        Answer { kind, code: code.number().into(), ..Answer::default() }
    }
}

/// How a refund or a reversal names the transaction it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Original {
    /// By its id.
    Sequence(u64),
    /// By the key it was sent with.
    Key(Key),
}

impl Request {
    /// The programme, with the default filled in.
    pub fn programme(&self) -> u16 {
        self.programme.max(1)
    }

    /// The key by which a retry is recognised.
    pub fn key(&self) -> Key {
        let name = if self.trace != 0 {
            KeyName::Trace { terminal: self.terminal, trace: self.trace }
        } else {
            KeyName::Id(join(self.id_hi, self.id_lo))
        };
        Key { programme: self.programme(), date: self.business_date, name }
    }

    /// The original that is named, if this kind has one.
    #[inline]
    pub fn named_original(&self, kind: Kind) -> Option<Original> {
        if kind.fields() & fields::ORIGINAL == 0 {
            return None;
        }
        if self.original != 0 {
            return Some(Original::Sequence(self.original));
        }
        let name = if self.original_trace != 0 {
            KeyName::Trace { terminal: self.original_terminal, trace: self.original_trace }
        } else {
            KeyName::Id(join(self.original_id_hi, self.original_id_lo))
        };
        Some(Original::Key(Key { programme: self.programme(), date: self.original_date, name }))
    }

    /// The row's kind, if it is well formed (code 30 otherwise).
    ///
    /// With few branches: which kind comes next, no processor foresees.
    #[inline]
    pub fn check_format(&self) -> Option<Kind> {
        let kind = Kind::from_number(self.kind)?;
        let may_use = kind.fields();
        let (trace, id) = (self.trace != 0, self.id_hi | self.id_lo != 0);
        let one_key = trace != id;
        let no_key = !trace & !id;
        let key_ok = if (kind == Kind::Balance) | self.is_dry_run() { no_key } else { one_key };
        let has_items = self.items != 0;
        let well_formed = (self.used_fields() & !may_use == 0)
            & key_ok
            & (self.terminal != 0)
            & (self.flags & !kind.flags() == 0)
            & (self.expires >= 0)
            && (may_use & fields::CARD == 0 || self.names_card() || has_items && self.card_digits == 0 && self.card == 0)
            && kind.takes_status(self.status)
            && (may_use & fields::ORIGINAL == 0 || self.original_ok());
        well_formed.then_some(kind)
    }

    /// True if it is tried out only.
    #[inline]
    pub fn is_dry_run(&self) -> bool {
        self.flags & DRY_RUN != 0
    }

    /// Bits of the [`fields`] that are not zero.
    #[inline]
    fn used_fields(&self) -> u8 {
        let original = self.original
            | u64::from(self.original_terminal | self.original_trace)
            | self.original_id_hi
            | self.original_id_lo
            | u64::from(self.original_date.unsigned_abs());
        let bit = |used: bool, field: u8| if used { field } else { 0 };
        bit(self.card != 0 || self.card_digits != 0, fields::CARD)
            | bit(self.amount != 0, fields::AMOUNT)
            | bit(self.flags != 0, fields::FLAGS)
            | bit(self.product != 0, fields::PRODUCT)
            | bit(self.expires != 0, fields::EXPIRES)
            | bit(self.status != 0, fields::STATUS)
            | bit(original != 0, fields::ORIGINAL)
            | bit(self.reserved != 0, fields::RESERVED)
    }

    /// True if the row itself names a card.
    #[inline]
    pub fn names_card(&self) -> bool {
        CardNumber::new(self.card, self.card_digits).is_some()
    }

    /// Whether an original is named well, for the kinds that have one.
    fn original_ok(&self) -> bool {
        let has_id = self.original_id_hi != 0 || self.original_id_lo != 0;
        if self.original != 0 {
            return self.original_terminal == 0 && self.original_trace == 0 && !has_id && self.original_date == 0;
        }
        let well_named = if has_id {
            self.original_trace == 0 && self.original_terminal == 0
        } else {
            self.original_trace != 0 && self.original_terminal != 0
        };
        well_named && self.named_original(Kind::Reversal) != Some(Original::Key(self.key()))
    }
}

/// A number of 128 bits from its halves.
pub(crate) fn join(hi: u64, lo: u64) -> u128 {
    u128::from(hi) << 64 | u128::from(lo)
}

/// Something of the organisation, made known to the engine: numbers, and to whom it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // docs/transactions.md has them
pub enum Registration {
    /// Its own issuer, cards, rules and books.
    Programme { programme: u16, name: String, date: i32 },
    /// A member of the alliance or chain.
    Merchant { programme: u16, merchant: u32, name: String },
    /// Where a merchant sells.
    Store { programme: u16, store: u32, merchant: u32, name: String },
    /// Where a store swipes.
    Terminal { programme: u16, terminal: u32, store: u32 },
}

/// Position of one store, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorePosition {
    /// The store's number.
    pub store: u32,
    /// Sold against cards in the open (or just closed) day.
    pub sold: i128,
    /// Taken in for cards in that day.
    pub collected: i128,
    /// Fees of other merchants in that day, less those paid to them.
    pub fees: i128,
    /// Net of closed days, not yet discharged; in the report of a close 0.
    pub due: i128,
}

impl StorePosition {
    /// Positive: is owed to the store.
    pub fn net(&self) -> i128 {
        self.sold - self.collected + self.fees
    }
}

/// What a member of staff sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaffSales {
    /// The staff card's number.
    pub card: CardNumber,
    /// How many sales.
    pub sales: u64,
    /// What they came to, less what was refunded or undone.
    pub amount: i128,
}

/// What a merchant owes the holders of the cards that it issued, in 1/10,000 points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MerchantLiability {
    /// The merchant's number.
    pub merchant: u32,
    /// Points on its cards, growth granted so far included.
    pub points: i128,
    /// What its cards were granted by the newest growth that is complete.
    pub growth: i128,
}

/// The points of a programme's cards, by who issued them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liabilities {
    /// 00 or 58.
    pub code: Code,
    /// The day of the newest growth that is complete; None: there was none yet.
    pub growth_date: Option<i32>,
    /// All merchants, by number.
    pub merchants: Vec<MerchantLiability>,
}

/// A day's compounding, as it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthReport {
    /// Over 10^12.
    pub rate: u64,
    /// Points of all cards.
    pub outstanding: i128,
    /// Number of purses.
    pub purses: u64,
    /// Set aside from the funding account.
    pub reserve: i128,
    /// False: the funding was below the reserve; nothing is granted.
    pub funded: bool,
}

/// What the close of a day found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// 00, 12, 58 or 91; without 00 the rest is empty.
    pub code: Code,
    /// The day was closed before; this is the report of then.
    pub replayed: bool,
    /// The close's journal entry.
    pub sequence: u64,
    /// The day that was closed.
    pub date: i32,
    /// Stores that sold or collected anything, or had fees, by number.
    pub stores: Vec<StorePosition>,
    /// Day's change of what members hold.
    pub members: i128,
    /// Day's change of the issuer's bonus account.
    pub bonus: i128,
    /// Day's change of the issuer's points account.
    pub points: i128,
    /// Day's change of the issuer's units account and of what the issuer took in itself.
    pub units: i128,
    /// None: the rules have no compounding.
    pub growth: Option<GrowthReport>,
}

impl CloseReport {
    /// The issuer's position; with the stores' net it sums to zero.
    pub fn issuer_net(&self) -> i128 {
        self.members + self.bonus + self.points + self.units
    }

    /// A close that was refused.
    pub fn refused(code: Code, date: i32) -> CloseReport {
        CloseReport {
            code,
            replayed: false,
            sequence: 0,
            date,
            stores: Vec::new(),
            members: 0,
            bonus: 0,
            points: 0,
            units: 0,
            growth: None,
        }
    }
}

/// One line of a card's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementLine {
    /// The entry's outcome and balances.
    pub answer: Answer,
    /// Date of its key.
    pub value_date: i32,
    /// Terminal that asked.
    pub terminal: u32,
    /// Store whose account it touched.
    pub store: u32,
    /// Change of the points purse by the entry.
    pub points: i64,
    /// Growth of the points purse since the entry before.
    pub growth: i64,
}

/// All accounts of a programme, summed by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialBalance {
    /// 00 or 58.
    pub code: Code,
    /// The open business date.
    pub open_date: i32,
    /// Cards of the programme.
    pub cards: u64,
    /// Entries of the whole journal.
    pub entries: u64,
    /// Account code and total; accounts 1 to 5 from the purses themselves.
    pub totals: Vec<(u8, i128)>,
    /// Of each unit of the rules that was ever granted: its number, what is on cards, in the pool, and out as codes.
    pub units: Vec<(u16, [i128; 3])>,
    /// A day's growth is being granted.
    pub growing: bool,
}

/// A version of the rules that was published: where the journal has it, and when it came. It never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesVersion {
    /// From 1, without gaps.
    pub version: u32,
    /// Entry with its text and tables.
    pub sequence: u64,
    /// Business date that was open.
    pub date: i32,
}

/// A version of a programme's rules, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedRules {
    /// 00, 25 if there is no such version, or 58; without 00 the rest is empty.
    pub code: Code,
    /// Which one, and when it came.
    pub version: RulesVersion,
    /// The file as it was written.
    pub text: String,
    /// What it compiled to, as JSON.
    pub tables: String,
}

impl PublishedRules {
    /// Rules that are not there.
    pub fn refused(code: Code) -> PublishedRules {
        PublishedRules { code, version: RulesVersion::default(), text: String::new(), tables: String::new() }
    }
}

/// Where a trigger is: an entry of the feed, and within it a card. All that it does for what is not beyond is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct Cursor {
    /// Entry that it did something for.
    pub sequence: u64,
    /// Index of the card that it did it to.
    pub card: u32,
}

/// Where the triggers of a programme are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursors {
    /// 00 or 58; without 00 the rest is empty.
    pub code: Code,
    /// The open business date.
    pub open_date: i32,
    /// By number, those that did anything yet.
    pub cursors: Vec<(u16, Cursor)>,
}

/// How large everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries of the journal.
    pub entries: u64,
    /// Of these, what the newest complete checkpoint holds: opening replays the rest.
    pub checkpointed: u64,
    /// Checkpoint passes completed since it was opened.
    pub passes: u64,
    /// Cards of all programmes.
    pub cards: u64,
    /// Memory of cards, purses, wallets and their index, in bytes.
    pub card_bytes: usize,
    /// Keys in the window, up to a page's worth of each segment.
    pub keys: usize,
    /// Keys that are not in segments on disk.
    pub keys_in_memory: usize,
    /// Memory of keys and filters, in bytes.
    pub key_bytes: usize,
}
