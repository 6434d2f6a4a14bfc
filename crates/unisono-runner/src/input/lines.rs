//! One value per line: an address, an item, or what fills `{}`.

use std::io::Read;

use super::{
    batches::Stopped,
    reading::{Rows, for_each_line},
};
use crate::row::{Maker, RowFields};

pub(super) fn read<M: Maker>(reader: impl Read, delimiter: u8, rows: &mut Rows<M>) -> Result<(), Stopped> {
    let whole = rows.maker.takes_lines_whole();
    let mut has_begun = whole;
    if whole {
        rows.begin(None)?;
    }
    for_each_line(reader, delimiter, |number, line| {
        let line = line.strip_suffix(&[delimiter]).unwrap_or(line);
        if whole {
            return rows.push(number, &LineRow(line));
        }
        match std::str::from_utf8(line).map(str::trim) {
            // Empty lines and comments are for people.
            Ok(text) if text.is_empty() || text.starts_with('#') => Ok(()),
            Ok(text) => match strange(text) {
                None => {
                    let row = LineRow(text.as_bytes());
                    if !std::mem::replace(&mut has_begun, true) {
                        rows.begin(Some(&row))?;
                    }
                    rows.push(number, &row)
                }
                Some(why) => rows.bad(number, why.to_owned()),
            },
            Err(_) => rows.bad(number, "the line is not UTF-8".to_owned()),
        }
    })
}

/// What no address and no word has in it.
fn strange(text: &str) -> Option<&'static str> {
    if text.contains('\0') {
        return Some("the line has a NUL byte in it (is the file UTF-16, or no text at all?)");
    }
    text.contains('\r').then_some("the line has a carriage return in it (is CR alone its line end?)")
}

struct LineRow<'a>(&'a [u8]);

impl RowFields for LineRow<'_> {
    fn field(&self, name: &str) -> Result<&str, String> {
        match name {
            "line" | "url" => std::str::from_utf8(self.0).map_err(|_| "the line is not UTF-8".to_owned()),
            _ => Err(format!(
                "no column `{name}`: a plain line has only `{{line}}` (is the input CSV? pass --input-format csv)"
            )),
        }
    }

    fn line(&self) -> Option<&[u8]> {
        Some(self.0)
    }
}
