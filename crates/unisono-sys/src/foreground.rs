//! The terminal of this process, lent to one process group at a time.
//!
//! Only the group in the foreground of a terminal may read it; another one is stopped by SIGTTIN when it tries, and by
//! SIGTTOU when it changes the terminal (termios(3)). A program that starts a group of its own for one that asks its
//! user something has to put it there, and to take the terminal back when the program has ended or stopped, as a shell
//! does.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Pid, WaitId, WaitIdOptions, getpgrp, waitid},
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp},
};

use crate::start::{block_all, set_mask};

/// The terminal that controls this process.
#[derive(Debug)]
pub struct ControllingTerminal {
    descriptor: OwnedFd,
    group: Pid,
    attributes: Termios,
}

/// Whether a terminal controls this process.
pub fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

/// The signal by which a child has stopped, if it is stopped. Its end is not taken in.
pub fn stopped_by(pid: Pid) -> Option<i32> {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).ok()??.stopping_signal()
}

impl ControllingTerminal {
    /// Opens the terminal in whose foreground this process is.
    ///
    /// # Errors
    /// When there is none, or another group is in its foreground.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        // Above the standard streams, which may be closed.
        let descriptor = fcntl_dupfd_cloexec(&file, 3)?;
        let group = getpgrp();
        if tcgetpgrp(&descriptor)? != group {
            return Err(io::Error::other("another process group is in its foreground"));
        }
        let attributes = tcgetattr(&descriptor)?;
        Ok(Self { descriptor, group, attributes })
    }

    /// Whether our own group is in the foreground.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.descriptor) == Ok(self.group)
    }

    /// Puts a group into the foreground.
    pub fn lend(&self, group: Pid) {
        self.put(group);
    }

    /// Puts our own group into the foreground again, unless another group than `from` is there, with the settings that
    /// the terminal had if `settings` says so.
    pub fn take_back(&self, from: Pid, settings: bool) {
        if tcgetpgrp(&self.descriptor) != Ok(from) {
            return;
        }
        self.put(self.group);
        if settings {
            // A terminal that has gone away has no settings.
            let _ = tcsetattr(&self.descriptor, OptionalActions::Drain, &self.attributes);
        }
    }

    /// The group that is in the foreground now.
    pub fn holder(&self) -> Option<Pid> {
        tcgetpgrp(&self.descriptor).ok()
    }

    fn put(&self, group: Pid) {
        // From the background this is answered by SIGTTOU, unless it is blocked.
        let Ok(mask) = block_all() else { return };
        // A group that has just ended needs no terminal, and a terminal that has gone away takes none.
        while tcsetpgrp(&self.descriptor, group) == Err(Errno::INTR) {}
        let _ = set_mask(&mask);
    }
}

impl AsFd for ControllingTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
