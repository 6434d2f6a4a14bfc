//! A bell that engine threads ring without the interpreter: an eventfd (eventfd(2)).
//!
//! Ringing costs a system call only when nobody has rung since the last look.
//!
//! A bell has its descriptor as long as somebody has the bell. Whoever rings has none, so that a program which keeps what
//! has ended, or the future of it, keeps no descriptor with it: see [`EndingBell`].

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::numbers::moment_in;

/// A bell that a program may listen to.
#[pyclass(frozen, module = "unisono._native")]
#[derive(Debug, Clone)]
pub struct Bell(Arc<Inner>);

/// Rings a bell, as long as there is somebody to hear it.
#[derive(Debug, Clone)]
pub struct Ringer(Weak<Inner>);

/// The bell of something that ends. Until then it is there for whoever asks; afterwards only for those who still have it,
/// which are event loops that watch its descriptor.
#[derive(Debug)]
pub struct EndingBell {
    /// Held to look at it; never while it is waited for.
    own: Mutex<Option<Bell>>,
    ringer: Ringer,
}

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    /// Set by whoever rings first, cleared by whoever looks: only the first of several has to wake anybody.
    rung: AtomicBool,
}

#[pymethods]
impl Bell {
    /// The descriptor that becomes readable when it is rung.
    #[pyo3(name = "fileno")]
    fn descriptor(&self) -> i32 {
        self.fileno()
    }

    /// It has been heard: whatever comes after it rings again.
    #[pyo3(name = "hush")]
    fn heard(&self) {
        self.hush();
    }
}

impl Bell {
    pub fn new() -> PyResult<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?;
        Ok(Self(Arc::new(Inner { fd, rung: AtomicBool::new(false) })))
    }

    pub fn ringer(&self) -> Ringer {
        Ringer(Arc::downgrade(&self.0))
    }

    pub fn fileno(&self) -> i32 {
        self.0.fd.as_raw_fd()
    }

    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // It fails only when the counter is full, and then it is rung.
            let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
        }
    }

    /// To be called before looking: whatever comes after it rings again.
    pub fn hush(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0.fd, &mut count);
        self.0.rung.store(false, Ordering::Release);
    }

    /// Waits until it is rung, or so many seconds. Signals of Python are looked after.
    pub fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        let until = seconds.and_then(moment_in);
        loop {
            let slice = until.map_or(SLICE, |until| SLICE.min(until.saturating_duration_since(Instant::now())));
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(slice.as_nanos()).unwrap_or(0) };
            let rung = py.detach(|| {
                let mut fds = [PollFd::from_borrowed_fd(self.0.fd.as_fd(), PollFlags::IN)];
                matches!(poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
            });
            py.check_signals()?;
            if rung || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(rung);
            }
        }
    }
}

impl Ringer {
    pub fn ring(&self) {
        if let Some(inner) = self.0.upgrade() {
            Bell(inner).ring();
        }
    }
}

impl EndingBell {
    pub fn new() -> PyResult<Self> {
        let bell = Bell::new()?;
        Ok(Self { ringer: bell.ringer(), own: Mutex::new(Some(bell)) })
    }

    pub fn ringer(&self) -> Ringer {
        self.ringer.clone()
    }

    /// The bell; `None` when there will be no more to hear, and nobody has it.
    pub fn bell(&self) -> Option<Bell> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone().or_else(|| self.ringer.0.upgrade().map(Bell))
    }

    /// Nobody need listen from now on: all there is to know is there. To be called after it was rung for that.
    pub fn let_go(&self) {
        let _bell = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub fn hush(&self) {
        if let Some(bell) = self.bell() {
            bell.hush();
        }
    }

    /// As [`Bell::wait`]; at once when there will be no more to hear.
    pub fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        self.bell().map_or(Ok(true), |bell| bell.wait(py, seconds))
    }
}

/// How soon Ctrl-C is noticed when it does not interrupt the wait itself, in another thread than the main one.
const SLICE: Duration = Duration::from_millis(50);
