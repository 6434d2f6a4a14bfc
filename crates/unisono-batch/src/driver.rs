//! The tokio driver: runs a [`Job`] under the state machine, as one future on a current-thread runtime.
//!
//! A turn: poll the attempts that were woken, take wishes and stops, settle what ended or ran out of time, pull,
//! start, and deliver the outcomes of the turn together. There is one timer for everything, and one look at the clock
//! for all that a turn decides. A panic in an attempt is that item's outcome and no other's.

use std::{
    any::Any,
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::time::{Sleep, sleep_until};
use unisono_core::{CancelLevel, CancelReason, CancelToken, Effect, OutcomeKind, Peer, clock, reactor};

use crate::{
    attempt_set::AttemptSet,
    halt::Halt,
    job::{Again, Attempt, Context, Decided, Flags, Job, Offer, Pull, Releases, Sink, Source},
    machine::Machine,
    monitor::{Absent, MOST_PAUSED, Monitor},
    protocol::{Expired, Finish, Lease, Ruling, Settings, Wants},
    ticket::Ticket,
    verdict::Verdict,
};

/// What is left when a batch has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished<J, K> {
    /// The job, with what it has kept.
    pub job: J,
    /// The sink, with all outcomes delivered.
    pub sink: K,
    /// Work that was decided but still holds its slot: it could not be stopped.
    pub abandoned: u32,
}

/// What a batch is made of, apart from its job.
#[derive(Debug)]
pub struct Batch<S, K> {
    /// What bounds it.
    pub settings: Settings,
    /// Where its items come from.
    pub source: S,
    /// Where its outcomes go.
    pub sink: K,
    /// What stops it.
    pub cancel: CancelToken,
    /// What shows how far it is, and takes wishes.
    pub monitor: Monitor,
}

/// Runs a batch to its end. Every item that was pulled is delivered exactly once.
///
/// The future owns the job, the source and the sink, and is `'static` where these are: it can be a task of a
/// `LocalSet`, which outlives the function that made it. The attempts borrow the job within.
///
/// Dropping the future stops everything at once and delivers nothing more; to stop and still account for all, use
/// the token. Must be polled within a tokio runtime whose time is enabled. `examples/who_listens.rs` is a whole
/// program.
///
/// ```
/// # use std::{rc::Rc, task::{self, Poll}};
/// # use unisono_batch::*;
/// # use unisono_core::{CancelToken, OutcomeKind};
/// /// Doubles numbers; 13 fails at its first attempt.
/// struct Double;
///
/// impl Job for Double {
///     type Item = u32;
///     type Value = u32;
///
///     async fn attempt(&self, number: Rc<u32>, context: Context) -> Attempt<u32, u32> {
///         let verdict = match (*number, context.attempt()) {
///             (13, 1) => Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None },
///             _ => Verdict::Final(OutcomeKind::Ok),
///         };
///         Attempt::new(verdict, 2 * *number)
///     }
///
///     fn halted(&self, _: &u32, _: Halt, last: Option<u32>) -> (Verdict, u32) {
///         (Verdict::Final(OutcomeKind::Cancelled), last.unwrap_or_default())
///     }
/// }
/// # struct Numbers(std::ops::Range<u32>);
/// # impl Source for Numbers {
/// #     type Item = u32;
/// #     fn poll_pull(&mut self, _: &mut task::Context<'_>, max: usize, into: &mut Vec<Offer<u32>>) -> Poll<Pull> {
/// #         into.extend(self.0.by_ref().take(max).map(|item| Offer { key: "".into(), item }));
/// #         Poll::Ready(if into.is_empty() { Pull::End } else { Pull::More })
/// #     }
/// # }
/// # struct Collect(Vec<(u32, u32, u16)>);
/// # impl Sink<Double> for Collect {
/// #     fn deliver(&mut self, decided: &mut Vec<Decided<Double>>) {
/// #         self.0.extend(decided.drain(..).map(|one| (*one.item, one.value, one.attempts)));
/// #     }
/// #     fn poll_credit(&mut self, _: &mut task::Context<'_>) -> usize {
/// #         usize::MAX
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let batch = Batch {
///     settings: Settings::default(),
///     source: Numbers(12..15),
///     sink: Collect(Vec::new()),
///     cancel: CancelToken::new(),
///     monitor: Monitor::new(),
/// };
/// let mut outcomes = drive(Double, batch).await.sink.0;
/// outcomes.sort();
/// assert_eq!(outcomes, [(12, 24, 1), (13, 26, 2), (14, 28, 1)]);
/// # }
/// ```
pub async fn drive<J, S, K>(job: J, batch: Batch<S, K>) -> Finished<J, K>
where
    J: Job,
    S: Source<Item = J::Item>,
    K: Sink<J>,
{
    let (sink, abandoned) = drive_borrowed(&job, batch).await;
    Finished { job, sink, abandoned }
}

/// All that borrows the job is gone when this returns.
async fn drive_borrowed<J, S, K>(job: &J, batch: Batch<S, K>) -> (K, u32)
where
    J: Job,
    S: Source<Item = J::Item>,
    K: Sink<J>,
{
    let cancel = batch.cancel.clone();
    let mut drained = pin!(cancel.reached(CancelLevel::Drain));
    let mut aborted = pin!(cancel.reached(CancelLevel::Abort));
    let (mut is_drained, mut is_aborted) = (false, false);
    let _watched = Watched(batch.monitor.clone());
    let mut driver = Driver::new(job, batch);
    let mut attempts = AttemptSet::new();
    let mut background = pin!(job.background().fuse());
    // The driver's own state is not touched while an attempt is polled, so a panic leaves it whole.
    let start = |item, context| AssertUnwindSafe(job.attempt(item, context)).catch_unwind();
    // The reactor is polled after each turn, and a turn polls each attempt once, so tokio's own budget would only
    // make ready sockets look unready.
    tokio::task::coop::unconstrained(poll_fn(|context| {
        // Before the turn: the attempts to which it hands something have theirs in this one.
        let _ = background.as_mut().poll(context);
        is_drained = is_drained || drained.as_mut().poll(context).is_ready();
        is_aborted = is_aborted || aborted.as_mut().poll(context).is_ready();
        driver.stop_if(is_drained, is_aborted);
        driver.turn(context, &mut attempts, &start)
    }))
    .await;
    (driver.sink, driver.abandoned)
}

/// A monitor may be kept long after its batch, and a waker holds the reactor, with descriptors.
struct Watched(Monitor);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.forget_waker();
    }
}

struct Driver<'a, J: Job, S, K> {
    job: &'a J,
    machine: Machine,
    times: unisono_core::Times,
    source: S,
    sink: K,
    cancel: CancelToken,
    monitor: Monitor,
    /// By slot.
    payloads: Vec<Option<Payload<J>>>,
    releases: Rc<Releases>,
    timer: Pin<Box<Sleep>>,
    /// When the timer will fire; it is moved only to an earlier time, since a late look costs nothing.
    timer_at: Option<Instant>,
    stop_at: Option<Instant>,
    pulled: u64,
    retries: u64,
    offers: Vec<Offer<J::Item>>,
    ended: Vec<(usize, Ended<J>)>,
    decided: Vec<Decided<J>>,
    abandoned: u32,
    /// How long what is abandoned is waited for, once all is decided.
    linger_until: Option<Instant>,
    numbers_due: Option<Instant>,
    /// The reactor was asked after this time, and all that it told of was taken in.
    seen: Instant,
    /// Something is late unless its answer is here already.
    looking: Option<Looking>,
    /// The source was not asked to the end in this turn.
    has_more: bool,
}

/// Turns of the reactor that are asked for before anything is late.
struct Looking {
    since: Instant,
    /// Later than `since` when the reactor stood: then steps are to be made up for that time did not allow.
    until: Instant,
    turns: u32,
    turn: reactor::Turn,
}

/// An attempt's end: its answer, or what it panicked with.
type Ended<J> = Result<Attempt<<J as Job>::Item, <J as Job>::Value>, Box<dyn Any + Send>>;

struct Payload<J: Job> {
    ticket: Ticket,
    item: Rc<J::Item>,
    /// What came of the last attempt, for one that waits for another: apart, since the look-ahead holds thousands that
    /// have none.
    last: Option<Box<J::Value>>,
    attempts: u16,
    first_start: Option<Instant>,
    flags: Option<Rc<Flags>>,
}

impl<J: Job> Payload<J> {
    /// Whether its attempt has tried nothing yet.
    fn prepares(&self) -> bool {
        self.flags.as_ref().is_some_and(|flags| flags.prepares.take())
    }

    /// Its last attempt counts for nothing.
    fn uncount(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    fn effect(&self) -> Effect {
        self.flags.as_ref().map_or(Effect::None, |flags| flags.effect())
    }
}

impl<'a, J, S, K> Driver<'a, J, S, K>
where
    J: Job,
    S: Source<Item = J::Item>,
    K: Sink<J>,
{
    fn new(job: &'a J, batch: Batch<S, K>) -> Self {
        let Batch { settings, source, sink, cancel, monitor } = batch;
        monitor.start_with(settings.limits);
        let now = clock::now();
        let stop_at = settings.times.stop_after.map(|after| now + after);
        Self {
            job,
            machine: Machine::new(settings, fastrand::u64(..)),
            times: settings.times,
            source,
            sink,
            cancel,
            monitor,
            payloads: Vec::new(),
            releases: Rc::default(),
            timer: Box::pin(sleep_until(now.into())),
            timer_at: None,
            stop_at,
            pulled: 0,
            retries: 0,
            offers: Vec::new(),
            ended: Vec::new(),
            decided: Vec::new(),
            abandoned: 0,
            linger_until: None,
            numbers_due: None,
            seen: now,
            looking: None,
            has_more: false,
        }
    }

    fn stop_if(&mut self, drained: bool, aborted: bool) {
        if aborted {
            self.machine.abort();
        } else if drained {
            self.machine.drain(clock::now(), self.times.grace);
        }
    }

    fn turn<F>(
        &mut self,
        context: &mut TaskContext<'_>,
        attempts: &mut AttemptSet<F>,
        start: &impl Fn(Rc<J::Item>, Context) -> F,
    ) -> Poll<()>
    where
        F: Future<Output = Ended<J>>,
    {
        self.poll_attempts(context, attempts);
        // Read after the polls: they may take long, and nothing that they brought about lies after `now`.
        let mut now = clock::now();
        self.take_wishes(context, now);
        // Before anything expires: what has ended by itself is not late, whatever the clock says.
        self.settle(now);
        self.look(now, context, attempts.has_woken());
        let (started, mut wants) = self.fill(now, context, attempts, start);
        if started {
            // Told before they are polled: the first poll of a large upload may last as long as all of it.
            self.publish(now, false);
            // What has just started sends its first bytes in the same turn.
            self.poll_attempts(context, attempts);
            if !self.ended.is_empty() {
                now = clock::now();
                self.settle(now);
                wants = self.fill(now, context, attempts, start).1;
            }
        }
        for (key, news) in self.machine.take_news() {
            // Pulling forgets keys and gives their numbers away, but not those of keys whose peers are in the news.
            let name = self.machine.name_of(key);
            self.monitor.update(|numbers| numbers.add_news(now, name, &news));
            self.job.peer_news(name, &news);
        }
        self.publish(now, wants.finished);
        if wants.finished && !self.lingers(context, now) {
            return Poll::Ready(());
        }
        if attempts.has_woken() || self.has_more {
            // Not round again in here: the runtime polls the reactor in between.
            context.waker().wake_by_ref();
        } else {
            self.arm(now, context, wants);
        }
        Poll::Pending
    }

    /// Before anything is late, the reactor has its turns, and those that it wakes have theirs: what has arrived by
    /// then counts. Called when those that were woken have just been polled.
    fn look(&mut self, now: Instant, context: &TaskContext<'_>, has_woken: bool) {
        let Some(due) = self.machine.due().filter(|due| *due <= now) else {
            self.looking = None;
            return;
        };
        if due <= self.seen {
            return;
        }
        let looking = self.looking.get_or_insert_with(|| Looking {
            since: now,
            until: now + reactor::grace(due, now),
            turns: 1,
            turn: reactor::Turn::ask(context.waker()),
        });
        looking.turn.wake_instead(context.waker());
        if !looking.turn.is_over() {
            return;
        }
        // One call of the kernel tells of so many sockets at most.
        let least = reactor::TURNS + self.machine.in_flight() / EVENTS_A_TURN;
        let goes_on = looking.turns < least || (has_woken && looking.turns < least + MOST_TURNS);
        if goes_on {
            looking.turns += 1;
            looking.turn = reactor::Turn::ask(context.waker());
        } else if now >= looking.until {
            self.seen = looking.since;
            self.looking = None;
        }
    }

    fn poll_attempts<F>(&mut self, context: &TaskContext<'_>, attempts: &mut AttemptSet<F>)
    where
        F: Future<Output = Ended<J>>,
    {
        attempts.turn(context.waker(), |slot, output| self.ended.push((slot, output)));
    }

    /// Starts all that may start, pulling as needed. Returns whether anything was started, and what to wait for.
    fn fill<F: Future>(
        &mut self,
        now: Instant,
        context: &mut TaskContext<'_>,
        attempts: &mut AttemptSet<F>,
        start: &impl Fn(Rc<J::Item>, Context) -> F,
    ) -> (bool, Wants) {
        let mut started = false;
        let mut pulls = 0;
        loop {
            // Before anything is leased: what expires makes room.
            self.expire(now, attempts);
            // Before the sink is asked for credit: what is decided is no longer owed, and only the sink can count it.
            self.deliver();
            self.machine.set_credit(self.sink.poll_credit(context));
            // An attempt or the sink itself may just have asked to stop.
            let level = self.cancel.level();
            self.stop_if(level >= CancelLevel::Drain, level == CancelLevel::Abort);
            started |= self.lease(now, attempts, start);
            let wants = self.machine.wants(now);
            if wants.pull == 0 || !self.pull(context, now, wants.pull) {
                self.has_more = false;
                return (started, self.machine.wants(now));
            }
            pulls += 1;
            if pulls == MOST_PULLS {
                // What is pulled may be decided at once, and its end may be far.
                self.has_more = true;
                return (started, wants);
            }
        }
    }

    fn take_wishes(&mut self, context: &TaskContext<'_>, now: Instant) {
        let controls = self.monitor.take_controls(context.waker());
        if let Some(limits) = controls.limits {
            self.machine.set_limits(now, limits);
        }
        for (key, until) in controls.pauses {
            self.machine.pause_named(now, &key, until);
        }
        if self.stop_at.is_some_and(|at| at <= now) {
            self.stop_at = None;
            self.cancel.drain(CancelReason::StopAfter);
            self.machine.drain(now, self.times.grace);
        }
        let mut waker = self.releases.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        for ghost in self.releases.ghosts.borrow_mut().drain(..) {
            self.abandoned -= 1;
            self.machine.release(ghost);
        }
    }

    /// Takes in what ended in this turn.
    fn settle(&mut self, now: Instant) {
        // Taken for the loop, and put back for its capacity.
        let mut ended = std::mem::take(&mut self.ended);
        for (slot, output) in ended.drain(..) {
            let ticket = self.payload(slot).ticket;
            match output {
                Ok(attempt) => self.attempt_ended(now, ticket, attempt),
                Err(panic) => {
                    let message = panic_message(&*panic);
                    self.halt(now, ticket, true, |effect| Halt::Panicked { message, effect });
                }
            }
        }
        self.ended = ended;
    }

    fn attempt_ended(&mut self, now: Instant, ticket: Ticket, attempt: Attempt<J::Item, J::Value>) {
        if let Some(until) = attempt.pause_until {
            let paused = self.machine.pause(now, ticket, until);
            self.count_pause(ticket, paused);
        }
        if !attempt.has_begun {
            self.payload(ticket.slot()).uncount();
        }
        if let Some(item) = attempt.then {
            let key: Rc<str> = self.machine.key_name(ticket).into();
            self.take_in(now, Offer { key, item: *item });
        }
        let peer = self.job.peer(&attempt.value);
        self.rule(now, ticket, attempt.verdict, attempt.value, peer);
    }

    /// The engine ends this item or its attempt; the job says what that means. `is_news` says that it tells something
    /// of the item's peer.
    fn halt(&mut self, now: Instant, ticket: Ticket, is_news: bool, halt: impl FnOnce(Effect) -> Halt) {
        let payload = self.payload(ticket.slot());
        let effect = payload.effect();
        let (item, last) = (payload.item.clone(), payload.last.take().map(|last| *last));
        let (verdict, value) = self.job.halted(&item, halt(effect), last);
        let peer = if is_news { self.job.peer(&value) } else { Peer::Unknown };
        self.rule(now, ticket, verdict, value, peer);
    }

    /// Gives a verdict to the machine, and does what follows from it.
    fn rule(&mut self, now: Instant, ticket: Ticket, verdict: Verdict, value: J::Value, peer: Peer) {
        // Before the machine is told of the end, which would free the place of work that goes on.
        self.detach_if_held(ticket);
        let finish = match verdict {
            Verdict::Final(_) => Finish::Final,
            Verdict::Retry { not_before, .. } => Finish::Retry { not_before },
            Verdict::Unmet { .. } => Finish::Unmet,
            Verdict::Throttled { until, quota } => Finish::Throttled { until, quota },
        };
        let halt: Box<dyn FnOnce(Effect) -> Halt> = match self.machine.finish(now, ticket, finish, peer) {
            Ruling::Decided => return self.decide(now, ticket, verdict.otherwise(), value),
            Ruling::Again { at, paused } => {
                self.retries += 1;
                self.count_pause(ticket, paused);
                let payload = self.payload(ticket.slot());
                let attempt = payload.attempts;
                let throttled = matches!(finish, Finish::Throttled { .. });
                let again = Again { attempt, wait: at.saturating_duration_since(now), throttled };
                let item = payload.item.clone();
                self.job.again(&item, &value, again);
                self.payload(ticket.slot()).last = Some(Box::new(value));
                return;
            }
            Ruling::Waits | Ruling::OutOfTime => {
                self.payload(ticket.slot()).last = Some(Box::new(value));
                return;
            }
            Ruling::Stale => return,
            Ruling::Refused(wait) => Box::new(move |effect| Halt::RateLimited { wait, effect }),
            Ruling::Late => {
                let after = self.machine.deadline_of(ticket).unwrap_or_default();
                Box::new(move |effect| Halt::Deadline { after, effect })
            }
            Ruling::Exhausted => Box::new(|effect| Halt::RetryBudget { effect }),
            Ruling::Away { since, is_silent } => Box::new(move |effect| Halt::Away { since, is_silent, effect }),
            Ruling::Stopping => {
                let reason = self.cancel.reason();
                Box::new(move |effect| Halt::Cancelled { reason, started: true, effect })
            }
        };
        self.payload(ticket.slot()).last = Some(Box::new(value));
        self.conclude(now, ticket, false, halt);
    }

    /// Decides an item by what the job makes of a halt, which must be final. `is_news` says that this is the end of an
    /// attempt that tells something of its peer.
    fn conclude(&mut self, now: Instant, ticket: Ticket, is_news: bool, halt: impl FnOnce(Effect) -> Halt) {
        let payload = self.payload(ticket.slot());
        let effect = payload.effect();
        let (item, last) = (payload.item.clone(), payload.last.take().map(|last| *last));
        let (verdict, value) = self.job.halted(&item, halt(effect), last);
        self.detach_if_held(ticket);
        let peer = if is_news { self.job.peer(&value) } else { Peer::Unknown };
        self.machine.finish(now, ticket, Finish::Final, peer);
        self.decide(now, ticket, verdict.otherwise(), value);
    }

    fn decide(&mut self, now: Instant, ticket: Ticket, kind: OutcomeKind, value: J::Value) {
        let payload = self.payloads[ticket.slot()].take().expect("an undecided item has its payload");
        self.decided.push(Decided {
            effect: payload.effect(),
            item: payload.item,
            kind,
            value,
            attempts: payload.attempts,
            elapsed: payload.first_start.map_or(Duration::ZERO, |start| now.saturating_duration_since(start)),
        });
    }

    fn expire<F: Future>(&mut self, now: Instant, attempts: &mut AttemptSet<F>) {
        while let Some(expired) = self.machine.expire(now, self.seen) {
            // Each attempt is dropped before its end is told: what it lets go of by that need not be detached, and what
            // is known of its effect is final.
            match expired {
                Expired::Attempt(ticket) => {
                    attempts.stop(ticket.slot());
                    let after = self.machine.timeout_of(ticket).unwrap_or_default();
                    // One that its own timeout cut short says nothing of its peer.
                    let is_news = self.machine.had_its_time(now, ticket);
                    self.halt(now, ticket, is_news, |effect| Halt::AttemptTimeout { after, effect });
                }
                Expired::Item { ticket, .. } => {
                    attempts.stop(ticket.slot());
                    let after = self.machine.deadline_of(ticket).unwrap_or_default();
                    let is_news = self.machine.had_its_time(now, ticket);
                    self.conclude(now, ticket, is_news, |effect| Halt::Deadline { after, effect });
                }
                Expired::Refused { ticket, wait } => {
                    self.conclude(now, ticket, false, |effect| Halt::RateLimited { wait, effect });
                }
                Expired::Away { ticket, since, is_silent } => {
                    self.conclude(now, ticket, false, |effect| Halt::Away { since, is_silent, effect });
                }
                Expired::Cancelled { ticket, .. } => {
                    attempts.stop(ticket.slot());
                    let reason = self.cancel.reason();
                    let payload = self.payload(ticket.slot());
                    if payload.prepares() {
                        payload.uncount();
                    }
                    let started = payload.attempts > 0;
                    self.conclude(now, ticket, false, |effect| Halt::Cancelled { reason, started, effect });
                }
            }
        }
    }

    fn lease<F: Future>(
        &mut self,
        now: Instant,
        attempts: &mut AttemptSet<F>,
        start: &impl Fn(Rc<J::Item>, Context) -> F,
    ) -> bool {
        let mut started = false;
        while let Some(Lease { ticket, attempt, attempt_by, item_by }) = self.machine.lease(now) {
            let releases = self.releases.clone();
            let payload = self.payload(ticket.slot());
            payload.attempts = attempt;
            payload.first_start.get_or_insert(now);
            let flags = match payload.flags.take() {
                // Nothing of the attempt before is left that could still say something.
                Some(flags) if Rc::strong_count(&flags) == 1 => {
                    flags.end_step();
                    flags
                }
                earlier => {
                    let effect = earlier.map_or(Effect::None, |flags| flags.effect());
                    Rc::new(Flags::following(releases, effect))
                }
            };
            payload.flags = Some(flags.clone());
            let item = payload.item.clone();
            attempts.start(ticket.slot(), start(item, Context { attempt, attempt_by, item_by, flags }));
            started = true;
        }
        started
    }

    /// Whether anything came in, so that another look at what may start is worth it.
    fn pull(&mut self, context: &mut TaskContext<'_>, now: Instant, most: usize) -> bool {
        let mut offers = std::mem::take(&mut self.offers);
        let pull = self.source.poll_pull(context, most.min(MOST_PULLED), &mut offers);
        for offer in offers.drain(..) {
            self.take_in(now, offer);
        }
        self.offers = offers;
        if pull == Poll::Ready(Pull::End) {
            self.machine.end_of_input();
        }
        pull.is_ready()
    }

    fn take_in(&mut self, now: Instant, offer: Offer<J::Item>) {
        self.pulled += 1;
        let ticket = self.machine.offer_with(now, &offer.key, self.job.overrides(&offer.item));
        if self.payloads.len() <= ticket.slot() {
            self.payloads.resize_with(ticket.slot() + 1, || None);
        }
        self.payloads[ticket.slot()] = Some(Payload {
            ticket,
            item: Rc::new(offer.item),
            last: None,
            attempts: 0,
            first_start: None,
            flags: None,
        });
    }

    fn detach_if_held(&mut self, ticket: Ticket) {
        let flags = self.payload(ticket.slot()).flags.clone();
        if let Some(flags) = flags.filter(|flags| flags.holds.get() > 0 && flags.ghost.get().is_none())
            && let Some(ghost) = self.machine.detach(ticket)
        {
            self.abandoned += 1;
            flags.ghost.set(Some(ghost));
        }
    }

    fn deliver(&mut self) {
        if !self.decided.is_empty() {
            self.monitor.update(|numbers| self.decided.iter().for_each(|one| numbers.decided.add(one.kind)));
            self.sink.deliver(&mut self.decided);
            self.decided.clear();
        }
    }

    fn count_pause(&mut self, ticket: Ticket, paused: Duration) {
        if !paused.is_zero() {
            let key = self.machine.key_name(ticket);
            self.monitor.update(|numbers| numbers.add_pause(key, paused));
        }
    }

    fn publish(&mut self, now: Instant, finished: bool) {
        let in_full = finished || self.numbers_due.is_none_or(|due| due <= now);
        let machine = &self.machine;
        self.monitor.update(|numbers| {
            numbers.pulled = self.pulled;
            numbers.retries = self.retries;
            numbers.in_flight = machine.in_flight();
            numbers.pending = machine.pending();
            if in_full {
                let paused = machine.paused(now).take(MOST_PAUSED);
                numbers.paused = paused.map(|(key, until)| (key.to_owned(), until)).collect();
                let held = machine.held().take(MOST_PAUSED);
                let absent = |(key, since, is_silent): (&str, _, _)| Absent { key: key.to_owned(), since, is_silent };
                numbers.held = held.map(absent).collect();
                let lowered = machine.lowered(now).take(MOST_PAUSED);
                numbers.lowered = lowered.map(|(key, most)| (key.to_owned(), most)).collect();
            }
        });
        if in_full {
            self.numbers_due = Some(now + PUBLISH_EVERY);
        }
    }

    /// All is decided, but some work holds its slot: most of it is just about to let go, and gets a moment for it.
    fn lingers(&mut self, context: &mut TaskContext<'_>, now: Instant) -> bool {
        let until = *self.linger_until.get_or_insert(now + LINGER);
        if self.abandoned == 0 || now >= until {
            return false;
        }
        self.arm(now, context, Wants { pull: 0, until: Some(until), finished: true });
        true
    }

    /// Sees to it that the next turn comes in time.
    fn arm(&mut self, now: Instant, context: &mut TaskContext<'_>, wants: Wants) {
        let Some(mut at) = [wants.until, self.stop_at].into_iter().flatten().min() else { return };
        if let Some(looking) = &self.looking {
            // What is late is no reason to wake; the reactor's turn, news, or the end of the grace is.
            at = at.max((now + LOOK_EVERY).min(looking.until.max(looking.since + TWO_TICKS)));
        }
        if self.timer_at.is_none_or(|timer| at < timer) {
            self.timer.as_mut().reset(at.into());
            self.timer_at = Some(at);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            self.timer_at = None;
            context.waker().wake_by_ref();
        }
    }

    fn payload(&mut self, slot: usize) -> &mut Payload<J> {
        self.payloads[slot].as_mut().expect("an undecided item has its payload")
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

/// A thread looks whether it is to stop after each piece of a file.
const LINGER: Duration = Duration::from_millis(200);
const TWO_TICKS: Duration = Duration::from_millis(2);
/// Rows are read in batches: enough to spread the cost of a look, few enough to start the first ones at once.
const MOST_PULLED: usize = 256;
/// How often the paused keys are listed for what shows progress.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
/// As many as tokio takes from the kernel at once.
const EVENTS_A_TURN: u32 = 1024;
/// Beyond these no attempt is waited for that still has something to read: enough for what a socket's buffer holds.
const MOST_TURNS: u32 = 64;
/// While what was late by no fault of its own makes up for it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Some thousands of rows.
const MOST_PULLS: u32 = 16;
