//! The small binary, to be copied into images.
//!
//! Built to abort on a panic (the profile `small`), it has no standard library: 48 KB and 140 KiB of private memory
//! rather than 300 KB and 340 KiB, most of which prints backtraces. Built to unwind, which is how tests and lints
//! build everything, it must have it, for unwinding is the library's; the program is the same.

#![cfg_attr(panic = "abort", no_std, no_main)]

#[cfg(panic = "abort")]
unisono_bare::bare_program!(unisono_init::command_line::main);

#[cfg(not(panic = "abort"))]
fn main() -> std::process::ExitCode {
    use std::{ffi::CString, os::unix::ffi::OsStringExt};

    let words = std::env::args_os().map(|word| CString::new(word.into_vec()).expect("the system ends words with zero"));
    unisono_init::command_line::main(words.collect()).into()
}
