//! Reports as Python dicts, with the names of `docs/transactions.md`.

use onecard_core::commands::StaffSales;
use onecard_core::pipeline::Explanation;
use onecard_core::rules::{self, Fate};
use onecard_core::verify::Verdict;
use onecard_core::{CloseReport, Liabilities, PublishedRules, RulesVersion, StatementLine, Stats, StorePosition, TrialBalance};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};

use crate::answers::Answers;
use crate::python_rules::Counts;

use onecard_core::accounts::Account;
use onecard_core::units::Unit;

/// A day's close.
pub fn close<'py>(py: Python<'py>, mut report: CloseReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("issuer_net", report.issuer_net())?;
    dict.set_item("code", report.code.number())?;
    dict.set_item("replayed", report.replayed)?;
    dict.set_item("sequence", report.sequence)?;
    dict.set_item("business_date", report.date)?;
    dict.set_item("next_business_date", report.date + 1)?;
    dict.set_item("stores", Stores(std::mem::take(&mut report.stores)))?;
    dict.set_item("members", report.members)?;
    dict.set_item("bonus", report.bonus)?;
    dict.set_item("points", report.points)?;
    dict.set_item("units", report.units)?;
    let growth = match &report.growth {
        None => None,
        Some(growth) => {
            let dict = PyDict::new(py);
            dict.set_item("rate", growth.rate)?;
            dict.set_item("outstanding", growth.outstanding)?;
            dict.set_item("purses", growth.purses)?;
            dict.set_item("reserve", growth.reserve)?;
            dict.set_item("funded", growth.funded)?;
            Some(dict)
        }
    };
    dict.set_item("growth", growth)?;
    Ok(dict)
}

/// Positions of stores, thousands of them: a row is made when it is asked for.
#[pyclass(frozen, module = "onecard._core")]
pub struct Stores(pub Vec<StorePosition>);

#[pymethods]
impl Stores {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyTuple>> {
        let store = self.0.get(index).ok_or_else(|| PyIndexError::new_err("there is no such store"))?;
        let StorePosition { store: number, sold, collected, fees, due } = *store;
        let (sold, collected, fees) = (wide(py, sold)?, wide(py, collected)?, wide(py, fees)?);
        (number, sold, collected, wide(py, store.net())?, wide(py, due)?, fees).into_pyobject(py)
    }
}

/// A number of 128 bits, which Python makes of several parts if 64 do not hold it.
fn wide(py: Python<'_>, number: i128) -> PyResult<Bound<'_, PyInt>> {
    Ok(match i64::try_from(number) {
        Ok(number) => number.into_pyobject(py)?,
        Err(_) => number.into_pyobject(py)?,
    })
}

/// Points of the cards, by the merchant that issued them.
pub fn liabilities<'py>(py: Python<'py>, found: &Liabilities) -> PyResult<Bound<'py, PyDict>> {
    let mut merchants = Vec::with_capacity(found.merchants.len());
    for merchant in &found.merchants {
        let dict = PyDict::new(py);
        dict.set_item("merchant", merchant.merchant)?;
        dict.set_item("points", merchant.points)?;
        dict.set_item("growth", merchant.growth)?;
        merchants.push(dict);
    }
    let dict = PyDict::new(py);
    dict.set_item("code", found.code.number())?;
    dict.set_item("growth_date", found.growth_date)?;
    dict.set_item("merchants", merchants)?;
    Ok(dict)
}

/// A line of a statement.
pub fn line<'py>(py: Python<'py>, line: &StatementLine) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let answer = &line.answer;
    dict.set_item("sequence", answer.sequence)?;
    dict.set_item("kind", answer.kind)?;
    dict.set_item("code", answer.code)?;
    dict.set_item("business_date", answer.business_date)?;
    dict.set_item("value_date", line.value_date)?;
    dict.set_item("terminal", line.terminal)?;
    dict.set_item("store", line.store)?;
    dict.set_item("amount", answer.amount)?;
    dict.set_item("principal", answer.principal)?;
    dict.set_item("bonus", answer.bonus)?;
    dict.set_item("points", line.points)?;
    dict.set_item("growth", line.growth)?;
    dict.set_item("principal_balance", answer.principal_balance)?;
    dict.set_item("bonus_balance", answer.bonus_balance)?;
    dict.set_item("points_balance", answer.points_balance)?;
    Ok(dict)
}

/// All accounts of a programme.
pub fn trial_balance<'py>(py: Python<'py>, balance: &TrialBalance) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let totals = PyDict::new(py);
    let (mut money, mut points) = (0i128, 0i128);
    for (code, total) in &balance.totals {
        totals.set_item(code, total)?;
        match Account::from_code(*code).map(Account::unit) {
            Some(Unit::Money) => money += total,
            Some(Unit::Points) => points += total,
            // Units are summed one by one, below.
            Some(Unit::Counted) | None => {}
        }
    }
    dict.set_item("code", balance.code.number())?;
    dict.set_item("open_date", balance.open_date)?;
    dict.set_item("cards", balance.cards)?;
    dict.set_item("entries", balance.entries)?;
    dict.set_item("totals", totals)?;
    let units = PyDict::new(py);
    for (unit, [cards, pool, codes]) in &balance.units {
        units.set_item(unit, (cards, pool, codes))?;
    }
    dict.set_item("units", units)?;
    dict.set_item("money_sum", money)?;
    dict.set_item("points_sum", points)?;
    dict.set_item("growing", balance.growing)?;
    Ok(dict)
}

/// What a member of staff sold.
pub fn staff<'py>(py: Python<'py>, sales: &StaffSales) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("card", sales.card.to_string())?;
    dict.set_item("sales", sales.sales)?;
    dict.set_item("amount", sales.amount)?;
    Ok(dict)
}

/// A version of the rules.
pub fn rules_version<'py>(py: Python<'py>, version: &RulesVersion) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("version", version.version)?;
    dict.set_item("sequence", version.sequence)?;
    dict.set_item("business_date", version.date)?;
    Ok(dict)
}

/// The same with its text and tables.
pub fn rules<'py>(py: Python<'py>, rules: &PublishedRules) -> PyResult<Bound<'py, PyDict>> {
    let dict = rules_version(py, &rules.version)?;
    dict.set_item("code", rules.code.number())?;
    dict.set_item("text", &rules.text)?;
    dict.set_item("tables", &rules.tables)?;
    Ok(dict)
}

/// Why a sale came to what it did; its answer and the parts of it as they are in a batch.
pub fn explanation<'py>(py: Python<'py>, found: Explanation) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("code", found.code)?;
    dict.set_item("version", rules_version(py, &found.version)?)?;
    dict.set_item("priced_by", found.priced_by)?;
    let verdicts = found.verdicts.into_iter().map(|(verdict, name)| rule_verdict(py, verdict, &name));
    dict.set_item("verdicts", verdicts.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("answers", Answers::new(py, onecard_core::Answers { rows: vec![found.answer], parts: found.parts })?)?;
    Ok(dict)
}

fn rule_verdict<'py>(py: Python<'py>, verdict: rules::Verdict, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let (fate, missed) = match verdict.fate {
        Fate::Counts => (1, 0),
        Fate::GivesWay => (2, 0),
        Fate::Misses(condition) => (3, condition as u8),
        Fate::Refuses => (4, 0),
        Fate::Failed => (5, 0),
        Fate::TimedOut => (6, 0),
    };
    let dict = PyDict::new(py);
    dict.set_item("gift", verdict.gift as u8)?;
    dict.set_item("id", verdict.id)?;
    dict.set_item("name", name)?;
    dict.set_item("gives", verdict.gives)?;
    dict.set_item("fate", fate)?;
    dict.set_item("missed", missed)?;
    Ok(dict)
}

/// What became of asking the rules in Python.
pub fn python_rules<'py>(py: Python<'py>, counts: &Counts) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("groups", counts.groups)?;
    dict.set_item("sales", counts.sales)?;
    dict.set_item("failed", counts.failed)?;
    dict.set_item("timed_out", counts.timed_out)?;
    dict.set_item("restarts", counts.restarts)?;
    dict.set_item("error", &counts.error)?;
    dict.set_item("pid", counts.pid)?;
    Ok(dict)
}

/// How large everything is.
pub fn stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("entries", stats.entries)?;
    dict.set_item("checkpointed", stats.checkpointed)?;
    dict.set_item("passes", stats.passes)?;
    dict.set_item("cards", stats.cards)?;
    dict.set_item("card_bytes", stats.card_bytes)?;
    dict.set_item("keys", stats.keys)?;
    dict.set_item("keys_in_memory", stats.keys_in_memory)?;
    dict.set_item("key_bytes", stats.key_bytes)?;
    Ok(dict)
}

/// What the auditor found.
pub fn verdict<'py>(py: Python<'py>, verdict: &Verdict) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let sums = PyDict::new(py);
    for (programme, money, points) in &verdict.sums {
        let units = PyDict::new(py);
        units.set_item("money", money)?;
        units.set_item("points", points)?;
        sums.set_item(programme, units)?;
    }
    dict.set_item("entries", verdict.entries)?;
    dict.set_item("blocks", verdict.blocks)?;
    dict.set_item("bytes", verdict.bytes)?;
    dict.set_item("cards", verdict.cards)?;
    dict.set_item("head", hex(&verdict.head))?;
    dict.set_item("sums", sums)?;
    dict.set_item("state", hex(&verdict.state))?;
    dict.set_item("checkpoint_state", hex(&verdict.checkpoint_state))?;
    dict.set_item("problems", verdict.problems.clone())?;
    Ok(dict)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
