//! The `unisono` command.

mod args;
mod bridge;
mod cli;
mod completions;
mod demo;
mod doctor;
mod each;
mod environment;
mod evaluate;
mod explain;
mod failure;
mod fetch;
mod foreign;
mod init;
mod inside;
mod launch;
mod mistakes;
mod output;
mod progress;
mod python;
mod run;
mod secrets;
mod signals;
mod sum;
mod summary;
mod terminal;
mod waiting;

fn main() -> std::process::ExitCode {
    output::keep_closed();
    cli::run().into()
}
