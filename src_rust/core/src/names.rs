//! Names that lead to a card besides its number: aliases by their keyed hashes, and the numbers that it had before.
//!
//! A name leads to one card at most. What was bound once keeps its place, so that the checkpoint can write by place; an alias that was taken
//! off leads nowhere until it is bound again. A former number leads to its card for good, with the code that it is answered with.

use serde::{Deserialize, Serialize};

use crate::cards::CardNumber;
use crate::table::{Table, mix};

/// Kind of the names that are former numbers. Aliases have 1 to 255.
pub const FORMER: u8 = 0;
/// Leads nowhere.
const NOBODY: u32 = u32::MAX;

/// A name, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Programme that it is known in.
    pub programme: u16,
    /// Kind of alias, or [`FORMER`].
    pub kind: u8,
    /// Of a former number: the code that it is answered with.
    pub code: u8,
    /// Keyed hash of the alias, or the number.
    pub hash: u128,
    card: u32,
}

/// All names.
#[derive(Default)]
pub struct Names {
    names: Vec<Name>,
    index: Table,
    /// Places of those that changed since they were last taken; some more than once.
    changed: Vec<u32>,
}

fn table_hash(programme: u16, kind: u8, hash: u128) -> u64 {
    mix((hash >> 64) as u64 ^ mix(hash as u64, kind.into()), programme.into())
}

/// What a former number is found by.
pub fn former(number: CardNumber) -> u128 {
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
            None => self.push(Name { programme, kind, code, hash, card }),
        };
        self.changed.push(place);
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
        let [short, long] = ["00000001", "000000001"].map(|text| former(CardNumber::parse(text).unwrap()));
        assert_ne!(short, long);
    }
}
