//! What a server says about when to come back.
//!
//! Sources: RFC 9110, section 10.2.3 (`Retry-After`); draft-ietf-httpapi-ratelimit-headers (`RateLimit`); and the
//! `X-RateLimit-*` headers of GitHub and others, whose reset is a time of day, seconds or milliseconds. Every value is
//! an answer or nothing: a server that talks nonsense is treated as one that says nothing. A `Retry-After` that is
//! longer than any client waits is no nonsense, however many digits it has; a quota's reset may be in whatever unit.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// Whether the server names a time to come back at, be it one that makes no sense: it has refused for now.
pub(crate) fn comes_back(headers: &HeaderMap) -> bool {
    headers.contains_key(header::RETRY_AFTER)
}

/// How long `Retry-After` asks to wait from now. A date is taken relative to the server's own `Date`, so a clock that
/// is off does no harm.
pub(crate) fn retry_after(headers: &HeaderMap, wall: fn() -> SystemTime) -> Option<Duration> {
    let text = single(headers, &header::RETRY_AFTER)?;
    let wait = match seconds(text) {
        Some(wait) => wait,
        None => httpdate::parse_http_date(text).ok()?.duration_since(server_time(headers, wall)).ok()?,
    };
    (!wait.is_zero()).then_some(wait.min(Duration::from_secs(A_YEAR_SECS)))
}

/// How long until the quota is renewed, when the server says that nothing of it is left.
pub(crate) fn until_renewed(headers: &HeaderMap, wall: fn() -> SystemTime) -> Option<Duration> {
    if let Some((remaining, reset)) = structured(headers) {
        return (remaining == 0).then_some(reset).and_then(sensible);
    }
    for [remaining, reset] in &QUOTA_HEADERS {
        if single(headers, remaining).is_some_and(|left| left == "0") {
            return single(headers, reset)
                .and_then(|text| reset_in(text, server_time(headers, wall)))
                .and_then(sensible);
        }
    }
    None
}

/// Whether the server says that nothing is left of the quota.
pub(crate) fn is_used_up(headers: &HeaderMap) -> bool {
    // Asked of every answer, and most say nothing of a quota: a look at the names costs less than four searches.
    let is_told = headers.keys().any(|name| name == RATELIMIT || name.as_str().ends_with("-remaining"));
    is_told
        && (structured(headers).is_some_and(|(remaining, _)| remaining == 0)
            || QUOTA_HEADERS.iter().any(|[remaining, _]| single(headers, remaining).is_some_and(|left| left == "0")))
}

/// `RateLimit: "policy";r=0;t=30`, or the older `limit=10, remaining=0, reset=30`.
fn structured(headers: &HeaderMap) -> Option<(u64, Duration)> {
    let text = single(headers, &RATELIMIT)?;
    let mut remaining = None;
    let mut reset = None;
    for part in text.split([';', ',']) {
        let Some((name, value)) = part.trim().split_once('=') else { continue };
        match name.trim() {
            "r" | "remaining" => remaining = value.trim().parse().ok(),
            "t" | "reset" => reset = seconds(value.trim()),
            _ => {}
        }
    }
    Some((remaining?, reset?))
}

/// A reset as a time of day, in seconds or milliseconds, or as seconds from now.
fn reset_in(text: &str, now: SystemTime) -> Option<Duration> {
    let value = seconds(text)?;
    let epoch = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    match value.as_secs() {
        // No quota is renewed after years, and no server's clock is that wrong.
        0..A_YEAR_SECS => Some(value),
        secs if secs < 100 * A_YEAR_SECS => value.checked_sub(epoch),
        _ => (value / 1000).checked_sub(epoch),
    }
}

/// The clock of the server, as its answer shows it.
fn server_time(headers: &HeaderMap, wall: fn() -> SystemTime) -> SystemTime {
    single(headers, &header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(wall)
}

/// A header's text, if it is there once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// Whole or decimal seconds, of as many digits as it likes; no sign, no exponent.
fn seconds(text: &str) -> Option<Duration> {
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.as_bytes()[0] != b'.';
    let value: f64 = text.parse().ok().filter(|_| plain)?;
    // What has only digits is never negative, so it is too long at most.
    Some(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX))
}

/// Zero says nothing of a quota, and neither does a year.
fn sensible(wait: Duration) -> Option<Duration> {
    (!wait.is_zero() && wait.as_secs() < A_YEAR_SECS).then_some(wait)
}

const A_YEAR_SECS: u64 = 366 * 24 * 3600;
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const QUOTA_HEADERS: [[HeaderName; 2]; 3] = [
    [HeaderName::from_static("ratelimit-remaining"), HeaderName::from_static("ratelimit-reset")],
    [HeaderName::from_static("x-ratelimit-remaining"), HeaderName::from_static("x-ratelimit-reset")],
    [HeaderName::from_static("x-rate-limit-remaining"), HeaderName::from_static("x-rate-limit-reset")],
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let wait = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), wall).map(|wait| wait.as_secs_f64());
        assert_eq!(wait(&[("retry-after", "2")]), Some(2.0));
        assert_eq!(wait(&[("retry-after", "1.5")]), Some(1.5));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")]), Some(10.0));
        // The server's clock is an hour behind ours: the wait is what it means, not what we would read.
        let skewed = [("retry-after", "Sun, 06 Nov 1994 07:49:47 GMT"), ("date", "Sun, 06 Nov 1994 07:49:37 GMT")];
        assert_eq!(wait(&skewed), Some(10.0));
    }

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        for text in [
            "0",
            "-1",
            "nan",
            "1e400",
            "inf",
            "soon",
            "-1000000000000000000000000000000",
            "Fri, 31 Dec 10000 23:59:59 GMT",
            "",
            ".",
            "1.2.3",
            "Sun, 06 Nov 1994 08:49:00 GMT",
        ] {
            assert_eq!(retry_after(&headers(&[("retry-after", text)]), wall), None, "{text}");
        }
        let mut twice = headers(&[("retry-after", "5")]);
        twice.append(header::RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&twice, wall), None);
    }

    #[test]
    fn a_wait_of_any_number_of_digits_is_a_year_at_most_and_such_a_quota_is_used_up_until_an_unknown_time() {
        let year = Some(Duration::from_secs(A_YEAR_SECS));
        let many = "9".repeat(400);
        for text in ["40000000", "99999999999999999999999", &many] {
            assert_eq!(retry_after(&headers(&[("retry-after", text)]), wall), year, "{text}");
            let headers = headers(&[("ratelimit", &format!("\"default\";r=0;t={text}"))]);
            assert_eq!((until_renewed(&headers, wall), is_used_up(&headers)), (None, true), "{text}");
        }
        assert_eq!(retry_after(&headers(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]), wall), year);
        // Nanoseconds, or a unit that is not known.
        for text in ["784111787000000000", &many] {
            let headers = headers(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", text)]);
            assert_eq!((until_renewed(&headers, wall), is_used_up(&headers)), (None, true), "{text}");
        }
    }

    #[test]
    fn a_quota_is_used_up_under_each_of_its_names() {
        for name in ["ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining"] {
            assert!(is_used_up(&headers(&[("server", "x"), (name, "0")])), "{name}");
            assert!(!is_used_up(&headers(&[("server", "x"), (name, "1")])), "{name}");
        }
        assert!(is_used_up(&headers(&[("server", "x"), ("ratelimit", "\"default\";r=0;t=30")])));
        assert!(!is_used_up(&headers(&[("server", "x"), ("attempts-remaining", "0")])));
    }

    #[test]
    fn a_quota_that_is_used_up_says_when_it_is_renewed() {
        let wait = |pairs: &[(&'static str, &str)]| until_renewed(&headers(pairs), wall).map(|wait| wait.as_secs());
        assert_eq!(wait(&[("ratelimit", "\"default\";r=0;t=30")]), Some(30));
        assert_eq!(wait(&[("ratelimit", "limit=10, remaining=0, reset=7")]), Some(7));
        assert_eq!(wait(&[("ratelimit", "\"default\";r=5;t=30")]), None);
        assert_eq!(wait(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "45")]), Some(45));
        assert_eq!(wait(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "784111787")]), Some(10));
        let now_in_millis = "784111787000";
        assert_eq!(wait(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", now_in_millis)]), Some(10));
        assert_eq!(wait(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "45")]), None);
        assert_eq!(wait(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "784111000")]), None);
    }

    proptest! {
        #[test]
        fn any_header_is_an_answer_or_nothing(text in "[ -~]{0,30}", other in "[0-9;=\"rt,. -]{0,30}") {
            for name in ["retry-after", "ratelimit", "x-ratelimit-reset", "date"] {
                let mut map = headers(&[("x-ratelimit-remaining", "0")]);
                map.insert(HeaderName::from_static(name), HeaderValue::from_str(&text).unwrap());
                map.insert(HeaderName::from_static("ratelimit"), HeaderValue::from_str(&other).unwrap());
                let _ = (retry_after(&map, wall), until_renewed(&map, wall), is_used_up(&map));
            }
        }
    }
}
