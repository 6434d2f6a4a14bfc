//! How many descriptors this process may have. The soft limit is low for the sake of programs that use select(2), and a
//! program that does not may raise it to the hard one; but what it starts gets the limit as it was (see `start.rs`, and
//! [`give_back`] for what the standard library starts).
#![allow(unsafe_code)]

use std::{
    fs::{DirEntry, ReadDir},
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::OnceLock,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one. To be called once, before anything is started, by the owner of the process.
pub fn raise() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // A limit that cannot be raised stays, and is said where it matters.
    if before.current != before.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        let _ = BEFORE.set(before);
    }
}

/// How many more this process may have now.
pub fn left() -> u64 {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let number = |entry: io::Result<DirEntry>| entry.ok()?.file_name().to_str()?.parse::<u64>().ok();
    // The limit is one of numbers: what was given to this process above it takes nothing.
    let below = |list: ReadDir| list.filter_map(number).filter(|number| *number < most).count();
    // One of those that are listed is that of the list.
    let open = std::fs::read_dir("/proc/self/fd").map_or(USUAL, |list| below(list).saturating_sub(1));
    most.saturating_sub(open as u64)
}

/// Has a command run under the limit as it was.
pub fn give_back(command: &mut Command) -> &mut Command {
    let Some(limit) = before() else { return command };
    // SAFETY: between fork and exec there is one system call, which neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || Ok::<(), io::Error>(setrlimit(Resource::Nofile, limit)?)) }
}

/// Standard streams, a reactor and what was given by whatever has started this, where that cannot be listed.
const USUAL: usize = 16;

/// The limits before they were raised, if they were: soft and hard.
pub(crate) fn before() -> Option<Rlimit> {
    BEFORE.get().copied()
}
