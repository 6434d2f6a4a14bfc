//! The canary: the first rows must end well before any other row starts.
//!
//! A state machine over the indices of rows, without rows and without a clock. The source asks it before a row is
//! handed out, the ledger tells it how rows ended. Rows of an earlier run count as they ended then. A row of several
//! pages has ended with its last page; one page that did not end well is enough to fail. What had its turn before a
//! failure may finish.

use std::num::NonZeroU64;

use crate::row::RowIndex;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canary {
    /// How many rows have to end well; 0 where nothing is asked.
    wanted: u64,
    passed: u64,
    failed: bool,
}

/// What follows from the end of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Same,
    /// One more has passed.
    Passed,
    /// All have: the rest may start.
    Opened,
    /// The run is to stop.
    Failed,
}

impl Canary {
    pub(crate) fn new(rows: Option<NonZeroU64>) -> Self {
        Self { wanted: rows.map_or(0, NonZeroU64::get), passed: 0, failed: false }
    }

    /// Whether this row may start.
    pub(crate) fn admits(&self, row: RowIndex) -> bool {
        !self.failed && (self.is_of(row) || self.is_open())
    }

    /// Whether this row is one of those that have to end well.
    pub(crate) fn is_of(&self, row: RowIndex) -> bool {
        row.get() < self.wanted
    }

    /// How many have passed, of how many, as long as others wait for them.
    pub(crate) fn waited_for(&self) -> Option<(u64, u64)> {
        (!self.is_open()).then_some((self.passed, self.wanted))
    }

    /// A row, or a page of it, has ended; `is_last` says that nothing more of it will follow. Each row ends once.
    pub(crate) fn ended(&mut self, row: RowIndex, went_well: bool, is_last: bool) -> Step {
        if !self.is_of(row) || self.failed || self.is_open() {
            return Step::Same;
        }
        if !went_well {
            self.failed = true;
            return Step::Failed;
        }
        self.passed += u64::from(is_last);
        match (is_last, self.is_open()) {
            (false, _) => Step::Same,
            (true, false) => Step::Passed,
            (true, true) => Step::Opened,
        }
    }

    fn is_open(&self) -> bool {
        self.passed >= self.wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_else_starts_before_the_first_rows_have_all_ended_well(
            wanted in 0u64..6, rows in prop::collection::vec((prop::collection::vec(any::<bool>(), 1..4), any::<u16>()), 0..12),
            at_once in 1usize..5,
        ) {
            let mut canary = Canary::new(NonZeroU64::new(wanted));
            let mut next = 0;
            // Running rows, and how many of their pages have ended well.
            let mut running: Vec<(usize, usize)> = Vec::new();
            let mut well = vec![false; rows.len()];
            let mut failed_first = false;
            loop {
                while next < rows.len() && running.len() < at_once && canary.admits(RowIndex::new(next as u64)) {
                    let first_are_well = well.iter().take(usize::try_from(wanted).unwrap()).all(|well| *well);
                    prop_assert!(!failed_first, "nothing starts after a canary that failed");
                    prop_assert!((next as u64) < wanted || first_are_well, "row {next} waits for the canary");
                    running.push((next, 0));
                    next += 1;
                }
                // Any of them may be the next to end.
                let Some(turn) = (0..running.len()).max_by_key(|at| rows[running[*at].0].1) else { break };
                let (row, page) = running[turn];
                let pages = &rows[row].0;
                let (went_well, is_last) = (pages[page], page + 1 == pages.len() || !pages[page]);
                let step = canary.ended(RowIndex::new(row as u64), went_well, is_last);
                if (row as u64) < wanted && !went_well && !failed_first {
                    prop_assert_eq!(step, Step::Failed);
                    failed_first = true;
                }
                if is_last {
                    well[row] = went_well;
                    running.swap_remove(turn);
                } else {
                    running[turn].1 += 1;
                }
            }
            prop_assert_eq!(next == rows.len() || failed_first, true, "no row waits for ever");
        }
    }

    #[test]
    fn without_a_canary_everything_may_start() {
        let mut canary = Canary::new(None);
        assert!(canary.admits(RowIndex::new(0)) && canary.admits(RowIndex::new(9)) && canary.waited_for().is_none());
        assert_eq!(canary.ended(RowIndex::new(0), false, true), Step::Same);
        assert!(canary.admits(RowIndex::new(1)));
    }
}
