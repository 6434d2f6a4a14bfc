//! How long a server says that it keeps a connection.
//!
//! `Keep-Alive: timeout=5, max=99` is how many seconds the connection may be idle and how many requests it still takes
//! (RFC 2068, section 19.7.1.1, and what Apache, node and others send). It is a promise, which some of them break when
//! they run out of workers; what follows from that is the pool's affair. What makes no sense says nothing.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// For how long a connection with this answer may be idle and still be used again; `None` when nothing is said.
pub(crate) fn usable_for(headers: &HeaderMap) -> Option<Duration> {
    let (mut timeout, mut takes_more) = (None, true);
    for value in headers.get_all(KEEP_ALIVE) {
        for part in value.as_bytes().split(|byte| matches!(byte, b',' | b';')) {
            let Some((name, number)) = parameter(part) else { continue };
            match name.to_ascii_lowercase().as_slice() {
                b"timeout" => timeout = Some(Duration::from_secs(number)),
                b"max" => takes_more = number > 0,
                _ => {}
            }
        }
    }
    match takes_more {
        true => timeout.map(|timeout| timeout.saturating_sub(ON_THE_WAY.min(timeout / 2))),
        false => Some(Duration::ZERO),
    }
}

fn parameter(part: &[u8]) -> Option<(&[u8], u64)> {
    let at = part.iter().position(|byte| *byte == b'=')?;
    let number = std::str::from_utf8(&part[at + 1..]).ok()?.trim().trim_matches('"');
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((part[..at].trim_ascii(), number.parse().ok().filter(|number| is_number && *number < A_DAY_SECS)?))
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// A request that the server gets after its time is up meets a closed door, so it is sent earlier by as much as it may
/// be on its way; some servers count from the beginning of their answer.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// No server means more.
const A_DAY_SECS: u64 = 86_400;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn usable(value: &[u8]) -> Option<u128> {
        let headers = [(KEEP_ALIVE, HeaderValue::from_bytes(value).unwrap())].into_iter().collect();
        usable_for(&headers).map(|time| time.as_millis())
    }

    #[test]
    fn a_connection_is_used_for_somewhat_less_than_its_server_keeps_it() {
        for (value, expected) in [
            ("timeout=5, max=99", Some(4000)),
            ("Timeout = \"15\"", Some(14_000)),
            ("max=7;timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=5, max=0", Some(0)),
            ("max=3", None),
            ("300", None),
            ("timeout=-1", None),
            ("timeout=+5", None),
            ("timeout=99999999999999999999", None),
            ("timeout", None),
            ("", None),
        ] {
            assert_eq!(usable(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(usable_for(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn any_value_is_a_time_within_a_day_or_nothing(value in prop::collection::vec(0x20u8..=0xff, 0..40), begin in "(timeout|max)=?") {
            let value: Vec<u8> = begin.bytes().chain(value).filter(|byte| *byte != 0x7f).collect();
            prop_assert!(usable(&value).is_none_or(|time| time < 86_400_000));
        }
    }
}
