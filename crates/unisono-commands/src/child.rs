//! One command from its start until nothing of it is left.
//!
//! A command is *over* when its process has ended, its pipes are closed and no descendant lives. Stages:
//!
//! - *running*: its process lives.
//! - *settling*: its process has ended, but a descendant still holds a pipe or lives on. Programs like `tee` behind a
//!   shell need a moment: it lasts until nothing was printed for [`QUIET`] and no descendant is held up by a busy
//!   machine, and at most [`LONGEST_SETTLING`].
//! - *terminating*: all that is left, or all of it when it has to stop, was sent SIGTERM (and SIGCONT, since a stopped
//!   process cannot take it), what is born meanwhile as well. It may take the grace period.
//! - *killing*: SIGKILL, again and again until nothing is left. What is not gone after [`HOPELESS`] (a process that
//!   waits for a dead disk) is counted and given up.
//!
//! The process is reaped last: until then its number is not given away, so its group and session are its own. Where
//! this process is there for commands alone, orphans come to us, since we are a subreaper; that is what makes it cheap
//! to see at the end that there are none. A guest in the process of another program is no subreaper, or the orphans of
//! its host's own children would come here as well and stay as zombies, since nothing tells whose they are. It looks at
//! all processes at the end of each command instead, and misses only what has changed group, session and environment
//! and has lost its parent.
//!
//! Dropping the future kills the tree at once, without grace, before `drop` returns.

use std::{
    cell::RefCell,
    collections::HashSet,
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    pin::{Pin, pin},
    process::ExitStatus,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};
use tokio::{
    sync::watch,
    time::{Sleep, sleep_until},
};
use unisono_core::{clock, reactor};
use unisono_sys::{
    foreground,
    process::{ProcessEnd, reap},
    readiness::Watched,
    tree::{Children, FoundProcess, Snapshot, group_of, marker},
};

use crate::{
    MARKER,
    command::{Launched, Pipe, Stdin},
    descendants::{ROUNDS, kill_all},
    options::CommandsOptions,
    output::{Output, OutputStream},
    pipe::{InputPipe, OutputPipe},
};

/// When a command has to stop.
#[derive(Debug, Clone)]
pub struct StopConditions {
    /// At the latest then.
    pub by: Option<Instant>,
    /// When the caller says so.
    pub level: watch::Receiver<StopLevel>,
}

/// What is told while a command runs.
#[derive(Clone, Copy, Default)]
pub struct Onlookers<'a> {
    /// Sees what it prints.
    pub output: Option<&'a dyn OutputWatch>,
    /// Told once, when it was stopped since it has asked the terminal, which it does not have.
    pub stopped: Option<&'a dyn Fn()>,
}

/// What was said to all commands of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum StopLevel {
    /// Go on.
    #[default]
    Run,
    /// End: SIGTERM and a grace period.
    Stop,
    /// End at once: SIGKILL.
    Kill,
}

/// Why a command was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It took too long.
    Timeout,
    /// The caller said so.
    Asked,
    /// It printed too much.
    TooMuchOutput,
    /// What it printed could not be kept.
    NoRoom,
}

/// What became of a command that was started.
#[derive(Debug)]
pub struct Captured {
    /// How it ended; `None` when it could not be killed.
    pub status: Option<ExitStatus>,
    /// Why it was stopped, if it did not end by itself.
    pub stopped: Option<StopReason>,
    /// When it was started.
    pub started: SystemTime,
    /// Processor time of it and of those of its children that it waited for.
    pub cpu: Duration,
    /// Its largest resident set in bytes; never less than that of this process, whose memory it shares until it is
    /// executed (the kernel counts so, see `exec_mmap`).
    pub peak_memory: u64,
    /// What it printed.
    pub stdout: Output,
    /// What it printed to standard error.
    pub stderr: Output,
    /// Processes that outlived it and were ended.
    pub left_over: u32,
    /// Its pipes were still held when it was given up to read them.
    pub pipes_held: bool,
    /// Processes that could not be killed.
    pub unkillable: u32,
}

/// Sees output as it comes.
pub trait OutputWatch {
    /// Takes bytes.
    fn output(&self, stream: OutputStream, bytes: &[u8]);

    /// Ready when it can take more; until then nothing is read, and the command waits.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// What all running commands of a run have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: CommandsOptions,
    /// `None` where orphans do not come to us, or the kernel does not list children: then all processes are looked at.
    pub(crate) children: RefCell<Option<Children>>,
    pub(crate) running: RefCell<HashSet<i32>>,
    /// Looking at all processes takes milliseconds, and many trees may be dying at once.
    pub(crate) snapshot: RefCell<Option<(Instant, Rc<Snapshot>)>>,
    /// What was read last; kept for the next.
    pub(crate) buffer: RefCell<Vec<u8>>,
    /// How often it is looked whether a command has stopped; never, where there is no terminal that could stop it.
    pub(crate) look_every: Option<Duration>,
}

impl Shared {
    /// A look at all processes that is not older than `since`.
    fn snapshot(&self, since: Instant) -> Option<Rc<Snapshot>> {
        let mut cached = self.snapshot.borrow_mut();
        if let Some((at, snapshot)) = &*cached
            && *at >= since
        {
            return Some(snapshot.clone());
        }
        let at = clock::now();
        let snapshot = Rc::new(Snapshot::take(MARKER).ok()?);
        *cached = Some((at, snapshot.clone()));
        Some(snapshot)
    }
}

/// A command that was started.
pub(crate) struct Running<'a> {
    shared: &'a Shared,
    watch: Option<&'a dyn OutputWatch>,
    on_stopped: Option<&'a dyn Fn()>,
    pid: Pid,
    /// What marks its descendants.
    marker: Vec<u8>,
    /// Readable once the process has ended; `None` until it is watched.
    end: Option<Watched>,
    ended: bool,
    feed: Option<InputPipe>,
    /// Standard output and standard error, until they are closed.
    sources: [Option<OutputPipe>; 2],
    /// The command's ends of these pipes, held until it has ended: so its end wakes us once, and not first for each
    /// pipe that it closes on its way.
    writers: [Option<OwnedFd>; 2],
    outputs: [Output; 2],
    /// What was found to belong to it: a process that loses parent, group and marker later still does.
    known: RefCell<HashSet<FoundProcess>>,
    /// What was sent SIGTERM.
    signalled: HashSet<FoundProcess>,
    /// What lived when the process had ended.
    left_over: HashSet<FoundProcess>,
    stopped: Option<StopReason>,
    reaped: Option<ProcessEnd>,
    /// Reads without a pause.
    reads: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Settling { quiet_at: Instant, last_at: Instant },
    Terminating { kill_at: Instant },
    Killing { hopeless_at: Instant },
    Over { unkillable: u32 },
}

/// What woke a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Stop(StopReason),
    KillNow,
    Printed,
    Closed,
    Ended,
    Tick,
}

impl<'a> Running<'a> {
    /// Takes a command over that was just started: from here on, dropping it kills its tree.
    pub(crate) fn of(
        shared: &'a Shared,
        launched: Launched,
        marker: String,
        input: &Stdin,
        onlookers: Onlookers<'a>,
    ) -> io::Result<Self> {
        let Launched { pid, end, stdin, outputs } = launched;
        shared.running.borrow_mut().insert(pid.as_raw_nonzero().get());
        let mut running = Self {
            shared,
            watch: onlookers.output,
            on_stopped: onlookers.stopped,
            pid,
            marker: marker.into_bytes(),
            end: None,
            ended: false,
            feed: None,
            sources: [None, None],
            writers: [None, None],
            outputs: [Output::default(), Output::default()],
            known: RefCell::default(),
            signalled: HashSet::new(),
            left_over: HashSet::new(),
            stopped: None,
            reaped: None,
            reads: 0,
        };
        running.end = Some(Watched::readable(end)?);
        for (at, Pipe { reader, writer }) in (0..).zip(outputs).filter_map(|(at, pipe)| Some((at, pipe?))) {
            running.sources[at] = Some(OutputPipe::new(reader)?);
            // A guest's host may fork at any time, and what is forked would hold the pipe open.
            running.writers[at] = Some(writer).filter(|_| shared.options.sole);
        }
        if let (Some(pipe), Stdin::Bytes(bytes)) = (stdin, input) {
            running.feed = Some(InputPipe::new(pipe, bytes.clone())?);
        }
        Ok(running)
    }

    pub(crate) async fn finish(mut self, bounds: StopConditions, started: SystemTime) -> Captured {
        let StopConditions { by, level } = bounds;
        let mut stop = pin!(reached(level.clone(), StopLevel::Stop));
        let mut kill = pin!(reached(level, StopLevel::Kill));
        let mut deadline = pin!(by.map(|by| reactor::late(by.into())));
        let mut tick: Option<Pin<Box<Sleep>>> = None;
        let mut look = pin!(self.shared.look_every.map(tokio::time::sleep));
        let mut stage = Stage::Running;
        let unkillable = loop {
            let stopping = matches!(stage, Stage::Terminating { .. } | Stage::Killing { .. });
            let event = poll_fn(|context| {
                if self.reads >= MOST_READS {
                    // It prints without end; others have a right to the reactor as well.
                    self.reads = 0;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if !stopping {
                    if stop.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Event::Stop(StopReason::Asked));
                    }
                    if deadline.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(context).is_ready()) {
                        return Poll::Ready(Event::Stop(StopReason::Timeout));
                    }
                } else if matches!(stage, Stage::Terminating { .. }) && kill.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Event::KillNow);
                }
                if let Some(mut timer) = look.as_mut().as_pin_mut()
                    && let Some(every) = self.shared.look_every
                {
                    while timer.as_mut().poll(context).is_ready() {
                        self.look_at_stop();
                        timer.as_mut().reset((clock::now() + every).into());
                    }
                }
                if let Poll::Ready(event) = self.poll_process(context, stopping) {
                    return Poll::Ready(event);
                }
                match &mut tick {
                    Some(timer) => timer.as_mut().poll(context).map(|()| Event::Tick),
                    None => Poll::Pending,
                }
            });
            let event = event.await;
            let before = stage;
            stage = self.step(stage, event);
            if let Stage::Over { unkillable } = stage {
                break unkillable;
            }
            if stage == Stage::Running {
                continue;
            }
            // Looked at often at first, since most end at once.
            if event == Event::Tick
                || tick.is_none()
                || std::mem::discriminant(&before) != std::mem::discriminant(&stage)
            {
                let next = (clock::now() + TICK).into();
                match &mut tick {
                    Some(timer) => timer.as_mut().reset(next),
                    none => *none = Some(Box::pin(sleep_until(next))),
                }
            }
        };
        let pipes_held = self.sources.iter().any(Option::is_some);
        // Reaped last of all: until then its number, by which it is signalled, is its own.
        self.reap();
        let [stdout, stderr] = std::mem::take(&mut self.outputs);
        Captured {
            status: self.reaped.map(|ended| ended.status),
            stopped: self.stopped,
            started,
            cpu: self.reaped.map_or(Duration::ZERO, |ended| ended.cpu),
            peak_memory: self.reaped.map_or(0, |ended| ended.peak_memory),
            stdout,
            stderr,
            left_over: u32::try_from(self.left_over.len()).unwrap_or(u32::MAX),
            pipes_held,
            unkillable,
        }
    }

    /// Sees whether it has stopped, and does about it what a shell does.
    fn look_at_stop(&mut self) {
        if self.ended {
            return;
        }
        let Some(signal) = foreground::stopped_by(self.pid) else { return };
        let asks = [Signal::TTIN, Signal::TTOU].iter().any(|one| one.as_raw() == signal);
        let Some(terminal) = &self.shared.options.terminal else {
            if asks && let Some(tell) = self.on_stopped.take() {
                tell();
            }
            return;
        };
        if !(asks && terminal.is_ours()) {
            // Ctrl-Z, or we are in the background ourselves: the run stops with it, until it is told to go on. As the
            // terminal would have stopped it: where there is no shell to have it go on, the system lets it be.
            terminal.take_back(self.pid, true);
            let _ = kill_process(getpid(), Signal::TSTP);
        }
        if terminal.is_ours() {
            terminal.lend(self.pid);
        }
        // A group that has just ended needs no signal.
        let _ = kill_process_group(self.pid, Signal::CONT);
    }

    /// Moves bytes, and looks for the end of the process.
    fn poll_process(&mut self, context: &mut Context<'_>, stopping: bool) -> Poll<Event> {
        if self.feed.as_mut().is_some_and(|feed| feed.poll_written(context).is_ready()) {
            self.feed = None;
        }
        let has_ended = !self.ended && self.end.as_ref().is_some_and(|end| end.poll_read_ready(context).is_ready());
        if has_ended {
            self.ended = true;
            self.writers = [None, None];
            // Their end is there by now, unless another process holds them; the reactor need not be asked.
            self.sources.iter().flatten().for_each(OutputPipe::read_at_once);
        }
        for (at, stream) in [OutputStream::Out, OutputStream::Err].into_iter().enumerate() {
            while self.sources[at].is_some()
                && let Poll::Ready(event) = self.poll_source(context, at, stream, stopping)
            {
                // What it has left is read in one go.
                if !has_ended || matches!(event, Event::Stop(_)) || self.reads >= MOST_READS {
                    return Poll::Ready(event);
                }
            }
        }
        if has_ended { Poll::Ready(Event::Ended) } else { Poll::Pending }
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
        at: usize,
        stream: OutputStream,
        stopping: bool,
    ) -> Poll<Event> {
        if self.watch.is_some_and(|watch| watch.poll_room(context).is_pending()) {
            return Poll::Pending;
        }
        let Some(source) = &self.sources[at] else { return Poll::Pending };
        let mut buffer = self.shared.buffer.borrow_mut();
        buffer.clear();
        let read = match source.poll_read(context, &mut buffer) {
            Poll::Pending => {
                self.reads = 0;
                return Poll::Pending;
            }
            // A pipe that cannot be read has nothing more for us.
            Poll::Ready(result) => result.unwrap_or(0),
        };
        self.reads += 1;
        if read == 0 {
            self.sources[at] = None;
            return Poll::Ready(Event::Closed);
        }
        if let Some(watch) = self.watch {
            watch.output(stream, &buffer);
        }
        let options = &self.shared.options;
        if self.watch.is_some() && !options.keep_watched {
            return Poll::Ready(Event::Printed);
        }
        let output = &mut self.outputs[at];
        let left = options.max_output.map_or(u64::MAX, |most| most.saturating_sub(output.len()));
        let kept = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let pushed = output.push(&buffer[..kept], &options.spool);
        Poll::Ready(match pushed {
            Err(_) if !stopping => Event::Stop(StopReason::NoRoom),
            Ok(()) if kept < buffer.len() && !stopping => Event::Stop(StopReason::TooMuchOutput),
            _ => Event::Printed,
        })
    }

    fn step(&mut self, stage: Stage, event: Event) -> Stage {
        let now = clock::now();
        match (stage, event) {
            (Stage::Running | Stage::Settling { .. }, Event::Stop(why)) => {
                self.stopped = Some(why);
                self.terminate(now)
            }
            (Stage::Running, _) if self.ended => {
                self.feed = None;
                let settling = Stage::Settling { quiet_at: now + QUIET, last_at: now + LONGEST_SETTLING };
                self.settle(settling, false)
            }
            (Stage::Settling { last_at, .. }, Event::Printed) => {
                self.settle(Stage::Settling { quiet_at: now + QUIET, last_at }, false)
            }
            (Stage::Settling { .. }, _) => self.settle(stage, event == Event::Tick),
            (Stage::Terminating { .. }, Event::KillNow) => self.kill(now, now + HOPELESS),
            (Stage::Terminating { kill_at }, Event::Tick) if now >= kill_at => self.kill(now, now + HOPELESS),
            (Stage::Terminating { .. }, Event::Tick) => {
                if self.signal_new() {
                    stage
                } else {
                    self.over_if_ended(stage)
                }
            }
            (Stage::Killing { hopeless_at }, Event::Tick) => self.kill(now, hopeless_at),
            _ => stage,
        }
    }

    /// The process has ended: is there anything to wait for?
    fn settle(&mut self, stage: Stage, ticked: bool) -> Stage {
        let Stage::Settling { quiet_at, last_at } = stage else { return stage };
        let closed = self.sources.iter().all(Option::is_none);
        let leave = self.shared.options.leave_running;
        if closed && (leave || !self.has_left_over()) {
            return Stage::Over { unkillable: 0 };
        }
        let now = clock::now();
        if !ticked || now < quiet_at.min(last_at) {
            return stage;
        }
        if leave {
            return Stage::Over { unkillable: 0 };
        }
        if now < last_at && self.members().iter().any(FoundProcess::is_held_up) {
            // On a busy machine a process without a core is silent as well.
            return Stage::Settling { quiet_at: now + QUIET, last_at };
        }
        self.terminate(now)
    }

    fn terminate(&mut self, now: Instant) -> Stage {
        self.feed = None;
        let stage = Stage::Terminating { kill_at: now + self.shared.options.grace };
        if self.signal_new() { stage } else { self.over_if_ended(stage) }
    }

    /// Nothing lives; then it is over as soon as the process itself is known to have ended.
    fn over_if_ended(&self, stage: Stage) -> Stage {
        let closed = self.sources.iter().all(Option::is_none);
        // What is left in the pipes is read first. A pipe that was handed to a stranger stays open, and is given up.
        let read = closed || matches!(stage, Stage::Killing { .. });
        // A look at all processes takes a while, and may miss what was born meanwhile; this one does not.
        if self.ended && read && !self.has_left_over() { Stage::Over { unkillable: 0 } } else { stage }
    }

    /// Sends SIGTERM to all that have not had it yet; returns whether anything lives.
    fn signal_new(&mut self) -> bool {
        let members = self.members();
        let had_it = self.end_group_at_once(&members);
        for found in &members {
            if self.signalled.insert(*found) {
                if !had_it.contains(found) {
                    found.signal(Signal::TERM);
                }
                found.signal(Signal::CONT);
            }
        }
        self.count_left_over(&members);
        !members.is_empty()
    }

    /// Sends SIGTERM to the whole group in one call, the first time; returns what has had it. One by one the reader of
    /// a pipe would see the end of what it reads before its own, and take it for the whole. A process that has left the
    /// group has to be told by itself.
    fn end_group_at_once(&self, members: &[FoundProcess]) -> HashSet<FoundProcess> {
        let group = match self.signalled.is_empty() {
            true => self.in_group(members),
            false => HashSet::new(),
        };
        match !group.is_empty() && kill_process_group(self.pid, Signal::TERM).is_ok() {
            true => group,
            false => HashSet::new(),
        }
    }

    /// Those of these that are in the command's own group. As long as there is one, its number is given to no other
    /// group.
    fn in_group(&self, members: &[FoundProcess]) -> HashSet<FoundProcess> {
        let own = self.pid.as_raw_nonzero().get();
        members.iter().filter(|found| group_of(found.pid) == Some(own)).copied().collect()
    }

    fn kill(&mut self, now: Instant, hopeless_at: Instant) -> Stage {
        let members = self.members();
        if !self.in_group(&members).is_empty() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        members.iter().for_each(|found| found.signal(Signal::KILL));
        self.count_left_over(&members);
        let stage = Stage::Killing { hopeless_at };
        match members.is_empty() {
            true => self.over_if_ended(stage),
            false if now >= hopeless_at => Stage::Over { unkillable: u32::try_from(members.len()).unwrap_or(u32::MAX) },
            false => stage,
        }
    }

    fn count_left_over(&mut self, members: &[FoundProcess]) {
        if self.stopped.is_none() {
            self.left_over.extend(members);
        }
    }

    /// All that lives of it. What is born during the look is found by the next one.
    fn members(&self) -> Vec<FoundProcess> {
        let raw = self.pid.as_raw_nonzero().get();
        let mut known = self.known.borrow_mut();
        let Some(snapshot) = self.shared.snapshot(clock::now() - SNAPSHOT_AGE) else {
            // Without a look at all, there is at least the process itself.
            return FoundProcess::of(raw).into_iter().collect();
        };
        let members = snapshot.members(raw, &self.marker, &known);
        known.extend(&members);
        members
    }

    /// Whether anything of a process that has ended lives. Takes in the ends of orphans that do not.
    fn has_left_over(&self) -> bool {
        let own = self.pid.as_raw_nonzero().get();
        let mut children = self.shared.children.borrow_mut();
        let mut unknown = Vec::new();
        let running = self.shared.running.borrow();
        let looked = children.as_mut().is_some_and(|children| {
            let mut add = |pid| {
                if !running.contains(&pid) {
                    unknown.push(pid);
                }
            };
            children.look(&mut add).is_ok()
        });
        if !looked {
            return !self.members().is_empty();
        }
        let mut lives = false;
        for pid in unknown {
            let is_ours = group_of(pid) == Some(own)
                || match marker(pid, MARKER) {
                    Some(found) => found == self.marker,
                    // It hides, but whose should it be?
                    None => running.len() == 1,
                };
            let Some(number) = Pid::from_raw(pid) else { continue };
            let has_ended = matches!(reap(number), Ok(Some(_)));
            if is_ours && !has_ended {
                lives = true;
                self.known.borrow_mut().extend(FoundProcess::of(pid));
            }
        }
        lives
    }

    fn reap(&mut self) {
        if self.reaped.is_none() {
            self.reaped = reap(self.pid).ok().flatten();
        }
        if let Some(terminal) = &self.shared.options.terminal {
            // What was ended may have left the terminal in a state that is of no use.
            let is_odd = self.reaped.is_none_or(|ended| ended.status.code().is_none());
            terminal.take_back(self.pid, is_odd);
        }
        self.shared.running.borrow_mut().remove(&self.pid.as_raw_nonzero().get());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.reaped.is_some() {
            return;
        }
        let raw = self.pid.as_raw_nonzero().get();
        for _ in 0..ROUNDS {
            let known = self.known.get_mut();
            let members = match Snapshot::take(MARKER) {
                Ok(snapshot) => snapshot.members(raw, &self.marker, known),
                Err(_) => FoundProcess::of(raw).into_iter().collect(),
            };
            known.extend(&members);
            if members.is_empty() {
                break;
            }
            kill_all(&members);
        }
        self.reap();
    }
}

async fn reached(mut level: watch::Receiver<StopLevel>, least: StopLevel) {
    if level.wait_for(|level| *level >= least).await.is_err() {
        // Its sender is gone, so it cannot be said any more.
        std::future::pending::<()>().await;
    }
}

/// Long enough for a filter behind a shell to write its last line, short enough that a daemon is not waited for.
const QUIET: Duration = Duration::from_millis(100);
/// What prints for ever is not waited for.
const LONGEST_SETTLING: Duration = Duration::from_secs(1);
/// How often it is looked whether a tree has ended, and how old a look may be.
const TICK: Duration = Duration::from_millis(10);
const SNAPSHOT_AGE: Duration = Duration::from_millis(5);
/// A process that has not gone so long after SIGKILL waits in the kernel for something that may never come.
const HOPELESS: Duration = Duration::from_secs(5);
/// A mebibyte at a time.
const MOST_READS: u32 = 16;
