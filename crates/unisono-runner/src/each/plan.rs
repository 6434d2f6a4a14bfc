//! What a run of commands is to do, parsed and checked.

use std::{path::PathBuf, sync::Arc, time::Duration};

use unisono_batch::Settings;
use unisono_commands::{ControllingTerminal, Pressure, guard::Gate};
use unisono_core::{Limits, RetryPolicy, Times};

use super::{EachCall, OnStopped, Tagged, Worst};
use crate::{Frame, Halting, Saving, run::cores};

/// Everything about a run, parsed and checked.
pub struct EachPlan {
    /// What every run has. Its times bound attempts and items; its grace is what may finish when the run is stopped.
    pub frame: Frame<EachCall>,
    /// How long a command may take to end itself once it was sent SIGTERM.
    pub kill_after: Duration,
    /// Exit codes that are a success.
    pub expected: Vec<i32>,
    /// Exit codes that are worth another attempt; all, if empty.
    pub retry_exits: Vec<i32>,
    /// Exit codes that say that whatever a command was for is away.
    pub away_exits: Vec<i32>,
    /// What `max_failures` means for what runs.
    pub halting: Halting,
    /// Descendants that outlive their command are left alone.
    pub leave_running: bool,
    /// The most bytes that a command may print to one stream.
    pub max_output: Option<u64>,
    /// How many pipes a command is given: for its input, its output, its errors.
    pub pipes: u32,
    /// Where output goes that is too large for memory.
    pub spool: PathBuf,
    /// What has to hold before a command is started.
    pub pressure: Option<Pressure>,
    /// Sees output as it comes.
    pub tagged: Option<Tagged>,
    /// This process has no children but these commands; see [`sole`](unisono_commands::CommandsOptions::sole).
    pub sole: bool,
    /// What every command passes when it is started.
    pub gate: Gate,
    /// Lent to each command; then the limit must be 1.
    pub terminal: Option<Arc<ControllingTerminal>>,
    /// Told of a command that was stopped since it has asked the terminal.
    pub on_stopped: Option<OnStopped>,
    /// Told of each exit status.
    pub worst: Worst,
    /// What holds for the files that output goes to, where it does.
    pub saving: Option<Saving>,
}

/// The limits, times and repeats that commands have unless the user says otherwise: one command per core, for as long
/// as it takes, and once.
pub fn each_settings() -> Settings {
    Settings {
        limits: Limits::new(Some(cores()), None),
        times: Times { timeout: None, deadline: None, ..Times::default() },
        // A user who asks for three repeats of a deployment wants three, however many others fail.
        retry: RetryPolicy { budget: None, ..RetryPolicy::never() },
        ordered_by_key: false,
    }
}

/// How long a command may take to end itself, unless the user says otherwise.
pub const KILL_AFTER: Duration = Duration::from_secs(5);
