//! Children: what became of them, and being the parent of those whose own has died.

#![allow(unsafe_code)]

use crate::{error::SystemError, process::ProcessId, signals::Signal};

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
