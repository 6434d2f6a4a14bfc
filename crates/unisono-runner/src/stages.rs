//! How a run is stopped whose attempts decide their items themselves, once nothing of them is left: commands,
//! functions.
//!
//! *Drain*: nothing new starts, and what runs may finish within the grace period. Then, or when asked once more,
//! *stop*: attempts end what they have started. The engine is told to drain only, and its own deadline is a last
//! resort.

use std::{convert::Infallible, time::Duration};

use unisono_core::{CancelLevel, CancelReason, CancelToken, FOR_EVER, Times, clock};

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
    /// How long what runs may take to finish.
    pub(crate) grace: Duration,
    pub(crate) halting: Halting,
    /// How long attempts may take to end, once they are stopped.
    pub(crate) slack: Duration,
}

impl Stages {
    /// Leads a run through them: `cancel` is what the world asks for, `inner` what the engine is told.
    pub(crate) async fn lead(&self, cancel: &CancelToken, inner: &CancelToken, stop: impl FnOnce()) -> Infallible {
        tokio::select! {
            () = cancel.reached(CancelLevel::Drain) => {}
            () = inner.reached(CancelLevel::Drain) => {}
        }
        let reason = cancel.reason().or(inner.reason()).unwrap_or(CancelReason::Requested);
        inner.drain(reason);
        let at_once = self.halting == Halting::Now && reason == CancelReason::MaxFailures;
        tokio::select! {
            () = tokio::time::sleep(self.grace), if !at_once => {}
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

/// The engine's times for a run whose attempts keep their own: it starts nothing late, and gives up what is not over
/// `slack` after its deadline.
pub(crate) fn engine_times(times: Times, slack: Duration) -> Times {
    let reaches = |deadline: &Duration| clock::now().checked_add(*deadline).is_some();
    Times { timeout: None, deadline: times.deadline.filter(reaches), stopping: slack, grace: FOR_EVER, ..times }
}

/// Longer than anything takes to end that was told to.
pub(crate) const LAST_RESORT: Duration = Duration::from_secs(10);
