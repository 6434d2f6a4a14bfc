//! The engine's repeats without a batch: calls that the program makes itself. When one may go again is said here; what
//! waits until then, and how, is the program's business. For limits there is `limiter/`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{prelude::*, types::PyDict};
use unisono_core::{Backoff, RetryPolicy, clock};

use crate::options::Keywords;

/// What says when calls may be repeated. None of its methods waits.
#[pyclass(frozen, module = "unisono._native")]
pub struct Retries(Mutex<unisono_batch::Retries>);

/// One call of these, with all of its attempts.
#[pyclass(frozen, module = "unisono._native")]
pub struct RetryTicket(unisono_batch::Ticket);

#[pymethods]
impl Retries {
    #[new]
    #[pyo3(signature = (**keywords))]
    fn new(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let backoff = Backoff::default();
        let backoff = Backoff {
            base: keywords.span("base")?.flatten().unwrap_or(backoff.base),
            cap: keywords.span("cap")?.flatten().unwrap_or(backoff.cap),
        };
        let retry = RetryPolicy { repeats: keywords.whole("retries")?.unwrap_or(0), backoff, ..RetryPolicy::default() };
        let deadline = keywords.span("deadline")?.flatten();
        keywords.finish()?;
        Ok(Self(Mutex::new(unisono_batch::Retries::new(retry, deadline, fastrand::u64(..)))))
    }

    /// A call that shares the budget of this key. Its first attempt may start at once.
    fn begin(&self, key: &str) -> RetryTicket {
        RetryTicket(self.lock().begin(clock::now(), key))
    }

    /// An attempt starts, after its wait.
    fn start_attempt(&self) {
        self.lock().start_attempt(clock::now());
    }

    /// An attempt failed: returns in how many seconds the next one may start, or `None` when there is no other, and the
    /// call is over.
    fn repeat(&self, ticket: &RetryTicket) -> Option<f64> {
        let now = clock::now();
        self.lock().repeat(now, ticket.0).map(|at| at.saturating_duration_since(now).as_secs_f64())
    }

    /// The call is over, however it ended.
    fn end(&self, ticket: &RetryTicket) {
        self.lock().end(clock::now(), ticket.0);
    }
}

impl Retries {
    fn lock(&self) -> MutexGuard<'_, unisono_batch::Retries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
