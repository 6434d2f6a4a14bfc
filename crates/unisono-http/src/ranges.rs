//! Bodies that break off and go on: what tells a version of a body from every other, how its rest is asked for, and
//! what an answer to that brings (RFC 9110, sections 13.1.5 and 14).
//!
//! Only bytes of one version are ever put behind each other. So a version that is not known for certain has no rest: a
//! weak `ETag`, a `Last-Modified` within the second of the answer, a body with a content coding, whose places are not
//! those of the bytes that come out of it. And an answer that does not say that it brings just what was asked for is
//! of no use, whatever its status.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{Request, StatusSet, throttle::single};

/// What tells the body that a server has at an address from every other that it has had there or will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyVersion {
    /// A strong `ETag`, or the time of the last change.
    validator: HeaderValue,
    /// Its length in bytes, where that is known.
    total: Option<u64>,
}

/// What an answer brings to a request for a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestOfBody {
    /// What comes from there on, up to this place, which is the end where `is_last`.
    Rest {
        /// How many bytes there are then, in all.
        until: u64,
        /// Whether that is all of it; where the length is not known, it is.
        is_last: bool,
    },
    /// Nothing, for there is nothing more.
    Nothing,
    /// Something else than was asked for: the answer to a request without a place.
    Whole,
    /// What can be put nowhere: it is to be asked again, from the beginning.
    Useless,
}

impl BodyVersion {
    /// The version of the body that comes with this head; `None` where nothing tells it for certain from another, or it
    /// is not the whole of it.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if status != StatusCode::OK || has_coding(headers) {
            return None;
        }
        let validator = match headers.contains_key(header::ETAG) {
            true => strong_tag(headers)?,
            false => settled_time(headers)?,
        };
        let total = single(headers, &header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        Some(Self { validator: HeaderValue::from_str(validator).ok()?, total })
    }

    /// As [`BodyVersion::of`], of what was noted of it; `None` where that is no validator.
    pub fn noted(validator: &str, total: Option<u64>) -> Option<Self> {
        let is_one = is_strong_tag(validator) || httpdate::parse_http_date(validator).is_ok();
        Some(Self { validator: HeaderValue::from_str(validator).ok().filter(|_| is_one)?, total })
    }

    /// What the server knows it by, as text.
    pub fn validator(&self) -> &str {
        self.validator.to_str().expect("it was made of text")
    }

    /// Its length in bytes, where that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The same request for what comes behind the first `there` bytes. `expect` is what is a success of the request
    /// itself.
    pub fn request_rest(&self, request: &Request, there: u64, expect: &StatusSet) -> Request {
        let mut rest = request.clone();
        let range = HeaderValue::try_from(format!("bytes={there}-")).expect("digits can be sent");
        rest.headers.insert(header::RANGE, range);
        rest.headers.insert(header::IF_RANGE, self.validator.clone());
        // Places in a file are those of its own bytes.
        rest.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answers = [StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];
        rest.options.get_or_insert_default().expect = Some(expect.and(answers));
        rest
    }

    /// What an answer with this head brings to a request for what comes behind the first `there` bytes.
    pub fn rest(&self, there: u64, status: StatusCode, headers: &HeaderMap) -> RestOfBody {
        let range = single(headers, &header::CONTENT_RANGE).and_then(|text| text.strip_prefix("bytes "));
        match status {
            StatusCode::PARTIAL_CONTENT => match range.and_then(part) {
                Some((first, last, total)) if first == there && !has_coding(headers) && self.is_of(headers, total) => {
                    let total = total.or(self.total);
                    RestOfBody::Rest { until: last + 1, is_last: total.is_none_or(|total| last + 1 == total) }
                }
                _ => RestOfBody::Useless,
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = range.and_then(|text| text.strip_prefix("*/")).and_then(|total| total.parse::<u64>().ok());
                let is_all = total == Some(there) && self.total.is_none_or(|total| total == there);
                if is_all { RestOfBody::Nothing } else { RestOfBody::Useless }
            }
            _ => RestOfBody::Whole,
        }
    }

    /// Whether nothing in a head says that it is of another version. The server has said that it is not, by a status
    /// that it may use only then; some say so of whatever they have.
    fn is_of(&self, headers: &HeaderMap, total: Option<u64>) -> bool {
        let same = |name: &HeaderName| single(headers, name).is_none_or(|text| text == self.validator());
        let by_name = if is_strong_tag(self.validator()) { header::ETAG } else { header::LAST_MODIFIED };
        same(&by_name) && total.zip(self.total).is_none_or(|(now, then)| now == then)
    }
}

/// Whether the rest of what this request brings can be asked for: nothing is done by asking, it asks for all there is,
/// and with no condition of its own.
pub fn may_go_on(request: &Request) -> bool {
    let has_own = CONDITIONS.iter().any(|name| request.headers.contains_key(name));
    request.method == Method::GET && request.body.length() == Some(0) && !has_own
}

fn has_coding(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_ENCODING)
}

fn strong_tag(headers: &HeaderMap) -> Option<&str> {
    single(headers, &header::ETAG).filter(|tag| is_strong_tag(tag))
}

fn is_strong_tag(text: &str) -> bool {
    text.len() > 1 && text.starts_with('"') && text.ends_with('"')
}

/// The time of the last change, where by the server's own clock it is past: within the second it may have been changed
/// once more (section 8.8.2.2).
fn settled_time(headers: &HeaderMap) -> Option<&str> {
    let text = single(headers, &header::LAST_MODIFIED)?;
    let changed = httpdate::parse_http_date(text).ok()?;
    let now = httpdate::parse_http_date(single(headers, &header::DATE)?).ok()?;
    now.duration_since(changed).is_ok_and(|age| age.as_secs() >= 1).then_some(text)
}

/// First and last place of a part, from 0, and the length of all, where it is known: `0-9/100`, `0-9/*`.
fn part(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (places, total) = text.split_once('/')?;
    let (first, last) = places.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    let (first, last) = (number(first)?, number(last)?);
    let fits = first <= last && last < total.unwrap_or(u64::MAX);
    fits.then_some((first, last, total))
}

/// What a request may say of its own about which body it wants, or which part.
const CONDITIONS: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn version(fields: &[(&'static str, &str)]) -> Option<BodyVersion> {
        BodyVersion::of(StatusCode::OK, &headers(fields))
    }

    const EARLIER: &str = "Sat, 01 Jan 2022 00:00:00 GMT";
    const LATER: &str = "Sat, 01 Jan 2022 00:00:01 GMT";

    #[test]
    fn only_what_tells_a_version_for_certain_is_its_validator() {
        let known = version(&[("etag", "\"one\""), ("content-length", "7")]).unwrap();
        assert_eq!((known.validator(), known.total()), ("\"one\"", Some(7)));
        let dated = version(&[("last-modified", EARLIER), ("date", LATER)]).unwrap();
        assert_eq!((dated.validator(), dated.total()), (EARLIER, None));
        for (fields, why) in [
            (&[("etag", "W/\"one\""), ("last-modified", EARLIER), ("date", LATER)][..], "a weak tag, whatever else"),
            (&[("etag", "one")], "a tag without quotes"),
            (&[("etag", "\"one\""), ("etag", "\"two\"")], "two tags"),
            (&[("etag", "\"one\""), ("content-encoding", "gzip")], "a coding"),
            (&[("last-modified", EARLIER), ("date", EARLIER)], "changed within the second"),
            (&[("last-modified", LATER), ("date", EARLIER)], "changed in the future"),
            (&[("last-modified", EARLIER)], "no clock of the server's"),
            (&[], "nothing"),
        ] {
            assert_eq!(version(fields), None, "{why}");
        }
        assert_eq!(BodyVersion::of(StatusCode::PARTIAL_CONTENT, &headers(&[("etag", "\"one\"")])), None);
        assert_eq!(BodyVersion::noted("\"one\"", Some(7)), version(&[("etag", "\"one\""), ("content-length", "7")]));
        assert_eq!(BodyVersion::noted("one", None), None);
    }

    #[test]
    fn a_rest_is_taken_only_where_it_says_that_it_is_the_one_that_was_asked_for() {
        let version = version(&[("etag", "\"one\""), ("content-length", "10")]).unwrap();
        let unknown = BodyVersion::noted("\"one\"", None).unwrap();
        let partial = StatusCode::PARTIAL_CONTENT;
        let last = RestOfBody::Rest { until: 10, is_last: true };
        for (range, expected) in [
            ("bytes 4-9/10", last),
            ("bytes 4-9/*", last),
            ("bytes 4-7/10", RestOfBody::Rest { until: 8, is_last: false }),
            ("bytes 3-9/10", RestOfBody::Useless),
            ("bytes 5-9/10", RestOfBody::Useless),
            ("bytes 4-9/11", RestOfBody::Useless),
            ("bytes 4-10/10", RestOfBody::Useless),
            ("bytes 4-3/10", RestOfBody::Useless),
            ("bytes 4-+9/10", RestOfBody::Useless),
            ("bytes */10", RestOfBody::Useless),
            ("items 4-9/10", RestOfBody::Useless),
        ] {
            assert_eq!(version.rest(4, partial, &headers(&[("content-range", range)])), expected, "{range}");
        }
        let brings = |fields: &[(&'static str, &str)]| version.rest(4, partial, &headers(fields));
        assert_eq!(brings(&[("content-range", "bytes 4-9/10"), ("etag", "\"one\"")]), last);
        assert_eq!(brings(&[("content-range", "bytes 4-9/10"), ("etag", "\"two\"")]), RestOfBody::Useless);
        assert_eq!(brings(&[("content-range", "bytes 4-9/10"), ("content-encoding", "br")]), RestOfBody::Useless);
        assert_eq!(brings(&[]), RestOfBody::Useless);
        let unsatisfied = |version: &BodyVersion, range| {
            version.rest(10, StatusCode::RANGE_NOT_SATISFIABLE, &headers(&[("content-range", range)]))
        };
        for version in [&version, &unknown] {
            assert_eq!(unsatisfied(version, "bytes */10"), RestOfBody::Nothing);
            assert_eq!(unsatisfied(version, "bytes */9"), RestOfBody::Useless);
        }
        assert_eq!(version.rest(4, StatusCode::OK, &headers(&[])), RestOfBody::Whole);
    }

    #[test]
    fn what_asks_for_something_of_its_own_has_no_rest() {
        let mut request = Request::get("http://host/").unwrap();
        assert!(may_go_on(&request));
        request.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        assert!(!may_go_on(&request));
        let mut request = Request::get("http://host/").unwrap();
        request.method = Method::POST;
        assert!(!may_go_on(&request));
        request.method = Method::GET;
        request.body = "x".into();
        assert!(!may_go_on(&request));
    }

    #[test]
    fn a_rest_is_asked_for_on_the_condition_that_the_body_is_the_same() {
        let version = BodyVersion::noted("\"one\"", None).unwrap();
        let expect = "200".parse::<StatusSet>().unwrap();
        let rest = version.request_rest(&Request::get("http://host/").unwrap(), 7, &expect);
        let header = |name: &str| rest.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            ["range", "if-range", "accept-encoding"].map(header),
            ["bytes=7-", "\"one\"", "identity"].map(str::to_owned)
        );
        let success: Vec<u16> = [200, 204, 206, 416]
            .into_iter()
            .filter(|code| rest.expect().unwrap().contains(StatusCode::from_u16(*code).unwrap()))
            .collect();
        assert_eq!(success, [200, 206, 416]);
        // Elsewhere the condition goes along with what it is the condition of.
        let moved = rest.moved_to(crate::Url::parse("http://other/").unwrap()).unwrap();
        assert!(moved.headers.contains_key(header::RANGE) && moved.headers.contains_key(header::IF_RANGE));
    }

    proptest! {
        #[test]
        fn whatever_a_range_says_no_byte_is_put_where_it_does_not_belong(text in "(bytes )?[0-9]{0,3}-[0-9]{0,3}/([0-9]{0,3}|\\*)") {
            let version = BodyVersion::noted("\"one\"", None).unwrap();
            let brings = version.rest(4, StatusCode::PARTIAL_CONTENT, &headers(&[("content-range", &text)]));
            if let RestOfBody::Rest { until, .. } = brings {
                prop_assert!(text.starts_with("bytes 4-") || text.starts_with("bytes 04-") || text.starts_with("bytes 004-"));
                prop_assert!(until > 4);
            } else {
                prop_assert_eq!(brings, RestOfBody::Useless);
            }
        }
    }
}
