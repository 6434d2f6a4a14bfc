//! Digests of files, from a plan to a report.

mod call;
mod manifests;
mod outputs;
mod render;
mod rows;

use std::{path::PathBuf, time::Duration};

use unisono_batch::{Attempt, Context, Halt, Monitor, Settings, Verdict};
use unisono_core::{CancelToken, ErrorKind, Limits, OutcomeKind, RetryPolicy, Times, error_chain};
use unisono_files::{DigestRequest, Digested, Error as FileError, FilesOptions, Known};
use unisono_hash::Digest;

use crate::{
    Error, Frame, Gauge, Listing, Report,
    run::{Extras, cores, run},
    work::{Done, Item, Work, halted_without_effect},
};
use render::render;

pub use call::{Bare, DigestResult, Expected, FileCall, FileTask};
pub use manifests::{Manifests, Tally, Verdict as CheckVerdict};
pub use outputs::{Outputs, Way, resolved, results_of, way_to_write};
pub use rows::{Given, VerifyOptions, path_rows, tree_rows, verify_rows};
pub use unisono_files::Files;

/// Everything about a run, parsed and checked.
pub struct SumPlan {
    /// What every run has. Its limit is how many threads there are.
    pub frame: Frame<FileCall>,
    /// How files are read; the number of threads is the frame's limit.
    pub files: FilesOptions,
    /// Told of each outcome, in order if the frame says so.
    pub listing: Option<Listing<DigestResult>>,
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
        ordered_by_key: false,
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
            false => report.warnings.extend(render(&manifest)?),
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

type FileAttempt = Attempt<Item<FileCall>, DigestResult>;

impl Work for SumWork {
    type Call = FileCall;

    async fn attempt(&self, item: &Item<FileCall>, context: &Context) -> FileAttempt {
        let call = &item.call;
        let known = match &call.task {
            FileTask::Skip(special) => return ended(OutcomeKind::Skipped, DigestResult::skipped(*special)),
            FileTask::Fail(error) => {
                return ended(
                    OutcomeKind::Failed,
                    DigestResult { error: Some(error.clone()), ..DigestResult::default() },
                );
            }
            FileTask::Digest { known } => *known,
            FileTask::Verify(expected) => return self.verify(call, expected, context).await,
        };
        let request = DigestRequest { path: call.path.clone(), algorithms: call.algorithms.clone(), known };
        match self.files.digest(request, context).await {
            Ok(digested) => ended(OutcomeKind::Ok, read(digested)),
            // It has become one since it was found.
            Err(error) => match error.as_special() {
                Some(special) => ended(OutcomeKind::Skipped, DigestResult::skipped(special)),
                None => failed(&error),
            },
        }
    }

    async fn background(&self) {
        self.files.deliver().await
    }

    fn halted(&self, _item: &Item<FileCall>, halt: Halt, _last: Option<DigestResult>) -> (Verdict, DigestResult) {
        halted_without_effect(halt)
    }
}

impl SumWork {
    async fn verify(&self, call: &FileCall, expected: &Expected, context: &Context) -> FileAttempt {
        let mut tries = expected.bare.map_or(Vec::new(), |bare| expected.tally.order(bare.likely, bare.other).to_vec());
        let mut digests = expected.digests.clone();
        loop {
            if let Some(bare) = (!tries.is_empty()).then(|| tries.remove(0)) {
                digests = vec![bare];
            }
            let algorithms = digests.iter().map(|digest| digest.algorithm()).collect();
            let request = DigestRequest { path: call.path.clone(), algorithms, known: Known::Nothing };
            let digested = match self.files.digest(request, context).await {
                Ok(digested) => digested,
                Err(error) => return not_verified(&error, expected),
            };
            if expected.may_be_missing && !expected.was_there {
                // That there is one is what matters, so one that is counted for each try does no harm.
                expected.tally.count_present(true);
            }
            let fits = digested.digests == digests;
            match expected.bare {
                None => return compared(digested, &digests, expected.size),
                Some(Bare { likely, other }) if fits && expected.tally.accepts(likely, other, digests[0]) => {
                    return ended(OutcomeKind::Ok, read(digested));
                }
                Some(Bare { likely, other }) if tries.is_empty() => {
                    expected.tally.fits_neither(likely, other);
                    let (likely, other) = (likely.algorithm(), other.algorithm());
                    let why = match fits {
                        true => format!(
                            "it fits as {} alone, and other lines of its manifest do not",
                            digests[0].algorithm()
                        ),
                        false => format!("its {likely} is another one, and so is its {other}"),
                    };
                    return mismatch(digested, why);
                }
                Some(_) => {}
            }
        }
    }
}

fn ended(kind: OutcomeKind, hashed: DigestResult) -> FileAttempt {
    Attempt::new(Verdict::Final(kind), hashed)
}

fn read(Digested { digests, stat }: Digested) -> DigestResult {
    DigestResult { digests, stat: Some(stat), ..DigestResult::default() }
}

fn failed(error: &FileError) -> FileAttempt {
    let hashed = DigestResult::failed(error.kind(), error_chain(error));
    match error.is_retryable() {
        true => Attempt::new(Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None }, hashed),
        false => ended(OutcomeKind::Failed, hashed),
    }
}

fn not_verified(error: &FileError, expected: &Expected) -> FileAttempt {
    if error.kind() != ErrorKind::Missing || !expected.may_be_missing {
        return failed(error);
    }
    if expected.was_there {
        expected.tally.count_present(false);
    }
    ended(OutcomeKind::Skipped, DigestResult::failed(ErrorKind::Missing, error_chain(error)))
}

fn compared(digested: Digested, expected: &[Digest], size: Option<u64>) -> FileAttempt {
    let wrong = expected.iter().zip(&digested.digests).find(|(expected, found)| expected != found);
    match (wrong, size) {
        (Some((expected, _)), _) => mismatch(digested, format!("its {} is another one", expected.algorithm())),
        (None, Some(size)) if size != digested.stat.size => {
            let why = format!("it has {} bytes instead of {size}", digested.stat.size);
            mismatch(digested, why)
        }
        (None, _) => ended(OutcomeKind::Ok, read(digested)),
    }
}

fn mismatch(digested: Digested, why: String) -> FileAttempt {
    ended(OutcomeKind::Failed, DigestResult { error: Some(Box::new((ErrorKind::Mismatch, why))), ..read(digested) })
}

/// Files that are with a thread or ready for it: enough that none waits for the reactor.
const IN_HAND: u32 = 128;
/// Outcomes that may wait for an earlier file: a large one that comes first must not keep the others from being read.
const WINDOW: u64 = 1 << 20;
