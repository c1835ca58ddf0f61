//! Decision tables: which rules apply to a sale, found at a cost that does not grow with their number.
//!
//! Rules that name the same kinds of things - stores and products, say - have the same shape, and a table finds them by what they name. A
//! sale asks once for every shape that occurs, of which there are few, and looks at the windows of what it finds: the rules of its
//! own store, product and so on, however many others there are (tuple space search: Srinivasan, Suri, Varghese, SIGCOMM 1999).
//!
//! Invariant: which rules are found does not depend on how the tables lie; in which order they are told means nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::memory::prefetch;
use crate::rules::when::{Hour, Moment, TOGETHER, When, Window, Windows};
use crate::table::{Table, mix};

/// Kinds of things that rules name: product, store, merchant, channel, weekday.
const KEYS: usize = 5;
/// Most entries: one for every combination of what a rule names and every time of day.
pub(super) const ENTRIES_MAX: usize = 1 << 22;

/// What a rule names, in the order of the kinds; 0 where it names none.
type Key = [u32; KEYS];

/// Some rules, each in one window: three lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block {
    windows: Windows,
    /// Their numbers; the last has [`GOES_ON`] besides if the next block goes with this one.
    rules: [u32; TOGETHER],
}

const _: () = assert!(size_of::<Block>() == 192);

/// A bit that no number of a rule has.
const GOES_ON: u32 = 1 << 31;

impl Block {
    /// Asks for all of its lines.
    #[inline]
    fn prefetch(&self) {
        self.windows.prefetch();
    }
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
            count = combinations(when)?.checked_add(count)?;
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
            self.blocks.push(Block { windows: Windows::of(&windows), rules });
        }
        let end = self.blocks.len();
        self.blocks[first as usize..end - 1].iter_mut().for_each(|block| block.rules[TOGETHER - 1] |= GOES_ON);
        first
    }

    /// True if there is no rule.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Asks for the memory in which the rules that apply to some sales are found, step by step for all of them.
    pub(super) fn ask(&self, moments: &[Moment]) {
        let mut hashes = Vec::with_capacity(moments.len() * self.shapes.len());
        for moment in moments {
            let whole = key_of(moment);
            hashes.extend(self.shapes.iter().map(|&shape| hash(shape, &named(&whole, shape))));
        }
        hashes.iter().for_each(|&hash| self.table.prefetch(hash));
        let place = |hash: &u64| self.table.first(*hash).map(|place| &self.places[place as usize]);
        hashes.iter().filter_map(place).for_each(prefetch);
        for place in hashes.iter().filter_map(place) {
            // Nearly always it is one or two.
            let first = place.first as usize;
            self.blocks[first..].iter().take(2).for_each(Block::prefetch);
        }
    }

    /// Tells the number of every rule that applies, as far as its least amount lets it.
    pub(super) fn each(&self, moment: &Moment, mut tell: impl FnMut(u32)) {
        let (whole, hour) = (key_of(moment), Hour::of(moment));
        for &shape in &self.shapes {
            let key = named(&whole, shape);
            let mut places = self.table.get(hash(shape, &key)).map(|place| &self.places[place as usize]);
            if let Some(place) = places.find(|place| place.shape == shape && place.key == key) {
                self.each_from(place.first as usize, &hour, &mut tell);
            }
        }
    }

    #[inline]
    fn each_from(&self, first: usize, hour: &Hour, tell: &mut impl FnMut(u32)) {
        for block in &self.blocks[first..] {
            let mut held = block.windows.hold(hour);
            while held != 0 {
                tell(block.rules[held.trailing_zeros() as usize] & !GOES_ON);
                held &= held - 1;
            }
            if block.rules[TOGETHER - 1] & GOES_ON == 0 {
                return;
            }
        }
    }
}

#[inline]
fn key_of(moment: &Moment) -> Key {
    [moment.product.into(), moment.store, moment.merchant, moment.channel.into(), moment.weekday()]
}

/// What a rule names, kind by kind.
fn lists_of(when: &When) -> [Vec<u32>; KEYS] {
    let products = when.products.iter().copied().map(u32::from).collect();
    let channels = when.channels.iter().copied().map(u32::from).collect();
    [products, when.stores.clone(), when.merchants.clone(), channels, when.named_weekdays()]
}

/// Tells of every combination of what a rule names, and of its shape. A channel or a weekday may be 0, which stands for none in a key: kinds are
/// told by the shape.
fn each_key(when: &When, mut tell: impl FnMut(u8, Key)) {
    let lists = lists_of(when);
    let shape = (0..).zip(&lists).fold(0, |shape, (at, list)| shape | u8::from(!list.is_empty()) << at);
    let mut keys = vec![[0; KEYS]];
    for (at, list) in lists.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
        let with = |one: u32| {
            move |mut key: Key| {
                key[at] = one;
                key
            }
        };
        keys = list.iter().flat_map(|&one| keys.iter().copied().map(with(one))).collect();
    }
    keys.into_iter().for_each(|key| tell(shape, key));
}

fn combinations(when: &When) -> Option<usize> {
    let lists = lists_of(when);
    lists.iter().map(Vec::len).chain([when.times.len()]).map(|len| len.max(1)).try_fold(1, usize::checked_mul)
}

/// The part of a key that a shape names.
#[inline]
fn named(whole: &Key, shape: u8) -> Key {
    std::array::from_fn(|at| if shape >> at & 1 != 0 { whole[at] } else { 0 })
}

#[inline]
fn hash(shape: u8, key: &Key) -> u64 {
    let [product, store, merchant, channel, weekday] = key.map(u64::from);
    mix(product << 32 | store, merchant << 32 | weekday << 16 | channel << 8 | u64::from(shape))
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
