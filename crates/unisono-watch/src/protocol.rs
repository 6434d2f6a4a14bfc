//! What is asked over the socket of a watched process, and what it says: one line of JSON each way.
//!
//! Everything that can be asked only looks. Nothing that is sent is ever run.

use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Question {
    /// How its loops are.
    Loops,
    /// How its loops are, and where each of its threads stands.
    Threads,
}

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Its number, as it knows it: within a container another one than from outside.
    pub process: u32,
    /// The version of its interpreter.
    pub python: String,
    /// How many stalls there were since it is watched.
    pub stalls: u64,
    /// Its loops.
    pub loops: Vec<LoopAnswer>,
    /// Its threads, where they were asked for and the memory of the interpreter can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Vec<ThreadAnswer>>,
}

/// A loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopAnswer {
    /// The thread that it runs in, as the program calls it.
    pub thread: String,
    /// The kernel's number of that thread.
    pub id: u64,
    /// How long the last answer to a ping took, in seconds.
    pub lag_seconds: Option<f64>,
    /// For how long a ping has not been answered, in seconds.
    pub unanswered_seconds: Option<f64>,
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadAnswer {
    /// The kernel's number.
    pub id: u64,
    /// Whether it has the interpreter's lock.
    pub has_lock: bool,
    /// The system call that it sleeps in.
    pub call: Option<String>,
    /// Where it stands, the innermost frame first; none where it could not be read in peace.
    pub stack: Option<Vec<FrameAnswer>>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameAnswer {
    /// The file.
    pub file: String,
    /// The line.
    pub line: Option<u32>,
    /// The function's qualified name.
    pub function: String,
    /// Whether it is the program's own.
    pub is_own: bool,
}
