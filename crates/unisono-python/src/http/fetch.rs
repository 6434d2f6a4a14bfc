//! Bulk HTTP: requests in, answers out.

use std::sync::Arc;

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyDict},
};
use unisono_http::{OnlyHere, encode_options};
use unisono_runner::{Defaults, FetchCall, FetchPlan, Fetched, RemoteSender, Row, RowOutcome as Ended, Settings};

use crate::{
    errors,
    http::expressions::evaluator,
    http::remote_requests::RemoteRequests,
    http::request::{GivenRequest, ONCE_IS_FOR_CALLS, row},
    options::{Answers, HttpKeywords, Keywords, ResultsOptions},
    outcomes::FetchOutcome,
    run::{EngineEnds, Face, Run},
};

/// Requests: addresses, `Request`s or mappings.
struct FetchFace {
    defaults: Defaults,
    /// What the engine calls for tokens; here it is seen by the garbage collector.
    token: Option<Arc<Py<PyAny>>>,
}

impl Face for FetchFace {
    type Asked = FetchCall;
    type Done = Fetched;

    fn row(&self, item: &Bound<'_, PyAny>, line: u64) -> PyResult<Row<FetchCall>> {
        let mut row = row(item, &self.defaults, line)?;
        if item.cast::<GivenRequest>().is_ok_and(|request| !request.get().fed().is_empty()) {
            row.call = Err(ONCE_IS_FOR_CALLS.to_owned());
        }
        Ok(row)
    }

    fn outcome<'py>(
        &self,
        py: Python<'py>,
        ended: Ended<Fetched>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        FetchOutcome::object(py, ended, item).map(Bound::into_any)
    }

    /// Further pages of a row have the same item.
    fn may_have_more(&self, ended: &Ended<Fetched>) -> bool {
        ended.key.page > 0
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.token.as_deref())
    }
}

/// Refuses keywords that are not what they should be, before anything is started.
#[pyfunction(signature = (**keywords))]
pub fn check_fetch(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    Parsed::of(py, keywords).map(drop)
}

/// Starts to fetch.
#[pyfunction(signature = (*, keep_outcomes, **keywords))]
pub fn fetch(py: Python<'_>, keep_outcomes: bool, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Run> {
    start(py, keep_outcomes, keywords, None)
}

/// Starts to fetch; returns the run, and where its requests are to be taken from to be sent.
#[pyfunction(signature = (*, keep_outcomes, **keywords))]
pub fn fetch_remote(
    py: Python<'_>,
    keep_outcomes: bool,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Run, RemoteRequests)> {
    let (remote, requests) = RemoteRequests::new()?;
    Ok((start(py, keep_outcomes, keywords, Some(remote))?, requests))
}

/// The keywords about connections, as bytes for what sends requests; the others are not looked at.
#[pyfunction(signature = (**keywords))]
pub fn remote_options<'py>(py: Python<'py>, keywords: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyBytes>> {
    let options = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?.http()?.options();
    if let Some(only) = options.only_here() {
        let keyword = match only {
            OnlyHere::UnixSocket => "unix_socket",
            OnlyHere::Cookies => "cookies",
            OnlyHere::Tokens => "token",
            OnlyHere::Identity => "cert",
            OnlyHere::Resolver => "resolver",
        };
        return Err(errors::usage(py, format!("{keyword}: not together with on=, since {}", only.why())));
    }
    let bytes = encode_options(&options).map_err(|error| errors::usage(py, error.chain()))?;
    Ok(PyBytes::new(py, &bytes))
}

fn start(
    py: Python<'_>,
    keep_outcomes: bool,
    keywords: Option<&Bound<'_, PyDict>>,
    remote: Option<RemoteSender>,
) -> PyResult<Run> {
    let Parsed { settings, http, defaults, answers, mut results } = Parsed::of(py, keywords)?;
    let evaluator = evaluator(py)?;
    let face = FetchFace { defaults, token: http.token() };
    Run::start(py, face, &settings, keep_outcomes, async move |ends| {
        let EngineEnds { intake, outlet, cancel, monitor, gauge, log } = ends;
        let Answers { select, paginate, idempotency_keys, style } = answers;
        let saving = results.take_saving();
        let frame = results.frame(Box::new(intake), settings, style, outlet, &log, |_| {});
        let http = http.options();
        let plan = FetchPlan { frame, http, remote, select, paginate, evaluator, idempotency_keys, saving };
        unisono_runner::fetch(plan, cancel, monitor, gauge).await
    })
}

/// What the keywords say.
struct Parsed {
    settings: Settings,
    http: HttpKeywords,
    defaults: Defaults,
    answers: Answers,
    results: ResultsOptions,
}

impl Parsed {
    fn of(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let (settings, http) = (keywords.settings()?, keywords.http()?);
        let defaults = keywords.defaults(&http)?;
        let (answers, results) = (keywords.answers()?, keywords.results(defaults.save.is_some())?);
        if let Some(other) = answers.unsaved().filter(|_| defaults.save.is_some()) {
            return Err(keywords.mistake(format!("save: not together with {other}=, which needs the body here")));
        }
        keywords.finish()?;
        Ok(Self { settings, http, defaults, answers, results })
    }
}
