//! A loaded period of the journal, and what other rules would have made of it, as Python dicts (`docs/what-if.md`).

use std::path::PathBuf;

use onecard_core::rules::Gift;
use onecard_core::what_if::{
    Bounds, Change, Changed, CostRow, DayRow, Figure, FigureUnit, Outcome, Period as Loaded, Wanted, load,
};
use onecard_core::{Answers as Rows, Error};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::answers::Answers;
use crate::raise;

/// Address space only: larger than any journal.
const BYTES_MAX: usize = 1 << 42;

/// A period that rules can be tried on.
#[pyclass(frozen, module = "onecard._core")]
pub struct Period {
    period: Loaded,
}

impl Period {
    /// Loads one; an exception of `progress` ends it and is raised.
    pub fn load(
        py: Python<'_>,
        progress: Option<Py<PyAny>>,
        load: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> Result<Loaded, Error> + Send,
    ) -> PyResult<Period> {
        let mut stopped = None;
        let period = py.detach(|| {
            load(&mut |done, all| {
                stopped = Python::attach(|py| match &progress {
                    Some(progress) => progress.call1(py, (done, all)).err(),
                    // Whoever interrupts is heard without it, too.
                    None => py.check_signals().err(),
                });
                stopped.is_none()
            })
        });
        match stopped {
            Some(error) => Err(error),
            None => Ok(Period { period: period.map_err(raise)? }),
        }
    }
}

#[pymethods]
impl Period {
    #[getter]
    fn programme(&self) -> u16 {
        self.period.programme()
    }

    #[getter]
    fn dates(&self) -> (i32, i32) {
        self.period.dates()
    }

    #[getter]
    fn transactions(&self) -> u64 {
        self.period.transactions()
    }

    /// Outcome under rules that were compiled to tables; None: under those that were in force.
    #[pyo3(signature = (tables, changed_max, answers))]
    fn run<'py>(&self, py: Python<'py>, tables: Option<&str>, changed_max: usize, answers: bool) -> PyResult<Bound<'py, PyDict>> {
        let outcome = py.detach(|| {
            let tables = tables.map(|tables| self.period.tables(tables)).transpose()?;
            self.period.run(tables, Wanted { changed_max, answers })
        });
        dict(py, outcome.map_err(raise)?)
    }
}

/// Loads a period from the journal of a closed data directory.
#[pyfunction]
#[pyo3(signature = (path, programme, since=None, until=None, progress=None))]
pub fn load_period(
    py: Python<'_>,
    path: PathBuf,
    programme: u16,
    since: Option<i32>,
    until: Option<i32>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Period> {
    Period::load(py, progress, |told| load(&path, BYTES_MAX, Bounds { programme, since, until }, told))
}

fn dict<'py>(py: Python<'py>, outcome: Outcome) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("figures", rows(py, &outcome.figures, figure)?)?;
    dict.set_item("costs", rows(py, &outcome.costs, cost)?)?;
    let stores = outcome.stores.iter().map(|row| (row.store, row.before, row.actual, row.tried));
    dict.set_item("stores", stores.collect::<Vec<_>>())?;
    let merchants = outcome.merchants.iter().map(|row| (row.merchant, row.actual, row.tried));
    dict.set_item("merchants", merchants.collect::<Vec<_>>())?;
    let tiers = outcome.tiers.iter().map(|row| (row.tier, row.actual, row.tried));
    dict.set_item("tiers", tiers.collect::<Vec<_>>())?;
    dict.set_item("days", rows(py, &outcome.days, day)?)?;
    dict.set_item("accounts", &outcome.accounts)?;
    dict.set_item("changes", rows(py, &outcome.changes, change)?)?;
    dict.set_item("changed", rows(py, &outcome.changed, changed)?)?;
    dict.set_item("differing", outcome.differing)?;
    dict.set_item("differing_first", &outcome.differing_first)?;
    dict.set_item("transactions", outcome.transactions)?;
    dict.set_item("answers", Answers::new(py, Rows { rows: outcome.answers, parts: Vec::new() })?)?;
    Ok(dict)
}

type Row<'py> = PyResult<Bound<'py, PyTuple>>;

fn rows<'py, T>(py: Python<'py>, rows: &[T], row: fn(Python<'py>, &T) -> Row<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    rows.iter().map(|one| row(py, one)).collect()
}

fn figure<'py>(py: Python<'py>, of: &Figure) -> Row<'py> {
    let unit = match of.unit {
        FigureUnit::Money => "money",
        FigureUnit::Points => "points",
        FigureUnit::Count => "count",
    };
    (of.name, unit, of.actual, of.tried).into_pyobject(py)
}

fn cost<'py>(py: Python<'py>, of: &CostRow) -> Row<'py> {
    let kind = match of.gift {
        Gift::AdvisedDiscount => "python discount",
        Gift::AdvisedPoints => "python points",
        Gift::Points => "accrual",
        _ => "discount",
    };
    let ([actual_sales, sales], [actual, tried]) = (of.sales, of.gives);
    (kind, of.id, &of.name, actual_sales, sales, actual, tried).into_pyobject(py)
}

fn day<'py>(py: Python<'py>, of: &DayRow) -> Row<'py> {
    let pairs = [of.principal, of.bonus, of.points, of.issuer_net, of.sold, of.discounts, of.earned];
    let mut values = vec![of.date.into_pyobject(py)?.into_any()];
    for value in pairs.into_iter().flatten() {
        values.push(value.into_pyobject(py)?.into_any());
    }
    PyTuple::new(py, values)
}

fn change<'py>(py: Python<'py>, of: &Change) -> Row<'py> {
    (of.kind as u8, of.actual.number(), of.tried.number(), of.count, of.amount).into_pyobject(py)
}

fn changed<'py>(py: Python<'py>, of: &Changed) -> Row<'py> {
    let card = of.card.map_or_else(String::new, |card| card.to_string());
    (of.sequence, of.date, of.kind as u8, of.actual.number(), of.tried.number(), card, of.store, of.amount).into_pyobject(py)
}
