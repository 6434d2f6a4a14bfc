//! The words of `unisono each`.

use std::{
    ffi::OsString,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, ValueEnum};
use unisono_core::{Rate, Span};
use unisono_runner::{Halting, Separator, cores};

use crate::args::{InputFormat, OutputArgs, ShowArgs, from_one, from_zero, size};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EachArgs {
    /// The command with its places to fill in, and its items behind `:::`, or files with a line per item behind `::::`
    /// (`-` is standard input); several of them are combined, and those behind `:::+` and `::::+` linked to the ones
    /// before
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<OsString>,
    /// Read items from this file, or from standard input (`-`) [default: standard input, unless there is a `:::`]
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// How --from is written [default: by its extension, else lines]
    #[arg(long, value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// Items end with a NUL and not with a line's end
    #[arg(short = '0', long = "null")]
    pub null: bool,
    /// Part each item into columns `{1} {2}` at this character, or where this regular expression matches
    #[arg(short = 'C', long, value_name = "REGEX|STRING", value_parser = separator)]
    pub colsep: Option<Separator>,
    /// What stands for the item, in place of all other placeholders
    #[arg(short = 'I', long, value_name = "TEXT")]
    pub placeholder: Option<String>,
    /// The command is a script for `sh`; items are quoted in it
    #[arg(long)]
    pub shell: bool,
    /// Places may stand within code, as in `sh -c 'echo {}'`: items are programs, and are run as such
    #[arg(long)]
    pub items_are_code: bool,
    /// Give each command this to read, as `{}` [default: nothing]
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "pipe")]
    pub stdin: Option<OsString>,
    /// Cut the input into blocks, and give each to a command to read
    #[arg(long)]
    pub pipe: bool,
    /// The size of a block of --pipe, in whole lines
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "pipe", conflicts_with = "lines")]
    pub block: Option<u64>,
    /// The number of lines of a block of --pipe
    #[arg(long, value_name = "N", requires = "pipe", value_parser = from_zero::<u64>)]
    pub lines: Option<u64>,
    /// The folder to run in, as `{//}`
    #[arg(long, value_name = "TEMPLATE")]
    pub cwd: Option<OsString>,
    /// A variable for the command's environment, as `NAME={}`
    #[arg(long, value_name = "NAME=TEMPLATE")]
    pub env: Vec<OsString>,
    /// Print the commands, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub limits: EachLimits,
    /// Time between SIGTERM and SIGKILL, for what has to end
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = "Limits, time and retries")]
    pub kill_after: Span,
    /// Exit codes that are a success
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = exit_code,
        default_value = "0",
        help_heading = "Limits, time and retries"
    )]
    pub expect: Vec<i32>,
    /// Repeat only what ended with one of these exit codes
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = exit_code, help_heading = "Limits, time and retries")]
    pub retry_exit: Vec<i32>,
    /// Exit codes that say that the host of --key is away, as 255 of ssh: its commands wait until it is back
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = exit_code,
        requires = "key",
        help_heading = "Limits, time and retries"
    )]
    pub away_exit: Vec<i32>,
    /// Lend the terminal to each command, for programs that ask something: one at a time, in the foreground, with its
    /// output
    #[arg(long, conflicts_with_all = ["line_buffer", "tag", "save", "max_output", "pipe"])]
    pub tty: bool,
    /// Leave processes alone that outlive their command
    #[arg(long, help_heading = "Limits, time and retries")]
    pub leave_running: bool,
    #[command(flatten)]
    pub printed: PrintedArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Outcomes and output in the order of the input
    #[arg(short, long, help_heading = "Results")]
    pub keep_order: bool,
    /// Write outcomes without what commands print
    #[arg(long, help_heading = "Results")]
    pub brief: bool,
    /// Doing an item twice does no harm: --resume runs again what was interrupted, instead of calling it ambiguous
    #[arg(long, help_heading = "Results")]
    pub idempotent: bool,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// How much at once, how often, how long, and how often again.
#[derive(Args)]
#[command(next_help_heading = "Limits, time and retries")]
pub struct EachLimits {
    /// Most commands at once: a number, `50%` of the processors, or `auto` for one each; SIGUSR1 and SIGUSR2 change it
    #[arg(short = 'j', long, value_name = "N", default_value = "auto")]
    pub limit: Jobs,
    /// The key that --per-key and --per-key-rate hold for: this column, by the source with this number, or by a place
    /// such as `{//}`
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
    /// Most commands at once with the same key
    #[arg(long, value_name = "N", requires = "key", default_value = "1", value_parser = from_one::<NonZeroU32>)]
    pub per_key: NonZeroU32,
    /// How long a host that is away (see --away-exit) is waited for
    #[arg(long, value_name = "TIME", requires = "away_exit", default_value = "60s")]
    pub host_away: Span,
    /// While a command is undecided, or waits for its repeat, start no other with the same key
    #[arg(long, requires = "key")]
    pub ordered_by_key: bool,
    /// Most starts with the same key
    #[arg(long, value_name = "RATE", requires = "key")]
    pub per_key_rate: Option<Rate>,
    /// Most starts, as `100/s`, `5000/m` or `100/s burst 20`
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Time between two starts
    #[arg(long, value_name = "TIME", conflicts_with = "rate")]
    pub delay: Option<Span>,
    /// Start nothing while the load of the machine is this or more
    #[arg(long, value_name = "LOAD", value_parser = load)]
    pub load: Option<f64>,
    /// Start nothing while less memory than this is available
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub min_memory: Option<u64>,
    /// Longest time for one attempt
    #[arg(long, value_name = "TIME", default_value = "none")]
    pub timeout: Span,
    /// Longest time for one item with its retries and waits
    #[arg(long, value_name = "TIME", default_value = "none")]
    pub deadline: Span,
    /// Start nothing new after this time
    #[arg(long, value_name = "TIME")]
    pub stop_after: Option<Span>,
    /// How long what runs may take to finish when the run is stopped
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub grace: Span,
    /// Most repeats of a failed attempt
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = from_zero::<u16>)]
    pub retries: u16,
    /// Stop after so many items that did not end well
    #[arg(long, value_name = "N", value_parser = from_zero::<u64>)]
    pub max_failures: Option<u64>,
    /// The first N items must end ok before any other starts
    #[arg(long, value_name = "N", value_parser = from_one::<NonZeroU64>)]
    pub canary: Option<NonZeroU64>,
    /// As --max-failures, in the words of GNU parallel: `soon,fail=1` or `now,fail=1`, which ends what runs as well
    #[arg(long, value_name = "WHEN", conflicts_with = "max_failures")]
    pub halt: Option<HaltWhen>,
}

/// What becomes of what commands print.
#[derive(Args)]
#[command(next_help_heading = "What commands print")]
pub struct PrintedArgs {
    /// Print whole lines as they come, not whole outputs
    #[arg(long)]
    pub line_buffer: bool,
    /// Put the item and a tab before each line
    #[arg(long)]
    pub tag: bool,
    /// Let commands print as they like, to where we print
    #[arg(long, conflicts_with_all = ["line_buffer", "tag", "save", "max_output", "out"])]
    pub ungroup: bool,
    /// Save what each command prints to a file of its own: `out/{#}`, and `out/{#}.stderr`
    #[arg(long, value_name = "TEMPLATE")]
    pub save: Option<OsString>,
    /// End a command that prints more than this to one stream
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_output: Option<u64>,
    /// With which status to end when commands failed
    #[arg(long, value_name = "WHAT", default_value = "summary")]
    pub exit_with: ExitWith,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExitWith {
    /// 1
    Summary,
    /// The largest exit status of a command; 128 and more for signals, 124 for timeouts
    Worst,
}

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jobs(pub NonZeroU32);

impl FromStr for Jobs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let processors = cores().get();
        let count = match text.strip_suffix('%') {
            _ if text == "auto" => Some(processors),
            Some(percent) => {
                percent.parse::<u32>().ok().map(|percent| (processors.saturating_mul(percent) / 100).max(1))
            }
            None => text.parse().ok(),
        };
        let count = count.and_then(NonZeroU32::new);
        count.map(Self).ok_or_else(|| format!("`{text}` is not a number of commands (try `8`, `50%` or `auto`)"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HaltWhen {
    pub halting: Halting,
    pub failures: u64,
}

impl FromStr for HaltWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (when, count) = text.split_once(",fail=")?;
            let halting = match when {
                "soon" => Halting::Soon,
                "now" => Halting::Now,
                _ => return None,
            };
            let failures = count.parse().ok().filter(|failures| *failures > 0)?;
            Some(Self { halting, failures })
        };
        parse().ok_or_else(|| format!("`{text}` does not say when to stop (try `soon,fail=1` or `now,fail=1`)"))
    }
}

fn exit_code(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "expected exit codes, as `0,75`".to_owned())
}

fn load(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a load, as `4` or `7.5`".to_owned())
}

fn separator(text: &str) -> Result<Separator, String> {
    Separator::new(text)
}

const EXAMPLES: &str = "\
Places to fill in:
  {} the item · {.} without extension · {/} without folder · {//} its folder · {/.} neither · {1} {2} of each `:::`
  {name} a column of CSV, TSV or JSONL · {#} number of the item · {%} number of the slot

Examples:
  unisono each -- gzip -9 {} ::: *.log
  unisono each -- ssh {1} systemctl restart {2} :::: hosts.txt ::: web worker
  find . -name '*.png' -print0 | unisono each -0 -- convert {} {.}.jpg
  unisono each --from hosts.csv --key zone -o deploy.jsonl --resume -- ssh {host} ./deploy {version}
  unisono each -j 4 --timeout 10m --retries 2 --retry-exit 75 -- rsync -a {1}/ {2}:/srv/ ::: a b ::: web-1 web-2

Nothing that a command starts outlives it, unless --leave-running is given.

Exit status:
  0 all ok · 1 some item did not end well · 2 usage · 3 stopped by --max-failures or --canary · 124 by --stop-after
  125 our own failure · 130 interrupted · 141 nobody reads the output any more · 143 terminated";
