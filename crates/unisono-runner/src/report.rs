//! What a batch came to: the numbers that the summary prints and that decide the exit code.

use std::{collections::BTreeMap, time::Duration};

use unisono_core::{CancelReason, ErrorKind, OutcomeCounts, OutcomeKind};
use unisono_journal::{RerunCounts, RerunMode};

use crate::{Histogram, TopErrors};

/// The account of a whole run. It adds up: `rows()` is every row that was pulled, and each is in exactly one count.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How the items of this run ended.
    pub counts: OutcomeCounts,
    /// Items that an earlier run had already decided, and that this one left alone.
    pub kept: OutcomeCounts,
    /// Of those that were cancelled, how many had not been started.
    pub never_started: u64,
    /// Rows of the input that have no outcome; `None` when it is not known how many rows there are. As far as the input
    /// was not read, it is taken to have the rows that are kept.
    pub pending: Option<u64>,
    /// Attempts beyond the first, repeats after throttling included.
    pub retries: u64,
    /// Of those that failed, how many the next `--resume` runs again, by what decided it: the absence of a host, or a
    /// limit of ours.
    pub passing: BTreeMap<ErrorKind, u64>,
    /// What it takes for outcomes, those that are kept included, to run again.
    pub again: RerunCounts,
    /// What it takes for all of the canary to run again that did not end well; `None` if all of it did.
    pub canary: Option<RerunMode>,
    /// How the items of each key ended, and how long it was paused or away: a host, or what the caller says.
    pub keys: BTreeMap<String, KeyReport>,
    /// From the first start of an item to its decision.
    pub latency: Histogram,
    /// Bytes of bodies as they came over the wire.
    pub bytes: u64,
    /// From start to end of the run.
    pub wall: Duration,
    /// What went wrong, by frequency.
    pub errors: TopErrors,
    /// Why the run stopped before its input was finished, if it did.
    pub stopped: Option<CancelReason>,
    /// What failed outside of any item: the input or the output.
    pub failures: Vec<String>,
    /// Things a user should know that are no failure: fewer connections than asked for, a torn line cut off.
    pub warnings: Vec<String>,
}

/// One key's part of a [`Report`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// How its items ended.
    pub counts: OutcomeCounts,
    /// How long it was paused because it asked for it.
    pub throttled: Duration,
    /// How long it was away.
    pub away: Duration,
    /// It was not back by the end of the run.
    pub is_away: bool,
}

impl Report {
    pub(crate) fn add_group(&mut self, name: &str, kind: OutcomeKind) {
        // Asked with a borrowed name first, since most rows belong to a group that is known.
        if let Some(key) = self.keys.get_mut(name) {
            key.counts.add(kind);
        } else if self.keys.len() < MOST_KEYS {
            self.keys.entry(name.to_owned()).or_default().counts.add(kind);
        }
    }

    /// How many outcomes there are now: those of this run and those kept.
    pub fn rows(&self) -> u64 {
        self.counts.total() + self.kept.total()
    }

    /// How many outcomes of this kind there are now.
    pub fn count(&self, kind: OutcomeKind) -> u64 {
        self.counts.get(kind) + self.kept.get(kind)
    }

    /// Whether everything that was asked for is done and went well.
    pub fn is_complete(&self) -> bool {
        self.exit_code() == 0
    }

    /// The exit status that says how it went; the gravest reason to stop wins.
    ///
    /// 0 all ok · 1 some item did not end well · 3 stopped by `max_failures` or `canary` · 124 stopped by `stop_after`
    /// · 125 our own input or output failed · 129, 130, 143 stopped by SIGHUP, SIGINT, SIGTERM · 141 the reader of
    /// our output left.
    pub fn exit_code(&self) -> u8 {
        match self.stopped {
            // First: that it was stopped is known where that was asked for, and that something is lost is not.
            _ if !self.failures.is_empty() => 125,
            Some(CancelReason::Interrupt | CancelReason::Requested) => 130,
            Some(CancelReason::Terminate) => 143,
            Some(CancelReason::Hangup) => 129,
            Some(CancelReason::OutputClosed) => 141,
            Some(CancelReason::StopAfter) => 124,
            Some(CancelReason::MaxFailures | CancelReason::Canary) => 3,
            Some(_) => 125,
            None => u8::from(self.counts.not_ok() + self.kept.not_ok() > 0),
        }
    }
}

/// Keys that are told apart; a crawl of the web has no use for a list of all.
const MOST_KEYS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_reason_decides_the_exit_code() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 0);
        report.counts.add(OutcomeKind::Skipped);
        assert_eq!(report.exit_code(), 0);
        report.kept.add(OutcomeKind::Failed);
        assert_eq!(report.exit_code(), 1);
        report.stopped = Some(CancelReason::MaxFailures);
        assert_eq!(report.exit_code(), 3);
        report.stopped = Some(CancelReason::Terminate);
        assert_eq!(report.exit_code(), 143);
        report.failures.push("disk full".into());
        assert_eq!(report.exit_code(), 125);
    }
}
