//! Where a kill or a failure may come: each step that changes something on the disk says so before it does.
//!
//! A test runs the same work in a process of its own again and again, and has it killed before its first step, its
//! second and so on to the last, or has the disk fail there: once, or from there on. Outside of tests nothing of this
//! is left.

use std::io;

/// Goes on, as the disk would.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// The process ends here, as by `kill -9`, or the disk fails, when a test wants it to.
#[cfg(test)]
pub(crate) fn step(name: &'static str) -> io::Result<()> {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };
    static FAULT_AT: OnceLock<Option<(InjectedFault, u32)>> = OnceLock::new();
    static STEP: AtomicU32 = AtomicU32::new(0);
    let Some((fault, at)) = FAULT_AT.get_or_init(InjectedFault::wanted) else { return Ok(()) };
    let now = STEP.fetch_add(1, Ordering::Relaxed);
    match fault {
        InjectedFault::Killed if now == *at => {
            eprintln!("killed before: {name}");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::thread::park();
            Ok(())
        }
        InjectedFault::Fails if now == *at => Err(failure(name)),
        InjectedFault::FailsFromThereOn if now >= *at => Err(failure(name)),
        _ => Ok(()),
    }
}

#[cfg(test)]
fn failure(name: &'static str) -> io::Error {
    eprintln!("failed: {name}");
    rustix::io::Errno::IO.into()
}

/// What happens at a step.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InjectedFault {
    /// The process is killed before it.
    Killed,
    /// The system says that it cannot do it.
    Fails,
    /// Nor anything after it.
    FailsFromThereOn,
}

#[cfg(test)]
impl InjectedFault {
    pub(crate) const ALL: [Self; 3] = [Self::Killed, Self::Fails, Self::FailsFromThereOn];

    /// The environment variable with the number of the step at which this happens.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Killed => "UNISONO_TEST_KILLED_AT",
            Self::Fails => "UNISONO_TEST_FAILS_AT",
            Self::FailsFromThereOn => "UNISONO_TEST_FAILS_FROM",
        }
    }

    fn wanted() -> Option<(Self, u32)> {
        Self::ALL.into_iter().find_map(|fault| Some((fault, std::env::var(fault.variable()).ok()?.parse().ok()?)))
    }
}
