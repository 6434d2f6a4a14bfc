//! What is asked of the threads that digest files, and what they return.

use std::{path::Path, sync::Arc};

use unisono_hash::{Algorithm, Digest, Kernel};

use crate::Stat;

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

/// Told of bytes as they are read, from any thread.
pub(crate) type OnBytes = Arc<dyn Fn(u64) + Send + Sync>;
