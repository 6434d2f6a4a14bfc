//! What a program needs that does without the standard library: an entry, memory, words, and standard error.
//!
//! [`bare_program!`](crate::bare_program) is for the root of a binary with `#![no_std]` and `#![no_main]`. The
//! functions work everywhere, so that a library can be used by such a program and by a usual one.

#![allow(unsafe_code)]

use alloc::{borrow::ToOwned, ffi::CString, vec::Vec};
use core::{
    alloc::{GlobalAlloc, Layout},
    ffi::{CStr, c_char, c_int},
    fmt::{self, Write},
    panic::PanicInfo,
};

/// Makes a binary of a function that takes the words of the command line and returns the exit status.
#[macro_export]
macro_rules! bare_program {
    ($run:path) => {
        #[global_allocator]
        static MEMORY: $crate::program::Memory = $crate::program::Memory;

        #[panic_handler]
        fn panicked(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::program::panicked(info)
        }

        // The `alloc` crate comes compiled for unwinding and names these two, though nothing here ever unwinds: a panic
        // ends in `panicked`.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}
        #[cfg(not(all(target_feature = "crt-static", target_env = "gnu")))]
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::program::end(125)
        }

        /// Called by the start-up code of the C library, by this name.
        #[unsafe(no_mangle)]
        extern "C" fn main(count: ::core::ffi::c_int, words: *const *const ::core::ffi::c_char) -> ::core::ffi::c_int {
            // SAFETY: the two arguments of C's main, as they came.
            let words = unsafe { $crate::program::words(count, words) };
            $run(words).into()
        }
    };
}

/// The C library's own allocator.
pub struct Memory;

// SAFETY: malloc and its kin answer memory that is aligned for every fundamental type, which is as much as `MALLOC`
// below; for more there is aligned_alloc, whose memory free and realloc take as well. None of them unwinds.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MALLOC {
            // SAFETY: any size may be asked for.
            unsafe { libc::malloc(layout.size()).cast() }
        } else {
            // SAFETY: a layout's alignment is a power of two, and its padded size a multiple of it.
            unsafe { libc::aligned_alloc(layout.align(), layout.pad_to_align().size()).cast() }
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller promises that `memory` came from `alloc` and is not used again.
        unsafe { libc::free(memory.cast()) }
    }
}

/// The words of the command line.
///
/// # Safety
/// `count` and `words` are what C's `main` was given: so many pointers to strings that do not change.
pub unsafe fn words(count: c_int, words: *const *const c_char) -> Vec<CString> {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as the caller promises.
    (0..count).map(|at| unsafe { CStr::from_ptr(*words.add(at)) }.to_owned()).collect()
}

/// A variable of the environment, if it is set.
pub fn variable(name: &CStr) -> Option<Vec<u8>> {
    // SAFETY: the name ends with a zero byte; what is answered is copied before anything could change it, which
    // nothing in a program with one thread does.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes().to_vec())
    }
}

/// Whether a path leads to something. Source: access(2).
pub fn exists(path: &CStr) -> bool {
    // SAFETY: the path ends with a zero byte.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

/// Writes a text to standard output (1) or standard error (2), whole unless it breaks; its reader cannot be told.
pub fn print(file: StandardStream, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        // SAFETY: the kernel reads at most `rest.len()` bytes of ours.
        let written = unsafe { libc::write(file as c_int, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => rest = &rest[written..],
            _ => return,
        }
    }
}

/// Where [`print`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// Standard output.
    Standard = 1,
    /// Standard error.
    Error = 2,
}

/// Says on standard error where the program panicked, and ends the process with 125.
///
/// Not why: what formats the reasons of all panics is a tenth of a small program.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    struct Errors;
    impl fmt::Write for Errors {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            print(StandardStream::Error, text);
            Ok(())
        }
    }
    let _ = match info.location() {
        Some(place) => writeln!(Errors, "internal error at {}:{}", place.file(), place.line()),
        None => writeln!(Errors, "internal error"),
    };
    end(125)
}

/// Ends the process at once.
pub fn end(code: c_int) -> ! {
    // SAFETY: nothing of the process is used again, and nothing runs that could find it half done.
    unsafe { libc::_exit(code) }
}

/// What malloc aligns to: `max_align_t`.
const MALLOC: usize = align_of::<libc::max_align_t>();

// A program without the standard library must say itself that it wants the C library; with it, this says nothing new.
// glibc itself wants the unwinder of GCC when it is static; musl has none.
#[cfg_attr(
    all(target_feature = "crt-static", target_env = "gnu"),
    link(name = "gcc_eh", kind = "static", modifiers = "-bundle")
)]
#[cfg_attr(
    all(target_feature = "crt-static", target_env = "gnu"),
    link(name = "gcc", kind = "static", modifiers = "-bundle")
)]
#[cfg_attr(target_feature = "crt-static", link(name = "c", kind = "static", modifiers = "-bundle"))]
#[cfg_attr(not(target_feature = "crt-static"), link(name = "c"))]
unsafe extern "C" {}
