//! A results file made anew: without some of its lines, in the order of its input, or both.
//!
//! The new file is whole and synced before it takes the place of the old one, and it is locked before it has a name
//! that others look for: at every moment the results file is found locked. The run file learns of the new inode first,
//! so that a kill before the rename and one after it leave a pair that knows each other. The first line carries the
//! mark, whichever it was before; where no line is left, its beginning does.

use std::{
    fs::{File, Metadata},
    io::{BufWriter, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::Path,
};

use tempfile::NamedTempFile;

use crate::{
    RowKey,
    error::{Error, Reason},
    line::{Head, Mark, scan},
    lines::{FromStart, Lines},
    order::{self, InputOrder},
    place::{self, Inode, Locked},
    retell::Retold,
    runfile::{Header, RunFile},
    steps::step,
};

/// The results file that is to be made anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Old<'a> {
    /// As the user calls it.
    pub(crate) name: &'a Path,
    /// Where it is.
    pub(crate) path: &'a Path,
    pub(crate) file: &'a File,
    /// What its first line will say.
    pub(crate) mark: Mark,
    /// Lines that are told anew.
    pub(crate) retold: &'a Retold,
}

impl Old<'_> {
    /// Leaves out the lines that go.
    pub(crate) fn without(&self, mut goes: impl FnMut(&Head<'_>) -> bool) -> Result<NamedTempFile, Error> {
        let mut copy = Copy::new(self)?;
        let mut lines = Lines::new(self.name, FromStart::new(self.file));
        while lines.advance()? {
            if !goes(&lines.head()) {
                copy.push(lines.bytes()).map_err(|error| self.failed(error))?;
            }
        }
        copy.finish().map_err(|error| self.failed(error))
    }

    /// Leaves out the lines that go, and puts the rest in the order of the input and of pages. Nothing, if that changes
    /// nothing. Holds some 60 bytes for each line.
    pub(crate) fn sorted(
        &self,
        mut goes: impl FnMut(&Head<'_>) -> bool,
        order: InputOrder,
    ) -> Result<Option<NamedTempFile>, Error> {
        let mut heads = Vec::new();
        let mut places: Vec<(u64, RowKey, u64, usize)> = Vec::new();
        let mut has_gone = false;
        let mut lines = Lines::new(self.name, FromStart::new(self.file));
        while lines.advance()? {
            let head = lines.head();
            match goes(&head) {
                true => has_gone = true,
                false => {
                    heads.push(order::of(&head));
                    places.push((0, head.key, lines.start(), lines.bytes().len()));
                }
            }
        }
        for (line, place) in places.iter_mut().zip(order.places(heads.iter())) {
            line.0 = place;
        }
        drop(heads);
        if !has_gone && places.is_sorted() && self.retold.is_empty() {
            return Ok(None);
        }
        places.sort_unstable();
        let mut copy = Copy::new(self)?;
        let mut line = Vec::new();
        for (_, _, offset, length) in places {
            line.resize(length, 0);
            self.file.read_exact_at(&mut line, offset).map_err(|error| self.failed(error))?;
            copy.push(&line).map_err(|error| self.failed(error))?;
        }
        copy.finish().map(Some).map_err(|error| self.failed(error))
    }

    /// Puts the new file in the place of the old one. `run` has been told of it: see [`expecting`].
    pub(crate) fn replace(&self, fresh: NamedTempFile, run: &mut RunFile) -> Result<Locked, Error> {
        // Another file may have been put there, or ours taken away: what is there is not ours to replace.
        if !place::is_at(self.file, self.path) {
            return Err(Error::new(self.name, Reason::Moved));
        }
        // Synced by `Copy::finish`: a rename may be on the disk before the bytes are.
        let renamed = step("results: rename the new file").and_then(|()| place::put(fresh, self.path));
        let file = renamed.map_err(|error| self.failed(error))?;
        let metadata = file.metadata().map_err(|error| self.failed(error))?;
        // The old inode's number is free for any other file now.
        let header =
            Header { results: Inode::of(&metadata), successor: 0, length: reliable_length(&metadata), ..run.header };
        run.set_header(header).map_err(|error| Error::io(&run.path, "write", error))?;
        Ok(file)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(self.name, "rewrite", error)
    }
}

/// The header of a run whose results file is about to be replaced by this one.
pub(crate) fn expecting(header: Header, fresh: &NamedTempFile) -> std::io::Result<Header> {
    let metadata = fresh.as_file().metadata()?;
    // A kill may come before the new file has the name, or after it.
    let length = header.length.min(reliable_length(&metadata));
    Ok(Header { successor: metadata.ino(), length, ..header })
}

/// How long a results file is at the least: a beginning without a line is taken away at the end.
fn reliable_length(results: &Metadata) -> u64 {
    if results.len() > Mark::LONGEST_BYTES as u64 { results.len() } else { 0 }
}

struct Copy<'a> {
    writer: BufWriter<NamedTempFile>,
    /// For the first line.
    mark: Option<Mark>,
    line: Vec<u8>,
    retold: &'a Retold,
}

impl<'a> Copy<'a> {
    fn new(old: &Old<'a>) -> Result<Self, Error> {
        let mode = step("results: make a new file").and_then(|()| old.file.metadata());
        let mode = mode.map(|metadata| metadata.permissions().mode());
        let fresh = mode.and_then(|mode| place::beside(old.path, old.mark.run, mode));
        let writer = BufWriter::with_capacity(1 << 17, fresh.map_err(|error| old.failed(error))?);
        Ok(Self { writer, mark: Some(old.mark), line: Vec::new(), retold: old.retold })
    }

    fn push(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.line.clear();
        let since = if self.retold.is_empty() { None } else { scan(line).and_then(|head| self.retold.get(&head.key)) };
        let told = since.and_then(|since| since.retell(line));
        Mark::push_marked(self.mark.take(), told.as_deref().unwrap_or(line), &mut self.line);
        self.line.push(b'\n');
        self.writer.write_all(&self.line)
    }

    fn finish(mut self) -> std::io::Result<NamedTempFile> {
        if let Some(mark) = self.mark.take() {
            self.writer.write_all(&mark.beginning())?;
        }
        let fresh = self.writer.into_inner().map_err(|error| error.into_error())?;
        step("results: sync the new file")?;
        fresh.as_file().sync_all()?;
        Ok(fresh)
    }
}
