//! What is known of the rows of a results file, in two bits each, and whether an input has the same rows.
//!
//! The input is compared as it streams past, by a checksum per 1,024 rows over the fingerprints of those that have a
//! line. Of a block that differs the fingerprints are at hand, so that the lines tell which row it was.

use std::collections::HashMap;

/// What a row's lines and notes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    /// Nothing.
    Unknown,
    /// It has its outcome.
    Kept,
    /// More than fits into two bits.
    Special,
    /// It may run again.
    Again,
}

/// Rows by their numbers.
#[derive(Debug, Default)]
pub(crate) struct RowTable {
    /// By number: only those that have a line take room, so that an absurd number of a row costs no more than any
    /// other.
    blocks: HashMap<u64, Block>,
    input: InputBlock,
}

/// What is known of the rows of one block.
#[derive(Debug)]
struct Block {
    /// Two bits per row.
    states: [u64; BLOCK_ROWS as usize / 32],
    /// The sum of what those that count hash to.
    sum: u64,
}

/// The present block of the input.
#[derive(Debug, Default)]
struct InputBlock {
    number: u64,
    sum: u64,
    fingerprints: Vec<u64>,
}

impl RowTable {
    pub(crate) fn get(&self, row: u64) -> RowState {
        self.blocks.get(&(row / BLOCK_ROWS)).map_or(RowState::Unknown, |block| block.get(row % BLOCK_ROWS))
    }

    pub(crate) fn set(&mut self, row: u64, state: RowState) {
        self.blocks.entry(row / BLOCK_ROWS).or_default().set(row % BLOCK_ROWS, state);
    }

    /// Counts a row into its block's sum. To be called once for each, before it is set.
    pub(crate) fn count(&mut self, row: u64, fingerprint: u64) {
        let block = self.blocks.entry(row / BLOCK_ROWS).or_default();
        block.sum = block.sum.wrapping_add(mix(row, fingerprint));
    }

    /// How many rows are kept.
    pub(crate) fn kept(&self) -> u64 {
        self.blocks.values().map(Block::kept).sum()
    }

    /// Whether this row of the input begins another block than the last one was in.
    pub(crate) fn begins_block(&self, row: u64) -> bool {
        row / BLOCK_ROWS != self.input.number
    }

    /// Takes in the next row of the input. Where it begins a block, the one before is to have been compared.
    pub(crate) fn pass(&mut self, row: u64, fingerprint: u64) {
        if self.begins_block(row) {
            self.input = InputBlock { number: row / BLOCK_ROWS, ..InputBlock::default() };
        }
        self.input.fingerprints.push(fingerprint);
        if self.get(row) != RowState::Unknown {
            self.input.sum = self.input.sum.wrapping_add(mix(row, fingerprint));
        }
    }

    /// Whether the input's present block has the rows that have a line.
    pub(crate) fn is_same(&self) -> bool {
        self.input.sum == self.blocks.get(&self.input.number).map_or(0, |block| block.sum)
    }

    /// Whether the input's present block has another row where this line has its own.
    pub(crate) fn differs(&self, row: u64, fingerprint: u64) -> bool {
        let at = row.wrapping_sub(self.input.number * BLOCK_ROWS) as usize;
        self.get(row) != RowState::Unknown && self.input.fingerprints.get(at).is_some_and(|ours| *ours != fingerprint)
    }

    /// The number of the row after those of the input's present block that were taken in.
    pub(crate) fn next_row(&self) -> u64 {
        self.input.number * BLOCK_ROWS + self.input.fingerprints.len() as u64
    }
}

impl Default for Block {
    fn default() -> Self {
        Self { states: [0; BLOCK_ROWS as usize / 32], sum: 0 }
    }
}

impl Block {
    fn get(&self, row: u64) -> RowState {
        match self.states[(row / 32) as usize] >> (row % 32 * 2) & 0b11 {
            0 => RowState::Unknown,
            1 => RowState::Kept,
            2 => RowState::Special,
            _ => RowState::Again,
        }
    }

    fn set(&mut self, row: u64, state: RowState) {
        let (word, shift) = (&mut self.states[(row / 32) as usize], row % 32 * 2);
        *word = *word & !(0b11 << shift) | (state as u64) << shift;
    }

    /// How many rows are in the state `Kept`, of whose two bits the lower one alone is set.
    fn kept(&self) -> u64 {
        let lower = |word: &u64| u64::from((word & !(word >> 1) & LOWER_BITS).count_ones());
        self.states.iter().map(lower).sum()
    }
}

/// Mixes a row and its fingerprint, so that exchanged rows do not cancel out. The finalizer of `MurmurHash3`.
fn mix(row: u64, fingerprint: u64) -> u64 {
    let mut hash = fingerprint ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// The lower bit of each row's two.
const LOWER_BITS: u64 = 0x5555_5555_5555_5555;
const BLOCK_ROWS: u64 = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [RowState; 4] = [RowState::Unknown, RowState::Kept, RowState::Special, RowState::Again];

    proptest! {
        #[test]
        fn each_row_has_the_state_it_was_last_given_and_those_that_are_kept_are_counted(
            given in prop::collection::vec((0u64..3000, 0usize..4), 0..200),
        ) {
            let (mut table, mut last) = (RowTable::default(), HashMap::new());
            for (row, state) in given {
                table.set(row, STATES[state]);
                last.insert(row, STATES[state]);
            }
            for row in 0..3000 {
                prop_assert_eq!(table.get(row), last.get(&row).copied().unwrap_or(RowState::Unknown));
            }
            prop_assert_eq!(table.kept(), last.values().filter(|state| **state == RowState::Kept).count() as u64);
        }

        #[test]
        fn an_input_that_differs_in_any_row_with_a_line_is_another_one_and_that_row_is_named(
            with_line in prop::collection::hash_set(0u64..1500, 1..50), other: prop::sample::Index,
        ) {
            let mut table = RowTable::default();
            for row in &with_line {
                table.count(*row, row * 7);
                table.set(*row, RowState::Kept);
            }
            let other = *other.get(&Vec::from_iter(with_line.iter().copied()));
            let last = with_line.iter().copied().max().unwrap();
            for changed in [None, Some(other)] {
                table.input = InputBlock::default();
                for row in 0..=last {
                    if table.begins_block(row) {
                        prop_assert_eq!(table.is_same(), changed.is_none_or(|changed| changed >= row));
                    }
                    table.pass(row, row * 7 + u64::from(changed == Some(row)));
                    prop_assert_eq!(table.next_row(), row + 1);
                    if !table.is_same() && changed == Some(row) {
                        prop_assert!(table.differs(row, row * 7));
                    }
                }
                if changed.is_none_or(|changed| changed / BLOCK_ROWS == last / BLOCK_ROWS) {
                    prop_assert_eq!(table.is_same(), changed.is_none());
                }
            }
        }
    }
}
