//! Durations as people write them: `10s`, `500ms`, `1h30m`, and `none` where no bound is wanted.

use std::{fmt, str::FromStr, time::Duration};

use crate::ParseError;

/// Reads a duration: numbers with a unit (`ms`, `s`, `m`, `h`, `d`), biggest first; a bare number is seconds.
///
/// # Errors
/// When the text is empty, has an unknown unit, or is longer than about 100 years.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(unisono_core::parse_duration("1m30s").unwrap(), Duration::from_secs(90));
/// assert_eq!(unisono_core::parse_duration("0.5").unwrap(), Duration::from_millis(500));
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, ParseError> {
    let error = || ParseError::new(text, "a duration", "`10s`, `500ms` or `1h30m`");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| error())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(error()),
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    if seconds > LONGEST_SECONDS {
        return Err(error());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| error())
}

/// Writes a duration so that a person can read it and [`parse_duration`] can read it back, to the millisecond.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(unisono_core::format_duration(Duration::from_millis(90_500)), "1m30.5s");
/// ```
pub fn format_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
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
        match text.trim() {
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

/// The longest that is read, as safe.
const LONGEST_SECONDS: f64 = 100.0 * 366.0 * 86_400.0;

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

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            let read = parse_duration(&format_duration(duration)).unwrap();
            prop_assert!(read.abs_diff(duration) < Duration::from_millis(1));
        }

        #[test]
        fn any_text_is_an_answer_or_an_error(text in ".{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
