//! Decision tables: which rules apply to a sale, found at a cost that does not grow with their number.
//!
//! Rules that name the same kinds of things - stores and products, say - have the same shape, and a table finds them by what they name. A
//! sale asks once for every shape that occurs, of which there are few, and looks at the windows of what it finds: the rules of its
//! own store, product and so on, however many others there are (tuple space search: Srinivasan, Suri, Varghese, SIGCOMM 1999).
//!
//! Invariant: which rules are found does not depend on how the tables lie; in which order they are told means nothing.

use std::collections::BTreeMap;
use std::fmt;

use zerocopy::{FromBytes, IntoBytes};

use crate::memory::{Slab, prefetch};
use crate::rules::when::{Hour, Moment, TOGETHER, When, Window, Windows};
use crate::table::{Table, mix};

/// Most entries: one for every combination of what a rule names and every time of day.
pub(super) const ENTRIES_MAX: usize = 1 << 22;

/// So many blocks of a place are asked for ahead: nearly always it is one.
const BLOCKS_AHEAD: usize = 4;

/// What a rule names, each kind of thing in its own bits; 0 where it names none.
type Key = u128;
/// Which kinds of things a rule names: a bit for each of [`KINDS`].
type Shape = u16;

/// First bit and number of bits of each kind of thing that rules name.
const KINDS: [(u32, u32); 9] = [STORE, MERCHANT, PRODUCT, CATEGORY, REGION, CHANNEL, TIER, WEEKDAY, BIRTHDAY];
const STORE: (u32, u32) = (0, 32);
const MERCHANT: (u32, u32) = (32, 32);
const PRODUCT: (u32, u32) = (64, 16);
const CATEGORY: (u32, u32) = (80, 16);
const REGION: (u32, u32) = (96, 12);
const CHANNEL: (u32, u32) = (108, 8);
const TIER: (u32, u32) = (116, 5);
const WEEKDAY: (u32, u32) = (121, 3);
const BIRTHDAY: (u32, u32) = (124, 3);
/// The bit of shapes that is that of categories.
const BY_LINE: Shape = 1 << 3;

const _: () = assert!(KINDS[3].0 == CATEGORY.0);

/// The bits of a key that a shape names.
fn mask(shape: Shape) -> Key {
    let bits = |&(first, len): &(u32, u32)| (((1u128 << len) - 1) << first) as Key;
    (0..).zip(&KINDS).filter(|(at, _)| shape >> at & 1 != 0).map(|(_, kind)| bits(kind)).sum()
}

/// Some rules, each in one window: three lines of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block {
    windows: Windows,
    /// Their numbers.
    rules: [u32; TOGETHER],
}

const _: () = assert!(size_of::<Block>() == 192);

impl Block {
    /// Asks for all of its lines.
    #[inline]
    fn prefetch(&self) {
        self.windows.prefetch();
    }
}

/// What rules of a shape name, and these rules: if it is one, one line of the cache tells all of it.
#[derive(Clone, Copy, PartialEq, FromBytes, IntoBytes)]
#[repr(C, align(64))]
struct Place {
    key: Key,
    /// That of the one rule.
    window: Window,
    /// The one rule; or the first block of several. Stores that the same rules name share their blocks.
    rules: u32,
    /// How many blocks they have; 0: it is one rule.
    blocks: u32,
    shape: Shape,
    reserved: [u8; 18],
}

/// Which rules apply to which sales.
#[derive(Clone, Default)]
pub(super) struct Decisions {
    /// Those that occur and name no category, and those that do.
    shapes: [Shapes; 2],
    /// Numbers of places, by the hash of shape and key.
    table: Table,
    /// On huge pages if they are many.
    places: Slab<Place>,
    blocks: Vec<Block>,
}

/// Shapes, and which of them a sale may meet.
#[derive(Clone, Default)]
struct Shapes {
    /// Ascending, with the bits that they name.
    all: Vec<(Shape, Key)>,
    /// For each of the [`FEW`] and each of its values the shapes of rules that name the value, or no value of this kind: a bit for each.
    may: [Vec<u64>; FEW.len()],
    /// The shapes that name no value of it.
    free: [u64; FEW.len()],
}

/// The kinds of things of which there are few: what no rule names of these is known without a search.
const FEW: [usize; 7] = [2, 3, 4, 5, 6, 7, 8];
/// The last bit stands for all shapes from here on.
const BITS: usize = 64;

impl Shapes {
    /// Adds a key of a rule; shapes come in ascending order.
    fn add(&mut self, shape: Shape, key: Key) {
        if self.all.last().is_none_or(|last| last.0 != shape) {
            self.all.push((shape, mask(shape)));
        }
        let bit = 1 << (self.all.len() - 1).min(BITS - 1);
        for ((&kind, may), free) in FEW.iter().zip(&mut self.may).zip(&mut self.free) {
            if shape >> kind & 1 == 0 {
                *free |= bit;
                continue;
            }
            let value = value_of(key, kind);
            if value >= may.len() {
                may.resize(value + 1, 0);
            }
            may[value] |= bit;
        }
    }

    /// All were added.
    fn finish(&mut self) {
        for (may, free) in self.may.iter_mut().zip(&self.free) {
            may.iter_mut().for_each(|bits| *bits |= free);
        }
    }

    /// Those that something with this key may meet.
    #[inline]
    fn met(&self, key: Key) -> impl Iterator<Item = (Shape, Key)> {
        let mut bits = u64::MAX;
        for (at, &kind) in FEW.iter().enumerate() {
            bits &= self.may[at].get(value_of(key, kind)).unwrap_or(&self.free[at]);
        }
        let met = move |at: &usize| bits >> (*at).min(BITS - 1) & 1 != 0;
        let (mut low, rest) = (bits & (u64::MAX >> 1), BITS - 1..self.all.len());
        let first = std::iter::from_fn(move || {
            let at = low.trailing_zeros() as usize;
            low &= low.wrapping_sub(1);
            (at < BITS).then_some(at)
        });
        first.chain(rest.filter(met)).map(|at| self.all[at])
    }
}

/// What a key has of a kind of things.
#[inline]
fn value_of(key: Key, kind: usize) -> usize {
    let (first, len) = KINDS[kind];
    (key >> first) as usize & ((1 << len) - 1)
}

/// The rules that apply to some sales: looked up ahead for all of them, step by step, so that nothing is waited for.
#[derive(Default)]
pub struct Foreseen {
    /// What was asked for, and where its rules end.
    asked: Vec<(Moment, u32)>,
    rules: Vec<u32>,
    /// Room for what is sought.
    sought: Vec<Sought>,
}

/// A place that is looked for.
struct Sought {
    hash: u64,
    shape: Shape,
    key: Key,
    /// Where it may be.
    place: Option<u32>,
}

impl Foreseen {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.asked.clear();
    }

    /// Adds what will be asked for; its number.
    #[inline]
    pub fn ask(&mut self, moment: Moment) -> usize {
        self.asked.push((moment, 0));
        self.asked.len() - 1
    }

    /// What was asked for under this number.
    #[inline]
    pub fn moment(&self, at: usize) -> Option<&Moment> {
        self.asked.get(at).map(|asked| &asked.0)
    }

    /// Numbers of the rules that apply to it.
    #[inline]
    pub(super) fn rules(&self, at: usize) -> &[u32] {
        let end = |at: usize| self.asked.get(at).map_or(self.rules.len(), |asked| asked.1 as usize);
        &self.rules[at.checked_sub(1).map_or(0, end)..end(at)]
    }
}

impl fmt::Debug for Decisions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} blocks of rules at {} places", self.blocks.len(), self.places.len())
    }
}

impl Decisions {
    /// The tables of rules, which are numbered as they come; None if there are too many combinations of what they name.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a When>) -> Option<Decisions> {
        let mut sorted: BTreeMap<(Shape, Key), Vec<(Window, u32)>> = BTreeMap::new();
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
        let mut decisions =
            Decisions { table: Table::with_room(sorted.len()), places: Slab::zeroed(sorted.len()), ..Decisions::default() };
        let mut firsts = BTreeMap::new();
        for (number, ((shape, key), entries)) in sorted.into_iter().enumerate() {
            decisions.shapes[usize::from(shape & BY_LINE != 0)].add(shape, key);
            decisions.table.insert(hash(shape, key), number as u32);
            let (window, rules, blocks) = match entries[..] {
                [(window, rule)] => (window, rule, 0),
                _ => {
                    let (window, blocks) = (entries[0].0, entries.len().div_ceil(TOGETHER) as u32);
                    (window, *firsts.entry(entries).or_insert_with_key(|entries| decisions.push(entries)), blocks)
                }
            };
            decisions.places[number] = Place { key, window, rules, blocks, shape, reserved: [0; 18] };
        }
        decisions.shapes.iter_mut().for_each(Shapes::finish);
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
        first
    }

    /// True if there is no rule.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The shapes that are looked up for a sale, or for goods of a category in it.
    #[inline]
    fn shapes(&self, moment: &Moment) -> &Shapes {
        &self.shapes[usize::from(moment.category != 0)]
    }

    /// True if some name categories.
    #[inline]
    pub(super) fn look_at_lines(&self) -> bool {
        !self.shapes[1].all.is_empty()
    }

    /// Finds the rules that apply to all that was asked for; each is told as it is found.
    pub(super) fn foresee(&self, foreseen: &mut Foreseen, found: impl Fn(u32)) {
        let Foreseen { asked, rules, sought } = foreseen;
        sought.clear();
        rules.clear();
        for (moment, end) in asked.iter_mut() {
            let whole = key_of(moment);
            sought.extend(self.shapes(moment).met(whole).map(|(shape, mask)| {
                let key = whole & mask;
                Sought { hash: hash(shape, key), shape, key, place: None }
            }));
            *end = sought.len() as u32;
        }
        sought.iter().for_each(|of| self.table.prefetch(of.hash));
        for of in sought.iter_mut() {
            // Nearly always it is the one that is sought.
            of.place = self.table.first(of.hash);
            of.place.iter().for_each(|&place| prefetch(&self.places[place as usize]));
        }
        for of in sought.iter_mut().filter(|of| of.place.is_some()) {
            let place = self.place(of.hash, of.shape, of.key);
            of.place = place.map(|(number, _)| number);
            place.into_iter().for_each(|(_, place)| self.blocks_of(place).iter().take(BLOCKS_AHEAD).for_each(Block::prefetch));
        }
        let mut from = 0;
        for (moment, end) in asked {
            let hour = Hour::of(moment);
            for place in sought[from..*end as usize].iter().filter_map(|of| of.place) {
                self.each_at(&self.places[place as usize], &hour, |number| {
                    found(number);
                    rules.push(number);
                });
            }
            from = *end as usize;
            *end = rules.len() as u32;
        }
    }

    /// The place of the rules of a shape that name what is in a key.
    #[inline]
    fn place(&self, hash: u64, shape: Shape, key: Key) -> Option<(u32, &Place)> {
        let mut found = self.table.get(hash).map(|number| (number, &self.places[number as usize]));
        found.find(|(_, place)| place.shape == shape && place.key == key)
    }

    /// Tells the number of every rule that applies, as far as its least amount lets it: to a sale as a whole, or, of a moment with a category,
    /// to goods of this category alone.
    pub(super) fn each(&self, moment: &Moment, hour: &Hour, mut tell: impl FnMut(u32)) {
        let whole = key_of(moment);
        for (shape, mask) in self.shapes(moment).met(whole) {
            let key = whole & mask;
            if let Some((_, place)) = self.place(hash(shape, key), shape, key) {
                self.each_at(place, hour, &mut tell);
            }
        }
    }

    #[inline]
    fn blocks_of(&self, place: &Place) -> &[Block] {
        if place.blocks == 0 { &[] } else { &self.blocks[place.rules as usize..][..place.blocks as usize] }
    }

    #[inline]
    fn each_at(&self, place: &Place, hour: &Hour, mut tell: impl FnMut(u32)) {
        if (place.blocks == 0) & place.window.holds(hour) {
            tell(place.rules);
        }
        for block in self.blocks_of(place) {
            let mut held = block.windows.hold(hour);
            while held != 0 {
                tell(block.rules[held.trailing_zeros() as usize]);
                held &= held - 1;
            }
        }
    }
}

#[inline]
fn key_of(moment: &Moment) -> Key {
    let put = |(first, _): (u32, u32), one: u32| Key::from(one) << first;
    put(STORE, moment.store)
        | put(MERCHANT, moment.merchant)
        | put(PRODUCT, moment.product.into())
        | put(CATEGORY, moment.category.into())
        | put(REGION, moment.region.into())
        | put(CHANNEL, moment.channel.into())
        | put(TIER, moment.tier.into())
        | put(WEEKDAY, moment.weekday())
        | put(BIRTHDAY, moment.birthday.into())
}

/// What a rule names, in the order of the [`KINDS`].
fn lists_of(when: &When) -> [Vec<u32>; KINDS.len()] {
    fn wide<T: Copy + Into<u32>>(list: &[T]) -> Vec<u32> {
        list.iter().map(|&one| one.into()).collect()
    }
    [
        when.stores.clone(),
        when.merchants.clone(),
        wide(&when.products),
        wide(&when.categories),
        wide(&when.regions),
        wide(&when.channels),
        wide(&when.tiers),
        when.named_weekdays(),
        when.named_birthdays(),
    ]
}

/// Tells of every combination of what a rule names, and of its shape. A channel or a weekday may be 0, which stands for none in a key: kinds are
/// told by the shape.
fn each_key(when: &When, mut tell: impl FnMut(Shape, Key)) {
    let lists = lists_of(when);
    let shape = (0..).zip(&lists).fold(0, |shape, (at, list)| shape | Shape::from(!list.is_empty()) << at);
    let mut keys: Vec<Key> = vec![0];
    for ((first, _), list) in KINDS.into_iter().zip(&lists).filter(|(_, list)| !list.is_empty()) {
        keys = list.iter().flat_map(|&one| keys.iter().map(move |key| key | Key::from(one) << first)).collect();
    }
    keys.into_iter().for_each(|key| tell(shape, key));
}

fn combinations(when: &When) -> Option<usize> {
    let lists = lists_of(when);
    lists.iter().map(Vec::len).chain([when.times.len()]).map(|len| len.max(1)).try_fold(1, usize::checked_mul)
}

#[inline]
fn hash(shape: Shape, key: Key) -> u64 {
    // Where bits of both meet, others still tell them apart: who asks compares shape and key.
    mix(key as u64, (key >> 64) as u64 ^ u64::from(shape).rotate_right(16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Birthday, Condition};
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
            (0..3i64, list(3), list(3), list(3), prop::option::of(prop::sample::select(BIRTHDAYS.to_vec()))),
        )
            .prop_map(|(products, stores, merchants, channels, from, until, (weekdays, month_days), times, rest)| When {
                products: products.into_iter().map(|one| one as u16).collect(),
                stores: stores.into_iter().collect(),
                merchants: merchants.into_iter().collect(),
                channels: channels.into_iter().map(|one| one as u8).collect(),
                regions: rest.1.into_iter().map(|one| one as u16).collect(),
                tiers: rest.2.into_iter().map(|one| one as u8).collect(),
                categories: rest.3.into_iter().map(|one| one as u16 + 1).collect(),
                birthday: rest.4,
                from: from * 10,
                until: until * 15,
                weekdays,
                month_days: if month_days % 3 == 0 { 0 } else { month_days << 1 },
                times: (0..4).zip(times).filter(|(_, on)| *on).map(|(at, _)| (at * 21_600, (at + 1) * 21_600)).collect(),
                min_spend: rest.0,
            })
    }

    fn moment() -> impl Strategy<Value = Moment> {
        let of = (0..3u16, 0..3u8, 0..4u16, 0..8u8);
        (0..4u16, 0..4u32, 0..3u32, 0..3u8, 0..3i64, 0..40i32, 0..86_400i32, of).prop_map(
            |(product, store, merchant, channel, amount, date, second, (region, tier, category, birthday))| {
                let moment = Moment::new(product, amount).at(store, merchant, channel).on(date, second);
                let mut moment = moment.of(region, tier).with(category);
                moment.birthday = birthday;
                moment
            },
        )
    }

    /// 1970-01-05 was one.
    const MONDAY: i32 = 4;
    const BIRTHDAYS: [Birthday; 3] = [Birthday::Day, Birthday::Week, Birthday::Month];

    /// One rule after the other, condition by condition; the least amount is not the tables'.
    fn slowly(rules: &[When], moment: &Moment) -> Vec<usize> {
        let of_kind = |when: &&When| when.categories.is_empty() == (moment.category == 0);
        let applies = |when: &&When| when.missed(moment).iter().all(|&condition| condition == Condition::MinSpend);
        (0..).zip(rules).filter(|(_, when)| of_kind(when) && applies(when)).map(|(at, _)| at).collect()
    }

    proptest! {
        #[test]
        fn the_tables_find_what_the_rules_say(
            rules in prop::collection::vec(when(), 0..40), moments in prop::collection::vec(moment(), 1..20),
        ) {
            let decisions = Decisions::of(rules.iter()).unwrap();
            for moment in &moments {
                let mut found = Vec::new();
                decisions.each(moment, &Hour::of(moment), |number| found.push(number as usize));
                found.sort_unstable();
                prop_assert_eq!(found, slowly(&rules, moment));
            }
            let mut foreseen = Foreseen::default();
            for moment in &moments {
                foreseen.ask(*moment);
            }
            decisions.foresee(&mut foreseen, |_| {});
            for (at, moment) in moments.iter().enumerate() {
                let mut found = Vec::new();
                found.extend(foreseen.rules(at).iter().map(|&number| number as usize));
                found.sort_unstable();
                prop_assert_eq!(found, slowly(&rules, moment));
            }
        }
    }

    #[test]
    fn more_shapes_than_there_are_bits_are_told_apart() {
        let named = |shape: u32, kind: u32| shape >> kind & 1 != 0;
        let list = |shape, kind| if named(shape, kind) { vec![1] } else { vec![] };
        let when = |shape, categories: &[u16]| When {
            stores: list(shape, 0),
            merchants: list(shape, 1),
            products: if named(shape, 2) { vec![1] } else { vec![] },
            regions: if named(shape, 3) { vec![1] } else { vec![] },
            channels: if named(shape, 4) { vec![1] } else { vec![] },
            tiers: if named(shape, 5) { vec![1] } else { vec![] },
            weekdays: u8::from(named(shape, 6)),
            categories: categories.to_vec(),
            ..When::default()
        };
        let rules: Vec<When> = (0..128).flat_map(|shape| [when(shape, &[]), when(shape, &[1])]).collect();
        let decisions = Decisions::of(rules.iter()).unwrap();
        assert_eq!([0, 1].map(|which: usize| decisions.shapes[which].all.len()), [128, 128]);
        let met = |shape, kind| u32::from(named(shape, kind)) as u8;
        for shape in 0..128u32 {
            let one = |kind| met(shape, kind);
            let at = Moment::new(one(2).into(), 1).at(one(0).into(), one(1).into(), one(4));
            let moment = at.of(one(3).into(), one(5)).on(MONDAY + i32::from(1 - one(6)), 0);
            for category in [0, 1, 2] {
                let (moment, mut found) = (moment.with(category), Vec::new());
                decisions.each(&moment, &Hour::of(&moment), |number| found.push(number as usize));
                found.sort_unstable();
                let many = if category == 2 { 0 } else { 1 << shape.count_ones() };
                assert_eq!((found.len(), &found), (many, &slowly(&rules, &moment)));
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
