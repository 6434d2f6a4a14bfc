//! A rate: how many starts per period, and how many at once after a pause.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use crate::{FOR_EVER, ParseError, format_duration, parse_duration};

/// So many starts per period, by the generic cell rate algorithm (ITU-T I.371): in any window of a second or more at
/// most `burst` and what the rate allows start. In a shorter one, 20 ms of the rate may come in addition, where the
/// starts before were late.
///
/// `burst` is how many may start at the same moment once enough time has passed (1: evenly spaced).
///
/// ```
/// use unisono_core::Rate;
/// let rate: Rate = "100/s burst 20".parse().unwrap();
/// assert_eq!(rate.interval().as_millis(), 10);
/// assert_eq!(rate.burst.get(), 20);
/// assert_eq!("0.1/s".parse(), "1/10s".parse::<Rate>());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Starts per period.
    pub count: NonZeroU32,
    /// The period; never zero.
    per: Duration,
    /// Starts that may come at the same moment.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `count` starts per `per`, evenly spaced; `None` when `per` is too short to space them by a nanosecond.
    pub fn new(count: NonZeroU32, per: Duration) -> Option<Self> {
        let rate = Self { count, per, burst: NonZeroU32::MIN };
        (!rate.interval().is_zero()).then_some(rate)
    }

    /// The same rate, with so many starts at once after a pause.
    pub fn with_burst(self, burst: NonZeroU32) -> Self {
        Self { burst, ..self }
    }

    /// The time between two starts when nothing was saved up.
    pub fn interval(&self) -> Duration {
        self.per / self.count.get()
    }

    /// The period that `count` refers to.
    pub fn per(&self) -> Duration {
        self.per
    }
}

impl FromStr for Rate {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, "a rate", "`100/s`, `5000/m`, `10/500ms` or `100/s burst 20`");
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate, burst.trim().parse().map_err(|_| error())?),
            None => (text, NonZeroU32::MIN),
        };
        let (count, per) = rate.split_once('/').ok_or_else(error)?;
        let (count, periods) = whole(count.trim()).ok_or_else(error)?;
        let per = match per.trim() {
            "s" | "sec" | "second" => Duration::from_secs(1),
            "m" | "min" | "minute" => Duration::from_secs(60),
            "h" | "hour" => Duration::from_secs(3600),
            "d" | "day" => Duration::from_secs(86_400),
            other => parse_duration(other).map_err(|_| error())?,
        };
        // A period that is longer than any duration could neither be written nor waited for.
        let per = per.checked_mul(periods).filter(|per| *per <= FOR_EVER).ok_or_else(error)?;
        Rate::new(count, per).map(|rate| rate.with_burst(burst)).ok_or_else(error)
    }
}

/// A decimal number as a whole one in so many periods: 2.5 is 25 in ten.
fn whole(text: &str) -> Option<(NonZeroU32, u32)> {
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(before) || !is_number(after) {
        return None;
    }
    let after = after.trim_end_matches('0');
    let periods = 10_u32.checked_pow(u32::try_from(after.len()).ok()?)?;
    Some((format!("{before}{after}").parse().ok()?, periods))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 if self.per.subsec_nanos() == 0 => write!(f, "{}/s", self.count)?,
            60 if self.per.subsec_nanos() == 0 => write!(f, "{}/m", self.count)?,
            // A duration is written to the millisecond, and the next rate must be this one.
            seconds if !self.per.subsec_nanos().is_multiple_of(1_000_000) => {
                let fraction = format!("{:09}", self.per.subsec_nanos());
                write!(f, "{}/{seconds}.{}s", self.count, fraction.trim_end_matches('0'))?;
            }
            _ => write!(f, "{}/{}", self.count, format_duration(self.per))?,
        }
        if self.burst > NonZeroU32::MIN {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_read_and_written_the_same() {
        for text in ["100/s", "5000/m", "10/500ms", "100/s burst 20", "1/1h", "10/0.0005s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_rate_may_be_a_decimal_number() {
        let rates = [("0.1/s", "1/10s"), ("2.5/m", "25/10m"), ("1.0/s", "1/s"), ("0.50/s burst 2", "5/10s burst 2")];
        for (decimal, whole) in rates {
            assert_eq!(decimal.parse::<Rate>().unwrap(), whole.parse().unwrap(), "{decimal}");
        }
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        for text in [
            ".5/s",
            "1./s",
            "0.0/s",
            "0.00000000001/s",
            "0.1/36500d",
            "1.2.3/s",
            "+1/s",
            "1e3/s",
            "",
            "5",
            "0/s",
            "-1/s",
            "1/0s",
            "1/s burst 0",
            "1/s burst",
            "x/s",
            "4000000000/1ms",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_rate_that_is_written_is_read_back(count in 1u32.., nanos in any::<u64>(), shift in 5u32..64, burst in 1u32..) {
            let per = Duration::from_nanos(nanos >> shift);
            let rate = Rate::new(count.try_into().unwrap(), per).map(|rate| rate.with_burst(burst.try_into().unwrap()));
            if let Some(rate) = rate {
                prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
            }
        }
    }
}
