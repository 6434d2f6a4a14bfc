//! `unisono top PID`: the lines at which a watched program is most of the time, by looking again and again.

use std::{collections::HashMap, fmt::Write, io::IsTerminal, thread, time::Duration};

use clap::Args;
use unisono_core::{clock, printable};
use unisono_watch::protocol::{Answer, FrameAnswer, Question, ThreadAnswer};

use super::{asked, ps::state};
use crate::{
    failure::Failure,
    output::{self, StandardOutput},
};

/// So often is looked within a second.
const LOOKS_PER_SECOND: u32 = 20;
/// How many lines are shown of what runs, and of what sleeps.
const LINES_SHOWN: usize = 10;
/// Moves to the first column of the first line, and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Whose lines, and for how long.
#[derive(Debug, Args)]
#[command(after_help = "Exit status:
  0 done · 2 usage, or a process that is not watched · 125 our own failure")]
pub struct TopArgs {
    /// The process, by its number; `unisono ps` lists those that are watched
    #[arg(value_name = "PID")]
    pub process: u32,
    /// Look for so many seconds, then tell
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub every: Duration,
    /// Tell so many times, then end; until it is interrupted or the process ends by default
    #[arg(long, value_name = "N")]
    pub times: Option<u32>,
}

fn seconds(word: &str) -> Result<Duration, String> {
    let number: f64 = word.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        Ok(time) if number >= 0.1 => Ok(time),
        _ => Err("expected a number of seconds, 0.1 or more".to_owned()),
    }
}

/// Runs the command; returns its exit status.
pub fn run(args: &TopArgs) -> Result<u8, Failure> {
    let mut out = StandardOutput::open()?;
    let is_live = std::io::stdout().is_terminal();
    let mut told = 0;
    loop {
        let (answer, lines) = looked(args)?;
        let text = format!("{}{}", if is_live { CLEAR } else { "" }, shown(args.process, &answer, &lines));
        let status = output::ended(out.own(&text).and_then(|()| out.flush()))?;
        told += 1;
        if status != 0 || args.times.is_some_and(|times| told >= times) {
            return Ok(status);
        }
    }
}

/// How often each line was seen, of threads that run and of threads that sleep.
#[derive(Debug, Default)]
struct Lines {
    looks: usize,
    running: HashMap<String, usize>,
    sleeping: HashMap<String, usize>,
}

/// Looks again and again, for as long as is asked for. Returns the last answer beside the lines.
fn looked(args: &TopArgs) -> Result<(Answer, Lines), Failure> {
    let (begun, mut lines) = (clock::now(), Lines::default());
    loop {
        let answer = asked::one(args.process, Question::Threads)?;
        lines.looks += 1;
        answer.threads.iter().flatten().for_each(|thread| lines.count(thread));
        if clock::since(begun) >= args.every {
            return Ok((answer, lines));
        }
        thread::sleep(Duration::from_secs(1) / LOOKS_PER_SECOND);
    }
}

impl Lines {
    fn count(&mut self, thread: &ThreadAnswer) {
        let place = match &thread.stack {
            Some(stack) => match stack.iter().find(|frame| frame.is_own).or_else(|| stack.first()) {
                Some(frame) => line_of(frame),
                // It is about to begin, or to end.
                None => return,
            },
            None => "calls and returns too fast for its stack to be read".to_owned(),
        };
        let (counts, line) = match &thread.call {
            Some(call) => (&mut self.sleeping, format!("{place} ({})", printable(call))),
            None => (&mut self.running, place),
        };
        *counts.entry(line).or_default() += 1;
    }
}

fn line_of(frame: &FrameAnswer) -> String {
    let line = frame.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
    format!("{}:{line} in {}", printable(&frame.file), printable(&frame.function))
}

fn shown(number: u32, answer: &Answer, lines: &Lines) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_answer(&mut text, number, answer, lines);
    text
}

fn write_answer(text: &mut String, number: u32, answer: &Answer, lines: &Lines) -> std::fmt::Result {
    let command = asked::command_of(number);
    writeln!(text, "process {number}: {}, {} stalls since it is watched", printable(&command), answer.stalls)?;
    for each in &answer.loops {
        writeln!(text, "  the event loop of {} ({}): {}", printable(&each.thread), each.id, state(each))?;
    }
    for (what, counts) in [("runs at", &lines.running), ("sleeps at", &lines.sleeping)] {
        let mut sorted: Vec<_> = counts.iter().collect();
        sorted.sort_by(|(one, first), (other, second)| second.cmp(first).then(one.cmp(other)));
        writeln!(text, "{what}, in how many of {} looks:", lines.looks)?;
        for (line, count) in sorted.iter().take(LINES_SHOWN) {
            writeln!(text, "  {count:>6}  {line}")?;
        }
        match sorted.len().saturating_sub(LINES_SHOWN) {
            0 => {}
            more => writeln!(text, "          and {more} more lines")?,
        }
    }
    Ok(())
}
