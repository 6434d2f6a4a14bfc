//! CSV and TSV with a header (RFC 4180, by the `csv` crate).

use std::{collections::HashMap, io::Read};

use csv::{ByteRecord, ReaderBuilder};

use super::{Rows, Stopped};
use crate::row::{Fields, Maker};

pub(super) fn read<M: Maker>(reader: impl Read, delimiter: u8, rows: &mut Rows<M>) -> Result<(), Stopped> {
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).buffer_capacity(1 << 16).from_reader(reader);
    let header = reader.byte_headers().map_err(failed)?.clone();
    let columns = columns(&header)?;
    let mut record = ByteRecord::new();
    let mut line = reader.position().line();
    while reader.read_byte_record(&mut record).map_err(failed)? {
        line = record.position().map_or(line, csv::Position::line);
        if record.len() == header.len() {
            match std::str::from_utf8(record.as_slice()) {
                Ok(_) => rows.push(line, &Record { columns: &columns, record: &record })?,
                Err(_) => rows.bad(line, "the row is not UTF-8".to_owned())?,
            }
        } else {
            rows.bad(line, format!("the row has {} fields, the header has {}", record.len(), header.len()))?;
        }
    }
    Ok(())
}

struct Record<'a> {
    columns: &'a HashMap<String, usize>,
    record: &'a ByteRecord,
}

impl Fields for Record<'_> {
    fn field(&self, name: &str) -> Result<&str, String> {
        let Some(at) = self.columns.get(name) else {
            let mut known: Vec<&str> = self.columns.keys().map(String::as_str).collect();
            known.sort_unstable();
            return Err(format!("no column `{name}` (there are: {})", known.join(", ")));
        };
        std::str::from_utf8(&self.record[*at]).map_err(|_| format!("column `{name}` is not UTF-8"))
    }
}

fn columns(header: &ByteRecord) -> Result<HashMap<String, usize>, Stopped> {
    let mut columns = HashMap::new();
    for (at, name) in header.iter().enumerate() {
        // A byte order mark is what some spreadsheets put before the first name.
        let name = if at == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
        let name = std::str::from_utf8(name).map_err(|_| Stopped::Failed("its header is not UTF-8".to_owned()))?.trim();
        if columns.insert(name.to_owned(), at).is_some() {
            return Err(Stopped::Failed(format!("its header has two columns `{name}`")));
        }
    }
    Ok(columns)
}

fn failed(error: csv::Error) -> Stopped {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => Stopped::Failed(format!("{other:?}")),
    }
}
