//! `unisono ps`: which programs are watched, and how their loops are.

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use unisono_core::printable;
use unisono_watch::protocol::LoopAnswer;

use super::asked::{self, Said};
use crate::{
    failure::Failure,
    output::{self, StandardOutput},
};

/// How it is told.
#[derive(Debug, Args)]
#[command(after_help = "Exit status:
  0 done · 2 usage · 125 our own failure")]
pub struct PsArgs {
    /// Print a JSON array instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; returns its exit status.
pub fn run(args: &PsArgs) -> Result<u8, Failure> {
    let mut out = StandardOutput::open()?;
    let answers = asked::all()?;
    let text = if args.json { as_json(&answers) } else { table(&answers) };
    output::ended(out.own(&text).and_then(|()| out.flush()))
}

fn as_json(answers: &[Said]) -> String {
    let all: Vec<_> = answers
        .iter()
        .map(|(number, answer)| {
            let mut value = match answer {
                Ok(answer) => json!(answer),
                Err(reason) => json!({"error": reason}),
            };
            value["process"] = json!(number);
            value["command"] = json!(asked::command_of(*number));
            value
        })
        .collect();
    format!("{}\n", json!(all))
}

fn table(answers: &[Said]) -> String {
    if answers.is_empty() {
        return "no process of this user is watched: start one with UNISONO_WATCH=1, or call unisono.watch() in it\n"
            .to_owned();
    }
    let mut text = format!("{:<9}{:<18}{:<28}{:>7}  COMMAND\n", "PID", "LOOP", "STATE", "STALLS");
    for (number, answer) in answers {
        let command = asked::command_of(*number);
        let command = printable(&command);
        let mut line = |name: &str, state: &str, stalls: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{number:<9}{:<18}{state:<28}{stalls:>7}  {command}", printable(name));
        };
        match answer {
            Err(reason) => line("-", reason, "-"),
            Ok(answer) if answer.loops.is_empty() => line("-", "no loop runs", &answer.stalls.to_string()),
            Ok(answer) => {
                answer.loops.iter().for_each(|each| line(&each.thread, &state(each), &answer.stalls.to_string()));
            }
        }
    }
    text
}

/// How a loop is, in a few words.
pub fn state(each: &LoopAnswer) -> String {
    match (each.unanswered_seconds, each.lag_seconds) {
        // A ping is answered at once, unless it has just been sent.
        (Some(seconds), _) if seconds >= 0.05 => format!("does not answer for {seconds:.2} s"),
        (_, Some(seconds)) => format!("runs, {:.1} ms late", seconds * 1000.0),
        _ => "runs".to_owned(),
    }
}
