//! Why the system refused: its error number, with its words for people.

#![allow(unsafe_code)]

use core::{ffi::CStr, fmt};

/// An error number of the system. Source: errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemError(i32);

impl SystemError {
    /// No such file or directory.
    pub const NOT_FOUND: Self = Self(libc::ENOENT);
    /// Permission denied.
    pub const NOT_ALLOWED: Self = Self(libc::EACCES);
    /// A component of the path is not a directory.
    pub const NOT_A_DIRECTORY: Self = Self(libc::ENOTDIR);
    /// Not in a format that can be executed.
    pub const NOT_A_PROGRAM: Self = Self(libc::ENOEXEC);
    /// No such process.
    pub const NO_PROCESS: Self = Self(libc::ESRCH);

    /// The error with this number.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// What the last call of this thread left behind.
    pub(crate) fn last() -> Self {
        // SAFETY: the C library returns a pointer to this thread's own error number, which lives as long as the thread.
        Self(unsafe { *libc::__errno_location() })
    }

    /// Turns the -1 of a call into its error.
    pub(crate) fn check(answer: i32) -> Result<i32, Self> {
        if answer == -1 { Err(Self::last()) } else { Ok(answer) }
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 128];
        // SAFETY: the buffer is ours and its length is passed; the XSI function that `libc` names always ends what
        // it writes with a zero byte, also when it answers with an error.
        let words = unsafe {
            libc::strerror_r(self.0, text.as_mut_ptr(), text.len());
            CStr::from_ptr(text.as_ptr())
        };
        f.write_str(words.to_str().unwrap_or("unknown error"))
    }
}

impl core::error::Error for SystemError {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_error_speaks_the_words_of_the_system() {
        assert_eq!(SystemError::NOT_FOUND.to_string(), "No such file or directory");
    }
}
