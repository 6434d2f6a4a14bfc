//! What descends from this process, or is left of a command: killed or stopped, round after round, until none is new.

use std::{collections::HashSet, os::fd::AsFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};
use unisono_sys::tree::{FoundProcess, Snapshot};

use crate::MARKER;

/// Kills these. They are held first, so that none sees the end of another, for which it waits or from which it reads,
/// and goes on with its next step for a moment.
pub(crate) fn kill_all(these: &[FoundProcess]) {
    these.iter().for_each(|found| found.signal(Signal::STOP));
    these.iter().for_each(|found| found.signal(Signal::KILL));
    these.iter().for_each(|found| wait_for_end(found.pid));
}

/// Kills all that descends from this process, until nothing is left; returns how many it were.
pub(crate) fn kill_descendants() -> u32 {
    let mut killed = HashSet::new();
    for _ in 0..ROUNDS {
        let Ok(descendants) = Snapshot::take(MARKER).map(|snapshot| snapshot.descendants()) else { break };
        if descendants.is_empty() {
            break;
        }
        kill_all(&descendants);
        killed.extend(descendants);
    }
    u32::try_from(killed.len()).unwrap_or(u32::MAX)
}

/// Stops all that descends from this process but one; returns what it has stopped, which can be told to go on.
pub(crate) fn stop_descendants(but: Pid) -> HashSet<FoundProcess> {
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let Ok(snapshot) = Snapshot::take(MARKER) else { break };
        let mut fresh = snapshot.descendants();
        fresh.retain(|found| found.pid != but.as_raw_nonzero().get() && !stopped.contains(found));
        if fresh.is_empty() {
            break;
        }
        // Not SIGTSTP, which does nothing to a process that has left the terminal's session.
        fresh.iter().for_each(|found| found.signal(Signal::STOP));
        stopped.extend(fresh);
    }
    stopped
}

/// Waits a moment for a process that was killed.
fn wait_for_end(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    if let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        // Whether it has ended or not, the next look will tell.
        let _ = poll(&mut [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)], Some(&timeout));
    }
}

/// Each round of killing finds those that were born in the one before; a fork bomb takes a few.
pub(crate) const ROUNDS: u32 = 50;
