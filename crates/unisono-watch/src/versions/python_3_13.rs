//! CPython 3.13: a lock for each interpreter, and offsets that the interpreter says itself (`_Py_DebugOffsets`).

use crate::layout::{CodeLayout, FrameLayout, FramePointer, Layout, LockLayout, LockOwner, TextLayout, Unknown};
use crate::memory::Memory;

/// The first bytes of the table of an interpreter that has one.
const COOKIE: [u8; 8] = *b"xdebugpy";
/// How long the table of 3.13 is.
const TABLE_BYTES: usize = 584;
/// More than the longest structure: what says more is no offset.
const LIMIT: u64 = 1 << 20;

/// What the interpreter says, of the version whose `PY_VERSION_HEX` is `hex`.
///
/// The table tells neither how long the state of the lock is nor which owner stands for a frame of C.
///
/// # Errors
/// When there is no such table, or that of another version.
pub fn read(runtime: u64, hex: u32, memory: &impl Memory) -> Result<Layout, Unknown> {
    let mut table = [0; TABLE_BYTES];
    if !memory.read(runtime, &mut table) || table[..8] != COOKIE {
        return Err(Unknown::NoOffsets);
    }
    let at = |place: usize| {
        let word = table[place..place + 8].try_into().expect("eight bytes are eight bytes");
        let offset = u64::from_ne_bytes(word);
        if offset < LIMIT { Ok(offset) } else { Err(Unknown::OtherOffsets) }
    };
    let version = u64::from_ne_bytes(table[8..16].try_into().expect("eight bytes are eight bytes"));
    if version != u64::from(hex) {
        return Err(Unknown::OtherOffsets);
    }
    let ascii = at(560)?;
    Ok(Layout {
        runtime_interpreters: at(40)?,
        interpreter_threads: at(72)?,
        interpreter_collecting: at(80)? + at(576)?,
        lock: LockLayout {
            of: LockOwner::Interpreter,
            start: at(120)?,
            length: 208,
            locked: at(136)?,
            holder: at(144)?,
        },
        thread_next: at(168)?,
        thread_native_id: at(200)?,
        thread_frame: FramePointer::At(at(184)?),
        frame: FrameLayout {
            size: at(256)?,
            previous: at(232)?,
            code: at(240)?,
            instruction: at(248)?,
            owner: at(264)?,
            owner_is_c: Some(3),
        },
        code: CodeLayout {
            file: at(280)?,
            name: at(296)?,
            lines: at(304)?,
            first_line: at(312)?,
            instructions: at(344)?,
        },
        object_type: at(360)?,
        type_name: at(376)?,
        bytes: (at(520)?, at(528)?),
        // A string that is not of ASCII has the length and the address of its UTF-8 before its characters.
        text: TextLayout { length: at(552)?, state: at(544)?, ascii, other: ascii + 16 },
    })
}
