//! Sizes as people write them: `64MiB`, `10kB`, `512`.

use crate::ParseError;

/// Reads a size in bytes: `kB`, `MB`, `GB`, `TB`, `PB`, `EB` are powers of 1000; `KiB`, `MiB`, `GiB`, `TiB`, `PiB`,
/// `EiB` (and `K`, `M`, `G`, `T`, `P`) powers of 1024; a bare number is bytes.
///
/// # Errors
/// When the text is not a number with one of these units, or does not fit 64 bits.
///
/// ```
/// assert_eq!(unisono_core::parse_size("64MiB").unwrap(), 64 << 20);
/// ```
pub fn parse_size(text: &str) -> Result<u64, ParseError> {
    let error = || ParseError::new(text, "a size", "`64MiB`, `10kB` or `512`");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        "eb" => 1_000_000_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        // Not `E` alone, with which an exponent begins.
        "eib" => 1 << 60,
        _ => return Err(error()),
    };
    let number = &text[..digits];
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(error);
    }
    let bytes = number.parse::<f64>().map_err(|_| error())? * unit as f64;
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(error()) }
}

/// Writes a size with three significant figures, in powers of 1024.
///
/// ```
/// assert_eq!(unisono_core::format_size(1536), "1.50 KiB");
/// ```
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 999.5 and more would be written with four figures.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_mean_what_their_standard_says() {
        assert_eq!(parse_size("1.5k").unwrap(), 1536);
        assert_eq!(parse_size("2 GB").unwrap(), 2_000_000_000);
        assert_eq!(format_size(64 << 20), "64.0 MiB");
        assert_eq!(format_size(1_048_064), "1.00 MiB");
        for text in ["", "x", "1q", "-1", "1e3", "99999999999999T"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_size_is_written_with_at_most_four_digits(bytes in any::<u64>()) {
            let digits = format_size(bytes).chars().filter(char::is_ascii_digit).count();
            prop_assert!((1..=5).contains(&digits));
        }

        #[test]
        fn a_size_that_is_written_is_read_back_with_three_figures(bytes in any::<u64>(), shift in 0u32..64) {
            // What is rounded up beyond 64 bits is no size any more.
            let bytes = (bytes >> shift).min(u64::MAX / 100 * 99);
            let again = parse_size(&format_size(bytes)).unwrap();
            prop_assert!(again.abs_diff(bytes) <= bytes / 190 + 1);
        }
    }
}
