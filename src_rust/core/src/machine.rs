//! The machine: decides transactions and applies their effects.
//!
//! Deterministic: the same commands give the same entries, and the same entries the same state, anywhere. Deciding reads the
//! state and prices; applying takes legs and changes as they are, and is the only way in which anything changes, live and in
//! replay. The legs of every transaction are summed before they are applied: a sum other than zero stops the engine.

mod advice;
mod catalogue;
mod cursor;
mod details;
mod fees;
mod fork;
mod gifts;
mod grant;
mod hold;
mod life;
mod lots;
mod pin;
mod refund;
mod reversal;
mod sale;
mod stock;
mod tickets;
mod tier;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::accounts::Account;
use crate::calendar::is_date;
use crate::cards::{Card, CardNumber, Cards, Status};
use crate::codes::Code;
use crate::commands::{Answer, DRY_RUN, Kind, Registration, Request, USE_POINTS};
use crate::details::{Item, ItemKind, Part, Seen, item_of, lines_of, seen_of};
use crate::journal::entry::{CardRef, Change, Entry, Transaction};
use crate::keys::{Key, KeyName};
use crate::machine::details::answer_detailed;
pub use crate::machine::details::{paid_of, parts, points_of};
pub(crate) use crate::machine::lots::Purse;
use crate::machine::sale::Till;
pub(crate) use crate::machine::tier::review;
use crate::names::Names;
use crate::organisation::{Organisation, Rules, terminal_hash};
use crate::rules::{self, Applying, Band, Foreseen, Limits, Moment, Product, Registered, Tables};
use crate::units::{AMOUNT_MAX, PURSE_MAX};
use crate::wallets::{self, Wallet, Wallets};

/// What is known of a transaction that others refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Refunded so far of what was paid; of an authorisation what was captured.
    pub refunded: i64,
    /// It has been reversed.
    pub reversed: bool,
}

/// The original that a refund or a reversal names, as the pipeline found it.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// None is named, or it cannot be there: its date is outside the window, it is of another programme.
    Nothing,
    /// Named by a key that no entry has.
    UnknownKey,
    /// Named by a key that a reversal has marked.
    Marked,
    /// The entry and its sequence.
    Entry(u64, &'a Transaction),
}

/// A request that passed the door: what it asks for, and whom it concerns.
pub struct Admitted<'a> {
    /// As it came.
    pub request: &'a Request,
    /// Its kind.
    pub kind: Kind,
    /// Index of its programme.
    pub programme: usize,
    /// Index of its terminal.
    pub terminal: u32,
    /// Its card's number; there is one if the kind has one.
    pub number: Option<CardNumber>,
    /// [`Cards::hash`] of it.
    pub card_hash: u64,
    /// What [`Cards::prefetch_likely`] said of it.
    pub likely_card: Option<u32>,
    /// What it has beside its row; a plain request has nothing.
    pub beside: Option<&'a Beside<'a>>,
    /// The rules that apply to it, if they were looked up ahead, and under which number.
    pub foreseen: Option<(&'a Foreseen, usize)>,
}

/// What a request has beside its row.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// PINs are hashed.
    pub items: &'a [Item],
    /// One of them is a code whose MAC is wrong.
    pub forged: bool,
    /// What a new PIN was hashed with.
    pub salt: Option<u64>,
}

impl<'a> Admitted<'a> {
    /// Its items.
    #[inline]
    pub fn items(&self) -> &'a [Item] {
        self.beside.map_or(&[], |beside| beside.items)
    }
}

/// Principal, bonus, points and the two shortfalls of a card.
type Purses = [i64; 5];

/// A purse would be lifted above the cap, or a shortfall fall below it.
#[inline]
fn exceed_caps([principal, bonus, points, money, other]: Purses) -> bool {
    (principal > PURSE_MAX) | (bonus > PURSE_MAX) | (points > PURSE_MAX) | (money < -PURSE_MAX) | (other < -PURSE_MAX)
}

/// A purse would go below zero.
#[inline]
fn overdrawn([principal, bonus, points, ..]: Purses) -> bool {
    principal | bonus | points < 0
}

/// Wallets that are asked for before they are written.
const WALLETS_AHEAD: u32 = 8;

/// All state.
pub struct Machine {
    /// Programmes, stores, terminals, rules, books.
    pub organisation: Organisation,
    /// Cards and purses.
    pub cards: Cards,
    /// What hangs on them beyond.
    pub wallets: Wallets,
    /// What leads to them besides their numbers.
    pub names: Names,
    marks: BTreeMap<u64, Mark>,
    /// Marks that changed since they were last taken.
    changed_marks: BTreeSet<u64>,
    /// The transaction that was decided last; its room is used again. None while one is being decided.
    decided: Option<Box<Transaction>>,
    /// What the sale that was decided last was poured with; its room is used again. None while one is being poured.
    till: Option<Box<Till>>,
    /// Room for the rules that apply to a sale.
    applying: Applying,
}

/// A contradiction between an entry and the state: the journal is not what this machine would have written.
pub type Contradiction = String;

impl Default for Machine {
    fn default() -> Self {
        Machine {
            organisation: Organisation::default(),
            cards: Cards::default(),
            wallets: Wallets::default(),
            names: Names::default(),
            marks: BTreeMap::new(),
            changed_marks: BTreeSet::new(),
            decided: Some(Box::new(Transaction::blank())),
            till: Some(Box::default()),
            applying: Applying::default(),
        }
    }
}

impl Machine {
    /// Checks 2, 3 (the date and time part) and 4 of a well-formed request: the code, or programme and store indexes.
    #[inline]
    pub fn admit(&self, request: &Request, kind: Kind) -> Result<usize, Code> {
        let programme = self.organisation.programme(request.programme()).ok_or(Code::UnknownTerminal)?;
        if kind == Kind::Balance {
            return Ok(programme);
        }
        let found = &self.organisation.programmes[programme];
        let tolerance = found.time_tolerance_s();
        let time_ok = (-tolerance..86_400 + tolerance).contains(&request.local_time);
        if !found.calendar.in_window(request.business_date) || !is_date(request.business_date) || !time_ok {
            return Err(Code::InvalidTransaction);
        }
        Ok(programme)
    }

    /// Answers a balance query whose terminal is known: card, then the purses; those of units as parts.
    pub fn balance(
        &mut self,
        admitted: &Admitted<'_>,
        sequence: u64,
        place: &mut Answer,
        parts: &mut Vec<Part>,
    ) -> Result<(), Code> {
        let index = self.find(admitted)?;
        self.touch(admitted.programme, index, sequence);
        [place.principal_balance, place.bonus_balance, place.points_balance] = self.balances(index);
        place.tier = self.cards.card(index).tier;
        self.balance_parts(index, parts);
        Ok(())
    }

    /// Decides a request that was admitted and whose key is new, and applies it. Returns the entry to be journaled under `sequence`.
    pub fn execute(&mut self, admitted: &Admitted<'_>, found: Found<'_>, sequence: u64) -> &Transaction {
        let mut transaction = self.decided.take().expect("one transaction is decided at a time");
        self.prepare(admitted, &mut transaction);
        transaction.code = match admitted.kind {
            Kind::Issue => self.decide_issue(admitted, &mut transaction),
            Kind::TopUp => self.decide_top_up(admitted, sequence, &mut transaction),
            Kind::Purchase => self.decide_purchase(admitted, sequence, &mut transaction),
            Kind::Fund => decide_fund(admitted.request, &mut transaction),
            _ => self.decide_other(admitted, found, sequence, &mut transaction),
        };
        let own_store = self.organisation.store_of(admitted.terminal);
        if transaction.detailed {
            self.finish_detailed(admitted, own_store, &mut transaction, sequence);
            return self.decided.insert(transaction);
        }
        let purses = self.close_plain(&mut transaction);
        self.note_traces(Some(admitted.terminal), &transaction);
        self.post(admitted.programme, own_store, &transaction, purses, sequence);
        if let CardRef::Known { index, .. } = transaction.card {
            let [principal, bonus, points, ..] = purses;
            let wary = self.cards.card(index).wary != 0;
            transaction.balances = if wary { self.whole_purses(index) } else { [principal, bonus, points] };
        }
        self.decided.insert(transaction)
    }

    /// Decides a sale that was admitted as it would be decided now, and changes nothing. Its balances are those that it would leave.
    pub fn price(&mut self, admitted: &Admitted<'_>, sequence: u64) -> &Transaction {
        let mut transaction = self.decided.take().expect("one transaction is decided at a time");
        self.prepare(admitted, &mut transaction);
        transaction.code = match admitted.kind {
            Kind::Purchase => self.decide_purchase(admitted, sequence, &mut transaction),
            _ => self.decide_other(admitted, Found::Nothing, sequence, &mut transaction),
        };
        if transaction.detailed {
            self.close_detailed(admitted, &mut transaction);
            self.foresee_balances(&mut transaction);
            return self.decided.insert(transaction);
        }
        let [principal, bonus, points, ..] = self.close_plain(&mut transaction);
        transaction.balances = match transaction.card {
            // Nothing plain is approved of a wary card: what it holds is what it keeps.
            CardRef::Known { index, .. } if self.cards.card(index).wary != 0 => self.whole_purses(index),
            _ => [principal, bonus, points],
        };
        self.decided.insert(transaction)
    }

    /// Forgets the transaction that was decided last.
    pub fn forget_decided(&mut self) {
        self.decided = Some(Box::new(Transaction::blank()));
    }

    /// The transaction that was decided last, if one was since they were last forgotten.
    pub fn decided(&self) -> Option<&Transaction> {
        self.decided.as_deref().filter(|decided| decided.kind != Kind::Balance)
    }

    /// What applied to the sale that was decided last.
    pub fn applied(&self) -> &Applying {
        &self.applying
    }

    /// The product of a card, the merchant of a store, and the merchant that issued the card.
    pub fn surroundings(&self, programme: u16, card: u32, store: u32) -> Option<(u16, u32, u32)> {
        let organisation = &self.organisation;
        let found = &organisation.programmes[organisation.programme(programme)?];
        let store = &organisation.stores[*found.stores.get(&store)? as usize];
        let card = (card < self.cards.len()).then(|| self.cards.card(card))?;
        let number = |merchant: u32| organisation.merchants[merchant as usize].number;
        Some((card.product, number(store.merchant), number(card.merchant)))
    }

    /// Closes a decided plain transaction: what its moves make of its card's purses; what is refused makes none.
    #[inline]
    fn close_plain(&self, transaction: &mut Transaction) -> Purses {
        let mut purses = self.purses_after(transaction);
        if transaction.code == Code::Approved && exceed_caps(purses) {
            transaction.code = Code::ExceedsLimit;
        }
        if transaction.code != Code::Approved {
            transaction.moves.clear();
            transaction.changes.clear();
            purses = self.purses_after(transaction);
        }
        purses
    }

    /// Everything but plain issues, top-ups and purchases.
    #[cold]
    fn decide_other(&mut self, admitted: &Admitted<'_>, found: Found<'_>, sequence: u64, transaction: &mut Transaction) -> Code {
        if admitted.kind.has_card()
            && let Err(code) = self.find_card(admitted, sequence, transaction)
        {
            return code;
        }
        let decided = match admitted.kind {
            Kind::Refund => self.decide_refund(admitted, found, sequence, transaction),
            Kind::Reversal => self.decide_reversal(admitted, found, sequence, transaction),
            Kind::Status => self.decide_status(admitted, transaction),
            Kind::Grant => self.decide_grant(admitted, transaction),
            Kind::Authorise => {
                let CardRef::Known { index, .. } = transaction.card else { unreachable!("it was just found") };
                return self.decide_sale_by_rules(admitted, index, sequence, transaction);
            }
            Kind::Capture => self.decide_capture(admitted, found, sequence, transaction),
            Kind::Void => self.decide_void(admitted, found, sequence, transaction),
            Kind::Replace => self.decide_replace(admitted, transaction),
            Kind::Transfer => self.decide_transfer(admitted, sequence, transaction),
            Kind::Holder => self.decide_holder(admitted, transaction),
            Kind::Bind => self.decide_bind(admitted, sequence, transaction),
            Kind::SetPin => self.decide_set_pin(admitted, transaction),
            Kind::Close => self.decide_close(admitted, transaction),
            Kind::IssueCodes => self.decide_issue_codes(admitted, transaction),
            Kind::BulkTopUp => self.decide_bulk_top_up(admitted, sequence, transaction),
            Kind::SetTier => self.decide_set_tier(admitted, transaction),
            Kind::Issue | Kind::TopUp | Kind::Purchase | Kind::Fund | Kind::Balance => unreachable!("they are decided before"),
        };
        decided.unwrap_or_else(|(code, reason)| {
            transaction.detail.reason = reason;
            code
        })
    }

    fn prepare(&self, admitted: &Admitted<'_>, transaction: &mut Transaction) {
        let Admitted { request, kind, .. } = *admitted;
        let programme = &self.organisation.programmes[admitted.programme];
        transaction.kind = kind;
        transaction.terminal = request.terminal;
        transaction.store = self.organisation.stores[self.organisation.store_of(admitted.terminal) as usize].number;
        transaction.key = request.key();
        transaction.posted = programme.calendar.open;
        transaction.rule = programme.rule_version();
        transaction.channel = request.channel;
        transaction.time = request.local_time;
        transaction.flags = request.flags & !DRY_RUN;
        transaction.card = CardRef::None;
        transaction.amount = request.amount;
        transaction.product = request.product;
        transaction.expires = request.expires;
        transaction.status = request.status;
        transaction.original = request.named_original(kind);
        transaction.moves.clear();
        transaction.changes.clear();
        transaction.balances = [0; 3];
        let whole = admitted.beside.is_some()
            | (request.flags & !DRY_RUN > USE_POINTS)
            | (kind as u8 > Kind::Fund as u8)
            | (kind == Kind::Issue && request.status != 0);
        if whole | transaction.detailed {
            transaction.detail.clear();
            transaction.detail.items.extend(admitted.items().iter().filter(|item| !item.is_secret()));
        }
        transaction.detailed = whole;
    }

    /// The card that a request names: by its number, or by an item.
    #[inline(always)]
    fn find(&self, admitted: &Admitted<'_>) -> Result<u32, Code> {
        match (admitted.number, admitted.likely_card) {
            (Some(number), Some(index)) if self.cards.is(index, admitted.request.programme(), number) => Ok(index),
            _ => self.find_unlikely(admitted),
        }
    }

    /// The same of a card that was not foreseen.
    #[cold]
    fn find_unlikely(&self, admitted: &Admitted<'_>) -> Result<u32, Code> {
        let programme = admitted.request.programme();
        let Some(number) = admitted.number else { return self.find_by_item(programme, admitted.items()) };
        self.cards.find(admitted.card_hash, programme, number).ok_or_else(|| self.refusal_of(programme, number))
    }

    #[cold]
    fn find_by_item(&self, programme: u16, items: &[Item]) -> Result<u32, Code> {
        if let Some(cursor) = item_of(items, ItemKind::Cursor) {
            return self.find_by_index(programme, cursor.low);
        }
        let alias = item_of(items, ItemKind::Alias).ok_or(Code::InvalidCard)?;
        let hash = alias.hash();
        self.names.find(programme, alias.digits, hash).map(|(card, _)| card).ok_or(Code::InvalidCard)
    }

    /// The card with a number, or the code that the number is answered with.
    pub(crate) fn locate(&self, programme: u16, number: CardNumber) -> Result<u32, Code> {
        let found = self.cards.find(Cards::hash(programme, number), programme, number);
        found.ok_or_else(|| self.refusal_of(programme, number))
    }

    /// The card that a request names, if it is there.
    pub(crate) fn named_card(&self, programme: u16, number: Option<CardNumber>, items: &[Item]) -> Option<u32> {
        number.map_or_else(|| self.find_by_item(programme, items), |number| self.locate(programme, number)).ok()
    }

    /// True if a number was that of the card with this index when the entry with this sequence was made.
    pub(crate) fn was_named(&self, programme: u16, number: CardNumber, index: u32, sequence: u64) -> bool {
        self.ever_of(programme, number) == Some(index) && self.names.was_named(programme, number, index, sequence)
    }

    /// The card that a number is or was of.
    pub(crate) fn ever_of(&self, programme: u16, number: CardNumber) -> Option<u32> {
        let former = || self.names.former(programme, number).map(|(card, _)| card);
        self.locate(programme, number).ok().or_else(former)
    }

    /// Finds the request's card and brings its points up to date.
    #[inline]
    fn find_card(&mut self, admitted: &Admitted<'_>, sequence: u64, transaction: &mut Transaction) -> Result<u32, Code> {
        let index = self.find(admitted).inspect_err(|_| {
            transaction.card = admitted.number.map_or(CardRef::None, CardRef::Unknown);
        })?;
        self.take_card(admitted.programme, index, sequence, transaction);
        Ok(index)
    }

    #[inline]
    fn take_card(&mut self, programme: usize, index: u32, sequence: u64, transaction: &mut Transaction) {
        self.touch(programme, index, sequence);
        transaction.card = CardRef::Known { index, previous: self.cards.card(index).last, issued: None };
    }

    #[cold]
    fn decide_issue(&mut self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Code {
        let request = admitted.request;
        let Some(number) = admitted.number else { return Code::InvalidCard };
        transaction.card = CardRef::Unknown(number);
        if self.find(admitted) != Err(Code::InvalidCard) || self.cards.len() == u32::MAX - 1 {
            return Code::InvalidCard;
        }
        let programme = &self.organisation.programmes[admitted.programme];
        let product = programme.rules.as_ref().and_then(|rules| rules.tables.product(request.product));
        if product.is_none() || request.expires != 0 && request.expires < programme.calendar.open {
            return Code::InvalidTransaction;
        }
        transaction.card = CardRef::Known { index: self.cards.len(), previous: 0, issued: Some(number) };
        Code::Approved
    }

    fn decide_top_up(&mut self, admitted: &Admitted<'_>, sequence: u64, transaction: &mut Transaction) -> Code {
        let amount = admitted.request.amount;
        let index = match self.usable_card(admitted, sequence, transaction) {
            Ok(index) => index,
            Err(code) => return code,
        };
        let card = self.cards.card(index);
        let (tables, product) = self.rules_of(admitted.programme, card);
        let band = tables.band(amount);
        if transaction.detailed | !card.is_plain() | !product.is_plain() | band.is_some_and(Band::gives_more) {
            let decided = self.decide_detailed_top_up(admitted, transaction);
            return decided.unwrap_or_else(|(code, _)| code);
        }
        let bonus = band.map_or(0, |band| band.bonus_of(amount));
        let balance = card.principal + card.bonus + amount + bonus;
        if above(amount, product.top_up_max) || above(balance, product.balance_max) {
            return Code::ExceedsLimit;
        }
        if tables.is_collected_by_issuer(transaction.channel) {
            collect_by_issuer(transaction, amount, bonus);
        } else {
            transaction.moves.set([
                (Account::StoreCollection, Account::CardPrincipal, amount),
                (Account::IssuerBonus, Account::CardBonus, bonus),
            ]);
        }
        Code::Approved
    }

    fn decide_purchase(&mut self, admitted: &Admitted<'_>, sequence: u64, transaction: &mut Transaction) -> Code {
        if transaction.detailed {
            let found = self.find_card(admitted, sequence, transaction);
            return found.map_or_else(|code| code, |index| self.decide_sale_by_rules(admitted, index, sequence, transaction));
        }
        let index = match self.usable_card(admitted, sequence, transaction) {
            Ok(index) => index,
            Err(code) => return code,
        };
        self.look_up(admitted, index);
        let card = self.cards.card(index);
        let (tables, product) = self.rules_of(admitted.programme, card);
        let charged = self.may_charge(tables, index, admitted.terminal);
        let units_pay = tables.waterfall.has_units() && self.wallet(index).is_some_and(Wallet::has_units);
        let by_tier = (card.tier != 0) & tables.look_at_tiers();
        let first = self.is_first_purchase(tables, index);
        if !card.is_plain() | !product.is_plain() | units_pay | by_tier | first | charged | tables.gives_growth() {
            return self.decide_sale(admitted, sequence, transaction);
        }
        let purses = rules::Purses { principal: card.principal, bonus: card.bonus, points: self.cards.points(index) };
        let sale = tables.price(product, transaction.amount, &self.applying, transaction.flags == USE_POINTS, purses);
        if above(sale.due, product.purchase_max) {
            return Code::ExceedsLimit;
        }
        if sale.unpaid > 0 {
            return Code::InsufficientFunds;
        }
        if sale.earned > PURSE_MAX {
            return Code::ExceedsLimit;
        }
        transaction.moves.set([
            (Account::CardPrincipal, Account::StoreClearing, sale.principal),
            (Account::CardBonus, Account::StoreClearing, sale.bonus),
            (Account::IssuerPoints, Account::StoreClearing, sale.offset),
            (Account::CardPoints, Account::PointsPool, sale.spent),
            (Account::PointsPool, Account::CardPoints, sale.earned),
        ]);
        Code::Approved
    }

    fn decide_sale_by_rules(&mut self, admitted: &Admitted<'_>, card: u32, sequence: u64, transaction: &mut Transaction) -> Code {
        self.look_up(admitted, card);
        self.decide_sale(admitted, sequence, transaction)
    }

    /// Checks 6 to 8 of a top-up or a purchase: card, state, amount.
    #[inline]
    fn usable_card(&mut self, admitted: &Admitted<'_>, sequence: u64, transaction: &mut Transaction) -> Result<u32, Code> {
        let index = self.find_card(admitted, sequence, transaction)?;
        self.check_card(admitted.programme, self.cards.card(index))?;
        if is_amount(admitted.request.amount) { Ok(index) } else { Err(Code::InvalidAmount) }
    }

    /// The code that a card is refused with for its status or its last date.
    #[inline]
    fn check_card(&self, programme: usize, card: &Card) -> Result<(), Code> {
        if let Some(code) = Status::refusal(card.status) {
            return Err(code);
        }
        let expired = card.expires != 0 && self.organisation.programmes[programme].calendar.open > card.expires;
        if expired { Err(Code::ExpiredCard) } else { Ok(()) }
    }

    /// The rules in force and a card's product. A card was issued by rules, and a version keeps the products of the one before.
    #[inline]
    fn rules_of(&self, programme: usize, card: &Card) -> (&Tables, &Product) {
        let rules = self.organisation.programmes[programme].rules.as_ref().expect("a card was issued by rules");
        (&rules.tables, rules.tables.product(card.product).expect("products are kept"))
    }

    /// Looks up the rules that apply to a sale on a card.
    #[inline]
    fn look_up(&mut self, admitted: &Admitted<'_>, card: u32) {
        self.applying.clear();
        if admitted.beside.is_some() {
            self.applying.advised.hear(admitted.items().iter().filter_map(Item::heard));
        }
        let rules = self.organisation.programmes[admitted.programme].rules.as_ref();
        if rules.is_some_and(|rules| rules.tables.look_at_sales()) || lines_of(admitted.items()).next().is_some() {
            self.look_up_rules(admitted, card);
        }
    }

    #[inline(never)]
    fn look_up_rules(&mut self, admitted: &Admitted<'_>, card: u32) {
        let Some(rules) = &self.organisation.programmes[admitted.programme].rules else { return };
        let (lines, near) = (lines_of(admitted.items()), seen_of(admitted.items(), Seen::Birthday) as u8);
        if let Some((foreseen, number)) = admitted.foreseen
            && let Some(moment) = foreseen.moment(number)
            && let Card { product, tier, .. } = *self.cards.card(card)
            && (moment.product, moment.tier, moment.birthday) == (product, tier, near)
        {
            return self.applying.add_foreseen(foreseen, number, lines);
        }
        let moment = self.moment(&rules.tables, admitted.request, admitted.terminal, card).near(near);
        rules.tables.add_applying(&moment, lines, &mut self.applying);
    }

    /// What rules look at in a sale on a card at a terminal.
    pub(crate) fn moment(&self, tables: &Tables, request: &Request, terminal: u32, card: u32) -> Moment {
        let organisation = &self.organisation;
        let store = &organisation.stores[organisation.store_of(terminal) as usize];
        let merchant = organisation.merchants[store.merchant as usize].number;
        let card = self.cards.card(card);
        Moment::new(card.product, request.amount)
            .at(store.number, merchant, request.channel)
            .of(tables.region(store.number, merchant), card.tier)
            .on(request.business_date, request.local_time)
    }

    /// The limits of the card with this index: when its holder's real name is known they may be others.
    #[inline]
    fn limits(&self, product: &Product, index: u32) -> Limits {
        product.limits(product.named.is_some() && self.wallet(index).is_some_and(|wallet| wallet.rest().named))
    }

    /// What a transaction's moves would make of its card's purses.
    #[inline]
    fn purses_after(&self, transaction: &Transaction) -> Purses {
        use Account::*;
        let sums = transaction.moves.sums();
        let changes =
            [sums[CardPrincipal], sums[CardBonus], sums[CardPoints], sums[CardShortfallMoney], sums[CardShortfallPoints]];
        match transaction.card {
            CardRef::Known { index, .. } if index < self.cards.len() => {
                let card = self.cards.card(index);
                let purses = [card.principal, card.bonus, self.cards.points(index), card.shortfall_money, card.shortfall_points];
                std::array::from_fn(|purse| purses[purse] + changes[purse])
            }
            _ => changes,
        }
    }

    /// Principal, bonus and points of a card, whatever their dates.
    #[inline]
    pub fn balances(&self, index: u32) -> [i64; 3] {
        let undated = self.undated(index);
        if self.cards.card(index).wary == 0 { undated } else { self.whole_purses(index) }
    }

    #[inline(never)]
    fn whole_purses(&self, index: u32) -> [i64; 3] {
        let mut purses = self.undated(index);
        let lots = self.wallet(index).map_or(&[][..], |wallet| &wallet.lots);
        for lot in lots.iter().take_while(|lot| lot.purse <= Purse::POINTS) {
            purses[usize::from(lot.purse) - 1] += lot.amount;
        }
        purses
    }

    /// What is known of a transaction.
    pub fn mark(&self, sequence: u64) -> Mark {
        self.marks.get(&sequence).copied().unwrap_or_default()
    }

    /// Notes which traces a transaction takes: its own, and one that it marks. `terminal` is the index of its key's terminal.
    #[inline]
    fn note_traces(&mut self, terminal: Option<u32>, transaction: &Transaction) {
        if let KeyName::Trace { trace, .. } = transaction.key.name {
            self.organisation.note_trace(terminal, transaction.key.date, trace);
        }
        if let Some(&key @ Key { date, name: KeyName::Trace { trace, .. }, .. }) = transaction.marked_key() {
            self.organisation.note_trace(self.terminal_of(&key), date, trace);
        }
    }

    /// Index of the terminal that a key is of, if it is one's that is registered.
    fn terminal_of(&self, key: &Key) -> Option<u32> {
        match key.name {
            KeyName::Trace { terminal, .. } => {
                self.organisation.terminal(terminal_hash(key.programme, terminal), key.programme, terminal)
            }
            KeyName::Id(_) => None,
        }
    }

    /// Applies a transaction: `store` is the index of its store, `purses` what its moves make of its card's purses.
    fn post(&mut self, programme: usize, store: u32, transaction: &Transaction, purses: Purses, sequence: u64) {
        let sums = transaction.moves.sums();
        assert!(sums.is_balanced(), "the legs of a transaction sum to zero");
        let found = &mut self.organisation.programmes[programme];
        found.books.add(|account| sums[account]);
        let place = &mut self.organisation.stores[store as usize];
        place.clearing += i128::from(sums[Account::StoreClearing]);
        place.collection += i128::from(sums[Account::StoreCollection]);
        let mut fresh = None;
        if let CardRef::Known { index, issued, .. } = transaction.card {
            if issued.is_some() {
                self.issue_card(programme, store, transaction);
            }
            let (card, points) = self.cards.card_mut(index);
            self.organisation.merchants[card.merchant as usize].points += i128::from(sums[Account::CardPoints]);
            // A card that was read from the checkpoint may be ahead of the journal's tail.
            if card.last < sequence {
                assert!(!overdrawn(purses), "no purse goes below zero");
                [card.principal, card.bonus, *points, card.shortfall_money, card.shortfall_points] = purses;
                card.last = sequence;
                // Nothing else that is plain gives to a store.
                card.bought |= u8::from(sums[Account::StoreClearing] > 0);
                self.cards.note_change(index, sequence);
                fresh = Some(index);
            }
        }
        for change in &transaction.changes {
            self.change(change, fresh);
        }
    }

    fn change(&mut self, change: &Change, card: Option<u32>) {
        match *change {
            Change::Refunded { sequence, refunded } => self.marks.entry(sequence).or_default().refunded = refunded,
            Change::Reversed { sequence, .. } => self.marks.entry(sequence).or_default().reversed = true,
            // The pipeline's key index holds it.
            Change::Marked => {}
            Change::Status(status) => {
                if let Some(index) = card {
                    self.cards.card_mut(index).0.status = status;
                }
            }
            _ => unreachable!("the others are of transactions with details"),
        }
        if let Change::Refunded { sequence, .. } | Change::Reversed { sequence, .. } = *change {
            self.changed_marks.insert(sequence);
        }
    }

    /// Applies an entry of the journal, without pricing anything. `store` is the index of a transaction's store.
    pub fn replay(&mut self, entry: &Entry, store: Option<u32>, sequence: u64) -> Result<(), Contradiction> {
        let known = |programme: u16| self.organisation.programme(programme).ok_or_else(|| format!("no programme {programme}"));
        match entry {
            Entry::Transaction(transaction) => {
                let programme = known(transaction.key.programme)?;
                let store = store.ok_or_else(|| format!("no store {}", transaction.store))?;
                self.replay_transaction(programme, store, transaction, sequence)
            }
            Entry::Registration(registration) => {
                if self.organisation.add(registration) {
                    Ok(())
                } else {
                    Err("a registration that cannot be".into())
                }
            }
            Entry::Rules { programme, version, text, tables } => {
                let at = known(*programme)?;
                let found = &mut self.organisation.programmes[at];
                let before = found.rule_version();
                if *version != before + 1 {
                    return Err(format!("version {version} of the rules after {before}"));
                }
                let parsed = Tables::parse(tables)?;
                found.publish(Rules { version: *version, text: text.clone(), json: tables.clone(), tables: parsed }, sequence);
                Ok(())
            }
            Entry::GrowthOpens(opens) => self.replay_growth_opens(known(opens.programme)?, opens),
            Entry::DayClosed(closed) => self.apply_day_closed(known(closed.programme)?, closed, sequence),
            Entry::LotsLapsed(lapsed) => self.replay_lapse(known(lapsed.programme)?, lapsed, sequence),
            Entry::GrowthComplete(complete) => self.replay_growth_complete(known(complete.programme)?, complete, sequence),
        }
    }

    fn replay_transaction(
        &mut self,
        programme: usize,
        store: u32,
        transaction: &Transaction,
        sequence: u64,
    ) -> Result<(), Contradiction> {
        if let CardRef::Known { index, issued, .. } = transaction.card
            && (index > self.cards.len() || (index == self.cards.len()) && issued.is_none())
        {
            return Err(format!("no card with index {index}"));
        }
        if transaction.detailed {
            return self.replay_detailed(programme, store, transaction, sequence);
        }
        let known = match transaction.card {
            CardRef::Known { index, .. } => Some(index),
            _ => None,
        };
        let foreign = |&index: &u32| index < self.cards.len() && self.cards.card(index).programme != transaction.key.programme;
        if let Some(index) = known.filter(foreign) {
            return Err(format!("card {index} is another programme's"));
        }
        // A card that was read from the checkpoint may be ahead of the journal's tail.
        let ahead = known.is_some_and(|index| index < self.cards.len() && self.cards.card(index).last >= sequence);
        if let Some(index) = known
            && index < self.cards.len()
            && !ahead
        {
            self.touch(programme, index, sequence);
        }
        let (sums, purses) = (transaction.moves.sums(), self.purses_after(transaction));
        if !sums.is_balanced() {
            return Err("its legs do not sum to zero".into());
        }
        let closing = [Account::StoreDue, Account::GrowthReserve, Account::MembersGrowth];
        if closing.iter().any(|&account| sums[account] != 0) {
            return Err("a transaction posts on accounts of the close".into());
        }
        // Posting must not panic, whatever a damaged journal says.
        if let Some(index) = known.filter(|_| !ahead && (overdrawn(purses) || exceed_caps(purses))) {
            return Err(format!("a purse of card {index} would go below zero or exceed its cap"));
        }
        let terminal = self.terminal_of(&transaction.key);
        self.note_traces(terminal, transaction);
        self.post(programme, store, transaction, purses, sequence);
        match known {
            Some(index)
                // Nearly always they are the same: then no wallet needs to be looked at.
                if !ahead
                    && self.balances(index) != transaction.balances
                    && !self.is_wallet_ahead(programme, index, sequence) =>
            {
                Err(format!("card {index} has {:?}, the entry says {:?}", self.balances(index), transaction.balances))
            }
            _ => Ok(()),
        }
    }

    /// Registers what is new: the code, and the entry if there is one to journal.
    pub fn register(&mut self, registration: &Registration) -> (Code, Option<Entry>) {
        if let Some(code) = self.organisation.check(registration) {
            return (code, None);
        }
        assert!(self.organisation.add(registration), "it was just checked");
        (Code::Approved, Some(Entry::Registration(registration.clone())))
    }

    /// Publishes a version of the rules: the code, and the entry, with this sequence, if there is one to journal. An error says what is
    /// wrong with the tables, or that they name a store or a merchant that is not there.
    pub fn publish(
        &mut self,
        programme: u16,
        version: u32,
        text: &str,
        json: &str,
        sequence: u64,
    ) -> Result<(Code, Option<Entry>), String> {
        let tables = Tables::parse(json)?;
        let Some(at) = self.organisation.programme(programme) else { return Ok((Code::UnknownTerminal, None)) };
        let found = &mut self.organisation.programmes[at];
        if let Some(rules) = &found.rules {
            if version == rules.version {
                let same = rules.text == text && rules.json == json;
                return Ok((if same { Code::Approved } else { Code::Duplicate }, None));
            }
            let lost = rules.tables.products.iter().find(|product| tables.product(product.id).is_none());
            if let Some(lost) = lost {
                return Err(format!(
                    "product {} is in version {} and missing now; cards may have it: keep it",
                    lost.id, rules.version
                ));
            }
        }
        tables.check_registered(Registered { stores: &found.stores, merchants: &found.merchants })?;
        if version != found.rule_version() + 1 {
            return Ok((Code::InvalidTransaction, None));
        }
        found.publish(Rules { version, text: text.into(), json: json.into(), tables }, sequence);
        let entry = Entry::Rules { programme, version, text: text.into(), tables: json.into() };
        Ok((Code::Approved, Some(entry)))
    }

    /// The transactions whose marks changed since this was last asked.
    pub fn take_changed_marks(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.changed_marks)
    }

    /// Writes the wallets of a chunk of cards; what they hold elsewhere is asked for some wallets ahead.
    pub fn encode_wallets(&self, chunk: usize, out: &mut Vec<u8>) {
        let first = (chunk * wallets::CHUNK) as u32;
        let end = self.cards.len().min(first + wallets::CHUNK as u32);
        let handle = |index: u32| if index < end { self.cards.wallet(index) } else { None };
        let encoded = (first..end).filter_map(|index| {
            handle(index + WALLETS_AHEAD).into_iter().for_each(|handle| self.wallets.prefetch_lots(handle));
            handle(index).map(|handle| self.wallets.get(handle))
        });
        wallets::encode(encoded, out);
    }

    /// Adds a wallet as the checkpoint gives it.
    pub fn add_wallet(&mut self, wallet: Wallet) {
        let index = wallet.card;
        let (handle, shown) = self.wallets.push_loaded(wallet);
        self.cards.set_wallet(index, handle);
        self.cards.card_mut(index).0.show(shown);
    }

    /// Sets a mark as the checkpoint gives it.
    pub fn set_mark(&mut self, sequence: u64, mark: Mark) {
        self.marks.insert(sequence, mark);
    }

    /// All marks, by sequence.
    pub fn marks(&self) -> impl Iterator<Item = (&u64, &Mark)> {
        self.marks.iter()
    }
}

#[cold]
fn collect_by_issuer(transaction: &mut Transaction, amount: i64, bonus: i64) {
    transaction.moves.clear();
    transaction.moves.add(Account::IssuerCollection, Account::CardPrincipal, amount);
    transaction.moves.add(Account::IssuerBonus, Account::CardBonus, bonus);
}

#[cold]
fn decide_fund(request: &Request, transaction: &mut Transaction) -> Code {
    if !is_amount(request.amount) {
        return Code::InvalidAmount;
    }
    transaction.moves.set([(Account::PointsPool, Account::GrowthFunding, request.amount)]);
    Code::Approved
}

#[inline]
fn is_amount(amount: i64) -> bool {
    (1..=AMOUNT_MAX).contains(&amount)
}

#[inline]
fn above(amount: i64, limit: i64) -> bool {
    limit != 0 && amount > limit
}

/// Fills in the answer that a journaled transaction gives, now and at every retry.
#[inline]
pub fn answer(transaction: &Transaction, sequence: u64, replayed: bool, answer: &mut Answer) {
    answer.sequence = sequence;
    answer.business_date = transaction.posted;
    answer.code = transaction.code.number().into();
    answer.replayed = replayed.into();
    answer.kind = transaction.kind as u8;
    [answer.principal_balance, answer.bonus_balance, answer.points_balance] = transaction.balances;
    if transaction.detailed {
        return answer_detailed(transaction, 0, answer);
    }
    if transaction.code != Code::Approved {
        return;
    }
    let sums = transaction.moves.sums();
    answer.principal = sums[Account::CardPrincipal];
    answer.bonus = sums[Account::CardBonus];
    answer.offset = -sums[Account::IssuerPoints];
    answer.shortfall_money = -sums[Account::CardShortfallMoney];
    answer.shortfall_points = -sums[Account::CardShortfallPoints];
    let sold = sums[Account::StoreClearing];
    let (taken_in, given_out) = (sums.into_pool, sums.into_pool - sums[Account::PointsPool]);
    // What a funding moves is neither spent nor earned.
    if transaction.kind != Kind::Fund {
        (answer.points_spent, answer.points_earned) = (taken_in, given_out);
    }
    answer.amount = match transaction.kind {
        Kind::Purchase => sold,
        Kind::TopUp | Kind::Fund => transaction.amount,
        _ => 0,
    };
    if transaction.kind == Kind::Purchase {
        answer.discount = transaction.amount - sold;
    }
}

/// The answer as the card with this index sees it, the sequence of its entry before, and at which place of the transaction it stands.
pub fn answer_to(transaction: &Transaction, sequence: u64, card: u32) -> Option<(Answer, u64, u16)> {
    if let CardRef::Known { index, previous, .. } = transaction.card
        && index == card
    {
        return Some((answer_of(transaction, sequence), previous, 0));
    }
    let at = transaction.detail.cards.iter().position(|further| further.0 == card)?;
    let place = at as u16 + 1;
    let mut answer = Answer::default();
    (answer.sequence, answer.business_date, answer.kind) = (sequence, transaction.posted, transaction.kind as u8);
    answer.code = transaction.code.number().into();
    answer_detailed(transaction, place, &mut answer);
    Some((answer, transaction.detail.cards[at].1, place))
}

/// The same, as a value.
pub fn answer_of(transaction: &Transaction, sequence: u64) -> Answer {
    let mut place = Answer::default();
    answer(transaction, sequence, false, &mut place);
    place
}
