//! The zygote: a process with one thread that forks workers for us.
//!
//! Most often a fresh interpreter: we do not fork ourselves, since a fork of a program with threads inherits locks that
//! nobody will open. On request it is a fork of the program, made by the face at a moment of its choosing. Either gets one
//! message per worker, with the descriptors that the worker is born with; it watches us, and kills its children when we
//! are gone. When a fresh one has died, the next worker starts another; a fork is not made again.
//!
//! What a fresh zygote is, is said by its command line, which the face makes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use unisono_sys::private::Private;

use crate::{message, task::held};

/// Starts workers.
#[derive(Debug)]
pub struct Zygote {
    /// `None` for a fork of the program.
    command: Option<Vec<std::ffi::OsString>>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    socket: Private,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Started(Child),
    Forked(OwnedFd),
}

impl Zygote {
    /// One that is started with this program and these arguments when it is first needed; its socket is its standard input.
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
        let process = Process::Forked(pidfd_open(process, PidfdFlags::empty())?);
        *held(&self.running) = Some(Running { socket: Private::new(|| Ok(socket))?, process });
        Ok(())
    }

    /// Has a worker made; `method` is what the zygote understands, `descriptors` are what the worker is born with.
    ///
    /// # Errors
    /// When the zygote cannot be started.
    pub fn start(&self, method: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut running = held(&self.running);
        if let Some(zygote) = running.as_ref() {
            match message::send(zygote.socket.as_fd(), &[method], descriptors, true) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                sent => return sent,
            }
        }
        if let Some(dead) = running.take() {
            dead.process.end();
        }
        let zygote = running.insert(self.spawn()?);
        message::send(zygote.socket.as_fd(), &[method], descriptors, true)
    }

    /// Ends it, and with it every worker that it has made; the next worker starts another one.
    pub fn stop(&self) {
        if let Some(Running { socket, process }) = held(&self.running).take() {
            // Said, and not only closed: a program that was forked and executed without care may hold a copy.
            let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
            drop(socket);
            process.wait();
        }
    }

    fn spawn(&self) -> io::Result<Running> {
        let Some(command) = &self.command else {
            return Err(io::Error::other("the fork of the program that makes the workers has ended"));
        };
        let (ours, theirs) = message::pair()?;
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program).args(arguments).stdin(Stdio::from(theirs.publish())).spawn()?;
        Ok(Running { socket: ours, process: Process::Started(child) })
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Process {
    fn end(mut self) {
        let _ = match &mut self {
            Self::Started(child) => child.kill().is_ok(),
            Self::Forked(process) => pidfd_send_signal(process, Signal::KILL).is_ok(),
        };
        self.wait();
    }

    /// Its only failure is that somebody else has taken in its end.
    fn wait(self) {
        match self {
            Self::Started(mut child) => drop(child.wait()),
            Self::Forked(process) => {
                let ended = || waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
                while ended().is_err_and(|error| error == rustix::io::Errno::INTR) {}
            }
        }
    }
}
