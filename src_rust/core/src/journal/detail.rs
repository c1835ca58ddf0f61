//! The details of a transaction: what it has beyond a plain one, and how it is written (`docs/journal-format.md`).
//!
//! Invariant: as for [`entry`](super::entry), decoding gives what was encoded, and trusts nothing.

use std::fmt;

use crate::accounts::{ACCOUNTS, Account, CARD_ACCOUNTS, Post};
use crate::commands::Kind;
use crate::details::{Item, ItemKind, Reason, lines_of};
use crate::journal::entry::{
    CardRef, Change, Malformed, Out, Place, Reader, Room, TRANSACTION_BYTES_MAX, Transaction, put_id, put_number, put_uint,
};
use crate::units::{PURSE_MAX, UNIT_MIN, Unit};

/// What a transaction with details has beyond the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// As they were sent, but for PINs.
    pub items: Vec<Item>,
    /// The further cards: index, and the sequence of the previous entry.
    pub cards: Vec<(u32, u64)>,
    /// Its moves; of an authorisation what is held. [`add`](Self::add) adds to them.
    pub posts: Vec<Post>,
    /// Principal, bonus and points of each further card afterwards.
    pub balances: Vec<[i64; 3]>,
    /// Card, unit and balance afterwards of each purse of units that a move names, in the order in which they do so first.
    pub units: Vec<(u16, u16, i64)>,
    /// Of a sale that is told line by line what is off each; none if it is refused.
    pub lines: Vec<i64>,
    /// Paid in cash.
    pub cash: i64,
    /// Left to pay.
    pub unpaid: i64,
    /// Price less what was asked for it: discounts, and coupons that lower the price.
    pub discount: i64,
    /// Why it was refused.
    pub reason: Reason,
    /// A move gives to a lot of a wallet: most transactions need no look at how many lots there are.
    pub gives_lots: bool,
    /// What the moves come to.
    pub sums: PostSums,
}

/// Moves of money and points summed by account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostSums {
    /// Of all cards and everything else.
    all: [i64; ACCOUNTS],
    /// Of cards' accounts that of further cards.
    further: [i64; CARD_ACCOUNTS],
    /// Points that went back into the pool, but for those that came back past their last date and lapsed at once.
    pub into_pool: i64,
    /// Points that came from it.
    pub out_of_pool: i64,
}

impl PostSums {
    /// Inlined: where the accounts are known, little of it is left.
    #[inline(always)]
    fn add(&mut self, post: &Post, lapses_before: i32) {
        // Wrapping: what a damaged entry says must not stop who reads it, and all that is decided is far below the bounds.
        let (from, to) = (post.from as usize, post.to as usize);
        self.all[from] = self.all[from].wrapping_sub(post.amount);
        self.all[to] = self.all[to].wrapping_add(post.amount);
        if post.card != 0
            && let Some((account, change)) = post.card_end()
        {
            let sum = &mut self.further[account as usize];
            *sum = sum.wrapping_add(change);
        }
        if post.from == Account::PointsPool {
            self.out_of_pool = self.out_of_pool.wrapping_add(post.amount);
        }
        let lapsed = post.from == Account::CardPoints && post.expires != 0 && post.expires < lapses_before;
        if post.to == Account::PointsPool && !lapsed {
            self.into_pool = self.into_pool.wrapping_add(post.amount);
        }
    }

    /// What an account of the transaction's own card changes by; it is a card's.
    #[inline]
    pub fn own(&self, account: Account) -> i64 {
        self.all[account as usize].wrapping_sub(self.further[account as usize])
    }

    /// What an account changes by, of all cards.
    #[inline]
    pub fn all(&self, account: Account) -> i64 {
        self.all[account as usize]
    }
}

/// A PIN as it is kept: HMAC-SHA-256 of wallet, salt and PIN under the key with this number, its first half.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub struct PinHash {
    pub key: u32,
    pub salt: u64,
    pub hash: u128,
}

impl fmt::Debug for PinHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a PIN under key {}", self.key)
    }
}

/// Bits of the first byte of an item beside its kind: what is not zero follows.
const KIND: u8 = 15;
const HAS_AMOUNT: u8 = 16;
const HAS_HIGH: u8 = 32;
const HAS_LOW: u8 = 64;

/// Bits of what the details begin with: which fields are there, after one for each of the four amounts.
const HAS_ORIGINAL: u8 = 16;
const HAS_NUMBER: u8 = 32;
const HAS_PRODUCT: u8 = 64;
/// The counts are of two bytes each.
const MANY: u8 = 128;

/// Bits of the first byte of a post: the account that it takes from, how long what it begins with is, and whether a card and the
/// date on which its lot begins follow.
const PLACE: u8 = 31;
const FORM: u8 = 32;
const HAS_CARD: u8 = 128;

/// Most moves of a transaction.
pub const POSTS_MAX: usize = 8_192;
/// Most bytes of an item, a move or a balance of units.
const PIECE_BYTES_MAX: usize = 40;
/// Most bytes of a change.
const CHANGE_BYTES_MAX: usize = 64;
/// Most bytes of a further card with its balances.
const CARD_BYTES_MAX: usize = 96;
/// Most bytes of the rest of the details.
const REST_BYTES_MAX: usize = 384;

impl Detail {
    /// Adds a move to a transaction in which lots with a last date before this one lapse at once.
    #[inline(always)]
    pub fn add(&mut self, post: Post, lapses_before: i32) {
        self.gives_lots |= post.gives_lot();
        // Units are summed one by one, elsewhere.
        if post.from.unit() != Unit::Counted {
            self.sums.add(&post, lapses_before);
        } else if post.is_of_unit() {
            self.name(post.card, post.unit);
        }
        self.posts.push(post);
    }

    /// The balance of a purse of units will be told.
    #[inline]
    fn name(&mut self, card: u16, unit: u16) {
        if !self.units.iter().any(|of| (of.0, of.1) == (card, unit)) {
            self.units.push((card, unit, 0));
        }
    }

    /// The balance of a purse afterwards, but for those of the entry's card that are told in every entry; 0 if it is not told.
    #[inline]
    pub fn balance(&self, card: u16, purse: u16) -> i64 {
        if purse <= 3 {
            let of = usize::from(card).checked_sub(1).and_then(|at| self.balances.get(at));
            return of.zip(usize::from(purse).checked_sub(1)).map_or(0, |(of, at)| of[at]);
        }
        self.units.iter().find(|of| (of.0, of.1) == (card, purse)).map_or(0, |of| of.2)
    }

    /// Takes the moves out: it is refused.
    pub fn clear_posts(&mut self) {
        self.posts.clear();
        self.units.clear();
        self.lines.clear();
        self.sums = PostSums::default();
        self.gives_lots = false;
        (self.cash, self.unpaid, self.discount) = (0, 0, 0);
    }

    /// Takes out all of it.
    pub fn clear(&mut self) {
        let Detail { items, cards, posts, balances, units, lines, .. } = self;
        items.clear();
        cards.clear();
        posts.clear();
        balances.clear();
        units.clear();
        lines.clear();
        self.sums = PostSums::default();
        (self.cash, self.unpaid, self.discount, self.reason) = (0, 0, 0, Reason::None);
        self.gives_lots = false;
    }
}

impl Transaction {
    /// Lots with an earlier last date lapse at once when they are given to: that is so where something is undone. A capture may take from them.
    pub fn lapses_before(&self) -> i32 {
        if matches!(self.kind, Kind::Refund | Kind::Reversal) { self.posted } else { i32::MIN }
    }

    /// Most bytes that its details take.
    pub(super) fn details_bytes_max(&self) -> usize {
        let Detail { items, posts, cards, units, lines, .. } = &self.detail;
        let pieces = items.len() + posts.len() + units.len() + lines.len();
        REST_BYTES_MAX + pieces * PIECE_BYTES_MAX + self.changes.len() * CHANGE_BYTES_MAX + cards.len() * CARD_BYTES_MAX
    }

    #[inline(never)]
    pub(super) fn encode_details(&self, sequence: u64, base: i32, place: &mut Place<'_>) {
        let Detail { items, cards, posts, balances, units, lines, .. } = &self.detail;
        let mut room = place.room();
        self.encode_request(base, &mut room);
        let len = room.len;
        place.keep(len);
        put_list::<PIECE_BYTES_MAX, _>(place, items, put_item);
        put_list::<CARD_BYTES_MAX, _>(place, cards, |out, &(index, previous)| {
            put_uint(out, index.into());
            put_uint(out, if previous == 0 { 0 } else { sequence - previous });
        });
        put_list::<PIECE_BYTES_MAX, _>(place, posts, put_post);
        put_list::<CARD_BYTES_MAX, _>(place, balances, |out, purses| {
            purses.iter().for_each(|&balance| put_uint(out, balance as u64))
        });
        put_list::<PIECE_BYTES_MAX, _>(place, units, |out, &(_, _, balance)| put_uint(out, balance as u64));
        put_list::<CHANGE_BYTES_MAX, _>(place, &self.changes, |out, change| change.encode(out));
        put_list::<PIECE_BYTES_MAX, _>(place, lines, |out, &off| put_uint(out, off as u64));
    }

    /// What the request says and how it was answered, and how many items, further cards, moves and changes follow.
    #[inline(always)]
    fn encode_request(&self, base: i32, out: &mut impl Out) {
        let detail = &self.detail;
        let issued = if let CardRef::Known { issued, .. } = self.card { issued } else { None };
        let amounts = [self.amount, detail.cash, detail.unpaid, detail.discount];
        let counts = [detail.items.len(), detail.cards.len(), detail.posts.len(), self.changes.len()];
        let many = counts.iter().any(|&count| count > u8::MAX.into());
        let fields = amounts.iter().enumerate().fold(0, |bits, (at, &amount)| bits | bit(amount != 0, 1 << at))
            | bit(self.original.is_some(), HAS_ORIGINAL)
            | bit(issued.is_some(), HAS_NUMBER)
            | bit(self.product != 0 || self.expires != 0, HAS_PRODUCT)
            | bit(many, MANY);
        let states = u64::from(u32::from_le_bytes([self.flags, self.status, detail.reason as u8, fields]));
        let packed = |bits: usize| counts.iter().enumerate().fold(0, |word, (at, &count)| word | (count as u64) << (at * bits));
        if many {
            assert!(counts.iter().all(|&count| count <= u16::MAX.into()), "there are limits on all of them");
            out.put_word(states, 4);
            out.put_word(packed(16), 8);
        } else {
            out.put_word(states | packed(8) << 32, 8);
        }
        if fields & HAS_PRODUCT != 0 {
            put_uint(out, self.product.into());
            put_uint(out, u64::from(self.expires.unsigned_abs()));
        }
        amounts.into_iter().filter(|&amount| amount != 0).for_each(|amount| put_uint(out, amount as u64));
        if self.original.is_some() {
            self.encode_original(base, out);
        }
        if let CardRef::Known { .. } = self.card {
            issued.into_iter().for_each(|number| put_number(out, number));
            self.balances.iter().for_each(|&balance| put_uint(out, balance as u64));
        }
    }

    #[inline(never)]
    pub(super) fn read_detail(
        &mut self,
        original_by_key: bool,
        sequence: u64,
        base: i32,
        from: &mut Reader,
    ) -> Result<(), Malformed> {
        let lapses_before = self.lapses_before();
        let previous = |distance: u64| if distance == 0 { Some(0) } else { sequence.checked_sub(distance) };
        let &[flags, status, reason, fields] = from.chunk()?;
        (self.flags, self.status) = (flags, status);
        let detail = &mut self.detail;
        detail.reason = Reason::from_number(reason).ok_or("reason")?;
        let [items, cards, posts, changes] = from.counts(fields & MANY != 0)?;
        (self.product, self.expires) = if fields & HAS_PRODUCT != 0 { (from.number()?, from.number()?) } else { (0, 0) };
        for (at, amount) in [&mut self.amount, &mut detail.cash, &mut detail.unpaid, &mut detail.discount].into_iter().enumerate()
        {
            *amount = if fields >> at & 1 != 0 { from.number::<u64>()? as i64 } else { 0 };
        }
        self.original = match fields & HAS_ORIGINAL {
            0 => None,
            _ => Some(from.original(self.key.programme, original_by_key, base)?),
        };
        self.balances = [0; 3];
        if let CardRef::Known { issued, .. } = &mut self.card {
            *issued = if fields & HAS_NUMBER != 0 { Some(from.card_number()?) } else { None };
            for balance in &mut self.balances {
                *balance = from.number()?;
            }
        }
        for _ in 0..items {
            detail.items.push(from.item()?);
        }
        for _ in 0..cards {
            detail.cards.push((from.number()?, previous(from.number()?).ok_or("previous entry")?));
        }
        for _ in 0..posts {
            let post = from.post()?;
            if usize::from(post.card) > detail.cards.len() {
                return Err("card of a move");
            }
            detail.add(post, lapses_before);
        }
        for _ in 0..cards {
            detail.balances.push([from.number()?, from.number()?, from.number()?]);
        }
        for (_, _, balance) in &mut detail.units {
            *balance = from.number()?;
        }
        self.moves.clear();
        self.changes.clear();
        for _ in 0..changes {
            self.changes.push(Change::decode(from)?);
        }
        if self.code.is_approved() {
            for _ in lines_of(&detail.items) {
                detail.lines.push(from.number()?);
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn bit(used: bool, field: u8) -> u8 {
    if used { field } else { 0 }
}

/// Writes them one after the other, as many at a time as a room is sure to hold.
#[inline(always)]
fn put_list<const BYTES_MAX: usize, T>(place: &mut Place<'_>, list: &[T], put: impl Fn(&mut Room<'_>, &T)) {
    for some in list.chunks(TRANSACTION_BYTES_MAX / BYTES_MAX) {
        let mut room = place.room();
        some.iter().for_each(|one| put(&mut room, one));
        let len = room.len;
        place.keep(len);
    }
}

#[inline(always)]
fn put_item(out: &mut Room<'_>, item: &Item) {
    let fields = bit(item.amount != 0, HAS_AMOUNT) | bit(item.high != 0, HAS_HIGH) | bit(item.low != 0, HAS_LOW);
    let word = u64::from(item.kind) | u64::from(item.digits) << 8 | u64::from(item.unit) << 16;
    out.put_word(word | u64::from(fields), 4);
    if item.amount != 0 {
        put_uint(out, item.amount as u64);
    }
    if item.high != 0 {
        put_id(out, item.hash());
    } else if item.low != 0 {
        put_uint(out, item.low);
    }
}

/// Accounts, unit and last date are a word, of which 2, 4 or 8 bytes are written: all but the zeros at its end.
#[inline(always)]
fn put_post(out: &mut Room<'_>, post: &Post) {
    let [word, card, amount] = post.words();
    let form = u8::from(word >> 16 != 0) + u8::from(word >> 32 != 0);
    out.put_word(word | u64::from((form * FORM) | bit(card != 0, HAS_CARD)), 2 << form);
    if card != 0 {
        put_uint(out, post.card.into());
        put_uint(out, post.begins as u64);
    }
    put_uint(out, amount);
}

impl Reader<'_> {
    /// How many items, further cards, moves and changes there are.
    fn counts(&mut self, many: bool) -> Result<[usize; 4], Malformed> {
        let counts = if many {
            let bytes = u64::from_le_bytes(*self.chunk()?);
            [0, 16, 32, 48].map(|bit| (bytes >> bit) as u16 as usize)
        } else {
            self.chunk()?.map(usize::from)
        };
        if counts[2] <= POSTS_MAX { Ok(counts) } else { Err("moves") }
    }

    fn item(&mut self) -> Result<Item, Malformed> {
        let &[bits, digits, low, high] = self.chunk()?;
        let kind = bits & KIND;
        ItemKind::from_number(kind).ok_or("item")?;
        let mut item = Item { kind, digits, unit: u16::from_le_bytes([low, high]), ..Item::default() };
        if bits & HAS_AMOUNT != 0 {
            item.amount = self.number::<u64>()? as i64;
        }
        if bits & HAS_HIGH != 0 {
            let hash = self.id()?;
            (item.high, item.low) = ((hash >> 64) as u64, hash as u64);
        } else if bits & HAS_LOW != 0 {
            item.low = self.number()?;
        }
        Ok(item)
    }

    fn post(&mut self) -> Result<Post, Malformed> {
        let &[first, second] = self.chunk()?;
        let account = |place: u8| Account::ALL.get(usize::from(place)).copied().ok_or("account");
        let (from, to) = (account(first & PLACE)?, account(second)?);
        let form = first / FORM % 4;
        let unit = if form >= 1 { u16::from_le_bytes(*self.chunk()?) } else { 0 };
        let expires = match form {
            0 | 1 => 0,
            2 => i32::try_from(u32::from_le_bytes(*self.chunk()?)).map_err(|_| "date")?,
            _ => return Err("form of a move"),
        };
        let (card, begins) = if first & HAS_CARD != 0 { (self.number()?, self.number()?) } else { (0, 0) };
        let amount = self.number()?;
        if from.unit() != to.unit() || from == to || from.is_card() && to.is_card() {
            return Err("accounts");
        }
        if from.is_fees() != to.is_fees() {
            return Err("fees");
        }
        if from.unit() == Unit::Counted && unit < UNIT_MIN {
            return Err("unit of a move");
        }
        if !(1..=PURSE_MAX).contains(&amount) {
            return Err("amount");
        }
        Ok(Post { from, to, card, unit, begins, expires, reserved: 0, amount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Account;
    use crate::cards::CardNumber;
    use crate::codes::Code;
    use crate::commands::{Cursor, Original};
    use crate::journal::entry::Entry;
    use crate::units::PURSE_MAX;
    use proptest::prelude::*;

    const BASE: i32 = 20_000;
    const SEQUENCE: u64 = 1 << 40;

    fn item() -> impl Strategy<Value = Item> {
        (1u8..=14, any::<u8>(), any::<u16>(), 0..i64::MAX, any::<u64>(), any::<u64>())
            .prop_map(|(kind, digits, unit, amount, high, low)| Item { kind, digits, unit, number: 0, amount, high, low })
    }

    fn post() -> impl Strategy<Value = Post> {
        let account = || prop::sample::select(Account::ALL.to_vec());
        let post = (account(), account(), 0u16..300, any::<u16>(), 0..i32::MAX, 0..i32::MAX, 1..=PURSE_MAX);
        let posts = post.prop_map(|(from, to, card, unit, begins, expires, amount)| {
            let (begins, expires) = if unit % 2 == 0 { (0, 0) } else { (begins, expires) };
            let unit = if from.unit() == Unit::Counted { unit.max(UNIT_MIN) } else { unit };
            Post { from, to, card, unit, begins, expires, reserved: 0, amount }
        });
        let fits = |post: &Post| {
            post.from.unit() == post.to.unit()
                && post.from != post.to
                && !(post.from.is_card() && post.to.is_card())
                && post.from.is_fees() == post.to.is_fees()
        };
        posts.prop_filter("of one unit, at most one end a card's", fits)
    }

    fn change() -> impl Strategy<Value = Change> {
        let number = |value: u64| CardNumber::new(value % 100_000_000, 8).expect("it has 8 digits");
        let numbers = (0..i64::MAX as u64, any::<u64>(), any::<u32>(), any::<u16>(), any::<u8>(), any::<bool>(), any::<u128>());
        (1u8..=21, numbers).prop_map(move |(kind, (a, b, c, d, e, yes, hash))| match kind {
            1 => Change::Refunded { sequence: b, refunded: a as i64 },
            2 => Change::Reversed { sequence: b, amount: a as i64 },
            3 => Change::Marked,
            4 => Change::Status(e),
            5 => Change::Taken { card: u16::from(e), bundle: d, count: c },
            6 => Change::Spent { count: c, sum: a as i64, points: 0 },
            7 => Change::Tries { card: d, tries: e },
            8 => Change::Pin(PinHash { key: c, salt: b, hash }),
            9 => Change::Holder { member: b, named: yes },
            10 => Change::Number { number: number(a), former: number(b), code: Code::LostCard },
            11 => Change::Alias { kind: e, hash, bound: yes },
            12 => Change::Held { expires: c as i32 & i32::MAX, total: a as i64, earned: 0, rebate: 7, growth: 9 },
            13 => Change::Captured { sequence: b, captured: a as i64, ended: yes },
            14 => Change::Codes { unit: d, first: b, count: c, expires: 5 },
            15 => Change::Code { unit: d, serial: b, used: yes },
            16 => Change::Tier { tier: e, until: c as i32 & i32::MAX },
            17 => Change::Sold { staff: c, amount: b as i64 },
            18 => Change::Taken { card: 0, bundle: d, count: c },
            19 => Change::Out { bundle: d, count: c },
            20 => Change::Bought(yes),
            21 => Change::Cursor { trigger: d, to: Cursor { sequence: b, card: c } },
            _ => Change::Spent { count: c, sum: 0, points: a as i64 },
        })
    }

    prop_compose! {
        fn transaction()(
            kind in prop::sample::select(vec![Kind::Purchase, Kind::Refund, Kind::Authorise, Kind::Bind, Kind::BulkTopUp, Kind::Issue]),
            items in prop::collection::vec(item(), 0..5),
            cards in prop::collection::vec((any::<u32>(), 0..SEQUENCE), 0..4),
            posts in prop::collection::vec(post(), 0..9),
            balances in prop::collection::vec(0..i64::MAX, 30),
            changes in prop::collection::vec(change(), 0..20),
            numbers in (any::<u8>(), any::<u8>(), any::<u16>(), 0..i32::MAX, 0u8..12, any::<bool>()),
            amounts in [0..i64::MAX, 0i64..2, 0..i64::MAX, 0..i64::MAX],
        ) -> Transaction {
            let (flags, status, product, expires, reason, issued) = numbers;
            let mut transaction = Transaction::blank();
            transaction.kind = kind;
            transaction.key.programme = 1;
            transaction.key.name = crate::keys::KeyName::Trace { terminal: 0, trace: 9 };
            (transaction.key.date, transaction.posted) = (BASE, BASE);
            (transaction.flags, transaction.status, transaction.product, transaction.expires) = (flags, status, product, expires);
            transaction.amount = amounts[0];
            transaction.original = (kind == Kind::Refund).then_some(Original::Sequence(77));
            let issued = issued.then(|| CardNumber::parse("0000012345").unwrap());
            transaction.card = CardRef::Known { index: 3, previous: 5, issued };
            transaction.balances = [1, 2, 3];
            (transaction.detailed, transaction.changes) = (true, changes);
            let reason = Reason::from_number(reason).unwrap();
            let [_, cash, unpaid, discount] = amounts;
            let lines = lines_of(&items).map(|line| line.1 / 2).collect();
            transaction.detail = Detail { items, cards, lines, cash, unpaid, discount, reason, ..Detail::default() };
            let before = transaction.lapses_before();
            let places = transaction.detail.cards.len() as u16 + 1;
            let posts = posts.into_iter().map(|post| Post { card: post.card % places, ..post });
            posts.for_each(|post| transaction.detail.add(post, before));
            let (further, others) = balances.split_at(usize::from(places) * 3 - 3);
            transaction.detail.balances = further.chunks(3).map(|of| [of[0], of[1], of[2]]).collect();
            transaction.detail.units.iter_mut().zip(others).for_each(|(of, &balance)| of.2 = balance);
            transaction
        }
    }

    proptest! {
        #[test]
        fn decoding_gives_what_was_encoded(transaction in transaction(), other in transaction()) {
            let mut bytes = transaction.encoded(SEQUENCE, BASE);
            let mut place = Entry::Transaction(other);
            bytes.extend([0x80; 7]);
            place.read(&bytes, 7, SEQUENCE, BASE).unwrap();
            prop_assert_eq!(place, Entry::Transaction(transaction));
            prop_assert!(Entry::decode(&bytes, SEQUENCE, BASE).is_err());
        }

        #[test]
        fn a_damaged_entry_is_an_error_or_another_entry_but_never_a_panic(
            transaction in transaction(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = transaction.encoded(SEQUENCE, BASE);
            prop_assert!(Entry::decode(&bytes[..cut.index(bytes.len())], SEQUENCE, BASE).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Entry::decode(&bytes, SEQUENCE, BASE);
        }
    }
}
