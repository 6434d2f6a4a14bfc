//! A child's end: its status, and what it cost.
//!
//! A child is always reaped by its own number and only by the code that started it, never by "any child": in a host
//! such as CPython other children belong to other code. Until it is reaped its number cannot be given to another
//! process, so everything that goes by the number must be done before.
#![allow(unsafe_code)]

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use rustix::process::Pid;

/// How a process ended, and what it and those of its children that it waited for have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// User and system time together.
    pub cpu: Duration,
    /// The largest resident set, in bytes.
    pub peak_memory: u64,
}

/// Takes in the end of a child, if it has ended. See wait4(2).
///
/// # Errors
/// `ECHILD` when it is no child of ours, or other code has taken its end in.
pub fn reap(pid: Pid) -> io::Result<Option<ProcessEnd>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live locals of the right types, and the kernel keeps neither.
    let reaped = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped < 0 {
        return Err(io::Error::last_os_error());
    }
    if reaped == 0 {
        return Ok(None);
    }
    // SAFETY: it was zeroed, which is a valid `rusage`, whatever the kernel has filled in since.
    let usage = unsafe { usage.assume_init() };
    Ok(Some(ProcessEnd {
        status: ExitStatus::from_raw(status),
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        // In KiB on Linux, see getrusage(2).
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) << 10,
    }))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}
