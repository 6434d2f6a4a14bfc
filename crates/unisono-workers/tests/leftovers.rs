//! Nothing is left of a pool: no descriptor, no mapping, no process, nothing in /dev/shm; and slots are used again.
//!
//! One test, since it looks at the whole process, in which no other may be at work.

mod support;

use std::{fs, sync::Arc};

use support::{PLAIN, Workshop, read};
use unisono_workers::{
    Function, TaskOutcome,
    blob::{Blob, Received},
};

const LARGE: usize = 1 << 20;

#[test]
fn slots_are_pinned_while_somebody_looks_used_again_after_and_gone_with_the_pool() {
    // The first pool of a process opens what stands for its descriptors in forks, for all that follow.
    Workshop::new(1).close();
    let before = (open_here(), mapped_here(), children_here());

    let shop = Workshop::new(1);
    a_result_stays_as_it_is_while_it_is_looked_at(&shop);
    a_slot_for_results_is_used_again(&shop);
    an_argument_stays_as_it_is_while_the_worker_looks_at_it(&shop);
    an_argument_comes_back_when_its_worker_dies(&shop);
    let outliving = a_result_outlives_its_worker(&shop);
    shop.close();

    assert_eq!(read(&outliving), bytes(9), "and its pool");
    drop(outliving);
    assert_eq!((open_here(), mapped_here(), children_here()), before);
    let named = fs::read_dir("/dev/shm").unwrap().filter_map(|file| file.unwrap().file_name().into_string().ok());
    assert_eq!(named.filter(|name| name.contains("unisono")).collect::<Vec<_>>(), [""; 0]);
}

fn echo(shop: &Workshop, byte: u8) -> Received {
    match shop.outcome(&shop.submit("echo", &bytes(byte), PLAIN)) {
        TaskOutcome::Returned(received @ Received::Slot(_)) => received,
        other => panic!("not a result in a slot: {other:?}"),
    }
}

fn a_result_stays_as_it_is_while_it_is_looked_at(shop: &Workshop) {
    let views: Vec<Received> = (1..5).map(|byte| echo(shop, byte)).collect();
    for (byte, view) in (1..5u8).zip(&views) {
        assert_eq!(read(view), bytes(byte));
    }
}

fn a_slot_for_results_is_used_again(shop: &Workshop) {
    let count = || shop.slots().len();
    let before = count();
    assert!(before > 0);
    for byte in 0..100 {
        assert_eq!(read(&echo(shop, byte)), bytes(byte));
    }
    assert_eq!(count(), before);
}

fn an_argument_stays_as_it_is_while_the_worker_looks_at_it(shop: &Workshop) {
    assert_eq!(shop.run("keep", &bytes(1)), b"kept");
    assert_eq!(read(&echo(shop, 2)), bytes(2));
    assert_eq!(shop.run("kept", b""), bytes(1));
}

fn an_argument_comes_back_when_its_worker_dies(shop: &Workshop) {
    assert_eq!(shop.run("keep", &bytes(1)), b"kept");
    let blob = shop.blob(&bytes(1));
    let Blob::Slot(lease) = &blob else { panic!("long ones lie in slots") };
    let lease = Arc::downgrade(lease);
    let function = Arc::new(Function { number: 0, name: String::new(), definition: shop.blob(b"keep") });
    let task = shop.pool.submit(function, blob, PLAIN, false).unwrap();
    assert_eq!(shop.returned(&task), b"kept");
    assert!(lease.upgrade().is_some(), "the worker looks at it");
    let dying = shop.submit_meeting(PLAIN);
    shop.meet(&dying).say("die");
    assert!(matches!(shop.outcome(&dying), TaskOutcome::Died { .. }));
    assert!(lease.upgrade().is_none());
}

fn a_result_outlives_its_worker(shop: &Workshop) -> Received {
    let view = echo(shop, 9);
    let dying = shop.submit_meeting(PLAIN);
    shop.meet(&dying).say("exit");
    assert!(matches!(shop.outcome(&dying), TaskOutcome::Died { .. }));
    assert_eq!(read(&echo(shop, 8)), bytes(8), "in a slot of another worker");
    assert_eq!(read(&view), bytes(9));
    view
}

fn bytes(byte: u8) -> Vec<u8> {
    vec![byte; LARGE]
}

/// Less the look itself.
fn open_here() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mapped_here() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("unisono")).count()
}

fn children_here() -> String {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default()).collect()
}
