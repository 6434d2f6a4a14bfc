//! What a command has printed: in memory up to a mebibyte, and beyond that in a file that has no name.
//!
//! The file is written from the reactor: it is the page cache that takes the bytes, as fast as a pipe gives them.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

/// Which of the two a command prints to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The bytes of one stream, as they came.
#[derive(Debug, Default)]
pub struct Output {
    /// The first [`Output::IN_MEMORY_BYTES`] bytes.
    head: Vec<u8>,
    /// What follows them. It is deleted already, so it goes away with its last descriptor, however we end.
    rest: Option<File>,
    length: u64,
}

impl Output {
    /// How much of a stream is kept in memory.
    pub const IN_MEMORY_BYTES: usize = 1 << 20;

    /// These bytes; `folder` is where the file is made for what is not kept in memory.
    ///
    /// # Errors
    /// Those of the file.
    pub fn of_bytes(bytes: &[u8], folder: &Path) -> io::Result<Self> {
        let mut output = Self::default();
        output.push(bytes, folder)?;
        Ok(output)
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its beginning: all of it, up to [`Output::IN_MEMORY_BYTES`].
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Passes all of it on, in pieces.
    ///
    /// # Errors
    /// Those of the writer, and those of reading the file.
    pub fn copy_to(&self, into: &mut impl Write) -> io::Result<()> {
        into.write_all(&self.head)?;
        let Some(rest) = &self.rest else { return Ok(()) };
        let mut piece = vec![0; 64 << 10];
        let mut at = 0;
        loop {
            let read = rest.read_at(&mut piece, at)?;
            if read == 0 {
                return Ok(());
            }
            into.write_all(&piece[..read])?;
            at += read as u64;
        }
    }

    /// Adds bytes; `folder` is where the file is made.
    pub(crate) fn push(&mut self, bytes: &[u8], folder: &Path) -> io::Result<()> {
        let (fits, beyond) = bytes.split_at(bytes.len().min(Self::IN_MEMORY_BYTES - self.head.len()));
        self.head.extend_from_slice(fits);
        if !beyond.is_empty() {
            let rest = match &mut self.rest {
                Some(rest) => rest,
                none => none.insert(tempfile::tempfile_in(folder)?),
            };
            rest.write_all(beyond)?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_comes_back_whole_and_in_order() {
        let bytes: Vec<u8> = (0..Output::IN_MEMORY_BYTES * 3).map(|at| (at % 251) as u8).collect();
        let mut output = Output::default();
        bytes.chunks(70_001).for_each(|piece| output.push(piece, &std::env::temp_dir()).unwrap());
        assert_eq!((output.head().len(), output.len()), (Output::IN_MEMORY_BYTES, bytes.len() as u64));
        for _ in 0..2 {
            let mut back = Vec::new();
            output.copy_to(&mut back).unwrap();
            assert!(back == bytes);
        }
    }
}
