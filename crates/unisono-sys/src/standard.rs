//! Which of the three standard streams were open when the program started.
//!
//! The runtime of Rust opens /dev/null in place of those that were not, before `main`, so that no file opened later
//! gets the number of a standard stream and is written to by mistake. That is right, and hides a closed output:
//! everything written to it is lost, and nothing says so. So it is looked at before, when the loader calls what is
//! listed in `.init_array`.
#![allow(unsafe_code)]

use std::{
    ffi::c_int,
    io,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Whether this stream was closed when the program started.
pub fn was_closed(stream: Standard) -> bool {
    CLOSED.load(Relaxed) & (1 << stream as u8) != 0
}

/// A bit for each; written once, before any thread and before `main`.
static CLOSED: AtomicU8 = AtomicU8::new(0);

extern "C" fn look() {
    for descriptor in 0..3 {
        // SAFETY: F_GETFD takes no argument and touches no memory; a number that is no descriptor is an error, which is
        // asked for.
        let flags = unsafe { libc::fcntl(descriptor as c_int, libc::F_GETFD) };
        // Nothing is allocated here and nothing may panic: the standard library is not set up yet. Reading `errno`
        // needs neither.
        if flags == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF) {
            CLOSED.fetch_or(1 << descriptor, Relaxed);
        }
    }
}

// SAFETY: the section holds pointers to functions that the loader calls once, in the main thread, before `main`. `look`
// has the calling convention it expects (the arguments that glibc passes are left alone), and does only what is safe
// that early.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
