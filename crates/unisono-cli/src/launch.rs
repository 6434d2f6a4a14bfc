//! What every command that runs a batch does around it: signals, a reactor, progress, the summary, the exit status.

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use unisono_core::{CancelToken, error_chain, reactor::Reactor};
use unisono_runner::{Error, Gauge, Monitor, OnEvent, Report, Row, RowBatch, RunEvent};
use unisono_sys::descriptors;

use crate::{
    args::ShowArgs,
    failure::Failure,
    output::{self, StandardOutput},
    progress::Progress,
    signals::{self, Handling},
    summary,
    terminal::Terminal,
};

/// Runs a batch; returns its report, which has been shown.
///
/// `run` is given what stops, steers and counts it. `resumable` says whether its outcomes are in a file.
pub fn launch<F>(
    show: &ShowArgs,
    terminal: &Terminal,
    total: Option<u64>,
    resumable: bool,
    handling: Handling,
    run: impl FnOnce(CancelToken, Monitor, Gauge) -> F,
) -> Result<Report, Failure>
where
    F: Future<Output = Result<Report, Error>>,
{
    let (cancel, monitor, gauge) = (CancelToken::new(), Monitor::new(), Gauge::default());
    if let Some(total) = total {
        gauge.set_total(total);
    }
    // Connections, files and commands each have theirs. Raised by the process that does the work: one that only starts
    // it again would hand on the raised limit as its own.
    descriptors::raise();
    signals::watch(&cancel, &monitor, terminal, handling)?;
    let progress = (!show.is_quiet()).then(|| Progress::start(show.progress, terminal, &gauge, &monitor));
    let report = Reactor::run_here(|| run(cancel, monitor, gauge));
    drop(progress);
    let report = report.map_err(|error| Failure::fault(error_chain(&error)))??;
    match show.is_quiet() {
        true => summary::print_errors(&report, terminal),
        false => summary::print(&report, terminal, resumable),
    }
    Ok(report)
}

/// Tells why nothing can begin, and with `-v` of each retry and of hosts that come and go.
pub fn on_event(show: &ShowArgs, terminal: &Terminal) -> Option<OnEvent> {
    let (terminal, verbose) = (terminal.clone(), show.verbose);
    Some(Box::new(move |event| match event {
        RunEvent::Waits(why) => terminal.note(why),
        RunEvent::Retry(retry) if verbose => terminal.note(format!("{}: {retry}", retry.subject.name())),
        RunEvent::Peer(key, news) if verbose => terminal.note(format!("{key}: {news}")),
        RunEvent::Attempt(..) | RunEvent::Retry(_) | RunEvent::Peer(..) => {}
    }))
}

/// Prints what would be done, one JSON object per row, and does nothing.
pub fn dry_run<C>(
    feed: mpsc::Receiver<RowBatch<C>>,
    terminal: &Terminal,
    describe: impl Fn(&C, &mut Map<String, Value>),
) -> Result<u8, Failure> {
    let (mut number, mut bad) = (0u64, 0u64);
    let printed = print_rows(feed, true, |row, line| {
        let mut object = Map::new();
        object.insert("row".into(), number.into());
        object.insert("id".into(), row.id.map_or_else(|| format!("r{number}"), Into::into).into());
        match &row.call {
            Ok(call) => describe(call, &mut object),
            Err(why) => {
                bad += 1;
                object.insert("error".into(), format!("{}: {why}", row.origin).into());
            }
        }
        number += 1;
        line.extend_from_slice(Value::Object(object).to_string().as_bytes());
    })?;
    if printed != 0 {
        return Ok(printed);
    }
    terminal.note(format!("dry run: {number} rows, {bad} of them bad; nothing was started"));
    Ok(u8::from(bad > 0))
}

/// Prints a line for each row, unless it is left empty. Returns the exit status: 0 when all of it was written.
///
/// # Errors
/// When the input ends early or the output fails. What was read before is printed.
pub fn print_rows<C>(
    mut feed: mpsc::Receiver<RowBatch<C>>,
    is_json: bool,
    mut shown: impl FnMut(Row<C>, &mut Vec<u8>),
) -> Result<u8, Failure> {
    let mut output = StandardOutput::open()?;
    let mut line = Vec::new();
    let mut ended = Ok(());
    while let Some(batch) = feed.blocking_recv() {
        let rows = match batch {
            RowBatch::Rows(rows) => rows,
            RowBatch::Failed(why) => {
                ended = Err(Failure::fault(why));
                break;
            }
        };
        for row in rows {
            line.clear();
            shown(row, &mut line);
            if line.is_empty() {
                continue;
            }
            let written = if is_json { output.json(&line) } else { output.text(&line, b'\n') };
            if written.is_err() {
                return output::ended(written);
            }
        }
        // A slow producer's rows are seen as they come.
        if feed.is_empty()
            && let Err(error) = output.flush()
        {
            return output::ended(Err(error));
        }
    }
    let status = output::ended(output.flush())?;
    ended.map(|()| status)
}
