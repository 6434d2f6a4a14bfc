//! A snapshot as a report: what was found, what is waited for, and who waits for whom, as text or as JSON.

use std::collections::HashMap;

use serde::Serialize;
use unisono_core::printable;

use super::{
    Activity, PoolKind, Snapshot, Wait,
    findings::{Certainty, Finding, confirmed, findings},
    liveness::Liveness,
};

/// What a look has to tell.
#[derive(Debug)]
pub struct Report {
    /// What was seen.
    pub snapshot: Snapshot,
    /// Which tasks can move.
    pub liveness: Liveness,
    /// What is wrong, or looks like it.
    pub findings: Vec<Finding>,
    /// By task: those that wait for it.
    pub waited_for_by: Vec<Vec<usize>>,
}

impl Report {
    /// What there is to tell of a snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        let liveness = Liveness::of(&snapshot);
        let findings = findings(&snapshot, &liveness);
        let mut waited_for_by = vec![Vec::new(); snapshot.tasks.len()];
        for (number, task) in snapshot.tasks.iter().enumerate() {
            if let Wait::Tasks { of, .. } = &task.wait {
                of.iter().for_each(|&other| waited_for_by[other].push(number));
            }
        }
        Self { snapshot, liveness, findings, waited_for_by }
    }

    /// Whether a second look could take something back.
    pub fn is_to_be_confirmed(&self) -> bool {
        self.findings.iter().any(|finding| finding.certainty != Certainty::Fact)
    }

    /// Keeps what an earlier look has found as well.
    pub fn confirm(&mut self, earlier: &Self) {
        let found = std::mem::take(&mut self.findings);
        self.findings = confirmed(found, &self.snapshot, &earlier.findings, &earlier.snapshot);
    }

    /// How many tasks wait for each, by way of others too: for it, or for what it has taken.
    pub fn dependents(&self) -> Vec<usize> {
        let tasks = self.snapshot.tasks.len();
        let mut behind = self.waited_for_by.clone();
        let mut waiting: HashMap<usize, Vec<usize>> = HashMap::new();
        for (number, task) in self.snapshot.tasks.iter().enumerate() {
            if let Wait::Thing { thing, .. } = task.wait {
                waiting.entry(thing).or_default().push(number);
            }
        }
        for (number, task) in self.snapshot.tasks.iter().enumerate() {
            let held = task.holds.iter().filter_map(|hold| waiting.get(&hold.thing)).flatten();
            behind[number].extend(held.filter(|&&other| other != number));
        }
        let mut seen = vec![usize::MAX; tasks];
        (0..tasks)
            .map(|task| {
                // Those that wait for many tasks are counted for each of them; without a bound this would be quadratic.
                let (mut left, mut count) = (behind[task].clone(), 0);
                while let Some(other) = left.pop().filter(|_| count < MOST_DEPENDENTS) {
                    if std::mem::replace(&mut seen[other], task) != task && other != task {
                        count += 1;
                        left.extend(&behind[other]);
                    }
                }
                count
            })
            .collect()
    }

    /// The report as JSON, on one line.
    pub fn json(&self) -> String {
        let snapshot = &self.snapshot;
        let document = Document {
            python: &snapshot.python,
            process: snapshot.process,
            findings: self.findings.iter().map(|finding| self.json_finding(finding)).collect(),
            loops: (0..snapshot.loops.len()).map(|number| self.json_loop(number)).collect(),
            tasks: (0..snapshot.tasks.len()).map(|number| self.json_task(number)).collect(),
            threads: snapshot
                .threads
                .iter()
                .map(|thread| JsonThread {
                    name: thread.name.as_deref(),
                    stack: thread.stack.iter().map(|&site| self.json_site(site)).collect(),
                })
                .collect(),
            pools: snapshot
                .pools
                .iter()
                .map(|pool| JsonPool {
                    kind: match pool.kind {
                        PoolKind::Executor => "executor",
                        PoolKind::Anyio => "anyio",
                    },
                    most: pool.most,
                    busy: pool.busy.iter().map(|busy| busy.thread).collect(),
                    idle: pool.idle,
                    waiting: pool.waiting,
                })
                .collect(),
            not_visible: &snapshot.not_visible,
        };
        serde_json::to_string(&document).expect("a report has keys of text alone")
    }

    fn json_finding<'a>(&'a self, finding: &'a Finding) -> JsonFinding<'a> {
        JsonFinding {
            kind: finding.kind.word(),
            certainty: finding.certainty.word(),
            text: &finding.headline,
            lines: finding
                .lines
                .iter()
                .map(|line| JsonLine { at: line.site.map(|site| self.json_site(site)), text: &line.words })
                .collect(),
            tasks: &finding.tasks,
        }
    }

    fn json_loop(&self, number: usize) -> JsonLoop<'_> {
        let seen = &self.snapshot.loops[number];
        JsonLoop {
            kind: &seen.kind,
            thread: seen.thread,
            ready: known(seen.activity, |(ready, ..)| ready),
            timers: known(seen.activity, |(_, timers, ..)| timers),
            descriptors: known(seen.activity, |(_, _, descriptors, _)| descriptors),
            signals: known(seen.activity, |(.., signals)| signals),
        }
    }

    fn json_task(&self, number: usize) -> JsonTask<'_> {
        let task = &self.snapshot.tasks[number];
        JsonTask {
            name: task.name.as_deref(),
            r#loop: task.of_loop,
            waits: wait_word(&task.wait),
            text: self.snapshot.wait_words(number),
            at: self.snapshot.own_site(&task.stack).map(|site| self.json_site(site)),
            stack: task.stack.iter().map(|&site| self.json_site(site)).collect(),
            awaits: match &task.wait {
                Wait::Tasks { of, .. } => of,
                _ => &[],
            },
            holds: task
                .holds
                .iter()
                .map(|hold| JsonHold { what: self.snapshot.thing_words(hold.thing), since: self.json_site(hold.site) })
                .collect(),
            cancels: task.cancels,
            can_move: self.liveness.can_move[number],
        }
    }

    fn json_site(&self, site: usize) -> JsonSite<'_> {
        let site = &self.snapshot.sites[site];
        JsonSite {
            file: printable(&site.file).into_owned(),
            line: site.line,
            function: &site.function,
            is_framework: site.is_framework,
        }
    }
}

/// A word for each kind of wait.
pub fn wait_word(wait: &Wait) -> &'static str {
    match wait {
        Wait::Ready => "ready",
        Wait::Running => "running",
        Wait::Failed { .. } => "failed",
        Wait::Timer { .. } => "timer",
        Wait::Tasks { .. } => "tasks",
        Wait::Thing { .. } => "thing",
        Wait::Network { .. } => "network",
        Wait::Subprocess { .. } => "subprocess",
        Wait::Job { .. } => "job",
        Wait::WorkerThread { .. } => "worker_thread",
        Wait::Limiter { .. } => "limiter",
        Wait::Future { .. } => "future",
        Wait::Other { .. } => "other",
    }
}

fn known(activity: Activity, which: impl Fn((usize, usize, usize, usize)) -> usize) -> Option<usize> {
    match activity {
        Activity::NotVisible => None,
        Activity::Known { ready, timers, descriptors, signals } => Some(which((ready, timers, descriptors, signals))),
    }
}

/// Where the exact number says nothing more.
const MOST_DEPENDENTS: usize = 1_000;

#[derive(Serialize)]
struct Document<'a> {
    python: &'a str,
    process: u32,
    findings: Vec<JsonFinding<'a>>,
    loops: Vec<JsonLoop<'a>>,
    tasks: Vec<JsonTask<'a>>,
    threads: Vec<JsonThread<'a>>,
    pools: Vec<JsonPool>,
    not_visible: &'a [String],
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    kind: &'static str,
    certainty: &'static str,
    text: &'a str,
    lines: Vec<JsonLine<'a>>,
    tasks: &'a [usize],
}

#[derive(Serialize)]
struct JsonLine<'a> {
    at: Option<JsonSite<'a>>,
    text: &'a str,
}

#[derive(Serialize)]
struct JsonSite<'a> {
    file: String,
    line: u32,
    function: &'a str,
    is_framework: bool,
}

#[derive(Serialize)]
struct JsonLoop<'a> {
    kind: &'a str,
    thread: Option<usize>,
    ready: Option<usize>,
    timers: Option<usize>,
    descriptors: Option<usize>,
    signals: Option<usize>,
}

#[derive(Serialize)]
struct JsonTask<'a> {
    name: Option<&'a str>,
    r#loop: usize,
    waits: &'static str,
    text: String,
    at: Option<JsonSite<'a>>,
    stack: Vec<JsonSite<'a>>,
    awaits: &'a [usize],
    holds: Vec<JsonHold<'a>>,
    cancels: u32,
    can_move: bool,
}

#[derive(Serialize)]
struct JsonHold<'a> {
    what: String,
    since: JsonSite<'a>,
}

#[derive(Serialize)]
struct JsonThread<'a> {
    name: Option<&'a str>,
    stack: Vec<JsonSite<'a>>,
}

#[derive(Serialize)]
struct JsonPool {
    kind: &'static str,
    most: Option<usize>,
    busy: Vec<usize>,
    idle: usize,
    waiting: usize,
}
