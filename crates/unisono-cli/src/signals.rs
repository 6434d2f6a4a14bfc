//! Signals become requests to stop: the first to drain, the second to abort, the third ends the process.
//!
//! Some programs send a signal to a process and then to its group (timeout(1) does), so what comes twice within a
//! moment came once.
//!
//! The thread that watches never writes: a standard output or standard error without a reader would hold up the next
//! signal, which is the one that is to end that. What is to be said has a thread for itself.

use std::{
    num::NonZeroU32,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ},
    flag,
    iterator::Signals,
};
use unisono_core::{CancelLevel, CancelReason, CancelToken, clock, error_chain};
use unisono_runner::Monitor;

use crate::{
    failure::Failure,
    terminal::{PrintableLine, Terminal},
};

/// What a command wants of signals beside being stopped.
#[derive(Clone, Default)]
pub struct Handling {
    /// SIGUSR1 allows one more at once, SIGUSR2 one less, as with xargs.
    pub adjusts_limit: bool,
    /// Called before the third signal ends the process.
    pub at_last: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Called when the process was told to go on.
    pub on_continue: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Watches from a thread of its own until the process ends.
pub fn watch(cancel: &CancelToken, monitor: &Monitor, terminal: &Terminal, handling: Handling) -> Result<(), Failure> {
    let fault = |error: std::io::Error| Failure::fault(format!("signals cannot be watched: {}", error_chain(&error)));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(fault)?;
    if handling.adjusts_limit {
        signals.add_signal(SIGUSR1).and_then(|()| signals.add_signal(SIGUSR2)).map_err(fault)?;
    }
    if handling.on_continue.is_some() {
        signals.add_signal(SIGCONT).map_err(fault)?;
    }
    let (cancel, monitor, terminal) = (cancel.clone(), monitor.clone(), terminal.clone());
    let watch = move || {
        let mut last: Option<(i32, Instant)> = None;
        for signal in signals.forever() {
            if signal == SIGUSR1 || signal == SIGUSR2 {
                adjust(&monitor, signal == SIGUSR1, &terminal);
                continue;
            }
            if signal == SIGCONT {
                handling.on_continue.iter().for_each(|on_continue| on_continue());
                continue;
            }
            let now = clock::now();
            let is_echo = last.is_some_and(|(before, at)| before == signal && now - at < ECHO);
            last = Some((signal, now));
            if is_echo {
                continue;
            }
            let reason = match signal {
                SIGTERM => CancelReason::Terminate,
                SIGHUP => CancelReason::Hangup,
                _ => CancelReason::Interrupt,
            };
            // Read before it is raised: what those before have done makes this signal the first, second or third.
            let before = cancel.level();
            if before == CancelLevel::Abort {
                // Before the exit: what commands have started must not outlive this process.
                if let Some(at_last) = &handling.at_last {
                    at_last();
                }
                // Not a return from main, which would wait for a run that does not stop.
                process::exit(128 + signal);
            }
            // Escalate before saying so: a reader of the message may rely on it.
            cancel.escalate(reason);
            match before {
                CancelLevel::Run => say(&terminal, "stopping: what runs may finish (once more to stop at once)"),
                _ => say(&terminal, "stopping at once"),
            }
        }
    };
    thread::Builder::new().name("unisono-signals".into()).spawn(watch).map(drop).map_err(fault)
}

/// Makes a file that has become too large an error of the write: without a handler the signal would end us
/// in the middle of a run (setrlimit(2)). It is handled and not ignored, so what we start has it as in a fresh process.
pub fn survive_large_files() -> Result<(), Failure> {
    let seen = Arc::default();
    let registered = flag::register(SIGXFSZ, seen);
    registered.map(drop).map_err(|error| Failure::fault(format!("SIGXFSZ cannot be handled: {error}")))
}

fn adjust(monitor: &Monitor, more: bool, terminal: &Terminal) {
    let Some(mut limits) = monitor.limits() else { return };
    let follows = limits.per_key == limits.limit;
    let count = limits.limit.get();
    let count = if more { count.saturating_add(1) } else { count - 1 };
    // There is always one, or nothing would ever end.
    limits.limit = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    if follows {
        limits.per_key = limits.limit;
    }
    monitor.set_limits(limits);
    say(terminal, format!("at most {} at once", limits.limit));
}

fn say(terminal: &Terminal, line: impl Into<PrintableLine>) {
    let (terminal, line) = (terminal.clone(), line.into());
    // Where no thread can be had, what is asked for is done without a word.
    let _ = thread::Builder::new().name("unisono-notes".into()).spawn(move || terminal.note(line));
}

/// No person presses a key twice within it.
const ECHO: Duration = Duration::from_millis(50);
