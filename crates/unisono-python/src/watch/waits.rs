//! What a task waits for, and what it has taken: read from the functions that it stands in and what they hold.

use std::{cell::RefCell, collections::HashMap};

use unisono_watch::tasks::{Hold, Thing, ThingKind, Together, Wait, roles::Role};

use super::{
    kinds::{Kinds, State},
    stacks::{Link, Stacks},
    threads::Threads,
};
use crate::ffi::looking::{Awaitable, Seen};

/// What waits are read from.
pub struct Waits<'a, 'look> {
    pub kinds: &'a Kinds<'look>,
    pub stacks: &'a Stacks<'a, 'look>,
    pub threads: &'a Threads<'look>,
    /// By address: tasks that are not done.
    pub tasks: &'a HashMap<usize, usize>,
    things: RefCell<Things<'look>>,
    /// By the address of a code object: whether it is the end of a `with`.
    is_exit: RefCell<HashMap<usize, bool>>,
}

#[derive(Default)]
struct Things<'look> {
    all: Vec<Thing>,
    objects: Vec<Seen<'look>>,
    by_address: HashMap<usize, usize>,
    counts: HashMap<ThingKind, usize>,
}

/// What a task is inside of.
#[derive(Debug, Default)]
pub struct Inside {
    pub holds: Vec<Hold>,
    pub has_deadline: bool,
    pub is_cleaning_up: bool,
}

impl<'a, 'look> Waits<'a, 'look> {
    pub fn new(
        kinds: &'a Kinds<'look>,
        stacks: &'a Stacks<'a, 'look>,
        threads: &'a Threads<'look>,
        tasks: &'a HashMap<usize, usize>,
    ) -> Self {
        Self { kinds, stacks, threads, tasks, things: RefCell::default(), is_exit: RefCell::default() }
    }

    /// What was met that tasks wait in, in the order of its numbers.
    pub fn into_things(self) -> Vec<Thing> {
        self.things.into_inner().all
    }

    /// What a task with this chain, which waits for this future, waits for.
    pub fn wait(&self, chain: &[Link<'look>], waiter: Seen<'look>) -> Wait {
        if self.kinds.is_task(waiter) {
            return self.together(Together::One, vec![waiter]);
        }
        if Kinds::is_a(waiter, self.kinds.gathering) {
            let children = self.kinds.get(waiter, c"_children");
            return self
                .together(Together::Gather, children.map(|list| self.kinds.referents(list)).unwrap_or_default());
        }
        self.by_function(chain).or_else(|| self.by_callback(waiter)).unwrap_or_else(|| {
            if self.kinds.is_future(waiter) {
                Wait::Future { thing: self.thing(waiter, ThingKind::Future) }
            } else {
                Wait::Other { kind: waiter.type_name() }
            }
        })
    }

    /// By the functions of libraries that it stands in, from the innermost to the program's own.
    fn by_function(&self, chain: &[Link<'look>]) -> Option<Wait> {
        let mut found = None;
        for link in chain.iter().rev() {
            let Some(site) = link.site else { continue };
            if !self.stacks.is_framework(site) {
                break;
            }
            match self.stacks.role(site) {
                Some(Role::InThing(call)) => {
                    let is_it = |object| self.kinds.thing(object).is_some_and(|kind| call.starts_with(kind.word()));
                    let Some(object) = self.referent(link.object, is_it) else { continue };
                    let kind = self.kinds.thing(object)?;
                    found = Some(Wait::Thing { thing: self.thing(object, kind), call });
                    if matches!(kind, ThingKind::Lock | ThingKind::Semaphore) {
                        break;
                    }
                }
                Some(Role::Network(call)) => {
                    let reader = self.referent(link.object, |object| Kinds::is_a(object, self.kinds.reader));
                    found = Some(Wait::Network { call, peer: reader.and_then(|reader| self.peer(reader)) });
                }
                Some(Role::Subprocess) => {
                    let process = self.referent(link.object, |object| Kinds::is_a(object, self.kinds.process));
                    let process = process.and_then(|process| self.kinds.get(process, c"pid")).and_then(Seen::whole);
                    found = Some(Wait::Subprocess { process });
                }
                Some(Role::Sleeps) => {
                    let timer = self.referent(link.object, |object| self.kinds.is_timer(object));
                    return Some(Wait::Timer { left: timer.and_then(|timer| self.seconds_left(timer)) });
                }
                Some(Role::WaitsForSet) => {
                    let set = self.referent(link.object, Seen::is_set)?;
                    return Some(self.together(Together::Wait, self.kinds.referents(set)));
                }
                Some(Role::EndsGroup) => {
                    let group = self.referent(link.object, |object| Kinds::is_a(object, self.kinds.task_group))?;
                    let tasks = self.kinds.get(group, c"_tasks")?;
                    return Some(self.together(Together::TaskGroup, self.kinds.referents(tasks)));
                }
                Some(Role::WaitsWithLimit) if found.is_none() => {
                    let future = self.referent(link.object, |object| self.kinds.is_task(object));
                    found = future.map(|future| self.together(Together::WaitFor, vec![future]));
                }
                Some(Role::InLimiter) => {
                    let limiter = self.referent(link.object, |object| Kinds::is_a(object, self.kinds.limiter))?;
                    let taken = self.kinds.get(limiter, c"_borrowers").and_then(Seen::length).unwrap_or(0);
                    let places = self.kinds.get(limiter, c"_total_tokens").and_then(Seen::number);
                    return Some(Wait::Limiter { taken, places });
                }
                Some(Role::RunsInThread) => return Some(Wait::WorkerThread { thread: None }),
                _ => {}
            }
        }
        found
    }

    /// By what is called once the future is done: that of a shield, of a job of an executor.
    fn by_callback(&self, waiter: Seen<'look>) -> Option<Wait> {
        for callback in self.kinds.callbacks(waiter) {
            let Some(code) = callback.function_code() else { continue };
            let Some(name) = self.kinds.get(code, c"co_qualname").and_then(Seen::text) else { continue };
            match &*name {
                "shield.<locals>._outer_done_callback" => {
                    let inner = self.in_closure(callback, |object| self.kinds.is_future(object) && object != waiter);
                    return inner.map(|inner| self.together(Together::Shield, vec![inner]));
                }
                "_chain_future.<locals>._call_check_cancel" => {
                    let source = self.in_closure(callback, |object| Kinds::is_a(object, self.kinds.thread_future))?;
                    let thread = self.threads.jobs.get(&source.address()).copied();
                    let is_pending =
                        self.kinds.get(source, c"_state").and_then(Seen::text).is_some_and(|state| state == "PENDING");
                    let is_queued = is_pending && self.threads.pools.iter().any(|pool| pool.waiting > 0);
                    return Some(Wait::Job { thread, is_queued });
                }
                _ => {}
            }
        }
        None
    }

    fn in_closure(&self, function: Seen<'look>, is_it: impl Fn(Seen<'look>) -> bool) -> Option<Seen<'look>> {
        // A function refers to the tuple of its cells, and each to its value.
        let parts = self.kinds.referents(function);
        let cells = parts.iter().filter(|part| part.length().is_some()).flat_map(|part| self.kinds.referents(*part));
        cells.flat_map(|cell| self.kinds.referents(cell)).find(|object| is_it(*object))
    }

    fn referent(&self, of: Seen<'look>, is_it: impl Fn(Seen<'look>) -> bool) -> Option<Seen<'look>> {
        self.kinds.referents(of).into_iter().find(|object| is_it(*object))
    }

    fn together(&self, how: Together, futures: Vec<Seen<'look>>) -> Wait {
        let all = futures.len();
        let mut of = Vec::new();
        let mut others = 0;
        for future in futures {
            match self.tasks.get(&future.address()) {
                Some(&task) => of.push(task),
                None if self.kinds.state(future) == Some(State::Done) => {}
                None => others += 1,
            }
        }
        of.sort_unstable();
        Wait::Tasks { how, of, others, all }
    }

    /// The number of a thing.
    fn thing(&self, object: Seen<'look>, kind: ThingKind) -> usize {
        let mut things = self.things.borrow_mut();
        if let Some(&number) = things.by_address.get(&object.address()) {
            return number;
        }
        let whole = |name| self.kinds.get(object, name).and_then(Seen::whole);
        let is_taken = match kind {
            ThingKind::Lock => self.kinds.get(object, c"_locked").is_some_and(Seen::is_true),
            ThingKind::Semaphore => whole(c"_value") == Some(0),
            _ => false,
        };
        let places = whole(c"_bound_value").and_then(|places| usize::try_from(places).ok());
        let number = things.all.len();
        let count = things.counts.entry(kind).or_default();
        let thing = Thing { kind, number: *count, is_taken, places };
        *count += 1;
        things.all.push(thing);
        things.objects.push(object);
        things.by_address.insert(object.address(), number);
        number
    }

    /// What a task is inside of: locks that it has taken, deadlines, its own cancellation.
    pub fn inside(&self, chain: &[Link<'look>]) -> Inside {
        let mut inside = Inside::default();
        for (place, link) in chain.iter().enumerate() {
            let is_framework = link.site.is_none_or(|site| self.stacks.is_framework(site));
            // From the outermost `with` to the innermost, as they lie on the stack.
            let mut exits = Vec::new();
            for object in self.kinds.referents(link.object) {
                if let Some((of, function)) = object.bound() {
                    exits.extend(self.is_exit(function).then_some(Some(of)));
                } else if object.is_exception() {
                    inside.is_cleaning_up |= Kinds::is_a(object, self.kinds.cancelled);
                } else if is_framework && self.kinds.is_timer(object) {
                    inside.has_deadline = true;
                } else if object.is_function_of_c(&[c"__exit__", c"__aexit__"]) {
                    exits.push(None);
                }
            }
            let lines = match link.frame.filter(|_| !exits.is_empty()) {
                Some(frame) => self.stacks.with_lines(frame),
                None => Vec::new(),
            };
            for (number, of) in exits.into_iter().enumerate() {
                let line = lines.len().checked_sub(number + 1).map(|from_inside| lines[from_inside]);
                if let Some((of, site)) = of.zip(line.or(link.site)) {
                    self.note_scope(&mut inside, of, site, chain.get(place + 1), 0);
                }
            }
        }
        inside
    }

    /// A `with` that a function is inside of: its `__exit__` is kept on the stack until it ends.
    fn note_scope(&self, inside: &mut Inside, of: Seen<'look>, site: usize, next: Option<&Link<'look>>, depth: usize) {
        if Kinds::is_a(of, self.kinds.timeout) {
            inside.has_deadline |= self.kinds.get(of, c"_when").and_then(Seen::number).is_some();
        } else if Kinds::is_a(of, self.kinds.cancel_scope) {
            inside.has_deadline |= self.kinds.get(of, c"_deadline").and_then(Seen::number).is_some_and(f64::is_finite);
        } else if let Some(kind) = self.kinds.thing(of) {
            let enters = next.is_some_and(|next| {
                next.site.and_then(|site| self.stacks.role(site)) == Some(Role::Enters)
                    && self.kinds.referents(next.object).contains(&of)
            });
            // A condition is taken by its lock, and given back while it waits.
            let waits_in_it = kind == ThingKind::Condition
                && next.is_some_and(|next| {
                    matches!(next.site.and_then(|site| self.stacks.role(site)), Some(Role::InThing(_)))
                        && self.kinds.referents(next.object).contains(&of)
                });
            if !enters && !waits_in_it {
                let (held, kind) = match self.kinds.get(of, c"_lock") {
                    Some(lock) if kind == ThingKind::Condition => (lock, ThingKind::Lock),
                    _ => (of, kind),
                };
                inside.holds.push(Hold { thing: self.thing(held, kind), site });
            }
        } else if depth < DEEPEST_SCOPE {
            self.note_inner_scopes(inside, of, site, next, depth);
        }
    }

    /// What a context manager is made of: an `AsyncExitStack` keeps others, `asynccontextmanager` a generator.
    fn note_inner_scopes(
        &self,
        inside: &mut Inside,
        of: Seen<'look>,
        site: usize,
        next: Option<&Link<'look>>,
        depth: usize,
    ) {
        let mut inner = Vec::new();
        if let Some(callbacks) = self.kinds.get(of, c"_exit_callbacks") {
            callbacks.referents(&mut inner);
            inner = inner.into_iter().flat_map(|pair| self.kinds.referents(pair)).collect();
        } else if let Some(generator) = self.kinds.get(of, c"gen").filter(|object| object.awaitable().is_some()) {
            if generator.awaitable() != Some(Awaitable::Coroutine) {
                generator.referents(&mut inner);
            }
        } else {
            // One of the program's own with a timer in it: it has a deadline.
            inside.has_deadline |= self.kinds.referents(of).into_iter().any(|object| self.kinds.is_timer(object));
        }
        for object in inner {
            if let Some((of, _)) = object.bound().filter(|(_, function)| self.is_exit(*function)) {
                self.note_scope(inside, of, site, next, depth + 1);
            }
        }
    }

    fn is_exit(&self, function: Seen<'look>) -> bool {
        let Some(code) = function.function_code() else { return false };
        *self.is_exit.borrow_mut().entry(code.address()).or_insert_with(|| {
            let name = self.kinds.get(code, c"co_name").and_then(Seen::text);
            name.is_some_and(|name| name == "__aexit__" || name == "__exit__")
        })
    }

    /// How long until a timer ends; its loop's clock is the monotonic one, unless it is no loop of asyncio's.
    fn seconds_left(&self, timer: Seen<'look>) -> Option<f64> {
        let of_loop = self.kinds.get(timer, c"_loop")?;
        if !Kinds::is_a(of_loop, self.kinds.stock_loop) {
            return None;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let when = self.kinds.get(timer, c"_when")?.number()?;
        Some((when - now.tv_sec as f64 - now.tv_nsec as f64 / 1e9).max(0.0))
    }

    /// The other end of a stream, where its transport has noted it.
    fn peer(&self, reader: Seen<'look>) -> Option<String> {
        let extra = self.kinds.get(self.kinds.get(reader, c"_transport")?, c"_extra")?;
        let peer = extra.entry(c"peername")?;
        if let Some(path) = peer.text() {
            return Some(path).filter(|path| !path.is_empty());
        }
        let parts = peer.items();
        let (host, port) = (parts.first()?.text()?, parts.get(1)?.whole()?);
        Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }
}

/// Context managers inside of each other.
const DEEPEST_SCOPE: usize = 4;
