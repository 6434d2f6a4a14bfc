//! How often a key may start after it was refused: the quota of a server that does not announce it.
//!
//! A server with a quota answers 429 and asks for a pause. Whoever comes back at full speed is refused again, and
//! spends most of the time in pauses. So the first refusal engages a pace, found by bisection between a rate that
//! the server bore (for a while, or on average over the last cycle, pause included) and the lowest rate that it
//! refused. When the two are within 3 %, the pace is held for a minute; then it grows
//! again, faster with each step, since quotas change. A pace that no longer holds anything back is dropped.
//!
//! A key that was never refused has no pace, and pays one counter for it.

use std::time::{Duration, Instant};

/// What is known about a key's quota.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Start of the present cycle: when the key was last resumed, or first used.
    since: Instant,
    /// Answers in the present cycle that were no refusals.
    accepted: u32,
    engaged: Option<Engaged>,
}

#[derive(Debug, Clone)]
struct Engaged {
    /// Starts per second.
    rate: f64,
    /// The highest rate that lasted for a step.
    kept: f64,
    /// By how much the rate falls when one that lasted is refused.
    cut: f64,
    /// The lowest rate that was refused lately; infinite when nobody knows.
    refused: f64,
    /// The next start is due then.
    next: Instant,
    /// When the rate is considered again.
    review: Instant,
    /// Starts since the last review, to see whether the pace is what holds the key back.
    starts: u32,
    reviewed: Instant,
    /// Growth per review once nothing is known to be refused.
    growth: f64,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, accepted: 0, engaged: None }
    }

    /// The first moment at which the pace lets something start.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        self.engaged.as_ref().map_or(now, |engaged| engaged.next)
    }

    /// Counts a start, which could have come at `dated` already.
    pub(crate) fn start(&mut self, now: Instant, dated: Instant) {
        let Some(engaged) = &mut self.engaged else { return };
        engaged.next = engaged.next.max(dated) + Duration::from_secs_f64(1.0 / engaged.rate);
        engaged.starts += 1;
        if now >= engaged.review && !engaged.grow(now) {
            self.engaged = None;
        }
    }

    /// Counts an answer that was no refusal.
    pub(crate) fn accept(&mut self) {
        self.accepted = self.accepted.saturating_add(1);
    }

    /// The server refused, and wants to be left alone until then. Once per pause: later refusals of requests that
    /// were already under way say nothing new.
    pub(crate) fn refuse(&mut self, now: Instant, until: Instant) {
        if self.accepted == 0 {
            // Refused again before anything was accepted: the pause was too short, which says nothing about the rate.
            self.since = until;
            if let Some(engaged) = &mut self.engaged {
                engaged.pause(until);
            }
            return;
        }
        let cycle = (until - self.since).as_secs_f64().max(0.001);
        let active = now.saturating_duration_since(self.since).as_secs_f64().max(0.001);
        let accepted = f64::from(self.accepted.max(1));
        let kept_up = accepted / cycle;
        let engaged = match &self.engaged {
            None => Engaged::at(kept_up, accepted / active, FIRST_CUT, until),
            Some(engaged) => {
                let refused = engaged.rate.min(engaged.refused);
                if engaged.kept < refused {
                    // Where more was accepted than the pace allowed, by what was under way already, that says nothing about
                    // it: what has lasted is kept to, and where nothing has yet, the rate gives way a little.
                    let lasted = if engaged.kept > 0.0 { engaged.kept } else { refused * (1.0 - engaged.cut) };
                    let rate = if kept_up < refused { kept_up.max(engaged.kept) } else { lasted };
                    Engaged { kept: engaged.kept, ..Engaged::at(rate, refused, engaged.cut, until) }
                } else {
                    // What lasted for a while on a server's saved-up allowance is no proof once it was refused: a
                    // cut, twice as deep each time, down to what the server bears on average.
                    let rate = (refused * (1.0 - engaged.cut)).max(kept_up.min(refused * 0.99));
                    Engaged::at(rate, refused, (engaged.cut * 2.0).min(DEEPEST_CUT), until)
                }
            }
        };
        self.engaged = Some(engaged);
        self.since = until;
        self.accepted = 0;
    }

    /// Whether forgetting it loses nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.engaged.is_none()
    }
}

impl Engaged {
    /// A pace that begins when the pause ends.
    fn at(rate: f64, refused: f64, cut: f64, until: Instant) -> Self {
        let rate = rate.max(SLOWEST);
        Self {
            rate,
            kept: 0.0,
            refused,
            cut,
            next: until,
            review: until + step(rate),
            starts: 0,
            reviewed: until,
            growth: FIRST_GROWTH,
        }
    }

    /// The same pace, once the pause ends.
    fn pause(&mut self, until: Instant) {
        (self.next, self.reviewed, self.starts) = (until, until, 0);
        self.review = until + step(self.rate);
    }

    /// A step passed without a refusal: go faster. `false` when the pace holds nothing back any more.
    fn grow(&mut self, now: Instant) -> bool {
        let seconds = (now - self.reviewed).as_secs_f64().max(0.001);
        let used = f64::from(self.starts) / seconds;
        self.kept = self.kept.max(self.rate);
        let gap = (self.refused - self.rate) / self.rate;
        if self.refused.is_infinite() {
            if used < self.rate * 0.5 {
                return false;
            }
            self.rate *= 1.0 + self.growth;
            self.growth = (self.growth * 2.0).min(1.0);
            self.review = now + step(self.rate);
        } else if gap <= CLOSE_ENOUGH {
            // The bound is forgotten now and looked for again after the hold.
            self.refused = f64::INFINITY;
            self.cut = FIRST_CUT;
            self.review = now + HOLD;
        } else {
            self.rate += (self.rate * gap / 2.0).min(self.rate / 4.0);
            self.review = now + step(self.rate);
        }
        self.starts = 0;
        self.reviewed = now;
        true
    }
}

/// How long a rate is tried before it is raised: several times a second, which is the window of most quotas, and
/// long enough for twenty starts, since fewer say little about a rate. Found by simulation, as all numbers here.
fn step(rate: f64) -> Duration {
    Duration::from_secs_f64((20.0 / rate).max(4.0))
}

/// A refusal costs a pause of a second or more: once a minute is under 2 % of the time.
const HOLD: Duration = Duration::from_secs(60);
const CLOSE_ENOUGH: f64 = 0.03;
const FIRST_GROWTH: f64 = 0.02;
const FIRST_CUT: f64 = 0.02;
const DEEPEST_CUT: f64 = 0.5;
/// Starts per second: an hour for four requests, the slowest quota seen in the wild that still sends 429.
const SLOWEST: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_the_wake_of_a_burst_does_not_stop_the_key() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(start);
        (0..8).for_each(|_| pace.accept());
        pace.refuse(start + second, start + second);
        // What was under way before comes in at once, and then another refusal.
        for turn in 1..20 {
            let now = start + second + Duration::from_millis(10) * turn;
            (0..8).for_each(|_| pace.accept());
            pace.start(now, now);
            pace.refuse(now, now);
        }
        let now = start + 2 * second;
        pace.start(now, now);
        assert!(pace.next(now) - now < 60 * second, "the next start is due in {:?}", pace.next(now) - now);
    }

    /// A server that accepts `quota` requests in each second and refuses the rest until the second is over.
    fn simulate(quota: u32, seconds: u64) -> (u32, u32) {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let (mut now, mut pace) = (start, Pace::new(start));
        let (mut window, mut used, mut accepted, mut refused) = (0, 0, 0, 0);
        while now < end {
            let this = (now - start).as_secs();
            if this != window {
                (window, used) = (this, 0);
            }
            pace.start(now, now);
            if used < quota {
                used += 1;
                accepted += 1;
                pace.accept();
                // Without a pace, an answer takes 200 us.
                now = pace.next(now).max(now + Duration::from_micros(200));
            } else {
                refused += 1;
                let until = now + Duration::from_secs(1);
                pace.refuse(now, until);
                now = until;
            }
        }
        (accepted, refused)
    }

    #[test]
    fn a_fixed_quota_is_used_to_95_percent_with_under_2_percent_refused() {
        for quota in [5, 20, 100, 1000] {
            let seconds = u64::from(4000 / quota).max(200);
            let (accepted, refused) = simulate(quota, seconds);
            let share = f64::from(accepted) / (f64::from(quota) * seconds as f64);
            assert!(share >= 0.95, "quota {quota}: used {share}");
            assert!(f64::from(refused) < 0.02 * f64::from(accepted + refused), "quota {quota}: refused {refused}");
        }
    }

    #[test]
    fn a_key_that_was_never_refused_is_never_held_back() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..1000 {
            pace.start(now, now);
            pace.accept();
        }
        assert_eq!(pace.next(now), now);
        assert!(pace.is_idle());
    }

    #[test]
    fn a_server_that_needs_longer_than_it_said_does_not_slow_the_pace_down() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        (0..1000).for_each(|_| pace.accept());
        now += Duration::from_secs(1);
        pace.refuse(now, now + Duration::from_secs(1));
        let rate = pace.engaged.as_ref().unwrap().rate;
        for _ in 0..60 {
            now += Duration::from_secs(1);
            pace.start(now, now);
            pace.refuse(now, now + Duration::from_secs(1));
        }
        assert_eq!(pace.engaged.as_ref().unwrap().rate, rate);
    }

    #[test]
    fn a_pace_that_holds_nothing_back_is_dropped() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            pace.accept();
        }
        pace.refuse(now, now + Duration::from_secs(1));
        now += Duration::from_secs(1);
        // Two starts a second, far below the hundred that the server kept up.
        for _ in 0..400 {
            now = pace.next(now).max(now + Duration::from_millis(500));
            pace.start(now, now);
            pace.accept();
        }
        assert!(pace.is_idle());
    }
}
