//! What is wrong, or looks like it: proved, suspected, or a fact that explains what waits.
//!
//! A false alarm is worse than a silence. What is *proved* follows from who waits for whom. What is *suspected* is that
//! nothing visible can wake a task; it is believed where a second look, some time later, says the same of the same
//! tasks ([`confirmed`]). *Facts* accuse nobody: that all threads are busy may be just what the program is for.
//!
//! Order: what most often causes the others comes first, since the first line is what gets read.

mod cancelled;
mod deadlocks;
mod dropped;
mod finding;
mod lost_wakeups;
mod pools;
mod unreachable;

use std::collections::{HashMap, HashSet};

pub use finding::{Certainty, Finding, Kind, Line};

use super::{Snapshot, Task, liveness::Liveness};

/// What is found in a snapshot.
pub fn findings(snapshot: &Snapshot, liveness: &Liveness) -> Vec<Finding> {
    let deadlocks = deadlocks::Deadlocks::of(snapshot);
    let mut found = deadlocks.findings(snapshot);
    found.extend(dropped::never_awaited(snapshot));
    found.extend(dropped::failed(snapshot));
    found.extend(pools::exhausted(snapshot));
    found.extend(lost_wakeups::lost(snapshot));
    found.extend(cancelled::swallowed(snapshot));
    found.extend(unreachable::unreachable(snapshot, liveness, &deadlocks));
    found
}

/// What a later look has found again: of the same kind, and of tasks that have not moved since.
pub fn confirmed(
    found: Vec<Finding>,
    snapshot: &Snapshot,
    earlier: &[Finding],
    earlier_snapshot: &Snapshot,
) -> Vec<Finding> {
    let mut before: HashMap<Kind, HashSet<Unmoved<'_>>> = HashMap::new();
    for finding in earlier {
        let tasks = finding.tasks.iter().map(|&task| &earlier_snapshot.tasks[task]);
        before.entry(finding.kind).or_default().extend(tasks.map(same));
    }
    let was_found = |finding: &Finding| {
        let Some(before) = before.get(&finding.kind) else { return false };
        let tasks = finding.tasks.iter().map(|&task| &snapshot.tasks[task]);
        tasks.map(same).all(|task| before.contains(&task))
    };
    found.into_iter().filter(|finding| finding.certainty == Certainty::Fact || was_found(finding)).collect()
}

/// What two looks know a task by that has not moved. By its name too, since where one has ended another may lie.
type Unmoved<'a> = (usize, usize, Option<&'a str>);

fn same(task: &Task) -> Unmoved<'_> {
    (task.identity, task.waiter, task.name.as_deref())
}
