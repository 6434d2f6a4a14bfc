//! One value per line: an address, or what fills `{}`.

use std::io::{BufRead, BufReader, Read};

use super::{Rows, Stopped};
use crate::{maker::Own, row::Fields};

pub(super) fn read(reader: impl Read, rows: &mut Rows) -> Result<(), Stopped> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        match std::str::from_utf8(&line) {
            Ok(text) => {
                let text = text.trim();
                // Empty lines and comments are for whoever reads the file.
                if !text.is_empty() && !text.starts_with('#') {
                    rows.push(number, &Line(text), &Own::default())?;
                }
            }
            Err(_) => rows.bad(number, "the line is not UTF-8".to_owned())?,
        }
    }
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
