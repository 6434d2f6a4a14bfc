//! Where an interpreter keeps what is looked at: offsets in bytes.

/// Offsets of one version of CPython, with its lock, on a system of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// In the runtime: the first interpreter.
    pub runtime_interpreters: u64,
    /// In an interpreter: its first thread.
    pub interpreter_threads: u64,
    /// In an interpreter: whether the garbage collector is at work (a C `int`).
    pub interpreter_collecting: u64,
    /// The lock.
    pub lock: LockLayout,
    /// In a thread: the next one.
    pub thread_next: u64,
    /// In a thread: the number that the kernel knows it by.
    pub thread_native_id: u64,
    /// In a thread: its innermost frame.
    pub thread_frame: FramePointer,
    /// A frame.
    pub frame: FrameLayout,
    /// An object of code.
    pub code: CodeLayout,
    /// In an object: its type.
    pub object_type: u64,
    /// In a type: the address of its name.
    pub type_name: u64,
    /// In `bytes`: how many there are, and where they begin.
    pub bytes: (u64, u64),
    /// A `str`.
    pub text: TextLayout,
}

/// The interpreter's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLayout {
    /// What the others count from.
    pub of: LockOwner,
    /// The first byte of its state, which a thread that waits for it has the address of.
    pub start: u64,
    /// How many bytes of state there are.
    pub length: u64,
    /// Whether it is held (a C `int`).
    pub locked: u64,
    /// The thread that held it last.
    pub holder: u64,
}

/// What a lock belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOwner {
    /// All interpreters have one lock.
    Runtime,
    /// An interpreter has its own.
    Interpreter,
}

/// How a thread names its innermost frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramePointer {
    /// Its address stands there.
    At(u64),
    /// There stands the address of a structure of C, and in it that of the frame.
    Through(u64, u64),
}

/// A frame of the interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// Bytes before its local variables.
    pub size: u64,
    /// The frame that called it.
    pub previous: u64,
    /// What it executes.
    pub code: u64,
    /// The address of the instruction.
    pub instruction: u64,
    /// One byte: what it lies in.
    pub owner: u64,
    /// The owner that stands for a frame of C, if this version has them.
    pub owner_is_c: Option<u8>,
}

/// The owner of a frame that lies in a generator or coroutine.
pub const OWNER_IS_GENERATOR: u8 = 1;

/// An object of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLayout {
    /// The name of its file.
    pub file: u64,
    /// Its qualified name.
    pub name: u64,
    /// The table of lines (`bytes`).
    pub lines: u64,
    /// Its first line (a C `int`).
    pub first_line: u64,
    /// The first instruction.
    pub instructions: u64,
}

/// A `str`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLayout {
    /// How many characters.
    pub length: u64,
    /// The bits that say how wide a character is.
    pub state: u64,
    /// Where the characters of ASCII begin.
    pub ascii: u64,
    /// Where those of any other begin.
    pub other: u64,
}

/// Why an interpreter cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing is known of this version.
    Version,
    /// Its own offsets cannot be read, or are none.
    NoOffsets,
    /// Its own offsets are not those that were known.
    OtherOffsets,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Version => "its version is not known",
            Self::NoOffsets => "it does not say where its structures are",
            Self::OtherOffsets => "its structures are not where this version has them",
        })
    }
}
