//! A file so large that all threads work on it: BLAKE3 alone, since every other digest is one long chain.
//!
//! A thread that opens such a file hands it back, and the reactor's side puts its parts into the queue, a few at a
//! time, so that other files have their turn. Each part is read and digested as a file is; the last step joins their
//! digests, and asks whether the file is still what it was.

use std::{fs::File, sync::Arc};

use rustix::fs::fstat;
use unisono_hash::{Algorithm, Digest, join_blake3};

use crate::{Error, Stat, request::Digested};

/// An open file that is read in parts.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) file: Arc<File>,
    pub(crate) before: Stat,
}

impl Split {
    /// Whether a file of this size is worth it.
    pub(crate) fn is_worthwhile(size: u64, algorithms: &[Algorithm]) -> bool {
        size >= 4 * PART_BYTES && algorithms == [Algorithm::Blake3]
    }

    pub(crate) fn parts(&self) -> u64 {
        self.before.size.div_ceil(PART_BYTES)
    }

    /// Where a part begins, and where it ends: the last one with the file.
    pub(crate) fn range(&self, part: u64) -> (u64, Option<u64>) {
        let start = part * PART_BYTES;
        (start, (part + 1 < self.parts()).then_some(start + PART_BYTES))
    }

    /// The digest of the file, from those of its parts.
    ///
    /// # Errors
    /// When it is not any more what it was before they were read.
    pub(crate) fn join(&self, parts: &[Digest]) -> Result<Digested, Error> {
        self.before.is_still(&self.file)?;
        Ok(Digested { digests: vec![join_blake3(parts)], stat: self.before })
    }
}

impl Stat {
    /// # Errors
    /// When the file has changed since.
    pub(crate) fn is_still(&self, file: &File) -> Result<(), Error> {
        let now = fstat(file).map_err(|error| Error::io("cannot be read", error.into()))?;
        if Stat::of(&now) == *self { Ok(()) } else { Err(Error::changed()) }
    }
}

/// A power of two of BLAKE3's chunks, and long enough (a millisecond and more) that handing it out costs nothing.
const PART_BYTES: u64 = 8 << 20;
