//! Signals as they arrive, with who sent them: for a process of one thread that passes them on.
//!
//! The signals are blocked and read from a descriptor, see signalfd(2). What the terminal sends to a whole group can so be
//! told from what another process sends to this one alone.
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

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
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn wait(&self) -> io::Result<Arrival> {
        let mut info = mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = mem::size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the descriptor is owned by `self`, and the kernel writes at most `size` bytes, the size of `info`.
            let read = unsafe { libc::read(self.descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            match usize::try_from(read) {
                Ok(read) if read == size => break,
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        // SAFETY: it was zeroed, which is a valid value of this struct of integers, and then filled by the kernel.
        let info = unsafe { info.assume_init() };
        // See sigaction(2): values up to 0 come from processes, `SI_KERNEL` and `CLD_EXITED` and the like from the kernel.
        Ok(Arrival { signal: info.ssi_signo.cast_signed(), by_process: info.ssi_code <= 0 })
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
