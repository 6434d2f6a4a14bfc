//! Workers that start, and do not: when another is tried, when it is said, and when there is no use in it any more.
//!
//! A worker that ends before its first task, or cannot be made, is a start that has failed. The next one is made after
//! a pause that grows, one at a time, and the workers that there are go on meanwhile, which is said once. When there
//! are none, [`MOST_FAILURES`] starts in a row break the pool, with what is known of the last. A worker whose zygote
//! was killed has not failed: there is a new zygote, as often as that happens.
//!
//! Also what is looked after from time to time, since nothing announces it: tasks before a worker that hangs while it
//! starts, and workers that have gone mad or missed what would have woken them.

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unisono_sys::monotonic::nanoseconds;

use super::{
    state::{Core, Pool},
    system::{EXITED, SOCKET, STATUS, WORDS},
};
use crate::{
    task::{Death, Task, TaskOutcome, held},
    worker::Worker,
};

impl Pool {
    /// Another worker, if it may start now; `None` when it may not, or could not.
    pub(super) fn start(&self, core: &mut Core) -> Option<usize> {
        if core.starts.not_before_ns > 0 {
            // One that is gone is still starting until it is known how it ended.
            let is_starting = core.workers.values().any(|worker| !worker.is_ready() && worker.dismissed().is_none());
            if is_starting || nanoseconds() < core.starts.not_before_ns {
                return None;
            }
        }
        match self.make(core) {
            Ok(number) => Some(number),
            // The zygote has not come to those yet that it was told to make.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                core.starts.pause(1);
                None
            }
            Err(error) => {
                self.start_failed(core, usize::MAX, &format!("no worker can be started: {error}"));
                None
            }
        }
    }

    fn make(&self, core: &mut Core) -> io::Result<usize> {
        let system = core.system.clone().ok_or_else(over)?;
        let (mut worker, spawn) = Worker::new()?;
        let always: [_; ALWAYS] = [
            spawn.socket.as_fd(),
            worker.exchange.as_fd(),
            spawn.status.as_fd(),
            system.settings.as_fd(),
            spawn.words.as_fd(),
        ];
        let born_with: Vec<_> = always.into_iter().chain(system.inherited.iter().map(AsFd::as_fd)).collect();
        worker.starter = Some(self.zygote.start(self.options.method, &born_with)?);
        Self::employ(core, worker)
    }

    pub(super) fn employ(core: &mut Core, worker: Worker) -> io::Result<usize> {
        let system = core.system.clone().ok_or_else(over)?;
        core.last_worker += 1;
        let number = core.last_worker;
        for (descriptor, what) in [(&worker.socket, SOCKET), (&worker.status, STATUS), (&worker.words, WORDS)] {
            system.watch(descriptor, (number as u64) << 2 | what)?;
        }
        worker.exchange.pool_waits(core.has_driver());
        core.workers.insert(number, worker);
        Ok(number)
    }

    /// A worker has ended: what its start was, if that has failed.
    pub(super) fn judge_start(
        &self,
        core: &mut Core,
        (number, worker): (usize, &Worker),
        death: Death,
        stderr_tail: &[u8],
    ) {
        if worker.has_worked() || worker.dismissed().is_some() && !worker.is_torn() || core.is_closed() {
            return;
        }
        if death == Death::Unknown && worker.starter.as_ref().is_some_and(|zygote| zygote.has_served()) {
            core.starts.losses += 1;
            // The first at once: killing a zygote now and then costs nothing.
            if core.starts.losses > 1 {
                core.starts.pause(core.starts.losses - 1);
            }
            return;
        }
        let mut why = match (death, &worker.starter) {
            // It is about to end, or has lost what it needs to serve.
            (Death::Unknown, Some(zygote)) => {
                format!("the process that makes the workers {} before it made any", zygote.end())
            }
            (Death::Unmade(_), _) => format!("a worker {death}"),
            _ => format!("a worker {death} before its first task"),
        };
        let said = String::from_utf8_lossy(stderr_tail);
        if !said.trim().is_empty() {
            why = format!("{why}; the end of its stderr:\n{}", said.trim_end());
        }
        self.start_failed(core, number, &why);
    }

    fn start_failed(&self, core: &mut Core, number: usize, why: &str) {
        let is_counted = number > core.starts.made_before;
        if is_counted {
            core.starts.made_before = core.last_worker;
            core.starts.failures += 1;
            core.starts.pause(core.starts.failures);
        }
        let others = core.workers.values().filter(|worker| !worker.is_leaving()).count();
        if others == 0 {
            let failures = core.starts.failures;
            if failures >= MOST_FAILURES {
                self.give_up(core, &format!("{failures} starts of workers in a row have failed; the last: {why}"));
            } else if is_counted {
                let text = format!("a start has failed, {failures} of {MOST_FAILURES} in a row that break it: {why}");
                self.tell_start(core, text);
            }
        } else if !core.starts.is_said {
            core.starts.is_said = true;
            let text = format!("goes on with the workers that it has, and tries to start more: {why}");
            self.tell_start(core, text);
        }
    }

    /// Looks, from time to time, after what nothing announces.
    pub(super) fn look_after(&self, core: &mut Core) {
        let now = nanoseconds();
        if now < core.looked_ns + LOOK_NS {
            return;
        }
        core.looked_ns = now;
        // In this order: a worker that is through with a task has published its result before.
        let passed: Vec<_> = core.workers.iter().map(|(number, worker)| (*number, worker.exchange.passed())).collect();
        let is_fresh = core.is_fresh;
        self.read(core);
        core.is_fresh |= is_fresh;
        for (number, passed) in passed {
            let Some(worker) = core.workers.get_mut(&number) else { continue };
            if !worker.is_doomed() && !worker.has_records() && worker.is_mad(passed) {
                worker.tear();
            }
            if worker.is_ready() && worker.busy > 0 {
                worker.nudge(now, LOOK_NS);
            }
            let is_late = |since_ns: u64| now.saturating_sub(since_ns) > LONGEST_START_NS;
            if !worker.is_ready() && worker.dismissed().is_some_and(is_late) {
                worker.kill();
            }
        }
        self.drop_unmade(core);
        self.look_after_gone(core, now);
    }

    /// Looks whether processes have ended of which the zygote, that is to tell it, has said nothing: it may have been
    /// stopped, and an end must not wait for it.
    fn look_after_gone(&self, core: &mut Core, now: u64) {
        // Played workers have no process of their own.
        let made = || core.workers.iter().filter(|(_, worker)| worker.starter.is_some());
        let (numbers, mut processes): (Vec<usize>, Vec<_>) = made()
            .filter_map(|(number, worker)| Some((*number, PollFd::new(worker.process()?, PollFlags::IN))))
            .unzip();
        // It fails only for too many descriptors.
        if !poll(&mut processes, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
            return;
        }
        let ended: Vec<_> = processes.iter().map(|process| !process.revents().is_empty()).collect();
        for number in numbers.into_iter().zip(ended).filter_map(|(number, ended)| ended.then_some(number)) {
            let Some(worker) = core.workers.get_mut(&number) else { continue };
            worker.give_no_more();
            if worker.is_gone_for_good(now) {
                self.reap(core, number, Death::Unknown);
            } else {
                self.give_back(core, number);
            }
        }
    }

    /// Lets those go that are to be killed and are no processes yet. One that becomes a process all the same finds that
    /// its pool is gone, and ends.
    pub(super) fn drop_unmade(&self, core: &mut Core) {
        let is_unmade = |worker: &mut Worker| {
            if !worker.is_doomed() || worker.process().is_some() {
                return false;
            }
            // It says which process it is before it takes a task.
            let _ = worker.read_socket();
            worker.process().is_none()
        };
        let unmade: Vec<_> =
            core.workers.iter_mut().filter_map(|(number, worker)| is_unmade(worker).then_some(*number)).collect();
        unmade.into_iter().for_each(|number| self.reap(core, number, Death::Unknown));
    }

    /// The zygote, which was to tell the end of a worker, is gone. The worker is about to be, but what it does may
    /// still be under way, so its process is waited for.
    pub(super) fn orphaned(&self, core: &mut Core, number: usize) {
        let Some(worker) = core.workers.get_mut(&number) else { return };
        let _ = worker.read_socket();
        self.tell_zygote_lost(core, number);
        let Some(worker) = core.workers.get_mut(&number) else { return };
        let Some(system) = &core.system else { return };
        let event = (number as u64) << 2 | EXITED;
        let is_watched = worker.process().is_some_and(|process| system.watch(process, event).is_ok());
        if !is_watched {
            self.reap(core, number, Death::Unknown);
            return;
        }
        worker.give_no_more();
        worker.kill_orphan();
        system.unwatch(&worker.status);
        self.give_back(core, number);
    }

    /// A task has lain for all its time before a worker that is still starting: it takes no longer than it may,
    /// whatever becomes of the worker. False when it has begun meanwhile.
    pub(super) fn not_begun_in_time(&self, core: &mut Core, number: usize, task: &Arc<Task>, time: Duration) -> bool {
        let Some(worker) = core.workers.get_mut(&number) else { return false };
        let mut is_back = false;
        while let Some(taken) = worker.take_back() {
            held(&taken.inner).place = None;
            if Arc::ptr_eq(&taken, task) {
                is_back = true;
            } else if !taken.has_ended() {
                core.waiting.give_back(taken);
            }
        }
        let pid = worker.pid();
        if is_back {
            let is_again = self.settle(core, task, TaskOutcome::NotBegun(time));
            self.tell_not_begun(core, pid, task, time, is_again);
        }
        is_back
    }
}

fn over() -> io::Error {
    io::Error::other("nothing is left of the pool")
}

/// Every worker is born with so many descriptors.
pub(super) const ALWAYS: usize = 5;
/// So many starts that fail in a row break a pool that has no workers.
const MOST_FAILURES: u32 = 3;
/// So often is looked after what nothing announces.
const LOOK_NS: u64 = 50_000_000;
/// A worker that is still starting when there is nothing more for it to do may finish that for so long.
const LONGEST_START_NS: u64 = 5_000_000_000;
