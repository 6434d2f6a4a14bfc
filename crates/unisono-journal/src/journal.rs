//! Opening a results file, and the handle through which outcomes get into it.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    future::poll_fn,
    io::{self, IsTerminal},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use tokio::sync::oneshot;

use crate::{
    disposition::Fate,
    error::Error,
    in_doubt::InDoubt,
    line::{Head, Mark, Record, RowKey},
    place::{Inode, Locked},
    recover::Recovered,
    repeat::Repeat,
    results::{self, Open, Opened},
    writer::{Closed, Finish, Kept, Room, Shared, Starting, Writer},
};

/// A results file that is being written, or a pipe. Dropping it writes what is left, but does not say how it went.
///
/// ```
/// use unisono_core::{Effect, OutcomeKind};
/// use unisono_journal::{Fields, Finish, Journal, Next, Open, Record, RowKey};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("results.jsonl");
/// let (journal, _) = Journal::open(&path, Open::default()).unwrap();
/// let mut fields = Fields::default();
/// fields.members().text("url", "http://localhost/");
/// journal.append(&Record {
///     key: RowKey { row: 0, page: 0 }, id: "r0", fingerprint: 7, outcome: OutcomeKind::Ok, effect: Effect::Done,
///     repeatable: true, idempotency_key: None, next: Next::Unknown, begun_to: 0, fields: &fields,
///     body: &Fields::default(),
/// });
/// assert_eq!(journal.close_blocking(Finish::default()).lines, 1);
/// ```
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<Closed>>,
    thread: Option<thread::JoinHandle<()>>,
    seed: u64,
    /// Where the file is and which; `None` where there is none, and so no notes.
    place: Option<(PathBuf, Inode)>,
}

/// A note on its way to the disk.
#[derive(Debug)]
pub struct Note(Option<oneshot::Receiver<Result<(), Arc<Error>>>>);

impl Journal {
    /// Opens a results file, making it if needed, and reads what an earlier run left in it.
    ///
    /// A path that names a pipe or a device is written to and nothing more: there is nothing to resume.
    ///
    /// # Errors
    /// When the file is in use, in the way, damaged, a copy or not ours, or cannot be written.
    pub fn open(path: &Path, open: Open) -> Result<(Self, Recovered), Error> {
        Self::open_with(path, open, |_, _, _| {})
    }

    /// As [`Journal::open`]; `on_line` is given each line, in the order of the file and without its line feed, and what
    /// becomes of it.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_with(
        path: &Path,
        open: Open,
        mut on_line: impl FnMut(&Head<'_>, &[u8], Fate),
    ) -> Result<(Self, Recovered), Error> {
        if is_stream(path) {
            let file = OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, "open", error))?;
            return Ok((Self::stream(file, path)?, Recovered::default()));
        }
        let Opened { path: place, mut file, end, run, in_doubt, recovered } = results::open(path, open, &mut on_line)?;
        io::Seek::seek(&mut *file, io::SeekFrom::Start(end)).map_err(|error| Error::io(path, "open", error))?;
        let mark = Mark { run: run.header.run, is_open: true, version: open.version };
        let shared = Shared::new(end == mark.length() as u64);
        let writer = Writer {
            shared: shared.clone(),
            name: path.to_owned(),
            file,
            end: Some(end),
            kept: Some(Kept {
                path: place,
                run,
                mark,
                in_doubt: InDoubt::new(in_doubt),
                old: recovered.old_lines(),
                replaced: HashSet::new(),
            }),
            room: Room::Whole,
            synced: None,
            is_shown: false,
        };
        Ok((Self::start(writer, shared, mark.run)?, recovered))
    }

    /// Writes lines to a pipe, a terminal or a device. There is nothing to resume, and no promise beyond its own. To a
    /// terminal they mean the same, with everything escaped that it would act on.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn stream(file: File, name: &Path) -> Result<Self, Error> {
        let shared = Shared::new(false);
        let is_shown = file.is_terminal();
        let writer = Writer {
            shared: shared.clone(),
            name: name.to_owned(),
            file: Locked(file),
            end: None,
            kept: None,
            room: Room::Whole,
            synced: None,
            is_shown,
        };
        Self::start(writer, shared, 0)
    }

    fn start(writer: Writer, shared: Arc<Shared>, seed: u64) -> Result<Self, Error> {
        let name = writer.name.clone();
        let inode = writer.file.metadata().map(|metadata| Inode::of(&metadata));
        let inode = inode.map_err(|error| Error::io(&name, "open", error))?;
        let place = writer.kept.as_ref().map(|kept| (kept.path.clone(), inode));
        let (sender, receiver) = oneshot::channel();
        let run = move || drop(sender.send(writer.run()));
        let thread = thread::Builder::new().name("unisono-journal".into()).spawn(run);
        let thread = thread.map_err(|error| Error::io(name, "start the writer of", error))?;
        Ok(Self { shared, ended: Some(receiver), thread: Some(thread), seed, place })
    }

    /// Adds one outcome; never waits. See [`Journal::poll_ready`] for not adding too many.
    pub fn append(&self, record: &Record<'_>) {
        self.shared.append(record);
    }

    /// Ready while there is room for more; otherwise the waker is called when there is.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.poll_ready(context)
    }

    /// Notes that something is about to start that may take effect, and in which way it may be repeated. When this
    /// returns, the note is durable, and so is every outcome that was added before. `id` is the row's name, if it has
    /// one of its own.
    ///
    /// # Errors
    /// When it could not be noted: then it must not start.
    pub async fn started(
        &self,
        key: RowKey,
        id: Option<&str>,
        fingerprint: u64,
        repeat: Repeat,
    ) -> Result<(), Arc<Error>> {
        self.noted(self.note(key, id, fingerprint, repeat)).await
    }

    /// As [`Journal::started`], without waiting: [`Journal::noted`] does that, later. What was asked for together
    /// becomes durable together.
    pub fn note(&self, key: RowKey, id: Option<&str>, fingerprint: u64, repeat: Repeat) -> Note {
        self.note_all(std::iter::once((key, id, fingerprint, repeat)))
    }

    /// As [`Journal::note`], of several at once.
    pub fn note_all<'a>(&self, rows: impl Iterator<Item = (RowKey, Option<&'a str>, u64, Repeat)>) -> Note {
        // Whether they have lines the writer knows.
        let started = rows.map(|(key, id, fingerprint, repeat)| Starting::new(key, id, fingerprint, repeat));
        Note(self.place.is_some().then(|| self.shared.note(started.collect())))
    }

    /// Says where the input has what an earlier run had started, which is
    /// [`Disposition::Interrupted`](crate::Disposition) with this number; before there is an outcome of it.
    pub fn found(&self, number: u32, key: RowKey) {
        self.shared.found(number, key);
    }

    /// Waits until a note is durable.
    ///
    /// # Errors
    /// As [`Journal::started`].
    pub async fn noted(&self, mut note: Note) -> Result<(), Arc<Error>> {
        poll_fn(|context| self.poll_noted(&mut note, context)).await
    }

    /// As [`Journal::noted`], for several that wait for the same note; once it is ready it must not be polled again.
    pub fn poll_noted(&self, note: &mut Note, context: &mut Context<'_>) -> Poll<Result<(), Arc<Error>>> {
        let Some(receiver) = &mut note.0 else { return Poll::Ready(Ok(())) };
        Pin::new(receiver).poll(context).map(|received| {
            received.unwrap_or_else(|_| {
                // The writer is gone; it said why when it went.
                Err(self.failure().unwrap_or_else(|| {
                    Arc::new(Error::io("", "write the results to", io::Error::other("the writer has ended")))
                }))
            })
        })
    }

    /// Whether the file is still where it was: asked where a note was made long before its turn, since that the file
    /// was there then says nothing of now.
    pub fn is_in_place(&self) -> bool {
        let is_there = |(path, inode): &(PathBuf, Inode)| {
            std::fs::symlink_metadata(path).is_ok_and(|there| Inode::of(&there) == *inode)
        };
        self.place.as_ref().is_none_or(is_there)
    }

    /// Why nothing can be written any more, if that is so.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.shared.failure()
    }

    /// A number that stays the same for this results file as long as it has lines; 0 for a stream.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes what is left, does what is to be done at the end, and says how it went.
    pub async fn close(mut self, finish: Finish) -> Closed {
        self.shared.close(finish);
        let ended = self.ended.take().expect("a journal is closed once");
        ended.await.unwrap_or_default()
    }

    /// As [`Journal::close`], for a thread that may wait.
    pub fn close_blocking(mut self, finish: Finish) -> Closed {
        self.shared.close(finish);
        let ended = self.ended.take().expect("a journal is closed once");
        ended.blocking_recv().unwrap_or_default()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.abandon();
        if let Some(thread) = self.thread.take() {
            // Bounded by the disk; a pipe without a reader would hold us up for ever, so that is left behind.
            if self.place.is_some() {
                let _ = thread.join();
            }
        }
    }
}

fn is_stream(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
}
