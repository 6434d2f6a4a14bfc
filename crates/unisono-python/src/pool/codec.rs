//! Arguments and results as bytes: a short form for plain values, pickle (protocol 5) for everything else.
//!
//! Numbers, text, bytes, booleans and `None` take a tenth of the time that pickling takes. Buffers of 64 KiB and more
//! are left out of the pickle (PEP 574) and follow it, each at a multiple of 64 bytes, which is what numpy asks for. On
//! the other side they are used where they lie: as private copies to be written to, or, on request, as they are.

use std::{io, sync::Mutex};

use pyo3::{
    buffer::PyBuffer,
    exceptions::{PyException, PyMemoryError, PyValueError},
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple},
};
use unisono_workers::blob::{Arena, Blob, LONGEST_INLINE_BYTES, Received, View};

use crate::ffi::{Seen, SlotView, bytes_of};

/// Bytes to be sent: a head, then buffers.
pub struct Encoded {
    head: Vec<u8>,
    pickle: Option<Py<PyBytes>>,
    buffers: Vec<PyBuffer<u8>>,
}

impl Encoded {
    /// Calls `then` with the whole length and all parts in order.
    pub fn with_parts<T>(&self, py: Python<'_>, then: impl FnOnce(usize, &[&[u8]]) -> T) -> T {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 + 2 * self.buffers.len());
        let mut length = 0;
        parts.push(&self.head);
        length += self.head.len();
        if let Some(pickle) = &self.pickle {
            parts.push(pickle.as_bytes(py));
            length += pickle.as_bytes(py).len();
        }
        for buffer in &self.buffers {
            let gap = length.next_multiple_of(ALIGNMENT) - length;
            parts.push(&ZEROS[..gap]);
            parts.push(bytes_of(buffer));
            length += gap + buffer.len_bytes();
        }
        then(length, &parts)
    }

    /// Whether it is the pickle of a name: of module and qualified name, which are looked up, and no more.
    pub fn is_by_name(&self, py: Python<'_>) -> bool {
        // Its value is what the last step makes. A method of an object, say, is made by a call of `getattr`.
        self.pickle.as_ref().is_some_and(|pickle| pickle.as_bytes(py).ends_with(&[STACK_GLOBAL, MEMOIZE, STOP]))
    }

    /// For a task: long ones go into a slot of the pool's.
    pub fn into_blob(self, py: Python<'_>, arena: &Arena) -> PyResult<Blob> {
        if self.pickle.is_none() && self.head.len() <= LONGEST_INLINE_BYTES {
            return Ok(Blob::Inline(self.head));
        }
        self.with_parts(py, |length, parts| {
            if length <= LONGEST_INLINE_BYTES {
                return Ok(Blob::Inline(parts.concat()));
            }
            let lease = arena.lease(length)?;
            let mut at = 0;
            for part in parts {
                lease.memory().write(at, part);
                at += part.len();
            }
            Ok(Blob::Slot(lease))
        })
    }
}

/// The arguments of a call.
pub fn encode_call(
    py: Python<'_>,
    arguments: &Bound<'_, PyTuple>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Encoded> {
    let keywords = keywords.filter(|keywords| !keywords.is_empty());
    if keywords.is_none() && arguments.len() < 256 {
        let mut head = vec![PLAIN, arguments.len() as u8];
        if arguments.iter_borrowed().all(|value| write_plain(&mut head, &value)) {
            return Ok(Encoded { head, pickle: None, buffers: Vec::new() });
        }
    }
    pickled(py, PyTuple::new(py, [arguments.as_any(), &keywords.into_pyobject(py)?])?.as_any())
}

/// What a call returned.
pub fn encode_value(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Encoded> {
    let mut head = vec![PLAIN, 1];
    if write_plain(&mut head, value) {
        return Ok(Encoded { head, pickle: None, buffers: Vec::new() });
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(Encoded { head: vec![BYTES], pickle: Some(bytes.clone().unbind()), buffers: Vec::new() });
    }
    pickled(py, value)
}

/// What [`encode_call`] wrote.
pub fn decode_call<'py>(
    py: Python<'py>,
    received: Received,
    buffers: Buffers,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    if let Received::Inline(bytes) = &received
        && let [PLAIN, count, rest @ ..] = bytes.as_slice()
    {
        return Ok((read_plain(py, usize::from(*count), rest)?, None));
    }
    let call = decode_value(py, received, buffers)?.cast_into::<PyTuple>()?;
    let keywords = call.get_item(1)?;
    let keywords = if keywords.is_none() { None } else { Some(keywords.cast_into()?) };
    Ok((call.get_item(0)?.cast_into()?, keywords))
}

/// What the buffers are to be that have followed a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffers {
    /// Copies, to be written to as far as what was sent was.
    Private,
    /// Read-only, and never copied.
    ReadOnly,
}

impl Buffers {
    pub fn read_only(is_read_only: bool) -> Self {
        if is_read_only { Self::ReadOnly } else { Self::Private }
    }
}

/// What [`encode_value`] wrote.
pub fn decode_value<'py>(py: Python<'py>, received: Received, buffers: Buffers) -> PyResult<Bound<'py, PyAny>> {
    let bytes = match received {
        Received::Inline(bytes) => bytes,
        Received::Slot(view) => {
            // What is copied out of the slot anyhow needs no mapping of its own.
            let seen = if buffers == Buffers::Private && has_buffers(&view) {
                Seen::Private(view.into_private().map_err(no_memory)?)
            } else {
                Seen::Shared(view)
            };
            let view = Bound::new(py, SlotView(seen))?;
            return decode_memory(py, PyMemoryView::from(view.as_any())?.as_any());
        }
    };
    match bytes.split_first() {
        Some((&PLAIN, rest)) => read_plain(py, 1, rest.get(1..).ok_or_else(torn)?)?.get_item(0),
        Some((&BYTES, rest)) => Ok(PyBytes::new(py, rest).into_any()),
        Some((&PICKLE, rest)) if rest.starts_with(&[0; 8]) => {
            loads(py)?.call1((PyBytes::new(py, rest.get(16..).ok_or_else(torn)?),))
        }
        Some(_) => decode_memory(py, PyMemoryView::from(PyBytes::new(py, &bytes).as_any())?.as_any()),
        None => Err(torn()),
    }
}

/// The definition of a function: a pickle of its own.
pub fn pickled<'py>(py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Encoded> {
    let collector = Bound::new(py, BufferCollector::default())?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffer_callback"), &collector)?;
    let pickle = match dumps(py)?.call((value, 5), Some(&options)) {
        Err(error) if error.is_instance_of::<PyException>(py) => {
            collector.get().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
            static RESCUE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            RESCUE.import(py, "unisono._pools.pickling", "rescue")?.call1((value, &collector, error))?
        }
        pickle => pickle?,
    };
    let pickle = pickle.cast_into::<PyBytes>()?;
    let buffers = std::mem::take(&mut *collector.get().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let mut head = vec![PICKLE];
    head.extend_from_slice(&(buffers.len() as u64).to_le_bytes());
    head.extend_from_slice(&(pickle.as_bytes().len() as u64).to_le_bytes());
    for buffer in &buffers {
        head.extend_from_slice(&(buffer.len_bytes() as u64).to_le_bytes());
    }
    Ok(Encoded { head, pickle: Some(pickle.unbind()), buffers })
}

/// Whether buffers follow the pickle in a slot, if it is one.
fn has_buffers(view: &View) -> bool {
    let mut head = Vec::new();
    if view.length > 17 {
        view.memory.read(0, 9, &mut head);
    }
    matches!(head.as_slice(), [PICKLE, count @ ..] if count != [0; 8])
}

/// As Python says it, which catches `MemoryError` where there is none.
pub fn no_memory(error: io::Error) -> PyErr {
    if error.kind() == io::ErrorKind::OutOfMemory {
        return PyMemoryError::new_err("there is no room for what has come from another process");
    }
    error.into()
}

fn decode_memory<'py>(py: Python<'py>, memory: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let slice =
        |start: usize, end: usize| memory.get_item(pyo3::types::PySlice::new(py, start as isize, end as isize, 1));
    let length = memory.len()?;
    if memory.get_item(0)?.extract::<u8>()? == BYTES {
        return slice(1, length)?.call_method0(intern!(py, "tobytes"));
    }
    let number = |at: usize| -> PyResult<usize> {
        let bytes: Vec<u8> = slice(at, at + 8)?.call_method0(intern!(py, "tobytes"))?.extract()?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().map_err(|_| torn())?)).map_err(|_| torn())
    };
    // A worker may have written anything there.
    let within = |end: Option<usize>| end.filter(|end| *end <= length).ok_or_else(torn);
    let (count, pickle) = (number(1)?, number(9)?);
    let start = within(count.checked_mul(8).and_then(|lengths| lengths.checked_add(17)))?;
    let mut end = within(start.checked_add(pickle))?;
    let buffers = PyList::empty(py);
    for at in 0..count {
        let first = within(end.checked_next_multiple_of(ALIGNMENT))?;
        end = within(first.checked_add(number(17 + 8 * at)?))?;
        buffers.append(slice(first, end)?)?;
    }
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffers"), buffers)?;
    loads(py)?.call((slice(start, start + pickle)?,), Some(&options))
}

fn write_plain(head: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> bool {
    if value.is_none() {
        head.push(b'n');
    } else if let Ok(value) = value.cast_exact::<PyInt>() {
        let Ok(value) = value.extract::<i64>() else { return false };
        head.push(b'i');
        head.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = value.cast_exact::<PyString>() {
        // A lone surrogate has no UTF-8; pickle knows what to do.
        let Ok(value) = value.to_str() else { return false };
        return write_bytes(head, b's', value.as_bytes());
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        head.push(if value.is_true() { b't' } else { b'f' });
    } else if let Ok(value) = value.cast_exact::<PyFloat>() {
        head.push(b'd');
        head.extend_from_slice(&value.value().to_le_bytes());
    } else if let Ok(value) = value.cast_exact::<PyBytes>() {
        return write_bytes(head, b'b', value.as_bytes());
    } else {
        return false;
    }
    true
}

fn write_bytes(head: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> bool {
    if head.len() + bytes.len() > LONGEST_PLAIN {
        return false;
    }
    head.push(kind);
    head.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    head.extend_from_slice(bytes);
    true
}

fn read_plain<'py>(py: Python<'py>, count: usize, mut rest: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let (kind, after) = rest.split_first().ok_or_else(torn)?;
        rest = after;
        let mut take = |length: usize| -> PyResult<&[u8]> {
            let (bytes, after) = rest.split_at_checked(length).ok_or_else(torn)?;
            rest = after;
            Ok(bytes)
        };
        let mut sized = || -> PyResult<&[u8]> {
            let length = u32::from_le_bytes(take(4)?.try_into().map_err(|_| torn())?);
            take(length as usize)
        };
        values.push(match kind {
            b'n' => py.None().into_bound(py),
            b't' | b'f' => PyBool::new(py, *kind == b't').to_owned().into_any(),
            b's' => PyString::new(py, std::str::from_utf8(sized()?).map_err(|_| torn())?).into_any(),
            b'b' => PyBytes::new(py, sized()?).into_any(),
            b'i' => i64::from_le_bytes(take(8)?.try_into().map_err(|_| torn())?).into_pyobject(py)?.into_any(),
            b'd' => PyFloat::new(py, f64::from_le_bytes(take(8)?.try_into().map_err(|_| torn())?)).into_any(),
            _ => return Err(torn()),
        });
    }
    PyTuple::new(py, values)
}

/// Takes the buffers that stay out of a pickle.
#[pyclass(frozen)]
#[derive(Default)]
struct BufferCollector(Mutex<Vec<PyBuffer<u8>>>);

#[pymethods]
impl BufferCollector {
    /// True keeps the buffer within the pickle.
    fn __call__(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let raw = PyBuffer::<u8>::get(&buffer.call_method0(intern!(py, "raw"))?)?;
        if raw.len_bytes() < OUT_OF_BAND {
            return Ok(true);
        }
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(raw);
        Ok(false)
    }
}

/// `pickle.dumps`, and what stands in for it where that does not do (`unisono._pools.pickling`).
fn dumps(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DUMPS.import(py, "unisono._pools.pickling", "dumps")
}

fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "_pickle", "loads")
}

fn torn() -> PyErr {
    PyValueError::new_err("bytes that are no message of unisono")
}

/// Opcodes of pickle (protocol 4 and later).
const STACK_GLOBAL: u8 = 0x93;
const MEMOIZE: u8 = 0x94;
const STOP: u8 = b'.';
const PICKLE: u8 = 0;
const BYTES: u8 = 1;
const PLAIN: u8 = 2;
/// Buffers from this size on stay out of the pickle, in bytes.
const OUT_OF_BAND: usize = 64 << 10;
/// Longer text and bytes are pickled, or take the way of buffers.
const LONGEST_PLAIN: usize = 16 << 10;
const ALIGNMENT: usize = 64;
static ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
