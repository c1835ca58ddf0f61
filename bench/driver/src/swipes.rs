//! The swipes of `workload.md`: 60% purchases, 30% top-ups, 10% balance queries, each with a key of its own.
//!
//! Card *i* has the 16 digits of `i x 6,180,339,887,498,949 mod 10^16`. The factor has no divisor in common with 10,
//! so no two *i* below 10^16 share a number, and being 10^16 over the golden ratio it spreads any run of them evenly
//! over the whole range. In Python: `f"{i * 6_180_339_887_498_949 % 10**16:016d}"`.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::http2::MESSAGE_HEADER;

const CARD_FACTOR: u128 = 6_180_339_887_498_949;
const CARD_DIGITS: usize = 16;
const CARD_RANGE: u128 = 10_000_000_000_000_000;
/// Amounts in minor units. What the mix spends and what it tops up is about the same.
const PURCHASES: std::ops::RangeInclusive<i64> = 100..=10_000;
const TOP_UPS: std::ops::RangeInclusive<i64> = 1_000..=20_000;
const ZIPF: f64 = 0.99;

/// Where swipes come from.
#[derive(Clone, Debug)]
pub struct Range {
    /// Programme of the cards.
    pub programme: u32,
    /// Business date as YYYYMMDD.
    pub date: u32,
    /// Terminals, from the first on.
    pub first_terminal: u32,
    /// How many.
    pub terminals: u32,
    /// Trace of each terminal's first swipe.
    pub first_trace: u32,
    /// Index of the first card.
    pub first_card: u64,
    /// How many.
    pub cards: u64,
    /// Draw cards by zipf 0.99 (the first most often) instead of uniformly.
    pub zipf: bool,
    /// Of the random numbers.
    pub seed: u64,
}

/// What a swipe asks; the number is its field in `Transaction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    TopUp = 2,
    Purchase = 3,
    Balance = 6,
}

/// An endless row of swipes.
pub struct Swipes {
    range: Range,
    random: SmallRng,
    zipf: Zipf<f64>,
    /// Swipes with a key so far.
    keyed: u64,
    balances: u64,
}

/// Digits of card `index`.
pub fn card_number(index: u64) -> [u8; CARD_DIGITS] {
    let mut value = (u128::from(index) * CARD_FACTOR % CARD_RANGE) as u64;
    let mut digits = [b'0'; CARD_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    digits
}

impl Swipes {
    /// The same for the same range and seed.
    pub fn new(range: Range) -> Swipes {
        Swipes {
            random: SmallRng::seed_from_u64(range.seed),
            zipf: Zipf::new(range.cards as f64, ZIPF).expect("there is at least one card"),
            keyed: 0,
            balances: 0,
            range,
        }
    }

    /// A trace that no terminal has used yet.
    pub fn next_trace(&self) -> u64 {
        u64::from(self.range.first_trace) + self.keyed.div_ceil(u64::from(self.range.terminals))
    }

    /// Balance queries so far; they have no key.
    pub fn balances(&self) -> u64 {
        self.balances
    }

    /// Writes the next swipe as a gRPC message and returns the path to call.
    pub fn unary(&mut self, out: &mut Vec<u8>) -> &'static str {
        out.clear();
        out.extend_from_slice(&[0; MESSAGE_HEADER]);
        let kind = self.request(out);
        finish_message(out);
        match kind {
            Kind::TopUp => "/onecard.v1.TerminalService/TopUp",
            Kind::Purchase => "/onecard.v1.TerminalService/Purchase",
            Kind::Balance => "/onecard.v1.TerminalService/GetBalance",
        }
    }

    /// Writes the next `count` swipes as one message of a Transact stream.
    pub fn message(&mut self, count: u32, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[0; MESSAGE_HEADER]);
        let mut request = Vec::with_capacity(64);
        for _ in 0..count {
            request.clear();
            let kind = self.request(&mut request);
            let inner = 1 + varint_len(request.len() as u64) + request.len();
            length_field(out, 1, inner);
            length_field(out, kind as u8, request.len());
            out.extend_from_slice(&request);
        }
        finish_message(out);
    }

    /// Writes the fields of the next request.
    fn request(&mut self, out: &mut Vec<u8>) -> Kind {
        let kind = match self.random.random_range(0..10u8) {
            0..6 => Kind::Purchase,
            6..9 => Kind::TopUp,
            _ => Kind::Balance,
        };
        let header = self.header(kind);
        length_field(out, 1, header.len());
        out.extend_from_slice(&header);
        length_field(out, 2, CARD_DIGITS);
        out.extend_from_slice(&card_number(self.card()));
        match kind {
            Kind::Purchase => {
                number_field(out, 3, self.random.random_range(PURCHASES) as u64);
                number_field(out, 4, self.random.random_range(0..2));
            }
            Kind::TopUp => number_field(out, 3, self.random.random_range(TOP_UPS) as u64),
            Kind::Balance => {}
        }
        kind
    }

    fn header(&mut self, kind: Kind) -> Vec<u8> {
        let mut header = Vec::with_capacity(32);
        let terminals = u64::from(self.range.terminals);
        number_field(&mut header, 1, self.range.programme.into());
        number_field(&mut header, 2, u64::from(self.range.first_terminal) + self.keyed % terminals);
        if kind == Kind::Balance {
            self.balances += 1;
        } else {
            number_field(&mut header, 3, self.range.date.into());
            number_field(&mut header, 4, u64::from(self.range.first_trace) + self.keyed / terminals);
            self.keyed += 1;
        }
        header
    }

    fn card(&mut self) -> u64 {
        let at = if self.range.zipf {
            self.zipf.sample(&mut self.random) as u64 - 1
        } else {
            self.random.random_range(0..self.range.cards)
        };
        self.range.first_card + at
    }
}

/// Fills in the gRPC header of the message that `out` holds.
fn finish_message(out: &mut [u8]) {
    let length = (out.len() - MESSAGE_HEADER) as u32;
    out[1..MESSAGE_HEADER].copy_from_slice(&length.to_be_bytes());
}

fn number_field(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        varint(out, value);
    }
}

fn length_field(out: &mut Vec<u8>, field: u8, length: usize) {
    out.push(field << 3 | 2);
    varint(out, length as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// What an answer says.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Response code.
    pub code: u32,
    /// Sequence of its entry; 0 if nothing is kept.
    pub sequence: u64,
    /// The answer was an earlier request's.
    pub replayed: bool,
}

/// Hands every `Answer` in a response to `tell`: of a unary call one, of a stream's message as many as were asked.
/// False if the message is malformed.
pub fn outcomes(message: &[u8], mut tell: impl FnMut(Outcome)) -> bool {
    let read = each_field(message, |field, value| match (field, value) {
        (1, Value::Bytes(answer)) => {
            let mut outcome = Outcome::default();
            let read = each_field(answer, |field, value| {
                match (field, value) {
                    (1, Value::Number(sequence)) => outcome.sequence = sequence,
                    (2, Value::Number(code)) => outcome.code = code as u32,
                    (4, Value::Number(replayed)) => outcome.replayed = replayed != 0,
                    _ => {}
                }
                Some(())
            });
            tell(outcome);
            read
        }
        _ => Some(()),
    });
    read.is_some()
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// None if the bytes are no fields.
fn each_field<'a>(mut bytes: &'a [u8], mut tell: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(take_varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        tell(tag >> 3, value)?;
    }
    Some(())
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use onecard_grpc::v1;
    use prost::Message;

    use super::*;

    fn range() -> Range {
        Range {
            programme: 1,
            date: 20240229,
            first_terminal: 1,
            terminals: 300,
            first_trace: 1,
            first_card: 0,
            cards: 1_000,
            zipf: false,
            seed: 1,
        }
    }

    #[test]
    fn card_numbers_are_spread_and_distinct() {
        assert_eq!(&card_number(0), b"0000000000000000");
        assert_eq!(&card_number(1), b"6180339887498949");
        let numbers: HashSet<_> = (0..10_000).map(card_number).collect();
        assert_eq!(numbers.len(), 10_000);
        for first in b'0'..=b'9' {
            let count = numbers.iter().filter(|number| number[0] == first).count();
            assert!((990..=1_010).contains(&count), "{count} begin with {}", first as char);
        }
    }

    #[test]
    fn the_generated_code_reads_what_is_written() {
        use v1::transaction::Request;
        let mut swipes = Swipes::new(range());
        let mut out = Vec::new();
        swipes.message(1_000, &mut out);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 5);
        let message = v1::TransactRequest::decode(&out[5..]).unwrap();
        assert_eq!(message.encode_to_vec(), &out[5..]);
        let (mut keys, mut kinds) = (HashSet::new(), [0; 3]);
        for transaction in message.transactions {
            let (kind, header, card) = match transaction.request.unwrap() {
                Request::Purchase(request) => (0, request.header, request.card),
                Request::TopUp(request) => (1, request.header, request.card),
                Request::GetBalance(request) => (2, request.header, request.card),
                other => panic!("{other:?}"),
            };
            assert_eq!(card.len(), 16);
            kinds[kind] += 1;
            let header = header.unwrap();
            assert!((1..=300).contains(&header.terminal));
            match header.key {
                Some(v1::header::Key::Trace(trace)) => assert!(keys.insert((header.terminal, trace))),
                other => assert!(kind == 2 && other.is_none()),
            }
        }
        assert!(kinds[0] > 550 && kinds[1] > 250 && kinds[2] > 70, "{kinds:?}");
        assert!(keys.iter().all(|(_, trace)| u64::from(*trace) < swipes.next_trace()));
    }

    #[test]
    fn a_unary_message_is_one_request() {
        let mut swipes = Swipes::new(Range { zipf: true, ..range() });
        let mut out = Vec::new();
        for _ in 0..100 {
            let path = swipes.unary(&mut out);
            let known = match path.rsplit('/').next().unwrap() {
                "Purchase" => v1::PurchaseRequest::decode(&out[5..]).unwrap().encode_to_vec(),
                "TopUp" => v1::TopUpRequest::decode(&out[5..]).unwrap().encode_to_vec(),
                "GetBalance" => v1::GetBalanceRequest::decode(&out[5..]).unwrap().encode_to_vec(),
                other => panic!("{other}"),
            };
            assert_eq!(known, &out[5..]);
        }
    }

    #[test]
    fn answers_are_read() {
        let answer = |sequence, code, replayed| v1::Answer {
            sequence,
            code,
            replayed,
            message: "words".into(),
            amount: -5,
            ..Default::default()
        };
        let message = v1::TransactResponse { answers: vec![answer(1 << 40, 0, false), answer(0, 58, true)] };
        let mut read = Vec::new();
        assert!(outcomes(&message.encode_to_vec(), |outcome| read.push(outcome)));
        let expected =
            [Outcome { code: 0, sequence: 1 << 40, replayed: false }, Outcome { code: 58, sequence: 0, replayed: true }];
        assert_eq!(read, expected);
        assert!(!outcomes(&[0x0a, 5, 1], |_| {}));
    }
}
