//! The grammar of a line: a fixed prefix that is written and scanned without a JSON parser.
//!
//! ```text
//! {"row":17,"id":"r17","fp":"0123456789abcdef","outcome":"ok","effect":"done","repeatable":false,
//! ["page":2,["next":"..."|null,]]<fields>[<body>]}
//! ```
//! `effect` and `repeatable` decide with the outcome whether a later run may do it again.
//! `page` stands only in lines of rows that have pages, `next` only when the page itself is there: the address of the
//! page after it, or null. A failed line's fields begin with its error, whose kind decides whether it runs again.

use std::io::Write;

use unisono_core::{Effect, OutcomeKind};

/// Names a line: a row of the input, or one page of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Position in the input, from 0.
    pub row: u64,
    /// Page of the row, from 1; 0 where the row has no pages.
    pub page: u32,
}

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// This row has no pages, or this page has failed.
    Unknown,
    /// This was the last page.
    Last,
    /// The address of the next page.
    Page(&'a str),
}

/// One outcome, as it is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Which row and page.
    pub key: RowKey,
    /// The row's name.
    pub id: &'a str,
    /// Fingerprint of what the row asks for.
    pub fingerprint: u64,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// Whether what it asked for was carried out.
    pub effect: Effect,
    /// Whether running the row again does no harm: then, on a full disk, it need not be recorded without its body.
    pub repeatable: bool,
    /// The page after this one.
    pub next: Next<'a>,
    /// Further members of the line's object without a body: `"url":"...","status":200`. Not empty.
    pub fields: &'a [u8],
    /// The member that may be large: `"body":{...}`; empty for none.
    pub body: &'a [u8],
}

/// The prefix of a line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// Which row and page.
    pub key: RowKey,
    /// The row's name, still escaped as in JSON.
    pub id: &'a [u8],
    /// Fingerprint of what the row asked for.
    pub fingerprint: u64,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// Whether what it asked for was carried out.
    pub effect: Effect,
    /// Whether running the row again does no harm.
    pub repeatable: bool,
    /// The address of the next page, still escaped as in JSON: `None` unknown, `Some(None)` none.
    pub next: Option<Option<&'a [u8]>>,
    /// Whether the peer asked for a longer wait than allowed.
    pub rate_limited: bool,
}

/// Writes a line; answers how long it is without its body.
pub(crate) fn encode(record: &Record<'_>, into: &mut Vec<u8>) -> usize {
    let start = into.len();
    let kind = record.outcome.as_str();
    // Writing to a vector cannot fail.
    let _ = write!(into, "{{\"row\":{},\"id\":", record.key.row);
    push_json_string(record.id, into);
    let _ = write!(into, ",\"fp\":\"{:016x}\",\"outcome\":\"{kind}\",", record.fingerprint);
    let _ = write!(into, "\"effect\":\"{}\",\"repeatable\":{},", record.effect, record.repeatable);
    if record.key.page > 0 {
        let _ = write!(into, "\"page\":{},", record.key.page);
        match record.next {
            Next::Unknown => {}
            Next::Last => into.extend_from_slice(b"\"next\":null,"),
            Next::Page(next) => {
                into.extend_from_slice(b"\"next\":");
                push_json_string(next, into);
                into.push(b',');
            }
        }
    }
    into.extend_from_slice(record.fields);
    let brief = into.len() - start;
    if !record.body.is_empty() {
        into.push(b',');
        into.extend_from_slice(record.body);
    }
    into.extend_from_slice(b"}\n");
    brief
}

/// Appends a JSON string, quotes included (RFC 8259, section 7).
pub fn push_json_string(text: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        into.extend_from_slice(&bytes[clean..at]);
        clean = at + 1;
        match byte {
            b'"' | b'\\' => into.extend_from_slice(&[b'\\', *byte]),
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            control => {
                let _ = write!(into, "\\u{control:04x}");
            }
        }
    }
    into.extend_from_slice(&bytes[clean..]);
    into.push(b'"');
}

/// Reads the prefix of a line without its newline; `None` when it is not a line of ours.
///
/// Total: any bytes are an answer. Only the prefix and the closing brace are looked at.
pub fn scan(line: &[u8]) -> Option<Head<'_>> {
    let rest = line.strip_prefix(b"{\"row\":")?;
    let (row, rest) = number(rest)?;
    let (id, rest) = string(rest.strip_prefix(b",\"id\":")?)?;
    let (fingerprint, rest) = string(rest.strip_prefix(b",\"fp\":")?)?;
    let (outcome, rest) = string(rest.strip_prefix(b",\"outcome\":")?)?;
    let (effect, rest) = string(rest.strip_prefix(b",\"effect\":")?)?;
    let (repeatable, rest) = boolean(rest.strip_prefix(b",\"repeatable\":")?)?;
    let mut rest = rest.strip_prefix(b",")?;
    let (mut page, mut next) = (0, None);
    if let Some(paged) = rest.strip_prefix(b"\"page\":") {
        let (number, after) = number(paged)?;
        page = u32::try_from(number).ok().filter(|page| *page > 0)?;
        rest = after.strip_prefix(b",")?;
        if let Some(after) = rest.strip_prefix(b"\"next\":null,") {
            (next, rest) = (Some(None), after);
        } else if let Some(after) = rest.strip_prefix(b"\"next\":") {
            let (address, after) = string(after)?;
            (next, rest) = (Some(Some(address)), after.strip_prefix(b",")?);
        }
    }
    (fingerprint.len() == 16 && rest.len() > 1 && rest.ends_with(b"}")).then_some(())?;
    Some(Head {
        key: RowKey { row, page },
        id,
        fingerprint: u64::from_str_radix(std::str::from_utf8(fingerprint).ok()?, 16).ok()?,
        outcome: std::str::from_utf8(outcome).ok()?.parse().ok()?,
        effect: std::str::from_utf8(effect).ok()?.parse().ok()?,
        repeatable,
        next,
        rate_limited: rest.starts_with(b"\"error\":{\"kind\":\"rate_limited\""),
    })
}

/// Turns the escaped text of a [`Head`] into a string.
pub fn unescape(escaped: &[u8]) -> Option<String> {
    if !escaped.contains(&b'\\') {
        return std::str::from_utf8(escaped).ok().map(str::to_owned);
    }
    let mut quoted = Vec::with_capacity(escaped.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(escaped);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok()
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    Some((number, &bytes[digits..]))
}

fn boolean(bytes: &[u8]) -> Option<(bool, &[u8])> {
    match bytes.strip_prefix(b"true") {
        Some(rest) => Some((true, rest)),
        None => Some((false, bytes.strip_prefix(b"false")?)),
    }
}

/// A JSON string's inside, and what follows its closing quote.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = bytes.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        match inside.get(at)? {
            b'"' => return Some((&inside[..at], &inside[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_scanned_back(
            row in any::<u64>(), page in 0u32..3, fingerprint in any::<u64>(), id in ".{0,12}", next in ".{0,12}", kind in 0usize..6,
            effect in 0usize..3, repeatable in any::<bool>(),
        ) {
            let outcome = OutcomeKind::ALL[kind];
            let record = Record {
                key: RowKey { row, page }, id: &id, fingerprint, outcome, effect: Effect::ALL[effect], repeatable,
                next: Next::Page(&next), fields: b"\"url\":\"x\"", body: b"\"body\":{\"row\":1}",
            };
            let mut line = Vec::new();
            encode(&record, &mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(value["id"].as_str(), Some(id.as_str()));
            let head = scan(&line).unwrap();
            prop_assert_eq!((head.key, head.fingerprint, head.outcome), (record.key, fingerprint, outcome));
            prop_assert_eq!((head.effect, head.repeatable), (record.effect, repeatable));
            prop_assert_eq!(unescape(head.id), Some(id));
            let read = head.next.flatten().and_then(unescape);
            prop_assert_eq!(read, (page > 0).then_some(next));
        }

        #[test]
        fn any_bytes_are_a_line_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..80) {
            let _ = scan(&bytes);
            let line = br#"{"row":1,"id":"a\"","fp":"00000000000000ff","outcome":"ok","effect":"done","repeatable":true,"page":1,"next":"b","x":1}"#;
            let mut damaged = line[..line.len() - cut.min(line.len())].to_vec();
            damaged.extend_from_slice(&bytes);
            let _ = scan(&damaged);
        }
    }

    #[test]
    fn a_rate_limited_line_is_known_by_its_error_and_not_by_its_body() {
        let line = |rest: &str| {
            format!(
                r#"{{"row":1,"id":"a","fp":"00000000000000ff","outcome":"failed","effect":"none","repeatable":true,{rest}}}"#
            )
        };
        assert!(scan(line(r#""error":{"kind":"rate_limited"}"#).as_bytes()).unwrap().rate_limited);
        assert!(!scan(line(r#""body":{"error":{"kind":"rate_limited"}}"#).as_bytes()).unwrap().rate_limited);
    }
}
