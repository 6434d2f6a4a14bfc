//! Futures that are done while the loop of who waits for them sleeps: they were completed from another thread, which
//! does not wake the loop.

use super::finding::{Certainty, Finding, Kind, Line};
use crate::tasks::Snapshot;

/// Tasks whose future is done, on a loop that waits for its sockets. A second look tells them from those that are about
/// to go on.
pub fn lost(snapshot: &Snapshot) -> Option<Finding> {
    let tasks: Vec<_> = (0..snapshot.tasks.len())
        .filter(|&task| {
            let task = &snapshot.tasks[task];
            task.is_woken && snapshot.loops.get(task.of_loop).is_some_and(|seen| seen.is_parked)
        })
        .collect();
    if tasks.is_empty() {
        return None;
    }
    let headline = format!(
        "{} cannot go on although what it waited for is done: it was completed in another thread, which does not wake \
         the loop; use loop.call_soon_threadsafe() there, or a queue for threads",
        snapshot.tasks_words(&tasks)
    );
    let lines = tasks.iter().take(LINES).map(|&task| Line {
        site: snapshot.own_site(&snapshot.tasks[task].stack),
        words: format!("{} waits here, and its loop sleeps", snapshot.task_words(task)),
    });
    let lines = lines.collect();
    Some(Finding { kind: Kind::LostWakeup, certainty: Certainty::Suspected, headline, lines, tasks })
}

const LINES: usize = 5;
