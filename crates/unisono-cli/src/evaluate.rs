//! The process that evaluates a run's expressions: this command once more, told so by a word that no help shows.

use std::ffi::OsString;

use unisono_runner::{EvaluatorCommand, serve_expressions};

use crate::failure::Failure;

/// The word.
pub const NAME: &str = "evaluate-expressions";

/// How to start it. The program is the one that runs, even where its file has been replaced meanwhile.
pub fn command() -> EvaluatorCommand {
    let words = ["/proc/self/exe", NAME].map(OsString::from).to_vec();
    EvaluatorCommand { words, environment: Vec::new() }
}

/// Serves until the run is over; returns the exit status.
pub fn run() -> Result<u8, Failure> {
    serve_expressions().map(|()| 0).map_err(|error| {
        Failure::usage(format!("{NAME}: {error}")).hint("runs start this by themselves, see `unisono fetch --select`")
    })
}
