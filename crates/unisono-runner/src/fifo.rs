//! Opens a named pipe to write into it, once it has a reader.
//!
//! The system's own call waits as well, but in a way that nothing ends: a stop would have to wait for the reader too.

use std::{io, os::unix::fs::FileTypeExt, path::Path, time::Duration};

use rustix::io::Errno;
use tokio::{net::unix::pipe, time::sleep};

pub(crate) fn is_fifo(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Waits for a reader, as a shell does. Dropping the future gives up.
pub(crate) async fn open(path: &Path) -> io::Result<pipe::Sender> {
    loop {
        match open_at_once(path) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => sleep(LOOK_AGAIN).await,
            opened => return opened,
        }
    }
}

/// Opens it if it has a reader now.
///
/// # Errors
/// `BrokenPipe` when it has none.
pub(crate) fn open_at_once(path: &Path) -> io::Result<pipe::Sender> {
    pipe::OpenOptions::new().open_sender(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::new(io::ErrorKind::BrokenPipe, "its reader has left"),
        _ => error,
    })
}

/// Nothing tells when a pipe gets its reader.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
