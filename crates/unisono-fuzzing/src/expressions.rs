//! Plain expressions on any body: bounded, and JSON or an error; and what is JSON is what serde takes for it.

use serde::de::IgnoredAny;
use unisono_select::{MAX_DEPTH, MAX_DIGITS};

/// The expression is the first line, the body the rest.
pub(crate) fn body(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (expression, body) = bytes.split_at(end);
    unisono_select::fuzz(expression, body);

    is_json_to_both(body);
    // Random bytes are hardly ever JSON but for one fault; these are.
    let dense: Vec<u8> = body.iter().map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()]).take(48).collect();
    is_json_to_both(&dense);
}

fn is_json_to_both(body: &[u8]) {
    let brackets = body.iter().filter(|byte| b"[{".contains(byte)).count();
    let longest = body.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
    if brackets <= MAX_DEPTH && longest <= MAX_DIGITS / 4 {
        let theirs = std::str::from_utf8(body).is_ok_and(|body| serde_json::from_str::<IgnoredAny>(body).is_ok());
        assert_eq!(unisono_select::check(body).is_ok(), theirs, "{}", body.escape_ascii());
    }
}

/// What the grammar of JSON has a rule for.
const LETTERS: &[u8] = b"-+0019.eE[]{},,::\"\"\\u /n\n";
