//! Where Python looks at memory of ours, and we at Python's: the only unsafe code of this crate.
//!
//! Memory is seen by the buffer protocol (PEP 3118), for which pyo3 has no safe words; nor has it any for objects that
//! are let go of where the interpreter is not (`freeing.rs`).
#![allow(unsafe_code)]

mod freeing;
mod inside;
pub mod looking;

pub use freeing::{ProgramObject, stop_freeing};
pub use inside::addresses;

use std::{
    ffi::{c_int, c_void},
    os::fd::{FromRawFd, OwnedFd},
};

use pyo3::{buffer::PyBuffer, exceptions::PyBufferError, ffi, prelude::*};
use unisono_workers::blob::{PrivateView, View};

/// What a worker or pool has put into a slot; the slot is free again when the last view of it is gone.
#[pyclass(frozen, module = "unisono._native")]
pub struct SlotView(pub Seen);

/// How a slot is seen.
pub enum Seen {
    /// To be read; its pages are those of the slot.
    Shared(View),
    /// To be read and written: a private copy, which nothing else maps.
    Private(PrivateView),
}

#[pymethods]
impl SlotView {
    // SAFETY: called by the interpreter with a buffer to fill, as the protocol says.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no buffer to fill"));
        }
        let (start, length, is_read_only) = match &slf.get().0 {
            Seen::Shared(View { memory, length, .. }) => (memory.address(), *length, 1),
            Seen::Private(PrivateView { memory, .. }) => (memory.address(), memory.size(), 0),
        };
        // SAFETY: `view` is not null; the memory is mapped as long as the object lives, of which the filled buffer
        // holds a reference, and its owner leaves it alone until the view is dropped. Shared memory is given out as
        // read-only; a private copy belongs to the holder of the object, and Rust code never looks at it.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                start.cast::<c_void>(),
                length as ffi::Py_ssize_t,
                is_read_only,
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// The bytes of a contiguous buffer of Python's.
pub fn bytes_of(buffer: &PyBuffer<u8>) -> &[u8] {
    if buffer.len_bytes() == 0 {
        return &[];
    }
    assert!(buffer.is_c_contiguous(), "raw buffers are contiguous");
    // SAFETY: the buffer is held by `buffer`, contiguous, and so long. That nothing writes meanwhile is what the caller
    // of `submit` promises, as with every executor; were it broken, torn bytes would be copied, and nothing else.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }
}

/// A descriptor that Python code has given away by its number.
///
/// # Panics
/// When there is no such descriptor.
pub fn owned(number: i32) -> OwnedFd {
    assert!(number >= 0, "a descriptor is not negative");
    // SAFETY: the package's own code calls this with the result of `os.dup` or `socket.detach`, which it then forgets,
    // so nothing else closes it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
