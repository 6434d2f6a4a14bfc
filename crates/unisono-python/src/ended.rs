//! How an item ended: what the outcomes of all kinds of work have in common.

use std::time::Duration;

use pyo3::prelude::*;
use unisono_core::{Effect, OutcomeKind};
use unisono_runner::Outcome;

/// How one item ended.
#[pyclass(frozen, subclass, module = "unisono")]
pub struct Ended {
    kind: OutcomeKind,
    effect: Effect,
    row: u64,
    id: Box<str>,
    attempts: u16,
    elapsed: Duration,
    /// What the caller gave for it.
    #[pyo3(get)]
    item: Option<Py<PyAny>>,
}

impl Ended {
    pub fn of<D>(ended: &Outcome<D>, item: Option<Py<PyAny>>) -> Self {
        Self {
            kind: ended.kind,
            effect: ended.effect,
            row: ended.key.row,
            id: ended.id.clone(),
            attempts: ended.attempts,
            elapsed: ended.elapsed,
            item,
        }
    }
}

#[pymethods]
impl Ended {
    /// Whether it went well.
    #[getter]
    fn ok(&self) -> bool {
        self.kind == OutcomeKind::Ok
    }

    /// `ok`, `failed`, `timed_out`, `ambiguous`, `cancelled` or `skipped`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    /// Whether what was asked for has been carried out: `none`, `maybe` or `done`.
    #[getter]
    fn effect(&self) -> &'static str {
        self.effect.as_str()
    }

    /// Position in the input, from 0.
    #[getter]
    fn row(&self) -> u64 {
        self.row
    }

    /// Its name.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// How often it was tried.
    #[getter]
    fn attempts(&self) -> u16 {
        self.attempts
    }

    /// Seconds from its first start to its end.
    #[getter]
    fn elapsed(&self) -> f64 {
        self.elapsed.as_secs_f64()
    }
}
