//! What a loop calls when it is pinged.

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
};

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use unisono_watch::watched_loop::WatchedLoop;

use super::output::{Record, Records};

/// A reader of a loop: waits at `fileno`, and answers the watchdog when it is called.
#[pyclass(frozen, module = "unisono._native")]
pub struct LoopPing {
    watched: Arc<WatchedLoop>,
    records: Records,
    /// Called with a list of what the watchdog has told since.
    log: Py<PyAny>,
}

impl LoopPing {
    /// Of a loop that is watched.
    pub fn new(watched: Arc<WatchedLoop>, records: Records, log: Py<PyAny>) -> Self {
        Self { watched, records, log }
    }

    /// The loop.
    pub fn watched(&self) -> &Arc<WatchedLoop> {
        &self.watched
    }
}

#[pymethods]
impl LoopPing {
    /// The descriptor to wait for.
    fn fileno(&self) -> i32 {
        self.watched.as_fd().as_raw_fd()
    }

    /// Answers, and logs what was told while the loop could not.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.watched.answer();
        let records: Vec<Record> = self.records.take();
        if !records.is_empty() {
            self.log.call1(py, (records,))?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.log)
    }
}
