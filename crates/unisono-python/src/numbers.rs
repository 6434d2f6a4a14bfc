//! Numbers that a caller gives: one checker, for both halves of the package.
//!
//! A mistake is a `UsageError` that names the argument and the value. `True` is no number here, though Python has it as
//! one: `limit=True` is a slip. Neither is what has no end or is none (`nan`, `inf`).

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::{Duration, Instant},
};

use pyo3::{
    prelude::*,
    types::{PyBool, PyDelta},
};
use unisono_core::{FOR_EVER, Span, clock};

use crate::errors::usage;

/// Whole numbers that an argument may have.
pub trait Whole: Sized {
    /// The smallest.
    const LEAST: u64;
    /// The largest.
    const MOST: u64;
    /// One of these.
    fn of(number: u64) -> Option<Self>;
}

impl Whole for u8 {
    const LEAST: u64 = 0;
    const MOST: u64 = u8::MAX as u64;
    fn of(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Whole for u16 {
    const LEAST: u64 = 0;
    const MOST: u64 = u16::MAX as u64;
    fn of(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Whole for u32 {
    const LEAST: u64 = 0;
    const MOST: u64 = u32::MAX as u64;
    fn of(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Whole for u64 {
    const LEAST: u64 = 0;
    const MOST: u64 = u64::MAX;
    fn of(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl Whole for usize {
    const LEAST: u64 = 0;
    const MOST: u64 = usize::MAX as u64;
    fn of(number: u64) -> Option<Self> {
        number.try_into().ok()
    }
}

impl Whole for NonZeroU32 {
    const LEAST: u64 = 1;
    const MOST: u64 = u32::MAX as u64;
    fn of(number: u64) -> Option<Self> {
        u32::try_from(number).ok().and_then(Self::new)
    }
}

impl Whole for NonZeroU64 {
    const LEAST: u64 = 1;
    const MOST: u64 = u64::MAX;
    fn of(number: u64) -> Option<Self> {
        Self::new(number)
    }
}

/// A whole number.
pub fn whole<T: Whole>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    let number = whole_within(name, value, T::LEAST.into(), T::MOST.into())?;
    let number = u64::try_from(number).ok().and_then(T::of);
    number.ok_or_else(|| usage(value.py(), format!("{name} cannot be {}", shown(value))))
}

/// A whole number between two others.
pub fn whole_within(name: &str, value: &Bound<'_, PyAny>, least: i128, most: i128) -> PyResult<i128> {
    let py = value.py();
    if value.is_instance_of::<PyBool>() {
        return Err(usage(py, format!("{name} must be a whole number, not {}", shown(value))));
    }
    let index = match py.import("operator")?.call_method1("index", (value,)) {
        Ok(index) => index,
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => {
            return Err(usage(py, format!("{name} must be a whole number, not {}", shown(value))));
        }
        Err(error) => return Err(error),
    };
    let too_large = || usage(py, format!("{name} must be at most {most}, not {}", shown(value)));
    let too_small = || usage(py, format!("{name} must be at least {least}, not {}", shown(value)));
    match index.extract::<i128>() {
        Ok(number) if number < least => Err(too_small()),
        Ok(number) if number > most => Err(too_large()),
        Ok(number) => Ok(number),
        Err(_) if index.lt(0)? => Err(too_small()),
        Err(_) => Err(too_large()),
    }
}

/// A number of seconds, when it is a number; text and the like are not looked at here. `no_limit` is what to give
/// instead of a time without end, where that can be.
pub fn seconds(name: &str, value: &Bound<'_, PyAny>, no_limit: Option<&str>) -> PyResult<Option<Duration>> {
    seconds_from(name, value, "at least", no_limit)
}

/// Seconds, or text such as `10s`; `None` for no bound, which is `none`.
pub fn span(name: &str, value: &Bound<'_, PyAny>, no_limit: Option<&str>) -> PyResult<Option<Duration>> {
    let py = value.py();
    if let Some(duration) = seconds(name, value, no_limit)? {
        return Ok(Some(duration));
    }
    let wrong = |_| usage(py, format!("{name} must be seconds, or text such as `10s`, not {}", shown(value)));
    let text: String = value.extract().map_err(wrong)?;
    text.parse::<Span>().map(|span| span.0).map_err(|error| usage(py, format!("{name}: {error}")))
}

fn seconds_from(
    name: &str,
    value: &Bound<'_, PyAny>,
    least: &str,
    no_limit: Option<&str>,
) -> PyResult<Option<Duration>> {
    let wrong = || no_seconds(name, value, least, no_limit);
    if value.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    let number = match value.extract::<f64>() {
        Ok(number) => number,
        // A whole number that is too large for a float is one all the same.
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(value.py()) => return Err(wrong()),
        Err(_) if value.is_instance_of::<PyDelta>() => value.call_method0("total_seconds")?.extract()?,
        Err(_) => return Ok(None),
    };
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if duration < FOR_EVER => Ok(Some(duration)),
        _ => Err(wrong()),
    }
}

/// Says what is wrong with something that should be a number of seconds.
fn no_seconds(name: &str, value: &Bound<'_, PyAny>, least: &str, no_limit: Option<&str>) -> PyErr {
    let is_number = !value.is_instance_of::<PyBool>();
    // What is larger than any float is no infinity, but has no end either as far as a program can see.
    let is_positive = value.gt(0).unwrap_or(false);
    let way_out = no_limit.map(|give| format!("; for no limit, give {give}")).unwrap_or_default();
    let given = shown(value);
    let why = match value.extract::<f64>() {
        Ok(seconds) if seconds == f64::INFINITY && is_number => {
            format!("must be a time with an end, not {given}{way_out}")
        }
        Ok(seconds) if seconds >= FOR_EVER.as_secs_f64() && is_number => {
            format!("must be less than {} seconds (100 years), not {given}{way_out}", FOR_EVER.as_secs())
        }
        Err(_) if is_number && is_positive => {
            format!("must be less than {} seconds (100 years), not {given}{way_out}", FOR_EVER.as_secs())
        }
        _ => format!("must be a number of seconds, {least} 0, not {given}"),
    };
    usage(value.py(), format!("{name} {why}"))
}

/// The moment in so many seconds, which is now when they are none or less; `None` when no clock gets so far.
pub fn moment_in(seconds: f64) -> Option<Instant> {
    moment_after(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// The moment after so long; `None` when no clock gets so far.
pub fn moment_after(duration: Duration) -> Option<Instant> {
    clock::now().checked_add(duration)
}

/// How many seconds to wait at most, where `inf` and what is as good as that is no mistake.
pub fn wait(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let wrong = || {
        let given = shown(value);
        usage(value.py(), format!("'{name}' must be a non-negative number of seconds, not {given}"))
    };
    if value.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    let number = match value.is_instance_of::<PyDelta>() {
        true => value.call_method0("total_seconds")?.extract::<f64>(),
        false => value.extract::<f64>(),
    };
    match number {
        Ok(seconds) if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        _ => Err(wrong()),
    }
}

/// A whole number from a caller of the Python half.
#[pyfunction(name = "whole", signature = (name, value, *, least=1, most=None))]
pub fn whole_of(name: &str, value: &Bound<'_, PyAny>, least: i64, most: Option<i64>) -> PyResult<i64> {
    let number = whole_within(name, value, least.into(), most.unwrap_or(i64::MAX).into())?;
    Ok(i64::try_from(number).expect("it lies between two of them"))
}

/// A number of seconds from a caller of the Python half.
#[pyfunction(name = "seconds", signature = (name, value, *, above_zero=false, no_limit=None))]
pub fn seconds_of(name: &str, value: &Bound<'_, PyAny>, above_zero: bool, no_limit: Option<&str>) -> PyResult<f64> {
    let least = if above_zero { "above" } else { "at least" };
    let duration = seconds_from(name, value, least, no_limit)?.filter(|duration| !(above_zero && duration.is_zero()));
    let duration = duration.ok_or_else(|| no_seconds(name, value, least, no_limit))?;
    Ok(duration.as_secs_f64())
}

/// A time from a caller of the Python half, in seconds: a number of them, or text such as `10s`; `None` for no bound.
#[pyfunction(name = "span", signature = (name, value))]
pub fn span_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    Ok(span(name, value, Some("\"none\""))?.map(|span| span.as_secs_f64()))
}

/// A value in a message: short, and on one line.
pub fn shown(value: &Bound<'_, PyAny>) -> String {
    let text = value.repr().map_or_else(
        // A whole number of thousands of digits has no text.
        |_| value.get_type().name().map_or_else(|_| "?".to_owned(), |name| format!("this {name}")),
        |text| text.to_string_lossy().into_owned(),
    );
    let short: String = text.chars().take(LONGEST_CHARS).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", unisono_core::printable(&short))
}

/// Enough to know the value again.
const LONGEST_CHARS: usize = 60;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{moment_after, moment_in};

    #[test]
    fn seconds_below_nothing_and_no_number_at_all_are_now() {
        for seconds in [0.0, -0.0, -1.0, -1e300, f64::NEG_INFINITY, f64::NAN] {
            let before = Instant::now();
            let moment = moment_in(seconds).unwrap();
            assert!(before <= moment && moment <= Instant::now(), "{seconds}");
        }
    }

    #[test]
    fn seconds_are_counted_from_now() {
        let before = Instant::now();
        let moment = moment_in(1.5).unwrap();
        let time = Duration::from_millis(1500);
        assert!(before + time <= moment && moment <= Instant::now() + time);
        assert!(moment_after(time).unwrap() >= moment);
    }

    #[test]
    fn more_than_a_clock_can_tell_is_no_moment() {
        for seconds in [1e300, f64::MAX, f64::INFINITY, 1e19] {
            assert_eq!(moment_in(seconds), None, "{seconds}");
        }
        assert_eq!(moment_after(Duration::MAX), None);
    }
}
