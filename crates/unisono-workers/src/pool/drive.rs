//! Threads that wait drive the pool: one sleeps in epoll, the others beside it, and what the sleeper is woken by.
//!
//! Of those that wait, one is the driver. It has the workers announce their results while it sleeps, and tells the
//! others when it leaves. A result that was not announced is looked for a millisecond later.

use std::{cmp::Reverse, io, sync::MutexGuard, time::Duration};

use rustix::event::{Timespec, epoll};
use unisono_sys::monotonic::nanoseconds;

use super::{
    state::{Awaited, Core, Driver, Pool, Server, nanoseconds_of},
    system::{EXITED, NOTIFIER, SOCKET, WORDS},
};
use crate::{
    spin::{LONGEST_LOOK_NS, Look, Spin},
    task::{Death, held},
    worker::{MOST_HEARD_BYTES, Worker},
};

impl Pool {
    /// Waits for something, but no longer than a signal may be kept waiting. Returns whether it has come.
    pub fn wait(&self, what: Awaited<'_>, longest: Option<Duration>) -> bool {
        let mut core = held(&self.core);
        let until = nanoseconds() + longest.map_or(SLICE_NS, |longest| SLICE_NS.min(nanoseconds_of(longest)));
        loop {
            self.pump(&mut core);
            let now = nanoseconds();
            if self.has_come(&core, what) || now >= until {
                return self.has_come(&core, what);
            }
            let (again, interrupted) = self.sleep(core, until - now, matches!(what, Awaited::End(_)));
            core = again;
            if interrupted {
                self.pump(&mut core);
                return self.has_come(&core, what);
            }
        }
    }

    /// For a thread of the caller's that does nothing else: drives while no other thread does, and returns the numbers
    /// of observed tasks that have ended, also none when there are [news](Pool::news); `None` when the pool has
    /// stopped.
    pub fn serve(&self) -> Option<Vec<u64>> {
        let mut core = held(&self.core);
        let mut idle_since = nanoseconds();
        loop {
            self.pump(&mut core);
            if !core.told.is_empty() || !core.news.is_empty() {
                return Some(std::mem::take(&mut core.told));
            }
            if core.server == Server::Stopped || core.is_over() {
                let mut words = std::mem::take(&mut core.words);
                let system = core.system.clone();
                self.let_go_if_over(&mut core);
                drop(core);
                if let Some(system) = system {
                    system.pass_on(&mut words, true);
                }
                return None;
            }
            let now = nanoseconds();
            let is_needed = core.observed > 0
                || !core.words.is_empty()
                || (core.open > 0 || core.is_closed()) && core.followers == 0;
            if core.open > 0 || core.is_closed() {
                idle_since = now;
            }
            if core.has_driver() || !is_needed {
                let sleeps_long = now - idle_since > DORMANT_NS;
                core.server = if sleeps_long { Server::Dormant } else { Server::Resting };
                let longest = if sleeps_long { Duration::from_secs(3600) } else { TICK };
                core =
                    self.wanted.wait_timeout(core, longest).map_or_else(|error| error.into_inner().0, |(core, _)| core);
                if core.server != Server::Stopped {
                    core.server = Server::Awake;
                }
                if sleeps_long {
                    idle_since = nanoseconds();
                }
            } else {
                core = self.sleep(core, SLICE_NS, false).0;
            }
        }
    }

    fn has_come(&self, core: &Core, what: Awaited<'_>) -> bool {
        match what {
            Awaited::End(task) => task.has_ended(),
            Awaited::Room => self.options.pending.is_none_or(|most| core.open < most) || core.is_closed(),
            Awaited::Over => core.is_over(),
        }
    }

    /// Wakes [`Pool::serve`] if it rests; a call of the system for each task would cost more than the rest of it.
    pub(super) fn wake_server(&self, core: &Core) {
        if matches!(core.server, Server::Resting | Server::Dormant) {
            self.wanted.notify_one();
        }
    }

    /// Sleeps, as the driver or beside it; a thread that waits for a result may look for it first. Also returns whether
    /// a signal came.
    fn sleep<'a>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        longest_ns: u64,
        looks: bool,
    ) -> (MutexGuard<'a, Core>, bool) {
        let Some(system) = core.system.clone().filter(|_| !core.has_driver()) else {
            core.followers += 1;
            let wait = self.changed.wait_timeout(core, Duration::from_nanos(longest_ns));
            let mut core = wait.map_or_else(|error| error.into_inner().0, |(core, _)| core);
            core.followers -= 1;
            return (core, false);
        };
        // Claimed under the lock, and kept while that is let go: one thread sleeps in epoll, the others beside it.
        core.driver = Driver::Awake;
        if looks {
            let has_come;
            (core, has_come) = self.look(core);
            if has_come {
                core.workers.values().for_each(|worker| worker.exchange.pool_waits(false));
                self.leave_driving(&mut core);
                return (core, false);
            }
        }
        core.workers.values().for_each(|worker| worker.exchange.pool_waits(true));
        let mut events = Vec::with_capacity(32);
        let mut interrupted = false;
        // What came before the flag could be seen is not announced.
        let has_cell = |number| core.workers.get(&number).is_some_and(|worker| worker.exchange.has_cell());
        if !core.workers.values().any(Worker::has_records) && !core.lacks_cell.is_some_and(has_cell) {
            let now = nanoseconds();
            let mut until = now + longest_ns;
            if (core.is_fresh || now - core.woken_ns < LATER_NS) && core.workers.values().any(|worker| worker.busy > 1)
            {
                until = until.min(now + LATER_NS);
            }
            if let Some(Reverse((when, ..))) = core.deadlines.peek() {
                until = until.min((*when).max(now));
            }
            // Said before the lock is let go, so that a deadline which comes earlier than this wakes it.
            core.driver = Driver::Asleep { until_ns: until };
            drop(core);
            let left = until - now;
            let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as _ };
            let waited = epoll::wait(&system.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
            interrupted = waited == Err(rustix::io::Errno::INTR);
            core = held(&self.core);
            core.driver = Driver::Awake;
        }
        core.woken_ns = nanoseconds();
        core.workers.values().for_each(|worker| worker.exchange.pool_waits(false));
        for event in &events {
            self.heed(&mut core, event.data.u64());
        }
        if !core.words.is_empty() {
            // Still as the driver, so that what two workers say comes in the order in which it was heard.
            let mut words = std::mem::take(&mut core.words);
            drop(core);
            system.pass_on(&mut words, false);
            core = held(&self.core);
            core.words.splice(..0, words);
            if core.words.is_empty() {
                self.hear_again(&mut core);
            }
        }
        self.leave_driving(&mut core);
        (core, interrupted)
    }

    fn leave_driving(&self, core: &mut Core) {
        // Before those beside it are woken, of which one takes its place.
        core.driver = Driver::Absent;
        if core.followers > 0 {
            self.changed.notify_all();
        }
    }

    /// As the driver: looks for results for a moment before it sleeps, if that may pay. What else may come, such as the
    /// end of a worker, keeps for so long.
    fn look<'a>(&'a self, mut core: MutexGuard<'a, Core>) -> (MutexGuard<'a, Core>, bool) {
        let at_work: Vec<_> = core
            .workers
            .values()
            .filter(|worker| worker.busy > 0 && !worker.is_doomed())
            .map(|worker| worker.exchange.clone())
            .collect();
        if at_work.is_empty() || core.mean_ns > LONGEST_LOOK_NS || !core.spin.is_worth_it(at_work.len(), nanoseconds())
        {
            return (core, false);
        }
        drop(core);
        let look = Spin::look(|| at_work.iter().any(|exchange| exchange.has_records()));
        let mut core = held(&self.core);
        core.spin.learn(look, nanoseconds());
        (core, look == Look::Came)
    }

    /// Listens again to the workers that had said more than could be passed on.
    fn hear_again(&self, core: &mut Core) {
        let Some(system) = &core.system else { return };
        for (number, worker) in core.workers.iter_mut().filter(|(_, worker)| worker.is_unheard) {
            worker.is_unheard = false;
            system.pause(&worker.words, (*number as u64) << 2 | WORDS, false);
        }
    }

    pub(super) fn heed(&self, core: &mut Core, event: u64) {
        let Some(system) = &core.system else { return };
        if event == NOTIFIER {
            system.clear();
            return;
        }
        let number = (event >> 2) as usize;
        let Some(worker) = core.workers.get_mut(&number) else { return };
        if event & 3 == WORDS {
            if core.words.len() >= MOST_HEARD_BYTES {
                worker.is_unheard = true;
                system.pause(&worker.words, event, true);
            } else if !worker.hear(&mut core.words) {
                system.unwatch(&worker.words);
            }
        } else if event & 3 == SOCKET {
            let read = worker.read_socket();
            if !matches!(read, Ok(true)) {
                // Its status will follow; until then its socket would be ready for ever.
                system.unwatch(&worker.socket);
            }
            match read {
                Ok(true) => {}
                // One that talks nonsense cannot be asked to go.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                    worker.tear();
                }
                // It has gone, or we have no descriptors left to hear it: then it ends when it has done what it has.
                Ok(false) | Err(_) => worker.give_no_more(),
            }
        } else if event & 3 == EXITED {
            self.reap(core, number, Death::Unknown);
        } else {
            match worker.death() {
                Some(Death::Unknown) => self.orphaned(core, number),
                Some(death) => self.reap(core, number, death),
                None => {}
            }
        }
    }
}

/// How long one wait lasts at most, so that Ctrl-C is seen by the threads that wait beside the driver.
const SLICE_NS: u64 = 50_000_000;
/// After this, what was not announced is looked for.
const LATER_NS: u64 = 1_000_000;
/// How often the background looks whether the pool is driven.
const TICK: Duration = Duration::from_millis(2);
/// After this without a task, the background sleeps until it is called.
const DORMANT_NS: u64 = 1_000_000_000;
