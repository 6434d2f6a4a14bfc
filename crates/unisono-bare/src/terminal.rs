//! The terminal on standard input, and which group of processes it belongs to.
//!
//! A terminal has one foreground group, which may read from it and gets Ctrl-C; every other group is stopped for
//! trying. Only a program that has the terminal may pass it on, and must take it back, but never from a stranger that
//! has got it in the meantime. Source: tcsetpgrp(3), termios(4).

#![allow(unsafe_code)]

use crate::process::{ProcessId, group_exists};

/// The terminal on standard input, when it controls this process.
#[derive(Debug)]
pub struct InputTerminal {
    /// 0 where our group is outside of our namespace, as under `unshare`.
    own_group: i32,
}

impl InputTerminal {
    /// The terminal, if standard input is the one that controls this process.
    pub fn of_standard_input() -> Option<Self> {
        // SAFETY: no memory is involved.
        let own_group = unsafe { libc::getpgrp() };
        foreground().map(|_| Self { own_group })
    }

    /// Whether it is ours to use and to pass on.
    pub fn is_ours(&self) -> bool {
        foreground() == Some(self.own_group)
    }

    /// Whether it belongs to this group.
    pub fn belongs_to(&self, group: ProcessId) -> bool {
        foreground() == Some(group.number())
    }

    /// Passes it on. Nothing happens when the group is gone. SIGTTOU must be held, or we would be stopped.
    pub fn give(&self, group: ProcessId) {
        pass_to(group.number());
    }

    /// Takes it back from `group`, or from a group that is gone; leaves it with any other.
    pub fn take_back(&self, group: ProcessId) {
        let holder = foreground().and_then(ProcessId::from_number);
        let abandoned = |holder: ProcessId| holder.number() != self.own_group && !group_exists(holder);
        if holder.is_some_and(|holder| holder == group || abandoned(holder)) {
            pass_to(self.own_group);
        }
    }
}

/// Standard input's foreground group; `None` when it is no terminal, or not ours.
fn foreground() -> Option<i32> {
    // SAFETY: no memory is involved.
    let group = unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) };
    (group >= 0).then_some(group)
}

/// Fails when the group is gone or the terminal hung up, and then there is no group to pass it to.
fn pass_to(group: i32) {
    // SAFETY: no memory is involved.
    let _ = unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group) };
}
