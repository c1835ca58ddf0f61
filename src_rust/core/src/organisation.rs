//! Programmes, merchants, stores and terminals: who is there, and who belongs to whom.
//!
//! Everything belongs to a programme. Nothing is ever removed, so that an index into these lists stays good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::accounts::Books;
use crate::calendar::{Calendar, is_date};
use crate::clearing::Growth;
use crate::codes::Code;
use crate::commands::{Cursor, Registration, RulesVersion};
use crate::memory::prefetch;
use crate::rules::Tables;
use crate::series::Series;
use crate::table::{Table, mix};

const NAME_BYTES_MAX: usize = 64;
/// Local time may lie this far outside the business date before rules say otherwise.
const TIME_TOLERANCE_S: i32 = 86_400;

/// The published rules of a programme. Kept as they were published, and read again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "PublishedRules")]
pub struct Rules {
    /// From 1, without gaps.
    pub version: u32,
    /// The file as it was written.
    pub text: String,
    /// What it compiled to.
    pub json: String,
    /// The same, read.
    #[serde(skip_serializing)]
    pub tables: Tables,
}

#[derive(Deserialize)]
struct PublishedRules {
    version: u32,
    text: String,
    json: String,
}

impl TryFrom<PublishedRules> for Rules {
    type Error = String;

    fn try_from(PublishedRules { version, text, json }: PublishedRules) -> Result<Rules, String> {
        let tables = Tables::parse(&json)?;
        Ok(Rules { version, text, json, tables })
    }
}

/// An issuer with its own cards, rules and books.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Programme {
    /// 1 to 65535.
    pub number: u16,
    /// For people.
    pub name: String,
    /// First business date.
    pub first_date: i32,
    /// Business dates.
    pub calendar: Calendar,
    /// Newest rules.
    pub rules: Option<Rules>,
    /// Every version that was published, these rules too, in order.
    pub versions: Vec<RulesVersion>,
    /// Totals of its accounts, stores apart.
    pub books: Books,
    /// The books as the open day began.
    pub morning: Books,
    /// Merchants: index by number.
    pub merchants: BTreeMap<u32, u32>,
    /// Stores: index by number.
    pub stores: BTreeMap<u32, u32>,
    /// Number of cards.
    pub cards: u64,
    /// The cards' indexes, as runs of (first, count).
    pub card_runs: Vec<(u32, u32)>,
    /// Growths that were funded so far.
    pub growths: u32,
    /// The growth that is being granted.
    pub growth: Option<Growth>,
    /// Date of the newest growth that is complete.
    pub growth_date: Option<i32>,
    /// Date and rate of every growth that was funded.
    pub growth_rates: Vec<(i32, u64)>,
    /// Coupons that are out as codes, by unit.
    pub series: BTreeMap<u16, Series>,
    /// What members of staff sold, by the index of their card.
    pub staff: BTreeMap<u32, Sold>,
    /// How many are out of each bundle that has, or had, a stock.
    pub out: BTreeMap<u16, u32>,
    /// Where triggers are, by their numbers.
    pub cursors: BTreeMap<u16, Cursor>,
}

/// What a member of staff sold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sold {
    /// How many sales; those that were undone still count.
    pub sales: u64,
    /// What they came to, less what was refunded or undone.
    pub amount: i128,
}

impl Sold {
    /// Adds a sale, or what of one was undone and how.
    pub fn add(&mut self, amount: i64, is_sale: bool) {
        self.sales += u64::from(is_sale);
        self.amount += i128::from(amount);
    }
}

impl Programme {
    fn new(number: u16, name: &str, date: i32) -> Programme {
        Programme {
            number,
            name: name.into(),
            first_date: date,
            calendar: Calendar::new(date),
            rules: None,
            versions: Vec::new(),
            books: Books::default(),
            morning: Books::default(),
            merchants: BTreeMap::new(),
            stores: BTreeMap::new(),
            cards: 0,
            card_runs: Vec::new(),
            growths: 0,
            growth: None,
            growth_date: None,
            growth_rates: Vec::new(),
            series: BTreeMap::new(),
            staff: BTreeMap::new(),
            out: BTreeMap::new(),
            cursors: BTreeMap::new(),
        }
    }

    /// Version of the rules in force; 0 before the first.
    #[inline]
    pub fn rule_version(&self) -> u32 {
        self.rules.as_ref().map_or(0, |rules| rules.version)
    }

    /// Puts the next version of the rules in force, that of the entry with this sequence.
    pub fn publish(&mut self, rules: Rules, sequence: u64) {
        self.versions.push(RulesVersion { version: rules.version, sequence, date: self.calendar.open });
        self.rules = Some(rules);
    }

    /// How far local time may lie outside the business date, in seconds.
    #[inline]
    pub fn time_tolerance_s(&self) -> i32 {
        self.rules.as_ref().map_or(TIME_TOLERANCE_S, |rules| rules.tables.time_tolerance_s)
    }

    /// Counts a card that was issued with this index.
    pub fn add_card(&mut self, index: u32) {
        self.cards += 1;
        match self.card_runs.last_mut() {
            Some((first, count)) if *first + *count == index => *count += 1,
            _ => self.card_runs.push((index, 1)),
        }
    }
}

/// Who issues cards, at its stores' terminals, and owes the points on them. One line of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(align(64))]
pub struct Merchant {
    /// Its number in the programme.
    pub number: u32,
    /// Programme that it belongs to.
    pub programme: u16,
    /// Points on the cards that it issued, but for what is granted.
    pub points: i128,
    /// What these cards have been granted of a growth that is not complete.
    pub granted: i128,
    /// What they were granted by the newest growth that is complete.
    pub growth: i128,
}

const _: () = assert!(size_of::<Merchant>() == 64);

/// Where cards are swiped; its accounts. One line of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(align(64))]
pub struct Store {
    /// Its number in the programme.
    pub number: u32,
    /// Index of its merchant.
    pub merchant: u32,
    /// Account 16.
    pub clearing: i128,
    /// Account 17.
    pub collection: i128,
    /// Account 18.
    pub due: i128,
}

const _: () = assert!(size_of::<Store>() == 64);

/// Business date and trace of a key, in one word that is greater the newer the key is.
#[inline]
fn newness(date: i32, trace: u32) -> i64 {
    i64::from(date) << 32 | i64::from(trace)
}

/// A registered terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    programme: u16,
    number: u32,
    /// Index of its store.
    pub store: u32,
    /// [`newness`] of the newest of its keys that is kept, or marked by a reversal.
    newest: i64,
}

/// All of it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Organisation {
    /// In order of registration.
    pub programmes: Vec<Programme>,
    /// In order of registration.
    pub merchants: Vec<Merchant>,
    /// The merchants' names, for people.
    merchant_names: Vec<String>,
    /// In order of registration.
    pub stores: Vec<Store>,
    /// The stores' names, for people.
    store_names: Vec<String>,
    /// Account 19 of each store: apart, because hardly a swipe touches it.
    pub fees: Vec<i128>,
    terminals: Vec<Terminal>,
    /// The same of the keys that reversals marked of terminals that were not registered: one that is registered later begins with it.
    newest_stray: i64,
    /// Index of the programme with a number, plus one.
    #[serde(skip)]
    by_number: Vec<u32>,
    /// Index of a terminal.
    #[serde(skip)]
    terminal_index: Table,
    /// Index of the first store of each merchant that has one.
    #[serde(skip)]
    seats: BTreeMap<u32, u32>,
}

impl Organisation {
    /// Makes the indexes again after the lists were read.
    pub fn index(&mut self) {
        self.by_number.clear();
        for (at, programme) in self.programmes.iter().enumerate() {
            index_programme(&mut self.by_number, programme.number, at);
        }
        self.seats.clear();
        for (at, store) in self.stores.iter().enumerate() {
            self.seats.entry(store.merchant).or_insert(at as u32);
        }
        self.terminal_index = Table::default();
        for (at, terminal) in self.terminals.iter().enumerate() {
            self.terminal_index.insert(terminal_hash(terminal.programme, terminal.number), at as u32);
        }
    }

    /// Index of a programme.
    #[inline]
    pub fn programme(&self, number: u16) -> Option<usize> {
        (*self.by_number.get(usize::from(number))? as usize).checked_sub(1)
    }

    /// Asks for the memory in which the search for a terminal begins.
    #[inline]
    pub fn prefetch_terminal(&self, hash: u64) {
        self.terminal_index.prefetch(hash);
    }

    /// The terminal that this [`terminal_hash`] most likely belongs to, its memory asked for.
    #[inline]
    pub fn prefetch_likely_terminal(&self, hash: u64) -> Option<u32> {
        let index = self.terminal_index.first(hash)?;
        prefetch(&self.terminals[index as usize]);
        Some(index)
    }

    /// Index of the terminal with this number and [`terminal_hash`].
    #[inline]
    pub fn terminal(&self, hash: u64, programme: u16, number: u32) -> Option<u32> {
        self.terminal_index.get(hash).find(|&index| self.is_terminal(index, programme, number))
    }

    /// True if the terminal with this index has this number.
    #[inline]
    pub fn is_terminal(&self, index: u32, programme: u16, number: u32) -> bool {
        let terminal = &self.terminals[index as usize];
        terminal.number == number && terminal.programme == programme
    }

    /// Index of a terminal's store.
    #[inline]
    pub fn store_of(&self, terminal: u32) -> u32 {
        self.terminals[terminal as usize].store
    }

    /// True if no key of this terminal with this date and trace can have been kept or marked before. The traces of a terminal rise: it
    /// is nearly always true, and spares the search for the key.
    #[inline]
    pub fn is_new(&self, terminal: u32, date: i32, trace: u32) -> bool {
        newness(date, trace) > self.terminals[terminal as usize].newest
    }

    /// Remembers a key of this terminal that is kept or marked.
    #[inline]
    pub fn note_trace(&mut self, terminal: Option<u32>, date: i32, trace: u32) {
        let newest = match terminal {
            Some(index) => &mut self.terminals[index as usize].newest,
            None => &mut self.newest_stray,
        };
        *newest = (*newest).max(newness(date, trace));
    }

    /// Index of a store by its number.
    pub fn store(&self, programme: usize, number: u32) -> Option<u32> {
        self.programmes[programme].stores.get(&number).copied()
    }

    /// Index of the seat of the merchant with this index: the first store that it registered, which settles for its cards.
    pub fn seat(&self, merchant: u32) -> Option<u32> {
        self.seats.get(&merchant).copied()
    }

    /// True if a card can be of this programme and product, issued by the merchant with this index.
    pub fn may_have_card(&self, programme: u16, product: u16, merchant: u32) -> bool {
        if self.merchants.get(merchant as usize).is_none_or(|merchant| merchant.programme != programme) {
            return false;
        }
        let found = self.programme(programme).map(|at| &self.programmes[at]);
        let rules = found.and_then(|found| found.rules.as_ref());
        rules.is_some_and(|rules| rules.tables.product(product).is_some())
    }

    /// What registering this would be answered; None if it is to be added.
    pub fn check(&self, registration: &Registration) -> Option<Code> {
        let found = |same: bool| Some(if same { Code::Approved } else { Code::Duplicate });
        let long = |name: &str| name.len() > NAME_BYTES_MAX;
        match registration {
            Registration::Programme { programme, name, date } => {
                if *programme == 0 || long(name) || !is_date(*date) {
                    return Some(Code::FormatError);
                }
                let known = &self.programmes[self.programme(*programme)?];
                found(known.name == *name && known.first_date == *date)
            }
            Registration::Merchant { programme, merchant, name } => {
                if *programme == 0 || *merchant == 0 || long(name) {
                    return Some(Code::FormatError);
                }
                let Some(at) = self.programme(*programme) else { return Some(Code::InvalidTransaction) };
                let known = *self.programmes[at].merchants.get(merchant)?;
                found(self.merchant_names[known as usize] == *name)
            }
            Registration::Store { programme, store, merchant, name } => {
                if *programme == 0 || *store == 0 || *merchant == 0 || long(name) {
                    return Some(Code::FormatError);
                }
                let Some(at) = self.programme(*programme) else { return Some(Code::InvalidTransaction) };
                let Some(&merchant) = self.programmes[at].merchants.get(merchant) else {
                    return Some(Code::InvalidTransaction);
                };
                let known = self.store(at, *store)? as usize;
                found(self.stores[known].merchant == merchant && self.store_names[known] == *name)
            }
            Registration::Terminal { programme, terminal, store } => {
                if *programme == 0 || *terminal == 0 || *store == 0 {
                    return Some(Code::FormatError);
                }
                let known = self.programme(*programme).and_then(|at| self.store(at, *store));
                let Some(store) = known else { return Some(Code::InvalidTransaction) };
                let known = self.terminal(terminal_hash(*programme, *terminal), *programme, *terminal)?;
                found(self.store_of(known) == store)
            }
        }
    }

    /// Adds what [`check`](Self::check) found to be new; false if it cannot be.
    pub fn add(&mut self, registration: &Registration) -> bool {
        if self.check(registration).is_some() {
            return false;
        }
        match registration {
            Registration::Programme { programme, name, date } => {
                index_programme(&mut self.by_number, *programme, self.programmes.len());
                self.programmes.push(Programme::new(*programme, name, *date));
            }
            Registration::Merchant { programme, merchant, name } => {
                let Some(at) = self.programme(*programme) else { return false };
                self.programmes[at].merchants.insert(*merchant, self.merchants.len() as u32);
                let (number, programme) = (*merchant, *programme);
                self.merchants.push(Merchant { number, programme, points: 0, granted: 0, growth: 0 });
                self.merchant_names.push(name.clone());
            }
            Registration::Store { programme, store, merchant, name } => {
                let Some(at) = self.programme(*programme) else { return false };
                let Some(&merchant) = self.programmes[at].merchants.get(merchant) else { return false };
                self.programmes[at].stores.insert(*store, self.stores.len() as u32);
                self.seats.entry(merchant).or_insert(self.stores.len() as u32);
                self.fees.push(0);
                let (clearing, collection, due) = (0, 0, 0);
                self.stores.push(Store { number: *store, merchant, clearing, collection, due });
                self.store_names.push(name.clone());
            }
            Registration::Terminal { programme, terminal, store } => {
                let Some(store) = self.programme(*programme).and_then(|at| self.store(at, *store)) else { return false };
                let newest = self.newest_stray;
                self.terminal_index.insert(terminal_hash(*programme, *terminal), self.terminals.len() as u32);
                self.terminals.push(Terminal { programme: *programme, number: *terminal, store, newest });
            }
        }
        true
    }
}

/// What a terminal is found with.
#[inline]
pub fn terminal_hash(programme: u16, terminal: u32) -> u64 {
    mix(terminal.into(), programme.into())
}

fn index_programme(by_number: &mut Vec<u32>, number: u16, at: usize) {
    if by_number.len() <= usize::from(number) {
        by_number.resize(usize::from(number) + 1, 0);
    }
    by_number[usize::from(number)] = at as u32 + 1;
}
