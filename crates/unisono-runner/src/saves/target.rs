//! Where a row's bytes go, once the name is its own.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unisono_core::reactor::spawn_blocking;
use unisono_http::BodyVersion;

use super::{
    log::Log,
    names::{Resolved, Seen, hash},
    part::{Part, lock, numbered},
    paths::folder,
    stream::{self, StreamLock},
};

/// What the names of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) log: Option<Log>,
    /// What later runs on the same results know of this one, by which they find the parts that it leaves; `None` where
    /// there are no results to go on with.
    pub(super) seed: Option<u64>,
    /// There may have been a run before this one on the same results.
    pub(super) goes_on: bool,
    pub(super) overwrite: bool,
    spool: PathBuf,
    /// Files that this run has put in place, by device and inode, and the key of their name.
    placed: Mutex<HashMap<(u64, u64), u64>>,
    /// Folders in which nothing of killed runs is left.
    swept: Mutex<HashSet<PathBuf>>,
    /// Pipes and devices: each is one row's at a time.
    streams: Mutex<HashMap<u64, StreamLock>>,
    /// Parts that wait open for the next attempt of their rows.
    waiting: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(log: Option<Log>, seed: Option<u64>, goes_on: bool, overwrite: bool, spool: PathBuf) -> Self {
        Self {
            log,
            seed,
            goes_on,
            overwrite,
            spool,
            placed: Mutex::default(),
            swept: Mutex::default(),
            streams: Mutex::default(),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }
}

/// A file that a row has put in place before now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedFile {
    /// Which of the names it is that the row asks for, from 0.
    pub(crate) place: usize,
    /// The name, as the user has it.
    pub(crate) name: PathBuf,
    /// In bytes.
    pub(crate) length: u64,
}

/// A name that a row may write to.
#[derive(Debug, Clone)]
pub(crate) struct Target(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As the user has it.
    name: PathBuf,
    /// Where that leads to.
    path: PathBuf,
    key: u64,
    fingerprint: u64,
    kind: TargetKind,
    /// What stands there was put there for this row.
    is_ours: AtomicBool,
    /// What an attempt has left of a body, without a name.
    waiting: Mutex<Option<Waiting>>,
    /// An attempt, or a run before, may have left some of a body under the part's name.
    may_be_left: AtomicBool,
    shared: Arc<Shared>,
}

/// A part without a name that waits for the next attempt of its row.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) part: Part,
    pub(super) version: BodyVersion,
    /// Given back with the descriptor.
    #[expect(dead_code, reason = "it is held for as long as the part is")]
    pub(super) place: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetKind {
    File {
        /// It cannot be had again.
        is_precious: bool,
    },
    Stream {
        is_pipe: bool,
    },
}

impl Target {
    pub(super) fn new(
        name: PathBuf,
        resolved: Resolved,
        fingerprint: u64,
        kind: TargetKind,
        is_ours: bool,
        shared: Arc<Shared>,
    ) -> Self {
        let (path, key, is_ours) = (resolved.path, resolved.key, AtomicBool::new(is_ours));
        let (waiting, may_be_left) = (Mutex::default(), AtomicBool::new(shared.goes_on));
        Self(Arc::new(Inner { name, path, key, fingerprint, kind, is_ours, waiting, may_be_left, shared }))
    }

    /// The name, as the user has it.
    pub(crate) fn name(&self) -> &Path {
        &self.0.name
    }

    /// Fills a new part on a thread that may wait.
    pub(crate) async fn fill(
        &self,
        fill: impl FnOnce(&mut Part) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Part> {
        let target = self.clone();
        let work = move || {
            let mut part = target.new_part()?;
            fill(&mut part)?;
            Ok(part)
        };
        spawn_blocking(work).await.flatten()
    }

    /// A part with nothing in it. May wait.
    pub(super) fn new_part(&self) -> io::Result<Part> {
        let Inner { kind, path, shared, .. } = &*self.0;
        match kind {
            TargetKind::File { .. } => Part::beside(path, &shared.swept),
            TargetKind::Stream { .. } => Part::spooled(&shared.spool),
        }
    }

    /// Whether what comes is put into a file, so that it can be gone on with when it breaks off.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.0.kind, TargetKind::File { .. })
    }

    /// The name under which a part waits for a later run on the same results: nothing else leads to it, and what asks
    /// for something else has another one.
    pub(super) fn part_path(&self) -> Option<PathBuf> {
        let Inner { key, fingerprint, path, shared, .. } = &*self.0;
        let number = hash(&[], &[shared.seed.filter(|_| self.is_file())?, *key, *fingerprint]);
        Some(numbered(folder(path), number))
    }

    pub(super) fn may_be_left(&self) -> bool {
        self.0.may_be_left.load(Relaxed)
    }

    /// Something is there now under the part's name.
    pub(super) fn is_left_now(&self) {
        self.0.may_be_left.store(true, Relaxed);
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        lock(&self.0.waiting)
    }

    pub(super) fn place_to_wait(&self) -> Option<OwnedSemaphorePermit> {
        self.0.shared.waiting.clone().try_acquire_owned().ok()
    }

    /// Gets a part ready, so that [`Filled::place`] has nothing more to wait for. Streams have their bytes then.
    pub(crate) async fn finish(&self, part: Part) -> io::Result<Filled> {
        let target = self.0.clone();
        match target.kind {
            TargetKind::File { is_precious } => {
                let work = move || {
                    // Sync before rename: after a power failure the name must not lead to an empty file.
                    if is_precious {
                        part.sync()?;
                    }
                    let seen = part.seen()?;
                    if let Some(log) = &target.shared.log {
                        // Mark before name: a mark without a file does no harm, and a file without a mark would be
                        // refused to its own row after a crash.
                        log.add(seen.mark(target.key, target.fingerprint))?;
                    }
                    Ok(Filled { target, part, seen: Some(seen) })
                };
                spawn_blocking(work).await.flatten()
            }
            TargetKind::Stream { is_pipe } => {
                let stream = lock(&target.shared.streams).entry(target.key).or_default().clone();
                stream::pass_on(stream, part.file(), &target.path, is_pipe).await?;
                Ok(Filled { target, part, seen: None })
            }
        }
    }

    /// What stands there that was put there for this row, in this attempt or before; `place` as in [`SavedFile`].
    pub(crate) fn own(&self, place: usize) -> Option<SavedFile> {
        let Inner { name, kind, is_ours, path, .. } = &*self.0;
        if !matches!(kind, TargetKind::File { .. }) || !is_ours.load(Relaxed) {
            return None;
        }
        let there = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(SavedFile { place, name: name.clone(), length: there.len() })
    }

    /// Takes away what an earlier attempt of this row has put there.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let Inner { kind, is_ours, path, .. } = &*self.0;
        if matches!(kind, TargetKind::File { .. }) && is_ours.swap(false, Relaxed) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A file that is whole, and lacks nothing but its name.
pub(crate) struct Filled {
    target: Arc<Inner>,
    part: Part,
    /// `None` where the bytes have gone into a stream.
    seen: Option<Seen>,
}

impl Filled {
    /// Gives it its name. Returns its length.
    ///
    /// # Errors
    /// When something stands there by now that may not be replaced.
    pub(crate) fn place(mut self) -> io::Result<u64> {
        let Some(seen) = self.seen else { return Ok(self.part.length) };
        let Inner { path, is_ours, shared, key, .. } = &*self.target;
        for _ in 0..MOST_TRIES {
            let there = match std::fs::symlink_metadata(path) {
                Ok(metadata) => Some(metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let placed = match there {
                None => self.part.place(path),
                Some(there) if !there.is_file() => return Err(meanwhile("something else than a file")),
                Some(there) => {
                    let there = Seen::new(&there);
                    let number = (there.device, there.inode);
                    if lock(&shared.placed).get(&number).is_some_and(|other| other != key) {
                        return Err(meanwhile("another row's file, whose name differs only for us,"));
                    }
                    if !is_ours.load(Relaxed) && !shared.overwrite {
                        return Err(meanwhile("another file"));
                    }
                    lock(&shared.placed).remove(&number);
                    self.part.replace(path, there.permissions)
                }
            };
            match placed {
                // It has come between the two calls: looked at again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                placed => placed?,
            }
            is_ours.store(true, Relaxed);
            lock(&shared.placed).insert((seen.device, seen.inode), *key);
            return Ok(self.part.length);
        }
        Err(meanwhile("other files, again and again,"))
    }
}

/// Why a name cannot be given that was free when its row was taken in.
fn meanwhile(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("{what} was put there meanwhile, and is left alone"))
}

const MOST_TRIES: usize = 16;
/// A descriptor each, for rows that hold no place among those that run.
const MOST_WAITING: usize = 128;
