//! What a run writes itself, so that a walk over the folder where that lies leaves it out: its digest would be stale
//! before it is written.
//!
//! Files are told by name and folder, since most of them are replaced, and some are not there yet. A hard link of one,
//! under another name, is not known.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

/// Files that a run writes.
#[derive(Debug, Clone, Default)]
pub struct Outputs(Vec<OutputFile>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct OutputFile {
    folder: PathBuf,
    name: OsString,
    /// There are files beside it that begin with its name.
    is_results: bool,
}

impl Outputs {
    /// A results file, with what is kept beside it.
    pub fn add_results(&mut self, path: &Path) {
        self.add(path, true);
    }

    /// A manifest, with the results that it is made of.
    pub fn add_manifest(&mut self, path: &Path) {
        self.add(path, false);
        if let Ok(resolved) = resolved(path) {
            self.add(&part_of(&resolved), false);
            self.add(&results_of(&resolved), true);
        }
    }

    /// Any other file.
    pub fn add_file(&mut self, path: &Path) {
        self.add(path, false);
    }

    /// What has no folder that can be looked at is in no tree either.
    fn add(&mut self, path: &Path, is_results: bool) {
        let Some(path) = resolved(path).ok().filter(|path| path.file_name().is_some()) else { return };
        let Ok(folder) = folder_of(&path) else { return };
        let name = path.file_name().unwrap_or_default().to_owned();
        self.0.push(OutputFile { folder, name, is_results });
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return false };
        let mut alike = self.0.iter().filter(|output| output.is_called(name)).peekable();
        // Only what has such a name is worth a look at its folder.
        if alike.peek().is_none() {
            return false;
        }
        folder_of(path).is_ok_and(|folder| alike.any(|output| output.folder == folder))
    }
}

impl OutputFile {
    fn is_called(&self, name: &OsStr) -> bool {
        let Some(rest) = name.as_encoded_bytes().strip_prefix(self.name.as_encoded_bytes()) else { return false };
        rest.is_empty() || self.is_results && BESIDE_RESULTS.contains(&rest)
    }
}

/// Where the results of a manifest are kept.
pub fn results_of(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".jsonl");
    name.into()
}

/// What a manifest is while it is written. Not a new name each time: what a killed run leaves behind is replaced by the
/// next.
pub(super) fn part_of(manifest: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(manifest.file_name().unwrap_or_default());
    name.push(".unisono.part");
    manifest.with_file_name(name)
}

/// Where a path leads, symbolic links followed, also when nothing is there yet.
///
/// # Errors
/// When links lead in a circle, or cannot be read.
pub fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_symlink() => {
                let target = fs::read_link(&path)?;
                path.pop();
                // An absolute target replaces the whole.
                path.push(target);
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// How what a path leads to is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is a regular file, or nothing yet.
    Replaced,
    /// It is a FIFO, a character device or a socket: written to as it is.
    Stream,
}

/// How a file is to be written.
///
/// # Errors
/// When it is a folder or a block device, or cannot be looked at.
pub fn way_to_write(path: &Path) -> io::Result<Way> {
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Way::Replaced),
        Err(error) => return Err(error),
    };
    match () {
        () if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        () if kind.is_block_device() => Err(io::Error::other("it is a block device, and what is on it would be lost")),
        () if kind.is_file() => Ok(Way::Replaced),
        () => Ok(Way::Stream),
    }
}

/// The folder of a path as the system has it, without links and `..` on the way.
pub(super) fn folder_of(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::canonicalize(folder.unwrap_or(Path::new(".")))
}

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;
/// What the journal keeps beside its results, some of it for a moment only.
const BESIDE_RESULTS: [&[u8]; 4] = [b".run", b".run.new", b".compact", b".sorted"];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_output_is_known_however_it_is_spelt_and_what_is_only_called_alike_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("sub")).unwrap();
        fs::write(at("sub/real"), "").unwrap();
        symlink("sub/real", at("link")).unwrap();
        symlink("sub", at("folder")).unwrap();
        let mut outputs = Outputs::default();
        outputs.add_manifest(&at("link"));
        for own in [
            "sub/real",
            "sub/./real",
            "sub/../folder/real",
            "sub/real.jsonl",
            "sub/real.jsonl.run",
            "sub/.real.unisono.part",
        ] {
            assert!(outputs.has(&at(own)), "{own}");
        }
        for other in ["real", "sub/real2", "sub/real.run", "sub/real.jsonl.gz", "sub/.real", "gone/real"] {
            assert!(!outputs.has(&at(other)), "{other}");
        }
    }

    #[test]
    fn a_link_is_followed_to_where_nothing_is_yet_and_a_circle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("new", at("one")).unwrap();
        symlink("one", at("two")).unwrap();
        symlink("circle", at("circle")).unwrap();
        assert_eq!(resolved(&at("two")).unwrap(), at("new"));
        assert!(resolved(&at("circle")).is_err());
    }
}
