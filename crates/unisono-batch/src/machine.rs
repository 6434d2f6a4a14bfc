//! The engine as a pure state machine: told the time and what finished, it says what may start and until when to
//! wait. No I/O, no clock, no runtime, no payloads; these live in whoever drives it, found by `Ticket::slot`.
//!
//! An item is *queued* (first in, first out, per key), *running*, or *waiting* for its backoff outside the queue,
//! where it holds no slot. It ends when it is *decided*, exactly once. Deciding and releasing are two events: work
//! that cannot be stopped is detached from its item and goes on counting against the limits until it really ends.
//!
//! The order of things in one turn: `expire` until it has nothing more, `lease` until it has nothing more, then
//! `wants` says what to wait for. An answer never depends on how often these are called in between.
//!
//! No priorities: two batches do the same, with less to reason about.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use fastrand::Rng;
use unisono_core::{Limits, RetryPolicy, Times};

use crate::{
    gcra::Gcra,
    keys::Keys,
    line::{Line, Link},
    too_long::{Asker, Bound, TooLong},
};

/// Everything that bounds a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settings {
    /// How much at once, and how often.
    pub limits: Limits,
    /// How long.
    pub times: Times,
    /// When again.
    pub retry: RetryPolicy,
}

/// Names an item while it is undecided. A stale one is recognised by its generation and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    slot: u32,
    generation: u32,
}

impl Ticket {
    /// An index below the number of items that were ever undecided at once: where a driver keeps the payload.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
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
    /// The batch is stopping: decide the item as cancelled, with [`Finish::Final`].
    Stopping,
    /// The ticket was stale.
    Stale,
}

/// Something that ends because of the time or a stop. Each is to be answered by [`Machine::finish`].
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
    /// Its key is paused for longer than anybody should wait: decide it.
    Refused {
        /// The item.
        ticket: Ticket,
        /// The wait.
        wait: TooLong,
    },
    /// The batch is stopping: stop it if it runs, and decide it.
    Cancelled {
        /// The item.
        ticket: Ticket,
        /// Whether an attempt is under way.
        running: bool,
    },
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    Queued,
    Waiting,
    Running,
    /// Named to the driver as to be decided; in no queue, holding nothing.
    Parked,
    /// Work that outlives its item and still holds its slot.
    Detached,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
    key: usize,
    /// Attempts so far.
    attempts: u16,
    /// Attempts that count against the repeats: all but those that were throttled.
    counted: u16,
    first_start: Option<Instant>,
    attempt_by: Option<Instant>,
    item_by: Option<Instant>,
    /// Its running work was detached: finishing the attempt frees no slot.
    detached: bool,
    attempt_link: Link,
    item_link: Link,
}

/// The state machine. See the module's documentation for how to drive it.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    rng: Rng,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    keys: Keys,
    bucket: Gcra,
    /// When something can start that waits for its time only, as the driver was last told.
    start_at: Option<Instant>,
    /// How late the driver came to it: what starts now could have started by so much earlier.
    late: Duration,
    in_flight: u32,
    /// Items queued in any key.
    queued: usize,
    /// Queued items, but of each key only so many that a paused one cannot fill the look-ahead.
    counted: usize,
    waiting: usize,
    undecided: usize,
    /// Those of them that were started: each will need room in the sink.
    owed: usize,
    credit: usize,
    /// Items that wait for their backoff, by its end. An item that was decided meanwhile leaves a stale entry.
    delayed: BinaryHeap<Reverse<(Instant, Ticket)>>,
    /// Running attempts by their timeout.
    attempts: Line,
    /// Undecided items that were started, by their deadline.
    items: Line,
    /// Keys whose pause is too long to wait for; their queues are to be decided.
    refusing: VecDeque<usize>,
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
            slots: Vec::new(),
            vacant: Vec::new(),
            keys: Keys::new(),
            bucket: Gcra::default(),
            start_at: None,
            late: Duration::ZERO,
            in_flight: 0,
            queued: 0,
            counted: 0,
            waiting: 0,
            undecided: 0,
            owed: 0,
            credit: usize::MAX,
            delayed: BinaryHeap::new(),
            attempts: Line::default(),
            items: Line::default(),
            refusing: VecDeque::new(),
            input_ended: false,
            stop: Stop::Run,
        }
    }

    /// Takes in one item. Whoever offers more than [`Wants::pull`] gives up the bound on memory, nothing else.
    pub fn offer(&mut self, now: Instant, key: &str) -> Ticket {
        let key = self.keys.find_or_make(now, key, self.settings.retry.budget);
        let ticket = self.occupy(key, State::Queued);
        self.undecided += 1;
        self.enqueue(ticket, End::Back);
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
            if self.keys.get(index).in_flight >= limits.per_key.get() {
                continue;
            }
            let at = self.keys.get(index).next_start(now, limits);
            if at > now {
                self.keys.sleep(index, at);
                continue;
            }
            let is_new = self.slot(ticket).first_start.is_none();
            if is_new && self.owed >= self.credit {
                self.keys.enlist(index, &self.settings.limits);
                continue;
            }
            return Some(self.start(now, index, ticket));
        }
        None
    }

    /// The next thing that has to end because of the time or a stop.
    ///
    /// Work under way is late when its time was over at `seen`: until then, all that had arrived was told to those who
    /// wait for it. Without I/O, that is now.
    pub fn expire(&mut self, now: Instant, seen: Instant) -> Option<Expired> {
        self.expire_stopped(seen).or_else(|| self.expire_late(seen)).or_else(|| self.expire_refused(now))
    }

    /// When the time of whatever runs out first is over: an attempt, an item, or the grace period of a stop.
    pub fn due(&self) -> Option<Instant> {
        let attempt = self.attempts.first().and_then(|slot| self.slots[slot as usize].attempt_by);
        let item = self.items.first().and_then(|slot| self.slots[slot as usize].item_by);
        let grace = match self.stop {
            Stop::Drain(end) => (self.undecided > 0).then_some(end),
            Stop::Run | Stop::Abort => None,
        };
        [attempt, item, grace].into_iter().flatten().min()
    }

    /// What to wait for, once `expire` and `lease` have nothing more.
    pub fn wants(&mut self, now: Instant) -> Wants {
        let stopping = self.stop != Stop::Run;
        let finished = self.undecided == 0 && (self.input_ended || stopping);
        let blocked = stopping || self.input_ended || self.owed >= self.credit;
        let pull = if blocked { 0 } else { self.room() };
        let mut until = None;
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                until = Some(until.map_or(at, |until: Instant| until.min(at)));
            }
        };
        consider(self.due());
        self.start_at = None;
        if !stopping && self.in_flight < self.settings.limits.limit.get() {
            // Before the rate over all keys allows it, nothing starts, whatever else becomes due.
            let open = self.settings.limits.rate.map_or(now, |rate| self.bucket.next(&rate, now));
            let ready = (self.keys.ready() > 0 && open > now).then_some(open);
            let awake = self.keys.next_wake().map(|at| at.max(open));
            let again = self.delayed.peek().map(|Reverse((at, _))| (*at).max(open));
            self.start_at = [ready, awake, again].into_iter().flatten().min();
            // Where the limit of what is in flight interrupts those who catch up, they go on when it lets them.
            self.late = Duration::ZERO;
            consider(self.start_at);
        }
        Wants { pull, until, finished }
    }

    /// Says how an attempt ended, or decides an item that `expire` named.
    pub fn finish(&mut self, now: Instant, ticket: Ticket, finish: Finish) -> Ruling {
        if !self.is_current(ticket) {
            return Ruling::Stale;
        }
        let index = self.slot(ticket).key;
        if self.slot(ticket).state == State::Running && !matches!(finish, Finish::Throttled { .. }) {
            self.keys.get_mut(index).pace.accept();
        }
        self.leave_state(ticket);
        let ruling = match finish {
            Finish::Final => Ruling::Decided,
            _ if self.stop != Stop::Run => Ruling::Stopping,
            Finish::Retry { not_before } => self.retry(now, ticket, not_before),
            Finish::Throttled { until, quota } => self.throttle(now, ticket, until, quota),
        };
        if ruling == Ruling::Decided {
            self.undecided -= 1;
            self.vacate(ticket);
        }
        ruling
    }

    /// The running work of this item goes on after its decision. The ticket that is returned holds the slot until it
    /// is given to [`Machine::release`].
    pub fn detach(&mut self, ticket: Ticket) -> Option<Ticket> {
        if !self.is_current(ticket) || self.slot(ticket).state != State::Running || self.slot(ticket).detached {
            return None;
        }
        let key = self.slot(ticket).key;
        let ghost = self.occupy(key, State::Detached);
        self.slot_mut(ticket).detached = true;
        Some(ghost)
    }

    /// Detached work has ended.
    pub fn release(&mut self, ghost: Ticket) {
        if self.is_current(ghost) && self.slot(ghost).state == State::Detached {
            let key = self.slot(ghost).key;
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
        if let Some(rate) = &limits.rate {
            self.bucket.retune(rate, now);
        }
        self.keys.retune(now, &limits);
    }

    /// The limits now in force.
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    /// Nothing of this item's key starts before then; answers by how much that lengthens its pause.
    pub fn pause(&mut self, now: Instant, ticket: Ticket, until: Instant) -> Duration {
        if !self.is_current(ticket) {
            return Duration::ZERO;
        }
        let key = self.slot(ticket).key;
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
        self.queued + self.waiting
    }

    /// The keys that are paused now, and until when.
    pub fn paused(&self, now: Instant) -> impl Iterator<Item = (&str, Instant)> {
        self.keys.iter().filter_map(move |key| {
            let until = key.paused_until.filter(|until| *until > now && key.queued + key.delayed > 0)?;
            Some((&*key.name, until))
        })
    }

    /// The name of this item's key.
    pub fn key_name(&self, ticket: Ticket) -> &str {
        &self.keys.get(self.slot(ticket).key).name
    }

    /// When this item was first started.
    pub fn first_start(&self, ticket: Ticket) -> Option<Instant> {
        self.slot(ticket).first_start
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
        let dated = now.checked_sub(self.late).unwrap_or(now);
        if let Some(rate) = self.settings.limits.rate {
            self.bucket.start(&rate, now, dated);
        }
        self.keys.get_mut(index).count_start(now, dated, &self.settings.limits);
        let times = self.settings.times;
        let slot = self.slot_mut(ticket);
        slot.state = State::Running;
        slot.attempts = slot.attempts.saturating_add(1);
        slot.attempt_by = times.timeout.map(|timeout| now + timeout);
        let is_new = slot.first_start.is_none();
        if is_new {
            slot.first_start = Some(now);
            slot.item_by = times.deadline.map(|deadline| now + deadline);
        }
        let lease = Lease { ticket, attempt: slot.attempts, attempt_by: slot.attempt_by, item_by: slot.item_by };
        if lease.attempt_by.is_some() {
            self.attempts.join(&mut self.slots, attempt_link, ticket.slot);
        }
        if is_new {
            self.owed += 1;
            if lease.item_by.is_some() {
                self.items.join(&mut self.slots, item_link, ticket.slot);
            }
            self.earn(index);
        }
        self.keys.enlist(index, &self.settings.limits);
        lease
    }

    fn retry(&mut self, now: Instant, ticket: Ticket, not_before: Option<Instant>) -> Ruling {
        let policy = self.settings.retry;
        let slot = self.slot_mut(ticket);
        slot.counted = slot.counted.saturating_add(1);
        let (counted, item_by, key) = (slot.counted, slot.item_by, slot.key);
        if counted > policy.repeats {
            return Ruling::Decided;
        }
        if let Some(at) = not_before.filter(|at| at.saturating_duration_since(now) > policy.max_wait) {
            return Ruling::Refused(TooLong::new(now, at, Asker::Answer, Bound::MaxWait(policy.max_wait)));
        }
        let backoff = self.jitter(policy.backoff.ceiling(counted));
        let at = (now + backoff).max(not_before.unwrap_or(now));
        // A repeat that could only start after the deadline would be a wait for nothing.
        if item_by.is_some_and(|item_by| at >= item_by) || !self.spend(key) {
            return Ruling::Decided;
        }
        self.delay(ticket, at);
        Ruling::Again { at, paused: Duration::ZERO }
    }

    fn throttle(&mut self, now: Instant, ticket: Ticket, until: Option<Instant>, quota: bool) -> Ruling {
        let slot = self.slot(ticket);
        let (key, item_by, refusals) = (slot.key, slot.item_by, slot.attempts - slot.counted);
        let asked = until.filter(|until| *until > now);
        let max_wait = self.settings.retry.max_wait;
        let own = match asked {
            // Jitter only adds: everybody who was told the same time would come back at once. It does not make a wait too
            // long that is allowed.
            Some(until) => {
                let jittered = until + self.jitter((until - now) / 10).min(MOST_JITTER);
                if until - now <= max_wait { jittered.min(now + max_wait) } else { jittered }
            }
            None => now + self.jitter(self.settings.retry.backoff.ceiling(refusals)),
        };
        if quota && !self.keys.get(key).is_paused(now) {
            self.keys.get_mut(key).pace.refuse(now, own);
        }
        let paused = self.pause_key(now, key, own);
        let at = self.keys.get(key).paused_until.unwrap_or(own);
        if let Some(bound) = self.exceeded(now, at, item_by) {
            // The pause of the key may be that of another item, which was told a later time.
            let wait = match asked {
                _ if at > own => TooLong::new(now, at, Asker::Pause, bound),
                Some(until) => TooLong::new(now, until, Asker::Answer, bound),
                None => TooLong::new(now, at, Asker::Nobody, bound),
            };
            return Ruling::Refused(wait);
        }
        self.slot_mut(ticket).state = State::Queued;
        self.enqueue(ticket, End::Front);
        Ruling::Again { at, paused }
    }

    /// What forbids an item to wait until then, if anything does.
    fn exceeded(&self, now: Instant, at: Instant, item_by: Option<Instant>) -> Option<Bound> {
        let max_wait = self.settings.retry.max_wait;
        if at.saturating_duration_since(now) > max_wait {
            return Some(Bound::MaxWait(max_wait));
        }
        let deadline = self.settings.times.deadline.unwrap_or_default();
        item_by.is_some_and(|item_by| at >= item_by).then_some(Bound::Deadline(deadline))
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

    /// Uniform in `0..=ceiling`.
    fn jitter(&mut self, ceiling: Duration) -> Duration {
        Duration::from_nanos(self.rng.u64(0..=u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// What ends by itself.
impl Machine {
    fn expire_stopped(&mut self, seen: Instant) -> Option<Expired> {
        let stop_running = match self.stop {
            Stop::Run => return None,
            Stop::Drain(end) => seen >= end,
            Stop::Abort => true,
        };
        // Rare and once per batch, so a walk over all slots is fine; each answer leaves one fewer.
        let found = self.slots.iter().position(|slot| match slot.state {
            State::Queued | State::Waiting => true,
            State::Running => stop_running,
            State::Vacant | State::Parked | State::Detached => false,
        })?;
        let ticket = self.ticket(found as u32);
        Some(Expired::Cancelled { ticket, running: self.slot(ticket).state == State::Running })
    }

    fn expire_late(&mut self, seen: Instant) -> Option<Expired> {
        if let Some(slot) = self.items.first()
            && self.slots[slot as usize].item_by.is_some_and(|by| by <= seen)
        {
            let ticket = self.ticket(slot);
            return Some(Expired::Item { ticket, running: self.slot(ticket).state == State::Running });
        }
        let slot = self.attempts.first()?;
        let late = self.slots[slot as usize].attempt_by.is_some_and(|by| by <= seen);
        late.then(|| Expired::Attempt(self.ticket(slot)))
    }

    fn expire_refused(&mut self, now: Instant) -> Option<Expired> {
        while let Some(index) = self.refusing.front().copied() {
            // The pause may be over, or the key gone, by the time its turn comes.
            if self.keys.is_known(index)
                && self.is_refusing(index, now)
                && let Some(ticket) = self.front(index)
            {
                let retry_at = self.keys.get(index).paused_until.unwrap_or(now);
                let bound = Bound::MaxWait(self.settings.retry.max_wait);
                return Some(Expired::Refused { ticket, wait: TooLong::new(now, retry_at, Asker::Pause, bound) });
            }
            self.refusing.pop_front();
        }
        None
    }
}

/// Slots and queues.
impl Machine {
    /// How many more items fit into the look-ahead.
    fn room(&self) -> usize {
        let normal = (4 * self.settings.limits.limit.get() as usize).max(LEAST_LOOK_AHEAD);
        let most = 4 * normal;
        normal.saturating_sub(self.counted + self.waiting).min(most.saturating_sub(self.queued + self.waiting))
    }

    fn occupy(&mut self, key: usize, state: State) -> Ticket {
        let fresh = Slot {
            generation: 0,
            state,
            key,
            attempts: 0,
            counted: 0,
            first_start: None,
            attempt_by: None,
            item_by: None,
            detached: false,
            attempt_link: Link::default(),
            item_link: Link::default(),
        };
        match self.vacant.pop() {
            Some(slot) => {
                let generation = self.slots[slot as usize].generation;
                self.slots[slot as usize] = Slot { generation, ..fresh };
                Ticket { slot, generation }
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("the look-ahead bounds the slots far below 2^32");
                self.slots.push(fresh);
                Ticket { slot, generation: 0 }
            }
        }
    }

    fn vacate(&mut self, ticket: Ticket) {
        self.items.leave(&mut self.slots, item_link, ticket.slot);
        let slot = self.slot_mut(ticket);
        slot.state = State::Vacant;
        slot.generation = slot.generation.wrapping_add(1);
        let started = slot.first_start.is_some();
        self.owed -= usize::from(started);
        self.vacant.push(ticket.slot);
    }

    /// Takes an item out of whatever it was in: its queue, its backoff, or its attempt.
    fn leave_state(&mut self, ticket: Ticket) {
        match self.slot(ticket).state {
            State::Queued => self.dequeue(ticket),
            State::Waiting => {
                self.waiting -= 1;
                let key = self.slot(ticket).key;
                self.keys.get_mut(key).delayed -= 1;
            }
            State::Running => {
                self.attempts.leave(&mut self.slots, attempt_link, ticket.slot);
                let slot = self.slot_mut(ticket);
                let (key, detached) = (slot.key, std::mem::take(&mut slot.detached));
                if !detached {
                    self.release_flight(key);
                }
            }
            State::Vacant | State::Parked | State::Detached => {}
        }
        self.slot_mut(ticket).state = State::Parked;
    }

    fn release_flight(&mut self, key: usize) {
        self.in_flight -= 1;
        self.keys.get_mut(key).in_flight -= 1;
        self.keys.enlist(key, &self.settings.limits);
    }

    fn enqueue(&mut self, ticket: Ticket, end: End) {
        let key = self.keys.get_mut(self.slots[ticket.slot()].key);
        match end {
            End::Back => key.queue.push_back(ticket),
            End::Front => key.queue.push_front(ticket),
        }
        self.counted += usize::from(key.queued < SHARE);
        key.queued += 1;
        self.queued += 1;
        let index = self.slot(ticket).key;
        self.keys.enlist(index, &self.settings.limits);
    }

    /// Takes an item out of its queue's count. Its entry goes at once when it is at the front, else when it is met.
    fn dequeue(&mut self, ticket: Ticket) {
        let key = self.keys.get_mut(self.slots[ticket.slot()].key);
        if key.queue.front() == Some(&ticket) {
            key.queue.pop_front();
        }
        key.queued -= 1;
        self.counted -= usize::from(key.queued < SHARE);
        self.queued -= 1;
    }

    fn delay(&mut self, ticket: Ticket, at: Instant) {
        self.slot_mut(ticket).state = State::Waiting;
        let key = self.slot(ticket).key;
        self.keys.get_mut(key).delayed += 1;
        self.waiting += 1;
        self.delayed.push(Reverse((at, ticket)));
    }

    fn requeue_delayed(&mut self, now: Instant) {
        while let Some(Reverse((at, ticket))) = self.delayed.peek().copied() {
            if at > now {
                return;
            }
            self.delayed.pop();
            if self.is_current(ticket) && self.slot(ticket).state == State::Waiting {
                self.leave_state(ticket);
                self.slot_mut(ticket).state = State::Queued;
                self.enqueue(ticket, End::Front);
            }
        }
    }

    /// The first item in a key's queue that is still queued.
    fn front(&mut self, index: usize) -> Option<Ticket> {
        loop {
            let ticket = *self.keys.get(index).queue.front()?;
            if self.is_current(ticket) && self.slot(ticket).state == State::Queued {
                return Some(ticket);
            }
            self.keys.get_mut(index).queue.pop_front();
        }
    }

    fn ticket(&self, slot: u32) -> Ticket {
        Ticket { slot, generation: self.slots[slot as usize].generation }
    }

    fn slot(&self, ticket: Ticket) -> &Slot {
        &self.slots[ticket.slot()]
    }

    fn slot_mut(&mut self, ticket: Ticket) -> &mut Slot {
        &mut self.slots[ticket.slot()]
    }

    fn is_current(&self, ticket: Ticket) -> bool {
        self.slots
            .get(ticket.slot())
            .is_some_and(|slot| slot.generation == ticket.generation && slot.state != State::Vacant)
    }
}

fn attempt_link(slot: &mut Slot) -> &mut Link {
    &mut slot.attempt_link
}

fn item_link(slot: &mut Slot) -> &mut Link {
    &mut slot.item_link
}

/// Enough rows in hand that one read of the input serves many starts, few enough to cost no memory that counts.
const LEAST_LOOK_AHEAD: usize = 1024;
/// How much of the look-ahead the items of one key may fill.
const SHARE: usize = LEAST_LOOK_AHEAD / 4;
/// How much lateness of the driver is made up for. A network that is late by this is none the worse; a program whose
/// threads share an interpreter is late by less.
const MOST_LATE: Duration = Duration::from_millis(20);
/// Spreads those who were told the same time; more would waste the quota of a short pause.
const MOST_JITTER: Duration = Duration::from_millis(250);
