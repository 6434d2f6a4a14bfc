//! Durations as people write them: `10s`, `500ms`, `1h30m`, and `none` where no bound is wanted.

use alloc::{format, string::String};
use core::{fmt, str::FromStr, time::Duration};

use crate::ParseError;

/// Reads a duration: numbers with a unit (`ms`, `s`, `m`, `h`, `d`), biggest first; a bare number is seconds.
///
/// # Errors
/// When the text is empty, has an unknown unit, or is longer than about 100 years.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(unisono_units::parse_duration("1m30s").unwrap(), Duration::from_secs(90));
/// assert_eq!(unisono_units::parse_duration("0.5").unwrap(), Duration::from_millis(500));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let error = || ParseError::new(text, "a duration", "`10s`, `500ms` or `1h30m`");
    let mut rest = text.trim_ascii();
    if rest.is_empty() {
        return Err(error());
    }
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits).ok_or_else(error)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (name, after) = after.split_at_checked(letters).ok_or_else(error)?;
        nanos = unit(name).and_then(|unit| times(number, unit)?.checked_add(nanos)).ok_or_else(error)?;
        rest = after;
    }
    if nanos > LONGEST_NANOS {
        return Err(error());
    }
    Ok(Duration::from_nanos(nanos))
}

/// As a person says how long something has taken: whole seconds once it is one, so that what took about as long reads
/// the same.
///
/// ```
/// # use std::time::Duration;
/// # use unisono_units::format_roughly;
/// assert_eq!(format_roughly(Duration::from_millis(60_003)).to_string(), "1m");
/// assert_eq!(format_roughly(Duration::from_millis(250)).to_string(), "250ms");
/// ```
pub fn format_roughly(duration: Duration) -> String {
    format_duration(if duration.as_secs() > 0 { Duration::from_secs(duration.as_secs()) } else { duration })
}

/// Writes a duration so that a person can read it and [`parse_duration`] can read it back, to the millisecond.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(unisono_units::format_duration(Duration::from_millis(90_500)), "1m30.5s");
/// ```
pub fn format_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.subsec_millis());
    }
    let whole = duration.as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    let mut text = String::new();
    for (count, unit) in [(days, 'd'), (hours, 'h'), (minutes, 'm')] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    let (seconds, millis) = (whole % 60, duration.subsec_millis());
    if millis > 0 {
        let fraction = format!("{millis:03}");
        text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
    } else if seconds > 0 || text.is_empty() {
        text.push_str(&format!("{seconds}s"));
    }
    text
}

/// A duration that may be absent on purpose: `10s`, or `none` for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Option<Duration>);

impl FromStr for Span {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.trim_ascii() {
            "none" => Ok(Span(None)),
            other => parse_duration(other).map(|duration| Span(Some(duration))),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => f.write_str(&format_duration(duration)),
            None => f.write_str("none"),
        }
    }
}

/// What stands for no bound where there must be one: about a century, safe to add to an `Instant`.
pub const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A unit in nanoseconds.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ms" => SECOND / 1000,
        "" | "s" => SECOND,
        "m" | "min" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => 86_400 * SECOND,
        _ => return None,
    })
}

/// A decimal number of units, in nanoseconds, rounded down. Integers, since reading floating point would more than
/// double the size of `unisono-init`.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * place)?;
    }
    Some(nanos)
}

const SECOND: u64 = 1_000_000_000;
/// About 100 years: far beyond any batch, safe to add to an `Instant`, and a sixth of what nanoseconds in 64 bits hold.
const LONGEST_NANOS: u64 = 100 * 366 * 86_400 * SECOND;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for text in ["", " ", "s", "1x", "-1s", "1e9999", "..", "1..2s", "nan", "inf", "9999999999999d", "10 s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn fractions_are_exact_to_the_nanosecond() {
        for (text, nanos) in
            [("0.1", 100_000_000), (".5ms", 500_000), ("1.5h", 5_400_000_000_000), ("3.s", 3_000_000_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_nanos(nanos), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            let read = parse_duration(&format_duration(duration)).unwrap();
            prop_assert_eq!(read, duration);
        }

        #[test]
        fn any_text_is_an_answer_or_an_error(text in ".{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
