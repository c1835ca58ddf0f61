//! From messages to the core's rows; their items are made at the [`desk`](crate::desk).
//!
//! Dates are YYYYMMDD in messages and days since 1970-01-01 in rows; local time is YYYYMMDDhhmmss and seconds since
//! midnight of the business date. What a row cannot hold is malformed, and the caller is told the field and the mend.
//!
//! Invariant: what leaves here is no 30 in the core. A plain swipe has no items, and nothing is allocated for them.

use onecard_core::calendar::{from_yyyymmdd, to_yyyymmdd};
use onecard_core::cards::CardNumber;
use onecard_core::commands::{ACCEPT_PARTIAL, BY_OPERATOR, DRY_RUN, FINAL, FROM_CARD, Kind, Request, UNBIND, USE_POINTS};
use onecard_core::details::{items_fit, lines_fit};
use onecard_core::{Item, ItemKind, Secrets};
use tonic::Status;

use crate::desk::Desk;
use crate::v1;

const DAY_S: i64 = 24 * 60 * 60;
/// What a local time of 0 is read as.
const NOON_S: i32 = 12 * 60 * 60;
/// State of a card that was issued to be activated later.
const NOT_ACTIVE_YET: u8 = 5;

/// A field that cannot be read, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    field: &'static str,
    mend: &'static str,
}

pub const fn malformed(field: &'static str, mend: &'static str) -> Malformed {
    Malformed { field, mend }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Status {
        Status::invalid_argument(format!("{}: {}", malformed.field, malformed.mend))
    }
}

/// Why a message is no request. It never has what was sent: a PIN must not come back in an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The caller must mend it.
    Malformed(Malformed),
    /// It has a PIN, an alias or a code, and the server has no keys for them.
    NoKeys,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        Refusal::Malformed(malformed)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        match refusal {
            Refusal::Malformed(malformed) => malformed.into(),
            Refusal::NoKeys => no_keys(),
        }
    }
}

/// What a caller is told who sent what needs keys.
pub fn no_keys() -> Status {
    Status::failed_precondition(
        "this server has no keys for PINs, aliases and codes: make a file of them with `onecard secrets new FILE`, and start the server with --secrets FILE",
    )
}

/// A message that asks for one transaction.
pub trait Ask {
    /// Its row, well formed as the core defines it; its items are put into `items`, in place of what is there.
    fn row(&self, secrets: &Secrets, items: &mut Vec<Item>) -> Result<Request, Refusal> {
        items.clear();
        let mut row = self.convert(&mut Desk::new(secrets, items))?;
        // Every other case is named by `convert`.
        const NAMED_ITSELF: Malformed = malformed("original", "name another transaction, not this request itself");
        const TOO_MANY: Malformed = malformed("items", "send at most 64 coupons, codes, passes, cards, PINs and lines");
        const NOT_THE_SUM: Malformed = malformed("lines.amount", "send amounts that come to that of the sale");
        row.items = u16::try_from(items.len()).map_err(|_| TOO_MANY)?;
        let kind = row.check_format().ok_or(NAMED_ITSELF)?;
        if !lines_fit(items, row.amount) {
            return Err(NOT_THE_SUM.into());
        }
        if items.is_empty() || items_fit(kind, items, &row) { Ok(row) } else { Err(TOO_MANY.into()) }
    }

    /// Its row; a refund or a reversal may still name itself, and there may still be too many items.
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal>;
}

impl Ask for v1::IssueRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_number(keyed(Kind::Issue, &self.header)?, &self.card)?;
        let status = if self.inactive { NOT_ACTIVE_YET } else { 0 };
        Ok(Request { product: sixteen_bits(self.product, "product")?, expires: last_date(self.expires)?, status, ..row })
    }
}

impl Ask for v1::TopUpRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(keyed(Kind::TopUp, &self.header)?, desk, &self.card, &self.alias)?;
        desk.pin(&self.pin, "pin")?;
        Ok(Request { amount: self.amount, ..row })
    }
}

impl Ask for v1::PurchaseRequest {
    #[inline]
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(sale(Kind::Purchase, &self.header, self.dry_run)?, desk, &self.card, &self.alias)?;
        // The own PIN stands before the further cards: one after them would be the last card's.
        desk.pin(&self.pin, "pin")?;
        desk.coupons(&self.coupons)?;
        desk.codes(&self.codes)?;
        desk.passes(&self.passes)?;
        desk.cards(&self.cards)?;
        desk.cash(self.cash)?;
        desk.staff(&self.staff)?;
        desk.lines(&self.lines)?;
        Ok(Request { amount: self.amount, flags: row.flags | sale_flags(self.use_points, self.accept_partial), ..row })
    }
}

impl Ask for v1::RefundRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_original(keyed(Kind::Refund, &self.header)?, &self.original)?;
        Ok(Request { amount: self.amount, ..row })
    }
}

impl Ask for v1::ReverseRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        Ok(with_original(keyed(Kind::Reversal, &self.header)?, &self.original)?)
    }
}

impl Ask for v1::GetBalanceRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let header = self.header.as_ref().ok_or(NO_HEADER)?;
        if header.key.is_some() {
            return Err(malformed("header.key", "leave trace and id out: a balance query has no key").into());
        }
        with_card(unkeyed(Kind::Balance, header)?, desk, &self.card, &self.alias)
    }
}

impl Ask for v1::SetStatusRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(keyed(Kind::Status, &self.header)?, desk, &self.card, &self.alias)?;
        let status = match self.status() {
            v1::CardStatus::Active => 1,
            v1::CardStatus::Frozen => 2,
            v1::CardStatus::Lost => 3,
            v1::CardStatus::Stolen => 4,
            v1::CardStatus::Unspecified => {
                let mend = "send CARD_STATUS_ACTIVE, CARD_STATUS_FROZEN, CARD_STATUS_LOST or CARD_STATUS_STOLEN";
                return Err(malformed("status", mend).into());
            }
        };
        Ok(Request { status, ..row })
    }
}

impl Ask for v1::FundRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        Ok(Request { amount: self.amount, ..keyed(Kind::Fund, &self.header)? })
    }
}

impl Ask for v1::GrantRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card_or_cursor(keyed(Kind::Grant, &self.header)?, desk, &self.card, &self.alias, &self.cursor)?;
        desk.pin(&self.pin, "pin")?;
        let flags = if self.paid_by_card { FROM_CARD } else { 0 };
        Ok(Request { product: sixteen_bits(self.bundle, "bundle")?, amount: self.count, flags, ..row })
    }
}

impl Ask for v1::AuthoriseRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(sale(Kind::Authorise, &self.header, self.dry_run)?, desk, &self.card, &self.alias)?;
        desk.pin(&self.pin, "pin")?;
        desk.coupons(&self.coupons)?;
        desk.passes(&self.passes)?;
        desk.staff(&self.staff)?;
        desk.lines(&self.lines)?;
        let flags = row.flags | sale_flags(self.use_points, self.accept_partial);
        Ok(Request { amount: self.amount, flags, expires: last_date(self.expires)?, ..row })
    }
}

impl Ask for v1::CaptureRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_original(keyed(Kind::Capture, &self.header)?, &self.original)?;
        Ok(Request { amount: self.amount, flags: if self.r#final { FINAL } else { 0 }, ..row })
    }
}

impl Ask for v1::VoidRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        Ok(with_original(keyed(Kind::Void, &self.header)?, &self.original)?)
    }
}

impl Ask for v1::ReplaceRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(keyed(Kind::Replace, &self.header)?, desk, &self.card, &self.alias)?;
        desk.number(ItemKind::Number, &self.new_card, "new_card")?;
        let status = match v1::CardStatus::try_from(self.old) {
            Ok(v1::CardStatus::Unspecified) => 0,
            Ok(v1::CardStatus::Lost) => 3,
            Ok(v1::CardStatus::Stolen) => 4,
            _ => return Err(malformed("old", "send CARD_STATUS_LOST, CARD_STATUS_STOLEN, or nothing: exchanged").into()),
        };
        Ok(Request { status, ..row })
    }
}

impl Ask for v1::TransferRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(keyed(Kind::Transfer, &self.header)?, desk, &self.card, &self.alias)?;
        desk.pin(&self.pin, "pin")?;
        let source = self.source.as_ref().ok_or(malformed("source", "name the card that gives"))?;
        desk.further(source, "source.card", "source.pin")?;
        Ok(Request { product: sixteen_bits(self.purse, "purse")?, amount: self.amount, ..row })
    }
}

impl Ask for v1::SetHolderRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(keyed(Kind::Holder, &self.header)?, desk, &self.card, &self.alias)?;
        desk.member(self.member, self.real_name_known)?;
        Ok(row)
    }
}

impl Ask for v1::BindAliasRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_number(keyed(Kind::Bind, &self.header)?, &self.card)?;
        desk.pin(&self.pin, "pin")?;
        let alias = self.alias.as_ref().ok_or(malformed("alias", "send what is to be bound"))?;
        desk.alias(row.programme(), alias)?;
        if let Some(holder) = &self.bound_to {
            desk.further(holder, "bound_to.card", "bound_to.pin")?;
        }
        Ok(Request { flags: if self.remove { UNBIND } else { 0 }, ..row })
    }
}

impl Ask for v1::SetPinRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card(keyed(Kind::SetPin, &self.header)?, desk, &self.card, &self.alias)?;
        desk.pin(&self.pin, "pin")?;
        if self.new_pin.is_empty() && !self.by_operator {
            return Err(malformed("new_pin", "send 4 to 12 digits; only an operator may leave it out").into());
        }
        desk.new_pin(&self.new_pin)?;
        Ok(Request { flags: if self.by_operator { BY_OPERATOR } else { 0 }, ..row })
    }
}

impl Ask for v1::CloseCardRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        with_card(keyed(Kind::Close, &self.header)?, desk, &self.card, &self.alias)
    }
}

impl Ask for v1::IssueCodesRequest {
    fn convert(&self, _desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = keyed(Kind::IssueCodes, &self.header)?;
        Ok(Request { product: sixteen_bits(self.unit, "unit")?, amount: self.count, expires: last_date(self.expires)?, ..row })
    }
}

impl Ask for v1::BulkTopUpRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = keyed(Kind::BulkTopUp, &self.header)?;
        desk.top_ups(&self.cards)?;
        Ok(Request { amount: self.amount, ..row })
    }
}

impl Ask for v1::SetTierRequest {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        let row = with_card_or_cursor(keyed(Kind::SetTier, &self.header)?, desk, &self.card, &self.alias, &self.cursor)?;
        Ok(Request { product: sixteen_bits(self.tier, "tier")?, ..row })
    }
}

impl Ask for v1::Transaction {
    fn convert(&self, desk: &mut Desk<'_>) -> Result<Request, Refusal> {
        use v1::transaction::Request::*;
        match self.request.as_ref().ok_or(malformed("request", "set one of them"))? {
            Issue(request) => request.convert(desk),
            TopUp(request) => request.convert(desk),
            Purchase(request) => request.convert(desk),
            Refund(request) => request.convert(desk),
            Reverse(request) => request.convert(desk),
            GetBalance(request) => request.convert(desk),
            SetStatus(request) => request.convert(desk),
            Fund(request) => request.convert(desk),
            Grant(request) => request.convert(desk),
            Authorise(request) => request.convert(desk),
            Capture(request) => request.convert(desk),
            Void(request) => request.convert(desk),
            Replace(request) => request.convert(desk),
            Transfer(request) => request.convert(desk),
            SetHolder(request) => request.convert(desk),
            BindAlias(request) => request.convert(desk),
            SetPin(request) => request.convert(desk),
            CloseCard(request) => request.convert(desk),
            IssueCodes(request) => request.convert(desk),
            BulkTopUp(request) => request.convert(desk),
            SetTier(request) => request.convert(desk),
        }
    }
}

fn sale_flags(use_points: bool, accept_partial: bool) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(use_points, USE_POINTS) | flag(accept_partial, ACCEPT_PARTIAL)
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

/// A sale, or one that is tried out.
fn sale(kind: Kind, header: &Option<v1::Header>, dry_run: bool) -> Result<Request, Malformed> {
    if !dry_run {
        return keyed(kind, header);
    }
    let header = header.as_ref().ok_or(NO_HEADER)?;
    if header.key.is_some() {
        return Err(malformed("header.key", "leave trace and id out: a dry run has no key"));
    }
    Ok(Request { flags: DRY_RUN, ..dated(kind, header)? })
}

fn dated(kind: Kind, header: &v1::Header) -> Result<Request, Malformed> {
    let mut row = unkeyed(kind, header)?;
    row.business_date = date(header.business_date, "header.business_date")?;
    row.local_time = local_time(header.local_time, row.business_date)
        .ok_or(malformed("header.local_time", "send a time as YYYYMMDDhhmmss, or 0 for noon"))?;
    Ok(row)
}

fn keyed(kind: Kind, header: &Option<v1::Header>) -> Result<Request, Malformed> {
    use v1::header::Key;
    let header = header.as_ref().ok_or(NO_HEADER)?;
    let mut row = dated(kind, header)?;
    match &header.key {
        Some(Key::Trace(trace)) if *trace != 0 => row.trace = *trace,
        Some(Key::Id(bytes)) => {
            (row.id_hi, row.id_lo) = id(bytes).ok_or(malformed("header.id", "send 16 bytes, not all of them zero"))?;
        }
        _ => return Err(malformed("header.key", "send a trace from 1, or an id of 16 bytes")),
    }
    Ok(row)
}

/// Names the card, by its number or by an item with an alias.
#[inline]
fn with_card(row: Request, desk: &mut Desk<'_>, number: &str, alias: &Option<v1::Alias>) -> Result<Request, Refusal> {
    let Some(alias) = alias else { return Ok(with_number(row, number)?) };
    if !number.is_empty() {
        return Err(malformed("alias", "leave it out, or leave `card` out: exactly one of them names the card").into());
    }
    desk.alias(row.programme(), alias)?;
    Ok(row)
}

/// The same of what a trigger may do: then its cursor names the card.
fn with_card_or_cursor(
    row: Request,
    desk: &mut Desk<'_>,
    number: &str,
    alias: &Option<v1::Alias>,
    cursor: &Option<v1::Cursor>,
) -> Result<Request, Refusal> {
    let Some(cursor) = cursor else { return with_card(row, desk, number, alias) };
    if !number.is_empty() || alias.is_some() {
        return Err(malformed("cursor", "leave it out, or leave `card` and `alias` out: it names the card").into());
    }
    desk.cursor(cursor)?;
    Ok(row)
}

fn with_number(row: Request, text: &str) -> Result<Request, Malformed> {
    let (card, card_digits) = digits(text).ok_or(malformed("card", "send 8 to 19 digits"))?;
    Ok(Request { card, card_digits, ..row })
}

/// The last valid date of a card, a hold or codes; 0 stays 0.
fn last_date(text: u32) -> Result<i32, Malformed> {
    match text {
        0 => Ok(0),
        // Day 0 would be read as none.
        date => {
            from_yyyymmdd(date).filter(|&date| date > 0).ok_or(malformed("expires", "send a date as YYYYMMDD, or 0 for none"))
        }
    }
}

/// A number of the rules.
pub fn sixteen_bits(number: u32, field: &'static str) -> Result<u16, Malformed> {
    u16::try_from(number).map_err(|_| malformed(field, "send 1 to 65535"))
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
pub fn digits(text: &str) -> Option<(u64, u8)> {
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

    /// A message's row and items, with keys.
    trait Converted: Ask {
        fn both(&self) -> Result<(Request, Vec<Item>), Refusal> {
            let mut items = Vec::new();
            let row = self.row(&Secrets::new([(1, [7; 32])]), &mut items)?;
            Ok((row, items))
        }

        fn only_row(&self) -> Result<Request, Refusal> {
            self.both().map(|(row, _)| row)
        }
    }
    impl<A: Ask> Converted for A {}

    fn purchase() -> v1::PurchaseRequest {
        v1::PurchaseRequest { header: header(), card: "0012345678".into(), amount: 500, use_points: true, ..Default::default() }
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

    fn field<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> &'static str {
        match outcome.expect_err("it is malformed") {
            Refusal::Malformed(malformed) => malformed.field,
            Refusal::NoKeys => "keys",
        }
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
        assert_eq!(purchase().only_row(), Ok(expected));
    }

    #[test]
    fn ids_are_big_endian() {
        let bytes: Vec<u8> = (0..16).collect();
        let request = purchase_with(|header| header.key = Some(v1::header::Key::Id(bytes.into())));
        let row = request.only_row().expect("well formed");
        assert_eq!((row.trace, row.id_hi, row.id_lo), (0, 0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f));
    }

    #[test]
    fn originals_are_named_by_sequence_or_key() {
        use v1::original_key::Key;
        let row = refund(v1::original::Name::Sequence(9)).only_row().expect("well formed");
        assert_eq!((row.original, row.original_date), (9, 0));
        let row = refund_by(4, Some(Key::Trace(8))).only_row().expect("well formed");
        assert_eq!((row.original_terminal, row.original_trace, row.original_date), (4, 8, DAYS));
        let row = refund_by(0, Some(Key::Id(vec![1; 16].into()))).only_row().expect("well formed");
        assert_eq!((row.original_id_hi, row.original_trace), (0x0101_0101_0101_0101, 0));
    }

    #[test]
    fn what_is_malformed_is_named() {
        use v1::header::Key;
        let cases = [
            (v1::PurchaseRequest { header: None, ..purchase() }.only_row(), "header"),
            (v1::PurchaseRequest { card: "1234567".into(), ..purchase() }.only_row(), "card"),
            (v1::PurchaseRequest { card: "12345678901234567890".into(), ..purchase() }.only_row(), "card"),
            (v1::PurchaseRequest { card: "+12345678".into(), ..purchase() }.only_row(), "card"),
            (purchase_with(|header| header.programme = 65_536).only_row(), "header.programme"),
            (purchase_with(|header| header.terminal = 0).only_row(), "header.terminal"),
            (purchase_with(|header| header.channel = 256).only_row(), "header.channel"),
            (purchase_with(|header| header.business_date = 20230229).only_row(), "header.business_date"),
            (purchase_with(|header| header.local_time = 20240229240000).only_row(), "header.local_time"),
            (purchase_with(|header| header.local_time = u64::MAX).only_row(), "header.local_time"),
            (purchase_with(|header| header.key = None).only_row(), "header.key"),
            (purchase_with(|header| header.key = Some(Key::Trace(0))).only_row(), "header.key"),
            (purchase_with(|header| header.key = Some(Key::Id(vec![1; 15].into()))).only_row(), "header.id"),
            (purchase_with(|header| header.key = Some(Key::Id(vec![0; 16].into()))).only_row(), "header.id"),
            (v1::GetBalanceRequest { header: header(), card: "12345678".into(), alias: None }.only_row(), "header.key"),
            (v1::SetStatusRequest { header: header(), card: "12345678".into(), status: 9, alias: None }.only_row(), "status"),
            (v1::Transaction { request: None }.only_row(), "request"),
        ];
        for (outcome, expected) in cases {
            assert_eq!(field(outcome), expected);
        }
    }

    #[test]
    fn a_malformed_issue_is_named() {
        let issue =
            |product, expires| v1::IssueRequest { header: header(), card: "12345678".into(), product, expires, inactive: false };
        assert_eq!(issue(1, 0).only_row().map(|row| (row.product, row.expires)), Ok((1, 0)));
        assert_eq!(issue(1, DATE).only_row().map(|row| row.expires), Ok(DAYS));
        assert_eq!(field(issue(65_536, 0).only_row()), "product");
        assert_eq!(field(issue(1, 20240230).only_row()), "expires");
        assert_eq!(field(issue(1, 19700101).only_row()), "expires");
    }

    #[test]
    fn a_malformed_original_is_named() {
        use v1::original_key::Key;
        let cases = [
            (v1::RefundRequest { original: None, ..refund_by(3, None) }.only_row(), "original"),
            (refund(v1::original::Name::Sequence(0)).only_row(), "original"),
            (refund_by(3, Some(Key::Trace(7))).only_row(), "original"),
            (refund_by(3, None).only_row(), "original.key"),
            (refund_by(0, Some(Key::Trace(7))).only_row(), "original.key.terminal"),
            (refund_by(3, Some(Key::Id(vec![1; 16].into()))).only_row(), "original.key.terminal"),
            (refund_by(0, Some(Key::Id(vec![1; 17].into()))).only_row(), "original.key.id"),
        ];
        for (outcome, expected) in cases {
            assert_eq!(field(outcome), expected);
        }
    }

    fn further(card: &str, pin: &str) -> v1::FurtherCard {
        v1::FurtherCard { card: card.into(), pin: pin.into() }
    }

    fn phone(value: &str) -> Option<v1::Alias> {
        Some(v1::Alias { kind: 1, value: value.into() })
    }

    fn kinds(items: &[Item]) -> Vec<ItemKind> {
        items.iter().map(Item::what).collect()
    }

    /// A purchase with everything that one may have.
    fn whole() -> v1::PurchaseRequest {
        let code = crate::texts::codes(&Secrets::new([(1, [7; 32])]), 1, 17, 5, 1).unwrap().remove(0);
        v1::PurchaseRequest {
            accept_partial: true,
            coupons: vec![v1::Coupon { unit: 16, count: 2 }],
            codes: vec![code.to_lowercase()],
            passes: vec![v1::Pass { unit: 18, visits: 1 }],
            cards: vec![further("20000001", "004321"), further("20000002", "")],
            pin: "0123".into(),
            cash: 77,
            staff: "90000001".into(),
            ..purchase()
        }
    }

    #[test]
    fn a_pin_follows_its_card() {
        use ItemKind::*;
        let (row, items) = whole().both().unwrap();
        assert_eq!((row.flags, row.items), (USE_POINTS | ACCEPT_PARTIAL, 9));
        assert_eq!(kinds(&items), [Pin, Coupon, Code, Pass, Card, Pin, Card, Cash, Staff]);
        assert_eq!((items[0].digits, items[0].low), (4, 123));
        assert_eq!((items[1].unit, items[1].amount), (16, 2));
        let mac = Secrets::new([(1, [7; 32])]).code(1, 17, 5);
        assert_eq!((items[2].unit, items[2].low, Some(items[2].high)), (17, 5, mac));
        assert_eq!((items[5].digits, items[5].low), (6, 4321));
        assert_eq!((items[7].amount, items[8].low), (77, 90_000_001));
    }

    #[test]
    fn a_plain_purchase_has_no_items() {
        let (row, items) = purchase().both().unwrap();
        assert_eq!((row.items, items.capacity()), (0, 0));
    }

    #[test]
    fn a_card_has_one_name() {
        let named =
            |card: &str, alias| v1::TopUpRequest { header: header(), card: card.into(), amount: 1, alias, pin: String::new() };
        let (row, items) = named("", phone("+86 138-0000")).both().unwrap();
        assert_eq!((row.card_digits, kinds(&items)), (0, vec![ItemKind::Alias]));
        let same = named("", phone(" +861380000")).both().unwrap().1;
        assert_eq!(items, same);
        let hash = Secrets::new([(1, [7; 32])]).alias(1, 1, "+861380000").unwrap();
        assert_eq!((items[0].high, items[0].low), ((hash >> 64) as u64, hash as u64));
        assert_eq!(field(named("", None).only_row()), "card");
        assert_eq!(field(named("12345678", phone("1")).only_row()), "alias");
        assert_eq!(field(named("", phone("x")).only_row()), "alias.value");
        let strange = Some(v1::Alias { kind: 256, value: "1".into() });
        assert_eq!(field(named("", strange).only_row()), "alias.kind");
    }

    #[test]
    fn what_needs_keys_is_told_apart() {
        let row = |request: &v1::PurchaseRequest| request.row(&Secrets::default(), &mut Vec::new());
        assert_eq!(row(&purchase()).map(|row| row.items), Ok(0));
        assert_eq!(row(&whole()), Err(Refusal::NoKeys));
        let of = |pin: &str| v1::PurchaseRequest { pin: pin.into(), ..purchase() };
        assert_eq!(row(&of("1234")), Err(Refusal::NoKeys));
        assert_eq!(field(row(&of("12x4"))), "pin");
        assert_eq!(row(&v1::PurchaseRequest { card: String::new(), alias: phone("1"), ..purchase() }), Err(Refusal::NoKeys));
        assert_eq!(Status::from(Refusal::NoKeys).code(), tonic::Code::FailedPrecondition);
    }

    #[test]
    fn no_error_tells_a_pin() {
        for pin in ["987", "9876543210987", "98765x"] {
            let request = v1::PurchaseRequest { pin: pin.into(), ..purchase() };
            let status = Status::from(request.only_row().unwrap_err());
            assert!(!format!("{status:?}").contains("987"), "{status:?}");
        }
    }

    #[test]
    fn a_malformed_item_is_named() {
        let cases = [
            (v1::PurchaseRequest { pin: "123".into(), ..whole() }, "pin"),
            (v1::PurchaseRequest { coupons: vec![v1::Coupon { unit: 15, count: 1 }], ..whole() }, "coupons.unit"),
            (v1::PurchaseRequest { coupons: vec![v1::Coupon { unit: 65_536, count: 1 }], ..whole() }, "coupons.unit"),
            (v1::PurchaseRequest { coupons: vec![v1::Coupon { unit: 16, count: 0 }], ..whole() }, "coupons.count"),
            (v1::PurchaseRequest { passes: vec![v1::Pass { unit: 3, visits: 1 }], ..whole() }, "passes.unit"),
            (v1::PurchaseRequest { passes: vec![v1::Pass { unit: 16, visits: 101 }], ..whole() }, "passes.visits"),
            (v1::PurchaseRequest { codes: vec!["12345".into()], ..whole() }, "codes"),
            (v1::PurchaseRequest { cards: vec![further("1", "")], ..whole() }, "cards.card"),
            (v1::PurchaseRequest { cards: vec![further("12345678", "1")], ..whole() }, "cards.pin"),
            (v1::PurchaseRequest { cash: -1, ..whole() }, "cash"),
            (v1::PurchaseRequest { cash: 100_000_000_000_001, ..whole() }, "cash"),
            (v1::PurchaseRequest { staff: "x".into(), ..whole() }, "staff"),
            (v1::PurchaseRequest { cards: vec![further("12345678", ""); 65], ..whole() }, "items"),
            (v1::PurchaseRequest { cards: vec![further("12345678", ""); 70_000], ..whole() }, "items"),
        ];
        for (request, expected) in cases {
            assert_eq!(field(request.only_row()), expected);
        }
    }

    #[test]
    fn every_new_kind_becomes_a_row() {
        use ItemKind::*;
        let card = || "12345678".to_owned();
        let original = || Some(v1::Original { name: Some(v1::original::Name::Sequence(9)) });
        let (row, _) =
            v1::IssueRequest { header: header(), card: card(), product: 1, expires: 0, inactive: true }.both().unwrap();
        assert_eq!(row.status, 5);
        let grant =
            v1::GrantRequest { header: header(), card: card(), bundle: 7, count: 2, paid_by_card: true, ..Default::default() };
        let (row, items) = grant.both().unwrap();
        assert_eq!((row.kind, row.product, row.amount, row.flags, items.len()), (9, 7, 2, FROM_CARD, 0));
        let hold = v1::AuthoriseRequest {
            header: header(),
            card: card(),
            amount: 5,
            expires: DATE,
            staff: card(),
            ..Default::default()
        };
        let (row, items) = hold.both().unwrap();
        assert_eq!((row.kind, row.amount, row.expires, kinds(&items)), (10, 5, DAYS, vec![Staff]));
        let (row, _) = v1::CaptureRequest { header: header(), original: original(), amount: 5, r#final: true }.both().unwrap();
        assert_eq!((row.kind, row.original, row.flags), (11, 9, FINAL));
        assert_eq!(v1::VoidRequest { header: header(), original: original() }.both().unwrap().0.kind, 12);
        let lost = v1::CardStatus::Lost.into();
        let replace = v1::ReplaceRequest { header: header(), card: card(), new_card: "87654321".into(), old: lost, alias: None };
        let (row, items) = replace.both().unwrap();
        assert_eq!((row.kind, row.status, kinds(&items)), (13, 3, vec![Number]));
        assert_eq!(field(v1::ReplaceRequest { old: 1, ..replace }.only_row()), "old");
        let source = Some(further("87654321", "1234"));
        let transfer = v1::TransferRequest { header: header(), card: card(), source, purse: 3, amount: 4, ..Default::default() };
        let (row, items) = transfer.both().unwrap();
        assert_eq!((row.kind, row.product, row.amount, kinds(&items)), (14, 3, 4, vec![Card, Pin]));
        assert_eq!(field(v1::TransferRequest { source: None, ..transfer }.only_row()), "source");
        let holder = v1::SetHolderRequest { header: header(), card: card(), member: 8, real_name_known: true, alias: None };
        let (row, items) = holder.both().unwrap();
        assert_eq!((row.kind, items[0].low, items[0].amount), (15, 8, 1));
        assert_eq!(field(v1::SetHolderRequest { member: 0, ..holder }.only_row()), "real_name_known");
    }

    #[test]
    fn names_pins_codes_and_bulk_become_rows() {
        use ItemKind::*;
        let card = || "12345678".to_owned();
        let bound_to = Some(further("87654321", "1234"));
        let bind = v1::BindAliasRequest {
            header: header(),
            card: card(),
            alias: phone("1"),
            remove: true,
            bound_to,
            pin: "4321".into(),
        };
        let (row, items) = bind.both().unwrap();
        assert_eq!((row.kind, row.flags, kinds(&items)), (16, UNBIND, vec![Pin, Alias, Card, Pin]));
        assert_eq!(field(v1::BindAliasRequest { alias: None, ..bind }.only_row()), "alias");
        let set = v1::SetPinRequest {
            header: header(),
            card: card(),
            new_pin: "1111".into(),
            pin: "2222".into(),
            ..Default::default()
        };
        let (row, items) = set.both().unwrap();
        assert_eq!((row.kind, row.flags, kinds(&items)), (17, 0, vec![Pin, NewPin]));
        let unlock = v1::SetPinRequest { new_pin: String::new(), pin: String::new(), by_operator: true, ..set.clone() };
        assert_eq!(unlock.both().map(|(row, items)| (row.flags, items.len())), Ok((BY_OPERATOR, 0)));
        assert_eq!(field(v1::SetPinRequest { by_operator: false, ..unlock }.only_row()), "new_pin");
        let close = v1::CloseCardRequest { header: header(), card: card(), alias: None };
        assert_eq!(close.both().unwrap().0.kind, 18);
        let codes = v1::IssueCodesRequest { header: header(), unit: 16, count: 10, expires: DATE, with_texts: false };
        let (row, _) = codes.both().unwrap();
        assert_eq!((row.kind, row.product, row.amount, row.expires), (19, 16, 10, DAYS));
        let one = v1::BulkTopUpCard { card: card(), amount: 5 };
        let bulk = |count| v1::BulkTopUpRequest { header: header(), amount: 5, cards: vec![one.clone(); count] };
        let (row, items) = bulk(1_000).both().unwrap();
        assert_eq!((row.kind, row.items, items[999].amount), (20, 1_000, 5));
        assert_eq!(field(bulk(0).only_row()), "cards");
        assert_eq!(field(bulk(1_001).only_row()), "cards");
    }

    #[test]
    fn a_cursor_names_the_card_of_a_grant_or_a_tier() {
        let cursor = |trigger, sequence| Some(v1::Cursor { trigger, sequence, card_index: 3 });
        let grant = |cursor| v1::GrantRequest { header: header(), bundle: 7, count: 1, cursor, ..Default::default() };
        let tier = |cursor| v1::SetTierRequest { header: header(), tier: 5, cursor, ..Default::default() };
        let both = [(grant(cursor(2, 9)).both(), 9, 7), (tier(cursor(2, 9)).both(), 21, 5)];
        for (outcome, kind, product) in both {
            let (row, items) = outcome.unwrap();
            assert_eq!((row.kind, row.product, row.card_digits), (kind, product, 0));
            assert_eq!(kinds(&items), [ItemKind::Cursor]);
            assert_eq!((items[0].unit, items[0].amount, items[0].low), (2, 9, 3));
        }
        for wrong in [cursor(0, 9), cursor(65_536, 9), cursor(2, 0), cursor(2, u64::MAX)] {
            assert!(field(grant(wrong).only_row()).starts_with("cursor"));
            assert!(field(tier(wrong).only_row()).starts_with("cursor"));
        }
        let named = v1::SetTierRequest { card: "12345678".into(), ..tier(cursor(2, 9)) };
        assert_eq!(field(named.only_row()), "cursor");
        assert_eq!(field(v1::SetTierRequest { alias: phone("1"), ..tier(cursor(2, 9)) }.only_row()), "cursor");
        assert_eq!(field(tier(None).only_row()), "card");
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
