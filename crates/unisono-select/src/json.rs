//! JSON in place: checked once, then walked without looking twice at what a check has settled.
//!
//! The check is RFC 8259 to the letter, with two bounds of ours: levels of brackets, since a reader of a line of
//! results may recurse, and bytes per number, since computing with one takes more than linear time. It does not recurse
//! itself. On its way it notes where large arrays and objects end, so that a walk past one does not read it again.
//! Everything else here takes checked text and may index without fear.

use std::borrow::Cow;

use memchr::memchr2;

use crate::Error;

/// Most levels of brackets in a body.
pub const MAX_DEPTH: usize = 512;
/// Most bytes of a number. Python reads at most 4,300 digits.
pub const MAX_DIGITS: usize = 4096;

/// Whether this is exactly one JSON value within the bounds.
///
/// # Errors
/// What is wrong, and where.
pub fn check(body: &[u8]) -> Result<(), Error> {
    checked(body).map(|_| ())
}

/// A body that has been checked: exactly one JSON value within the bounds.
#[derive(Debug)]
pub struct CheckedJson<'a> {
    body: &'a [u8],
    large: Vec<Large>,
}

/// An array or object of at least [`LARGE_BYTES`]: from its first bracket to behind its last. They are noted in the
/// order in which they begin.
#[derive(Debug, Clone, Copy)]
struct Large {
    start: usize,
    end: usize,
}

/// Checks a body that expressions are to be run on.
///
/// # Errors
/// As [`check`].
pub fn checked(body: &[u8]) -> Result<CheckedJson<'_>, Error> {
    checked_to(body, MAX_DEPTH)
}

/// The same with so many levels.
pub fn checked_to(body: &[u8], depth: usize) -> Result<CheckedJson<'_>, Error> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(Error::body("no UTF-8", error.valid_up_to()));
    }
    let mut check = Check { text: body, at: 0, large: Vec::new(), open: Vec::new(), innermost: None, most: depth };
    check.run()?;
    Ok(CheckedJson { body, large: check.large })
}

struct Check<'a> {
    text: &'a [u8],
    at: usize,
    /// Those that have ended, and those that are open, however small they may become.
    large: Vec<Large>,
    /// Which of them are open, the innermost last.
    open: Vec<usize>,
    /// The bracket that opens the innermost.
    innermost: Option<u8>,
    most: usize,
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            // A value begins here.
            match self.next_token() {
                Some(b'{') => {
                    self.open(b'{')?;
                    if self.next_token() != Some(b'}') {
                        self.name()?;
                        continue;
                    }
                    self.close();
                }
                Some(b'[') => {
                    self.open(b'[')?;
                    if self.next_token() != Some(b']') {
                        continue;
                    }
                    self.close();
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.wrong("no value")),
            }
            // A value has ended here: on to the next one.
            loop {
                match (self.innermost, self.next_token()) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return Err(self.wrong("more after the value")),
                    (Some(b'{'), Some(b',')) => {
                        self.at += 1;
                        self.next_token();
                        self.name()?;
                        break;
                    }
                    (Some(_), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => self.close(),
                    (Some(b'{'), _) => return Err(self.wrong("no `,` or `}`")),
                    (Some(_), _) => return Err(self.wrong("no `,` or `]`")),
                }
            }
        }
    }

    fn wrong(&self, what: &str) -> Error {
        match self.text.len() {
            len if self.at >= len => Error::body(format_args!("{what}, but its end"), len),
            _ => Error::body(what, self.at),
        }
    }

    /// The next byte that is no white space, which is not taken.
    fn next_token(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn open(&mut self, bracket: u8) -> Result<(), Error> {
        if self.open.len() == self.most {
            return Err(Error::body(format_args!("more than {} levels of brackets", self.most), self.at));
        }
        self.open.push(self.large.len());
        self.large.push(Large { start: self.at, end: self.at });
        self.innermost = Some(bracket);
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        let index = self.open.pop().expect("what is closed was opened");
        if self.at - self.large[index].start < LARGE_BYTES {
            // All that was noted after it is in it, and smaller.
            self.large.truncate(index);
        } else {
            self.large[index].end = self.at;
        }
        self.innermost = self.open.last().map(|index| self.text[self.large[*index].start]);
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Result<(), Error> {
        if self.text.get(self.at) != Some(&b'"') {
            return Err(self.wrong("no name of a member"));
        }
        self.string()?;
        if self.next_token() != Some(b':') {
            return Err(self.wrong("no `:`"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Error> {
        self.at += 1;
        loop {
            self.at += plain_prefix(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.wrong("a control character in a string")),
                None => return Err(self.wrong("no end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        let length = match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if unit(&self.text[self.at..]).is_some() => 6,
            _ => return Err(self.wrong("no escape")),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.at += usize::from(self.text[self.at] == b'-');
        match self.digits() {
            0 => return Err(self.wrong("no digit")),
            1 => {}
            _ if self.text[start] == b'0' || self.text[start..].starts_with(b"-0") => {
                self.at = start;
                return Err(self.wrong("a number that begins with 0"));
            }
            _ => {}
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.wrong("no digit"));
            }
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(self.wrong("no digit"));
            }
        }
        match self.at - start > MAX_DIGITS {
            true => Err(Error::body(format_args!("a number of more than {MAX_DIGITS} digits"), start)),
            false => Ok(()),
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Error> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("no value"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// How many bytes come before the first quote, backslash or control character, eight at a time.
fn plain_prefix(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, _) = text.as_chunks::<8>();
    for (at, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        // A byte below 32 borrows from its highest bit; a borrow that spills over only comes after one that counts.
        let low = word.wrapping_sub(ONES * 32) & !word & HIGH;
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | low;
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let rest = words.len() * 8;
    let special = |byte: &u8| matches!(byte, b'"' | b'\\') || *byte < 32;
    rest + text[rest..].iter().position(special).unwrap_or(text.len() - rest)
}

/// The UTF-16 unit of a `\uXXXX` at the start.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, byte| Some(unit * 16 + char::from(*byte).to_digit(16)?))
}

// Below, text is checked.

/// A value: a slice of a body or a literal of an expression.
#[derive(Debug, Clone, Copy)]
pub struct JsonText<'a> {
    pub bytes: &'a [u8],
    /// Where it begins in its body.
    at: usize,
    /// What is large within it.
    large: &'a [Large],
}

impl CheckedJson<'_> {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    /// The value of the body.
    pub(crate) fn value(&self) -> JsonText<'_> {
        let start = space(self.body);
        let mut rest = Rest { bytes: &self.body[start..], at: start, large: &self.large };
        rest.value()
    }
}

impl<'a> JsonText<'a> {
    /// A value that is no array or object.
    pub const fn scalar(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, large: &[] }
    }

    /// What comes after the bracket that opens it.
    fn inside(self) -> Rest<'a> {
        Rest { bytes: &self.bytes[1..], at: self.at + 1, large: self.large }
    }
}

/// What is still to be walked of a value.
struct Rest<'a> {
    bytes: &'a [u8],
    /// Where it begins in the body.
    at: usize,
    /// What is large in it.
    large: &'a [Large],
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        self.at += length;
        taken
    }

    fn skip_space(&mut self) {
        self.take(space(self.bytes));
    }

    /// The value at the start.
    fn value(&mut self) -> JsonText<'a> {
        let at = self.at;
        let (length, large) = match self.large.split_first() {
            Some((large, rest)) if large.start == at => {
                let (within, behind) = rest.split_at(rest.partition_point(|one| one.start < large.end));
                self.large = behind;
                (large.end - at, within)
            }
            _ => (end(self.bytes), &[][..]),
        };
        JsonText { bytes: self.take(length), at, large }
    }

    /// The comma, where one comes; a bracket stays.
    fn skip_comma(&mut self) {
        self.skip_space();
        self.take(usize::from(self.bytes[0] == b','));
        self.skip_space();
    }
}

/// The end of the value at the start of this text.
fn end(text: &[u8]) -> usize {
    match text[0] {
        b'"' => string_end(text),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0usize);
            loop {
                match text[at] {
                    b'"' => {
                        at += string_end(&text[at..]);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => text
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(text.len()),
    }
}

fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    loop {
        at += plain_prefix(&text[at..]);
        match text[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
}

fn space(text: &[u8]) -> usize {
    text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// The elements of an array.
pub struct ElementIter<'a> {
    rest: Rest<'a>,
}

/// The elements of an array that is given with its brackets.
pub fn elements(array: JsonText<'_>) -> ElementIter<'_> {
    let mut rest = array.inside();
    rest.skip_space();
    ElementIter { rest }
}

impl<'a> Iterator for ElementIter<'a> {
    type Item = JsonText<'a>;

    fn next(&mut self) -> Option<JsonText<'a>> {
        if self.rest.bytes[0] == b']' {
            return None;
        }
        let value = self.rest.value();
        self.rest.skip_comma();
        Some(value)
    }
}

/// The members of an object as they stand there, names with their quotes.
pub struct MemberIter<'a> {
    rest: Rest<'a>,
}

/// The members of an object that is given with its brackets.
pub fn members(object: JsonText<'_>) -> MemberIter<'_> {
    let mut rest = object.inside();
    rest.skip_space();
    MemberIter { rest }
}

impl<'a> Iterator for MemberIter<'a> {
    type Item = (&'a [u8], JsonText<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.bytes[0] == b'}' {
            return None;
        }
        let name = self.rest.take(string_end(self.rest.bytes));
        self.rest.skip_space();
        self.rest.take(COLON);
        self.rest.skip_space();
        let value = self.rest.value();
        self.rest.skip_comma();
        Some((name, value))
    }
}

/// What a string stands for; half of a pair that stands alone is U+FFFD, as jq has it.
pub fn decoded(string: &[u8]) -> Cow<'_, str> {
    let inner = utf8(&string[1..string.len() - 1]);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (meant, length) = unescaped(&rest.as_bytes()[at..]);
        text.push(meant);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that an escape stands for, and how long it is.
fn unescaped(text: &[u8]) -> (char, usize) {
    let Some(first) = unit(text) else {
        return match text[1] {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            other => (char::from(other), 2),
        };
    };
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = unit(&text[6..]).filter(|second| (0xdc00..0xe000).contains(second))
    {
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

/// Appends a value without its white space. Half of a pair that stands alone, which many readers refuse, becomes
/// U+FFFD.
pub fn push_compact(value: &[u8], into: &mut Vec<u8>) {
    let mut at = 0;
    while at < value.len() {
        match value[at] {
            b'"' => {
                let end = at + string_end(&value[at..]);
                push_string(&value[at..end], into);
                at = end;
            }
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            byte => {
                into.push(byte);
                at += 1;
            }
        }
    }
}

fn push_string(string: &[u8], into: &mut Vec<u8>) {
    let mut rest = string;
    while let Some(at) = memchr2(b'\\', b'\\', rest) {
        let (meant, length) = unescaped(&rest[at..]);
        into.extend_from_slice(&rest[..at]);
        match meant == char::REPLACEMENT_CHARACTER {
            true => into.extend_from_slice("\u{fffd}".as_bytes()),
            false => into.extend_from_slice(&rest[at..at + length]),
        }
        rest = &rest[at + length..];
    }
    into.extend_from_slice(rest);
}

/// Appends text as a string.
pub fn push_text(text: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => into.extend_from_slice(&[b'\\', byte]),
            0..32 => into.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => into.push(byte),
        }
    }
    into.push(b'"');
}

/// CheckedJson text is UTF-8, and is cut at ASCII alone.
pub fn utf8(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("a checked body is UTF-8, and is cut at its punctuation")
}

/// How long it is.
const COLON: usize = 1;
/// What is smaller is quickly walked. A byte is in at most [`MAX_DEPTH`] brackets, so of a body of 4096 bytes there can
/// be 512 that are not, which is twice its size of notes; of what servers send, hardly any.
const LARGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn what_serde_refuses_is_refused_with_its_place() {
        for (body, why) in [
            ("", "no value, but its end at byte 0"),
            ("[", "no value, but its end at byte 1"),
            ("[1,]", "no value at byte 3"),
            ("[1 2]", "no `,` or `]` at byte 3"),
            ("{\"a\":1,}", "no name of a member at byte 7"),
            ("{\"a\" 1}", "no `:` at byte 5"),
            ("{a:1}", "no name of a member at byte 1"),
            ("[1}", "no `,` or `]` at byte 2"),
            ("{} {}", "more after the value at byte 3"),
            ("01", "a number that begins with 0 at byte 0"),
            ("-", "no digit, but its end at byte 1"),
            ("1.", "no digit, but its end"),
            ("1e+", "no digit, but its end"),
            ("NaN", "no value at byte 0"),
            ("+1", "no value at byte 0"),
            ("\"a", "no end of a string"),
            ("\"\n\"", "a control character in a string at byte 1"),
            (r#""\x""#, "no escape at byte 1"),
            (r#""\u12g4""#, "no escape at byte 1"),
            ("\u{feff}{}", "no value at byte 0"),
        ] {
            let error = check(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{body}: {error}");
            assert!(serde_json::from_str::<serde_json::Value>(body).is_err(), "{body}");
        }
        assert!(check(b"\"\xff\"").unwrap_err().to_string().contains("no UTF-8 at byte 1"));
    }

    #[test]
    fn brackets_and_digits_are_bounded() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        let error = check(&nested(MAX_DEPTH + 1)).unwrap_err().to_string();
        assert_eq!(error, "the body is not JSON that can be read: more than 512 levels of brackets at byte 512");
        assert!(check(&vec![b'['; 10_000_000]).is_err());
        assert!(check(&vec![b'9'; MAX_DIGITS]).is_ok());
        let error = check(&vec![b'9'; MAX_DIGITS + 1]).unwrap_err().to_string();
        assert_eq!(error, "the body is not JSON that can be read: a number of more than 4096 digits at byte 0");
    }

    /// JsonText that is often JSON.
    fn nearly_json() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            " ",
            "\n",
            "\"a\"",
            "\"\\u00e9\\n\"",
            "1",
            "-0",
            "2.50e3",
            "true",
            "null",
            "x",
            "\"",
            "\\",
        ]);
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn it_takes_what_serde_takes_and_nothing_else(text in nearly_json()) {
            let taken = check(text.as_bytes()).is_ok();
            // Without its numbers being read, which are no doubles now and then.
            prop_assert_eq!(taken, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn a_string_means_what_serde_says(text in ".*", prefix in 0usize..9) {
            let text = format!("{}{text}", "x".repeat(prefix));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert!(check(json.as_bytes()).is_ok());
            prop_assert_eq!(decoded(json.as_bytes()), text.as_str());
            let mut own = Vec::new();
            push_text(&text, &mut own);
            prop_assert_eq!(serde_json::from_slice::<String>(&own).unwrap(), text);
        }
    }

    /// Values with containers on both sides of what is large.
    fn values() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec![0, 1, LARGE_BYTES / 2, LARGE_BYTES - 2, LARGE_BYTES]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            word.prop_map(|n| "x]".repeat(n).into())
        ];
        leaf.prop_recursive(6, 40, 4, |inner| {
            let members = prop::collection::btree_map("[a-c]{1,2}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn assert_same(text: JsonText<'_>, value: &Value) {
        assert_eq!(&serde_json::from_slice::<Value>(text.bytes).unwrap(), value);
        match value {
            Value::Array(all) => {
                assert_eq!(elements(text).count(), all.len());
                elements(text).zip(all).for_each(|(text, value)| assert_same(text, value));
            }
            Value::Object(all) => {
                assert_eq!(members(text).count(), all.len());
                members(text).for_each(|(name, text)| assert_same(text, &all[&*decoded(name)]));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_serde_finds_whatever_is_large(value in values(), is_pretty in any::<bool>()) {
            let body = match is_pretty {
                true => format!(" {}\n", serde_json::to_string_pretty(&value).unwrap()),
                false => value.to_string(),
            };
            let checked = checked(body.as_bytes()).unwrap();
            assert_same(checked.value(), &value);
            prop_assert!(checked.large.iter().all(|large| large.end - large.start >= LARGE_BYTES));
            prop_assert!(checked.large.is_sorted_by_key(|large| large.start));
        }
    }

    #[test]
    fn notes_take_no_more_than_some_times_the_memory_of_the_body() {
        let nested = [vec![b'['; MAX_DEPTH - 1], vec![b' '; LARGE_BYTES], vec![b']'; MAX_DEPTH - 1]].concat();
        let body = [b"[", vec![nested; 20].join(&b',').as_slice(), b"]"].concat();
        let noted = checked(&body).unwrap().large.len() * size_of::<Large>();
        assert!(noted > body.len() && noted <= 2 * body.len(), "{noted} of {}", body.len());
    }

    #[test]
    fn half_a_pair_becomes_the_replacement_character() {
        let json = br#"["\ud83d\ude00", "\ud83d", "\ude00x", "\ud83d\ud83d\ude00"]"#;
        let mut compact = Vec::new();
        push_compact(json, &mut compact);
        let read: Vec<String> = serde_json::from_slice(&compact).unwrap();
        assert_eq!(read, ["😀", "\u{fffd}", "\u{fffd}x", "\u{fffd}😀"]);
        let checked = checked(json).unwrap();
        let decoded: Vec<_> = elements(checked.value()).map(|text| decoded(text.bytes)).collect();
        assert_eq!(decoded, read);
    }
}
