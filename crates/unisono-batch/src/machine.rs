//! The engine as a pure state machine: told the time and what finished, it says what may start and until when to
//! wait. No I/O, no clock, no runtime, no payloads; these live in its driver, found by `Ticket::slot`.
//!
//! An item is *queued* (first in, first out, per key), *running*, or *waiting* for its backoff outside the queue,
//! where it holds no slot. It ends when it is *decided*, exactly once. Deciding and releasing are two events: work
//! that cannot be stopped is detached from its item and goes on counting against the limits until it really ends.
//!
//! The order of things in one turn: `expire` until it has nothing more, `lease` until it has nothing more, then
//! `wants` says what to wait for. An answer never depends on how often these are called in between.
//!
//! No priorities: two batches do the same, with less to reason about.

mod expiry;
mod peers;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use fastrand::Rng;
use unisono_core::{Limits, Overrides, Peer};

use crate::{
    gcra::Gcra,
    keys::Keys,
    look_ahead::LookAhead,
    protocol::{Finish, KeyNews, Lease, Ruling, Settings, Wants},
    slots::{Slot, Slots, State},
    ticket::Ticket,
    too_long::{Asker, Bound, TooLong},
};

/// The state machine. See the module's documentation for how to drive it.
///
/// ```
/// # use std::time::Instant;
/// # use unisono_batch::{Finish, Machine, Ruling, Settings};
/// # use unisono_core::Peer;
/// let now = Instant::now();
/// let mut machine = Machine::new(Settings::default(), 1);
/// let ticket = machine.offer(now, "db-1.internal");
/// machine.end_of_input();
///
/// let lease = machine.lease(now).expect("nothing else runs");
/// assert_eq!((lease.ticket, lease.attempt), (ticket, 1));
/// let ruling = machine.finish(now, ticket, Finish::Retry { not_before: None }, Peer::Unknown);
/// let Ruling::Again { at: due, .. } = ruling else { panic!("there are repeats left: {ruling:?}") };
/// assert!(machine.lease(now).is_none(), "it waits for its backoff");
/// assert_eq!(machine.lease(due).map(|lease| lease.attempt), Some(2));
/// ```
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    rng: Rng,
    slots: Slots,
    keys: Keys,
    bucket: Gcra,
    /// When something can start that waits for its time only, as the driver was last told.
    start_at: Option<Instant>,
    /// What was leased last, since the limits are what they are.
    last_start: Option<Ticket>,
    /// How late the driver came to it: what starts now could have started by so much earlier.
    late: Duration,
    in_flight: u32,
    look_ahead: LookAhead,
    undecided: usize,
    /// Those of them that were started and do not wait for a peer that is away: each will need room in the sink.
    owed: usize,
    credit: usize,
    /// Items that wait for their backoff, by its end. An item that was decided meanwhile leaves a stale entry.
    delayed: BinaryHeap<Reverse<(Instant, Ticket)>>,
    /// Items that were about to start when their deadline was over already.
    overdue: VecDeque<Ticket>,
    /// Keys whose pause is too long to wait for; their queues are to be decided.
    refusing: VecDeque<usize>,
    /// Held keys, by the time up to which their peer is waited for. A key that is held no more leaves a stale entry.
    away: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Keys whose peer is waited for no longer; their queues are to be decided.
    giving_up: VecDeque<usize>,
    /// Probes under way.
    probes: u32,
    news: Vec<(usize, KeyNews)>,
    input_ended: bool,
    stop: Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Run,
    /// What runs may go on until then.
    Drain(Instant),
    Abort,
}

impl Machine {
    /// A machine with nothing in it. The same seed and the same history give the same answers.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: Rng::with_seed(seed),
            slots: Slots::default(),
            keys: Keys::new(settings.ordered_by_key, settings.retry.host_away),
            bucket: Gcra::default(),
            start_at: None,
            last_start: None,
            late: Duration::ZERO,
            in_flight: 0,
            look_ahead: LookAhead::default(),
            undecided: 0,
            owed: 0,
            credit: usize::MAX,
            delayed: BinaryHeap::new(),
            overdue: VecDeque::new(),
            refusing: VecDeque::new(),
            away: BinaryHeap::new(),
            giving_up: VecDeque::new(),
            probes: 0,
            news: Vec::new(),
            input_ended: false,
            stop: Stop::Run,
        }
    }

    /// Takes in one item. To offer more than [`Wants::pull`] gives up the bound on memory, nothing else.
    pub fn offer(&mut self, now: Instant, key: &str) -> Ticket {
        self.offer_with(now, key, Overrides::default())
    }

    /// The same with an item that has bounds of its own.
    pub fn offer_with(&mut self, now: Instant, key: &str, overrides: Overrides) -> Ticket {
        let key = self.keys.find_or_make(now, key, self.settings.retry.budget);
        let ticket = self.slots.occupy(key, State::Queued, overrides);
        self.undecided += 1;
        self.enqueue(now, ticket, End::Back);
        if self.is_refusing(key, now) {
            self.refusing.push_back(key);
        }
        ticket
    }

    /// No more items will be offered.
    pub fn end_of_input(&mut self) {
        self.input_ended = true;
    }

    /// The next item that may start an attempt now.
    pub fn lease(&mut self, now: Instant) -> Option<Lease> {
        if let Some(at) = self.start_at.take_if(|at| *at <= now) {
            self.late = (now - at).min(MOST_LATE);
        }
        if self.stop != Stop::Run || self.in_flight >= self.settings.limits.limit.get() {
            return None;
        }
        if self.settings.limits.rate.is_some_and(|rate| self.bucket.next(&rate, now) > now) {
            return None;
        }
        self.requeue_delayed(now);
        self.keys.wake(now, &self.settings.limits);
        for _ in 0..self.keys.ready() {
            let index = self.keys.take_ready()?;
            let Some(ticket) = self.front(index) else { continue };
            let limits = &self.settings.limits;
            if !self.keys.may_start(index, limits) {
                continue;
            }
            let at = self.keys.get(index).next_start(now, limits);
            if at > now {
                self.keys.sleep(index, at);
                continue;
            }
            if self.slots[ticket].item_by.is_some_and(|by| by <= now) {
                self.leave_state(ticket);
                self.overdue.push_back(ticket);
                self.keys.enlist(index, &self.settings.limits);
                continue;
            }
            if !self.slots[ticket].owes && self.owed >= self.credit {
                self.keys.enlist(index, &self.settings.limits);
                continue;
            }
            if self.keys.get(index).health.is_held() && self.probes >= self.most_probes() {
                self.keys.await_probe(index);
                continue;
            }
            return Some(self.start(now, index, ticket));
        }
        None
    }

    /// What to wait for, once `expire` and `lease` have nothing more.
    pub fn wants(&mut self, now: Instant) -> Wants {
        let stopping = self.stop != Stop::Run;
        let finished = self.undecided == 0 && (self.input_ended || stopping);
        let blocked = stopping || self.input_ended || self.owed >= self.credit;
        let pull = if blocked { 0 } else { self.look_ahead.room(self.settings.limits.limit.get()) };
        let mut until = None;
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                until = Some(until.map_or(at, |until: Instant| until.min(at)));
            }
        };
        consider(self.due());
        consider((!self.overdue.is_empty()).then_some(now));
        consider(self.away.peek().map(|Reverse((at, _))| *at));
        self.start_at = None;
        if !stopping && self.in_flight < self.settings.limits.limit.get() {
            // Before the rate over all keys allows it, nothing starts, whatever else becomes due.
            let open = self.settings.limits.rate.map_or(now, |rate| self.bucket.next(&rate, now));
            let ready = (self.keys.ready() > 0 && open > now).then_some(open);
            let awake = self.keys.next_wake().map(|at| at.max(open));
            let again = self.delayed.peek().map(|Reverse((at, _))| (*at).max(open));
            self.start_at = [ready, awake, again].into_iter().flatten().min();
            // All that could catch up has. This is not reached where the limit of what is in flight interrupts that: it
            // goes on when something has ended.
            self.late = Duration::ZERO;
            consider(self.start_at);
        }
        Wants { pull, until, finished }
    }

    /// Says how an attempt ended, or decides an item that `expire` named.
    /// `peer` is what the attempt tells of the peer that the key stands for.
    pub fn finish(&mut self, now: Instant, ticket: Ticket, finish: Finish, peer: Peer) -> Ruling {
        if !self.slots.is_current(ticket) {
            return Ruling::Stale;
        }
        if self.slots[ticket].state == State::Running {
            // While it still counts as in flight: a window is halved from all that was out there, and what is queued is
            // held before this one may be queued again.
            self.hear(now, ticket, peer, finish == Finish::Unmet);
            let is_accepted = !matches!(finish, Finish::Throttled { .. } | Finish::Unmet)
                && !matches!(peer, Peer::Overloaded | Peer::Silent);
            let Slot { key: index, started, .. } = self.slots[ticket];
            if is_accepted && self.keys.get_mut(index).pace.accept(now, started.unwrap_or(now)) {
                self.keys.rouse(index, &self.settings.limits);
            }
        }
        // Its place is free from here on, whatever becomes of the item: what waits for a repeat holds none.
        self.leave_state(ticket);
        let is_away = peer == Peer::Away && self.settings.retry.host_away.is_some();
        let is_late = self.slots[ticket].item_by.is_some_and(|by| by <= now);
        let is_stopping = self.stop != Stop::Run;
        let ruling = match finish {
            Finish::Final => Ruling::Decided,
            // What has no repeats left has its end. What has some, or would wait for its peer, is left to the next run.
            Finish::Retry { .. } if is_stopping && !self.has_repeats(ticket) => Ruling::Decided,
            Finish::Unmet if is_stopping && !is_away && !self.has_repeats(ticket) => Ruling::Decided,
            // Before the deadline: the next run tries again what was cancelled, and leaves alone what is out of time.
            _ if is_stopping => Ruling::Stopping,
            _ if is_late => Ruling::Late,
            Finish::Unmet if is_away => self.wait(now, ticket),
            Finish::Unmet => self.retry(now, ticket, None),
            Finish::Retry { not_before } => self.retry(now, ticket, not_before),
            Finish::Throttled { until, quota } => self.throttle(now, ticket, until, quota),
        };
        // By any other ruling the item goes on, or the driver comes back with `Final` when the job has said what that
        // means.
        if ruling == Ruling::Decided {
            self.undecided -= 1;
            self.vacate(ticket);
        }
        ruling
    }

    /// An attempt that was leased did not begin, and its item is decided. What it took of the rates is given back where
    /// nothing was leased since and no limit was changed: a schedule can be taken back by its last step only.
    pub fn revoke(&mut self, now: Instant, ticket: Ticket) {
        if self.last_start.take_if(|last| *last == ticket).is_some() && self.slots.is_current(ticket) {
            let limits = self.settings.limits;
            let index = self.slots[ticket].key;
            if let Some(rate) = &limits.rate {
                self.bucket.give_back(rate);
            }
            if let Some(rate) = &limits.per_key_rate {
                self.keys.get_mut(index).bucket.give_back(rate);
            }
            // The key may sleep until the start that would have come after this one.
            self.keys.rouse(index, &limits);
        }
        self.finish(now, ticket, Finish::Final, Peer::Unknown);
    }

    /// The running work of this item goes on after its decision. The ticket that is returned holds the slot until it
    /// is given to [`Machine::release`].
    pub fn detach(&mut self, ticket: Ticket) -> Option<Ticket> {
        if !self.slots.is_in(ticket, State::Running) || self.slots[ticket].detached {
            return None;
        }
        let key = self.slots[ticket].key;
        let ghost = self.slots.occupy(key, State::Detached, Overrides::default());
        self.slots[ticket].detached = true;
        Some(ghost)
    }

    /// Detached work has ended.
    pub fn release(&mut self, ghost: Ticket) {
        if self.slots.is_in(ghost, State::Detached) {
            let key = self.slots[ghost].key;
            self.release_flight(key);
            self.vacate(ghost);
        }
    }

    /// How many outcomes the sink has room for, counting those of items that were started and are undecided.
    pub fn set_credit(&mut self, outcomes: usize) {
        self.credit = outcomes;
    }

    /// Changes how much may be in flight and how often something may start; what runs already is left alone.
    pub fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.settings.limits = limits;
        self.last_start = None;
        if let Some(rate) = &limits.rate {
            self.bucket.retune(rate, now);
        }
        self.keys.retune(now, &limits);
    }

    /// The limits now in force.
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    /// Nothing of this item's key starts before then; returns by how much that lengthens its pause.
    pub fn pause(&mut self, now: Instant, ticket: Ticket, until: Instant) -> Duration {
        if !self.slots.is_current(ticket) {
            return Duration::ZERO;
        }
        let key = self.slots[ticket].key;
        self.pause_key(now, key, until)
    }

    /// Nothing with this key starts before then. An unknown key has nothing to pause.
    pub fn pause_named(&mut self, now: Instant, key: &str, until: Instant) -> Duration {
        match self.keys.find(key) {
            Some(key) => self.pause_key(now, key, until),
            None => Duration::ZERO,
        }
    }

    /// Starts nothing new. What runs may go on for the grace period, what does not run is decided as cancelled.
    pub fn drain(&mut self, now: Instant, grace: Duration) {
        if self.stop == Stop::Run {
            self.stop = Stop::Drain(now + grace);
        }
    }

    /// Stops everything now.
    pub fn abort(&mut self) {
        self.stop = Stop::Abort;
    }

    /// Whether a drain or an abort was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stop != Stop::Run
    }

    /// Attempts under way, detached work included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Items that are queued or wait for their backoff.
    pub fn pending(&self) -> usize {
        self.look_ahead.len()
    }

    /// The keys that are paused now, and until when.
    pub fn paused(&self, now: Instant) -> impl Iterator<Item = (&str, Instant)> {
        self.keys.iter().filter_map(move |key| {
            let until = key.paused_until.filter(|until| *until > now && key.queued + key.delayed > 0)?;
            Some((&*key.name, until))
        })
    }

    /// The keys whose peer is away while they have something to do, since when, and whether it is silent.
    pub fn held(&self) -> impl Iterator<Item = (&str, Instant, bool)> {
        self.keys.iter().filter_map(|key| {
            let held = key.health.held()?;
            (held.probe.is_some() || key.queued + key.delayed > 0).then_some(())?;
            Some((&*key.name, held.since, held.is_silent))
        })
    }

    /// The keys whose peer is overloaded while more of them is to start than it may be sent, and how much that is at
    /// once.
    pub fn lowered(&self, now: Instant) -> impl Iterator<Item = (&str, u32)> {
        let per_key = self.settings.limits.per_key.get();
        self.keys.iter().filter_map(move |key| {
            let most = key.health.lowered(per_key)?;
            let is_full = key.in_flight >= most || !key.pace.is_idle() || key.is_paused(now);
            (is_full && key.queued + key.delayed > 0).then_some((&*key.name, most))
        })
    }

    /// What is new about peers since this was last asked.
    pub fn take_news(&mut self) -> Vec<(usize, KeyNews)> {
        std::mem::take(&mut self.news)
    }

    /// The name of a key that [`Machine::take_news`] has just named.
    pub fn name_of(&self, key: usize) -> &str {
        &self.keys.get(key).name
    }

    /// The name of this item's key.
    pub fn key_name(&self, ticket: Ticket) -> &str {
        &self.keys.get(self.slots[ticket].key).name
    }

    /// Whether the attempt under way has had as long as any without times of its own. One that was cut short says
    /// nothing of its peer.
    pub fn had_its_time(&self, now: Instant, ticket: Ticket) -> bool {
        let times = self.settings.times;
        let least = times.timeout.into_iter().chain(times.deadline).min();
        let Slot { state, started, .. } = self.slots[ticket];
        let began = started.filter(|_| state == State::Running);
        began.zip(least).is_some_and(|(began, least)| now.saturating_duration_since(began) >= least)
    }

    /// How long one attempt of this item may take.
    pub fn timeout_of(&self, ticket: Ticket) -> Option<Duration> {
        self.slots[ticket].overrides().timeout.or(self.settings.times.timeout)
    }

    /// How long this item may take.
    pub fn deadline_of(&self, ticket: Ticket) -> Option<Duration> {
        self.slots[ticket].overrides().deadline.or(self.settings.times.deadline)
    }

    fn repeats_of(&self, ticket: Ticket) -> u16 {
        self.slots[ticket].overrides().repeats.unwrap_or(self.settings.retry.repeats)
    }

    /// When this item was first started.
    pub fn first_start(&self, ticket: Ticket) -> Option<Instant> {
        self.slots[ticket].first_start
    }

    /// How many keys are remembered.
    pub fn known_keys(&self) -> usize {
        self.keys.len()
    }
}

/// Where an item joins its key's queue: new ones at the back, repeats at the front.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

/// Starting and ending attempts.
impl Machine {
    fn start(&mut self, now: Instant, index: usize, ticket: Ticket) -> Lease {
        self.dequeue(ticket);
        self.in_flight += 1;
        self.last_start = Some(ticket);
        let dated = now.checked_sub(self.late).unwrap_or(now);
        if let Some(rate) = self.settings.limits.rate {
            self.bucket.start(&rate, now, dated);
        }
        self.probes += u32::from(self.keys.get(index).health.is_held());
        self.keys.get_mut(index).count_start(now, dated, ticket, &self.settings.limits);
        let (timeout, deadline) = (self.timeout_of(ticket), self.deadline_of(ticket));
        let epoch = self.keys.get(index).health.epoch();
        let slot = &mut self.slots[ticket];
        slot.state = State::Running;
        slot.epoch = epoch;
        slot.attempts = slot.attempts.saturating_add(1);
        slot.started = Some(now);
        let is_new = slot.first_start.is_none();
        if is_new {
            slot.first_start = Some(now);
        }
        let (attempt, is_owing) = (slot.attempts, std::mem::replace(&mut slot.owes, true));
        self.owed += usize::from(!is_owing);
        let attempt_by = timeout.map(|timeout| now + timeout);
        self.slots.time_attempt(ticket, attempt_by);
        // It may have one already, when it waited for a peer that was away.
        let item_by = self.slots.time_item(ticket, deadline.map(|deadline| now + deadline));
        if is_new {
            self.earn(index);
        }
        self.keys.enlist(index, &self.settings.limits);
        Lease { ticket, attempt, attempt_by, item_by }
    }

    fn has_repeats(&self, ticket: Ticket) -> bool {
        self.slots[ticket].counted < self.repeats_of(ticket)
    }

    fn retry(&mut self, now: Instant, ticket: Ticket, not_before: Option<Instant>) -> Ruling {
        let (policy, repeats) = (self.settings.retry, self.repeats_of(ticket));
        let slot = &mut self.slots[ticket];
        slot.counted = slot.counted.saturating_add(1);
        let (counted, item_by, key) = (slot.counted, slot.item_by, slot.key);
        if counted > repeats {
            return Ruling::Decided;
        }
        // What waits for the peer is told so now, and this one has looked for it itself.
        if let Some(held) = self.keys.get(key).health.held().filter(|held| held.is_given_up(now, policy.host_away)) {
            return Ruling::Away { since: held.since, is_silent: held.is_silent };
        }
        if let Some(at) = not_before.filter(|at| at.saturating_duration_since(now) > policy.max_wait) {
            return Ruling::Refused(TooLong::new(now, at, Asker::Answer, Bound::MaxWait(policy.max_wait)));
        }
        let backoff = self.jitter(policy.backoff.ceiling(counted));
        let at = (now + backoff).max(not_before.unwrap_or(now));
        // Before the budget is asked, since it will not be tried again. It ends at its deadline and not now: none is
        // reported before it is over.
        if item_by.is_some_and(|item_by| at >= item_by) {
            self.delay(ticket, at);
            return Ruling::OutOfTime;
        }
        if !self.spend(key) {
            return Ruling::Exhausted;
        }
        self.delay(ticket, at);
        Ruling::Again { at, paused: Duration::ZERO }
    }

    fn throttle(&mut self, now: Instant, ticket: Ticket, until: Option<Instant>, quota: bool) -> Ruling {
        let slot = &mut self.slots[ticket];
        slot.refusals = slot.refusals.saturating_add(1);
        let (key, refusals) = (slot.key, slot.refusals);
        let started = slot.started.unwrap_or(now);
        let asked = until.filter(|until| *until > now);
        let max_wait = self.settings.retry.max_wait;
        let own = match asked {
            // Jitter only adds: all that were told the same time would come back at once. It does not make a wait too
            // long that is allowed.
            Some(until) => {
                let jittered = until + self.jitter((until - now) / 10).min(MOST_JITTER);
                if until - now <= max_wait { jittered.min(now + max_wait) } else { jittered }
            }
            None if quota => {
                let until = self.keys.get_mut(key).pace.refuse(now, started, None);
                until + self.jitter((until - now) / 4)
            }
            None => now + self.jitter(self.settings.retry.backoff.ceiling(refusals)),
        };
        if quota && asked.is_some() {
            self.keys.get_mut(key).pace.refuse(now, started, Some(own));
        }
        if quota {
            // A slow pace's next start may have been later than the end of the pause.
            self.keys.rouse(key, &self.settings.limits);
        }
        let paused = self.pause_key(now, key, own);
        let at = self.keys.get(key).paused_until.unwrap_or(own);
        if let Some(bound) = self.exceeded(now, at, ticket) {
            // The pause of the key may be that of another item, which was told a later time.
            let wait = match asked {
                _ if at > own => TooLong::new(now, at, Asker::Pause, bound),
                Some(until) => TooLong::new(now, until, Asker::Answer, bound),
                None => TooLong::new(now, at, Asker::Backoff, bound),
            };
            return Ruling::Refused(wait);
        }
        self.slots[ticket].state = State::Queued;
        self.enqueue(now, ticket, End::Front);
        Ruling::Again { at, paused }
    }

    /// What forbids an item to wait until then, if anything does.
    fn exceeded(&self, now: Instant, at: Instant, ticket: Ticket) -> Option<Bound> {
        let max_wait = self.settings.retry.max_wait;
        if at.saturating_duration_since(now) > max_wait {
            return Some(Bound::MaxWait(max_wait));
        }
        let deadline = self.deadline_of(ticket).unwrap_or_default();
        self.slots[ticket].item_by.is_some_and(|item_by| at >= item_by).then_some(Bound::Deadline(deadline))
    }

    /// Nothing of the attempt reached its peer, which is away: the item waits for it as if it had never started.
    fn wait(&mut self, now: Instant, ticket: Ticket) -> Ruling {
        let since = *self.slots[ticket].first_unmet.get_or_insert(now);
        // Where the peer comes and goes, no hold may last so long.
        if self.settings.retry.host_away.is_some_and(|away| now >= since + away) {
            return Ruling::Away { since, is_silent: false };
        }
        self.slots[ticket].state = State::Queued;
        self.enqueue(now, ticket, End::Front);
        Ruling::Waits
    }

    fn queue_of(&self, index: usize) -> Vec<Ticket> {
        let queue = self.keys.get(index).queue.iter().copied();
        queue.filter(|ticket| self.slots.is_in(*ticket, State::Queued)).collect()
    }

    fn pause_key(&mut self, now: Instant, index: usize, until: Instant) -> Duration {
        let paused = self.keys.get_mut(index).pause(now, until);
        if self.is_refusing(index, now) {
            self.refusing.push_back(index);
        }
        paused
    }

    fn is_refusing(&self, index: usize, now: Instant) -> bool {
        let max_wait = self.settings.retry.max_wait;
        self.keys.get(index).paused_until.is_some_and(|until| until.saturating_duration_since(now) > max_wait)
    }

    fn earn(&mut self, index: usize) {
        if let Some(budget) = self.settings.retry.budget {
            let key = self.keys.get_mut(index);
            key.budget = (key.budget + budget.ratio).min(budget.reserve as f32);
        }
    }

    fn spend(&mut self, index: usize) -> bool {
        if self.settings.retry.budget.is_none() {
            return true;
        }
        let key = self.keys.get_mut(index);
        let enough = key.budget >= 1.0;
        if enough {
            key.budget -= 1.0;
        }
        enough
    }

    fn jitter(&mut self, ceiling: Duration) -> Duration {
        jitter(&mut self.rng, ceiling)
    }
}

/// Uniform in `0..=ceiling`.
fn jitter(rng: &mut Rng, ceiling: Duration) -> Duration {
    Duration::from_nanos(rng.u64(0..=u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX)))
}

/// Slots and queues.
impl Machine {
    fn vacate(&mut self, ticket: Ticket) {
        self.owed -= usize::from(self.slots[ticket].owes);
        self.slots.vacate(ticket);
    }

    /// Takes an item out of whatever it was in: its queue, its backoff, or its attempt.
    fn leave_state(&mut self, ticket: Ticket) {
        match self.slots[ticket].state {
            State::Queued => self.dequeue(ticket),
            State::Waiting => {
                self.look_ahead.undelay();
                let key = self.slots[ticket].key;
                self.keys.get_mut(key).delayed -= 1;
                self.keys.enlist(key, &self.settings.limits);
            }
            State::Running => {
                self.slots.untime_attempt(ticket);
                let slot = &mut self.slots[ticket];
                let (key, detached) = (slot.key, std::mem::take(&mut slot.detached));
                if !detached {
                    self.release_flight(key);
                }
            }
            State::Vacant | State::Parked | State::Detached => {}
        }
        self.slots[ticket].state = State::Parked;
    }

    fn release_flight(&mut self, key: usize) {
        self.in_flight -= 1;
        self.keys.get_mut(key).in_flight -= 1;
        self.keys.enlist(key, &self.settings.limits);
    }

    fn enqueue(&mut self, now: Instant, ticket: Ticket, end: End) {
        let key = self.keys.get_mut(self.slots[ticket].key);
        let is_held = key.health.is_held();
        match end {
            End::Back => key.queue.push_back(ticket),
            End::Front => key.queue.push_front(ticket),
        }
        self.look_ahead.enqueue(key.queued, is_held);
        key.queued += 1;
        if is_held {
            self.begin_to_wait(now, ticket);
        }
        let index = self.slots[ticket].key;
        self.keys.enlist(index, &self.settings.limits);
    }

    /// Takes an item out of its queue's count. Its entry goes at once when it is at the front, else when it is met, or
    /// when there are more that are left over than others: behind a first one that waits for long, any number may come
    /// and go.
    fn dequeue(&mut self, ticket: Ticket) {
        let index = self.slots[ticket].key;
        if self.keys.get(index).queue.len() > 2 * self.keys.get(index).queued + MOST_LEFT_OVER {
            let queued = self.queue_of(index);
            self.keys.get_mut(index).queue = queued.into();
        }
        let key = self.keys.get_mut(index);
        if key.queue.front() == Some(&ticket) {
            key.queue.pop_front();
        }
        let is_held = key.health.is_held();
        key.queued -= 1;
        self.look_ahead.dequeue(key.queued, is_held);
    }

    fn delay(&mut self, ticket: Ticket, at: Instant) {
        self.slots[ticket].state = State::Waiting;
        let key = self.slots[ticket].key;
        self.keys.get_mut(key).delayed += 1;
        self.look_ahead.delay();
        self.delayed.push(Reverse((at, ticket)));
    }

    fn requeue_delayed(&mut self, now: Instant) {
        while let Some(Reverse((at, ticket))) = self.delayed.peek().copied() {
            if at > now {
                return;
            }
            self.delayed.pop();
            if self.slots.is_in(ticket, State::Waiting) {
                self.leave_state(ticket);
                self.slots[ticket].state = State::Queued;
                // Where a peer hangs up on its probe, that may be for what this one asks for: others have their turn.
                let is_held = self.keys.get(self.slots[ticket].key).health.is_held();
                let gives_way = is_held && !self.settings.ordered_by_key;
                self.enqueue(now, ticket, if gives_way { End::Back } else { End::Front });
            }
        }
    }

    /// The first item in a key's queue that is still queued.
    fn front(&mut self, index: usize) -> Option<Ticket> {
        loop {
            let ticket = *self.keys.get(index).queue.front()?;
            if self.slots.is_in(ticket, State::Queued) {
                return Some(ticket);
            }
            self.keys.get_mut(index).queue.pop_front();
        }
    }
}

/// How many entries of items that are no longer queued are worth no look at their queue.
const MOST_LEFT_OVER: usize = 64;
/// How much lateness of the driver is made up for. A network that is late by this is none the worse; a program whose
/// threads share an interpreter is late by less.
const MOST_LATE: Duration = Duration::from_millis(20);
/// Spreads items that were told the same time; more would waste the quota of a short pause.
const MOST_JITTER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_whose_peer_is_overloaded_is_named_while_something_waits_for_that() {
        let limits = Limits::new(std::num::NonZeroU32::new(4), None);
        let (mut machine, now) = (Machine::new(Settings { limits, ..Settings::default() }, 0), Instant::now());
        let rows: Vec<Ticket> = (0..8).map(|_| machine.offer(now, "key")).collect();
        while machine.lease(now).is_some() {}
        assert_eq!(machine.lowered(now).count(), 0, "it waits for the limit alone");
        for ticket in &rows[..2] {
            machine.finish(now, *ticket, Finish::Final, Peer::Overloaded);
        }
        assert_eq!(machine.lowered(now).collect::<Vec<_>>(), [("key", 1)]);
        for ticket in &rows[2..] {
            machine.finish(now, *ticket, Finish::Final, Peer::Unknown);
        }
        assert_eq!(machine.lowered(now).count(), 0, "nothing waits");
    }

    #[test]
    fn what_comes_and_goes_behind_one_that_waits_leaves_nothing_in_its_queue() {
        let limits = Limits::new(std::num::NonZeroU32::new(1), None);
        let (mut machine, now) = (Machine::new(Settings { limits, ..Settings::default() }, 0), Instant::now());
        let inside = machine.offer(now, "key");
        assert!(machine.lease(now).is_some_and(|lease| lease.ticket == inside));
        let first = machine.offer(now, "key");
        for _ in 0..10_000 {
            let ticket = machine.offer(now, "key");
            machine.finish(now, ticket, Finish::Final, Peer::Unknown);
        }
        let key = machine.slots[first].key;
        assert!(machine.keys.get(key).queue.len() <= 2 + MOST_LEFT_OVER);
        machine.finish(now, inside, Finish::Final, Peer::Unknown);
        assert!(machine.lease(now).is_some_and(|lease| lease.ticket == first));
    }
}
