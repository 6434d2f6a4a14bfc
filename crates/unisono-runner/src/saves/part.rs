//! A file on its way: filled without a name, and linked to one when it is whole, so that nothing half-written is ever
//! found.
//!
//! Where the file system can (`O_TMPFILE`), there is no name at all, and nothing is left of it whatever ends us.
//! Elsewhere it is called `.unisono-*.part`, as is what is about to take the place of a file that is there. Such a file
//! is locked for as long as a run fills it; the next run that saves into its folder takes away those that are not
//! locked.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, OFlags, RenameFlags, flock, linkat, renameat_with},
    io::Errno,
};

use super::{names::Seen, paths::folder};

/// A file that is being filled.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    /// Its present name, where it has one.
    named: Option<PathBuf>,
    pub(super) length: u64,
}

impl Part {
    /// A file in the folder of its target, with the mode that the user's files get.
    pub(super) fn beside(target: &Path, swept: &Mutex<HashSet<PathBuf>>) -> io::Result<Self> {
        let folder = folder(target);
        std::fs::create_dir_all(folder)?;
        if lock(swept).insert(folder.to_owned()) {
            sweep(folder);
        }
        let (file, named) = match unnamed(folder)? {
            Some(file) => (file, None),
            None => named(folder)?,
        };
        Ok(Self { file, named, length: 0 })
    }

    /// A file of which only its bytes are wanted.
    pub(super) fn spooled(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(folder)?, named: None, length: 0 })
    }

    pub(super) fn seen(&self) -> io::Result<Seen> {
        self.file.metadata().map(|metadata| Seen::new(&metadata))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    /// Gives it a name that must be free.
    ///
    /// # Errors
    /// With `AlreadyExists` when it is not.
    pub(super) fn place(&mut self, path: &Path) -> io::Result<()> {
        let Some(named) = &self.named else { return self.link(path) };
        match renameat_with(CWD, named, CWD, path, RenameFlags::NOREPLACE) {
            // The file system, or the kernel, does not know how. A link is as exact.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match linkat(CWD, named, CWD, path, AtFlags::empty()) {
                    Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) if !is_there(path)? => {
                        // It has neither: a file that gets this very name in the next microsecond is lost.
                        std::fs::rename(named, path)?;
                    }
                    linked => {
                        linked?;
                        std::fs::remove_file(named)?;
                    }
                }
            }
            renamed => renamed?,
        }
        self.named = None;
        Ok(())
    }

    /// Puts it in the place of a file that is there, whose permissions it takes.
    pub(super) fn replace(&mut self, path: &Path, permissions: u32) -> io::Result<()> {
        self.file.set_permissions(std::fs::Permissions::from_mode(permissions))?;
        if self.named.is_none() {
            // Lock before name, so that no other run sweeps it away.
            flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
            let name = part_name(folder(path));
            self.link(&name)?;
            self.named = Some(name);
        }
        let named = self.named.as_ref().expect("it has just got a name");
        std::fs::rename(named, path)?;
        self.named = None;
        Ok(())
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(linkat(CWD, itself, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.named {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file without a name, where there is such a thing, and a way to give it one.
fn unnamed(folder: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    match OpenOptions::new().read(true).write(true).mode(MODE).custom_flags(flags).open(folder) {
        Ok(file) => Ok(Path::new("/proc/self/fd").exists().then_some(file)),
        Err(error) => match Errno::from_io_error(&error) {
            // Each is what some file system or old kernel says.
            Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS | Errno::NOENT) => Ok(None),
            _ => Err(error),
        },
    }
}

fn named(folder: &Path) -> io::Result<(File, Option<PathBuf>)> {
    for _ in 0..MOST_TRIES {
        let path = part_name(folder);
        let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened?,
        };
        // Another run's sweep may have taken it away between the creation and the lock.
        let is_locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_locked && is_at(&file, &path) {
            return Ok((file, Some(path)));
        }
    }
    Err(io::Error::other("no temporary file can be made"))
}

fn part_name(folder: &Path) -> PathBuf {
    folder.join(format!(".unisono-{:016x}.part", fastrand::u64(..)))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Takes away what was left by runs that were killed. What cannot be taken away does no harm.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_part = name.to_str().is_some_and(|name| name.starts_with(".unisono-") && name.ends_with(".part"));
        if !is_part || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&file, &path) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// A lock whose holders do not panic half way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Less what the umask takes away, as for every file of the user's.
const MODE: u32 = 0o666;
const MOST_TRIES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(folder: &Path, is_named: bool, text: &str) -> Part {
        let (file, named) = if is_named { named(folder).unwrap() } else { (unnamed(folder).unwrap().unwrap(), None) };
        let mut part = Part { file, named, length: 0 };
        part.push(text.as_bytes()).unwrap();
        part
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn with_and_without_a_name_a_file_takes_only_a_name_that_is_free() {
        for is_named in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            part(folder.path(), is_named, "first").place(&path).unwrap();
            let taken = part(folder.path(), is_named, "second").place(&path).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
            part(folder.path(), is_named, "third").replace(&path, 0o604).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "third");
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604);
            drop(part(folder.path(), is_named, "never"));
            assert_eq!(names(folder.path()), ["x"]);
        }
    }

    #[test]
    fn what_is_left_of_a_killed_run_goes_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let used = part(folder.path(), true, "used");
        let left = folder.path().join(".unisono-0000000000000000.part");
        std::fs::write(&left, "left").unwrap();
        std::os::unix::fs::symlink(&left, folder.path().join(".unisono-1.part")).unwrap();
        sweep(folder.path());
        let mut stays = vec![used.named.as_ref().unwrap().file_name().unwrap().to_str().unwrap().to_owned()];
        stays.push(".unisono-1.part".to_owned());
        stays.sort();
        assert_eq!(names(folder.path()), stays);
    }
}
