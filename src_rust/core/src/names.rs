//! Names that lead to a card besides its number: aliases by their keyed hashes, and the numbers that it had before.
//!
//! A name leads to one card at most. What was bound once keeps its place, so that the checkpoint can write by place; an alias that was taken
//! off leads nowhere until it is bound again. A former number leads to its card for good, with the code that it is answered with.

use serde::{Deserialize, Serialize};

use crate::cards::CardNumber;
use crate::table::{Table, mix};

/// Kind of the names that are numbers: those that a card had before, and that it got by a replacement. Aliases have 1 to 255.
const NUMBER: u8 = 0;
/// Leads nowhere.
const NOBODY: u32 = u32::MAX;

/// A name, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Programme that it is known in.
    pub programme: u16,
    /// Kind of alias, or 0: a number.
    pub kind: u8,
    /// Of a former number: the code that it is answered with.
    pub code: u8,
    /// Keyed hash of the alias, or the number.
    pub hash: u128,
    card: u32,
    /// Of a number: the sequences of the entries with which it began and ended to be the card's; 0: it was issued, it still is.
    since: u64,
    until: u64,
}

/// All names.
#[derive(Clone, Default)]
pub struct Names {
    names: Vec<Name>,
    index: Table,
    /// Places of those that changed since they were last taken; some more than once.
    changed: Vec<u32>,
}

fn table_hash(programme: u16, kind: u8, hash: u128) -> u64 {
    mix((hash >> 64) as u64 ^ mix(hash as u64, kind.into()), programme.into())
}

/// What a number is found by.
fn hash_of(number: CardNumber) -> u128 {
    u128::from(number.value()) << 8 | u128::from(number.digits())
}

impl Names {
    /// How many there ever were.
    pub fn len(&self) -> u32 {
        self.names.len() as u32
    }

    /// True if there never was one.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name at a place.
    pub fn get(&self, place: u32) -> &Name {
        &self.names[place as usize]
    }

    fn place(&self, programme: u16, kind: u8, hash: u128) -> Option<u32> {
        self.index.get(table_hash(programme, kind, hash)).find(|&place| {
            let name = self.get(place);
            (name.programme, name.kind, name.hash) == (programme, kind, hash)
        })
    }

    /// The card that a name leads to, and the name's code.
    pub fn find(&self, programme: u16, kind: u8, hash: u128) -> Option<(u32, u8)> {
        let name = self.get(self.place(programme, kind, hash)?);
        (name.card != NOBODY).then_some((name.card, name.code))
    }

    /// Lets a name lead to a card, or nowhere.
    pub fn set(&mut self, programme: u16, kind: u8, hash: u128, card: Option<u32>, code: u8) {
        let card = card.unwrap_or(NOBODY);
        let place = match self.place(programme, kind, hash) {
            Some(place) => {
                let name = &mut self.names[place as usize];
                (name.card, name.code) = (card, code);
                place
            }
            None => self.push(Name { programme, kind, code, hash, card, since: 0, until: 0 }),
        };
        self.changed.push(place);
    }

    /// The card that had a number before, and the code that the number is answered with.
    pub fn former(&self, programme: u16, number: CardNumber) -> Option<(u32, u8)> {
        self.find(programme, NUMBER, hash_of(number))
    }

    /// Notes that a card has another number from the entry with this sequence on.
    pub fn renumber(&mut self, programme: u16, card: u32, [old, new]: [CardNumber; 2], code: u8, sequence: u64) {
        self.set(programme, NUMBER, hash_of(old), Some(card), code);
        self.set(programme, NUMBER, hash_of(new), Some(card), 0);
        for (number, begins) in [(old, false), (new, true)] {
            let place = self.place(programme, NUMBER, hash_of(number)).expect("it was just set");
            let name = &mut self.names[place as usize];
            (name.since, name.until) = if begins { (sequence, 0) } else { (name.since, sequence) };
        }
    }

    /// True if a number, which is or was this card's, was so when the entry with this sequence was made. Numbers that no replacement knows are.
    pub fn was_named(&self, programme: u16, number: CardNumber, card: u32, sequence: u64) -> bool {
        self.place(programme, NUMBER, hash_of(number)).is_none_or(|place| {
            let name = self.get(place);
            name.card == card && sequence > name.since && (name.until == 0 || sequence <= name.until)
        })
    }

    /// Adds a name at the next place, as the checkpoint gives it.
    pub fn push(&mut self, name: Name) -> u32 {
        let place = self.len();
        self.index.insert(table_hash(name.programme, name.kind, name.hash), place);
        self.names.push(name);
        place
    }

    /// Places of those that changed since this was last asked, in order.
    pub fn take_changed(&mut self) -> Vec<u32> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_one_card_and_keeps_its_place() {
        let mut names = Names::default();
        names.set(1, 1, 77, Some(5), 0);
        names.set(1, 2, 77, Some(6), 0);
        names.set(2, 1, 77, Some(7), 0);
        names.set(1, 1, 77, Some(8), 0);
        assert_eq!(
            (names.find(1, 1, 77), names.find(1, 2, 77), names.find(2, 1, 77)),
            (Some((8, 0)), Some((6, 0)), Some((7, 0)))
        );
        names.set(1, 1, 77, None, 0);
        assert_eq!((names.find(1, 1, 77), names.find(1, 3, 77), names.len()), (None, None, 3));
        assert_eq!(names.take_changed(), [0, 1, 2]);
        assert!(names.take_changed().is_empty());
    }

    #[test]
    fn numbers_of_other_lengths_are_other_names() {
        let [short, long] = ["00000001", "000000001"].map(|text| CardNumber::parse(text).unwrap());
        assert_ne!(hash_of(short), hash_of(long));
    }

    #[test]
    fn a_number_is_the_card_s_from_one_replacement_to_the_next() {
        let numbers = ["10000001", "10000002", "10000003"].map(|text| CardNumber::parse(text).unwrap());
        let mut names = Names::default();
        names.renumber(1, 5, [numbers[0], numbers[1]], 41, 10);
        names.renumber(1, 5, [numbers[1], numbers[2]], 4, 20);
        let at = |sequence| numbers.map(|number| names.was_named(1, number, 5, sequence));
        assert_eq!(
            [at(10), at(11), at(20), at(21)],
            [[true, false, false], [false, true, false], [false, true, false], [false, false, true]]
        );
        assert_eq!((names.former(1, numbers[0]), names.former(1, numbers[1])), (Some((5, 41)), Some((5, 4))));
        assert!(names.was_named(1, CardNumber::parse("99999999").unwrap(), 7, 1));
    }
}
