//! The line of an instruction: the table of locations of a code object, since CPython 3.11.
//!
//! Each entry covers up to eight code units of two bytes, with a kind in its first byte and numbers of a variable
//! length behind it (CPython, `Objects/locations.md` of 3.11, `InternalDocs/code_objects.md` since).

/// The kinds of an entry that are not short forms.
const NO_LOCATION: u8 = 15;
const LONG: u8 = 14;
const NO_COLUMNS: u8 = 13;
/// The first of three kinds for one line, which add their distance from this to the line.
const ONE_LINE: u8 = 10;
const BYTES_PER_UNIT: u64 = 2;

/// Returns the line of the instruction at `offset` bytes into the code, which begins at line `first`; `None` where the
/// table has no line for it or ends before.
pub fn line_of(table: &[u8], first: i32, offset: u64) -> Option<u32> {
    let mut numbers = Numbers { rest: table };
    let mut line = i64::from(first);
    let mut end = 0;
    while let Some(head) = numbers.byte() {
        let kind = head >> 3 & 15;
        match kind {
            NO_LOCATION => {}
            LONG => {
                line += numbers.signed()?;
                // Its last line and its two columns.
                for _ in 0..3 {
                    numbers.unsigned()?;
                }
            }
            NO_COLUMNS => line += numbers.signed()?,
            kind if kind >= ONE_LINE => {
                line += i64::from(kind - ONE_LINE);
                numbers.byte()?;
                numbers.byte()?;
            }
            _ => {
                numbers.byte()?;
            }
        }
        end += (u64::from(head & 7) + 1) * BYTES_PER_UNIT;
        if offset < end {
            return if kind == NO_LOCATION { None } else { u32::try_from(line).ok() };
        }
    }
    None
}

/// What is left of a table.
struct Numbers<'a> {
    rest: &'a [u8],
}

impl Numbers<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Six bits a byte, the lowest first; the seventh bit says that more follow.
    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        // More than nine bytes are none of a line.
        for place in 0..9 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x3f) << (6 * place);
            if byte & 0x40 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Its sign is the lowest bit.
    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        let size = i64::try_from(value >> 1).ok()?;
        Some(if value & 1 == 1 { -size } else { size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `compile("a = 1\nb = 2\n\n\nc = a\n", "", "exec").co_linetable` of 3.11, whose first line is 1.
    const TABLE: [u8; 26] = [
        0xf0, 0x03, 0x01, 0x01, 0x01, 0xd8, 0x04, 0x05, 0x80, 0x01, 0xd8, 0x04, 0x05, 0x80, 0x01, 0xf0, 0x06, 0x00,
        0x05, 0x06, 0x80, 0x01, 0x80, 0x01, 0x80, 0x01,
    ];

    #[test]
    fn each_instruction_has_the_line_that_it_was_made_from() {
        let lines: Vec<_> = (0..9).filter_map(|unit| line_of(&TABLE, 1, unit * 2)).collect();
        assert_eq!(lines, [0, 1, 1, 2, 2, 5, 5, 5, 5]);
        assert_eq!(line_of(&TABLE, 1, 18), None);
    }

    proptest! {
        #[test]
        fn no_table_is_read_beyond_its_end(table: Vec<u8>, first: i32, offset in 0..10_000_u64) {
            let _ = line_of(&table, first, offset);
        }
    }
}
