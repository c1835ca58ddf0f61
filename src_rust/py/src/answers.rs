//! Answers as a buffer that numpy looks at where it lies.
//!
//! A group's answers are nearly a megabyte: copying them into a bytes object took 20 ns a swipe of the completing thread.

use std::ffi::c_int;

use onecard_core::{Answer, Answers as Rows, Part};
use pyo3::ffi;
use pyo3::prelude::*;
use zerocopy::{Immutable, IntoBytes};

/// Rows of ANSWER_SIZE bytes, read-only.
#[pyclass(frozen, module = "onecard._core")]
pub struct Answers {
    rows: Vec<Answer>,
    parts: Py<Parts>,
}

/// Parts of PART_SIZE bytes, read-only.
#[pyclass(frozen, module = "onecard._core")]
pub struct Parts(Vec<Part>);

impl Answers {
    /// Those that the engine gave.
    pub fn new(py: Python<'_>, answers: Rows) -> PyResult<Answers> {
        Ok(Answers { rows: answers.rows, parts: Py::new(py, Parts(answers.parts))? })
    }
}

#[pymethods]
impl Answers {
    /// Parts of all answers; an answer says which are its own.
    #[getter]
    fn parts(&self, py: Python<'_>) -> Py<Parts> {
        self.parts.clone_ref(py)
    }

    // A buffer is a pointer that Python asks for. It stays good: the rows are never changed (the class is frozen), and the view
    // holds a reference to this object until it is released.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        unsafe { fill(slf.as_ptr(), &slf.get().rows, view, flags, slf.py()) }
    }
}

#[pymethods]
impl Parts {
    // As of the answers.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        unsafe { fill(slf.as_ptr(), &slf.get().0, view, flags, slf.py()) }
    }
}

/// Fills in a view of rows that `owner` has and never changes.
#[allow(unsafe_code)]
unsafe fn fill<T: IntoBytes + Immutable>(
    owner: *mut ffi::PyObject,
    rows: &[T],
    view: *mut ffi::Py_buffer,
    flags: c_int,
    py: Python<'_>,
) -> PyResult<()> {
    let bytes = rows.as_bytes();
    let len = ffi::Py_ssize_t::try_from(bytes.len())?;
    let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner, bytes.as_ptr().cast_mut().cast(), len, 1, flags) };
    if filled == 0 { Ok(()) } else { Err(PyErr::fetch(py)) }
}
