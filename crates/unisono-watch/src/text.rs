//! A `str` of the interpreter, read from memory.

use crate::{layout::TextLayout, memory::Memory};

/// No name of a file or function is longer: what is, is cut or was none.
const CHARACTERS_MAX: u64 = 4096;
const KIND_SHIFT: u32 = 2;
const IS_COMPACT: u32 = 1 << 5;
const IS_ASCII: u32 = 1 << 6;

/// Returns the text of the object at `address`, or `None` where there is none.
pub fn read(address: u64, layout: &TextLayout, memory: &impl Memory) -> Option<String> {
    if address == 0 {
        return None;
    }
    let length = memory.word(address + layout.length)?;
    let state = memory.int(address + layout.state)?.cast_unsigned();
    let width = u64::from(state >> KIND_SHIFT & 7);
    // Others are made by interfaces that 3.12 has taken out, and no name of code is of that kind.
    if length > CHARACTERS_MAX || state & IS_COMPACT == 0 || !matches!(width, 1 | 2 | 4) {
        return None;
    }
    let start = address + if state & IS_ASCII == 0 { layout.other } else { layout.ascii };
    let mut bytes = vec![0; usize::try_from(length * width).ok()?];
    if !memory.read(start, &mut bytes) {
        return None;
    }
    let characters = bytes.chunks_exact(usize::try_from(width).ok()?).map(|character| {
        let code = character.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    });
    Some(characters.collect())
}
