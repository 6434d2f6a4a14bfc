//! The grammar of a line: a fixed prefix that is scanned without a JSON parser.
//!
//! ```text
//! {["run":"0123456789abcdef","open":1,["identity":2,]]"row":17,"id":"r17","fp":"0123456789abcdef","outcome":"ok",
//! "effect":"done","repeatable":false,["idempotency_key":"...",|"key_hash":7,]["page":2,["next":"..."|null,]]
//! ["begun_to":3|null,]<fields>[<body>]}
//! ```
//! `run` and `open` stand in a file's first line: its [`Mark`]. A run writes them before anything else, so that a file
//! without an outcome says whose it is as well; its first outcome continues that line. `identity` is the version of the
//! rule by which a kind of work makes its fingerprints, where that is not the first. `effect` and `repeatable` decide
//! with the outcome whether a later run may do it again. `idempotency_key` is the one that it went out with, where it
//! may have taken effect: a later run sends the same, whichever it is; `key_hash` stands in its place where a note
//! alone tells of it. `page` stands only in lines of rows that have pages, `next` only when the page itself is there:
//! the address of the page after it, or null. `begun_to` is the last page behind this one that may have been started as
//! well, null if that may be any: its own line or note is lost, and a run that begins it anew does not undo that. A
//! failed line's fields begin with its error, whose kind decides whether it runs again.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use unisono_core::{Effect, ErrorKind, OutcomeKind};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    members::{Fields, Members},
    repeat::Repeat,
};

/// What the first line of a results file says about the file: which run it is of, and whether that run has ended well.
///
/// It stands at the beginning, so that the digit behind `open` can be overwritten in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) run: u64,
    /// Not everything that was begun has its line, or that was not looked at yet.
    pub(crate) is_open: bool,
    /// By which rule its fingerprints were made, from 1 to 9.
    pub(crate) version: u8,
}

impl Mark {
    /// How long one without a version is.
    const SHORT_BYTES: usize = 35;
    /// The longest one.
    pub(crate) const LONGEST_BYTES: usize = Self::SHORT_BYTES + "\"identity\":2,".len();
    /// Where the digit of `open` stands in the file.
    pub(crate) const OPEN_AT: u64 = 33;

    /// How long it is, and so from where on to read.
    pub(crate) fn length(self) -> usize {
        if self.version > 1 { Self::LONGEST_BYTES } else { Self::SHORT_BYTES }
    }

    fn write(self, members: &mut Members<'_>) {
        members.hexadecimal("run", self.run);
        members.number("open", u8::from(self.is_open));
        if self.version > 1 {
            members.number("identity", self.version);
        }
    }

    /// The beginning of the first line of a file with this mark: what a run writes before anything else.
    pub(crate) fn beginning(self) -> Vec<u8> {
        let mut line = Vec::with_capacity(Self::LONGEST_BYTES);
        self.push(&mut line);
        line
    }

    fn push(self, into: &mut Vec<u8>) {
        into.push(b'{');
        self.write(&mut Members::new(into));
        into.push(b',');
    }

    /// The mark at the beginning of a line.
    pub(crate) fn of(line: &[u8]) -> Option<Self> {
        let bytes = line.get(..Self::SHORT_BYTES)?;
        let digits = bytes.strip_prefix(b"{\"run\":\"")?.get(..16)?;
        let open = bytes[24..].strip_prefix(b"\",\"open\":")?;
        Some(Self {
            run: hexadecimal(digits)?,
            is_open: match open {
                b"0," => false,
                b"1," => true,
                _ => return None,
            },
            version: match line[Self::SHORT_BYTES..].strip_prefix(b"\"identity\":") {
                Some([digit @ b'2'..=b'9', b',', ..]) => digit - b'0',
                _ => 1,
            },
        })
    }

    /// Whether the beginning of a line that is not whole ends before it has said by which rule its fingerprints are
    /// made.
    pub(crate) fn is_cut_in(line: &[u8]) -> bool {
        let said = line.get(Self::SHORT_BYTES..).unwrap_or_default();
        let name = b"\"identity\":";
        !said.is_empty() && (name.starts_with(said) || said.strip_prefix(name).is_some_and(|rest| rest.len() < 2))
    }

    /// A line with this mark in the place of the one that it may have. The line must be whole.
    pub(crate) fn push_marked(mark: Option<Self>, line: &[u8], into: &mut Vec<u8>) {
        let rest = Self::of(line).map_or(&line[1..], |had| &line[had.length()..]);
        match mark {
            Some(mark) => mark.push(into),
            None => into.push(b'{'),
        }
        into.extend_from_slice(rest);
    }
}

/// Names a line: a row of the input, or one page of it.
///
/// A row without pages and the first page of a row are the same piece of work, and so are their keys: whether a run
/// follows pages is an option of that run, and the next one may say otherwise.
///
/// ```
/// use unisono_journal::RowKey;
/// assert_eq!(RowKey { row: 7, page: 0 }, RowKey { row: 7, page: 1 });
/// assert_ne!(RowKey { row: 7, page: 1 }, RowKey { row: 7, page: 2 });
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RowKey {
    /// Position in the input, from 0.
    pub row: u64,
    /// Page of the row, from 1; 0 where the row has no pages.
    pub page: u32,
}

impl RowKey {
    /// What is told apart, and in which order.
    fn work(self) -> (u64, u32) {
        (self.row, self.page.max(1))
    }
}

impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        self.work() == other.work()
    }
}

impl Eq for RowKey {}

impl Hash for RowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.work().hash(state);
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.work().cmp(&other.work())
    }
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
    /// What it went out with so that it is repeatable, if that is a key and it may have taken effect.
    pub idempotency_key: Option<&'a str>,
    /// The page after this one.
    pub next: Next<'a>,
    /// Up to which page behind this one others may have been started before; [`ANY_PAGE`] where that is unknown, and 0
    /// where none was.
    pub begun_to: u32,
    /// Further members of the line's object without a body: `"url":"...","status":200`.
    pub fields: &'a Fields,
    /// The members that may be large: `"body":{...}`.
    pub body: &'a Fields,
}

impl Record<'_> {
    /// The line as it is written, line feed included.
    pub fn line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        encode(self, false, &mut line);
        line
    }
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
    /// The key that it went out with, still escaped as in JSON.
    pub idempotency_key: Option<&'a [u8]>,
    /// The hash of that key, as in [`Repeat::ByKey`], where the key itself is not known.
    pub key_hash: Option<u32>,
    /// The address of the next page, still escaped as in JSON: `None` unknown, `Some(None)` none.
    pub next: Option<Option<&'a [u8]>>,
    /// As in [`Record`].
    pub begun_to: u32,
    /// Whether its error says nothing of the row: [`ErrorKind::is_passing`].
    pub is_passing: bool,
    /// Whether it could not be told what the row asked for.
    pub not_understood: bool,
}

impl Head<'_> {
    /// In which way what may have been done may be repeated.
    pub fn repeat(&self) -> Repeat {
        match (self.key_text(), self.key_hash) {
            _ if !self.repeatable => Repeat::Never,
            (Some(key), _) => Repeat::by_key(&key),
            (None, Some(hash)) => Repeat::ByKey { hash, twin: 0 },
            (None, None) => Repeat::ByNature,
        }
    }

    /// Whether its row goes on with another page.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.next, Some(Some(_)))
    }

    /// The key that it went out with.
    pub(crate) fn key_text(&self) -> Option<String> {
        self.idempotency_key.and_then(unescape)
    }

    /// That of the row's name, as [`hash_of`] makes it.
    pub(crate) fn id_hash(&self) -> u64 {
        match unescape(self.id) {
            Some(id) => hash_of(&id),
            None => xxh3_64(self.id),
        }
    }
}

/// A name in short. 64 bits tell ten million apart with a doubt of one in a hundred thousand.
pub(crate) fn hash_of(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Writes a line, or what continues one that [`Mark::beginning`] has begun; returns how long it is without its body.
pub(crate) fn encode(record: &Record<'_>, is_begun: bool, into: &mut Vec<u8>) -> usize {
    let start = into.len();
    if !is_begun {
        into.push(b'{');
    }
    let mut members = Members::new(into);
    push_head(record, None, &mut members);
    members.fields(record.fields);
    let brief = members.length() - start;
    members.fields(record.body);
    into.extend_from_slice(b"}\n");
    brief
}

/// The prefix of a line; `key_hash` is that of a key which is not known.
pub(crate) fn push_head(record: &Record<'_>, key_hash: Option<u32>, members: &mut Members<'_>) {
    members.number("row", record.key.row);
    members.text("id", record.id);
    members.hexadecimal("fp", record.fingerprint);
    members.text("outcome", record.outcome.as_str());
    members.text("effect", record.effect.as_str());
    members.flag("repeatable", record.repeatable);
    push_key(record.idempotency_key, key_hash, members);
    if record.key.page > 0 {
        members.number("page", record.key.page);
        match record.next {
            Next::Unknown => {}
            Next::Last => members.null("next"),
            Next::Page(next) => members.text("next", next),
        }
    }
    push_begun_to(record.begun_to, members);
}

pub(crate) fn push_key(key: Option<&str>, hash: Option<u32>, members: &mut Members<'_>) {
    match (key, hash) {
        (Some(key), _) => members.text("idempotency_key", key),
        (None, Some(hash)) => members.number("key_hash", hash),
        (None, None) => {}
    }
}

pub(crate) fn push_begun_to(page: u32, members: &mut Members<'_>) {
    match page {
        0 => {}
        ANY_PAGE => members.null("begun_to"),
        page => members.number("begun_to", page),
    }
}

/// Ends a line that was cut off before its body.
pub(crate) const BODY_LOST: &[u8] = b",\"body_lost\":true}\n";

/// Reads the prefix of a line without its newline; `None` when it is not a line of ours.
///
/// Total: any bytes have a result. Only the prefix and the closing brace are looked at.
///
/// ```
/// let line =
///     br#"{"row":4,"id":"r4","fp":"00000000000000ff","outcome":"ok","effect":"done","repeatable":true,"status":200}"#;
/// assert_eq!(unisono_journal::scan(line).unwrap().key.row, 4);
/// assert!(unisono_journal::scan(b"{}").is_none());
/// ```
pub fn scan(line: &[u8]) -> Option<Head<'_>> {
    let (head, rest) = scan_start(line)?;
    (rest.len() > 1 && rest.ends_with(b"}")).then_some(())?;
    Some(head)
}

/// As [`scan`], of a line that may be cut off anywhere behind its prefix; also what follows that.
pub(crate) fn scan_start(line: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let rest = match Mark::of(line) {
        Some(mark) => &line[mark.length()..],
        None => line.strip_prefix(b"{")?,
    };
    let (row, rest) = number(rest.strip_prefix(b"\"row\":")?)?;
    let (id, rest) = string(rest.strip_prefix(b",\"id\":")?)?;
    let (fingerprint, rest) = string(rest.strip_prefix(b",\"fp\":")?)?;
    let (outcome, rest) = string(rest.strip_prefix(b",\"outcome\":")?)?;
    let (effect, rest) = string(rest.strip_prefix(b",\"effect\":")?)?;
    let (repeatable, rest) = boolean(rest.strip_prefix(b",\"repeatable\":")?)?;
    let mut rest = rest.strip_prefix(b",")?;
    let mut idempotency_key = None;
    if let Some(keyed) = rest.strip_prefix(b"\"idempotency_key\":") {
        let (key, after) = string(keyed)?;
        (idempotency_key, rest) = (Some(key), after.strip_prefix(b",")?);
    }
    let mut key_hash = None;
    if let Some(hashed) = rest.strip_prefix(b"\"key_hash\":") {
        let (hash, after) = number(hashed)?;
        (key_hash, rest) = (Some(u32::try_from(hash).ok()?), after.strip_prefix(b",")?);
    }
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
    let mut begun_to = 0;
    if let Some(after) = rest.strip_prefix(b"\"begun_to\":null,") {
        (begun_to, rest) = (ANY_PAGE, after);
    } else if let Some(after) = rest.strip_prefix(b"\"begun_to\":") {
        let (number, after) = number(after)?;
        (begun_to, rest) = (u32::try_from(number).ok()?, after.strip_prefix(b",")?);
    }
    let head = Head {
        key: RowKey { row, page },
        id,
        fingerprint: hexadecimal(fingerprint)?,
        outcome: std::str::from_utf8(outcome).ok()?.parse().ok()?,
        effect: std::str::from_utf8(effect).ok()?.parse().ok()?,
        repeatable,
        idempotency_key,
        key_hash,
        next,
        begun_to,
        is_passing: error_kind(rest).is_some_and(ErrorKind::is_passing),
        not_understood: error_kind(rest) == Some(ErrorKind::Input),
    };
    Some((head, rest))
}

/// The kind of the error with which the fields of a failed line begin.
fn error_kind(fields: &[u8]) -> Option<ErrorKind> {
    let (kind, _) = string(fields.strip_prefix(b"\"error\":{\"kind\":")?)?;
    ErrorKind::named(std::str::from_utf8(kind).ok()?)
}

/// Whether a line that is not whole may be the beginning of one of ours, as far as it goes.
pub(crate) fn may_begin(line: &[u8]) -> bool {
    let starts = [&b"{\"row\":"[..], b"{\"run\":\""];
    starts.iter().any(|start| line.starts_with(start) || start.starts_with(line))
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

/// Sixteen digits, as they are written.
pub(crate) fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let is_written = |digit: &u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit);
    (digits.len() == 16 && digits.iter().all(is_written)).then_some(())?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
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

/// What every reader of JSON can tell from its neighbours.
pub(crate) const MOST_ROW: u64 = 1 << 53;
/// Of a line behind which any page may have been started.
pub const ANY_PAGE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(fill: impl FnOnce(&mut Members<'_>)) -> Fields {
        let mut fields = Fields::default();
        fill(&mut fields.members());
        fields
    }

    fn line_of(mark: Option<Mark>, record: &Record<'_>) -> Vec<u8> {
        let mut line = mark.map(Mark::beginning).unwrap_or_default();
        encode(record, mark.is_some(), &mut line);
        line
    }

    proptest! {
        #[test]
        fn what_is_written_is_scanned_back(
            row in any::<u64>(), page in 0u32..3, fingerprint in any::<u64>(), id in any::<String>(), next in any::<String>(),
            kind in 0usize..6, effect in 0usize..3, repeatable: bool, sent in any::<Option<String>>(), run in any::<Option<u64>>(), is_open: bool, version in 1u8..=9,
            begun_to in prop_oneof![Just(0), Just(ANY_PAGE), any::<u32>()],
        ) {
            let mark = run.map(|run| Mark { run, is_open, version });
            let outcome = OutcomeKind::ALL[kind];
            let record = Record {
                key: RowKey { row, page }, id: &id, fingerprint, outcome, effect: Effect::ALL[effect], repeatable,
                idempotency_key: sent.as_deref(), next: Next::Page(&next), begun_to, fields: &fields(|members| members.text("url", &id)),
                body: &fields(|members| members.object("body", |body| body.number("row", 1))),
            };
            let mut line = line_of(mark, &record);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(Mark::of(&line), mark);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(value["id"].as_str(), Some(id.as_str()));
            let head = scan(&line).unwrap();
            prop_assert_eq!((head.key, head.fingerprint, head.outcome), (record.key, fingerprint, outcome));
            prop_assert_eq!((head.effect, head.repeatable), (record.effect, repeatable));
            prop_assert_eq!(unescape(head.id), Some(id));
            prop_assert_eq!(head.key_text(), sent);
            prop_assert_eq!(head.begun_to, begun_to);
            let read = head.next.flatten().and_then(unescape);
            prop_assert_eq!(read, (page > 0).then_some(next));
        }

        #[test]
        fn a_mark_is_taken_off_put_on_and_changed_without_touching_the_rest(
            one: Option<u64>, other: Option<u64>, is_open: bool, versions in [1u8..=9, 1u8..=9],
        ) {
            let one = one.map(|run| Mark { run, is_open, version: versions[0] });
            let other = other.map(|run| Mark { run, is_open, version: versions[1] });
            let (empty, some) = (Fields::default(), fields(|members| members.number("n", 1)));
            let record = Record {
                key: RowKey { row: 1, page: 0 }, id: "r", fingerprint: 7, outcome: OutcomeKind::Ok, effect: Effect::Done,
                repeatable: false, idempotency_key: None, next: Next::Unknown, begun_to: 0, fields: &some, body: &empty,
            };
            let mut changed = Vec::new();
            Mark::push_marked(other, &line_of(one, &record), &mut changed);
            prop_assert_eq!(changed, line_of(other, &record));
        }

        #[test]
        fn any_bytes_are_a_line_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..80, marked: bool, version in 1u8..=9) {
            let _ = scan(&bytes);
            let mark = marked.then_some(Mark { run: 1, is_open: true, version });
            let record = Record {
                key: RowKey { row: 1, page: 1 }, id: "a\"", fingerprint: 255, outcome: OutcomeKind::Ok, effect: Effect::Done,
                repeatable: true, idempotency_key: Some("c"), next: Next::Page("b"), begun_to: 3, fields: &Fields::default(), body: &Fields::default(),
            };
            let mut damaged = line_of(mark, &record);
            damaged.truncate(damaged.len() - cut);
            prop_assert!(may_begin(&damaged));
            damaged.extend_from_slice(&bytes);
            let _ = (scan(&damaged), scan_start(&damaged), Mark::of(&damaged), may_begin(&damaged));
        }
    }

    #[test]
    fn the_digit_that_says_open_stands_where_it_is_looked_for() {
        let mark = Mark { run: 0xabc, is_open: true, version: 1 };
        let mut line = Vec::new();
        Mark::push_marked(Some(mark), b"{\"row\":1}", &mut line);
        assert_eq!(line, *b"{\"run\":\"0000000000000abc\",\"open\":1,\"row\":1}");
        assert_eq!(mark.beginning(), line[..mark.length()]);
        line[usize::try_from(Mark::OPEN_AT).unwrap()] = b'0';
        assert_eq!(Mark::of(&line), Some(Mark { is_open: false, ..mark }));
        let later = Mark { version: 2, ..mark };
        assert_eq!(later.beginning(), *b"{\"run\":\"0000000000000abc\",\"open\":1,\"identity\":2,");
        assert_eq!(later.beginning().len(), later.length());
    }

    #[test]
    fn a_line_whose_row_is_not_to_blame_is_known_by_its_error_and_not_by_its_body() {
        let line = |rest: &str| {
            format!(
                r#"{{"row":1,"id":"a","fp":"00000000000000ff","outcome":"failed","effect":"none","repeatable":true,{rest}}}"#
            )
        };
        for kind in ErrorKind::ALL {
            let error = format!(r#""error":{{"kind":"{kind}","message":""}}"#);
            assert_eq!(scan(line(&error).as_bytes()).unwrap().is_passing, kind.is_passing(), "{kind}");
            assert!(!scan(line(&format!(r#""body":{{{error}}}"#)).as_bytes()).unwrap().is_passing, "{kind}");
        }
        assert!(scan(line(r#""error":{"kind":"input"}"#).as_bytes()).unwrap().not_understood);
    }
}
