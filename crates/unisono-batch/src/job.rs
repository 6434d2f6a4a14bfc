//! What a user of the engine provides: a job, where its items come from, and where its outcomes go.
//!
//! All of it lives on one thread: the driver is a future on a current-thread runtime, so an item is an `Rc` and
//! nothing here needs a lock.

use std::{
    cell::{Cell, RefCell},
    fmt, future,
    rc::Rc,
    task::{self, Poll, Waker},
    time::{Duration, Instant},
};

use unisono_core::{Effect, OutcomeKind, Overrides, Peer};

use crate::{halt::Halt, protocol::KeyNews, ticket::Ticket, verdict::Verdict};

/// One kind of work: how to attempt an item, and what it means when the engine ends one.
pub trait Job {
    /// What is to be done. Shared, since it outlives each of its attempts.
    type Item: 'static;
    /// What becomes of it, whether it went well or not.
    type Value: 'static;

    /// Tries once. The future is dropped when the attempt has to stop; whatever it may have set off by then is to be
    /// told before, by [`Context::begin`].
    fn attempt(&self, item: Rc<Self::Item>, context: Context)
    -> impl Future<Output = Attempt<Self::Item, Self::Value>>;

    /// What goes on beside the attempts, as handing them what comes from threads. Polled before each turn, and dropped
    /// when the batch ends; nothing unless overridden.
    fn background(&self) -> impl Future<Output = ()> {
        future::ready(())
    }

    /// The engine stopped an attempt, or ends an item that waits: what is its outcome? `last` is the value of the
    /// attempt before, if there was one. Only an [`Halt::AttemptTimeout`] may answer [`Verdict::Retry`].
    fn halted(&self, item: &Self::Item, halt: Halt, last: Option<Self::Value>) -> (Verdict, Self::Value);

    /// What this item has of its own of what bounds the batch; nothing unless overridden.
    fn overrides(&self, _item: &Self::Item) -> Overrides {
        Overrides::default()
    }

    /// What the end of an attempt, by itself, by a timeout or by a deadline that left it all its time, says of the peer
    /// that the item's key stands for; nothing unless overridden.
    fn peer(&self, _value: &Self::Value) -> Peer {
        Peer::Unknown
    }

    /// The item will be tried again. For logs and counters; does nothing unless overridden.
    fn again(&self, _item: &Self::Item, _last: &Self::Value, _again: Again) {}

    /// There is something new about the peer that this key stands for. For logs; does nothing unless overridden.
    fn peer_news(&self, _key: &str, _news: &KeyNews) {}
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Attempt<I, V> {
    /// What it means for the item.
    pub verdict: Verdict,
    /// What to report if the item ends with this attempt.
    pub value: V,
    /// Nothing of the same key starts before then, whatever the verdict: the peer announced its quota.
    pub pause_until: Option<Instant>,
    /// An item that follows from this one: its next page. Only with [`Verdict::Final`]. Boxed, since few have one and
    /// every attempt is moved several times.
    pub then: Option<Box<I>>,
    /// Whether anything was tried; otherwise it counts for nothing. Only with [`Verdict::Final`].
    pub has_begun: bool,
}

impl<I, V> Attempt<I, V> {
    /// An attempt with this verdict and value, and nothing else.
    pub fn new(verdict: Verdict, value: V) -> Self {
        Self { verdict, value, pause_until: None, then: None, has_begun: true }
    }

    /// An attempt that was stopped before anything was tried.
    pub fn unbegun(verdict: Verdict, value: V) -> Self {
        Self { has_begun: false, ..Self::new(verdict, value) }
    }
}

/// An item is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// The attempt that just failed; 1 for the first.
    pub attempt: u16,
    /// How long from now the next one is due at the earliest.
    pub wait: Duration,
    /// Whether the whole key is paused for that time.
    pub throttled: bool,
}

/// To be read behind the name of the item, and before the reason.
impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.throttled { "throttled" } else { "retry" };
        write!(f, "{why} after attempt {} in {:.2} s", self.attempt, self.wait.as_secs_f64())
    }
}

/// What an attempt knows about itself.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) attempt: u16,
    pub(crate) attempt_by: Option<Instant>,
    pub(crate) item_by: Option<Instant>,
    pub(crate) flags: Rc<Flags>,
}

/// What an attempt tells the driver while it runs.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    /// Of what is over: earlier attempts, and earlier steps of this one. It only grows.
    past: Cell<Effect>,
    /// Of the step that is under way, which may yet turn out to have done nothing.
    present: Cell<Effect>,
    /// Nothing has been tried yet by this attempt.
    pub(crate) prepares: Cell<bool>,
    pub(crate) holds: Cell<u32>,
    /// The slot that the holds keep occupied, once the attempt is decided.
    pub(crate) ghost: Cell<Option<Ticket>>,
    pub(crate) releases: Rc<Releases>,
}

impl Flags {
    /// Flags of the attempt that follows one with these.
    pub(crate) fn following(releases: Rc<Releases>, earlier: Effect) -> Self {
        Self { past: Cell::new(earlier), releases, ..Self::default() }
    }

    pub(crate) fn effect(&self) -> Effect {
        self.past.get().join(self.present.get())
    }

    /// What the present step did becomes part of what is over.
    pub(crate) fn end_step(&self) {
        self.past.set(self.effect());
        self.present.set(Effect::None);
        self.prepares.set(false);
    }
}

/// Slots whose last hold is gone.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    pub(crate) ghosts: RefCell<Vec<Ticket>>,
    pub(crate) waker: RefCell<Option<Waker>>,
}

impl Context {
    /// A context outside of any batch: the first attempt, without bounds.
    pub fn detached() -> Self {
        Self { attempt: 1, attempt_by: None, item_by: None, flags: Rc::default() }
    }

    /// 1 for the first attempt.
    pub fn attempt(&self) -> u16 {
        self.attempt
    }

    /// When this attempt will be stopped.
    pub fn attempt_by(&self) -> Option<Instant> {
        self.attempt_by
    }

    /// When the item will be stopped.
    pub fn item_by(&self) -> Option<Instant> {
        self.item_by
    }

    /// Whether the attempt still waits for what it needs before it tries anything, so that it counts for nothing if it
    /// is stopped there.
    pub fn set_prepares(&self, prepares: bool) {
        self.flags.prepares.set(prepares);
    }

    /// A step begins: from here on something may be carried out, until [`Context::settle`] says more. An attempt may
    /// have several, one after the other, as an HTTP request has redirects; what an earlier one did is not forgotten.
    pub fn begin(&self) {
        self.flags.end_step();
        self.flags.present.set(Effect::Maybe);
    }

    /// What is known of the step that is under way, or was the last one; of none but that.
    pub fn settle(&self, effect: Effect) {
        self.flags.present.set(effect);
    }

    /// What may have been carried out, by this attempt or by those before it.
    pub fn effect(&self) -> Effect {
        self.flags.effect()
    }

    /// Keeps the slot occupied until the guard is dropped, even when the item is decided before.
    pub fn hold(&self) -> Hold {
        self.flags.holds.set(self.flags.holds.get() + 1);
        Hold(self.flags.clone())
    }
}

/// Keeps a slot occupied: see [`Context::hold`].
#[derive(Debug)]
pub struct Hold(Rc<Flags>);

impl Drop for Hold {
    fn drop(&mut self) {
        let holds = self.0.holds.get() - 1;
        self.0.holds.set(holds);
        if let (0, Some(ghost)) = (holds, self.0.ghost.take()) {
            self.0.releases.ghosts.borrow_mut().push(ghost);
            if let Some(waker) = self.0.releases.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

/// Where items come from.
pub trait Source {
    /// What is to be done.
    type Item;

    /// Adds up to `max` items. `Ready(More)` says that at least one was added; `Pending`, that the waker will be
    /// called when there is more.
    fn poll_pull(
        &mut self,
        context: &mut task::Context<'_>,
        max: usize,
        into: &mut Vec<Offer<Self::Item>>,
    ) -> Poll<Pull>;
}

/// One item, and the key under which it is limited.
#[derive(Debug)]
pub struct Offer<I> {
    /// For HTTP the host; empty where there is nothing to tell apart.
    pub key: Rc<str>,
    /// What is to be done.
    pub item: I,
}

/// What a pull came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// There may be more.
    More,
    /// This was all.
    End,
}

/// Where outcomes go.
pub trait Sink<J: Job> {
    /// Takes what was decided in one turn; never waits.
    fn deliver(&mut self, decided: &mut Vec<Decided<J>>);

    /// How many more outcomes it has room for. When that is none, the waker is called once there is some.
    fn poll_credit(&mut self, context: &mut task::Context<'_>) -> usize;
}

/// One outcome.
pub struct Decided<J: Job + ?Sized> {
    /// The item.
    pub item: Rc<J::Item>,
    /// How it ended.
    pub kind: OutcomeKind,
    /// Whether what it asked for was carried out, over all its attempts.
    pub effect: Effect,
    /// What became of it.
    pub value: J::Value,
    /// How often it was tried; 0 when it was never started.
    pub attempts: u16,
    /// From its first start to now.
    pub elapsed: Duration,
}
