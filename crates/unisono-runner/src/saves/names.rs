//! Where a name leads to: the one spelling of all that lead to the same file, and what stands there.
//!
//! Symbolic links are followed to their end, which is where the file goes; the links stay. Folders that are not there
//! yet will be made, as plain folders, so what comes behind them is taken by the letter: `new/../x` is `x`. Upper and
//! lower case are different; where a file system sees that otherwise, the file that is already there tells when the
//! name is given.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::Metadata,
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use rustix::fs::{Access, access};
use xxhash_rust::xxh3::Xxh3;

/// A name, followed to its end.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The whole path, without links and detours.
    pub(super) path: PathBuf,
    /// What tells it from other names.
    pub(super) key: u64,
    /// The same by its folder's own number, since a folder may be mounted at several places.
    by_folder: Option<u64>,
    /// The folders on the way to it that were not there when it was first asked for, by their keys.
    pub(super) missing: Rc<[u64]>,
    pub(super) found: Existing,
}

/// What stands at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Existing {
    Nothing,
    File(Seen),
    /// A pipe or a device: written to, never replaced.
    Stream {
        is_pipe: bool,
    },
}

/// A regular file, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) length: u64,
    pub(super) permissions: u32,
    modified: (i64, i64),
}

impl Resolved {
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> + use<> {
        std::iter::once(self.key).chain(self.by_folder)
    }
}

impl Seen {
    pub(super) fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            permissions: metadata.permissions().mode() & 0o777,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// What this file under this name means when it was put there for what asks for `fingerprint`. A file that was
    /// changed since then has another one.
    pub(super) fn mark(&self, key: u64, fingerprint: u64) -> u64 {
        let mut hash = Xxh3::new();
        for number in [key, fingerprint, self.device, self.inode, self.length] {
            hash.update(&number.to_le_bytes());
        }
        hash.update(&self.modified.0.to_le_bytes());
        hash.update(&self.modified.1.to_le_bytes());
        hash.digest()
    }
}

/// The folders that names have led to. Most names share theirs with the one before.
#[derive(Debug, Default)]
pub(super) struct Folders(HashMap<PathBuf, Result<Folder, String>>);

#[derive(Debug, Clone)]
struct Folder {
    path: PathBuf,
    /// Device and inode, where it is there.
    number: Option<(u64, u64)>,
    /// Keys of what has to be made for it, itself included.
    missing: Rc<[u64]>,
    /// Why nothing can be made in it.
    trouble: Option<String>,
}

impl Folders {
    /// Follows a name to its end.
    ///
    /// # Errors
    /// When no file can be there.
    pub(super) fn resolve(&mut self, name: &Path) -> Result<Resolved, String> {
        let mut at = name.to_owned();
        for _ in 0..MOST_LINKS {
            let bad = |why: &str| format!("`{}` {why}", name.display());
            let file = at.file_name().filter(|_| !at.as_os_str().as_bytes().ends_with(b"/"));
            let file = file.ok_or_else(|| bad("is not the name of a file"))?;
            let folder = self.folder(at.parent().unwrap_or(Path::new("")))?;
            let path = folder.path.join(file);
            let found = match std::fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Existing::Nothing,
                Err(error) => return Err(bad(&format!("cannot be looked at: {error}"))),
                Ok(metadata) if metadata.is_symlink() => {
                    let link = std::fs::read_link(&path).map_err(|error| bad(&format!("cannot be read: {error}")))?;
                    at = folder.path.join(link);
                    continue;
                }
                Ok(metadata) => found(&metadata).map_err(bad)?,
            };
            if let (Some(why), false) = (&folder.trouble, matches!(found, Existing::Stream { .. })) {
                return Err(bad(why));
            }
            let key = hash(&[path.as_os_str()], &[]);
            let by_folder = folder.number.map(|(device, inode)| hash(&[file], &[device, inode]));
            return Ok(Resolved { path, key, by_folder, missing: folder.missing, found });
        }
        Err(format!("`{}` is a symbolic link that leads in a circle", name.display()))
    }

    fn folder(&mut self, path: &Path) -> Result<Folder, String> {
        if let Some(known) = self.0.get(path) {
            return known.clone();
        }
        let folder = Folder::find(path);
        self.0.insert(path.to_owned(), folder.clone());
        folder
    }
}

impl Folder {
    fn find(path: &Path) -> Result<Self, String> {
        let bad = |at: &Path, why: &str| format!("`{}` {why}", at.display());
        for there in path.ancestors() {
            let here = if there.as_os_str().is_empty() { Path::new(".") } else { there };
            let real = match std::fs::canonicalize(here) {
                Ok(real) => real,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if std::fs::symlink_metadata(here).is_ok_and(|metadata| metadata.is_symlink()) {
                        return Err(bad(here, "is a symbolic link to a folder that is not there"));
                    }
                    continue;
                }
                Err(error) => return Err(bad(here, &format!("cannot be looked at: {error}"))),
            };
            let metadata = std::fs::metadata(&real).map_err(|error| bad(here, &error.to_string()))?;
            if !metadata.is_dir() {
                return Err(bad(here, "is no folder"));
            }
            let trouble = access(&real, Access::WRITE_OK | Access::EXEC_OK).err();
            let trouble = trouble.map(|error| {
                let why = io::Error::from(error);
                format!("cannot be made: the folder `{}` cannot be written to ({why})", here.display())
            });
            let missing = path.strip_prefix(there).unwrap_or(Path::new(""));
            let is_there = missing.as_os_str().is_empty();
            let (mut whole, mut keys) = (real, Vec::new());
            for component in missing.components() {
                match component {
                    Component::Normal(name) => {
                        whole.push(name);
                        keys.push(hash(&[whole.as_os_str()], &[]));
                    }
                    Component::ParentDir => _ = whole.pop(),
                    Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
            let number = is_there.then(|| (metadata.dev(), metadata.ino()));
            return Ok(Self { path: whole, number, missing: keys.into(), trouble });
        }
        Err(bad(path, "leads nowhere: the folder that we run in is gone"))
    }
}

fn found(metadata: &Metadata) -> Result<Existing, &'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => Ok(Existing::File(Seen::new(metadata))),
        () if kind.is_fifo() => Ok(Existing::Stream { is_pipe: true }),
        () if kind.is_char_device() => Ok(Existing::Stream { is_pipe: false }),
        () if kind.is_dir() => Err("is a folder"),
        () if kind.is_block_device() => Err("is a disk, which is not written to (use its file system)"),
        () => Err("is a socket, which cannot be written to like a file"),
    }
}

pub(super) fn hash(names: &[&OsStr], numbers: &[u64]) -> u64 {
    let mut hash = Xxh3::new();
    names.iter().for_each(|name| hash.update(name.as_bytes()));
    numbers.iter().for_each(|number| hash.update(&number.to_le_bytes()));
    hash.digest()
}

/// As the kernel has it (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;
