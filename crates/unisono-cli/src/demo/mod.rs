//! `unisono demo`: 5,000 calls of an API that is as bad as real ones, killed half way, resumed, and proven.
//!
//! The API runs in this process and keeps a ledger of what it really did; the calls are made by `unisono fetch`, as
//! a user would start it. In the middle of the first run the API restarts. Between the runs the world changes as well:
//! the results file gets another name, and there is no room for it to grow. What the results say and what the ledger
//! says must agree.

mod ledger;
mod proof;
mod rules;
mod server;
mod serving;
mod talk;

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use unisono_core::{clock, format_duration};

use crate::{
    failure::{Failure, failed},
    output::{self, StandardOutput},
};

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many calls
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    rows: u64,
    /// Keep input and results in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Serve the tests of the process that has started this one; nothing for people
    #[arg(long, hide = true, conflicts_with_all = ["rows", "keep"])]
    serve: bool,
}

/// Runs the demonstration; returns 0 when the proof holds.
pub fn run(args: DemoArgs) -> Result<u8, Failure> {
    if args.serve {
        return serving::run();
    }
    let begun = clock::now();
    let mut stdout = StandardOutput::open()?;
    let mut say = |text: &str| say(&mut stdout, text);
    let folder = Folder::new(args.keep)?;
    let api = server::Api::start(Duration::from_millis(700)).map_err(failed("start the API"))?;
    let (input, output) = (folder.path.join("calls.jsonl"), folder.path.join("results.jsonl"));
    write_input(&input, args.rows, &api).map_err(failed("write the input"))?;
    say(&format!("an API on {} and a second one, down at first, on {}", api.first, api.second))?;
    say(&format!("{} calls in {}: GET, and POST with bodies", args.rows, input.display()))?;

    let mut command =
        vec!["fetch", "--limit", "50", "--retries", "5", "--per-host-rate", "2500/s", "--progress", "none", "--resume"];
    let (from, out) = (input.display().to_string(), output.display().to_string());
    command.extend(["--from", &from, "-o", &out]);
    say(&format!("$ unisono {}", command.join(" ")))?;
    let mut first = spawn(&command)?;
    let quarter = api.ledger.wait_for(args.rows / 4, Duration::from_secs(60));
    api.restart();
    say(&format!(
        "the first API is ended in the middle, after {quarter} requests, and is back after {}",
        format_duration(server::AWAY_FOR)
    ))?;
    let half = api.ledger.wait_for(args.rows / 2, Duration::from_secs(60));
    first.kill().map_err(failed("kill the first run"))?;
    first.wait().map_err(failed("wait for the first run"))?;
    let written = lines(&output);
    say(&format!("kill -9 after {half} requests; {written} outcomes were on the disk"))?;
    if half < args.rows / 2 {
        return Err(Failure::fault("the first run did not get half way within a minute"));
    }

    let lost = proof::lost_to_restart(&output).map_err(failed("read the results"))?;

    let renamed = folder.path.join("renamed.jsonl");
    fs::rename(&output, &renamed).map_err(failed("rename the results"))?;
    let (output, out) = (renamed, folder.path.join("renamed.jsonl").display().to_string());
    *command.last_mut().expect("it ends with the results file") = &out;
    let room = fs::metadata(&output).map_err(failed("look at the results"))?.len() + ROOM_BYTES;
    say(&format!(
        "$ mv results.jsonl renamed.jsonl; the same command with -o renamed.jsonl, which may grow by {ROOM_BYTES} bytes"
    ))?;
    let second = spawn(&command)?;
    confine(&second, room).map_err(failed("limit the size of its files"))?;
    let second = wait(second)?;
    say(&format!("it ended with {second}, since there was no more room; {} outcomes", lines(&output)))?;

    say("$ the same command again, with room")?;
    let third = wait(spawn(&command)?)?;
    say(&format!("it ended with {third}; {} outcomes", lines(&output)))?;
    if third.code() == Some(1) {
        command.retain(|word| *word != "--resume");
        command.push("--retry-failed");
        say("$ the same command with --retry-failed")?;
        let fourth = wait(spawn(&command)?)?;
        say(&format!("it ended with {fourth}; {} outcomes", lines(&output)))?;
    }
    let proof = proof::Proof::check(&output, args.rows, &api.ledger, lost).map_err(failed("read the results"))?;
    let text = proof.text(clock::since(begun));
    let status = output::ended(stdout.own(&text).and_then(|()| stdout.flush()))?;
    Ok(if status == 0 { u8::from(!proof.holds()) } else { status })
}

/// Calls of every kind, in an order that mixes them.
fn write_input(path: &Path, rows: u64, api: &server::Api) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(path)?);
    for row in 0..rows {
        match row % 10 {
            3 => writeln!(
                file,
                r#"{{"id":"order-{row}","url":"http://{}/orders","json":{{"order":{row}}}}}"#,
                api.first
            )?,
            7 => writeln!(file, r#"{{"id":"other-{row}","url":"http://{}/items/{row}"}}"#, api.second)?,
            _ => writeln!(file, r#"{{"id":"item-{row}","url":"http://{}/items/{row}"}}"#, api.first)?,
        }
    }
    file.flush()
}

fn spawn(arguments: &[&str]) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(failed("find this program"))?;
    // The proof is about this API alone, so no proxy may come between.
    let command = Command::new(program)
        .args(arguments)
        .args(["--proxy", "", "-q"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    command.map_err(failed("start `unisono fetch`"))
}

/// No file that this process writes may become larger, as if its disk were full from there on.
fn confine(child: &Child, bytes: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(bytes), maximum: None };
    prlimit(Some(Pid::from_child(child)), Resource::Fsize, limit)?;
    Ok(())
}

fn wait(mut child: Child) -> Result<ExitStatus, Failure> {
    let until = clock::now() + LONGEST_RUN;
    loop {
        if let Some(status) = child.try_wait().map_err(failed("wait for `unisono fetch`"))? {
            return Ok(status);
        }
        if clock::now() > until {
            let _ = child.kill();
            return Err(Failure::fault("`unisono fetch` did not end within two minutes"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn lines(path: &Path) -> usize {
    fs::File::open(path).map_or(0, |file| BufReader::new(file).split(b'\n').filter(Result::is_ok).count())
}

/// That it has no reader is no reason to stop: the proof at the end is told all the same.
fn say(output: &mut StandardOutput, text: &str) -> Result<(), Failure> {
    let line = if output.is_terminal() { format!("\x1b[2m{text}\x1b[0m\n") } else { format!("{text}\n") };
    output::ended(output.own(&line).and_then(|()| output.flush())).map(drop)
}

/// A folder that goes away again, unless it is to be kept.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn new(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let kept = keep.is_some();
        let path = keep.unwrap_or_else(|| std::env::temp_dir().join(format!("unisono-demo-{}", std::process::id())));
        fs::create_dir_all(&path).map_err(failed("create a folder for the results"))?;
        for name in ["results.jsonl", "results.jsonl.run", "renamed.jsonl", "renamed.jsonl.run"] {
            let _ = fs::remove_file(path.join(name));
        }
        Ok(Self { path, kept })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// What the results may grow by before the disk of the second run is full.
const ROOM_BYTES: u64 = 100_000;
const LONGEST_RUN: Duration = Duration::from_secs(120);
