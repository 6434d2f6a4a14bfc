//! Starting a program as the leader of a group of its own, with signals as it would expect them.
//!
//! By fork and exec, though elsewhere we prefer posix_spawn: the child must own the terminal before its first
//! instruction, or a shell stops itself for reading in the background, and posix_spawn can say that only since
//! glibc 2.35 and not with musl. One fork of a process this small costs about 0.1 ms, once.
//!
//! The child starts with the signals held that we were started with, and with SIGPIPE as it comes, which the standard
//! library of Rust ignores. Its descriptors are ours: a supervisor opens none.

#![allow(unsafe_code)]

use alloc::{ffi::CString, vec::Vec};
use core::{
    ffi::{c_char, c_int},
    ptr,
};

use crate::{error::SystemError, process::ProcessId, signals::HeldSignals};

/// What to start.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    /// Paths of the program, tried in this order as long as none is there.
    pub paths: Vec<CString>,
    /// Its words, of which the first is its name for itself.
    pub words: Vec<CString>,
    /// Whether it gets the terminal on standard input.
    pub foreground: bool,
}

/// Why nothing was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnError {
    /// There could be no new process.
    Process(SystemError),
    /// There is no such program, or it is none.
    Program(SystemError),
}

/// Starts a program; when this returns, the program itself runs, in a group whose number is its own.
///
/// # Errors
/// When there is no process to be had, or no path leads to a program. As execvp(3) does, a path that leads nowhere is
/// passed over, and "permission denied" is kept for the end; as it does not, a file without a format is an error.
pub fn spawn(request: &SpawnRequest, held: &HeldSignals) -> Result<ProcessId, SpawnError> {
    // Everything that takes memory happens before the fork.
    let words: Vec<*const c_char> = request.words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect();
    let mut news = [0; 2];
    // SAFETY: the kernel writes two numbers, for which there is room.
    SystemError::check(unsafe { libc::pipe2(news.as_mut_ptr(), libc::O_CLOEXEC) }).map_err(SpawnError::Process)?;
    let [reads, writes] = news;
    // SAFETY: this process has one thread, as `HeldSignals` asks for, so the child may call what it likes; it calls
    // nothing but the system. Both sides own their copies of the two descriptors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        become_program(request, &words, held, writes);
    }
    let failure = SystemError::last();
    close(writes);
    let mut number = [0; size_of::<c_int>()];
    let started = ProcessId::from_number(child).ok_or(SpawnError::Process(failure)).and_then(|child| {
        if !read_fully(reads, &mut number) {
            return Ok(child);
        }
        // It has nothing left to do but to end, so this wait is short.
        // SAFETY: it is our child and was not waited for; no status is asked for.
        unsafe { libc::waitpid(child.number(), ptr::null_mut(), 0) };
        Err(SpawnError::Program(SystemError::from_number(c_int::from_ne_bytes(number))))
    });
    close(reads);
    started
}

/// In the child: never comes back.
fn become_program(request: &SpawnRequest, words: &[*const c_char], held: &HeldSignals, news: c_int) -> ! {
    // SAFETY: calls of the system alone, on memory that was made before the fork: `words` ends with a null pointer and
    // points to strings that `request` keeps. Signals are still held, so that SIGTTOU does not stop us and nothing
    // arrives before the group is set.
    unsafe {
        libc::setpgid(0, 0);
        if request.foreground {
            libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, held.before(), ptr::null_mut());
    }
    let mut reason = SystemError::NOT_FOUND;
    for path in &request.paths {
        // SAFETY: as above; it comes back only when it failed.
        unsafe { libc::execv(path.as_ptr(), words.as_ptr()) };
        match SystemError::last() {
            SystemError::NOT_FOUND | SystemError::NOT_A_DIRECTORY => {}
            SystemError::NOT_ALLOWED => reason = SystemError::NOT_ALLOWED,
            other => {
                reason = other;
                break;
            }
        }
    }
    let number = reason.number().to_ne_bytes();
    // SAFETY: `number` is ours; a pipe takes four bytes whole. `_exit` runs nothing that belongs to the parent.
    unsafe {
        libc::write(news, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

/// Whether the pipe held a message; it ends without one when the program started, since exec closes it.
fn read_fully(file: c_int, into: &mut [u8]) -> bool {
    // SAFETY: the kernel writes at most `into.len()` bytes, which are ours. With every signal held the read is not
    // interrupted, and a message of four bytes comes whole or not at all (pipe(7)).
    let length = unsafe { libc::read(file, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(length) == Ok(into.len())
}

fn close(file: c_int) {
    // SAFETY: each caller closes a descriptor that it owns, once.
    unsafe { libc::close(file) };
}
