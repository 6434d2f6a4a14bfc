//! CPython 3.11: one lock for all interpreters, and frames behind a structure of C.

use crate::layout::{CodeLayout, FrameLayout, FramePointer, Layout, LockLayout, LockOwner, TextLayout};

/// By the headers of 3.11.
pub const LAYOUT: Layout = Layout {
    runtime_interpreters: 40,
    interpreter_threads: 16,
    interpreter_collecting: 848,
    lock: LockLayout { of: LockOwner::Runtime, start: 360, length: 208, locked: 376, holder: 368 },
    thread_next: 8,
    thread_native_id: 160,
    thread_frame: FramePointer::Through(56, 8),
    frame: FrameLayout { size: 72, previous: 48, code: 32, instruction: 56, owner: 69, owner_is_c: None },
    code: CodeLayout { file: 112, name: 128, lines: 136, first_line: 72, instructions: 184 },
    object_type: 8,
    type_name: 24,
    bytes: (16, 32),
    text: TextLayout { length: 16, state: 32, ascii: 48, other: 72 },
};
