//! Texts that people write and print: coupon codes, and the values of aliases.
//!
//! Invariants: a code has one canonical text, 26 characters of Crockford's base 32 (no I, L, O or U), and reading gives back what was
//! written; two ways of writing the same alias are one alias. Nothing else in the front, or in Python, knows either form.

use std::borrow::Cow;

use onecard_core::Secrets;

/// Characters of a code: one of the version, 25 of 5 bits each.
pub const CODE_CHARS: usize = 26;
/// Serials that a code can say: 45 bits.
const SERIAL_MAX: u64 = (1 << 45) - 1;
const VERSION: u8 = b'1';
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Kind of the aliases that are phone numbers.
pub const PHONE: u8 = 1;
/// Longest value of an alias, in bytes.
const ALIAS_BYTES_MAX: usize = 256;

/// A coupon code: unit, serial and the MAC that proves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CouponCode {
    /// Unit of the rules.
    pub unit: u16,
    /// From 1.
    pub serial: u64,
    /// First 64 bits of the HMAC.
    pub mac: u64,
}

impl CouponCode {
    /// Its text; None if the serial is beyond what a text can say.
    pub fn text(&self) -> Option<String> {
        if self.serial > SERIAL_MAX {
            return None;
        }
        // Of 125 bits, the highest first: 16 of the unit, 45 of the serial, 64 of the MAC.
        let bits = u128::from(self.unit) << 109 | u128::from(self.serial) << 64 | u128::from(self.mac);
        let digit = |at: usize| char::from(DIGITS[(bits >> (5 * at) & 31) as usize]);
        Some(std::iter::once(char::from(VERSION)).chain((0..CODE_CHARS - 1).rev().map(digit)).collect())
    }

    /// The code of a text as people write it: either case, O for 0, I and L for 1; spaces and dashes do not count.
    pub fn parse(text: &str) -> Option<CouponCode> {
        let mut written = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-'));
        if written.next().map(canonical) != Some(VERSION) {
            return None;
        }
        let (mut bits, mut count) = (0u128, 0);
        for byte in written {
            let byte = canonical(byte);
            let digit = DIGITS.iter().position(|&digit| digit == byte)?;
            count += 1;
            if count == CODE_CHARS {
                return None;
            }
            bits = bits << 5 | digit as u128;
        }
        let whole = count == CODE_CHARS - 1;
        whole.then_some(CouponCode { unit: (bits >> 109) as u16, serial: (bits >> 64) as u64 & SERIAL_MAX, mac: bits as u64 })
    }
}

/// The digit that a character stands for.
fn canonical(byte: u8) -> u8 {
    match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        upper => upper,
    }
}

/// Why there are no texts of codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoText {
    /// The engine has no keys.
    NoKeys,
    /// A serial is beyond what a text can say.
    Beyond,
}

/// The texts of so many codes of a unit, from this serial on, made with the newest key.
pub fn codes(secrets: &Secrets, programme: u16, unit: u16, first: u64, count: u32) -> Result<Vec<String>, NoText> {
    let text = |serial: u64| {
        let mac = secrets.code(programme, unit, serial).ok_or(NoText::NoKeys)?;
        CouponCode { unit, serial, mac }.text().ok_or(NoText::Beyond)
    };
    (0..u64::from(count)).map(|at| text(first.saturating_add(at))).collect()
}

/// The value of an alias as it is hashed; None if it is no value of this kind.
///
/// Of a phone number the digits and a leading + are left; spaces, dashes, dots, slashes and parentheses between them are dropped, anything
/// else makes it no phone number. Other kinds are trimmed.
pub fn alias_value(kind: u8, value: &str) -> Option<Cow<'_, str>> {
    let trimmed = value.trim();
    if trimmed.is_empty() || trimmed.len() > ALIAS_BYTES_MAX {
        return None;
    }
    if kind != PHONE {
        return Some(Cow::Borrowed(trimmed));
    }
    let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return (!digits.is_empty()).then_some(Cow::Borrowed(trimmed));
    }
    let mut phone = String::with_capacity(trimmed.len());
    phone.extend(trimmed.starts_with('+').then_some('+'));
    for character in digits.chars() {
        match character {
            '0'..='9' => phone.push(character),
            ' ' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    phone.ends_with(|last: char| last.is_ascii_digit()).then_some(Cow::Owned(phone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_has_one_text() {
        let code = CouponCode { unit: 20, serial: 7, mac: 0x0123_4567_89ab_cdef };
        let text = code.text().unwrap();
        assert_eq!(text, "100A000000003G28T5CY4TQKFF");
        assert_eq!(CouponCode { serial: SERIAL_MAX + 1, ..code }.text(), None);
    }

    #[test]
    fn what_people_write_is_read() {
        let code = CouponCode { unit: u16::MAX, serial: 1, mac: 0x0842_1084_2108_4210 };
        let text = code.text().unwrap();
        let written = text.to_lowercase().replace('0', "o").replace('1', "l");
        let grouped = format!("{} {}-{}", &written[..5], &written[5..15], &written[15..]);
        assert_eq!(CouponCode::parse(&grouped), Some(code));
        for wrong in ["", "1", &text[1..], &text[..25], &format!("{text}0"), &text.replace('1', "2"), &text.replace('0', "U")] {
            assert_eq!(CouponCode::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn texts_follow_their_serials() {
        let secrets = Secrets::new([(1, [1; 32])]);
        let texts = codes(&secrets, 1, 16, 9, 3).unwrap();
        let read: Vec<_> = texts.iter().map(|text| CouponCode::parse(text).unwrap()).collect();
        assert_eq!(read.iter().map(|code| code.serial).collect::<Vec<_>>(), [9, 10, 11]);
        assert!(read.iter().all(|code| secrets.is_code(1, code.unit, code.serial, code.mac)));
        assert_eq!(codes(&Secrets::default(), 1, 16, 9, 3), Err(NoText::NoKeys));
        assert_eq!(codes(&secrets, 1, 16, SERIAL_MAX, 2), Err(NoText::Beyond));
    }

    #[test]
    fn a_phone_number_is_its_digits() {
        let value = |text| alias_value(PHONE, text).map(Cow::into_owned);
        for same in ["13800000000", " 138 0000 0000 ", "138-0000-0000", "(138) 0000.0000"] {
            assert_eq!(value(same).as_deref(), Some("13800000000"), "{same}");
        }
        assert_eq!(value("+86 138 0000 0000").as_deref(), Some("+8613800000000"));
        for wrong in ["", "  ", "+", "abc", "138x", "1+2", "１３８", "()-", &"1".repeat(257)] {
            assert_eq!(value(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn other_aliases_are_trimmed() {
        assert_eq!(alias_value(2, " wx:Ab c\t").as_deref(), Some("wx:Ab c"));
        assert_eq!(alias_value(2, " \n"), None);
    }

    proptest! {
        #[test]
        fn every_code_is_read_back(unit: u16, serial in 0..=SERIAL_MAX, mac: u64) {
            let code = CouponCode { unit, serial, mac };
            prop_assert_eq!(CouponCode::parse(&code.text().unwrap()), Some(code));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,40}", kind: u8) {
            let _ = (CouponCode::parse(&text), alias_value(kind, &text));
        }
    }
}
