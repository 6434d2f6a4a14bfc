//! What the end of an attempt means for its item.

use std::time::Instant;

use unisono_core::OutcomeKind;

/// What the end of an attempt means for its item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The item is decided.
    Final(OutcomeKind),
    /// Try again if policy, budget and deadline allow; otherwise the item ends like this.
    Retry {
        /// How the item ends if there is no further attempt.
        otherwise: OutcomeKind,
        /// The earliest next start.
        not_before: Option<Instant>,
    },
    /// Nothing of it reached the peer. Where the peer is away ([`Job::peer`](crate::Job::peer)) the item waits for it
    /// and the attempt counts for nothing; otherwise as [`Verdict::Retry`].
    Unmet {
        /// How the item ends if there is no further attempt.
        otherwise: OutcomeKind,
    },
    /// The peer refused for now: pauses the key, and is repeated without counting against the repeats.
    Throttled {
        /// The end of the pause that the peer asked for; `None`: a backoff of our own.
        until: Option<Instant>,
        /// Whether a quota is used up. Then the key is paced from now on, at what the peer seems to bear; a peer that
        /// is merely down for a while is met at full speed afterwards.
        quota: bool,
    },
}

impl Verdict {
    /// How the item ends if there is no further attempt.
    pub fn otherwise(self) -> OutcomeKind {
        match self {
            Self::Final(kind) | Self::Retry { otherwise: kind, .. } | Self::Unmet { otherwise: kind } => kind,
            Self::Throttled { .. } => OutcomeKind::Failed,
        }
    }
}
