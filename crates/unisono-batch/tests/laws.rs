//! The laws of the engine, checked over random histories in virtual time.
//!
//! A world offers items of several keys to a [`Machine`], runs its leases for random times to random ends, changes
//! limits, pauses keys, takes away the sink's credit and stops the batch, and checks every law at every step.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use unisono_batch::{Expired, Finish, KeyNews, Lease, Machine, Ruling, Settings, Ticket};
use unisono_core::{Backoff, Limits, Overrides, Peer, Rate, RetryBudget, RetryPolicy, Times};

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    items: usize,
    keys: usize,
    limit: u32,
    per_key: u32,
    rate: Option<(u32, u32)>,
    per_key_rate: Option<(u32, u32)>,
    /// Of a hundred attempts: how many ask for a retry, are throttled, hang, or leave work behind.
    retried: u32,
    throttled: u32,
    hanging: u32,
    detached: u32,
    timeout: Option<u64>,
    deadline: Option<u64>,
    repeats: u16,
    /// Of a hundred items, how many have times and repeats of their own.
    overridden: u32,
    budget: Option<u32>,
    /// When the batch is told to stop, in milliseconds, and whether at once.
    stop: Option<(u64, bool)>,
    /// When the limits change to these.
    change: Option<(u64, u32, u32)>,
    /// Most outcomes that the sink takes before it has to be emptied.
    credit: Option<usize>,
    /// The peers of so many keys are away, from one moment to another; of a hundred attempts, how many are told that
    /// there is too much.
    away: (usize, u64, u64),
    overloaded: u32,
    /// The peers of all keys but so many answer nothing, from one moment to another.
    silent: (usize, u64, u64),
    /// How long a peer that is away is waited for.
    host_away: Option<u64>,
    ordered: bool,
    /// How long work that is late may take to stop.
    stopping: u64,
}

fn plans() -> impl Strategy<Value = Plan> {
    let load = (any::<u64>(), 0usize..120, 1usize..6, 1u32..8, 1u32..6);
    let rates = (prop::option::of((1u32..200, 1u32..6)), prop::option::of((1u32..200, 1u32..6)));
    let ends = (0u32..40, 0u32..20, 0u32..10, 0u32..10);
    let times =
        (prop::option::of(5u64..2000), prop::option::of(50u64..20_000), 0u16..4, prop::option::of(0u32..20), 0u32..50);
    let events = (
        prop::option::of((0u64..3000, any::<bool>())),
        prop::option::of((0u64..2000, 1u32..8, 1u32..6)),
        prop::option::of(1usize..20),
    );
    let peers = (
        (0usize..6, 0u64..2000, 0u64..6000),
        0u32..40,
        prop::option::of(100u64..5000),
        any::<bool>(),
        prop_oneof![Just(0u64), 1u64..500],
        (0usize..6, 0u64..2000, 0u64..20_000),
    );
    (load, rates, ends, times, events, peers).prop_map(|(load, rates, ends, times, events, peers)| Plan {
        seed: load.0,
        items: load.1,
        keys: load.2,
        limit: load.3,
        per_key: load.4,
        rate: rates.0,
        per_key_rate: rates.1,
        retried: ends.0,
        throttled: ends.1,
        hanging: ends.2,
        detached: ends.3,
        timeout: times.0,
        // Something must bound an attempt that hangs.
        deadline: times.1.or(Some(30_000)),
        repeats: times.2,
        budget: times.3,
        overridden: times.4,
        stop: events.0,
        change: events.1,
        credit: events.2,
        away: peers.0,
        overloaded: peers.1,
        host_away: peers.2,
        ordered: peers.3,
        stopping: peers.4,
        silent: peers.5,
    })
}

struct Running {
    ticket: Ticket,
    key: usize,
    ends: Option<Instant>,
    ghost: bool,
    /// Started while its key was held.
    probe: bool,
}

#[derive(Default)]
struct Item {
    key: usize,
    first_start: Option<Instant>,
    decided: bool,
    owes: bool,
    item_by: Option<Instant>,
    overrides: Overrides,
    attempt_by: Option<Instant>,
}

struct World {
    plan: Plan,
    machine: Machine,
    rng: fastrand::Rng,
    start: Instant,
    now: Instant,
    limits: Limits,
    running: Vec<Running>,
    items: Vec<Item>,
    by_ticket: HashMap<Ticket, usize>,
    paused: HashMap<usize, Instant>,
    /// Keys whose peer is known to be away, and since when.
    held: HashMap<usize, Instant>,
    /// When attempts of a key ended that nothing came back for, since its peer answered last.
    silences: HashMap<usize, Vec<Instant>>,
    /// Starts, by key and over all.
    starts: Vec<(Instant, usize)>,
    repeats: HashMap<usize, u32>,
    firsts: HashMap<usize, u32>,
    stopped: bool,
    undelivered: usize,
}

fn rate(spec: Option<(u32, u32)>) -> Option<Rate> {
    let (count, burst) = spec?;
    Some(Rate::new(NonZeroU32::new(count)?, Duration::from_secs(1))?.with_burst(NonZeroU32::new(burst)?))
}

fn limits(limit: u32, per_key: u32, plan: &Plan) -> Limits {
    let mut limits = Limits::new(NonZeroU32::new(limit), NonZeroU32::new(per_key));
    (limits.rate, limits.per_key_rate) = (rate(plan.rate), rate(plan.per_key_rate));
    limits
}

impl World {
    fn new(plan: Plan) -> Self {
        let limits = limits(plan.limit, plan.per_key, &plan);
        let times = Times {
            timeout: plan.timeout.map(Duration::from_millis),
            deadline: plan.deadline.map(Duration::from_millis),
            stopping: Duration::from_millis(plan.stopping),
            stop_after: None,
            grace: GRACE,
        };
        let backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(400) };
        let budget = plan.budget.map(|reserve| RetryBudget { ratio: 0.2, reserve });
        let retry = RetryPolicy {
            repeats: plan.repeats,
            backoff,
            budget,
            max_wait: Duration::from_secs(2),
            host_away: plan.host_away.map(Duration::from_millis),
        };
        let start = Instant::now();
        Self {
            machine: Machine::new(Settings { limits, times, retry, ordered_by_key: plan.ordered }, plan.seed),
            rng: fastrand::Rng::with_seed(plan.seed),
            start,
            now: start,
            limits,
            running: Vec::new(),
            items: Vec::new(),
            by_ticket: HashMap::new(),
            paused: HashMap::new(),
            held: HashMap::new(),
            silences: HashMap::new(),
            starts: Vec::new(),
            repeats: HashMap::new(),
            firsts: HashMap::new(),
            stopped: false,
            undelivered: 0,
            plan,
        }
    }

    fn run(mut self) {
        let (mut ended, mut spins) = (false, 0);
        for _ in 0..200_000 {
            self.happen();
            while let Some(expired) = self.machine.expire(self.now, self.now) {
                self.expired(expired);
            }
            self.hear_news();
            let credit = self.plan.credit.map_or(usize::MAX, |most| most.saturating_sub(self.undelivered));
            self.machine.set_credit(credit);
            let mut leased = false;
            while let Some(lease) = self.machine.lease(self.now) {
                self.leased(lease, credit);
                leased = true;
            }
            let wants = self.machine.wants(self.now);
            assert!(wants.pull <= LOOK_AHEAD, "look-ahead is bounded");
            assert!(!(self.stopped && wants.pull > 0), "a stopped batch pulls nothing");
            let missing = self.plan.items - self.items.len();
            if wants.pull > 0 && missing > 0 {
                let some = self.rng.usize(1..=8);
                self.offer(wants.pull.min(missing).min(some));
                continue;
            }
            if missing == 0 && !ended {
                ended = true;
                self.machine.end_of_input();
                continue;
            }
            if wants.finished {
                return self.check_end();
            }
            if leased {
                continue;
            }
            // A slow sink is emptied when nothing else happens.
            let next =
                self.running.iter().filter_map(|running| running.ends).chain(wants.until).chain(self.events()).min();
            match next {
                Some(next) => {
                    // A machine that asks to be called at once has nothing to wait for, and would spin.
                    spins = if next > self.now { 0 } else { spins + 1 };
                    assert!(spins < 3, "the machine spins: {wants:?}");
                    self.now = next.max(self.now + TICK);
                }
                None => {
                    assert!(self.undelivered > 0, "something must happen next: {wants:?}");
                    self.now += TICK;
                }
            }
            self.undelivered = self.undelivered.saturating_sub(1);
            self.end_attempts();
        }
        panic!("the batch does not end");
    }

    /// Moments of the plan that are still to come.
    fn events(&self) -> impl Iterator<Item = Instant> + use<> {
        let stop = self.plan.stop.map(|(at, _)| at);
        let change = self.plan.change.map(|(at, ..)| at);
        let (start, now) = (self.start, self.now);
        [stop, change]
            .into_iter()
            .flatten()
            .map(move |at| start + Duration::from_millis(at))
            .filter(move |at| *at > now)
    }

    fn happen(&mut self) {
        if let Some((at, limit, per_key)) = self.plan.change
            && self.now >= self.start + Duration::from_millis(at)
        {
            self.plan.change = None;
            self.limits = limits(limit, per_key, &self.plan);
            self.machine.set_limits(self.now, self.limits);
        }
        if let Some((at, at_once)) = self.plan.stop
            && self.now >= self.start + Duration::from_millis(at)
        {
            self.plan.stop = None;
            self.stopped = true;
            if at_once { self.machine.abort() } else { self.machine.drain(self.now, GRACE) }
        }
    }

    fn offer(&mut self, count: usize) {
        for _ in 0..count {
            let key = self.rng.usize(0..self.plan.keys);
            let overrides = self.overrides();
            let ticket = self.machine.offer_with(self.now, &format!("k{key}"), overrides);
            self.by_ticket.insert(ticket, self.items.len());
            self.items.push(Item { key, overrides, ..Item::default() });
        }
    }

    fn overrides(&mut self) -> Overrides {
        if self.rng.u32(0..100) >= self.plan.overridden {
            return Overrides::default();
        }
        let time = |rng: &mut fastrand::Rng, most| rng.bool().then(|| Duration::from_millis(rng.u64(5..most)));
        let (timeout, deadline) = (time(&mut self.rng, 3000), time(&mut self.rng, 30_000));
        Overrides { timeout, deadline, repeats: self.rng.bool().then(|| self.rng.u16(0..5)) }
    }

    fn leased(&mut self, lease: Lease, credit: usize) {
        let number = self.by_ticket[&lease.ticket];
        let item = &mut self.items[number];
        let key = item.key;
        assert!(!item.decided, "a decided item does not start");
        assert!(!self.stopped, "nothing starts after a stop");
        assert!(self.paused.get(&key).is_none_or(|until| self.now >= *until), "a paused key starts nothing");
        let of_key = self.running.iter().filter(|running| running.key == key).count();
        assert!(self.running.len() < self.limits.limit.get() as usize, "in flight, over all");
        assert!(of_key < self.limits.per_key.get() as usize, "in flight, per key");
        assert!(lease.item_by.is_none_or(|by| by > self.now), "nothing starts at or after its deadline");
        let probe = self.held.contains_key(&key);
        if probe {
            assert!(!self.running.iter().any(|one| one.key == key && one.probe), "one probe at a time");
        }
        if self.plan.ordered {
            let item = &self.items[number];
            let others = self.items.iter().filter(|one| one.key == key && one.first_start.is_some() && !one.decided);
            assert_eq!(others.count(), usize::from(item.first_start.is_some()), "what is undecided lets nothing pass");
            assert_eq!(of_key, 0, "nothing starts beside what could not be stopped");
        }
        let item = &mut self.items[number];
        item.item_by = lease.item_by;
        item.attempt_by = lease.attempt_by;
        let timeout = item.overrides.timeout.or(self.plan.timeout.map(Duration::from_millis));
        assert_eq!(lease.attempt_by, timeout.map(|timeout| self.now + timeout), "its own timeout, or that of all");
        if item.first_start.replace(item.first_start.unwrap_or(self.now)).is_none() {
            *self.firsts.entry(key).or_default() += 1;
            self.items[number].owes = true;
            let owes = |(number, item): &(usize, &Item)| {
                item.owes && !item.decided && (!self.held.contains_key(&item.key) || self.is_running(*number))
            };
            let owed = self.items.iter().enumerate().filter(owes).count();
            assert!(owed <= credit, "what starts has room in the sink");
        }
        self.items[number].owes = true;
        self.starts.push((self.now, key));
        let hangs = self.rng.u32(0..100) < self.plan.hanging;
        let ends = (!hangs).then(|| self.now + Duration::from_micros(self.rng.u64(1..400_000)));
        let ends = ends.filter(|_| !self.is_silent(key));
        let ends = if self.is_away(key) { Some(self.now + Duration::from_micros(300)) } else { ends };
        self.running.push(Running { ticket: lease.ticket, key, ends, ghost: false, probe });
        assert_eq!(self.machine.in_flight() as usize, self.running.len());
    }

    fn end_attempts(&mut self) {
        let now = self.now;
        let mut at = 0;
        while at < self.running.len() {
            if self.running[at].ends.is_none_or(|ends| ends > now) {
                at += 1;
                continue;
            }
            let Running { ticket, ghost, .. } = self.running.swap_remove(at);
            if ghost {
                self.machine.release(ticket);
            } else {
                self.ended(ticket);
            }
            assert_eq!(self.machine.in_flight() as usize, self.running.len(), "who waits holds no slot");
        }
    }

    fn ended(&mut self, ticket: Ticket) {
        let number = self.by_ticket[&ticket];
        let key = self.items[number].key;
        let (dice, chance) = (self.rng.u32(0..100), self.rng.u64(0..3000));
        if self.rng.u32(0..100) < self.plan.detached
            && let Some(ghost) = self.machine.detach(ticket)
        {
            let ends = Some(self.now + Duration::from_millis(chance));
            self.running.push(Running { ticket: ghost, key, ends, ghost: true, probe: false });
        }
        let peer = match self.rng.u32(0..100) {
            _ if self.is_away(key) => Peer::Away,
            dice if dice < self.plan.overloaded => Peer::Overloaded,
            dice if dice < 95 => Peer::Fine,
            _ => Peer::Unknown,
        };
        let finish = match dice {
            _ if peer == Peer::Away => {
                if chance % 4 > 0 {
                    Finish::Unmet
                } else {
                    Finish::Retry { not_before: None }
                }
            }
            dice if dice < self.plan.throttled => {
                let until = Some(self.now + Duration::from_millis(chance)).filter(|_| chance % 3 > 0);
                Finish::Throttled { until, quota: chance % 2 == 0 }
            }
            dice if dice < self.plan.throttled + self.plan.retried => Finish::Retry { not_before: None },
            _ => Finish::Final,
        };
        let ruling = self.machine.finish(self.now, ticket, finish, peer);
        self.heard(key, peer);
        match (ruling, finish) {
            (Ruling::Waits, Finish::Unmet | Finish::Retry { .. }) => {
                assert!(peer == Peer::Away && self.plan.host_away.is_some(), "only a peer that is away is waited for");
                self.items[number].owes &= !self.held.contains_key(&key);
            }
            (Ruling::OutOfTime, Finish::Unmet | Finish::Retry { .. }) => {
                assert!(self.items[number].item_by.is_some(), "whose deadline?");
            }
            (Ruling::Again { at, .. }, Finish::Throttled { until, .. }) => {
                assert!(until.is_none_or(|until| at >= until), "jitter only adds");
                let until = until.unwrap_or(at).max(self.paused.get(&key).copied().unwrap_or(self.now));
                self.paused.insert(key, until);
            }
            (Ruling::Again { at, .. }, Finish::Retry { .. } | Finish::Unmet) => {
                assert!(at >= self.now);
                *self.repeats.entry(key).or_default() += 1;
                self.check_budget(key);
            }
            (Ruling::Decided, _) => self.decided(number),
            (Ruling::Late, _) => {
                assert!(self.items[number].item_by.is_some_and(|by| by <= self.now));
                self.conclude(ticket, number);
            }
            (Ruling::Exhausted, _) => {
                assert!(self.plan.budget.is_some());
                self.conclude(ticket, number);
            }
            (Ruling::Away { since, .. }, _) => {
                assert!(self.now >= since + self.host_away());
                self.conclude(ticket, number);
            }
            (Ruling::Stopping, Finish::Throttled { .. } | Finish::Unmet | Finish::Retry { .. }) => {
                assert!(self.stopped, "who stops it?");
                self.conclude(ticket, number);
            }
            (Ruling::Refused(_), _) => self.conclude(ticket, number),
            other => panic!("{other:?}"),
        }
    }

    fn is_running(&self, number: usize) -> bool {
        self.running.iter().any(|one| !one.ghost && self.by_ticket[&one.ticket] == number)
    }

    fn is_away(&self, key: usize) -> bool {
        let (keys, from, long) = self.plan.away;
        let from = self.start + Duration::from_millis(from);
        key < keys && self.now >= from && self.now < from + Duration::from_millis(long)
    }

    fn is_silent(&self, key: usize) -> bool {
        let (talking, from, long) = self.plan.silent;
        let from = self.start + Duration::from_millis(from);
        key >= talking && self.now >= from && self.now < from + Duration::from_millis(long)
    }

    /// An attempt under way has told this of its peer.
    fn heard(&mut self, key: usize, peer: Peer) {
        match peer {
            Peer::Silent => self.silences.entry(key).or_default().push(self.now),
            _ if peer.is_answer() => drop(self.silences.remove(&key)),
            _ => {}
        }
        self.hear_news();
        let name = format!("k{key}");
        let is_silent = self.machine.held().any(|(held, _, is_silent)| is_silent && held == name);
        assert!(!(peer.is_answer() && is_silent), "who answers is not held for being silent");
    }

    fn host_away(&self) -> Duration {
        self.plan.host_away.map(Duration::from_millis).expect("nobody is given up who is not waited for")
    }

    fn hear_news(&mut self) {
        for (key, news) in self.machine.take_news() {
            let key: usize = self.machine.name_of(key)[1..].parse().unwrap();
            match news {
                KeyNews::Away { since, is_silent } => {
                    assert!(self.plan.host_away.is_some(), "nobody waits for it");
                    assert!(self.held.insert(key, since).is_none(), "told once");
                    let silences = self.silences.get(&key).map_or(&[][..], Vec::as_slice);
                    match is_silent {
                        true => {
                            assert!(silences.len() > 1 && silences.contains(&since), "nothing came back since then")
                        }
                        false => assert_eq!(since, self.now),
                    }
                }
                KeyNews::Back(after) => {
                    let since = self.held.remove(&key).expect("who is back was away");
                    assert_eq!(after, self.now - since);
                    // A probe that an answer to another has overtaken is none any more.
                    self.running.iter_mut().filter(|one| one.key == key).for_each(|one| one.probe = false);
                    // What waits for its backoff may still owe; the model lets it go.
                    let idle: Vec<usize> = (0..self.items.len()).filter(|number| !self.is_running(*number)).collect();
                    for number in idle {
                        self.items[number].owes &= self.items[number].key != key;
                    }
                }
                KeyNews::Lowered(most) => assert!(most >= 1),
                KeyNews::Paced => {}
            }
        }
    }

    fn expired(&mut self, expired: Expired) {
        match expired {
            Expired::Attempt(ticket) => {
                let number = self.by_ticket[&ticket];
                let key = self.items[number].key;
                self.stop_running(ticket);
                assert!(self.items[number].attempt_by.is_some_and(|by| by <= self.now && self.now <= by + TICK));
                let is_news = self.machine.had_its_time(self.now, ticket);
                assert!(is_news || self.items[number].overrides.timeout.is_some());
                let began_to_answer = !self.is_silent(key) && self.rng.bool();
                let peer = if began_to_answer { Peer::Overloaded } else { Peer::Silent };
                let peer = if is_news { peer } else { Peer::Unknown };
                let ruling = self.machine.finish(self.now, ticket, Finish::Retry { not_before: None }, peer);
                self.heard(key, peer);
                match ruling {
                    Ruling::OutOfTime => {}
                    Ruling::Decided => self.decided(number),
                    Ruling::Again { .. } => {
                        *self.repeats.entry(key).or_default() += 1;
                        self.check_budget(key);
                    }
                    _ => self.conclude(ticket, number),
                }
            }
            Expired::Item { ticket, running } | Expired::Cancelled { ticket, running } => {
                assert_eq!(running, self.running.iter().any(|one| one.ticket == ticket && !one.ghost));
                self.stop_running(ticket);
                let is_deadline = matches!(expired, Expired::Item { .. });
                let is_news = is_deadline && self.machine.had_its_time(self.now, ticket);
                assert!(running || !is_news, "what is not under way says nothing");
                let peer = if is_news { Peer::Silent } else { Peer::Unknown };
                self.conclude_with(ticket, self.by_ticket[&ticket], peer);
            }
            Expired::Away { ticket, since, .. } => {
                assert!(self.now >= since + self.host_away());
                assert_eq!(self.held.get(&self.items[self.by_ticket[&ticket]].key), Some(&since));
                self.conclude(ticket, self.by_ticket[&ticket]);
            }
            Expired::Refused { ticket, wait } => {
                assert!(wait.retry_at > self.now);
                self.conclude(ticket, self.by_ticket[&ticket]);
            }
        }
    }

    fn stop_running(&mut self, ticket: Ticket) {
        self.running.retain(|running| running.ghost || running.ticket != ticket);
    }

    fn conclude(&mut self, ticket: Ticket, number: usize) {
        self.conclude_with(ticket, number, Peer::Unknown);
    }

    fn conclude_with(&mut self, ticket: Ticket, number: usize, peer: Peer) {
        assert_eq!(self.machine.finish(self.now, ticket, Finish::Final, peer), Ruling::Decided);
        self.heard(self.items[number].key, peer);
        self.decided(number);
        assert_eq!(
            self.machine.finish(self.now, ticket, Finish::Final, Peer::Unknown),
            Ruling::Stale,
            "a ticket counts once"
        );
    }

    fn decided(&mut self, number: usize) {
        let item = &mut self.items[number];
        assert!(!std::mem::replace(&mut item.decided, true), "one outcome each");
        let stopping = Duration::from_millis(self.plan.stopping);
        assert!(item.item_by.is_none_or(|by| self.now <= by + stopping + TICK), "a deadline is kept to the tick");
        self.undelivered += 1;
    }

    fn check_budget(&self, key: usize) {
        let Some(reserve) = self.plan.budget else { return };
        let earned = f64::from(reserve) + 0.2 * f64::from(self.firsts[&key]);
        assert!(f64::from(self.repeats[&key]) <= earned + 1e-3, "the retry budget is never overdrawn");
    }

    fn check_end(self) {
        assert!(self.items.iter().all(|item| item.decided), "every item that was offered has its outcome");
        assert!(self.stopped || self.items.len() == self.plan.items);
        check_rate(rate(self.plan.rate), self.starts.iter().map(|(at, _)| *at));
        for key in 0..self.plan.keys {
            let of_key = self.starts.iter().filter(|(_, one)| *one == key).map(|(at, _)| *at);
            check_rate(rate(self.plan.per_key_rate), of_key);
        }
    }
}

/// In any window: `n` starts take at least as long as all but a burst of them, evenly spaced.
fn check_rate(rate: Option<Rate>, starts: impl Iterator<Item = Instant>) {
    let Some(rate) = rate else { return };
    let starts: Vec<Instant> = starts.collect();
    for first in 0..starts.len() {
        for last in first..starts.len() {
            let spaced = u32::try_from(last - first + 1).unwrap().saturating_sub(rate.burst.get());
            let least = rate.interval() * spaced;
            let took = starts[last] - starts[first];
            assert!(
                took + Duration::from_nanos(u64::from(spaced)) >= least,
                "{spaced} starts beyond the burst in {took:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_law_holds_in_every_history(plan in plans()) {
        World::new(plan).run();
    }
}

#[test]
fn a_paused_key_delays_no_other() {
    let mut limits = Limits::new(NonZeroU32::new(4), NonZeroU32::new(4));
    limits.per_key = NonZeroU32::new(4).unwrap();
    let settings = Settings { limits, ..Settings::default() };
    let (mut machine, now) = (Machine::new(settings, 1), Instant::now());
    for _ in 0..3000 {
        machine.offer(now, "paused");
    }
    machine.pause_named(now, "paused", now + Duration::from_secs(30));
    assert!(machine.wants(now).pull > 0, "a paused key does not fill the look-ahead");
    let other = machine.offer(now, "other");
    assert_eq!(machine.lease(now).map(|lease| lease.ticket), Some(other));
    assert!(machine.lease(now).is_none());
}

const GRACE: Duration = Duration::from_millis(700);
const TICK: Duration = Duration::from_nanos(1);
/// `max(4 x limit, 1024)`.
const LOOK_AHEAD: usize = 1024;
