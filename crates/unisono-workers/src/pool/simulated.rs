//! A pool whose workers are played by a test, in this process: it says when a worker begins, publishes or dies.
//!
//! So a test puts a pool before any history, also before one that real processes come to once in a million runs. The
//! workers are whole but for their process: a kill hits one that has ended already, and the test dies for it.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::MutexGuard,
    time::Duration,
};

use proptest::prelude::*;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{state::Driver, *};
use unisono_sys::shared::Shared;

use crate::{
    blob::Received,
    inside::{Given, Inside, kind},
    task::Death,
    worker::{Leaving, Worker},
};

/// A pool that starts no workers of its own, and everything that was submitted to it.
struct SimulatedPool {
    pool: Pool,
    /// The process of every worker.
    ended: OwnedFd,
    workers: BTreeMap<usize, FakeWorker>,
    tasks: Vec<Arc<Task>>,
    /// How often each has begun.
    runs: Vec<u32>,
}

struct FakeWorker {
    inside: Inside,
    /// The same as the worker's, for what a sane one does not say.
    socket: OwnedFd,
    /// Into which the zygote writes how a worker ended.
    status: OwnedFd,
    under_way: Option<Given>,
}

impl SimulatedPool {
    fn new(workers: usize, tasks_per_worker: Option<u64>) -> Self {
        let nothing = || memfd_create("unisono-test", MemfdFlags::CLOEXEC).unwrap();
        let options = PoolOptions { workers: 0, method: 0, tasks_per_worker, pending: None, per_key: 1 };
        let given = PoolDescriptors { settings: nothing(), output: nothing(), inherited: Vec::new() };
        let pool = Pool::new(options, Arc::new(Zygote::new(Vec::new())), given).unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let number = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let ended = pidfd_open(number, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        let mut simulated = Self { pool, ended, workers: BTreeMap::new(), tasks: Vec::new(), runs: Vec::new() };
        simulated.pool.keep_news(Some(Importance::Usual));
        // As after many short tasks; before the first it is not known that they are, and nothing lies ahead.
        simulated.core().mean_ns = 1;
        (0..workers).for_each(|_| simulated.enter());
        simulated
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        held(&self.pool.core)
    }

    /// Another worker, which is ready.
    fn enter(&mut self) {
        let number = self.enter_starting();
        self.workers.get_mut(&number).unwrap().inside.ready().unwrap();
    }

    /// Another worker, which is being initialized; its number.
    fn enter_starting(&mut self) -> usize {
        let (worker, spawn) = Worker::new().unwrap();
        let memory = rustix::io::dup(&worker.exchange).unwrap();
        let number = Pool::employ(&mut self.core(), worker).unwrap();
        let socket = rustix::io::dup(&spawn.socket).unwrap();
        let inside = Inside::of(self.ended.as_fd(), spawn.socket.publish(), memory).unwrap();
        assert!(self.core().workers.get_mut(&number).unwrap().read_socket().unwrap(), "it said hello");
        self.workers.insert(number, FakeWorker { inside, socket, status: spawn.status.publish(), under_way: None });
        number
    }

    fn submit(&mut self, terms: Terms) -> Arc<Task> {
        let function = Arc::new(Function { number: 0, name: "play".into(), definition: Blob::Inline(Vec::new()) });
        let arguments = Blob::Inline(self.tasks.len().to_le_bytes().to_vec());
        let task = self.pool.submit(function, arguments, terms, false).unwrap();
        self.tasks.push(task.clone());
        self.runs.push(0);
        task
    }

    /// A worker begins its next task, if there is one and it is through with the last. Whether it has one now.
    fn begin(&mut self, number: usize) -> bool {
        let worker = self.workers.get_mut(&number).unwrap();
        if worker.under_way.is_some() {
            return true;
        }
        worker.under_way = worker.inside.take().unwrap();
        let Some(given) = &worker.under_way else { return false };
        let Ok(Received::Inline(bytes)) = &given.arguments else { panic!("short ones are inline") };
        let task = usize::from_le_bytes(bytes.as_slice().try_into().unwrap());
        assert!(!self.tasks[task].has_ended(), "what has ended does not begin");
        self.runs[task] += 1;
        true
    }

    /// A worker publishes what its task returned, or raised.
    fn publish(&mut self, number: usize, kind: u32) {
        let worker = self.workers.get_mut(&number).unwrap();
        if let Some(given) = worker.under_way.take() {
            worker.inside.publish(kind, &given, 2, &[b"ok"]).unwrap();
        }
    }

    /// A worker is gone, as its starter says.
    fn die(&mut self, number: usize, status: i32) {
        let worker = self.workers.remove(&number).unwrap();
        drop(worker.inside);
        assert_eq!(rustix::io::write(&worker.status, &status.to_le_bytes()), Ok(4));
        let mut core = self.core();
        let death = core.workers[&number].death().expect("it was written a line ago");
        self.pool.reap(&mut core, number, death);
    }

    /// Those that were killed die, those that were let go do what lies before them and end, and others come for them.
    fn replace(&mut self) {
        let leaves = |worker: &Worker| worker.is_leaving().then_some(worker.is_doomed());
        let leaving: Vec<(usize, bool)> = self
            .core()
            .workers
            .iter()
            .filter_map(|(number, worker)| leaves(worker).map(|is_doomed| (*number, is_doomed)))
            .collect();
        for (number, is_doomed) in leaving {
            while !is_doomed && self.begin(number) {
                self.publish(number, kind::RETURNED);
            }
            self.die(number, if is_doomed { 9 } else { 0 });
            self.enter();
        }
    }

    fn pump(&self) {
        self.pool.pump(&mut self.core());
    }
}

const PATIENT: Terms = Terms { timeout: None, retries: 0, key: None };
const HASTY: Terms = Terms { timeout: Some(Duration::from_nanos(1)), retries: 0, key: None };

/// Two tasks that lie before one worker, which has begun the first.
fn one_begun_and_one_behind(first: Terms) -> (SimulatedPool, Arc<Task>, Arc<Task>) {
    let mut simulated = SimulatedPool::new(1, None);
    let tasks = (simulated.submit(first), simulated.submit(PATIENT));
    assert!(simulated.begin(1));
    assert_eq!(simulated.core().workers[&1].busy, 2);
    (simulated, tasks.0, tasks.1)
}

#[test]
fn a_deadline_that_passes_when_the_worker_is_at_the_next_task_already_kills_nobody() {
    let (mut simulated, first, second) = one_begun_and_one_behind(HASTY);
    // What `pump` does, but the worker goes on between its first and its second step.
    simulated.pool.read(&mut simulated.core());
    simulated.publish(1, kind::RETURNED);
    assert!(simulated.begin(1));
    simulated.pool.expire(&mut simulated.core());
    assert!(!simulated.core().workers[&1].is_doomed());
    assert!(matches!(first.take_outcome(), Some(TaskOutcome::Returned(_))));
    assert_eq!(simulated.pool.state(&second), State::Running);
}

#[test]
fn a_task_past_its_time_is_killed_alone_and_what_was_read_ahead_runs_elsewhere() {
    let (mut simulated, first, second) = one_begun_and_one_behind(HASTY);
    simulated.pump();
    assert!(matches!(first.take_outcome(), Some(TaskOutcome::TimedOut(_))) && simulated.core().workers[&1].is_doomed());
    assert_eq!(simulated.pool.state(&second), State::Waiting);
    simulated.replace();
    simulated.pump();
    assert!(simulated.begin(2));
    simulated.publish(2, kind::RETURNED);
    simulated.pump();
    assert!(matches!(second.take_outcome(), Some(TaskOutcome::Returned(_))));
}

#[test]
fn a_task_past_its_time_is_tried_again_as_often_as_its_terms_say() {
    let mut simulated = SimulatedPool::new(1, None);
    let task = simulated.submit(Terms { retries: 2, ..HASTY });
    for worker in 1..=3 {
        assert!(!task.has_ended() && simulated.begin(worker));
        simulated.pump();
        simulated.replace();
        simulated.pump();
    }
    assert!(matches!(task.take_outcome(), Some(TaskOutcome::TimedOut(_))));
    assert_eq!(simulated.runs, [3]);
}

#[test]
fn a_timeout_is_counted_from_when_its_task_begins() {
    let mut simulated = SimulatedPool::new(1, None);
    let tasks = (simulated.submit(PATIENT), simulated.submit(HASTY));
    assert!(simulated.begin(1));
    simulated.pump();
    assert_eq!(simulated.pool.state(&tasks.1), State::Waiting, "its time has not begun");
    assert!(!simulated.core().workers[&1].is_doomed());
}

#[test]
fn cancelling_what_has_just_ended_kills_nobody() {
    let (mut simulated, first, second) = one_begun_and_one_behind(PATIENT);
    let place = held(&first.inner).place.unwrap();
    simulated.publish(1, kind::RETURNED);
    assert!(simulated.begin(1));
    assert!(!simulated.pool.is_under_way(&mut simulated.core(), place.0, place.1));
    assert!(!simulated.pool.cancel(&first, true) && !simulated.core().workers[&1].is_doomed());
    assert_eq!(simulated.pool.state(&second), State::Running);
    assert!(simulated.pool.cancel(&second, true) && simulated.core().workers[&1].is_doomed());
}

#[test]
fn a_death_ends_what_was_under_way_and_no_other_task() {
    let (mut simulated, first, second) = one_begun_and_one_behind(PATIENT);
    simulated.die(1, 3 << 8);
    assert!(matches!(first.take_outcome(), Some(TaskOutcome::Died { death: Death::Exit(3), deaths: 1, .. })));
    assert_eq!(simulated.pool.state(&second), State::Waiting);
    simulated.enter();
    simulated.pump();
    assert!(simulated.begin(2));
}

#[test]
fn a_result_that_was_published_before_a_death_counts() {
    let (mut simulated, first, second) = one_begun_and_one_behind(PATIENT);
    simulated.publish(1, kind::RETURNED);
    simulated.die(1, 9);
    assert!(matches!(first.take_outcome(), Some(TaskOutcome::Returned(_))));
    assert!(!second.has_ended(), "it never began");
}

#[test]
fn a_worker_whose_memory_cannot_be_received_is_let_go_and_one_that_talks_nonsense_is_killed() {
    // Without its descriptor, as when this process has too many open.
    for (said, is_killed) in [([b'm'; 9].as_slice(), false), (b"nonsense", true)] {
        let mut simulated = SimulatedPool::new(1, None);
        let task = simulated.submit(PATIENT);
        assert!(simulated.begin(1));
        rustix::io::write(&simulated.workers[&1].socket, said).unwrap();
        simulated.pool.heed(&mut simulated.core(), 1 << 2 | system::SOCKET);
        assert!(simulated.core().workers[&1].is_leaving());
        assert_eq!(simulated.core().workers[&1].is_doomed(), is_killed);
        if !is_killed {
            simulated.publish(1, kind::RETURNED);
            assert!(!simulated.workers.get_mut(&1).unwrap().inside.sleep().unwrap(), "it is to go");
            simulated.pump();
            assert!(matches!(task.take_outcome(), Some(TaskOutcome::Returned(_))));
        }
    }
}

#[test]
fn a_driver_that_sleeps_learns_that_a_result_may_come_unannounced() {
    // It was woken so long ago that everything is announced again, and just now, or later than any clock shows.
    for (woken, has_to_learn) in [(0, false), (u64::MAX, true)] {
        let mut simulated = SimulatedPool::new(1, None);
        simulated.submit(PATIENT);
        (simulated.core().driver, simulated.core().woken_ns) = (Driver::Asleep { until_ns: u64::MAX }, woken);
        let is_notified = |simulated: &SimulatedPool| simulated.core().system.as_ref().unwrap().clear();
        assert!(!is_notified(&simulated));
        simulated.submit(PATIENT);
        assert_eq!(is_notified(&simulated), has_to_learn);
        simulated.submit(PATIENT);
        assert!(!is_notified(&simulated), "once is enough");
    }
}

#[test]
fn a_pool_that_is_over_has_nothing_of_the_system_however_it_came_to_that() {
    let closed: fn(&mut SimulatedPool) = |simulated| simulated.pool.close(false, false);
    let broken: fn(&mut SimulatedPool) = |simulated| simulated.pool.break_off("no reason");
    for ends in [closed, broken] {
        let mut simulated = SimulatedPool::new(1, None);
        let task = simulated.submit(PATIENT);
        simulated.begin(1);
        ends(&mut simulated);
        assert!(!task.has_ended() && simulated.core().system.is_some(), "a task still runs");
        simulated.publish(1, kind::RETURNED);
        simulated.pump();
        assert!(task.has_ended() && simulated.core().system.is_some(), "a worker is still there");
        simulated.die(1, 0);
        simulated.pump();
        // What it was doing is still known to its future.
        assert!(simulated.core().system.is_none() && matches!(task.take_outcome(), Some(TaskOutcome::Returned(_))));
        assert!(simulated.pool.wait(Awaited::Over, None));
        // That it is broken is told first.
        simulated.pool.news();
        assert!(simulated.pool.serve().is_none());
    }
}

/// A pool for whose task a worker is starting that may never get so far.
fn one_starting(terms: Terms) -> (SimulatedPool, usize, Arc<Task>) {
    let mut simulated = SimulatedPool::new(0, None);
    let starting = simulated.enter_starting();
    let task = simulated.submit(terms);
    assert_eq!(simulated.core().workers[&starting].busy, 1);
    (simulated, starting, task)
}

#[test]
fn starts_that_fail_in_a_row_break_a_pool_without_workers_and_are_said_once_by_one_with_some() {
    let mut simulated = SimulatedPool::new(0, None);
    let task = simulated.submit(PATIENT);
    for failures in 1..=3 {
        assert!(!task.has_ended());
        let starting = simulated.enter_starting();
        simulated.pump();
        simulated.die(starting, failures);
    }
    let said =
        "3 starts of workers in a row have failed; the last: a worker was killed by signal 3 before its first task";
    assert!(matches!(task.take_outcome(), Some(TaskOutcome::Refused(why)) if why == said));
    assert_eq!(simulated.pool.refuses(), Some(Some(said.to_owned())));

    let mut simulated = SimulatedPool::new(1, None);
    let task = simulated.submit(PATIENT);
    assert!(simulated.begin(1));
    for failures in 1..6 {
        let starting = simulated.enter_starting();
        simulated.die(starting, 11);
        assert_eq!(simulated.pool.news().len(), usize::from(failures == 1));
    }
    simulated.publish(1, kind::RETURNED);
    simulated.pump();
    assert!(matches!(task.take_outcome(), Some(TaskOutcome::Returned(_))) && simulated.pool.refuses().is_none());
}

/// What was told since the last look, without the number of this process, which plays all workers.
fn told(simulated: &SimulatedPool) -> Vec<String> {
    let own = format!("worker {}", std::process::id());
    simulated.pool.news().into_iter().map(|news| news.text.replace(&own, "worker")).collect()
}

#[test]
fn a_death_is_told_with_what_becomes_of_its_task_and_once() {
    let mut simulated = SimulatedPool::new(1, None);
    simulated.submit(Terms { retries: 1, ..PATIENT });
    for (number, said) in [
        (1, "worker was killed by SIGSEGV while it ran task 1 (play), which is tried again: attempt 2 of 2"),
        (2, "worker was killed by SIGSEGV while it ran task 1 (play), which fails"),
    ] {
        assert!(simulated.begin(number));
        simulated.die(number, 11);
        assert_eq!(told(&simulated), [said]);
        simulated.enter();
        simulated.pump();
    }
    simulated.submit(PATIENT);
    assert!(simulated.begin(3));
    simulated.publish(3, kind::RETURNED);
    simulated.pump();
    simulated.die(3, 3 << 8);
    assert_eq!(
        told(&simulated),
        ["worker exited with code 3 while it ran no task; another one starts when it is needed"]
    );
}

#[test]
fn a_task_that_has_killed_three_workers_is_told_to_fail_for_that() {
    let mut simulated = SimulatedPool::new(1, None);
    simulated.submit(Terms { retries: 9, ..PATIENT });
    for number in 1..=3 {
        assert!(simulated.begin(number));
        simulated.die(number, 9);
        simulated.enter();
        simulated.pump();
    }
    let said = simulated.pool.news().pop().unwrap();
    assert!(said.text.ends_with("task 1 (play), which fails, since it has killed 3 workers"), "{}", said.text);
    let task = TaskNews { number: 1, name: "play".into(), key: None, attempt: 3 };
    assert_eq!((said.task, said.death), (Some(task), Some(Death::Signal(9))));
}

#[test]
fn a_task_past_its_time_is_told_and_the_death_that_it_was_given_is_not() {
    let (mut simulated, ..) = one_begun_and_one_behind(HASTY);
    simulated.pump();
    simulated.replace();
    let said = "task 1 (play) has run for longer than 0.000000001 s, for which worker is killed; the task fails";
    assert_eq!(told(&simulated), [said]);
}

#[test]
fn what_was_asked_for_is_no_news() {
    let (mut simulated, first, _) = one_begun_and_one_behind(PATIENT);
    assert!(simulated.pool.cancel(&first, true));
    simulated.replace();
    simulated.pool.close(true, true);
    simulated.replace();
    assert_eq!(told(&simulated), [""; 0]);
}

#[test]
fn a_worker_that_is_replaced_is_told_where_such_news_are_kept_and_nothing_is_where_none_are() {
    for (least, said) in [
        (Some(Importance::Usual), &["worker has had its 2 tasks, and ends"][..]),
        (Some(Importance::Warning), &[]),
        (None, &[]),
    ] {
        let mut simulated = SimulatedPool::new(1, Some(2));
        simulated.pool.keep_news(least);
        for _ in 0..2 {
            simulated.submit(PATIENT);
            assert!(simulated.begin(1));
            simulated.publish(1, kind::RETURNED);
            simulated.pump();
        }
        assert_eq!(told(&simulated), said);
    }
    let (mut simulated, ..) = one_begun_and_one_behind(PATIENT);
    simulated.pool.keep_news(None);
    simulated.die(1, 11);
    assert_eq!(told(&simulated), [""; 0]);
}

#[test]
fn a_reader_that_takes_no_news_finds_the_latest() {
    let simulated = SimulatedPool::new(0, None);
    for number in 0..1002 {
        simulated.pool.tell_start(&mut simulated.core(), number.to_string());
    }
    let kept = told(&simulated);
    assert_eq!((kept.len(), kept[0].as_str()), (1000, "2"));
}

#[test]
fn how_a_worker_ended_that_nothing_was_under_way_at_is_known() {
    let mut simulated = SimulatedPool::new(0, None);
    simulated.enter();
    simulated.submit(PATIENT);
    assert!(simulated.begin(1));
    simulated.publish(1, kind::RETURNED);
    simulated.pump();
    assert_eq!(simulated.pool.loss(), None);
    simulated.die(1, 9);
    assert_eq!(simulated.pool.loss().map(|loss| loss.death), Some(Death::Signal(9)));
}

#[test]
fn a_worker_that_dies_at_its_first_task_has_started() {
    let mut simulated = SimulatedPool::new(0, None);
    for _ in 0..5 {
        simulated.enter();
        let task = simulated.submit(PATIENT);
        let number = *simulated.workers.keys().next().unwrap();
        assert!(simulated.begin(number));
        simulated.die(number, 9);
        assert!(matches!(task.take_outcome(), Some(TaskOutcome::Died { .. })));
    }
    assert!(simulated.pool.refuses().is_none());
}

#[test]
fn a_task_waits_no_longer_than_its_time_for_a_worker_that_is_starting_and_the_worker_is_left_alone() {
    let (mut simulated, starting, task) = one_starting(HASTY);
    let behind = simulated.submit(PATIENT);
    simulated.pump();
    assert!(matches!(task.take_outcome(), Some(TaskOutcome::NotBegun(_))));
    assert!(!behind.has_ended() && !simulated.core().workers[&starting].is_doomed());
    simulated.workers.get_mut(&starting).unwrap().inside.ready().unwrap();
    simulated.pump();
    assert!(simulated.begin(starting));
    assert_eq!(simulated.runs, [0, 1]);
}

#[test]
fn a_worker_that_is_ready_takes_the_only_task_of_one_that_is_starting() {
    let (mut simulated, _, task) = one_starting(PATIENT);
    simulated.enter();
    simulated.pump();
    simulated.pump();
    assert!(simulated.begin(2) && !task.has_ended());
}

#[test]
fn a_pool_that_is_terminated_does_not_wait_for_a_worker_that_is_not_made_yet() {
    let mut simulated = SimulatedPool::new(0, None);
    let (worker, spawn) = Worker::new().unwrap();
    Pool::employ(&mut simulated.core(), worker).unwrap();
    let task = simulated.submit(PATIENT);
    simulated.pool.close(true, true);
    assert!(task.is_cancelled());
    assert_eq!(simulated.pool.counts(), (0, 0));
    drop(spawn);
}

#[test]
fn a_worker_that_is_still_starting_when_there_is_nothing_more_for_it_to_do_is_killed_after_a_while() {
    let (simulated, starting, task) = one_starting(HASTY);
    simulated.pump();
    assert!(task.has_ended());
    simulated.pool.close(false, false);
    assert!(!simulated.core().workers[&starting].is_doomed());
    simulated.core().workers.get_mut(&starting).unwrap().leaving = Leaving::Dismissed { since_ns: 0 };
    simulated.core().looked_ns = 0;
    simulated.pump();
    assert!(simulated.core().workers[&starting].is_doomed());
}

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Submit { retries: u32, is_hasty: bool },
    Begin(usize),
    Return(usize),
    Raise(usize),
    Die(usize),
    Cancel { task: usize, running: bool },
    Look,
    Close { cancel: bool, kill: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u32, prop::bool::weighted(0.1)).prop_map(|(retries, is_hasty)| Step::Submit { retries, is_hasty }),
        6 => any::<usize>().prop_map(Step::Begin),
        6 => any::<usize>().prop_map(Step::Return),
        2 => any::<usize>().prop_map(Step::Raise),
        2 => any::<usize>().prop_map(Step::Die),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(task, running)| Step::Cancel { task, running }),
        6 => Just(Step::Look),
    ];
    let close =
        prop::option::of((any::<bool>(), any::<bool>()).prop_map(|(cancel, kill)| Step::Close { cancel, kill }));
    (prop::collection::vec(step, 0..60), close).prop_map(|(mut steps, close)| {
        steps.extend(close);
        steps
    })
}

impl SimulatedPool {
    fn step(&mut self, step: &Step) {
        let worker = |at: usize| *self.workers.keys().nth(at % self.workers.len()).expect("there are always some");
        match *step {
            Step::Submit { retries, is_hasty } => {
                let task = self.submit(Terms { retries, ..if is_hasty { HASTY } else { PATIENT } });
                assert!(!task.has_ended());
            }
            Step::Begin(at) => {
                self.begin(worker(at));
            }
            Step::Return(at) => self.publish(worker(at), kind::RETURNED),
            Step::Raise(at) => self.publish(worker(at), kind::RAISED),
            Step::Die(at) => {
                // Of starts that fail one after the other, the pool breaks; here others succeed meanwhile.
                self.core().starts.succeeded(usize::MAX);
                self.die(worker(at), 9);
                self.enter();
            }
            Step::Cancel { task, running } => {
                if let Some(task) = task.checked_rem(self.tasks.len()).map(|at| self.tasks[at].clone()) {
                    let is_cancelled = self.pool.cancel(&task, running);
                    assert_eq!(is_cancelled, task.is_cancelled());
                    let is_under_way = self.pool.state(&task) == State::Running;
                    assert!(task.has_ended() || is_under_way && !running, "only what runs and may run is left");
                }
            }
            Step::Look => self.pump(),
            Step::Close { cancel, kill } => self.pool.close(cancel, kill),
        }
        self.replace();
    }
}

proptest! {
    #[test]
    fn whatever_happens_each_task_ends_once_and_runs_no_more_often_than_its_terms_allow(
        steps in steps(),
        workers in 1..4usize,
        tasks_per_worker in prop::option::of(1..5u64),
        are_short in any::<bool>(),
    ) {
        let mut simulated = SimulatedPool::new(workers, tasks_per_worker);
        simulated.core().mean_ns = u64::from(are_short);
        steps.iter().for_each(|step| simulated.step(step));
        // And then everything that is left is done.
        while simulated.pool.counts().1 > 0 {
            for number in simulated.workers.keys().copied().collect::<Vec<_>>() {
                simulated.begin(number);
                simulated.publish(number, kind::RETURNED);
            }
            simulated.step(&Step::Look);
        }
        for (task, runs) in simulated.tasks.iter().zip(&simulated.runs) {
            prop_assert!(task.has_ended() && *runs <= 1 + task.terms.retries);
            let outcome = task.take_outcome().expect("an outcome that was not taken before");
            prop_assert!(task.take_outcome().is_none());
            prop_assert!(*runs > 0 || matches!(outcome, TaskOutcome::Cancelled), "{outcome:?}");
        }
    }
}

/// A pool with two workers: the first goes mad, by having its memory written over, and is otherwise what it was.
struct Asylum {
    simulated: SimulatedPool,
    memory: Shared,
    is_gone: bool,
    /// How many tasks the mad one has begun.
    begun: usize,
}

/// What is written over the memory of a worker: from where, and what.
type Scribble = (usize, Vec<u8>);

impl Asylum {
    fn new() -> Self {
        let mut simulated = SimulatedPool::new(1, None);
        let memory = Shared::open(rustix::io::dup(&simulated.core().workers[&1].exchange).unwrap()).unwrap();
        simulated.enter();
        Self { simulated, memory, is_gone: false, begun: 0 }
    }

    fn scribble(&self, (at, bytes): &Scribble) {
        let at = at % self.memory.size();
        self.memory.write(at, &bytes[..bytes.len().min(self.memory.size() - at)]);
    }

    /// The mad one goes on as far as it can: it begins its next task.
    fn begin(&mut self) {
        let Some(worker) = self.simulated.workers.get_mut(&1).filter(|worker| worker.under_way.is_none()) else {
            return;
        };
        match worker.inside.take() {
            Ok(given) => {
                self.begun += usize::from(given.is_some());
                worker.under_way = given;
            }
            Err(_) => self.leave(70 << 8),
        }
    }

    /// Or publishes what it is at.
    fn publish(&mut self) {
        let Some(worker) = self.simulated.workers.get_mut(&1) else { return };
        // In a full ring it would wait here, until it is killed.
        if worker.inside.exchange.unread().is_ok_and(|unread| unread > 1 << 19) {
            return;
        }
        let Some(given) = worker.under_way.take() else { return };
        if worker.inside.publish(kind::RETURNED, &given, 2, &[b"ok"]).is_err() {
            self.leave(70 << 8);
        }
    }

    /// It ends, by itself or since the pool kills it.
    fn leave(&mut self, status: i32) {
        if !std::mem::replace(&mut self.is_gone, true) {
            self.simulated.core().starts.succeeded(usize::MAX);
            self.simulated.die(1, status);
            self.simulated.enter();
        }
    }

    /// Each worker does what there is to do, and the pool looks after all.
    fn turn(&mut self) {
        for number in self.simulated.workers.keys().copied().filter(|number| *number != 1).collect::<Vec<_>>() {
            self.simulated.begin(number);
            self.simulated.publish(number, kind::RETURNED);
        }
        self.begin();
        self.publish();
        self.look();
    }

    fn look(&mut self) {
        self.simulated.core().looked_ns = 0;
        self.simulated.pump();
        if self.simulated.core().workers.get(&1).is_some_and(|worker| worker.is_doomed()) {
            self.leave(9);
        }
    }

    /// All tasks end, and the pool can be closed; what the other worker has begun has returned.
    fn comes_to_its_end(mut self) {
        for _ in 0..100 {
            if self.simulated.pool.counts().1 == 0 {
                break;
            }
            self.turn();
        }
        assert_eq!(self.simulated.pool.counts().1, 0, "all tasks have ended");
        let mut lost = 0;
        for (task, runs) in self.simulated.tasks.iter().zip(&self.simulated.runs) {
            assert!(*runs <= 1, "what a sane worker runs is run once");
            let outcome = task.take_outcome().unwrap();
            assert!(*runs == 0 || matches!(outcome, TaskOutcome::Returned(_)), "{outcome:?}");
            lost += usize::from(!matches!(outcome, TaskOutcome::Returned(_)));
        }
        assert!(lost <= self.begun, "{lost} tasks were lost, and {} had begun", self.begun);
        self.simulated.pool.close(false, false);
        self.look();
        // And the worker that has come for it.
        self.simulated.pump();
        assert!(self.simulated.core().workers.values().all(|worker| worker.is_leaving()));
    }
}

/// Tasks lie before both workers, and the first has begun one, ended it, or neither.
fn at_moment(moment: usize) -> Asylum {
    let mut asylum = Asylum::new();
    (0..6).for_each(|_| drop(asylum.simulated.submit(PATIENT)));
    match moment {
        0 => {}
        1 => asylum.begin(),
        2 => {
            asylum.begin();
            asylum.publish();
        }
        _ => {
            asylum.turn();
            asylum.begin();
        }
    }
    asylum
}

#[test]
fn whichever_word_a_worker_writes_over_and_whenever_all_other_tasks_return_and_the_pool_can_be_closed() {
    // The words of both sides, the slots that are lent, and the cells of some tasks.
    for word in 0..120 {
        for value in [0, 1, 3, 0xffff_ffff, u64::MAX] {
            let asylum = at_moment(word % 4);
            asylum.scribble(&(word * 8, u64::to_le_bytes(value).to_vec()));
            asylum.comes_to_its_end();
        }
    }
}

#[test]
fn a_task_is_killed_at_its_time_though_its_worker_wrote_over_when_it_began() {
    let mut asylum = Asylum::new();
    let tasks = [HASTY, PATIENT].map(|terms| asylum.simulated.submit(terms));
    asylum.begin();
    let begun = asylum.simulated.core().workers[&1].entries[0].number;
    asylum.scribble(&((704 + 32 * begun as usize) + 16, vec![0xff; 8]));
    asylum.simulated.pool.expire(&mut asylum.simulated.core());
    assert!(asylum.simulated.core().workers[&1].is_doomed());
    asylum.comes_to_its_end();
    drop(tasks);
}

#[test]
fn a_worker_whose_cell_points_at_another_tasks_bytes_does_not_run_them() {
    let mut asylum = Asylum::new();
    let tasks: Vec<_> = (0..6).map(|_| asylum.simulated.submit(PATIENT)).collect();
    // Where the bytes of its second task lie, put in the place of those of its first.
    let mut second = Vec::new();
    asylum.memory.read(704 + 32 + 8, 8, &mut second);
    asylum.scribble(&(704 + 8, second));
    asylum.begin();
    assert!(asylum.is_gone && asylum.begun == 0);
    asylum.comes_to_its_end();
    drop(tasks);
}

#[test]
fn a_worker_that_fills_its_memory_loses_its_own_tasks_alone() {
    for moment in 0..4 {
        for byte in [0, 1, 0x55, 0xff] {
            let asylum = at_moment(moment);
            asylum.scribble(&(0, vec![byte; asylum.memory.size()]));
            asylum.comes_to_its_end();
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_worker_writes_over_its_memory_and_whenever_all_other_tasks_return(
        steps in prop::collection::vec(
            (0..5u8, prop_oneof![4 => 0..1000usize, 1 => 0..9000usize, 1 => any::<usize>()],
                prop_oneof![3 => prop::collection::vec(any::<u8>(), 1..40), 1 => (any::<u8>(), 1..9000usize).prop_map(|(byte, many)| vec![byte; many])]),
            1..40,
        ),
    ) {
        let mut asylum = Asylum::new();
        for (step, at, bytes) in steps {
            match step {
                0 => drop(asylum.simulated.submit(PATIENT)),
                1 => asylum.begin(),
                2 => asylum.publish(),
                3 => asylum.turn(),
                _ => asylum.scribble(&(at, bytes)),
            }
        }
        asylum.comes_to_its_end();
    }
}
