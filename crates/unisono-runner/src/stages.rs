//! How a run is stopped whose attempts decide their items themselves, once nothing of them is left: commands,
//! functions.
//!
//! *Drain*: nothing new starts, and what runs may finish within the grace period. Then, or when asked once more,
//! *stop*: attempts end what they have started. The engine is told to drain only, and its own deadline is a last
//! resort.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use unisono_batch::Verdict;
use unisono_core::{
    CancelLevel, CancelReason, CancelToken, ErrorKind, FOR_EVER, OutcomeKind, Times, clock, format_duration,
};

/// What happens to what runs when too many have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halting {
    /// It may finish, within the grace period.
    #[default]
    Soon,
    /// It is stopped.
    Now,
}

/// The stages of a stop.
pub(crate) struct Stages {
    times: Times,
    halting: Halting,
    /// How long attempts may take to end, once they are stopped.
    slack: Duration,
}

impl Stages {
    /// Those of a run with these times, whose attempts may take `patience` to end once they are stopped.
    pub(crate) fn new(times: Times, halting: Halting, patience: Duration) -> Self {
        Self { times, halting, slack: patience.saturating_add(LAST_RESORT) }
    }

    /// What attempts keep.
    pub(crate) fn own_times(&self) -> OwnTimes {
        OwnTimes { timeout: self.times.timeout, deadline: self.times.deadline }
    }

    /// What the engine keeps: it starts nothing late, and gives up what is not over `slack` after its deadline.
    pub(crate) fn engine_times(&self) -> Times {
        let reaches = |deadline: &Duration| clock::now().checked_add(*deadline).is_some();
        let deadline = self.times.deadline.filter(reaches);
        Times { timeout: None, deadline, stopping: self.slack, grace: FOR_EVER, ..self.times }
    }

    /// Drives a run to its end and leads it through them: `cancel` is what the world asks for, `inner` what the engine
    /// is told. `drained` is called once nothing new is to begin, `stop` when attempts are to end what they have
    /// started.
    pub(crate) async fn run<T>(
        &self,
        cancel: &CancelToken,
        inner: &CancelToken,
        drained: impl FnOnce(),
        stop: impl FnOnce(),
        running: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            biased;
            ended = running => ended,
            never = self.lead(cancel, inner, drained, stop) => match never {},
        }
    }

    async fn lead(
        &self,
        cancel: &CancelToken,
        inner: &CancelToken,
        drained: impl FnOnce(),
        stop: impl FnOnce(),
    ) -> Infallible {
        tokio::select! {
            () = cancel.reached(CancelLevel::Drain) => {}
            () = inner.reached(CancelLevel::Drain) => {}
        }
        // Before the engine is told: it must not begin in the meantime what is better given back.
        drained();
        let reason = cancel.reason().or(inner.reason()).unwrap_or(CancelReason::Requested);
        inner.drain(reason);
        let at_once = self.halting == Halting::Now && reason == CancelReason::MaxFailures;
        tokio::select! {
            () = tokio::time::sleep(self.times.grace), if !at_once => {}
            () = cancel.reached(CancelLevel::Abort) => {}
            () = inner.reached(CancelLevel::Abort) => {}
            () = std::future::ready(()), if at_once => {}
        }
        stop();
        // What has not gone by then never will; the engine decides what is left.
        tokio::time::sleep(self.slack).await;
        inner.abort(reason);
        std::future::pending().await
    }
}

/// The times that attempts keep and the engine does not, since what is out of time is asked to end first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnTimes {
    timeout: Option<Duration>,
    deadline: Option<Duration>,
}

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptStop {
    Timeout,
    Deadline,
    Asked,
}

impl AttemptStop {
    /// How an item ends whose attempt was stopped for it, once nothing of that is left.
    pub(crate) fn outcome(self) -> OutcomeKind {
        match self {
            Self::Timeout | Self::Deadline => OutcomeKind::TimedOut,
            Self::Asked => OutcomeKind::Cancelled,
        }
    }

    /// What that means for the item: only the attempt's own time may have been too short for this attempt alone.
    pub(crate) fn verdict(self, retry_timeouts: bool) -> Verdict {
        match self {
            Self::Timeout if retry_timeouts => Verdict::Retry { otherwise: self.outcome(), not_before: None },
            _ => Verdict::Final(self.outcome()),
        }
    }
}

impl OwnTimes {
    /// When an attempt is over that begins now.
    pub(crate) fn attempt_by(self) -> Option<Instant> {
        self.timeout.and_then(|timeout| clock::now().checked_add(timeout))
    }

    /// What the outcome says of it.
    pub(crate) fn why(self, reason: AttemptStop) -> (ErrorKind, String) {
        let shown = |time: Option<Duration>| time.map_or_else(|| "none".to_owned(), format_duration);
        match reason {
            AttemptStop::Timeout => {
                (ErrorKind::Timeout, format!("took longer than its timeout of {}", shown(self.timeout)))
            }
            AttemptStop::Deadline => {
                (ErrorKind::Deadline, format!("took longer than its deadline of {}", shown(self.deadline)))
            }
            AttemptStop::Asked => (ErrorKind::Cancelled, "stopped on request".to_owned()),
        }
    }
}

/// Longer than anything takes to end that was told to.
const LAST_RESORT: Duration = Duration::from_secs(10);
