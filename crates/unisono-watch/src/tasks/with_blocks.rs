//! Which `with` a function is inside of, by the table of its code that says what handles an exception.
//!
//! A context manager that was entered lies on the stack of the function, but not the line that entered it. The table
//! (CPython 3.11 and newer, Objects/exception_handling_notes.txt) leads from the instruction that a function stands at
//! to what handles an exception there, and from that to what handles one there. The handlers of a `with` begin with one
//! instruction of their own, and have the line of the `with`.

/// Numbers of instructions, which each version has others of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions {
    /// `PUSH_EXC_INFO`, by which every handler begins.
    pub push: u8,
    /// `WITH_EXCEPT_START`, which calls `__exit__` or `__aexit__`.
    pub with: u8,
}

/// Where in the code the handlers of each `with` begin that the instruction at `at` is inside of, in bytes, the
/// innermost first.
pub fn with_blocks(table: &[u8], code: &[u8], at: usize, instructions: Instructions) -> Vec<usize> {
    let entries = entries(table);
    let mut found = Vec::new();
    let mut at = at;
    // Each step leads out of a block, and there are no more of these than entries.
    for _ in 0..=entries.len() {
        let Some(entry) = entries.iter().find(|entry| (entry.start..entry.end).contains(&at)) else { break };
        let [push, _, with, _] = code.get(entry.handler..entry.handler + 4).unwrap_or_default() else { break };
        if (*push, *with) == (instructions.push, instructions.with) {
            found.push(entry.handler);
        }
        at = entry.handler;
    }
    found
}

/// What handles an exception between two instructions, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    start: usize,
    end: usize,
    handler: usize,
}

/// The entries of a table, up to the first that is cut off.
fn entries(table: &[u8]) -> Vec<Entry> {
    let mut left = table.iter().copied();
    let mut entries = Vec::new();
    while let Some(entry) = entry(&mut left) {
        entries.push(entry);
    }
    entries
}

fn entry(left: &mut impl Iterator<Item = u8>) -> Option<Entry> {
    let (start, length, handler) = (number(left)?, number(left)?, number(left)?);
    // How deep the stack is then, and whether the instruction is to be kept.
    number(left)?;
    let bytes = |units: usize| units.checked_mul(UNIT);
    Some(Entry { start: bytes(start)?, end: bytes(start.checked_add(length)?)?, handler: bytes(handler)? })
}

/// Six bits a byte, the highest first; the seventh says that there are more.
fn number(left: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut number = 0_usize;
    loop {
        let byte = left.next()?;
        number = number.checked_mul(64)? | usize::from(byte & 63);
        if byte & 64 == 0 {
            return Some(number);
        }
    }
}

/// An instruction has two bytes.
const UNIT: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INSTRUCTIONS: Instructions = Instructions { push: 35, with: 49 };

    #[test]
    fn nested_blocks_are_found_from_the_inside() {
        // Units 2 to 7 are handled at 20 (a `with`), 8 to 9 at 30 (an `except`), and what is at 20 at 30, which is at
        // 40.
        let table = [0x82, 6, 20, 2, 0x88, 2, 30, 2, 0x94, 4, 30, 4, 0x9e, 4, 40, 2];
        let mut code = [0_u8; 100];
        for (handler, second) in [(20, 49), (30, 36), (40, 49)] {
            code[handler * UNIT] = 35;
            code[handler * UNIT + 2] = second;
        }
        assert_eq!(with_blocks(&table, &code, 6, INSTRUCTIONS), [40, 80]);
        assert_eq!(with_blocks(&table, &code, 16, INSTRUCTIONS), [80]);
        assert_eq!(with_blocks(&table, &code, 2, INSTRUCTIONS), [0; 0]);
    }

    #[test]
    fn large_numbers_take_several_bytes() {
        assert_eq!(entries(&[0x80 | 64 | 1, 2, 3, 4, 0]), [Entry { start: 132, end: 138, handler: 8 }]);
    }

    proptest! {
        #[test]
        fn any_table_and_any_code_are_read_to_an_end(table: Vec<u8>, code: Vec<u8>, at in 0..500_usize) {
            let found = with_blocks(&table, &code, at, INSTRUCTIONS);
            prop_assert!(found.len() <= table.len());
        }
    }
}
