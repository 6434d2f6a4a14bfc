//! A function per item, from a plan to a report. Where it runs is not known here: what takes from the queue calls it,
//! on an event loop, in threads or in other processes, and says how it ended.
//!
//! A call that is stopped is asked to end and given a moment for it. One that does not (a thread, a coroutine that
//! swallows its cancellation) is decided without it; it keeps its slot until it really ends, and may still take effect,
//! so it is `ambiguous`, and never tried again beside itself.

mod call;
mod work;

use std::{convert::Infallible, num::NonZeroU32, time::Duration};

use tokio::sync::watch;
use unisono_batch::{Monitor, Settings, UnattachedPool, WorkNotifier, WorkQueue};
use unisono_core::{CancelLevel, CancelToken, Limits, RetryPolicy, Times};

use crate::{
    Error, Frame, Gauge, Halting, Report,
    run::{Extras, run},
    stages::{LAST_RESORT, Stages, engine_times},
};
use work::FunctionWork;

pub use call::{CallEnd, CallResult, FunctionCall, Invocation, Returned};

/// Everything about a run, parsed and checked. `V` is what a function answers or raises.
pub struct FunctionPlan<V: Send + 'static> {
    /// What every run has.
    pub frame: Frame<FunctionCall<V>>,
    /// Where calls are put, and their ends come from.
    pub calls: UnattachedPool<Invocation, CallResult<V>>,
    /// Called once nothing new is to begin, whoever has decided that: what was put on the desk and has not begun is
    /// better given back as stopped than begun.
    pub drained: Box<dyn FnOnce() + Send>,
    /// How long a call may take to end that was asked to.
    pub patience: Duration,
    /// Why a call may go on after that, for its outcome.
    pub why_unstoppable: &'static str,
    /// An attempt that timed out is worth another.
    pub retry_timeouts: bool,
}

/// Where calls of functions are put, and from where they are taken: see
/// [`unisono_batch::BlockingPool::with_foreign_workers`].
pub fn function_calls<V: Send + 'static>(
    notifier: WorkNotifier,
) -> (UnattachedPool<Invocation, CallResult<V>>, WorkQueue<Invocation, CallResult<V>>) {
    unisono_batch::BlockingPool::with_foreign_workers(notifier)
}

/// The limits, times and repeats that functions have where nobody says it: twenty at once, for as long as it takes,
/// once.
pub fn function_settings() -> Settings {
    Settings {
        limits: Limits::new(NonZeroU32::new(20), None),
        times: Times { timeout: None, deadline: None, ..Times::default() },
        // Whoever asks for three repeats of a deployment wants three, however many others fail.
        retry: RetryPolicy { budget: None, ..RetryPolicy::never() },
        ordered_by_key: false,
    }
}

/// Runs a plan to its end, or until the token says stop, and accounts for every row.
///
/// # Errors
/// When it cannot begin: a file in the way. What happens to rows is in the report.
pub async fn functions<V: Send + 'static>(
    plan: FunctionPlan<V>,
    cancel: CancelToken,
    monitor: Monitor,
    gauge: Gauge,
) -> Result<Report, Error> {
    let (stop, stopped) = watch::channel(false);
    let mut frame = plan.frame;
    let times = frame.settings.times;
    let slack = plan.patience.saturating_add(LAST_RESORT);
    frame.settings.times = engine_times(times, slack);
    let work = FunctionWork {
        pool: plan.calls.attach(),
        timeout: times.timeout,
        deadline: times.deadline,
        patience: plan.patience,
        why_unstoppable: plan.why_unstoppable,
        retry_timeouts: plan.retry_timeouts,
        stopped,
    };
    let inner = CancelToken::new();
    let drained = async {
        tokio::select! {
            () = cancel.reached(CancelLevel::Drain) => {}
            () = inner.reached(CancelLevel::Drain) => {}
        }
        (plan.drained)();
        std::future::pending::<Infallible>().await
    };
    let stages = Stages { grace: times.grace, halting: Halting::Soon, slack };
    let extras = Extras { asked: Some(cancel.clone()), ..Extras::default() };
    tokio::select! {
        biased;
        ended = run(work, frame, extras, inner.clone(), monitor, gauge) => ended.map(|(report, _)| report),
        never = drained => match never {},
        never = stages.lead(&cancel, &inner, || _ = stop.send(true)) => match never {},
    }
}
