//! A command per item, from a plan to a report.
//!
//! What is stopped is sent SIGTERM and has its own grace; then SIGKILL. An item is decided by its attempt, once its
//! tree is dead: see [`Stages`].

mod call;
mod columns;
mod interpreters;
mod maker;
mod nested;
mod plan;
mod recipe;
pub mod script;
mod vetting;
mod work;

use std::cell::Cell;

use tokio::sync::watch;
use unisono_batch::Monitor;
use unisono_commands::{Commands, CommandsOptions, StopLevel, least_descriptors};
use unisono_core::CancelToken;
use unisono_sys::descriptors;

use crate::{
    Destination, Error, Gauge, Report,
    run::{Extras, counted, run},
    stages::Stages,
};
use work::{EachWork, Slots};

pub use call::{CommandResult, EachCall, EachStyle};
pub use columns::Separator;
pub use maker::{EachMaker, Items, Pieces, blocks};
pub use plan::{EachPlan, KILL_AFTER, each_settings};
pub use recipe::{Grammar, Places, Recipe, Safety, Values, Word, push_word};
pub use work::{OnStopped, Tagged, Worst};

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
    let stages = Stages::new(frame.settings.times, plan.halting, plan.kill_after);
    frame.settings.times = stages.engine_times();
    let options = CommandsOptions {
        // Unique on this machine, for as long as a process may live.
        run: format!("{:x}-{:016x}", std::process::id(), fastrand::u64(..)),
        grace: plan.kill_after,
        leave_running: plan.leave_running,
        keep_watched: !matches!(frame.output, Destination::Nothing),
        max_output: plan.max_output,
        spool: plan.spool,
        sole: plan.sole,
        gate: plan.gate,
        terminal: plan.terminal.clone(),
    };
    let commands = Commands::new(options).map_err(|error| Error::fault("commands cannot be run").because(error))?;
    let kept = if matches!(frame.output, Destination::File { .. }) { DESCRIPTORS_OF_RESULTS } else { 0 };
    let least = least_descriptors(plan.pipes) + kept;
    let left = descriptors::left();
    if left < least {
        return Err(Error::usage(format!(
            "no command can be started: that needs {least} file descriptors, and there are {left} (raise `ulimit -n` for more)"
        )));
    }
    let inner = CancelToken::new();
    let work = EachWork {
        commands,
        cancels: [cancel.clone(), inner.clone()],
        times: stages.own_times(),
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
    let stop = || stop.send_modify(|level| *level = StopLevel::Stop);
    let (mut report, work) = stages.run(&cancel, &inner, || {}, stop, running).await?;
    if plan.sole && !plan.leave_running {
        match work.commands.end_strays() {
            0 => {}
            1 => report.warnings.push("1 process had hidden from the end of its command, and was killed".to_owned()),
            count => report
                .warnings
                .push(format!("{count} processes had hidden from the end of their command, and were killed")),
        }
    }
    if let Some(most) = work.commands.most_at_once() {
        let commands = counted(most.into(), "command", "commands");
        report.warnings.push(format!(
            "there are file descriptors for {commands} at once, fewer than asked for (raise `ulimit -n` for more)"
        ));
    }
    match work.stopped.get() {
        0 => {}
        count => {
            let commands = counted(count.into(), "command", "commands");
            report.warnings.push(format!("{commands} waited for the terminal, which commands do not have"));
        }
    }
    match work.unkillable.get() {
        0 => {}
        count => {
            let processes = counted(count.into(), "process", "processes");
            report.failures.push(format!("{processes} could not be killed"));
        }
    }
    Ok(report)
}

/// The results and their run file.
const DESCRIPTORS_OF_RESULTS: u64 = 2;
