//! The one way in which a line gets its members: typed, and escaped by construction.
//!
//! [`Members`] writes `"name":value` and the commas between; every kind of value has a method, and none takes bytes
//! that are written as they are, but for [`Json`], which only validation makes. So a line is JSON whatever an outcome
//! holds. A line feed never gets into it: text has it escaped, and in JSON that is passed on it can only be white
//! space.
//!
//! Nothing is allocated per member.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::Json;

/// A buffer that holds members, and is filled by [`Fields::members`] alone.
///
/// ```
/// use unisono_journal::Fields;
/// let mut fields = Fields::default();
/// let mut members = fields.members();
/// members.text("url", "http://localhost/?q=\\");
/// members.number("status", 200);
/// members.bytes("stdout", b"\xff");
/// members.object("headers", |headers| headers.text("server", "\"a\""));
/// assert_eq!(
///     fields.as_str(),
///     r#""url":"http://localhost/?q=\\","status":200,"stdout_base64":"/w==","headers":{"server":"\"a\""}"#
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// Forgets the members, and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds members after those that are there.
    pub fn members(&mut self) -> Members<'_> {
        Members { needs_comma: !self.0.is_empty(), line: &mut self.0 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members, with commas between them and no braces around.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("members are written as text")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Writes the members of one object.
#[derive(Debug)]
pub struct Members<'a> {
    line: &'a mut Vec<u8>,
    needs_comma: bool,
}

/// Writes the elements of one list.
#[derive(Debug)]
pub struct Elements<'a> {
    line: &'a mut Vec<u8>,
    needs_comma: bool,
}

impl<'a> Members<'a> {
    /// Those of an object whose brace stands at the end of the line.
    pub(crate) fn new(line: &'a mut Vec<u8>) -> Self {
        Self { line, needs_comma: false }
    }

    /// Text.
    pub fn text(&mut self, name: &str, text: &str) {
        push_json_string(text, self.name(name, ""));
    }

    /// What is written as its [`Display`](fmt::Display) says, as text.
    pub fn display(&mut self, name: &str, value: impl fmt::Display) {
        push_display(&value, self.name(name, ""));
    }

    /// Bytes: as text where they are UTF-8, otherwise as base64 under the name with `_base64` behind it.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(name, text),
            Err(_) => self.base64(name, bytes),
        }
    }

    /// Bytes as base64 (RFC 4648, section 4), under the name with `_base64` behind it.
    pub fn base64(&mut self, name: &str, bytes: &[u8]) {
        let into = self.name(name, "_base64");
        into.push(b'"');
        let start = into.len();
        into.resize(start + base64::encoded_len(bytes.len(), true).expect("its length fits into memory"), 0);
        BASE64_STANDARD.encode_slice(bytes, &mut into[start..]).expect("there is room for it");
        into.push(b'"');
    }

    /// A whole number.
    pub fn number(&mut self, name: &str, number: impl Into<i128>) {
        push_number(number.into(), self.name(name, ""));
    }

    /// A whole number as text of sixteen hexadecimal digits.
    pub(crate) fn hexadecimal(&mut self, name: &str, number: u64) {
        let digit = |at: usize| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15];
        let into = self.name(name, "");
        into.push(b'"');
        into.extend_from_slice(&std::array::from_fn::<u8, 16, _>(digit));
        into.push(b'"');
    }

    /// Yes or no.
    pub fn flag(&mut self, name: &str, flag: bool) {
        self.name(name, "").extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// Nothing.
    pub fn null(&mut self, name: &str) {
        self.name(name, "").extend_from_slice(b"null");
    }

    /// A time in seconds with six decimals, without a float's noise.
    pub fn seconds(&mut self, name: &str, time: Duration) {
        let into = self.name(name, "");
        push_number(time.as_secs().into(), into);
        // The zeros in front, by a digit before them that makes way for the point.
        let point = into.len();
        push_number((1_000_000 + time.subsec_micros()).into(), into);
        into[point] = b'.';
    }

    /// JSON, as it came, on one line.
    pub fn json(&mut self, name: &str, json: Json<'_>) {
        json.push_on_one_line(self.name(name, ""));
    }

    /// An object of its own.
    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Members<'_>)) {
        let into = self.name(name, "");
        into.push(b'{');
        fill(&mut Members { line: into, needs_comma: false });
        into.push(b'}');
    }

    /// A list.
    pub fn list(&mut self, name: &str, fill: impl FnOnce(&mut Elements<'_>)) {
        let into = self.name(name, "");
        into.push(b'[');
        fill(&mut Elements { line: into, needs_comma: false });
        into.push(b']');
    }

    /// Members that were written before.
    pub(crate) fn fields(&mut self, fields: &Fields) {
        if !fields.is_empty() {
            self.comma();
            self.line.extend_from_slice(fields.as_bytes());
        }
    }

    /// How long the line is by now.
    pub(crate) fn length(&self) -> usize {
        self.line.len()
    }

    fn comma(&mut self) {
        if self.needs_comma {
            self.line.push(b',');
        }
        self.needs_comma = true;
    }

    fn name(&mut self, name: &str, suffix: &str) -> &mut Vec<u8> {
        self.comma();
        self.line.push(b'"');
        push_escaped(name, self.line);
        self.line.extend_from_slice(suffix.as_bytes());
        self.line.extend_from_slice(b"\":");
        self.line
    }
}

impl Elements<'_> {
    /// Text.
    pub fn text(&mut self, text: &str) {
        if self.needs_comma {
            self.line.push(b',');
        }
        self.needs_comma = true;
        push_json_string(text, self.line);
    }
}

/// Appends a JSON string, quotes included (RFC 8259, section 7): for a value that is made by hand and checked as
/// [`Json`].
pub fn push_json_string(text: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    push_escaped(text, into);
    into.push(b'"');
}

/// How long this text is as the inside of a JSON string.
pub(crate) fn escaped_length(text: &str) -> usize {
    if is_clean(text.as_bytes()) {
        return text.len();
    }
    let mut escaped = Vec::new();
    push_escaped(text, &mut escaped);
    escaped.len()
}

/// Text as the inside of a JSON string. What some readers take for the end of a line is escaped as well (U+0085,
/// U+2028, U+2029), so that a line is one line to all of them.
fn push_escaped(text: &str, into: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    if !is_clean(bytes) {
        return push_piecewise(bytes, into);
    }
    into.extend_from_slice(bytes);
}

/// Whether nothing has to be escaped, as in nearly all text and every name of ours: eight bytes are looked at together,
/// and the last ones overlap those before.
fn is_clean(bytes: &[u8]) -> bool {
    let word = |eight: &[u8; 8]| has_special(u64::from_le_bytes(*eight));
    if let Some(last) = bytes.last_chunk() {
        return !bytes.as_chunks().0.iter().any(word) && !word(last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let both = u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
        return !has_special(both);
    }
    !bytes.iter().any(|byte| IS_SPECIAL[usize::from(*byte)])
}

/// Whether a byte of these is one at which something may have to be escaped.
fn has_special(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Below so much, a byte borrows from its highest bit; a borrow that spills over only comes after one that counts.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES * u64::from(least)) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    // 0xc2 and 0xe2 differ in one bit.
    below(word, 0x20) | equal(word, b'"') | equal(word, b'\\') | equal(word | ONES << 5, 0xe2) != 0
}

fn push_piecewise(bytes: &[u8], into: &mut Vec<u8>) {
    let (mut clean, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        if !IS_SPECIAL[usize::from(*byte)] {
            at += 1;
            continue;
        }
        let (length, escape) = match (byte, &bytes[at + 1..]) {
            (b'\n', _) => (1, "\\n"),
            (b'\r', _) => (1, "\\r"),
            (b'\t', _) => (1, "\\t"),
            (b'"', _) => (1, "\\\""),
            (b'\\', _) => (1, "\\\\"),
            (0xc2, [0x85, ..]) => (2, "\\u0085"),
            (0xe2, [0x80, 0xa8, ..]) => (3, "\\u2028"),
            (0xe2, [0x80, 0xa9, ..]) => (3, "\\u2029"),
            // A letter that only begins as those do.
            (0xc2 | 0xe2, _) => {
                at += 1;
                continue;
            }
            (control, _) => {
                into.extend_from_slice(&bytes[clean..at]);
                let _ = write!(into, "\\u{control:04x}");
                (1, "")
            }
        };
        if !escape.is_empty() {
            into.extend_from_slice(&bytes[clean..at]);
            into.extend_from_slice(escape.as_bytes());
        }
        at += length;
        clean = at;
    }
    into.extend_from_slice(&bytes[clean..]);
}

fn push_display(value: &dyn fmt::Display, into: &mut Vec<u8>) {
    struct Escaped<'a>(&'a mut Vec<u8>);

    impl fmt::Write for Escaped<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            push_escaped(text, self.0);
            Ok(())
        }
    }

    into.push(b'"');
    // A value that cannot say itself leaves what it has said: still text.
    let _ = write!(Escaped(into), "{value}");
    into.push(b'"');
}

fn push_number(number: i128, into: &mut Vec<u8>) {
    into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Bytes at which something may have to be escaped.
const IS_SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        special[byte] = true;
        byte += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special[0xc2] = true;
    special[0xe2] = true;
    special
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(fields: &Fields) -> Value {
        serde_json::from_str(&format!("{{{}}}", fields.as_str())).unwrap()
    }

    #[test]
    fn what_any_reader_takes_for_a_line_break_is_escaped() {
        let mut fields = Fields::default();
        let breaks = "a\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}é\u{2026}\u{80}z";
        fields.members().text("t", breaks);
        let written = fields.as_str();
        assert_eq!(written, r#""t":"a\n\r\u000b\u000c\u001c\u001d\u001e\u0085\u2028\u2029é…"#.to_owned() + "\u{80}z\"");
        assert_eq!(read(&fields)["t"], breaks);
    }

    #[test]
    fn numbers_and_times_are_exact() {
        let mut fields = Fields::default();
        let mut members = fields.members();
        members.number("most", u64::MAX);
        members.number("least", i64::MIN);
        members.seconds("s", Duration::new(3, 4_005_999));
        members.null("n");
        members.flag("f", false);
        let expected = r#""most":18446744073709551615,"least":-9223372036854775808,"s":3.004005,"n":null,"f":false"#;
        assert_eq!(fields.as_str(), expected);
    }

    proptest! {
        #[test]
        fn whether_text_is_clean_does_not_depend_on_where_its_bytes_stand(
            bytes in prop::collection::vec(prop_oneof![8 => 0x20u8..0x80, 1 => any::<u8>()], 0..30),
        ) {
            prop_assert_eq!(is_clean(&bytes), !bytes.iter().any(|byte| IS_SPECIAL[usize::from(*byte)]), "{:?}", bytes);
        }

        #[test]
        fn whatever_is_written_is_read_back(
            name in any::<String>(), text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..40),
            words in prop::collection::vec(any::<String>(), 0..3),
        ) {
            let mut fields = Fields::default();
            let mut members = fields.members();
            members.object("o", |o| {
                o.text(&name, &text);
            });
            members.display("d", &text);
            members.bytes("b", &bytes);
            members.list("l", |list| words.iter().for_each(|word| list.text(word)));
            let value = read(&fields);
            prop_assert_eq!(value["o"][&name].as_str(), Some(text.as_str()));
            prop_assert_eq!(value["d"].as_str(), Some(text.as_str()));
            let back = match value["b"].as_str() {
                Some(text) => text.as_bytes().to_vec(),
                None => BASE64_STANDARD.decode(value["b_base64"].as_str().unwrap()).unwrap(),
            };
            prop_assert_eq!(back, bytes);
            prop_assert_eq!(&value["l"], &serde_json::json!(words));
            prop_assert_eq!(fields.as_str().split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count(), 1);
        }
    }
}
