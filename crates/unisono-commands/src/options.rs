//! How commands are run.

use std::{path::PathBuf, sync::Arc, time::Duration};

use unisono_sys::foreground::ControllingTerminal;

use crate::guard::Gate;

/// How commands are run, the same for all of a run.
#[derive(Debug)]
pub struct CommandsOptions {
    /// Names the run in the environment of its commands; no other run has the same.
    pub run: String,
    /// How long a command may take to end itself once it was sent SIGTERM.
    pub grace: Duration,
    /// Descendants that outlive their command are left alone.
    pub leave_running: bool,
    /// What is watched as it comes is kept as well.
    pub keep_watched: bool,
    /// The most bytes that a command may print to one stream.
    pub max_output: Option<u64>,
    /// Where output goes that is too large for memory.
    pub spool: PathBuf,
    /// This process has no children but commands, so every orphan is one of theirs. If not, the children of others are
    /// neither waited for nor taken in.
    pub sole: bool,
    /// What every command passes when it is started.
    pub gate: Gate,
    /// Lent to each command; then there must be one at a time.
    pub terminal: Option<Arc<ControllingTerminal>>,
}
