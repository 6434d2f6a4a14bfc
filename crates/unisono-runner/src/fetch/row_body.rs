//! What a row of JSON says is its body: `json`, `body` (text), `body_base64`, `body_file` (a path), `form` or
//! `multipart`.
//!
//! What stands under `json` is sent as it is written, numbers untouched. A `form` that is no object is a column like
//! any other, since rows had such columns before there were forms. Paths are those of the machine that reads the rows.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;
use unisono_http::{Body, FORM, Part, encode_form};

use crate::input::jsonl::{column, not_json, pairs, values};

/// A body, and the media type that goes with it unless a header says another one.
pub type RowBody = (Body, Option<&'static str>);

/// The body of a row with these members; `None` where it has none.
///
/// # Errors
/// Which of them is not what it should be, or that there are two.
pub(crate) fn body_of(members: &BTreeMap<String, &RawValue>) -> Result<Option<RowBody>, String> {
    let mut found: Option<(&str, RowBody)> = None;
    for name in ROW_BODIES {
        let Some(value) = members.get(name) else { continue };
        let text = || column(value).map_err(|what| format!("`{name}` is {what}, not text"));
        let body = match name {
            "json" => (Bytes::copy_from_slice(value.get().as_bytes()).into(), Some("application/json")),
            "body" => (Body::from(text()?), None),
            "body_base64" => {
                let bytes = BASE64_STANDARD.decode(text()?).map_err(|_| "`body_base64` is not base64".to_owned())?;
                (bytes.into(), None)
            }
            "body_file" => (file(name, &text()?)?, None),
            "form" if !value.get().starts_with('{') => continue,
            "form" => {
                let pairs = pairs(value).map_err(|why| format!("`form` {why}"))?;
                (encode_form(pairs).into(), Some(FORM))
            }
            _ => (multipart(value)?, None),
        };
        if let Some((other, _)) = found {
            return Err(format!("both `{other}` and `{name}`: a request has one body"));
        }
        found = Some((name, body));
    }
    Ok(found.map(|(_, body)| body))
}

/// The same of words that are not in a row of JSON, each with its value as JSON.
///
/// # Errors
/// As for a row.
pub fn body_of_words(words: &[(String, String)]) -> Result<Option<RowBody>, String> {
    let members = words.iter().map(|(name, json)| {
        let value = serde_json::from_str(json).map_err(|error| format!("`{name}` is {}", not_json(&error)))?;
        Ok((name.clone(), value))
    });
    body_of(&members.collect::<Result<_, String>>()?)
}

/// The members that may be a body.
pub const ROW_BODIES: [&str; 6] = ["json", "body", "body_base64", "body_file", "form", "multipart"];

fn multipart(value: &RawValue) -> Result<Body, String> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(value.get()).map_err(|_| "`multipart` is not an object of parts".to_owned())?;
    let mut parts = Vec::new();
    for (name, value) in members {
        for value in values(value)? {
            parts.push(part(&name, value).map_err(|why| format!("`multipart` has a `{name}` {why}"))?);
        }
    }
    Body::multipart(parts).map_err(|error| error.chain())
}

/// Text, or an object that names a file.
fn part(name: &str, value: &RawValue) -> Result<Part, String> {
    if !value.get().starts_with('{') {
        let content = Body::from(column(value).map_err(|what| format!("that is {what}"))?);
        return Ok(Part { name: name.to_owned(), file_name: None, content_type: None, content });
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(value.get()).map_err(|error| format!("that cannot be read: {error}"))?;
    let text = |name: &str| {
        let value = members.get(name).filter(|value| value.get() != "null");
        value.map(|value| column(value).map_err(|what| format!("whose `{name}` is {what}, not text"))).transpose()
    };
    if let Some(other) = members.keys().find(|name| !["file", "type", "name"].contains(&name.as_str())) {
        return Err(format!("with an unknown member `{other}`: a file has `file` (its path), `type` and `name`"));
    }
    let path = text("file")?.ok_or("without `file`, the path of what is sent")?;
    let of_path = Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Part {
        name: name.to_owned(),
        file_name: Some(text("name")?.or(of_path).unwrap_or_else(|| path.clone())),
        content_type: Some(text("type")?.unwrap_or_else(|| "application/octet-stream".to_owned())),
        content: file("file", &path).map_err(|why| format!("that cannot be sent: {why}"))?,
    })
}

fn file(name: &str, path: &str) -> Result<Body, String> {
    Body::file(Path::new(path)).map_err(|error| format!("`{name}`: {}", error.chain()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Option<RowBody>, String> {
        body_of(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn each_word_for_a_body_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "of a file").unwrap();
        let path = path.to_str().unwrap();
        for (json, sent, media) in [
            (r#"{"json": {"a":1.0}}"#, r#"{"a":1.0}"#, Some("application/json")),
            (r#"{"body": "text"}"#, "text", None),
            (r#"{"body_base64": "e30="}"#, "{}", None),
            (&format!(r#"{{"body_file": "{path}"}}"#), "of a file", None),
            (r#"{"form": {"b": [1, true], "a": "x y", "n": null}}"#, "a=x+y&b=1&b=true", Some(FORM)),
        ] {
            let (body, found) = of(json).unwrap().unwrap();
            assert_eq!((body.length(), found), (Some(sent.len() as u64), media), "{json}");
        }
        assert!(of(r#"{"form": "a column"}"#).unwrap().is_none());
        let json = format!(r#"{{"multipart": {{"t": ["a", "b"], "f": {{"file": "{path}", "type": "text/x"}}}}}}"#);
        let (body, _) = of(&json).unwrap().unwrap();
        assert!(body.content_type().unwrap().to_str().unwrap().starts_with("multipart/form-data; boundary="));
    }

    #[test]
    fn what_is_wrong_with_a_body_is_named() {
        for (json, said) in [
            (r#"{"json": 1, "form": {}}"#, "both `json` and `form`: a request has one body"),
            (r#"{"body_file": "/no/such"}"#, "`body_file`: cannot read `/no/such`: No such file"),
            (r#"{"form": {"a": {}}}"#, "`form` has a `a` that is an object"),
            (r#"{"multipart": [1]}"#, "`multipart` is not an object of parts"),
            (r#"{"multipart": {"f": {"path": "x"}}}"#, "`multipart` has a `f` with an unknown member `path`"),
            (r#"{"multipart": {"f": {"type": "x/y"}}}"#, "`multipart` has a `f` without `file`"),
            (r#"{"multipart": {"f": {"file": "/no/such"}}}"#, "cannot read `/no/such`"),
        ] {
            let why = of(json).map(|_| ()).unwrap_err();
            assert!(why.contains(said), "{json}: {why}");
        }
    }
}
