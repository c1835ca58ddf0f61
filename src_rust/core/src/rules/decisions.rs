//! Decision tables: which rules apply to a sale, found at a cost that does not grow with their number.
//!
//! Rules that name the same kinds of things - stores and products, say - have the same shape, and a table finds them by what they name. A
//! sale asks once for every shape that occurs, of which there are few, and looks at the windows of what it finds: the rules of its
//! own store, product and so on, however many others there are (tuple space search: Srinivasan, Suri, Varghese, SIGCOMM 1999).
//!
//! Invariant: what is found does not depend on the order in the tables; rules are given in the order of the file.

use std::collections::BTreeMap;
use std::fmt;

use crate::memory::prefetch;
use crate::rules::when::{Hour, Moment, TOGETHER, When, Window, Windows};
use crate::table::{Table, mix};

/// Kinds of things that rules name: product, store, merchant, channel.
const KEYS: usize = 4;
/// Shapes: which of them a rule names, as bits.
const SHAPES: usize = 1 << KEYS;
/// Most entries: one for every combination of what a rule names and every time of day.
pub(super) const ENTRIES_MAX: usize = 1 << 22;

/// What a rule names, in the order of the kinds; 0 where it names none.
type Key = [u32; KEYS];

/// Some rules, each in one window.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block {
    windows: Windows,
    rules: [u32; TOGETHER],
    /// The next block goes with it.
    goes_on: bool,
}

/// What rules of a shape name, and their first block. Stores that the same rules name share their blocks.
#[derive(Clone, Copy)]
struct Place {
    key: Key,
    shape: u8,
    first: u32,
}

/// Which rules apply to which sales.
#[derive(Default)]
pub(super) struct Decisions {
    /// Those that occur, ascending.
    shapes: Vec<u8>,
    /// Numbers of places, by the hash of shape and key.
    table: Table,
    places: Vec<Place>,
    blocks: Vec<Block>,
}

impl fmt::Debug for Decisions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} blocks of rules at {} places", self.blocks.len(), self.places.len())
    }
}

impl Decisions {
    /// The tables of rules, which are numbered as they come; None if there are too many combinations of what they name.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a When>) -> Option<Decisions> {
        let mut sorted: BTreeMap<(u8, Key), Vec<(Window, u32)>> = BTreeMap::new();
        let mut count = 0;
        for (number, when) in (0..).zip(rules) {
            count += combinations(when)?;
            if count > ENTRIES_MAX {
                return None;
            }
            each_key(when, |shape, key| {
                sorted.entry((shape, key)).or_default().extend(when.windows().map(|window| (window, number)));
            });
        }
        let mut decisions = Decisions { table: Table::with_room(sorted.len()), ..Decisions::default() };
        let mut firsts = BTreeMap::new();
        for ((shape, key), entries) in sorted {
            if decisions.shapes.last() != Some(&shape) {
                decisions.shapes.push(shape);
            }
            decisions.table.insert(hash(shape, &key), decisions.places.len() as u32);
            let first = *firsts.entry(entries).or_insert_with_key(|entries| decisions.push(entries));
            decisions.places.push(Place { key, shape, first });
        }
        Some(decisions)
    }

    /// Adds the blocks of some rules; the number of the first.
    fn push(&mut self, entries: &[(Window, u32)]) -> u32 {
        let first = self.blocks.len() as u32;
        for some in entries.chunks(TOGETHER) {
            let windows: Vec<Window> = some.iter().map(|entry| entry.0).collect();
            let rules = std::array::from_fn(|at| some.get(at).map_or(0, |entry| entry.1));
            self.blocks.push(Block { windows: Windows::of(&windows), rules, goes_on: true });
        }
        if let Some(last) = self.blocks.last_mut() {
            last.goes_on = false;
        }
        first
    }

    /// True if there is no rule.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Tells the number of every rule that applies, as far as its least amount lets it.
    pub(super) fn each(&self, moment: &Moment, mut tell: impl FnMut(u32)) {
        let whole: Key = [moment.product.into(), moment.store, moment.merchant, moment.channel.into()];
        // Step by step for all shapes, each asking for what the next one reads: else every shape would wait for its own.
        let mut hashes = [0; SHAPES];
        for (hash_of, &shape) in hashes.iter_mut().zip(&self.shapes) {
            *hash_of = hash(shape, &named(&whole, shape));
            self.table.prefetch(*hash_of);
        }
        for &hash in &hashes[..self.shapes.len()] {
            if let Some(place) = self.table.first(hash) {
                prefetch(&self.places[place as usize]);
            }
        }
        let (mut firsts, mut found) = ([0; SHAPES], 0);
        for (&shape, &hash) in self.shapes.iter().zip(&hashes) {
            let key = named(&whole, shape);
            let mut places = self.table.get(hash).map(|place| &self.places[place as usize]);
            if let Some(place) = places.find(|place| place.shape == shape && place.key == key) {
                let block = &self.blocks[place.first as usize];
                prefetch(&block.windows);
                prefetch(&block.rules);
                firsts[found] = place.first as usize;
                found += 1;
            }
        }
        let hour = Hour::of(moment);
        firsts[..found].iter().for_each(|&first| self.each_from(first, &hour, &mut tell));
    }

    #[inline]
    fn each_from(&self, first: usize, hour: &Hour, tell: &mut impl FnMut(u32)) {
        for block in &self.blocks[first..] {
            let mut held = block.windows.hold(hour);
            while held != 0 {
                tell(block.rules[held.trailing_zeros() as usize]);
                held &= held - 1;
            }
            if !block.goes_on {
                return;
            }
        }
    }
}

/// A channel may be 0, which stands for none in a key: kinds are told by the shape.
fn each_key(when: &When, mut tell: impl FnMut(u8, Key)) {
    fn of<T: Copy + Into<u32>>(list: &[T]) -> Vec<u32> {
        if list.is_empty() { vec![0] } else { list.iter().map(|&one| one.into()).collect() }
    }
    let is_named = [!when.products.is_empty(), !when.stores.is_empty(), !when.merchants.is_empty(), !when.channels.is_empty()];
    let shape = is_named.iter().enumerate().fold(0, |shape, (at, &named)| shape | u8::from(named) << at);
    for product in of(&when.products) {
        for store in of(&when.stores) {
            for merchant in of(&when.merchants) {
                for channel in of(&when.channels) {
                    tell(shape, [product, store, merchant, channel]);
                }
            }
        }
    }
}

fn combinations(when: &When) -> Option<usize> {
    let lists = [when.products.len(), when.stores.len(), when.merchants.len(), when.channels.len(), when.times.len()];
    lists.into_iter().map(|len| len.max(1)).try_fold(1, usize::checked_mul)
}

/// The part of a key that a shape names.
#[inline]
fn named(whole: &Key, shape: u8) -> Key {
    std::array::from_fn(|at| if shape >> at & 1 != 0 { whole[at] } else { 0 })
}

#[inline]
fn hash(shape: u8, key: &Key) -> u64 {
    let [product, store, merchant, channel] = key.map(u64::from);
    mix(product << 32 | store, merchant << 32 | channel << 8 | u64::from(shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Condition;
    use proptest::prelude::*;

    /// Small numbers, so that rules and sales meet.
    fn when() -> impl Strategy<Value = When> {
        let list = |most: u32| prop::collection::btree_set(0..most, 0..3);
        (
            list(4),
            list(4),
            list(3),
            list(3),
            0..3i32,
            0..3i32,
            (0..128u8, 0..1u32 << 31),
            prop::collection::vec(any::<bool>(), 4),
            0..3i64,
        )
            .prop_map(
                |(products, stores, merchants, channels, from, until, (weekdays, month_days), times, min_spend)| When {
                    products: products.into_iter().map(|one| one as u16).collect(),
                    stores: stores.into_iter().collect(),
                    merchants: merchants.into_iter().collect(),
                    channels: channels.into_iter().map(|one| one as u8).collect(),
                    from: from * 10,
                    until: until * 15,
                    weekdays,
                    month_days: if month_days % 3 == 0 { 0 } else { month_days << 1 },
                    times: (0..4).zip(times).filter(|(_, on)| *on).map(|(at, _)| (at * 21_600, (at + 1) * 21_600)).collect(),
                    min_spend,
                },
            )
    }

    fn moment() -> impl Strategy<Value = Moment> {
        (0..4u16, 0..4u32, 0..3u32, 0..3u8, 0..3i64, 0..40i32, 0..86_400i32).prop_map(
            |(product, store, merchant, channel, amount, date, second)| {
                Moment::new(product, amount).at(store, merchant, channel).on(date, second)
            },
        )
    }

    /// One rule after the other, condition by condition; the least amount is not the tables'.
    fn slowly(rules: &[When], moment: &Moment) -> Vec<usize> {
        let applies = |when: &&When| when.missed(moment).iter().all(|&condition| condition == Condition::MinSpend);
        (0..).zip(rules).filter(|(_, when)| applies(when)).map(|(at, _)| at).collect()
    }

    proptest! {
        #[test]
        fn the_tables_find_what_the_rules_say(
            rules in prop::collection::vec(when(), 0..40), moments in prop::collection::vec(moment(), 1..20),
        ) {
            let decisions = Decisions::of(rules.iter()).unwrap();
            for moment in &moments {
                let mut found = Vec::new();
                decisions.each(moment, |number| found.push(number as usize));
                found.sort_unstable();
                prop_assert_eq!(found, slowly(&rules, moment));
            }
        }
    }

    #[test]
    fn too_many_combinations_are_refused() {
        let many = |count| (1..=count).collect::<Vec<u32>>();
        let rule = When { stores: many(4_096), merchants: many(1_024), ..When::default() };
        assert!(Decisions::of([&rule].into_iter()).is_some());
        let rule = When { stores: many(4_097), ..rule };
        assert!(Decisions::of([&rule].into_iter()).is_none());
    }
}
