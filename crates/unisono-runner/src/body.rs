//! A body as a member of a results line.

use unisono_journal::{Json, Members};

use crate::input;

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyMode {
    /// JSON as the server sent it; what is not JSON that every reader takes, as text, or as base64 when it is not text
    /// either.
    #[default]
    Json,
    /// As a string; as base64 when it is not UTF-8.
    Text,
    /// As base64.
    Base64,
    /// Not at all.
    None,
}

/// A body without the byte order mark that some servers put before their JSON, and that no JSON may begin with.
pub fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(input::MARK).unwrap_or(body)
}

/// Why what should be JSON is not, if so. What nests so deeply that readers would give up, or worse, is none either; a
/// byte order mark before it is none of its fault.
pub fn json_error(body: &[u8]) -> Option<String> {
    if let Some(name) = input::foreign_encoding(body) {
        return Some(format!("it is {name}, and JSON is UTF-8"));
    }
    // The bytes are passed on as they are.
    unisono_select::check(unmarked(body)).err().map(|error| error.reason().to_owned())
}

/// A body as JSON that every reader of lines takes.
fn json(body: &[u8]) -> Result<Json<'_>, String> {
    match input::foreign_encoding(body) {
        Some(name) => Err(format!("it is {name}, and JSON is UTF-8")),
        None => Json::check(unmarked(body)),
    }
}

/// Adds `"body":...` or `"body_base64":"..."` to `body`, and to `fields` why what should be JSON is not; nothing for an
/// empty body.
pub(crate) fn push_body(bytes: &[u8], mode: BodyMode, fields: &mut Members<'_>, body: &mut Members<'_>) {
    if bytes.is_empty() {
        return;
    }
    match mode {
        BodyMode::None => {}
        BodyMode::Base64 => body.base64("body", bytes),
        BodyMode::Text => body.bytes("body", bytes),
        BodyMode::Json => match json(bytes) {
            Ok(json) => body.json("body", json),
            Err(why) => {
                fields.text("json_error", &why);
                body.bytes("body", bytes);
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;
    use unisono_journal::Fields;

    use super::*;

    fn members(bytes: &[u8], mode: BodyMode) -> (String, String) {
        let (mut fields, mut body) = (Fields::default(), Fields::default());
        push_body(bytes, mode, &mut fields.members(), &mut body.members());
        (fields.as_str().to_owned(), body.as_str().to_owned())
    }

    fn member(bytes: &[u8], mode: BodyMode) -> String {
        members(bytes, mode).1
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
            (b"\xff\xfe{\0}\0", "it is UTF-16"),
            (b"\xef\xbb\xbf<", "no value at byte 0"),
            (b"[NaN]", "no value at byte 1"),
            (b"{} {}", "more after the value at byte 3"),
        ] {
            assert!(json_error(body).unwrap().contains(why), "{body:?}");
            assert!(members(body, BodyMode::Json).0.starts_with("\"json_error\":"), "{body:?}");
        }
        assert_eq!(json_error(br#"{"a":1,"a":2}"#), None);
        assert_eq!(member(b"\xef\xbb\xbf{}", BodyMode::Json), r#""body":{}"#);
        assert_eq!(member(b"\xff", BodyMode::Json), r#""body_base64":"/w==""#);
    }

    #[test]
    fn json_that_some_reader_refuses_is_kept_as_text() {
        let deep = "[".repeat(30_000) + &"]".repeat(30_000);
        for body in [r#"{"half":"\ud800"}"#, "1e999", &deep] {
            let (fields, member) = members(body.as_bytes(), BodyMode::Json);
            assert!(fields.starts_with("\"json_error\":"), "{fields}");
            let value: serde_json::Value = serde_json::from_str(&format!("{{{member}}}")).unwrap();
            assert_eq!(value["body"], body);
        }
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
                (serde_json::Value::String(text), None) if Json::check(&body).is_err() || mode == BodyMode::Text => text.clone().into_bytes(),
                // JSON itself.
                _ => return Ok(()),
            };
            prop_assert_eq!(back, body);
        }
    }
}
