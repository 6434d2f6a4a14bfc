//! What a parker promises, tried in every order of steps: no thread sleeps over what it waits for.
//!
//! A sleep that is never ended is a deadlock, which fails a model. The threads of a pool and those that wait for its
//! tasks are as in `thread_task.rs` and `queue/threads.rs` of unisono-python, which cannot be built for a model.

use std::{collections::VecDeque, mem, time::Duration};

use loom::{
    model::Builder,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::{Parker, wake_those_left};

/// More than so many changes of the running thread where none was forced are not tried: every fault that is known of
/// such protocols shows with two.
const CHANGES: usize = 3;

fn every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(CHANGES);
    builder.check(model);
}

/// A task that threads wait for.
#[derive(Default)]
struct Task(Mutex<(Option<u32>, Vec<Parker>)>);

impl Task {
    /// As `ThreadTask::returned`.
    fn returned(&self, value: u32) {
        let sleepers = {
            let mut state = self.0.lock().unwrap();
            state.0 = Some(value);
            mem::take(&mut state.1)
        };
        sleepers.into_iter().for_each(Parker::unpark_soon);
    }

    /// As `ThreadTask::result`, with a time that is over at once, or without one.
    fn result(&self, limit: Option<Duration>) -> Option<u32> {
        let parker = {
            let mut state = self.0.lock().unwrap();
            if state.0.is_some() {
                return state.0;
            }
            let parker = Parker::default();
            state.1.push(parker.clone());
            parker
        };
        park(&parker, limit);
        let mut state = self.0.lock().unwrap();
        state.1.retain(|other| !other.is(&parker));
        state.0
    }
}

/// Tasks on their way to one thread.
#[derive(Default)]
struct Offers(Mutex<(VecDeque<Arc<Task>>, Option<Parker>, bool)>);

impl Offers {
    fn offer(&self, task: Arc<Task>) {
        let waiter = {
            let mut state = self.0.lock().unwrap();
            state.0.push_back(task);
            state.1.take()
        };
        waiter.into_iter().for_each(|waiter| waiter.unpark(0));
    }

    fn close(&self) {
        let waiter = {
            let mut state = self.0.lock().unwrap();
            state.2 = true;
            state.1.take()
        };
        waiter.into_iter().for_each(|waiter| waiter.unpark(0));
    }

    /// As `QueueCore::get_waiting`.
    fn next(&self) -> Option<Arc<Task>> {
        loop {
            let parker = {
                let mut state = self.0.lock().unwrap();
                match (state.0.pop_front(), state.2) {
                    (None, false) => state.1.insert(Parker::default()).clone(),
                    (task, _) => {
                        drop(state);
                        wake_those_left(0);
                        return task;
                    }
                }
            };
            park(&parker, None);
        }
    }

    /// A thread of the pool.
    fn work(&self) {
        let mut number = 0;
        while let Some(task) = self.next() {
            task.returned(number);
            number += 1;
        }
    }
}

/// As `Parker::park` of unisono-python.
fn park(parker: &Parker, limit: Option<Duration>) {
    while !parker.is_woken() {
        wake_those_left(0);
        parker.sleep(|| limit);
        if limit.is_some() {
            return;
        }
    }
}

const OVER: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_thread_is_woken_wherever_on_its_way_to_sleep_it_is() {
    every_order(|| {
        let (parker, word) = (Parker::default(), Arc::new(Mutex::new(0)));
        let (its, told) = (parker.clone(), word.clone());
        let other = thread::spawn(move || {
            *told.lock().unwrap() = 7;
            its.unpark(3);
        });
        park(&parker, None);
        assert_eq!((*word.lock().unwrap(), parker.note()), (7, 3));
        other.join().unwrap();
    });
}

#[test]
fn a_thread_that_a_signal_has_woken_and_that_sleeps_again_is_woken() {
    every_order(|| {
        let parker = Parker::default();
        let its = parker.clone();
        let other = thread::spawn(move || its.unpark(0));
        parker.sleep(|| OVER);
        park(&parker, None);
        other.join().unwrap();
    });
}

#[test]
fn a_thread_that_two_wake_goes_on() {
    every_order(|| {
        let parker = Parker::default();
        let others = [parker.clone(), parker.clone()].map(|its| thread::spawn(move || its.unpark(0)));
        park(&parker, None);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_task_that_is_waited_for_is_told_as_its_thread_waits_for_the_next() {
    every_order(|| {
        let offers = Arc::new(Offers::default());
        let its = offers.clone();
        let pool = thread::spawn(move || its.work());
        for number in 0..2 {
            // The second is offered only by a thread that the first has woken.
            let task = Arc::new(Task::default());
            offers.offer(task.clone());
            assert_eq!(task.result(None), Some(number));
        }
        offers.close();
        pool.join().unwrap();
    });
}

#[test]
fn a_task_that_is_waited_for_is_told_where_its_thread_has_the_next_at_once() {
    every_order(|| {
        let offers = Arc::new(Offers::default());
        let (first, second) = (Arc::new(Task::default()), Arc::new(Task::default()));
        [&first, &second].into_iter().for_each(|task| offers.offer(task.clone()));
        // What the second waits for is none of ours, and comes of the thread that waits for the first.
        let event = Arc::new((Mutex::new(false), Condvar::new()));
        let (its, awaited) = (offers.clone(), event.clone());
        let pool = thread::spawn(move || {
            its.next().unwrap().returned(1);
            let second = its.next().unwrap();
            let mut has_come = awaited.0.lock().unwrap();
            while !*has_come {
                has_come = awaited.1.wait(has_come).unwrap();
            }
            second.returned(2);
        });
        assert_eq!(first.result(None), Some(1));
        *event.0.lock().unwrap() = true;
        event.1.notify_one();
        assert_eq!(second.result(None), Some(2));
        pool.join().unwrap();
    });
}

#[test]
fn a_task_that_is_waited_for_is_told_by_the_end_of_its_thread() {
    every_order(|| {
        let task = Arc::new(Task::default());
        let its = task.clone();
        let pool = thread::spawn(move || its.returned(5));
        assert_eq!(task.result(None), Some(5));
        pool.join().unwrap();
    });
}

#[test]
fn a_thread_that_waited_too_short_a_time_and_comes_again_is_told() {
    every_order(|| {
        let offers = Arc::new(Offers::default());
        let its = offers.clone();
        let pool = thread::spawn(move || its.work());
        let task = Arc::new(Task::default());
        offers.offer(task.clone());
        let early = task.result(OVER);
        assert!([None, Some(0)].contains(&early));
        assert_eq!(task.result(None), Some(0));
        offers.close();
        pool.join().unwrap();
    });
}

#[test]
fn two_that_wait_for_one_task_are_both_told() {
    every_order(|| {
        let offers = Arc::new(Offers::default());
        let task = Arc::new(Task::default());
        let (its, first) = (offers.clone(), task.clone());
        let pool = thread::spawn(move || {
            its.work();
        });
        let other = thread::spawn(move || first.result(None));
        offers.offer(task.clone());
        assert_eq!(task.result(None), Some(0));
        assert_eq!(other.join().unwrap(), Some(0));
        offers.close();
        pool.join().unwrap();
    });
}
