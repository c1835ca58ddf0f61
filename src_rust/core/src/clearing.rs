//! Close of day: growth, settlement of the stores, and the books' sight of it.
//!
//! A close journals at most two records of a plan's growth: one opens it with a reserve that covers it for certain, one completes
//! it. In between every card of the programme grows exactly once, when it is touched or when the sweep comes by. The checkpoint copies nothing
//! in between, so that after a crash the growth of every card can be computed again.

use serde::{Deserialize, Serialize};

use crate::accounts::{Account, Leg, leg, sums};
use crate::codes::Code;
use crate::commands::{CloseReport, GrowthReport, StorePosition, TrialBalance};
use crate::journal::entry::{DayClosed, Entry, GrowthComplete, GrowthOpens};
use crate::machine::{Contradiction, Machine};
use crate::units::RATE_ONE;

/// A day's growth while it is being granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The programme's count of growths, this one included.
    number: u32,
    rate: u64,
    date: i32,
    purses: u64,
    reserve: i128,
    /// Granted so far, and to how many purses.
    granted: i128,
    grown: u64,
    /// Where the sweep is: a run of cards, and the next card in it.
    run: usize,
    next: u32,
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
        let Some(growth) = &mut self.organisation.programmes[programme].growth else { return };
        if let Some(granted) = self.cards.grow(index, growth.number, growth.rate, sequence) {
            growth.granted += i128::from(granted);
            growth.grown += 1;
        }
    }

    /// Closes the open day; `date` must be it. Growth of the day before must be complete. `sequence` is that of the first entry.
    pub fn close_day(&mut self, programme: usize, sequence: u64) -> Closing {
        let mut entries = Vec::new();
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
        let reserve = outstanding * i128::from(rate) / i128::from(RATE_ONE) + i128::from(found.cards);
        let funded = found.books.funding >= reserve;
        let mut legs = Vec::new();
        if funded {
            leg(&mut legs, Account::GrowthFunding, -reserve);
            leg(&mut legs, Account::GrowthReserve, reserve);
        }
        Some(GrowthOpens {
            programme: found.number,
            date: found.calendar.open,
            rule: rules.version,
            rate,
            outstanding,
            purses: found.cards,
            reserve,
            funded,
            legs,
        })
    }

    pub(crate) fn apply_growth_opens(&mut self, programme: usize, opens: &GrowthOpens) -> Result<(), Contradiction> {
        self.post_issuer_legs(programme, &opens.legs)?;
        let found = &mut self.organisation.programmes[programme];
        if !opens.funded {
            return Ok(());
        }
        if found.growth.is_some() || opens.purses != found.cards {
            return Err("a growth opens before the one before is complete, or for other purses than there are".into());
        }
        found.growths += 1;
        found.growth = Some(Growth {
            number: found.growths,
            rate: opens.rate,
            date: opens.date,
            purses: opens.purses,
            reserve: opens.reserve,
            granted: 0,
            grown: 0,
            run: 0,
            next: 0,
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
                    legs.push(Leg { account, store: number, amount });
                }
            };
            settled(Account::StoreClearing, -store.clearing);
            settled(Account::StoreCollection, -store.collection);
            settled(Account::StoreDue, store.clearing + store.collection);
        }
        let (books, morning) = (&found.books, &found.morning);
        DayClosed {
            programme: found.number,
            date: found.calendar.open,
            members: books.members_money() - morning.members_money(),
            bonus: books.issuer_bonus - morning.issuer_bonus,
            points: books.issuer_points - morning.issuer_points,
            legs,
        }
    }

    pub(crate) fn apply_day_closed(&mut self, programme: usize, closed: &DayClosed, sequence: u64) -> Result<(), Contradiction> {
        let found = &mut self.organisation.programmes[programme];
        if found.calendar.open != closed.date || sums(&closed.legs) != (0, 0) {
            return Err("it closes another day than the open one, or its legs do not sum to zero".into());
        }
        for leg in &closed.legs {
            let Some(&index) = found.stores.get(&leg.store) else { return Err(format!("no store {}", leg.store)) };
            let store = &mut self.organisation.stores[index as usize];
            match leg.account {
                Account::StoreClearing => store.clearing += leg.amount,
                Account::StoreCollection => store.collection += leg.amount,
                Account::StoreDue => store.due += leg.amount,
                _ => return Err("a close posts on stores only".into()),
            }
        }
        found.calendar.close(sequence);
        found.morning = found.books.clone();
        Ok(())
    }

    /// Lets up to `cards` cards grow, of the first programme whose growth is incomplete; the entry that completes it, if it did.
    pub fn sweep(&mut self, cards: usize, sequence: u64) -> Option<Entry> {
        let programme = self.organisation.programmes.iter().position(|found| found.growth.is_some())?;
        self.sweep_programme(programme, cards, sequence)
    }

    /// The same for one programme.
    pub fn sweep_programme(&mut self, programme: usize, cards: usize, sequence: u64) -> Option<Entry> {
        if !self.sweep_cards(programme, cards, sequence) {
            return None;
        }
        let complete = self.complete_growth(programme);
        self.apply_growth_complete(programme, &complete).expect("it was just made");
        Some(Entry::GrowthComplete(complete))
    }

    /// True if a day's growth is incomplete somewhere.
    pub fn growing(&self) -> bool {
        self.organisation.programmes.iter().any(|programme| programme.growth.is_some())
    }

    /// True when every card has grown.
    fn sweep_cards(&mut self, programme: usize, cards: usize, sequence: u64) -> bool {
        let found = &mut self.organisation.programmes[programme];
        let Some(growth) = &mut found.growth else { return false };
        let mut budget = cards;
        while let Some(&(first, count)) = found.card_runs.get(growth.run) {
            let end = first + count;
            let from = growth.next.max(first);
            let until = from.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)).min(end);
            for index in from..until {
                if let Some(granted) = self.cards.grow(index, growth.number, growth.rate, sequence) {
                    growth.granted += i128::from(granted);
                    growth.grown += 1;
                }
            }
            budget -= (until - from) as usize;
            growth.next = until;
            if until < end || budget == 0 && growth.run + 1 < found.card_runs.len() {
                return false;
            }
            growth.run += 1;
        }
        true
    }

    fn complete_growth(&self, programme: usize) -> GrowthComplete {
        let found = &self.organisation.programmes[programme];
        let growth = found.growth.as_ref().expect("a growth is being granted");
        assert_eq!(growth.grown, growth.purses, "every purse grows once");
        let mut legs = Vec::new();
        leg(&mut legs, Account::GrowthReserve, -growth.reserve);
        leg(&mut legs, Account::MembersGrowth, growth.granted);
        leg(&mut legs, Account::GrowthFunding, growth.reserve - growth.granted);
        GrowthComplete { programme: found.number, date: growth.date, growth: growth.granted, legs }
    }

    fn apply_growth_complete(&mut self, programme: usize, complete: &GrowthComplete) -> Result<(), Contradiction> {
        self.post_issuer_legs(programme, &complete.legs)?;
        self.organisation.programmes[programme].growth = None;
        Ok(())
    }

    /// Recomputes the growth of every card that has not got it, and meets the recorded total.
    pub(crate) fn replay_growth_complete(
        &mut self,
        programme: usize,
        complete: &GrowthComplete,
        sequence: u64,
    ) -> Result<(), Contradiction> {
        self.sweep_cards(programme, usize::MAX, sequence);
        let Some(growth) = &self.organisation.programmes[programme].growth else { return Err("no growth is open".into()) };
        // Cards that a checkpoint pass copied afterwards have grown already and are not counted here.
        let all = growth.grown == growth.purses;
        if growth.date != complete.date || growth.granted > complete.growth || all && growth.granted != complete.growth {
            return Err(format!("cards grew by {}, the entry says {}", growth.granted, complete.growth));
        }
        self.apply_growth_complete(programme, complete)
    }

    fn post_issuer_legs(&mut self, programme: usize, legs: &[Leg]) -> Result<(), Contradiction> {
        if sums(legs) != (0, 0) {
            return Err("its legs do not sum to zero".into());
        }
        for leg in legs {
            match self.organisation.programmes[programme].books.total(leg.account) {
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
            StorePosition { store: number, sold: store.clearing, collected: -store.collection, due: store.due }
        });
        (Code::Approved, stores.collect())
    }

    /// All accounts of a programme, summed by kind.
    pub fn trial_balance(&self, programme: u16, entries: u64) -> TrialBalance {
        let Some(at) = self.organisation.programme(programme) else {
            let code = Code::UnknownTerminal;
            return TrialBalance { code, open_date: 0, cards: 0, entries, totals: Vec::new(), growing: false };
        };
        let found = &self.organisation.programmes[at];
        let books = &found.books;
        let granted = found.growth.as_ref().map_or(0, |growth| growth.granted);
        let stores = found.stores.values().map(|&index| &self.organisation.stores[index as usize]);
        let (clearing, collection, due) = stores.fold((0, 0, 0), |(clearing, collection, due), store| {
            (clearing + store.clearing, collection + store.collection, due + store.due)
        });
        let totals = [
            (Account::CardPrincipal, books.principal),
            (Account::CardBonus, books.bonus),
            (Account::CardPoints, books.points + granted),
            (Account::CardShortfallMoney, books.shortfall_money),
            (Account::CardShortfallPoints, books.shortfall_points),
            (Account::StoreClearing, clearing),
            (Account::StoreCollection, collection),
            (Account::StoreDue, due),
            (Account::IssuerBonus, books.issuer_bonus),
            (Account::IssuerPoints, books.issuer_points),
            (Account::PointsPool, books.pool),
            (Account::GrowthFunding, books.funding),
            (Account::GrowthReserve, books.reserve - granted),
        ];
        TrialBalance {
            code: Code::Approved,
            open_date: found.calendar.open,
            cards: found.cards,
            entries,
            totals: totals.map(|(account, total)| (account as u8, total)).to_vec(),
            growing: found.growth.is_some(),
        }
    }

    /// Sums the purses themselves and holds them against the books; what differs, in words.
    pub fn check_purses(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for programme in &self.organisation.programmes {
            let mut sums = [0i128; 5];
            for index in programme.card_runs.iter().flat_map(|&(first, count)| first..first + count) {
                let card = self.cards.card(index);
                let purses = [card.principal, card.bonus, self.cards.points(index), card.shortfall_money, card.shortfall_points];
                sums.iter_mut().zip(purses).for_each(|(sum, purse)| *sum += i128::from(purse));
            }
            let books = self.trial_balance(programme.number, 0);
            for (sum, (account, total)) in sums.iter().zip(&books.totals) {
                if sum != total {
                    wrong.push(format!(
                        "programme {}: account {account}: purses sum to {sum}, the books say {total}",
                        programme.number
                    ));
                }
            }
        }
        wrong
    }
}

/// The report of a closed day, from its entries.
pub fn report(sequence: u64, closed: &DayClosed, opens: Option<&GrowthOpens>, replayed: bool) -> CloseReport {
    let mut stores: Vec<StorePosition> = Vec::new();
    for leg in &closed.legs {
        if stores.last().is_none_or(|last| last.store != leg.store) {
            stores.push(StorePosition { store: leg.store, sold: 0, collected: 0, due: 0 });
        }
        let position = stores.last_mut().expect("one was just added");
        match leg.account {
            Account::StoreClearing => position.sold = -leg.amount,
            Account::StoreCollection => position.collected = leg.amount,
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
        growth: opens.map(|opens| GrowthReport {
            rate: opens.rate,
            outstanding: opens.outstanding,
            purses: opens.purses,
            reserve: opens.reserve,
            funded: opens.funded,
        }),
    }
}
