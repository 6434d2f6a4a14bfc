//! `unisono run`: handed over to Python, whose program is watched.

use std::ffi::OsString;

use clap::Args;

use crate::{failure::Failure, python};

/// What to run.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct RunArgs {
    /// [OPTIONS] SCRIPT [ARGS], or [OPTIONS] -m MODULE [ARGS]; --help lists the options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
    words: Vec<OsString>,
}

/// Becomes Python; returns only if that cannot be.
pub fn run(args: &RunArgs) -> Result<u8, Failure> {
    python::become_python("run", &args.words)
}
