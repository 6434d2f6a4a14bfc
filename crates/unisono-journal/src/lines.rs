//! The lines of a results file, one after the other, and what its end tells.
//!
//! Every line is looked at whole. One that is broken is named, unless it is the last and a kill can have torn it: then it is
//! the end, and what it tells of its row decides whether that may run again. The beginning of a first line whose run has had
//! no outcome yet is such an end as well.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{
    error::{Error, Reason},
    line::{Head, may_begin, scan, scan_start},
    recover::MOST_ROW,
    runfile::Started,
};

/// What a torn last line tells.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// There is none, or its row may run again.
    #[default]
    Harmless,
    /// Something that must not be repeated has been done, or may have been.
    Started(Started),
    /// Not even whose it is.
    Unknown,
}

/// The good lines of a results file, and where they end.
pub(crate) struct Lines<'a, R> {
    path: &'a Path,
    reader: BufReader<R>,
    line: Vec<u8>,
    /// The number of the present line, from 1, and where it begins.
    pub(crate) number: u64,
    start: u64,
    /// Where the last good one ends.
    pub(crate) end: u64,
    pub(crate) tail: Tail,
    /// The last good one is whole but for its line feed.
    pub(crate) lacks_line_feed: bool,
}

impl<'a, R: Read> Lines<'a, R> {
    pub(crate) fn new(path: &'a Path, from: R) -> Self {
        Self {
            path,
            reader: BufReader::with_capacity(1 << 17, from),
            line: Vec::new(),
            number: 0,
            start: 0,
            end: 0,
            tail: Tail::Harmless,
            lacks_line_feed: false,
        }
    }

    /// Goes to the next line; false at the end, which a torn line is as well.
    ///
    /// # Errors
    /// When the line is broken and not by a kill, or the file is not ours.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        (self.start, self.number) = (self.end, self.number + 1);
        self.line.clear();
        let read = |error| Error::io(self.path, "read", error);
        if self.reader.read_until(b'\n', &mut self.line).map_err(read)? == 0 {
            return Ok(false);
        }
        let inside = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        if scan(inside).is_some() && is_json(inside) {
            self.end = self.start + self.line.len() as u64;
            self.lacks_line_feed = inside.len() == self.line.len();
            return Ok(true);
        }
        let is_last = self.reader.fill_buf().map_err(read)?.is_empty();
        self.tail = self.torn(is_last)?;
        Ok(false)
    }

    /// What the present line tells that is not whole.
    fn torn(&self, is_last: bool) -> Result<Tail, Error> {
        let is_zero = self.line.iter().all(|byte| *byte == 0);
        if self.number == 1 && !may_begin(&self.line) && !is_zero {
            return Err(Error::new(self.path, Reason::NotOurs));
        }
        if !is_last {
            return Err(self.corrupt("it is broken, and not the last one"));
        }
        // A kill takes the end of a line with its line feed, and never leaves that.
        if self.line.ends_with(b"\n") {
            return Err(self.corrupt("it is broken"));
        }
        match scan_start(&self.line) {
            Some((head, _)) if head.key.row > MOST_ROW => Err(self.corrupt("the row number is out of range")),
            Some((head, _)) if head.effect.allows_repeat(head.repeatable) => Ok(Tail::Harmless),
            Some((head, _)) => Ok(Tail::Started(Started {
                key: head.key,
                fingerprint: head.fingerprint,
                id: head.id_hash(),
                has_line: false,
            })),
            None => Ok(Tail::Unknown),
        }
    }

    /// What the present line begins with.
    pub(crate) fn head(&self) -> Head<'_> {
        scan(self.inside()).expect("only lines that can be scanned are gone to")
    }

    /// The present line, without its line feed.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.inside()
    }

    /// Where the present line stands, and how long it is with its line feed.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.start, self.end - self.start)
    }

    /// What is wrong with the present line.
    pub(crate) fn corrupt(&self, why: &'static str) -> Error {
        Error::new(self.path, Reason::Corrupt { line: self.number, offset: self.start, why })
    }

    fn inside(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }
}

/// Reads a file from its beginning without moving the place at which it is written.
pub(crate) struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> FromStart<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn is_json(line: &[u8]) -> bool {
    // The grammar alone, which takes no stack however deep it goes: what stands in a line was looked through before.
    std::str::from_utf8(line).is_ok_and(|line| serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok())
}
