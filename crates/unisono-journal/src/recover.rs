//! What an earlier run left: read once, kept in two bits per row, and compared with the input as it streams past.
//!
//! The input is compared block by block ([`RowTable`]). Only when one differs is the file read again, to name the first
//! row that does.
//!
//! A row that runs again keeps its line until it has another one, so that nothing is forgotten by a kill in between, or
//! by an input that turns out to be another one. Of two lines of a row and page the later counts; the earlier goes when
//! the run ends, or when the next one begins. Only a run that was killed leaves both, and only then is the file read
//! twice.
//!
//! Where rows are known by their content ([`Identity::Content`]) the input may be in any order, longer or shorter: a
//! row is kept when as many equal ones have a line. That takes some 40 bytes per line. Where they are known by their id
//! ([`Identity::Id`]) the same holds, and what has its outcome must ask for what it asked for. In both cases a row has
//! the number that it was first given.

pub(crate) mod reading;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::Arc,
};

use unisono_core::{Effect, OutcomeCounts, OutcomeKind};

use crate::{
    Repeat, RerunCounts, RowKey,
    disposition::{Disposition, Later, fresh, fresh_again, interrupted, unsure},
    error::{Error, Reason},
    line::{ANY_PAGE, Head, hash_of, scan, unescape},
    old_lines::{LeftOver, OldLines},
    row_table::{RowState, RowTable},
    runfile::Started,
};

/// How a row of the input is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// By its number, and it must ask for the same as before: another input is refused.
    #[default]
    Row,
    /// By what it asks for, wherever it stands.
    Content,
    /// By its id, wherever it stands. What does not run again must ask for the same as before.
    Id,
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Recovered {
    path: PathBuf,
    identity: Identity,
    table: RowTable,
    /// Of rows in the state `Special`.
    special: HashMap<u64, Disposition>,
    /// Of those, the ones that are in doubt.
    doubtful: HashMap<u64, Started>,
    /// Notes of what has no line and could be repeated, by what it asked for: it may have moved since, as it always
    /// might.
    adrift: HashMap<u64, Vec<Adrift>>,
    /// The rows of those, or their ids where rows are known by these.
    adrift_places: HashMap<u64, Repeat>,
    /// And the ones whose last line said that they may run again.
    again: HashSet<u64>,
    /// Rows whose lines are looked at again only since notes were lost: this run would keep them.
    ended: HashSet<u64>,
    old: Arc<OldLines>,
    /// Notes were lost: what has no line may have been started.
    is_unsure: bool,
    /// What may have been done is to be done again.
    does_ambiguous: bool,
    counts: OutcomeCounts,
    again_later: RerunCounts,
    last_row: Option<u64>,
    rows_seen: u64,
    /// Where rows are known by their content: what is left of each content, and how many notes are among that.
    contents: HashMap<u64, Copies>,
    doubts: u64,
    /// Where they are known by their ids: whose each is, by its hash.
    names: HashMap<u64, Named>,
    /// How many of those the input has not come to.
    unseen: u64,
}

/// The notes of a row that may stand anywhere by now.
#[derive(Debug)]
struct Adrift {
    one: Started,
    /// Its number in the run file.
    number: u32,
    later: Vec<Later>,
}

/// What was on its way when a run was killed, and is not in the input any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// What was started.
    pub key: RowKey,
    /// The row's name.
    pub id: String,
    /// What it asked for.
    pub fingerprint: u64,
    /// Up to which page behind it others may have been started, as in [`Record`](crate::Record).
    pub begun_to: u32,
}

/// Lines and notes that ask for the same.
#[derive(Debug, Default)]
struct Copies {
    kept: u32,
    interrupted: Vec<(RowKey, Repeat, Vec<Later>)>,
    /// Rows whose lines said that they may run again.
    again: Vec<u64>,
}

impl Copies {
    /// What to do with the next row that asks for this, and under which number: this one, unless it has had one.
    fn take(&mut self, row: u64, is_unsure: bool, again: impl Fn(u64) -> Disposition) -> (u64, Disposition) {
        if self.kept > 0 {
            self.kept -= 1;
            return (row, Disposition::Kept);
        }
        if let Some((key, repeat, later)) = self.interrupted.pop() {
            return (key.row, interrupted(key, repeat, None, later, Disposition::Run));
        }
        match self.again.pop() {
            Some(row) => (row, again(row)),
            None => (row, fresh(is_unsure)),
        }
    }
}

/// The row that an id names.
#[derive(Debug)]
struct Named {
    row: u64,
    fingerprint: u64,
    /// What it asked for could not be told.
    not_understood: bool,
    /// The input has come to it.
    is_seen: bool,
}

impl Recovered {
    /// How rows are known again.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How the rows that are kept had ended.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    /// What it takes for those that are kept to run again.
    pub fn again_later(&self) -> RerunCounts {
        self.again_later
    }

    /// How many rows are kept, where each has at most so many pages.
    pub fn kept_rows(&self, most_pages: u32) -> u64 {
        let at_their_end = self.table.kept();
        let cut_off = self.special.iter().filter(|(row, special)| {
            matches!(special, Disposition::Continue { page, .. } if *page >= most_pages) && !self.again.contains(row)
        });
        at_their_end + cut_off.count() as u64
    }

    /// How many rows would have run again that the input did not come to, where rows may stand anywhere.
    pub fn again_unseen(&self) -> u64 {
        match self.identity {
            Identity::Row => 0,
            Identity::Content => self.contents.values().map(|copies| copies.again.len() as u64).sum(),
            Identity::Id if self.unseen == 0 => 0,
            Identity::Id => {
                let rows: HashSet<u64> = self.old.keys().map(|key| key.row).collect();
                self.names.values().filter(|named| !named.is_seen && rows.contains(&named.row)).count() as u64
            }
        }
    }

    /// The lines of rows that run again: each stays until there is another one.
    pub fn old_lines(&self) -> Arc<OldLines> {
        self.old.clone()
    }

    /// Whether the input is known to be the one that it was, when so many of its rows were disposed of. Until then
    /// nothing should run.
    pub fn is_checked(&self, rows: u64) -> bool {
        match self.identity {
            Identity::Row => self.last_row.is_none_or(|last| rows > last),
            Identity::Content => true,
            // An id that is gone is known to be so at the end alone, be it that of a line or of a note.
            Identity::Id => self.unseen == 0 && self.adrift.is_empty(),
        }
    }

    /// What is missing until then, for people.
    pub fn missing(&self, rows: u64) -> String {
        let path = self.path.display();
        match self.identity {
            Identity::Row => {
                let known = self.last_row.map_or(0, |last| last + 1);
                format!("{rows} of at least {known} rows of `{path}` have come")
            }
            Identity::Content | Identity::Id => {
                let missing = self.unseen + self.adrift.values().map(|notes| notes.len() as u64).sum::<u64>();
                let rows = if missing == 1 { "row" } else { "rows" };
                format!("{missing} {rows} that `{path}` knows by their ids have not come")
            }
        }
    }

    /// Whether the input may yet come to what was started by a run that was killed.
    pub fn has_doubts_left(&self) -> bool {
        match self.identity {
            // By then the input is checked, and until then nothing runs.
            Identity::Row | Identity::Id => false,
            Identity::Content => self.doubts > 0,
        }
    }

    /// Whether the user accepts that what may have been done is done again.
    pub fn accepts_doubles(&self) -> bool {
        self.does_ambiguous
    }

    /// The number of the input's first row: 0, or what comes after all earlier rows where these may stand anywhere.
    pub fn first_row(&self) -> u64 {
        self.last_row.filter(|_| self.identity != Identity::Row).map_or(0, |last| last + 1)
    }

    /// The lines that the input had no row for so far, where rows are known by content.
    pub fn left_over(&self) -> LeftOver {
        let kept = self.contents.iter().filter(|(_, copies)| copies.kept > 0);
        LeftOver {
            first_row: self.first_row(),
            rows: self.contents.values().flat_map(|copies| copies.again.iter().copied()).collect(),
            contents: kept.map(|(content, copies)| (*content, copies.kept)).collect(),
            old: self.old.clone(),
        }
    }

    /// Where rows are known by their ids: how many that have a line the input did not come to, and the first of them by
    /// name.
    ///
    /// # Errors
    /// When their names cannot be read any more.
    pub fn gone(&self, most: usize) -> Result<(u64, Vec<String>), Error> {
        let mut names = Vec::new();
        let gone = self.names.values().filter(|named| !named.is_seen && !self.is_doubtful(named));
        let rows: HashSet<u64> = gone.map(|named| named.row).collect();
        if !rows.is_empty() {
            let mut told = HashSet::new();
            self.look_again(|head| {
                if rows.contains(&head.key.row) && told.insert(head.key.row) {
                    names.extend(unescape(head.id));
                }
                names.len() < most
            })?;
        }
        Ok((rows.len() as u64, names))
    }

    /// What was on its way when a run was killed and the input did not come to: how many rows, and the first of them by
    /// name where rows are known by that.
    pub fn gone_in_doubt(&self, most: usize) -> (u64, Vec<String>) {
        if self.identity == Identity::Content {
            return (self.doubts, Vec::new());
        }
        let mut gone = self.doubtful_and_gone();
        gone.extend(self.adrift.values().flatten().map(|adrift| &adrift.one));
        gone.sort_by_key(|one| one.key);
        let names = gone.iter().filter_map(|one| one.name()).take(most).collect();
        (gone.len() as u64, names)
    }

    /// Of these the ones that are ambiguous from now on, since they must not be repeated: the others would run again if
    /// they came back, so for them it is left open, as for one whose name is not known.
    pub fn ambiguous_and_gone(&self) -> Vec<Gone> {
        // What has a line is told anew in its place, which loses nothing of it.
        let has_telling_line = |one: &&Started| self.old.get(&one.key).is_some_and(|old| !old.not_understood);
        let gone = self.doubtful_and_gone().into_iter().filter(|one| !one.repeat.is_allowed());
        let gone = gone.filter(|one| !has_telling_line(one));
        let named = gone.filter_map(|one| {
            let begun_to = match self.special.get(&one.key.row) {
                Some(Disposition::Interrupted { later, .. }) => later.last().map_or(0, |last| last.page),
                _ => 0,
            };
            Some(Gone { key: one.key, id: one.name()?, fingerprint: one.fingerprint, begun_to })
        });
        let mut gone: Vec<Gone> = named.collect();
        gone.sort_by_key(|one| one.key);
        gone
    }

    /// Where notes were lost: what has no line of its own, may have been started after the page before it, must not be
    /// repeated, and is not in the input any more. No later run asks that again once one has come to its end, so it is
    /// ambiguous from now on. What has a line is told anew in its place, which loses nothing of it.
    ///
    /// # Errors
    /// When the lines cannot be read any more.
    pub fn unsure_and_gone(&self) -> Result<Vec<Gone>, Error> {
        let rows: HashSet<u64> = match self.identity {
            _ if !self.is_unsure => return Ok(Vec::new()),
            // A shorter input is refused.
            Identity::Row => return Ok(Vec::new()),
            Identity::Content => self.contents.values().flat_map(|copies| copies.again.iter().copied()).collect(),
            Identity::Id => {
                let unseen = self.names.values().filter(|named| !named.is_seen && !self.is_doubtful(named));
                unseen.map(|named| named.row).collect()
            }
        };
        let mut gone = HashMap::new();
        if !rows.is_empty() {
            self.look_again(|head| {
                let Head { key, fingerprint, .. } = *head;
                // The page after the last one that is there may have been started, and with a key only if the run whose
                // notes are lost had one as well.
                let is_last =
                    matches!(self.special.get(&key.row), Some(Disposition::Continue { page, .. }) if key.page == *page);
                let next = RowKey { page: key.page + 1, ..key };
                if is_last
                    && head.repeat() != Repeat::ByNature
                    && rows.contains(&key.row)
                    && !self.old.contains_key(&next)
                    && let Some(id) = unescape(head.id)
                {
                    gone.insert(next, Gone { key: next, id, fingerprint, begun_to: ANY_PAGE });
                }
                true
            })?;
        }
        let mut gone: Vec<Gone> = gone.into_values().collect();
        gone.sort_by_key(|one| one.key);
        Ok(gone)
    }

    fn doubtful_and_gone(&self) -> Vec<&Started> {
        let unseen = self.names.values().filter(|named| !named.is_seen);
        unseen.filter_map(|named| self.doubtful.get(&named.row)).collect()
    }

    fn is_doubtful(&self, named: &Named) -> bool {
        self.doubtful.contains_key(&named.row)
    }

    /// What to do with the next row of the input, and which number it has in the results. Rows must come in order, from
    /// [`Recovered::first_row`]. A row without an id is called `r` and its place in the input.
    ///
    /// # Errors
    /// When the input is not what it was. Of rows that are known by their numbers this is noticed at the end of each
    /// 1,024.
    pub fn dispose(&mut self, row: u64, id: Option<&str>, fingerprint: u64) -> Result<(u64, Disposition), Error> {
        self.rows_seen = row + 1;
        match self.identity {
            Identity::Row => self.dispose_by_row(row, id, fingerprint).map(|disposition| (row, disposition)),
            Identity::Content => {
                let (is_unsure, ended) = (self.is_unsure, &self.ended);
                let again = |row| fresh_again(is_unsure, ended.contains(&row));
                Ok(match self.contents.get_mut(&fingerprint) {
                    Some(copies) => {
                        let before = copies.interrupted.len();
                        let taken = copies.take(row, self.is_unsure, again);
                        self.doubts -= (before - copies.interrupted.len()) as u64;
                        taken
                    }
                    None => (row, fresh(self.is_unsure)),
                })
            }
            Identity::Id => self.dispose_by_id(row, id, fingerprint),
        }
    }

    fn dispose_by_row(&mut self, row: u64, id: Option<&str>, fingerprint: u64) -> Result<Disposition, Error> {
        let name = id.map_or_else(|| hash_of(&format!("r{row}")), hash_of);
        if self.last_row.is_none_or(|last| row > last) {
            return Ok(self.unless_adrift(row, name, id.is_some(), fingerprint).1);
        }
        // It has no line that would tell what it was.
        if let Some(was) = self.doubtful.get(&row) {
            if was.fingerprint != fingerprint {
                return Err(Error::new(&self.path, Reason::Changed { row }));
            }
            // Another row that asks for the same has taken its place, and it would run.
            if was.id() != name {
                return Err(Error::new(&self.path, Reason::Renamed { row }));
            }
        }
        if self.table.begins_block(row) {
            self.check_block()?;
        }
        self.table.pass(row, fingerprint);
        if Some(row) == self.last_row {
            self.check_block()?;
        }
        match self.table.get(row) {
            RowState::Unknown if !self.has_old(row) => Ok(self.unless_adrift(row, name, id.is_some(), fingerprint).1),
            // Its line says that it was not understood, and an earlier run may have started it when it could be
            // understood.
            RowState::Unknown => match self.take_adrift(name, id.is_some(), fingerprint) {
                Some(adrift) => Ok(adrift.interrupts(row)),
                None => Ok(self.disposition(row)),
            },
            _ => Ok(self.disposition(row)),
        }
    }

    /// The note of a row that may have moved.
    fn take_adrift(&mut self, id: u64, is_own: bool, fingerprint: u64) -> Option<Adrift> {
        // Asked for every row, and of most runs there are none.
        if self.adrift.is_empty() {
            return None;
        }
        let Entry::Occupied(mut notes) = self.adrift.entry(fingerprint) else { return None };
        // Those without ids are told apart by their order alone.
        let at = notes.get().iter().position(|adrift| !is_own || adrift.one.id() == id)?;
        let adrift = notes.get_mut().remove(at);
        if notes.get().is_empty() {
            notes.remove();
        }
        Some(adrift)
    }

    /// What to do with a row that has no line and no place, and under which number.
    fn unless_adrift(&mut self, row: u64, id: u64, is_own: bool, fingerprint: u64) -> (u64, Disposition) {
        let otherwise = fresh(self.is_unsure);
        if let Some(adrift) = self.take_adrift(id, is_own, fingerprint) {
            // Where rows are known by their places it has the number of the one where it stands now.
            let row = if self.identity == Identity::Id { adrift.one.key.row } else { row };
            return (row, adrift.interrupts(row));
        }
        let place = if self.identity == Identity::Id { id } else { row };
        match self.adrift_places.get(&place) {
            Some(repeat) => (row, Disposition::Displaced { repeat: *repeat, otherwise: Box::new(otherwise) }),
            None => (row, otherwise),
        }
    }

    /// What a row that was [`Disposition::Displaced`] is told that is not to run: the input is not what it was.
    pub fn displaced(&self, row: u64, id: Option<&str>) -> Error {
        let reason = match (self.identity, id) {
            (Identity::Id, Some(id)) => Reason::Rebound { id: id.to_owned(), row, had: None },
            _ => Reason::Changed { row },
        };
        Error::new(&self.path, reason)
    }

    fn has_old(&self, row: u64) -> bool {
        self.old.contains_key(&RowKey { row, page: 1 })
    }

    fn dispose_by_id(&mut self, row: u64, id: Option<&str>, fingerprint: u64) -> Result<(u64, Disposition), Error> {
        let shown = || id.map_or_else(|| format!("r{}", row - self.first_row()), str::to_owned);
        let named = match self.names.get(&hash_of(&shown())) {
            None => {
                let name = hash_of(&shown());
                let (row, disposition) = self.unless_adrift(row, name, id.is_some(), fingerprint);
                self.names.insert(name, Named { row, fingerprint, not_understood: false, is_seen: true });
                return Ok((row, disposition));
            }
            Some(Named { is_seen: true, .. }) => {
                return Err(Error::new(&self.path, Reason::SameId { id: shown() }));
            }
            Some(named) => named,
        };
        let (was, disposition) = (named.row, self.disposition(named.row));
        let runs_again = disposition == self.run_again(was) && !self.ended.contains(&was);
        if named.fingerprint != fingerprint && !runs_again {
            return Err(Error::new(&self.path, Reason::Rebound { id: shown(), row: was, had: self.line_of(was)? }));
        }
        let (name, not_understood) = (hash_of(&shown()), named.not_understood);
        self.names.entry(name).and_modify(|named| named.is_seen = true);
        self.unseen -= 1;
        // As where rows are known by their places.
        let adrift = not_understood.then(|| self.take_adrift(name, id.is_some(), fingerprint)).flatten();
        Ok((was, adrift.map_or(disposition, |adrift| adrift.interrupts(was))))
    }

    /// What was started of rows that ask for the same, by that, and for which of those its key was made.
    pub fn twins(&self) -> impl Iterator<Item = (u64, u32)> {
        let adrift = self.adrift.values().flatten().map(|adrift| &adrift.one);
        self.doubtful.values().chain(adrift).map(|one| (one.fingerprint, one.repeat.twin()))
    }

    /// What becomes of the row with this number.
    fn disposition(&self, row: u64) -> Disposition {
        match self.table.get(row) {
            RowState::Kept => Disposition::Kept,
            RowState::Special => match self.special.get(&row).cloned().unwrap_or(Disposition::Run) {
                next @ Disposition::Continue { .. } if self.is_unsure => {
                    unsure(next, self.again.contains(&row) && self.ended.contains(&row))
                }
                special => special,
            },
            RowState::Unknown if !self.has_old(row) => fresh(self.is_unsure),
            _ => self.run_again(row),
        }
    }

    /// What becomes of a row whose line says that it may run again.
    fn run_again(&self, row: u64) -> Disposition {
        fresh_again(self.is_unsure, self.ended.contains(&row))
    }

    /// The input is at its end.
    ///
    /// # Errors
    /// When it is shorter than it was.
    pub fn end_of_input(&self) -> Result<(), Error> {
        match self.last_row.filter(|_| self.identity == Identity::Row) {
            Some(last) if last >= self.rows_seen => {
                Err(Error::new(&self.path, Reason::Shrunk { rows: self.rows_seen, last }))
            }
            _ => Ok(()),
        }
    }

    fn check_block(&mut self) -> Result<(), Error> {
        if self.table.is_same() {
            return Ok(());
        }
        let mut differing = self.table.next_row();
        self.look_again(|head| {
            if self.table.differs(head.key.row, head.fingerprint) {
                differing = differing.min(head.key.row);
            }
            true
        })?;
        Err(Error::new(&self.path, Reason::Changed { row: differing }))
    }

    /// The last line of a row, if it has one.
    fn line_of(&self, row: u64) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.look_again_whole(|head, line| {
            if head.key.row == row {
                found = Some(line.to_vec());
            }
            true
        })?;
        Ok(found)
    }

    fn look_again(&self, mut on_line: impl FnMut(&Head<'_>) -> bool) -> Result<(), Error> {
        self.look_again_whole(|head, _| on_line(head))
    }

    /// Reads the lines once more, until `on_line` returns false.
    fn look_again_whole(&self, mut on_line: impl FnMut(&Head<'_>, &[u8]) -> bool) -> Result<(), Error> {
        let read = |error| Error::io(&self.path, "read", error);
        let mut lines = BufReader::new(File::open(&self.path).map_err(read)?).split(b'\n');
        while let Some(line) = lines.next().transpose().map_err(read)? {
            if scan(&line).is_some_and(|head| !on_line(&head, &line)) {
                break;
            }
        }
        Ok(())
    }

    /// Notes were lost, so that what has no line may have been started.
    pub(crate) fn lose_notes(&mut self) {
        self.is_unsure = true;
    }

    /// Whether notes were lost, so that what has no line may have been started.
    pub fn is_unsure(&self) -> bool {
        self.is_unsure
    }
}

/// Whether some run would have repeated a row with this line, and a second time may do harm. That the line calls it
/// repeatable says nothing of that run: it may have been so by a key which the other did not send.
fn could_have_been_repeated(head: &Head<'_>) -> bool {
    let is_well = matches!(head.outcome, OutcomeKind::Ok | OutcomeKind::Skipped);
    !is_well && !head.not_understood && head.effect == Effect::None
}

impl Adrift {
    /// What to do with the row that it turns out to be of.
    fn interrupts(self, row: u64) -> Disposition {
        let key = RowKey { row, ..self.one.key };
        interrupted(key, self.one.repeat, Some(self.number), self.later, Disposition::Run)
    }
}
