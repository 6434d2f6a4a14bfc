//! Where the watchdog writes to, on its own thread, and what it keeps for the program's log.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unisono_watch::{event::Event, origin::Origin, render};

/// So many records wait for a loop that could log them; older ones are let go, since what was written has them too.
const RECORDS_MAX: usize = 64;
/// No more is written at once, so that a pipe which can take anything can take it all.
const TEXT_MAX: usize = 4000;

/// A record for the program's log: whether a stall is over, and the text.
pub type Record = (bool, String);

/// Records that wait until the loop runs again.
#[derive(Debug, Clone, Default)]
pub struct Records(Arc<Mutex<VecDeque<Record>>>);

impl Records {
    fn push(&self, record: Record) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() == RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// Takes all that wait.
    pub fn take(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// Where events go.
pub struct Output {
    /// A file of the program's choice; standard error, as it is at that moment, where there is none.
    pub file: Option<OwnedFd>,
    /// Whether they are lines of JSON.
    pub is_json: bool,
    /// Which frames are the program's own.
    pub origin: Origin,
    /// What is kept for the log.
    pub records: Records,
}

impl Output {
    /// Writes an event, and keeps it for the log.
    pub fn tell(&self, event: &Event) {
        let text = render::text(event, &self.origin);
        let written = if self.is_json { render::json(event, &self.origin) } else { cut(&text) };
        match &self.file {
            Some(file) => write(file.as_fd(), written.as_bytes()),
            None => write(rustix::stdio::stderr(), written.as_bytes()),
        }
        self.records.push((matches!(event, Event::Ended(_)), text));
    }
}

/// At most [`TEXT_MAX`] bytes, in whole lines.
fn cut(text: &str) -> String {
    let mut length = text.len();
    while length > TEXT_MAX {
        length = text[..length - 1].rfind('\n').map_or(0, |place| place + 1);
    }
    text[..length].to_owned()
}

/// A reader that has stopped to read is no reason for the watchdog to stop watching.
fn write(file: BorrowedFd<'_>, mut bytes: &[u8]) {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    while !bytes.is_empty() && matches!(poll(&mut [PollFd::new(&file, PollFlags::OUT)], Some(&at_once)), Ok(1)) {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
