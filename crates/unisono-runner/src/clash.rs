//! What a run reads and what it writes must not be the same file, by whatever names.
//!
//! Checked before anything is opened to be written to, since opening may already be the end of what was to be read.
//! Files are told apart by device and inode, so links of both kinds, `./` and a redirected standard input are seen
//! through; those that are not there yet by their folder and name. Terminals and devices that keep nothing are no
//! matter.
//!
//! It does not hold for what only a row can name; that is for what opens it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::Error;

/// A file of a run, and what names it: an option, or what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    what: String,
    path: PathBuf,
    identity: Option<FileIdentity>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FileIdentity {
    /// Device and inode.
    There(u64, u64),
    /// Those of its folder, and its name.
    Absent(u64, u64, OsString),
}

impl Named {
    /// A file at a path.
    pub fn new(what: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { what: what.into(), identity: identity(&path), path }
    }

    /// What is read: a file at a path, or standard input when the path is `-`.
    pub fn input(what: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        match path.as_os_str() == "-" {
            true => Self { what: what.into(), identity: open(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)), path },
            false => Self::new(what, path),
        }
    }

    /// Standard output.
    pub fn output() -> Self {
        let identity = open(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3));
        Self { what: "standard output".to_owned(), path: PathBuf::new(), identity }
    }

    /// A results file, and what the journal keeps beside it.
    pub fn results(what: &str, path: &Path) -> Vec<Self> {
        let beside = unisono_journal::beside(path).into_iter().map(|path| Self::new("a file beside the results", path));
        std::iter::once(Self::new(what, path)).chain(beside).collect()
    }
}

/// Refuses a run that writes to what it reads, or twice to one file.
///
/// # Errors
/// When two are the same; it names both.
pub fn refuse_same(reads: &[Named], writes: &[Named]) -> Result<(), Error> {
    for (at, written) in writes.iter().enumerate() {
        let others = reads.iter().map(|read| (read, "read")).chain(writes[..at].iter().map(|other| (other, "written")));
        for (other, verb) in others {
            if written.identity.is_some() && written.identity == other.identity {
                return Err(Error::usage(format!(
                    "{} is the same file as {}, which is {verb}; nothing was opened",
                    shown(written),
                    shown(other)
                ))
                .hint("name another file"));
            }
        }
    }
    Ok(())
}

fn shown(named: &Named) -> String {
    match (named.path.as_os_str().is_empty(), named.path.as_os_str() == "-") {
        (true, _) => named.what.clone(),
        (_, true) => format!("{} `-` (standard input)", named.what),
        _ => format!("{} `{}`", named.what, named.path.display()),
    }
}

/// Nothing where it cannot be the same as another in any way that matters.
fn identity(path: &Path) -> Option<FileIdentity> {
    match fs::metadata(path) {
        Ok(metadata) => there(&metadata),
        Err(_) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let folder = fs::metadata(folder).ok()?;
            Some(FileIdentity::Absent(folder.dev(), folder.ino(), path.file_name()?.to_owned()))
        }
    }
}

fn open(descriptor: rustix::io::Result<std::os::fd::OwnedFd>) -> Option<FileIdentity> {
    there(&File::from(descriptor.ok()?).metadata().ok()?)
}

fn there(metadata: &fs::Metadata) -> Option<FileIdentity> {
    let kind = metadata.file_type();
    let keeps = kind.is_file() || kind.is_block_device() || kind.is_fifo();
    keeps.then(|| FileIdentity::There(metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn one_file_is_seen_through_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("x"), "1").unwrap();
        fs::hard_link(at("x"), at("hard")).unwrap();
        symlink("x", at("soft")).unwrap();
        symlink(folder.path(), at("folder")).unwrap();
        let reads = [Named::input("--from", at("x"))];
        for name in ["x", "./x", "hard", "soft", "folder/x"] {
            let why = refuse_same(&reads, &[Named::new("--out", at(name))]).unwrap_err().to_string();
            assert!(why.contains("--from") && why.contains("--out") && why.contains(name), "{why}");
        }
        refuse_same(&reads, &[Named::new("--out", at("y"))]).unwrap();
    }

    #[test]
    fn files_that_are_not_there_yet_are_told_apart_by_folder_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink(folder.path(), at("folder")).unwrap();
        let save = Named::new("--save", at("folder/x"));
        assert!(refuse_same(&[], &[Named::new("--out", at("x")), save.clone()]).is_err());
        refuse_same(&[], &[Named::new("--out", at("y")), save]).unwrap();
    }

    #[test]
    fn what_the_journal_keeps_beside_results_is_written_too() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("r.jsonl.run");
        fs::write(&run, "").unwrap();
        let writes = Named::results("--out", &folder.path().join("r.jsonl"));
        assert!(refuse_same(&[Named::input("--from", &run)], &writes).is_err());
    }

    #[test]
    fn a_terminal_or_device_may_be_both() {
        let (reads, writes) = ([Named::input("--from", "/dev/null")], [Named::new("--out", "/dev/null")]);
        refuse_same(&reads, &writes).unwrap();
    }
}
