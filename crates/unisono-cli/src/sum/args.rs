//! The words of `unisono sum`.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use unisono_core::{Rate, Span};
use unisono_runner::hash::{Algorithm, Kernel};

use crate::args::{OutputArgs, ShowArgs, from_one, from_zero, size};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SumArgs {
    /// Files, and folders, which stand for all that is in them; with --check, manifests
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Read names of files and folders from this file, or from standard input (`-`), one per line
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Names in --from end with a zero byte
    #[arg(short = '0', long, requires = "from")]
    pub null: bool,
    /// sha256, sha512, sha1, md5, blake3, xxh3-128, crc32c or blake2b; several with commas [default: sha256]
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    pub algorithm: Vec<Algorithm>,
    #[command(flatten)]
    pub walk: WalkArgs,
    #[command(flatten)]
    pub check: CheckArgs,
    #[command(flatten)]
    pub listing: ListingArgs,
    #[command(flatten)]
    pub limits: SumLimitArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub show: ShowArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out of folders")]
pub struct WalkArgs {
    /// Only files that match, as in gitignore: `*.py`, `src/**`
    #[arg(long, value_name = "GLOB")]
    pub glob: Vec<String>,
    /// No files or folders that match
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Whether names that begin with a dot are in
    #[arg(long, value_name = "YES", default_value = "yes")]
    pub hidden: YesNo,
    /// Leave out what .gitignore and .ignore files say
    #[arg(long)]
    pub ignore_files: bool,
    /// How many folders deep; 1 is what the folder itself holds
    #[arg(long, value_name = "N", value_parser = from_zero::<usize>)]
    pub max_depth: Option<usize>,
    /// Follow symbolic links
    #[arg(long)]
    pub follow: bool,
    /// Stay on the file system of each folder given
    #[arg(long)]
    pub one_file_system: bool,
    /// Only files of at least this size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub min_size: Option<u64>,
    /// Only files of at most this size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    Yes,
    No,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Checking")]
pub struct CheckArgs {
    /// Check the files of manifests: of sha256sum and its like, `--tag`, b3sum, hashdeep, or JSON lines of ours
    #[arg(short, long)]
    pub check: bool,
    /// Also report files in this folder that no manifest has
    #[arg(long, value_name = "DIR", requires = "check")]
    pub extra: Vec<PathBuf>,
    /// A file that is not there is no failure
    #[arg(long, requires = "check")]
    pub ignore_missing: bool,
    /// Lines that are no entries are a failure
    #[arg(long, requires = "check")]
    pub strict: bool,
    /// Print nothing: the exit status says it
    #[arg(long, requires = "check")]
    pub status: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Listing")]
pub struct ListingArgs {
    /// Lines as the BSDs have them, the algorithm named
    #[arg(long)]
    pub tag: bool,
    /// Lines end with a zero byte, and names stand as they are
    #[arg(short, long)]
    pub zero: bool,
    /// How outcomes are written
    #[arg(long, value_name = "FORMAT", default_value = "check", conflicts_with_all = ["tag", "zero"])]
    pub format: ListingFormat,
    /// As files are done, not by path
    #[arg(long)]
    pub unordered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListingFormat {
    /// Lines that sha256sum -c reads
    Check,
    /// One JSON object per file, those without digest included
    Jsonl,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits and time")]
pub struct SumLimitArgs {
    /// Threads; each reads several files at once [default: one per core]
    #[arg(short = 'j', long, value_name = "N", value_parser = from_one::<NonZeroU32>)]
    pub limit: Option<NonZeroU32>,
    /// Most files per time, as `100/s`
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Longest time for one file with its second try, or `none`
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub deadline: Span,
    /// Start nothing new after this time
    #[arg(long, value_name = "TIME")]
    pub stop_after: Option<Span>,
    /// How long what runs may take to finish when the run is stopped
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub grace: Span,
    /// Most repeats for a file that changed while it was read
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_zero::<u16>)]
    pub retries: u16,
    /// Stop after so many files that did not end well
    #[arg(long, value_name = "N", value_parser = from_zero::<u64>)]
    pub max_failures: Option<u64>,
    /// The first N files must end ok before any other is read
    #[arg(long, value_name = "N", value_parser = from_one::<NonZeroU64>)]
    pub canary: Option<NonZeroU64>,
    /// Read past the page cache
    #[arg(long)]
    pub direct: bool,
    /// Which instructions SHA-256 uses: avx512, avx2, sha-ni or portable
    #[arg(long, value_name = "NAME", hide = true)]
    pub kernel: Option<Kernel>,
}

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
