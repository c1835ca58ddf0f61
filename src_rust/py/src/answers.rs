//! Answers as a buffer that numpy looks at where it lies.
//!
//! A group's answers are nearly a megabyte: copying them into a bytes object took 20 ns a swipe of the completing thread.

use std::ffi::c_int;

use onecard_core::Answer;
use pyo3::ffi;
use pyo3::prelude::*;
use zerocopy::IntoBytes;

/// Rows of ANSWER_SIZE bytes, read-only.
#[pyclass(frozen, module = "onecard._core")]
pub struct Answers(pub Vec<Answer>);

#[pymethods]
impl Answers {
    // A buffer is a pointer that Python asks for. It stays good: the rows are never changed (the class is frozen), and the view
    // holds a reference to this object until it is released.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().0.as_bytes();
        let len = ffi::Py_ssize_t::try_from(bytes.len())?;
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), bytes.as_ptr().cast_mut().cast(), len, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
