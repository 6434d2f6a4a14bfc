//! What is printed of outcomes as they come: lines of a manifest or of a check, and what went wrong.

use std::{cell::RefCell, fs::File, io, path::Path, rc::Rc};

use unisono_core::{CancelReason, ErrorKind, OutcomeKind};
use unisono_runner::{
    DigestResult, Listing, Report, RowOutcome, Way,
    file_tools::manifest::{push_entry, push_name},
};

use super::args::{ListingFormat, SumArgs};
use crate::{failure::Failure, terminal::Terminal};

impl SumArgs {
    /// Whether lines are written as outcomes come: a manifest that is a file is made at the end.
    pub fn has_lines(&self, way: Option<Way>) -> bool {
        let is_kept = self.output.out.is_some() && !self.check.check && way != Some(Way::Stream);
        self.listing.format == ListingFormat::Check && !is_kept && !self.check.status
    }

    /// Where lines for people and for other programs go.
    pub fn lines(&self, way: Option<Way>) -> Result<Rc<RefCell<Lines>>, Failure> {
        let (stream, output) = match &self.output.out {
            _ if !self.has_lines(way) => (None, None),
            Some(path) if way == Some(Way::Stream) => {
                let name = format!("`{}`", path.display());
                // Waits for the reader of a FIFO, as the shell does.
                let file = File::options().write(true).open(path);
                let file = file.map_err(|error| Failure::fault(format!("cannot write to {name}: {error}")))?;
                (Some(name), Some(crate::output::StandardOutput::to(file)))
            }
            _ => (None, Some(crate::output::StandardOutput::open()?)),
        };
        Ok(Rc::new(RefCell::new(Lines { output, stream, failure: None })))
    }

    /// What is printed of each outcome: lines of the manifest, or of the check; and what went wrong, to standard error.
    pub fn listing(&self, terminal: &Terminal, lines: Rc<RefCell<Lines>>) -> Option<Listing<DigestResult>> {
        let (is_check, layout, zero) = (self.check.check, self.listing.layout(), self.listing.zero);
        let (quiet, status, verbose) = (self.show.is_quiet(), self.check.status, self.show.verbose);
        let terminal = terminal.clone();
        let mut line = Vec::new();
        let list = move |outcome: &RowOutcome<DigestResult>| {
            line.clear();
            let Some(path) = &outcome.done.path else { return Ok(()) };
            if is_check {
                push_check(path, outcome, quiet, zero, &mut line);
            } else if outcome.kind == OutcomeKind::Ok {
                outcome.done.digests.iter().for_each(|digest| push_entry(path, digest, layout, &mut line));
            }
            lines.borrow_mut().write(&line, if zero { 0 } else { b'\n' })?;
            match (outcome.done.error.as_deref(), &outcome.done.special) {
                (Some((ErrorKind::Cancelled, _)), _) => {}
                // What may be missing is.
                (Some((ErrorKind::Missing, _)), _) if outcome.kind == OutcomeKind::Skipped && !verbose => {}
                (Some((_, why)), _) if !status => terminal.note(format!("{}: {why}", shown(path))),
                (_, Some(special)) if verbose => terminal.note(format!("{}: skipped: {special}", shown(path))),
                _ => {}
            }
            Ok(())
        };
        Some(Box::new(list))
    }
}

/// Lines for standard output, or what takes its place.
pub struct Lines {
    pub output: Option<crate::output::StandardOutput>,
    /// What takes its place.
    pub stream: Option<String>,
    /// What became of the first write that failed.
    pub failure: Option<io::Error>,
}

impl Lines {
    /// Whatever goes wrong ends the run as a reader that has left does; [`Lines::settle`] says what it was.
    fn write(&mut self, lines: &[u8], end: u8) -> io::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let mut lines = lines.split_inclusive(|byte| *byte == end);
        lines.try_for_each(|line| output.text(line.strip_suffix(&[end]).unwrap_or(line), end)).map_err(|error| {
            self.failure = Some(error);
            io::ErrorKind::BrokenPipe.into()
        })
    }

    /// Writes the last lines. A run whose lines have not all been written has failed, whatever its outcomes.
    pub fn settle(&mut self, report: &mut Report) {
        let flushed = |output: &mut crate::output::StandardOutput| output.flush().err();
        let failure = self.failure.take().or_else(|| self.output.as_mut().and_then(flushed));
        match failure {
            None => {}
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                report.stopped.get_or_insert(CancelReason::OutputClosed);
            }
            Some(error) => {
                report.failures.push(match &self.stream {
                    Some(name) => format!("cannot write to {name}: {error}"),
                    None => crate::output::why(&error),
                });
                if report.stopped.is_none_or(|reason| reason == CancelReason::OutputClosed) {
                    report.stopped = Some(CancelReason::OutputFailed);
                }
            }
        }
    }
}

/// `name: OK` and the like, as coreutils has it.
fn push_check(path: &Path, outcome: &RowOutcome<DigestResult>, quiet: bool, zero: bool, line: &mut Vec<u8>) {
    let word = match (outcome.kind, outcome.done.error.as_deref().map(|(kind, _)| *kind)) {
        (OutcomeKind::Ok, _) if quiet => return,
        (OutcomeKind::Ok, _) => "OK",
        (OutcomeKind::Skipped | OutcomeKind::Cancelled, _) => return,
        (_, Some(ErrorKind::Mismatch)) => "FAILED",
        (_, Some(ErrorKind::Extra)) => "EXTRA",
        (_, Some(ErrorKind::Missing)) => "FAILED open or read",
        _ => "FAILED open or read",
    };
    push_name(path, line);
    line.extend_from_slice(b": ");
    line.extend_from_slice(word.as_bytes());
    line.push(if zero { 0 } else { b'\n' });
}

/// A name on one line.
fn shown(path: &Path) -> String {
    let mut name = Vec::new();
    push_name(path, &mut name);
    String::from_utf8_lossy(&name).into_owned()
}
