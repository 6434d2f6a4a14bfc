//! Digests of files, from the reactor's side.

use std::{io, path::Path, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream::iter};
use unisono_batch::{BlockingPool, Context};
use unisono_hash::{Algorithm, Digest, Kernel};

use crate::{Error, Stat, split::Split, stream, worker::Worker};

/// Threads that digest files.
pub struct Files {
    pool: BlockingPool<FileTask, Result<TaskResult, Error>>,
    /// Parts of one file that are in the queue at a time: each worker has one, and finds another.
    parts: usize,
    /// For what is read here, and not by a thread.
    kernel: Kernel,
    on_bytes: OnBytes,
}

/// What a thread is asked to do.
pub(crate) enum FileTask {
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

/// Told of bytes as they are read, from any thread.
pub(crate) type OnBytes = Arc<dyn Fn(u64) + Send + Sync>;

/// How files are read and digested.
#[derive(Debug, Clone, Copy)]
pub struct FilesOptions {
    /// How many threads; each has several files in hand.
    pub threads: usize,
    /// Which instructions SHA-256 uses.
    pub kernel: Kernel,
    /// Read past the page cache where the file system can.
    pub direct: bool,
}

impl Default for FilesOptions {
    /// A thread per core.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, kernel: Kernel::best(), direct: false }
    }
}

/// A file to digest.
#[derive(Debug, Clone)]
pub struct DigestRequest {
    /// Where it is.
    pub path: Arc<Path>,
    /// Which digests are wanted; all in one pass over the data.
    pub algorithms: Arc<[Algorithm]>,
    /// What it was a moment ago.
    pub known: Known,
}

/// What is known of a file before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known {
    /// Nothing: it is looked at first, and only a regular file is opened, since opening a device can have effects.
    #[default]
    Nothing,
    /// It is a regular file.
    Regular,
    /// It is a FIFO, and what comes out of it is wanted: its writer is waited for.
    Fifo,
    /// It is a block device, and all that is on it is wanted.
    BlockDevice,
}

/// The digests of a file, and what the file was when they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// In the order in which they were asked for.
    pub digests: Vec<Digest>,
    /// Unchanged from before the first byte was read until after the last.
    pub stat: Stat,
}

impl Files {
    /// Starts the threads. `on_bytes` is told of bytes as they are read, from these threads.
    ///
    /// # Errors
    /// When not even one can be started.
    pub fn start(options: FilesOptions, on_bytes: impl Fn(u64) + Send + Sync + 'static) -> io::Result<Self> {
        let on_bytes: OnBytes = Arc::new(on_bytes);
        let told = on_bytes.clone();
        let worker = move |queue: &_| Worker::new(options, told.clone()).work(queue);
        let pool = BlockingPool::start(options.threads, "unisono-files", worker)?;
        Ok(Self { pool, parts: 2 * options.threads, kernel: options.kernel, on_bytes })
    }

    /// Digests a file. The slot of `context` is held until a thread is through with it, whatever becomes of this
    /// future.
    ///
    /// # Errors
    /// When it cannot be read, is not what it is known to be, or changes meanwhile.
    pub async fn digest(&self, request: DigestRequest, context: &Context) -> Result<Digested, Error> {
        if request.known == Known::Fifo {
            // Boxed: nearly all files do without, and their futures would be as large.
            return Box::pin(stream::digest(&request, self.kernel, &self.on_bytes)).await;
        }
        match self.run_task(FileTask::Whole(request), context).await? {
            TaskResult::Whole(digested) => Ok(digested),
            // Boxed for the same reason.
            TaskResult::Split(split) => Box::pin(self.digest_parts(split, context)).await,
            TaskResult::Part(_) => unreachable!("a file is no part"),
        }
    }

    async fn digest_parts(&self, split: Arc<Split>, context: &Context) -> Result<Digested, Error> {
        let parts = iter(0..split.parts()).map(|part| self.run_task(FileTask::Part(split.clone(), part), context));
        let digest = async |answer| match answer {
            TaskResult::Part(digest) => Ok(digest),
            _ => unreachable!("a part has the digest of a part"),
        };
        let digests = parts.buffered(self.parts).and_then(digest).try_collect().await?;
        match self.run_task(FileTask::Join(split, digests), context).await? {
            TaskResult::Whole(digested) => Ok(digested),
            _ => unreachable!("parts come to a whole"),
        }
    }

    async fn run_task(&self, job: FileTask, context: &Context) -> Result<TaskResult, Error> {
        self.pool.submit(job, context.hold()).await.unwrap_or_else(|| Err(Error::lost()))
    }

    /// To be polled beside [`Files::digest`]; never ends.
    pub async fn deliver(&self) {
        self.pool.deliver().await
    }
}
