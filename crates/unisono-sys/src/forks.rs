//! The one place that notices a fork: how often this program has forked, and how many forks it is away from its first
//! process. What a fork has inherited must be left as it is, for it may still look at it.
//!
//! Noticed by pthread_atfork(3), before a fork and after it, so that a mapping which is made while another thread forks
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
    generation: u64,
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
    /// When the system lets nothing watch forks.
    pub fn now() -> io::Result<Self> {
        // The generation first: a fork that comes between the two is in the count, and not taken for none.
        let generation = generation()?;
        Ok(Self { forks: FORKS.load(Ordering::SeqCst), generation })
    }

    /// Whether there was a fork since.
    pub fn since(self) -> Since {
        if FORKS.load(Ordering::SeqCst) == self.forks {
            Since::Nothing
        } else if GENERATION.load(Ordering::SeqCst) == self.generation {
            Since::Forked
        } else {
            Since::InFork
        }
    }
}

/// How many forks lie between this process and the one that asked first: a child has one more than its parent.
///
/// # Errors
/// When the system lets nothing watch forks.
pub fn generation() -> io::Result<u64> {
    static WATCHED: OnceLock<i32> = OnceLock::new();
    let error = *WATCHED.get_or_init(|| {
        // SAFETY: the functions are of this program, which is never unloaded: it is a program, or a module of an
        // interpreter, and those stay. They touch two words only.
        unsafe { libc::pthread_atfork(Some(count), Some(count), Some(count_in_child)) }
    });
    match error {
        0 => Ok(GENERATION.load(Ordering::SeqCst)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

unsafe extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn count_in_child() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
    FORKS.fetch_add(1, Ordering::SeqCst);
}

static FORKS: AtomicU64 = AtomicU64::new(0);
static GENERATION: AtomicU64 = AtomicU64::new(0);

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
