//! `unisono sum`: digests of trees, and their verification.

mod args;
mod lines;
mod plan;
mod survey;

use std::path::PathBuf;

use unisono_runner::{Frame, Gauge, SumPlan, file_tools::FilesOptions};

use crate::{
    failure::Failure,
    launch::{launch, on_event},
    signals::Handling,
    waiting::{OtherEnd, opening, typed},
};
pub use args::SumArgs;
use survey::Survey;

/// Runs the command; returns its exit status.
pub fn run(args: SumArgs) -> Result<u8, Failure> {
    let terminal = args.show.terminal();
    args.check_words()?;
    args.refuse_own_input()?;
    let kernel = args.limits.kernel()?;
    let way = args.way()?;
    let manifests = if args.check.check { &args.paths[..] } else { &[] };
    let read = manifests.iter().chain(&args.from).map(PathBuf::as_path);
    args.from.iter().for_each(|path| typed(path, "names", &args.show, &terminal));
    let (rows, manifests) = opening(read, OtherEnd::Writer, &terminal, || args.rows())?;
    let (output, manifest) = args.outputs(way)?;
    let lines = opening(args.output.out.as_deref(), OtherEnd::Reader, &terminal, || args.lines(way))?;
    let plan = SumPlan {
        files: FilesOptions { kernel, direct: args.limits.direct, ..FilesOptions::default() },
        listing: args.listing(&terminal, lines.clone()),
        manifest,
        frame: Frame {
            rows: Box::new(rows),
            settings: args.limits.settings(),
            output,
            outlet: None,
            style: (),
            keep_order: !args.listing.unordered,
            max_failures: args.limits.max_failures,
            canary: args.limits.canary,
            on_event: on_event(&args.show, &terminal),
        },
    };
    let resumable = args.output.out.is_some();
    let survey = Survey::of(&args);
    let run = |cancel, monitor, gauge: Gauge| {
        let survey = survey.map(|survey| survey.start(gauge.clone()));
        async move {
            let report = unisono_runner::sum(plan, cancel, monitor, gauge).await;
            drop(survey);
            let mut report = report?;
            lines.borrow_mut().settle(&mut report);
            Ok(report)
        }
    };
    let report = launch(&args.show, &terminal, None, resumable, Handling::default(), run)?;
    let Some(manifests) = manifests else { return Ok(report.exit_code()) };
    let verdict = manifests.verdict(args.check.strict, args.check.ignore_missing);
    if !args.check.status {
        verdict.warnings.iter().for_each(|warning| terminal.note(format!("warning: {warning}")));
    }
    verdict.failures.iter().for_each(|failure| terminal.note(format!("error: {failure}")));
    Ok(report.exit_code().max(u8::from(!verdict.failures.is_empty())))
}
