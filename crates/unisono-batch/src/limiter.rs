//! Limits without a batch: callers that ask for a place, wait until they are admitted, and leave.
//!
//! A plain state machine, which neither blocks nor wakes. Every call returns the callers to be woken; its owner does
//! that after letting go of its lock.
//!
//! Rules: (1) what a caller is doing is one field, `Stage`: waiting, admitted, inside. One that gives up is taken out
//! by `withdraw`, which looks at that field, so there is no moment at which a place has no owner. (2) A place is given
//! to one caller and is its own from then on; when that withdraws before it has entered, the place goes to the next
//! one, with what it took of the rates unless another was admitted since. (3) Callers with the same key are admitted in
//! the order in which they asked, and keys take turns; a key that is full keeps no other waiting.
//!
//! No priorities, and no time of its own: a caller that waits for time to pass is admitted by `admit`, at `until`.

use std::{collections::HashMap, thread::ThreadId, time::Instant};

use unisono_core::{Limits, Peer, Times};

use crate::{
    machine::Machine,
    protocol::{Finish, Settings},
    ticket::Ticket,
};

/// One caller's request to be inside, from asking to leaving.
pub type Visit = Ticket;

/// Bounds how many callers are inside at once, and how often one enters. `W` is how a caller is woken.
#[derive(Debug)]
pub struct Limiter<W> {
    machine: Machine,
    visits: HashMap<Visit, Stage<W>>,
    /// The visits of each key that has any inside.
    inside: HashMap<Box<str>, Vec<Visit>>,
    waiting: usize,
}

#[derive(Debug)]
enum Stage<W> {
    /// `None` until the caller has said how it is woken.
    Waiting(Option<W>),
    /// It has a place, and has not entered.
    Admitted,
    /// The thread that has entered.
    Inside(ThreadId),
}

/// The callers that have been admitted, and are to be woken.
pub type Admitted<W> = Vec<(Visit, W)>;

impl<W> Limiter<W> {
    /// With no caller inside.
    pub fn new(limits: Limits) -> Self {
        let times = Times { timeout: None, deadline: None, ..Times::default() };
        let settings = Settings { limits, times, ..Settings::default() };
        Self { machine: Machine::new(settings, 0), visits: HashMap::new(), inside: HashMap::new(), waiting: 0 }
    }

    /// A caller wants to go in. Whether it is admitted is what `enter` or `wait` says.
    pub fn ask(&mut self, now: Instant, key: &str) -> (Visit, Admitted<W>) {
        let visit = self.machine.offer(now, key);
        // Before `admit`, which may give a place to this one.
        self.visits.insert(visit, Stage::Waiting(None));
        self.waiting += 1;
        (visit, self.admit(now))
    }

    /// An admitted caller goes in; false when it has not been admitted, or has withdrawn.
    pub fn enter(&mut self, visit: Visit, thread: ThreadId) -> bool {
        match self.visits.get_mut(&visit) {
            Some(stage @ Stage::Admitted) => {
                *stage = Stage::Inside(thread);
                let key = self.machine.key_name(visit);
                match self.inside.get_mut(key) {
                    Some(visits) => visits.push(visit),
                    None => drop(self.inside.insert(key.into(), vec![visit])),
                }
                true
            }
            _ => false,
        }
    }

    /// How a caller that was not admitted is woken when it is; handed back when there is nothing to wait for any more.
    pub fn wait(&mut self, visit: Visit, wake: W) -> Result<(), W> {
        match self.visits.get_mut(&visit) {
            Some(Stage::Waiting(how)) => {
                *how = Some(wake);
                Ok(())
            }
            _ => Err(wake),
        }
    }

    /// A caller does not want to go in any more, or not to stay. Nothing happens when it has left already.
    pub fn withdraw(&mut self, now: Instant, visit: Visit) -> (Option<W>, Admitted<W>) {
        let Some(stage) = self.visits.remove(&visit) else { return (None, Vec::new()) };
        let wake = match stage {
            Stage::Waiting(wake) => {
                self.waiting -= 1;
                self.finish(now, visit);
                wake
            }
            Stage::Admitted => {
                // Not `finish`: a start that never was takes nothing of the rates.
                self.machine.revoke(now, visit);
                None
            }
            Stage::Inside(_) => {
                // Before `finish`, with which the visit loses its key.
                let key: Box<str> = self.machine.key_name(visit).into();
                self.forget_inside(&key, visit);
                self.finish(now, visit);
                None
            }
        };
        // Dropping a waker may run foreign code, so the owner of the lock does that, after it has let go of it.
        (wake, self.admit(now))
    }

    /// As `withdraw`, but only where a place was given and has not been entered.
    pub fn withdraw_admitted(&mut self, now: Instant, visit: Visit) -> Admitted<W> {
        match self.visits.get(&visit) {
            Some(Stage::Admitted) => self.withdraw(now, visit).1,
            _ => Vec::new(),
        }
    }

    /// A caller with this key leaves, if there is one inside: one that entered by this thread, where there is such.
    pub fn leave(&mut self, now: Instant, key: &str, thread: ThreadId) -> Option<Admitted<W>> {
        let visits = self.inside.get(key)?;
        let is_own = |visit: &&Visit| matches!(self.visits.get(visit), Some(Stage::Inside(by)) if *by == thread);
        let visit = *visits.iter().rev().find(is_own).or(visits.last())?;
        Some(self.withdraw(now, visit).1)
    }

    /// Admits the callers that may go in now.
    pub fn admit(&mut self, now: Instant) -> Admitted<W> {
        let mut admitted = Vec::new();
        while let Some(lease) = self.machine.lease(now) {
            if let Some(stage) = self.visits.get_mut(&lease.ticket)
                && let Stage::Waiting(wake) = std::mem::replace(stage, Stage::Admitted)
            {
                self.waiting -= 1;
                // A caller that has not said how it is woken has not begun to wait: it finds the place by itself.
                admitted.extend(wake.map(|wake| (lease.ticket, wake)));
            }
        }
        admitted
    }

    /// When time alone lets a caller in, if one waits for that.
    pub fn until(&mut self, now: Instant) -> Option<Instant> {
        self.machine.wants(now).until
    }

    /// Changes the limits; callers that are inside stay.
    pub fn set_limits(&mut self, now: Instant, limits: Limits) -> Admitted<W> {
        self.machine.set_limits(now, limits);
        self.admit(now)
    }

    /// The limits now in force.
    pub fn limits(&self) -> Limits {
        self.machine.limits()
    }

    /// How many have a place.
    pub fn inside(&self) -> u32 {
        self.machine.in_flight()
    }

    /// How many wait for one.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many keys have a caller inside.
    pub fn keys_inside(&self) -> usize {
        self.inside.len()
    }

    /// How the callers that wait are woken.
    pub fn wakes(&self) -> impl Iterator<Item = &W> {
        self.visits.values().filter_map(|stage| match stage {
            Stage::Waiting(wake) => wake.as_ref(),
            Stage::Admitted | Stage::Inside(_) => None,
        })
    }

    /// Forgets all callers but those that have entered by this thread: after a fork, all others are in the parent.
    /// Returns what is to be dropped.
    pub fn keep_only(&mut self, now: Instant, thread: ThreadId) -> Vec<W> {
        let is_gone = |stage: &Stage<W>| !matches!(stage, Stage::Inside(by) if *by == thread);
        let gone: Vec<Visit> =
            self.visits.iter().filter(|(_, stage)| is_gone(stage)).map(|(visit, _)| *visit).collect();
        // Those that wait are the first to go, so that no place that becomes free is given to one of them.
        let (waiting, others): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|visit| matches!(self.visits.get(visit), Some(Stage::Waiting(_))));
        waiting.into_iter().chain(others).filter_map(|visit| self.withdraw(now, visit).0).collect()
    }

    fn finish(&mut self, now: Instant, visit: Visit) {
        self.machine.finish(now, visit, Finish::Final, Peer::Unknown);
    }

    fn forget_inside(&mut self, key: &str, visit: Visit) {
        let Some(visits) = self.inside.get_mut(key) else { return };
        visits.retain(|other| *other != visit);
        if visits.is_empty() {
            self.inside.remove(key);
        }
    }
}
