//! What an exchange promises, tried in every order of steps and with every value that a read may see.
//!
//! Each model is small: two cells, rings of 64 bytes, two slots. A sleep that is never ended is a deadlock, which fails
//! a model as much as a wrong answer does, and so does a byte that both sides may be at.
//!
//! A sleeper hears a [`Notifier`] in the place of a socket. Run by `make test`, since it needs a build of its own.

use loom::{
    cell::UnsafeCell,
    model::Builder,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::{Exchange, Full, ResultRecord};

/// What a wake-up is sent over: one that comes before a wait is not lost.
#[derive(Default)]
struct Notifier {
    is_notified: Mutex<bool>,
    changed: Condvar,
}

impl Notifier {
    fn notify(&self) {
        *self.is_notified.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn listen(&self) {
        let mut is_notified = self.is_notified.lock().unwrap();
        while !*is_notified {
            is_notified = self.changed.wait(is_notified).unwrap();
        }
        *is_notified = false;
    }
}

/// One worker's memory, and the two ends of its socket.
struct Link {
    exchange: Exchange,
    worker: Notifier,
    pool: Notifier,
}

impl Link {
    fn new() -> Arc<Self> {
        let exchange = Exchange::new().expect("a model's memory is always there");
        Arc::new(Self { exchange, worker: Notifier::default(), pool: Notifier::default() })
    }

    /// As `Worker::give` ends.
    fn wake_worker(&self) {
        if self.exchange.must_wake_worker() {
            self.worker.notify();
        }
    }

    /// As `Inside::sleep` begins.
    fn wake_pool(&self) {
        if self.exchange.must_wake_pool() {
            self.pool.notify();
        }
    }

    /// As a worker's program does.
    fn wait_for_task(&self, bytes: &mut Vec<u8>) -> u64 {
        loop {
            if let Some(number) = self.exchange.take(1, bytes).expect(SANE) {
                return number;
            }
            self.wake_pool();
            self.exchange.while_idle(|| self.worker.listen());
        }
    }

    /// As `Inside::record`.
    fn publish(&self, task: u64, bytes: &[u8]) {
        while !self.exchange.publish(1, task, 5, bytes).expect(SANE) {
            self.exchange.want_room();
            self.wake_pool();
            if self.exchange.publish(1, task, 5, bytes).expect(SANE) {
                break;
            }
            self.worker.listen();
        }
    }

    /// As `Worker::next_record`.
    fn next_record(&self) -> Option<ResultRecord> {
        let record = self.exchange.next_record().expect("no model writes over its ring")?;
        if self.exchange.worker_wants_room() {
            self.worker.notify();
        }
        Some(record)
    }

    /// As `Pool::sleep`, where `lacks_cell` is what the last `hand_out` found.
    fn sleep_in_pool(&self, lacks_cell: bool) {
        self.exchange.pool_waits(true);
        let has_come = self.exchange.has_records() || lacks_cell && self.exchange.has_cell();
        if !has_come {
            self.pool.listen();
        }
        self.exchange.pool_waits(false);
    }

    fn wait_for_record(&self) -> ResultRecord {
        loop {
            if let Some(record) = self.next_record() {
                return record;
            }
            self.sleep_in_pool(false);
        }
    }
}

/// No model writes over another's words.
const SANE: &str = "what each side writes is sane";
/// More than so many changes of the running thread where none was forced are not tried: every fault that is known of
/// such protocols shows with two.
const CHANGES: usize = 3;

fn every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(CHANGES);
    builder.check(model);
}

#[test]
fn a_worker_that_goes_to_sleep_is_woken_by_every_task() {
    every_order(|| {
        let link = Link::new();
        let pool = link.clone();
        let pool = thread::spawn(move || {
            for number in 0..2 {
                assert_eq!(pool.exchange.put(0, number, b"x"), Ok(number));
                pool.wake_worker();
            }
        });
        for number in 0..2 {
            assert_eq!(link.wait_for_task(&mut Vec::new()), number);
            link.exchange.leave(number);
        }
        pool.join().unwrap();
    });
}

#[test]
fn a_pool_that_goes_to_sleep_is_woken_by_results_that_are_announced_when_the_worker_sleeps() {
    every_order(|| {
        let link = Link::new();
        let worker = link.clone();
        let worker = thread::spawn(move || {
            worker.publish(0, b"a");
            worker.publish(1, b"b");
            worker.wake_pool();
        });
        assert_eq!(link.wait_for_record().bytes, b"a");
        assert_eq!(link.wait_for_record().bytes, b"b");
        worker.join().unwrap();
    });
}

#[test]
fn a_worker_without_room_for_its_result_is_woken_when_the_pool_has_read() {
    every_order(|| {
        let link = Link::new();
        let worker = link.clone();
        // Two of these fill the ring.
        let worker = thread::spawn(move || {
            (0..3).for_each(|number| worker.publish(number, &[number as u8; 8]));
            worker.wake_pool();
        });
        for number in 0..3 {
            let record = link.wait_for_record();
            assert_eq!((record.kind, record.task, record.took_ns), (1, number, 5));
            assert_eq!(record.bytes, [number as u8; 8], "whole, in order, and once");
        }
        assert!(link.next_record().is_none());
        worker.join().unwrap();
    });
}

#[test]
fn a_task_is_begun_by_the_worker_or_taken_back_by_the_pool_and_never_both() {
    every_order(|| {
        let link = Link::new();
        (0..2).for_each(|number| assert_eq!(link.exchange.put(0, number, b"x"), Ok(number)));
        let worker = link.clone();
        let worker = thread::spawn(move || {
            let mut begun = Vec::new();
            while let Some(number) = worker.exchange.take(7, &mut Vec::new()).expect(SANE) {
                begun.push(number);
                worker.exchange.leave(number);
            }
            begun
        });
        // From the last, as `Worker::take_back` does.
        let taken_back: Vec<u64> = [1, 0].into_iter().filter(|number| link.exchange.retract(*number)).collect();
        for number in 0..2 {
            // With that it began, the pool sees when.
            assert!([None, Some(7)].contains(&link.exchange.began_ns(number)));
        }
        let begun = worker.join().unwrap();
        let mut all = [begun, taken_back].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
    });
}

#[test]
fn a_task_taken_back_and_given_to_another_worker_is_run_once() {
    every_order(|| {
        let (first, second) = (Link::new(), Link::new());
        first.exchange.put(0, 0, b"x").unwrap();
        let runs = |link: Arc<Link>| {
            thread::spawn(move || usize::from(link.exchange.take(1, &mut Vec::new()).expect(SANE).is_some()))
        };
        let slow = runs(first.clone());
        let was_taken_back = first.exchange.retract(0);
        if was_taken_back {
            second.exchange.put(0, 0, b"x").unwrap();
        }
        let quick = runs(second);
        let (slow, quick) = (slow.join().unwrap(), quick.join().unwrap());
        assert_eq!((slow, quick), if was_taken_back { (0, 1) } else { (1, 0) });
    });
}

#[test]
fn what_a_task_brings_is_read_before_it_is_written_over() {
    every_order(|| {
        let link = Link::new();
        let worker = link.clone();
        let worker = thread::spawn(move || {
            for number in 0..3 {
                let mut bytes = Vec::new();
                assert_eq!(worker.wait_for_task(&mut bytes), number);
                assert_eq!(bytes, [number as u8; 30]);
                worker.publish(number, b"");
                worker.exchange.leave(number);
            }
            worker.wake_pool();
        });
        let mut ended = 0;
        for number in 0..3 {
            // The third lies where the first lay, in the ring and on its cell.
            while let Err(full) = link.exchange.put(ended * 30, number * 30, &[number as u8; 30]) {
                link.sleep_in_pool(full == Full::Cells);
                while let Some(record) = link.next_record() {
                    assert_eq!(record.task, ended);
                    ended += 1;
                }
            }
            link.wake_worker();
        }
        worker.join().unwrap();
    });
}

#[test]
fn what_a_task_brought_that_was_taken_back_is_written_over_while_nobody_reads_it() {
    every_order(|| {
        let link = Link::new();
        link.exchange.put(0, 0, b"first").unwrap();
        let worker = link.clone();
        let worker = thread::spawn(move || {
            let mut taken = Vec::new();
            while worker.exchange.take(1, &mut taken).expect(SANE).is_some_and(|number| {
                worker.exchange.leave(number);
                true
            }) {}
            taken
        });
        let mut expected = Vec::new();
        if link.exchange.retract(0) {
            // Its bytes are free at once; its cell only when the worker has passed it.
            link.exchange.put(64, 64, b"other").unwrap();
            expected.push(b"other".to_vec());
            expected.push(Vec::new());
        } else {
            expected.push(b"first".to_vec());
        }
        assert!(expected.contains(&worker.join().unwrap()));
    });
}

#[test]
fn a_pool_without_a_cell_is_woken_when_the_worker_has_passed_what_was_taken_back() {
    every_order(|| {
        let link = Link::new();
        let worker = link.clone();
        let worker = thread::spawn(move || {
            loop {
                let number = worker.wait_for_task(&mut Vec::new());
                worker.exchange.leave(number);
                if number == 2 {
                    break;
                }
            }
        });
        (0..2).for_each(|number| assert_eq!(link.exchange.put(0, number, b"x"), Ok(number)));
        link.wake_worker();
        let _ = (link.exchange.retract(1), link.exchange.retract(0));
        while let Err(full) = link.exchange.put(0, 2, b"x") {
            assert_eq!(full, Full::Cells);
            link.sleep_in_pool(true);
        }
        link.wake_worker();
        worker.join().unwrap();
    });
}

#[test]
fn a_slot_is_written_again_only_when_nobody_looks_at_it() {
    every_order(|| {
        let link = Link::new();
        let slot = Arc::new(UnsafeCell::new(()));
        let worker = (link.clone(), slot.clone());
        let worker = thread::spawn(move || {
            let (link, slot) = worker;
            let mut filled = 0;
            for number in 0..2 {
                // As `Inside::fill_slot`: one that is lent is not waited for, another is made.
                if link.exchange.is_free(0) {
                    link.exchange.lend(0);
                    slot.with_mut(|_| filled += 1);
                    link.publish(number, b"slot");
                }
            }
            link.publish(2, b"over");
            link.wake_pool();
            filled
        });
        let mut seen = 0;
        while link.wait_for_record().bytes == b"slot" {
            // As long as a view lives, and then its end.
            slot.with(|_| seen += 1);
            link.exchange.give_back(0);
        }
        assert_eq!(worker.join().unwrap(), seen);
    });
}

#[test]
fn after_a_death_each_task_has_ended_or_was_under_way_or_never_began() {
    // Dies with its first task begun, told, left, and the same for the second.
    for steps in 0..=6 {
        every_order(move || {
            let link = Link::new();
            let worker = link.clone();
            let worker = thread::spawn(move || {
                let mut left = steps;
                let mut goes_on = || {
                    left -= 1;
                    left >= 0
                };
                for number in 0..2 {
                    if !goes_on() || worker.exchange.take(1, &mut Vec::new()) != Ok(Some(number)) {
                        return;
                    }
                    if !goes_on() {
                        return;
                    }
                    worker.publish(number, b"");
                    if !goes_on() {
                        return;
                    }
                    worker.exchange.leave(number);
                }
            });
            (0..2).for_each(|number| assert_eq!(link.exchange.put(0, number, b"x"), Ok(number)));
            worker.join().unwrap();
            let ended: Vec<u64> = std::iter::from_fn(|| link.next_record()).map(|record| record.task).collect();
            let open: Vec<u64> = (0..2).filter(|number| !ended.contains(number)).collect();
            let under_way: Vec<u64> = open.iter().copied().filter(|number| !link.exchange.retract(*number)).collect();
            assert!(under_way.len() <= 1, "one task at a time: {under_way:?}");
            assert!(under_way.iter().all(|number| link.exchange.began_ns(*number).is_some()));
            assert_eq!(under_way.first().copied().unwrap_or(ended.len() as u64), ended.len() as u64);
        });
    }
}
