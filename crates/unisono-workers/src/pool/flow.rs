//! The way of a task: handed out, read, settled, taken back; and what a death, a deadline or a failed start makes of it.
//!
//! Everything here is done under the pool's lock, by whoever holds it, and waits for nothing.

use std::{
    cmp::Reverse,
    io,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
};

use rustix::event::epoll;
use unisono_sys::monotonic::nanoseconds;

use super::{
    Core, Pool,
    drive::{SOCKET, STATUS, WORDS},
    nanoseconds_of,
};
use crate::{
    inside::{QUIET, kind},
    task::{Death, Outcome, Task, held},
    worker::{Placed, Worker},
};

impl Pool {
    pub(super) fn pump(&self, core: &mut Core) {
        self.read(core);
        self.expire(core);
        self.hand_out(core);
        if core.is_closed && core.open == 0 {
            for worker in core.workers.values_mut().filter(|worker| !worker.is_leaving) {
                worker.dismiss();
            }
        }
    }

    /// Reads what the workers have published.
    pub(super) fn read(&self, core: &mut Core) {
        core.is_fresh = false;
        let numbers: Vec<usize> = core.workers.keys().copied().collect();
        for number in numbers {
            while let Some((record, received)) = core.workers.get_mut(&number).and_then(Worker::next_record) {
                core.is_fresh = true;
                let worker = core.workers.get_mut(&number).expect("it was there a line ago");
                match record.kind {
                    kind::RELEASED => worker.released(record.task),
                    kind::ABANDONED => worker.abandoned(record.task),
                    kind::UNFIT => {
                        let why = String::from_utf8_lossy(&record.bytes).into_owned();
                        self.give_up(core, &why);
                    }
                    _ => {
                        let Some(task) = worker.close(record.task) else { continue };
                        core.mean = if core.mean == 0 { record.took.max(1) } else { (core.mean * 7 + record.took) / 8 };
                        let outcome = match (record.kind, received) {
                            (kind::RETURNED, Some(bytes)) => Outcome::Returned(bytes),
                            (_, Some(bytes)) => Outcome::Raised(bytes),
                            (_, None) => {
                                Outcome::Refused("its result could not be read: too many files are open".into())
                            }
                        };
                        self.settle(core, &task, outcome);
                    }
                }
                self.let_go(core, number);
            }
        }
    }

    /// Lets a worker end that has done its share.
    fn let_go(&self, core: &mut Core, number: usize) {
        let Some(most) = self.options.tasks_per_worker else { return };
        let Some(worker) = core.workers.get_mut(&number) else { return };
        if worker.given >= most && worker.is_idle() && !worker.is_leaving {
            worker.dismiss();
        }
    }

    /// Gives a task its outcome, or another try.
    fn settle(&self, core: &mut Core, task: &Arc<Task>, outcome: Outcome) {
        let mut inner = held(&task.inner);
        inner.place = None;
        inner.attempts += 1;
        let is_tried_again = inner.attempts <= task.terms.retries
            && inner.deaths < MOST_DEATHS
            && !matches!(outcome, Outcome::Returned(_) | Outcome::Refused(_) | Outcome::Cancelled);
        drop(inner);
        if is_tried_again && core.broken.is_none() && !task.has_ended() {
            if !held(&task.inner).is_mourned {
                core.waiting.again(task.clone());
            }
        } else {
            self.end(core, task, outcome);
        }
    }

    pub(super) fn end(&self, core: &mut Core, task: &Arc<Task>, outcome: Outcome) {
        held(&task.inner).place = None;
        if !task.end(outcome) {
            return;
        }
        core.open -= 1;
        if !held(&task.inner).is_mourned {
            core.waiting.let_go(task);
        }
        if task.observed.load(Ordering::Relaxed) {
            core.observed -= 1;
            core.told.push(task.number);
            if core.driver || core.followers > 0 {
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
        while let Some(Reverse((when, number, desk))) = core.deadlines.peek().copied() {
            if when > now {
                break;
            }
            core.deadlines.pop();
            let Some(worker) = core.workers.get_mut(&number) else { continue };
            let Some(task) = worker.on_desk(desk).cloned() else { continue };
            let Some(timeout) = task.terms.timeout else { continue };
            let due = match worker.exchange.began(desk) {
                Some(began) => began + nanoseconds_of(timeout),
                None => now + nanoseconds_of(timeout).max(LEAST),
            };
            if due > now {
                core.deadlines.push(Reverse((due, number, desk)));
            } else if self.is_under_way(core, number, desk) {
                let worker = core.workers.get_mut(&number).expect("a task of it is under way");
                worker.kill_for(&task);
                worker.close(desk);
                self.settle(core, &task, Outcome::TimedOut(timeout));
            }
        }
    }

    /// Whether a task that has begun is still what its worker is at, so that a kill hits it and no other: what lies behind it
    /// is taken back before that is decided. If the worker was quicker, the result is read.
    pub(super) fn is_under_way(&self, core: &mut Core, number: usize, desk: u64) -> bool {
        self.give_back(core, number);
        if !core.workers.get(&number).is_some_and(|worker| worker.is_last(desk)) {
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

    pub(super) fn bury(&self, core: &mut Core, number: usize, death: Death) {
        self.read(core);
        self.give_back(core, number);
        let Some(mut worker) = core.workers.remove(&number) else { return };
        // The descriptors are closed with the worker; a fork of the program may still hold copies.
        let _ = epoll::delete(&self.epoll, &worker.socket);
        let _ = epoll::delete(&self.epoll, &worker.status);
        worker.hear(&mut core.words);
        let _ = epoll::delete(&self.epoll, &worker.words);
        let last_words = std::mem::take(&mut worker.last_words);
        if worker.has_started() || worker.read_socket().is_ok() && worker.has_started() {
            core.stillborn = 0;
        } else if !core.is_closed {
            core.stillborn += 1;
        }
        // At most one: the task that it had begun and not ended.
        for task in std::mem::take(&mut worker.entries).into_iter().filter_map(|entry| entry.task) {
            let deaths = {
                let mut inner = held(&task.inner);
                inner.deaths += 1;
                inner.deaths
            };
            self.settle(core, &task, Outcome::Died { death, deaths, last_words: last_words.clone() });
        }
        for task in worker.mourned {
            held(&task.inner).is_mourned = false;
            if task.has_ended() {
                core.waiting.let_go(&task);
            } else {
                core.waiting.again(task);
            }
        }
        if core.stillborn >= MOST_STILLBORN {
            self.give_up(core, "the workers end before they can work");
        }
        self.changed.notify_all();
    }

    /// There will be no workers: everything that waits is told so.
    fn give_up(&self, core: &mut Core, why: &str) {
        if core.broken.is_some() {
            return;
        }
        core.broken = Some(why.to_owned());
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
            self.end(core, &task, Outcome::Refused(why.to_owned()));
        }
    }

    pub(super) fn cancel_waiting(&self, core: &mut Core) {
        let numbers: Vec<_> = core.workers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.give_back(core, number));
        for task in self.undecided(core) {
            self.end(core, &task, Outcome::Cancelled);
        }
    }

    /// Takes out what lies before no worker.
    fn undecided(&self, core: &mut Core) -> Vec<Arc<Task>> {
        let mourned = core.workers.values().flat_map(|worker| &worker.mourned).filter(|task| !task.has_ended());
        let mut tasks: Vec<_> = mourned.cloned().collect();
        tasks.append(&mut core.waiting.drain());
        tasks
    }

    /// Puts waiting tasks before workers that have room for them.
    pub(super) fn hand_out(&self, core: &mut Core) {
        core.lacks_desk = None;
        // Short tasks lie ahead in numbers, so that one wake-up serves many; long ones hardly, so that none waits.
        let window = AHEAD.checked_div(core.mean).map_or(1, |ahead| ahead.clamp(1, MOST_AHEAD) as usize);
        while !core.waiting.is_empty() {
            let most = self.options.tasks_per_worker.unwrap_or(u64::MAX);
            let open = core.workers.iter().filter(|(_, worker)| !worker.is_leaving && worker.given < most);
            let best = open
                .min_by_key(|(number, worker)| (worker.busy, **number))
                .map(|(number, worker)| (*number, worker.busy));
            let number = match best {
                Some((number, 0)) => number,
                _ if core.workers.len() < self.options.workers => match self.start(core) {
                    Ok(number) => number,
                    Err(error) => {
                        self.give_up(core, &format!("no worker can be started: {error}"));
                        return;
                    }
                },
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
            let Some(idle) = core
                .workers
                .iter()
                .find(|(_, worker)| worker.is_idle() && !worker.is_leaving)
                .map(|(number, _)| *number)
            else {
                return;
            };
            let Some(fullest) =
                core.workers.values_mut().max_by_key(|worker| worker.busy).filter(|worker| worker.busy > 1)
            else {
                return;
            };
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
        let desk = worker.entries.back().map_or(0, |entry| entry.number);
        core.text = text;
        match given {
            Ok(Placed::Lies) => {
                held(&task.inner).place = Some((number, desk));
                // The driver expected one result of this worker; now it may have to look for one that is not announced.
                if core.driver && is_second && nanoseconds().saturating_sub(core.woken) < QUIET {
                    self.ring();
                }
                if let Some(timeout) = task.terms.timeout {
                    let when = nanoseconds() + nanoseconds_of(timeout);
                    core.deadlines.push(Reverse((when, number, desk)));
                    if core.driver && when < core.driver_until {
                        self.ring();
                    }
                }
                true
            }
            Ok(Placed::LacksRoom) => false,
            Ok(Placed::LacksDesk) => {
                core.lacks_desk = Some(number);
                false
            }
            Err(_) => {
                // Its status will say why; the task goes to another.
                core.workers.get_mut(&number).expect("as above").is_leaving = true;
                false
            }
        }
    }

    fn start(&self, core: &mut Core) -> io::Result<usize> {
        let (worker, birth) = Worker::new()?;
        let always: [_; ALWAYS] = [
            birth.socket.as_fd(),
            worker.exchange.as_fd(),
            birth.status.as_fd(),
            self.settings.as_fd(),
            birth.words.as_fd(),
        ];
        let born_with: Vec<_> = always.into_iter().chain(self.inherited.iter().map(AsFd::as_fd)).collect();
        self.zygote.start(self.options.method, &born_with)?;
        self.employ(core, worker)
    }

    pub(super) fn employ(&self, core: &mut Core, worker: Worker) -> io::Result<usize> {
        core.last_worker += 1;
        let number = core.last_worker;
        for (descriptor, what) in [(&worker.socket, SOCKET), (&worker.status, STATUS), (&worker.words, WORDS)] {
            let event = epoll::EventData::new_u64((number as u64) << 2 | what);
            epoll::add(&self.epoll, descriptor, event, epoll::EventFlags::IN)?;
        }
        worker.exchange.pool_waits(core.driver);
        core.workers.insert(number, worker);
        Ok(number)
    }
}

/// A task that has not begun is looked at again after its timeout, but not sooner than this, in nanoseconds.
const LEAST: u64 = 1_000_000;
/// Every worker is born with so many descriptors.
pub(super) const ALWAYS: usize = 5;
/// So much work lies ahead of a worker: about ten wake-ups' worth.
const AHEAD: u64 = 400_000;
const MOST_AHEAD: u64 = 200;
/// A task that has killed so many workers is not tried again.
const MOST_DEATHS: u8 = 3;
const MOST_STILLBORN: u32 = 3;
