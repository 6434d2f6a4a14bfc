//! The pool: one queue, a worker per core or as many as asked for, and whoever waits drives.
//!
//! Everything is under one lock, held for short and never while the interpreter is entered. [`Pool::pump`] is the whole
//! of it: read what the workers have published, see who has died, stop what is past its time, hand out what waits.
//! It is run by whoever submits, asks or waits. Of those that wait, one sleeps in epoll (the *driver*), the others on a
//! condition; the driver tells them when something has ended, and when it leaves. [`Pool::serve`] is for a thread in
//! the background that drives only while nobody else does, or while somebody wants to be told.
//!
//! Deaths: what a worker had ended counts, what it had not begun goes back to the front of the queue, and what it was
//! running has died with it, or is tried again if its terms allow that and it has not killed three workers.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::pipe::{PipeFlags, pipe_with};
use unisono_sys::monotonic::nanoseconds;

use crate::{
    blob::{Arena, Blob},
    exchange::Exchange,
    inside::kind,
    message,
    task::{Death, Function, Outcome, State, Task, Terms, held},
    worker::Worker,
    zygote::Zygote,
};

/// What a pool is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many workers at most.
    pub workers: usize,
    /// How the zygote makes them.
    pub method: u8,
    /// After so many tasks a worker is replaced.
    pub tasks_per_worker: Option<u64>,
    /// How many tasks may wait or run before `submit` waits; `None` for any number.
    pub pending: Option<usize>,
}

/// Executes tasks in worker processes.
#[derive(Debug)]
pub struct Pool {
    options: Options,
    zygote: Arc<Zygote>,
    /// What a worker reads when it is born.
    settings: OwnedFd,
    /// Where what workers write to their standard error goes.
    output: OwnedFd,
    arena: Arena,
    core: Mutex<Core>,
    /// Something ended, or the driver has left.
    changed: Condvar,
    /// There is something to watch over, for [`Pool::serve`].
    wanted: Condvar,
    epoll: OwnedFd,
    bell: OwnedFd,
    next_task: AtomicU64,
}

#[derive(Debug, Default)]
struct Core {
    queue: VecDeque<Arc<Task>>,
    workers: HashMap<usize, Worker>,
    last_worker: usize,
    /// When to look whether a task is past its time: (when, worker, desk).
    deadlines: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// Tasks that have ended and that somebody wants to be told of.
    told: Vec<u64>,
    /// How many tasks are observed and have not ended.
    observed: usize,
    /// How many tasks have no outcome.
    open: usize,
    driver: bool,
    /// When the driver wakes at the latest.
    driver_until: u64,
    followers: usize,
    is_closed: bool,
    is_stopped: bool,
    is_dormant: bool,
    /// Why there are no workers.
    broken: Option<String>,
    /// How many workers in a row have ended before they could work.
    stillborn: u32,
    /// How long a task takes, in nanoseconds; a mean that forgets.
    mean: u64,
    /// Something was read at the last look.
    is_fresh: bool,
    /// Room for a message, used again and again.
    text: Vec<u8>,
    /// When a driver was last woken.
    woken: u64,
}

impl Core {
    fn is_over(&self) -> bool {
        self.is_closed && self.open == 0 && self.workers.is_empty()
    }
}

/// What one may wait for.
#[derive(Debug, Clone, Copy)]
pub enum Awaited<'a> {
    /// The end of a task.
    End(&'a Task),
    /// Room for another task, if their number is bounded.
    Room,
    /// That nothing is left of a closed pool.
    Over,
}

impl Pool {
    /// A pool; workers start when there is something for them to do.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(options: Options, zygote: Arc<Zygote>, settings: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        Ok(Self {
            options,
            zygote,
            settings,
            output,
            arena: Arena::default(),
            core: Mutex::default(),
            changed: Condvar::new(),
            wanted: Condvar::new(),
            epoll,
            bell,
            next_task: AtomicU64::new(0),
        })
    }

    /// Where long arguments are put.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Submits a task. `Err` when the pool is closed, with the reason when it is broken; `observed` tasks are told by
    /// [`Pool::serve`].
    ///
    /// # Errors
    /// Why nothing can be submitted any more.
    pub fn submit(
        &self,
        function: Arc<Function>,
        arguments: Blob,
        terms: Terms,
        observed: bool,
    ) -> Result<Arc<Task>, Option<String>> {
        let number = self.next_task.fetch_add(1, Ordering::Relaxed);
        let task = Arc::new(Task::new(number, function, arguments, terms, observed));
        let mut core = held(&self.core);
        if let Some(why) = &core.broken {
            return Err(Some(why.clone()));
        }
        if core.is_closed {
            return Err(None);
        }
        core.open += 1;
        core.observed += usize::from(observed);
        core.queue.push_back(task.clone());
        self.hand_out(&mut core);
        if !core.queue.is_empty() {
            self.read(&mut core);
            self.hand_out(&mut core);
        }
        if core.is_dormant {
            core.is_dormant = false;
            self.wanted.notify_one();
        }
        Ok(task)
    }

    /// Whether `submit` may have to wait for room.
    pub fn is_bounded(&self) -> bool {
        self.options.pending.is_some()
    }

    /// Where a task is now.
    pub fn state(&self, task: &Task) -> State {
        if !task.has_ended() {
            let mut core = held(&self.core);
            self.pump(&mut core);
            if !task.has_ended() {
                let place = held(&task.inner).place;
                let begun = place.is_some_and(|(worker, desk)| {
                    core.workers.get(&worker).is_some_and(|worker| worker.has_begun(desk))
                });
                return if begun { State::Running } else { State::Waiting };
            }
        }
        if task.is_cancelled() { State::Cancelled } else { State::Ended }
    }

    /// Has a task told by [`Pool::serve`] when it ends; false when it has ended already.
    pub fn observe(&self, task: &Task) -> bool {
        let mut core = held(&self.core);
        if task.has_ended() {
            return false;
        }
        if !task.observed.swap(true, Ordering::Relaxed) {
            core.observed += 1;
            self.wanted.notify_one();
        }
        true
    }

    /// Cancels a task that waits, or kills the worker of one that runs if `running`. False when it is too late.
    pub fn cancel(&self, task: &Arc<Task>, running: bool) -> bool {
        let mut core = held(&self.core);
        self.pump(&mut core);
        if task.has_ended() {
            return task.is_cancelled();
        }
        let place = || held(&task.inner).place;
        if let Some((number, _)) = place() {
            // Not this one alone: a later one may rely on what came with it.
            self.give_back(&mut core, number);
        }
        if let Some((number, _)) = place() {
            if !running {
                return false;
            }
            if let Some(worker) = core.workers.get_mut(&number) {
                worker.kill();
            }
        }
        // It may still stand in the queue, which passes over what has ended.
        self.end(&mut core, task, Outcome::Cancelled);
        self.hand_out(&mut core);
        true
    }

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

    /// No more tasks. Those that wait are cancelled if `cancel`, those that run are killed if `kill`.
    pub fn close(&self, cancel: bool, kill: bool) {
        let mut core = held(&self.core);
        core.is_closed = true;
        if cancel {
            self.cancel_waiting(&mut core);
        }
        if kill {
            let running: Vec<_> = core
                .workers
                .values_mut()
                .flat_map(|worker| {
                    worker.kill();
                    worker.entries.iter().filter_map(|entry| entry.task.clone()).collect::<Vec<_>>()
                })
                .collect();
            for task in running {
                self.end(&mut core, &task, Outcome::Cancelled);
            }
        }
        self.pump(&mut core);
        self.ring();
        self.wanted.notify_all();
        self.changed.notify_all();
    }

    /// Whether, and why, nothing can be submitted any more; the reason is known when the pool is broken.
    pub fn refuses(&self) -> Option<Option<String>> {
        let core = held(&self.core);
        if core.broken.is_some() { Some(core.broken.clone()) } else { core.is_closed.then_some(None) }
    }

    /// Ends [`Pool::serve`].
    pub fn stop(&self) {
        held(&self.core).is_stopped = true;
        self.ring();
        self.wanted.notify_all();
    }

    /// How many workers there are, and how many tasks without an outcome.
    pub fn counts(&self) -> (usize, usize) {
        let core = held(&self.core);
        (core.workers.len(), core.open)
    }

    fn has_come(&self, core: &Core, what: Awaited<'_>) -> bool {
        match what {
            Awaited::End(task) => task.has_ended(),
            Awaited::Room => self.options.pending.is_none_or(|most| core.open < most) || core.is_closed,
            Awaited::Over => core.is_over(),
        }
    }

    fn ring(&self) {
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
        // What was written before the flag could be seen is not announced.
        if !core.workers.values().any(|worker| worker.exchange.has_records()) {
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

    fn heed(&self, core: &mut Core, event: u64) {
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
            if !matches!(worker.read_socket(), Ok(true)) {
                // Its status will follow; until then its socket would be ready for ever.
                let _ = epoll::delete(&self.epoll, &worker.socket);
                worker.is_leaving = true;
            }
        } else if let Some(death) = worker.death() {
            self.bury(core, number, death);
        }
    }

    fn pump(&self, core: &mut Core) {
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
    fn read(&self, core: &mut Core) {
        core.is_fresh = false;
        let numbers: Vec<usize> = core.workers.keys().copied().collect();
        for number in numbers {
            while let Some((record, received)) = core.workers.get_mut(&number).and_then(Worker::next_record) {
                core.is_fresh = true;
                let worker = core.workers.get_mut(&number).expect("it was there a line ago");
                match record.kind {
                    kind::RELEASED => worker.released(record.task),
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
            core.queue.push_back(task.clone());
        } else {
            self.end(core, task, outcome);
        }
    }

    fn end(&self, core: &mut Core, task: &Arc<Task>, outcome: Outcome) {
        held(&task.inner).place = None;
        if !task.end(outcome) {
            return;
        }
        core.open -= 1;
        if task.observed.load(Ordering::Relaxed) {
            core.observed -= 1;
            core.told.push(task.number);
            if core.driver || core.followers > 0 {
                self.wanted.notify_one();
            }
        }
        if core.followers > 0 {
            self.changed.notify_all();
        }
    }

    /// Kills the workers whose task is past its time.
    fn expire(&self, core: &mut Core) {
        while let Some(Reverse((when, number, desk))) = core.deadlines.peek().copied() {
            let now = nanoseconds();
            if when > now {
                break;
            }
            core.deadlines.pop();
            let Some(worker) = core.workers.get_mut(&number) else { continue };
            let entry = worker.entries.iter().find(|entry| entry.number == desk);
            let Some(task) = entry.and_then(|entry| entry.task.clone()) else { continue };
            let Some(timeout) = task.terms.timeout else { continue };
            let due = worker.exchange.began(desk).unwrap_or(now) + nanoseconds_of(timeout);
            if due > now {
                core.deadlines.push(Reverse((due, number, desk)));
                continue;
            }
            worker.kill();
            worker.close(desk);
            self.settle(core, &task, Outcome::TimedOut(timeout));
            self.give_back(core, number);
        }
    }

    /// Puts what a worker has not begun back to the front of the queue.
    fn give_back(&self, core: &mut Core, number: usize) {
        let Some(worker) = core.workers.get_mut(&number) else { return };
        while let Some(task) = worker.take_back() {
            held(&task.inner).place = None;
            if !task.has_ended() {
                core.queue.push_front(task);
            }
        }
    }

    fn bury(&self, core: &mut Core, number: usize, death: Death) {
        self.read(core);
        self.give_back(core, number);
        let Some(mut worker) = core.workers.remove(&number) else { return };
        // The descriptors are closed with the worker; a fork of the program may still hold copies.
        let _ = epoll::delete(&self.epoll, &worker.socket);
        let _ = epoll::delete(&self.epoll, &worker.status);
        worker.hear(self.output.as_fd());
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
        let waiting: Vec<_> = core.queue.drain(..).collect();
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

    fn cancel_waiting(&self, core: &mut Core) {
        let numbers: Vec<_> = core.workers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.give_back(core, number));
        for task in core.queue.drain(..).collect::<Vec<_>>() {
            self.end(core, &task, Outcome::Cancelled);
        }
    }

    /// Puts waiting tasks before workers that have room for them.
    fn hand_out(&self, core: &mut Core) {
        // Short tasks lie ahead in numbers, so that one wake-up serves many; long ones hardly, so that none waits.
        let window = AHEAD.checked_div(core.mean).map_or(1, |ahead| ahead.clamp(1, MOST_AHEAD) as usize);
        while !core.queue.is_empty() {
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
            let Some(task) = core.queue.pop_front() else { return };
            if !self.give(core, number, &task) {
                core.queue.push_front(task);
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
                core.queue.push_front(task);
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
        let desk = worker.entries.back().map_or(0, |entry| entry.number);
        core.text = text;
        match given {
            Ok(true) => {
                held(&task.inner).place = Some((number, desk));
                if let Some(timeout) = task.terms.timeout {
                    let when = nanoseconds() + nanoseconds_of(timeout);
                    core.deadlines.push(Reverse((when, number, desk)));
                    if core.driver && when < core.driver_until {
                        self.ring();
                    }
                }
                true
            }
            Ok(false) => false,
            Err(_) => {
                // Its status will say why; the task goes to another.
                core.workers.get_mut(&number).expect("as above").is_leaving = true;
                false
            }
        }
    }

    fn start(&self, core: &mut Core) -> io::Result<usize> {
        let (ours, theirs) = message::pair()?;
        let exchange = Arc::new(Exchange::new()?);
        let (status, teller) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The worker's end blocks, as a standard error does.
        let (words, speaker) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&words, true)?;
        let born_with = [theirs.as_fd(), exchange.as_fd(), teller.as_fd(), self.settings.as_fd(), speaker.as_fd()];
        self.zygote.start(self.options.method, &born_with)?;
        core.last_worker += 1;
        let number = core.last_worker;
        let word = (number as u64) << 2;
        epoll::add(&self.epoll, &ours, epoll::EventData::new_u64(word | SOCKET), epoll::EventFlags::IN)?;
        epoll::add(&self.epoll, &status, epoll::EventData::new_u64(word | STATUS), epoll::EventFlags::IN)?;
        epoll::add(&self.epoll, &words, epoll::EventData::new_u64(word | WORDS), epoll::EventFlags::IN)?;
        exchange.pool_waits(core.driver);
        core.workers.insert(number, Worker::new(exchange, ours, status, words));
        Ok(number)
    }
}

fn nanoseconds_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

/// How long one wait lasts at most, so that Ctrl-C is seen by who waits beside the driver.
const SLICE: u64 = 50_000_000;
/// After this, what was not announced is looked for.
const LATER: u64 = 1_000_000;
/// How often the background looks whether anybody drives.
const TICK: Duration = Duration::from_millis(2);
/// After this without a task, the background sleeps until it is called.
const DORMANT: u64 = 1_000_000_000;
/// So much work lies ahead of a worker: about ten wake-ups' worth.
const AHEAD: u64 = 400_000;
const MOST_AHEAD: u64 = 200;
/// A task that has killed so many workers is not tried again.
const MOST_DEATHS: u8 = 3;
const MOST_STILLBORN: u32 = 3;
const BELL: u64 = u64::MAX;
// What of a worker an event is about.
const SOCKET: u64 = 0;
const STATUS: u64 = 1;
const WORDS: u64 = 2;
