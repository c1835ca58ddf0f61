//! Asking the rules that are kept outside about a group of sales, before it is executed.
//!
//! Where a programme's rules name none, nobody is asked and nothing is gathered. Otherwise all rows that wait are gathered first, and the
//! sales among them are shown with their cards as they are at that moment: what the rows before change in the same group is not seen.

use std::collections::BTreeMap;

use crate::advice::{Adviser, Columns, Outcome};
use crate::calendar::is_date;
use crate::commands::{Batch, Kind};
use crate::details::Item;
use crate::error::Error;
use crate::pipeline::Job;
use crate::pipeline::door::Checked;
use crate::rules::{Heard, PythonRule};

use super::execute::AHEAD_ROWS;
use super::{GROUP_ROWS, Writer};

/// What was heard of the rows of a batch; nothing of any, where none was asked about.
#[derive(Debug, Default)]
pub(super) struct Advice {
    items: Vec<Item>,
    /// Of each row where its items end, and whether a rule that is required was not heard.
    rows: Vec<(u32, bool)>,
}

impl Advice {
    /// The items of a row, and whether it must be refused because a required rule was not heard.
    #[inline]
    pub(super) fn of(&self, row: usize) -> (&[Item], bool) {
        match self.rows.get(row) {
            None => (&[], false),
            Some(&(end, lacks)) => {
                let first = if row == 0 { 0 } else { self.rows[row - 1].0 };
                (&self.items[first as usize..end as usize], lacks)
            }
        }
    }
}

/// The sales of one programme in a group, and what was said of them.
#[derive(Default)]
struct Asked {
    columns: Columns,
    rules: Vec<PythonRule>,
    outcomes: Vec<Outcome>,
    /// How many of them got theirs.
    told: usize,
}

impl Asked {
    /// Adds what was heard of the next sale to a batch's.
    fn tell(&mut self, advice: &mut Advice) -> bool {
        let mut lacks = false;
        for (rule, outcome) in self.rules.iter().zip(&self.outcomes) {
            let heard = outcome.of(self.told);
            lacks |= rule.required && !matches!(heard, Heard::Said(_));
            advice.items.extend(Item::advice(rule.id, heard));
        }
        self.told += 1;
        lacks
    }
}

impl Writer {
    /// True if the rules of some programme in force name rules that are kept outside.
    pub(super) fn asks_outside(&self) -> bool {
        let programmes = &self.machine.organisation.programmes;
        programmes.iter().any(|of| of.rules.as_ref().is_some_and(|rules| !rules.tables.python_rules.is_empty()))
    }

    /// Takes rows with all rows that wait behind them, at most so many jobs; what is another job is given back.
    pub(super) fn take_advised(&mut self, first: Job, waiting: &mut usize) -> Result<Option<Job>, Error> {
        let (mut jobs, mut rows, mut other) = (Vec::new(), 0, None);
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job.rows_checked() {
                None => other = Some(job),
                Some((batch, _)) => {
                    rows += batch.rows.len();
                    jobs.push(job);
                    if rows < GROUP_ROWS && *waiting > 0 {
                        *waiting -= 1;
                        next = self.jobs.try_recv().ok();
                    }
                }
            }
        }
        // What was executed before needs not wait for what is said now.
        self.hand_on_if_ready()?;
        let mut asked = self.ask(&jobs);
        for job in jobs {
            self.make_way()?;
            self.advice = advice_of(&job, &mut asked);
            self.take(job)?;
        }
        Ok(other)
    }

    /// The next rows of a group find room, and passes have caught up.
    fn make_way(&mut self) -> Result<(), Error> {
        if self.is_full() {
            let _ = self.sync.ready.recv();
            self.hand_on()?;
        }
        while let Some(until) = self.waits_until {
            let working = self.work_behind()?;
            self.wait(until, working)?;
        }
        Ok(())
    }

    /// Shows the sales of a group to the rules of their programmes.
    fn ask(&mut self, jobs: &[Job]) -> BTreeMap<u16, Asked> {
        let mut asked = BTreeMap::new();
        for programme in &self.machine.organisation.programmes {
            let rules = programme.rules.as_ref().map_or(&[][..], |rules| &rules.tables.python_rules);
            if !rules.is_empty() {
                let columns = Columns { programme: programme.number, open_date: programme.calendar.open, ..Columns::default() };
                asked.insert(programme.number, Asked { columns, rules: rules.to_vec(), ..Asked::default() });
            }
        }
        for (batch, checked) in jobs.iter().filter_map(Job::rows_checked) {
            self.show(batch, checked, &mut asked);
        }
        for Asked { columns, rules, outcomes, .. } in asked.values_mut().filter(|asked| !asked.columns.is_empty()) {
            *outcomes = ask_one(self.adviser.as_deref_mut(), columns, rules);
        }
        asked
    }

    fn show(&mut self, batch: &Batch, checked: &[Checked], asked: &mut BTreeMap<u16, Asked>) {
        let sequence = self.block.next();
        for (rows, checked) in batch.rows.chunks(AHEAD_ROWS).zip(checked.chunks(AHEAD_ROWS)) {
            checked.iter().for_each(|checked| self.machine.cards.prefetch_index(checked.card_hash));
            for checked in checked {
                let _ = self.machine.cards.prefetch_likely(checked.card_hash);
            }
            for (row, checked) in rows.iter().zip(checked).filter(|(row, checked)| is_asked_about(checked, row.business_date)) {
                let programme = row.programme();
                let Some(asked) = asked.get_mut(&programme) else { continue };
                let card = match checked.number {
                    Some(number) => self.machine.cards.find(checked.card_hash, programme, number),
                    None => self.machine.named_card(programme, None, batch.items_of(row).unwrap_or(&[])),
                };
                let terminal = self.machine.organisation.terminal(checked.terminal_hash, programme, row.terminal);
                self.machine.show(&mut asked.columns, row, card, terminal, sequence);
            }
        }
    }
}

/// A sale that is well formed. One on no date that there is is refused before it is priced.
fn is_asked_about(checked: &Checked, date: i32) -> bool {
    matches!(checked.kind, Some(Kind::Purchase | Kind::Authorise)) && is_date(date)
}

/// What each of the rules says, of which none is there if nobody can ask them.
fn ask_one(adviser: Option<&mut (dyn Adviser + 'static)>, columns: &Columns, rules: &[PythonRule]) -> Vec<Outcome> {
    let mut outcomes = adviser.map_or(Vec::new(), |adviser| adviser.advise(columns, rules));
    outcomes.resize(rules.len(), Outcome::Failed);
    outcomes.into_iter().map(|outcome| outcome.checked(columns.len())).collect()
}

/// What was heard of the rows of a job, which are told in the order in which they were asked about.
fn advice_of(job: &Job, asked: &mut BTreeMap<u16, Asked>) -> Advice {
    let mut advice = Advice::default();
    let Some((batch, checked)) = job.rows_checked() else { return advice };
    advice.rows.reserve_exact(batch.rows.len());
    for (row, checked) in batch.rows.iter().zip(checked) {
        let of = asked.get_mut(&row.programme()).filter(|_| is_asked_about(checked, row.business_date));
        let lacks = of.is_some_and(|asked| asked.tell(&mut advice));
        advice.rows.push((advice.items.len() as u32, lacks));
    }
    advice
}
