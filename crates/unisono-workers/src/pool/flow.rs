//! The way of a task: handed out, read, settled, taken back; and what a death or a deadline makes of it.
//!
//! Everything here is done under the pool's lock, by the thread that holds it, and waits for nothing.

use std::{
    cmp::Reverse,
    sync::{Arc, atomic::Ordering},
};

use unisono_sys::monotonic::nanoseconds;

use super::state::{Core, Driver, Lifecycle, Loss, Pool, nanoseconds_of};
use crate::{
    inside::{QUIET_NS, kind},
    task::{Death, Task, TaskOutcome, held},
    worker::{LONGEST_WAKE_NS, Placed, Progress, Worker},
};

impl Pool {
    pub(super) fn pump(&self, core: &mut Core) {
        self.read(core);
        self.expire(core);
        self.look_after(core);
        self.hand_out(core);
        if core.is_closed() && core.open == 0 {
            for worker in core.workers.values_mut().filter(|worker| worker.dismissed().is_none()) {
                worker.dismiss();
            }
        }
        self.let_go_if_over(core);
    }

    /// Nothing is left of a closed pool, so it needs nothing of the system any more.
    pub(super) fn let_go_if_over(&self, core: &mut Core) {
        // The driver comes by here when it has passed on what it has heard.
        if core.is_over() && core.words.is_empty() && !core.has_driver() && core.system.take().is_some() {
            self.arena.close();
        }
    }

    /// Reads what the workers have published.
    pub(super) fn read(&self, core: &mut Core) {
        core.is_fresh = false;
        let numbers: Vec<usize> = core.workers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.read_of(core, number, MOST_RECORDS));
    }

    /// Reads what one has published, so many records at most: one that never stops must not hold up the others.
    fn read_of(&self, core: &mut Core, number: usize, most: usize) {
        for _ in 0..most {
            let Some((record, received)) = core.workers.get_mut(&number).and_then(Worker::next_record) else { return };
            {
                core.is_fresh = true;
                let worker = core.workers.get_mut(&number).expect("it was there a line ago");
                match record.kind {
                    kind::RELEASED => worker.released(record.task),
                    kind::ABANDONED => worker.abandoned(record.task),
                    kind::READY => worker.progress = worker.progress.max(Progress::Ready),
                    kind::UNFIT if !worker.has_worked() => {
                        let why = String::from_utf8_lossy(&record.bytes).into_owned();
                        self.give_up(core, &why);
                    }
                    kind::RETURNED | kind::RAISED => {
                        let Some(task) = worker.close(record.task) else {
                            // One that is to be killed may end a task of which that was decided already.
                            if !worker.is_doomed() {
                                worker.tear();
                            }
                            continue;
                        };
                        worker.has_come_on();
                        if std::mem::replace(&mut worker.progress, Progress::Active) != Progress::Active {
                            core.starts.succeeded(number);
                        }
                        let took = record.took_ns.clamp(1, LONGEST_COUNTED_NS);
                        core.mean_ns = if core.mean_ns == 0 { took } else { (core.mean_ns * 7 + took) / 8 };
                        let outcome = match (record.kind, received) {
                            (kind::RETURNED, Some(bytes)) => TaskOutcome::Returned(bytes),
                            (_, Some(bytes)) => TaskOutcome::Raised(bytes),
                            (_, None) => {
                                TaskOutcome::Refused("its result could not be read: too many files are open".into())
                            }
                        };
                        self.settle(core, &task, outcome);
                    }
                    _ => worker.tear(),
                }
                self.let_go(core, number);
            }
        }
    }

    /// Lets a worker end that has done its share.
    fn let_go(&self, core: &mut Core, number: usize) {
        let Some(most) = self.options.tasks_per_worker else { return };
        let Some(worker) = core.workers.get_mut(&number) else { return };
        if worker.given >= most && worker.is_idle() && !worker.is_leaving() {
            worker.dismiss();
            self.tell_replaced(core, number, most);
        }
    }

    /// Gives a task its outcome, or another try; returns whether it is tried again.
    pub(super) fn settle(&self, core: &mut Core, task: &Arc<Task>, outcome: TaskOutcome) -> bool {
        let mut inner = held(&task.inner);
        inner.place = None;
        inner.attempts += 1;
        let is_tried_again = inner.attempts <= task.terms.retries
            && inner.deaths < MOST_DEATHS
            && !matches!(outcome, TaskOutcome::Returned(_) | TaskOutcome::Refused(_) | TaskOutcome::Cancelled);
        // `end` takes it as well.
        drop(inner);
        let is_tried_again = is_tried_again && core.broken().is_none() && !task.has_ended();
        if is_tried_again {
            // Otherwise `reap` puts it back: what its worker was killed for may still take effect until that is gone.
            if !held(&task.inner).is_held_by_dying {
                core.waiting.again(task.clone());
            }
        } else {
            self.end(core, task, outcome);
        }
        is_tried_again
    }

    pub(super) fn end(&self, core: &mut Core, task: &Arc<Task>, outcome: TaskOutcome) {
        held(&task.inner).place = None;
        // The first outcome counts, and all that follows is done once for it.
        if !task.end(outcome) {
            return;
        }
        core.open -= 1;
        if !held(&task.inner).is_held_by_dying {
            core.waiting.let_go(task);
        }
        if task.observed.load(Ordering::Relaxed) {
            core.observed -= 1;
            core.told.push(task.number);
            if core.has_driver() || core.followers > 0 {
                self.wake_server(core);
            }
        }
        if core.followers > 0 {
            self.changed.notify_all();
        }
    }

    /// Kills the workers whose task is past its time.
    pub(super) fn expire(&self, core: &mut Core) {
        // One moment for all, so that a timeout shorter than a look does not hold us here.
        let now = nanoseconds();
        while let Some(Reverse((when, number, cell))) = core.deadlines.peek().copied() {
            if when > now {
                break;
            }
            core.deadlines.pop();
            let Some(worker) = core.workers.get_mut(&number) else { continue };
            let Some(task) = worker.on_cell(cell).cloned() else { continue };
            let Some(timeout) = task.terms.timeout else { continue };
            let is_starting = !worker.is_ready();
            let longest = nanoseconds_of(timeout).max(LEAST_NS);
            let began = worker.exchange.began_ns(cell);
            // A stopped one, say: it holds up what lies before it, and nothing of it is under way.
            let hangs = began.is_none() && !is_starting && worker.hangs_before(cell, now);
            let due = match began {
                // Nothing has begun later than now: it was written over.
                Some(began) if began > nanoseconds() => {
                    worker.tear();
                    continue;
                }
                Some(began) => began.saturating_add(nanoseconds_of(timeout)),
                None if is_starting && self.not_begun_in_time(core, number, &task, timeout) => continue,
                None if is_starting => now + longest,
                None if hangs => {
                    self.give_back(core, number);
                    let worker = core.workers.get_mut(&number).expect("it was there a line ago");
                    if worker.on_cell(cell).is_none() {
                        worker.kill();
                        continue;
                    }
                    now + LEAST_NS
                }
                None => now + longest.min(LONGEST_WAKE_NS),
            };
            if due > now {
                core.deadlines.push(Reverse((due, number, cell)));
            } else if self.is_under_way(core, number, cell) {
                let worker = core.workers.get_mut(&number).expect("a task of it is under way");
                worker.kill_for(&task);
                worker.close(cell);
                let pid = worker.pid();
                let is_again = self.settle(core, &task, TaskOutcome::TimedOut(timeout));
                self.tell_timeout(core, pid, &task, timeout, is_again);
            }
        }
    }

    /// Whether a task that has begun is still what its worker is at, so that a kill hits it and no other: what lies
    /// behind it is taken back before that is decided. If the worker was quicker, the result is read.
    pub(super) fn is_under_way(&self, core: &mut Core, number: usize, cell: u64) -> bool {
        self.give_back(core, number);
        if !core.workers.get(&number).is_some_and(|worker| worker.is_last(cell)) {
            self.read(core);
            return false;
        }
        true
    }

    /// Puts what a worker has not begun back to the front of the queue.
    pub(super) fn give_back(&self, core: &mut Core, number: usize) {
        let Some(worker) = core.workers.get_mut(&number) else { return };
        while let Some(task) = worker.take_back() {
            held(&task.inner).place = None;
            if !task.has_ended() {
                core.waiting.give_back(task);
            }
        }
    }

    pub(super) fn reap(&self, core: &mut Core, number: usize, death: Death) {
        // Results first, then what it has not begun, and only what is left after both has died with it.
        self.read_of(core, number, usize::MAX);
        self.give_back(core, number);
        if let Some(worker) = core.workers.get_mut(&number) {
            if worker.is_mad(worker.exchange.passed()) {
                worker.note_torn();
            }
            for task in worker.not_begun() {
                held(&task.inner).place = None;
                if !task.has_ended() {
                    core.waiting.give_back(task);
                }
            }
        }
        let Some(mut worker) = core.workers.remove(&number) else { return };
        // The descriptors are closed with the worker; a fork of the program may still hold copies.
        let ends = [&worker.socket, &worker.status, &worker.words];
        core.system.iter().for_each(|system| ends.iter().for_each(|end| system.unwatch(end)));
        worker.hear(&mut core.words);
        let stderr_tail = std::mem::take(&mut worker.stderr_tail);
        // At most one, of a sane worker: the task that it had begun and not ended.
        let begun: Vec<_> = std::mem::take(&mut worker.entries).into_iter().filter_map(|entry| entry.task).collect();
        if !begun.is_empty() && std::mem::replace(&mut worker.progress, Progress::Active) != Progress::Active {
            core.starts.succeeded(number);
        }
        if worker.has_worked() && worker.dismissed().is_none() {
            core.loss = Some(Loss { death, stderr_tail: stderr_tail.clone() });
        }
        self.judge_start(core, (number, &worker), death, &stderr_tail);
        if begun.is_empty() && worker.has_worked() && (worker.dismissed().is_none() || worker.is_torn()) {
            self.tell_death(core, &worker, death, None);
        }
        for task in begun {
            let deaths = {
                let mut inner = held(&task.inner);
                inner.deaths += 1;
                inner.deaths
            };
            let was_decided = task.has_ended();
            let outcome = TaskOutcome::Died { death, deaths, stderr_tail: stderr_tail.clone() };
            let is_again = self.settle(core, &task, outcome);
            if !was_decided {
                self.tell_death(core, &worker, death, Some((&task, is_again)));
            }
        }
        for task in worker.killed_for {
            held(&task.inner).is_held_by_dying = false;
            if task.has_ended() {
                core.waiting.let_go(&task);
            } else {
                core.waiting.again(task);
            }
        }
        self.changed.notify_all();
    }

    /// There will be no workers: everything that waits is told so.
    pub(super) fn give_up(&self, core: &mut Core, why: &str) {
        if core.broken().is_some() {
            return;
        }
        // What it has goes with the last worker, as that of a pool that was shut down.
        core.lifecycle = Lifecycle::Broken(why.to_owned());
        self.tell_start(core, format!("is broken: {why}"));
        let waiting = self.undecided(core);
        let placed: Vec<_> = core
            .workers
            .values_mut()
            .flat_map(|worker| {
                let mut tasks = Vec::new();
                while let Some(task) = worker.take_back() {
                    tasks.push(task);
                }
                tasks
            })
            .collect();
        for task in waiting.into_iter().chain(placed) {
            self.end(core, &task, TaskOutcome::Refused(why.to_owned()));
        }
        self.wanted.notify_all();
        self.changed.notify_all();
    }

    pub(super) fn cancel_waiting(&self, core: &mut Core) {
        let numbers: Vec<_> = core.workers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.give_back(core, number));
        for task in self.undecided(core) {
            self.end(core, &task, TaskOutcome::Cancelled);
        }
    }

    /// Takes out what lies before no worker.
    fn undecided(&self, core: &mut Core) -> Vec<Arc<Task>> {
        let killed_for = core.workers.values().flat_map(|worker| &worker.killed_for).filter(|task| !task.has_ended());
        let mut tasks: Vec<_> = killed_for.cloned().collect();
        tasks.append(&mut core.waiting.drain());
        tasks
    }

    /// Puts waiting tasks before workers that have room for them.
    pub(super) fn hand_out(&self, core: &mut Core) {
        core.lacks_cell = None;
        // Short tasks lie ahead in numbers, so that one wake-up serves many; long ones hardly, so that none waits.
        let window = AHEAD_NS.checked_div(core.mean_ns).map_or(1, |ahead| ahead.clamp(1, MOST_AHEAD) as usize);
        while !core.waiting.is_empty() {
            let most = self.options.tasks_per_worker.unwrap_or(u64::MAX);
            let open = core.workers.iter().filter(|(_, worker)| !worker.is_leaving() && worker.given < most);
            let best = open
                .min_by_key(|(number, worker)| (worker.busy, !worker.is_ready(), **number))
                .map(|(number, worker)| (*number, worker.busy));
            let number = match best {
                Some((number, 0)) => number,
                _ if core.workers.len() < self.options.workers
                    && let Some(number) = self.start(core) =>
                {
                    number
                }
                Some((number, busy)) if busy < window => number,
                _ => return,
            };
            let Some(task) = core.waiting.pop() else { return };
            if !self.give(core, number, &task) {
                core.waiting.give_back(task);
                return;
            }
        }
        self.share(core);
    }

    /// A worker with nothing to do gets what lies ahead before another one.
    fn share(&self, core: &mut Core) {
        loop {
            let idle = core.workers.iter().filter(|(_, worker)| worker.is_idle() && !worker.is_leaving());
            let idle = idle.max_by_key(|(_, worker)| worker.is_ready()).map(|(number, _)| *number);
            let Some(idle) = idle else { return };
            // One that is still starting keeps nothing from one that is not, and may never get so far.
            let is_ready = core.workers.get(&idle).is_some_and(|worker| worker.is_ready());
            let spare = |worker: &Worker| worker.busy > usize::from(worker.is_ready() || !is_ready);
            let fullest = core.workers.values_mut().filter(|worker| spare(worker));
            let Some(fullest) = fullest.max_by_key(|worker| (!worker.is_ready(), worker.busy)) else { return };
            let Some(task) = fullest.take_back() else { return };
            held(&task.inner).place = None;
            if !self.give(core, idle, &task) {
                core.waiting.give_back(task);
                return;
            }
        }
    }

    /// False when the worker has no room after all.
    fn give(&self, core: &mut Core, number: usize, task: &Arc<Task>) -> bool {
        if task.has_ended() {
            return true;
        }
        let mut text = std::mem::take(&mut core.text);
        let worker = core.workers.get_mut(&number).expect("it was chosen a moment ago");
        let given = worker.give(task, &mut text);
        let is_second = worker.busy == 2;
        let cell = worker.entries.back().map_or(0, |entry| entry.number);
        core.text = text;
        match given {
            Ok(Placed::Lies) => {
                held(&task.inner).place = Some((number, cell));
                // The driver expected one result of this worker; now it may have to look for one that is not announced.
                if core.has_driver() && is_second && nanoseconds().saturating_sub(core.woken_ns) < QUIET_NS {
                    core.notify();
                }
                if let Some(timeout) = task.terms.timeout {
                    let when = nanoseconds() + nanoseconds_of(timeout);
                    core.deadlines.push(Reverse((when, number, cell)));
                    if matches!(core.driver, Driver::Asleep { until_ns } if when < until_ns) {
                        core.notify();
                    }
                }
                true
            }
            Ok(Placed::LacksRoom) => false,
            Ok(Placed::LacksCell) => {
                core.lacks_cell = Some(number);
                false
            }
            Err(_) => {
                // Its status will say why; the task goes to another.
                core.workers.get_mut(&number).expect("as above").give_no_more();
                false
            }
        }
    }
}

/// A task that has not begun is looked at again after its timeout, but not sooner than this.
const LEAST_NS: u64 = 1_000_000;
/// So much work lies ahead of a worker: about ten wake-ups' worth.
const AHEAD_NS: u64 = 400_000;
const MOST_AHEAD: u64 = 200;
/// A task that has killed so many workers is not tried again.
const MOST_DEATHS: u8 = 3;
/// So many records of one worker are read at a look.
const MOST_RECORDS: usize = 4096;
/// No task is taken to run longer than this when it is decided how many lie ahead: two minutes.
const LONGEST_COUNTED_NS: u64 = 120_000_000_000;
