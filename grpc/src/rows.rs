//! Between messages and the core's rows.
//!
//! Dates are YYYYMMDD in messages and days since 1970-01-01 in rows; local time is YYYYMMDDhhmmss and seconds since
//! midnight of the business date. What a row cannot hold is malformed, and the caller is told the field and the mend.

use onecard_core::calendar::{from_yyyymmdd, to_yyyymmdd};
use onecard_core::cards::CardNumber;
use onecard_core::codes::Code;
use onecard_core::commands::{Answer, Kind, Request, USE_POINTS};
use tonic::Status;

use crate::v1;

const DAY_S: i64 = 24 * 60 * 60;
/// What a local time of 0 is read as.
const NOON_S: i32 = 12 * 60 * 60;

/// A field that cannot be read, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    field: &'static str,
    mend: &'static str,
}

const fn malformed(field: &'static str, mend: &'static str) -> Malformed {
    Malformed { field, mend }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Status {
        Status::invalid_argument(format!("{}: {}", malformed.field, malformed.mend))
    }
}

/// A message that asks for one transaction.
pub trait Ask {
    /// Its row; well formed as the core defines it.
    fn row(&self) -> Result<Request, Malformed> {
        let row = self.convert()?;
        // Every other case is named by `convert`.
        let named_itself = malformed("original", "name another transaction, not this request itself");
        if row.check_format().is_some() { Ok(row) } else { Err(named_itself) }
    }

    /// Its row; a refund or a reversal may still name itself.
    fn convert(&self) -> Result<Request, Malformed>;
}

impl Ask for v1::IssueRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        let mut row = with_card(keyed(Kind::Issue, &self.header)?, &self.card)?;
        row.product = u16::try_from(self.product).map_err(|_| malformed("product", "send 1 to 65535"))?;
        row.expires = match self.expires {
            0 => 0,
            // Day 0 would be read as "never".
            date => from_yyyymmdd(date)
                .filter(|&date| date > 0)
                .ok_or(malformed("expires", "send a date as YYYYMMDD, or 0 for never"))?,
        };
        Ok(row)
    }
}

impl Ask for v1::TopUpRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        let row = with_card(keyed(Kind::TopUp, &self.header)?, &self.card)?;
        Ok(Request { amount: self.amount, ..row })
    }
}

impl Ask for v1::PurchaseRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        let row = with_card(keyed(Kind::Purchase, &self.header)?, &self.card)?;
        let flags = if self.use_points { USE_POINTS } else { 0 };
        Ok(Request { amount: self.amount, flags, ..row })
    }
}

impl Ask for v1::RefundRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        let row = with_original(keyed(Kind::Refund, &self.header)?, &self.original)?;
        Ok(Request { amount: self.amount, ..row })
    }
}

impl Ask for v1::ReverseRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        with_original(keyed(Kind::Reversal, &self.header)?, &self.original)
    }
}

impl Ask for v1::GetBalanceRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        let header = self.header.as_ref().ok_or(NO_HEADER)?;
        if header.key.is_some() {
            return Err(malformed("header.key", "leave trace and id out: a balance query has no key"));
        }
        with_card(unkeyed(Kind::Balance, header)?, &self.card)
    }
}

impl Ask for v1::SetStatusRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        let row = with_card(keyed(Kind::Status, &self.header)?, &self.card)?;
        let status = match self.status() {
            v1::CardStatus::Active => 1,
            v1::CardStatus::Frozen => 2,
            v1::CardStatus::Unspecified => {
                return Err(malformed("status", "send CARD_STATUS_ACTIVE or CARD_STATUS_FROZEN"));
            }
        };
        Ok(Request { status, ..row })
    }
}

impl Ask for v1::FundRequest {
    fn convert(&self) -> Result<Request, Malformed> {
        Ok(Request { amount: self.amount, ..keyed(Kind::Fund, &self.header)? })
    }
}

impl Ask for v1::Transaction {
    fn convert(&self) -> Result<Request, Malformed> {
        use v1::transaction::Request::*;
        match self.request.as_ref().ok_or(malformed("request", "set one of them"))? {
            Issue(request) => request.convert(),
            TopUp(request) => request.convert(),
            Purchase(request) => request.convert(),
            Refund(request) => request.convert(),
            Reverse(request) => request.convert(),
            GetBalance(request) => request.convert(),
            SetStatus(request) => request.convert(),
            Fund(request) => request.convert(),
        }
    }
}

const NO_HEADER: Malformed = malformed("header", "is missing");

fn unkeyed(kind: Kind, header: &v1::Header) -> Result<Request, Malformed> {
    if header.terminal == 0 {
        return Err(malformed("header.terminal", "send the number of the terminal, from 1"));
    }
    Ok(Request {
        kind: kind as u8,
        programme: programme(header.programme, "header.programme")?,
        terminal: header.terminal,
        channel: u8::try_from(header.channel).map_err(|_| malformed("header.channel", "send 0 to 255"))?,
        ..Request::default()
    })
}

fn keyed(kind: Kind, header: &Option<v1::Header>) -> Result<Request, Malformed> {
    use v1::header::Key;
    let header = header.as_ref().ok_or(NO_HEADER)?;
    let mut row = unkeyed(kind, header)?;
    row.business_date = date(header.business_date, "header.business_date")?;
    row.local_time = local_time(header.local_time, row.business_date)
        .ok_or(malformed("header.local_time", "send a time as YYYYMMDDhhmmss, or 0 for noon"))?;
    match &header.key {
        Some(Key::Trace(trace)) if *trace != 0 => row.trace = *trace,
        Some(Key::Id(bytes)) => {
            (row.id_hi, row.id_lo) = id(bytes).ok_or(malformed("header.id", "send 16 bytes, not all of them zero"))?;
        }
        _ => return Err(malformed("header.key", "send a trace from 1, or an id of 16 bytes")),
    }
    Ok(row)
}

fn with_card(row: Request, text: &str) -> Result<Request, Malformed> {
    let (card, card_digits) = digits(text).ok_or(malformed("card", "send 8 to 19 digits"))?;
    Ok(Request { card, card_digits, ..row })
}

fn with_original(mut row: Request, original: &Option<v1::Original>) -> Result<Request, Malformed> {
    use v1::original::Name;
    use v1::original_key::Key;
    let name = original.as_ref().and_then(|original| original.name.as_ref());
    let key = match name {
        Some(Name::Sequence(sequence)) if *sequence != 0 => {
            row.original = *sequence;
            return Ok(row);
        }
        Some(Name::Key(key)) => key,
        _ => return Err(malformed("original", "send a sequence from 1, or a key")),
    };
    row.original_date = date(key.business_date, "original.key.business_date")?;
    row.original_terminal = key.terminal;
    match &key.key {
        Some(Key::Trace(trace)) if *trace != 0 => {
            if key.terminal == 0 {
                return Err(malformed("original.key.terminal", "a trace needs the terminal that sent it"));
            }
            row.original_trace = *trace;
        }
        Some(Key::Id(bytes)) => {
            if key.terminal != 0 {
                return Err(malformed("original.key.terminal", "leave it out: an id is not a terminal's"));
            }
            (row.original_id_hi, row.original_id_lo) =
                id(bytes).ok_or(malformed("original.key.id", "send 16 bytes, not all of them zero"))?;
        }
        _ => return Err(malformed("original.key", "send a trace from 1, or an id of 16 bytes")),
    }
    Ok(row)
}

/// A programme's number; 0 stays 0, which the core reads as 1.
pub fn programme(number: u32, field: &'static str) -> Result<u16, Malformed> {
    u16::try_from(number).map_err(|_| malformed(field, "send 1 to 65535, or 0 for programme 1"))
}

/// Days since 1970-01-01 of a date as YYYYMMDD.
pub fn date(text: u32, field: &'static str) -> Result<i32, Malformed> {
    from_yyyymmdd(text).ok_or(malformed(field, "send a date as YYYYMMDD, from 19700101"))
}

/// A card number for a query of its account.
pub fn card_number(text: &str) -> Result<CardNumber, Malformed> {
    CardNumber::parse(text).ok_or(malformed("card", "send 8 to 19 digits"))
}

/// Value and count of a card number's digits; one pass, because every swipe has one.
fn digits(text: &str) -> Option<(u64, u8)> {
    if !(8..=19).contains(&text.len()) {
        return None;
    }
    let mut value = 0;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    Some((value, text.len() as u8))
}

/// The two halves of a 128-bit id.
fn id(bytes: &[u8]) -> Option<(u64, u64)> {
    let id = u128::from_be_bytes(bytes.try_into().ok()?);
    (id != 0).then_some(((id >> 64) as u64, id as u64))
}

/// Seconds from midnight of the business date to a time as YYYYMMDDhhmmss.
///
/// A time that is decades away is cut off: it is outside every tolerance (12), not malformed.
fn local_time(text: u64, business_date: i32) -> Option<i32> {
    if text == 0 {
        return Some(NOON_S);
    }
    let date = from_yyyymmdd(u32::try_from(text / 1_000_000).ok()?)?;
    let (hour, minute, second) = (text / 10_000 % 100, text / 100 % 100, text % 100);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (i64::from(date) - i64::from(business_date)) * DAY_S + (hour * 3600 + minute * 60 + second) as i64;
    Some(seconds.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// An answer as the caller reads it.
pub fn answer(row: &Answer) -> v1::Answer {
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
    }
}

/// A date as YYYYMMDD; 0 if nothing is kept.
pub fn posted_date(date: i32) -> u32 {
    if date == 0 { 0 } else { to_yyyymmdd(date) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: u32 = 20240229;
    const DAYS: i32 = 19_782;

    fn header() -> Option<v1::Header> {
        let key = Some(v1::header::Key::Trace(7));
        Some(v1::Header { terminal: 3, business_date: DATE, key, ..Default::default() })
    }

    fn purchase() -> v1::PurchaseRequest {
        v1::PurchaseRequest { header: header(), card: "0012345678".into(), amount: 500, use_points: true }
    }

    fn purchase_with(change: impl FnOnce(&mut v1::Header)) -> v1::PurchaseRequest {
        let mut request = purchase();
        change(request.header.as_mut().expect("it has one"));
        request
    }

    fn refund(name: v1::original::Name) -> v1::RefundRequest {
        v1::RefundRequest { header: header(), original: Some(v1::Original { name: Some(name) }), amount: 5 }
    }

    fn refund_by(terminal: u32, key: Option<v1::original_key::Key>) -> v1::RefundRequest {
        refund(v1::original::Name::Key(v1::OriginalKey { business_date: DATE, terminal, key }))
    }

    fn field(outcome: Result<Request, Malformed>) -> &'static str {
        outcome.expect_err("it is malformed").field
    }

    #[test]
    fn a_purchase_becomes_a_row() {
        let expected = Request {
            kind: 3,
            flags: USE_POINTS,
            card: 12_345_678,
            card_digits: 10,
            business_date: DAYS,
            local_time: NOON_S,
            amount: 500,
            terminal: 3,
            trace: 7,
            ..Request::default()
        };
        assert_eq!(purchase().row(), Ok(expected));
    }

    #[test]
    fn ids_are_big_endian() {
        let bytes: Vec<u8> = (0..16).collect();
        let request = purchase_with(|header| header.key = Some(v1::header::Key::Id(bytes.into())));
        let row = request.row().expect("well formed");
        assert_eq!((row.trace, row.id_hi, row.id_lo), (0, 0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f));
    }

    #[test]
    fn originals_are_named_by_sequence_or_key() {
        use v1::original_key::Key;
        let row = refund(v1::original::Name::Sequence(9)).row().expect("well formed");
        assert_eq!((row.original, row.original_date), (9, 0));
        let row = refund_by(4, Some(Key::Trace(8))).row().expect("well formed");
        assert_eq!((row.original_terminal, row.original_trace, row.original_date), (4, 8, DAYS));
        let row = refund_by(0, Some(Key::Id(vec![1; 16].into()))).row().expect("well formed");
        assert_eq!((row.original_id_hi, row.original_trace), (0x0101_0101_0101_0101, 0));
    }

    #[test]
    fn what_is_malformed_is_named() {
        use v1::header::Key;
        let cases = [
            (v1::PurchaseRequest { header: None, ..purchase() }.row(), "header"),
            (v1::PurchaseRequest { card: "1234567".into(), ..purchase() }.row(), "card"),
            (v1::PurchaseRequest { card: "12345678901234567890".into(), ..purchase() }.row(), "card"),
            (v1::PurchaseRequest { card: "+12345678".into(), ..purchase() }.row(), "card"),
            (purchase_with(|header| header.programme = 65_536).row(), "header.programme"),
            (purchase_with(|header| header.terminal = 0).row(), "header.terminal"),
            (purchase_with(|header| header.channel = 256).row(), "header.channel"),
            (purchase_with(|header| header.business_date = 20230229).row(), "header.business_date"),
            (purchase_with(|header| header.local_time = 20240229240000).row(), "header.local_time"),
            (purchase_with(|header| header.local_time = u64::MAX).row(), "header.local_time"),
            (purchase_with(|header| header.key = None).row(), "header.key"),
            (purchase_with(|header| header.key = Some(Key::Trace(0))).row(), "header.key"),
            (purchase_with(|header| header.key = Some(Key::Id(vec![1; 15].into()))).row(), "header.id"),
            (purchase_with(|header| header.key = Some(Key::Id(vec![0; 16].into()))).row(), "header.id"),
            (v1::GetBalanceRequest { header: header(), card: "12345678".into() }.row(), "header.key"),
            (v1::SetStatusRequest { header: header(), card: "12345678".into(), status: 9 }.row(), "status"),
            (v1::Transaction { request: None }.row(), "request"),
        ];
        for (outcome, expected) in cases {
            assert_eq!(field(outcome), expected);
        }
    }

    #[test]
    fn a_malformed_issue_is_named() {
        let issue = |product, expires| v1::IssueRequest { header: header(), card: "12345678".into(), product, expires };
        assert_eq!(issue(1, 0).row().map(|row| (row.product, row.expires)), Ok((1, 0)));
        assert_eq!(issue(1, DATE).row().map(|row| row.expires), Ok(DAYS));
        assert_eq!(field(issue(65_536, 0).row()), "product");
        assert_eq!(field(issue(1, 20240230).row()), "expires");
        assert_eq!(field(issue(1, 19700101).row()), "expires");
    }

    #[test]
    fn a_malformed_original_is_named() {
        use v1::original_key::Key;
        let cases = [
            (v1::RefundRequest { original: None, ..refund_by(3, None) }.row(), "original"),
            (refund(v1::original::Name::Sequence(0)).row(), "original"),
            (refund_by(3, Some(Key::Trace(7))).row(), "original"),
            (refund_by(3, None).row(), "original.key"),
            (refund_by(0, Some(Key::Trace(7))).row(), "original.key.terminal"),
            (refund_by(3, Some(Key::Id(vec![1; 16].into()))).row(), "original.key.terminal"),
            (refund_by(0, Some(Key::Id(vec![1; 17].into()))).row(), "original.key.id"),
        ];
        for (outcome, expected) in cases {
            assert_eq!(field(outcome), expected);
        }
    }

    #[test]
    fn an_answer_keeps_its_numbers() {
        let row = Answer { sequence: 5, code: 51, business_date: DAYS, bonus: -1, points_balance: 7, ..Answer::default() };
        let message = answer(&row);
        assert_eq!((message.sequence, message.code, message.message.as_str()), (5, 51, "insufficient funds"));
        assert_eq!((message.business_date, message.bonus, message.points_balance), (DATE, -1, 7));
        assert_eq!(answer(&Answer::default()).business_date, 0);
    }

    proptest! {
        #[test]
        fn dates_go_both_ways(days in 0..=2_932_896) {
            prop_assert_eq!(date(to_yyyymmdd(days), "date"), Ok(days));
        }

        #[test]
        fn no_text_is_a_date_that_is_written_otherwise(text in any::<u32>()) {
            if let Ok(days) = date(text, "date") {
                prop_assert_eq!(to_yyyymmdd(days), text);
            }
        }

        #[test]
        fn local_time_counts_from_midnight(days in 0..2_900_000, apart in -700_000i32..700_000) {
            let at = (i64::from(days) * DAY_S + i64::from(apart)).max(0);
            let (date, second) = ((at / DAY_S) as i32, (at % DAY_S) as u64);
            let text = u64::from(to_yyyymmdd(date)) * 1_000_000 + second / 3600 * 10_000 + second / 60 % 60 * 100 + second % 60;
            prop_assert_eq!(local_time(text, days), Some((at - i64::from(days) * DAY_S) as i32));
        }

        #[test]
        fn card_numbers_are_read_as_the_core_reads_them(text in "[0-9]{7,20}|[0-9]{8}[^0-9]") {
            let number = CardNumber::parse(&text).map(|number| (number.value(), number.digits()));
            prop_assert_eq!(digits(&text), number);
        }
    }
}
