//! Signals as they arrive, with what sent them: for a process of one thread that passes them on.
//!
//! The signals are blocked and read from a descriptor, see signalfd(2). What the terminal sends to a whole group can so
//! be told from what another process sends to this one alone.
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Signals that wait for this process.
#[derive(Debug)]
pub struct Arrivals {
    descriptor: OwnedFd,
}

/// One signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number.
    pub signal: i32,
    /// Whether a process sent it; otherwise the kernel did, for the terminal or for a child.
    pub by_process: bool,
}

impl Arrivals {
    /// Blocks these signals in the calling thread and takes them in from now on. To be called before there is any
    /// other thread, which would not have them blocked.
    ///
    /// # Errors
    /// When a number is no signal, or there are no descriptors left.
    pub fn of(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals)?;
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is a whole set that lives during the call, which keeps nothing of it.
        let descriptor = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nothing else refers to it.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Waits until some are there, and takes in all that are: the lower number first, as the kernel keeps them.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn wait(&self) -> io::Result<Vec<Arrival>> {
        let mut infos = [const { mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed() }; AT_ONCE];
        let size = mem::size_of::<libc::signalfd_siginfo>();
        let count = loop {
            // SAFETY: the descriptor is owned by `self`, and the kernel writes at most the size of `infos`.
            let read = unsafe { libc::read(self.descriptor.as_raw_fd(), infos.as_mut_ptr().cast(), size * AT_ONCE) };
            match usize::try_from(read) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Only whole ones are given.
                Ok(read) => break read / size,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        let arrivals = infos.iter().take(count).map(|info| {
            // SAFETY: it was zeroed, which is a valid value of this struct of integers, and then filled by the kernel.
            let info = unsafe { info.assume_init_ref() };
            // See sigaction(2): values up to 0 come from processes, `SI_KERNEL` and `CLD_EXITED` and the like from the
            // kernel.
            Arrival { signal: info.ssi_signo.cast_signed(), by_process: info.ssi_code <= 0 }
        });
        Ok(arrivals.collect())
    }

    /// Takes in those that are there, if any.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn waiting(&self) -> io::Result<Vec<Arrival>> {
        match poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&Timespec::default()))? {
            0 => Ok(Vec::new()),
            _ => self.wait(),
        }
    }
}

/// Lets these signals through again, in a process whose parent had them blocked when it started it.
///
/// # Errors
/// When a number is no signal.
pub fn unblock(signals: &[i32]) -> io::Result<()> {
    mask(libc::SIG_UNBLOCK, &set_of(signals)?)
}

fn mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is borrowed for the call, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is a live local, made whole by `sigemptyset` before anything else looks at it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            if libc::sigaddset(set.as_mut_ptr(), *signal) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(set.assume_init())
    }
}

/// More than there are kinds of signals that a caller asks for: each waits once.
const AT_ONCE: usize = 16;
