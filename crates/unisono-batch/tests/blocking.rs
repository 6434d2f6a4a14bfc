//! Work on threads: what is given comes back, whatever the thread does with it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task,
};

use futures_util::future::join_all;
use unisono_batch::{BlockingPool, Context, Outstanding, WorkNotifier, WorkQueue};

/// Each thread takes one task at a time and returns its double.
fn doubling(queue: &WorkQueue<u32, u32>) {
    let (mut tasks, mut done) = (Vec::new(), Vec::new());
    while queue.take(1, true, &mut tasks) {
        for task in tasks.drain(..) {
            assert_ne!(task.work, 13, "a fault of the worker");
            let result = task.work * 2;
            done.push((task, result));
        }
        queue.give_back(&mut done);
    }
}

/// Polls the delivery beside a future.
async fn beside<T>(pool: &BlockingPool<u32, u32>, wanted: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = pool.deliver() => unreachable!("delivery has no end"),
        result = wanted => result,
    }
}

#[tokio::test]
async fn every_piece_comes_back_with_its_own_result() {
    let pool = BlockingPool::start(3, "test", doubling).unwrap();
    let results = join_all((100..1100).map(|number| pool.submit(number, Context::detached().hold())));
    let results = beside(&pool, results).await;
    assert!(results.iter().zip(100..).all(|(result, number)| *result == Some(number * 2)));
}

#[tokio::test]
async fn a_piece_that_a_thread_panics_over_comes_back_as_nothing_and_the_thread_goes_on() {
    let pool = BlockingPool::start(1, "test", doubling).unwrap();
    let results = join_all([12, 13, 14].map(|number| pool.submit(number, Context::detached().hold())));
    assert_eq!(beside(&pool, results).await, [Some(24), None, Some(28)]);
}

#[tokio::test]
async fn a_piece_that_nobody_waits_for_is_told_to_stop_and_its_number_is_free_again_once_it_has() {
    let (taken, was_taken) = mpsc::channel();
    let may_look = Arc::new(Barrier::new(2));
    let stopped = Arc::new(AtomicUsize::new(0));
    let (gate, count) = (may_look.clone(), stopped.clone());
    let pool: BlockingPool<u32, u32> = BlockingPool::start(1, "test", move |queue: &WorkQueue<u32, u32>| {
        let (mut tasks, mut done) = (Vec::new(), Vec::new());
        while queue.take(1, true, &mut tasks) {
            for task in tasks.drain(..) {
                if task.work == 0 {
                    taken.send(()).unwrap();
                    gate.wait();
                    count.fetch_add(usize::from(queue.is_stopped(&task)), SeqCst);
                }
                assert!(task.work == 0 || !queue.is_stopped(&task), "only what was given up is stopped");
                done.push((task, 1));
            }
            queue.give_back(&mut done);
        }
    })
    .unwrap();
    let mut given_up = Box::pin(pool.submit(0, Context::detached().hold()));
    assert!(given_up.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())).is_pending());
    was_taken.recv().unwrap();
    drop(given_up);
    may_look.wait();
    // The same thread does this one after it.
    assert_eq!(beside(&pool, pool.submit(1, Context::detached().hold())).await, Some(1));
    assert_eq!(stopped.load(SeqCst), 1);
    assert_eq!(beside(&pool, pool.submit(2, Context::detached().hold())).await, Some(1));
}

#[tokio::test]
async fn foreign_workers_are_notified_of_tasks_and_of_stops_and_told_of_each_stop_once() {
    let notified = Arc::new(AtomicUsize::new(0));
    let count = notified.clone();
    let notifier: WorkNotifier = Arc::new(move || {
        count.fetch_add(1, SeqCst);
    });
    let (unattached, queue) = BlockingPool::<u32, u32>::with_foreign_workers(notifier);
    let pool = unattached.attach();
    let mut asked = pool.submit(1, Context::detached().hold());
    let plain = pool.submit(2, Context::detached().hold());
    assert_eq!(notified.load(SeqCst), 2);
    let mut tasks = Vec::new();
    queue.take(10, false, &mut tasks);
    assert!(queue.take_stopped(|_| true).is_empty());
    asked.stop();
    asked.stop();
    assert_eq!(notified.load(SeqCst), 3);
    assert_eq!(queue.take_stopped(|_| true), [tasks[0].number()]);
    assert!(queue.take_stopped(|_| true).is_empty());
    let mut done: Vec<_> =
        tasks.drain(..).map(|task| (task.number() as u32, task)).map(|(n, task)| (task, n)).collect();
    queue.give_back(&mut done);
    assert_eq!(beside(&pool, asked).await, Some(0));
    assert_eq!(beside(&pool, plain).await, Some(1));
    // Its number is free again, and the next one is not asked to stop.
    let _next = pool.submit(3, Context::detached().hold());
    assert!(queue.take_stopped(|_| true).is_empty());
}

#[tokio::test]
async fn what_is_put_into_a_queue_that_has_gone_comes_back_without_a_result() {
    let (unattached, queue) = BlockingPool::<u32, u32>::with_foreign_workers(Arc::new(|| ()));
    let pool = unattached.attach();
    let before = pool.submit(1, Context::detached().hold());
    drop(queue);
    let after = pool.submit(2, Context::detached().hold());
    assert_eq!(beside(&pool, before).await, None);
    assert_eq!(beside(&pool, after).await, None);
}

#[tokio::test]
async fn what_is_put_into_a_queue_whose_workers_have_left_comes_back_as_they_say_and_what_they_have_as_they_do_it() {
    let (unattached, queue) = BlockingPool::<u32, u32>::with_foreign_workers(Arc::new(|| ()));
    let pool = unattached.attach();
    let mut tasks = Vec::new();
    let taken = pool.submit(1, Context::detached().hold());
    assert!(queue.take(1, false, &mut tasks));
    let before = pool.submit(2, Context::detached().hold());
    queue.refuse(|| 77);
    let after = pool.submit(3, Context::detached().hold());
    assert_eq!(beside(&pool, before).await, Some(77));
    assert_eq!(beside(&pool, after).await, Some(77));
    assert!(!queue.take(1, false, &mut Vec::new()));
    let mut done = tasks.drain(..).map(|task| (task, 5)).collect();
    queue.give_back(&mut done);
    assert_eq!(beside(&pool, taken).await, Some(5));
}

#[tokio::test]
async fn outstanding_tasks_are_settled_once_by_their_numbers_and_a_refusal_leaves_out_those_that_go_on() {
    let (unattached, queue) = BlockingPool::<u32, u32>::with_foreign_workers(Arc::new(|| ()));
    let (pool, outstanding) = (unattached.attach(), Outstanding::new(queue));
    let mut handles = Vec::from_iter((1..=3).map(|work| pool.submit(work, Context::detached().hold())));
    let taken = outstanding.take(|work| *work);
    assert_eq!(taken.begun.iter().map(|(_, work)| *work).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(taken.is_open && taken.stopped.is_empty());
    let [first, second, third] = [0, 1, 2].map(|index| taken.begun[index].0);
    handles[1].stop();
    assert_eq!(outstanding.take(|work| *work).stopped, [second]);
    outstanding.give_back([(first, 10), (first, 11), (99, 12)]);
    handles.push(pool.submit(4, Context::detached().hold()));
    outstanding.refuse(&HashSet::from([third]), || 77, || 88);
    handles.push(pool.submit(5, Context::detached().hold()));
    assert!(!outstanding.take(|work| *work).is_open);
    outstanding.give_back([(third, 30)]);
    for (handle, result) in handles.into_iter().zip([10, 88, 30, 77, 77]) {
        assert_eq!(beside(&pool, handle).await, Some(result));
    }
}

#[tokio::test]
async fn a_task_that_comes_while_others_are_taken_and_is_stopped_at_once_is_told_to_stop_when_it_has_been_begun() {
    let (unattached, queue) = BlockingPool::<u32, u32>::with_foreign_workers(Arc::new(|| ()));
    let (pool, outstanding) = (unattached.attach(), Outstanding::new(queue));
    let first = pool.submit(1, Context::detached().hold());
    let mut second = None;
    let taken = outstanding.take(|_| {
        let mut handle = pool.submit(2, Context::detached().hold());
        handle.stop();
        second = Some(handle);
    });
    assert_eq!((taken.begun.len(), taken.stopped.len()), (1, 0));
    let next = outstanding.take(|work| *work);
    assert_eq!(next.begun, [(next.stopped[0], 2)]);
    outstanding.give_back([(taken.begun[0].0, 10), (next.begun[0].0, 20)]);
    assert_eq!(beside(&pool, first).await, Some(10));
    assert_eq!(beside(&pool, second.expect("the first was begun")).await, Some(20));
}

#[tokio::test]
async fn what_lies_in_the_queue_of_a_pool_that_has_gone_is_handed_out_no_more_and_told_to_a_worker_that_leaves() {
    let (unattached, queue) = BlockingPool::<u32, u32>::with_foreign_workers(Arc::new(|| ()));
    let pool = unattached.attach();
    drop(pool.submit(1, Context::detached().hold()));
    drop(pool);
    let mut tasks = Vec::new();
    assert!(!queue.take(10, false, &mut tasks));
    assert!(tasks.is_empty());
    assert_eq!(queue.refuse(|| 0), [1]);
    assert!(queue.refuse(|| 0).is_empty());
}
