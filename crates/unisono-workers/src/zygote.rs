//! The zygote: a fresh, single-threaded interpreter that forks workers for us.
//!
//! We never fork ourselves: a fork of a program with threads inherits locks that nobody will open. The zygote gets one
//! message per worker, with the descriptors that the worker is born with; it watches us, and kills its children when we
//! are gone. When it has died, the next worker starts another one.
//!
//! What the zygote is, is said by its command line, which the face makes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use crate::{message, task::held};

/// Starts workers.
#[derive(Debug)]
pub struct Zygote {
    command: Vec<std::ffi::OsString>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    socket: OwnedFd,
    child: Child,
}

impl Zygote {
    /// One that is started with this program and these arguments when it is first needed; its socket is its standard input.
    pub fn new(command: Vec<std::ffi::OsString>) -> Self {
        Self { command, running: Mutex::new(None) }
    }

    /// Has a worker made; `method` is what the zygote understands, `descriptors` are what the worker is born with.
    ///
    /// # Errors
    /// When the zygote cannot be started.
    pub fn start(&self, method: u8, descriptors: &[BorrowedFd<'_>; 5]) -> io::Result<()> {
        let mut running = held(&self.running);
        if let Some(zygote) = running.as_ref() {
            match message::send(zygote.socket.as_fd(), &[method], descriptors, true) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                sent => return sent,
            }
        }
        if let Some(mut dead) = running.take() {
            let _ = dead.child.kill();
            let _ = dead.child.wait();
        }
        let zygote = running.insert(self.spawn()?);
        message::send(zygote.socket.as_fd(), &[method], descriptors, true)
    }

    /// Ends it, and with it every worker that it has made; the next worker starts another one.
    pub fn stop(&self) {
        if let Some(Running { socket, mut child }) = held(&self.running).take() {
            drop(socket);
            // Its only failure is that somebody else has taken in its end.
            let _ = child.wait();
        }
    }

    fn spawn(&self) -> io::Result<Running> {
        let (ours, theirs) = message::pair()?;
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program).args(arguments).stdin(Stdio::from(theirs)).spawn()?;
        Ok(Running { socket: ours, child })
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.stop();
    }
}
