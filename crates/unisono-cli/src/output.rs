//! Standard output: the one place through which every command writes to it, and which knows whether it all arrived.
//!
//! *To the last byte.* Nothing counts as written before the last flush has succeeded: a full disk, a quota, a closed
//! descriptor are our own failure (125), whatever else went well. A reader that has left is no failure and needs no
//! words (141, the status of SIGPIPE).
//!
//! *Closed is closed.* Rust opens /dev/null where a standard stream was closed, so that no other file gets its number,
//! and takes what is written to a closed one for written. [`keep_closed`] puts a descriptor there that cannot be used,
//! which says so whenever it is, and to whatever program we start in our place.
//!
//! *Exact, but for a terminal.* Data goes to pipes and files as it is. A terminal is shown lines of text and of JSON
//! without anything that it would act on (`unisono_core::printable`). What commands of `unisono each` print is theirs,
//! and is shown as it is everywhere, as xargs does.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write},
};

use rustix::io::Errno;
use unisono_core::{printable_bytes, printable_json};
use unisono_sys::standard::{Standard, was_closed};

use crate::failure::Failure;

/// Standard output, with room for some lines.
#[derive(Debug)]
pub struct StandardOutput {
    to: BufWriter<File>,
    is_terminal: bool,
}

/// Puts what cannot be used in the place of standard streams that were closed when the program started. To be called
/// first of all, before there is any other thread or file.
pub fn keep_closed() {
    // Without /dev/null the standard library would not have come this far.
    if was_closed(Standard::Input)
        && let Ok(only_written) = OpenOptions::new().write(true).open(NOTHING)
    {
        let _ = rustix::stdio::dup2_stdin(only_written);
    }
    if was_closed(Standard::Output)
        && let Ok(only_read) = File::open(NOTHING)
    {
        let _ = rustix::stdio::dup2_stdout(only_read);
    }
}

impl StandardOutput {
    /// Standard output.
    ///
    /// # Errors
    /// When it is closed: known before anything is done whose result could not be told.
    pub fn open() -> Result<Self, Failure> {
        Ok(Self::to(file()?))
    }

    /// What takes its place.
    pub fn to(file: File) -> Self {
        let is_terminal = file.is_terminal();
        Self { to: BufWriter::with_capacity(1 << 16, file), is_terminal }
    }

    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// One line of text, without its end.
    pub fn text(&mut self, line: &[u8], end: u8) -> io::Result<()> {
        match self.is_terminal {
            // A zero byte ends nothing that a person could see.
            true => self.to.write_all(printable_bytes(line).as_bytes()).and_then(|()| self.to.write_all(b"\n")),
            false => self.to.write_all(line).and_then(|()| self.to.write_all(&[end])),
        }
    }

    /// One line of JSON, without its end.
    pub fn json(&mut self, line: &[u8]) -> io::Result<()> {
        match self.is_terminal {
            true => self.to.write_all(printable_json(line).as_bytes())?,
            false => self.to.write_all(line)?,
        }
        self.to.write_all(b"\n")
    }

    /// Our own words, with their line ends and colours.
    pub fn own(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(text.as_bytes())
    }

    /// Writes what is held back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Standard output without a buffer, for what has one of its own.
///
/// # Errors
/// When it is closed.
pub fn file() -> Result<File, Failure> {
    let file = raw().map_err(|error| failed(&error))?;
    let flags = rustix::fs::fcntl_getfl(&file).map_err(|error| failed(&error.into()))?;
    match flags & rustix::fs::OFlags::RWMODE == rustix::fs::OFlags::RDONLY {
        true => Err(failed(&Errno::BADF.into())),
        false => Ok(file),
    }
}

/// As [`file()`]; what is closed fails when it is written to.
pub fn raw() -> io::Result<File> {
    Ok(File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?))
}

/// The exit status of a command that has written all it had to say.
///
/// # Errors
/// When it could not be written, and its reader is still there.
pub fn ended(written: io::Result<()>) -> Result<u8, Failure> {
    match written {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(NOBODY_READS),
        Err(error) => Err(failed(&error)),
    }
}

/// Why standard output cannot be written to.
pub fn failed(error: &io::Error) -> Failure {
    Failure::fault(why(error))
}

/// The same, in words.
pub fn why(error: &io::Error) -> String {
    match error.raw_os_error() == Some(Errno::BADF.raw_os_error()) {
        true => "cannot write to standard output: it is closed".to_owned(),
        false => format!("cannot write to standard output: {error}"),
    }
}

/// The exit status when the reader of the output has left: that of SIGPIPE.
pub const NOBODY_READS: u8 = 141;
const NOTHING: &str = "/dev/null";
