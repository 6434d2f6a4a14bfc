//! Where a kill may come: each step that changes something on the disk says so before it does.
//!
//! A test runs the same work in a process of its own again and again, and has it killed before its first step, its second
//! and so on to the last. Outside of tests nothing of this is left.

/// The process ends here, as by `kill -9`, when a test wants it to.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step(_name: &'static str) {}

/// The process ends here, as by `kill -9`, when a test wants it to.
#[cfg(test)]
pub(crate) fn step(name: &'static str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };
    static KILLED_AT: OnceLock<Option<u32>> = OnceLock::new();
    static STEP: AtomicU32 = AtomicU32::new(0);
    let killed_at = KILLED_AT.get_or_init(|| std::env::var(KILLED_AT_VARIABLE).ok()?.parse().ok());
    if let Some(killed_at) = killed_at
        && STEP.fetch_add(1, Ordering::Relaxed) == *killed_at
    {
        eprintln!("killed before: {name}");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park();
    }
}

/// The number of the step before which the process is killed.
#[cfg(test)]
pub(crate) const KILLED_AT_VARIABLE: &str = "UNISONO_TEST_KILLED_AT";
