//! A command per item, from a plan to a report.
//!
//! What is stopped is sent SIGTERM and has its own grace; then SIGKILL. An item is decided by its attempt, once its
//! tree is dead: see [`Stages`].

mod call;
mod columns;
mod interpreters;
mod job;
mod maker;
mod nested;
mod recipe;
pub mod script;
mod vetting;

use std::{cell::Cell, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use unisono_batch::{Monitor, Settings};
use unisono_commands::{Commands, Options, Pressure, StopLevel, Terminal, guard::Gate};
use unisono_core::{CancelToken, Limits, RetryPolicy, Times};

use crate::{
    Error, Frame, Gauge, Halting, Report, Saving,
    run::{Extras, cores, run},
    stages::{LAST_RESORT, Stages, engine_times},
};
use job::{EachWork, Slots};

pub use call::{CommandResult, EachCall, EachStyle, Recipe};
pub use columns::Separator;
pub use job::{OnStopped, Tagged, Worst};
pub use maker::{EachMaker, Items, Pieces, blocks};
pub use recipe::{Grammar, Places, Safety, Values, Word, push_word};

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
    /// Where output goes that is too large for memory.
    pub spool: PathBuf,
    /// What has to hold before a command is started.
    pub pressure: Option<Pressure>,
    /// Sees output as it comes.
    pub tagged: Option<Tagged>,
    /// This process has no children but these commands; see [`Options::sole`].
    pub sole: bool,
    /// What every command passes when it is started.
    pub gate: Gate,
    /// Lent to each command; then the limit must be 1.
    pub terminal: Option<Arc<Terminal>>,
    /// Told of a command that was stopped since it has asked the terminal.
    pub on_stopped: Option<OnStopped>,
    /// Told of each exit status.
    pub worst: Worst,
    /// What holds for the files that output goes to, where it does.
    pub saving: Option<Saving>,
}

/// The limits, times and repeats that commands have where nobody says it: one command per core, for as long as it
/// takes, and once.
pub fn each_settings() -> Settings {
    Settings {
        limits: Limits::new(Some(cores()), None),
        times: Times { timeout: None, deadline: None, ..Times::default() },
        // Whoever asks for three repeats of a deployment wants three, however many others fail.
        retry: RetryPolicy { budget: None, ..RetryPolicy::never() },
        ordered_by_key: false,
    }
}

/// Runs a plan to its end, or until the token says stop, and accounts for every row.
///
/// # Errors
/// When it cannot begin: a file in the way, a changed input. What happens to rows is in the report.
pub async fn each(plan: EachPlan, cancel: CancelToken, monitor: Monitor, gauge: Gauge) -> Result<Report, Error> {
    if let Some(why) = plan.pressure.and_then(|pressure| pressure.impossible()) {
        return Err(Error::usage(why));
    }
    let (stop, level) = watch::channel(StopLevel::Run);
    let mut frame = plan.frame;
    let times = frame.settings.times;
    let slack = plan.kill_after.saturating_add(LAST_RESORT);
    frame.settings.times = engine_times(times, slack);
    let options = Options {
        // Unique on this machine, for as long as a process may live.
        run: format!("{:x}-{:016x}", std::process::id(), fastrand::u64(..)),
        grace: plan.kill_after,
        leave_running: plan.leave_running,
        keep_watched: !matches!(frame.output, crate::Output::Nothing),
        max_output: plan.max_output,
        spool: plan.spool,
        sole: plan.sole,
        gate: plan.gate,
        terminal: plan.terminal.clone(),
    };
    let commands = Commands::new(options).map_err(|error| Error::fault("cannot become a subreaper").because(error))?;
    let inner = CancelToken::new();
    let work = EachWork {
        commands,
        cancels: [cancel.clone(), inner.clone()],
        timeout: times.timeout,
        deadline: times.deadline,
        level,
        expected: plan.expected,
        retry_exits: plan.retry_exits,
        away_exits: plan.away_exits,
        pressure: plan.pressure,
        tagged: plan.tagged,
        is_lent: plan.terminal.is_some(),
        on_stopped: plan.on_stopped,
        stopped: Cell::new(0),
        worst: plan.worst,
        slots: Slots::default(),
        starts: Cell::new(0),
        unkillable: Cell::new(0),
    };
    let wanted = frame.settings.limits.limit.get();
    let window = Some(u64::from(wanted).saturating_mul(4).max(64));
    let extras =
        Extras { window, notes_ahead: true, saving: plan.saving, asked: Some(cancel.clone()), ..Extras::default() };
    let running = run(work, frame, extras, inner.clone(), monitor, gauge);
    let stages = Stages { grace: times.grace, halting: plan.halting, slack };
    let shepherd = stages.lead(&cancel, &inner, || stop.send_modify(|level| *level = StopLevel::Stop));
    let (mut report, work) = tokio::select! {
        biased;
        ended = running => ended?,
        never = shepherd => match never {},
    };
    if plan.sole && !plan.leave_running {
        match work.commands.end_strays() {
            0 => {}
            count => report
                .warnings
                .push(format!("{count} processes had hidden from the end of their command, and were killed")),
        }
    }
    if let Some(most) = work.commands.most_at_once() {
        report.warnings.push(format!(
            "there are file descriptors for {most} commands at once, fewer than asked for (raise `ulimit -n` for more)"
        ));
    }
    match work.stopped.get() {
        0 => {}
        count => report.warnings.push(format!("{count} commands waited for the terminal, which commands do not have")),
    }
    match work.unkillable.get() {
        0 => {}
        count => report.failures.push(format!("{count} processes could not be killed")),
    }
    Ok(report)
}

/// How long a command may take to end itself, where nobody says it.
pub const KILL_AFTER: Duration = Duration::from_secs(5);
