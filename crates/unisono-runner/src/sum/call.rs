//! A file as work: what a row asks for, and what became of it.

use std::{borrow::Cow, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use unisono_core::ErrorKind;
use unisono_files::{Known, Special, Stat};
use unisono_hash::{Algorithm, Digest};
use unisono_journal::{Members, Repeat};
use xxhash_rust::xxh3::Xxh3;

use super::manifests::ManifestTally;
use crate::work::{Call, Done};

/// What a row asks for.
#[derive(Debug)]
pub struct FileCall {
    /// The file.
    pub path: Arc<Path>,
    /// What to do about it.
    pub task: FileTask,
    /// Which digests are wanted.
    pub algorithms: Arc<[Algorithm]>,
    /// What it was a moment ago, where that decides whether it is read again.
    pub stat: Option<Stat>,
    /// The line of the input that it came from may bring further files: it names a folder.
    pub shares_line: bool,
}

/// What to do about a file.
#[derive(Debug)]
pub enum FileTask {
    /// Digest it.
    Digest {
        /// What it was found to be.
        known: Known,
    },
    /// Digest it, and compare.
    Verify(Box<Expected>),
    /// Nothing: it has no content of its own.
    Skip(Special),
    /// Nothing: that much is known.
    Fail(Box<(ErrorKind, String)>),
}

/// What a manifest says of a file.
#[derive(Debug)]
pub struct Expected {
    /// What its digests should be.
    pub digests: Vec<Digest>,
    /// What its only digest may be, where that is not said.
    pub bare: Option<Bare>,
    /// How long it should be.
    pub size: Option<u64>,
    /// That it is not there is no failure.
    pub may_be_missing: bool,
    /// It was there a moment ago; looked at where it may be missing.
    pub was_there: bool,
    /// The manifest that says so.
    pub tally: Arc<ManifestTally>,
}

/// The same digits as the digest of two algorithms.
#[derive(Debug, Clone, Copy)]
pub struct Bare {
    /// What they are nearly always.
    pub likely: Digest,
    /// What they are otherwise.
    pub other: Digest,
}

/// What became of a file.
#[derive(Debug, Default)]
pub struct DigestResult {
    /// The file; `None` when the row could not be understood.
    pub path: Option<Arc<Path>>,
    /// Its digests, in the order in which they were asked for.
    pub digests: Vec<Digest>,
    /// What it was when it was read.
    pub stat: Option<Stat>,
    /// What it is, when it is no regular file.
    pub special: Option<Special>,
    /// Why it did not go well.
    pub error: Option<Box<(ErrorKind, String)>>,
    /// Further outcomes may come of the same line of the input.
    pub shares_line: bool,
    /// Which digests were wanted, for its fingerprint.
    pub(crate) algorithms: Option<Arc<[Algorithm]>>,
}

impl Call for FileCall {
    type Done = DigestResult;

    fn fingerprint(&self) -> u64 {
        fingerprint(&self.path, &self.algorithms, self.stat.as_ref())
    }

    fn limit_key(&self) -> Cow<'_, str> {
        "".into()
    }

    fn repeat(&self) -> Repeat {
        Repeat::ByNature
    }

    fn is_safe(&self) -> bool {
        true
    }

    const REPEATABLE_WITH: &'static str = "nothing";

    fn describe(&self, done: &mut DigestResult) {
        done.path = Some(self.path.clone());
        done.shares_line = self.shares_line;
        done.algorithms = Some(self.algorithms.clone());
    }
}

impl DigestResult {
    pub(crate) fn skipped(special: Special) -> Self {
        Self { special: Some(special), ..Self::default() }
    }
}

impl Done for DigestResult {
    type Style = ();

    fn failed(kind: ErrorKind, message: String) -> Self {
        Self { error: Some(Box::new((kind, message))), ..Self::default() }
    }

    fn error(&self) -> Option<(ErrorKind, String)> {
        self.error.as_deref().cloned()
    }

    fn group(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn label(&self) -> Option<Cow<'_, str>> {
        self.path.as_ref().map(|path| path.to_string_lossy())
    }

    fn bytes(&self) -> u64 {
        self.stat.map_or(0, |stat| stat.size)
    }

    /// A file is known again by what it was when it was read.
    fn fingerprint(&self) -> Option<u64> {
        Some(fingerprint(self.path.as_ref()?, self.algorithms.as_ref()?, Some(self.stat.as_ref()?)))
    }

    fn push_subject(&self, fields: &mut Members<'_>) {
        match &self.path {
            None => fields.null("path"),
            Some(path) => fields.bytes("path", path.as_os_str().as_bytes()),
        }
    }

    fn push_result(&self, (): (), fields: &mut Members<'_>, _body: &mut Members<'_>) {
        if let Some(stat) = &self.stat {
            fields.number("size", stat.size);
            fields.number("mtime_ns", stat.mtime_ns);
            fields.number("ctime_ns", stat.ctime_ns);
            fields.number("inode", stat.inode);
        }
        for digest in &self.digests {
            fields.display(digest.algorithm().as_str(), digest);
        }
        if let Some(special) = &self.special {
            fields.display("reason", special);
        }
    }
}

fn fingerprint(path: &Path, algorithms: &[Algorithm], stat: Option<&Stat>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(path.as_os_str().as_bytes());
    for algorithm in algorithms {
        // No path holds a zero byte, so what follows one is no part of it.
        hash.update(&[0, *algorithm as u8]);
    }
    if let Some(stat) = stat {
        hash.update(&[0, 255]);
        hash.update(&stat.size.to_le_bytes());
        hash.update(&stat.mtime_ns.to_le_bytes());
        hash.update(&stat.ctime_ns.to_le_bytes());
        hash.update(&stat.inode.to_le_bytes());
    }
    hash.digest()
}
