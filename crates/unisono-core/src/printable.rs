//! Text that is safe to show: no name, address or message of a stranger moves the cursor, sets a colour, or turns the
//! direction of a line.
//!
//! What a terminal acts on is shown escaped, as Rust and Python write it: `\n`, `\x1b`, `\u{202e}`. That is C0, DEL,
//! C1, the separators of lines and paragraphs, and the characters that change the direction of text (Unicode UAX 9), by
//! which one name can be made to look like another. Everything else stays as it is, joiners of emoji and of Indic
//! scripts included.
//!
//! This is for people. Data goes to a pipe or a file unchanged, and what shows data to a terminal as JSON uses
//! [`printable_json`], which says the same in the escapes of JSON, so that it still reads back.

use std::{borrow::Cow, fmt::Write};

/// The text on one line, with everything escaped that a terminal would act on.
///
/// ```
/// assert_eq!(unisono_core::printable("web-1"), "web-1");
/// assert_eq!(unisono_core::printable("a\rdone: 5 ok\u{1b}[2K"), r"a\rdone: 5 ok\x1b[2K");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    text.chars().for_each(|char| push(char, &mut shown));
    Cow::Owned(shown)
}

/// As [`printable`], of bytes that may be no text: what is not UTF-8 is shown as `\xff`.
///
/// ```
/// assert_eq!(unisono_core::printable_bytes(b"a\xff\x07"), r"a\xff\x07");
/// ```
pub fn printable_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return printable(text);
    }
    let mut shown = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    Cow::Owned(shown)
}

/// A line of JSON that means the same, with everything escaped that a terminal would act on. What is not JSON is made
/// safe as well, so nothing need be known of the line.
///
/// ```
/// assert_eq!(unisono_core::printable_json("{\"a\":\"\u{9b}2K\"}".as_bytes()), "{\"a\":\"\\u009b2K\"}");
/// ```
pub fn printable_json(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if text.bytes().all(is_plain) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut units = [0; 2];
    for char in text.chars() {
        if !is_unsafe(char) {
            shown.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut units) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

/// Most text is plain, and this tells it by bytes alone.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

fn push(char: char, shown: &mut String) {
    match char {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        _ if !is_unsafe(char) => shown.push(char),
        // Writing to a string cannot fail.
        _ if u32::from(char) <= 0xff => drop(write!(shown, "\\x{:02x}", u32::from(char))),
        _ => drop(write!(shown, "\\u{{{:x}}}", u32::from(char))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_in_no_control_character_comes_out(bytes: Vec<u8>) {
            prop_assert!(!printable_bytes(&bytes).chars().any(is_unsafe));
            prop_assert!(!printable_json(&bytes).chars().any(is_unsafe));
        }

        #[test]
        fn any_text_comes_out_without_control_characters(text in "[\\x00-\\x20\\x7f-\u{a0}\u{61c}\u{200e}\u{200f}\u{2028}-\u{2069}\u{feff}a-cé🦀]{0,40}") {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(is_unsafe));
            if !text.chars().any(is_unsafe) {
                prop_assert_eq!(&*shown, &*text);
            }
        }
    }

    #[test]
    fn text_of_every_language_stays_as_it_is() {
        for text in ["für 10 €", "שלום", "नमस्ते", "👩‍👩‍👧 ok", "日本語"] {
            assert!(matches!(printable(text), Cow::Owned(shown) if shown == text), "{text}");
        }
    }

    #[test]
    fn what_turns_or_parts_lines_is_escaped() {
        assert_eq!(printable("a\u{202e}b\u{2028}c\u{7f}d\u{85}"), r"a\u{202e}b\u{2028}c\x7fd\x85");
    }
}
