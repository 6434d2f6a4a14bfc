//! The words of `unisono each`, and what they mean together.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    num::{NonZeroU32, NonZeroU64},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use clap::{Args, ValueEnum};
use unisono_core::{Limits, Rate, RetryPolicy, Span};
use unisono_runner::{
    Format, Grammar, Halting, Items, Named, Pieces, Recipe, Saving, Separator, Settings, Word, commands::Pressure,
    cores, each_settings, refuse_same,
};

use super::printer::Printing;
use crate::{
    args::{InputFormat, OutputArgs, ShowArgs, size, times},
    failure::Failure,
};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EachArgs {
    /// The command with its places to fill in, and its items behind `:::`, or files with a line per item behind `::::`
    /// (`-` is standard input); several of them are combined, and those behind `:::+` and `::::+` linked to the ones
    /// before
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
    /// Read items from this file, or from standard input (`-`) [default: standard input, unless there is a `:::`]
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// How --from is written [default: by its extension, else lines]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<InputFormat>,
    /// Items end with a NUL and not with a line's end
    #[arg(short = '0', long = "null")]
    pub null: bool,
    /// Part each item into columns `{1} {2}` at this character, or where this regular expression matches
    #[arg(short = 'C', long, value_name = "REGEX|STRING", value_parser = separator)]
    colsep: Option<Separator>,
    /// What stands for the item, in place of all other placeholders
    #[arg(short = 'I', long, value_name = "TEXT")]
    placeholder: Option<String>,
    /// The command is a script for `sh`; items are quoted in it
    #[arg(long)]
    shell: bool,
    /// Places may stand within code, as in `sh -c 'echo {}'`: items are programs, and are run as such
    #[arg(long)]
    items_are_code: bool,
    /// Give each command this to read, as `{}` [default: nothing]
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "pipe")]
    stdin: Option<OsString>,
    /// Cut the input into blocks, and give each to a command to read
    #[arg(long)]
    pipe: bool,
    /// The size of a block of --pipe, in whole lines
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "pipe", conflicts_with = "lines")]
    block: Option<u64>,
    /// The number of lines of a block of --pipe
    #[arg(long, value_name = "N", requires = "pipe")]
    lines: Option<u64>,
    /// The folder to run in, as `{//}`
    #[arg(long, value_name = "TEMPLATE")]
    cwd: Option<OsString>,
    /// A variable for the command's environment, as `NAME={}`
    #[arg(long, value_name = "NAME=TEMPLATE")]
    env: Vec<OsString>,
    /// Print the commands, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    limits: EachLimits,
    /// Time between SIGTERM and SIGKILL, for what has to end
    #[arg(long, value_name = "TIME", default_value = "5s", help_heading = "Limits, time and retries")]
    pub kill_after: Span,
    /// Exit codes that are a success
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0",
        help_heading = "Limits, time and retries"
    )]
    expect: Vec<i32>,
    /// Repeat only what ended with one of these exit codes
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Limits, time and retries")]
    pub retry_exit: Vec<i32>,
    /// Exit codes that say that the host of --key is away, as 255 of ssh: its commands wait until it is back
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
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
    printed: PrintedArgs,
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
    idempotent: bool,
    #[command(flatten)]
    pub show: ShowArgs,
}

/// How much at once, how often, how long, and how often again.
#[derive(Args)]
#[command(next_help_heading = "Limits, time and retries")]
struct EachLimits {
    /// Most commands at once: a number, `50%` of the processors, or `auto` for one each; SIGUSR1 and SIGUSR2 change it
    #[arg(short = 'j', long, value_name = "N", default_value = "auto")]
    limit: Jobs,
    /// The key that --per-key and --per-key-rate hold for: this column, by the source with this number, or by a place
    /// such as `{//}`
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Most commands at once with the same key
    #[arg(long, value_name = "N", requires = "key", default_value = "1")]
    per_key: NonZeroU32,
    /// How long a host that is away (see --away-exit) is waited for
    #[arg(long, value_name = "TIME", requires = "away_exit", default_value = "60s")]
    host_away: Span,
    /// While a command is undecided, or waits for its repeat, start no other with the same key
    #[arg(long, requires = "key")]
    ordered_by_key: bool,
    /// Most starts with the same key
    #[arg(long, value_name = "RATE", requires = "key")]
    per_key_rate: Option<Rate>,
    /// Most starts, as `100/s`, `5000/m` or `100/s burst 20`
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Time between two starts
    #[arg(long, value_name = "TIME", conflicts_with = "rate")]
    delay: Option<Span>,
    /// Start nothing while the load of the machine is this or more
    #[arg(long, value_name = "LOAD")]
    load: Option<f64>,
    /// Start nothing while less memory than this is available
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_memory: Option<u64>,
    /// Longest time for one attempt
    #[arg(long, value_name = "TIME", default_value = "none")]
    timeout: Span,
    /// Longest time for one item with its retries and waits
    #[arg(long, value_name = "TIME", default_value = "none")]
    deadline: Span,
    /// Start nothing new after this time
    #[arg(long, value_name = "TIME")]
    stop_after: Option<Span>,
    /// How long what runs may take to finish when the run is stopped
    #[arg(long, value_name = "TIME", default_value = "10s")]
    grace: Span,
    /// Most repeats of a failed attempt
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u16,
    /// Stop after so many items that did not end well
    #[arg(long, value_name = "N")]
    max_failures: Option<u64>,
    /// The first N items must end ok before any other starts
    #[arg(long, value_name = "N")]
    canary: Option<NonZeroU64>,
    /// As --max-failures, in the words of GNU parallel: `soon,fail=1` or `now,fail=1`, which ends what runs as well
    #[arg(long, value_name = "WHEN", conflicts_with = "max_failures")]
    halt: Option<Halt>,
}

/// What becomes of what commands print.
#[derive(Args)]
#[command(next_help_heading = "What commands print")]
struct PrintedArgs {
    /// Print whole lines as they come, not whole outputs
    #[arg(long)]
    line_buffer: bool,
    /// Put the item and a tab before each line
    #[arg(long)]
    tag: bool,
    /// Let commands print as they like, to where we print
    #[arg(long, conflicts_with_all = ["line_buffer", "tag", "save", "max_output", "out"])]
    ungroup: bool,
    /// Save what each command prints to a file of its own: `out/{#}`, and `out/{#}.stderr`
    #[arg(long, value_name = "TEMPLATE")]
    save: Option<OsString>,
    /// End a command that prints more than this to one stream
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_output: Option<u64>,
    /// With which status to end when commands failed
    #[arg(long, value_name = "WHAT", default_value = "summary")]
    exit_with: ExitWith,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExitWith {
    /// 1
    Summary,
    /// The largest exit status of a command; 128 and more for signals, 124 for timeouts
    Worst,
}

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Jobs(NonZeroU32);

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
struct Halt {
    halting: Halting,
    failures: u64,
}

impl FromStr for Halt {
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

/// What the words before and behind `:::` come to.
pub struct Plan {
    pub recipe: Recipe,
    pub sources: Vec<Source>,
    pub separator: Option<Separator>,
}

/// One of the sources that are combined or linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    from: SourceFrom,
    /// It is gone through together with the one before.
    is_linked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SourceFrom {
    /// The words behind a `:::`.
    Words(Vec<Vec<u8>>),
    /// The lines of a file behind a `::::`; of standard input for `-`.
    File(PathBuf),
}

impl Source {
    /// All sources with their items. A file is read whole, since it is gone through once for each item of the sources
    /// before it.
    pub fn items(sources: Vec<Self>, delimiter: u8) -> Result<Vec<Items>, Failure> {
        let mut all: Vec<Items> = Vec::new();
        for Self { from, is_linked } in sources {
            let values = match from {
                SourceFrom::Words(words) => words,
                SourceFrom::File(path) => lines(&path, delimiter)?,
            };
            match all.last_mut().filter(|_| is_linked) {
                Some(last) => last.link(values),
                None => all.push(Items::new(values)),
            }
        }
        Ok(all)
    }

    fn is_standard_input(&self) -> bool {
        self.from == SourceFrom::File("-".into())
    }
}

fn lines(path: &Path, delimiter: u8) -> Result<Vec<Vec<u8>>, Failure> {
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(path)
    };
    let text = text.map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))?;
    let text = if delimiter == b'\n' { unisono_runner::unmarked(&text) } else { &text };
    let text = text.strip_suffix(&[delimiter]).unwrap_or(text);
    let is_empty = text.is_empty();
    Ok(text.split(|byte| *byte == delimiter).filter(|_| !is_empty).map(<[u8]>::to_vec).collect())
}

impl EachArgs {
    pub fn plan(&self) -> Result<Plan, Failure> {
        self.output.check(self.printed.save.is_some())?;
        let (command, sources) = self.split()?;
        if command.is_empty() {
            return Err(Failure::usage("there is no command").hint("as in `unisono each -- gzip {} ::: *.log`"));
        }
        if !sources.is_empty() && (self.from.is_some() || self.pipe) {
            return Err(Failure::usage("items come from `:::` and `::::` or from --from, not from both"));
        }
        if sources.iter().filter(|source| source.is_standard_input()).count() > 1 {
            return Err(Failure::usage("standard input can be read once only (`:::: -` stands there twice)"));
        }
        let format = self.format().unwrap_or_else(|| self.from.as_deref().map_or(Format::Lines, Format::of));
        let has_columns = sources.is_empty() && format != Format::Lines;
        if self.colsep.is_some() && (has_columns || self.pipe) {
            let what =
                if self.pipe { "--pipe gives whole blocks" } else { "this input has columns with names already" };
            return Err(Failure::usage(format!("--colsep parts lines, but {what}")));
        }
        let grammar = Grammar { has_columns, mark: self.placeholder.clone().filter(|mark| !mark.is_empty()) };
        let word = |text: &OsString| grammar.word(text);
        let recipe = Recipe {
            argv: command.iter().map(word).collect(),
            shell: self.shell,
            folder: self.cwd.as_ref().map(word),
            inherited: Arc::default(),
            environment: self.env.iter().map(|text| variable(text, &grammar)).collect::<Result<_, _>>()?,
            without: Vec::new(),
            stdin: self.stdin.as_ref().map(word),
            save: self.save_name(&grammar)?,
            limit_key: self
                .limits
                .key
                .as_ref()
                .map(|key| if key.contains('{') { word(&key.into()) } else { Word::key(key) }),
            keyed_by_place: self.limits.key.as_ref().is_some_and(|key| word(&key.into()).has_places()),
            items_are_code: self.items_are_code,
            passes_items: false,
            guarded_by: None,
            inherit_output: self.printed.ungroup || self.tty,
            reads_terminal: self.tty,
            repeatable: self.idempotent,
        };
        Ok(Plan { recipe, sources, separator: self.colsep.clone() })
    }

    fn save_name(&self, grammar: &Grammar) -> Result<Option<Word>, Failure> {
        let name = self.printed.save.as_ref().map(|text| Recipe::save_name(grammar, text)).transpose();
        name.map_err(|why| Failure::usage(format!("--save: {why}")))
    }

    /// What holds for the files that output goes to, where it does.
    pub fn saving(&self) -> Result<Option<Saving>, Failure> {
        let (_, sources) = self.split()?;
        let files = sources.into_iter().filter_map(|source| match source.from {
            SourceFrom::File(path) => Some(path),
            SourceFrom::Words(_) => None,
        });
        let protected = self.from.clone().into_iter().chain(files).filter(|path| path.as_os_str() != "-").collect();
        Ok(self.printed.save.as_ref().map(|_| self.output.saving(protected)))
    }

    pub fn canary(&self) -> Option<NonZeroU64> {
        self.limits.canary
    }

    /// The command, and the sources of its items.
    fn split(&self) -> Result<(Vec<OsString>, Vec<Source>), Failure> {
        let is_mark = |word: &&OsString| word.as_bytes().starts_with(b":::");
        let end = self.command.iter().position(|word| is_mark(&word)).unwrap_or(self.command.len());
        let (command, mut rest) = self.command.split_at(end);
        let mut sources = Vec::new();
        while let Some((mark, behind)) = rest.split_first() {
            let end = behind.iter().position(|word| is_mark(&word)).unwrap_or(behind.len());
            let (words, following) = behind.split_at(end);
            rest = following;
            let (are_files, is_linked) = match mark.as_bytes() {
                b":::" => (false, false),
                b":::+" => (false, true),
                b"::::" => (true, false),
                b"::::+" => (true, true),
                _ => {
                    let mistake = Failure::usage(format!("`{}` is unknown", mark.to_string_lossy()));
                    return Err(mistake.hint(
                        "items follow `:::`, and files of items `::::` (with a `+` they are linked to the source before); \
                         items that begin so are read with --from or from standard input",
                    ));
                }
            };
            if is_linked && sources.is_empty() {
                let what = mark.to_string_lossy();
                return Err(Failure::usage(format!("`{what}` links items to a source before it, and there is none")));
            }
            let source = |from| Source { from, is_linked };
            match are_files && !words.is_empty() {
                // As with GNU parallel, each file is a source of its own.
                true => sources.extend(words.iter().map(|word| source(SourceFrom::File(word.into())))),
                // No files, no items: standard input is not read in their place.
                false => {
                    let words = words.iter().map(|word| word.as_bytes().to_vec());
                    sources.push(source(SourceFrom::Words(words.collect())));
                }
            }
        }
        Ok((command.to_vec(), sources))
    }

    /// What is read must not be what is written.
    pub fn refuse_own_input(&self, plan: &Plan) -> Result<(), Failure> {
        let from = self.from.as_deref().or_else(|| plan.sources.is_empty().then_some(Path::new("-")));
        let mut reads: Vec<Named> = from.map(|path| Named::input("--from", path)).into_iter().collect();
        reads.extend(plan.sources.iter().filter_map(|source| match &source.from {
            SourceFrom::File(path) => Some(Named::input("::::", path)),
            SourceFrom::Words(_) => None,
        }));
        let mut writes = self.output.written();
        if self.output.out.is_some() {
            // Commands print as well.
            writes.push(Named::output());
        }
        if let Some(path) = plan.recipe.save.as_ref().and_then(Word::constant) {
            writes.push(Named::new("--save", OsStr::from_bytes(&path)));
            writes.push(Named::new("--save", OsStr::from_bytes(&[&path[..], b".stderr"].concat())));
        }
        Ok(refuse_same(&reads, &writes)?)
    }

    pub fn format(&self) -> Option<Format> {
        self.input_format.map(Format::from)
    }

    pub fn pieces(&self) -> Result<Option<Pieces>, Failure> {
        match (self.lines, self.block) {
            _ if !self.pipe => Ok(None),
            (Some(0), _) | (_, Some(0)) => Err(Failure::usage("a block of --pipe cannot be empty")),
            (Some(lines), _) => Ok(Some(Pieces::Lines(lines))),
            (None, size) => Ok(Some(Pieces::Bytes(size.unwrap_or(1 << 20)))),
        }
    }

    pub fn settings(&self) -> Result<Settings, Failure> {
        let args = &self.limits;
        let per_key = args.key.as_ref().map(|_| args.per_key);
        let limit = if self.tty { NonZeroU32::MIN } else { args.limit.0 };
        let mut limits = Limits::new(Some(limit), per_key);
        let delayed = args.delay.and_then(|delay| delay.0).filter(|delay| !delay.is_zero());
        let spaced = delayed.map(|delay| Rate::new(NonZeroU32::MIN, delay).ok_or(()));
        let spaced = spaced.transpose().map_err(|()| Failure::usage("--delay is too short to be kept"))?;
        limits.rate = args.rate.or(spaced);
        limits.per_key_rate = args.per_key_rate;
        let times = times(args.timeout, args.deadline, args.stop_after, args.grace);
        let host_away = Some(args.host_away.0.unwrap_or(unisono_core::FOR_EVER));
        let retry = RetryPolicy { repeats: args.retries, ..each_settings().retry }.waiting(host_away);
        Ok(Settings { limits, times, retry, ordered_by_key: args.ordered_by_key })
    }

    pub fn max_failures(&self) -> Option<u64> {
        self.limits.halt.map(|halt| halt.failures).or(self.limits.max_failures)
    }

    pub fn halting(&self) -> Halting {
        self.limits.halt.map(|halt| halt.halting).unwrap_or_default()
    }

    pub fn pressure(&self) -> Option<Pressure> {
        let pressure = Pressure { most_load: self.limits.load, least_memory: self.limits.min_memory };
        (pressure != Pressure::default()).then_some(pressure)
    }

    pub fn printing(&self) -> Printing {
        match (self.printed.ungroup || self.tty, self.printed.line_buffer) {
            (true, _) => Printing::Inherited,
            (_, true) => Printing::Lines { tag: self.printed.tag },
            _ => Printing::Grouped { tag: self.printed.tag },
        }
    }

    pub fn max_output(&self) -> Option<u64> {
        self.printed.max_output
    }

    pub fn expected(&self) -> &[i32] {
        &self.expect
    }

    pub fn exits_with_worst(&self) -> bool {
        self.printed.exit_with == ExitWith::Worst
    }
}

fn variable(text: &OsStr, grammar: &Grammar) -> Result<(OsString, Word), Failure> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
    let at = at.ok_or_else(|| Failure::usage(format!("--env: `{}` is not NAME=VALUE", text.to_string_lossy())))?;
    let value = OsStr::from_bytes(&bytes[at + 1..]).to_owned();
    Ok((OsStr::from_bytes(&bytes[..at]).to_owned(), grammar.word(&value)))
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
