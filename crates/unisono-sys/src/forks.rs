//! How often this program has forked: what a fork has inherited must be left as it is, for it may still look at it.
//!
//! Counted by pthread_atfork(3), before a fork and after it, so that a mapping which is made while another thread forks
//! counts as inherited too. Leaves out vfork(2), posix_spawn(3) and clone(2), whose children execute another program.
#![allow(unsafe_code)]

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A moment between two forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    forks: u64,
    process: u32,
}

/// What a fork has made of something that is older than it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// No fork has it.
    Nothing,
    /// A fork may have it as well.
    Forked,
    /// This is such a fork; what it has is a copy, and the original is its parent's.
    InFork,
}

impl Moment {
    /// Now. To be taken before that is made which it is about.
    ///
    /// # Errors
    /// When the system lets nobody watch forks.
    pub fn now() -> io::Result<Self> {
        static WATCHED: OnceLock<i32> = OnceLock::new();
        let error = *WATCHED.get_or_init(|| {
            // SAFETY: the function is one of this program, which is never unloaded: it is a program, or a module of an
            // interpreter, and those stay. It touches a word only.
            unsafe { libc::pthread_atfork(Some(count), Some(count), Some(count)) }
        });
        match error {
            0 => Ok(Self { forks: FORKS.load(Ordering::SeqCst), process: std::process::id() }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether there was a fork since.
    pub fn since(self) -> Since {
        if FORKS.load(Ordering::SeqCst) == self.forks {
            Since::Nothing
        } else if std::process::id() == self.process {
            Since::Forked
        } else {
            Since::InFork
        }
    }
}

unsafe extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}

static FORKS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::{Moment, Since};

    #[test]
    fn a_fork_is_seen_on_both_sides() {
        let moment = Moment::now().unwrap();
        assert_eq!(moment.since(), Since::Nothing);
        // SAFETY: the child only looks at a word and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_seen = moment.since() == Since::InFork;
            // SAFETY: it ends the child at once, without running anything of the parent's.
            unsafe { libc::_exit(i32::from(is_seen)) }
        }
        let mut status = 0;
        // SAFETY: `status` is a live local.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!((libc::WEXITSTATUS(status), moment.since()), (1, Since::Forked));
        assert_eq!(Moment::now().unwrap().since(), Since::Nothing);
    }
}
