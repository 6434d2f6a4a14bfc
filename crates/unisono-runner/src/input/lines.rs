//! One value per line: an address, or what fills `{}`.

use std::io::Read;

use super::{Rows, Stopped, for_each_line};
use crate::{maker::Own, row::Fields};

pub(super) fn read(reader: impl Read, rows: &mut Rows) -> Result<(), Stopped> {
    for_each_line(reader, |number, line| match std::str::from_utf8(line).map(str::trim) {
        // Empty lines and comments are for whoever reads the file.
        Ok(text) if text.is_empty() || text.starts_with('#') => Ok(()),
        Ok(text) => rows.push(number, &Line(text), &Own::default()),
        Err(_) => rows.bad(number, "the line is not UTF-8".to_owned()),
    })
}

struct Line<'a>(&'a str);

impl Fields for Line<'_> {
    fn field(&self, name: &str) -> Result<&str, String> {
        match name {
            "line" | "url" => Ok(self.0),
            _ => Err(format!(
                "no column `{name}`: a plain line has only `{{line}}` (is the input CSV? pass --input-format csv)"
            )),
        }
    }
}
