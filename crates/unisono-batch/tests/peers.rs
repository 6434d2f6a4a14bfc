//! Peers that go away, come back, or are asked for too much: the engine with its driver, in virtual time.
//!
//! A [`Host`] plays a server: it is down for some time, bears so much at once or so many per second, and keeps account
//! of what it met. What is checked is what users see: every row done, nothing hit harder than it may be.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use unisono_batch::{
    Attempt, Batch, Context, Decided, Halt, Job, KeyNews, Monitor, Offer, Pull, Settings, Sink, Source, Verdict, drive,
};
use unisono_core::{CancelToken, ErrorKind, Limits, OutcomeKind, Peer, RetryPolicy, Times, clock};

/// What became of an attempt, and what it says of the host.
#[derive(Debug, Clone, Copy)]
struct Ended {
    error: Option<ErrorKind>,
    peer: Peer,
}

/// A host as a server is one.
struct Host {
    name: &'static str,
    /// It does not listen in these times, counted from the start.
    down: Vec<(Duration, Duration)>,
    /// It refuses everything in these times.
    busy: Vec<(Duration, Duration)>,
    /// What it takes to answer.
    takes: Duration,
    /// It refuses what comes sooner than this after the last that it took.
    every: Duration,
    /// It refuses what it would have to do beside so much else.
    bears: usize,
    /// Of these rows it closes the connection, as often as they are sent.
    closes: Vec<u32>,
    /// In these times a proxy before it takes connections and closes them.
    hollow: Vec<(Duration, Duration)>,
    /// What it is asked in these times it never answers.
    silent: Vec<(Duration, Duration)>,
    /// These rows neither, whenever they are sent.
    ignores: fn(u32) -> bool,
    /// What it is sent must not be sent twice.
    is_posted: bool,
    inside: Cell<usize>,
    last: Cell<Option<Instant>>,
    starts: RefCell<Vec<Instant>>,
    /// Which rows it was sent.
    sent: RefCell<Vec<u32>>,
    refused: Cell<u32>,
}

impl Host {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            down: Vec::new(),
            busy: Vec::new(),
            takes: ms(30),
            every: Duration::ZERO,
            bears: usize::MAX,
            closes: Vec::new(),
            hollow: Vec::new(),
            silent: Vec::new(),
            ignores: |_| false,
            is_posted: false,
            inside: Cell::new(0),
            last: Cell::new(None),
            starts: RefCell::new(Vec::new()),
            sent: RefCell::new(Vec::new()),
            refused: Cell::new(0),
        }
    }

    fn is_down(&self, begun: Instant) -> bool {
        let at = clock::now() - begun;
        self.down.iter().any(|(from, to)| at >= *from && at < *to)
    }

    async fn ask(&self, begun: Instant, row: u32) -> (Verdict, Ended) {
        let now = clock::now();
        self.starts.borrow_mut().push(now);
        self.sent.borrow_mut().push(row);
        let failed = |verdict, error, peer| (verdict, Ended { error: Some(error), peer });
        let otherwise = OutcomeKind::Failed;
        if self.is_down(begun) {
            return failed(Verdict::Unmet { otherwise }, ErrorKind::Connect, Peer::Away);
        }
        let at = now - begun;
        if (self.ignores)(row) || self.silent.iter().any(|(from, to)| at >= *from && at < *to) {
            return std::future::pending().await;
        }
        if self.closes.contains(&row) || self.hollow.iter().any(|(from, to)| at >= *from && at < *to) {
            sleep(ms(1)).await;
            return failed(Verdict::Retry { otherwise, not_before: None }, ErrorKind::Closed, Peer::Away);
        }
        let at = now - begun;
        let is_busy = self.busy.iter().any(|(from, to)| at >= *from && at < *to);
        if is_busy {
            sleep(ms(1)).await;
        }
        let too_soon = self.last.get().is_some_and(|last| now < last + self.every);
        if is_busy || too_soon || self.inside.get() >= self.bears {
            self.refused.set(self.refused.get() + 1);
            return failed(Verdict::Retry { otherwise, not_before: None }, ErrorKind::Status, Peer::Overloaded);
        }
        self.last.set(Some(now));
        self.inside.set(self.inside.get() + 1);
        sleep(self.takes).await;
        self.inside.set(self.inside.get() - 1);
        match self.is_down(begun) {
            true => failed(Verdict::Retry { otherwise, not_before: None }, ErrorKind::Closed, Peer::Away),
            false => (Verdict::Final(OutcomeKind::Ok), Ended { error: None, peer: Peer::Fine }),
        }
    }
}

/// Asks the hosts by number.
struct Asks {
    hosts: Vec<Host>,
    begun: Instant,
    news: RefCell<Vec<(String, KeyNews)>>,
}

impl Job for Asks {
    type Item = (usize, u32);
    type Value = Ended;

    async fn attempt(&self, item: Rc<Self::Item>, _: Context) -> Attempt<Self::Item, Ended> {
        let (verdict, value) = self.hosts[item.0].ask(self.begun, item.1).await;
        Attempt::new(verdict, value)
    }

    fn halted(&self, item: &Self::Item, halt: Halt, _: Option<Ended>) -> (Verdict, Ended) {
        let silent = |error| Ended { error: Some(error), peer: Peer::Silent };
        let (kind, error) = match halt {
            Halt::AttemptTimeout { .. } if self.hosts[item.0].is_posted => {
                return (Verdict::Final(OutcomeKind::Ambiguous), silent(ErrorKind::Timeout));
            }
            Halt::AttemptTimeout { .. } => {
                let verdict = Verdict::Retry { otherwise: OutcomeKind::TimedOut, not_before: None };
                return (verdict, silent(ErrorKind::Timeout));
            }
            Halt::Deadline { .. } => {
                return (Verdict::Final(OutcomeKind::TimedOut), silent(ErrorKind::Deadline));
            }
            Halt::Away { .. } => (OutcomeKind::Failed, ErrorKind::Away),
            Halt::RetryBudget { .. } => (OutcomeKind::Failed, ErrorKind::RetryBudget),
            other => panic!("{other:?}"),
        };
        (Verdict::Final(kind), Ended { error: Some(error), peer: Peer::Unknown })
    }

    fn peer(&self, value: &Ended) -> Peer {
        value.peer
    }

    fn peer_news(&self, key: &str, news: &KeyNews) {
        self.news.borrow_mut().push((key.to_owned(), news.clone()));
    }
}

struct Rows(VecDeque<(usize, u32)>, Vec<&'static str>);

impl Source for Rows {
    type Item = (usize, u32);

    fn poll_pull(&mut self, _: &mut TaskContext<'_>, max: usize, into: &mut Vec<Offer<Self::Item>>) -> Poll<Pull> {
        let names = &self.1;
        let some = self.0.drain(..max.min(self.0.len()));
        into.extend(some.map(|item| Offer { key: names[item.0].into(), item }));
        Poll::Ready(if into.is_empty() { Pull::End } else { Pull::More })
    }
}

#[derive(Debug, Clone, Copy)]
struct Told {
    host: usize,
    kind: OutcomeKind,
    error: Option<ErrorKind>,
    after: Duration,
}

struct Collect(Rc<RefCell<Vec<Told>>>, Instant);

impl Sink<Asks> for Collect {
    fn deliver(&mut self, decided: &mut Vec<Decided<Asks>>) {
        let after = clock::now() - self.1;
        self.0.borrow_mut().extend(decided.drain(..).map(|one| Told {
            host: one.item.0,
            kind: one.kind,
            error: one.value.error,
            after,
        }));
    }

    fn poll_credit(&mut self, _: &mut TaskContext<'_>) -> usize {
        usize::MAX
    }
}

/// Runs rows to hosts, given by their numbers; returns what each came to, and the hosts.
async fn run(hosts: Vec<Host>, rows: impl IntoIterator<Item = usize>, settings: Settings) -> (Vec<Told>, Asks) {
    let begun = clock::now();
    let names = hosts.iter().map(|host| host.name).collect();
    let asks = Asks { hosts, begun, news: RefCell::default() };
    let rows = rows.into_iter().zip(0..).collect();
    let told = Rc::<RefCell<Vec<Told>>>::default();
    let (source, sink) = (Rows(rows, names), Collect(told.clone(), begun));
    let (cancel, monitor) = (CancelToken::new(), Monitor::new());
    let finished = drive(asks, Batch { settings, source, sink, cancel, monitor }).await;
    (told.take(), finished.job)
}

fn at_once(limit: u32) -> Settings {
    Settings { limits: Limits::new(limit.try_into().ok(), None), ..Settings::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How many of these come at most within any window of this length.
fn most_within(window: Duration, starts: &[Instant]) -> usize {
    let count = |from: usize| starts[from..].iter().take_while(|at| **at < starts[from] + window).count();
    (0..starts.len()).map(count).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_up_to_30_s_costs_no_row() {
    for long in [50, 300, 3_000, 30_000] {
        let host = Host { down: vec![(ms(800), ms(800 + long))], ..Host::new("a") };
        let (told, asks) = run(vec![host], vec![0; 1500], at_once(20)).await;
        assert_eq!(told.iter().filter(|one| one.kind == OutcomeKind::Ok).count(), 1500, "down for {long} ms");
        let host = &asks.hosts[0];
        let (down, up) = (asks.begun + ms(800), asks.begun + ms(800 + long));
        let starts = host.starts.borrow();
        let met_nobody = starts.iter().filter(|at| **at >= down && **at < up).count();
        assert!(
            met_nobody <= 20 + 20 + long as usize / 1000,
            "{met_nobody} attempts at a host that is down for {long} ms"
        );
        let after: Vec<Instant> = starts.iter().copied().filter(|at| *at >= up).collect();
        assert!(after[0] - up <= Duration::from_secs(5), "met again after {:?}", after[0] - up);
        assert_eq!(most_within(ms(29), &after[..2]), 1, "a host that is back is met by one");
        assert!(most_within(ms(29), &after[..7]) <= 4, "then by two, then by four");
        assert!(most_within(ms(29), &after) <= 20, "and never by more than the limit");
        let news = asks.news.borrow();
        assert!(matches!(news[..], [(_, KeyNews::Away { .. }), (_, KeyNews::Back(_))]), "{news:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stays_away_is_given_up_after_its_time_and_its_later_rows_do_not_burn() {
    let host = Host { down: vec![(ms(0), ms(3_600_000))], ..Host::new("a") };
    let (told, asks) = run(vec![host], vec![0; 40_000], at_once(20)).await;
    assert_eq!(told.len(), 40_000);
    let all = (OutcomeKind::Failed, Some(ErrorKind::Away));
    assert!(told.iter().all(|one| (one.kind, one.error) == all));
    assert!(told.iter().all(|one| one.after >= Duration::from_secs(60)), "waited for");
    let starts = asks.hosts[0].starts.borrow();
    assert!(most_within(Duration::from_secs(1), &starts[20..]) <= 8, "no burn in a loop");
}

#[tokio::test(start_paused = true)]
async fn dead_hosts_keep_nobody_from_the_others() {
    const DEAD: usize = 2_000;
    let mut hosts = vec![Host { takes: ms(10), ..Host::new("alive") }];
    // A connection to nowhere takes its time to fail.
    for number in 0..DEAD {
        let name: &'static str = Box::leak(format!("dead-{number}").into_boxed_str());
        hosts.push(Host { down: vec![(ms(0), ms(3_600_000))], ..Host::new(name) });
    }
    let rows = (0..DEAD).flat_map(|number| [number + 1, 0, number + 1, 0]);
    let (told, _) = run(hosts, rows, at_once(20)).await;
    let alive = told.iter().filter(|one| one.host == 0);
    let last = alive.clone().map(|one| one.after).max().unwrap();
    assert!(alive.clone().all(|one| one.kind == OutcomeKind::Ok) && alive.count() == 2 * DEAD);
    assert!(last < Duration::from_secs(10), "the host that is there was done after {last:?}");
    assert_eq!(told.len(), 4 * DEAD);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_connections_is_found_and_kept() {
    let host = Host { bears: 4, ..Host::new("a") };
    let (told, asks) = run(vec![host], vec![0; 1500], at_once(20)).await;
    let ok = told.iter().filter(|one| one.kind == OutcomeKind::Ok).count();
    assert_eq!(ok, 1500, "refused {}", asks.hosts[0].refused.get());
    let took = told.iter().map(|one| one.after).max().unwrap();
    assert!(took < ms(30 * 1500 / 4) * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_50_a_second_without_a_word_about_it_is_found_and_kept() {
    let host = Host { every: ms(20), takes: ms(2), ..Host::new("a") };
    let (told, asks) = run(vec![host], vec![0; 600], at_once(20)).await;
    let ok = told.iter().filter(|one| one.kind == OutcomeKind::Ok).count();
    assert_eq!(ok, 600, "refused {}", asks.hosts[0].refused.get());
    let took = told.iter().map(|one| one.after).max().unwrap();
    assert!(took < ms(20 * 600) * 3, "{took:?}, refused {}", asks.hosts[0].refused.get());
}

#[tokio::test(start_paused = true)]
async fn a_limit_between_what_one_and_two_at_a_time_come_to_costs_no_row() {
    // As nginx with `limit_req` of 50/s: one at a time of 30 ms is fewer than it bears, and two are more.
    for takes in [10, 15, 25, 30, 35, 60, 90] {
        let host = Host { every: ms(20), takes: ms(takes), ..Host::new("a") };
        let (told, asks) = run(vec![host], vec![0; 1500], at_once(20)).await;
        let ok = told.iter().filter(|one| one.kind == OutcomeKind::Ok).count();
        assert_eq!(ok, 1500, "{takes} ms each, refused {}", asks.hosts[0].refused.get());
    }
}

#[tokio::test(start_paused = true)]
async fn rows_on_which_a_host_hangs_up_keep_nobody_waiting() {
    for closes in [vec![0], (0..5).collect(), (0..3000).step_by(50).collect::<Vec<u32>>()] {
        let host = Host { closes: closes.clone(), ..Host::new("a") };
        let (told, asks) = run(vec![host], vec![0; 3000], at_once(20)).await;
        let failed: Vec<_> = told.iter().filter(|one| one.kind != OutcomeKind::Ok).collect();
        assert_eq!(failed.len(), closes.len());
        let sent = asks.hosts[0].starts.borrow().len();
        assert!(sent <= 3000 + 3 * closes.len(), "{sent} attempts");
        // Those that are left in the end may be taken for a host that is away.
        let done = told.iter().filter(|one| one.kind == OutcomeKind::Ok).map(|one| one.after).max().unwrap();
        assert!(done < ms(30 * 3000 / 20) * 3, "{} rows: {done:?}", closes.len());
    }
    // Alone.
    let host = Host { closes: vec![0], ..Host::new("a") };
    let (told, asks) = run(vec![host], vec![0; 1], at_once(20)).await;
    assert_eq!((told[0].error, asks.hosts[0].starts.borrow().len()), (Some(ErrorKind::Closed), 4));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_connections_for_a_host_that_is_away_costs_no_row() {
    for long in [300, 3_000, 30_000] {
        let host = Host { hollow: vec![(ms(800), ms(800 + long))], ..Host::new("a") };
        let (told, asks) = run(vec![host], vec![0; 1500], at_once(20)).await;
        let ok = told.iter().filter(|one| one.kind == OutcomeKind::Ok).count();
        let tried = asks.hosts[0].starts.borrow().len();
        assert_eq!(ok, 1500, "for {long} ms, {tried} attempts");
        assert!(tried <= 1500 + 60 + 2 * long as usize / 1000, "{tried} attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn no_backoff_outlasts_a_deadline_and_its_outcome_is_timed_out_at_it() {
    let host = Host { every: Duration::MAX / 4, takes: ms(1), ..Host::new("a") };
    host.last.set(Some(clock::now()));
    let times = Times { deadline: Some(ms(300)), ..Times::default() };
    let retry = RetryPolicy { repeats: 60_000, budget: None, ..RetryPolicy::default() };
    let (told, asks) = run(vec![host], vec![0; 50], Settings { times, retry, ..at_once(50) }).await;
    assert!(told.iter().all(|one| one.kind == OutcomeKind::TimedOut), "{told:?}");
    assert!(told.iter().all(|one| one.after >= ms(300) && one.after <= ms(302)), "{told:?}");
    assert!(asks.hosts[0].starts.borrow().iter().all(|at| *at < asks.begun + ms(300)), "nothing starts after it");
}

#[tokio::test(start_paused = true)]
async fn rows_that_never_started_have_their_deadline_behind_a_host_that_is_away() {
    let host = Host { down: vec![(ms(0), ms(3_600_000))], ..Host::new("a") };
    let times = Times { deadline: Some(Duration::from_secs(5)), ..Times::default() };
    let (told, _) = run(vec![host], vec![0; 100], Settings { times, ..at_once(4) }).await;
    assert!(told.iter().all(|one| one.kind == OutcomeKind::TimedOut), "{told:?}");
    assert!(told.iter().all(|one| one.after <= ms(5_003)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_overloaded_in_bouts_is_at_its_full_speed_again_soon_after() {
    for seed in 0..12 {
        fastrand::seed(seed);
        let bouts = (0..8u64).map(|bout| (ms(500 + bout * 1500), ms(1100 + bout * 1500)));
        let host = Host { takes: ms(5), busy: bouts.collect(), ..Host::new("a") };
        let (told, _) = run(vec![host], vec![0; 20_000], at_once(20)).await;
        let took = told.iter().map(|one| one.after).max().unwrap();
        // Twelve seconds of bouts, five for the rows themselves, and what it takes to trust it again.
        assert!(took < Duration::from_secs(60), "{took:?} with seed {seed}");
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn attempts_of(timeout: Duration, limit: u32) -> Settings {
    Settings { times: Times { timeout: Some(timeout), ..Times::default() }, ..at_once(limit) }
}

fn count(told: &[Told], host: usize, kind: OutcomeKind, error: Option<ErrorKind>) -> usize {
    told.iter().filter(|one| (one.host, one.kind, one.error) == (host, kind, error)).count()
}

#[tokio::test(start_paused = true)]
async fn a_host_that_accepts_and_never_answers_is_given_up_as_one_that_is_away() {
    for timeout in [ms(200), ms(1_000), ms(30_000)] {
        let host = Host { silent: vec![(ms(0), HOUR)], ..Host::new("a") };
        let (told, asks) = run(vec![host], vec![0; 3_000], attempts_of(timeout, 20)).await;
        let last = told.iter().map(|one| one.after).max().unwrap();
        // Until two probes have found silence, and one more for what waited for its repeat when it was given up.
        let most = Duration::from_secs(60 + 5) + timeout * 4;
        assert!(last <= most, "{last:?} with {timeout:?} each");
        let away = count(&told, 0, OutcomeKind::Failed, Some(ErrorKind::Away));
        let sent = asks.hosts[0].sent.borrow().len();
        // Those that fit into the first flights, and one at a time since.
        assert!(away >= 2_900 && sent <= 100, "{away} away, {sent} sent, with {timeout:?} each");
        assert!(told.iter().all(|one| one.error != Some(ErrorKind::Away) || one.after >= Duration::from_secs(60)));
        let news = asks.news.borrow();
        let held = |news: &&(String, KeyNews)| matches!(news.1, KeyNews::Away { is_silent: true, .. });
        assert_eq!(news.iter().filter(held).count(), 1, "{news:?}");
        let since = asks.begun + timeout;
        assert!(news.contains(&("a".to_owned(), KeyNews::Away { since, is_silent: true })), "{news:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_given_up_by_rows_that_end_at_their_deadlines_as_well() {
    let host = Host { silent: vec![(ms(0), HOUR)], ..Host::new("a") };
    let times = Times { timeout: None, deadline: Some(ms(2_000)), ..Times::default() };
    let (told, asks) = run(vec![host], vec![0; 3_000], Settings { times, ..at_once(20) }).await;
    let last = told.iter().map(|one| one.after).max().unwrap();
    // One after the other, twenty at a time, it would be five minutes.
    assert!(last <= Duration::from_secs(10), "{last:?}");
    assert_eq!(count(&told, 0, OutcomeKind::TimedOut, Some(ErrorKind::Deadline)), 3_000);
    assert!(asks.hosts[0].sent.borrow().len() < 40);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_disturbs_no_other() {
    let hosts =
        vec![Host { silent: vec![(ms(0), HOUR)], ..Host::new("mute") }, Host { takes: ms(10), ..Host::new("b") }];
    let settings = Settings {
        limits: Limits::new(20.try_into().ok(), 10.try_into().ok()),
        ..attempts_of(Duration::from_secs(30), 20)
    };
    let (told, _) = run(hosts, (0..4_000).map(|row| row % 2), settings).await;
    assert_eq!(count(&told, 1, OutcomeKind::Ok, None), 2_000);
    let last = told.iter().filter(|one| one.host == 1).map(|one| one.after).max().unwrap();
    assert!(last <= ms(2_000 / 10 * 10 * 2), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_host_that_begins_to_answer_in_time_are_all_done() {
    for (timeout, long) in [(200, 15_000), (1_000, 5_000), (1_000, 30_000), (10_000, 45_000)] {
        let host = Host { silent: vec![(ms(0), ms(long))], ..Host::new("a") };
        let (told, asks) = run(vec![host], vec![0; 1_500], attempts_of(ms(timeout), 20)).await;
        assert_eq!(count(&told, 0, OutcomeKind::Ok, None), 1_500, "silent for {long} ms, {timeout} ms each");
        let last = told.iter().map(|one| one.after).max().unwrap();
        let bound = ms(long + timeout + 30 * 1_500 / 20 * 2) + Duration::from_secs(5);
        assert!(last <= bound, "{last:?}, silent for {long} ms, {timeout} ms each");
        let news = asks.news.borrow();
        let (since, is_silent) = (asks.begun + ms(timeout), true);
        assert!(news.contains(&("a".to_owned(), KeyNews::Away { since, is_silent })), "{news:?}");
        assert!(matches!(news.last(), Some((_, KeyNews::Back(_)))), "{news:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn posts_to_a_silent_host_are_in_doubt_and_none_is_sent_twice() {
    let host = Host { silent: vec![(ms(0), HOUR)], is_posted: true, ..Host::new("a") };
    let (told, asks) = run(vec![host], vec![0; 500], attempts_of(ms(1_000), 20)).await;
    let mut sent = asks.hosts[0].sent.take();
    let ambiguous = count(&told, 0, OutcomeKind::Ambiguous, Some(ErrorKind::Timeout));
    assert_eq!(ambiguous, sent.len(), "what was sent is in doubt, and nothing else");
    assert_eq!(count(&told, 0, OutcomeKind::Failed, Some(ErrorKind::Away)), 500 - sent.len());
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(ambiguous, sent.len(), "none was sent twice");
    assert!(ambiguous <= 80, "{ambiguous}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_answers_some_and_not_others_is_not_held() {
    // By what is asked for, or as it comes.
    let patterns: [fn(u32) -> bool; 2] = [|row| row % 4 == 0, |_| fastrand::u8(..).is_multiple_of(5)];
    for (number, ignores) in patterns.into_iter().enumerate() {
        for seed in 0..8 {
            fastrand::seed(seed);
            let host = Host { ignores, ..Host::new("a") };
            let (told, asks) = run(vec![host], vec![0; 600], attempts_of(ms(1_000), 20)).await;
            // By chance, some have no luck four times.
            let least = if number == 0 { 450 } else { 580 };
            assert!(count(&told, 0, OutcomeKind::Ok, None) >= least, "pattern {number}, seed {seed}");
            // In the end only those are left that it does not answer.
            let last = told.iter().filter(|one| one.kind == OutcomeKind::Ok).map(|one| asks.begun + one.after).max();
            let news = asks.news.borrow();
            let early = |since: Instant| Some(since) < last;
            let held = |(_, news): &&(String, KeyNews)| matches!(news, KeyNews::Away { since, .. } if early(*since));
            assert_eq!(news.iter().filter(held).count(), 0, "pattern {number}, seed {seed}: {news:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_host_never_answers_cost_the_others_nothing_but_time() {
    let patterns: [fn(u32) -> bool; 3] = [|row| row % 3 > 0, |row| row < 60, |row| row % 100 > 70];
    for (number, ignores) in patterns.into_iter().enumerate() {
        for seed in 0..8 {
            fastrand::seed(seed);
            let host = Host { ignores, ..Host::new("a") };
            let (told, _) = run(vec![host], vec![0; 400], attempts_of(ms(1_000), 20)).await;
            let answered = (0..400).filter(|row| !ignores(*row)).count();
            assert_eq!(count(&told, 0, OutcomeKind::Ok, None), answered, "pattern {number}, seed {seed}");
            assert_eq!(told.len(), 400);
        }
    }
}
