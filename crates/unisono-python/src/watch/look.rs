//! One look at all tasks of a program: tasks, what each waits for, threads, and what refers to what.

use std::collections::{HashMap, HashSet};

use unisono_watch::tasks::{Activity, Loop, NeverAwaited, PoolKind, Snapshot, Task, Wait, roles::Role};

use super::{
    kinds::{Kinds, State},
    objects::{self, Known},
    stacks::{Files, Link, Stacks},
    threads::Threads,
    waits::Waits,
};
use crate::ffi::looking::{Look, Seen};

/// What a look is told.
pub struct Asked<'look> {
    /// The innermost frame by thread: a `dict`.
    pub frames: Seen<'look>,
    /// The thread that asks.
    pub thread: i64,
    pub python: String,
    pub has_signal_handlers: bool,
}

/// All that is seen at this moment.
pub fn snapshot<'look>(look: &'look Look, asked: &Asked<'look>, files: &Files) -> Snapshot {
    let kinds = Kinds::new(look);
    let stacks = Stacks::new(&kinds, files);
    let threads = Threads::of(&kinds, &stacks, asked.frames, asked.thread);
    let (pending, failed) = all_tasks(&kinds);
    let numbers: HashMap<_, _> = pending.iter().enumerate().map(|(number, task)| (task.address(), number)).collect();
    let waits = Waits::new(&kinds, &stacks, &threads, &numbers);
    let running = running_tasks(&kinds);

    let mut snapshot = Snapshot {
        python: asked.python.clone(),
        process: std::process::id(),
        has_signal_handlers: asked.has_signal_handlers,
        ..Snapshot::default()
    };
    let mut loops: Vec<Seen<'look>> = Vec::new();
    let mut chains = Vec::new();
    for &task in &pending {
        let chain = kinds.of_future(task, c"_coro").map(|coroutine| stacks.chain(coroutine)).unwrap_or_default();
        let of_loop = number_of_loop(&kinds, &mut loops, task);
        snapshot.tasks.push(task_of(&kinds, &waits, task, &chain, of_loop, running.contains(&task.address())));
        chains.push(chain);
    }
    for (task, exception) in failed {
        let site = raised_at(&kinds, &stacks, exception);
        let wait = Wait::Failed { kind: exception.type_name(), site };
        let of_loop = number_of_loop(&kinds, &mut loops, task);
        let name = kinds.task_name(task);
        snapshot.tasks.push(Task { identity: task.address(), name, of_loop, wait, ..Task::default() });
    }
    snapshot.loops = loops.iter().map(|seen| loop_of(&kinds, &stacks, &threads, *seen)).collect();
    snapshot.never_awaited = never_awaited(&kinds, &stacks);
    snapshot.heap = heap(&kinds, &stacks, &pending, &chains, &loops, &threads, numbers.clone());
    snapshot.things = waits.into_things();
    (snapshot.threads, snapshot.pools) = (threads.all, threads.pools);
    note_limiters(&mut snapshot);
    snapshot.sites = stacks.into_sites();
    snapshot
}

/// Tasks that are not done, and of the others those that have failed and whose exception nothing has fetched.
fn all_tasks<'look>(kinds: &Kinds<'look>) -> (Vec<Seen<'look>>, Vec<(Seen<'look>, Seen<'look>)>) {
    let mut tasks = Vec::new();
    // Python 3.11 has one set of them, later versions keep those apart that began before they were scheduled.
    for name in [c"_all_tasks", c"_scheduled_tasks", c"_eager_tasks"] {
        let Some(set) = kinds.look.of_module(c"asyncio.tasks", name) else { continue };
        let weak = kinds.get(set, c"data");
        for entry in kinds.referents(weak.unwrap_or(set)) {
            tasks.extend(entry.referenced().or(Some(entry)).filter(|task| kinds.is_task(*task)));
        }
    }
    // Sets have no order; tasks are shown in the order of their names, where these have numbers.
    tasks.sort_by_cached_key(|task| {
        let name = kinds.task_name(*task).unwrap_or_default();
        let number = name.rsplit('-').next().and_then(|digits| digits.parse::<u64>().ok());
        (number.unwrap_or(u64::MAX), name, task.address())
    });
    tasks.dedup();
    let (pending, done): (Vec<_>, Vec<_>) =
        tasks.into_iter().partition(|task| kinds.state(*task) == Some(State::Pending));
    let failed = done.into_iter().filter_map(|task| {
        let is_unfetched = kinds.of_future(task, c"_log_traceback").is_some_and(Seen::is_true);
        let exception = kinds.of_future(task, c"_exception").filter(|_| is_unfetched)?;
        Some((task, exception))
    });
    let failed = failed.collect();
    (pending, failed)
}

/// Addresses of the tasks that run at this moment, one a loop.
fn running_tasks(kinds: &Kinds<'_>) -> HashSet<usize> {
    let current = kinds.look.of_module(c"asyncio.tasks", c"_current_tasks");
    current.map(Seen::entries).unwrap_or_default().into_iter().map(|(_, task)| task.address()).collect()
}

fn number_of_loop<'look>(kinds: &Kinds<'look>, loops: &mut Vec<Seen<'look>>, task: Seen<'look>) -> usize {
    let of_loop = kinds.of_future(task, c"_loop").unwrap_or(task);
    loops.iter().position(|seen| *seen == of_loop).unwrap_or_else(|| {
        loops.push(of_loop);
        loops.len() - 1
    })
}

fn task_of<'look>(
    kinds: &Kinds<'look>,
    waits: &Waits<'_, 'look>,
    task: Seen<'look>,
    chain: &[Link<'look>],
    of_loop: usize,
    is_running: bool,
) -> Task {
    let waiter = kinds.of_future(task, c"_fut_waiter");
    let inside = waits.inside(chain);
    Task {
        identity: task.address(),
        waiter: waiter.map_or(0, Seen::address),
        name: kinds.task_name(task),
        of_loop,
        stack: chain.iter().filter_map(|link| link.site).collect(),
        wait: match waiter {
            _ if is_running => Wait::Running,
            None => Wait::Ready,
            Some(waiter) => waits.wait(chain, waiter),
        },
        is_woken: waiter.is_some_and(|waiter| kinds.state(waiter) == Some(State::Done)),
        holds: inside.holds,
        has_deadline: inside.has_deadline,
        cancels: kinds.cancels(task),
        is_cleaning_up: inside.is_cleaning_up,
    }
}

/// The line that raised an exception: the last one of the program's own.
fn raised_at<'look>(kinds: &Kinds<'look>, stacks: &Stacks<'_, 'look>, exception: Seen<'look>) -> Option<usize> {
    let mut traceback = kinds.get(exception, c"__traceback__");
    let (mut own, mut last) = (None, None);
    while let Some(step) = traceback {
        let line = kinds.get(step, c"tb_lineno").and_then(Seen::whole).and_then(|line| u32::try_from(line).ok());
        let code = kinds.get(step, c"tb_frame").and_then(|frame| kinds.look.code(frame));
        last = code.zip(line).and_then(|(code, line)| stacks.of_code(code, line));
        own = last.filter(|site| !stacks.is_framework(*site)).or(own);
        traceback = kinds.get(step, c"tb_next");
    }
    own.or(last)
}

fn loop_of<'look>(kinds: &Kinds<'look>, stacks: &Stacks<'_, 'look>, threads: &Threads, seen: Seen<'look>) -> Loop {
    let is_stock = Kinds::is_a(seen, kinds.stock_loop);
    let by_number = kinds.get(seen, c"_thread_id").and_then(Seen::whole).and_then(|ident| threads.by_ident.get(&ident));
    let thread = by_number.or_else(|| threads.loops.get(&seen.address())).copied();
    let stack = thread.map(|thread| &*threads.all[thread].stack).unwrap_or_default();
    let innermost = stack.last().and_then(|&site| stacks.role(site));
    Loop {
        kind: seen.type_name(),
        thread,
        activity: if is_stock { activity(kinds, seen) } else { Activity::NotVisible },
        // By the kernel as well: a loop that has been woken is in that function until it is given the lock and a core.
        // One that is written in C shows the function that runs it as the innermost, also while it calls C.
        is_parked: innermost == Some(if is_stock { Role::Parks } else { Role::RunsLoop })
            && thread.is_some_and(|thread| threads.waits_for_descriptors(thread)),
        is_ending: stack.iter().any(|&site| stacks.role(site) == Some(Role::CancelsAll)),
    }
}

/// What a loop of asyncio's own has to do.
fn activity<'look>(kinds: &Kinds<'look>, seen: Seen<'look>) -> Activity {
    let known = || {
        let timers = kinds.referents(kinds.get(seen, c"_scheduled")?);
        let is_on = |timer: &Seen<'look>| !kinds.get(*timer, c"_cancelled").is_some_and(Seen::is_true);
        let keys = kinds.get(kinds.get(seen, c"_selector")?, c"_fd_to_key")?;
        let descriptors = keys.entries().into_iter().filter(|(_, key)| !is_for_watching(kinds, *key)).count();
        Some(Activity::Known {
            ready: kinds.referents(kinds.get(seen, c"_ready")?).into_iter().filter(is_on).count(),
            timers: timers.into_iter().filter(is_on).count(),
            // One is the loop's own, by which other threads wake it.
            descriptors: descriptors.saturating_sub(1),
            signals: kinds.get(seen, c"_signal_handlers").and_then(Seen::length).unwrap_or(0),
        })
    };
    known().unwrap_or(Activity::NotVisible)
}

/// Whether a loop watches a descriptor only because `unisono.watch()` asks it for a sign of life.
fn is_for_watching<'look>(kinds: &Kinds<'look>, key: Seen<'look>) -> bool {
    let callback = || {
        let readers = key.items().get(DATA_OF_KEY)?.items();
        kinds.get(*readers.first()?, c"_callback")
    };
    callback().is_some_and(|callback| Kinds::is_a(callback, kinds.ping))
}

/// Coroutines that were dropped before they began: the interpreter warns of each, and the modules in which it did keep
/// the lines, so that nothing needs to be counted before somebody asks.
fn never_awaited<'look>(kinds: &Kinds<'look>, stacks: &Stacks<'_, 'look>) -> Vec<NeverAwaited> {
    let mut found = Vec::new();
    let modules = kinds.look.modules().map(Seen::entries).unwrap_or_default();
    for (_, module) in modules {
        let Some(names) = module.module_dict() else { continue };
        let Some(registry) = names.entry(c"__warningregistry__") else { continue };
        for (key, _) in registry.entries() {
            let parts = key.items();
            let [text, _, line, ..] = parts[..] else { continue };
            let (Some(text), Some(line)) = (text.text(), line.whole()) else { continue };
            let Some(function) =
                text.strip_prefix("coroutine '").and_then(|text| text.strip_suffix("' was never awaited"))
            else {
                continue;
            };
            let file = names.entry(c"__file__").and_then(Seen::text).unwrap_or_else(|| "<string>".into());
            let module = names.entry(c"__name__").and_then(Seen::text).unwrap_or_default();
            let site = stacks.of_line(&file, u32::try_from(line).unwrap_or(0), module);
            found.push(NeverAwaited { function: function.to_owned(), site });
        }
    }
    found
}

fn heap<'look>(
    kinds: &Kinds<'look>,
    stacks: &Stacks<'_, 'look>,
    pending: &[Seen<'look>],
    chains: &[Vec<Link<'look>>],
    loops: &[Seen<'look>],
    threads: &Threads<'look>,
    tasks: HashMap<usize, usize>,
) -> unisono_watch::tasks::heap::Heap {
    let mut known = Known { tasks, ..Known::default() };
    known.outside.extend(loops.iter().map(|seen| seen.address()));
    for (_, module) in kinds.look.modules().map(Seen::entries).unwrap_or_default() {
        known.outside.extend(module.module_dict().map(Seen::address));
    }
    let mut starts = pending.to_vec();
    for link in chains.iter().flatten() {
        known.parts.insert(link.object.address());
        let Some(frame) = link.frame else { continue };
        known.parts.insert(frame.address());
        if link.site.is_some_and(|site| stacks.is_framework(site)) {
            continue;
        }
        if let Some(globals) = kinds.look.globals(frame).filter(|globals| known.globals.insert(globals.address())) {
            known.outside.remove(&globals.address());
            starts.push(globals);
        }
    }
    known.parts.extend(threads.begun.iter().copied());
    // Timers, watched descriptors, handlers of signals, jobs: what a loop refers to may act, and so may cancel tasks.
    let acting: Vec<_> = loops.iter().flat_map(|seen| kinds.referents(*seen)).collect();
    objects::heap(kinds, &known, &starts, &acting, &threads.behind_loops)
}

/// What waits for anyio's threads is known by the tasks that wait.
fn note_limiters(snapshot: &mut Snapshot) {
    let waiting = snapshot.tasks.iter().filter(|task| matches!(task.wait, Wait::Limiter { .. })).count();
    let places = snapshot.tasks.iter().find_map(|task| match task.wait {
        Wait::Limiter { places, .. } => places,
        _ => None,
    });
    for pool in snapshot.pools.iter_mut().filter(|pool| pool.kind == PoolKind::Anyio) {
        pool.waiting = waiting;
        pool.most = places.map(|places| places as usize);
    }
}

/// What a loop notes with a descriptor, in `selectors.SelectorKey`.
const DATA_OF_KEY: usize = 3;
