//! Latency percentiles in a fixed 4 KiB, however many items there are.
//!
//! Log-linear buckets over microseconds: each power of two is cut into 16, so a percentile is at most 6.25 % above
//! the true one, from 1 us to about a day. The idea is HdrHistogram's; the range and error here need one array.

use std::time::Duration;

/// Counts durations, and returns their percentiles.
///
/// ```
/// use std::time::Duration;
/// let mut latency = unisono_runner::Histogram::default();
/// for millis in 1..=100 {
///     latency.record(Duration::from_millis(millis));
/// }
/// let median = latency.percentile(50.0).unwrap().as_millis();
/// assert!((50..=54).contains(&median));
/// ```
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    /// Kept exactly, so that a percentile never exceeds what was seen.
    longest: Duration,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
        self.longest = self.longest.max(duration);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration that `percent` of all did not exceed; `None` when nothing was counted.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let wanted = ((percent / 100.0 * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_micros(upper_edge(index)).min(self.longest));
            }
        }
        None
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, longest: Duration::ZERO }
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let exponent = u64::from(micros.ilog2());
    let step = (micros >> (exponent - STEP_BITS)) - STEPS;
    (((exponent - STEP_BITS + 1) * STEPS + step) as usize).min(BUCKETS - 1)
}

fn upper_edge(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let (power, step) = (index / STEPS - 1, index % STEPS);
    ((STEPS + step + 1) << power) - 1
}

const STEP_BITS: u64 = 4;
const STEPS: u64 = 1 << STEP_BITS;
/// 2^37 us are 38 hours: longer than any deadline that makes sense.
const BUCKETS: usize = 34 * STEPS as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_counted_has_no_percentile() {
        assert_eq!(Histogram::default().percentile(50.0), None);
    }

    #[test]
    fn a_time_beyond_the_range_is_counted_in_the_last_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 1);
        assert!(histogram.percentile(99.0).is_some());
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_below_the_truth_and_at_most_a_sixteenth_above(
            mut micros in prop::collection::vec(0u64..100_000_000_000, 1..200),
            percent in 1.0f64..100.0,
        ) {
            let mut histogram = Histogram::default();
            for value in &micros {
                histogram.record(Duration::from_micros(*value));
            }
            micros.sort_unstable();
            let rank = ((percent / 100.0 * micros.len() as f64).ceil() as usize).max(1);
            let truth = micros[rank - 1];
            let answer = histogram.percentile(percent).unwrap().as_micros() as u64;
            prop_assert!(answer >= truth && answer <= truth + truth / 16 + 1, "{answer} for {truth}");
        }
    }
}
