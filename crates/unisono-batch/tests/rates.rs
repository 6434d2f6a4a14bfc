//! The laws of rates, with a driver that is late: its timer ticks in milliseconds, and it is held up by other work.
//!
//! A world keeps a [`Machine`] supplied with items, drives it as the tokio driver does (called when an attempt ends,
//! and when the timer that it asked for ticks), and notes each start. Time is virtual.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use unisono_batch::{Finish, Machine, Settings, Ticket};
use unisono_core::{Limits, Peer, Rate};

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    /// Over all, and per key.
    rates: (Option<Rate>, Option<Rate>),
    keys: u32,
    /// What the rates become halfway.
    change: Option<(Option<Rate>, Option<Rate>)>,
    /// The most that a wake-up is late beside the tick, in microseconds.
    late: u64,
    /// The most that the driver stands still, a few times a second.
    stall: u64,
    /// The most that an attempt takes.
    work: u64,
}

fn rates() -> impl Strategy<Value = Rate> {
    let named = prop::sample::select(vec![
        "1/10s", "1/s", "3/s", "45/s", "100/s", "150/s", "333/s", "500/s", "501/s", "999/s", "1000/s", "1001/s",
        "7000/s", "50000/s", "20/m", "70/3s",
    ]);
    let named = named.prop_map(|text| text.parse().unwrap());
    let any = (1u32..5000, 100u64..5000)
        .prop_map(|(count, millis)| Rate::new(NonZeroU32::new(count).unwrap(), Duration::from_millis(millis)).unwrap());
    let burst = prop_oneof![3 => Just(1u32), 1 => 2u32..50];
    (prop_oneof![named, any], burst).prop_map(|(rate, burst)| rate.with_burst(burst.try_into().unwrap()))
}

fn plans(late: impl Strategy<Value = u64>, stall: impl Strategy<Value = u64>) -> impl Strategy<Value = Plan> {
    let some = || prop_oneof![rates().prop_map(|rate| (Some(rate), None)), rates().prop_map(|rate| (None, Some(rate)))];
    let both = (rates(), rates()).prop_map(|(all, key)| (Some(all), Some(key)));
    let rates = prop_oneof![some(), both];
    (any::<u64>(), rates, 1u32..4, prop::option::of(some()), late, stall, 1u64..200_000).prop_map(
        |(seed, rates, keys, change, late, stall, work)| Plan { seed, rates, keys, change, late, stall, work },
    )
}

fn limits((rate, per_key_rate): (Option<Rate>, Option<Rate>)) -> Limits {
    // So much that nothing but the rates holds anything back.
    let most = NonZeroU32::new(1_000_000);
    Limits { rate, per_key_rate, ..Limits::new(most, most) }
}

struct World {
    plan: Plan,
    rng: fastrand::Rng,
    machine: Machine,
    now: Instant,
    /// By when they end.
    running: std::collections::BTreeMap<(Instant, Ticket), ()>,
    keys: std::collections::HashMap<Ticket, u32>,
    starts: Vec<(Instant, u32)>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let settings = Settings { limits: limits(plan.rates), ..Settings::default() };
        Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            machine: Machine::new(settings, plan.seed),
            now: Instant::now(),
            running: Default::default(),
            keys: Default::default(),
            starts: Vec::new(),
            plan,
        }
    }

    /// Until so many have started or so much time has passed.
    fn run(&mut self, most: usize, time: Duration) {
        let begun = self.now;
        let before = self.starts.len();
        let mut next_stall = self.now;
        let second = Duration::from_secs(1);
        while self.starts.len() - before < most && self.now - begun < time {
            let wants = self.turn();
            let ends = self.running.first_key_value().map(|((at, _), ())| *at);
            let timer = wants.map(|at| begun + tick(at.saturating_duration_since(begun)));
            let mut next = [ends, timer].into_iter().flatten().min().expect("something is under way or due");
            next += Duration::from_micros(self.rng.u64(0..=self.plan.late));
            if self.plan.stall > 0 && next >= next_stall {
                next += Duration::from_micros(self.rng.u64(0..=self.plan.stall));
                next_stall = next + second / 8;
            }
            self.now = self.now.max(next);
        }
    }

    /// Ends what is to end, starts what may start; when to look again.
    fn turn(&mut self) -> Option<Instant> {
        while let Some(((at, ticket), ())) = self.running.first_key_value().map(|(key, ())| (*key, ()))
            && at <= self.now
        {
            self.running.pop_first();
            self.keys.remove(&ticket);
            self.machine.finish(self.now, ticket, Finish::Final, Peer::Unknown);
        }
        loop {
            while let Some(lease) = self.machine.lease(self.now) {
                self.starts.push((self.now, self.keys[&lease.ticket]));
                let ends = self.now + Duration::from_micros(self.rng.u64(1..=self.plan.work));
                self.running.insert((ends, lease.ticket), ());
            }
            let wants = self.machine.wants(self.now);
            let missing = wants.pull.min(ENOUGH.saturating_sub(self.machine.pending()));
            if missing == 0 {
                return wants.until;
            }
            for _ in 0..missing {
                let key = self.rng.u32(0..self.plan.keys);
                self.keys.insert(self.machine.offer(self.now, &format!("k{key}")), key);
            }
        }
    }

    fn of_key(&self, key: u32) -> Vec<Instant> {
        self.starts.iter().filter(|(_, one)| *one == key).map(|(at, _)| *at).collect()
    }

    fn all(&self) -> Vec<Instant> {
        self.starts.iter().map(|(at, _)| *at).collect()
    }
}

/// Tokio's timer wheel: up to the next millisecond.
fn tick(after: Duration) -> Duration {
    Duration::from_millis(u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap())
}

/// In any window of a second or more, at most a burst and what the rate allows; in a shorter one, what the tolerance
/// is worth as well. To the nanosecond: a start comes at a whole one, up to one after it was due.
fn check_windows(rate: &Rate, starts: &[Instant]) {
    let Some(first) = starts.first() else { return };
    let count = i128::from(rate.count.get());
    // Time as a multiple of a nanosecond's fraction, against the even schedule.
    let offset = |number: usize| {
        let at = (starts[number] - *first).as_nanos() as i128 * count;
        at - number as i128 * rate.per().as_nanos() as i128
    };
    let burst = (i128::from(rate.burst.get()) - 1) * rate.per().as_nanos() as i128;
    let tolerance = TOLERANCE.as_nanos() as i128 * count;
    let (mut long, mut short, mut old) = (i128::MIN, i128::MIN, 0);
    for (number, at) in starts.iter().enumerate() {
        short = short.max(offset(number));
        assert!(
            offset(number) + burst + tolerance + count >= short,
            "{rate}: start {number} comes too early after another"
        );
        while starts[old] + Duration::from_secs(1) <= *at {
            long = long.max(offset(old));
            old += 1;
        }
        assert!(
            long == i128::MIN || offset(number) + burst + count >= long,
            "{rate}: a window of a second up to {number}"
        );
    }
}

fn check_share(rate: &Rate, starts: &[Instant], least: f64) {
    let (Some(first), Some(last)) = (starts.first(), starts.last()) else { return };
    let spaced = (starts.len() as f64 - f64::from(rate.burst.get())).max(0.0);
    let needed = rate.per().as_secs_f64() * spaced / f64::from(rate.count.get());
    let took = (*last - *first).as_secs_f64();
    // The last one may be late like any other, which counts in a short run only.
    let share = needed / (took - 0.025).max(needed);
    assert!(share >= least, "{rate}: {share} of it, {} starts in {took} s", starts.len());
}

fn check_all(plan: &Plan, world: &World) {
    if let Some(rate) = &plan.rates.0 {
        check_windows(rate, &world.all());
    }
    for key in 0..plan.keys {
        if let Some(rate) = &plan.rates.1 {
            check_windows(rate, &world.of_key(key));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_driver_that_is_late_gets_98_percent_of_any_rate_and_never_more(plan in plans(0..=3000u64, Just(0))) {
        let mut world = World::new(plan.clone());
        world.run(8000, Duration::from_secs(600));
        check_all(&plan, &world);
        if plan.rates.1.is_none() {
            check_share(&plan.rates.0.unwrap(), &world.all(), 0.98);
        } else if plan.rates.0.is_none() {
            // Where keys are many and slow, the look-ahead may hold items of the others only.
            for key in 0..plan.keys.min(1) {
                check_share(&plan.rates.1.unwrap(), &world.of_key(key), if plan.keys == 1 { 0.98 } else { 0.0 });
            }
        }
    }

    #[test]
    fn a_driver_that_stands_still_now_and_then_gets_98_percent_of_any_rate_and_never_more(
        plan in plans(0..=500u64, 1000..=15_000u64),
    ) {
        let mut world = World::new(plan.clone());
        world.run(8000, Duration::from_secs(600));
        check_all(&plan, &world);
        if let (Some(rate), None) = plan.rates {
            check_share(&rate, &world.all(), 0.98);
        }
    }

    #[test]
    fn a_driver_that_stands_still_for_long_never_starts_more(plan in plans(0..=20_000u64, 1000..=2_000_000u64)) {
        let mut world = World::new(plan.clone());
        world.run(8000, Duration::from_secs(300));
        check_all(&plan, &world);
    }

    #[test]
    fn a_rate_that_is_changed_holds_at_once(plan in plans(0..=3000u64, 0..=15_000u64)) {
        let Some(change) = plan.change else { return Ok(()) };
        let mut world = World::new(plan.clone());
        world.run(5000, Duration::from_secs(30));
        check_all(&plan, &world);
        world.starts.clear();
        world.machine.set_limits(world.now, limits(change));
        world.run(5000, Duration::from_secs(30));
        check_all(&Plan { rates: change, ..plan }, &world);
    }
}

/// What `with limiter:` in a loop does: the next one asks when the last one is through, and a thread sleeps until it
/// may.
#[test]
fn one_caller_at_a_time_gets_98_percent_of_a_rate_and_never_more() {
    for (text, late) in [("45/s", 3000), ("100/s", 3000), ("500/s", 1500), ("1000/s", 700), ("100/s", 9000)] {
        let rate: Rate = text.parse().unwrap();
        let settings = Settings { limits: limits((Some(rate), None)), ..Settings::default() };
        let (mut machine, mut now) = (Machine::new(settings, 1), Instant::now());
        let mut rng = fastrand::Rng::with_seed(1);
        let mut starts = Vec::new();
        for _ in 0..3000 {
            machine.offer(now, "");
            let lease = loop {
                match machine.lease(now) {
                    Some(lease) => break lease,
                    None => {
                        now = machine.wants(now).until.expect("it waits for time only");
                        now += Duration::from_micros(rng.u64(0..=late));
                    }
                }
            };
            machine.wants(now);
            starts.push(now);
            now += Duration::from_micros(rng.u64(0..200));
            machine.finish(now, lease.ticket, Finish::Final, Peer::Unknown);
        }
        check_windows(&rate, &starts);
        check_share(&rate, &starts, 0.98);
    }
}

/// More items than are ever due at once.
const ENOUGH: usize = 3000;
/// What a driver may make up for at once.
const TOLERANCE: Duration = Duration::from_millis(20);
