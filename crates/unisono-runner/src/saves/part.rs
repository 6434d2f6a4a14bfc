//! A file on its way: filled without a name, and linked to one when it is whole, so that nothing half-written is ever
//! found.
//!
//! Where the file system can (`O_TMPFILE`), there is no name at all, and nothing is left of it whatever ends us.
//! Elsewhere it is called `.unisono-*.part`, as is what is about to take the place of a file that is there, and what a
//! later run may go on with (`growing.rs`), which has a note beside it. Such a file is locked for as long as a run
//! fills it; the next run that saves into its folder takes away those that are not locked, and of those with a note the
//! ones that nothing was added to for a week.

use std::{
    collections::HashSet,
    fs::{File, Metadata, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, OFlags, RenameFlags, flock, linkat, renameat_with},
    io::Errno,
    process::geteuid,
};
use unisono_core::clock;
use unisono_http::BodyVersion;

use super::{
    names::Seen,
    note,
    paths::{folder, is_there},
};

/// A file that is being filled.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    /// Its present name, where it has one.
    named: Option<PathBuf>,
    /// It has a note beside its name: when it is let go of, both stay for a later run.
    is_noted: bool,
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
        Ok(Self { file, named, is_noted: false, length: 0 })
    }

    /// What a run before, or an attempt of this one, has left under this name, to be gone on with. What is of no use
    /// there is taken away, unless it is in use.
    pub(super) fn left(path: &Path) -> Option<(Self, BodyVersion)> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => {
                // A link, which is none of ours. Whatever else is in the way may not be the next time.
                if Errno::from_io_error(&error) == Some(Errno::LOOP) {
                    remove_noted(path);
                }
                return None;
            }
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return None;
        }
        let length = file.metadata().ok().filter(|found| is_own(found) && is_at(&file, path)).map(|found| found.len());
        let version = note::read(path);
        match (length, version, file.seek(SeekFrom::End(0))) {
            (Some(length @ 1..), Some(version), Ok(_)) => {
                Some((Self { file, named: Some(path.to_owned()), is_noted: true, length }, version))
            }
            _ => {
                remove_noted(path);
                None
            }
        }
    }

    /// A file of which only its bytes are wanted.
    pub(super) fn spooled(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(folder)?, named: None, is_noted: false, length: 0 })
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

    /// Whether it stays for a later run when it is let go of.
    pub(super) fn is_noted(&self) -> bool {
        self.is_noted
    }

    /// From now on a later run finds it, under this name, and knows of which version of its body it is.
    pub(super) fn note(&mut self, path: &Path, version: &BodyVersion) -> io::Result<()> {
        if self.named.is_none() {
            // Lock before name, so that no other run takes it for left.
            flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        }
        self.give_name(path)?;
        self.named = Some(path.to_owned());
        // Name before note: a note without a part is nothing that has to be looked for.
        note::write(path, version)?;
        self.is_noted = true;
        Ok(())
    }

    /// No later run is to go on with it.
    pub(super) fn unnote(&mut self) {
        if let Some(path) = self.named.as_ref().filter(|_| self.is_noted) {
            note::remove(path);
        }
        self.is_noted = false;
    }

    /// Gives it a name that must be free.
    ///
    /// # Errors
    /// With `AlreadyExists` when it is not.
    pub(super) fn place(&mut self, path: &Path) -> io::Result<()> {
        self.unnote();
        self.give_name(path)?;
        self.named = None;
        Ok(())
    }

    fn give_name(&self, path: &Path) -> io::Result<()> {
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
        Ok(())
    }

    /// Puts it in the place of a file that is there, whose permissions it takes.
    pub(super) fn replace(&mut self, path: &Path, permissions: u32) -> io::Result<()> {
        self.unnote();
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
        let Some(path) = &self.named else { return };
        if !self.is_noted {
            let _ = std::fs::remove_file(path);
        }
        // Closing would do it too, but not while a child that is just being started still has a copy of the descriptor.
        let _ = flock(&self.file, FlockOperation::Unlock);
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
    numbered(folder, fastrand::u64(..))
}

/// The name of the part with this number in a folder.
pub(super) fn numbered(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!(".unisono-{number:016x}.part"))
}

/// Whether it is what we have made there: no file of another user, and none that has another name as well.
fn is_own(found: &Metadata) -> bool {
    found.is_file() && found.nlink() == 1 && found.uid() == geteuid().as_raw()
}

/// Takes away a part with its note. What cannot be taken away does no harm.
fn remove_noted(path: &Path) {
    // Note before part, as everywhere: one without the other says that there is nothing to go on with.
    note::remove(path);
    let _ = std::fs::remove_file(path);
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
        let name = name.to_str().filter(|name| name.starts_with(".unisono-")).unwrap_or_default();
        if let Some(part) = name.strip_suffix(note::SUFFIX) {
            if part.ends_with(".part") && is_there(&folder.join(part)).is_ok_and(|is_there| !is_there) {
                note::remove(&folder.join(part));
            }
            continue;
        }
        if !name.ends_with(".part") || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(&path) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_at(&file, &path)
            && !(is_recent(&file) && note::is_beside(&path))
        {
            remove_noted(&path);
        }
    }
}

/// Whether the run that it is of may yet be gone on with.
fn is_recent(file: &File) -> bool {
    let written = file.metadata().and_then(|found| found.modified());
    // What is of the future by our clock is at least not old.
    written.is_ok_and(|written| clock::wall().duration_since(written).unwrap_or_default() < LONGEST_KEPT)
}

/// A lock whose holders do not panic half way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Less what the umask takes away, as for every file of the user's.
const MODE: u32 = 0o666;
const MOST_TRIES: usize = 100;
/// A part may be as large as a disk, and a run that is not gone on with within this time hardly ever is.
const LONGEST_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn part(folder: &Path, is_named: bool, text: &str) -> Part {
        let (file, named) = if is_named { named(folder).unwrap() } else { (unnamed(folder).unwrap().unwrap(), None) };
        let mut part = Part { file, named, is_noted: false, length: 0 };
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
