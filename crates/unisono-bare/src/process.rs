//! A process by its number, and the group that it leads.

#![allow(unsafe_code)]

use core::num::NonZeroI32;

use crate::error::SystemError;

/// A process, or the group that it leads: a positive number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(NonZeroI32);

impl ProcessId {
    /// The process with this number; `None` for what is not positive, which would mean a group or all processes.
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

/// Whether a group has any member left, a zombie included. Source: kill(2), signal 0.
pub fn group_exists(group: ProcessId) -> bool {
    // SAFETY: no memory is involved, and signal 0 is not delivered.
    SystemError::check(unsafe { libc::kill(-group.number(), 0) }) != Err(SystemError::NO_PROCESS)
}
