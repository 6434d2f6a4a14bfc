//! Signals become requests to stop: the first to drain, the second to abort, the third ends the process.

use std::{process, thread};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use unisono_core::{CancelLevel, CancelReason, CancelToken};

use crate::{failure::Failure, terminal::Terminal};

/// Watches from a thread of its own until the process ends.
pub fn watch(cancel: &CancelToken, terminal: &Terminal) -> Result<(), Failure> {
    let fault = |error: std::io::Error| Failure::fault(format!("signals cannot be watched: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(fault)?;
    let (cancel, terminal) = (cancel.clone(), terminal.clone());
    let watch = move || {
        for signal in signals.forever() {
            let reason = match signal {
                SIGTERM => CancelReason::Terminate,
                SIGHUP => CancelReason::Hangup,
                _ => CancelReason::Interrupt,
            };
            let before = cancel.level();
            if before == CancelLevel::Abort {
                // Nobody waits for a run that does not stop.
                process::exit(128 + signal);
            }
            // Said only once it is so: whoever reads it may rely on it.
            cancel.escalate(reason);
            match before {
                CancelLevel::Run => terminal.note("stopping: what runs may finish (once more to stop at once)"),
                _ => terminal.note("stopping at once"),
            }
        }
    };
    thread::Builder::new().name("unisono-signals".into()).spawn(watch).map(drop).map_err(fault)
}
