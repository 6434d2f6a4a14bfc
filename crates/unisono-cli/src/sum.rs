//! `unisono sum`: digests of trees, and their verification.

use std::{
    cell::RefCell,
    fs::File,
    io,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, TryRecvError, channel},
    },
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::sync::mpsc;
use unisono_core::{CancelReason, ErrorKind, Limits, OutcomeKind, Rate, RetryPolicy, Span};
use unisono_runner::{
    Batch, DigestResult, FileCall, Frame, Gauge, Identity, Listing, ManifestOut, Manifests, Named, Open, Outcome,
    Output, Outputs, Report, Settings, SumPlan, VerifyOptions, Way,
    file_tools::{
        Entry, FilesOptions, Hidden, WalkOptions,
        manifest::{Layout, push_entry, push_name},
        walk,
    },
    hash::{Algorithm, Kernel},
    refuse_same, resolved, results_of, sum_settings, tree_rows, verify_rows, way_to_write,
};

use crate::{
    args::{OutputArgs, ProgressMode, ShowArgs, size, times},
    failure::Failure,
    launch::{launch, on_event},
    signals::Handling,
    terminal::Terminal,
};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SumArgs {
    /// Files, and folders, which stand for all that is in them; with --check, manifests
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Read names of files and folders from this file, or from standard input (`-`), one per line
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Names in --from end with a zero byte
    #[arg(short = '0', long, requires = "from")]
    null: bool,
    /// sha256, sha512, sha1, md5, blake3, xxh3-128, crc32c or blake2b; several with commas [default: sha256]
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    algorithm: Vec<Algorithm>,
    #[command(flatten)]
    walk: WalkArgs,
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    listing: ListingArgs,
    #[command(flatten)]
    limits: SumLimitArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out of folders")]
struct WalkArgs {
    /// Only files that match, as in gitignore: `*.py`, `src/**`
    #[arg(long, value_name = "GLOB")]
    glob: Vec<String>,
    /// No files or folders that match
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Whether names that begin with a dot are in
    #[arg(long, value_name = "YES", default_value = "yes")]
    hidden: YesNo,
    /// Leave out what .gitignore and .ignore files say
    #[arg(long)]
    ignore_files: bool,
    /// How many folders deep; 1 is what the folder itself holds
    #[arg(long, value_name = "N")]
    max_depth: Option<usize>,
    /// Follow symbolic links
    #[arg(long)]
    follow: bool,
    /// Stay on the file system of each folder given
    #[arg(long)]
    one_file_system: bool,
    /// Only files of at least this size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_size: Option<u64>,
    /// Only files of at most this size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Checking")]
struct CheckArgs {
    /// Check the files of manifests: of sha256sum and its like, `--tag`, b3sum, hashdeep, or JSON lines of ours
    #[arg(short, long)]
    check: bool,
    /// Also report files in this folder that no manifest has
    #[arg(long, value_name = "DIR", requires = "check")]
    extra: Vec<PathBuf>,
    /// A file that is not there is no failure
    #[arg(long, requires = "check")]
    ignore_missing: bool,
    /// Lines that are no entries are a failure
    #[arg(long, requires = "check")]
    strict: bool,
    /// Print nothing: the exit status says it
    #[arg(long, requires = "check")]
    status: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listing")]
struct ListingArgs {
    /// Lines as the BSDs have them, the algorithm named
    #[arg(long)]
    tag: bool,
    /// Lines end with a zero byte, and names stand as they are
    #[arg(short, long)]
    zero: bool,
    /// How outcomes are written
    #[arg(long, value_name = "FORMAT", default_value = "check", conflicts_with_all = ["tag", "zero"])]
    format: Format,
    /// As files are done, not by path
    #[arg(long)]
    unordered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines that sha256sum -c reads
    Check,
    /// One JSON object per file, those without digest included
    Jsonl,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits and time")]
struct SumLimitArgs {
    /// Threads; each reads several files at once [default: one per core]
    #[arg(short = 'j', long, value_name = "N")]
    limit: Option<NonZeroU32>,
    /// Most files per time, as `100/s`
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Longest time for one file with its second try, or `none`
    #[arg(long, value_name = "TIME", default_value = "1h")]
    deadline: Span,
    /// Start nothing new after this time
    #[arg(long, value_name = "TIME")]
    stop_after: Option<Span>,
    /// How long what runs may take to finish when the run is stopped
    #[arg(long, value_name = "TIME", default_value = "10s")]
    grace: Span,
    /// Most repeats for a file that changed while it was read
    #[arg(long, value_name = "N", default_value_t = 1)]
    retries: u16,
    /// Stop after so many files that did not end well
    #[arg(long, value_name = "N")]
    max_failures: Option<u64>,
    /// The first N files must end ok before any other is read
    #[arg(long, value_name = "N")]
    canary: Option<NonZeroU64>,
    /// Read past the page cache
    #[arg(long)]
    direct: bool,
    /// Which instructions SHA-256 uses: avx512, avx2, sha-ni or portable
    #[arg(long, value_name = "NAME", hide = true)]
    kernel: Option<Kernel>,
}

/// Runs the command; returns its exit status.
pub fn run(args: SumArgs) -> Result<u8, Failure> {
    let terminal = Terminal::new(args.show.color);
    args.check_words()?;
    args.refuse_own_input()?;
    let kernel = args.limits.kernel()?;
    let way = args.way()?;
    let (rows, manifests) = args.rows()?;
    let (output, manifest) = args.outputs(way)?;
    let lines = args.lines(way)?;
    let plan = SumPlan {
        files: FilesOptions { kernel, direct: args.limits.direct, ..FilesOptions::default() },
        listing: args.listing(&terminal, lines.clone()),
        manifest,
        frame: Frame {
            rows: Box::new(rows),
            settings: args.limits.settings(),
            output,
            outlet: None,
            style: (),
            keep_order: !args.listing.unordered,
            max_failures: args.limits.max_failures,
            canary: args.limits.canary,
            on_event: on_event(&args.show, &terminal),
        },
    };
    let resumable = args.output.out.is_some();
    let survey = Survey::of(&args);
    let run = |cancel, monitor, gauge: Gauge| {
        let survey = survey.map(|survey| survey.start(gauge.clone()));
        async move {
            let report = unisono_runner::sum(plan, cancel, monitor, gauge).await;
            drop(survey);
            let mut report = report?;
            lines.borrow_mut().settle(&mut report);
            Ok(report)
        }
    };
    let report = launch(&args.show, &terminal, None, resumable, Handling::default(), run)?;
    let Some(manifests) = manifests else { return Ok(report.exit_code()) };
    let verdict = manifests.verdict(args.check.strict, args.check.ignore_missing);
    if !args.check.status {
        verdict.warnings.iter().for_each(|warning| terminal.note(format!("warning: {warning}")));
    }
    verdict.failures.iter().for_each(|failure| terminal.note(format!("error: {failure}")));
    Ok(report.exit_code().max(u8::from(!verdict.failures.is_empty())))
}

impl SumArgs {
    /// What the parser cannot know.
    fn check_words(&self) -> Result<(), Failure> {
        self.output.check(false)?;
        if self.paths.is_empty() && self.from.is_none() {
            let failure = Failure::usage(if self.check.check { "no manifest to check" } else { "no files" });
            return Err(failure.hint(match self.check.check {
                true => "name the manifests; `-` is standard input",
                false => "name files or folders, or a file of names with --from FILE (`-` is standard input)",
            }));
        }
        if self.check.check && self.from.is_some() {
            return Err(Failure::usage("--from names files to digest, and --check has them from its manifests")
                .hint("name the manifest without --from: `unisono sum --check FILE`"));
        }
        if !self.check.check && self.paths.iter().any(|path| path.as_os_str() == "-") {
            return Err(Failure::usage("`-` is no file to digest")
                .hint("`--from -` reads names from standard input; to digest the data itself, use sha256sum"));
        }
        if self.check.check && self.algorithm.len() > 1 {
            return Err(Failure::usage(
                "--check takes one algorithm at most, for digests that do not say what they are",
            ));
        }
        let is_text = self.listing.format == Format::Check;
        if self.algorithm.len() > 1 && is_text && !self.listing.tag {
            return Err(
                Failure::usage("lines of several algorithms must name them").hint("add --tag or --format jsonl")
            );
        }
        Ok(())
    }

    /// What is read must not be what is written. Standard output may be among files to digest, as with sha256sum.
    fn refuse_own_input(&self) -> Result<(), Failure> {
        let mut reads: Vec<Named> = self.from.iter().map(|path| Named::input("--from", path)).collect();
        let what = if self.check.check { "the manifest" } else { "the file" };
        let paths = self.paths.iter().map(|path| Named::input(what, path));
        let Some(out) = &self.output.out else {
            reads.extend(paths.filter(|_| self.check.check));
            return Ok(refuse_same(&reads, &[Named::output()])?);
        };
        reads.extend(paths);
        let is_text = self.listing.format == Format::Check && !self.check.check;
        let mut writes = Named::results("--out", out);
        if is_text {
            writes.truncate(1);
            writes.extend(Named::results("the results of --out", &results_of(out)));
        }
        Ok(refuse_same(&reads, &writes)?)
    }

    /// How a text manifest is written; `None` when there is none.
    fn way(&self) -> Result<Option<Way>, Failure> {
        let is_text = self.listing.format == Format::Check && !self.check.check;
        let Some(path) = self.output.out.as_ref().filter(|_| is_text) else { return Ok(None) };
        let way = way_to_write(path)
            .map_err(|error| Failure::usage(format!("cannot write `{}`: {error}", path.display())))?;
        let goes_on = self.output.resume || self.output.retry_failed || self.output.retry_ambiguous;
        if way == Way::Stream && goes_on {
            return Err(Failure::usage(format!(
                "`{}` is no regular file, so nothing is kept beside it",
                path.display()
            ))
            .hint("leave --resume out, or name a file"));
        }
        Ok(Some(way))
    }

    fn rows(&self) -> Result<(mpsc::Receiver<Batch<FileCall>>, Option<Manifests>), Failure> {
        let options = self.walk.options(self.output.out.is_some());
        if self.check.check {
            let options = VerifyOptions {
                algorithm: self.algorithm.first().copied(),
                zero: self.listing.zero,
                ignore_missing: self.check.ignore_missing,
                extra: self.check.extra.clone(),
                walk: options,
                outputs: self.written(),
            };
            let (rows, manifests) = verify_rows(&self.paths, options)?;
            return Ok((rows, Some(manifests)));
        }
        let algorithms: Arc<[Algorithm]> = match self.algorithm.is_empty() {
            true => Arc::new([Algorithm::Sha256]),
            false => self.algorithm.clone().into(),
        };
        let mut roots = self.paths.clone();
        if !self.listing.unordered {
            roots.sort();
        }
        let list = self.from.as_deref().map(|path| (path, if self.null { 0 } else { b'\n' }));
        Ok((tree_rows(roots, list, options, algorithms, self.written())?, None))
    }

    /// What this run writes, which is no part of what it digests: where its output goes, by whatever way.
    fn written(&self) -> Outputs {
        let mut outputs = Outputs::default();
        if let Some(path) = &self.output.out {
            let add = if self.check.check { Outputs::add_results } else { Outputs::add_manifest };
            add(&mut outputs, path);
            outputs.add_results(path);
        }
        for standard in ["/proc/self/fd/1", "/proc/self/fd/2"] {
            // What is no file has no path, and is in no tree.
            if let Ok(path) = std::fs::read_link(standard)
                && path.is_absolute()
            {
                outputs.add_file(&path);
            }
        }
        outputs
    }

    /// Where results are kept, and the manifest that is made of them.
    fn outputs(&self, way: Option<Way>) -> Result<(Output, Option<ManifestOut>), Failure> {
        let open = Open { identity: Identity::Content, ..Open::default() };
        match (&self.output.out, way) {
            // Its lines are written as they come, and nothing is kept beside it.
            (Some(_), Some(Way::Stream)) => Ok((Output::Nothing, None)),
            (Some(path), Some(Way::Replaced)) => {
                let fail = |error| Failure::usage(format!("cannot write `{}`: {error}", path.display()));
                // Beside what a link leads to, so that there is one list of what has been done, whatever its name.
                let results = results_of(&resolved(path).map_err(fail)?);
                let manifest =
                    ManifestOut { path: path.clone(), results: results.clone(), layout: self.listing.layout() };
                refuse_to_replace(path, &results, &self.output)?;
                Ok((self.output.output_to(&results, open), Some(manifest)))
            }
            (Some(path), None) => Ok((self.output.output_to(path, open), None)),
            (None, _) if self.listing.format == Format::Jsonl => Ok((self.output.output(open)?, None)),
            (None, _) => Ok((Output::Nothing, None)),
        }
    }

    /// Whether lines are written as outcomes come: a manifest that is a file is made at the end.
    fn has_lines(&self, way: Option<Way>) -> bool {
        let is_kept = self.output.out.is_some() && !self.check.check && way != Some(Way::Stream);
        self.listing.format == Format::Check && !is_kept && !self.check.status
    }

    /// Where lines for people and for other programs go.
    fn lines(&self, way: Option<Way>) -> Result<Rc<RefCell<Lines>>, Failure> {
        let (stream, output) = match &self.output.out {
            _ if !self.has_lines(way) => (None, None),
            Some(path) if way == Some(Way::Stream) => {
                let name = format!("`{}`", path.display());
                // Waits for whoever reads a FIFO, as the shell does.
                let file = File::options().write(true).open(path);
                let file = file.map_err(|error| Failure::fault(format!("cannot write to {name}: {error}")))?;
                (Some(name), Some(crate::output::Output::to(file)))
            }
            _ => (None, Some(crate::output::Output::open()?)),
        };
        Ok(Rc::new(RefCell::new(Lines { output, stream, failure: None })))
    }

    /// What is printed of each outcome: lines of the manifest, or of the check; and what went wrong, to standard error.
    fn listing(&self, terminal: &Terminal, lines: Rc<RefCell<Lines>>) -> Option<Listing<DigestResult>> {
        let (is_check, layout, zero) = (self.check.check, self.listing.layout(), self.listing.zero);
        let (quiet, status, verbose) = (self.show.quiet, self.check.status, self.show.verbose);
        let terminal = terminal.clone();
        let mut line = Vec::new();
        let list = move |outcome: &Outcome<DigestResult>| {
            line.clear();
            let Some(path) = &outcome.done.path else { return Ok(()) };
            if is_check {
                push_check(path, outcome, quiet, zero, &mut line);
            } else if outcome.kind == OutcomeKind::Ok {
                outcome.done.digests.iter().for_each(|digest| push_entry(path, digest, layout, &mut line));
            }
            lines.borrow_mut().write(&line, if zero { 0 } else { b'\n' })?;
            match (outcome.done.error.as_deref(), &outcome.done.special) {
                (Some((ErrorKind::Cancelled, _)), _) => {}
                // What may be missing is.
                (Some((ErrorKind::Missing, _)), _) if outcome.kind == OutcomeKind::Skipped && !verbose => {}
                (Some((_, why)), _) if !status => terminal.note(format!("{}: {why}", shown(path))),
                (_, Some(special)) if verbose => terminal.note(format!("{}: skipped: {special}", shown(path))),
                _ => {}
            }
            Ok(())
        };
        Some(Box::new(list))
    }
}

/// A look at what there is to do, so that progress can tell how much is left. It costs a second walk, so it is taken
/// only when the run has gone on for a while.
struct Survey {
    roots: Vec<PathBuf>,
    options: WalkOptions,
}

impl Survey {
    /// What can be looked at beforehand: folders that are given, not lists or manifests.
    fn of(args: &SumArgs) -> Option<Self> {
        let shown = !args.show.quiet && args.show.progress != ProgressMode::None;
        (shown && !args.check.check && args.from.is_none())
            .then(|| Self { roots: args.paths.clone(), options: args.walk.options(true) })
    }

    /// Looks from a thread of its own, until the answer is dropped.
    fn start(self, gauge: Gauge) -> Sender<()> {
        let (stop, stopped) = channel::<()>();
        let look = move || {
            if stopped.recv_timeout(WORTH_A_SURVEY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let Ok(found) = walk(&self.roots, &self.options) else { return };
            let (mut files, mut bytes) = (0, 0);
            for one in found {
                files += 1;
                bytes += if let Entry::File(Some(stat)) = one.entry { stat.size } else { 0 };
                if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
            }
            gauge.set_expected(files, bytes);
        };
        // Without a thread nobody knows how much is left; the run is not the worse for it.
        let _ = thread::Builder::new().name("unisono-survey".into()).spawn(look);
        stop
    }
}

/// Lines for standard output, or what takes its place.
struct Lines {
    output: Option<crate::output::Output>,
    /// What takes its place.
    stream: Option<String>,
    /// What became of the first write that failed.
    failure: Option<io::Error>,
}

impl Lines {
    /// Whatever goes wrong ends the run as a reader that has left does; [`Lines::settle`] says what it was.
    fn write(&mut self, lines: &[u8], end: u8) -> io::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let mut lines = lines.split_inclusive(|byte| *byte == end);
        lines.try_for_each(|line| output.text(line.strip_suffix(&[end]).unwrap_or(line), end)).map_err(|error| {
            self.failure = Some(error);
            io::ErrorKind::BrokenPipe.into()
        })
    }

    /// Writes the last lines. A run whose lines have not all been written has failed, whatever its outcomes.
    fn settle(&mut self, report: &mut Report) {
        let flushed = |output: &mut crate::output::Output| output.flush().err();
        let failure = self.failure.take().or_else(|| self.output.as_mut().and_then(flushed));
        match failure {
            None => {}
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                report.stopped.get_or_insert(CancelReason::OutputClosed);
            }
            Some(error) => {
                report.failures.push(match &self.stream {
                    Some(name) => format!("cannot write to {name}: {error}"),
                    None => crate::output::why(&error),
                });
                if report.stopped.is_none_or(|reason| reason == CancelReason::OutputClosed) {
                    report.stopped = Some(CancelReason::OutputFailed);
                }
            }
        }
    }
}

/// `name: OK` and the like, as coreutils has it.
fn push_check(path: &Path, outcome: &Outcome<DigestResult>, quiet: bool, zero: bool, line: &mut Vec<u8>) {
    let word = match (outcome.kind, outcome.done.error.as_deref().map(|(kind, _)| *kind)) {
        (OutcomeKind::Ok, _) if quiet => return,
        (OutcomeKind::Ok, _) => "OK",
        (OutcomeKind::Skipped | OutcomeKind::Cancelled, _) => return,
        (_, Some(ErrorKind::Mismatch)) => "FAILED",
        (_, Some(ErrorKind::Extra)) => "EXTRA",
        (_, Some(ErrorKind::Missing)) => "FAILED open or read",
        _ => "FAILED open or read",
    };
    push_name(path, line);
    line.extend_from_slice(b": ");
    line.extend_from_slice(word.as_bytes());
    line.push(if zero { 0 } else { b'\n' });
}

/// A name on one line.
fn shown(path: &Path) -> String {
    let mut name = Vec::new();
    push_name(path, &mut name);
    String::from_utf8_lossy(&name).into_owned()
}

/// A manifest that is there is replaced only if it is ours to replace.
fn refuse_to_replace(path: &Path, results: &Path, output: &OutputArgs) -> Result<(), Failure> {
    let is_ours = results.exists()
        && (output.resume || output.retry_failed || output.retry_ambiguous || output.adopt || output.rebind);
    if is_ours || output.overwrite || !path.exists() {
        return Ok(());
    }
    Err(Failure::usage(format!("`{}` is there already", path.display()))
        .hint("--resume goes on with a list of ours, --overwrite replaces it"))
}

impl WalkArgs {
    fn options(&self, with_stat: bool) -> WalkOptions {
        WalkOptions {
            globs: self.glob.clone(),
            excludes: self.exclude.clone(),
            hidden: if self.hidden == YesNo::Yes { Hidden::Include } else { Hidden::Skip },
            ignore_files: self.ignore_files,
            max_depth: self.max_depth,
            follow: self.follow,
            one_file_system: self.one_file_system,
            min_size: self.min_size,
            max_size: self.max_size,
            with_stat,
        }
    }
}

impl ListingArgs {
    fn layout(&self) -> Layout {
        Layout { tag: self.tag, zero: self.zero }
    }
}

impl SumLimitArgs {
    fn settings(&self) -> Settings {
        let mut limits = Limits::new(Some(self.limit.unwrap_or(sum_settings().limits.limit)), None);
        limits.rate = self.rate;
        let times = times(Span(None), self.deadline, self.stop_after, self.grace);
        let retry = RetryPolicy { repeats: self.retries, ..RetryPolicy::default() };
        Settings { limits, times, retry, ordered_by_key: false }
    }

    fn kernel(&self) -> Result<Kernel, Failure> {
        match self.kernel {
            None => Ok(Kernel::best()),
            Some(kernel) if kernel.is_available() => Ok(kernel),
            Some(kernel) => Err(Failure::usage(format!("this processor has no {kernel}"))),
        }
    }
}

/// A run that is over by then needs no progress.
const WORTH_A_SURVEY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  unisono sum /srv/data > SHA256SUMS                 sha256sum -c SHA256SUMS checks it, and so does
  unisono sum --check SHA256SUMS --extra /srv/data   which also finds what has been added
  unisono sum -a blake3 --exclude '*.tmp' /srv/data -o data.b3 --resume

With -o FILE, results are kept in FILE.jsonl while they come, and FILE is written when all is done; with --resume, files
that are still what they were (size, times, inode) are not read again.

Exit status:
  0 all ok · 1 some file has no digest, or another one · 2 usage · 3 stopped by --max-failures or --canary · 124 by --stop-after
  125 our own failure · 130 interrupted · 141 nobody reads the output any more · 143 terminated";
