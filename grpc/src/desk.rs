//! The desk: where the items of a request are made from what its message says (`docs/card.md`).
//!
//! Invariants: items stand in the order that the core reads them in - the own PIN before the further cards, each of these followed by its
//! own PIN. An alias leaves here as a keyed hash. No error has what was sent.

use onecard_core::details::{BULK_MAX, GOODS_MAX, TAKEN_MAX};
use onecard_core::units::{AMOUNT_MAX, UNIT_MIN};
use onecard_core::{Item, ItemKind, Secrets};

use crate::rows::{Refusal, digits, malformed, sixteen_bits};
use crate::texts::{CouponCode, alias_value};
use crate::v1;

/// Puts the items of one request together.
pub struct Desk<'a> {
    secrets: &'a Secrets,
    items: &'a mut Vec<Item>,
}

impl<'a> Desk<'a> {
    /// Over the keys of the engine, into this list.
    pub fn new(secrets: &'a Secrets, items: &'a mut Vec<Item>) -> Desk<'a> {
        Desk { secrets, items }
    }

    fn put(&mut self, kind: ItemKind, item: Item) {
        self.items.push(Item { kind: kind as u8, ..item });
    }

    /// An alias: what names the request's card, or what is bound.
    pub fn alias(&mut self, programme: u16, alias: &v1::Alias) -> Result<(), Refusal> {
        let kind = u8::try_from(alias.kind).ok().filter(|&kind| kind != 0);
        let kind = kind.ok_or(malformed("alias.kind", "send 1 (a phone number) to 255"))?;
        let mend = "send 1 to 256 bytes; a phone number has digits, and perhaps a leading +";
        let value = alias_value(kind, &alias.value).ok_or(malformed("alias.value", mend))?;
        let hash = self.secrets.alias(programme, kind, &value).ok_or(Refusal::NoKeys)?;
        self.put(ItemKind::Alias, Item { digits: kind, high: (hash >> 64) as u64, low: hash as u64, ..Item::default() });
        Ok(())
    }

    /// Where a trigger moves to; it names the request's card.
    pub fn cursor(&mut self, cursor: &v1::Cursor) -> Result<(), Refusal> {
        let unit = sixteen_bits(cursor.trigger, "cursor.trigger")?;
        let amount = i64::try_from(cursor.sequence).unwrap_or(0);
        if unit == 0 || amount == 0 {
            return Err(malformed("cursor", "send a trigger of 1 to 65535, and the sequence of an entry").into());
        }
        self.put(ItemKind::Cursor, Item { unit, amount, low: cursor.card_index.into(), ..Item::default() });
        Ok(())
    }

    /// The PIN of the card that was put last, else of the request's; nothing if the text is empty.
    #[inline]
    pub fn pin(&mut self, text: &str, field: &'static str) -> Result<(), Refusal> {
        if text.is_empty() { Ok(()) } else { self.put_pin(ItemKind::Pin, text, field) }
    }

    /// A PIN to be set; nothing if the text is empty.
    pub fn new_pin(&mut self, text: &str) -> Result<(), Refusal> {
        if text.is_empty() { Ok(()) } else { self.put_pin(ItemKind::NewPin, text, "new_pin") }
    }

    fn put_pin(&mut self, kind: ItemKind, text: &str, field: &'static str) -> Result<(), Refusal> {
        if !(4..=12).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed(field, "send 4 to 12 digits").into());
        }
        self.need_keys()?;
        let low = text.bytes().fold(0, |value, byte| value * 10 + u64::from(byte - b'0'));
        self.put(kind, Item { digits: text.len() as u8, low, ..Item::default() });
        Ok(())
    }

    #[inline]
    pub fn coupons(&mut self, coupons: &[v1::Coupon]) -> Result<(), Refusal> {
        for coupon in coupons {
            let item = taken(coupon.unit, coupon.count, "coupons.unit", "coupons.count")?;
            self.put(ItemKind::Coupon, item);
        }
        Ok(())
    }

    #[inline]
    pub fn passes(&mut self, passes: &[v1::Pass]) -> Result<(), Refusal> {
        for pass in passes {
            let item = taken(pass.unit, pass.visits, "passes.unit", "passes.visits")?;
            self.put(ItemKind::Pass, item);
        }
        Ok(())
    }

    #[inline]
    pub fn codes(&mut self, codes: &[impl AsRef<str>]) -> Result<(), Refusal> {
        if !codes.is_empty() {
            self.need_keys()?;
        }
        for text in codes {
            let mend = "send the 26 letters and digits of a coupon code";
            let code = CouponCode::parse(text.as_ref()).filter(|code| code.unit >= UNIT_MIN);
            let CouponCode { unit, serial, mac } = code.ok_or(malformed("codes", mend))?;
            self.put(ItemKind::Code, Item { unit, high: mac, low: serial, ..Item::default() });
        }
        Ok(())
    }

    #[inline]
    pub fn cards(&mut self, cards: &[v1::FurtherCard]) -> Result<(), Refusal> {
        cards.iter().try_for_each(|card| self.further(card, "cards.card", "cards.pin"))
    }

    /// A further card, and its PIN.
    pub fn further(&mut self, further: &v1::FurtherCard, card: &'static str, pin: &'static str) -> Result<(), Refusal> {
        self.number(ItemKind::Card, &further.card, card)?;
        self.pin(&further.pin, pin)
    }

    /// The cards of a bulk top-up, each with what it gets.
    pub fn top_ups(&mut self, cards: &[v1::BulkTopUpCard]) -> Result<(), Refusal> {
        if !(1..=BULK_MAX).contains(&cards.len()) {
            return Err(malformed("cards", "send 1 to 1,000").into());
        }
        self.items.reserve_exact(cards.len());
        for card in cards {
            let (low, digits) = digits(&card.card).ok_or(malformed("cards.card", "send 8 to 19 digits"))?;
            self.put(ItemKind::Card, Item { digits, low, amount: card.amount, ..Item::default() });
        }
        Ok(())
    }

    /// A card number, of whatever kind of item.
    pub fn number(&mut self, kind: ItemKind, text: &str, field: &'static str) -> Result<(), Refusal> {
        let (low, digits) = digits(text).ok_or(malformed(field, "send 8 to 19 digits"))?;
        self.put(kind, Item { digits, low, ..Item::default() });
        Ok(())
    }

    /// The lines of a basket.
    #[inline]
    pub fn lines(&mut self, lines: &[v1::Line]) -> Result<(), Refusal> {
        for line in lines {
            if !(0..=AMOUNT_MAX).contains(&line.amount) {
                return Err(malformed("lines.amount", "send 0 to 10^14").into());
            }
            if line.goods > GOODS_MAX {
                return Err(malformed("lines.goods", "send a number below 2^63").into());
            }
            let unit = sixteen_bits(line.category, "lines.category")?;
            self.put(ItemKind::Line, Item { unit, amount: line.amount, low: line.goods, ..Item::default() });
        }
        Ok(())
    }

    /// What may be paid in cash; 0: nothing.
    #[inline]
    pub fn cash(&mut self, amount: i64) -> Result<(), Refusal> {
        match amount {
            0 => {}
            1..=AMOUNT_MAX => self.put(ItemKind::Cash, Item { amount, ..Item::default() }),
            _ => return Err(malformed("cash", "send 1 to 10^14, or 0 for nothing").into()),
        }
        Ok(())
    }

    /// The staff card of who sells; nothing if the text is empty.
    #[inline]
    pub fn staff(&mut self, text: &str) -> Result<(), Refusal> {
        if text.is_empty() { Ok(()) } else { self.number(ItemKind::Staff, text, "staff") }
    }

    /// Who holds a card.
    pub fn member(&mut self, id: u64, real_name_known: bool) -> Result<(), Refusal> {
        if id == 0 && real_name_known {
            return Err(malformed("real_name_known", "leave it out: nobody has no name").into());
        }
        self.put(ItemKind::Member, Item { low: id, amount: real_name_known.into(), ..Item::default() });
        Ok(())
    }

    /// What is asked without keys would be answered as if it were wrong.
    fn need_keys(&self) -> Result<(), Refusal> {
        self.secrets.code(1, UNIT_MIN, 0).map(drop).ok_or(Refusal::NoKeys)
    }
}

/// So many of a unit.
fn taken(unit: u32, count: u32, unit_field: &'static str, count_field: &'static str) -> Result<Item, Refusal> {
    let unit = sixteen_bits(unit, unit_field)?;
    if unit < UNIT_MIN {
        return Err(malformed(unit_field, "send a unit of the rules, 16 to 65535").into());
    }
    if !(1..=TAKEN_MAX).contains(&i64::from(count)) {
        return Err(malformed(count_field, "send 1 to 100").into());
    }
    Ok(Item { unit, amount: count.into(), ..Item::default() })
}
