//! A notifier for engine threads, without the interpreter: an eventfd (eventfd(2)).
//!
//! Ringing costs a system call only when nobody has notified since the last look.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

#[derive(Debug, Clone)]
pub struct Notifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    /// Set by the first notification and cleared by a look: only the first of several has to wake anything.
    notified: AtomicBool,
}

impl Notifier {
    pub fn new() -> PyResult<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?;
        Ok(Self(Arc::new(Inner { fd, notified: AtomicBool::new(false) })))
    }

    pub fn fileno(&self) -> i32 {
        self.0.fd.as_raw_fd()
    }

    pub fn notify(&self) {
        if !self.0.notified.swap(true, Ordering::AcqRel) {
            // It fails only when the counter is full, and then it is notified.
            let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
        }
    }

    /// To be called before looking: whatever comes after it notifies again.
    pub fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0.fd, &mut count);
        self.0.notified.store(false, Ordering::Release);
    }

    /// Waits until it is notified, or so many seconds. Signals of Python are looked after.
    pub fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        let longest = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO));
        let until = longest.map(|longest| Instant::now() + longest);
        loop {
            let slice = until.map_or(SLICE, |until| SLICE.min(until.saturating_duration_since(Instant::now())));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(slice.as_nanos()).unwrap_or(0) };
            let notified = py.detach(|| {
                let mut fds = [PollFd::from_borrowed_fd(self.0.fd.as_fd(), PollFlags::IN)];
                matches!(poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
            });
            py.check_signals()?;
            if notified || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(notified);
            }
        }
    }
}

/// How soon Ctrl-C is noticed when it does not interrupt the wait itself, in another thread than the main one.
const SLICE: Duration = Duration::from_millis(50);
