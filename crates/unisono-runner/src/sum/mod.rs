//! Digests of files, from a plan to a report.

mod call;
mod manifests;
mod outputs;
mod plan;
mod render;
mod rows;
mod work;

use std::num::NonZeroU32;

use unisono_batch::Monitor;
use unisono_core::CancelToken;
use unisono_files::FilesOptions;
use unisono_sys::descriptors;

use crate::{
    Error, Gauge, Report,
    run::{Extras, counted, run},
};
use render::render;
use work::SumWork;

pub use call::{Bare, DigestResult, Expected, FileCall, FileTask};
pub use manifests::{CheckVerdict, ManifestTally, Manifests};
pub use outputs::{Outputs, Way, resolved, results_of, way_to_write};
pub use plan::{ManifestOut, SumPlan, sum_settings};
pub use rows::{GivenPath, VerifyOptions, path_rows, tree_rows, verify_rows};
pub use unisono_files::Files;

/// Runs a plan to its end, or until the token says stop, and accounts for every file.
///
/// # Errors
/// When it cannot begin: results in the way, no threads. What happens to files is in the report.
pub async fn sum(mut plan: SumPlan, cancel: CancelToken, monitor: Monitor, gauge: Gauge) -> Result<Report, Error> {
    let limits = &mut plan.frame.settings.limits;
    let threads = limits.limit.get();
    let options = FilesOptions { threads: threads as usize, ..plan.files };
    // A thread has many files in hand, and more are ready when it comes for them.
    let wanted = limits.limit.saturating_mul(IN_HAND.try_into().expect("it is not zero"));
    // Each has one at most; one at a time is tried in any case.
    let afforded = descriptors::left().saturating_sub(OTHER_DESCRIPTORS).clamp(1, wanted.get().into());
    limits.limit = NonZeroU32::try_from(u32::try_from(afforded).expect("it was clamped")).expect("it was clamped");
    limits.per_key = limits.limit;
    let counter = gauge.clone();
    let on_bytes = move |bytes| counter.add_bytes(bytes);
    let files = Files::start(options, on_bytes).map_err(|error| Error::fault("cannot start threads").because(error))?;
    let extras =
        Extras { listing: plan.listing, window: Some(WINDOW), prune: true, bytes_are_live: true, ..Extras::default() };
    let (mut report, _) = run(SumWork { files }, plan.frame, extras, cancel, monitor, gauge).await?;
    // What of the bound was felt.
    if afforded < u64::from(threads) * READ_AT_ONCE && report.counts.total() > afforded {
        let files = counted(afforded, "file", "files");
        report.warnings.push(format!(
            "there are file descriptors for {files} at once, fewer than {} can take (raise `ulimit -n` for more)",
            counted(threads.into(), "thread", "threads")
        ));
    }
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

/// Files whose pieces a thread reads in one round.
const READ_AT_ONCE: u64 = 32;
/// Files that are with a thread or ready for it: enough that none waits for the reactor.
const IN_HAND: u32 = 128;
/// Results, input, and what looking through folders takes.
const OTHER_DESCRIPTORS: u64 = 8;
/// Outcomes that may wait for an earlier file: a large one that comes first must not keep the others from being read.
const WINDOW: u64 = 1 << 20;
