//! A descriptor of ours that the program may have closed, with all others, before it opened a file of its own by the
//! same number (`os.closerange`, as daemons do).

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd},
};

use rustix::event::{EventfdFlags, eventfd};

/// What has a descriptor, which is closed only while it is what it was.
#[derive(Debug)]
pub struct Guarded<T: AsFd + IntoRawFd> {
    /// There until the drop.
    inner: Option<T>,
    identity: (u64, u64, u32),
}

/// An eventfd that is written to, and read, only while it is one.
pub type GuardedEvent = Guarded<OwnedFd>;

impl<T: AsFd + IntoRawFd> Guarded<T> {
    /// Of this, as it is now.
    ///
    /// # Errors
    /// When it has no descriptor any more.
    pub fn of(inner: T) -> io::Result<Self> {
        let identity = identity(inner.as_fd()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { inner: Some(inner), identity })
    }

    /// Whether its descriptor is still what it was.
    pub fn is_ours(&self) -> bool {
        identity(self.as_fd()) == Some(self.identity)
    }
}

impl GuardedEvent {
    /// A new one, in which nothing is.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        Self::of(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    }

    /// Makes it readable.
    pub fn set(&self) {
        if self.is_ours() {
            // It fails only when it is full, and then it is readable.
            let _ = rustix::io::write(self, &1_u64.to_ne_bytes());
        }
    }

    /// Takes out what is in it.
    pub fn clear(&self) {
        if self.is_ours() {
            // Nothing may be in it.
            let _ = rustix::io::read(self, &mut [0; 8]);
        }
    }
}

impl<T: AsFd + IntoRawFd> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("it is there until the drop")
    }
}

impl<T: AsFd + IntoRawFd> AsFd for Guarded<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

impl<T: AsFd + IntoRawFd> Drop for Guarded<T> {
    fn drop(&mut self) {
        if !self.is_ours()
            && let Some(inner) = self.inner.take()
        {
            // The number is the program's now.
            let _ = inner.into_raw_fd();
        }
    }
}

fn identity(descriptor: BorrowedFd<'_>) -> Option<(u64, u64, u32)> {
    rustix::fs::fstat(descriptor).ok().map(|found| (found.st_dev, found.st_ino, found.st_mode))
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn a_file_that_has_taken_its_number_is_neither_written_to_nor_closed() {
        let event = GuardedEvent::new().unwrap();
        event.set();
        event.clear();
        let mut file = tempfile::tempfile().unwrap();
        let number = event.as_fd().as_raw_fd();
        let taken = std::fs::File::options().read(true).write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let copy = taken.unwrap();
        // As the program does it: the number is another file's from here on.
        let mut target = event.inner.as_ref().unwrap().try_clone().unwrap();
        rustix::io::dup2(&copy, &mut target).unwrap();
        let stolen = GuardedEvent { inner: Some(target), identity: event.identity };
        let stolen_number = stolen.as_fd().as_raw_fd();
        assert!(event.is_ours() && !stolen.is_ours());
        stolen.set();
        drop(stolen);
        assert!(std::path::Path::new(&format!("/proc/self/fd/{stolen_number}")).exists());
        assert_ne!(number, stolen_number);
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert!(text.is_empty());
    }
}
