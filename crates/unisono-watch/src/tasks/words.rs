//! Tasks, lines and waits in words that are safe to show.

use unisono_core::{printable, redacted};

use super::{Snapshot, Thing, ThingKind, Together, Wait};

/// A name as it is shown: escaped, and cut.
fn shown(name: &str) -> String {
    let mut text = printable(name).into_owned();
    if let Some((end, _)) = text.char_indices().nth(LONGEST_NAME) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl Snapshot {
    /// A task by its name.
    pub fn task_words(&self, task: usize) -> String {
        match &self.tasks[task].name {
            Some(name) => format!("'{}'", shown(name)),
            None => format!("task #{task}"),
        }
    }

    /// Some tasks: their number, and the names of the first.
    pub fn tasks_words(&self, tasks: &[usize]) -> String {
        match tasks {
            [] => "no task".into(),
            [only] => self.task_words(*only),
            several => {
                let names: Vec<_> = several.iter().take(NAMES).map(|&task| self.task_words(task)).collect();
                let more = if several.len() > NAMES { ", ..." } else { "" };
                format!("{} tasks ({}{more})", several.len(), names.join(", "))
            }
        }
    }

    /// A line: `file:line in function`.
    pub fn site_words(&self, site: usize) -> String {
        let site = &self.sites[site];
        format!("{}:{} in {}", printable(&site.file), site.line, printable(&site.function))
    }

    /// A task with the line of the program that it stands at.
    pub fn task_at(&self, task: usize) -> String {
        match self.own_site(&self.tasks[task].stack) {
            Some(site) => format!("{} at {}", self.task_words(task), self.site_words(site)),
            None => self.task_words(task),
        }
    }

    /// A thread by its name.
    pub fn thread_words(&self, thread: usize) -> String {
        match &self.threads[thread].name {
            Some(name) => format!("'{}'", shown(name)),
            None => format!("thread #{thread}"),
        }
    }

    /// A thing: `Lock #2`.
    pub fn thing_words(&self, thing: usize) -> String {
        let Thing { kind, number, .. } = &self.things[thing];
        format!("{} #{}", kind.word(), number + 1)
    }

    /// What a task waits for.
    pub fn wait_words(&self, task: usize) -> String {
        let task = &self.tasks[task];
        if task.is_woken {
            return "about to go on".into();
        }
        match &task.wait {
            Wait::Ready => "waits for its turn".into(),
            Wait::Running => "runs".into(),
            Wait::Failed { kind, .. } => format!("ended by {kind}, which nothing has fetched"),
            Wait::Timer { left: Some(left) } => format!("sleeps for another {left:.1} s"),
            Wait::Timer { left: None } => "sleeps".into(),
            Wait::Tasks { how, of, others, all } => self.together_words(*how, of, *others, *all),
            Wait::Thing { thing, call } => match self.holder_words(*thing) {
                Some(holders) => format!("waits in {call}() of {}, {holders}", self.thing_words(*thing)),
                None => format!("waits in {call}() of {}", self.thing_words(*thing)),
            },
            Wait::Network { call, peer: Some(peer) } => format!("waits for {call} (peer {})", redacted(peer)),
            Wait::Network { call, peer: None } => format!("waits for {call}"),
            Wait::Subprocess { process: Some(process) } => format!("waits for child process {process}"),
            Wait::Subprocess { process: None } => "waits for a child process".into(),
            Wait::Job { is_queued: true, .. } => "waits for a job that no thread of its executor has begun".into(),
            Wait::Job { thread: Some(thread), .. } => self.in_thread_words("a job", *thread),
            Wait::Job { thread: None, .. } => "waits for a job of an executor".into(),
            Wait::WorkerThread { thread: Some(thread) } => self.in_thread_words("a function", *thread),
            Wait::WorkerThread { thread: None } => "waits for a function in a worker thread of anyio".into(),
            Wait::Limiter { taken, places: Some(places) } => {
                format!("waits for one of {places} worker threads of anyio, of which {taken} are taken")
            }
            Wait::Limiter { taken, places: None } => format!("waits for a worker thread of anyio, {taken} are taken"),
            Wait::Future { .. } => "waits for a future".into(),
            Wait::Other { kind } => format!("waits for an object of type {}", printable(kind)),
        }
    }

    fn together_words(&self, how: Together, of: &[usize], others: usize, all: usize) -> String {
        let left = of.len() + others;
        let names = match of {
            [] if others == 0 => "all are done".into(),
            [] => format!("{others} left"),
            tasks => format!("left: {}", self.tasks_words(tasks)),
        };
        match how {
            Together::One if left == 1 && others == 0 => format!("waits for {}", self.tasks_words(of)),
            Together::One => "waits for a future".into(),
            Together::Shield => format!("waits for {}, shielded", self.tasks_words(of)),
            Together::WaitFor => format!("waits for {} with a time limit", self.tasks_words(of)),
            Together::Gather => format!("waits for a gather of {all} ({names})"),
            Together::Wait => format!("waits for the first or all of {all} ({names})"),
            Together::TaskGroup => format!("waits for the end of its TaskGroup ({names})"),
        }
    }

    /// Who has a lock or the places of a semaphore, and since which line.
    pub fn holder_words(&self, thing: usize) -> Option<String> {
        let kind = self.things[thing].kind;
        if !matches!(kind, ThingKind::Lock | ThingKind::Semaphore | ThingKind::Condition) {
            return None;
        }
        let mut holders = self.holders(thing);
        let words: Vec<_> = holders
            .by_ref()
            .take(NAMES)
            .map(|(task, site)| format!("{} since {}", self.task_words(task), self.site_words(site)))
            .collect();
        if words.is_empty() {
            return None;
        }
        let more = holders.count();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("held by {}{more}", words.join(", ")))
    }

    fn in_thread_words(&self, what: &str, thread: usize) -> String {
        match self.own_site(&self.threads[thread].stack) {
            Some(site) => {
                format!("waits for {what} on thread {}, now at {}", self.thread_words(thread), self.site_words(site))
            }
            None => format!("waits for {what} on thread {}", self.thread_words(thread)),
        }
    }
}

/// Names that are shown of many.
const NAMES: usize = 4;
/// Characters of a name.
const LONGEST_NAME: usize = 60;
