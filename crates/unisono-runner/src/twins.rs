//! Which of the rows that ask for the same and have no ids a row is, so that each has an idempotency key of its own.
//!
//! Which of them is which makes no difference, in any order of the input, as long as no two have the same key: the
//! server would take the second for a repeat of the first. What was started goes on under the number that its note
//! has, and a line that runs again under that of its key. Any other row has the first number whose key no line and no
//! note has: the same as in the run before, where the input is the same.

use std::collections::{HashMap, HashSet};

/// Gives a call a key before it runs, made of its page, its fingerprint and what tells it from others with that.
/// Returns the key's hash, or `None` where it does without.
pub type Prepare<C> = Box<dyn Fn(&mut C, u32, u64, Name<'_>) -> Option<u64>>;

/// What tells a row from others that ask for the same, in any order of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// Its id.
    Id(&'a str),
    /// It has none, and is this one of them.
    Twin(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Twins {
    /// What has a note, by what it asks for.
    started: HashSet<(u64, u32)>,
    /// Hashes of the keys that lines have.
    sent: HashSet<u64>,
    /// What rows so far ask for, and, where that is not 1, the number from which the next is looked for.
    contents: HashSet<u64>,
    next: HashMap<u64, u32>,
}

impl Twins {
    pub(crate) fn new(started: impl Iterator<Item = (u64, u32)>, sent: HashSet<u64>) -> Self {
        Self { started: started.collect(), sent, ..Self::default() }
    }

    /// Gives a row its number, and with that its key; `kept` is the hash of the one that its line has, if it may have
    /// been carried out with it.
    pub(crate) fn give(&mut self, content: u64, kept: Option<u64>, mut prepare: impl FnMut(u32) -> Option<u64>) {
        let Some(first_key) = prepare(0).filter(|key| Some(*key) != kept) else { return };
        let next = if self.contents.contains(&content) { self.next.get(&content).copied().unwrap_or(1) } else { 0 };
        if kept.is_some() && (1..next.saturating_add(LOOKED_FOR)).any(|twin| prepare(twin) == kept) {
            return;
        }
        let is_free = |twin: u32, key: Option<u64>| {
            !self.started.contains(&(content, twin)) && !key.is_some_and(|key| self.sent.contains(&key))
        };
        let mut key_of = |twin| if twin == 0 && kept.is_none() { Some(first_key) } else { prepare(twin) };
        let twin = (next..u32::MAX).find(|twin| is_free(*twin, key_of(*twin))).expect("no run has so many rows");
        self.contents.insert(content);
        if twin > 0 {
            self.next.insert(content, twin + 1);
        }
    }
}

/// How many numbers are tried for the key of a line, beyond those of the rows before it: it may be that of a later one.
const LOOKED_FOR: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that is given, where keys are made of numbers alone.
    fn given(twins: &mut Twins, kept: Option<u32>) -> u32 {
        let mut last = 0;
        twins.give(7, kept.map(key), |twin| {
            last = twin;
            Some(key(twin))
        });
        last
    }

    fn key(twin: u32) -> u64 {
        100 + u64::from(twin)
    }

    #[test]
    fn a_number_is_given_once_and_never_that_of_a_line_or_a_note() {
        let mut twins = Twins::new([(7, 3), (8, 0)].into_iter(), HashSet::from([key(0), key(1), key(5)]));
        assert_eq!(given(&mut twins, None), 2);
        assert_eq!(given(&mut twins, Some(5)), 5);
        assert_eq!(given(&mut twins, Some(0)), 0);
        assert_eq!(given(&mut twins, None), 4);
        assert_eq!(given(&mut twins, Some(1)), 1);
        // A key that is none of ours.
        assert_eq!(given(&mut twins, Some(1000)), 6);
        assert_eq!(given(&mut twins, None), 7);
    }

    #[test]
    fn a_row_that_does_without_a_key_takes_no_number() {
        let mut twins = Twins::default();
        twins.give(7, None, |_| None);
        assert_eq!((given(&mut twins, None), given(&mut twins, None)), (0, 1));
    }
}
