//! Children: what became of them, and being the parent of those whose own has died.

#![allow(unsafe_code)]

use core::num::NonZeroI32;

use crate::{error::SystemError, signals::Signal};

/// A process, or the group that it leads: a positive number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(NonZeroI32);

impl ProcessId {
    /// The process with this number; `None` for what is not positive, which would mean a group or everybody.
    pub fn from_number(number: i32) -> Option<Self> {
        NonZeroI32::new(number).filter(|number| number.is_positive()).map(Self)
    }

    /// This process.
    pub fn own() -> Self {
        // SAFETY: reads a number that the kernel knows; it cannot fail.
        Self::from_number(unsafe { libc::getpid() }).expect("the kernel numbers processes from 1")
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0.get()
    }

    /// Whether it is the first of its namespace, which gets every orphan, takes no signal that it did not ask for, and
    /// with which all others end. Source: pid_namespaces(7).
    pub fn is_first(self) -> bool {
        self.number() == 1
    }

    /// The group it is in; `None` when it has been reaped, or its group is outside of this namespace.
    pub fn group(self) -> Option<Self> {
        // SAFETY: no memory is involved.
        Self::from_number(unsafe { libc::getpgid(self.number()) })
    }
}

/// What [`reap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// A child ended; it is gone now. `code` is its exit code, or 128 and the signal that ended it.
    Ended {
        /// Which.
        process: ProcessId,
        /// How, as a shell would say it.
        code: u8,
    },
    /// A child was stopped and lives on.
    Stopped {
        /// Which.
        process: ProcessId,
        /// By what.
        signal: Signal,
    },
    /// A stopped child goes on.
    Continued(ProcessId),
    /// There are children, and nothing new of them.
    Nothing,
    /// There are no children: for a parent of orphans, no descendants either.
    NoChildren,
}

/// Takes one piece of news of any child, without waiting. Source: waitpid(2).
pub fn reap() -> Reaped {
    let mut status = 0;
    let options = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
    // SAFETY: `status` is ours and outlives the call.
    let answer = unsafe { libc::waitpid(-1, &raw mut status, options) };
    let Some(process) = ProcessId::from_number(answer) else {
        return if answer == 0 { Reaped::Nothing } else { Reaped::NoChildren };
    };
    if libc::WIFSTOPPED(status) {
        let signal = Signal::from_number(libc::WSTOPSIG(status)).unwrap_or(Signal::STOP);
        Reaped::Stopped { process, signal }
    } else if libc::WIFCONTINUED(status) {
        Reaped::Continued(process)
    } else {
        // The kernel keeps eight bits of an exit code, and signals end at 64.
        let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
        Reaped::Ended { process, code: code as u8 }
    }
}

/// Makes this process the parent of every descendant whose own parent ends, as the first process of a namespace is.
///
/// # Errors
/// When the kernel is older than 3.4. Source: prctl(2), `PR_SET_CHILD_SUBREAPER`.
pub fn become_subreaper() -> Result<(), SystemError> {
    // SAFETY: this operation takes a number; no memory is involved.
    SystemError::check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) }).map(drop)
}

/// Whether a group has any member left, a zombie included. Source: kill(2), signal 0.
pub fn group_exists(group: ProcessId) -> bool {
    // SAFETY: no memory is involved, and signal 0 is sent to nobody.
    SystemError::check(unsafe { libc::kill(-group.number(), 0) }) != Err(SystemError::NO_PROCESS)
}
