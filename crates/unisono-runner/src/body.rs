//! A body as a member of a results line.

use base64::{Engine, prelude::BASE64_STANDARD};
use unisono_journal::push_json_string;

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyMode {
    /// JSON as the server sent it; what is not JSON as text, or as base64 when it is not text either.
    #[default]
    Json,
    /// As a string; as base64 when it is not UTF-8.
    Text,
    /// As base64.
    Base64,
    /// Not at all.
    None,
}

/// Why a body that should be JSON is not, if so. What nests so deeply that readers of the line would give up, or worse, is none
/// either.
pub fn json_error(body: &[u8]) -> Option<String> {
    // The bytes are passed on as they are.
    unisono_select::check(body).err().map(|error| error.reason().to_owned())
}

/// Appends the member, `"body":...` or `"body_base64":"..."`; nothing for an empty body. `is_json` says that the bytes
/// are known to be JSON. `name` is what takes the place of `body`.
pub(crate) fn push_member(name: &str, body: &[u8], mode: BodyMode, is_json: bool, into: &mut Vec<u8>) {
    if body.is_empty() || mode == BodyMode::None {
        return;
    }
    let text = if mode == BodyMode::Base64 { None } else { std::str::from_utf8(body).ok() };
    match text {
        Some(_) if mode == BodyMode::Json && is_json => {
            push_name(name, "", into);
            push_on_one_line(body, into);
        }
        Some(text) => {
            push_name(name, "", into);
            push_json_string(text, into);
        }
        None => {
            push_name(name, "_base64", into);
            into.push(b'"');
            let start = into.len();
            into.resize(start + base64::encoded_len(body.len(), true).expect("a body's length fits"), 0);
            BASE64_STANDARD.encode_slice(body, &mut into[start..]).expect("there is room for it");
            into.push(b'"');
        }
    }
}

fn push_name(name: &str, suffix: &str, into: &mut Vec<u8>) {
    for part in ["\"", name, suffix, "\":"] {
        into.extend_from_slice(part.as_bytes());
    }
}

/// JSON without its line breaks, which can only be white space: within a string they are escaped.
fn push_on_one_line(json: &[u8], into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(json.trim_ascii());
    if memchr::memchr2(b'\n', b'\r', &into[start..]).is_some() {
        for byte in &mut into[start..] {
            if *byte == b'\n' || *byte == b'\r' {
                *byte = b' ';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(body: &[u8], mode: BodyMode) -> String {
        let mut line = Vec::new();
        push_member("body", body, mode, json_error(body).is_none(), &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn json_is_passed_on_as_it_was_sent_on_one_line() {
        assert_eq!(member(b" {\"n\": 1.10,\r\n \"n\": 1e5}\n", BodyMode::Json), r#""body":{"n": 1.10,   "n": 1e5}"#);
        assert_eq!(member(b"{}", BodyMode::Text), r#""body":"{}""#);
        assert_eq!(member(b"{}", BodyMode::Base64), r#""body_base64":"e30=""#);
        assert_eq!(member(b"{}", BodyMode::None), "");
        assert_eq!(member(b"", BodyMode::Json), "");
    }

    #[test]
    fn json_that_nests_too_deeply_for_those_who_read_lines_is_written_as_text() {
        let body = [vec![b'['; 30_000], vec![b']'; 30_000]].concat();
        assert_eq!(json_error(&body).as_deref(), Some("more than 512 levels of brackets at byte 512"));
        assert!(member(&body, BodyMode::Json).starts_with(r#""body":"[[["#));
    }

    #[test]
    fn what_is_not_json_says_why_and_is_kept() {
        for (body, why) in [
            (&b"<html>"[..], "no value at byte 0"),
            (b"\xff\xfe", "no UTF-8 at byte 0"),
            (b"\xef\xbb\xbf{}", "no value at byte 0"),
            (b"[NaN]", "no value at byte 1"),
            (b"{} {}", "more after the value at byte 3"),
        ] {
            assert!(json_error(body).unwrap().contains(why), "{body:?}");
        }
        assert_eq!(json_error(br#"{"a":1,"a":2}"#), None);
        assert_eq!(member(b"\xff", BodyMode::Json), r#""body_base64":"/w==""#);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_whatever_the_body(body in prop::collection::vec(any::<u8>(), 1..60), text in any::<bool>()) {
            let mode = if text { BodyMode::Text } else { BodyMode::Json };
            let line = format!("{{{}}}", member(&body, mode));
            prop_assert!(!line.contains('\n'));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let back = match (&value["body"], value["body_base64"].as_str()) {
                (_, Some(coded)) => BASE64_STANDARD.decode(coded).unwrap(),
                (serde_json::Value::String(text), None) if json_error(&body).is_some() || mode == BodyMode::Text => text.clone().into_bytes(),
                // JSON itself.
                _ => return Ok(()),
            };
            prop_assert_eq!(back, body);
        }
    }
}
