//! Where rows come from: arguments, or a file of lines, of a table, or of JSON.
//!
//! Reading happens on a thread of its own, since standard input may block for ever, and parsing takes time that the
//! reactor does not have. Rows travel in batches; what has been read is handed over before the next read may block, so
//! a slow producer's rows are run as they come.

pub(crate) mod jsonl;
mod lines;
mod mark;
mod table;

use std::{
    cell::RefCell,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    io::Errno,
};
use tokio::sync::mpsc;

pub(crate) use mark::{MARK, Unmarked, foreign as foreign_encoding};
pub(crate) use table::check as check_table;

use crate::{
    Error,
    row::{Fields, Maker, NoFields, Origin, Row},
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

/// What the reading thread hands over.
#[derive(Debug)]
pub enum Batch<C> {
    /// The next rows.
    Rows(Vec<Row<C>>),
    /// The input cannot be read any further, and why.
    Failed(String),
}

/// The rows of an input, in batches, as they come.
pub trait Feed<C> {
    /// The next batch; `None` at the end.
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch<C>>>;
}

impl<C> Feed<C> for mpsc::Receiver<Batch<C>> {
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch<C>>> {
        self.poll_recv(context)
    }
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

    /// Starts to read.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(self) -> Result<mpsc::Receiver<Batch<M::Call>>, Error> {
        on_thread(move |batcher| self.read(batcher))
    }

    fn read(self, batcher: &Rc<RefCell<Batcher<M::Call>>>) -> Result<(), Stopped> {
        match self.from {
            From::Arguments(makers) => {
                for (maker, line) in makers.into_iter().zip(1..) {
                    let mut rows = Rows { maker, name: None, batcher: batcher.clone() };
                    rows.push(line, &NoFields)?;
                }
                Ok(())
            }
            From::Reader { name, file, format, delimiter, maker } => {
                let mut rows = Rows::new(maker, name.clone(), batcher.clone());
                let reader = Unmarked::new(Handing { inner: file, batcher: batcher.clone() }, delimiter);
                format.read(reader, delimiter, &mut rows).map_err(|stopped| stopped.of(&name))
            }
        }
    }
}

/// Runs a reader of rows on a thread of its own.
pub(crate) fn on_thread<C: Send + 'static>(
    read: impl FnOnce(&Rc<RefCell<Batcher<C>>>) -> Result<(), Stopped> + Send + 'static,
) -> Result<mpsc::Receiver<Batch<C>>, Error> {
    let (sender, feed) = mpsc::channel(BATCHES_AHEAD);
    let run = move || {
        let batcher = Rc::new(RefCell::new(Batcher::new(sender)));
        let read = read(&batcher);
        let mut batcher = batcher.borrow_mut();
        // The one who reads may have gone; then there is nobody to tell.
        let _ = batcher.flush();
        if let Err(Stopped::Failed(why)) = read {
            let _ = batcher.sender.blocking_send(Batch::Failed(why));
        }
    };
    let thread = thread::Builder::new().name("unisono-input".into()).spawn(run);
    thread.map_err(|error| Error::fault("cannot start a thread for the input").because(error))?;
    Ok(feed)
}

/// Takes rows from a reader of some format.
pub(crate) struct Rows<M: Maker> {
    maker: M,
    name: Option<Arc<str>>,
    batcher: Rc<RefCell<Batcher<M::Call>>>,
}

impl<M: Maker> Rows<M> {
    pub(crate) fn new(maker: M, name: Arc<str>, batcher: Rc<RefCell<Batcher<M::Call>>>) -> Self {
        Self { maker, name: Some(name), batcher }
    }

    /// All calls of one row.
    fn push(&mut self, line: u64, fields: &dyn Fields) -> Result<(), Stopped> {
        let origin = Origin { name: self.name.clone(), line };
        let mut pushed = Ok(());
        self.maker.make(fields, origin, &mut |row| {
            pushed = self.batcher.borrow_mut().push(row);
            pushed.is_ok()
        });
        pushed
    }

    /// A row that cannot be understood.
    fn bad(&mut self, line: u64, why: String) -> Result<(), Stopped> {
        let origin = Origin { name: self.name.clone(), line };
        self.batcher.borrow_mut().push(Row { id: None, origin, call: Err(why) })
    }
}

/// Why reading ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nobody wants more.
    Gone,
    /// It could not go on.
    Failed(String),
}

impl Stopped {
    /// The same, with the name of what was read.
    pub(crate) fn of(self, name: &str) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("cannot read `{name}` any further: {why}")),
            Self::Gone => Self::Gone,
        }
    }
}

impl std::convert::From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        match error.get_ref().is_some_and(|inner| inner.is::<NobodyTakes>()) {
            true => Self::Gone,
            false => Self::Failed(error.to_string()),
        }
    }
}

/// What [`Handing`] reports when nobody wants more rows; no error of a file can be taken for it.
#[derive(Debug)]
struct NobodyTakes;

impl fmt::Display for NobodyTakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody takes rows any more")
    }
}

impl std::error::Error for NobodyTakes {}

/// Hands rows over in batches.
pub(crate) struct Batcher<C> {
    rows: Vec<Row<C>>,
    sender: mpsc::Sender<Batch<C>>,
}

impl<C> Batcher<C> {
    pub(crate) fn new(sender: mpsc::Sender<Batch<C>>) -> Self {
        Self { rows: Vec::new(), sender }
    }

    pub(crate) fn push(&mut self, row: Row<C>) -> Result<(), Stopped> {
        self.rows.push(row);
        if self.rows.len() >= ROWS_PER_BATCH { self.flush() } else { Ok(()) }
    }

    /// The next batch of another feed. What was made of those before is handed over first, since this may take long.
    pub(crate) fn next_of<D>(&mut self, feed: &mut impl Feed<D>) -> Result<Option<Batch<D>>, Stopped> {
        self.flush()?;
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut gone = pin!(self.sender.closed());
        loop {
            if gone.as_mut().poll(&mut context).is_ready() {
                return Err(Stopped::Gone);
            }
            if let Poll::Ready(batch) = feed.poll_rows(&mut context) {
                return Ok(batch);
            }
            thread::park();
        }
    }

    /// For a reader that has nothing to push for long.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stopped> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.rows, Vec::with_capacity(ROWS_PER_BATCH));
        self.sender.blocking_send(Batch::Rows(rows)).map_err(|_| Stopped::Gone)
    }
}

/// Wakes a thread that waits for something that is polled.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A reader that hands over what came before it may block.
pub(crate) struct Handing<C> {
    pub(crate) inner: File,
    pub(crate) batcher: Rc<RefCell<Batcher<C>>>,
}

impl<C> Read for Handing<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.batcher.borrow_mut().flush().map_err(|_| io::Error::other(NobodyTakes))?;
        self.inner.read(buffer)
    }
}

/// Reads line by line, each with its number from 1 and its end.
pub(crate) fn for_each_line(
    reader: impl Read,
    delimiter: u8,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut reader, delimiter, &mut line, LONGEST)? {
        number += 1;
        if line.len() > LONGEST {
            return Err(Stopped::Failed(too_long(number)));
        }
        take(number, &line)?;
        line.clear();
    }
    Ok(())
}

/// Appends the next line with its end, or as much of it as makes more than `most` bytes. Returns whether there was one.
pub(crate) fn read_line(reader: &mut impl BufRead, delimiter: u8, line: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    // One more than fits tells a line that is too long from one that fits just so.
    let room = (most + 1).saturating_sub(line.len());
    Ok(reader.take(room as u64).read_until(delimiter, line)? > 0)
}

/// Why a line or row cannot be taken.
pub(crate) fn too_long(line: u64) -> String {
    format!("line {line} has more than {} MiB, which is the most that a row may have", LONGEST >> 20)
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
    if !metadata.is_file() || metadata.len() > WORTH_COUNTING {
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

/// The most that one row may have: as much as the largest body that is taken by default. More is hardly a row, and
/// would be held in memory several times.
pub(crate) const LONGEST: usize = 64 << 20;
const ROWS_PER_BATCH: usize = 256;
/// Enough that neither side waits for the other; few enough that a million rows take no memory.
const BATCHES_AHEAD: usize = 4;
/// Counting takes about a tenth of a second.
const WORTH_COUNTING: u64 = 1 << 30;
