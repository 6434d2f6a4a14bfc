//! Groups of options: structs that every command flattens, so that a word means the same everywhere.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{ArgAction, Args, ValueEnum};
use unisono_core::{FOR_EVER, Limits, Rate, RetryBudget, RetryPolicy, Span, Times, parse_size, redacted};
use unisono_runner::{
    Destination, Format, Identity, Mode, Named, NoFields, Open, Saving, Settings, Template, http_client::Url,
};

use crate::{
    failure::Failure,
    output,
    terminal::{Terminal, When},
};

/// How much at once, how often, how long, and how often again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits, time and retries")]
pub struct LimitArgs {
    /// Most items in flight [default: 20]
    #[arg(short = 'j', long, value_name = "N", value_parser = from_one::<NonZeroU32>)]
    pub limit: Option<NonZeroU32>,
    /// Most items in flight per host [default: 10, or --limit when only that is given]
    #[arg(long, value_name = "N", value_parser = from_one::<NonZeroU32>)]
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
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = from_zero::<u16>)]
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
    #[arg(long, value_name = "N", value_parser = from_zero::<u64>)]
    pub max_failures: Option<u64>,
    /// The first N items must end ok before any other starts
    #[arg(long, value_name = "N", value_parser = from_one::<NonZeroU64>)]
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

/// A number of things of which there is at least one.
pub fn from_one<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 1 on, as `8`".to_owned())
}

/// A number of things of which there may be none.
pub fn from_zero<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let number: u64 = text.parse().map_err(|_| "expected a whole number from 0 on, as `3`".to_owned())?;
    T::try_from(number).map_err(|_| "it is more than there can be".to_owned())
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
    pub fn output(&self, open: Open) -> Result<Destination, Failure> {
        let Some(path) = &self.out else {
            return output::file().map(Destination::standard);
        };
        Ok(self.output_to(path, open))
    }

    /// As [`OutputArgs::output`], to this file.
    pub fn output_to(&self, path: &Path, open: Open) -> Destination {
        let mode = self.mode();
        let identity = if self.rebind && open.identity == Identity::Row { Identity::Id } else { open.identity };
        let overwrite = self.overwrite && mode == Mode::Fresh;
        let open = Open { mode, overwrite, adopt: self.adopt, identity, ..open };
        Destination::File { path: path.to_owned(), open }
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

/// How a file of rows is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    Lines,
    Csv,
    Tsv,
    Jsonl,
}

impl From<InputFormat> for Format {
    fn from(format: InputFormat) -> Self {
        match format {
            InputFormat::Lines => Self::Lines,
            InputFormat::Csv => Self::Csv,
            InputFormat::Tsv => Self::Tsv,
            InputFormat::Jsonl => Self::Jsonl,
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
    /// No progress and no summary, only errors; given twice (`-qq`), nothing but failures of our own
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,
    /// Show each retry and its reason
    #[arg(short, long)]
    pub verbose: bool,
    /// Colours on standard error
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: When,
}

impl ShowArgs {
    /// Standard error, as it is to be shown.
    pub fn terminal(&self) -> Terminal {
        Terminal::new(self.color, self.quiet > 1)
    }

    /// Whether there is progress and a summary, and not errors alone.
    pub fn is_quiet(&self) -> bool {
        self.quiet > 0
    }
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

/// Reads a template of an address, whose rows would all fail if it began otherwise than addresses do.
pub fn address(text: &str) -> Result<Template, Failure> {
    let template = Template::address(text).map_err(Failure::usage)?;
    // Of one with columns no more is known than how it begins.
    let begins = text
        .split_once("://")
        .filter(|(scheme, _)| !scheme.contains('{'))
        .map(|(scheme, _)| format!("{scheme}://host/"));
    let known = if template.has_fields() { begins } else { template.render(&NoFields, 0).ok() };
    match known.map(|known| Url::parse(&known)) {
        Some(Err(error)) if template.has_fields() => {
            Err(Failure::usage(format!("`{}` cannot be fetched", redacted(text))).hint(error.chain()))
        }
        Some(Err(error)) => Err(Failure::usage(error.chain())),
        _ => Ok(template),
    }
}
