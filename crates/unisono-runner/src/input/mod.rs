//! Where rows come from: arguments, or a file of lines, of a table, or of JSON.
//!
//! Reading happens on a thread of its own, since standard input may block for ever, and parsing takes time that the
//! reactor does not have. Rows travel in batches; what has been read is handed over before the next read may block, so
//! a slow producer's rows are run as they come.

mod batches;
pub(crate) mod jsonl;
mod lines;
mod mark;
mod reading;
mod table;

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    io::Errno,
};
use tokio::sync::mpsc;

pub(crate) use batches::{Batcher, Handing, Stopped, on_thread};
pub use batches::{Feed, RowBatch};
pub(crate) use mark::{MARK, Unmarked, foreign as foreign_encoding};
use reading::Verdict;
pub(crate) use reading::{LONGEST_ROW_BYTES, Rows, for_each_line, read_line};
pub(crate) use table::check as check_table;

use crate::{
    Error,
    row::{Maker, NoFields},
};

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One value per line.
    Lines,
    /// Fields parted by commas, below a header.
    Csv,
    /// Fields parted by tabs, below a header.
    Tsv,
    /// One JSON value per line.
    Jsonl,
}

impl Format {
    /// What a file's name says.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Self::Csv,
            Some("tsv" | "tab") => Self::Tsv,
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            _ => Self::Lines,
        }
    }

    /// Reads rows to the end.
    pub(crate) fn read<M: Maker>(self, from: impl Read, delimiter: u8, rows: &mut Rows<M>) -> Result<(), Stopped> {
        match self {
            Self::Lines => lines::read(from, delimiter, rows),
            Self::Csv => table::read(from, b',', rows),
            Self::Tsv => table::read(from, b'\t', rows),
            Self::Jsonl => jsonl::read(from, rows),
        }
    }
}

/// What is read, and how it becomes rows.
#[derive(Debug)]
pub struct Input<M> {
    from: From<M>,
}

#[derive(Debug)]
enum From<M> {
    /// Arguments, each with what makes rows of it.
    Arguments(Vec<M>),
    Reader {
        name: Arc<str>,
        file: File,
        format: Format,
        delimiter: u8,
        maker: M,
    },
}

impl<M: Maker<Call: Send>> Input<M> {
    /// Rows from arguments.
    pub fn arguments(makers: Vec<M>) -> Self {
        Self { from: From::Arguments(makers) }
    }

    /// Rows from a file, or from standard input when the path is `-`. Lines end with `delimiter`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn file(path: &Path, format: Option<Format>, delimiter: u8, maker: M) -> Result<Self, Error> {
        let format = format.unwrap_or_else(|| Format::of(path));
        let (name, file) = open(path)?;
        Ok(Self { from: From::Reader { name, file, format, delimiter, maker } })
    }

    /// How many rows there will be, where that is cheap to know: lines of a regular file are counted.
    pub fn total(&self) -> Option<u64> {
        match &self.from {
            From::Arguments(makers) => makers.iter().try_fold(0u64, |sum, maker| sum.checked_add(maker.combinations())),
            From::Reader { file, format, delimiter, maker, .. } => {
                let lines = count_lines(file, *delimiter).ok()??;
                let header = u64::from(matches!(format, Format::Csv | Format::Tsv));
                lines.saturating_sub(header).checked_mul(maker.combinations())
            }
        }
    }

    /// Starts to read, and waits until it is known whether the input can be taken: for the header of a table, and for
    /// the first line where that says more than itself. So what is wrong with all rows is said once, before any of
    /// them.
    ///
    /// # Errors
    /// When there is no thread for it, and when no row could be made of the input.
    pub fn start(self) -> Result<mpsc::Receiver<RowBatch<M::Call>>, Error> {
        let (verdict, awaited) = std::sync::mpsc::sync_channel(1);
        let rows = on_thread(move |batcher| self.read(batcher, verdict))?;
        // An input without rows, or that ends before the first of them, has nothing to say of all.
        awaited.recv().unwrap_or(Ok(())).map(|()| rows)
    }

    fn read(self, batcher: &Rc<RefCell<Batcher<M::Call>>>, verdict: Verdict) -> Result<(), Stopped> {
        match self.from {
            From::Arguments(makers) => {
                drop(verdict);
                for (maker, line) in makers.into_iter().zip(1..) {
                    let mut rows = Rows::new(maker, None, batcher.clone());
                    rows.push(line, &NoFields)?;
                }
                Ok(())
            }
            From::Reader { name, file, format, delimiter, maker } => {
                let mut rows = Rows::new(maker, Some(name.clone()), batcher.clone()).awaited(verdict);
                let reader = Unmarked::new(Handing { inner: file, batcher: batcher.clone() }, delimiter);
                format.read(reader, delimiter, &mut rows).map_err(|stopped| stopped.of(&name))
            }
        }
    }
}

/// Opens an input: a file, or standard input when the path is `-`. Returns its name as well.
pub(crate) fn open(path: &Path) -> Result<(Arc<str>, File), Error> {
    if path.as_os_str() == "-" {
        let cannot = |error: Errno| Error::usage("cannot read standard input").because(io::Error::from(error));
        let file = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3).map(File::from).map_err(cannot)?;
        // What is open for writing alone stands for a standard input that was closed.
        if fcntl_getfl(&file).map_err(cannot)? & OFlags::RWMODE == OFlags::WRONLY {
            return Err(Error::usage("cannot read standard input: it is closed").hint("name a file to read from"));
        }
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(cannot(Errno::ISDIR));
        }
        return Ok(("standard input".into(), file));
    }
    let fail = |error: io::Error| {
        let error_kind = error.kind();
        let error = Error::usage(format!("cannot read `{}`", path.display())).because(error);
        match error_kind {
            io::ErrorKind::NotFound => error.hint("check the name, or pass `-` to read from standard input"),
            _ => error,
        }
    };
    let file = File::open(path).map_err(fail)?;
    match file.metadata().map_err(fail)?.is_dir() {
        true => Err(fail(io::ErrorKind::IsADirectory.into())),
        false => Ok((path.display().to_string().into(), file)),
    }
}

/// Lines of a regular file of moderate size, its position left where it was.
fn count_lines(file: &File, delimiter: u8) -> io::Result<Option<u64>> {
    use std::os::unix::fs::FileExt;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > WORTH_COUNTING_BYTES {
        return Ok(None);
    }
    let mut buffer = vec![0; 1 << 16];
    let (mut at, mut lines, mut last) = (0, 0, delimiter);
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok(Some(lines + u64::from(last != delimiter))),
            read => {
                lines += memchr::memchr_iter(delimiter, &buffer[..read]).count() as u64;
                last = buffer[read - 1];
                at += read as u64;
            }
        }
    }
}

/// Counting takes about a tenth of a second.
const WORTH_COUNTING_BYTES: u64 = 1 << 30;
