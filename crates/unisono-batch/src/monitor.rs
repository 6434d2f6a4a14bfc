//! A batch seen and steered from outside: numbers out, new limits in. Safe to use from any thread.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use unisono_core::{Limits, OutcomeCounts};

use crate::protocol::KeyNews;

/// A handle on a batch that runs, or will run. Clones share it.
#[derive(Clone, Default)]
pub struct Monitor {
    /// Held for a few loads and stores, once per turn of the batch and per question: never across a wait.
    shared: Arc<Mutex<Shared>>,
}

/// What a batch has come to so far.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// Items taken from the source.
    pub pulled: u64,
    /// Attempts under way.
    pub in_flight: u32,
    /// Items that are queued or wait for a repeat.
    pub pending: usize,
    /// Items decided, by outcome.
    pub decided: OutcomeCounts,
    /// Attempts beyond the first.
    pub retries: u64,
    /// How long each key was paused because its peer asked for it.
    pub throttled: BTreeMap<String, Duration>,
    /// How long each key's peer was away.
    pub away: BTreeMap<String, TimeAway>,
    /// Keys that are paused now while they have something to do, and until when; at most [`MOST_PAUSED`].
    pub paused: Vec<(String, Instant)>,
    /// Keys whose peer is away while they have something to do; at most [`MOST_PAUSED`].
    pub held: Vec<Absent>,
    /// Keys whose peer is overloaded while more waits for it than it may be sent, and how much that is at once; at most
    /// [`MOST_PAUSED`].
    pub lowered: Vec<(String, u32)>,
}

/// A key whose peer is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Its name.
    pub key: String,
    /// Since when.
    pub since: Instant,
    /// It takes what it is given, and nothing comes back.
    pub is_silent: bool,
}

/// How long a peer was away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeAway {
    /// All the times together after which it was back.
    pub over: Duration,
    /// Since when it has been away again.
    pub since: Option<Instant>,
}

impl TimeAway {
    /// All of it, up to now.
    pub fn total(&self, now: Instant) -> Duration {
        self.over + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// How many paused keys are named, and how many of those whose peer is away or overloaded.
pub const MOST_PAUSED: usize = 5;
/// How many keys are told apart that were throttled, and how many that were away.
const MOST_THROTTLED: usize = 1000;

#[derive(Default)]
struct Shared {
    numbers: Numbers,
    /// In force, or about to be.
    limits: Option<Limits>,
    changed: bool,
    pauses: Vec<(String, Instant)>,
    waker: Option<Waker>,
}

/// What was asked for since the last turn.
pub(crate) struct Controls {
    pub(crate) limits: Option<Limits>,
    pub(crate) pauses: Vec<(String, Instant)>,
}

impl Monitor {
    /// A monitor of a batch that has yet to start.
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers as of the batch's last turn.
    pub fn numbers(&self) -> Numbers {
        self.lock().numbers.clone()
    }

    /// The limits in force; `None` before the batch has started and when none were set.
    pub fn limits(&self) -> Option<Limits> {
        self.lock().limits
    }

    /// Changes the limits from the next turn on. What runs already is left alone.
    pub fn set_limits(&self, limits: Limits) {
        let mut shared = self.lock();
        shared.limits = Some(limits);
        shared.changed = true;
        shared.wake();
    }

    /// Starts nothing with this key before then.
    pub fn pause(&self, key: &str, until: Instant) {
        let mut shared = self.lock();
        shared.pauses.push((key.to_owned(), until));
        shared.wake();
    }

    /// Takes what was asked for, and sets what the next wish wakes.
    pub(crate) fn take_controls(&self, waker: &Waker) -> Controls {
        let mut shared = self.lock();
        if shared.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            shared.waker = Some(waker.clone());
        }
        let changed = std::mem::take(&mut shared.changed);
        Controls { limits: shared.limits.filter(|_| changed), pauses: std::mem::take(&mut shared.pauses) }
    }

    /// Nothing is woken by a wish any more.
    pub(crate) fn forget_waker(&self) {
        let waker = self.lock().waker.take();
        drop(waker);
    }

    /// Sets the limits with which the batch starts, unless others were asked for before.
    pub(crate) fn start_with(&self, limits: Limits) {
        self.lock().limits.get_or_insert(limits);
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.lock().numbers);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    pub(crate) fn add_pause(&mut self, key: &str, paused: Duration) {
        if let Some(total) = self.throttled.get_mut(key) {
            *total += paused;
        } else if self.throttled.len() < MOST_THROTTLED {
            self.throttled.insert(key.to_owned(), paused);
        }
    }

    pub(crate) fn add_news(&mut self, now: Instant, key: &str, news: &KeyNews) {
        if !matches!(news, KeyNews::Away { .. } | KeyNews::Back(_))
            || (!self.away.contains_key(key) && self.away.len() >= MOST_THROTTLED)
        {
            return;
        }
        let time = self.away.entry(key.to_owned()).or_default();
        match news {
            // A key that was forgotten meanwhile has been away all the time, as far as is known.
            KeyNews::Away { since, .. } => drop(time.since.get_or_insert(*since)),
            _ => *time = TimeAway { over: time.total(now), since: None },
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("numbers", &self.lock().numbers).finish_non_exhaustive()
    }
}
