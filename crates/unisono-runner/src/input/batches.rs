//! How rows get from the thread that reads them to the run: in batches, and before the next read may block.

use std::{
    cell::RefCell,
    fmt,
    fs::File,
    io::{self, Read},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use tokio::sync::mpsc;

use crate::{Error, row::Row};

/// What the reading thread hands over.
#[derive(Debug)]
pub enum RowBatch<C> {
    /// The next rows.
    Rows(Vec<Row<C>>),
    /// The input cannot be read any further, and why.
    Failed(String),
}

/// The rows of an input, in batches, as they come.
pub trait Feed<C> {
    /// The next batch; `None` at the end.
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<Option<RowBatch<C>>>;
}

impl<C> Feed<C> for mpsc::Receiver<RowBatch<C>> {
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<Option<RowBatch<C>>> {
        self.poll_recv(context)
    }
}

/// Runs a reader of rows on a thread of its own.
pub(crate) fn on_thread<C: Send + 'static>(
    read: impl FnOnce(&Rc<RefCell<Batcher<C>>>) -> Result<(), Stopped> + Send + 'static,
) -> Result<mpsc::Receiver<RowBatch<C>>, Error> {
    let (sender, feed) = mpsc::channel(BATCHES_AHEAD);
    let run = move || {
        let batcher = Rc::new(RefCell::new(Batcher::new(sender)));
        let read = read(&batcher);
        let mut batcher = batcher.borrow_mut();
        // The run may have gone; then its last rows are not wanted either.
        let _ = batcher.flush();
        if let Err(Stopped::Failed(why)) = read {
            let _ = batcher.sender.blocking_send(RowBatch::Failed(why));
        }
    };
    let thread = thread::Builder::new().name("unisono-input".into()).spawn(run);
    thread.map_err(|error| Error::fault("cannot start a thread for the input").because(error))?;
    Ok(feed)
}

/// Why reading ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The run has gone, and takes no more rows.
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
        match error.get_ref().is_some_and(|inner| inner.is::<NoReceiver>()) {
            true => Self::Gone,
            false => Self::Failed(error.to_string()),
        }
    }
}

/// What [`Handing`] reports when the run takes no more rows; no error of a file can be taken for it.
#[derive(Debug)]
struct NoReceiver;

impl fmt::Display for NoReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run takes no more rows")
    }
}

impl std::error::Error for NoReceiver {}

/// Hands rows over in batches.
pub(crate) struct Batcher<C> {
    rows: Vec<Row<C>>,
    sender: mpsc::Sender<RowBatch<C>>,
}

impl<C> Batcher<C> {
    pub(crate) fn new(sender: mpsc::Sender<RowBatch<C>>) -> Self {
        Self { rows: Vec::new(), sender }
    }

    pub(crate) fn push(&mut self, row: Row<C>) -> Result<(), Stopped> {
        self.rows.push(row);
        if self.rows.len() >= ROWS_PER_BATCH { self.flush() } else { Ok(()) }
    }

    /// The next batch of another feed. What was made of those before is handed over first, since this may take long.
    pub(crate) fn next_of<D>(&mut self, feed: &mut impl Feed<D>) -> Result<Option<RowBatch<D>>, Stopped> {
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
        self.sender.blocking_send(RowBatch::Rows(rows)).map_err(|_| Stopped::Gone)
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
        self.batcher.borrow_mut().flush().map_err(|_| io::Error::other(NoReceiver))?;
        self.inner.read(buffer)
    }
}

const ROWS_PER_BATCH: usize = 256;
/// Enough that neither side waits for the other; few enough that a million rows take no memory.
const BATCHES_AHEAD: usize = 4;
