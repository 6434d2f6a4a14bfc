//! How a command is tried, and what its end means.
//!
//! Times are kept here and not by the engine, so that an item is decided only once nothing of it is left: a command
//! that timed out or was stopped can take no effect any more, and so is never `ambiguous`, unless it cannot be killed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    io::{self, BufWriter, Write},
    os::unix::process::ExitStatusExt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::watch;
use unisono_batch::{Attempt, Context, Halt, Verdict};
use unisono_commands::{
    Captured, Commands, Onlookers, Output, OutputWatch, Pressure, SpawnError, StopConditions, StopLevel, StopReason,
};
use unisono_core::{CancelLevel, CancelReason, CancelToken, Effect, ErrorKind, OutcomeKind, Peer, error_chain};

use super::call::{CommandResult, EachCall, Numbered};
use crate::saves::{Filled, Part, Target};
use crate::{
    halt::{halted_between_attempts, unbegun},
    stages::{AttemptStop, OwnTimes},
    work::{Call as _, Item, Work},
};

type EachAttempt = Attempt<Item<EachCall>, CommandResult>;

/// The gravest exit status of a run's commands. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Worst(Arc<AtomicU8>);

impl Worst {
    /// The largest exit code so far; 128 and the signal's number where a signal ended a command, 124 where it timed
    /// out.
    pub fn get(&self) -> u8 {
        self.0.load(Relaxed)
    }

    fn add(&self, ran: &CommandResult, kind: OutcomeKind) {
        let status = match (ran.exit, ran.signal) {
            _ if kind == OutcomeKind::TimedOut => 124,
            (Some(exit), _) => exit,
            (None, Some(signal)) => 128 + signal,
            (None, None) => i32::from(kind != OutcomeKind::Ok),
        };
        self.0.fetch_max(u8::try_from(status).unwrap_or(u8::MAX), Relaxed);
    }
}

/// Makes what sees a command's output as it comes, given its item.
pub type Tagged = Box<dyn Fn(&EachCall, u64) -> Box<dyn OutputWatch>>;

/// Told of a command that waits for the terminal.
pub type OnStopped = Box<dyn Fn(&EachCall)>;

pub(crate) struct EachWork {
    pub(crate) commands: Commands,
    pub(crate) times: OwnTimes,
    pub(crate) level: watch::Receiver<StopLevel>,
    /// Nothing starts once one of them says stop: what the world asks for, and what the engine is told.
    pub(crate) cancels: [CancelToken; 2],
    pub(crate) expected: Vec<i32>,
    /// The exit codes that are worth another attempt; all, if empty.
    pub(crate) retry_exits: Vec<i32>,
    /// Exit codes that say that whatever the command was for is away.
    pub(crate) away_exits: Vec<i32>,
    pub(crate) pressure: Option<Pressure>,
    pub(crate) tagged: Option<Tagged>,
    /// Commands have the terminal, and the keys that stop them.
    pub(crate) is_lent: bool,
    pub(crate) on_stopped: Option<OnStopped>,
    /// How many have waited for a terminal that they did not have.
    pub(crate) stopped: Cell<u32>,
    pub(crate) worst: Worst,
    pub(crate) slots: Slots,
    /// Attempts so far: tells the marks of two attempts of an item apart.
    pub(crate) starts: Cell<u64>,
    pub(crate) unkillable: Cell<u32>,
}

impl Work for EachWork {
    type Call = EachCall;

    async fn attempt(&self, item: &Item<EachCall>, context: &Context) -> EachAttempt {
        let slot = self.slots.take();
        let item_by = context.item_by();
        let [asked, told] = &self.cancels;
        let ready = async {
            // Looked at last: the memory that is there now may not be when there is room.
            let permit = self.commands.permit().await;
            if let Some(pressure) = &self.pressure {
                pressure.ease().await;
            }
            permit
        };
        // Biased, since a stop comes first: an attempt that has both must not start.
        let permit = tokio::select! {
            biased;
            () = asked.reached(CancelLevel::Drain) => None,
            () = told.reached(CancelLevel::Drain) => None,
            () = until(item_by) => return self.past_deadline(),
            permit = ready => Some(permit),
        };
        let numbered = Numbered { sequence: item.index.sequence(), slot: slot.number, attempt: context.attempt() };
        let command = match item.call.command(numbered) {
            Ok(command) => command,
            Err(why) => return failed(ErrorKind::Input, why),
        };
        let Some(permit) = permit else {
            // The run may be over before its stages have told the engine why.
            told.drain(asked.reason().or(told.reason()).unwrap_or(CancelReason::Requested));
            let (verdict, value) = unbegun();
            return Attempt::unbegun(verdict, value);
        };
        let attempt_by = self.times.attempt_by();
        let by = [attempt_by, item_by].into_iter().flatten().min();
        let starts = self.starts.get() + 1;
        self.starts.set(starts);
        context.begin();
        let watch = self.tagged.as_ref().map(|tagged| tagged(&item.call, numbered.sequence));
        let bounds = StopConditions { by, level: self.level.clone() };
        let stopped = || {
            self.stopped.set(self.stopped.get() + 1);
            self.on_stopped.iter().for_each(|tell| tell(&item.call));
        };
        let onlookers = Onlookers { output: watch.as_deref(), stopped: Some(&stopped) };
        let result = self.commands.run(permit, &command, starts, onlookers, bounds).await;
        let (verdict, mut ran) = match result {
            Ok(captured) => self.judge(captured, by.is_some() && by == item_by),
            Err(error) => (Verdict::Final(OutcomeKind::Failed), not_started(&error)),
        };
        if self.is_lent && matches!(ran.signal, Some(SIGINT | SIGQUIT)) {
            // Its user has pressed the key, which reached it alone.
            self.cancels.iter().for_each(|cancel| cancel.drain(CancelReason::Interrupt));
        }
        context.settle(effect_of(&ran, verdict));
        ran.argv = command.argv;
        ran.sequence = numbered.sequence;
        let verdict = self.save(item, verdict, &mut ran).await;
        self.worst.add(&ran, verdict.otherwise());
        Attempt::new(verdict, ran)
    }

    fn halted(&self, item: &Item<EachCall>, halt: Halt, last: Option<CommandResult>) -> (Verdict, CommandResult) {
        let (verdict, reason): (_, CommandResult) =
            halted_between_attempts(&halt, self.times, item.call.is_repeatable());
        // What an attempt before has left, under the reason why there is no other.
        (verdict, CommandResult { error: reason.error, ..last.unwrap_or_default() })
    }
}

impl EachWork {
    fn judge(&self, captured: Captured, is_deadline: bool) -> (Verdict, CommandResult) {
        let Captured { status, stopped, started, cpu, peak_memory, stdout, stderr, left_over, pipes_held, unkillable } =
            captured;
        let mut ran = CommandResult {
            exit: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            started: Some(started),
            cpu_micros: u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX),
            peak_memory,
            stdout,
            stderr,
            left_over,
            pipes_held,
            ..CommandResult::default()
        };
        self.unkillable.set(self.unkillable.get() + unkillable);
        let (verdict, error) = self.meaning(&ran, stopped, is_deadline, unkillable);
        ran.error = error;
        ran.peer = match (verdict, ran.exit) {
            (Verdict::Unmet { .. }, _) => Peer::Away,
            // It came back with an answer of its own.
            (_, Some(_)) if stopped.is_none() => Peer::Fine,
            _ => Peer::Unknown,
        };
        (verdict, ran)
    }

    fn meaning(
        &self,
        ran: &CommandResult,
        stopped: Option<StopReason>,
        is_deadline: bool,
        unkillable: u32,
    ) -> (Verdict, Option<(ErrorKind, String)>) {
        let failed = |outcome, kind, message: String| (Verdict::Final(outcome), Some((kind, message)));
        let again =
            |otherwise, kind, message: String| (Verdict::Retry { otherwise, not_before: None }, Some((kind, message)));
        let ended_by = |stop: AttemptStop| (stop.verdict(true), Some(self.times.why(stop)));
        if unkillable > 0 {
            let message = format!("{unkillable} of its processes could not be killed");
            return failed(OutcomeKind::Ambiguous, ErrorKind::Internal, message);
        }
        match (stopped, ran.exit, ran.signal) {
            (Some(StopReason::Asked), ..) => ended_by(AttemptStop::Asked),
            (Some(StopReason::Timeout), ..) if is_deadline => ended_by(AttemptStop::Deadline),
            (Some(StopReason::Timeout), ..) => ended_by(AttemptStop::Timeout),
            (Some(StopReason::TooMuchOutput), ..) => {
                failed(OutcomeKind::Failed, ErrorKind::TooLarge, "printed more than is allowed (max-output)".to_owned())
            }
            (Some(StopReason::NoRoom), ..) => {
                failed(OutcomeKind::Failed, ErrorKind::Save, "what it printed could not be kept on disk".to_owned())
            }
            (None, Some(exit), _) if self.expected.contains(&exit) => (Verdict::Final(OutcomeKind::Ok), None),
            (None, Some(exit), _) if self.away_exits.contains(&exit) => (
                Verdict::Unmet { otherwise: OutcomeKind::Failed },
                Some((ErrorKind::Exit, format!("exit status {exit}, which says that its host is away"))),
            ),
            (None, Some(exit), _) if self.retry_exits.is_empty() || self.retry_exits.contains(&exit) => {
                again(OutcomeKind::Failed, ErrorKind::Exit, format!("exit status {exit}"))
            }
            (None, Some(exit), _) => failed(OutcomeKind::Failed, ErrorKind::Exit, format!("exit status {exit}")),
            (None, None, Some(signal)) if self.retry_exits.is_empty() => {
                again(OutcomeKind::Failed, ErrorKind::Signal, format!("ended by signal {signal}"))
            }
            (None, None, Some(signal)) => {
                failed(OutcomeKind::Failed, ErrorKind::Signal, format!("ended by signal {signal}"))
            }
            (None, None, None) => {
                failed(OutcomeKind::Ambiguous, ErrorKind::Internal, "its end was taken in by somebody else".to_owned())
            }
        }
    }

    async fn save(&self, item: &Item<EachCall>, verdict: Verdict, ran: &mut CommandResult) -> Verdict {
        // Beside a pipe there is nothing: there standard error stays in the results.
        let Some((out, err)) = item.targets.split_first() else { return verdict };
        let err = err.first();
        let printed = (std::mem::take(&mut ran.stdout), std::mem::take(&mut ran.stderr));
        let printed = Arc::new(printed);
        let stored = store(&printed, out, err, self.level.clone()).await;
        // From here to the end nothing is waited for, so a file that has its name has its outcome as well.
        let saved = stored.and_then(|(filled_out, filled_err)| {
            filled_out.place().map_err(|error| (out, error))?;
            ran.saved = Some(out.name().to_owned());
            let Some(err) = err else { return Ok(()) };
            match filled_err {
                // What an attempt before this one has printed there is not this one's.
                None => err.clear().map_err(|error| (err, error)),
                Some(filled) => {
                    filled.place().map_err(|error| (err, error))?;
                    ran.saved_stderr = Some(err.name().to_owned());
                    Ok(())
                }
            }
        });
        (ran.stdout, ran.stderr) = Arc::into_inner(printed).expect("what filled a file is through with it");
        let Err((target, error)) = saved else { return verdict };
        let message = format!("cannot write `{}`: {error}", target.name().display());
        ran.error.get_or_insert((ErrorKind::Save, message));
        match verdict {
            Verdict::Final(OutcomeKind::Ok) => Verdict::Final(OutcomeKind::Failed),
            // How it ended says more than that nothing of it was kept: what was stopped runs again with the next run.
            _ => verdict,
        }
    }

    fn past_deadline(&self) -> EachAttempt {
        let (kind, message) = self.times.why(AttemptStop::Deadline);
        Attempt::new(AttemptStop::Deadline.verdict(true), CommandResult::of_error(kind, message))
    }
}

/// What a command's end says of what it was to do: that is for its exit status to say. One that is ended early has not
/// done it, and all of it is gone.
fn effect_of(ran: &CommandResult, verdict: Verdict) -> Effect {
    match (verdict, ran.exit) {
        (Verdict::Final(OutcomeKind::Ambiguous), _) => Effect::Maybe,
        (Verdict::Final(OutcomeKind::Ok), _) | (_, Some(0)) => Effect::Done,
        _ => Effect::None,
    }
}

/// Waits until then, or for ever.
async fn until(by: Option<Instant>) {
    match by {
        Some(by) => tokio::time::sleep_until(by.into()).await,
        None => std::future::pending().await,
    }
}

/// What Ctrl-C and Ctrl-\ send; the same numbers everywhere (POSIX, kill).
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;

/// The numbers of the slots, from 1; the smallest free one is taken.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    free: RefCell<BTreeSet<usize>>,
    made: Cell<usize>,
}

struct Slot<'a> {
    number: usize,
    slots: &'a Slots,
}

impl Slots {
    fn take(&self) -> Slot<'_> {
        let number = self.free.borrow_mut().pop_first().unwrap_or_else(|| {
            self.made.set(self.made.get() + 1);
            self.made.get()
        });
        Slot { number, slots: self }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.free.borrow_mut().insert(self.number);
    }
}

/// Writes what was printed into files that have yet to get their names; of standard error only where there is any.
async fn store<'a>(
    printed: &Arc<(Output, Output)>,
    out: &'a Target,
    err: Option<&'a Target>,
    level: watch::Receiver<StopLevel>,
) -> Result<(Filled, Option<Filled>), (&'a Target, io::Error)> {
    let filled = |target: &'a Target, copy: fn(&(Output, Output), &mut BufWriter<&mut Part>) -> io::Result<()>| {
        let (printed, mut level) = (printed.clone(), level.clone());
        async move {
            let fill = move |part: &mut Part| {
                let mut writer = BufWriter::new(part);
                copy(&printed, &mut writer)?;
                writer.flush()
            };
            let part = target.fill(fill).await?;
            tokio::select! {
                finished = target.finish(part) => finished,
                // What takes so long is a pipe without a reader.
                _ = level.wait_for(|level| *level > StopLevel::Run) => {
                    Err(io::Error::other("stopped before what was printed had been taken"))
                }
            }
        }
    };
    let first = filled(out, |printed, writer| printed.0.copy_to(writer)).await.map_err(|error| (out, error))?;
    let second = match err.filter(|_| !printed.1.is_empty()) {
        None => None,
        Some(err) => {
            Some(filled(err, |printed, writer| printed.1.copy_to(writer)).await.map_err(|error| (err, error))?)
        }
    };
    Ok((first, second))
}

fn failed(kind: ErrorKind, message: String) -> EachAttempt {
    Attempt::new(Verdict::Final(OutcomeKind::Failed), CommandResult::of_error(kind, message))
}

fn not_started(error: &SpawnError) -> CommandResult {
    CommandResult {
        exit: Some(error.exit_code().into()),
        ..CommandResult::of_error(ErrorKind::Spawn, error_chain(error))
    }
}
