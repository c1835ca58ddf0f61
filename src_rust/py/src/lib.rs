//! The Python binding: rows as bytes, reports as dicts, and nothing that decides anything.
//!
//! Rows are copied before the GIL is released, and the GIL is released while the engine works. Futures are completed by a
//! thread of the binding's own, so that no thread of the engine ever waits for the GIL.

mod answers;
mod python_rules;
mod reports;
mod server;
mod what_if;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};
use onecard_core::pipeline::ROWS_MAX;
use onecard_core::what_if::Bounds;
use onecard_core::{
    Answer, Answers as Rows, Batch, CardNumber, Engine, Error, FeedRow, Item, Member, Options, Part, Registration, Request,
    Secrets,
};
use onecard_grpc::texts::{self, CouponCode, NoText};
use pyo3::buffer::PyBuffer;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use zerocopy::{FromBytes, IntoBytes};

use crate::answers::{Answers, Parts};
use crate::python_rules::Outside;
use crate::reports::Stores;
use crate::server::Server;
use crate::what_if::Period;

/// A call of the front allocates and frees some forty times: what the system's allocator takes for it is a tenth of the call.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

create_exception!(onecard._core, EngineError, PyException, "Something is broken: the message says what, and what to do.");
create_exception!(
    onecard._core,
    EnginePoisoned,
    EngineError,
    "A commit failed. What was not answered is unknown; reopen, and send it again with the same key."
);
create_exception!(
    onecard._core,
    EngineClosed,
    EngineError,
    "The engine was closed, or belongs to the process that this one was forked from."
);

/// The Python exception of an engine's error.
pub(crate) fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Poisoned(_) => EnginePoisoned::new_err(text),
        Error::Closed(_) => EngineClosed::new_err(text),
        Error::Rules(_) | Error::Misuse(_) => PyValueError::new_err(text),
        _ => EngineError::new_err(text),
    }
}

fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn new_id() -> [u8; 16] {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the system gives random bytes");
    id
}

/// A wait looks this often for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// Code, open date, and where each trigger is.
type Cursors = (u8, i32, BTreeMap<u16, (u64, u32)>);
type Done = (Py<PyAny>, Result<Rows, Error>);

/// One open data directory.
#[pyclass(frozen, module = "onecard._core")]
struct Core {
    engine: Engine,
    /// The way to the thread that completes futures; None once it was closed.
    completing: Mutex<Option<(Sender<Done>, JoinHandle<()>)>>,
    /// The worker of the rules in Python, if there is one.
    outside: Mutex<Option<Arc<python_rules::Shared>>>,
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (path, *, journal_bytes_max, checkpoint_bytes_max, checkpoint_entries, secrets))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        journal_bytes_max: usize,
        checkpoint_bytes_max: usize,
        checkpoint_entries: u64,
        secrets: Vec<(u32, Vec<u8>)>,
    ) -> PyResult<Core> {
        let secrets = secrets_of(secrets)?;
        let options = Options { journal_bytes_max, checkpoint_bytes_max, checkpoint_entries, clock, new_id, secrets };
        let engine = py.detach(|| Engine::open(&path, options)).map_err(raise)?;
        let (done, finished) = unbounded::<Done>();
        let thread = std::thread::Builder::new().name("onecard-python".into()).spawn(move || {
            // Attached once, for good: the interpreter would map and unmap memory for each time, and stop the other processor for that.
            let _ = Python::try_attach(|py| {
                while let Ok((call, result)) = py.detach(|| finished.recv()) {
                    complete(py, call, result);
                }
            });
        })?;
        Ok(Core { engine, completing: Mutex::new(Some((done, thread))), outside: Mutex::default() })
    }

    fn execute(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, items: &Bound<'_, PyAny>) -> PyResult<Answers> {
        let batch = Batch { rows: read_rows(rows)?, items: read_rows(items)? };
        let answers = py.detach(|| {
            let (give, take) = unbounded();
            for part in batch.split(ROWS_MAX) {
                let give = give.clone();
                self.engine.submit(part, move |result| drop(give.send(result)));
            }
            drop(give);
            // Groups are answered in the order in which they were submitted.
            let mut answers = Rows::default();
            for result in take {
                answers.append(result?);
            }
            Ok(answers)
        });
        Answers::new(py, answers.map_err(raise)?)
    }

    fn submit(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, items: &Bound<'_, PyAny>, done: Py<PyAny>) -> PyResult<()> {
        let batch = Batch { rows: read_rows(rows)?, items: read_rows(items)? };
        let finished = self.completing.lock().ok().and_then(|open| open.as_ref().map(|(done, _)| done.clone()));
        let finished = finished.ok_or_else(|| EngineClosed::new_err("the engine is closed"))?;
        py.detach(|| self.engine.submit(batch, move |result| drop(finished.send((done, result)))));
        Ok(())
    }

    /// Upper and lower half of what an alias is known by.
    fn alias(&self, programme: u16, kind: u8, value: &str) -> PyResult<(u64, u64)> {
        let wrong =
            "an alias has a kind of 1 to 255 and 1 to 256 bytes; of kind 1, a phone number, digits and perhaps a leading +";
        let value = texts::alias_value(kind, value).filter(|_| kind != 0).ok_or_else(|| PyValueError::new_err(wrong))?;
        let hash = self.engine.secrets().alias(programme.max(1), kind, &value).ok_or_else(no_secrets)?;
        Ok(((hash >> 64) as u64, hash as u64))
    }

    /// The MAC of a coupon's code.
    fn code(&self, programme: u16, unit: u16, serial: u64) -> PyResult<u64> {
        self.engine.secrets().code(programme.max(1), unit, serial).ok_or_else(no_secrets)
    }

    /// Texts of coupon codes.
    fn codes(&self, py: Python<'_>, programme: u16, unit: u16, first: u64, count: u32) -> PyResult<Vec<String>> {
        let found = py.detach(|| texts::codes(self.engine.secrets(), programme.max(1), unit, first, count));
        found.map_err(|why| match why {
            NoText::NoKeys => no_secrets(),
            NoText::Beyond => PyValueError::new_err("no serial is that large: pass the first one that came out"),
        })
    }

    /// Enrols a member, given as JSON with the fields of `onecard.members.Member`; the code.
    fn enrol(&self, py: Python<'_>, programme: u16, member: &str) -> PyResult<u8> {
        let member = member_of(member)?;
        Ok(py.detach(|| self.engine.enrol(programme, &member)).map_err(raise)?.number())
    }

    /// Replaces what is known of a member; the code.
    fn update_member(&self, py: Python<'_>, programme: u16, member: &str) -> PyResult<u8> {
        let member = member_of(member)?;
        Ok(py.detach(|| self.engine.update_member(programme, &member)).map_err(raise)?.number())
    }

    /// Erases all that is known of a member; the code.
    fn erase_member(&self, py: Python<'_>, programme: u16, id: u64) -> PyResult<u8> {
        Ok(py.detach(|| self.engine.erase_member(programme, id)).map_err(raise)?.number())
    }

    /// A member as JSON, None if there is none; and the numbers of the cards that it holds.
    fn member(&self, py: Python<'_>, programme: u16, id: u64) -> PyResult<(Option<String>, Vec<String>)> {
        let (member, cards) = py.detach(|| self.engine.member(programme, id)).map_err(raise)?;
        Ok((member.as_ref().map(json_of), cards.iter().map(CardNumber::to_string).collect()))
    }

    /// Members as JSON, by id.
    fn list_members(&self, py: Python<'_>, programme: u16, after: u64, limit: usize, tag: &str) -> PyResult<Vec<String>> {
        let members = py.detach(|| self.engine.list_members(programme, after, limit, tag)).map_err(raise)?;
        Ok(members.iter().map(json_of).collect())
    }

    fn staff<'py>(&self, py: Python<'py>, programme: u16) -> PyResult<(u8, Vec<Bound<'py, PyDict>>)> {
        let (code, staff) = py.detach(|| self.engine.staff(programme)).map_err(raise)?;
        let staff = staff.iter().map(|sales| reports::staff(py, sales)).collect::<PyResult<_>>()?;
        Ok((code.number(), staff))
    }

    fn register(&self, py: Python<'_>, registrations: Vec<(String, u16, i64, i64, String)>) -> PyResult<Vec<u16>> {
        let registrations = registrations.into_iter().map(registration).collect::<PyResult<Vec<_>>>()?;
        let codes = py.detach(|| self.engine.register(registrations)).map_err(raise)?;
        Ok(codes.into_iter().map(|code| code.number().into()).collect())
    }

    fn publish(&self, py: Python<'_>, programme: u16, version: u32, text: String, tables: String) -> PyResult<u8> {
        Ok(py.detach(|| self.engine.publish(programme, version, text, tables)).map_err(raise)?.number())
    }

    fn close_day<'py>(&self, py: Python<'py>, programme: u16, date: i32) -> PyResult<Bound<'py, PyDict>> {
        reports::close(py, py.detach(|| self.engine.close_day(programme, date)).map_err(raise)?)
    }

    fn statement<'py>(
        &self,
        py: Python<'py>,
        programme: u16,
        card: &str,
        limit: usize,
        before: u64,
    ) -> PyResult<(u8, Vec<Bound<'py, PyDict>>)> {
        let number = CardNumber::parse(card).ok_or_else(|| PyValueError::new_err("a card number has 8 to 19 digits"))?;
        let (code, lines) = py.detach(|| self.engine.statement(programme, number, limit, before)).map_err(raise)?;
        let lines = lines.iter().map(|line| reports::line(py, line)).collect::<PyResult<_>>()?;
        Ok((code.number(), lines))
    }

    fn trial_balance<'py>(&self, py: Python<'py>, programme: u16) -> PyResult<Bound<'py, PyDict>> {
        reports::trial_balance(py, &py.detach(|| self.engine.trial_balance(programme)).map_err(raise)?)
    }

    fn positions(&self, py: Python<'_>, programme: u16) -> PyResult<(u8, Stores)> {
        let (code, stores) = py.detach(|| self.engine.positions(programme)).map_err(raise)?;
        Ok((code.number(), Stores(stores)))
    }

    fn liabilities<'py>(&self, py: Python<'py>, programme: u16) -> PyResult<Bound<'py, PyDict>> {
        reports::liabilities(py, &py.detach(|| self.engine.liabilities(programme)).map_err(raise)?)
    }

    fn rules_versions<'py>(&self, py: Python<'py>, programme: u16) -> PyResult<(u8, Vec<Bound<'py, PyDict>>)> {
        let (code, versions) = py.detach(|| self.engine.rules_versions(programme)).map_err(raise)?;
        let versions = versions.iter().map(|version| reports::rules_version(py, version)).collect::<PyResult<_>>()?;
        Ok((code.number(), versions))
    }

    fn rules<'py>(&self, py: Python<'py>, programme: u16, version: u32) -> PyResult<Bound<'py, PyDict>> {
        reports::rules(py, &py.detach(|| self.engine.rules(programme, version)).map_err(raise)?)
    }

    /// Code, rows and the sequence to go on from.
    fn feed<'py>(&self, py: Python<'py>, programme: u16, since: u64, limit: usize) -> PyResult<(u8, Bound<'py, PyBytes>, u64)> {
        let feed = py.detach(|| self.engine.feed(programme, since, limit)).map_err(raise)?;
        Ok((feed.code.number(), PyBytes::new(py, feed.rows.as_bytes()), feed.next))
    }

    /// Code, open date, and sequence and card index of each trigger.
    fn cursors(&self, py: Python<'_>, programme: u16) -> PyResult<Cursors> {
        let found = py.detach(|| self.engine.cursors(programme)).map_err(raise)?;
        let cursors = found.cursors.into_iter().map(|(trigger, at)| (trigger, (at.sequence, at.card))).collect();
        Ok((found.code.number(), found.open_date, cursors))
    }

    /// True once the entry with this sequence is durable. Signals are heeded meanwhile.
    fn wait_for(&self, py: Python<'_>, sequence: u64, timeout_s: f64) -> PyResult<bool> {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map_or(SIGNALS, |deadline| deadline.saturating_duration_since(Instant::now()));
            let is_there = py.detach(|| self.engine.wait_for(sequence, left.min(SIGNALS))).map_err(raise)?;
            py.check_signals()?;
            if is_there || left.is_zero() {
                return Ok(is_there);
            }
        }
    }

    fn explain<'py>(&self, py: Python<'py>, programme: u16, sequence: u64) -> PyResult<Bound<'py, PyDict>> {
        reports::explanation(py, py.detach(|| self.engine.explain(programme, sequence)).map_err(raise)?)
    }

    fn explain_dry_run<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        items: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let batch = Batch { rows: read_rows(rows)?, items: read_rows(items)? };
        reports::explanation(py, py.detach(|| self.engine.explain_dry_run(batch)).map_err(raise)?)
    }

    #[pyo3(signature = (programme, since=None, until=None, progress=None))]
    fn period(
        &self,
        py: Python<'_>,
        programme: u16,
        since: Option<i32>,
        until: Option<i32>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Period> {
        Period::load(py, progress, |told| self.engine.period(Bounds { programme, since, until }, told))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        reports::stats(py, &py.detach(|| self.engine.stats()).map_err(raise)?)
    }

    fn state_digest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &py.detach(|| self.engine.state_digest()).map_err(raise)?))
    }

    /// Starts a worker by a command and lets it evaluate the rules in Python that `setup` names.
    fn ask_python(&self, py: Python<'_>, command: Vec<String>, setup: Vec<u8>) -> PyResult<()> {
        let (outside, shared) = py.detach(|| Outside::start(command, setup)).map_err(PyValueError::new_err)?;
        py.detach(|| self.engine.set_adviser(Some(Box::new(outside)))).map_err(raise)?;
        *self.outside.lock().unwrap_or_else(|broken| broken.into_inner()) = Some(shared);
        Ok(())
    }

    /// What became of asking it; None if nobody is asked.
    fn python_rules<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let shared = self.outside.lock().unwrap_or_else(|broken| broken.into_inner()).clone();
        shared.map(|shared| reports::python_rules(py, &py.detach(|| shared.counts()))).transpose()
    }

    fn poisoned(&self) -> Option<String> {
        self.engine.poisoned()
    }

    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.engine.checkpoint()).map_err(raise)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            self.engine.close()?;
            // All futures are completed when it returns: a thread that attached later could meet the interpreter's end.
            let completing = self.completing.lock().ok().and_then(|mut open| open.take());
            if let Some((done, thread)) = completing {
                drop(done);
                if thread.thread().id() != std::thread::current().id() {
                    let _ = thread.join();
                }
            }
            Ok(())
        })
        .map_err(raise)
    }

    fn serve(&self, py: Python<'_>, address: &str) -> PyResult<Server> {
        self.engine.check_open().map_err(raise)?;
        py.detach(|| Server::start(self.engine.clone(), address)).map_err(EngineError::new_err)
    }
}

fn complete(py: Python<'_>, call: Py<PyAny>, result: Result<Rows, Error>) {
    let outcome = match result {
        Ok(answers) => Answers::new(py, answers).and_then(|answers| call.call1(py, (answers, py.None()))),
        Err(error) => call.call1(py, (py.None(), raise(error))),
    };
    if let Err(error) = outcome {
        error.write_unraisable(py, None);
    }
}

fn member_of(json: &str) -> PyResult<Member> {
    // What is in it is personal: the error does not repeat it.
    serde_json::from_str(json).map_err(|error| PyValueError::new_err(format!("member: column {} cannot be read", error.column())))
}

fn json_of(member: &Member) -> String {
    serde_json::to_string(member).expect("it serialises to memory")
}

fn no_secrets() -> PyErr {
    PyValueError::new_err(
        "PINs, aliases and codes need keys: open the engine with secrets=Secrets.load(FILE) (onecard secrets new FILE makes one)",
    )
}

fn secrets_of(keys: Vec<(u32, Vec<u8>)>) -> PyResult<Secrets> {
    let of = |(number, key): (u32, Vec<u8>)| {
        let key = key.try_into().map_err(|_| PyValueError::new_err(format!("secrets: key {number} has not 32 bytes")))?;
        Ok((number, key))
    };
    Ok(Secrets::new(keys.into_iter().map(of).collect::<PyResult<Vec<_>>>()?))
}

/// Copies rows, or items, out of any contiguous buffer of bytes.
fn read_rows<T: FromBytes + IntoBytes + Default + Clone>(rows: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let buffer = PyBuffer::<u8>::get(rows)?;
    let bytes = buffer.len_bytes();
    if bytes % size_of::<T>() != 0 {
        return Err(PyValueError::new_err(format!("{bytes} bytes are no whole number of rows of {} bytes", size_of::<T>())));
    }
    let mut copied = vec![T::default(); bytes / size_of::<T>()];
    buffer.copy_to_slice(rows.py(), copied.as_mut_bytes())?;
    Ok(copied)
}

fn registration((what, programme, number, parent, name): (String, u16, i64, i64, String)) -> PyResult<Registration> {
    let number_of = |value: i64, what: &str| {
        u32::try_from(value).map_err(|_| PyValueError::new_err(format!("{what} {value} is not a number from 1 to 4294967295")))
    };
    Ok(match what.as_str() {
        "programme" => {
            let date = i32::try_from(parent).map_err(|_| PyValueError::new_err("the first business date is out of range"))?;
            Registration::Programme { programme, name, date }
        }
        "merchant" => Registration::Merchant { programme, merchant: number_of(number, "merchant")?, name },
        "store" => {
            Registration::Store { programme, store: number_of(number, "store")?, merchant: number_of(parent, "merchant")?, name }
        }
        "terminal" => {
            Registration::Terminal { programme, terminal: number_of(number, "terminal")?, store: number_of(parent, "store")? }
        }
        other => return Err(PyValueError::new_err(format!("`{other}` is no programme, merchant, store or terminal"))),
    })
}

/// Walks the journal of a closed data directory.
#[pyfunction]
#[pyo3(signature = (path, progress=None))]
fn verify<'py>(py: Python<'py>, path: PathBuf, progress: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyDict>> {
    // Address space only: larger than any journal.
    const BYTES_MAX: usize = 1 << 42;
    let mut stopped = None;
    let verdict = py.detach(|| {
        onecard_core::verify(&path, BYTES_MAX, |done, all| {
            if let Some(progress) = &progress {
                stopped = Python::attach(|py| progress.call1(py, (done, all)).err());
            }
            stopped.is_none()
        })
    });
    match stopped {
        Some(error) => Err(error),
        None => reports::verdict(py, &verdict.map_err(raise)?),
    }
}

/// Unit, serial and MAC of a coupon code's text.
#[pyfunction]
fn parse_code(text: &str) -> PyResult<(u16, u64, u64)> {
    let wrong = || PyValueError::new_err("a coupon code has 26 letters and digits, and begins with 1");
    let CouponCode { unit, serial, mac } = CouponCode::parse(text).ok_or_else(wrong)?;
    Ok((unit, serial, mac))
}

/// The text of a coupon code.
#[pyfunction]
fn code_text(unit: u16, serial: u64, mac: u64) -> PyResult<String> {
    let beyond = || PyValueError::new_err("no serial is that large");
    CouponCode { unit, serial, mac }.text().ok_or_else(beyond)
}

/// The compiled core of onecard.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add("REQUEST_SIZE", size_of::<Request>())?;
    module.add("ANSWER_SIZE", size_of::<Answer>())?;
    module.add("ITEM_SIZE", size_of::<Item>())?;
    module.add("PART_SIZE", size_of::<Part>())?;
    module.add("FEED_SIZE", size_of::<FeedRow>())?;
    module.add("EngineError", module.py().get_type::<EngineError>())?;
    module.add("EnginePoisoned", module.py().get_type::<EnginePoisoned>())?;
    module.add("EngineClosed", module.py().get_type::<EngineClosed>())?;
    module.add_class::<Answers>()?;
    module.add_class::<Parts>()?;
    module.add_class::<Core>()?;
    module.add_class::<Period>()?;
    module.add_class::<Server>()?;
    module.add_class::<Stores>()?;
    module.add_function(wrap_pyfunction!(parse_code, module)?)?;
    module.add_function(wrap_pyfunction!(code_text, module)?)?;
    module.add_function(wrap_pyfunction!(what_if::load_period, module)?)?;
    module.add_function(wrap_pyfunction!(verify, module)?)
}
