//! The byte order mark at the beginning of a text: that of UTF-8 is dropped, as every reader of spreadsheets' files
//! does; that of UTF-16 and UTF-32 is named, since nothing after it would make sense.

use std::io::{self, Read};

/// A reader whose first bytes are no mark.
pub(crate) struct Unmarked<R> {
    inner: R,
    /// Nothing has been handed out yet, and what is read is text at all.
    looks: bool,
}

impl<R: Read> Unmarked<R> {
    /// What is parted by something else than line ends is no text, and is left alone.
    pub(crate) fn new(inner: R, delimiter: u8) -> Self {
        Self { inner, looks: delimiter == b'\n' }
    }
}

impl<R: Read> Read for Unmarked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.looks || buffer.len() < MARK.len() {
            return self.inner.read(buffer);
        }
        let mut read = self.inner.read(buffer)?;
        // No more than a mark is waited for, and only while it may be one.
        while read > 0 && read < MARK.len() && may_be_a_mark(&buffer[..read]) {
            match self.inner.read(&mut buffer[read..])? {
                0 => break,
                more => read += more,
            }
        }
        self.looks = false;
        if let Some(name) = foreign(&buffer[..read]) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is {name}; convert it to UTF-8 first, as with `iconv -f {name} -t UTF-8`"),
            ));
        }
        if !buffer[..read].starts_with(MARK) {
            return Ok(read);
        }
        buffer.copy_within(MARK.len()..read, 0);
        match read - MARK.len() {
            // Nothing would mean the end.
            0 => self.inner.read(buffer),
            rest => Ok(rest),
        }
    }
}

fn may_be_a_mark(start: &[u8]) -> bool {
    MARK.starts_with(start) || start == [0xff] || start == [0xfe]
}

/// The encoding that a mark at the beginning of these bytes says, if that is none of ours.
pub(crate) fn foreign(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// U+FEFF in UTF-8.
pub(crate) const MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives what it has in these pieces.
    struct Pieces(VecDeque<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.pop_front() else { return Ok(0) };
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn read(pieces: &[&'static [u8]]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Unmarked::new(Pieces(pieces.iter().copied().collect()), b'\n').read_to_end(&mut all)?;
        Ok(all)
    }

    #[test]
    fn the_mark_of_utf_8_is_dropped_whatever_pieces_it_comes_in() {
        for pieces in [
            &[b"\xef\xbb\xbfab" as &[u8]][..],
            &[b"\xef", b"\xbb", b"\xbfa", b"b"],
            &[b"\xef\xbb\xbf", b"ab"],
            &[b"ab"],
        ] {
            assert_eq!(read(pieces).unwrap(), b"ab");
        }
        assert_eq!(read(&[b"\xef\xbb\xbf"]).unwrap(), b"");
        assert_eq!(read(&[b"\xef\xbb", b"x"]).unwrap(), b"\xef\xbbx");
    }

    #[test]
    fn another_encoding_is_named() {
        for (pieces, name) in [(&[b"\xff\xfea\0" as &[u8]][..], "UTF-16"), (&[b"\xfe", b"\xff\0a"], "UTF-16")] {
            assert!(read(pieces).unwrap_err().to_string().contains(name));
        }
    }
}
