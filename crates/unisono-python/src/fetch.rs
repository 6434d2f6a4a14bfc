//! Bulk HTTP: requests in, answers out.

use pyo3::{prelude::*, types::PyDict};
use unisono_runner::{Defaults, Error, FetchCall, FetchPlan, Fetched, Outcome as Ended, Row};

use crate::{
    errors,
    options::Keywords,
    outcome::Outcome,
    request::row,
    run::{EngineEnds, Face, Run},
};

/// Requests: addresses, `Request`s or mappings.
struct FetchFace {
    defaults: Defaults,
}

impl Face for FetchFace {
    type Asked = FetchCall;
    type Done = Fetched;

    fn row(&self, item: &Bound<'_, PyAny>, line: u64) -> PyResult<Row<FetchCall>> {
        row(item, &self.defaults, line)
    }

    fn outcome<'py>(
        &self,
        py: Python<'py>,
        ended: Ended<Fetched>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Outcome::object(py, ended, item).map(Bound::into_any)
    }

    /// Further pages of a row have the same item.
    fn may_have_more(&self, ended: &Ended<Fetched>) -> bool {
        ended.key.page > 0
    }
}

/// Starts to fetch.
#[pyfunction(signature = (*, keep_outcomes, **keywords))]
pub fn fetch(py: Python<'_>, keep_outcomes: bool, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Run> {
    let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
    let (settings, http, defaults) = (keywords.settings()?, keywords.http()?, keywords.defaults()?);
    let (answers, results) = (keywords.answers()?, keywords.results()?);
    keywords.finish()?;
    // A mistake in an expression is the caller's, and known before anything is sent.
    answers.filters().map_err(|why| errors::usage(py, why))?;
    Run::start(py, FetchFace { defaults }, &settings, keep_outcomes, async move |ends| {
        let EngineEnds { intake, outlet, cancel, monitor, gauge } = ends;
        let (select, paginate) = answers.filters().map_err(Error::usage)?;
        let idempotency_keys = answers.idempotency_keys;
        let frame = results.frame(Box::new(intake), settings, answers.style, outlet, |open| {
            open.keep_run = idempotency_keys;
        });
        let plan = FetchPlan { frame, http: http.options(), select, paginate, idempotency_keys };
        unisono_runner::fetch(plan, cancel, monitor, gauge).await
    })
}
