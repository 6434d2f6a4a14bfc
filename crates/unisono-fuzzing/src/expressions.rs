//! Plain expressions on any body: bounded, and JSON or an error.

/// The expression is the first line, the body the rest.
pub(crate) fn body(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (expression, body) = bytes.split_at(end);
    unisono_select::fuzz(expression, body);
}
