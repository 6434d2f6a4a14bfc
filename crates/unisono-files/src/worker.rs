//! A thread that digests files: several in hand at once, one piece of each per round.
//!
//! A round: take as many new files as there are free places, read the next piece of each file into its buffer, feed all
//! pieces to the lanes together, and give back what has come to its end. The buffers of a thread together fit into a
//! core's second-level cache, so that what the kernel copied there is hashed from there.

use std::{
    fs::File,
    io,
    num::NonZeroU64,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use rustix::fs::{Advice, AtFlags, CWD, FileType, OFlags, fadvise, fstat, statat};
use unisono_batch::{BlockingTask, WorkQueue};
use unisono_hash::{Algorithm, Digest, Hasher, Lanes, Piece};

use crate::{
    Error, Special, Stat,
    request::{DigestRequest, Digested, FilesOptions, Known, OnBytes},
    split::Split,
};

type End = Result<TaskResult, Error>;

/// What a thread is asked to do.
pub(crate) enum DigestTask {
    /// A file from its beginning to its end.
    Whole(DigestRequest),
    /// One part of a large one.
    Part(Arc<Split>, u64),
    /// What its parts come to.
    Join(Arc<Split>, Vec<Digest>),
}

/// What came of it.
pub(crate) enum TaskResult {
    Whole(Digested),
    /// It was not read, since its parts are to be.
    Split(Arc<Split>),
    Part(Digest),
}

pub(crate) struct Worker {
    options: FilesOptions,
    lanes: Lanes,
    files: Vec<InHand>,
    /// One piece per file in hand, aligned for direct reads.
    buffers: Buffers,
    /// Hashers of files that have ended, for those that come.
    spare: Vec<Hasher>,
    on_bytes: OnBytes,
}

/// A file, or a part of one, that is being read.
struct InHand {
    task: BlockingTask<DigestTask, End>,
    file: Arc<File>,
    before: Stat,
    /// Where the next piece begins.
    at: u64,
    /// Where it ends, unless that is the end of the file.
    until: Option<u64>,
    /// What the present piece holds.
    filled: usize,
    is_last: bool,
    hashers: Vec<Hasher>,
}

impl Worker {
    pub(crate) fn new(options: FilesOptions, on_bytes: OnBytes) -> Self {
        Self {
            options,
            lanes: Lanes::new(options.kernel),
            files: Vec::with_capacity(PLACES),
            buffers: Buffers::new(),
            spare: Vec::new(),
            on_bytes,
        }
    }

    /// Works until the queue is closed.
    pub(crate) fn work(mut self, queue: &WorkQueue<DigestTask, End>) {
        let (mut tasks, mut done) = (Vec::new(), Vec::new());
        while queue.take(PLACES - self.files.len(), self.files.is_empty(), &mut tasks) {
            for task in tasks.drain(..) {
                self.begin(task, &mut done);
            }
            self.read(queue, &mut done);
            self.hash();
            self.give_back(&mut done);
            if !done.is_empty() {
                queue.give_back(&mut done);
            }
        }
    }

    fn begin(&mut self, task: BlockingTask<DigestTask, End>, done: &mut Vec<(BlockingTask<DigestTask, End>, End)>) {
        let end = match &task.work {
            DigestTask::Whole(request) => match open(request, self.options.direct) {
                Ok((file, before)) if self.is_for_all(&before, request) => {
                    Ok(TaskResult::Split(Arc::new(Split { file: Arc::new(file), before })))
                }
                Ok((file, before)) => {
                    let spare = &mut self.spare;
                    let hashers = request.algorithms.iter().map(|algorithm| hasher(spare, *algorithm)).collect();
                    return self.take_in(task, Arc::new(file), before, (0, None), hashers);
                }
                Err(error) => Err(error),
            },
            DigestTask::Part(split, part) => {
                let (file, before, range) = (split.file.clone(), split.before, split.range(*part));
                if !self.options.direct {
                    // Several parts are read in turns, which does not look like reading in order.
                    let length = range.1.unwrap_or(before.size).saturating_sub(range.0);
                    let _ = fadvise(&*file, range.0, NonZeroU64::new(length), Advice::WillNeed);
                }
                return self.take_in(task, file, before, range, vec![Hasher::blake3_part(range.0)]);
            }
            DigestTask::Join(split, digests) => split.join(digests).map(TaskResult::Whole),
        };
        done.push((task, end));
    }

    /// Whether other threads are to help with a file.
    fn is_for_all(&self, stat: &Stat, request: &DigestRequest) -> bool {
        self.options.threads > 1 && Split::is_worthwhile(stat.size, &request.algorithms)
    }

    fn take_in(
        &mut self,
        task: BlockingTask<DigestTask, End>,
        file: Arc<File>,
        before: Stat,
        (at, until): (u64, Option<u64>),
        hashers: Vec<Hasher>,
    ) {
        self.files.push(InHand { task, file, before, at, until, filled: 0, is_last: false, hashers });
    }

    /// Reads the next piece of each file. What cannot be read, or is not wanted any more, is done.
    fn read(&mut self, queue: &WorkQueue<DigestTask, End>, done: &mut Vec<(BlockingTask<DigestTask, End>, End)>) {
        let (mut place, mut bytes) = (0, 0);
        while let Some(file) = self.files.get_mut(place) {
            let error = match queue.is_stopped(&file.task) {
                true => Some(Error::stopped()),
                false => file.read(self.buffers.get(place)).err(),
            };
            match error {
                None => {
                    bytes += file.filled as u64;
                    place += 1;
                }
                Some(error) => {
                    // The last file takes its place, and has not been read in this round.
                    let file = self.files.swap_remove(place);
                    self.retire(file, Err(error), done);
                }
            }
        }
        (self.on_bytes)(bytes);
    }

    fn hash(&mut self) {
        for algorithm in Algorithm::ALL {
            let pieces = self.files.iter_mut().zip(self.buffers.all()).flat_map(|(file, buffer)| {
                let (data, last) = (&buffer[..file.filled], file.is_last);
                let hashers = file.hashers.iter_mut().filter(|hasher| hasher.algorithm() == algorithm);
                hashers.map(move |hasher| Piece { hasher, data, last })
            });
            let mut pieces: Vec<Piece<'_>> = pieces.collect();
            if !pieces.is_empty() {
                self.lanes.update(&mut pieces);
            }
        }
    }

    fn give_back(&mut self, done: &mut Vec<(BlockingTask<DigestTask, End>, End)>) {
        let mut place = 0;
        while let Some(file) = self.files.get(place) {
            if !file.is_last {
                place += 1;
                continue;
            }
            let file = self.files.swap_remove(place);
            let end = file.end();
            self.retire(file, end, done);
        }
    }

    fn retire(&mut self, file: InHand, end: End, done: &mut Vec<(BlockingTask<DigestTask, End>, End)>) {
        let room = MOST_SPARE.saturating_sub(self.spare.len());
        self.spare.extend(file.hashers.into_iter().take(room));
        done.push((file.task, end));
    }
}

impl InHand {
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let left = self.until.map_or(u64::MAX, |until| until - self.at);
        let buffer = &mut buffer[..PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        self.filled = loop {
            match self.file.read_at(buffer, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| Error::io("cannot be read", error))?,
            }
        };
        self.at += self.filled as u64;
        // A part that ends too early is of a file that has been cut short; where it is the last part, or a file, its
        // size afterwards tells.
        if self.filled == 0 && (self.until.is_some() || self.at < self.before.size) && !self.has_less_than_its_size()? {
            return Err(Error::changed());
        }
        // A file that has grown by then is told by its size afterwards. Files whose size is 0 may have content
        // nevertheless, as those in /proc have: only their end says that it is the end.
        let size = Some(self.before.size).filter(|size| *size > 0);
        self.is_last = self.filled == 0 || self.until.or(size).is_some_and(|end| self.at >= end);
        Ok(())
    }

    /// Whether the file is still what it was, and ends here all the same: files of /sys say that they have a page.
    fn has_less_than_its_size(&self) -> Result<bool, Error> {
        if self.until.is_some() || matches!(self.task.work, DigestTask::Part(..)) {
            return Ok(false);
        }
        self.before.is_still(&self.file)?;
        // One that had been cut short, and is as long as before by now, has something to read here.
        Ok(self.file.read_at(&mut [0; PAGE_BYTES], self.at).is_ok_and(|read| read == 0))
    }

    fn end(&self) -> End {
        let mut digests = self.hashers.iter().map(|hasher| hasher.digest().expect("its last piece has been hashed"));
        if let DigestTask::Part(..) = self.task.work {
            return Ok(TaskResult::Part(digests.next().expect("a part has a hasher")));
        }
        self.before.is_still(&self.file)?;
        if self.before.size > 0 && self.at > self.before.size {
            return Err(Error::changed());
        }
        // What has been read counts: files of /proc and block devices say that they are empty.
        let stat = Stat { size: self.at, ..self.before };
        Ok(TaskResult::Whole(Digested { digests: digests.collect(), stat }))
    }
}

/// Opens a regular file, or a block device that is known to be one; anything else is not even opened, since opening a
/// device can have effects.
fn open(request: &DigestRequest, direct: bool) -> Result<(File, Stat), Error> {
    let path = &*request.path;
    if request.known == Known::Nothing {
        let found = statat(CWD, path, AtFlags::empty()).map_err(|error| Error::io("cannot be opened", error.into()))?;
        if let Some(special) = Special::of(FileType::from_raw_mode(found.st_mode)) {
            return Err(Error::special(special));
        }
    }
    let file = open_file(path, direct).map_err(|error| Error::io("cannot be opened", error))?;
    let raw = fstat(&file).map_err(|error| Error::io("cannot be read", error.into()))?;
    match Special::of(FileType::from_raw_mode(raw.st_mode)) {
        Some(Special::BlockDevice) if request.known == Known::BlockDevice => {}
        Some(special) => return Err(Error::special(special)),
        None => {}
    }
    let stat = Stat::of(&raw);
    if stat.size > PIECE_BYTES as u64 && !direct {
        // All of it will be read, once, in order. That the file system does not take advice is no failure.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        let _ = fadvise(&file, 0, NonZeroU64::new(READ_AHEAD_BYTES.min(stat.size)), Advice::WillNeed);
    }
    Ok((file, stat))
}

/// Never waits for the other end of a FIFO that took the file's place, and never makes a terminal ours.
pub(crate) fn open_file(path: &Path, direct: bool) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |flags: OFlags| {
        let flags = i32::try_from(flags.bits()).expect("the flags are an int in C");
        File::options().read(true).custom_flags(flags).open(path)
    };
    if direct {
        match open(flags | OFlags::DIRECT) {
            // This file system cannot.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            opened => return opened,
        }
    }
    open(flags)
}

fn hasher(spare: &mut Vec<Hasher>, algorithm: Algorithm) -> Hasher {
    match spare.iter().rposition(|hasher| hasher.algorithm() == algorithm) {
        Some(at) => {
            let mut hasher = spare.swap_remove(at);
            hasher.reset();
            hasher
        }
        None => Hasher::new(algorithm),
    }
}

/// A piece for each place, on page boundaries.
struct Buffers {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffers {
    fn new() -> Self {
        let bytes = vec![0; PLACES * PIECE_BYTES + PAGE_BYTES];
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        Self { bytes, start }
    }

    fn get(&mut self, place: usize) -> &mut [u8] {
        &mut self.bytes[self.start + place * PIECE_BYTES..][..PIECE_BYTES]
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[self.start..].chunks_exact(PIECE_BYTES)
    }
}

/// Files in hand at once: two rounds of the widest kernel's lanes.
const PLACES: usize = 32;
/// 32 of these are a mebibyte, what a core's second-level cache holds.
const PIECE_BYTES: usize = 32 << 10;
const PAGE_BYTES: usize = 4096;
/// Hashers that are kept for the files to come; one of BLAKE3 is two kilobytes.
const MOST_SPARE: usize = 64;
/// Asked for when a file is opened, so that the disk works on all files in hand at once.
const READ_AHEAD_BYTES: u64 = 1 << 20;
