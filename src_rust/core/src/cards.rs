//! Cards and their purses, in memory: records that fit a cache line, points in columns.
//!
//! Cards are numbered from 0 in the order of their issue and never move. They lie in blocks, so that memory grows
//! a little at a time; the checkpoint writes the chunks that changed. No purse is below zero or above `PURSE_MAX`.

pub mod chunk;

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::cards::chunk::ChunkMut;
use crate::codes::Code;
use crate::growth::{self, Columns};
use crate::memory::{Slab, prefetch};
use crate::table::{Table, mix};
use crate::wallets::Shown;

/// Cards in a chunk: what the checkpoint writes at once.
pub const CHUNK: usize = 4096;
/// Cards whose memory lies together.
const BLOCK: usize = 64 * CHUNK;

const _: () = assert!(CHUNK.is_multiple_of(growth::PURSES_MAX));

/// A card number of 8 to 19 digits, leading zeros included, in one word.
///
/// All numbers of 8 digits come first, then all of 9, and so on; the last is below 2^64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CardNumber(u64);

impl CardNumber {
    /// The number with this value and count of digits.
    #[inline]
    pub fn new(value: u64, digits: u8) -> Option<CardNumber> {
        if !(8..=19).contains(&digits) || value >= TEN_TO[usize::from(digits)] {
            return None;
        }
        Some(CardNumber(shorter_numbers(digits) + value))
    }

    /// The number as it is printed on the card: digits only.
    pub fn parse(text: &str) -> Option<CardNumber> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        CardNumber::new(text.parse().ok()?, text.len().try_into().ok()?)
    }

    /// Count of digits, 8 to 19.
    pub fn digits(self) -> u8 {
        (8..=19).rev().find(|&digits| shorter_numbers(digits) <= self.0).expect("8 digits have none before")
    }

    /// The digits' value.
    pub fn value(self) -> u64 {
        self.0 - shorter_numbers(self.digits())
    }
}

const TEN_TO: [u64; 20] = {
    let mut powers = [1u64; 20];
    let mut exponent = 1;
    while exponent < 20 {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

impl fmt::Display for CardNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:0digits$}", self.value(), digits = usize::from(self.digits()))
    }
}

/// How many card numbers have fewer digits.
const fn shorter_numbers(digits: u8) -> u64 {
    // 10^8 + ... + 10^(digits-1)
    (TEN_TO[digits as usize] - TEN_TO[8]) / 9
}

/// Whether a card may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// It may.
    Active = 1,
    /// It may not (62).
    Frozen = 2,
    /// Its holder lost it (41).
    Lost = 3,
    /// It was stolen (43).
    Stolen = 4,
    /// It was issued and not yet activated (78).
    Inactive = 5,
    /// It was closed, for good (46).
    Closed = 6,
}

impl Status {
    /// What a card with a status of this number is answered where it must be active.
    pub fn refusal(number: u8) -> Option<Code> {
        match number {
            1 => None,
            3 => Some(Code::LostCard),
            4 => Some(Code::StolenCard),
            5 => Some(Code::NotActivated),
            6 => Some(Code::ClosedCard),
            _ => Some(Code::RestrictedCard),
        }
    }
}

/// One card: all that a swipe touches but the points, in one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Card {
    number: u64,
    /// Purse, minor units.
    pub principal: i64,
    /// Purse, minor units.
    pub bonus: i64,
    /// 0 or less.
    pub shortfall_money: i64,
    /// 0 or less.
    pub shortfall_points: i64,
    /// Sequence of its newest entry.
    pub last: u64,
    /// Last valid date; 0: never expires.
    pub expires: i32,
    /// Card product.
    pub product: u16,
    /// Programme it belongs to.
    pub programme: u16,
    /// Index of the merchant that issued it.
    pub merchant: u32,
    /// A [`Status`].
    pub status: u8,
    /// 1: its wallet concerns every purchase and top-up; kept by who changes the wallet.
    pub wary: u8,
    /// A tier of the rules, 0: none; a copy of what the wallet has.
    pub tier: u8,
    /// 1: it has bought something, which was not undone with the gift that it brought.
    pub bought: u8,
}

// Slabs begin on a page: a card of this size is one line of the cache.
const _: () = assert!(size_of::<Card>() == 64);

impl Card {
    /// A new card with empty purses; `merchant` is the index of who issued it.
    pub fn new(programme: u16, number: CardNumber, product: u16, expires: i32, merchant: u32) -> Card {
        Card { number: number.0, product, programme, expires, merchant, status: Status::Active as u8, ..Card::default() }
    }

    /// Its number.
    pub fn number(&self) -> CardNumber {
        CardNumber(self.number)
    }

    /// Shows what its wallet says.
    pub fn show(&mut self, shown: Shown) {
        (self.wary, self.tier) = (shown.wary.into(), shown.tier);
    }

    /// True if nothing but its record bears on a purchase or a top-up.
    #[inline]
    pub fn is_plain(&self) -> bool {
        (self.wary == 0) & (self.shortfall_money | self.shortfall_points == 0)
    }
}

/// A points purse: the balance and what compounding needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Points {
    /// 1/10,000 points.
    pub balance: i64,
    /// Remainder of the last growth, over 10^12.
    pub carry: u64,
    /// How many of the programme's growths are applied.
    pub grown: u32,
    unused: u32,
}

/// A run of cards on huge pages; what compounds lies in columns, and beside it whose liability it is.
struct Block {
    cards: Slab<Card>,
    balances: Slab<i64>,
    carries: Slab<u64>,
    grown: Slab<u32>,
    merchants: Slab<u32>,
    /// One more than the handle of the card's wallet; 0: it has none. Where no card has one, no memory is taken.
    wallets: Slab<u32>,
}

impl Block {
    fn new() -> Block {
        Block {
            cards: Slab::zeroed(BLOCK),
            balances: Slab::zeroed(BLOCK),
            carries: Slab::zeroed(BLOCK),
            grown: Slab::zeroed(BLOCK),
            merchants: Slab::zeroed(BLOCK),
            wallets: Slab::zeroed(BLOCK),
        }
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        // Where no card is all is zero, and takes no memory.
        Block {
            cards: self.cards.copied(BLOCK),
            balances: self.balances.copied(BLOCK),
            carries: self.carries.copied(BLOCK),
            grown: self.grown.copied(BLOCK),
            merchants: self.merchants.copied(BLOCK),
            wallets: self.wallets.copied(BLOCK),
        }
    }
}

/// All cards, and the index of their numbers.
#[derive(Clone, Default)]
pub struct Cards {
    blocks: Vec<Block>,
    len: u32,
    /// Of each chunk, the sequence that had been reached when anything in it last changed.
    touched: Vec<u64>,
    index: Table,
}

/// A card as the checkpoint keeps it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CardRecord {
    /// The card.
    pub card: Card,
    /// Its points.
    pub points: Points,
}

impl Cards {
    /// Number of cards.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True if none was issued.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory: cards, purses and index.
    pub fn size(&self) -> usize {
        let card = size_of::<Card>() + size_of::<i64>() + size_of::<u64>() + 2 * size_of::<u32>();
        self.len as usize * card + self.index.size()
    }

    /// What [`find`](Self::find) and its like search with.
    #[inline]
    pub fn hash(programme: u16, number: CardNumber) -> u64 {
        mix(number.0, programme.into())
    }

    /// Index of a card by its number and the [`hash`](Self::hash) of it.
    #[inline]
    pub fn find(&self, hash: u64, programme: u16, number: CardNumber) -> Option<u32> {
        self.index.get(hash).find(|&index| self.is(index, programme, number))
    }

    /// True if the card with this index has this number.
    #[inline]
    pub fn is(&self, index: u32, programme: u16, number: CardNumber) -> bool {
        let card = self.card(index);
        card.number == number.0 && card.programme == programme
    }

    /// Asks for the memory in which the search for a card begins.
    #[inline]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The card that this hash most likely belongs to, its memory asked for; the only thing to do with it is to ask whether it [`is`](Self::is).
    #[inline]
    pub fn prefetch_likely(&self, hash: u64) -> Option<u32> {
        let index = self.index.first(hash)?;
        let (block, at) = place(index);
        let block = &self.blocks[block];
        prefetch(&block.cards[at]);
        prefetch(&block.balances[at]);
        Some(index)
    }

    /// Asks for the memory of the card with this index, if there is one.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        if index < self.len {
            let (block, at) = place(index);
            let block = &self.blocks[block];
            prefetch(&block.cards[at]);
            prefetch(&block.balances[at]);
        }
    }

    /// Adds a card and returns its index.
    pub fn issue(&mut self, card: Card, grown: u32) -> u32 {
        self.push(card, Points { grown, ..Points::default() })
    }

    fn push(&mut self, card: Card, points: Points) -> u32 {
        let index = self.len;
        let (block, at) = place(index);
        if block == self.blocks.len() {
            self.blocks.push(Block::new());
        }
        if index as usize / CHUNK == self.touched.len() {
            self.touched.push(0);
        }
        let block = &mut self.blocks[block];
        block.cards[at] = card;
        block.balances[at] = points.balance;
        block.carries[at] = points.carry;
        block.grown[at] = points.grown;
        block.merchants[at] = card.merchant;
        self.len = self.len.checked_add(1).expect("issue checks that there is room");
        self.index.insert(mix(card.number, card.programme.into()), index);
        index
    }

    /// The card with this index.
    #[inline]
    pub fn card(&self, index: u32) -> &Card {
        let (block, at) = place(index);
        &self.blocks[block].cards[at]
    }

    /// Notes that the card with this index changes at this sequence.
    #[inline]
    pub fn note_change(&mut self, index: u32, sequence: u64) {
        self.touched[index as usize / CHUNK] = sequence;
    }

    /// The card with this index and its points, to change them; [`note_change`](Self::note_change) goes with it.
    #[inline]
    pub fn card_mut(&mut self, index: u32) -> (&mut Card, &mut i64) {
        let (block, at) = place(index);
        let block = &mut self.blocks[block];
        (&mut block.cards[at], &mut block.balances[at])
    }

    /// The handle of a card's wallet.
    #[inline]
    pub fn wallet(&self, index: u32) -> Option<u32> {
        let (block, at) = place(index);
        self.blocks[block].wallets[at].checked_sub(1)
    }

    /// Asks for the memory in which the handle of a card's wallet lies.
    #[inline]
    pub fn prefetch_wallet(&self, index: u32) {
        let (block, at) = place(index);
        prefetch(&self.blocks[block].wallets[at]);
    }

    /// Notes the handle of a card's wallet.
    pub fn set_wallet(&mut self, index: u32, handle: u32) {
        let (block, at) = place(index);
        self.blocks[block].wallets[at] = handle + 1;
    }

    /// Gives a card another number.
    pub fn renumber(&mut self, index: u32, number: CardNumber) {
        let (card, _) = self.card_mut(index);
        card.number = number.0;
        let programme = card.programme;
        self.index.insert(mix(number.0, programme.into()), index);
    }

    /// Balance of the card's undated points.
    #[inline]
    pub fn points(&self, index: u32) -> i64 {
        let (block, at) = place(index);
        self.blocks[block].balances[at]
    }

    /// Growths applied to the card.
    #[inline]
    pub fn grown(&self, index: u32) -> u32 {
        let (block, at) = place(index);
        self.blocks[block].grown[at]
    }

    /// Applies growth number `number` with this rate to the card if it is the next one; returns what it grew by.
    #[inline]
    pub fn grow(&mut self, index: u32, number: u32, rate: u64, sequence: u64) -> Option<u64> {
        let (block, at) = place(index);
        let block = &mut self.blocks[block];
        if block.grown[at] >= number {
            return None;
        }
        block.grown[at] = number;
        self.touched[index as usize / CHUNK] = sequence;
        Some(growth::grow(&mut block.balances[at], &mut block.carries[at], rate))
    }

    /// The same for the cards from `first` to before `end`; how many grew. `granted` is told of merchants and what their cards grew by.
    pub fn grow_run(
        &mut self,
        first: u32,
        end: u32,
        number: u32,
        rate: u64,
        sequence: u64,
        mut granted: impl FnMut(u32, u64),
    ) -> u64 {
        let (mut at, mut count) = (first as usize, 0);
        while at < end as usize {
            // Chunks and blocks end where one of these does.
            let until = (at + 1).next_multiple_of(growth::PURSES_MAX).min(end as usize);
            let (block, run) = (&mut self.blocks[at / BLOCK], at % BLOCK..at % BLOCK + (until - at));
            let mut columns = Columns {
                balances: &mut block.balances[run.clone()],
                carries: &mut block.carries[run.clone()],
                grown: &mut block.grown[run.clone()],
                merchants: &block.merchants[run],
            };
            let grew = columns.grow(number, rate, &mut granted);
            if grew > 0 {
                self.touched[at / CHUNK] = sequence;
            }
            count += grew as u64;
            at = until;
        }
        count
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.touched.len()
    }

    /// Sequence of a chunk's last change.
    pub fn chunk_touched(&self, chunk: usize) -> u64 {
        self.touched[chunk]
    }

    /// Copies a chunk's records to the end of `out`.
    pub fn copy_chunk(&self, chunk: usize, out: &mut Vec<CardRecord>) {
        let first = (chunk * CHUNK) as u32;
        let (block, from) = place(first);
        let block = &self.blocks[block];
        let range = from..from + CHUNK.min((self.len - first) as usize);
        let points = block.balances[range.clone()].iter().zip(&block.carries[range.clone()]).zip(&block.grown[range.clone()]);
        out.extend(block.cards[range].iter().zip(points).map(|(&card, ((&balance, &carry), &grown))| {
            let points = Points { balance, carry, grown, unused: 0 };
            CardRecord { card, points }
        }));
    }

    /// So many cards, to be read from the checkpoint: until all of [`parts`](Self::parts) is filled in they are none.
    pub fn blank(len: u32) -> Cards {
        let count = len as usize;
        let blocks = (0..count.div_ceil(BLOCK)).map(|_| Block::new()).collect();
        Cards { blocks, len, touched: vec![0; count.div_ceil(CHUNK)], index: Table::with_room(count) }
    }

    /// The chunks, numbered, and the index; the caller fills in both.
    pub fn parts(&mut self) -> (impl Iterator<Item = (usize, ChunkMut<'_>)> + Send, Index<'_>) {
        let len = self.len as usize;
        let chunks = self.blocks.iter_mut().flat_map(|block| {
            let points = block.balances.chunks_mut(CHUNK).zip(block.carries.chunks_mut(CHUNK)).zip(block.grown.chunks_mut(CHUNK));
            block.cards.chunks_mut(CHUNK).zip(block.merchants.chunks_mut(CHUNK)).zip(points)
        });
        let chunks = chunks.take(len.div_ceil(CHUNK)).enumerate().map(
            move |(chunk, ((cards, merchants), ((balances, carries), grown)))| {
                let until = CHUNK.min(len - chunk * CHUNK);
                let place = ChunkMut {
                    cards: &mut cards[..until],
                    merchants: &mut merchants[..until],
                    balances: &mut balances[..until],
                    carries: &mut carries[..until],
                    grown: &mut grown[..until],
                };
                (chunk, place)
            },
        );
        (chunks, Index(&mut self.index))
    }
}

/// The index of cards that are read from the checkpoint.
pub struct Index<'a>(&'a mut Table);

impl Index<'_> {
    /// Adds cards that follow each other by their hashes, from the card with this index on.
    pub fn add(&mut self, first: u32, hashes: &[u64]) {
        self.0.insert_run(hashes, first);
    }
}

/// Block and place in it of a card.
#[inline]
fn place(index: u32) -> (usize, usize) {
    (index as usize / BLOCK, index as usize % BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_leading_zeros() {
        for text in ["00000000", "99999999", "000000000", "0000000000000000000", "9999999999999999999", "0123456789012345"] {
            let number = CardNumber::parse(text).unwrap();
            assert_eq!(number.to_string(), text);
        }
        for text in ["", "1234567", "12345678901234567890", "1234567x", "+12345678"] {
            assert_eq!(CardNumber::parse(text), None);
        }
        assert!(CardNumber::parse("99999999") < CardNumber::parse("000000000"));
    }
}
