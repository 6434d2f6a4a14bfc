//! What the watchdog tells.

use std::time::Duration;

use crate::{
    cause::Cause,
    interpreter::{Frame, Thread},
    origin::Origin,
};

/// One thing to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A loop stands still, or is late.
    Stall(Box<Stall>),
    /// A loop that was told to stand still goes on.
    Ended(Ended),
}

/// A loop that stands still.
#[derive(Debug, Clone, PartialEq)]
pub struct Stall {
    /// The thread that the loop runs in.
    pub thread: ThreadName,
    /// How long so far, at the least.
    pub age: Duration,
    /// Whether it was told before.
    pub again: bool,
    /// How often a stall at this line was kept back since the last one that was told.
    pub kept_back: u64,
    /// Why.
    pub kind: Kind,
    /// Who has the interpreter's lock meanwhile, and at which lines, where another thread has it.
    pub holder: Option<Holder>,
}

impl Stall {
    /// The line to blame: the program's own, as far as there is one; none where no line is to blame.
    pub fn place(&self, origin: &Origin) -> Option<&Frame> {
        match (&self.kind, &self.holder) {
            (Kind::Blocked { cause: Cause::NoCpu, .. }, _) => None,
            // The loop only waits until the other thread lets go of the lock.
            (Kind::Blocked { .. }, Some(holder)) => origin.place(&holder.stack),
            (Kind::Blocked { stack, .. }, None) => origin.place(stack),
            (Kind::Late { lines }, _) => lines.first().map(|(frame, _)| frame),
        }
    }
}

/// How a loop comes not to answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// One callback lasts.
    Blocked {
        /// What it is doing.
        cause: Cause,
        /// Where it stands, the innermost frame first; none where that cannot be read.
        stack: Vec<Frame>,
    },
    /// Many callbacks are ready at once; the busiest lines with how often each was seen, of how many looks.
    Late {
        /// The busiest first.
        lines: Vec<(Frame, usize)>,
    },
}

/// A thread as its program and the kernel know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadName {
    /// The name that the program gave it.
    pub name: String,
    /// The kernel's number.
    pub id: u64,
}

/// A thread that has the interpreter's lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// Which.
    pub thread: Thread,
    /// The kernel's number, where it can be read.
    pub id: Option<u64>,
    /// Where it stands, the innermost frame first.
    pub stack: Vec<Frame>,
}

/// The end of a stall.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The thread that the loop runs in.
    pub thread: ThreadName,
    /// How long it was.
    pub whole: Duration,
    /// Where it was seen last.
    pub place: Option<Frame>,
}
