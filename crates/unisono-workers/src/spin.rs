//! Waiting for a moment without sleeping: a wake-up costs more than what a short task does.
//!
//! Only where it takes nothing from other processes: there is a core beside those that work, it was not taken away
//! while we looked (then another process wants it, and we stay away from it for a while), and looking has been of use
//! lately. All of that is learned from the looks themselves, without a system call.
//!
//! Leaves out what a look is at; after a look in vain, a side goes to sleep by the rules of the exchange, as if it had
//! not looked.

use std::{hint::spin_loop, num::NonZero, thread::available_parallelism};

use unisono_sys::monotonic::nanoseconds;

/// When to look, learned from how it went.
#[derive(Debug)]
pub struct Spin {
    /// On how many this process may run, by its affinity and by the quota of its group.
    cores: usize,
    /// So many times it was in vain in a row, at most [`MOST_IN_VAIN`].
    in_vain: u32,
    /// So many times it is left out now.
    left_out: u32,
    /// So many times in a row the core was taken away, at most [`MOST_TAKEN`].
    taken: u32,
    /// Until then the cores belong to others.
    busy_until_ns: u64,
}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What was looked for has come.
    Came,
    /// It did not, for as long as a look may last.
    InVain,
    /// We did not run for a while.
    Taken,
}

impl Spin {
    /// For the cores of this process, and with nothing learned.
    #[expect(clippy::new_without_default, reason = "it asks the system")]
    pub fn new() -> Self {
        Self::over(available_parallelism().map_or(1, NonZero::get))
    }

    fn over(cores: usize) -> Self {
        Self { cores, in_vain: 0, left_out: 0, taken: 0, busy_until_ns: 0 }
    }

    /// Whether to look now, while so many processes or threads of ours are at work or look.
    pub fn is_worth_it(&mut self, at_work: usize, now_ns: u64) -> bool {
        if at_work >= self.cores || now_ns < self.busy_until_ns {
            return false;
        }
        if self.left_out > 0 {
            self.left_out -= 1;
            return false;
        }
        true
    }

    /// Looks for as long as that may pay. What came of it is for [`Spin::learn`], since the caller may have let go of a
    /// lock for the look.
    pub fn look(has_come: impl Fn() -> bool) -> Look {
        let begun = nanoseconds();
        let mut last = begun;
        loop {
            if has_come() {
                return Look::Came;
            }
            for _ in 0..PAUSES {
                spin_loop();
            }
            let now = nanoseconds();
            if now - last > GAP_NS {
                return Look::Taken;
            }
            if now - begun > LONGEST_LOOK_NS {
                return Look::InVain;
            }
            last = now;
        }
    }

    /// Takes note of how a look went that has ended now.
    pub fn learn(&mut self, look: Look, now_ns: u64) {
        match look {
            Look::Came => (self.in_vain, self.taken) = (0, 0),
            Look::InVain => {
                self.in_vain = (self.in_vain + 1).min(MOST_IN_VAIN);
                self.left_out = (1 << self.in_vain) - 1;
            }
            Look::Taken => {
                self.taken = (self.taken + 1).min(MOST_TAKEN);
                self.busy_until_ns = now_ns + (BUSY_NS << self.taken);
            }
        }
    }
}

/// A look lasts so long at most: about what the wake-up costs that it saves.
pub(crate) const LONGEST_LOOK_NS: u64 = 50_000;
/// Between two glances of a core that is ours pass some hundred nanoseconds.
const GAP_NS: u64 = 10_000;
/// How often a core pauses between two glances.
const PAUSES: u32 = 16;
/// The cores are left to others for twice this, and twice as long each time: 8 ms to a second.
const BUSY_NS: u64 = 4_000_000;
const MOST_TAKEN: u32 = 8;
/// Where it never is of use, one in 64 is looked, which costs less than a microsecond each time.
const MOST_IN_VAIN: u32 = 6;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::{BUSY_NS, Look, Spin};

    #[test]
    fn nobody_looks_where_each_core_is_at_work() {
        assert!(!Spin::over(1).is_worth_it(1, 0), "the process that is waited for needs it");
        assert!(!Spin::over(2).is_worth_it(2, 0));
        assert!(Spin::over(2).is_worth_it(1, 0));
    }

    #[test]
    fn what_is_of_no_use_is_done_less_and_less_and_what_is_of_use_again_each_time() {
        let mut spin = Spin::over(2);
        let mut looks = 0;
        for _ in 0..1000 {
            if spin.is_worth_it(1, 0) {
                looks += 1;
                spin.learn(Look::InVain, 0);
            }
        }
        assert!((10..30).contains(&looks), "{looks} looks");
        while !spin.is_worth_it(1, 0) {}
        spin.learn(Look::Came, 0);
        assert!(spin.is_worth_it(1, 0) && spin.is_worth_it(1, 0));
    }

    #[test]
    fn a_core_that_was_taken_away_is_left_to_others_for_longer_each_time() {
        let mut spin = Spin::over(2);
        let mut now = 1;
        for round in 1..=3 {
            assert!(spin.is_worth_it(1, now));
            spin.learn(Look::Taken, now);
            assert!(!spin.is_worth_it(1, now + (BUSY_NS << round) - 1));
            now += BUSY_NS << round;
        }
    }

    #[test]
    fn a_look_ends_when_it_has_come_and_when_it_does_not() {
        let glances = Cell::new(0);
        let look = Spin::look(|| glances.replace(glances.get() + 1) > 0);
        // On a machine that is busy the core may have been taken away between the two.
        assert!(look == Look::Taken || (look, glances.get()) == (Look::Came, 2));
        assert_ne!(Spin::look(|| false), Look::Came);
    }

    proptest! {
        #[test]
        fn whatever_it_has_learned_it_looks_again_some_time(
            looks in prop::collection::vec(prop_oneof![Just(Look::Came), Just(Look::InVain), Just(Look::Taken)], 0..100),
        ) {
            let mut spin = Spin::over(2);
            for (now, look) in looks.into_iter().enumerate() {
                spin.learn(look, now as u64);
            }
            let later = BUSY_NS << 9;
            prop_assert!((0..64).any(|_| spin.is_worth_it(1, later)));
        }
    }
}
