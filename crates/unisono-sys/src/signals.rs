//! Signals held back from a thread, so that they go to others and none ends the program on its account.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Holds all signals back from this thread. A write to a pipe that nothing reads is an error then, and no SIGPIPE.
pub fn hold_from_thread() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is filled by the first call before the second reads it; the old mask is not asked for. Both change
    // nothing but this thread's mask, and cannot fail with these arguments (pthread_sigmask(3)).
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}
