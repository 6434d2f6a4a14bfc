//! Clients: a batch that never ends, whose items are calls of a program.
//!
//! So a client has the limits, retries, pacing and safety of a batch without a second implementation of any of them.
//! Callers wait at a completion queue, one per event loop or thread: the numbers of the calls that have something, and
//! a notifier.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyDict, PyTuple},
};
use tokio::sync::{Notify, mpsc};
use unisono_batch::{
    Again, Attempt, Batch, Context, Decided, Halt, Job, KeyNews, Offer, Pull, Sink, Source, Verdict, drive,
};
use unisono_core::{
    CancelLevel, CancelReason, CancelToken, Effect, ErrorKind, OutcomeKind, Overrides, Peer, clock,
    reactor::{Reactor, spawn_local, with_local_tasks},
};
use unisono_http::{
    AttemptClassifier, AttemptResult, Client, CookieJar, Error as HttpError, Judged, Request, StatusSet, Trail, Url,
};
use unisono_runner::{Defaults, Error, Fetched, Monitor, RowOutcome as Ended};

use crate::{
    errors,
    events::{EventLog, LogEvent},
    forks::HomeProcess,
    http::{
        bodies::Fed,
        request::{GivenRequest, row},
    },
    notifier::Notifier,
    options::{HttpKeywords, Keywords, NewLimits, set_limits},
    outcomes::{self, FetchOutcome},
};

/// What the caller of a call wants to be told, or asked, while it goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Wants {
    /// To say before each attempt what is sent.
    to_be_asked: bool,
    /// That an attempt begins.
    attempts: bool,
    /// That there will be another attempt, and why.
    retries: bool,
}

/// What a call tells of itself while it goes on.
enum CallEvent {
    /// An attempt begins; or waits for its request, where the caller wants to be asked.
    Attempt(u16),
    /// There will be another.
    Retry { again: Again, last: Box<Ended<Fetched>> },
}

/// The engine of a client: a thread with a runtime, its connections and limits.
#[pyclass(frozen, module = "unisono._native")]
pub struct ClientEngine {
    calls: mpsc::UnboundedSender<Item>,
    defaults: Defaults,
    jar: Option<CookieJar>,
    /// News of hosts, for the log.
    log: Arc<EventLog>,
    cancel: CancelToken,
    monitor: Monitor,
    end: Arc<Mutex<EngineEnd>>,
    /// What the engine calls for tokens; here it is seen by the garbage collector.
    token: Option<Arc<Py<PyAny>>>,
    /// Threads do not survive a fork.
    home: HomeProcess,
}

/// The end of a client's engine.
#[derive(Default)]
struct EngineEnd {
    is_over: bool,
    /// Which queue is to be told, and by which number.
    waiting: Vec<(Arc<Completions>, u64)>,
}

/// Where the callers of one event loop or thread wait.
#[pyclass(frozen, module = "unisono._native")]
pub struct CompletionQueue(Arc<Completions>);

struct Completions {
    ready: Mutex<Vec<u64>>,
    notifier: Notifier,
}

/// One call under way.
#[pyclass(frozen, module = "unisono._native")]
pub struct ClientCall {
    shared: Arc<Shared>,
    /// What comes in once of its body, by the numbers that `wanted` gives.
    fed: Vec<Fed>,
}

/// What caller and engine share about a call.
struct Shared {
    number: u64,
    completions: Arc<Completions>,
    /// Held to put or take one thing; never across a wait.
    state: Mutex<State>,
    /// Nothing waits for it any more.
    is_stopped: AtomicBool,
    stop: Notify,
    /// The caller has been told how it ended.
    is_answered: AtomicBool,
    /// A stream's caller has taken chunks.
    taken: Notify,
    wants: Wants,
    /// The caller has said what is sent.
    replied: Notify,
}

#[derive(Default)]
struct State {
    /// The end of the call; for a stream its head, or why there is none.
    outcome: Option<Ended<Fetched>>,
    chunks: VecDeque<Bytes>,
    events: VecDeque<CallEvent>,
    /// What is sent by this attempt.
    reply: Option<(u16, Request)>,
    /// How a stream ended: as a call would have that breaks off in the same place.
    ended: Option<Result<(), Arc<Ended<Fetched>>>>,
}

/// A call on its way to the engine.
struct Item {
    /// What is sent: as the caller gave it, and from then on as the caller said when it was asked.
    request: RefCell<Arc<Request>>,
    /// How long the call may take and how often it is tried, whatever is sent for it.
    overrides: Overrides,
    /// Where the request has got to.
    trail: Trail,
    shared: Arc<Shared>,
    streams: bool,
}

impl Item {
    fn answer(
        &self,
        kind: OutcomeKind,
        effect: Effect,
        reply: AttemptResult,
        is_expected: Option<bool>,
        attempts: u16,
        elapsed: Duration,
    ) {
        if self.shared.is_answered.swap(true, Ordering::AcqRel) {
            return;
        }
        let asked = self.asked();
        let mut done = Fetched::new(asked, reply);
        done.is_expected = is_expected;
        self.shared.lock().outcome = Some(Ended::of_call(self.shared.number, kind, effect, done, attempts, elapsed));
        self.shared.has_news();
    }
}

impl Item {
    /// What was sent last, or is to be sent first.
    fn request(&self) -> Arc<Request> {
        self.request.borrow().clone()
    }

    fn asked(&self) -> (Method, Url) {
        let request = self.request.borrow();
        (request.method.clone(), request.url.clone())
    }

    /// Tells the caller that an attempt begins, and waits for what it sends where it wants to be asked. An attempt that
    /// goes on at a later hop sends what it was redirected to.
    async fn begin(&self, attempt: u16) {
        let wants = self.shared.wants;
        let is_asked = wants.to_be_asked && !self.trail.has_hop();
        if !is_asked && !wants.attempts {
            return;
        }
        self.shared.tell(CallEvent::Attempt(attempt));
        if !is_asked {
            return;
        }
        loop {
            // A reply to an earlier attempt, which has timed out since, is none to this one. A permit is kept for one
            // that comes between this look and the wait.
            let reply = self.shared.lock().reply.take_if(|(to, _)| *to == attempt);
            if let Some((_, request)) = reply {
                *self.request.borrow_mut() = Arc::new(request);
                return;
            }
            self.shared.replied.notified().await;
        }
    }
}

impl Drop for Item {
    /// The waiter is told, even when the engine ends before it has looked at the call.
    fn drop(&mut self) {
        let error = HttpError::new(ErrorKind::Cancelled, format!("{CLOSED} before the request began"));
        self.answer(OutcomeKind::Cancelled, Effect::None, AttemptResult::failed(error), None, 0, Duration::ZERO);
    }
}

#[pymethods]
impl ClientEngine {
    #[new]
    #[pyo3(signature = (**keywords))]
    fn new(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let waits_for_hosts = keywords.has("host_away")?;
        let expects = keywords.has("expect")?;
        let (mut settings, http) = (keywords.settings()?, keywords.http()?);
        let (defaults, jar) = (keywords.defaults(&http)?, http.cookie_jar());
        let expect = expects.then(|| http.expect().clone());
        if !waits_for_hosts {
            // A call has a caller that waits for it.
            settings.retry.host_away = None;
        }
        keywords.finish()?;
        let token = http.token();
        let (calls, waiting) = mpsc::unbounded_channel();
        let (cancel, monitor) = (CancelToken::new(), Monitor::new());
        let end = Arc::new(Mutex::new(EngineEnd::default()));
        let (stop, watch, over) = (cancel.clone(), monitor.clone(), end.clone());
        // Callers look for it when they are through, or are told something of their own.
        let log = EventLog::new(|| {});
        let news = log.clone();
        let (begun, begins) = std::sync::mpsc::channel();
        let run = move || {
            let batch =
                Batch { settings, source: Waiting(waiting), sink: Mail { expect }, cancel: stop, monitor: watch };
            with_local_tasks(serve(http, batch, news, begun))
        };
        // A panic ends the calls as a close does: dropping them answers them.
        let ended = move |_| {
            let mut end = over.lock().unwrap_or_else(PoisonError::into_inner);
            end.is_over = true;
            for (letters, number) in end.waiting.drain(..) {
                letters.add(number);
            }
        };
        Reactor::thread("unisono-client")
            .start(run, ended)
            .map_err(|error| errors::run_failed(py, &Error::fault("the client cannot begin").because(error)))?;
        let begins = py.detach(move || begins.recv()).unwrap_or_else(|_| Err(Error::fault("its thread panicked")));
        begins.map_err(|error| errors::run_failed(py, &error))?;
        Ok(Self { calls, defaults, jar, log, cancel, monitor, end, token, home: HomeProcess::new() })
    }

    /// Starts a call; the completions gets its number when there is something of it.
    ///
    /// Where it wants `to_be_asked`, each attempt waits for its `reply`.
    #[pyo3(signature = (completions, number, request, *, stream=false, to_be_asked=false, attempts=false, retries=false))]
    #[allow(clippy::too_many_arguments, reason = "these are keywords")]
    fn call(
        &self,
        py: Python<'_>,
        completions: &Bound<'_, CompletionQueue>,
        number: u64,
        request: &Bound<'_, PyAny>,
        stream: bool,
        to_be_asked: bool,
        attempts: bool,
        retries: bool,
    ) -> PyResult<ClientCall> {
        self.home.check()?;
        let fed: Vec<Fed> = match request.cast::<GivenRequest>() {
            Ok(request) => request.get().fed().iter().map(|one| one.clone_ref(py)).collect(),
            Err(_) => Vec::new(),
        };
        let request = row(request, &self.defaults, number)?.call.map_err(|why| errors::input(py, &why))?.request;
        if fed.iter().any(|one| one.feed.is_begun()) {
            let why =
                "the body of this request comes in once, and was sent already: give bytes, a path or an open file";
            return Err(errors::usage(py, why));
        }
        let shared = Arc::new(Shared {
            number,
            completions: completions.get().0.clone(),
            state: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            stop: Notify::new(),
            is_answered: AtomicBool::new(false),
            taken: Notify::new(),
            wants: Wants { to_be_asked, attempts, retries },
            replied: Notify::new(),
        });
        for one in &fed {
            let shared = shared.clone();
            one.feed.on_want(move || shared.has_news());
        }
        let item = Item {
            overrides: request.overrides(),
            request: RefCell::new(Arc::new(request)),
            trail: Trail::default(),
            shared: shared.clone(),
            streams: stream,
        };
        if self.calls.send(item).is_err() {
            return Err(errors::usage(py, "the client is closed"));
        }
        Ok(ClientCall { shared, fed })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.token.as_deref())
    }

    /// Says what an attempt sends that has asked.
    fn reply(&self, call: &Bound<'_, ClientCall>, attempt: u16, request: &Bound<'_, PyAny>) -> PyResult<()> {
        self.home.check()?;
        let ClientCall { shared, fed } = call.get();
        let is_own = |other: &Fed| fed.iter().any(|own| Arc::ptr_eq(&own.feed, &other.feed));
        if request.cast::<GivenRequest>().is_ok_and(|request| !request.get().fed().iter().all(is_own)) {
            let why = "a hook gave a body that comes in once in place of another: give bytes, a path or an open file";
            return Err(errors::usage(request.py(), why));
        }
        let row = row(request, &self.defaults, shared.number)?;
        let request = row.call.map_err(|why| errors::input(request.py(), &why))?.request;
        shared.lock().reply = Some((attempt, request));
        shared.replied.notify_one();
        Ok(())
    }

    /// News of hosts is kept from this level of `logging` on; `None`: none.
    #[pyo3(signature = (level))]
    fn log_from(&self, level: Option<u8>) {
        self.log.set_level(level);
    }

    /// The news of hosts since this was last asked: as `Run.take_events`.
    fn take_events(&self) -> Vec<LogEvent> {
        self.log.take()
    }

    /// Begins to stop everything and to close all connections.
    fn close(&self) {
        if self.home.is_here() {
            self.cancel.abort(CancelReason::Requested);
        }
    }

    /// Whether its thread is through, so that every call has been answered; if not, the completions gets the number
    /// then.
    fn has_ended(&self, completions: &Bound<'_, CompletionQueue>, number: u64) -> bool {
        if !self.home.is_here() {
            return true;
        }
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if !end.is_over {
            end.waiting.push((completions.get().0.clone(), number));
        }
        end.is_over
    }

    /// What the client has kept of the cookies that servers set, as name, value, domain, path and whether it is for TLS
    /// alone; in the order in which they were set first.
    fn cookies(&self) -> Vec<(String, String, String, String, bool)> {
        let all = self.jar.iter().flat_map(CookieJar::all);
        all.map(|one| (one.name, one.value, one.domain, one.path, one.secure)).collect()
    }

    /// Forgets the cookies that servers set.
    fn clear_cookies(&self) {
        self.jar.iter().for_each(CookieJar::clear);
    }

    /// Changes limits; they hold from then on.
    #[pyo3(signature = (*, limit=None, per_host=None, rate=None, per_host_rate=None))]
    fn set_limits(
        &self,
        limit: Option<&Bound<'_, PyAny>>,
        per_host: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        per_host_rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.home.check()?;
        let new = NewLimits::new(limit, ("per_host", per_host), rate, ("per_host_rate", per_host_rate))?;
        set_limits(&self.monitor, &new);
        Ok(())
    }
}

impl Drop for ClientEngine {
    fn drop(&mut self) {
        if self.home.is_here() {
            self.cancel.abort(CancelReason::Requested);
        }
    }
}

#[pymethods]
impl CompletionQueue {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Arc::new(Completions { ready: Mutex::default(), notifier: Notifier::new()? })))
    }

    /// The descriptor that becomes readable when there is something.
    fn fileno(&self) -> i32 {
        self.0.notifier.fileno()
    }

    /// The numbers of calls that have something.
    fn take(&self) -> Vec<u64> {
        self.0.notifier.clear();
        std::mem::take(&mut *self.0.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is something, or so many seconds.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.0.notifier.wait(py, seconds)
    }
}

#[pymethods]
impl ClientCall {
    /// How it ended, or the head of a stream; `None` when there is nothing yet.
    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, FetchOutcome>>> {
        let ended = self.shared.lock().outcome.take();
        ended.map(|ended| FetchOutcome::object(py, ended, None)).transpose()
    }

    /// The next piece of a stream; empty at its end, `None` when there is nothing yet. Raises when the body breaks off.
    fn chunk<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut state = self.shared.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            drop(state);
            self.shared.taken.notify_one();
            return Ok(Some(PyBytes::new(py, &chunk)));
        }
        match &state.ended {
            None => Ok(None),
            Some(Ok(())) => Ok(Some(PyBytes::new(py, b""))),
            Some(Err(ended)) => {
                let ended = ended.clone();
                // Making an exception runs code of Python's.
                drop(state);
                let error = outcomes::error_of(py, &ended)?.expect("what broke off has its error");
                Err(PyErr::from_value(error))
            }
        }
    }

    /// What it has told since this was last asked: `("attempt", number, asks)`, and `("retry", attempt, seconds,
    /// throttled, text, outcome)` with how that attempt ended.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let events = std::mem::take(&mut self.shared.lock().events);
        let asks = self.shared.wants.to_be_asked;
        let tuple = |event| match event {
            CallEvent::Attempt(attempt) => ("attempt", attempt, asks).into_pyobject(py),
            CallEvent::Retry { again, last } => {
                let (wait, text) = (again.wait.as_secs_f64(), again.to_string());
                let outcome = FetchOutcome::object(py, *last, None)?;
                ("retry", again.attempt, wait, again.throttled, text, outcome).into_pyobject(py)
            }
        };
        events.into_iter().map(tuple).collect()
    }

    /// Nothing waits for it any more.
    fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.stop.notify_one();
        self.shared.taken.notify_one();
    }

    /// What the next piece of the body is to be brought from, when one is wanted, and its number. Those of a body are
    /// wanted one after the other, each to its end.
    fn wanted<'py>(&self, py: Python<'py>) -> Option<(usize, Bound<'py, PyAny>)> {
        let mut all = self.fed.iter().enumerate();
        all.find_map(|(number, one)| one.feed.take_want().then(|| (number, one.given.bind(py).clone())))
    }

    /// Puts the piece that was wanted of this number; `None` at the end.
    #[pyo3(signature = (number, piece))]
    fn put(&self, number: usize, piece: Option<&Bound<'_, PyBytes>>) {
        if let Some(one) = self.fed.get(number) {
            match piece {
                Some(piece) => one.feed.put(Bytes::copy_from_slice(piece.as_bytes())),
                None => one.feed.end(Ok(())),
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.fed.iter().try_for_each(|one| visit.call(&one.given))
    }

    /// The piece that was wanted of this number cannot be brought.
    fn cannot_put(&self, number: usize, why: String) {
        if let Some(one) = self.fed.get(number) {
            one.feed.end(Err(why));
        }
    }
}

impl Completions {
    fn add(&self, number: u64) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.notifier.notify();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_news(&self) {
        self.completions.add(self.number);
    }

    fn tell(&self, event: CallEvent) {
        self.lock().events.push_back(event);
        self.has_news();
    }

    async fn stopped(&self) {
        // A permit is kept for a waiter that comes late, and given on, since a call may have two of them.
        self.stop.notified().await;
        self.stop.notify_one();
    }

    /// Puts a chunk, once there is room for it; false when it is not wanted.
    async fn put(&self, chunk: Bytes) -> bool {
        while !self.has_room() {
            self.taken.notified().await;
        }
        if self.is_stopped.load(Ordering::Acquire) {
            return false;
        }
        self.lock().chunks.push_back(chunk);
        self.has_news();
        true
    }

    fn has_room(&self) -> bool {
        self.lock().chunks.len() < CHUNKS_AHEAD || self.is_stopped.load(Ordering::Acquire)
    }
}

/// The engine. Says whether it could begin.
async fn serve(
    http: HttpKeywords,
    batch: Batch<Waiting, Mail>,
    log: Arc<EventLog>,
    begun: std::sync::mpsc::Sender<Result<(), Error>>,
) {
    let client = match Client::new(http.options()) {
        Ok(client) => client,
        Err(error) => {
            // The other end is gone only where the program has ended.
            let _ = begun.send(Err(error.into()));
            return;
        }
    };
    let _ = begun.send(Ok(()));
    let job = Calls { http: AttemptClassifier::new(client), cancel: batch.cancel.clone(), log };
    drive(job, batch).await;
}

struct Calls {
    http: AttemptClassifier,
    /// Ends the streams, which the batch does not know.
    cancel: CancelToken,
    log: Arc<EventLog>,
}

impl Job for Calls {
    type Item = Item;
    type Value = AttemptResult;

    async fn attempt(&self, item: Rc<Item>, context: Context) -> Attempt<Item, AttemptResult> {
        let work = async {
            if item.shared.wants.to_be_asked || item.shared.wants.attempts {
                // Boxed, as is all that most calls do without.
                Box::pin(item.begin(context.attempt())).await;
            }
            if item.streams {
                return self.stream(&item, &context).await;
            }
            let request = item.request();
            let (verdict, pause_until, reply) = self.http.attempt(&request, &item.trail, &context).await;
            Attempt { pause_until, ..Attempt::new(verdict, reply) }
        };
        tokio::select! {
            biased;
            () = item.shared.stopped() => {
                let error = HttpError::new(ErrorKind::Cancelled, "nobody waits for it any more");
                Attempt::new(Verdict::Final(OutcomeKind::Cancelled), AttemptResult::failed(error))
            }
            attempt = work => attempt,
        }
    }

    fn again(&self, item: &Item, last: &AttemptResult, again: Again) {
        if item.shared.wants.retries {
            let done = Fetched::new(item.asked(), last.duplicate());
            let (number, kind) = (item.shared.number, OutcomeKind::Failed);
            let last = Ended::of_call(number, kind, Effect::None, done, again.attempt, Duration::ZERO);
            item.shared.tell(CallEvent::Retry { again, last: Box::new(last) });
        }
    }

    fn peer_news(&self, key: &str, news: &KeyNews) {
        self.log.add_news(key, news);
    }

    fn overrides(&self, item: &Item) -> Overrides {
        item.overrides
    }

    fn peer(&self, reply: &AttemptResult) -> Peer {
        reply.peer
    }

    fn halted(&self, item: &Item, halt: Halt, last: Option<AttemptResult>) -> (Verdict, AttemptResult) {
        let (verdict, mut reply) = self.http.halted(&item.request(), &item.trail, &halt, last);
        if let Halt::Cancelled { started, .. } = halt {
            let when = if started { "was done" } else { "began" };
            let error = HttpError::new(ErrorKind::Cancelled, format!("{CLOSED} before the request {when}"));
            reply.error = Some(error);
        }
        (verdict, reply)
    }
}

impl Calls {
    /// Answers with the head. The body comes in on its own, and keeps the call's slot until it is there: the timeout of
    /// an attempt bounds the head only.
    async fn stream(&self, item: &Item, context: &Context) -> Attempt<Item, AttemptResult> {
        let begun = clock::now();
        let request = item.request();
        let (judged, mut streaming) = match self.http.open(&request, &item.trail, context).await {
            Ok(opened) => opened,
            Err((verdict, error)) => return Attempt::new(verdict, AttemptResult::failed(error)),
        };
        let Judged { verdict, pause_until, peer, error } = judged;
        let head = streaming.head();
        if matches!(verdict, Verdict::Final(_)) {
            let (shared, hold, cancel) = (item.shared.clone(), context.hold(), self.cancel.clone());
            let (context, repeatable) = (context.clone(), request.is_repeatable());
            let asked = item.asked();
            // Beside the batch, which has its outcome with the head.
            spawn_local(async move {
                let pump = async {
                    while let Some(chunk) = streaming.chunk().await? {
                        if !shared.put(chunk).await {
                            return Err(HttpError::new(ErrorKind::Cancelled, LEFT));
                        }
                    }
                    Ok(())
                };
                let ended = tokio::select! {
                    biased;
                    () = shared.stopped() => Err(HttpError::new(ErrorKind::Cancelled, LEFT)),
                    () = cancel.reached(CancelLevel::Abort) => {
                        Err(HttpError::new(ErrorKind::Cancelled, format!("{CLOSED} before the body was there")))
                    }
                    ended = pump => ended,
                };
                let ended = ended.map_err(|error| {
                    streaming.body_ended(&context, Some(&error));
                    let effect = context.effect();
                    let kind = match error.kind() {
                        ErrorKind::Cancelled => OutcomeKind::Cancelled,
                        _ => OutcomeKind::Failed,
                    };
                    let (kind, attempts) = (effect.outcome(kind, repeatable), context.attempt());
                    let (done, elapsed) = (Fetched::new(asked, AttemptResult::failed(error)), clock::since(begun));
                    Arc::new(Ended::of_call(shared.number, kind, effect, done, attempts, elapsed))
                });
                shared.lock().ended = Some(ended);
                shared.has_news();
                drop(hold);
            });
        }
        Attempt {
            pause_until,
            ..Attempt::new(verdict, AttemptResult { response: Some(head), error, retry_at: None, peer })
        }
    }
}

struct Waiting(mpsc::UnboundedReceiver<Item>);

impl Source for Waiting {
    type Item = Item;

    fn poll_pull(&mut self, context: &mut task::Context<'_>, max: usize, into: &mut Vec<Offer<Item>>) -> Poll<Pull> {
        while into.len() < max {
            match self.0.poll_recv(context) {
                Poll::Ready(Some(item)) => {
                    let key = item.request.borrow().url.authority().into();
                    into.push(Offer { key, item });
                }
                Poll::Ready(None) if into.is_empty() => return Poll::Ready(Pull::End),
                Poll::Pending if into.is_empty() => return Poll::Pending,
                _ => break,
            }
        }
        Poll::Ready(Pull::More)
    }
}

/// Delivers outcomes to their waiters.
struct Mail {
    /// What the client counts as a success, where its user has said so.
    expect: Option<StatusSet>,
}

impl Sink<Calls> for Mail {
    fn deliver(&mut self, decided: &mut Vec<Decided<Calls>>) {
        for one in decided.drain(..) {
            let Decided { item, mut kind, effect, value: mut reply, attempts, elapsed } = one;
            // An answer is an answer: what its status means is for the caller to say, who may have done so before.
            let request = item.request();
            let expect = request.expect().or(self.expect.as_ref());
            let is_expected = expect.zip(reply.response.as_ref()).map(|(expect, one)| expect.contains(one.status));
            if reply.response.is_some()
                && reply
                    .error
                    .as_ref()
                    .is_some_and(|error| matches!(error.kind(), ErrorKind::Status | ErrorKind::RateLimited))
            {
                kind = OutcomeKind::Ok;
                reply.error = None;
            }
            item.answer(kind, effect, reply, is_expected, attempts, elapsed);
        }
    }

    fn poll_credit(&mut self, _: &mut task::Context<'_>) -> usize {
        usize::MAX
    }
}

/// Why calls end early.
const CLOSED: &str = "the client was closed";
const LEFT: &str = "the block of the stream was left before its body was there";
/// A stream's chunks that wait for their caller; the rest waits in the socket.
const CHUNKS_AHEAD: usize = 8;
