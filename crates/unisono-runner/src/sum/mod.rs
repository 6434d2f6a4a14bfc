//! Digests of files, from a plan to a report.

mod call;
mod render;
mod rows;

use std::{path::PathBuf, time::Duration};

use unisono_batch::{Attempt, Context, Halt, Monitor, Settings, Verdict};
use unisono_core::{CancelToken, ErrorKind, Limits, OutcomeKind, RetryPolicy, Times, error_chain};
use unisono_files::{Digested, Error as FileError, FilesOptions, Request};

use crate::{
    Error, Frame, Gauge, Listing, Report,
    run::{Extras, cores, run},
    work::{Done, Item, Work, halted_without_effect},
};
use render::render;

pub use call::{Errand, Expected, FileCall, Hashed};
pub use rows::{Malformed, MalformedLines, VerifyOptions, path_rows, tree_rows, verify_rows};
pub use unisono_files::Files;

/// Everything about a run, parsed and checked.
pub struct SumPlan {
    /// What every run has. Its limit is how many threads there are.
    pub frame: Frame<FileCall>,
    /// How files are read; the number of threads is the frame's limit.
    pub files: FilesOptions,
    /// Told of each outcome, in order if the frame says so.
    pub listing: Option<Listing<Hashed>>,
    /// A manifest that is written from the results once all is done.
    pub manifest: Option<ManifestOut>,
}

/// A manifest that is written at the end.
#[derive(Debug)]
pub struct ManifestOut {
    /// Where it goes.
    pub path: PathBuf,
    /// The results that it is made of.
    pub results: PathBuf,
    /// How its lines look.
    pub layout: unisono_files::manifest::Layout,
}

/// The limits and times of files: a thread per core, an hour for a file, a second try for one that changed.
pub fn sum_settings() -> Settings {
    Settings {
        limits: Limits::new(Some(cores()), None),
        times: Times { timeout: None, deadline: Some(Duration::from_secs(60 * 60)), ..Times::default() },
        retry: RetryPolicy { repeats: 1, ..RetryPolicy::default() },
    }
}

/// Runs a plan to its end, or until the token says stop, and accounts for every file.
///
/// # Errors
/// When it cannot begin: results in the way, no threads. What happens to files is in the report.
pub async fn sum(mut plan: SumPlan, cancel: CancelToken, monitor: Monitor, gauge: Gauge) -> Result<Report, Error> {
    let limits = &mut plan.frame.settings.limits;
    let threads = limits.limit.get();
    let options = FilesOptions { threads: threads as usize, ..plan.files };
    // A thread has many files in hand, and more are ready when it comes for them.
    limits.limit = limits.limit.saturating_mul(IN_HAND.try_into().expect("it is not zero"));
    limits.per_key = limits.limit;
    let counter = gauge.clone();
    let on_bytes = move |bytes| counter.add_bytes(bytes);
    let files = Files::start(options, on_bytes).map_err(|error| Error::fault("cannot start threads").because(error))?;
    let extras =
        Extras { listing: plan.listing, window: Some(WINDOW), prune: true, bytes_are_live: true, ..Extras::default() };
    let (mut report, _) = run(SumWork { files }, plan.frame, extras, cancel, monitor, gauge).await?;
    if let Some(manifest) = plan.manifest {
        match report.stopped.is_some() || !report.failures.is_empty() {
            false => render(&manifest)?,
            true => report.warnings.push(format!(
                "`{}` is written once all is done; what is done so far is in `{}`",
                manifest.path.display(),
                manifest.results.display()
            )),
        }
    }
    Ok(report)
}

struct SumWork {
    files: Files,
}

type Tried = Attempt<Item<FileCall>, Hashed>;

impl Work for SumWork {
    type Call = FileCall;

    async fn attempt(&self, item: &Item<FileCall>, context: &Context) -> Tried {
        let call = &item.call;
        let is_regular = match &call.errand {
            Errand::Skip(special) => return ended(OutcomeKind::Skipped, Hashed::skipped(*special)),
            Errand::Fail(error) => {
                return ended(OutcomeKind::Failed, Hashed { error: Some(error.clone()), ..Hashed::default() });
            }
            Errand::Digest { is_regular } => *is_regular,
            Errand::Verify(_) => false,
        };
        let request = Request { path: call.path.clone(), algorithms: call.algorithms.clone(), is_regular };
        match (self.files.digest(request, context).await, &call.errand) {
            (Ok(digested), Errand::Verify(expected)) => compared(digested, expected),
            (Ok(Digested { digests, stat }), _) => {
                ended(OutcomeKind::Ok, Hashed { digests, stat: Some(stat), ..Hashed::default() })
            }
            (Err(error), errand) => judged(&error, errand),
        }
    }

    async fn aside(&self) {
        self.files.relay().await
    }

    fn halted(&self, _item: &Item<FileCall>, halt: Halt, _last: Option<Hashed>) -> (Verdict, Hashed) {
        halted_without_effect(halt)
    }
}

fn ended(kind: OutcomeKind, hashed: Hashed) -> Tried {
    Attempt::new(Verdict::Final(kind), hashed)
}

fn judged(error: &FileError, errand: &Errand) -> Tried {
    let kind = error.kind();
    let hashed = Hashed::failed(kind, error_chain(error));
    match (errand, error.as_special()) {
        (Errand::Digest { .. }, Some(special)) => ended(OutcomeKind::Skipped, Hashed::skipped(special)),
        (Errand::Verify(expected), _) if kind == ErrorKind::Missing && expected.may_be_missing => {
            ended(OutcomeKind::Skipped, hashed)
        }
        _ if error.is_retryable() => {
            Attempt::new(Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None }, hashed)
        }
        _ => ended(OutcomeKind::Failed, hashed),
    }
}

fn compared(digested: Digested, expected: &Expected) -> Tried {
    let Digested { digests, stat } = digested;
    let wrong = expected.digests.iter().zip(&digests).find(|(expected, found)| expected != found);
    let why = match (wrong, expected.size) {
        (Some((expected, _)), _) => Some(format!("its {} is another one", expected.algorithm())),
        (None, Some(size)) if size != stat.size => Some(format!("it has {} bytes instead of {size}", stat.size)),
        (None, _) => None,
    };
    let kind = if why.is_none() { OutcomeKind::Ok } else { OutcomeKind::Failed };
    let error = why.map(|why| Box::new((ErrorKind::Mismatch, why)));
    ended(kind, Hashed { digests, stat: Some(stat), error, ..Hashed::default() })
}

/// Files that are with a thread or ready for it: enough that none waits for the reactor.
const IN_HAND: u32 = 128;
/// Outcomes that may wait for an earlier file: a large one that comes first must not keep the others from being read.
const WINDOW: u64 = 1 << 20;
