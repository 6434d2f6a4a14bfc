//! How the starts of a pool's workers have gone, and how long the next one waits for that.

use unisono_sys::monotonic::nanoseconds;

/// How the starts of a pool's workers have gone.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// How many in a row have failed. Those that were made together fail together, and count as one.
    pub(super) failures: u32,
    /// The last worker that was made before the last failure.
    pub(super) made_before: usize,
    /// How many in a row were lost with their zygote.
    pub(super) losses: u32,
    /// Until when the next one waits; 0 when none does.
    pub(super) not_before_ns: u64,
    /// That the pool goes on with fewer workers was said.
    pub(super) is_said: bool,
}

impl Starts {
    /// This worker has done its first task: they start again, if it was made after the last that did not.
    pub fn succeeded(&mut self, worker: usize) {
        if worker > self.made_before {
            *self = Self { made_before: self.made_before, ..Self::default() };
        }
    }

    pub fn pause(&mut self, times: u32) {
        let pause = FIRST_PAUSE_NS.saturating_mul(4u64.saturating_pow(times.saturating_sub(1))).min(LONGEST_PAUSE_NS);
        self.not_before_ns = nanoseconds() + pause;
    }
}

/// The pause after the first; each is four times as long as the one before.
const FIRST_PAUSE_NS: u64 = 100_000_000;
const LONGEST_PAUSE_NS: u64 = 5_000_000_000;
