//! Servers with quotas that they do not announce, in virtual time: how much of the quota is used, and how often it is
//! exceeded.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use unisono_batch::{Finish, Machine, Ruling, Settings, Ticket};
use unisono_core::{Limits, Peer, RetryPolicy, Times};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Windows end at fixed times; the first one is this part of one old.
    Fixed(f64),
    Sliding,
    /// Tokens come evenly, and as many are saved as one window brings.
    TokenBucket,
    /// As many wait as come in a tenth of a window.
    LeakyBucket,
}

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    kind: Kind,
    quota: u32,
    window: Duration,
    /// The most that an answer takes, in milliseconds.
    latency: u64,
    limit: u32,
    /// It says when to come back: in whole seconds, one at least.
    announces: bool,
}

impl Plan {
    fn rate(&self) -> f64 {
        f64::from(self.quota) / self.window.as_secs_f64()
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        (0.0..1.0f64).prop_map(Kind::Fixed),
        Just(Kind::Fixed(0.0)),
        Just(Kind::Sliding),
        Just(Kind::TokenBucket),
        Just(Kind::LeakyBucket)
    ];
    let slow = (prop::sample::select(vec![1u32, 2, 5, 10, 50]), prop::sample::select(vec![1u64, 2, 10, 60]));
    let fast = (prop::sample::select(vec![100u32, 333, 1000]), prop::sample::select(vec![1u64, 2, 5]));
    let quota = prop_oneof![3 => slow, 1 => fast];
    let plan = (any::<u64>(), kind, quota, 1u64..60, 4u32..60, any::<bool>());
    plan.prop_map(|(seed, kind, (rate, window), latency, limit, announces)| Plan {
        seed,
        kind,
        quota: rate * window as u32,
        window: Duration::from_secs(window),
        latency,
        limit,
        announces,
    })
}

/// Lets through what its quota allows.
struct Server {
    plan: Plan,
    begun: Instant,
    window: u64,
    used: u32,
    log: VecDeque<Instant>,
    tokens: f64,
    filled: Instant,
    /// It refuses everything until then.
    away: Option<Instant>,
}

impl Server {
    fn new(plan: Plan, begun: Instant) -> Self {
        let tokens = if plan.kind == Kind::LeakyBucket { 0.1 } else { 1.0 } * f64::from(plan.quota);
        Self {
            begun,
            window: 0,
            used: 0,
            log: VecDeque::new(),
            tokens: tokens.max(1.0),
            filled: begun,
            away: None,
            plan,
        }
    }

    fn lets_through(&mut self, now: Instant) -> bool {
        if self.away.is_some_and(|until| now < until) {
            return false;
        }
        let (quota, window) = (self.plan.quota, self.plan.window);
        match self.plan.kind {
            Kind::Fixed(age) => {
                let since = now - self.begun + window.mul_f64(age);
                let number = (since.as_secs_f64() / window.as_secs_f64()) as u64;
                if number != self.window {
                    (self.window, self.used) = (number, 0);
                }
                self.used += 1;
                self.used <= quota
            }
            Kind::Sliding => {
                while self.log.front().is_some_and(|at| *at + window <= now) {
                    self.log.pop_front();
                }
                let room = self.log.len() < quota as usize;
                if room {
                    self.log.push_back(now);
                }
                room
            }
            Kind::TokenBucket | Kind::LeakyBucket => {
                let most = if self.plan.kind == Kind::LeakyBucket { 0.1 } else { 1.0 } * f64::from(quota);
                let gained = (now - self.filled).as_secs_f64() * self.plan.rate();
                self.tokens = (self.tokens + gained).min(most.max(1.0));
                self.filled = now;
                let has_one = self.tokens >= 1.0;
                self.tokens -= f64::from(u8::from(has_one));
                has_one
            }
        }
    }
}

impl Server {
    fn comes_back(&self, now: Instant) -> Option<Instant> {
        let window = self.plan.window.as_secs_f64();
        let left = match self.plan.kind {
            Kind::Fixed(age) => {
                let since = (now - self.begun).as_secs_f64() + window * age;
                window - since % window
            }
            _ => 1.0,
        };
        self.plan.announces.then_some(now + Duration::from_secs_f64(left.ceil()))
    }
}

struct World {
    plan: Plan,
    rng: fastrand::Rng,
    machine: Machine,
    server: Server,
    begun: Instant,
    now: Instant,
    /// By when they are answered, and with what.
    under_way: BTreeMap<(Instant, Ticket), Finish>,
    accepted: Vec<Instant>,
    refused: Vec<Instant>,
    /// When something was let through again after refusals.
    resumed: Vec<Instant>,
    is_refused: bool,
}

impl World {
    fn new(plan: Plan) -> Self {
        let settings = Settings {
            limits: Limits::new(NonZeroU32::new(plan.limit), None),
            times: Times::default(),
            retry: RetryPolicy::default(),
            ordered_by_key: false,
        };
        let begun = Instant::now();
        Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            machine: Machine::new(settings, plan.seed),
            server: Server::new(plan.clone(), begun),
            begun,
            now: begun,
            under_way: BTreeMap::new(),
            accepted: Vec::new(),
            refused: Vec::new(),
            resumed: Vec::new(),
            is_refused: false,
            plan,
        }
    }

    /// Until so many are through, or it is that late.
    fn run(&mut self, items: usize, until: Instant) {
        let mut offered = 0;
        while self.now < until && self.accepted.len() < items {
            while let Some((&(at, ticket), &finish)) = self.under_way.first_key_value()
                && at <= self.now
            {
                self.under_way.pop_first();
                self.ended(ticket, finish);
            }
            let wants = loop {
                while let Some(lease) = self.machine.lease(self.now) {
                    let finish = if self.server.lets_through(self.now) {
                        if std::mem::take(&mut self.is_refused) {
                            self.resumed.push(self.now);
                        }
                        self.accepted.push(self.now);
                        Finish::Final
                    } else {
                        self.is_refused = true;
                        self.refused.push(self.now);
                        Finish::Throttled { until: self.server.comes_back(self.now), quota: true }
                    };
                    let ends = self.now + Duration::from_micros(self.rng.u64(500..=self.plan.latency * 1000));
                    self.under_way.insert((ends, lease.ticket), finish);
                }
                let wants = self.machine.wants(self.now);
                let missing = wants.pull.min(items - offered);
                if missing == 0 {
                    break wants;
                }
                offered += missing;
                for _ in 0..missing {
                    self.machine.offer(self.now, "host");
                }
            };
            let ends = self.under_way.first_key_value().map(|(key, _)| key.0);
            let next = [ends, wants.until].into_iter().flatten().min().expect("something is under way or due");
            self.now = next.max(self.now + Duration::from_nanos(1));
        }
    }

    fn ended(&mut self, ticket: Ticket, finish: Finish) {
        match self.machine.finish(self.now, ticket, finish, Peer::Fine) {
            Ruling::Decided | Ruling::Again { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn within(times: &[Instant], from: Instant, to: Instant) -> usize {
        times.iter().filter(|at| (from..to).contains(*at)).count()
    }
}

/// How much of the quota is used in the time after the second refusal, and how many are refused before, and then in the
/// longer of a window and ten seconds. `None` when it is not refused twice.
fn measure(plan: &Plan) -> Option<(f64, usize, usize)> {
    let mut world = World::new(plan.clone());
    let some = plan.window.max(Duration::from_secs(10));
    while world.resumed.len() < 2 {
        if world.now > world.begun + 30 * some {
            return None;
        }
        world.run(usize::MAX, world.now + some);
    }
    // A server that asks for a whole second where a part of it would do misleads; the pace needs some steps then, and
    // each may take two windows.
    let settled = if plan.announces { Duration::from_secs(240).max(25 * plan.window) } else { Duration::ZERO };
    let (from, length) = (world.resumed[1] + settled, 6 * some);
    world.run(usize::MAX, from + length);
    let share = World::within(&world.accepted, from, from + length) as f64 / (plan.rate() * length.as_secs_f64());
    let of_window = |at: u32| World::within(&world.refused, from + some * at, from + some * (at + 1));
    Some((
        share,
        World::within(&world.refused, world.begun, world.resumed[1]),
        (0..6).map(of_window).max().unwrap_or(0),
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_two_refusals_nine_tenths_of_any_quota_are_used_and_few_are_refused(plan in plans()) {
        let Some((share, first, later)) = measure(&plan) else {
            let most = f64::from(plan.limit) * 2000.0 / plan.latency as f64;
            prop_assert!(plan.rate() > most * 0.5, "it is refused once or never, and can do {most} a second");
            return Ok(());
        };
        // Each refusal may cost more than a whole window where the server asks for whole seconds.
        let least = if plan.announces { 0.85 } else { 0.9 };
        prop_assert!(share >= least, "{share} of the quota");
        // Twice as many as are under way when the quota is used up, and those that look whether it is renewed.
        let under_way = plan.limit as usize;
        prop_assert!(first <= 2 * (under_way + PROBES), "{first} were refused before");
        prop_assert!(later <= under_way + PROBES, "{later} were refused in a window later on");
    }
}

#[test]
fn a_server_that_refuses_everything_for_long_leaves_no_crawl() {
    for (quota, outage) in [(10, 20), (10, 300), (100, 20), (100, 300)] {
        for kind in [Kind::Fixed(0.3), Kind::Sliding, Kind::TokenBucket] {
            let second = Duration::from_secs(1);
            let plan = Plan { seed: 1, kind, quota, window: 2 * second, latency: 20, limit: 20, announces: false };
            let mut world = World::new(plan.clone());
            world.run(usize::MAX, world.begun + 60 * second);
            let (down, back) = (world.now, world.now + second * outage);
            world.server.away = Some(back);
            world.run(usize::MAX, back + 180 * second);
            let refused = World::within(&world.refused, down, back);
            assert!(refused <= 20 + PROBES + outage as usize / 8, "{plan:?}: {refused} refusals in {outage} s");
            let from = back + 120 * second;
            let share = World::within(&world.accepted, from, from + 60 * second) as f64 / (60.0 * plan.rate());
            assert!(share >= 0.9, "{plan:?}: {share} two minutes after {outage} s");
        }
    }
}

#[test]
fn five_hundred_rows_of_a_hundred_per_two_seconds_take_less_than_11_seconds() {
    for seed in 0..20 {
        for age in [0.0, 0.25, 0.5, 0.75, 0.95] {
            let window = Duration::from_secs(2);
            let plan =
                Plan { seed, kind: Kind::Fixed(age), quota: 100, window, latency: 10, limit: 20, announces: false };
            let mut world = World::new(plan);
            world.run(500, world.begun + Duration::from_secs(100));
            let took = world.now - world.begun;
            assert!(took < Duration::from_secs(11), "{age}: {took:?}");
            assert!(world.refused.len() < 60, "{age}: {} refusals", world.refused.len());
        }
    }
}

/// Requests that look whether a quota is renewed, each after a fifth more of the time.
const PROBES: usize = 40;

#[test]
fn a_server_that_misleads_about_a_long_window_is_met_at_its_quota_in_the_end_and_at_half_of_it_until_then() {
    let plan = Plan {
        seed: 17_059_926_817_283_081_109,
        kind: Kind::Sliding,
        quota: 3000,
        window: Duration::from_secs(60),
        latency: 18,
        limit: 38,
        announces: true,
    };
    let mut world = World::new(plan.clone());
    while world.resumed.len() < 2 {
        world.run(usize::MAX, world.now + plan.window);
    }
    let second = world.resumed[1];
    world.run(usize::MAX, second + 31 * plan.window);
    let share = |from: u32, windows: u32| {
        let (from, length) = (second + from * plan.window, windows * plan.window);
        World::within(&world.accepted, from, from + length) as f64 / (plan.rate() * length.as_secs_f64())
    };
    // The worst of some thousand plans: bursts by full windows would have all of it here, and a pace has to be found.
    assert!(share(0, 25) >= 0.5, "{} of the quota while the pace is found", share(0, 25));
    assert!(share(25, 6) >= 0.95, "{} of the quota afterwards", share(25, 6));
}
