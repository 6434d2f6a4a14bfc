//! The command line as a whole: its commands, and what it prints where none of them runs.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{
    completions, demo, doctor, each, evaluate, explain, failure::Failure, fetch, init, inside, mistakes, output, run,
    signals, sum, terminal,
};

/// Run many independent pieces of work at once, with every outcome accounted for.
#[derive(Parser)]
#[command(name = "unisono", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
// Of an option that takes one value the last counts, so that an alias or a script's own can be overridden.
#[command(args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: CliCommand,
}

#[derive(Subcommand)]
pub enum CliCommand {
    /// Call many URLs, write one line of JSON per outcome
    Fetch(Box<fetch::FetchArgs>),
    /// Digest many files, or check them against manifests
    Sum(Box<sum::SumArgs>),
    /// Be the first process of a container: forward signals, reap orphans, end when all is over
    Init(init::InitArgs),
    /// Run a command per item, and leave nothing of it behind
    Each(Box<each::EachArgs>),
    /// Measure a Python function on samples, and say which of coroutines, threads and processes make it faster
    Explain(explain::ExplainArgs),
    /// See it work: 5,000 calls of a bad API, killed half way, resumed, and proven
    Demo(demo::DemoArgs),
    /// Say what will limit a run here: descriptors, processes, memory, names, clock, proxies, certificates
    Doctor(doctor::DoctorArgs),
    /// Run a program of Python as it is, and watch its event loops
    Run(run::RunArgs),
    /// List the programs of Python that are watched, with how their event loops are
    Ps(inside::PsArgs),
    /// Say where the threads of a watched program stand, also while Python hangs
    Dump(inside::DumpArgs),
    /// Say at which lines a watched program is most of the time
    Top(inside::TopArgs),
    /// Evaluate expressions for the run that has started this process; nothing for people
    #[command(hide = true, name = evaluate::NAME)]
    Evaluate,
    /// Print shell completions, or the man pages
    Completions {
        /// For which shell; `man` is the man page
        target: completions::CompletionFormat,
        /// With `man`: write a page per command into this folder, which is made if it is not there
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

/// Runs the command; returns its exit status.
pub fn run() -> u8 {
    // Before anything else, and only here, since every other command lives with its signals as they come.
    let signals = init::is_meant().then(unisono_init::HeldSignals::hold);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return said(&error).unwrap_or_else(|failure| failure.report()),
    };
    // The first process of a container writes no files, and has its own way with signals.
    let is_init = matches!(cli.command, CliCommand::Init(_));
    let result = if is_init { Ok(()) } else { signals::survive_large_files() };
    let result = result.and_then(|()| match cli.command {
        CliCommand::Fetch(args) => fetch::run(*args),
        CliCommand::Sum(args) => sum::run(*args),
        CliCommand::Init(args) => init::run(args, signals),
        CliCommand::Each(args) => each::run(*args),
        CliCommand::Explain(args) => explain::run(&args),
        CliCommand::Demo(args) => demo::run(args),
        CliCommand::Doctor(args) => doctor::run(&args),
        CliCommand::Run(args) => run::run(&args),
        CliCommand::Ps(args) => inside::ps(&args),
        CliCommand::Dump(args) => inside::dump(&args),
        CliCommand::Top(args) => inside::top(&args),
        CliCommand::Evaluate => evaluate::run(),
        CliCommand::Completions { target, folder } => completions::print(target, folder.as_deref(), Cli::command()),
    });
    result.unwrap_or_else(|failure| failure.report())
}

/// Prints what the parser has to say that is no error: help, to where it was asked for. Returns the exit status.
///
/// # Errors
/// What it has refused.
fn said(error: &clap::Error) -> Result<u8, Failure> {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let mut out = output::StandardOutput::open()?;
            let is_plain = !out.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let text = if is_plain { text.to_string() } else { text.ansi().to_string() };
            output::ended(out.own(&text).and_then(|()| out.flush()))
        }
        // Without a command nothing was asked for.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            terminal::print(&if terminal::is_coloured() { text.ansi().to_string() } else { text.to_string() });
            Ok(USAGE)
        }
        _ => Err(mistakes::explained(error, &std::env::args_os().collect::<Vec<_>>(), &Cli::command())),
    }
}

const USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use clap::{ArgAction, CommandFactory, Parser, error::ErrorKind};

    use super::Cli;

    #[test]
    fn of_every_option_of_every_command_the_last_counts() {
        let mut cli = Cli::command();
        cli.build();
        let mut tried = 0;
        for command in cli.get_subcommands() {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let Some(long) = arg.get_long() else { continue };
                if matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::Version) {
                    continue;
                }
                let value =
                    arg.get_possible_values().first().map_or("1".to_owned(), |value| value.get_name().to_owned());
                let word = match arg.get_action().takes_values() {
                    true => format!("--{long}={value}"),
                    false => format!("--{long}"),
                };
                let words = ["unisono", command.get_name(), &word, &word];
                // Its value may be a wrong one, and something else may be missing.
                if let Err(error) = Cli::try_parse_from(words) {
                    assert_ne!(error.kind(), ErrorKind::ArgumentConflict, "{words:?}: {error}");
                }
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
    }
}
