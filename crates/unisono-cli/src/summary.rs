//! What a run came to, for a person to read.

use std::time::Duration;

use unisono_core::{CancelReason, ErrorKind, OutcomeKind, format_duration, format_size};
use unisono_runner::{ErrorCount, Report, RerunMode};

use crate::{
    failure::Failure,
    terminal::{PrintableLine, Terminal},
};

/// Prints the summary of a run.
pub fn print(report: &Report, terminal: &Terminal, resumable: bool) {
    for line in lines(report, terminal, resumable) {
        terminal.note(line);
    }
}

/// Prints what went wrong, and nothing where all is well. What is our own fault is told however quiet it is to be,
/// since the exit status alone would be a riddle.
pub fn print_errors(report: &Report, terminal: &Terminal) {
    for error in report.errors.most_frequent(MOST_ERRORS) {
        terminal.note(terminal.red("error").and(format!(": {}", told(&error))));
    }
    for failure in &report.failures {
        Failure::fault(failure).report();
    }
    // What is missing without an item that failed, such as further pages, is not to be lost quietly either.
    report.warnings.iter().for_each(|warning| terminal.note(format!("note: {warning}")));
}

fn lines(report: &Report, terminal: &Terminal, resumable: bool) -> Vec<PrintableLine> {
    let mut lines = vec![counts(report, terminal)];
    lines.extend(report.errors.most_frequent(MOST_ERRORS).iter().map(|error| format!("  {}", told(error)).into()));
    lines.push(numbers(report).into());
    lines.extend(throttled(report).map(PrintableLine::from));
    lines.extend(away(report).map(PrintableLine::from));
    lines.extend(report.warnings.iter().map(|warning| format!("  note: {warning}").into()));
    lines.extend(report.failures.iter().map(|failure| terminal.red("error").and(format!(": {failure}"))));
    lines.extend(why_stopped(report).map(PrintableLine::from));
    lines.extend(hints(report).map(|hint| terminal.bold("hint").and(format!(": {hint}"))));
    if let Some(next) = next(report, resumable) {
        lines.push(terminal.bold("next").and(format!(": {next}")));
    }
    lines
}

fn told(error: &ErrorCount) -> String {
    format!("{} × {}: {} (first: {})", error.count, error.kind, error.message, error.example)
}

fn counts(report: &Report, terminal: &Terminal) -> PrintableLine {
    let rows = report.rows();
    if rows == 0 && report.pending.unwrap_or(0) == 0 {
        return match report.failures.is_empty() && report.stopped.is_none() {
            true => "nothing to do: the input is empty".into(),
            false => "nothing done".into(),
        };
    }
    let mut parts = Vec::new();
    for kind in OutcomeKind::ALL {
        let count = report.count(kind);
        if count == 0 {
            continue;
        }
        let text = format!("{count} {kind}");
        parts.push(if kind == OutcomeKind::Ok { terminal.green(&text) } else { terminal.red(&text) });
    }
    if let Some(pending) = report.pending.filter(|pending| *pending > 0) {
        parts.push(format!("{pending} pending").into());
    }
    let kept = match report.kept.total() {
        0 => String::new(),
        kept => format!(" ({kept} of an earlier run)"),
    };
    let noun = if rows == 1 { "outcome" } else { "outcomes" };
    let joined = parts.into_iter().reduce(|all, part| all.and(", ").and(part)).unwrap_or_default();
    terminal.bold("done:").and(format!(" {rows} {noun}: ")).and(joined).and(kept)
}

fn numbers(report: &Report) -> String {
    let mut parts = vec![format!("{} s", seconds(report.wall))];
    let done = report.counts.total();
    if done > 0 {
        parts.push(format!("{:.0}/s", done as f64 / report.wall.as_secs_f64().max(0.001)));
    }
    let percentile = |percent| report.latency.percentile(percent).map_or(String::new(), millis);
    if report.latency.count() > 0 {
        parts.push(format!("p50 {} p95 {} p99 {}", percentile(50.0), percentile(95.0), percentile(99.0)));
    }
    parts.push(format_size(report.bytes));
    parts.push(format!("{} {}", report.retries, if report.retries == 1 { "retry" } else { "retries" }));
    format!("  {}", parts.join(" · "))
}

fn throttled(report: &Report) -> Option<String> {
    let mut hosts: Vec<_> = report.keys.iter().filter(|(_, host)| !host.throttled.is_zero()).collect();
    hosts.sort_by_key(|(_, host)| std::cmp::Reverse(host.throttled));
    let shown: Vec<String> =
        hosts.iter().take(5).map(|(name, host)| format!("{name} for {} s", seconds(host.throttled))).collect();
    (!shown.is_empty()).then(|| format!("  throttled: {}", shown.join(", ")))
}

fn away(report: &Report) -> Option<String> {
    let mut hosts: Vec<_> = report.keys.iter().filter(|(_, host)| host.away >= WORTH_TELLING).collect();
    hosts.sort_by_key(|(_, host)| std::cmp::Reverse(host.away));
    let shown: Vec<String> = hosts
        .iter()
        .take(5)
        .map(|(name, host)| {
            let still = if host.is_away { ", and still at the end" } else { "" };
            format!("{name} for {} s{still}", seconds(host.away))
        })
        .collect();
    let more = hosts.len().saturating_sub(shown.len());
    let and = if more > 0 { format!("; and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| format!("  away: {}{and}", shown.join("; ")))
}

fn why_stopped(report: &Report) -> Option<String> {
    Some(match report.stopped? {
        CancelReason::Interrupt => "  interrupted".to_owned(),
        CancelReason::Terminate => "  stopped by SIGTERM".to_owned(),
        CancelReason::Hangup => "  stopped: the terminal is gone".to_owned(),
        CancelReason::StopAfter => "  stopped: --stop-after has passed".to_owned(),
        CancelReason::MaxFailures => "  stopped: --max-failures was reached".to_owned(),
        CancelReason::Canary => {
            "  stopped: one of the first, for which the others waited (--canary), did not end ok".to_owned()
        }
        CancelReason::MachinesLost => "  stopped: the cluster cannot be reached any more".to_owned(),
        CancelReason::OutputClosed => "  stopped: nobody reads the output any more".to_owned(),
        _ => return None,
    })
}

/// What to do about rows that failed by no fault of theirs.
fn hints(report: &Report) -> impl Iterator<Item = &'static str> {
    let is_tls = report.errors.most_frequent(usize::MAX).iter().any(|error| error.kind == ErrorKind::Tls);
    let hint = |kind: &ErrorKind| match kind {
        ErrorKind::Away => Some("--host-away says how long what is away is waited for"),
        ErrorKind::RetryBudget => Some(
            "--retry-budget says how often all that goes to one host may be repeated together, and `none` that --retries alone does",
        ),
        _ => None,
    };
    is_tls.then_some(TRUST).into_iter().chain(report.passing.keys().filter_map(hint))
}

/// For those who have typed the `-k` of curl as well, which is none here.
const TRUST: &str =
    "--cacert FILE says which certificates are trusted, and --insecure trusts any, for tests only (-k is --keep-order)";

/// What can be done about what is missing: no more than what the named option will do.
fn next(report: &Report, resumable: bool) -> Option<String> {
    let passing: u64 = report.passing.values().sum();
    let cancelled = report.again.get(RerunMode::Resume).saturating_sub(passing);
    let was_cut_short = report.stopped.is_some() && (report.pending.is_none() || !report.failures.is_empty());
    let missing = report.pending.unwrap_or(0) + cancelled > 0 || was_cut_short;
    if !resumable {
        // Nothing but the first rows was done, and going on would stop at them again.
        if report.canary.is_some() && report.stopped == Some(CancelReason::Canary) {
            return Some("the same command begins anew; with `-o FILE` it keeps what is done".into());
        }
        let again = || format!("with `-o FILE --resume` the same command would run again {}", passing_by_kind(report));
        let is_stopped = missing || report.stopped.is_some();
        return match is_stopped {
            true => Some("add `-o FILE --resume` to be able to go on where a run stopped".into()),
            false => (passing > 0).then(again),
        };
    }
    if let Some(canary) = report.canary.filter(|_| missing) {
        return Some(past_the_canary(canary));
    }
    let mut parts = Vec::new();
    if missing {
        parts.push("--resume goes on where this one stopped".to_owned());
    }
    if passing > 0 {
        let and = if missing { "and " } else { "--resume " };
        parts.push(format!("{and}runs again {}", passing_by_kind(report)));
    }
    if missing {
        return Some(format!("the same command with {}", parts.join(", ")));
    }
    if let Some(failed) = counted(report.again.get(RerunMode::Failed)) {
        parts.push(format!("--retry-failed runs again {failed} that failed or timed out"));
    }
    if let Some(ambiguous) = counted(report.again.get(RerunMode::Ambiguous)) {
        parts.push(format!("--retry-ambiguous does again {ambiguous} that may have been done, {TWICE}"));
    }
    (!parts.is_empty()).then(|| format!("the same command with {}", parts.join("; with ")))
}

/// How the others may start that waited for the first, which did not end well.
fn past_the_canary(canary: RerunMode) -> String {
    let (option, twice) = match canary {
        RerunMode::Resume => ("--resume", String::new()),
        RerunMode::Failed => ("--retry-failed", String::new()),
        RerunMode::Ambiguous => ("--retry-ambiguous", format!(" (it may have been done, {TWICE})")),
    };
    let without = if canary == RerunMode::Resume { "" } else { "; with --resume and without --canary the others run" };
    format!("the same command with {option} tries the canary again{twice}, and goes on when it is well{without}")
}

/// So many rows, if there are any.
fn counted(rows: u64) -> Option<String> {
    match rows {
        0 => None,
        1 => Some("1 row".into()),
        _ => Some(format!("{rows} rows")),
    }
}

/// How many rows the next resume runs again, and what decided them.
fn passing_by_kind(report: &Report) -> String {
    let parts: Vec<String> = report.passing.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let total: u64 = report.passing.values().sum();
    let noun = if total == 1 { "row" } else { "rows" };
    format!(
        "{total} {noun} that failed by no fault of {} ({})",
        if total == 1 { "its own" } else { "their own" },
        parts.join(", ")
    )
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

fn millis(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{:.1}ms", duration.as_secs_f64() * 1000.0),
        _ => format_duration(Duration::from_millis(duration.as_millis() as u64)),
    }
}

/// A host that was looked for once was not away by what a person would call so.
const WORTH_TELLING: Duration = Duration::from_millis(100);

/// What has to be known before something is done again that may have been done.
const TWICE: &str = "at least in part: look first, it may be done twice";
/// More hardly helps, and scrolls away what was there.
const MOST_ERRORS: usize = 5;
