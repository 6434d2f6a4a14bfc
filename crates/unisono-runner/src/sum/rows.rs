//! Where files come from: folders that are walked, lists of names, and manifests.

use std::{
    cell::RefCell,
    collections::HashSet,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;
use unisono_core::ErrorKind;
use unisono_files::{
    Entry, Found, Stat, WalkOptions,
    manifest::{Line, Reader},
    walk, walk_steps,
};
use unisono_hash::Algorithm;
use xxhash_rust::xxh3::xxh3_64;

use super::call::{Errand, Expected, FileCall};
use crate::{
    Error, Intake,
    input::{Batch, Batcher, Handing, Stopped, for_each_line, on_thread, open},
    row::{Origin, Row},
};

type Feed = mpsc::Receiver<Batch<FileCall>>;
type Out = Rc<RefCell<Batcher<FileCall>>>;

/// The files of some folders, and those that a list names: one per line, which ends with `delimiter`.
///
/// # Errors
/// When a glob is none, or the list cannot be opened.
pub fn tree_rows(
    roots: Vec<PathBuf>,
    list: Option<(&Path, u8)>,
    options: WalkOptions,
    algorithms: Arc<[Algorithm]>,
) -> Result<Feed, Error> {
    check_globs(&options)?;
    let list = list.map(|(path, delimiter)| open(path).map(|(name, file)| (name, file, delimiter))).transpose()?;
    on_thread(move |out| {
        for (root, line) in roots.into_iter().zip(1..) {
            push_tree(root, &Origin { name: None, line }, &options, &algorithms, out)?;
        }
        let Some((name, file, delimiter)) = list else { return Ok(()) };
        let reader = Handing { inner: file, batcher: out.clone() };
        for_each_line(reader, delimiter, |line, text| {
            let text = text.strip_suffix(&[delimiter]).unwrap_or(text);
            if text.is_empty() {
                return Ok(());
            }
            let origin = Origin { name: Some(name.clone()), line };
            push_tree(PathBuf::from(OsStr::from_bytes(text)), &origin, &options, &algorithms, out)
        })
    })
}

/// The files at paths that a program gives, folders as [`tree_rows`] has them. The program does not wait for any of them
/// to be walked.
///
/// # Errors
/// When a glob is none, or there is no thread for it.
pub fn path_rows(
    mut paths: Intake<PathBuf>,
    options: WalkOptions,
    algorithms: Arc<[Algorithm]>,
) -> Result<Feed, Error> {
    check_globs(&options)?;
    on_thread(move |out| {
        loop {
            // Bound first: a row that is pushed borrows it again.
            let batch = out.borrow_mut().next_of(&mut paths)?;
            let rows = match batch {
                None => return Ok(()),
                Some(Batch::Failed(why)) => return Err(Stopped::Failed(why)),
                Some(Batch::Rows(rows)) => rows,
            };
            for Row { id, origin, call } in rows {
                match call {
                    Ok(path) => push_tree(path, &origin, &options, &algorithms, out)?,
                    Err(why) => out.borrow_mut().push(Row { id, origin, call: Err(why) })?,
                }
            }
        }
    })
}

fn check_globs(options: &WalkOptions) -> Result<(), Error> {
    walk(&["/".into()], options).map(drop).map_err(Error::usage)
}

fn push_tree(
    root: PathBuf,
    origin: &Origin,
    options: &WalkOptions,
    algorithms: &Arc<[Algorithm]>,
    out: &Out,
) -> Result<(), Stopped> {
    for step in walk_steps(std::slice::from_ref(&root), options).map_err(Stopped::Failed)? {
        let Some(Found { path, entry }) = step else {
            // A tree of which nothing is wanted may be large, and whoever wanted it may have gone.
            if out.borrow().is_gone() {
                return Err(Stopped::Gone);
            }
            continue;
        };
        // A folder that could be read in part only has its own name twice: as what was given, and as what was in the way.
        let shares_line = path != root || matches!(entry, Entry::Unreadable { is_missing: false, .. });
        let (errand, stat) = match entry {
            Entry::File(stat) => (Errand::Digest { is_regular: true }, stat),
            Entry::Special(special) => (Errand::Skip(special), None),
            Entry::Unreadable { why, is_missing } => {
                let kind = if is_missing { ErrorKind::Missing } else { ErrorKind::Unreadable };
                (Errand::Fail(Box::new((kind, why))), None)
            }
        };
        let call = FileCall { path: path.into(), errand, algorithms: algorithms.clone(), stat, shares_line };
        out.borrow_mut().push(Row { id: None, origin: origin.clone(), call: Ok(call) })?;
    }
    Ok(())
}

/// How manifests are read and checked.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// What a bare digest is; by default what its length says.
    pub algorithm: Option<Algorithm>,
    /// Lines end with a zero byte.
    pub zero: bool,
    /// A file that is not there is no failure.
    pub ignore_missing: bool,
    /// Folders in which each file should be in a manifest.
    pub extra: Vec<PathBuf>,
    /// What is left out of these folders.
    pub walk: WalkOptions,
}

/// Lines of manifests that are no entries.
#[derive(Debug, Clone, Default)]
pub struct Malformed(Arc<Mutex<MalformedLines>>);

/// How many lines are no entries, and the first of them.
#[derive(Debug, Clone, Default)]
pub struct MalformedLines {
    /// How many.
    pub count: u64,
    /// Lines that are entries.
    pub entries: u64,
    /// Where the first of them stands, and what is wrong with it.
    pub first: Option<String>,
}

impl MalformedLines {
    /// Whether a check has failed for them alone: there was nothing to check, or, with `strict`, a line was malformed.
    pub fn is_failure(&self, strict: bool) -> bool {
        self.entries == 0 || (strict && self.count > 0)
    }

    /// What a user should know about them, if there are any.
    pub fn warning(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        let noun = if self.count == 1 { "line is" } else { "lines are" };
        Some(format!("{} {noun} malformed (the first: {first})", self.count))
    }
}

impl Malformed {
    /// What has been found so far.
    pub fn lines(&self) -> MalformedLines {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, origin: &Origin, why: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.count += 1;
        lines.first.get_or_insert_with(|| format!("{origin}: {why}"));
    }

    fn add_entry(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries += 1;
    }
}

/// The files of some manifests (`-` is standard input), then those beside them that no manifest has.
///
/// # Errors
/// When a manifest cannot be opened, or a glob is none.
pub fn verify_rows(manifests: &[PathBuf], options: VerifyOptions) -> Result<(Feed, Malformed), Error> {
    check_globs(&options.walk)?;
    let inputs = manifests.iter().map(|path| open(path)).collect::<Result<Vec<_>, Error>>()?;
    let malformed = Malformed::default();
    let told = malformed.clone();
    let feed = on_thread(move |out| {
        let mut listed = Listed::default();
        for (name, file) in inputs {
            let mut reader = Reader::new(options.algorithm, options.zero);
            let lines = Handing { inner: file, batcher: out.clone() };
            let delimiter = if options.zero { 0 } else { b'\n' };
            for_each_line(lines, delimiter, |number, text| {
                let origin = Origin { name: Some(name.clone()), line: number };
                match reader.line(text.strip_suffix(&[delimiter]).unwrap_or(text)) {
                    Line::Nothing => Ok(()),
                    Line::Malformed(why) => {
                        malformed.add(&origin, &why);
                        Ok(())
                    }
                    Line::Entry(entry) => {
                        malformed.add_entry();
                        if !options.extra.is_empty() {
                            listed.add(&entry.path);
                        }
                        let algorithms: Vec<Algorithm> =
                            entry.digests.iter().map(|digest| digest.algorithm()).collect();
                        let call = FileCall {
                            stat: if options.walk.with_stat { Stat::look(&entry.path) } else { None },
                            path: entry.path.into(),
                            algorithms: algorithms.into(),
                            shares_line: false,
                            errand: Errand::Verify(Box::new(Expected {
                                digests: entry.digests,
                                size: entry.size,
                                may_be_missing: options.ignore_missing,
                            })),
                        };
                        out.borrow_mut().push(Row { id: None, origin, call: Ok(call) })
                    }
                }
            })
            .map_err(|stopped| match stopped {
                Stopped::Failed(why) => Stopped::Failed(format!("cannot read `{name}` any further: {why}")),
                gone => gone,
            })?;
        }
        push_extra(&options, &listed, out)
    })?;
    Ok((feed, told))
}

/// Files that no manifest has.
fn push_extra(options: &VerifyOptions, listed: &Listed, out: &Out) -> Result<(), Stopped> {
    for Found { path, entry } in walk(&options.extra, &options.walk).map_err(Stopped::Failed)? {
        let errand = match entry {
            Entry::Special(_) => continue,
            Entry::File(_) if listed.has(&path) => continue,
            Entry::File(_) => Errand::Fail(Box::new((ErrorKind::Extra, "it is in no manifest".to_owned()))),
            Entry::Unreadable { why, .. } => Errand::Fail(Box::new((ErrorKind::Unreadable, why))),
        };
        let call = FileCall { path: path.into(), errand, algorithms: Arc::new([]), stat: None, shares_line: false };
        out.borrow_mut().push(Row { id: None, origin: Origin::default(), call: Ok(call) })?;
    }
    Ok(())
}

/// The files that manifests have, however they are spelt. 64 bits tell ten million apart with a doubt of one in a
/// hundred thousand.
#[derive(Default)]
struct Listed(HashSet<u64>);

impl Listed {
    fn add(&mut self, path: &Path) {
        self.0.insert(hash(path));
    }

    fn has(&self, path: &Path) -> bool {
        self.0.contains(&hash(path))
    }
}

/// Of the path from the root, without `.` and doubled slashes.
fn hash(path: &Path) -> u64 {
    let whole = std::path::absolute(path).unwrap_or_else(|_: io::Error| path.to_owned());
    let parts: Vec<&OsStr> =
        whole.components().filter(|part| *part != Component::CurDir).map(Component::as_os_str).collect();
    xxh3_64(parts.join(OsStr::new("\0")).as_bytes())
}
