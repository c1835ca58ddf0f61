//! Transactions with details: closing what was decided, applying it live and in replay, and the answer that its entry gives.
//!
//! Every record - a card, its wallet - says which entry it holds last, so that replay skips what a record that was read from the checkpoint
//! holds already. What is shared - books, stores, series - is as of where replay begins, and takes every entry.

use crate::accounts::{Account, Post, Units};
use crate::cards::{Card, Status};
use crate::codes::Code;
use crate::commands::{Answer, Kind};
use crate::details::{Item, PART_ADVICE, PART_CASH, PART_LINE, PART_UNPAID, Part, lines_of};
use crate::journal::entry::{CardRef, Change, Detail, POSTS_MAX, PostSums, Transaction};
use crate::machine::lots::{Purse, card_at};
use crate::machine::{Admitted, Contradiction, Machine, Purses};
use crate::units::{PURSE_MAX, Unit, rate_of};
use crate::wallets::{Day, Hold, Wallet};

/// Most lots of a wallet.
const LOTS_MAX: usize = 4_096;

impl Machine {
    /// Closes a decided transaction and applies it.
    pub(super) fn finish_detailed(
        &mut self,
        admitted: &Admitted<'_>,
        own_store: u32,
        transaction: &mut Transaction,
        sequence: u64,
    ) {
        self.close_detailed(admitted, transaction);
        if !transaction.code.is_approved() {
            transaction.store = self.organisation.stores[own_store as usize].number;
        }
        let store = match transaction.store {
            number if number == self.organisation.stores[own_store as usize].number => own_store,
            other => self.organisation.programmes[admitted.programme].stores[&other],
        };
        self.note_traces(Some(admitted.terminal), transaction);
        self.post_detailed(admitted.programme, store, transaction, sequence).expect("it was decided on this state");
        self.note_balances(transaction);
    }

    /// Limits of purses; what is refused leaves only the tries of its PINs. Its own balances are filled in.
    pub(super) fn close_detailed(&self, admitted: &Admitted<'_>, transaction: &mut Transaction) {
        transaction.moves.clear();
        transaction.balances = self.after(transaction);
        if transaction.code.is_approved() && !self.are_within_limits(transaction) {
            transaction.code = Code::ExceedsLimit;
        }
        if transaction.code.is_approved() {
            self.raise_tier(admitted.programme, transaction);
        } else {
            transaction.detail.clear_posts();
            transaction.changes.retain(|change| matches!(change, Change::Tries { .. } | Change::Cursor { .. }));
            transaction.balances = self.after(transaction);
        }
    }

    /// Fills in the other balances that a transaction would leave which is not applied.
    pub(super) fn foresee_balances(&self, transaction: &mut Transaction) {
        let held = transaction.kind == Kind::Authorise;
        let after = |card, number| {
            let purse = Purse { card, number };
            match card_at(transaction, card) {
                Some(index) if held => self.purse(index, number),
                _ => self.purse_after(transaction, purse),
            }
        };
        let places = 1..=transaction.detail.cards.len() as u16;
        let balances = places.map(|card| [1, 2, 3].map(|number| after(card, number))).collect();
        let units = transaction.detail.units.iter().map(|&(card, unit, _)| (card, unit, after(card, unit))).collect();
        (transaction.detail.balances, transaction.detail.units) = (balances, units);
    }

    /// No purse above its cap, no shortfall below it, and not more lots and moves than there may be. The transaction's own balances are those that
    /// it makes.
    fn are_within_limits(&self, transaction: &Transaction) -> bool {
        let detail = &transaction.detail;
        let places = 0..=detail.cards.len() as u16;
        let owed = detail.sums.all(Account::CardShortfallMoney) | detail.sums.all(Account::CardShortfallPoints);
        let alone = detail.cards.is_empty();
        detail.posts.len() <= POSTS_MAX
            && transaction.balances.into_iter().all(|balance| balance <= PURSE_MAX)
            && (alone && owed == 0 || places.clone().all(|card| self.may_owe(transaction, card)))
            && (!detail.gives_lots || places.into_iter().all(|card| self.has_room_for_lots(transaction, card)))
            && (alone && !detail.gives_lots || self.are_others_within_caps(transaction))
    }

    /// What the moves make of the three purses of the transaction's card; what is only held changes none.
    #[inline]
    fn after(&self, transaction: &Transaction) -> [i64; 3] {
        let there =
            card_at(transaction, 0).filter(|&index| index < self.cards.len()).map_or([0; 3], |index| self.balances(index));
        if transaction.kind == Kind::Authorise {
            return there;
        }
        let [principal, bonus, points] = there;
        let sums = &transaction.detail.sums;
        [
            principal + sums.own(Account::CardPrincipal),
            bonus + sums.own(Account::CardBonus),
            points + sums.own(Account::CardPoints),
        ]
    }

    /// No purse of a further card or of units above its cap.
    fn are_others_within_caps(&self, transaction: &Transaction) -> bool {
        let detail = &transaction.detail;
        // No purse is given more than all are together: nearly always that says enough.
        let gifts = detail.posts.iter().filter(|post| post.to.is_card());
        let given = gifts.fold(0, |given: i64, post| given.saturating_add(post.amount));
        let further = (1..=detail.cards.len() as u16).flat_map(|card| [(card, 1), (card, 2), (card, 3)]);
        let units = detail.units.iter().map(|&(card, unit, _)| (card, unit));
        further.chain(units).all(|(card, number)| {
            let there = card_at(transaction, card).map_or(0, |index| self.purse(index, number));
            there.saturating_add(given) <= PURSE_MAX || self.purse_after(transaction, Purse { card, number }) <= PURSE_MAX
        })
    }

    /// True if the card at a place may have as many lots more as the moves give to it.
    fn has_room_for_lots(&self, transaction: &Transaction, card: u16) -> bool {
        let gives = |post: &&Post| post.card == card && post.to.is_card() && post.is_of_wallet();
        let more = transaction.detail.posts.iter().filter(gives).count();
        let there = card_at(transaction, card).and_then(|index| self.wallet(index)).map_or(0, |wallet| wallet.lots.len());
        there + more <= LOTS_MAX
    }

    /// True if the card at a place may owe what the moves make it owe.
    fn may_owe(&self, transaction: &Transaction, card: u16) -> bool {
        [Purse::PRINCIPAL, Purse::POINTS].into_iter().all(|number| self.owed(transaction, Purse { card, number }) <= PURSE_MAX)
    }

    /// Fills in the other balances, when it is applied: of the three purses of every further card, and of every purse of units that a move
    /// names.
    fn note_balances(&self, transaction: &mut Transaction) {
        let own = card_at(transaction, 0).and_then(|index| self.wallet(index));
        let Detail { cards, balances, units, .. } = &mut transaction.detail;
        balances.clear();
        balances.extend(cards.iter().map(|&(index, _)| self.balances(index)));
        for (card, unit, balance) in units {
            let wallet = match usize::from(*card) {
                0 => own,
                place => self.wallet(cards[place - 1].0),
            };
            *balance = wallet.map_or(0, |wallet| wallet.balance(*unit));
        }
    }

    /// Applies a transaction with details; `store` is the index of its store. An error says what contradicts the state.
    pub(super) fn post_detailed(
        &mut self,
        programme: usize,
        store: u32,
        transaction: &Transaction,
        sequence: u64,
    ) -> Result<(), Contradiction> {
        self.issue_card(programme, store, transaction);
        let own = [self.ahead_of(card_at(transaction, 0), sequence)];
        if transaction.detail.cards.is_empty() {
            return self.apply_detailed(programme, store, transaction, &own, sequence);
        }
        let further = transaction.detail.cards.iter().map(|&(index, _)| self.ahead_of(Some(index), sequence));
        let ahead: Vec<Ahead> = own.into_iter().chain(further).collect();
        self.apply_detailed(programme, store, transaction, &ahead, sequence)
    }

    /// Whether the records of a card hold the entry with this sequence already; where there is no card there is nothing to be done.
    #[inline]
    fn ahead_of(&self, index: Option<u32>, sequence: u64) -> Ahead {
        index.map_or(Ahead { card: true, wallet: true }, |index| Ahead {
            card: self.cards.card(index).last >= sequence,
            wallet: self.wallet(index).is_some_and(|wallet| wallet.last >= sequence),
        })
    }

    fn apply_detailed(
        &mut self,
        programme: usize,
        store: u32,
        transaction: &Transaction,
        ahead: &[Ahead],
        sequence: u64,
    ) -> Result<(), Contradiction> {
        // What is captured is let off before it is taken: a lot that is emptied and filled again holds nothing.
        let first = |change: &&Change| matches!(change, Change::Captured { .. });
        for change in transaction.changes.iter().filter(first) {
            self.change_detailed(programme, transaction, change, ahead, sequence);
        }
        if transaction.kind != Kind::Authorise {
            self.post_shared(programme, store, transaction);
            for (place, &ahead) in ahead.iter().enumerate() {
                self.post_moves_of(programme, transaction, place as u16, ahead, sequence)?;
            }
        }
        for change in transaction.changes.iter().filter(|change| !first(change)) {
            self.change_detailed(programme, transaction, change, ahead, sequence);
        }
        for (place, ahead) in ahead.iter().enumerate() {
            if let Some(index) = card_at(transaction, place as u16).filter(|_| !ahead.card) {
                let record = self.cards.card_mut(index).0;
                record.last = sequence;
                record.bought |= u8::from(place == 0 && is_purchase(transaction));
                self.cards.note_change(index, sequence);
            }
        }
        Ok(())
    }

    /// What the moves change of what all cards share.
    fn post_shared(&mut self, programme: usize, store: u32, transaction: &Transaction) {
        let (place, books) = (&mut self.organisation.stores[store as usize], &mut self.organisation.programmes[programme].books);
        let sums = &transaction.detail.sums;
        place.clearing += i128::from(sums.all(Account::StoreClearing));
        place.collection += i128::from(sums.all(Account::StoreCollection));
        books.add(|account| sums.all(account));
        books.issuer_units += i128::from(sums.all(Account::IssuerUnits));
        self.post_fees(store, transaction);
        if transaction.detail.cards.is_empty() {
            return self.owe_points(transaction, 0, sums.own(Account::CardPoints));
        }
        for post in &transaction.detail.posts {
            if let Some((Account::CardPoints, change)) = post.card_end() {
                self.owe_points(transaction, post.card, change);
            }
        }
    }

    /// The issuing merchant of the card at a place owes so many points more.
    #[inline]
    fn owe_points(&mut self, transaction: &Transaction, card: u16, change: i64) {
        if let Some(index) = card_at(transaction, card) {
            let merchant = self.cards.card(index).merchant;
            self.organisation.merchants[merchant as usize].points += i128::from(change);
        }
    }

    /// Posts the moves of the card at a place, and at 0 those of no card: on the totals of units, and on the card's record and its wallet,
    /// unless these hold the entry already.
    fn post_moves_of(
        &mut self,
        programme: usize,
        transaction: &Transaction,
        place: u16,
        ahead: Ahead,
        sequence: u64,
    ) -> Result<(), Contradiction> {
        let index = card_at(transaction, place);
        let posts = transaction.detail.posts.iter().filter(|post| post.card == place);
        let is_of_wallet = !ahead.wallet && posts.clone().any(Post::is_of_wallet);
        let handle = index.filter(|_| is_of_wallet).map(|index| self.wallet_of(index));
        let units = &mut self.organisation.programmes[programme].books.units;
        let record = index.filter(|_| !ahead.card).map(|index| self.cards.card_mut(index));
        let mut purses = record
            .as_ref()
            .map(|(card, points)| [card.principal, card.bonus, **points, card.shortfall_money, card.shortfall_points]);
        let (short, shown) = match handle {
            Some(handle) => self.wallets.change_lots(handle, |wallet| {
                wallet.last = sequence;
                post_all(posts, units, &mut purses, Some(wallet))
            }),
            None => (post_all(posts, units, &mut purses, None), None),
        };
        if let Some(post) = short {
            return Err(format!("a purse or a lot would go below zero: {post:?}"));
        }
        if let Some(((card, points), purses)) = record.zip(purses) {
            [card.principal, card.bonus, *points, card.shortfall_money, card.shortfall_points] = purses;
        }
        if let Some((index, shown)) = index.zip(shown) {
            self.cards.card_mut(index).0.show(shown);
        }
        Ok(())
    }

    /// The handle of a card's wallet, which is made if there is none.
    #[inline]
    fn wallet_of(&mut self, index: u32) -> u32 {
        self.cards.wallet(index).unwrap_or_else(|| self.new_wallet(index))
    }

    #[cold]
    fn new_wallet(&mut self, index: u32) -> u32 {
        let programme = self.organisation.programme(self.cards.card(index).programme);
        let grown = programme.map_or(0, |at| self.organisation.programmes[at].growths);
        let handle = self.wallets.push(Wallet::new(index, grown));
        self.cards.set_wallet(index, handle);
        handle
    }

    /// Notes the purchases of a day in the wallet of a card.
    #[inline]
    fn count_purchase(&mut self, index: u32, sequence: u64, day: Day) {
        let handle = self.wallet_of(index);
        let ((), shown) = self.wallets.change_lots(handle, |wallet| {
            wallet.rest_mut().day = day;
            wallet.last = sequence;
        });
        shown.into_iter().for_each(|shown| self.cards.card_mut(index).0.show(shown));
    }

    /// Changes the wallet of a card, which is made if there is none.
    fn change_wallet(&mut self, index: u32, sequence: u64, change: impl FnOnce(&mut Wallet)) {
        let handle = self.wallet_of(index);
        let shown = self.wallets.change(handle, |wallet| {
            change(wallet);
            wallet.last = sequence;
        });
        self.cards.card_mut(index).0.show(shown);
    }

    fn change_detailed(&mut self, at: usize, transaction: &Transaction, change: &Change, ahead: &[Ahead], sequence: u64) {
        let card = if let Change::Tries { card, .. } | Change::Taken { card, .. } = change { *card } else { 0 };
        let index = card_at(transaction, card);
        let ahead = ahead.get(usize::from(card)).copied().unwrap_or(Ahead { card: true, wallet: true });
        let programme = &mut self.organisation.programmes[at];
        match *change {
            Change::Refunded { .. } | Change::Reversed { .. } | Change::Marked | Change::Status(_) => {
                self.change(change, index.filter(|_| !ahead.card));
            }
            Change::Bought(bought) => {
                if let Some(index) = index.filter(|_| !ahead.card) {
                    self.cards.card_mut(index).0.bought = bought.into();
                }
            }
            Change::Number { number, former: old, code } => {
                if let Some(index) = index {
                    self.names.renumber(programme.number, index, [old, number], code.number(), sequence);
                }
                if let Some(index) = index.filter(|_| !ahead.card) {
                    self.cards.renumber(index, number);
                }
            }
            Change::Alias { kind, hash, bound } => {
                self.names.set(programme.number, kind, hash, index.filter(|_| bound), 0);
            }
            Change::Codes { unit, first, count, expires } => {
                programme.series.entry(unit).or_default().add(first, count, expires);
            }
            Change::Code { unit, serial, used } => programme.series.entry(unit).or_default().set_used(serial, used),
            // A sale of nothing is none.
            Change::Sold { staff, amount } if amount != 0 => {
                let is_sale = matches!(transaction.kind, Kind::Purchase | Kind::Capture);
                programme.staff.entry(staff).or_default().add(amount, is_sale);
            }
            Change::Sold { .. } => {}
            Change::Out { bundle, count } => {
                programme.out.insert(bundle, count);
            }
            Change::Cursor { trigger, to } => drop(programme.cursors.insert(trigger, to)),
            Change::Spent { count, sum, points } => {
                let day = Day { date: programme.calendar.open, count, sum, points };
                if let Some(index) = index.filter(|_| !ahead.wallet) {
                    self.count_purchase(index, sequence, day);
                }
            }
            _ => {
                if let Change::Captured { sequence, captured, .. } = *change
                    && captured > 0
                {
                    self.marks.entry(sequence).or_default().refunded = captured;
                    self.changed_marks.insert(sequence);
                }
                if let Some(index) = index.filter(|_| !ahead.wallet) {
                    self.change_wallet(index, sequence, |wallet| change_wallet(wallet, transaction, change, sequence));
                }
            }
        }
    }

    /// Adds the card that an approved issue makes.
    pub(super) fn issue_card(&mut self, programme: usize, store: u32, transaction: &Transaction) {
        if let CardRef::Known { index, issued: Some(number), .. } = transaction.card
            && index == self.cards.len()
        {
            let found = &mut self.organisation.programmes[programme];
            let merchant = self.organisation.stores[store as usize].merchant;
            let mut card = Card::new(found.number, number, transaction.product, transaction.expires, merchant);
            if transaction.status != 0 {
                card.status = Status::Inactive as u8;
            }
            found.add_card(index);
            self.cards.issue(card, found.growths);
        }
    }

    /// Applies an entry with details that was read from the journal.
    pub(super) fn replay_detailed(
        &mut self,
        programme: usize,
        store: u32,
        transaction: &Transaction,
        sequence: u64,
    ) -> Result<(), Contradiction> {
        let cards = 0..=transaction.detail.cards.len() as u16;
        let known: Vec<u32> = cards.filter_map(|card| card_at(transaction, card)).collect();
        let mut ahead = false;
        for &index in &known {
            if index >= self.cards.len() {
                continue;
            }
            if self.cards.card(index).programme != transaction.key.programme {
                return Err(format!("card {index} is another programme's"));
            }
            ahead |= self.cards.card(index).last >= sequence || self.is_wallet_ahead(programme, index, sequence);
            self.touch(programme, index, sequence);
        }
        if known.iter().skip(1).any(|&index| index >= self.cards.len()) {
            return Err("a further card is not there".into());
        }
        self.check_fees(transaction)?;
        let terminal = self.terminal_of(&transaction.key);
        self.note_traces(terminal, transaction);
        self.post_detailed(programme, store, transaction, sequence)?;
        if ahead {
            return Ok(());
        }
        if let CardRef::Known { index, .. } = transaction.card
            && self.balances(index) != transaction.balances
        {
            return Err(format!("card {index} has {:?}, the entry says {:?}", self.balances(index), transaction.balances));
        }
        let three = |(card, of): (usize, &[i64; 3])| [1, 2, 3].map(|purse| (card as u16 + 1, purse, of[usize::from(purse) - 1]));
        let further = transaction.detail.balances.iter().enumerate().flat_map(three);
        for (card, purse, balance) in further.chain(transaction.detail.units.iter().copied()) {
            let Some(index) = card_at(transaction, card) else { return Err("a balance of no card".into()) };
            let own = self.purse(index, purse);
            if own != balance {
                return Err(format!("card {index} has {own} in purse {purse}, the entry says {balance}"));
            }
        }
        Ok(())
    }

    /// True if the wallet of a card, as the checkpoint gave it, is from after this entry: it holds a later one, or has grown since.
    pub(super) fn is_wallet_ahead(&self, programme: usize, index: u32, sequence: u64) -> bool {
        let growths = self.organisation.programmes[programme].growths;
        self.wallet(index).is_some_and(|wallet| wallet.last >= sequence || wallet.grown > growths)
    }

    /// Parts of a balance query: every purse of units.
    pub(super) fn balance_parts(&self, index: u32, parts: &mut Vec<Part>) {
        let Some(wallet) = self.wallet(index) else { return };
        let mut summed = (0, 0);
        for lot in wallet.lots.iter().filter(|lot| lot.purse > Purse::POINTS) {
            if summed.0 != lot.purse {
                summed = (lot.purse, wallet.balance(lot.purse));
            }
            let balance = summed.1;
            let (purse, begins, expires, amount) = (lot.purse, lot.begins, lot.expires, lot.amount);
            parts.push(Part { purse, begins, expires, amount, balance, ..Part::default() });
        }
    }
}

/// Posts moves on what is given: the totals of units, the purses of a card's record, its wallet. The first that takes more than is there, if
/// one does.
fn post_all<'a>(
    posts: impl Iterator<Item = &'a Post>,
    units: &mut Units,
    purses: &mut Option<Purses>,
    mut wallet: Option<&mut Wallet>,
) -> Option<&'a Post> {
    for post in posts {
        if post.from.unit() == Unit::Counted {
            units.add(post);
        }
        let Some((account, change)) = post.card_end() else { continue };
        let is_there = if post.lies_in_wallet(account) {
            wallet.as_mut().is_none_or(|wallet| wallet.add(post.purse_at(account), post.begins, post.expires, change))
        } else {
            purses.as_mut().is_none_or(|purses| add_to_purse(&mut purses[account as usize], account, change))
        };
        if !is_there {
            return Some(post);
        }
    }
    None
}

/// Adds to a purse or a shortfall of a card's record. False if it cannot be: a purse is not below zero, a shortfall not above.
///
/// In between a purse may be above its cap: where it ends was looked at.
#[inline]
fn add_to_purse(purse: &mut i64, account: Account, change: i64) -> bool {
    let is_owed = account as u8 >= Account::CardShortfallMoney as u8;
    let (after, over) = purse.overflowing_add(change);
    *purse = after;
    !over & ((after == 0) | ((after < 0) == is_owed))
}

/// True if its card bought something: a purchase that came to nothing is none.
fn is_purchase(transaction: &Transaction) -> bool {
    let detail = &transaction.detail;
    matches!(transaction.kind, Kind::Purchase | Kind::Capture) && detail.sums.all(Account::StoreClearing) + detail.cash > 0
}

/// Whether the records of a card hold an entry already.
#[derive(Clone, Copy)]
struct Ahead {
    card: bool,
    wallet: bool,
}

/// A change of what a wallet has besides lots.
fn change_wallet(wallet: &mut Wallet, transaction: &Transaction, change: &Change, sequence: u64) {
    match *change {
        Change::Taken { bundle, count, .. } => wallet.set_taken(bundle, count),
        Change::Tries { tries, .. } => wallet.rest_mut().tries = tries,
        Change::Pin(pin) => {
            let rest = wallet.rest_mut();
            (rest.pin, rest.tries) = (Some(pin), 0);
        }
        Change::Holder { member, named } => {
            let rest = wallet.rest_mut();
            (rest.member, rest.named) = (member, named);
        }
        Change::Held { expires, total, earned, rebate, growth } => {
            let posts = transaction.detail.posts.clone();
            posts.iter().for_each(|post| wallet.hold(post, post.amount));
            wallet.rest_mut().holds.push(Hold { sequence, expires, posts, total, captured: 0, earned, rebate, growth });
        }
        Change::Tier { tier, until } => {
            let rest = wallet.rest_mut();
            (rest.tier, rest.tier_until) = (tier, until);
        }
        Change::Captured { sequence, captured, ended } => wallet.capture(sequence, captured, ended),
        _ => unreachable!("the others are no wallet's"),
    }
}

/// Fills in the answer to a transaction with details, as the card at this place sees it: all of it at 0, its own part further on.
#[inline(never)]
pub(super) fn answer_detailed(transaction: &Transaction, card: u16, answer: &mut Answer) {
    let detail = &transaction.detail;
    if card > 0 {
        [answer.principal_balance, answer.bonus_balance, answer.points_balance] =
            [1, 2, 3].map(|purse| detail.balance(card, purse));
    }
    answer.reason = detail.reason as u8;
    answer.tier = transaction
        .changes
        .iter()
        .find_map(|change| if let Change::Tier { tier, .. } = change { Some(*tier) } else { None })
        .unwrap_or(0);
    if !transaction.code.is_approved() {
        return;
    }
    if card > 0 {
        let of = |account| own_change(transaction, card, account);
        (answer.principal, answer.bonus) = (of(Account::CardPrincipal), of(Account::CardBonus));
        answer.amount = (answer.principal + answer.bonus).abs();
        return;
    }
    let nothing = PostSums::default();
    let sums = if transaction.kind == Kind::Authorise { &nothing } else { &detail.sums };
    answer.principal = sums.own(Account::CardPrincipal);
    answer.bonus = sums.own(Account::CardBonus);
    answer.offset = -sums.all(Account::IssuerPoints);
    answer.shortfall_money = -sums.own(Account::CardShortfallMoney);
    answer.shortfall_points = -sums.own(Account::CardShortfallPoints);
    answer.discount = detail.discount;
    let sold = sums.all(Account::StoreClearing);
    // A refund undoes a sale; a reversal undoes one, too, but for that of a refund.
    let of_refund = || transaction.changes.iter().any(|change| matches!(change, Change::Refunded { .. }));
    let undoes = transaction.kind == Kind::Refund || transaction.kind == Kind::Reversal && !of_refund();
    if transaction.kind != Kind::Close {
        let (into, out) = (sums.into_pool, sums.out_of_pool);
        (answer.points_spent, answer.points_earned) = if undoes { (-out, -into) } else { (into, out) };
    }
    let held = |change: &Change| if let Change::Held { total, .. } = change { *total } else { 0 };
    let undone = |change: &Change| if let Change::Reversed { amount, .. } = change { *amount } else { 0 };
    answer.amount = match transaction.kind {
        Kind::Purchase => sold + detail.cash,
        Kind::Authorise => transaction.changes.iter().map(held).sum(),
        Kind::Reversal => transaction.changes.iter().map(undone).sum(),
        Kind::Grant => price_of(transaction),
        // What made good what the card owed was not paid out.
        Kind::Close => -sums.all(Account::CardPrincipal) - sums.all(Account::CardShortfallMoney),
        Kind::TopUp | Kind::Refund | Kind::Capture | Kind::Transfer | Kind::BulkTopUp | Kind::IssueCodes => transaction.amount,
        _ => 0,
    };
}

/// What was paid for a bundle, in money. What the issuer pays the store for goods is apart.
fn price_of(grant: &Transaction) -> i64 {
    grant.detail.posts.iter().filter(|post| post.to == Account::IssuerUnits).map(|post| post.amount).sum()
}

/// Money that earns points in a sale: what principal and bonus of all its cards paid, or are held for, and cash.
pub fn paid_of(sale: &Transaction) -> i64 {
    let pays =
        |from: Account, to: Account| to == Account::StoreClearing && matches!(from, Account::CardPrincipal | Account::CardBonus);
    if !sale.detailed {
        return sale.moves.iter().filter(|one| pays(one.from, one.to)).map(|one| one.amount).sum();
    }
    sale.detail.posts.iter().filter(|post| pays(post.from, post.to)).map(|post| post.amount).sum::<i64>() + sale.detail.cash
}

/// What a transaction changes the points of the card at a place by.
pub fn points_of(transaction: &Transaction, card: u16) -> i64 {
    if !transaction.detailed {
        return transaction.moves.sums()[Account::CardPoints];
    }
    own_change(transaction, card, Account::CardPoints)
}

/// What a transaction changes an account of the card at a place by.
fn own_change(transaction: &Transaction, card: u16, account: Account) -> i64 {
    if transaction.kind == Kind::Authorise {
        return 0;
    }
    let of_card = transaction.detail.posts.iter().filter(|post| post.card == card);
    of_card.filter_map(Post::card_end).filter(|&(end, _)| end == account).map(|(_, change)| change).sum()
}

/// Adds the parts of the answer to a transaction.
pub fn parts(transaction: &Transaction, parts: &mut Vec<Part>) {
    if !transaction.detailed {
        return;
    }
    if transaction.code.is_approved() {
        parts_of_effects(transaction, parts);
    }
    let detail = &transaction.detail;
    for (rule, heard) in detail.items.iter().filter_map(Item::heard) {
        let (amount, balance) = (rate_of(transaction.amount, heard.said().off) as i64, heard.number());
        parts.push(Part { account: PART_ADVICE, purse: rule, amount, balance, ..Part::default() });
    }
}

/// Those of what was posted, or is held.
fn parts_of_effects(transaction: &Transaction, parts: &mut Vec<Part>) {
    let detail = &transaction.detail;
    let balance = |card: u16, purse: u16| match (card, purse) {
        (0, 1..=3) => transaction.balances[usize::from(purse) - 1],
        _ => detail.balance(card, purse),
    };
    let pays = |account| matches!(account, Account::IssuerPoints | Account::IssuerUnits);
    for post in &detail.posts {
        if let Some((end, amount)) = post.card_end()
            && let purse @ 1.. = post.purse_at(end)
        {
            let (account, balance) = (end.code(), balance(post.card, purse));
            let Post { card, begins, expires, .. } = *post;
            parts.push(Part { account, card, purse, begins, expires, amount, balance, ..Part::default() });
        }
        if pays(post.from) {
            parts.push(Part { account: post.from.code(), purse: post.unit, amount: post.amount, ..Part::default() });
        } else if pays(post.to) {
            parts.push(Part { account: post.to.code(), purse: post.unit, amount: -post.amount, ..Part::default() });
        }
    }
    for ((category, amount), &off) in lines_of(&detail.items).zip(&detail.lines) {
        parts.push(Part { account: PART_LINE, purse: category, amount: off, balance: amount, ..Part::default() });
    }
    for change in &transaction.changes {
        if let Change::Codes { unit, first, count, expires } = *change {
            let (amount, balance) = (count.into(), (first + u64::from(count) - 1) as i64);
            parts.push(Part { account: Account::Codes.code(), purse: unit, expires, amount, balance, ..Part::default() });
        }
    }
    if detail.cash > 0 {
        parts.push(Part { account: PART_CASH, amount: detail.cash, ..Part::default() });
    }
    if detail.unpaid > 0 {
        parts.push(Part { account: PART_UNPAID, amount: detail.unpaid, ..Part::default() });
    }
}
