//! The laws of a limiter, checked over random histories in virtual time: callers ask, wait, enter, give up at every
//! stage, and leave.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use unisono_batch::{Limiter, Visit};
use unisono_core::{Limits, Rate};

#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    /// The caller that asked so many before the last one goes in, if they may.
    Enter(usize),
    /// They give up, wherever they are.
    GiveUp(usize),
    Leave(u8),
    SetLimits(u32, u32),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..4).prop_map(Step::Ask),
        3 => (0usize..12).prop_map(Step::Enter),
        3 => (0usize..12).prop_map(Step::GiveUp),
        3 => (0u8..4).prop_map(Step::Leave),
        1 => (1u32..5, 1u32..4).prop_map(|(limit, per_key)| Step::SetLimits(limit, per_key)),
        1 => (0u64..40).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..120)
}

fn limits(limit: u32, per_key: u32, rate: Option<u32>) -> Limits {
    let number = |number| NonZeroU32::new(number).expect("it is not zero");
    let mut limits = Limits::new(Some(number(limit)), Some(number(per_key)));
    limits.rate = rate.map(|rate| format!("{rate}/s").parse::<Rate>().expect("it is a rate"));
    limits
}

/// What every caller believes, held against the limiter.
struct World {
    limiter: Limiter<u64>,
    now: Instant,
    visits: Vec<(Visit, String)>,
    /// The visits that wait with each key, in the order in which they asked.
    lines: HashMap<String, VecDeque<Visit>>,
    /// The visits that have a place, and whether they have gone in.
    placed: HashMap<Visit, (String, bool)>,
    /// In the order in which they went in.
    entered: Vec<Visit>,
    /// When places were taken that were not given back unused.
    starts: HashMap<Visit, Instant>,
    limits: Limits,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            limiter: Limiter::new(limits),
            now: Instant::now(),
            visits: Vec::new(),
            lines: HashMap::new(),
            placed: HashMap::new(),
            entered: Vec::new(),
            starts: HashMap::new(),
            limits,
        }
    }

    fn admitted(&mut self, admitted: Vec<(Visit, u64)>) {
        for (visit, number) in admitted {
            let (_, key) = self.visits[number as usize].clone();
            self.place(visit, key);
        }
    }

    fn place(&mut self, visit: Visit, key: String) {
        let line = self.lines.get_mut(&key).expect("somebody has asked");
        assert_eq!(line.pop_front(), Some(visit), "whoever asked first goes first");
        self.placed.insert(visit, (key, false));
        self.starts.insert(visit, self.now);
    }

    fn ask(&mut self, key: u8) {
        let key = key.to_string();
        let number = self.visits.len() as u64;
        let (visit, admitted) = self.limiter.ask(self.now, &key);
        self.visits.push((visit, key.clone()));
        self.lines.entry(key.clone()).or_default().push_back(visit);
        self.admitted(admitted);
        if self.limiter.enter(visit, thread::current().id()) {
            self.place(visit, key);
            self.placed.get_mut(&visit).expect("just placed").1 = true;
            self.entered.push(visit);
        } else {
            assert_eq!(self.limiter.wait(visit, number), Ok(()));
        }
    }

    fn recent(&self, back: usize) -> Option<(Visit, String)> {
        self.visits.len().checked_sub(back + 1).map(|at| self.visits[at].clone())
    }

    fn enter(&mut self, back: usize) {
        let Some((visit, _)) = self.recent(back) else { return };
        let may = self.placed.get(&visit).is_some_and(|(_, is_in)| !is_in);
        assert_eq!(self.limiter.enter(visit, thread::current().id()), may);
        if may {
            self.placed.get_mut(&visit).expect("it has a place").1 = true;
            self.entered.push(visit);
        }
    }

    fn give_up(&mut self, back: usize) {
        let Some((visit, key)) = self.recent(back) else { return };
        if let Some(line) = self.lines.get_mut(&key) {
            line.retain(|other| *other != visit);
        }
        if self.placed.remove(&visit).is_some_and(|(_, is_in)| !is_in) {
            self.starts.remove(&visit);
        }
        let (_, admitted) = self.limiter.withdraw(self.now, visit);
        self.admitted(admitted);
        assert!(!self.limiter.enter(visit, thread::current().id()), "whoever has given up has no place");
    }

    fn leave(&mut self, key: u8) {
        let key = key.to_string();
        let inside = self.placed.iter().filter(|(_, (other, is_in))| *other == key && *is_in).count();
        let left = self.limiter.leave(self.now, &key, thread::current().id());
        assert_eq!(left.is_some(), inside > 0);
        // Those inside are alike: the one that went in last leaves.
        let is_of_key = |visit: &&Visit| self.placed.get(visit).is_some_and(|(other, is_in)| *other == key && *is_in);
        let last = self.entered.iter().rev().find(is_of_key).copied();
        if let (Some(visit), Some(admitted)) = (last, left) {
            self.placed.remove(&visit);
            self.admitted(admitted);
        }
    }

    fn check(&mut self, has_rate: bool, was_lowered: bool) {
        let free = |world: &Self, key: &str| {
            let of_key = world.placed.values().filter(|(other, _)| other == key).count();
            world.placed.len() < world.limits.limit.get() as usize && of_key < world.limits.per_key.get() as usize
        };
        assert_eq!(self.limiter.inside() as usize, self.placed.len());
        assert_eq!(self.limiter.waiting(), self.lines.values().map(VecDeque::len).sum::<usize>());
        if !was_lowered {
            assert!(self.placed.len() <= self.limits.limit.get() as usize);
        }
        let waits_for_nothing = self.lines.iter().any(|(key, line)| !line.is_empty() && free(self, key));
        if !has_rate {
            assert!(!waits_for_nothing, "nobody waits while a place is free");
        } else if waits_for_nothing {
            assert!(self.limiter.until(self.now).is_some_and(|until| until > self.now), "they wait for the time only");
        }
    }

    fn end(mut self) {
        while let Some((visit, _)) = self.visits.pop() {
            let (_, _admitted) = self.limiter.withdraw(self.now, visit);
        }
        assert_eq!((self.limiter.inside(), self.limiter.waiting(), self.limiter.keys_inside()), (0, 0, 0));
        assert_eq!(self.limiter.wakes().count(), 0);
    }
}

fn run(steps: Vec<Step>, limit: u32, per_key: u32, rate: Option<u32>) {
    let mut world = World::new(limits(limit, per_key, rate));
    let mut was_lowered = false;
    for step in steps {
        match step {
            Step::Ask(key) => world.ask(key),
            Step::Enter(back) => world.enter(back),
            Step::GiveUp(back) => world.give_up(back),
            Step::Leave(key) => world.leave(key),
            Step::SetLimits(limit, per_key) => {
                was_lowered |= limit < world.limits.limit.get();
                world.limits = limits(limit, per_key, rate);
                let admitted = world.limiter.set_limits(world.now, world.limits);
                world.admitted(admitted);
            }
            Step::Pass(milliseconds) => {
                world.now += Duration::from_millis(milliseconds);
                let admitted = world.limiter.admit(world.now);
                world.admitted(admitted);
            }
        }
        world.check(rate.is_some(), was_lowered);
    }
    if let Some(rate) = rate {
        let mut starts: Vec<Instant> = world.starts.values().copied().collect();
        starts.sort();
        for (first, from) in starts.iter().enumerate() {
            for (last, to) in starts.iter().enumerate().skip(first) {
                // The machine lends lateness of up to 20 ms (its `MOST_LATE`).
                let most = 1.0 + (to.duration_since(*from).as_secs_f64() + 0.02) * f64::from(rate);
                assert!((last - first + 1) as f64 <= most + 1e-6, "too many in {:?}", to.duration_since(*from));
            }
        }
    }
    world.end();
}

proptest! {
    #[test]
    fn whoever_gives_up_at_whatever_stage_takes_no_place_with_them(
        steps in steps(), limit in 1u32..5, per_key in 1u32..4,
    ) {
        run(steps, limit, per_key, None);
    }

    #[test]
    fn whoever_gives_up_at_whatever_stage_takes_nothing_of_a_rate_with_them(
        steps in steps(), limit in 1u32..5, per_key in 1u32..4, rate in 20u32..400,
    ) {
        run(steps, limit, per_key, Some(rate));
    }
}

#[test]
fn a_place_that_was_not_entered_goes_to_the_next_one_with_what_it_took_of_the_rate() {
    let mut limits = limits(1, 1, None);
    limits.rate = Some("1/h".parse().expect("it is a rate"));
    let (mut limiter, now) = (Limiter::new(limits), Instant::now());
    let (first, _) = limiter.ask(now, "");
    let (second, admitted) = limiter.ask(now, "");
    assert!(admitted.is_empty());
    assert_eq!(limiter.wait(second, "second"), Ok(()));
    let (_, admitted) = limiter.withdraw(now, first);
    assert_eq!(admitted, [(second, "second")]);
}

#[test]
fn after_a_fork_only_those_are_inside_who_entered_by_the_thread_that_is_left() {
    let (mut limiter, now) = (Limiter::new(limits(2, 2, None)), Instant::now());
    let here = thread::current().id();
    let other = thread::spawn(|| thread::current().id()).join().expect("it does nothing");
    for thread in [here, other] {
        let (visit, _) = limiter.ask(now, "");
        assert!(limiter.enter(visit, thread));
    }
    let (waiting, _) = limiter.ask(now, "");
    assert_eq!(limiter.wait(waiting, "waiting"), Ok(()));
    assert_eq!(limiter.keep_only(now, here), ["waiting"]);
    assert_eq!((limiter.inside(), limiter.waiting()), (1, 0));
    assert!(limiter.leave(now, "", here).is_some());
    assert!(limiter.leave(now, "", here).is_none());
}
