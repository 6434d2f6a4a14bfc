//! The real run over scripted work: one results file, as many runs as it takes.
//!
//! Time is paused and moves only when nothing else does: when the run has nothing to do and the disk owes it no note.
//! So a slow machine changes nothing. The sink takes outcomes only then, too, as slow as one can be.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    future::poll_fn,
    num::{NonZeroU32, NonZeroU64},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    pin::pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use serde::de::IgnoredAny;
use tempfile::TempDir;
use unisono_core::{Backoff, CancelReason, CancelToken, Limits, OutcomeKind, RetryPolicy, Times};
use unisono_journal::{Identity, Mode, Open};
use unisono_runner::{
    Destination, Error, Feed, Frame, Gauge, Monitor, Outlet, Report, Row, RowBatch, RowIndex, RowOrigin, RunEvent,
    Settings, Taken, Taker, outlet,
    testing::{Extras, Pages, run},
};

use crate::{
    model::Line,
    peer::{Answer, Asked, Peer, Script, Scripted},
};

/// How a run is made.
#[derive(Debug, Clone)]
pub struct RunOptions {
    pub mode: Mode,
    pub identity: Identity,
    pub adopt: bool,
    pub keep_order: bool,
    pub paged: bool,
    pub notes_ahead: bool,
    pub prune: bool,
    /// Room of a sink that is slow; `None`: there is none.
    pub credit: Option<usize>,
    pub limit: u32,
    pub window: Option<u64>,
    pub max_failures: Option<u64>,
    pub canary: Option<u64>,
    /// Of which kind the keys are that what is not repeatable is given.
    pub keys: Option<u8>,
    /// Rows have ids of their own.
    pub has_ids: bool,
    /// The input gives all its rows and does not end.
    pub stays_open: bool,
    /// The run makes the keys, and rows may ask for the same.
    pub makes_keys: bool,
    pub stop_after: Option<Duration>,
    /// The time of the first attempts is over before the disk has noted them.
    pub notes_are_late: bool,
    pub stop: Option<Stop>,
}

/// What happens to a run from outside, before so many of its turns.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    pub turn: u32,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Drain,
    Abort,
    /// The run is dropped, and so many bytes of what it wrote are lost.
    Crash {
        lost: u64,
    },
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Resume,
            identity: Identity::Row,
            adopt: false,
            keep_order: false,
            paged: false,
            notes_ahead: false,
            prune: false,
            credit: None,
            limit: 3,
            window: None,
            max_failures: None,
            canary: None,
            keys: None,
            has_ids: true,
            stays_open: false,
            makes_keys: false,
            stop_after: None,
            notes_are_late: false,
            stop: None,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum RunEnd {
    Finished(Box<Report>),
    Refused(Error),
    Crashed,
}

impl RunEnd {
    /// The report of a run that ended by itself.
    pub fn report(&self) -> &Report {
        match self {
            Self::Finished(report) => report,
            other => panic!("the run has not finished: {other:?}"),
        }
    }
}

/// An outcome that the sink took.
#[derive(Debug)]
pub struct Sunk {
    pub index: RowIndex,
    pub kind: OutcomeKind,
}

pub struct World {
    folder: TempDir,
    pub peer: Rc<Peer>,
    /// The name of the results file, which may change between runs.
    pub name: String,
    /// What the sink of the last run took.
    pub sunk: Vec<Sunk>,
    /// What the last run said that it waits for.
    pub told: Rc<RefCell<Vec<String>>>,
    /// How the runs were made that have crashed.
    pub crashed: Vec<Mode>,
    /// The input of this run has given all, and is still open.
    open: Rc<Cell<bool>>,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = "results.jsonl".to_owned();
        let (peer, told, open) = <_>::default();
        Self { folder, peer, name, sunk: Vec::new(), told, crashed: Vec::new(), open }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Gives the results file another name, and leaves everything beside it where it is.
    pub fn rename(&mut self, name: &str) {
        let from = self.path();
        self.name = name.to_owned();
        if from.exists() {
            std::fs::rename(from, self.path()).expect("it can be renamed");
        }
    }

    /// Its last bytes go.
    pub fn cut(&self, bytes: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(self.path()).expect("the results are there");
        let length = file.metadata().expect("its length").len();
        file.set_len(length - bytes).expect("it can be cut");
    }

    /// The run file is removed, if there is one.
    pub fn lose_run_file(&self) {
        _ = std::fs::remove_file(self.path().with_extension("jsonl.run"));
    }

    /// What is in the file: its whole lines. Of two of a row and page, as a killed run may leave them, the later
    /// counts.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.all_lines();
        let mut later = HashSet::new();
        lines.reverse();
        lines.retain(|line| later.insert((line.row, line.page)));
        lines.reverse();
        lines
    }

    /// What is in the file, with lines that others have taken the place of.
    pub fn all_lines(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        // Of the last one a crash may have taken the line feed alone.
        let is_whole = |line: &&str| line.ends_with('\n') || serde_json::from_str::<IgnoredAny>(line).is_ok();
        text.split_inclusive('\n').filter(is_whole).map(Line::parse).collect()
    }

    /// One run over these rows, each with its content. `None`: the row cannot be understood.
    pub fn run(&mut self, rows: &[(u64, Option<Script>)], how: &RunOptions) -> RunEnd {
        self.peer.run.set(self.peer.run.get() + 1);
        self.peer.notes.replace(self.path().with_extension("jsonl.run"));
        self.sunk.clear();
        self.told.borrow_mut().clear();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let (report, at_start) = runtime.expect("a runtime").block_on(self.drive(rows, how));
        if let (RunEnd::Crashed, Some(Stop { what: What::Crash { lost }, .. })) = (&report, how.stop) {
            self.lose(lost, at_start);
        }
        report
    }

    /// Power is lost: the last bytes that the run wrote are not there.
    fn lose(&self, lost: u64, at_start: (u64, u64)) {
        let Ok(file) = std::fs::OpenOptions::new().write(true).open(self.path()) else { return };
        let metadata = file.metadata().expect("its length");
        // What was rewritten at the end was durable before it took the name, and all was before the notes went.
        let is_closed = !std::fs::read_to_string(self.path()).unwrap_or_default().contains("\"open\":1");
        if metadata.ino() == at_start.0 && !is_closed {
            file.set_len(metadata.len().saturating_sub(lost).max(at_start.1)).expect("it can be cut");
        }
    }

    /// Returns also which file it was, and how long, when the run had opened it.
    async fn drive(&mut self, rows: &[(u64, Option<Script>)], how: &RunOptions) -> (RunEnd, (u64, u64)) {
        // As long as this waits, tokio does not move the time by itself.
        let (done, waits) = mpsc::channel::<()>();
        let guard = tokio::task::spawn_blocking(move || _ = waits.recv());
        let notified = Arc::new(AtomicBool::new(false));
        let notifier = notified.clone();
        let (outlet, taker) =
            how.credit.map(|room| outlet(room, Arc::new(move || notifier.store(true, Ordering::Release)))).unzip();
        let (cancel, monitor) = (CancelToken::new(), Monitor::default());
        let frame = self.frame(rows, how, outlet);
        let extras = Extras {
            pages: Pages::up_to(if how.paged { u32::MAX } else { 0 }),
            prune: how.prune,
            notes_ahead: how.notes_ahead,
            window: how.window,
            prepare: how.makes_keys.then(|| Box::new(|_| Asked::prepare()) as Box<_>),
            ..Extras::default()
        };
        let work = Scripted(self.peer.clone());
        let gauge = Gauge::default();
        gauge.set_total(rows.len() as u64);
        let mut run = Box::pin(run(work, frame, extras, cancel.clone(), monitor.clone(), gauge));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let (mut turn, mut steps, mut at_start) = (0, 0, None);
        let mut notes_are_late = how.notes_are_late;
        let end = loop {
            if woken.flag.swap(false, Ordering::AcqRel) || turn == 0 {
                turn += 1;
                assert!(turn < MOST_STEPS, "the run goes round and round: {:?} {how:?}", monitor.numbers());
                match how.stop.filter(|stop| stop.turn == turn).map(|stop| stop.what) {
                    None => {}
                    Some(What::Drain) => cancel.drain(CancelReason::Interrupt),
                    Some(What::Abort) => cancel.abort(CancelReason::Interrupt),
                    Some(What::Crash { .. }) => break RunEnd::Crashed,
                }
                if let Poll::Ready(ended) = run.as_mut().poll(&mut Context::from_waker(&waker)) {
                    break ended.map_or_else(RunEnd::Refused, |(report, _)| RunEnd::Finished(Box::new(report)));
                }
                at_start.get_or_insert_with(|| {
                    std::fs::metadata(self.path()).map_or((0, 0), |file| (file.ino(), file.len()))
                });
                // The reactor has its turn, too.
                tokio::task::yield_now().await;
                continue;
            }
            if notified.swap(false, Ordering::AcqRel) {
                self.take(taker.as_ref());
                continue;
            }
            let numbers = monitor.numbers();
            // Something waits for its note, or all is done and the file is closed: that takes as long as the disk does.
            let waits_for_disk = numbers.in_flight > self.peer.active.get()
                || numbers.pulled == numbers.decided.total() && !self.open.get();
            if waits_for_disk && std::mem::take(&mut notes_are_late) {
                tokio::time::advance(TIMEOUT).await;
            } else if waits_for_disk {
                woken.wait().await;
            } else {
                steps += 1;
                assert!(steps < MOST_STEPS, "the run does not come to an end: {:?}", numbers);
                tokio::time::advance(STEP).await;
            }
        };
        drop(run);
        self.take(taker.as_ref());
        drop(done);
        guard.await.expect("it only waits");
        (end, at_start.unwrap_or_default())
    }

    fn frame(&self, rows: &[(u64, Option<Script>)], how: &RunOptions, outlet: Option<Outlet<Answer>>) -> Frame<Asked> {
        let times = Times {
            timeout: Some(TIMEOUT),
            deadline: Some(Duration::from_secs(8)),
            stop_after: how.stop_after,
            grace: Duration::from_millis(300),
            ..Times::default()
        };
        let retry = RetryPolicy {
            repeats: 2,
            backoff: Backoff { base: Duration::from_millis(10), cap: Duration::from_millis(50) },
            max_wait: Duration::from_secs(3),
            ..RetryPolicy::default()
        };
        let told = self.told.clone();
        let tell = move |event: RunEvent<'_>| {
            if let RunEvent::Waits(why) = event {
                told.borrow_mut().push(why.to_owned());
            }
        };
        let open = Open { mode: how.mode, identity: how.identity, adopt: how.adopt, ..Open::default() };
        Frame {
            rows: Box::new(Rows::new(rows, how, &self.open)),
            settings: Settings {
                limits: Limits::new(NonZeroU32::new(how.limit), None),
                times,
                retry,
                ordered_by_key: false,
            },
            output: Destination::File { path: self.path(), open },
            outlet,
            style: (),
            keep_order: how.keep_order,
            max_failures: how.max_failures,
            canary: how.canary.and_then(NonZeroU64::new),
            on_event: Some(Box::new(tell)),
        }
    }

    fn take(&mut self, taker: Option<&Taker<Answer>>) {
        if let Some(Taken::Outcomes(outcomes)) = taker.map(Taker::take) {
            let sunk = outcomes.iter().map(|outcome| Sunk { index: outcome.index, kind: outcome.kind });
            self.sunk.extend(sunk);
        }
    }
}

/// The input: a few rows at a time.
struct Rows {
    rows: std::collections::VecDeque<Row<Asked>>,
    waits: bool,
    /// Where the input is to stay open: whether it is waited for, which takes time and not the disk.
    stays_open: Option<Rc<Cell<bool>>>,
}

impl Rows {
    fn new(rows: &[(u64, Option<Script>)], how: &RunOptions, open: &Rc<Cell<bool>>) -> Self {
        let stays_open = how.stays_open.then(|| open.clone());
        let row = |(at, (content, script)): (usize, &(u64, Option<Script>))| {
            let call = script.clone().ok_or_else(|| format!("row {content} makes no sense"));
            let call = call.map(|script| Asked::new(*content, script, how.keys));
            // An id stays what it is when its row asks for something else.
            let id = how.has_ids.then(|| format!("id {}", content % 1000).into());
            Row { id, origin: RowOrigin::of_item(at as u64 + 1), call }
        };
        Self { rows: rows.iter().enumerate().map(row).collect(), waits: false, stays_open }
    }
}

impl Feed<Asked> for Rows {
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<Option<RowBatch<Asked>>> {
        self.waits = !self.waits;
        if self.waits {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let some = self.rows.len().min(ROWS_AT_ONCE);
        if let Some(open) = self.stays_open.as_ref().filter(|_| some == 0) {
            open.set(true);
            return Poll::Pending;
        }
        Poll::Ready((some > 0).then(|| RowBatch::Rows(self.rows.drain(..some).collect())))
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.stays_open.iter().for_each(|open| open.set(false));
    }
}

/// Whether the run was woken, and what waits for that.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Woken {
    async fn wait(&self) {
        let wait = poll_fn(|context| {
            *self.outer.lock().expect("no holder panics") = Some(context.waker().clone());
            // Register before looking: a wake-up in between would be lost.
            if self.flag.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        });
        pin!(wait).await;
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        if let Some(outer) = self.outer.lock().expect("no holder panics").take() {
            outer.wake();
        }
    }
}

/// Of an attempt.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Less than what the reactor would take for a time in which it stood.
const STEP: Duration = Duration::from_millis(50);
/// Far more than any run of ours takes, which is a minute of its time.
const MOST_STEPS: u32 = 20_000;
const ROWS_AT_ONCE: usize = 4;
