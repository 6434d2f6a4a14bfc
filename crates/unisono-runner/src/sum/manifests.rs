//! Manifests that are checked: what was in each, and whether that was a check at all.
//!
//! A check that checked nothing is no success, as coreutils has it: each manifest has an entry, and where missing files
//! may be passed over, a file that is there. A bare digest whose length fits two algorithms is tried as both: which one
//! it was is kept here, so that the files that come later are read once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
};

use unisono_hash::{Algorithm, Digest};

use crate::row::RowOrigin;

/// Manifests that are checked, in order.
#[derive(Debug, Clone, Default)]
pub struct Manifests(Arc<[Arc<ManifestTally>]>);

/// What one manifest came to. Counted by the thread that reads it and by the run.
#[derive(Debug, Default)]
pub struct ManifestTally {
    name: Arc<str>,
    entries: AtomicU64,
    malformed: AtomicU64,
    first_malformed: OnceLock<String>,
    /// It was read to its end.
    is_read: AtomicBool,
    /// Entries whose file is there; counted where missing ones may be passed over.
    present: AtomicU64,
    /// What its ambiguous digests were found to be: the likely algorithm, or the other one; 0 while that is not known.
    decided: AtomicU8,
    /// Ambiguous digests that fit neither.
    unlike: AtomicU64,
    other: OnceLock<(Algorithm, Algorithm)>,
}

/// What a check came to beside its outcomes.
#[derive(Debug, Clone, Default)]
pub struct CheckVerdict {
    /// Why it is no success, whatever its outcomes.
    pub failures: Vec<String>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Lines that are no entries.
    pub malformed: u64,
}

impl Manifests {
    pub(super) fn new(names: impl Iterator<Item = Arc<str>>) -> Self {
        Self(names.map(|name| Arc::new(ManifestTally { name, ..ManifestTally::default() })).collect())
    }

    pub(super) fn tallies(&self) -> &[Arc<ManifestTally>] {
        &self.0
    }

    /// What they came to; to be asked once the run is over.
    pub fn verdict(&self, is_strict: bool, ignores_missing: bool) -> CheckVerdict {
        let mut verdict = CheckVerdict::default();
        for tally in &*self.0 {
            tally.judge(is_strict, ignores_missing, &mut verdict);
        }
        verdict
    }
}

impl ManifestTally {
    pub(super) fn add_malformed(&self, origin: &RowOrigin, why: &str) {
        self.malformed.fetch_add(1, Relaxed);
        self.first_malformed.get_or_init(|| format!("{origin}: {why}"));
    }

    pub(super) fn add_entry(&self) {
        self.entries.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.is_read.store(true, Relaxed);
    }

    /// A file was there when it was looked for; or was not, although it had been a moment ago.
    pub(super) fn count_present(&self, is_there: bool) {
        match is_there {
            true => self.present.fetch_add(1, Relaxed),
            false => self.present.fetch_sub(1, Relaxed),
        };
    }

    /// The digests to try, the likelier one first.
    pub(super) fn order(&self, likely: Digest, other: Digest) -> [Digest; 2] {
        if self.decided.load(Relaxed) == OTHER { [other, likely] } else { [likely, other] }
    }

    /// Whether a digest that fits may count. A file can be made to have any XXH3; so it counts only
    /// if all that fits in its manifest is XXH3, and never beside MD5.
    pub(super) fn accepts(&self, likely: Digest, other: Digest, fits: Digest) -> bool {
        let is = if fits == other { OTHER } else { LIKELY };
        self.other.get_or_init(|| (likely.algorithm(), other.algorithm()));
        let before = self.decided.compare_exchange(0, is, Relaxed, Relaxed).unwrap_or_else(|before| before);
        before == 0 || before == is || other.algorithm() != Algorithm::Xxh3_128
    }

    pub(super) fn fits_neither(&self, likely: Digest, other: Digest) {
        self.other.get_or_init(|| (likely.algorithm(), other.algorithm()));
        self.unlike.fetch_add(1, Relaxed);
    }

    fn judge(&self, is_strict: bool, ignores_missing: bool, verdict: &mut CheckVerdict) {
        let (name, malformed) = (&self.name, self.malformed.load(Relaxed));
        let entries = self.entries.load(Relaxed);
        verdict.malformed += malformed;
        if let Some(first) = self.first_malformed.get() {
            let noun = if malformed == 1 { "line is" } else { "lines are" };
            let why = format!("{malformed} {noun} malformed (the first: {first})");
            if is_strict { verdict.failures.push(why) } else { verdict.warnings.push(why) }
        }
        if self.is_read.load(Relaxed) && entries == 0 {
            verdict.failures.push(format!("there is no entry to check in `{name}`"));
        } else if ignores_missing && self.is_read.load(Relaxed) && self.present.load(Relaxed) == 0 {
            verdict.failures.push(format!("no file of `{name}` was verified: none of them is there"));
        }
        match (self.other.get(), self.decided.load(Relaxed)) {
            (Some((likely, other)), 0) if self.unlike.load(Relaxed) > 0 => verdict.warnings.push(format!(
                "no digest of `{name}` fits its file, neither as {likely} nor as {other}: if they are of another algorithm, \
                 check them with its own program"
            )),
            // Of the others it makes no difference: no file can be made for a digest of theirs.
            (Some((likely, other)), OTHER) if *other == Algorithm::Xxh3_128 => verdict.warnings.push(format!(
                "the digests of `{name}` were found to be of {other}, not {likely}; --algorithm {other} says so"
            )),
            _ => {}
        }
    }
}

const LIKELY: u8 = 1;
const OTHER: u8 = 2;
