//! Our ends of a command's pipes, which never block.

use std::{
    cell::Cell,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use rustix::{
    buffer::spare_capacity,
    fs::{OFlags, fcntl_setfl},
    io::Errno,
};
use unisono_sys::readiness::Watched;

/// The end from which a command's output is read.
#[derive(Debug)]
pub(crate) struct OutputPipe {
    descriptor: Watched,
    /// Something is known to be there, though the reactor may not have said so yet.
    at_once: Cell<bool>,
}

impl OutputPipe {
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        // The flag is that of our end alone: the two ends of a pipe are two open files.
        fcntl_setfl(&descriptor, OFlags::NONBLOCK)?;
        Ok(Self { descriptor: Watched::readable(descriptor)?, at_once: Cell::new(false) })
    }

    /// The next reads do not wait for the reactor, until there is nothing more.
    pub(crate) fn read_at_once(&self) {
        self.at_once.set(true);
    }

    /// Reads once, into the buffer's spare room; 0 at the end.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        while self.at_once.get() {
            match rustix::io::read(&self.descriptor, spare_capacity(buffer)) {
                Err(Errno::AGAIN) => self.at_once.set(false),
                Err(Errno::INTR) => {}
                result => return Poll::Ready(result.map_err(io::Error::from)),
            }
        }
        loop {
            let mut ready = ready!(self.descriptor.poll_read_ready(context))?;
            let room = buffer.capacity() - buffer.len();
            match rustix::io::read(&self.descriptor, spare_capacity(buffer)) {
                Ok(read) => {
                    if 0 < read && read < room {
                        // Less than asked for: the pipe is empty, and the next byte is a new event.
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// The end into which a command's input is written.
#[derive(Debug)]
pub(crate) struct InputPipe {
    descriptor: Watched,
    bytes: Bytes,
}

impl InputPipe {
    pub(crate) fn new(descriptor: OwnedFd, bytes: Bytes) -> io::Result<Self> {
        fcntl_setfl(&descriptor, OFlags::NONBLOCK)?;
        Ok(Self { descriptor: Watched::writable(descriptor)?, bytes })
    }

    /// Ready when all is written, or the command reads no more: a command need not read what it is given.
    pub(crate) fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.bytes.has_remaining() {
            let Ok(mut ready) = ready!(self.descriptor.poll_write_ready(context)) else { return Poll::Ready(()) };
            match rustix::io::write(&self.descriptor, &self.bytes) {
                Ok(written) => self.bytes.advance(written),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}
