//! Peers that take what they are given and answer nothing: the pure machine, told the time and the ends of attempts.
//!
//! laws.rs has what holds in every history; here are the steps, one by one.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use unisono_batch::{Expired, Finish, KeyNews, Machine, Ruling, Settings, Ticket};
use unisono_core::{Limits, Peer, RetryPolicy, Times};

/// A machine whose attempts may take a second each, and its clock.
struct World {
    machine: Machine,
    now: Instant,
}

impl World {
    fn new(limit: u32, retry: RetryPolicy, ordered_by_key: bool) -> Self {
        let limits = Limits::new(NonZeroU32::new(limit), NonZeroU32::new(limit));
        let times = Times { timeout: Some(SECOND), deadline: None, ..Times::default() };
        Self { machine: Machine::new(Settings { limits, times, retry, ordered_by_key }, 7), now: Instant::now() }
    }

    fn offer(&mut self, key: &str, count: usize) -> Vec<Ticket> {
        (0..count).map(|_| self.machine.offer(self.now, key)).collect()
    }

    fn start(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| self.machine.lease(self.now)).map(|lease| lease.ticket).collect()
    }

    fn ends(&mut self, ticket: Ticket, finish: Finish, peer: Peer) -> Ruling {
        self.machine.finish(self.now, ticket, finish, peer)
    }

    fn all_end(&mut self, tickets: &[Ticket], peer: Peer) {
        for ticket in tickets {
            self.ends(*ticket, Finish::Final, peer);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn news(&mut self) -> Vec<KeyNews> {
        self.machine.take_news().into_iter().map(|(_, news)| news).collect()
    }

    fn held(&self) -> Vec<(String, Instant, bool)> {
        self.machine.held().map(|(key, since, is_silent)| (key.to_owned(), since, is_silent)).collect()
    }

    /// Two flights that nothing comes back for: the key is held. Returns since when.
    fn fall_silent(&mut self, key: &str) -> Instant {
        self.offer(key, 100);
        let first = self.start();
        self.pass(SECOND);
        let since = self.now;
        self.all_end(&first, Peer::Silent);
        let second = self.start();
        self.pass(SECOND);
        self.all_end(&second, Peer::Silent);
        since
    }
}

#[test]
fn a_key_is_held_since_its_silence_began() {
    let mut world = World::new(20, waiting(60), false);
    let since = world.fall_silent("a");
    assert_eq!(world.held(), [("a".to_owned(), since, true)]);
    assert!(world.news().contains(&KeyNews::Away { since, is_silent: true }));
    world.pass(SECOND);
    assert_eq!(world.start().len(), 1, "one at a time looks for it");
}

#[test]
fn one_flight_alone_holds_nothing() {
    let mut world = World::new(20, waiting(60), false);
    world.offer("a", 100);
    let flight = world.start();
    world.pass(SECOND);
    world.all_end(&flight, Peer::Silent);
    assert!(world.held().is_empty());
    assert_eq!(world.start().len(), 9, "it is lowered, as one that has too much to do");
}

#[test]
fn any_answer_ends_a_silence_whenever_it_was_asked_for() {
    for answer in [Peer::Fine, Peer::Overloaded] {
        let mut world = World::new(20, waiting(60), false);
        world.offer("a", 100);
        let first = world.start();
        world.pass(SECOND);
        // Lowered meanwhile, so that the last of them is of an older epoch.
        world.all_end(&first[..19], Peer::Silent);
        let second = world.start();
        world.pass(SECOND / 2);
        world.all_end(&first[19..], answer);
        world.pass(SECOND / 2);
        world.all_end(&second, Peer::Silent);
        assert!(world.held().is_empty(), "{answer:?}");
    }
}

#[test]
fn an_answer_to_another_lets_a_silent_key_go_and_its_probe_keeps_no_other_from_looking() {
    // Of twenty at once, five may be probes.
    let mut world = World::new(20, waiting(60), false);
    for key in ["a", "b", "c", "d", "e", "f"] {
        let rows = world.offer(key, 40);
        let first = world.start();
        world.pass(SECOND);
        world.all_end(&first, Peer::Silent);
        let second = world.start();
        world.pass(SECOND);
        world.all_end(&second[1..], Peer::Silent);
        world.pass(SECOND);
        let probe = world.start();
        assert_eq!((probe.len(), world.held().len()), (1, 1), "{key}");
        world.ends(second[0], Finish::Final, Peer::Fine);
        assert!(world.held().is_empty() && matches!(world.news().last(), Some(KeyNews::Back(_))), "{key}");
        world.all_end(&probe, Peer::Unknown);
        world.all_end(&rows, Peer::Unknown);
    }
    let other = world.offer("g", 1);
    assert_eq!(world.start(), other);
    world.ends(other[0], Finish::Unmet, Peer::Away);
    world.pass(SECOND);
    assert_eq!(world.start(), other, "it looks for its own");
}

#[test]
fn a_pause_in_which_nothing_was_asked_is_no_silence() {
    let mut world = World::new(1, waiting(60), false);
    for _ in 0..10 {
        world.offer("a", 1);
        let one = world.start();
        world.pass(SECOND);
        world.all_end(&one, Peer::Silent);
        world.pass(Duration::from_secs(100));
    }
    assert!(world.news().iter().all(|news| !matches!(news, KeyNews::Away { .. })));
}

#[test]
fn one_at_a_time_is_held_when_its_time_is_over_and_given_up_when_probes_have_missed_it_as_well() {
    // Each attempt takes a fifth of the time that the peer is waited for.
    let mut world = World::new(1, waiting(5), false);
    world.offer("a", 100);
    let began = world.now;
    let mut held_at = None;
    let mut probes = 0;
    let since = began + SECOND;
    loop {
        world.pass(Duration::from_millis(1));
        assert!(world.now < began + Duration::from_secs(60), "never given up");
        if let Some(expired) = world.machine.expire(world.now, world.now) {
            assert!(matches!(expired, Expired::Away { since: told, is_silent: true, .. } if told == since));
            break;
        }
        for ticket in world.start() {
            probes += u32::from(held_at.is_some());
            world.pass(SECOND - Duration::from_millis(1));
            world.ends(ticket, Finish::Final, Peer::Silent);
            held_at = held_at.or(world.held().first().map(|_| world.now));
        }
    }
    assert_eq!(probes, 2);
    assert!(held_at.is_some_and(|at| at >= since + Duration::from_secs(5)));
    assert!(world.now <= began + Duration::from_secs(10), "{:?}", world.now - began);
}

#[test]
fn a_repeat_that_looked_for_a_peer_which_is_given_up_by_it_ends_with_it() {
    let mut world = World::new(20, waiting(2), false);
    let since = world.fall_silent("a");
    let again = Finish::Retry { not_before: None };
    let mut rulings = Vec::new();
    while rulings.len() < 2 {
        assert!(world.now < since + Duration::from_secs(60), "it does not look");
        world.pass(Duration::from_millis(500));
        assert!(world.machine.expire(world.now, world.now).is_none(), "two probes come first");
        for ticket in world.start() {
            world.pass(SECOND);
            rulings.push(world.ends(ticket, again, Peer::Silent));
        }
    }
    assert!(
        matches!(rulings[..], [Ruling::Again { .. }, Ruling::Away { since: told, is_silent: true }] if told == since)
    );
}

#[test]
fn whoever_waits_for_no_host_holds_none_that_is_silent() {
    let mut world = World::new(20, RetryPolicy { host_away: None, ..RetryPolicy::default() }, false);
    for _ in 0..50 {
        world.offer("a", 20);
        let flight = world.start();
        assert!(!flight.is_empty());
        world.pass(SECOND);
        world.all_end(&flight, Peer::Silent);
    }
    assert!(world.held().is_empty());
}

#[test]
fn silence_of_a_peer_is_looked_for_by_what_was_not_tried_unless_a_key_is_in_order() {
    for ordered in [false, true] {
        let mut world = World::new(4, waiting(60), ordered);
        let rows = world.offer("a", 50);
        let mut tried = Vec::new();
        for _ in 0..100 {
            if !world.held().is_empty() {
                break;
            }
            for ticket in world.start() {
                tried.push(ticket);
                world.pass(SECOND);
                world.ends(ticket, Finish::Retry { not_before: Some(world.now) }, Peer::Silent);
            }
            world.pass(SECOND);
        }
        assert_eq!(world.held().len(), 1);
        // What was tried has its backoff behind it, and could be the first.
        world.pass(Duration::from_secs(30));
        let probe = world.start();
        match ordered {
            true => assert_eq!(probe, [rows[0]]),
            false => assert!(!tried.contains(&probe[0])),
        }
    }
}

fn waiting(seconds: u64) -> RetryPolicy {
    RetryPolicy { repeats: 20, host_away: Some(Duration::from_secs(seconds)), ..RetryPolicy::default() }
}

const SECOND: Duration = Duration::from_secs(1);
