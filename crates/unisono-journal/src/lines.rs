//! The lines of a results file, one after the other, and what its end tells.
//!
//! Every line is looked at whole. One that is broken is named, unless it is the last and a kill can have torn it: then
//! it is the end, and what it tells of its row decides whether that may run again. The beginning of a first line whose
//! run has had no outcome yet is such an end as well.
//!
//! What editors and other programs do to the shape of lines without touching what they say is read all the same: CR LF,
//! empty lines, several outcomes on one line, as `cat` makes them of a file whose last line has no line feed, and
//! members that are spelled or ordered otherwise. A run that goes on with such a file makes it anew.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use serde::de::IgnoredAny;
use unisono_core::Effect;

use crate::{
    error::{Error, Reason},
    line::{Head, MOST_ROW, may_begin, scan, scan_start},
    runfile::{Standing, Started},
    spelling::respelled,
};

/// What a torn last line tells.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// There is none, or its row may run again.
    #[default]
    Harmless,
    /// Something has been done, or may have been.
    Started(Started),
    /// Not even whose it is.
    Unknown,
}

/// The good lines of a results file, and where they end.
pub(crate) struct Lines<'a, R> {
    path: &'a Path,
    reader: BufReader<R>,
    /// A line of the file, with its line feed, and where it begins.
    line: Vec<u8>,
    line_at: u64,
    /// What of it is the present outcome, and what is to be looked at next.
    inside: Range<usize>,
    /// The same as we write it, where it is spelled otherwise.
    respelled: Option<Vec<u8>>,
    rest: usize,
    /// The number of that line of the file, from 1.
    number: u64,
    /// The number of the present outcome, from 1.
    pub(crate) ordinal: u64,
    /// Where the last good one ends.
    pub(crate) end: u64,
    pub(crate) tail: Tail,
    /// The last good one is whole but for its line feed.
    pub(crate) lacks_line_feed: bool,
    /// Not each outcome has a line of its own, or a line is not as we write it.
    pub(crate) is_misshapen: bool,
}

impl<'a, R: Read> Lines<'a, R> {
    pub(crate) fn new(path: &'a Path, from: R) -> Self {
        Self {
            path,
            reader: BufReader::with_capacity(1 << 17, from),
            line: Vec::new(),
            line_at: 0,
            inside: 0..0,
            respelled: None,
            rest: 0,
            number: 0,
            ordinal: 0,
            end: 0,
            tail: Tail::Harmless,
            lacks_line_feed: false,
            is_misshapen: false,
        }
    }

    /// Goes to the next outcome; false at the end, which a torn line is as well.
    ///
    /// # Errors
    /// When the line is broken and not by a kill, or the file is not ours.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        self.ordinal += 1;
        self.respelled = None;
        loop {
            if self.rest == self.line.len() && !self.next_line()? {
                self.inside = self.rest..self.rest;
                // A file of nothing but empty lines is not ours.
                let is_ours = self.ordinal > 1 || !self.is_misshapen;
                return if is_ours { Ok(false) } else { Err(Error::new(self.path, Reason::NotOurs)) };
            }
            let without_end = self.line.strip_suffix(b"\n").map_or(self.line.len(), <[u8]>::len);
            let whole = self.rest..without_end;
            let found = match is_outcome(&self.line[whole.clone()]) {
                true => Some((whole.clone(), None)),
                false => first_outcome(&self.line, whole.clone()),
            };
            match found {
                Some((found, _)) if found.is_empty() => {
                    self.is_misshapen = true;
                    self.rest = self.line.len();
                }
                Some((found, respelled)) => {
                    self.is_misshapen |= found != whole || respelled.is_some();
                    self.respelled = respelled;
                    let is_last_of_line = self.line[found.end..whole.end].iter().all(|byte| is_space(*byte));
                    self.rest = if is_last_of_line { self.line.len() } else { found.end };
                    self.end = self.line_at + self.rest as u64;
                    self.lacks_line_feed = found.end == self.line.len();
                    self.inside = found;
                    return Ok(true);
                }
                None => {
                    let is_last = self.fill()?.is_empty();
                    self.inside = whole;
                    self.tail = self.torn(is_last)?;
                    return Ok(false);
                }
            }
        }
    }

    /// Reads a line of the file. Returns false where there is none.
    fn next_line(&mut self) -> Result<bool, Error> {
        self.line_at += self.line.len() as u64;
        self.number += 1;
        self.line.clear();
        self.rest = 0;
        let read = self.reader.read_until(b'\n', &mut self.line);
        Ok(read.map_err(|error| Error::io(self.path, "read", error))? > 0)
    }

    fn fill(&mut self) -> Result<&[u8], Error> {
        self.reader.fill_buf().map_err(|error| Error::io(self.path, "read", error))
    }

    /// What the present line tells that is not whole.
    fn torn(&self, is_last: bool) -> Result<Tail, Error> {
        let line = self.bytes();
        let is_zero = line.iter().all(|byte| *byte == 0);
        if self.ordinal == 1 && !may_begin(line) && !is_zero {
            return Err(Error::new(self.path, Reason::NotOurs));
        }
        if !is_last {
            return Err(self.corrupt("it is broken, and not the last one"));
        }
        // A kill takes the end of a line with its line feed, and never leaves that.
        if self.line.ends_with(b"\n") {
            return Err(self.corrupt("it is broken"));
        }
        match scan_start(line) {
            Some((head, _)) if head.key.row > MOST_ROW => Err(self.corrupt("the row number is out of range")),
            Some((head, _)) if head.effect == Effect::None => Ok(Tail::Harmless),
            Some((head, _)) => Ok(Tail::Started(Started {
                key: head.key,
                fingerprint: head.fingerprint,
                own_id: Some(head.id_hash()),
                id_text: None,
                has_line: false,
                repeat: head.repeat(),
                standing: Standing::Firm,
            })),
            None => Ok(Tail::Unknown),
        }
    }

    /// What the present line begins with.
    pub(crate) fn head(&self) -> Head<'_> {
        scan(self.bytes()).expect("only lines that can be scanned are gone to")
    }

    /// The present line, without its line feed; or what is torn of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.respelled.as_deref().unwrap_or_else(|| &self.line[self.inside.clone()])
    }

    /// The number of the present line in the file, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where the present line stands.
    pub(crate) fn start(&self) -> u64 {
        self.line_at + self.inside.start as u64
    }

    /// What is wrong with the present line.
    pub(crate) fn corrupt(&self, why: &'static str) -> Error {
        Error::new(self.path, Reason::Corrupt { line: self.number, offset: self.start(), why })
    }
}

/// The first outcome of several that stand in one line, or the only one without the white space around it. Empty where
/// there is nothing but white space; `None` where there is something else. Also how we write it, if it is spelled
/// otherwise.
fn first_outcome(line: &[u8], within: Range<usize>) -> Option<(Range<usize>, Option<Vec<u8>>)> {
    let text = &line[within.clone()];
    let start = within.start + text.iter().take_while(|byte| is_space(**byte)).count();
    let end = within.end - text.iter().rev().take_while(|byte| is_space(**byte)).count();
    if start >= end {
        return Some((start..start, None));
    }
    // Bytes that are no text may be what is torn behind the first.
    let text = &line[start..end];
    let text = std::str::from_utf8(text).or_else(|error| std::str::from_utf8(&text[..error.valid_up_to()])).ok()?;
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let value = start..start + values.byte_offset();
    // What stands behind it is looked at when its turn comes.
    if is_outcome(&line[value.clone()]) {
        return Some((value, None));
    }
    let spelled = respelled(&text[..value.len()]).filter(|line| is_outcome(line))?;
    Some((value, Some(spelled)))
}

/// What JSON has around its values, and no line of ours has at its ends.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
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

fn is_outcome(line: &[u8]) -> bool {
    // The grammar alone, which takes no stack however deep it goes: what stands in a line was looked through before.
    scan(line).is_some() && std::str::from_utf8(line).is_ok_and(|line| serde_json::from_str::<IgnoredAny>(line).is_ok())
}
