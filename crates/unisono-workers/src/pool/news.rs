//! What happens to the workers of a pool, for a log: kept until its reader takes it.
//!
//! A pool never calls its reader, which is the thread in `Pool::serve`: what is told is put down under the lock, and
//! taken by `Pool::news`. What is told is in `telling.rs`.

use std::{collections::VecDeque, sync::Arc};

use crate::task::{Death, Task, held};

/// How much one piece of news matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// It goes as it was asked to.
    Usual,
    /// Something was lost, or will be.
    Warning,
}

/// Something that has happened to a worker, to the task that it ran, or to the whole pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolNews {
    /// How much it matters.
    pub importance: Importance,
    /// All of it, in words.
    pub text: String,
    /// The process number of the worker.
    pub pid: Option<i32>,
    /// How the worker has ended.
    pub death: Option<Death>,
    /// The task that it concerns.
    pub task: Option<TaskNews>,
}

/// The task that a piece of news concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskNews {
    /// Which submission it was, from 1.
    pub number: u64,
    /// Its function's name; empty where it has none.
    pub name: String,
    /// What it shares with others of which only so many may run at once.
    pub key: Option<Arc<str>>,
    /// Which of its attempts this was, from 1.
    pub attempt: u32,
}

/// News that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct News {
    /// What is kept: news of this importance and above.
    pub least: Option<Importance>,
    kept: VecDeque<PoolNews>,
}

impl News {
    pub fn keeps(&self, importance: Importance) -> bool {
        self.least.is_some_and(|least| importance >= least)
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub fn add(&mut self, news: PoolNews) {
        // A reader that takes nothing for long gets the latest, as of a log that is rotated.
        if self.kept.len() == MOST_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(news);
    }

    pub fn take(&mut self) -> Vec<PoolNews> {
        self.kept.drain(..).collect()
    }
}

impl PoolNews {
    pub(super) fn of(text: String) -> Self {
        Self { importance: Importance::Warning, text, pid: None, death: None, task: None }
    }
}

impl TaskNews {
    pub(super) fn of(task: &Task) -> Self {
        Self {
            number: task.number + 1,
            name: task.function.name.clone(),
            key: task.terms.key.clone(),
            // What is told of an attempt is told when it has been counted.
            attempt: held(&task.inner).attempts,
        }
    }
}

/// What a reader that is not there for a while may find.
const MOST_KEPT: usize = 1000;
