//! Durations, sizes and rates as people write them: what is understood, is understood alike when it is printed.

use unisono_core::{Rate, Span, format_duration, format_size, parse_duration, parse_size};

pub(crate) fn body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = parse_duration(text) {
        let printed = format_duration(duration);
        let again = parse_duration(&printed).unwrap_or_else(|error| panic!("{text} became {printed}: {error}"));
        assert_eq!(format_duration(again), printed, "{text}");
    }
    // What is rounded up beyond 64 bits is no size any more.
    if let Some(size) = parse_size(text).ok().filter(|size| *size < u64::MAX / 100 * 99) {
        let printed = format_size(size);
        let again = parse_size(&printed).unwrap_or_else(|error| panic!("{text} became {printed}: {error}"));
        // It is printed with three figures.
        assert!(again.abs_diff(size) <= size / 190 + 1, "{text} became {printed}");
    }
    if let Ok(rate) = text.parse::<Rate>() {
        let again = rate.to_string().parse();
        let again: Rate = again.unwrap_or_else(|error| panic!("{text} became {rate}: {error}"));
        assert_eq!(again, rate, "{text} became {rate}");
        assert!(!again.interval().is_zero(), "{text} has no time between two starts");
    }
    // Any of these is an answer or an error, and never a panic.
    let _ = text.parse::<Span>();
}
