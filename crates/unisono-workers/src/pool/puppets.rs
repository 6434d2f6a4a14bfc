//! A pool whose workers are played by a test, in this process: it says when a worker begins, publishes or dies.
//!
//! So a test puts a pool before any history, also before one that real processes come to once in a million runs. The workers
//! are whole but for their process: a kill hits one that has ended already, and the test dies for it.

use std::{collections::BTreeMap, os::fd::AsFd, process::Command, sync::MutexGuard};

use proptest::prelude::*;
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::*;
use crate::{
    blob::Received,
    inside::{Given, Inside, kind},
    task::Death,
};

/// A pool that starts no workers of its own, and everything that was submitted to it.
struct Theatre {
    pool: Pool,
    /// The process of every puppet.
    ended: OwnedFd,
    puppets: BTreeMap<usize, Puppet>,
    tasks: Vec<Arc<Task>>,
    /// How often each has begun.
    runs: Vec<u32>,
}

struct Puppet {
    inside: Inside,
    /// The same as the worker's, for what a sane one does not say.
    socket: OwnedFd,
    /// Into which whoever started a worker writes how it ended.
    status: OwnedFd,
    under_way: Option<Given>,
}

impl Theatre {
    fn new(workers: usize, tasks_per_worker: Option<u64>) -> Self {
        let nothing = || memfd_create("unisono-test", MemfdFlags::CLOEXEC).unwrap();
        let options = Options { workers: 0, method: 0, tasks_per_worker, pending: None, per_key: 1 };
        let given = super::Given { settings: nothing(), output: nothing(), inherited: Vec::new() };
        let pool = Pool::new(options, Arc::new(Zygote::new(Vec::new())), given).unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let number = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let ended = pidfd_open(number, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        let mut theatre = Self { pool, ended, puppets: BTreeMap::new(), tasks: Vec::new(), runs: Vec::new() };
        // As after many short tasks; before the first it is not known that they are, and nothing lies ahead.
        theatre.core().mean = 1;
        (0..workers).for_each(|_| theatre.enter());
        theatre
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        held(&self.pool.core)
    }

    /// Another worker.
    fn enter(&mut self) {
        let (worker, birth) = Worker::new().unwrap();
        let memory = rustix::io::dup(&worker.exchange).unwrap();
        let number = self.pool.employ(&mut self.core(), worker).unwrap();
        let socket = rustix::io::dup(&birth.socket).unwrap();
        let inside = Inside::of(self.ended.as_fd(), birth.socket.publish(), memory).unwrap();
        assert!(self.core().workers.get_mut(&number).unwrap().read_socket().unwrap(), "it said hello");
        self.puppets.insert(number, Puppet { inside, socket, status: birth.status.publish(), under_way: None });
    }

    fn submit(&mut self, terms: Terms) -> Arc<Task> {
        let function = Arc::new(Function { number: 0, definition: Blob::Inline(Vec::new()) });
        let arguments = Blob::Inline(self.tasks.len().to_le_bytes().to_vec());
        let task = self.pool.submit(function, arguments, terms, false).unwrap();
        self.tasks.push(task.clone());
        self.runs.push(0);
        task
    }

    /// A worker begins its next task, if there is one and it is through with the last. Whether it has one now.
    fn begin(&mut self, number: usize) -> bool {
        let puppet = self.puppets.get_mut(&number).unwrap();
        if puppet.under_way.is_some() {
            return true;
        }
        puppet.under_way = puppet.inside.take().unwrap();
        let Some(given) = &puppet.under_way else { return false };
        let Ok(Received::Inline(bytes)) = &given.arguments else { panic!("short ones are inline") };
        let task = usize::from_le_bytes(bytes.as_slice().try_into().unwrap());
        assert!(!self.tasks[task].has_ended(), "what has ended does not begin");
        self.runs[task] += 1;
        true
    }

    /// A worker publishes what its task returned, or raised.
    fn publish(&mut self, number: usize, kind: u32) {
        let puppet = self.puppets.get_mut(&number).unwrap();
        if let Some(given) = puppet.under_way.take() {
            puppet.inside.publish(kind, &given, 2, &[b"ok"]).unwrap();
        }
    }

    /// A worker is gone, as its starter says.
    fn die(&mut self, number: usize, status: i32) {
        let puppet = self.puppets.remove(&number).unwrap();
        drop(puppet.inside);
        assert_eq!(rustix::io::write(&puppet.status, &status.to_le_bytes()), Ok(4));
        let mut core = self.core();
        let death = core.workers[&number].death().expect("it was written a line ago");
        self.pool.bury(&mut core, number, death);
    }

    /// Those that were killed die, those that were let go do what lies before them and end, and others come for them.
    fn replace(&mut self) {
        let leaves = |worker: &Worker| worker.is_leaving.then_some(worker.is_doomed);
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
fn one_begun_and_one_behind(first: Terms) -> (Theatre, Arc<Task>, Arc<Task>) {
    let mut theatre = Theatre::new(1, None);
    let tasks = (theatre.submit(first), theatre.submit(PATIENT));
    assert!(theatre.begin(1));
    assert_eq!(theatre.core().workers[&1].busy, 2);
    (theatre, tasks.0, tasks.1)
}

#[test]
fn a_deadline_that_passes_when_the_worker_is_at_the_next_task_already_kills_nobody() {
    let (mut theatre, first, second) = one_begun_and_one_behind(HASTY);
    // What `pump` does, but the worker goes on between its first and its second step.
    theatre.pool.read(&mut theatre.core());
    theatre.publish(1, kind::RETURNED);
    assert!(theatre.begin(1));
    theatre.pool.expire(&mut theatre.core());
    assert!(!theatre.core().workers[&1].is_doomed);
    assert!(matches!(first.take_outcome(), Some(Outcome::Returned(_))));
    assert_eq!(theatre.pool.state(&second), State::Running);
}

#[test]
fn a_task_past_its_time_is_killed_alone_and_what_was_read_ahead_runs_elsewhere() {
    let (mut theatre, first, second) = one_begun_and_one_behind(HASTY);
    theatre.pump();
    assert!(matches!(first.take_outcome(), Some(Outcome::TimedOut(_))) && theatre.core().workers[&1].is_doomed);
    assert_eq!(theatre.pool.state(&second), State::Waiting);
    theatre.replace();
    theatre.pump();
    assert!(theatre.begin(2));
    theatre.publish(2, kind::RETURNED);
    theatre.pump();
    assert!(matches!(second.take_outcome(), Some(Outcome::Returned(_))));
}

#[test]
fn a_task_past_its_time_is_tried_again_as_often_as_its_terms_say() {
    let mut theatre = Theatre::new(1, None);
    let task = theatre.submit(Terms { retries: 2, ..HASTY });
    for worker in 1..=3 {
        assert!(!task.has_ended() && theatre.begin(worker));
        theatre.pump();
        theatre.replace();
        theatre.pump();
    }
    assert!(matches!(task.take_outcome(), Some(Outcome::TimedOut(_))));
    assert_eq!(theatre.runs, [3]);
}

#[test]
fn a_timeout_is_counted_from_when_its_task_begins() {
    let mut theatre = Theatre::new(1, None);
    let tasks = (theatre.submit(PATIENT), theatre.submit(HASTY));
    assert!(theatre.begin(1));
    theatre.pump();
    assert_eq!(theatre.pool.state(&tasks.1), State::Waiting, "its time has not begun");
    assert!(!theatre.core().workers[&1].is_doomed);
}

#[test]
fn cancelling_what_has_just_ended_kills_nobody() {
    let (mut theatre, first, second) = one_begun_and_one_behind(PATIENT);
    let place = held(&first.inner).place.unwrap();
    theatre.publish(1, kind::RETURNED);
    assert!(theatre.begin(1));
    assert!(!theatre.pool.is_under_way(&mut theatre.core(), place.0, place.1));
    assert!(!theatre.pool.cancel(&first, true) && !theatre.core().workers[&1].is_doomed);
    assert_eq!(theatre.pool.state(&second), State::Running);
    assert!(theatre.pool.cancel(&second, true) && theatre.core().workers[&1].is_doomed);
}

#[test]
fn a_death_ends_what_was_under_way_and_no_other_task() {
    let (mut theatre, first, second) = one_begun_and_one_behind(PATIENT);
    theatre.die(1, 3 << 8);
    assert!(matches!(first.take_outcome(), Some(Outcome::Died { death: Death::Exit(3), deaths: 1, .. })));
    assert_eq!(theatre.pool.state(&second), State::Waiting);
    theatre.enter();
    theatre.pump();
    assert!(theatre.begin(2));
}

#[test]
fn a_result_that_was_published_before_a_death_counts() {
    let (mut theatre, first, second) = one_begun_and_one_behind(PATIENT);
    theatre.publish(1, kind::RETURNED);
    theatre.die(1, 9);
    assert!(matches!(first.take_outcome(), Some(Outcome::Returned(_))));
    assert!(!second.has_ended(), "it never began");
}

#[test]
fn a_worker_whose_memory_cannot_be_received_is_let_go_and_one_that_talks_nonsense_is_killed() {
    // Without its descriptor, as when this process has too many open.
    for (said, is_killed) in [([b'm'; 9].as_slice(), false), (b"nonsense", true)] {
        let mut theatre = Theatre::new(1, None);
        let task = theatre.submit(PATIENT);
        assert!(theatre.begin(1));
        rustix::io::write(&theatre.puppets[&1].socket, said).unwrap();
        theatre.pool.heed(&mut theatre.core(), 1 << 2 | drive::SOCKET);
        assert!(theatre.core().workers[&1].is_leaving);
        assert_eq!(theatre.core().workers[&1].is_doomed, is_killed);
        if !is_killed {
            theatre.publish(1, kind::RETURNED);
            assert!(!theatre.puppets.get_mut(&1).unwrap().inside.sleep().unwrap(), "it is to go");
            theatre.pump();
            assert!(matches!(task.take_outcome(), Some(Outcome::Returned(_))));
        }
    }
}

#[test]
fn a_driver_that_sleeps_learns_that_a_result_may_come_unannounced() {
    // It was woken so long ago that everything is announced again, and just now, or later than any clock shows.
    for (woken, has_to_learn) in [(0, false), (u64::MAX, true)] {
        let mut theatre = Theatre::new(1, None);
        theatre.submit(PATIENT);
        (theatre.core().driver, theatre.core().woken) = (true, woken);
        let is_rung = |theatre: &Theatre| rustix::io::read(&theatre.pool.bell, &mut [0; 8]).is_ok();
        assert!(!is_rung(&theatre));
        theatre.submit(PATIENT);
        assert_eq!(is_rung(&theatre), has_to_learn);
        theatre.submit(PATIENT);
        assert!(!is_rung(&theatre), "once is enough");
    }
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

impl Theatre {
    fn step(&mut self, step: &Step) {
        let worker = |at: usize| *self.puppets.keys().nth(at % self.puppets.len()).expect("there are always some");
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
        let mut theatre = Theatre::new(workers, tasks_per_worker);
        theatre.core().mean = u64::from(are_short);
        steps.iter().for_each(|step| theatre.step(step));
        // And then everything that is left is done.
        while theatre.pool.counts().1 > 0 {
            for number in theatre.puppets.keys().copied().collect::<Vec<_>>() {
                theatre.begin(number);
                theatre.publish(number, kind::RETURNED);
            }
            theatre.step(&Step::Look);
        }
        for (task, runs) in theatre.tasks.iter().zip(&theatre.runs) {
            prop_assert!(task.has_ended() && *runs <= 1 + task.terms.retries);
            let outcome = task.take_outcome().expect("an outcome that nobody has taken");
            prop_assert!(task.take_outcome().is_none());
            prop_assert!(*runs > 0 || matches!(outcome, Outcome::Cancelled), "{outcome:?}");
        }
    }
}
