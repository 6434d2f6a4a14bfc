//! The numbers of a run for the progress that a face shows, from any thread; and what has begun, where that is kept.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use unisono_core::OutcomeKind;

use crate::LineNumber;

/// Counters that only grow; each is true on its own, which is all that a progress line needs.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    decided: [AtomicU64; 6],
    kept: AtomicU64,
    bytes: AtomicU64,
    /// One more than the total; 0 while that is not known.
    total: AtomicU64,
    /// As `total`: what a look at the input made of it, which may have changed since.
    expected: AtomicU64,
    expected_bytes: AtomicU64,
    canary: [AtomicU64; 2],
    waits_for_reader: AtomicBool,
    looks_for_doubts: AtomicBool,
    waits_for_rows: AtomicBool,
    keeps_begun: AtomicBool,
    /// By their lines.
    begun: Mutex<HashSet<LineNumber>>,
}

impl Gauge {
    /// How many outcomes of this kind there are.
    pub fn count(&self, kind: OutcomeKind) -> u64 {
        self.0.decided[kind as usize].load(Relaxed)
    }

    /// How many outcomes there are: those of this run and those that were kept.
    pub fn done(&self) -> u64 {
        OutcomeKind::ALL.iter().map(|kind| self.count(*kind)).sum::<u64>() + self.kept()
    }

    /// How many outcomes of an earlier run were kept.
    pub fn kept(&self) -> u64 {
        self.0.kept.load(Relaxed)
    }

    /// Bytes so far: of bodies as they came over the wire, or read from files.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// How many rows there will be, if that is known.
    pub fn total(&self) -> Option<u64> {
        self.0.total.load(Relaxed).checked_sub(1)
    }

    /// Says how many rows there will be.
    pub fn set_total(&self, total: u64) {
        self.0.total.store(total.saturating_add(1), Relaxed);
    }

    /// How many rows there will be, as far as is known.
    pub fn expected(&self) -> Option<u64> {
        self.total().or_else(|| self.0.expected.load(Relaxed).checked_sub(1))
    }

    /// How many bytes there will be, as far as is known.
    pub fn expected_bytes(&self) -> Option<u64> {
        self.0.expected_bytes.load(Relaxed).checked_sub(1)
    }

    /// Says what a look at the input has found; it counts for progress alone.
    pub fn set_expected(&self, rows: u64, bytes: u64) {
        self.0.expected_bytes.store(bytes.saturating_add(1), Relaxed);
        self.0.expected.store(rows.saturating_add(1), Relaxed);
    }

    /// How many of the first rows have ended well, and how many have to before others start; `None` once others may.
    pub fn canary(&self) -> Option<(u64, u64)> {
        let [passed, wanted] = self.0.canary.each_ref().map(|number| number.load(Relaxed));
        (passed < wanted).then_some((passed, wanted))
    }

    pub(crate) fn set_canary(&self, waited_for: Option<(u64, u64)>) {
        let (passed, wanted) = waited_for.unwrap_or_default();
        self.0.canary[0].store(passed, Relaxed);
        self.0.canary[1].store(wanted, Relaxed);
    }

    /// Whether nothing starts yet since the pipe that results go to has no reader.
    pub fn waits_for_reader(&self) -> bool {
        self.0.waits_for_reader.load(Relaxed)
    }

    pub(crate) fn set_waits_for_reader(&self, waits: bool) {
        self.0.waits_for_reader.store(waits, Relaxed);
    }

    /// Whether nothing starts yet since the input may come to what an earlier run left in doubt. Then the run takes in
    /// more than can begin, and an input that gives no more than that would be waited for for ever.
    pub fn looks_for_doubts(&self) -> bool {
        self.0.looks_for_doubts.load(Relaxed)
    }

    pub(crate) fn set_looks_for_doubts(&self, looks: bool) {
        self.0.looks_for_doubts.store(looks, Relaxed);
    }

    /// Whether nothing starts, and that for long, since the input has not come to rows that an earlier run knew: it may
    /// be another one.
    pub fn waits_for_rows(&self) -> bool {
        self.0.waits_for_rows.load(Relaxed)
    }

    pub(crate) fn set_waits_for_rows(&self, waits: bool) {
        self.0.waits_for_rows.store(waits, Relaxed);
    }

    /// Keeps account of what has begun, until [`Gauge::forget`]: for a program that takes back what has not, also when
    /// the run ends without an account of its own.
    pub fn keep_begun(&self) {
        self.0.keeps_begun.store(true, Relaxed);
    }

    /// Whether something may have been done for this item, or may be yet; false where no account is kept.
    pub fn has_begun(&self, line: LineNumber) -> bool {
        self.begun().contains(&line)
    }

    /// The program has the outcome of this item.
    pub fn forget(&self, line: LineNumber) {
        if self.0.keeps_begun.load(Relaxed) {
            self.begun().remove(&line);
        }
    }

    pub(crate) fn begin(&self, line: LineNumber) {
        if self.0.keeps_begun.load(Relaxed) {
            self.begun().insert(line);
        }
    }

    /// An engine that panics does not do it in here.
    fn begun(&self) -> MutexGuard<'_, HashSet<LineNumber>> {
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, kind: OutcomeKind) {
        self.0.decided[kind as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_kept(&self) {
        self.0.kept.fetch_add(1, Relaxed);
    }
}
