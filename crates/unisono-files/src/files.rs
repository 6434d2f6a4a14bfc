//! Digests of files, from the reactor's side.

use std::{io, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream::iter};
use unisono_batch::{BlockingPool, Context};
use unisono_hash::Kernel;

use crate::{
    Error,
    request::{DigestRequest, Digested, FilesOptions, Known, OnBytes},
    split::Split,
    stream,
    worker::{DigestTask, TaskResult, Worker},
};

/// Threads that digest files.
pub struct Files {
    pool: BlockingPool<DigestTask, Result<TaskResult, Error>>,
    /// Parts of one file that are in the queue at a time: each worker has one, and finds another.
    parts: usize,
    /// For what is read here, and not by a thread.
    kernel: Kernel,
    on_bytes: OnBytes,
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
        match self.run_task(DigestTask::Whole(request), context).await? {
            TaskResult::Whole(digested) => Ok(digested),
            // Boxed for the same reason.
            TaskResult::Split(split) => Box::pin(self.digest_parts(split, context)).await,
            TaskResult::Part(_) => unreachable!("a file is no part"),
        }
    }

    async fn digest_parts(&self, split: Arc<Split>, context: &Context) -> Result<Digested, Error> {
        let parts = iter(0..split.parts()).map(|part| self.run_task(DigestTask::Part(split.clone(), part), context));
        let digest = async |answer| match answer {
            TaskResult::Part(digest) => Ok(digest),
            _ => unreachable!("a part has the digest of a part"),
        };
        let digests = parts.buffered(self.parts).and_then(digest).try_collect().await?;
        match self.run_task(DigestTask::Join(split, digests), context).await? {
            TaskResult::Whole(digested) => Ok(digested),
            _ => unreachable!("parts come to a whole"),
        }
    }

    async fn run_task(&self, job: DigestTask, context: &Context) -> Result<TaskResult, Error> {
        self.pool.submit(job, context.hold()).await.unwrap_or_else(|| Err(Error::lost()))
    }

    /// To be polled beside [`Files::digest`]; never ends.
    pub async fn deliver(&self) {
        self.pool.deliver().await
    }
}
