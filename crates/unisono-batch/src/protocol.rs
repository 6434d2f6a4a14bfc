//! What a [`Machine`](crate::Machine) is told, and what it says: the words between it and its driver.

use std::{
    fmt,
    time::{Duration, Instant},
};

use unisono_core::{Limits, RetryPolicy, Times, clock, format_duration, format_roughly};

use crate::{ticket::Ticket, too_long::TooLong};

/// Everything that bounds a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settings {
    /// How much at once, and how often.
    pub limits: Limits,
    /// How long.
    pub times: Times,
    /// When again.
    pub retry: RetryPolicy,
    /// While an item is undecided, waits for a repeat or cannot be stopped, no other of its key starts.
    pub ordered_by_key: bool,
}

/// Permission to run one attempt of an item now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The item.
    pub ticket: Ticket,
    /// 1 for the first attempt. Attempts that were refused by a throttling peer count as well.
    pub attempt: u16,
    /// When this attempt has to be over.
    pub attempt_by: Option<Instant>,
    /// When the whole item has to be over.
    pub item_by: Option<Instant>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The item is decided.
    Final,
    /// Worth another attempt, not before this time if one is given.
    Retry {
        /// The earliest next start.
        not_before: Option<Instant>,
    },
    /// Nothing of it reached its peer. Where that is because the peer is away, the item goes back to the front of its
    /// queue and the attempt counts for nothing; else this is a [`Finish::Retry`].
    Unmet,
    /// The peer refused for now, and nothing of this key should start before then (`None`: after a backoff).
    Throttled {
        /// The end of the pause that the peer asked for.
        until: Option<Instant>,
        /// Whether a quota is used up, so that the key is to be paced from now on.
        quota: bool,
    },
}

/// What follows from the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// The item is decided; its ticket is now stale.
    Decided,
    /// It will be leased again, not before this time.
    Again {
        /// The earliest next start.
        at: Instant,
        /// By how much this lengthened the pause of the key.
        paused: Duration,
    },
    /// The wait for the next attempt is longer than allowed: decide the item as rate limited, with [`Finish::Final`].
    Refused(TooLong),
    /// It will be leased again once its peer is there.
    Waits,
    /// Its backoff is longer than what is left of its deadline, at which `expire` will name it.
    OutOfTime,
    /// Its deadline is over: decide the item as timed out, with [`Finish::Final`].
    Late,
    /// The repeats that all items of its key have together are used up: decide the item, with [`Finish::Final`].
    Exhausted,
    /// Its peer has been away for as long as it is waited for: decide the item, with [`Finish::Final`].
    Away {
        /// Since when.
        since: Instant,
        /// It took what it was given, and nothing came back.
        is_silent: bool,
    },
    /// The batch is stopping, and takes the repeats that were left: decide the item as cancelled, with
    /// [`Finish::Final`].
    Stopping,
    /// The ticket was stale.
    Stale,
}

/// Something that ends because of the time or a stop. Each is to be answered by
/// [`Machine::finish`](crate::Machine::finish).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// The attempt took longer than its timeout: stop it; any `Finish` may follow.
    Attempt(Ticket),
    /// The item took longer than its deadline: stop it if it runs, and decide it.
    Item {
        /// The item.
        ticket: Ticket,
        /// Whether an attempt is under way.
        running: bool,
    },
    /// Its key is paused for longer than an item may wait: decide it.
    Refused {
        /// The item.
        ticket: Ticket,
        /// The wait.
        wait: TooLong,
    },
    /// Its peer has been away for as long as it is waited for: decide it.
    Away {
        /// The item.
        ticket: Ticket,
        /// Since when.
        since: Instant,
        /// It took what it was given, and nothing came back.
        is_silent: bool,
    },
    /// The batch is stopping: stop it if it runs, and decide it.
    Cancelled {
        /// The item.
        ticket: Ticket,
        /// Whether an attempt is under way.
        running: bool,
    },
}

/// What is new about the peer of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyNews {
    /// It is away: the key is held from now on.
    Away {
        /// Since when it has been away, as is known now.
        since: Instant,
        /// It takes what it is given, and nothing comes back.
        is_silent: bool,
    },
    /// It is back, after so long.
    Back(Duration),
    /// It is overloaded: no more than so many are sent at once.
    Lowered(u32),
    /// It is overloaded by one at a time: the key is paced.
    Paced,
}

/// To be read behind the name of the key.
impl fmt::Display for KeyNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WAITS: &str = "what is for it waits, and one attempt at a time looks for it";
        match self {
            Self::Away { is_silent: false, .. } => write!(f, "away; {WAITS}"),
            Self::Away { since, .. } => {
                write!(f, "answers nothing since {}; {WAITS}", format_roughly(clock::since(*since)))
            }
            Self::Back(after) => write!(f, "back, after {}", format_duration(*after)),
            Self::Lowered(most) => write!(f, "overloaded; {most} at once from now on"),
            Self::Paced => f.write_str("overloaded by one at a time; paced from now on"),
        }
    }
}

/// What the machine waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// How many more items it would take in.
    pub pull: usize,
    /// When to call again if nothing else happens before.
    pub until: Option<Instant>,
    /// Every item is decided and no more will come. Detached work may still be under way.
    pub finished: bool,
}
