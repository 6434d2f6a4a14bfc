//! What was started and has no line yet, while a run goes on: what is left of it at the end is in doubt.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    Repeat, RowKey,
    members::escaped_length,
    runfile::{Standing, Started},
};

/// Which lines decide a note: those of its row, where the row had one before; else those that also ask for the same.
pub(crate) type NoteKey = (RowKey, Option<u64>);

#[derive(Debug, Default)]
pub(crate) struct InDoubt {
    placed: HashMap<NoteKey, Started>,
    /// What no row of the input was found for so far, by its number in the run file.
    adrift: HashMap<u32, Started>,
    /// How many of the first must not be repeated: nothing can replace their lines.
    unrepeatable: usize,
    /// How many bytes the lines of those may take at a full disk beyond what most do, where it is any.
    long: HashMap<NoteKey, u64>,
    /// The sum of these.
    longer_by: u64,
    /// Some of the first have a page behind the first one: most runs have no such, and need not look for any.
    has_later_pages: bool,
}

impl Started {
    pub(crate) fn note_key(&self) -> NoteKey {
        (self.key, Some(self.fingerprint).filter(|_| !self.has_line))
    }
}

impl InDoubt {
    /// What an earlier run left, in the order of the run file.
    pub(crate) fn new(left: Vec<Started>) -> Self {
        let mut in_doubt = Self::default();
        for (number, one) in (0..).zip(left) {
            match one.standing {
                Standing::Adrift => drop(in_doubt.adrift.insert(number, one)),
                Standing::Firm | Standing::Found(_) => {
                    let line_bytes = line_bytes(one.key, one.id_text.as_deref());
                    in_doubt.add(one, line_bytes);
                }
            }
        }
        in_doubt
    }

    /// `line_bytes` is what the line of it may take at a full disk.
    pub(crate) fn add(&mut self, one: Started, line_bytes: u64) {
        let longer_by = line_bytes.saturating_sub(BRIEF_LINE_BYTES);
        if longer_by > 0 && !one.repeat.is_allowed() {
            let had = self.long.insert(one.note_key(), longer_by).unwrap_or(0);
            self.longer_by = self.longer_by - had + longer_by;
        }
        self.has_later_pages |= one.key.page > 1;
        let now = match self.placed.entry(one.note_key()) {
            Entry::Occupied(mut had) => {
                self.unrepeatable -= usize::from(!had.get().repeat.is_allowed());
                had.get_mut().join(&one);
                had.get().repeat
            }
            Entry::Vacant(place) => place.insert(one).repeat,
        };
        self.unrepeatable += usize::from(!now.is_allowed());
    }

    /// The input has here what the note with this number is of. Returns what is to be noted of that.
    pub(crate) fn find(&mut self, number: u32, key: RowKey) -> Option<Started> {
        let one = self.adrift.remove(&number)?;
        let found = Started { standing: Standing::Found(number), key, ..one };
        self.add(found.clone(), line_bytes(key, found.id_text.as_deref()));
        Some(found)
    }

    /// There is a line of this; `is_second` says that there was one before, and `is_last` that its row goes on with no
    /// other page.
    pub(crate) fn decide(&mut self, key: RowKey, fingerprint: u64, is_second: bool, is_last: bool) {
        self.remove(key, fingerprint, is_second);
        if is_last && self.has_later_pages {
            // Pages that were started when those before them had other lines, which are lost. A run that does this one
            // again does them as well, and with the keys that belong to its own.
            let mut page = key.page.max(1) + 1;
            while self.remove(RowKey { page, ..key }, fingerprint, true) {
                page += 1;
            }
        }
    }

    /// In which way what was started of this since it has a line could be repeated.
    pub(crate) fn since_line(&self, key: RowKey) -> Option<Repeat> {
        self.placed.get(&(key, None)).map(|one| one.repeat)
    }

    /// Returns whether there was any.
    fn remove(&mut self, key: RowKey, fingerprint: u64, is_second: bool) -> bool {
        let first = self.take((key, Some(fingerprint)));
        let second = is_second.then(|| self.take((key, None))).flatten();
        let removed = [&first, &second].into_iter().flatten();
        self.unrepeatable -= removed.filter(|one| !one.repeat.is_allowed()).count();
        first.is_some() || second.is_some()
    }

    /// The line that this had before it was started says now what its note does.
    pub(crate) fn line_tells(&mut self, key: RowKey) {
        let told = self.take((key, None));
        self.unrepeatable -= told.filter(|one| !one.repeat.is_allowed()).iter().count();
    }

    fn take(&mut self, key: NoteKey) -> Option<Started> {
        if !self.long.is_empty() {
            self.longer_by -= self.long.remove(&key).unwrap_or(0);
        }
        self.placed.remove(&key)
    }

    /// How many bytes the lines of what must not be repeated may take at a full disk.
    pub(crate) fn line_bytes(&self) -> u64 {
        self.unrepeatable as u64 * BRIEF_LINE_BYTES + self.longer_by
    }

    /// Whether this has a note that a line of it is to decide.
    pub(crate) fn awaits(&self, key: RowKey, fingerprint: u64) -> bool {
        self.placed.contains_key(&(key, Some(fingerprint))) || self.placed.contains_key(&(key, None))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.adrift.is_empty()
    }

    /// What a new run file is to hold.
    pub(crate) fn all(&self) -> Vec<Started> {
        let placed = self.placed.values().map(|one| Started { standing: Standing::Firm, ..one.clone() });
        placed.chain(self.adrift.values().cloned()).collect()
    }
}

/// What a line may take of a row with this id, where there is no room for more than what decides about the row.
pub(crate) fn line_bytes(key: RowKey, id: Option<&str>) -> u64 {
    let address_bytes = if key.page > 0 { NEXT_PAGE_BYTES } else { 0 };
    HEAD_BYTES + address_bytes + id.map_or(0, escaped_length) as u64
}

/// Of those, the ones that are neither the id nor the address of the next page.
const HEAD_BYTES: u64 = 256;
/// As long as addresses are that all servers take.
const NEXT_PAGE_BYTES: u64 = 2 << 10;
/// What a line without its body may take, as most do: with an address, a reason and some numbers.
pub(crate) const BRIEF_LINE_BYTES: u64 = 1 << 10;

/// The notes, one for each that was started, in the order in which that was first noted.
pub(crate) fn merged(notes: &[Started]) -> Vec<Started> {
    let mut merged: Vec<Started> = Vec::with_capacity(notes.len());
    // By the numbers of the notes, those that are adrift; and the others by what decides them.
    let (mut adrift, mut places) = (HashMap::new(), HashMap::with_capacity(notes.len()));
    for (number, one) in (0u32..).zip(notes) {
        let was = match one.standing {
            Standing::Adrift => {
                adrift.insert(number, merged.len());
                merged.push(one.clone());
                continue;
            }
            Standing::Found(number) => adrift.remove(&number),
            Standing::Firm => None,
        };
        match (places.entry(one.note_key()), was) {
            (Entry::Occupied(entry), _) => {
                let at: usize = *entry.get();
                merged[at].join(one);
            }
            (Entry::Vacant(entry), Some(at)) => {
                let had = std::mem::replace(&mut merged[at], one.clone());
                merged[at].join(&had);
                entry.insert(at);
            }
            (Entry::Vacant(entry), None) => {
                entry.insert(merged.len());
                merged.push(one.clone());
            }
        }
    }
    merged
}
