//! What an earlier run left: read once, kept in two bits per row, and compared with the input as it streams past.
//!
//! The input is compared by a checksum per 1,024 rows over the fingerprints of those rows that have a line. Only when
//! one differs is the file read again, to name the first row that does.
//!
//! Where rows are known by their content ([`Identity::Content`]) the input may be in any order, longer or shorter: a row is
//! kept when as many equal ones have a line. That takes some 40 bytes per line.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use unisono_core::{OutcomeCounts, OutcomeKind};

use crate::{
    RowKey,
    error::{Error, Reason},
    journal::compact_locked,
    line::{Head, scan, unescape},
    runfile::Started,
};

/// Which rows with a line run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// There must be no results yet.
    Fresh,
    /// Those that were cancelled, and those that were refused for longer than anybody should wait.
    Resume,
    /// Also those that failed or timed out.
    RetryFailed {
        /// And those of which nobody knows whether they took effect.
        ambiguous: bool,
    },
}

/// How a row of the input is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// By its number, and it must ask for the same as before: another input is refused.
    #[default]
    Row,
    /// By what it asks for, wherever it stands.
    Content,
}

/// What to do with a row of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Run it.
    Run,
    /// It has its outcome.
    Kept,
    /// Its pages up to this one are there; go on with this address.
    Continue {
        /// The last page that is there.
        page: u32,
        /// The address of the one after it.
        next: String,
    },
    /// It was started by a run that did not live to write its outcome: it is `ambiguous`.
    Interrupted {
        /// What was started: its row, and its page where the row has pages.
        key: RowKey,
    },
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Recovered {
    path: PathBuf,
    states: States,
    /// Of rows in the state `Special`.
    special: HashMap<u64, Disposition>,
    /// By block: the sum of what its rows with a line hash to.
    sums: Vec<u64>,
    counts: OutcomeCounts,
    last_row: Option<u64>,
    /// The present block of the input.
    block: Block,
    rows_seen: u64,
    /// Where rows are known by their content: what is left of each content.
    contents: Option<HashMap<u64, Copies>>,
}

/// Lines and notes that ask for the same.
#[derive(Debug, Default)]
struct Copies {
    kept: u32,
    interrupted: Vec<RowKey>,
}

impl Copies {
    /// What to do with the next row that asks for this.
    fn take(&mut self) -> Disposition {
        if self.kept > 0 {
            self.kept -= 1;
            return Disposition::Kept;
        }
        self.interrupted.pop().map_or(Disposition::Run, |key| Disposition::Interrupted { key })
    }
}

/// Lines of earlier runs that the input of this one had no row for.
#[derive(Debug, Default)]
pub struct LeftOver {
    /// Lines from this row on are this run's.
    first_row: u64,
    /// How many of each content.
    contents: HashMap<u64, u32>,
}

impl LeftOver {
    /// How many they are.
    pub fn count(&self) -> u64 {
        self.contents.values().map(|count| u64::from(*count)).sum()
    }

    /// Takes them out of their file, which must not be in use. Answers how they had ended.
    ///
    /// # Errors
    /// When the file cannot be rewritten; it is then as it was.
    pub fn prune(mut self, path: &Path) -> Result<OutcomeCounts, Error> {
        let mut counts = OutcomeCounts::default();
        compact_locked(path, |head| {
            let goes = head.key.row < self.first_row
                && self.contents.get_mut(&head.fingerprint).is_some_and(|count| {
                    let goes = *count > 0;
                    *count -= u32::from(goes);
                    goes
                });
            if goes {
                counts.add(head.outcome);
            }
            goes
        })?;
        Ok(counts)
    }
}

#[derive(Debug, Default)]
struct Block {
    number: u64,
    sum: u64,
    fingerprints: Vec<u64>,
}

/// What the scan of a results file found, beside what goes into [`Recovered`].
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Where the file's last good line ends.
    pub(crate) end: u64,
    /// How long the file is.
    pub(crate) length: u64,
    /// Lines of rows that will run again, and so must go.
    pub(crate) dropped: u64,
}

impl Recovered {
    /// How the rows that are kept had ended.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    /// The last row of which anything is known: until the input has reached it, nothing should run, since the input
    /// may yet turn out to be another one.
    pub fn last_row(&self) -> Option<u64> {
        self.last_row.filter(|_| self.contents.is_none())
    }

    /// The number of the input's first row: 0, or what comes after all earlier rows where these are known by content.
    pub fn first_row(&self) -> u64 {
        self.last_row.filter(|_| self.contents.is_some()).map_or(0, |last| last + 1)
    }

    /// The lines that the input had no row for, where rows are known by content. To be asked once, at its end.
    pub fn take_left_over(&mut self) -> LeftOver {
        let first_row = self.first_row();
        let contents = self.contents.iter_mut().flatten();
        let contents = contents.filter(|(_, copies)| copies.kept > 0);
        LeftOver { first_row, contents: contents.map(|(content, copies)| (*content, copies.kept)).collect() }
    }

    /// What to do with the next row of the input. Rows must come in order, from [`Recovered::first_row`].
    ///
    /// # Errors
    /// When the input is not what it was; this is noticed at the end of each 1,024 rows.
    pub fn dispose(&mut self, row: u64, fingerprint: u64) -> Result<Disposition, Error> {
        self.rows_seen = row + 1;
        if let Some(contents) = &mut self.contents {
            return Ok(contents.get_mut(&fingerprint).map_or(Disposition::Run, Copies::take));
        }
        if self.last_row.is_none_or(|last| row > last) {
            return Ok(Disposition::Run);
        }
        if row / BLOCK != self.block.number {
            self.check_block()?;
            self.block = Block { number: row / BLOCK, ..Block::default() };
        }
        self.block.fingerprints.push(fingerprint);
        let state = self.states.get(row);
        if state != UNKNOWN {
            self.block.sum = self.block.sum.wrapping_add(mix(row, fingerprint));
        }
        if Some(row) == self.last_row {
            self.check_block()?;
        }
        Ok(match state {
            KEPT => Disposition::Kept,
            SPECIAL => self.special.get(&row).cloned().unwrap_or(Disposition::Run),
            _ => Disposition::Run,
        })
    }

    /// The input is at its end.
    ///
    /// # Errors
    /// When it is shorter than it was.
    pub fn end_of_input(&self) -> Result<(), Error> {
        match self.last_row() {
            Some(last) if last >= self.rows_seen => {
                Err(Error::new(&self.path, Reason::Shrunk { rows: self.rows_seen, last }))
            }
            _ => Ok(()),
        }
    }

    fn check_block(&mut self) -> Result<(), Error> {
        let expected = self.sums.get(self.block.number as usize).copied().unwrap_or(0);
        if self.block.sum == expected {
            return Ok(());
        }
        let first = self.block.number * BLOCK;
        let mut differing = first + self.block.fingerprints.len() as u64;
        let read = |error| Error::io(&self.path, "read", error);
        let mut lines = BufReader::new(File::open(&self.path).map_err(read)?).split(b'\n');
        while let Some(line) = lines.next().transpose().map_err(read)? {
            let Some(head) = scan(&line) else { continue };
            let at = head.key.row.wrapping_sub(first) as usize;
            if self.block.fingerprints.get(at).is_some_and(|ours| *ours != head.fingerprint) {
                differing = differing.min(head.key.row);
            }
        }
        Err(Error::new(&self.path, Reason::Changed { row: differing }))
    }

    /// Reads a results file and the notes of its run file.
    pub(crate) fn read(
        path: &Path,
        started: &[Started],
        mode: Mode,
        identity: Identity,
    ) -> Result<(Self, Scan), Error> {
        let contents = (identity == Identity::Content).then(HashMap::new);
        let mut recovered = Self { path: path.to_owned(), contents, ..Self::default() };
        let mut scan_result = Scan::default();
        let mut decided = HashSet::new();
        let noted: HashSet<RowKey> = started.iter().map(|one| one.key).collect();
        if let Some(file) = open_existing(path)? {
            let mut reader = Lines::new(path, file)?;
            scan_result.length = reader.length;
            while let Some(head) = reader.next()? {
                if noted.contains(&head.key) {
                    decided.insert(head.key);
                }
                if runs_again(&head, mode) {
                    scan_result.dropped += 1;
                    recovered.reset(head.key);
                } else if let Err(why) = recovered.keep(&head) {
                    return Err(reader.corrupt(reader.line_start, why));
                }
            }
            scan_result.end = reader.end;
        }
        for one in started.iter().filter(|one| !decided.contains(&one.key)) {
            recovered.mark(one.key.row, one.fingerprint);
            recovered.states.set(one.key.row, SPECIAL);
            recovered.special.insert(one.key.row, Disposition::Interrupted { key: one.key });
            if let Some(contents) = &mut recovered.contents {
                contents.entry(one.fingerprint).or_default().interrupted.push(one.key);
            }
        }
        Ok((recovered, scan_result))
    }

    /// The notes of requests that have no line yet.
    pub(crate) fn in_doubt(&self, started: &[Started]) -> Vec<Started> {
        let mut doubtful: Vec<Started> = started
            .iter()
            .filter(|one| self.special.get(&one.key.row) == Some(&Disposition::Interrupted { key: one.key }))
            .copied()
            .collect();
        doubtful.dedup_by_key(|one| one.key);
        doubtful
    }

    fn keep(&mut self, head: &Head<'_>) -> Result<(), &'static str> {
        let row = head.key.row;
        if row >= MOST_ROWS {
            return Err("the row number is out of range");
        }
        let state = self.states.get(row);
        if state == KEPT {
            return Err("a row has two outcomes");
        }
        self.mark(row, head.fingerprint);
        self.counts.add(head.outcome);
        if let Some(contents) = &mut self.contents {
            contents.entry(head.fingerprint).or_default().kept += 1;
        }
        match head.next {
            Some(Some(next)) => {
                let next = unescape(next).ok_or("the address of the next page cannot be read")?;
                self.states.set(row, SPECIAL);
                self.special.insert(row, Disposition::Continue { page: head.key.page, next });
            }
            _ => {
                self.states.set(row, KEPT);
                self.special.remove(&row);
            }
        }
        Ok(())
    }

    /// A line of this row will go: what came before it in its row still stands.
    fn reset(&mut self, key: RowKey) {
        self.last_row = self.last_row.max(Some(key.row));
        debug_assert_ne!(self.states.get(key.row), KEPT, "a page that failed is its row's last line");
    }

    /// Counts a row into its block's sum, once.
    fn mark(&mut self, row: u64, fingerprint: u64) {
        if self.states.get(row) == UNKNOWN {
            let block = (row / BLOCK) as usize;
            if self.sums.len() <= block {
                self.sums.resize(block + 1, 0);
            }
            self.sums[block] = self.sums[block].wrapping_add(mix(row, fingerprint));
        }
        self.last_row = self.last_row.max(Some(row));
    }
}

/// Whether a row with this line runs again. What may have been carried out, and must not be repeated, does so only where
/// the user asked for what is ambiguous, whatever word its outcome has.
pub(crate) fn runs_again(head: &Head<'_>, mode: Mode) -> bool {
    let asked = match (head.outcome, mode) {
        (OutcomeKind::Ok | OutcomeKind::Skipped, _) => false,
        (OutcomeKind::Cancelled, _) => true,
        (OutcomeKind::Failed, Mode::Fresh | Mode::Resume) => head.rate_limited,
        (OutcomeKind::Failed | OutcomeKind::TimedOut, Mode::RetryFailed { .. }) => true,
        (OutcomeKind::TimedOut, _) => false,
        (OutcomeKind::Ambiguous, mode) => matches!(mode, Mode::RetryFailed { ambiguous: true }),
    };
    asked && (head.effect.allows_repeat(head.repeatable) || matches!(mode, Mode::RetryFailed { ambiguous: true }))
}

pub(crate) fn open_existing(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "open", error)),
    }
}

/// The good lines of a results file, and where they end.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    line: Vec<u8>,
    length: u64,
    line_start: u64,
    end: u64,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(path: &'a Path, file: File) -> Result<Self, Error> {
        let length = file.metadata().map_err(|error| Error::io(path, "read", error))?.len();
        Ok(Self {
            path,
            reader: BufReader::with_capacity(1 << 17, file),
            line: Vec::new(),
            length,
            line_start: 0,
            end: 0,
        })
    }

    /// The next line's prefix. At the first line that is not whole: the end, if nothing good follows it.
    pub(crate) fn next(&mut self) -> Result<Option<Head<'_>>, Error> {
        self.line_start = self.end;
        if !self.read_line()? {
            return Ok(None);
        }
        let is_last = self.end_of_line() == self.length;
        let whole = self.line.ends_with(b"\n") && scan(self.inside()).is_some() && (!is_last || self.is_json());
        if !whole {
            self.check_tail()?;
            return Ok(None);
        }
        self.end = self.end_of_line();
        Ok(scan(self.inside()))
    }

    /// The line that `next` answered with, newline included.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.line
    }

    fn corrupt(&self, offset: u64, why: &'static str) -> Error {
        Error::new(self.path, Reason::Corrupt { offset, why })
    }

    fn inside(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    fn end_of_line(&self) -> u64 {
        self.line_start + self.line.len() as u64
    }

    fn is_json(&self) -> bool {
        serde_json::from_slice::<serde::de::IgnoredAny>(&self.line).is_ok()
    }

    fn read_line(&mut self) -> Result<bool, Error> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        read.map(|count| count > 0).map_err(|error| Error::io(self.path, "read", error))
    }

    /// A bad line is a torn tail when it is the last of a file of ours, and damage when good lines follow.
    fn check_tail(&mut self) -> Result<(), Error> {
        let start = self.line_start;
        if start == 0 && !looks_like_ours(&self.line) {
            return Err(Error::new(self.path, Reason::NotOurs));
        }
        while self.read_line()? {
            if self.line.ends_with(b"\n") && scan(self.inside()).is_some() {
                return Err(self.corrupt(start, "a line that is not whole stands before others that are"));
            }
        }
        Ok(())
    }
}

/// Whether a first line that is not whole may have been one of ours: cut short, or zeroed by a crash.
fn looks_like_ours(line: &[u8]) -> bool {
    const START: &[u8] = b"{\"row\":";
    line.starts_with(START) || START.starts_with(line) || line.iter().all(|byte| *byte == 0)
}

/// Copies the lines that stay into a new file.
pub(crate) fn copy_kept(
    path: &Path,
    mut from: File,
    into: &mut impl std::io::Write,
    mut goes: impl FnMut(&Head<'_>) -> bool,
) -> Result<(), Error> {
    from.seek(SeekFrom::Start(0)).map_err(|error| Error::io(path, "read", error))?;
    let mut lines = Lines::new(path, from)?;
    loop {
        let Some(goes) = lines.next()?.map(|head| goes(&head)) else { return Ok(()) };
        if !goes {
            into.write_all(lines.bytes()).map_err(|error| Error::io(path, "compact", error))?;
        }
    }
}

/// Two bits per row.
#[derive(Debug, Default)]
struct States(Vec<u64>);

impl States {
    fn get(&self, row: u64) -> u64 {
        let word = self.0.get((row / 32) as usize).copied().unwrap_or(0);
        word >> (row % 32 * 2) & 0b11
    }

    fn set(&mut self, row: u64, state: u64) {
        let (word, shift) = ((row / 32) as usize, row % 32 * 2);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] = self.0[word] & !(0b11 << shift) | state << shift;
    }
}

/// Mixes a row and its fingerprint, so that exchanged rows do not cancel out. The finalizer of `MurmurHash3`.
fn mix(row: u64, fingerprint: u64) -> u64 {
    let mut hash = fingerprint ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

const UNKNOWN: u64 = 0;
const KEPT: u64 = 1;
const SPECIAL: u64 = 2;
const BLOCK: u64 = 1024;
/// Two bits each are 4 GiB: no input is that long, but a damaged row number may be.
const MOST_ROWS: u64 = 1 << 34;
