//! Opening a results file, and the handle through which outcomes get into it.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use tokio::sync::oneshot;

use crate::{
    error::{Error, Reason},
    line::{Head, Record, RowKey},
    recover::{Identity, Mode, Recovered, Scan, copy_kept, open_existing, runs_again},
    runfile::{RunFile, Started, run_path, sync_folder},
    writer::{Closed, Shared, Writer},
};

/// How to open a results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// What to do with what is there.
    pub mode: Mode,
    /// Replace whatever is there, even what is not ours.
    pub overwrite: bool,
    /// How many bytes to set aside on the disk for the outcomes that are in flight when it is full.
    pub reserve: u64,
    /// Keep the run file, and so its seed, after the end: what did not end well will be repeated under the same keys.
    pub keep_run: bool,
    /// How rows are known again.
    pub identity: Identity,
}

impl Default for Open {
    fn default() -> Self {
        Self { mode: Mode::Fresh, overwrite: false, reserve: 256 << 10, keep_run: false, identity: Identity::Row }
    }
}

/// A results file that is being written, or a pipe. Dropping it writes what is left, but does not say how it went.
///
/// ```
/// use unisono_core::{Effect, OutcomeKind};
/// use unisono_journal::{Journal, Next, Open, Record, RowKey};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("results.jsonl");
/// let (journal, _) = Journal::open(&path, Open::default()).unwrap();
/// journal.append(&Record {
///     key: RowKey { row: 0, page: 0 }, id: "r0", fingerprint: 7, outcome: OutcomeKind::Ok, effect: Effect::Done,
///     repeatable: true, next: Next::Unknown, fields: b"\"url\":\"http://localhost/\"", body: b"",
/// });
/// assert_eq!(journal.close_blocking().lines, 1);
/// ```
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<Closed>>,
    thread: Option<thread::JoinHandle<()>>,
    seed: u64,
    /// Whether notes are kept at all.
    is_file: bool,
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
    /// When the file is in use, in the way, damaged or not ours, or cannot be written.
    pub fn open(path: &Path, open: Open) -> Result<(Self, Recovered), Error> {
        if is_stream(path) {
            let file = OpenOptions::new().append(true).open(path).map_err(|error| Error::io(path, "open", error))?;
            return Ok((Self::stream(file, path)?, Recovered::default()));
        }
        if open.mode == Mode::Fresh && !open.overwrite && !is_empty(path)? {
            return Err(Error::new(path, Reason::Exists));
        }
        let (mut run, started) = RunFile::lock(path)?;
        let replaced = open.mode == Mode::Fresh || open.overwrite;
        let started = if replaced { Vec::new() } else { started };
        let opened = match replaced {
            true => fresh(path),
            false => resumed(path, &started, open),
        };
        let (file, end, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                if started.is_empty() {
                    // Nothing is in doubt, so the lock file of a run that never began goes again.
                    let _ = run.remove();
                }
                return Err(error);
            }
        };
        let doubtful = recovered.in_doubt(&started);
        run.rewrite(&doubtful).map_err(|error| Error::io(&run.path, "write", error))?;
        run.reserve(open.reserve);
        let seed = run.seed();
        let shared = Shared::new();
        let writer = Writer {
            shared: shared.clone(),
            path: path.to_owned(),
            file,
            end: Some(end),
            run: Some(run),
            in_doubt: doubtful.iter().map(|one| one.key).collect(),
            keep_run: open.keep_run,
            synced: None,
        };
        Ok((Self::start(writer, shared, seed)?, recovered))
    }

    /// Writes lines to a pipe, a terminal or a device. There is nothing to resume, and no promise beyond its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn stream(file: File, name: &Path) -> Result<Self, Error> {
        let shared = Shared::new();
        let writer = Writer {
            shared: shared.clone(),
            path: name.to_owned(),
            file,
            end: None,
            run: None,
            in_doubt: HashSet::new(),
            keep_run: false,
            synced: None,
        };
        Self::start(writer, shared, 0)
    }

    fn start(writer: Writer, shared: Arc<Shared>, seed: u64) -> Result<Self, Error> {
        let (path, is_file) = (writer.path.clone(), writer.run.is_some());
        let (sender, receiver) = oneshot::channel();
        let run = move || drop(sender.send(writer.run()));
        let thread = thread::Builder::new().name("unisono-journal".into()).spawn(run);
        let thread = thread.map_err(|error| Error::io(path, "start the writer of", error))?;
        Ok(Self { shared, ended: Some(receiver), thread: Some(thread), seed, is_file })
    }

    /// Adds one outcome; never waits. See [`Journal::poll_ready`] for not adding too many.
    pub fn append(&self, record: &Record<'_>) {
        self.shared.append(record);
    }

    /// Ready while there is room for more; otherwise the waker is called when there is.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.poll_ready(context)
    }

    /// Notes that something is about to start that must not be repeated. When this returns, the note is durable, and
    /// so is every outcome that was added before.
    ///
    /// # Errors
    /// When it could not be noted: then it must not start.
    pub async fn started(&self, key: RowKey, fingerprint: u64) -> Result<(), Arc<Error>> {
        self.noted(self.note(key, fingerprint)).await
    }

    /// As [`Journal::started`], without waiting: [`Journal::noted`] does that, later. What was asked for together becomes
    /// durable together.
    pub fn note(&self, key: RowKey, fingerprint: u64) -> Note {
        Note(self.is_file.then(|| self.shared.note(Started { key, fingerprint })))
    }

    /// Waits until a note is durable.
    ///
    /// # Errors
    /// As [`Journal::started`].
    pub async fn noted(&self, note: Note) -> Result<(), Arc<Error>> {
        let Some(receiver) = note.0 else { return Ok(()) };
        match receiver.await {
            Ok(result) => result,
            // The writer is gone; it said why when it went.
            Err(_) => Err(self.failure().unwrap_or_else(|| {
                Arc::new(Error::io("", "write the results to", io::Error::other("the writer has ended")))
            })),
        }
    }

    /// Why nothing can be written any more, if that is so.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.shared.failure()
    }

    /// A number that stays the same for this results file until a run ends with nothing left to repeat.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes what is left, and says how it went.
    pub async fn close(mut self) -> Closed {
        self.shared.close();
        let ended = self.ended.take().expect("a journal is closed once");
        ended.await.unwrap_or_default()
    }

    /// As [`Journal::close`], for a thread that may wait.
    pub fn close_blocking(mut self) -> Closed {
        self.shared.close();
        let ended = self.ended.take().expect("a journal is closed once");
        ended.blocking_recv().unwrap_or_default()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // Bounded by the disk; a pipe that nobody reads would hold us up for ever, so that is left behind.
            if self.is_file {
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

fn is_empty(path: &Path) -> Result<bool, Error> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io(path, "open", error)),
    }
}

fn fresh(path: &Path) -> Result<(File, u64, Recovered), Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.map_err(|error| Error::io(path, "create", error))?;
    sync_folder(path).map_err(|error| Error::io(path, "create", error))?;
    Ok((file, 0, Recovered::default()))
}

/// Reads what is there, and brings the file into a state to which lines can be added.
fn resumed(path: &Path, started: &[Started], open: Open) -> Result<(File, u64, Recovered), Error> {
    let (recovered, scan) = Recovered::read(path, started, open.mode, open.identity)?;
    if scan.dropped > 0 {
        compact(path, |head| runs_again(head, open.mode))?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = file.map_err(|error| Error::io(path, "open", error))?;
    let end = match scan {
        Scan { dropped: 0, end, length } => {
            if length > end {
                file.set_len(end).map_err(|error| Error::io(path, "cut the torn last line of", error))?;
            }
            end
        }
        _ => file.metadata().map_err(|error| Error::io(path, "read", error))?.len(),
    };
    io::Seek::seek(&mut file, io::SeekFrom::Start(end)).map_err(|error| Error::io(path, "open", error))?;
    Ok((file, end, recovered))
}

/// As [`compact`], of a file that nobody has open.
pub(crate) fn compact_locked(path: &Path, goes: impl FnMut(&Head<'_>) -> bool) -> Result<(), Error> {
    // A run file that was there before keeps what it knows.
    let had_run_file = run_path(path).exists();
    let (run, _) = RunFile::lock(path)?;
    let compacted = compact(path, goes);
    if !had_run_file {
        run.remove().map_err(|error| Error::io(path, "compact", error))?;
    }
    compacted
}

/// Leaves out some lines: a new file, synced, takes the place of the old one.
fn compact(path: &Path, goes: impl FnMut(&Head<'_>) -> bool) -> Result<(), Error> {
    let fail = |error| Error::io(path, "compact", error);
    let Some(old) = open_existing(path)? else { return Ok(()) };
    let permissions = old.metadata().map_err(fail)?.permissions().mode();
    let mut name = path.as_os_str().to_owned();
    name.push(".compact");
    let fresh = Path::new(&name);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(permissions).open(fresh);
    let mut writer = BufWriter::with_capacity(1 << 17, file.map_err(fail)?);
    let copied = copy_kept(path, old, &mut writer, goes)
        .and_then(|()| writer.flush().and_then(|()| writer.get_ref().sync_all()).map_err(fail))
        .and_then(|()| std::fs::rename(fresh, path).and_then(|()| sync_folder(path)).map_err(fail));
    if copied.is_err() {
        // The old file is untouched; the half-made one is of no use.
        let _ = std::fs::remove_file(fresh);
    }
    copied
}
