//! `unisono explain`: handed over to Python.

use std::ffi::OsString;

use clap::Args;

use crate::{failure::Failure, python};

/// What to explain.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct ExplainArgs {
    /// MODULE:FUNCTION --items FILE, and options; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
    words: Vec<OsString>,
}

/// Becomes Python; returns only if that cannot be.
pub fn run(args: &ExplainArgs) -> Result<u8, Failure> {
    python::become_python("explain", &args.words)
}
