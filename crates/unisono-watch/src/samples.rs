//! Whether a loop that is late is blocked by one callback or has too many of them: by what it was seen to run.

use std::collections::HashMap;

use crate::interpreter::{Frame, RawFrame};

/// More are not kept: the first say as much as the last.
const SAMPLES_MAX: usize = 64;
/// So many different callbacks within one stall are many.
const MANY: usize = 3;
/// How many lines are named.
const LINES_MAX: usize = 3;

/// One callback of a loop, as far as it can be told from others: the frame that it begins with, and the handle that the
/// loop runs it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Callback {
    frame: u64,
    code: u64,
    handle: u64,
}

/// The code of the loop's own frames, between which and the program's lies where a callback begins.
#[derive(Debug, Clone, Default)]
pub struct LoopCode {
    /// Addresses of the code of what runs a loop.
    pub loops: Vec<u64>,
    /// The address of the code that runs one handle, which is its first local variable.
    pub handle: u64,
}

impl LoopCode {
    /// Returns the callback that a stack, the innermost frame first, is in, and how many of its frames belong to it.
    ///
    /// `local` reads the first local variable of a frame.
    pub fn callback(&self, stack: &[RawFrame], local: impl Fn(&RawFrame) -> u64) -> Option<(Callback, usize)> {
        let of_loop = |frame: &RawFrame| self.loops.contains(&frame.code) || frame.code == self.handle;
        // A loop whose frames are not of Python shows none: there a coroutine begins it.
        // Of loops that run within each other the outermost, whose callback all the others are.
        let outermost = stack.iter().rposition(of_loop);
        let depth = outermost
            .map(|place| place - stack[..place].iter().rev().take_while(|frame| of_loop(frame)).count())
            .or_else(|| stack.iter().rposition(|frame| frame.is_generator).map(|place| place + 1))?;
        let first = stack.get(depth.checked_sub(1)?)?;
        let handle = stack.get(depth).filter(|frame| frame.code == self.handle).map_or(0, local);
        Some((Callback { frame: first.address, code: first.code, handle }, depth))
    }
}

/// What a loop was seen to run since a ping.
#[derive(Debug, Default)]
pub struct Samples {
    each: Vec<(Callback, Frame)>,
}

impl Samples {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.each.clear();
    }

    /// Keeps that a callback was seen at a line.
    pub fn keep(&mut self, callback: Callback, at: Frame) {
        if self.each.len() < SAMPLES_MAX {
            self.each.push((callback, at));
        }
    }

    /// The busiest lines with how often each was seen, the busiest first, where many callbacks make the loop late;
    /// `None` where one blocks it.
    pub fn busiest(&self) -> Option<Vec<(Frame, usize)>> {
        let mut callbacks: Vec<_> = self.each.iter().map(|(callback, _)| callback).collect();
        callbacks.dedup();
        if callbacks.len() < MANY {
            return None;
        }
        let mut counts: HashMap<(&str, Option<u32>), (&Frame, usize)> = HashMap::new();
        for (_, frame) in &self.each {
            counts.entry((&frame.file, frame.line)).or_insert((frame, 0)).1 += 1;
        }
        let mut lines: Vec<_> = counts.into_values().map(|(frame, count)| (frame.clone(), count)).collect();
        lines.sort_by(|(one, first), (other, second)| {
            second.cmp(first).then_with(|| (&one.file, one.line).cmp(&(&other.file, other.line)))
        });
        lines.truncate(LINES_MAX);
        Some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_ONCE: u64 = 100;
    const RUN_HANDLE: u64 = 200;

    fn raw(address: u64, code: u64) -> RawFrame {
        RawFrame { address, code, instruction: 0, is_generator: false }
    }

    fn frame(line: u32) -> Frame {
        Frame { file: "app.py".into(), function: "work".into(), line: Some(line), is_generator: false }
    }

    #[test]
    fn a_callback_is_told_by_the_frame_above_the_loops_own_and_by_its_handle() {
        let code = LoopCode { loops: vec![RUN_ONCE], handle: RUN_HANDLE };
        let stack = [raw(3, 30), raw(2, 20), raw(1, RUN_HANDLE), raw(0, RUN_ONCE)];
        let (callback, depth) = code.callback(&stack, |_| 7).unwrap();
        assert_eq!((callback, depth), (Callback { frame: 2, code: 20, handle: 7 }, 2));
        let (other, _) = code.callback(&stack, |_| 8).unwrap();
        assert_ne!(callback, other);
        assert_eq!(code.callback(&stack[2..], |_| 7), None, "the loop itself is no callback");
    }

    #[test]
    fn one_callback_that_lasts_is_a_block_and_many_that_end_are_not() {
        let mut samples = Samples::default();
        let callback = |handle| Callback { frame: 1, code: 2, handle };
        for line in [1, 2, 3, 4] {
            samples.keep(callback(5), frame(line));
        }
        assert_eq!(samples.busiest(), None);
        samples.clear();
        for (handle, line) in [(1, 9), (2, 9), (3, 4), (4, 9)] {
            samples.keep(callback(handle), frame(line));
        }
        assert_eq!(samples.busiest(), Some(vec![(frame(9), 3), (frame(4), 1)]));
    }
}
