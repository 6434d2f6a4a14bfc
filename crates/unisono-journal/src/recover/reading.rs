//! The reading of a results file and of the notes beside it: what of them is known of each row, and what is in doubt.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io::Read,
    path::Path,
    sync::Arc,
};

use unisono_core::OutcomeKind;

use super::{Adrift, Identity, Named, Recovered, could_have_been_repeated};
use crate::{
    Repeat, RerunMode, RowKey,
    disposition::{Disposition, Fate, Later, interrupted},
    error::{Error, Reason},
    in_doubt::merged,
    line::{Head, MOST_ROW, Mark, unescape},
    lines::{Lines, Tail},
    mode::Mode,
    old_lines::{OldLine, OldLines},
    row_table::RowState,
    runfile::{Standing, Started},
};

/// What the scan of a results file found, beside what goes into [`Recovered`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where the file's last good line ends.
    pub(crate) end: u64,
    /// How long the file is.
    pub(crate) length: u64,
    /// What has several lines, and the number of the last of them, from 1: the others go.
    pub(crate) replaced: Replaced,
    /// The mark of the first line, which may be no more than begun.
    pub(crate) mark: Option<Mark>,
    /// By which rules its fingerprints were made, as its marks say; those of lines without any by the first.
    pub(crate) versions: HashSet<u8>,
    /// A line says that something was done, or may have been, that must not be repeated.
    pub(crate) has_done: bool,
    /// Other lines have marks: the file was sorted, or two were put together.
    pub(crate) has_strays: bool,
    /// One of all those says that the file it comes from is open.
    pub(crate) is_open: bool,
    /// What was torn off behind the last good line.
    pub(crate) tail: Tail,
    /// The last line is whole but for its line feed.
    pub(crate) lacks_line_feed: bool,
    /// Not each outcome has a line as we write them.
    pub(crate) is_misshapen: bool,
    /// The notes of what has no line yet, as the run file is to hold them.
    pub(crate) in_doubt: Vec<Started>,
}

/// What has several lines, and the number of the last of them.
pub(crate) type Replaced = HashMap<RowKey, u64>;

/// What [`Recovered::read`] is to make of a file.
pub(crate) struct Reading<'a> {
    pub(crate) path: &'a Path,
    /// The notes of its run file, if it has one.
    pub(crate) started: Option<&'a [Started]>,
    pub(crate) is_unsure: bool,
    /// Notes are given up now: what had a line that some run would have repeated may have been started since, whatever
    /// is repeated this time.
    pub(crate) loses_notes: bool,
    /// Lines may have been replaced by later ones.
    pub(crate) may_replace: bool,
    pub(crate) mode: Mode,
    pub(crate) identity: Identity,
    /// Told of each line that is not replaced.
    pub(crate) on_line: &'a mut dyn FnMut(&Head<'_>, &[u8], Fate),
}

impl Recovered {
    /// Reads a results file and the notes of its run file. `from` begins at its beginning, `length` is how long it is.
    pub(crate) fn read<R: Read>(
        from: impl Fn() -> R,
        length: u64,
        reading: Reading<'_>,
    ) -> Result<(Self, Scan), Error> {
        let Reading { path, started, is_unsure, loses_notes, may_replace, mode, identity, on_line } = reading;
        // What had a line that some run would have repeated may have been started since, whatever is repeated this
        // time.
        let is_unsure = is_unsure || loses_notes;
        let does_ambiguous = mode == Mode::RetryFailed { ambiguous: true };
        let mut recovered = Self { path: path.to_owned(), identity, is_unsure, does_ambiguous, ..Self::default() };
        let mut found = Scan { length, ..Scan::default() };
        // A reading of its own: which of two lines is the later one is known at the end alone.
        if may_replace {
            (found.replaced, found.tail) = find_replaced(path, from())?;
        }
        let notes = merged(started.unwrap_or_default());
        let tail = match (&found.tail, started) {
            // What had started was noted before it did; so the notes know more than half a line does.
            (Tail::Started(one), None) => Some(one.clone()),
            _ => None,
        };
        // What has a line that is older than its note.
        let mut doubtful: HashMap<RowKey, Repeat> = HashMap::new();
        let newer = notes.iter().filter(|one| one.has_line && !found.replaced.contains_key(&one.key)).chain(&tail);
        newer.for_each(|one| {
            doubtful.entry(one.key).and_modify(|repeat| *repeat = repeat.join(one.repeat)).or_insert(one.repeat);
        });
        let noted: HashSet<u64> = notes.iter().chain(&tail).map(|one| one.key.row).collect();
        // The pages with which rows that have notes came to their end.
        let mut last_pages = HashMap::new();
        // What rows that have notes ask for, as their lines say.
        let mut asked = HashSet::new();
        let (mut decided, mut old) = (HashSet::new(), OldLines::new());
        let mut lines = Lines::new(path, from());
        while lines.advance()? {
            let head = lines.head();
            let mark = Mark::of(lines.bytes());
            if mark.is_some() || lines.ordinal == 1 {
                found.versions.insert(mark.map_or(1, |mark| mark.version));
            }
            if let Some(mark) = mark {
                found.is_open |= mark.is_open;
                match lines.ordinal {
                    1 => found.mark = Some(mark),
                    _ => found.has_strays = true,
                }
            }
            if found.replaced.get(&head.key).is_some_and(|last| lines.ordinal < *last) {
                continue;
            }
            if identity == Identity::Id && !recovered.give_name(&head) {
                return Err(Error::new(path, Reason::IdTwice { line: lines.number() }));
            }
            found.has_done |= !head.effect.allows_repeat(head.repeatable);
            // Whatever is repeated this time: what was started is not forgotten, and its line does not say it.
            let is_doubtful = doubtful.contains_key(&head.key);
            if is_doubtful || mode.repeats(&head) || is_unsure && could_have_been_repeated(&head) {
                if old.insert(head.key, OldLine::of(&head)).is_some() {
                    return Err(lines.corrupt(TWICE));
                }
                if recovered.table.get(head.key.row) == RowState::Kept {
                    return Err(lines.corrupt(TWICE));
                }
                recovered.reset(&head, is_doubtful);
                if !is_doubtful && !mode.repeats(&head) && head.repeatable {
                    recovered.ended.insert(head.key.row);
                }
                on_line(&head, lines.bytes(), Fate::RunsAgain);
            } else {
                if old.contains_key(&head.key) {
                    return Err(lines.corrupt(TWICE));
                }
                recovered.keep(&head).map_err(|why| lines.corrupt(why))?;
                on_line(&head, lines.bytes(), Fate::Stays);
            }
            if noted.contains(&head.key.row) {
                asked.insert((head.key.row, head.fingerprint));
                decided.insert((head.key, Some(head.fingerprint)));
                if !is_doubtful {
                    decided.insert((head.key, None));
                    if !head.goes_on() {
                        last_pages.insert((head.key.row, head.fingerprint), head.key.page);
                    }
                }
            }
        }
        (found.end, found.lacks_line_feed) = (lines.end, lines.lacks_line_feed);
        found.tail = std::mem::take(&mut lines.tail);
        found.is_misshapen = lines.is_misshapen;
        if let Some(mark) = Mark::of(lines.bytes()) {
            found.is_open |= mark.is_open;
            if !Mark::is_cut_in(lines.bytes()) {
                found.versions.insert(mark.version);
            }
            if lines.ordinal == 1 {
                found.mark = Some(mark);
            }
        }
        // As in `InDoubt::decide`.
        let is_behind_the_end =
            |one: &Started| last_pages.get(&(one.key.row, one.fingerprint)).is_some_and(|last| one.key.page > *last);
        let undecided = |one: &Started| {
            one.standing == Standing::Adrift || !decided.contains(&one.note_key()) && !is_behind_the_end(one)
        };
        let mut in_doubt: Vec<Started> = notes.into_iter().filter(undecided).collect();
        match (&found.tail, started) {
            (_, Some(_)) | (Tail::Harmless, _) => {}
            (Tail::Started(one), None) => in_doubt.push(one.clone()),
            (Tail::Unknown, None) => recovered.is_unsure = true,
        }
        // The pages of a row side by side, as the first of them says what becomes of those behind it.
        in_doubt.sort_by_key(Started::order);
        let mut number = 0;
        for pages in in_doubt.chunk_by_mut(Started::goes_on_with) {
            // A line stands where its row does, if it is torn as well.
            let has_line = pages.iter().any(|one| one.has_line);
            let has_place = started.is_none() || has_line || asked.contains(&(pages[0].key.row, pages[0].fingerprint));
            recovered.interrupt(pages, has_place, number);
            number += pages.len() as u32;
            // What is adrift has none: one with its number is that of another row.
            let firm = pages.iter_mut().filter(|one| one.standing == Standing::Firm);
            firm.for_each(|one| one.has_line = old.contains_key(&one.key));
        }
        found.in_doubt = in_doubt;
        recovered.old = Arc::new(old);
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
            loses_notes: false,
            may_replace: true,
            mode,
            identity,
            on_line: &mut |_, _, _| {},
        };
        Ok(Self::read(|| bytes, bytes.len() as u64, reading)?.0)
    }

    /// Takes in the notes of a row that no line has decided, the first page first; of that the run file will have this
    /// number.
    fn interrupt(&mut self, pages: &mut [Started], has_place: bool, number: u32) {
        if pages[0].key.page > 1 && !has_place {
            // The lines and notes of the pages before it are lost, and no run can begin with this one.
            pages[0].repeat = Repeat::Never;
        }
        let may_move = pages[0].repeat.is_allowed() && !has_place && self.identity != Identity::Content;
        let standing = if may_move { Standing::Adrift } else { Standing::Firm };
        pages.iter_mut().for_each(|one| one.standing = standing);
        let (one, later) = pages.split_first().expect("there is a note of each row that has notes");
        let later = (number + 1..).zip(later).map(|(number, one)| Later {
            page: one.key.page,
            repeat: one.repeat,
            found: may_move.then_some(number),
        });
        let later: Vec<Later> = later.collect();
        let Started { key, fingerprint, repeat, .. } = *one;
        if may_move {
            self.last_row = self.last_row.max(Some(key.row));
            let place = if self.identity == Identity::Id { one.id() } else { key.row };
            self.adrift_places.entry(place).and_modify(|had| *had = had.join(repeat)).or_insert(repeat);
            self.adrift.entry(fingerprint).or_default().push(Adrift { one: one.clone(), number, later });
            return;
        }
        self.mark(key.row, fingerprint);
        self.table.set(key.row, RowState::Special);
        let otherwise = match self.special.remove(&key.row) {
            // Of what it asked for before and since, where that differs.
            Some(Disposition::Interrupted { key, repeat: had, found, later, otherwise }) => {
                let joined = Disposition::Interrupted { key, repeat: had.join(repeat), found, later, otherwise };
                self.special.insert(key.row, joined);
                return;
            }
            known => known.unwrap_or(Disposition::Run),
        };
        self.doubtful.insert(key.row, one.clone());
        self.special.insert(key.row, interrupted(key, repeat, None, later.clone(), otherwise));
        match self.identity {
            Identity::Row => {}
            Identity::Content => {
                self.doubts += 1;
                self.contents.entry(fingerprint).or_default().interrupted.push((key, repeat, later));
            }
            Identity::Id => {
                if let Entry::Vacant(entry) = self.names.entry(one.id()) {
                    entry.insert(Named { row: key.row, fingerprint, not_understood: false, is_seen: false });
                    self.unseen += 1;
                }
            }
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
        let is_at_its_end = self.table.get(row) == RowState::Kept;
        if is_at_its_end && !is_earlier_page {
            return Err(TWICE);
        }
        self.mark(row, head.fingerprint);
        self.counts.add(head.outcome);
        self.again_later.add(RerunMode::of_line(head));
        if self.identity == Identity::Content {
            self.contents.entry(head.fingerprint).or_default().kept += 1;
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
                self.table.set(row, RowState::Special);
                // Sorted as text, page 10 stands before page 2.
                if page > last {
                    let begun_to = head.begun_to;
                    self.special.insert(row, Disposition::Continue { page, next, begun_to });
                }
            }
            _ => {
                self.table.set(row, RowState::Kept);
                self.special.remove(&row);
            }
        }
        Ok(())
    }

    /// A row with this line runs again, or is in doubt: what came before it in its row still stands.
    fn reset(&mut self, head: &Head<'_>, is_doubtful: bool) {
        let row = head.key.row;
        self.last_row = self.last_row.max(Some(row).filter(|row| *row <= MOST_ROW));
        if is_doubtful {
            return;
        }
        if self.identity == Identity::Content {
            self.contents.entry(head.fingerprint).or_default().again.push(row);
        }
        match self.table.get(row) {
            // A row that made no sense may make some by now.
            RowState::Unknown if head.not_understood => {}
            RowState::Unknown => {
                self.mark(row, head.fingerprint);
                self.table.set(row, RowState::Again);
            }
            RowState::Special => drop(self.again.insert(row)),
            _ => {}
        }
    }

    /// Takes the id of a line for that of its row. Returns false when another row has it.
    fn give_name(&mut self, head: &Head<'_>) -> bool {
        let Head { fingerprint, not_understood, .. } = *head;
        let row = head.key.row;
        match self.names.entry(head.id_hash()) {
            Entry::Vacant(entry) => {
                entry.insert(Named { row, fingerprint, not_understood, is_seen: false });
                self.unseen += 1;
                true
            }
            Entry::Occupied(mut entry) => {
                // A row whose id was that of another has failed for that, and does not name anything.
                let named = entry.get_mut();
                if named.not_understood && named.row != row {
                    *named = Named { row, fingerprint, not_understood, is_seen: false };
                }
                named.row == row || not_understood
            }
        }
    }

    /// Counts a row into its block's sum, once.
    fn mark(&mut self, row: u64, fingerprint: u64) {
        if self.table.get(row) == RowState::Unknown {
            self.table.count(row, fingerprint);
        }
        self.last_row = self.last_row.max(Some(row));
    }
}

/// What has several lines in a file, and what is torn off at its end.
fn find_replaced(path: &Path, from: impl Read) -> Result<(Replaced, Tail), Error> {
    let (mut unwell, mut replaced) = (HashSet::new(), Replaced::new());
    let mut lines = Lines::new(path, from);
    while lines.advance()? {
        let head = lines.head();
        // What went well is never run again, so nothing takes its place.
        let is_well = matches!(head.outcome, OutcomeKind::Ok | OutcomeKind::Skipped);
        let is_second = if is_well { unwell.contains(&head.key) } else { !unwell.insert(head.key) };
        if is_second {
            replaced.insert(head.key, lines.ordinal);
        }
    }
    Ok((replaced, lines.tail))
}

/// There is one after it.
const MOST_PAGE: u32 = u32::MAX - 1;
const TWICE: &str = "a row has two outcomes";
