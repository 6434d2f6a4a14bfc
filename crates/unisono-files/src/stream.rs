//! A FIFO that was named: read to its end on the reactor, since a thread that waits for a writer would wait for ever.
//!
//! It is opened without waiting, and read once the system says that there is something: data, or the end that the last
//! writer leaves. Until the first writer comes nothing is said, so it is waited for, as `cat` does; a caller that has
//! enough of that drops the future. Pieces are hashed here: a pipe gives 64 KiB at most at a time, which takes less
//! than the reactor's other business would notice, and between two of them all others have a turn.

use rustix::fs::{FileType, fstat};
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver};
use unisono_hash::{Hasher, Kernel, Lanes, Piece};

use crate::{
    Error, Special, Stat,
    request::{DigestRequest, Digested, OnBytes},
    worker::open_file,
};

/// Digests what comes out of a FIFO.
///
/// # Errors
/// When it cannot be opened or read, or is no FIFO any more.
pub(crate) async fn digest(request: &DigestRequest, kernel: Kernel, on_bytes: &OnBytes) -> Result<Digested, Error> {
    let file = open_file(&request.path, false).map_err(|error| Error::io("cannot be opened", error))?;
    let raw = fstat(&file).map_err(|error| Error::io("cannot be read", error.into()))?;
    match Special::of(FileType::from_raw_mode(raw.st_mode)) {
        Some(Special::Fifo) => {}
        Some(special) => return Err(Error::special(special)),
        None => return Err(Error::changed()),
    }
    let mut stat = Stat::of(&raw);
    stat.size = 0;
    let fail = |error| Error::io("cannot be read", error);
    let mut fifo = Receiver::from_file(file).map_err(fail)?;
    let mut hashers: Vec<Hasher> = request.algorithms.iter().map(|algorithm| Hasher::new(*algorithm)).collect();
    let (mut lanes, mut buffer) = (Lanes::new(kernel), vec![0; PIECE_BYTES]);
    loop {
        // Reads only once there is something, since without a writer there seems to be an end.
        let read = fifo.read(&mut buffer).await.map_err(fail)?;
        for hasher in &mut hashers {
            lanes.update(&mut [Piece { hasher, data: &buffer[..read], last: read == 0 }]);
        }
        stat.size += read as u64;
        on_bytes(read as u64);
        if read == 0 {
            let digests = hashers.iter().map(|hasher| hasher.digest().expect("its last piece has been hashed"));
            return Ok(Digested { digests: digests.collect(), stat });
        }
        tokio::task::yield_now().await;
    }
}

/// What a pipe holds unless it was made larger.
const PIECE_BYTES: usize = 64 << 10;
