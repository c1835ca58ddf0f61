//! Accounts, moves and legs: the double entry.
//!
//! Invariant: the legs of an entry sum to zero in every unit. A transaction's legs come in pairs, [`Moves`] from one account to another
//! of the same unit; those of a close are summed by [`sums`]. Whatever is posted is checked once more: [`Sums::is_balanced`].

use std::collections::BTreeMap;
use std::ops::{Deref, Index};

use serde::{Deserialize, Serialize};
use zerocopy::{Immutable, IntoBytes, transmute};

use crate::units::{UNIT_MIN, Unit};

/// Every account there is, in the order of their codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, IntoBytes, Immutable)]
#[repr(u8)]
#[allow(missing_docs)] // docs/transactions.md and docs/card.md have the tables
pub enum Account {
    CardPrincipal,
    CardBonus,
    CardPoints,
    CardShortfallMoney,
    CardShortfallPoints,
    CardUnit,
    StoreClearing,
    StoreCollection,
    StoreDue,
    IssuerBonus,
    IssuerPoints,
    PointsPool,
    GrowthFunding,
    GrowthReserve,
    MembersGrowth,
    IssuerCollection,
    IssuerUnits,
    UnitPool,
    Codes,
    TransitMoney,
    TransitPoints,
    TransitUnits,
    StoreFees,
    CardFees,
}

/// Number of accounts.
pub const ACCOUNTS: usize = 24;
/// The first so many are cards'.
pub const CARD_ACCOUNTS: usize = Account::CardUnit as usize + 1;
/// The first so many are those that the moves of a plain transaction name, but for units: their places fit four bits.
const PLAIN: usize = 16;

impl Account {
    /// All of them.
    pub const ALL: [Account; ACCOUNTS] = {
        use Account::*;
        [
            CardPrincipal,
            CardBonus,
            CardPoints,
            CardShortfallMoney,
            CardShortfallPoints,
            CardUnit,
            StoreClearing,
            StoreCollection,
            StoreDue,
            IssuerBonus,
            IssuerPoints,
            PointsPool,
            GrowthFunding,
            GrowthReserve,
            MembersGrowth,
            IssuerCollection,
            IssuerUnits,
            UnitPool,
            Codes,
            TransitMoney,
            TransitPoints,
            TransitUnits,
            StoreFees,
            CardFees,
        ]
    };

    /// Its code in the journal and in reports.
    #[inline]
    pub fn code(self) -> u8 {
        const CODES: [u8; ACCOUNTS] = [1, 2, 3, 4, 5, 6, 16, 17, 18, 32, 33, 40, 41, 42, 43, 35, 34, 44, 45, 46, 47, 48, 19, 20];
        CODES[self as usize]
    }

    /// The account with this code.
    #[inline]
    pub fn from_code(code: u8) -> Option<Account> {
        let at = match code {
            1..=6 => code - 1,
            16..=18 => code - 10,
            19..=20 => code + 3,
            32..=33 => code - 23,
            40..=43 => code - 29,
            35 => 15,
            34 => 16,
            44..=48 => code - 27,
            _ => return None,
        };
        Some(Account::ALL[usize::from(at)])
    }

    /// Its place in the order of [`ALL`](Self::ALL): how a plain move names it.
    #[inline]
    pub fn place(self) -> u8 {
        self as u8
    }

    /// The account of a plain transaction at this place.
    #[inline]
    pub fn at(place: u8) -> Option<Account> {
        Account::ALL[..PLAIN].get(usize::from(place)).copied()
    }

    /// True if it is a card's: those come first.
    #[inline]
    pub fn is_card(self) -> bool {
        (self as usize) < CARD_ACCOUNTS
    }

    /// True if it is one of the two ends of a fee.
    #[inline]
    pub fn is_fees(self) -> bool {
        matches!(self, Account::StoreFees | Account::CardFees)
    }

    /// What it counts.
    #[inline]
    pub fn unit(self) -> Unit {
        const UNITS: [Unit; ACCOUNTS] = {
            let mut units = [Unit::Money; ACCOUNTS];
            let mut at = 0;
            while at < ACCOUNTS {
                units[at] = Account::ALL[at].counts();
                at += 1;
            }
            units
        };
        UNITS[self as usize]
    }

    const fn counts(self) -> Unit {
        use Account::*;
        match self {
            CardPoints | CardShortfallPoints | PointsPool | GrowthFunding | GrowthReserve | MembersGrowth | TransitPoints => {
                Unit::Points
            }
            CardUnit | UnitPool | Codes | TransitUnits => Unit::Counted,
            _ => Unit::Money,
        }
    }
}

/// An amount that goes from one account to another of the same unit: two legs. A card's account is that of the entry's card, a store's that
/// of the entry's store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Move {
    /// What it takes from.
    pub from: Account,
    /// What it gives to.
    pub to: Account,
    /// Smallest units, 1 to [`PURSE_MAX`](crate::units::PURSE_MAX).
    pub amount: i64,
}

/// A move of a transaction with details: one of its ends may be a lot of a card's purse, and its unit may be one of the rules'.
///
/// It begins as the journal writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, IntoBytes, Immutable)]
#[repr(C)]
pub struct Post {
    /// What it takes from.
    pub from: Account,
    /// What it gives to.
    pub to: Account,
    /// The unit of units' accounts and of what was paid for it; of a fee which it is; else 0.
    pub unit: u16,
    /// Last valid date of the lot at the card's end; 0: it never expires.
    pub expires: i32,
    /// Its first valid date; 0: at once.
    pub begins: i32,
    /// Whose purse the card's end is: 0 of the entry's card, 1 and more of the further cards in their order.
    pub card: u16,
    /// Zero.
    #[serde(skip)]
    pub reserved: u16,
    /// Smallest units, 1 to [`PURSE_MAX`](crate::units::PURSE_MAX).
    pub amount: i64,
}

impl Post {
    /// Its accounts, unit and last date; the first date and the card; the amount: each a little-endian word, as they lie in memory.
    #[inline(always)]
    pub fn words(&self) -> [u64; 3] {
        let words: [u64; 3] = transmute!(*self);
        words.map(u64::from_le)
    }

    /// The account at the end that is a card's, if one is.
    #[inline]
    fn end(&self) -> Account {
        if self.from.is_card() { self.from } else { self.to }
    }

    /// The end that is a card's, and what the move changes it by; None if neither is.
    #[inline]
    pub fn card_end(&self) -> Option<(Account, i64)> {
        if self.from.is_card() { Some((self.from, -self.amount)) } else { self.to.is_card().then_some((self.to, self.amount)) }
    }

    /// True if its card's end is a lot that lies in a wallet, not in the card's record.
    #[inline]
    pub fn is_of_wallet(&self) -> bool {
        self.end().is_card() && self.lies_in_wallet(self.end())
    }

    /// The same, when it is known which of a card's accounts is at its end.
    #[inline]
    pub fn lies_in_wallet(&self, end: Account) -> bool {
        (end == Account::CardUnit) | (self.begins | self.expires != 0)
    }

    /// True if it gives to such a lot.
    #[inline]
    pub fn gives_lot(&self) -> bool {
        (self.to == Account::CardUnit) | (self.to.is_card() & (self.begins | self.expires != 0))
    }

    /// True if its card's end is of a unit of the rules.
    #[inline]
    pub fn is_of_unit(&self) -> bool {
        (self.from == Account::CardUnit) | (self.to == Account::CardUnit)
    }

    /// True if it moves money.
    #[inline]
    pub fn is_money(&self) -> bool {
        self.from.unit() == Unit::Money
    }

    /// The purse at the card's end: 1 to 3, or a unit; 0 for a shortfall.
    #[inline]
    pub fn purse(&self) -> u16 {
        self.purse_at(self.end())
    }

    /// The same, when it is known which account is at its end.
    #[inline]
    pub fn purse_at(&self, end: Account) -> u16 {
        match end {
            Account::CardPrincipal | Account::CardBonus | Account::CardPoints => end as u16 + 1,
            Account::CardUnit => self.unit,
            _ => 0,
        }
    }
}

/// Most moves that a transaction has: their sums stay far below 2^63.
pub const MOVES_MAX: usize = 12;
/// Room for them, and for zeros that are written and overwritten: a power of two.
const MOVES: usize = 16;

/// One signed change of a total: a leg of a close or of a day's growth.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TotalLeg {
    /// Which account.
    pub account: Account,
    /// The store's number; of members' growth and points that lapse the issuing merchant's; of accounts of units the unit's; of the issuer's accounts 0.
    pub number: u32,
    /// Smallest units.
    pub amount: i128,
}

/// A transaction's moves, and what they come to. A move of nothing is none.
#[derive(Clone, Debug)]
pub struct Moves {
    /// Those from `len` on are nothing.
    moves: [Move; MOVES],
    len: usize,
    sums: Sums,
}

impl Default for Moves {
    fn default() -> Moves {
        let none = Move { from: Account::CardPrincipal, to: Account::CardPrincipal, amount: 0 };
        Moves { moves: [none; MOVES], len: 0, sums: Sums::default() }
    }
}

impl Moves {
    /// Takes all of them out.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.sums = Sums::default();
    }

    /// Adds one, unless it is of nothing. Amounts are not negative.
    #[inline]
    pub fn add(&mut self, from: Account, to: Account, amount: i64) {
        assert!(amount >= 0, "a move takes from where it says");
        self.moves[self.len % MOVES] = Move { from, to, amount };
        self.len += usize::from(amount != 0);
        self.sums.add(from, to, amount);
    }

    /// These - from, to, amount - in place of what was here. Amounts are not negative.
    ///
    /// Without a branch: whether a bonus or an offset is zero, no processor foresees. Inlined, where the accounts are known: then most of
    /// what is summed is known beforehand, and the rest stays in registers.
    #[inline(always)]
    pub fn set<const N: usize>(&mut self, moves: [(Account, Account, i64); N]) {
        let (mut len, mut sums, mut signs) = (0, Sums::default(), 0);
        for (from, to, amount) in moves {
            self.moves[len % MOVES] = Move { from, to, amount };
            len += usize::from(amount != 0);
            sums.add(from, to, amount);
            signs |= amount;
        }
        assert!(signs >= 0, "a move takes from where it says");
        (self.len, self.sums) = (len, sums);
    }

    /// What they come to.
    #[inline]
    pub fn sums(&self) -> &Sums {
        &self.sums
    }
}

impl Deref for Moves {
    type Target = [Move];

    #[inline]
    fn deref(&self) -> &[Move] {
        assert!(self.len <= MOVES_MAX, "there is room for so many moves");
        &self.moves[..self.len]
    }
}

impl PartialEq for Moves {
    fn eq(&self, other: &Moves) -> bool {
        **self == **other
    }
}

impl Eq for Moves {}

impl FromIterator<Move> for Moves {
    fn from_iter<I: IntoIterator<Item = Move>>(from: I) -> Moves {
        let mut moves = Moves::default();
        from.into_iter().for_each(|one| moves.add(one.from, one.to, one.amount));
        moves
    }
}

/// Moves summed by account.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    by_account: [i64; PLAIN],
    /// What was moved into the points pool; the rest was taken out.
    pub into_pool: i64,
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, from: Account, to: Account, amount: i64) {
        self.by_account[from as usize] -= amount;
        self.by_account[to as usize] += amount;
        if to == Account::PointsPool {
            self.into_pool += amount;
        }
    }

    /// True if they sum to zero in money and in points.
    #[inline]
    pub fn is_balanced(&self) -> bool {
        let (mut money, mut points) = (0, 0);
        for &account in &Account::ALL[..PLAIN] {
            match account.unit() {
                Unit::Money => money += self[account],
                Unit::Points => points += self[account],
                Unit::Counted => {}
            }
        }
        (money == 0) & (points == 0)
    }
}

impl Index<Account> for Sums {
    type Output = i64;

    #[inline]
    fn index(&self, account: Account) -> &i64 {
        &self.by_account[account as usize]
    }
}

/// True if legs sum to zero in money, in points and in every unit of the rules.
pub fn are_balanced(legs: &[TotalLeg]) -> bool {
    let (mut money, mut points) = (0, 0);
    let mut units: BTreeMap<u32, i128> = BTreeMap::new();
    for leg in legs {
        match leg.account.unit() {
            Unit::Money => money += leg.amount,
            Unit::Points => points += leg.amount,
            Unit::Counted => *units.entry(leg.number).or_default() += leg.amount,
        }
    }
    (money, points) == (0, 0) && units.values().all(|&sum| sum == 0)
}

/// Adds a leg of the issuer's totals unless it is zero.
pub fn total_leg(legs: &mut Vec<TotalLeg>, account: Account, amount: i128) {
    if amount != 0 {
        legs.push(TotalLeg { account, number: 0, amount });
    }
}

/// A programme's totals: the cards' purses summed as their legs say, and the issuer's own accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Sum of all principal purses.
    pub principal: i128,
    /// Sum of all bonus purses.
    pub bonus: i128,
    /// Sum of all points purses, booked growth included.
    pub points: i128,
    /// Sum of the money shortfalls (0 or less).
    pub shortfall_money: i128,
    /// Sum of the points shortfalls (0 or less).
    pub shortfall_points: i128,
    /// Account 32.
    pub issuer_bonus: i128,
    /// Account 33.
    pub issuer_points: i128,
    /// Account 40.
    pub pool: i128,
    /// Account 41.
    pub funding: i128,
    /// Account 42.
    pub reserve: i128,
    /// Account 34.
    pub issuer_units: i128,
    /// Account 35.
    pub collected: i128,
    /// By unit of the rules.
    pub units: Units,
}

/// Totals of the units that were ever granted, by unit: a list, because there are few and every sale with details asks for some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units(Vec<(u16, UnitTotals)>);

impl Units {
    /// The totals of a unit, made if there are none.
    #[inline]
    pub fn of(&mut self, unit: u16) -> &mut UnitTotals {
        // Nearly always they are numbered one after the other.
        let likely = usize::from(unit.wrapping_sub(UNIT_MIN));
        let at = match self.0.get(likely) {
            Some(of) if of.0 == unit => likely,
            _ => self.0.binary_search_by_key(&unit, |of| of.0).unwrap_or_else(|at| {
                self.0.insert(at, (unit, UnitTotals::default()));
                at
            }),
        };
        &mut self.0[at].1
    }

    /// Adds what a move of things of a unit changes.
    #[inline]
    pub fn add(&mut self, post: &Post) {
        let (totals, amount) = (self.of(post.unit), i128::from(post.amount));
        if let Some(total) = totals.total(post.from) {
            *total -= amount;
        }
        if let Some(total) = totals.total(post.to) {
            *total += amount;
        }
    }
}

impl Deref for Units {
    type Target = [(u16, UnitTotals)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Where the things of a unit are; the three sum to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitTotals {
    /// Account 6 of all cards.
    pub cards: i128,
    /// Account 44.
    pub pool: i128,
    /// Account 45.
    pub codes: i128,
}

impl UnitTotals {
    /// The total of an account of a unit; None for transit, which is always empty, and for accounts of no unit.
    fn total(&mut self, account: Account) -> Option<&mut i128> {
        match account {
            Account::CardUnit => Some(&mut self.cards),
            Account::UnitPool => Some(&mut self.pool),
            Account::Codes => Some(&mut self.codes),
            _ => None,
        }
    }
}

impl Books {
    /// Money that members hold: principal, bonus and what they owe.
    pub fn members_money(&self) -> i128 {
        self.principal + self.bonus + self.shortfall_money
    }

    /// Adds what a transaction's moves on cards and on the issuer's accounts come to, as `of` tells; units are apart.
    ///
    /// All of them, zero or not: which are, no processor foresees.
    #[inline(always)]
    pub fn add(&mut self, of: impl Fn(Account) -> i64) {
        use Account::*;
        let of = |account| i128::from(of(account));
        self.principal += of(CardPrincipal);
        self.bonus += of(CardBonus);
        self.points += of(CardPoints);
        self.shortfall_money += of(CardShortfallMoney);
        self.shortfall_points += of(CardShortfallPoints);
        self.issuer_bonus += of(IssuerBonus);
        self.issuer_points += of(IssuerPoints);
        self.pool += of(PointsPool);
        self.funding += of(GrowthFunding);
        self.collected += of(IssuerCollection);
    }

    /// The account that a leg of a card, of the issuer or of a unit is summed in; None for a store's, and for transit, which is always empty.
    pub fn total(&mut self, account: Account, unit: u16) -> Option<&mut i128> {
        use Account::*;
        Some(match account {
            CardPrincipal => &mut self.principal,
            CardBonus => &mut self.bonus,
            CardPoints | MembersGrowth => &mut self.points,
            CardShortfallMoney => &mut self.shortfall_money,
            CardShortfallPoints => &mut self.shortfall_points,
            IssuerBonus => &mut self.issuer_bonus,
            IssuerPoints => &mut self.issuer_points,
            PointsPool => &mut self.pool,
            GrowthFunding => &mut self.funding,
            GrowthReserve => &mut self.reserve,
            IssuerUnits => &mut self.issuer_units,
            IssuerCollection => &mut self.collected,
            CardUnit | UnitPool | Codes => self.units.of(unit).total(account)?,
            StoreClearing | StoreCollection | StoreDue | StoreFees | CardFees => return None,
            TransitMoney | TransitPoints | TransitUnits => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back_to_their_accounts() {
        for (at, account) in Account::ALL.into_iter().enumerate() {
            assert_eq!((account as usize, Account::from_code(account.code())), (at, Some(account)));
        }
        assert_eq!((0..=255).filter(|&code| Account::from_code(code).is_some()).count(), ACCOUNTS);
    }
}
