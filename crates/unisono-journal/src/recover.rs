//! What an earlier run left: read once, kept in two bits per row, and compared with the input as it streams past.
//!
//! The input is compared by a checksum per 1,024 rows over the fingerprints of those rows that have a line. Only when
//! one differs is the file read again, to name the first row that does.
//!
//! Every line is looked at whole. One that is broken is named and nothing is touched, unless it is the last and a kill can have
//! torn it: then it is cut off, and what it tells of its row decides whether that may run again.
//!
//! Where rows are known by their content ([`Identity::Content`]) the input may be in any order, longer or shorter: a row is
//! kept when as many equal ones have a line. That takes some 40 bytes per line.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use unisono_core::{OutcomeCounts, OutcomeKind};

use crate::{
    RowKey,
    error::{Error, Reason},
    line::{Head, Mark, may_begin, scan, scan_start, unescape},
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

impl Mode {
    /// Whether the row of this line runs again.
    pub fn repeats(self, head: &Head<'_>) -> bool {
        runs_again(head, self)
    }
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
    /// Whether it was started is not known, since notes were lost: what bears being done twice does this, the rest is
    /// `ambiguous`.
    Unsure(Box<Disposition>),
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Recovered {
    path: PathBuf,
    /// By number: only those that have a line take room, so that an absurd number of a row costs no more than any other.
    blocks: HashMap<u64, Rows>,
    /// Of rows in the state `Special`.
    special: HashMap<u64, Disposition>,
    /// Of those, the ones whose last line said that they may run again.
    again: HashSet<u64>,
    /// Notes were lost: what has no line may have been started.
    is_unsure: bool,
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
    /// Their line said that they may run again.
    again: u32,
}

impl Copies {
    /// What to do with the next row that asks for this.
    fn take(&mut self, is_unsure: bool) -> Disposition {
        if self.kept > 0 {
            self.kept -= 1;
            return Disposition::Kept;
        }
        if let Some(key) = self.interrupted.pop() {
            return Disposition::Interrupted { key };
        }
        let is_known = self.again > 0;
        self.again -= u32::from(is_known);
        if is_unsure && !is_known { unsure(Disposition::Run) } else { Disposition::Run }
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

    /// Whether the line with this head, the next one of the file, is one of them.
    pub(crate) fn takes(&mut self, head: &Head<'_>) -> bool {
        head.key.row < self.first_row
            && self.contents.get_mut(&head.fingerprint).is_some_and(|count| {
                let goes = *count > 0;
                *count -= u32::from(goes);
                goes
            })
    }
}

/// The present block of the input.
#[derive(Debug, Default)]
struct Block {
    number: u64,
    sum: u64,
    fingerprints: Vec<u64>,
}

/// What the scan of a results file found, beside what goes into [`Recovered`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where the file's last good line ends.
    pub(crate) end: u64,
    /// How long the file is.
    pub(crate) length: u64,
    /// Lines of rows that will run again, and so must go.
    pub(crate) dropped: u64,
    /// The mark of the first line.
    pub(crate) mark: Option<Mark>,
    /// Other lines have marks: somebody has sorted the file, or put two together.
    pub(crate) has_strays: bool,
    /// One of all those says that the file it comes from is open.
    pub(crate) is_open: bool,
    /// What was torn off behind the last good line.
    pub(crate) tail: Tail,
    /// The last line is whole but for its line feed.
    pub(crate) lacks_line_feed: bool,
}

/// What a torn last line tells.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// There is none, or its row may run again.
    #[default]
    Harmless,
    /// Something that must not be repeated has been done, or may have been.
    Started(Started),
    /// Not even whose it is.
    Unknown,
}

/// What [`Recovered::read`] is to make of a file.
pub(crate) struct Reading<'a> {
    pub(crate) path: &'a Path,
    /// The notes of its run file, if it has one.
    pub(crate) started: Option<&'a [Started]>,
    pub(crate) is_unsure: bool,
    pub(crate) mode: Mode,
    pub(crate) identity: Identity,
    /// Told of each line that stays.
    pub(crate) on_kept: &'a mut dyn FnMut(&Head<'_>, &[u8]),
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
            return Ok(match contents.get_mut(&fingerprint) {
                Some(copies) => copies.take(self.is_unsure),
                None if self.is_unsure => unsure(Disposition::Run),
                None => Disposition::Run,
            });
        }
        if self.last_row.is_none_or(|last| row > last) {
            return Ok(if self.is_unsure { unsure(Disposition::Run) } else { Disposition::Run });
        }
        if row / BLOCK != self.block.number {
            self.check_block()?;
            self.block = Block { number: row / BLOCK, ..Block::default() };
        }
        self.block.fingerprints.push(fingerprint);
        let state = self.state(row);
        if state == KEPT || state == SPECIAL {
            self.block.sum = self.block.sum.wrapping_add(mix(row, fingerprint));
        }
        if Some(row) == self.last_row {
            self.check_block()?;
        }
        Ok(match state {
            KEPT => Disposition::Kept,
            SPECIAL => match self.special.get(&row).cloned().unwrap_or(Disposition::Run) {
                next @ Disposition::Continue { .. } if self.is_unsure && !self.again.contains(&row) => unsure(next),
                special => special,
            },
            UNKNOWN if self.is_unsure => unsure(Disposition::Run),
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
        let expected = self.blocks.get(&self.block.number).map_or(0, |rows| rows.sum);
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

    /// Reads a results file and the notes of its run file. `length` is how long it is.
    pub(crate) fn read(from: impl Read, length: u64, reading: Reading<'_>) -> Result<(Self, Scan), Error> {
        let Reading { path, started, is_unsure, mode, identity, on_kept } = reading;
        let contents = (identity == Identity::Content).then(HashMap::new);
        let mut recovered = Self { path: path.to_owned(), contents, is_unsure, ..Self::default() };
        let mut found = Scan { length, ..Scan::default() };
        let mut decided = HashSet::new();
        let noted: HashSet<RowKey> = started.iter().flat_map(|started| started.iter()).map(|one| one.key).collect();
        let mut lines = Lines::new(path, from);
        while lines.advance()? {
            let head = lines.head();
            if noted.contains(&head.key) {
                decided.insert(head.key);
            }
            if let Some(mark) = Mark::of(lines.bytes()) {
                found.is_open |= mark.is_open;
                match lines.number {
                    1 => found.mark = Some(mark),
                    _ => found.has_strays = true,
                }
            }
            if runs_again(&head, mode) {
                found.dropped += 1;
                recovered.reset(&head);
            } else {
                recovered.keep(&head).map_err(|why| lines.corrupt(why))?;
                on_kept(&head, lines.bytes());
            }
        }
        (found.end, found.lacks_line_feed) = (lines.end, lines.lacks_line_feed);
        found.tail = lines.tail;
        found.is_open |= Mark::of(lines.bytes()).is_some_and(|mark| mark.is_open);
        match (found.tail, started) {
            // What had started was noted before it did; so the notes know more than half a line does.
            (_, Some(_)) | (Tail::Harmless, _) => {}
            (Tail::Started(one), None) => recovered.interrupt(one),
            (Tail::Unknown, None) => recovered.is_unsure = true,
        }
        let undecided = started.iter().flat_map(|started| started.iter()).filter(|one| !decided.contains(&one.key));
        undecided.for_each(|one| recovered.interrupt(*one));
        Ok((recovered, found))
    }

    /// Reads what may be a results file, and throws nothing away: any bytes have a result.
    ///
    /// # Errors
    /// When they are not the lines of a results file, or one of them is broken: it is named.
    ///
    /// ```
    /// use unisono_journal::{Identity, Mode, Recovered};
    /// assert!(Recovered::of_bytes(b"", Mode::Resume, Identity::Row).is_ok());
    /// assert!(Recovered::of_bytes(b"Dear diary,\n", Mode::Resume, Identity::Row).is_err());
    /// ```
    pub fn of_bytes(bytes: &[u8], mode: Mode, identity: Identity) -> Result<Self, Error> {
        let reading = Reading {
            path: Path::new("results"),
            started: None,
            is_unsure: false,
            mode,
            identity,
            on_kept: &mut |_, _| {},
        };
        Ok(Self::read(bytes, bytes.len() as u64, reading)?.0)
    }

    /// The notes of requests that have no line yet.
    pub(crate) fn in_doubt(&self, started: &[Started], tail: Tail) -> Vec<Started> {
        let is_doubtful =
            |one: &&Started| self.special.get(&one.key.row) == Some(&Disposition::Interrupted { key: one.key });
        let tail = match &tail {
            Tail::Started(one) => Some(one),
            _ => None,
        };
        let mut doubtful: Vec<Started> = started.iter().chain(tail).filter(is_doubtful).copied().collect();
        doubtful.sort_by_key(|one| one.key);
        doubtful.dedup_by_key(|one| one.key);
        doubtful
    }

    /// Notes were lost, so that what has no line may have been started.
    pub(crate) fn lose_notes(&mut self) {
        self.is_unsure = true;
    }

    /// Whether notes were lost, so that what has no line may have been started.
    pub fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    fn interrupt(&mut self, one: Started) {
        self.mark(one.key.row, one.fingerprint);
        self.set_state(one.key.row, SPECIAL);
        self.special.insert(one.key.row, Disposition::Interrupted { key: one.key });
        if let Some(contents) = &mut self.contents {
            contents.entry(one.fingerprint).or_default().interrupted.push(one.key);
        }
    }

    fn keep(&mut self, head: &Head<'_>) -> Result<(), &'static str> {
        let row = head.key.row;
        if row > MOST_ROW {
            return Err("the row number is out of range");
        }
        if head.key.page > MOST_PAGE {
            return Err("the page number is out of range");
        }
        // Of a row that has come to its end the pages before it may yet come, where the lines were sorted.
        let is_earlier_page = head.key.page > 0 && matches!(head.next, Some(Some(_)));
        let is_at_its_end = self.state(row) == KEPT;
        if is_at_its_end && !is_earlier_page {
            return Err("a row has two outcomes");
        }
        self.mark(row, head.fingerprint);
        self.counts.add(head.outcome);
        if let Some(contents) = &mut self.contents {
            contents.entry(head.fingerprint).or_default().kept += 1;
        }
        match head.next {
            Some(Some(_)) if is_at_its_end => {}
            Some(Some(next)) => {
                let next = unescape(next).ok_or("the address of the next page cannot be read")?;
                let page = head.key.page;
                let last = match self.special.get(&row) {
                    Some(Disposition::Continue { page, .. }) => *page,
                    _ => 0,
                };
                if page == last {
                    return Err("a page has two outcomes");
                }
                self.set_state(row, SPECIAL);
                // Whoever sorts the lines of a file as text puts page 10 before page 2.
                if page > last {
                    self.special.insert(row, Disposition::Continue { page, next });
                }
            }
            _ => {
                self.set_state(row, KEPT);
                self.special.remove(&row);
            }
        }
        Ok(())
    }

    /// A line of this row will go: what came before it in its row still stands.
    fn reset(&mut self, head: &Head<'_>) {
        let row = head.key.row;
        self.last_row = self.last_row.max(Some(row).filter(|row| *row <= MOST_ROW));
        if let Some(contents) = &mut self.contents {
            contents.entry(head.fingerprint).or_default().again += 1;
        }
        match self.state(row) {
            UNKNOWN => self.set_state(row, AGAIN),
            SPECIAL => drop(self.again.insert(row)),
            // A row with two outcomes: the one that stays decides.
            _ => {}
        }
    }

    /// Counts a row into its block's sum, once.
    fn mark(&mut self, row: u64, fingerprint: u64) {
        if matches!(self.state(row), UNKNOWN | AGAIN) {
            let rows = self.blocks.entry(row / BLOCK).or_default();
            rows.sum = rows.sum.wrapping_add(mix(row, fingerprint));
        }
        self.last_row = self.last_row.max(Some(row));
    }

    fn state(&self, row: u64) -> u64 {
        self.blocks.get(&(row / BLOCK)).map_or(UNKNOWN, |rows| rows.get(row % BLOCK))
    }

    fn set_state(&mut self, row: u64, state: u64) {
        self.blocks.entry(row / BLOCK).or_default().set(row % BLOCK, state);
    }
}

fn unsure(otherwise: Disposition) -> Disposition {
    Disposition::Unsure(Box::new(otherwise))
}

/// Whether a row with this line runs again. What may have been carried out, and must not be repeated, does so only where
/// the user asked for what is ambiguous, whatever word its outcome has.
pub(crate) fn runs_again(head: &Head<'_>, mode: Mode) -> bool {
    let asked = match (head.outcome, mode) {
        (OutcomeKind::Ok | OutcomeKind::Skipped, _) => false,
        (OutcomeKind::Cancelled, _) => true,
        (OutcomeKind::Failed, Mode::Fresh | Mode::Resume) => head.is_passing,
        (OutcomeKind::Failed | OutcomeKind::TimedOut, Mode::RetryFailed { .. }) => true,
        (OutcomeKind::TimedOut, _) => false,
        (OutcomeKind::Ambiguous, mode) => matches!(mode, Mode::RetryFailed { ambiguous: true }),
    };
    asked && (head.effect.allows_repeat(head.repeatable) || matches!(mode, Mode::RetryFailed { ambiguous: true }))
}

/// The good lines of a results file, and where they end.
pub(crate) struct Lines<'a, R> {
    path: &'a Path,
    reader: BufReader<R>,
    line: Vec<u8>,
    /// The number of the present line, from 1, and where it begins.
    number: u64,
    start: u64,
    /// Where the last good one ends.
    end: u64,
    tail: Tail,
    lacks_line_feed: bool,
}

impl<'a, R: Read> Lines<'a, R> {
    pub(crate) fn new(path: &'a Path, from: R) -> Self {
        Self {
            path,
            reader: BufReader::with_capacity(1 << 17, from),
            line: Vec::new(),
            number: 0,
            start: 0,
            end: 0,
            tail: Tail::Harmless,
            lacks_line_feed: false,
        }
    }

    /// Goes to the next line; false at the end, which a torn line is as well.
    ///
    /// # Errors
    /// When the line is broken and not by a kill, or the file is not ours.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        (self.start, self.number) = (self.end, self.number + 1);
        self.line.clear();
        let read = |error| Error::io(self.path, "read", error);
        if self.reader.read_until(b'\n', &mut self.line).map_err(read)? == 0 {
            return Ok(false);
        }
        let inside = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        if scan(inside).is_some() && is_json(inside) {
            self.end = self.start + self.line.len() as u64;
            self.lacks_line_feed = inside.len() == self.line.len();
            return Ok(true);
        }
        let is_last = self.reader.fill_buf().map_err(read)?.is_empty();
        self.tail = self.torn(is_last)?;
        Ok(false)
    }

    /// What the present line tells that is not whole.
    fn torn(&self, is_last: bool) -> Result<Tail, Error> {
        let is_zero = self.line.iter().all(|byte| *byte == 0);
        if self.number == 1 && !may_begin(&self.line) && !is_zero {
            return Err(Error::new(self.path, Reason::NotOurs));
        }
        if !is_last {
            return Err(self.corrupt("it is broken, and not the last one"));
        }
        // A kill takes the end of a line with its line feed, and never leaves that.
        if self.line.ends_with(b"\n") {
            return Err(self.corrupt("it is broken"));
        }
        match scan_start(&self.line) {
            Some((head, _)) if head.key.row > MOST_ROW => Err(self.corrupt("the row number is out of range")),
            Some((head, _)) if head.effect.allows_repeat(head.repeatable) => Ok(Tail::Harmless),
            Some((head, _)) => Ok(Tail::Started(Started { key: head.key, fingerprint: head.fingerprint })),
            None => Ok(Tail::Unknown),
        }
    }

    /// What the present line begins with.
    pub(crate) fn head(&self) -> Head<'_> {
        scan(self.inside()).expect("only lines that can be scanned are gone to")
    }

    /// The present line, without its line feed.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.inside()
    }

    /// Where the present line stands, and how long it is with its line feed.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.start, self.end - self.start)
    }

    /// What is wrong with the present line.
    pub(crate) fn corrupt(&self, why: &'static str) -> Error {
        Error::new(self.path, Reason::Corrupt { line: self.number, offset: self.start, why })
    }

    fn inside(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }
}

/// Reads a file from its beginning without moving the place at which it is written.
pub(crate) struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> FromStart<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn is_json(line: &[u8]) -> bool {
    // The grammar alone, which takes no stack however deep it goes: what stands in a line was looked through before.
    std::str::from_utf8(line).is_ok_and(|line| serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok())
}

/// What is known of the rows of one block.
#[derive(Debug)]
struct Rows {
    /// Two bits per row.
    states: [u64; BLOCK as usize / 32],
    /// The sum of what those that count hash to.
    sum: u64,
}

impl Default for Rows {
    fn default() -> Self {
        Self { states: [0; BLOCK as usize / 32], sum: 0 }
    }
}

impl Rows {
    fn get(&self, row: u64) -> u64 {
        self.states[(row / 32) as usize] >> (row % 32 * 2) & 0b11
    }

    fn set(&mut self, row: u64, state: u64) {
        let (word, shift) = (&mut self.states[(row / 32) as usize], row % 32 * 2);
        *word = *word & !(0b11 << shift) | state << shift;
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
/// Its line goes, and has said that the row may run again.
const AGAIN: u64 = 3;
const BLOCK: u64 = 1024;
/// What every reader of JSON can tell from its neighbours.
const MOST_ROW: u64 = 1 << 53;
/// There is one after it.
const MOST_PAGE: u32 = u32::MAX - 1;
