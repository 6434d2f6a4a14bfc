//! A rate limit that can change while it is used: the generic cell rate algorithm of ITU-T I.371 (annex A).
//!
//! `due` is its theoretical arrival time: each start moves it one interval on, and a start conforms when it is at most
//! `burst - 1` intervals ahead of now. Intervals add up exactly: what is rounded up to a nanosecond is remembered.
//!
//! A timer is late, by a tick of its wheel or by what its thread did meanwhile. An interval that is counted from the
//! late start loses that time for good: a third of a rate of 500 per second. So a start that only waited for its
//! time counts from when it was due, as far as its caller says ([`Gcra::start`]'s `dated`; I.371 calls the bound on
//! that the tolerance), and what comes after it catches up.
//!
//! Catching up alone would let more start in a second than the rate says: a late one at its beginning, punctual ones to
//! its end. So lateness is lent for a second at most: every half second, the schedule moves back by the most that any
//! start was late in the half second before. Hence the two laws, in any window of the time `w`:
//! - when `w` is a second or more, at most `burst + w / interval` start, as if none had ever been late;
//! - when it is shorter, at most `burst + (w + tolerance) / interval`.
//!
//! Both hold to the nanosecond: a start comes at a whole one, up to one after it was due.
//!
//! The price is the worst lateness of each second: 0.1 % where only the timer ticks.

use std::time::{Duration, Instant};

use unisono_core::Rate;

/// The state of one rate limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gcra(Option<Schedule>);

#[derive(Debug, Clone, Copy)]
struct Schedule {
    /// When the next start would be due if starts came evenly.
    due: Instant,
    /// By how much `due` is rounded up: this divided by the rate's count, in nanoseconds.
    rounded: u32,
    /// When the present half second began.
    half: Instant,
    /// The most that a start of this half second was late against the schedule, and one of the half second before.
    late: Duration,
    late_before: Duration,
}

impl Gcra {
    /// The first moment at which a start conforms to the rate; at most `now` when one may start at once.
    pub(crate) fn next(&self, rate: &Rate, now: Instant) -> Instant {
        let ahead = nanos(span(rate, rate.burst.get() - 1).0);
        self.0.map_or(now, |schedule| later(schedule.due, schedule.forfeit(now)).checked_sub(ahead).unwrap_or(now))
    }

    /// Counts a start at `now`, which must conform. It could have come at `dated` already, had its driver been
    /// punctual.
    pub(crate) fn start(&mut self, rate: &Rate, now: Instant, dated: Instant) {
        let fresh = Schedule { due: dated, rounded: 0, half: now, late: Duration::ZERO, late_before: Duration::ZERO };
        let schedule = self.0.get_or_insert(fresh);
        schedule.roll(now);
        schedule.move_to(dated);
        schedule.late = schedule.late.max(now.saturating_duration_since(schedule.due));
        schedule.advance(rate);
    }

    /// The last start did not come about after all: the next may come as much earlier. Under another rate than it was
    /// counted by, this is not to be called.
    pub(crate) fn give_back(&mut self, rate: &Rate) {
        if let Some(schedule) = &mut self.0 {
            schedule.retreat(rate);
        }
    }

    /// The rate may have changed: what was started under a slower one delays the next by no more than a burst under
    /// this one does. When it has not changed, this changes nothing.
    pub(crate) fn retune(&mut self, rate: &Rate, now: Instant) {
        if let Some(schedule) = &mut self.0 {
            schedule.rounded = schedule.rounded.min(rate.count.get() - 1);
            let (burst, rest) = span(rate, rate.burst.get());
            schedule.due = schedule.due.min(later(now, nanos(burst + u128::from(rest > 0))));
        }
    }

    /// Whether forgetting this state changes nothing: the next start would be free in full burst.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.0.is_none_or(|schedule| later(schedule.due, schedule.late.max(schedule.late_before)) <= now)
    }
}

impl Schedule {
    /// By how much the schedule moves back, by half seconds that are over now.
    fn forfeit(&self, now: Instant) -> Duration {
        match now.saturating_duration_since(self.half) {
            past if past < HALF => Duration::ZERO,
            past if past < 2 * HALF => self.late_before,
            _ => self.late.max(self.late_before),
        }
    }

    fn roll(&mut self, now: Instant) {
        let past = now.saturating_duration_since(self.half);
        if past < HALF {
            return;
        }
        let forfeit = self.forfeit(now);
        self.move_to(later(self.due, forfeit));
        if past < 2 * HALF {
            self.half += HALF;
            self.late_before = std::mem::take(&mut self.late);
        } else {
            self.half = now;
            (self.late, self.late_before) = (Duration::ZERO, Duration::ZERO);
        }
    }

    /// Moves the schedule back, if it is not there yet; what was late against it is less so then.
    fn move_to(&mut self, due: Instant) {
        let by = due.saturating_duration_since(self.due);
        self.due += by;
        self.late = self.late.saturating_sub(by);
        self.late_before = self.late_before.saturating_sub(by);
    }

    /// One interval on.
    fn advance(&mut self, rate: &Rate) {
        let (whole, rest) = span(rate, 1);
        let count = rate.count.get();
        let up = rest > self.rounded;
        self.rounded = if up { count - (rest - self.rounded) } else { self.rounded - rest };
        self.due = later(self.due, nanos(whole + u128::from(up)));
    }

    /// One interval back: undoes `advance`.
    fn retreat(&mut self, rate: &Rate) {
        let (whole, rest) = span(rate, 1);
        let count = rate.count.get();
        let up = u64::from(self.rounded) + u64::from(rest) >= u64::from(count);
        self.rounded = if up { rest - (count - self.rounded) } else { self.rounded + rest };
        self.due = self.due.checked_sub(nanos(whole + u128::from(up))).unwrap_or(self.due);
    }
}

/// So many intervals, in nanoseconds and in parts of one, of which a nanosecond has as many as the rate's count.
fn span(rate: &Rate, intervals: u32) -> (u128, u32) {
    // Periods beyond five hundred years are one to us.
    let per = u128::from(u64::try_from(rate.per().as_nanos()).unwrap_or(u64::MAX)) * u128::from(intervals);
    let count = u128::from(rate.count.get());
    (per / count, (per % count) as u32)
}

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// What lies beyond the end of the clock never comes anyhow.
fn later(at: Instant, by: Duration) -> Instant {
    at.checked_add(by).unwrap_or(at)
}

/// Users measure what starts per second; see the first law.
const HALF: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_is_spent_once_and_earned_again_by_waiting() {
        let rate = rate("10/s burst 3");
        let start = Instant::now();
        let mut bucket = Gcra::default();
        for _ in 0..3 {
            assert!(bucket.next(&rate, start) <= start);
            bucket.start(&rate, start, start);
        }
        assert_eq!(bucket.next(&rate, start), start + Duration::from_millis(100));
        let later = start + Duration::from_secs(5);
        assert!(bucket.is_idle(later));
        for _ in 0..3 {
            assert!(bucket.next(&rate, later) <= later);
            bucket.start(&rate, later, later);
        }
        assert!(bucket.next(&rate, later) > later);
    }

    #[test]
    fn intervals_that_are_no_whole_nanoseconds_add_up_exactly() {
        for text in ["3/s", "7/s", "700000001/s", "999999999/s", "4000000000/1m"] {
            let (rate, start) = (rate(text), Instant::now());
            let (mut bucket, mut now) = (Gcra::default(), start);
            for starts in 1..=1000_u128 {
                bucket.start(&rate, now, now);
                now = bucket.next(&rate, now);
                let exact = (starts * rate.per().as_nanos()).div_ceil(u128::from(rate.count.get()));
                assert_eq!((now - start).as_nanos(), exact, "{text} after {starts}");
            }
        }
    }

    #[test]
    fn a_start_that_is_given_back_was_none() {
        for text in ["3/s", "7/s burst 5", "700000001/s", "1/h", "999999999/s"] {
            let (rate, start) = (rate(text), Instant::now());
            let mut bucket = Gcra::default();
            for _ in 0..100 {
                let now = bucket.next(&rate, start).max(start);
                bucket.start(&rate, now, now);
                let (rounded, next) = (bucket.0.map(|schedule| schedule.rounded), bucket.next(&rate, now));
                let later = next.max(now);
                bucket.start(&rate, later, later);
                bucket.give_back(&rate);
                assert_eq!(bucket.next(&rate, later).max(later), later, "{text}");
                assert_eq!(bucket.0.map(|schedule| schedule.rounded), rounded, "{text}");
            }
        }
    }

    #[test]
    fn lateness_is_made_up_at_once_and_given_up_after_a_second() {
        let rate = rate("100/s");
        let (start, tick) = (Instant::now(), Duration::from_millis(10));
        let late = Duration::from_millis(4);
        let mut bucket = Gcra::default();
        bucket.start(&rate, start, start);
        bucket.start(&rate, start + tick + late, start + tick);
        assert_eq!(bucket.next(&rate, start + tick + late), start + 2 * tick);
        for turn in 2..200 {
            let now = bucket.next(&rate, start + turn * tick + late);
            bucket.start(&rate, now, now);
        }
        assert_eq!(bucket.next(&rate, start + 200 * tick + late), start + 200 * tick + late);
    }

    #[test]
    fn no_window_of_a_second_holds_more_than_one_that_is_a_nanosecond_longer() {
        let cases = ["3/s", "7/s", "70/3s", "2023/2325ms"].into_iter().flat_map(|text| {
            (0..6_usize).flat_map(move |which| [0, 1, 999, 4_000_000].map(|late| (text, which, late)))
        });
        for (text, which, late) in cases {
            let (rate, begin) = (rate(text), Instant::now());
            let mut bucket = Gcra::default();
            let mut starts = Vec::new();
            let mut now = begin;
            while now < begin + Duration::from_secs(4) {
                let mut due = now;
                // What is asked later may be told a later time.
                while bucket.next(&rate, due) > due {
                    due = bucket.next(&rate, due);
                }
                now = if starts.len() == which { due + Duration::from_nanos(late) } else { due };
                bucket.start(&rate, now, due);
                starts.push((now - begin).as_nanos());
            }
            // In parts of a nanosecond, of which it has as many as the rate's count.
            let (count, per) = (u128::from(rate.count.get()), rate.per().as_nanos());
            for (number, &at) in starts.iter().enumerate() {
                for (before, &old) in starts[..number].iter().enumerate() {
                    let allowed = at - old < 1_000_000_000 || (number - before) as u128 * per <= (at - old + 1) * count;
                    assert!(allowed, "{text}, {which} late by {late} ns: {before} to {number}");
                }
            }
        }
    }

    #[test]
    fn the_longest_periods_and_bursts_never_overflow() {
        for text in ["1/d burst 4294967295", "1000000000/s burst 4294967295", "4294967295/d"] {
            let (rate, now) = (rate(text), Instant::now());
            let mut bucket = Gcra::default();
            for _ in 0..3 {
                bucket.start(&rate, now, now);
                bucket.retune(&rate, now);
                assert!(bucket.next(&rate, now) <= now || rate.burst.get() == 1, "{text}");
            }
        }
    }
}
