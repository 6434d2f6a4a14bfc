//! One run: what a program gives goes in, outcomes come out, a report at the end. The engine has a thread and a runtime
//! of its own.
//!
//! A kind of work is a [`Face`]: how a row is made of what Python gives, and an object of Python of an outcome.
//! Steering, waiting, progress and the report are here once, for all of them.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyDict, PyList},
};
use unisono_core::{
    CancelLevel, CancelReason, CancelToken, OutcomeKind,
    reactor::{Panicked, Reactor},
};
use unisono_runner::{
    CheckVerdict, Done, Error, Gauge, Inlet, Intake, LineNumber, Manifests, Monitor, Outlet, Report, Row, RowOutcome,
    Settings, Taken, Taker, inlet, outlet,
};

use crate::{
    errors,
    events::{EventLog, LogEvent},
    forks::HomeProcess,
    notifier::{EndingNotifier, Notifier},
    options::{NewLimits, set_limits},
};

/// What Python gives to a kind of work and gets from it.
pub trait Face: Send + Sync + 'static {
    /// What one thing that Python gives asks for.
    type Asked: Send + 'static;
    /// What becomes of it.
    type Done: Done;

    /// The row for one thing that Python gives; its line is this number.
    ///
    /// # Errors
    /// With what is no fault of the item, such as Ctrl-C while code of the caller's runs: see [`errors::blame`].
    fn row(&self, item: &Bound<'_, PyAny>, line: u64) -> PyResult<Row<Self::Asked>>;

    /// The outcome as Python sees it, with the thing that was given for it.
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        ended: RowOutcome<Self::Done>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>>;

    /// Whether further outcomes may come of the same thing.
    fn may_have_more(&self, ended: &RowOutcome<Self::Done>) -> bool;

    /// Visits objects of the program's that this holds, for the garbage collector.
    fn traverse(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }

    /// An object of the program's that an outcome holds.
    fn held(_ended: &RowOutcome<Self::Done>) -> Option<&Py<PyAny>> {
        None
    }
}

/// What the engine's end of a run gets.
pub struct EngineEnds<F: Face> {
    /// What Python gives.
    pub intake: Intake<F::Asked>,
    /// Where outcomes go, if they are taken.
    pub outlet: Option<Outlet<F::Done>>,
    pub cancel: CancelToken,
    pub monitor: Monitor,
    pub gauge: Gauge,
    /// Where what happens meanwhile is told.
    pub log: Arc<EventLog>,
}

/// A run that Python feeds and takes outcomes from. Its methods never wait, except `wait`.
#[pyclass(frozen, module = "unisono._native")]
pub struct Run {
    /// Until it is dropped.
    ends: Option<Box<dyn Ends>>,
    notifier: Arc<EndingNotifier>,
    cancel: CancelToken,
    /// Nothing is waited for any more, not even the end of what was stopped.
    kill: CancelToken,
    monitor: Monitor,
    gauge: Gauge,
    report: Slot,
    log: Arc<EventLog>,
    /// Threads that cannot become more or fewer any more, where that is what the limit is.
    threads: Option<u32>,
    checked: Option<Checked>,
    /// Threads do not survive a fork.
    home: HomeProcess,
}

/// The report, once there is one.
type Slot = Arc<Mutex<Option<Result<Report, Error>>>>;

/// Manifests that are checked.
pub struct Checked {
    pub manifests: Manifests,
    /// Malformed lines are a failure.
    pub is_strict: bool,
    /// Files that are not there are none, unless none is there.
    pub ignores_missing: bool,
}

impl Run {
    /// Starts the engine. `work` runs on its thread.
    pub fn start<F: Face>(
        py: Python<'_>,
        face: F,
        settings: &Settings,
        keep_outcomes: bool,
        work: impl AsyncFnOnce(EngineEnds<F>) -> Result<Report, Error> + Send + 'static,
    ) -> PyResult<Self> {
        let notifier = Arc::new(EndingNotifier::new()?);
        let notify = notifier.weak();
        let notify: unisono_runner::Notifier = Arc::new(move || notify.notify());
        let room =
            usize::try_from(settings.limits.limit.get()).unwrap_or(usize::MAX).saturating_mul(2).clamp(256, 4096);
        let (inlet, intake) = inlet(room, notify.clone());
        let (outlet, taker) = outlet(room, notify);
        let (cancel, monitor, gauge) = (CancelToken::new(), Monitor::new(), Gauge::default());
        let outlet = keep_outcomes.then_some(outlet);
        let (stop, watch, count) = (cancel.clone(), monitor.clone(), gauge.clone());
        let waker = notifier.weak();
        let log = EventLog::new(move || waker.notify());
        let engine_ends = EngineEnds { intake, outlet, cancel: stop, monitor: watch, gauge: count, log: log.clone() };
        let report = Slot::default();
        let (slot, end) = (report.clone(), notifier.clone());
        let kill = CancelToken::new();
        let killed = kill.clone();
        let run = move || async move {
            tokio::select! {
                result = work(engine_ends) => result,
                // Dropping the work kills what it has started.
                () = killed.reached(CancelLevel::Abort) => Err(Error::fault("killed before it had ended")),
            }
        };
        let over = move |result: Result<_, Panicked>| {
            let result = result.unwrap_or_else(|_| Err(Error::fault("a fault of unisono: its engine panicked")));
            // Before the notification: what is woken by it looks here.
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            end.weak().notify();
            end.let_go();
        };
        Reactor::thread("unisono-run")
            .start(run, over)
            .map_err(|error| errors::run_failed(py, &Error::fault("the run cannot begin").because(error)))?;
        let ends: Box<dyn Ends> =
            Box::new(ProgramEnds { face, gauge: gauge.clone(), inlet, taker: Mutex::new(Some(taker)) });
        Ok(Self {
            ends: Some(ends),
            notifier,
            cancel,
            kill,
            monitor,
            gauge,
            report,
            log,
            threads: None,
            checked: None,
            home: HomeProcess::new(),
        })
    }

    /// Its limit is so many threads, for as long as it runs.
    pub fn with_threads(mut self, threads: u32) -> Self {
        self.threads = Some(threads);
        self
    }

    fn ends(&self) -> &dyn Ends {
        self.ends.as_deref().expect("it is there until the run is dropped")
    }

    /// It checks manifests.
    pub fn with_manifests(mut self, checked: Checked) -> Self {
        self.checked = Some(checked);
        self
    }
}

#[pymethods]
impl Run {
    /// What is notified when there is something to look at; `None` when it has ended, and all of that is there.
    fn notifier(&self) -> Option<Notifier> {
        self.notifier.notifier()
    }

    /// How many more items there is room for.
    fn room(&self) -> PyResult<usize> {
        self.home.check()?;
        Ok(self.ends().room())
    }

    /// Whether it takes in more than can begin: nothing starts until it has come to what an earlier run left in doubt.
    fn looks_for_doubts(&self) -> bool {
        self.gauge.looks_for_doubts()
    }

    /// Keeps account of which items have begun, until their outcomes are taken.
    fn keep_begun(&self) {
        self.gauge.keep_begun();
    }

    /// Whether something may have been done for this item of the input, counted from 0.
    fn has_begun(&self, number: u64) -> bool {
        self.gauge.has_begun(LineNumber::new(number + 1))
    }

    /// Adds items; the first of them is the input's number `first`, from 0.
    fn push(&self, first: u64, items: &Bound<'_, PyList>) -> PyResult<()> {
        self.home.check()?;
        self.ends().push(first, items)
    }

    /// There are no more items; `failed` says why, when there should have been.
    #[pyo3(signature = (failed=None))]
    fn end_input(&self, failed: Option<String>) {
        self.ends().end_input(failed);
    }

    /// Outcomes that are there, with their items taken from `items` by number; `None` when there will be no more.
    fn take<'py>(&self, items: &Bound<'py, PyDict>) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        self.home.check()?;
        self.notifier.clear();
        self.ends().take(items)
    }

    /// The notifier has been seen: whatever comes after it notifies again.
    fn clear(&self) {
        self.notifier.clear();
    }

    /// Wakes another thread that waits, since this one has taken what it was notified for.
    fn notify(&self) {
        self.notifier.weak().notify();
    }

    /// Waits until there is something to look at, or so many seconds.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.home.check()?;
        self.notifier.wait(py, seconds)
    }

    /// Starts nothing new; with `abort`, stops what runs as well.
    #[pyo3(signature = (*, abort=false))]
    fn cancel(&self, abort: bool) {
        if abort { self.cancel.abort(CancelReason::Requested) } else { self.cancel.drain(CancelReason::Requested) }
    }

    /// Outcomes will not be taken any more.
    fn abandon(&self) {
        self.ends().abandon();
        self.cancel.abort(CancelReason::Requested);
    }

    /// Ends at once and without an account. What was started is killed; threads are left to themselves.
    fn kill(&self) {
        self.kill.abort(CancelReason::Requested);
    }

    /// What happens is kept from this level of `logging` on; `None`: nothing.
    #[pyo3(signature = (level))]
    fn log_from(&self, level: Option<u8>) {
        self.log.set_level(level);
    }

    /// What has happened since this was last asked: level, message, and the item, key and attempt that it is about.
    fn take_events(&self) -> Vec<LogEvent> {
        self.log.take()
    }

    /// Changes limits; they hold from then on.
    #[pyo3(signature = (*, limit=None, per_host=None, rate=None, per_host_rate=None))]
    fn set_limits(
        &self,
        py: Python<'_>,
        limit: Option<&Bound<'_, PyAny>>,
        per_host: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        per_host_rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.home.check()?;
        let new = NewLimits::new(limit, ("per_host", per_host), rate, ("per_host_rate", per_host_rate))?;
        if self.threads.is_some() && new.is_more_than_rate() {
            return Err(errors::usage(
                py,
                "the number of threads is fixed while they run; only the rate can be changed",
            ));
        }
        set_limits(&self.monitor, &new);
        Ok(())
    }

    /// Most items in flight, or how many threads there are.
    #[getter]
    fn limit(&self) -> u32 {
        self.threads.unwrap_or_else(|| self.monitor.limits().unwrap_or_default().limit.get())
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
        let paused = numbers.paused.iter().map(|(host, _)| host.as_str());
        let mut waited_for: Vec<&str> = paused.chain(numbers.held.iter().map(|absent| absent.key.as_str())).collect();
        for (host, _) in &numbers.lowered {
            if !waited_for.contains(&host.as_str()) {
                waited_for.push(host);
            }
        }
        if self.gauge.waits_for_rows() {
            waited_for.push("the rest of the input");
        }
        dict.set_item("waiting_for", waited_for)?;
        Ok(dict)
    }

    /// Says how many items there will be.
    fn set_total(&self, total: u64) {
        self.gauge.set_total(total);
    }

    /// The report's numbers, once the run has ended; `None` before. Raises when the run could not begin.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.home.check()?;
        match &*self.report.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(None),
            Some(Ok(report)) => {
                let dict = as_dict(py, report)?;
                if let Some(Checked { manifests, is_strict, ignores_missing }) = &self.checked {
                    add_verdict(&dict, report, manifests.verdict(*is_strict, *ignores_missing))?;
                }
                Ok(Some(dict))
            }
            Some(Err(error)) => Err(errors::run_failed(py, error)),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // In a fork, the engine's thread may have held a lock of these for ever; so all that it has stays there.
        if self.home.is_here() { self.ends().traverse(&visit) } else { Ok(()) }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The engine's thread ends by itself; it never needs the interpreter.
        if self.home.is_here() {
            self.cancel.abort(CancelReason::Requested);
        } else {
            // Left behind: to drop them takes locks that a thread of the parent may have held.
            std::mem::forget(self.ends.take());
        }
    }
}

/// The program's ends of a run, whatever its work: a class of Python cannot be generic.
trait Ends: Send + Sync {
    fn room(&self) -> usize;
    fn push(&self, first: u64, items: &Bound<'_, PyList>) -> PyResult<()>;
    fn end_input(&self, failed: Option<String>);
    fn take<'py>(&self, items: &Bound<'py, PyDict>) -> PyResult<Option<Vec<Bound<'py, PyAny>>>>;
    fn abandon(&self);
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

struct ProgramEnds<F: Face> {
    face: F,
    gauge: Gauge,
    inlet: Inlet<F::Asked>,
    taker: Mutex<Option<Taker<F::Done>>>,
}

impl<F: Face> Ends for ProgramEnds<F> {
    fn room(&self) -> usize {
        self.inlet.room()
    }

    fn push(&self, first: u64, items: &Bound<'_, PyList>) -> PyResult<()> {
        // All are made before the queue is locked, since making one may run code of the caller's.
        let mut rows = Vec::with_capacity(items.len());
        for (item, line) in items.iter().zip(first + 1..) {
            rows.push(self.face.row(&item, line)?);
        }
        self.inlet.put(rows);
        Ok(())
    }

    fn end_input(&self, failed: Option<String>) {
        self.inlet.end(failed);
    }

    fn take<'py>(&self, items: &Bound<'py, PyDict>) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        let taken =
            self.taker.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(Taken::Ended, Taker::take);
        let Taken::Outcomes(outcomes) = taken else { return Ok(None) };
        let with_item = |ended: RowOutcome<F::Done>| {
            // What none of the program's items stands for has no number, and so no item.
            let number = ended.line.index();
            let item = items.get_item(number)?;
            if item.is_some() && !self.face.may_have_more(&ended) {
                items.del_item(number)?;
                self.gauge.forget(ended.line);
            }
            self.face.outcome(items.py(), ended, item)
        };
        outcomes.into_iter().map(with_item).collect::<PyResult<Vec<_>>>().map(Some)
    }

    fn abandon(&self) {
        // Let go of where the lock is not held: objects of the program's may go with it, and run its code.
        let _taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.face.traverse(visit)?;
        // The collector runs where the interpreter allocates, and there no thread holds this lock.
        let Ok(taker) = self.taker.try_lock() else { return Ok(()) };
        // What was visited once is to be visited each time. The engine only adds to it, and waits for nothing while it
        // does; what it still has is held by something that the collector does not know, and so stays.
        let Some(taker) = &*taker else { return Ok(()) };
        taker.look(|ended| visit.call(F::held(ended)))
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
    let passing = PyDict::new(py);
    for (kind, count) in &report.passing {
        passing.set_item(kind.as_str(), count)?;
    }
    dict.set_item("passing", passing)?;
    dict.set_item("bytes", report.bytes)?;
    dict.set_item("seconds", report.wall.as_secs_f64())?;
    let percentile = |percent| report.latency.percentile(percent).map(|latency| latency.as_secs_f64());
    dict.set_item("latency", (percentile(50.0), percentile(95.0), percentile(99.0)))?;
    let keys = PyDict::new(py);
    for (name, key) in &report.keys {
        let one = PyDict::new(py);
        for kind in OutcomeKind::ALL {
            one.set_item(kind.as_str(), key.counts.get(kind))?;
        }
        one.set_item("throttled_seconds", key.throttled.as_secs_f64())?;
        one.set_item("away_seconds", key.away.as_secs_f64())?;
        keys.set_item(name, one)?;
    }
    dict.set_item("keys", keys)?;
    let errors = report
        .errors
        .most_frequent(5)
        .into_iter()
        .map(|error| (error.kind.as_str(), error.message, error.count, error.example));
    dict.set_item("errors", errors.collect::<Vec<_>>())?;
    dict.set_item("failures", &report.failures)?;
    dict.set_item("warnings", &report.warnings)?;
    dict.set_item("malformed", 0)?;
    dict.set_item("stopped", report.stopped.map(|reason| format!("{reason:?}")))?;
    dict.set_item("exit_code", report.exit_code())?;
    Ok(dict)
}

/// What manifests came to beside their outcomes.
fn add_verdict(dict: &Bound<'_, PyDict>, report: &Report, verdict: CheckVerdict) -> PyResult<()> {
    let is_bad = !verdict.failures.is_empty();
    let (mut failures, mut warnings) = (report.failures.clone(), report.warnings.clone());
    failures.extend(verdict.failures);
    warnings.extend(verdict.warnings);
    dict.set_item("failures", failures)?;
    dict.set_item("warnings", warnings)?;
    dict.set_item("malformed", verdict.malformed)?;
    dict.set_item("exit_code", report.exit_code().max(u8::from(is_bad)))
}
