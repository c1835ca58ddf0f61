//! The keys that are kept outside the data directory, and what is made with them: PINs, aliases and coupon codes.
//!
//! Everything is HMAC-SHA-256 with a word of its own for each use, so that one key serves them all. A key has a number: new PINs and codes are made with
//! the one of the greatest number, older ones are checked with the one that they were made with; aliases are hashed with that of the least. Nothing
//! here is ever printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::journal::entry::PinHash;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

const FOR_PIN: &[u8] = b"onecard pin";
const FOR_ALIAS: &[u8] = b"onecard alias";
const FOR_CODE: &[u8] = b"onecard code";

/// The keys, by number. A clone is a handle of the same ones.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<u32, Zeroizing<[u8; KEY_BYTES]>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} keys", self.0.len())
    }
}

impl Secrets {
    /// These keys; a number is given once.
    pub fn new(keys: impl IntoIterator<Item = (u32, [u8; KEY_BYTES])>) -> Secrets {
        Secrets(Arc::new(keys.into_iter().map(|(number, key)| (number, Zeroizing::new(key))).collect()))
    }

    fn mac(key: &[u8; KEY_BYTES], parts: [&[u8]; 4]) -> u128 {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
        for part in parts {
            mac.update(&(part.len() as u32).to_le_bytes());
            mac.update(part);
        }
        let bytes = mac.finalize().into_bytes();
        u128::from_be_bytes(*bytes.first_chunk().expect("a hash has 32 bytes"))
    }

    fn newest(&self) -> Option<(u32, &[u8; KEY_BYTES])> {
        self.0.last_key_value().map(|(&number, key)| (number, &**key))
    }

    /// A PIN of so many digits for a new [`PinHash`] of this wallet; None if there is no key.
    pub fn new_pin(&self, wallet: u32, salt: u64, digits: u8, pin: u64) -> Option<PinHash> {
        let (key, _) = self.newest()?;
        Some(PinHash { key, salt, hash: self.pin(key, wallet, salt, digits, pin)? })
    }

    /// The hash of a PIN under the key with this number.
    pub fn pin(&self, key: u32, wallet: u32, salt: u64, digits: u8, pin: u64) -> Option<u128> {
        let found = self.0.get(&key)?;
        let mut text = Zeroizing::new([0; 9]);
        text[0] = digits;
        text[1..].copy_from_slice(&pin.to_le_bytes());
        Some(Self::mac(found, [FOR_PIN, &wallet.to_le_bytes(), &salt.to_le_bytes(), &*text]))
    }

    /// What an alias is known by: the same for the same programme, kind and text. None if there is no key.
    pub fn alias(&self, programme: u16, kind: u8, text: &str) -> Option<u128> {
        let (_, key) = self.0.first_key_value()?;
        Some(Self::mac(key, [FOR_ALIAS, &programme.to_le_bytes(), &[kind], text.as_bytes()]))
    }

    /// The MAC of a coupon's code; None if there is no key.
    pub fn code(&self, programme: u16, unit: u16, serial: u64) -> Option<u64> {
        self.newest().map(|(_, key)| Self::code_with(key, programme, unit, serial))
    }

    fn code_with(key: &[u8; KEY_BYTES], programme: u16, unit: u16, serial: u64) -> u64 {
        (Self::mac(key, [FOR_CODE, &programme.to_le_bytes(), &unit.to_le_bytes(), &serial.to_le_bytes()]) >> 64) as u64
    }

    /// True if a code was made with one of the keys.
    pub fn is_code(&self, programme: u16, unit: u16, serial: u64, mac: u64) -> bool {
        let right = self.0.values().map(|key| Self::code_with(key, programme, unit, serial).ct_eq(&mac));
        right.fold(0.into(), |any: subtle::Choice, right| any | right).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_wallet_and_salt_has_its_own_hash() {
        let secrets = Secrets::new([(1, [1; 32]), (2, [2; 32])]);
        let pin = secrets.new_pin(7, 9, 4, 1234).unwrap();
        assert_eq!((pin.key, secrets.pin(2, 7, 9, 4, 1234)), (2, Some(pin.hash)));
        let others = [(1, 7, 9, 4, 1234), (2, 8, 9, 4, 1234), (2, 7, 8, 4, 1234), (2, 7, 9, 5, 1234), (2, 7, 9, 4, 1235)];
        for (key, wallet, salt, digits, text) in others {
            assert_ne!(secrets.pin(key, wallet, salt, digits, text), Some(pin.hash));
        }
        assert_eq!((secrets.pin(3, 7, 9, 4, 1234), Secrets::default().alias(1, 1, "x")), (None, None));
        assert_ne!(secrets.alias(1, 1, "13800000000"), secrets.alias(1, 2, "13800000000"));
    }

    #[test]
    fn codes_of_an_older_key_are_good_and_forged_ones_are_not() {
        let old = Secrets::new([(1, [1; 32])]);
        let rotated = Secrets::new([(1, [1; 32]), (2, [2; 32])]);
        let mac = old.code(1, 16, 5).unwrap();
        assert!(rotated.is_code(1, 16, 5, mac) && rotated.code(1, 16, 5) != Some(mac));
        assert!(!rotated.is_code(1, 16, 6, mac) && !rotated.is_code(1, 17, 5, mac) && !rotated.is_code(2, 16, 5, mac));
        assert!(!Secrets::default().is_code(1, 16, 5, mac));
        assert_eq!(format!("{rotated:?}"), "2 keys");
    }
}
