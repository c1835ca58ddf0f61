//! Why a sale came to what it did: which rule of which version gave which amount, and which nearly applied.
//!
//! A sale that is posted is explained from its entry and the version of the rules that it names; one that is tried out from what it would have
//! been. A capture was priced with its authorisation: of its own it has fees, which are those of the version that was in force at it. Nothing
//! is changed.

use std::sync::{Arc, Mutex, PoisonError};

use crate::accounts::{Account, Post};
use crate::codes::Code;
use crate::commands::{Answer, Answers, Batch, Kind, RulesVersion};
use crate::details::{Item, Part, Seen, lines_of, seen_of};
use crate::error::Error;
use crate::journal::entry::{CardRef, Change, Entry, Transaction};
use crate::machine::{answer_of, paid_of, parts};
use crate::pipeline::door::Checked;
use crate::pipeline::{Engine, Job};
use crate::rules::{Advised, Fate, Foreign, Gift, Heard, Moment, Tables, Told, Verdict};

/// Why a sale came to what it did.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// 00; 25 if there is no such transaction, 12 if it is no sale or capture, 58, or what a sale that is tried out is answered without its rules.
    pub code: u8,
    /// The version that priced it; of a capture its fees. Number 0: there was none yet.
    pub version: RulesVersion,
    /// Of a capture the sequence of its authorisation, whose explanation tells the discounts and points; 0: it priced itself, or it is a refused
    /// capture of no authorisation that is known.
    pub priced_by: u64,
    /// What it was answered, or would be; its parts are here.
    pub answer: Answer,
    /// Parts of the answer.
    pub parts: Vec<Part>,
    /// What became of the rules, each with its name.
    pub verdicts: Vec<(Verdict, String)>,
}

/// The tables that were explained last, with their programme and version: to read and parse those of 100,000 rules takes seconds, and a version
/// never changes. Those in force are the machine's own, which the writer changes.
#[derive(Clone, Default)]
pub(crate) struct LastTables(Arc<Mutex<Option<Known>>>);

struct Known {
    programme: u16,
    version: u32,
    tables: Arc<Tables>,
}

impl LastTables {
    /// The tables of a version, which are read if they are not those of the last time. Who asks meanwhile waits.
    fn of(&self, programme: u16, version: u32, read: impl FnOnce() -> Result<Tables, Error>) -> Result<Arc<Tables>, Error> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(known) if (known.programme, known.version) == (programme, version) => Ok(known.tables.clone()),
            _ => {
                let tables = Arc::new(read()?);
                *last = Some(Known { programme, version, tables: tables.clone() });
                Ok(tables)
            }
        }
    }
}

/// What the machine knows of a sale beyond its entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// The card's product.
    pub(crate) product: u16,
    /// Number of the merchant that the store is of.
    pub(crate) merchant: u32,
    /// Number of the merchant that issued the card.
    pub(crate) issuer: u32,
}

impl Engine {
    /// Explains a sale that was posted or refused, by the sequence of its entry.
    pub fn explain(&self, programme: u16, sequence: u64) -> Result<Explanation, Error> {
        let programme = programme.max(1);
        let (code, versions) = self.rules_versions(programme)?;
        if code != Code::Approved {
            return Ok(Explanation::refused(code));
        }
        let found = if sequence == 0 || sequence >= self.shared.durable() { None } else { self.journal()?.entry(sequence)? };
        match found {
            Some(Entry::Transaction(sale)) if sale.key.programme == programme => {
                let mut told = Vec::new();
                parts(&sale, &mut told);
                let answer = Answer { parts: told.len() as u16, ..answer_of(&sale, sequence) };
                self.explain_sale(&sale, answer, told, &versions)
            }
            _ => Ok(Explanation::refused(Code::OriginalNotFound)),
        }
    }

    /// Explains a sale that is tried out: one row with [`DRY_RUN`](crate::commands::DRY_RUN).
    pub fn explain_dry_run(&self, batch: Batch) -> Result<Explanation, Error> {
        let programme = match &batch.rows[..] {
            [row] if row.is_dry_run() => row.programme(),
            _ => return Err(Error::Misuse("one sale, with the flag of a dry run, can be explained at a time".into())),
        };
        let checked = Checked::of_batch(&batch, &self.secrets);
        let (answers, sale): (Answers, Option<Transaction>) = self.call(|reply| Job::TryOut(batch, checked, reply))?;
        let answer = answers.rows[0];
        match sale {
            Some(sale) => self.explain_sale(&sale, answer, answers.parts, &self.rules_versions(programme)?.1),
            None => Ok(Explanation { code: answer.code as u8, answer, ..Explanation::default() }),
        }
    }

    fn explain_sale(
        &self,
        sale: &Transaction,
        answer: Answer,
        parts: Vec<Part>,
        versions: &[RulesVersion],
    ) -> Result<Explanation, Error> {
        let version = versions.iter().find(|version| version.version == sale.rule).copied();
        let told = match (sale.kind, version) {
            (Kind::Purchase | Kind::Authorise, Some(version)) => {
                self.judge(sale, version)?.map(|verdicts| (version, 0, verdicts))
            }
            (Kind::Capture, version) => {
                let version = version.unwrap_or_default();
                Some((version, self.authorisation_of(sale)?, self.judge_capture(sale, version)?))
            }
            _ => None,
        };
        let Some((version, priced_by, verdicts)) = told else { return Ok(Explanation::refused(Code::InvalidTransaction)) };
        Ok(Explanation { code: Code::Approved.number(), version, priced_by, answer, parts, verdicts })
    }

    /// What became of the rules in a sale that they priced; None: it has no card.
    fn judge(&self, sale: &Transaction, version: RulesVersion) -> Result<Option<Vec<(Verdict, String)>>, Error> {
        let Some((around, tables)) = self.looked_at(sale, version)? else { return Ok(None) };
        let Some(product) = tables.product(around.product) else { return Ok(None) };
        let lines: Vec<(u16, i64)> = lines_of(&sale.detail.items).collect();
        let heard: Vec<(u16, Heard)> = sale.detail.items.iter().filter_map(Item::heard).collect();
        let mut advised = Advised::default();
        advised.hear(heard.iter().copied());
        let told = Told {
            moment: moment_of(sale, around, &tables),
            lines: &lines,
            paid: paid_of(sale),
            rebated: rebated_of(sale),
            advised: &advised,
            foreign: foreign(sale, around),
        };
        let mut verdicts = tables.explain(product, &told);
        let earned = verdicts.iter().filter(|of| of.gift == Gift::Points && of.fate == Fate::Counts).map(|of| of.gives).sum();
        let of = |id| heard.iter().find(|heard| heard.0 == id).map(|heard| heard.1);
        verdicts.extend(tables.explain_advice(sale.amount, earned, of));
        Ok(Some(named(&tables, verdicts)))
    }

    /// What became of the fees in a capture. One that was refused costs none.
    fn judge_capture(&self, capture: &Transaction, version: RulesVersion) -> Result<Vec<(Verdict, String)>, Error> {
        if !capture.code.is_approved() {
            return Ok(Vec::new());
        }
        let Some((around, tables)) = self.looked_at(capture, version)? else { return Ok(Vec::new()) };
        let moment = moment_of(capture, around, &tables);
        let fees = foreign(capture, around).map(|foreign| tables.explain_fees(&moment, &foreign));
        Ok(named(&tables, fees.unwrap_or_default()))
    }

    /// What the machine knows of a sale beyond its entry, and the tables of a version; None: it has no card.
    fn looked_at(&self, sale: &Transaction, version: RulesVersion) -> Result<Option<(Surroundings, Arc<Tables>)>, Error> {
        let CardRef::Known { index, .. } = sale.card else { return Ok(None) };
        let programme = sale.key.programme;
        let Some(around) = self.call(|reply| Job::Surroundings(programme, index, sale.store, reply))? else { return Ok(None) };
        let tables = self.explained.of(programme, version.version, || {
            Tables::parse(&self.rules(programme, version.version)?.tables).map_err(Error::Rules)
        })?;
        Ok(Some((around, tables)))
    }

    /// The sequence of the authorisation that a capture is of. An approved one says it; of one that was refused it is the original, if that was
    /// found then, and is now: a key is forgotten after its days.
    fn authorisation_of(&self, capture: &Transaction) -> Result<u64, Error> {
        let captured = |change: &Change| if let Change::Captured { sequence, .. } = *change { Some(sequence) } else { None };
        match (capture.changes.iter().find_map(captured), capture.original) {
            (Some(sequence), _) => Ok(sequence),
            (None, Some(original)) if capture.code != Code::OriginalNotFound => {
                self.call(|reply| Job::Authorisation(capture.key.programme, original, reply))
            }
            _ => Ok(0),
        }
    }
}

/// Verdicts, each with the name of its rule.
fn named(tables: &Tables, verdicts: Vec<Verdict>) -> Vec<(Verdict, String)> {
    let name = |of: Verdict| (of, tables.name_of(of.gift, of.id).to_owned());
    verdicts.into_iter().map(name).collect()
}

impl Explanation {
    fn refused(code: Code) -> Explanation {
        Explanation { code: code.number(), ..Explanation::default() }
    }
}

/// What rules looked at in a sale.
fn moment_of(sale: &Transaction, around: Surroundings, tables: &Tables) -> Moment {
    let items = &sale.detail.items;
    Moment::new(around.product, sale.amount)
        .at(sale.store, around.merchant, sale.channel)
        .of(tables.region(sale.store, around.merchant), seen_of(items, Seen::Tier) as u8)
        .near(seen_of(items, Seen::Birthday) as u8)
        .on(sale.key.date, sale.time)
}

/// A purchase or a capture on a card of another merchant, as fees look at it. An authorisation costs none: its captures do.
fn foreign(sale: &Transaction, around: Surroundings) -> Option<Foreign> {
    let Surroundings { issuer, merchant, .. } = around;
    let sums = &sale.detail.sums;
    let (spend, points) = (sums.all(Account::StoreClearing) + sale.detail.cash, -sums.all(Account::IssuerPoints));
    let is_one = matches!(sale.kind, Kind::Purchase | Kind::Capture) && sale.detailed && issuer != merchant;
    is_one.then_some(Foreign { issuer, spend, points })
}

/// What earns a rebate: what the principal of the own card paid, and cash.
fn rebated_of(sale: &Transaction) -> i64 {
    let own = |of: &&Post| (of.from, of.to, of.card) == (Account::CardPrincipal, Account::StoreClearing, 0);
    if !sale.detailed {
        return sale.moves.sums()[Account::CardPrincipal].abs();
    }
    sale.detail.posts.iter().filter(own).map(|post| post.amount).sum::<i64>() + sale.detail.cash
}
