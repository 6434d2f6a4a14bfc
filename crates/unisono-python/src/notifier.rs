//! A notifier for engine threads, without the interpreter: an eventfd (eventfd(2)).
//!
//! Notifying costs a system call only when there was no other since the last look.
//!
//! A notifier has its descriptor as long as something may wait for it. What notifies holds a weak one, so that a
//! program which keeps what has ended, or the future of it, keeps no descriptor with it: see [`EndingNotifier`].

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use unisono_core::clock;

use crate::numbers::moment_in;

/// A notifier that a program may wait for.
#[pyclass(frozen, module = "unisono._native")]
#[derive(Debug, Clone)]
pub struct Notifier(Arc<Inner>);

/// A notifier that is used as long as something may wait for it.
#[derive(Debug, Clone)]
pub struct WeakNotifier(Weak<Inner>);

/// The notifier of something that ends. Until then it is there on request; afterwards only for holders that still
/// have it, which are event loops that watch its descriptor.
#[derive(Debug)]
pub struct EndingNotifier {
    /// Held to look at it; never while it is waited for.
    own: Mutex<Option<Notifier>>,
    weak: WeakNotifier,
}

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    /// Set by the first notification and cleared by a look: only the first of several has to wake anything.
    notified: AtomicBool,
}

#[pymethods]
impl Notifier {
    /// The descriptor that becomes readable when it is notified.
    #[pyo3(name = "fileno")]
    fn descriptor(&self) -> i32 {
        self.fileno()
    }

    /// It has been seen: whatever comes after it notifies again.
    #[pyo3(name = "clear")]
    fn cleared(&self) {
        self.clear();
    }
}

impl Notifier {
    pub fn new() -> PyResult<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?;
        Ok(Self(Arc::new(Inner { fd, notified: AtomicBool::new(false) })))
    }

    pub fn weak(&self) -> WeakNotifier {
        WeakNotifier(Arc::downgrade(&self.0))
    }

    pub fn fileno(&self) -> i32 {
        self.0.fd.as_raw_fd()
    }

    pub fn notify(&self) {
        if !self.0.notified.swap(true, Ordering::AcqRel) {
            // It fails only when the counter is full, and then it is readable.
            let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
        }
    }

    /// To be called before looking: whatever comes after it notifies again.
    pub fn clear(&self) {
        // The descriptor first: a notification between the two writes nothing, and what it is about is there already
        // for the look that follows. The other way round it would be written and read away, and the next one never
        // written.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0.fd, &mut count);
        self.0.notified.store(false, Ordering::Release);
    }

    /// Waits until it is notified, or so many seconds. Signals of Python are looked after.
    pub fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        let until = seconds.and_then(moment_in);
        loop {
            let slice = until.map_or(SLICE, |until| SLICE.min(until.saturating_duration_since(clock::now())));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(slice.as_nanos()).unwrap_or(0) };
            let notified = py.detach(|| {
                let mut fds = [PollFd::from_borrowed_fd(self.0.fd.as_fd(), PollFlags::IN)];
                matches!(poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
            });
            py.check_signals()?;
            if notified || until.is_some_and(|until| clock::now() >= until) {
                return Ok(notified);
            }
        }
    }
}

impl WeakNotifier {
    pub fn notify(&self) {
        if let Some(inner) = self.0.upgrade() {
            Notifier(inner).notify();
        }
    }
}

impl EndingNotifier {
    pub fn new() -> PyResult<Self> {
        let notifier = Notifier::new()?;
        Ok(Self { weak: notifier.weak(), own: Mutex::new(Some(notifier)) })
    }

    pub fn weak(&self) -> WeakNotifier {
        self.weak.clone()
    }

    /// The notifier; `None` when there will be no more to hear, and nothing holds it.
    pub fn notifier(&self) -> Option<Notifier> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone().or_else(|| self.weak.0.upgrade().map(Notifier))
    }

    /// Nothing need listen from now on: all there is to know is there. To be called after it was notified for that.
    pub fn let_go(&self) {
        let _notifier = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub fn clear(&self) {
        if let Some(notifier) = self.notifier() {
            notifier.clear();
        }
    }

    /// As [`Notifier::wait`]; at once when there will be no more to hear.
    pub fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.notifier().map_or(Ok(true), |notifier| notifier.wait(py, seconds))
    }
}

/// How soon Ctrl-C is noticed when it does not interrupt the wait itself, in another thread than the main one.
const SLICE: Duration = Duration::from_millis(50);
