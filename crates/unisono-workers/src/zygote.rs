//! The zygote: a process with one thread that forks workers for us.
//!
//! Most often a fresh interpreter: we do not fork ourselves, since a fork of a program with threads inherits locks
//! whose holders it does not have. On request it is a fork of the program, made by the face at a moment of its
//! choosing. Either gets one message per worker, with the descriptors that the worker inherits; it watches us, and
//! kills its children when we are gone. When a fresh one has died, the next worker starts another; a fork is not made
//! again.
//!
//! A zygote says when it begins to serve. So the end of one is told apart: one that was killed is started again as
//! often as that happens, one that has never come as far as to serve is a start that failed.
//!
//! What a fresh zygote is, is said by its command line, which the face makes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::RecvFlags,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid},
};
use unisono_sys::{monotonic::nanoseconds, private::Private};

use crate::{
    message,
    task::{Death, held},
};

/// Starts workers.
#[derive(Debug)]
pub struct Zygote {
    /// `None` for a fork of the program.
    command: Option<Vec<std::ffi::OsString>>,
    running: Mutex<Option<Arc<RunningZygote>>>,
}

/// One process that does.
#[derive(Debug)]
pub(crate) struct RunningZygote {
    socket: Private,
    process: OwnedFd,
    has_served: AtomicBool,
    /// How it ended, which the system says once.
    end: Mutex<Option<Death>>,
}

impl Zygote {
    /// One that is started with this program and these arguments when it is first needed; its socket is its standard
    /// input.
    pub fn new(command: Vec<std::ffi::OsString>) -> Self {
        Self { command: Some(command), running: Mutex::new(None) }
    }

    /// One that is a fork of this program, when [`Zygote::adopt`] has said which.
    pub fn forked() -> Self {
        Self { command: None, running: Mutex::new(None) }
    }

    /// Takes over the fork of this program that is to make the workers: a child of ours, and our end of its socket.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn adopt(&self, socket: OwnedFd, process: Pid) -> io::Result<()> {
        let process = pidfd_open(process, PidfdFlags::empty())?;
        *held(&self.running) = Some(Arc::new(RunningZygote::new(Private::new(|| Ok(socket))?, process)));
        Ok(())
    }

    /// Has a worker made; `method` is what the zygote understands, `descriptors` are what the worker inherits.
    ///
    /// # Errors
    /// When the zygote cannot be started; `EAGAIN` when it has not made those yet that it was told to make.
    pub(crate) fn start(&self, method: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<Arc<RunningZygote>> {
        let mut running = held(&self.running);
        if let Some(zygote) = running.as_ref() {
            match zygote.ask(method, descriptors) {
                Err(error) if is_gone(&error) => {}
                asked => return asked.map(|()| zygote.clone()),
            }
        }
        if let Some(dead) = running.take() {
            dead.kill();
        }
        let zygote = running.insert(Arc::new(self.spawn()?)).clone();
        zygote.ask(method, descriptors).map_err(|error| {
            if !is_gone(&error) {
                return error;
            }
            io::Error::other(format!("the process that makes the workers {}", zygote.end()))
        })?;
        Ok(zygote)
    }

    /// Whether it is a fork of this program, which is not made again.
    pub(crate) fn is_fork(&self) -> bool {
        self.command.is_none()
    }

    /// Ends it, and with it every worker that it has made; the next worker starts another one.
    pub fn stop(&self) {
        let running = held(&self.running).take();
        if let Some(running) = running {
            running.stop();
        }
    }

    fn spawn(&self) -> io::Result<RunningZygote> {
        let Some(command) = &self.command else {
            return Err(io::Error::other("the fork of the program that makes the workers has ended"));
        };
        let (ours, theirs) = message::pair()?;
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program).args(arguments).stdin(Stdio::from(theirs.publish())).spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(process) => Ok(RunningZygote::new(ours, process)),
            Err(error) => {
                // Without a descriptor of it we could not watch it; its socket is closed, so it ends.
                drop(ours);
                let mut child = child;
                let _ = child.kill().and_then(|()| child.wait());
                Err(error.into())
            }
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.stop();
    }
}

impl RunningZygote {
    fn new(socket: Private, process: OwnedFd) -> Self {
        Self { socket, process, has_served: AtomicBool::new(false), end: Mutex::new(None) }
    }

    /// Never waits: one that hangs while it starts must not hold up the pool.
    fn ask(&self, method: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        message::send(self.socket.as_fd(), &[method], descriptors, false)
    }

    /// Whether it has come as far as to serve.
    pub fn has_served(&self) -> bool {
        if !self.has_served.load(Ordering::Relaxed) {
            // What it has said stays readable when it is gone.
            let said = rustix::net::recv(&self.socket, &mut [0; 1], RecvFlags::DONTWAIT);
            self.has_served.store(said.is_ok_and(|(length, _)| length > 0), Ordering::Relaxed);
        }
        self.has_served.load(Ordering::Relaxed)
    }

    /// Ends it, if it has not; how it did.
    pub fn end(&self) -> Death {
        self.kill();
        self.ended().unwrap_or(Death::Unknown)
    }

    /// How it has ended, which it is about to: whatever it had opened is closed.
    pub fn has_ended(&self) -> Death {
        self.is_over(A_MOMENT_NS);
        self.ended().unwrap_or(Death::Unknown)
    }

    /// How it has ended, if it has.
    fn ended(&self) -> Option<Death> {
        let mut end = held(&self.end);
        if end.is_none() {
            *end = match waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(status) => status.as_ref().map(how),
                // Other code of the program has taken its end in, or the program has its children's ends thrown away.
                Err(_) => self.is_over(0).then_some(Death::Unknown),
            };
        }
        *end
    }

    /// Kills it, and waits for its end: its workers die with it.
    fn kill(&self) {
        // It fails only when the process is gone already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        self.is_over(LONGEST_END_NS);
        self.ended();
    }

    fn stop(&self) {
        // Said, and not only closed: a program that was forked and executed without care may hold a copy.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        if !self.is_over(LONGEST_END_NS) {
            // It hangs in something that it preloads, or was stopped.
            self.kill();
        }
        self.ended();
    }

    /// Waits until its process has ended, but not longer than this; whether it has.
    fn is_over(&self, longest_ns: u64) -> bool {
        let until = nanoseconds() + longest_ns;
        loop {
            let left = until.saturating_sub(nanoseconds());
            let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as _ };
            match poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&timeout)) {
                Err(Errno::INTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

/// Whether an error means that the other end of the socket is gone. One that dies with unread messages resets it.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionRefused | NotConnected)
}

fn how(status: &WaitIdStatus) -> Death {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Death::Exit(code),
        (None, Some(signal)) => Death::Signal(signal),
        (None, None) => Death::Unknown,
    }
}

/// Between the moment in which a process closes its descriptors and the one in which its end is known, in nanoseconds.
const A_MOMENT_NS: u64 = 100_000_000;
/// So long a zygote may take to kill its workers and end when it is told to, and to be gone when it was killed, in
/// nanoseconds.
const LONGEST_END_NS: u64 = 5_000_000_000;
