//! How much may run at once, how often something may start, and how long it may take.

use std::{num::NonZeroU32, time::Duration};

use crate::Rate;

/// What bounds the starts of a batch. Every bound is exact, and may be changed while the batch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items in flight, over all keys.
    pub limit: NonZeroU32,
    /// Items in flight with the same key (for HTTP: the same host).
    pub per_key: NonZeroU32,
    /// Starts over all keys; repeats count.
    pub rate: Option<Rate>,
    /// Starts with the same key; repeats count.
    pub per_key_rate: Option<Rate>,
}

impl Limits {
    /// Twenty in flight, ten per key: polite to an API that was not asked yet.
    pub const DEFAULT_LIMIT: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
    /// See [`Limits::DEFAULT_LIMIT`].
    pub const DEFAULT_PER_KEY: NonZeroU32 = NonZeroU32::new(10).expect("10 is not zero");

    /// The defaults, or what was asked for: when only `limit` is given, it holds per key as well, since 50 at
    /// once for one host are meant to be 50.
    pub fn new(limit: Option<NonZeroU32>, per_key: Option<NonZeroU32>) -> Self {
        Self {
            limit: limit.unwrap_or(Self::DEFAULT_LIMIT),
            per_key: per_key.or(limit).unwrap_or(Self::DEFAULT_PER_KEY),
            rate: None,
            per_key_rate: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(None, None)
    }
}

/// How long things may take. All are wall-clock time as the user feels it, on a clock that never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// One attempt, in total; a peer that drips bytes cannot outlive it. `None`: only the deadline bounds it.
    pub timeout: Option<Duration>,
    /// One item from its first start, with its repeats and waits; where its host was away before that, from then on.
    /// Nothing of it starts at or after its end. `None` only when asked for.
    pub deadline: Option<Duration>,
    /// Work that is late is given so long to end by itself, where it has ways of its own to be stopped.
    pub stopping: Duration,
    /// The whole batch; when it has passed, nothing new starts and what runs gets its grace period.
    pub stop_after: Option<Duration>,
    /// What runs when the batch is told to stop may take so long to finish.
    pub grace: Duration,
}

/// What an item has of its own, in place of what holds for its batch. `None`: as for the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overrides {
    /// See [`Times::timeout`].
    pub timeout: Option<Duration>,
    /// See [`Times::deadline`].
    pub deadline: Option<Duration>,
    /// See [`RetryPolicy::repeats`](crate::RetryPolicy::repeats).
    pub repeats: Option<u16>,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            deadline: Some(Duration::from_secs(15 * 60)),
            stopping: Duration::ZERO,
            stop_after: None,
            grace: Duration::from_secs(10),
        }
    }
}
