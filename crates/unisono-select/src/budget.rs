//! How many steps an evaluation may still take.

use std::cell::Cell;

use crate::Error;

/// What is left to spend.
pub struct Budget(Cell<usize>);

impl Budget {
    /// So many steps.
    pub fn new(steps: usize) -> Self {
        Self(Cell::new(steps))
    }

    /// Pays for so many steps.
    pub fn spend(&self, steps: usize) -> Result<(), Error> {
        let left = self.0.get().checked_sub(steps.saturating_add(1)).ok_or_else(Error::work)?;
        self.0.set(left);
        Ok(())
    }
}
