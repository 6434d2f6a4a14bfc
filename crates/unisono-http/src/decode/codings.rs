//! What the head says about a body's codings.

use http::{HeaderMap, header};

/// What a client that decodes asks for.
pub(crate) const ACCEPT_ENCODING: &str = "gzip, br, zstd, deflate";

/// The codings of one body, in the order in which they were applied.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Codings {
    /// There is nothing to decode, or something that is not known here.
    #[default]
    None,
    /// All of them are known.
    Known(Vec<Coding>),
    /// More than are looked at.
    TooMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Codings {
    /// `Content-Encoding` is a list that may be spread over several lines. Whatever is named counts, known or not:
    /// otherwise what is refused would depend on what is known.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut known = Vec::new();
        let (mut named, mut has_unknown) = (0, false);
        for value in headers.get_all(header::CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if name.is_empty() {
                    continue;
                }
                named += 1;
                if named > MOST_CODINGS {
                    return Self::TooMany;
                }
                match coding(name) {
                    Some(coding) => known.push(coding),
                    None => has_unknown |= !name.eq_ignore_ascii_case(b"identity"),
                }
            }
        }
        if has_unknown || known.is_empty() { Self::None } else { Self::Known(known) }
    }
}

fn coding(name: &[u8]) -> Option<Coding> {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match () {
        () if is("gzip") || is("x-gzip") => Some(Coding::Gzip),
        () if is("deflate") => Some(Coding::Deflate),
        () if is("br") => Some(Coding::Brotli),
        () if is("zstd") => Some(Coding::Zstd),
        () => None,
    }
}

/// Two are rare; curl takes five.
pub(crate) const MOST_CODINGS: usize = 5;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn codings(lines: &[&str]) -> Codings {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Codings::of(&headers)
    }

    #[test]
    fn codings_are_one_list_over_all_lines_without_regard_to_case() {
        use Coding::{Brotli, Deflate, Gzip, Zstd};
        assert_eq!(codings(&["GZip, ,br", "", "identity,\tzstd "]), Codings::Known(vec![Gzip, Brotli, Zstd]));
        assert_eq!(codings(&["x-gzip", "deflate"]), Codings::Known(vec![Gzip, Deflate]));
        assert_eq!(codings(&["identity"]), Codings::None);
        assert_eq!(codings(&[]), Codings::None);
    }

    #[test]
    fn with_one_that_is_unknown_none_is_undone() {
        assert_eq!(codings(&["gzip, aws-chunked"]), Codings::None);
        assert_eq!(codings(&["gzip, \u{e9}"]), Codings::None);
    }

    #[test]
    fn more_than_five_are_too_many_whatever_they_are_and_however_they_are_spread() {
        assert!(matches!(codings(&["gzip,gzip,gzip,gzip,gzip"]), Codings::Known(_)));
        for lines in [&["gzip,gzip,gzip", "gzip,gzip,gzip"][..], &["identity"; 6], &["a,b,c,d,e,gzip"], &["gzip"; 300]]
        {
            assert_eq!(codings(lines), Codings::TooMany, "{lines:?}");
        }
    }
}
