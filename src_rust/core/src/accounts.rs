//! Accounts and legs: the double entry.
//!
//! Invariant: the legs of a transaction sum to zero in every unit. [`sums`] is how the machine, replay and
//! the verifier check it.

use serde::{Deserialize, Serialize};

use crate::units::Unit;

/// Every account there is; the number is its code in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // docs/transactions.md has the table
pub enum Account {
    CardPrincipal = 1,
    CardBonus = 2,
    CardPoints = 3,
    CardShortfallMoney = 4,
    CardShortfallPoints = 5,
    StoreClearing = 16,
    StoreCollection = 17,
    StoreDue = 18,
    IssuerBonus = 32,
    IssuerPoints = 33,
    PointsPool = 40,
    GrowthFunding = 41,
    GrowthReserve = 42,
    MembersGrowth = 43,
}

impl Account {
    /// The account with this code.
    pub fn from_code(code: u8) -> Option<Account> {
        use Account::*;
        Some(match code {
            1 => CardPrincipal,
            2 => CardBonus,
            3 => CardPoints,
            4 => CardShortfallMoney,
            5 => CardShortfallPoints,
            16 => StoreClearing,
            17 => StoreCollection,
            18 => StoreDue,
            32 => IssuerBonus,
            33 => IssuerPoints,
            40 => PointsPool,
            41 => GrowthFunding,
            42 => GrowthReserve,
            43 => MembersGrowth,
            _ => return None,
        })
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

/// One signed change of one account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// Which account; a card's is that of the entry's card.
    pub account: Account,
    /// The store's number if it is not the entry's store; of members' growth the issuing merchant's; else 0.
    pub store: u32,
    /// Smallest units.
    pub amount: i128,
}

/// Sum of legs in money and in points.
#[inline]
pub fn sums(legs: &[Leg]) -> (i128, i128) {
    let (mut money, mut points) = (0, 0);
    for leg in legs {
        match leg.account.unit() {
            Unit::Money => money += leg.amount,
            Unit::Points => points += leg.amount,
        }
    }
    (money, points)
}

/// Adds a leg unless it is zero.
#[inline]
pub fn leg(legs: &mut Vec<Leg>, account: Account, amount: impl Into<i128>) {
    let amount = amount.into();
    if amount != 0 {
        legs.push(Leg { account, store: 0, amount });
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
