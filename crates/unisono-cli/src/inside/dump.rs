//! `unisono dump PID`: where the threads of a watched program stand, also while Python hangs.

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use unisono_core::printable;
use unisono_watch::protocol::{Answer, Question, ThreadAnswer};

use super::{asked, ps::state};
use crate::{
    failure::Failure,
    output::{self, StandardOutput},
};

/// Whose threads, and how they are told.
#[derive(Debug, Args)]
#[command(after_help = "Exit status:
  0 done · 2 usage, or a process that is not watched · 125 our own failure")]
pub struct DumpArgs {
    /// The process, by its number; `unisono ps` lists those that are watched
    #[arg(value_name = "PID")]
    pub process: u32,
    /// Print a JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; returns its exit status.
pub fn run(args: &DumpArgs) -> Result<u8, Failure> {
    let mut out = StandardOutput::open()?;
    let answer = asked::one(args.process, Question::Threads)?;
    let text = if args.json { format!("{}\n", json!(answer)) } else { told(args.process, &answer) };
    output::ended(out.own(&text).and_then(|()| out.flush()))
}

fn told(number: u32, answer: &Answer) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_answer(&mut text, number, answer);
    text
}

fn write_answer(text: &mut String, number: u32, answer: &Answer) -> std::fmt::Result {
    let command = asked::command_of(number);
    writeln!(text, "process {number}: {}", printable(&command))?;
    writeln!(text, "  CPython {}, {} stalls since it is watched", printable(&answer.python), answer.stalls)?;
    for each in &answer.loops {
        writeln!(text, "  the event loop of {} ({}): {}", printable(&each.thread), each.id, state(each))?;
    }
    match &answer.threads {
        Some(threads) => threads.iter().try_for_each(|thread| write_thread(text, thread)),
        None => writeln!(text, "  its threads are not shown: the memory of this version of CPython is not known"),
    }
}

fn write_thread(text: &mut String, thread: &ThreadAnswer) -> std::fmt::Result {
    let lock = if thread.has_lock { ", has the interpreter's lock" } else { "" };
    let does = thread.call.as_ref().map_or_else(|| "runs".to_owned(), |call| format!("sleeps in {}", printable(call)));
    writeln!(text, "thread {}: {does}{lock}", thread.id)?;
    let Some(stack) = &thread.stack else {
        return writeln!(text, "    calls and returns so fast that no stack could be read");
    };
    for frame in stack {
        // The program's own lines are what is looked for.
        let mark = if frame.is_own { '>' } else { ' ' };
        let line = frame.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
        writeln!(text, "  {mark} {}:{line} in {}", printable(&frame.file), printable(&frame.function))?;
    }
    Ok(())
}
