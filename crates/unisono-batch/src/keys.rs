//! The keys of a batch (for HTTP: hosts): which may start now, which sleep until when, which may be forgotten.
//!
//! Each key has a queue of its own. A key is in at most one of three others: `ready`, a round robin of those that may
//! start something; `asleep`, a heap by the time at which it wakes; or `probing`, the queue of those that would probe
//! their peers as soon as fewer others do. A key that has as much in flight as it may, or nothing queued, is in none;
//! each change of that enlists it again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;
use unisono_core::{Limits, RetryBudget};

use crate::{gcra::Gcra, health::Health, pace::Pace, ticket::Ticket};

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    /// Oldest first. A ticket whose item was decided meanwhile is stale and skipped when it is met.
    pub(crate) queue: VecDeque<Ticket>,
    /// Items in the queue that are not stale.
    pub(crate) queued: usize,
    /// Items that wait for their backoff outside the queue.
    pub(crate) delayed: usize,
    pub(crate) in_flight: u32,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) bucket: Gcra,
    pub(crate) pace: Pace,
    pub(crate) health: Health,
    /// Repeats that may still be taken.
    pub(crate) budget: f32,
    run_state: RunState,
    /// Tells an outdated entry of `asleep` from the present one.
    sleeps: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunState {
    /// In none of the three queues.
    Unlisted,
    Ready,
    Asleep,
    /// In `probing`.
    AwaitsProbe,
}

#[derive(Debug)]
pub(crate) struct Keys {
    slots: Slab<Key>,
    by_name: HashMap<Arc<str>, usize>,
    /// Where the last one was found: most items have the key of the one before, and a look there spares a hash.
    latest: usize,
    ready: VecDeque<usize>,
    asleep: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    probing: VecDeque<usize>,
    /// Idle keys are looked for when there are so many, so that a million hosts cost no more than those in use.
    sweep_at: usize,
    /// While the first item of a key is undecided, nothing else of it starts.
    in_order: bool,
    host_away: Option<Duration>,
}

impl Keys {
    pub(crate) fn new(in_order: bool, host_away: Option<Duration>) -> Self {
        Self {
            in_order,
            host_away,
            slots: Slab::new(),
            by_name: HashMap::new(),
            latest: 0,
            ready: VecDeque::new(),
            asleep: BinaryHeap::new(),
            probing: VecDeque::new(),
            sweep_at: FIRST_SWEEP,
        }
    }

    /// The key of this name, made when it is new or was forgotten.
    pub(crate) fn find_or_make(&mut self, now: Instant, name: &str, budget: Option<RetryBudget>) -> usize {
        if self.slots.get(self.latest).is_some_and(|key| *key.name == *name) {
            return self.latest;
        }
        if let Some(index) = self.by_name.get(name) {
            self.latest = *index;
            return *index;
        }
        if self.slots.len() >= self.sweep_at {
            self.sweep(now, budget);
        }
        let name: Arc<str> = name.into();
        let index = self.slots.insert(Key {
            name: name.clone(),
            queue: VecDeque::new(),
            queued: 0,
            delayed: 0,
            in_flight: 0,
            paused_until: None,
            bucket: Gcra::default(),
            pace: Pace::new(now),
            health: Health::default(),
            budget: budget.map_or(0.0, |budget| budget.reserve as f32),
            run_state: RunState::Unlisted,
            sleeps: 0,
        });
        self.by_name.insert(name, index);
        index
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, index: usize) -> &Key {
        &self.slots[index]
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut Key {
        &mut self.slots[index]
    }

    pub(crate) fn is_known(&self, index: usize) -> bool {
        self.slots.contains(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.slots.iter().map(|(_, key)| key)
    }

    /// Puts a key among those that may start, if it has something to start and is not there or asleep already.
    pub(crate) fn enlist(&mut self, index: usize, limits: &Limits) {
        if self.slots[index].run_state == RunState::Unlisted && self.may_start(index, limits) {
            self.slots[index].run_state = RunState::Ready;
            self.ready.push_back(index);
        }
    }

    /// Whether it has something to start and room for it, whatever the time says.
    pub(crate) fn may_start(&self, index: usize, limits: &Limits) -> bool {
        let key = &self.slots[index];
        let is_free = key.in_flight < key.health.capacity(limits.per_key.get()) && key.health.is_open();
        key.queued > 0 && is_free && !(self.in_order && (key.in_flight > 0 || key.delayed > 0))
    }

    /// A limit has changed, and no key's reason to wait may still hold: enlists all of them again.
    pub(crate) fn retune(&mut self, now: Instant, limits: &Limits) {
        if let Some(rate) = &limits.per_key_rate {
            self.slots.iter_mut().for_each(|(_, key)| key.bucket.retune(rate, now));
        }
        self.asleep.clear();
        self.probing.clear();
        let sleepers: Vec<usize> =
            self.slots.iter().filter(|(_, key)| key.run_state != RunState::Ready).map(|(index, _)| index).collect();
        for index in sleepers {
            self.slots[index].run_state = RunState::Unlisted;
            self.enlist(index, limits);
        }
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next key in turn; it must be put back or enlisted if it has more to start.
    pub(crate) fn take_ready(&mut self) -> Option<usize> {
        let index = self.ready.pop_front()?;
        self.slots[index].run_state = RunState::Unlisted;
        Some(index)
    }

    /// Lets a key sleep until then.
    pub(crate) fn sleep(&mut self, index: usize, until: Instant) {
        let key = &mut self.slots[index];
        key.run_state = RunState::Asleep;
        key.sleeps = key.sleeps.wrapping_add(1);
        self.asleep.push(Reverse((until, index, key.sleeps)));
    }

    /// Lets a key wait until fewer others probe their peers.
    pub(crate) fn await_probe(&mut self, index: usize) {
        self.slots[index].run_state = RunState::AwaitsProbe;
        self.probing.push_back(index);
    }

    /// One probe fewer is under way: enlists the first that waits for that and has something to start.
    pub(crate) fn admit_next_probe(&mut self, limits: &Limits) {
        while let Some(index) = self.probing.pop_front() {
            self.slots[index].run_state = RunState::Unlisted;
            self.enlist(index, limits);
            if self.slots[index].run_state == RunState::Ready {
                return;
            }
        }
    }

    /// What a key sleeps for may be over early.
    pub(crate) fn rouse(&mut self, index: usize, limits: &Limits) {
        if self.slots[index].run_state == RunState::Asleep {
            self.slots[index].run_state = RunState::Unlisted;
            self.enlist(index, limits);
        }
    }

    /// Enlists those whose time has come.
    pub(crate) fn wake(&mut self, now: Instant, limits: &Limits) {
        while let Some(Reverse((until, index, sleep))) = self.asleep.peek().copied() {
            let current = self.is_current_sleep(index, sleep);
            if current && until > now {
                return;
            }
            self.asleep.pop();
            if current {
                self.slots[index].run_state = RunState::Unlisted;
                self.enlist(index, limits);
            }
        }
    }

    /// When the next sleeper wakes.
    pub(crate) fn next_wake(&mut self) -> Option<Instant> {
        while let Some(Reverse((until, index, sleep))) = self.asleep.peek().copied() {
            if self.is_current_sleep(index, sleep) {
                return Some(until);
            }
            self.asleep.pop();
        }
        None
    }

    fn is_current_sleep(&self, index: usize, sleep: u32) -> bool {
        self.slots.get(index).is_some_and(|key| key.run_state == RunState::Asleep && key.sleeps == sleep)
    }

    fn sweep(&mut self, now: Instant, budget: Option<RetryBudget>) {
        let (by_name, host_away) = (&mut self.by_name, self.host_away);
        self.slots.retain(|_, key| {
            let keep = !(key.is_idle(now, budget) && key.health.is_idle(now, host_away));
            if !keep {
                by_name.remove(&key.name);
            }
            keep
        });
        self.sweep_at = FIRST_SWEEP.max(self.slots.len() * 2);
    }
}

impl Key {
    /// The first moment at which this key may start something.
    pub(crate) fn next_start(&self, now: Instant, limits: &Limits) -> Instant {
        let mut at = self.pace.next(now).max(self.paused_until.unwrap_or(now)).max(self.health.next_start(now));
        if let Some(rate) = &limits.per_key_rate {
            at = at.max(self.bucket.next(rate, now));
        }
        at
    }

    /// Counts a start, which could have come at `dated` already.
    pub(crate) fn count_start(&mut self, now: Instant, dated: Instant, ticket: Ticket, limits: &Limits) {
        self.in_flight += 1;
        self.health.start(ticket);
        self.pace.start(now, dated);
        if let Some(rate) = &limits.per_key_rate {
            self.bucket.start(rate, now, dated);
        }
    }

    /// Nothing starts before `until`; returns by how much that lengthens the pause. A pause is never shortened.
    pub(crate) fn pause(&mut self, now: Instant, until: Instant) -> Duration {
        let from = self.paused_until.map_or(now, |paused| paused.max(now));
        self.paused_until = Some(from.max(until));
        until.saturating_duration_since(from)
    }

    pub(crate) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    fn is_idle(&self, now: Instant, budget: Option<RetryBudget>) -> bool {
        self.queued == 0
            && self.delayed == 0
            && self.in_flight == 0
            && self.run_state == RunState::Unlisted
            && !self.is_paused(now)
            && self.pace.is_idle()
            && self.bucket.is_idle(now)
            // A key that comes back starts with a full reserve: at most half of one is given away by forgetting.
            && budget.is_none_or(|budget| self.budget >= budget.reserve as f32 / 2.0)
    }
}

const FIRST_SWEEP: usize = 256;
