//! The thread that watches loops: it never takes the interpreter's lock, and never waits for whatever it watches.

use std::{
    io,
    os::fd::{AsFd, RawFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use unisono_sys::{
    epoll, signals,
    thread_activity::{Activity, SystemCall},
};

use crate::{
    cause::{Cause, Look, Looks},
    event::{Ended, Event, Holder, Kind, Stall},
    interpreter::{Frame, Interpreter, LockHolder, Thread},
    loop_state::{LoopState, Seen, Step},
    memory::Memory,
    origin::Origin,
    rates::Rates,
    samples::{LoopCode, Samples},
    watched_loop::{LoopRun, WatchedLoop, now},
};

/// So many looks say what a thread does, so long apart.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(4);
/// A watchdog that is later than this, beside half a stall, was kept from running, and so was everything else.
const LATE: Duration = Duration::from_millis(50);
/// Where a person has stopped the program on purpose.
const DEBUGGERS: [&str; 2] = ["/pdb.py", "/bdb.py"];

/// What is watched, and how it is told.
pub struct Settings<M> {
    /// How long a loop may take for one turn.
    pub stall: Duration,
    /// What is looked into; none where its memory cannot be read, so that no lines are named.
    pub interpreter: Option<Interpreter<M>>,
    /// Which code runs the callbacks of a loop.
    pub loop_code: LoopCode,
    /// Which frames are the program's own.
    pub origin: Origin,
    /// Tells what has happened, on the watchdog's thread.
    pub tell: Box<dyn FnMut(Event) + Send>,
}

/// The watchdog of a process. Dropped, it ends and is waited for.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How much it has done since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it woke.
    pub wakes: u64,
    /// How often it has asked a loop.
    pub pings: u64,
    /// How many stalls there were, told or not.
    pub stalls: u64,
}

#[derive(Debug)]
struct Shared {
    /// No descriptor, which a program may close with all others.
    is_woken: Mutex<bool>,
    wake: Condvar,
    stop: AtomicBool,
    /// Whoever has a loop keeps it; one that is gone is let go of.
    loops: Mutex<Vec<Weak<WatchedLoop>>>,
    wakes: AtomicU64,
    pings: AtomicU64,
    stalls: AtomicU64,
}

impl Watchdog {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no descriptor or no thread left.
    pub fn start<M: Memory + Send + 'static>(settings: Settings<M>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            is_woken: Mutex::new(false),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            loops: Mutex::new(Vec::new()),
            wakes: AtomicU64::new(0),
            pings: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
        });
        let patrol = Patrol { shared: Arc::clone(&shared), settings, rates: Rates::default() };
        let thread = std::thread::Builder::new().name("unisono-watch".into()).spawn(move || patrol.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Watches a loop whenever it runs, for as long as it is kept.
    pub fn add(&self, watched: &Arc<WatchedLoop>) {
        let mut loops = self.shared.loops();
        loops.retain(|other| other.strong_count() > 0);
        loops.push(Arc::downgrade(watched));
    }

    /// A loop has begun or ended.
    pub fn wake(&self) {
        *self.shared.woken() = true;
        self.shared.wake.notify_one();
    }

    /// What it watches, to be asked from any thread.
    pub fn census(&self) -> Census {
        Census(Arc::clone(&self.shared))
    }
}

/// What a watchdog watches, and how much it has done.
#[derive(Debug, Clone)]
pub struct Census(Arc<Shared>);

impl Census {
    /// The loops, whether they run or not.
    pub fn loops(&self) -> Vec<Arc<WatchedLoop>> {
        self.0.loops().iter().filter_map(Weak::upgrade).collect()
    }

    /// How much it has done.
    pub fn counts(&self) -> Counts {
        Counts {
            wakes: self.0.wakes.load(Ordering::Relaxed),
            pings: self.0.pings.load(Ordering::Relaxed),
            stalls: self.0.stalls.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // That it has panicked was said by the panic itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn loops(&self) -> MutexGuard<'_, Vec<Weak<WatchedLoop>>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn woken(&self) -> MutexGuard<'_, bool> {
        self.is_woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, limit: Option<Duration>) {
        let asleep = |is_woken: &mut bool| !*is_woken;
        let mut is_woken = match limit {
            Some(limit) => {
                let waited = self.wake.wait_timeout_while(self.woken(), limit, asleep);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wake.wait_while(self.woken(), asleep).unwrap_or_else(PoisonError::into_inner),
        };
        *is_woken = false;
    }
}

/// What the thread alone knows of a loop.
struct Watch {
    watched: Weak<WatchedLoop>,
    state: LoopState,
    due: Option<Duration>,
    samples: Samples,
    epoll: Option<RawFd>,
    /// The run that a ping belongs to, which may be over when it is answered.
    run: Option<Arc<LoopRun>>,
    /// Where the stall that was told stands.
    told: Option<Option<Frame>>,
}

/// A stall as it is to be told.
struct Told {
    age: Duration,
    again: bool,
}

struct Patrol<M> {
    shared: Arc<Shared>,
    settings: Settings<M>,
    rates: Rates,
}

impl<M: Memory> Patrol<M> {
    fn run(mut self) {
        signals::hold_from_thread();
        let mut watches: Vec<Watch> = Vec::new();
        loop {
            let before = now();
            let due = watches.iter().filter_map(|watch| watch.due).min();
            self.shared.wait(due.map(|due| due.saturating_sub(before)));
            if self.shared.stop.load(Ordering::Acquire) {
                watches.iter_mut().for_each(|watch| self.leave(watch));
                return;
            }
            self.shared.wakes.fetch_add(1, Ordering::Relaxed);
            let now = now();
            self.meet(&mut watches);
            let was_kept = due.is_some_and(|due| now > due.max(before) + self.settings.stall / 2 + LATE);
            for watch in &mut watches {
                let Some(watched) = watch.watched.upgrade() else { continue };
                if was_kept {
                    watch.state.restart(now);
                }
                let run = watched.run();
                if watch.due.is_some_and(|due| due <= now) || (watch.due.is_none() && run.is_some()) {
                    self.turn(watch, &watched, run, now);
                }
            }
        }
    }

    /// Takes up loops that were added, and lets go of those that were removed.
    fn meet(&mut self, watches: &mut Vec<Watch>) {
        watches.iter_mut().filter(|watch| watch.watched.strong_count() == 0).for_each(|watch| self.leave(watch));
        watches.retain(|watch| watch.watched.strong_count() > 0);
        for watched in self.shared.loops().iter() {
            if !watches.iter().any(|watch| watch.watched.ptr_eq(watched)) {
                watches.push(Watch {
                    watched: Weak::clone(watched),
                    state: LoopState::new(self.settings.stall),
                    due: None,
                    samples: Samples::default(),
                    epoll: None,
                    run: None,
                    told: None,
                });
            }
        }
    }

    fn turn(&mut self, watch: &mut Watch, watched: &WatchedLoop, run: Option<Arc<LoopRun>>, now: Duration) {
        let sleeps = run.as_ref().is_some_and(|run| self.sleeps(watch, watched, run));
        loop {
            let seen = Seen { runs: run.is_some(), sleeps, answered: watched.answered() };
            match watch.state.turn(now, seen) {
                Step::Ping => {
                    watch.samples.clear();
                    watch.run.clone_from(&run);
                    self.shared.pings.fetch_add(1, Ordering::Relaxed);
                    watched.ask();
                    break;
                }
                Step::Ended { whole } => self.end(watch, whole),
                Step::Sample => {
                    if let Some(run) = &run {
                        self.sample(watch, run);
                    }
                    break;
                }
                Step::Stall { age, again } => {
                    if let Some(run) = &run {
                        self.stall(watch, watched, run, Told { age, again }, now);
                    }
                    break;
                }
                Step::Nothing => break,
            }
        }
        watch.due = run.is_some().then(|| now + watch.state.wait());
    }

    /// Whether the loop sleeps for events, ours among them.
    fn sleeps(&self, watch: &mut Watch, watched: &WatchedLoop, run: &LoopRun) -> bool {
        let Activity::Sleeps(call) = run.activity.now() else { return false };
        let is_of =
            |call: SystemCall, instance: Option<RawFd>| instance.is_some_and(|number| call.waits_for_epoll(number));
        if is_of(call, watch.epoll) {
            return true;
        }
        if call.name().is_none_or(|name| !name.starts_with("epoll")) {
            return false;
        }
        watch.epoll = epoll::watching(watched.as_fd());
        is_of(call, watch.epoll)
    }

    /// Keeps what the loop is seen to run.
    fn sample(&self, watch: &mut Watch, run: &LoopRun) {
        let Some(interpreter) = &self.settings.interpreter else { return };
        let Some(stack) = interpreter.stack(run.thread) else { return };
        let local = |frame: &_| interpreter.first_local(frame).unwrap_or(0);
        let Some((callback, depth)) = self.settings.loop_code.callback(&stack, local) else { return };
        let frames: Vec<_> = stack[..depth].iter().filter_map(|frame| interpreter.named(frame)).collect();
        if let Some(place) = self.settings.origin.place(&frames) {
            watch.samples.keep(callback, place.clone());
        }
    }

    fn stall(&mut self, watch: &mut Watch, watched: &WatchedLoop, run: &LoopRun, stall: Told, now: Duration) {
        let Told { age, again } = stall;
        // Without its descriptor a loop cannot answer, whatever it does.
        if self.is_over(run) || !watched.can_answer() {
            watched.end();
            return;
        }
        if !again {
            self.shared.stalls.fetch_add(1, Ordering::Relaxed);
        }
        self.sample(watch, run);
        let stack = self.callback_stack(run.thread);
        let looks = self.looks(watched, run);
        if stack.iter().any(|frame| DEBUGGERS.iter().any(|debugger| frame.file.ends_with(debugger))) {
            return;
        }
        let cause = looks.cause();
        let holder = match cause {
            Cause::WaitsForLock(Some(thread)) => self.holder(thread),
            _ => None,
        };
        let kind = match watch.samples.busiest() {
            Some(lines) if matches!(cause, Cause::Works { .. } | Cause::Sleeps { .. }) => Kind::Late { lines },
            _ => Kind::Blocked { cause, stack },
        };
        let stall = Stall { thread: run.name.clone(), age, again, kept_back: 0, kind, holder };
        let place = stall.place(&self.settings.origin).cloned();
        let is_open = again && watch.told.is_some();
        let kept_back = if is_open { Some(0) } else { self.rates.admits(place.as_ref(), now) };
        let Some(kept_back) = kept_back else { return };
        watch.told = Some(place);
        (self.settings.tell)(Event::Stall(Box::new(Stall { kept_back, ..stall })));
    }

    /// Nothing is watched any more: a stall that was told and is over is told to be.
    fn leave(&mut self, watch: &mut Watch) {
        let seen = match watch.watched.upgrade() {
            Some(watched) => Seen { runs: watched.run().is_some(), sleeps: false, answered: watched.answered() },
            None => Seen { runs: false, sleeps: false, answered: None },
        };
        if let Step::Ended { whole } = watch.state.turn(now(), seen) {
            self.end(watch, whole);
        }
    }

    /// Whether the loop has ended without telling.
    fn is_over(&self, run: &LoopRun) -> bool {
        let (Some(base), Some(interpreter)) = (&run.base, &self.settings.interpreter) else { return false };
        interpreter.stack(run.thread).is_none_or(|stack| !stack.contains(base))
    }

    fn end(&mut self, watch: &mut Watch, whole: Duration) {
        // Where the stall was kept back, so is its end.
        if let (Some(place), Some(run)) = (watch.told.take(), watch.run.take()) {
            (self.settings.tell)(Event::Ended(Ended { thread: run.name.clone(), whole, place }));
        }
    }

    fn stack(&self, thread: Thread) -> Vec<Frame> {
        let Some(interpreter) = &self.settings.interpreter else { return Vec::new() };
        let stack = interpreter.stack(thread).unwrap_or_default();
        stack.iter().filter_map(|frame| interpreter.named(frame)).collect()
    }

    /// The frames of the callback that a loop is in, without those of the loop and of what has started it.
    fn callback_stack(&self, thread: Thread) -> Vec<Frame> {
        let Some(interpreter) = &self.settings.interpreter else { return Vec::new() };
        let stack = interpreter.stack(thread).unwrap_or_default();
        let depth = self.settings.loop_code.callback(&stack, |_| 0).map_or(stack.len(), |(_, depth)| depth);
        stack[..depth].iter().filter_map(|frame| interpreter.named(frame)).collect()
    }

    fn holder(&self, thread: Thread) -> Option<Holder> {
        let id = self.settings.interpreter.as_ref()?.native_id(thread);
        Some(Holder { thread, id, stack: self.stack(thread) })
    }

    /// Looks until the loop answers, or often enough.
    fn looks(&self, watched: &WatchedLoop, run: &LoopRun) -> Looks {
        let (start, before) = (now(), run.activity.schedule());
        let mut each = Vec::with_capacity(LOOKS);
        while each.len() < LOOKS && watched.answered().is_none() {
            each.push(self.look(run));
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let schedule = before.zip(run.activity.schedule());
        Looks { thread: run.thread, each, lasted: now().saturating_sub(start), schedule }
    }

    fn look(&self, run: &LoopRun) -> Look {
        let activity = run.activity.now();
        let Some(interpreter) = &self.settings.interpreter else {
            let lock = LockHolder::Unreadable;
            return Look { activity, lock, waits_for_lock: false, is_collecting: false, instruction: None };
        };
        let waits_for_lock = matches!(activity, Activity::Sleeps(call) if call.name() == Some("futex")
            && interpreter.is_of_lock(call.first));
        Look {
            activity,
            lock: interpreter.lock_holder(),
            waits_for_lock,
            is_collecting: interpreter.is_collecting(),
            instruction: interpreter.instruction(run.thread),
        }
    }
}
