//! A function per item, from a plan to a report. Where it runs is not known here: what takes from the queue calls it,
//! on an event loop, in threads or in other processes, and says how it ended.
//!
//! A call that is stopped is asked to end and given a moment for it. One that does not (a thread, a coroutine that
//! swallows its cancellation) is decided without it; it keeps its slot until it really ends, and may still take effect,
//! so it is `ambiguous`, and never tried again beside itself.

mod call;
mod plan;
mod work;

use tokio::sync::watch;
use unisono_batch::Monitor;
use unisono_core::CancelToken;

use crate::{
    Error, Gauge, Halting, Report,
    run::{Extras, run},
    stages::Stages,
};
use work::FunctionWork;

pub use call::{CallEnd, CallResult, FunctionCall, Invocation, Returned};
pub use plan::{FunctionPlan, function_calls, function_settings};

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
    let stages = Stages::new(frame.settings.times, Halting::Soon, plan.patience);
    frame.settings.times = stages.engine_times();
    let work = FunctionWork {
        pool: plan.calls.attach(),
        times: stages.own_times(),
        patience: plan.patience,
        why_unstoppable: plan.why_unstoppable,
        retry_timeouts: plan.retry_timeouts,
        stopped,
    };
    let inner = CancelToken::new();
    let extras = Extras { asked: Some(cancel.clone()), ..Extras::default() };
    let running = run(work, frame, extras, inner.clone(), monitor, gauge);
    let (report, _) = stages.run(&cancel, &inner, plan.drained, || _ = stop.send(true), running).await?;
    Ok(report)
}
