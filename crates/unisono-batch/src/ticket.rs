//! The number of an item at a machine.

/// Names an item while it is undecided. A stale one is recognised by its generation and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Ticket {
    /// An index below the number of items that were ever undecided at once: where a driver keeps the payload.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}
