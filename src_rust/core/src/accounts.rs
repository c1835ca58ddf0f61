//! Accounts and legs: the double entry.
//!
//! Invariant: the legs of an entry sum to zero in every unit. [`Legs`] and [`sums`] are how the machine, replay and
//! the verifier check it.

use std::ops::{Deref, Index};

use serde::{Deserialize, Serialize};

use crate::units::Unit;

/// Every account there is, in the order of their codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // docs/transactions.md has the table
pub enum Account {
    CardPrincipal,
    CardBonus,
    CardPoints,
    CardShortfallMoney,
    CardShortfallPoints,
    StoreClearing,
    StoreCollection,
    StoreDue,
    IssuerBonus,
    IssuerPoints,
    PointsPool,
    GrowthFunding,
    GrowthReserve,
    MembersGrowth,
}

/// Number of accounts.
const ACCOUNTS: usize = 14;

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
            StoreClearing,
            StoreCollection,
            StoreDue,
            IssuerBonus,
            IssuerPoints,
            PointsPool,
            GrowthFunding,
            GrowthReserve,
            MembersGrowth,
        ]
    };

    /// Its code in the journal and in reports.
    #[inline]
    pub fn code(self) -> u8 {
        const CODES: [u8; ACCOUNTS] = [1, 2, 3, 4, 5, 16, 17, 18, 32, 33, 40, 41, 42, 43];
        CODES[self as usize]
    }

    /// The account with this code.
    #[inline]
    pub fn from_code(code: u8) -> Option<Account> {
        let at = match code {
            1..=5 => code - 1,
            16..=18 => code - 11,
            32..=33 => code - 24,
            40..=43 => code - 30,
            _ => return None,
        };
        Some(Account::ALL[usize::from(at)])
    }

    /// What it counts.
    #[inline]
    pub fn unit(self) -> Unit {
        use Account::*;
        match self {
            CardPoints | CardShortfallPoints | PointsPool | GrowthFunding | GrowthReserve | MembersGrowth => Unit::Points,
            _ => Unit::Money,
        }
    }
}

/// One signed change of one account by a transaction: a card's is that of the entry's card, a store's that of the entry's store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// Which account.
    pub account: Account,
    /// Smallest units, at most [`PURSE_MAX`](crate::units::PURSE_MAX) up or down.
    pub amount: i64,
}

/// Most legs that a transaction has: their sums stay far below 2^63.
pub const LEGS_MAX: usize = 12;
/// Room for them, and for zeros that are written and overwritten: a power of two.
const LEGS: usize = 16;

/// One signed change of a total: a leg of a close or of a day's growth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TotalLeg {
    /// Which account.
    pub account: Account,
    /// The store's number; of members' growth the issuing merchant's; of the issuer's accounts 0.
    pub number: u32,
    /// Smallest units.
    pub amount: i128,
}

/// A transaction's legs, and what they come to. A leg of zero is none.
#[derive(Clone, Debug)]
pub struct Legs {
    /// Those from `len` on are nothing.
    legs: [Leg; LEGS],
    len: usize,
    sums: Sums,
}

impl Default for Legs {
    fn default() -> Legs {
        let none = Leg { account: Account::CardPrincipal, amount: 0 };
        Legs { legs: [none; LEGS], len: 0, sums: Sums::default() }
    }
}

impl Legs {
    /// Takes all of them out.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.sums = Sums::default();
    }

    /// Adds a leg unless it is zero.
    ///
    /// Without a branch: whether a bonus or an offset is zero, no processor foresees.
    #[inline(always)]
    pub fn add(&mut self, account: Account, amount: i64) {
        self.legs[self.len % LEGS] = Leg { account, amount };
        self.len += usize::from(amount != 0);
        self.sums.add(account, amount);
    }

    /// These, in place of what was here.
    ///
    /// Inlined, where the accounts are known: then most of what is summed is known beforehand, and the rest stays in registers.
    #[inline(always)]
    pub fn set<const N: usize>(&mut self, legs: [(Account, i64); N]) {
        let (mut len, mut sums) = (0, Sums::default());
        legs.iter().for_each(|&(account, amount)| {
            self.legs[len % LEGS] = Leg { account, amount };
            len += usize::from(amount != 0);
            sums.add(account, amount);
        });
        (self.len, self.sums) = (len, sums);
    }

    /// What they come to.
    #[inline]
    pub fn sums(&self) -> &Sums {
        &self.sums
    }
}

impl Deref for Legs {
    type Target = [Leg];

    #[inline]
    fn deref(&self) -> &[Leg] {
        assert!(self.len <= LEGS_MAX, "there is room for so many legs");
        &self.legs[..self.len]
    }
}

impl PartialEq for Legs {
    fn eq(&self, other: &Legs) -> bool {
        **self == **other
    }
}

impl Eq for Legs {}

impl FromIterator<Leg> for Legs {
    fn from_iter<I: IntoIterator<Item = Leg>>(from: I) -> Legs {
        let mut legs = Legs::default();
        from.into_iter().for_each(|leg| legs.add(leg.account, leg.amount));
        legs
    }
}

/// Legs summed by account and by unit.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    by_account: [i64; ACCOUNTS],
    /// What the legs on the points pool put into it; the others took out.
    pub into_pool: i64,
    /// Of all legs in money.
    pub money: i64,
    /// Of all legs in points.
    pub points: i64,
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, account: Account, amount: i64) {
        self.by_account[account as usize] += amount;
        match account.unit() {
            Unit::Money => self.money += amount,
            Unit::Points => self.points += amount,
        }
        if account == Account::PointsPool {
            self.into_pool += amount.max(0);
        }
    }
}

impl Index<Account> for Sums {
    type Output = i64;

    #[inline]
    fn index(&self, account: Account) -> &i64 {
        &self.by_account[account as usize]
    }
}

/// Sum of legs in money and in points.
pub fn sums(legs: &[TotalLeg]) -> (i128, i128) {
    let (mut money, mut points) = (0, 0);
    for leg in legs {
        match leg.account.unit() {
            Unit::Money => money += leg.amount,
            Unit::Points => points += leg.amount,
        }
    }
    (money, points)
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
}

impl Books {
    /// Money that members hold: principal, bonus and what they owe.
    pub fn members_money(&self) -> i128 {
        self.principal + self.bonus + self.shortfall_money
    }

    /// Adds what a transaction's legs on cards and on the issuer's accounts come to.
    ///
    /// All of them, zero or not: which are, no processor foresees.
    #[inline]
    pub fn add(&mut self, sums: &Sums) {
        use Account::*;
        let of = |account| i128::from(sums[account]);
        self.principal += of(CardPrincipal);
        self.bonus += of(CardBonus);
        self.points += of(CardPoints);
        self.shortfall_money += of(CardShortfallMoney);
        self.shortfall_points += of(CardShortfallPoints);
        self.issuer_bonus += of(IssuerBonus);
        self.issuer_points += of(IssuerPoints);
        self.pool += of(PointsPool);
        self.funding += of(GrowthFunding);
    }

    /// The account that a leg of a card or of the issuer is summed in; None for a store's.
    pub fn total(&mut self, account: Account) -> Option<&mut i128> {
        Some(match account {
            Account::CardPrincipal => &mut self.principal,
            Account::CardBonus => &mut self.bonus,
            Account::CardPoints | Account::MembersGrowth => &mut self.points,
            Account::CardShortfallMoney => &mut self.shortfall_money,
            Account::CardShortfallPoints => &mut self.shortfall_points,
            Account::IssuerBonus => &mut self.issuer_bonus,
            Account::IssuerPoints => &mut self.issuer_points,
            Account::PointsPool => &mut self.pool,
            Account::GrowthFunding => &mut self.funding,
            Account::GrowthReserve => &mut self.reserve,
            Account::StoreClearing | Account::StoreCollection | Account::StoreDue => return None,
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
