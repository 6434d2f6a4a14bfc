//! Where a file is: its name resolved once, which file that is, and new files beside it.
//!
//! Nothing here follows or truncates what it has not made: what is opened by a resolved name must not be a link, and a
//! new file has a name that cannot be guessed and is made with `O_EXCL`.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    ops::{Deref, DerefMut},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};
use tempfile::NamedTempFile;

use crate::steps::step;

/// Which file it is on its file system, whatever its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
}

impl Inode {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// The name that a path leads to: links are followed, that of a file which is not there yet included.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = folder_of(&path).canonicalize()?;
        let Some(name) = path.file_name() else {
            // `..` or `/`: a folder, as the open that follows will say.
            return path.canonicalize();
        };
        let resolved = folder.join(name);
        match std::fs::read_link(&resolved) {
            Ok(target) => path = folder.join(target),
            // No link, or nothing at all.
            Err(_) => return Ok(resolved),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Opens what has this name, for reading and writing, and makes it if `create` says so. Never follows a link.
pub(crate) fn open(path: &Path, create: bool) -> io::Result<File> {
    // Not blocking: there may be a pipe by now.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(flags.bits() as i32);
    if create { options.create_new(true) } else { &mut options }.open(path)
}

/// A file whose lock goes with it.
#[derive(Debug)]
pub(crate) struct Locked(pub(crate) File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing would do it too, but not while a child that is just being started still has a copy of the descriptor.
        // What is not locked bears it.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

/// Whether no other process holds the lock of this file; it is ours then, until the file is closed.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether this name leads to this file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => Inode::of(&ours) == Inode::of(&theirs),
        _ => false,
    }
}

/// Makes a new file beside this one, locked before its name can be known. It goes away unless it is [put](put)
/// somewhere.
pub(crate) fn beside(path: &Path, run: u64, mode: u32) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(&temporary_prefix(run))
        .suffix(TEMPORARY)
        .permissions(std::fs::Permissions::from_mode(mode & 0o777))
        .tempfile_in(folder_of(path))?;
    // The umask has taken its part of the mode; the file whose place it takes had gone through one already.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
    // It is granted: the file's name is not known to any other process yet.
    try_lock(file.as_file())?;
    Ok(file)
}

/// Gives a new file its name, in the place of whatever has it.
pub(crate) fn put(file: NamedTempFile, path: &Path) -> io::Result<Locked> {
    let file = Locked(file.persist(path).map_err(|error| error.error)?);
    // What comes next counts on the new file, and a power cut may undo a rename that is not durable.
    sync_folder(path)?;
    Ok(file)
}

/// Gives a file another name, if that is free.
pub(crate) fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
    sync_folder(to)
}

/// Removes what killed runs have left of new files for this run. Its run file must be locked.
pub(crate) fn remove_left_over(path: &Path, run: u64) {
    let prefix = temporary_prefix(run);
    let is_ours = |name: &str| name.starts_with(&prefix) && name.ends_with(TEMPORARY);
    // They only take room, so whatever cannot be read or removed stays.
    for entry in std::fs::read_dir(folder_of(path)).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_ours) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Makes a rename or a removal in a file's folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    step("folder: sync")?;
    File::open(folder_of(path))?.sync_all()
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_prefix(run: u64) -> String {
    format!(".unisono-{run:016x}-")
}

const TEMPORARY: &str = ".tmp";
/// As many as Linux follows.
const MOST_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_resolved_to_the_end_of_its_links_even_where_nothing_is_yet() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("linked")).unwrap();
        symlink("../linked/file", root.join("real/one")).unwrap();
        symlink(root.join("real/one"), root.join("two")).unwrap();
        assert_eq!(resolve(&root.join("two")).unwrap(), root.join("real/file"));
        std::fs::write(root.join("real/file"), "").unwrap();
        assert_eq!(resolve(&root.join("two")).unwrap(), root.join("real/file"));
        symlink("loop", root.join("loop")).unwrap();
        assert!(resolve(&root.join("loop")).is_err());
        assert_eq!(resolve(&root.join("no/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
