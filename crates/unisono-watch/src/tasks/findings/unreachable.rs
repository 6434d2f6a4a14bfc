//! Tasks that nothing visible can wake, by the line where they stand.
//!
//! A task that waits alone for something of its own, while the program goes on elsewhere, is not among them: that is
//! how programs wait for ever on purpose (`await asyncio.Event().wait()`). It is where others need it, or nothing else
//! runs.

use std::collections::BTreeMap;

use super::{
    deadlocks::Deadlocks,
    finding::{Certainty, Finding, Kind, Line},
};
use crate::tasks::{Snapshot, ThingKind, Wait, liveness::Liveness};

/// Tasks that nothing visible can wake.
pub fn unreachable(snapshot: &Snapshot, liveness: &Liveness, deadlocks: &Deadlocks) -> Vec<Finding> {
    let mut waiting = vec![Vec::new(); snapshot.things.len()];
    for (number, task) in snapshot.tasks.iter().enumerate() {
        if let Wait::Thing { thing, .. } | Wait::Future { thing } = task.wait {
            waiting[thing].push(number);
        }
    }
    let holders = snapshot.all_holders();
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (number, task) in snapshot.tasks.iter().enumerate() {
        let (Wait::Thing { thing, .. } | Wait::Future { thing }) = task.wait else { continue };
        // Who waits for what another holds is not the one that is to be looked at.
        let is_behind = holders[thing].iter().any(|&holder| holder != number);
        if liveness.can_move[number] || deadlocks.has(number) || is_behind {
            continue;
        }
        let is_own = matches!(snapshot.things[thing].kind, ThingKind::Event | ThingKind::Future)
            && waiting[thing].len() == 1
            && !task.holds.iter().any(|hold| waiting[hold.thing].iter().any(|&other| other != number));
        if is_own && liveness.anything_runs {
            continue;
        }
        groups.entry((snapshot.own_site(&task.stack), snapshot.things[thing].kind)).or_default().push(number);
    }
    let mut found: Vec<_> = groups.into_values().map(|tasks| finding(snapshot, liveness, &waiting, tasks)).collect();
    // Who has something that others wait for comes first, then who is needed by most.
    found.sort_by_key(|(importance, _)| std::cmp::Reverse(*importance));
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn finding(
    snapshot: &Snapshot,
    liveness: &Liveness,
    waiting: &[Vec<usize>],
    tasks: Vec<usize>,
) -> ((usize, usize), Finding) {
    let first = tasks[0];
    let (Wait::Thing { thing, .. } | Wait::Future { thing }) = snapshot.tasks[first].wait else {
        unreachable!("only such tasks are grouped")
    };
    let held: Vec<_> = tasks.iter().flat_map(|&task| &snapshot.tasks[task].holds).collect();
    let behind: usize = held.iter().map(|hold| waiting[hold.thing].len()).sum();
    let end = if liveness.anything_runs { "" } else { "; nothing else in the program runs any more" };
    let headline = format!("nothing visible can wake {}{end}", snapshot.tasks_words(&tasks));
    let seen = &snapshot.things[thing];
    let is_lock = matches!(seen.kind, ThingKind::Lock | ThingKind::Semaphore);
    let why = if is_lock && seen.is_taken {
        ": it is taken, and no task is inside of `async with` on it: a release() is missing"
    } else {
        ""
    };
    let mut lines = vec![Line {
        words: format!("{}{why}", Line::of_task(snapshot, first).words),
        ..Line::of_task(snapshot, first)
    }];
    for hold in held.iter().take(LINES).filter(|hold| !waiting[hold.thing].is_empty()) {
        lines.push(Line {
            site: Some(hold.site),
            words: format!(
                "it has taken {} here, for which {}",
                snapshot.thing_words(hold.thing),
                match waiting[hold.thing].len() {
                    1 => "1 task waits".into(),
                    several => format!("{several} tasks wait"),
                }
            ),
        });
    }
    let importance = (behind, tasks.len());
    (importance, Finding { kind: Kind::Unreachable, certainty: Certainty::Suspected, headline, lines, tasks })
}

const LINES: usize = 3;
