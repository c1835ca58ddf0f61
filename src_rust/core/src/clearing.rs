//! Close of day: growth, settlement of the stores, and the books' sight of it.
//!
//! A close journals at most two records of a plan's growth: one opens it with a reserve that covers it for certain, one completes
//! it. In between every card of the programme grows exactly once, when it is touched or when the sweep comes by. The checkpoint copies nothing
//! in between, so that after a crash the growth of every card can be computed again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::accounts::{Account, TotalLeg, are_balanced, total_leg};
use crate::cards::CardNumber;
use crate::codes::Code;
use crate::commands::{CloseReport, GrowthReport, Liabilities, MerchantLiability, StaffSales, StorePosition, TrialBalance};
use crate::journal::entry::{DayClosed, Entry, GrowthComplete, GrowthOpens, LotsLapsed};
use crate::machine::{Contradiction, Machine, Purse, review};
use crate::organisation::Organisation;
use crate::units::{RATE_ONE, UNIT_MIN, Unit};

/// A day's growth while it is being granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The programme's count of growths, this one included.
    number: u32,
    rate: u64,
    date: i32,
    purses: u64,
    reserve: i128,
    /// To how many of them it is granted. What is granted is kept by merchant.
    grown: u64,
    /// Where the sweep is: a run of cards, and the next card in it; then the next wallet.
    run: usize,
    next: u32,
    wallet: u32,
}

/// What a close of day journals, in this order, under the sequences that follow.
pub struct Closing {
    /// The entries; the day's is the last.
    pub entries: Vec<Entry>,
}

impl Machine {
    /// Brings a card's points up to date.
    #[inline]
    pub(crate) fn touch(&mut self, programme: usize, index: u32, sequence: u64) {
        if self.organisation.programmes[programme].growth.is_some() {
            self.grow_card(programme, index, sequence);
        }
    }

    fn grow_card(&mut self, programme: usize, index: u32, sequence: u64) {
        let Some(growth) = &mut self.organisation.programmes[programme].growth else { return };
        let (number, rate) = (growth.number, growth.rate);
        let merchant = self.cards.card(index).merchant as usize;
        if let Some(granted) = self.cards.grow(index, number, rate, sequence) {
            growth.grown += 1;
            self.organisation.merchants[merchant].granted += i128::from(granted);
        }
        if let Some(handle) = self.cards.wallet(index) {
            self.grow_wallet(handle, number, rate);
        }
    }

    /// Lets the dated points of a wallet grow, unless they have.
    fn grow_wallet(&mut self, handle: u32, number: u32, rate: u64) {
        let wallet = self.wallets.get(handle);
        if wallet.grown >= number {
            return;
        }
        let merchant = self.cards.card(wallet.card).merchant as usize;
        let mut granted = 0;
        self.wallets.change(handle, |wallet| granted = wallet.grow(number, rate).unwrap_or(0));
        self.organisation.merchants[merchant].granted += i128::from(granted);
    }

    /// Closes the open day; `date` must be it. Growth of the day before must be complete. `sequence` is that of the first entry.
    pub fn close_day(&mut self, programme: usize, sequence: u64) -> Closing {
        let mut entries = Vec::new();
        if let Some(lapsed) = self.lapse(programme, sequence) {
            let date = self.organisation.programmes[programme].calendar.open;
            self.apply_lapsed(programme, &lapsed).expect("it was just made");
            let number = self.organisation.programmes[programme].number;
            entries.push(Entry::LotsLapsed(LotsLapsed { programme: number, date, legs: lapsed }));
        }
        if let Some(opens) = self.open_growth(programme) {
            self.apply_growth_opens(programme, &opens).expect("it was just made");
            entries.push(Entry::GrowthOpens(opens));
        }
        let closed = self.settle(programme);
        self.apply_day_closed(programme, &closed, sequence + entries.len() as u64).expect("it was just made");
        entries.push(Entry::DayClosed(closed));
        Closing { entries }
    }

    fn open_growth(&self, programme: usize) -> Option<GrowthOpens> {
        let found = &self.organisation.programmes[programme];
        let rules = found.rules.as_ref().filter(|rules| rules.tables.compounding_rate > 0)?;
        let rate = rules.tables.compounding_rate;
        let outstanding = found.books.points;
        let purses = found.cards + self.dated_points(programme);
        let reserve = outstanding * i128::from(rate) / i128::from(RATE_ONE) + i128::from(purses);
        let funded = found.books.funding >= reserve;
        let mut legs = Vec::new();
        if funded {
            total_leg(&mut legs, Account::GrowthFunding, -reserve);
            total_leg(&mut legs, Account::GrowthReserve, reserve);
        }
        Some(GrowthOpens {
            programme: found.number,
            date: found.calendar.open,
            rule: rules.version,
            rate,
            outstanding,
            purses,
            reserve,
            funded,
            legs,
        })
    }

    /// Recomputes what opens, and meets the entry.
    pub(crate) fn replay_growth_opens(&mut self, programme: usize, opens: &GrowthOpens) -> Result<(), Contradiction> {
        // Lots that a wallet holds ahead of the journal's tail are counted as of then: how many there were, the entry says.
        let own = self.open_growth(programme).map(|own| match self.wallets.loaded {
            true => own.with_purses(opens.purses, self.organisation.programmes[programme].books.funding),
            false => own,
        });
        if own.as_ref() != Some(opens) {
            return Err("its rate, its points or its reserve are not what the entries before it give".into());
        }
        self.apply_growth_opens(programme, opens)
    }

    fn apply_growth_opens(&mut self, programme: usize, opens: &GrowthOpens) -> Result<(), Contradiction> {
        self.post_issuer_legs(programme, &opens.legs)?;
        let found = &mut self.organisation.programmes[programme];
        if !opens.funded {
            return Ok(());
        }
        if found.growth.is_some() || opens.purses < found.cards {
            return Err("a growth opens before the one before is complete, or for other purses than there are".into());
        }
        found.growths += 1;
        found.growth_rates.push((opens.date, opens.rate));
        found.growth = Some(Growth {
            number: found.growths,
            rate: opens.rate,
            date: opens.date,
            purses: found.cards,
            reserve: opens.reserve,
            grown: 0,
            run: 0,
            next: 0,
            wallet: 0,
        });
        Ok(())
    }

    fn settle(&self, programme: usize) -> DayClosed {
        let found = &self.organisation.programmes[programme];
        let mut legs = Vec::new();
        for (&number, &index) in &found.stores {
            let store = &self.organisation.stores[index as usize];
            let mut settled = |account, amount: i128| {
                if amount != 0 {
                    legs.push(TotalLeg { account, number, amount });
                }
            };
            settled(Account::StoreClearing, -store.clearing);
            settled(Account::StoreCollection, -store.collection);
            let fees = self.organisation.fees[index as usize];
            settled(Account::StoreFees, -fees);
            settled(Account::StoreDue, store.clearing + store.collection + fees);
        }
        let (books, morning) = (&found.books, &found.morning);
        DayClosed {
            programme: found.number,
            date: found.calendar.open,
            members: books.members_money() - morning.members_money(),
            bonus: books.issuer_bonus - morning.issuer_bonus,
            points: books.issuer_points - morning.issuer_points,
            units: books.issuer_units + books.collected - morning.issuer_units - morning.collected,
            legs,
        }
    }

    pub(crate) fn apply_day_closed(&mut self, programme: usize, closed: &DayClosed, sequence: u64) -> Result<(), Contradiction> {
        let found = &mut self.organisation.programmes[programme];
        if found.calendar.open != closed.date || !are_balanced(&closed.legs) {
            return Err("it closes another day than the open one, or its legs do not sum to zero".into());
        }
        // The legs of a store follow each other.
        let mut known = None;
        for leg in &closed.legs {
            let index = match known {
                Some((number, index)) if number == leg.number => index,
                _ => *found.stores.get(&leg.number).ok_or_else(|| format!("no store {}", leg.number))?,
            };
            known = Some((leg.number, index));
            let store = &mut self.organisation.stores[index as usize];
            match leg.account {
                Account::StoreClearing => store.clearing += leg.amount,
                Account::StoreCollection => store.collection += leg.amount,
                Account::StoreDue => store.due += leg.amount,
                Account::StoreFees => self.organisation.fees[index as usize] += leg.amount,
                _ => return Err("a close posts on stores only".into()),
            }
        }
        found.calendar.close(sequence);
        found.morning = found.books.clone();
        Ok(())
    }

    /// Lets up to `cards` cards of a programme grow; the entry that completes the growth, if it did.
    pub fn sweep(&mut self, programme: usize, cards: usize, sequence: u64) -> Option<Entry> {
        if !self.sweep_cards(programme, cards, sequence) {
            return None;
        }
        let growth = self.organisation.programmes[programme].growth.as_ref().expect("a growth is being granted");
        assert_eq!(growth.grown, growth.purses, "every purse grows once");
        let granted = self.granted(programme);
        let complete = self.completion(programme, growth, &granted);
        self.apply_growth_complete(programme, &complete, &granted).expect("it was just made");
        Some(Entry::GrowthComplete(complete))
    }

    /// The first programme whose growth is incomplete.
    pub fn growing(&self) -> Option<usize> {
        self.organisation.programmes.iter().position(|programme| programme.growth.is_some())
    }

    /// True when every card and every wallet has grown.
    fn sweep_cards(&mut self, programme: usize, cards: usize, sequence: u64) -> bool {
        let Organisation { programmes, merchants, .. } = &mut self.organisation;
        let found = &mut programmes[programme];
        let Some(growth) = &mut found.growth else { return false };
        let mut budget = cards;
        while let Some(&(first, count)) = found.card_runs.get(growth.run) {
            let end = first + count;
            let from = growth.next.max(first);
            let until = from.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)).min(end);
            growth.grown += self.cards.grow_run(from, until, growth.number, growth.rate, sequence, |merchant, granted| {
                merchants[merchant as usize].granted += i128::from(granted);
            });
            budget -= (until - from) as usize;
            growth.next = until;
            if until < end || budget == 0 && growth.run + 1 < found.card_runs.len() {
                return false;
            }
            growth.run += 1;
        }
        let (number, rate, from) = (growth.number, growth.rate, growth.wallet);
        let until = from.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)).min(self.wallets.len());
        growth.wallet = until;
        let programme = found.number;
        for handle in from..until {
            if self.cards.card(self.wallets.get(handle).card).programme == programme {
                self.grow_wallet(handle, number, rate);
            }
        }
        until == self.wallets.len()
    }

    /// How many dated lots of points the cards of a programme have.
    fn dated_points(&self, programme: usize) -> u64 {
        let number = self.organisation.programmes[programme].number;
        let wallets = self.wallets.iter().filter(|wallet| self.cards.card(wallet.card).programme == number);
        wallets.map(|wallet| wallet.lots_of(Purse::POINTS).count() as u64).sum()
    }

    /// Ends the holds, takes out the lots and reviews the tiers whose last date the open one is: what lapsed, as legs by account, and merchant or unit. None if
    /// nothing did. An entry with this sequence tells of it.
    fn lapse(&mut self, programme: usize, sequence: u64) -> Option<Vec<TotalLeg>> {
        let found = &self.organisation.programmes[programme];
        let (number, date) = (found.number, found.calendar.open);
        let mut lapsed: BTreeMap<(u16, u32), i128> = BTreeMap::new();
        let mut any = false;
        for handle in self.wallets.lapsing(date) {
            let wallet = self.wallets.get(handle);
            let (index, ahead) = (wallet.card, wallet.last >= sequence);
            let card = self.cards.card(index);
            if card.programme != number || ahead {
                continue;
            }
            any = true;
            let merchant = self.organisation.merchants[card.merchant as usize].number;
            let tables = self.organisation.programmes[programme].rules.as_ref().map(|rules| &rules.tables);
            let shown = self.wallets.change(handle, |wallet| {
                wallet.lapse(date, |purse, amount| {
                    let whose = if purse == Purse::POINTS { merchant } else { 0 };
                    *lapsed.entry((purse, whose)).or_default() += i128::from(amount);
                });
                review(wallet, tables, date);
                wallet.last = sequence;
            });
            self.cards.card_mut(index).0.show(shown);
        }
        any.then(|| lapse_legs(&lapsed))
    }

    /// Posts what lapsed on what all cards share.
    fn apply_lapsed(&mut self, programme: usize, legs: &[TotalLeg]) -> Result<(), Contradiction> {
        if !are_balanced(legs) {
            return Err("its legs do not sum to zero".into());
        }
        let Organisation { programmes, merchants, .. } = &mut self.organisation;
        let found = &mut programmes[programme];
        for leg in legs {
            let unit = if leg.account.unit() == Unit::Counted { leg.number } else { 0 };
            let unit = u16::try_from(unit).map_err(|_| format!("no unit {unit}"))?;
            if leg.account == Account::CardPoints {
                let index = *found.merchants.get(&leg.number).ok_or_else(|| format!("no merchant {}", leg.number))?;
                merchants[index as usize].points += leg.amount;
            }
            match found.books.total(leg.account, unit) {
                Some(total) => *total += leg.amount,
                None => return Err("lots lapse from cards to the issuer only".into()),
            }
        }
        Ok(())
    }

    /// Lets lapse what has not, and meets the entry.
    pub(crate) fn replay_lapse(&mut self, programme: usize, lapsed: &LotsLapsed, sequence: u64) -> Result<(), Contradiction> {
        if self.organisation.programmes[programme].calendar.open != lapsed.date {
            return Err("lots lapse with the open day".into());
        }
        let own = self.lapse(programme, sequence).unwrap_or_default();
        if own != lapsed.legs && !self.wallets.loaded {
            return Err(format!("{own:?} lapses, the entry says {:?}", lapsed.legs));
        }
        self.apply_lapsed(programme, &lapsed.legs)
    }

    /// The entry that completes a growth with these grants, given by the merchants' indexes in order of their numbers.
    fn completion(&self, programme: usize, growth: &Growth, granted: &[(u32, i128)]) -> GrowthComplete {
        let merchants = &self.organisation.merchants;
        let found = &self.organisation.programmes[programme];
        let total = granted.iter().map(|(_, amount)| amount).sum();
        let mut legs = Vec::with_capacity(granted.len() + 2);
        total_leg(&mut legs, Account::GrowthReserve, -growth.reserve);
        for &(index, amount) in granted {
            legs.push(TotalLeg { account: Account::MembersGrowth, number: merchants[index as usize].number, amount });
        }
        total_leg(&mut legs, Account::GrowthFunding, growth.reserve - total);
        let mut granted = granted.iter().peekable();
        let mut liability = |index: u32| {
            let grown = granted.next_if(|grant| grant.0 == index).map_or(0, |grant| grant.1);
            merchants[index as usize].points + grown
        };
        let liabilities = found.merchants.iter().map(|(&number, &index)| (number, liability(index)));
        let liabilities = liabilities.filter(|&(_, points)| points != 0).collect();
        GrowthComplete { programme: found.number, date: growth.date, growth: total, legs, liabilities }
    }

    /// What each merchant's cards were granted of the growth so far: those that were granted anything, in order of their numbers.
    fn granted(&self, programme: usize) -> Vec<(u32, i128)> {
        let indexes = self.organisation.programmes[programme].merchants.values();
        let granted = indexes.map(|&index| (index, self.organisation.merchants[index as usize].granted));
        granted.filter(|&(_, amount)| amount != 0).collect()
    }

    fn apply_growth_complete(
        &mut self,
        programme: usize,
        complete: &GrowthComplete,
        granted: &[(u32, i128)],
    ) -> Result<(), Contradiction> {
        self.post_issuer_legs(programme, &complete.legs)?;
        let Organisation { programmes, merchants, .. } = &mut self.organisation;
        for &index in programmes[programme].merchants.values() {
            let merchant = &mut merchants[index as usize];
            (merchant.granted, merchant.growth) = (0, 0);
        }
        for &(index, amount) in granted {
            let merchant = &mut merchants[index as usize];
            merchant.points += amount;
            merchant.growth = amount;
        }
        programmes[programme].growth = None;
        programmes[programme].growth_date = Some(complete.date);
        Ok(())
    }

    /// Recomputes the growth of every card that has not got it, and meets the recorded growth and liability of every merchant.
    pub(crate) fn replay_growth_complete(
        &mut self,
        programme: usize,
        complete: &GrowthComplete,
        sequence: u64,
    ) -> Result<(), Contradiction> {
        self.sweep_cards(programme, usize::MAX, sequence);
        let Some(growth) = &self.organisation.programmes[programme].growth else { return Err("no growth is open".into()) };
        let recorded = self.recorded(programme, growth, complete)?;
        let granted = self.granted(programme);
        let meets = if growth.grown == growth.purses && (!self.wallets.loaded || granted == recorded) {
            granted == recorded
        } else {
            // Cards that a checkpoint pass copied afterwards have grown already and are not counted here.
            let covers = |own: &(u32, i128)| recorded.iter().any(|said| said.0 == own.0 && said.1 >= own.1);
            granted.iter().all(covers)
        };
        if !meets {
            let own: i128 = granted.iter().map(|(_, amount)| amount).sum();
            let said = complete.growth;
            return Err(format!("cards grew by {own}, the entry says {said}, or divides it otherwise among the merchants"));
        }
        if self.completion(programme, growth, &recorded) != *complete {
            return Err("its date, its legs or the merchants' liabilities are not what the entries before it give".into());
        }
        self.apply_growth_complete(programme, complete, &recorded)
    }

    /// What the entry says that each merchant's cards were granted.
    fn recorded(&self, programme: usize, growth: &Growth, complete: &GrowthComplete) -> Result<Vec<(u32, i128)>, Contradiction> {
        let merchants = &self.organisation.programmes[programme].merchants;
        let (mut left, mut before) = (growth.reserve, 0);
        let mut recorded = Vec::new();
        for leg in complete.legs.iter().filter(|leg| leg.account == Account::MembersGrowth) {
            let Some(&index) = merchants.get(&leg.number) else { return Err(format!("no merchant {}", leg.number)) };
            if !(1..=left).contains(&leg.amount) || leg.number <= before {
                return Err(format!("merchant {} grew by {} after merchant {before}, {left} are left", leg.number, leg.amount));
            }
            before = leg.number;
            left -= leg.amount;
            recorded.push((index, leg.amount));
        }
        Ok(recorded)
    }

    fn post_issuer_legs(&mut self, programme: usize, legs: &[TotalLeg]) -> Result<(), Contradiction> {
        if !are_balanced(legs) {
            return Err("its legs do not sum to zero".into());
        }
        for leg in legs {
            match self.organisation.programmes[programme].books.total(leg.account, 0) {
                Some(total) => *total += leg.amount,
                None => return Err("a growth posts on the issuer's accounts only".into()),
            }
        }
        Ok(())
    }

    /// Live positions of a programme's stores.
    pub fn positions(&self, programme: u16) -> (Code, Vec<StorePosition>) {
        let Some(at) = self.organisation.programme(programme) else { return (Code::UnknownTerminal, Vec::new()) };
        let stores = self.organisation.programmes[at].stores.iter().map(|(&number, &index)| {
            let store = &self.organisation.stores[index as usize];
            let (sold, collected, fees) = (store.clearing, -store.collection, self.organisation.fees[index as usize]);
            StorePosition { store: number, sold, collected, fees, due: store.due }
        });
        (Code::Approved, stores.collect())
    }

    /// Numbers of the cards that a member holds.
    pub fn cards_of(&self, programme: u16, member: u64) -> (Code, Vec<CardNumber>) {
        if self.organisation.programme(programme).is_none() {
            return (Code::UnknownTerminal, Vec::new());
        }
        let held = self.held_by(programme, member);
        let mut numbers: Vec<CardNumber> = held.map(|index| self.cards.card(index).number()).collect();
        numbers.sort_unstable();
        (Code::Approved, numbers)
    }

    /// Indexes of the cards of a programme that a member holds.
    pub(crate) fn held_by(&self, programme: u16, member: u64) -> impl Iterator<Item = u32> {
        self.wallets.held_by(member).filter(move |&index| self.cards.card(index).programme == programme)
    }

    /// What the members of staff of a programme sold.
    pub fn staff(&self, programme: u16) -> (Code, Vec<StaffSales>) {
        let Some(at) = self.organisation.programme(programme) else { return (Code::UnknownTerminal, Vec::new()) };
        let staff = self.organisation.programmes[at].staff.iter().map(|(&index, sold)| {
            let card = self.cards.card(index).number();
            StaffSales { card, sales: sold.sales, amount: sold.amount }
        });
        let mut staff: Vec<StaffSales> = staff.collect();
        staff.sort_unstable_by_key(|sales| sales.card);
        (Code::Approved, staff)
    }

    /// The points of a programme's cards, by the merchant that issued them.
    pub fn liabilities(&self, programme: u16) -> Liabilities {
        let Some(at) = self.organisation.programme(programme) else {
            return Liabilities { code: Code::UnknownTerminal, growth_date: None, merchants: Vec::new() };
        };
        let found = &self.organisation.programmes[at];
        let merchants = found.merchants.iter().map(|(&number, &index)| {
            let merchant = &self.organisation.merchants[index as usize];
            MerchantLiability { merchant: number, points: merchant.points + merchant.granted, growth: merchant.growth }
        });
        Liabilities { code: Code::Approved, growth_date: found.growth_date, merchants: merchants.collect() }
    }

    /// All accounts of a programme, summed by kind.
    pub fn trial_balance(&self, programme: u16, entries: u64) -> TrialBalance {
        let Some(at) = self.organisation.programme(programme) else {
            let code = Code::UnknownTerminal;
            return TrialBalance { code, open_date: 0, cards: 0, entries, totals: Vec::new(), units: Vec::new(), growing: false };
        };
        let found = &self.organisation.programmes[at];
        let books = &found.books;
        let granted: i128 = self.granted(at).iter().map(|(_, amount)| amount).sum();
        let stores = found.stores.values().map(|&index| &self.organisation.stores[index as usize]);
        let (clearing, collection, due) = stores.fold((0, 0, 0), |(clearing, collection, due), store| {
            (clearing + store.clearing, collection + store.collection, due + store.due)
        });
        let fees = found.stores.values().map(|&index| self.organisation.fees[index as usize]).sum();
        let totals = [
            (Account::CardPrincipal, books.principal),
            (Account::CardBonus, books.bonus),
            (Account::CardPoints, books.points + granted),
            (Account::CardShortfallMoney, books.shortfall_money),
            (Account::CardShortfallPoints, books.shortfall_points),
            (Account::StoreClearing, clearing),
            (Account::StoreCollection, collection),
            (Account::StoreDue, due),
            (Account::StoreFees, fees),
            (Account::IssuerBonus, books.issuer_bonus),
            (Account::IssuerPoints, books.issuer_points),
            (Account::PointsPool, books.pool),
            (Account::GrowthFunding, books.funding),
            (Account::GrowthReserve, books.reserve - granted),
            (Account::IssuerUnits, books.issuer_units),
            (Account::IssuerCollection, books.collected),
        ];
        let units = books.units.iter().map(|&(unit, totals)| (unit, [totals.cards, totals.pool, totals.codes]));
        TrialBalance {
            code: Code::Approved,
            open_date: found.calendar.open,
            cards: found.cards,
            entries,
            totals: totals.map(|(account, total)| (account.code(), total)).to_vec(),
            units: units.collect(),
            growing: found.growth.is_some(),
        }
    }

    /// Sums the purses themselves and holds them against the books and the merchants' liabilities; what differs, in words.
    pub fn check_purses(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut issued = vec![0i128; self.organisation.merchants.len()];
        for programme in &self.organisation.programmes {
            let mut sums = [0i128; 5];
            let mut units: BTreeMap<u16, i128> = BTreeMap::new();
            for index in programme.card_runs.iter().flat_map(|&(first, count)| first..first + count) {
                let card = self.cards.card(index);
                let [principal, bonus, points] = self.balances(index);
                let purses = [principal, bonus, points, card.shortfall_money, card.shortfall_points];
                sums.iter_mut().zip(purses).for_each(|(sum, purse)| *sum += i128::from(purse));
                issued[card.merchant as usize] += i128::from(points);
                let lots = self.wallet(index).map_or(&[][..], |wallet| &wallet.lots);
                for lot in lots.iter().filter(|lot| lot.purse >= UNIT_MIN) {
                    *units.entry(lot.purse).or_default() += i128::from(lot.amount);
                }
            }
            let books = self.trial_balance(programme.number, 0);
            for (unit, [cards, pool, codes]) in &books.units {
                let sum = units.remove(unit).unwrap_or_default();
                if sum != *cards || cards + pool + codes != 0 {
                    let number = programme.number;
                    wrong.push(format!(
                        "programme {number}: unit {unit}: purses sum to {sum}, the books say {cards} on cards, {pool} in the pool, {codes} as codes"
                    ));
                }
            }
            if let Some((unit, sum)) = units.first_key_value() {
                wrong
                    .push(format!("programme {}: unit {unit}: cards have {sum}, the books know nothing of it", programme.number));
            }
            for (sum, (account, total)) in sums.iter().zip(&books.totals) {
                if sum != total {
                    wrong.push(format!(
                        "programme {}: account {account}: purses sum to {sum}, the books say {total}",
                        programme.number
                    ));
                }
            }
        }
        for (points, merchant) in issued.into_iter().zip(&self.organisation.merchants) {
            let liability = merchant.points + merchant.granted;
            if points != liability {
                wrong.push(format!(
                    "programme {}: merchant {}: its cards hold {points} points, its liability is {liability}",
                    merchant.programme, merchant.number
                ));
            }
        }
        wrong
    }
}

/// What lapsed of each purse - of points by merchant - as legs.
fn lapse_legs(lapsed: &BTreeMap<(u16, u32), i128>) -> Vec<TotalLeg> {
    let mut legs = Vec::new();
    for (&(number, merchant), &amount) in lapsed {
        let purse = Purse { card: 0, number };
        let whose = if number > Purse::POINTS { number.into() } else { merchant };
        legs.push(TotalLeg { account: purse.account(), number: whose, amount: -amount });
        legs.push(TotalLeg { account: purse.pool(), number: purse.unit().into(), amount });
    }
    legs
}

impl GrowthOpens {
    /// The same for another number of purses, with so much funding.
    fn with_purses(self, purses: u64, funding: i128) -> GrowthOpens {
        let reserve = self.reserve - i128::from(self.purses) + i128::from(purses);
        let funded = funding >= reserve;
        let mut legs = Vec::new();
        if funded {
            total_leg(&mut legs, Account::GrowthFunding, -reserve);
            total_leg(&mut legs, Account::GrowthReserve, reserve);
        }
        GrowthOpens { purses, reserve, funded, legs, ..self }
    }
}

/// The report of a closed day, from its entries.
pub fn report(sequence: u64, closed: &DayClosed, opens: Option<&GrowthOpens>, replayed: bool) -> CloseReport {
    let mut stores: Vec<StorePosition> = Vec::new();
    for leg in &closed.legs {
        if stores.last().is_none_or(|last| last.store != leg.number) {
            stores.push(StorePosition { store: leg.number, sold: 0, collected: 0, fees: 0, due: 0 });
        }
        let position = stores.last_mut().expect("one was just added");
        match leg.account {
            Account::StoreClearing => position.sold = -leg.amount,
            Account::StoreCollection => position.collected = leg.amount,
            Account::StoreFees => position.fees = -leg.amount,
            _ => {}
        }
    }
    CloseReport {
        code: Code::Approved,
        replayed,
        sequence,
        date: closed.date,
        stores,
        members: closed.members,
        bonus: closed.bonus,
        points: closed.points,
        units: closed.units,
        growth: opens.map(|opens| GrowthReport {
            rate: opens.rate,
            outstanding: opens.outstanding,
            purses: opens.purses,
            reserve: opens.reserve,
            funded: opens.funded,
        }),
    }
}
