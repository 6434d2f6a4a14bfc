//! The files under some folders: everything that is there, in order, unless something is left out on purpose.
//!
//! A checksum leaves nothing out by itself: hidden files are in, and what version control ignores is as well. Symbolic
//! links are not followed unless asked; each is told, as is all that is no regular file. What cannot be read is told
//! too. The order is that of names, component by component, so that it is the same everywhere.

use std::{
    io,
    path::{Path, PathBuf},
};

use ignore::{DirEntry, Walk, WalkBuilder, overrides::OverrideBuilder};
use rustix::fs::FileType;

use crate::{Special, Stat};

/// What is left out of a walk.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Only what matches one of these, as in gitignore (`*.py`, `src/**`).
    pub globs: Vec<String>,
    /// Nothing that matches one of these.
    pub excludes: Vec<String>,
    /// Whether names that begin with a dot are in.
    pub hidden: Hidden,
    /// Leave out what `.gitignore` and `.ignore` files say.
    pub ignore_files: bool,
    /// How many folders deep; 1 is what the folder itself holds.
    pub max_depth: Option<usize>,
    /// Follow symbolic links.
    pub follow: bool,
    /// Stay on the file system of each folder given.
    pub one_file_system: bool,
    /// Only files of at least so many bytes.
    pub min_size: Option<u64>,
    /// Only files of at most so many bytes.
    pub max_size: Option<u64>,
    /// Tell the attributes of each file.
    pub with_stat: bool,
}

/// Whether names that begin with a dot are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hidden {
    /// They are.
    #[default]
    Include,
    /// They are not, unless given by name.
    Skip,
}

/// Something that a walk came upon.
#[derive(Debug)]
pub struct WalkEntry {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub kind: EntryKind,
}

/// What a walk came upon.
#[derive(Debug)]
pub enum EntryKind {
    /// A regular file, with its attributes if they were asked for.
    File(Option<Stat>),
    /// Something that has no content of its own.
    Special(Special),
    /// Something that cannot be looked at, and why.
    Unreadable {
        /// Why.
        why: String,
        /// It is not there at all.
        is_missing: bool,
    },
}

/// Walks folders; a path that is a file stands for itself. Paths that are given are followed if they are links.
///
/// # Errors
/// When a glob is none; where there are only files, globs are not looked at.
pub fn walk(roots: &[PathBuf], options: &WalkOptions) -> Result<impl Iterator<Item = WalkEntry> + use<>, String> {
    Ok(walk_steps(roots, options)?.flatten())
}

/// As [`walk()`], with a `None` for each folder and each file that is passed over: so the caller can look up in
/// between.
///
/// # Errors
/// As [`walk()`].
pub fn walk_steps(
    roots: &[PathBuf],
    options: &WalkOptions,
) -> Result<impl Iterator<Item = Option<WalkEntry>> + Send + use<>, String> {
    let start = |root: &PathBuf| match given_file(root, options) {
        Some(step) => Ok((Some(step), None)),
        None => Ok((None, Some(builder(root, options)?))),
    };
    let starts = roots.iter().map(start).collect::<Result<Vec<_>, String>>()?;
    let options = options.clone();
    Ok(starts.into_iter().zip(roots.to_vec()).flat_map(move |((file, walk), root)| {
        let options = options.clone();
        let walked = walk.into_iter().flatten().map(move |entry| match entry {
            Ok(entry) => found(entry, &options),
            Err(error) => Some(unreadable(&error, &root)),
        });
        file.into_iter().chain(walked)
    }))
}

/// The only step of a root that is a regular file. No filter of names holds for what is given, and a walk takes longer
/// to set up than to look.
fn given_file(root: &Path, options: &WalkOptions) -> Option<Option<WalkEntry>> {
    let raw = rustix::fs::lstat(root).ok()?;
    let is_regular = FileType::from_raw_mode(raw.st_mode) == FileType::RegularFile;
    is_regular.then(|| file(root.to_owned(), Stat::of(&raw), options))
}

fn builder(root: &Path, options: &WalkOptions) -> Result<Walk, String> {
    let mut overrides = OverrideBuilder::new(root);
    for glob in &options.globs {
        overrides.add(glob).map_err(|error| format!("`{glob}` is no glob: {error}"))?;
    }
    for glob in &options.excludes {
        overrides.add(&format!("!{glob}")).map_err(|error| format!("`{glob}` is no glob: {error}"))?;
    }
    let overrides = overrides.build().map_err(|error| error.to_string())?;
    let mut builder = WalkBuilder::new(root);
    builder
        .standard_filters(false)
        .hidden(options.hidden == Hidden::Skip)
        .overrides(overrides)
        .max_depth(options.max_depth)
        .follow_links(options.follow)
        .same_file_system(options.one_file_system)
        .sort_by_file_name(std::ffi::OsStr::cmp);
    if options.ignore_files {
        builder.git_ignore(true).git_exclude(true).ignore(true).parents(true).require_git(false);
    }
    Ok(builder.build())
}

/// What an entry is; `None` for folders and for what is left out.
fn found(entry: DirEntry, options: &WalkOptions) -> Option<WalkEntry> {
    // What is given by name is followed if it is a link; the walk itself has gone into a folder.
    let followed = entry.depth() == 0 && entry.path_is_symlink();
    let file_type = entry.file_type().map(raw_type)?;
    let path = entry.into_path();
    let needs_stat = options.with_stat || options.min_size.is_some() || options.max_size.is_some();
    if !followed && (file_type != FileType::RegularFile || !needs_stat) {
        let kind = match Special::of(file_type) {
            Some(Special::Folder) => return None,
            Some(special) => EntryKind::Special(special),
            None => EntryKind::File(None),
        };
        return Some(WalkEntry { path, kind });
    }
    let raw = match rustix::fs::stat(&path) {
        Ok(raw) => raw,
        Err(error) => return Some(WalkEntry { path, kind: EntryKind::failed(&error.into()) }),
    };
    match Special::of(FileType::from_raw_mode(raw.st_mode)) {
        Some(Special::Folder) => None,
        Some(special) => Some(WalkEntry { path, kind: EntryKind::Special(special) }),
        None => file(path, Stat::of(&raw), options),
    }
}

/// A regular file, unless its size leaves it out.
fn file(path: PathBuf, stat: Stat, options: &WalkOptions) -> Option<WalkEntry> {
    let fits = options.min_size.is_none_or(|least| stat.size >= least)
        && options.max_size.is_none_or(|most| stat.size <= most);
    fits.then_some(WalkEntry { path, kind: EntryKind::File(Some(stat)) })
}

impl EntryKind {
    fn failed(error: &io::Error) -> Self {
        // The system's own words, without those that the walk put around them.
        let mut innermost: &(dyn std::error::Error + 'static) = error;
        while let Some(source) = inside(innermost) {
            innermost = source;
        }
        Self::Unreadable { why: innermost.to_string(), is_missing: error.kind() == io::ErrorKind::NotFound }
    }
}

/// What an error is about; an `io::Error` that was made of another one does not call it its source.
fn inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.map(|wrapped| wrapped as _).or_else(|| error.source())
}

/// Something that the walk could not look at.
fn unreadable(error: &ignore::Error, root: &Path) -> WalkEntry {
    let kind = match error.io_error() {
        Some(io) => EntryKind::failed(io),
        None => EntryKind::Unreadable { why: error.to_string(), is_missing: false },
    };
    WalkEntry { path: path_of(error).unwrap_or(root).to_owned(), kind }
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::Loop { child, .. } => Some(child),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

fn raw_type(file_type: std::fs::FileType) -> FileType {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if file_type.is_file() => FileType::RegularFile,
        () if file_type.is_dir() => FileType::Directory,
        () if file_type.is_symlink() => FileType::Symlink,
        () if file_type.is_fifo() => FileType::Fifo,
        () if file_type.is_socket() => FileType::Socket,
        () if file_type.is_char_device() => FileType::CharacterDevice,
        () if file_type.is_block_device() => FileType::BlockDevice,
        () => FileType::Unknown,
    }
}
