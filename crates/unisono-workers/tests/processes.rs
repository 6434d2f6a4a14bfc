//! What a pool over real processes promises: what is sent arrives whole, and whatever a worker does is told of its own
//! task.
//!
//! What depends on which side is quicker is tried by `src/pool/simulated.rs` and by the models of `src/exchange`.

mod support;

use std::{io::Read as _, time::Duration};

use support::{PLAIN, Workshop, devnull};
use unisono_workers::{
    Awaited, Death, Function, PoolOptions, State, TaskOutcome, Terms,
    blob::{Blob, LARGEST_KEPT_BYTES, LONGEST_INLINE_BYTES},
};

const SIGKILL: i32 = 9;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn bytes_of_any_length_arrive_whole_in_both_directions() {
    let shop = Workshop::new(2);
    for length in
        [0, 1, 4095, LONGEST_INLINE_BYTES - 1, LONGEST_INLINE_BYTES, LONGEST_INLINE_BYTES + 1, 1 << 20, (3 << 20) + 1]
    {
        assert_eq!(shop.run("echo", &pattern(length)), pattern(length), "{length} bytes");
    }
    shop.close();
}

const TOO_LARGE_TO_BE_KEPT: usize = LARGEST_KEPT_BYTES + 1;

/// How many slots the one worker of a pool has that are too large to be kept.
fn large_slots(shop: &Workshop) -> usize {
    shop.slots().into_iter().filter(|size| *size > LARGEST_KEPT_BYTES).count()
}

#[test]
fn a_payload_that_is_too_large_to_be_kept_arrives_and_its_memory_goes() {
    let shop = Workshop::new(1);
    let large = pattern(TOO_LARGE_TO_BE_KEPT);
    assert!(shop.run("echo", &large) == large, "arrives whole");
    assert_eq!(large_slots(&shop), 0);
    shop.close();
}

#[test]
fn a_worker_does_not_keep_a_large_payload_of_a_task_that_was_taken_back() {
    let shop = Workshop::new(1);
    (0..50u8).for_each(|byte| assert_eq!(shop.run("echo", &[byte]), [byte]));
    let running = shop.submit_meeting(PLAIN);
    let ahead = shop.submit("echo", &vec![1; TOO_LARGE_TO_BE_KEPT], PLAIN);
    let meeting = shop.meet(&running);
    assert!(shop.pool.cancel(&ahead, false));
    meeting.say("return");
    assert_eq!(shop.returned(&running), b"met");
    // Its memory comes after that of the other, so the worker has read of both.
    assert_eq!(shop.run("echo", &pattern(1 << 20)), pattern(1 << 20));
    assert_eq!(large_slots(&shop), 0);
    shop.close();
}

#[test]
fn many_tasks_each_get_their_own_answer() {
    let shop = Workshop::new(3);
    let sent: Vec<Vec<u8>> = (0..2000u32).map(|number| number.to_le_bytes().repeat(1 + number as usize % 40)).collect();
    let tasks: Vec<_> = sent.iter().map(|bytes| shop.submit("echo", bytes, PLAIN)).collect();
    for (bytes, task) in sent.iter().zip(&tasks) {
        assert_eq!(&shop.returned(task), bytes);
    }
    shop.close();
}

#[test]
fn results_that_nobody_reads_make_a_worker_wait_and_none_is_lost() {
    let shop = Workshop::new(1);
    // After some short tasks, all that follow lie before the worker at once, and nothing is read until we wait.
    (0..50u8).for_each(|byte| assert_eq!(shop.run("echo", &[byte]), [byte]));
    let tasks: Vec<_> = (0..150u8).map(|byte| shop.submit("grow", &[byte], PLAIN)).collect();
    // Together several times what the ring holds.
    for (byte, task) in (0..150u8).zip(&tasks).rev() {
        assert_eq!(shop.returned(task), [byte; LONGEST_INLINE_BYTES]);
    }
    shop.close();
}

#[test]
fn a_function_with_a_number_is_sent_to_a_worker_once_and_to_its_replacement_again() {
    let shop = Workshop::new(1);
    let function = std::sync::Arc::new(Function { number: 7, name: String::new(), definition: shop.blob(b"process") });
    let run = || {
        let task = shop.pool.submit(function.clone(), Blob::Inline(Vec::new()), PLAIN, false).unwrap();
        shop.returned(&task)
    };
    let first = run();
    assert_eq!(run(), first);
    let dying = shop.submit_meeting(PLAIN);
    shop.meet(&dying).say("die");
    shop.outcome(&dying);
    assert_ne!(run(), first);
    shop.close();
}

#[test]
fn what_a_task_raises_is_told_and_tried_again_as_often_as_its_terms_say() {
    let shop = Workshop::new(1);
    let raising = shop.submit("raise", b"why", PLAIN);
    assert!(matches!(shop.outcome(&raising), TaskOutcome::Raised(why) if support::read(&why) == b"why"));
    let stubborn = shop.submit_meeting(Terms { timeout: None, retries: 1, key: None });
    shop.meet(&stubborn).say("raise");
    shop.meet(&stubborn).say("return");
    assert_eq!(shop.returned(&stubborn), b"met");
    shop.close();
}

#[test]
fn an_idle_worker_that_dies_takes_nothing_with_it() {
    let shop = Workshop::new(1);
    let process = String::from_utf8(shop.run("process", b"")).unwrap();
    let process = rustix::process::Pid::from_raw(process.parse().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    assert_eq!(shop.run("echo", b"another"), b"another");
    shop.close();
}

#[test]
fn a_worker_that_dies_at_its_task_fails_that_and_says_how() {
    let shop = Workshop::new(1);
    for (order, expected) in [("die", Death::Signal(SIGKILL)), ("exit", Death::Exit(3))] {
        let task = shop.submit_meeting(PLAIN);
        shop.meet(&task).say(order);
        match shop.outcome(&task) {
            TaskOutcome::Died { death, deaths: 1, .. } => assert_eq!(death, expected),
            other => panic!("{other:?}"),
        }
    }
    shop.close();
}

#[test]
fn what_a_dead_worker_had_read_ahead_is_run_by_another() {
    let shop = Workshop::new(1);
    // After some short tasks, more of them lie ahead.
    (0..50u8).for_each(|byte| assert_eq!(shop.run("echo", &[byte]), [byte]));
    let dying = shop.submit_meeting(PLAIN);
    let behind: Vec<_> = (0..20u8).map(|byte| shop.submit("echo", &[byte], PLAIN)).collect();
    let meeting = shop.meet(&dying);
    assert!(behind.iter().all(|task| shop.pool.state(task) == State::Waiting));
    meeting.say("die");
    assert!(matches!(shop.outcome(&dying), TaskOutcome::Died { .. }));
    for (byte, task) in (0..20u8).zip(&behind) {
        assert_eq!(shop.returned(task), [byte]);
    }
    shop.close();
}

#[test]
fn a_result_that_was_published_counts_though_its_worker_died_right_after() {
    let shop = Workshop::new(1);
    let task = shop.submit_meeting(PLAIN);
    shop.meet(&task).say("publish and die");
    assert_eq!(shop.returned(&task), b"last");
    assert_eq!(shop.run("echo", b"on"), b"on");
    shop.close();
}

#[test]
fn a_worker_that_dies_while_it_writes_its_result_has_not_ended_its_task() {
    let shop = Workshop::new(1);
    let task = shop.submit_meeting(PLAIN);
    shop.meet(&task).say("publish half and die");
    assert!(matches!(shop.outcome(&task), TaskOutcome::Died { death: Death::Signal(SIGKILL), .. }));
    assert_eq!(shop.run("echo", &pattern(1 << 20)), pattern(1 << 20));
    shop.close();
}

#[test]
fn a_task_that_kills_its_workers_is_given_up_after_the_third() {
    let shop = Workshop::new(1);
    let task = shop.submit_meeting(Terms { timeout: None, retries: 10, key: None });
    (0..3).for_each(|_| shop.meet(&task).say("die"));
    assert!(matches!(shop.outcome(&task), TaskOutcome::Died { deaths: 3, .. }));
    shop.close();
}

#[test]
fn a_worker_that_scribbles_over_the_shared_memory_is_killed_and_hurts_nobody_else() {
    let shop = Workshop::new(2);
    let mad = shop.submit_meeting(PLAIN);
    let sane = shop.submit_meeting(PLAIN);
    let (first, second) = (shop.meet(&mad), shop.meet(&sane));
    first.say("scribble");
    // Which of the two has met first is not promised.
    let mad = if matches!(finished(&shop, &mad, &sane), State::Ended) { (&mad, &sane) } else { (&sane, &mad) };
    assert!(matches!(shop.outcome(mad.0), TaskOutcome::Died { death: Death::Signal(SIGKILL), .. }));
    assert_eq!(shop.pool.state(mad.1), State::Running);
    second.say("return");
    assert_eq!(shop.returned(mad.1), b"met");
    shop.close();
}

/// The state of the first of two tasks when one of them has ended.
fn finished(shop: &Workshop, one: &unisono_workers::Task, other: &unisono_workers::Task) -> State {
    while !one.has_ended() && !other.has_ended() {
        shop.pool.wait(Awaited::End(one), None);
    }
    shop.pool.state(one)
}

#[test]
fn a_worker_that_talks_nonsense_is_killed_and_the_pool_can_be_closed() {
    let shop = Workshop::new(1);
    let task = shop.submit_meeting(PLAIN);
    shop.meet(&task).say("talk nonsense");
    assert!(matches!(shop.outcome(&task), TaskOutcome::Died { death: Death::Signal(SIGKILL), .. }));
    assert_eq!(shop.run("echo", b"on"), b"on");
    shop.close();
}

#[test]
fn a_task_past_its_deadline_is_killed_and_what_lies_behind_it_runs() {
    let shop = Workshop::new(1);
    for retries in 0..2 {
        // By a worker that is ready: before one that is still starting, its time may be over without its having begun.
        (0..50u8).for_each(|byte| assert_eq!(shop.run("echo", &[byte]), [byte]));
        let timeout = Duration::from_millis(20);
        let late = shop.submit_meeting(Terms { timeout: Some(timeout), retries, key: None });
        let behind = shop.submit("echo", b"behind", PLAIN);
        let outcome = shop.outcome(&late);
        let (TaskOutcome::TimedOut(after) | TaskOutcome::NotBegun(after)) = outcome else {
            panic!("not late: {outcome:?}")
        };
        assert_eq!(after, timeout);
        // A repeat lies before the worker that takes the place of the one that was killed.
        assert!(retries > 0 || matches!(outcome, TaskOutcome::TimedOut(_)), "{outcome:?}");
        assert_eq!(shop.returned(&behind), b"behind");
    }
    shop.close();
}

#[test]
fn a_running_task_is_cancelled_by_killing_its_worker_and_what_lay_behind_it_runs() {
    let shop = Workshop::new(1);
    (0..50u8).for_each(|byte| assert_eq!(shop.run("echo", &[byte]), [byte]));
    let task = shop.submit_meeting(Terms { timeout: None, retries: 5, key: None });
    let behind = shop.submit("echo", b"behind", PLAIN);
    let meeting = shop.meet(&task);
    assert!(!shop.pool.cancel(&task, false), "it has begun");
    assert!(shop.pool.cancel(&task, true));
    assert!(matches!(shop.outcome(&task), TaskOutcome::Cancelled));
    assert_eq!(shop.returned(&behind), b"behind");
    meeting.wait_for_its_end(&shop, &task);
    shop.close();
}

#[test]
fn a_waiting_task_that_is_cancelled_never_runs() {
    let shop = Workshop::new(1);
    let running = shop.submit_meeting(PLAIN);
    let waiting = shop.submit_meeting(PLAIN);
    let meeting = shop.meet(&running);
    assert!(shop.pool.cancel(&waiting, false) && waiting.is_cancelled());
    meeting.say("return");
    assert_eq!(shop.returned(&running), b"met");
    assert_eq!(shop.run("echo", b"on"), b"on");
    shop.close();
}

#[test]
fn the_last_words_of_a_worker_are_passed_on_and_kept_for_its_task() {
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let options = PoolOptions { workers: 1, method: 0, tasks_per_worker: None, pending: None, per_key: 1 };
    let shop = Workshop::with(options, theirs.into());
    let task = shop.submit("say", b"out of luck", PLAIN);
    match shop.outcome(&task) {
        TaskOutcome::Died { death: Death::Exit(1), stderr_tail, .. } => assert_eq!(stderr_tail, b"out of luck\n"),
        other => panic!("{other:?}"),
    }
    shop.close();
    let mut passed_on = String::new();
    ours.read_to_string(&mut passed_on).unwrap();
    assert_eq!(passed_on, "out of luck\n");
}

#[test]
fn workers_are_replaced_after_so_many_tasks() {
    let options = PoolOptions { workers: 1, method: 0, tasks_per_worker: Some(2), pending: None, per_key: 1 };
    let shop = Workshop::with(options, devnull());
    let mut processes: Vec<_> = (0..6).map(|_| shop.run("process", b"")).collect();
    assert!(processes.chunks(2).all(|pair| pair[0] == pair[1]), "{processes:?}");
    processes.dedup();
    assert_eq!(processes.len(), 3);
    shop.close();
}

#[test]
fn a_worker_that_cannot_work_breaks_the_pool_with_its_reason() {
    let shop = Workshop::new(1);
    let task = shop.submit("unfit", b"", PLAIN);
    let waiting = shop.submit("echo", b"", PLAIN);
    assert!(matches!(shop.outcome(&waiting), TaskOutcome::Refused(why) if why == "not today"));
    assert_eq!(shop.pool.refuses(), Some(Some("not today".into())));
    shop.pool.close(true, true);
    assert!(matches!(shop.outcome(&task), TaskOutcome::Cancelled));
    shop.close();
}
