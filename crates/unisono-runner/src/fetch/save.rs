//! Bodies streamed to files: into a temporary file beside the target, which takes its name when it is whole.
//!
//! Files are written on threads of the runtime's blocking pool, a quarter of a mebibyte at a time.

use std::{
    cell::RefCell,
    collections::HashSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use unisono_core::ErrorKind;
use unisono_http::{Error, Streaming};
use xxhash_rust::xxh3::xxh3_64;

/// Keeps two rows from saving to the same file.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    /// Hashes of the paths that were written in this run.
    written: RefCell<HashSet<u64>>,
}

impl Saver {
    /// Streams a body to a file; answers how many bytes it has.
    pub(crate) async fn save(&self, streaming: &mut Streaming, path: &Path) -> Result<u64, Error> {
        let hash = xxh3_64(path.as_os_str().as_encoded_bytes());
        if self.written.borrow().contains(&hash) {
            let message = "another row was saved to the same file";
            return Err(Error::new(ErrorKind::Save, message).retryable(false).with_source(path.display().to_string()));
        }
        let mut part: Option<NamedTempFile> = None;
        let mut buffer = Vec::new();
        let mut total = 0;
        while let Some(chunk) = streaming.chunk().await? {
            total += chunk.len() as u64;
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= PIECE {
                let piece = std::mem::take(&mut buffer);
                let (target, file) = (path.to_owned(), part.take());
                part = Some(detached(path, move || write(file, &target, &piece)).await?);
            }
        }
        let target = path.to_owned();
        detached(path, move || write(part, &target, &buffer)?.persist(&target).map(drop).map_err(|error| error.error))
            .await?;
        self.written.borrow_mut().insert(hash);
        Ok(total)
    }
}

fn write(file: Option<NamedTempFile>, target: &Path, piece: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = match file {
        Some(file) => file,
        None => {
            let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            tempfile::Builder::new().prefix(".unisono-").suffix(".part").tempfile_in(folder)?
        }
    };
    file.write_all(piece)?;
    Ok(file)
}

async fn detached<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let failed = |error: io::Error| {
        let named = PathBuf::from(path);
        Error::new(ErrorKind::Save, format!("cannot write to `{}`", named.parent().unwrap_or(&named).display()))
            .retryable(false)
            .with_source(error)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
}

const PIECE: usize = 256 << 10;
