//! When a loop is asked whether it still runs, and when it is said to stand still: a state machine over time.
//!
//! A loop that sleeps for events is left alone, the longer the more seldom. One that does something is pinged, and
//! stands still when it has not answered for as long as is allowed.

use std::time::Duration;

/// A loop that sleeps is looked at this often, at the least.
const IDLE: Duration = Duration::from_secs(1);
/// How often a loop is looked at within the time that it may stand still.
const LOOKS_PER_STALL: u32 = 4;
/// A stall is told again when it has become so many times as long.
const AGAIN_TIMES: u32 = 10;

/// What is seen of a loop at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether it runs at all.
    pub runs: bool,
    /// Whether it sleeps for events.
    pub sleeps: bool,
    /// When it has answered the last ping, if it has.
    pub answered: Option<Duration>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// The loop is to be pinged.
    Ping,
    /// The ping is still under way: what the loop does is worth a look.
    Sample,
    /// It stands still for so long; `again` when that was told before.
    Stall {
        /// Since the ping.
        age: Duration,
        /// Whether it was told before.
        again: bool,
    },
    /// A stall that was told is over.
    Ended {
        /// From the ping to its answer.
        whole: Duration,
    },
}

/// What is known of one loop. Times count from any one moment.
#[derive(Debug)]
pub struct LoopState {
    stall: Duration,
    tick: Duration,
    ping: Option<Ping>,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    at: Duration,
    /// How old it is when the loop is next said to stand still.
    due: Duration,
    is_told: bool,
}

impl LoopState {
    /// A loop that may take `stall` for one turn.
    pub fn new(stall: Duration) -> Self {
        Self { stall, tick: stall / LOOKS_PER_STALL, ping: None }
    }

    /// Takes in what is seen at `now`. Returns what is to be done, one thing at a time: to be called until that is
    /// `Nothing`, `Sample` or `Stall`.
    pub fn turn(&mut self, now: Duration, seen: Seen) -> Step {
        if let Some(ping) = self.ping {
            let answered = if seen.runs { seen.answered } else { Some(now) };
            let Some(at) = answered else { return self.wait_for(ping, now) };
            self.ping = None;
            if ping.is_told {
                return Step::Ended { whole: at.saturating_sub(ping.at) };
            }
        }
        if !seen.runs {
            return Step::Nothing;
        }
        if seen.sleeps {
            self.tick = (self.tick * 2).min(IDLE.max(self.stall / LOOKS_PER_STALL));
            return Step::Nothing;
        }
        self.tick = self.stall / LOOKS_PER_STALL;
        self.ping = Some(Ping { at: now, due: self.stall, is_told: false });
        Step::Ping
    }

    fn wait_for(&mut self, ping: Ping, now: Duration) -> Step {
        let age = now.saturating_sub(ping.at);
        if age < ping.due {
            return Step::Sample;
        }
        self.ping = Some(Ping { due: age * AGAIN_TIMES, is_told: true, ..ping });
        Step::Stall { age, again: ping.is_told }
    }

    /// The process was stopped, or the watchdog had no core: what was measured until `now` says nothing.
    pub fn restart(&mut self, now: Duration) {
        if let Some(ping) = &mut self.ping
            && !ping.is_told
        {
            ping.at = now;
        }
    }

    /// How long until the next turn.
    pub fn wait(&self) -> Duration {
        self.tick
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STALL: Duration = Duration::from_millis(100);
    const BUSY: Seen = Seen { runs: true, sleeps: false, answered: None };
    const ASLEEP: Seen = Seen { sleeps: true, ..BUSY };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_loop_that_stands_still_is_told_once_again_at_its_tenfold_and_at_its_end() {
        let mut state = LoopState::new(STALL);
        assert_eq!(state.turn(ms(0), BUSY), Step::Ping);
        let told: Vec<_> =
            (1..=100).map(|tick| state.turn(ms(tick * 25), BUSY)).filter(|step| *step != Step::Sample).collect();
        assert_eq!(told, [Step::Stall { age: ms(100), again: false }, Step::Stall { age: ms(1000), again: true }]);
        let answered = Seen { answered: Some(ms(2510)), ..BUSY };
        assert_eq!(state.turn(ms(2525), answered), Step::Ended { whole: ms(2510) });
        assert_eq!(state.turn(ms(2525), BUSY), Step::Ping);
    }

    #[test]
    fn a_loop_that_answers_is_never_told() {
        let mut state = LoopState::new(STALL);
        for tick in 0..100 {
            let answered = Some(ms(tick * 25));
            assert_eq!(state.turn(ms(tick * 25), Seen { answered, ..BUSY }), Step::Ping);
        }
    }

    #[test]
    fn a_loop_that_sleeps_is_not_woken_and_looked_at_once_a_second() {
        let mut state = LoopState::new(STALL);
        for _ in 0..10 {
            assert_eq!(state.turn(ms(0), ASLEEP), Step::Nothing);
        }
        assert_eq!(state.wait(), Duration::from_secs(1));
        assert_eq!(state.turn(ms(0), BUSY), Step::Ping);
        assert_eq!(state.wait(), ms(25));
    }

    #[test]
    fn a_process_that_was_stopped_is_not_blamed() {
        let mut state = LoopState::new(STALL);
        assert_eq!(state.turn(ms(0), BUSY), Step::Ping);
        state.restart(ms(60_000));
        assert_eq!(state.turn(ms(60_000), BUSY), Step::Sample);
        assert_eq!(state.turn(ms(60_100), BUSY), Step::Stall { age: STALL, again: false });
    }

    #[test]
    fn a_stall_that_ends_with_its_loop_is_over() {
        let mut state = LoopState::new(STALL);
        assert_eq!(state.turn(ms(0), BUSY), Step::Ping);
        assert_eq!(state.turn(ms(100), BUSY), Step::Stall { age: STALL, again: false });
        let over = Seen { runs: false, ..BUSY };
        assert_eq!(state.turn(ms(150), over), Step::Ended { whole: ms(150) });
        assert_eq!(state.turn(ms(150), over), Step::Nothing);
    }

    proptest! {
        #[test]
        fn whatever_is_told_has_begun_has_an_end_and_is_not_told_twice(
            seen in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 1..500_u64), 1..200),
        ) {
            let (mut state, mut now, mut told) = (LoopState::new(STALL), 0, 0);
            for (runs, sleeps, answers, later) in seen {
                now += later;
                let answered = answers.then(|| ms(now));
                match state.turn(ms(now), Seen { runs, sleeps, answered }) {
                    Step::Stall { age, again } => {
                        prop_assert!(age >= STALL);
                        prop_assert_eq!(again, told > 0);
                        told += 1;
                    }
                    Step::Ended { .. } => {
                        prop_assert!(told > 0);
                        told = 0;
                    }
                    Step::Ping | Step::Nothing => prop_assert_eq!(told, 0),
                    Step::Sample => {}
                }
            }
        }
    }
}
