//! The engine: many independent items, run by one job, under limits. It knows no I/O.
//!
//! [`Machine`] is a pure state machine that decides what may start, when to stop and whether to try again.
//! [`drive`] runs a [`Job`] under it on the ambient tokio runtime, from a [`Source`] into a [`Sink`].
//! A [`Limiter`] has the limits alone, for callers that wait by themselves.
//! [`Retries`] are the repeats alone, for callers that make their attempts by themselves.
//! A [`channel::Channel`] is a queue without a batch, for threads and coroutines.
//! A [`Monitor`] shows the numbers of a running batch, and changes its limits.

mod attempt_set;
mod blocking;
pub mod channel;
mod driver;
mod gcra;
mod halt;
mod health;
mod job;
mod keys;
mod limiter;
mod look_ahead;
mod machine;
mod monitor;
mod outstanding;
mod pace;
mod protocol;
mod retries;
mod slot_list;
mod slots;
mod ticket;
mod too_long;
mod verdict;

pub use blocking::{BlockingPool, BlockingTask, JoinHandle, UnattachedPool, WorkNotifier, WorkQueue};
pub use driver::{Batch, Finished, drive};
pub use halt::Halt;
pub use job::{Again, Attempt, Context, Decided, Hold, Job, Offer, Pull, Sink, Source};
pub use limiter::{Admitted, Limiter, Visit};
pub use machine::Machine;
pub use monitor::{Absent, MOST_PAUSED, Monitor, Numbers, TimeAway};
pub use outstanding::{Assignments, Outstanding};
pub use protocol::{Expired, Finish, KeyNews, Lease, Ruling, Settings, Wants};
pub use retries::Retries;
pub use ticket::Ticket;
pub use too_long::{Asker, Bound, TooLong};
pub use verdict::Verdict;
