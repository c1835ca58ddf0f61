//! A chunk of cards as the checkpoint keeps it: columns of numbers, each as narrow as the chunk allows.
//!
//! The first eight bytes are a checksum of the rest, the next four the number of cards. A column is its width in bytes
//! (0 to 8), its least number (eight bytes), and of each card what it has above the least, in that width: a column that is the same
//! in all cards takes nine bytes. Everything is little-endian. Decoding trusts nothing: damaged bytes are None, never a
//! panic, and what it gives is within the bounds of its field.

use std::ops::RangeBounds;

use crate::cards::{Card, CardRecord, Points, TEN_TO, shorter_numbers};
use crate::table::mix;
use crate::units::PURSE_MAX;

/// Cards that are decoded together: their records stay in the nearest cache.
const PART: usize = 128;
/// Checksum and number of cards.
const HEAD: usize = 12;
/// Width and least number of a column.
const COLUMN_HEAD: usize = 9;
/// How many card numbers there are.
const NUMBERS: u64 = shorter_numbers(19) + TEN_TO[19];

/// Does something with each column.
trait Walk {
    /// `set` says false if the number cannot be the field's.
    fn column(&mut self, get: impl Fn(&CardRecord) -> i64, set: impl Fn(&mut CardRecord, i64) -> bool);
}

/// The columns, in the order in which they lie.
#[inline]
fn columns(walk: &mut impl Walk) {
    walk.column(|of| of.card.number as i64, |of, number| put(&mut of.card.number, number as u64, ..NUMBERS));
    walk.column(|of| of.card.principal, |of, number| put(&mut of.card.principal, number, 0..=PURSE_MAX));
    walk.column(|of| of.card.bonus, |of, number| put(&mut of.card.bonus, number, 0..=PURSE_MAX));
    walk.column(|of| of.card.shortfall_money, |of, number| put(&mut of.card.shortfall_money, number, -PURSE_MAX..=0));
    walk.column(|of| of.card.shortfall_points, |of, number| put(&mut of.card.shortfall_points, number, -PURSE_MAX..=0));
    walk.column(|of| of.card.last as i64, |of, number| put(&mut of.card.last, number as u64, ..));
    walk.column(|of| of.card.expires.into(), |of, number| put(&mut of.card.expires, number, ..));
    walk.column(|of| of.card.product.into(), |of, number| put(&mut of.card.product, number, ..));
    walk.column(|of| of.card.programme.into(), |of, number| put(&mut of.card.programme, number, ..));
    walk.column(|of| of.card.merchant.into(), |of, number| put(&mut of.card.merchant, number, ..));
    walk.column(|of| of.card.status.into(), |of, number| put(&mut of.card.status, number, 1..=6));
    walk.column(|of| of.card.bought.into(), |of, number| put(&mut of.card.bought, number, 0..=1));
    walk.column(|of| of.points.balance, |of, number| put(&mut of.points.balance, number, 0..=PURSE_MAX));
    walk.column(|of| of.points.carry as i64, |of, number| put(&mut of.points.carry, number as u64, ..RATE));
    walk.column(|of| of.points.grown.into(), |of, number| put(&mut of.points.grown, number, ..));
}

const RATE: u64 = crate::units::RATE_ONE;

/// Sets a field to a number that must fit it and lie in these bounds.
#[inline]
fn put<T: TryFrom<N>, N: Copy + PartialOrd>(field: &mut T, number: N, bounds: impl RangeBounds<N>) -> bool {
    match T::try_from(number) {
        Ok(value) => *field = value,
        Err(_) => return false,
    }
    bounds.contains(&number)
}

/// Appends these records, at least one, as a chunk's value.
pub fn encode(records: &[CardRecord], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out[start + 8..].copy_from_slice(&(records.len() as u32).to_le_bytes());
    columns(&mut Encoder { records, out });
    let sum = checksum(&out[start + 8..]);
    out[start..start + 8].copy_from_slice(&sum.to_le_bytes());
}

struct Encoder<'a> {
    records: &'a [CardRecord],
    out: &'a mut Vec<u8>,
}

impl Walk for Encoder<'_> {
    fn column(&mut self, get: impl Fn(&CardRecord) -> i64, _: impl Fn(&mut CardRecord, i64) -> bool) {
        let bounds = |(least, most): (i64, i64), number: i64| (least.min(number), most.max(number));
        let (least, most) = self.records.iter().map(&get).fold((i64::MAX, i64::MIN), bounds);
        let width = 8 - (most.wrapping_sub(least) as u64).leading_zeros() as usize / 8;
        self.out.push(width as u8);
        self.out.extend_from_slice(&least.to_le_bytes());
        let above = self.records.iter().map(|record| get(record).wrapping_sub(least) as u64);
        match width {
            0 => {}
            1 => pack::<1>(above, self.out),
            2 => pack::<2>(above, self.out),
            3 => pack::<3>(above, self.out),
            4 => pack::<4>(above, self.out),
            5 => pack::<5>(above, self.out),
            6 => pack::<6>(above, self.out),
            7 => pack::<7>(above, self.out),
            _ => pack::<8>(above, self.out),
        }
    }
}

#[inline]
fn pack<const WIDTH: usize>(numbers: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + numbers.len() * WIDTH, 0);
    let (places, _) = out[start..].as_chunks_mut::<WIDTH>();
    for (place, number) in places.iter_mut().zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes()[..WIDTH]);
    }
}

/// Where a chunk's cards are read into: as many as are wanted of it.
pub struct ChunkMut<'a> {
    pub(super) cards: &'a mut [Card],
    pub(super) merchants: &'a mut [u32],
    pub(super) balances: &'a mut [i64],
    pub(super) carries: &'a mut [u64],
    pub(super) grown: &'a mut [u32],
}

impl ChunkMut<'_> {
    /// Reads the first cards of a chunk's value, and appends the hash of each to `hashes`. None if the value is damaged, has
    /// fewer cards, or has one that `accept` refuses.
    pub fn decode(self, value: &[u8], hashes: &mut Vec<u64>, mut accept: impl FnMut(&CardRecord) -> bool) -> Option<()> {
        let wanted = self.cards.len();
        let mut decoder = Decoder::open(value).filter(|decoder| decoder.count >= wanted)?;
        let parts = self.cards.chunks_mut(PART).zip(self.merchants.chunks_mut(PART)).zip(self.balances.chunks_mut(PART));
        let parts = parts.zip(self.carries.chunks_mut(PART)).zip(self.grown.chunks_mut(PART));
        for ((((cards, merchants), balances), carries), grown) in parts {
            for (at, record) in decoder.next(cards.len())?.iter().enumerate() {
                if !accept(record) {
                    return None;
                }
                cards[at] = record.card;
                merchants[at] = record.card.merchant;
                balances[at] = record.points.balance;
                carries[at] = record.points.carry;
                grown[at] = record.points.grown;
                hashes.push(mix(record.card.number, record.card.programme.into()));
            }
        }
        Some(())
    }
}

/// A column of a value: its least number, and the rest of what is above it.
#[derive(Clone, Copy)]
struct Column<'a> {
    width: usize,
    least: i64,
    packed: &'a [u8],
}

struct Decoder<'a> {
    count: usize,
    columns: Vec<Column<'a>>,
    /// Column that is read next, and how many cards of it.
    at: usize,
    part: usize,
    whole: bool,
    records: [CardRecord; PART],
    numbers: [i64; PART],
}

impl<'a> Decoder<'a> {
    fn open(value: &'a [u8]) -> Option<Decoder<'a>> {
        let (sum, rest) = value.split_first_chunk::<8>()?;
        if checksum(rest) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<COLUMN_HEAD>()?;
            let (&width, least) = head.split_first()?;
            let width = usize::from(width);
            let (packed, after) = after.split_at_checked(count.checked_mul(width)?).filter(|_| width <= 8)?;
            columns.push(Column { width, least: i64::from_le_bytes(least.try_into().ok()?), packed });
            rest = after;
        }
        let record = CardRecord { card: Card::default(), points: Points::default() };
        Some(Decoder { count, columns, at: 0, part: 0, whole: true, records: [record; PART], numbers: [0; PART] })
    }

    /// The next records, `PART` of them at most.
    fn next(&mut self, count: usize) -> Option<&[CardRecord]> {
        (self.at, self.part) = (0, count);
        columns(self);
        (self.whole && self.at == self.columns.len()).then_some(&self.records[..count])
    }
}

impl Walk for Decoder<'_> {
    #[inline]
    fn column(&mut self, _: impl Fn(&CardRecord) -> i64, set: impl Fn(&mut CardRecord, i64) -> bool) {
        let Some(column) = self.columns.get_mut(self.at) else {
            self.whole = false;
            return;
        };
        self.at += 1;
        let numbers = &mut self.numbers[..self.part];
        column.unpack(numbers);
        for (record, number) in self.records.iter_mut().zip(numbers) {
            self.whole &= set(record, *number);
        }
    }
}

impl Column<'_> {
    /// Takes the next numbers off the column.
    fn unpack(&mut self, numbers: &mut [i64]) {
        let (taken, rest) = self.packed.split_at(numbers.len() * self.width);
        self.packed = rest;
        match self.width {
            0 => numbers.fill(self.least),
            1 => unpack::<1>(taken, self.least, numbers),
            2 => unpack::<2>(taken, self.least, numbers),
            3 => unpack::<3>(taken, self.least, numbers),
            4 => unpack::<4>(taken, self.least, numbers),
            5 => unpack::<5>(taken, self.least, numbers),
            6 => unpack::<6>(taken, self.least, numbers),
            7 => unpack::<7>(taken, self.least, numbers),
            _ => unpack::<8>(taken, self.least, numbers),
        }
    }
}

#[inline]
fn unpack<const WIDTH: usize>(packed: &[u8], least: i64, numbers: &mut [i64]) {
    let (places, _) = packed.as_chunks::<WIDTH>();
    for (place, number) in places.iter().zip(numbers) {
        let mut word = [0; 8];
        word[..WIDTH].copy_from_slice(place);
        *number = least.wrapping_add(u64::from_le_bytes(word) as i64);
    }
}

/// Tells damage, not forgery. Four lanes, because a multiplication is waited for.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut lanes = [bytes.len() as u64, 1, 2, 3];
    let (lines, rest) = bytes.as_chunks::<32>();
    let mut last = [0; 32];
    last[..rest.len()].copy_from_slice(rest);
    for line in lines.iter().chain([&last]) {
        let (words, _) = line.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    lanes.into_iter().fold(0, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cards::{CHUNK, CardNumber};
    use proptest::prelude::*;

    fn decode(value: &[u8], count: usize) -> Option<Vec<CardRecord>> {
        let (mut cards, mut merchants, mut balances) = (vec![Card::default(); count], vec![0; count], vec![0; count]);
        let (mut carries, mut grown, mut hashes) = (vec![0; count], vec![0; count], Vec::new());
        let place = ChunkMut {
            cards: &mut cards,
            merchants: &mut merchants,
            balances: &mut balances,
            carries: &mut carries,
            grown: &mut grown,
        };
        place.decode(value, &mut hashes, |_| true)?;
        assert_eq!(hashes.len(), count);
        assert!(cards.iter().zip(&merchants).all(|(card, &merchant)| card.merchant == merchant));
        let points = |at: usize| Points { balance: balances[at], carry: carries[at], grown: grown[at], ..Points::default() };
        Some((0..count).map(|at| CardRecord { card: cards[at], points: points(at) }).collect())
    }

    /// Numbers from zero to all of a range, of any length.
    fn below(most: u64) -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(move |(number, less)| (number >> less) % (most + 1))
    }

    fn purse() -> impl Strategy<Value = i64> {
        below(PURSE_MAX as u64).prop_map(|purse| purse as i64)
    }

    prop_compose! {
        fn record()(
            number in below(NUMBERS - 1),
            purses in [purse(), purse(), purse(), purse(), purse()],
            (last, carry) in (any::<u64>(), below(RATE - 1)),
            (expires, product, programme, grown) in any::<(i32, u16, u16, u32)>(),
            status in 1u8..=2,
        ) -> CardRecord {
            let [principal, bonus, owed, owed_points, balance] = purses;
            let number = (8..=19).rev().map(shorter_numbers).zip((8..=19).rev()).find(|(first, _)| *first <= number)
                .map(|(first, digits)| CardNumber::new(number - first, digits).unwrap()).unwrap();
            let card = Card {
                principal, bonus, shortfall_money: -owed, shortfall_points: -owed_points, last, status,
                ..Card::new(programme, number, product, expires, 3)
            };
            CardRecord { card, points: Points { balance, carry, grown, ..Points::default() } }
        }
    }

    proptest! {
        #[test]
        fn a_chunk_gives_back_its_cards(records in prop::collection::vec(record(), 1..300), fewer in any::<prop::sample::Index>()) {
            let mut value = vec![7; 3];
            encode(&records, &mut value);
            let wanted = fewer.index(records.len()) + 1;
            let read = decode(&value[3..], wanted).unwrap();
            prop_assert!(read.iter().zip(&records).all(|(a, b)| (a.card, a.points) == (b.card, b.points)));
            prop_assert!(decode(&value[3..], records.len() + 1).is_none());
        }

        #[test]
        fn damage_is_seen(
            records in prop::collection::vec(record(), 1..40), at in any::<prop::sample::Index>(), bits in 1u8.., cut in any::<prop::sample::Index>(),
        ) {
            let mut value = Vec::new();
            encode(&records, &mut value);
            prop_assert!(decode(&value[..cut.index(value.len())], 1).is_none());
            let at = at.index(value.len());
            value[at] ^= bits;
            prop_assert!(decode(&value, 1).is_none());
        }

        #[test]
        fn a_false_chunk_with_a_true_checksum_never_panics(
            records in prop::collection::vec(record(), 1..4), noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
        ) {
            let mut value = Vec::new();
            encode(&records, &mut value);
            for (at, byte) in noise {
                let at = at.index(value.len());
                value[at] = byte;
            }
            let sum = checksum(&value[8..]);
            value[..8].copy_from_slice(&sum.to_le_bytes());
            if let Some(read) = decode(&value, 1) {
                prop_assert!((0..=PURSE_MAX).contains(&read[0].card.principal) && read[0].card.number < NUMBERS);
            }
        }
    }

    #[test]
    fn a_plain_card_takes_few_bytes() {
        let record = |at: u64| {
            let number = CardNumber::new(mix(at, 0) % TEN_TO[16], 16).unwrap();
            let purse = |most: u64| (mix(at, most) % most) as i64;
            let card = Card {
                principal: purse(500_000),
                bonus: purse(50_000),
                last: mix(at, 9) % 10_000_000,
                ..Card::new(1, number, 1, 0, 0)
            };
            CardRecord { card, points: Points { balance: purse(10_000_000), carry: mix(at, 3) % RATE, ..Points::default() } }
        };
        let records: Vec<CardRecord> = (0..CHUNK as u64).map(record).collect();
        let mut value = Vec::new();
        encode(&records, &mut value);
        assert!(value.len() < CHUNK * 27, "{} bytes", value.len());
    }
}
