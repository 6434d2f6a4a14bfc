//! What the readers of all formats share: lines of bounded length, and where their rows go.

use std::{
    cell::RefCell,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
    sync::{Arc, mpsc::SyncSender},
};

use super::batches::{Batcher, Stopped};
use crate::{
    Error,
    row::{LineNumber, Maker, Row, RowFields, RowOrigin},
};

/// Takes rows from a reader of some format.
pub(crate) struct Rows<M: Maker> {
    pub(super) maker: M,
    name: Option<Arc<str>>,
    batcher: Rc<RefCell<Batcher<M::Call>>>,
    /// Told once whether the input can be taken, before its first row; dropped when it has none.
    verdict: Option<Verdict>,
}

/// Where it is waited for whether an input can be taken.
pub(crate) type Verdict = SyncSender<Result<(), Error>>;

impl<M: Maker> Rows<M> {
    pub(crate) fn new(maker: M, name: Option<Arc<str>>, batcher: Rc<RefCell<Batcher<M::Call>>>) -> Self {
        Self { maker, name, batcher, verdict: None }
    }

    /// The same, for a run that does not begin before it is known whether the input can be taken.
    pub(crate) fn awaited(self, verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), ..self }
    }

    /// Begins with what the header or the first line has, unless rows could not be made of it; `None` where each row
    /// brings columns of its own.
    pub(super) fn begin(&mut self, first: Option<&dyn RowFields>) -> Result<(), Stopped> {
        match first.map_or(Ok(()), |first| self.maker.check(first)) {
            Ok(()) => {
                // Whether it is still waited for makes no difference.
                let _ = self.verdict.take().map(|verdict| verdict.send(Ok(())));
                Ok(())
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// The input cannot be taken.
    pub(super) fn refuse(&mut self, error: Error) -> Stopped {
        let Some(verdict) = self.verdict.take() else { return Stopped::Failed(error.to_string()) };
        let named = self.name.iter().fold(error, |error, name| error.of(name));
        let _ = verdict.send(Err(named));
        Stopped::Gone
    }

    /// All calls of one row.
    pub(super) fn push(&mut self, line: u64, fields: &dyn RowFields) -> Result<(), Stopped> {
        let origin = RowOrigin { name: self.name.clone(), line: LineNumber::new(line) };
        let mut pushed = Ok(());
        self.maker.make(fields, origin, &mut |row| {
            pushed = self.batcher.borrow_mut().push(row);
            pushed.is_ok()
        });
        pushed
    }

    /// A row that cannot be understood.
    pub(super) fn bad(&mut self, line: u64, why: String) -> Result<(), Stopped> {
        let origin = RowOrigin { name: self.name.clone(), line: LineNumber::new(line) };
        self.batcher.borrow_mut().push(Row { id: None, origin, call: Err(why) })
    }
}

/// Reads line by line, each with its number from 1 and its end.
pub(crate) fn for_each_line(
    reader: impl Read,
    delimiter: u8,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut reader, delimiter, &mut line, LONGEST_ROW_BYTES)? {
        number += 1;
        if line.len() > LONGEST_ROW_BYTES {
            return Err(Stopped::Failed(too_long(number)));
        }
        take(number, &line)?;
        line.clear();
    }
    Ok(())
}

/// Appends the next line with its end, or as much of it as makes more than `most` bytes. Returns whether there was one.
pub(crate) fn read_line(reader: &mut impl BufRead, delimiter: u8, line: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    // One more than fits tells a line that is too long from one that fits just so.
    let room = (most + 1).saturating_sub(line.len());
    Ok(reader.take(room as u64).read_until(delimiter, line)? > 0)
}

/// Why a line or row cannot be taken.
pub(crate) fn too_long(line: u64) -> String {
    format!("line {line} has more than {} MiB, which is the most that a row may have", LONGEST_ROW_BYTES >> 20)
}

/// The most that one row may have: as much as the largest body that is taken by default. More is hardly a row, and
/// would be held in memory several times.
pub(crate) const LONGEST_ROW_BYTES: usize = 64 << 20;
