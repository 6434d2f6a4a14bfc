//! Descriptors that a fork of this program does not get: what hangs on their end of file must mean our end, or a
//! peer's.
//!
//! A program in which we are a guest may fork at any time, and the child would hold copies. So the numbers are kept in
//! a list, which is locked while fork(3) runs (pthread_atfork(3)), and in the child each of them comes to stand for
//! /dev/null. They are not closed there: their owners, of which the child has copies as well, will do that, and by then
//! the number must not be that of another descriptor.
//!
//! Leaves out posix_spawn(3), vfork(2) and clone(2), after which a program is executed: close-on-exec serves there.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use rustix::fs::{Mode, OFlags, open};

/// A descriptor that a fork of this program does not get.
#[derive(Debug)]
pub struct Private {
    /// `None` only while it is dropped.
    descriptor: Option<OwnedFd>,
}

impl Private {
    /// What `make` answers; no fork happens between its being made and its being listed, so `make` must not fork.
    ///
    /// # Errors
    /// Those of `make`, and when the system does not let forks be watched.
    pub fn new(make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Self> {
        let mut numbers = watched()?;
        Ok(Self::listed(make()?, &mut numbers))
    }

    /// The same for two that are made together, such as the ends of a pipe.
    ///
    /// # Errors
    /// As [`Private::new`].
    pub fn pair(make: impl FnOnce() -> io::Result<(OwnedFd, OwnedFd)>) -> io::Result<(Self, Self)> {
        let mut numbers = watched()?;
        let (one, other) = make()?;
        Ok((Self::listed(one, &mut numbers), Self::listed(other, &mut numbers)))
    }

    /// Gives the descriptor away; from then on forks inherit it.
    ///
    /// # Panics
    /// Never: it is there until it is dropped.
    pub fn publish(mut self) -> OwnedFd {
        let descriptor = self.descriptor.take().expect("it is there until it is dropped");
        list().remove(&descriptor.as_raw_fd());
        descriptor
    }

    fn listed(descriptor: OwnedFd, numbers: &mut BTreeSet<RawFd>) -> Self {
        numbers.insert(descriptor.as_raw_fd());
        Self { descriptor: Some(descriptor) }
    }
}

impl AsFd for Private {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("it is there until it is dropped").as_fd()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            let mut numbers = list();
            numbers.remove(&descriptor.as_raw_fd());
            // Closed before the list is open again, or its number could be listed by the next one and not be there.
            drop(descriptor);
        }
    }
}

/// Held for a few system calls at a time, none of which waits.
static NUMBERS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
/// What the numbers stand for in a child, or the error with which forks cannot be watched.
static NOTHING: OnceLock<Result<OwnedFd, i32>> = OnceLock::new();

thread_local! {
    /// The list, while this thread forks.
    static FORKING: Cell<Option<MutexGuard<'static, BTreeSet<RawFd>>>> = const { Cell::new(None) };
}

fn list() -> MutexGuard<'static, BTreeSet<RawFd>> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The list, with forks being watched.
fn watched() -> io::Result<MutexGuard<'static, BTreeSet<RawFd>>> {
    let nothing = NOTHING.get_or_init(|| {
        let nothing = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(rustix::io::Errno::raw_os_error)?;
        // SAFETY: the three are functions of this program, which is never unloaded: it is a program, or a module of an
        // interpreter, and those stay.
        match unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) } {
            0 => Ok(nothing),
            error => Err(error),
        }
    });
    match nothing {
        Ok(_) => Ok(list()),
        Err(error) => Err(io::Error::from_raw_os_error(*error)),
    }
}

unsafe extern "C" fn before() {
    // A thread that forks while it ends has no such place any more, and then nothing is held.
    let _ = FORKING.try_with(|forking| forking.set(Some(list())));
}

unsafe extern "C" fn after_in_parent() {
    let _ = FORKING.try_with(Cell::take);
}

unsafe extern "C" fn after_in_child() {
    let held = FORKING.try_with(Cell::take).ok().flatten();
    if let (Some(numbers), Some(Ok(nothing))) = (held, NOTHING.get()) {
        for number in numbers.iter() {
            // SAFETY: each number in the list is that of a descriptor whose owner is alive, since it leaves the list
            // before it is closed; that it now stands for something else is what its owner has asked for.
            unsafe { libc::dup3(nothing.as_raw_fd(), *number, libc::O_CLOEXEC) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::Private;

    /// What a child of ours finds under a descriptor, told by its exit status: whether a byte can be written to it and
    /// is lost.
    fn is_lost_in_a_fork(end: &impl AsFd) -> bool {
        // SAFETY: the child only writes and ends.
        match unsafe { libc::fork() } {
            0 => {
                let lost = rustix::io::write(end, b"x") == Ok(1);
                // SAFETY: it ends the child at once, without running anything of the parent's.
                unsafe { libc::_exit(i32::from(lost)) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` is a live local.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                libc::WEXITSTATUS(status) == 1
            }
        }
    }

    #[test]
    fn a_fork_has_nothing_in_the_place_of_what_is_private_and_the_rest_of_what_is_not() {
        let (reader, writer) = Private::pair(|| Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)).unwrap();
        assert!(is_lost_in_a_fork(&writer));
        let mut bytes = [0; 2];
        assert_eq!(rustix::io::read(&reader, &mut bytes), Err(rustix::io::Errno::AGAIN));
        let writer = writer.publish();
        assert!(is_lost_in_a_fork(&writer));
        assert_eq!(rustix::io::read(&reader, &mut bytes), Ok(1), "given away, it is inherited");
    }

    #[test]
    fn its_number_is_free_again_when_it_is_dropped() {
        let private = Private::new(|| Ok(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?)).unwrap();
        drop(private);
        let (_, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        assert!(!is_lost_in_a_fork(&writer), "nothing reads it any more, which it is told");
    }
}
