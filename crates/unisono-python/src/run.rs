//! One run of `fetch`: rows in, outcomes out, a report at the end. The engine has a thread and a runtime of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};
use unisono_core::{CancelReason, CancelToken, OutcomeKind};
use unisono_runner::{
    Defaults, Error, FetchCall, FetchPlan, Fetched, Frame, Gauge, Inlet, Monitor, Report, Taken, Taker, fetch, inlet,
    outlet,
};

use crate::{
    bell::Bell,
    errors,
    options::{Keywords, set_limits},
    outcome::Outcome,
    request::row,
};

/// A run that Python feeds and takes outcomes from. Its methods never wait, except `wait`.
#[pyclass(frozen, module = "unisono._native")]
pub struct Run {
    inlet: Inlet<FetchCall>,
    taker: Mutex<Option<Taker<Fetched>>>,
    defaults: Defaults,
    bell: Bell,
    cancel: CancelToken,
    monitor: Monitor,
    gauge: Gauge,
    report: Arc<Mutex<Option<Result<Report, Error>>>>,
    /// Threads do not survive a fork.
    pid: u32,
}

#[pymethods]
impl Run {
    #[new]
    #[pyo3(signature = (*, keep_outcomes, **keywords))]
    fn new(py: Python<'_>, keep_outcomes: bool, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let (settings, http, defaults, results) =
            (keywords.settings()?, keywords.http()?, keywords.defaults()?, keywords.results()?);
        keywords.finish()?;
        // A mistake in an expression is the caller's, and known before anything is sent.
        results.filters().map_err(|why| errors::usage(py, why))?;
        let bell = Bell::new()?;
        let ring = bell.clone();
        let ring: unisono_runner::Bell = Arc::new(move || ring.ring());
        let room =
            usize::try_from(settings.limits.limit.get()).unwrap_or(usize::MAX).saturating_mul(2).clamp(256, 4096);
        let (inlet, intake) = inlet(room, ring.clone());
        let (outlet, taker) = outlet(room, ring);
        let (cancel, monitor, gauge) = (CancelToken::new(), Monitor::new(), Gauge::default());
        let report = Arc::new(Mutex::new(None));
        let engine =
            Engine { cancel: cancel.clone(), monitor: monitor.clone(), gauge: gauge.clone(), report: report.clone() };
        let run = move || {
            engine.run(move || {
                let (select, paginate) = results.filters().map_err(Error::usage)?;
                Ok(FetchPlan {
                    frame: Frame {
                        rows: Box::new(intake),
                        settings,
                        output: results.output(),
                        outlet: keep_outcomes.then_some(outlet),
                        style: results.style,
                        keep_order: results.keep_order,
                        max_failures: results.max_failures,
                        on_retry: None,
                    },
                    http: http.options(),
                    select,
                    paginate,
                    idempotency_keys: results.idempotency_keys,
                })
            });
        };
        let end = bell.clone();
        thread::Builder::new()
            .name("unisono-run".into())
            .spawn(move || {
                run();
                end.ring();
            })
            .map_err(|error| errors::run_failed(py, &Error::fault("no thread for the run").because(error)))?;
        let taker = Mutex::new(Some(taker));
        Ok(Self { inlet, taker, defaults, bell, cancel, monitor, gauge, report, pid: std::process::id() })
    }

    /// The descriptor that becomes readable when there is something to look at.
    fn fileno(&self) -> i32 {
        self.bell.fileno()
    }

    /// How many more requests there is room for.
    fn room(&self) -> PyResult<usize> {
        self.check_process()?;
        Ok(self.inlet.room())
    }

    /// Adds requests: addresses, `Request`s or mappings; the first of them is the input's number `first`, from 0.
    fn push(&self, first: u64, requests: &Bound<'_, PyList>) -> PyResult<()> {
        self.check_process()?;
        let rows: Vec<_> =
            requests.iter().zip(first..).map(|(item, position)| row(&item, &self.defaults, position)).collect();
        self.inlet.put(rows.into_iter());
        Ok(())
    }

    /// There are no more requests; `failed` says why, when there should have been.
    #[pyo3(signature = (failed=None))]
    fn end_input(&self, failed: Option<String>) {
        self.inlet.end(failed);
    }

    /// Outcomes that are there, with their items taken from `items` by position; `None` when there will be no more.
    fn take(&self, items: &Bound<'_, PyDict>) -> PyResult<Option<Vec<Outcome>>> {
        self.check_process()?;
        self.bell.hush();
        let taken =
            self.taker.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(Taken::Ended, Taker::take);
        let Taken::Outcomes(outcomes) = taken else { return Ok(None) };
        let with_item = |ended: unisono_runner::Outcome<Fetched>| {
            let position = ended.position;
            let item = items.get_item(position)?;
            // Further pages of a row have the same item.
            if item.is_some() && ended.key.page == 0 {
                items.del_item(position)?;
            }
            Ok(Outcome::new(ended, item.map(Bound::unbind)))
        };
        outcomes.into_iter().map(with_item).collect::<PyResult<Vec<_>>>().map(Some)
    }

    /// The bell has been heard: whatever comes after it rings again.
    fn hush(&self) {
        self.bell.hush();
    }

    /// Waits until there is something to look at, or so many seconds.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.check_process()?;
        self.bell.wait(py, seconds)
    }

    /// Starts nothing new; with `abort`, stops what runs as well.
    #[pyo3(signature = (*, abort=false))]
    fn cancel(&self, abort: bool) {
        if abort { self.cancel.abort(CancelReason::Requested) } else { self.cancel.drain(CancelReason::Requested) }
    }

    /// Nobody will take outcomes any more.
    fn abandon(&self) {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.cancel.abort(CancelReason::Requested);
    }

    /// Changes limits; they hold from then on.
    #[pyo3(signature = (*, limit=None, per_host=None, rate=None, per_host_rate=None))]
    fn set_limits(
        &self,
        py: Python<'_>,
        limit: Option<u32>,
        per_host: Option<u32>,
        rate: Option<String>,
        per_host_rate: Option<String>,
    ) -> PyResult<()> {
        set_limits(py, &self.monitor, limit, per_host, rate, per_host_rate)
    }

    /// Most requests in flight.
    #[getter]
    fn limit(&self) -> u32 {
        self.monitor.limits().unwrap_or_default().limit.get()
    }

    /// The numbers so far.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let numbers = self.monitor.numbers();
        let dict = PyDict::new(py);
        dict.set_item("done", self.gauge.done())?;
        dict.set_item("total", self.gauge.total())?;
        for kind in OutcomeKind::ALL {
            dict.set_item(kind.as_str(), self.gauge.count(kind))?;
        }
        dict.set_item("kept", self.gauge.kept())?;
        dict.set_item("in_flight", numbers.in_flight)?;
        dict.set_item("retries", numbers.retries)?;
        dict.set_item("bytes", self.gauge.bytes())?;
        dict.set_item("waiting_for", numbers.paused.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>())?;
        Ok(dict)
    }

    /// Says how many requests there will be.
    fn set_total(&self, total: u64) {
        self.gauge.set_total(total);
    }

    /// The report's numbers, once the run has ended; `None` before. Raises when the run could not begin.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.check_process()?;
        match &*self.report.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(None),
            Some(Ok(report)) => as_dict(py, report).map(Some),
            Some(Err(error)) => Err(errors::run_failed(py, error)),
        }
    }
}

impl Run {
    fn check_process(&self) -> PyResult<()> {
        if std::process::id() == self.pid { Ok(()) } else { Err(errors::forked(self.pid)) }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The engine's thread ends by itself; it never needs the interpreter.
        if std::process::id() == self.pid {
            self.cancel.abort(CancelReason::Requested);
        }
    }
}

/// What the engine's thread needs.
struct Engine {
    cancel: CancelToken,
    monitor: Monitor,
    gauge: Gauge,
    report: Arc<Mutex<Option<Result<Report, Error>>>>,
}

impl Engine {
    fn run(self, plan: impl FnOnce() -> Result<FetchPlan, Error>) {
        let Self { cancel, monitor, gauge, report } = self;
        let work = || -> Result<Report, Error> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Error::fault("the reactor cannot be started").because(error))?;
            let result = runtime.block_on(async { fetch(plan()?, cancel, monitor, gauge).await });
            runtime.shutdown_background();
            result
        };
        // Whoever waits for the report must get one, whatever happens.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let result = result.unwrap_or_else(|_| Err(Error::fault("a fault of unisono: its engine panicked")));
        *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }
}

fn as_dict<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let (counts, kept) = (PyDict::new(py), PyDict::new(py));
    for kind in OutcomeKind::ALL {
        counts.set_item(kind.as_str(), report.count(kind))?;
        kept.set_item(kind.as_str(), report.kept.get(kind))?;
    }
    dict.set_item("counts", counts)?;
    dict.set_item("kept", kept)?;
    dict.set_item("pending", report.pending)?;
    dict.set_item("retries", report.retries)?;
    dict.set_item("bytes", report.bytes)?;
    dict.set_item("seconds", report.wall.as_secs_f64())?;
    let percentile = |percent| report.latency.percentile(percent).map(|latency| latency.as_secs_f64());
    dict.set_item("latency", (percentile(50.0), percentile(95.0), percentile(99.0)))?;
    let hosts = PyDict::new(py);
    for (name, host) in &report.hosts {
        let one = PyDict::new(py);
        for kind in OutcomeKind::ALL {
            one.set_item(kind.as_str(), host.counts.get(kind))?;
        }
        one.set_item("throttled_seconds", host.throttled.as_secs_f64())?;
        hosts.set_item(name, one)?;
    }
    dict.set_item("hosts", hosts)?;
    let errors = report
        .errors
        .most_frequent(5)
        .into_iter()
        .map(|error| (error.kind.as_str(), error.message, error.count, error.example));
    dict.set_item("errors", errors.collect::<Vec<_>>())?;
    dict.set_item("failures", &report.failures)?;
    dict.set_item("warnings", &report.warnings)?;
    dict.set_item("stopped", report.stopped.map(|reason| format!("{reason:?}")))?;
    dict.set_item("exit_code", report.exit_code())?;
    Ok(dict)
}
