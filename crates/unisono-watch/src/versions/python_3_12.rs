//! CPython 3.12: a lock for each interpreter, and frames behind a structure of C.

use crate::layout::{CodeLayout, FrameLayout, FramePointer, Layout, LockLayout, LockOwner, TextLayout};

/// By the headers of 3.12.
pub const LAYOUT: Layout = Layout {
    runtime_interpreters: 40,
    interpreter_threads: 72,
    interpreter_collecting: 312,
    lock: LockLayout { of: LockOwner::Interpreter, start: 1040, length: 208, locked: 1056, holder: 1048 },
    thread_next: 8,
    thread_native_id: 144,
    thread_frame: FramePointer::Through(56, 0),
    frame: FrameLayout { size: 72, previous: 8, code: 0, instruction: 56, owner: 70, owner_is_c: Some(3) },
    code: CodeLayout { file: 112, name: 128, lines: 136, first_line: 68, instructions: 192 },
    object_type: 8,
    type_name: 24,
    bytes: (16, 32),
    text: TextLayout { length: 16, state: 32, ascii: 40, other: 56 },
};
