//! From the core's answers to messages: the row, and the parts that a receipt is printed from.

use onecard_core::codes::Code;
use onecard_core::details::{PART_CASH, PART_UNPAID, Reason};
use onecard_core::{Answer, Answers, Part};

use crate::rows::posted_date;
use crate::v1;

/// An answer as the caller reads it.
pub fn answer(row: &Answer, parts: &[Part]) -> v1::Answer {
    let of = |account: u8| parts.iter().find(|part| part.account == account).map_or(0, |part| part.amount);
    let code = u8::try_from(row.code).ok().and_then(Code::from_number);
    v1::Answer {
        sequence: row.sequence,
        code: row.code.into(),
        message: code.map_or("", Code::text).to_owned(),
        replayed: row.replayed != 0,
        business_date: posted_date(row.business_date),
        amount: row.amount,
        discount: row.discount,
        principal: row.principal,
        bonus: row.bonus,
        offset: row.offset,
        points_earned: row.points_earned,
        points_spent: row.points_spent,
        shortfall_money: row.shortfall_money,
        shortfall_points: row.shortfall_points,
        principal_balance: row.principal_balance,
        bonus_balance: row.bonus_balance,
        points_balance: row.points_balance,
        reason: reason(row.reason).into(),
        unpaid: of(PART_UNPAID),
        cash: of(PART_CASH),
        parts: parts.iter().map(part).collect(),
        kind: row.kind.into(),
        tier: row.tier.into(),
    }
}

/// The answers of a message of the stream, in order.
pub fn answers(found: &Answers) -> Vec<v1::Answer> {
    found.rows.iter().map(|row| answer(row, found.parts_of(row))).collect()
}

fn part(part: &Part) -> v1::Part {
    v1::Part {
        kind: part_kind(part.account).into(),
        card: part.card.into(),
        purse: part.purse.into(),
        valid_from: posted_date(part.begins),
        expires: posted_date(part.expires),
        amount: part.amount,
        balance: part.balance,
    }
}

fn part_kind(account: u8) -> v1::PartKind {
    match account {
        0 => v1::PartKind::Balance,
        known => v1::PartKind::try_from(i32::from(known)).unwrap_or_default(),
    }
}

fn reason(number: u8) -> v1::Reason {
    match Reason::from_number(number) {
        None | Some(Reason::None) => v1::Reason::Unspecified,
        Some(Reason::Forged) => v1::Reason::Forged,
        Some(Reason::Foreign) => v1::Reason::Foreign,
        Some(Reason::Used) => v1::Reason::Used,
        Some(Reason::Expired) => v1::Reason::Expired,
        Some(Reason::NotYetValid) => v1::Reason::NotYetValid,
        Some(Reason::BelowMinimum) => v1::Reason::BelowMinimum,
        Some(Reason::OutOfScope) => v1::Reason::OutOfScope,
        Some(Reason::TooMany) => v1::Reason::TooMany,
        Some(Reason::BoundElsewhere) => v1::Reason::BoundElsewhere,
        Some(Reason::NotBound) => v1::Reason::NotBound,
        Some(Reason::NotStaff) => v1::Reason::NotStaff,
        Some(Reason::SoldOut) => v1::Reason::SoldOut,
        Some(Reason::Behind) => v1::Reason::Behind,
        Some(Reason::Advised) => v1::Reason::Advised,
        Some(Reason::NoAdvice) => v1::Reason::NoAdvice,
        Some(Reason::HigherTier) => v1::Reason::HigherTier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: u32 = 20240229;
    const DAYS: i32 = 19_782;

    #[test]
    fn an_answer_keeps_its_numbers() {
        let row = Answer {
            sequence: 5,
            code: 51,
            kind: 3,
            business_date: DAYS,
            bonus: -1,
            points_balance: 7,
            reason: 8,
            ..Answer::default()
        };
        let message = answer(&row, &[]);
        assert_eq!((message.sequence, message.code, message.message.as_str()), (5, 51, "insufficient funds"));
        assert_eq!((message.business_date, message.bonus, message.points_balance), (DATE, -1, 7));
        assert_eq!((message.reason(), message.kind, message.parts.len()), (v1::Reason::TooMany, 3, 0));
        assert_eq!(answer(&Answer::default(), &[]).business_date, 0);
    }

    #[test]
    fn parts_have_words_and_dates() {
        let parts = [
            Part { account: 6, card: 2, purse: 300, begins: DAYS, expires: DAYS + 1, amount: -4, balance: 9, ..Part::default() },
            Part { account: 34, purse: 300, amount: 70, ..Part::default() },
            Part { account: PART_CASH, amount: 30, ..Part::default() },
            Part { account: PART_UNPAID, amount: 20, ..Part::default() },
            Part { account: 0, purse: 16, balance: 3, ..Part::default() },
        ];
        let message = answer(&Answer::default(), &parts);
        assert_eq!((message.cash, message.unpaid), (30, 20));
        let kinds: Vec<_> = message.parts.iter().map(v1::Part::kind).collect();
        use v1::PartKind::{Balance, Cash, PaidByUnit, Unit, Unpaid};
        assert_eq!(kinds, [Unit, PaidByUnit, Cash, Unpaid, Balance]);
        let unit = message.parts[0];
        assert_eq!((unit.card, unit.purse, unit.valid_from, unit.expires), (2, 300, DATE, 20240301));
        assert_eq!((unit.amount, unit.balance), (-4, 9));
    }
}
