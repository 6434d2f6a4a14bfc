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
    /// Nobody listens in these times, counted from the start.
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
    inside: Cell<usize>,
    last: Cell<Option<Instant>>,
    starts: RefCell<Vec<Instant>>,
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
            inside: Cell::new(0),
            last: Cell::new(None),
            starts: RefCell::new(Vec::new()),
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
        let failed = |verdict, error, peer| (verdict, Ended { error: Some(error), peer });
        let otherwise = OutcomeKind::Failed;
        if self.is_down(begun) {
            return failed(Verdict::Unmet { otherwise }, ErrorKind::Connect, Peer::Away);
        }
        let at = now - begun;
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

    fn halted(&self, _: &Self::Item, halt: Halt, _: Option<Ended>) -> (Verdict, Ended) {
        let (kind, error) = match halt {
            Halt::AttemptTimeout { .. } => (OutcomeKind::TimedOut, ErrorKind::Timeout),
            Halt::Deadline { .. } => (OutcomeKind::TimedOut, ErrorKind::Deadline),
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
    drive(&asks, Batch { settings, source, sink, cancel, monitor }).await;
    (told.take(), asks)
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
        assert!(matches!(news[..], [(_, KeyNews::Away), (_, KeyNews::Back(_))]), "{news:?}");
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
