//! Threads, what those of executors do, and which of them runs which loop.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use unisono_watch::tasks::{Busy, Pool, PoolKind, Thread, roles::Role};

use super::{
    kinds::Kinds,
    stacks::{Link, Stacks},
};
use crate::ffi::looking::Seen;

/// The threads of a program.
pub struct Threads<'look> {
    pub all: Vec<Thread>,
    pub pools: Vec<Pool>,
    /// By the number that Python knows a thread by.
    pub by_ident: HashMap<i64, usize>,
    /// By the address of a job's future: the thread that runs it.
    pub jobs: HashMap<usize, usize>,
    /// By the address of a loop: the thread that runs it, where its frames say so.
    pub loops: HashMap<usize, usize>,
    /// What functions refer to that have called a loop: they do not go on before that ends. Once for each variable.
    pub behind_loops: Vec<Seen<'look>>,
    /// Addresses of what loops were begun for: `asyncio.run` keeps its task, and what cancels that at Ctrl-C.
    pub begun: HashSet<usize>,
    /// By thread: the number that the system knows it by.
    native: Vec<Option<i64>>,
}

impl<'look> Threads<'look> {
    /// Looks at all threads; `frames` is the innermost frame by thread, `looking` the thread that asks.
    pub fn of(kinds: &Kinds<'look>, stacks: &Stacks<'_, 'look>, frames: Seen<'look>, looking: i64) -> Self {
        let mut threads = Self {
            all: Vec::new(),
            pools: Vec::new(),
            by_ident: HashMap::new(),
            jobs: HashMap::new(),
            loops: HashMap::new(),
            behind_loops: Vec::new(),
            begun: HashSet::new(),
            native: Vec::new(),
        };
        let python_threads = idents(kinds);
        let mut links = Vec::new();
        for (ident, frame) in frames.entries() {
            let Some(ident) = ident.whole() else { continue };
            let thread = python_threads.get(&ident).copied();
            let name = thread.and_then(|thread| kinds.get(thread, c"_name")).and_then(Seen::text);
            threads.native.push(thread.and_then(|thread| kinds.get(thread, c"_native_id")).and_then(Seen::whole));
            let stack = stacks.of_thread(frame);
            let sites = stack.iter().filter_map(|link| link.site).collect();
            threads.by_ident.insert(ident, threads.all.len());
            threads.note_loop(kinds, stacks, &stack);
            links.push(stack);
            threads.all.push(Thread { name, stack: sites, is_looking: ident == looking });
        }
        threads.look_at_executors(kinds, stacks, &links);
        threads.look_at_anyio(stacks, &links);
        threads
    }

    /// Which loop a thread runs, if a frame says so.
    fn note_loop(&mut self, kinds: &Kinds<'look>, stacks: &Stacks<'_, 'look>, stack: &[Link<'look>]) {
        let runs = |link: &Link<'look>| link.site.and_then(|site| stacks.role(site)) == Some(Role::RunsLoop);
        for link in stack.iter().filter(|link| runs(link)) {
            let locals = kinds.look.locals(link.object);
            let tasks = locals.iter().flatten().filter(|object| kinds.is_task(**object));
            self.begun.extend(tasks.map(|task| task.address()));
            let Some(first) = locals.first().copied().flatten() else { continue };
            let of_runner = kinds.get(first, c"_loop");
            self.loops.insert(of_runner.unwrap_or(first).address(), self.all.len());
        }
        if let Some(place) = stack.iter().rposition(runs) {
            let locals = stack[..place].iter().flat_map(|link| kinds.look.locals(link.object));
            self.behind_loops.extend(locals.flatten());
        }
    }

    /// Whether a thread waits for descriptors in the system, if that says so.
    pub fn waits_for_descriptors(&self, thread: usize) -> bool {
        let Some(native) = self.native.get(thread).copied().flatten() else { return false };
        // proc_pid_syscall(5): the number of the call first. It is refused to a process that may not be traced.
        let call = fs::read_to_string(format!("/proc/self/task/{native}/syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse().ok());
        number.is_some_and(|number: u32| WAITING_CALLS.contains(&number))
    }

    /// Threads of `concurrent.futures`, by the queue that they take jobs from.
    fn look_at_executors(&mut self, kinds: &Kinds<'look>, stacks: &Stacks<'_, 'look>, links: &[Vec<Link<'look>>]) {
        let Some(queues) = kinds
            .look
            .of_module(c"concurrent.futures.thread", c"_threads_queues")
            .and_then(|queues| kinds.get(queues, c"data"))
        else {
            return;
        };
        let mut pools: Vec<(Seen<'look>, Pool)> = Vec::new();
        for (thread, queue) in queues.entries() {
            let Some(thread) = thread.referenced() else { continue };
            let Some(ident) = kinds.get(thread, c"_ident").and_then(Seen::whole) else { continue };
            let Some(&number) = self.by_ident.get(&ident) else { continue };
            let place = pools.iter().position(|(other, _)| *other == queue).unwrap_or_else(|| {
                pools.push((queue, Pool { most: most_threads(kinds, thread), ..Pool::default() }));
                pools.len() - 1
            });
            let pool = &mut pools[place].1;
            let job = links[number]
                .iter()
                .find(|link| link.site.and_then(|site| stacks.role(site)) == Some(Role::RunsJob))
                .and_then(|link| link.frame);
            match job {
                None => pool.idle += 1,
                Some(frame) => {
                    let item = first_local(kinds, frame);
                    if let Some(future) = item.and_then(|item| kinds.get(item, c"future")) {
                        self.jobs.insert(future.address(), number);
                    }
                    pool.busy.push(Busy { thread: number });
                }
            }
        }
        for (queue, mut pool) in pools {
            let size = queue.kind().in_type(kinds.name(c"qsize")).and_then(|method| kinds.look.called(method, queue));
            let waiting = size.and_then(Seen::whole).and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
            // What a free thread is about to take does not wait.
            pool.waiting = waiting.saturating_sub(pool.idle);
            self.pools.push(pool);
        }
    }

    /// Worker threads of anyio: a function of the program runs there, or they wait for one.
    fn look_at_anyio(&mut self, stacks: &Stacks<'_, '_>, links: &[Vec<Link<'_>>]) {
        let mut pool = Pool { kind: PoolKind::Anyio, ..Pool::default() };
        for (number, stack) in links.iter().enumerate() {
            let role = |link: &Link<'_>| link.site.and_then(|site| stacks.role(site));
            let Some(place) = stack.iter().position(|link| role(link) == Some(Role::AnyioThread)) else { continue };
            if stack.get(place + 1).and_then(role) == Some(Role::ThreadQueue) {
                pool.idle += 1;
            } else {
                pool.busy.push(Busy { thread: number });
            }
        }
        if !pool.busy.is_empty() || pool.idle > 0 {
            self.pools.push(pool);
        }
    }
}

/// The objects of threads, by the number that Python knows them by.
fn idents<'look>(kinds: &Kinds<'look>) -> HashMap<i64, Seen<'look>> {
    let active = kinds.look.of_module(c"threading", c"_active");
    let entries = active.map(Seen::entries).unwrap_or_default();
    entries.into_iter().filter_map(|(ident, thread)| Some((ident.whole()?, thread))).collect()
}

/// How many threads the executor of a thread may have.
fn most_threads<'look>(kinds: &Kinds<'look>, thread: Seen<'look>) -> Option<usize> {
    let arguments = kinds.referents(kinds.get(thread, c"_args")?);
    let executor = arguments.into_iter().find_map(Seen::referenced)?;
    usize::try_from(kinds.get(executor, c"_max_workers")?.whole()?).ok()
}

/// `self` of a method that runs.
fn first_local<'look>(kinds: &Kinds<'look>, frame: Seen<'look>) -> Option<Seen<'look>> {
    kinds.look.locals(frame).into_iter().next().flatten()
}

/// `poll`, `select`, `epoll_wait`, `pselect6`, `ppoll`, `epoll_pwait` and `epoll_pwait2` on x86-64.
const WAITING_CALLS: [u32; 7] = [7, 23, 232, 270, 271, 281, 441];
