//! Functions of the program: items in, what the function answered or raised out. They are called by the program itself,
//! on whatever it runs them; the engine decides when. So the engine's thread has no need of the interpreter here
//! either.

pub mod retries;

use std::{
    collections::HashSet,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyDict, PyString},
};
use unisono_core::{ErrorKind, Limits, RetryPolicy, Times};
use unisono_runner::{
    Assignments, CallEnd, CallResult, FunctionCall, FunctionPlan, Identity, Invocation, Outstanding, Returned, Row,
    RowOrigin, RowOutcome, Settings, WorkNotifier, function_calls, function_settings, functions as run_functions,
};

use crate::{
    errors,
    ffi::ProgramObject,
    forks::HomeProcess,
    notifier::{EndingNotifier, Notifier},
    options::{Keywords, ResultsOptions},
    outcomes::FunctionOutcome,
    run::{EngineEnds, Face, Run},
};

/// Refuses keywords that are not what they should be, before anything is started.
#[pyfunction(signature = (**keywords))]
pub fn check_functions(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    Parsed::of(py, keywords).map(drop)
}

/// Starts to call a function for each item; returns the run, and where its calls are to be taken from.
#[pyfunction(signature = (*, keep_outcomes, place, describe, retry_timeouts, **keywords))]
pub fn functions(
    py: Python<'_>,
    keep_outcomes: bool,
    place: &str,
    describe: Option<Py<PyAny>>,
    retry_timeouts: bool,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Run, CallQueue)> {
    let Parsed { settings, results, key, id, repeatable } = Parsed::of(py, keywords)?;
    let (patience, why_unstoppable) = match place {
        "loop" => (Duration::from_secs(1), "it swallowed its cancellation"),
        "processes" => (Duration::from_secs(5), "its process could not be killed"),
        "threads" => (Duration::from_millis(50), "a thread cannot be stopped"),
        // Across a network, what has not begun is taken back.
        "dask" => (Duration::from_secs(1), "a task of Dask cannot be stopped once it has begun"),
        "ray" => (Duration::from_secs(5), "its worker could not be ended"),
        _ => (Duration::from_millis(50), "its executor cannot stop what it has begun"),
    };
    let notifier = EndingNotifier::new()?;
    let weak = notifier.weak();
    let notify: WorkNotifier = Arc::new(move || weak.notify());
    let (calls, queue) = function_calls::<ProgramObject>(notify);
    let drains = Arc::new(AtomicBool::new(false));
    let (says, tell) = (drains.clone(), notifier.weak());
    let drained = Box::new(move || {
        // Before the notifier, so that its reader finds it set.
        says.store(true, Ordering::Release);
        tell.notify();
    });
    let face = FunctionFace { key, id, describe, repeatable };
    let run = Run::start(py, face, &settings, keep_outcomes, async move |ends| {
        let EngineEnds { intake, outlet, cancel, monitor, gauge, log } = ends;
        let frame = results.frame(Box::new(intake), settings, (), outlet, &log, |open| {
            (open.identity, open.version) = (Identity::Content, IDENTITY_VERSION);
        });
        let plan = FunctionPlan { frame, calls, drained, patience, why_unstoppable, retry_timeouts };
        run_functions(plan, cancel, monitor, gauge).await
    })?;
    Ok((run, CallQueue { calls: Outstanding::new(queue), notifier, drains, home: HomeProcess::new() }))
}

/// What the keywords say.
struct Parsed {
    settings: Settings,
    results: ResultsOptions,
    key: Option<Py<PyAny>>,
    id: Option<Py<PyAny>>,
    repeatable: bool,
}

impl Parsed {
    fn of(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let (key, id): (Option<Py<PyAny>>, Option<Py<PyAny>>) = (keywords.get("key")?, keywords.get("id")?);
        let (settings, results) = (keywords.function_settings(key.is_some())?, keywords.results(false)?);
        let repeatable = keywords.flag("idempotent")?;
        keywords.finish()?;
        Ok(Self { settings, results, key, id, repeatable })
    }
}

struct FunctionFace {
    key: Option<Py<PyAny>>,
    id: Option<Py<PyAny>>,
    /// Returns an item as JSON, and a number that tells it apart: where results are written.
    describe: Option<Py<PyAny>>,
    repeatable: bool,
}

impl FunctionFace {
    fn call(&self, item: &Bound<'_, PyAny>) -> PyResult<(Option<Box<str>>, FunctionCall<ProgramObject>)> {
        let text = |callable: &Option<Py<PyAny>>| -> PyResult<Option<Box<str>>> {
            let Some(callable) = callable else { return Ok(None) };
            let value = callable.bind(item.py()).call1((item,))?;
            Ok(Some(value.str()?.to_str()?.into()))
        };
        let (id, key) = (text(&self.id)?, text(&self.key)?.unwrap_or_default());
        let label = item.cast_exact::<PyString>().ok().and_then(|text| text.to_str().ok());
        let label = label.filter(|text| text.len() <= LONGEST_LABEL_BYTES).map(Into::into);
        let (json, fingerprint) = match &self.describe {
            None => (None, 0),
            Some(describe) => {
                let (json, fingerprint): (Bound<'_, PyBytes>, u64) =
                    describe.bind(item.py()).call1((item,))?.extract()?;
                (Some(json.as_bytes().into()), fingerprint)
            }
        };
        let call =
            FunctionCall { key, label, fingerprint, item: json, repeatable: self.repeatable, returns: PhantomData };
        Ok((id, call))
    }
}

impl Face for FunctionFace {
    type Asked = FunctionCall<ProgramObject>;
    type Done = Returned<ProgramObject>;

    fn row(&self, item: &Bound<'_, PyAny>, line: u64) -> PyResult<Row<FunctionCall<ProgramObject>>> {
        let py = item.py();
        let (id, call) = match errors::blame(py, self.call(item))? {
            Ok((id, call)) => (id, Ok(call)),
            Err(error) => (None, Err(error.to_string())),
        };
        Ok(Row { id, origin: RowOrigin::of_item(line), call })
    }

    fn outcome<'py>(
        &self,
        py: Python<'py>,
        ended: RowOutcome<Returned<ProgramObject>>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        FunctionOutcome::object(py, ended, item).map(Bound::into_any)
    }

    fn may_have_more(&self, _ended: &RowOutcome<Returned<ProgramObject>>) -> bool {
        false
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.key)?;
        visit.call(&self.id)?;
        visit.call(&self.describe)
    }

    fn held(ended: &RowOutcome<Returned<ProgramObject>>) -> Option<&Py<PyAny>> {
        ended.done.value.as_deref()
    }
}

/// Where calls are taken from, and their ends are given back. Its methods never wait, except `wait`.
#[pyclass(frozen, module = "unisono._native")]
pub struct CallQueue {
    calls: Outstanding<Invocation, CallResult<ProgramObject>>,
    notifier: EndingNotifier,
    /// Nothing new is to begin.
    drains: Arc<AtomicBool>,
    /// Threads do not survive a fork.
    home: HomeProcess,
}

/// How a call ended: its number, how, whether another attempt is worth it, what went wrong, what it answered or raised,
/// and its answer as JSON.
type GivenEnd<'py> = (usize, u8, bool, String, Option<Py<PyAny>>, Option<Bound<'py, PyBytes>>);

/// Calls to begin, the numbers of those to stop, and whether the run is over.
type TakenCalls = (Vec<(usize, u64)>, Vec<usize>, bool);

#[pymethods]
impl CallQueue {
    /// What is notified when there is something to look at; `None` when that it is over was taken.
    fn notifier(&self) -> Option<Notifier> {
        self.notifier.notifier()
    }

    /// Waits until there is something to look at, or so many seconds.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.home.check()?;
        self.notifier.wait(py, seconds)
    }

    /// Calls to begin (each a number, and the item's number from 0), the numbers of those to stop, and whether the run
    /// is over.
    fn take(&self) -> PyResult<TakenCalls> {
        self.home.check()?;
        self.notifier.clear();
        let Assignments { begun, stopped, is_open } = self.calls.take(|call| call.line.index().unwrap_or(0));
        if !is_open {
            self.notifier.let_go();
        }
        Ok((begun, stopped, !is_open))
    }

    /// Whether nothing new is to begin: what was taken and has not begun is to be given back as stopped.
    #[getter]
    fn drains(&self) -> bool {
        self.drains.load(Ordering::Acquire)
    }

    /// Gives calls back that have ended.
    fn give_back(&self, ends: Vec<GivenEnd<'_>>) -> PyResult<()> {
        self.home.check()?;
        self.calls.give_back(ends.into_iter().map(|(number, how, retry, message, value, json)| {
            let how = match how {
                Self::RETURNED => CallEnd::Returned,
                Self::STOPPED => CallEnd::Stopped,
                Self::SWALLOWED => CallEnd::Swallowed,
                Self::LOST => CallEnd::Lost,
                Self::DIED => CallEnd::Failed(ErrorKind::Died),
                Self::AWAY => CallEnd::Away,
                Self::UNSAVED => CallEnd::Failed(ErrorKind::Save),
                _ => CallEnd::Failed(ErrorKind::Raised),
            };
            let json = json.map(|json| json.as_bytes().into());
            let value = value.map(ProgramObject::new);
            (number, CallResult { how, retry, message, value, json })
        }));
        Ok(())
    }

    /// Takes no more calls, since what makes them has gone, or the run is over. Those that were taken, but for these
    /// numbers, have been stopped; what comes does not begin. `why` is for their outcomes.
    ///
    /// Returns the items' numbers of the first attempts that were never taken: the engine may have decided them without
    /// their end.
    #[pyo3(signature = (why, but=Vec::new()))]
    fn leave(&self, why: String, but: Vec<usize>) -> PyResult<Vec<u64>> {
        self.home.check()?;
        let ended = |how, message| CallResult { how, retry: false, message, value: None, json: None };
        let refused = why.clone();
        let but = HashSet::from_iter(but);
        let refusal = move || ended(CallEnd::Unbegun, refused.clone());
        let untaken = self.calls.refuse(&but, refusal, || ended(CallEnd::Stopped, why.clone()));
        let firsts = untaken.into_iter().filter(|invocation| invocation.attempt == 1);
        Ok(firsts.filter_map(|invocation| invocation.line.index()).collect())
    }

    #[classattr]
    const RETURNED: u8 = 0;
    #[classattr]
    const RAISED: u8 = 1;
    #[classattr]
    const STOPPED: u8 = 2;
    #[classattr]
    const SWALLOWED: u8 = 3;
    #[classattr]
    const DIED: u8 = 4;
    #[classattr]
    const UNSAVED: u8 = 5;
    #[classattr]
    const LOST: u8 = 6;
    #[classattr]
    const AWAY: u8 = 7;
}

/// Keywords that functions have.
impl Keywords<'_> {
    fn function_settings(&self, has_keys: bool) -> PyResult<Settings> {
        let defaults = function_settings();
        let per_key = self.whole("per_key")?;
        let per_key_rate = self.rate("per_key_rate")?;
        if !has_keys && (per_key.is_some() || per_key_rate.is_some()) {
            return Err(self.mistake("per_key and per_key_rate need key="));
        }
        let (retry, ordered_by_key) = self.keyed(defaults.retry, has_keys, "key=")?;
        let limit = self.whole("limit")?.unwrap_or(defaults.limits.limit);
        let mut limits = Limits::new(Some(limit), per_key);
        limits.rate = self.rate("rate")?;
        limits.per_key_rate = per_key_rate;
        let timeout = self.span("timeout")?.unwrap_or(defaults.times.timeout);
        let times = Times { timeout, ..self.times(defaults.times)? };
        let repeats = self.whole("retries")?.unwrap_or(defaults.retry.repeats);
        Ok(Settings { limits, times, retry: RetryPolicy { repeats, ..retry }, ordered_by_key })
    }
}

/// How items are told apart: see `python/unisono/_functions/identity.py`. The first version was their JSON or their
/// pickle.
const IDENTITY_VERSION: u8 = 2;

/// Longer texts are data and no names.
const LONGEST_LABEL_BYTES: usize = 100;
