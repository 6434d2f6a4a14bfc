//! `unisono.Limiter`: the engine's limits without a batch, for threads and coroutines together.
//!
//! The state is `unisono_batch::Limiter`, behind a mutex that is held for a few instructions and never while code of
//! Python's may run. All methods are native, those of `with` included: an exception that comes between two steps of a
//! program (Ctrl-C, one that is set from another thread) finds a place either taken and inside a `with` that gives it
//! back, or not taken, as with a lock of the standard library.
//!
//! Threads sleep in a futex (`core.rs`), coroutines in a future of their loop (`wait.rs`).
//!
//! After a fork nothing waits in the child, and only what the forking thread has entered is inside.

mod core;
pub mod wait;

use std::{num::NonZeroU32, sync::Arc};

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyDict, PyTuple},
};
use unisono_core::Limits;

pub use self::core::{LimiterCore, Notice, stop_clocks};
use self::{
    core::Shared,
    wait::{PlaceWait, WaitResult},
};
use crate::options::{Keywords, NewLimits};

/// A limiter, entered with a key.
#[pyclass(frozen, module = "unisono")]
pub struct KeyedLimiter {
    limiter: Py<LimiterCore>,
    key: String,
}

#[pymethods]
impl LimiterCore {
    #[new]
    #[pyo3(signature = (limit=None, *, rate=None, per_key=None, per_key_rate=None))]
    fn new(
        py: Python<'_>,
        limit: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        per_key: Option<&Bound<'_, PyAny>>,
        per_key_rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let given = PyDict::new(py);
        for (name, value) in [("limit", limit), ("rate", rate), ("per_key", per_key), ("per_key_rate", per_key_rate)] {
            given.set_item(name, value)?;
        }
        let keywords = Keywords::new(&given)?;
        let limit = keywords.whole::<NonZeroU32>("limit")?;
        let mut limits = Limits::new(Some(limit.unwrap_or(NonZeroU32::MAX)), keywords.whole("per_key")?);
        limits.rate = keywords.rate("rate")?;
        limits.per_key_rate = keywords.rate("per_key_rate")?;
        Ok(Self { shared: Arc::new(Shared::new(limits, limit)) })
    }

    /// What is entered by those that share a key.
    fn of(slf: Bound<'_, Self>, key: LimiterKey) -> KeyedLimiter {
        KeyedLimiter { key: key.0, limiter: slf.unbind() }
    }

    /// Waits until there is a place, and takes it.
    #[pyo3(signature = (key=LimiterKey::default()), text_signature = "($self, key='')")]
    fn acquire(&self, py: Python<'_>, key: LimiterKey) -> PyResult<()> {
        self.shared.acquire(py, &key.0)
    }

    /// As `acquire`, for coroutines.
    #[pyo3(signature = (key=LimiterKey::default()), text_signature = "($self, key='')")]
    fn aacquire(slf: Bound<'_, Self>, key: LimiterKey) -> PlaceWait {
        PlaceWait::new(slf.unbind(), key.0, WaitResult::Nothing)
    }

    /// Gives a place back.
    #[pyo3(signature = (key=LimiterKey::default()), text_signature = "($self, key='')")]
    fn release(&self, py: Python<'_>, key: LimiterKey) -> PyResult<()> {
        self.shared.release(py, &key.0)
    }

    /// How many are inside.
    #[getter]
    fn inside(&self, py: Python<'_>) -> u32 {
        self.shared.state(py).limiter.inside()
    }

    /// How many wait for a place.
    #[getter]
    fn waiting(&self, py: Python<'_>) -> usize {
        self.shared.state(py).limiter.waiting()
    }

    /// Most inside at once, which may be changed at any time; `None` for no bound.
    #[getter]
    fn limit(&self, py: Python<'_>) -> Option<NonZeroU32> {
        self.shared.state(py).limit
    }

    #[setter]
    fn set_limit(&self, py: Python<'_>, limit: &Bound<'_, PyAny>) -> PyResult<()> {
        // `None` is no number, and is refused as one.
        self.shared.set_limits(py, &NewLimits::new(Some(limit), ("per_key", None), None, ("per_key_rate", None))?)
    }

    /// Changes bounds; they hold from then on. A rate of `"none"` takes it away. What is inside stays.
    #[pyo3(signature = (*, limit=None, per_key=None, rate=None, per_key_rate=None))]
    fn set_limits(
        &self,
        py: Python<'_>,
        limit: Option<&Bound<'_, PyAny>>,
        per_key: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        per_key_rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let new = NewLimits::new(limit, ("per_key", per_key), rate, ("per_key_rate", per_key_rate))?;
        self.shared.set_limits(py, &new)
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().shared.acquire(slf.py(), "")?;
        Ok(slf)
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.shared.release(py, "")
    }

    fn __aenter__(slf: Bound<'_, Self>) -> PlaceWait {
        PlaceWait::new(slf.unbind(), String::new(), WaitResult::Limiter)
    }

    /// The place is given back at once, not when this is awaited.
    #[pyo3(signature = (*_raised))]
    fn __aexit__(slf: Bound<'_, Self>, _raised: &Bound<'_, PyTuple>) -> PyResult<PlaceWait> {
        slf.get().shared.release(slf.py(), "")?;
        Ok(PlaceWait::ended(slf.unbind()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().qualname()?;
        let state = slf.get().shared.state(slf.py());
        let (limits, limiter) = (state.limiter.limits(), &state.limiter);
        let mut text = format!("<{name}");
        if let Some(limit) = state.limit {
            text += &format!(" limit={limit}");
        }
        if limits.per_key != limits.limit {
            text += &format!(" per_key={}", limits.per_key);
        }
        for (name, rate) in [("rate", limits.rate), ("per_key_rate", limits.per_key_rate)] {
            if let Some(rate) = rate {
                text += &format!(" {name}={rate}");
            }
        }
        Ok(format!("{text} inside={} waiting={}>", limiter.inside(), limiter.waiting()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs between instructions of Python's, where no thread holds the lock.
        let Ok(state) = self.shared.state.try_lock() else { return Ok(()) };
        state.limiter.wakes().try_for_each(|waiter| waiter.traverse(&visit))
    }
}

#[pymethods]
impl KeyedLimiter {
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<LimiterCore>> {
        self.limiter.get().shared.acquire(py, &self.key)?;
        Ok(self.limiter.clone_ref(py))
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.limiter.get().shared.release(py, &self.key)
    }

    fn __aenter__(&self, py: Python<'_>) -> PlaceWait {
        PlaceWait::new(self.limiter.clone_ref(py), self.key.clone(), WaitResult::Limiter)
    }

    /// The place is given back at once, not when this is awaited.
    #[pyo3(signature = (*_raised))]
    fn __aexit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<PlaceWait> {
        self.limiter.get().shared.release(py, &self.key)?;
        Ok(PlaceWait::ended(self.limiter.clone_ref(py)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("{}.of({})", self.limiter.bind(py).repr()?, pyo3::types::PyString::new(py, &self.key).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.limiter)
    }
}

/// What shares bounds of its own: anything, known by its text.
#[derive(Default)]
struct LimiterKey(String);

impl<'py> FromPyObject<'_, 'py> for LimiterKey {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(object.str()?.to_string_lossy().into_owned()))
    }
}
