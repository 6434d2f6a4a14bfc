//! What the system says of itself: whether its clock is kept right, and which C library there is.
#![allow(unsafe_code)]

use std::{ffi::CStr, io};

/// Whether the kernel's clock is kept right by something (NTP, a hypervisor); adjtimex(2).
///
/// # Errors
/// When the kernel does not say, as under some sandboxes.
pub fn is_clock_synchronised() -> io::Result<bool> {
    // SAFETY: all zeros is a `timex`, and without modes the call only reads the clock and writes into it.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    match state {
        -1 => Err(io::Error::last_os_error()),
        state => Ok(state != libc::TIME_ERROR),
    }
}

/// The version of glibc that this process runs with; None with another C library.
#[cfg(target_env = "gnu")]
pub fn glibc_version() -> Option<String> {
    // SAFETY: gnu_get_libc_version(3) returns a string that ends with a zero byte and is never changed.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    version.to_str().ok().map(str::to_owned)
}

/// The version of glibc that this process runs with; None with another C library.
#[cfg(not(target_env = "gnu"))]
pub fn glibc_version() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_env = "gnu")]
    fn glibc_says_its_version_in_two_numbers() {
        let version = glibc_version().unwrap();
        assert!(version.split('.').take(2).all(|number| number.parse::<u32>().is_ok()), "{version}");
    }

    #[test]
    fn the_clock_is_kept_right_or_not() {
        let _ = is_clock_synchronised().unwrap();
    }
}
