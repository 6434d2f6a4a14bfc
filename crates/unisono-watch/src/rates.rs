//! How often a line is told: the first stall at it always, others not before some time has gone by.

use std::{collections::HashMap, time::Duration};

use crate::interpreter::Frame;

/// A line is told again after so long.
const INTERVAL: Duration = Duration::from_secs(10);
/// More lines are not known at a time.
const LINES_MAX: usize = 256;

/// When each line was told last.
#[derive(Debug, Default)]
pub struct Rates {
    lines: HashMap<(String, Option<u32>), Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Duration,
    kept_back: u64,
}

impl Rates {
    /// Whether a stall at this line is told at `now`: if so, how many were kept back since the last one.
    pub fn admits(&mut self, place: Option<&Frame>, now: Duration) -> Option<u64> {
        let line = place.map_or_else(Default::default, |frame| (frame.file.clone(), frame.line));
        if let Some(told) = self.lines.get_mut(&line) {
            if now.saturating_sub(told.at) < INTERVAL {
                told.kept_back += 1;
                return None;
            }
            return Some(std::mem::replace(told, Told { at: now, kept_back: 0 }).kept_back);
        }
        if self.lines.len() == LINES_MAX {
            self.lines.retain(|_, told| now.saturating_sub(told.at) < INTERVAL);
        }
        // So many lines within the interval: what they have in common is told by those that were.
        if self.lines.len() == LINES_MAX {
            return None;
        }
        self.lines.insert(line, Told { at: now, kept_back: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(line: u32) -> Frame {
        Frame { file: "app.py".into(), function: "f".into(), line: Some(line), is_generator: false }
    }

    #[test]
    fn a_line_is_told_at_once_then_seldom_with_the_number_of_those_that_were_not() {
        let mut rates = Rates::default();
        let mut told = |line, second| rates.admits(Some(&frame(line)), Duration::from_secs(second));
        assert_eq!(told(1, 0), Some(0));
        assert_eq!(told(1, 3), None);
        assert_eq!(told(1, 9), None);
        assert_eq!(told(2, 9), Some(0));
        assert_eq!(told(1, 10), Some(2));
        assert_eq!(told(1, 30), Some(0));
    }

    #[test]
    fn so_many_lines_as_a_program_has_take_bounded_memory() {
        let mut rates = Rates::default();
        let told = (0..10_000).filter(|line| rates.admits(Some(&frame(*line)), Duration::ZERO).is_some()).count();
        assert_eq!(told, LINES_MAX);
        assert_eq!(rates.admits(Some(&frame(10_001)), INTERVAL), Some(0));
        assert_eq!(rates.lines.len(), 1);
    }
}
