//! The words of the command line.
//!
//! Groups of options are structs that every command flattens, so that a word means the same everywhere.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use unisono_core::{FOR_EVER, Limits, Rate, RetryBudget, RetryPolicy, Span, Times, parse_size, printable};
use unisono_runner::{Identity, Mode, Named, Open, Output, Saving, Settings};

use crate::{
    failure::Failure,
    output,
    terminal::{self, When},
};

/// Run many independent pieces of work at once, with every outcome accounted for.
#[derive(Parser)]
#[command(name = "unisono", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
// Of an option that takes one value the last counts, so that an alias or a script's own can be overridden.
#[command(args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Call many URLs, write one line of JSON per outcome
    Fetch(Box<crate::fetch::FetchArgs>),
    /// Digest many files, or check them against manifests
    Sum(Box<crate::sum::SumArgs>),
    /// Be the first process of a container: forward signals, reap orphans, end when all is over
    Init(crate::init::InitArgs),
    /// Run a command per item, and leave nothing of it behind
    Each(Box<crate::each::EachArgs>),
    /// Measure a Python function on samples, and say which of coroutines, threads and processes make it faster
    Explain(crate::explain::ExplainArgs),
    /// See it work: 5,000 calls of a bad API, killed half way, resumed, and proven
    Demo(crate::demo::DemoArgs),
    /// Evaluate expressions for the run that has started this process; nothing for people
    #[command(hide = true, name = crate::evaluate::NAME)]
    Evaluate,
    /// Print shell completions, or the man page
    Completions {
        /// For which shell; `man` is the man page
        target: crate::completions::Target,
    },
}

/// Runs the command; returns its exit status.
pub fn run() -> u8 {
    // Before anything else, and only here, since every other command lives with its signals as they come.
    let signals = crate::init::is_meant().then(unisono_init::HeldSignals::hold);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            return said(&error).unwrap_or_else(|failure| failure.report());
        }
    };
    // The first process of a container writes no files, and has its own way with signals.
    let is_init = matches!(cli.command, Command::Init(_));
    let result = if is_init { Ok(()) } else { crate::signals::survive_large_files() };
    let result = result.and_then(|()| match cli.command {
        Command::Fetch(args) => crate::fetch::run(*args),
        Command::Sum(args) => crate::sum::run(*args),
        Command::Init(args) => crate::init::run(args, signals),
        Command::Each(args) => crate::each::run(*args),
        Command::Explain(args) => crate::explain::run(args),
        Command::Demo(args) => crate::demo::run(args),
        Command::Evaluate => crate::evaluate::run(),
        Command::Completions { target } => crate::completions::print(target),
    });
    result.unwrap_or_else(|failure| failure.report())
}

/// Prints what the parser has to say: help to standard output, an error to standard error. Returns the exit status.
fn said(error: &clap::Error) -> Result<u8, Failure> {
    let text = error.render();
    if !error.use_stderr() {
        let mut out = output::Output::open()?;
        let is_plain = !out.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let text = if is_plain { text.to_string() } else { text.ansi().to_string() };
        return output::ended(out.own(&text).and_then(|()| out.flush()));
    }
    // It repeats words of the command line, which may be anything.
    let plain = text.to_string();
    let safe = plain.split('\n').map(printable).collect::<Vec<_>>().join("\n");
    let is_styled = safe == plain && terminal::is_coloured();
    terminal::print(&if is_styled { text.ansi().to_string() } else { safe });
    Ok(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

/// How much at once, how often, how long, and how often again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits, time and retries")]
pub struct LimitArgs {
    /// Most items in flight [default: 20]
    #[arg(short = 'j', long, value_name = "N")]
    pub limit: Option<NonZeroU32>,
    /// Most items in flight per host [default: 10, or --limit when only that is given]
    #[arg(long, value_name = "N")]
    pub per_host: Option<NonZeroU32>,
    /// Most starts over all hosts, as `100/s`, `5000/m` or `100/s burst 20`
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Most starts per host
    #[arg(long, value_name = "RATE")]
    pub per_host_rate: Option<Rate>,
    /// Longest time for one attempt, or `none`
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub timeout: Span,
    /// Longest time for one item with its retries and waits, or `none`
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub deadline: Span,
    /// Start nothing new after this time
    #[arg(long, value_name = "TIME")]
    pub stop_after: Option<Span>,
    /// How long what runs may take to finish when the run is stopped
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub grace: Span,
    /// Most repeats of a failed attempt
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub retries: u16,
    /// Repeats that the rows of a host have on credit together, beside one for five rows, or `none` for no such bound
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse_budget)]
    pub retry_budget: Budget,
    /// How long a host that is away is waited for; 0 for not at all [default: 60s, or 0 with --retries 0]
    #[arg(long, value_name = "TIME")]
    pub host_away: Option<Span>,
    /// Longest wait that a server may ask for
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub max_wait: Span,
    /// Stop after so many items that did not end well
    #[arg(long, value_name = "N")]
    pub max_failures: Option<u64>,
    /// The first N items must end ok before any other starts
    #[arg(long, value_name = "N")]
    pub canary: Option<NonZeroU64>,
}

impl LimitArgs {
    pub fn settings(&self) -> Settings {
        let mut limits = Limits::new(self.limit, self.per_host);
        limits.rate = self.rate;
        limits.per_key_rate = self.per_host_rate;
        let times = times(self.timeout, self.deadline, self.stop_after, self.grace);
        let retry = RetryPolicy {
            repeats: self.retries,
            max_wait: self.max_wait.0.unwrap_or(FOR_EVER),
            budget: self.retry_budget.0,
            ..RetryPolicy::default()
        };
        let host_away = self.host_away.map(|span| span.0.unwrap_or(FOR_EVER));
        Settings { limits, times, retry: retry.waiting(host_away), ordered_by_key: false }
    }
}

/// A retry budget, or none.
#[derive(Debug, Clone, Copy)]
pub struct Budget(Option<RetryBudget>);

fn parse_budget(text: &str) -> Result<Budget, String> {
    match text {
        "none" => Ok(Budget(None)),
        _ => match text.parse() {
            Ok(reserve) => Ok(Budget(Some(RetryBudget { reserve, ..RetryBudget::default() }))),
            Err(_) => Err("expected a number of repeats, or `none`".to_owned()),
        },
    }
}

/// How long an attempt, an item, the whole, and the end of what runs may take.
pub fn times(timeout: Span, deadline: Span, stop_after: Option<Span>, grace: Span) -> Times {
    Times {
        timeout: timeout.0,
        deadline: deadline.0,
        stop_after: stop_after.and_then(|span| span.0),
        grace: grace.0.unwrap_or(FOR_EVER),
        ..Times::default()
    }
}

/// Where outcomes go, and what to do with those of an earlier run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub struct OutputArgs {
    /// Write outcomes to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Go on with the results in --out; begin them if there are none
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// As --resume, and run again what failed or timed out
    #[arg(long, requires = "out")]
    pub retry_failed: bool,
    /// As --retry-failed, and run again what may have taken effect
    #[arg(long, requires = "out")]
    pub retry_ambiguous: bool,
    /// As --resume, of a copy of results whose run has not ended: what has no line and must not be repeated is
    /// `ambiguous`
    #[arg(long, requires = "out")]
    pub adopt: bool,
    /// As --resume, with another input: rows are known again by their ids, wherever they stand. One that has its
    /// outcome must ask for what it asked for. Commands and files are known by what they are in any case
    #[arg(long, requires = "out")]
    pub rebind: bool,
    /// Replace what is in --out, and files that --save finds in its way; with --resume and its like the latter alone
    #[arg(long)]
    pub overwrite: bool,
}

impl OutputArgs {
    /// Refuses words that make no sense together; `saves` says that items write to files of their own.
    pub fn check(&self, saves: bool) -> Result<(), Failure> {
        match (self.overwrite, &self.out, self.mode()) {
            (false, ..) => Ok(()),
            _ if saves => Ok(()),
            (true, None, _) => Err(Failure::usage("--overwrite says what to do with --out, which is not given")
                .hint("add --out FILE, or leave --overwrite out")),
            (true, Some(_), Mode::Fresh) => Ok(()),
            (true, Some(_), _) => {
                Err(Failure::usage("--overwrite begins anew, and --resume goes on: not both")
                    .hint("leave one of them out"))
            }
        }
    }

    /// What holds for files that items write to; `protected` are those that the run reads.
    pub fn saving(&self, protected: Vec<PathBuf>) -> Saving {
        Saving { overwrite: self.overwrite, protected, spool: std::env::temp_dir() }
    }

    /// Where outcomes are written; `open` says what is special about these.
    pub fn output(&self, open: Open) -> Result<Output, Failure> {
        let Some(path) = &self.out else {
            return output::file().map(Output::standard);
        };
        Ok(self.output_to(path, open))
    }

    /// As [`OutputArgs::output`], to this file.
    pub fn output_to(&self, path: &Path, open: Open) -> Output {
        let mode = self.mode();
        let identity = if self.rebind && open.identity == Identity::Row { Identity::Id } else { open.identity };
        let overwrite = self.overwrite && mode == Mode::Fresh;
        let open = Open { mode, overwrite, adopt: self.adopt, identity, ..open };
        Output::File { path: path.to_owned(), open }
    }

    /// What is written: the results, or standard output.
    pub fn written(&self) -> Vec<Named> {
        self.out.as_deref().map_or_else(|| vec![Named::output()], |path| Named::results("--out", path))
    }

    fn mode(&self) -> Mode {
        match (self.retry_ambiguous, self.retry_failed, self.resume || self.adopt || self.rebind) {
            (true, _, _) => Mode::RetryFailed { ambiguous: true },
            (false, true, _) => Mode::RetryFailed { ambiguous: false },
            (false, false, true) => Mode::Resume,
            (false, false, false) => Mode::Fresh,
        }
    }
}

/// What is shown while it runs and at the end.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is shown")]
pub struct ShowArgs {
    /// How to show progress on standard error
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: ProgressMode,
    /// No progress and no summary, only errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show each retry and its reason
    #[arg(short, long)]
    pub verbose: bool,
    /// Colours on standard error
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, a line now and then elsewhere
    Auto,
    /// One line that is rewritten
    Bar,
    /// A line every five seconds
    Plain,
    /// A JSON object every second
    Json,
    /// None
    None,
}

/// Reads a size in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.to_string())
}

/// Reads a template of an address.
pub fn address(text: &str) -> Result<unisono_runner::Template, Failure> {
    unisono_runner::Template::address(text).map_err(Failure::usage)
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
