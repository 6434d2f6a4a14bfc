//! A report as text, for people: what was found, what most wait for, then the tree of tasks, threads and loops.
//!
//! The first line of a program that it names is the one to look at. Tasks with the same stack are one line.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

use unisono_core::printable;

use super::{
    Activity, PoolKind, Snapshot, Wait,
    report::{Report, wait_word},
};

impl Report {
    /// The report as lines of text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.push_head(&mut text);
        self.push_findings(&mut text);
        self.push_waited_for(&mut text);
        self.push_tasks(&mut text);
        self.push_threads(&mut text);
        self.push_loops(&mut text);
        text
    }

    fn push_head(&self, text: &mut String) {
        let snapshot = &self.snapshot;
        let waiting = snapshot.tasks.iter().filter(|task| !matches!(task.wait, Wait::Failed { .. })).count();
        push(
            text,
            format_args!(
                "process {}, Python {}: {} on {}, {}",
                snapshot.process,
                snapshot.python,
                counted(waiting, "task"),
                counted(snapshot.loops.len(), "loop"),
                counted(snapshot.threads.len(), "thread"),
            ),
        );
    }

    fn push_findings(&self, text: &mut String) {
        for finding in &self.findings {
            push(
                text,
                format_args!(
                    "\n{} ({}): {}",
                    words_of(finding.kind.word()),
                    finding.certainty.word(),
                    finding.headline
                ),
            );
            for line in finding.lines.iter().take(LINES) {
                match line.site {
                    Some(site) => push(text, format_args!("  {}: {}", self.snapshot.site_words(site), line.words)),
                    None => push(text, format_args!("  {}", line.words)),
                }
            }
            if finding.lines.len() > LINES {
                push(text, format_args!("  and {} more lines", finding.lines.len() - LINES));
            }
        }
    }

    /// Those at the end of all waiting, if nothing is wrong with them that was found.
    fn push_waited_for(&self, text: &mut String) {
        let snapshot = &self.snapshot;
        let dependents = self.dependents();
        let told: HashSet<_> = self.findings.iter().flat_map(|finding| &finding.tasks).collect();
        let holders = snapshot.all_holders();
        let mut groups: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
        for (number, task) in snapshot.tasks.iter().enumerate() {
            let waits_for_tasks = matches!(&task.wait, Wait::Tasks { of, .. } if !of.is_empty());
            let is_behind = matches!(task.wait, Wait::Thing { thing, .. } if !holders[thing].is_empty());
            if dependents[number] == 0 || waits_for_tasks || is_behind || told.contains(&number) {
                continue;
            }
            let site = snapshot.own_site(&task.stack);
            let is_full = groups.len() >= MOST_LINES;
            match groups.iter_mut().find(|(other, _)| *other == site) {
                Some((_, tasks)) => tasks.push(number),
                None if is_full => {}
                None => groups.push((site, vec![number])),
            }
        }
        if groups.is_empty() {
            return;
        }
        groups.sort_by_key(|(_, tasks)| std::cmp::Reverse(tasks.iter().map(|&task| dependents[task]).sum::<usize>()));
        push(text, format_args!("\nwaited for by others:"));
        for (site, tasks) in groups.iter().take(LINES) {
            let others = tasks.iter().map(|&task| dependents[task]).max().unwrap_or(0);
            let words = match tasks[..] {
                [only] => format!("{} {}", snapshot.task_words(only), snapshot.wait_words(only)),
                _ => format!("{}, the first {}", snapshot.tasks_words(tasks), snapshot.wait_words(tasks[0])),
            };
            let behind = format!(
                "{} for {}",
                if others == 1 { "1 task waits".into() } else { format!("{others} tasks wait") },
                if tasks.len() == 1 { "it" } else { "them" }
            );
            match site {
                Some(site) => push(text, format_args!("  {}: {words}; {behind}", snapshot.site_words(*site))),
                None => push(text, format_args!("  {words}; {behind}")),
            }
        }
    }

    fn push_tasks(&self, text: &mut String) {
        for number in 0..self.snapshot.loops.len() {
            let of_loop = |task: &usize| {
                let seen = &self.snapshot.tasks[*task];
                seen.of_loop == number && !matches!(seen.wait, Wait::Failed { .. })
            };
            let tasks: Vec<_> = (0..self.snapshot.tasks.len()).filter(of_loop).collect();
            let heading =
                if self.snapshot.loops.len() == 1 { String::new() } else { format!(" of loop {}", number + 1) };
            push(text, format_args!("\ntasks{heading}, each with what it waits for below it:"));
            let mut is_shown = vec![false; self.snapshot.tasks.len()];
            let roots = tasks.iter().copied().filter(|&task| self.waited_for_by[task].is_empty()).collect();
            let mut left = MOST_LINES;
            self.push_branch(text, roots, 1, &mut is_shown, &mut left);
            // Those that wait for each other have no beginning.
            let rest = tasks.into_iter().filter(|&task| !is_shown[task]).collect();
            self.push_branch(text, rest, 1, &mut is_shown, &mut left);
        }
    }

    /// Tasks beside each other, those with the same stack and wait as one, and below each what it waits for.
    fn push_branch(&self, text: &mut String, tasks: Vec<usize>, depth: usize, is_shown: &mut [bool], left: &mut usize) {
        let snapshot = &self.snapshot;
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut places: HashMap<(&[usize], &str), usize> = HashMap::new();
        for task in tasks {
            if std::mem::replace(&mut is_shown[task], true) {
                continue;
            }
            let seen = &snapshot.tasks[task];
            let place = *places.entry((&seen.stack, wait_word(&seen.wait))).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(task),
                None => groups.push(vec![task]),
            }
        }
        let count = groups.len();
        for (shown, group) in groups.into_iter().enumerate() {
            if *left == 0 {
                if shown < count {
                    push(
                        text,
                        format_args!("{:indent$}and {} more", "", counted(count - shown, "line"), indent = depth * 2),
                    );
                }
                return;
            }
            *left -= 1;
            let first = group[0];
            let stack = &snapshot.tasks[first].stack;
            let comma = if group.len() == 1 { "" } else { ", the first" };
            let wait = snapshot.wait_words(first);
            push(
                text,
                format_args!("{:indent$}{}{comma} {wait}", "", snapshot.tasks_words(&group), indent = depth * 2),
            );
            push(text, format_args!("{:indent$}{}", "", self.stack_words(stack), indent = depth * 2 + 4));
            let below: Vec<_> = group
                .iter()
                .flat_map(|&task| match &snapshot.tasks[task].wait {
                    Wait::Tasks { of, .. } => of.as_slice(),
                    _ => &[],
                })
                .copied()
                .collect();
            if !below.is_empty() && depth < DEEPEST {
                self.push_branch(text, below, depth + 1, is_shown, left);
            }
        }
    }

    /// The lines of the program in a stack, innermost first; those of libraries where there are no others.
    fn stack_words(&self, stack: &[usize]) -> String {
        let snapshot = &self.snapshot;
        let own: Vec<_> = stack.iter().rev().filter(|&&site| !snapshot.sites[site].is_framework).collect();
        let shown = if own.is_empty() { stack.iter().rev().take(2).collect() } else { own };
        let mut words: Vec<_> = shown.iter().take(FRAMES).map(|&&site| snapshot.site_words(site)).collect();
        if shown.len() > FRAMES {
            words.push(format!("{} more", shown.len() - FRAMES));
        }
        if words.is_empty() { "(no stack)".into() } else { format!("at {}", words.join(" < ")) }
    }

    fn push_threads(&self, text: &mut String) {
        let snapshot = &self.snapshot;
        push(text, format_args!("\nthreads:"));
        let mut groups: Vec<(&[usize], Vec<usize>)> = Vec::new();
        for (number, thread) in snapshot.threads.iter().enumerate() {
            match groups.iter_mut().find(|(stack, _)| *stack == thread.stack) {
                Some((_, threads)) => threads.push(number),
                None => groups.push((&thread.stack, vec![number])),
            }
        }
        for (stack, threads) in groups.iter().take(MOST_LINES) {
            let names = match threads[..] {
                [only] => snapshot.thread_words(only),
                _ => format!("{} threads ({}, ...)", threads.len(), snapshot.thread_words(threads[0])),
            };
            let note = if snapshot.threads[threads[0]].is_looking { " (asked for this)" } else { "" };
            push(text, format_args!("  {names}{note} {}", self.stack_words(stack)));
        }
        for pool in &snapshot.pools {
            let kind = match pool.kind {
                PoolKind::Executor => "executor",
                PoolKind::Anyio => "worker threads of anyio",
            };
            let most = pool.most.map_or(String::new(), |most| format!(" of at most {most}"));
            push(
                text,
                format_args!(
                    "  {kind}: {} busy{most}, {} idle, {} waiting",
                    pool.busy.len(),
                    pool.idle,
                    counted(pool.waiting, "job")
                ),
            );
        }
    }

    fn push_loops(&self, text: &mut String) {
        for (number, seen) in self.snapshot.loops.iter().enumerate() {
            let thread = seen
                .thread
                .map_or(String::new(), |thread| format!(" in thread {}", self.snapshot.thread_words(thread)));
            let activity = match seen.activity {
                Activity::NotVisible => "its timers, sockets and callbacks are not visible".to_owned(),
                Activity::Known { ready, timers, descriptors, signals } => format!(
                    "{}, {}, {}, {}",
                    counted(ready, "ready callback"),
                    counted(timers, "timer"),
                    counted(descriptors, "socket or pipe"),
                    counted(signals, "signal")
                ),
            };
            push(text, format_args!("\nloop {} ({}){thread}: {activity}", number + 1, printable(&seen.kind)));
        }
        for words in &self.snapshot.not_visible {
            push(text, format_args!("not visible: {words}"));
        }
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn words_of(kind: &str) -> String {
    kind.replace('_', " ").to_uppercase()
}

fn counted(count: usize, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "socket or pipe") => format!("{count} sockets or pipes"),
        _ => format!("{count} {what}s"),
    }
}

impl Snapshot {
    /// Whether there is anything to show.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// Lines of one finding, or of what is waited for.
const LINES: usize = 8;
/// Lines of the tree.
const MOST_LINES: usize = 60;
/// Lines of the program of one stack.
const FRAMES: usize = 5;
const DEEPEST: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Loop, Site, Task, Thing, ThingKind, Together};

    fn site(file: &str, line: u32, function: &str, is_framework: bool) -> Site {
        Site { file: file.into(), line, function: function.into(), is_framework, role: None }
    }

    /// A main task that waits for so many workers, all in one queue.
    fn workers(count: usize) -> Snapshot {
        let mut tasks = vec![Task {
            name: Some("main".into()),
            stack: vec![0],
            wait: Wait::Tasks { how: Together::Gather, of: (1..=count).collect(), others: 0, all: count },
            ..Task::default()
        }];
        tasks.extend((1..=count).map(|number| Task {
            name: Some(format!("w{number}")),
            stack: vec![1, 2],
            wait: Wait::Thing { thing: 0, call: "Queue.get" },
            ..Task::default()
        }));
        Snapshot {
            python: "3.13.0".into(),
            process: 7,
            loops: vec![Loop { kind: "asyncio.Loop".into(), ..Loop::default() }],
            tasks,
            sites: vec![
                site("app.py", 9, "main", false),
                site("app.py", 4, "work", false),
                site("/lib/asyncio/queues.py", 150, "Queue.get", true),
            ],
            things: vec![Thing { kind: ThingKind::Queue, number: 0, is_taken: false, places: None }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn ten_thousand_tasks_with_one_stack_are_one_line() {
        let text = Report::new(workers(10_000)).text();
        assert!(text.lines().count() < 20, "{text}");
        assert!(
            text.contains("10000 tasks ('w1', 'w2', 'w3', 'w4', ...), the first waits in Queue.get() of Queue #1"),
            "{text}"
        );
    }

    #[test]
    fn the_lines_of_the_program_are_shown_and_those_of_libraries_are_not() {
        let text = Report::new(workers(1)).text();
        assert!(text.contains("'w1' waits in Queue.get() of Queue #1\n        at app.py:4 in work\n"), "{text}");
        assert!(!text.contains("queues.py"), "{text}");
    }

    #[test]
    fn a_name_moves_no_cursor_and_fills_no_screen() {
        let mut snapshot = workers(1);
        snapshot.tasks[1].name = Some(format!("\u{1b}[2K{}", "x".repeat(1_000)));
        let text = Report::new(snapshot).text();
        assert!(!text.contains('\u{1b}') && !text.contains(&"x".repeat(100)), "{text}");
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_all_shown() {
        let mut snapshot = workers(2);
        snapshot.tasks[0].wait = Wait::Tasks { how: Together::One, of: vec![1], others: 0, all: 1 };
        snapshot.tasks[1].wait = Wait::Tasks { how: Together::One, of: vec![0], others: 0, all: 1 };
        let text = Report::new(snapshot).text();
        assert!(text.contains("\n  'main' waits for 'w1'") && text.contains("'w2' waits in"), "{text}");
    }

    #[test]
    fn json_is_one_line_that_reads_back() {
        let json = Report::new(workers(3)).json();
        let read: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        assert_eq!(read["tasks"].as_array().map(Vec::len), Some(4));
        assert_eq!(read["tasks"][1]["at"]["line"], 4);
        assert!(!json.contains('\n'));
    }
}
