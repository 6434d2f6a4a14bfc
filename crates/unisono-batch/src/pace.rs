//! How often a key may start after it was refused: the quota of a server that does not announce it.
//!
//! A server with a quota lets so many requests through, and refuses the rest until it is renewed: by a window that ends
//! (fixed), by old requests that leave it (sliding), or bit by bit (token bucket, leaky bucket). A key that comes back
//! at full speed is refused again and again. What the server bears is seen from outside: in a *cycle*, from the first
//! request that it lets through after a refusal to the first one after the next refusal, it lets through what the quota
//! allows in that time. The first cycle may be flattered by what was saved up, or by a window that was nearly over; the
//! second is not. So the pace is what was let through in the last cycles, divided by the time that they took.
//!
//! The end of a refusal is looked for by one request at a time, after a fifth of the time that it has lasted so far:
//! close enough to measure by, and few. When the server says when to come back, that is when the next one comes; such a
//! pause is often longer than the quota needs, so a rate that lasted for a while first falls by cuts.
//!
//! A pace that is not refused grows, faster with each step, since quotas change and the first guess may be low; towards
//! a rate that was refused lately it goes half of the way, and when the two are within 3 %, holds for a minute. A pace
//! that no longer holds anything back is dropped.
//!
//! A key that was never refused has no pace, and pays a counter and two times for it.

use std::time::{Duration, Instant};

/// What is known about a key's quota.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// When the first request of the present cycle was started.
    begun: Instant,
    /// When the last request was started.
    last: Instant,
    /// Requests of the present cycle that were let through.
    accepted: u32,
    engaged: Option<Box<Engaged>>,
}

#[derive(Debug, Clone)]
struct Engaged {
    /// Starts per second; infinite before the end of the first cycle.
    rate: f64,
    /// The highest rate of this cycle that lasted for a step.
    kept: f64,
    /// The rate that lasted for a whole hold, until it is refused itself.
    held: f64,
    is_holding: bool,
    /// The lowest rate that was refused lately; infinite where none was.
    refused: f64,
    /// By how much a rate falls that lasted and was refused.
    cut: f64,
    /// The server says when to come back.
    announced: bool,
    /// It refused because it has too much to do, which passes, and not because a quota is used up.
    overloaded: bool,
    /// By how much the rate grows at the next review.
    growth: f64,
    /// The next start is due then.
    next: Instant,
    /// The end of the last pause, or when it was known. What was started before is news no more.
    resumed: Instant,
    /// The server refuses at present.
    refusal: Option<Refusal>,
    /// When the rate is considered again.
    review: Instant,
    reviewed: Instant,
    /// Starts since the last review, to see whether the pace is what holds the key back.
    starts: u32,
    /// What was let through in the last cycles, but the first, and the seconds that they took; older ones weigh less.
    let_through: f64,
    seconds: f64,
    /// The shortest cycle: about the window of the quota, where it has one.
    shortest_secs: f64,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    since: Instant,
    /// When the last request was started that was refused.
    last: Instant,
    /// How long until the next one looks whether it is over.
    gap: Duration,
    /// The server said when to come back.
    announced: bool,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { begun: now, last: now, accepted: 0, engaged: None }
    }

    /// The first moment at which the pace lets something start.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        self.engaged.as_ref().map_or(now, |engaged| engaged.next)
    }

    /// Counts a start, which could have come at `dated` already.
    pub(crate) fn start(&mut self, now: Instant, dated: Instant) {
        let is_new = match &mut self.engaged {
            Some(engaged) => !engaged.start(now, dated),
            // What was let through when hardly anything was asked for says nothing about the most.
            None => self.accepted == 0 || now.saturating_duration_since(self.last) > IDLE,
        };
        if is_new {
            *self = Self::new(now);
        }
        self.last = now;
    }

    /// Counts an answer that was no refusal, to a request that was started then. `true` when that ends a refusal: then
    /// more may start at once.
    pub(crate) fn accept(&mut self, now: Instant, started: Instant) -> bool {
        let Some(engaged) = &mut self.engaged else {
            let past = now.saturating_duration_since(self.begun);
            if past > REMEMBERED {
                (self.begun, self.accepted) = (self.begun + past / 2, self.accepted / 2);
            }
            self.accepted = self.accepted.saturating_add(1);
            return false;
        };
        if engaged.refusal.is_none() || started < engaged.resumed {
            self.accepted = self.accepted.saturating_add(1);
            return false;
        }
        engaged.resume(now, self.begun, started, self.accepted);
        (self.begun, self.accepted) = (started, 1);
        true
    }

    /// The server refused a request that was started then; `asked` is when it wants to be asked again, if it says so.
    /// Returns when something may start again.
    pub(crate) fn refuse(&mut self, now: Instant, started: Instant, asked: Option<Instant>) -> Instant {
        let engaged = self.engaged.get_or_insert_with(|| Box::new(Engaged::new(started)));
        if started < engaged.resumed {
            // It was under way when another one was refused.
            return engaged.resumed.max(now);
        }
        let refusal =
            engaged.refusal.get_or_insert(Refusal { since: now, last: started, gap: SHORTEST_GAP, announced: false });
        refusal.last = started;
        refusal.announced |= asked.is_some();
        refusal.gap = ((now - refusal.since) / 5).clamp(SHORTEST_GAP, LONGEST_GAP);
        let until = asked.unwrap_or(now + refusal.gap);
        (engaged.next, engaged.resumed) = (until, until);
        until
    }

    /// As [`Pace::refuse`], by a server that has too much to do: what it bore then is forgotten sooner.
    pub(crate) fn overload(&mut self, now: Instant, started: Instant) -> Instant {
        let until = self.refuse(now, started, None);
        if let Some(engaged) = &mut self.engaged {
            engaged.overloaded = true;
        }
        until
    }

    /// Whether forgetting it loses nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.engaged.is_none()
    }
}

impl Engaged {
    fn new(started: Instant) -> Self {
        Self {
            rate: f64::INFINITY,
            kept: 0.0,
            held: 0.0,
            is_holding: false,
            refused: f64::INFINITY,
            cut: FIRST_CUT,
            announced: false,
            overloaded: false,
            growth: FIRST_GROWTH,
            next: started,
            resumed: started,
            refusal: None,
            review: started,
            reviewed: started,
            starts: 0,
            let_through: 0.0,
            seconds: 0.0,
            shortest_secs: f64::INFINITY,
        }
    }

    /// Counts a start. `false` when the pace holds nothing back any more.
    fn start(&mut self, now: Instant, dated: Instant) -> bool {
        if let Some(refusal) = &self.refusal {
            self.next = self.next.max(now) + refusal.gap;
            return true;
        }
        self.next = self.next.max(dated) + Duration::from_secs_f64(1.0 / self.rate);
        self.starts += 1;
        now < self.review || self.grow(now)
    }

    /// The first request after a refusal was let through: so many were since the cycle's begin.
    fn resume(&mut self, now: Instant, begun: Instant, started: Instant, accepted: u32) {
        let Some(refusal) = self.refusal.take() else { return };
        let seconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let cycle = seconds(begun, started).max(0.001);
        // The quota was renewed between the last request that was refused and this one.
        let renewed = if refusal.announced { cycle } else { cycle.midpoint(seconds(begun, refusal.last)) };
        self.announced = refusal.announced;
        // What was started before this was known is news no more, as others may have looked at the same time.
        self.resumed = now;
        let accepted = f64::from(accepted.max(1));
        self.rate = if self.rate.is_infinite() {
            accepted / renewed
        } else {
            self.refused = self.rate;
            if self.rate <= self.held {
                self.held = 0.0;
            }
            // An announced pause may be longer than the quota needs, and then says less than a rate that lasted: it
            // falls by a cut, twice as deep each time.
            let has_lasted =
                refusal.announced && seconds(self.reviewed, refusal.since) > 0.5 * seconds(refusal.since, started);
            let lasted = if has_lasted { self.rate * (1.0 - self.cut) } else { 0.0 };
            self.cut = if has_lasted { (2.0 * self.cut).min(DEEPEST_CUT) } else { FIRST_CUT };
            self.measure(accepted, renewed).max(self.kept).max(lasted).min(self.rate * (1.0 - FIRST_CUT)).max(self.held)
        };
        self.is_holding = false;
        self.shortest_secs = self.shortest_secs.min(cycle);
        self.kept = 0.0;
        self.growth = FIRST_GROWTH;
        self.next = now.max(started + Duration::from_secs_f64(1.0 / self.rate));
        (self.review, self.reviewed, self.starts) = (now + self.step(), now, 0);
    }

    /// Takes in a cycle; returns how many a second were let through in the last ones.
    fn measure(&mut self, accepted: f64, seconds: f64) -> f64 {
        if self.let_through > ENOUGH {
            self.seconds *= ENOUGH / self.let_through;
            self.let_through = ENOUGH;
        }
        self.let_through += accepted;
        self.seconds += seconds;
        self.let_through / self.seconds
    }

    /// A step passed without a refusal: go faster. `false` when the pace holds nothing back any more.
    fn grow(&mut self, now: Instant) -> bool {
        let seconds = (now - self.reviewed).as_secs_f64().max(0.001);
        let is_used = f64::from(self.starts) >= seconds * self.rate * 0.5;
        let gap = self.refused / self.rate - 1.0;
        self.kept = self.kept.max(self.rate);
        if std::mem::take(&mut self.is_holding) {
            self.held = self.rate;
        }
        (self.starts, self.reviewed) = (0, now);
        if self.refused.is_infinite() && !is_used {
            return false;
        }
        if gap <= CLOSE_ENOUGH {
            // The bound is forgotten now and looked for again after the hold.
            self.refused = f64::INFINITY;
            self.growth = if self.overloaded { FIRST_GROWTH } else { GROWTH_AFTER_HOLD };
            self.cut = FIRST_CUT;
            self.is_holding = true;
            self.review = now + if self.overloaded { HOLD_OVERLOADED } else { HOLD };
        } else {
            self.rate *= 1.0 + self.growth.min(gap / 2.0);
            self.growth = (self.growth * 2.0).min(1.0);
            self.review = now + self.step();
        }
        true
    }

    /// How long a rate is tried before it is raised: as long as the server needed to renew its quota, and for some
    /// starts, since fewer say little about a rate.
    fn step(&self) -> Duration {
        let some = (10.0 / self.rate).min(LONGEST_STEP_SECS);
        if self.overloaded {
            return Duration::from_secs_f64(some.max(LEAST_STEP_SECS));
        }
        let least = if self.announced { LEAST_STEP_ANNOUNCED_SECS } else { LEAST_STEP_SECS };
        Duration::from_secs_f64(self.shortest_secs.min(LONGEST_STEP_SECS).max(some).max(least))
    }
}

/// A request that finds the server refusing costs it little, and finding it late costs the rest of a window.
const SHORTEST_GAP: Duration = Duration::from_millis(50);
/// A server that has refused for hours is looked at again long before another one has passed.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// What starts after a longer pause is another burst.
const IDLE: Duration = Duration::from_secs(2);
/// What was let through long before a refusal says little about it.
const REMEMBERED: Duration = Duration::from_secs(20);
/// Requests that say enough about a rate: one more or less is 5 %.
const ENOUGH: f64 = 20.0;
/// What was refused is too fast, if only by a little.
const FIRST_CUT: f64 = 0.03;
const DEEPEST_CUT: f64 = 0.5;
/// Where a refusal costs a second, it may come once a minute: under 2 % of the time.
const HOLD: Duration = Duration::from_secs(60);
/// A server that had too much to do may bear ten times as much a moment later.
const HOLD_OVERLOADED: Duration = Duration::from_secs(2);
const CLOSE_ENOUGH: f64 = 0.03;
const FIRST_GROWTH: f64 = 0.05;
/// Below what is close enough, so that the first refusal ends in the next hold.
const GROWTH_AFTER_HOLD: f64 = 0.025;
/// Where a refusal costs a pause of a second or more, a rate must have lasted for several windows.
const LEAST_STEP_ANNOUNCED_SECS: f64 = 4.0;
const LEAST_STEP_SECS: f64 = 1.0;
/// The window of most quotas is shorter; and a pace that is far too slow must not be kept for long.
const LONGEST_STEP_SECS: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_in_the_wake_of_another_says_nothing() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(start);
        pace.start(start, start);
        for _ in 0..100 {
            assert!(!pace.accept(start + second, start));
        }
        let until = pace.refuse(start + second, start, None);
        for turn in 0..20 {
            let now = start + second + Duration::from_millis(turn);
            assert_eq!(pace.refuse(now, start, None), until);
            assert!(!pace.accept(now, start));
        }
        pace.start(until, until);
        assert!(pace.accept(until, until));
        assert!(pace.next(until) - until < second / 50, "a hundred and twenty in about a second");
    }

    #[test]
    fn a_key_that_was_never_refused_is_never_held_back() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..1000 {
            pace.start(now, now);
            assert!(!pace.accept(now, now));
        }
        assert_eq!(pace.next(now), now);
        assert!(pace.is_idle());
    }

    #[test]
    fn a_server_that_refuses_on_is_asked_ever_more_seldom_up_to_every_ten_seconds() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut asked = 0;
        let end = now + Duration::from_secs(3600);
        while now < end {
            pace.start(now, now);
            let until = pace.refuse(now, now, None);
            assert!(until > now && until <= now + LONGEST_GAP);
            (now, asked) = (until, asked + 1);
        }
        assert!((360..400).contains(&asked), "{asked} in an hour");
    }

    #[test]
    fn a_pace_that_holds_nothing_back_is_dropped() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            pace.start(now, now);
            pace.accept(now, now);
        }
        now = pace.refuse(now, now, Some(now + Duration::from_secs(1)));
        // Two starts a second, far below the hundred that the server let through.
        for _ in 0..100 {
            now = pace.next(now).max(now + Duration::from_millis(500));
            pace.start(now, now);
            pace.accept(now, now);
        }
        assert!(pace.is_idle());
    }
}
