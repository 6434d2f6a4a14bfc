//! The driver on a paused clock: jobs that end, fail, hang, panic and hold on; and what a batch does with them.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    task::LocalSet,
    time::{advance, sleep},
};
use unisono_batch::{
    Attempt, Batch, Context, Decided, Halt, Job, Monitor, Offer, Pull, Settings, Sink, Source, Verdict, drive,
};
use unisono_core::{CancelReason, CancelToken, Limits, OutcomeKind, RetryPolicy, Times, clock};

/// A job that does what a function says.
struct Does<F>(F);

type Log = Rc<RefCell<Vec<(u32, OutcomeKind, u16, &'static str)>>>;

impl<F, R> Job for Does<F>
where
    F: Fn(u32, Context) -> R,
    R: Future<Output = Attempt<(&'static str, u32), &'static str>>,
{
    type Item = (&'static str, u32);
    type Value = &'static str;

    async fn attempt(&self, item: Rc<Self::Item>, context: Context) -> Attempt<Self::Item, Self::Value> {
        (self.0)(item.1, context).await
    }

    fn halted(&self, _: &Self::Item, halt: Halt, _: Option<Self::Value>) -> (Verdict, Self::Value) {
        match halt {
            Halt::AttemptTimeout { .. } => {
                (Verdict::Retry { otherwise: OutcomeKind::TimedOut, not_before: None }, "timeout")
            }
            Halt::Deadline { .. } => (Verdict::Final(OutcomeKind::TimedOut), "deadline"),
            Halt::Cancelled { started: true, .. } => (Verdict::Final(OutcomeKind::Cancelled), "stopped"),
            Halt::Cancelled { .. } => (Verdict::Final(OutcomeKind::Cancelled), "never started"),
            Halt::RateLimited { .. } => (Verdict::Final(OutcomeKind::Failed), "rate limited"),
            Halt::Away { .. } => (Verdict::Final(OutcomeKind::Failed), "away"),
            Halt::RetryBudget { .. } => (Verdict::Final(OutcomeKind::Failed), "retry budget"),
            Halt::Panicked { .. } => (Verdict::Final(OutcomeKind::Failed), "panicked"),
        }
    }
}

struct Given(std::vec::IntoIter<(&'static str, u32)>);

impl Source for Given {
    type Item = (&'static str, u32);

    fn poll_pull(&mut self, _: &mut TaskContext<'_>, max: usize, into: &mut Vec<Offer<Self::Item>>) -> Poll<Pull> {
        into.extend(self.0.by_ref().take(max).map(|item| Offer { key: item.0.into(), item }));
        Poll::Ready(if into.is_empty() { Pull::End } else { Pull::More })
    }
}

struct Collect(Log);

impl<J: Job<Item = (&'static str, u32), Value = &'static str>> Sink<J> for Collect {
    fn deliver(&mut self, decided: &mut Vec<Decided<J>>) {
        self.0.borrow_mut().extend(decided.drain(..).map(|one| (one.item.1, one.kind, one.attempts, one.value)));
    }

    fn poll_credit(&mut self, _: &mut TaskContext<'_>) -> usize {
        usize::MAX
    }
}

fn settings(limit: u32) -> Settings {
    Settings {
        limits: Limits::new(limit.try_into().ok(), None),
        times: Times::default(),
        retry: RetryPolicy::default(),
        ordered_by_key: false,
    }
}

fn ok() -> Attempt<(&'static str, u32), &'static str> {
    Attempt::new(Verdict::Final(OutcomeKind::Ok), "done")
}

fn again() -> Attempt<(&'static str, u32), &'static str> {
    Attempt::new(Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None }, "failed")
}

fn throttled(until: Option<Instant>) -> Attempt<(&'static str, u32), &'static str> {
    Attempt::new(Verdict::Throttled { until, quota: true }, "refused")
}

fn items(key: &'static str, count: u32) -> Vec<(&'static str, u32)> {
    (0..count).map(|number| (key, number)).collect()
}

/// Runs a batch; returns its outcomes in the order in which they came, and how many attempts could not be stopped.
async fn run<F, R>(
    items: Vec<(&'static str, u32)>,
    settings: Settings,
    cancel: CancelToken,
    does: F,
) -> (Vec<(u32, OutcomeKind, u16, &'static str)>, u32)
where
    F: Fn(u32, Context) -> R,
    R: Future<Output = Attempt<(&'static str, u32), &'static str>>,
{
    let log = Log::default();
    let (source, sink) = (Given(items.into_iter()), Collect(log.clone()));
    let finished = drive(Does(does), Batch { settings, source, sink, cancel, monitor: Monitor::new() }).await;
    (log.take(), finished.abandoned)
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_day_runs_in_no_time() {
    let (begun, real) = (clock::now(), Instant::now());
    let (log, _) = run(items("k", 24 * 60), settings(1), CancelToken::new(), |_, _| async {
        sleep(Duration::from_secs(20)).await;
        sleep(Duration::from_secs(5)).await;
        ok()
    })
    .await;
    assert_eq!(log.len(), 24 * 60);
    assert_eq!((clock::now() - begun).as_secs(), 24 * 60 * 25);
    assert!(real.elapsed() < Duration::from_secs(60), "virtual time costs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_batch_owns_what_it_is_made_of_and_so_outlives_the_function_that_began_it() {
    fn begin(log: &Log) -> impl Future<Output = u32> + 'static + use<> {
        let does = |number, _| async move {
            sleep(Duration::from_secs(u64::from(number))).await;
            ok()
        };
        let batch = Batch {
            settings: settings(3),
            source: Given(items("k", 3).into_iter()),
            sink: Collect(log.clone()),
            cancel: CancelToken::new(),
            monitor: Monitor::new(),
        };
        drive(Does(does), batch).map(|finished| finished.abandoned)
    }
    let (local, log) = (LocalSet::new(), Log::default());
    let batch = local.spawn_local(begin(&log));
    assert_eq!(local.run_until(batch).await.expect("nothing panics"), 0);
    assert_eq!(log.take().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_seen_in_flight_from_its_first_poll_on_however_long_that_lasts() {
    let monitor = Monitor::new();
    let seen = RefCell::new(Vec::new());
    let does = |_, _| async {
        // Nothing is waited for, as when a socket takes a large upload as fast as it is written.
        seen.borrow_mut().push(monitor.numbers().in_flight);
        ok()
    };
    let (source, sink) = (Given(items("k", 3).into_iter()), Collect(Log::default()));
    let batch = Batch { settings: settings(2), source, sink, cancel: CancelToken::new(), monitor: monitor.clone() };
    drive(Does(does), batch).await;
    assert_eq!(seen.take()[0], 2);
    assert_eq!(monitor.numbers().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn mistake_1_who_waits_to_try_again_holds_no_slot() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let seen = order.clone();
    let (log, _) = run(vec![("a", 0), ("a", 1), ("b", 2)], settings(1), CancelToken::new(), move |number, context| {
        let seen = seen.clone();
        async move {
            seen.borrow_mut().push((number, context.attempt()));
            if (number, context.attempt()) == (0, 1) { again() } else { ok() }
        }
    })
    .await;
    assert!(log.iter().all(|(_, kind, ..)| *kind == OutcomeKind::Ok));
    assert_eq!(*order.borrow().last().unwrap(), (0, 2), "the others went first: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn mistake_2_an_item_whose_last_answer_is_a_refusal_still_has_an_outcome() {
    let refused_for_ever = |_, _| async { throttled(None) };
    let (log, _) = run(items("k", 30), settings(4), CancelToken::new(), refused_for_ever).await;
    assert_eq!(log.len(), 30);
    assert!(log.iter().all(|(_, kind, _, value)| (*kind, *value) == (OutcomeKind::Failed, "rate limited") || *value == "deadline"), "{log:?}");
    let far = clock::now() + Duration::from_secs(3600);
    let (log, _) =
        run(items("k", 30), settings(4), CancelToken::new(), |_, _| async move { throttled(Some(far)) }).await;
    assert_eq!(log.iter().filter(|(.., value)| *value == "rate limited").count(), 30);
}

#[tokio::test(start_paused = true)]
async fn mistake_3_a_wait_that_nobody_can_read_is_a_backoff() {
    // What is no number or date never gets as far as the engine: it comes as `until: None` (see `throttle.rs` of
    // unisono-http).
    let begun = clock::now();
    let (log, _) = run(items("k", 1), settings(1), CancelToken::new(), |_, context| async move {
        if context.attempt() == 1 { throttled(None) } else { ok() }
    })
    .await;
    assert_eq!(log[0].1, OutcomeKind::Ok);
    assert!(clock::now() - begun <= RetryPolicy::default().backoff.base + Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_quota_is_used_to_95_percent_with_under_2_percent_refused() {
    for quota in [20u32, 200] {
        let begun = clock::now();
        let (window, used) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(0u32)));
        let (accepted, refused) = (Rc::new(Cell::new(0u32)), Rc::new(Cell::new(0u32)));
        let (counts, refusals) = (accepted.clone(), refused.clone());
        let cancel = CancelToken::new();
        let mut settings = settings(50);
        let length = Duration::from_secs(400);
        settings.times.stop_after = Some(length);
        run(items("k", quota * 500), settings, cancel, move |_, _| {
            let (window, used, counts, refusals) = (window.clone(), used.clone(), counts.clone(), refusals.clone());
            async move {
                sleep(Duration::from_millis(5)).await;
                let second = (clock::now() - begun).as_secs();
                if second != window.get() {
                    window.set(second);
                    used.set(0);
                }
                if used.get() < quota {
                    used.set(used.get() + 1);
                    counts.set(counts.get() + 1);
                    return ok();
                }
                refusals.set(refusals.get() + 1);
                throttled(Some(clock::now() + Duration::from_secs(1)))
            }
        })
        .await;
        let share = f64::from(accepted.get()) / (f64::from(quota) * length.as_secs_f64());
        assert!(share >= 0.95, "quota {quota}: used {share:.3}");
        let wasted = f64::from(refused.get()) / f64::from(accepted.get() + refused.get());
        assert!(wasted < 0.02, "quota {quota}: {wasted:.4} refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_outcome_of_its_item_and_of_no_other() {
    let (log, _) = run(items("k", 20), settings(3), CancelToken::new(), |number, _| async move {
        assert_ne!(number, 7, "this one panics");
        ok()
    })
    .await;
    assert_eq!(log.len(), 20);
    assert_eq!(log.iter().find(|(number, ..)| *number == 7).unwrap().3, "panicked");
    assert_eq!(log.iter().filter(|(_, kind, ..)| *kind == OutcomeKind::Ok).count(), 19);
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_item_still_counts() {
    let running = Rc::new(Cell::new(0));
    let most = Rc::new(Cell::new(0));
    let (now, peak) = (running.clone(), most.clone());
    let local = LocalSet::new();
    let (log, abandoned) = local
        .run_until(run(items("k", 10), settings(2), CancelToken::new(), move |_, context| {
            let (now, peak) = (now.clone(), peak.clone());
            async move {
                now.set(now.get() + 1);
                peak.set(peak.get().max(now.get()));
                let hold = context.hold();
                tokio::task::spawn_local(async move {
                    sleep(Duration::from_secs(1)).await;
                    now.set(now.get() - 1);
                    drop(hold);
                });
                ok()
            }
        }))
        .await;
    assert_eq!((log.len(), most.get()), (10, 2));
    assert_eq!(abandoned, 2, "the last two still run when all is decided");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_stopped_before_it_began_counts_for_nothing() {
    let (log, _) = run(items("k", 1), settings(1), CancelToken::new(), |_, context| async move {
        match context.attempt() {
            1 => again(),
            _ => Attempt::unbegun(Verdict::Final(OutcomeKind::Cancelled), "never started"),
        }
    })
    .await;
    assert_eq!(log, [(0, OutcomeKind::Cancelled, 1, "never started")]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_stopped_while_it_waits_for_what_it_needs_counts_for_nothing() {
    let cancel = CancelToken::new();
    let stop = cancel.clone();
    let (log, _) = run(items("k", 2), settings(2), cancel, move |number, context| {
        let stop = stop.clone();
        async move {
            context.set_prepares(true);
            if number == 1 {
                context.set_prepares(false);
                stop.abort(CancelReason::Interrupt);
            }
            std::future::pending().await
        }
    })
    .await;
    let cancelled = OutcomeKind::Cancelled;
    assert_eq!(log, [(0, cancelled, 0, "never started"), (1, cancelled, 1, "stopped")]);
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_is_an_item_of_its_own() {
    let (log, _) = run(items("k", 1), settings(1), CancelToken::new(), |number, _| async move {
        Attempt { then: (number < 4).then(|| Box::new(("k", number + 1))), ..ok() }
    })
    .await;
    assert_eq!(log.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_finish_what_runs_and_accounts_for_the_rest() {
    let cancel = CancelToken::new();
    let stop = cancel.clone();
    let (log, _) = run(items("k", 5000), settings(4), cancel, move |number, _| {
        let stop = stop.clone();
        async move {
            sleep(Duration::from_secs(1)).await;
            if number == 9 {
                stop.drain(CancelReason::Interrupt);
                sleep(Duration::from_secs(1)).await;
            }
            ok()
        }
    })
    .await;
    let done = log.iter().filter(|(_, kind, ..)| *kind == OutcomeKind::Ok).count();
    assert_eq!(done, 12, "three rounds of four");
    assert!(log.iter().filter(|(_, kind, ..)| *kind != OutcomeKind::Ok).all(|(.., value)| *value == "never started"));
    let mut numbers: Vec<u32> = log.iter().map(|(number, ..)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), log.len(), "one outcome each");
}

/// Stops in the moment in which an attempt ends; returns what became of it.
async fn stopped_by_it(retry: RetryPolicy, stop: fn(&CancelToken), verdict: Verdict) -> (OutcomeKind, &'static str) {
    let cancel = CancelToken::new();
    let from_inside = cancel.clone();
    let (log, _) = run(items("k", 1), Settings { retry, ..settings(1) }, cancel, move |_, _| {
        stop(&from_inside);
        async move { Attempt::new(verdict, "failed") }
    })
    .await;
    let [(_, kind, 1, value)] = log[..] else { panic!("one attempt, one outcome: {log:?}") };
    (kind, value)
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_the_moment_of_a_stop_has_failed_unless_the_stop_takes_its_repeats() {
    let stops: [fn(&CancelToken); 2] =
        [|token| token.drain(CancelReason::Interrupt), |token| token.abort(CancelReason::Interrupt)];
    let stopped = (OutcomeKind::Cancelled, "stopped");
    for stop in stops {
        for kind in [OutcomeKind::Failed, OutcomeKind::TimedOut, OutcomeKind::Ambiguous] {
            // Of the second, its peer is not known to be away.
            for verdict in [Verdict::Retry { otherwise: kind, not_before: None }, Verdict::Unmet { otherwise: kind }] {
                assert_eq!(stopped_by_it(RetryPolicy::never(), stop, verdict).await, (kind, "failed"));
                assert_eq!(stopped_by_it(RetryPolicy::default(), stop, verdict).await, stopped);
            }
        }
        let throttled = Verdict::Throttled { until: None, quota: false };
        assert_eq!(stopped_by_it(RetryPolicy::never(), stop, throttled).await, stopped, "it says nothing of it");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_within_the_grace_period_is_stopped() {
    let cancel = CancelToken::new();
    let stop = cancel.clone();
    let begun = clock::now();
    let (log, _) = run(items("k", 2), settings(2), cancel, move |_, _| {
        let stop = stop.clone();
        async move {
            stop.drain(CancelReason::Terminate);
            std::future::pending::<()>().await;
            ok()
        }
    })
    .await;
    assert_eq!(log.iter().filter(|(.., value)| *value == "stopped").count(), log.len());
    assert_eq!(clock::now() - begun, Times::default().grace);
}

/// The reactor stands: time passes while nothing of this thread is polled, as when it is stopped by a signal.
fn stand(time: Duration) {
    let mut passing = Box::pin(advance(time));
    // What it does at once is to move the clock; the rest of it only yields.
    let _ = passing.as_mut().poll(&mut TaskContext::from_waker(std::task::Waker::noop()));
}

/// Sockets that an attempt reads, and their other ends.
fn sockets(count: usize) -> (Vec<RefCell<Option<UnixStream>>>, Vec<std::os::unix::net::UnixStream>) {
    let pair = |_| {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (RefCell::new(Some(UnixStream::from_std(near).unwrap())), far)
    };
    (0..count).map(pair).unzip()
}

/// Items that read from sockets; the last one writes to some of them, and then the reactor stands.
async fn stood(written: usize, bytes: usize, times: Times) -> Vec<(u32, OutcomeKind, u16, &'static str)> {
    const COUNT: usize = 20;
    let (near, far) = sockets(COUNT);
    let far = RefCell::new(far);
    let (near, far) = (Rc::new(near), Rc::new(far));
    let settings = Settings { times, retry: RetryPolicy::never(), ..settings(COUNT as u32 + 1) };
    run(items("k", COUNT as u32 + 1), settings, CancelToken::new(), move |number, _| {
        let (near, far) = (near.clone(), far.clone());
        async move {
            let Some(near) = near.get(number as usize) else {
                // The others wait by now.
                sleep(Duration::from_millis(100)).await;
                for stream in &mut far.borrow_mut()[..written] {
                    std::io::Write::write_all(stream, &vec![b'x'; bytes]).unwrap();
                }
                stand(Duration::from_secs(10));
                return ok();
            };
            let mut stream = near.borrow_mut().take().unwrap();
            let mut piece = [0; 512];
            let mut rest = bytes;
            while rest > 0 {
                rest -= stream.read(&mut piece).await.unwrap();
                // As readers of bodies do, so that no other attempt waits.
                tokio::task::yield_now().await;
            }
            ok()
        }
    })
    .await
    .0
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_the_reactor_stood_is_not_late() {
    let second = Some(Duration::from_secs(1));
    for times in [
        Times { timeout: second, deadline: None, ..Times::default() },
        Times { timeout: None, deadline: second, ..Times::default() },
        Times { stop_after: second, grace: Duration::from_secs(1), timeout: None, deadline: None, ..Times::default() },
    ] {
        // One read, and as many as a socket's buffer may need.
        for bytes in [1, 16 << 10] {
            let log = stood(20, bytes, times).await;
            assert_eq!(log.len(), 21);
            assert!(log.iter().all(|(_, kind, ..)| *kind == OutcomeKind::Ok), "{times:?}, {bytes}: {log:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_answer_when_the_reactor_has_been_asked_is_late() {
    let begun = clock::now();
    let log = stood(7, 1, Times { timeout: Some(Duration::from_secs(1)), deadline: None, ..Times::default() }).await;
    let late: Vec<u32> = log.iter().filter(|(.., value)| *value == "timeout").map(|(number, ..)| *number).collect();
    assert_eq!((log.len(), late.len()), (21, 13), "{log:?}");
    assert!(late.iter().all(|number| (7..20).contains(number)), "{late:?}");
    // As long as it stood, but not longer than a second, to make up for it.
    assert!(clock::now() - begun < Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn who_never_waits_is_late_all_the_same() {
    let settings = Settings {
        times: Times { timeout: Some(Duration::from_secs(1)), deadline: None, ..Times::default() },
        retry: RetryPolicy::never(),
        ..settings(2)
    };
    let (log, _) = run(items("k", 2), settings, CancelToken::new(), |number, _| async move {
        loop {
            // Busy for ever, each in its own way, while time passes.
            stand(Duration::from_micros(10));
            if number == 0 {
                tokio::task::yield_now().await;
            } else {
                let mut yielded = false;
                std::future::poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        }
    })
    .await;
    assert_eq!(log.iter().map(|(.., value)| *value).collect::<Vec<_>>(), ["timeout"; 2]);
}

#[tokio::test(start_paused = true)]
async fn without_a_standstill_a_time_limit_is_exact() {
    let begun = clock::now();
    let times = Times { timeout: Some(Duration::from_secs(3)), deadline: None, ..Times::default() };
    let settings = Settings { times, retry: RetryPolicy::never(), ..settings(5) };
    let (log, _) = run(items("k", 5), settings, CancelToken::new(), |_, _| std::future::pending()).await;
    assert!(log.iter().all(|(.., value)| *value == "timeout"));
    assert!(clock::now() - begun <= Duration::from_millis(3005));
}

#[tokio::test(start_paused = true)]
async fn more_attempts_than_are_polled_in_a_turn_all_have_theirs() {
    let (log, _) = run(items("k", 3000), settings(1500), CancelToken::new(), |_, _| async {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        ok()
    })
    .await;
    assert_eq!(log.len(), 3000);
}
