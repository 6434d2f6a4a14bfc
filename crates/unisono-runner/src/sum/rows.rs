//! Where files come from: folders that are walked, lists of names, and manifests.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use tokio::sync::mpsc;
use unisono_core::ErrorKind;
use unisono_files::{
    EntryKind, Known, Special, Stat, WalkEntry, WalkOptions,
    manifest::{HEAD_BYTES, ManifestLine, ManifestReader, is_zero_terminated},
    walk, walk_steps,
};
use unisono_hash::Algorithm;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    call::{Bare, Expected, FileCall, FileTask},
    manifests::{ManifestTally, Manifests},
    outputs::{Outputs, folder_of},
};
use crate::{
    Error, Intake,
    input::{Batcher, Handing, RowBatch, Stopped, Unmarked, for_each_line, on_thread, open},
    row::{Row, RowOrigin},
};

type FileRows = mpsc::Receiver<RowBatch<FileCall>>;
type FileBatcher = Rc<RefCell<Batcher<FileCall>>>;

/// The files of some folders, and those that a list names: one per line, which ends with `delimiter`.
///
/// # Errors
/// When a glob is none, or the list cannot be opened.
pub fn tree_rows(
    roots: Vec<PathBuf>,
    list: Option<(&Path, u8)>,
    options: WalkOptions,
    algorithms: Arc<[Algorithm]>,
    outputs: Outputs,
) -> Result<FileRows, Error> {
    check_globs(&options)?;
    let tree = Tree { options, algorithms, outputs };
    let list = list.map(|(path, delimiter)| open(path).map(|(name, file)| (name, file, delimiter))).transpose()?;
    on_thread(move |out| {
        for (root, line) in roots.into_iter().zip(1..) {
            tree.push(root, true, &RowOrigin::of_item(line), out)?;
        }
        let Some((name, file, delimiter)) = list else { return Ok(()) };
        let reader = Unmarked::new(Handing { inner: file, batcher: out.clone() }, delimiter);
        let read = for_each_line(reader, delimiter, |line, text| {
            let text = text.strip_suffix(&[delimiter]).unwrap_or(text);
            if text.is_empty() {
                return Ok(());
            }
            let origin = RowOrigin::of_line(name.clone(), line);
            tree.push(PathBuf::from(OsStr::from_bytes(text)), true, &origin, out)
        });
        read.map_err(|stopped| stopped.of(&name))
    })
}

/// The files at paths that a program gives, folders as [`tree_rows`] has them. The program does not wait for any of
/// them to be walked.
///
/// # Errors
/// When a glob is none, or there is no thread for it.
pub fn path_rows(
    mut paths: Intake<GivenPath>,
    options: WalkOptions,
    algorithms: Arc<[Algorithm]>,
    outputs: Outputs,
) -> Result<FileRows, Error> {
    check_globs(&options)?;
    let tree = Tree { options, algorithms, outputs };
    on_thread(move |out| {
        loop {
            // Bound first: a row that is pushed borrows it again.
            let batch = out.borrow_mut().next_of(&mut paths)?;
            let rows = match batch {
                None => return Ok(()),
                Some(RowBatch::Failed(why)) => return Err(Stopped::Failed(why)),
                Some(RowBatch::Rows(rows)) => rows,
            };
            for Row { id, origin, call } in rows {
                match call {
                    Ok(GivenPath { path, is_named }) => tree.push(path, is_named, &origin, out)?,
                    Err(why) => out.borrow_mut().push(Row { id, origin, call: Err(why) })?,
                }
            }
        }
    })
}

/// A path that a program gives.
#[derive(Debug)]
pub struct GivenPath {
    /// Where.
    pub path: PathBuf,
    /// It was named, and not found by a walk of ours: what is no regular file is meant to be read.
    pub is_named: bool,
}

fn check_globs(options: &WalkOptions) -> Result<(), Error> {
    walk(&["/".into()], options).map(drop).map_err(Error::usage)
}

/// How paths become files.
struct Tree {
    options: WalkOptions,
    algorithms: Arc<[Algorithm]>,
    outputs: Outputs,
}

impl Tree {
    fn push(&self, root: PathBuf, is_named: bool, origin: &RowOrigin, out: &FileBatcher) -> Result<(), Stopped> {
        for step in walk_steps(std::slice::from_ref(&root), &self.options).map_err(Stopped::Failed)? {
            let Some(WalkEntry { path, kind: entry }) = step else {
                // A tree of which nothing is wanted may be large, and the run may have gone.
                if out.borrow().is_gone() {
                    return Err(Stopped::Gone);
                }
                continue;
            };
            let is_root = path == root;
            // A folder that could be read in part only has its own name twice: as what was given, and as what was in
            // the way.
            let shares_line = !is_root || matches!(entry, EntryKind::Unreadable { is_missing: false, .. });
            let (task, stat) = match entry {
                EntryKind::File(_) if self.outputs.has(&path) => (FileTask::Skip(Special::Output), None),
                EntryKind::File(stat) => (FileTask::Digest { known: Known::Regular }, stat),
                EntryKind::Special(special) if is_root && is_named => (named(special), None),
                EntryKind::Special(special) => (FileTask::Skip(special), None),
                EntryKind::Unreadable { why, is_missing } => {
                    let kind = if is_missing { ErrorKind::Missing } else { ErrorKind::Unreadable };
                    (FileTask::Fail(Box::new((kind, why))), None)
                }
            };
            let call = FileCall { path: path.into(), task, algorithms: self.algorithms.clone(), stat, shares_line };
            out.borrow_mut().push(Row { id: None, origin: origin.clone(), call: Ok(call) })?;
        }
        Ok(())
    }
}

/// What is done about something that is no regular file, and that was named: the user wants its digest.
fn named(special: Special) -> FileTask {
    match special {
        Special::Fifo => FileTask::Digest { known: Known::Fifo },
        Special::BlockDevice => FileTask::Digest { known: Known::BlockDevice },
        // Opening one can have effects, and many have no end.
        Special::CharacterDevice => {
            let why = format!("{special}, and need not have an end: name a pipe from what reads it");
            FileTask::Fail(Box::new((ErrorKind::Unreadable, why)))
        }
        other => FileTask::Fail(Box::new((ErrorKind::Unreadable, other.why().to_owned()))),
    }
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
    /// What the run writes, which is no extra file.
    pub outputs: Outputs,
}

/// The files of some manifests (`-` is standard input), then those beside them that no manifest has.
///
/// # Errors
/// When a manifest cannot be opened, or a glob is none.
pub fn verify_rows(paths: &[PathBuf], mut options: VerifyOptions) -> Result<(FileRows, Manifests), Error> {
    check_globs(&options.walk)?;
    let inputs = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>, Error>>()?;
    let manifests = Manifests::new(inputs.iter().map(|(name, _)| name.clone()));
    paths.iter().for_each(|path| options.outputs.add_manifest(path));
    let read = manifests.clone();
    let feed = on_thread(move |out| {
        let mut listed = Listed::default();
        for ((name, file), tally) in inputs.into_iter().zip(read.tallies()) {
            let delimiter = if options.zero { 0 } else { b'\n' };
            let lines = Unmarked::new(Handing { inner: file, batcher: out.clone() }, delimiter);
            let read = push_manifest(&name, lines, tally, &options, &mut listed, out);
            read.map_err(|stopped| stopped.of(&name))?;
            tally.ended();
        }
        push_extra(&options, &mut listed, out)
    })?;
    Ok((feed, manifests))
}

fn push_manifest(
    name: &Arc<str>,
    mut lines: impl Read,
    tally: &Arc<ManifestTally>,
    options: &VerifyOptions,
    listed: &mut Listed,
    out: &FileBatcher,
) -> Result<(), Stopped> {
    // Before the first line is understood, since a name may hold a newline where lines end with zero bytes.
    let mut head = Vec::new();
    let mut piece = [0; HEAD_BYTES];
    while !options.zero && head.len() < HEAD_BYTES && !is_zero_terminated(&head) {
        match lines.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => head.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let is_zero = options.zero || is_zero_terminated(&head);
    let mut reader = ManifestReader::new(options.algorithm, is_zero);
    for_each_line_of(head.chain(lines), if is_zero { 0 } else { b'\n' }, |number, text| {
        let origin = RowOrigin::of_line(name.clone(), number);
        let line = match text {
            Some(text) => reader.line(text),
            None => ManifestLine::Malformed(format!("it has more than {LONGEST_LINE_BYTES} bytes")),
        };
        let entry = match line {
            ManifestLine::Nothing => return Ok(()),
            ManifestLine::Malformed(why) => {
                tally.add_malformed(&origin, &why);
                return Ok(());
            }
            ManifestLine::Entry(entry) => entry,
        };
        tally.add_entry();
        if !options.extra.is_empty() {
            listed.add(&entry.path);
        }
        let stat = (options.walk.with_stat || options.ignore_missing).then(|| Stat::look(&entry.path)).flatten();
        if options.ignore_missing && stat.is_some() {
            tally.count_present(true);
        }
        let bare = entry.alternative.map(|other| Bare { likely: entry.digests[0], other });
        let call = FileCall {
            path: entry.path.into(),
            algorithms: entry.digests.iter().map(|digest| digest.algorithm()).collect(),
            shares_line: false,
            task: FileTask::Verify(Box::new(Expected {
                digests: entry.digests,
                bare,
                size: entry.size,
                may_be_missing: options.ignore_missing,
                was_there: stat.is_some(),
                tally: tally.clone(),
            })),
            stat: stat.filter(|_| options.walk.with_stat),
        };
        out.borrow_mut().push(Row { id: None, origin, call: Ok(call) })
    })
}

/// Reads line by line, each with its number from 1 and without its end; `None` for one that is longer than any line of
/// a manifest, of which no more is kept.
fn for_each_line_of(
    reader: impl Read,
    delimiter: u8,
    mut take: impl FnMut(u64, Option<&[u8]>) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let (mut line, mut number) = (Vec::new(), 0);
    while reader.by_ref().take(LONGEST_LINE_BYTES).read_until(delimiter, &mut line)? > 0 {
        number += 1;
        let is_whole = line.last() == Some(&delimiter) || (line.len() as u64) < LONGEST_LINE_BYTES;
        match is_whole {
            true => take(number, Some(line.strip_suffix(&[delimiter]).unwrap_or(&line)))?,
            false => {
                take(number, None)?;
                reader.skip_until(delimiter)?;
            }
        }
        line.clear();
    }
    Ok(())
}

/// Files that no manifest has, each once however often and by whatever names its folder is given. What is no regular
/// file is passed over as by a walk that digests, and said as there.
fn push_extra(options: &VerifyOptions, listed: &mut Listed, out: &FileBatcher) -> Result<(), Stopped> {
    for root in &options.extra {
        for step in walk_steps(std::slice::from_ref(root), &options.walk).map_err(Stopped::Failed)? {
            let Some(WalkEntry { path, kind: entry }) = step else {
                if out.borrow().is_gone() {
                    return Err(Stopped::Gone);
                }
                continue;
            };
            // Of what cannot be looked at there is more to say than that it is no news.
            let is_known =
                !matches!(entry, EntryKind::Unreadable { .. }) && (options.outputs.has(&path) || !listed.add(&path));
            if is_known {
                continue;
            }
            let task = match entry {
                EntryKind::Special(special) if path == *root => {
                    FileTask::Fail(Box::new((ErrorKind::Unreadable, special.why().to_owned())))
                }
                EntryKind::Special(special) => FileTask::Skip(special),
                EntryKind::File(_) => FileTask::Fail(Box::new((ErrorKind::Extra, "it is in no manifest".to_owned()))),
                EntryKind::Unreadable { why, is_missing } => {
                    let kind = if is_missing { ErrorKind::Missing } else { ErrorKind::Unreadable };
                    FileTask::Fail(Box::new((kind, why)))
                }
            };
            let call = FileCall { path: path.into(), task, algorithms: Arc::new([]), stat: None, shares_line: false };
            out.borrow_mut().push(Row { id: None, origin: RowOrigin::default(), call: Ok(call) })?;
        }
    }
    Ok(())
}

/// The files that manifests have, however they are spelt: each by its name and the folder that the system finds it in.
/// The last link of a path is not followed, since it is the name that is in the manifest. 64 bits tell ten million
/// apart with a doubt of one in a hundred thousand.
#[derive(Default)]
struct Listed {
    files: HashSet<u64>,
    /// Files of a folder come one after another, and to find it takes some system calls.
    folders: HashMap<PathBuf, u64>,
}

impl Listed {
    /// Whether it is a new one.
    fn add(&mut self, path: &Path) -> bool {
        let hash = self.hash(path);
        self.files.insert(hash)
    }

    fn hash(&mut self, path: &Path) -> u64 {
        let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
            // The root of everything, or a path that ends in `..`: no file has such a name.
            return xxh3_64(path.as_os_str().as_bytes());
        };
        let folder = match self.folders.get(folder) {
            Some(hash) => *hash,
            None => {
                // In a folder that is not there, no file is found either.
                let whole = folder_of(path).unwrap_or_else(|_: io::Error| folder.to_owned());
                let hash = xxh3_64(whole.as_os_str().as_bytes());
                if self.folders.len() >= MOST_FOLDERS {
                    self.folders.clear();
                }
                self.folders.insert(folder.to_owned(), hash);
                hash
            }
        };
        xxh3_64_with_seed(name.as_bytes(), folder)
    }
}

/// Folders that are remembered while those below them are walked; some hundred bytes each.
const MOST_FOLDERS: usize = 1024;
/// A line has a path and digests; the longest path has 4096 bytes, each of which JSON may write as six.
const LONGEST_LINE_BYTES: u64 = 1 << 20;
