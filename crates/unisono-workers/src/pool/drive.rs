//! Who waits drives: sleeping in epoll or beside whoever does, and what the sleeper is woken by.
//!
//! Of those that wait, one is the driver. It has the workers announce their results while it sleeps, and tells the others
//! when it leaves. A result that was not announced is looked for a millisecond later.

use std::{cmp::Reverse, io, os::fd::AsFd, sync::MutexGuard, time::Duration};

use rustix::event::{Timespec, epoll};
use unisono_sys::monotonic::nanoseconds;

use super::{Awaited, Core, Pool, nanoseconds_of};
use crate::{task::held, worker::Worker};

impl Pool {
    /// Waits for something, but no longer than a signal may be kept waiting. Answers whether it has come.
    pub fn wait(&self, what: Awaited<'_>, longest: Option<Duration>) -> bool {
        let mut core = held(&self.core);
        let until = nanoseconds() + longest.map_or(SLICE, |longest| SLICE.min(nanoseconds_of(longest)));
        loop {
            self.pump(&mut core);
            let now = nanoseconds();
            if self.has_come(&core, what) || now >= until {
                return self.has_come(&core, what);
            }
            let (again, interrupted) = self.sleep(core, until - now);
            core = again;
            if interrupted {
                self.pump(&mut core);
                return self.has_come(&core, what);
            }
        }
    }

    /// For a thread of the caller's that does nothing else: drives while nobody does, and answers the numbers of observed tasks
    /// that have ended; `None` when the pool has stopped.
    pub fn serve(&self) -> Option<Vec<u64>> {
        let mut core = held(&self.core);
        let mut idle_since = nanoseconds();
        loop {
            self.pump(&mut core);
            if !core.told.is_empty() {
                return Some(std::mem::take(&mut core.told));
            }
            if core.is_stopped || core.is_over() {
                return None;
            }
            let now = nanoseconds();
            let is_needed = core.observed > 0 || (core.open > 0 || core.is_closed) && core.followers == 0;
            if core.open > 0 || core.is_closed {
                idle_since = now;
            }
            if core.driver || !is_needed {
                let sleeps_long = now - idle_since > DORMANT;
                core.is_dormant = sleeps_long;
                let longest = if sleeps_long { Duration::from_secs(3600) } else { TICK };
                core =
                    self.wanted.wait_timeout(core, longest).map_or_else(|error| error.into_inner().0, |(core, _)| core);
                core.is_dormant = false;
                if sleeps_long {
                    idle_since = nanoseconds();
                }
            } else {
                core = self.sleep(core, SLICE).0;
            }
        }
    }

    fn has_come(&self, core: &Core, what: Awaited<'_>) -> bool {
        match what {
            Awaited::End(task) => task.has_ended(),
            Awaited::Room => self.options.pending.is_none_or(|most| core.open < most) || core.is_closed,
            Awaited::Over => core.is_over(),
        }
    }

    pub(super) fn ring(&self) {
        // It fails only when the counter is full, and then it is rung.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Sleeps, as the driver or beside it. The second answer is whether a signal came.
    fn sleep<'a>(&'a self, mut core: MutexGuard<'a, Core>, longest: u64) -> (MutexGuard<'a, Core>, bool) {
        if core.driver {
            core.followers += 1;
            let wait = self.changed.wait_timeout(core, Duration::from_nanos(longest));
            let mut core = wait.map_or_else(|error| error.into_inner().0, |(core, _)| core);
            core.followers -= 1;
            return (core, false);
        }
        core.driver = true;
        core.workers.values().for_each(|worker| worker.exchange.pool_waits(true));
        let mut events = Vec::with_capacity(32);
        let mut interrupted = false;
        // What came before the flag could be seen is not announced.
        let has_desk = |number| core.workers.get(&number).is_some_and(|worker| worker.exchange.has_desk());
        if !core.workers.values().any(Worker::has_records) && !core.lacks_desk.is_some_and(has_desk) {
            let now = nanoseconds();
            let mut until = now + longest;
            if (core.is_fresh || now - core.woken < LATER) && core.workers.values().any(|worker| worker.busy > 1) {
                until = until.min(now + LATER);
            }
            if let Some(Reverse((when, ..))) = core.deadlines.peek() {
                until = until.min((*when).max(now));
            }
            core.driver_until = until;
            drop(core);
            let left = until - now;
            let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as _ };
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
            interrupted = waited == Err(rustix::io::Errno::INTR);
            core = held(&self.core);
        }
        core.driver = false;
        core.woken = nanoseconds();
        core.workers.values().for_each(|worker| worker.exchange.pool_waits(false));
        for event in &events {
            self.heed(&mut core, event.data.u64());
        }
        if core.followers > 0 {
            self.changed.notify_all();
        }
        (core, interrupted)
    }

    pub(super) fn heed(&self, core: &mut Core, event: u64) {
        if event == BELL {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.bell, &mut count);
            return;
        }
        let number = (event >> 2) as usize;
        let Some(worker) = core.workers.get_mut(&number) else { return };
        if event & 3 == WORDS {
            if !worker.hear(self.output.as_fd()) {
                let _ = epoll::delete(&self.epoll, &worker.words);
            }
        } else if event & 3 == SOCKET {
            let read = worker.read_socket();
            if !matches!(read, Ok(true)) {
                // Its status will follow; until then its socket would be ready for ever.
                let _ = epoll::delete(&self.epoll, &worker.socket);
            }
            match read {
                Ok(true) => {}
                // One that talks nonsense cannot be asked to go.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => worker.kill(),
                // It has gone, or we have no descriptors left to hear it: then it ends when it has done what it has.
                Ok(false) | Err(_) => worker.dismiss(),
            }
        } else if let Some(death) = worker.death() {
            self.bury(core, number, death);
        }
    }
}

/// How long one wait lasts at most, so that Ctrl-C is seen by who waits beside the driver.
const SLICE: u64 = 50_000_000;
/// After this, what was not announced is looked for.
const LATER: u64 = 1_000_000;
/// How often the background looks whether anybody drives.
const TICK: Duration = Duration::from_millis(2);
/// After this without a task, the background sleeps until it is called.
const DORMANT: u64 = 1_000_000_000;
pub(super) const BELL: u64 = u64::MAX;
// What of a worker an event is about.
pub(super) const SOCKET: u64 = 0;
pub(super) const STATUS: u64 = 1;
pub(super) const WORDS: u64 = 2;
