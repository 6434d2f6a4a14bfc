//! CSV and TSV with a header, as RFC 4180 has them.
//!
//! A value may stand in quotes, and then hold delimiters, line ends, and quotes that are doubled. A quote anywhere else
//! but at the beginning of a value is a character like any other, as in `5'10"`. Lines end with LF, CRLF or CR alone;
//! empty ones are passed over. A row with more or fewer values than the header is an outcome that says so.
//!
//! *A stray quote swallows nothing.* One at the beginning of a value takes in every row up to the next quote, and no
//! reader can know that from the quote alone. So reading stops, and says on which line the quote opened, when it is
//! never closed, when what closes it stands in the middle of a value on a later line, and when the lines between are
//! rows by their look. Where the row itself shows it, on one line, only that row is bad.
//!
//! Other readers guess here; that is what this leaves out, with comments and with delimiters that are found out.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read},
    slice,
};

use memchr::{memchr, memchr_iter, memchr2_iter, memchr3};

use super::{
    batches::Stopped,
    reading::{LONGEST_ROW_BYTES, Rows, too_long},
};
use crate::row::{Maker, RowFields};

pub(super) fn read<M: Maker>(reader: impl Read, delimiter: u8, rows: &mut Rows<M>) -> Result<(), Stopped> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let mut splitter = Splitter::new(delimiter);
    if !next(&mut reader, &mut splitter)? {
        return Ok(());
    }
    let columns = columns(&splitter.record)?;
    splitter.columns = splitter.record.len();
    rows.begin(Some(&TableRow { columns: &columns, record: &splitter.record }))?;
    while next(&mut reader, &mut splitter)? {
        let record = &splitter.record;
        match bad(record, splitter.columns) {
            None => rows.push(record.line, &TableRow { columns: &columns, record })?,
            Some(why) => rows.bad(record.line, why)?,
        }
    }
    Ok(())
}

/// Reads the next record into the splitter; false at the end.
fn next(reader: &mut impl BufRead, splitter: &mut Splitter) -> Result<bool, Stopped> {
    splitter.begin();
    loop {
        let chunk = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        if chunk.is_empty() {
            return splitter.finish().map_err(Stopped::Failed);
        }
        let (used, is_whole) = splitter.feed(chunk).map_err(Stopped::Failed)?;
        reader.consume(used);
        if is_whole {
            return Ok(true);
        }
    }
}

/// Why a record is no row, if so.
fn bad(record: &Record, columns: usize) -> Option<String> {
    if let Some(fault) = &record.fault {
        return Some(fault.clone());
    }
    if record.len() != columns {
        return Some(format!("the row has {} fields, the header has {columns}", record.len()));
    }
    if memchr(0, &record.bytes).is_some() {
        return Some("the row has a NUL byte in it (is the file UTF-16, or no text at all?)".to_owned());
    }
    // Whole, since a value that ends in the middle of a character could be completed by the next one.
    record.fields().any(|field| std::str::from_utf8(field).is_err()).then(|| "the row is not UTF-8".to_owned())
}

/// Cuts bytes into records, whatever pieces they come in.
struct Splitter {
    delimiter: u8,
    /// How many values a row has; 0 before the header is known.
    columns: usize,
    state: State,
    /// The line that is being read, from 1.
    line: u64,
    /// The last byte of the piece before, so that CRLF counts once wherever it is cut.
    last: u8,
    /// Where the quote opened that is open, or was the last to be.
    opened: u64,
    record: Record,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a record: line ends mean nothing.
    Between,
    /// Before a value.
    Start,
    /// In a value without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// Behind a quote within quotes: it was the last, or is doubled.
    Quote,
}

#[derive(Default)]
struct Record {
    /// All values, one behind the other.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// The line it begins on.
    line: u64,
    /// What is wrong with it alone.
    fault: Option<String>,
}

impl Splitter {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, columns: 0, state: State::Between, line: 1, last: 0, opened: 0, record: Record::default() }
    }

    fn begin(&mut self) {
        self.state = State::Between;
        self.record.bytes.clear();
        self.record.ends.clear();
        self.record.fault = None;
    }

    /// Takes bytes up to the end of a record. Returns how many, and whether the record is whole.
    fn feed(&mut self, chunk: &[u8]) -> Result<(usize, bool), String> {
        let mut rest = chunk;
        let mut is_whole = false;
        while let Some(&byte) = rest.first() {
            let used = match self.state {
                State::Between if byte == b'\n' || byte == b'\r' => 1,
                State::Between => {
                    self.record.line = self.line;
                    self.state = State::Start;
                    0
                }
                State::Start if byte == b'"' => {
                    self.opened = self.line;
                    self.state = State::Quoted;
                    1
                }
                State::Start => {
                    self.state = State::Plain;
                    0
                }
                State::Plain => match memchr3(self.delimiter, b'\n', b'\r', rest) {
                    Some(at) => {
                        self.record.bytes.extend_from_slice(&rest[..at]);
                        is_whole = self.end_value(rest[at]);
                        at + 1
                    }
                    None => self.take(rest),
                },
                State::Quoted => match memchr(b'"', rest) {
                    Some(at) => {
                        self.take(&rest[..at]);
                        self.state = State::Quote;
                        at + 1
                    }
                    None => self.take(rest),
                },
                State::Quote if byte == b'"' => {
                    self.record.bytes.push(b'"');
                    self.state = State::Quoted;
                    1
                }
                State::Quote if byte == self.delimiter || byte == b'\n' || byte == b'\r' => {
                    self.check_quoted()?;
                    is_whole = self.end_value(byte);
                    1
                }
                State::Quote if self.opened == self.line => {
                    self.record.fault = Some(
                        "a quoted value goes on behind its closing quote (write `\"\"` for a quote within quotes)"
                            .to_owned(),
                    );
                    self.state = State::Plain;
                    0
                }
                State::Quote => {
                    return Err(format!(
                        "line {}: the quote that opens there is closed on line {}, in the middle of a value; is it a stray one?",
                        self.opened, self.line
                    ));
                }
            };
            self.count_lines(&rest[..used]);
            rest = &rest[used..];
            if self.record.bytes.len() > LONGEST_ROW_BYTES {
                return Err(match self.state {
                    State::Quoted => format!(
                        "line {}: the quote that opens there is not closed within {} MiB",
                        self.opened,
                        LONGEST_ROW_BYTES >> 20
                    ),
                    _ => too_long(self.record.line),
                });
            }
            if is_whole {
                break;
            }
        }
        Ok((chunk.len() - rest.len(), is_whole))
    }

    /// The input is over. Returns whether there is a last record.
    fn finish(&mut self) -> Result<bool, String> {
        match self.state {
            State::Between => return Ok(false),
            State::Quoted => {
                return Err(format!(
                    "line {}: the quote that opens there is never closed, so all that follows is within it \
                     (take it away, or write `\"\"` for a quote within quotes)",
                    self.opened
                ));
            }
            State::Quote => self.check_quoted()?,
            State::Start | State::Plain => {}
        }
        self.record.ends.push(self.record.bytes.len());
        Ok(true)
    }

    /// Bytes of a value as they are.
    fn take(&mut self, bytes: &[u8]) -> usize {
        self.record.bytes.extend_from_slice(bytes);
        bytes.len()
    }

    /// Ends a value, by a delimiter or the end of a line. Returns whether the record is whole.
    fn end_value(&mut self, by: u8) -> bool {
        self.record.ends.push(self.record.bytes.len());
        self.state = State::Start;
        by != self.delimiter
    }

    fn count_lines(&mut self, bytes: &[u8]) {
        for at in memchr2_iter(b'\n', b'\r', bytes) {
            let before = if at == 0 { self.last } else { bytes[at - 1] };
            self.line += u64::from(bytes[at] == b'\r' || before != b'\r');
        }
        if let Some(&last) = bytes.last() {
            self.last = last;
        }
    }

    /// A value in quotes may have lines, but when they are all rows by their look, two stray quotes have met.
    fn check_quoted(&self) -> Result<(), String> {
        if self.opened == self.line || self.columns < 2 {
            return Ok(());
        }
        let start = self.record.ends.last().copied().unwrap_or(0);
        let value = &self.record.bytes[start..];
        let end = if memchr(b'\n', value).is_some() { b'\n' } else { b'\r' };
        let lines: Vec<&[u8]> = value.split(|byte| *byte == end).collect();
        let between = lines.get(1..lines.len() - 1).unwrap_or_default();
        let is_row = |line: &&[u8]| memchr_iter(self.delimiter, line).count() + 1 == self.columns;
        if between.len() < LEAST_ROWS || !between.iter().all(is_row) {
            return Ok(());
        }
        Err(format!(
            "line {}: the quote that opens there is closed on line {}, and the {} lines between have as many values as the \
             header; is it a stray one? (JSON lines can say the same without quotes)",
            self.opened,
            self.line,
            between.len()
        ))
    }
}

impl Record {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn field(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.field(at))
    }
}

struct TableRow<'a> {
    columns: &'a HashMap<String, usize>,
    record: &'a Record,
}

impl RowFields for TableRow<'_> {
    fn field(&self, name: &str) -> Result<&str, String> {
        let Some(at) = self.columns.get(name) else {
            let mut known: Vec<&str> = self.columns.keys().map(String::as_str).collect();
            known.sort_unstable();
            let parted = if let [only] = known[..] { part_otherwise(only) } else { None };
            return Err(match parted {
                Some(separator) => format!(
                    "no column `{name}`: the header is one column, `{}`, whose parts are separated by `{separator}`, and those \
                     of a CSV file by `,`, of a TSV file by tabs (`each` reads it with --input-format lines --colsep '{separator}')",
                    known[0]
                ),
                None => format!("no column `{name}` (there are: {})", known.join(", ")),
            });
        };
        std::str::from_utf8(self.record.field(*at)).map_err(|_| format!("column `{name}` is not UTF-8"))
    }
}

/// What seems to separate the columns of a header that was read as one.
fn part_otherwise(header: &str) -> Option<char> {
    [';', '|', '\t', ','].into_iter().find(|separator| header.contains(*separator))
}

fn columns(header: &Record) -> Result<HashMap<String, usize>, Stopped> {
    if let Some(fault) = &header.fault {
        return Err(Stopped::Failed(format!("its header: {fault}")));
    }
    let mut columns = HashMap::new();
    for (at, name) in header.fields().enumerate() {
        let name = std::str::from_utf8(name).map_err(|_| Stopped::Failed("its header is not UTF-8".to_owned()))?.trim();
        if name.contains('\0') {
            return Err(Stopped::Failed(
                "its header has a NUL byte in it (is the file UTF-16, or no text at all?)".into(),
            ));
        }
        if columns.insert(name.to_owned(), at).is_some() {
            return Err(Stopped::Failed(format!("its header has two columns `{name}`")));
        }
    }
    Ok(columns)
}

/// Fewer lines of the right shape within quotes may be an address or a poem.
const LEAST_ROWS: usize = 3;

/// What every input keeps: records are numbered by lines that there are, fit the bytes they came from, and are the same
/// whatever pieces these come in. The body of a fuzz target.
pub(crate) fn check(data: &[u8]) {
    let Some((&piece, text)) = data.split_first() else { return };
    let delimiter = if piece & 0x80 == 0 { b',' } else { b'\t' };
    let piece = usize::from(piece & 0x7f).max(1);
    let whole = all(delimiter, text, text.len().max(1));
    assert_eq!(whole, all(delimiter, text, piece), "pieces change nothing");
    let lines = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64 + 1;
    let (records, _) = whole;
    let mut before = 0;
    let mut bytes = 0;
    for (line, fields) in records {
        assert!(line > before && line <= lines, "lines go up, and are there");
        before = line;
        bytes += fields.iter().map(Vec::len).sum::<usize>();
    }
    assert!(bytes <= text.len(), "nothing is made up");

    // Any bytes in quotes are a value, whatever is in them.
    let values: Vec<Vec<u8>> = text.split(|byte| *byte == 1).map(<[u8]>::to_vec).collect();
    let mut written = Vec::new();
    for (number, value) in values.iter().enumerate() {
        written.push(b'"');
        value
            .iter()
            .for_each(|byte| written.extend_from_slice(if *byte == b'"' { b"\"\"" } else { slice::from_ref(byte) }));
        written.extend_from_slice(if number % 2 == 0 { b"\"\r\n" } else { b"\"\n" });
    }
    let (records, why) = all(delimiter, &written, piece);
    let read: Vec<Vec<u8>> = records.into_iter().flat_map(|(_, fields)| fields).collect();
    assert_eq!((read, why), (values, None), "what was quoted is read back");
}

/// The records of a text that comes in pieces of this size, and why it ended early.
type All = (Vec<(u64, Vec<Vec<u8>>)>, Option<String>);

fn all(delimiter: u8, text: &[u8], piece: usize) -> All {
    let mut reader = BufReader::with_capacity(piece, text);
    let mut splitter = Splitter::new(delimiter);
    let mut records = Vec::new();
    loop {
        match next(&mut reader, &mut splitter) {
            Ok(true) => {
                // As `read` does with a header.
                if splitter.columns == 0 {
                    splitter.columns = splitter.record.len();
                }
                records.push((splitter.record.line, splitter.record.fields().map(<[u8]>::to_vec).collect()));
            }
            Ok(false) => return (records, None),
            Err(Stopped::Failed(why)) => return (records, Some(why)),
            Err(Stopped::Gone) => unreachable!("a slice has no reader that goes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records(text: &str) -> Vec<Vec<String>> {
        let (records, why) = all(b',', text.as_bytes(), 7);
        assert_eq!(why, None, "{text}");
        let text = |field: Vec<u8>| String::from_utf8(field).unwrap();
        records.into_iter().map(|(_, fields)| fields.into_iter().map(text).collect()).collect()
    }

    fn failure(text: &str) -> String {
        all(b',', text.as_bytes(), 7).1.unwrap_or_default()
    }

    #[test]
    fn values_in_quotes_hold_delimiters_line_ends_and_doubled_quotes() {
        assert_eq!(
            records("a,b\n\"x,y\",\"he said \"\"no\"\"\nand left\"\n"),
            [vec!["a", "b"], vec!["x,y", "he said \"no\"\nand left"]]
        );
    }

    #[test]
    fn a_quote_within_a_value_is_a_character_like_any_other() {
        assert_eq!(records("a,b\n5'10\",x\"y\n"), [["a", "b"], ["5'10\"", "x\"y"]]);
    }

    #[test]
    fn lines_end_with_lf_crlf_or_cr_alone_and_empty_ones_are_passed_over() {
        for text in ["a,b\n\n1,\n", "a,b\r\n\r\n1,\r\n", "a,b\r\r1,", "a,b\n1,"] {
            assert_eq!(records(text), [["a", "b"], ["1", ""]], "{text:?}");
        }
        let (found, _) = all(b',', b"a\r\n\r\n\"1\r\n2\"\r\n3", 1);
        assert_eq!(found.into_iter().map(|(line, _)| line).collect::<Vec<_>>(), [1, 3, 5]);
    }

    #[test]
    fn a_quote_that_is_never_closed_names_the_line_on_which_it_opened() {
        assert!(
            failure("a,b\n1,x\n2,\"y\n3,z\n4,w\n").starts_with("line 3: the quote that opens there is never closed")
        );
        assert!(failure("a,\"b\n1,x\n").starts_with("line 1: "));
        // An empty value in quotes further down is a doubled quote to the one that is open.
        assert!(failure("a,b\n1,\"x\n2,\"\"\n3,z\n").starts_with("line 2: "));
    }

    #[test]
    fn a_stray_quote_that_meets_a_good_one_further_down_is_found_out() {
        assert_eq!(
            failure("a,b\n1,\"x\n2,y\n3,\"z\"\n"),
            "line 2: the quote that opens there is closed on line 4, in the middle of a value; is it a stray one?"
        );
    }

    #[test]
    fn two_stray_quotes_with_rows_between_them_are_found_out() {
        let why = failure("a,b\n1,\"x\n2,y\n3,y\n4,y\n5,x\"\n");
        assert!(why.starts_with("line 2: ") && why.contains("line 6"), "{why}");
        // An address is no table.
        assert_eq!(records("a,b\n1,\"12 High St\nSpringfield, IL\nUSA\"\n").len(), 2);
    }

    #[test]
    fn what_follows_a_closing_quote_on_its_line_makes_one_bad_row() {
        let mut splitter = Splitter::new(b',');
        let mut reader = BufReader::new(&b"1,\"x\"y\n2,z\n"[..]);
        assert!(next(&mut reader, &mut splitter).unwrap());
        assert!(splitter.record.fault.is_some());
        assert!(next(&mut reader, &mut splitter).unwrap());
        assert!(splitter.record.fault.is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_keep_the_rules(data: Vec<u8>) {
            check(&data);
        }

        #[test]
        fn what_looks_like_a_table_keeps_the_rules(data in "[a,\"\n\r\t]{0,60}") {
            check(data.as_bytes());
        }

        #[test]
        fn what_another_program_writes_comes_back(rows in proptest::collection::vec(proptest::collection::vec("[ -~é\n\",]{0,8}", 2), 1..6)) {
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let (found, why) = all(b',', text.as_bytes(), 5);
            match why {
                None => prop_assert_eq!(records(&text), rows),
                // Random values may look like rows; nothing may be wrong beside that.
                Some(why) => prop_assert!(why.contains("lines between") && found.len() < rows.len(), "{}", why),
            }
        }
    }
}
