//! Bulk HTTP, from a plan to a report.

use std::{cell::RefCell, path::PathBuf, rc::Rc};

use unisono_batch::{Decided, Monitor, Settings, Sink, drive};
use unisono_core::{CancelToken, clock, error_chain};
use unisono_http::{Client, HttpJob, Options};
use unisono_journal::{Closed, Journal, Open, Recovered};

use crate::{
    BodyMode, Error, Filter, Gauge, OnRetry, Outlet, Paginate, Report,
    input::Feed,
    job::{FetchJob, outcome},
    ledger::{Ledger, Order, Style},
    save::Saver,
    source::Rows,
};

/// Everything about a run, parsed and checked.
pub struct FetchPlan {
    /// The rows, as they are read.
    pub rows: Box<dyn Feed>,
    /// How to speak to servers.
    pub http: Options,
    /// Limits, times, retries.
    pub settings: Settings,
    /// Where outcomes are written.
    pub output: Output,
    /// Where outcomes go beside that, or instead.
    pub outlet: Option<Outlet>,
    /// How bodies are written.
    pub body: BodyMode,
    /// Whether the headers of answers are written.
    pub headers: bool,
    /// What to keep of an answer.
    pub select: Option<Filter>,
    /// Whether and how answers have further pages.
    pub paginate: Option<Paginate>,
    /// Outcomes in the order of the input.
    pub keep_order: bool,
    /// Stop after so many outcomes that are not `ok`.
    pub max_failures: Option<u64>,
    /// Give each request that is not idempotent a key that makes it so.
    pub idempotency_keys: bool,
    /// Told of each retry.
    pub on_retry: Option<OnRetry>,
}

/// Where outcomes are written.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    Nothing,
    /// To standard output, or what takes its place.
    Stream(std::fs::File),
    /// To a results file.
    File {
        /// Its path.
        path: PathBuf,
        /// What to do with what is there.
        open: Open,
    },
}

/// Runs a plan to its end, or until the token says stop, and accounts for every row.
///
/// # Errors
/// When it cannot begin: a file in the way, a changed input, a certificate that is none. What happens to rows is in
/// the report.
pub async fn fetch(plan: FetchPlan, cancel: CancelToken, monitor: Monitor, gauge: Gauge) -> Result<Report, Error> {
    let begun = clock::now();
    let client = Client::new(plan.http)?;
    let (journal, recovered, name) = match plan.output {
        Output::Nothing => (None, Recovered::default(), None),
        Output::Stream(file) => (Some(Journal::stream(file, "standard output".as_ref())?), Recovered::default(), None),
        Output::File { path, open } => {
            let (journal, recovered) = Journal::open(&path, open)?;
            (Some(journal), recovered, Some(path))
        }
    };
    let in_order = plan.keep_order && (name.is_none() || plan.outlet.is_some());
    let journal = journal.map(Rc::new);
    let report = Report { kept: recovered.counts(), ..Report::default() };
    let window = u64::from(plan.settings.limits.limit.get()).saturating_mul(4).max(1024);
    let ledger = Rc::new(RefCell::new(Ledger {
        report,
        journal: journal.clone(),
        outlet: plan.outlet,
        style: Style { body: plan.body, headers: plan.headers },
        order: in_order.then(|| Order::new(window)),
        cancel: cancel.clone(),
        max_failures: plan.max_failures,
        gauge: gauge.clone(),
        refused: None,
        fields: Vec::new(),
        body: Vec::new(),
    }));
    let seed =
        journal.as_ref().map(|journal| journal.seed()).filter(|seed| *seed != 0).unwrap_or_else(|| fastrand::u64(1..));
    let keys = plan.idempotency_keys.then_some(seed);
    let source = Rows::new(plan.rows, ledger.clone(), recovered, plan.paginate.is_some(), keys);
    let job = FetchJob {
        http: HttpJob::new(client.clone()),
        journal: journal.clone(),
        select: plan.select,
        paginate: plan.paginate,
        saver: Saver::default(),
        on_retry: plan.on_retry,
        cut_off: RefCell::default(),
    };
    let finished =
        drive(&job, plan.settings, source, Deliver { ledger: ledger.clone() }, cancel.clone(), monitor.clone()).await;
    let cut_off = job.cut_off.take();
    drop(job);
    let mut ledger = Rc::into_inner(ledger).expect("the run is over, and nobody else holds its ledger").into_inner();
    ledger.flush();
    drop(ledger.journal.take());
    let closed = match journal {
        Some(journal) => {
            Rc::into_inner(journal).expect("the run is over, and nobody else holds its journal").close().await
        }
        None => Closed::default(),
    };
    if let Some(error) = ledger.refused {
        return Err(error);
    }
    let mut report = ledger.report;
    if let Some(error) = closed.failure.filter(|error| !error.is_closed_pipe()) {
        report.failures.push(error_chain(&*error));
        if closed.lost > 0 {
            report.failures.push(format!("{} outcomes could not be written", closed.lost));
        }
    }
    if plan.keep_order
        && let Some(path) = &name
    {
        unisono_journal::sort(path)?;
    }
    let numbers = monitor.numbers();
    report.retries = numbers.retries;
    report.stopped = cancel.reason().filter(|_| cancel.level() > unisono_core::CancelLevel::Run);
    report.pending = gauge.total().map(|total| total.saturating_sub(gauge.done()));
    for (host, throttled) in numbers.throttled {
        report.hosts.entry(host).or_default().throttled = throttled;
    }
    if let Some(most) = client.most_connections() {
        report.warnings.push(format!(
            "the process ran out of file descriptors, so at most {most} connections were open at once (raise `ulimit -n` for more)"
        ));
    }
    if finished.abandoned > 0 {
        report.warnings.push(format!("{} attempts could not be stopped", finished.abandoned));
    }
    if let Some(first) = cut_off.first() {
        let count = cut_off.len();
        report.warnings.push(format!(
            "{count} rows have more pages than --max-pages allows (the first: {first}); --resume goes on with them"
        ));
    }
    report.wall = clock::now().saturating_duration_since(begun);
    Ok(report)
}

struct Deliver {
    ledger: Rc<RefCell<Ledger>>,
}

impl Sink<FetchJob> for Deliver {
    fn deliver(&mut self, decided: &mut Vec<Decided<FetchJob>>) {
        self.ledger.borrow_mut().record(decided.drain(..).map(outcome));
    }

    fn poll_credit(&mut self, context: &mut std::task::Context<'_>) -> usize {
        self.ledger.borrow().poll_room(context)
    }
}
