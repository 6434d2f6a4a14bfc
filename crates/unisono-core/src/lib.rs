//! The words that every part of unisono shares: outcomes, limits, times, retries and cancelling.
//!
//! Nothing here does I/O, reads the environment or starts a thread, but for [`reactor`], which says on which thread an
//! engine runs. A type lives here when at least two
//! crates must agree on it; what only one engine needs lives in that engine.

mod cancel;
mod chain;
pub mod clock;
mod effect;
mod error_kind;
mod limits;
mod outcome;
mod peer;
mod printable;
mod rate;
pub mod reactor;
mod redact;
mod retry;
mod secret;
mod size;

pub use cancel::{CancelLevel, CancelReason, CancelToken};
pub use chain::error_chain;
pub use effect::Effect;
pub use error_kind::ErrorKind;
pub use limits::{Limits, Overrides, Times};
pub use outcome::{OutcomeCounts, OutcomeKind};
pub use peer::Peer;
pub use printable::{printable, printable_bytes, printable_json};
pub use rate::Rate;
pub use redact::redacted;
pub use retry::{Backoff, RetryBudget, RetryPolicy};
pub use secret::Secret;
pub use size::{format_size, parse_size};
pub use unisono_units::{FOR_EVER, ParseError, Span, format_duration, format_roughly, parse_duration};
