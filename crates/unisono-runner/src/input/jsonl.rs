//! One JSON value per line: a string, or an object whose members are columns.

use std::{collections::BTreeMap, io::Read};

use serde_json::value::RawValue;

use super::{
    batches::Stopped,
    reading::{Rows, for_each_line},
};
use crate::{
    Error,
    row::{Maker, RowFields, RowJson},
};

pub(super) fn read<M: Maker>(reader: impl Read, rows: &mut Rows<M>) -> Result<(), Stopped> {
    let mut has_begun = false;
    for_each_line(reader, b'\n', |number, line| {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let is_first = !std::mem::replace(&mut has_begun, true);
        if let Some(error) = one_value(line.trim_ascii()).filter(|_| is_first) {
            return Err(rows.refuse(error));
        }
        let parsed = std::str::from_utf8(line)
            .map_err(|_| "the line is not UTF-8".to_owned())
            .and_then(|text| parse(text.trim()).map_err(|error| explained(&error, text.trim())));
        if is_first {
            // What cannot be read says nothing of those behind it.
            rows.begin(parsed.as_deref().ok())?;
        }
        match parsed {
            Ok(fields) => rows.push(number, &*fields),
            Err(why) => rows.bad(number, why),
        }
    })
}

/// Whether the first line begins a value that goes on below it, as JSON is mostly written, and not one of many.
fn one_value(line: &[u8]) -> Option<Error> {
    let (what, each) = match line {
        [b'[', ..] => ("an array", "'.[]'"),
        b"{" => ("an object over several lines", "."),
        _ => return None,
    };
    let error =
        Error::usage(format!("it is JSON that begins with {what}, and each row is an object on a line of its own"));
    Some(error.hint(format!("`jq -c {each} FILE` writes it so, and `--from - --input-format jsonl` reads that")))
}

fn parse<'a>(text: &'a str) -> Result<Box<dyn RowFields + 'a>, serde_json::Error> {
    Ok(match text.starts_with('"') {
        true => Box::new(StringRow(serde_json::from_str(text)?)),
        false => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let columns = members.iter().map(|(name, value)| (name.clone(), column(value))).collect();
            Box::new(ObjectRow { members, columns })
        }
    })
}

/// A string alone.
struct StringRow(String);

impl RowFields for StringRow {
    fn field(&self, name: &str) -> Result<&str, String> {
        match name {
            "line" | "url" => Ok(&self.0),
            _ => Err(format!("no member `{name}`: the row is a string")),
        }
    }

    fn lacks(&self, name: &str) -> Option<String> {
        self.field(name).err().map(|_| format!("no member `{name}` in its first row, which is a string"))
    }

    fn line(&self) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn json(&self) -> Option<RowJson<'_>> {
        Some(RowJson::Text(&self.0))
    }
}

/// An object's members, as they are written and as columns.
struct ObjectRow<'a> {
    members: BTreeMap<String, &'a RawValue>,
    columns: BTreeMap<String, Result<String, &'static str>>,
}

impl RowFields for ObjectRow<'_> {
    fn field(&self, name: &str) -> Result<&str, String> {
        match self.columns.get(name) {
            Some(Ok(text)) => Ok(text),
            Some(Err(what)) => Err(format!("member `{name}` is {what}, not text")),
            None => Err(format!("no member `{name}`")),
        }
    }

    fn lacks(&self, name: &str) -> Option<String> {
        let known = || self.columns.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let lacks = !self.columns.contains_key(name);
        lacks.then(|| format!("no member `{name}` in its first row (there are: {})", known()))
    }

    fn json(&self) -> Option<RowJson<'_>> {
        Some(RowJson::Object(&self.members))
    }
}

/// A string's text, or a number or truth value as it is written.
pub(crate) fn column(value: &RawValue) -> Result<String, &'static str> {
    match value.get().as_bytes()[0] {
        b'"' => serde_json::from_str(value.get()).map_err(|_| "a broken string"),
        b'{' => Err("an object"),
        b'[' => Err("an array"),
        b'n' => Err("null"),
        _ => Ok(value.get().to_owned()),
    }
}

/// An object of texts; a parameter may have several, as an array, and what is null is left out.
pub(crate) fn pairs(value: &RawValue) -> Result<Vec<(String, String)>, String> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(value.get()).map_err(|_| "is not an object".to_owned())?;
    let mut pairs = Vec::new();
    for (name, value) in members {
        for value in values(value)? {
            pairs.push((name.clone(), column(value).map_err(|what| format!("has a `{name}` that is {what}"))?));
        }
    }
    Ok(pairs)
}

/// One value, or the several of an array; what is null is left out.
pub(crate) fn values(value: &RawValue) -> Result<Vec<&RawValue>, String> {
    let mut values = match value.get().starts_with('[') {
        true => serde_json::from_str(value.get()).map_err(|error| not_json(&error))?,
        false => vec![value],
    };
    values.retain(|value| value.get() != "null");
    Ok(values)
}

/// A file whose lines end with CR alone is one line to everything that reads lines.
fn explained(error: &serde_json::Error, text: &str) -> String {
    let why = not_json(error);
    if text.contains('\r') {
        format!("{why} (the line has carriage returns in it: is CR alone its line end?)")
    } else {
        why
    }
}

pub(crate) fn not_json(error: &serde_json::Error) -> String {
    format!("not a JSON object or string: {error}")
}
