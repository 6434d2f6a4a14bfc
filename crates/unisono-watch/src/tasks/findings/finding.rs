//! A finding: what is wrong, how sure that is, and the lines that say so.

use crate::tasks::Snapshot;

/// Something that is wrong, or looks like it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// How sure it is.
    pub certainty: Certainty,
    /// In one sentence, without lines.
    pub headline: String,
    /// Lines of the program, the culprit's first, each with what happens there.
    pub lines: Vec<Line>,
    /// The tasks that it is about.
    pub tasks: Vec<usize>,
}

/// A line that a finding names.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Where (`sites`).
    pub site: Option<usize>,
    /// What happens there.
    pub words: String,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Tasks wait for each other.
    Deadlock,
    /// A coroutine was dropped before it began.
    NeverAwaited,
    /// A task has failed, and nothing has fetched its exception.
    Failed,
    /// All threads of a pool are busy, and jobs wait.
    Exhausted,
    /// A future was completed from a thread that is not the loop's, which does not wake it.
    LostWakeup,
    /// A task was asked to stop and goes on.
    CancelSwallowed,
    /// Nothing visible can wake a task.
    Unreachable,
}

impl Kind {
    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::NeverAwaited => "never_awaited",
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::LostWakeup => "lost_wakeup",
            Self::CancelSwallowed => "cancel_swallowed",
            Self::Unreachable => "unreachable",
        }
    }
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It follows from who waits for whom.
    Proved,
    /// Nothing that is visible speaks against it.
    Suspected,
    /// It is so, and may be meant so.
    Fact,
}

impl Certainty {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Suspected => "suspected",
            Self::Fact => "fact",
        }
    }
}

impl Line {
    /// The line of the program that a task stands at, and what it waits for.
    pub fn of_task(snapshot: &Snapshot, task: usize) -> Self {
        Self {
            site: snapshot.own_site(&snapshot.tasks[task].stack),
            words: format!("{} {}", snapshot.task_words(task), snapshot.wait_words(task)),
        }
    }
}
