//! An interpreter as its memory shows it: its threads, their stacks, who has its lock, and whether it collects garbage.

use crate::{
    layout::{FramePointer, Layout, LockOwner, OWNER_IS_GENERATOR},
    lines,
    memory::Memory,
    text,
};

/// Deeper stacks are cut: the innermost frames say where a thread is.
const FRAMES_MAX: usize = 1000;
/// More threads than any program has, so that a list that is changed meanwhile is left.
const THREADS_MAX: usize = 10_000;
/// Two looks at a stack must agree, or neither was one; a thread that calls and returns all the time needs some.
const LOOKS_MAX: usize = 20;
/// No table of lines is longer: a function of a hundred thousand lines.
const LINE_TABLE_MAX: u64 = 1 << 20;

/// An interpreter that is looked at.
#[derive(Debug, Clone)]
pub struct Interpreter<M> {
    memory: M,
    layout: Layout,
    /// The address of its `_PyRuntime`.
    runtime: u64,
    /// The address of its state.
    state: u64,
    /// The address of `PyCode_Type`, which every object of code begins with.
    code_type: u64,
}

/// A thread of the interpreter, by the address of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thread(pub u64);

/// Who has the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockHolder {
    /// It is free.
    Nothing,
    /// This thread.
    Thread(Thread),
    /// It cannot be read.
    Unreadable,
}

/// A frame before its names are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// Where it lies.
    pub address: u64,
    /// What it executes.
    pub code: u64,
    /// The address of its instruction.
    pub instruction: u64,
    /// Whether it is one of a generator or coroutine.
    pub is_generator: bool,
}

/// A frame by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The file that its code came from.
    pub file: String,
    /// The function's qualified name.
    pub function: String,
    /// The line that it stands at.
    pub line: Option<u32>,
    /// Whether it is one of a generator or coroutine.
    pub is_generator: bool,
}

impl<M: Memory> Interpreter<M> {
    /// The interpreter whose state is at `state`.
    pub fn new(memory: M, layout: Layout, runtime: u64, state: u64, code_type: u64) -> Self {
        Self { memory, layout, runtime, state, code_type }
    }

    /// Its threads, the newest first.
    pub fn threads(&self) -> Vec<Thread> {
        let mut threads = Vec::new();
        let mut next = self.memory.word(self.state + self.layout.interpreter_threads);
        while let Some(address) = next.filter(|address| *address != 0) {
            if threads.len() == THREADS_MAX {
                break;
            }
            threads.push(Thread(address));
            next = self.memory.word(address + self.layout.thread_next);
        }
        threads
    }

    /// The number that the kernel knows a thread by.
    pub fn native_id(&self, thread: Thread) -> Option<u64> {
        self.memory.word(thread.0 + self.layout.thread_native_id)
    }

    /// Who has the lock at this moment.
    pub fn lock_holder(&self) -> LockHolder {
        let lock = &self.layout.lock;
        let base = self.lock_owner();
        match (self.memory.int(base + lock.locked), self.memory.word(base + lock.holder)) {
            // It is -1 before threads are used.
            (Some(locked), Some(_)) if locked <= 0 => LockHolder::Nothing,
            (Some(_), Some(holder)) => LockHolder::Thread(Thread(holder)),
            _ => LockHolder::Unreadable,
        }
    }

    /// Whether an address, such as a futex's, lies in the state of the lock.
    pub fn is_of_lock(&self, address: u64) -> bool {
        let start = self.lock_owner() + self.layout.lock.start;
        (start..start + self.layout.lock.length).contains(&address)
    }

    fn lock_owner(&self) -> u64 {
        match self.layout.lock.of {
            LockOwner::Runtime => self.runtime,
            LockOwner::Interpreter => self.state,
        }
    }

    /// Whether the garbage collector is at work.
    pub fn is_collecting(&self) -> bool {
        self.memory.int(self.state + self.layout.interpreter_collecting) == Some(1)
    }

    /// The stack of a thread, the innermost frame first: two looks that agreed on what is executed where. `None` when
    /// there were none, since the thread calls and returns all the time or is gone.
    pub fn stack(&self, thread: Thread) -> Option<Vec<RawFrame>> {
        let mut before = self.stack_once(thread);
        for _ in 0..LOOKS_MAX {
            let now = self.stack_once(thread);
            if let (Some(first), Some(second)) = (&before, &now)
                && first.len() == second.len()
                && first.iter().zip(second).all(|(one, other)| (one.address, one.code) == (other.address, other.code))
            {
                return now;
            }
            before = now;
        }
        None
    }

    /// The frame of a thread from which its outermost coroutine or generator is called.
    pub fn base(&self, thread: Thread) -> Option<RawFrame> {
        let stack = self.stack(thread)?;
        let outermost = stack.iter().rposition(|frame| frame.is_generator)?;
        stack.get(outermost + 1).copied()
    }

    /// The address of the instruction that a thread executes.
    pub fn instruction(&self, thread: Thread) -> Option<u64> {
        let layout = &self.layout.frame;
        let mut next = self.innermost(thread)?;
        for _ in 0..FRAMES_MAX {
            let (code, mut owner) = (self.memory.word(next + layout.code)?, [0]);
            if !self.memory.read(next + layout.owner, &mut owner) {
                return None;
            }
            if layout.owner_is_c != Some(owner[0]) && code != 0 {
                return self.memory.word(next + layout.instruction);
            }
            next = self.memory.word(next + layout.previous).filter(|address| *address != 0)?;
        }
        None
    }

    /// The first local variable of a frame: the address of an object, or 0.
    pub fn first_local(&self, frame: &RawFrame) -> Option<u64> {
        self.memory.word(frame.address + self.layout.frame.size)
    }

    fn innermost(&self, thread: Thread) -> Option<u64> {
        match self.layout.thread_frame {
            FramePointer::At(place) => self.memory.word(thread.0 + place),
            FramePointer::Through(place, inner) => {
                let between = self.memory.word(thread.0 + place)?;
                self.memory.word(between + inner)
            }
        }
    }

    fn stack_once(&self, thread: Thread) -> Option<Vec<RawFrame>> {
        let mut next = self.innermost(thread)?;
        let layout = &self.layout.frame;
        let mut bytes = vec![0; usize::try_from(layout.size).ok()?];
        let word = |bytes: &[u8], place: u64| {
            let place = usize::try_from(place).ok()?;
            let word = bytes.get(place..place + 8)?;
            Some(u64::from_ne_bytes(word.try_into().ok()?))
        };
        let mut frames = Vec::new();
        while next != 0 && frames.len() < FRAMES_MAX {
            let address = next;
            if !self.memory.read(address, &mut bytes) {
                return None;
            }
            let owner = *bytes.get(usize::try_from(layout.owner).ok()?)?;
            next = word(&bytes, layout.previous)?;
            let (code, instruction) = (word(&bytes, layout.code)?, word(&bytes, layout.instruction)?);
            if layout.owner_is_c == Some(owner) || code == 0 {
                continue;
            }
            if self.memory.word(code + self.layout.object_type)? != self.code_type {
                return None;
            }
            frames.push(RawFrame { address, code, instruction, is_generator: owner == OWNER_IS_GENERATOR });
        }
        Some(frames)
    }

    /// The names of a frame, or `None` when its code is gone.
    pub fn named(&self, frame: &RawFrame) -> Option<Frame> {
        let code = &self.layout.code;
        let text_at = |place| text::read(self.memory.word(frame.code + place)?, &self.layout.text, &self.memory);
        Some(Frame {
            file: text_at(code.file)?,
            function: text_at(code.name)?,
            line: self.line(frame),
            is_generator: frame.is_generator,
        })
    }

    fn line(&self, frame: &RawFrame) -> Option<u32> {
        let code = &self.layout.code;
        let first = self.memory.int(frame.code + code.first_line)?;
        // It stands before the first instruction of a frame that has not begun.
        let Some(offset) = frame.instruction.checked_sub(frame.code + code.instructions) else {
            return u32::try_from(first).ok();
        };
        let table = self.memory.word(frame.code + code.lines)?;
        let (length, start) = self.layout.bytes;
        let length = self.memory.word(table + length)?;
        if length > LINE_TABLE_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        if !self.memory.read(table + start, &mut bytes) {
            return None;
        }
        lines::line_of(&bytes, first, offset)
    }
}
