//! What a row carries beyond its fields: the items of a request and the parts of an answer (`docs/card.md`).
//!
//! Both are fixed-size rows with the same layout everywhere. A plain swipe has neither. [`items_fit`] is their door: behind it each has
//! only the fields that its kind uses, and stands where its kind may stand.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cards::CardNumber;
use crate::commands::{Kind, Request, join};
use crate::units::AMOUNT_MAX;

/// Most items of a request, but for a bulk top-up.
pub const ITEMS_MAX: usize = 64;
/// Most cards of a bulk top-up.
pub const BULK_MAX: usize = 1_000;
/// Greatest number of goods.
pub const GOODS_MAX: u64 = u64::MAX >> 1;
/// Most coupons or visits that an item takes.
pub const TAKEN_MAX: i64 = 100;

/// One item of a request. Fields that its kind does not use are zero.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Item {
    /// Number of an [`ItemKind`].
    pub kind: u8,
    /// Of a card number or a PIN: how many; of an alias: its kind.
    pub digits: u8,
    /// A unit of the rules.
    pub unit: u16,
    /// Of a PIN that the pipeline has hashed: the number of the key.
    pub number: u32,
    /// How much, or how many.
    pub amount: i64,
    /// Upper half of a hash or a MAC.
    pub high: u64,
    /// Lower half, a number's value, a serial or an id.
    pub low: u64,
}

const _: () = assert!(size_of::<Item>() == 32);

impl fmt::Debug for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Item { kind, digits, unit, amount, high, low, .. } = *self;
        match ItemKind::from_number(kind) {
            Some(secret @ (ItemKind::Pin | ItemKind::NewPin)) => write!(out, "{secret:?}"),
            what => write!(out, "{what:?} {{ digits: {digits}, unit: {unit}, amount: {amount}, high: {high}, low: {low} }}"),
        }
    }
}

// PINs are wiped when the machine has seen them.
impl zeroize::DefaultIsZeroes for Item {}

/// Kinds of items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // docs/card.md has the table
pub enum ItemKind {
    Coupon = 1,
    Code = 2,
    Pass = 3,
    Card = 4,
    Pin = 5,
    Cash = 6,
    Staff = 7,
    Alias = 8,
    Number = 9,
    Member = 10,
    NewPin = 11,
    Line = 12,
    Cursor = 13,
    /// Not sent: what the engine saw, and pricing read.
    Seen = 14,
    /// Not sent: what a rule that is kept outside said, or that it did not.
    Advice = 15,
}

/// Fields of an item that some kinds use: bits of [`ItemKind::fields`].
mod fields {
    pub const DIGITS: u8 = 1;
    pub const UNIT: u8 = 2;
    pub const AMOUNT: u8 = 4;
    pub const HIGH: u8 = 8;
    pub const LOW: u8 = 16;
}

impl ItemKind {
    /// The kind with this number, if there is one.
    pub fn from_number(number: u8) -> Option<ItemKind> {
        use ItemKind::*;
        const ALL: [ItemKind; 15] =
            [Coupon, Code, Pass, Card, Pin, Cash, Staff, Alias, Number, Member, NewPin, Line, Cursor, Seen, Advice];
        ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }

    fn fields(self) -> u8 {
        use ItemKind::*;
        use fields::*;
        match self {
            Coupon | Pass => UNIT | AMOUNT,
            Code => UNIT | HIGH | LOW,
            Card => DIGITS | LOW | AMOUNT,
            Pin | NewPin | Staff | Number => DIGITS | LOW,
            Cash => AMOUNT,
            Alias => DIGITS | HIGH | LOW,
            Member => LOW | AMOUNT,
            Line => UNIT | AMOUNT | LOW,
            Cursor => UNIT | AMOUNT | LOW,
            Seen => UNIT | AMOUNT,
            Advice => DIGITS | UNIT | AMOUNT | LOW,
        }
    }

    /// True if a request of this kind may have it.
    fn stands_in(self, kind: Kind) -> bool {
        use ItemKind::*;
        match self {
            Coupon | Pass | Staff | Line => matches!(kind, Kind::Purchase | Kind::Authorise),
            Code | Cash => kind == Kind::Purchase,
            Card => matches!(kind, Kind::Purchase | Kind::Transfer | Kind::Bind | Kind::BulkTopUp),
            Pin | Alias => kind.has_card() && kind != Kind::Issue,
            Number => kind == Kind::Replace,
            Member => kind == Kind::Holder,
            NewPin => kind == Kind::SetPin,
            Cursor => matches!(kind, Kind::Grant | Kind::SetTier),
            Seen | Advice => false,
        }
    }
}

impl Item {
    /// Its kind; it was let in.
    #[inline]
    pub fn what(&self) -> ItemKind {
        ItemKind::from_number(self.kind).expect("items are checked at the door")
    }

    /// True if it is something that a sale takes: coupons, the code of one, or a pass.
    #[inline]
    pub fn is_ticket(&self) -> bool {
        (ItemKind::Coupon as u8..=ItemKind::Pass as u8).contains(&self.kind)
    }

    /// True if it is in no content, no entry and no error.
    #[inline]
    pub fn is_secret(&self) -> bool {
        (self.kind == ItemKind::Pin as u8) | (self.kind == ItemKind::NewPin as u8)
    }

    /// Something that was seen.
    pub fn seen(what: Seen, amount: i64) -> Item {
        Item { kind: ItemKind::Seen as u8, unit: what as u16, amount, ..Item::default() }
    }

    /// True if it was sent with the request.
    #[inline]
    pub fn is_sent(&self) -> bool {
        self.kind < ItemKind::Seen as u8
    }

    /// The card number that it names.
    pub fn card_number(&self) -> Option<CardNumber> {
        CardNumber::new(self.low, self.digits)
    }

    /// Its hash, of both halves.
    pub fn hash(&self) -> u128 {
        join(self.high, self.low)
    }

    /// True if it is well formed and may stand in a request of this kind.
    fn fits(&self, kind: Kind) -> bool {
        let Some(what) = ItemKind::from_number(self.kind) else { return false };
        let bit = |used: bool, field: u8| if used { field } else { 0 };
        let used = bit(self.digits != 0, fields::DIGITS)
            | bit(self.unit != 0, fields::UNIT)
            | bit(self.amount != 0, fields::AMOUNT)
            | bit(self.high != 0, fields::HIGH)
            | bit(self.low != 0, fields::LOW);
        if used & !what.fields() != 0 || self.number != 0 || !what.stands_in(kind) {
            return false;
        }
        match what {
            ItemKind::Coupon | ItemKind::Pass => self.unit >= 16 && (1..=TAKEN_MAX).contains(&self.amount),
            ItemKind::Code => self.unit >= 16,
            ItemKind::Card => self.card_number().is_some() && (self.amount == 0 || kind == Kind::BulkTopUp),
            ItemKind::Staff | ItemKind::Number => self.card_number().is_some(),
            ItemKind::Pin | ItemKind::NewPin => (4..=12).contains(&self.digits) && self.low < 10u64.pow(self.digits.into()),
            ItemKind::Cash => (1..=AMOUNT_MAX).contains(&self.amount),
            ItemKind::Alias => self.digits != 0,
            ItemKind::Line => (0..=AMOUNT_MAX).contains(&self.amount) && self.low <= GOODS_MAX,
            ItemKind::Seen | ItemKind::Advice => false,
            ItemKind::Member => matches!(self.amount, 0 | 1) && (self.low != 0 || self.amount == 0),
            ItemKind::Cursor => self.unit != 0 && self.amount > 0 && u32::try_from(self.low).is_ok(),
        }
    }
}

/// Which kinds of items there are: nearly always few, and what concerns the others is passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u16);

impl Kinds {
    /// The kinds of these; they were let in.
    #[inline]
    pub fn of(items: &[Item]) -> Kinds {
        Kinds(items.iter().fold(0, |kinds, item| kinds | 1 << (item.kind % 16)))
    }

    /// True if there is one of this kind.
    #[inline]
    pub fn has(self, kind: ItemKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

/// The item of a kind, the first of them.
pub fn item_of(items: &[Item], kind: ItemKind) -> Option<&Item> {
    items.iter().find(|item| item.kind == kind as u8)
}

/// What is seen, and not sent: pricing reads it, and nobody could say later what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Seen {
    /// What a sale's date is to the birthday of who holds the card: a sum of [`Birthday`](crate::rules::Birthday).
    Birthday = 1,
    /// The card's tier, if rules ask for it.
    Tier = 2,
}

/// How much of it was seen; 0: nothing.
pub fn seen_of(items: &[Item], what: Seen) -> i64 {
    items.iter().find(|item| item.kind == ItemKind::Seen as u8 && item.unit == what as u16).map_or(0, |item| item.amount)
}

/// The lines of a basket among items: category of the goods, 0: none, and list amount.
pub fn lines_of(items: &[Item]) -> impl Iterator<Item = (u16, i64)> {
    items.iter().filter(|item| item.kind == ItemKind::Line as u8).map(|item| (item.unit, item.amount))
}

/// True if there are no lines, or what they come to is the amount of the sale.
pub fn lines_fit(items: &[Item], amount: i64) -> bool {
    let sum = lines_of(items).map(|line| line.1).try_fold(0, i64::checked_add);
    lines_of(items).next().is_none() || sum == Some(amount)
}

/// True if these may be the items of a request of this kind.
pub fn items_fit(kind: Kind, items: &[Item], request: &Request) -> bool {
    let count = |what: ItemKind| items.iter().filter(|item| item.kind == what as u8).count();
    let most = if kind == Kind::BulkTopUp { BULK_MAX } else { ITEMS_MAX };
    let once = |what: ItemKind| count(what) <= 1;
    let only = |what: ItemKind| count(what) == 1;
    let alias = count(ItemKind::Alias) > 0;
    let row_has_card = request.names_card();
    let named_once = match kind {
        Kind::Bind => row_has_card,
        _ if kind.has_card() => {
            [row_has_card, alias, count(ItemKind::Cursor) > 0].into_iter().filter(|&names| names).count() == 1
        }
        _ => !alias,
    };
    let needed = match kind {
        Kind::Replace => only(ItemKind::Number),
        Kind::Holder => only(ItemKind::Member),
        Kind::Bind => only(ItemKind::Alias) && once(ItemKind::Card),
        Kind::Transfer => only(ItemKind::Card),
        Kind::BulkTopUp => count(ItemKind::Card) > 0,
        Kind::SetPin => once(ItemKind::Pin),
        _ => true,
    };
    items.len() <= most
        && lines_fit(items, request.amount)
        // Who tries PINs out would not be counted.
        && !(request.is_dry_run() && items.iter().any(Item::is_secret))
        && named_once
        && needed
        && [ItemKind::Cash, ItemKind::Staff, ItemKind::Alias, ItemKind::NewPin, ItemKind::Cursor].into_iter().all(once)
        && items.iter().all(|item| item.fits(kind))
}

/// One part of an answer: what happened to a lot, or who paid money.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Part {
    /// Code of the account; 0: a balance.
    pub account: u8,
    /// Zero.
    pub reserved: u8,
    /// 0: the request's card; 1 and more: the further cards in their order.
    pub card: u16,
    /// The purse.
    pub purse: u16,
    /// Zero.
    pub reserved_too: u16,
    /// First valid date of the lot; 0: at once.
    pub begins: i32,
    /// Last valid date of the lot; 0: it never expires.
    pub expires: i32,
    /// Signed change of the lot, or money.
    pub amount: i64,
    /// The whole purse afterwards.
    pub balance: i64,
}

const _: () = assert!(size_of::<Part>() == 32);

/// Account of a part that says what was paid in cash.
pub const PART_CASH: u8 = 17;
/// Account of a part that is a line of the basket: its category, what is off it, and its list amount.
pub const PART_LINE: u8 = 18;
/// Account of a part that says what a rule that is kept outside said: its id, money off, and what became of it.
pub const PART_ADVICE: u8 = 19;
/// Account of a part that says what is left to pay.
pub const PART_UNPAID: u8 = 16;

/// Why coupons, passes or aliases were refused: what the code alone does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
#[allow(missing_docs)] // docs/codes.md has the table
pub enum Reason {
    #[default]
    None = 0,
    Forged = 1,
    Foreign = 2,
    Used = 3,
    Expired = 4,
    NotYetValid = 5,
    BelowMinimum = 6,
    OutOfScope = 7,
    TooMany = 8,
    BoundElsewhere = 9,
    NotBound = 10,
    NotStaff = 11,
    SoldOut = 12,
    Behind = 13,
    Advised = 14,
    NoAdvice = 15,
    HigherTier = 16,
}

impl Reason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Reason> {
        use Reason::*;
        let all = [
            None,
            Forged,
            Foreign,
            Used,
            Expired,
            NotYetValid,
            BelowMinimum,
            OutOfScope,
            TooMany,
            BoundElsewhere,
            NotBound,
            NotStaff,
            SoldOut,
            Behind,
            Advised,
            NoAdvice,
            HigherTier,
        ];
        all.into_iter().find(|&reason| reason as u8 == number)
    }
}
