//! What of the system a pool has: descriptors, from its start until it is over.
//!
//! A future keeps its pool, and programs keep futures for as long as they like. So these go when the last worker has,
//! and not with the last reference. The driver holds them a moment longer than that, since it sleeps in epoll without
//! the pool's lock.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll},
    pipe::PIPE_BUF,
};
use unisono_sys::private::Private;

/// What a pool is given to pass on.
#[derive(Debug)]
pub struct PoolDescriptors {
    /// What a worker reads at its start.
    pub settings: OwnedFd,
    /// Where what workers write to their standard error goes.
    pub output: OwnedFd,
    /// What they inherit besides, at most 59; what it means is between the face and its workers.
    pub inherited: Vec<OwnedFd>,
}

/// A pool's descriptors.
#[derive(Debug)]
pub(super) struct System {
    /// What a worker reads at its start.
    pub settings: OwnedFd,
    /// Where what workers write to their standard error goes.
    output: Private,
    /// What they inherit besides.
    pub inherited: Vec<Private>,
    pub epoll: OwnedFd,
    notifier: OwnedFd,
}

impl System {
    pub fn new(given: PoolDescriptors) -> io::Result<Self> {
        let notifier = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &notifier, epoll::EventData::new_u64(NOTIFIER), epoll::EventFlags::IN)?;
        let private = |descriptor| Private::new(|| Ok(descriptor));
        Ok(Self {
            settings: given.settings,
            output: private(given.output)?,
            inherited: given.inherited.into_iter().map(private).collect::<io::Result<_>>()?,
            epoll,
            notifier,
        })
    }

    /// Wakes the driver.
    pub fn notify(&self) {
        // It fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.notifier, &1u64.to_ne_bytes());
    }

    /// To be called by the driver before it looks; whether it had been notified.
    pub fn clear(&self) -> bool {
        rustix::io::read(&self.notifier, &mut [0; 8]).is_ok()
    }

    /// Has the driver told of something under this number.
    pub fn watch(&self, descriptor: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?)
    }

    /// Has it told of something no more, or again.
    pub fn pause(&self, descriptor: impl AsFd, number: u64, pauses: bool) {
        let flags = if pauses { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        // It fails only when the worker has closed its end, and then there is nothing to be heard.
        let _ = epoll::modify(&self.epoll, descriptor, epoll::EventData::new_u64(number), flags);
    }

    /// Has it told of something never again.
    pub fn unwatch(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// Writes what workers have said to where it belongs, not under the lock. Unless it `waits`, it leaves what is not
    /// taken at once: a terminal may be held, and the reader of a pipe may be busy.
    pub fn pass_on(&self, words: &mut Vec<u8>, waits: bool) {
        while !words.is_empty() {
            if !waits {
                let mut output = [PollFd::new(&self.output, PollFlags::OUT)];
                if !matches!(poll(&mut output, Some(&Timespec::default())), Ok(1..)) {
                    return;
                }
            }
            // So much a pipe takes at once when it takes anything (pipe(7)).
            match rustix::io::write(&self.output, &words[..words.len().min(PIPE_BUF)]) {
                Ok(length) => drop(words.drain(..length)),
                Err(rustix::io::Errno::INTR) => {}
                // As with a terminal that is gone, what cannot be shown is lost.
                Err(_) => words.clear(),
            }
        }
    }
}

/// The number under which the notifier is watched.
pub(super) const NOTIFIER: u64 = u64::MAX;
// What of a worker an event is about.
pub(super) const SOCKET: u64 = 0;
pub(super) const STATUS: u64 = 1;
pub(super) const WORDS: u64 = 2;
pub(super) const EXITED: u64 = 3;
