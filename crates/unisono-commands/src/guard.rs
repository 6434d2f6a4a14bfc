//! Two processes that watch each other, so that nothing outlives a run that is killed.
//!
//! The process that the user started, the *watcher*, does nothing but start the same program again, the *worker*, pass
//! signals on to it, and end as it ends. Both are subreapers, so each has all that descends from the run among its
//! descendants once what stood between them is gone.
//!
//! - The worker vanishes without a word (SIGKILL): its children come to the watcher, which kills all its descendants
//!   until none is left, and then ends by the same signal.
//! - The watcher vanishes: a thread of the worker, which waits for its pidfd, sees it, closes the gate through which
//!   commands are started, kills all that descends from the worker, and then the worker.
//! - Where we may make a control group (version 2), the worker runs in one of its own. Killing that is one write, which
//!   cannot be dodged by forking.
//!
//! Ctrl-Z (SIGTSTP, SIGTTIN, SIGTTOU) reaches these two alone, since commands lead groups of their own. Once the worker
//! has stopped and can start nothing, the watcher stops all that descends from it, and then itself; whichever of the
//! two is told to go on, both do, and they.
//!
//! SIGSTOP holds the process that it is sent to, and no other. A worker that is held starts nothing and is still
//! watched: what is to end it has it go on first, and so does the end of the watcher (`PR_SET_PDEATHSIG`), or nothing
//! would end its commands.
//!
//! It costs the commands nothing: none of it happens when one of them is started.
//!
//! What it cannot do: when both are killed at the same moment, what runs is left to run, as it would be without it. A
//! `kill -9` of the whole process group is such a case; commands lead groups of their own and do not notice. Then only
//! a control group that is killed from outside (a container, `systemd-run`) helps.

use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
        unix::process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, pidfd_open, pidfd_send_signal,
        set_child_subreaper, set_parent_process_death_signal, waitid,
    },
};
use unisono_sys::{
    arrivals::{self, Arrival, Arrivals},
    cgroup::{self, Cgroup},
    foreground::ControllingTerminal,
    process::reap,
    tree::{FoundProcess, is_stopped},
};

use crate::descendants::{kill_descendants, stop_descendants};

/// The variable by which a worker knows that it is one: the watcher's number, and the control group to run in.
pub const WATCHER: &str = "UNISONO_WATCHER";

/// What every command passes when it is started; once closed, nothing is started any more.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// Held while a command is started, so that after closing there is none half way.
    closed: Arc<Mutex<bool>>,
}

impl Gate {
    /// Starts something, unless the gate is closed.
    pub(crate) fn pass<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(io::Error::other("the run is being killed")) } else { start() }
    }

    fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// Starts the same program again as the worker, watches it to its end, and returns with the exit status to end with. To
/// be called before there are other threads. `with_group` says whether to make a control group, if we may; `terminal`
/// is what the worker lends to its commands, and is taken back when it is killed.
///
/// # Errors
/// When the program cannot be started again.
pub fn watch(
    arguments: impl Iterator<Item = OsString>,
    with_group: bool,
    terminal: Option<&ControllingTerminal>,
) -> io::Result<u8> {
    // Before the worker is there: an orphan that is not given to us is not found again.
    set_child_subreaper(Some(getpid()))?;
    let group = with_group.then(|| Cgroup::create("unisono").ok()).flatten();
    let mut value = OsString::from(process::id().to_string());
    if let Some(group) = &group {
        value.push(":");
        value.push(group.path());
    }
    // Blocked before the worker starts, so that none ends us in between and leaves it alone.
    let arrivals = Arrivals::of(&PASSED_ON.map(Signal::as_raw))?;
    // By its name, which the user sees in the list of processes; unless an upgrade has just taken it away.
    let this = Path::new("/proc/self/exe");
    let program = this.read_link().ok().filter(|program| program.exists()).unwrap_or_else(|| this.to_owned());
    let worker = Command::new(program).args(arguments).env(WATCHER, value).spawn()?;
    let worker = Pid::from_raw(i32::try_from(worker.id()).expect("a process number fits"));
    let worker = worker.expect("a child's number is not zero");
    let status = Watching { worker, arrivals, stopped: HashSet::new() }.until_the_end()?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => {
            if let Some(group) = &group {
                // What follows does the same, one by one.
                let _ = cgroup::kill(group.path());
            }
            kill_descendants();
            if let Some((terminal, holder)) = terminal.and_then(|one| Some((one, one.holder()?))) {
                // The command that had it is dead.
                terminal.take_back(holder, true);
            }
            Ok(u8::try_from(128 + signal.unwrap_or(0)).unwrap_or(u8::MAX))
        }
    }
}

/// The watcher, as its worker sees it.
#[derive(Debug, Clone)]
pub struct Watcher {
    pid: Pid,
    /// Readable once it has ended.
    end: Arc<OwnedFd>,
}

impl Watcher {
    /// Has the watcher go on when it has stopped. To be called when the worker was told to go on, since that may have
    /// been said to the worker alone.
    pub fn wake(&self) {
        let this = self.clone();
        // Without a thread it is looked at once.
        let later = thread::Builder::new().name("unisono-wake".into()).spawn(move || {
            for pause in LOOKS {
                thread::sleep(pause);
                this.wake_if_stopped();
            }
        });
        if later.is_err() {
            self.wake_if_stopped();
        }
    }

    fn wake_if_stopped(&self) {
        if is_stopped(self.pid) {
            // One that has ended needs no signal.
            let _ = pidfd_send_signal(&self.end, Signal::CONT);
        }
    }
}

/// Lets a worker be watched over: `value` is that of [`WATCHER`]. From here on, the end of the watcher is the end of
/// this process and of all that it has started. To be called before there are other threads. Signals wait until
/// [`take_signals`], so that one that came early finds what handles it.
///
/// Returns none when the value names no process. Ends this process when the watcher has gone already.
///
/// # Errors
/// When there is no thread for it.
pub fn be_watched(value: &OsString, gate: Gate) -> io::Result<Option<Watcher>> {
    let bytes = value.as_bytes();
    let split = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
    let number = std::str::from_utf8(&bytes[..split]).ok().and_then(|number| number.parse().ok());
    let Some(watcher) = number.and_then(Pid::from_raw) else { return Ok(None) };
    let group = bytes.get(split + 1..).map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    let end = pidfd_open(watcher, PidfdFlags::empty());
    // Before the look at our parent, or its end in between would go unnoticed. It wakes us when we are stopped, and
    // does nothing otherwise.
    set_parent_process_death_signal(Some(Signal::CONT))?;
    if getppid() != Some(watcher) {
        // It went away before we could watch it; commands never see the variable, so it was meant for us. Nothing has
        // been started yet.
        process::exit(128 + Signal::KILL.as_raw());
    }
    let end = Arc::new(end?);
    let seen = Watcher { pid: watcher, end: end.clone() };
    // Without it there is still everything else.
    let group = group.filter(|group| cgroup::enter(group).is_ok());
    let wait = move || {
        let gone = || poll(&mut [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)], None);
        while gone() == Err(rustix::io::Errno::INTR) {}
        die(&gate, group.as_deref());
    };
    thread::Builder::new().name("unisono-guard".into()).spawn(wait)?;
    Ok(Some(seen))
}

/// Has this thread take signals, which the watcher had blocked when it started this process.
///
/// # Errors
/// When the system refuses.
pub fn take_signals() -> io::Result<()> {
    arrivals::unblock(&PASSED_ON.map(Signal::as_raw))
}

/// Starts nothing more, and kills all that descends from this process.
pub fn end_all(gate: &Gate) {
    // Closed first: what started after the look would not be among those that are killed.
    gate.close();
    kill_descendants();
}

/// Kills everything, and this process last.
fn die(gate: &Gate, group: Option<&Path>) {
    if let Some(group) = group {
        // When it succeeds, this is the last thing we do.
        let _ = cgroup::kill(group);
    }
    end_all(gate);
    // A process can always signal itself, and this signal cannot be held.
    let _ = kill_process(getpid(), Signal::KILL);
}

/// What the watcher does all the time.
struct Watching {
    worker: Pid,
    arrivals: Arrivals,
    /// Those that were stopped with the worker.
    stopped: HashSet<FoundProcess>,
}

impl Watching {
    /// Watches until the worker has ended. Returns how.
    fn until_the_end(&mut self) -> io::Result<ExitStatus> {
        let mut arrived = Vec::new();
        loop {
            if arrived.is_empty() {
                arrived = self.arrivals.wait()?;
            }
            let mut has_stopped = false;
            for arrival in &arrived {
                has_stopped |= self.pass_on(*arrival);
            }
            if let Ok(Some(ended)) = reap(self.worker) {
                return Ok(ended.status);
            }
            let goes_on = is_among(Signal::CONT, &arrived);
            arrived.clear();
            if (self.worker_has_stopped() || has_stopped) && !goes_on {
                arrived = self.stop()?;
            }
        }
    }

    /// Tells the worker of a signal. Returns whether it asks to stop, and the worker has stopped before.
    fn pass_on(&mut self, arrival: Arrival) -> bool {
        let Some(signal) = Signal::from_named_raw(arrival.signal).filter(|signal| *signal != Signal::CHILD) else {
            return false;
        };
        let stops = [Signal::TSTP, Signal::TTIN, Signal::TTOU].contains(&signal);
        if stops && is_stopped(self.worker) {
            // It would wait for it to go on, and be forgotten then.
            return true;
        }
        // What the terminal sends, it sends to the worker as well; but when it goes away it may tell us alone.
        // A worker that has just ended needs no signal.
        if arrival.by_process || matches!(signal, Signal::HUP | Signal::CONT) {
            let _ = kill_process(self.worker, signal);
        }
        if [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].contains(&signal) {
            // One that is held cannot end.
            let _ = kill_process(self.worker, Signal::CONT);
        }
        if signal == Signal::CONT {
            self.stopped.drain().for_each(|found| found.signal(Signal::CONT));
        }
        false
    }

    /// Whether the worker has just stopped as the work of a terminal does. A SIGSTOP is meant for it alone.
    fn worker_has_stopped(&self) -> bool {
        let stop = waitid(WaitId::Pid(self.worker), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
        let signal = stop.ok().flatten().and_then(|stop| stop.stopping_signal());
        signal.is_some_and(|signal| signal != Signal::STOP.as_raw())
    }

    /// Stops what descends from the worker, and then this process, until it is told to go on. Returns what arrived
    /// meanwhile.
    fn stop(&mut self) -> io::Result<Vec<Arrival>> {
        self.stopped.extend(stop_descendants(self.worker));
        let arrived = self.arrivals.waiting()?;
        // Looking for all of them takes a while, and what was told to go on meanwhile must not stop after it.
        if !is_among(Signal::CONT, &arrived) {
            // A parent that waits for us, as a shell does, is to see that the work has stopped.
            let _ = kill_process(getpid(), Signal::STOP);
        }
        Ok(arrived)
    }
}

fn is_among(signal: Signal, arrived: &[Arrival]) -> bool {
    arrived.iter().any(|arrival| arrival.signal == signal.as_raw())
}

/// What a worker can do something about, and what would stop us before it.
const PASSED_ON: [Signal; 11] = [
    Signal::CHILD,
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::CONT,
];

/// When a worker that goes on looks whether its watcher does: at once, and again, since the watcher may have been about
/// to stop itself.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1)];
