//! A run of any kind of work: input, engine, journal and sinks joined, and an account of it at the end.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs::File,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use unisono_batch::{Batch, Decided, Finished, Monitor, Settings, Sink, drive};
use unisono_core::{CancelLevel, CancelReason, CancelToken, FOR_EVER, clock, error_chain};
use unisono_journal::{Closed, Fate, Fields, Finish, Journal, LeftOver, Open, Recovered, unescape};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Error, Gauge, OnEvent, Outlet, Report, Saving,
    canary::Canary,
    fifo,
    input::Feed,
    ledger::{Ledger, Listing, ReorderBuffer},
    notes::Notes,
    pages::Pages,
    saves::{Earlier, ResultsFile, Saves},
    source::RowSource,
    twins::Prepare,
    work::{Call, Done, Work, WorkJob, outcome},
};

/// What every run has, whatever its work.
pub struct Frame<C: Call> {
    /// The rows, as they are read.
    pub rows: Box<dyn Feed<C>>,
    /// Limits, times, retries.
    pub settings: Settings,
    /// Where outcomes are written.
    pub output: Destination,
    /// Where outcomes go beside that, or instead.
    pub outlet: Option<Outlet<C::Done>>,
    /// How outcomes are written.
    pub style: <C::Done as Done>::Style,
    /// Outcomes in the order of the input.
    pub keep_order: bool,
    /// Stop after so many outcomes that are not `ok`.
    pub max_failures: Option<u64>,
    /// The first so many rows must end `ok` before any other starts.
    pub canary: Option<NonZeroU64>,
    /// Told of each retry.
    pub on_event: Option<OnEvent>,
}

/// Where outcomes are written.
#[derive(Debug)]
pub enum Destination {
    /// Nowhere.
    Nothing,
    /// To what is open: standard output, or what takes its place.
    Stream {
        /// What that is.
        file: File,
        /// What it is called.
        name: PathBuf,
    },
    /// To a results file, a pipe or a device.
    File {
        /// Its path.
        path: PathBuf,
        /// What to do with what is there.
        open: Open,
    },
}

impl Destination {
    /// To standard output, which is this.
    pub fn standard(file: File) -> Self {
        Self::Stream { file, name: "standard output".into() }
    }
}

/// What a kind of work adds to its frame.
pub struct Extras<C: Call> {
    /// How many pages rows may have.
    pub pages: Pages,
    /// Makes the changes to a call that need the journal's seed.
    pub prepare: Option<Box<dyn FnOnce(u64) -> Prepare<C>>>,
    /// Told of each outcome.
    pub listing: Option<Listing<C::Done>>,
    /// How many outcomes may wait for an earlier row; by default a few times the limit.
    pub window: Option<u64>,
    /// Lines of earlier runs that belong to no row of the input go.
    pub prune: bool,
    /// The work itself tells the gauge of bytes, as it reads them.
    pub bytes_are_live: bool,
    /// Rows are noted before their turn: more of them are in doubt after a crash, and none waits for the disk.
    pub notes_ahead: bool,
    /// What comes of rows goes to files of their own.
    pub saving: Option<Saving>,
    /// What the world asks for, where the run is told of it by the stages of its stop: the last row may end in between.
    pub asked: Option<CancelToken>,
}

impl<C: Call> Default for Extras<C> {
    fn default() -> Self {
        Self {
            pages: Pages::default(),
            prepare: None,
            listing: None,
            window: None,
            prune: false,
            bytes_are_live: false,
            notes_ahead: false,
            saving: None,
            asked: None,
        }
    }
}

/// Runs work to its end, or until the token says stop, and accounts for every row. Gives the work back.
///
/// # Errors
/// When it cannot begin: a file in the way. What happens to rows is in the report.
pub async fn run<W: Work>(
    work: W,
    frame: Frame<W::Call>,
    extras: Extras<W::Call>,
    cancel: CancelToken,
    monitor: Monitor,
    gauge: Gauge,
) -> Result<(Report, W), Error> {
    let begun = clock::now();
    let mut earlier = Earlier::default();
    let mut results = None;
    let mut sent_keys = HashSet::new();
    let (journal, recovered, name) =
        match with_reader(frame.output, frame.settings.times.stop_after, &cancel, &gauge).await? {
            Destination::Nothing => (None, Recovered::default(), None),
            Destination::Stream { file, name } => (Some(Journal::stream(file, &name)?), Recovered::default(), None),
            Destination::File { path, open } => {
                results = Some(open);
                earlier = Earlier::new(open.identity);
                let wants_all = extras.saving.is_some() || frame.canary.is_some();
                let (journal, recovered) = Journal::open_with(&path, open, |head, line, fate| {
                    if let Some(key) = head.idempotency_key.filter(|_| extras.prepare.is_some()).and_then(unescape) {
                        sent_keys.insert(xxh3_64(key.as_bytes()));
                    }
                    // What a line says to have saved is not lost with it, even when this run saves nothing.
                    if wants_all || fate == Fate::RunsAgain {
                        earlier.take(head, line, fate);
                    }
                })?;
                (Some(journal), recovered, Some(path))
            }
        };
    // A file is put in order at the end: what it holds in between is what survives a crash.
    let in_order = frame.keep_order && (name.is_none() || frame.outlet.is_some() || extras.listing.is_some());
    let journal = journal.map(Rc::new);
    let report = Report { kept: recovered.counts(), again: recovered.again_later(), ..Report::default() };
    let kept_rows = recovered.kept_rows(extras.pages.most);
    let window =
        extras.window.unwrap_or_else(|| u64::from(frame.settings.limits.limit.get()).saturating_mul(4).max(1024));
    let ledger = Rc::new(RefCell::new(Ledger {
        report,
        journal: journal.clone(),
        keeps_at_once: name.is_some(),
        outlet: frame.outlet,
        listing: extras.listing,
        rows_ended: 0,
        rows_kept: 0,
        style: frame.style,
        order: in_order.then(|| ReorderBuffer::new(window)),
        cancel: cancel.clone(),
        max_failures: frame.max_failures,
        canary: Canary::new(frame.canary),
        canary_waker: None,
        gauge: gauge.clone(),
        bytes_are_live: extras.bytes_are_live,
        refused: None,
        input_ended: false,
        left_over: LeftOver::default(),
        again_unseen: 0,
        order_of_lines: (frame.keep_order && name.is_some())
            .then(|| unisono_journal::InputOrder::new(recovered.first_row())),
        gone: Ok((0, Vec::new())),
        gone_in_doubt: (0, Vec::new()),
        doubts: HashMap::new(),
        begun_behind: HashMap::new(),
        otherwise_repeated: 0,
        old: recovered.old_lines(),
        safe: HashSet::new(),
        saved_before: earlier.saved_before(),
        fields: Fields::default(),
        body: Fields::default(),
    }));
    let seed =
        journal.as_ref().map(|journal| journal.seed()).filter(|seed| *seed != 0).unwrap_or_else(|| fastrand::u64(1..));
    gauge.set_canary(Canary::new(frame.canary).waited_for());
    let saves = match extras.saving {
        None => None,
        Some(saving) => {
            // A stream has no rows to go on with, and so nothing to remember of their files.
            let is_kept = journal.as_ref().is_some_and(|journal| journal.seed() != 0);
            let results = name.as_deref().zip(results).filter(|_| is_kept);
            let results = results.map(|(path, open)| ResultsFile { path, open, seed });
            let saves = Saves::open(saving, results, &earlier).map_err(|error| {
                Error::fault("cannot keep account of the files that are saved, beside the results file").because(error)
            })?;
            Some(Rc::new(RefCell::new(saves)))
        }
    };
    let prepare = extras.prepare.map(|prepare| prepare(seed));
    let ahead = if extras.notes_ahead { frame.settings.limits.limit.get().max(LEAST_AHEAD) } else { 0 };
    let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
    let notes = journal.clone().map(|journal| Rc::new(Notes::new(journal, ahead)));
    let mut source = RowSource::new(frame.rows, ledger.clone(), recovered, earlier, prepare, sent_keys, notes.clone());
    source.pages = extras.pages;
    source.looks_first = frame.canary.is_some() || frame.max_failures.is_some();
    source.saves = saves.clone();
    let on_event = frame.on_event.map(Rc::new);
    source.on_event = on_event.clone();
    let job = WorkJob { work, notes, on_event, gauge: gauge.clone() };
    let batch = Batch {
        settings: frame.settings,
        source,
        sink: Deliver { ledger },
        cancel: cancel.clone(),
        monitor: monitor.clone(),
    };
    let Finished { job, sink, abandoned } = drive(job, batch).await;
    let work = job.work;
    drop(job.notes);
    let mut ledger =
        Rc::into_inner(sink.ledger).expect("the run is over, and nothing else holds its ledger").into_inner();
    ledger.flush();
    drop(ledger.journal.take());
    // A stop that was asked for before the end counts, told or not: its asker may have been promised it.
    let stopped = cancel.reason().or_else(|| extras.asked?.reason());
    let is_stopped = stopped.is_some();
    let is_refused = ledger.refused.is_some();
    let mut report = ledger.report;
    let left_over = match extras.prune && !is_refused {
        true => ledger.left_over,
        false => {
            let count = ledger.left_over.count();
            if count > 0 {
                report
                    .warnings
                    .push(format!("{count} outcomes of earlier runs belong to no item of this input; they are kept"));
            }
            LeftOver::default()
        }
    };
    if let Some(warning) = told_otherwise(ledger.otherwise_repeated, <W::Call as Call>::REPEATABLE_WITH) {
        report.warnings.push(warning);
    }
    match ledger.gone {
        Ok((0, _)) => {}
        Ok((count, names)) => report.warnings.push(told_gone(count, &names)),
        Err(error) => report.failures.push(error_chain(&error)),
    }
    if let (count @ 1.., names) = ledger.gone_in_doubt {
        report.warnings.push(told_gone_in_doubt(count, &names));
    }
    let finish = Finish {
        left_over,
        sort: if is_refused { None } else { ledger.order_of_lines.take() },
        is_complete: ledger.input_ended && !is_refused && !is_stopped,
        tells_anew: !is_refused,
        safe: ledger.safe,
    };
    let closed = match journal {
        Some(journal) => {
            Rc::into_inner(journal).expect("the run is over, and nothing else holds its journal").close(finish).await
        }
        None => Closed::default(),
    };
    // After the last line is on disk: until then its marks are all that says which row a file belongs to.
    if let Some(saves) = saves {
        let is_accounted_for = closed.failure.is_none() && ledger.refused.is_none();
        saves.borrow().finish(is_accounted_for);
    }
    if let Some(error) = ledger.refused {
        return Err(error);
    }
    report.kept.join(&closed.stayed);
    report.kept.subtract(&closed.pruned);
    report.again.join(&closed.stayed_again);
    report.again.subtract(&closed.pruned_again);
    // The reader may have left before the last lines.
    let has_lost_reader = closed.failure.as_ref().is_some_and(|error| error.is_closed_pipe());
    if let Some(error) = closed.failure.filter(|error| !error.is_closed_pipe()) {
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        report.failures.push(format!("{}{hint}", error_chain(&*error)));
        if closed.lost > 0 {
            report.failures.push(format!("{} could not be kept", counted(closed.lost, "outcome", "outcomes")));
        }
    }
    let numbers = monitor.numbers();
    report.retries = numbers.retries;
    report.stopped = stopped;
    if has_lost_reader {
        report.stopped.get_or_insert(CancelReason::OutputClosed);
    }
    // What has its line still counts as it ended, also where a stop came before the input had reached it.
    let not_reached = if ledger.input_ended { 0 } else { kept_rows.saturating_sub(ledger.rows_kept) };
    let stayed = closed.stayed.total().saturating_sub(ledger.again_unseen);
    let ended = ledger.rows_ended + ledger.rows_kept + not_reached + stayed;
    report.pending = gauge.total().map(|total| total.saturating_sub(ended));
    for (host, throttled) in numbers.throttled {
        report.keys.entry(host).or_default().throttled = throttled;
    }
    for (host, away) in numbers.away {
        let host = report.keys.entry(host).or_default();
        (host.away, host.is_away) = (away.total(clock::now()), away.since.is_some());
    }
    if abandoned > 0 {
        let noun = if abandoned == 1 { "attempt" } else { "attempts" };
        report.warnings.push(format!("{abandoned} {noun} could not be stopped"));
    }
    report.wall = clock::now().saturating_duration_since(begun);
    Ok((report, work))
}

/// Opens the pipe that results go to, once it has a reader. A stop comes first: then nothing starts, and there is
/// nothing to write.
async fn with_reader(
    output: Destination,
    stop_after: Option<Duration>,
    cancel: &CancelToken,
    gauge: &Gauge,
) -> Result<Destination, Error> {
    let path = match &output {
        Destination::File { path, .. } if fifo::is_fifo(path) => path.clone(),
        _ => return Ok(output),
    };
    gauge.set_waits_for_reader(true);
    let opened = tokio::select! {
        biased;
        () = cancel.reached(CancelLevel::Drain) => None,
        opened = fifo::open(&path) => Some(opened),
        () = tokio::time::sleep(stop_after.unwrap_or(FOR_EVER)), if stop_after.is_some() => {
            cancel.drain(CancelReason::StopAfter);
            None
        }
    };
    gauge.set_waits_for_reader(false);
    let Some(opened) = opened else { return Ok(Destination::Nothing) };
    // A thread writes to it, which may wait.
    let file = opened.and_then(|sender| sender.into_blocking_fd()).map(File::from);
    let file = file.map_err(|error| Error::usage(format!("cannot open `{}`", path.display())).because(error))?;
    Ok(Destination::Stream { file, name: path })
}

/// Says that some rows went out in a way that could be repeated, and would have gone out in another.
fn told_otherwise(count: u64, with: &str) -> Option<String> {
    let (rows, they) = match count {
        0 => return None,
        1 => ("1 row that".to_owned(), "it is"),
        _ => (format!("{count} rows that"), "they are"),
    };
    Some(format!(
        "{rows} an earlier run may have done could be repeated then, and not in the way of this run, so {they} not done again; \
         a run that does rows again needs {with}"
    ))
}

/// Says that the input has no more of some rows that have their outcomes.
fn told_gone(count: u64, names: &[String]) -> String {
    let (noun, verb, theirs) =
        if count == 1 { ("row", "is", "its outcome is") } else { ("rows", "are", "their outcomes are") };
    format!("{count} {noun} of earlier runs {verb} not in this input, and {theirs} kept{}", listed(count, names))
}

/// Says that the input has no more of what was on its way when a run was killed.
fn told_gone_in_doubt(count: u64, names: &[String]) -> String {
    let (noun, verb, they) = if count == 1 { ("row", "is", "it stays") } else { ("rows", "are", "they stay") };
    let names = listed(count, names);
    format!(
        "{count} {noun} that an earlier run had started when it was killed {verb} not in this input, and {they} in doubt{names}"
    )
}

/// So many, by the noun for one or for several.
pub(crate) fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

fn listed(count: u64, names: &[String]) -> String {
    let named: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let more = if count > names.len() as u64 { ", …" } else { "" };
    if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) }
}

/// Eight rows share a sync of the disk even where two run at once; a sync for each was measured to cost a third.
const LEAST_AHEAD: u32 = 16;

/// How many cores there are for this process: how much of what keeps one busy runs at once unless the user says
/// otherwise.
pub fn cores() -> NonZeroU32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

struct Deliver<D: Done> {
    ledger: Rc<RefCell<Ledger<D>>>,
}

impl<W: Work> Sink<WorkJob<W>> for Deliver<<W::Call as Call>::Done> {
    fn deliver(&mut self, decided: &mut Vec<Decided<WorkJob<W>>>) {
        self.ledger.borrow_mut().record(decided.drain(..).map(outcome));
    }

    fn poll_credit(&mut self, context: &mut std::task::Context<'_>) -> usize {
        self.ledger.borrow().poll_room(context)
    }
}
