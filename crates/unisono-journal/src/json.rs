//! JSON that has been looked through from end to end, so that it may be written into a line as it came.
//!
//! Looked through means: any reader takes it. That is less than the grammar allows: a half of a surrogate pair, a
//! number beyond a double and brackets more than 127 deep are grammatical, and the readers of other languages refuse
//! them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Bytes of which it is known that they are one JSON value; only [`Json::check`] makes it.
///
/// ```
/// use unisono_journal::Json;
/// assert_eq!(Json::check(b" {\"n\": 1.10}\n").unwrap().as_str(), "{\"n\": 1.10}");
/// assert!(Json::check(b"[NaN]").unwrap_err().contains("expected value"));
/// assert!(Json::check(br#""\ud800""#).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// Looks through these bytes.
    ///
    /// # Errors
    /// Why they are no JSON that every reader takes, and where.
    pub fn check(bytes: &'a [u8]) -> Result<Self, String> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Err(format!("not UTF-8 at byte {}", error.valid_up_to())),
        };
        match serde_json::from_str::<Readable>(text) {
            Ok(_) => Ok(Self(text.trim_matches([' ', '\n', '\r', '\t']))),
            Err(error) => Err(error.to_string()),
        }
    }

    /// As it came, without the white space around it.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Without its line breaks, which can only be white space: within a string they are escaped.
    pub(crate) fn push_on_one_line(self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(self.0.as_bytes());
        if memchr::memchr2(b'\n', b'\r', &into[start..]).is_some() {
            for byte in &mut into[start..] {
                if *byte == b'\n' || *byte == b'\r' {
                    *byte = b' ';
                }
            }
        }
    }
}

/// Takes any value and keeps nothing of it. Unlike serde's `IgnoredAny` it has every string and number read.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_reader_refuses_is_not_passed_on() {
        for (json, why) in [
            (&b"<html>"[..], "expected value"),
            (b"\xff\xfe", "not UTF-8"),
            (b"\xef\xbb\xbf{}", "expected value"),
            (b"[NaN]", "expected value"),
            (b"[Infinity]", "expected value"),
            (b"{} {}", "trailing characters"),
            (br#"["\ud800"]"#, "hex escape"),
            (br#"["\udc00\ud800"]"#, "lone leading surrogate"),
            (b"1e400", "out of range"),
            ("[".repeat(200).as_bytes(), "recursion limit"),
            (b"\"a\nb\"", "control character"),
            (b"", "EOF"),
        ] {
            let error = Json::check(json).unwrap_err();
            assert!(error.contains(why), "{json:?}: {error}");
        }
        for json in [r#"{"a":1,"a":2}"#, "1e-400", r#""😀\u2028\ud83d\ude00""#, "null", "-0"] {
            assert_eq!(Json::check(json.as_bytes()).unwrap().as_str(), json);
        }
    }
}
