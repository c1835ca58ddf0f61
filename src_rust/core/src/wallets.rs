//! Wallets: what hangs on a card beyond its three undated purses - dated lots, units, holds, PIN, holder, counters.
//!
//! A plain card has none. A wallet is made when the first of these comes, and stays. Its lots are in the order in which they are spent;
//! no lot is empty, and none holds more than it has. The checkpoint writes those that changed, whole.

use std::collections::BTreeSet;
use std::mem::offset_of;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::accounts::{Account, Post};
use crate::cards::chunk::checksum;
use crate::growth::grow;
use crate::journal::entry::PinHash;
use crate::memory::{prefetch, prefetch_all};
use crate::units::UNIT_MIN;

/// Part of a purse with its own dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// 2, 3, or a unit of the rules.
    pub purse: u16,
    /// First valid date; 0: at once.
    pub begins: i32,
    /// Last valid date; 0: it never expires.
    pub expires: i32,
    /// Smallest units, above 0.
    pub amount: i64,
    /// Of these, what holds have taken.
    pub held: i64,
    /// Remainder of the last growth, over 10^12.
    pub carry: u64,
}

impl Lot {
    /// First and last valid date; 0: at once, and never.
    #[inline]
    pub fn dates(&self) -> (i32, i32) {
        (self.begins, self.expires)
    }

    /// What it is found by; in the order of spending.
    #[inline]
    fn order(&self) -> u128 {
        order(self.purse, self.begins, self.expires)
    }
}

/// A date until which something is valid, so that "for ever" comes last.
#[inline]
fn last_date(expires: i32) -> i32 {
    if expires == 0 { i32::MAX } else { expires }
}

/// Purse, last date and first date as one number: it is compared at once.
#[inline]
fn order(purse: u16, begins: i32, expires: i32) -> u128 {
    // Dates are not negative.
    u128::from(purse) << 64 | u128::from(last_date(expires).unsigned_abs()) << 32 | u128::from(begins.unsigned_abs())
}

/// What an authorisation holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Sequence of the authorisation.
    pub sequence: u64,
    /// Its last date.
    pub expires: i32,
    /// What captures post, in the order in which they take it.
    pub posts: Vec<Post>,
    /// What the posts pay in all.
    pub total: i64,
    /// Captured so far.
    pub captured: i64,
    /// Points that all of it earns.
    pub earned: i64,
    /// Bonus that all of it is given back.
    pub rebate: i64,
    /// Growth value that all of it earns.
    pub growth: i64,
}

/// Purchases of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Which day.
    pub date: i32,
    /// How many purchases.
    pub count: u32,
    /// What they came to.
    pub sum: i64,
    /// Points that they earned, if the product limits these.
    pub points: i64,
}

/// Everything of a card that a plain one has not. One line of the cache: what few have is further away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(align(64))]
pub struct Wallet {
    /// Index of the card.
    pub card: u32,
    /// Sequence of the newest entry that changed it.
    pub last: u64,
    /// Growths applied to its lots of points.
    pub grown: u32,
    /// In the order of spending.
    pub lots: Vec<Lot>,
    taken: Option<Box<Taken>>,
    rest: Option<Box<Rest>>,
    /// What was last noted of [`earliest`](Self::earliest).
    #[serde(skip)]
    lapses: i32,
    /// Lots came or went, or began or ceased to have something that is free, or what few have came, since it was last looked at as a whole.
    #[serde(skip)]
    reshaped: bool,
}

const _: () = assert!(size_of::<Wallet>() == 64);

/// What a card's record shows of its wallet.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// A plain purchase or top-up of the card must know of it.
    pub wary: bool,
    /// A tier of the rules; 0: none.
    pub tier: u8,
}

/// How many of each bundle a card was granted, by bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken(Vec<(u16, u32)>);

/// What few wallets have: holds, PIN, holder, counters, tier. What a purchase looks at lies in one line of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C, align(64))]
pub struct Rest {
    /// Held of the undated principal, bonus and points.
    pub held: [i64; 3],
    /// Purchases of the last day that had any, if the product limits them.
    pub day: Day,
    /// The holder's id; 0: nobody knows.
    pub member: u64,
    /// Last date before its review; 0: there is none.
    pub tier_until: i32,
    /// A tier of the rules; 0: none.
    pub tier: u8,
    /// The holder's real name is known.
    pub named: bool,
    /// Wrong PINs since the last right one.
    pub tries: u8,
    /// In the order in which they came.
    pub holds: Vec<Hold>,
    /// None: it has none.
    pub pin: Option<PinHash>,
}

const _: () = assert!(offset_of!(Rest, holds) == 64);

/// Of a wallet that has none of it.
static NO_REST: Rest = Rest {
    held: [0; 3],
    day: Day { date: 0, count: 0, sum: 0, points: 0 },
    member: 0,
    tier_until: 0,
    tier: 0,
    named: false,
    tries: 0,
    holds: Vec::new(),
    pin: None,
};

/// Cards whose wallets are written together: small records at random places would cost a page each.
pub const CHUNK: usize = 512;

/// Lots that are asked for ahead.
const LOTS_AHEAD: usize = 8;

/// So many lots are looked through one after the other before they are halved: few wallets have more.
const LOTS_NEAR: usize = 8;

/// Wrong PINs after which none is taken any more.
pub const TRIES_MAX: u8 = 3;

impl Wallet {
    /// A wallet that has nothing yet.
    pub fn new(card: u32, grown: u32) -> Wallet {
        Wallet { card, grown, ..Wallet::default() }
    }

    /// Holds, PIN, holder, counters.
    #[inline]
    pub fn rest(&self) -> &Rest {
        self.rest.as_deref().unwrap_or(&NO_REST)
    }

    /// The same to change it.
    pub fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_with(|| {
            self.reshaped = true;
            Box::new(NO_REST.clone())
        })
    }

    /// Bytes of memory that its lots and what few have take, with one bundle: found without going there.
    fn bytes(&self) -> usize {
        let taken = self.taken.as_ref().map_or(0, |_| size_of::<Taken>() + size_of::<(u16, u32)>());
        self.lots.len() * size_of::<Lot>() + taken + self.rest.as_ref().map_or(0, |_| size_of::<Rest>())
    }

    /// True if a plain purchase or top-up of its card must know of it.
    fn concerns_all(&self) -> bool {
        let dated = |lot: &Lot| lot.purse <= 3;
        let has = |rest: &Rest| rest.pin.is_some() || rest.member != 0 || !rest.holds.is_empty();
        self.rest.as_deref().is_some_and(has) || self.lots.iter().any(dated)
    }

    /// What its card shows of it.
    fn shown(&self) -> Shown {
        Shown { wary: self.concerns_all(), tier: self.rest().tier }
    }

    /// True if it has anything of a unit of the rules.
    pub fn has_units(&self) -> bool {
        self.lots.last().is_some_and(|lot| lot.purse >= UNIT_MIN)
    }

    /// The date after which something in it lapses, is released or is reviewed.
    fn earliest(&self) -> i32 {
        let lots = self.lots.iter().filter(|lot| lot.amount > lot.held).map(|lot| last_date(lot.expires));
        let rest = self.rest();
        let review = if rest.tier_until == 0 { i32::MAX } else { rest.tier_until };
        lots.chain(rest.holds.iter().map(|hold| hold.expires)).min().map_or(review, |date| date.min(review))
    }

    /// The lots of a purse, in the order of spending.
    #[inline]
    pub fn lots_of(&self, purse: u16) -> impl Iterator<Item = &Lot> {
        let before = |lot: &Lot| lot.purse < purse;
        let first = self.near().iter().position(|lot| !before(lot));
        let first = first.unwrap_or_else(|| self.lots.partition_point(before));
        self.lots[first..].iter().take_while(move |lot| lot.purse == purse)
    }

    /// Sum of the lots of a purse.
    #[inline]
    pub fn balance(&self, purse: u16) -> i64 {
        self.lots_of(purse).map(|lot| lot.amount).sum()
    }

    /// The first few lots.
    #[inline]
    fn near(&self) -> &[Lot] {
        &self.lots[..self.lots.len().min(LOTS_NEAR)]
    }

    #[inline]
    fn find(&self, purse: u16, begins: i32, expires: i32) -> Result<usize, usize> {
        let is = |lot: &Lot| (lot.purse, lot.begins, lot.expires) == (purse, begins, expires);
        match self.near().iter().position(is) {
            Some(at) => Ok(at),
            None => self.lots.binary_search_by_key(&order(purse, begins, expires), Lot::order),
        }
    }

    /// What a lot has, and what of it is held.
    pub fn lot(&self, purse: u16, begins: i32, expires: i32) -> (i64, i64) {
        self.find(purse, begins, expires).map_or((0, 0), |at| (self.lots[at].amount, self.lots[at].held))
    }

    /// Adds to a lot, or takes from it; one that is empty is gone. False if it has not so much.
    #[inline]
    pub fn add(&mut self, purse: u16, begins: i32, expires: i32, change: i64) -> bool {
        let at = match self.find(purse, begins, expires) {
            Ok(at) => at,
            Err(at) if change > 0 => {
                self.lots.insert(at, Lot { purse, begins, expires, amount: change, held: 0, carry: 0 });
                self.reshaped = true;
                return true;
            }
            Err(_) => return change == 0,
        };
        let lot = &mut self.lots[at];
        let Some(after) = lot.amount.checked_add(change).filter(|&after| after >= 0) else { return false };
        self.reshaped |= (lot.amount > lot.held) != (after > lot.held);
        lot.amount = after;
        if after == 0 {
            self.reshaped = true;
            self.lots.remove(at);
        }
        true
    }

    /// Holds so much more of what a post takes from the card; less, if it is negative.
    pub fn hold(&mut self, post: &Post, change: i64) {
        let Some((account, _)) = post.card_end() else { return };
        let purse = post.purse();
        if purse <= 3 && post.begins == 0 && post.expires == 0 {
            match account {
                Account::CardPrincipal => self.rest_mut().held[0] += change,
                Account::CardBonus => self.rest_mut().held[1] += change,
                Account::CardPoints => self.rest_mut().held[2] += change,
                _ => {}
            }
        } else if let Ok(at) = self.find(purse, post.begins, post.expires) {
            self.lots[at].held += change;
        }
    }

    /// The hold of an authorisation.
    pub fn hold_of(&self, sequence: u64) -> Option<&Hold> {
        self.rest().holds.iter().find(|hold| hold.sequence == sequence)
    }

    /// Notes what is captured of a hold now; if it has ended, nothing is held by it any more.
    pub fn capture(&mut self, sequence: u64, captured: i64, ended: bool) {
        let Some(at) = self.rest().holds.iter().position(|hold| hold.sequence == sequence) else { return };
        let hold = &self.rest().holds[at];
        let before = taken(hold, hold.captured);
        let after = if ended { all(hold) } else { taken(hold, captured) };
        let posts = hold.posts.clone();
        for ((post, before), after) in posts.iter().zip(before).zip(after) {
            self.hold(post, before - after);
        }
        if ended {
            self.rest_mut().holds.remove(at);
        } else {
            self.rest_mut().holds[at].captured = captured;
        }
    }

    /// Ends the holds whose last date this is or was, then takes out what lapses with it and tells of each lot: purse and amount.
    pub fn lapse(&mut self, date: i32, mut lapsed: impl FnMut(u16, i64)) {
        while let Some(hold) = self.rest().holds.iter().find(|hold| hold.expires <= date) {
            let (sequence, captured) = (hold.sequence, hold.captured);
            self.capture(sequence, captured, true);
        }
        self.lots.retain_mut(|lot| {
            let free = lot.amount - lot.held;
            if last_date(lot.expires) <= date && free > 0 {
                lapsed(lot.purse, free);
                lot.amount = lot.held;
            }
            lot.amount > 0
        });
    }

    /// Lets its lots of points grow by growth number `number`, unless they have; what they grew by.
    pub fn grow(&mut self, number: u32, rate: u64) -> Option<u64> {
        if self.grown >= number {
            return None;
        }
        self.grown = number;
        let points = self.lots.iter_mut().filter(|lot| lot.purse == 3);
        Some(points.map(|lot| grow(&mut lot.amount, &mut lot.carry, rate)).sum())
    }

    /// How many of a bundle it was granted.
    pub fn taken_of(&self, bundle: u16) -> u32 {
        let taken = self.taken.iter().flat_map(|taken| &taken.0).find(|taken| taken.0 == bundle);
        taken.map_or(0, |taken| taken.1)
    }

    /// Notes how many of a bundle it was granted.
    pub fn set_taken(&mut self, bundle: u16, count: u32) {
        let Taken(taken) = &mut **self.taken.get_or_insert_default();
        match taken.binary_search_by_key(&bundle, |taken| taken.0) {
            Ok(at) => taken[at].1 = count,
            Err(at) => taken.insert(at, (bundle, count)),
        }
    }
}

/// What captures of so much in all have taken of each post of a hold.
///
/// Money is taken in the order of the posts. What is not money - points, coupons, visits - stands before the money that it pays, and goes
/// with it: as large a part of it, rounded up.
pub fn taken(hold: &Hold, captured: i64) -> Vec<i64> {
    if captured == hold.total && captured > 0 {
        return all(hold);
    }
    let mut left = captured;
    let mut taken = vec![0; hold.posts.len()];
    let mut waiting = 0;
    for (at, post) in hold.posts.iter().enumerate() {
        if !post.is_money() {
            continue;
        }
        let now = left.min(post.amount);
        left -= now;
        taken[at] = now;
        let money = i128::from(post.amount);
        for (taken, before) in taken[waiting..at].iter_mut().zip(&hold.posts[waiting..at]) {
            *taken = ((i128::from(before.amount) * i128::from(now) + money - 1) / money) as i64;
        }
        waiting = at + 1;
    }
    taken
}

fn all(hold: &Hold) -> Vec<i64> {
    hold.posts.iter().map(|post| post.amount).collect()
}

/// Appends wallets as a chunk's value: a checksum, then one after the other.
pub fn encode<'a>(wallets: impl Iterator<Item = &'a Wallet>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; 8]);
    for wallet in wallets {
        // By value and back: that is how the encoder is told where to go on.
        let room = Bytes(std::mem::take(out));
        *out = postcard::serialize_with_flavor(wallet, room).expect("it serialises to memory");
    }
    let sum = checksum(&out[8..]);
    out[..8].copy_from_slice(&sum.to_le_bytes());
}

/// Where wallets are encoded. Nearly all that comes is a number of a few bytes: added one by one, a chunk takes two thirds of the time that
/// copies take whose lengths only they know (`cargo bench --bench swipe -- checkpoint`).
struct Bytes(Vec<u8>);

impl Flavor for Bytes {
    type Output = Vec<u8>;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        bytes.iter().for_each(|&byte| self.0.push(byte));
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// The wallets of a chunk's value; None if it is damaged.
pub fn decode(value: &[u8]) -> Option<Vec<Wallet>> {
    let (sum, mut rest) = value.split_first_chunk::<8>()?;
    if checksum(rest) != u64::from_le_bytes(*sum) {
        return None;
    }
    let mut wallets = Vec::with_capacity(CHUNK);
    while !rest.is_empty() {
        let (wallet, after) = postcard::take_from_bytes(rest).ok()?;
        wallets.push(wallet);
        rest = after;
    }
    Some(wallets)
}

/// All wallets. A card knows the handle of its own.
#[derive(Clone, Default)]
pub struct Wallets {
    wallets: Vec<Wallet>,
    /// Of each, the date after which something in it lapses: a close looks at these alone.
    earliest: Vec<i32>,
    /// Chunks of cards whose wallets changed since they were last taken, each once.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
    /// Member and card of each that has a holder.
    holders: BTreeSet<(u64, u32)>,
    /// Bytes of memory that they take elsewhere.
    bytes: usize,
    /// Some were read from a checkpoint, and may be ahead of the journal's tail.
    pub loaded: bool,
}

impl Wallets {
    /// Number of wallets.
    pub fn len(&self) -> u32 {
        self.wallets.len() as u32
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.wallets.is_empty()
    }

    /// Adds a wallet; its handle.
    pub fn push(&mut self, mut wallet: Wallet) -> u32 {
        let (handle, member) = (self.len(), wallet.rest().member);
        if member != 0 {
            self.holders.insert((member, wallet.card));
        }
        wallet.lapses = wallet.earliest();
        self.earliest.push(wallet.lapses);
        self.bytes += wallet.bytes();
        self.note_change(wallet.card);
        self.wallets.push(wallet);
        handle
    }

    /// The same of one that the checkpoint gives, and what its card shows of it.
    pub fn push_loaded(&mut self, wallet: Wallet) -> (u32, Shown) {
        let shown = wallet.shown();
        (self.push(wallet), shown)
    }

    /// The wallet with this handle.
    #[inline]
    pub fn get(&self, handle: u32) -> &Wallet {
        &self.wallets[handle as usize]
    }

    /// Asks for the memory of a wallet.
    #[inline]
    pub fn prefetch(&self, handle: u32) {
        prefetch(&self.wallets[handle as usize]);
    }

    /// Asks for the memory of a wallet's lots, the first few, and of what else a purchase looks at.
    #[inline]
    pub fn prefetch_lots(&self, handle: u32) {
        let Wallet { lots, rest, .. } = &self.wallets[handle as usize];
        prefetch_all(&lots[..lots.len().min(LOTS_AHEAD)]);
        rest.iter().for_each(|rest| prefetch(&**rest));
    }

    /// All of them, by handle.
    pub fn iter(&self) -> impl Iterator<Item = &Wallet> {
        self.wallets.iter()
    }

    /// Changes a wallet; what its card shows of it is the result.
    #[inline]
    pub fn change(&mut self, handle: u32, change: impl FnOnce(&mut Wallet)) -> Shown {
        let wallet = &mut self.wallets[handle as usize];
        let (before, bytes) = (wallet.rest().member, wallet.bytes());
        change(wallet);
        let (card, member) = (wallet.card, wallet.rest().member);
        if member != before {
            self.holders.remove(&(before, card));
            self.holders.extend((member != 0).then_some((member, card)));
        }
        self.note_change(card);
        self.look_at(handle, bytes)
    }

    /// The same of a change that does nothing but [`add`](Wallet::add) or count the purchases of a day, with what it says: None if its card is
    /// what it was, as nearly always.
    #[inline]
    pub fn change_lots<T>(&mut self, handle: u32, change: impl FnOnce(&mut Wallet) -> T) -> (T, Option<Shown>) {
        let wallet = &mut self.wallets[handle as usize];
        let bytes = wallet.bytes();
        let said = change(wallet);
        let (card, reshaped) = (wallet.card, wallet.reshaped);
        self.note_change(card);
        (said, reshaped.then(|| self.look_at(handle, bytes)))
    }

    /// Notes what follows from all of a wallet that took so many bytes before; what its card shows of it.
    #[inline(never)]
    fn look_at(&mut self, handle: u32, bytes_before: usize) -> Shown {
        let wallet = &mut self.wallets[handle as usize];
        self.bytes = self.bytes + wallet.bytes() - bytes_before;
        // Far away, and nearly always as it was.
        let earliest = wallet.earliest();
        if earliest != wallet.lapses {
            (wallet.lapses, self.earliest[handle as usize]) = (earliest, earliest);
        }
        wallet.reshaped = false;
        wallet.shown()
    }

    /// Indexes of the cards that a member holds.
    pub fn held_by(&self, member: u64) -> impl Iterator<Item = u32> {
        self.holders.range((member, 0)..=(member, u32::MAX)).map(|&(_, card)| card)
    }

    /// Handles of the wallets in which something lapses with this date or has before.
    pub fn lapsing(&self, date: i32) -> Vec<u32> {
        let handles = self.earliest.iter().enumerate().filter(|&(_, &earliest)| earliest <= date);
        handles.map(|(handle, _)| handle as u32).collect()
    }

    #[inline]
    fn note_change(&mut self, card: u32) {
        let chunk = card as usize / CHUNK;
        if chunk >= self.is_changed.len() {
            self.is_changed.resize(chunk + 1, false);
        }
        if !self.is_changed[chunk] {
            self.is_changed[chunk] = true;
            self.changed.push(chunk as u32);
        }
    }

    /// Chunks of cards whose wallets changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<u32> {
        self.is_changed.fill(false);
        std::mem::take(&mut self.changed)
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.wallets.len() * (size_of::<Wallet>() + size_of::<i32>()) + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lots(wallet: &Wallet) -> Vec<(u16, i32, i32, i64)> {
        wallet.lots.iter().map(|lot| (lot.purse, lot.begins, lot.expires, lot.amount)).collect()
    }

    #[test]
    fn lots_of_the_same_dates_are_one_and_lie_in_the_order_of_spending() {
        let mut wallet = Wallet::default();
        for (purse, begins, expires, amount) in
            [(16, 0, 0, 5), (16, 3, 9, 1), (3, 0, 7, 2), (16, 0, 9, 4), (16, 0, 8, 1), (3, 0, 7, 3)]
        {
            assert!(wallet.add(purse, begins, expires, amount));
        }
        assert_eq!(lots(&wallet), [(3, 0, 7, 5), (16, 0, 8, 1), (16, 0, 9, 4), (16, 3, 9, 1), (16, 0, 0, 5)]);
        assert_eq!((wallet.balance(3), wallet.balance(16), wallet.balance(17)), (5, 11, 0));
        assert!(wallet.add(16, 0, 8, -1) && !wallet.add(16, 0, 8, -1) && !wallet.add(16, 0, 9, -5));
    }

    #[test]
    fn held_lots_lapse_only_with_the_hold() {
        let mut wallet = Wallet::default();
        wallet.add(2, 0, 10, 100);
        let post = Post {
            from: Account::CardBonus,
            to: Account::StoreClearing,
            card: 0,
            unit: 0,
            begins: 0,
            expires: 10,
            reserved: 0,
            amount: 60,
        };
        wallet.hold(&post, 60);
        wallet.rest_mut().holds.push(Hold {
            sequence: 5,
            expires: 12,
            posts: vec![post],
            total: 60,
            captured: 0,
            earned: 0,
            rebate: 0,
            growth: 0,
        });
        let mut lapsed = Vec::new();
        assert_eq!(wallet.earliest(), 10);
        wallet.lapse(10, |purse, amount| lapsed.push((purse, amount)));
        assert_eq!((lapsed.as_slice(), wallet.balance(2), wallet.earliest()), ([(2, 40)].as_slice(), 60, 12));
        wallet.lapse(12, |purse, amount| lapsed.push((purse, amount)));
        assert_eq!((lapsed.as_slice(), wallet.lots.len(), wallet.rest().holds.len()), ([(2, 40), (2, 60)].as_slice(), 0, 0));
    }

    proptest! {
        #[test]
        fn captures_take_all_in_the_end_and_never_less_than_before(
            amounts in prop::collection::vec((1i64..50, 0i64..5), 1..6), parts in prop::collection::vec(1i64..40, 1..10),
        ) {
            let post = |from, to, amount| Post { from, to, card: 0, unit: 0, begins: 0, expires: 0, reserved: 0, amount };
            let mut posts = Vec::new();
            for (money, units) in amounts {
                if units > 0 {
                    posts.push(post(Account::CardPoints, Account::PointsPool, units));
                }
                posts.push(post(Account::CardPrincipal, Account::StoreClearing, money));
            }
            let total = posts.iter().filter(|post| post.is_money()).map(|post| post.amount).sum();
            let hold = Hold { sequence: 1, expires: 1, posts, total, captured: 0, earned: 0, rebate: 0, growth: 0 };
            let (mut captured, mut before) = (0, vec![0; hold.posts.len()]);
            for part in parts.into_iter().chain([total]) {
                captured = total.min(captured + part);
                let after = taken(&hold, captured);
                let money: i64 = after.iter().zip(&hold.posts).filter(|(_, post)| post.is_money()).map(|(taken, _)| taken).sum();
                prop_assert_eq!(money, captured);
                prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
                before = after;
            }
            prop_assert_eq!(before, all(&hold));
        }
    }
}
