//! What a run of calls of functions is to do, parsed and checked.

use std::{num::NonZeroU32, time::Duration};

use unisono_batch::{Settings, UnattachedPool, WorkNotifier, WorkQueue};
use unisono_core::{Limits, RetryPolicy, Times};

use super::{CallResult, FunctionCall, Invocation};
use crate::Frame;

/// Everything about a run, parsed and checked. `V` is what a function returns or raises.
pub struct FunctionPlan<V: Send + 'static> {
    /// What every run has.
    pub frame: Frame<FunctionCall<V>>,
    /// Where calls are put, and their ends come from.
    pub calls: UnattachedPool<Invocation, CallResult<V>>,
    /// Called once nothing new is to begin, by whatever decision: what was submitted and has not begun is better given
    /// back as stopped than begun.
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

/// The limits, times and repeats that functions have unless the user says otherwise: twenty at once, for as long as it
/// takes, once.
pub fn function_settings() -> Settings {
    Settings {
        limits: Limits::new(NonZeroU32::new(20), None),
        times: Times { timeout: None, deadline: None, ..Times::default() },
        // A user who asks for three repeats of a deployment wants three, however many others fail.
        retry: RetryPolicy { budget: None, ..RetryPolicy::never() },
        ordered_by_key: false,
    }
}
