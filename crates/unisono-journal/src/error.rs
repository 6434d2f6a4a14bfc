//! What can go wrong with a results file, and what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// An error of the journal: it names the file, says why, and [`hint`](Error::hint) says what to do.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug)]
pub(crate) enum Reason {
    Io {
        doing: &'static str,
        source: io::Error,
    },
    Exists,
    NotOurs,
    Corrupt {
        line: u64,
        offset: u64,
        why: &'static str,
    },
    /// A run file does not have what it has promised.
    Damaged(Damage),
    /// What stands in the place of a run file is none.
    NoRunFile,
    /// A results file is shorter than it was when notes of what has its line there were let go.
    Cut {
        was: u64,
        is: u64,
    },
    InUse {
        pid: Option<u32>,
    },
    Linked {
        links: u64,
    },
    /// Its run has not ended, and the notes of that are not here.
    Orphan,
    /// Its fingerprints were made by another rule, so its rows are not known again, and some must not be repeated.
    OtherVersion,
    /// The run file beside it has notes of other results, which stood here.
    Replaced,
    Moved,
    Removed,
    /// Cut while it was written.
    Shortened {
        was: u64,
        is: u64,
    },
    Changed {
        row: u64,
    },
    /// A row that was on its way has another id.
    Renamed {
        row: u64,
    },
    /// A row that does not run again asks for something else than its line says.
    Rebound {
        id: String,
        row: u64,
        had: Option<Vec<u8>>,
    },
    /// Two rows of the input have this id.
    SameId {
        id: String,
    },
    /// A line has the id of another row.
    IdTwice {
        line: u64,
    },
    Shrunk {
        rows: u64,
        last: u64,
    },
}

/// What is gone of a run file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// What it says about itself.
    Header,
    /// Its end: it has so many of the notes that it counts.
    Short { has: u64, counts: u64 },
    /// This one of its notes, from 1.
    Note(u64),
    /// Nothing, but another version of unisono has written it.
    Version,
}

impl Error {
    pub(crate) fn new(path: impl Into<PathBuf>, reason: Reason) -> Self {
        Self { path: path.into(), reason }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, doing: &'static str, source: io::Error) -> Self {
        Self::new(path, Reason::Io { doing, source })
    }

    /// Whether the file's reader has gone away, which ends a batch quietly.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(&self.reason, Reason::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether it is the caller's mistake (a file in the way, a changed input) rather than a fault of the machine.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self.reason,
            Reason::Io { .. }
                | Reason::Corrupt { .. }
                | Reason::Damaged(_)
                | Reason::Cut { .. }
                | Reason::Moved
                | Reason::Removed
                | Reason::Shortened { .. }
        )
    }

    /// The line of a row that asks for something else by now, where that is the reason.
    pub fn earlier_line(&self) -> Option<&[u8]> {
        match &self.reason {
            Reason::Rebound { had, .. } => had.as_deref(),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.reason {
            Reason::Exists => "add --resume to go on with it, or --overwrite to start anew",
            Reason::NotOurs => {
                "choose another name for -o; --overwrite would replace it, forget what it holds, and send all rows again"
            }
            Reason::Corrupt { .. } => {
                "look at that line and repair it, restore the file from a backup, or start anew with another -o"
            }
            Reason::Damaged(Damage::Version) => {
                "finish it with the version of unisono that has written it; --adopt takes the results without it: what has no line and must \
                 not be repeated is then `ambiguous`"
            }
            Reason::Damaged(_) => {
                "--adopt takes the results as they are: what has no line and must not be repeated is then `ambiguous`; an earlier state \
                 of the run file does not help, since it knows less"
            }
            Reason::NoRunFile => {
                "move it away; if it was the run file of these results, go on with --adopt: what has no line and must not be repeated is \
                 then `ambiguous`"
            }
            Reason::Cut { .. } => {
                "put back the lines that were there; --adopt takes the file as it is: what has no line and must not be repeated is then \
                 `ambiguous`"
            }
            Reason::Linked { .. } => {
                "remove its other names, or copy it to a name of its own: a run under one name would not know of another"
            }
            Reason::Orphan => {
                "go on with the file it was copied from, or bring its run file (`.run`) beside it; --adopt takes it as it is: \
                 what has no line and must not be repeated is then `ambiguous`, since nobody knows whether it was started"
            }
            Reason::Replaced => {
                "put back the file that its run has written, or rename the run file (`.run`) with the results it belongs to; --adopt \
                 takes this file as it is: what has no line and must not be repeated is then `ambiguous`"
            }
            Reason::OtherVersion => {
                "finish it with the version of unisono that has written it; or start anew with another -o, without the items that \
                 it has as done"
            }
            Reason::Moved => "its lines are where it is now: repeat the command with that name and --resume",
            Reason::Removed | Reason::Shortened { .. } => {
                "repeat the command with --resume: what must not be repeated and may have been started is then `ambiguous`"
            }
            Reason::InUse { .. } => "wait for the other run, or choose another name for -o",
            Reason::Changed { .. } | Reason::Renamed { .. } | Reason::Shrunk { .. } => {
                "use the input of the first run, know rows again by their ids with --rebind, or start anew with another -o"
            }
            Reason::Rebound { .. } => {
                "a row that asks for something else is another piece of work: give it another id, or let it ask for what it did"
            }
            Reason::SameId { .. } => "give each row an id of its own: --rebind knows rows again by nothing else",
            Reason::IdTwice { .. } => {
                "without --rebind rows are known again by their place in the input; otherwise start anew with another -o"
            }
            Reason::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => "free some space, then repeat the command with --resume",
                // As in /proc: the folder is there, and takes no files.
                io::ErrorKind::NotFound if self.path.parent().is_some_and(Path::is_dir) => {
                    "no file can be made in that folder: choose another one"
                }
                io::ErrorKind::NotFound => "create the folder first",
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    "choose a folder you may write to"
                }
                _ => return None,
            },
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Reason::Io { doing, .. } => write!(f, "cannot {doing} `{path}`"),
            Reason::Exists => write!(f, "`{path}` exists already"),
            Reason::NotOurs => write!(f, "`{path}` is not a results file of unisono"),
            Reason::Corrupt { line, offset, why } => {
                write!(f, "`{path}` is damaged at line {line} (byte {offset}): {why}")
            }
            Reason::Damaged(damage) => match damage {
                Damage::Header => write!(f, "`{path}` is damaged: what it says about itself cannot be read"),
                Damage::Short { has, counts } => {
                    write!(f, "`{path}` is damaged: it was cut, and has {has} of {counts} notes")
                }
                Damage::Note(number) => write!(f, "`{path}` is damaged: its note {number} cannot be read"),
                Damage::Version => write!(f, "`{path}` is of another version of unisono, which notes otherwise"),
            },
            Reason::NoRunFile => write!(f, "`{path}` is not a run file of unisono, or it is damaged at its beginning"),
            Reason::Cut { was, is } => {
                write!(f, "`{path}` was cut while its run had not ended: it has {is} bytes, and had {was} or more")
            }
            Reason::InUse { pid: Some(pid) } => write!(f, "`{path}` is in use by another run (process {pid})"),
            Reason::InUse { pid: None } => write!(f, "`{path}` is in use by another process"),
            Reason::Linked { links } => write!(f, "`{path}` is a file with {links} names (hard links)"),
            Reason::Orphan => {
                write!(
                    f,
                    "`{path}` is of a run that has not ended, and its run file is not there: it is a copy, or that was lost"
                )
            }
            Reason::Replaced => {
                write!(
                    f,
                    "`{path}` was edited or replaced while its run had not ended: the run file beside it has notes of other results"
                )
            }
            Reason::OtherVersion => {
                write!(
                    f,
                    "`{path}` tells its items apart by another rule than this version of unisono does, and has some that must not be \
                     repeated"
                )
            }
            Reason::Moved => write!(f, "`{path}` was renamed or replaced while it was written"),
            Reason::Removed => write!(f, "`{path}` was removed while it was written"),
            Reason::Shortened { was, is } => {
                write!(f, "`{path}` was cut while it was written: it has {is} bytes, and had {was}")
            }
            Reason::Changed { row } => {
                write!(f, "the input has changed since `{path}` was begun: row {row} is not what it was")
            }
            Reason::Renamed { row } => {
                write!(
                    f,
                    "the input has changed since `{path}` was begun: row {row} has another id than when it was on its way"
                )
            }
            Reason::Rebound { id, row, .. } => {
                write!(f, "the row `{id}` asks for something else than it did when it was row {row} of `{path}`")
            }
            Reason::SameId { id } => write!(f, "two rows of the input have the id `{id}`"),
            Reason::IdTwice { line } => write!(f, "line {line} of `{path}` has the id of another row"),
            // Numbered as rows are in the results.
            Reason::Shrunk { rows: 0, last } => {
                write!(
                    f,
                    "the input has changed since `{path}` was begun: it has no rows, the results go up to row {last}"
                )
            }
            Reason::Shrunk { rows, last } => {
                let end = rows - 1;
                write!(
                    f,
                    "the input has changed since `{path}` was begun: it ends with row {end}, the results go up to row {last} (both \
                     from 0)"
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
