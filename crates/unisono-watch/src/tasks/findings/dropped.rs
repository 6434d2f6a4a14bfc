//! What was dropped: coroutines that nothing has awaited, exceptions that nothing has fetched.

use super::finding::{Certainty, Finding, Kind, Line};
use crate::tasks::{Snapshot, Wait};

/// Coroutines that were dropped before they began, by the line.
pub fn never_awaited(snapshot: &Snapshot) -> Option<Finding> {
    let lines: Vec<_> = snapshot
        .never_awaited
        .iter()
        .filter(|dropped| !snapshot.sites[dropped.site].is_framework)
        .map(|dropped| Line {
            site: Some(dropped.site),
            words: format!(
                "the coroutine of {}() was dropped here; await it",
                unisono_core::printable(&dropped.function)
            ),
        })
        .collect();
    let headline = match lines.len() {
        0 => return None,
        1 => "a coroutine was never awaited".to_owned(),
        several => format!("coroutines were never awaited, at {several} lines"),
    };
    Some(Finding { kind: Kind::NeverAwaited, certainty: Certainty::Fact, headline, lines, tasks: Vec::new() })
}

/// Tasks that have failed, and whose exceptions nothing has fetched.
pub fn failed(snapshot: &Snapshot) -> Option<Finding> {
    let mut tasks = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for (number, task) in snapshot.tasks.iter().enumerate() {
        let Wait::Failed { kind, site } = &task.wait else { continue };
        tasks.push(number);
        // One line of many is enough.
        if !lines.iter().any(|line| line.site == *site) {
            let words = format!("{} was ended by {kind}, raised here", snapshot.task_words(number));
            lines.push(Line { site: *site, words });
        }
    }
    let headline = match tasks.len() {
        0 => return None,
        1 => "a task has failed, and nothing has fetched its exception".to_owned(),
        several => format!("{several} tasks have failed, and nothing has fetched their exceptions"),
    };
    Some(Finding { kind: Kind::Failed, certainty: Certainty::Fact, headline, lines, tasks })
}
