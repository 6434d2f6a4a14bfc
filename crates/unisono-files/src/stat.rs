//! What a file is, and what it was when it was read.

use std::{fmt, path::Path};

use rustix::fs::{FileType, Stat as RawStat};

/// What tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// When its content was last changed, in nanoseconds since 1970; 64 bits last until 2262.
    pub mtime_ns: i64,
    /// When its content or attributes were last changed, in nanoseconds since 1970. It cannot be set back.
    pub ctime_ns: i64,
    /// Its number within its file system.
    pub inode: u64,
}

impl Stat {
    /// What a file is now, links followed; `None` when that cannot be told.
    pub fn look(path: &Path) -> Option<Self> {
        rustix::fs::stat(path).ok().as_ref().map(Self::of)
    }

    pub(crate) fn of(raw: &RawStat) -> Self {
        let nanoseconds = |seconds: i64, rest: u64| seconds.saturating_mul(1_000_000_000).saturating_add_unsigned(rest);
        Self {
            size: u64::try_from(raw.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(raw.st_mtime, raw.st_mtime_nsec),
            ctime_ns: nanoseconds(raw.st_ctime, raw.st_ctime_nsec),
            inode: raw.st_ino,
        }
    }
}

/// What is no regular file, and has no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// A folder.
    Folder,
    /// A symbolic link that is not followed.
    SymbolicLink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// What the run itself writes, which has not come to its end.
    Output,
    /// Something that this system has and we do not know.
    Unknown,
}

impl Special {
    /// What a file is, unless it is regular.
    pub(crate) fn of(file_type: FileType) -> Option<Self> {
        match file_type {
            FileType::RegularFile => None,
            FileType::Directory => Some(Self::Folder),
            FileType::Symlink => Some(Self::SymbolicLink),
            FileType::Fifo => Some(Self::Fifo),
            FileType::Socket => Some(Self::Socket),
            FileType::CharacterDevice => Some(Self::CharacterDevice),
            FileType::BlockDevice => Some(Self::BlockDevice),
            _ => Some(Self::Unknown),
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::SymbolicLink => "symbolic_link",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharacterDevice | Self::BlockDevice => "device",
            Self::Output => "output",
            Self::Unknown => "unknown",
        }
    }

    /// What this word stands for: one of its kinds, where it has several.
    pub fn named(word: &str) -> Option<Self> {
        let all = [
            Self::Folder,
            Self::SymbolicLink,
            Self::Fifo,
            Self::Socket,
            Self::CharacterDevice,
            Self::Output,
            Self::Unknown,
        ];
        all.into_iter().find(|special| special.as_str() == word)
    }

    /// Why it is not read.
    pub fn why(self) -> &'static str {
        match self {
            Self::Folder => "it is a folder",
            Self::SymbolicLink => "it is a symbolic link",
            Self::Fifo => "it is a FIFO",
            Self::Socket => "it is a socket",
            Self::CharacterDevice => "it is a character device",
            Self::BlockDevice => "it is a block device",
            Self::Output => "this run writes it",
            Self::Unknown => "it is no regular file",
        }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}
