//! The thread that writes: takes whatever has come up since its last turn, and writes it with one call.
//!
//! A turn: results first, then the notes of what is about to start, with one sync each; so when a note is durable,
//! every outcome that came before it is written. Results are synced at most once a second. When writing fails, the
//! file is cut back to its last good line, and what had not been written follows without bodies, into the room that
//! was set aside; from then on nothing more is promised, and whoever asks is told why.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    RowKey,
    error::Error,
    line::{Record, encode},
    runfile::{RunFile, Started},
};

/// What the thread and its users share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Held to append bytes or to swap buffers: never across a system call.
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    notes: Vec<Noted>,
    /// Bytes that the thread is writing now.
    writing: usize,
    closing: bool,
    /// The thread sleeps, and is to be called when this much has come together.
    sleeping: Option<Sleep>,
    failure: Option<Arc<Error>>,
    waiting: Vec<Waker>,
    lines: u64,
    lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// Until there is anything at all.
    Idle,
    /// For a moment, to write more at once; a note or a full group ends it.
    Gathering,
}

/// One line in the queue's bytes.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: usize,
    /// Its length without its body.
    brief: usize,
    repeatable: bool,
    key: RowKey,
}

/// How a journal ended.
#[derive(Debug, Clone, Default)]
pub struct Closed {
    /// Lines written by this run.
    pub lines: u64,
    /// Outcomes that could not be written at all.
    pub lost: u64,
    /// Why not everything could be written.
    pub failure: Option<Arc<Error>>,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), work: Condvar::new() })
    }

    pub(crate) fn append(&self, record: &Record<'_>) {
        let mut queue = self.lock();
        let start = queue.bytes.len();
        let brief = encode(record, &mut queue.bytes);
        let mark =
            Mark { end: queue.bytes.len(), brief: start + brief, repeatable: record.repeatable, key: record.key };
        queue.marks.push(mark);
        self.call(queue);
    }

    pub(crate) fn note(&self, started: Started) -> oneshot::Receiver<Result<(), Arc<Error>>> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.lock();
        match &queue.failure {
            // The receiver is right here.
            Some(failure) => drop(sender.send(Err(failure.clone()))),
            None => queue.notes.push((started, sender)),
        }
        self.call(queue);
        receiver
    }

    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if queue.bytes.len() + queue.writing < MOST_BYTES || queue.failure.is_some() {
            return Poll::Ready(());
        }
        queue.waiting.push(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn failure(&self) -> Option<Arc<Error>> {
        self.lock().failure.clone()
    }

    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    fn call(&self, mut queue: MutexGuard<'_, Queue>) {
        let enough = match queue.sleeping {
            Some(Sleep::Idle) => true,
            Some(Sleep::Gathering) => queue.is_urgent(),
            None => false,
        };
        if enough {
            queue.sleeping = None;
            drop(queue);
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_urgent(&self) -> bool {
        self.bytes.len() >= GROUP || !self.notes.is_empty() || self.closing
    }
}

/// The thread's own side.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Where the last good line ends; `None` for a pipe or a device, which cannot be cut back.
    pub(crate) end: Option<u64>,
    pub(crate) run: Option<RunFile>,
    /// Started, and no line yet.
    pub(crate) in_doubt: HashSet<RowKey>,
    /// Keep the run file even when nothing is in doubt, for its seed.
    pub(crate) keep_run: bool,
    pub(crate) synced: Option<Instant>,
}

impl Writer {
    /// Writes until the journal is closed and nothing is left.
    pub(crate) fn run(mut self) -> Closed {
        let (mut bytes, mut marks) = (Vec::new(), Vec::new());
        loop {
            let (notes, closing) = self.take(&mut bytes, &mut marks);
            let failed = self.shared.failure().is_some();
            let result = if failed { Ok(()) } else { self.write(&bytes, &marks) };
            match result {
                Ok(()) if !failed => self.count(&marks, marks.len(), 0),
                Ok(()) => self.count(&marks, 0, marks.len()),
                Err((error, good)) => self.fail(error, &bytes, &marks, good),
            }
            self.note(notes);
            self.wake();
            if closing && self.is_drained() {
                return self.finish();
            }
        }
    }

    /// Waits for work, lets a little more of it gather, and takes it all.
    fn take(&self, bytes: &mut Vec<u8>, marks: &mut Vec<Mark>) -> (Vec<Noted>, bool) {
        let mut queue = self.shared.lock();
        while queue.bytes.is_empty() && queue.notes.is_empty() && !queue.closing {
            queue.sleeping = Some(Sleep::Idle);
            queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if !queue.is_urgent() {
            queue.sleeping = Some(Sleep::Gathering);
            let waited = self.shared.work.wait_timeout_while(queue, GATHER, |queue| !queue.is_urgent());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.sleeping = None;
        bytes.clear();
        marks.clear();
        std::mem::swap(bytes, &mut queue.bytes);
        std::mem::swap(marks, &mut queue.marks);
        queue.writing = bytes.len();
        (std::mem::take(&mut queue.notes), queue.closing)
    }

    /// Writes whole lines; on failure says how many bytes of good lines are in the file.
    fn write(&mut self, bytes: &[u8], marks: &[Mark]) -> Result<(), (Error, usize)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into(), written, marks)),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error, written, marks)),
            }
        }
        if let Some(end) = &mut self.end {
            *end += bytes.len() as u64;
        }
        self.sync_sometimes().map_err(|error| (error, bytes.len()))
    }

    fn failed(&mut self, error: io::Error, written: usize, marks: &[Mark]) -> (Error, usize) {
        let good = marks.iter().rev().find(|mark| mark.end <= written).map_or(0, |mark| mark.end);
        (Error::io(&self.path, "write", error), good)
    }

    fn sync_sometimes(&mut self) -> Result<(), Error> {
        let due = self.synced.is_none_or(|synced| synced.elapsed() >= SYNC_EVERY);
        if self.end.is_some() && due {
            self.file.sync_data().map_err(|error| Error::io(&self.path, "sync", error))?;
            self.synced = Some(Instant::now());
        }
        Ok(())
    }

    /// The file can take no more: what matters of the rest goes into the room that was set aside.
    fn fail(&mut self, error: Error, bytes: &[u8], marks: &[Mark], good: usize) {
        let done = marks.partition_point(|mark| mark.end <= good);
        let mut saved = 0;
        if let Some(end) = &mut self.end {
            *end += if good == bytes.len() { 0 } else { good as u64 };
            let cut = self.file.set_len(*end).and_then(|()| self.run.as_ref().map_or(Ok(()), RunFile::give_back));
            if cut.is_ok() && good < bytes.len() {
                saved = self.write_briefly(bytes, &marks[done..], good);
            }
        }
        self.count(marks, done + saved, marks.len() - done - saved);
        self.shared.lock().failure = Some(Arc::new(error));
    }

    /// Writes the lines that nothing can replace, without their bodies; answers how many lines need no more care.
    fn write_briefly(&mut self, bytes: &[u8], marks: &[Mark], mut start: usize) -> usize {
        for (saved, mark) in marks.iter().enumerate() {
            if !mark.repeatable {
                let mut line = bytes[start..mark.brief].to_vec();
                line.extend_from_slice(b",\"body_lost\":true}\n");
                if self.file.write_all(&line).is_err() {
                    let end = self.end.unwrap_or(0);
                    // What is torn now would be cut off by the next run as well.
                    let _ = self.file.set_len(end);
                    return saved;
                }
                self.end = self.end.map(|end| end + line.len() as u64);
            }
            start = mark.end;
        }
        marks.len()
    }

    fn count(&mut self, marks: &[Mark], written: usize, lost: usize) {
        if !self.in_doubt.is_empty() {
            for mark in &marks[..written] {
                self.in_doubt.remove(&mark.key);
            }
        }
        let mut queue = self.shared.lock();
        queue.lines += written as u64;
        queue.lost += lost as u64;
    }

    fn note(&mut self, notes: Vec<Noted>) {
        if notes.is_empty() {
            return;
        }
        let mut result = match self.shared.failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        };
        if let (Ok(()), Some(run)) = (&result, &mut self.run) {
            let started: Vec<Started> = notes.iter().map(|(started, _)| *started).collect();
            match run.note(&started) {
                Ok(()) => self.in_doubt.extend(started.iter().map(|one| one.key)),
                Err(error) => {
                    let failure = Arc::new(Error::io(&run.path, "write", error));
                    self.shared.lock().failure = Some(failure.clone());
                    result = Err(failure);
                }
            }
        }
        for (_, sender) in notes {
            // Whoever stopped waiting does not start either.
            let _ = sender.send(result.clone());
        }
    }

    fn wake(&self) {
        let waiting = {
            let mut queue = self.shared.lock();
            queue.writing = 0;
            std::mem::take(&mut queue.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn is_drained(&self) -> bool {
        let queue = self.shared.lock();
        queue.bytes.is_empty() && queue.notes.is_empty()
    }

    fn finish(mut self) -> Closed {
        if self.end.is_some()
            && self.shared.failure().is_none()
            && let Err(error) = self.file.sync_data()
        {
            // Once: a second sync may report success for data that is gone (Rebello et al., ATC 2020).
            self.shared.lock().failure = Some(Arc::new(Error::io(&self.path, "sync", error)));
        }
        let (failure, lines, lost) = {
            let queue = self.shared.lock();
            (queue.failure.clone(), queue.lines, queue.lost)
        };
        if let Some(run) = self.run.take_if(|_| failure.is_none() && self.in_doubt.is_empty() && !self.keep_run) {
            // A run file that stays behind is found empty of doubts by the next run.
            let _ = run.remove();
        }
        Closed { lines, lost, failure }
    }
}

type Noted = (Started, oneshot::Sender<Result<(), Arc<Error>>>);

/// What may wait to be written: some thousand small outcomes, or one large body and what came before it. More would
/// only turn into memory while the disk syncs.
const MOST_BYTES: usize = 3 << 20;
/// Short enough that nobody who watches the file notices, long enough to spare a busy run most of its system calls.
const GATHER: Duration = Duration::from_millis(5);
const GROUP: usize = 64 << 10;
/// Power loss costs at most the outcomes of so long; each sync costs the disk a few milliseconds.
const SYNC_EVERY: Duration = Duration::from_secs(1);
