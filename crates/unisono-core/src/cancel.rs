//! One way to stop: Ctrl-C, SIGTERM, a deadline and a lost output all end here.
//!
//! A token only ever goes up: run, drain (start nothing new, let what runs finish), abort (drop what runs). The
//! first reason is kept, since it decides the exit code. Threads poll it, futures await it; clones share it.

use tokio::sync::watch;

/// How urgent the stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CancelLevel {
    /// No stop was asked for.
    Run,
    /// Start nothing new; what runs may finish within the grace period.
    Drain,
    /// Stop what runs as well.
    Abort,
}

/// What asked for a stop first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// Ctrl-C, or SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
    /// The program that called us does not want more.
    Requested,
    /// The reader of our output has closed it.
    OutputClosed,
    /// Results can no longer be written.
    OutputFailed,
    /// The time for the whole batch is over.
    StopAfter,
    /// As many items failed as were allowed to.
    MaxFailures,
    /// One of the first items, for which all others waited, did not end well.
    Canary,
    /// The input could not be read any further.
    InputFailed,
    /// The machines that did the work cannot be reached any more.
    MachinesLost,
}

/// Tells every holder of a clone of it to stop.
///
/// ```
/// use unisono_core::{CancelLevel, CancelReason, CancelToken};
/// let token = CancelToken::new();
/// token.drain(CancelReason::Interrupt);
/// token.abort(CancelReason::Terminate);
/// assert_eq!(token.level(), CancelLevel::Abort);
/// assert_eq!(token.reason(), Some(CancelReason::Interrupt));
/// ```
#[derive(Debug, Clone)]
pub struct CancelToken {
    /// A watch channel is both: a lock that is held for two loads, and a wake-up that cannot be lost.
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    level: CancelLevel,
    reason: Option<CancelReason>,
}

impl CancelToken {
    /// A token by which no stop was asked for yet.
    pub fn new() -> Self {
        Self { state: watch::Sender::new(State { level: CancelLevel::Run, reason: None }) }
    }

    /// Starts nothing new from now on.
    pub fn drain(&self, reason: CancelReason) {
        self.raise(CancelLevel::Drain, reason);
    }

    /// Stops what runs as well.
    pub fn abort(&self, reason: CancelReason) {
        self.raise(CancelLevel::Abort, reason);
    }

    /// One step further: run to drain, drain to abort. What a repeated Ctrl-C does.
    pub fn escalate(&self, reason: CancelReason) {
        // Two at once may be one step. Signals, which this is for, come one after the other, on one thread.
        match self.level() {
            CancelLevel::Run => self.drain(reason),
            CancelLevel::Drain | CancelLevel::Abort => self.abort(reason),
        }
    }

    /// How urgent it is now.
    pub fn level(&self) -> CancelLevel {
        self.state.borrow().level
    }

    /// What asked first, if anything did.
    pub fn reason(&self) -> Option<CancelReason> {
        self.state.borrow().reason
    }

    /// Waits until the token has reached this level. Safe to drop and to call again at any time.
    pub async fn reached(&self, level: CancelLevel) {
        // Looks at the level before it waits: one that was reached before the call is not missed.
        let mut receiver = self.state.subscribe();
        receiver.wait_for(|state| state.level >= level).await.expect("`self` keeps the sender alive");
    }

    fn raise(&self, level: CancelLevel, reason: CancelReason) {
        self.state.send_if_modified(|state| {
            // Both in one step, so that no stop is seen without its reason. Only a higher level wakes what waits.
            let higher = level > state.level;
            state.level = state.level.max(level);
            state.reason.get_or_insert(reason);
            higher
        });
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_token_only_goes_up_and_keeps_its_first_reason() {
        let token = CancelToken::new();
        let mut drained = pin!(token.reached(CancelLevel::Drain));
        let mut context = Context::from_waker(Waker::noop());
        assert!(drained.as_mut().poll(&mut context).is_pending());
        token.abort(CancelReason::Terminate);
        token.drain(CancelReason::Interrupt);
        assert_eq!(drained.as_mut().poll(&mut context), Poll::Ready(()));
        assert_eq!((token.level(), token.reason()), (CancelLevel::Abort, Some(CancelReason::Terminate)));
    }

    #[test]
    fn a_second_interrupt_aborts() {
        let token = CancelToken::new();
        token.clone().escalate(CancelReason::Interrupt);
        assert_eq!(token.level(), CancelLevel::Drain);
        token.escalate(CancelReason::Interrupt);
        assert_eq!(token.level(), CancelLevel::Abort);
    }
}
