//! The body of a fuzz target that needs what is private here: what must hold of an input of any bytes.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::mpsc;

use crate::{
    Row,
    input::{Batcher, Format, RowBatch, Rows, Unmarked, check_table},
    row::{LineNumber, Maker, RowFields, RowJson, RowOrigin},
};

/// Bytes as an input of lines, of a table or of JSON, by the first of them: whatever they are, each line that is not
/// empty is a row or the reason why reading stopped, rows are numbered by lines that there are, and a bad one says why.
pub fn rows(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    let format = [Format::Lines, Format::Csv, Format::Tsv, Format::Jsonl][usize::from(first % 4)];
    let is_table = matches!(format, Format::Csv | Format::Tsv);
    if is_table {
        check_table(text);
    }
    // A row takes a byte at least, so nothing waits for room.
    let (sender, mut feed) = mpsc::channel(text.len() + 2);
    let batcher = Rc::new(RefCell::new(Batcher::new(sender)));
    let mut rows = Rows::new(Every { whole: first & 4 != 0 }, Some("input".into()), batcher.clone());
    let read = format.read(Unmarked::new(text, b'\n'), b'\n', &mut rows);
    batcher.borrow_mut().flush().expect("the feed is still there");
    let lines = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64 + 1;
    let (mut before, mut count) = (LineNumber::NONE, 0);
    while let Ok(RowBatch::Rows(batch)) = feed.try_recv() {
        for row in batch {
            assert!(row.origin.line > before && row.origin.line.get() <= lines, "lines go up, and are there");
            before = row.origin.line;
            count += 1;
            assert!(row.call.is_ok() || row.call.is_err_and(|why| !why.is_empty()), "a bad row says why");
        }
    }
    if read.is_err() || is_table {
        return;
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let is_row = |line: &&[u8]| match (format, std::str::from_utf8(line).map(str::trim)) {
        (Format::Jsonl, _) => !line.iter().all(u8::is_ascii_whitespace),
        (_, Ok(line)) if first & 4 == 0 => !line.is_empty() && !line.starts_with('#'),
        _ => true,
    };
    let expected = text.split_inclusive(|byte| *byte == b'\n').filter(is_row).count();
    assert_eq!(count, expected, "no line is left out");
}

/// Asks a row for everything that it may have.
struct Every {
    whole: bool,
}

impl Maker for Every {
    type Call = usize;

    fn make(&self, fields: &dyn RowFields, origin: RowOrigin, push: &mut dyn FnMut(Row<usize>) -> bool) {
        let named = ["line", "url", "a"].iter().filter_map(|name| fields.field(name).ok()).map(str::len).sum::<usize>();
        let json = match fields.json() {
            Some(RowJson::Text(text)) => text.len(),
            Some(RowJson::Object(members)) => members.values().map(|value| value.get().len()).sum(),
            None => 0,
        };
        let own = crate::RowRequest::of(fields).map(|_| 0);
        let call = own.map(|nothing| nothing + named + json + fields.line().map_or(0, <[u8]>::len));
        push(Row { id: None, origin, call });
    }

    fn takes_lines_whole(&self) -> bool {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_of_any_input_is_lost(data: Vec<u8>) {
            super::rows(&data);
        }

        #[test]
        fn no_line_of_what_looks_like_an_input_is_lost(kind: u8, text in "(\u{feff})?[a1,\"#\n\r\t {}:\u{0}]{0,60}") {
            super::rows(&[&[kind], text.as_bytes()].concat());
        }
    }
}
