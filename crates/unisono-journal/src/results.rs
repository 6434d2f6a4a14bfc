//! Opening a results file: which file it is, whose it is, what an earlier run left, and in which order it is made
//! ready.
//!
//! The file is found by its name once; from then on it is the file. Its lock and that of its run file are taken first,
//! in this order, and kept until the run is over. Its first line says which run it is of and whether that is open.
//!
//! Whatever of these the run file is: ours, of a results file that has another name by now, or one that is of no use,
//! it is known from its header. A file that is open and has no run file was renamed (then that is found beside it), or
//! it is a copy, or its run file was lost: then only the user can say that it should be gone on with.
//!
//! The order of what changes on the disk, each step such that a kill after it leaves what the next run takes right:
//! 1. a run file, if there is none, with what is in doubt already, before the first line says "open": open without a
//!    run file is a copy, and where there is a run file a torn line says nothing that it does not;
//! 2. a sync of the results before the run file forgets notes: what it forgets must have its line on the disk;
//! 3. the run file says what is in doubt now, and which inode is about to take the place of the results;
//! 4. the torn end is cut, or the new file renamed over the old one; only now, since what was in doubt about them is
//!    noted;
//! 5. the first line says "open", synced before anything is started: a copy made from now on is told from the file.
//!    Where no line is there yet, its beginning says so; the first outcome continues that, and an end without one takes
//!    it away.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{
    disposition::Fate,
    error::{Error, Reason},
    line::{Head, Mark},
    lines::FromStart,
    mode::Mode,
    place::{self, Inode, Locked},
    recover::{
        Identity, Recovered,
        reading::{Reading, Replaced, Scan},
    },
    retell::Retold,
    rewrite::{Old, expecting},
    runfile::{Header, RunFile, RunFileState, SUFFIX, Started, random_run, run_path},
    steps::step,
};

/// How to open a results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// What to do with what is there.
    pub mode: Mode,
    /// Replace whatever is there, even what is not ours.
    pub overwrite: bool,
    /// Take a file whose run has not ended and whose notes are not there, a copy for example, as it is. What has no
    /// line and must not be repeated is [`Disposition::Unsure`](crate::Disposition::Unsure) then.
    pub adopt: bool,
    /// How rows are known again.
    pub identity: Identity,
    /// By which rule fingerprints are made, from 1 to 9, where a kind of work has changed it: a file whose rows must
    /// not be repeated and are not known again is refused.
    pub version: u8,
}

impl Open {
    /// Whether what is there goes, and nothing of it is read.
    pub fn replaces(&self) -> bool {
        self.mode == Mode::Fresh || self.overwrite
    }
}

impl Default for Open {
    fn default() -> Self {
        Self { mode: Mode::Fresh, overwrite: false, adopt: false, identity: Identity::Row, version: 1 }
    }
}

/// A results file that lines can be added to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: Locked,
    /// Where the next line goes.
    pub(crate) end: u64,
    pub(crate) run: RunFile,
    pub(crate) in_doubt: Vec<Started>,
    pub(crate) recovered: Recovered,
}

/// What is told of each line.
pub(crate) type OnLine<'a> = &'a mut dyn FnMut(&Head<'_>, &[u8], Fate);

/// Opens what `name` leads to.
pub(crate) fn open(name: &Path, open: Open, on_line: OnLine<'_>) -> Result<Opened, Error> {
    let path = place::resolve(name).map_err(|error| Error::io(name, "open", error))?;
    let (file, is_made) = lock(name, &path)?;
    let results = Results { name, path, file, is_made };
    let path = results.path.clone();
    let opened = match open.replaces() {
        true => results.begin(open),
        false => results.resume(open, on_line),
    };
    if opened.is_err() && is_made {
        // Nothing was begun. Locked by us until a moment ago, and empty.
        let _ = std::fs::remove_file(&path);
    }
    opened
}

/// Opens and locks the file, making it if it is not there.
fn lock(name: &Path, path: &Path) -> Result<(Locked, bool), Error> {
    loop {
        let (file, is_made) = match place::open(path, false) {
            Ok(file) => (Locked(file), false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match place::open(path, true) {
                Ok(file) => (Locked(file), true),
                // Another process was quicker; its file is opened now.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io(name, "create", error)),
            },
            Err(error) => return Err(Error::io(name, "open", error)),
        };
        let metadata = file.metadata().map_err(|error| Error::io(name, "open", error))?;
        if !metadata.is_file() {
            return Err(Error::new(name, Reason::NotOurs));
        }
        if !place::try_lock(&file).map_err(|error| Error::io(name, "lock", error))? {
            return Err(Error::new(name, Reason::InUse { pid: holder(path, &file) }));
        }
        // The holder of the lock before us may have put a new file in its place.
        if !place::is_at(&file, path) {
            continue;
        }
        let links = file.metadata().map_err(|error| Error::io(name, "open", error))?.nlink();
        if links > 1 {
            return Err(Error::new(name, Reason::Linked { links }));
        }
        if is_made {
            place::sync_folder(path).map_err(|error| Error::io(name, "create", error))?;
        }
        return Ok((file, is_made));
    }
}

/// The process that has a file locked, as its run file says, wherever that is.
fn holder(path: &Path, file: &File) -> Option<u32> {
    let inode = Inode::of(&file.metadata().ok()?);
    let run = read_mark(file).map(|mark| mark.run);
    let at_its_name = std::iter::once(run_path(path));
    let run_files = at_its_name.chain(run_files_beside(path));
    run_files.filter_map(|path| read_header(&path)).find(|(header, _)| header.is_of(inode, run)).map(|(_, pid)| pid)
}

fn read_mark(file: &File) -> Option<Mark> {
    let mut bytes = [0; Mark::LONGEST_BYTES];
    let length = file.read_at(&mut bytes, 0).ok()?;
    Mark::of(&bytes[..length])
}

fn read_header(path: &Path) -> Option<(Header, u32)> {
    let file = place::open(path, false).ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    Header::read(&file)
}

fn run_files_beside(path: &Path) -> impl Iterator<Item = PathBuf> {
    let names = std::fs::read_dir(place::folder_of(path)).into_iter().flatten().flatten();
    names.map(|entry| entry.path()).filter(|path| path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes()))
}

/// A results file that is locked, and not ready yet.
struct Results<'a> {
    /// As the user calls it.
    name: &'a Path,
    /// Where it is.
    path: PathBuf,
    file: Locked,
    /// It was not there.
    is_made: bool,
}

/// What stands where this file's run file belongs.
enum Beside {
    /// Nothing of worth; an empty file that a killed run has made, perhaps.
    Nothing(Option<Locked>),
    /// The run file of these results, with its notes.
    Own(RunFile, Vec<Started>),
    /// It came along with a copy of its results.
    Copied(RunFile, Vec<Started>),
    /// It was of other results, which stood here and are gone, and was put away.
    Replaced,
    /// It is damaged, and its notes are given up.
    Damaged(Locked),
}

impl Results<'_> {
    /// Begins anew, whatever there is.
    fn begin(self, open: Open) -> Result<Opened, Error> {
        let length = self.length()?;
        if length > 0 && !open.overwrite {
            return Err(Error::new(self.name, Reason::Exists));
        }
        let beside = self.beside(true, true)?;
        if length > 0 {
            // Before the run file: notes beside an empty file do no harm, lines of another run would.
            let empty = || {
                step("results: empty")?;
                self.file.set_len(0)?;
                step("results: sync that it is empty")?;
                self.file.sync_all()
            };
            empty().map_err(|error| self.failed("empty", error))?;
        }
        let results = self.inode()?;
        let header = Header {
            run: random_run(),
            results,
            successor: 0,
            is_unsure: false,
            may_replace: false,
            length: 0,
            version: open.version,
        };
        let run = match beside {
            Beside::Nothing(empty) => self.make_run(empty, header, &[])?,
            Beside::Replaced => self.make_run(None, header, &[])?,
            Beside::Damaged(_lock) => self.put_run(header, &[])?,
            Beside::Own(mut run, _) | Beside::Copied(mut run, _) => {
                place::remove_left_over(&self.path, run.header.run);
                run.rewrite(header, &[]).map_err(|error| Error::io(&run.path, "write", error))?;
                run
            }
        };
        // Only now that there is a run file: open without one is what a copy looks like.
        let mark = Mark { run: header.run, is_open: true, version: open.version };
        if let Err(error) = self.begin_line(mark, 0) {
            // Nothing is noted, so what is left of this says no more than an empty file does.
            let _ = self.file.set_len(0);
            let _ = run.remove();
            return Err(error);
        }
        let (in_doubt, recovered) = (Vec::new(), Recovered::default());
        Ok(Opened { path: self.path, file: self.file, end: mark.length() as u64, run, in_doubt, recovered })
    }

    /// Makes the file say whose it is and that it is open, where it has no line that does. It is `length` bytes long.
    fn begin_line(&self, mark: Mark, length: u64) -> Result<(), Error> {
        let begin = || {
            if length > mark.length() as u64 {
                step("results: cut to the beginning of the first line")?;
                self.file.set_len(mark.length() as u64)?;
            }
            step("results: begin the first line")?;
            self.file.write_all_at(&mark.beginning(), 0)?;
            step("results: sync the beginning")?;
            self.file.sync_all()
        };
        begin().map_err(|error| self.failed("begin", error))
    }

    /// Goes on with what there is.
    fn resume(self, open: Open, on_line: OnLine<'_>) -> Result<Opened, Error> {
        let beside = self.beside(false, open.adopt)?;
        let is_replaced = matches!(beside, Beside::Replaced | Beside::Damaged(_));
        let (had, is_copy) = match &beside {
            Beside::Nothing(_) | Beside::Replaced | Beside::Damaged(_) => (None, false),
            Beside::Own(run, started) => (Some((run, started)), false),
            Beside::Copied(run, started) => (Some((run, started)), true),
        };
        let length = self.length()?;
        // There are no notes any more of what had its line there.
        let is_cut = had.is_some_and(|(run, _)| length < run.header.length);
        if is_cut && !open.adopt {
            let was = had.map_or(0, |(run, _)| run.header.length);
            return Err(Error::new(self.name, Reason::Cut { was, is: length }));
        }
        let reading = Reading {
            path: self.name,
            started: had.map(|(_, started)| &started[..]),
            is_unsure: had.is_some_and(|(run, _)| run.header.is_unsure),
            loses_notes: is_cut
                || is_replaced
                || open.adopt && had.is_none() && read_mark(&self.file).is_some_and(|mark| mark.is_open),
            may_replace: had.is_none_or(|(run, _)| run.header.may_replace),
            mode: open.mode,
            identity: open.identity,
            on_line,
        };
        let (mut recovered, mut found) = Recovered::read(|| FromStart::new(&self.file), length, reading)?;
        // A copy that was taken before there was a line does not say that it is open, but its run file does.
        let is_open = found.is_open || (is_copy && length == 0);
        if is_open && (had.is_none() || is_copy) && !open.adopt {
            return Err(Error::new(self.name, Reason::Orphan));
        }
        // Adopted: what was noted is lost, and with it whether a row without a line was started.
        if is_cut || (found.is_open || is_replaced) && had.is_none() {
            recovered.lose_notes();
        }
        let in_doubt = std::mem::take(&mut found.in_doubt);
        if let Some((run, _)) = had.filter(|(run, _)| found.end == 0 && run.header.version > 0) {
            // There is no whole line, and what is there of the first one may have been cut anywhere.
            found.versions = HashSet::from([run.header.version]);
        }
        let is_known = found.versions.iter().all(|version| *version == open.version);
        if !is_known && (found.has_done || !in_doubt.is_empty()) {
            return Err(Error::new(self.name, Reason::OtherVersion));
        }
        let known = found.mark.map(|mark| mark.run).or(had.map(|(run, _)| run.header.run));
        let header = Header {
            run: known.unwrap_or_else(random_run),
            results: self.inode()?,
            successor: 0,
            is_unsure: recovered.is_unsure(),
            // Those of the last run are there as long as the file is not made anew.
            may_replace: !found.replaced.is_empty() || !recovered.old_lines().is_empty(),
            length: found.end,
            version: open.version,
        };
        if !in_doubt.is_empty() {
            // A run that was killed as it made its run file with these. Not otherwise: a copy may be under way beside
            // this.
            place::remove_left_over(&self.path, header.run);
        }
        let (run, is_new) = match beside {
            Beside::Nothing(empty) => (self.make_run(empty, header, &in_doubt)?, true),
            Beside::Replaced => (self.make_run(None, header, &in_doubt)?, true),
            Beside::Damaged(_lock) => (self.put_run(header, &in_doubt)?, false),
            Beside::Own(run, _) | Beside::Copied(run, _) => {
                place::remove_left_over(&self.path, run.header.run);
                (run, false)
            }
        };
        let mark = Mark { run: header.run, is_open: true, version: open.version };
        let mut ready = Ready { results: self, run, is_new, header, mark, in_doubt, is_touched: false };
        match ready.make(&found) {
            Ok(end) => {
                let Ready { results, run, in_doubt, .. } = ready;
                Ok(Opened { path: results.path, file: results.file, end, run, in_doubt, recovered })
            }
            Err(error) => {
                let is_empty = ready.results.is_made && ready.results.file.set_len(0).is_ok();
                if is_new && (is_empty || !ready.is_touched) {
                    // The results are as they were, so they do without a run file as they did before.
                    let _ = ready.run.remove();
                }
                Err(error)
            }
        }
    }

    /// Looks for the run file of these results, and puts away what stands in its place. `is_begun` says that the
    /// results are begun anew: notes of what was there are of no use then. Nor are they where the results are adopted.
    fn beside(&self, is_begun: bool, is_adopted: bool) -> Result<Beside, Error> {
        let at = run_path(&self.path);
        let (inode, mark) = (self.inode()?, read_mark(&self.file));
        let id = mark.map(|mark| mark.run);
        let mut empty = None;
        match RunFile::find(&at)? {
            RunFileState::Nothing => {}
            RunFileState::Empty(file) => empty = Some(file),
            RunFileState::Locked { pid } => return Err(Error::new(self.name, Reason::InUse { pid })),
            RunFileState::Damaged(file, _) if is_begun || is_adopted => return Ok(Beside::Damaged(file)),
            RunFileState::Damaged(_, damage) => return Err(Error::new(at, Reason::Damaged(damage))),
            RunFileState::Ours(run, started) if run.header.is_of(inode, id) => return Ok(Beside::Own(run, started)),
            RunFileState::Ours(mut run, started) => match owner(&run.header, &self.path) {
                // Its results are beside it with a run file of their own: this one was copied along with them.
                Some(owner) if is_run_file_of(&run_path(&owner), &run.header) => {
                    return Ok(Beside::Copied(run, started));
                }
                // Its results were renamed, and another file has their name now.
                Some(owner) => self.put_away(&mut run, &owner)?,
                // Its results are gone. Where nothing is in their place, what had started may still have been done.
                None if is_begun || self.length()? == 0 => return Ok(Beside::Own(run, started)),
                None if id == Some(run.header.run) => return Ok(Beside::Copied(run, started)),
                None if started.is_empty() => {
                    run.remove().map_err(|error| Error::io(&at, "remove", error))?;
                }
                // What stands here now was not written by its run: its notes would be forgotten.
                None if !is_adopted => return Err(Error::new(self.name, Reason::Replaced)),
                None => {
                    self.put_away(&mut run, &self.path)?;
                    return Ok(Beside::Replaced);
                }
            },
        }
        // One that was made just now was never renamed, though it may have the inode's number of one that was removed.
        if !is_begun
            && !self.is_made
            && mark.is_none_or(|mark| mark.is_open)
            && let Some((mut run, started)) = self.find_renamed(inode, id, is_adopted)?
        {
            if empty.is_some() {
                std::fs::remove_file(&at).map_err(|error| Error::io(&at, "remove", error))?;
            }
            run.move_to(&at).map_err(|error| Error::io(&at, "rename the run file to", error))?;
            return Ok(Beside::Own(run, started));
        }
        Ok(Beside::Nothing(empty))
    }

    /// The run file that was made when these results had another name.
    fn find_renamed(
        &self,
        inode: Inode,
        id: Option<u64>,
        is_adopted: bool,
    ) -> Result<Option<(RunFile, Vec<Started>)>, Error> {
        for path in run_files_beside(&self.path) {
            if !read_header(&path).is_some_and(|(header, _)| header.is_of(inode, id)) {
                continue;
            }
            match RunFile::find(&path)? {
                RunFileState::Ours(run, started) if run.header.is_of(inode, id) => return Ok(Some((run, started))),
                RunFileState::Locked { pid } => return Err(Error::new(self.name, Reason::InUse { pid })),
                RunFileState::Damaged(_, damage) if !is_adopted => {
                    return Err(Error::new(path, Reason::Damaged(damage)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Puts the run file of other results where these are, or at least where they are found by its header.
    fn put_away(&self, run: &mut RunFile, owner: &Path) -> Result<(), Error> {
        let mut name = owner.as_os_str().to_owned();
        name.push(format!(".{:016x}{SUFFIX}", run.header.run));
        let moved = if owner == self.path { run.move_to(Path::new(&name)) } else { run.move_to(&run_path(owner)) };
        let moved = match moved {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => run.move_to(Path::new(&name)),
            moved => moved,
        };
        moved.map_err(|error| Error::io(&run.path, "rename", error))
    }

    fn make_run(&self, empty: Option<Locked>, header: Header, in_doubt: &[Started]) -> Result<RunFile, Error> {
        if !in_doubt.is_empty() {
            return self.put_run(header, in_doubt);
        }
        let path = run_path(&self.path);
        let made = match empty {
            Some(file) => RunFile::fill(&path, file, header),
            None => RunFile::create(&path, header),
        };
        made.map_err(|error| Error::io(&path, "create", error))
    }

    /// A run file in the place of one that is damaged, or one that has notes from its first moment: a torn line that a
    /// run has read counts for nothing as soon as there is a run file, so that must know what it told.
    fn put_run(&self, header: Header, in_doubt: &[Started]) -> Result<RunFile, Error> {
        let path = run_path(&self.path);
        RunFile::put(&path, header, in_doubt).map_err(|error| Error::io(&path, "write", error))
    }

    fn inode(&self) -> Result<Inode, Error> {
        self.file.metadata().map(|metadata| Inode::of(&metadata)).map_err(|error| self.failed("read", error))
    }

    fn length(&self) -> Result<u64, Error> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|error| self.failed("read", error))
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Error {
        Error::io(self.name, doing, error)
    }
}

fn is_run_file_of(path: &Path, header: &Header) -> bool {
    read_header(path).is_some_and(|(other, _)| other.run == header.run)
}

/// The results file in this folder, other than this one, that a run file belongs to.
fn owner(header: &Header, results: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(place::folder_of(results)).ok()?.flatten();
    names.map(|entry| entry.path()).filter(|path| path != results).find(|path| {
        let Ok(metadata) = std::fs::symlink_metadata(path) else { return false };
        // Opened only where it may be: a folder can hold many files.
        metadata.is_file()
            && header.is_of(Inode::of(&metadata), Some(header.run))
            && File::open(path)
                .is_ok_and(|file| header.is_of(Inode::of(&metadata), read_mark(&file).map(|mark| mark.run)))
    })
}

/// Results whose locks are ours, and what they are to become.
struct Ready<'a> {
    results: Results<'a>,
    run: RunFile,
    /// The run file was made just now.
    is_new: bool,
    header: Header,
    /// What the first line will say.
    mark: Mark,
    in_doubt: Vec<Started>,
    /// The results file is not as it was.
    is_touched: bool,
}

impl Ready<'_> {
    /// Brings the file into a state to which lines can be added; returns where they go.
    fn make(&mut self, found: &Scan) -> Result<u64, Error> {
        if !self.is_new {
            // What the run file forgets must have its line on the disk, and not only in memory.
            let synced = step("results: sync").and_then(|()| self.results.file.sync_all());
            synced.map_err(|error| self.results.failed("sync", error))?;
        }
        let has_other_start = found.end > 0 && found.mark.is_none_or(|mark| mark.version != self.mark.version);
        if !found.replaced.is_empty() || found.has_strays || found.is_misshapen || has_other_start {
            return self.compact(&found.replaced);
        }
        // Noted before the torn end is cut: the end says what was under way, and is the only one to say so until then.
        self.note(self.header)?;
        let mut end = found.end;
        if end == 0 {
            self.is_touched = true;
            self.results.begin_line(self.mark, found.length)?;
            return Ok(self.mark.length() as u64);
        }
        let results = &self.results;
        if found.length > end {
            self.is_touched = true;
            let cut = step("results: cut the torn end").and_then(|()| results.file.set_len(end));
            cut.map_err(|error| results.failed("cut the torn last line of", error))?;
        }
        if found.lacks_line_feed {
            self.is_touched = true;
            let ended = step("results: end the last line").and_then(|()| results.file.write_all_at(b"\n", end));
            ended.map_err(|error| results.failed("end the last line of", error))?;
            end += 1;
        }
        if !found.is_open {
            self.is_touched = true;
            let said =
                step("results: say that it is open").and_then(|()| results.file.write_all_at(b"1", Mark::OPEN_AT));
            said.map_err(|error| results.failed("write", error))?;
        }
        // Before anything is started: what is copied from now on must say that it is open.
        if self.is_touched {
            let synced = step("results: sync what was changed").and_then(|()| results.file.sync_all());
            synced.map_err(|error| results.failed("sync", error))?;
        }
        Ok(end)
    }

    /// Leaves out the lines that others have taken the place of.
    fn compact(&mut self, replaced: &Replaced) -> Result<u64, Error> {
        let Results { name, path, file, .. } = &self.results;
        let retold = Retold::default();
        let old = Old { name, path, file, mark: self.mark, retold: &retold };
        let mut number = 0;
        let fresh = old.without(|head| {
            number += 1;
            replaced.get(&head.key).is_some_and(|last| number < *last)
        })?;
        let header = expecting(self.header, &fresh).map_err(|error| Error::io(*name, "rewrite", error))?;
        // The run file knows the new inode before the rename, so that a kill between the two leaves a pair.
        note(&mut self.run, self.is_new, header, &self.in_doubt)?;
        self.is_touched = true;
        let file = old.replace(fresh, &mut self.run)?;
        self.results.file = file;
        self.results.length()
    }

    fn note(&mut self, header: Header) -> Result<(), Error> {
        note(&mut self.run, self.is_new, header, &self.in_doubt)
    }
}

/// Has the run file say what is in doubt now.
fn note(run: &mut RunFile, is_new: bool, header: Header, in_doubt: &[Started]) -> Result<(), Error> {
    let noted = match is_new {
        true => run.set_header(header),
        // Also where nothing changes: it says which process has it now.
        false => run.rewrite(header, in_doubt),
    };
    noted.map_err(|error| Error::io(&run.path, "write", error))
}
