//! How a call of a function is tried, and what its end means.
//!
//! Times are kept here and not by the engine, since a call that is out of time is asked to end first, and what it is
//! depends on whether it does.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use unisono_batch::{Attempt, BlockingPool, Context, Halt, Verdict};
use unisono_core::{Effect, ErrorKind, OutcomeKind, Peer, reactor};

use super::call::{CallEnd, CallResult, FunctionCall, Invocation, Returned};
use crate::{
    halt::{halted_between_attempts, unbegun},
    stages::{AttemptStop, OwnTimes},
    work::{Item, Work},
};

type FunctionAttempt<V> = Attempt<Item<FunctionCall<V>>, Returned<V>>;

pub(crate) struct FunctionWork<V: Send + 'static> {
    pub(crate) pool: BlockingPool<Invocation, CallResult<V>>,
    pub(crate) times: OwnTimes,
    pub(crate) patience: Duration,
    pub(crate) why_unstoppable: &'static str,
    pub(crate) retry_timeouts: bool,
    /// What runs is to be stopped.
    pub(crate) stopped: watch::Receiver<bool>,
}

impl<V: Send + 'static> Work for FunctionWork<V> {
    type Call = FunctionCall<V>;

    async fn attempt(&self, item: &Item<FunctionCall<V>>, context: &Context) -> FunctionAttempt<V> {
        let item_by = context.item_by();
        if *self.stopped.borrow() {
            let (verdict, value) = unbegun();
            return Attempt::unbegun(verdict, value);
        }
        context.begin();
        let invocation = Invocation { line: item.line, attempt: context.attempt() };
        let mut call = self.pool.submit(invocation, context.hold());
        let stop = tokio::select! {
            biased;
            result = &mut call => return self.judge(result, item.call.repeatable, context),
            stop = self.stop(item_by) => stop,
        };
        call.stop();
        match tokio::time::timeout(self.patience, call).await {
            // It ended by itself in that very moment.
            Ok(Some(result @ CallResult { how: CallEnd::Returned | CallEnd::Failed(_) | CallEnd::Away, .. })) => {
                self.judge(Some(result), item.call.repeatable, context)
            }
            Ok(Some(result @ CallResult { how: CallEnd::Unbegun, .. })) if stop == AttemptStop::Asked => {
                self.judge(Some(result), item.call.repeatable, context)
            }
            Ok(Some(CallResult { how: CallEnd::Swallowed, message, .. })) => {
                self.ended(stop, &format!(" (it was cancelled, but {message})"), context)
            }
            Ok(_) => self.ended(stop, "", context),
            Err(_) => self.goes_on(stop, item.call.repeatable),
        }
    }

    async fn background(&self) {
        self.pool.deliver().await
    }

    fn halted(&self, item: &Item<FunctionCall<V>>, halt: Halt, last: Option<Returned<V>>) -> (Verdict, Returned<V>) {
        let (verdict, reason): (_, Returned<V>) = halted_between_attempts(&halt, self.times, item.call.repeatable);
        // What the last attempt raised is the error of a failure alone: a call that is out of time says that.
        let last = last.filter(|_| verdict == Verdict::Final(OutcomeKind::Failed)).unwrap_or_default();
        (verdict, Returned { error: reason.error, ..last })
    }
}

impl<V: Send + 'static> FunctionWork<V> {
    /// Returns when the call has to end.
    async fn stop(&self, item_by: Option<Instant>) -> AttemptStop {
        let attempt_by = self.times.attempt_by();
        let by = [attempt_by, item_by].into_iter().flatten().min();
        let time = async {
            match by {
                Some(by) => reactor::late(by.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut stopped = self.stopped.clone();
        tokio::select! {
            // The sender outlives the run, so an error does not come.
            _ = stopped.wait_for(|stopped| *stopped) => AttemptStop::Asked,
            () = time => if by == item_by { AttemptStop::Deadline } else { AttemptStop::Timeout },
        }
    }

    fn judge(&self, result: Option<CallResult<V>>, repeatable: bool, context: &Context) -> FunctionAttempt<V> {
        let Some(CallResult { how, retry, message, value, json }) = result else {
            let message = "whoever was to call the function has gone".to_owned();
            return failed(OutcomeKind::Ambiguous, ErrorKind::Internal, message);
        };
        context.settle(match how {
            CallEnd::Returned | CallEnd::Failed(ErrorKind::Save) => Effect::Done,
            CallEnd::Lost => Effect::Maybe,
            // It says itself that it did not do it, by an exception or by being cancelled; or its process died at it,
            // and nothing of it is left, as of a command that a signal ended.
            CallEnd::Failed(_) | CallEnd::Away | CallEnd::Stopped | CallEnd::Unbegun | CallEnd::Swallowed => {
                Effect::None
            }
        });
        let (verdict, error) = match how {
            CallEnd::Returned => (Verdict::Final(OutcomeKind::Ok), None),
            CallEnd::Failed(kind) if retry => {
                (Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None }, Some((kind, message)))
            }
            CallEnd::Away => (Verdict::Unmet { otherwise: OutcomeKind::Failed }, Some((ErrorKind::Raised, message))),
            CallEnd::Failed(kind) => (Verdict::Final(OutcomeKind::Failed), Some((kind, message))),
            CallEnd::Lost => {
                let otherwise = if repeatable { OutcomeKind::Failed } else { OutcomeKind::Ambiguous };
                // A user who asks for repeats has said that a second call is worth its risk.
                let verdict =
                    if retry { Verdict::Retry { otherwise, not_before: None } } else { Verdict::Final(otherwise) };
                (verdict, Some((ErrorKind::Died, message)))
            }
            CallEnd::Stopped | CallEnd::Unbegun | CallEnd::Swallowed => {
                let is_told = how != CallEnd::Swallowed && !message.is_empty();
                let why = if is_told { message } else { "it was cancelled".to_owned() };
                (Verdict::Final(OutcomeKind::Cancelled), Some((ErrorKind::Cancelled, why)))
            }
        };
        let peer = match how {
            CallEnd::Returned => Peer::Fine,
            CallEnd::Away => Peer::Away,
            _ => Peer::Unknown,
        };
        let has_begun = how != CallEnd::Unbegun;
        Attempt { has_begun, ..Attempt::new(verdict, Returned { value, error, json, peer, ..Returned::default() }) }
    }

    /// A call that was stopped, and has ended.
    fn ended(&self, stop: AttemptStop, how: &str, context: &Context) -> FunctionAttempt<V> {
        context.settle(Effect::None);
        let (kind, mut message) = self.times.why(stop);
        message.push_str(how);
        Attempt::new(stop.verdict(self.retry_timeouts), Returned::of_error(kind, message))
    }

    /// A call that was stopped, and has not ended.
    fn goes_on(&self, stop: AttemptStop, repeatable: bool) -> FunctionAttempt<V> {
        let (kind, message) = self.times.why(stop);
        let outcome = Effect::Maybe.outcome(stop.outcome(), repeatable);
        failed(outcome, kind, format!("{message}, and still runs: {}", self.why_unstoppable))
    }
}

fn failed<V: Send + 'static>(outcome: OutcomeKind, kind: ErrorKind, message: String) -> FunctionAttempt<V> {
    Attempt::new(Verdict::Final(outcome), Returned::of_error(kind, message))
}
