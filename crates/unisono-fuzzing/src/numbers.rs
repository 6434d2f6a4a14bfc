//! Durations, sizes and rates as people write them: what is understood, is understood alike when it is printed.

use unisono_core::{Rate, Span, format_duration, format_size, parse_duration, parse_size};

pub(crate) fn body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = parse_duration(text) {
        let printed = format_duration(duration);
        let again = parse_duration(&printed).unwrap_or_else(|error| panic!("{text} became {printed}: {error}"));
        assert_eq!(format_duration(again), printed, "{text}");
    }
    if let Ok(size) = parse_size(text) {
        let printed = format_size(size);
        assert!(parse_size(&printed.replace(' ', "")).is_ok(), "{text} became {printed}");
    }
    // Any of these is an answer or an error, and never a panic.
    let _ = (text.parse::<Span>(), text.parse::<Rate>());
}
