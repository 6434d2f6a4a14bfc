//! Which processes are watched, and what one says when it is asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use unisono_watch::{
    folder,
    protocol::{Answer, Question},
    server,
};

use crate::failure::Failure;

/// What is to be done about a process that is not watched.
const HOW_TO_WATCH: &str = "start it with UNISONO_WATCH=1, or call unisono.watch() in it; the stacks of one that runs \
                            already are shown by `py-spy dump --native --pid PID`";

/// The folder of this user's sockets; a look into it that is refused says why.
fn folder_of_user() -> Result<PathBuf, Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let folder = folder::of_user(runtime.as_deref(), uid);
    match folder::check(&folder, uid) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::fault(error.to_string())),
        _ => Ok(folder),
    }
}

/// A process by its number, and what it says, or why it says nothing.
pub type Said = (u32, Result<Answer, String>);

/// The processes that are watched, by number, and what each says, or why it says nothing; what those have left that
/// ended without a word is removed.
pub fn all() -> Result<Vec<Said>, Failure> {
    let processes = folder::processes(&folder_of_user()?);
    let answers = processes.into_iter().filter_map(|(number, path)| match ask(&path, Question::Loops) {
        Ok(answer) => Some((number, Ok(answer))),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !lives(number) {
                // It may be gone already.
                let _ = std::fs::remove_file(&path);
            }
            None
        }
        // It has ended meanwhile.
        Err(_) if !lives(number) => None,
        Err(error) => Some((number, Err(reason(&error)))),
    });
    Ok(answers.collect())
}

/// Why a process says nothing.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "does not answer: is it stopped?".to_owned(),
        _ => format!("does not answer: {error}"),
    }
}

/// What one process says.
pub fn one(number: u32, question: Question) -> Result<Answer, Failure> {
    let path = folder::socket_of(&folder_of_user()?, number);
    ask(&path, question).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if !lives(number) => {
            Failure::usage(format!("there is no process {number}")).hint("`unisono ps` lists those that are watched")
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::usage(format!("process {number} is not watched by unisono")).hint(HOW_TO_WATCH)
        }
        _ => Failure::fault(format!("process {number} {} (socket {})", reason(&error), path.display())),
    })
}

fn ask(path: &Path, question: Question) -> io::Result<Answer> {
    let answer = server::ask(path, question)?;
    let value: Value = serde_json::from_str(&answer).map_err(io::Error::other)?;
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        return Err(io::Error::other(error.to_owned()));
    }
    serde_json::from_value(value).map_err(io::Error::other)
}

fn lives(number: u32) -> bool {
    Path::new(&format!("/proc/{number}")).exists()
}

/// What a process was started with, as far as that can be shown in a line.
pub fn command_of(number: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    // The rest may have secrets: the program and its script say which process it is.
    words.iter().take(2).map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
}
