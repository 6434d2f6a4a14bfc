//! Files that rows write to: a name belongs to one row, and a file gets its name when it is whole.
//!
//! *Which row a name belongs to.* [`Saves::claim`] is asked when a row is taken in, in the order of the input, so that
//! the winner is never a matter of luck. What is compared is where a name leads to (`names.rs`), and a name that is
//! taken is refused before anything is sent or started. An earlier run's lines say what they have saved, and that
//! outranks the order of this input.
//!
//! *What may be replaced.* What the row itself has put there: its line says so, or a mark in the log (`log.rs`), for a
//! run that was killed between a file and its line. Everything else needs the user's word (`overwrite`), and what
//! another row of this run has put there is never replaced.
//!
//! *How a file comes to be.* It is filled on threads of the blocking pool without its name (`part.rs`), and gets the
//! name on the reactor: an attempt that is stopped is either before that or after it, and no thread gives a name to a
//! file whose row has ended. What has come of a body that breaks off is gone on with (`growing.rs`). What is no regular
//! file gets the bytes as a stream, whole, one row after the other (`stream.rs`).
//!
//! Left out: locks between runs. Two that save to one folder at the same time are kept apart file by file, since a file
//! is linked to a name that must be free.

mod earlier;
mod growing;
mod log;
mod names;
mod note;
mod part;
mod paths;
mod stream;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use unisono_journal::{Fate, Identity, Open};

use crate::row::LineNumber;

pub(crate) use earlier::{Earlier, SavedBefore};
pub(crate) use growing::Growing;
use log::Log;
use names::{Existing, Folders, Resolved};
pub(crate) use part::Part;
pub(crate) use paths::with_suffix;
pub(crate) use target::{Filled, SavedFile, Target};
use target::{Shared, TargetKind};

/// What the user says of files that rows write to.
#[derive(Debug, Clone, Default)]
pub struct Saving {
    /// Files may be replaced that are there already and that this run and those before it have not put there.
    pub overwrite: bool,
    /// Never written to by a row: the files that the run reads.
    pub protected: Vec<PathBuf>,
    /// Where what goes to a pipe or a device is kept until it is whole.
    pub spool: PathBuf,
}

/// A row that wants names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimant<'a> {
    /// Its number in the results.
    pub(crate) row: u64,
    pub(crate) line: LineNumber,
    pub(crate) id: Option<&'a str>,
    pub(crate) fingerprint: u64,
    /// It cannot be had again, so its files are synced before its line says that they are there.
    pub(crate) is_precious: bool,
}

/// Why a row cannot have the names that it asks for.
#[derive(Debug)]
pub(crate) struct NameRefusal {
    pub(crate) why: String,
    /// What it has put in place in earlier runs, and keeps.
    pub(crate) own: Vec<SavedFile>,
}

/// The names of a run, and the rows that they belong to.
pub(crate) struct Saves {
    shared: Arc<Shared>,
    identity: Identity,
    folders: Folders,
    /// By what a name leads to. Hashes of 64 bits tell ten million names apart with a doubt of one in a hundred
    /// thousand.
    taken: HashMap<u64, Rc<Owner>>,
    /// Folders that have to be made for them, and for which row.
    folders_to_make: HashMap<u64, Rc<Owner>>,
    /// What the lines of earlier runs have saved.
    earlier: HashMap<u64, Saved>,
    /// Of files that were put in place, and whose lines may not have been written.
    marks: HashSet<u64>,
}

#[derive(Debug)]
enum Owner {
    Row {
        row: u64,
        line: LineNumber,
        id: Option<Box<str>>,
    },
    /// A file of the run itself, and what it is.
    Run(&'static str),
}

/// What a line says to have saved.
#[derive(Debug)]
struct Saved {
    row: u64,
    fingerprint: u64,
    id: Box<str>,
}

/// Where a run keeps its results, as far as names are concerned.
pub(crate) struct ResultsFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) open: Open,
    /// A number that stays the same for this results file for as long as it is not complete.
    pub(crate) seed: u64,
}

impl Saves {
    /// The names of a run. `earlier` is what was read of its results file.
    ///
    /// # Errors
    /// When what a killed run has saved cannot be read, or not be noted from now on.
    pub(crate) fn open(saving: Saving, results: Option<ResultsFile<'_>>, earlier: &Earlier) -> std::io::Result<Self> {
        let identity = results.as_ref().map_or(Identity::default(), |results| results.open.identity);
        let (log, marks) = match &results {
            Some(results) => {
                let (log, marks) = Log::open(results.path, results.seed, results.open.replaces())?;
                (Some(log), marks)
            }
            None => (None, HashSet::new()),
        };
        let (seed, goes_on) = results.as_ref().map_or((None, false), |results| {
            // What runs before the one that these results begin with have left is none of it.
            (Some(results.seed), !results.open.replaces())
        });
        let shared = Shared::new(log, seed, goes_on, saving.overwrite, saving.spool);
        let mut saves = Self {
            shared: Arc::new(shared),
            identity,
            folders: Folders::default(),
            taken: HashMap::new(),
            folders_to_make: HashMap::new(),
            earlier: HashMap::new(),
            marks,
        };
        for path in &saving.protected {
            saves.reserve(path, "is what this run reads");
        }
        if let Some(results) = &results {
            saves.reserve(results.path, "is the results file of this run");
            for suffix in [".run", ".run.new", ".compact"] {
                saves.reserve(&with_suffix(results.path, suffix), "is beside the results file, and belongs to it");
            }
        }
        saves.take_over(earlier)?;
        Ok(saves)
    }

    /// Gives a row the names that it asks for, or says why it cannot have them. All of them, or none; what it has put
    /// in place before stays its own even then. Beside a pipe or a device, which may be many rows', there is nothing:
    /// where the first name is one, it is all that the row gets.
    pub(crate) fn claim(&mut self, row: Claimant<'_>, names: &[PathBuf]) -> Result<Vec<Target>, NameRefusal> {
        self.give(row, names).map_err(|why| {
            let mut own = Vec::new();
            for (place, name) in names.iter().enumerate() {
                let Ok(resolved) = self.folders.resolve(name) else { continue };
                if let Some(length) = self.own_length(&resolved, row) {
                    self.take(&resolved, &Rc::new(Owner::of(row)));
                    own.push(SavedFile { place, name: name.clone(), length });
                }
            }
            NameRefusal { why, own }
        })
    }

    fn give(&mut self, row: Claimant<'_>, names: &[PathBuf]) -> Result<Vec<Target>, String> {
        let mut targets = Vec::with_capacity(names.len());
        let (mut keys, mut folders) = (Vec::with_capacity(2 * names.len()), Vec::new());
        for name in names {
            let resolved = self.folders.resolve(name)?;
            let shown = name.display();
            if matches!(resolved.found, Existing::Stream { .. }) {
                // What came before is not lost by what comes after, so it may be many rows'.
                let is_first = targets.is_empty();
                targets.push(self.target(name.clone(), resolved, row, false));
                if is_first {
                    break;
                }
                continue;
            }
            if let Some(owner) = resolved.keys().find_map(|key| self.taken.get(&key)) {
                return Err(owner.refusal(name));
            }
            if let Some(owner) = resolved.missing.iter().find_map(|key| self.taken.get(key)) {
                return Err(format!("`{shown}` would be in a folder whose name is that of a file: {}", owner.shown()));
            }
            if let Some(owner) = self.folders_to_make.get(&resolved.key) {
                return Err(format!("`{shown}` is to be a folder for a file of another: {}", owner.shown()));
            }
            let earlier = resolved.keys().find_map(|key| self.earlier.get(&key));
            if let Some(saved) = earlier.filter(|saved| !self.is_same(saved, row)) {
                return Err(format!(
                    "`{shown}` is where row `{}` of an earlier run was saved to (give each row a name of its own)",
                    saved.id
                ));
            }
            let is_ours = earlier.is_some() || self.is_marked(&resolved, row);
            if let Existing::File(_) = resolved.found
                && !is_ours
                && !self.shared.overwrite
            {
                return Err(format!("`{shown}` is there already, and not by this run (--overwrite replaces it)"));
            }
            keys.extend(resolved.keys());
            folders.extend_from_slice(&resolved.missing);
            targets.push(self.target(name.clone(), resolved, row, is_ours));
        }
        // After the last name, so that a row that is refused one has taken none.
        if !keys.is_empty() {
            let owner = Rc::new(Owner::of(row));
            self.taken.extend(keys.into_iter().map(|key| (key, owner.clone())));
            folders.into_iter().for_each(|key| _ = self.folders_to_make.entry(key).or_insert_with(|| owner.clone()));
        }
        Ok(targets)
    }

    /// A row that does not run in this run has its names all the same. Returns what it has put in place, whether or not
    /// it had the time to say so.
    pub(crate) fn keep(&mut self, row: Claimant<'_>, names: Vec<PathBuf>) -> Vec<SavedFile> {
        let mut own = Vec::new();
        let owner = Rc::new(Owner::of(row));
        for (place, name) in names.into_iter().enumerate() {
            let Ok(resolved) = self.folders.resolve(&name) else { continue };
            if place == 0 && matches!(resolved.found, Existing::Stream { .. }) {
                break;
            }
            // Before it is taken: another row that asks for the same may have it already.
            let length = self.own_length(&resolved, row);
            let earlier = resolved.keys().find_map(|key| self.earlier.get(&key)).map(|saved| self.is_same(saved, row));
            // Where the input may be in another order, a row that has saved nothing must not stand before one that was
            // to.
            let holds = earlier.unwrap_or_else(|| length.is_some() || self.identity == Identity::Row);
            if holds {
                self.take(&resolved, &owner);
            }
            own.extend(length.map(|length| SavedFile { place, name, length }));
        }
        own
    }

    /// The run is over. When all its lines are written, nothing is left that the log would have to say.
    pub(crate) fn finish(&self, is_accounted_for: bool) {
        if let Some(log) = &self.shared.log
            && (is_accounted_for || log.is_empty())
        {
            log.remove();
        }
    }

    fn target(&self, name: PathBuf, resolved: Resolved, row: Claimant<'_>, is_ours: bool) -> Target {
        let kind = match resolved.found {
            Existing::Stream { is_pipe } => TargetKind::Stream { is_pipe },
            Existing::Nothing | Existing::File(_) => {
                TargetKind::File { is_precious: row.is_precious && self.shared.log.is_some() }
            }
        };
        Target::new(name, resolved, row.fingerprint, kind, is_ours, self.shared.clone())
    }

    fn is_same(&self, saved: &Saved, row: Claimant<'_>) -> bool {
        match self.identity {
            Identity::Row | Identity::Id => saved.row == row.row,
            Identity::Content => saved.fingerprint == row.fingerprint,
        }
    }

    fn is_marked(&self, resolved: &Resolved, row: Claimant<'_>) -> bool {
        let Existing::File(file) = &resolved.found else { return false };
        !self.marks.is_empty() && self.marks.contains(&file.mark(resolved.key, row.fingerprint))
    }

    /// How long the file at a name is, if this row has put it there and no other has it.
    fn own_length(&self, resolved: &Resolved, row: Claimant<'_>) -> Option<u64> {
        let Existing::File(file) = &resolved.found else { return None };
        let is_taken = resolved.keys().any(|key| self.taken.contains_key(&key));
        let earlier = resolved.keys().find_map(|key| self.earlier.get(&key)).map(|saved| self.is_same(saved, row));
        (!is_taken && earlier.unwrap_or_else(|| self.is_marked(resolved, row))).then_some(file.length)
    }

    fn take(&mut self, resolved: &Resolved, owner: &Rc<Owner>) {
        for key in resolved.keys() {
            self.taken.entry(key).or_insert_with(|| owner.clone());
        }
    }

    /// No row's, whatever it is called.
    fn reserve(&mut self, path: &Path, what: &'static str) {
        let Ok(resolved) = self.folders.resolve(path) else { return };
        if matches!(resolved.found, Existing::Stream { .. }) {
            return;
        }
        let owner = Rc::new(Owner::Run(what));
        for key in resolved.keys() {
            self.taken.insert(key, owner.clone());
        }
    }

    /// What lines of earlier runs have saved is theirs.
    fn take_over(&mut self, earlier: &Earlier) -> std::io::Result<()> {
        for line in &earlier.saved {
            for (_, name) in &line.names {
                let Ok(resolved) = self.folders.resolve(name) else { continue };
                if let (Fate::RunsAgain, Existing::File(file), Some(log)) =
                    (line.fate, &resolved.found, &self.shared.log)
                {
                    // The row may get a line that does not say so, and the run be killed after that.
                    let mark = file.mark(resolved.key, line.fingerprint);
                    log.add(mark)?;
                    self.marks.insert(mark);
                }
                for key in resolved.keys() {
                    let saved = Saved { row: line.key.row, fingerprint: line.fingerprint, id: line.id.clone() };
                    self.earlier.insert(key, saved);
                }
            }
        }
        Ok(())
    }
}

impl Owner {
    fn of(row: Claimant<'_>) -> Self {
        Self::Row { row: row.row, line: row.line, id: row.id.map(Into::into) }
    }

    fn refusal(&self, name: &Path) -> String {
        let name = name.display();
        match self {
            Self::Run(what) => format!("`{name}` {what}"),
            Self::Row { .. } => {
                format!("`{name}` is the name of {} as well (give each row a name of its own)", self.shown())
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Run(what) => format!("it {what}"),
            Self::Row { row, line, id } => {
                let id = id.as_deref().map_or_else(|| format!("r{row}"), str::to_owned);
                let place = if *line != LineNumber::NONE { format!(" (line {line})") } else { String::new() };
                format!("row `{id}`{place}")
            }
        }
    }
}
