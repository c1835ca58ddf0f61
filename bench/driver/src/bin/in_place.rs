//! `in_place`: the swipe posted by updating accounts in place in LMDB, a peer of the engine's benchmarks.
//!
//! One thread, 8,192 swipes a durable commit. A swipe looks up its key, terminal and card, is priced, changes the records
//! of card and store, keeps its key, and appends a journal row of its legs. Cards, keys, stores, terminals and journal
//! are a database each. A store's record holds its share of the issuer's accounts and of the points pool. Prints one
//! JSON object: the rate of every run, and what the books say afterwards, read again from the databases.

use std::collections::HashMap;
use std::error::Error;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithoutTls};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Table = Database<'static, Bytes, Bytes>;

const SWIPES_PER_COMMIT: usize = 8_192;
const MAP_BYTES: usize = 1 << 38;
const CARD_FACTOR: u128 = 6_180_339_887_498_949;
const CARD_RANGE: u128 = 10_000_000_000_000_000;
const AMOUNT_MAX: i64 = 100_000_000_000_000;
const DAYS_OPEN: i64 = 7;
const ACTIVE: i64 = 1;

/// Posts swipes in place and prints one JSON object.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// An empty directory for the database.
    #[arg(long)]
    directory: PathBuf,
    /// Rates, limits and opening books, as a JSON object of integers.
    #[arg(long)]
    numbers: String,
    /// Seconds of each run.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before the first run.
    #[arg(long, default_value_t = 3.0)]
    warm_up: f64,
    /// Runs.
    #[arg(long, default_value_t = 3)]
    runs: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut chain = Chain::build(&args.directory, Numbers::read(&args.numbers)?)?;
    let (_, mut posted) = chain.run(args.warm_up)?;
    let mut rates = Vec::new();
    for _ in 0..args.runs {
        let (rate, kept) = chain.run(args.seconds)?;
        rates.push(rate);
        posted += kept;
    }
    posted += chain.check_retries()?;
    println!("{}", json!({ "swipes_per_s": rates, "posted": posted, "books": chain.books()? }));
    Ok(())
}

/// A rate as a fraction.
#[derive(Clone, Copy)]
struct Rate(i64, i64);

impl Rate {
    fn of(self, amount: i64) -> i64 {
        (i128::from(amount) * i128::from(self.0) / i128::from(self.1)) as i64
    }
}

/// The rules of the chain, and what it starts with.
struct Numbers {
    discount: Rate,
    offset: Rate,
    price: Rate,
    bonus: Rate,
    accrual: Rate,
    gift: Rate,
    points_min: i64,
    gift_from: i64,
    balance_max: i64,
    opening: i64,
    opening_bonus: i64,
    stores: i64,
    cards: i64,
    day: i64,
    purchases: RangeInclusive<i64>,
    top_ups: RangeInclusive<i64>,
}

impl Numbers {
    fn read(text: &str) -> Result<Numbers> {
        let found: Value = serde_json::from_str(text)?;
        let number = |name: &str| found[name].as_i64().ok_or(format!("--numbers: there is no integer `{name}`"));
        let rate = |name: &str| -> Result<Rate> { Ok(Rate(number(&format!("{name}_n"))?, number(&format!("{name}_d"))?)) };
        Ok(Numbers {
            discount: rate("discount")?,
            offset: rate("offset")?,
            price: rate("price")?,
            bonus: rate("bonus")?,
            accrual: rate("accrual")?,
            gift: rate("gift")?,
            points_min: number("points_min")?,
            gift_from: number("gift_from")?,
            balance_max: number("balance_max")?,
            opening: number("opening")?,
            opening_bonus: number("opening_bonus")?,
            stores: number("stores")?,
            cards: number("cards")?,
            day: number("day")?,
            purchases: number("purchase_min")?..=number("purchase_max")?,
            top_ups: number("top_up_min")?..=number("top_up_max")?,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    TopUp = 2,
    Purchase = 3,
    Balance = 6,
}

struct Swipe {
    kind: Kind,
    terminal: i64,
    card: i64,
    amount: i64,
    /// Minus the terminal and its trace, or a 128-bit id.
    key: (i64, i64),
    day: i64,
    time: i64,
}

/// A card's record, and the first legs of a row.
const PRINCIPAL: usize = 0;
const BONUS: usize = 1;
const POINTS: usize = 2;
const EXPIRES: usize = 3;
const STATUS: usize = 4;
type Card = [i64; 5];

/// Legs: the card's principal and bonus, points spent and earned, then what a store's record holds.
const SPENT: usize = 2;
const EARNED: usize = 3;
const CLEARING: usize = 4;
const COLLECTION: usize = 5;
const ISSUER_BONUS: usize = 6;
const ISSUER_POINTS: usize = 7;
const POOL: usize = 8;
type Legs = [i64; 9];
type Store = [i64; 5];
type Priced = std::result::Result<Legs, i64>;

/// A row: both halves of the key, date, card, terminal, amount, time, kind, code; then the legs.
const ROW_LEGS: usize = 9;
type Row = [i64; 18];

fn bytes<const N: usize, const B: usize>(words: &[i64; N]) -> [u8; B] {
    const { assert!(B == 8 * N) };
    let mut out = [0; B];
    for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    out
}

fn words<const N: usize>(bytes: &[u8]) -> [i64; N] {
    assert!(bytes.len() == 8 * N, "a record has {} bytes, not {}", bytes.len(), 8 * N);
    let mut out = [0; N];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = i64::from_le_bytes(chunk.try_into().expect("chunks have 8 bytes"));
    }
    out
}

/// Big-endian, so that LMDB's order is that of the numbers.
fn key_of(number: i64) -> [u8; 8] {
    number.to_be_bytes()
}

fn card_number(index: i64) -> i64 {
    (index as u128 * CARD_FACTOR % CARD_RANGE) as i64
}

struct Chain {
    environment: Env<WithoutTls>,
    cards: Table,
    keys: Table,
    stores: Table,
    terminals: Table,
    journal: Table,
    numbers: Numbers,
    random: SmallRng,
    /// Swipes drawn so far.
    drawn: i64,
    /// Rows of the journal.
    rows: i64,
}

impl Chain {
    // heed's open is unsafe because a map whose file is changed by others is undefined behaviour. The directory is
    // this program's own. The flags are LMDB's defaults: a commit is two flushes.
    #[allow(unsafe_code)]
    fn build(directory: &Path, numbers: Numbers) -> Result<Chain> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(5);
        let environment = unsafe { options.open(directory)? };
        let created = environment.create_databases_and_commit(environment.write_txn()?, |opener, write| {
            let mut table = |name| opener.create_database::<Bytes, Bytes>(write, Some(name));
            let tables = [table("cards")?, table("keys")?, table("stores")?, table("terminals")?, table("journal")?];
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(tables))
        })?;
        let [cards, keys, stores, terminals, journal] = created.unwrap_commit();
        let random = SmallRng::seed_from_u64(1);
        let chain = Chain { environment, cards, keys, stores, terminals, journal, numbers, random, drawn: 0, rows: 0 };
        chain.fill()?;
        Ok(chain)
    }

    fn fill(&self) -> Result<()> {
        let mut write = self.environment.write_txn()?;
        let mut numbers: Vec<i64> = (0..self.numbers.cards).map(card_number).collect();
        numbers.sort_unstable();
        let card = bytes::<5, 40>(&[self.numbers.opening, self.numbers.opening_bonus, 0, 0, ACTIVE]);
        for number in numbers {
            self.cards.put_with_flags(&mut write, PutFlags::APPEND, &key_of(number), &card)?;
        }
        for number in 1..=self.numbers.stores {
            self.stores.put(&mut write, &key_of(number), &bytes::<5, 40>(&self.opening(number)))?;
            self.terminals.put(&mut write, &key_of(number), &key_of(number))?;
        }
        Ok(write.commit()?)
    }

    /// What a store starts with: it took the first money of every card whose index is its number - 1, modulo stores.
    fn opening(&self, store: i64) -> Store {
        let numbers = &self.numbers;
        let cards = (numbers.cards - store + numbers.stores) / numbers.stores;
        [0, -cards * numbers.opening, -cards * numbers.opening_bonus, 0, 0]
    }

    /// Swipes a second that were durable, and how many must have left a journal row.
    fn run(&mut self, seconds: f64) -> Result<(f64, i64)> {
        let (start, length) = (Instant::now(), Duration::from_secs_f64(seconds));
        let (mut done, mut kept) = (0, 0);
        while start.elapsed() < length {
            let environment = self.environment.clone();
            let mut write = environment.write_txn()?;
            for _ in 0..SWIPES_PER_COMMIT {
                let swipe = self.draw();
                kept += i64::from(swipe.kind != Kind::Balance);
                let code = self.post(&mut write, &swipe)?;
                if code != 0 && code != 51 {
                    return Err(format!("a swipe that must be approved, or lack funds, was answered {code}").into());
                }
            }
            write.commit()?;
            done += SWIPES_PER_COMMIT;
        }
        Ok((done as f64 / start.elapsed().as_secs_f64(), kept))
    }

    /// Sends swipes a second time, and then with another amount: the first answer, 94, and nothing posted twice. Returns
    /// how many must have left a journal row.
    fn check_retries(&mut self) -> Result<i64> {
        let environment = self.environment.clone();
        let mut write = environment.write_txn()?;
        let before = self.rows;
        let mut kept = 0;
        for _ in 0..SWIPES_PER_COMMIT {
            let mut swipe = self.draw();
            if swipe.kind == Kind::Balance {
                continue;
            }
            kept += 1;
            let first = self.post(&mut write, &swipe)?;
            let again = self.post(&mut write, &swipe)?;
            swipe.amount += 1;
            let other = self.post(&mut write, &swipe)?;
            if (again, other) != (first, 94) {
                return Err(format!("a retry was answered {again}, another amount {other}; the first answer was {first}").into());
            }
        }
        write.commit()?;
        if self.rows != before + kept {
            return Err(format!("{} rows for {kept} swipes that were sent again", self.rows - before).into());
        }
        Ok(kept)
    }

    fn draw(&mut self) -> Swipe {
        let (numbers, random) = (&self.numbers, &mut self.random);
        let (kind, amount) = match random.random_range(0..10u8) {
            0..6 => (Kind::Purchase, random.random_range(numbers.purchases.clone())),
            6..9 => (Kind::TopUp, random.random_range(numbers.top_ups.clone())),
            _ => (Kind::Balance, 0),
        };
        self.drawn += 1;
        let terminal = random.random_range(1..=numbers.stores);
        let key = match random.random_range(0..2u8) {
            0 => (-terminal, self.drawn),
            _ => (random.random_range(1..i64::MAX), random.random_range(1..i64::MAX)),
        };
        let card = card_number(random.random_range(0..numbers.cards));
        Swipe { kind, terminal, card, amount, key, day: numbers.day, time: random.random_range(28_800..79_200) }
    }

    /// Posts a swipe and returns its response code.
    fn post(&mut self, write: &mut RwTxn, swipe: &Swipe) -> Result<i64> {
        if swipe.kind == Kind::Balance {
            return self.balance(write, swipe);
        }
        if swipe.day <= self.numbers.day - DAYS_OPEN || swipe.day > self.numbers.day {
            return Ok(12);
        }
        let key = bytes::<3, 24>(&[swipe.key.0, swipe.key.1, swipe.day]);
        if let Some(at) = self.keys.get(write, &key)? {
            return self.retry(write, at, swipe);
        }
        let Some(store) = self.terminals.get(write, &key_of(swipe.terminal))? else { return Ok(58) };
        let store: [u8; 8] = store.try_into()?;
        let card = self.cards.get(write, &key_of(swipe.card))?.map(words);
        let priced = card.ok_or(14).and_then(|card| self.price(swipe, &card));
        if let (Ok(legs), Some(card)) = (&priced, card) {
            self.update(write, swipe.card, card, &store, legs)?;
        }
        self.keep(write, swipe, &key, priced)
    }

    fn balance(&self, write: &RwTxn, swipe: &Swipe) -> Result<i64> {
        if self.terminals.get(write, &key_of(swipe.terminal))?.is_none() {
            return Ok(58);
        }
        let card: Option<Card> = self.cards.get(write, &key_of(swipe.card))?.map(words);
        Ok(std::hint::black_box(card).map_or(14, |_| 0))
    }

    /// The first answer, if the content is the same.
    fn retry(&self, write: &RwTxn, at: &[u8], swipe: &Swipe) -> Result<i64> {
        let row: Row = words(self.journal.get(write, at)?.ok_or("a key has no journal row")?);
        let same = row[3..6] == [swipe.card, swipe.terminal, swipe.amount] && row[7] == swipe.kind as i64;
        Ok(if same { row[8] } else { 94 })
    }

    /// Checks card and amount, and applies the rules: the legs, or the code of a refusal.
    fn price(&self, swipe: &Swipe, card: &Card) -> Priced {
        if card[STATUS] != ACTIVE {
            return Err(62);
        }
        if card[EXPIRES] != 0 && card[EXPIRES] < self.numbers.day {
            return Err(54);
        }
        if !(1..=AMOUNT_MAX).contains(&swipe.amount) {
            return Err(13);
        }
        match swipe.kind {
            Kind::TopUp => self.top_up(swipe.amount, card),
            _ => self.purchase(swipe.amount, card),
        }
    }

    fn top_up(&self, amount: i64, card: &Card) -> Priced {
        let gift = if amount >= self.numbers.gift_from { self.numbers.gift.of(amount) } else { 0 };
        if card[PRINCIPAL] + card[BONUS] + amount + gift > self.numbers.balance_max {
            return Err(61);
        }
        let mut legs = [0; 9];
        (legs[PRINCIPAL], legs[BONUS]) = (amount, gift);
        (legs[COLLECTION], legs[ISSUER_BONUS]) = (-amount, -gift);
        Ok(legs)
    }

    fn purchase(&self, amount: i64, card: &Card) -> Priced {
        let numbers = &self.numbers;
        let due = amount - numbers.discount.of(amount);
        let (mut offset, mut spent) = (0, 0);
        if card[POINTS] >= numbers.points_min {
            let Rate(money, points) = numbers.price;
            offset = numbers.offset.of(due).min(numbers.price.of(card[POINTS]));
            spent = (offset * points + money - 1) / money;
        }
        let rest = due - offset;
        let bonus = rest.min(numbers.bonus.of(due)).min(card[BONUS]);
        if rest - bonus > card[PRINCIPAL] {
            return Err(51);
        }
        let earned = numbers.accrual.of(rest);
        let mut legs = [0; 9];
        (legs[PRINCIPAL], legs[BONUS], legs[SPENT], legs[EARNED]) = (bonus - rest, -bonus, -spent, earned);
        (legs[CLEARING], legs[ISSUER_POINTS], legs[POOL]) = (due, -offset, spent - earned);
        Ok(legs)
    }

    fn update(&self, write: &mut RwTxn, number: i64, mut card: Card, store_key: &[u8], legs: &Legs) -> Result<()> {
        card[PRINCIPAL] += legs[PRINCIPAL];
        card[BONUS] += legs[BONUS];
        card[POINTS] += legs[SPENT] + legs[EARNED];
        self.cards.put(write, &key_of(number), &bytes::<5, 40>(&card))?;
        let mut store: Store = words(self.stores.get(write, store_key)?.ok_or("a terminal has no store")?);
        add(&mut store, legs);
        self.stores.put(write, store_key, &bytes::<5, 40>(&store))?;
        Ok(())
    }

    /// Journals the answer, a refusal without legs, and keeps the key.
    fn keep(&mut self, write: &mut RwTxn, swipe: &Swipe, key: &[u8], priced: Priced) -> Result<i64> {
        let code = priced.err().unwrap_or(0);
        let (hi, lo) = swipe.key;
        let kind = swipe.kind as i64;
        let mut row: Row = [0; 18];
        row[..ROW_LEGS].copy_from_slice(&[hi, lo, swipe.day, swipe.card, swipe.terminal, swipe.amount, swipe.time, kind, code]);
        row[ROW_LEGS..].copy_from_slice(&priced.unwrap_or_default());
        self.rows += 1;
        let at = key_of(self.rows);
        self.journal.put_with_flags(write, PutFlags::APPEND, &at, &bytes::<18, 144>(&row))?;
        self.keys.put(write, key, &at)?;
        Ok(code)
    }

    /// Journal rows; sums of money and points; cards with a purse below zero; cards and stores that are not what they
    /// opened with plus their legs.
    fn books(&self) -> Result<[i64; 6]> {
        let read = self.environment.read_txn()?;
        let (cards, stores) = self.legs(&read)?;
        let (mut money, mut points, mut negative, mut wrong_cards, mut wrong_stores) = (0, 0, 0, 0, 0);
        for pair in self.cards.iter(&read)? {
            let (number, record) = pair?;
            let card: Card = words(record);
            let [principal, bonus, gained] = cards.get(number).copied().unwrap_or_default();
            let expected = [self.numbers.opening + principal, self.numbers.opening_bonus + bonus, gained];
            money += card[PRINCIPAL] + card[BONUS];
            points += card[POINTS];
            negative += i64::from(card[..3].iter().any(|purse| *purse < 0));
            wrong_cards += i64::from(card[..3] != expected);
        }
        for pair in self.stores.iter(&read)? {
            let (number, record) = pair?;
            let store: Store = words(record);
            let mut expected = self.opening(i64::from_be_bytes(number.try_into()?));
            for (position, gained) in expected.iter_mut().zip(stores.get(number).copied().unwrap_or_default()) {
                *position += gained;
            }
            money += store[..4].iter().sum::<i64>();
            points += store[4];
            wrong_stores += i64::from(store != expected);
        }
        Ok([self.journal.len(&read)? as i64, money, points, negative, wrong_cards, wrong_stores])
    }

    /// Sums of the journal's legs: of each card principal, bonus and points; of each store its positions.
    fn legs(&self, read: &RoTxn<WithoutTls>) -> Result<(Sums<3>, Sums<5>)> {
        let (mut cards, mut stores) = (Sums::new(), Sums::new());
        for pair in self.journal.iter(read)? {
            let row: Row = words(pair?.1);
            let legs: Legs = row[ROW_LEGS..].try_into()?;
            let card = cards.entry(key_of(row[3])).or_default();
            card[PRINCIPAL] += legs[PRINCIPAL];
            card[BONUS] += legs[BONUS];
            card[POINTS] += legs[SPENT] + legs[EARNED];
            let store = self.terminals.get(read, &key_of(row[4]))?.ok_or("a row has no terminal")?;
            add(stores.entry(store.try_into()?).or_default(), &legs);
        }
        Ok((cards, stores))
    }
}

type Sums<const N: usize> = HashMap<[u8; 8], [i64; N]>;

/// Adds the legs of a store to its positions.
fn add(store: &mut Store, legs: &Legs) {
    for (position, leg) in store.iter_mut().zip(&legs[CLEARING..]) {
        *position += leg;
    }
}
