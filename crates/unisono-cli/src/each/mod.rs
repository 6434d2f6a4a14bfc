//! `unisono each`: words into a plan, a plan into a run, what commands print to where the user looks.
//!
//! The process that the user started only watches; it starts itself again, and that one does the work
//! (`unisono_commands::guard`). Words are checked before that, so that a mistake costs no process.

mod args;
mod plan;
mod printer;
mod program;
mod sources;

use std::{env, io, os::unix::ffi::OsStrExt, path::PathBuf, sync::Arc};

use tokio::sync::mpsc;
use unisono_core::CancelReason;
use unisono_runner::{
    Destination, EachCall, EachMaker, EachPlan, EachStyle, Error, Feed, Frame, Identity, Input, OnStopped, Open,
    Recipe, RowBatch, Worst,
    commands::{
        ControllingTerminal,
        guard::{self, Gate, WATCHER, Watcher},
    },
    push_word,
};

use crate::{
    args::ProgressMode,
    failure::Failure,
    launch::{launch, on_event, print_rows},
    output,
    signals::Handling,
    terminal::Terminal,
    waiting::{OtherEnd, opening, typed},
};
pub use args::EachArgs;
use plan::CommandLine;
use printer::{Printer, Printing};
use sources::ItemSource;

/// Runs the command; returns its exit status.
pub fn run(mut args: EachArgs) -> Result<u8, Failure> {
    if args.tty {
        // What is lent to a program is not written over.
        args.show.progress = ProgressMode::None;
    }
    let terminal = args.show.terminal();
    let command_line = args.command_line()?;
    args.refuse_own_input(&command_line)?;
    if !args.dry_run && args.printing() != Printing::Inherited {
        // What commands print would be lost, which is known before the first of them is started.
        output::file()
            .map_err(|failure| failure.hint("nothing was started; `>/dev/null` drops what commands print"))?;
    }
    let gate = Gate::default();
    let terminal_lent = (args.tty && !args.dry_run)
        .then(ControllingTerminal::open)
        .transpose()
        .map_err(|error| Failure::usage(format!("--tty needs a terminal, and to be in its foreground: {error}")))?;
    let watcher = if args.dry_run { None } else { watcher(&gate)? };
    if !args.dry_run && watcher.is_none() {
        let again = guard::watch(env::args_os().skip(1), !args.leave_running, terminal_lent.as_ref());
        return again.map_err(|error| Failure::fault(format!("cannot start the process that does the work: {error}")));
    }
    let read: Vec<PathBuf> =
        args.from.iter().cloned().chain(command_line.sources.iter().filter_map(ItemSource::file)).collect();
    let read = read.iter().map(PathBuf::as_path);
    if watcher.is_some() && args.may_wait(&command_line) {
        // Nothing has begun by then, and what is waited for may never come.
        take_signals()?;
    }
    let (rows, total) = opening(read, OtherEnd::Writer, &terminal, || rows(&args, command_line, &terminal))?;
    if args.dry_run {
        return dry_run(rows, &terminal);
    }
    let watcher = watcher.expect("a process that is not watched has started one that is");
    work(&args, rows, total, &terminal, (gate, watcher), terminal_lent)
}

/// The process that watches, if this is the one that does the work.
fn watcher(gate: &Gate) -> Result<Option<Watcher>, Failure> {
    let Some(value) = env::var_os(WATCHER) else { return Ok(None) };
    guard::be_watched(&value, gate.clone()).map_err(|error| Failure::fault(format!("nobody can watch: {error}")))
}

fn take_signals() -> Result<(), Failure> {
    guard::take_signals().map_err(|error| Failure::fault(format!("signals cannot be taken: {error}")))
}

type CommandRows = mpsc::Receiver<RowBatch<EachCall>>;

fn rows(
    args: &EachArgs,
    command_line: CommandLine,
    terminal: &Terminal,
) -> Result<(CommandRows, Option<u64>), Failure> {
    let CommandLine { recipe, sources, separator, missing, warning } = command_line;
    let missing = || missing.map_or(Ok(()), Err);
    warn(warning.as_slice(), terminal);
    // Read once: it does not change, and taking it apart for each command takes longer than putting it together.
    let inherited = env::vars_os().filter(|(name, _)| name != WATCHER).collect();
    let recipe = Recipe { inherited, ..recipe };
    if let Some(pieces) = args.pieces()? {
        let path = args.from.as_deref().unwrap_or("-".as_ref());
        let (rows, warnings) = unisono_runner::blocks(path, pieces, recipe)?;
        missing()?;
        warn(&warnings, terminal);
        return Ok((rows, None));
    }
    let from_arguments = !sources.is_empty();
    let delimiter = if args.null { 0 } else { b'\n' };
    let sources = ItemSource::items(sources, delimiter)?;
    let maker = EachMaker::new(recipe, sources, separator).map_err(Failure::usage)?;
    missing()?;
    warn(maker.warnings(), terminal);
    let input = match &args.from {
        _ if from_arguments => Input::arguments(vec![maker]),
        path => {
            let path = path.as_deref().unwrap_or("-".as_ref());
            typed(path, "items", &args.show, terminal);
            Input::file(path, args.format(), delimiter, maker)?
        }
    };
    let total = input.total();
    Ok((input.start()?, total))
}

fn warn(warnings: &[String], terminal: &Terminal) {
    warnings.iter().for_each(|warning| terminal.note(terminal.bold("warning").and(format!(": {warning}"))));
}

fn work(
    args: &EachArgs,
    rows: CommandRows,
    total: Option<u64>,
    terminal: &Terminal,
    (gate, watcher): (Gate, Watcher),
    lent: Option<ControllingTerminal>,
) -> Result<u8, Failure> {
    let output = match args.output.out {
        Some(_) => args.output.output(Open { identity: Identity::Content, ..Open::default() })?,
        None => Destination::Nothing,
    };
    let settings = args.settings()?;
    let (printer, outlet) = Printer::new(args.printing(), settings.limits.limit.get());
    let worst = Worst::default();
    let plan = EachPlan {
        frame: Frame {
            rows: Box::new(rows) as Box<dyn Feed<EachCall>>,
            settings,
            output,
            outlet,
            style: if args.brief { EachStyle::Brief } else { EachStyle::Full },
            keep_order: args.keep_order,
            max_failures: args.max_failures(),
            canary: args.canary(),
            on_event: on_event(&args.show, terminal),
        },
        kill_after: args.kill_after.0.unwrap_or(unisono_core::FOR_EVER),
        expected: args.expected().to_vec(),
        retry_exits: args.retry_exit.clone(),
        away_exits: args.away_exit.clone(),
        halting: args.halting(),
        leave_running: args.leave_running,
        max_output: args.max_output(),
        pipes: args.pipes(),
        spool: env::temp_dir(),
        pressure: args.pressure(),
        tagged: printer.tagged(),
        sole: true,
        gate: gate.clone(),
        terminal: lent.map(Arc::new),
        on_stopped: Some(on_stopped(terminal)),
        worst: worst.clone(),
        saving: args.saving()?,
    };
    let handling = Handling {
        adjusts_limit: true,
        at_last: Some(Arc::new(move || guard::end_all(&gate))),
        on_continue: Some(Arc::new(move || watcher.wake())),
    };
    let resumable = args.output.out.is_some();
    let run = async |cancel: unisono_core::CancelToken, monitor, gauge| {
        // Only now that they are watched: one that came before stops a run that has taken up its results, and leaves
        // them as any stop does.
        guard::take_signals().map_err(|error| Error::fault("signals cannot be taken").because(error))?;
        let printing = printer.start(terminal, &cancel);
        let report = unisono_runner::each(plan, cancel, monitor, gauge).await;
        // What was printed comes before the summary, and what could not be printed is in it.
        match (printing.join(), report) {
            (Some(error), Ok(mut report)) if error.kind() == io::ErrorKind::BrokenPipe => {
                report.stopped.get_or_insert(CancelReason::OutputClosed);
                Ok(report)
            }
            (Some(error), Ok(mut report)) => {
                report.failures.push(output::why(&error));
                Ok(report)
            }
            (_, report) => report,
        }
    };
    let report = launch(&args.show, terminal, total, resumable, handling, run)?;
    Ok(match report.exit_code() {
        1 if args.exits_with_worst() => worst.get().max(1),
        code => code,
    })
}

/// Says which command waits for the terminal, and what to do about it.
fn on_stopped(terminal: &Terminal) -> OnStopped {
    let terminal = terminal.clone();
    Box::new(move |call| {
        let item = String::from_utf8_lossy(&call.item()).escape_debug().to_string();
        terminal.note(format!(
            "`{item}`: its command is stopped, since it asks the terminal, which commands do not have (stop with Ctrl-C; \
             --tty lends it the terminal, one command at a time, and --stdin gives it something to read)"
        ));
    })
}

/// Prints the commands, one per line, as one would type them.
fn dry_run(rows: CommandRows, terminal: &Terminal) -> Result<u8, Failure> {
    let (mut number, mut bad) = (0u64, false);
    let printed = print_rows(rows, false, |row, line| {
        number += 1;
        let places = unisono_runner::Places { sequence: Some(number), slot: None };
        match row.call.and_then(|call| call.argv(places)) {
            Ok(argv) => {
                for word in argv {
                    if !line.is_empty() {
                        line.push(b' ');
                    }
                    push_word(word.as_bytes(), line);
                }
            }
            Err(why) => {
                bad = true;
                terminal.note(format!("{}: {why}", row.origin));
            }
        }
    })?;
    Ok(if printed == 0 { u8::from(bad) } else { printed })
}
