//! Tasks that were asked to stop, have swallowed it, and go on.
//!
//! One that is still at work on it (in an `except` or `finally`) is not among them, nor one that is about to be told,
//! nor one for whose end nothing waits: it may stop in its own time.

use super::finding::{Certainty, Finding, Kind, Line};
use crate::tasks::{Snapshot, Wait};

/// Tasks that go on although they were asked to stop.
pub fn swallowed(snapshot: &Snapshot) -> Option<Finding> {
    let mut is_awaited = vec![false; snapshot.tasks.len()];
    for task in &snapshot.tasks {
        if let Wait::Tasks { of, .. } = &task.wait {
            of.iter().for_each(|&other| is_awaited[other] = true);
        }
    }
    let is_swallowed = |&number: &usize| {
        let task = &snapshot.tasks[number];
        let waits = !matches!(task.wait, Wait::Ready | Wait::Running | Wait::Failed { .. });
        let is_to_end = is_awaited[number]
            || task.cancels > 1
            || snapshot.loops.get(task.of_loop).is_some_and(|seen| seen.is_ending);
        is_to_end && task.cancels > 0 && !task.is_cleaning_up && !task.is_woken && waits
    };
    let tasks: Vec<_> = (0..snapshot.tasks.len()).filter(is_swallowed).collect();
    if tasks.is_empty() {
        return None;
    }
    let headline =
        format!("{} was asked to stop, has swallowed it (CancelledError) and goes on", snapshot.tasks_words(&tasks));
    let lines = tasks.iter().take(LINES).map(|&task| {
        let times = if snapshot.tasks[task].cancels == 1 {
            String::new()
        } else {
            format!(", {} times", snapshot.tasks[task].cancels)
        };
        Line {
            site: snapshot.own_site(&snapshot.tasks[task].stack),
            words: format!("{} was asked to stop{times} and {}", snapshot.task_words(task), snapshot.wait_words(task)),
        }
    });
    let lines = lines.collect();
    Some(Finding { kind: Kind::CancelSwallowed, certainty: Certainty::Suspected, headline, lines, tasks })
}

const LINES: usize = 5;
