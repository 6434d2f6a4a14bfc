//! Bytes into a pipe or a device: whole, one row after the other, and never in its place.
//!
//! A pipe is opened once and stays open to the end of the run, so that its reader gets what all rows bring and then the
//! end. The first reader is waited for, as a shell does, until the attempt is over. One that has left is not: the rows
//! after it fail at once, unless there is another by then. What was passed on is with its reader and cannot be taken
//! back, so a failure half way is not repeated.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek},
    path::Path,
    sync::Arc,
};

use tokio::{io::AsyncWriteExt, net::unix::pipe, sync::Mutex};
use unisono_core::reactor::spawn_blocking;

use crate::fifo;

/// A pipe or a device. Locked by the row whose bytes go into it.
pub(super) type StreamLock = Arc<Mutex<PipeReader>>;

/// The reader of a pipe, as far as is known.
#[derive(Debug, Default)]
pub(super) enum PipeReader {
    /// None has been seen.
    #[default]
    Unseen,
    /// It has the pipe open.
    There(pipe::Sender),
    /// It has closed the pipe.
    Left,
}

/// Passes on all of a file, when it is its turn.
pub(super) async fn pass_on(stream: StreamLock, file: &File, path: &Path, is_pipe: bool) -> io::Result<()> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let mut turn = stream.lock().await;
    if is_pipe {
        // Left until all is passed on: what is dropped half way has given its reader a part of it.
        let mut sender = match std::mem::replace(&mut *turn, PipeReader::Left) {
            PipeReader::There(sender) => sender,
            PipeReader::Left => fifo::open_at_once(path)?,
            PipeReader::Unseen => {
                // A stop may end the wait, and then none has been seen still.
                *turn = PipeReader::Unseen;
                let sender = fifo::open(path).await?;
                *turn = PipeReader::Left;
                sender
            }
        };
        copy(file, &mut sender).await?;
        *turn = PipeReader::There(sender);
        return Ok(());
    }
    let path = path.to_owned();
    let copy = move || {
        let mut device = OpenOptions::new().write(true).open(path)?;
        io::copy(&mut file, &mut device).map(drop)
    };
    spawn_blocking(copy).await.flatten()
}

async fn copy(mut file: File, sender: &mut pipe::Sender) -> io::Result<()> {
    loop {
        let read = spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            Ok::<_, io::Error>((file, piece))
        });
        let (back, piece) = read.await.flatten()?;
        if piece.is_empty() {
            return Ok(());
        }
        sender.write_all(&piece).await?;
        file = back;
    }
}

const PIECE_BYTES: usize = 256 << 10;
