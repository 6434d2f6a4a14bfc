//! The thread that writes: takes whatever has come up since its last turn, and writes it with one call.
//!
//! A turn: where the input has what an earlier run had started, then results, then the notes of what is about to start,
//! with one sync each; so when a note is durable, every outcome that came before it is written. Results are synced at
//! most once a second. When writing fails, the file is cut back to its last good line, and what had not been written
//! follows without bodies, into the room that was set aside, as does what is still under way then; nothing new starts,
//! and what asks is told why.
//!
//! With each sync the writer looks whether the file's name still leads to the file. A file that was removed has lost
//! its lines, so they count as lost; one that was renamed keeps them and gets those of what is under way, but nothing
//! new starts, since the name belongs to another file now.
//!
//! At the end, in this order: the results are synced; they lose the lines that others have taken the place of, are
//! pruned and sorted; their first line says "closed", if nothing is in doubt, and that is synced; the run file goes. A
//! kill between any two of them leaves a run file whose results know it, or results that need none.

use std::{
    collections::HashSet,
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use unisono_core::{Effect, OutcomeCounts, OutcomeKind, clock, printable_json};

use crate::{
    Repeat, RerunCounts, RerunMode, RowKey,
    error::{Error, Reason},
    in_doubt::{BRIEF_LINE_BYTES, InDoubt, line_bytes},
    line::{BODY_LOST, Head, Mark, Next, Record, encode, scan_start},
    old_lines::{LeftOver, OldLine, OldLines},
    order::InputOrder,
    place::{self, Locked},
    retell::{Retold, Since},
    rewrite::{Old, expecting},
    runfile::{Header, RunFile, Started},
    steps::step,
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
    ends: Vec<LineEnd>,
    /// The first line is begun, and what comes next continues it.
    is_begun: bool,
    finish: Finish,
    notes: Vec<Noted>,
    /// Where the input has what adrift notes are of.
    found: Vec<(u32, RowKey)>,
    /// Bytes that the thread is writing now.
    writing: usize,
    closing: bool,
    /// The thread sleeps, and is to be called when this much has come together.
    sleeping: Option<Sleep>,
    failure: Option<Arc<Error>>,
    waiting: Vec<Waker>,
    lines: u64,
    /// Of those, the ones with which something would be lost.
    results: u64,
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
struct LineEnd {
    end: usize,
    /// Its length without its body.
    brief: usize,
    repeatable: bool,
    /// Something would be lost with it.
    is_result: bool,
    /// Its row goes on with no other page.
    is_last: bool,
    key: RowKey,
    fingerprint: u64,
}

/// What is done with a results file when all outcomes are in it, while it is still locked.
#[derive(Debug, Default)]
pub struct Finish {
    /// Take these lines out.
    pub left_over: LeftOver,
    /// Put the lines in the order of the input, and in that of pages.
    pub sort: Option<InputOrder>,
    /// Every row of the input has a line now, so nothing is unsure any more.
    pub is_complete: bool,
    /// Lines that say that nothing was done, of rows which a killed run may have started since, are told anew. Not
    /// where the input was refused: nothing is touched then.
    pub tells_anew: bool,
    /// Lines that stay as they are though their rows may have been started since: to do these changes nothing.
    pub safe: HashSet<RowKey>,
}

/// How a journal ended.
#[derive(Debug, Clone, Default)]
pub struct Closed {
    /// Lines written by this run.
    pub lines: u64,
    /// Outcomes that are not in the file: they could not be written, or it was removed with them. What was cancelled
    /// before it did anything is none of them.
    pub lost: u64,
    /// How rows had ended that were to run again, and of which nothing came: they have their line still.
    pub stayed: OutcomeCounts,
    /// What it takes for those to run again.
    pub stayed_again: RerunCounts,
    /// How those had ended that were taken out.
    pub pruned: OutcomeCounts,
    /// What it would have taken for those to run again.
    pub pruned_again: RerunCounts,
    /// Why not everything could be written.
    pub failure: Option<Arc<Error>>,
}

impl Shared {
    pub(crate) fn new(is_begun: bool) -> Arc<Self> {
        let queue = Queue { is_begun, ..Queue::default() };
        Arc::new(Self { queue: Mutex::new(queue), work: Condvar::new() })
    }

    pub(crate) fn append(&self, record: &Record<'_>) {
        let mut queue = self.lock();
        queue.make_room();
        let (start, is_begun) = (queue.bytes.len(), std::mem::take(&mut queue.is_begun));
        let brief = start + encode(record, is_begun, &mut queue.bytes);
        let end = LineEnd {
            end: queue.bytes.len(),
            brief,
            repeatable: record.repeatable,
            // What was cancelled before it could do anything is not lost: it runs again.
            is_result: record.outcome != OutcomeKind::Cancelled || record.effect != Effect::None,
            is_last: !matches!(record.next, Next::Page(_)),
            key: record.key,
            fingerprint: record.fingerprint,
        };
        queue.ends.push(end);
        self.call(queue);
    }

    pub(crate) fn note(&self, started: Vec<Starting>) -> oneshot::Receiver<Result<(), Arc<Error>>> {
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

    /// As [`Journal::found`](crate::Journal::found).
    pub(crate) fn found(&self, number: u32, key: RowKey) {
        self.lock().found.push((number, key));
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

    pub(crate) fn close(&self, finish: Finish) {
        // Before the writer can see that it is to close: it takes this once.
        self.lock().finish = finish;
        self.abandon();
    }

    /// Nothing more is added.
    pub(crate) fn abandon(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// Waits for work, lets a little more of it gather, and takes it all.
    fn take(&self, bytes: &mut Vec<u8>, ends: &mut Vec<LineEnd>) -> Taken {
        let mut queue = self.lock();
        while queue.bytes.is_empty() && queue.notes.is_empty() && !queue.closing {
            queue.sleeping = Some(Sleep::Idle);
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if !queue.is_urgent() {
            queue.sleeping = Some(Sleep::Gathering);
            let waited = self.work.wait_timeout_while(queue, GATHER, |queue| !queue.is_urgent());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.sleeping = None;
        // What came together while the disk was syncing is the exception; both buffers would have room for it for good.
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
        ends.clear();
        ends.shrink_to(KEPT_BYTES / SHORT_LINE_BYTES);
        std::mem::swap(bytes, &mut queue.bytes);
        std::mem::swap(ends, &mut queue.ends);
        // They take room until they are written, so that a slow disk holds back what adds lines.
        queue.writing = bytes.len();
        Taken {
            found: std::mem::take(&mut queue.found),
            notes: std::mem::take(&mut queue.notes),
            closing: queue.closing,
        }
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
    /// While the disk syncs lines pile up. Room for all that may is taken at once: what is filled of it is memory, and
    /// a buffer that doubles leaves as much behind it again.
    fn make_room(&mut self) {
        if self.bytes.len() >= KEPT_BYTES {
            self.bytes.reserve_exact(MOST_BYTES.saturating_sub(self.bytes.len()));
        }
    }

    fn is_urgent(&self) -> bool {
        self.bytes.len() >= GROUP_BYTES || !self.notes.is_empty() || self.closing
    }
}

/// The thread's own side.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    /// As the user calls the file.
    pub(crate) name: PathBuf,
    /// Its lock, where it is a results file, goes with it.
    pub(crate) file: Locked,
    /// Where the last good line ends; `None` for a pipe or a device, which cannot be cut back.
    pub(crate) end: Option<u64>,
    /// What a results file has beside a pipe.
    pub(crate) kept: Option<Kept>,
    pub(crate) room: Room,
    pub(crate) synced: Option<Instant>,
    /// Lines are shown to a person, and are to hold nothing that a terminal would act on.
    pub(crate) is_shown: bool,
}

/// How much of an outcome there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// All of it.
    Whole,
    /// What is known of it beside its body, if nothing can replace that.
    Brief,
    /// Nothing.
    None,
}

/// What the thread takes at once, beside lines.
struct Taken {
    found: Vec<(u32, RowKey)>,
    notes: Vec<Noted>,
    closing: bool,
}

/// What there is beside the results themselves.
pub(crate) struct Kept {
    /// Where the results are.
    pub(crate) path: PathBuf,
    pub(crate) run: RunFile,
    pub(crate) mark: Mark,
    /// Started, and no line yet.
    pub(crate) in_doubt: InDoubt,
    /// The lines of rows that run again, and those of them that have got another one.
    pub(crate) old: Arc<OldLines>,
    pub(crate) replaced: HashSet<RowKey>,
}

impl Kept {
    /// The lines of rows that were to run again, and have no other one.
    fn staying(&self) -> impl Iterator<Item = (&RowKey, &OldLine)> {
        self.old.iter().filter(|(key, _)| !self.replaced.contains(key))
    }

    /// Those of them that say that nothing was done, though that is not known any more.
    fn retold(&self, finish: &Finish) -> Retold {
        if !finish.tells_anew {
            return Retold::default();
        }
        let denies = self.staying().filter(|(_, old)| old.effect == Effect::None && !old.not_understood);
        let since = |(key, old): (&RowKey, &OldLine)| {
            let unsure = || Since::Unsure { is_repeatable: old.repeat.is_allowed() };
            let started = self.in_doubt.since_line(*key).map(Since::Started);
            let is_unsure = self.run.header.is_unsure && !finish.safe.contains(key);
            Some((*key, started.or_else(|| is_unsure.then(unsure))?))
        };
        denies.filter_map(since).collect()
    }

    /// What was started and must not be repeated, and whose older lines say so, since they are told anew or did in any
    /// case: no note is needed for that.
    fn told_by_lines(&self, retold: &Retold) -> Vec<RowKey> {
        let says = |(key, old): &(&RowKey, &OldLine)| {
            let is_kept_in_doubt = old.effect != Effect::None && !old.repeat.is_allowed();
            self.in_doubt.since_line(**key) == Some(Repeat::Never) && (retold.contains_key(key) || is_kept_in_doubt)
        };
        self.staying().filter(says).map(|(key, _)| *key).collect()
    }
}

impl Writer {
    /// Writes until the journal is closed and nothing is left.
    pub(crate) fn run(mut self) -> Closed {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        loop {
            let Taken { found, notes, closing } = self.shared.take(&mut bytes, &mut ends);
            // Before their lines, which would be those of some other row otherwise.
            self.find(&found);
            let synced = self.synced;
            // What is written behind its end would stand behind a hole.
            if self.is_cut() {
                self.look();
            }
            match self.room {
                Room::Whole => match self.write(&bytes, &ends) {
                    Ok(()) => {
                        self.count(&ends, ends.len());
                        // Before something is noted: what starts should have its line where the user looks for it.
                        if !notes.is_empty() || self.synced != synced {
                            self.look();
                        }
                    }
                    Err((error, good)) => self.fail(error, &bytes, &ends, good),
                },
                Room::Brief => {
                    let saved = self.write_briefly(&bytes, &ends, 0);
                    self.count(&ends, saved);
                }
                Room::None => self.count(&ends, 0),
            }
            // After the lines: when a note is durable, every outcome that came before it is written.
            self.note(notes);
            self.wake();
            if closing && self.is_drained() {
                return self.finish();
            }
        }
    }

    /// Writes whole lines; on failure says how many bytes of good lines are in the file.
    fn write(&mut self, bytes: &[u8], ends: &[LineEnd]) -> Result<(), (Error, usize)> {
        if self.is_shown && !bytes.is_empty() {
            let shown =
                bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line));
            let shown: Vec<_> = shown.map(printable_json).collect();
            let written = self.file.write_all((shown.join("\n") + "\n").as_bytes());
            // How much of it was seen is not known.
            return written.map_err(|error| self.failed(error, 0, ends));
        }
        let mut written = 0;
        while written < bytes.len() {
            let wrote = step("results: write").and_then(|()| self.file.write(&bytes[written..]));
            match wrote {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into(), written, ends)),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error, written, ends)),
            }
        }
        if let Some(end) = &mut self.end {
            *end += bytes.len() as u64;
        }
        self.sync_sometimes().map_err(|error| (error, bytes.len()))
    }

    fn failed(&mut self, error: io::Error, written: usize, ends: &[LineEnd]) -> (Error, usize) {
        let good = ends.iter().rev().find(|line| line.end <= written).map_or(0, |line| line.end);
        (Error::io(&self.name, "write", error), good)
    }

    fn sync_sometimes(&mut self) -> Result<(), Error> {
        let due = self.synced.is_none_or(|synced| clock::since(synced) >= SYNC_EVERY);
        if self.end.is_some() && due {
            let synced = step("results: sync sometimes").and_then(|()| self.file.sync_data());
            synced.map_err(|error| Error::io(&self.name, "sync", error))?;
            self.synced = Some(clock::now());
        }
        Ok(())
    }

    /// Whether another process has cut the file, as `> results.jsonl` does: its inode and its lock are the same then.
    fn is_cut(&self) -> bool {
        self.end.is_some_and(|end| self.file.metadata().is_ok_and(|metadata| metadata.len() < end))
    }

    /// Whether the file is still where it was, and as long.
    fn look(&mut self) {
        if self.kept.as_ref().is_none_or(|kept| place::is_at(&self.file, &kept.path)) {
            if self.room != Room::None && self.is_cut() {
                self.room = Room::None;
                let (was, is) = (self.end.unwrap_or(0), self.file.metadata().map_or(0, |metadata| metadata.len()));
                let error = Arc::new(Error::new(&self.name, Reason::Shortened { was, is }));
                self.shared.lock().failure.get_or_insert(error);
            }
            return;
        }
        let is_gone = self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        let mut queue = self.shared.lock();
        if is_gone && self.room != Room::None {
            self.room = Room::None;
            queue.lost += std::mem::take(&mut queue.results);
            queue.lines = 0;
        }
        let reason = if is_gone { Reason::Removed } else { Reason::Moved };
        queue.failure.get_or_insert_with(|| Arc::new(Error::new(&self.name, reason)));
    }

    /// The file can take no more: what matters of the rest, and of what is under way, goes into the room that was set
    /// aside.
    fn fail(&mut self, error: Error, bytes: &[u8], ends: &[LineEnd], good: usize) {
        let done = ends.partition_point(|line| line.end <= good);
        let mut saved = 0;
        self.room = Room::None;
        if let Some(end) = &mut self.end {
            *end += if good == bytes.len() { 0 } else { good as u64 };
            // What is torn goes first, or the next line would continue it; then the room, which that line needs.
            let cut = step("results: cut back")
                .and_then(|()| self.file.set_len(*end))
                .and_then(|()| self.kept.as_mut().map_or(Ok(()), |kept| kept.run.give_back()));
            // Where the next byte goes; what was cut off would stay behind as a hole.
            let cut = cut.and_then(|()| io::Seek::seek(&mut *self.file, io::SeekFrom::Start(*end)));
            if cut.is_ok() {
                self.room = Room::Brief;
                saved = self.write_briefly(bytes, &ends[done..], good);
            }
        }
        self.count(ends, done + saved);
        self.shared.lock().failure.get_or_insert_with(|| Arc::new(error));
    }

    /// Writes the lines that nothing can replace, without their bodies; returns how many lines need no more care.
    fn write_briefly(&mut self, bytes: &[u8], ends: &[LineEnd], mut start: usize) -> usize {
        for (saved, end) in ends.iter().enumerate() {
            if self.is_irreplaceable(end) {
                let mut line = brief(&bytes[start..end.brief]);
                // The line that was to continue the first one may be one of those that are left out.
                if self.end == self.kept.as_ref().map(|kept| kept.mark.length() as u64) {
                    line.remove(0);
                }
                if step("results: write briefly").and_then(|()| self.file.write_all(&line)).is_err() {
                    let end = self.end.unwrap_or(0);
                    // What is torn now would be cut off by the next run as well.
                    let _ = step("results: cut off what is torn").and_then(|()| self.file.set_len(end));
                    self.room = Room::None;
                    return saved;
                }
                self.end = self.end.map(|end| end + line.len() as u64);
            }
            start = end.end;
        }
        ends.len()
    }

    /// Whether what a line says cannot be known without it. What did nothing runs again without a line, unless there
    /// is a note of it.
    fn is_irreplaceable(&self, line: &LineEnd) -> bool {
        let is_noted = || self.kept.as_ref().is_some_and(|kept| kept.in_doubt.awaits(line.key, line.fingerprint));
        !line.repeatable && (line.is_result || is_noted())
    }

    /// The first of these lines were written, the others are lost.
    fn count(&mut self, ends: &[LineEnd], written: usize) {
        let (written, lost) = ends.split_at(written);
        if let Some(kept) = self.kept.as_mut().filter(|kept| !kept.in_doubt.is_empty() || !kept.old.is_empty()) {
            for line in written {
                let is_second = kept.old.contains_key(&line.key);
                kept.in_doubt.decide(line.key, line.fingerprint, is_second, line.is_last);
                if is_second {
                    kept.replaced.insert(line.key);
                }
            }
        }
        let results = |lines: &[LineEnd]| lines.iter().filter(|line| line.is_result).count() as u64;
        let mut queue = self.shared.lock();
        queue.lines += written.len() as u64;
        queue.results += results(written);
        queue.lost += results(lost);
    }

    fn find(&mut self, found: &[(u32, RowKey)]) {
        let Some(kept) = self.kept.as_mut().filter(|_| !found.is_empty()) else { return };
        let found: Vec<_> = found.iter().filter_map(|(number, key)| kept.in_doubt.find(*number, *key)).collect();
        if let Err(error) = kept.run.note(&found) {
            let failure = Arc::new(Error::io(&kept.run.path, "write", error));
            self.shared.lock().failure.get_or_insert(failure);
        }
    }

    fn note(&mut self, mut notes: Vec<Noted>) {
        if notes.is_empty() {
            return;
        }
        let mut result = match self.shared.failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        };
        if let (Ok(()), Some(kept)) = (&result, &mut self.kept) {
            let has_line = |key| kept.old.contains_key(key) && !kept.replaced.contains(key);
            let all = notes.iter_mut().flat_map(|(some, _)| std::mem::take(some));
            let (mut started, line_bytes): (Vec<Started>, Vec<u64>) =
                all.map(|Starting { started, line_bytes }| (started, line_bytes)).unzip();
            started.iter_mut().for_each(|one| one.has_line = has_line(&one.key));
            let of_new = started.iter().zip(&line_bytes).filter(|(one, _)| !one.repeat.is_allowed());
            let new: u64 = of_new.map(|(_, bytes)| (*bytes).max(BRIEF_LINE_BYTES)).sum();
            let room = if new > 0 { kept.in_doubt.line_bytes() + new + BLOCK_BYTES } else { 0 };
            // Room for their lines first: what is noted may start.
            match kept.run.keep_room(&started, room).and_then(|()| kept.run.note(&started)) {
                Ok(()) => {
                    let noted = started.into_iter().zip(line_bytes);
                    noted.for_each(|(one, bytes)| kept.in_doubt.add(one, bytes));
                }
                Err(error) => {
                    // Nothing starts any more; what is under way has its place in the results for as long as that can
                    // be.
                    let failure = Arc::new(Error::io(&kept.run.path, "write", error));
                    self.shared.lock().failure = Some(failure.clone());
                    result = Err(failure);
                }
            }
        }
        for (_, sender) in notes {
            // A call that has stopped waiting does not start either.
            let _ = sender.send(result.clone());
        }
    }

    fn wake(&self) {
        let waiting = {
            let mut queue = self.shared.lock();
            // Before waking: a waiter that looked first would find no room, and would not be woken again.
            queue.writing = 0;
            std::mem::take(&mut queue.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn is_drained(&self) -> bool {
        let queue = self.shared.lock();
        queue.bytes.is_empty() && queue.notes.is_empty() && queue.found.is_empty()
    }

    fn finish(mut self) -> Closed {
        let finish = std::mem::take(&mut self.shared.lock().finish);
        self.look();
        let (mut pruned, mut pruned_again) = (OutcomeCounts::default(), RerunCounts::default());
        let (mut stayed, mut stayed_again) = (OutcomeCounts::default(), RerunCounts::default());
        if let Some(kept) = &self.kept {
            let retold = if self.shared.failure().is_none() { kept.retold(&finish) } else { Retold::default() };
            kept.staying().for_each(|(key, old)| {
                let since = retold.get(key);
                stayed.add(since.map_or(old.outcome, |since| since.outcome(old.outcome)));
                stayed_again.add(since.map_or(old.again, |since| since.again(old.outcome, old.is_passing)));
            });
        }
        if self.kept.is_some() && self.shared.failure().is_none() {
            match self.settle(finish) {
                Ok(taken_out) => (pruned, pruned_again) = taken_out,
                Err(error) => self.shared.lock().failure = Some(Arc::new(error)),
            }
        }
        if self.room == Room::Brief {
            // A failure here has nothing to add to what `failure` says anyway.
            let _ = step("results: sync what is brief").and_then(|()| self.file.sync_data());
        }
        let queue = self.shared.lock();
        let failure = queue.failure.clone();
        Closed { lines: queue.lines, lost: queue.lost, stayed, stayed_again, pruned, pruned_again, failure }
    }

    /// Makes durable what is there, brings it into its last form, and says that it is closed if nothing is in doubt.
    fn settle(&mut self, finish: Finish) -> Result<(OutcomeCounts, RerunCounts), Error> {
        // Once: a second sync may report success for data that is gone (Rebello et al., ATC 2020).
        let synced = step("results: sync at the end").and_then(|()| self.file.sync_data());
        synced.map_err(|error| Error::io(&self.name, "sync", error))?;
        let is_complete = finish.is_complete;
        let pruned = self.tidy(finish)?;
        let Some(kept) = &mut self.kept else { return Ok(pruned) };
        // After the lines that make it complete are durable.
        let header = Header { is_unsure: kept.run.header.is_unsure && !is_complete, ..kept.run.header };
        kept.run.set_header(header).map_err(|error| Error::io(&kept.run.path, "write", error))?;
        if !kept.in_doubt.is_empty() || kept.run.header.is_unsure {
            return Ok(pruned);
        }
        // Nothing is in doubt, and all lines are on the disk: from here on the results need no run file.
        let length = self.file.metadata().map_err(|error| Error::io(&self.name, "read", error))?.len();
        if length <= kept.mark.length() as u64 {
            let cut = || {
                step("results: take away the beginning")?;
                self.file.set_len(0)?;
                step("results: sync that it is empty")?;
                self.file.sync_data()
            };
            cut().map_err(|error| Error::io(&self.name, "cut", error))?;
        } else {
            let close = || {
                step("results: say that it is closed")?;
                self.file.write_all_at(b"0", Mark::OPEN_AT)?;
                step("results: sync that it is closed")?;
                self.file.sync_data()
            };
            if let Err(error) = close() {
                // The run file stays, so the file is not closed: it must not say so, or a copy of it would.
                let _ = self.file.write_all_at(b"1", Mark::OPEN_AT);
                return Err(Error::io(&self.name, "sync", error));
            }
        }
        // After the results say that they are closed: open results without a run file are what a copy looks like.
        let kept = self.kept.take().expect("it was here a moment ago");
        // One that stays behind is found empty of doubts by the next run.
        let _ = step("run file: remove").and_then(|()| kept.run.remove());
        Ok(pruned)
    }

    /// Takes lines out and puts the rest in order, as far as that is wanted.
    fn tidy(&mut self, finish: Finish) -> Result<(OutcomeCounts, RerunCounts), Error> {
        let mut taken_out = (OutcomeCounts::default(), RerunCounts::default());
        let retold = self.kept.as_ref().map(|kept| kept.retold(&finish)).unwrap_or_default();
        let Finish { mut left_over, sort, .. } = finish;
        let is_untidy =
            |kept: &Kept| sort.is_some() || left_over.count() > 0 || !kept.replaced.is_empty() || !retold.is_empty();
        let Some(kept) = &mut self.kept else { return Ok(taken_out) };
        // Of lines that are taken out nothing would be left to tell.
        let told = if left_over.count() == 0 { kept.told_by_lines(&retold) } else { Vec::new() };
        if !is_untidy(kept) {
            told.into_iter().for_each(|key| kept.in_doubt.line_tells(key));
            return Ok(taken_out);
        }
        let mut replaced = std::mem::take(&mut kept.replaced);
        if !replaced.is_empty() {
            // Notes of rows that had a line look for a second one, which will be the only one.
            let in_doubt = kept.in_doubt.all();
            let length = self.end.unwrap_or(0);
            let noted = kept.run.rewrite(Header { length, ..kept.run.header }, &in_doubt);
            noted.map_err(|error| Error::io(&kept.run.path, "write", error))?;
        }
        let old = Old { name: &self.name, path: &kept.path, file: &self.file, mark: kept.mark, retold: &retold };
        let mut goes = |head: &Head<'_>| {
            // Of two lines the first is the old one.
            if replaced.remove(&head.key) {
                return true;
            }
            let goes = left_over.takes(head);
            if goes {
                taken_out.0.add(head.outcome);
                taken_out.1.add(RerunMode::of_line(head));
            }
            goes
        };
        let fresh = match sort {
            Some(order) => old.sorted(&mut goes, order)?,
            None => Some(old.without(&mut goes)?),
        };
        if let Some(fresh) = fresh {
            // The run file knows the new inode before the rename, so that a kill between the two leaves a pair.
            let header = expecting(kept.run.header, &fresh).and_then(|header| kept.run.set_header(header));
            header.map_err(|error| Error::io(&kept.run.path, "write", error))?;
            self.file = old.replace(fresh, &mut kept.run)?;
        }
        // Only now that they are on the disk.
        told.into_iter().for_each(|key| kept.in_doubt.line_tells(key));
        Ok(taken_out)
    }
}

/// The line that begins like this, perhaps without its brace, so that many of its kind have room: without its body,
/// and if it is long for its prefix alone.
fn brief(line: &[u8]) -> Vec<u8> {
    let mut brief = line.to_vec();
    if !brief.starts_with(b"{") {
        brief.insert(0, b'{');
    }
    if brief.len() > BRIEF_LINE_BYTES as usize - BODY_LOST.len() {
        let rest = scan_start(&brief).map_or(0, |(_, rest)| rest.len() + b",".len());
        brief.truncate(brief.len() - rest);
    }
    brief.extend_from_slice(BODY_LOST);
    brief
}

/// What is about to start, to be noted.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) started: Started,
    /// How many bytes its line may take where there is no room for more than what decides about its row.
    line_bytes: u64,
}

impl Starting {
    /// As [`Started::new`].
    pub(crate) fn new(key: RowKey, id: Option<&str>, fingerprint: u64, repeat: Repeat) -> Self {
        Self { started: Started::new(key, id, fingerprint, repeat), line_bytes: line_bytes(key, id) }
    }
}

type Noted = (Vec<Starting>, oneshot::Sender<Result<(), Arc<Error>>>);

/// What may wait to be written: some thousand small outcomes, or one large body and what came before it. More would
/// only turn into memory while the disk syncs.
const MOST_BYTES: usize = 3 << 20;
/// Short enough that a user who watches the file does not notice, long enough to spare a busy run most of its system
/// calls.
const GATHER: Duration = Duration::from_millis(5);
const GROUP_BYTES: usize = 64 << 10;
/// Files grow by blocks.
const BLOCK_BYTES: u64 = 8 << 10;
/// Room that a buffer keeps: a group, and what comes up while one is written.
const KEPT_BYTES: usize = 4 * GROUP_BYTES;
/// About as long as the line of an outcome without a body.
const SHORT_LINE_BYTES: usize = 256;
/// Power loss costs at most the outcomes of so long; each sync costs the disk a few milliseconds.
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, Next};

    #[test]
    fn what_piles_up_while_the_disk_syncs_takes_its_room_once_and_gives_it_back() {
        let fields = Fields::default();
        let record = Record {
            key: RowKey { row: 1, page: 0 },
            id: "an id",
            fingerprint: 7,
            outcome: OutcomeKind::Ok,
            effect: Effect::Done,
            repeatable: true,
            idempotency_key: None,
            next: Next::Unknown,
            begun_to: 0,
            fields: &fields,
            body: &fields,
        };
        let shared = Shared::new(false);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            while shared.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready() {
                shared.append(&record);
            }
            shared.take(&mut bytes, &mut ends);
            assert!(bytes.len() >= MOST_BYTES && bytes.capacity() < MOST_BYTES + KEPT_BYTES, "{}", bytes.capacity());
            let mut queue = shared.lock();
            assert!(queue.bytes.capacity() <= KEPT_BYTES && queue.ends.capacity() <= KEPT_BYTES / SHORT_LINE_BYTES);
            queue.writing = 0;
        }
    }
}
