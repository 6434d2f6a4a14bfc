//! One JSON value per line: an address, or an object that says how to call it.
//!
//! `id`, `url`, `method`, `headers`, `json`, `body` (text), `body_base64` and `params` speak for the request; every
//! member is a column as well. What stands under `json` is sent as it is written, numbers untouched.

use std::{collections::BTreeMap, io::Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Rows, Stopped, for_each_line};
use crate::{maker::Own, row::Fields};

pub(super) fn read(reader: impl Read, rows: &mut Rows) -> Result<(), Stopped> {
    for_each_line(reader, |number, line| {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match parse(line) {
            Ok((members, own)) => rows.push(number, &members, &own),
            Err(why) => rows.bad(number, why),
        }
    })
}

/// An object's members as columns.
struct Members(BTreeMap<String, Result<String, &'static str>>);

impl Fields for Members {
    fn field(&self, name: &str) -> Result<&str, String> {
        match self.0.get(name) {
            Some(Ok(text)) => Ok(text),
            Some(Err(what)) => Err(format!("member `{name}` is {what}, not text")),
            None => Err(format!("no member `{name}`")),
        }
    }
}

fn parse(line: &[u8]) -> Result<(Members, Own), String> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())?.trim();
    if text.starts_with('"') {
        let url: String = serde_json::from_str(text).map_err(|error| not_json(&error))?;
        let own = Own { url: Some(url.clone()), ..Own::default() };
        return Ok((Members(BTreeMap::from([("url".to_owned(), Ok(url))])), own));
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let own = own(&members)?;
    let columns = members.into_iter().map(|(name, value)| (name, column(value))).collect();
    Ok((Members(columns), own))
}

fn own(members: &BTreeMap<String, &RawValue>) -> Result<Own, String> {
    let text = |name: &str| {
        members.get(name).map(|value| column(value).map_err(|what| format!("`{name}` is {what}, not text"))).transpose()
    };
    let pairs = |name: &str| match members.get(name) {
        None => Ok(Vec::new()),
        Some(value) => self::pairs(value).map_err(|why| format!("`{name}` {why}")),
    };
    let (body, is_json) = match (members.get("json"), text("body")?, text("body_base64")?) {
        (None, None, None) => (None, false),
        (Some(json), None, None) => (Some(Bytes::copy_from_slice(json.get().as_bytes())), true),
        (None, Some(body), None) => (Some(Bytes::from(body)), false),
        (None, None, Some(coded)) => {
            (Some(BASE64_STANDARD.decode(coded).map_err(|_| "`body_base64` is not base64".to_owned())?.into()), false)
        }
        _ => return Err("more than one of `json`, `body` and `body_base64`".to_owned()),
    };
    Ok(Own {
        id: text("id")?,
        url: text("url")?,
        method: text("method")?,
        headers: pairs("headers")?,
        params: pairs("params")?,
        body,
        is_json,
    })
}

/// A string's text, or a number or truth value as it is written.
fn column(value: &RawValue) -> Result<String, &'static str> {
    match value.get().as_bytes()[0] {
        b'"' => serde_json::from_str(value.get()).map_err(|_| "a broken string"),
        b'{' => Err("an object"),
        b'[' => Err("an array"),
        b'n' => Err("null"),
        _ => Ok(value.get().to_owned()),
    }
}

/// An object of texts; a parameter may have several, as an array.
fn pairs(value: &RawValue) -> Result<Vec<(String, String)>, String> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(value.get()).map_err(|_| "is not an object".to_owned())?;
    let mut pairs = Vec::new();
    for (name, value) in members {
        let values: Vec<&RawValue> = match value.get().starts_with('[') {
            true => serde_json::from_str(value.get()).map_err(|error| not_json(&error))?,
            false => vec![value],
        };
        for value in values {
            pairs.push((name.clone(), column(value).map_err(|what| format!("has a `{name}` that is {what}"))?));
        }
    }
    Ok(pairs)
}

fn not_json(error: &serde_json::Error) -> String {
    format!("not a JSON object or string: {error}")
}
