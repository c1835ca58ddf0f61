//! Transactions with details: closing what was decided, applying it live and in replay, and the answer that its entry gives.
//!
//! Every record - a card, its wallet - says which entry it holds last, so that replay skips what a record that was read from the checkpoint
//! holds already. What is shared - books, stores, series - is as of where replay begins, and takes every entry.

use crate::accounts::{Account, Post};
use crate::cards::{Card, Status};
use crate::codes::Code;
use crate::commands::{Answer, Kind};
use crate::details::{PART_CASH, PART_UNPAID, Part};
use crate::journal::entry::{CardRef, Change, Transaction};
use crate::machine::lots::{Purse, card_at};
use crate::machine::{Admitted, Contradiction, Machine};
use crate::names::{FORMER, former};
use crate::units::PURSE_MAX;
use crate::wallets::{Day, Hold, Wallet};

/// Most moves of a transaction.
const POSTS_MAX: usize = 8_192;
/// Most lots of a wallet.
const LOTS_MAX: usize = 4_096;

impl Machine {
    /// Closes a decided transaction: limits of purses, then what is refused leaves only the tries of its PINs; applies it.
    pub(super) fn finish_detailed(
        &mut self,
        admitted: &Admitted<'_>,
        own_store: u32,
        transaction: &mut Transaction,
        sequence: u64,
    ) {
        transaction.moves.clear();
        if transaction.code.is_approved() && !self.are_within_limits(transaction) {
            transaction.code = Code::ExceedsLimit;
        }
        if !transaction.code.is_approved() {
            transaction.detail.posts.clear();
            (transaction.detail.cash, transaction.detail.unpaid, transaction.detail.discount) = (0, 0, 0);
            transaction.changes.retain(|change| matches!(change, Change::Tries { .. }));
            transaction.store = self.organisation.stores[own_store as usize].number;
        }
        let store = match transaction.store {
            number if number == self.organisation.stores[own_store as usize].number => own_store,
            other => self.organisation.programmes[admitted.programme].stores[&other],
        };
        self.note_balances(transaction);
        self.note_traces(Some(admitted.terminal), transaction);
        self.post_detailed(admitted.programme, store, transaction, sequence).expect("it was decided on this state");
    }

    /// No purse above its cap, no shortfall below it, and not more lots and moves than there may be.
    fn are_within_limits(&self, transaction: &Transaction) -> bool {
        let posts = &transaction.detail.posts;
        let within = posts.iter().all(|post| match (post.card_end(), card_at(transaction, post.card)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((account, _)), Some(index)) => {
                let of_it = |other: &&Post| other.card == post.card && other.card_end().is_some_and(|(end, _)| end == account);
                let change: i64 = posts.iter().filter(of_it).filter_map(Post::card_end).map(|(_, change)| change).sum();
                let card = self.cards.card(index);
                match account {
                    Account::CardShortfallMoney => card.shortfall_money + change >= -PURSE_MAX,
                    Account::CardShortfallPoints => card.shortfall_points + change >= -PURSE_MAX,
                    _ => self.purse_after(transaction, Purse { card: post.card, number: post.purse() }) <= PURSE_MAX,
                }
            }
        });
        let lots = |index| self.wallet(index).map_or(0, |wallet| wallet.lots.len());
        within && posts.len() <= POSTS_MAX && card_at(transaction, 0).is_none_or(|index| lots(index) < LOTS_MAX)
    }

    /// Fills in the balances afterwards: of the three purses of every card, and of every other purse that a move changes.
    fn note_balances(&self, transaction: &mut Transaction) {
        let moves = transaction.kind != Kind::Authorise;
        if let Some(index) = card_at(transaction, 0).filter(|&index| index < self.cards.len()) {
            transaction.balances = match moves {
                true => [1, 2, 3].map(|number| self.purse_after(transaction, Purse { card: 0, number })),
                false => self.balances(index),
            };
        }
        let mut balances = std::mem::take(&mut transaction.detail.balances);
        for (at, &(index, _)) in transaction.detail.cards.iter().enumerate() {
            let card = at as u16 + 1;
            balances.extend([1, 2, 3].map(|number| match moves {
                true => (card, number, self.purse_after(transaction, Purse { card, number })),
                false => (card, number, self.purse(index, number)),
            }));
        }
        for post in &transaction.detail.posts {
            let purse = Purse { card: post.card, number: post.purse() };
            let told = purse.number == 0
                || purse.number <= Purse::POINTS
                || balances.iter().any(|&(card, number, _)| (card, number) == (purse.card, purse.number));
            if let Some(index) = card_at(transaction, purse.card).filter(|_| !told) {
                let balance = if moves { self.purse_after(transaction, purse) } else { self.purse(index, purse.number) };
                balances.push((purse.card, purse.number, balance));
            }
        }
        transaction.detail.balances = balances;
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
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        let cards = 0..=transaction.detail.cards.len() as u16;
        ahead.extend(cards.map(|card| match card_at(transaction, card) {
            Some(index) => Ahead {
                card: self.cards.card(index).last >= sequence,
                wallet: self.wallet(index).is_some_and(|wallet| wallet.last >= sequence),
            },
            None => Ahead { card: true, wallet: true },
        }));
        let applied = self.apply_detailed(programme, store, transaction, &ahead, sequence);
        for (card, ahead) in ahead.iter().enumerate() {
            if let Some(index) = card_at(transaction, card as u16).filter(|_| !ahead.card) {
                self.cards.card_mut(index).0.last = sequence;
                self.cards.note_change(index, sequence);
            }
        }
        self.ahead = ahead;
        applied
    }

    fn apply_detailed(
        &mut self,
        programme: usize,
        store: u32,
        transaction: &Transaction,
        ahead: &[Ahead],
        sequence: u64,
    ) -> Result<(), Contradiction> {
        if transaction.kind != Kind::Authorise {
            for post in &transaction.detail.posts {
                self.post_shared(programme, store, transaction, post);
                let Some(ahead) = ahead.get(usize::from(post.card)) else { return Err("a move names no card".into()) };
                if !self.post_to_card(transaction, post, *ahead, sequence) {
                    return Err(format!("a lot would go below zero: {post:?}"));
                }
            }
        }
        for change in &transaction.changes {
            self.change_detailed(programme, transaction, change, ahead, sequence);
        }
        Ok(())
    }

    /// What a move changes of what all cards share.
    fn post_shared(&mut self, programme: usize, store: u32, transaction: &Transaction, post: &Post) {
        let (place, books) = (&mut self.organisation.stores[store as usize], &mut self.organisation.programmes[programme].books);
        for (account, change) in [(post.from, -i128::from(post.amount)), (post.to, i128::from(post.amount))] {
            match account {
                Account::StoreClearing => place.clearing += change,
                Account::StoreCollection => place.collection += change,
                _ => {
                    if let Some(total) = books.total(account, post.unit) {
                        *total += change;
                    }
                }
            }
        }
        if let (Some((Account::CardPoints, change)), Some(index)) = (post.card_end(), card_at(transaction, post.card)) {
            let merchant = self.cards.card(index).merchant;
            self.organisation.merchants[merchant as usize].points += i128::from(change);
        }
    }

    /// What a move changes of its card, as far as the records do not hold it already; false if there is not so much.
    fn post_to_card(&mut self, transaction: &Transaction, post: &Post, ahead: Ahead, sequence: u64) -> bool {
        let Some((account, change)) = post.card_end() else { return true };
        let Some(index) = card_at(transaction, post.card) else { return false };
        let purse = post.purse();
        if purse > Purse::POINTS || (post.begins, post.expires) != (0, 0) {
            let mut whole = true;
            if !ahead.wallet {
                self.change_wallet(index, sequence, |wallet| whole = wallet.add(purse, post.begins, post.expires, change));
            }
            return whole;
        }
        if ahead.card {
            return true;
        }
        let (card, points) = self.cards.card_mut(index);
        let (balance, bounds) = match account {
            Account::CardPrincipal => (&mut card.principal, 0..=PURSE_MAX),
            Account::CardBonus => (&mut card.bonus, 0..=PURSE_MAX),
            Account::CardPoints => (points, 0..=PURSE_MAX),
            Account::CardShortfallMoney => (&mut card.shortfall_money, -PURSE_MAX..=0),
            _ => (&mut card.shortfall_points, -PURSE_MAX..=0),
        };
        let Some(after) = balance.checked_add(change).filter(|after| bounds.contains(after)) else { return false };
        *balance = after;
        true
    }

    /// Changes the wallet of a card, which is made if there is none.
    fn change_wallet(&mut self, index: u32, sequence: u64, change: impl FnOnce(&mut Wallet)) {
        let handle = self.cards.wallet(index).unwrap_or_else(|| {
            let programme = self.organisation.programme(self.cards.card(index).programme);
            let grown = programme.map_or(0, |at| self.organisation.programmes[at].growths);
            let handle = self.wallets.push(Wallet { card: index, grown, ..Wallet::default() });
            self.cards.set_wallet(index, handle);
            handle
        });
        let wary = self.wallets.change(handle, |wallet| {
            change(wallet);
            wallet.last = sequence;
        });
        self.cards.card_mut(index).0.wary = wary.into();
    }

    fn change_detailed(&mut self, at: usize, transaction: &Transaction, change: &Change, ahead: &[Ahead], sequence: u64) {
        let card = if let Change::Tries { card, .. } = change { *card } else { 0 };
        let index = card_at(transaction, card);
        let ahead = ahead.get(usize::from(card)).copied().unwrap_or(Ahead { card: true, wallet: true });
        let programme = &mut self.organisation.programmes[at];
        match *change {
            Change::Refunded { .. } | Change::Reversed { .. } | Change::Marked | Change::Status(_) => {
                self.change(change, index.filter(|_| !ahead.card));
            }
            Change::Number { number, former: old, code } => {
                self.names.set(programme.number, FORMER, former(old), index, code.number());
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
            Change::Sold { staff, amount } => programme.staff.entry(staff).or_default().add(amount),
            _ => {
                if let Some(index) = index.filter(|_| !ahead.wallet) {
                    let open = programme.calendar.open;
                    self.change_wallet(index, sequence, |wallet| change_wallet(wallet, transaction, change, open, sequence));
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
            ahead |= self.cards.card(index).last >= sequence;
            ahead |= self.wallet(index).is_some_and(|wallet| wallet.last >= sequence);
            self.touch(programme, index, sequence);
        }
        if known.iter().skip(1).any(|&index| index >= self.cards.len()) {
            return Err("a further card is not there".into());
        }
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
        for &(card, purse, balance) in &transaction.detail.balances {
            let Some(index) = card_at(transaction, card) else { return Err("a balance of no card".into()) };
            let own = self.purse(index, purse);
            if own != balance {
                return Err(format!("card {index} has {own} in purse {purse}, the entry says {balance}"));
            }
        }
        Ok(())
    }

    /// Parts of a balance query: every purse of units.
    pub(super) fn balance_parts(&self, index: u32, parts: &mut Vec<Part>) {
        let Some(wallet) = self.wallet(index) else { return };
        for lot in wallet.lots.iter().filter(|lot| lot.purse > Purse::POINTS) {
            let balance = wallet.balance(lot.purse);
            let (purse, begins, expires, amount) = (lot.purse, lot.begins, lot.expires, lot.amount);
            parts.push(Part { purse, begins, expires, amount, balance, ..Part::default() });
        }
    }
}

/// Whether the records of a card hold an entry already.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    card: bool,
    wallet: bool,
}

/// A change of what a wallet has besides lots.
fn change_wallet(wallet: &mut Wallet, transaction: &Transaction, change: &Change, open: i32, sequence: u64) {
    match *change {
        Change::Taken { bundle, count } => wallet.set_taken(bundle, count),
        Change::Spent { count, sum } => wallet.day = Day { date: open, count, sum },
        Change::Tries { tries, .. } => wallet.tries = tries,
        Change::Pin(pin) => (wallet.pin, wallet.tries) = (Some(pin), 0),
        Change::Holder { member, named } => (wallet.member, wallet.named) = (member, named),
        Change::Held { expires, total, earned, rebate } => {
            let posts = transaction.detail.posts.clone();
            posts.iter().for_each(|post| wallet.hold(post, post.amount));
            wallet.holds.push(Hold { sequence, expires, posts, total, captured: 0, earned, rebate });
        }
        Change::Captured { sequence, captured, ended } => wallet.capture(sequence, captured, ended),
        _ => unreachable!("the others are no wallet's"),
    }
}

/// Fills in the answer to a transaction with details, as the card at this place sees it: all of it at 0, its own part further on.
#[cold]
pub(super) fn answer_detailed(transaction: &Transaction, card: u16, answer: &mut Answer) {
    let detail = &transaction.detail;
    if card > 0 {
        let balance = |purse: u16| detail.balances.iter().find(|of| (of.0, of.1) == (card, purse)).map_or(0, |of| of.2);
        [answer.principal_balance, answer.bonus_balance, answer.points_balance] = [1, 2, 3].map(balance);
    }
    answer.reason = detail.reason as u8;
    if !transaction.code.is_approved() {
        return;
    }
    let moves = if transaction.kind == Kind::Authorise { &[][..] } else { &detail.posts };
    let sum = |of: &dyn Fn(&Post) -> bool| moves.iter().filter(|post| of(post)).map(|post| post.amount).sum::<i64>();
    let net = |account| sum(&|post| post.to == account) - sum(&|post| post.from == account);
    let own =
        |account| sum(&|post| post.to == account && post.card == card) - sum(&|post| post.from == account && post.card == card);
    answer.principal = own(Account::CardPrincipal);
    answer.bonus = own(Account::CardBonus);
    if card > 0 {
        answer.amount = (answer.principal + answer.bonus).abs();
        return;
    }
    answer.offset = -net(Account::IssuerPoints);
    answer.shortfall_money = -own(Account::CardShortfallMoney);
    answer.shortfall_points = -own(Account::CardShortfallPoints);
    answer.discount = detail.discount;
    let sold = net(Account::StoreClearing);
    let undoes = sold < 0 || sold == 0 && matches!(transaction.kind, Kind::Refund | Kind::Reversal);
    // What came back past its last date and lapsed at once is neither.
    let lapsed = |post: &Post| post.from == Account::CardPoints && post.expires != 0 && post.expires < transaction.posted;
    let (into, out) =
        (sum(&|post| post.to == Account::PointsPool && !lapsed(post)), sum(&|post| post.from == Account::PointsPool));
    (answer.points_spent, answer.points_earned) = if undoes { (-out, -into) } else { (into, out) };
    let held = |change: &Change| if let Change::Held { total, .. } = change { *total } else { 0 };
    let undone = |change: &Change| if let Change::Reversed { amount, .. } = change { *amount } else { 0 };
    answer.amount = match transaction.kind {
        Kind::Purchase => sold + detail.cash,
        Kind::Authorise => transaction.changes.iter().map(held).sum(),
        Kind::Reversal => transaction.changes.iter().map(undone).sum(),
        Kind::Grant => net(Account::IssuerUnits),
        Kind::Close => -net(Account::CardPrincipal),
        Kind::TopUp | Kind::Refund | Kind::Capture | Kind::Transfer | Kind::BulkTopUp | Kind::IssueCodes => transaction.amount,
        _ => 0,
    };
}

/// What a transaction changes the points of the card at a place by.
pub fn points_of(transaction: &Transaction, card: u16) -> i64 {
    if !transaction.detailed {
        return transaction.moves.sums()[Account::CardPoints];
    }
    if transaction.kind == Kind::Authorise {
        return 0;
    }
    let of_card = transaction.detail.posts.iter().filter(|post| post.card == card);
    of_card.filter_map(Post::card_end).filter(|&(account, _)| account == Account::CardPoints).map(|(_, change)| change).sum()
}

/// Adds the parts of the answer to a transaction.
pub fn parts(transaction: &Transaction, parts: &mut Vec<Part>) {
    let detail = &transaction.detail;
    if !transaction.detailed || !transaction.code.is_approved() {
        return;
    }
    let balance = |card: u16, purse: u16| match (card, purse) {
        (0, 1..=3) => transaction.balances[usize::from(purse) - 1],
        _ => detail.balances.iter().find(|of| (of.0, of.1) == (card, purse)).map_or(0, |of| of.2),
    };
    for post in &detail.posts {
        match post.card_end() {
            Some((_, amount)) if post.purse() != 0 => parts.push(Part {
                account: if post.purse() > Purse::POINTS { Account::CardUnit.code() } else { post.purse() as u8 },
                card: post.card,
                purse: post.purse(),
                begins: post.begins,
                expires: post.expires,
                amount,
                balance: balance(post.card, post.purse()),
                ..Part::default()
            }),
            _ => {}
        }
        for (account, amount) in [(post.from, post.amount), (post.to, -post.amount)] {
            if matches!(account, Account::IssuerPoints | Account::IssuerUnits) {
                parts.push(Part { account: account.code(), purse: post.unit, amount, ..Part::default() });
            }
        }
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
